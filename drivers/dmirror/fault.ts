/**
 * Faulting a range in: batch by batch, look at the CPU's table, fault what is missing, and take the answer into the mirror's table while it is still true.
 *
 * Models: `dmirror_fault`, `dmirror_range_fault`, `dmirror_do_fault`.
 */
import { method, DONE, HMM_VALID, HMM_WRITE, type MirrorRange, type Progress, type Run, type Step } from '../../sdk/gmem/index.ts';
import { EBUSY, EFAULT, ENOMEM, EPERM } from './errno.ts';
import type { Mirror } from './mirror.ts';
import { TAG_READ, TAG_WRITE } from './table.ts';

/** Pages of one look. How often a look may begin again, instead of the kernel's 1000 ms, is the budget of `rangeFault`. */
export const FAULT_PAGES = 32;

export class FaultRange implements Step {
  readonly name = 'fault range';
  /** 0, or a negative error number. */
  ret = 0;
  private readonly mirror: Mirror;
  private readonly write: boolean;
  private readonly request: { vpn: number; pages: number; readonly request: number };
  private readonly installed = method<FaultRange, 'install'>(this, 'install');
  private end = 0;
  private look: MirrorRange | undefined;
  private isLooking = false;
  /** Write was asked for, and the answer does not have it. */
  private short = false;

  constructor(mirror: Mirror, write: boolean) {
    this.mirror = mirror;
    this.write = write;
    this.request = { vpn: 0, pages: 0, request: write ? HMM_VALID + HMM_WRITE : HMM_VALID };
  }

  of(vpn: number, pages: number): this {
    this.ret = 0;
    this.request.vpn = vpn;
    this.end = vpn + pages;
    this.isLooking = false;
    this.short = false;
    return this;
  }

  next(run: Run): Progress {
    const { request } = this;
    if (this.isLooking) {
      this.ret = this.ended(this.look!);
      if (this.ret !== 0) return DONE;
      request.vpn += FAULT_PAGES;
    }
    if (request.vpn >= this.end) return DONE;
    request.pages = Math.min(FAULT_PAGES, this.end - request.vpn);
    this.isLooking = true;
    this.look = this.mirror.hmm.rangeFault(request, this.installed, this.look);
    return run.call(this.look);
  }

  private ended({ outcome }: MirrorRange): number {
    switch (outcome) {
      case 'done':
        return this.short ? EFAULT : 0;
      case 'busy':
        return EBUSY;
      case 'fault':
        return EFAULT;
      case 'permission':
        return EPERM;
      case 'no memory':
        return ENOMEM;
    }
  }

  /** @internal */
  install(words: Uint32Array, vpn: number, pages: number): void {
    const { table } = this.mirror;
    for (let i = 0; i < pages; i++) {
      const write = (words[i * 2 + 1]! & HMM_WRITE) !== 0;
      if (this.write && !write) {
        this.short = true;
        return;
      }
      table.set(vpn + i, words[i * 2]!, write ? TAG_WRITE : TAG_READ);
    }
  }
}

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
  private vpn = 0;
  private end = 0;
  private look: MirrorRange | undefined;
  /** Write was asked for, and the answer does not have it. */
  private short = false;

  constructor(mirror: Mirror, write: boolean) {
    this.mirror = mirror;
    this.write = write;
  }

  of(vpn: number, pages: number): this {
    this.ret = 0;
    this.vpn = vpn;
    this.end = vpn + pages;
    this.look = undefined;
    this.short = false;
    return this;
  }

  next(run: Run): Progress {
    if (this.look) {
      this.ret = this.ended(this.look);
      if (this.ret !== 0) return DONE;
      this.vpn += FAULT_PAGES;
    }
    if (this.vpn >= this.end) return DONE;
    const bits = this.write ? HMM_VALID + HMM_WRITE : HMM_VALID;
    const pages = Math.min(FAULT_PAGES, this.end - this.vpn);
    this.look = this.mirror.hmm.rangeFault({ vpn: this.vpn, pages, request: bits }, method<FaultRange, 'install'>(this, 'install'));
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

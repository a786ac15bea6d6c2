/**
 * Taking the memory of a dying space at once, because the machine has none left: its own anonymous pages go while its operations still wait, and nothing comes back.
 *
 * ```
 *   mark     every later verb is refused; a fault that goes on finds that the space dies, and ends in a bus error
 *   tell     notifier CLEAR for each mapping of its own pages; devices flush
 *   zap      the pages go, those of ranges that are one device's alone too. One that is on its way somewhere is left to the end of the space, as are pages of files and shared memory
 * ```
 *
 * It takes no lock of the space: those who hold it may be waiting for the very memory. `close` follows when they have ended. Models: `oom_reap_task_mm`, `__oom_reap_task_mm`, MMF_UNSTABLE.
 */
import { DONE, type Progress, type Run, type Step } from '../step/step.ts';
import type { AddressSpace } from './address-space.ts';
import { VPN_LIMIT } from './arguments.ts';
import { Invalidation } from './notifier.ts';
import type { Platform } from './platform.ts';
import { zapPages } from './take-down.ts';
import { isAnonymous } from './vma.ts';

const BEGIN = 0;
const FLUSHED = 1;

/** The step behind `machine.oomReap`. */
export class Reap implements Step {
  readonly name = 'oom reap';
  /** Frames that came free. */
  freed = 0;
  private readonly platform: Platform;
  private readonly space: AddressSpace;
  private readonly event: Invalidation = new Invalidation();
  /** The mapping under way, and the page behind it. */
  private start = 0;
  private vpn = 0;
  private phase = BEGIN;

  constructor(platform: Platform, space: AddressSpace) {
    this.platform = platform;
    this.space = space;
  }

  next(run: Run): Progress {
    for (;;) {
      if (this.phase === BEGIN) {
        this.space.beginReaping();
        if (!this.nextMapping()) return DONE;
        this.space.announce(this.event.set(this.start, this.vpn, 'CLEAR', undefined, 'reap'));
        this.phase = FLUSHED;
      }
      const { unfinished } = this.event;
      if (unfinished) return run.waitFor(unfinished);
      const before = this.free();
      // What must be split is on its way: it is left.
      zapPages(this.platform, this.space, [this.start, this.vpn]);
      this.space.devicePins.release(this.start, this.vpn);
      for (const mirror of this.space.mirrors) mirror.letGoIn(this.start, this.vpn);
      this.freed += this.free() - before;
      this.event.close();
      const { events } = this.platform;
      if (events.heard) {
        const { start: vpn } = this;
        events.emit({ type: 'space.unmapped', space: this.space.id, vpn, pages: this.vpn - vpn, cause: 'reap' });
      }
      this.phase = BEGIN;
    }
  }

  abort(): void {
    this.event.close();
  }

  /** Goes to the next mapping of pages that are the space's own. */
  private nextMapping(): boolean {
    const { vmas } = this.space;
    for (let vma = vmas.next(this.vpn); vma; vma = vma.end < VPN_LIMIT ? vmas.next(vma.end) : undefined) {
      if (!isAnonymous(vma)) continue;
      this.start = Math.max(vma.start, this.vpn);
      this.vpn = vma.end;
      return this.vpn > this.start;
    }
    return false;
  }

  private free(): number {
    let free = 0;
    for (const node of this.platform.nodes.list) free += node.free;
    return free;
  }
}

/** Taking a page back from the device that it is exclusive to, because its memory goes away. A CPU access does the same by its fault. Models: `restore_exclusive_pte`. */
import * as L from '../../assembly/layout.ts';
import type { RevokeCause } from '../events/cause.ts';
import type { AddressSpace } from '../mm/address-space.ts';
import { Invalidation } from '../mm/notifier.ts';
import type { Platform } from '../mm/platform.ts';
import { rightsOf } from '../mm/vma.ts';
import { AGAIN, DONE, type Progress, type Run, type Step } from '../step/step.ts';

export class Revoke implements Step {
  readonly name = 'revoke';
  private readonly platform: Platform;
  private readonly clear: Invalidation = new Invalidation();
  private space!: AddressSpace;
  private vpn = 0;
  private announced = false;
  private cause: RevokeCause = 'detach';
  /** The page lock that keeps out whoever makes the page exclusive just now. */
  private locked = L.FRAME_NONE;

  constructor(platform: Platform) {
    this.platform = platform;
  }

  /** For a page that is exclusive; if it is not any more when devices have flushed, nothing is changed. */
  of(space: AddressSpace, vpn: number, cause: RevokeCause): this {
    this.space = space;
    this.cause = cause;
    this.vpn = vpn;
    this.announced = false;
    return this;
  }

  next(run: Run): Progress {
    const { core, events, pageLocks } = this.platform;
    const space = this.space;
    if (!this.announced) {
      if ((core.entry(space.table, this.vpn) & L.ENTRY_KIND) !== L.KIND_EXCLUSIVE) return DONE;
      const frame = core.entryLow;
      if (!pageLocks.tryLock(frame)) return run.waitFor(pageLocks.wait(frame));
      this.locked = frame;
      this.announced = true;
      space.announce(this.clear.set(this.vpn, this.vpn + 1, 'CLEAR', undefined, 'revoke'));
      return AGAIN;
    }
    const { unfinished } = this.clear;
    if (unfinished) return run.waitFor(unfinished);
    const vma = space.vmas.find(this.vpn);
    const isExclusive = (core.entry(space.table, this.vpn) & L.ENTRY_KIND) === L.KIND_EXCLUSIVE;
    core.exports.exclusiveClear(space.table, this.vpn, vma ? rightsOf(vma) : 0);
    if (isExclusive && events.heard) events.emit({ type: 'page.revoked', space: space.id, vpn: this.vpn, cause: this.cause });
    this.clear.close();
    this.unlockPage();
    return DONE;
  }

  abort(): void {
    this.clear.close();
    this.unlockPage();
  }

  private unlockPage(): void {
    if (this.locked === L.FRAME_NONE) return;
    this.platform.pageLocks.unlock(this.locked);
    this.locked = L.FRAME_NONE;
  }
}

/**
 * The window of a job on a device that cannot replay a fault: its pages are brought, and held where they are, before the job begins.
 *
 * ```
 *   bring     each page as a fault would, for writing where its mapping allows it: what was shared with others becomes the space's own, and stays
 *   hold      its frame is pinned: no eviction, no migration, no homecoming until the window is released
 * ```
 *
 * What takes a page away by address (munmap, mprotect) does so all the same; the job that touches it then has failed. Models: the pre-faulting of a `gm_dev` without `GM_DEV_CAP_REPLAYABLE`.
 */
import * as L from '../../assembly/layout.ts';
import { fail } from '../errors.ts';
import { accessError } from '../mm/access.ts';
import type { Platform } from '../mm/platform.ts';
import { DONE, type Progress, type Run, type Step } from '../step/step.ts';
import type { Context } from './context.ts';
import { ServeFault } from './serve.ts';

/** Tries for one page: each one follows a change that somebody made. */
const ATTEMPTS_MAX = 64;

/** Brings the pages of a window and holds them. Its owner releases it. */
export class Window implements Step {
  readonly name = 'window';
  private readonly platform: Platform;
  private readonly context: Context;
  private readonly serve: ServeFault;
  private readonly pages: number[] = [];
  private readonly writes: boolean[] = [];
  /** Frames that are held. */
  private readonly frames: number[] = [];
  private at = 0;
  private called = false;
  private attempts = 0;

  constructor(platform: Platform, context: Context) {
    this.platform = platform;
    this.context = context;
    this.serve = new ServeFault(platform, context);
  }

  /** Adds a page, in any order; `write`: somebody will write to it. */
  add(vpn: number, write: boolean): void {
    this.pages.push(vpn);
    this.writes.push(write);
  }

  next(run: Run): Progress {
    const { device } = this.context;
    const { batch } = device;
    if (this.called) this.settle();
    if (this.at < this.pages.length) {
      if (!run.holds(batch) && !batch.tryAcquire(run)) return run.waitFor(batch);
      const vpn = this.pages[this.at]!;
      this.called = true;
      return run.call(this.serve.of(vpn, this.writes[this.at]! || this.isWritable(vpn)));
    }
    if (run.holds(batch)) {
      device.endBatch();
      batch.release(run);
    }
    return DONE;
  }

  abort(run: Run): void {
    const { device } = this.context;
    if (run.holds(device.batch)) {
      device.endBatch();
      device.batch.release(run);
    }
    this.release();
  }

  /** Lets the pages go. */
  release(): void {
    for (const frame of this.frames) this.platform.core.exports.frameUnpin(frame);
    if (this.frames.length > 0) this.platform.settleFreed();
    this.frames.length = 0;
  }

  private isWritable(vpn: number): boolean {
    return this.context.space.writable(vpn);
  }

  /** Holds the page that has been served. Throws when it could not be. */
  private settle(): void {
    this.called = false;
    const vpn = this.pages[this.at]!;
    const { outcome } = this.serve;
    const { name } = this.context;
    switch (outcome) {
      case 'served':
      case 'present':
      case 'throttled':
        break;
      case 'deferred':
        throw fail('ENOMEM', `window of ${name}, page`, vpn * L.PAGE_BYTES, 'has no room: the device cannot hold the whole window at once');
      default:
        throw accessError(this.writes[this.at]! ? 'write' : 'read', vpn * L.PAGE_BYTES, outcome);
    }
    const { core } = this.platform;
    const high = core.entry(this.context.space.table, vpn);
    const kind = high & L.ENTRY_KIND;
    // Taken again before this turn: it is brought once more.
    if (!this.context.reaches(vpn, this.writes[this.at]!)) {
      if (++this.attempts > ATTEMPTS_MAX) throw accessError('read', vpn * L.PAGE_BYTES, 'no progress');
      return;
    }
    this.attempts = 0;
    this.at++;
    if ((kind !== L.KIND_PRESENT && kind !== L.KIND_DEVICE_PRIVATE && kind !== L.KIND_EXCLUSIVE) || high & L.ENTRY_ZERO) return;
    const frame = core.entryLow;
    if (!core.exports.framePin(frame, 0))
      throw fail('EOVERFLOW', `window of ${name}, page`, vpn * L.PAGE_BYTES, 'has as many pins as it can have');
    this.frames.push(frame);
  }
}

/** Making room on the host: pages that nobody has used for a while go to the second tier. */
import * as L from '../../assembly/layout.ts';
import { AGAIN, DONE, type Progress, type Run, type Step } from '../step/step.ts';
import { mappingsOf } from './places.ts';
import { Migration } from './migration.ts';
import type { Platform } from './platform.ts';
import { reportSplit } from './splits.ts';

/** Choices before the host counts as full. */
export const HOST_ROUNDS_MAX = 10;

/** Reused by its owner. */
export class Reclaim implements Step {
  readonly name = 'reclaim';
  /** Pages that went. */
  freed = 0;
  private readonly platform: Platform;
  private readonly migration: Migration;
  private pages = 0;
  private payer = 0;
  private rounds = 0;
  private called = false;

  constructor(platform: Platform) {
    this.platform = platform;
    this.migration = new Migration(platform);
  }

  /** For this many pages; less, if less may go. `payer`: only pages that the space of this number + 1 pays for. */
  room(pages: number, payer = 0): this {
    this.freed = 0;
    this.pages = pages;
    this.payer = payer;
    this.rounds = 0;
    this.called = false;
    return this;
  }

  next(run: Run): Progress {
    const tier = this.platform.tier;
    if (this.called) {
      this.called = false;
      this.freed += this.migration.moved;
      if (this.migration.isShort) return DONE;
    }
    if (!tier || this.freed >= this.pages || this.rounds === HOST_ROUNDS_MAX) return DONE;
    this.rounds++;
    const frames = this.cold();
    if (frames === undefined) return AGAIN;
    // Nothing is cold: in the first round because everything has been used.
    if (frames.length === 0) return AGAIN;
    this.called = true;
    return run.call(this.migration.framesToTier(frames, tier));
  }

  /** The next pages that are not in use; undefined: huge ones have been split first. */
  private cold(): readonly number[] | undefined {
    const { core, host } = this.platform;
    const tier = this.platform.tier!;
    const most = Math.min(this.pages - this.freed, L.WORDS_MAX);
    const found = core.exports.coldFrames(host.index, tier.hand, host.frames, core.area(L.AREA_LIST), most, this.payer);
    tier.hand = core.stopIndex;
    const frames: number[] = [];
    let split = false;
    for (const frame of [...core.words(L.AREA_LIST, found)]) {
      if (core.pagesOf(frame) === 1) frames.push(frame);
      else if (this.split(frame)) {
        split = true;
        // Its pages are looked at first, and now.
        tier.hand = frame - host.base;
      }
    }
    return frames.length === 0 && split ? undefined : frames;
  }

  private split(frame: number): boolean {
    const { core } = this.platform;
    const [place] = mappingsOf(this.platform, frame, 1);
    if (!place || core.exports.splitHuge(core.tableAt(place.space), place.vpn) === 0) return false;
    reportSplit(this.platform, place.space, place.vpn, 'migration');
    return true;
  }
}

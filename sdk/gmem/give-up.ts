/**
 * A device sends pages away because it chose to: an operating system of its own makes room. The framework brings them home, unless somebody has asked for them since.
 *
 * ```
 *   WILLNEED is set       cleared; the page stays, the device is to keep it
 *   not on the device     nothing to do
 *   else                  home, by frame
 * ```
 *
 * Models: the handler of the message "evict this page" of E1, and its handshake with `peer_map`.
 */
import * as L from '../../assembly/layout.ts';
import { Migration } from '../mm/migration.ts';
import type { Platform } from '../mm/platform.ts';
import { DONE, type Progress, type Run, type Step } from '../step/step.ts';
import type { Context } from './context.ts';

/** What became of a page that the device wants to send away. `stays`: it is held, or there is no room in the host. */
export type GivenUp = 'home' | 'will need' | 'not here' | 'stays';

/** The step behind `context.giveUp`. */
export class GiveUp implements Step {
  readonly name = 'give up';
  /** One for each page, in their order. */
  readonly results: GivenUp[] = [];
  private readonly platform: Platform;
  private readonly context: Context;
  private readonly vpns: readonly number[];
  private readonly migration: Migration;
  /** The one that goes now. */
  private readonly frame: number[] = [L.FRAME_NONE];
  private called = false;

  constructor(platform: Platform, context: Context, vpns: readonly number[]) {
    this.platform = platform;
    this.context = context;
    this.vpns = vpns;
    this.migration = new Migration(platform);
  }

  next(run: Run): Progress {
    const { context, results } = this;
    if (this.called) {
      this.called = false;
      const vpn = this.vpns[results.length]!;
      // Whoever asks for it now has it locked: it did not move.
      results.push(this.migration.moved > 0 ? 'home' : context.coupled?.claim(vpn) ? 'will need' : 'stays');
    }
    while (results.length < this.vpns.length) {
      const vpn = this.vpns[results.length]!;
      if (context.coupled?.claim(vpn)) {
        results.push('will need');
        continue;
      }
      const frame = context.isAttached ? context.ownFrame(vpn) : L.FRAME_NONE;
      const memory = frame === L.FRAME_NONE ? undefined : context.device.holding(frame);
      if (!memory) {
        results.push('not here');
        continue;
      }
      this.called = true;
      this.frame[0] = this.platform.core.headOf(frame);
      return run.call(this.migration.framesToHost(this.frame, memory, 'evict'));
    }
    return DONE;
  }
}

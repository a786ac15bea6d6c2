/**
 * Which address space a device runs, where it can run one only (`driver.activeContexts: 'one'`): who wants to have it run his waits for his turn.
 *
 * ```
 *   turn lock     first come, first served; a job, an access, an atomic, a switch holds it
 *   load          when the turn comes to another context: `unload` of the one before, `load` of this one
 *   slice         a job whose batch has been served gives its turn away when others wait, and comes last among them
 * ```
 *
 * There is no clock: a slice is a number of rounds of lanes (`policy.slice`). Models: `gm_dev_switch`, `gm_dev.current_ctx`.
 */
import { DONE, type Progress, type Run, type Step } from '../step/step.ts';
import type { Context } from './context.ts';
import type { Device } from './device.ts';

/** Rounds of a job before its device is another's, when others wait. */
export const SLICE_ROUNDS_DEFAULT = 1;

/** The step behind `device.switchTo`. */
export class SwitchTo implements Step {
  readonly name = 'switch';
  private readonly device: Device;
  private readonly context: Context;

  constructor(device: Device, context: Context) {
    this.device = device;
    this.context = context;
  }

  next(run: Run): Progress {
    const turn = this.device.turn!;
    if (!turn.tryAcquire(run)) return run.waitFor(turn);
    // While this one waited, it may have left.
    this.context.requireWorking('switchTo');
    this.device.load(this.context);
    turn.release(run);
    return DONE;
  }

  abort(run: Run): void {
    const turn = this.device.turn!;
    if (run.holds(turn)) turn.release(run);
  }
}

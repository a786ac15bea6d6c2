/** Giving pages opaque bits: they are kept by address, and the translations that do not have them go, so that the next ones do. */
import { Ranges } from '../core/batch.ts';
import { DONE, type Progress, type Run, type Step } from '../step/step.ts';
import type { Ticket } from '../step/ticket.ts';
import type { Context } from './context.ts';

/** The step behind `context.setAttributes`. */
export class SetAttributes implements Step {
  readonly name = 'set attributes';
  private readonly context: Context;
  private readonly start: number;
  private readonly end: number;
  private readonly bits: number;
  private isSet = false;
  private flush: Ticket | undefined;

  /** For the pages `[start, end)`. */
  constructor(context: Context, start: number, end: number, bits: number) {
    this.context = context;
    this.start = start;
    this.end = end;
    this.bits = bits;
  }

  next(run: Run): Progress {
    const { space, device } = this.context;
    if (!this.isSet) {
      if (!space.mmapLock.tryAcquireShared(run)) return run.waitFor(space.mmapLock);
      this.context.requireWorking('setAttributes');
      space.attributes.setBits(this.start, this.end, device.owner, this.bits);
      space.mmapLock.release(run);
      this.isSet = true;
      const ranges = new Ranges();
      ranges.add(this.start, this.end - this.start);
      this.flush = this.context.withdraw(ranges);
    }
    if (this.flush?.state === 'pending') return run.waitFor(this.flush);
    return DONE;
  }

  abort(run: Run): void {
    if (run.holds(this.context.space.mmapLock)) this.context.space.mmapLock.release(run);
  }
}

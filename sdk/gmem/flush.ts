/** The end of a flush that was deferred: its driver has not finished it, and those who wait for it wait on. */
import { DONE, type Progress, type Run, type Step } from '../step/step.ts';
import type { Ticket } from '../step/ticket.ts';

/** Flushes of a context, as its driver was asked for them. */
export interface FlushCounts {
  /** Calls of `tlb.invalidate` and `tlb.invalidateCoalesced`. */
  flushes: number;
  /** Ranges in them. */
  ranges: number;
  /** Pages in them. */
  pages: number;
}

/** Ends a ticket when another one has ended. */
export class FlushEnd implements Step {
  readonly name = 'deferred flush';
  private readonly flushed: Ticket;
  private readonly waited: Ticket;

  constructor(flushed: Ticket, waited: Ticket) {
    this.flushed = flushed;
    this.waited = waited;
  }

  next(run: Run): Progress {
    if (this.flushed.state === 'pending') return run.waitFor(this.flushed);
    if (this.waited.state === 'pending') this.waited.complete();
    return DONE;
  }
}

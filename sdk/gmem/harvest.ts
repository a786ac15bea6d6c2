/** Taking the accessed and dirty marks of a device's translations. Models: `iommu_read_and_clear_dirty`, `mmu_notifier_clear_young`. */
import { type Mark, Marks, Ranges } from '../core/batch.ts';
import { DONE, type Progress, type Run, type Step } from '../step/step.ts';
import type { Ticket } from '../step/ticket.ts';
import type { Context } from './context.ts';

const LOCK = 0;
const FLUSH = 1;

/** Marks are taken and cleared under the driver lock, then the caches forget the pages: what is done through them until then is in the answer, too. */
export class Harvest implements Step {
  readonly name = 'harvest';
  /** What was found, ascending by page; complete once the step is DONE. */
  marks: readonly Mark[] = [];
  private readonly context: Context;
  private readonly ranges: Ranges = new Ranges();
  private readonly start: number;
  private readonly end: number;
  private phase = LOCK;
  private ticket: Ticket | undefined;

  /** Pages from `start` up to `end`. */
  constructor(context: Context, start: number, end: number) {
    this.context = context;
    this.start = start;
    this.end = end;
  }

  next(run: Run): Progress {
    const { context } = this;
    if (this.phase === FLUSH) {
      if (this.ticket?.state === 'pending') return run.waitFor(this.ticket);
      return DONE;
    }
    if (!context.lock.tryAcquire(run)) return run.waitFor(context.lock);
    context.requireWorking('harvest');
    this.ranges.clear().add(this.start, this.end - this.start);
    const marks = new Marks();
    this.ticket = context.marks.take(this.ranges, marks);
    context.marks.takeOwed(this.start, this.end, marks);
    this.marks = merged(marks);
    context.lock.release(run);
    if (!this.ticket) return DONE;
    this.phase = FLUSH;
    return run.waitFor(this.ticket);
  }
}

/** Ascending by page, each page once. */
function merged(marks: Marks): Mark[] {
  const pages = new Map<number, boolean>();
  marks.each((vpn, dirty) => pages.set(vpn, dirty || pages.get(vpn) === true));
  return [...pages].sort(([a], [b]) => a - b).map(([vpn, dirty]) => ({ vpn, accessed: true, dirty }));
}

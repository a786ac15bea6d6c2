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
  /** What was found, ascending by page, each page once; complete once the step is DONE. Lent until the step is used again. */
  readonly found: Marks = new Marks();
  private readonly context: Context;
  private readonly ranges: Ranges = new Ranges();
  private start = 0;
  private end = 0;
  private phase = LOCK;
  private ticket: Ticket | undefined;

  constructor(context: Context) {
    this.context = context;
  }

  /** For the pages from `start` up to `end`. */
  of(start: number, end: number): this {
    this.start = start;
    this.end = end;
    this.phase = LOCK;
    this.ticket = undefined;
    this.found.clear();
    return this;
  }

  /** The same as objects of the caller's own. */
  get marks(): readonly Mark[] {
    const { found } = this;
    const marks = new Array<Mark>(found.count);
    for (let i = 0; i < marks.length; i++) marks[i] = { vpn: found.vpn(i), accessed: true, dirty: found.isDirty(i) };
    return marks;
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
    const marks = this.found.clear();
    this.ticket = context.marks.take(this.ranges, marks);
    context.marks.takeOwed(this.start, this.end, marks);
    marks.sort();
    context.lock.release(run);
    if (!this.ticket) return DONE;
    this.phase = FLUSH;
    return run.waitFor(this.ticket);
  }
}

/** The records of a machine that are kept. */
import type { MachineEvent } from './record.ts';

/** What a record weighs: one, and one for each run and frame that it lists. */
function weightOf(event: MachineEvent): number {
  switch (event.type) {
    case 'pages.migrated':
      return 1 + event.runs.length;
    case 'frames.evicted':
      return 1 + event.runs.length + event.frames.length;
    default:
      return 1;
  }
}

/**
 * The newest records, within a budget: a ring. A record counts as one, and as one more for each run and frame that it lists; when the budget is spent the oldest go.
 *
 * ```
 *   ring     [ r8 | r9 | r10 |  -  | r5 | r6 | r7 ]
 *                                    ^ first            r0 to r4 are dropped
 * ```
 */
export class EventLog {
  /** The budget, in records. */
  readonly records: number;
  /** Whether something had been there when the log began: what came before is not in it. */
  readonly isLate: boolean;
  /** Records that have gone to make room. */
  dropped = 0;
  private readonly ring: (MachineEvent | undefined)[] = [];
  private first = 0;
  private count = 0;
  private weight = 0;

  /** Requires: `records` is at least 1. */
  constructor(records: number, isLate: boolean) {
    this.records = records;
    this.isLate = isLate;
  }

  /** Records that are there. */
  get length(): number {
    return this.count;
  }

  /** Record `i`, 0 being the oldest. */
  at(i: number): MachineEvent | undefined {
    return i >= 0 && i < this.count ? this.ring[(this.first + i) % this.records] : undefined;
  }

  add(event: MachineEvent): void {
    const weight = weightOf(event);
    while (this.count > 0 && this.weight + weight > this.records) this.drop();
    // One that is too long for the whole budget would be alone in it, and more: it is not kept either.
    if (weight > this.records) {
      this.dropped++;
      return;
    }
    this.ring[(this.first + this.count) % this.records] = event;
    this.count++;
    this.weight += weight;
  }

  /** The records, oldest first. */
  *[Symbol.iterator](): Generator<MachineEvent, void, undefined> {
    for (let i = 0; i < this.count; i++) yield this.at(i)!;
  }

  private drop(): void {
    this.weight -= weightOf(this.ring[this.first]!);
    this.ring[this.first] = undefined;
    this.first = (this.first + 1) % this.records;
    this.count--;
    this.dropped++;
  }
}

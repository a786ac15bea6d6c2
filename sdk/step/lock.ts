/**
 * Locks that steps take. `tryAcquire` is the only way in: a step that is refused returns `run.waitFor(lock)`. Who waits is served in the
 * order of coming: a lock that came free belongs to the first in its queue, and nobody overtakes.
 */
import { fail } from '../errors.ts';
import { type Holdable, type Run, type Waitable } from './step.ts';

/**
 * The order of taking, lowest first. Locks of one rank are taken in ascending order of their key (the number of the space, frame,
 * context). Models: the lock ordering notes at the head of mm/rmap.c.
 *
 *   turn      of a device that runs one address space at a time. Who has it run his holds it.
 *   job       of a machine: its one area for the accesses of a job. Who runs a job holds it.
 *   batch     of a device: its fault buffer, and which of its frames the batch under way needs. Who serves a batch, or makes room, holds it.
 *   file      of a file: its end. Who truncates it holds it, until every space has lost the pages.
 *   mmap      of a space: its VMAs and the shape of its table. Shared to fault, exclusive to map and unmap.
 *   page      of a frame: kept as a bit in the frame record. Who moves the page, or writes it back, holds it.
 *   driver    of a context: the driver's own "user lock" of the notifier protocol.
 *   notifier  of a space: its subscriptions.
 */
export const LOCK_ORDER = { turn: 4, job: 5, batch: 7, file: 9, mmap: 10, page: 20, driver: 30, notifier: 40 } as const;
export type LockKind = keyof typeof LOCK_ORDER;

/** Throws when `run`, with what it holds, may not take `wanted`, whether or not it is free. */
export function checkOrder(run: Run, wanted: Holdable): void {
  // On the way of every fault: no iterator.
  const { held: all } = run;
  for (let i = 0; i < all.length; i++) {
    const held = all.at(i);
    if (held === wanted) throw fail('EINVAL', 'lock', wanted.label, `is already held by ${run.label}`);
    if (held.rank > wanted.rank || (held.rank === wanted.rank && held.key >= wanted.key)) {
      throw fail(
        'EINVAL',
        'lock',
        wanted.label,
        `is taken after "${held.label}" (${run.label}); the order is ${printedOrder()}, low keys first`,
      );
    }
  }
}

function printedOrder(): string {
  return Object.entries(LOCK_ORDER)
    .sort(([, a], [, b]) => a - b)
    .map(([kind]) => kind)
    .join(', ');
}

/** A lock with one holder. */
export class Lock implements Holdable, Waitable {
  readonly label: string;
  readonly rank: number;
  readonly key: number;
  private owner: Run | undefined = undefined;
  private readonly queue: Run[] = [];

  constructor(kind: LockKind, key: number) {
    this.label = `${kind} lock ${key}`;
    this.rank = LOCK_ORDER[kind];
    this.key = key;
  }

  /** Who holds this lock. */
  get holder(): Run | undefined {
    return this.owner;
  }

  /** Whether somebody waits for it. */
  get isWanted(): boolean {
    return this.queue.length > 0;
  }

  /** Takes the lock, or returns false: somebody holds it or came before. Does not wait. */
  tryAcquire(run: Run): boolean {
    if (run.checked) checkOrder(run, this);
    if (!this.isFreeFor(run)) return false;
    if (run.place === this) this.dequeue(run);
    this.owner = run;
    run.hold(this);
    return true;
  }

  release(run: Run): void {
    run.drop(this);
    this.owner = undefined;
    this.queue[0]?.wake();
  }

  enqueue(run: Run): boolean {
    if (run.place !== this) {
      this.queue.push(run);
      run.place = this;
    }
    return !this.isFreeFor(run);
  }

  leave(run: Run): void {
    if (!this.dequeue(run)) return;
    if (this.owner === undefined) this.queue[0]?.wake();
  }

  private isFreeFor(run: Run): boolean {
    return this.owner === undefined && (this.queue.length === 0 || this.queue[0] === run);
  }

  private dequeue(run: Run): boolean {
    const at = this.queue.indexOf(run);
    if (at < 0) return false;
    this.queue.splice(at, 1);
    run.place = undefined;
    return true;
  }
}

interface Place {
  readonly run: Run;
  shared: boolean;
}

/** A lock with many readers or one writer. A reader that comes after a waiting writer waits behind it, so writers are not starved. */
export class RwLock implements Holdable, Waitable {
  readonly label: string;
  readonly rank: number;
  readonly key: number;
  private writing: Run | undefined = undefined;
  private reading = 0;
  private readonly queue: Place[] = [];

  constructor(kind: LockKind, key: number) {
    this.label = `${kind} lock ${key}`;
    this.rank = LOCK_ORDER[kind];
    this.key = key;
  }

  /** Who holds this lock exclusively. */
  get writer(): Run | undefined {
    return this.writing;
  }

  /** How many runs hold this lock shared. */
  get readers(): number {
    return this.reading;
  }

  /** Whether any run could have it shared now: who ends in the same turn need not take it. */
  get isFreeToRead(): boolean {
    return this.writing === undefined && this.queue.length === 0;
  }

  /** Takes the lock for this run alone, or returns false. Does not wait. */
  tryAcquire(run: Run): boolean {
    if (run.checked) checkOrder(run, this);
    if (!this.isFreeFor(run, false)) {
      run.refusedShared = false;
      return false;
    }
    if (run.place === this) this.dequeue(run);
    this.writing = run;
    run.hold(this);
    return true;
  }

  /** Takes the lock together with other readers, or returns false. Does not wait. */
  tryAcquireShared(run: Run): boolean {
    if (run.checked) checkOrder(run, this);
    if (!this.isFreeFor(run, true)) {
      run.refusedShared = true;
      return false;
    }
    if (run.place === this) this.dequeue(run);
    this.reading++;
    run.hold(this);
    return true;
  }

  /** Gives back whichever mode this run holds. */
  release(run: Run): void {
    run.drop(this);
    if (this.writing === run) this.writing = undefined;
    else this.reading--;
    this.wakeFirst();
  }

  enqueue(run: Run): boolean {
    const shared = run.refusedShared;
    const place = this.queue.find((waiting) => waiting.run === run);
    if (place) place.shared = shared;
    else this.queue.push({ run, shared });
    run.place = this;
    return !this.isFreeFor(run, shared);
  }

  leave(run: Run): void {
    if (this.dequeue(run)) this.wakeFirst();
  }

  private isFreeFor(run: Run, shared: boolean): boolean {
    if (this.writing !== undefined || (!shared && this.reading > 0)) return false;
    // A loop: an iterator would be made each time that a lock is taken.
    for (let i = 0; i < this.queue.length; i++) {
      const ahead = this.queue[i]!;
      if (ahead.run === run) return true;
      if (!shared || !ahead.shared) return false;
    }
    return true;
  }

  // The first of the queue, and, when it only reads, the readers right behind it.
  private wakeFirst(): void {
    if (this.writing !== undefined) return;
    const first = this.queue[0];
    if (first === undefined) return;
    if (!first.shared) {
      if (this.reading === 0) first.run.wake();
      return;
    }
    for (const waiting of this.queue) {
      if (!waiting.shared) return;
      waiting.run.wake();
    }
  }

  private dequeue(run: Run): boolean {
    const at = this.queue.findIndex((waiting) => waiting.run === run);
    if (at < 0) return false;
    this.queue.splice(at, 1);
    run.place = undefined;
    return true;
  }
}

/**
 * What one word may hold while several operations are under way: every write with the time when it began and the time by which it had surely happened. A read may return what was
 * written last at some moment between its own beginning and end.
 *
 * ```
 *   w1  |-----|                    a read at r may see w1 or w2, not w0: w1 was there before it began.
 *   w2        |---------|          What a read has seen has happened by the end of that read: a later one sees nothing older.
 *   r               |---|
 * ```
 */
export class Register<T> {
  private writes: Write<T>[];

  constructor(value: T) {
    this.writes = [{ value, began: -1, done: -1 }];
  }

  /** A write begins. It may be seen from now on. */
  begin(value: T, now: number): Write<T> {
    const write = { value, began: now, done: Infinity };
    this.writes.push(write);
    return write;
  }

  /** A write that has turned out never to happen. */
  withdraw(write: Write<T>): void {
    this.writes = this.writes.filter((each) => each !== write);
  }

  /** What a read from `began` to `done` may have returned. */
  possible(began: number): Write<T>[] {
    return this.writes.filter((write) => !this.writes.some((later) => later.began > write.done && later.done < began));
  }

  /** A read has returned `value`: whether it may have. */
  saw(value: T, began: number, done: number): boolean {
    const seen = this.possible(began).filter((write) => write.value === value);
    // Of several that it may be, none is surely older than what comes later.
    if (seen.length === 1) seen[0]!.done = Math.min(seen[0]!.done, done);
    return seen.length > 0;
  }

  /** Another word that holds what this one holds. Requires: nothing is under way. */
  copy(): Register<T> {
    const copy = new Register(this.writes[0]!.value);
    copy.writes = this.writes.map((write) => ({ ...write }));
    return copy;
  }

  /** Nothing is under way, and this is what is there. */
  settle(value: T): void {
    this.writes = [{ value, began: -1, done: -1 }];
  }
}

/** One write, or one change of a right. */
export interface Write<T> {
  readonly value: T;
  readonly began: number;
  /** When it had happened at the latest. */
  done: number;
}

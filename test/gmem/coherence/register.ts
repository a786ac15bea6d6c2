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
    this.writes = [{ value, began: -1, done: -1, among: undefined }];
  }

  /** A write begins. It may be seen from now on. */
  begin(value: T, now: number): Write<T> {
    const write: Write<T> = { value, began: now, done: Infinity, among: undefined };
    this.writes.push(write);
    return write;
  }

  /** The same, of a value that is copied from another word: whichever that one holds meanwhile. */
  beginCopy(source: Register<T>, now: number): Write<T> {
    const write = this.begin(source.writes[0]!.value, now);
    let isAsked = false;
    write.among = () => {
      // Two that are copied to each other: nothing new comes of asking twice.
      if (isAsked) return [];
      isAsked = true;
      const values = source.values(now);
      isAsked = false;
      return values;
    };
    return write;
  }

  /** A copy has been made: what it may be is known now. */
  endCopy(write: Write<T>, now: number): void {
    const values = write.among!();
    write.among = () => values;
    write.done = Math.min(write.done, now);
  }

  /** What a read that began then may return, by now. */
  values(began: number): T[] {
    return this.possible(began).flatMap((write) => (write.among ? [...write.among()] : [write.value]));
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
    const seen = this.possible(began).filter((write) => (write.among ? write.among().includes(value) : write.value === value));
    // Of several that it may be, none is surely older than what comes later.
    if (seen.length === 1) {
      seen[0]!.done = Math.min(seen[0]!.done, done);
      if (seen[0]!.among) seen[0]!.among = () => [value];
    }
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
    this.writes = [{ value, began: -1, done: -1, among: undefined }];
  }
}

/** One write, or one change of a right. */
export interface Write<T> {
  readonly value: T;
  readonly began: number;
  /** When it had happened at the latest. */
  done: number;
  /** Of a copy: what it may be. */
  among: (() => readonly T[]) | undefined;
}

/** A stack that keeps its room: an array that is popped until it is empty gives its memory back, and the next push asks for it again. */
export class Stack<T> {
  /** `undefined` from `used` on. */
  private readonly items: (T | undefined)[] = [];
  private used = 0;

  get length(): number {
    return this.used;
  }

  push(item: T): void {
    this.items[this.used++] = item;
  }

  /** Takes the topmost off; undefined: there is none. */
  pop(): T | undefined {
    if (this.used === 0) return undefined;
    const top = this.items[--this.used];
    this.items[this.used] = undefined;
    return top;
  }

  clear(): void {
    while (this.used > 0) this.items[--this.used] = undefined;
  }

  /** Item `i` from the bottom. Requires: i < length. */
  at(i: number): T {
    return this.items[i] as T;
  }

  /** Takes out the topmost that is `item`; what is above moves down. False: it is not there. */
  remove(item: T): boolean {
    const { items } = this;
    const last = this.used - 1;
    let at = last;
    while (at >= 0 && items[at] !== item) at--;
    if (at < 0) return false;
    if (at < last) items.copyWithin(at, at + 1, this.used);
    items[last] = undefined;
    this.used = last;
    return true;
  }

  /** All, from the bottom. */
  toArray(): T[] {
    return this.items.slice(0, this.used) as T[];
  }
}

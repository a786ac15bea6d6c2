/**
 * A number for each of many pages, without an object for any of them: what a `Map` from page to frame would be, in three arrays that stay.
 *
 * ```
 *   index    [ 0 | 2 | 0 | 3 | 1 | ... ]      open addressing, at most half full: the place of a page in the lists, plus one; 0: nothing
 *   pages    [ 80 | -1 | 81 | ...        ]    in the order in which they came; -1: gone
 *   values   [ 17 |  . |  4 | ...        ]
 * ```
 *
 * The arrays grow with the most pages that there ever were at a time, and do not shrink: 20 to 40 bytes for each of them.
 */

/** Pages that there is room for when there is any. */
const FEW = 16;

/** Hears of pages, and whether each is marked. */
interface Marked {
  add(page: number, isMarked: boolean): void;
}

/** Page numbers below 2^53, in the order in which they came, each with an integer from 0 to 2^32 - 1. */
export class PageMap {
  private index: Int32Array = new Int32Array(0);
  private pages: Float64Array = new Float64Array(0);
  private values: Uint32Array = new Uint32Array(0);
  /** Places in the lists that are in use, those of pages that have gone included. */
  private used = 0;
  private live = 0;

  /** How many pages. */
  get size(): number {
    return this.live;
  }

  has(page: number): boolean {
    return this.find(page) >= 0;
  }

  /** What a page has; undefined: the page is not there. */
  get(page: number): number | undefined {
    const slot = this.find(page);
    return slot < 0 ? undefined : this.values[this.index[slot]! - 1]!;
  }

  /** Gives a page its value. One that is there keeps its place in the order. */
  set(page: number, value: number): void {
    const slot = this.find(page);
    if (slot >= 0) {
      this.values[this.index[slot]! - 1] = value;
      return;
    }
    if (this.used === this.pages.length) this.makeRoom(1);
    this.append(page, value);
    this.enter(this.used - 1);
  }

  /** Takes a page out. False: it was not there. */
  delete(page: number): boolean {
    const slot = this.find(page);
    if (slot < 0) return false;
    this.pages[this.index[slot]! - 1] = -1;
    this.close(slot);
    if (--this.live === 0) this.used = 0;
    return true;
  }

  /** Takes the pages `[start, start + count)` out. `told`: hears of each, and whether its value is not 0. The range may be larger than all that is there. */
  deleteRange(start: number, count: number, told?: Marked): void {
    if (count <= this.live) for (let page = start; page < start + count; page++) this.tell(page, told);
    else
      for (let at = this.next(0); at >= 0; at = this.next(at + 1)) {
        const page = this.pages[at]!;
        if (page >= start && page < start + count) this.tell(page, told);
      }
  }

  clear(): void {
    this.index.fill(0);
    this.used = 0;
    this.live = 0;
  }

  /**
   * The place of the next page from place `at` on, the oldest first; -1: there is none. Pages may be taken out between two calls, and none put in:
   *
   * ```
   *   for (let at = map.next(0); at >= 0; at = map.next(at + 1)) map.pageAt(at)
   * ```
   */
  next(at: number): number {
    for (let place = at; place < this.used; place++) if (this.pages[place]! >= 0) return place;
    return -1;
  }

  /** The page at a place that `next` has returned. */
  pageAt(place: number): number {
    return this.pages[place]!;
  }

  /** What it has. */
  valueAt(place: number): number {
    return this.values[place]!;
  }

  /** The pages `[from, from + count)` are `[to, to + count)` from now on, and the youngest. */
  move(from: number, to: number, count: number): void {
    let moving = 0;
    for (let at = this.next(0); at >= 0; at = this.next(at + 1)) if (this.pages[at]! >= from && this.pages[at]! < from + count) moving++;
    if (moving === 0) return;
    if (this.used + moving > this.pages.length) this.makeRoom(moving);
    const before = this.used;
    for (let at = 0; at < before; at++) {
      const page = this.pages[at]!;
      if (page < from || page >= from + count || page < 0) continue;
      this.close(this.find(page));
      this.pages[at] = -1;
      this.live--;
      this.append(page - from + to, this.values[at]!);
    }
    for (let at = before; at < this.used; at++) this.enterMoved(at);
  }

  private tell(page: number, told: Marked | undefined): void {
    const value = told && this.get(page);
    if (this.delete(page) && told) told.add(page, value !== 0);
  }

  /** What has come to a page that is there takes its place. */
  private enterMoved(at: number): void {
    const slot = this.find(this.pages[at]!);
    if (slot < 0) {
      this.enter(at);
      return;
    }
    this.values[this.index[slot]! - 1] = this.values[at]!;
    this.pages[at] = -1;
    this.live--;
  }

  private append(page: number, value: number): void {
    this.pages[this.used] = page;
    this.values[this.used++] = value;
    this.live++;
  }

  /** Slot of a page, or -1. */
  private find(page: number): number {
    if (this.live === 0) return -1;
    const { index, pages } = this;
    for (let slot = this.home(page); index[slot] !== 0; slot = (slot + 1) & (index.length - 1))
      if (pages[index[slot]! - 1] === page) return slot;
    return -1;
  }

  /** Slot at which the search for a page begins. */
  private home(page: number): number {
    const high = Math.floor(page / 2 ** 32);
    // The highest bits of the product: pages that follow each other are far apart, and so are those that are huge pages apart.
    return Math.imul((page | 0) ^ Math.imul(high, 0x85ebca6b), 0x9e3779b1) >>> (Math.clz32(this.index.length) + 1);
  }

  /** Notes where the page at a place of the lists is. Requires: it is not noted. */
  private enter(place: number): void {
    const { index } = this;
    let slot = this.home(this.pages[place]!);
    while (index[slot] !== 0) slot = (slot + 1) & (index.length - 1);
    index[slot] = place + 1;
  }

  /** Empties a slot; those behind it come nearer to where their search begins. */
  private close(slot: number): void {
    const { index, pages } = this;
    const mask = index.length - 1;
    let hole = slot;
    for (let next = (hole + 1) & mask; index[next] !== 0; next = (next + 1) & mask) {
      // Whose search begins behind the hole stays.
      if (((next - this.home(pages[index[next]! - 1]!)) & mask) < ((next - hole) & mask)) continue;
      index[hole] = index[next]!;
      hole = next;
    }
    index[hole] = 0;
  }

  /** For so many more: closes ranks, and doubles the lists unless that gave half of them back. */
  private makeRoom(more: number): void {
    let length = Math.max(FEW, this.pages.length);
    while (this.live + more > length / 2) length *= 2;
    const { pages, values } = this;
    if (length > pages.length) {
      this.pages = new Float64Array(length);
      this.values = new Uint32Array(length);
      this.index = new Int32Array(2 * length);
    } else this.index.fill(0);
    let place = 0;
    for (let at = 0; at < this.used; at++) {
      if (pages[at]! < 0) continue;
      this.pages[place] = pages[at]!;
      this.values[place] = values[at]!;
      place++;
    }
    this.used = place;
    for (let at = 0; at < place; at++) this.enter(at);
  }
}

/** Pages of a range that are to go to a device's memory, and the frames that they get: what a migration of many pages is asked for. Reused by its owner. */
import { HUGE_PAGES } from './huge-window.ts';

export class Aims {
  /** Page that the offsets are counted from. */
  start = 0;
  /** Pages that are to go, ascending, of a huge one the first: `count` of them. */
  offsets: Uint32Array = new Uint32Array(0);
  count = 0;
  /** Their frames so far, each with one reference that goes over, or FRAME_LATER, of a huge page FRAME_LATER_HUGE: `taken` of them. */
  frames: Int32Array = new Int32Array(0);
  taken = 0;
  /** Offsets of the huge pages. */
  readonly huge: Set<number> = new Set();

  /** Begins anew without a page, for a range of `pages` pages. */
  begin(start: number, pages: number): this {
    this.start = start;
    this.count = 0;
    this.taken = 0;
    if (this.huge.size > 0) this.huge.clear();
    if (this.offsets.length >= pages) return this;
    this.offsets = new Uint32Array(pages);
    this.frames = new Int32Array(pages);
    return this;
  }

  /** Adds a page. Requires: it is behind those that were added, and in the range. */
  add(offset: number): void {
    this.offsets[this.count++] = offset;
  }

  /** Adds pages. Requires: the same. */
  addAll(offsets: Uint32Array): void {
    this.offsets.set(offsets, this.count);
    this.count += offsets.length;
  }

  /** The next page that needs a frame. */
  get next(): number {
    return this.start + this.offsets[this.taken]!;
  }

  /** Whether that one is huge. */
  get isNextHuge(): boolean {
    return this.huge.size > 0 && this.huge.has(this.offsets[this.taken]!);
  }

  /** Small pages that need a frame, from the next one on until a huge one comes. */
  get nextSmall(): number {
    if (this.huge.size === 0) return this.count - this.taken;
    let at = this.taken;
    while (at < this.count && !this.huge.has(this.offsets[at]!)) at++;
    return at - this.taken;
  }

  /** The next page is a frame's. */
  give(frame: number): void {
    this.frames[this.taken++] = frame;
  }

  /** The next one, which is huge, becomes its pages. */
  split(): void {
    const { offsets, taken } = this;
    const offset = offsets[taken]!;
    this.huge.delete(offset);
    offsets.copyWithin(taken + HUGE_PAGES, taken + 1, this.count);
    for (let page = 0; page < HUGE_PAGES; page++) offsets[taken + page] = offset + page;
    this.count += HUGE_PAGES - 1;
  }

  /** First page. Requires: there is one. */
  get vpn(): number {
    return this.start + this.offsets[0]!;
  }

  /** Pages from the first one to the end of the last one, frames or none. */
  get span(): number {
    const last = this.offsets[this.count - 1]!;
    return last - this.offsets[0]! + (this.huge.has(last) ? HUGE_PAGES : 1);
  }
}

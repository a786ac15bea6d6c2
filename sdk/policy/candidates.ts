/**
 * What may go when a memory needs room, as columns: one choice among thousands makes no object for any of them. A policy of one's own is shown the same as objects, `VictimCandidate`.
 *
 * Invariants: row i of every column is candidate i, 0 <= i < count; the columns grow with the most candidates that there ever were, and do not shrink.
 */
/** A page, or huge page, that may go. */
export interface VictimCandidate {
  /** First frame in use. */
  readonly frame: number;
  /** 1, or 512: a huge page, or, where room for one is needed, a whole block, with what is in use of it. */
  readonly pages: number;
  /** Used, and written, by a device since marks were last taken; false of one whose marks were not. */
  readonly accessed: boolean;
  readonly dirty: boolean;
  /** One place where it is mapped: the space's number and the page. */
  readonly space: number;
  readonly vpn: number;
}

/** Candidates that there is room for when there is any. */
const FEW = 64;
/** Marks of a candidate. */
export const ACCESSED = 1;
export const DIRTY = 2;

/** Candidates, oldest first. */
export class Candidates {
  /** How many. */
  count = 0;
  frames: Uint32Array = new Uint32Array(0);
  pages: Uint32Array = new Uint32Array(0);
  /** ACCESSED | DIRTY. */
  marks: Uint8Array = new Uint8Array(0);
  /** -1: not mapped. */
  spaces: Int32Array = new Int32Array(0);
  vpns: Float64Array = new Float64Array(0);

  /** Has this many rows, for their owner to fill: what is in them is of no use. */
  make(count: number): this {
    this.count = count;
    if (count <= this.frames.length) return this;
    const room = Math.max(FEW, count, 2 * this.frames.length);
    this.frames = new Uint32Array(room);
    this.pages = new Uint32Array(room);
    this.marks = new Uint8Array(room);
    this.spaces = new Int32Array(room);
    this.vpns = new Float64Array(room);
    return this;
  }

  /** Those of a list. */
  of(list: readonly VictimCandidate[]): this {
    this.make(list.length);
    list.forEach(({ frame, pages, accessed, dirty, space, vpn }, i) => {
      this.frames[i] = frame;
      this.pages[i] = pages;
      this.marks[i] = (accessed ? ACCESSED : 0) | (dirty ? DIRTY : 0);
      this.spaces[i] = space;
      this.vpns[i] = vpn;
    });
    return this;
  }

  /** As objects. */
  list(): VictimCandidate[] {
    return Array.from({ length: this.count }, (_, i) => ({
      frame: this.frames[i]!,
      pages: this.pages[i]!,
      accessed: (this.marks[i]! & ACCESSED) !== 0,
      dirty: (this.marks[i]! & DIRTY) !== 0,
      space: this.spaces[i]!,
      vpn: this.vpns[i]!,
    }));
  }
}

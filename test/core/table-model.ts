import * as L from '../../assembly/layout.ts';

/** An entry as two u32. A page without one has none in the model. */
export interface Entry {
  readonly low: number;
  readonly high: number;
}

/** Widths of the levels of a radix table, leaves first. */
export type Geometry = readonly number[];

const orderIn = (high: number): number => (high & L.ENTRY_ORDER) >>> L.ENTRY_ORDER_SHIFT;
const withOrder = (high: number, order: number): number => ((high & ~L.ENTRY_ORDER) | (order << L.ENTRY_ORDER_SHIFT)) >>> 0;

/**
 * A radix table as a map from page number to entry, one for every base page. The leaf that a page belongs to is read off its order:
 * the aligned 2^order pages around it. Nothing here is fast, and nothing here knows a table page but `tablePages`, which counts them
 * from first principles.
 */
export class TableModel {
  readonly entries = new Map<number, Entry>();
  readonly shifts: number[] = [];
  readonly vpnBits: number;

  constructor(readonly geometry: Geometry) {
    let shift = 0;
    for (const bits of geometry) {
      this.shifts.push(shift);
      shift += bits;
    }
    this.vpnBits = shift;
  }

  /** The level whose entries make up a leaf of this order. */
  levelOf(order: number): number {
    return this.shifts.filter((shift) => shift <= order).length - 1;
  }

  #orderAt(vpn: number): number | undefined {
    const entry = this.entries.get(vpn);
    return entry && orderIn(entry.high);
  }

  /** Pages of the aligned 2^order pages around `vpn`. */
  *#around(vpn: number, order: number): Generator<number> {
    const start = vpn - (vpn % 2 ** order);
    for (let page = start; page < start + 2 ** order; page++) yield page;
  }

  #reorder(vpn: number, from: number, to: number): void {
    for (const page of this.#around(vpn, from)) {
      const entry = this.entries.get(page)!;
      this.entries.set(page, { low: entry.low, high: withOrder(entry.high, to) });
    }
  }

  /** Dissolves a group that has a border at `vpn` inside. */
  #loosen(vpn: number): void {
    const order = this.#orderAt(vpn);
    if (order === undefined || vpn % 2 ** order === 0) return;
    const shift = this.shifts[this.levelOf(order)]!;
    if (order > shift) this.#reorder(vpn, order, shift);
  }

  /** Dissolves groups and splits blocks until `vpn` is a border. */
  #cut(vpn: number): void {
    this.#loosen(vpn);
    for (let order = this.#orderAt(vpn); order && vpn % 2 ** order !== 0; order = this.#orderAt(vpn)) {
      this.#reorder(vpn, order, this.shifts[this.levelOf(order) - 1]!);
    }
  }

  #blockAt(vpn: number): boolean {
    const order = this.#orderAt(vpn);
    return order !== undefined && this.levelOf(order) > 0;
  }

  /** Pages before the first level-0 page that a block stands for. */
  #untilBlock(vpn: number, pages: number): number {
    const width = 2 ** this.geometry[0]!;
    for (let page = vpn; page < vpn + pages; page += width - (page % width)) if (this.#blockAt(page)) return page - vpn;
    return pages;
  }

  /** Writes words page by page, undefined being none; returns the pages done before a block stopped it. */
  write(vpn: number, words: readonly (Entry | undefined)[]): number {
    const { length } = words;
    if (length === 0) return 0;
    this.#loosen(vpn);
    this.#loosen(vpn + length);
    const done = this.#untilBlock(vpn, length);
    for (let i = 0; i < done; i++) {
      const word = words[i];
      if (word) this.entries.set(vpn + i, word);
      else this.entries.delete(vpn + i);
    }
    return done;
  }

  map(vpn: number, pages: number, low: number, high: number): number {
    return this.write(
      vpn,
      Array.from({ length: pages }, (_, i) => ({ low: low + i, high })),
    );
  }

  mapOrder(vpn: number, low: number, high: number, order: number): number {
    const now = this.#orderAt(vpn);
    if (now !== undefined && this.levelOf(now) > this.levelOf(order)) return 0;
    this.#loosen(vpn);
    this.#loosen(vpn + 2 ** order);
    for (let i = 0; i < 2 ** order; i++) this.entries.set(vpn + i, { low: low + i, high: withOrder(high, order) });
    return 2 ** order;
  }

  unmap(vpn: number, pages: number): number {
    let gone = 0;
    if (pages) {
      this.#cut(vpn);
      this.#cut(vpn + pages);
    }
    for (let page = vpn; page < vpn + pages; page++) gone += this.entries.delete(page) ? 1 : 0;
    return gone;
  }

  protect(vpn: number, pages: number, clear: number, set: number): number {
    let present = 0;
    if (pages) {
      this.#cut(vpn);
      this.#cut(vpn + pages);
    }
    for (let page = vpn; page < vpn + pages; page++) {
      const entry = this.entries.get(page);
      if (!entry || (entry.high & L.ENTRY_KIND) !== L.KIND_PRESENT) continue;
      this.entries.set(page, { low: entry.low, high: ((entry.high & ~clear) | set) >>> 0 });
      present++;
    }
    return present;
  }

  split(vpn: number): void {
    const order = this.#orderAt(vpn);
    if (order === undefined) return;
    const level = this.levelOf(order);
    const shift = this.shifts[level]!;
    if (order > shift) this.#reorder(vpn, order, shift);
    if (level > 0) this.#reorder(vpn, shift, this.shifts[level - 1]!);
  }

  collapse(vpn: number): boolean {
    const width = this.geometry[0]!;
    if (this.geometry.length < 2) return false;
    const pages = [...this.#around(vpn, width)].map((page) => this.entries.get(page));
    const first = pages[0];
    if (!first || first.low % 2 ** width !== 0 || this.#blockAt(vpn)) return false;
    if (!pages.every((entry, i) => entry?.low === first.low + i && entry.high === first.high)) return false;
    for (const page of this.#around(vpn, width)) {
      this.entries.set(page, { low: this.entries.get(page)!.low, high: withOrder(first.high, width) });
    }
    return true;
  }

  count(vpn: number, pages: number): number {
    let set = 0;
    for (let page = vpn; page < vpn + pages; page++) if (this.entries.has(page)) set++;
    return set;
  }

  next(vpn: number, pages: number): number {
    for (let page = vpn; page < vpn + pages; page++) if (this.entries.has(page)) return page;
    return -1;
  }

  /** `[offset, high without order, pages, frame]` of every run. */
  extents(vpn: number, pages: number): number[][] {
    const runs: number[][] = [];
    let open: number[] | undefined;
    for (let page = vpn; page < vpn + pages; page++) {
      const entry = this.entries.get(page);
      if (!entry) {
        open = undefined;
        continue;
      }
      const high = withOrder(entry.high, 0);
      if (open && open[1] === high && open[3]! + open[2]! === entry.low) open[2]!++;
      else runs.push((open = [page - vpn, high, 1, entry.low]));
    }
    return runs;
  }

  /** HMM word of a page as `[high, low]`; `ownerOf` says who owns a frame. */
  hmm(vpn: number, owner: number, ownerOf: (frame: number) => number): readonly [number, number] {
    const entry = this.entries.get(vpn);
    const kind = entry ? entry.high & L.ENTRY_KIND : L.KIND_NONE;
    if (!entry) return [0, 0];
    const order = orderIn(entry.high);
    const write = entry.high & L.ENTRY_WRITE ? L.HMM_WRITE : 0;
    const valid = ((1 << L.HMM_VALID_SHIFT) | write | (order << L.HMM_ORDER_SHIFT)) >>> 0;
    if (kind === L.KIND_PRESENT) return [valid, entry.low];
    if (kind === L.KIND_SPECIAL) return [L.HMM_ERROR, 0];
    if (kind !== L.KIND_DEVICE_PRIVATE) return [0, 0];
    if (ownerOf(entry.low) === owner) return [valid, entry.low];
    return [this.levelOf(order) > 0 ? L.HMM_ERROR : 0, 0];
  }

  /** Table pages that these entries need, the root included. */
  tablePages(): number {
    const top = this.geometry.length - 1;
    const pages = new Set([`${top}:0`]);
    for (const [vpn, entry] of this.entries) {
      for (let level = this.levelOf(orderIn(entry.high)); level < top; level++) {
        pages.add(`${level}:${Math.floor(vpn / 2 ** this.shifts[level + 1]!)}`);
      }
    }
    return pages.size;
  }
}

/** The elementary moves: a page comes to a slot and leaves it, a huge one is split, and who holds it. */
import {
  type Block,
  type Entry,
  HOST,
  type Memory,
  type Page,
  type Prot,
  SLOTS,
  type SpaceModel,
  WINDOW_SLOTS,
  windowOf,
} from './state.ts';

export function makePage(memory: Memory, words: readonly number[], isFile: boolean, weight: number): Page {
  return {
    words: [...words],
    memory,
    isFile,
    isCached: false,
    maps: 0,
    pins: 0,
    block: undefined,
    reader: undefined,
    weight,
    frame: -1,
    seen: -1,
  };
}

export function freshPage(slot: number, memory: Memory = HOST): Page {
  return makePage(memory, [0, 0, 0, 0], false, SLOTS[slot]!.pages);
}

export function freshBlock(window: number, memory: Memory, hugetlb = false): Page[] {
  const pages: Page[] = [];
  for (let i = 0; i < WINDOW_SLOTS; i++) pages.push(freshPage(window + i, memory));
  const block: Block = { pages, hugetlb };
  for (const page of pages) page.block = block;
  return pages;
}

/** Puts a page at a slot, in place of what is there. */
export function mapPage(space: SpaceModel, slot: number, page: Page | undefined, marks: Partial<Entry>): Entry {
  unmapPage(space, slot);
  const entry: Entry = {
    page,
    zero: false,
    hugeZero: false,
    special: false,
    write: false,
    own: false,
    noAccess: false,
    exclusive: false,
    cpuReads: false,
    ...marks,
  };
  if (page) page.maps++;
  space.entries[slot] = entry;
  return entry;
}

export function unmapPage(space: SpaceModel, slot: number): void {
  const page = space.entries[slot]?.page;
  if (page) page.maps--;
  space.entries[slot] = undefined;
}

export function zap(space: SpaceModel, from: number, to: number): void {
  cut(space, from, to);
  for (let slot = from; slot < to; slot++) unmapPage(space, slot);
}

/** Who holds the page's frame: of a huge one, who holds any of it. */
function refsOf(page: Page): number {
  if (!page.block) return page.maps + page.pins + (page.isCached ? 1 : 0);
  let refs = page.maps;
  for (const each of page.block.pages) refs += each.pins * each.weight;
  return refs;
}

export function isAlone(page: Page): boolean {
  return refsOf(page) === 1 && page.maps === 1;
}

export function canMove(page: Page): boolean {
  return !page.isFile && !page.block?.hugetlb && refsOf(page) === page.maps;
}

export function isPrivate(entry: Entry | undefined): boolean {
  return entry?.page?.memory.kind === 'private';
}

/** Present for the CPU, with some right. */
export function isPresent(entry: Entry | undefined): boolean {
  return entry !== undefined && !entry.special && !entry.exclusive && !entry.noAccess && !isPrivate(entry);
}

export function isHuge(entry: Entry | undefined): boolean {
  return entry !== undefined && (entry.hugeZero || entry.page?.block !== undefined);
}

export function isEmpty(space: SpaceModel, window: number): boolean {
  for (let i = 0; i < WINDOW_SLOTS; i++) if (space.entries[window + i]) return false;
  return true;
}

/** A huge page, or the huge page of zeros, becomes small ones, for everybody. */
export function split(space: SpaceModel, slot: number): void {
  const entry = space.entries[slot];
  if (entry?.hugeZero) {
    const window = windowOf(slot);
    for (let i = 0; i < WINDOW_SLOTS; i++) space.entries[window + i]!.hugeZero = false;
  }
  const block = entry?.page?.block;
  if (block) for (const page of block.pages) page.block = undefined;
}

/** Splits what reaches out of `[from, to)` at its borders. */
export function cut(space: SpaceModel, from: number, to: number): void {
  for (const slot of [from, to - 1]) {
    const window = windowOf(slot);
    if (window >= 0 && isHuge(space.entries[slot]) && (window < from || window + WINDOW_SLOTS > to)) split(space, slot);
  }
}

export function revokeExclusive(entry: Entry, prot: Prot): void {
  entry.exclusive = false;
  entry.noAccess = prot === 'none';
  entry.write = prot === 'rw' && entry.own;
}

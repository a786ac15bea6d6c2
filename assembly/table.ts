import {
  ENTRY_BYTES,
  H_STOP_ENTRY_HIGH,
  H_STOP_ENTRY_LOW,
  H_STOP_REASON,
  H_TABLES,
  H_TABLES_MAX,
  LEVEL_BITS_MAX,
  LEVELS_MAX,
  STOP_SPLIT,
  STOP_TABLES,
  TABLE_BITS,
  TABLE_BYTES,
  TABLE_DIRECTORY,
  TABLE_DIRECTORY_INDEX,
  TABLE_INDEX,
  TABLE_IS_HOME,
  TABLE_LEVELS,
  TABLE_NEAR,
  TABLE_NEAR_INDEX,
  TABLE_PAGES,
  TABLE_ROOT,
  TABLE_SHIFTS,
  TABLE_TABLES,
  TABLE_VPN_BITS,
  VPN_BITS,
} from './layout';
import { firstSet } from './run';
import { live, liveAdd, pageAlloc, pageFree, pageOf } from './table-page';

/**
 * A radix table: from page numbers to entries. Home tables and device tables are the same code; a table is named by the byte address of
 * its descriptor, an entry by its own byte address, called its slot.
 *
 * ```
 *  vpn of a 4 x 9 table   35      27 26      18 17       9 8        0
 *                        +----------+----------+----------+----------+
 *                        | level 3  | level 2  | level 1  | level 0  |     shift of level l: the bits below it
 *                        +----|-----+----|-----+----|-----+----|-----+
 *  root page  [ . . child . ] |          |          |          |
 *                     +-> [ . child . . ]           |          |           child entry: sign bit, address of the page below
 *                              +-> [ . . child . . leaf . ]    |           leaf above level 0: a block, 2^shift pages
 *                                          +-> [ . . leaf . . ]            leaf at level 0: one page
 * ```
 *
 * - A none entry is 64 zero bits. Page i of a block has the block's entry with frame + i.
 * - An order that no level has (64 KiB in a 9-bit leaf level) is a *group*: 2^order / 2^shift neighbouring entries, each with its
 *   own frame, all with the same ENTRY_ORDER.
 * - Live counts, TABLE_PAGES and TABLE_TABLES are exact after every call. No page but the root is empty, except between `writeLeaf`
 *   and `pruneLeaf`.
 * - A page number of `TABLE_VPN_BITS` or fewer bits is required wherever nothing else is said.
 *
 * Models: `pgd_t` ... `pte_t`, `walk_page_range`, `pte_alloc`, `free_pgtables`; contiguous groups are arm64's `contpte`.
 */

/** TABLE_BITS of a table of four levels of nine bits, the shape that has unrolled code. */
export const FOUR_NINES: u64 = 0x09090909;
/** Byte offset of an entry in a page of 512. */
export const OFFSET: u32 = 511 << 3;
const CHILD: u64 = (<u64>1) << 63;
/** Bits of a page number below a level-1 table page of such a table. */
const DIRECTORY_SHIFT: u64 = 18;
const NO_DIRECTORY: u64 = <u64>-1;

// ----------------------------------------------------------------------------------------------------------------- life

/**
 * A new, empty table. Nibble l of `bits` is the width of level l, level 0 the leaves; each is 1 to 9, their sum at most 36.
 * Returns the byte address of its descriptor, or 0 when every descriptor or every table page is taken.
 */
export function tableCreate(levels: u32, bits: u32, isHome: u32): u32 {
  assert(levels >= 1 && levels <= <u32>LEVELS_MAX);
  const first = load<u32>(H_TABLES),
    max = load<u32>(H_TABLES_MAX);
  for (let index: u32 = 0; index < max; index++) {
    const table = first + index * TABLE_BYTES;
    if (load<u32>(table, TABLE_ROOT)) continue;
    const root = pageAlloc();
    if (!root) return 0;
    memory.fill(table, 0, TABLE_BYTES);
    let shift: u32 = 0;
    for (let level: u32 = 0; level < levels; level++) {
      const width = (bits >> (level << 2)) & 15;
      assert(width >= 1 && width <= <u32>LEVEL_BITS_MAX);
      store<u8>(table + level, <u8>width, TABLE_BITS);
      store<u8>(table + level, <u8>shift, TABLE_SHIFTS);
      shift += width;
    }
    assert(shift <= <u32>VPN_BITS);
    store<u32>(table, root, TABLE_ROOT);
    store<u32>(table, levels, TABLE_LEVELS);
    store<u32>(table, index, TABLE_INDEX);
    store<u32>(table, 1, TABLE_TABLES);
    store<u32>(table, isHome, TABLE_IS_HOME);
    store<u32>(table, shift, TABLE_VPN_BITS);
    store<u64>(table, NO_DIRECTORY, TABLE_DIRECTORY_INDEX);
    return table;
  }
  return 0;
}

/** Frees every table page of a table and its descriptor. The frames that its entries name are the caller's matter. */
export function tableDestroy(table: u32): void {
  subtreeFree(table, load<u32>(table, TABLE_ROOT), load<u32>(table, TABLE_LEVELS) - 1);
  memory.fill(table, 0, TABLE_BYTES);
}

/** For the SDK: the entry of one page, 0 when there is none. Returns its high word; both words are at H_STOP_ENTRY_LOW and _HIGH. */
export function tableWalk(table: u32, vpn: f64): u32 {
  const entry = walk(table, <u64>(<i64>vpn)),
    high = <u32>(entry >> 32);
  store<u32>(H_STOP_ENTRY_LOW, <u32>entry);
  store<u32>(H_STOP_ENTRY_HIGH, high);
  return high;
}

// ---------------------------------------------------------------------------------------------------------------- shape

/** Width of a level in bits. */
export function levelBits(table: u32, level: u32): u32 {
  return load<u8>(table + level, TABLE_BITS);
}

/** log2 of the pages below one entry of a level. */
export function levelShift(table: u32, level: u32): u32 {
  return load<u8>(table + level, TABLE_SHIFTS);
}

/** Pages below one entry of a level. */
export function pagesBelow(table: u32, level: u32): u64 {
  const one: u64 = 1;
  return one << levelShift(table, level);
}

/** Whether an entry names a table page. */
export function isChild(entry: u64): bool {
  return <i64>entry < 0;
}

/** The entry for `vpn` in a table page of the given level. */
export function slotIn(table: u32, page: u32, level: u32, vpn: u64): u32 {
  const index = (<u32>(vpn >> levelShift(table, level))) & ((1 << levelBits(table, level)) - 1);
  return page + index * ENTRY_BYTES;
}

// ------------------------------------------------------------------------------------------------------------------ walk

/** The entry of a page, that of a block adjusted to name the page's own frame; 0 when there is none. Any page number is allowed. */
export function walk(table: u32, vpn: u64): u64 {
  const directory = Walk.directory(table, vpn);
  if (directory) {
    const entry = load<u64>(directory + ((<u32>(vpn >> 6)) & OFFSET));
    if (<i64>entry < 0) return load<u64>(<u32>entry + ((<u32>(vpn << 3)) & OFFSET));
  }
  // A block, a hole above the leaves, or another shape.
  return walkSteps(table, vpn);
}

function walkSteps(table: u32, vpn: u64): u64 {
  if (vpn >> load<u32>(table, TABLE_VPN_BITS)) return 0;
  return entryAt(table, seekSteps(table, vpn), vpn);
}

/**
 * Where the entry that decides about a page is: none or a leaf, never a child. Its slot in the low word, its level in the high word.
 */
export function seek(table: u32, vpn: u64): u64 {
  return Walk.isNear(table, vpn) ? seekBelow(load<u32>(table, TABLE_DIRECTORY), vpn) : seekElsewhere(table, vpn);
}

/** `seek` where the level-1 table page is known. */
function seekBelow(directory: u32, vpn: u64): u64 {
  const slot = directory + ((<u32>(vpn >> 6)) & OFFSET),
    entry = load<u64>(slot);
  return <i64>entry < 0 ? at(0, <u32>entry + ((<u32>(vpn << 3)) & OFFSET)) : at(1, slot);
}

/** `seek` where it is not the one last walked to, or where there is none. */
function seekElsewhere(table: u32, vpn: u64): u64 {
  if (load<u64>(table, TABLE_BITS) != FOUR_NINES) return seekSteps(table, vpn);
  const directory = directoryFromRoot(table, vpn);
  if (directory) return seekBelow(directory, vpn);
  const slot = load<u32>(table, TABLE_ROOT) + ((<u32>(vpn >> 24)) & OFFSET),
    entry = load<u64>(slot);
  return <i64>entry < 0 ? at(2, <u32>entry + ((<u32>(vpn >> 15)) & OFFSET)) : at(3, slot);
}

/** `seek` in a table of any shape. Whoever serves a fault walks to one page again and again, so the last level-0 table page is remembered (TABLE_NEAR) until one of the table's pages goes. */
function seekSteps(table: u32, vpn: u64): u64 {
  const near = load<u32>(table, TABLE_NEAR),
    width = <u64>levelBits(table, 0);
  if (near && load<u64>(table, TABLE_NEAR_INDEX) == vpn >> width) {
    const slot = near + (((<u32>vpn) & ((1 << (<u32>width)) - 1)) << 3);
    if (!ASC_NO_ASSERT) assert(slot == <u32>seekFromRoot(table, vpn));
    return at(0, slot);
  }
  return seekFromRoot(table, vpn);
}

function seekFromRoot(table: u32, vpn: u64): u64 {
  let level = load<u32>(table, TABLE_LEVELS) - 1,
    page = load<u32>(table, TABLE_ROOT),
    slot = slotIn(table, page, level, vpn);
  while (level) {
    const entry = load<u64>(slot);
    if (!isChild(entry)) return at(level, slot);
    level--;
    page = <u32>entry;
    slot = slotIn(table, page, level, vpn);
  }
  store<u32>(table, page, TABLE_NEAR);
  store<u64>(table, vpn >> (<u64>levelBits(table, 0)), TABLE_NEAR_INDEX);
  return at(0, slot);
}

/** The entry of a page, that of a block adjusted to name the page's own frame, from where it is. Requires: `place` is what `seek` said of the page. */
export function entryAt(table: u32, place: u64, vpn: u64): u64 {
  const entry = load<u64>(<u32>place),
    level = <u32>(place >> 32);
  return level && entry ? entry + (vpn & (pagesBelow(table, level) - 1)) : entry;
}

/** Whether a table is wide enough for a page number. */
export function isWithin(table: u32, vpn: u64): bool {
  return load<u64>(table, TABLE_BITS) == FOUR_NINES || !(vpn >> load<u32>(table, TABLE_VPN_BITS));
}

function at(level: u32, slot: u32): u64 {
  return ((<u64>level) << 32) | slot;
}

/** The slot that decides about a page, at whatever level: `seek` without the level. Never 0. */
export function slotOf(table: u32, vpn: u64): u32 {
  return <u32>seek(table, vpn);
}

/** The level-0 table page that covers a page, or 0 when there is none or a block is in the way. */
export function leafOf(table: u32, vpn: u64): u32 {
  const directory = Walk.directory(table, vpn);
  if (directory) {
    const entry = load<u64>(directory + ((<u32>(vpn >> 6)) & OFFSET));
    return <i64>entry < 0 ? <u32>entry : 0;
  }
  const place = seekElsewhere(table, vpn);
  return <u32>(place >> 32) ? 0 : pageOf(<u32>place);
}

/** The level-0 slot of a page, or 0 when it has no level-0 table page or a block is in the way. */
export function leafSlot(table: u32, vpn: u64): u32 {
  return Walk.leafSlot(table, vpn);
}

function leafSlotSteps(table: u32, vpn: u64): u32 {
  const place = seekSteps(table, vpn);
  return <u32>(place >> 32) ? 0 : <u32>place;
}

/** `Walk.directory`, where it is not the one last walked to. It is remembered (TABLE_DIRECTORY) until one of the table's pages goes: half of a walk is the same for every page of 1 GiB. */
function directoryFromRoot(table: u32, vpn: u64): u32 {
  if (load<u64>(table, TABLE_BITS) != FOUR_NINES) return 0;
  let entry = load<u64>(load<u32>(table, TABLE_ROOT) + ((<u32>(vpn >> 24)) & OFFSET));
  if (<i64>entry >= 0) return 0;
  entry = load<u64>(<u32>entry + ((<u32>(vpn >> 15)) & OFFSET));
  if (<i64>entry >= 0) return 0;
  store<u32>(table, <u32>entry, TABLE_DIRECTORY);
  store<u64>(table, vpn >> DIRECTORY_SHIFT, TABLE_DIRECTORY_INDEX);
  return <u32>entry;
}

/** Walks that are written into their callers. */
export class Walk {
  /** `leafSlot`. */
  @inline
  static leafSlot(table: u32, vpn: u64): u32 {
    const directory = Walk.directory(table, vpn);
    return directory ? Walk.leafSlotBelow(directory, vpn) : leafSlotSteps(table, vpn);
  }

  /** `leafSlot` of a page below the level-1 table page that was last walked to, and 0 for any other. Calls nothing: for loops, which `leafSlot` makes slower by the calls that it does not even make. */
  @inline
  static nearLeafSlot(table: u32, vpn: u64): u32 {
    return Walk.isNear(table, vpn) ? Walk.leafSlotBelow(load<u32>(table, TABLE_DIRECTORY), vpn) : 0;
  }

  /** `leafSlot` of a page below this level-1 table page. */
  @inline
  private static leafSlotBelow(directory: u32, vpn: u64): u32 {
    const entry = load<u64>(directory + ((<u32>(vpn >> 6)) & OFFSET));
    // 0 but for a child.
    return (<u32>entry + ((<u32>(vpn << 3)) & OFFSET)) & (<u32>((<i64>entry) >> 63));
  }

  /** The level-1 table page of a page, or 0 where it has none, and in a table of another shape. */
  @inline
  static directory(table: u32, vpn: u64): u32 {
    return Walk.isNear(table, vpn) ? load<u32>(table, TABLE_DIRECTORY) : directoryFromRoot(table, vpn);
  }

  /** Whether a page is below the level-1 table page that was last walked to. */
  @inline
  static isNear(table: u32, vpn: u64): bool {
    const near = load<u64>(table, TABLE_DIRECTORY_INDEX) == vpn >> DIRECTORY_SHIFT;
    if (!ASC_NO_ASSERT) assert(!near || load<u32>(table, TABLE_DIRECTORY) == directoryFromRoot(table, vpn));
    return near;
  }
}

/**
 * The first page after the hole at `page` that some entry of the same table page says something about, or `end` if that comes first.
 * Absent subtrees cost one compare each. Requires: `place` is what `seek` said of `page`, its entry is none, page < end.
 */
export function afterHole(table: u32, place: u64, page: u64, end: u64): u64 {
  const slot = <u32>place,
    level = <u32>(place >> 32),
    shift = <u64>levelShift(table, level),
    index = page >> shift;
  const left = pageOf(slot) + (ENTRY_BYTES << levelBits(table, level)) - slot,
    wanted = (((end - 1) >> shift) - index + 1) * ENTRY_BYTES;
  const next = firstSet(slot + ENTRY_BYTES, slot + (wanted < left ? <u32>wanted : left));
  const after = (index + ((next - slot) >> 3)) << shift;
  return after < end ? after : end;
}

/** The first page after the block at `page`, or `end` if that comes first. Requires: as `afterHole`, but the entry is a leaf. */
export function afterBlock(table: u32, place: u64, page: u64, end: u64): u64 {
  const after = (page | (pagesBelow(table, <u32>(place >> 32)) - 1)) + 1;
  return after < end ? after : end;
}

/** The first page after `page` that another level-0 table page covers, or `end` if that comes first. */
export function afterLeafPage(table: u32, page: u64, end: u64): u64 {
  const after = (page | ((1 << levelBits(table, 0)) - 1)) + 1;
  return after < end ? after : end;
}

// ------------------------------------------------------------------------------------------------------------- building

/** The level-0 slot of a page; missing table pages are made. 0: see `slotMake`. */
export function makeLeafSlot(table: u32, vpn: u64): u32 {
  const place = seek(table, vpn);
  return <u32>(place >> 32) ? slotMake(table, vpn, 0) : <u32>place;
}

/**
 * The slot of a page at a given level; missing table pages are made. The slot may hold a child entry.
 * Returns 0 with H_STOP_REASON STOP_TABLES when the pages run out, STOP_SPLIT when a block covers the page; nothing has changed then.
 */
export function slotMake(table: u32, vpn: u64, level: u32): u32 {
  let above = load<u32>(table, TABLE_LEVELS) - 1,
    slot = slotIn(table, load<u32>(table, TABLE_ROOT), above, vpn);
  while (above > level) {
    const entry = load<u64>(slot);
    let child = <u32>entry;
    if (!isChild(entry)) {
      if (entry) {
        store<u32>(H_STOP_REASON, STOP_SPLIT);
        return 0;
      }
      child = pageAlloc();
      if (!child) {
        store<u32>(H_STOP_REASON, STOP_TABLES);
        pruneLeaf(table, vpn);
        return 0;
      }
      link(table, slot, child);
    }
    slot = slotIn(table, child, --above, vpn);
  }
  return slot;
}

/** Hangs a table page below a none entry. */
export function link(table: u32, slot: u32, page: u32): void {
  assert(!load<u64>(slot));
  liveAdd(pageOf(slot), 1);
  relink(table, slot, page);
}

/** Hangs a table page below an entry in place of the block that was there. */
export function relink(table: u32, slot: u32, page: u32): void {
  store<u64>(slot, CHILD | page);
  store<u32>(table, load<u32>(table, TABLE_TABLES) + 1, TABLE_TABLES);
}

/** Counts entries of a table page, and the base pages that they map, in (or out, by negative numbers). */
export function count(table: u32, page: u32, entries: u32, pages: u32): void {
  liveAdd(page, entries);
  store<u32>(table, load<u32>(table, TABLE_PAGES) + pages, TABLE_PAGES);
}

/**
 * Writes a level-0 entry, none included. An emptied page stays until `pruneLeaf`.
 * Requires: the old entry is not one of a group, or the caller rewrites the whole group (`rangeSplit` dissolves one).
 */
export function writeLeaf(table: u32, slot: u32, entry: u64): void {
  const delta = u32(entry != 0) - u32(load<u64>(slot) != 0);
  store<u64>(slot, entry);
  if (delta) count(table, pageOf(slot), delta, delta);
}

/** Writes a leaf entry, none included, of any level; otherwise as `writeLeaf`. Requires: the old entry is not a child. */
export function writeEntry(table: u32, slot: u32, level: u32, entry: u64): void {
  const old = load<u64>(slot),
    delta = u32(entry != 0) - u32(old != 0);
  assert(!isChild(old) && !isChild(entry));
  store<u64>(slot, entry);
  if (delta) count(table, pageOf(slot), delta, delta << levelShift(table, level));
}

// -------------------------------------------------------------------------------------------------------- taking apart

/** Frees the table pages on the way to a page that have become empty, the root excepted. */
export function pruneLeaf(table: u32, vpn: u64): void {
  prune(table, load<u32>(table, TABLE_ROOT), load<u32>(table, TABLE_LEVELS) - 1, vpn, false);
}

/** Frees the level-0 table page of a page with all entries that are in it, and those above it that become empty. Requires: it is not the root. */
export function dropLeafPage(table: u32, vpn: u64): void {
  prune(table, load<u32>(table, TABLE_ROOT), load<u32>(table, TABLE_LEVELS) - 1, vpn, true);
}

/** Prunes below a table page; true when the page itself is empty now, or is to go anyway (`whole`, of level 0). */
function prune(table: u32, page: u32, level: u32, vpn: u64, whole: bool): bool {
  if (level) {
    const slot = slotIn(table, page, level, vpn),
      entry = load<u64>(slot);
    if (isChild(entry) && prune(table, <u32>entry, level - 1, vpn, whole)) {
      store<u64>(slot, 0);
      liveAdd(page, -1);
      pageDrop(table, <u32>entry);
    }
  }
  return !live(page) || (whole && !level);
}

/** Frees a table page and everything below it. Returns the base pages that were mapped there; TABLE_PAGES is the caller's to set. */
export function subtreeFree(table: u32, page: u32, level: u32): u32 {
  let left = live(page),
    mapped: u32 = 0;
  if (!level) mapped = left;
  else {
    const pages: u32 = 1 << levelShift(table, level);
    for (let slot = page; left; slot += ENTRY_BYTES) {
      const entry = load<u64>(slot);
      if (!entry) continue;
      left--;
      mapped += isChild(entry) ? subtreeFree(table, <u32>entry, level - 1) : pages;
    }
  }
  pageDrop(table, page);
  return mapped;
}

/** Frees one table page of a table. Requires: no entry names it any more. */
export function pageDrop(table: u32, page: u32): void {
  pageFree(page);
  store<u32>(table, 0, TABLE_NEAR);
  store<u64>(table, NO_DIRECTORY, TABLE_DIRECTORY_INDEX);
  store<u32>(table, load<u32>(table, TABLE_TABLES) - 1, TABLE_TABLES);
}

import { ENTRY_BYTES, ENTRY_ORDER, ENTRY_ORDER_SHIFT, H_STOP_REASON, PAGE_BYTES, STOP_TABLES } from './layout';
import { fillRun } from './run';
import { levelBits, levelShift, pagesBelow, relink, seek } from './table';
import { liveAdd, pageTake } from './table-page';

/**
 * Where the border of a range falls inside a big leaf, the leaf is cut: a group is dissolved into its entries, a block becomes a
 * table page of entries one level down, and so on until the border is between two leaves.
 *
 * ```
 *  old      [              one 2 MiB block               ]      [ 64 KiB group ]
 *  border             ^                                             ^
 *  new      [.|.|.|.|.|.|.|.|.|.| 512 pages ... |.|.|.|.|.]      [.|.|.|.| 16 pages, order 0 |.|.]
 * ```
 *
 * No page changes its frame, its kind or its rights by it; only ENTRY_ORDER tells the difference.
 *
 * Models: `__split_huge_pmd`, arm64 `contpte_convert`.
 */

const ORDER: u64 = (<u64>ENTRY_ORDER) << 32;

/** log2 of the pages of the leaf that an entry belongs to: its level's, or its group's. */
export function orderOf(entry: u64, shift: u32): u32 {
  const order = ((<u32>(entry >> 32)) & ENTRY_ORDER) >> ENTRY_ORDER_SHIFT;
  return order > shift ? order : shift;
}

/** An entry with the order that its level has by itself. */
export function withOrder(entry: u64, order: u32): u64 {
  return (entry & ~ORDER) | ((<u64>(order << ENTRY_ORDER_SHIFT)) << 32);
}

/**
 * Dissolves the group that the entry at `slot` is one of: each of its entries becomes a leaf of its own. Words that a caller wrote
 * may carry any order, so nothing outside the table page and nothing of another order is touched.
 */
export function ungroup(table: u32, slot: u32, level: u32): void {
  const shift = levelShift(table, level),
    order = load<u64>(slot) & ORDER,
    bits = levelBits(table, level);
  let wide = orderOf(order, shift) - shift;
  if (wide > bits) wide = bits;
  const bytes: u32 = ENTRY_BYTES << wide;
  for (let each = slot & ~(bytes - 1), end = each + bytes; each < end; each += ENTRY_BYTES) {
    const entry = load<u64>(each);
    if ((entry & ORDER) == order) store<u64>(each, withOrder(entry, shift));
  }
}

/** Dissolves the group, if any, that has `vpn` inside and not at its start. Blocks stay. */
export function loosen(table: u32, vpn: u64): void {
  const place = seek(table, vpn),
    slot = <u32>place,
    level = <u32>(place >> 32),
    entry = load<u64>(slot);
  if (!(entry & ORDER)) return;
  const shift = levelShift(table, level),
    order = orderOf(entry, shift),
    one: u64 = 1;
  if (order > shift && vpn & ((one << order) - 1)) ungroup(table, slot, level);
}

/**
 * Makes `vpn` a border between two leaves. Takes a table page for every level that a block comes down.
 * Returns 1, or 0 with H_STOP_REASON STOP_TABLES when the pages run out; the block is then cut less deeply, or not at all.
 */
export function cut(table: u32, vpn: u64): u32 {
  loosen(table, vpn);
  let place = seek(table, vpn),
    level = <u32>(place >> 32);
  while (level && load<u64>(<u32>place) && vpn & (pagesBelow(table, level) - 1)) {
    if (!splitBlock(table, <u32>place, level)) return 0;
    place = seek(table, vpn);
    level = <u32>(place >> 32);
  }
  return 1;
}

/**
 * Replaces the block at `slot` by a full table page of leaves one level down. Returns 1, or 0 with STOP_TABLES.
 * Requires: it is not one of a group.
 */
export function splitBlock(table: u32, slot: u32, level: u32): u32 {
  const page = pageTake();
  if (!page) {
    store<u32>(H_STOP_REASON, STOP_TABLES);
    return 0;
  }
  const shift = levelShift(table, level - 1),
    entries: u32 = 1 << levelBits(table, level - 1),
    bytes = entries * ENTRY_BYTES;
  fillRun(page, entries, withOrder(load<u64>(slot), shift), 1 << shift);
  memory.fill(page + bytes, 0, PAGE_BYTES - bytes);
  liveAdd(page, entries);
  relink(table, slot, page);
  return 1;
}

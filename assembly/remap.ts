import { ENTRY_PROMISES, ENTRY_KIND, H_STOP_REASON, KIND_PRESENT, STOP_NONE, TABLE_INDEX, TABLE_TLB } from './layout';
import { named } from './cow';
import { splitHuge } from './huge';
import { nextSet } from './range';
import { rmapRename } from './rmap';
import { live, pageOf } from './table-page';
import { pagesBelow, pruneLeaf, seek, slotMake, writeEntry } from './table';
import { tlbDropRange } from './tlb';

/**
 * Moving entries from one range of a space to another, frames and bytes staying where they are.
 *
 * Models: `move_page_tables`, `move_huge_pmd`.
 */

/**
 * Moves the entries of `[from, from + pages)` to `[to, to + pages)`, which must be empty and must not overlap. Blocks stay blocks where both sides are aligned, else they are split first.
 * Reverse maps follow; migration entries move too. Returns the pages dealt with: fewer only with STOP_TABLES or STOP_LOCKED (see `splitHuge`); call again from there.
 */
export function moveEntries(table: u32, from: f64, to: f64, pages: u32): u32 {
  const first = <u64>from,
    end = first + pages,
    shift = <u64>to - first,
    index = load<u32>(table, TABLE_INDEX),
    tlb = load<u32>(table, TABLE_TLB);
  let page = first;
  while (page < end) {
    page = nextSet(table, page, end);
    if (page == end) break;
    const place = seek(table, page),
      slot = <u32>place,
      level = <u32>(place >> 32),
      n = pagesBelow(table, level);
    // The range begins or ends inside a block, or the new place cannot have it.
    if (level && ((page | shift) & (n - 1) || page + n > end)) {
      if (!splitHuge(table, <f64>page)) return <u32>(page - first);
      continue;
    }
    const into = slotMake(table, page + shift, level);
    if (!into) return <u32>(page - first);
    let entry = load<u64>(slot);
    const high = <u32>(entry >> 32);
    // The record that the old mapping gives back is there for the new one.
    if (named(high)) rmapRename(<u32>entry, index, page, page + shift);
    // The device's translation of the old address is gone, and the promise to it with that.
    if ((high & ENTRY_KIND) == KIND_PRESENT) entry &= ~((<u64>ENTRY_PROMISES) << 32);
    writeEntry(table, into, level, entry);
    writeEntry(table, slot, level, 0);
    if (tlb) tlbDropRange(tlb, page, n);
    if (!live(pageOf(slot))) pruneLeaf(table, page);
    page += n;
  }
  store<u32>(H_STOP_REASON, STOP_NONE);
  return pages;
}

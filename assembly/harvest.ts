import {
  ENTRY_ACCESSED,
  ENTRY_BYTES,
  ENTRY_DIRTY,
  ENTRY_KIND,
  H_STOP_INDEX,
  H_STOP_REASON,
  H_STOP_VPN_HIGH,
  H_STOP_VPN_LOW,
  HARVESTED_BYTES,
  HARVESTED_DIRTY_SHIFT,
  HARVEST_BYTES,
  KIND_PRESENT,
  STOP_FULL,
  STOP_NONE,
  TABLE_VPN_BITS,
} from './layout';
import { afterBlock, afterHole, afterLeafPage, pagesBelow, seek, slotOf } from './table';
import { goes } from './victims';

const MARKS: u32 = ENTRY_ACCESSED | ENTRY_DIRTY;

/**
 * Takes the accessed and dirty marks of the present pages of a range and clears them, as runs of pages with the same marks: at most `max` of them go to `output`;
 * returns how many. H_STOP_INDEX is the number of pages that have been dealt with; with H_STOP_REASON STOP_FULL, go on at `vpn + H_STOP_INDEX`.
 *
 * ```
 *  run   0  offset of its first page from the start of the range   4  pages   8  ENTRY_ACCESSED | ENTRY_DIRTY
 * ```
 *
 * A block has one pair of marks for all of its pages. One across a border of the range keeps them, since some are not of this range. Whoever caches translations of the
 * table forgets them afterwards: a page is marked when it is looked up, not when it is used again.
 *
 * Requires: max > 0; the range ends at or below 2^TABLE_VPN_BITS. Models: `iommu_read_and_clear_dirty`, `ptep_test_and_clear_young`.
 */
export function tableHarvest(table: u32, vpn: f64, pages: u32, output: u32, max: u32): u32 {
  assert(max > 0);
  const first = <u64>(<i64>vpn),
    end = first + pages,
    limit = output + max * HARVEST_BYTES;
  let page = first,
    at = output,
    // What would continue the last run.
    next: u64 = first,
    last: u32 = 0;
  store<u32>(H_STOP_REASON, STOP_NONE);
  while (page < end) {
    const place = seek(table, page),
      level = <u32>(place >> 32);
    let slot = <u32>place,
      after: u64,
      step: u64 = 1;
    if (!level) after = afterLeafPage(table, page, end);
    else if (!load<u64>(slot)) {
      page = afterHole(table, place, page, end);
      continue;
    } else {
      after = afterBlock(table, place, page, end);
      step = after - page;
    }
    for (; page < after; page += step, slot += 8) {
      const high = load<u32>(slot, 4),
        marks = high & MARKS;
      if (!marks || (high & ENTRY_KIND) != KIND_PRESENT) continue;
      if (page == next && marks == last) store<u32>(at - HARVEST_BYTES, load<u32>(at - HARVEST_BYTES, 4) + <u32>step, 4);
      else if (at == limit) {
        store<u32>(H_STOP_REASON, STOP_FULL);
        store<u32>(H_STOP_INDEX, <u32>(page - first));
        return max;
      } else {
        store<u32>(at, <u32>(page - first));
        store<u32>(at, <u32>step, 4);
        store<u32>(at, marks, 8);
        at += HARVEST_BYTES;
      }
      next = page + step;
      last = marks;
      if (!level || step == pagesBelow(table, level)) store<u32>(slot, high & ~MARKS, 4);
    }
  }
  store<u32>(H_STOP_INDEX, pages);
  return (at - output) / HARVEST_BYTES;
}

/** Sets marks of the entry of a page, if it is present; of a block, those of all its pages. */
export function tableMark(table: u32, vpn: f64, marks: u32): void {
  const slot = slotOf(table, <u64>(<i64>vpn)),
    high = slot ? load<u32>(slot, 4) : 0;
  if ((high & ENTRY_KIND) == KIND_PRESENT) store<u32>(slot, high | (marks & MARKS), 4);
}

/**
 * The same of the pages of a device table whose frames may go from a node, as `victims` says it, from page `from` on: all others keep their marks. A block of which not all may go keeps its own, and they are told of those
 * that may. 8 bytes a page at `output`: HARVESTED_BYTES. Returns how many; with H_STOP_REASON STOP_FULL go on from the page in H_STOP_VPN_*. Requires: max > 0.
 */
export function harvestVictims(table: u32, from: f64, node: u32, output: u32, max: u32, passed: u32, passedCount: u32, payer: u32): u32 {
  assert(max > 0);
  const end = (<u64>1) << load<u32>(table, TABLE_VPN_BITS);
  let page = <u64>(<i64>from),
    found: u32 = 0;
  store<u32>(H_STOP_REASON, STOP_NONE);
  while (page < end) {
    const place = seek(table, page);
    let slot = <u32>place;
    if (!(place >> 32)) {
      for (const after = afterLeafPage(table, page, end); page < after; page++, slot += ENTRY_BYTES) {
        // Most have no marks.
        while (page + 8 <= after && !anyMarks(slot)) {
          page += 8;
          slot += 8 * ENTRY_BYTES;
        }
        if (page == after) break;
        const high = load<u32>(slot, 4);
        if (!isMarked(high) || !goes(load<u32>(slot), node, passed, passedCount, payer)) continue;
        if (found == max) return fullAt(page, found);
        tell(output, found++, page, high);
        store<u32>(slot, high & ~MARKS, 4);
      }
      continue;
    }
    if (!load<u64>(slot)) {
      page = afterHole(table, place, page, end);
      continue;
    }
    const after = afterBlock(table, place, page, end),
      high = load<u32>(slot, 4);
    if (isMarked(high)) {
      const size = <u32>pagesBelow(table, <u32>(place >> 32)),
        first = after - size,
        frame = load<u32>(slot);
      for (; page < after; page++) {
        if (!goes(frame + <u32>(page - first), node, passed, passedCount, payer)) continue;
        if (found == max) return fullAt(page, found);
        tell(output, found++, page, high);
      }
      let going: u32 = 0;
      while (going < size && goes(frame + going, node, passed, passedCount, payer)) going++;
      if (going == size) store<u32>(slot, high & ~MARKS, 4);
    }
    page = after;
  }
  return found;
}

function isMarked(high: u32): bool {
  return (high & MARKS) != 0 && (high & ENTRY_KIND) == KIND_PRESENT;
}

/** Whether one of eight entries has marks. */
function anyMarks(slot: u32): bool {
  const low = v128.or(v128.load(slot), v128.load(slot, 16)),
    high = v128.or(v128.load(slot, 32), v128.load(slot, 48));
  return v128.any_true(v128.and(v128.or(low, high), i64x2.splat((<u64>MARKS) << 32)));
}

function tell(output: u32, index: u32, page: u64, high: u32): void {
  store<u64>(output + index * HARVESTED_BYTES, page | ((<u64>((high & ENTRY_DIRTY) != 0)) << (32 + HARVESTED_DIRTY_SHIFT)));
}

function fullAt(page: u64, found: u32): u32 {
  store<u32>(H_STOP_REASON, STOP_FULL);
  store<u32>(H_STOP_VPN_LOW, <u32>page);
  store<u32>(H_STOP_VPN_HIGH, <u32>(page >> 32));
  return found;
}

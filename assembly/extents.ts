import { ENTRY_BYTES, ENTRY_ORDER, EXTENT_BYTES, H_STOP_INDEX, H_STOP_REASON, STOP_FULL, STOP_NONE } from './layout';
import { runEnd } from './run';
import { afterBlock, afterHole, afterLeafPage, pagesBelow, seek } from './table';

/**
 * What a range looks like as runs: pages that follow each other, with frames that do, and with the same high word.
 *
 * ```
 *  extent   0  offset of its first page from the start of the range   4  high word, order bits 0   8  pages   12  first frame
 *
 *  entries  [ 7 | 8 | 9 | . | . | 4 | 5 ]     by frame; .: none
 *  extents  { 0, h, 3, 7 }  { 5, h, 2, 4 }
 * ```
 *
 * How the leaves are cut (pages, groups, blocks) does not show. Holes are no extents, and table that is absent costs nothing.
 */

const ORDER: u64 = (<u64>ENTRY_ORDER) << 32;

const HIGH: u64 = (<u64>0xffffffff) << 32;

/**
 * Writes at most `max` extents of the range to `output`; returns how many. H_STOP_INDEX is the number of pages they cover. When
 * `max` is reached before the end of the range, H_STOP_REASON is STOP_FULL: act on them, go on at `vpn + H_STOP_INDEX`.
 *
 * Requires: max > 0; the range ends at or below 2^TABLE_VPN_BITS.
 */
export function snapshotExtents(table: u32, vpn: f64, pages: u32, output: u32, max: u32): u32 {
  assert(max > 0);
  const first = <u64>(<i64>vpn),
    end = first + pages,
    limit = output + max * EXTENT_BYTES;
  let page = first,
    at = output;
  // A stretch is a run or a hole. `next`: the entry that would continue it. `step`: 1 in a run, 0 in a hole. A stretch is written when it
  // opens, hole or not; its length when it closes, and only a run moves the output on.
  let start: u32 = 0,
    next: u64 = 0,
    step: u32 = 0;
  while (page < end) {
    const place = seek(table, page),
      from = <u32>place,
      offset = <u32>(page - first);
    let entry = load<u64>(from),
      slot = from,
      n: u32,
      last = from + ENTRY_BYTES,
      after: u64;
    if (!(place >> 32)) {
      after = afterLeafPage(table, page, end);
      last = from + ((<u32>(after - page)) << 3);
      // Vectors only here: most tables are one run from their start, and trying again after every mismatch costs more than it finds.
      n = (runEnd(from, last, entry, u64(entry != 0)) - from) >> 3;
    } else if (!entry) {
      after = afterHole(table, place, page, end);
      n = <u32>(after - page);
    } else {
      after = afterBlock(table, place, page, end);
      n = <u32>(after - page);
      entry += page & (pagesBelow(table, <u32>(place >> 32)) - 1);
    }
    while (true) {
      if (entry != next && (entry ^ next) & ~ORDER) {
        const here = offset + ((slot - from) >> 3);
        store<u32>(at, here - start, 8);
        at += step * EXTENT_BYTES;
        if (at == limit) {
          store<u32>(H_STOP_REASON, STOP_FULL);
          store<u32>(H_STOP_INDEX, here);
          return max;
        }
        start = here;
        step = u32(entry != 0);
        store<u32>(at, here);
        store<u32>(at, <u32>((entry & ~ORDER) >> 32), 4);
        store<u32>(at, <u32>entry, 12);
      }
      next = entry + step * n;
      slot += n << 3;
      if (slot >= last) break;
      entry = load<u64>(slot);
      n = 1;
      if (!step || !entry || !((entry ^ next) & ~ORDER)) continue;
      // One run ends where another begins, which mostly ends at once as well: each of these takes two stores, its length of one page among them.
      let here = offset + ((slot - from) >> 3);
      store<u32>(at, here - start, 8);
      do {
        at += EXTENT_BYTES;
        if (at == limit) {
          store<u32>(H_STOP_REASON, STOP_FULL);
          store<u32>(H_STOP_INDEX, here);
          return max;
        }
        store<u64>(at, (entry & HIGH & ~ORDER) | here);
        store<u64>(at, (entry << 32) | 1, 8);
        start = here++;
        next = entry + 1;
        slot += ENTRY_BYTES;
        if (slot >= last) break;
        entry = load<u64>(slot);
      } while (entry && (entry ^ next) & ~ORDER);
      if (slot >= last) break;
    }
    page = after;
  }
  store<u32>(at, pages - start, 8);
  store<u32>(H_STOP_REASON, STOP_NONE);
  store<u32>(H_STOP_INDEX, pages);
  return (at - output) / EXTENT_BYTES + step;
}

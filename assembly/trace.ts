import { ACCESS_LENGTH, ACCESS_LENGTH_SHIFT, ACCESS_SIDE_SHIFT, ACCESS_WRITE, HUGE_ORDER, PAGE_BYTES, PAGE_SHIFT } from './layout';
import { addressOf, moreOf, unitOf } from './packed-access';

/** Loops over packed accesses that a replay needs before it runs them. */

/** Offset of a block's last byte. */
const BLOCK_MASK: u32 = (PAGE_BYTES << HUGE_ORDER) - 1;
/** Accesses looked at in the table before one block is tried again, less one: a power of two. */
const TRIED: u32 = 63;
/** Where in an access its block is. */
const BLOCK_BITS: u64 = 0xffffffe00000;
/** Where in an access ACCESS_WRITE is. */
const WRITE_SHIFT: u32 = 60;
/** log2 of a block's bytes. */
const BLOCK_SHIFT: u64 = PAGE_SHIFT + HUGE_ORDER;

/** One past the last access of the run, the CPU's or that of one device, that begins at `from`. */
export function runEnd(accesses: u32, from: u32, count: u32): u32 {
  const side = load<u32>(accesses + (from << 3), 4) >> ACCESS_SIDE_SHIFT,
    same = i64x2.splat((<i64>side) << (ACCESS_SIDE_SHIFT + 32)),
    sides = i64x2.splat((<i64>-1) << (ACCESS_SIDE_SHIFT + 32));
  let end = from + 1;
  // Four at a time.
  for (; end + 4 <= count; end += 4) {
    const at = accesses + (end << 3);
    if (v128.any_true(v128.and(v128.or(v128.xor(v128.load(at), same), v128.xor(v128.load(at, 16), same)), sides))) break;
  }
  while (end < count && load<u32>(accesses + (end << 3), 4) >> ACCESS_SIDE_SHIFT == side) end++;
  return end;
}

/**
 * First access from `from` on that touches a 2 MiB block which is not in the small table of blocks at `recent` (`slots` words, a power of two, block number + 1 at its number modulo
 * slots), or `count`. Most accesses need no more than this look.
 */
export function nextBlock(accesses: u32, from: u32, count: u32, recent: u32, slots: u32): u32 {
  let i = from,
    // The last access that was looked at in the table, and whether the others are compared with it first.
    same = i64x2.splat(0),
    alike: bool = false;
  // Four at a time, as long as there is nothing to say about any of them.
  while (i + 4 <= count) {
    if (alike) {
      i = sameBlockEnd(accesses, i, count, same);
      alike = false;
      continue;
    }
    const at = accesses + (i << 3);
    if (
      Look.strange(load<u64>(at), recent, slots) |
      Look.strange(load<u64>(at, 8), recent, slots) |
      Look.strange(load<u64>(at, 16), recent, slots) |
      Look.strange(load<u64>(at, 24), recent, slots)
    ) {
      const stop = oneByOne(accesses, i, i + 4, recent, slots);
      if (stop < i + 4) return stop;
    }
    // A program stays in one block for long, or goes to and fro between some: tried now and then.
    if (((i - from) & TRIED) == 0) {
      alike = true;
      same = i64x2.splat(<i64>load<u64>(at));
    }
    i += 4;
  }
  return oneByOne(accesses, i, count, recent, slots);
}

/** How far accesses from `from` on are in the block of the two in `same`, with all their bytes: eight at a time, so that one of the next eight, if there are so many, is not. */
function sameBlockEnd(accesses: u32, from: u32, count: u32, same: v128): u32 {
  let i = from;
  for (; i + 8 <= count; i += 8) {
    const at = accesses + (i << 3);
    const first = v128.or(Look.apart(v128.load(at), same), Look.apart(v128.load(at, 16), same)),
      second = v128.or(Look.apart(v128.load(at, 32), same), Look.apart(v128.load(at, 48), same));
    if (v128.any_true(v128.and(v128.or(first, second), i64x2.splat(<i64>BLOCK_BITS)))) break;
  }
  return i;
}

/** Looks that are written into their caller. */
class Look {
  /** Bits of BLOCK_BITS for an access, of two, in another block than that of `same`, or which goes on into the next one. */
  @inline
  static apart(two: v128, same: v128): v128 {
    const last = i64x2.add(two, v128.and(i64x2.shr_u(two, 48), i64x2.splat(ACCESS_LENGTH)));
    return v128.or(v128.xor(two, same), v128.xor(last, same));
  }

  /** Not 0 for an access whose block is not in the table, or which goes on into the next one. */
  @inline
  static strange(word: u64, recent: u32, slots: u32): u32 {
    const block = <u32>unitOf(word, BLOCK_SHIFT);
    return (load<u32>(recent + ((block & (slots - 1)) << 2)) ^ (block + 1)) | ((((<u32>word) & BLOCK_MASK) + moreOf(word)) & ~BLOCK_MASK);
  }
}

function oneByOne(accesses: u32, from: u32, end: u32, recent: u32, slots: u32): u32 {
  for (let i = from; i < end; i++) {
    const word = load<u64>(accesses + (i << 3)),
      first = <u32>unitOf(word, BLOCK_SHIFT);
    if (load<u32>(recent + ((first & (slots - 1)) << 2)) != first + 1) return i;
    if (((<u32>word) & BLOCK_MASK) + moreOf(word) <= BLOCK_MASK) continue;
    if (load<u32>(recent + (((first + 1) & (slots - 1)) << 2)) != first + 2) return i;
  }
  return end;
}

/** Copies the `count` accesses whose indices are at `order` (u32 each), and behind them their values, to `target`: u64 each, in that order. */
export function gatherAccesses(accesses: u32, values: u32, order: u32, count: u32, target: u32): void {
  const second = target + (count << 3);
  for (let k: u32 = 0; k < count; k++) {
    const offset = load<u32>(order + (k << 2)) << 3;
    store<u64>(target + (k << 3), load<u64>(accesses + offset));
    store<u64>(second + (k << 3), load<u64>(values + offset));
  }
}

/** Accesses from `from` to `end` that read. */
export function countReads(accesses: u32, from: u32, end: u32): u32 {
  const stop = accesses + (end << 3),
    one = i64x2.splat(1);
  let writes = i64x2.splat(0),
    at = accesses + (from << 3);
  // Four at a time.
  for (; at + 32 <= stop; at += 32) {
    const two = v128.and(i64x2.shr_u(v128.load(at), WRITE_SHIFT), one);
    writes = i64x2.add(writes, i64x2.add(two, v128.and(i64x2.shr_u(v128.load(at, 16), WRITE_SHIFT), one)));
  }
  let reads = end - from - <u32>(i64x2.extract_lane(writes, 0) + i64x2.extract_lane(writes, 1));
  for (; at < stop; at += 8) if (load<u32>(at, 4) & ACCESS_WRITE) reads--;
  return reads;
}

/** Makes accesses by byte accesses by units of 2^shift bytes: to every unit that a byte of theirs is in. */
export function scaleAccesses(accesses: u32, count: u32, shift: u32): void {
  for (let at = accesses, end = accesses + (count << 3); at < end; at += 8) {
    const word = load<u64>(at),
      high = <u32>(word >> 32),
      address = addressOf(word),
      first = address >> shift,
      last = (address + moreOf(word)) >> shift;
    store<u64>(at, first | ((<u64>((high & ~0xfffffff) | ((<u32>(last - first)) << ACCESS_LENGTH_SHIFT))) << 32));
  }
}

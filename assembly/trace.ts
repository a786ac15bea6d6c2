import { ACCESS_LENGTH, ACCESS_LENGTH_SHIFT, ACCESS_SIDE_SHIFT } from './layout';

/** Loops over packed accesses that a replay needs before it runs them. */

/** One past the last access of the run, the CPU's or that of one device, that begins at `from`. */
export function runEnd(accesses: u32, from: u32, count: u32): u32 {
  const side = load<u32>(accesses + (from << 3), 4) >> ACCESS_SIDE_SHIFT;
  let end = from + 1;
  while (end < count && load<u32>(accesses + (end << 3), 4) >> ACCESS_SIDE_SHIFT == side) end++;
  return end;
}

/**
 * First access from `from` on that touches a 2 MiB block which is not in the small table of blocks at `recent` (`slots` words, a power of two, block number + 1 at its number modulo
 * slots), or `count`. Most accesses need no more than this look.
 */
export function nextBlock(accesses: u32, from: u32, count: u32, recent: u32, slots: u32): u32 {
  for (let i = from; i < count; i++) {
    const word = load<u64>(accesses + (i << 3)),
      first = <u32>((word & 0xffffffffffff) >> 21),
      last = <u32>(((word & 0xffffffffffff) + (((<u32>(word >> 32)) >> ACCESS_LENGTH_SHIFT) & ACCESS_LENGTH)) >> 21);
    if (load<u32>(recent + ((first & (slots - 1)) << 2)) != first + 1) return i;
    if (last != first && load<u32>(recent + ((last & (slots - 1)) << 2)) != last + 1) return i;
  }
  return count;
}

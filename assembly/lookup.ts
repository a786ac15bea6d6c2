import { ENTRY_BYTES, TABLE_BITS, TABLE_ROOT, TABLE_TABLES } from './layout';
import { vpnOf } from './packed-access';
import { FOUR_NINES, walk, Walk } from './table';

/**
 * Look-up of many addresses at once. Entries are independent of each other, so what counts is how many cache misses are under way at
 * a time:
 *
 * ```
 *  chunk of 64 addresses
 *    all below one level-0 page   ->  one walk, then 64 loads                              streams, strides
 *    all below one level-1 page   ->  one walk to it, then 64 of two levels                the working set of most programs, up to 1 GiB
 *    the tables fit the L2 cache  ->  eight walks abreast, level by level                  hides the latency of each load
 *    else                         ->  walks to the leaf slots, then their loads in a row   the leaves miss, many at the same time
 * ```
 *
 * Of the last sort, a thousand go at once where there are as many left: between the two passes nothing is under way, so they should be long.
 *
 * A hole or a block among the addresses sends its group through `walk`, one at a time.
 */

const CHUNK: u32 = 64;
const CHUNK_BYTES: u32 = CHUNK << 3;
/** Addresses of a long pair of passes. */
const BLOCK: u32 = 1024;
/** Byte offset of an entry in a page of 512. */
const OFFSET: u32 = 511 << 3;
/** Table pages that an L2 cache of 1 MiB holds. */
const TABLES_IN_CACHE: u32 = 256;
/** Address bits that name a level-0 page of a 4 x 9 table, 2 MiB, and a level-1 page, 1 GiB. */
const LEAF_PAGE: u64 = 0xffffffe00000;
const DIRECTORY: u64 = 0xffffc0000000;

/**
 * Looks up `n` addresses: u64 words at `input` (bits 0..47 count, so ACCESS words are fine), u64 entries to `output` (0: none; those of
 * blocks adjusted to the page). `scratch` is 4 KiB. Requires: the areas do not overlap.
 */
export function lookupBatch(table: u32, input: u32, output: u32, n: u32, scratch: u32): void {
  const end = input + (n << 3);
  if (load<u64>(table, TABLE_BITS) == FOUR_NINES) {
    const cached = load<u32>(table, TABLE_TABLES) <= TABLES_IN_CACHE;
    for (; input + CHUNK_BYTES <= end; input += CHUNK_BYTES, output += CHUNK_BYTES) {
      const differ = differing(input),
        directory = differ & DIRECTORY ? 0 : Walk.directory(table, vpnOf(load<u64>(input)));
      if (directory) {
        const leaf = differ & LEAF_PAGE ? 0 : entryIn(directory, load<u64>(input), 18);
        if (<i64>leaf < 0) lookupInLeaf(<u32>leaf, input, output);
        else lookupBelow(table, directory, input, output);
      } else if (cached) lookupAbreast(table, input, output);
      else {
        const block = end - input < BLOCK << 3 ? CHUNK : BLOCK,
          further = (block << 3) - CHUNK_BYTES;
        lookupTwoPass(table, input, output, scratch, block);
        input += further;
        output += further;
      }
    }
  }
  for (; input < end; input += 8, output += 8) store<u64>(output, walk(table, vpnOf(load<u64>(input))));
}

/** The bits in which the addresses of a chunk differ; where the first and the last differ in DIRECTORY, those of these two. */
function differing(input: u32): u64 {
  const first = load<u64>(input),
    last = first ^ load<u64>(input, CHUNK_BYTES - 8);
  if (last & DIRECTORY) return last;
  const firsts = i64x2.splat(<i64>first);
  let differ = i64x2.splat(0);
  for (let at = input, end = input + CHUNK_BYTES; at < end; at += 64) {
    const a = v128.or(v128.xor(v128.load(at), firsts), v128.xor(v128.load(at, 16), firsts));
    const b = v128.or(v128.xor(v128.load(at, 32), firsts), v128.xor(v128.load(at, 48), firsts));
    differ = v128.or(differ, v128.or(a, b));
  }
  return <u64>(i64x2.extract_lane(differ, 0) | i64x2.extract_lane(differ, 1));
}

function lookupInLeaf(leaf: u32, input: u32, output: u32): void {
  for (const end = input + CHUNK_BYTES; input < end; input += 32, output += 32) {
    store<u64>(output, load<u64>(leaf + ((<u32>(load<u64>(input) >> 9)) & OFFSET)));
    store<u64>(output, load<u64>(leaf + ((<u32>(load<u64>(input, 8) >> 9)) & OFFSET)), 8);
    store<u64>(output, load<u64>(leaf + ((<u32>(load<u64>(input, 16) >> 9)) & OFFSET)), 16);
    store<u64>(output, load<u64>(leaf + ((<u32>(load<u64>(input, 24) >> 9)) & OFFSET)), 24);
  }
}

/** Entry of `word` in a table page of the level whose offset starts at bit `shift`. */
function entryIn(page: u32, word: u64, shift: u64): u64 {
  return load<u64>(page + ((<u32>(word >> shift)) & OFFSET));
}

/** All addresses have the level-1 page `directory`. */
function lookupBelow(table: u32, directory: u32, input: u32, output: u32): void {
  for (const end = input + CHUNK_BYTES; input < end; input += 32, output += 32) {
    const p = load<u64>(input),
      q = load<u64>(input, 8),
      r = load<u64>(input, 16),
      s = load<u64>(input, 24);
    const a = entryIn(directory, p, 18),
      b = entryIn(directory, q, 18),
      c = entryIn(directory, r, 18),
      d = entryIn(directory, s, 18);
    if (<i64>(a & b & c & d) < 0) {
      store<u64>(output, entryIn(<u32>a, p, 9));
      store<u64>(output, entryIn(<u32>b, q, 9), 8);
      store<u64>(output, entryIn(<u32>c, r, 9), 16);
      store<u64>(output, entryIn(<u32>d, s, 9), 24);
    } else for (let at: u32 = 0; at < 32; at += 8) store<u64>(output + at, walk(table, vpnOf(load<u64>(input + at))));
  }
}

function lookupAbreast(table: u32, input: u32, output: u32): void {
  const root = load<u32>(table, TABLE_ROOT);
  for (const end = input + CHUNK_BYTES; input < end; input += 64, output += 64) {
    const p = load<u64>(input),
      q = load<u64>(input, 8),
      r = load<u64>(input, 16),
      s = load<u64>(input, 24);
    const t = load<u64>(input, 32),
      u = load<u64>(input, 40),
      v = load<u64>(input, 48),
      w = load<u64>(input, 56);
    let a = entryIn(root, p, 36),
      b = entryIn(root, q, 36),
      c = entryIn(root, r, 36),
      d = entryIn(root, s, 36);
    let e = entryIn(root, t, 36),
      f = entryIn(root, u, 36),
      g = entryIn(root, v, 36),
      h = entryIn(root, w, 36);
    if (<i64>(a & b & c & d & e & f & g & h) < 0) {
      ((a = entryIn(<u32>a, p, 27)), (b = entryIn(<u32>b, q, 27)), (c = entryIn(<u32>c, r, 27)), (d = entryIn(<u32>d, s, 27)));
      ((e = entryIn(<u32>e, t, 27)), (f = entryIn(<u32>f, u, 27)), (g = entryIn(<u32>g, v, 27)), (h = entryIn(<u32>h, w, 27)));
      if (<i64>(a & b & c & d & e & f & g & h) < 0) {
        ((a = entryIn(<u32>a, p, 18)), (b = entryIn(<u32>b, q, 18)), (c = entryIn(<u32>c, r, 18)), (d = entryIn(<u32>d, s, 18)));
        ((e = entryIn(<u32>e, t, 18)), (f = entryIn(<u32>f, u, 18)), (g = entryIn(<u32>g, v, 18)), (h = entryIn(<u32>h, w, 18)));
        if (<i64>(a & b & c & d & e & f & g & h) < 0) {
          store<u64>(output, entryIn(<u32>a, p, 9));
          store<u64>(output, entryIn(<u32>b, q, 9), 8);
          store<u64>(output, entryIn(<u32>c, r, 9), 16);
          store<u64>(output, entryIn(<u32>d, s, 9), 24);
          store<u64>(output, entryIn(<u32>e, t, 9), 32);
          store<u64>(output, entryIn(<u32>f, u, 9), 40);
          store<u64>(output, entryIn(<u32>g, v, 9), 48);
          store<u64>(output, entryIn(<u32>h, w, 9), 56);
          continue;
        }
      }
    }
    for (let at: u32 = 0; at < 64; at += 8) store<u64>(output + at, walk(table, vpnOf(load<u64>(input + at))));
  }
}

function lookupTwoPass(table: u32, input: u32, output: u32, scratch: u32, count: u32): void {
  const root = load<u32>(table, TABLE_ROOT),
    end = scratch + (count << 2);
  let missing: u32 = 0;
  for (let slot = scratch, at = input; slot < end; slot += 4, at += 8) {
    const word = load<u64>(at);
    let entry = entryIn(root, word, 36);
    if (<i64>entry < 0) {
      entry = entryIn(<u32>entry, word, 27);
      if (<i64>entry < 0) entry = entryIn(<u32>entry, word, 18);
    }
    if (<i64>entry < 0) store<u32>(slot, <u32>entry + ((<u32>(word >> 9)) & OFFSET));
    else {
      store<u32>(slot, 0);
      missing = 1;
    }
  }
  if (!missing) {
    for (let slot = scratch; slot < end; slot += 4, output += ENTRY_BYTES) store<u64>(output, load<u64>(load<u32>(slot)));
    return;
  }
  for (let slot = scratch; slot < end; slot += 4, input += 8, output += ENTRY_BYTES) {
    const leaf = load<u32>(slot);
    store<u64>(output, leaf ? load<u64>(leaf) : walk(table, vpnOf(load<u64>(input))));
  }
}

/** For measurement: look-ups of which each needs the result of the last one. Returns the low word of the last entry. */
export function lookupDependent(table: u32, input: u32, n: u32): u32 {
  let entry: u64 = 0;
  // Bit 63 of what a walk returns is never set, which only we know.
  for (const end = input + (n << 3); input < end; input += 8) entry = walk(table, vpnOf(load<u64>(input)) + (entry >> 63));
  return <u32>entry;
}

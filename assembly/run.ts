import { ENTRY_BYTES } from './layout';

/**
 * Loops over neighbouring entries, two entries a vector: what every range operation does inside one table page. Addresses are
 * multiples of 8, `end` is the address after the last entry.
 */

/** Vectors are taken four at a time. */
const STEP: u32 = 64;
const HALF_STEP: u32 = 32;
const ENTRY_SHIFT: u32 = 3;

/** Writes `entries` entries from `slot` on: `entry`, and then `step` frames more each time. */
export function fillRun(slot: u32, entries: u32, entry: u64, step: u32): void {
  const end = slot + entries * ENTRY_BYTES,
    two = i64x2.splat((<i64>step) << 1);
  let pair = i64x2.replace_lane(i64x2.splat(<i64>entry), 1, <i64>(entry + step));
  for (; slot + STEP <= end; slot += STEP) {
    v128.store(slot, pair);
    pair = i64x2.add(pair, two);
    v128.store(slot, pair, 16);
    pair = i64x2.add(pair, two);
    v128.store(slot, pair, 32);
    pair = i64x2.add(pair, two);
    v128.store(slot, pair, 48);
    pair = i64x2.add(pair, two);
  }
  entry = <u64>i64x2.extract_lane(pair, 0);
  for (; slot < end; slot += ENTRY_BYTES) {
    store<u64>(slot, entry);
    entry += step;
  }
}

/** From here on a call of the host's is quicker than a loop. */
const FILL_ENTRIES: u32 = 64;

/** Makes `entries` entries from `slot` on none. */
export function clearRun(slot: u32, entries: u32): void {
  if (entries < FILL_ENTRIES) for (const end = slot + entries * ENTRY_BYTES; slot < end; slot += ENTRY_BYTES) store<u64>(slot, 0);
  else memory.fill(slot, 0, entries * ENTRY_BYTES);
}

/** Entries of `entries` from `slot` on that are not none. */
export function countSet(slot: u32, entries: u32): u32 {
  const end = slot + entries * ENTRY_BYTES,
    none = i64x2.splat(0);
  let zeros = none;
  for (; slot + STEP <= end; slot += STEP) {
    const a = i64x2.add(i64x2.eq(v128.load(slot), none), i64x2.eq(v128.load(slot, 16), none));
    const b = i64x2.add(i64x2.eq(v128.load(slot, 32), none), i64x2.eq(v128.load(slot, 48), none));
    zeros = i64x2.add(zeros, i64x2.add(a, b));
  }
  // Equal lanes are -1.
  let set = entries + <u32>(i64x2.extract_lane(zeros, 0) + i64x2.extract_lane(zeros, 1));
  for (; slot < end; slot += ENTRY_BYTES) if (!load<u64>(slot)) set--;
  return set;
}

/** The first slot before `end` whose entry is not none, or `end`. */
export function firstSet(slot: u32, end: u32): u32 {
  for (; slot + STEP <= end; slot += STEP) {
    const a = v128.or(v128.load(slot), v128.load(slot, 16)),
      b = v128.or(v128.load(slot, 32), v128.load(slot, 48));
    if (v128.any_true(v128.or(a, b))) break;
  }
  while (slot < end && !load<u64>(slot)) slot += ENTRY_BYTES;
  return slot;
}

/** The first slot before `end` whose entry has, of the bits `mask` of its high word, others than `high`, or `end`. */
export function alikeEnd(slot: u32, end: u32, high: u32, mask: u32): u32 {
  const wanted = i64x2.splat((<i64>high) << 32),
    care = i64x2.splat((<i64>mask) << 32);
  for (; slot + STEP <= end; slot += STEP) {
    const a = v128.or(v128.xor(v128.load(slot), wanted), v128.xor(v128.load(slot, 16), wanted)),
      b = v128.or(v128.xor(v128.load(slot, 32), wanted), v128.xor(v128.load(slot, 48), wanted));
    if (v128.any_true(v128.and(v128.or(a, b), care))) break;
  }
  while (slot < end && (load<u32>(slot, 4) & mask) == high) slot += ENTRY_BYTES;
  return slot;
}

/** Gives the entries from `slot` on, up to `end`, this high word. */
export function setHigh(slot: u32, end: u32, high: u32): void {
  const lows = i64x2.splat(0xffffffff),
    highs = i64x2.splat((<i64>high) << 32);
  for (; slot + STEP <= end; slot += STEP) {
    v128.store(slot, v128.or(v128.and(v128.load(slot), lows), highs));
    v128.store(slot, v128.or(v128.and(v128.load(slot, 16), lows), highs), 16);
    v128.store(slot, v128.or(v128.and(v128.load(slot, 32), lows), highs), 32);
    v128.store(slot, v128.or(v128.and(v128.load(slot, 48), lows), highs), 48);
  }
  for (; slot < end; slot += ENTRY_BYTES) store<u32>(slot, high, 4);
}

/** How many entries, of the `entries` from `slot` on and of as many from `other` on, are the first one and its followers on both sides: one at least, each with the next frame. */
export function runOfBoth(slot: u32, other: u32, entries: u32): u32 {
  let entry = load<u64>(slot),
    beside = load<u64>(other);
  // Where the second one is not, vectors do not pay.
  if (entries < 2 || load<u64>(slot, ENTRY_BYTES) != entry + 1 || load<u64>(other, ENTRY_BYTES) != beside + 1) return 1;
  const end = slot + entries * ENTRY_BYTES,
    apart = other - slot,
    two = i64x2.splat(2),
    four = i64x2.splat(4);
  let at = slot,
    a = i64x2.replace_lane(i64x2.splat(<i64>entry), 1, <i64>(entry + 1)),
    b = i64x2.replace_lane(i64x2.splat(<i64>beside), 1, <i64>(beside + 1)),
    nextA = i64x2.add(a, two),
    nextB = i64x2.add(b, two);
  // In step: what is behind the end of the one is not looked for in the other.
  for (; at + HALF_STEP <= end; at += HALF_STEP) {
    const first = v128.or(v128.xor(v128.load(at), a), v128.xor(v128.load(at, 16), nextA));
    const second = v128.or(v128.xor(v128.load(at + apart), b), v128.xor(v128.load(at + apart, 16), nextB));
    if (v128.any_true(v128.or(first, second))) break;
    a = i64x2.add(a, four);
    b = i64x2.add(b, four);
    nextA = i64x2.add(nextA, four);
    nextB = i64x2.add(nextB, four);
  }
  entry = <u64>i64x2.extract_lane(a, 0);
  beside = <u64>i64x2.extract_lane(b, 0);
  for (; at < end && load<u64>(at) == entry && load<u64>(at + apart) == beside; at += ENTRY_BYTES) {
    entry++;
    beside++;
  }
  return (at - slot) >> ENTRY_SHIFT;
}

/** How many of the `entries` from `slot` on are the first one, `entry`, and its followers. */
export function runLength(slot: u32, entries: u32, entry: u64): u32 {
  if (entries < 2 || load<u64>(slot, ENTRY_BYTES) != entry + 1) return 1;
  return (runEnd(slot, slot + entries * ENTRY_BYTES, entry, 1) - slot) >> ENTRY_SHIFT;
}

/** The first slot before `end` whose entry is not the next of `entry`, `entry + step`, `entry + 2 step` ..., or `end`. */
export function runEnd(slot: u32, end: u32, entry: u64, step: u64): u32 {
  const two = i64x2.splat((<i64>step) << 1),
    eight = i64x2.splat((<i64>step) << 3);
  let a = i64x2.replace_lane(i64x2.splat(<i64>entry), 1, <i64>(entry + step));
  let b = i64x2.add(a, two),
    c = i64x2.add(b, two),
    d = i64x2.add(c, two);
  for (; slot + STEP <= end; slot += STEP) {
    const first = v128.or(v128.xor(v128.load(slot), a), v128.xor(v128.load(slot, 16), b));
    const second = v128.or(v128.xor(v128.load(slot, 32), c), v128.xor(v128.load(slot, 48), d));
    if (v128.any_true(v128.or(first, second))) break;
    a = i64x2.add(a, eight);
    b = i64x2.add(b, eight);
    c = i64x2.add(c, eight);
    d = i64x2.add(d, eight);
  }
  entry = <u64>i64x2.extract_lane(a, 0);
  for (; slot < end && load<u64>(slot) == entry; slot += ENTRY_BYTES) entry += step;
  return slot;
}

/** How many of the `n` numbers from `at` on, u32 each and at least one, are the first one and those that follow it. */
export function numbersLength(at: u32, n: u32): u32 {
  const first = load<u32>(at);
  let four = i32x4.add(i32x4.splat(first), i32x4(0, 1, 2, 3)),
    i: u32 = 0;
  for (; i + 4 <= n && !v128.any_true(v128.xor(v128.load(at + (i << 2)), four)); i += 4) four = i32x4.add(four, i32x4.splat(4));
  while (i < n && load<u32>(at + (i << 2)) == first + i) i++;
  return i;
}

/** Writes the numbers from `first` to `end` - 1, u32 each. */
export function numberFrom(at: u32, first: u32, end: u32): void {
  let four = i32x4.add(i32x4.splat(first), i32x4(0, 1, 2, 3));
  for (; first + 4 <= end; first += 4, at += 16) {
    v128.store(at, four);
    four = i32x4.add(four, i32x4.splat(4));
  }
  for (; first < end; first++, at += 4) store<u32>(at, first);
}

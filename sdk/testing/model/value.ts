/**
 * What accesses store and observe. A store is an 8-byte word (lo, hi) repeated; a load is folded into the same two words, so that any
 * access, up to a page, leaves a value to compare.
 */

/** Two unsigned 32-bit words. */
export interface Word {
  lo: number;
  hi: number;
}

/** Scrambles 32 bits (the finaliser of murmur3). */
export function mix(x: number): number {
  let y = x | 0;
  y ^= y >>> 16;
  y = Math.imul(y, 0x85ebca6b);
  y ^= y >>> 13;
  y = Math.imul(y, 0xc2b2ae35);
  y ^= y >>> 16;
  return y >>> 0;
}

/** The word that access number `n` stores under a seed. */
export function valueOf(n: number, seed: number): Word {
  return { lo: mix(seed + 2 * n), hi: mix(seed + 2 * n + 1) };
}

/** Fills the first `bytes` bytes with the word, little-endian; its low half goes up by one for each repetition. */
export function fill(data: Uint8Array, bytes: number, word: Word): void {
  for (let i = 0; i < bytes; i++) {
    const half = i % 8 < 4 ? word.lo + Math.floor(i / 8) : word.hi;
    data[i] = half >>> (8 * (i % 4));
  }
}

/** What a load of the first `bytes` bytes observes: the bytes themselves up to 8, a hash and the length beyond. */
export function observe(data: Uint8Array, bytes: number): Word {
  if (bytes <= 8) return { lo: littleEndian(data, 0, Math.min(bytes, 4)), hi: littleEndian(data, 4, bytes) };
  let hash = 0;
  for (let i = 0; i < bytes; i += 4) {
    hash = Math.imul(hash ^ littleEndian(data, i, Math.min(bytes, i + 4)), 0x01000193);
    hash ^= hash >>> 15;
  }
  return { lo: hash >>> 0, hi: bytes };
}

/** Bytes [start, end), at most four, as a number; 0 when there are none. */
function littleEndian(data: Uint8Array, start: number, end: number): number {
  let value = 0;
  for (let i = start; i < end; i++) value += data[i]! * 2 ** (8 * (i - start));
  return value;
}

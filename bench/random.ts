/** Numbers below `limit`, the same in every run: xorshift, and a multiplication instead of a remainder. */
export function randomBelow(seed: number): (limit: number) => number {
  let state = seed | 1;
  return (limit) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return Math.floor(((state >>> 0) / 2 ** 32) * limit);
  };
}

/** The numbers 0 to `count` - 1 in an order of chance. */
export function shuffled(count: number, seed: number): Uint32Array {
  const below = randomBelow(seed);
  const order = new Uint32Array(count).map((_, i) => i);
  for (let i = count - 1; i > 0; i--) {
    const j = below(i + 1);
    const swapped = order[i]!;
    order[i] = order[j]!;
    order[j] = swapped;
  }
  return order;
}

/** The random numbers of tests: from a seed, the same in every host. */

/** xorshift32, and a multiplication instead of a remainder. The function returns a number from 0 to `below` - 1. */
export function randomOf(seed: number): (below: number) => number {
  let state = Math.imul(seed ^ 0x9e3779b9, 0x85ebca6b) | 1;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return Math.floor(((state >>> 0) / 0x1_0000_0000) * below);
  };
}

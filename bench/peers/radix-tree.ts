/**
 * The tree that one would write in plain TypeScript: four levels of nine bits in one Int32Array, 32-bit entries, no allocation per page.
 * It has an easier life than the core's: 26-bit frames and two flags, no blocks, no kinds but present.
 *
 * ```
 *   inner entry   index of the first word of the next node; 0: none
 *   leaf entry    30 present   29 write   25..0 frame       below 2^31, so that it is a small integer everywhere
 * ```
 */

const NODE_WORDS = 512;
const PRESENT = 1 << 30;
const WRITE = 1 << 29;
const FRAME = (1 << 26) - 1;
/** Bits of an HMM word's high half. */
const HMM_VALID = 0x8000_0000;
const HMM_WRITE = 0x4000_0000;

export class RadixTree {
  readonly #words: Int32Array;
  /** Node 0 is the empty one: whoever walks into a hole stays in it. */
  #end = 2 * NODE_WORDS;

  /** With room for `nodes` nodes, the root included. */
  constructor(nodes: number) {
    this.#words = new Int32Array((nodes + 1) * NODE_WORDS);
  }

  map(vpn: number, pages: number, frame: number, write: boolean): void {
    for (let i = 0; i < pages; i++) this.#words[this.#leaf(vpn + i, true) + ((vpn + i) % NODE_WORDS)] = entryOf(frame + i, write);
  }

  /** Entries of the pages of `n` byte addresses; an address is two words, low first. */
  lookup(addresses: Uint32Array, entries: Int32Array, n: number): void {
    const words = this.#words;
    for (let i = 0; i < n; i++) {
      const low = addresses[2 * i]!;
      const high = addresses[2 * i + 1]!;
      let node = words[NODE_WORDS + ((high >>> 7) & 511)]!;
      node = words[node + (((high << 2) | (low >>> 30)) & 511)]!;
      node = words[node + ((low >>> 21) & 511)]!;
      entries[i] = words[node + ((low >>> 12) & 511)]!;
    }
  }

  /** The same, each look-up waiting for the one before it. Returns the last entry. */
  lookupDependent(addresses: Uint32Array, n: number): number {
    const words = this.#words;
    let entry = 0;
    for (let i = 0; i < n; i++) {
      // Bits 26 to 28 of an entry are never set, which only we know.
      const low = addresses[2 * i]! + ((entry >>> 26) & 1);
      const high = addresses[2 * i + 1]!;
      let node = words[NODE_WORDS + ((high >>> 7) & 511)]!;
      node = words[node + (((high << 2) | (low >>> 30)) & 511)]!;
      node = words[node + ((low >>> 21) & 511)]!;
      entry = words[node + ((low >>> 12) & 511)]!;
    }
    return entry;
  }

  /** Entries of a range as they are. */
  snapshot(vpn: number, pages: number, output: Int32Array): void {
    this.#leaves(vpn, pages, (leaf, from, end, at) => output.set(this.#words.subarray(leaf + from, leaf + end), at));
  }

  /** Two words a page: frame, and what `hmm_range_fault` says of it. */
  snapshotHmm(vpn: number, pages: number, output: Uint32Array): void {
    const words = this.#words;
    this.#leaves(vpn, pages, (leaf, from, end, at) => {
      for (let i = leaf + from, to = 2 * at; i < leaf + end; i++, to += 2) {
        const entry = words[i]!;
        output[to] = entry & FRAME;
        output[to + 1] = entry === 0 ? 0 : entry & WRITE ? HMM_VALID | HMM_WRITE : HMM_VALID;
      }
    });
  }

  /** Runs of pages with consecutive frames and one right, four words each: offset, right, pages, first frame. Returns how many. */
  snapshotExtents(vpn: number, pages: number, output: Uint32Array): number {
    const words = this.#words;
    let extents = 0;
    let start = 0;
    let next = 0;
    const close = (at: number): void => {
      if (next !== 0) output[4 * extents++ + 2] = at - start;
    };
    this.#leaves(vpn, pages, (leaf, from, end, at) => {
      for (let i = leaf + from; i < leaf + end; i++, at++) {
        const entry = words[i]!;
        if (entry !== next) {
          close(at);
          start = at;
          output[4 * extents] = at;
          output[4 * extents + 1] = entry & WRITE ? 1 : 0;
          output[4 * extents + 3] = entry & FRAME;
        }
        next = entry === 0 ? 0 : entry + 1;
      }
    });
    close(pages);
    return extents;
  }

  /** Calls `visit` for every leaf node of a range: its first word, the entries `[from, end)` in it, and the offset of the first one in the range. */
  #leaves(vpn: number, pages: number, visit: (leaf: number, from: number, end: number, at: number) => void): void {
    for (let at = 0; at < pages;) {
      const from = (vpn + at) % NODE_WORDS;
      const end = Math.min(NODE_WORDS, from + pages - at);
      visit(this.#leaf(vpn + at, false), from, end, at);
      at += end - from;
    }
  }

  /** First word of the leaf node of a page: the empty node when it is not there and not to be `made`. */
  #leaf(vpn: number, made: boolean): number {
    let node = NODE_WORDS;
    for (const below of [2 ** 27, 2 ** 18, 2 ** 9]) {
      const slot = node + (Math.floor(vpn / below) % NODE_WORDS);
      if (this.#words[slot] === 0) {
        if (!made) return 0;
        this.#words[slot] = this.#end;
        this.#end += NODE_WORDS;
      }
      node = this.#words[slot]!;
    }
    return node;
  }
}

export function entryOf(frame: number, write: boolean): number {
  return PRESENT | (write ? WRITE : 0) | frame;
}

/** A number that names what an entry says: its frame, and whether it may be written. */
export function meaning(entry: number): number {
  return (entry & FRAME) * 2 + (entry & WRITE ? 1 : 0);
}

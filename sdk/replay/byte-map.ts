/**
 * The replay's own memory: a plain map of bytes, in which every access is repeated in the order in which the machine executed it. A load that
 * observes anything else has found lost or stale data.
 *
 * Pages stand in one slab that grows; a small direct-mapped cache in front of the map of pages keeps the check cheaper than the replay.
 */
import * as L from '../../assembly/layout.ts';
import { FarfaultError } from '../errors.ts';

const CACHE_SLOTS = 1024;
const SLAB_PAGES_FIRST = 1024;
const OFFSET = L.PAGE_BYTES - 1;

export class ByteMap {
  /** Page index in the slab, by page number. Page 0 of the slab stays all zero and stands for pages never written. */
  readonly #pages: Map<number, number> = new Map();
  #count = 1;
  #bytes: Uint8Array = new Uint8Array(SLAB_PAGES_FIRST * L.PAGE_BYTES);
  #words: Uint32Array = new Uint32Array(this.#bytes.buffer);
  /** Low and high part of the cached page numbers, and where their bytes begin. */
  readonly #cachedLow: Int32Array = new Int32Array(CACHE_SLOTS).fill(-1);
  readonly #cachedHigh: Int32Array = new Int32Array(CACHE_SLOTS).fill(-1);
  readonly #cachedBase: Int32Array = new Int32Array(CACHE_SLOTS);

  /** Pages that were written. */
  get pages(): number {
    return this.#count - 1;
  }

  /**
   * Repeats executed accesses: `count` of them, in the order of `order` (indices counted from `from`), or of the array without one. `words` has the packed accesses, `values` what each
   * wrote or observed, two u32 each. Returns how many were loads. Throws EIO when a load observed other bytes than the last ones written; `number` is the trace's number of access 0.
   */
  repeat(words: Uint32Array, values: Uint32Array, from: number, count: number, order: Uint32Array | undefined, number: number): number {
    const cachedLow = this.#cachedLow;
    const cachedHigh = this.#cachedHigh;
    const cachedBase = this.#cachedBase;
    let slab = this.#words;
    let loads = 0;
    for (let k = 0; k < count; k++) {
      const i = (from + (order === undefined ? k : order[k]!)) << 1;
      const low = words[i]!;
      const high = words[i + 1]!;
      const bytes = ((high >>> L.ACCESS_LENGTH_SHIFT) & L.ACCESS_LENGTH) + 1;
      const write = (high & L.ACCESS_WRITE) !== 0;
      if (!write) loads++;
      // Aligned words of 4 and 8 bytes, by far the most, are dealt with here; they never cross a page.
      if ((bytes === 8 && (low & 7) === 0) || (bytes === 4 && (low & 3) === 0)) {
        const vpnLow = (low >>> L.PAGE_SHIFT) | (high << (32 - L.PAGE_SHIFT));
        const vpnHigh = (high & L.ACCESS_ADDRESS_HIGH) >>> L.PAGE_SHIFT;
        const slot = vpnLow & (CACHE_SLOTS - 1);
        let base = cachedBase[slot]!;
        if (cachedLow[slot] !== vpnLow || cachedHigh[slot] !== vpnHigh) {
          base = this.#find(vpnLow, vpnHigh, slot, write);
          slab = this.#words;
        }
        const at = (base + (low & OFFSET)) >>> 2;
        if (write) {
          slab[at] = values[i]!;
          if (bytes === 8) slab[at + 1] = values[i + 1]!;
          continue;
        }
        if (slab[at] === values[i] && values[i + 1] === (bytes === 8 ? slab[at + 1] : 0)) continue;
      }
      if (write) {
        this.#store(low, high, bytes, values[i]!, values[i + 1]!);
        slab = this.#words;
      } else this.#load(low, high, bytes, values[i]!, values[i + 1]!, number + (i >> 1));
    }
    return loads;
  }

  /** Where the bytes of an access's first page begin in the slab; page 0 for one never written, unless it is to be `made`. */
  #base(low: number, high: number, made: boolean): number {
    const vpnLow = (low >>> L.PAGE_SHIFT) | (high << (32 - L.PAGE_SHIFT));
    const vpnHigh = (high & L.ACCESS_ADDRESS_HIGH) >>> L.PAGE_SHIFT;
    const slot = vpnLow & (CACHE_SLOTS - 1);
    if (this.#cachedLow[slot] === vpnLow && this.#cachedHigh[slot] === vpnHigh) return this.#cachedBase[slot]!;
    return this.#find(vpnLow, vpnHigh, slot, made);
  }

  #find(vpnLow: number, vpnHigh: number, slot: number, made: boolean): number {
    const vpn = vpnHigh * 2 ** 32 + (vpnLow >>> 0);
    let page = this.#pages.get(vpn);
    if (page === undefined) {
      if (!made) return 0;
      page = this.#count++;
      if (page * L.PAGE_BYTES === this.#bytes.length) this.#grow();
      this.#pages.set(vpn, page);
    }
    this.#cachedLow[slot] = vpnLow;
    this.#cachedHigh[slot] = vpnHigh;
    this.#cachedBase[slot] = page * L.PAGE_BYTES;
    return page * L.PAGE_BYTES;
  }

  #grow(): void {
    const larger = new Uint8Array(this.#bytes.length * 2);
    larger.set(this.#bytes);
    this.#bytes = larger;
    this.#words = new Uint32Array(larger.buffer);
  }

  /** Index in the slab of byte `i` of an access. */
  #at(low: number, high: number, i: number, made: boolean): number {
    const offset = (low & OFFSET) + i;
    if (offset < L.PAGE_BYTES) return this.#base(low, high, made) + offset;
    const next = (low | OFFSET) + 1;
    return this.#base(next >>> 0, high + (next > 0xffffffff || next === 0 ? 1 : 0), made) + offset - L.PAGE_BYTES;
  }

  #store(low: number, high: number, bytes: number, valueLow: number, valueHigh: number): void {
    for (let i = 0; i < bytes; i++) {
      const part = i & 7;
      const word = part < 4 ? valueLow + (i >>> 3) : valueHigh;
      const at = this.#at(low, high, i, true);
      this.#bytes[at] = word >>> ((part & 3) << 3);
    }
  }

  /** Compares a load in full: up to 8 bytes as they are, longer ones by their hash and number. */
  #load(low: number, high: number, bytes: number, valueLow: number, valueHigh: number, number: number): void {
    let wantLow = 0;
    let wantHigh = 0;
    if (bytes <= 8) {
      for (let i = 0; i < bytes; i++) {
        const byte = this.#bytes[this.#at(low, high, i, false)]!;
        if (i < 4) wantLow |= byte << (i << 3);
        else wantHigh |= byte << ((i - 4) << 3);
      }
    } else {
      for (let i = 0; i < bytes; i += 4) {
        let word = 0;
        for (let part = 0; part < 4 && i + part < bytes; part++) word |= this.#bytes[this.#at(low, high, i + part, false)]! << (part << 3);
        wantLow = Math.imul(wantLow ^ word, 0x01000193);
        wantLow ^= wantLow >>> 15;
      }
      wantHigh = bytes;
    }
    if (valueLow !== wantLow >>> 0 || valueHigh !== wantHigh >>> 0) {
      const addr = (high & L.ACCESS_ADDRESS_HIGH) * 2 ** 32 + low;
      throw lost(addr, bytes, number, [valueLow, valueHigh], [wantLow >>> 0, wantHigh >>> 0]);
    }
  }
}

function lost(
  addr: number,
  bytes: number,
  number: number,
  observed: readonly [number, number],
  wanted: readonly [number, number],
): FarfaultError {
  const word = ([low, high]: readonly [number, number]): string =>
    `0x${high.toString(16).padStart(8, '0')}${low.toString(16).padStart(8, '0')}`;
  return new FarfaultError(
    'EIO',
    'load',
    number,
    'observes wrong data',
    `access ${number} reads ${bytes} bytes at 0x${addr.toString(16)} and observes ${word(observed)}, but ${word(wanted)} was written last: data was lost or is stale`,
  );
}

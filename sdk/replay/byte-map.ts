/**
 * The replay's own memory: a plain map of bytes, in which every access is repeated in the order in which the machine executed it. A load that
 * observes anything else has found lost or stale data.
 *
 * The loop is `assembly/byte-map.ts`, in an instance with a memory of its own: nothing of the machine that is checked can reach it.
 */
import * as L from '../../assembly/layout.ts';
import { fail, FarfaultError } from '../errors.ts';
import { type GrowingCore, loadGrowingCore } from '../core/load.ts';

const NO_ROOM = 1;
/** Pages to begin with; grown by doubling. */
const PAGES_FIRST = 1024;

export class ByteMap {
  readonly #core: GrowingCore;
  #u32: Uint32Array;

  private constructor(core: GrowingCore) {
    this.#core = core;
    this.#u32 = new Uint32Array(core.buffer());
    // Page 0 stays all zero. The last page of the memory is a spare one: looks of 8 bytes may run over the end of a page.
    this.#u32[L.BYTE_MAP_PAGES_USED >>> 2] = 1;
    this.#u32[L.BYTE_MAP_PAGES_MAX >>> 2] = PAGES_FIRST;
  }

  /** An empty map. */
  static async create(): Promise<ByteMap> {
    return new ByteMap(await loadGrowingCore(L.BYTE_MAP_PAGES + (PAGES_FIRST + 1) * L.PAGE_BYTES));
  }

  /** Pages that were written. */
  get pages(): number {
    return this.#u32[L.BYTE_MAP_PAGES_USED >>> 2]! - 1;
  }

  /**
   * Repeats `count` executed accesses, in the order of their execution. `words` has the packed accesses, `values` what each wrote or observed, two u32 each. Returns how many were loads. Throws EIO when a load observed
   * other bytes than the last ones written: of the trace, access k is number `number` + `order[k]`, or `number` + k without an order. ENOMEM when the program writes to more pages than the map can hold.
   */
  repeat(words: Uint32Array, values: Uint32Array, order: Uint32Array | undefined, count: number, number: number): number {
    let loads = 0;
    for (let from = 0; from < count; from += L.BYTE_MAP_ACCESSES) {
      const some = Math.min(L.BYTE_MAP_ACCESSES, count - from);
      this.#u32.set(words.subarray(from * 2, (from + some) * 2), L.BYTE_MAP_WORDS >>> 2);
      this.#u32.set(values.subarray(from * 2, (from + some) * 2), L.BYTE_MAP_VALUES >>> 2);
      const at = from + this.#repeat(some);
      if (at < from + some) throw this.#lost(at, words, values, number + (order ? order[at]! : at));
      loads += this.#u32[L.BYTE_MAP_LOADS >>> 2]!;
    }
    return loads;
  }

  /** Of the packed accesses `words`, the bytes of the `count` whose indices are in `which` will be needed soon, and were not for long. Requires: `count` is at most BYTE_MAP_ACCESSES. */
  ahead(words: Uint32Array, which: Uint32Array, count: number): void {
    const u32 = this.#u32;
    for (let i = 0, at = L.BYTE_MAP_AHEAD >>> 2; i < count; i++, at += 2) {
      u32[at] = words[which[i]! * 2]!;
      u32[at + 1] = words[which[i]! * 2 + 1]!;
    }
    this.#core.exports.byteMapAhead(count);
  }

  /** Repeats the first `count` accesses that have been handed over: the first one that observed other bytes, or `count`. */
  #repeat(count: number): number {
    this.#u32[L.BYTE_MAP_LOADS >>> 2] = 0;
    let at = 0;
    for (;;) {
      at = this.#core.exports.byteMapRepeat(at, count);
      if (this.#u32[L.BYTE_MAP_STOP >>> 2]! !== NO_ROOM) return at;
      this.#grow();
    }
  }

  #grow(): void {
    const pages = this.#u32[L.BYTE_MAP_PAGES_MAX >>> 2]!;
    if (pages * 2 > L.BYTE_MAP_SLOTS || !this.#core.grow(pages * L.PAGE_BYTES)) {
      throw fail('ENOMEM', 'pages written by the trace', pages, 'are all that the check of its loads has memory for');
    }
    this.#u32 = new Uint32Array(this.#core.buffer());
    this.#u32[L.BYTE_MAP_PAGES_MAX >>> 2] = pages * 2;
  }

  #lost(index: number, words: Uint32Array, values: Uint32Array, access: number): FarfaultError {
    const high = words[index * 2 + 1]!;
    const bytes = ((high >>> L.ACCESS_LENGTH_SHIFT) & L.ACCESS_LENGTH) + 1;
    const addr = (high & L.ACCESS_ADDRESS_HIGH) * 2 ** 32 + words[index * 2]!;
    const observed = printedWord(values[index * 2]!, values[index * 2 + 1]!);
    const wanted = printedWord(this.#u32[L.BYTE_MAP_WANTED >>> 2]!, this.#u32[(L.BYTE_MAP_WANTED >>> 2) + 1]!);
    const where = `access ${access} reads ${bytes} bytes at 0x${addr.toString(16)}`;
    const message = `${where} and observes ${observed}, but ${wanted} was written last: data was lost or is stale`;
    return new FarfaultError('EIO', 'load', access, 'observes wrong data', message);
  }
}

function printedWord(low: number, high: number): string {
  return `0x${high.toString(16).padStart(8, '0')}${low.toString(16).padStart(8, '0')}`;
}

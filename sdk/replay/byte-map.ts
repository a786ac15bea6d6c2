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
const DIFFERS = 2;
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
   * Repeats `count` executed accesses (at most 65,536), in the order of `order`, or of the array without one. `words` has the packed accesses, `values` what each wrote or observed, two
   * u32 each. Returns how many were loads. Throws EIO when a load observed other bytes than the last ones written; `number` is the trace's number of access 0. ENOMEM when the
   * program writes to more pages than the map can hold.
   */
  repeat(words: Uint32Array, values: Uint32Array, order: Uint32Array | undefined, count: number, number: number): number {
    this.#u32.set(words, L.BYTE_MAP_WORDS >>> 2);
    this.#u32.set(values, L.BYTE_MAP_VALUES >>> 2);
    if (order) this.#u32.set(order, L.BYTE_MAP_ORDER >>> 2);
    this.#u32[L.BYTE_MAP_LOADS >>> 2] = 0;
    let at = 0;
    for (;;) {
      at = this.#core.exports.byteMapRepeat(at, count, order ? 1 : 0);
      const reason = this.#u32[L.BYTE_MAP_STOP >>> 2]!;
      if (reason === NO_ROOM) this.#grow();
      else if (reason === DIFFERS) throw this.#lost(order ? order[at]! : at, words, values, number);
      else return this.#u32[L.BYTE_MAP_LOADS >>> 2]!;
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

  #lost(index: number, words: Uint32Array, values: Uint32Array, number: number): FarfaultError {
    const high = words[index * 2 + 1]!;
    const bytes = ((high >>> L.ACCESS_LENGTH_SHIFT) & L.ACCESS_LENGTH) + 1;
    const addr = (high & L.ACCESS_ADDRESS_HIGH) * 2 ** 32 + words[index * 2]!;
    const observed = printedWord(values[index * 2]!, values[index * 2 + 1]!);
    const wanted = printedWord(this.#u32[L.BYTE_MAP_WANTED >>> 2]!, this.#u32[(L.BYTE_MAP_WANTED >>> 2) + 1]!);
    const access = number + index;
    const where = `access ${access} reads ${bytes} bytes at 0x${addr.toString(16)}`;
    const message = `${where} and observes ${observed}, but ${wanted} was written last: data was lost or is stale`;
    return new FarfaultError('EIO', 'load', access, 'observes wrong data', message);
  }
}

function printedWord(low: number, high: number): string {
  return `0x${high.toString(16).padStart(8, '0')}${low.toString(16).padStart(8, '0')}`;
}

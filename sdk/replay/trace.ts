/**
 * A recorded program: the text of Valgrind's lackey, read in chunks, handed on as batches of packed accesses in the core's batch area.
 *
 * ```
 *   source --> plainBytes --> |..lines..| par|      chunk of text; the partial line waits for the next one
 *                                 | lackeyParse
 *                                 v
 *             AREA_ACCESSES  [c c c d d d d d c d d d]      c: CPU, d: device
 *                                                ^ a run of the device that may go on: kept for the next batch
 * ```
 *
 * A run of device accesses is one job, wherever chunks and batches end: a batch holds a run from its start to its end, or, when the run is longer, exactly
 * JOB_ACCESSES_MAX of it.
 */
import * as L from '../../assembly/layout.ts';
import type { Core } from '../core/abi.ts';
import { FarfaultError, printed } from '../errors.ts';
import { type ByteSource, joined, plainBytes } from './gzip.ts';
import { dealRanges, type DeviceRange, type OffloadRange } from './offload.ts';

/** What a trace is read with. */
export interface TraceOptions {
  /** What errors call the trace. */
  readonly name: string;
  /** Instructions whose accesses are the device's; none: all are. */
  readonly offload: readonly OffloadRange[];
  /** Those of further devices, numbered from 1. */
  readonly further?: readonly (readonly OffloadRange[])[] | undefined;
  /** Told after every chunk how many bytes of the source have been read, compressed ones if it is gzip. */
  readonly onProgress?: ((bytesRead: number) => void) | undefined;
}

/** Accesses of a trace, in its order: `count` packed ones (ACCESS_*) from byte address `address` of the core's memory on. Borrowed until the next batch is asked for. */
export interface AccessBatch {
  readonly address: number;
  readonly count: number;
}

/** Text handed to the core at a time; more than the longest line. */
const TEXT_BYTES = 4 * L.LINE_BYTES_MAX;
const HIGH = 2 ** 32;

/** Reads one trace. One at a time per core: the parser's state is in the core. */
export class TraceReader {
  /** Bytes of the source so far. */
  bytesRead = 0;
  readonly #core: Core;
  readonly #options: TraceOptions;
  readonly #ranges: readonly DeviceRange[];
  /** Which of them an instruction was in. */
  readonly #met: boolean[];
  /** Accesses that stand in the area. */
  #count = 0;

  constructor(core: Core, options: TraceOptions) {
    this.#core = core;
    this.#options = options;
    this.#ranges = dealRanges([options.offload, ...(options.further ?? [])]);
    this.#met = this.#ranges.map(() => false);
  }

  /** Lines read so far, those that were skipped included. */
  get lines(): number {
    return this.#core.header(L.LACKEY_LINES + 4) * HIGH + this.#core.header(L.LACKEY_LINES);
  }

  /** `I` lines so far. */
  get instructions(): number {
    return this.#core.header(L.LACKEY_INSTRUCTIONS + 4) * HIGH + this.#core.header(L.LACKEY_INSTRUCTIONS);
  }

  /** Ranges, of all devices and merged, that no instruction so far was in. */
  get unmet(): readonly OffloadRange[] {
    return this.#ranges.filter((_, i) => !this.#met[i]);
  }

  /**
   * The accesses of `source`. Between two batches the caller may use every batch area but AREA_ACCESSES, whose contents it may not change.
   *
   * Errors: EILSEQ for a line that is not lackey's (with its number), for gzip that is cut off or damaged, and for a trace without any data access; whatever
   * the source throws.
   */
  async *batches(source: ByteSource): AsyncGenerator<AccessBatch, void, undefined> {
    const { name } = this.#options;
    this.#core.u8.fill(0, L.H_LACKEY, L.H_LACKEY + LACKEY_BYTES);
    this.#count = 0;
    this.bytesRead = 0;
    this.#met.fill(false);
    let total = 0;
    let rest: Uint8Array = new Uint8Array(0);
    for await (const chunk of plainBytes(this.#counted(source), name)) {
      const text = rest.length > 0 ? joined(rest, chunk) : chunk;
      let at = 0;
      while (at < text.length) {
        const used = this.#parse(text.subarray(at, at + TEXT_BYTES), false);
        at += used;
        if (this.#core.stopReason === L.STOP_FULL) {
          const batch = this.#complete();
          total += batch.count;
          yield batch;
          this.#keepBehind(batch);
        } else if (used === 0) break;
      }
      // Copied: the source may use its buffer again. Never longer than a line.
      rest = text.slice(at);
    }
    while (rest.length > 0) {
      rest = rest.subarray(this.#parse(rest, true));
      if (this.#core.stopReason !== L.STOP_FULL) continue;
      const batch = this.#complete();
      total += batch.count;
      yield batch;
      this.#keepBehind(batch);
    }
    total += this.#count;
    if (this.#count > 0) yield this.#held(this.#count);
    this.#count = 0;
    if (total === 0) throw this.#bad(this.lines, 'holds no data access');
  }

  async *#counted(source: ByteSource): AsyncGenerator<Uint8Array, void, undefined> {
    for await (const chunk of source) {
      this.bytesRead += chunk.length;
      this.#options.onProgress?.(this.bytesRead);
      yield chunk;
    }
  }

  /** Parses text behind the accesses that stand there already; returns how many bytes were used. */
  #parse(text: Uint8Array, last: boolean): number {
    const core = this.#core;
    this.#lendRanges();
    core.bytesArea.lose();
    core.u8.set(text, core.area(L.AREA_BYTES));
    const output = core.area(L.AREA_ACCESSES) + this.#count * L.ACCESS_BYTES;
    this.#count += core.exports.lackeyParse(core.area(L.AREA_BYTES), text.length, output, L.JOB_ACCESSES_MAX - this.#count, last ? 1 : 0);
    this.#noteMet();
    const used = core.header(L.LACKEY_CONSUMED);
    if (core.stopReason === L.STOP_LINE) throw this.#refused(text.subarray(used), core.header(L.LACKEY_REASON));
    return used;
  }

  /** Puts the offload ranges where the parser looks for them; what runs between two batches uses that area too. */
  #lendRanges(): void {
    const core = this.#core;
    core.setHeader(L.LACKEY_RANGES, this.#ranges.length);
    const list = core.words(L.AREA_LIST, this.#ranges.length * 4);
    this.#ranges.forEach(({ start, end, device }, i) => {
      list[4 * i] = start;
      list[4 * i + 1] = Math.floor(start / HIGH) + device * 2 ** 16;
      list[4 * i + 2] = end;
      list[4 * i + 3] = end / HIGH;
    });
  }

  #noteMet(): void {
    const list = this.#core.words(L.AREA_LIST, this.#ranges.length * 4);
    for (let i = 0; i < this.#met.length; i++) if (list[4 * i + 1]! & L.RANGE_MET) this.#met[i] = true;
  }

  #held(count: number): AccessBatch {
    return { address: this.#core.area(L.AREA_ACCESSES), count };
  }

  /** Of a full area, what is complete: all of it, but for a last run of the device that is not the only one. */
  #complete(): AccessBatch {
    const highs = (this.#core.area(L.AREA_ACCESSES) >>> 2) + 1;
    const { u32 } = this.#core;
    let start = this.#count;
    const side = start > 0 ? u32[highs + 2 * (start - 1)]! >>> L.ACCESS_SIDE_SHIFT : 0;
    // The CPU's accesses are no job: they may be cut anywhere.
    if (side !== 0) while (start > 0 && u32[highs + 2 * (start - 1)]! >>> L.ACCESS_SIDE_SHIFT === side) start--;
    return this.#held(start > 0 ? start : this.#count);
  }

  /** Moves the accesses behind a batch to the front. */
  #keepBehind(batch: AccessBatch): void {
    const from = batch.address + batch.count * L.ACCESS_BYTES;
    const end = batch.address + this.#count * L.ACCESS_BYTES;
    this.#core.u8.copyWithin(batch.address, from, end);
    this.#count -= batch.count;
  }

  #refused(text: Uint8Array, reason: number): FarfaultError {
    const line = excerpt(text);
    const where = `line ${this.lines + 1}`;
    switch (reason) {
      case L.LINE_ADDRESS:
        return this.#bad(line, `${where}: ${printed(line)} has an address that does not fit 48 bits`);
      case L.LINE_LENGTH:
        return this.#bad(line, `${where}: ${printed(line)} is an access of 0 bytes, or of more than ${L.ACCESS_LENGTH_MAX}`);
      case L.LINE_BINARY:
        return this.#bad(line, `${where}: these bytes are not text, and so not a trace of Valgrind's lackey`);
      case L.LINE_LONG:
        return this.#bad(line, `${where} is longer than ${L.LINE_BYTES_MAX} bytes, and so not one of Valgrind's lackey`);
      case L.LINE_CUT:
        return this.#bad(line, `${where}: ${printed(line)} is cut off: the trace ends in the middle of a line`);
      default:
        return this.#bad(line, `${where}: ${printed(line)} is not a line of Valgrind's lackey, such as "I  00401200,3" or " L 1fff0008,8"`);
    }
  }

  #bad(value: unknown, rule: string): FarfaultError {
    return new FarfaultError('EILSEQ', this.#options.name, value, rule, `${this.#options.name} ${rule}`);
  }
}

/** From H_LACKEY on, the parser's state. */
const LACKEY_BYTES = 64;
const EXCERPT_BYTES = 60;

/** The start of a refused line. */
function excerpt(text: Uint8Array): string {
  const end = text.indexOf(0x0a);
  const line = text.subarray(0, end < 0 ? text.length : end);
  const shown = String.fromCharCode(...line.subarray(0, EXCERPT_BYTES)).replace(/\r$/, '');
  return line.length > EXCERPT_BYTES ? `${shown}...` : shown;
}

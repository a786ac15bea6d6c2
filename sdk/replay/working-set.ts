/** How much memory a trace needs: what `--oversubscribe` divides. */
import * as L from '../../assembly/layout.ts';
import { type NamesOf, requireArray, requireFunction, requireOptions } from '../mm/arguments.ts';
import { fail } from '../errors.ts';
import { createMachine } from '../machine.ts';
import type { ByteSource } from './gzip.ts';
import { type OffloadRange, requireInstructions } from './offload.ts';
import { requireSource } from './source.ts';
import { TraceReader } from './trace.ts';

/** What `measureTrace` is told: who does which accesses, as for `replayTrace`. */
export interface MeasureOptions {
  /** What errors call the trace. */
  readonly name: string;
  /** Instructions whose data accesses are the first device's; none: all are. */
  readonly offload: readonly OffloadRange[];
  /** Those of further devices. */
  readonly further?: readonly (readonly OffloadRange[])[];
  /** Bytes that one fault of a device brings: a power of two from 4096 (default) to 2 MiB; of several devices, one for all of them or one each. What is touched counts as a whole one. */
  readonly granule?: number | readonly number[];
  /** Told after every chunk how many bytes of the source have been read. */
  readonly onProgress?: (bytesRead: number) => void;
}

const MEASURE_OPTIONS: NamesOf<MeasureOptions> = { name: true, offload: true, further: true, granule: true, onProgress: true };

/** Bytes, by who touches them. */
export interface WorkingSet {
  /** Pages that anybody touches. */
  readonly all: number;
  /** Granules that each device touches, in the order of the devices. */
  readonly devices: readonly number[];
}

/** Bytes of host memory that reading takes: the machine has no other use for it. */
const DRAM_BYTES = 64 * L.PAGE_BYTES;

/**
 * Reads a trace to its end and says how much memory its accesses touch; nothing is replayed. Errors: EILSEQ for a malformed trace, EINVAL for bad options.
 */
export async function measureTrace(source: ByteSource, options: MeasureOptions): Promise<WorkingSet> {
  requireSource('measureTrace.source', source);
  requireOptions('measureTrace', options, MEASURE_OPTIONS);
  const { name, offload, further = [], granule = L.PAGE_BYTES, onProgress } = options;
  if (typeof name !== 'string') throw fail('EINVAL', 'measureTrace.name', name, 'is not text');
  if (onProgress !== undefined) requireFunction('measureTrace.onProgress', onProgress);
  requireArray('measureTrace.offload', offload);
  requireArray('measureTrace.further', further);
  for (const ranges of [offload, ...further]) {
    requireArray('measureTrace.offload', ranges);
    for (const range of ranges) requireInstructions('measureTrace.offload', range);
  }
  if (further.length >= L.ACCESS_DEVICES_MAX)
    throw fail('EINVAL', 'measureTrace.further', further.length + 1, `devices are more than ${L.ACCESS_DEVICES_MAX}`);
  const granules = granulesOf(granule, 1 + further.length);
  const machine = await createMachine({ dram: DRAM_BYTES });
  try {
    const { core } = machine.platform;
    const all = new Touched(L.PAGE_BYTES);
    const devices = granules.map((each) => new Touched(each));
    for await (const { count } of new TraceReader(core, { name, offload, further, onProgress }).batches(source)) {
      const words = core.words(L.AREA_ACCESSES, count * 2);
      for (let i = 0; i < count; i++) {
        const low = words[i * 2]!;
        const high = words[i * 2 + 1]!;
        const start = (high & L.ACCESS_ADDRESS_HIGH) * 2 ** 32 + low;
        const last = start + ((high >>> L.ACCESS_LENGTH_SHIFT) & L.ACCESS_LENGTH);
        all.add(start, last);
        if (high & L.ACCESS_DEVICE) devices[high >>> L.ACCESS_DEVICE_SHIFT]!.add(start, last);
      }
    }
    return { all: all.bytes, devices: devices.map(({ bytes }) => bytes) };
  } finally {
    machine.close();
  }
}

/** One for each of so many devices. Throws EINVAL for what is none. */
function granulesOf(granule: number | readonly number[], devices: number): readonly number[] {
  const granules: readonly number[] = typeof granule === 'object' ? granule : new Array<number>(devices).fill(granule);
  requireArray('measureTrace.granule', granules);
  if (granules.length !== devices)
    throw fail('EINVAL', 'measureTrace.granule', granules.length, `is not one for each of ${devices} devices`);
  for (const each of granules)
    if (!Number.isInteger(each) || each < L.PAGE_BYTES || each > L.PAGE_BYTES << L.HUGE_ORDER || (each & (each - 1)) !== 0)
      throw fail('EINVAL', 'measureTrace.granule', each, 'is not a power of two between 4096 and 2 MiB');
  return granules;
}

/** Aligned blocks that have been touched. */
class Touched {
  readonly #block: number;
  readonly #blocks: Set<number> = new Set();
  #last = -1;

  constructor(block: number) {
    this.#block = block;
  }

  /** Bytes `start` to `last`, no more than a block of them. */
  add(start: number, last: number): void {
    const from = Math.floor(start / this.#block);
    const to = Math.floor(last / this.#block);
    if (from === this.#last && to === from) return;
    this.#last = to;
    this.#blocks.add(from).add(to);
  }

  get bytes(): number {
    return this.#blocks.size * this.#block;
  }
}

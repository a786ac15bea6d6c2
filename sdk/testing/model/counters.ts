/** Everything the model counts, as one plain object. The shape is that of the JSON of a replay, `transfers` aside. */

/** Why a CPU access faults. */
export type FaultCause = 'zero' | 'demand' | 'cow' | 'reuse' | 'home';

/** Why pages move: a device fault (or the verb `migrate`), a touch of the CPU or of another device, or lack of room. */
export type MigrationCause = 'fault' | 'home' | 'evict';

/** Power of two (a lower bound, as a string) -> how many. */
export type Histogram = Record<string, number>;

export interface Counters {
  /** Executed accesses. `cpu + device === read + write`. */
  accesses: { cpu: number; device: number; read: number; write: number };
  /** Per page of an executed access. A device sums its contexts, the CPU its spaces. */
  tlb: { cpu: { hit: number; miss: number }; devices: Record<string, { hit: number; miss: number }> };
  /** `cpu`: faults raised. A device: records written into its fault buffer. */
  faults: { cpu: number; devices: Record<string, number> };
  /** Source node -> target node -> pages copied. Both directions of each device with memory are always listed. */
  migrated: Record<string, Record<string, { pages: number; bytes: number }>>;
  /** Chunks evicted. */
  evictions: number;
  /** Notifier events delivered: one for each event and context. */
  invalidations: number;
  frames: Record<string, { peak: number }>;
  detail: {
    cpuFaults: Record<FaultCause, number>;
    batches: number;
    /** By records in the batch. */
    batchSizes: Histogram;
    /** Records written into fault buffers. */
    recorded: number;
    /** Faults that an earlier one of their batch had served already. */
    coalesced: number;
    /** Faults dropped because no frame could be had in their batch. */
    deferred: number;
    /** Device accesses dropped as failed. */
    cancelled: number;
    /** Records lost to a full fault buffer. */
    overflow: number;
    /** Pages that came to a device as zeros: nothing was copied. */
    cleared: number;
    /** Pages copied. */
    migratedByCause: Record<MigrationCause, number>;
  };
  /** Pages of one transfer (as a string) -> how many such transfers. One transfer is one operation that copied at least a page. */
  transfers: { toDevice: Histogram; toHost: Histogram };
}

export function zeroCounters(): Counters {
  return {
    accesses: { cpu: 0, device: 0, read: 0, write: 0 },
    tlb: { cpu: { hit: 0, miss: 0 }, devices: {} },
    faults: { cpu: 0, devices: {} },
    migrated: {},
    evictions: 0,
    invalidations: 0,
    frames: {},
    detail: {
      cpuFaults: { zero: 0, demand: 0, cow: 0, reuse: 0, home: 0 },
      batches: 0,
      batchSizes: {},
      recorded: 0,
      coalesced: 0,
      deferred: 0,
      cancelled: 0,
      overflow: 0,
      cleared: 0,
      migratedByCause: { fault: 0, home: 0, evict: 0 },
    },
    transfers: { toDevice: {}, toHost: {} },
  };
}

/** Counts one operation that copied `pages` pages; none, when it copied nothing. */
export function countCopied(counters: Counters, pages: number, how: { from: string; to: string; cause: MigrationCause }): void {
  if (pages === 0) return;
  const migrated = counters.migrated[how.from]![how.to]!;
  migrated.pages += pages;
  migrated.bytes += pages * 4096;
  counters.detail.migratedByCause[how.cause] += pages;
  count(how.cause === 'fault' ? counters.transfers.toDevice : counters.transfers.toHost, pages);
}

/** Counts one served batch of `records` records under the power of two at or below its size. */
export function countBatch(counters: Counters, records: number): void {
  counters.detail.batches += 1;
  let power = 1;
  while (power * 2 <= records) power *= 2;
  count(counters.detail.batchSizes, power);
}

function count(histogram: Histogram, key: number): void {
  histogram[key] = (histogram[key] ?? 0) + 1;
}

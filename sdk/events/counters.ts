/** Counters of a machine: its records, folded. Where nobody listens they are counted without a record. */
import { fail } from '../errors.ts';
import type { CpuFaultCause, EvictionResult, Evictor, MigrationCause, Way } from './cause.ts';
import type { MachineEvent } from './record.ts';

/** Pages and bytes that went one way. */
export interface Traffic {
  pages: number;
  bytes: number;
}

/** CPU faults by cause. Those that only files, forks, huge pages and atomics bring are there once they have happened. */
export type CpuFaultCounts = Record<'zero' | 'demand' | 'cow' | 'reuse' | 'home', number> & { [cause in CpuFaultCause]?: number };

/** What moved, by cause. Those that not every machine has are there once they have happened. */
export type MigratedByCause = Record<'fault' | 'home' | 'evict' | 'user' | 'detach', Traffic> & { [cause in MigrationCause]?: Traffic };

/** Counters of one machine: every field is a sum over the events of its kind. */
export interface Counters {
  /** CPU faults by cause, those served on behalf of a device left out. */
  readonly cpuFaults: CpuFaultCounts;
  /** Records that devices wrote into their fault buffers, by device. */
  readonly deviceFaults: Record<string, number>;
  /** Fault batches served, and how large they were: element i counts batches of 2^i to 2^(i+1) - 1 records. */
  batches: number;
  readonly batchSizes: number[];
  /** Records merged with another of their batch, put off to a later one, given up, and lost because the buffer was full. */
  coalesced: number;
  deferred: number;
  cancelled: number;
  overflow: number;
  /** Pages copied, by source and target node. */
  readonly migrated: Record<string, Record<string, Traffic>>;
  readonly migratedByCause: MigratedByCause;
  /** Pages that appeared on a device without anything to copy. */
  cleared: number;
  /** Pages that went to the second tier without a copy: it had them, still true. */
  clean: number;
  /** Transfers over the link of a device: element n counts those of n pages, by direction. Those from device to device are there once one has happened. */
  readonly transfers: Record<'toDevice' | 'toHost', Record<number, number>> & { [way in Way]?: Record<number, number> };
  /** Times that a memory gave frames back to make room. */
  evictions: number;
  /** Copies of pages that devices got, of those without a copy of bytes (the page went home and left it behind), and copies that they lost. */
  readonly replicas: { made: number; kept: number; dropped: number };
  /** Frames that were chosen for it, by what became of them. */
  readonly evicted: { [result in EvictionResult]?: number };
  /** Pages that went for it, by who made the room. */
  readonly reclaimed: Record<Evictor, number>;
  /** Notifier events delivered: one per event and context. */
  invalidations: number;
}

/** Counters that stand at zero. */
export function newCounters(): Counters {
  const none = (): Traffic => ({ pages: 0, bytes: 0 });
  return {
    cpuFaults: { zero: 0, demand: 0, cow: 0, reuse: 0, home: 0 },
    deviceFaults: {},
    batches: 0,
    batchSizes: [],
    coalesced: 0,
    deferred: 0,
    cancelled: 0,
    overflow: 0,
    migrated: {},
    migratedByCause: { fault: none(), home: none(), evict: none(), user: none(), detach: none() },
    cleared: 0,
    clean: 0,
    transfers: { toDevice: {}, toHost: {} },
    evictions: 0,
    replicas: { made: 0, kept: 0, dropped: 0 },
    evicted: {},
    reclaimed: { direct: 0, background: 0 },
    invalidations: 0,
  };
}

/**
 * Adds one record to counters. Records folded are the counters: `events.reduce(foldEvent, newCounters())` of everything that happened since the machine was made is `machine.counters`.
 */
export function foldEvent(counters: Counters, event: MachineEvent): Counters {
  if (typeof counters !== 'object' || counters === null || typeof counters.migrated !== 'object')
    throw fail('EINVAL', 'foldEvent.counters', counters, 'is not counters (see newCounters)');
  if (typeof event !== 'object' || event === null || Array.isArray(event))
    throw fail('EINVAL', 'foldEvent.event', event, 'is not an event');
  if (typeof event.type !== 'string' || !/^[a-z]+\.[a-z]+$/.test(event.type))
    throw fail('EINVAL', 'foldEvent.event.type', event.type, 'is not the type of an event');
  switch (event.type) {
    case 'fault.cpu':
      if (!event.forDevice) addCpuFault(counters, event.cause);
      break;
    case 'fault.device':
      counters.deviceFaults[event.device] = (counters.deviceFaults[event.device] ?? 0) + 1;
      break;
    case 'fault.cancelled':
      counters.cancelled++;
      break;
    case 'batch.served':
      counters.coalesced += event.coalesced;
      counters.deferred += event.deferred;
      break;
    case 'batch.begun':
      addBatch(counters, event.records);
      break;
    case 'buffer.overflowed':
      counters.overflow += event.lost;
      break;
    case 'pages.migrated':
      counters.cleared += event.cleared;
      counters.clean += event.clean;
      addMigrated(counters, event.from, event.to, event.pages, event.bytes, event.way, event.cause);
      break;
    case 'frames.evicted':
      addEvicted(counters, event.pages, fatesOf(event.results), event.by);
      break;
    case 'page.replicated':
      addReplicated(counters, event.isKept);
      break;
    case 'replica.dropped':
      counters.replicas.dropped++;
      break;
    case 'range.invalidated':
      counters.invalidations++;
      break;
    default:
  }
  return counters;
}

export function addCpuFault({ cpuFaults }: Counters, cause: CpuFaultCause): void {
  // The commonest by its name: one that is given by a variable is looked up anew at every fault.
  if (cause === 'home') cpuFaults.home = (cpuFaults.home ?? 0) + 1;
  else cpuFaults[cause] = (cpuFaults[cause] ?? 0) + 1;
}

function addMigrated(counters: Counters, from: string, to: string, pages: number, bytes: number, way: Way, cause: MigrationCause): void {
  if (pages > 0) addTraffic(trafficIn(counters, from, to, way, cause), pages, bytes);
}

/** The counters of one way between two nodes for one cause. */
export interface CountedTraffic {
  readonly from: string;
  readonly to: string;
  readonly way: Way;
  readonly cause: MigrationCause;
  /** Undefined: of the second tier. */
  readonly transfers: Record<number, number> | undefined;
  readonly cell: Traffic;
  readonly byCause: Traffic;
}

export function trafficIn(counters: Counters, from: string, to: string, way: Way, cause: MigrationCause): CountedTraffic {
  // The second tier is behind no link.
  const transfers = way === 'swapOut' || way === 'swapIn' ? undefined : (counters.transfers[way] ??= {});
  const row = (counters.migrated[from] ??= {});
  const cell = (row[to] ??= { pages: 0, bytes: 0 });
  const byCause = (counters.migratedByCause[cause] ??= { pages: 0, bytes: 0 });
  return { from, to, way, cause, transfers, cell, byCause };
}

/** Adds pages that were copied together. */
export function addTraffic({ transfers, cell, byCause }: CountedTraffic, pages: number, bytes: number): void {
  if (transfers) transfers[pages] = (transfers[pages] ?? 0) + 1;
  cell.pages += pages;
  cell.bytes += bytes;
  byCause.pages += pages;
  byCause.bytes += bytes;
}

export function addReplicated({ replicas }: Counters, isKept: boolean): void {
  replicas.made++;
  if (isKept) replicas.kept++;
}

/** How many victims had each result. */
export type EvictionFates = { [result in EvictionResult]?: number };

/** Counts one more. */
export function addFate(fates: EvictionFates, result: EvictionResult): void {
  fates[result] = (fates[result] ?? 0) + 1;
}

function fatesOf(results: readonly EvictionResult[]): EvictionFates {
  const fates: EvictionFates = {};
  for (const result of results) addFate(fates, result);
  return fates;
}

export function addEvicted(counters: Counters, pages: number, fates: EvictionFates, by: Evictor): void {
  if (pages > 0) counters.evictions++;
  counters.reclaimed[by] += pages;
  for (const result in fates) {
    const pagesOf = fates[result as EvictionResult]!;
    if (pagesOf > 0) counters.evicted[result as EvictionResult] = (counters.evicted[result as EvictionResult] ?? 0) + pagesOf;
  }
}

export function addBatch(counters: Counters, records: number): void {
  counters.batches++;
  const at = 31 - Math.clz32(records);
  while (counters.batchSizes.length <= at) counters.batchSizes.push(0);
  counters.batchSizes[at]! += 1;
}

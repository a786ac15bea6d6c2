/**
 * What happens in a machine, as records of a closed union, and the counters that are those records folded.
 * Free when nobody listens: a record is built only for a listener, counters are plain numbers. Ground floor: imports nothing above.
 */

/** Why a CPU fault was raised, by what the home entry said. */
export type CpuFaultCause =
  /** Read of a hole: the page of zeros. */
  | 'zero'
  /** Write to a hole: a zeroed frame. */
  | 'demand'
  /** Write to the page of zeros: a frame of its own. */
  | 'cow'
  /** Write to a page of its own that is mapped read-only: the right comes back in place. */
  | 'reuse'
  /** The page is on a device: `migrate_to_ram`. */
  | 'home'
  /** Write to a page that others have too: a copy of its own. */
  | 'copy'
  /** A page of a file or of shared memory: it appears, or the right to write it does. */
  | 'share'
  /** Touch of a hole where a huge page appears. */
  | 'huge'
  /** The page is a device's for its atomics: the device loses it. */
  | 'exclusive';

/** Why pages moved. */
export type MigrationCause =
  /** A device fault. */
  | 'fault'
  /** A CPU touched a page on a device. */
  | 'home'
  /** A device ran out of frames. */
  | 'evict'
  /** The program asked: `space.migrate`. */
  | 'user'
  /** The device went away: detach, close. */
  | 'detach'
  /** Somebody pins the page for long. */
  | 'pin'
  /** The space is copied, and its child shall find the page at home. */
  | 'fork'
  /** A memory is taken out of the machine. */
  | 'unplug';

/** Why translations of a range were taken away. The reason codes of interval notifiers. */
export type InvalidationReason =
  'UNMAP' | 'CLEAR' | 'PROTECTION_VMA' | 'PROTECTION_PAGE' | 'SOFT_DIRTY' | 'RELEASE' | 'MIGRATE' | 'EXCLUSIVE';

/** One thing that happened. Page numbers are VPNs; `tick` counts events since the machine was made. */
export type MachineEvent =
  | {
      readonly type: 'fault.cpu';
      readonly tick: number;
      readonly space: number;
      readonly vpn: number;
      readonly write: boolean;
      readonly cause: CpuFaultCause;
      readonly forDevice: boolean;
    }
  | {
      readonly type: 'fault.device';
      readonly tick: number;
      readonly space: number;
      readonly device: string;
      readonly vpn: number;
      readonly write: boolean;
      readonly lane: number;
    }
  | {
      readonly type: 'fault.cancelled';
      readonly tick: number;
      readonly space: number;
      readonly device: string;
      readonly vpn: number;
      readonly reason: 'no mapping' | 'permission';
    }
  | {
      readonly type: 'batch.served';
      readonly tick: number;
      readonly space: number;
      readonly device: string;
      readonly records: number;
      readonly coalesced: number;
      readonly deferred: number;
      readonly overflow: number;
    }
  | {
      readonly type: 'pages.migrated';
      readonly tick: number;
      readonly space: number;
      readonly vpn: number;
      readonly from: string;
      readonly to: string;
      readonly pages: number;
      readonly cleared: number;
      readonly refused: number;
      readonly cause: MigrationCause;
    }
  | { readonly type: 'frames.evicted'; readonly tick: number; readonly node: string; readonly pages: number }
  | {
      readonly type: 'range.invalidated';
      readonly tick: number;
      readonly space: number;
      readonly device: string;
      readonly vpn: number;
      readonly pages: number;
      readonly reason: InvalidationReason;
      readonly ignored: boolean;
    }
  | { readonly type: 'space.mapped'; readonly tick: number; readonly space: number; readonly vpn: number; readonly pages: number }
  | { readonly type: 'space.unmapped'; readonly tick: number; readonly space: number; readonly vpn: number; readonly pages: number }
  | {
      readonly type: 'space.protected';
      readonly tick: number;
      readonly space: number;
      readonly vpn: number;
      readonly pages: number;
      readonly rights: string;
    }
  | { readonly type: 'space.forked'; readonly tick: number; readonly space: number; readonly child: number }
  | { readonly type: 'page.exclusive'; readonly tick: number; readonly space: number; readonly vpn: number; readonly owner: number }
  | { readonly type: 'context.attached'; readonly tick: number; readonly space: number; readonly device: string }
  | { readonly type: 'context.detached'; readonly tick: number; readonly space: number; readonly device: string }
  | { readonly type: 'context.failed'; readonly tick: number; readonly space: number; readonly device: string; readonly message: string };

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
  /** Transfers over the link of a device: element n counts those of n pages, by direction. */
  readonly transfers: { readonly toDevice: Record<number, number>; readonly toHost: Record<number, number> };
  /** Times that a device gave frames back to make room. */
  evictions: number;
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
    transfers: { toDevice: {}, toHost: {} },
    evictions: 0,
    invalidations: 0,
  };
}

/** Listens to a machine's events. */
export type Listener = (event: MachineEvent) => void;

type Untimed<E> = E extends MachineEvent ? Omit<E, 'tick'> : never;

/** A machine's event stream. */
export class Events {
  readonly counters: Counters = newCounters();
  private readonly report: (error: unknown) => void;
  private listeners: Listener[] = [];
  private tick = 0;

  /** `report` gets what listeners throw: they look on, and may not break off what they see. */
  constructor(report: (error: unknown) => void) {
    this.report = report;
  }

  /** Calls `listener` for every event from now on; the returned function ends that. */
  on(listener: Listener): () => void {
    this.listeners.push(listener);
    return () => {
      this.listeners = this.listeners.filter((each) => each !== listener);
    };
  }

  /** True when somebody listens: build a record only then. */
  get heard(): boolean {
    return this.listeners.length > 0;
  }

  emit(event: Untimed<MachineEvent>): void {
    const timed = { ...event, tick: this.tick++ } as MachineEvent;
    for (const listener of this.listeners) {
      try {
        listener(timed);
      } catch (error) {
        this.report(error);
      }
    }
  }

  /** Adds a CPU fault. */
  countCpuFault(cause: CpuFaultCause): void {
    const { cpuFaults } = this.counters;
    cpuFaults[cause] = (cpuFaults[cause] ?? 0) + 1;
  }

  /** Adds pages that were copied from one node to another. */
  countMigrated(from: string, to: string, pages: number, bytes: number, direction: 'toDevice' | 'toHost', cause: MigrationCause): void {
    if (pages === 0) return;
    const transfers = this.counters.transfers[direction];
    transfers[pages] = (transfers[pages] ?? 0) + 1;
    const row = (this.counters.migrated[from] ??= {});
    const cell = (row[to] ??= { pages: 0, bytes: 0 });
    cell.pages += pages;
    cell.bytes += bytes;
    const byCause = (this.counters.migratedByCause[cause] ??= { pages: 0, bytes: 0 });
    byCause.pages += pages;
    byCause.bytes += bytes;
  }

  countBatch(records: number): void {
    this.counters.batches++;
    const size = 31 - Math.clz32(records);
    while (this.counters.batchSizes.length <= size) this.counters.batchSizes.push(0);
    this.counters.batchSizes[size]! += 1;
  }
}

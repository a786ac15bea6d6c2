/**
 * What happens in a machine, as records of a closed union, and the counters that are those records folded.
 * Free when nobody listens: a record is built only for a listener, counters are plain numbers. Ground floor: imports nothing above.
 */
import { fail } from './errors.ts';

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
  | 'exclusive'
  /** Write to a page of which devices have copies: they lose them. */
  | 'upgrade'
  /** The page is in the second tier: it comes back. */
  | 'swap';

/** Why an access was not, and will not be, done. */
export type FatalReason =
  /** No VMA there. */
  | 'no mapping'
  /** The VMA does not allow it. */
  | 'permission'
  /** No frame, table page or record is to be had. */
  | 'no memory'
  /** The bytes cannot be had: past the end of a file, held elsewhere, lost. */
  | 'bus error'
  /** The page is served again and again, and taken away each time. */
  | 'no progress'
  /** The policy of the device lets the page stay where it is, and the device does not reach it there. */
  | 'out of reach';

/** Why pages moved. */
export type MigrationCause =
  /** A device fault. */
  | 'fault'
  /** A CPU touched a page on a device. */
  | 'home'
  /** A device ran out of frames. */
  | 'evict'
  /** The program asked: `context.migrate`, `madvise(collapse)`. */
  | 'user'
  /** The device went away: detach, close. */
  | 'detach'
  /** Somebody pins the page for long. */
  | 'pin'
  /** The space is copied, and its child shall find the page at home. */
  | 'fork'
  /** A memory is taken out of the machine. */
  | 'unplug'
  /** Host memory is full: to the second tier. */
  | 'swap out'
  /** A touch of a page in the second tier. */
  | 'swap in';

/** Which way pages moved: to a device, to the host, from a device to another one over a link, or between the host and the second tier. */
export type Way = 'toDevice' | 'toHost' | 'peer' | 'swapOut' | 'swapIn';

/** Why translations of a range were taken away. The reason codes of interval notifiers. */
export type InvalidationReason =
  'UNMAP' | 'CLEAR' | 'PROTECTION_VMA' | 'PROTECTION_PAGE' | 'SOFT_DIRTY' | 'RELEASE' | 'MIGRATE' | 'EXCLUSIVE';

/** What was going on when they were: a verb of the program, a fault, or a migration and its cause. */
export type InvalidationCause =
  | 'munmap'
  | 'mremap'
  | 'mprotect'
  | 'dontneed'
  | 'free'
  | 'collapse'
  | 'fork'
  | 'truncate'
  | 'write-back'
  /** A device has lost what was in its memory. */
  | 'reset'
  | 'exit'
  | 'exec'
  | 'reap'
  /** A part of a page on a device is written, by way of the host. */
  | 'hmemcpy'
  /** A CPU fault that gives a page a frame of its own. */
  | 'cow'
  /** A page becomes a device's for its atomics, or stops to be. */
  | 'exclusive'
  | 'revoke'
  /** A device gets copies of pages: nobody may write them any more. */
  | 'duplicate'
  /** A page of which devices have copies is written. */
  | 'upgrade'
  | `migration: ${MigrationCause}`
  /** Announced by somebody who does not say. */
  | 'unknown';

/** What a migration announces. */
export const MIGRATING: Readonly<Record<MigrationCause, InvalidationCause>> = {
  fault: 'migration: fault',
  home: 'migration: home',
  evict: 'migration: evict',
  user: 'migration: user',
  detach: 'migration: detach',
  pin: 'migration: pin',
  fork: 'migration: fork',
  unplug: 'migration: unplug',
  'swap out': 'migration: swap out',
  'swap in': 'migration: swap in',
};

/** What became of a frame that was chosen to make room. */
export type EvictionResult =
  /** Its page is elsewhere. */
  | 'success'
  /** Its page was gone before it could be moved: unmapped, or moved by somebody else. */
  | 'unmapped'
  /** There was no frame for it elsewhere: it stays. */
  | 'fallback'
  /** Its device did not copy it: it stays. */
  | 'device error'
  /** Somebody holds it (a pin, an operation under way): it stays. */
  | 'held';

/** Why room is made. */
export type EvictionCause =
  /** A device fault. */
  | 'fault'
  /** A program that moves pages. */
  | 'user'
  /** Less is free than a memory is to have. */
  | 'watermark';

/** Who makes room: whoever needs it, or the evictor that keeps some free. */
export type Evictor = 'direct' | 'background';

/** Why a device uses a page where it is, though it has memory of its own. */
export type RemoteMapCause =
  /** It is to be used there: that is advised, or the device's policy says so. */
  | 'advice'
  /** Pages of this sort do not move: files, shared memory, hugetlb, a page that others map too. */
  | 'policy'
  /** It is on coherent memory of another device. */
  | 'coherence'
  /** It is in another device's memory, which the link between the two lets this one use. */
  | 'link'
  /** It goes back and forth: it is pinned where it is. */
  | 'thrashing'
  /** It did not move: somebody holds it, or had it just then. */
  | 'pinned'
  /** Its copy failed. */
  | 'copy failed'
  /** The device's memory is full, and its eviction made no room. */
  | 'eviction'
  /** The device's memory is full of what may not be evicted. */
  | 'out of memory';

/** Why a fault was put off. */
export type ThrottleCause =
  /** The page goes back and forth. */
  | 'thrashing'
  /** It has come to another device just now. */
  | 'residency';

/** Why stalled lanes try again. */
export type ReplayCause =
  /** Their batch has served pages. */
  | 'batch served'
  /** It has served none, and given accesses up. */
  | 'batch cancelled'
  /** It has put everything off. */
  | 'batch deferred';

/** What made pages, or the promise of them, go. */
export type UnmapCause = 'munmap' | 'mremap' | 'dontneed' | 'free' | 'truncate' | 'exit' | 'exec' | 'reap';

/** Why a device lost its copy of a page: what was announced of the page, or a migration that makes room or takes the page along. */
export type ReplicaCause =
  | InvalidationCause
  /** The device's driver threw. */
  | 'failure'
  /** Its table had no room for the translation. */
  | 'full';

/** Why addresses were agreed on with peers, or given back to them. `rollback`: another peer has refused them, or the verb has failed later. */
export type VaCause = 'mmap' | 'mremap' | 'attach' | 'munmap' | 'exit' | 'exec' | 'detach' | 'rollback';

/** Why huge pages became small ones. */
export type SplitCause = 'munmap' | 'mprotect' | 'madvise' | 'mremap' | 'fork' | 'fault' | 'exclusive' | 'migration' | 'duplicate';

/** Who took an exclusive page back. */
export type RevokeCause = 'fault' | 'fork' | 'collapse' | 'detach' | 'unplug';

/** Why a page got a copy of its own. */
export type CopyCause =
  /** Somebody wrote to it. */
  | 'write'
  /** Somebody pins it. */
  | 'unshare'
  /** It was pinned when its space was forked: the child gets its copy at once. */
  | 'fork';

/** Pages of one space, one after the other. */
export interface PageRun {
  readonly space: number;
  readonly vpn: number;
  readonly pages: number;
}

/**
 * One thing that happened. `space` is `space.id`, `device` a device's name, `from`, `to` and `node` names of nodes; page numbers are VPNs. `tick` counts the records that were made: their order, not time.
 * What each one means, and what NVIDIA's tools call it: docs/events.md.
 */
export type MachineEvent =
  // ------------------------------------------------------------------------------------------------------------- faults
  | {
      readonly type: 'fault.cpu';
      readonly tick: number;
      readonly space: number;
      readonly vpn: number;
      /** Of the huge page around it that appears; else 1. */
      readonly pages: number;
      readonly write: boolean;
      readonly cause: CpuFaultCause;
      /** Served on behalf of a device, and not counted among the CPU's. */
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
      readonly write: boolean;
      readonly lane: number;
      readonly reason: FatalReason & ('no mapping' | 'permission');
    }
  | {
      readonly type: 'fault.fatal';
      readonly tick: number;
      readonly space: number;
      /** Whose access it was; undefined: the CPU's. */
      readonly device: string | undefined;
      readonly vpn: number;
      readonly write: boolean;
      readonly reason: FatalReason;
    }
  // ------------------------------------------------------------------------------------------------------------- jobs and batches
  | {
      readonly type: 'job.begun';
      readonly tick: number;
      readonly space: number;
      readonly device: string;
      readonly accesses: number;
      readonly lanes: number;
    }
  | {
      readonly type: 'job.ended';
      readonly tick: number;
      readonly space: number;
      readonly device: string;
      readonly executed: number;
      readonly cancelled: number;
      readonly rounds: number;
      /** False: it was broken off. */
      readonly done: boolean;
    }
  | {
      readonly type: 'buffer.overflowed';
      readonly tick: number;
      readonly space: number;
      readonly device: string;
      /** Records that found no room. */
      readonly lost: number;
    }
  | {
      readonly type: 'batch.begun';
      readonly tick: number;
      readonly space: number;
      readonly device: string;
      readonly records: number;
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
      readonly type: 'lanes.replayed';
      readonly tick: number;
      readonly space: number;
      readonly device: string;
      readonly lanes: number;
      /** Of the job, from 2 on. */
      readonly round: number;
      readonly cause: ReplayCause;
    }
  // ------------------------------------------------------------------------------------------------------------- pages that move
  | {
      readonly type: 'pages.migrated';
      readonly tick: number;
      /** -1: by frame, whoever maps them. */
      readonly space: number;
      /** First page of the range that was looked at. */
      readonly vpn: number;
      readonly from: string;
      readonly to: string;
      /** `peer`: from one device's memory to another's, over their link. */
      readonly way: Way;
      /** Copied, and their bytes. */
      readonly pages: number;
      readonly bytes: number;
      readonly cleared: number;
      readonly refused: number;
      /** Gone without a copy: the second tier has them, still true. */
      readonly clean: number;
      readonly cause: MigrationCause;
      /** The page for whose sake the others came along; -1: none. */
      readonly wanted: number;
      /** Where what moved, copied or cleared, is mapped now. */
      readonly runs: readonly PageRun[];
    }
  | {
      readonly type: 'frames.evicted';
      readonly tick: number;
      readonly node: string;
      readonly pages: number;
      /** The victims, the first frames of huge ones, and what became of each. */
      readonly frames: readonly number[];
      readonly results: readonly EvictionResult[];
      readonly by: Evictor;
      /** Who needs the room: the space and the first page. -1: nobody yet. */
      readonly space: number;
      readonly vpn: number;
      readonly cause: EvictionCause;
      /** Where what went is mapped now. */
      readonly runs: readonly PageRun[];
    }
  | {
      readonly type: 'pages.mapped';
      readonly tick: number;
      readonly space: number;
      readonly device: string;
      readonly vpn: number;
      readonly pages: number;
      readonly node: string;
      readonly cause: RemoteMapCause;
    }
  | {
      readonly type: 'thrashing.detected';
      readonly tick: number;
      readonly space: number;
      /** The block. */
      readonly vpn: number;
      readonly pages: number;
      /** Who wants a page of it, and what is done. */
      readonly device: string;
      readonly response: 'throttle' | 'pin';
      /** Changes of side that are remembered. */
      readonly moves: number;
    }
  | {
      readonly type: 'fault.throttled';
      readonly tick: number;
      readonly space: number;
      readonly device: string;
      readonly vpn: number;
      readonly write: boolean;
      readonly cause: ThrottleCause;
    }
  | {
      readonly type: 'page.copied';
      readonly tick: number;
      readonly space: number;
      readonly vpn: number;
      readonly pages: number;
      readonly cause: CopyCause;
    }
  | {
      readonly type: 'page.split';
      readonly tick: number;
      readonly space: number;
      readonly vpn: number;
      readonly pages: number;
      readonly cause: SplitCause;
    }
  | { readonly type: 'page.collapsed'; readonly tick: number; readonly space: number; readonly vpn: number; readonly pages: number }
  | { readonly type: 'page.inserted'; readonly tick: number; readonly space: number; readonly vpn: number; readonly what: 'page' | 'pfn' }
  | {
      readonly type: 'page.exclusive';
      readonly tick: number;
      readonly space: number;
      readonly vpn: number;
      readonly owner: number;
      /** The CPU may read it. */
      readonly cpuReads: boolean;
    }
  | {
      readonly type: 'page.replicated';
      readonly tick: number;
      readonly space: number;
      readonly device: string;
      readonly vpn: number;
      /** Where the copy is. */
      readonly node: string;
      /** The page went home, and what it left behind is the copy: nothing was copied for it. */
      readonly isKept: boolean;
    }
  | {
      readonly type: 'replica.dropped';
      readonly tick: number;
      readonly space: number;
      readonly device: string;
      readonly vpn: number;
      readonly cause: ReplicaCause;
    }
  | { readonly type: 'page.revoked'; readonly tick: number; readonly space: number; readonly vpn: number; readonly cause: RevokeCause }
  | {
      readonly type: 'pages.pinned';
      readonly tick: number;
      readonly space: number;
      readonly vpn: number;
      readonly pages: number;
      readonly write: boolean;
      readonly longTerm: boolean;
    }
  | { readonly type: 'pages.unpinned'; readonly tick: number; readonly space: number; readonly vpn: number; readonly pages: number }
  | {
      readonly type: 'bytes.copied';
      readonly tick: number;
      readonly space: number;
      /** Byte addresses. */
      readonly dest: number;
      readonly src: number;
      /** Bytes copied, and not; in so many pieces. */
      readonly bytes: number;
      readonly failed: number;
      readonly pieces: number;
      /** Bytes by way: H host, D device. */
      readonly H2H: number;
      readonly H2D: number;
      readonly D2H: number;
      readonly D2D: number;
      /** Those of D2D that went directly, over a link. */
      readonly linked: number;
      /** Pages of the destination that are not where they should be. */
      readonly misplaced: number;
    }
  | {
      readonly type: 'range.advised';
      readonly tick: number;
      readonly space: number;
      readonly vpn: number;
      readonly pages: number;
      readonly advice: string;
      /** Undefined: the host, or nobody. */
      readonly device: string | undefined;
      /** Pages that are as advised, and that are not. */
      readonly followed: number;
      readonly failed: number;
    }
  // ------------------------------------------------------------------------------------------------------------- spaces and files
  | {
      readonly type: 'range.invalidated';
      readonly tick: number;
      readonly space: number;
      readonly device: string;
      readonly vpn: number;
      readonly pages: number;
      readonly reason: InvalidationReason;
      readonly cause: InvalidationCause;
      readonly ignored: boolean;
    }
  | {
      readonly type: 'space.mapped';
      readonly tick: number;
      readonly space: number;
      readonly vpn: number;
      readonly pages: number;
      /** `grow`: mremap made a mapping longer where it is. */
      readonly cause: 'mmap' | 'mremap' | 'grow';
    }
  | {
      readonly type: 'space.unmapped';
      readonly tick: number;
      readonly space: number;
      readonly vpn: number;
      readonly pages: number;
      readonly cause: UnmapCause;
    }
  | {
      readonly type: 'va.negotiated';
      readonly tick: number;
      readonly space: number;
      readonly vpn: number;
      readonly pages: number;
      /** Devices that have reserved it; those without `peerVa` are not asked. */
      readonly peers: number;
      /** Places that were refused before. */
      readonly retries: number;
      readonly cause: VaCause;
    }
  | {
      readonly type: 'va.refused';
      readonly tick: number;
      readonly space: number;
      readonly device: string;
      readonly vpn: number;
      readonly pages: number;
      readonly answer: 'nomem' | 'failure';
      readonly cause: VaCause;
    }
  | {
      readonly type: 'va.released';
      readonly tick: number;
      readonly space: number;
      readonly device: string;
      readonly vpn: number;
      readonly pages: number;
      readonly cause: VaCause;
    }
  | {
      readonly type: 'space.moved';
      readonly tick: number;
      readonly space: number;
      readonly vpn: number;
      readonly pages: number;
      /** First page of where they are now. */
      readonly to: number;
    }
  | {
      readonly type: 'space.protected';
      readonly tick: number;
      readonly space: number;
      readonly vpn: number;
      readonly pages: number;
      readonly rights: string;
    }
  | { readonly type: 'space.forked'; readonly tick: number; readonly space: number; readonly child: number }
  | { readonly type: 'file.stored'; readonly tick: number; readonly file: number; readonly first: number; readonly pages: number }
  // ------------------------------------------------------------------------------------------------------------- devices
  | { readonly type: 'context.attached'; readonly tick: number; readonly space: number; readonly device: string }
  | { readonly type: 'context.detached'; readonly tick: number; readonly space: number; readonly device: string }
  | {
      readonly type: 'context.switched';
      readonly tick: number;
      readonly space: number;
      readonly device: string;
      /** The space that the device ran before; -1: none. */
      readonly from: number;
    }
  | { readonly type: 'context.revived'; readonly tick: number; readonly space: number; readonly device: string }
  | { readonly type: 'context.failed'; readonly tick: number; readonly space: number; readonly device: string; readonly message: string }
  | { readonly type: 'device.removed'; readonly tick: number; readonly device: string }
  | {
      readonly type: 'device.reset';
      readonly tick: number;
      readonly device: string;
      readonly memory: 'kept' | 'lost';
      /** Pages that were lost; one that several spaces had counts for each. */
      readonly lost: number;
    }
  | {
      readonly type: 'pages.lost';
      readonly tick: number;
      readonly space: number;
      readonly vpn: number;
      readonly pages: number;
      readonly device: string;
      readonly node: string;
    }
  | { readonly type: 'devices.linked'; readonly tick: number; readonly a: string; readonly b: string; readonly coherent: boolean }
  | { readonly type: 'devices.unlinked'; readonly tick: number; readonly a: string; readonly b: string }
  | { readonly type: 'memory.plugged'; readonly tick: number; readonly device: string; readonly node: string; readonly frames: number }
  | { readonly type: 'memory.unplugged'; readonly tick: number; readonly device: string; readonly node: string; readonly frames: number }
  | { readonly type: 'ticket.opened'; readonly tick: number; readonly ticket: number; readonly what: string }
  | {
      readonly type: 'ticket.closed';
      readonly tick: number;
      readonly ticket: number;
      readonly state: 'done' | 'failed';
      /** Why it failed; empty otherwise. */
      readonly reason: string;
    };

/** The record of one type. */
export type EventOf<T extends MachineEvent['type']> = Extract<MachineEvent, { readonly type: T }>;

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

function addCpuFault({ cpuFaults }: Counters, cause: CpuFaultCause): void {
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

function trafficIn(counters: Counters, from: string, to: string, way: Way, cause: MigrationCause): CountedTraffic {
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

function addReplicated({ replicas }: Counters, isKept: boolean): void {
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

function addEvicted(counters: Counters, pages: number, fates: EvictionFates, by: Evictor): void {
  if (pages > 0) counters.evictions++;
  counters.reclaimed[by] += pages;
  for (const result in fates) {
    const pagesOf = fates[result as EvictionResult]!;
    if (pagesOf > 0) counters.evicted[result as EvictionResult] = (counters.evicted[result as EvictionResult] ?? 0) + pagesOf;
  }
}

function addBatch(counters: Counters, records: number): void {
  counters.batches++;
  const at = 31 - Math.clz32(records);
  while (counters.batchSizes.length <= at) counters.batchSizes.push(0);
  counters.batchSizes[at]! += 1;
}

/** Listens to a machine's events. */
export type Listener = (event: MachineEvent) => void;

type Untimed<E> = E extends MachineEvent ? Omit<E, 'tick'> : never;

/** A machine's event stream. */
export class Events {
  readonly counters: Counters = newCounters();
  private readonly report: (error: unknown) => void;
  private listeners: Listener[] = [];
  /** The records kept for `space.history`, while the machine records. */
  private kept: EventLog | undefined = undefined;
  private tick = 0;
  /** Where the last pages that moved were counted: the next ones mostly go the same way. */
  private lastTraffic: CountedTraffic | undefined = undefined;
  /** And those before them: what goes to and fro. */
  private otherTraffic: CountedTraffic | undefined = undefined;
  /** @internal Told when listeners are called, and when they have been: they look on, and run no verb meanwhile. */
  gate: { beginCall(callee: string): string; endCall(outer: string): void } | undefined = undefined;

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

  /** True when somebody listens, or records are kept: build a record only then. */
  get heard(): boolean {
    return this.listeners.length > 0 || this.kept !== undefined;
  }

  /** The records that are kept; undefined: none are. */
  get log(): EventLog | undefined {
    return this.kept;
  }

  /** Keeps records from now on, or no more. */
  keep(log: EventLog | undefined): void {
    this.kept = log;
  }

  emit(event: Untimed<MachineEvent>): void {
    const timed = { ...event, tick: this.tick++ } as MachineEvent;
    this.kept?.add(timed);
    if (this.listeners.length === 0) return;
    const outer = this.gate?.beginCall('an event listener');
    for (const listener of this.listeners) {
      try {
        listener(timed);
      } catch (error) {
        this.report(error);
      }
    }
    if (outer !== undefined) this.gate?.endCall(outer);
  }

  /** Adds a CPU fault. */
  countCpuFault(cause: CpuFaultCause): void {
    addCpuFault(this.counters, cause);
  }

  /** Adds pages that were copied from one node to another. */
  countMigrated(from: string, to: string, pages: number, bytes: number, way: Way, cause: MigrationCause, clean = 0): void {
    this.counters.clean += clean;
    if (pages > 0) addTraffic(this.trafficOf(from, to, way, cause), pages, bytes);
  }

  /** Where such pages are counted, before they are: whoever counts them one by one keeps it. */
  trafficOf(from: string, to: string, way: Way, cause: MigrationCause): CountedTraffic {
    let last = this.lastTraffic;
    if (last && (last.way !== way || last.cause !== cause)) {
      this.lastTraffic = this.otherTraffic;
      this.otherTraffic = last;
      last = this.lastTraffic;
    }
    if (!last || last.from !== from || last.to !== to || last.way !== way || last.cause !== cause) {
      last = trafficIn(this.counters, from, to, way, cause);
      this.lastTraffic = last;
    }
    return last;
  }

  /** Adds a copy that a device got. */
  countReplicated(isKept: boolean): void {
    addReplicated(this.counters, isKept);
  }

  /** Adds one choice of victims, and what became of them. */
  countEvicted(pages: number, fates: EvictionFates, by: Evictor): void {
    addEvicted(this.counters, pages, fates, by);
  }

  countBatch(records: number): void {
    addBatch(this.counters, records);
  }
}

/** What a record weighs: one, and one for each run and frame that it lists. */
function weightOf(event: MachineEvent): number {
  switch (event.type) {
    case 'pages.migrated':
      return 1 + event.runs.length;
    case 'frames.evicted':
      return 1 + event.runs.length + event.frames.length;
    default:
      return 1;
  }
}

/**
 * The newest records, within a budget: a ring. A record counts as one, and as one more for each run and frame that it lists; when the budget is spent the oldest go.
 *
 * ```
 *   ring     [ r8 | r9 | r10 |  -  | r5 | r6 | r7 ]
 *                                    ^ first            r0 to r4 are dropped
 * ```
 */
export class EventLog {
  /** The budget, in records. */
  readonly records: number;
  /** Whether something had been there when the log began: what came before is not in it. */
  readonly isLate: boolean;
  /** Records that have gone to make room. */
  dropped = 0;
  private readonly ring: (MachineEvent | undefined)[] = [];
  private first = 0;
  private count = 0;
  private weight = 0;

  /** Requires: `records` is at least 1. */
  constructor(records: number, isLate: boolean) {
    this.records = records;
    this.isLate = isLate;
  }

  /** Records that are there. */
  get length(): number {
    return this.count;
  }

  /** Record `i`, 0 being the oldest. */
  at(i: number): MachineEvent | undefined {
    return i >= 0 && i < this.count ? this.ring[(this.first + i) % this.records] : undefined;
  }

  add(event: MachineEvent): void {
    const weight = weightOf(event);
    while (this.count > 0 && this.weight + weight > this.records) this.drop();
    // One that is too long for the whole budget would be alone in it, and more: it is not kept either.
    if (weight > this.records) {
      this.dropped++;
      return;
    }
    this.ring[(this.first + this.count) % this.records] = event;
    this.count++;
    this.weight += weight;
  }

  /** The records, oldest first. */
  *[Symbol.iterator](): Generator<MachineEvent, void, undefined> {
    for (let i = 0; i < this.count; i++) yield this.at(i)!;
  }

  private drop(): void {
    this.weight -= weightOf(this.ring[this.first]!);
    this.ring[this.first] = undefined;
    this.first = (this.first + 1) % this.records;
    this.count--;
    this.dropped++;
  }
}

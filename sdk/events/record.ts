/** What happens in a machine, as records of a closed union. */
import type {
  CopyCause,
  CpuFaultCause,
  EvictionCause,
  EvictionResult,
  Evictor,
  FatalReason,
  InvalidationCause,
  InvalidationReason,
  MigrationCause,
  RemoteMapCause,
  ReplayCause,
  ReplicaCause,
  RevokeCause,
  SplitCause,
  ThrottleCause,
  UnmapCause,
  VaCause,
  Way,
} from './cause.ts';

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

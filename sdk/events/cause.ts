/** Why things happen in a machine, and how they end: the words that records carry. */

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

/**
 * The classes that a machine's state is made of. A saved machine names them; a test looks that none is missing.
 */
import { Copies, Mappings, Marks, Ranges } from '../core/batch.ts';
import { JobBlock } from '../core/job-block.ts';
import { PageMap } from '../core/page-map.ts';
import { EventLog } from '../events/log.ts';
import { Events } from '../events/stream.ts';
import { DeviceAtomic } from '../gmem/atomic.ts';
import { Context } from '../gmem/context.ts';
import { ReadyMirror } from '../gmem/core-mirror.ts';
import { Detach } from '../gmem/detach.ts';
import { DeviceAccess } from '../gmem/device-access.ts';
import { DeviceMirror } from '../gmem/device-mirror.ts';
import { DeviceTable, DeviceTlb } from '../gmem/device-table.ts';
import { Device } from '../gmem/device.ts';
import { Duplicate } from '../gmem/duplicate.ts';
import { Evacuate } from '../gmem/evacuate.ts';
import { Evict } from '../gmem/evict.ts';
import { FaultBatch, FaultRecords } from '../gmem/fault-batch.ts';
import { FaultPolicy, Question } from '../gmem/fault-policy.ts';
import { FlushEnd, Flushes } from '../gmem/flush.ts';
import { Follower } from '../gmem/follower.ts';
import { GiveUp } from '../gmem/give-up.ts';
import { Granule } from '../gmem/granule.ts';
import { Harvest } from '../gmem/harvest.ts';
import { Hmm, InstallUnlessInvalidated } from '../gmem/hmm.ts';
import { InPlace } from '../gmem/in-place.ts';
import { Introduce } from '../gmem/introduce.ts';
import { JobRun } from '../gmem/job.ts';
import { Lose } from '../gmem/lose.ts';
import { Keeper } from '../gmem/keeper.ts';
import { MoveRange } from '../gmem/move-range.ts';
import { OwnMemory } from '../gmem/own-memory.ts';
import { PeerVaClient } from '../gmem/peer-addresses.ts';
import { PreemptedJob } from '../gmem/preempted.ts';
import { FreeRange, Reserve } from '../gmem/private-range.ts';
import { RemoveDevice } from '../gmem/remove-device.ts';
import { Reset } from '../gmem/reset.ts';
import { Coupled, Touch } from '../gmem/planner.ts';
import { AccessMarks } from '../gmem/marks.ts';
import { FreeReplicas, Replicas } from '../gmem/replica.ts';
import { Revoke } from '../gmem/revoke.ts';
import { ServeBatch } from '../gmem/serve-batch.ts';
import { ServeFault } from '../gmem/serve.ts';
import { SetAttributes } from '../gmem/set-attributes.ts';
import { Spared } from '../gmem/spared.ts';
import { SharedTable } from '../gmem/shared-table.ts';
import { SwitchTo } from '../gmem/switch.ts';
import { Translations } from '../gmem/translations.ts';
import { Unlink } from '../gmem/unlink.ts';
import { Unplug } from '../gmem/unplug.ts';
import { ExtentTree } from '../gmem/va-tree.ts';
import { MappingSet, VaRegion, VaSpace } from '../gmem/va.ts';
import { WalkLanes } from '../gmem/walk-lanes.ts';
import { Window } from '../gmem/window.ts';
import { CpuAccess } from '../mm/access.ts';
import { AddressSpace, Exited } from '../mm/address-space.ts';
import { Announced } from '../mm/announced.ts';
import { Arrivals } from '../mm/arrivals.ts';
import { Attributes } from '../mm/attributes.ts';
import { Collapse } from '../mm/collapse.ts';
import { DevicePins } from '../mm/device-pins.ts';
import { DmaMap, Iommu } from '../mm/dma.ts';
import { Link, Links } from '../mm/links.ts';
import { MakeExclusive } from '../mm/exclusive.ts';
import { CpuFault } from '../mm/fault.ts';
import { ForkMarks } from '../mm/fork-marks.ts';
import { Fork } from '../mm/fork.ts';
import { Hint, HintMark } from '../mm/hint.ts';
import { HostFrames } from '../mm/host-frames.ts';
import { IntervalTree } from '../mm/interval-tree.ts';
import { Mark } from '../mm/madvise.ts';
import { MemoryMap } from '../mm/memory-map.ts';
import { MigrationCopies } from '../mm/migration-copies.ts';
import { Aims } from '../mm/migration-aims.ts';
import { MigrationInstall } from '../mm/migration-install.ts';
import { MigrationPlaces } from '../mm/migration-places.ts';
import { MigrationTargets } from '../mm/migration-targets.ts';
import { MigrationWords } from '../mm/migration-words.ts';
import { MigrationOrder } from '../mm/migration-order.ts';
import { Migration } from '../mm/migration.ts';
import { Mmap } from '../mm/mmap.ts';
import { MovedBlock, Movements } from '../mm/movements.ts';
import { Mremap } from '../mm/mremap.ts';
import { Node, Nodes } from '../mm/node.ts';
import { Idleness, IntervalNotifier, Invalidation, NotifierSet, ReadBegin, RemoveNotifier } from '../mm/notifier.ts';
import { MemoryFile, SharedObject } from '../mm/page-cache.ts';
import { PageLocks, PageLockWait } from '../mm/page-lock.ts';
import { PageMove } from '../mm/page-move.ts';
import { PeerBatch, PeerItem } from '../mm/peer-batch.ts';
import { PeerMoves } from '../mm/peer-moves.ts';
import { Negotiation } from '../mm/peer-va.ts';
import { Pin, PinRange } from '../mm/pin.ts';
import { Places } from '../mm/places.ts';
import { Platform } from '../mm/platform.ts';
import { MirrorRange, RangeFault } from '../mm/range-fault.ts';
import { TakeDown } from '../mm/take-down.ts';
import { Reap } from '../mm/reap.ts';
import { Memcpy } from '../mm/hmemcpy.ts';
import { Stream, StreamEvent, StreamTask } from '../gmem/stream.ts';
import { Reclaim } from '../mm/reclaim.ts';
import { SecondTier } from '../mm/second-tier.ts';
import { Transitions } from '../mm/transitions.ts';
import { Truncate } from '../mm/truncate.ts';
import { VmaSet } from '../mm/vma.ts';
import { WriteBack } from '../mm/write-back.ts';
import { Candidates } from '../policy/candidates.ts';
import { Choice, Clock, Fifo, Lfu, Lru, RandomVictims } from '../policy/victim.ts';
import { Lock, RwLock } from '../step/lock.ts';
import { Scheduler } from '../step/runner.ts';
import { Stack } from '../step/stack.ts';
import { Run, WaitQueue } from '../step/step.ts';
import { Ticket, TicketBook } from '../step/ticket.ts';
import type { StateClass } from '../step/method.ts';

/** All of them, by name. */
export const STATE_CLASSES: Readonly<Record<string, StateClass>> = {
  AccessMarks,
  AddressSpace,
  Announced,
  Arrivals,
  Attributes,
  Collapse,
  Context,
  Copies,
  Coupled,
  Choice,
  Clock,
  CpuAccess,
  CpuFault,
  Detach,
  Device,
  DeviceAccess,
  DeviceAtomic,
  DeviceMirror,
  DevicePins,
  DeviceTable,
  DeviceTlb,
  DmaMap,
  Duplicate,
  Evacuate,
  EventLog,
  Events,
  Evict,
  Exited,
  ExtentTree,
  FaultBatch,
  FaultPolicy,
  FaultRecords,
  FlushEnd,
  Flushes,
  Fifo,
  Follower,
  Fork,
  ForkMarks,
  FreeRange,
  GiveUp,
  Granule,
  FreeReplicas,
  Harvest,
  Hmm,
  Hint,
  HintMark,
  HostFrames,
  Idleness,
  InPlace,
  InstallUnlessInvalidated,
  IntervalNotifier,
  IntervalTree,
  Introduce,
  Invalidation,
  Iommu,
  JobBlock,
  JobRun,
  Keeper,
  Lfu,
  Link,
  Links,
  Lock,
  Lose,
  Lru,
  MakeExclusive,
  Mappings,
  MappingSet,
  Mark,
  Marks,
  Memcpy,
  MemoryFile,
  MemoryMap,
  Migration,
  MigrationCopies,
  MigrationInstall,
  MigrationOrder,
  MigrationPlaces,
  Aims,
  MigrationTargets,
  MigrationWords,
  MirrorRange,
  Mmap,
  MovedBlock,
  Movements,
  MoveRange,
  Mremap,
  Negotiation,
  Node,
  Nodes,
  NotifierSet,
  OwnMemory,
  PageLocks,
  PageLockWait,
  PageMap,
  PageMove,
  PeerBatch,
  PeerItem,
  PeerMoves,
  PeerVaClient,
  Pin,
  PinRange,
  Places,
  Platform,
  PreemptedJob,
  Question,
  RandomVictims,
  RangeFault,
  Ranges,
  ReadBegin,
  ReadyMirror,
  Reap,
  RemoveDevice,
  Reclaim,
  RemoveNotifier,
  Reserve,
  Reset,
  Replicas,
  Revoke,
  Run,
  RwLock,
  Scheduler,
  SecondTier,
  ServeBatch,
  ServeFault,
  SetAttributes,
  SharedObject,
  SharedTable,
  Spared,
  Stack,
  SwitchTo,
  Stream,
  StreamEvent,
  StreamTask,
  TakeDown,
  Ticket,
  TicketBook,
  Touch,
  Transitions,
  Translations,
  Truncate,
  Unlink,
  Unplug,
  VaRegion,
  VaSpace,
  VmaSet,
  WaitQueue,
  WalkLanes,
  Window,
  WriteBack,
};

/** What is not saved, and what it is afterwards. Who listens and who waits for a promise stays with the process that saved; what `attach` returned, it returns again; steps that are kept for their next use are made again. */
export const WITHOUT: Readonly<Record<string, Readonly<Record<string, () => unknown>>>> = {
  Events: { listeners: () => [] },
  Scheduler: { callers: () => new Map() },
  AddressSpace: { spareFault: () => undefined },
  Evict: { shown: () => new Candidates() },
  Lfu: { counts: () => new Uint32Array(0) },
  PeerMoves: { spare: () => [] },
  RandomVictims: { order: () => new Uint32Array(0) },
  Platform: { placed: () => new Float64Array(0), spareWords: () => new Uint32Array(0), spareWriteBack: () => undefined },
  CpuAccess: { writer: () => 0 },
  DeviceAccess: { writer: () => 0 },
  Context: {
    mmu: () => undefined,
    pmap: () => undefined,
    tlb: () => undefined,
    spareJob: () => undefined,
    spareServe: () => undefined,
    spareMove: () => undefined,
    spareHarvest: () => undefined,
  },
};

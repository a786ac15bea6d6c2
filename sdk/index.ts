/**
 * farfault: a user-space machine with the semantics of Linux heterogeneous memory management.
 * `farfault/gmem` is for driver authors, `farfault/mm` for who wants the HMM protocol itself, `farfault/replay` for traces.
 */
export { type ErrorCode, FarfaultError, isFarfaultError } from './errors.ts';
export type {
  CopyCause,
  CpuFaultCause,
  FatalReason,
  InvalidationCause,
  InvalidationReason,
  MigrationCause,
  RemoteMapCause,
  ReplayCause,
  RevokeCause,
  SplitCause,
  ThrottleCause,
  ReplicaCause,
  UnmapCause,
  VaCause,
  Way,
} from './events/cause.ts';
export { type Counters, foldEvent, newCounters, type Traffic } from './events/counters.ts';
export type { EventOf, MachineEvent, PageRun } from './events/record.ts';
export type { Listener } from './events/stream.ts';
export {
  createMachine,
  createMachineSync,
  Machine,
  type MachineOptions,
  type NodeReport,
  type RestoredMachine,
  restoreMachine,
  type RestoreOptions,
} from './machine.ts';
export type { Placement, PlacementAdvice, PlacementPolicy, PlacementQuestion } from './policy/placement.ts';
export type { DevicePolicy, PinnedAccess, Watermarks } from './policy/policy.ts';
export type { ThrashingPolicy } from './policy/thrashing.ts';
export type { StateClass } from './step/method.ts';
export type { AccessResult, AddressRange, AddressSpace, Advice, Attachable, MmapOptions, MremapOptions } from './mm/address-space.ts';
export type { AdvisedDevice, AtomicMeans, AttributeChange, AttributeRange, Attributes, PageAttributes } from './mm/attributes.ts';
export type { HintAdvice, HintOptions, HintReason, HintResult, MbindOptions } from './mm/hint.ts';
export type { MemcpyError, MemcpyOptions, MemcpyReason, MemcpyResult } from './mm/hmemcpy.ts';
export type { SpaceOptions } from './mm/memory-map.ts';
export type { Stream, StreamEvent } from './gmem/stream.ts';
export type { Context } from './gmem/context.ts';
export type { Device } from './gmem/device.ts';
export type { Job, JobAccess, JobReport } from './gmem/job.ts';
export type { ForkDevice, ForkOptions } from './mm/fork.ts';
export { type PageHistory, type PageState, printEvent, printHistory } from './mm/history.ts';
export type { HeldState, PageFlag, PageHolders } from './mm/holders.ts';
export { MemoryFile } from './mm/page-cache.ts';
export type { Pin, PinOptions } from './mm/pin.ts';
export type { Prot } from './mm/prot.ts';
export type { Link, LinkOptions } from './mm/links.ts';
export type { PendingRun } from './step/runner.ts';
export type { Ticket, TicketState } from './step/ticket.ts';
export { GiB, KiB, MiB } from './units.ts';
export type { MemoryCost, TableCost } from './gmem/cost.ts';

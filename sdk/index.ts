/**
 * farfault: a user-space machine with the semantics of Linux heterogeneous memory management.
 * `farfault/gmem` is for driver authors, `farfault/mm` for who wants the HMM protocol itself, `farfault/replay` for traces.
 */
export { type ErrorCode, FarfaultError, isFarfaultError } from './errors.ts';
export type { Counters, CpuFaultCause, InvalidationReason, Listener, MachineEvent, MigrationCause, Traffic } from './events.ts';
export { createMachine, createMachineSync, Machine, type MachineOptions, type NodeReport } from './machine.ts';
export type { AccessResult, AddressRange, AddressSpace, Advice, Attachable, MmapOptions, MremapOptions } from './mm/address-space.ts';
export type { Context } from './gmem/context.ts';
export type { Device } from './gmem/device.ts';
export type { Job, JobAccess, JobReport } from './gmem/job.ts';
export type { ForkDevice, ForkOptions } from './mm/fork.ts';
export { MemoryFile } from './mm/page-cache.ts';
export type { Pin, PinOptions } from './mm/pin.ts';
export type { Prot } from './mm/prot.ts';
export type { PendingRun } from './step/runner.ts';
export type { Ticket, TicketState } from './step/ticket.ts';
export { GiB, KiB, MiB } from './units.ts';

/** The HMM dialect: interval notifiers with their sequence protocol, range faults, migrations, and the steps that they are made of. */
export { CpuAccess } from './access.ts';
export { AddressSpace, type AddressRange } from './address-space.ts';
export {
  type AdvisedDevice,
  type AttributeChange,
  type AttributeRange,
  Attributes,
  type PageAttributes,
  PREFERS_HOST,
  PREFERS_NOTHING,
} from './attributes.ts';
export { Hint, type HintAdvice, HintMark, type HintOptions, type HintReason, type HintResult, type MbindOptions } from './hint.ts';
export { Memcpy, type MemcpyError, type MemcpyOptions, type MemcpyReason, type MemcpyResult } from './hmemcpy.ts';
export { Reap } from './reap.ts';
export { Collapse } from './collapse.ts';
export type { CopyDirection, DeviceMemory } from './device-memory.ts';
export { type DmaDevice, DmaMap, HMM_DMA_MAPPED, HMM_P2PDMA, HMM_P2PDMA_BUS, Iommu } from './dma.ts';
export { type ExclusiveOptions, type ExclusiveOutcome, type InstallExclusive, MakeExclusive } from './exclusive.ts';
export { CpuFault, type FaultOutcome } from './fault.ts';
export { Fork, type ForkDevice, type ForkOptions, type ForkOutcome } from './fork.ts';
export { Migration } from './migration.ts';
export type { Install } from './migration-install.ts';
export { Mmap } from './mmap.ts';
export { Mremap, type MremapOptions } from './mremap.ts';
export {
  type IntervalNotifier,
  Invalidation,
  type InvalidateEvent,
  type InvalidateReason,
  type NotifierOps,
  NotifierSet,
  type OnePassOps,
  ReadBegin,
  RemoveNotifier,
  type TwoPassOps,
} from './notifier.ts';
export { MemoryFile, SharedObject } from './page-cache.ts';
export { Pin, type PinOptions, type PinOutcome, PinRange } from './pin.ts';
export type { Platform } from './platform.ts';
export {
  HMM_ERROR,
  HMM_VALID,
  HMM_WRITE,
  type InstallAnswer,
  MirrorRange,
  RangeFault,
  type RangeFaultOutcome,
  type RangeRequest,
} from './range-fault.ts';
export type { Extent } from './snapshot.ts';
export { TakeDown, type TakeDownVerb } from './take-down.ts';
export { Truncate } from './truncate.ts';
export { type Vma, VmaSet } from './vma.ts';
export { type FilePart, WriteBack } from './write-back.ts';

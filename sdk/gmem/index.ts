/** What a driver author needs: the driver interface, the ready-made table and TLB, and the steps that a driver in control of its faults is built from. */
export { Copies, Mappings, type Mark, Marks, type PeerPlace, Ranges } from '../core/batch.ts';
export { PageMap } from '../core/page-map.ts';
export { fail, FarfaultError, isFarfaultError } from '../errors.ts';
export { method } from '../step/method.ts';
export { AGAIN, CALL, DONE, type Progress, type Run, type Step, WAIT } from '../step/step.ts';
export { isTicket, type Ticket } from '../step/ticket.ts';
export { GiB, KiB, MiB } from '../units.ts';
export type { AtomicRequest, DeviceAtomic } from './atomic.ts';
export type { Context, MigrateOptions } from './context.ts';
export type { Device } from './device.ts';
export { DeviceTable, deviceTable, DeviceTlb, deviceTlb } from './device-table.ts';
export {
  type Access,
  type AtomicMeans,
  type CommandStep,
  type Copy,
  defineDriver,
  type Driver,
  type DriverFactory,
  type FaultService,
  type GmMmu,
  HOST,
  isDriverFactory,
  type MemoryDescription,
  type MemoryIndex,
  type Peer,
  type PeerVa,
  permits,
  type Phys,
  type Pmap,
  type TableGeometry,
  type Tlb,
  type Translation,
  type Walk,
} from './driver.ts';
export { gmemFreeEager, gmemGetNumaId, gmemPrefetch } from './libgmem.ts';
export { Stream, StreamEvent } from './stream.ts';
export {
  PEER_CODES,
  type PeerAnswerOptions,
  type PeerBatch,
  type PeerBehaviour,
  type PeerBytes,
  type PeerCode,
  type PeerItem,
} from '../mm/peer-batch.ts';
export type { FlushCounts } from './flush.ts';
export type { GiveUp, GivenUp } from './give-up.ts';
export type { PeerCounts } from './planner.ts';
export type { SetAttributes } from './set-attributes.ts';
export type { Harvest } from './harvest.ts';
export { type BatchFault, type DeviceFaultRecord, FaultBatch } from './fault-batch.ts';
export {
  type FrameDescription,
  Hmm,
  hmmOrder,
  type HmmPlan,
  type HmmRequest,
  MIGRATE_COMPOUND,
  MIGRATE_MOVE,
  MIGRATE_VALID,
  MIGRATE_WRITE,
  SELECT_COHERENT,
  SELECT_COMPOUND,
  SELECT_PRIVATE,
  SELECT_SYSTEM,
} from './hmm.ts';
export { type AttachMode, type AttachOptions, HOME_TABLE_FORMAT } from '../mm/attach.ts';
export { type DmaDevice, DmaMap, HMM_DMA_MAPPED, HMM_P2PDMA, HMM_P2PDMA_BUS, Iommu } from '../mm/dma.ts';
export type { ExclusiveOptions, InstallExclusive, MakeExclusive } from '../mm/exclusive.ts';
export { Migration } from '../mm/migration.ts';
export type { Install } from '../mm/migration-install.ts';
export { type IntervalNotifier, type InvalidateEvent, type NotifierOps, type OnePassOps } from '../mm/notifier.ts';
export { HMM_ERROR, HMM_VALID, HMM_WRITE, type InstallAnswer, type MirrorRange } from '../mm/range-fault.ts';
export { VICTIM_POLICIES, type VictimChoice, type VictimPolicy, victimPolicy, type VictimPolicyName } from '../policy/victim.ts';
export { type VictimCandidate } from '../policy/candidates.ts';
export type { OwnMemory } from './own-memory.ts';
export { Translations } from './translations.ts';
export type { Unlink } from './unlink.ts';
export type { Unplug } from './unplug.ts';
export type { ServeFault, ServeOutcome } from './serve.ts';
export type { ServeBatch } from './serve-batch.ts';
export type { FreeRange, PrivateRange, Reserve, ReserveOptions } from './private-range.ts';
export type { RemoveDevice } from './remove-device.ts';
export type { Reset, ResetOptions, ResetReport } from './reset.ts';
export type { SwitchTo } from './switch.ts';
export type { SharedTable } from './shared-table.ts';
export {
  CACHED_LENGTHS,
  CACHED_OBJECTS_MAX,
  MappingSet,
  type RegionFreed,
  VaRegion,
  type VaRequest,
  VaSpace,
  type VaSpaceOptions,
  type VaStrategy,
  type VaUse,
} from './va.ts';

/**
 * One device in one address space: its families, its table, its side of the notifier protocol, and the verbs of the device in that space.
 *
 * Models: `gm_context`; the mirroring half is an interval notifier over the whole space.
 */
import * as L from '../../assembly/layout.ts';
import { type Locator, Mappings, type Mark, Ranges } from '../core/batch.ts';
import { fail, type FarfaultError, isFarfaultError } from '../errors.ts';
import type { Events, ReplicaCause } from '../events.ts';
import { accessError, ADDRESS_LIMIT, type AddressRange, type AddressSpace, requireLength, requireRange } from '../mm/address-space.ts';
import type { AttachMode, MirrorHold, SpaceMirror } from '../mm/attach.ts';
import { requireAligned, requireArray, requireBytes, requireOptions, requirePages } from '../mm/arguments.ts';
import type { Install, RunInstaller } from '../mm/migration.ts';
import type { VisitRun } from '../mm/migration-words.ts';
import { type EntryFollower, type IntervalNotifier, type InvalidateEvent, RemoveNotifier } from '../mm/notifier.ts';
import { type Platform, ZERO_FRAMES } from '../mm/platform.ts';
import { HMM_VALID, HMM_WRITE, type InstallAnswer } from '../mm/range-fault.ts';
import { Lock } from '../step/lock.ts';
import { method } from '../step/method.ts';
import type { Step } from '../step/step.ts';
import type { Ticket } from '../step/ticket.ts';
import { type AtomicRequest, DeviceAtomic } from './atomic.ts';
import { ReadyMirror } from './core-mirror.ts';
import { Detach } from './detach.ts';
import { type FlushCounts, Flushes } from './flush.ts';
import { GiveUp, type GivenUp } from './give-up.ts';
import { SetAttributes } from './set-attributes.ts';
import { type Device, type OwnMemory, requireEngine } from './device.ts';
import { DeviceAccess } from './device-access.ts';
import type { FaultBatch } from './fault-batch.ts';
import { Follower } from './follower.ts';
import { createTable, DEFAULT_GEOMETRY, DEVICE_TLB_SETS, DeviceTable, DeviceTlb } from './device-table.ts';
import {
  type Access,
  checkFamilies,
  type CommandStep,
  type GmMmu,
  HOST,
  type MemoryIndex,
  permits,
  type Pmap,
  type TableGeometry,
  type Tlb,
  type Translation,
} from './driver.ts';
import { Harvest } from './harvest.ts';
import { Hmm } from './hmm.ts';
import { type Job, type JobReport, JobRun } from './job.ts';
import { AccessMarks } from './marks.ts';
import { MoveRange } from './move-range.ts';
import { PeerVaClient } from './peer-addresses.ts';
import { FreeRange, type PrivateRange, Reserve, type ReserveOptions } from './private-range.ts';
import { Coupled, formOf, type PeerCounts } from './planner.ts';
import { Replicas } from './replica.ts';
import { ServeFault, type ServeOutcome } from './serve.ts';
import { ServeBatch } from './serve-batch.ts';
import { Stream } from './stream.ts';
import { SharedTable } from './shared-table.ts';

const VPN_LIMIT = 2 ** L.VPN_BITS;

/** Which way a range goes. */
export interface MigrateOptions {
  readonly to: 'device' | 'host';
  /** Index of the device's memory that it goes to, or comes from. Default: to its first one, from all of them. Between two memories of a device pages go through the host's. */
  readonly memory?: MemoryIndex;
}

/** One device in one address space. Made by `space.attach(device)`. */
export class Context implements SpaceMirror, Locator, RunInstaller {
  readonly name: string;
  readonly space: AddressSpace;
  readonly device: Device;
  /** How it uses the space. */
  readonly mode: AttachMode;
  /** The families that the driver returned. */
  readonly mmu: GmMmu;
  readonly pmap: Pmap;
  readonly tlb: Tlb | undefined;
  /** TLB slot in the core through which the device's accesses go; 0 when the driver translates. */
  readonly slot: number;
  readonly notifier: IntervalNotifier;
  /** Ranges of the space that are this device's alone. */
  readonly reserved: PrivateRange[] = [];
  /** Its addresses, when the driver hands them out itself. */
  readonly peer: PeerVaClient | undefined;
  /** One past the last page that the device has an address for. */
  readonly pageLimit: number;
  /** The driver lock: held while the device's table takes an answer in. */
  readonly lock: Lock;
  /** Pages that the driver's own `walk.translate` was asked for by executed accesses. */
  translations = 0;
  private readonly platform: Platform;
  private readonly ranges: Ranges = new Ranges();
  private readonly changed: Ranges = new Ranges();
  /** @internal Its caches being emptied. */
  readonly flushes: Flushes;
  /** @internal Which pages it has accessed and written. */
  readonly marks: AccessMarks;
  /** Its copies of pages. */
  readonly replicas: Replicas;
  private readonly mappings: Mappings = new Mappings(this);
  /** Its operations go to the driver's family `peer`; undefined: they are done in steps. */
  readonly coupled: Coupled | undefined = undefined;
  /** @internal The ready-made table, if it has one. */
  table: DeviceTable | undefined;
  private dialect: Hmm | undefined;
  /** In replicate mode, until the device leaves. */
  private follower: Follower | undefined;
  private readyTlb: DeviceTlb | undefined;
  private failed: FarfaultError | undefined;
  private full = false;
  /** Pages of its memories that the space may have, by index. */
  private readonly limits: Map<number, number> = new Map();
  private open = true;
  /** The step of the last job that `submit` ran, for the next one. */
  private spareJob: JobRun | undefined = undefined;
  /** The step of the last fault that came by itself, for the next one. */
  private spareServe: ServeFault | undefined = undefined;
  /** The step of the last migration that a program asked for, with its words, for the next one. */
  private spareMove: MoveRange | undefined = undefined;
  /** The same for a harvest. */
  private spareHarvest: Harvest | undefined = undefined;
  /** `attach` is being called for a context that was saved: its table and TLB are there. */
  private restoring = false;
  /** @internal What it has in the core; undefined where not all of it is there. */
  mirror: ReadyMirror | undefined = undefined;

  constructor(platform: Platform, device: Device, space: AddressSpace, mode: AttachMode) {
    this.platform = platform;
    this.mode = mode;
    this.name = device.name;
    this.device = device;
    this.space = space;
    this.flushes = new Flushes(platform, this);
    this.marks = new AccessMarks(platform, this);
    this.replicas = new Replicas(platform, this);
    this.pageLimit = device.pageLimit;
    this.lock = new Lock('driver', device.owner * 2 ** 16 + space.id);
    try {
      const outer = platform.scheduler.beginCall(`${device.name}.attach`);
      try {
        this.mmu = device.driver.attach(this);
      } finally {
        platform.scheduler.endCall(outer);
      }
      checkFamilies(device.name, this.mmu);
      this.peer = this.mmu.peerVa && new PeerVaClient(this);
      this.pmap = this.mmu.pmap ?? this.table ?? this.makeTable();
      this.tlb = this.chooseTlb();
      this.slot = this.mmu.walk ? 0 : this.readyTlb!.slot;
      if (device.memory?.node.allocator === 'driver' && !this.mmu.phys) {
        throw fail('EINVAL', `${device.name}.phys`, undefined, 'is required: its memory says that the driver hands the pages out');
      }
      const before = device.contexts[0];
      if (before && before.mmu.phys !== this.mmu.phys) {
        throw fail(
          'EINVAL',
          `${device.name}.phys`,
          this.mmu.phys,
          'is not the one of its other address spaces: a memory has one allocator',
        );
      }
      if (device.memories.some(({ node }) => node.bytesIn === 'external')) requireEngine(device.name, this.mmu.copy);
      if (device.memory?.node.allocator === 'peer' && !this.mmu.peer)
        throw fail('EINVAL', `${device.name}.peer`, undefined, 'is required: its memory says that the device hands the pages out');
      if (device.memory?.node.allocator === 'peer' && !this.mmu.peer?.importPages && formOf(this.mmu, device.policy, mode) === 'decoupled')
        throw fail(
          'EINVAL',
          `${device.name} policy.form`,
          'decoupled',
          'is not for a memory whose pages the device chooses when they are brought',
        );
      this.createPmap();
    } catch (error) {
      this.readyTlb?.destroy();
      this.table?.destroy();
      throw error;
    }
    if (formOf(this.mmu, device.policy, mode) === 'coupled') this.coupled = new Coupled(platform, this);
    if (this.mmu.walk && (mode === 'share' || !this.mmu.walk.harvest)) platform.tier?.distrust();
    this.notifier = space.notifiers.insert({ start: 0, end: VPN_LIMIT }, this);
    this.mirror = this.makeMirror();
    device.contexts.push(this);
    space.mirrors.push(this);
    if (mode === 'replicate') this.follow();
    const { events } = platform;
    if (events.heard) events.emit({ type: 'context.attached', space: space.id, device: device.name });
  }

  /** Takes in what the CPU has, and from now on what it gets. */
  private follow(): void {
    this.follower = new Follower(this.platform, this);
    this.space.notifiers.followers.push(this.follower);
    const { scheduler } = this.platform;
    const outer = scheduler.beginCall(`${this.name}.pmap.enter`);
    try {
      this.follower.catchUp();
    } finally {
      scheduler.endCall(outer);
    }
  }

  /** @internal The device is leaving: what the CPU gets is not entered any more. */
  unfollow(): void {
    if (this.follower) remove(this.space.notifiers.followers, this.follower as EntryFollower);
    this.follower = undefined;
  }

  /** The driver's own table comes to be. The last thing that can fail when a device is attached. */
  private createPmap(): void {
    if (!this.pmap.create) return;
    const { scheduler } = this.platform;
    const outer = scheduler.beginCall(`${this.name}.pmap.create`);
    try {
      this.pmap.create();
    } finally {
      scheduler.endCall(outer);
    }
  }

  /** @internal A saved context gets its driver's families again. */
  reattach(saved: unknown): void {
    this.restoring = true;
    // Fields that nobody else writes: the only time that they change.
    Object.assign(this, { mmu: this.device.driver.attach(this, saved) });
    checkFamilies(this.name, this.mmu);
    Object.assign(this, { pmap: this.mmu.pmap ?? this.makeTable(), tlb: this.chooseTlb() });
    this.mirror = this.makeMirror();
    this.restoring = false;
  }

  /** Number of the device. */
  get owner(): number {
    return this.device.owner;
  }

  /** Whether the driver writes a table of its own, or translates by itself. */
  get hasOwnTable(): boolean {
    return this.mmu.walk !== undefined || (this.mmu.pmap !== undefined && !(this.mmu.pmap instanceof DeviceTable));
  }

  // -------------------------------------------------------------------------------------------------------------- verbs

  /** Reads bytes as the device would: through its translations, faulting where they do not suffice. Errors as for `space.read`, and ENODEV once the context has failed. */
  read(addr: number, bytes: number): Uint8Array {
    const step = this.readStep(addr, bytes);
    this.platform.scheduler.runSync(step);
    return this.checked(step, addr);
  }

  async readAsync(addr: number, bytes: number): Promise<Uint8Array> {
    const step = this.readStep(addr, bytes);
    await this.platform.scheduler.runAsync(step);
    return this.checked(step, addr);
  }

  /** Writes bytes as the device would. */
  write(addr: number, bytes: Uint8Array): void {
    const step = this.writeStep(addr, bytes);
    this.platform.scheduler.runSync(step);
    this.checked(step, addr);
  }

  async writeAsync(addr: number, bytes: Uint8Array): Promise<void> {
    const step = this.writeStep(addr, bytes);
    await this.platform.scheduler.runAsync(step);
    this.checked(step, addr);
  }

  /**
   * Runs a job: its accesses are dealt to lanes, which run until each has finished or stalled on a fault; the batch is served, the stalled lanes are replayed, until
   * all have finished. Models: a kernel launch on a device with replayable faults.
   */
  submit(job: Job): JobReport {
    this.requireWorking('submit');
    // One that is left parked, or throws, is not used again.
    const step = this.spareJob ?? new JobRun(this.platform, this);
    this.spareJob = undefined;
    this.platform.scheduler.runSync(step.of(job));
    this.spareJob = step;
    return step.report();
  }

  async submitAsync(job: Job): Promise<JobReport> {
    const step = this.jobStep(job);
    await this.platform.scheduler.runAsync(step);
    return step.report();
  }

  /**
   * Moves a range to this device's memory, or what of it is there back to the host, without a fault. Returns the pages that moved; the others stay where they are
   * (pinned, no frame free, or on another device that no link reaches). Of pages that are advised to be mostly read the device gets a copy, which counts as well, and keeps one when they go home. Errors:
   * EOPNOTSUPP when the device has no memory. Models: `hmadvise(PREFETCH)`, `nouveau_dmem_migrate_vma`, `uvm_migrate`.
   */
  migrate(range: AddressRange, options: MigrateOptions): number {
    requireOptions('migrate', options);
    const step = this.migrateStep(range, options.to, options.memory, false, this.spareMove);
    this.spareMove = undefined;
    this.platform.scheduler.runSync(step);
    this.spareMove = step;
    return step.moved;
  }

  async migrateAsync(range: AddressRange, options: MigrateOptions): Promise<number> {
    requireOptions('migrate', options);
    const step = this.migrateStep(range, options.to, options.memory, false, this.spareMove);
    this.spareMove = undefined;
    await this.platform.scheduler.runAsync(step);
    this.spareMove = step;
    return step.moved;
  }

  /**
   * Takes a range of the address space for this device alone: its pages are in the device's memory from now on, zeros, and stay; the CPU and other devices have no access, mmap gives it to nobody, a child does not
   * get it. All or nothing. Errors: EOPNOTSUPP for a device without private memory; ENOMEM when it does not fit; EINVAL for a place that is taken. Models: a buffer bound to addresses of the GPU (VM_BIND).
   */
  reserve(options: ReserveOptions): AddressRange {
    const step = this.reserveStep(options);
    this.platform.scheduler.runSync(step);
    return step.result;
  }

  async reserveAsync(options: ReserveOptions): Promise<AddressRange> {
    const step = this.reserveStep(options);
    await this.platform.scheduler.runAsync(step);
    return step.result;
  }

  /** Gives a range back that was reserved, as a whole. Errors: EINVAL for any other. */
  free(range: AddressRange): void {
    this.platform.scheduler.runSync(this.freeStep(range));
  }

  async freeAsync(range: AddressRange): Promise<void> {
    await this.platform.scheduler.runAsync(this.freeStep(range));
  }

  reserveStep(options: ReserveOptions): Reserve {
    this.requireWorking('reserve');
    requireOptions('reserve', options);
    const { bytes, at } = options;
    if (!Number.isSafeInteger(bytes) || bytes <= 0 || bytes > ADDRESS_LIMIT)
      throw fail('EINVAL', 'reserve.bytes', bytes, 'is not a length between 1 byte and 2^48');
    if (at !== undefined) requireAligned('reserve.at', at);
    if (this.device.memory?.kind !== 'private') throw fail('EOPNOTSUPP', 'reserve', this.name, 'has no private memory of its own');
    return new Reserve(this.platform, this, Math.ceil(bytes / L.PAGE_BYTES), at === undefined ? undefined : at / L.PAGE_BYTES);
  }

  freeStep(range: AddressRange): FreeRange {
    this.requireAttached('free');
    requireRange('free.range', range);
    const found = this.reserved.find(({ start, end }) => start * L.PAGE_BYTES === range.start && end * L.PAGE_BYTES === range.end);
    if (!found) throw fail('EINVAL', 'free.range', range.start, `is not the start of a range that ${this.name} has reserved, as a whole`);
    return new FreeRange(this.platform, this, found);
  }

  /** @internal Whether a page is in a range that is this device's alone. */
  owns(vpn: number): boolean {
    for (const { start, end } of this.reserved) if (vpn >= start && vpn < end) return true;
    return false;
  }

  /** @internal A private range is none any more: its pages may go. False: it was none. */
  letGo(range: PrivateRange): boolean {
    if (!this.reserved.includes(range)) return false;
    remove(this.reserved, range);
    for (const frame of range.frames) this.platform.core.exports.frameUnpin(frame);
    this.platform.settleFreed();
    return true;
  }

  /**
   * Serves one fault: brings the page of `addr`, and its granule, to where the device can use it. Returns how that ended; the access itself is not done.
   * Models: `gm_dev_fault`.
   */
  fault(addr: number, access: Access): ServeOutcome {
    const step = this.prepared(this.takeServe(), addr, access);
    this.platform.scheduler.runSync(step);
    this.giveServe(step);
    return step.outcome;
  }

  async faultAsync(addr: number, access: Access): Promise<ServeOutcome> {
    const step = this.faultStep(addr, access);
    await this.platform.scheduler.runAsync(step);
    return step.outcome;
  }

  /**
   * One atomic of the device on 4 or 8 bytes; returns the old value: a number for 4 bytes, a bigint for 8. Errors: EINVAL for an address that is not a multiple of `bytes`; EFAULT without
   * the right to write; EOPNOTSUPP when the device has no atomics for where that page is; EAGAIN when its page is held; ENOMEM, EIO. See `atomic.ts`.
   */
  atomic(addr: number, request: AtomicRequest & { readonly bytes: 4 }): number;
  atomic(addr: number, request: AtomicRequest & { readonly bytes: 8 }): bigint;
  atomic(addr: number, request: AtomicRequest): number | bigint {
    const step = this.atomicStep(addr, request);
    this.platform.scheduler.runSync(step);
    return step.result;
  }

  async atomicAsync(addr: number, request: AtomicRequest): Promise<number | bigint> {
    const step = this.atomicStep(addr, request);
    await this.platform.scheduler.runAsync(step);
    return step.result;
  }

  /**
   * Runs a command of the driver's control interface and returns its result. Errors: EOPNOTSUPP when the driver has none, and what its command throws.
   * Models: an ioctl of the device file.
   */
  command(request: unknown): unknown {
    const step = this.commandStep(request);
    this.platform.scheduler.runSync(step);
    return step.result;
  }

  async commandAsync(request: unknown): Promise<unknown> {
    const step = this.commandStep(request);
    await this.platform.scheduler.runAsync(step);
    return step.result;
  }

  /**
   * What the device did with the pages of a range since the last call: those that it has accessed, ascending, and which of them it has written. Their marks are cleared. A mark may be
   * there without an access, never missing after one; a page that is taken away takes its marks along. What was done before the first call may be missing. Errors: EOPNOTSUPP when the
   * driver translates by itself and has no `walk.harvest`. Models: `iommu_read_and_clear_dirty`, `mmu_notifier_clear_young`.
   */
  harvest(range: AddressRange): readonly Mark[] {
    const step = this.harvestStep(range, this.spareHarvest);
    this.spareHarvest = undefined;
    this.platform.scheduler.runSync(step);
    this.spareHarvest = step;
    return step.marks;
  }

  async harvestAsync(range: AddressRange): Promise<readonly Mark[]> {
    const step = this.harvestStep(range);
    await this.platform.scheduler.runAsync(step);
    return step.marks;
  }

  /** A stream: operations of this context that run one after the other. */
  stream(): Stream {
    this.requireWorking('stream');
    this.platform.requireIdle('stream');
    return new Stream(this.platform, this);
  }

  /**
   * Gives a range, mapped from end to end, eight bits that mean something to this device's driver only: it gets them with every translation of those pages (`Mappings.each`, `PeerItem.attributes`,
   * `Translation.attributes`). They belong to the addresses: splitting, merging, migration, eviction and mprotect leave them, mremap takes them along, a child has them for the same device, munmap ends
   * them. Translations under way are entered again with them. Errors: EINVAL for bits that are not 0 to 255, or a range with a hole.
   */
  setAttributes(range: AddressRange, bits: number): void {
    this.platform.scheduler.runSync(this.setAttributesStep(range, bits));
  }

  async setAttributesAsync(range: AddressRange, bits: number): Promise<void> {
    await this.platform.scheduler.runAsync(this.setAttributesStep(range, bits));
  }

  /**
   * Pages, by number, that the device itself sends away, to make room: they come home. Returns what became of each: one that is being asked for at the same time is to be kept ('will need'). For the command of a
   * driver whose device chooses. Models: the message of a device that evicts.
   */
  giveUp(vpns: readonly number[]): readonly GivenUp[] {
    const step = this.giveUpStep(vpns);
    this.platform.scheduler.runSync(step);
    return step.results;
  }

  async giveUpAsync(vpns: readonly number[]): Promise<readonly GivenUp[]> {
    const step = this.giveUpStep(vpns);
    await this.platform.scheduler.runAsync(step);
    return step.results;
  }

  /** Takes the device out of this address space: its pages come home, its translations go. Any later use is EBADF. Models: `gm_dev_detach`. */
  detach(): void {
    if (!this.open) return;
    this.platform.scheduler.runSync(this.detachStep());
  }

  async detachAsync(): Promise<void> {
    if (!this.open) return;
    await this.platform.scheduler.runAsync(this.detachStep());
  }

  /** Bytes of the ready-made table: 0 where the device walks the table of the space, undefined where the driver keeps the table itself. */
  get tableBytes(): number | undefined {
    this.platform.requireOpen('tableBytes');
    if (this.mode === 'share') return 0;
    return this.table && this.table.pages * L.PAGE_BYTES;
  }

  /** Looked-up pages of the device's TLB; a driver that translates by itself is counted by the translations it was asked for, all as misses. */
  get tlbCounts(): { readonly hit: number; readonly miss: number } {
    this.platform.requireOpen('tlbCounts');
    return this.mmu.walk ? { hit: 0, miss: this.translations } : this.readyTlb!.counts;
  }

  /**
   * Most bytes of a memory of the device that this space may have: over it, a fault evicts the space's own pages first, and what finds no room is used where it is. What is there already stays. Undefined: no
   * limit. `memory`: index of the memory, default 0. Errors: EINVAL for bytes that are not a positive multiple of 4096, or no memory of the device. Models: `memory.max` of a cgroup, `max_memsize` of GMEM's nodes.
   */
  limit(bytes: number | undefined, memory: MemoryIndex = 0): void {
    this.requireAttached('limit');
    if (!this.device.memoryAt(memory)) throw fail('EINVAL', 'limit.memory', memory, `is not the index of a memory of ${this.name}`);
    if (bytes === undefined) {
      this.limits.delete(memory);
      return;
    }
    if (!Number.isSafeInteger(bytes) || bytes <= 0 || bytes % L.PAGE_BYTES !== 0)
      throw fail('EINVAL', 'limit.bytes', bytes, 'is not a positive multiple of 4096');
    this.limits.set(memory, bytes / L.PAGE_BYTES);
  }

  /** Bytes of every node that this space pays for, by the node's name. */
  get charged(): Readonly<Record<string, number>> {
    return this.space.charged;
  }

  /** @internal Whether there is any limit to what this space may have of the device's memories. */
  get isLimited(): boolean {
    return this.limits.size > 0;
  }

  /** @internal Pages that this space may still have of a memory, when it has `taken` that nobody pays for yet. */
  roomIn(memory: OwnMemory, taken: number): number {
    if (this.limits.size === 0) return Infinity;
    const limit = this.limits.get(memory.index);
    return limit === undefined ? Infinity : limit - this.space.chargedOn(memory.node.index) - taken;
  }

  /** @internal Who pays, for `Evict.room`. */
  get payer(): number {
    return this.space.id + 1;
  }

  /** False once the device has left this address space. */
  get isAttached(): boolean {
    return this.open;
  }

  /** Why this context serves nothing any more: a driver operation threw. */
  get failure(): FarfaultError | undefined {
    return this.failed;
  }

  // -------------------------------------------------------------------------------------------------------------- steps

  readStep(addr: number, bytes: number): DeviceAccess {
    this.requireWorking('read');
    requireLength('read.bytes', bytes);
    return new DeviceAccess(this.platform, this, this.address('read.addr', addr, bytes), new Uint8Array(bytes), false);
  }

  writeStep(addr: number, bytes: Uint8Array): DeviceAccess {
    this.requireWorking('write');
    requireBytes('write.bytes', bytes);
    return new DeviceAccess(this.platform, this, this.address('write.addr', addr, bytes.length), bytes, true);
  }

  jobStep(job: Job): JobRun {
    this.requireWorking('submit');
    return new JobRun(this.platform, this).of(job);
  }

  /** `whole`: pages that are mostly read are moved as well, not copied. `spare`: a step of this context that has ended, to be used again. */
  migrateStep(range: AddressRange, to: 'device' | 'host', index?: MemoryIndex, whole = false, spare?: MoveRange): MoveRange {
    this.requireWorking('migrate');
    requireRange('migrate.range', range);
    this.address('migrate.range.end', range.end - 1, 1);
    if (to !== 'device' && to !== 'host') throw fail('EINVAL', 'migrate.to', to, "is not one of: 'device', 'host'");
    if (!this.device.memory) throw fail('EOPNOTSUPP', 'migrate.device', this.name, 'has no memory of its own');
    const memory = index === undefined ? undefined : this.device.memoryAt(index);
    if (index !== undefined && !memory) throw fail('EINVAL', 'migrate.memory', index, `is not the index of a memory of ${this.name}`);
    const step = spare ?? new MoveRange(this.platform, this);
    return step.of(memory, range.start / L.PAGE_BYTES, range.end / L.PAGE_BYTES, to, whole);
  }

  faultStep(addr: number, access: Access): ServeFault {
    return this.prepared(new ServeFault(this.platform, this), addr, access);
  }

  private prepared(step: ServeFault, addr: number, access: Access): ServeFault {
    this.requireWorking('fault');
    if (access !== 'read' && access !== 'write') throw fail('EINVAL', 'fault.access', access, "is not one of: 'read', 'write'");
    return step.alone(Math.floor(this.address('fault.addr', addr, 1) / L.PAGE_BYTES), access === 'write');
  }

  /** @internal A step for faults of one access, to be given back when the access has ended. */
  takeServe(): ServeFault {
    const serve = this.spareServe ?? new ServeFault(this.platform, this);
    this.spareServe = undefined;
    return serve;
  }

  /** @internal Requires: the step has ended. */
  giveServe(serve: ServeFault): void {
    this.spareServe = serve;
  }

  atomicStep(addr: number, request: AtomicRequest): DeviceAtomic {
    this.requireWorking('atomic');
    const step = new DeviceAtomic(this.platform, this, addr, request);
    this.address('atomic.addr', addr, request.bytes);
    return step;
  }

  /** The driver's step for a command. It throws for a request that the driver does not take. */
  commandStep(request: unknown): CommandStep {
    this.requireWorking('command');
    const { scheduler } = this.platform;
    scheduler.requireOutside('verb', 'command');
    const outer = scheduler.beginCall(`${this.name}.command`);
    let step: CommandStep | undefined;
    try {
      step = this.mmu.command?.(request);
    } finally {
      scheduler.endCall(outer);
    }
    if (!step) throw fail('EOPNOTSUPP', 'command', this.name, 'has no control interface');
    if (typeof step.next !== 'function') throw fail('EINVAL', `${this.name}.command result`, step, 'is not a step');
    return step;
  }

  setAttributesStep(range: AddressRange, bits: number): SetAttributes {
    this.requireWorking('setAttributes');
    requireRange('setAttributes.range', range);
    if (!Number.isInteger(bits) || bits < 0 || bits > 255) throw fail('EINVAL', 'setAttributes.bits', bits, 'is not a number of 8 bits');
    const start = range.start / L.PAGE_BYTES;
    const end = range.end / L.PAGE_BYTES;
    if (this.space.vmas.covered(start, end) < end) throw fail('EINVAL', 'setAttributes.range', range.start, 'has a page without a mapping');
    return new SetAttributes(this, start, end, bits);
  }

  /** The step behind `giveUp`, for commands of drivers. */
  giveUpStep(vpns: readonly number[]): GiveUp {
    this.requireWorking('giveUp');
    requireArray('giveUp.vpns', vpns);
    for (const vpn of vpns) requirePages('giveUp.vpns', vpn, 1, 1);
    return new GiveUp(this.platform, this, [...vpns]);
  }

  /** `spare`: a step of this context that has ended, to be used again. */
  harvestStep(range: AddressRange, spare?: Harvest): Harvest {
    this.requireWorking('harvest');
    requireRange('harvest.range', range);
    if (this.mode === 'share')
      throw fail('EOPNOTSUPP', 'harvest', this.name, 'shares the table of the CPU: its marks are those of the CPU as well');
    if (this.mmu.walk && !this.mmu.walk.harvest)
      throw fail('EOPNOTSUPP', 'harvest', this.name, 'translates by itself and keeps no marks (walk.harvest)');
    return (spare ?? new Harvest(this)).of(range.start / L.PAGE_BYTES, range.end / L.PAGE_BYTES);
  }

  detachStep(): Detach {
    this.requireAttached('detach');
    return new Detach(this.platform, this);
  }

  /** The step that serves a batch in an order of the driver's choice: what a fault service returns. */
  batchStep(): ServeBatch {
    this.requireAttached('batchStep');
    return new ServeBatch(this.platform, this);
  }

  /** The step that serves one fault of this context, for a fault service that does more than choose an order. */
  serveStep(): ServeFault {
    this.requireAttached('serveStep');
    return new ServeFault(this.platform, this);
  }

  // -------------------------------------------------------------------------------------------------------------- for drivers

  /** The HMM dialect, for drivers that control migration, mirroring and exclusivity themselves. */
  get hmm(): Hmm {
    // Who controls its translations by itself has marks of its own.
    this.platform.tier?.distrust();
    return (this.dialect ??= new Hmm(this.platform, this));
  }

  /** Where a page of this space is, if it is in this device's own memory: page within that memory. A query, for fault services and allocators. */
  residency(vpn: number): number | undefined {
    this.requireAttached('residency');
    requirePages('residency', vpn, 1, 1);
    const frame = this.ownFrame(vpn);
    return frame === L.FRAME_NONE ? undefined : this.pageOf(frame);
  }

  /** The frame of a page of this space that is in a memory of this device, private or coherent; FRAME_NONE otherwise. */
  ownFrame(vpn: number): number {
    const { core } = this.platform;
    const kind = core.entry(this.space.table, vpn) & L.ENTRY_KIND;
    const there = kind === L.KIND_DEVICE_PRIVATE || kind === L.KIND_PRESENT || kind === L.KIND_EXCLUSIVE;
    return there && this.device.holding(core.entryLow) ? core.entryLow : L.FRAME_NONE;
  }

  /** @internal Where what happens is told. */
  get events(): Events {
    return this.platform.events;
  }

  /** A ticket to return from an operation that is not finished. */
  ticket(what: string): Ticket {
    this.platform.requireOpen('ticket');
    if (typeof what !== 'string') throw fail('EINVAL', 'ticket.what', what, 'is not text');
    return this.device.opened(this.platform.tickets.open(`${this.name}: ${what}`));
  }

  /** The ready-made table; made at most once. */
  makeTable(geometry?: TableGeometry): DeviceTable {
    this.requireAttached('deviceTable');
    if (this.table) {
      if (geometry !== undefined && !this.restoring)
        throw fail('EINVAL', 'deviceTable', this.name, 'has made its table for this context already');
      return this.table;
    }
    const { core } = this.platform;
    const home = this.space.table;
    if (this.mode === 'share') this.table = new SharedTable(core, home, this);
    else {
      const shape = geometry ?? this.device.driver.geometry ?? DEFAULT_GEOMETRY;
      this.table = new DeviceTable(core, createTable(core, shape, home), this.device.pageBytes, this);
    }
    return this.table;
  }

  /** The ready-made TLB; made at most once. */
  makeTlb(sets: number = DEVICE_TLB_SETS): DeviceTlb {
    this.requireAttached('deviceTlb');
    if (this.readyTlb && this.restoring) return this.readyTlb;
    if (this.readyTlb) throw fail('EINVAL', 'deviceTlb', this.name, 'has made its TLB for this context already');
    this.readyTlb = new DeviceTlb(this.platform.core, this.makeTable(), sets);
    return this.readyTlb;
  }

  /** Memory index of a frame for this device's driver: an index into its memories, or HOST. */
  memoryOf(frame: number): number {
    return this.device.memoryOf(frame);
  }

  /** Page of a frame within its memory. */
  pageOf(frame: number): number {
    return this.platform.nodes.pageOf(frame);
  }

  /** Frame behind a translation of this device's driver. */
  frameOf(translation: Translation): number {
    const { memory, page } = translation;
    const node = this.device.nodeAt(memory);
    // The pages of zeros come first, the host's own pages follow.
    const pages = memory === HOST ? this.platform.host.frames + ZERO_FRAMES : (node?.frames ?? 0);
    if (!node || !Number.isInteger(page) || page < 0 || page >= pages) {
      throw fail('EINVAL', `${this.name}.walk.translate result`, page, `is not a page of memory ${memory}`);
    }
    return node.base + page;
  }

  // -------------------------------------------------------------------------------------------------------------- for steps

  /** Whether the device's translation of a page, cached or not, allows the access. */
  reaches(vpn: number, write: boolean): boolean {
    if (this.mmu.walk) return this.walks(vpn, write ? 'write' : 'read');
    if (this.mustWait) return false;
    const high = this.platform.core.entry(this.table!.table, vpn);
    return (high & L.ENTRY_KIND) === L.KIND_PRESENT && (!write || (high & L.ENTRY_WRITE) !== 0);
  }

  /** Whether the driver's own translation allows an access. */
  private walks(vpn: number, access: Access): boolean {
    return permits(this.translated(vpn, access), access);
  }

  /** What the driver translates a page to. No closure for `guard`: it is asked for each page. */
  private translated(vpn: number, access: Access): Translation | undefined {
    try {
      return this.mmu.walk!.translate(vpn, access);
    } catch (error) {
      throw this.failWith(error);
    }
  }

  /**
   * Whether somebody has told this device of a change and has not made it yet. What is entered now may be wrong then, however true it is at the moment: wait for
   * `space.notifiers.idle` and look again, or leave it to the next fault.
   */
  get isInvalidating(): boolean {
    return this.notifier.readBegin() === 'wait';
  }

  /** Whether the device may not translate now: it walks a table in which something is about to change. Wait for `space.notifiers.idle`. */
  get mustWait(): boolean {
    return this.mode === 'share' && this.notifier.state !== 'removed' && this.isInvalidating;
  }

  /** Whether the device's table had no room for the last translations that it was given: some of them are not there. */
  get isFull(): boolean {
    return this.full;
  }

  /** `installPages`, and `installAnswer`, to be handed out. */
  readonly install: Install = method<Context, 'installPages'>(this, 'installPages');
  readonly installWords: InstallAnswer = method<Context, 'installAnswer'>(this, 'installAnswer');

  /** Installs translations of pages that have just moved to this device. */
  installPages(_space: AddressSpace, vpn: number, frames: readonly number[], writable: (page: number) => boolean): void {
    if (!this.open || this.isInvalidating) return;
    const mappings = this.mappings.clear();
    const hasBits = this.space.attributes.size > 0;
    for (let i = 0; i < frames.length; i++)
      if (frames[i]! >= 0) mappings.add(vpn + i, frames[i]!, writable(i), hasBits ? this.attributesAt(vpn + i) : 0);
    this.enter(mappings);
  }

  /** @internal The same, run by run. */
  installRuns(vpn: number, runs: (visit: VisitRun) => void): void {
    if (!this.open || this.isInvalidating) return;
    const mappings = this.mappings.clear();
    const hasBits = this.space.attributes.size > 0;
    runs((i, pages, _from, to, write) => {
      if (!hasBits) mappings.add(vpn + i, to, write, 0, pages);
      else for (let page = 0; page < pages; page++) mappings.add(vpn + i + page, to + page, write, this.attributesAt(vpn + i + page));
    });
    this.enter(mappings);
  }

  /** Installs translations of pages with contiguous frames that this device may use as they are. Requires: `isInvalidating` is false. */
  installRun(vpn: number, pages: number, frame: number, write: boolean): void {
    const mappings = this.mappings.clear();
    const hasBits = this.space.attributes.size > 0;
    for (let page = 0; page < pages; page++) mappings.add(vpn + page, frame + page, write, hasBits ? this.attributesAt(vpn + page) : 0);
    this.enter(mappings);
  }

  /** Installs the writable translation of a page that is exclusive to this device now; one that allowed less leaves the caches. Nothing, once the device has left. */
  installAlone(vpn: number, frame: number): void {
    if (!this.open || this.isInvalidating) return;
    this.installRun(vpn, 1, frame, true);
    const changed = this.changed.clear();
    changed.add(vpn, 1);
    if (this.works) this.flushed(changed);
  }

  /** Frame behind a page in the ready-made table. Requires: it has one, and the driver does not translate by itself. */
  frameBehind(vpn: number): number {
    const { core } = this.platform;
    core.entry(this.table!.table, vpn);
    return core.entryLow;
  }

  /** Installs the answer of a range fault; translations whose rights changed leave the device's caches. */
  installAnswer(words: Uint32Array, vpn: number, pages: number): void {
    if (!this.works) return;
    const mappings = this.mappings.clear();
    const changed = this.changed.clear();
    const hasBits = this.space.attributes.size > 0;
    for (let i = 0; i < pages; i++) {
      const high = words[i * 2 + 1]!;
      // What it has a copy of, it reads there.
      if (high < HMM_VALID || (this.replicas.size > 0 && this.replicas.at(vpn + i) !== undefined)) continue;
      const write = (high & HMM_WRITE) !== 0;
      mappings.add(vpn + i, words[i * 2]!, write, hasBits ? this.attributesAt(vpn + i) : 0);
      if (this.table) {
        const old = this.platform.core.entry(this.table.table, vpn + i);
        if ((old & L.ENTRY_KIND) === L.KIND_PRESENT && ((old & L.ENTRY_WRITE) !== 0) !== write) changed.add(vpn + i, 1);
      } else changed.add(vpn + i, 1);
    }
    this.enter(mappings);
    if (changed.count > 0) this.flushed(changed);
  }

  /** Empties the caches of pages whose translations have changed. */
  private flushed(changed: Ranges): void {
    try {
      this.flushes.make(changed);
    } catch (error) {
      throw this.failWith(error);
    }
  }

  /** Its table and its TLB are the ready-made ones, and nobody but its own faults enters into them. */
  private makeMirror(): ReadyMirror | undefined {
    const { placement, flush } = this.device.policy;
    if (this.mode !== 'exclusive' || this.coupled || this.mmu.walk || placement || flush === 'deferred') return undefined;
    const { table } = this;
    if (!table || this.pmap !== table || this.tlb !== this.readyTlb || this.pageLimit !== VPN_LIMIT) return undefined;
    return new ReadyMirror(this, table);
  }

  /** @internal Enters a page as its home entry has it. */
  installAsHome(vpn: number, frame: number): void {
    const high = this.platform.core.entry(this.space.table, vpn);
    this.installRun(vpn, 1, frame, (high & L.ENTRY_WRITE) !== 0);
  }

  /** Whether what is true now may be entered: it works, and nobody has told it of a change that is still to come. */
  get mayEnter(): boolean {
    return this.works && !this.isInvalidating;
  }

  /** Whether copies of pages can be made for this device: it has memory, a table of its own that only its faults fill, and can fault: a copy may go at any time. Pages that the device hands out by itself are not copied to. */
  get mayDuplicate(): boolean {
    const { memory, driver } = this.device;
    return (
      this.mode === 'exclusive' && !this.coupled && memory !== undefined && memory.node.allocator !== 'peer' && driver.replayable !== false
    );
  }

  /** Installs the translations of its copies of pages; other translations of them leave the caches. What the table has no room for is dropped. Requires: `mayEnter`. */
  installReplicas(vpns: readonly number[]): void {
    const mappings = this.mappings.clear();
    const changed = this.changed.clear();
    for (const vpn of vpns) {
      mappings.add(vpn, this.replicas.at(vpn)!, false);
      const old = this.table ? this.platform.core.entry(this.table.table, vpn) : L.KIND_PRESENT;
      if ((old & L.ENTRY_KIND) === L.KIND_PRESENT) changed.add(vpn, 1);
    }
    this.enter(mappings);
    if (changed.count > 0) this.flushed(changed);
    if (!this.full) return;
    changed.clear();
    for (const vpn of vpns) changed.add(vpn, 1);
    this.withdraw(changed, 'full');
  }

  /** Whether a frame is where this device may read its copy of a page: it has it, or had it and has not finished the flush. */
  readsCopy(vpn: number, frame: number): boolean {
    const copy = this.replicas.at(vpn);
    if (copy !== undefined) return copy === frame;
    const { core } = this.platform;
    return this.flushing && (core.field(core.frameRecord(frame), L.FRAME_FLAGS) & L.FRAME_REPLICA) !== 0;
  }

  /** What this device has of a page. */
  holds(vpn: number): MirrorHold | undefined {
    if (this.replicas.at(vpn) !== undefined) return 'copy';
    if (!this.works) return undefined;
    if (this.mmu.walk && !this.table) return this.reaches(vpn, true) ? 'write' : this.reaches(vpn, false) ? 'read' : undefined;
    const high = this.platform.core.entry(this.table ? this.table.table : this.space.table, vpn);
    if ((high & L.ENTRY_KIND) !== L.KIND_PRESENT) return undefined;
    return high & L.ENTRY_WRITE ? 'write' : 'read';
  }

  /** An atomic of the device has used its translation of a page. */
  markAtomic(vpn: number): void {
    if (this.table && !this.mmu.walk) this.platform.core.exports.tableMark(this.table.table, vpn, L.ENTRY_ACCESSED | L.ENTRY_DIRTY);
  }

  /** Removes this device's translations of these pages, table first, then caches, and its copies of them. A ticket: the flush is unfinished. `cause`: why copies go. */
  withdraw(ranges: Ranges, cause: ReplicaCause = 'migration: user'): Ticket | undefined {
    try {
      this.marks.withdrawn(ranges);
      const ticket = this.coupled ? this.dropped(this.coupled, ranges) : this.released(ranges);
      this.flushes.add(ticket);
      // Until the flush has ended it may write, and no mark of that is looked at.
      if (ticket?.state === 'pending') this.marks.mayWrite(ranges);
      if (this.replicas.size > 0) this.replicas.drop(ranges, ticket, cause);
      return ticket;
    } catch (error) {
      // Taking away cannot fail: a driver that throws is out of the game, and nothing will be translated through it any more.
      this.fail(error);
      return undefined;
    }
  }

  /** The same, alone; its ticket is appended. */
  withdrawOne(vpn: number, pages: number, tickets: Ticket[]): void {
    const ranges = this.ranges.clear();
    ranges.add(vpn, pages);
    const ticket = this.withdraw(ranges);
    if (ticket) tickets.push(ticket);
  }

  /** Takes only the right to write from these pages, where the driver can; reading goes on without a fault. */
  private withdrawWrites(ranges: Ranges): Ticket | undefined {
    if (this.coupled || !this.pmap.protect) return this.withdraw(ranges);
    try {
      this.pmap.protect(ranges, false);
      const ticket = this.flushes.make(this.withOvershoot(ranges));
      this.flushes.add(ticket);
      return ticket;
    } catch (error) {
      this.fail(error);
      return undefined;
    }
  }

  private released(ranges: Ranges): Ticket | undefined {
    this.pmap.release(ranges);
    if (this.device.policy.flush === 'deferred' && this.tlb) return this.flushes.putOff(this.withOvershoot(ranges));
    return this.flushes.make(this.withOvershoot(ranges));
  }

  /** In one go; the ready-made table may have had to let go of more than its driver knows. */
  private dropped(coupled: Coupled, ranges: Ranges): Ticket | undefined {
    const ticket = coupled.dropRanges(ranges);
    const overshoot = this.table?.overshoot;
    if (overshoot && overshoot.count > 0) {
      const flushed = this.flushes.make(overshoot);
      overshoot.clear();
      this.flushes.add(flushed);
    }
    return ticket;
  }

  /** Calls and results of a driver that brings and takes pages by itself; undefined when it does not. */
  get peerCounts(): PeerCounts | undefined {
    return this.coupled?.counts;
  }

  /** @internal Whether the device translates this page to this frame now. */
  translatesTo(vpn: number, frame: number): boolean {
    if (!this.mmu.walk) return this.reaches(vpn, false) && this.frameBehind(vpn) === frame;
    const translation = this.translated(vpn, 'read');
    return translation !== undefined && this.guard(() => this.frameOf(translation)) === frame;
  }

  /** @internal Opaque bits of a page for this device's driver. */
  attributesAt(vpn: number): number {
    return this.space.attributes.bitsAt(vpn, this.device.owner);
  }

  /** The ranges, and what the ready-made table had to let go around them. */
  private withOvershoot(ranges: Ranges): Ranges {
    const overshoot = this.table?.overshoot;
    if (!overshoot || overshoot.count === 0) return ranges;
    for (let i = 0; i < ranges.count; i++) overshoot.add(ranges.start(i), ranges.length(i));
    return overshoot;
  }

  /** Whether a flush of this device is unfinished: until then it may use what it knew, since nothing has been copied or freed. */
  get flushing(): boolean {
    return this.flushes.unfinished !== undefined;
  }

  /** Flushes so far. */
  get flushCounts(): FlushCounts {
    return this.flushes.counts;
  }

  /** @internal The device runs this address space now, or another one. */
  turned(how: 'load' | 'unload'): void {
    const operation = this.mmu[how];
    if (!operation) return;
    const { scheduler } = this.platform;
    const outer = scheduler.beginCall(`${this.name}.${how}`);
    try {
      operation();
    } catch (error) {
      this.fail(error);
    } finally {
      scheduler.endCall(outer);
    }
  }

  /** Whether the device runs this address space now. */
  get isCurrent(): boolean {
    return this.open && (!this.device.turn || this.device.current === this);
  }

  /** @internal The device was reset: what its driver broke is mended. */
  revive(): void {
    if (!this.failed) return;
    this.failed = undefined;
    const { events } = this.platform;
    if (events.heard) events.emit({ type: 'context.revived', space: this.space.id, device: this.name });
  }

  /** @internal In replicate mode, takes in all that the CPU has. */
  catchUp(): void {
    this.follower?.catchUp();
  }

  /** The driver's own service of a batch. */
  service(batch: FaultBatch): Step | undefined {
    const { fault } = this.mmu;
    // For each fault: no closure for `guard`.
    try {
      return fault?.service(batch);
    } catch (error) {
      throw this.failWith(error);
    }
  }

  /** @internal Whether `requireWorking` has nothing to say. */
  get serves(): boolean {
    return this.works && !this.device.leaving && this.space.isOpen;
  }

  /** @internal Whether it serves: neither left nor failed. */
  get works(): boolean {
    return this.open && !this.failed;
  }

  /** Throws EBADF once detached. */
  private requireAttached(verb: string): void {
    this.platform.requireOpen(verb);
    if (!this.open) throw fail('EBADF', verb, this.name, 'has been detached from this address space');
  }

  /** Throws EBADF once detached, ENODEV once failed. */
  requireWorking(verb: string): void {
    if (this.space.isReaped) throw fail('EBADF', verb, 'address space', 'has been reaped: it can only be closed');
    this.space.requireOpen(verb);
    if (!this.open) throw fail('EBADF', verb, this.name, 'has been detached from this address space');
    // From inside its driver's attach.
    if ((this.notifier as IntervalNotifier | undefined) === undefined) throw fail('EINVAL', verb, this.name, 'is only being attached');
    if (this.device.leaving) throw fail('ENODEV', verb, this.name, 'is being taken out of the machine');
    if (this.failed) throw fail('ENODEV', verb, this.name, `has failed: ${this.failed.message}`);
  }

  /** Marks the context failed when a driver operation throws; the error goes on to the caller. */
  private guard<T>(operation: () => T): T {
    try {
      return operation();
    } catch (error) {
      this.fail(error);
      throw this.failed!;
    }
  }

  /** A driver operation threw, or broke its contract: nothing goes through this context from now on. */
  failWith(error: unknown): FarfaultError {
    this.fail(error);
    return this.failed!;
  }

  /** The last act of a detach: the notifier is gone, nothing of the device is left in the space. */
  end(): void {
    if (this.device.current === this) this.device.load(undefined);
    for (const range of [...this.reserved]) this.letGo(range);
    this.open = false;
    remove(this.device.contexts, this);
    remove(this.space.mirrors, this as SpaceMirror);
    try {
      this.mmu.detach?.();
      if (this.mmu.pmap && this.mmu.pmap !== this.table) this.mmu.pmap.destroy?.();
    } catch (error) {
      this.fail(error);
    }
    this.readyTlb?.destroy();
    this.table?.destroy();
    const { events } = this.platform;
    if (events.heard) events.emit({ type: 'context.detached', space: this.space.id, device: this.name });
  }

  /** Ends the subscription; a step, since a running invalidation has to end first. */
  removeNotifierStep(): RemoveNotifier {
    return new RemoveNotifier(this.notifier);
  }

  private chooseTlb(): Tlb | undefined {
    if (this.mode === 'share' && this.mmu.pmap && !(this.mmu.pmap instanceof DeviceTable)) {
      throw fail('EINVAL', `${this.name}.pmap`, this.mmu.pmap, 'is not the table of the CPU (deviceTable): the device shares that one');
    }
    if (this.mmu.walk) return this.mmu.tlb;
    if (this.mmu.pmap && !(this.mmu.pmap instanceof DeviceTable)) {
      throw fail('EINVAL', `${this.name}.walk`, undefined, 'is required: only the driver can translate through a pmap of its own');
    }
    if (this.mmu.tlb && this.mmu.tlb !== this.readyTlb && !this.readyTlb) {
      throw fail('EINVAL', `${this.name}.walk`, undefined, 'is required: only the driver can look up a tlb of its own');
    }
    if (!this.readyTlb) return this.makeTlb();
    return this.mmu.tlb ?? this.readyTlb;
  }

  /** A context that has left or failed while the answer was on its way takes nothing in. */
  private enter(mappings: Mappings): void {
    if (mappings.count === 0 || !this.works) return;
    this.full = false;
    const reached = this.pageLimit < VPN_LIMIT ? this.within(mappings) : mappings;
    if (reached.count === 0) return;
    try {
      this.pmap.enter(reached);
    } catch (error) {
      // What has no room in the ready-made table is not entered: the device faults on it again.
      if (!isFarfaultError(error) || error.code !== 'ENOMEM') throw this.failWith(error);
      this.full = true;
    }
  }

  /** What of a list the device has an address for. */
  private within(mappings: Mappings): Mappings {
    const kept = new Mappings(this);
    mappings.eachFrame((vpn, pages, frame, write) => {
      for (let page = 0; page < pages && vpn + page < this.pageLimit; page++) kept.add(vpn + page, frame + page, write);
    });
    return kept;
  }

  private address(argument: string, addr: number, bytes: number): number {
    requireAddress(argument, addr, bytes);
    if (addr + bytes > this.pageLimit * L.PAGE_BYTES)
      throw fail('EFAULT', argument, addr, `is beyond the ${Math.log2(this.pageLimit * L.PAGE_BYTES)} address bits of ${this.name}`);
    return addr;
  }

  /**
   * The notifier callback. Own migrations release nothing here: they withdraw exactly what they move, when it has been collected. Nor do own exclusive pages, whose translation is about to be replaced. But
   * the sequence is stored for them, too: a range fault of this device that has looked at the pages before looks again.
   */
  invalidate(event: InvalidateEvent): boolean | Ticket {
    const { events } = this.platform;
    events.counters.invalidations++;
    const own = (event.reason === 'MIGRATE' || event.reason === 'EXCLUSIVE') && event.owner === this.device.owner;
    const ignored = own && this.mode !== 'share';
    if (events.heard) {
      const { start: vpn, end, reason, cause } = event;
      events.emit({ type: 'range.invalidated', space: this.space.id, device: this.name, vpn, pages: end - vpn, reason, cause, ignored });
    }
    this.notifier.setSequence(event.sequence);
    if (ignored) return true;
    this.follower?.withdrawn(event.start, event.end - event.start);
    const ranges = this.ranges.clear();
    ranges.add(event.start, event.end - event.start);
    // The home entry forgets that there are copies: they go.
    if (event.writeOnly && this.replicas.size === 0) return this.withdrawWrites(ranges) ?? true;
    return this.withdraw(ranges, event.cause) ?? true;
  }

  private fail(error: unknown): void {
    if (this.failed) return;
    const message = error instanceof Error ? error.message : String(error);
    this.failed = isFarfaultError(error) ? error : fail('ENODEV', `driver ${this.name}`, message, 'threw');
    // Nothing is translated through it any more, whatever its driver has left behind.
    const everything = this.ranges.clear();
    everything.add(0, VPN_LIMIT);
    this.platform.tier?.forget();
    this.table?.release(everything);
    this.readyTlb?.invalidate(everything);
    this.replicas.drop(everything, undefined, 'failure');
    const { events } = this.platform;
    if (events.heard) events.emit({ type: 'context.failed', space: this.space.id, device: this.name, message });
  }

  private checked(step: DeviceAccess, addr: number): Uint8Array {
    if (step.outcome === 'done') return step.bytes;
    throw accessError(step.name, addr + step.done, step.outcome, this.space.hostRoom === 0);
  }
}

function requireAddress(argument: string, addr: number, bytes: number): void {
  if (!Number.isSafeInteger(addr) || addr < 0 || addr >= ADDRESS_LIMIT)
    throw fail('EINVAL', argument, addr, 'is not a byte address below 2^48');
  if (addr + bytes > ADDRESS_LIMIT) throw fail('EOVERFLOW', argument, addr, `leaves the address space after 0x${bytes.toString(16)} bytes`);
}

function remove<T>(list: T[], item: T): void {
  const at = list.indexOf(item);
  if (at >= 0) list.splice(at, 1);
}

/**
 * One device in one address space: the verbs of the device in that space, and what of it is this device's alone. What the device has of the space, and how that is kept true, is its mirror (`device-mirror.ts`).
 *
 * Models: `gm_context`.
 */
import * as L from '../../assembly/layout.ts';
import type { Mark } from '../core/batch.ts';
import { fail } from '../errors.ts';
import type { Events } from '../events/stream.ts';
import { accessError } from '../mm/access.ts';
import { ADDRESS_LIMIT, type AddressRange, type AddressSpace, requireLength, requireRange } from '../mm/address-space.ts';
import type { AttachMode, SpaceMirror } from '../mm/attach.ts';
import { type NamesOf, requireAligned, requireArray, requireBytes, requireOptions, requirePages } from '../mm/arguments.ts';
import { type IntervalNotifier, RemoveNotifier } from '../mm/notifier.ts';
import type { Platform } from '../mm/platform.ts';
import type { Step } from '../step/step.ts';
import type { Ticket } from '../step/ticket.ts';
import { type AtomicRequest, DeviceAtomic } from './atomic.ts';
import { Detach } from './detach.ts';
import { GiveUp, type GivenUp } from './give-up.ts';
import { SetAttributes } from './set-attributes.ts';
import type { Device } from './device.ts';
import { DeviceAccess } from './device-access.ts';
import { DeviceMirror } from './device-mirror.ts';
import type { FaultBatch } from './fault-batch.ts';
import { requireEngine } from './driver-description.ts';
import type { Access, CommandStep, GmMmu, MemoryIndex } from './driver.ts';
import { Harvest } from './harvest.ts';
import { Hmm } from './hmm.ts';
import { type Job, type JobReport, JobRun } from './job.ts';
import { MoveRange } from './move-range.ts';
import type { OwnMemory } from './own-memory.ts';
import { PeerVaClient } from './peer-addresses.ts';
import { FreeRange, type PrivateRange, Reserve, RESERVE_OPTIONS, type ReserveOptions } from './private-range.ts';
import { formOf } from './planner.ts';
import { ServeFault, type ServeOutcome } from './serve.ts';
import { ServeBatch } from './serve-batch.ts';
import { Stream } from './stream.ts';

/** Which way a range goes. */
export interface MigrateOptions {
  readonly to: 'device' | 'host';
  /** Index of the device's memory that it goes to, or comes from. Default: to its first one, from all of them. Between two memories of a device pages go through the host's. */
  readonly memory?: MemoryIndex;
}

const MIGRATE_OPTIONS: NamesOf<MigrateOptions> = { to: true, memory: true };

/** One device in one address space. Made by `space.attach(device)`. */
export class Context extends DeviceMirror implements SpaceMirror {
  /** Ranges of the space that are this device's alone. */
  readonly reserved: PrivateRange[] = [];
  /** Its addresses, when the driver hands them out itself. */
  readonly peer: PeerVaClient | undefined;
  private dialect: Hmm | undefined;
  /** Pages of its memories that the space may have, by index. */
  private readonly limits: Map<number, number> = new Map();
  /** The step of the last job that `submit` ran, for the next one. */
  private spareJob: JobRun | undefined = undefined;
  /** The step of the last fault that came by itself, for the next one. */
  private spareServe: ServeFault | undefined = undefined;
  /** The step of the last migration that a program asked for, with its words, for the next one. */
  private spareMove: MoveRange | undefined = undefined;
  /** The same for a harvest. */
  private spareHarvest: Harvest | undefined = undefined;

  constructor(platform: Platform, device: Device, space: AddressSpace, mode: AttachMode) {
    super(platform, device, space, mode);
    try {
      const outer = platform.scheduler.beginCall(`${device.name}.attach`);
      let mmu: GmMmu;
      try {
        mmu = device.driver.attach(this);
      } finally {
        platform.scheduler.endCall(outer);
      }
      this.take(mmu);
      this.peer = mmu.peerVa && new PeerVaClient(this);
      this.requireAllocator();
      this.createPmap();
    } catch (error) {
      this.dropTables();
      throw error;
    }
    this.subscribe();
    device.contexts.push(this);
    space.mirrors.push(this);
    if (mode === 'replicate') this.follow();
    const { events } = platform;
    if (events.heard) events.emit({ type: 'context.attached', space: space.id, device: device.name });
  }

  /** Throws EINVAL when the driver's families are not what the memories of its device need. */
  private requireAllocator(): void {
    const { device, mmu, mode } = this;
    if (device.memory?.node.allocator === 'driver' && !mmu.phys) {
      throw fail('EINVAL', `${device.name}.phys`, undefined, 'is required: its memory says that the driver hands the pages out');
    }
    const before = device.contexts[0];
    if (before && before.mmu.phys !== mmu.phys) {
      throw fail('EINVAL', `${device.name}.phys`, mmu.phys, 'is not the one of its other address spaces: a memory has one allocator');
    }
    if (device.memories.some(({ node }) => node.bytesIn === 'external')) requireEngine(device.name, mmu.copy);
    if (device.memory?.node.allocator === 'peer' && !mmu.peer)
      throw fail('EINVAL', `${device.name}.peer`, undefined, 'is required: its memory says that the device hands the pages out');
    if (device.memory?.node.allocator === 'peer' && !mmu.peer?.importPages && formOf(mmu, device.policy, mode) === 'decoupled')
      throw fail(
        'EINVAL',
        `${device.name} policy.form`,
        'decoupled',
        'is not for a memory whose pages the device chooses when they are brought',
      );
  }

  /** @internal A saved context gets its driver's families again. */
  reattach(saved: unknown): void {
    this.restoring = true;
    this.take(this.device.driver.attach(this, saved));
    this.ready = this.readyMirror();
    this.restoring = false;
  }

  /** Number of the device. */
  get owner(): number {
    return this.device.owner;
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
    requireOptions('migrate', options, MIGRATE_OPTIONS);
    const step = this.migrateStep(range, options.to, options.memory, false, this.spareMove);
    this.spareMove = undefined;
    this.platform.scheduler.runSync(step);
    this.spareMove = step;
    return step.moved;
  }

  async migrateAsync(range: AddressRange, options: MigrateOptions): Promise<number> {
    requireOptions('migrate', options, MIGRATE_OPTIONS);
    const step = this.migrateStep(range, options.to, options.memory, false, this.spareMove);
    this.spareMove = undefined;
    await this.platform.scheduler.runAsync(step);
    this.spareMove = step;
    return step.moved;
  }

  /**
   * Takes a range of the address space for this device alone: its pages are in the device's memory from now on, zeros, and stay; the CPU and other devices have no access, mmap gives it to nobody, a child does not
   * get it. All or nothing. Errors: EOPNOTSUPP for a device without private memory; ENOMEM when it does not fit; EINVAL for a place that is taken; EFAULT when an exec takes the range away
   * meanwhile. Models: a buffer bound to addresses of the GPU (VM_BIND).
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
    requireOptions('reserve', options, RESERVE_OPTIONS);
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

  /** @internal Private ranges that touch the pages `[start, end)` are none any more: their pages may go. */
  letGoIn(start: number, end: number): void {
    const { reserved } = this;
    for (let i = reserved.length - 1; i >= 0; i--) {
      const range = reserved[i]!;
      if (range.start >= end || range.end <= start) continue;
      reserved.splice(i, 1);
      for (const frame of range.frames) this.platform.core.exports.frameUnpin(frame);
      this.platform.settleFreed();
    }
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

  /**
   * Takes the device out of this address space: its pages come home, its translations go, ranges that it had reserved are gone with their bytes. Any later use is EBADF. Errors: EAGAIN when a page cannot come
   * home; the device is attached then as before. Models: `gm_dev_detach`.
   */
  detach(): void {
    if (!this.isAttached) return;
    this.platform.scheduler.runSync(this.detachStep());
  }

  async detachAsync(): Promise<void> {
    if (!this.isAttached) return;
    await this.platform.scheduler.runAsync(this.detachStep());
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

  /** @internal The memory is unplugged: its index is the next one's. */
  forgetLimit(memory: MemoryIndex): void {
    this.limits.delete(memory);
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
    for (let i = 0; i < vpns.length; i++) requirePages('giveUp.vpns', vpns[i]!, 1, 1);
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

  // -------------------------------------------------------------------------------------------------------------- for steps

  /** @internal The device runs this address space now, or another one. */
  turned(how: 'load' | 'unload'): void {
    const operation = this.mmu[how];
    if (!operation) return;
    const { scheduler } = this.platform;
    const outer = scheduler.beginCall(`${this.name}.${how}`);
    try {
      operation();
    } catch (error) {
      this.failWith(error);
    } finally {
      scheduler.endCall(outer);
    }
  }

  /** Whether the device runs this address space now. */
  get isCurrent(): boolean {
    return this.isAttached && (!this.device.turn || this.device.current === this);
  }

  /** The driver's own service of a batch. */
  service(batch: FaultBatch): Step | undefined {
    const { fault } = this.mmu;
    // For each fault: no closure for `guard`.
    try {
      if (!fault) return undefined;
      const step = fault.service(batch) as Step | null | undefined;
      if (typeof step?.next !== 'function') throw fail('EINVAL', `${this.name}.fault.service result`, step, 'is not a step');
      return step;
    } catch (error) {
      throw this.failWith(error);
    }
  }

  /** Throws EBADF once detached, ENODEV once failed. */
  requireWorking(verb: string): void {
    this.space.requireUnreaped(verb);
    this.space.requireOpen(verb);
    if (!this.isAttached) throw fail('EBADF', verb, this.name, 'has been detached from this address space');
    // From inside its driver's attach.
    if ((this.notifier as IntervalNotifier | undefined) === undefined) throw fail('EINVAL', verb, this.name, 'is only being attached');
    if (this.device.leaving) throw fail('ENODEV', verb, this.name, 'is being taken out of the machine');
    if (this.failure) throw fail('ENODEV', verb, this.name, `has failed: ${this.failure.message}`);
  }

  /** The last act of a detach: the notifier is gone, nothing of the device is left in the space. */
  end(): void {
    if (this.device.current === this) this.device.load(undefined);
    remove(this.device.contexts, this);
    remove(this.space.mirrors, this as SpaceMirror);
    this.leave();
    const { events } = this.platform;
    if (events.heard) events.emit({ type: 'context.detached', space: this.space.id, device: this.name });
  }

  /** Ends the subscription; a step, since a running invalidation has to end first. */
  removeNotifierStep(): RemoveNotifier {
    return new RemoveNotifier(this.notifier);
  }

  private address(argument: string, addr: number, bytes: number): number {
    requireAddress(argument, addr, bytes);
    if (addr + bytes > this.pageLimit * L.PAGE_BYTES)
      throw fail('EFAULT', argument, addr, `is beyond the ${Math.log2(this.pageLimit * L.PAGE_BYTES)} address bits of ${this.name}`);
    return addr;
  }

  private checked(step: DeviceAccess, addr: number): Uint8Array {
    if (step.outcome === 'done') return step.bytes;
    // What such a driver has entered is not seen: it may be that it never does.
    if (step.outcome === 'no progress' && this.mmu.walk)
      throw fail(
        'ETIME',
        `${step.name}.addr`,
        addr + step.done,
        `makes no progress: its page is served again and again, and walk.translate of ${this.name} never answers with a translation that allows it`,
      );
    throw accessError(step.name, addr + step.done, step.outcome, this.space.hostRoom === 0);
  }
}

function requireAddress(argument: string, addr: number, bytes: number): void {
  if (!Number.isSafeInteger(addr) || addr < 0 || addr >= ADDRESS_LIMIT)
    throw fail('EINVAL', argument, addr, 'is not a byte address below 2^48');
  if (addr + bytes > ADDRESS_LIMIT) throw fail('EOVERFLOW', argument, addr, `leaves the address space after ${bytes} bytes`);
}

function remove<T>(list: T[], item: T): void {
  const at = list.indexOf(item);
  if (at >= 0) list.splice(at, 1);
}

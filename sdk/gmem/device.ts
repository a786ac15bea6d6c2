/**
 * A device in a machine: a driver with nodes for its memories, and one context for each address space that it is attached to.
 *
 * Models: `gm_dev`, `gm_dev_create`, `gm_dev_register_physmem`, `dev_pagemap`.
 */
import * as L from '../../assembly/layout.ts';
import { type Copies, Ranges } from '../core/batch.ts';
import { fail } from '../errors.ts';
import { MIGRATING, type MigrationCause } from '../events.ts';
import { AddressSpace } from '../mm/address-space.ts';
import { type Attachable, ATTACH_MODES, type AttachMode, type AttachOptions, HOME_TABLE_FORMAT, requireAttach } from '../mm/attach.ts';
import {
  requireArray,
  requireBoolean,
  requireCount,
  requireFunction,
  requireObject,
  requireOptions,
  requireWord,
  VPN_LIMIT,
} from '../mm/arguments.ts';
import type { AdvisedDevice } from '../mm/attributes.ts';
import { Iommu } from '../mm/dma.ts';
import {
  type CopyDirection,
  type CoreMirror,
  type DeviceMemory,
  FRAME_LATER,
  FRAME_LATER_HUGE,
  type MigrationDevice,
  type PeerContext,
} from '../mm/device-memory.ts';
import type { Node } from '../mm/node.ts';
import type { Platform } from '../mm/platform.ts';
import { AT_HOST, type PlacementQuestion } from '../policy/placement.ts';
import { checkPolicy, type DevicePolicy, type PinnedAccess } from '../policy/policy.ts';
import { Fifo, type VictimCandidate, type VictimChoice, type VictimPolicy, victimPolicy } from '../policy/victim.ts';
import { Lock } from '../step/lock.ts';
import { isTicket, type Ticket } from '../step/ticket.ts';
import { choosePlacement } from './choose-placement.ts';
import { Context } from './context.ts';
import type { DeviceMirror } from './device-mirror.ts';
import { checkGeometry, DEFAULT_GEOMETRY } from './device-table.ts';
import {
  type AtomicMeans,
  type Copy,
  type Driver,
  FAULT_BUFFER_ENTRIES,
  HOST,
  type MemoryDescription,
  type MemoryIndex,
} from './driver.ts';
import { Introduce } from './introduce.ts';
import { Keeper } from './keeper.ts';
import { Reset, type ResetOptions, type ResetReport } from './reset.ts';
import { Spared } from './spared.ts';
import { SwitchTo } from './switch.ts';
import { originalOf } from './duplicate.ts';
import { Unplug } from './unplug.ts';

/** Tickets that a device keeps before it looks which of them have ended. */
const TICKETS_KEPT = 256;

/** Pages asked for at once of a device that hands them out. */
const IMPORT_PAGES = 16;
/** A block of the largest granule. */
const ADDRESS_BITS_MIN = 21;
const NOBODY: ReadonlySet<number> = new Set();
const NO_FRAMES: readonly number[] = [];
const OLDEST: VictimPolicy = new Fifo();
const HUGE_BYTES = L.PAGE_BYTES << L.HUGE_ORDER;

/** Who does which copy. */
const OPERATIONS: Readonly<Record<CopyDirection, keyof Copy>> = { 'to-device': 'toDevice', 'to-host': 'toHost', peer: 'peer' };

/** A driver in a machine. Made by `machine.addDevice(driver)`. */
export class Device implements Attachable<Context>, AdvisedDevice, MigrationDevice {
  readonly name: string;
  readonly driver: Driver;
  /** What was chosen for it. */
  readonly policy: DevicePolicy;
  /** 1 and up: the owner that MIGRATE events and selectors carry. */
  readonly owner: number;
  readonly granulePages: number;
  readonly pinnedAccess: PinnedAccess;
  /** One past the last page that it has an address for. */
  readonly pageLimit: number;
  readonly faultEntries: number;
  /** Page sizes that the entries of its ready-made tables may have. */
  readonly pageBytes: readonly number[];
  readonly contexts: Context[] = [];
  /** The I/O page table between it and memory; undefined when its driver says that there is none (`dma.iovaBits` 0). */
  readonly iommu: Iommu | undefined;
  /** One fault batch at a time: drivers and memories keep what it needs by the device. */
  readonly batch: Lock;
  /** It is being taken out of the machine: it gets no pages, no attach, no job. */
  leaving = false;
  /** Whether it can wait for a page. */
  readonly replayable: boolean;
  /** Whose turn it is; undefined: it runs all its address spaces at a time. */
  readonly turn: Lock | undefined;
  /** Times that it went from one address space to another. */
  switches = 0;
  private loaded: Context | undefined;
  /** Times that it was reset. */
  resets = 0;
  private readonly platform: Platform;
  private readonly plugged: OwnMemory[] = [];
  /** Asked of every page that could be duplicated. */
  private readonly question: { -readonly [field in keyof PlacementQuestion]: PlacementQuestion[field] };
  /** Its operations that are unfinished, and some that have ended. */
  private tickets: Ticket[] = [];

  constructor(platform: Platform, owner: number, driver: Driver, policy: DevicePolicy) {
    checkDriver(driver);
    checkPolicy(driver.name, policy);
    requireVictims(driver, policy);
    if (policy.thrashing !== undefined || policy.residency !== undefined) platform.rememberMovements();
    this.platform = platform;
    this.name = driver.name;
    this.driver = driver;
    this.policy = policy;
    this.owner = owner;
    this.question = { device: owner, vpn: 0, write: false, at: AT_HOST, isReachable: true, mayDuplicate: true, advice: undefined };
    this.batch = new Lock('batch', owner);
    this.replayable = driver.replayable ?? true;
    this.turn = driver.activeContexts === 'one' ? new Lock('turn', owner) : undefined;
    this.pinnedAccess = policy.pinnedAccess ?? 'error';
    this.granulePages = (driver.granuleBytes ?? L.PAGE_BYTES) / L.PAGE_BYTES;
    this.pageLimit = 2 ** ((driver.addressBits ?? L.ADDRESS_BITS) - L.PAGE_SHIFT);
    this.faultEntries = driver.faultEntries ?? FAULT_BUFFER_ENTRIES;
    this.iommu = driver.dma?.iovaBits === 0 ? undefined : new Iommu(driver.dma?.iovaBits ?? L.ADDRESS_BITS);
    this.pageBytes = driver.pageBytes ?? [L.PAGE_BYTES];
    try {
      for (const description of driver.memory ?? []) this.plug(description);
    } catch (error) {
      for (const memory of [...this.plugged].reverse()) this.drop(memory);
      throw error;
    }
  }

  /** Whether it is of this machine. */
  isOf(platform: Platform): boolean {
    return this.platform === platform;
  }

  /** The context of this device in a space. Models: `gm_as_attach`. */
  attachTo(space: AddressSpace, options: AttachOptions = {}): Context {
    const context = this.contextIn(space, options);
    const step = this.introduction(context);
    if (!step) return context;
    try {
      this.platform.scheduler.runSync(step);
    } catch (error) {
      // A peer that has not answered: when it does, the context comes to nothing.
      step.abandon();
      throw error;
    }
    return context;
  }

  /** The same, waiting for a peer that answers later. */
  async attachToAsync(space: AddressSpace, options: AttachOptions = {}): Promise<Context> {
    const context = this.contextIn(space, options);
    const step = this.introduction(context);
    if (step) await this.platform.scheduler.runAsync(step);
    return context;
  }

  /** One that cannot use every address is told of what is peer-shared. */
  private introduction(context: Context): Introduce | undefined {
    return context.peer || this.pageLimit < VPN_LIMIT ? new Introduce(this.platform, context) : undefined;
  }

  private contextIn(space: AddressSpace, options: AttachOptions): Context {
    this.platform.requireOpen('attach');
    requireAttach(options);
    if (!(space instanceof AddressSpace))
      throw fail('EINVAL', 'attach.space', space, 'is not an address space (see machine.createAddressSpace)');
    if (this.platform.spaces.get(space.id) !== space) throw fail('EINVAL', 'attach.device', this.name, 'is of another machine');
    const removed = !this.platform.devices.includes(this);
    if (this.leaving || removed)
      throw fail('ENODEV', 'attach.device', this.name, removed ? 'is not in the machine any more' : 'is being taken out of the machine');
    if (this.contexts.some((context) => context.space === space))
      throw fail('EINVAL', 'attach.device', this.name, 'is attached to this address space already');
    const { activate } = options;
    if (activate === false && !this.turn)
      throw fail('EINVAL', 'attach.activate', activate, `is for a device that runs one address space at a time, which ${this.name} is not`);
    if (activate && this.turn?.holder)
      throw fail('EBUSY', 'attach.activate', activate, `would take ${this.name} from what it runs: switch when it has ended (switchTo)`);
    const context = new Context(this.platform, this, space, this.modeFor(space, options.mode));
    if (this.turn && (activate ?? !this.loaded)) this.load(context);
    return context;
  }

  /** The mode it is attached in. Throws EINVAL when it cannot have it. */
  private modeFor(space: AddressSpace, asked: AttachMode | undefined): AttachMode {
    const mode = asked ?? this.driver.mode ?? 'exclusive';
    if (mode !== 'share') return mode;
    const { tableFormat } = this.driver;
    if (tableFormat !== space.tableFormat)
      throw fail(
        'EINVAL',
        `attach.mode of ${this.name}`,
        mode,
        `needs the table format "${space.tableFormat}", the driver has ${tableFormat === undefined ? 'none' : `"${tableFormat}"`}`,
      );
    if (this.pageLimit < VPN_LIMIT)
      throw fail('EINVAL', `attach.mode of ${this.name}`, mode, 'is not for a device that cannot address all of the table of the CPU');
    const memory = this.plugged.find(({ kind }) => kind === 'private');
    if (memory)
      throw fail(
        'EINVAL',
        `attach.mode of ${this.name}`,
        mode,
        `is not for a device with private memory (${memory.node.name}): the CPU's entries cannot name it`,
      );
    return mode;
  }

  /** Its memories, by ascending index: those of `driver.memory`, in that order, then what was added. */
  get memories(): readonly OwnMemory[] {
    return this.plugged;
  }

  /** The memory that faults bring pages to: its first one. */
  get memory(): OwnMemory | undefined {
    return this.plugged[0];
  }

  /**
   * Plugs a memory in: from now on it has frames. Its index is the lowest one that is free. Errors: EINVAL for a description that breaks a rule, or a second memory of that
   * name; ENOMEM when it does not fit the machine (bytes, physical addresses, node slots). Models: `memremap_pages`.
   */
  addMemory(description: MemoryDescription): OwnMemory {
    this.platform.requireOpen('addMemory');
    checkMemory(this.name, description);
    if (description.allocator === 'driver' || description.allocator === 'peer')
      throw fail(
        'EINVAL',
        `${this.name}.memory.${description.name}.allocator`,
        description.allocator,
        'is not for a memory that is added later',
      );
    if (description.bytesIn === 'external') for (const { mmu } of this.contexts) requireEngine(this.name, mmu.copy);
    if (description.kind === 'private' && this.contexts.some(({ mode }) => mode === 'share'))
      throw fail(
        'EINVAL',
        `${this.name}.memory.${description.name}.kind`,
        'private',
        'is not for a device that shares the table of the CPU',
      );
    return this.plug(description);
  }

  /**
   * Unplugs a memory: it gives no frames away any more, everything on it comes home, whoever maps it, then its frame numbers and bytes are free for another. Errors: EINVAL for a
   * memory of another device, EBUSY when a page could not leave (it is pinned, or host memory is exhausted) or a device has not finished. After EBUSY the memory
   * is what it was; what has come home stays there. Models: `memunmap_pages` after `migrate_device_range`.
   */
  removeMemory(memory: OwnMemory): void {
    this.platform.scheduler.runSync(this.removeMemoryStep(memory));
  }

  async removeMemoryAsync(memory: OwnMemory): Promise<void> {
    await this.platform.scheduler.runAsync(this.removeMemoryStep(memory));
  }

  removeMemoryStep(memory: OwnMemory): Unplug {
    this.platform.requireOpen('removeMemory');
    if (!this.plugged.includes(memory)) throw fail('EINVAL', 'removeMemory.memory', memory, `is not a memory of ${this.name}`);
    return new Unplug(this.platform, this, memory);
  }

  /**
   * Resets the device: its unfinished operations fail, its jobs end with ENODEV, its translations go, a failed context serves again. With `memory: 'lost'` every page whose only bytes were in its memories
   * becomes poison, a bus error for whoever touches it, and is reported. Errors: EINVAL; ENODEV once it has been removed; EBUSY when another device has not finished.
   */
  reset(options: ResetOptions = {}): ResetReport {
    const step = this.resetStep(options);
    this.platform.scheduler.runSync(step);
    return step.report();
  }

  async resetAsync(options: ResetOptions = {}): Promise<ResetReport> {
    const step = this.resetStep(options);
    await this.platform.scheduler.runAsync(step);
    return step.report();
  }

  resetStep(options: ResetOptions = {}): Reset {
    this.platform.requireOpen('reset');
    requireOptions('reset', options);
    const { memory = 'kept' } = options;
    return new Reset(this.platform, this, requireWord('reset.memory', memory, ['kept', 'lost']));
  }

  /** The context that it runs; undefined: none, or all of them. Models: `gm_dev.current_ctx`. */
  get current(): Context | undefined {
    return this.loaded;
  }

  /**
   * Makes the device run the address space of a context, when its turn has come: what the device runs now goes on to the end of its slice. Errors: EINVAL for a context of another device; EOPNOTSUPP for a device
   * that runs all at a time; EBADF, ENODEV; EBUSY while a job waits for a device that has not finished. Models: `gm_dev_switch`.
   */
  switchTo(context: Context): void {
    this.platform.scheduler.runSync(this.switchToStep(context));
  }

  async switchToAsync(context: Context): Promise<void> {
    await this.platform.scheduler.runAsync(this.switchToStep(context));
  }

  switchToStep(context: Context): SwitchTo {
    this.platform.requireOpen('switchTo');
    if (!(context instanceof Context) || context.device !== this)
      throw fail('EINVAL', 'switchTo.context', context, `is not a context of ${this.name}`);
    if (!this.turn) throw fail('EOPNOTSUPP', 'switchTo', this.name, 'runs all its address spaces at a time');
    context.requireWorking('switchTo');
    return new SwitchTo(this, context);
  }

  /** @internal The turn has come to this context. */
  load(context: Context | undefined): void {
    const before = this.loaded;
    if (before === context) return;
    this.loaded = undefined;
    before?.turned('unload');
    this.loaded = context;
    context?.turned('load');
    if (!context) return;
    this.switches++;
    const { events } = this.platform;
    if (events.heard) events.emit({ type: 'context.switched', space: context.space.id, device: this.name, from: before?.space.id ?? -1 });
  }

  /** @internal A ticket of this device, which a reset ends. */
  opened(ticket: Ticket): Ticket {
    if (this.tickets.length >= TICKETS_KEPT) this.tickets = this.tickets.filter(({ state }) => state === 'pending');
    this.tickets.push(ticket);
    return ticket;
  }

  /** @internal What the device was doing will not be done. */
  breakOff(): void {
    this.resets++;
    const { tickets } = this;
    this.tickets = [];
    for (const ticket of tickets) if (ticket.state === 'pending') ticket.fail('the device was reset');
  }

  /** @internal The driver's own part of a reset. One that throws has no part in the machine any more. */
  powerOn(): void {
    try {
      this.driver.reset?.();
    } catch (error) {
      for (const context of this.contexts) context.failWith(error);
    }
  }

  /** @internal The last act of an unplug. Requires: none of its frames is in use. */
  drop(memory: OwnMemory): void {
    this.platform.nodes.drop(memory.node);
    this.platform.memories.delete(memory.node.index);
    this.plugged.splice(this.plugged.indexOf(memory), 1);
    const { events } = this.platform;
    const { name: node, frames } = memory.node;
    if (events.heard) events.emit({ type: 'memory.unplugged', device: this.name, node, frames });
  }

  /** @internal The accesses of the batch have run: what it needed may be evicted again. */
  endBatch(): void {
    for (const memory of this.plugged) memory.unspare();
  }

  /** The memory that a frame is in, if it is one of this device. */
  holding(frame: number): OwnMemory | undefined {
    for (const memory of this.plugged) if (memory.node.holds(frame)) return memory;
    return undefined;
  }

  /** Memory index of a frame as the driver knows it: its own, HOST, or one below HOST for each node of other devices. */
  memoryOf(frame: number): MemoryIndex {
    const own = this.holding(frame);
    if (own) return own.index;
    const node = this.platform.nodes.of(frame);
    return node.owner === 0 ? HOST : HOST - node.index;
  }

  /** The node with this memory index. */
  nodeAt(index: MemoryIndex): Node | undefined {
    const { nodes } = this.platform;
    if (index >= 0) return this.memoryAt(index)?.node;
    return index === HOST ? nodes.list[0] : nodes.list.find((node) => node.index === HOST - index && node.owner > 0);
  }

  /** The memory with this index. */
  memoryAt(index: MemoryIndex): OwnMemory | undefined {
    return this.plugged.find((memory) => memory.index === index);
  }

  hasEngine(space: AddressSpace | undefined): boolean {
    const mmu = this.mover(space)?.mmu;
    return mmu?.copy !== undefined || mmu?.phys?.preparePage !== undefined;
  }

  hasPeerEngine(space: AddressSpace | undefined): boolean {
    return this.mover(space)?.mmu.copy?.peer !== undefined;
  }

  copy(direction: CopyDirection, space: AddressSpace | undefined, copies: Copies): Ticket | void {
    return this.engine(space, copies, OPERATIONS[direction]);
  }

  zero(space: AddressSpace | undefined, copies: Copies): Ticket | void {
    return this.engine(space, copies, 'zero');
  }

  mirrorIn(space: AddressSpace): CoreMirror | undefined {
    const mirror = this.contextOf(space)?.mirror;
    return mirror?.isWhole ? mirror : undefined;
  }

  coupledIn(space: AddressSpace | undefined): PeerContext | undefined {
    return (space ? this.contextOf(space) : this.contexts[0])?.coupled;
  }

  withdraw(space: AddressSpace, ranges: Ranges, tickets: Ticket[]): void {
    const context = this.contextOf(space);
    if (!context) return;
    if (this.policy.flush === 'immediate' && ranges.count > 1) {
      ranges.each((vpn, pages) => context.withdrawOne(vpn, pages, tickets));
      return;
    }
    const ticket = context.withdraw(ranges);
    if (ticket) tickets.push(ticket);
  }

  mayDuplicateIn(space: AddressSpace): boolean {
    return space.attributes.size > 0 || this.policy.placement !== undefined;
  }

  duplicates(space: AddressSpace, vpn: number): boolean {
    // Where nothing is advised and nothing is chosen, nobody is asked: this is looked at for every page.
    if (!this.mayDuplicateIn(space)) return false;
    const context = this.contextOf(space);
    if (!context?.mayDuplicate || !context.mayEnter) return false;
    const { question } = this;
    question.vpn = vpn;
    question.advice = space.attributes.at(vpn);
    return choosePlacement(this.platform, this, question) === 'duplicate';
  }

  keep(space: AddressSpace, vpn: number, frame: number): void {
    const { core } = this.platform;
    const context = this.contextOf(space);
    const original = originalOf(this.platform, space, vpn);
    if (!context?.mayEnter || original === L.FRAME_NONE || !core.exports.duplicateSet(space.table, vpn, original)) {
      core.exports.framePut(frame);
      return;
    }
    context.replicas.add(vpn, frame, original, true);
    context.installReplicas([vpn]);
  }

  contextOf(space: AddressSpace): Context | undefined {
    for (const context of this.contexts) if (context.space === space) return context;
    return undefined;
  }

  private plug(description: MemoryDescription): OwnMemory {
    let index = 0;
    while (this.memoryAt(index)) index++;
    const memory = new OwnMemory(this.platform, this, index, description);
    this.plugged.push(memory);
    this.plugged.sort((a, b) => a.index - b.index);
    const { events } = this.platform;
    const { name: node, frames } = memory.node;
    if (events.heard) events.emit({ type: 'memory.plugged', device: this.name, node, frames });
    return memory;
  }

  /** The context in that space; any one when a migration has no space, or one in which the device is not (a child has its parent's pages). */
  private mover(space: AddressSpace | undefined): Context | undefined {
    return (space && this.contextOf(space)) ?? this.contexts[0];
  }

  /** Whether all of a list goes to pages that the driver's own allocator gave. */
  private isFilled(copies: Copies): boolean {
    if (this.memory?.node.allocator !== 'driver') return false;
    let all = true;
    copies.each((_pages, _fromMemory, _fromPage, toMemory) => (all &&= toMemory === this.memory!.index));
    return all;
  }

  private engine(space: AddressSpace | undefined, copies: Copies, operation: keyof Copy): Ticket | void {
    return this.copyIn(this.mover(space), copies, operation);
  }

  /** @internal The copy engine of a context; the core where it has none. */
  copyIn(context: DeviceMirror | undefined, copies: Copies, operation: keyof Copy): Ticket | void {
    const engine = context?.mmu.copy;
    const prepare = context?.mmu.phys?.preparePage;
    if (context && prepare && operation !== 'toHost' && this.isFilled(copies)) {
      try {
        const result = prepare.call(context.mmu.phys, copies);
        return isTicket(result) ? result : undefined;
      } catch (error) {
        throw context.failWith(error);
      }
    }
    if (!context || !engine?.[operation]) return copies.perform();
    try {
      const result = engine[operation](copies);
      return isTicket(result) ? result : undefined;
    } catch (error) {
      throw context.failWith(error);
    }
  }
}

/** One memory of a device: the page map that migrations and CPU faults see. */
export class OwnMemory implements DeviceMemory {
  readonly node: Node;
  readonly owner: number;
  readonly granulePages: number;
  /** @internal Frames that a fault batch under way has installed or needs: not to be victims before its lanes have run. */
  readonly spared: Spared;
  /** @internal How many of them the batch has brought: they may go when its lanes have run. The others were there. */
  brought = 0;
  /** Names it for the driver: its place in `driver.memory`, or the first place that was free when it was added. */
  readonly index: number;
  readonly kind: 'private' | 'coherent';
  readonly device: Device;
  /** @internal A fault brings one page to it, at once: it is private, has granules of a page, and neither does its device choose the pages nor is some of it kept free. */
  readonly isPlain: boolean;
  /** Most frames in use; 0: no limit. */
  private framesMax = 0;
  /** It is being unplugged: no frame of it is given away. */
  leaving = false;
  /** Pages that the device has handed out, and those of them that are not in use. */
  private readonly given: Set<number> = new Set();
  private readonly imported: number[] = [];
  private imports = 0;
  private importFailed = false;
  /** Keeps some of it free. */
  readonly keeper: Keeper | undefined;
  private readonly policy: VictimPolicy | undefined;
  private readonly platform: Platform;

  constructor(platform: Platform, device: Device, index: number, description: MemoryDescription) {
    this.platform = platform;
    this.device = device;
    this.index = index;
    this.kind = description.kind;
    this.owner = device.owner;
    this.spared = new Spared(platform.core);
    this.granulePages = device.granulePages;
    if (description.bytesIn === 'external' && platform.core.plan.bodiless)
      throw fail(
        'EINVAL',
        `${device.name}.memory.${description.name}.bytesIn`,
        'external',
        'is not for a machine without bytes: there is nothing to copy there',
      );
    this.node = platform.nodes.add({
      name: `${device.name}.${description.name}`,
      kind: description.kind,
      frames: description.bytes / L.PAGE_BYTES,
      bytesIn: description.bytesIn ?? 'backed',
      allocator: description.allocator ?? 'core',
      owner: device.owner,
    });
    const { victims = 'fifo', watermarks } = device.policy;
    if (watermarks) {
      const [low, high] = [watermarks.low / L.PAGE_BYTES, watermarks.high / L.PAGE_BYTES];
      if (high >= this.node.frames) {
        platform.nodes.drop(this.node);
        throw fail(
          'EINVAL',
          `${device.name} policy.watermarks.high`,
          watermarks.high,
          `is not less than the ${description.bytes} bytes of ${description.name}`,
        );
      }
      this.keeper = new Keeper(platform, this, low, high);
    }
    this.isPlain = this.kind === 'private' && this.granulePages === 1 && this.node.allocator !== 'peer' && !this.keeper;
    this.policy = victims === 'fifo' ? undefined : typeof victims === 'string' ? victimPolicy(victims) : victims;
    platform.memories.set(this.node.index, this);
  }

  /** Most bytes of it that may be in use; 0: all of them. */
  get maxBytes(): number {
    return this.framesMax * L.PAGE_BYTES;
  }

  /**
   * Limits what of it may be in use. Rounded down to whole granules of the device; 0: no limit. What does not fit is evicted, or used where it is. Errors: EINVAL for what is no length, and below what is in
   * use now. Models: `max_memsize` of a node.
   */
  limit(bytes: number): void {
    this.platform.requireIdle('limit');
    requireCount('limit.bytes', bytes, 0, Number.MAX_SAFE_INTEGER);
    const unit = this.granulePages * L.PAGE_BYTES;
    const frames = Math.floor(bytes / unit) * this.granulePages;
    if (bytes > 0 && frames < this.node.used)
      throw fail('EINVAL', 'limit.bytes', bytes, `is, in granules of ${unit}, less than the ${this.node.used * L.PAGE_BYTES} bytes in use`);
    if (bytes > 0 && frames === 0) throw fail('EINVAL', 'limit.bytes', bytes, `is less than a granule of ${unit}`);
    this.framesMax = frames;
  }

  /** @internal A frame that the batch under way brings something to. */
  bring(frame: number): void {
    this.spared.add(frame);
    this.brought++;
  }

  /** @internal The batch has ended. */
  unspare(): void {
    this.brought = 0;
    if (this.spared.size > 0) this.spared.clear();
  }

  needs(frame: number): boolean {
    return this.spared.has(frame);
  }

  takeFrame(order = 0): number {
    if (this.leaving) return L.FRAME_NONE;
    if (this.framesMax > 0 && this.node.used + 2 ** order > this.framesMax) return L.FRAME_NONE;
    if (this.node.allocator === 'core') return this.node.take(order);
    if (this.node.allocator === 'peer') return this.takeOfPeer(order);
    // A driver's own allocator has pages.
    if (order > 0) return L.FRAME_NONE;
    return this.takeOfDriver();
  }

  private takeOfDriver(): number {
    const context = this.device.contexts[0];
    const phys = context?.mmu.phys;
    if (!phys) return L.FRAME_NONE;
    try {
      const page = phys.allocPage();
      if (page === undefined) return L.FRAME_NONE;
      this.requirePage('allocPage result', page);
      if (!this.platform.core.exports.frameClaim(this.node.base + page, 0))
        throw fail('EINVAL', `${this.device.name}.phys.allocPage result`, page, 'is in use already');
      return this.node.base + page;
    } catch (error) {
      throw context.failWith(error);
    }
  }

  /**
   * @internal Takes up to `n` frames of one page, as `takeFrame` would one by one, into `frames` from index `at` on, and spares them. Returns how many; fewer when there are no more. One that the device will
   * choose is FRAME_LATER. A driver that throws keeps none of them.
   */
  takeFrames(frames: Int32Array, at: number, n: number): number {
    const { node, spared } = this;
    if (node.allocator === 'core') {
      const most = this.leaving ? 0 : this.framesMax > 0 ? Math.min(n, this.framesMax - node.used) : n;
      const taken = most > 0 ? node.takeMany(frames, at, most, L.FRAME_SPARED) : 0;
      spared.marked(frames, at, taken);
      return taken;
    }
    let taken = 0;
    try {
      while (taken < n) {
        const frame = this.takeFrame();
        if (frame === L.FRAME_NONE) break;
        if (frame >= 0) spared.add(frame);
        frames[at + taken++] = frame;
      }
    } catch (error) {
      for (let i = at; i < at + taken; i++) if (frames[i]! >= 0) this.platform.core.exports.framePut(frames[i]!);
      throw error;
    }
    return taken;
  }

  /** A page that has been imported; without imports the device chooses it later. */
  private takeOfPeer(order: number): number {
    const peer = this.device.contexts[0]?.mmu.peer;
    if (!peer) return L.FRAME_NONE;
    if (!peer.importPages) return order > 0 ? FRAME_LATER_HUGE : FRAME_LATER;
    if (order > 0) return L.FRAME_NONE;
    if (this.imported.length === 0 && !this.importFailed) this.importPages(peer.importPages.bind(peer));
    const page = this.imported.pop();
    if (page === undefined) return L.FRAME_NONE;
    this.platform.core.exports.frameClaim(this.node.base + page, 0);
    return this.node.base + page;
  }

  /** The next batch of pages of the device; one that gives fewer than asked for has none left. */
  private importPages(ask: (count: number) => readonly number[]): void {
    const context = this.device.contexts[0]!;
    try {
      const pages = [...ask(IMPORT_PAGES)];
      this.imports++;
      for (const page of pages) {
        this.requirePage('importPages result', page, 'peer');
        const flags = this.platform.core.field(this.platform.core.frameRecord(this.node.base + page), L.FRAME_FLAGS);
        if ((flags & L.FRAME_STATE) !== L.STATE_OFFLINE || this.given.has(page))
          throw fail('EINVAL', `${this.device.name}.peer.importPages result`, page, 'has been handed out already');
        this.given.add(page);
      }
      this.imported.push(...pages.reverse());
      this.importFailed = pages.length < IMPORT_PAGES;
    } catch (error) {
      throw context.failWith(error);
    }
  }

  /** What its device has handed out in batches: calls, pages, those that are not in use now, and whether it said that it has no more. */
  get importCounts(): { readonly imports: number; readonly pages: number; readonly unused: number; readonly failed: boolean } {
    return { imports: this.imports, pages: this.given.size, unused: this.imported.length, failed: this.importFailed };
  }

  /** @internal Copies of pages that may go, as frames: nothing has to be moved for them. `payer`: as for `victims`. */
  copies(most: number, payer = 0): readonly number[] {
    const frames: number[] = [];
    for (const { replicas, payer: pays } of this.device.contexts) {
      if (replicas.size === 0 || (payer > 0 && pays !== payer)) continue;
      const pages: number[] = [];
      replicas.pagesIn(this, pages, most - frames.length);
      for (const vpn of pages) frames.push(replicas.at(vpn)!);
    }
    return frames;
  }

  dropReplicas(frames: readonly number[], cause: MigrationCause, tickets: Ticket[]): readonly number[] {
    const { core } = this.platform;
    // Most often there are none: no list is made.
    let any = false;
    for (let i = 0; i < frames.length && !any; i++) any = (core.field(core.frameRecord(frames[i]!), L.FRAME_FLAGS) & L.FRAME_REPLICA) !== 0;
    if (!any) return frames;
    return this.dropCopies(frames, cause, tickets);
  }

  private dropCopies(frames: readonly number[], cause: MigrationCause, tickets: Ticket[]): readonly number[] {
    const { core } = this.platform;
    const copies = frames.filter((frame) => core.field(core.frameRecord(frame), L.FRAME_FLAGS) & L.FRAME_REPLICA);
    const dropped = new Set(copies);
    for (const context of this.device.contexts) {
      const { replicas } = context;
      const pages: number[] = [];
      replicas.pagesIn(this, pages, Infinity, dropped);
      const ranges = new Ranges();
      for (const vpn of pages.sort((a, b) => a - b)) ranges.add(vpn, 1);
      const ticket = pages.length > 0 ? context.withdraw(ranges, MIGRATING[cause]) : undefined;
      if (ticket) tickets.push(ticket);
      // Those that were dropped before, and wait for a flush.
      for (const frame of copies) {
        const flush = replicas.parting.get(frame);
        if (flush && !tickets.includes(flush)) tickets.push(flush);
      }
    }
    return frames.filter((frame) => !dropped.has(frame));
  }

  /** Whether a context of the device has copies of pages. */
  private get hasReplicas(): boolean {
    const { contexts } = this.device;
    for (let i = 0; i < contexts.length; i++) if (contexts[i]!.replicas.size > 0) return true;
    return false;
  }

  /** `list`: for the answer, and lent with it; default: one of the caller's own. */
  victims(pages: number, passed: ReadonlySet<number> = NOBODY, payer = 0, list: number[] = []): readonly number[] {
    const copies = this.hasReplicas ? this.copies(pages, payer) : NO_FRAMES;
    if (copies.length > 0) return copies;
    if (this.node.allocator === 'driver') return this.victimsOfDriver(passed, list);
    // A huge one makes room for 512.
    const frames = this.candidates(pages, passed, payer, list);
    let room = 0;
    for (let i = 0; i < frames.length; i++) {
      room += this.platform.core.pagesOf(frames[i]!);
      if (room >= pages) return i + 1 === frames.length ? frames : frames.slice(0, i + 1);
    }
    return frames;
  }

  /** What the driver lets go. A function of its own: its closures are not made where the core chooses. */
  private victimsOfDriver(passed: ReadonlySet<number>, list: number[]): readonly number[] {
    const context = this.device.contexts[0];
    try {
      const { spared, node } = this;
      const chosen = context?.mmu.phys?.victims?.((page) => spared.has(node.base + page) || passed.has(node.base + page)) ?? NO_FRAMES;
      // A list that is emptied gives its memory back.
      if (chosen.length === 0) return NO_FRAMES;
      for (let i = 0; i < chosen.length; i++) this.requirePage('victims result', chosen[i]!);
      list.length = chosen.length;
      for (let i = 0; i < chosen.length; i++) list[i] = node.base + chosen[i]!;
      return list;
    } catch (error) {
      throw context!.failWith(error);
    }
  }

  /** @internal The `most` oldest frames that may go, oldest first: neither spared, locked nor pinned, and not in `passed`. Requires: the core is the allocator. */
  candidates(most: number, passed: ReadonlySet<number> = NOBODY, payer = 0, frames: number[] = []): readonly number[] {
    const { core } = this.platform;
    const count = Math.min(passed.size, L.FREED_MAX);
    if (count > 0) core.words(L.AREA_FREED, count).set([...passed].slice(-count));
    const list = core.area(L.AREA_LIST);
    const found = core.exports.victims(this.node.index, list, Math.min(most, L.LIST_MAX), core.area(L.AREA_FREED), count, payer);
    // A list that is emptied gives its memory back.
    if (found === 0) return NO_FRAMES;
    frames.length = found;
    for (let i = 0; i < found; i++) frames[i] = core.u32[(list >>> 2) + i]!;
    return frames;
  }

  /**
   * @internal Aligned blocks of 2^order frames of which all that is in use may go, so that it is one free block afterwards: their frames in use, by the number of the block, those first to which nothing has come for
   * longest. Requires: the core is the allocator.
   */
  blocks(order: number, passed: ReadonlySet<number>): ReadonlyMap<number, readonly number[]> {
    const { core } = this.platform;
    const { base, frames, index } = this.node;
    const pages = 2 ** order;
    const may = new Set([...this.copies(Infinity), ...this.candidates(Infinity, passed)]);
    // Where a block stands in the order is where the last one of its frames does.
    const ages = new Set<number>();
    for (const frame of may) {
      const block = Math.floor((frame - base) / pages);
      ages.delete(block);
      ages.add(block);
    }
    const blocks = new Map<number, readonly number[]>();
    for (const block of ages) {
      const end = (block + 1) * pages;
      if (end > frames) continue;
      const found = core.exports.usedFrames(index, block * pages, core.area(L.AREA_LIST), pages);
      const used = [...core.words(L.AREA_LIST, found)].filter((frame) => frame < base + end);
      if (used.every((frame) => may.has(frame))) blocks.set(block, used);
    }
    return blocks;
  }

  /** @internal What chooses its victims; undefined: the oldest go, or what its driver says. */
  get victimPolicy(): VictimPolicy | undefined {
    return this.node.allocator === 'core' ? this.policy : undefined;
  }

  /** @internal What chooses among blocks; undefined: there are none, its frames are handed out by somebody else. */
  get blockPolicy(): VictimPolicy | undefined {
    return this.node.allocator === 'core' ? (this.policy ?? OLDEST) : undefined;
  }

  /** @internal Asks its policy. Errors: EINVAL for an answer that is none. */
  choose(candidates: readonly VictimCandidate[], pages: number, last: boolean): VictimChoice {
    const { scheduler } = this.platform;
    const policy = this.policy ?? OLDEST;
    const outer = scheduler.beginCall(`the victim policy ${policy.name}`);
    try {
      const choice = policy.choose(candidates, pages, last);
      for (const field of ['victims', 'renewed'] as const) {
        for (const i of choice[field])
          if (!Number.isInteger(i) || i < 0 || i >= candidates.length)
            throw fail('EINVAL', `${policy.name}.choose ${field}`, i, `is not one of ${candidates.length} candidates`);
      }
      return choice;
    } finally {
      scheduler.endCall(outer);
    }
  }

  freed(frame: number, pages: number): void {
    const context = this.device.contexts[0];
    if (this.node.allocator === 'peer') return this.freedOfPeer(frame - this.node.base, pages);
    try {
      context?.mmu.phys?.freePage(frame - this.node.base);
    } catch (error) {
      // Taking away cannot fail: whoever frees goes on, and tells the owners of the other frames.
      context?.failWith(error);
    }
  }

  private freedOfPeer(page: number, pages: number): void {
    const context = this.device.contexts[0];
    if (this.given.has(page)) {
      this.imported.push(page);
      this.importFailed = false;
      return;
    }
    try {
      context?.mmu.peer?.freePage?.(page, pages);
    } catch (error) {
      context?.failWith(error);
    }
  }

  private requirePage(what: string, page: number, family = 'phys'): void {
    if (!Number.isInteger(page) || page < 0 || page >= this.node.frames)
      throw fail('EINVAL', `${this.device.name}.${family}.${what}`, page, `is not a page below ${this.node.frames}`);
  }
}

/** Throws EINVAL when a policy is to choose what goes, and there is no memory of which it could. */
function requireVictims({ name, memory = [] }: Driver, { victims }: DevicePolicy): void {
  if (victims === undefined || memory.length === 0 || memory.some(({ allocator = 'core' }) => allocator === 'core')) return;
  throw fail(
    'EINVAL',
    `${name} policy.victims`,
    typeof victims === 'string' ? victims : victims.name,
    'have no say: its driver hands its memory out',
  );
}

/** Throws EINVAL when a driver description breaks a rule. */
function checkDriver(driver: Driver): void {
  if (typeof driver !== 'object' || driver === null || Array.isArray(driver))
    throw fail('EINVAL', 'driver', driver, 'is not a driver (an object made by a defineDriver factory)');
  const { name, granuleBytes, faultEntries, addressBits, pageBytes = [L.PAGE_BYTES], memory = [], atomics = [] } = driver;
  if (typeof name !== 'string' || !/^[a-z][a-z0-9-]{0,31}$/.test(name))
    throw fail('EINVAL', 'driver.name', name, 'is not 1 to 32 lower-case letters, digits or -, a letter first');
  if (typeof driver.attach !== 'function') throw fail('EINVAL', `${name}.attach`, driver.attach, 'is not a function');
  if (granuleBytes !== undefined && !isPowerBetween(granuleBytes, L.PAGE_BYTES, HUGE_BYTES)) {
    throw fail('EINVAL', `${name}.granuleBytes`, granuleBytes, 'is not a power of two between 4096 and 2 MiB');
  }
  requireArray(`${name}.pageBytes`, pageBytes);
  if (!pageBytes.includes(L.PAGE_BYTES))
    throw fail('EINVAL', `${name}.pageBytes`, pageBytes, 'is not an array of page sizes with 4096 among them');
  for (const bytes of pageBytes as readonly number[]) {
    if (!isPowerBetween(bytes, L.PAGE_BYTES, L.PAGE_BYTES << L.GIANT_ORDER))
      throw fail('EINVAL', `${name}.pageBytes`, bytes, 'is not a power of two between 4096 and 1 GiB');
  }
  if (addressBits !== undefined && (!Number.isInteger(addressBits) || addressBits < ADDRESS_BITS_MIN || addressBits > L.ADDRESS_BITS))
    throw fail('EINVAL', `${name}.addressBits`, addressBits, `are not between ${ADDRESS_BITS_MIN} and ${L.ADDRESS_BITS}`);
  if (faultEntries !== undefined && (!Number.isInteger(faultEntries) || faultEntries < 1 || faultEntries > L.FAULTS_MAX)) {
    throw fail('EINVAL', `${name}.faultEntries`, faultEntries, `is not a count between 1 and ${L.FAULTS_MAX}`);
  }
  requireArray(`${name}.memory`, memory);
  for (const each of memory as readonly MemoryDescription[]) {
    checkMemory(name, each);
    if ((each.allocator === 'driver' || each.allocator === 'peer') && each !== memory[0])
      throw fail('EINVAL', `${name}.memory.${each.name}.allocator`, each.allocator, 'is for the first memory only');
  }
  checkAtomics(name, atomics);
  const { geometry, dma, classes, save, restore, mode, tableFormat } = driver;
  if (geometry !== undefined) checkGeometry(geometry);
  if (mode !== undefined) requireWord(`${name}.mode`, mode, ATTACH_MODES);
  if (tableFormat !== undefined && (typeof tableFormat !== 'string' || tableFormat.length === 0))
    throw fail('EINVAL', `${name}.tableFormat`, tableFormat, 'is not the name of a format');
  if (tableFormat === HOME_TABLE_FORMAT && geometry !== undefined && geometry.bits.join() !== DEFAULT_GEOMETRY.bits.join())
    throw fail('EINVAL', `${name}.geometry`, geometry.bits, `is not that of the format "${tableFormat}"`);
  if (dma !== undefined) {
    requireObject(`${name}.dma`, dma, 'an object');
    const { iovaBits, needsSync, peer } = dma;
    if (iovaBits !== undefined && iovaBits !== 0 && (!Number.isInteger(iovaBits) || iovaBits < 13 || iovaBits > 52))
      throw fail('EINVAL', `${name}.dma.iovaBits`, iovaBits, 'is not 0, nor between 13 and 52');
    if (needsSync !== undefined) requireBoolean(`${name}.dma.needsSync`, needsSync);
    if (peer !== undefined) requireFunction(`${name}.dma.peer`, peer);
  }
  if (classes !== undefined) {
    requireArray(`${name}.classes`, classes);
    for (const each of classes) if (typeof each !== 'function') throw fail('EINVAL', `${name}.classes`, each, 'is not a class');
  }
  if (driver.replayable !== undefined) requireBoolean(`${name}.replayable`, driver.replayable);
  if (driver.activeContexts !== undefined) requireWord(`${name}.activeContexts`, driver.activeContexts, ['one', 'all']);
  if (driver.reset !== undefined) requireFunction(`${name}.reset`, driver.reset);
  if (driver.counts !== undefined) requireFunction(`${name}.counts`, driver.counts);
  if (save !== undefined) requireFunction(`${name}.save`, save);
  if (restore !== undefined) requireFunction(`${name}.restore`, restore);
}

/** Throws EINVAL when the description of a memory breaks a rule. */
function checkMemory(name: string, each: MemoryDescription): void {
  if (typeof each !== 'object' || each === null || typeof each.name !== 'string' || !/^[a-z][a-z0-9-]{0,31}$/.test(each.name))
    throw fail('EINVAL', `${name}.memory name`, each?.name, 'is not 1 to 32 lower-case letters, digits or -, a letter first');
  if (!Number.isSafeInteger(each.bytes) || each.bytes <= 0 || each.bytes % L.PAGE_BYTES !== 0) {
    throw fail('EINVAL', `${name}.memory.${each.name}.bytes`, each.bytes, 'is not a positive multiple of 4096');
  }
  if (!['private', 'coherent'].includes(each.kind))
    throw fail('EINVAL', `${name}.memory.${each.name}.kind`, each.kind, "is not one of: 'private', 'coherent'");
  if (!['backed', 'metadata', 'external', undefined].includes(each.bytesIn))
    throw fail('EINVAL', `${name}.memory.${each.name}.bytesIn`, each.bytesIn, "is not one of: 'backed', 'metadata', 'external'");
  if (each.kind === 'coherent' && each.bytesIn !== undefined && each.bytesIn !== 'backed')
    throw fail(
      'EINVAL',
      `${name}.memory.${each.name}.bytesIn`,
      each.bytesIn,
      "is not 'backed': the CPU reads and writes a coherent memory",
    );
  if (!['core', 'driver', 'peer', undefined].includes(each.allocator))
    throw fail('EINVAL', `${name}.memory.${each.name}.allocator`, each.allocator, "is not one of: 'core', 'driver', 'peer'");
}

function checkAtomics(name: string, atomics: readonly AtomicMeans[]): void {
  requireArray(`${name}.atomics`, atomics);
  for (const means of atomics as readonly unknown[]) {
    if (means !== 'native' && means !== 'exclusive' && means !== 'migrate')
      throw fail('EINVAL', `${name}.atomics`, means, "is not one of: 'native', 'exclusive', 'migrate'");
  }
}

/** A memory whose bytes the driver holds is useless without all of a copy engine. */
export function requireEngine(name: string, copy: Copy | undefined): void {
  if (!(copy?.toDevice && copy.toHost && copy.zero))
    throw fail('EINVAL', `${name}.copy`, copy, 'must have toDevice, toHost and zero: its memory is external');
}

function isPowerBetween(value: number, least: number, most: number): boolean {
  return Number.isInteger(value) && value >= least && value <= most && (value & (value - 1)) === 0;
}

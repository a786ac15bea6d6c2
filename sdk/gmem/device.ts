/**
 * A device in a machine: a driver with nodes for its memories, and one context for each address space that it is attached to.
 *
 * Models: `gm_dev`, `gm_dev_create`, `gm_dev_register_physmem`.
 */
import * as L from '../../assembly/layout.ts';
import type { Copies, Ranges } from '../core/batch.ts';
import { fail } from '../errors.ts';
import { AddressSpace } from '../mm/address-space.ts';
import { type Attachable, type AttachMode, type AttachOptions, requireAttach } from '../mm/attach.ts';
import { requireOptions, requireWord, VPN_LIMIT } from '../mm/arguments.ts';
import type { AdvisedDevice } from '../mm/attributes.ts';
import { Iommu } from '../mm/dma.ts';
import type { CopyDirection, CoreMirror, MigrationDevice, PeerContext } from '../mm/device-memory.ts';
import type { Node } from '../mm/node.ts';
import type { Platform } from '../mm/platform.ts';
import { AT_HOST, type PlacementQuestion } from '../policy/placement.ts';
import { checkPolicy, type DevicePolicy, type PinnedAccess } from '../policy/policy.ts';
import { Lock } from '../step/lock.ts';
import { isTicket, type Ticket } from '../step/ticket.ts';
import { choosePlacement } from './choose-placement.ts';
import { Context } from './context.ts';
import type { DeviceMirror } from './device-mirror.ts';
import { checkDriver, checkMemory, requireEngine, requireVictims } from './driver-description.ts';
import { type Copy, type Driver, FAULT_BUFFER_ENTRIES, HOST, type MemoryDescription, type MemoryIndex } from './driver.ts';
import { originalOf } from './duplicate.ts';
import { Introduce } from './introduce.ts';
import { OwnMemory } from './own-memory.ts';
import { Reset, RESET_OPTIONS, type ResetOptions, type ResetReport } from './reset.ts';
import { SwitchTo } from './switch.ts';
import { Unplug } from './unplug.ts';

/** Tickets that a device keeps before it looks which of them have ended. */
const TICKETS_KEPT = 256;

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
    requireOptions('reset', options, RESET_OPTIONS);
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
    for (const context of this.contexts) context.forgetLimit(memory.index);
    const { events } = this.platform;
    const { name: node, frames } = memory.node;
    if (events.heard) events.emit({ type: 'memory.unplugged', device: this.name, node, frames });
  }

  /** @internal The accesses of the batch have run: what it needed may be evicted again. */
  endBatch(): void {
    // On the way of every batch: no iterator.
    const { plugged } = this;
    for (let i = 0; i < plugged.length; i++) plugged[i]!.unspare();
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
    if (index === HOST) return nodes.list[0];
    for (const node of nodes.list) if (node.index === HOST - index && node.owner > 0) return node;
    return undefined;
  }

  /** The memory with this index. */
  memoryAt(index: MemoryIndex): OwnMemory | undefined {
    for (const memory of this.plugged) if (memory.index === index) return memory;
    return undefined;
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
    const mirror = this.contextOf(space)?.ready;
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
    context.keepReplica(vpn);
  }

  contextOf(space: AddressSpace): Context | undefined {
    const { contexts } = this;
    // A loop: an iterator would be made for every migration.
    for (let i = 0; i < contexts.length; i++) if (contexts[i]!.space === space) return contexts[i];
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
    if (!context || !engine) return copies.perform();
    try {
      const result = submit(engine, operation, copies);
      return isTicket(result) ? result : undefined;
    } catch (error) {
      throw context.failWith(error);
    }
  }
}

/** One submission to a copy engine; the core does what it has no operation for. Each by its own name: one that is looked up by a variable is looked up anew at every fault. */
function submit(engine: Copy, operation: keyof Copy, copies: Copies): Ticket | void {
  switch (operation) {
    case 'toDevice':
      return engine.toDevice ? engine.toDevice(copies) : copies.perform();
    case 'toHost':
      return engine.toHost ? engine.toHost(copies) : copies.perform();
    case 'zero':
      return engine.zero ? engine.zero(copies) : copies.perform();
    case 'peer':
      return engine.peer ? engine.peer(copies) : copies.perform();
  }
}

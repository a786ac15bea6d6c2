/**
 * A machine: everything in one simulation. The composition root: it makes the core and the nodes, and hands them to spaces and devices.
 * Two machines share nothing.
 */
import * as L from '../assembly/layout.ts';
import { type CompiledModule, loadCore, loadCoreSync, requireModule, resetCore } from './core/load.ts';
import type { Budget } from './core/memory.ts';
import type { Core } from './core/abi.ts';
import { verifyCore } from './core/verify.ts';
import { fail } from './errors.ts';
import type { Counters } from './events/counters.ts';
import { EventLog } from './events/log.ts';
import type { Listener } from './events/stream.ts';
import { costOf, type MemoryCost } from './gmem/cost.ts';
import { Device } from './gmem/device.ts';
import type { Driver } from './gmem/driver.ts';
import { RemoveDevice } from './gmem/remove-device.ts';
import { Unlink } from './gmem/unlink.ts';
import { readImage, saveImage } from './image/index.ts';
import { AddressSpace, requireRange } from './mm/address-space.ts';
import { SPACE_OPTIONS, type SpaceOptions } from './mm/memory-map.ts';
import {
  type NamesOf,
  requireArray,
  requireBoolean,
  requireBytes,
  requireFunction,
  requireObject,
  requireOptions,
  requireWord,
} from './mm/arguments.ts';
import { Link, LINK_OPTIONS, type LinkOptions } from './mm/links.ts';
import { MemoryFile } from './mm/page-cache.ts';
import { Platform, ZERO_FRAMES } from './mm/platform.ts';
import { Reap } from './mm/reap.ts';
import { SecondTier } from './mm/second-tier.ts';
import { DEVICE_POLICY, type DevicePolicy } from './policy/policy.ts';
import type { StateClass } from './step/method.ts';
import type { PendingRun } from './step/runner.ts';
import type { Ticket } from './step/ticket.ts';

/** Sizes of a machine; all of them have defaults. */
export interface MachineOptions {
  /** Host memory in bytes, a multiple of a page. Default 64 MiB. */
  readonly dram?: number;
  /** Bytes set aside for the memories of devices that keep theirs in the machine. Default: as much as `dram`, without bytes 2^22 pages at most. Memory that is never touched costs nothing. */
  readonly deviceMemory?: number;
  /** Bytes of a second tier, to which anonymous pages go when host memory is full: a multiple of a page. Default 0: there is none. */
  readonly swap?: number;
  /**
   * Where the bytes of host memory, of the second tier and of device memories are: `backed` (default), in the machine; `metadata`: nowhere. A machine without bytes is made at once and as large as its
   * frame records and page tables let it be, about 280 GiB, and takes as much memory as is used of those. Pages, faults, moves, counters and events are what they are with bytes; a load by the CPU or a device is
   * translated and counted, and sees zeros, a store goes nowhere. It has no memory that is `external`, and no file with content.
   */
  readonly bytesIn?: 'backed' | 'metadata';
  /**
   * Bytes of a page: 4096 (default), or, without bytes, a power of two up to 2 MiB. The sizes here are bytes, multiples of it: with pages of 2 MiB, 16 TiB are as many frames as 32 GiB of small ones. A page has 4,096
   * addresses in any machine. Where it has more bytes, an address stands for several, `machine.addressUnit`; then everything but these sizes counts in such units and not in bytes: addresses, ranges and lengths, memories of
   * drivers, limits, and what counters and events call bytes. Huge pages are of 512 pages.
   */
  readonly pageBytes?: number;
  /** Frames of device memories that have no bytes here (`metadata`, `external`). Default 0. */
  readonly bodilessFrames?: number;
  /** Width of a physical address: frame numbers are below 2^physicalBits by the bytes of a page. 24 to 52. Default: as wide as the machine is large. */
  readonly physicalBits?: number;
  /** 4 KiB pages for page tables. Default: an eighth of all frames, at least 4096; without bytes at most one for 256 frames and 65,536 more. */
  readonly tablePages?: number;
  /** Most address spaces and contexts together. Default 64. */
  readonly tables?: number;
  /** Whether devices can be added. Default true. Models: the `gmem=` boot parameter. */
  readonly gmem?: boolean;
  /**
   * Check lock order and the contract of steps. Default true; costs little. `'states'`: and after every turn, that pages only go to states where they may, and that nobody writes what others have copies of; what is wrong
   * is among `strayErrors`. For tests, in small spaces.
   */
  readonly checked?: boolean | 'states';
  /** An already compiled core (`farfault/core.wasm`), for hosts that forbid compiling bytes. */
  readonly module?: CompiledModule;
}

/** What `createMachine` takes. */
export const MACHINE_OPTIONS: NamesOf<MachineOptions> = {
  dram: true,
  deviceMemory: true,
  swap: true,
  bytesIn: true,
  pageBytes: true,
  bodilessFrames: true,
  physicalBits: true,
  tablePages: true,
  tables: true,
  gmem: true,
  checked: true,
  module: true,
};

/** What one node holds. */
export interface NodeReport {
  readonly name: string;
  /** Its number: those of devices are above the host's, the lowest that is free. */
  readonly id: number;
  /** The device that it is a memory of; undefined: the host's. Models: `is_hnode`. */
  readonly device: string | undefined;
  readonly kind: 'host' | 'private' | 'coherent' | 'tier';
  readonly frames: number;
  readonly used: number;
  /** Most frames in use at one time. */
  readonly peak: number;
}

const MIB = 2 ** 20;
const DRAM_DEFAULT = 64 * MIB;
/** Records that are kept for `space.history`. */
const RECORDS_DEFAULT = 65536;
const RECORDS_MAX = 2 ** 24;
/** Reverse-map records: at least so many, and so many for each frame, which is what four spaces that share everything need. */
const CHAINS_MIN = 65536;
const CHAINS_PER_FRAME = 4;
/** Of a large machine without bytes: one for so many frames, and a million more. */
const FRAMES_PER_CHAIN = 4;
const CHAINS_BODILESS = 2 ** 20;
/** The same for pages of its page tables: dense tables need one for 512 frames. */
const FRAMES_PER_TABLE_PAGE = 256;
const TABLE_PAGES_BODILESS = 2 ** 16;
/** Pages of device memory of a machine without bytes, unless it is said. */
const DEVICE_PAGES_BODILESS = 2 ** 22;
const PAGE_BYTES_MAX = 2 * MIB;
/** Devices that a machine has at one time: each has a number of its own, the lowest that is free. */
const DEVICES_MAX = 255;
/** A frame record has 16 bits for the table that maps it, and for the space that pays. */
const TABLES_MAX = 65534;

/**
 * Makes a machine. Errors: EINVAL for a size that is not a positive multiple of 4096, EOVERFLOW when it does not fit one 4 GiB memory, ENOMEM when the host refuses the memory.
 */
export async function createMachine(options: MachineOptions = {}): Promise<Machine> {
  const budget = budgetOf(options);
  return new Machine(await loadCore(budget, options.module), options);
}

/** The same without waiting. */
export function createMachineSync(options: MachineOptions = {}): Machine {
  const budget = budgetOf(options);
  return new Machine(loadCoreSync(budget, options.module), options);
}

/** What a saved machine is restored with. */
export interface RestoreOptions {
  /** The drivers of its devices, made with the same options, in any order. */
  readonly drivers?: readonly Driver[];
  /** As for `save`. */
  readonly classes?: readonly StateClass[];
  /** As for `createMachine`. */
  readonly module?: CompiledModule;
}

const RESTORE_OPTIONS: NamesOf<RestoreOptions> = { drivers: true, classes: true, module: true };

/** A machine that was saved, and what was saved with it. */
export interface RestoredMachine<H extends object> {
  readonly machine: Machine;
  readonly handles: H;
}

/**
 * A machine from the bytes of `machine.save()`, in any host: it goes on where the other one was, step for step. Nobody listens to its events, and nobody waits for its
 * unfinished operations: they go on when their tickets end. Errors: EINVAL for bytes that are no saved machine, are damaged, come from another build of the library, or
 * need a driver that is not given, or one that said other things of itself; ENOMEM when the host refuses the memory. A failure leaves nothing behind.
 */
export async function restoreMachine<H extends object = Record<string, unknown>>(
  image: Uint8Array,
  options: RestoreOptions = {},
): Promise<RestoredMachine<H>> {
  requireOptions('restoreMachine', options, RESTORE_OPTIONS);
  const { drivers = [], classes = [], module } = options;
  requireArray('restoreMachine.drivers', drivers);
  requireArray('restoreMachine.classes', classes);
  if (module !== undefined) requireModule('restoreMachine.module', module);
  const { subject, handles } = await readImage(image, drivers, classes, (sizes) => loadCore(budgetOf(sizes), module));
  const { core, options: sizes, platform } = subject;
  const machine = new Machine(core, { ...sizes, ...(module ? { module } : {}) }, { platform });
  return { machine, handles: handles as H };
}

/** One simulation. Made by `createMachine`; ended by `close`. */
export class Machine {
  private readonly core: Core;
  private readonly options: MachineOptions;
  private ground: Platform;

  /** @internal Use `createMachine`. `restored`: what a saved machine had. */
  constructor(core: Core, options: MachineOptions, restored?: { readonly platform: Platform }) {
    this.core = core;
    this.options = options;
    this.ground = restored?.platform ?? this.start();
    restored?.platform.resume();
  }

  /**
   * Adds a device. Its memories become nodes. `policy`: choices for it, see `DevicePolicy`. Errors: EINVAL for a driver that breaks a rule, ENOMEM when its memories do not fit.
   * Models: `gm_dev_create`, `gm_dev_register_physmem`.
   */
  addDevice(driver: Driver, policy: DevicePolicy = {}): Device {
    this.ground.requireIdle('addDevice');
    requireObject('driver', driver, 'a driver (an object made by a defineDriver factory)');
    requireOptions('addDevice', policy, DEVICE_POLICY);
    if (this.options.gmem === false)
      throw fail('EOPNOTSUPP', 'addDevice', driver.name, 'is not for a machine that was made without devices (gmem)');
    if (this.deviceList.some((device) => device.name === driver.name))
      throw fail('EINVAL', 'driver.name', driver.name, 'is the name of a device of this machine already');
    let owner = 1;
    while (this.deviceList.some((device) => device.owner === owner)) owner++;
    if (owner > DEVICES_MAX) throw fail('ENOMEM', 'devices', DEVICES_MAX, 'is all that a machine has numbers for');
    const device = new Device(this.ground, owner, driver, policy);
    this.deviceList.push(device);
    return device;
  }

  /**
   * Takes a device out of the machine: everything on its memories comes home, whoever maps it, it leaves every address space, its memories go, its number is free. From the beginning on it gets no page, and its
   * jobs and accesses end with ENODEV. Errors: EINVAL for what is no device of this machine; EBUSY when a page cannot leave (it is pinned, or host memory is exhausted): the device is what it was, what has come
   * home stays there; EBUSY when a device has not finished. Models: `gm_dev_destroy`, `drm_dev_unplug`.
   */
  removeDevice(device: Device): void {
    this.ground.scheduler.runSync(this.removeDeviceStep(device));
  }

  async removeDeviceAsync(device: Device): Promise<void> {
    await this.ground.scheduler.runAsync(this.removeDeviceStep(device));
  }

  removeDeviceStep(device: Device): RemoveDevice {
    this.ground.requireOpen('removeDevice');
    if (!this.deviceList.includes(device)) throw fail('EINVAL', 'removeDevice.device', device, 'is not a device of this machine');
    return new RemoveDevice(this.ground, device);
  }

  /**
   * Links two devices: pages go directly from one's memory to the other's, and over a coherent link either may use pages where they are. Without a link they go by way of the host. Errors: EINVAL
   * for a device of another machine, one and the same device, or two that are linked.
   */
  link(a: Device, b: Device, options: LinkOptions = {}): Link {
    this.ground.requireIdle('link');
    this.requireDevice('link.a', a);
    this.requireDevice('link.b', b);
    requireOptions('link', options, LINK_OPTIONS);
    const { coherent = false } = options;
    requireBoolean('link.coherent', coherent);
    const { links, events } = this.ground;
    if (a === b) throw fail('EINVAL', 'link.b', b.name, 'is the same device');
    if (links.between(a.owner, b.owner)) throw fail('EINVAL', 'link.b', b.name, `is linked with ${a.name} already`);
    const link = new Link(a, b, coherent);
    links.add(link);
    if (events.heard) events.emit({ type: 'devices.linked', a: a.name, b: b.name, coherent });
    return link;
  }

  /** Its links, in the order of their making. */
  get links(): readonly Link[] {
    this.ground.requireOpen('links');
    return [...this.ground.links.list];
  }

  /** Cuts a link: copies under way end, then neither device has a translation into the other's private memory any more. Pages stay where they are. Errors: EINVAL for a link that is cut, or of another machine. */
  unlink(link: Link): void {
    this.ground.scheduler.runSync(this.unlinkStep(link));
  }

  async unlinkAsync(link: Link): Promise<void> {
    await this.ground.scheduler.runAsync(this.unlinkStep(link));
  }

  unlinkStep(link: Link): Unlink {
    this.ground.requireOpen('unlink');
    if (!this.ground.links.list.includes(link)) throw fail('EINVAL', 'unlink.link', link, 'is not a link of this machine');
    const end = (owner: number): Device => this.deviceList.find((device) => device.owner === owner)!;
    return new Unlink(this.ground, link, [end(link.a.owner), end(link.b.owner)]);
  }

  /**
   * Takes the memory of a space because the machine has none left: its own anonymous pages go at once, on devices too, while its operations still wait; they end in errors, and `close` is all that can be done
   * with it. Returns the frames that came free. Errors: EINVAL for what is no open space of this machine; EBUSY while a device flushes: nothing has been freed then. Models: `oom_reap_task_mm`.
   */
  oomReap(space: AddressSpace): number {
    const step = this.oomReapStep(space);
    this.ground.scheduler.runSync(step);
    return step.freed;
  }

  async oomReapAsync(space: AddressSpace): Promise<number> {
    const step = this.oomReapStep(space);
    await this.ground.scheduler.runAsync(step);
    return step.freed;
  }

  oomReapStep(space: AddressSpace): Reap {
    this.ground.requireOpen('oomReap');
    if (!(space instanceof AddressSpace)) throw fail('EINVAL', 'oomReap.space', space, 'is not an address space');
    if (this.ground.spaces.get(space.id) !== space) throw fail('EINVAL', 'oomReap.space', space.id, 'is not open in this machine');
    return new Reap(this.ground, space);
  }

  /**
   * An empty address space: what a process has, or, with `cpu: false`, what devices have for themselves. A program may have many. Errors: EINVAL; ENOMEM without a table. Models: `gm_as_create`, `mm_alloc`.
   */
  createAddressSpace(options: SpaceOptions = {}): AddressSpace {
    this.ground.requireIdle('createAddressSpace');
    requireOptions('createAddressSpace', options, SPACE_OPTIONS);
    const { cpu, range } = options;
    if (cpu !== undefined) requireBoolean('createAddressSpace.cpu', cpu);
    if (range !== undefined) requireRange('createAddressSpace.range', range);
    return new AddressSpace(this.ground, options);
  }

  /**
   * A file: `bytes` long, or as long as `content`; zeros where nothing else is said. Map it with `space.mmap({ file })`, end it with `close`. Errors: EINVAL. Models: `memfd_create`, `open`.
   */
  createFile(options: { readonly bytes?: number; readonly content?: Uint8Array } = {}): MemoryFile {
    this.ground.requireIdle('createFile');
    requireOptions('createFile', options, { bytes: true, content: true } satisfies NamesOf<typeof options>);
    const { content } = options;
    if (content !== undefined) requireBytes('createFile.content', content);
    if (content !== undefined && this.core.plan.bodiless)
      throw fail('EINVAL', 'createFile.content', content.length, 'bytes are not for a machine without bytes');
    const bytes = options.bytes === undefined ? (content?.length ?? 0) : options.bytes;
    if (content && content.length > bytes)
      throw fail('EINVAL', 'createFile.bytes', bytes, `is less than the ${content.length} bytes of content`);
    return new MemoryFile(this.ground, bytes, content);
  }

  /** Its devices, in the order of their coming. */
  get devices(): readonly Device[] {
    return this.deviceList;
  }

  private get deviceList(): Device[] {
    return this.ground.devices as Device[];
  }

  /** Bytes that one address stands for: 1, or more where a page has more than 4096 bytes (see `MachineOptions.pageBytes`). */
  get addressUnit(): number {
    this.ground.requireOpen('addressUnit');
    return this.core.plan.pageBytes / L.PAGE_BYTES;
  }

  /** Its open address spaces, in the order of their making. */
  get spaces(): readonly AddressSpace[] {
    this.ground.requireOpen('spaces');
    return [...this.ground.spaces.values()];
  }

  /**
   * The whole machine as bytes, at any moment between two calls: operations under way are in it, at the very step. `handles` is any plain data with objects of this
   * machine in it (spaces, contexts, pins, files, steps), to be found again by `restoreMachine`; `classes`: of other objects in there. The machine goes on as if
   * nothing had been. Errors: EBUSY from inside an operation of the machine; EOPNOTSUPP for state that cannot be saved, with the path to it: see `Driver.save`.
   */
  save(handles: object = {}, options: { readonly classes?: readonly StateClass[] } = {}): Uint8Array {
    this.ground.requireOpen('save');
    requireObject('save.handles', handles, 'an object');
    requireOptions('save', options, { classes: true } satisfies NamesOf<typeof options>);
    const { classes = [] } = options;
    requireArray('save.classes', classes);
    for (const each of classes) if (typeof each !== 'function') throw fail('EINVAL', 'save.classes', each, 'is not a class');
    const { module: _module, ...sizes } = this.options;
    return saveImage({ core: this.core, options: sizes, platform: this.ground, devices: this.deviceList }, handles, classes);
  }

  /** What every node holds, the host's DRAM first. */
  get nodes(): readonly NodeReport[] {
    this.ground.requireOpen('nodes');
    return this.ground.nodes.list.slice(1).map(({ name, index: id, kind, owner, frames, used, peak }) => ({
      name,
      id,
      device: this.deviceList.find((device) => device.owner === owner)?.name,
      kind,
      frames,
      used,
      peak,
    }));
  }

  /** What bookkeeping costs now: each page table, the records of frames, what is known of the second tier, the reverse map, and all but the tables for one page. For reports: it adds up over all spaces and contexts. */
  cost(): MemoryCost {
    this.ground.requireOpen('cost');
    return costOf(this.ground, this.deviceList);
  }

  /** Counters since the machine was made: its events, folded. */
  get counters(): Counters {
    return this.ground.events.counters;
  }

  /** Calls `listener` for every event from now on; the returned function ends that. */
  onEvent(listener: Listener): () => void {
    this.ground.requireOpen('onEvent');
    requireFunction('onEvent.listener', listener);
    return this.ground.events.on(listener);
  }

  /**
   * Keeps the newest `records` events from now on (default 65,536; 0: none), for `space.history`. A record counts as one, and as one more for each run and frame that it lists; when there are more, the
   * oldest go. Off unless called, and after `reset`. Errors: EINVAL.
   */
  record(options: { readonly records?: number } = {}): void {
    this.ground.requireOpen('record');
    requireOptions('record', options, { records: true } satisfies NamesOf<typeof options>);
    const { records = RECORDS_DEFAULT } = options;
    if (!Number.isInteger(records) || records < 0 || records > RECORDS_MAX)
      throw fail('EINVAL', 'record.records', records, `is not a count between 0 and ${RECORDS_MAX}`);
    const { events, spaces } = this.ground;
    events.keep(records === 0 ? undefined : new EventLog(records, spaces.size > 0));
  }

  /**
   * Looks at every frame, table and TLB, and says which rule is broken first; undefined when none is. Proportional to the size of the machine: for tests. While
   * operations are unfinished, only what holds during them is looked at.
   */
  verify(): string | undefined {
    this.ground.requireOpen('verify');
    return verifyCore(this.core, this.ground.scheduler.pending.length === 0);
  }

  /**
   * Makes the flushes that devices have put off (policy `flush: 'deferred'`). Returns whether there were some. A machine does so by itself when an operation must wait and nothing else can go on, at the latest when a
   * call into it has ended; whoever drives steps otherwise (`Race.idle`) says when.
   */
  flushDeferred(): boolean {
    this.ground.requireIdle('flushDeferred');
    return this.ground.flushDeferred();
  }

  /** Unfinished operations, oldest first, and what they wait for. */
  get pending(): readonly PendingRun[] {
    return this.ground.scheduler.pending;
  }

  /** Tickets that no driver has completed. */
  get tickets(): readonly Ticket[] {
    return this.ground.tickets.pending;
  }

  /** Errors that had no caller: failures of operations that a synchronous verb left parked, bugs of drivers that taking away passed over. */
  get strayErrors(): readonly unknown[] {
    return this.ground.stray;
  }

  /** @internal For the replay and the simulator, which drive steps by themselves. */
  get platform(): Platform {
    return this.ground;
  }

  /** Empties the machine for another use: spaces, devices and counters are gone. Cheaper than another machine, and browsers keep few memories alive. */
  reset(): void {
    this.ground.requireIdle('reset');
    this.ground.retire();
    resetCore(this.core);
    this.ground = this.start();
  }

  /** Ends the machine and lets its memory go: unfinished operations are aborted, any later use is EBADF. Twice is fine. */
  close(): void {
    this.ground.close();
  }

  private requireDevice(argument: string, device: Device): void {
    if (!(device instanceof Device) || !this.deviceList.includes(device))
      throw fail('EINVAL', argument, device, 'is not a device of this machine');
  }

  private start(): Platform {
    const { dram = DRAM_DEFAULT, swap = 0, checked = true, physicalBits } = this.options;
    const { pageBytes } = this.core.plan;
    const platform = new Platform(this.core, dram / pageBytes, checked, physicalBits && 2 ** physicalBits / pageBytes);
    if (swap > 0) platform.tier = new SecondTier(platform, swap / pageBytes);
    return platform;
  }
}

function budgetOf(options: MachineOptions): Budget {
  requireOptions('createMachine', options, MACHINE_OPTIONS);
  if (options.checked !== undefined && options.checked !== 'states') requireBoolean('createMachine.checked', options.checked);
  if (options.gmem !== undefined) requireBoolean('createMachine.gmem', options.gmem);
  const { dram: asked = DRAM_DEFAULT, bodilessFrames = 0, module, bytesIn = 'backed', pageBytes = L.PAGE_BYTES } = options;
  requireWord('createMachine.bytesIn', bytesIn, ['backed', 'metadata']);
  const bodiless = bytesIn === 'metadata';
  if (!Number.isInteger(pageBytes) || pageBytes < L.PAGE_BYTES || pageBytes > PAGE_BYTES_MAX || (pageBytes & (pageBytes - 1)) !== 0)
    throw fail('EINVAL', 'createMachine.pageBytes', pageBytes, 'is not a power of two between 4096 and 2 MiB');
  if (pageBytes > L.PAGE_BYTES && !bodiless)
    throw fail('EINVAL', 'createMachine.pageBytes', pageBytes, "is not 4096, though the machine has bytes (bytesIn is not 'metadata')");
  const dram = bytesOf('dram', asked, pageBytes, pageBytes);
  const deviceMemoryDefault = bodiless ? Math.min(dram, DEVICE_PAGES_BODILESS * pageBytes) : dram;
  const deviceMemory = bytesOf(
    'deviceMemory',
    options.deviceMemory === undefined ? deviceMemoryDefault : options.deviceMemory,
    0,
    pageBytes,
  );
  if (options.physicalBits !== undefined) {
    const physicalBits = countOf('physicalBits', options.physicalBits, 24, 52);
    if (2 ** physicalBits < dram + ZERO_FRAMES * pageBytes)
      throw fail('EINVAL', 'createMachine.physicalBits', physicalBits, `cannot address the host's ${dram} bytes and the pages of zeros`);
  }
  const further = countOf('bodilessFrames', bodilessFrames, 0);
  const swap = bytesOf('swap', options.swap === undefined ? 0 : options.swap, 0, pageBytes);
  const own = (dram + deviceMemory + swap) / pageBytes + ZERO_FRAMES;
  // And what aligning each device memory may leave unused.
  const frames = own + further + L.NODES_MAX * 2 ** L.HUGE_ORDER;
  const tables = countOf('tables', options.tables === undefined ? 64 : options.tables, 1, TABLES_MAX);
  const eighth = Math.ceil((own + further) / 8);
  const tablePagesMost = bodiless ? Math.ceil((own + further) / FRAMES_PER_TABLE_PAGE) + TABLE_PAGES_BODILESS : Infinity;
  const tablePagesDefault = Math.max(4096, Math.min(eighth, tablePagesMost));
  const chainsMost = bodiless ? Math.ceil(own / FRAMES_PER_CHAIN) + CHAINS_BODILESS : Infinity;
  const tablePages = countOf('tablePages', options.tablePages === undefined ? tablePagesDefault : options.tablePages, 1);
  if (module !== undefined) requireModule('createMachine.module', module);
  return {
    backedBytes: (bodiless ? ZERO_FRAMES : own) * L.PAGE_BYTES,
    bodiless,
    pageBytes,
    frames,
    tablePages,
    tiered: swap > 0,
    tables,
    tlbs: tables,
    chains: Math.max(CHAINS_MIN, Math.min(CHAINS_PER_FRAME * own, chainsMost)),
  };
}

function bytesOf(name: string, value: number, least: number, pageBytes: number): number {
  if (!Number.isSafeInteger(value) || value < least || value % pageBytes !== 0) {
    throw fail('EINVAL', `createMachine.${name}`, value, `is not a multiple of ${pageBytes}${least > 0 ? ' above 0' : ''}`);
  }
  return value;
}

function countOf(name: string, value: number, least: number, most: number = 2 ** 32 - 1): number {
  if (!Number.isSafeInteger(value) || value < least || value > most)
    throw fail('EINVAL', `createMachine.${name}`, value, `is not a count between ${least} and ${most}`);
  return value;
}

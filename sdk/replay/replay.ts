/**
 * The main job: a recorded program's accesses, replayed through a machine with a device, every load checked.
 *
 * Accesses come in batches (`trace.ts`). Runs of CPU accesses and of device accesses alternate: the CPU's go one after the other, a device run
 * is a job.
 *
 * What counts depend on, and is therefore fixed: TLBs of 256 sets x 4 ways with least-recently-used order; 2 MiB blocks of addresses, reserved when they are first touched; lanes and
 * their order (`assembly/lanes.ts`); jobs of at most 65,536 accesses.
 */
import * as L from '../../assembly/layout.ts';
import type { Core } from '../core/abi.ts';
import { fail, FarfaultError } from '../errors.ts';
import type { Counters, Traffic } from '../events.ts';
import type { Context } from '../gmem/context.ts';
import type { Driver } from '../gmem/driver.ts';
import { JobRun } from '../gmem/job.ts';
import { createMachine, type Machine } from '../machine.ts';
import type { AddressSpace } from '../mm/address-space.ts';
import {
  requireArray,
  requireBoolean,
  requireCount,
  requireFunction,
  requireObject,
  requireOptions,
  requireWord,
} from '../mm/arguments.ts';
import { CpuFault } from '../mm/fault.ts';
import type { DevicePolicy } from '../policy/policy.ts';
import type { Preset } from '../policy/preset.ts';
import { VICTIM_POLICIES, type VictimPolicyName } from '../policy/victim.ts';
import { ByteMap } from './byte-map.ts';
import { type LinkWay, transferNs } from './cost.ts';
import type { ByteSource } from './gzip.ts';
import { type OffloadRange, printRange, requireInstructions } from './offload.ts';
import type { ModelledParts, ReplayDetail, ReplayReport } from './report.ts';
import { requireSource } from './source.ts';
import { type Progress, TimelineWriter } from './timeline.ts';
import { TraceReader } from './trace.ts';
import type { WorkingSet } from './working-set.ts';

/** Addresses reserved at the first touch of any page in them. */
export const RESERVATION_BYTES: number = L.PAGE_BYTES << L.HUGE_ORDER;

/** Accesses between faults of the CPU, up to which they count as dense, and accesses that are looked ahead of then. */
const DENSE = 32;
const AHEAD = 128;

/** Tries for one CPU access before the replay gives up. */
const ATTEMPTS_MAX = 64;

/** A device of a replay beside the first one. */
export interface ReplayDevice {
  readonly driver: Driver;
  /** Instructions whose data accesses are its own; at least one range. */
  readonly offload: readonly OffloadRange[];
}

/** How the devices of a replay are linked, each with each: for copies, or coherently, so that they may use each other's pages where they are. */
export type ReplayLink = 'copies' | 'coherent';

/** The words of `ReplayLink`. */
export const REPLAY_LINKS: readonly ReplayLink[] = ['copies', 'coherent'];

export interface ReplaySetup {
  readonly driver: Driver;
  readonly further?: readonly ReplayDevice[] | undefined;
  readonly link?: ReplayLink | undefined;
  /** Host memory in bytes, and the second tier below it. */
  readonly dram: number;
  readonly swap?: number | undefined;
  /** As for `createMachine`. */
  readonly bytesIn?: 'backed' | 'metadata' | undefined;
  readonly pageBytes?: number | undefined;
  readonly victims?: VictimPolicyName | undefined;
  readonly duplicate?: boolean | undefined;
  readonly lanes: number;
  readonly seed: number;
}

/** A machine with one device or more, fed with accesses. */
export class Replay {
  readonly machine: Machine;
  readonly space: AddressSpace;
  /** The first device, and all of them. */
  readonly context: Context;
  readonly contexts: readonly Context[];
  readonly core: Core;
  cpu = 0;
  /** Of each device. */
  readonly devices: number[];
  reads = 0;
  writes = 0;
  readonly #lanes: number;
  readonly #seed: number;
  /** What loads are checked against; undefined: the machine is without bytes. */
  readonly #bytes: ByteMap | undefined;
  /** log2 of the bytes that an address of the machine stands for. */
  readonly #shift: number;
  readonly #reserved: Set<number> = new Set();
  readonly #fault: CpuFault;
  readonly #jobs: readonly JobRun[];
  /** Number of the access at the front of the area. */
  #number = 0;
  /** Accesses of the CPU's run under way that are done; whose job is under way. */
  #done = 0;
  #inJob = -1;
  /** Accesses between faults of the CPU, the latest counting most; the latest; and how far has been looked ahead. */
  #gap = 8 * DENSE;
  #stopped = 0;
  #ahead = 0;
  /** Accesses of the CPU that met a fault, counted from the first of those that are checked next. */
  readonly #cold: Uint32Array = new Uint32Array(L.BYTE_MAP_ACCESSES);
  #colds = 0;

  constructor(machine: Machine, bytes: ByteMap | undefined, setup: ReplaySetup) {
    this.machine = machine;
    this.#bytes = bytes;
    this.#shift = Math.log2(machine.addressUnit);
    this.core = machine.platform.core;
    this.space = machine.createAddressSpace();
    const drivers = [setup.driver, ...(setup.further ?? []).map(({ driver }) => driver)];
    const { link, victims, duplicate } = setup;
    const policy: DevicePolicy = {
      ...(victims === undefined ? {} : { victims }),
      ...(duplicate ? { placement: { duplicate: 'reads' } } : {}),
    };
    const devices = drivers.map((driver) => machine.addDevice(driver, policy));
    if (link !== undefined)
      devices.forEach((a, i) => devices.slice(i + 1).forEach((b) => machine.link(a, b, { coherent: link === 'coherent' })));
    this.contexts = devices.map((device) => this.space.attach(device));
    this.context = this.contexts[0]!;
    this.devices = drivers.map(() => 0);
    this.#lanes = setup.lanes;
    this.#seed = setup.seed;
    this.#fault = new CpuFault(machine.platform);
    this.#jobs = this.contexts.map((context) => new JobRun(machine.platform, context));
  }

  /** Replays the first `count` accesses in the area. Requires: no run of the device is cut by the end of a batch, unless it fills it. */
  run(count: number): void {
    const accesses = this.core.area(L.AREA_ACCESSES);
    if (this.#shift > 0) this.core.exports.scaleAccesses(accesses, count, this.#shift);
    this.#reserve(count);
    for (let from = 0; from < count;) {
      const end = this.core.exports.runEnd(accesses, from, count);
      const high = this.core.field(accesses, from * L.ACCESS_BYTES + 4);
      if (high & L.ACCESS_DEVICE) this.#runDevice(high >>> L.ACCESS_DEVICE_SHIFT, from, end);
      else this.#runCpu(from, end);
      from = end;
    }
    this.#number += count;
  }

  /** Accesses of all devices. */
  get device(): number {
    return this.devices.reduce((total, each) => total + each, 0);
  }

  /** How far it has come, in the middle of a run too: the CPU with the first device, then the others. */
  get progress(): readonly Progress[] {
    return this.contexts.map((context, i) => ({
      cpuAccesses: i === 0 ? this.cpu + this.#done : 0,
      cpuMisses: i === 0 ? this.space.tlbCounts.miss : 0,
      deviceAccesses: this.devices[i]! + (this.#inJob === i ? this.#jobs[i]!.executed : 0),
      deviceMisses: context.tlbCounts.miss,
      device: context.name,
    }));
  }

  /** Makes sure that every touched address is in a VMA: block by block, at the first touch. */
  #reserve(count: number): void {
    const { core } = this;
    const accesses = core.area(L.AREA_ACCESSES);
    for (let i = 0; i < count; i++) {
      // Most accesses are in a block seen lately: the core passes over them.
      i = core.exports.nextBlock(accesses, i, count, core.area(L.AREA_BLOCKS), L.BLOCKS_MAX);
      if (i === count) return;
      const low = core.field(accesses, i * L.ACCESS_BYTES);
      const high = core.field(accesses, i * L.ACCESS_BYTES + 4);
      const block = ((high & L.ACCESS_ADDRESS_HIGH) << 11) | (low >>> 21);
      const last = (low & (RESERVATION_BYTES - 1)) + ((high >>> L.ACCESS_LENGTH_SHIFT) & L.ACCESS_LENGTH);
      this.#reserveBlock(block);
      if (last >= RESERVATION_BYTES) this.#reserveBlock(block + 1);
    }
  }

  #reserveBlock(block: number): void {
    this.core.words(L.AREA_BLOCKS, L.BLOCKS_MAX)[block % L.BLOCKS_MAX] = block + 1;
    if (this.#reserved.has(block)) return;
    if (block * RESERVATION_BYTES >= 2 ** L.ADDRESS_BITS)
      throw fail('EOVERFLOW', 'access', block * RESERVATION_BYTES, 'leaves the 48-bit address space');
    this.#reserved.add(block);
    this.space.mmap({ at: block * RESERVATION_BYTES, bytes: RESERVATION_BYTES, fixed: true });
  }

  /** Executed, and checked, some at a time: what they need is still in the processor's caches then. */
  #runCpu(from: number, end: number): void {
    this.#stopped = this.#ahead = from;
    for (let some = from; some < end; some += L.BYTE_MAP_ACCESSES) {
      const until = Math.min(some + L.BYTE_MAP_ACCESSES, end);
      this.#fill(some, until);
      this.#colds = 0;
      this.#execute(from, some, until);
      if (this.#colds > 1)
        this.#bytes?.ahead(this.core.words(L.AREA_ACCESSES + some * L.ACCESS_BYTES, (until - some) * 2), this.#cold, this.#colds);
      this.#check(some, until);
    }
    this.#done = 0;
    this.cpu += end - from;
  }

  /** What accesses write. */
  #fill(from: number, end: number): void {
    if (!this.#bytes) return;
    this.core.exports.fillValues(this.core.area(L.AREA_VALUES) + from * 8, end - from, this.#seed, this.#number + from);
  }

  /** Accesses `at` to `end` of the CPU's run that began with `from`. */
  #execute(from: number, at: number, end: number): void {
    const { exports } = this.core;
    const accesses = this.core.area(L.AREA_ACCESSES);
    const values = this.core.area(L.AREA_VALUES);
    const first = at;
    let attempts = 0;
    while (at < end) {
      const next = exports.runAccesses(this.space.tlb, accesses, values, at, end);
      attempts = next > at ? 1 : attempts + 1;
      at = next;
      this.#done = at - from;
      if (at === end) break;
      if (attempts === 1) {
        this.#cold[this.#colds++] = at - first;
        this.#lookAhead(accesses, at, end);
      }
      this.#serveCpu(attempts, (this.core.field(accesses, at * L.ACCESS_BYTES + 4) & L.ACCESS_WRITE) !== 0);
    }
  }

  /** A fault at access `at`: where they are dense, what the next ones will read is read beforehand. */
  #lookAhead(accesses: number, at: number, end: number): void {
    this.#gap = (this.#gap * 3 + Math.min(at - this.#stopped, 8 * DENSE)) >> 2;
    this.#stopped = at;
    if (this.#gap > DENSE || at < this.#ahead) return;
    this.#ahead = Math.min(at + AHEAD, end);
    this.core.exports.accessesAhead(this.space.tlb, accesses, at, this.#ahead);
  }

  #serveCpu(attempts: number, write: boolean): void {
    const { stopReason, stopVpn } = this.core;
    if (stopReason !== L.STOP_FAULT || attempts > ATTEMPTS_MAX)
      throw fail('EIO', 'access', stopVpn * L.PAGE_BYTES, 'cannot be served: its fault comes back again and again');
    const fault = this.#fault.of(this.space, stopVpn, write);
    this.machine.platform.scheduler.runSync(fault);
    if (fault.outcome === 'served') return;
    if (fault.outcome === 'no memory') throw exhausted(this.machine);
    throw fail('EIO', 'access', stopVpn * L.PAGE_BYTES, `ends in a ${fault.outcome}`);
  }

  #runDevice(device: number, from: number, end: number): void {
    const accesses = this.core.area(L.AREA_ACCESSES) + from * L.ACCESS_BYTES;
    const values = this.core.area(L.AREA_VALUES) + from * 8;
    this.#fill(from, end);
    const job = this.#jobs[device]!.inPlace(end - from, this.#lanes, accesses, values);
    this.#inJob = device;
    try {
      this.machine.platform.scheduler.runSync(job);
    } catch (error) {
      if (error instanceof FarfaultError && error.code === 'ENOMEM' && this.machine.platform.host.free === 0) throw exhausted(this.machine);
      throw error;
    } finally {
      this.#inJob = -1;
    }
    if (job.executed !== end - from)
      throw fail('EIO', 'device job', end - from - job.executed, 'accesses were cancelled: the driver refuses pages that are mapped');
    this.devices[device]! += end - from;
    if (this.core.field(this.core.area(L.AREA_JOB), L.JOB_STRAIGHT) === end - from) this.#check(from, end);
    else this.#checkOrdered(from, end);
  }

  /** Repeats executed accesses in the byte map: they were executed one after the other. */
  #check(from: number, end: number): void {
    const words = this.core.words(L.AREA_ACCESSES + from * L.ACCESS_BYTES, (end - from) * 2);
    const values = this.core.words(L.AREA_VALUES + from * 8, (end - from) * 2);
    if (this.#bytes) this.#count(from, end, this.#bytes.repeat(words, values, undefined, end - from, this.#number + from));
    else this.#countReads(from, end);
  }

  /** Repeats those of a job in the order of their execution. */
  #checkOrdered(from: number, end: number): void {
    if (!this.#bytes) {
      this.#countReads(from, end);
      return;
    }
    const { core } = this;
    const accesses = core.area(L.AREA_ACCESSES) + from * L.ACCESS_BYTES;
    const values = core.area(L.AREA_VALUES) + from * 8;
    for (let at = 0; at < end - from; at += L.BYTE_MAP_ACCESSES) {
      const some = Math.min(L.BYTE_MAP_ACCESSES, end - from - at);
      core.exports.gatherAccesses(accesses, values, core.area(L.AREA_ORDER) + at * 4, some, core.area(L.AREA_BYTES));
      const words = core.words(L.AREA_BYTES, some * 4);
      const order = core.words(L.AREA_ORDER + at * 4, some);
      this.#count(0, some, this.#bytes.repeat(words, words.subarray(some * 2), order, some, this.#number + from));
    }
  }

  #countReads(from: number, end: number): void {
    this.#count(from, end, this.core.exports.countReads(this.core.area(L.AREA_ACCESSES), from, end));
  }

  #count(from: number, end: number, loads: number): void {
    this.reads += loads;
    this.writes += end - from - loads;
  }
}

/** A machine for one replay: host memory, room for the drivers' memories, nothing else. */
export async function createReplay(setup: ReplaySetup): Promise<Replay> {
  const drivers = [setup.driver, ...(setup.further ?? []).map(({ driver }) => driver)];
  const memories = drivers.flatMap(({ memory = [] }) => memory);
  const { dram, swap = 0, bytesIn = 'backed', pageBytes = L.PAGE_BYTES } = setup;
  const bodiless = bytesIn === 'metadata';
  const deviceMemory = memories.reduce((sum, each) => sum + (bodiless || (each.bytesIn ?? 'backed') === 'backed' ? each.bytes : 0), 0);
  const machine = await createMachine({ dram, swap, bytesIn, pageBytes, deviceMemory: deviceMemory * (pageBytes / L.PAGE_BYTES) });
  try {
    return new Replay(machine, bodiless ? undefined : await ByteMap.create(), setup);
  } catch (error) {
    machine.close();
    throw error;
  }
}

/** What the counted things of a replay would have taken, by a preset's constants. */
export function modelledParts(replay: Replay, preset: Preset): ModelledParts {
  const { counters, addressUnit } = replay.machine;
  const linkNs = (way: LinkWay): number => transfersNs(counters.transfers, way, preset, addressUnit);
  const sum = (record: Readonly<Record<string, number>> | readonly number[]): number =>
    Object.values(record).reduce((total, each) => total + each, 0);
  return {
    access: replay.cpu * preset.cpuAccessNs + replay.device * preset.deviceAccessNs,
    walk:
      replay.space.tlbCounts.miss * preset.cpuWalkNs + sum(replay.contexts.map((context) => context.tlbCounts.miss)) * preset.deviceWalkNs,
    cpuFault: sum(counters.cpuFaults) * preset.cpuFaultNs,
    batch: counters.batches * preset.batchNs + sum(counters.deviceFaults) * preset.recordNs,
    invalidation: counters.invalidations * preset.invalidationNs,
    toDevice: linkNs('toDevice') + (counters.replicas.made - counters.replicas.kept) * transferNs(addressUnit, 'toDevice', preset),
    toHost: linkNs('toHost'),
    ...(replay.machine.links.length > 0 ? { peer: linkNs('peer') } : {}),
  };
}

/** What devices said to each other, and what was asked of them: only of those that there are. */
function conversations({ machine, contexts }: Replay): Pick<ReplayDetail, 'betweenDevices' | 'replicas' | 'coupled' | 'counted'> {
  const { counters } = machine;
  const between = { pages: 0, bytes: 0 };
  const names = contexts.flatMap(({ device }) => device.memories.map(({ node }) => node.name));
  for (const from of names) {
    for (const to of names) {
      const { pages = 0, bytes = 0 } = counters.migrated[from]?.[to] ?? {};
      between.pages += pages;
      between.bytes += bytes * machine.addressUnit;
    }
  }
  const coupled: [string, NonNullable<ReplayDetail['coupled']>[string]][] = [];
  const counted: [string, Readonly<Record<string, number>>][] = [];
  for (const { name, device, peerCounts } of contexts) {
    if (peerCounts) {
      const { maps, unmaps, items, codes } = peerCounts;
      const refused = Object.values(codes).reduce((sum, each) => sum + each, 0) - codes.success - codes['page exists'];
      coupled.push([name, { maps, unmaps, items, refused }]);
    }
    const own = device.driver.counts?.();
    if (own !== undefined) counted.push([name, requireCounts(name, own)]);
  }
  const { made, kept, dropped } = counters.replicas;
  return {
    ...(machine.links.length > 0 ? { betweenDevices: between } : {}),
    ...(made > 0 ? { replicas: { made, kept, dropped } } : {}),
    ...(coupled.length > 0 ? { coupled: Object.fromEntries(coupled) } : {}),
    ...(counted.length > 0 ? { counted: Object.fromEntries(counted) } : {}),
  };
}

/** Throws EINVAL for what is no counts. */
function requireCounts(device: string, counts: Readonly<Record<string, number>>): Readonly<Record<string, number>> {
  requireObject(`${device}.counts result`, counts, 'an object of whole numbers');
  for (const [name, each] of Object.entries(counts))
    if (!Number.isSafeInteger(each) || each < 0) throw fail('EINVAL', `${device}.counts result, ${name}`, each, 'is not a whole number');
  return { ...counts };
}

/** Every transfer is rounded down by itself. `unit`: small pages in one of the machine's. */
function transfersNs(transfers: Counters['transfers'], way: LinkWay, preset: Preset, unit: number): number {
  let total = 0;
  for (const [pages, times] of Object.entries(transfers[way] ?? {})) total += times * transferNs(Number(pages) * unit, way, preset);
  return total;
}

function exhausted(machine: Machine): FarfaultError {
  const { host, tier } = machine.platform;
  const bytes = (host.frames + (tier?.node.frames ?? 0)) * L.PAGE_BYTES * machine.addressUnit;
  const options = tier ? '--dram, --swap' : '--dram';
  return new FarfaultError(
    'ENOMEM',
    'dram',
    bytes,
    'is exhausted',
    `host memory is exhausted: the program needs more than ${bytes / 2 ** 20} MiB at one time (${options})`,
  );
}

/** What `replayTrace` is told. */
export interface ReplayOptions {
  /** What reports and errors call the trace. */
  readonly name: string;
  readonly driver: Driver;
  /** Host memory in bytes, a multiple of 4096. */
  readonly dram: number;
  /** Lanes that the device's jobs are dealt to. */
  readonly lanes: number;
  readonly preset: Preset;
  /** Instructions whose data accesses are the device's; none: all are. */
  readonly offload: readonly OffloadRange[];
  /** Further devices, with instructions of their own: at most ACCESS_DEVICES_MAX in all, each of another name. Then every device has ranges. */
  readonly further?: readonly ReplayDevice[];
  /** Whether the devices are linked, each with each. Default: they are not, and pages go between them by way of the host. */
  readonly link?: ReplayLink;
  /**
   * Where the machine has its bytes: `metadata` is a machine without, of hundreds of GiB and more, in which no load is checked. See `createMachine`. Default 'backed'.
   */
  readonly bytesIn?: 'backed' | 'metadata';
  /** Bytes of a page, without bytes: 4096 (default) up to 2 MiB. Memories of drivers and granules count small pages then: a driver is made with `bytes / (pageBytes / 4096)`. The report says bytes. */
  readonly pageBytes?: number;
  /** Bytes of the second tier, to which pages go that host memory has no room for; a multiple of 4096. Default: there is none. */
  readonly swap?: number;
  /** What chooses which pages of the devices' memories go when there is no room: see `DevicePolicy`. Default: each device's own choice. */
  readonly victims?: VictimPolicyName;
  /** A device that reads a page gets a copy of it, which the others may go on reading; a write drops all copies. Default false: the page moves. */
  readonly duplicate?: boolean;
  /** What `measureTrace` said: the report tells how much larger than its memory the working set of a device is. */
  readonly workingSet?: WorkingSet;
  /** Seed of the written values: 32 bits. */
  readonly seed?: number;
  /** Told after every chunk how many bytes of the source have been read. */
  readonly onProgress?: (bytesRead: number) => void;
  /** Milliseconds of the host's clock; without one the report's `host` says 0. The library itself never looks at a clock. */
  readonly now?: () => number;
  /** Gets the timeline, piece by piece: see `timeline`. What it throws ends the replay with its last access. */
  readonly timeline?: (text: string) => void;
  /** Ends the replay between two batches when it is aborted. */
  readonly signal?: { readonly aborted: boolean };
}

/** Throws unless all devices that have memory leave the choice of what goes to a policy, and one has. */
function requireChoice(victims: unknown, drivers: readonly Driver[]): void {
  requireWord('replayTrace.victims', victims, VICTIM_POLICIES);
  const memories = drivers.flatMap(({ name, memory = [] }) => memory.map(({ allocator = 'core' }) => ({ name, allocator })));
  const own = memories.find(({ allocator }) => allocator !== 'core');
  if (own) throw fail('EINVAL', 'replayTrace.victims', victims, `have no say in the memory of ${own.name}, which hands it out itself`);
  if (memories.length === 0)
    throw fail('EINVAL', 'replayTrace.victims', victims, `mean nothing to ${drivers[0]!.name}, which has no memory of its own`);
}

/** Throws unless it has a count of bytes for each of so many devices. */
function requireWorkingSet(workingSet: WorkingSet, devices: number): void {
  requireObject('replayTrace.workingSet', workingSet, 'what measureTrace gives');
  requireArray('replayTrace.workingSet.devices', workingSet.devices);
  if (workingSet.devices.length !== devices)
    throw fail('EINVAL', 'replayTrace.workingSet.devices', workingSet.devices.length, `is not one for each of ${devices} devices`);
  for (const bytes of workingSet.devices) requireCount('replayTrace.workingSet.devices', bytes, 0, Number.MAX_SAFE_INTEGER);
}

/** Throws unless they are devices with ranges of their own, few enough. */
function requireFurther(further: readonly ReplayDevice[], offload: readonly OffloadRange[]): void {
  requireArray('replayTrace.further', further);
  for (const device of further) {
    requireObject('replayTrace.further', device, 'a driver with its offload ranges');
    requireObject('replayTrace.further.driver', device.driver, 'a driver (an object made by a defineDriver factory)');
    requireArray('replayTrace.further.offload', device.offload);
    for (const range of device.offload) requireInstructions('replayTrace.further.offload', range);
    if (device.offload.length === 0)
      throw fail(
        'EINVAL',
        'replayTrace.further.offload',
        device.offload,
        `has no range: which instructions are those of ${device.driver.name}?`,
      );
  }
  if (further.length === 0) return;
  if (offload.length === 0) throw fail('EINVAL', 'replayTrace.offload', offload, 'has no range, though there are several devices');
  if (further.length >= L.ACCESS_DEVICES_MAX)
    throw fail('EINVAL', 'replayTrace.further', further.length + 1, `devices are more than ${L.ACCESS_DEVICES_MAX}`);
}

/**
 * Replays a trace (lackey's text, plain or gzip) on a fresh machine and reports what happened. The same trace and options give the same report, `host` apart, in every host.
 *
 * Errors: EILSEQ for a malformed trace (with the line), ENOMEM when host memory is exhausted or the memories do not fit, EIO when a load observes wrong data, EINVAL for bad options,
 * EAGAIN when `signal` was aborted.
 */
export async function replayTrace(source: ByteSource, options: ReplayOptions): Promise<ReplayReport> {
  requireSource('replayTrace.source', source);
  requireOptions('replayTrace', options);
  const {
    name,
    driver,
    dram,
    lanes,
    offload,
    further = [],
    link,
    swap,
    bytesIn = 'backed',
    pageBytes = L.PAGE_BYTES,
    victims,
    duplicate,
    workingSet,
    seed = 0,
    onProgress,
    signal,
    now = () => 0,
    timeline: onTimeline,
  } = options;
  if (typeof name !== 'string') throw fail('EINVAL', 'replayTrace.name', name, 'is not text');
  requireWord('replayTrace.bytesIn', bytesIn, ['backed', 'metadata']);
  const bytesMost = bytesIn === 'metadata' ? 2 ** L.ADDRESS_BITS : 2 ** 32;
  requireCount('replayTrace.pageBytes', pageBytes, L.PAGE_BYTES, RESERVATION_BYTES);
  requireCount('replayTrace.dram', dram, L.PAGE_BYTES, bytesMost);
  requireObject('replayTrace.driver', driver, 'a driver (an object made by a defineDriver factory)');
  requireObject('replayTrace.preset', options.preset, 'a preset (see presets)');
  if (typeof options.preset.name !== 'string') throw fail('EINVAL', 'replayTrace.preset', options.preset, 'is not a preset (see presets)');
  requireArray('replayTrace.offload', offload);
  for (const range of offload) requireInstructions('replayTrace.offload', range);
  requireFurther(further, offload);
  for (const [field, value] of [
    ['onProgress', onProgress],
    ['now', now],
    ['timeline', onTimeline],
  ] as const)
    if (value !== undefined) requireFunction(`replayTrace.${field}`, value);
  if (signal !== undefined) {
    requireObject('replayTrace.signal', signal, 'an AbortSignal');
    requireBoolean('replayTrace.signal.aborted', signal.aborted);
  }
  if (!Number.isInteger(lanes) || lanes < 1 || lanes > L.LANES_MAX)
    throw fail('EINVAL', 'lanes', lanes, `is not a count between 1 and ${L.LANES_MAX}`);
  if (!Number.isInteger(seed) || seed < 0 || seed >= 2 ** 32) throw fail('EINVAL', 'seed', seed, 'is not an integer below 2^32');
  if (link !== undefined) requireWord('replayTrace.link', link, REPLAY_LINKS);
  if (swap !== undefined) requireCount('replayTrace.swap', swap, L.PAGE_BYTES, bytesMost);
  if (pageBytes > L.PAGE_BYTES && options.timeline !== undefined)
    throw fail(
      'EINVAL',
      'replayTrace.timeline',
      'a function',
      'is not for pages of more than 4096 bytes: a timeline has the copies of small ones',
    );
  if (duplicate !== undefined) requireBoolean('replayTrace.duplicate', duplicate);
  if (victims !== undefined) requireChoice(victims, [driver, ...further.map((each) => each.driver)]);
  if (workingSet !== undefined) requireWorkingSet(workingSet, 1 + further.length);
  const began = now();
  const replay = await createReplay({ driver, further, link, dram, swap, bytesIn, pageBytes, victims, duplicate, lanes, seed });
  const { timeline, preset } = options;
  const writer = timeline && new TimelineWriter(replay.machine, { write: timeline, preset, name }, () => replay.progress);
  try {
    const reader = new TraceReader(replay.core, { name, offload, further: further.map((each) => each.offload), onProgress });
    let replayMs = 0;
    for await (const { count } of reader.batches(source)) {
      if (signal?.aborted) throw fail('EAGAIN', 'replay', name, 'was interrupted');
      const start = now();
      replay.run(count);
      replayMs += now() - start;
    }
    writer?.end();
    return reportOf(replay, options, reader.instructions, { wallMs: now() - began, replayMs });
  } finally {
    replay.machine.close();
  }
}

function reportOf(replay: Replay, options: ReplayOptions, instructions: number, host: { wallMs: number; replayMs: number }): ReplayReport {
  const { machine, context, contexts, space } = replay;
  const { counters, nodes } = machine;
  const ofEach = <T>(of: (each: Context, i: number) => T): Record<string, T> =>
    Object.fromEntries(contexts.map((each, i) => [each.name, of(each, i)]));
  const records = ofEach(({ name }) => counters.deviceFaults[name] ?? 0);
  const memories = contexts.flatMap(({ device }) => device.memories);
  const parts = modelledParts(replay, options.preset);
  const cpu = nodes[0]!.name;
  const none = { pages: 0, bytes: 0 };
  const { addressUnit } = machine;
  /** In bytes. */
  const whole = ({ pages, bytes }: Readonly<Traffic>): Traffic => ({ pages, bytes: bytes * addressUnit });
  const migrated: Record<string, Record<string, { pages: number; bytes: number }>> = {};
  for (const { node } of memories) {
    (migrated[cpu] ??= {})[node.name] = whole(counters.migrated[cpu]?.[node.name] ?? none);
    const away = Object.entries(counters.migrated[node.name] ?? {}).map(([to, traffic]) => [to, whole(traffic)] as const);
    migrated[node.name] = { [cpu]: none, ...Object.fromEntries(away) };
  }
  const { fault, home, evict, 'swap out': out = none, 'swap in': back = none } = counters.migratedByCause;
  return {
    schema: 1,
    trace: options.name,
    preset: options.preset.name,
    accesses: {
      cpu: replay.cpu,
      device: replay.device,
      ...(contexts.length > 1 ? { devices: ofEach((_, i) => replay.devices[i]!) } : {}),
      read: replay.reads,
      write: replay.writes,
      instructions,
    },
    tlb: { cpu: space.tlbCounts, devices: ofEach((each) => each.tlbCounts) },
    faults: { cpu: Object.values(counters.cpuFaults).reduce((total, each) => total + each, 0), devices: records },
    migrated,
    evictions: counters.evictions,
    invalidations: counters.invalidations,
    frames: Object.fromEntries(nodes.map((node) => [node.name, { peak: node.peak }])),
    modelledNs: Object.values(parts).reduce((total, part) => total + part, 0),
    detail: {
      cpuFaults: { ...counters.cpuFaults },
      batches: counters.batches,
      batchSizes: [...counters.batchSizes],
      recorded: Object.values(records).reduce((total, each) => total + each, 0),
      coalesced: counters.coalesced,
      deferred: counters.deferred,
      cancelled: counters.cancelled,
      overflow: counters.overflow,
      cleared: counters.cleared,
      migratedByCause: { fault: whole(fault), home: whole(home), evict: whole(evict) },
      ...(options.victims === undefined ? {} : { victims: { ...counters.evicted } }),
      ...(options.swap ? { secondTier: { out: whole(out), in: whole(back), clean: counters.clean } } : {}),
      ...conversations(replay),
      modelledParts: parts,
      presetSource: options.preset.source,
      options: {
        device: contexts.map(({ name }) => name).join(' + '),
        dram: options.dram,
        deviceMemory: Object.fromEntries(memories.map(({ node }) => [node.name, node.frames * L.PAGE_BYTES * addressUnit])),
        granulePages: context.device.granulePages,
        lanes: options.lanes,
        offload: options.offload.map(printRange),
        seed: options.seed ?? 0,
        ...(options.bytesIn === 'metadata' ? { bytesIn: options.bytesIn } : {}),
        ...(addressUnit > 1 ? { pageBytes: addressUnit * L.PAGE_BYTES } : {}),
        ...(options.swap ? { swap: options.swap } : {}),
        ...(options.victims === undefined ? {} : { victims: options.victims }),
        ...(options.duplicate ? { duplicate: true } : {}),
        ...(options.workingSet ? { workingSet: ofEach((_, i) => options.workingSet!.devices[i]!) } : {}),
        ...(options.link === undefined ? {} : { link: options.link }),
        ...(contexts.length > 1
          ? {
              devices: ofEach(({ device }, i) => ({
                granulePages: device.granulePages,
                offload: (i === 0 ? options.offload : options.further![i - 1]!.offload).map(printRange),
              })),
            }
          : {}),
      },
    },
    // The rate is that of the replay itself; reading and parsing the text is in the wall time only.
    host: {
      wallMs: host.wallMs,
      accessesPerSecond: host.replayMs > 0 ? Math.round(((replay.cpu + replay.device) / host.replayMs) * 1000) : 0,
    },
  };
}

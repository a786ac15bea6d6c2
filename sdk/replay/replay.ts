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
import type { Context } from '../gmem/context.ts';
import type { Driver } from '../gmem/driver.ts';
import { JobRun } from '../gmem/job.ts';
import { createMachine, type Machine } from '../machine.ts';
import type { AddressSpace } from '../mm/address-space.ts';
import { CpuFault } from '../mm/fault.ts';
import type { DevicePolicy } from '../policy/policy.ts';
import type { VictimPolicyName } from '../policy/victim.ts';
import { ByteMap } from './byte-map.ts';
import type { OffloadRange } from './offload.ts';
import { printBytes } from './report.ts';
import type { Progress } from './timeline.ts';

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

function exhausted(machine: Machine): FarfaultError {
  const { host, tier } = machine.platform;
  const bytes = (host.frames + (tier?.node.frames ?? 0)) * L.PAGE_BYTES * machine.addressUnit;
  const options = tier ? '--dram, --swap' : '--dram';
  return new FarfaultError(
    'ENOMEM',
    'dram',
    bytes,
    'is exhausted',
    `host memory is exhausted: the program needs more than ${printBytes(bytes)} at one time (${options})`,
  );
}

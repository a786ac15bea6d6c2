/**
 * The main job: a recorded program's accesses, replayed through a machine with a device, every load checked.
 *
 * Accesses come in batches that stand in the core's batch areas. Runs of CPU accesses and of device accesses alternate: the CPU's go one after the other, a device run is a
 * job. A device run that reaches the end of a batch waits for the next one, so that how the input is cut into batches changes nothing.
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
import type { Preset } from '../policy/preset.ts';
import { ByteMap } from './byte-map.ts';

/** Addresses reserved at the first touch of any page in them. */
export const RESERVATION_BYTES: number = L.PAGE_BYTES << L.HUGE_ORDER;

/** Tries for one CPU access before the replay gives up. */
const ATTEMPTS_MAX = 64;

export interface ReplaySetup {
  readonly driver: Driver;
  /** Host memory in bytes. */
  readonly dram: number;
  readonly lanes: number;
  readonly seed: number;
}

/** A machine with one device, fed with accesses. */
export class Replay {
  readonly machine: Machine;
  readonly space: AddressSpace;
  readonly context: Context;
  readonly core: Core;
  cpu = 0;
  device = 0;
  reads = 0;
  writes = 0;
  /** Accesses at the front of the area that wait for the rest of their device run. */
  waiting = 0;
  readonly #lanes: number;
  readonly #seed: number;
  readonly #bytes: ByteMap = new ByteMap();
  readonly #reserved: Set<number> = new Set();
  readonly #fault: CpuFault;
  readonly #job: JobRun;
  #lastBlock = -1;
  /** Number of the access at the front of the area. */
  #number = 0;
  /** Accesses whose values have been filled in. */
  #filled = 0;

  constructor(machine: Machine, setup: ReplaySetup) {
    this.machine = machine;
    this.core = machine.platform.core;
    this.space = machine.createAddressSpace();
    this.context = this.space.attach(machine.addDevice(setup.driver));
    this.#lanes = setup.lanes;
    this.#seed = setup.seed;
    this.#fault = new CpuFault(machine.platform);
    this.#job = new JobRun(machine.platform, this.context);
  }

  /** Where the next accesses are to be put: behind those that wait. */
  get target(): number {
    return this.core.area(L.AREA_ACCESSES) + this.waiting * L.ACCESS_BYTES;
  }

  /** How many accesses have room there. */
  get room(): number {
    return L.JOB_ACCESSES_MAX - this.waiting;
  }

  /** Replays the accesses in the area, `count` of them new. Without `last` a device run at the end stays there, and waits. */
  run(count: number, last: boolean): void {
    const total = this.waiting + count;
    const { exports } = this.core;
    const values = this.core.area(L.AREA_VALUES);
    exports.fillValues(values + this.#filled * 8, total - this.#filled, this.#seed, this.#number + this.#filled);
    this.#filled = total;
    this.#reserve(this.waiting, total);
    const words = this.core.words(L.AREA_ACCESSES, total * 2);
    let from = 0;
    while (from < total) {
      const isDevice = (words[from * 2 + 1]! & L.ACCESS_DEVICE) !== 0;
      let end = from + 1;
      while (end < total && ((words[end * 2 + 1]! & L.ACCESS_DEVICE) !== 0) === isDevice) end++;
      if (isDevice) {
        // A run that may go on waits for the rest of it, unless it fills the area: longer runs are cut there.
        if (end === total && !last && end - from < L.JOB_ACCESSES_MAX) break;
        this.#runDevice(from, end);
      } else this.#runCpu(from, end);
      from = end;
    }
    this.#number += from;
    this.waiting = total - from;
    this.#filled = this.waiting;
    if (from > 0 && this.waiting > 0) {
      words.copyWithin(0, from * 2);
      this.core.words(L.AREA_VALUES, total * 2).copyWithin(0, from * 2);
    }
  }

  /** Makes sure that every touched address is in a VMA: block by block, at the first touch. */
  #reserve(from: number, to: number): void {
    const words = this.core.words(L.AREA_ACCESSES, to * 2);
    for (let i = from; i < to; i++) {
      const low = words[i * 2]!;
      const high = words[i * 2 + 1]!;
      const block = ((high & L.ACCESS_ADDRESS_HIGH) << 11) | (low >>> 21);
      if (block !== this.#lastBlock) this.#reserveBlock(block);
      const end = (low & (RESERVATION_BYTES - 1)) + ((high >>> L.ACCESS_LENGTH_SHIFT) & L.ACCESS_LENGTH);
      if (end >= RESERVATION_BYTES) this.#reserveBlock(block + 1);
    }
  }

  #reserveBlock(block: number): void {
    this.#lastBlock = block;
    if (this.#reserved.has(block)) return;
    if (block * RESERVATION_BYTES >= 2 ** L.ADDRESS_BITS)
      throw fail('EOVERFLOW', 'access', block * RESERVATION_BYTES, 'leaves the 48-bit address space');
    this.#reserved.add(block);
    this.space.mmap({ at: block * RESERVATION_BYTES, bytes: RESERVATION_BYTES, fixed: true });
  }

  #runCpu(from: number, end: number): void {
    const { exports } = this.core;
    const accesses = this.core.area(L.AREA_ACCESSES);
    const values = this.core.area(L.AREA_VALUES);
    let at = from;
    let attempts = 0;
    while (at < end) {
      const next = exports.runAccesses(this.space.tlb, accesses, values, at, end);
      attempts = next > at ? 1 : attempts + 1;
      at = next;
      if (at === end) break;
      this.#serveCpu(attempts, (this.core.words(L.AREA_ACCESSES, (at + 1) * 2)[at * 2 + 1]! & L.ACCESS_WRITE) !== 0);
    }
    this.cpu += end - from;
    this.#check(from, end);
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

  #runDevice(from: number, end: number): void {
    const accesses = this.core.area(L.AREA_ACCESSES) + from * L.ACCESS_BYTES;
    const values = this.core.area(L.AREA_VALUES) + from * 8;
    const job = this.#job.inPlace(end - from, this.#lanes, accesses, values);
    try {
      this.machine.platform.scheduler.runSync(job);
    } catch (error) {
      if (error instanceof FarfaultError && error.code === 'ENOMEM' && this.machine.platform.host.free === 0) throw exhausted(this.machine);
      throw error;
    }
    if (job.executed !== end - from)
      throw fail('EIO', 'device job', end - from - job.executed, 'accesses were cancelled: the driver refuses pages that are mapped');
    this.device += end - from;
    this.#checkOrdered(from, end);
  }

  /** Repeats CPU accesses in the byte map. */
  #check(from: number, end: number): void {
    const words = this.core.words(L.AREA_ACCESSES, end * 2);
    const values = this.core.words(L.AREA_VALUES, end * 2);
    for (let i = from; i < end; i++) this.#repeat(words, values, i);
  }

  /** Repeats a job's accesses in the order of their execution. */
  #checkOrdered(from: number, end: number): void {
    const words = this.core.words(L.AREA_ACCESSES, end * 2);
    const values = this.core.words(L.AREA_VALUES, end * 2);
    const order = this.core.words(L.AREA_ORDER, end - from);
    for (let k = 0; k < end - from; k++) this.#repeat(words, values, from + order[k]!);
  }

  #repeat(words: Uint32Array, values: Uint32Array, i: number): void {
    const high = words[i * 2 + 1]!;
    if (high & L.ACCESS_WRITE) this.writes++;
    else this.reads++;
    this.#bytes.repeat(words[i * 2]!, high, values[i * 2]!, values[i * 2 + 1]!, this.#number + i);
  }
}

/** A machine for one replay: host memory, room for the driver's memories, nothing else. */
export async function createReplay(setup: ReplaySetup): Promise<Replay> {
  const deviceMemory = (setup.driver.memory ?? []).reduce(
    (bytes, { bytes: own, bytesIn = 'backed' }) => bytes + (bytesIn === 'backed' ? own : 0),
    0,
  );
  return new Replay(await createMachine({ dram: setup.dram, deviceMemory }), setup);
}

/** Parts of the modelled time, integer nanoseconds. */
export interface ModelledParts {
  readonly access: number;
  readonly walk: number;
  readonly cpuFault: number;
  readonly batch: number;
  readonly invalidation: number;
  readonly toDevice: number;
  readonly toHost: number;
}

/** What the counted things of a replay would have taken, by a preset's constants. */
export function modelledParts(replay: Replay, preset: Preset): ModelledParts {
  const { counters } = replay.machine;
  const sum = (record: Readonly<Record<string, number>>): number => Object.values(record).reduce((total, each) => total + each, 0);
  return {
    access: replay.cpu * preset.cpuAccessNs + replay.device * preset.deviceAccessNs,
    walk: replay.space.tlbCounts.miss * preset.cpuWalkNs + replay.context.tlbCounts.miss * preset.deviceWalkNs,
    cpuFault: sum(counters.cpuFaults) * preset.cpuFaultNs,
    batch: counters.batches * preset.batchNs + sum(counters.deviceFaults) * preset.recordNs,
    invalidation: counters.invalidations * preset.invalidationNs,
    toDevice: linkNs(counters.transfers.toDevice, preset.linkLatencyNs, preset.toDevicePsPerKiB),
    toHost: linkNs(counters.transfers.toHost, preset.linkLatencyNs, preset.toHostPsPerKiB),
  };
}

/** Every transfer is rounded down by itself. */
function linkNs(transfers: Readonly<Record<number, number>>, latencyNs: number, psPerKiB: number): number {
  let total = 0;
  for (const [pages, times] of Object.entries(transfers))
    total += times * (latencyNs + Math.floor((Number(pages) * (L.PAGE_BYTES / 1024) * psPerKiB) / 1000));
  return total;
}

function exhausted(machine: Machine): FarfaultError {
  const bytes = machine.nodes[0]!.frames * L.PAGE_BYTES;
  return new FarfaultError(
    'ENOMEM',
    'dram',
    bytes,
    'is exhausted',
    `host memory is exhausted: the program needs more than ${bytes / 2 ** 20} MiB at one time (--dram)`,
  );
}

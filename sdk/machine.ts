/**
 * A machine: everything in one simulation. The composition root: it makes the core and the nodes, and hands them to spaces and devices.
 * Two machines share nothing.
 */
import * as L from '../assembly/layout.ts';
import { type CompiledModule, loadCore, loadCoreSync, resetCore } from './core/load.ts';
import type { Budget } from './core/memory.ts';
import type { Core } from './core/abi.ts';
import { verifyCore } from './core/verify.ts';
import { fail } from './errors.ts';
import type { Counters, Listener } from './events.ts';
import { Device } from './gmem/device.ts';
import type { Driver } from './gmem/driver.ts';
import { AddressSpace } from './mm/address-space.ts';
import { MemoryFile } from './mm/page-cache.ts';
import { Platform, ZERO_FRAMES } from './mm/platform.ts';
import type { PendingRun } from './step/runner.ts';
import type { Ticket } from './step/ticket.ts';

/** Sizes of a machine; all of them have defaults. */
export interface MachineOptions {
  /** Host memory in bytes, a multiple of 4096. Default 64 MiB. */
  readonly dram?: number;
  /** Bytes set aside for the memories of devices that keep theirs in the machine. Default: as much as `dram`. Memory that is never touched costs nothing. */
  readonly deviceMemory?: number;
  /** Frames of device memories that have no bytes here (`metadata`, `external`). Default 0. */
  readonly bodilessFrames?: number;
  /** Width of a physical address: frame numbers are below 2^(physicalBits - 12). 24 to 52. Default: as wide as the machine is large. */
  readonly physicalBits?: number;
  /** 4 KiB pages for page tables. Default: an eighth of all frames, at least 4096. */
  readonly tablePages?: number;
  /** Most address spaces and contexts together. Default 64. */
  readonly tables?: number;
  /** Check lock order and the contract of steps. Default true; costs little. */
  readonly checked?: boolean;
  /** An already compiled core (`farfault/core.wasm`), for hosts that forbid compiling bytes. */
  readonly module?: CompiledModule;
}

/** What one node holds. */
export interface NodeReport {
  readonly name: string;
  readonly kind: 'host' | 'private' | 'coherent';
  readonly frames: number;
  readonly used: number;
  /** Most frames in use at one time. */
  readonly peak: number;
}

const MIB = 2 ** 20;
const DRAM_DEFAULT = 64 * MIB;
/** Reverse-map records: at least so many, and so many for each frame, which is what four spaces that share everything need. */
const CHAINS_MIN = 65536;
const CHAINS_PER_FRAME = 4;
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

/** One simulation. Made by `createMachine`; ended by `close`. */
export class Machine {
  private readonly core: Core;
  private readonly options: MachineOptions;
  private ground: Platform;
  private devices: Device[] = [];

  /** @internal Use `createMachine`. */
  constructor(core: Core, options: MachineOptions) {
    this.core = core;
    this.options = options;
    this.ground = this.start();
  }

  /** Adds a device. Its memories become nodes. Errors: EINVAL for a driver that breaks a rule, ENOMEM when its memories do not fit. Models: `gm_dev_create`, `gm_dev_register_physmem`. */
  addDevice(driver: Driver): Device {
    this.ground.requireOpen('addDevice');
    if (this.devices.some((device) => device.name === driver?.name))
      throw fail('EINVAL', 'driver.name', driver.name, 'is the name of a device of this machine already');
    const device = new Device(this.ground, this.devices.length + 1, driver);
    this.devices.push(device);
    return device;
  }

  /** An empty address space. */
  createAddressSpace(): AddressSpace {
    this.ground.requireOpen('createAddressSpace');
    return new AddressSpace(this.ground);
  }

  /**
   * A file: `bytes` long, or as long as `content`; zeros where nothing else is said. Map it with `space.mmap({ file })`, end it with `close`. Errors: EINVAL. Models: `memfd_create`, `open`.
   */
  createFile(options: { readonly bytes?: number; readonly content?: Uint8Array } = {}): MemoryFile {
    this.ground.requireOpen('createFile');
    if (typeof options !== 'object' || options === null) throw fail('EINVAL', 'createFile options', options, 'are not an object');
    const { content } = options;
    if (content !== undefined && !(content instanceof Uint8Array))
      throw fail('EINVAL', 'createFile.content', content, 'is not a Uint8Array');
    const bytes = options.bytes ?? content?.length ?? 0;
    if (content && content.length > bytes)
      throw fail('EINVAL', 'createFile.bytes', bytes, `is less than the ${content.length} bytes of content`);
    return new MemoryFile(this.ground, bytes, content);
  }

  /** What every node holds, the host's DRAM first. */
  get nodes(): readonly NodeReport[] {
    this.ground.requireOpen('nodes');
    return this.ground.nodes.list.slice(1).map(({ name, kind, frames, used, peak }) => ({ name, kind, frames, used, peak }));
  }

  /** Counters since the machine was made: its events, folded. */
  get counters(): Counters {
    return this.ground.events.counters;
  }

  /** Calls `listener` for every event from now on; the returned function ends that. */
  onEvent(listener: Listener): () => void {
    return this.ground.events.on(listener);
  }

  /**
   * Looks at every frame, table and TLB, and says which rule is broken first; undefined when none is. Proportional to the size of the machine: for tests. While
   * operations are unfinished, only what holds during them is looked at.
   */
  verify(): string | undefined {
    this.ground.requireOpen('verify');
    return verifyCore(this.core, this.ground.scheduler.pending.length === 0);
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
    this.ground.requireOpen('reset');
    this.ground.retire();
    resetCore(this.core);
    this.devices = [];
    this.ground = this.start();
  }

  /** Ends the machine and lets its memory go: unfinished operations are aborted, any later use is EBADF. Twice is fine. */
  close(): void {
    this.ground.close();
  }

  private start(): Platform {
    const { dram = DRAM_DEFAULT, checked = true, physicalBits } = this.options;
    return new Platform(this.core, dram / L.PAGE_BYTES, checked, physicalBits && 2 ** (physicalBits - L.PAGE_SHIFT));
  }
}

function budgetOf(options: MachineOptions): Budget {
  if (typeof options !== 'object' || options === null) throw fail('EINVAL', 'createMachine options', options, 'are not an object');
  const dram = bytesOf('dram', options.dram ?? DRAM_DEFAULT, L.PAGE_BYTES);
  const deviceMemory = bytesOf('deviceMemory', options.deviceMemory ?? dram, 0);
  if (options.physicalBits !== undefined) {
    const physicalBits = countOf('physicalBits', options.physicalBits, 24, 52);
    if (2 ** physicalBits < dram + ZERO_FRAMES * L.PAGE_BYTES)
      throw fail('EINVAL', 'createMachine.physicalBits', physicalBits, `cannot address the host's ${dram} bytes and the pages of zeros`);
  }
  const bodiless = countOf('bodilessFrames', options.bodilessFrames ?? 0, 0);
  const backed = (dram + deviceMemory) / L.PAGE_BYTES + ZERO_FRAMES;
  // And what aligning each device memory may leave unused.
  const frames = backed + bodiless + L.NODES_MAX * 2 ** L.HUGE_ORDER;
  const tables = countOf('tables', options.tables ?? 64, 1, TABLES_MAX);
  const tablePages = countOf('tablePages', options.tablePages ?? Math.max(4096, Math.ceil((backed + bodiless) / 8)), 1);
  return {
    backedBytes: backed * L.PAGE_BYTES,
    frames,
    tablePages,
    tables,
    tlbs: tables,
    chains: Math.max(CHAINS_MIN, CHAINS_PER_FRAME * backed),
  };
}

function bytesOf(name: string, value: number, least: number): number {
  if (!Number.isSafeInteger(value) || value < least || value % L.PAGE_BYTES !== 0) {
    throw fail('EINVAL', `createMachine.${name}`, value, `is not a multiple of 4096${least > 0 ? ' above 0' : ''}`);
  }
  return value;
}

function countOf(name: string, value: number, least: number, most: number = 2 ** 32 - 1): number {
  if (!Number.isSafeInteger(value) || value < least || value > most)
    throw fail('EINVAL', `createMachine.${name}`, value, `is not a count between ${least} and ${most}`);
  return value;
}

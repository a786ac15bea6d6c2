/**
 * A device in a machine: a driver with nodes for its memories, and one context for each address space that it is attached to.
 *
 * Models: `gm_dev`, `gm_dev_create`, `gm_dev_register_physmem`, `dev_pagemap`.
 */
import * as L from '../../assembly/layout.ts';
import type { Copies, Ranges } from '../core/batch.ts';
import { fail } from '../errors.ts';
import type { AddressSpace, Attachable } from '../mm/address-space.ts';
import type { CopyDirection, DeviceMemory } from '../mm/device-memory.ts';
import type { Node } from '../mm/node.ts';
import type { Platform } from '../mm/platform.ts';
import { Lock } from '../step/lock.ts';
import { isTicket, type Ticket } from '../step/ticket.ts';
import { Context } from './context.ts';
import { type Copy, type Driver, FAULT_BUFFER_ENTRIES, type MemoryDescription, type Phys } from './driver.ts';

const HUGE_BYTES = L.PAGE_BYTES << L.HUGE_ORDER;

/** A driver in a machine. Made by `machine.addDevice(driver)`. */
export class Device implements Attachable<Context> {
  readonly name: string;
  readonly driver: Driver;
  /** 1 and up: the owner that MIGRATE events and selectors carry. */
  readonly owner: number;
  readonly granulePages: number;
  readonly faultEntries: number;
  /** Page sizes that the entries of its ready-made tables may have. */
  readonly pageBytes: readonly number[];
  /** Its memories, in the order of `driver.memory`. */
  readonly memories: readonly OwnMemory[];
  readonly contexts: Context[] = [];
  /** One fault batch at a time: drivers and memories keep what it needs by the device. */
  readonly batch: Lock;
  readonly #platform: Platform;

  constructor(platform: Platform, owner: number, driver: Driver) {
    checkDriver(driver);
    this.#platform = platform;
    this.name = driver.name;
    this.driver = driver;
    this.owner = owner;
    this.batch = new Lock('batch', owner);
    this.granulePages = (driver.granuleBytes ?? L.PAGE_BYTES) / L.PAGE_BYTES;
    this.faultEntries = driver.faultEntries ?? FAULT_BUFFER_ENTRIES;
    this.pageBytes = driver.pageBytes ?? [L.PAGE_BYTES];
    const memories: OwnMemory[] = [];
    try {
      for (const description of driver.memory ?? []) memories.push(new OwnMemory(platform, this, description));
    } catch (error) {
      for (const { node } of memories.reverse()) {
        platform.memories.delete(node.index);
        platform.nodes.drop(node);
      }
      throw error;
    }
    this.memories = memories;
  }

  /** The context of this device in a space. Models: `gm_as_attach`. */
  attachTo(space: AddressSpace): Context {
    if (this.#platform.spaces.get(space.id) !== space) throw fail('EINVAL', 'attach.device', this.name, 'is of another machine');
    if (this.contexts.some((context) => context.space === space))
      throw fail('EINVAL', 'attach.device', this.name, 'is attached to this address space already');
    return new Context(this.#platform, this, space);
  }

  /** The memory that pages migrate to: its first one. */
  get memory(): OwnMemory | undefined {
    return this.memories[0];
  }

  contextOf(space: AddressSpace): Context | undefined {
    for (const context of this.contexts) if (context.space === space) return context;
    return undefined;
  }
}

/** One memory of a device: the page map that migrations and CPU faults see. */
export class OwnMemory implements DeviceMemory {
  readonly node: Node;
  readonly owner: number;
  readonly granulePages: number;
  /** Frames that a fault batch under way has installed or needs: not to be victims before its lanes have run. */
  readonly spared: Set<number> = new Set();
  readonly #platform: Platform;
  readonly #device: Device;

  constructor(platform: Platform, device: Device, description: MemoryDescription) {
    this.#platform = platform;
    this.#device = device;
    this.owner = device.owner;
    this.granulePages = device.granulePages;
    this.node = platform.nodes.add({
      name: `${device.name}.${description.name}`,
      kind: 'private',
      frames: description.bytes / L.PAGE_BYTES,
      bytesIn: description.bytesIn ?? 'backed',
      allocator: description.allocator ?? 'core',
      owner: device.owner,
    });
    platform.memories.set(this.node.index, this);
  }

  takeFrame(): number {
    if (this.node.allocator === 'core') return this.node.take();
    const page = this.#driven((phys) => {
      const answer = phys.allocPage();
      if (answer === undefined) return undefined;
      this.#requirePage('allocPage result', answer);
      if (!this.#platform.core.exports.frameClaim(this.node.base + answer, 0))
        throw fail('EINVAL', `${this.#device.name}.phys.allocPage result`, answer, 'is in use already');
      return answer;
    });
    return page === undefined ? L.FRAME_NONE : this.node.base + page;
  }

  victims(pages: number): readonly number[] {
    if (this.node.allocator === 'driver') {
      const frames = this.#driven((phys) => {
        const chosen = phys.victims?.((page) => this.spared.has(this.node.base + page)) ?? [];
        for (const page of chosen) this.#requirePage('victims result', page);
        return chosen.map((page) => this.node.base + page);
      });
      return frames ?? [];
    }
    const { core } = this.#platform;
    const spared = core.words(L.AREA_FREED, this.spared.size);
    let i = 0;
    for (const frame of this.spared) spared[i++] = frame;
    const list = core.area(L.AREA_LIST);
    const found = core.exports.victims(this.node.index, list, Math.min(pages, L.LIST_MAX), core.area(L.AREA_FREED), this.spared.size);
    return [...core.words(L.AREA_LIST, found)];
  }

  freed(frame: number): void {
    const context = this.#device.contexts[0];
    try {
      context?.mmu.phys?.freePage(frame - this.node.base);
    } catch (error) {
      // Taking away cannot fail: whoever frees goes on, and tells the owners of the other frames.
      context?.failWith(error);
    }
  }

  hasEngine(space: AddressSpace | undefined): boolean {
    return (space ? this.#device.contextOf(space) : this.#device.contexts[0])?.mmu.copy !== undefined;
  }

  copy(direction: CopyDirection, space: AddressSpace | undefined, copies: Copies): Ticket | void {
    return this.#engine(space, copies, direction === 'to-device' ? 'toDevice' : 'toHost');
  }

  zero(space: AddressSpace | undefined, copies: Copies): Ticket | void {
    return this.#engine(space, copies, 'zero');
  }

  withdraw(space: AddressSpace, ranges: Ranges, tickets: Ticket[]): void {
    const ticket = this.#device.contextOf(space)?.withdraw(ranges);
    if (ticket) tickets.push(ticket);
  }

  /** The copy engine of the context in that space, or of any context when a migration has no space; the core where there is none. */
  #engine(space: AddressSpace | undefined, copies: Copies, operation: keyof Copy): Ticket | void {
    const context = space ? this.#device.contextOf(space) : this.#device.contexts[0];
    const engine = context?.mmu.copy;
    if (!context || !engine?.[operation]) return copies.perform();
    try {
      const result = engine[operation](copies);
      return isTicket(result) ? result : undefined;
    } catch (error) {
      throw context.failWith(error);
    }
  }

  /** Asks the driver's allocator, which is one for all of the device's contexts; undefined when it is in no space. */
  #driven<T>(ask: (phys: Phys) => T): T | undefined {
    const context = this.#device.contexts[0];
    if (!context?.mmu.phys) return undefined;
    try {
      return ask(context.mmu.phys);
    } catch (error) {
      throw context.failWith(error);
    }
  }

  #requirePage(what: string, page: number): void {
    if (!Number.isInteger(page) || page < 0 || page >= this.node.frames)
      throw fail('EINVAL', `${this.#device.name}.phys.${what}`, page, `is not a page below ${this.node.frames}`);
  }
}

/** Throws EINVAL when a driver description breaks a rule. */
function checkDriver(driver: Driver): void {
  if (typeof driver !== 'object' || driver === null)
    throw fail('EINVAL', 'driver', driver, 'is not a driver (an object made by a defineDriver factory)');
  const { name, granuleBytes, faultEntries, pageBytes = [L.PAGE_BYTES], memory = [] } = driver;
  if (typeof name !== 'string' || !/^[a-z][a-z0-9-]{0,31}$/.test(name))
    throw fail('EINVAL', 'driver.name', name, 'is not 1 to 32 lower-case letters, digits or -, a letter first');
  if (typeof driver.attach !== 'function') throw fail('EINVAL', `${name}.attach`, driver.attach, 'is not a function');
  if (granuleBytes !== undefined && !isPowerBetween(granuleBytes, L.PAGE_BYTES, HUGE_BYTES)) {
    throw fail('EINVAL', `${name}.granuleBytes`, granuleBytes, 'is not a power of two between 4096 and 2 MiB');
  }
  if (!Array.isArray(pageBytes) || !pageBytes.includes(L.PAGE_BYTES))
    throw fail('EINVAL', `${name}.pageBytes`, pageBytes, 'is not an array of page sizes with 4096 among them');
  for (const bytes of pageBytes as readonly number[]) {
    if (!isPowerBetween(bytes, L.PAGE_BYTES, L.PAGE_BYTES << L.GIANT_ORDER))
      throw fail('EINVAL', `${name}.pageBytes`, bytes, 'is not a power of two between 4096 and 1 GiB');
  }
  if (faultEntries !== undefined && (!Number.isInteger(faultEntries) || faultEntries < 1 || faultEntries > L.FAULTS_MAX)) {
    throw fail('EINVAL', `${name}.faultEntries`, faultEntries, `is not a count between 1 and ${L.FAULTS_MAX}`);
  }
  if (!Array.isArray(memory)) throw fail('EINVAL', `${name}.memory`, memory, 'is not an array');
  for (const each of memory as readonly MemoryDescription[]) {
    if (typeof each !== 'object' || each === null || typeof each.name !== 'string' || !/^[a-z][a-z0-9-]{0,31}$/.test(each.name))
      throw fail('EINVAL', `${name}.memory name`, each?.name, 'is not 1 to 32 lower-case letters, digits or -, a letter first');
    if (!Number.isSafeInteger(each.bytes) || each.bytes <= 0 || each.bytes % L.PAGE_BYTES !== 0) {
      throw fail('EINVAL', `${name}.memory.${each.name}.bytes`, each.bytes, 'is not a positive multiple of 4096');
    }
    if (each.allocator === 'driver' && each !== memory[0])
      throw fail('EINVAL', `${name}.memory.${each.name}.allocator`, each.allocator, 'is for the first memory only');
    if (each.kind !== 'private') throw fail('EINVAL', `${name}.memory.${each.name}.kind`, each.kind, "is not 'private'");
    if (!['backed', 'metadata', 'external', undefined].includes(each.bytesIn))
      throw fail('EINVAL', `${name}.memory.${each.name}.bytesIn`, each.bytesIn, "is not one of: 'backed', 'metadata', 'external'");
    if (!['core', 'driver', undefined].includes(each.allocator))
      throw fail('EINVAL', `${name}.memory.${each.name}.allocator`, each.allocator, "is not one of: 'core', 'driver'");
  }
}

function isPowerBetween(value: number, least: number, most: number): boolean {
  return Number.isInteger(value) && value >= least && value <= most && (value & (value - 1)) === 0;
}

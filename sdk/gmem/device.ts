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
import { isTicket, type Ticket } from '../step/ticket.ts';
import { Context } from './context.ts';
import { type Driver, FAULT_BUFFER_ENTRIES, type MemoryDescription, type Phys } from './driver.ts';

/** What a device asks of the machine that it is in. */
export interface DeviceHost {
  readonly platform: Platform;
}

const HUGE_BYTES = L.PAGE_BYTES << L.HUGE_ORDER;

export class Device implements Attachable<Context> {
  readonly name: string;
  readonly driver: Driver;
  /** 1 and up: the owner that MIGRATE events and selectors carry. */
  readonly owner: number;
  readonly granulePages: number;
  readonly faultEntries: number;
  /** Its memories, in the order of `driver.memory`. */
  readonly memories: readonly OwnMemory[];
  readonly contexts: Context[] = [];
  /** Set when a driver operation threw: what it said. The device's contexts serve nothing any more. */
  readonly #platform: Platform;

  constructor(platform: Platform, owner: number, driver: Driver) {
    checkDriver(driver);
    this.#platform = platform;
    this.name = driver.name;
    this.driver = driver;
    this.owner = owner;
    this.granulePages = (driver.granuleBytes ?? L.PAGE_BYTES) / L.PAGE_BYTES;
    this.faultEntries = driver.faultEntries ?? FAULT_BUFFER_ENTRIES;
    this.memories = (driver.memory ?? []).map((description) => new OwnMemory(platform, this, description));
  }

  /** The context of this device in a space. Models: `gm_as_attach`. */
  attachTo(space: AddressSpace): Context {
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
    const page = this.#phys()?.allocPage();
    if (page === undefined) return L.FRAME_NONE;
    if (!Number.isInteger(page) || page < 0 || page >= this.node.frames) {
      throw fail('EINVAL', `${this.#device.name}.phys.allocPage result`, page, `is not a page below ${this.node.frames}`);
    }
    if (!this.#platform.core.exports.frameClaim(this.node.base + page, 0))
      throw fail('EINVAL', `${this.#device.name}.phys.allocPage result`, page, 'is in use already');
    return this.node.base + page;
  }

  victims(pages: number): readonly number[] {
    if (this.node.allocator === 'driver') {
      const chosen = this.#phys()?.victims?.((page) => this.spared.has(this.node.base + page)) ?? [];
      return chosen.map((page) => this.node.base + page);
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
    this.#phys()?.freePage(frame - this.node.base);
  }

  copy(direction: CopyDirection, space: AddressSpace | undefined, copies: Copies): Ticket | void {
    const engine = this.#engine(space)?.copy;
    const operation = direction === 'to-device' ? engine?.toDevice : engine?.toHost;
    if (!engine || !operation) return copies.perform();
    return ticketOf(operation.call(engine, copies));
  }

  zero(space: AddressSpace | undefined, copies: Copies): Ticket | void {
    const engine = this.#engine(space)?.copy;
    if (!engine?.zero) return copies.perform();
    return ticketOf(engine.zero(copies));
  }

  withdraw(space: AddressSpace, ranges: Ranges, tickets: Ticket[]): void {
    const ticket = this.#device.contextOf(space)?.withdraw(ranges);
    if (ticket) tickets.push(ticket);
  }

  /** Families of the context in that space, or of any context when a migration has no space. */
  #engine(space: AddressSpace | undefined): Context['mmu'] | undefined {
    return (space ? this.#device.contextOf(space) : this.#device.contexts[0])?.mmu;
  }

  #phys(): Phys | undefined {
    return this.#device.contexts[0]?.mmu.phys;
  }
}

function ticketOf(result: Ticket | void): Ticket | undefined {
  return isTicket(result) ? result : undefined;
}

/** Throws EINVAL when a driver description breaks a rule. */
function checkDriver(driver: Driver): void {
  if (typeof driver !== 'object' || driver === null)
    throw fail('EINVAL', 'driver', driver, 'is not a driver (an object made by a defineDriver factory)');
  const { name, granuleBytes, faultEntries, memory = [] } = driver;
  if (typeof name !== 'string' || !/^[a-z][a-z0-9-]{0,31}$/.test(name))
    throw fail('EINVAL', 'driver.name', name, 'is not 1 to 32 lower-case letters, digits or -, a letter first');
  if (typeof driver.attach !== 'function') throw fail('EINVAL', `${name}.attach`, driver.attach, 'is not a function');
  if (granuleBytes !== undefined && !isPowerBetween(granuleBytes, L.PAGE_BYTES, HUGE_BYTES)) {
    throw fail('EINVAL', `${name}.granuleBytes`, granuleBytes, 'is not a power of two between 4096 and 2 MiB');
  }
  if (faultEntries !== undefined && (!Number.isInteger(faultEntries) || faultEntries < 1 || faultEntries > L.FAULTS_MAX)) {
    throw fail('EINVAL', `${name}.faultEntries`, faultEntries, `is not a count between 1 and ${L.FAULTS_MAX}`);
  }
  for (const each of memory) {
    if (!Number.isSafeInteger(each.bytes) || each.bytes <= 0 || each.bytes % L.PAGE_BYTES !== 0) {
      throw fail('EINVAL', `${name}.memory.${each.name}.bytes`, each.bytes, 'is not a positive multiple of 4096');
    }
    if (each.allocator === 'driver' && each !== memory[0])
      throw fail('EINVAL', `${name}.memory.${each.name}.allocator`, each.allocator, 'is for the first memory only');
    if (each.kind !== 'private') throw fail('EINVAL', `${name}.memory.${each.name}.kind`, each.kind, "is not 'private'");
  }
}

function isPowerBetween(value: number, least: number, most: number): boolean {
  return Number.isInteger(value) && value >= least && value <= most && (value & (value - 1)) === 0;
}

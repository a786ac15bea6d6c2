/** What a migration gives to a device's copy engine: one submission for each direction (or one between two devices), then one of targets to be cleared. */
import * as L from '../../assembly/layout.ts';
import { Copies, type CopyGround, type PeerPlace } from '../core/batch.ts';
import { method } from '../step/method.ts';
import type { Ticket } from '../step/ticket.ts';
import type { AddressSpace } from './address-space.ts';
import type { DeviceMemory, MigrationDevice } from './device-memory.ts';
import type { MigrationWords, RunsOf, VisitRun } from './migration-words.ts';
import type { Platform } from './platform.ts';

/** Lists of what moves: all of it, and what the second tier does not have. */
const MOVED: RunsOf = { isRange: false, withTargets: true, copied: false };
const NOT_COPIED: RunsOf = { isRange: false, withTargets: true, copied: true };

/**
 * Who copies from one device's memory to another's: the engine of the target's driver, which pulls; else that of the source's, which pushes; else the core, where both have their bytes
 * in the machine. Undefined: nobody, the pages go by way of the host.
 */
export function peerEngine(from: DeviceMemory, to: DeviceMemory, space: AddressSpace | undefined): MigrationDevice | 'core' | undefined {
  if (to.device.hasPeerEngine(space)) return to.device;
  if (from.device.hasPeerEngine(space)) return from.device;
  return from.node.bytesIn === 'external' || to.node.bytesIn === 'external' ? undefined : 'core';
}

/** The same, where it goes over a link of the machine; undefined also where there is none, or where the target's device chooses its pages itself. */
export function linkEngine(
  platform: Platform,
  from: DeviceMemory,
  to: DeviceMemory,
  space: AddressSpace | undefined,
): MigrationDevice | 'core' | undefined {
  if (from.owner === to.owner || to.node.allocator === 'peer' || !platform.links.between(from.owner, to.owner)) return undefined;
  return peerEngine(from, to, space);
}

export class MigrationCopies implements CopyGround {
  private readonly platform: Platform;
  private readonly toDevice: Copies;
  private readonly toHost: Copies;
  private readonly zeros: Copies;
  /** Made at the first use of a link. */
  private peers: Copies | undefined;
  /** Which of them has what goes to a device now. */
  private inward: Copies;
  /** `add`, to be handed out. */
  private readonly visit: VisitRun = method<MigrationCopies, 'add'>(this, 'add');
  private device!: MigrationDevice;

  constructor(platform: Platform) {
    this.platform = platform;
    this.toDevice = new Copies(this);
    this.inward = this.toDevice;
    this.toHost = new Copies(this);
    this.zeros = new Copies(this);
  }

  /** For lists of somebody else's, to or from this device. */
  for(device: MigrationDevice): this {
    this.device = device;
    return this;
  }

  // What a list of copies asks for.

  memoryOf(frame: number): number {
    return this.device.memoryOf(frame);
  }

  pageOf(frame: number): number {
    return this.platform.nodes.pageOf(frame);
  }

  placeOf(frame: number): PeerPlace | undefined {
    const memory = this.platform.memories.get(this.platform.core.nodeOf(frame));
    return memory && { device: memory.device.name, memory: memory.device.memoryOf(frame), page: this.pageOf(frame) };
  }

  copyRun(from: number, to: number, pages: number): void {
    this.platform.core.exports.frameCopy(from, to, pages);
  }

  bytesOf(frame: number, pages: number): Uint8Array {
    const { core } = this.platform;
    const at = core.frameBytes(frame);
    return core.u8.subarray(at, at === 0 ? 0 : at + pages * L.PAGE_BYTES);
  }

  /** Lists what is to be copied and cleared, for the engine of `device`; what goes to a device's frame is the business of `toDevice`, or of `peer` where it comes from another one's. */
  of(words: MigrationWords, device: MigrationDevice, isPeer = false): this {
    this.device = device;
    this.toDevice.clear();
    this.toHost.clear();
    this.zeros.clear();
    this.peers?.clear();
    this.inward = isPeer ? (this.peers ??= new Copies(this)) : this.toDevice;
    words.eachRun(this.platform.core, this.platform.tier ? NOT_COPIED : MOVED, this.visit);
    return this;
  }

  /** @internal A run of frames: those that follow each other are of one memory. */
  add(_i: number, pages: number, from: number, to: number): void {
    const list = from < 0 ? this.zeros : this.platform.nodes.of(to).owner > 0 ? this.inward : this.toHost;
    list.add(from, to, pages);
  }

  /** Hands the copies to the engine; tickets of unfinished ones are appended. */
  copy(space: AddressSpace | undefined, tickets: Ticket[]): void {
    if (this.toDevice.count > 0) append(tickets, this.device.copy('to-device', space, this.toDevice));
    if (this.peers && this.peers.count > 0) append(tickets, this.device.copy('peer', space, this.peers));
    if (this.toHost.count > 0) append(tickets, this.device.copy('to-host', space, this.toHost));
  }

  /** Then the targets to be cleared, by the device whose they are. */
  zero(space: AddressSpace | undefined, tickets: Ticket[], device: MigrationDevice): void {
    if (this.zeros.count === 0) return;
    this.device = device;
    append(tickets, device.zero(space, this.zeros));
  }
}

function append(tickets: Ticket[], ticket: Ticket | void): void {
  if (ticket) tickets.push(ticket);
}

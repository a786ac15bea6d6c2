/** What a migration gives to a device's copy engine: one submission for each direction, then one of targets to be cleared. */
import * as L from '../../assembly/layout.ts';
import { Copies, type CopyGround } from '../core/batch.ts';
import type { Ticket } from '../step/ticket.ts';
import type { AddressSpace } from './address-space.ts';
import type { MigrationDevice } from './device-memory.ts';
import type { MigrationWords } from './migration-words.ts';
import type { Platform } from './platform.ts';

export class MigrationCopies implements CopyGround {
  private readonly platform: Platform;
  private readonly toDevice: Copies;
  private readonly toHost: Copies;
  private readonly zeros: Copies;
  private device!: MigrationDevice;

  constructor(platform: Platform) {
    this.platform = platform;
    this.toDevice = new Copies(this);
    this.toHost = new Copies(this);
    this.zeros = new Copies(this);
  }

  // What a list of copies asks for.

  memoryOf(frame: number): number {
    return this.device.memoryOf(frame);
  }

  pageOf(frame: number): number {
    return this.platform.nodes.pageOf(frame);
  }

  copyRun(from: number, to: number, pages: number): void {
    this.platform.core.exports.frameCopy(from, to, pages);
  }

  bytesOf(frame: number, pages: number): Uint8Array {
    const { core } = this.platform;
    const at = core.frameBytes(frame);
    return core.u8.subarray(at, at === 0 ? 0 : at + pages * L.PAGE_BYTES);
  }

  /** Lists what is to be copied and cleared; what goes to a device's frame is the business of `toDevice`. */
  of(words: MigrationWords, device: MigrationDevice): this {
    const { nodes } = this.platform;
    this.device = device;
    this.toDevice.clear();
    this.toHost.clear();
    this.zeros.clear();
    for (let i = 0; i < words.count; i++) {
      if (!words.moves(i) || !words.fits(i)) continue;
      const to = words.targetFrame(i);
      const valid = (words.bits(i) & L.MIGRATE_VALID) !== 0;
      const list = valid ? (nodes.of(to).owner > 0 ? this.toDevice : this.toHost) : this.zeros;
      for (let page = 0; page < words.span(i); page++) list.add(valid ? words.frame(i) + page : -1, to + page);
    }
    return this;
  }

  /** Hands the copies to the engine; tickets of unfinished ones are appended. */
  copy(space: AddressSpace | undefined, tickets: Ticket[]): void {
    if (this.toDevice.count > 0) append(tickets, this.device.copy('to-device', space, this.toDevice));
    if (this.toHost.count > 0) append(tickets, this.device.copy('to-host', space, this.toHost));
  }

  /** Then the targets to be cleared. */
  zero(space: AddressSpace | undefined, tickets: Ticket[]): void {
    if (this.zeros.count > 0) append(tickets, this.device.zero(space, this.zeros));
  }
}

function append(tickets: Ticket[], ticket: Ticket | void): void {
  if (ticket) tickets.push(ticket);
}

/** A device in one address space: its table, its TLB, and the jobs it runs there. */
import { ADDRESS_END, EXECUTED, tryAccess } from './access.ts';
import { type Counters, countBatch } from './counters.ts';
import { type Frame, PAGE_BYTES } from './frame.ts';
import { type FaultRecord, type JobAccess, type JobResult, runJob } from './lanes.ts';
import type { ModelSpace } from './space.ts';
import { Tlb, type Translation } from './tlb.ts';

/** What one batch came to: faults that moved on (a cancelled one has, too), and the lanes whose access is dropped as failed. */
export interface Service {
  served: number;
  cancelled: Set<number>;
}

/** A device as the lanes see it: a fault buffer of so many records, and a driver that serves them. */
export interface ModelDevice {
  readonly name: string;
  readonly faultEntries: number;
  /** Whether its table can take the right to write alone; default: it can. */
  readonly protects?: boolean;
  serve(context: ModelContext, records: readonly FaultRecord[]): Service;
  /** Moves pages of a range into device memory: those that moved, none for a device without memory. */
  migrate(context: ModelContext, vpn: number, pages: number): number;
  /** Moves what of a range is in device memory home. Returns how many pages. */
  migrateHome(context: ModelContext, vpn: number, pages: number): number;
  /** Sends all of its pages of a space home. False: there were not enough host frames. */
  leave(space: ModelSpace): boolean;
}

/** A device entry names the same frame as the home entry, and is writable only if that is. */
interface DeviceEntry extends Translation {
  readonly frame: Frame;
  readonly write: boolean;
  dirty: boolean;
}

export class ModelContext {
  readonly space: ModelSpace;
  readonly device: ModelDevice;
  readonly counters: Counters;
  readonly table: Map<number, DeviceEntry> = new Map();
  readonly tlb: Tlb;

  constructor(space: ModelSpace, device: ModelDevice, counters: Counters) {
    this.space = space;
    this.device = device;
    this.counters = counters;
    this.tlb = new Tlb((vpn) => this.table.get(vpn), counters.tlb.devices[device.name]!);
  }

  /** Runs accesses in lanes until every one has executed or been cancelled. */
  submit(accesses: readonly JobAccess[], lanes: number): JobResult {
    return runJob(this, accesses, lanes);
  }

  /** Moves the pages of a range that are not on a device into this one's memory, as far as there is room. Returns how many. */
  migrate(vpn: number, pages: number): number {
    return this.device.migrate(this, vpn, pages);
  }

  /** Moves the pages of a range that are in this device's memory home, as far as there is room. Returns how many. */
  migrateHome(vpn: number, pages: number): number {
    return this.device.migrateHome(this, vpn, pages);
  }

  /**
   * Bytes that the device loads into `data` or stores from it, page by page, each fault a batch of its own. Returns how many it did before
   * it came to a page without the right.
   */
  range(addr: number, data: Uint8Array, write: boolean): number {
    for (let done = 0; done < data.length;) {
      const bytes = Math.min(data.length - done, PAGE_BYTES - ((addr + done) % PAGE_BYTES));
      const vpn = tryAccess(this.tlb, addr + done, bytes, write, data.subarray(done, done + bytes));
      if (vpn === EXECUTED) done += bytes;
      else if (!this.#fault(vpn, write)) return done;
    }
    return data.length;
  }

  /** One record, served by itself. False: cancelled. */
  #fault(vpn: number, write: boolean): boolean {
    const { counters, device } = this;
    counters.faults.devices[device.name]! += 1;
    counters.detail.recorded += 1;
    countBatch(counters, 1);
    const { cancelled } = device.serve(this, [{ vpn, write, lane: 0, first: vpn, last: vpn }]);
    counters.detail.cancelled += cancelled.size;
    return cancelled.size === 0;
  }

  /** Takes the device out of the space: its pages go home, its entries are gone. False: some pages had to stay, and the context with them. */
  detach(): boolean {
    if (!this.device.leave(this.space)) return false;
    this.dropRange(0, ADDRESS_END / PAGE_BYTES);
    this.space.contexts.splice(this.space.contexts.indexOf(this), 1);
    return true;
  }

  /** True when the device table suffices for the access. */
  permits(vpn: number, write: boolean): boolean {
    const entry = this.table.get(vpn);
    return entry !== undefined && (!write || entry.write);
  }

  /** Copies the home entry of a page into the device table. A TLB way lives on only if the entry is as it was. */
  enter(vpn: number): void {
    const home = this.space.pages.get(vpn)!;
    const old = this.table.get(vpn);
    if (old !== undefined && old.frame === home.frame && old.write === home.write) return;
    this.tlb.drop(vpn);
    this.table.set(vpn, { frame: home.frame, write: home.write, dirty: false });
  }

  drop(vpn: number): void {
    this.table.delete(vpn);
    this.tlb.drop(vpn);
  }

  /** Takes the right to write from the entries of a range; reading goes on without a fault. */
  protectRange(start: number, end: number): void {
    if (this.device.protects === false) return this.dropRange(start, end);
    for (const [vpn, entry] of this.table) if (vpn >= start && vpn < end && entry.write) this.table.set(vpn, { ...entry, write: false });
    this.tlb.dropRange(start, end);
  }

  dropRange(start: number, end: number): void {
    if (end - start <= this.table.size) {
      for (let vpn = start; vpn < end; vpn++) this.table.delete(vpn);
    } else {
      for (const vpn of this.table.keys()) if (vpn >= start && vpn < end) this.table.delete(vpn);
    }
    this.tlb.dropRange(start, end);
  }
}

/** A device in one address space: its table, its TLB, and the jobs it runs there. */
import type { Counters } from './counters.ts';
import type { Frame } from './frame.ts';
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
  serve(context: ModelContext, records: readonly FaultRecord[]): Service;
  /** Moves pages of a range into device memory: those that moved, none for a device without memory. */
  migrate(context: ModelContext, vpn: number, pages: number): number;
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

  dropRange(start: number, end: number): void {
    if (end - start <= this.table.size) {
      for (let vpn = start; vpn < end; vpn++) this.table.delete(vpn);
    } else {
      for (const vpn of this.table.keys()) if (vpn >= start && vpn < end) this.table.delete(vpn);
    }
    this.tlb.dropRange(start, end);
  }
}

/**
 * Four good drivers, made of parts that can be exchanged one by one: a broken driver is a good one with one part that has one method wrong.
 *
 *   mirrored    no memory of its own: a table and a TLB that the driver writes
 *   card        private memory with an allocator of its own, a copy engine, a fault service that sorts and merges
 *   late        the same without the allocator; flushes and copies end later, by tickets, when a timer fires
 *   queued      the same, ended when `settle` says so
 *   remote      memory whose bytes the driver holds
 *   peer        hands out addresses itself; the late one answers when a timer fires
 */
import { type AnyFactory, type Expectations } from 'farfault/testing';
import {
  type Access,
  type BatchFault,
  type Context,
  type Copies,
  type DeviceFaultRecord,
  defineDriver,
  type Driver,
  type FaultBatch,
  type GmMmu,
  type Mappings,
  type Marks,
  type Ranges,
  type ServeBatch,
  type Step,
  type Ticket,
  type Translation,
} from 'farfault/gmem';

export const PAGE = 4096;
/** Pages of a card's memory: few, so that it is soon full. */
export const CARD_PAGES = 64;

/** A translation as the table has it. */
export interface Entry {
  page: number;
  memory: number;
  write: boolean;
}

/** The page table of one context. */
export class Table {
  readonly entries: Map<number, Entry> = new Map();
  /** Pages that were accessed since they were harvested; true: written. */
  readonly marks: Map<number, boolean> = new Map();

  enter(mappings: Mappings): void {
    mappings.each((vpn, pages, page, memory, write) => this.enterRun(vpn, pages, page, memory, write));
  }

  enterRun(vpn: number, pages: number, page: number, memory: number, write: boolean): void {
    for (let i = 0; i < pages; i++) this.set(vpn + i, { page: page + i, memory, write });
  }

  set(vpn: number, entry: Entry): void {
    this.entries.set(vpn, entry);
  }

  release(ranges: Ranges): void {
    ranges.each((start, pages) => this.releaseRun(start, start + pages));
  }

  /** A range may be the whole address space: looks at what is there. */
  releaseRun(start: number, end: number): void {
    for (const vpn of this.entries.keys()) if (vpn >= start && vpn < end) this.forget(vpn);
  }

  forget(vpn: number): void {
    this.entries.delete(vpn);
    this.marks.delete(vpn);
  }

  protect(ranges: Ranges, write: boolean): void {
    ranges.each((start, pages) => {
      for (const [vpn, entry] of this.entries) if (vpn >= start && vpn < start + pages) this.protectOne(entry, write);
    });
  }

  protectOne(entry: Entry, write: boolean): void {
    entry.write = write;
  }

  destroy(): void {
    this.entries.clear();
  }

  find(vpn: number): Entry | undefined {
    return this.entries.get(vpn);
  }

  mark(vpn: number, dirty: boolean): void {
    this.marks.set(vpn, dirty || this.marks.get(vpn) === true);
  }

  harvest(ranges: Ranges, marks: Marks): void {
    ranges.each((start, pages) => {
      for (const [vpn, dirty] of this.marks) {
        if (vpn < start || vpn >= start + pages) continue;
        marks.add(vpn, dirty);
        this.marks.delete(vpn);
      }
    });
  }
}

/** A translation as the TLB has it: `dirty` says that the table knows of a write. */
export interface Cached extends Entry {
  dirty: boolean;
}

/** The translation cache of one context, and the walk behind it. */
export class Tlb {
  readonly cached: Map<number, Cached> = new Map();
  readonly context: Context;
  readonly table: Table;
  readonly mail: Mail;

  constructor(context: Context, table: Table, mail: Mail) {
    this.context = context;
    this.table = table;
    this.mail = mail;
  }

  invalidate(ranges: Ranges): Ticket | void {
    ranges.each((start, pages) => this.flush(start, start + pages));
  }

  flush(start: number, end: number): void {
    for (const vpn of this.cached.keys()) if (vpn >= start && vpn < end) this.cached.delete(vpn);
  }

  translate(vpn: number, access: Access): Translation | undefined {
    const entry = this.lookup(vpn, access);
    return entry && { vpn, memory: entry.memory, page: entry.page, write: entry.write };
  }

  lookup(vpn: number, access: Access): Entry | undefined {
    const hit = this.cached.get(vpn);
    if (this.allows(hit, access)) {
      if (access === 'write' && !hit.dirty) this.firstWrite(vpn, hit);
      return hit;
    }
    const entry = this.table.find(vpn);
    if (!this.allows(entry, access)) return undefined;
    this.table.mark(vpn, access === 'write');
    this.cached.set(vpn, { ...entry, dirty: access === 'write' });
    return entry;
  }

  /** A write through an entry that a read has filled. */
  firstWrite(vpn: number, hit: Cached): void {
    hit.dirty = true;
    this.table.mark(vpn, true);
  }

  allows<E extends Entry>(entry: E | undefined, access: Access): entry is E {
    return entry !== undefined && (access === 'read' || entry.write);
  }
}

/** A TLB that is flushed by mail. */
export class LateTlb extends Tlb {
  override invalidate(ranges: Ranges): Ticket | void {
    // The list is lent: what is needed later is copied.
    const kept: [number, number][] = [];
    ranges.each((start, pages) => kept.push([start, start + pages]));
    return this.send(kept);
  }

  send(kept: readonly [number, number][]): Ticket | void {
    return this.mail.send(this.context.ticket('flush'), () => {
      for (const [start, end] of kept) this.flush(start, end);
    });
  }
}

/** Who has which page of a card's memory: one for all address spaces. */
export class Vram {
  readonly pages: number;
  readonly free: number[];
  /** Pages in use, those handed out first in front. */
  readonly used: Set<number> = new Set();

  constructor(pages: number) {
    this.pages = pages;
    this.free = Array.from({ length: pages }, (_, page) => pages - 1 - page);
  }

  allocPage(): number | undefined {
    const page = this.free.pop();
    if (page !== undefined) this.used.add(page);
    return page;
  }

  freePage(page: number): void {
    this.used.delete(page);
    this.free.push(page);
  }

  victims(spared: (page: number) => boolean): readonly number[] {
    const chosen: number[] = [];
    for (const page of this.used) if (chosen.length < 4 && !spared(page)) chosen.push(page);
    return chosen;
  }
}

/** A copy engine that is done at once. */
export class Engine {
  readonly context: Context;
  readonly mail: Mail;

  constructor(context: Context, mail: Mail) {
    this.context = context;
    this.mail = mail;
  }

  toDevice(copies: Copies): Ticket | void {
    copies.perform();
  }

  toHost(copies: Copies): Ticket | void {
    copies.perform();
  }

  zero(copies: Copies): Ticket | void {
    copies.perform();
  }
}

/** A copy engine that takes its work by mail. */
export class LateEngine extends Engine {
  override toDevice(copies: Copies): Ticket | void {
    return this.send(copies);
  }

  override toHost(copies: Copies): Ticket | void {
    return this.send(copies);
  }

  override zero(copies: Copies): Ticket | void {
    return this.send(copies);
  }

  send(copies: Copies): Ticket {
    const kept = copies.keep();
    return this.mail.send(this.context.ticket('copy'), () => kept.perform());
  }
}

/** A copy engine for a memory whose bytes are here. */
export class Store extends Engine {
  readonly bytes: Uint8Array;

  constructor(context: Context, mail: Mail, bytes: Uint8Array) {
    super(context, mail);
    this.bytes = bytes;
  }

  override toDevice(copies: Copies): void {
    copies.eachHost((page, _pages, host) => this.bytes.set(host, page * PAGE));
  }

  override toHost(copies: Copies): void {
    copies.eachHost((page, pages, host) => host.set(this.bytes.subarray(page * PAGE, (page + pages) * PAGE)));
  }

  override zero(copies: Copies): void {
    copies.each((pages, _fromMemory, _fromPage, _toMemory, page) => this.bytes.fill(0, page * PAGE, (page + pages) * PAGE));
  }
}

/** What the driver makes of its fault buffer: sorted, one fault a page. */
export class Service {
  readonly context: Context;
  readonly step: ServeBatch;

  constructor(context: Context) {
    this.context = context;
    this.step = context.batchStep();
  }

  service(batch: FaultBatch): Step {
    const faults = this.arrange(batch.records);
    batch.coalesced += batch.records.length - faults.length;
    return this.step.of(batch, faults);
  }

  arrange(records: readonly DeviceFaultRecord[]): BatchFault[] {
    const pages = new Map<number, BatchFault>();
    for (const { vpn, write, spanStart, spanPages } of records) {
      const fault = { vpn, write, reads: !write, spanStart, spanPages };
      const before = pages.get(vpn);
      pages.set(vpn, before ? this.merge(before, fault) : fault);
    }
    return [...pages.values()].sort((a, b) => a.vpn - b.vpn);
  }

  merge(a: BatchFault, b: BatchFault): BatchFault {
    const spanStart = Math.min(a.spanStart, b.spanStart);
    const spanEnd = Math.max(a.spanStart + a.spanPages, b.spanStart + b.spanPages);
    return {
      vpn: a.vpn,
      write: a.write || b.write,
      reads: a.reads === true || b.reads === true,
      spanStart,
      spanPages: spanEnd - spanStart,
    };
  }
}

/** What the device is told, and does when it comes to it: one message a turn, in order. */
export class Mail {
  protected readonly box: (() => void)[] = [];

  /** Sends a message; its ticket is completed when it has been done. */
  send(ticket: Ticket, work: () => void): Ticket {
    this.post(() => {
      work();
      ticket.complete();
    });
    return ticket;
  }

  post(work: () => void): void {
    this.box.push(work);
    setTimeout(() => this.box.shift()?.(), 0);
  }
}

/** Mail that is delivered when somebody asks for it: all that is there, and what that posts. */
export class Queue extends Mail {
  override post(work: () => void): void {
    this.box.push(work);
  }

  deliver(): void {
    for (let work = this.box.shift(); work; work = this.box.shift()) work();
  }
}

/** Addresses of one context, by page. */
export class Addresses {
  readonly taken: Set<number> = new Set();
  readonly context: Context;
  readonly mail: Mail;

  constructor(context: Context, mail: Mail) {
    this.context = context;
    this.mail = mail;
  }

  allocFixed(start: number, bytes: number): 'success' | 'nomem' | Ticket {
    const pages = pagesOf(start, bytes);
    if (!this.isFree(pages)) return 'nomem';
    for (const page of pages) this.taken.add(page);
    return 'success';
  }

  isFree(pages: readonly number[]): boolean {
    return !pages.some((page) => this.taken.has(page));
  }

  free(start: number, bytes: number): Ticket | void {
    for (const page of pagesOf(start, bytes)) this.taken.delete(page);
  }
}

/** The same, answered by mail. */
export class LateAddresses extends Addresses {
  override allocFixed(start: number, bytes: number): Ticket {
    const ticket = this.context.ticket('addresses');
    this.mail.post(() => (super.allocFixed(start, bytes) === 'success' ? ticket.complete() : ticket.fail('nomem')));
    return ticket;
  }

  override free(start: number, bytes: number): Ticket {
    return this.mail.send(this.context.ticket('addresses'), () => super.free(start, bytes));
  }
}

export function pagesOf(start: number, bytes: number): number[] {
  return Array.from({ length: bytes / PAGE }, (_, i) => start / PAGE + i);
}

/** The parts of a driver. Those of the device are shared by its address spaces, the others are made for each. */
export interface Parts {
  readonly Table: new () => Table;
  readonly Tlb: new (context: Context, table: Table, mail: Mail) => Tlb;
  readonly Engine: new (context: Context, mail: Mail, bytes: Uint8Array) => Engine;
  readonly Service: new (context: Context) => Service;
  readonly Addresses: new (context: Context, mail: Mail) => Addresses;
  readonly Vram: new (pages: number) => Vram;
  /** Whether the device has one allocator, or each of its contexts has. */
  readonly allocators: 'one' | 'each';
  readonly Mail: new () => Mail;
  /** What else is done at the end of an attach, and what is done at a detach. */
  readonly leave: ((context: Context, parts: { table: Table; tlb: Tlb }) => void) | undefined;
}

/** The parts of a good driver that are exchanged; a function: anew for each driver that is made. */
export type Changed = Partial<Parts> | (() => Partial<Parts>);

function changedParts(parts: Parts, changed: Changed): Parts {
  return { ...parts, ...(typeof changed === 'function' ? changed() : changed) };
}

const PARTS: Parts = { Table, Tlb, Engine, Service, Addresses, Vram, allocators: 'one', Mail, leave: undefined };

/** A driver of the zoo, and how it is graded. */
export interface Specimen {
  readonly factory: AnyFactory;
  readonly expectations: Expectations;
}

function specimen(make: () => Driver, expectations: Expectations = {}): Specimen {
  return { factory: defineDriver(make) as AnyFactory, expectations };
}

/** Table and TLB as families. */
function translating(table: Table, tlb: Tlb): Pick<GmMmu, 'pmap' | 'tlb' | 'walk'> {
  return {
    pmap: table,
    tlb: { invalidate: (ranges) => tlb.invalidate(ranges) },
    walk: {
      translate: (vpn, access) => tlb.translate(vpn, access),
      harvest: (ranges, marks) => table.harvest(ranges, marks),
    },
  };
}

function attached(parts: Parts, context: Context, mail: Mail): { table: Table; tlb: Tlb; detach: () => void } {
  const table = new parts.Table();
  const tlb = new parts.Tlb(context, table, mail);
  return { table, tlb, detach: () => parts.leave?.(context, { table, tlb }) };
}

/** No memory of its own. */
export function mirrored(changed: Changed = {}): Specimen {
  return specimen(() => {
    const parts = changedParts(PARTS, changed);
    const mail = new parts.Mail();
    return {
      name: 'mirrored',
      granuleBytes: 4 * PAGE,
      faultEntries: 32,
      attach(context) {
        const { table, tlb, detach } = attached(parts, context, mail);
        return { ...translating(table, tlb), detach };
      },
    };
  });
}

/** Private memory, and everything by itself. */
export function card(changed: Changed = {}): Specimen {
  return specimen(() => {
    const parts = changedParts(PARTS, changed);
    const mail = new parts.Mail();
    const vram = new parts.Vram(CARD_PAGES);
    return {
      name: 'card',
      memory: [{ name: 'vram', kind: 'private', bytes: CARD_PAGES * PAGE, allocator: 'driver' }],
      granuleBytes: 4 * PAGE,
      faultEntries: 32,
      attach(context) {
        const { table, tlb, detach } = attached(parts, context, mail);
        const engine = new parts.Engine(context, mail, new Uint8Array(0));
        const phys = parts.allocators === 'one' ? vram : new parts.Vram(CARD_PAGES);
        return { ...translating(table, tlb), phys, copy: engine, fault: new parts.Service(context), detach };
      },
    };
  });
}

function lateDriver(parts: Parts, mail: Mail): Driver {
  return {
    name: 'late',
    memory: [{ name: 'vram', kind: 'private', bytes: CARD_PAGES * PAGE }],
    granuleBytes: 4 * PAGE,
    attach(context) {
      const { table, tlb, detach } = attached(parts, context, mail);
      return { ...translating(table, tlb), copy: new parts.Engine(context, mail, new Uint8Array(0)), detach };
    },
  };
}

/** Flushes and copies that end later, when timers fire. */
export function late(changed: Changed = {}): Specimen {
  return specimen(() => {
    const parts = changedParts({ ...PARTS, Tlb: LateTlb, Engine: LateEngine }, changed);
    return lateDriver(parts, new parts.Mail());
  });
}

/** The same, ended by `settle`. */
export function queued(changed: Changed = {}): Specimen {
  // All that the factory has made: a case may have two devices.
  const mails: Queue[] = [];
  const make = (): Driver => {
    const parts = changedParts({ ...PARTS, Mail: Queue, Tlb: LateTlb, Engine: LateEngine }, changed);
    const mail = new parts.Mail() as Queue;
    mails.push(mail);
    return lateDriver(parts, mail);
  };
  return specimen(make, {
    settle: () => {
      for (const mail of mails) mail.deliver();
    },
  });
}

/** Memory whose bytes the driver holds. */
export function remote(changed: Changed = {}): Specimen {
  return specimen(() => {
    const parts = changedParts({ ...PARTS, Engine: Store }, changed);
    const mail = new parts.Mail();
    const bytes = new Uint8Array(CARD_PAGES * PAGE);
    return {
      name: 'remote',
      memory: [{ name: 'far', kind: 'private', bytes: CARD_PAGES * PAGE, bytesIn: 'external' }],
      granuleBytes: 4 * PAGE,
      attach(context) {
        const { table, tlb, detach } = attached(parts, context, mail);
        return { ...translating(table, tlb), copy: new parts.Engine(context, mail, bytes), detach };
      },
    };
  });
}

/** A device that hands out its addresses itself. */
export function peer(changed: Changed = {}): Specimen {
  return specimen(() => {
    const parts = changedParts(PARTS, changed);
    const mail = new parts.Mail();
    return {
      name: 'peer',
      granuleBytes: 4 * PAGE,
      attach(context) {
        const { table, tlb, detach } = attached(parts, context, mail);
        return { ...translating(table, tlb), peerVa: new parts.Addresses(context, mail), detach };
      },
    };
  });
}

/** The good ones. */
export const GOOD: readonly (readonly [name: string, specimen: Specimen])[] = [
  ['mirrored', mirrored()],
  ['card', card()],
  ['late', late()],
  ['queued', queued()],
  ['remote', remote()],
  ['peer', peer()],
  ['late peer', peer({ Addresses: LateAddresses })],
];

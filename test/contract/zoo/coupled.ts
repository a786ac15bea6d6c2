/**
 * Good drivers whose devices bring and take pages by themselves, and one whose engine copies between devices; made of parts that can be exchanged, as those of good.ts.
 *
 *   coupled     the core hands its pages out
 *   importing   it hands pages out beforehand, in batches
 *   placing     it chooses each page when it is brought
 *   posted      the same by mail: batches end later, when timers fire
 *   linked      a card that copies from and to other devices' memories
 */
import {
  type Context,
  type Copies,
  type Driver,
  defineDriver,
  type PeerBatch,
  type PeerItem,
  type Ranges,
  type Ticket,
} from 'farfault/gmem';
import { type AnyFactory, type CaseGroup, CONTRACT } from 'farfault/testing';
import { card, CARD_PAGES, Engine, LateTlb, Mail, PAGE, type Specimen, Table, Tlb } from './good.ts';

/** The pages of a device that hands them out itself: of all address spaces. */
export class Stock {
  readonly free: number[] = Array.from({ length: CARD_PAGES }, (_, page) => CARD_PAGES - 1 - page);

  take(): number | undefined {
    return this.free.pop();
  }

  importPages(count: number): readonly number[] {
    return this.free.splice(Math.max(0, this.free.length - count)).reverse();
  }

  freePage(page: number): void {
    this.free.push(page);
  }
}

/** Brings and takes pages, in one context. */
export class Coupling {
  readonly context: Context;
  readonly table: Table;
  readonly tlb: Tlb;
  readonly mail: Mail;
  readonly stock: Stock;

  constructor(context: Context, table: Table, tlb: Tlb, mail: Mail, stock: Stock) {
    this.context = context;
    this.table = table;
    this.tlb = tlb;
    this.mail = mail;
    this.stock = stock;
  }

  map(batch: PeerBatch): Ticket | void {
    batch.each((item) => this.bring(batch, item));
  }

  unmap(batch: PeerBatch): Ticket | void {
    batch.each((item) => this.take(batch, item));
  }

  bring(batch: PeerBatch, item: PeerItem): void {
    if (item.page < 0) {
      const page = this.stock.take();
      if (page === undefined) return this.refuse(batch, item);
      batch.place(item, page);
    }
    this.drop(batch.ranges(item));
    this.fill(batch.copies(item), item);
    this.enter(item);
    batch.answer(item, 'success');
  }

  refuse(batch: PeerBatch, item: PeerItem): void {
    batch.answer(item, 'nomem');
  }

  take(batch: PeerBatch, item: PeerItem): void {
    this.drop(batch.ranges(item));
    this.fill(batch.copies(item), item);
    batch.answer(item, 'success');
  }

  fill(copies: Copies, _item: PeerItem): void {
    copies.perform();
  }

  enter({ vpn, pages, page, memory, write }: PeerItem): void {
    this.table.enterRun(vpn, pages, page, memory, write);
  }

  /** From the table first, then from the cache. */
  drop(ranges: Ranges): void {
    ranges.each((start, pages) => {
      this.table.releaseRun(start, start + pages);
      this.tlb.flush(start, start + pages);
    });
  }
}

/** The same, when the mail has come. */
export class PostedCoupling extends Coupling {
  override map(batch: PeerBatch): Ticket | void {
    return this.mail.send(this.context.ticket('bring'), () => super.map(batch));
  }

  override unmap(batch: PeerBatch): Ticket | void {
    return this.mail.send(this.context.ticket('take'), () => super.unmap(batch));
  }
}

/** What is exchanged. */
export interface Changed {
  readonly Coupling?: new (context: Context, table: Table, tlb: Tlb, mail: Mail, stock: Stock) => Coupling;
  readonly Stock?: new () => Stock;
}

/** Who hands the pages of the device out. */
type Hands = 'core' | 'imports' | 'places';

function specimen(name: string, hands: Hands, changed: Changed, late: boolean): Specimen {
  const make = (): Driver => {
    const mail = new Mail();
    const stock = new (changed.Stock ?? Stock)();
    return {
      name,
      memory: [{ name: 'hbm', kind: 'private', bytes: CARD_PAGES * PAGE, allocator: hands === 'core' ? 'core' : 'peer' }],
      granuleBytes: 4 * PAGE,
      attach(context) {
        const table = new Table();
        const tlb = new (late ? LateTlb : Tlb)(context, table, mail);
        const coupling = new (changed.Coupling ?? (late ? PostedCoupling : Coupling))(context, table, tlb, mail, stock);
        return {
          pmap: table,
          tlb: { invalidate: (ranges) => tlb.invalidate(ranges) },
          walk: {
            translate: (vpn, access) => tlb.translate(vpn, access),
            harvest: (ranges, marks) => table.harvest(ranges, marks),
          },
          peer: {
            map: (batch) => coupling.map(batch),
            unmap: (batch) => coupling.unmap(batch),
            ...(hands === 'imports' ? { importPages: (count: number) => stock.importPages(count) } : {}),
            ...(hands === 'places' ? { freePage: (page: number) => stock.freePage(page) } : {}),
          },
        };
      },
    };
  };
  return { factory: defineDriver(make) as AnyFactory, expectations: {} };
}

export function coupled(changed: Changed = {}): Specimen {
  return specimen('coupled', 'core', changed, false);
}

export function importing(changed: Changed = {}): Specimen {
  return specimen('importing', 'imports', changed, false);
}

export function placing(changed: Changed = {}): Specimen {
  return specimen('placing', 'places', changed, false);
}

export function posted(changed: Changed = {}): Specimen {
  return specimen('posted', 'places', changed, true);
}

/** An engine that reaches other devices' memories. */
export class LinkedEngine extends Engine {
  peer(copies: Copies): Ticket | void {
    copies.perform();
  }
}

export function linked(changed: Parameters<typeof card>[0] = {}): Specimen {
  return card(typeof changed === 'function' ? changed : { Engine: LinkedEngine, ...changed });
}

/** The cases that see what is different in a driver: the others have been tried on one like it. */
function only(groups: readonly CaseGroup[], { factory, expectations }: Specimen): Specimen {
  return {
    factory,
    expectations: { ...expectations, cases: CONTRACT.filter(({ group }) => groups.includes(group)).map(({ name }) => name) },
  };
}

/** The good ones. */
export const GOOD_COUPLED: readonly (readonly [name: string, specimen: Specimen])[] = [
  ['coupled', coupled()],
  ['importing', only(['coupled', 'memory', 'leaving'], importing())],
  ['placing', only(['coupled', 'memory', 'leaving'], placing())],
  ['posted', posted()],
  ['linked', only(['links', 'migration', 'calls'], linked())],
];

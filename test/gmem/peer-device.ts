/** A device that brings and takes pages by itself, with a table of its own; the same without that family is the decoupled one. */
import type { Ticket } from 'farfault';
import {
  type Context,
  type Driver,
  defineDriver,
  deviceTable,
  deviceTlb,
  type GmMmu,
  type Peer,
  type PeerBatch,
  type PeerCode,
} from 'farfault/gmem';
import { PAGE } from '../machine/probe.ts';

export interface PeerOptions {
  readonly pages?: number;
  readonly granulePages?: number;
  /** Who hands its pages out: the core, the device in batches, the device for each page. */
  readonly hands?: 'core' | 'imports' | 'places';
  readonly coupled?: boolean;
  readonly huge?: boolean;
  readonly name?: string;
  /** Whoever ends its batches when he likes; undefined: not this one, which is done at once. */
  readonly ends?: () => ((ticket: Ticket, work: () => void) => void) | undefined;
}

/** What a call is to answer, and what to do before. */
export interface Plan {
  readonly operation: 'map' | 'unmap';
  readonly code: PeerCode;
  /** How many items get that answer. Default: every one. */
  times?: number;
  readonly until?: () => Ticket;
}

/** The driver of one such device, seen from inside. */
export class PeerDevice {
  readonly driver: Driver;
  readonly log: string[] = [];
  /** Items as `map` got them. */
  readonly seen: {
    readonly vpn: number;
    readonly bytes: string;
    readonly write: boolean;
    readonly access: string;
    readonly behaviour: string;
    readonly attributes: number;
  }[] = [];
  readonly plans: Plan[] = [];
  /** The work of a batch is left for `finish`. */
  slow = false;
  /** What a map that is done says. */
  afterwards: PeerCode = 'success';
  /** Looks at each batch before anything is done. */
  look: ((batch: PeerBatch, operation: 'map' | 'unmap') => void) | undefined = undefined;
  /** It does not let go. */
  refusesDrops = false;
  /** Pages that the device has, for `places` and `imports`. */
  readonly free: number[] = [];
  private readonly later: (() => void)[] = [];
  private readonly ends: PeerOptions['ends'];

  constructor(options: PeerOptions = {}) {
    const { pages = 16, granulePages = 1, hands = 'core', coupled = true, huge = false, name = 'peer', ends } = options;
    this.ends = ends;
    if (hands !== 'core') for (let page = 0; page < pages; page++) this.free.push(page);
    this.driver = defineDriver(() => ({
      name,
      pageBytes: huge ? [PAGE, 512 * PAGE] : [PAGE],
      granuleBytes: granulePages * PAGE,
      memory: [
        { name: 'hbm', kind: 'private' as const, bytes: pages * PAGE, allocator: hands === 'core' ? ('core' as const) : ('peer' as const) },
      ],
      attach: (context: Context): GmMmu => {
        const table = deviceTable(context);
        const tlb = deviceTlb(context);
        const work = (batch: PeerBatch, operation: 'map' | 'unmap'): void => {
          this.look?.(batch, operation);
          batch.each((item) => {
            const plan = this.plans.find((each) => each.operation === operation && (each.times ?? 1) > 0);
            if (this.refusesDrops && item.bytes === 'none') return batch.answer(item, 'failure');
            if (plan && item.bytes !== 'none') {
              if (plan.times !== undefined) plan.times--;
              batch.answer(item, plan.code, plan.until ? { until: plan.until() } : {});
              return;
            }
            if (operation === 'map') {
              const { vpn, bytes, write, access, behaviour, attributes } = item;
              this.seen.push({ vpn, bytes, write, access, behaviour, attributes });
              if (item.page < 0) {
                const page = this.take(item.pages);
                if (page === undefined) return batch.answer(item, 'nomem');
                batch.place(item, page);
              }
            }
            const ranges = batch.ranges(item);
            if (ranges.count > 0) {
              table.release(ranges);
              tlb.invalidate(ranges);
            }
            batch.copies(item).perform();
            if (operation === 'map') table.enter(batch.mappings(item));
            batch.answer(item, operation === 'map' ? this.afterwards : 'success');
          });
        };
        const peer: Peer = {
          map: (batch) => this.run(context, 'map', batch, work),
          unmap: (batch) => this.run(context, 'unmap', batch, work),
          ...(hands === 'imports'
            ? { importPages: (count: number) => (this.log.push(`import ${count}`), this.free.splice(0, count)) }
            : {}),
          ...(hands === 'places'
            ? {
                freePage: (page: number, count: number) => {
                  for (let i = 0; i < count; i++) this.free.push(page + i);
                },
              }
            : {}),
        };
        return { pmap: table, tlb, ...(coupled ? { peer } : {}), save: () => undefined };
      },
    }))();
  }

  private run(
    context: Context,
    operation: 'map' | 'unmap',
    batch: PeerBatch,
    work: (batch: PeerBatch, operation: 'map' | 'unmap') => void,
  ): Ticket | void {
    this.log.push(`${operation} ${batch.count}`);
    const ends = this.ends?.();
    if (!this.slow && !ends) return work(batch, operation);
    const ticket = context.ticket(operation);
    if (ends) {
      ends(ticket, () => work(batch, operation));
      return ticket;
    }
    this.later.push(() => {
      work(batch, operation);
      ticket.complete();
    });
    return ticket;
  }

  /** The first page, or 512 in a row, that the device has. */
  private take(pages: number): number | undefined {
    this.free.sort((a, b) => a - b);
    const at = this.free.findIndex((page, i) => page % pages === 0 && this.free[i + pages - 1] === page + pages - 1);
    return at < 0 ? undefined : this.free.splice(at, pages)[0];
  }

  /** Does what was left, in its order; what comes of it too. */
  finish(): void {
    for (let work = this.later.shift(); work; work = this.later.shift()) work();
  }

  /** Ends one batch of those that are left, before the others. */
  finishOne(index: number): void {
    for (const work of this.later.splice(index, 1)) work();
  }

  get unfinished(): number {
    return this.later.length;
  }
}

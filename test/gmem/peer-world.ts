/** A device that hands out its addresses itself: what it has reserved is seen, and what it answers can be said. */
import type { Context, Ticket } from 'farfault';
import { defineDriver, deviceTable, deviceTlb, type Driver, type PeerVa } from 'farfault/gmem';

export const PAGE = 4096;
export const HUGE = 512 * PAGE;

/** The addresses of one context. */
export class OwnAddresses implements PeerVa {
  /** Pages reserved. */
  readonly reserved = new Set<number>();
  /** Whether a page is its own business. */
  taken: (page: number) => boolean = () => false;
  /** Calls, a line each. */
  readonly calls: string[] = [];
  /** What was asked of it that it never had, or has already. */
  readonly wrong: string[] = [];
  readonly open: { readonly ticket: Ticket; readonly end: () => void }[] = [];
  late = false;
  throws: 'allocFixed' | 'free' | undefined;
  says: 'nomem' | 'failure' | undefined;
  context!: Context;

  allocFixed(start: number, bytes: number, prot: string): 'success' | 'nomem' | 'failure' | Ticket {
    this.calls.push(`alloc ${start.toString(16)}+${bytes / PAGE} ${prot}`);
    if (this.throws === 'allocFixed') throw new Error('no more addresses');
    const pages = pagesOf(start, bytes);
    const answer = this.says ?? (pages.some((page) => this.taken(page) || this.reserved.has(page)) ? 'nomem' : 'success');
    const take = (): void => {
      if (answer === 'success') for (const page of pages) this.reserved.add(page);
    };
    if (!this.late) {
      take();
      return answer;
    }
    const ticket = this.context.ticket('addresses');
    this.open.push({
      ticket,
      end: () => {
        take();
        if (answer === 'success') ticket.complete();
        else ticket.fail(answer === 'nomem' ? 'nomem' : 'out of order');
      },
    });
    return ticket;
  }

  free(start: number, bytes: number): Ticket | undefined {
    this.calls.push(`free ${start.toString(16)}+${bytes / PAGE}`);
    if (this.throws === 'free') throw new Error('cannot let go');
    const give = (): void => {
      for (const page of pagesOf(start, bytes)) if (!this.reserved.delete(page)) this.wrong.push(`free of page ${page.toString(16)}`);
    };
    if (!this.late) {
      give();
      return undefined;
    }
    const ticket = this.context.ticket('addresses');
    this.open.push({
      ticket,
      end: () => {
        give();
        ticket.complete();
      },
    });
    return ticket;
  }

  /** Answers what was asked, the oldest first; what is asked meanwhile, too. */
  answer(): void {
    for (let next = this.open.shift(); next; next = this.open.shift()) next.end();
  }
}

function pagesOf(start: number, bytes: number): number[] {
  return Array.from({ length: bytes / PAGE }, (_, i) => start / PAGE + i);
}

export interface PeerOptions {
  readonly name?: string;
  readonly addressBits?: number;
  readonly pages?: number;
  readonly peers?: boolean;
}

/** A driver, and the addresses of its contexts: of the one that was attached last. */
export function peerDriver(options: PeerOptions = {}): { readonly driver: Driver; readonly own: OwnAddresses } {
  const { name = 'npu', addressBits, pages = 64, peers = true } = options;
  const own = new OwnAddresses();
  const driver = defineDriver(() => ({
    name,
    memory: pages === 0 ? [] : [{ name: 'ram', kind: 'private' as const, bytes: pages * PAGE }],
    ...(addressBits !== undefined && { addressBits }),
    attach(context: Context) {
      own.context = context;
      deviceTable(context);
      return { tlb: deviceTlb(context), ...(peers && { peerVa: own }), save: () => [...own.reserved] };
    },
  }))();
  return { driver, own };
}

/** What is peer-shared in a space, by page. */
export function sharedPages(space: { dump(): string }): number[] {
  const pages: number[] = [];
  for (const line of space.dump().split('\n')) {
    const [range, , ...rest] = line.split(' ');
    if (rest[rest.length - 1] !== 'ps') continue;
    const [start, end] = range!.split('-').map((address) => parseInt(address, 16) / PAGE);
    for (let page = start!; page < end!; page++) pages.push(page);
  }
  return pages;
}

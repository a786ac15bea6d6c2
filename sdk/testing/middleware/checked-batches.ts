/** Batches of pages that a device brings or takes by itself (`peer.map`, `peer.unmap`): what the framework asks for in them, and what has become of each item when they are over. */
import * as L from '../../../assembly/layout.ts';
import { isTicket, type PeerBatch, type PeerItem, type Ticket } from '../../gmem/index.ts';
import { HUGE_PAGES } from '../../mm/huge-window.ts';
import { PROT_READ, PROT_WRITE } from '../../mm/vma.ts';
import type { CheckedContext } from './checked-context.ts';
import type { ShadowTable } from './shadow.ts';

/** A batch that a driver has been lent, each item with what it was then. */
interface Lending {
  readonly operation: 'peer.map' | 'peer.unmap';
  readonly items: { readonly item: PeerItem; readonly as: string; readonly page: number }[];
  readonly ticket: Ticket | undefined;
}

/** The batches of one context. What they have brought is translated from then on, and what they have taken is not: the shadow is told. */
export class CheckedBatches {
  readonly #at: CheckedContext;
  readonly #shadow: ShadowTable;
  /** Batches whose results have not come. */
  readonly #pending: Lending[] = [];

  constructor(at: CheckedContext, shadow: ShadowTable) {
    this.#at = at;
    this.#shadow = shadow;
  }

  /** The device brings pages by itself. */
  bring(batch: PeerBatch, call: () => Ticket | void): Ticket | void {
    batch.each((item) => this.#requireItem('peer.map', item, ['copy', 'zero', 'keep']));
    batch.each((item) => this.#requireBrought(item));
    return this.#lend('peer.map', batch, call);
  }

  /** The device takes pages by itself, or lets go of them. */
  take(batch: PeerBatch, call: () => Ticket | void): Ticket | void {
    batch.each((item) => this.#requireItem('peer.unmap', item, ['copy', 'none']));
    batch.each(({ bytes, page, frame }) => {
      if (bytes === 'copy' && !this.#at.context['platform'].pageLocks.locked(frame))
        this.#at.report('batches', 'peer.unmap', `page ${page} of the device is to be taken, and is not locked`);
    });
    return this.#lend('peer.unmap', batch, call);
  }

  #lend(operation: 'peer.map' | 'peer.unmap', batch: PeerBatch, call: () => Ticket | void): Ticket | void {
    if (batch.count === 0) this.#at.report('arguments', operation, 'there are no items');
    const lending: Lending = { operation, items: [], ticket: undefined };
    batch.each((item) => void lending.items.push({ item, as: factsOf(item), page: item.page }));
    const answer = this.#at.run(operation, call);
    this.#at.requireTicket(operation, answer);
    if (isTicket(answer) && answer.state === 'pending') this.#pending.push({ ...lending, ticket: answer });
    else this.#results(lending, isTicket(answer) && answer.state === 'failed');
    return answer;
  }

  /** Whether the results of a batch have not come: the device may use what it had, or what it gets. */
  get arePending(): boolean {
    return this.#pending.length > 0;
  }

  /** Looks at the results of the batches that have ended. */
  settle(): void {
    const pending = this.#pending;
    for (let i = 0; i < pending.length; i++) {
      const lending = pending[i]!;
      const state = lending.ticket!.state;
      if (state === 'pending') continue;
      pending.splice(i--, 1);
      this.#results(lending, state === 'failed');
    }
  }

  /** What a batch has come to. `failed`: its ticket has, and nothing of it counts. */
  #results({ operation, items }: Lending, failed: boolean): void {
    for (const { item, as, page } of items) {
      const { vpn, pages, bytes, frame, code, write } = item;
      if (factsOf(item) !== as || (page >= 0 && item.page !== page))
        this.#at.report('results', operation, `the item of page ${vpn} has been changed: it is borrowed`);
      const done = !failed && (code === 'success' || (code === 'page exists' && operation === 'peer.map'));
      if (operation === 'peer.unmap' && bytes === 'none' && !done && !this.#at.context.failure && !failed)
        this.#at.report('results', operation, `pages ${vpn} to ${vpn + pages - 1} are to go, and the answer is: ${code}`);
      if (!this.#at.translates || vpn < 0) continue;
      // Of one that was broken off nobody asks any more.
      if (operation === 'peer.unmap' && (done || (failed && bytes === 'none'))) this.#shadow.gone(vpn, pages);
      if (operation === 'peer.map' && done && frame >= 0)
        for (let i = 0; i < pages; i++) this.#shadow.came(vpn + i, { frame: frame + i, write });
    }
  }

  #requireItem(operation: 'peer.map' | 'peer.unmap', item: PeerItem, known: readonly PeerItem['bytes'][]): void {
    const { vpn, pages, bytes, page, host, write } = item;
    if (!known.includes(bytes)) this.#at.report('arguments', operation, `the bytes of page ${vpn} are to be: ${String(bytes)}`);
    const isRange = Number.isSafeInteger(vpn) && Number.isSafeInteger(pages) && pages >= 1 && vpn >= -1 && vpn + pages <= 2 ** L.VPN_BITS;
    if (!isRange || (bytes !== 'none' && pages !== 1 && pages !== HUGE_PAGES))
      this.#at.report('arguments', operation, `${String(pages)} pages from ${String(vpn)} are no item`);
    if (typeof write !== 'boolean') this.#at.report('arguments', operation, `${String(write)} is not a right to write`);
    if (!Number.isInteger(page) || page < -1) this.#at.report('arguments', operation, `${String(page)} is not a page of the device`);
    if (bytes === 'copy' ? !(host >= 0) : host !== -1)
      this.#at.report(
        'arguments',
        operation,
        `page ${vpn} is to be ${bytes === 'copy' ? 'copied' : 'left'}, and page ${host} of the host is its other side`,
      );
  }

  /** What is brought is where the program may have it, and nobody moves it meanwhile. */
  #requireBrought({ vpn, pages, bytes, frame, hostFrame, write }: PeerItem): void {
    const { space } = this.#at.context;
    const { core, pageLocks } = this.#at.context['platform'];
    const low = core.entryLow;
    for (let i = 0; i < pages; i++) {
      const rights = space.vmas.find(vpn + i)?.prot ?? 0;
      if (!(rights & PROT_READ)) this.#at.report('batches', 'peer.map', `page ${vpn + i} is brought, and may not be read`);
      else if (write && !(rights & PROT_WRITE))
        this.#at.report('batches', 'peer.map', `page ${vpn + i} is brought writable, and may not be written`);
      if (bytes !== 'keep') continue;
      const kind = core.entry(space.table, vpn + i) & L.ENTRY_KIND;
      if (kind === L.KIND_NONE || core.entryLow !== frame + i)
        this.#at.report('batches', 'peer.map', `page ${vpn + i} is said to be on the device, and is not`);
    }
    core.entryLow = low;
    if (bytes === 'copy' && !pageLocks.locked(hostFrame))
      this.#at.report('batches', 'peer.map', `page ${vpn} is brought, and the page that it comes from is not locked`);
  }
}

/** What a driver may not change of an item. */
function factsOf({ vpn, pages, bytes, host, memory, write, access, behaviour, attributes }: PeerItem): string {
  return [vpn, pages, bytes, host, memory, write, access, behaviour, attributes].join();
}

/**
 * Addresses on which several owners have to agree: a device with an operating system of its own hands out its addresses itself, and memory that it shares is at one address for everybody.
 *
 * ```
 *   pick a place -> ask each peer, in the order of their coming -> all of them take it: done
 *        ^                     |
 *        |                 one refuses: those asked before give it back, the place stays blocked
 *        +---- at most VA_RETRIES_MAX times; a fixed place is not picked again
 *   whatever comes of it, the blockers go
 * ```
 *
 * A blocker is a promise without rights, which the verbs that take no lock see and nobody can touch: the mmap lock is held until all is over.
 *
 * Models: `gm_alloc_va_in_peer_devices`, `gm_reserve_vma`, `gm_release_vma`.
 */
import * as L from '../../assembly/layout.ts';
import { fail, type FarfaultError } from '../errors.ts';
import type { VaCause } from '../events/cause.ts';
import { DONE, type Progress, type Run, type Step } from '../step/step.ts';
import { isTicket, type Ticket } from '../step/ticket.ts';
import type { AddressSpace } from './address-space.ts';
import type { Platform } from './platform.ts';
import { VMA_ANONYMOUS, VMA_PEER_SHARED, VMA_PRIVATE, type VmaRequest } from './vma.ts';

/** How a peer takes a place. `nomem`: it is not free there, pick another. `failure`: it cannot say, and has changed nothing. Models: `enum gm_ret`. */
export type PeerAnswer = 'success' | 'nomem' | 'failure';

/** The addresses of a context whose device hands them out itself, as steps see them; `sdk/gmem/peer-addresses.ts` implements it. */
export interface PeerAddresses {
  /** Of the device. */
  readonly name: string;
  /** Whether it knows all that is shared, and takes part. */
  readonly isReady: boolean;
  /** Asks for pages. A ticket: it has not answered; see `answerOf`. Does not throw. */
  reserve(vpn: number, pages: number, prot: number): PeerAnswer | Ticket;
  /** Gives pages back. A ticket: it has not done so. Does not throw. */
  release(vpn: number, pages: number): Ticket | undefined;
  /** A release that was waited for has failed. */
  lost(ticket: Ticket): void;
}

/** Places that are picked again after a refusal. Models: `GM_MAX_VA_RETRY`, ten in every generation. */
export const VA_RETRIES_MAX = 10;

/** Peer-shared memory is handed out in pieces of 2 MiB, at multiples of it. Models: HPAGE_SIZE. */
export const PEER_SHARED_PAGES: number = 2 ** L.HUGE_ORDER;

const PICK = 0;
const ASK = 1;
const GIVE_BACK = 2;

/** What is to be agreed on. */
export interface PlaceRequest {
  readonly pages: number;
  readonly prot: number;
  /** Exactly there. */
  readonly at?: number;
  /** Else the first free place from here on. */
  readonly base?: number;
  /** At a multiple of so many pages. Default PEER_SHARED_PAGES. */
  readonly alignPages?: number;
  readonly cause: VaCause;
}

/** How a negotiation ended. `no room`: the space has none. `nomem`: a peer refused the last place. `failure`: a peer failed. */
export type NegotiationOutcome = 'done' | 'no room' | 'nomem' | 'failure';

/**
 * The step that agrees on a place. The caller holds the mmap lock exclusively. When the outcome is `done`, a blocker is at `start`: the caller calls `keep` in the same turn, or `undo` it.
 */
export class Negotiation implements Step {
  readonly name = 'negotiate';
  outcome: NegotiationOutcome = 'done';
  /** The place. */
  start = 0;
  /** Who refused last. */
  refusedBy = '';
  private readonly platform: Platform;
  private readonly space: AddressSpace;
  private request!: PlaceRequest;
  private readonly peers: PeerAddresses[] = [];
  /** Peers that have been asked for the place, and have taken it. */
  private taken = 0;
  private retries = 0;
  private answer: Ticket | undefined = undefined;
  private readonly givingBack: Ticket[] = [];
  private readonly owners: PeerAddresses[] = [];
  /** Starts of the places that are blocked. */
  private readonly blocked: number[] = [];
  private phase = PICK;

  constructor(platform: Platform, space: AddressSpace) {
    this.platform = platform;
    this.space = space;
  }

  /** For one range. */
  of(request: PlaceRequest): this {
    this.request = request;
    this.outcome = 'done';
    this.retries = 0;
    this.taken = 0;
    this.phase = PICK;
    return this;
  }

  next(run: Run): Progress {
    for (;;) {
      switch (this.phase) {
        case PICK:
          if (!this.pick()) return this.end('no room');
          this.phase = ASK;
        // falls through
        case ASK: {
          const answer = this.ask();
          if (isTicket(answer)) return run.waitFor(answer);
          if (answer === 'success') return this.end('done');
          this.outcome = answer;
          this.giveBack();
          this.phase = GIVE_BACK;
        }
        // falls through
        default: {
          const pending = this.pending();
          if (pending) return run.waitFor(pending);
          if (this.outcome !== 'nomem' || this.request.at !== undefined || this.retries === VA_RETRIES_MAX) return this.end(this.outcome);
          this.retries++;
          this.phase = PICK;
        }
      }
    }
  }

  abort(): void {
    if (this.blocked.length === 0) return;
    // Nobody waits for them any more.
    this.giveBack();
    this.unblock();
  }

  /** The place is what `request` says from now on. Requires: `done`. */
  keep(request: VmaRequest): void {
    this.unblock();
    this.space.vmas.insert(request);
  }

  /** The place is not wanted any more: to be run again until it is DONE. Requires: `done`. */
  undo(): this {
    this.outcome = 'failure';
    this.giveBack();
    this.phase = GIVE_BACK;
    return this;
  }

  /** Throws what a verb throws when nobody has come to an agreement. */
  requireDone(argument: string, bytes: number): void {
    switch (this.outcome) {
      case 'done':
        return;
      case 'no room':
        throw fail('ENOMEM', argument, bytes, 'has no gap in the address space');
      case 'nomem':
        throw fail('ENOMEM', argument, bytes, `finds no place that every device takes: ${this.refusedBy} has refused the last one`);
      case 'failure':
        throw fail('ENODEV', argument, bytes, `is not reserved: ${this.refusedBy} has failed to`);
    }
  }

  private pick(): boolean {
    const { pages, at, base = this.space.base, alignPages = PEER_SHARED_PAGES } = this.request;
    const { vmas } = this.space;
    const limit = pagesOfNarrowest(this.space);
    const start = at ?? vmas.gap({ pages, base, alignPages, limit });
    if (start === undefined || start + pages > limit || !vmas.isFree(start, start + pages)) return false;
    this.start = start;
    this.block(start);
    this.peers.length = 0;
    for (const { peer } of this.space.mirrors) if (peer?.isReady) this.peers.push(peer);
    this.taken = 0;
    this.answer = undefined;
    return true;
  }

  /** Asks whoever has not been; a ticket: the one asked last has not answered. */
  private ask(): PeerAnswer | Ticket {
    const { pages, prot } = this.request;
    while (this.taken < this.peers.length) {
      const peer = this.peers[this.taken]!;
      const answer = this.answer ?? peer.reserve(this.start, pages, prot);
      if (isTicket(answer) && answer.state === 'pending') return (this.answer = answer);
      this.answer = undefined;
      const said = answerOf(answer);
      if (said !== 'success') {
        this.refusedBy = peer.name;
        this.tellRefused(peer.name, said);
        return said;
      }
      this.taken++;
    }
    return 'success';
  }

  /** Those that have taken the place lose it, the last one first. */
  private giveBack(): void {
    const { pages } = this.request;
    while (this.taken > 0) this.release(this.peers[--this.taken]!, this.start, pages);
  }

  private release(peer: PeerAddresses, vpn: number, pages: number): void {
    tellReleased(this.platform, this.space, peer.name, vpn, pages, 'rollback');
    const ticket = peer.release(vpn, pages);
    if (!ticket) return;
    this.givingBack.push(ticket);
    this.owners.push(peer);
  }

  private pending(): Ticket | undefined {
    return pendingOf(this.givingBack, this.owners);
  }

  private end(outcome: NegotiationOutcome): typeof DONE {
    this.outcome = outcome;
    if (outcome !== 'done') this.unblock();
    else this.tellDone();
    return DONE;
  }

  private block(start: number): void {
    this.space.vmas.insert({ start, end: start + this.request.pages, prot: 0, flags: VMA_ANONYMOUS | VMA_PRIVATE });
    this.blocked.push(start);
  }

  private unblock(): void {
    for (const start of this.blocked.splice(0)) this.space.vmas.remove(start, start + this.request.pages);
  }

  private tellDone(): void {
    const { events } = this.platform;
    if (!events.heard) return;
    const { pages, cause } = this.request;
    events.emit({
      type: 'va.negotiated',
      space: this.space.id,
      vpn: this.start,
      pages,
      peers: this.peers.length,
      retries: this.retries,
      cause,
    });
  }

  private tellRefused(device: string, answer: 'nomem' | 'failure'): void {
    const { events } = this.platform;
    const { pages, cause } = this.request;
    if (events.heard) events.emit({ type: 'va.refused', space: this.space.id, device, vpn: this.start, pages, answer, cause });
  }
}

/** What a peer has said. A ticket's completion is success; its failure says why: `nomem`, or anything else. Requires: not pending. */
export function answerOf(answer: PeerAnswer | Ticket): PeerAnswer {
  if (!isTicket(answer)) return answer;
  if (answer.state === 'done') return 'success';
  return answer.reason === 'nomem' ? 'nomem' : 'failure';
}

/** The first of the tickets that is pending; those before it are dropped, and a failed one is told to its owner. */
export function pendingOf(tickets: Ticket[], owners: PeerAddresses[]): Ticket | undefined {
  while (tickets.length > 0) {
    const ticket = tickets[0]!;
    if (ticket.state === 'pending') return ticket;
    if (ticket.state === 'failed') owners[0]!.lost(ticket);
    tickets.shift();
    owners.shift();
  }
  return undefined;
}

/** Peers give back what is peer-shared of `[start, end)`; tickets to wait for, and whose they are, are added. `only`: this one alone. */
export function releasePeers(
  platform: Platform,
  space: AddressSpace,
  { start, end, cause, only }: { readonly start: number; readonly end: number; readonly cause: VaCause; readonly only?: PeerAddresses },
  tickets: Ticket[],
  owners: PeerAddresses[],
): void {
  for (const { peer } of space.mirrors) {
    if (!peer?.isReady || (only && peer !== only)) continue;
    space.vmas.each(start, end, ({ flags }, from, to) => {
      if (!(flags & VMA_PEER_SHARED)) return;
      tellReleased(platform, space, peer.name, from, to - from, cause);
      const ticket = peer.release(from, to - from);
      if (!ticket) return;
      tickets.push(ticket);
      owners.push(peer);
    });
  }
}

/** One past the last page that every device of the space has an address for. */
export function pagesOfNarrowest(space: AddressSpace): number {
  let limit = space.last;
  for (const { pageLimit } of space.mirrors) limit = Math.min(limit, pageLimit);
  return limit;
}

/** Why a device cannot be attached to a space: what it has not taken. */
export function refusal(device: string, vpn: number, why: 'nomem' | 'failure' | 'width'): FarfaultError {
  const rule = {
    nomem: 'refuses addresses of memory that is peer-shared already',
    failure: 'fails to reserve addresses of memory that is peer-shared already',
    width: 'has no address for memory that is peer-shared already',
  }[why];
  return fail(why === 'failure' ? 'ENODEV' : 'ENOMEM', `attach ${device}, page`, vpn * L.PAGE_BYTES, rule);
}

function tellReleased({ events }: Platform, space: AddressSpace, device: string, vpn: number, pages: number, cause: VaCause): void {
  if (events.heard) events.emit({ type: 'va.released', space: space.id, device, vpn, pages, cause });
}

/**
 * A ticket stands for work that a device has not finished: a copy, a flush. A driver returns one instead of a result, and completes it
 * later, at any time. Steps wait for it; synchronous verbs stop with EBUSY and go on by themselves when it ends.
 */
import { fail } from '../errors.ts';
import type { Events } from '../events/stream.ts';
import { type Run, type Waitable, WaitQueue } from './step.ts';

/** Where the work behind a ticket stands. */
export type TicketState = 'pending' | 'done' | 'failed';

/** Tickets open at once: ids fit the 16 bits that a frame record has for one. */
export const TICKETS_MAX = 0xffff;

const BRAND = Symbol.for('farfault.ticket');

/** True for a ticket, whichever copy of the library made it. */
export function isTicket(value: unknown): value is Ticket {
  return typeof value === 'object' && value !== null && (value as { [BRAND]?: unknown })[BRAND] === true;
}

/** Who takes in what comes with the end of a ticket. */
export interface TicketReader {
  /** The work is over. Whoever waits for it goes on afterwards. */
  ended(ticket: Ticket): void;
}

/** Made by `TicketBook.open`. */
export class Ticket implements Waitable {
  /** 1 to TICKETS_MAX; used again after the ticket is closed. What a saved machine keeps. */
  readonly id: number;
  /** What is being done, for people: 'copy of 16 pages to the host'. */
  readonly label: string;
  private result: TicketState = 'pending';
  private why = '';
  private readonly waiters = new WaitQueue();
  private readers: TicketReader[] | undefined = undefined;
  private readonly book: TicketBook;

  constructor(id: number, what: string, book: TicketBook) {
    this.id = id;
    this.label = `ticket ${id} (${what})`;
    this.book = book;
  }

  // How `isTicket` knows one, also one that a saved machine had.
  static {
    Object.defineProperty(Ticket.prototype, BRAND, { value: true });
  }

  get state(): TicketState {
    return this.result;
  }

  /** Why it failed; empty otherwise. */
  get reason(): string {
    return this.why;
  }

  /** The work is done. Runs that wait go on: at once when no step is being run, else when that call into the machine ends. Once only. */
  complete(): void {
    this.close('done', '');
  }

  /** The work will not be done, because of `reason`. Runs that wait go on, and look at `state`. Once only. */
  fail(reason: string): void {
    if (typeof reason !== 'string') throw fail('EINVAL', 'ticket.fail reason', reason, 'is not text');
    this.close('failed', reason);
  }

  enqueue(run: Run): boolean {
    if (this.result !== 'pending') return false;
    this.waiters.add(run);
    return true;
  }

  leave(run: Run): void {
    this.waiters.leave(run);
  }

  /** @internal `reader` hears of its end before those who wait. Requires: it is pending. */
  readBy(reader: TicketReader): void {
    (this.readers ??= []).push(reader);
  }

  private close(result: TicketState, why: string): void {
    if (this.result !== 'pending') throw fail('EINVAL', 'ticket', this.label, `is already ${this.result}`);
    this.result = result;
    this.why = why;
    this.book.forget(this);
    const { readers } = this;
    this.readers = undefined;
    if (readers) for (const reader of readers) reader.ended(this);
    this.waiters.wakeAll();
  }
}

/** Opens tickets and knows the open ones. */
export class TicketBook {
  private readonly tickets = new Map<number, Ticket>();
  private last = 0;
  private readonly events: Events | undefined;

  /** `events`: where tickets are told of. */
  constructor(events?: Events) {
    this.events = events;
  }

  /** A new ticket for work that is described by `what`. Throws ENOMEM when TICKETS_MAX are open. */
  open(what: string): Ticket {
    if (this.tickets.size >= TICKETS_MAX) throw fail('ENOMEM', 'open tickets', this.tickets.size, 'is the limit');
    do this.last = (this.last % TICKETS_MAX) + 1;
    while (this.tickets.has(this.last));
    const ticket = new Ticket(this.last, what, this);
    this.tickets.set(ticket.id, ticket);
    if (this.events?.heard) this.events.emit({ type: 'ticket.opened', ticket: ticket.id, what });
    return ticket;
  }

  /** @internal A ticket has been closed. */
  forget(ticket: Ticket): void {
    this.tickets.delete(ticket.id);
    const { id, state, reason } = ticket;
    if (state !== 'pending' && this.events?.heard) this.events.emit({ type: 'ticket.closed', ticket: id, state, reason });
  }

  /** The open ticket with this id. */
  find(id: number): Ticket | undefined {
    return this.tickets.get(id);
  }

  /** The tickets that nobody has completed, oldest first. */
  get pending(): Ticket[] {
    return [...this.tickets.values()];
  }
}

/** Emptying the caches of a device, at once or later, and the ends of that. */
import { Ranges } from '../core/batch.ts';
import type { Platform } from '../mm/platform.ts';
import { DONE, type Progress, type Run, type Step } from '../step/step.ts';
import { isTicket, type Ticket } from '../step/ticket.ts';
import type { DeviceMirror } from './device-mirror.ts';

/** Ranges that are put off to a common flush. */
const DEFERRED_RANGES_MAX = 256;

/** Flushes of a context, as its driver was asked for them. */
export interface FlushCounts {
  /** Calls of `tlb.invalidate` and `tlb.invalidateCoalesced`. */
  flushes: number;
  /** Ranges in them. */
  ranges: number;
  /** Pages in them. */
  pages: number;
}

/** The flushes of one context: those that are made, put off, and unfinished. */
export class Flushes {
  /** So far. */
  readonly counts: FlushCounts = { flushes: 0, ranges: 0, pages: 0 };
  private readonly platform: Platform;
  private readonly mirror: DeviceMirror;
  /** Oldest first; some of them have ended. */
  private readonly tickets: Ticket[] = [];
  /** What is to be flushed when somebody must wait for it. */
  private deferred: { readonly ranges: Ranges; readonly ticket: Ticket } | undefined;

  constructor(platform: Platform, mirror: DeviceMirror) {
    this.platform = platform;
    this.mirror = mirror;
  }

  /** @internal Empties the caches of these pages. A ticket: they are not yet. Throws what the driver throws. */
  make(ranges: Ranges): Ticket | undefined {
    const { tlb } = this.mirror;
    if (!tlb) return undefined;
    const { counts } = this;
    counts.flushes++;
    counts.ranges += ranges.count;
    counts.pages += ranges.pages;
    const answer = ranges.count > 1 && tlb.invalidateCoalesced ? tlb.invalidateCoalesced(ranges) : tlb.invalidate(ranges);
    return isTicket(answer) ? answer : undefined;
  }

  /** @internal One page has left the caches, in the core. */
  countOne(): void {
    const { counts } = this;
    counts.flushes++;
    counts.ranges++;
    counts.pages++;
  }

  /** @internal The same later, together with what else is taken away until somebody must wait. */
  putOff(ranges: Ranges): Ticket {
    const { tickets } = this.platform;
    const deferred = (this.deferred ??= { ranges: new Ranges(), ticket: tickets.open(`${this.mirror.name}: deferred flush`) });
    ranges.each((vpn, pages) => deferred.ranges.add(vpn, pages));
    if (deferred.ranges.count >= DEFERRED_RANGES_MAX) this.flushDeferred();
    else this.platform.deferFlush(this);
    return deferred.ticket;
  }

  /** @internal Makes what was put off. */
  flushDeferred(): void {
    const { deferred, mirror } = this;
    if (!deferred) return;
    this.deferred = undefined;
    let flushed: Ticket | undefined;
    try {
      flushed = mirror.failure ? undefined : this.make(deferred.ranges);
    } catch (error) {
      mirror.failWith(error);
    }
    if (flushed) this.platform.scheduler.spawn(new FlushEnd(flushed, deferred.ticket));
    else if (deferred.ticket.state === 'pending') deferred.ticket.complete();
  }

  /** @internal One that may be unfinished. */
  add(ticket: Ticket | undefined): void {
    if (ticket) this.tickets.push(ticket);
  }

  /** @internal The oldest that is not finished. */
  get unfinished(): Ticket | undefined {
    const { tickets } = this;
    while (tickets.length > 0 && tickets[0]!.state !== 'pending') tickets.shift();
    return tickets[0];
  }
}

/** Ends a ticket when another one has ended. */
export class FlushEnd implements Step {
  readonly name = 'deferred flush';
  private readonly flushed: Ticket;
  private readonly waited: Ticket;

  constructor(flushed: Ticket, waited: Ticket) {
    this.flushed = flushed;
    this.waited = waited;
  }

  next(run: Run): Progress {
    if (this.flushed.state === 'pending') return run.waitFor(this.flushed);
    if (this.waited.state === 'pending') this.waited.complete();
    return DONE;
  }
}

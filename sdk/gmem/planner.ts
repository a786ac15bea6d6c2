/**
 * How pages are brought to a device and taken from it: in steps, or in one go.
 *
 * ```
 *   bring    alloc -> copy or zero -> enter (-> flush)              or   peer.map
 *   take     release -> flush -> copy -> free                       or   peer.unmap, then free
 *   drop     release -> flush                                       or   peer.unmap without bytes
 * ```
 *
 * The order is the framework's (`Migration`), whoever does the work: nothing is copied before the flush has ended, nothing is freed before the copy has, and what fails is undone. A driver with the family
 * `peer` gets each of the three as one batch, `policy.form` may say otherwise; both forms leave the same memory. Models: `gm_mmu.peer_map`, `gm_mmu.peer_unmap` beside the decoupled operations.
 */
import type { Ranges } from '../core/batch.ts';
import { fail } from '../errors.ts';
import type { AttachMode } from '../mm/attach.ts';
import type { PeerContext } from '../mm/device-memory.ts';
import { PeerBatch, type PeerBehaviour, type PeerCode } from '../mm/peer-batch.ts';
import { MIGRATING_RETRIES_MAX } from '../mm/peer-moves.ts';
import type { Platform } from '../mm/platform.ts';
import type { DevicePolicy } from '../policy/policy.ts';
import { AGAIN, DONE, type Progress, type Run, type Step } from '../step/step.ts';
import { isTicket, type Ticket, type TicketReader } from '../step/ticket.ts';
import type { Context } from './context.ts';
import type { DeviceMirror } from './device-mirror.ts';
import type { GmMmu, Peer } from './driver.ts';

/** What a device that brings and takes pages by itself was asked for: calls, items in them, how the items ended. */
export interface PeerCounts {
  maps: number;
  unmaps: number;
  items: number;
  readonly codes: Record<PeerCode, number>;
}

/** Which form the operations of a context have. */
export function formOf(mmu: GmMmu, policy: DevicePolicy, mode: AttachMode): 'coupled' | 'decoupled' {
  return mmu.peer !== undefined && mode !== 'share' && policy.form !== 'decoupled' ? 'coupled' : 'decoupled';
}

/** A context in the coupled form. */
export class Coupled implements PeerContext, TicketReader {
  readonly counts: PeerCounts = {
    maps: 0,
    unmaps: 0,
    items: 0,
    codes: { success: 0, nomem: 0, 'page exists': 0, migrating: 0, 'dma error': 0, unimplemented: 0, failure: 0 },
  };
  private readonly platform: Platform;
  private readonly mirror: DeviceMirror;
  /** Pages with WILLNEED: the device is sending them away, and is to keep them. */
  private readonly needed: Set<number> = new Set();
  /** Batches whose results are not in. */
  private readonly unread: { readonly ticket: Ticket; readonly batch: PeerBatch; readonly isDrop: boolean }[] = [];

  constructor(platform: Platform, mirror: DeviceMirror) {
    this.platform = platform;
    this.mirror = mirror;
  }

  get isGone(): boolean {
    return !this.mirror.isAttached || this.mirror.failure !== undefined;
  }

  get isInvalidating(): boolean {
    return this.mirror.isInvalidating;
  }

  bring(batch: PeerBatch): Ticket | undefined {
    this.counts.maps++;
    return this.call('map', batch, false);
  }

  take(batch: PeerBatch): Ticket | undefined {
    this.counts.unmaps++;
    return this.call('unmap', batch, false);
  }

  drop(batch: PeerBatch): Ticket | undefined {
    this.counts.unmaps++;
    return this.call('unmap', batch, true);
  }

  /** Takes the translations of pages away, whatever is behind them. A driver that cannot is out of the game. */
  dropRanges(ranges: Ranges): Ticket | undefined {
    const batch = new PeerBatch(this.platform, this.mirror.device).clear(false);
    ranges.each((vpn, pages) => void batch.add(vpn, pages, 'none'));
    return this.drop(batch);
  }

  translatesTo(vpn: number, frame: number): boolean {
    return this.mirror.translatesTo(vpn, frame);
  }

  want(vpn: number): void {
    this.needed.add(vpn);
  }

  unwant(vpn: number): void {
    if (this.needed.size > 0) this.needed.delete(vpn);
  }

  /** Whether a page has WILLNEED; it has not any more. */
  claim(vpn: number): boolean {
    return this.needed.delete(vpn);
  }

  attributesAt(vpn: number): number {
    return this.mirror.attributesAt(vpn);
  }

  private call(operation: 'map' | 'unmap', batch: PeerBatch, isDrop: boolean): Ticket | undefined {
    const { mirror } = this;
    this.counts.items += batch.count;
    // One that has failed, or left, is not asked any more: what it had is gone.
    if (this.isGone) {
      for (let i = 0; i < batch.count; i++) batch.answer(batch.item(i), isDrop ? 'success' : 'failure');
      return undefined;
    }
    const peer = mirror.mmu.peer as Peer;
    let answer: Ticket | void;
    try {
      answer = operation === 'map' ? peer.map(batch) : peer.unmap(batch);
    } catch (error) {
      const failed = mirror.failWith(error);
      if (isDrop) return undefined;
      throw failed;
    }
    if (!isTicket(answer)) {
      this.read(batch, isDrop);
      return undefined;
    }
    this.unread.push({ ticket: answer, batch, isDrop });
    if (answer.state === 'pending') answer.readBy(this);
    else this.ended(answer);
    return answer;
  }

  /** Reads the results that have come: whoever waits for a drop frees the pages next. */
  ended(ticket: Ticket): void {
    for (let at = 0; at < this.unread.length; at++) {
      if (this.unread[at]!.ticket !== ticket) continue;
      const [{ batch, isDrop }] = this.unread.splice(at--, 1) as [(typeof this.unread)[number]];
      // One that was broken off by a reset is over, as a flush is.
      if (ticket.state === 'done' || !isDrop) this.read(batch, isDrop);
    }
  }

  private read(batch: PeerBatch, isDrop: boolean): void {
    let refused: PeerCode | undefined;
    for (let i = 0; i < batch.count; i++) {
      const { code, vpn } = batch.item(i);
      this.counts.codes[code]++;
      if (isDrop) this.unwant(vpn);
      if (isDrop && code !== 'success') refused = code;
    }
    // Taking away cannot fail.
    if (refused !== undefined)
      this.mirror.failWith(fail('EIO', `${this.mirror.name}.peer.unmap result`, refused, 'is no way to end what must go'));
  }
}

/** How a touch ended. */
export type TouchOutcome = 'done' | 'migrating' | 'no memory' | 'refused';

/** The step that has a device enter translations of pages that are on it already. Models: `peer_map` of a page in the state DEVICE, which refreshes it. */
export class Touch implements Step {
  readonly name = 'touch';
  outcome: TouchOutcome = 'done';
  private readonly platform: Platform;
  private context!: Context;
  private batch: PeerBatch | undefined;
  private ticket: Ticket | undefined;
  private wait: Ticket | undefined;
  private vpn = 0;
  private pages = 1;
  private frame = 0;
  private write = false;
  private access: 'read' | 'write' = 'read';
  private behaviour: PeerBehaviour = 'none';
  private rounds = 0;

  constructor(platform: Platform) {
    this.platform = platform;
  }

  /** The pages `[vpn, vpn + pages)` of the device's own memory from `frame` on. */
  of(context: Context, vpn: number, pages: number, frame: number, write: boolean, access: 'read' | 'write'): this {
    this.context = context;
    this.vpn = vpn;
    this.pages = pages;
    this.frame = frame;
    this.write = write;
    this.access = access;
    this.behaviour = 'none';
    this.rounds = 0;
    this.batch = undefined;
    this.ticket = undefined;
    this.wait = undefined;
    return this;
  }

  next(run: Run): Progress {
    const coupled = this.context.coupled!;
    if (this.ticket?.state === 'pending') return run.waitFor(this.ticket);
    if (this.wait?.state === 'pending') return run.waitFor(this.wait);
    if (!this.batch || this.wait) {
      this.ask(coupled);
      return AGAIN;
    }
    const item = this.batch.item(0);
    this.batch = undefined;
    const { code } = this.ticket?.state === 'failed' ? { code: 'failure' as const } : item;
    if (code === 'migrating' && this.rounds <= MIGRATING_RETRIES_MAX && !coupled.isGone) {
      coupled.want(this.vpn);
      this.wait = item.until;
      return this.wait?.state === 'pending' ? run.waitFor(this.wait) : AGAIN;
    }
    coupled.unwant(this.vpn);
    const isThere = code === 'success' || (code === 'page exists' && coupled.translatesTo(this.vpn, this.frame));
    this.outcome = isThere ? 'done' : code === 'migrating' ? 'migrating' : code === 'nomem' ? 'no memory' : 'refused';
    return DONE;
  }

  abort(): void {
    this.context.coupled!.unwant(this.vpn);
  }

  private ask(coupled: Coupled): void {
    this.rounds++;
    this.wait = undefined;
    this.batch = new PeerBatch(this.platform, this.context.device).clear(true);
    const item = this.batch.add(this.vpn, this.pages, 'keep');
    this.batch.at(item, this.frame);
    item.write = this.write;
    item.access = this.access;
    item.behaviour = this.rounds > 1 ? 'will need' : this.behaviour;
    item.attributes = coupled.attributesAt(this.vpn);
    this.ticket = coupled.bring(this.batch);
  }
}

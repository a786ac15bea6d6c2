/**
 * The part of a migration that a device does by itself: between "every page has its target" and "the entries change" stand the results of its batches, instead of copies, clearing and
 * translations in steps.
 *
 * ```
 *   list      one item for each word that moves; a page whose target the device chooses has none yet
 *   hand      peer.map or peer.unmap, once for each context; a ticket is waited for
 *   read      success, or `page exists` that is seen to be true: moves. migrating: WILLNEED is set, and that item is asked again. Anything else: stays, with its bytes
 *   undo      what was brought, and cannot stay (a late pin, somebody's change under way), is taken again
 * ```
 */
import * as L from '../../assembly/layout.ts';
import { Stack } from '../step/stack.ts';
import type { Ticket } from '../step/ticket.ts';
import type { Run, Waitable } from '../step/step.ts';
import type { AddressSpace } from './address-space.ts';
import type { MigrationDevice, PeerContext } from './device-memory.ts';
import type { MigrationWords } from './migration-words.ts';
import { PeerBatch, type PeerBehaviour, type PeerCode, type PeerItem } from './peer-batch.ts';
import type { Platform } from './platform.ts';

/** How often an item that is `migrating` is asked for again, before its page stays where it is. */
export const MIGRATING_RETRIES_MAX = 10;

/** The items for one context. */
interface Part {
  context: PeerContext;
  batch: PeerBatch;
  ticket: Ticket | undefined;
  /** Nobody but this move knows the batch any more: no ticket came with its results. */
  isOurs: boolean;
  /** Words that are to be asked again. */
  readonly again: number[];
  /** What their devices said when they know more. */
  readonly waits: Ticket[];
}

/** Which page of which space stands for a word of a migration by frame; vpn -1: none that the device has. */
export interface WordPlace {
  context: PeerContext;
  vpn: number;
}

/** Where the words of a migration are. */
export interface WordPlaces {
  /** Lent until the next call. */
  placeOf(word: number): Readonly<WordPlace>;
}

/** What is asked for with the pages that are brought. */
export interface PeerRequest {
  readonly wanted: number;
  readonly access: 'read' | 'write' | 'none';
  readonly behaviour: PeerBehaviour;
}

/** The batches of one migration. Made at the first of a device that has the family; reused. */
export class PeerMoves {
  /** How the wanted page ended, or else the first that did not move; `success` when all did. */
  code: PeerCode = 'success';
  private readonly platform: Platform;
  private readonly parts = new Stack<Part>();
  /** Parts of moves that are over, to be filled again. */
  private readonly spare = new Stack<Part>();
  private words!: MigrationWords;
  private toDevice = true;
  private vpn = 0;
  private wanted = -1;
  private rounds = 0;
  /** Holes that the device fills, until the move is over: first page and number of pages in turn. */
  private readonly holes: number[] = [];
  private filled: AddressSpace | undefined;
  /** Words whose translation the device has, after `map`: the first `mappings` of them. */
  private readonly mapped: number[] = [];
  private mappings = 0;

  constructor(platform: Platform) {
    this.platform = platform;
  }

  /** Pages of a range go to the device. */
  bring(
    words: MigrationWords,
    device: MigrationDevice,
    context: PeerContext,
    space: AddressSpace,
    vpn: number,
    request: PeerRequest,
  ): this {
    this.begin(words, vpn, true, request.wanted);
    const part = this.partFor(context, device, true);
    const { batch } = part;
    const writable = space.writable(vpn);
    for (let i = 0; i < words.count; i++) {
      if (!words.moves(i) || !words.fits(i)) continue;
      const valid = (words.bits(i) & L.MIGRATE_VALID) !== 0;
      if (!valid && space.arrivals.meets(vpn + i, words.span(i))) {
        // Another device fills that hole.
        words.refuse(i);
        words.dropLater(i);
        continue;
      }
      const item = batch.add(vpn + i, words.span(i), valid ? 'copy' : 'zero');
      item.word = i;
      item.write = valid ? (words.bits(i) & L.MIGRATE_WRITE) !== 0 : writable;
      const isWanted = request.wanted >= item.vpn && request.wanted < item.vpn + item.pages;
      item.access = isWanted ? request.access : 'none';
      item.behaviour = isWanted ? request.behaviour : 'will need';
      item.attributes = context.attributesAt(item.vpn);
      if (valid) batch.from(item, words.frame(i));
      else this.fills(space, item);
      if (words.isLater(i)) item.memory = 0;
      else batch.at(item, words.targetFrame(i));
    }
    if (batch.count > 0) this.parts.push(part);
    return this;
  }

  /** Pages come home. */
  take(words: MigrationWords, device: MigrationDevice, places: WordPlaces, wanted: number): this {
    this.begin(words, 0, false, wanted);
    for (let i = 0; i < words.count; i++) {
      if (!words.moves(i) || !words.fits(i)) continue;
      const place = places.placeOf(i);
      const part = this.partOf(place.context, device);
      const item = part.batch.add(place.vpn, words.span(i), 'copy');
      item.word = i;
      part.batch.at(item, words.frame(i));
      part.batch.from(item, words.targetFrame(i));
      item.attributes = place.vpn < 0 ? 0 : place.context.attributesAt(place.vpn);
    }
    return this;
  }

  private partOf(context: PeerContext, device: MigrationDevice): Part {
    const { parts } = this;
    for (let i = 0; i < parts.length; i++) if (parts.at(i).context === context) return parts.at(i);
    const part = this.partFor(context, device, false);
    this.parts.push(part);
    return part;
  }

  private partFor(context: PeerContext, device: MigrationDevice, toDevice: boolean): Part {
    let part = this.spare.pop();
    if (!part?.batch.isFor(device))
      part = { context, batch: new PeerBatch(this.platform, device), ticket: undefined, isOurs: true, again: [], waits: [] };
    part.context = context;
    part.batch.clear(toDevice);
    return part;
  }

  private fills(space: AddressSpace, { vpn, pages }: PeerItem): void {
    this.filled = space;
    this.holes.push(vpn, pages);
    space.arrivals.comes(vpn, pages);
  }

  /** The move is over: the table of the space says now where the pages are. */
  end(): void {
    const { holes } = this;
    for (let i = 0; i < holes.length; i += 2) this.filled!.arrivals.came(holes[i]!, holes[i + 1]!);
    holes.length = 0;
    this.filled = undefined;
    for (let part = this.parts.pop(); part; part = this.parts.pop()) if (part.isOurs) this.spare.push(part);
  }

  private begin(words: MigrationWords, vpn: number, toDevice: boolean, wanted: number): void {
    this.words = words;
    this.vpn = vpn;
    this.toDevice = toDevice;
    this.wanted = wanted;
    this.code = 'success';
    this.rounds = 0;
    this.parts.clear();
    this.mappings = 0;
    this.started = false;
  }

  private started = false;

  /** Does the next piece: undefined when every item has ended, 'again' to be called again, or what to wait for. */
  next(_run: Run): Waitable | 'again' | undefined {
    // Once for each granule: no iterators.
    const { parts } = this;
    if (!this.started) {
      this.started = true;
      for (let i = 0; i < parts.length; i++) this.hand(parts.at(i));
    }
    for (let i = 0; i < parts.length; i++) if (parts.at(i).ticket?.state === 'pending') return parts.at(i).ticket;
    let asks = false;
    for (let i = 0; i < parts.length; i++) {
      const part = parts.at(i);
      if (part.ticket || part.batch.count > 0) this.read(part);
      part.ticket = undefined;
      for (let j = 0; j < part.waits.length; j++) if (part.waits[j]!.state === 'pending') return part.waits[j];
      if (part.again.length > 0) asks = true;
    }
    if (!asks) return undefined;
    this.rounds++;
    for (let i = 0; i < parts.length; i++) {
      const part = parts.at(i);
      if (this.rounds > MIGRATING_RETRIES_MAX || part.context.isGone) this.giveUp(part);
      else this.askAgain(part);
    }
    return this.rounds > MIGRATING_RETRIES_MAX ? undefined : 'again';
  }

  private hand(part: Part): void {
    part.ticket = this.toDevice ? part.context.bring(part.batch) : part.context.take(part.batch);
    part.isOurs = part.ticket === undefined;
  }

  /** Takes the results in. An item that has been read is not read again. */
  private read(part: Part): void {
    const { batch, context, again, waits } = part;
    again.length = 0;
    waits.length = 0;
    if (part.ticket?.state === 'failed') for (let i = 0; i < batch.count; i++) batch.answer(batch.item(i), 'failure');
    for (let i = 0; i < batch.count; i++) {
      const item = batch.item(i);
      const code = this.verified(item, context);
      if (code === 'success') this.done(item);
      else if (code === 'migrating') {
        batch.takeBack(item);
        if (item.vpn >= 0 && this.toDevice) context.want(item.vpn);
        if (item.vpn >= 0 && !this.toDevice) context.want(item.vpn);
        again.push(item.index);
        if (item.until) waits.push(item.until);
      } else this.refuse(item, code, batch);
      if (code !== 'migrating' && item.vpn >= 0) context.unwant(item.vpn);
    }
    if (again.length === 0) batch.clear(this.toDevice);
  }

  /** A device that says "it is there already" is asked whether it is. */
  private verified(item: PeerItem, context: PeerContext): PeerCode {
    if (item.code !== 'page exists') return item.code;
    if (!this.toDevice) return 'failure';
    return item.frame >= 0 && context.translatesTo(item.vpn, item.frame) ? 'success' : 'failure';
  }

  private done(item: PeerItem): void {
    if (!this.toDevice) return;
    if (item.placed) {
      this.words.aim(item.word, item.frame, item.pages > 1);
      item.placed = false;
    }
    this.mapped[this.mappings++] = item.word;
  }

  private refuse(item: PeerItem, code: PeerCode, batch: PeerBatch): void {
    batch.takeBack(item);
    const isWanted = this.wanted >= item.vpn && this.wanted < item.vpn + item.pages;
    if (this.code === 'success' || isWanted) this.code = code;
    this.words.refuse(item.word);
    this.words.dropLater(item.word);
  }

  private giveUp(part: Part): void {
    for (const i of part.again) {
      const item = part.batch.item(i);
      this.refuse(item, 'migrating', part.batch);
      if (item.vpn >= 0) part.context.unwant(item.vpn);
    }
    part.again.length = 0;
  }

  /** The same items again, in a batch of their own. */
  private askAgain(part: Part): void {
    if (part.again.length === 0) return;
    const old = part.batch;
    const batch = old.among(part.again);
    part.batch = batch;
    part.again.length = 0;
    part.waits.length = 0;
    this.hand(part);
  }

  /**
   * After the commit: what the device was given, and may not keep, is taken from it again, with its bytes where the page did not move. Tickets of what is unfinished are appended.
   */
  undo(device: MigrationDevice, context: PeerContext, tickets: Ticket[]): void {
    if (!this.toDevice || this.mappings === 0) return;
    const leaves = context.isInvalidating;
    const batch = new PeerBatch(this.platform, device).clear(false);
    for (let at = 0; at < this.mappings; at++) {
      const i = this.mapped[at]!;
      const moved = this.words.moves(i);
      if (moved && !leaves) continue;
      // A hole that somebody else has filled leaves nothing behind.
      const back = !moved && (this.words.bits(i) & L.MIGRATE_VALID) !== 0;
      const item = batch.add(this.vpn + i, this.words.span(i), back ? 'copy' : 'none');
      if (!back) continue;
      batch.at(item, this.words.targetFrame(i));
      batch.from(item, this.words.frame(i));
    }
    if (batch.count === 0) return;
    const ticket = context.drop(batch);
    if (ticket) tickets.push(ticket);
  }

  /** The migration is broken off. */
  abort(): void {
    const parts = this.parts.toArray();
    this.parts.clear();
    this.end();
    for (const { batch, context } of parts) {
      batch.takeAllBack();
      batch.each((item) => {
        if (item.vpn >= 0) context.unwant(item.vpn);
      });
    }
  }
}

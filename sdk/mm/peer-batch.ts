/**
 * A batch for a device that does by itself what the framework otherwise does in steps: bring these pages, take those. One item for each page, or huge page, or, where nothing is
 * copied, for each range; one result for each item.
 *
 * ```
 *   bring (peer.map)     copy   the bytes come from a page of the host        take (peer.unmap)   copy   the bytes go to a page of the host
 *                        zero   the page begins as zeros                                          none   the translations go, the bytes are nobody's business
 *                        keep   the page is on the device: only its translation is missing
 * ```
 *
 * Models: `gm_fault_t`, and `gm_ret` without its numbers, which differ between its versions.
 */
import * as L from '../../assembly/layout.ts';
import { Copies, type CopyGround, Mappings, Ranges } from '../core/batch.ts';
import { fail } from '../errors.ts';
import { isTicket, type Ticket } from '../step/ticket.ts';
import { type NamesOf, requireOptions, requireWord } from './arguments.ts';
import type { MigrationDevice } from './device-memory.ts';
import type { Platform } from './platform.ts';

/**
 * How one item ended. `success`: all of it is done. `nomem`: the device has no room. `page exists`: it had been done before. `migrating`: the device is sending that very page away just now; it is to be
 * asked again. `dma error`, `unimplemented`, `failure`: nothing has been done. Every one but `success` and `page exists` leaves the device as it was.
 */
export type PeerCode = 'success' | 'nomem' | 'page exists' | 'migrating' | 'dma error' | 'unimplemented' | 'failure';

/** All result codes. */
export const PEER_CODES: readonly PeerCode[] = ['success', 'nomem', 'page exists', 'migrating', 'dma error', 'unimplemented', 'failure'];

/** What becomes of the bytes. */
export type PeerBytes = 'copy' | 'zero' | 'keep' | 'none';

/** Why pages are brought: for an access, or ahead of one. Models: `gm_fault_hint`, the behaviour of E, with a word for none. */
export type PeerBehaviour = 'none' | 'will need';

/** One page or range. Borrowed until the operation has returned, or its ticket is closed. */
export class PeerItem {
  /** Its place in the batch. */
  index = 0;
  /** First virtual page; -1: the device does not translate to it in this space, only the bytes are wanted. */
  vpn = 0;
  /** 1, or 512 for a huge page; any number where nothing is copied. */
  pages = 1;
  bytes: PeerBytes = 'none';
  /** First page in the device's memory; -1: the device chooses it with `batch.place`, or, where nothing is copied, none is meant. */
  page = -1;
  /** Which of its memories; -1: none is meant. */
  memory = -1;
  /** First page of the host on the other side of a copy; -1 without one. */
  host = -1;
  /** Whether the space allows the device to write. */
  write = false;
  /** What the device wanted to do there; `none` when nobody has asked. */
  access: 'read' | 'write' | 'none' = 'none';
  behaviour: PeerBehaviour = 'none';
  /** Bits that the program or the driver has given the page, see `context.setAttributes`. */
  attributes = 0;
  /** @internal */
  frame: number = L.FRAME_NONE;
  /** @internal */
  hostFrame: number = L.FRAME_NONE;
  /** @internal */
  placed = false;
  /** @internal */
  code: PeerCode = 'failure';
  /** @internal */
  until: Ticket | undefined = undefined;
  /** @internal Word of the migration. */
  word = 0;
}

/** What goes with an answer. */
export interface PeerAnswerOptions {
  /** With `migrating`: ends when the device knows what becomes of the page. Without it the framework asks again at once, a few times. */
  readonly until?: Ticket;
}

const ANSWER_OPTIONS: NamesOf<PeerAnswerOptions> = { until: true };

/** Items for one call of `peer.map` or `peer.unmap`. Filled by its owner, lent to the driver. */
export class PeerBatch implements CopyGround {
  private readonly platform: Platform;
  private readonly device: MigrationDevice;
  private readonly items: PeerItem[] = [];
  private readonly spans: Ranges = new Ranges();
  private readonly entries: Mappings = new Mappings(this);
  private readonly lent: Copies;
  private used = 0;
  private toDevice = true;

  constructor(platform: Platform, device: MigrationDevice) {
    this.platform = platform;
    this.device = device;
    this.lent = new Copies(this);
  }

  /** How many items. */
  get count(): number {
    return this.used;
  }

  /** Item `i`. */
  item(i: number): PeerItem {
    if (!Number.isInteger(i) || i < 0 || i >= this.used) throw fail('EINVAL', 'batch.item', i, `is not one of the ${this.used} items`);
    return this.items[i]!;
  }

  /** All items, in the order of the batch. */
  list(): readonly PeerItem[] {
    return this.items.slice(0, this.used);
  }

  /** Calls `visit` once for every item, in the order of the batch. */
  each(visit: (item: PeerItem) => void): void {
    for (let i = 0; i < this.used; i++) visit(this.items[i]!);
  }

  /** The pages of an item, or of all that have some, as the families `pmap` and `tlb` take them. Borrowed until the next call. */
  ranges(item?: PeerItem): Ranges {
    const ranges = this.spans.clear();
    const count = item ? 1 : this.used;
    for (let i = 0; i < count; i++) {
      const each = item ?? this.items[i]!;
      if (each.vpn >= 0) ranges.add(each.vpn, each.pages);
    }
    return ranges;
  }

  /** The translations of an item that is brought, as `pmap.enter` takes them. Requires: it has its page. Borrowed until the next call. */
  mappings(item: PeerItem): Mappings {
    const mappings = this.entries.clear();
    if (item.frame < 0) throw fail('EINVAL', 'batch.mappings item', item.vpn, 'has no page of the device yet (batch.place)');
    for (let page = 0; page < item.pages; page++) mappings.add(item.vpn + page, item.frame + page, item.write, item.attributes);
    return mappings;
  }

  /** What is to be copied, or cleared, for an item: empty for one without bytes. Requires: the item has its page. Borrowed until the next call; `keep` it for later. */
  copies(item: PeerItem): Copies {
    const list = this.lent.clear();
    if (item.bytes !== 'copy' && item.bytes !== 'zero') return list;
    if (item.frame < 0) throw fail('EINVAL', 'batch.copies item', item.vpn, 'has no page of the device yet (batch.place)');
    for (let page = 0; page < item.pages; page++) {
      if (item.bytes === 'zero') list.add(-1, item.frame + page);
      else if (this.toDevice) list.add(item.hostFrame + page, item.frame + page);
      else list.add(item.frame + page, item.hostFrame + page);
    }
    return list;
  }

  /**
   * Says which page of its memory the device gives an item that has none. From now on it is in use; when the item does not succeed it is given back with `peer.freePage`. Errors: EINVAL for an item that has its
   * page, a page that is not in the memory, or one that is in use.
   */
  place(item: PeerItem, page: number): void {
    const memory = this.memoryAt(item.memory);
    if (item.page >= 0 || !memory || item.bytes === 'none')
      throw fail('EINVAL', 'batch.place item', item.vpn, 'is not one that the device chooses a page for');
    if (!Number.isInteger(page) || page < 0 || page + item.pages > memory.node.frames || page % item.pages !== 0)
      throw fail('EINVAL', 'batch.place page', page, `is not a page for ${item.pages} below ${memory.node.frames}`);
    const frame = memory.node.base + page;
    if (!this.platform.core.exports.frameClaim(frame, Math.log2(item.pages)))
      throw fail('EINVAL', 'batch.place page', page, 'is in use already');
    item.page = page;
    item.frame = frame;
    item.placed = true;
  }

  /** Says how an item ended. An item without an answer has ended in `failure`. The last answer counts. */
  answer(item: PeerItem, code: PeerCode, options?: PeerAnswerOptions): void {
    requireWord('batch.answer code', code, PEER_CODES);
    if (options !== undefined) requireOptions('batch.answer', options, ANSWER_OPTIONS);
    const until = options?.until;
    if (until !== undefined && !isTicket(until)) throw fail('EINVAL', 'batch.answer until', until, 'is not a ticket');
    if ((code === 'success' || code === 'page exists') && item.page < 0 && item.bytes !== 'none')
      throw fail('EINVAL', 'batch.answer item', item.vpn, 'has no page of the device (batch.place)');
    item.code = code;
    item.until = until;
  }

  // -------------------------------------------------------------------------------------------------------------- for its owner

  private memoryAt(index: number): MigrationDevice['memories'][number] | undefined {
    for (const each of this.device.memories) if (this.device.memoryOf(each.node.base) === index) return each;
    return undefined;
  }

  /** @internal Whether it is a batch for this device. */
  isFor(device: MigrationDevice): boolean {
    return this.device === device;
  }

  /** @internal Empties it. */
  clear(toDevice: boolean): this {
    this.used = 0;
    this.toDevice = toDevice;
    return this;
  }

  /** @internal A new item, all of whose fields are as in an item of nothing. */
  add(vpn: number, pages: number, bytes: PeerBytes): PeerItem {
    const item = (this.items[this.used] ??= new PeerItem());
    item.index = this.used++;
    item.vpn = vpn;
    item.pages = pages;
    item.bytes = bytes;
    item.page = -1;
    item.memory = -1;
    item.host = -1;
    item.write = false;
    item.access = 'none';
    item.behaviour = 'none';
    item.attributes = 0;
    item.frame = L.FRAME_NONE;
    item.hostFrame = L.FRAME_NONE;
    item.placed = false;
    item.code = 'failure';
    item.until = undefined;
    item.word = 0;
    return item;
  }

  /** @internal The device's side. */
  at(item: PeerItem, frame: number): void {
    item.frame = frame;
    item.page = this.pageOf(frame);
    item.memory = this.memoryOf(frame);
  }

  /** @internal The host's side. */
  from(item: PeerItem, frame: number): void {
    item.hostFrame = frame;
    item.host = this.pageOf(frame);
  }

  /** @internal A batch of the same items, without what was answered. */
  among(indices: readonly number[]): PeerBatch {
    const batch = new PeerBatch(this.platform, this.device).clear(this.toDevice);
    for (const i of indices) {
      const old = this.items[i]!;
      const item = batch.add(old.vpn, old.pages, old.bytes);
      item.word = old.word;
      item.write = old.write;
      item.access = old.access;
      item.behaviour = old.behaviour;
      item.attributes = old.attributes;
      item.memory = old.memory;
      item.page = old.page;
      item.frame = old.frame;
      item.host = old.host;
      item.hostFrame = old.hostFrame;
    }
    return batch;
  }

  /** @internal A page that the device has chosen goes back: its item did not succeed. */
  takeBack(item: PeerItem): void {
    if (!item.placed) return;
    item.placed = false;
    this.platform.core.exports.framePut(item.frame);
    item.frame = L.FRAME_NONE;
    item.page = -1;
    this.platform.settleFreed();
  }

  /** @internal Every page that the device has chosen, and nobody has. */
  takeAllBack(): void {
    for (let i = 0; i < this.used; i++) this.takeBack(this.items[i]!);
  }

  // What a list of copies asks for.

  memoryOf(frame: number): number {
    return this.device.memoryOf(frame);
  }

  pageOf(frame: number): number {
    return this.platform.nodes.pageOf(frame);
  }

  copyRun(from: number, to: number, pages: number): void {
    this.platform.core.exports.frameCopy(from, to, pages);
  }

  bytesOf(frame: number, pages: number): Uint8Array {
    const { core } = this.platform;
    const at = core.frameBytes(frame);
    return core.u8.subarray(at, at === 0 ? 0 : at + pages * L.PAGE_BYTES);
  }
}

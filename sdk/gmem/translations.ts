/**
 * The translations of a table, or of a cache, that a driver keeps by itself: what a `Map` from page to `Translation` would be, without an object for any of them.
 *
 * ```
 *   slots      page -> slot
 *   pages      [ 17 | 18 |  3 | 40 ]     by slot: the page in its memory; of a free slot, the next one that is free, plus one
 *   memories   [  0 |  0 |  . | -1 ]
 *   rights     [  1 |  1 |  . |  0 ]     1: writes are allowed
 * ```
 */
import type { Mappings, Ranges } from '../core/batch.ts';
import { PageMap } from '../core/page-map.ts';
import type { Translation } from './driver.ts';

/** Slots that there are when there is any. */
const FEW = 16;

/** Translations by virtual page number, in the order in which their pages came. */
export class Translations {
  private readonly slots: PageMap = new PageMap();
  private pages: Uint32Array = new Uint32Array(0);
  private memories: Int32Array = new Int32Array(0);
  private rights: Uint8Array = new Uint8Array(0);
  /** Slots that were in use at any time, and one that is free again, plus one; 0: none. */
  private used = 0;
  private free = 0;
  /** What is lent. */
  private readonly answer = { vpn: 0, memory: 0, page: 0, write: false };

  /** How many. */
  get size(): number {
    return this.slots.size;
  }

  has(vpn: number): boolean {
    return this.slots.has(vpn);
  }

  /** Where a page is. `first`: the page that its translation was set for, where one stands for more pages, which follow each other. Borrowed until the next call of `get` or `set`. */
  get(vpn: number, first: number = vpn): Translation | undefined {
    const slot = this.slots.get(first);
    return slot === undefined ? undefined : this.lend(vpn, slot, vpn - first);
  }

  /** Says where a page is, in place of what was known; returns it as `get` does. */
  set(vpn: number, page: number, memory: number, write: boolean): Translation {
    let slot = this.slots.get(vpn);
    if (slot === undefined) this.slots.set(vpn, (slot = this.take()));
    this.pages[slot] = page;
    this.memories[slot] = memory;
    this.rights[slot] = write ? 1 : 0;
    return this.lend(vpn, slot, 0);
  }

  /** Takes a page out. False: it was not there. */
  delete(vpn: number): boolean {
    const slot = this.slots.get(vpn);
    if (slot === undefined) return false;
    this.pages[slot] = this.free;
    this.free = slot + 1;
    return this.slots.delete(vpn);
  }

  /** Says where the pages of these items are. Their opaque bits are not kept. */
  enter(mappings: Mappings): void {
    for (let i = 0; i < mappings.count; i++) {
      const vpn = mappings.vpn(i);
      const first = mappings.page(i);
      const memory = mappings.memory(i);
      const write = mappings.isWritable(i);
      for (let page = 0; page < mappings.length(i); page++) this.set(vpn + page, first + page, memory, write);
    }
  }

  /** Takes the pages of the ranges out. A range can be the whole address space: what is there is looked at then, and not every page. */
  release(ranges: Ranges): void {
    for (let i = 0; i < ranges.count; i++) this.deleteRange(ranges.start(i), ranges.length(i));
  }

  /** Takes the pages `[vpn, vpn + pages)` out. */
  deleteRange(vpn: number, pages: number): void {
    const end = vpn + pages;
    if (pages <= this.size) for (let each = vpn; each < end; each++) this.delete(each);
    else
      for (let at = this.next(0); at >= 0; at = this.next(at + 1))
        if (this.vpnAt(at) >= vpn && this.vpnAt(at) < end) this.delete(this.vpnAt(at));
  }

  clear(): void {
    this.slots.clear();
    this.used = 0;
    this.free = 0;
  }

  /** The place of the next page from place `at` on, the oldest first; -1: there is none. As `PageMap.next`. */
  next(at: number): number {
    return this.slots.next(at);
  }

  /** The page at a place that `next` has returned. */
  vpnAt(place: number): number {
    return this.slots.pageAt(place);
  }

  private lend(vpn: number, slot: number, after: number): Translation {
    const { answer } = this;
    answer.vpn = vpn;
    answer.memory = this.memories[slot]!;
    answer.page = this.pages[slot]! + after;
    answer.write = this.rights[slot] === 1;
    return answer;
  }

  private take(): number {
    if (this.free > 0) {
      const slot = this.free - 1;
      this.free = this.pages[slot]!;
      return slot;
    }
    if (this.used === this.pages.length) this.makeRoom();
    return this.used++;
  }

  private makeRoom(): void {
    const { pages, memories, rights } = this;
    const length = Math.max(FEW, 2 * pages.length);
    this.pages = new Uint32Array(length);
    this.pages.set(pages);
    this.memories = new Int32Array(length);
    this.memories.set(memories);
    this.rights = new Uint8Array(length);
    this.rights.set(rights);
  }
}

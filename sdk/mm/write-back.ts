/**
 * Write-back: dirty pages of files reach the backing store. Whoever may write to a page loses that right first (devices by a PROTECTION_PAGE event, entries by being cleaned), so that
 * the bytes stand still and the next write is noticed.
 *
 * Models: `filemap_fdatawrite`, `folio_mkclean`, `page_vma_mkclean_one`.
 */
import * as L from '../../assembly/layout.ts';
import { AGAIN, DONE, type Progress, type Run, type Step } from '../step/step.ts';
import { PageMap } from '../core/page-map.ts';
import type { Ticket } from '../step/ticket.ts';
import type { AddressSpace } from './address-space.ts';
import { Invalidation, type NotifierSet } from './notifier.ts';
import type { MemoryFile } from './page-cache.ts';
import type { Platform } from './platform.ts';
import { VMA_PRIVATE } from './vma.ts';

/** Mappings of one frame that are looked at: space, page in two words. */
const MAPPINGS_MAX = Math.floor(L.LIST_MAX / 3);

/** Pages of a file, half-open. */
export interface FilePart {
  readonly file: MemoryFile;
  readonly first: number;
  readonly end: number;
}

/** The places of one space that have been announced. */
interface Told {
  notifiers: NotifierSet | undefined;
  /** Page numbers, an invalidation under way for each. */
  readonly pages: PageMap;
  /** Number of the last one. */
  last: number;
}

/** Stores the dirty pages of some files. */
export class WriteBack implements Step {
  readonly name = 'write back';
  /** Pages stored. */
  stored = 0;
  private readonly platform: Platform;
  private parts: readonly FilePart[];
  /** Announces one place after the other. */
  private readonly event: Invalidation = new Invalidation();
  /** What those who were told flush, and how many of them are known to have done so. */
  private readonly tickets: Ticket[] = [];
  private flushed = 0;
  /** Spaces that have been told something, `spaces` of them, and where each is, by its number. */
  private readonly told: Told[] = [];
  private readonly byId: PageMap = new PageMap();
  private spaces = 0;
  private announcements = 0;
  /** Where a page is mapped. */
  private places: Uint32Array = new Uint32Array(48);
  private part = 0;
  /** Dirty pages of the part, `count` of them; -1: nobody has looked. */
  private pages: Uint32Array = new Uint32Array(0);
  private count = -1;

  constructor(platform: Platform, parts: readonly FilePart[]) {
    this.platform = platform;
    this.parts = parts;
  }

  /** Makes this step, which has ended, ready for other parts. */
  of(parts: readonly FilePart[]): this {
    this.parts = parts;
    this.stored = 0;
    this.part = 0;
    return this;
  }

  next(run: Run): Progress {
    const part = this.parts[this.part];
    if (!part) return DONE;
    if (this.count < 0) this.look(part);
    for (const { tickets } = this; this.flushed < tickets.length; this.flushed++)
      if (tickets[this.flushed]!.state === 'pending') return run.waitFor(tickets[this.flushed]!);
    // While devices flushed, somebody else may have mapped a page: it is announced as well.
    if (this.announce(part.file)) return AGAIN;
    const { core, events } = this.platform;
    let stored = 0;
    for (let i = 0; i < this.count; i++) {
      const page = this.pages[i]!;
      const frame = part.file.frameOf(page);
      if (frame === undefined) continue;
      core.exports.frameClean(frame);
      part.file.store(page);
      stored++;
    }
    this.stored += stored;
    if (stored > 0 && events.heard) events.emit({ type: 'file.stored', file: part.file.id, first: this.pages[0]!, pages: stored });
    this.end();
    this.part++;
    return AGAIN;
  }

  abort(): void {
    this.end();
  }

  private look({ file, first, end }: FilePart): void {
    if (this.pages.length < file.dirty) this.pages = new Uint32Array(Math.max(file.dirty, 2 * this.pages.length));
    this.count = file.dirtyPages(first, end, this.pages);
  }

  /** Ends what has been announced, in the order in which it was: the last one of a space is what those hear of who wait for it. */
  private end(): void {
    const { told, tickets } = this;
    if (this.spaces > 1) told.sort((a, b) => a.last - b.last);
    for (const each of told) {
      const { notifiers, pages } = each;
      if (!notifiers) continue;
      notifiers.endLeft(pages.size);
      for (let at = pages.next(0); at >= 0; at = pages.next(at + 1)) pages.delete(pages.pageAt(at));
      each.notifiers = undefined;
      each.last = 0;
    }
    this.byId.clear();
    this.spaces = 0;
    this.announcements = 0;
    tickets.length = 0;
    this.flushed = 0;
    this.count = -1;
  }

  /** Announces every place of the pages that has not been; false when there is none. */
  private announce(file: MemoryFile): boolean {
    const before = this.announcements;
    for (let i = 0; i < this.count; i++) {
      const frame = file.frameOf(this.pages[i]!);
      if (frame !== undefined) this.announceFrame(frame);
    }
    return this.announcements > before;
  }

  private announceFrame(frame: number): void {
    const { core, spaces } = this.platform;
    const list = core.area(L.AREA_LIST);
    const count = core.exports.rmapList(frame, list, MAPPINGS_MAX);
    if (this.places.length < count * 3) this.places = new Uint32Array(count * 3);
    const { places } = this;
    core.take(list, places, count * 3);
    for (let i = 0; i < count; i++) {
      const space = spaces.get(places[i * 3]!);
      if (space) this.announcePage(space, this.vpnAt(i));
    }
  }

  private vpnAt(i: number): number {
    const { places } = this;
    return places[i * 3 + 2]! * 2 ** 32 + places[i * 3 + 1]!;
  }

  private announcePage(space: AddressSpace, vpn: number): void {
    // Private mappings only read it.
    if (this.toldOf(space)?.pages.has(vpn) || (space.vmas.find(vpn)?.flags ?? VMA_PRIVATE) & VMA_PRIVATE) return;
    this.tell(space, vpn);
  }

  /** What a space has been told. Its number may have been that of another one, which is gone. */
  private toldOf(space: AddressSpace): Told | undefined {
    const at = this.byId.get(space.id);
    const told = at === undefined ? undefined : this.told[at];
    return told?.notifiers === space.notifiers ? told : undefined;
  }

  private tell(space: AddressSpace, vpn: number): void {
    const { event, tickets, told } = this;
    space.announce(event.set(vpn, vpn + 1, 'PROTECTION_PAGE', undefined, 'write-back').ofWrites());
    space.notifiers.leave(event);
    let its = this.toldOf(space);
    if (!its) {
      this.byId.set(space.id, this.spaces);
      its = told[this.spaces++] ??= { notifiers: undefined, pages: new PageMap(), last: 0 };
      its.notifiers = space.notifiers;
    }
    its.pages.set(vpn, 1);
    its.last = ++this.announcements;
    for (let i = 0; i < event.tickets.length; i++) if (event.tickets[i]!.state === 'pending') tickets.push(event.tickets[i]!);
  }
}

/**
 * Making a mapping longer or shorter, or moving it: entries change their place, frames and bytes stay.
 *
 * ```
 *   shorter             the tail is unmapped
 *   longer              in place where there is room behind, else moved if it may, else ENOMEM
 *   to (fixed)          what is there is unmapped, then moved
 *   dontUnmap           moved, and the old range stays promised and empty
 *
 *   a move:   the new promise is made, notifier UNMAP for the old range, every device flushes, entries move, the old promise ends, notifier end
 * ```
 *
 * The new promise comes before the wait: an mmap takes no lock, and would be given the place. Until the entries have come nobody can touch it, for want of the mmap lock.
 *
 * When it fails for want of a table page, entries that have moved go back; what was unmapped at the new place, or behind a shorter end, is gone.
 *
 * Models: `do_mremap`, `move_vma`, MREMAP_MAYMOVE, MREMAP_FIXED, MREMAP_DONTUNMAP.
 */
import * as L from '../../assembly/layout.ts';
import { fail } from '../errors.ts';
import { DONE, type Progress, type Run, type Step } from '../step/step.ts';
import type { Ticket } from '../step/ticket.ts';
import type { AddressSpace } from './address-space.ts';
import { ADDRESS_LIMIT, type AddressRange, type NamesOf, requireAligned, requireBoolean, requireOptions } from './arguments.ts';
import { HUGE_PAGES } from './huge-window.ts';
import { Invalidation } from './notifier.ts';
import { Negotiation, type PeerAddresses, pendingOf, releasePeers } from './peer-va.ts';
import type { Platform } from './platform.ts';
import { hugePagesIn, reportSplits } from './splits.ts';
import { TakeDown } from './take-down.ts';
import {
  hugetlbOrder,
  isHugetlb,
  isSpecial,
  VMA_DEVICE,
  VMA_DONTEXPAND,
  VMA_PEER_SHARED,
  VMA_PFNMAP,
  type Vma,
  type VmaRequest,
} from './vma.ts';

/** How long, and where. */
export interface MremapOptions {
  /** New length; rounded up to whole pages. Default: as long as it is. */
  readonly bytes?: number;
  /** It may move when it cannot grow where it is. Default false. Models: MREMAP_MAYMOVE. */
  readonly mayMove?: boolean;
  /** Exactly to this address; what is mapped there is unmapped. Needs `mayMove`. Models: MREMAP_FIXED. */
  readonly to?: number;
  /** The old range stays mapped and is empty afterwards. Needs `mayMove` and the same length. Models: MREMAP_DONTUNMAP. */
  readonly dontUnmap?: boolean;
}

const MREMAP_OPTIONS: NamesOf<MremapOptions> = { bytes: true, mayMove: true, to: true, dontUnmap: true };

const LOCK = 0;
const SHRUNK = 1;
const CLEARED = 2;
const MOVE = 3;
const GROWN = 4;
const AGREED = 5;
const GIVEN_BACK = 6;
const FAILED = 7;

/** Pages given to the core at once: counts cross the boundary as 32 bits. */
const PAGES_PER_CALL = 2 ** 30;

/** The step behind `space.mremap`. Throws EINVAL, EFAULT or ENOMEM. */
export class Mremap implements Step {
  readonly name = 'mremap';
  /** Where the mapping is now. */
  result!: AddressRange;
  private readonly platform: Platform;
  private readonly space: AddressSpace;
  private readonly start: number;
  /** Pages of the old range, and of the new one. */
  private readonly oldPages: number;
  private readonly newPages: number;
  private readonly mayMove: boolean;
  private readonly dontUnmap: boolean;
  private readonly fixed: boolean;
  private readonly event: Invalidation = new Invalidation();
  private to: number;
  /** Pages that are to move, and those that have. */
  private pages = 0;
  private moved = 0;
  /** The new range is promised, and the entries are not there yet. */
  private isPromised = false;
  /** Made for peer-shared memory; and what peers have not given back yet. */
  private negotiation: Negotiation | undefined;
  private readonly tickets: Ticket[] = [];
  private readonly owners: PeerAddresses[] = [];
  /** For events: the huge pages that are to move. */
  private heads: readonly number[] = [];
  private phase = LOCK;

  constructor(platform: Platform, space: AddressSpace, range: AddressRange, options: MremapOptions) {
    requireOptions('mremap', options, MREMAP_OPTIONS);
    const { bytes = range.end - range.start, mayMove = false, to, dontUnmap = false } = options;
    if (!Number.isSafeInteger(bytes) || bytes <= 0 || bytes > ADDRESS_LIMIT)
      throw fail('EINVAL', 'mremap.bytes', bytes, 'is not a length between 1 byte and 2^48');
    requireBoolean('mremap.mayMove', mayMove);
    requireBoolean('mremap.dontUnmap', dontUnmap);
    if (to !== undefined) {
      requireAligned('mremap.to', to);
      if (!mayMove) throw fail('EINVAL', 'mremap.to', to, 'needs mayMove');
    }
    this.platform = platform;
    this.space = space;
    this.start = range.start / L.PAGE_BYTES;
    this.oldPages = (range.end - range.start) / L.PAGE_BYTES;
    this.newPages = Math.ceil(bytes / L.PAGE_BYTES);
    this.mayMove = mayMove;
    this.dontUnmap = dontUnmap;
    this.fixed = to !== undefined;
    this.to = (to ?? 0) / L.PAGE_BYTES;
    if (dontUnmap && (!mayMove || this.newPages !== this.oldPages))
      throw fail('EINVAL', 'mremap.dontUnmap', bytes, 'needs mayMove, and the length that the range has');
    if (to === undefined) return;
    if (to + this.newPages * L.PAGE_BYTES > ADDRESS_LIMIT)
      throw fail('EINVAL', 'mremap.to', to, `leaves no room for ${bytes} bytes below 2^48`);
    if (this.to < this.start + this.oldPages && this.start < this.to + this.newPages)
      throw fail('EINVAL', 'mremap.to', to, 'overlaps the range that is to move');
  }

  next(run: Run): Progress {
    const { mmapLock } = this.space;
    switch (this.phase) {
      case LOCK:
        if (!mmapLock.tryAcquire(run)) return run.waitFor(mmapLock);
        this.requireMovable();
        this.phase = SHRUNK;
        if (this.newPages < this.oldPages) return run.call(this.unmap(this.start + this.newPages, this.start + this.oldPages));
      // falls through
      case SHRUNK:
        this.pages = Math.min(this.oldPages, this.newPages);
        if (!this.fixed && !this.dontUnmap) {
          if (this.newPages <= this.oldPages) return this.end(run, this.start);
          if (this.mayGrow()) {
            if (!this.isPeerShared) return this.grow(run);
            this.phase = GROWN;
            const at = this.start + this.oldPages;
            return run.call(this.agree().of({ pages: this.newPages - this.oldPages, prot: this.vma!.prot, at, cause: 'mremap' }));
          }
        }
        return this.findPlace(run);
      case GROWN:
        if (this.negotiation!.outcome === 'done') return this.grow(run);
        if (this.negotiation!.outcome === 'failure') this.negotiation!.requireDone('mremap.bytes', this.newPages * L.PAGE_BYTES);
        return this.findPlace(run);
      case CLEARED:
        return this.clear(run);
      case AGREED:
        this.negotiation!.requireDone('mremap.bytes', this.newPages * L.PAGE_BYTES);
        this.to = this.negotiation!.start;
        return this.begin(run);
      case GIVEN_BACK:
        return this.leave(run);
      case FAILED:
        return this.failed(run);
      default: {
        const { unfinished } = this.event;
        if (unfinished) return run.waitFor(unfinished);
        return this.move(run);
      }
    }
  }

  abort(run: Run): void {
    this.event.close();
    if (this.isPromised) {
      this.space.vmas.remove(this.to, this.to + this.newPages);
      this.space.attributes.clearPages(this.to, this.to + this.newPages);
    }
    this.negotiation?.abort();
    if (run.holds(this.space.mmapLock)) this.space.mmapLock.release(run);
  }

  private unmap(start: number, end: number): TakeDown {
    return new TakeDown(this.platform, this.space, start, end, { verb: 'unmap' });
  }

  private end(run: Run, start: number): typeof DONE {
    this.result = { start: start * L.PAGE_BYTES, end: (start + this.newPages) * L.PAGE_BYTES };
    this.space.mmapLock.release(run);
    return DONE;
  }

  /** The VMA that the range lies in. */
  private get vma(): Vma | undefined {
    return this.space.vmas.find(this.start);
  }

  private requireMovable(): void {
    const vma = this.vma;
    const addr = this.start * L.PAGE_BYTES;
    if (!vma || vma.end < this.start + this.oldPages) throw fail('EFAULT', 'mremap.range', addr, 'is not inside one mapping');
    if (vma.flags & VMA_DEVICE) throw fail('EINVAL', 'mremap.range', addr, 'is a private range of a device');
    if (this.fixed && (this.to < this.space.first || this.to + this.newPages > this.space.last))
      throw fail('EINVAL', 'mremap.to', this.to * L.PAGE_BYTES, 'is not in the range of the address space');
    const grows = this.newPages > this.oldPages;
    if (grows && vma.flags & (VMA_DONTEXPAND | VMA_PFNMAP))
      throw fail('EFAULT', 'mremap.bytes', this.newPages * L.PAGE_BYTES, 'make a special mapping longer');
    if (this.dontUnmap && isSpecial(vma)) throw fail('EINVAL', 'mremap.dontUnmap', addr, 'is in a special mapping');
    if (this.fixed) this.requireWhole();
    if (!isHugetlb(vma)) return;
    const unit = 2 ** hugetlbOrder(vma);
    if (grows || this.start % unit !== 0 || this.oldPages % unit !== 0 || this.newPages % unit !== 0 || this.to % unit !== 0)
      throw fail('EINVAL', 'mremap.range', addr, 'is of huge pages, and can only move or shrink by whole ones');
  }

  /** What is unmapped at the new place may not be a part of a huge page that is never split. */
  private requireWhole(): void {
    this.space.vmas.each(this.to, this.to + this.newPages, (vma, from, to) => {
      if (vma.flags & VMA_DEVICE) throw fail('EINVAL', 'mremap.to', this.to * L.PAGE_BYTES, 'is a private range of a device');
      const unit = isHugetlb(vma) ? 2 ** hugetlbOrder(vma) : 1;
      if (from % unit !== 0 || to % unit !== 0)
        throw fail('EINVAL', 'mremap.to', this.to * L.PAGE_BYTES, 'cuts a huge page that is never split');
    });
  }

  private get isPeerShared(): boolean {
    return (this.vma!.flags & VMA_PEER_SHARED) !== 0;
  }

  /** With peers, who have to agree to a place. */
  private agree(): Negotiation {
    return (this.negotiation ??= new Negotiation(this.platform, this.space));
  }

  /** Whether the pages behind the range are free. */
  private mayGrow(): boolean {
    const from = this.start + this.oldPages;
    const to = this.start + this.newPages;
    return this.vma!.end === from && to <= this.space.last && this.space.vmas.isFree(from, to);
  }

  /** Promises the pages behind the range as well. */
  private grow(run: Run): typeof DONE {
    const { start, prot, flags, object, offset } = this.vma!;
    const from = this.start + this.oldPages;
    const to = this.start + this.newPages;
    this.insert({ start: from, end: to, prot, flags, object, offset: object ? offset + (from - start) : 0 });
    const { events } = this.platform;
    if (events.heard) events.emit({ type: 'space.mapped', space: this.space.id, vpn: from, pages: to - from, cause: 'grow' });
    return this.end(run, this.start);
  }

  private insert(request: VmaRequest): void {
    if (this.negotiation) this.negotiation.keep(request);
    else this.space.vmas.insert(request);
  }

  /** It moves. In one turn, but for what peers and the unmapping of a fixed place take: an mmap takes no lock. */
  private findPlace(run: Run): Progress {
    if (this.fixed) return this.clear(run);
    if (!this.mayMove)
      throw fail('ENOMEM', 'mremap.bytes', this.newPages * L.PAGE_BYTES, 'has no room where the mapping is, and it may not move');
    if (this.isPeerShared) {
      this.phase = AGREED;
      return run.call(this.agree().of({ pages: this.newPages, prot: this.vma!.prot, cause: 'mremap' }));
    }
    this.to = this.place();
    return this.begin(run);
  }

  /** Unmaps what is at a fixed place. */
  private clear(run: Run): Progress {
    this.phase = CLEARED;
    // Again, for what was mapped in a hole there while devices flushed.
    if (!this.space.vmas.isFree(this.to, this.to + this.newPages)) {
      this.requireWhole();
      return run.call(this.unmap(this.to, this.to + this.newPages));
    }
    if (!this.isPeerShared) return this.begin(run);
    this.phase = AGREED;
    return run.call(this.agree().of({ pages: this.newPages, prot: this.vma!.prot, at: this.to, cause: 'mremap' }));
  }

  /** The new place is promised, and the old one announced. */
  private begin(run: Run): Progress {
    this.promise();
    this.heads = hugePagesIn(this.platform, this.space, this.start, this.start + this.pages);
    this.space.announce(this.event.set(this.start, this.start + this.pages, 'UNMAP', undefined, 'mremap'));
    this.phase = MOVE;
    return this.next(run);
  }

  /** The first free place that is long enough; huge pages stay aligned. */
  private place(): number {
    const vma = this.vma!;
    const bytes = this.newPages * L.PAGE_BYTES;
    const huge = isHugetlb(vma) ? 2 ** hugetlbOrder(vma) : HUGE_PAGES;
    const alignPages = this.start % huge === 0 && this.newPages >= huge ? huge : 1;
    const place = this.space.vmas.gap({
      pages: this.newPages,
      alignPages,
      base: this.space.base,
      limit: this.space.last,
    });
    if (place === undefined) throw fail('ENOMEM', 'mremap.bytes', bytes, 'has no gap in the address space');
    return place;
  }

  /** Promises the new range as the old one is; an object is never without a promise. */
  private promise(): void {
    const { start, prot, flags, object, offset } = this.vma!;
    this.insert({
      start: this.to,
      end: this.to + this.newPages,
      prot,
      flags,
      object,
      offset: object ? offset + (this.start - start) : 0,
    });
    this.isPromised = true;
  }

  private move(run: Run): Progress {
    const { core, pageLocks } = this.platform;
    const { table } = this.space;
    while (this.moved < this.pages) {
      const pages = Math.min(this.pages - this.moved, PAGES_PER_CALL);
      const done = core.exports.moveEntries(table, this.start + this.moved, this.to + this.moved, pages);
      this.moved += done;
      if (done === pages) continue;
      const locked = core.stopReason === L.STOP_LOCKED ? core.stopFrame : undefined;
      // Also before waiting: meanwhile others could take the table pages that the way back needs.
      this.moveBack();
      if (locked !== undefined) return run.waitFor(pageLocks.wait(locked));
      return this.giveBack(run, FAILED, this.to, this.newPages);
    }
    this.isPromised = false;
    return this.giveBack(run, GIVEN_BACK, this.start, this.dontUnmap ? 0 : this.pages);
  }

  /** Peers lose a range; then it goes on. */
  private giveBack(run: Run, then: typeof GIVEN_BACK | typeof FAILED, vpn: number, pages: number): Progress {
    this.phase = then;
    if (pages > 0) {
      const cause = then === FAILED ? 'rollback' : 'mremap';
      releasePeers(this.platform, this.space, { start: vpn, end: vpn + pages, cause }, this.tickets, this.owners);
    }
    return then === FAILED ? this.failed(run) : this.leave(run);
  }

  private failed(run: Run): Progress {
    const pending = pendingOf(this.tickets, this.owners);
    if (pending) return run.waitFor(pending);
    throw fail('ENOMEM', 'mremap.range', this.start * L.PAGE_BYTES, 'needs a table page at its new place, and there is none');
  }

  /** The old promise ends. */
  private leave(run: Run): Progress {
    const pending = pendingOf(this.tickets, this.owners);
    if (pending) return run.waitFor(pending);
    if (!this.dontUnmap) this.space.vmas.remove(this.start, this.start + this.pages);
    this.space.attributes.movePages(this.start, this.to, this.pages);
    this.space.devicePins.move(this.start, this.to, this.pages);
    this.event.close();
    this.space.installed(this.to, this.pages);
    const { events } = this.platform;
    if (events.heard) {
      const { id: space } = this.space;
      const { start: vpn, pages, to } = this;
      // In this order: who goes back from the new place finds the old one behind the promise of the new.
      events.emit({ type: 'space.moved', space, vpn, pages, to });
      if (!this.dontUnmap) events.emit({ type: 'space.unmapped', space, vpn, pages, cause: 'mremap' });
      events.emit({ type: 'space.mapped', space, vpn: to, pages: this.newPages, cause: 'mremap' });
      reportSplits(this.platform, this.space, this.heads, 'mremap', to - vpn);
    }
    return this.end(run, this.to);
  }

  /** The table pages that the entries came from are free again: this cannot fail. */
  private moveBack(): void {
    for (let done = 0; done < this.moved;)
      done += this.platform.core.exports.moveEntries(
        this.space.table,
        this.to + done,
        this.start + done,
        Math.min(this.moved - done, PAGES_PER_CALL),
      );
    this.moved = 0;
  }
}

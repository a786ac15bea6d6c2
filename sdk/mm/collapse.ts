/**
 * Making huge pages of small ones, for every aligned 2 MiB of a range: pages on devices come home, exclusive ones are revoked, then the bytes are copied to one huge frame.
 *
 * Models: `madvise_collapse`, `collapse_huge_page`.
 */
import * as L from '../../assembly/layout.ts';
import { fail } from '../errors.ts';
import { AGAIN, DONE, type Progress, type Run, type Step } from '../step/step.ts';
import type { AddressSpace } from './address-space.ts';
import { HUGE_PAGES } from './huge-window.ts';
import { Migration } from './migration.ts';
import { Invalidation } from './notifier.ts';
import type { Platform } from './platform.ts';
import { isAnonymous, rightsOf, VMA_NOHUGEPAGE } from './vma.ts';

const LOCK = 0;
const LOOK = 1;
const FLUSHED = 2;

/** Homecomings of one window before it is given up: what does not come, is held. */
const HOMECOMINGS_MAX = 64;

/** The step behind `madvise(range, 'collapse')`. Throws EINVAL, ENOMEM or EBUSY at the first window that cannot be; those before it are huge. */
export class Collapse implements Step {
  readonly name = 'collapse';
  private readonly platform: Platform;
  private readonly space: AddressSpace;
  private readonly end: number;
  private readonly event: Invalidation = new Invalidation();
  private migration: Migration | undefined;
  /** First page of the window under way. */
  private vpn: number;
  private homecomings = 0;
  private phase = LOCK;

  /** For the pages `[start, end)`. */
  constructor(platform: Platform, space: AddressSpace, start: number, end: number) {
    this.platform = platform;
    this.space = space;
    this.vpn = Math.ceil(start / HUGE_PAGES) * HUGE_PAGES;
    this.end = end - (end % HUGE_PAGES);
    if (this.vpn >= this.end) throw fail('EINVAL', 'madvise.range', start * L.PAGE_BYTES, 'has no whole 2 MiB to collapse');
  }

  next(run: Run): Progress {
    const { mmapLock } = this.space;
    switch (this.phase) {
      case LOCK:
        if (!mmapLock.tryAcquire(run)) return run.waitFor(mmapLock);
        this.phase = LOOK;
      // falls through
      case LOOK:
        return this.look(run);
      default: {
        const { unfinished } = this.event;
        if (unfinished) return run.waitFor(unfinished);
        return this.collapse(run);
      }
    }
  }

  abort(run: Run): void {
    this.event.close();
    if (run.holds(this.space.mmapLock)) this.space.mmapLock.release(run);
  }

  private look(run: Run): Progress {
    const { core, memories, nodes, pageLocks } = this.platform;
    const space = this.space;
    if (this.vpn >= this.end) {
      space.mmapLock.release(run);
      return DONE;
    }
    const vma = space.vmas.find(this.vpn);
    if (!vma || vma.end < this.vpn + HUGE_PAGES || !isAnonymous(vma) || vma.flags & VMA_NOHUGEPAGE)
      throw fail('EINVAL', 'madvise.range', this.vpn * L.PAGE_BYTES, 'begins 2 MiB that may not be one huge page');
    for (let vpn = this.vpn; vpn < this.vpn + HUGE_PAGES; vpn++) {
      const kind = core.entry(space.table, vpn) & L.ENTRY_KIND;
      const frame = core.entryLow;
      if ((kind === L.KIND_MIGRATION || kind === L.KIND_EXCLUSIVE) && pageLocks.locked(frame)) return run.waitFor(pageLocks.wait(frame));
      if (kind !== L.KIND_DEVICE_PRIVATE) continue;
      if (++this.homecomings > HOMECOMINGS_MAX) throw this.busy(vpn);
      this.migration ??= new Migration(this.platform);
      return run.call(this.migration.toHost(space, this.vpn, HUGE_PAGES, memories.get(nodes.of(frame).index)!, 'user', vpn));
    }
    space.announce(this.event.set(this.vpn, this.vpn + HUGE_PAGES, 'CLEAR', undefined, 'collapse'));
    this.phase = FLUSHED;
    return AGAIN;
  }

  private collapse(run: Run): Progress {
    const { core, events, host, pageLocks } = this.platform;
    const space = this.space;
    const rights = rightsOf(space.vmas.find(this.vpn)!);
    for (let vpn = this.vpn; vpn < this.vpn + HUGE_PAGES; vpn++)
      if ((core.entry(space.table, vpn) & L.ENTRY_KIND) === L.KIND_EXCLUSIVE) {
        core.exports.exclusiveClear(space.table, vpn, rights);
        if (events.heard) events.emit({ type: 'page.revoked', space: space.id, vpn, cause: 'collapse' });
      }
    if (!core.exports.collapseHuge(space.table, this.vpn, host.index, rights)) {
      const reason = core.stopReason;
      if (reason === L.STOP_LOCKED) {
        const { stopFrame } = core;
        this.event.close();
        this.phase = LOOK;
        return run.waitFor(pageLocks.wait(stopFrame));
      }
      if (reason === L.STOP_FRAMES) throw fail('ENOMEM', 'madvise.range', this.vpn * L.PAGE_BYTES, 'needs a free 2 MiB of host memory');
      if (reason === L.STOP_TABLES) throw fail('ENOMEM', 'madvise.range', this.vpn * L.PAGE_BYTES, 'needs a table page, and there is none');
      throw this.busy(this.vpn);
    }
    this.event.close();
    if (events.heard) events.emit({ type: 'page.collapsed', space: space.id, vpn: this.vpn, pages: HUGE_PAGES });
    this.vpn += HUGE_PAGES;
    this.homecomings = 0;
    this.phase = LOOK;
    return AGAIN;
  }

  private busy(vpn: number): Error {
    return fail('EBUSY', 'madvise.range', vpn * L.PAGE_BYTES, 'has a page that somebody holds or shares');
  }
}

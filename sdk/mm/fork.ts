/**
 * A copy of an address space. VMAs are inherited; pages are shared until somebody writes, and copied then (see fault.ts).
 *
 * ```
 *   VMA                          child
 *   marked dontfork              nothing
 *   shared                       the promise; its pages come from the object at the first touch
 *   private                      the promise and the entries, read-only on both sides: see assembly/fork.ts
 *   special, shared or not       the same: nothing could fault them in again
 * ```
 *
 * For each VMA with pages: notifier PROTECTION_PAGE, every device flushes, entries are inherited, notifier end. Device-private pages are shared as they are, or come home first, or
 * are left out, as asked. Contexts are not inherited: a child has no devices. When memory runs out, or the parent is reaped, the child is taken down
 * again; what the parent lost in rights comes back with its next writes, and what was pinned to devices is pinned again where it is still there.
 *
 * Models: `dup_mmap`, `copy_page_range`.
 */
import * as L from '../../assembly/layout.ts';
import type { Core } from '../core/abi.ts';
import { fail, isFarfaultError } from '../errors.ts';
import type { PageRun } from '../events/record.ts';
import { AGAIN, DONE, type Progress, type Run, type Step } from '../step/step.ts';
import type { AddressSpace } from './address-space.ts';
import { HUGE_PAGES, windowPages, windowStart } from './huge-window.ts';
import { ForkMarks } from './fork-marks.ts';
import { Migration } from './migration.ts';
import { MIGRATION_PAGES_MAX } from './migration-order.ts';
import type { NamesOf } from './arguments.ts';
import { Invalidation } from './notifier.ts';
import type { Platform } from './platform.ts';
import { isSpecial, VMA_DONTFORK, VMA_PRIVATE, type Vma } from './vma.ts';

/** What a child gets of pages on device-private memory. `share`: the pages, as the kernel does. `home`: they come home first. `omit`: holes. */
export type ForkDevice = 'share' | 'home' | 'omit';

/** How to copy a space. */
export interface ForkOptions {
  /** Default `share`. */
  readonly device?: ForkDevice;
}

export const FORK_OPTIONS: NamesOf<ForkOptions> = { device: true };

/** How it ended. `no memory`: no frame, table or record is to be had; there is no child. */
export type ForkOutcome = 'done' | 'no memory';

const LOCK = 0;
const VMA = 1;
const HOME = 2;
const FLUSHED = 3;
const INHERIT = 4;

/** Pages given to the core at once: counts cross the boundary as 32 bits. */
const PAGES_PER_CALL = 2 ** 30;

/** One past the last page number. */
const VPN_LIMIT = 2 ** L.VPN_BITS;

/** The step behind `space.fork`. */
export class Fork implements Step {
  readonly name = 'fork';
  outcome: ForkOutcome = 'done';
  /** The child, when `done`. */
  result: AddressSpace | undefined;
  private readonly platform: Platform;
  private readonly space: AddressSpace;
  private readonly device: ForkDevice;
  private readonly event: Invalidation = new Invalidation();
  /** Made when a page first has to come home. */
  private migration: Migration | undefined;
  private child: AddressSpace | undefined;
  /** VMAs up to here are done. */
  private done = 0;
  private vma!: Vma;
  /** Pages of the VMA up to here are done. */
  private vpn = 0;
  /** Up to here what could come home from this node has come. */
  private tried = 0;
  private triedNode = 0;
  private isAbandoned = false;
  /** Page for whose copy room has been made on the host. */
  private pressed = -1;
  /** For events: what is special in the VMA under way. */
  private marks: ForkMarks | undefined;
  private readonly copies: PageRun[] = [];
  private phase = LOCK;

  constructor(platform: Platform, space: AddressSpace, { device = 'share' }: ForkOptions) {
    this.platform = platform;
    this.space = space;
    this.device = device;
  }

  next(run: Run): Progress {
    const { mmapLock } = this.space;
    switch (this.phase) {
      case LOCK:
        if (!mmapLock.tryAcquire(run)) return run.waitFor(mmapLock);
        if (!this.begin()) return this.end(run, 'no memory');
        this.phase = VMA;
      // falls through
      case VMA:
        return this.nextVma(run);
      case HOME:
        return this.home(run);
      case FLUSHED: {
        const { unfinished } = this.event;
        if (unfinished) return run.waitFor(unfinished);
        this.phase = INHERIT;
      }
      // falls through
      default:
        return this.inherit(run);
    }
  }

  /** Nobody waits for the child any more: it is taken down when the step ends. */
  abandon(): void {
    this.isAbandoned = true;
  }

  abort(run: Run): void {
    this.event.close();
    this.takeDown();
    if (run.holds(this.space.mmapLock)) this.space.mmapLock.release(run);
  }

  private begin(): boolean {
    try {
      this.child = this.space.another();
      return true;
    } catch (error) {
      if (isFarfaultError(error) && error.code === 'ENOMEM') return false;
      throw error;
    }
  }

  private end(run: Run, outcome: ForkOutcome): typeof DONE {
    const { events } = this.platform;
    this.outcome = outcome;
    if (outcome === 'done' && !this.isAbandoned) {
      this.result = this.child!;
      this.space.devicePins.suspended.clear();
      if (events.heard) {
        events.emit({ type: 'space.forked', space: this.space.id, child: this.result.id });
        for (const run of this.copies) events.emit({ type: 'page.copied', ...run, cause: 'fork' });
      }
    } else this.takeDown();
    this.space.mmapLock.release(run);
    return DONE;
  }

  /** Nobody has seen the child: no device and no subscriber is to be told. */
  private takeDown(): void {
    const child = this.child;
    this.child = undefined;
    if (!child) return;
    const { core, spaces } = this.platform;
    child.vmas.each(0, VPN_LIMIT, (_, start, end) => {
      // Stops early when its list of freed frames is full: their owners are told, and it goes on.
      for (let vpn = start; vpn < end; this.platform.settleFreed())
        vpn += core.exports.zap(child.table, vpn, Math.min(end - vpn, PAGES_PER_CALL));
    });
    child.vmas.remove(0, VPN_LIMIT);
    if (child.tlb) core.exports.tlbDestroy(child.tlb);
    core.exports.tableDestroy(child.table);
    spaces.delete(child.id);
    this.pinAgain();
  }

  /** What was pinned is pinned again, with the right to write that it had: else nobody could write it as long as it is. Not pinned: what has moved, or got another holder, meanwhile. */
  private pinAgain(): void {
    const { core } = this.platform;
    const { space } = this;
    const pins = space.devicePins.suspended;
    for (let at = pins.next(0); at >= 0; at = pins.next(at + 1)) {
      const vpn = pins.pageAt(at);
      const high = core.entry(space.table, vpn);
      const frame = core.entryLow;
      if (high & L.ENTRY_WRITE || !space.writable(vpn)) continue;
      const kind = high & L.ENTRY_KIND;
      const isThere = frame === pins.valueAt(at) && (kind === L.KIND_PRESENT || kind === L.KIND_DEVICE_PRIVATE);
      if (isThere && !(high & L.ENTRY_PROMISES) && mappingsOf(core, frame) === 1) core.exports.mapReuse(space.table, vpn);
      else pins.delete(vpn);
    }
    space.devicePins.restore(pins);
  }

  /** Gives the child the next promise, and begins on its pages if they are inherited. */
  private nextVma(run: Run): Progress {
    // A reaper takes no lock: pages that it took while this one waited would be zeros in the child.
    this.space.requireUnreaped('fork');
    for (let vma = this.space.vmas.next(this.done); vma; vma = this.space.vmas.next(this.done)) {
      this.done = vma.end;
      if (vma.flags & VMA_DONTFORK) continue;
      this.child!.vmas.insert({ ...vma });
      this.child!.attributes.inherit(this.space.attributes, vma.start, vma.end);
      if (!(vma.flags & VMA_PRIVATE) && !isSpecial(vma)) continue;
      this.vma = vma;
      this.vpn = vma.start;
      this.tried = 0;
      if (this.nextEntry() === undefined) continue;
      // Who writes to a shared page gets it copied, on the host: it could not get there.
      if (this.device !== 'omit') this.space.devicePins.release(vma.start, vma.end, undefined, this.space.devicePins.suspended);
      this.phase = this.device === 'home' ? HOME : FLUSHED;
      if (this.device !== 'home') this.announce();
      return AGAIN;
    }
    return this.end(run, 'done');
  }

  /** The next page of the VMA that has an entry. */
  private nextEntry(): number | undefined {
    const { core } = this.platform;
    const { end } = this.vma;
    for (let vpn = this.vpn; vpn < end; vpn += PAGES_PER_CALL) {
      const next = core.exports.rangeNext(this.space.table, vpn, Math.min(end - vpn, PAGES_PER_CALL));
      if (next >= 0) return next;
    }
    return undefined;
  }

  private announce(): void {
    const { start, end } = this.vma;
    this.vpn = start;
    this.space.announce(this.event.set(start, end, 'PROTECTION_PAGE', undefined, 'fork').ofWrites());
  }

  /** Brings the next stretch of device-private pages home. What is held there is shared; without a host frame the fork fails. */
  private home(run: Run): Progress {
    const { core, host, memories, pageLocks } = this.platform;
    const { table } = this.space;
    for (let vpn = this.nextEntry(); vpn !== undefined; vpn = this.nextEntry()) {
      const high = core.entry(table, vpn);
      const frame = core.entryLow;
      const kind = high & L.ENTRY_KIND;
      if (kind === L.KIND_MIGRATION && pageLocks.locked(frame)) return run.waitFor(pageLocks.wait(frame));
      if (kind !== L.KIND_DEVICE_PRIVATE) {
        this.vpn = windowStart(vpn, high) + windowPages(high);
        continue;
      }
      const node = core.nodeOf(frame);
      if (vpn < this.tried && node === this.triedNode) {
        if (host.free === 0) return this.end(run, 'no memory');
        this.vpn = windowStart(vpn, high) + windowPages(high);
        continue;
      }
      // Blocks are not cut: the stretch ends where a huge page may.
      const start = windowStart(vpn, high);
      const limit = start - (start % HUGE_PAGES) + MIGRATION_PAGES_MAX - HUGE_PAGES;
      this.tried = Math.min(this.vma.end, limit);
      this.triedNode = node;
      this.vpn = start;
      this.migration ??= new Migration(this.platform);
      return run.call(this.migration.toHost(this.space, start, this.tried - start, memories.get(node)!, 'fork', start));
    }
    this.phase = FLUSHED;
    this.announce();
    return AGAIN;
  }

  private inherit(run: Run): Progress {
    this.space.requireUnreaped('fork');
    const { core, host, pageLocks } = this.platform;
    const { end } = this.vma;
    const flags = this.device === 'omit' ? L.FORK_OMIT_DEVICE : 0;
    if (this.platform.events.heard) this.marks ??= new ForkMarks(this.platform, this.space, this.vma.start, end);
    while (this.vpn < end) {
      const pages = Math.min(end - this.vpn, PAGES_PER_CALL);
      const done = core.exports.forkRange(this.space.table, this.child!.table, this.vpn, pages, host.index, flags);
      this.vpn += done;
      if (done === pages) continue;
      if (core.stopReason === L.STOP_LOCKED) return run.waitFor(pageLocks.wait(core.stopFrame));
      const { tier } = this.platform;
      if (core.stopReason === L.STOP_FRAMES && tier && this.pressed < this.vpn) {
        // A pinned page is copied at once, and the host is full: something of it goes to the second tier.
        this.pressed = this.vpn;
        return run.call(tier.roomStep(1));
      }
      this.event.close();
      return this.end(run, 'no memory');
    }
    this.event.close();
    this.marks?.report(this.child!, this.copies);
    this.marks = undefined;
    this.phase = VMA;
    return AGAIN;
  }
}

/** How many entries name a frame, or the huge one that it is part of. */
function mappingsOf(core: Core, frame: number): number {
  return core.field(core.frameRecord(core.headOf(frame)), L.FRAME_MAPS) & L.MAPS_MASK;
}

/** The child, or the error that fork throws. */
export function forked(step: Fork): AddressSpace {
  if (step.result) return step.result;
  throw fail('ENOMEM', 'fork', 'the child', 'needs frames, tables or records, and there are none');
}

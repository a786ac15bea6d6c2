/**
 * Taking away: munmap, mprotect, madvise DONTNEED and FREE. One order for all of them: notifier start (devices clear their entries and flush), wait for every flush,
 * change the home table, free, notifier end. None of it can fail. A huge page across a border is split; one that is on its way somewhere is waited for.
 */
import * as L from '../../assembly/layout.ts';
import type { VaCause } from '../events/cause.ts';
import { DONE, type Progress, type Run, type Step, type Waitable } from '../step/step.ts';
import type { Ticket } from '../step/ticket.ts';
import type { AddressSpace } from './address-space.ts';
import { Invalidation, type InvalidateReason } from './notifier.ts';
import { type PeerAddresses, pendingOf, releasePeers } from './peer-va.ts';
import type { Platform } from './platform.ts';
import { hugePagesAcross, reportSplits } from './splits.ts';
import { PROT_READ, rightsOf } from './vma.ts';

const LOCK = 0;
const ANNOUNCE = 1;
const CHANGE = 2;

/** What is taken from the pages of a range. */
export type TakeDownVerb =
  /** The promise and the pages. */
  | { readonly verb: 'unmap' }
  /** The pages; the promise stays, the next touch finds zeros, or what a shared object has. */
  | { readonly verb: 'discard' }
  /** Pages that nobody else holds; those on devices stay. */
  | { readonly verb: 'free' }
  /** Everything: the space ends. */
  | { readonly verb: 'exit' }
  /** Everything, and the space goes on. */
  | { readonly verb: 'exec' }
  /** Rights: READ | WRITE | EXEC. */
  | { readonly verb: 'protect'; readonly prot: number };

const REASONS: Readonly<Record<TakeDownVerb['verb'], InvalidateReason>> = {
  unmap: 'UNMAP',
  discard: 'CLEAR',
  free: 'CLEAR',
  exit: 'RELEASE',
  exec: 'UNMAP',
  protect: 'PROTECTION_VMA',
};

/** What each verb is called in events. */
const CAUSES = {
  unmap: 'munmap',
  discard: 'dontneed',
  free: 'free',
  exit: 'exit',
  exec: 'exec',
  protect: 'mprotect',
} as const;

/** What the range is called when it turns out not to be what the verb takes. */
const ARGUMENTS: Readonly<Record<TakeDownVerb['verb'], string>> = {
  unmap: 'munmap.range',
  discard: 'madvise.range',
  free: 'madvise.range',
  exit: 'exit',
  exec: 'exec',
  protect: 'mprotect.range',
};

/** Pages given to the core at once: counts cross the boundary as 32 bits. */
const PAGES_PER_CALL = 2 ** 30;

/**
 * Takes the pages of `parts` (`[start, end)` each) out of a space's table; each start moves up as its part is done. Returns what to wait for when a huge page that must be split is on its
 * way: call again afterwards. With `lazily` only pages that nobody else holds go.
 */
export function zapPages(platform: Platform, space: AddressSpace, parts: number[], lazily = false): Waitable | undefined {
  const { core } = platform;
  const { zap, zapLazy } = core.exports;
  for (let i = 0; i < parts.length; i += 2) {
    while (parts[i]! < parts[i + 1]!) {
      const pages = Math.min(parts[i + 1]! - parts[i]!, PAGES_PER_CALL);
      parts[i]! += lazily ? zapLazy(space.table, parts[i]!, pages) : zap(space.table, parts[i]!, pages);
      const locked = core.stopReason === L.STOP_LOCKED ? core.stopFrame : undefined;
      // Stopped early when its list of freed frames was full: their owners are told, and it goes on.
      platform.settleFreed();
      if (locked !== undefined) return platform.pageLocks.wait(locked);
    }
  }
  return undefined;
}

/** The step that takes pages, promises or rights away from a range. */
export class TakeDown implements Step {
  readonly name: string;
  /** Whether any page of a VMA was in the range. */
  touched = false;
  private readonly platform: Platform;
  private readonly space: AddressSpace;
  private readonly start: number;
  private readonly end: number;
  private readonly what: TakeDownVerb;
  private readonly invalidation: Invalidation = new Invalidation();
  /** The parts of the range that had a mapping when it was announced, `[start, end)` each: what is mapped in a hole while devices flush is not touched. */
  private readonly parts: number[] = [];
  /** What is left to do of them. */
  private left: number[] = [];
  /** For events: huge pages that a border cuts. */
  private heads: number[] = [];
  /** Peers have been told that the addresses are not needed any more; those that have not given them back yet. */
  private isTold = false;
  private readonly tickets: Ticket[] = [];
  private readonly owners: PeerAddresses[] = [];
  /** The mmap lock is this step's, not its caller's. */
  private isLocker = false;
  private phase = LOCK;

  /** For the pages `[start, end)`. Takes the mmap lock, unless the caller holds it exclusively. */
  constructor(platform: Platform, space: AddressSpace, start: number, end: number, what: TakeDownVerb) {
    this.name = what.verb;
    this.platform = platform;
    this.space = space;
    this.start = start;
    this.end = end;
    this.what = what;
  }

  next(run: Run): Progress {
    const space = this.space;
    switch (this.phase) {
      case LOCK:
        if (!run.holds(space.mmapLock)) {
          if (!space.mmapLock.tryAcquire(run)) return run.waitFor(space.mmapLock);
          this.isLocker = true;
          this.requireChangeable();
        }
        this.phase = ANNOUNCE;
      // falls through
      case ANNOUNCE:
        this.touched = this.changes();
        if (this.what.verb === 'exit') space.release(this.invalidation);
        else if (!this.touched) return this.finish(run);
        else {
          this.invalidation.set(this.start, this.end, REASONS[this.what.verb], undefined, CAUSES[this.what.verb]);
          if (this.what.verb === 'protect' && this.what.prot & PROT_READ) this.invalidation.ofWrites();
          space.announce(this.invalidation);
        }
        this.left = [...this.parts];
        this.phase = CHANGE;
        if (this.platform.events.heard) this.lookForHeads();
      // falls through
      default: {
        const { unfinished } = this.invalidation;
        if (unfinished) return run.waitFor(unfinished);
        const locked = this.change();
        if (locked) return run.waitFor(locked);
        this.invalidation.close();
        this.report();
        return this.finish(run);
      }
    }
  }

  abort(run: Run): void {
    this.invalidation.close();
    if (this.isLocker && run.holds(this.space.mmapLock)) this.space.mmapLock.release(run);
  }

  /** Those that a border of a part cuts. */
  private lookForHeads(): void {
    const { parts } = this;
    this.heads = [];
    for (let i = 0; i < parts.length; i += 2)
      for (const head of hugePagesAcross(this.platform, this.space, parts[i]!, parts[i + 1]!))
        if (!this.heads.includes(head)) this.heads.push(head);
  }

  private finish(run: Run): typeof DONE {
    if (this.isLocker) this.space.mmapLock.release(run);
    return DONE;
  }

  /** While it waited for the lock, another may have been quicker. Throws EINVAL as the verb does. */
  private requireChangeable(): void {
    const { verb } = this.what;
    if (verb !== 'exit' && verb !== 'exec') this.space.requireChangeable(ARGUMENTS[verb], this.start, this.end, verb !== 'unmap');
  }

  /** Notes what of the range this verb changes; false when there is nothing. */
  private changes(): boolean {
    const what = this.what;
    this.space.vmas.each(this.start, this.end, (vma, first, last) => {
      if (what.verb !== 'protect' || vma.prot !== what.prot) this.parts.push(first, last);
    });
    return this.parts.length > 0;
  }

  /** Changes the table, and then the promises; resumable. Returns what to wait for. */
  private change(): Waitable | undefined {
    const { vmas } = this.space;
    const what = this.what;
    const locked = what.verb === 'protect' ? this.protect(what.prot) : zapPages(this.platform, this.space, this.left, what.verb === 'free');
    if (locked) return locked;
    // Held to here, so that nothing of it was given to others before every device had flushed.
    if (what.verb !== 'protect' && what.verb !== 'free')
      for (let i = 0; i < this.parts.length; i += 2) this.space.devicePins.release(this.parts[i]!, this.parts[i + 1]!);
    if (what.verb === 'unmap' || what.verb === 'exit' || what.verb === 'exec') {
      for (let i = 0; i < this.parts.length; i += 2)
        for (const mirror of this.space.mirrors) mirror.letGoIn(this.parts[i]!, this.parts[i + 1]!);
      // The promise stays until peers have given the addresses back: nobody is given them before.
      const pending = this.givenBack(what.verb === 'unmap' ? 'munmap' : what.verb);
      if (pending) return pending;
      for (let i = 0; i < this.parts.length; i += 2) {
        vmas.remove(this.parts[i]!, this.parts[i + 1]!);
        this.space.attributes.clearPages(this.parts[i]!, this.parts[i + 1]!);
      }
    }
    return undefined;
  }

  /** Peers give back what they have reserved of the range, once; returns the one that has not answered. */
  private givenBack(cause: VaCause): Waitable | undefined {
    if (!this.isTold) {
      this.isTold = true;
      for (let i = 0; i < this.parts.length; i += 2)
        releasePeers(this.platform, this.space, { start: this.parts[i]!, end: this.parts[i + 1]!, cause }, this.tickets, this.owners);
    }
    return pendingOf(this.tickets, this.owners);
  }

  private protect(prot: number): Waitable | undefined {
    const { core, pageLocks } = this.platform;
    const { table, vmas } = this.space;
    const left = this.left;
    for (let i = 0; i < left.length; i += 2) {
      const rights = rightsOf({ prot });
      for (; left[i]! < left[i + 1]!; left[i] = Math.min(left[i + 1]!, left[i]! + PAGES_PER_CALL)) {
        const pages = Math.min(left[i + 1]! - left[i]!, PAGES_PER_CALL);
        if (core.exports.reprotect(table, left[i]!, pages, rights) < 0) return pageLocks.wait(core.stopFrame);
      }
    }
    for (let i = 0; i < this.parts.length; i += 2) vmas.protect(this.parts[i]!, this.parts[i + 1]!, prot);
    return undefined;
  }

  private report(): void {
    const { events } = this.platform;
    if (!events.heard) return;
    const what = this.what;
    reportSplits(
      this.platform,
      this.space,
      this.heads,
      what.verb === 'protect' ? 'mprotect' : what.verb === 'unmap' ? 'munmap' : 'madvise',
    );
    const range = { space: this.space.id, vpn: this.start, pages: this.end - this.start };
    if (what.verb === 'protect') events.emit({ type: 'space.protected', ...range, rights: printedRights(what.prot) });
    else events.emit({ type: 'space.unmapped', ...range, cause: CAUSES[what.verb] });
  }
}

/** Rights as in /proc/pid/maps. */
export function printedRights(prot: number): string {
  return `${prot & 1 ? 'r' : '-'}${prot & 2 ? 'w' : '-'}${prot & 4 ? 'x' : '-'}`;
}

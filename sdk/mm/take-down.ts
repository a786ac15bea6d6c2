/**
 * Taking away: munmap, mprotect, madvise DONTNEED. One order for all of them: notifier start (devices clear their entries and flush), wait for every flush,
 * change the home table, free, notifier end. None of it can fail.
 */
import * as L from '../../assembly/layout.ts';
import { fail } from '../errors.ts';
import { DONE, type Progress, type Run, type Step } from '../step/step.ts';
import type { AddressSpace } from './address-space.ts';
import { endInvalidation } from './migration.ts';
import { Invalidation, type InvalidateReason } from './notifier.ts';
import type { Platform } from './platform.ts';

const LOCK = 0;
const ANNOUNCE = 1;
const CHANGE = 2;

/** What is taken from the pages of a range. */
export type TakeDownVerb =
  /** The promise and the pages. */
  | { readonly verb: 'unmap' }
  /** The pages; the promise stays, the next touch finds zeros. */
  | { readonly verb: 'discard' }
  /** Everything: the space ends. */
  | { readonly verb: 'exit' }
  /** Rights: READ | WRITE | EXEC. */
  | { readonly verb: 'protect'; readonly prot: number };

const REASONS: Readonly<Record<TakeDownVerb['verb'], InvalidateReason>> = {
  unmap: 'UNMAP',
  discard: 'CLEAR',
  exit: 'RELEASE',
  protect: 'PROTECTION_VMA',
};

/** Pages given to the core at once: counts cross the boundary as 32 bits. */
const PAGES_PER_CALL = 2 ** 30;

/** The step that takes pages, promises or rights away from a range. */
export class TakeDown implements Step {
  readonly name: string;
  /** Whether any page of a VMA was in the range. */
  touched = false;
  readonly #platform: Platform;
  readonly #space: AddressSpace;
  readonly #start: number;
  readonly #end: number;
  readonly #what: TakeDownVerb;
  readonly #invalidation: Invalidation = new Invalidation();
  /** The parts of the range that had a mapping when it was announced, `[start, end)` each: what is mapped in a hole while devices flush is not touched. */
  readonly #parts: number[] = [];
  #phase = LOCK;

  /** For the pages `[start, end)`. */
  constructor(platform: Platform, space: AddressSpace, start: number, end: number, what: TakeDownVerb) {
    this.name = what.verb;
    this.#platform = platform;
    this.#space = space;
    this.#start = start;
    this.#end = end;
    this.#what = what;
  }

  next(run: Run): Progress {
    const space = this.#space;
    switch (this.#phase) {
      case LOCK:
        if (!space.mmapLock.tryAcquire(run)) return run.waitFor(space.mmapLock);
        this.#phase = ANNOUNCE;
      // falls through
      case ANNOUNCE:
        this.touched = this.#changes();
        if (this.#what.verb === 'exit') space.release(this.#invalidation);
        else if (!this.touched) return this.#finish(run);
        else space.announce(this.#invalidation.set(this.#start, this.#end, REASONS[this.#what.verb]));
        this.#phase = CHANGE;
      // falls through
      default: {
        const { unfinished } = this.#invalidation;
        if (unfinished) return run.waitFor(unfinished);
        this.#change();
        endInvalidation(this.#invalidation);
        return this.#finish(run);
      }
    }
  }

  abort(run: Run): void {
    endInvalidation(this.#invalidation);
    if (run.holds(this.#space.mmapLock)) this.#space.mmapLock.release(run);
  }

  #finish(run: Run): typeof DONE {
    this.#space.mmapLock.release(run);
    return DONE;
  }

  /** Notes what of the range this verb changes; false when there is nothing. */
  #changes(): boolean {
    const what = this.#what;
    this.#space.vmas.each(this.#start, this.#end, (vma, first, last) => {
      if (what.verb !== 'protect' || vma.prot !== what.prot) this.#parts.push(first, last);
    });
    return this.#parts.length > 0;
  }

  #change(): void {
    const { events } = this.#platform;
    const space = this.#space;
    const what = this.#what;
    const pages = this.#end - this.#start;
    for (let i = 0; i < this.#parts.length; i += 2) {
      const first = this.#parts[i]!;
      const last = this.#parts[i + 1]!;
      if (what.verb === 'protect') this.#protect(first, last, what.prot);
      else this.#zap(first, last);
      if (what.verb === 'unmap' || what.verb === 'exit') space.vmas.remove(first, last);
    }
    if (what.verb === 'protect') {
      if (events.heard)
        events.emit({ type: 'space.protected', space: space.id, vpn: this.#start, pages, rights: printedRights(what.prot) });
      return;
    }
    if (events.heard) events.emit({ type: 'space.unmapped', space: space.id, vpn: this.#start, pages });
  }

  #zap(first: number, last: number): void {
    const { core } = this.#platform;
    let vpn = first;
    while (vpn < last) {
      vpn += core.exports.zap(this.#space.table, vpn, Math.min(last - vpn, PAGES_PER_CALL));
      // Stopped early when its list of freed frames was full: their owners are told, and it goes on.
      this.#platform.settleFreed();
      if (core.stopReason === L.STOP_TABLES)
        throw fail('ENOMEM', 'table pages', vpn * L.PAGE_BYTES, 'has a huge leaf that cannot be split');
    }
  }

  #protect(first: number, last: number, prot: number): void {
    const { core } = this.#platform;
    for (let vpn = first; vpn < last; vpn += PAGES_PER_CALL) {
      core.exports.reprotect(this.#space.table, vpn, Math.min(last - vpn, PAGES_PER_CALL), prot & 3);
    }
    this.#space.vmas.protect(first, last, prot);
  }
}

/** Rights as in /proc/pid/maps. */
export function printedRights(prot: number): string {
  return `${prot & 1 ? 'r' : '-'}${prot & 2 ? 'w' : '-'}${prot & 4 ? 'x' : '-'}`;
}

/**
 * Range fault: what the CPU's table says of a range, faulting pages in where that is asked for, and the loop around it that installs the
 * answer only while it is still true.
 *
 * A word per page, two u32 (frame, bits): HMM_VALID readable, HMM_WRITE writable, HMM_ERROR never; the order of the CPU's mapping is in HMM_ORDER. In a request the
 * same bits ask for a read or write fault; without HMM_VALID a page is only looked at.
 *
 * ```
 *   the page                             looked at        asked for
 *   no VMA, no right to read, pfn or io  ERROR            fault
 *   no right to write                    -                permission, when a write fault is needed
 *   none, swap                           0                faulted in
 *   page of zeros, huge or not           VALID            read: as it is; write: faulted
 *   present                              VALID (WRITE)    faulted when the right to write is missing
 *   special entry                        ERROR            fault
 *   device-private, its owner's          VALID (WRITE)    as present: a write to a read-only one brings it home
 *   device-private, another's            0; huge: ERROR   brought home
 *   exclusive                            0                revoked
 *   migration                            0                waited for
 *   protnone                             0                faulted
 *   poison                               0                fault
 * ```
 *
 * Only the pages that ask are faulted, each with its own right; what is around them may come along (a granule, a huge page). A fault may invalidate the range, as one does that brings a page home from another device. So the
 * pages behind it are faulted as well, as far as the end of its 2 MiB, before it is asked whether the range was invalidated: else every page of another device would cost a new begin.
 *
 * Models: `hmm_range_fault`, and the retry loop of its documentation.
 */
import * as L from '../../assembly/layout.ts';
import { fail } from '../errors.ts';
import { type Lock } from '../step/lock.ts';
import { AGAIN, DONE, type Progress, type Run, type Step } from '../step/step.ts';
import type { AddressSpace } from './address-space.ts';
import { CpuFault } from './fault.ts';
import { HUGE_PAGES } from './huge-window.ts';
import type { IntervalNotifier } from './notifier.ts';
import type { Platform } from './platform.ts';
import { PROT_READ, PROT_WRITE, type Vma, VMA_IO, VMA_PFNMAP } from './vma.ts';

/** Request and answer bits of a page's high word. */
export const HMM_VALID: number = 2 ** L.HMM_VALID_SHIFT;
/** Request: with the right to write. Answer: writable. */
export const HMM_WRITE: number = L.HMM_WRITE;
const STICKY: number = L.HMM_DMA_MAPPED | L.HMM_P2PDMA | L.HMM_P2PDMA_BUS;
/** Answer: this page can never be had. */
export const HMM_ERROR: number = L.HMM_ERROR;

/**
 * How it ended: `done`; `busy`: the range was invalidated meanwhile, begin again; `fault`: no mapping, no right to read, or bytes that cannot be had; `permission`:
 * write asked for where the VMA forbids it; `no memory`.
 */
export type RangeFaultOutcome = 'done' | 'busy' | 'fault' | 'permission' | 'no memory';

/** Retries of the library's loop before it gives up with `busy`: a budget, so that a livelock shows itself. Pages that come home from another device cost one for each 2 MiB. */
export const MIRROR_ATTEMPTS_MAX = 1000;

/** What to look at and what to ask for. */
export interface RangeRequest {
  readonly notifier: IntervalNotifier;
  /** First page. */
  readonly vpn: number;
  readonly pages: number;
  /**
   * What every page asks for, or a function of page `i`: 0 (look only), HMM_VALID, or HMM_VALID | HMM_WRITE (as an unsigned number). The sticky bits of a DMA mapping (HMM_DMA_MAPPED and its like) come back in the answer.
   */
  readonly request: number | ((i: number) => number);
  /** With a number as `request`: the only page that asks for it; the others are looked at. Default: all pages ask. */
  readonly only?: number;
  /** Whose device-private pages count as readable: device index + 1. */
  readonly owner: number;
}

/** As a signed number: a small integer, which needs no room on the heap. */
function asks({ request, only }: RangeRequest, i: number): number {
  if (typeof request !== 'number') return request(i) | 0;
  return only === undefined || only === i ? request | 0 : 0;
}

/**
 * One try. Requires: the caller holds the space's mmap lock, and began with `sequence`. The words of pages before a failing one are answers; the request is a
 * function, so nothing is half-converted.
 */
export class RangeFault implements Step {
  readonly name = 'range fault';
  outcome: RangeFaultOutcome = 'done';
  /** Frame and bits of each page, two u32. */
  words: Uint32Array = new Uint32Array(0);
  /** Page (counted from the start) at which it ended early. */
  at = 0;
  private readonly platform: Platform;
  private readonly fault: CpuFault;
  private space!: AddressSpace;
  private asked!: RangeRequest;
  private sequence = 0;
  private faulted = false;
  /** Where the 2 MiB of the last fault end; 0: there was none. */
  private until = 0;
  /** Where the page is that was looked at last. */
  private vma: Vma | undefined;
  /** A page has come home since all were looked at. */
  private home = false;
  /** Pages before this one have their answer. */
  private from = 0;
  /** Pages that are looked at together next. */
  private ahead = L.WORDS_MAX;

  constructor(platform: Platform) {
    this.platform = platform;
    this.fault = new CpuFault(platform);
  }

  of(space: AddressSpace, asked: RangeRequest, sequence: number): this {
    requireRequest(space, asked);
    this.outcome = 'done';
    this.at = 0;
    this.space = space;
    this.asked = asked;
    this.sequence = sequence;
    this.faulted = false;
    this.until = 0;
    this.home = false;
    this.from = 0;
    this.ahead = L.WORDS_MAX;
    if (this.words.length < asked.pages * 2) this.words = this.platform.takeWords(asked.pages * 2);
    return this;
  }

  next(run: Run): Progress {
    if (this.faulted) {
      this.faulted = false;
      const { outcome } = this.fault;
      if (outcome === 'no memory') return this.end('no memory');
      if (outcome === 'permission') return this.end('permission');
      if (outcome !== 'served') return this.end('fault');
      this.home ||= this.fault.broughtHome;
      this.from = this.at;
    }
    const { notifier, pages, owner } = this.asked;
    const busy = notifier.checkRetry(this.sequence);
    const end = busy ? Math.min(this.until, pages) : pages;
    // The page that faulted is looked at again, and so is what lies behind it; if it has been for nothing, once is enough.
    const from = busy ? this.from + 1 : this.from;
    let looked = from;
    let lookedFrom = from;
    for (let i = from; ; i++) {
      // Of pages that came home their own device was not told: they are looked at again, wherever they are.
      if (i === end && this.home && !busy) {
        this.home = false;
        i = looked = 0;
        this.ahead = L.WORDS_MAX;
      }
      if (i >= end) return this.end(busy ? 'busy' : 'done');
      if (i === looked) {
        // Behind a fault no further than what is seen may hold until the next one.
        lookedFrom = i;
        looked = Math.min(end, i + this.ahead);
        this.look(i, looked);
        this.ahead *= 4;
      }
      const need = this.need(i);
      if (need === 'nothing') {
        i += this.likeIt(i, lookedFrom, looked);
        continue;
      }
      this.at = i;
      if (need !== 'read' && need !== 'write') return this.end(busy ? 'busy' : need);
      this.faulted = true;
      const { vpn } = this.asked;
      this.until = (Math.floor((vpn + i) / HUGE_PAGES) + 1) * HUGE_PAGES - vpn;
      this.ahead = LOOK_AHEAD;
      return run.call(this.fault.of(this.space, vpn + i, need === 'write', true, owner));
    }
  }

  /** @internal Nobody looks at the words any more: many of them are for the next one. */
  giveWords(): void {
    if (this.words.length <= WORDS_KEPT_MAX) return;
    this.platform.spareWords = this.words;
    this.words = NO_WORDS;
  }

  /** Takes the words of the pages `[from, to)`. */
  private look(from: number, to: number): void {
    const { core } = this.platform;
    const { words } = this;
    const area = core.wordsArea(L.AREA_SOURCE);
    core.exports.snapshotHmm(this.space.table, this.asked.vpn + from, to - from, area, this.asked.owner);
    if (to - from > FEW_PAGES) words.set(core.words(L.AREA_SOURCE, (to - from) * 2), from * 2);
    else for (let i = 0, at = area >>> 2; i < (to - from) * 2; i++, at++) words[from * 2 + i] = core.u32[at]!;
  }

  private end(outcome: RangeFaultOutcome): typeof DONE {
    this.outcome = outcome;
    return DONE;
  }

  /** What page `i` still lacks; an ERROR page gets its word here. */
  private need(i: number): 'nothing' | 'read' | 'write' | 'fault' | 'permission' {
    const request = asks(this.asked, i);
    if (request & STICKY) this.words[i * 2 + 1]! |= request & STICKY;
    const asksFault = (request & HMM_VALID) !== 0;
    const asksWrite = asksFault && (request & HMM_WRITE) !== 0;
    const vma = this.space.vmas.find(this.asked.vpn + i);
    this.vma = vma;
    if (!vma || !(vma.prot & PROT_READ) || vma.flags & (VMA_IO | VMA_PFNMAP)) {
      this.words[i * 2] = 0;
      this.words[i * 2 + 1] = HMM_ERROR | (request & STICKY);
      return asksFault ? 'fault' : 'nothing';
    }
    const high = this.words[i * 2 + 1]!;
    if (!asksFault) return 'nothing';
    // A huge page on a foreign device is ERROR to who only looks; it can be had.
    if (high & HMM_ERROR && !this.isForeign(i)) return 'fault';
    if (high < HMM_VALID) return asksWrite ? (vma.prot & PROT_WRITE ? 'write' : 'permission') : 'read';
    if (!asksWrite || high & HMM_WRITE) return 'nothing';
    return vma.prot & PROT_WRITE ? 'write' : 'permission';
  }

  /** Of the pages behind page `i`, which needs nothing, how many need nothing either, where all are asked for alike: the rest of its mapping is looked at at once. The words `[lookedFrom, looked)` were looked at last. */
  private likeIt(i: number, lookedFrom: number, looked: number): number {
    const { request, only, vpn } = this.asked;
    // A function is asked page by page, a sticky bit goes into every word, and around a single page there are few.
    if (typeof request !== 'number' || only !== undefined || (request & STICKY) !== 0) return 0;
    const { vma } = this;
    if (!vma || !(vma.prot & PROT_READ) || vma.flags & (VMA_IO | VMA_PFNMAP)) return 0;
    const { core } = this.platform;
    const first = core.area(L.AREA_SOURCE) + (i + 1 - lookedFrom) * 8;
    const left = vma.end - vpn;
    const last = core.area(L.AREA_SOURCE) + ((left < looked ? left | 0 : looked) - lookedFrom) * 8;
    // Signed, as `asks` says.
    const wanted = request & HMM_VALID ? request | 0 : 0;
    return (core.exports.alikeEnd(first, last, wanted, wanted) - first) >> 3;
  }

  private isForeign(i: number): boolean {
    const high = this.platform.core.entry(this.space.table, this.asked.vpn + i);
    return (high & L.ENTRY_KIND) === L.KIND_DEVICE_PRIVATE;
  }
}

/** Words that a step keeps for its own next use. */
const WORDS_KEPT_MAX = 1024;
const NO_WORDS: Uint32Array = new Uint32Array(0);

/** Pages behind one that faulted that are looked at together, where the next may fault as well. */
const LOOK_AHEAD = 16;

/** Pages so few that a loop has taken their words before a view of them is made. */
const FEW_PAGES = 256;

/** Throws EINVAL for a range that the notifier does not cover, or that is longer than one look can be. */
function requireRequest(space: AddressSpace, { notifier, vpn, pages }: RangeRequest): void {
  if (!Number.isInteger(pages) || pages < 1 || pages > L.WORDS_MAX)
    throw fail('EINVAL', 'request.pages', pages, `is not a count between 1 and ${L.WORDS_MAX}`);
  if (notifier.set !== space.notifiers) throw fail('EINVAL', 'request.notifier', notifier.id, 'is one of another address space');
  if (!Number.isSafeInteger(vpn) || !notifier.covers(vpn, vpn + pages))
    throw fail('EINVAL', 'request.vpn', vpn, `begins ${pages} pages that the notifier does not cover`);
}

/** Puts an answer into a device's table. Called under the driver lock, while the answer is true. The words are lent until it returns. */
export type InstallAnswer = (words: Uint32Array, vpn: number, pages: number) => void;

const BEGIN = 0;
const LOOK = 1;
const INSTALL = 2;

/**
 * The whole loop: begin, look and fault under the mmap lock, take the driver lock, install unless the range was invalidated meanwhile, else begin again. This is the
 * documented way to mirror a range; the protocol underneath stays available.
 */
export class MirrorRange implements Step {
  readonly name = 'mirror range';
  outcome: RangeFaultOutcome = 'done';
  /** Times it had to begin again. */
  retries = 0;
  /** @internal Filled anew by who uses the step again. */
  asked!: { -readonly [field in keyof RangeRequest]: RangeRequest[field] };
  /** @internal Of its machine. */
  readonly platform: Platform;
  private readonly fault: RangeFault;
  private space!: AddressSpace;
  private lock!: Lock;
  private install!: InstallAnswer;
  private sequence = 0;
  private phase = BEGIN;

  constructor(platform: Platform) {
    this.platform = platform;
    this.fault = new RangeFault(platform);
  }

  of(space: AddressSpace, asked: RangeRequest, lock: Lock, install: InstallAnswer): this {
    requireRequest(space, asked);
    this.outcome = 'done';
    this.retries = 0;
    this.space = space;
    this.asked = asked;
    this.lock = lock;
    this.install = install;
    this.phase = BEGIN;
    return this;
  }

  next(run: Run): Progress {
    const { mmapLock, notifiers } = this.space;
    switch (this.phase) {
      case BEGIN: {
        const { notifier } = this.asked;
        // While this one waited, who asked may have left, or the space may have ended.
        if (notifier.state === 'removed') throw fail('EBADF', 'range fault', `notifier ${notifier.id}`, 'has been removed');
        const begun = notifier.readBegin();
        if (begun === 'wait') return run.waitFor(notifiers.idle);
        this.sequence = begun;
        this.phase = LOOK;
      }
      // falls through
      case LOOK:
        if (!mmapLock.tryAcquireShared(run)) return run.waitFor(mmapLock);
        this.phase = INSTALL;
        return run.call(this.fault.of(this.space, this.asked, this.sequence));
      default:
        return this.finish(run);
    }
  }

  private finish(run: Run): Progress {
    const { mmapLock } = this.space;
    if (run.holds(mmapLock)) mmapLock.release(run);
    const { outcome } = this.fault;
    if (outcome === 'done') {
      if (!this.lock.tryAcquire(run)) return run.waitFor(this.lock);
      const stale = this.asked.notifier.readRetry(this.sequence) || !this.stands();
      try {
        if (!stale) this.install(this.fault.words, this.asked.vpn, this.asked.pages);
      } finally {
        this.lock.release(run);
      }
      if (!stale) return this.end('done');
    } else if (outcome !== 'busy') return this.end(outcome);
    if (++this.retries >= MIRROR_ATTEMPTS_MAX) return this.end('busy');
    this.phase = BEGIN;
    return AGAIN;
  }

  /** Whether what was read of the owner's device pages is still so: its notifier ignores its own migrations, and a CPU fault is one of them. */
  private stands(): boolean {
    const { owner, vpn, pages } = this.asked;
    if (owner === 0) return true;
    const { core } = this.platform;
    const { words } = this.fault;
    const { u32 } = core;
    core.exports.snapshotHmm(this.space.table, vpn, pages, core.wordsArea(L.AREA_TARGET), owner);
    const now = core.area(L.AREA_TARGET) >>> 2;
    for (let i = 0; i < pages * 2; i += 2) {
      const lost = words[i + 1]! & ~u32[now + i + 1]! & (HMM_WRITE | (1 << L.HMM_VALID_SHIFT));
      if (words[i + 1]! >= HMM_VALID && (lost !== 0 || words[i] !== u32[now + i])) return false;
    }
    return true;
  }

  private end(outcome: RangeFaultOutcome): typeof DONE {
    this.outcome = outcome;
    this.fault.giveWords();
    return DONE;
  }

  abort(run: Run): void {
    if (run.holds(this.space.mmapLock)) this.space.mmapLock.release(run);
  }
}

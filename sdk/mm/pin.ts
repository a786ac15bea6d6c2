/**
 * Pins: pages that somebody uses by their frames, for DMA, without asking the page table again. A pinned page stays where it is: it does not move, and a fork gives the child a
 * copy at once. The bytes outlive the mapping: munmap and exit leave the frame to the pin.
 *
 * ```
 *   page                         pinned for reading                            pinned for writing
 *   none                         faulted in                                    faulted in, this space's own
 *   page of zeros                as it is, not counted; long-term: a copy      a frame of its own
 *   anonymous, shared by a fork  a copy, or marked this space's own (unshare)  a copy
 *   of a file, private mapping   as it is; long-term: a copy                   a copy
 *   of a shared object           as it is                                      writable and dirty
 *   device-private               comes home                                    comes home
 *   coherent                     as it is; long-term: moves to the host        the same
 *   exclusive                    revoked                                       revoked
 *   special                      EFAULT                                        EFAULT
 * ```
 *
 * Models: `pin_user_pages` (`FOLL_PIN`, `FOLL_WRITE`, `FOLL_LONGTERM`), `gup_must_unshare`, `collect_longterm_unpinnable_folios`.
 */
import * as L from '../../assembly/layout.ts';
import { fail } from '../errors.ts';
import { AGAIN, DONE, type Progress, type Run, type Step } from '../step/step.ts';
import type { AddressSpace } from './address-space.ts';
import { type AddressRange, type NamesOf, requireBytes } from './arguments.ts';
import { CpuFault } from './fault.ts';
import { Migration } from './migration.ts';
import type { SharedObject } from './page-cache.ts';
import type { Platform } from './platform.ts';
import { PROT_READ, PROT_WRITE, VMA_IO, VMA_PFNMAP, VMA_PRIVATE, type Vma } from './vma.ts';

/**
 * How it ended. `no mapping`, `permission`: EFAULT. `held`: a page on coherent memory cannot move to the host, because somebody holds it or no host frame is free. `too many`: a page has all
 * the pins that it can have. `no progress`: a page is taken away again and again.
 */
export type PinOutcome = 'done' | 'no mapping' | 'permission' | 'no memory' | 'bus error' | 'held' | 'too many' | 'no progress';

/** What a pin is for. */
export interface PinOptions {
  /** The holder writes. Default false. */
  readonly write?: boolean;
  /** It is kept for as long as the holder likes, so it may not sit where others need room. Default false. Models: `FOLL_LONGTERM`. */
  readonly longTerm?: boolean;
}

export const PIN_OPTIONS: NamesOf<PinOptions> = { write: true, longTerm: true };

/** Pages of a pin, `[first, end)`, that are pages of a shared object, from its page `page` on. */
interface ObjectRun {
  readonly object: SharedObject;
  readonly page: number;
  readonly first: number;
  end: number;
}

/** Pages that a list of frames has room for from the beginning: of a longer range most may not be there. */
const FRAMES_AT_ONCE = 2 ** 20;

/** Faults for one page before it gives up. */
export const PIN_ATTEMPTS_MAX = 64;

/** Pages held by their frames. Made by `space.pin(range)`. Ends with `unpin()`. */
export class Pin {
  /** Frame of each page, in order. */
  readonly frames: readonly number[];
  readonly isWritable: boolean;
  readonly isLongTerm: boolean;
  private readonly platform: Platform;
  private readonly objects: readonly ObjectRun[];
  /** Where its pages were mapped. */
  private readonly place: { readonly space: number; readonly vpn: number };
  private holding = true;

  /** Takes over the pins of `frames`: one each, none on the page of zeros. `objects`: what stands behind the pages of shared objects, ascending. */
  constructor(
    platform: Platform,
    frames: readonly number[],
    objects: readonly ObjectRun[],
    write: boolean,
    longTerm: boolean,
    place: { readonly space: number; readonly vpn: number },
  ) {
    this.platform = platform;
    this.place = place;
    this.objects = objects;
    this.frames = frames;
    this.isWritable = write;
    this.isLongTerm = longTerm;
  }

  get pages(): number {
    return this.frames.length;
  }

  /** False after `unpin`. */
  get held(): boolean {
    return this.holding;
  }

  /** Reads `bytes` bytes from byte `offset` of the pinned range on, as the holder's DMA would: past all page tables. Throws EINVAL outside of it, EIO where the bytes are not in the machine's memory. */
  read(offset: number, bytes: number): Uint8Array {
    const into = new Uint8Array(this.length('pin.read.bytes', offset, bytes));
    const { u8, bytesArea } = this.platform.core;
    for (let done = 0; done < bytes;) {
      const room = bytesArea.room(done, bytes, offset + done);
      for (let filled = 0; filled < room;) {
        const length = Math.min(room - filled, L.PAGE_BYTES - ((offset + done + filled) % L.PAGE_BYTES));
        const at = this.bytesAt('pin.read', offset + done + filled);
        u8.copyWithin(bytesArea.address + filled, at, at + length);
        filled += length;
      }
      bytesArea.take(into, done, room);
      done += room;
    }
    return into;
  }

  /** Writes bytes from byte `offset` on. Throws as `read` does, and EPERM for a pin that only reads. */
  write(offset: number, bytes: Uint8Array): void {
    requireBytes('pin.write.bytes', bytes);
    this.length('pin.write.bytes', offset, bytes.length);
    if (!this.isWritable) throw fail('EPERM', 'pin.write', offset, 'is in a range that was pinned for reading');
    const { u8, bytesArea } = this.platform.core;
    const writer = bytesArea.begin();
    for (let done = 0; done < bytes.length;) {
      const lent = bytesArea.lend(writer, bytes, done, offset + done);
      const length = Math.min(lent, L.PAGE_BYTES - ((offset + done) % L.PAGE_BYTES));
      const at = this.bytesAt('pin.write', offset + done);
      u8.copyWithin(at, bytesArea.address, bytesArea.address + length);
      this.markDirty(Math.floor((offset + done) / L.PAGE_BYTES));
      done += length;
    }
  }

  /** What stands behind a page of the pin has been written to; unless it was truncated away meanwhile: then the page is the holder's alone. */
  private markDirty(page: number): void {
    const run = this.runOf(page);
    if (!run) return;
    const { object } = run;
    const index = run.page + page - run.first;
    if (object.frameOf(index) === this.frames[page]) object.markDirty(index);
  }

  /** The run that a page is in; undefined: no shared object stands behind it. */
  private runOf(page: number): ObjectRun | undefined {
    const { objects } = this;
    let low = 0;
    let high = objects.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (objects[middle]!.end <= page) low = middle + 1;
      else high = middle;
    }
    const run = objects[low];
    return run !== undefined && run.first <= page ? run : undefined;
  }

  /** Ends the pin; pages that nobody else holds any more go back. Throws EBADF the second time. Models: `unpin_user_pages`. */
  unpin(): void {
    this.requireHeld('unpin');
    this.platform.requireIdle('unpin');
    this.holding = false;
    release(this.platform, this.frames, this.frames.length);
    const { events } = this.platform;
    if (events.heard) events.emit({ type: 'pages.unpinned', ...this.place, pages: this.frames.length });
  }

  /** Where in the core's memory byte `offset` of the pinned range is. */
  private bytesAt(verb: string, offset: number): number {
    const at = this.platform.core.frameBytes(this.frames[Math.floor(offset / L.PAGE_BYTES)]!);
    if (at === 0) throw fail('EIO', `${verb}.offset`, offset, 'is in a frame that has no bytes in the memory of this machine');
    return at + (offset % L.PAGE_BYTES);
  }

  private length(argument: string, offset: number, bytes: number): number {
    this.requireHeld(argument);
    if (!Number.isSafeInteger(offset) || offset < 0)
      throw fail('EINVAL', argument.replace('bytes', 'offset'), offset, 'is not a byte of the pinned range');
    if (!Number.isSafeInteger(bytes) || bytes < 0 || offset + bytes > this.frames.length * L.PAGE_BYTES)
      throw fail('EINVAL', argument, bytes, `from byte ${offset} on leave the ${this.frames.length} pinned pages`);
    return bytes;
  }

  private requireHeld(verb: string): void {
    this.platform.requireOpen(verb);
    if (!this.holding) throw fail('EBADF', verb, 'pin', 'has been unpinned');
  }
}

/** Ends the pins of the first `count` frames, pages of zeros left out, which have none. */
function release(platform: Platform, frames: readonly number[], count: number): void {
  const { core } = platform;
  const zeros = core.nodeOf(core.header(L.H_ZERO_FRAME));
  for (let i = 0; i < count; i++) if (core.nodeOf(frames[i]!) !== zeros) core.exports.frameUnpin(frames[i]!);
  platform.settleFreed();
}

const LOCK = 0;
const PAGE = 1;
const FAULTED = 2;
const MOVED = 3;

/** The step behind `space.pin`: all pages of a range, or none. */
export class PinRange implements Step {
  readonly name = 'pin';
  outcome: PinOutcome = 'done';
  /** The pin, when `done`. */
  pin: Pin | undefined;
  /** The page that it could not pin. */
  at = 0;
  private readonly platform: Platform;
  private readonly space: AddressSpace;
  private readonly end: number;
  private readonly write: boolean;
  private readonly longTerm: boolean;
  private readonly fault: CpuFault;
  /** Made when a page first has to leave a coherent memory. */
  private migration: Migration | undefined;
  /** Of each page; the first `count` of them are pinned. */
  private readonly frames: number[];
  private count = 0;
  private readonly objects: ObjectRun[] = [];
  private vpn: number;
  private attempts = 0;
  private isLocker = false;
  private isAbandoned = false;
  private phase = LOCK;

  /** For the pages `[start, end)`. Takes the mmap lock shared, unless the caller holds it. */
  constructor(platform: Platform, space: AddressSpace, start: number, end: number, { write = false, longTerm = false }: PinOptions) {
    this.platform = platform;
    this.space = space;
    this.end = end;
    this.write = write;
    this.longTerm = longTerm;
    this.fault = new CpuFault(platform);
    this.frames = new Array<number>(Math.min(end - start, FRAMES_AT_ONCE));
    this.vpn = start;
  }

  next(run: Run): Progress {
    const { mmapLock } = this.space;
    switch (this.phase) {
      case LOCK:
        if (!run.holds(mmapLock)) {
          if (!mmapLock.tryAcquireShared(run)) return run.waitFor(mmapLock);
          this.isLocker = true;
        }
        this.phase = PAGE;
      // falls through
      case PAGE:
        return this.pages(run);
      case FAULTED:
        this.phase = PAGE;
        return this.fault.outcome === 'served' ? AGAIN : this.stop(run, this.fault.outcome);
      default:
        return this.moved(run);
    }
  }

  /** Nobody waits for the pin any more: what is pinned is given back when the step ends. */
  abandon(): void {
    this.isAbandoned = true;
  }

  abort(run: Run): void {
    this.giveBack();
    this.unlock(run);
  }

  /** Pins pages until one needs more than a look. */
  private pages(run: Run): Progress {
    const { core } = this.platform;
    while (this.vpn < this.end) {
      const vma = this.space.vmas.find(this.vpn);
      const refused = this.refuses(vma);
      if (refused) return this.stop(run, refused);
      const high = core.entry(this.space.table, this.vpn);
      const frame = core.entryLow;
      switch (this.needs(vma!, high, frame)) {
        case 'nothing':
          // The page of zeros goes nowhere and is nobody's.
          if (!(high & L.ENTRY_ZERO) && !core.exports.framePin(frame, this.longTerm ? 1 : 0)) return this.stop(run, 'too many');
          if (this.write && vma!.object && !(vma!.flags & VMA_PRIVATE)) this.stands(vma!.object, vma!.offset + (this.vpn - vma!.start));
          this.frames[this.count++] = frame;
          this.vpn++;
          this.attempts = 0;
          continue;
        case 'fault':
          return this.call(run, this.fault.of(this.space, this.vpn, this.write, true), FAULTED);
        case 'unshare':
          return this.call(run, this.fault.unshare(this.space, this.vpn), FAULTED);
        case 'host':
          return this.toHost(run, high, frame);
        case 'no mapping':
          return this.stop(run, 'no mapping');
      }
    }
    if (this.isAbandoned) this.giveBack();
    else this.pin = this.pinned();
    this.unlock(run);
    return DONE;
  }

  /** The page that is about to be counted is page `page` of a shared object. */
  private stands(object: SharedObject, page: number): void {
    const last = this.objects.at(-1);
    if (last?.object === object && last.end === this.count && last.page + this.count - last.first === page) last.end++;
    else this.objects.push({ object, page, first: this.count, end: this.count + 1 });
  }

  private pinned(): Pin {
    const { events } = this.platform;
    const { frames, write, longTerm } = this;
    frames.length = this.count;
    const place = { space: this.space.id, vpn: this.end - frames.length };
    if (events.heard) events.emit({ type: 'pages.pinned', ...place, pages: frames.length, write, longTerm });
    return new Pin(this.platform, frames, this.objects, write, longTerm, place);
  }

  /** Why no page of this VMA can be pinned. */
  private refuses(vma: Vma | undefined): PinOutcome | undefined {
    if (!vma || vma.flags & (VMA_IO | VMA_PFNMAP)) return 'no mapping';
    if (!(vma.prot & PROT_READ) || (this.write && !(vma.prot & PROT_WRITE))) return 'permission';
    // Write-back takes the right to write away, and the holder would not notice: for long, that loses what it writes.
    if (this.write && this.longTerm && !(vma.flags & VMA_PRIVATE) && vma.object?.kind === 'file') return 'permission';
    return undefined;
  }

  private needs(vma: Vma, high: number, frame: number): 'nothing' | 'fault' | 'unshare' | 'host' | 'no mapping' {
    const { core } = this.platform;
    const kind = high & L.ENTRY_KIND;
    if (kind === L.KIND_SPECIAL) return 'no mapping';
    if (kind !== L.KIND_PRESENT || (this.write && !(high & L.ENTRY_WRITE))) return 'fault';
    const isPrivate = (vma.flags & VMA_PRIVATE) !== 0;
    if (isPrivate && !(high & L.ENTRY_ANON_EXCLUSIVE)) {
      const isAnonymous = !(high & L.ENTRY_ZERO) && !(core.field(core.frameRecord(core.headOf(frame)), L.FRAME_FLAGS) & L.FRAME_FILE);
      if (isAnonymous || this.longTerm) return 'unshare';
    }
    if (high & L.ENTRY_ZERO) return 'nothing';
    return this.longTerm && this.platform.nodes.of(frame).kind === 'coherent' ? 'host' : 'nothing';
  }

  private call(run: Run, step: Step, then: number): Progress {
    if (++this.attempts > PIN_ATTEMPTS_MAX) return this.stop(run, 'no progress');
    this.phase = then;
    return run.call(step);
  }

  /** A long-term pin may not keep device memory: the page, and a huge page as one, moves to the host first. */
  private toHost(run: Run, high: number, frame: number): Progress {
    const { core, memories } = this.platform;
    const memory = memories.get(core.nodeOf(frame))!;
    const pages = 2 ** ((high & L.ENTRY_ORDER) >>> L.ENTRY_ORDER_SHIFT);
    const start = this.vpn - (this.vpn % pages);
    this.migration ??= new Migration(this.platform);
    return this.call(run, this.migration.toHost(this.space, start, pages, memory, 'pin', this.vpn), MOVED);
  }

  private moved(run: Run): Progress {
    this.phase = PAGE;
    if (this.migration!.verdict(this.vpn) === 'moved') return AGAIN;
    // Gone on its way already, or held: the next look says which.
    const { core } = this.platform;
    const high = core.entry(this.space.table, this.vpn);
    const isThere = (high & L.ENTRY_KIND) === L.KIND_PRESENT && this.platform.nodes.of(core.entryLow).kind === 'coherent';
    return isThere ? this.stop(run, 'held') : AGAIN;
  }

  private stop(run: Run, outcome: PinOutcome): typeof DONE {
    this.outcome = outcome;
    this.at = this.vpn;
    this.giveBack();
    this.unlock(run);
    return DONE;
  }

  private giveBack(): void {
    release(this.platform, this.frames, this.count);
    this.count = 0;
  }

  private unlock(run: Run): void {
    if (!this.isLocker) return;
    this.isLocker = false;
    this.space.mmapLock.release(run);
  }
}

const PIN_ERRORS = {
  'no mapping': ['EFAULT', 'has a page that is not mapped'],
  permission: ['EFAULT', 'has a page that is mapped without the right to it'],
  'no memory': ['ENOMEM', 'needs a page, and host memory is exhausted'],
  'bus error': ['EIO', 'has a page whose bytes cannot be had'],
  held: ['EBUSY', 'has a page that cannot leave the memory of a device'],
  'too many': ['EOVERFLOW', 'has a page with as many pins as it can have'],
  'no progress': ['ETIME', 'has a page that is taken away again and again'],
} as const;

/** The pin, or the error that pin throws. */
export function pinned(step: PinRange, range: AddressRange): Pin {
  if (step.pin) return step.pin;
  const [code, rule] = PIN_ERRORS[step.outcome as Exclude<PinOutcome, 'done'>];
  throw fail(code, 'pin.range', range.start, rule);
}

/**
 * Advice on a range with a device in it: `space.hmadvise`.
 *
 * ```
 *   advice            device       range           what it does
 *   prefetch          a device     outward         pages go to its first memory, part by part, from another device over their link; of what is mostly read goes a copy;
 *                                                  what is there counts as used just now
 *   prefetch          'host'       outward         pages on private memories come home, what is mostly read leaves a copy; holes stay holes
 *   willneed          any, none    outward         pages on devices count as used just now; an eviction that is taking one away lets it stay
 *   pinned            a device     outward         prefetch, and what is there stays there: see `device-pins.ts`; of a page that others have too (fork), a copy
 *   unpinned          any, none    outward         the pins end
 *   dontneed          any, none    inward          the pages go, wherever they are; the next touch finds zeros, or what a file has
 *   preferred         a device,    exact           `space.attributes`: preferred; without a device: no matter
 *                     'host', none
 *   accessedby, notaccessedby      a device        accessedBy, notAccessedBy
 *   readmostly, notreadmostly      none            readMostly
 * ```
 *
 * Outward: to whole pages, and with a device to whole granules of it as far as the mappings go that the range touches. Inward: to whole pages, with a device to whole granules; nothing left is
 * success. A page that cannot follow (no mapping, no right to read it, of a file, held, no room) does not stop the others: the result counts both and names the first. An address that is none, a
 * range that leaves the address space or ends before it begins is refused (EINVAL), and so is dontneed of a private range of a device: that is given back by `context.free`.
 *
 * Models: `hmadvise` (MADV_PREFETCH, MADV_DONTNEED, MADV_WILLNEED, MADV_PINNED, MADV_UNPINNED), `cudaMemAdvise`.
 */
import * as L from '../../assembly/layout.ts';
import { fail } from '../errors.ts';
import { AGAIN, DONE, type Progress, type Run, type Step } from '../step/step.ts';
import type { AddressSpace } from './address-space.ts';
import { ADDRESS_LIMIT, type AddressRange, type NamesOf, requireBoolean, requireObject, requireWord } from './arguments.ts';
import type { SpaceMirror } from './attach.ts';
import { type AdvisedDevice, isOfMachine } from './attributes.ts';
import type { DeviceMemory } from './device-memory.ts';
import { CpuFault } from './fault.ts';
import { windowPages, windowStart } from './huge-window.ts';
import { linkEngine } from './migration-copies.ts';
import { Migration } from './migration.ts';
import type { Platform } from './platform.ts';
import { TakeDown } from './take-down.ts';
import { isAnonymous, isHugetlb, isSpecial, PROT_READ, VMA_DEVICE, VMA_IO, VMA_PFNMAP, VMA_PRIVATE, type Vma } from './vma.ts';

/** Advice that does something to pages. */
const ACTIONS = ['prefetch', 'dontneed', 'willneed', 'pinned', 'unpinned'] as const;
/** Advice that is remembered. */
const MARKS = ['preferred', 'accessedby', 'notaccessedby', 'readmostly', 'notreadmostly'] as const;

/** What `hmadvise` takes. */
export type HintAdvice = (typeof ACTIONS)[number] | (typeof MARKS)[number];

/** Whom it is about. */
export interface HintOptions {
  /** A device of the machine, or the host's memory. Models: the `hnid`; left out: -1. */
  readonly device?: AdvisedDevice | 'host';
}

export const HINT_OPTIONS: NamesOf<HintOptions> = { device: true };

/**
 * Why a page did not follow. `not movable`: of a file, of shared or special memory, in a private range of a device. `held`: pinned by somebody, or the device does atomics in it. `no memory`: no frame is free, and none may go.
 * `refused`: a copy failed, or somebody else moved it at the same time.
 */
export type HintReason = 'no mapping' | 'permission' | 'not movable' | 'held' | 'no memory' | 'refused';

/** What became of a hint. */
export interface HintResult {
  /** `partial`: some pages did, and some did not. */
  readonly status: 'done' | 'partial' | 'failed';
  /** Pages that are as advised now. */
  readonly pages: number;
  /** Pages that are not. */
  readonly failed: number;
  /** Of the first page that is not. */
  readonly reason: HintReason | undefined;
  /** Byte address of it. */
  readonly at: number | undefined;
}

/** Most pages that are moved at once: in between, others get their turn. */
export const HINT_PART_PAGES = 512;

/** Pages given to the core at once: counts cross the boundary as 32 bits. */
const PAGES_PER_CALL = 2 ** 30;

/** Faults for one page that is to be this space's own. */
const UNSHARE_ATTEMPTS_MAX = 8;

const BEGIN = 0;
const PART = 1;
const APART = 2;
const BROUGHT = 3;
const LOOK = 4;
const HOST = 5;
const DISCARD = 6;
const UNSHARE = 7;

/** The step behind `space.hmadvise`. */
export class Hint implements Step {
  readonly name = 'hmadvise';
  private readonly platform: Platform;
  private readonly space: AddressSpace;
  private readonly advice: (typeof ACTIONS)[number];
  /** The device's part in this space; undefined: the host, or nobody. */
  private readonly target: SpaceMirror | undefined;
  private readonly asked: AddressRange;
  /** Pages that are to follow. */
  private start = 0;
  private end = 0;
  /** Next page, and the part under way. */
  private vpn = 0;
  private first = 0;
  /** Page of the part that is looked at next for what others have. */
  private from = 0;
  /** What brings the parts to the device, and what brings them home: each the same for all of them. */
  private move: Step | undefined;
  private migration: Migration | undefined;
  /** It has been called for the part under way. */
  private called = false;
  private fault: CpuFault | undefined;
  /** Faults on the page at `from`, to have it alone. */
  private attempts = 0;
  /** Memories of others that the part may have pages on. */
  private sources: DeviceMemory[] = [];
  private pages = 0;
  private failed = 0;
  private reason: HintReason | undefined;
  private at: number | undefined;
  private phase = BEGIN;

  constructor(
    platform: Platform,
    space: AddressSpace,
    range: AddressRange,
    advice: (typeof ACTIONS)[number],
    target: SpaceMirror | undefined,
  ) {
    this.platform = platform;
    this.space = space;
    this.asked = range;
    this.advice = advice;
    this.target = target;
  }

  /** What became of it. Requires: DONE. */
  get result(): HintResult {
    const { pages, failed, reason, at } = this;
    return { status: failed === 0 ? 'done' : pages > 0 ? 'partial' : 'failed', pages, failed, reason, at };
  }

  next(run: Run): Progress {
    switch (this.phase) {
      case BEGIN:
        this.round();
        this.vpn = this.start;
        this.phase =
          this.advice === 'dontneed' ? DISCARD : this.advice !== 'prefetch' && this.advice !== 'pinned' ? LOOK : this.target ? PART : HOST;
        return AGAIN;
      case PART:
        return this.part(run);
      case UNSHARE:
        return this.unshare(run);
      case APART:
        return this.apart(run);
      case BROUGHT:
        this.settle();
        this.phase = PART;
        return AGAIN;
      case LOOK:
        return this.look(run);
      case HOST:
        return this.host(run);
      default:
        return this.discard(run);
    }
  }

  abort(run: Run): void {
    if (run.holds(this.space.mmapLock)) this.space.mmapLock.release(run);
  }

  /** The pages that the range means. */
  private round(): void {
    const inward = this.advice === 'dontneed';
    const granule = this.target?.device.granulePages ?? 1;
    const first = this.asked.start / L.PAGE_BYTES;
    const last = this.asked.end / L.PAGE_BYTES;
    if (inward) {
      this.start = Math.ceil(first / granule) * granule;
      this.end = Math.max(this.start, Math.floor(last / granule) * granule);
      return;
    }
    this.start = Math.floor(first);
    this.end = Math.ceil(last);
    if (granule === 1 || this.start === this.end) return;
    // Not into what lies beside the mappings that were meant.
    const { vmas } = this.space;
    const low = vmas.find(this.start);
    const high = vmas.find(this.end - 1);
    if (low) this.start = Math.max(low.start, Math.floor(this.start / granule) * granule);
    if (high) this.end = Math.min(high.end, Math.ceil(this.end / granule) * granule);
  }

  // -------------------------------------------------------------------------------------------------------------- to a device

  /** The next part: what of it is on other devices comes within reach first. */
  private part(run: Run): Progress {
    const context = this.target!;
    if (this.vpn >= this.end) return this.finish(run);
    context.requireWorking('hmadvise');
    this.vpn = this.passHole(this.vpn, this.end);
    if (this.vpn >= this.end) return this.finish(run);
    this.first = this.vpn;
    this.vpn = Math.min(this.end, this.first - (this.first % HINT_PART_PAGES) + HINT_PART_PAGES);
    this.sources = this.elsewhere();
    this.from = this.first;
    this.phase = this.advice === 'pinned' ? UNSHARE : APART;
    return AGAIN;
  }

  /** What stays is this space's own: those who share it would be kept from it. Models: `FAULT_FLAG_UNSHARE`. */
  private unshare(run: Run): Progress {
    const { mmapLock } = this.space;
    if (!run.holds(mmapLock) && !mmapLock.tryAcquireShared(run)) return run.waitFor(mmapLock);
    for (let vpn = this.nextEntry(this.from); vpn < this.vpn; vpn = this.nextEntry(vpn + 1)) {
      if (vpn > this.from) this.attempts = 0;
      // It comes home first, and somebody may take it meanwhile.
      if (!this.isShared(vpn) || !(this.space.vmas.find(vpn)!.prot & PROT_READ) || ++this.attempts > UNSHARE_ATTEMPTS_MAX) continue;
      this.from = vpn;
      return run.call((this.fault ??= new CpuFault(this.platform)).unshare(this.space, vpn));
    }
    this.from = 0;
    this.attempts = 0;
    this.sources = this.elsewhere();
    this.phase = APART;
    return AGAIN;
  }

  /** Whether others have a private page too. */
  private isShared(vpn: number): boolean {
    const { core } = this.platform;
    const high = core.entry(this.space.table, vpn);
    const kind = high & L.ENTRY_KIND;
    if ((kind !== L.KIND_PRESENT && kind !== L.KIND_DEVICE_PRIVATE) || high & L.ENTRY_ZERO) return false;
    const record = core.frameRecord(core.headOf(core.entryLow));
    if ((core.field(record, L.FRAME_MAPS) & L.MAPS_MASK) < 2 || core.field(record, L.FRAME_FLAGS) & L.FRAME_FILE) return false;
    const vma = this.space.vmas.find(vpn);
    return vma !== undefined && (vma.flags & VMA_PRIVATE) !== 0;
  }

  /** Private memories of other devices that pages of the part are on, and that no link reaches: what one reaches comes directly. */
  private elsewhere(): DeviceMemory[] {
    const { core, memories } = this.platform;
    const { owner, memories: own } = this.target!.device;
    const found: DeviceMemory[] = [];
    for (let vpn = this.nextEntry(this.first); vpn < this.vpn; vpn = this.nextEntry(vpn + 1)) {
      if ((core.entry(this.space.table, vpn) & L.ENTRY_KIND) !== L.KIND_DEVICE_PRIVATE) continue;
      const memory = memories.get(core.nodeOf(core.entryLow))!;
      if (memory.owner !== owner && !found.includes(memory) && linkEngine(this.platform, memory, own[0]!, this.space) === undefined)
        found.push(memory);
    }
    return found;
  }

  /** The next page with an entry, or `end`: that of the part. */
  private nextEntry(vpn: number, end: number = this.vpn): number {
    const { exports } = this.platform.core;
    for (let from = vpn; from < end; from += PAGES_PER_CALL) {
      const next = exports.rangeNext(this.space.table, from, Math.min(end - from, PAGES_PER_CALL));
      if (next >= 0) return next;
    }
    return end;
  }

  /** Refuses what no mapping has from a page on, up to `end`, and returns the page behind that. */
  private passHole(vpn: number, end: number): number {
    const vma = this.space.vmas.next(vpn);
    const past = vma ? Math.min(Math.max(vma.start, vpn), end) : end;
    if (past > vpn) this.refuse(vpn, 'no mapping', past - vpn);
    return past;
  }

  private apart(run: Run): Progress {
    const { mmapLock } = this.space;
    const memory = this.sources[0];
    if (!memory) {
      if (run.holds(mmapLock)) mmapLock.release(run);
      this.phase = BROUGHT;
      const range = { start: this.first * L.PAGE_BYTES, end: this.vpn * L.PAGE_BYTES };
      this.move = this.target!.migrateStep(range, 'device', undefined, this.advice === 'pinned', this.move);
      return run.call(this.move);
    }
    if (!run.holds(mmapLock) && !mmapLock.tryAcquireShared(run)) return run.waitFor(mmapLock);
    const migration = this.comingHome(memory);
    if (migration) return run.call(migration);
    this.sources.shift();
    return AGAIN;
  }

  /** The migration of the next stretch of the part that is on a memory, of one mapping; undefined: there is none. `first` moves behind it. */
  private comingHome(memory: DeviceMemory): Migration | undefined {
    const { core } = this.platform;
    if (this.from < this.first) this.from = this.first;
    for (let vpn = this.nextEntry(this.from); vpn < this.vpn; vpn = this.nextEntry(vpn + 1)) {
      const high = core.entry(this.space.table, vpn);
      const vma = this.space.vmas.find(vpn);
      if (!vma || (high & L.ENTRY_KIND) !== L.KIND_DEVICE_PRIVATE || !memory.node.holds(core.entryLow)) continue;
      // A huge page comes home as one, so far as the part has it.
      const start = Math.max(vma.start, windowStart(vpn, high));
      this.from = Math.max(start + windowPages(high), Math.min(vma.end, this.vpn));
      this.migration ??= new Migration(this.platform);
      this.migration.toHost(this.space, start, this.from - start, memory, 'user', vpn);
      this.migration.isShared = this.advice !== 'pinned';
      return this.migration;
    }
    this.from = 0;
    return undefined;
  }

  /** Counts what is where it should be, now that the part has been brought; pins it, if it is to stay. */
  private settle(): void {
    const { core } = this.platform;
    const { device } = this.target!;
    const pins = this.space.devicePins;
    for (let vpn = this.passHole(this.first, this.vpn); vpn < this.vpn; vpn = this.passHole(vpn + 1, this.vpn)) {
      const high = core.entry(this.space.table, vpn);
      const kind = high & L.ENTRY_KIND;
      const frame = core.entryLow;
      const isThere = (kind === L.KIND_DEVICE_PRIVATE || kind === L.KIND_PRESENT) && device.memoryOf(frame) >= 0;
      if (!isThere && this.advice === 'prefetch' && this.target!.holds(vpn) === 'copy') this.pages++;
      else if (!isThere) this.refuse(vpn, this.reasonOf(vpn, kind, high, frame));
      // A fork may have come since.
      else if (this.advice === 'pinned' && (this.isShared(vpn) || !pins.pin(vpn, frame))) this.refuse(vpn, 'held');
      else {
        core.exports.frameTouch(core.headOf(frame));
        this.pages++;
      }
    }
  }

  private refuse(vpn: number, reason: HintReason, pages = 1): void {
    this.failed += pages;
    if (this.reason !== undefined) return;
    this.reason = reason;
    this.at = vpn * L.PAGE_BYTES;
  }

  private reasonOf(vpn: number, kind: number, high: number, frame: number): HintReason {
    const { core, host } = this.platform;
    const vma = this.space.vmas.find(vpn);
    if (!vma) return 'no mapping';
    if (!(vma.prot & PROT_READ)) return 'permission';
    if (!isMovable(this.platform, vma, kind, high, frame)) return 'not movable';
    if (kind === L.KIND_EXCLUSIVE) return 'held';
    if (kind === L.KIND_DEVICE_PRIVATE || (kind === L.KIND_PRESENT && !(high & L.ENTRY_ZERO))) {
      const record = core.frameRecord(core.headOf(frame));
      if (core.field(record, L.FRAME_REFS) !== (core.field(record, L.FRAME_MAPS) & L.MAPS_MASK)) return 'held';
    }
    const full = this.target ? this.target.device.memories[0]?.node.free === 0 : host.free === 0;
    return full ? 'no memory' : 'refused';
  }

  // -------------------------------------------------------------------------------------------------------------- to the host

  private host(run: Run): Progress {
    const { mmapLock, table } = this.space;
    const { core, memories, pageLocks } = this.platform;
    if (!run.holds(mmapLock) && !mmapLock.tryAcquireShared(run)) return run.waitFor(mmapLock);
    if (this.called) {
      // The stretch [first, vpn) has come, or not.
      for (let vpn = this.first; vpn < this.vpn; vpn++) this.countHome(vpn);
      this.called = false;
    }
    while (this.vpn < this.end) {
      const high = core.entry(table, this.vpn);
      const kind = high & L.ENTRY_KIND;
      if (kind === L.KIND_NONE) {
        this.countHoles(this.nextEntry(this.vpn, this.end));
        continue;
      }
      if (kind === L.KIND_MIGRATION && pageLocks.locked(core.entryLow)) return run.waitFor(pageLocks.wait(core.entryLow));
      const memory = kind === L.KIND_DEVICE_PRIVATE ? memories.get(core.nodeOf(core.entryLow)) : undefined;
      if (!memory) {
        this.countHome(this.vpn++);
        continue;
      }
      const vma = this.space.vmas.find(this.vpn)!;
      this.first = this.vpn;
      const start = windowStart(this.vpn, high);
      const end = this.homeUntil(memory, Math.max(start + windowPages(high), Math.min(this.end, this.vpn + HINT_PART_PAGES)), vma);
      this.vpn = Math.min(this.end, end);
      this.called = true;
      this.migration ??= new Migration(this.platform);
      this.migration.toHost(this.space, start, end - start, memory, 'user', this.first);
      this.migration.isShared = true;
      return run.call(this.migration);
    }
    mmapLock.release(run);
    return this.finish(run);
  }

  /** One past the stretch from `vpn` on, up to `most`, that comes home in one migration: as far as no other memory has a page. */
  private homeUntil(memory: DeviceMemory, most: number, vma: Vma): number {
    const { core } = this.platform;
    const end = Math.min(vma.end, most);
    for (let vpn = this.vpn; vpn < end; vpn++) {
      const kind = core.entry(this.space.table, vpn) & L.ENTRY_KIND;
      if (kind === L.KIND_DEVICE_PRIVATE && !memory.node.holds(core.entryLow)) return vpn;
    }
    return end;
  }

  /** Counts the pages up to `end`, of which none has an entry. */
  private countHoles(end: number): void {
    for (this.vpn = this.passHole(this.vpn, end); this.vpn < end; this.vpn = this.passHole(this.vpn, end)) {
      const past = Math.min(this.space.vmas.find(this.vpn)!.end, end);
      this.pages += past - this.vpn;
      this.vpn = past;
    }
  }

  /** A page that is at home now counts; a hole is nothing to bring. */
  private countHome(vpn: number): void {
    const { core, nodes } = this.platform;
    const high = core.entry(this.space.table, vpn);
    const kind = high & L.ENTRY_KIND;
    if (kind === L.KIND_NONE) {
      if (!this.space.vmas.find(vpn)) this.refuse(vpn, 'no mapping');
      else this.pages++;
    } else if (kind === L.KIND_DEVICE_PRIVATE || kind === L.KIND_MIGRATION) this.refuse(vpn, this.reasonOf(vpn, kind, high, core.entryLow));
    else if (kind === L.KIND_PRESENT && nodes.of(core.entryLow).kind === 'coherent') this.refuse(vpn, 'not movable');
    else this.pages++;
  }

  // -------------------------------------------------------------------------------------------------------------- without moving anything

  private look(run: Run): Progress {
    const { mmapLock, devicePins, table, vmas } = this.space;
    const { core, nodes, pageLocks } = this.platform;
    if (!mmapLock.tryAcquireShared(run)) return run.waitFor(mmapLock);
    const owner = this.target?.device.owner;
    vmas.each(this.start, this.end, (_, from, to) => {
      this.pages += to - from;
    });
    if (this.pages < this.end - this.start) {
      this.refuse(vmas.covered(this.start, this.end), 'no mapping', this.end - this.start - this.pages);
    }
    if (this.advice === 'unpinned') {
      if (!this.target) devicePins.release(this.start, this.end);
      else for (const { node } of this.target.device.memories) devicePins.release(this.start, this.end, node);
    } else {
      this.vpn = this.end;
      for (let vpn = this.nextEntry(this.start); vpn < this.end; vpn = this.nextEntry(vpn + 1)) {
        const kind = core.entry(table, vpn) & L.ENTRY_KIND;
        const frame = core.entryLow;
        if (kind !== L.KIND_DEVICE_PRIVATE && kind !== L.KIND_PRESENT && kind !== L.KIND_MIGRATION) continue;
        const node = nodes.of(frame);
        if (node.owner === 0 || (owner !== undefined && node.owner !== owner)) continue;
        if (kind === L.KIND_MIGRATION) pageLocks.kept.add(core.headOf(frame));
        else core.exports.frameTouch(core.headOf(frame));
      }
    }
    mmapLock.release(run);
    return this.finish(run);
  }

  // -------------------------------------------------------------------------------------------------------------- dontneed

  private discard(run: Run): Progress {
    const { mmapLock, vmas } = this.space;
    if (!run.holds(mmapLock)) {
      if (!mmapLock.tryAcquire(run)) return run.waitFor(mmapLock);
      this.requireMirrored();
    }
    for (let vma = this.vpn < this.end ? vmas.next(this.vpn) : undefined; vma && vma.start < this.end; vma = vmas.next(this.vpn)) {
      const from = Math.max(vma.start, this.vpn);
      this.vpn = Math.min(vma.end, this.end);
      if (vma.flags & (VMA_PFNMAP | VMA_IO) || isHugetlb(vma)) continue;
      this.pages += this.vpn - from;
      return run.call(new TakeDown(this.platform, this.space, from, this.vpn, { verb: 'discard' }));
    }
    mmapLock.release(run);
    return this.finish(run);
  }

  /** Throws EINVAL for a range that touches one that is a device's alone, as madvise does: nobody else may take its pages. */
  private requireMirrored(): void {
    this.space.vmas.each(this.start, this.end, (vma, from) => {
      if (vma.flags & VMA_DEVICE) throw fail('EINVAL', 'hmadvise.range.start', from * L.PAGE_BYTES, 'is a private range of a device');
    });
  }

  private finish(run: Run): typeof DONE {
    if (run.holds(this.space.mmapLock)) this.space.mmapLock.release(run);
    const { events } = this.platform;
    if (events.heard) {
      const { start: vpn, end, advice, pages: followed, failed } = this;
      const device = this.target?.name;
      events.emit({ type: 'range.advised', space: this.space.id, vpn, pages: end - vpn, advice, device, followed, failed });
    }
    return DONE;
  }
}

/** Whether a page could go to a device at all. Models: what `migrate_vma_collect_pmd` takes. */
function isMovable(platform: Platform, vma: Vma, kind: number, high: number, frame: number): boolean {
  if (vma.flags & VMA_DEVICE) return false;
  if (isAnonymous(vma)) return true;
  if (!(vma.flags & VMA_PRIVATE) || isHugetlb(vma) || isSpecial(vma) || kind === L.KIND_NONE || high & L.ENTRY_ZERO) return false;
  const { core } = platform;
  return (core.field(core.frameRecord(core.headOf(frame)), L.FRAME_FLAGS) & L.FRAME_FILE) === 0;
}

/** Remembers advice: what `space.attributes` has a word for. */
export class HintMark implements Step {
  readonly name = 'hmadvise';
  private readonly space: AddressSpace;
  private readonly range: AddressRange;
  private readonly advice: (typeof MARKS)[number];
  private readonly device: AdvisedDevice | 'host' | undefined;

  constructor(space: AddressSpace, range: AddressRange, advice: (typeof MARKS)[number], device: AdvisedDevice | 'host' | undefined) {
    this.space = space;
    this.range = range;
    this.advice = advice;
    this.device = device;
  }

  get result(): HintResult {
    const pages = (this.range.end - this.range.start) / L.PAGE_BYTES;
    return { status: 'done', pages, failed: 0, reason: undefined, at: undefined };
  }

  next(): Progress {
    const { advice, device } = this;
    this.space.attributes.change(this.range, {
      ...(advice === 'preferred' ? { preferred: device ?? 'none' } : {}),
      ...(advice === 'accessedby' ? { accessedBy: device as AdvisedDevice } : {}),
      ...(advice === 'notaccessedby' ? { notAccessedBy: device as AdvisedDevice } : {}),
      ...(advice === 'readmostly' || advice === 'notreadmostly' ? { readMostly: advice === 'readmostly' } : {}),
    });
    return DONE;
  }
}

/** The step for a hint. Errors: EINVAL, EOPNOTSUPP as for `space.hmadvise`. */
export function hintStep(
  platform: Platform,
  space: AddressSpace,
  range: AddressRange,
  advice: HintAdvice,
  { device }: HintOptions,
): Hint | HintMark {
  requireSpan('hmadvise.range', range);
  requireWord('hmadvise.advice', advice, [...ACTIONS, ...MARKS]);
  if (device !== undefined && device !== 'host' && !isOfMachine(device, platform))
    throw fail('EINVAL', 'hmadvise.device', device, "is not a device of this machine, or 'host'");
  const isDevice = device !== undefined && device !== 'host';
  if (isMark(advice)) {
    if (advice.endsWith('accessedby') && !isDevice) throw fail('EINVAL', 'hmadvise.device', device, `has to be a device for '${advice}'`);
    const start = Math.floor(range.start / L.PAGE_BYTES) * L.PAGE_BYTES;
    const end = Math.ceil(range.end / L.PAGE_BYTES) * L.PAGE_BYTES;
    return new HintMark(space, { start, end }, advice, device);
  }
  if (advice === 'prefetch' && device === undefined)
    throw fail('EINVAL', 'hmadvise.device', device, `is required for 'prefetch': a device, or 'host'`);
  if (advice === 'pinned' && !isDevice) throw fail('EINVAL', 'hmadvise.device', device, `has to be a device for 'pinned'`);
  const target = isDevice ? space.mirrorOf(device.owner) : undefined;
  if (isDevice && !target) throw fail('EINVAL', 'hmadvise.device', device.name, 'is not attached to this address space');
  if ((advice === 'prefetch' || advice === 'pinned') && target && target.device.memories.length === 0)
    throw fail('EOPNOTSUPP', 'hmadvise.device', target.name, 'has no memory of its own');
  return new Hint(platform, space, { start: range.start, end: range.end }, advice, target);
}

function isMark(advice: HintAdvice): advice is (typeof MARKS)[number] {
  return (MARKS as readonly string[]).includes(advice);
}

/** Throws EINVAL unless a range lies in the address space and does not end before it begins. */
export function requireSpan(argument: string, range: AddressRange): void {
  requireObject(argument, range, 'a range { start, end }');
  const { start, end } = range;
  if (!Number.isSafeInteger(start) || start < 0 || start >= ADDRESS_LIMIT)
    throw fail('EINVAL', `${argument}.start`, start, 'is not a byte address below 2^48');
  if (!Number.isSafeInteger(end) || end > ADDRESS_LIMIT) throw fail('EINVAL', `${argument}.end`, end, 'is not a byte address up to 2^48');
  if (end <= start) throw fail('EINVAL', `${argument}.end`, end, `is not above its start 0x${start.toString(16)}`);
}

/** What `space.mbind` takes. */
export interface MbindOptions {
  /** `preferred`: on this node; `default`: no matter. */
  readonly mode: 'preferred' | 'default';
  /** Name of a node: that of the host's memory, or of a device's. */
  readonly node?: string;
  /** What is elsewhere goes there now. Default false. Models: MPOL_MF_MOVE. */
  readonly move?: boolean;
}

export const MBIND_OPTIONS: NamesOf<MbindOptions> = { mode: true, node: true, move: true };

/** The hints that a memory policy comes to, in order. Errors: EINVAL. Models: `mbind`. */
export function mbindHints(platform: Platform, { mode, node, move = false }: MbindOptions): [HintAdvice, HintOptions][] {
  requireWord('mbind.mode', mode, ['preferred', 'default']);
  requireBoolean('mbind.move', move);
  if (mode === 'default') {
    if (node !== undefined) throw fail('EINVAL', 'mbind.node', node, "does not go with mode 'default'");
    return [['preferred', {}]];
  }
  const device = placeNamed(platform, node);
  if (device === undefined) throw fail('EINVAL', 'mbind.node', node, 'is not the name of the node of a memory that pages can be in');
  return move
    ? [
        ['preferred', { device }],
        ['prefetch', { device }],
      ]
    : [['preferred', { device }]];
}

function placeNamed(platform: Platform, name: string | undefined): AdvisedDevice | 'host' | undefined {
  if (name === platform.host.name) return 'host';
  for (const { node, device } of platform.memories.values()) if (node.name === name) return device;
  return undefined;
}

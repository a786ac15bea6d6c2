/**
 * Moving a range to a device's memory, or home from it, because the program asks: no fault, no batch, as much as fits.
 *
 * Pages that are advised to be mostly read are not taken from who has them: to a device goes a copy, and home goes the page, which leaves its copy on the device. Models: `uvm_migrate` of a read-duplicated range
 * (`uvm_va_block_make_resident_read_duplicate`), what `cudaMemPrefetchAsync` does after `cudaMemAdviseSetReadMostly`.
 */
import * as L from '../../assembly/layout.ts';
import { fail } from '../errors.ts';
import type { DeviceMemory } from '../mm/device-memory.ts';
import { CpuFault } from '../mm/fault.ts';
import { HUGE_PAGES, hugeWindow, windowStart } from '../mm/huge-window.ts';
import { linkEngine } from '../mm/migration-copies.ts';
import { Migration } from '../mm/migration.ts';
import type { Platform } from '../mm/platform.ts';
import { reportSplit } from '../mm/splits.ts';
import { isAnonymous, PROT_READ, type Vma } from '../mm/vma.ts';
import { DONE, type Progress, type Run, type Step } from '../step/step.ts';
import type { Context } from './context.ts';
import type { OwnMemory } from './device.ts';
import { Duplicate } from './duplicate.ts';
import { Evict } from './evict.ts';
import { isWholeBlock, mayMove } from './movable.ts';

const BATCH = -1;
const LOCK = 0;
const PART = 1;
const EVICTED = 2;
const HOME = 3;
const MOVED = 4;
const COPIED = 5;
const BACK = 6;

export class MoveRange implements Step {
  readonly name = 'move range';
  /** Pages that moved, or were copied. */
  moved = 0;
  private readonly platform: Platform;
  private readonly context: Context;
  private readonly end: number;
  private readonly to: 'device' | 'host';
  /** Where pages go to; undefined when they go home. */
  private readonly memory: OwnMemory | undefined;
  /** What pages are brought home from: all of it, part by part. */
  private readonly sources: readonly OwnMemory[];
  private readonly migration: Migration;
  private readonly evict: Evict;
  private phase = BATCH;
  /** Next page to look at, and the part under way. */
  private vpn: number;
  private start = 0;
  /** Sources that are still to be asked for their pages of the part. */
  private left: DeviceMemory[] = [];
  /** The one that the pages of the list come from, over a link; undefined: they come from the host. */
  private peer: DeviceMemory | undefined;
  /** Pages of the part that are to move, the first ones of huge pages among them, and their frames so far. */
  private need: number[] = [];
  private readonly huge: Set<number> = new Set();
  private picks: number[] = [];
  /** Pages of the part that get a copy; the other ones, while copies are made. */
  private copies: number[] = [];
  private rest: number[] = [];
  private copying = false;
  private duplicate: Duplicate | undefined;
  /** A memory that a link reaches, whose pages come home all the same: the target gets copies of them. */
  private byHost: DeviceMemory | undefined;
  /** Pages that are mostly read are moved as the others are. */
  private readonly whole: boolean;
  /** Pages of the frames so far. */
  private taken = 0;
  /** Where pages of the second tier are looked for, and what brings one back. */
  private back = 0;
  private fault: CpuFault | undefined;
  private full = false;

  /** For the pages `[start, end)`; `memory`: to or from this one, else to the first, from all. `whole`: no copies, the pages themselves. */
  constructor(
    platform: Platform,
    context: Context,
    memory: OwnMemory | undefined,
    start: number,
    end: number,
    to: 'device' | 'host',
    whole = false,
  ) {
    const { device } = context;
    this.whole = whole;
    this.platform = platform;
    this.context = context;
    this.vpn = start;
    this.end = end;
    this.to = to;
    this.memory = to === 'device' ? (memory ?? device.memory) : undefined;
    // A memory that is asked for by name gets what is in the others, too, by way of the host.
    if (to === 'device') this.sources = memory ? device.memories.filter((each) => each !== memory) : [];
    else this.sources = memory ? [memory] : [...device.memories];
    this.migration = new Migration(platform);
    this.evict = new Evict(platform);
    if (this.memory) this.evict.from(this.memory, context.space.id, start, 'user');
  }

  next(run: Run): Progress {
    const { mmapLock } = this.context.space;
    const { batch } = this.context.device;
    switch (this.phase) {
      case BATCH:
        if (!batch.tryAcquire(run)) return run.waitFor(batch);
        this.phase = LOCK;
      // falls through
      case LOCK:
        if (!mmapLock.tryAcquireShared(run)) return run.waitFor(mmapLock);
        this.requireThere();
        this.phase = PART;
      // falls through
      case PART:
        return this.part(run);
      case EVICTED:
        if (this.evict.freed === 0) this.full = true;
        return this.reserve(run);
      case HOME:
        if (this.to === 'host') this.moved += this.migration.moved;
        return this.bringHome(run);
      case BACK:
        // Without a frame for one there is none for those behind it.
        if (this.fault!.outcome === 'no memory') this.back = this.vpn;
        return this.bringBack(run);
      case COPIED:
        this.moved += this.duplicate!.done;
        this.copying = false;
        this.need = this.rest;
        return this.bring(run);
      default:
        this.moved += this.migration.moved;
        this.phase = PART;
        return this.peer ? this.bringHome(run) : this.part(run);
    }
  }

  abort(run: Run): void {
    for (const frame of this.picks) if (frame >= 0) this.platform.core.exports.framePut(frame);
    this.platform.settleFreed();
    this.unlock(run);
  }

  private unlock(run: Run): void {
    const { space, device } = this.context;
    if (run.holds(space.mmapLock)) space.mmapLock.release(run);
    if (!run.holds(device.batch)) return;
    device.endBatch();
    device.batch.release(run);
  }

  /** While this one waited, the device may have left, or its memory. */
  private requireThere(): void {
    const { device } = this.context;
    this.context.requireWorking('migrate');
    for (const memory of this.memory ? [this.memory, ...this.sources] : this.sources) {
      if (!device.memories.includes(memory)) throw fail('ENODEV', 'migrate.memory', memory.node.name, 'has been removed');
    }
  }

  /** The next part of one VMA, at most one batch of words long. */
  private part(run: Run): Progress {
    const { space } = this.context;
    const vma = this.full || this.vpn >= this.end ? undefined : space.vmas.next(this.vpn);
    if (!vma || vma.start >= this.end) return this.finish(run);
    this.start = Math.max(vma.start, this.vpn);
    this.vpn = Math.min(vma.end, this.end, this.start + L.WORDS_MAX);
    this.left = [...this.sources];
    this.byHost = undefined;
    if (this.memory) this.addOthers(vma);
    if (!this.memory || !this.platform.tier) return this.bringHome(run);
    this.back = this.start;
    return this.bringBack(run);
  }

  /** What of the part is in the second tier comes back to the host, page by page, as far as there is room: from there it can go on. */
  private bringBack(run: Run): Progress {
    const { space } = this.context;
    while (this.back < this.vpn) {
      const vpn = this.back++;
      if ((this.platform.core.entry(space.table, vpn) & L.ENTRY_KIND) !== L.KIND_SWAP) continue;
      this.phase = BACK;
      this.fault ??= new CpuFault(this.platform);
      return run.call(this.fault.of(space, vpn, false, true));
    }
    return this.bringHome(run);
  }

  /** Memories of other devices that pages of the part are in, and that a link reaches. What is on others stays there: only a fault brings it, by way of the host. */
  private addOthers(vma: Vma): void {
    const { space, device } = this.context;
    const { core, memories, host, links } = this.platform;
    if (!(vma.prot & PROT_READ) || links.list.length === 0) return;
    let last: DeviceMemory | undefined;
    for (let vpn = this.start; vpn < this.vpn; vpn++) {
      const kind = core.entry(space.table, vpn) & L.ENTRY_KIND;
      if (kind !== L.KIND_DEVICE_PRIVATE && kind !== L.KIND_PRESENT) continue;
      const frame = core.entryLow;
      if (host.holds(frame) || last?.node.holds(frame)) continue;
      const memory = memories.get(core.nodeOf(frame));
      if (!memory || memory.owner === device.owner) continue;
      last = memory;
      if (this.isLinked(memory) && !this.left.includes(memory)) this.left.push(memory);
    }
  }

  /** Whether pages come from this memory to the target without the host. */
  private isLinked(from: DeviceMemory): boolean {
    return this.memory !== undefined && linkEngine(this.platform, from, this.memory, this.context.space) !== undefined;
  }

  /** Whether a page is to be copied, not moved. */
  private isShared(vpn: number): boolean {
    const { space, device } = this.context;
    if (this.whole || space.attributes.size === 0 || !this.context.mayDuplicate || device.policy.placement?.duplicate === 'never')
      return false;
    return space.attributes.at(vpn)?.readMostly === true;
  }

  /** What of the part is in a source comes home, or over its link; then the rest of the part goes to the device, if that is the way. */
  private bringHome(run: Run): Progress {
    const { space } = this.context;
    const source = this.full ? undefined : this.left.shift();
    this.peer = undefined;
    if (source && source !== this.byHost && this.isLinked(source)) {
      this.peer = source;
      this.list(space.vmas.find(this.start)!);
      if (this.copies.length > 0) {
        this.byHost = source;
        this.left.unshift(source);
      }
      if (this.need.length === 0) return this.bringHome(run);
      this.picks = [];
      return this.reserve(run);
    }
    if (source) {
      this.phase = HOME;
      this.migration.toHost(space, this.start, this.vpn - this.start, source, 'user', this.start);
      // From one memory of a device to another, nothing stays behind.
      this.migration.isShared = !this.whole && (!this.memory || source.owner !== this.context.device.owner);
      return run.call(this.migration);
    }
    this.phase = PART;
    if (!this.memory) return this.part(run);
    this.list(space.vmas.find(this.start)!);
    if (this.copies.length === 0) return this.bring(run);
    this.copying = true;
    this.rest = this.need;
    this.need = this.copies;
    this.picks = [];
    return this.reserve(run);
  }

  /** What is listed goes to the device. */
  private bring(run: Run): Progress {
    if (this.full || this.need.length === 0) return this.part(run);
    this.picks = [];
    return this.reserve(run);
  }

  /** Lists the pages of the part that are to go to the device. */
  private list(vma: Vma): void {
    const { space, device } = this.context;
    const { core } = this.platform;
    const holes = isAnonymous(vma);
    this.need = [];
    this.copies = [];
    this.huge.clear();
    // Whoever may not even read a page has no use for it on the device.
    if (!(vma.prot & PROT_READ)) return;
    for (let vpn = this.start; vpn < this.vpn; vpn++) {
      const high = core.entry(space.table, vpn);
      const kind = high & L.ENTRY_KIND;
      if (this.peer) {
        if ((kind !== L.KIND_DEVICE_PRIVATE && kind !== L.KIND_PRESENT) || !this.peer.node.holds(core.entryLow)) continue;
      } else if (kind === L.KIND_PRESENT ? !mayMove(this.platform, vma, high, core.entryLow) : kind !== L.KIND_NONE || !holes) continue;
      if (kind !== L.KIND_NONE && !(high & L.ENTRY_ZERO) && this.isShared(vpn)) {
        if (this.peer || this.isSmall(vpn, high)) this.copies.push(vpn);
        continue;
      }
      this.need.push(vpn);
      if (device.granulePages < HUGE_PAGES || vpn + HUGE_PAGES > this.vpn) continue;
      if (this.peer) {
        if (!(high & L.ENTRY_ORDER) || hugeWindow(vma, vpn) !== vpn) continue;
      } else if (!isWholeBlock(this.platform, space, vma, vpn, high)) continue;
      this.huge.add(vpn);
      vpn += HUGE_PAGES - 1;
    }
  }

  /** Makes small pages of a huge one that is to be copied. False: it has a copy, or cannot be cut now, and is left alone. */
  private isSmall(vpn: number, high: number): boolean {
    const { space, replicas } = this.context;
    if (replicas.at(vpn) !== undefined) return false;
    if (!(high & L.ENTRY_ORDER)) return true;
    if (!this.platform.core.exports.splitHuge(space.table, vpn)) return false;
    reportSplit(this.platform, space.id, windowStart(vpn, high), 'duplicate');
    return true;
  }

  private reserve(run: Run): Progress {
    const memory = this.memory!;
    while (this.picks.length < this.need.length && !this.full) {
      const vpn = this.need[this.picks.length]!;
      const huge = this.huge.has(vpn);
      const isOver = this.context.roomIn(memory, this.taken) < (huge ? HUGE_PAGES : 1);
      const frame = isOver ? L.FRAME_NONE : memory.takeFrame(huge ? L.HUGE_ORDER : 0);
      if (frame !== L.FRAME_NONE) {
        if (frame >= 0) memory.spared.add(frame);
        this.picks.push(frame);
        this.taken += huge ? HUGE_PAGES : 1;
        continue;
      }
      if (huge) {
        // There may be room for its pages, one by one.
        this.huge.delete(vpn);
        this.need.splice(this.picks.length, 1, ...Array.from({ length: HUGE_PAGES }, (_, page) => vpn + page));
        continue;
      }
      this.phase = EVICTED;
      return run.call(this.evict.room(this.need.length - this.picks.length, isOver ? this.context.payer : 0));
    }
    memory.keeper?.wake(run);
    if (this.picks.length === 0) return this.finish(run);
    if (this.copying) {
      const frames = this.picks;
      this.picks = [];
      this.taken = 0;
      this.phase = COPIED;
      this.duplicate ??= new Duplicate(this.platform, this.context);
      return run.call(this.duplicate.of(this.need.slice(0, frames.length), frames, 0));
    }
    const first = this.need[0]!;
    const last = this.need[this.need.length - 1]!;
    const picks = new Array<number>(last - first + (this.huge.has(last) ? HUGE_PAGES : 1)).fill(L.FRAME_NONE);
    this.picks.forEach((frame, i) => (picks[this.need[i]! - first] = frame));
    this.picks = [];
    this.taken = 0;
    this.phase = MOVED;
    const { space, install } = this.context;
    if (this.peer) return run.call(this.migration.toPeer(space, first, picks, this.peer, memory, 'user', install));
    return run.call(this.migration.toDevice(space, first, picks, memory, 'user', install));
  }

  private finish(run: Run): typeof DONE {
    this.unlock(run);
    return DONE;
  }
}

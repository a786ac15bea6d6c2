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
import { Aims } from '../mm/migration-aims.ts';
import { linkEngine } from '../mm/migration-copies.ts';
import { Migration } from '../mm/migration.ts';
import type { Platform } from '../mm/platform.ts';
import { reportSplit } from '../mm/splits.ts';
import { isAnonymous, isHugetlb, isSpecial, PROT_READ, type Vma, VMA_DEVICE, VMA_PRIVATE } from '../mm/vma.ts';
import { DONE, type Progress, type Run, type Step } from '../step/step.ts';
import type { Context } from './context.ts';
import type { OwnMemory } from './own-memory.ts';
import { Duplicate } from './duplicate.ts';
import { Evict } from './evict.ts';
import { isWholeBlock } from './movable.ts';

const BATCH = -1;
const LOCK = 0;
const PART = 1;
const EVICTED = 2;
const HOME = 3;
const MOVED = 4;
const COPIED = 5;
const BACK = 6;

/** Set up by `of`; reused by its owner, who keeps its words with it. */
export class MoveRange implements Step {
  readonly name = 'move range';
  /** Pages that moved, or were copied. */
  moved = 0;
  private readonly platform: Platform;
  private readonly context: Context;
  private end = 0;
  private to: 'device' | 'host' = 'device';
  /** Where pages go to; undefined when they go home. */
  private memory: OwnMemory | undefined;
  /** What pages are brought home from: all of it, part by part. */
  private readonly sources: OwnMemory[] = [];
  private readonly migration: Migration;
  private readonly evict: Evict;
  /** What is to be duplicated: pages, and a frame for each. */
  private readonly pages: number[] = [];
  private readonly frames: number[] = [];
  private phase = BATCH;
  /** Next page to look at, and the part under way. */
  private vpn = 0;
  private start = 0;
  /** Sources that are still to be asked for their pages of the part. */
  private readonly left: DeviceMemory[] = [];
  /** The one that the pages of the list come from, over a link; undefined: they come from the host. */
  private peer: DeviceMemory | undefined;
  /** Pages of the part that are to move, and those that get a copy; with their frames so far. */
  private readonly moves: Aims = new Aims();
  private readonly copies: Aims = new Aims();
  private copying = false;
  private duplicate: Duplicate | undefined;
  /** A memory that a link reaches, whose pages come home all the same: the target gets copies of them. */
  private byHost: DeviceMemory | undefined;
  /** Pages that are mostly read are moved as the others are. */
  private whole = false;
  /** Pages of the frames so far. */
  private taken = 0;
  /** Where pages of the second tier are looked for, and what brings one back. */
  private back = 0;
  private fault: CpuFault | undefined;
  private full = false;

  constructor(platform: Platform, context: Context) {
    this.platform = platform;
    this.context = context;
    this.migration = new Migration(platform);
    this.evict = new Evict(platform);
  }

  /** For the pages `[start, end)`; `memory`: to or from this one, else to the first, from all. `whole`: no copies, the pages themselves. */
  of(memory: OwnMemory | undefined, start: number, end: number, to: 'device' | 'host', whole = false): this {
    const { device, space } = this.context;
    const { sources } = this;
    this.whole = whole;
    this.vpn = start;
    this.end = end;
    this.to = to;
    this.memory = to === 'device' ? (memory ?? device.memory) : undefined;
    sources.length = 0;
    // A memory that is asked for by name gets what is in the others, too, by way of the host.
    if (to === 'host' && !memory) sources.push(...device.memories);
    else if (memory) for (const each of device.memories) if ((each === memory) === (to === 'host')) sources.push(each);
    if (this.memory) this.evict.from(this.memory, space.id, start, 'user');
    this.moved = 0;
    this.phase = BATCH;
    this.start = 0;
    this.peer = undefined;
    this.copying = false;
    this.byHost = undefined;
    this.taken = 0;
    this.full = false;
    this.moves.taken = 0;
    this.copies.taken = 0;
    return this;
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
        return this.bring(run);
      default:
        this.moved += this.migration.moved;
        this.phase = PART;
        return this.peer ? this.bringHome(run) : this.part(run);
    }
  }

  abort(run: Run): void {
    this.giveBack();
    this.unlock(run);
  }

  /** Frames that have been taken, and that no migration has yet. */
  private giveBack(): void {
    for (const aims of [this.moves, this.copies]) {
      for (let i = 0; i < aims.taken; i++) if (aims.frames[i]! >= 0) this.platform.core.exports.framePut(aims.frames[i]!);
      aims.taken = 0;
    }
    this.platform.settleFreed();
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
    this.context.requireWorking('migrate');
    if (this.memory) this.requireMemory(this.memory);
    for (let i = 0; i < this.sources.length; i++) this.requireMemory(this.sources[i]!);
  }

  private requireMemory(memory: OwnMemory): void {
    if (!this.context.device.memories.includes(memory)) throw fail('ENODEV', 'migrate.memory', memory.node.name, 'has been removed');
  }

  /** The next part of one VMA, at most one batch of words long. */
  private part(run: Run): Progress {
    const { space } = this.context;
    const vma = this.full || space.isReaped || this.vpn >= this.end ? undefined : space.vmas.next(this.vpn);
    if (!vma || vma.start >= this.end) return this.finish(run);
    this.start = Math.max(vma.start, this.vpn);
    this.vpn = Math.min(vma.end, this.end, this.start + L.WORDS_MAX);
    this.left.length = 0;
    for (const memory of this.sources) this.left.push(memory);
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
    if (!(vma.prot & PROT_READ) || vma.flags & VMA_DEVICE || links.list.length === 0) return;
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

  /** Whether pages may be copied, not moved, if they are advised so. */
  private get mayShare(): boolean {
    const { space, device } = this.context;
    return !this.whole && space.attributes.size > 0 && this.context.mayDuplicate && device.policy.placement?.duplicate !== 'never';
  }

  /** What of the part is in a source comes home, or over its link; then the rest of the part goes to the device, if that is the way. */
  private bringHome(run: Run): Progress {
    const { space } = this.context;
    if (space.isReaped) return this.finish(run);
    const source = this.full ? undefined : this.left.shift();
    this.peer = undefined;
    if (source && source !== this.byHost && this.isLinked(source)) {
      this.peer = source;
      this.list(space.vmas.find(this.start)!);
      if (this.copies.count > 0) {
        this.byHost = source;
        this.left.unshift(source);
      }
      return this.moves.count === 0 ? this.bringHome(run) : this.reserve(run);
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
    if (this.copies.count === 0) return this.bring(run);
    this.copying = true;
    return this.reserve(run);
  }

  /** What is listed goes to the device. */
  private bring(run: Run): Progress {
    return this.full || this.moves.count === 0 ? this.part(run) : this.reserve(run);
  }

  /** Whether the part may have pages on this device: a private range is one device's. In one mapping there may be those of several. */
  private isMeant({ flags }: Vma): boolean {
    return (flags & VMA_DEVICE) === 0 || this.context.reserved.some(({ start, end }) => this.start >= start && this.vpn <= end);
  }

  /** Lists the pages of the part that are to go to the device. */
  private list(vma: Vma): void {
    const { space, device } = this.context;
    const { core, host } = this.platform;
    const pages = this.vpn - this.start;
    const moves = this.moves.begin(this.start, pages);
    const copies = this.copies.begin(this.start, this.mayShare ? pages : 0);
    // Whoever may not even read a page has no use for it on the device.
    if (!(vma.prot & PROT_READ) || !this.isMeant(vma)) return;
    // Of pages of files and of shared memory, only what a private mapping has copied for itself.
    if (!this.peer && !isAnonymous(vma) && (!(vma.flags & VMA_PRIVATE) || isHugetlb(vma) || isSpecial(vma))) return;
    const { base, frames } = this.peer ? this.peer.node : host;
    const which = this.peer ? L.MOVABLE_DEVICE : isAnonymous(vma) ? L.MOVABLE_ANONYMOUS : 0;
    const found = core.exports.movablePages(space.table, this.start, pages, base, frames, which, core.area(L.AREA_LIST));
    moves.addAll(core.words(L.AREA_LIST, found));
    if (device.granulePages < HUGE_PAGES && !this.mayShare) return;
    // Which of them are copied, and which are huge: what is left is never longer than what has been looked at.
    const { offsets } = moves;
    moves.count = 0;
    for (let at = 0; at < found; at++) {
      const vpn = this.start + offsets[at]!;
      const high = core.entry(space.table, vpn);
      if ((high & L.ENTRY_KIND) !== L.KIND_NONE && !(high & L.ENTRY_ZERO) && this.mayShare && space.attributes.at(vpn)?.readMostly) {
        if (this.peer || this.isSmall(vpn, high)) copies.add(vpn - this.start);
        continue;
      }
      moves.add(vpn - this.start);
      if (device.granulePages < HUGE_PAGES || vpn + HUGE_PAGES > this.vpn) continue;
      if (this.peer) {
        if (!(high & L.ENTRY_ORDER) || hugeWindow(vma, vpn) !== vpn) continue;
      } else if (!isWholeBlock(this.platform, space, vma, vpn, high)) continue;
      moves.huge.add(vpn - this.start);
      while (at + 1 < found && this.start + offsets[at + 1]! < vpn + HUGE_PAGES) at++;
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
    if (this.context.space.isReaped) {
      // While room was made: nothing comes into what is being taken down.
      this.giveBack();
      return this.finish(run);
    }
    const aims = this.copying ? this.copies : this.moves;
    while (aims.taken < aims.count && !this.full) {
      const huge = aims.isNextHuge;
      const room = this.context.roomIn(memory, this.taken);
      const isOver = room < (huge ? HUGE_PAGES : 1);
      if (!isOver && this.take(memory, aims, huge, room)) continue;
      if (huge) {
        // There may be room for its pages, one by one.
        aims.split();
        continue;
      }
      this.phase = EVICTED;
      return run.call(this.evict.room(aims.count - aims.taken, isOver ? this.context.payer : 0));
    }
    memory.keeper?.wake(run);
    const { taken } = aims;
    if (taken === 0) return this.finish(run);
    this.taken = 0;
    if (this.copying) {
      const { pages, frames } = this;
      pages.length = taken;
      frames.length = taken;
      for (let i = 0; i < taken; i++) {
        pages[i] = this.start + aims.offsets[i]!;
        frames[i] = aims.frames[i]!;
      }
      aims.taken = 0;
      this.phase = COPIED;
      this.duplicate ??= new Duplicate(this.platform, this.context);
      return run.call(this.duplicate.of(pages, frames, 0));
    }
    this.phase = MOVED;
    const { space } = this.context;
    if (this.peer) this.migration.manyToPeer(space, aims, this.peer, memory, 'user');
    else this.migration.manyToDevice(space, aims, memory, 'user');
    this.migration.installer = this.context;
    // The frames are the migration's now.
    aims.taken = 0;
    return run.call(this.migration);
  }

  /** Takes frames for the pages that come next: one for a huge one, else as many as there are. False: there is none. */
  private take(memory: OwnMemory, aims: Aims, huge: boolean, room: number): boolean {
    if (!huge) {
      const taken = memory.takeFrames(aims.frames, aims.taken, Math.min(aims.nextSmall, room), this.taken);
      aims.taken += taken;
      this.taken += taken;
      return taken > 0;
    }
    const frame = memory.takeFrame(L.HUGE_ORDER, this.taken);
    if (frame === L.FRAME_NONE) return false;
    if (frame >= 0) memory.spared.add(frame);
    aims.give(frame);
    this.taken += HUGE_PAGES;
    return true;
  }

  private finish(run: Run): typeof DONE {
    this.unlock(run);
    return DONE;
  }
}

/**
 * A memory of a device: the frames that it gives away, those that a fault batch still needs, and those that may go to make room. Who hands its frames out is the core, the driver or the device itself.
 *
 * Models: `dev_pagemap`, `gm_dev_register_physmem`.
 */
import * as L from '../../assembly/layout.ts';
import { Ranges } from '../core/batch.ts';
import { PageMap } from '../core/page-map.ts';
import { fail } from '../errors.ts';
import { MIGRATING, type MigrationCause } from '../events/cause.ts';
import { requireArray, requireCount, requireObject } from '../mm/arguments.ts';
import { type DeviceMemory, FRAME_LATER, FRAME_LATER_HUGE } from '../mm/device-memory.ts';
import type { Node } from '../mm/node.ts';
import type { Platform } from '../mm/platform.ts';
import type { Candidates } from '../policy/candidates.ts';
import { type Choice, Fifo, NamedPolicy, type VictimChoice, type VictimPolicy, victimPolicy } from '../policy/victim.ts';
import type { Ticket } from '../step/ticket.ts';
import type { Device } from './device.ts';
import type { MemoryDescription, Phys } from './driver.ts';
import { Keeper } from './keeper.ts';
import { Spared } from './spared.ts';

/** Pages asked for at once of a device that hands them out. */
const IMPORT_PAGES = 16;
const NOBODY: ReadonlySet<number> = new Set();
const NO_FRAMES: readonly number[] = [];
const OLDEST: VictimPolicy = new Fifo();

/** One memory of a device: the page map that migrations and CPU faults see. */
export class OwnMemory implements DeviceMemory {
  readonly node: Node;
  readonly owner: number;
  readonly granulePages: number;
  /** @internal Frames that a fault batch under way has installed or needs: not to be victims before its lanes have run. */
  readonly spared: Spared;
  /** @internal How many of them the batch has brought: they may go when its lanes have run. The others were there. */
  brought = 0;
  /** Names it for the driver: its place in `driver.memory`, or the first place that was free when it was added. */
  readonly index: number;
  readonly kind: 'private' | 'coherent';
  readonly device: Device;
  /** @internal A fault brings one page to it, at once: it is private, has granules of a page, and neither does its device choose the pages nor is some of it kept free. */
  readonly isPlain: boolean;
  /** Most frames in use; 0: no limit. */
  private framesMax = 0;
  /** It is being unplugged: no frame of it is given away. */
  leaving = false;
  /** Pages that the device has handed out, and those of them that are not in use. */
  private readonly given: Set<number> = new Set();
  private readonly imported: number[] = [];
  private imports = 0;
  private importFailed = false;
  /** Of copies that are being dropped: their frames, and of one context their pages. */
  private readonly dropped: PageMap = new PageMap();
  private readonly pages: number[] = [];
  private readonly ranges: Ranges = new Ranges();
  /** Keeps some of it free. */
  readonly keeper: Keeper | undefined;
  private readonly policy: VictimPolicy | undefined;
  private readonly platform: Platform;

  constructor(platform: Platform, device: Device, index: number, description: MemoryDescription) {
    this.platform = platform;
    this.device = device;
    this.index = index;
    this.kind = description.kind;
    this.owner = device.owner;
    this.spared = new Spared(platform.core);
    this.granulePages = device.granulePages;
    if (description.bytesIn === 'external' && platform.core.plan.bodiless)
      throw fail(
        'EINVAL',
        `${device.name}.memory.${description.name}.bytesIn`,
        'external',
        'is not for a machine without bytes: there is nothing to copy there',
      );
    this.node = platform.nodes.add({
      name: `${device.name}.${description.name}`,
      kind: description.kind,
      frames: description.bytes / L.PAGE_BYTES,
      bytesIn: description.bytesIn ?? 'backed',
      allocator: description.allocator ?? 'core',
      owner: device.owner,
    });
    const { victims = 'fifo', watermarks } = device.policy;
    if (watermarks) {
      const [low, high] = [watermarks.low / L.PAGE_BYTES, watermarks.high / L.PAGE_BYTES];
      if (high >= this.node.frames) {
        platform.nodes.drop(this.node);
        throw fail(
          'EINVAL',
          `${device.name} policy.watermarks.high`,
          watermarks.high,
          `is not less than the ${description.bytes} bytes of ${description.name}`,
        );
      }
      this.keeper = new Keeper(platform, this, low, high);
    }
    this.isPlain = this.kind === 'private' && this.granulePages === 1 && this.node.allocator !== 'peer' && !this.keeper;
    this.policy = victims === 'fifo' ? undefined : typeof victims === 'string' ? victimPolicy(victims) : victims;
    platform.memories.set(this.node.index, this);
  }

  /** Most bytes of it that may be in use; 0: all of them. */
  get maxBytes(): number {
    return this.framesMax * L.PAGE_BYTES;
  }

  /**
   * Limits what of it may be in use. Rounded down to whole granules of the device; 0: no limit. What does not fit is evicted, or used where it is. Errors: EINVAL for what is no length, and below what is in
   * use now. Models: `max_memsize` of a node.
   */
  limit(bytes: number): void {
    this.platform.requireIdle('limit');
    requireCount('limit.bytes', bytes, 0, Number.MAX_SAFE_INTEGER);
    const unit = this.granulePages * L.PAGE_BYTES;
    const frames = Math.floor(bytes / unit) * this.granulePages;
    if (bytes > 0 && frames < this.node.used)
      throw fail('EINVAL', 'limit.bytes', bytes, `is, in granules of ${unit}, less than the ${this.node.used * L.PAGE_BYTES} bytes in use`);
    if (bytes > 0 && frames === 0) throw fail('EINVAL', 'limit.bytes', bytes, `is less than a granule of ${unit}`);
    this.framesMax = frames;
  }

  /** @internal A frame that the batch under way brings something to. */
  bring(frame: number): void {
    this.spared.add(frame);
    this.brought++;
  }

  /** @internal The batch has ended. */
  unspare(): void {
    this.brought = 0;
    if (this.spared.size > 0) this.spared.clear();
  }

  needs(frame: number): boolean {
    return this.spared.has(frame);
  }

  /** `promised`: pages that whoever asks has had frames for so far; those that the device will choose are not in use yet. */
  takeFrame(order = 0, promised = 0): number {
    if (this.leaving) return L.FRAME_NONE;
    if (this.framesMax > 0 && this.underLimit(promised) < 2 ** order) return L.FRAME_NONE;
    if (this.node.allocator === 'core') return this.node.take(order);
    if (this.node.allocator === 'peer') return this.takeOfPeer(order);
    // A driver's own allocator has pages.
    if (order > 0) return L.FRAME_NONE;
    return this.takeOfDriver();
  }

  /** Frames that the limit leaves. Requires: there is one. */
  private underLimit(promised: number): number {
    const { allocator, used } = this.node;
    const isLater = allocator === 'peer' && !this.device.contexts[0]?.mmu.peer?.importPages;
    return this.framesMax - used - (isLater ? promised : 0);
  }

  private takeOfDriver(): number {
    const context = this.device.contexts[0];
    const phys = context?.mmu.phys;
    if (!phys) return L.FRAME_NONE;
    try {
      const frame = this.chosenBy(phys);
      if (frame !== L.FRAME_NONE && !this.platform.core.exports.frameClaim(frame, 0)) throw this.inUse(frame);
      return frame;
    } catch (error) {
      throw context.failWith(error);
    }
  }

  /**
   * @internal Takes up to `n` frames of one page, as `takeFrame` would one by one, into `frames` from index `at` on, and spares them. Returns how many; fewer when there are no more. One that the device will
   * choose is FRAME_LATER. A driver that throws keeps none of them. `promised`: as for `takeFrame`. Requires: at most LIST_MAX.
   */
  takeFrames(frames: Int32Array, at: number, n: number, promised = 0): number {
    const { node, spared } = this;
    const most = this.leaving ? 0 : this.framesMax > 0 ? Math.min(n, this.underLimit(promised)) : n;
    if (most <= 0) return 0;
    if (node.allocator === 'core') return node.takeMany(frames, at, most, L.FRAME_SPARED, spared);
    if (node.allocator === 'driver') return this.takeManyOfDriver(frames, at, most);
    let taken = 0;
    try {
      while (taken < most) {
        const frame = this.takeFrame(0, promised + taken);
        if (frame === L.FRAME_NONE) break;
        if (frame >= 0) spared.add(frame);
        frames[at + taken++] = frame;
      }
    } catch (error) {
      this.giveBack(frames, at, taken);
      throw error;
    }
    return taken;
  }

  /** Its pages are claimed together: the core is not called for each. Requires: as `takeFrames`. */
  private takeManyOfDriver(frames: Int32Array, at: number, n: number): number {
    const { node, spared } = this;
    const context = this.device.contexts[0];
    const phys = context?.mmu.phys;
    if (!phys) return 0;
    let chosen = 0;
    try {
      for (; chosen < n; chosen++) {
        const frame = this.chosenBy(phys);
        if (frame === L.FRAME_NONE) break;
        frames[at + chosen] = frame;
      }
    } catch (error) {
      // It is told that what it gave before is free.
      this.giveBack(frames, at, node.claimMany(frames, at, chosen, 0, spared));
      throw context.failWith(error);
    }
    const claimed = node.claimMany(frames, at, chosen, L.FRAME_SPARED, spared);
    if (claimed === chosen) return chosen;
    this.giveBack(frames, at, claimed);
    throw context.failWith(this.inUse(frames[at + claimed]!));
  }

  /** The frame of the page that the driver gives, which is not claimed yet; FRAME_NONE: it has none. */
  private chosenBy(phys: Phys): number {
    const page = phys.allocPage();
    if (page === undefined) return L.FRAME_NONE;
    this.requirePage('allocPage result', page);
    return this.node.base + page;
  }

  private inUse(frame: number): Error {
    return fail('EINVAL', `${this.device.name}.phys.allocPage result`, frame - this.node.base, 'is in use already');
  }

  private giveBack(frames: Int32Array, at: number, n: number): void {
    for (let i = at; i < at + n; i++) if (frames[i]! >= 0) this.platform.core.exports.framePut(frames[i]!);
  }

  /** A page that has been imported; without imports the device chooses it later. */
  private takeOfPeer(order: number): number {
    const peer = this.device.contexts[0]?.mmu.peer;
    if (!peer) return L.FRAME_NONE;
    if (!peer.importPages) return order > 0 ? FRAME_LATER_HUGE : FRAME_LATER;
    if (order > 0) return L.FRAME_NONE;
    if (this.imported.length === 0 && !this.importFailed) this.importPages(peer.importPages.bind(peer));
    const page = this.imported.pop();
    if (page === undefined) return L.FRAME_NONE;
    this.platform.core.exports.frameClaim(this.node.base + page, 0);
    return this.node.base + page;
  }

  /** The next batch of pages of the device; one that gives fewer than asked for has none left. */
  private importPages(ask: (count: number) => readonly number[]): void {
    const context = this.device.contexts[0]!;
    try {
      const pages = [...ask(IMPORT_PAGES)];
      this.imports++;
      for (const page of pages) {
        this.requirePage('importPages result', page, 'peer');
        const flags = this.platform.core.field(this.platform.core.frameRecord(this.node.base + page), L.FRAME_FLAGS);
        if ((flags & L.FRAME_STATE) !== L.STATE_OFFLINE || this.given.has(page))
          throw fail('EINVAL', `${this.device.name}.peer.importPages result`, page, 'has been handed out already');
        this.given.add(page);
      }
      this.imported.push(...pages.reverse());
      this.importFailed = pages.length < IMPORT_PAGES;
    } catch (error) {
      throw context.failWith(error);
    }
  }

  /** What its device has handed out in batches: calls, pages, those that are not in use now, and whether it said that it has no more. */
  get importCounts(): { readonly imports: number; readonly pages: number; readonly unused: number; readonly failed: boolean } {
    return { imports: this.imports, pages: this.given.size, unused: this.imported.length, failed: this.importFailed };
  }

  /** @internal Copies of pages that may go, as frames: nothing has to be moved for them. `payer`: as for `victims`, and so `frames`. */
  copies(most: number, payer = 0, frames: number[] = []): readonly number[] {
    const { contexts } = this.device;
    let count = 0;
    for (let i = 0; i < contexts.length; i++) {
      const { replicas, payer: pays } = contexts[i]!;
      if (replicas.size > 0 && (payer === 0 || pays === payer)) count = replicas.framesIn(this, frames, count, most);
    }
    // A list that is emptied gives its memory back.
    if (count === 0) return NO_FRAMES;
    frames.length = count;
    return frames;
  }

  dropReplicas(frames: readonly number[], cause: MigrationCause, tickets: Ticket[]): readonly number[] {
    // Most often there are none: no list is made.
    for (let i = 0; i < frames.length; i++) if (this.isReplica(frames[i]!)) return this.dropCopies(frames, cause, tickets);
    return frames;
  }

  private dropCopies(frames: readonly number[], cause: MigrationCause, tickets: Ticket[]): readonly number[] {
    const { dropped, pages, ranges } = this;
    const { contexts } = this.device;
    dropped.clear();
    for (let i = 0; i < frames.length; i++) if (this.isReplica(frames[i]!)) dropped.set(frames[i]!, 1);
    for (let i = 0; i < contexts.length; i++) {
      const context = contexts[i]!;
      const { replicas } = context;
      replicas.pagesOf(dropped, pages);
      ranges.clear();
      for (let k = 0; k < pages.length; k++) ranges.add(pages[k]!, 1);
      const ticket = pages.length > 0 ? context.withdraw(ranges, MIGRATING[cause]) : undefined;
      if (ticket) tickets.push(ticket);
      // Those that were dropped before, and wait for a flush.
      for (let at = dropped.next(0); at >= 0 && replicas.parting.size > 0; at = dropped.next(at + 1)) {
        const flush = replicas.parting.get(dropped.pageAt(at));
        if (flush && !tickets.includes(flush)) tickets.push(flush);
      }
    }
    return dropped.size === frames.length ? NO_FRAMES : without(frames, dropped);
  }

  private isReplica(frame: number): boolean {
    const { core } = this.platform;
    return (core.field(core.frameRecord(frame), L.FRAME_FLAGS) & L.FRAME_REPLICA) !== 0;
  }

  /** @internal Whether a context of the device has copies of pages. */
  get hasReplicas(): boolean {
    const { contexts } = this.device;
    for (let i = 0; i < contexts.length; i++) if (contexts[i]!.replicas.size > 0) return true;
    return false;
  }

  /** `list`: for the answer, and lent with it; default: one of the caller's own. */
  victims(pages: number, passed: ReadonlySet<number> = NOBODY, payer = 0, list: number[] = []): readonly number[] {
    const copies = this.hasReplicas ? this.copies(pages, payer, list) : NO_FRAMES;
    if (copies.length > 0) return copies;
    if (this.node.allocator === 'driver') return this.victimsOfDriver(passed, list);
    // A huge one makes room for 512.
    const frames = this.candidates(pages, passed, payer, list);
    let room = 0;
    for (let i = 0; i < frames.length; i++) {
      room += this.platform.core.pagesOf(frames[i]!);
      if (room >= pages) return i + 1 === frames.length ? frames : frames.slice(0, i + 1);
    }
    return frames;
  }

  /** What the driver lets go. A function of its own: its closures are not made where the core chooses. */
  private victimsOfDriver(passed: ReadonlySet<number>, list: number[]): readonly number[] {
    const context = this.device.contexts[0];
    try {
      const { spared, node } = this;
      const chosen = context?.mmu.phys?.victims?.((page) => spared.has(node.base + page) || passed.has(node.base + page)) ?? NO_FRAMES;
      // A list that is emptied gives its memory back.
      if (chosen.length === 0) return NO_FRAMES;
      for (let i = 0; i < chosen.length; i++) this.requirePage('victims result', chosen[i]!);
      list.length = chosen.length;
      for (let i = 0; i < chosen.length; i++) list[i] = node.base + chosen[i]!;
      return list;
    } catch (error) {
      throw context!.failWith(error);
    }
  }

  /** @internal The `most` oldest frames that may go, oldest first: neither spared, locked nor pinned, and not in `passed`. Requires: the core is the allocator. */
  candidates(most: number, passed: ReadonlySet<number> = NOBODY, payer = 0, frames: number[] = []): readonly number[] {
    const { core } = this.platform;
    const count = this.passOver(passed);
    const list = core.area(L.AREA_LIST);
    const found = core.exports.victims(this.node.index, list, Math.min(most, L.LIST_MAX), core.area(L.AREA_FREED), count, payer);
    return this.listed(found, frames);
  }

  /**
   * @internal Of those candidates what has been used, and the oldest others, at least `room` pages: whoever wants to know what has been unused for longest need not see more. Requires: `used.size + room` is at most LIST_MAX.
   */
  candidatesByUse(used: PageMap, room: number, passed: ReadonlySet<number>, payer: number, frames: number[]): readonly number[] {
    const { core } = this.platform;
    const count = this.passOver(passed);
    const list = core.area(L.AREA_LIST);
    const usedAt = core.area(L.AREA_EXTENTS);
    let at = usedAt >>> 2;
    for (let i = used.next(0); i >= 0; i = used.next(i + 1)) core.u32[at++] = used.pageAt(i);
    const { index } = this.node;
    return this.listed(core.exports.victimsByUse(index, usedAt, used.size, room, list, core.area(L.AREA_FREED), count, payer), frames);
  }

  /** @internal Puts frames that are not to be candidates where the core looks for them; how many there are. */
  passOver(passed: ReadonlySet<number>): number {
    const count = Math.min(passed.size, L.FREED_MAX);
    if (count > 0) this.platform.core.words(L.AREA_FREED, count).set([...passed].slice(-count));
    return count;
  }

  private listed(found: number, frames: number[]): readonly number[] {
    const { core } = this.platform;
    // A list that is emptied gives its memory back.
    if (found === 0) return NO_FRAMES;
    frames.length = found;
    for (let i = 0, at = core.area(L.AREA_LIST) >>> 2; i < found; i++, at++) frames[i] = core.u32[at]!;
    return frames;
  }

  /** @internal Whether all marks of its device are where the core can take them. */
  get hasMarksInCore(): boolean {
    const { contexts } = this.device;
    for (let i = 0; i < contexts.length; i++) if (contexts[i]!.marks.areThere && !contexts[i]!.marks.areInCore) return false;
    return true;
  }

  /**
   * @internal Aligned blocks of 2^order frames of which all that is in use may go, so that it is one free block afterwards: their frames in use, by the number of the block, those first to which nothing has come for
   * longest. Requires: the core is the allocator.
   */
  blocks(order: number, passed: ReadonlySet<number>): ReadonlyMap<number, readonly number[]> {
    const { core } = this.platform;
    const { base, frames, index } = this.node;
    const pages = 2 ** order;
    const may = new Set([...this.copies(Infinity), ...this.candidates(Infinity, passed)]);
    // Where a block stands in the order is where the last one of its frames does.
    const ages = new Set<number>();
    for (const frame of may) {
      const block = Math.floor((frame - base) / pages);
      ages.delete(block);
      ages.add(block);
    }
    const blocks = new Map<number, readonly number[]>();
    for (const block of ages) {
      const end = (block + 1) * pages;
      if (end > frames) continue;
      const found = core.exports.usedFrames(index, block * pages, core.area(L.AREA_LIST), pages);
      const used = [...core.words(L.AREA_LIST, found)].filter((frame) => frame < base + end);
      if (used.every((frame) => may.has(frame))) blocks.set(block, used);
    }
    return blocks;
  }

  /** @internal A space has ended: its policy is told. One that throws keeps nobody from ending. */
  forget(space: number): void {
    const { policy, platform } = this;
    if (!policy?.forget) return;
    const { scheduler } = platform;
    const outer = scheduler.beginCall(`the victim policy ${policy.name}`);
    try {
      policy.forget(space);
    } catch (error) {
      platform.addStray(error);
    } finally {
      scheduler.endCall(outer);
    }
  }

  /** @internal What chooses its victims; undefined: the oldest go, or what its driver says. */
  get victimPolicy(): VictimPolicy | undefined {
    return this.node.allocator === 'core' ? this.policy : undefined;
  }

  /** @internal What chooses among blocks; undefined: there are none, its frames are handed out by somebody else. */
  get blockPolicy(): VictimPolicy | undefined {
    return this.node.allocator === 'core' ? (this.policy ?? OLDEST) : undefined;
  }

  /** @internal How many candidates a policy wants to see. Errors: EINVAL for an answer that is none. */
  looksAt(policy: VictimPolicy, pages: number): number {
    const most = policy.looksAt(pages);
    if (most !== Infinity) requireCount(policy.name, most, 0, Number.MAX_SAFE_INTEGER, '.looksAt result');
    return most;
  }

  /** @internal Asks its policy; one that has a name writes into `written`. Errors: EINVAL for an answer that is none. */
  choose(candidates: Candidates, pages: number, last: boolean, written: Choice): VictimChoice {
    const { scheduler } = this.platform;
    const policy = this.policy ?? OLDEST;
    if (policy instanceof NamedPolicy) return policy.pick(candidates, pages, last, written);
    const outer = scheduler.beginCall(`the victim policy ${policy.name}`);
    try {
      const choice = policy.choose(candidates.list(), pages, last);
      requireObject(`${policy.name}.choose result`, choice, 'an object with the lists victims and renewed');
      for (const field of ['victims', 'renewed'] as const) {
        requireArray(`${policy.name}.choose ${field}`, choice[field]);
        for (const i of choice[field])
          if (!Number.isInteger(i) || i < 0 || i >= candidates.count)
            throw fail('EINVAL', `${policy.name}.choose ${field}`, i, `is not one of ${candidates.count} candidates`);
      }
      return choice;
    } finally {
      scheduler.endCall(outer);
    }
  }

  freed(frame: number, pages: number): void {
    const context = this.device.contexts[0];
    if (this.node.allocator === 'peer') return this.freedOfPeer(frame - this.node.base, pages);
    try {
      context?.mmu.phys?.freePage(frame - this.node.base);
    } catch (error) {
      // Taking away cannot fail: whoever frees goes on, and tells the owners of the other frames.
      context?.failWith(error);
    }
  }

  private freedOfPeer(page: number, pages: number): void {
    const context = this.device.contexts[0];
    if (this.given.has(page)) {
      this.imported.push(page);
      this.importFailed = false;
      return;
    }
    try {
      context?.mmu.peer?.freePage?.(page, pages);
    } catch (error) {
      context?.failWith(error);
    }
  }

  private requirePage(what: string, page: number, family = 'phys'): void {
    if (!Number.isInteger(page) || page < 0 || page >= this.node.frames)
      throw fail('EINVAL', `${this.device.name}.${family}.${what}`, page, `is not a page below ${this.node.frames}`);
  }
}

/** A function of its own: its closure is not made where nothing is left. */
function without(frames: readonly number[], dropped: PageMap): readonly number[] {
  return frames.filter((frame) => !dropped.has(frame));
}

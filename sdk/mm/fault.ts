/**
 * A CPU fault: an access found no entry, or none with the right it needs.
 *
 * ```
 *   home entry                  read                            write
 *   none, anonymous             page of zeros (zero)            zeroed frame (demand)
 *   none, advised hugepage      huge page of zeros (huge)       zeroed huge frame (huge); as above where none fits
 *   none, hugetlb               huge frame, read-only (huge)    huge frame (huge); without one a bus error
 *   none, of an object          its page, read-only (share)     shared: its page, dirty (share); private: a copy (copy)
 *   page of zeros               -                               CLEAR, zeroed frame (cow)
 *   huge page of zeros          -                               CLEAR, zeroed huge frame, or split and a small one (cow)
 *   present, no write
 *     of a shared mapping       -                               the right comes in place, dirty (share)
 *     this space's own          -                               the right comes in place (reuse)
 *     that the CPU only reads   -                               page lock, CLEAR, then the same (exclusive)
 *     of which devices have     -                               page lock, CLEAR, copies dropped, then the same (upgrade)
 *       copies
 *     all else                  -                               a huge page is split; CLEAR, a copy (copy)
 *   exclusive                   page lock, CLEAR, present with the VMA's rights (exclusive), then the access looks again
 *   device-private              migrate_to_ram (home), then the access looks again
 *   device-private, pinned      as the device's policy says: a bus error, or it waits until it is unpinned; access.ts does it remotely
 *   protnone                    the VMA's rights (reuse), then the access looks again
 *   migration                   waits for the page lock, then looks again
 *   swap                        comes back from the second tier (swap), then the access looks again
 *   special, poison             bus error
 * ```
 *
 * Pages on coherent device memory are present. Before all that the VMA decides: none, or without the right, is a segmentation fault; past the end of a file is a bus error.
 * Models: `handle_mm_fault`, `do_wp_page`, `do_swap_page`, `remove_device_exclusive_entry`.
 */
import * as L from '../../assembly/layout.ts';
import type { CpuFaultCause } from '../events/cause.ts';
import { AGAIN, DONE, type Progress, type Run, type Step } from '../step/step.ts';
import type { AddressSpace } from './address-space.ts';
import type { DeviceMemory } from './device-memory.ts';
import { HUGE_PAGES, hugeWindow, windowPages, windowStart } from './huge-window.ts';
import { Migration } from './migration.ts';
import { Invalidation } from './notifier.ts';
import type { SharedObject } from './page-cache.ts';
import { PageMove } from './page-move.ts';
import type { Platform } from './platform.ts';
import type { Reclaim } from './reclaim.ts';
import { reportSplit } from './splits.ts';
import {
  hugetlbOrder,
  isHugetlb,
  isSpecial,
  PROT_READ,
  PROT_WRITE,
  rightsOf,
  VMA_ANONYMOUS,
  VMA_DEVICE,
  VMA_HUGEPAGE,
  VMA_PEER_SHARED,
  VMA_PRIVATE,
  type Vma,
} from './vma.ts';

/**
 * How a fault ended. `served`: the entry now allows the access, or the access is to look again. `no mapping`, `permission`: a segmentation
 * fault. `no memory`: no frame, table page or record is to be had. `bus error`: the bytes cannot be had.
 */
export type FaultOutcome = 'served' | 'no mapping' | 'permission' | 'no memory' | 'bus error';

/** Flags of private anonymous memory that nothing was advised of. */
const ANONYMOUS = VMA_ANONYMOUS | VMA_PRIVATE;

const TRY = -1;
const LOCK = 0;
const LOOK = 1;
const HOME = 2;
// What to do once every device has flushed.
const FRESH = 3;
const HUGE = 4;
const HUGETLB = 5;
const COPY = 6;
const REUSE = 7;
const REVOKE = 8;
const UPGRADE = 9;
const ROOM = 10;

/** Times that room is made on the host for one fault. */
const ROOM_TRIES_MAX = 4;

/** Serves one fault of one page. Reused by its owner. */
export class CpuFault implements Step {
  readonly name = 'cpu fault';
  outcome: FaultOutcome = 'served';
  /** Whether pages came home for it, neighbours too. */
  broughtHome = false;
  private readonly platform: Platform;
  private space!: AddressSpace;
  private vpn = 0;
  private write = false;
  /** A page that others have too is copied without the right to write. */
  private unsharing = false;
  private forDevice = false;
  private owner = 0;
  private phase = TRY;
  /** What follows when it has the lock: LOOK, or how far it came at once. */
  private then = LOOK;
  /** Whether the page's way home at once has been tried, and counted: it was not simple. */
  private hasTried = false;
  /** The exclusive page whose lock this fault holds. */
  private locked = L.FRAME_NONE;
  private readonly clear: Invalidation = new Invalidation();
  /** Made when a page first has to come home: most faults need none. */
  private home: Migration | undefined;
  private page: PageMove | undefined;
  /** Made when the host is first full. */
  private reclaim: Reclaim | undefined;
  private tries = 0;

  constructor(platform: Platform) {
    this.platform = platform;
  }

  /**
   * For an access to page `vpn`. With `forDevice` it is served on behalf of a device, which holds the mmap lock already and is not counted among
   * the CPU's faults. A page on private memory of `owner` (device index + 1) that allows the access stays there: it may have moved there since that device's driver looked.
   */
  of(space: AddressSpace, vpn: number, write: boolean, forDevice = false, owner = 0): this {
    this.outcome = 'served';
    this.broughtHome = false;
    this.space = space;
    this.vpn = vpn;
    this.write = write;
    this.unsharing = false;
    this.forDevice = forDevice;
    this.owner = owner;
    this.tries = 0;
    this.hasTried = false;
    this.then = LOOK;
    this.phase = forDevice ? LOOK : TRY;
    return this;
  }

  /**
   * For a pin that reads page `vpn`: a page that others have too, the page of zeros included, becomes this space's own without becoming writable. The caller holds the mmap
   * lock. Models: `FAULT_FLAG_UNSHARE`.
   */
  unshare(space: AddressSpace, vpn: number): this {
    this.of(space, vpn, false, true);
    this.unsharing = true;
    return this;
  }

  /**
   * Ends it in the turn of whoever asks, where it is what most faults are: of memory that nothing was advised of a page that comes home, a hole, or the page of zeros that is written. What is left out then (the lock, the turns between) could
   * say nothing else, nor could anybody tell. False: `next` goes on from where this came to. Requires: `of`, for the CPU.
   */
  endsAtOnce(run: Run): boolean {
    const { platform, space, vpn, write } = this;
    this.phase = LOCK;
    if (run.interleaves || !space.mmapLock.isFreeToRead || space.isLimited || space.isReaped || !platform.isUnobserved) return false;
    const vma = space.vmas.find(vpn);
    if (vma?.flags !== ANONYMOUS || !(vma.prot & PROT_READ) || (write && !(vma.prot & PROT_WRITE))) return false;
    const { core } = platform;
    const high = core.entry(space.table, vpn);
    switch (high & (L.ENTRY_KIND | L.ENTRY_ORDER)) {
      case L.KIND_DEVICE_PRIVATE: {
        const memory = platform.memories.get(core.nodeOf(core.entryLow))!;
        return memory.granulePages === 1 && space.devicePins.size === 0 && this.isHomeAtOnce(run, vma, memory);
      }
      case L.KIND_NONE:
        if (space.arrivals.meets(vpn) || space.notifiers.followers.length > 0) return false;
        this.anonymous();
        return true;
      case L.KIND_PRESENT:
        return write && (high & L.ENTRY_ZERO) !== 0 && space.notifiers.followers.length === 0 && this.isOwnAtOnce();
      default:
        return false;
    }
  }

  private isHomeAtOnce(run: Run, vma: Vma, memory: DeviceMemory): boolean {
    this.count('home');
    const outcome = this.move(run, vma, memory);
    if (outcome === 'ended') return true;
    this.hasTried = outcome === 'not simple';
    if (outcome === 'copying') this.then = HOME;
    return false;
  }

  /** A page of zeros becomes the space's own. */
  private isOwnAtOnce(): boolean {
    this.count('cow');
    if (this.platform.host.free === 0) this.outcome = 'no memory';
    else {
      this.announce(this.vpn, 1, FRESH);
      if (this.clear.unfinished) {
        this.then = FRESH;
        this.phase = LOCK;
        return false;
      }
      this.finish();
    }
    return true;
  }

  next(run: Run): Progress {
    switch (this.phase) {
      case TRY:
        if (this.endsAtOnce(run)) return DONE;
      // falls through
      case LOCK:
        // What has begun without the lock goes on with it: it was free in this same turn.
        if (!this.space.mmapLock.tryAcquireShared(run)) return run.waitFor(this.space.mmapLock);
        this.phase = this.then;
        this.then = LOOK;
        if (this.phase === HOME) return run.call(this.home!);
        if (this.phase === FRESH) return AGAIN;
      // falls through
      case LOOK:
        return this.look(run);
      case HOME:
        return this.cameHome(run);
      case ROOM:
        if (this.reclaim!.freed === 0) this.tries = ROOM_TRIES_MAX;
        // Without room it ends as it would have.
        if (this.reclaim!.freed === 0 && (this.platform.host.free === 0 || this.space.hostRoom === 0)) return this.end(run, 'no memory');
        this.phase = LOOK;
        return AGAIN;
      default: {
        const { unfinished } = this.clear;
        if (unfinished) return run.waitFor(unfinished);
        this.finish();
        return this.end(run, this.outcome);
      }
    }
  }

  /** Every device has flushed. */
  private finish(): void {
    this.flushed(this.phase);
    this.clear.close();
    this.unlockPage();
    this.platform.settleFreed();
  }

  abort(run: Run): void {
    this.clear.close();
    this.unlockPage();
    this.unlock(run);
  }

  private end(run: Run, outcome: FaultOutcome): Progress {
    if (outcome === 'no memory' && this.platform.tier && this.tries < ROOM_TRIES_MAX) {
      // The host is full: something of it goes to the second tier, then the page is looked at again.
      this.tries++;
      this.outcome = 'served';
      this.phase = ROOM;
      // Of a space that is at its limit, its own pages.
      return run.call((this.reclaim ??= this.platform.tier.roomStep(1)).room(1, this.space.hostRoom === 0 ? this.space.id + 1 : 0));
    }
    this.outcome = outcome;
    if (this.space.notifiers.followers.length > 0 && outcome === 'served') this.space.installed(this.vpn, 1);
    this.unlock(run);
    return DONE;
  }

  private unlock(run: Run): void {
    if (!this.forDevice && run.holds(this.space.mmapLock)) this.space.mmapLock.release(run);
  }

  private unlockPage(): void {
    if (this.locked === L.FRAME_NONE) return;
    this.platform.pageLocks.unlock(this.locked);
    this.locked = L.FRAME_NONE;
  }

  private look(run: Run): Progress {
    const space = this.space;
    const { core } = this.platform;
    const vma = space.vmas.find(this.vpn);
    if (!vma) return this.end(run, 'no mapping');
    if (space.isReaped) return this.end(run, 'bus error');
    if (!(vma.prot & PROT_READ) || (this.write && !(vma.prot & PROT_WRITE))) return this.end(run, 'permission');
    const high = core.entry(space.table, this.vpn);
    if (space.isLimited && space.hostRoom === 0 && this.isTaking(vma, high, core.entryLow)) return this.end(run, 'no memory');
    switch (high & L.ENTRY_KIND) {
      case L.KIND_NONE:
        if (space.arrivals.meets(this.vpn)) return run.waitFor(space.arrivals);
        return this.end(run, this.hole(vma));
      case L.KIND_PRESENT:
        return this.present(run, vma, high);
      case L.KIND_DEVICE_PRIVATE:
        if (this.reaches(core.entryLow, high)) return this.end(run, 'served');
        if (vma.flags & VMA_DEVICE) return this.end(run, 'permission');
        if (space.devicePins.has(this.vpn)) return this.isPinned(run, core.entryLow);
        return this.callHome(run, vma, core.nodeOf(core.entryLow), (high & L.ENTRY_ORDER) !== 0);
      case L.KIND_EXCLUSIVE:
        return this.revoke(run, core.entryLow, REVOKE);
      case L.KIND_SWAP:
        return this.callBack(run);
      case L.KIND_MIGRATION:
        return run.waitFor(this.platform.pageLocks.wait(core.entryLow));
      case L.KIND_PROTNONE: {
        this.count('reuse');
        core.exports.reprotect(space.table, windowStart(this.vpn, high), windowPages(high), rightsOf(vma));
        return this.end(run, 'served');
      }
      default:
        return this.end(run, 'bus error');
    }
  }

  /** Whether this fault takes a frame of the host for which the space pays. */
  private isTaking(vma: Vma, high: number, frame: number): boolean {
    if (isHugetlb(vma) || isSpecial(vma)) return false;
    const isOwn = !vma.object || (vma.flags & VMA_PRIVATE) !== 0;
    switch (high & L.ENTRY_KIND) {
      case L.KIND_NONE:
        return isOwn && (this.write || (vma.flags & VMA_PEER_SHARED) !== 0);
      case L.KIND_PRESENT:
        if (!isOwn || !(this.write || this.unsharing) || high & (this.unsharing ? L.ENTRY_ANON_EXCLUSIVE : L.ENTRY_WRITE)) return false;
        return (high & L.ENTRY_ZERO) !== 0 || !this.platform.core.exports.canReuse(this.space.table, this.vpn);
      case L.KIND_DEVICE_PRIVATE:
        return !this.reaches(frame, high) && !(vma.flags & VMA_DEVICE) && !this.space.devicePins.has(this.vpn);
      default:
        return (high & L.ENTRY_KIND) === L.KIND_SWAP;
    }
  }

  // -------------------------------------------------------------------------------------------------------------- holes

  private hole(vma: Vma): FaultOutcome {
    // The common sort of memory has no other mark.
    return (vma.flags === ANONYMOUS ? undefined : this.unlikeOthers(vma)) ?? this.anonymous();
  }

  /** What memory of its own sort has in a hole; undefined: what all anonymous memory has. */
  private unlikeOthers(vma: Vma): FaultOutcome | undefined {
    if (vma.flags & VMA_DEVICE) return 'permission';
    if (vma.object) return this.ofObject(vma, vma.object);
    if (isSpecial(vma)) return 'bus error';
    if (vma.flags & VMA_PEER_SHARED) return this.peerShared(vma);
    if (isHugetlb(vma)) {
      this.count('huge', 2 ** hugetlbOrder(vma));
      return this.hugetlb(vma);
    }
    const start = this.hugeHole(vma);
    const { core, host } = this.platform;
    if (start < 0 || !core.exports.mapHuge(this.space.table, start, host.index, rightsOf(vma), this.write ? 0 : 1)) return undefined;
    this.count('huge', HUGE_PAGES);
    return 'served';
  }

  /** First page of the huge page that may fill this hole; -1: a small one has to do. */
  private hugeHole(vma: Vma): number {
    const start = vma.flags & VMA_HUGEPAGE && this.hasHugeRoom ? hugeWindow(vma, this.vpn) : -1;
    return start >= 0 && this.space.arrivals.meets(start, HUGE_PAGES) ? -1 : start;
  }

  private get hasHugeRoom(): boolean {
    return !this.space.isLimited || this.space.hostRoom >= HUGE_PAGES;
  }

  /** Never the page of zeros, for reads either: what a peer is told of a page stays true. */
  private peerShared(vma: Vma): FaultOutcome {
    const { core, host } = this.platform;
    const { table } = this.space;
    const start = this.hugeHole(vma);
    if (start >= 0 && core.exports.mapHuge(table, start, host.index, rightsOf(vma), 0)) {
      this.count('huge', HUGE_PAGES);
      return 'served';
    }
    this.count('demand');
    this.fresh();
    if (this.outcome === 'served' && !this.write) core.exports.reprotect(table, this.vpn, 1, rightsOf(vma));
    return this.outcome;
  }

  private anonymous(): FaultOutcome {
    this.count(this.write ? 'demand' : 'zero');
    if (this.write) this.fresh();
    else if (!this.platform.core.exports.mapZero(this.space.table, this.vpn)) this.outcome = 'no memory';
    return this.outcome;
  }

  /** The page of a file, or of shared memory, behind this one. */
  private ofObject(vma: Vma, object: SharedObject): FaultOutcome {
    const { core, host } = this.platform;
    const { table } = this.space;
    const page = vma.offset + (this.vpn - vma.start);
    if (page >= object.pagesLimit) return 'bus error';
    const frame = object.frameOf(page) ?? object.take(page);
    if (frame === L.FRAME_NONE) return 'no memory';
    const isCopied = this.write && (vma.flags & VMA_PRIVATE) !== 0;
    this.count(isCopied ? 'copy' : 'share');
    let high = L.KIND_PRESENT | L.ENTRY_ACCESSED;
    if (this.write && !isCopied) {
      high |= L.ENTRY_WRITE | L.ENTRY_DIRTY;
      object.markDirty(page);
    }
    if (!core.exports.mapFrame(table, this.vpn, frame, high)) return 'no memory';
    // Nobody has seen the hole filled: no device is told.
    if (!isCopied) return 'served';
    if (core.exports.mapCopy(table, this.vpn, host.index, 1) === L.FRAME_NONE) return 'no memory';
    this.copied(this.vpn, 1);
    return 'served';
  }

  private hugetlb(vma: Vma): FaultOutcome {
    const { core, host } = this.platform;
    const order = hugetlbOrder(vma);
    const start = this.vpn - (this.vpn % 2 ** order);
    const rights = this.write ? rightsOf(vma) : L.RIGHT_READ;
    if (core.exports.mapHugetlb(this.space.table, start, host.index, order, rights)) return 'served';
    return core.stopReason === L.STOP_FRAMES ? 'bus error' : 'no memory';
  }

  private fresh(): void {
    const { core, host } = this.platform;
    if (core.exports.mapFresh(this.space.table, this.vpn, host.index) === L.FRAME_NONE) this.outcome = 'no memory';
  }

  // -------------------------------------------------------------------------------------------------------------- write to a present page

  private present(run: Run, vma: Vma, high: number): Progress {
    const { core, host } = this.platform;
    const { exports } = core;
    const { table } = this.space;
    const frame = core.entryLow;
    const isOwn = (high & (L.ENTRY_ANON_EXCLUSIVE | L.ENTRY_ZERO)) === L.ENTRY_ANON_EXCLUSIVE;
    // Somebody else served it meanwhile.
    if (this.unsharing ? isOwn : !this.write || high & L.ENTRY_WRITE) return this.end(run, 'served');
    const isHuge = (high & L.ENTRY_ORDER) !== 0;
    if (high & L.ENTRY_ZERO) {
      this.count('cow', isHuge && !this.unsharing ? windowPages(high) : 1);
      // Before anybody is told: without a frame nothing changes.
      if (host.free === 0) return this.end(run, 'no memory');
      if (isHuge && !this.unsharing) return this.announce(windowStart(this.vpn, high), windowPages(high), HUGE);
      if (isHuge && exports.splitHuge(table, this.vpn)) this.split(high);
      return this.announce(this.vpn, 1, this.unsharing ? COPY : FRESH);
    }
    if (!(vma.flags & VMA_PRIVATE)) {
      if (this.unsharing) return this.end(run, 'served');
      this.count('share');
      exports.mapShared(table, this.vpn);
      vma.object?.markDirty(vma.offset + (this.vpn - vma.start));
      return this.end(run, 'served');
    }
    if (exports.canReuse(table, this.vpn)) {
      if (high & L.ENTRY_CPU_READS) return this.revoke(run, frame, high & L.ENTRY_REPLICATED ? UPGRADE : REUSE);
      this.count('reuse');
      if (this.unsharing) exports.mapOwn(table, this.vpn);
      else exports.mapReuse(table, this.vpn);
      return this.end(run, 'served');
    }
    if (!isHuge) {
      this.count('copy');
      if (host.free === 0) return this.end(run, 'no memory');
      return this.announce(this.vpn, 1, COPY);
    }
    if (isHugetlb(vma)) {
      this.count('copy', windowPages(high));
      return this.announce(windowStart(this.vpn, high), windowPages(high), HUGETLB);
    }
    // Each page has holders of its own then: look again.
    if (exports.splitHuge(table, this.vpn)) {
      this.split(high);
      return AGAIN;
    }
    return core.stopReason === L.STOP_LOCKED ? run.waitFor(this.platform.pageLocks.wait(core.stopFrame)) : this.end(run, 'bus error');
  }

  private announce(start: number, pages: number, then: number): typeof AGAIN {
    const cause = then === UPGRADE ? 'upgrade' : then === REVOKE || then === REUSE ? 'revoke' : 'cow';
    this.space.announce(this.clear.set(start, start + pages, 'CLEAR', undefined, cause));
    this.phase = then;
    return AGAIN;
  }

  /** Does what was announced, if it is still to be done: while devices flushed, another fault may have been quicker, or the page may have gone to a device. */
  private flushed(then: number): void {
    const { core, host } = this.platform;
    const { exports } = core;
    const { table } = this.space;
    const high = core.entry(table, this.vpn);
    if (then === REVOKE) {
      const vma = this.space.vmas.find(this.vpn);
      if ((high & L.ENTRY_KIND) !== L.KIND_EXCLUSIVE) return;
      exports.exclusiveClear(table, this.vpn, vma ? rightsOf(vma) : 0);
      this.revoked();
      return;
    }
    if ((high & L.ENTRY_KIND) !== L.KIND_PRESENT) return;
    const isZero = (high & L.ENTRY_ZERO) !== 0;
    const isHuge = (high & L.ENTRY_ORDER) !== 0;
    switch (then) {
      case FRESH:
        if (isZero && !isHuge) this.fresh();
        return;
      case HUGE:
        if (!isZero) return;
        if (isHuge && this.hasHugeRoom && exports.mapHuge(table, windowStart(this.vpn, high), host.index, L.RIGHT_READ | L.RIGHT_WRITE, 0))
          return;
        if (exports.splitHuge(table, this.vpn)) {
          if (isHuge) this.split(high);
          this.fresh();
        } else this.outcome = 'no memory';
        return;
      case REUSE:
      case UPGRADE:
        if (!(high & L.ENTRY_CPU_READS) || !exports.canReuse(table, this.vpn)) return;
        exports.mapReuse(table, this.vpn);
        if (then === REUSE) this.revoked();
        return;
      default:
        if (high & L.ENTRY_WRITE || exports.canReuse(table, this.vpn)) return;
        if (then === HUGETLB) {
          this.outcome = this.hugetlb(this.space.vmas.find(this.vpn)!);
          if (this.outcome === 'served') this.copied(windowStart(this.vpn, high), windowPages(high));
        } else if (!isHuge) {
          if (exports.mapCopy(table, this.vpn, host.index, this.unsharing ? 0 : 1) === L.FRAME_NONE) this.outcome = 'no memory';
          else if (!isZero) this.copied(this.vpn, 1);
        }
    }
  }

  // -------------------------------------------------------------------------------------------------------------- exclusive pages

  /** The page lock keeps out whoever makes this page exclusive just now: until he lets go, the page is his. */
  private revoke(run: Run, frame: number, then: number): Progress {
    const { pageLocks } = this.platform;
    if (!pageLocks.tryLock(frame)) return run.waitFor(pageLocks.wait(frame));
    this.locked = frame;
    this.count(then === UPGRADE ? 'upgrade' : 'exclusive');
    return this.announce(this.vpn, 1, then);
  }

  // -------------------------------------------------------------------------------------------------------------- pages on devices

  /** Whether the device for which this is served reaches the page where it is. */
  private reaches(frame: number, high: number): boolean {
    if (this.owner === 0 || (this.write && !(high & L.ENTRY_WRITE))) return false;
    return this.platform.nodes.of(frame).owner === this.owner;
  }

  /**
   * `migrate_to_ram`: the device's whole granule comes home, a huge page as one, the faulting page first. No reference is taken meanwhile: two faults on one page would each
   * be a holder that the other's migration does not know. Whoever collects the page first has it, the other one then waits for its page lock.
   */
  private callHome(run: Run, vma: Vma, node: number, isHuge: boolean): Progress {
    const space = this.space;
    const memory = this.platform.memories.get(node)!;
    const { start, end } = space.granule(this.vpn, isHuge ? Math.max(memory.granulePages, HUGE_PAGES) : memory.granulePages);
    if (!this.hasTried) {
      this.count('home');
      const outcome = end - start === 1 ? this.move(run, vma, memory) : 'not simple';
      if (outcome === 'ended') return this.end(run, this.outcome);
      this.phase = HOME;
      if (outcome === 'copying') return run.call(this.home!);
    }
    this.hasTried = false;
    this.phase = HOME;
    return run.call(this.comes(start, end - start, memory));
  }

  /** The page comes home by itself, if that is simple: `ended`, with the outcome; `copying`: `home` goes on with it. */
  private move(run: Run, vma: Vma, memory: DeviceMemory): 'ended' | 'copying' | 'not simple' {
    const { platform, space, vpn } = this;
    const page = (this.page ??= new PageMove(platform));
    const outcome = page.toHost(run, space, vpn, vma, memory);
    switch (outcome) {
      case 'moved':
        this.broughtHome = true;
        return 'ended';
      case 'stayed':
        this.broughtHome = true;
        this.outcome = platform.host.free === 0 ? 'no memory' : 'bus error';
        return 'ended';
      case 'copying':
        this.comes(vpn, 1, memory).copying(page);
        return 'copying';
      default:
        return 'not simple';
    }
  }

  /** The migration of pages that come home with this one. */
  private comes(start: number, pages: number, memory: DeviceMemory): Migration {
    const home = (this.home ??= new Migration(this.platform));
    home.toHost(this.space, start, pages, memory, 'home', this.vpn);
    home.wanted = this.vpn;
    // Who only reads it leaves the device its copy, if that is for duplication.
    home.isShared = !this.write && !this.unsharing;
    return home;
  }

  /** Pinned to a device, for which this is not served: it does not come. Who may wait holds no lock meanwhile, so that the mappings can change. */
  private isPinned(run: Run, frame: number): Progress {
    const memory = this.platform.memories.get(this.platform.core.nodeOf(frame))!;
    if (this.forDevice || memory.device.pinnedAccess !== 'wait') return this.end(run, 'bus error');
    this.unlock(run);
    this.phase = LOCK;
    return run.waitFor(this.space.devicePins);
  }

  /** The page comes back from the second tier. */
  private callBack(run: Run): Progress {
    this.count('swap');
    this.phase = HOME;
    this.home ??= new Migration(this.platform);
    this.home.fromTier(this.space, this.vpn, this.platform.tier!);
    this.home.wanted = this.vpn;
    return run.call(this.home);
  }

  private cameHome(run: Run): Progress {
    this.broughtHome = true;
    switch (this.home!.verdict(this.vpn)) {
      case 'moved':
        return this.end(run, 'served');
      case 'refused':
        return this.end(run, this.platform.host.free === 0 || this.space.hostRoom === 0 ? 'no memory' : 'bus error');
      case 'not collected': {
        // Somebody else had it: look again. Unless somebody holds it; whoever has locked it lets go soon.
        const { core, pageLocks } = this.platform;
        const isThere = (core.entry(this.space.table, this.vpn) & L.ENTRY_KIND) === L.KIND_DEVICE_PRIVATE;
        if (isThere && pageLocks.locked(core.entryLow)) {
          this.phase = LOOK;
          return run.waitFor(pageLocks.wait(core.entryLow));
        }
        return this.end(run, isThere && this.isHeld(core.entryLow) ? 'bus error' : 'served');
      }
    }
  }

  /** Whether the frame has a holder that is neither a mapping nor a migration. */
  private isHeld(frame: number): boolean {
    const { core } = this.platform;
    const record = core.frameRecord(core.headOf(frame));
    return core.field(record, L.FRAME_REFS) !== (core.field(record, L.FRAME_MAPS) & L.MAPS_MASK);
  }

  private split(high: number): void {
    reportSplit(this.platform, this.space.id, windowStart(this.vpn, high), 'fault');
  }

  private copied(vpn: number, pages: number): void {
    const { events } = this.platform;
    if (events.heard) events.emit({ type: 'page.copied', space: this.space.id, vpn, pages, cause: this.unsharing ? 'unshare' : 'write' });
  }

  private revoked(): void {
    const { events } = this.platform;
    if (events.heard) events.emit({ type: 'page.revoked', space: this.space.id, vpn: this.vpn, cause: 'fault' });
  }

  /** `pages`: of the huge page that it is about, else 1. */
  private count(cause: CpuFaultCause, pages = 1): void {
    const { events } = this.platform;
    // Once for each fault, however often it looks again.
    if (this.tries > 0) return;
    if (!this.forDevice) events.countCpuFault(cause);
    if (events.heard) {
      const { vpn, write, forDevice } = this;
      events.emit({ type: 'fault.cpu', space: this.space.id, vpn, pages, write, cause, forDevice });
    }
  }
}

/**
 * Serving one device fault: the page, and with it its granule, comes to where the device can use it.
 *
 * What is done about a page is written in `fault-table.ts`; where the device's policy has a choice (`sdk/policy/placement.ts`), nothing is advised and nothing chosen, the page comes:
 *
 * ```
 *   home entry of the page        device with memory of its own              device without
 *   none, page of zeros, host     the granule's pages migrate to it          the CPU's page is mapped (MirrorRange)
 *   of a file, shared, hugetlb    the CPU's page is mapped                   likewise
 *   its own, right suffices       entered into its table                     -
 *   its own, read-only, write     private: brought home, made writable, migrated; coherent: made writable
 *   another device's, private     linked: migrates over the link, or is      coherent link: mapped where it is; else
 *                                 mapped where it is (peerPlacement);        brought home, then mapped
 *                                 else brought home first, then as above
 *   another device's, coherent    mapped where it is                         likewise
 *   exclusive to a device         revoked first, then as above
 *   migration entry               waits for the page lock, looks again
 * ```
 *
 * Where the granule is 2 MiB a huge page of the CPU's moves as one, to a huge frame; where there is none, as 512 pages.
 *
 * Frames are reserved before anything moves, the faulting page's first; a memory that is full gives frames back by its driver's or the core's choice of
 * victims; one that is full of what may not leave has the page used where it is. Models: `gm_dev_fault`, `nouveau_svm_fault`, the fault handler of `drm_gpusvm`.
 */
import * as L from '../../assembly/layout.ts';
import type { RemoteMapCause, ThrottleCause } from '../events/cause.ts';
import { CpuFault } from '../mm/fault.ts';
import { HUGE_PAGES, windowStart } from '../mm/huge-window.ts';
import type { DeviceMemory } from '../mm/device-memory.ts';
import { linkEngine } from '../mm/migration-copies.ts';
import { Migration } from '../mm/migration.ts';
import { PageMove, type PageMoveOutcome } from '../mm/page-move.ts';
import type { Platform } from '../mm/platform.ts';
import { reportSplit } from '../mm/splits.ts';
import { PROT_READ, PROT_WRITE, type Vma, VMA_ANONYMOUS, VMA_DEVICE, VMA_PRIVATE } from '../mm/vma.ts';
import { AGAIN, DONE, type Progress, type Run, type Step } from '../step/step.ts';
import type { Context } from './context.ts';
import { Duplicate, originalOf } from './duplicate.ts';
import { Evict } from './evict.ts';
import { FaultPolicy } from './fault-policy.ts';
import { deviceAction, type PageState } from './fault-table.ts';
import { gatherCopied, gatherMoving, wholeGranule } from './gather.ts';
import { Granule } from './granule.ts';
import { InPlace } from './in-place.ts';
import type { OwnMemory } from './own-memory.ts';
import { isReachable, pageState } from './page-state.ts';
import { Touch } from './planner.ts';

/**
 * `served`: the device's table has what the access needs. `present`: it had it already. `deferred`: no frame may be freed now, try again after a replay. `throttled`: put off by a policy about pages that go back and forth.
 * `no mapping`, `permission`: to be cancelled. `no memory`: the host is exhausted, or there is no table page for the device's table. `bus error`: the bytes cannot be had. `out of reach`: the policy lets the page
 * stay where no link reaches it.
 */
export type ServeOutcome =
  'served' | 'present' | 'deferred' | 'throttled' | 'no mapping' | 'permission' | 'no memory' | 'bus error' | 'out of reach';

const BATCH = -1;
const LOCK = 0;
const LOOK = 1;
const FAULTED = 2;
const RESERVE = 3;
const EVICTED = 4;
const MIGRATED = 5;
const MIRRORED = 6;
const TOUCHED = 7;
const CLEARED = 8;
const DUPLICATED = 9;
const TRY = 10;
const TRIED = 11;

/** Flags of private anonymous memory that nothing was advised of. */
const COMMON = VMA_ANONYMOUS | VMA_PRIVATE;

/** Looks at one page before it gives up: each one follows a change that somebody made. */
const LOOKS_MAX = 64;

/** The step that serves one device fault. Made by `context.serveStep()`; reused by its owner. */
export class ServeFault implements Step {
  readonly name = 'serve device fault';
  outcome: ServeOutcome = 'served';
  private readonly platform: Platform;
  private readonly context: Context;
  private readonly fault: CpuFault;
  private readonly migration: Migration;
  private readonly page: PageMove;
  private readonly evict: Evict;
  /** Made at the first of a device that has the family `peer`. */
  private touch: Touch | undefined;
  private vpn = 0;
  private write = false;
  private phase = LOCK;
  private looks = 0;
  /** What has come of the attempt to serve it at once. */
  private tried: PageMoveOutcome = 'not simple';
  /** The memory was asked for a frame then, and had none: it is not asked again before something has gone. */
  private hasRefused = false;
  /** How often the device, which chooses its pages itself, had none for the page. */
  private refusals = 0;
  private readonly policy: FaultPolicy;
  private readonly granule: Granule;
  /** For a huge page: a victim has been looked for; that it cannot come as one has been seen. */
  private evicted = false;
  private small = false;
  /** Nothing in the memory may go. */
  private exhausted = false;
  private ownBatch = false;
  /** The page where it is, when it does not come. */
  private readonly inPlace: InPlace;
  /** Made at the first page that is duplicated. */
  private duplicate: Duplicate | undefined;

  constructor(platform: Platform, context: Context) {
    this.platform = platform;
    this.context = context;
    this.fault = new CpuFault(platform);
    this.migration = new Migration(platform);
    this.page = new PageMove(platform);
    this.inPlace = new InPlace(platform, context);
    this.evict = new Evict(platform);
    this.policy = new FaultPolicy(platform, context);
    this.granule = new Granule(platform);
  }

  /** For an access of the context to page `vpn`, as part of a batch: the caller holds the device's batch lock, and says when nothing is spared any more. */
  of(vpn: number, write: boolean): this {
    this.outcome = 'served';
    this.vpn = vpn;
    this.write = write;
    this.phase = TRY;
    this.looks = 0;
    this.inPlace.cause = 'policy';
    this.small = false;
    this.hasRefused = false;
    this.refusals = 0;
    this.ownBatch = false;
    return this;
  }

  /** The same for a fault that comes by itself. */
  alone(vpn: number, write: boolean): this {
    this.of(vpn, write);
    this.phase = BATCH;
    this.ownBatch = true;
    return this;
  }

  /**
   * Serves it in the turn of whoever asks, where it is what most faults are: a page of the host, or a hole, of memory that nothing was advised of comes to a memory that has room, and nobody else has to hear of it. What is left out then
   * (the table, the policies, the locks) could say nothing else, nor could anybody tell. False: `next` goes on from where this came to. Requires: as `of`.
   */
  isServedAtOnce(run: Run): boolean {
    const { context, vpn, write, page } = this;
    const { space, device, ready } = context;
    const { memory } = device;
    this.phase = LOCK;
    if (!memory?.isPlain || !ready?.isWhole || context.isLimited || device.leaving || !space.isOpen || !space.mmapLock.isFreeToRead)
      return false;
    const vma = space.vmas.find(vpn);
    if (vma?.flags !== COMMON || !(vma.prot & PROT_READ) || (write && !(vma.prot & PROT_WRITE))) return false;
    const outcome = page.faultIn(run, space, vpn, vma, memory, ready, write);
    this.hasRefused = outcome === 'no frame';
    if (outcome === 'not simple' || outcome === 'no frame') return false;
    if (outcome !== 'stayed') memory.bring(page.target);
    if (outcome === 'moved' && (write ? page.isWritable : page.isReadable)) return true;
    this.tried = outcome;
    this.phase = TRIED;
    return false;
  }

  next(run: Run): Progress {
    const { mmapLock } = this.context.space;
    const { batch } = this.context.device;
    switch (this.phase) {
      case BATCH:
        if (!batch.tryAcquire(run)) return run.waitFor(batch);
        this.phase = TRY;
      // falls through
      case TRY:
        if (this.isServedAtOnce(run)) return this.end(run, 'served');
        if (this.phase === TRIED) return AGAIN;
      // falls through
      case LOCK:
        if (!mmapLock.tryAcquireShared(run)) return run.waitFor(mmapLock);
        this.phase = LOOK;
      // falls through
      case LOOK:
        return this.look(run);
      case FAULTED:
        if (this.fault.outcome !== 'served') return this.end(run, this.fault.outcome);
        this.phase = LOOK;
        return AGAIN;
      case TRIED:
        // It was free in this same turn.
        if (!mmapLock.tryAcquireShared(run)) return run.waitFor(mmapLock);
        return this.moved(run, this.tried, this.context.device.memory!);
      case TOUCHED:
        return this.touched(run);
      case EVICTED:
        if (this.evict.freed === 0 && !this.granule.isHuge) return this.evict.tried ? this.fruitless(run, RESERVE) : this.noVictim(run);
        this.phase = RESERVE;
      // falls through
      case RESERVE:
        return this.reserve(run);
      case CLEARED:
        if (this.evict.freed === 0) return this.fruitless(run, LOOK);
        this.phase = LOOK;
        return AGAIN;
      case DUPLICATED:
        return this.duplicated(run);
      case MIGRATED:
        if (this.migration.peerCode === 'nomem' && !this.context.reaches(this.vpn, this.write)) return this.clear(run);
        this.spareChosen();
        if (this.context.reaches(this.vpn, this.write)) return this.end(run, 'served');
        if (this.migration.peerCode === 'migrating') return this.end(run, 'deferred');
        if (this.granule.isHuge) {
          // Somebody has cut the huge page, or filled a part of the hole.
          this.small = true;
          this.phase = LOOK;
          return AGAIN;
        }
        // The page could not move (pinned, or somebody else had it): the device uses it where it is.
        this.inPlace.cause = this.migration.copyFailed || this.migration.peerCode !== 'success' ? 'copy failed' : 'pinned';
        if (this.granule.from) return this.stuck(run);
        return this.mapHost(run, 1);
      default:
        return this.end(run, this.inPlace.mapped());
    }
  }

  abort(run: Run): void {
    this.granule.release();
    this.unlock(run);
  }

  private end(run: Run, outcome: ServeOutcome): typeof DONE {
    const context = this.context;
    this.outcome = outcome === 'served' && context.isFull && !context.reaches(this.vpn, this.write) ? 'no memory' : outcome;
    this.unlock(run);
    return DONE;
  }

  private unlock(run: Run): void {
    const { space, device } = this.context;
    if (run.holds(space.mmapLock)) space.mmapLock.release(run);
    if (this.ownBatch && run.holds(device.batch)) {
      device.endBatch();
      device.batch.release(run);
    }
  }

  private look(run: Run): Progress {
    const context = this.context;
    const { space, device } = context;
    const { core } = this.platform;
    // While this one waited, the context may have failed, or left.
    context.requireWorking('fault');
    const vma = space.vmas.find(this.vpn);
    if (!vma || this.vpn >= context.pageLimit) return this.end(run, 'no mapping');
    if (!(vma.prot & PROT_READ) || (this.write && !(vma.prot & PROT_WRITE))) return this.end(run, 'permission');
    if (vma.flags & VMA_DEVICE && !context.owns(this.vpn)) return this.end(run, 'permission');
    if (context.reaches(this.vpn, this.write)) return this.end(run, this.looks === 0 ? 'present' : 'served');
    if (++this.looks > LOOKS_MAX) return this.end(run, 'bus error');
    const high = core.entry(space.table, this.vpn);
    const frame = core.entryLow;
    const state = pageState(this.platform, device, vma, high, frame);
    const question = this.write ? ((high & L.ENTRY_WRITE) !== 0 ? 'write' : 'denied') : 'read';
    switch (deviceAction(state, question, device.memory !== undefined)) {
      case 'wait':
        return run.waitFor(this.platform.pageLocks.wait(frame));
      case 'fault':
        return this.callFault(run);
      case 'enter':
        return this.enterOwn(run, frame, high, vma);
      case 'place':
        return this.place(run, state, vma, high, frame);
      case 'map':
        return this.mapHost(run, device.granulePages);
      case 'fail':
        return this.end(run, 'bus error');
    }
  }

  /** Does what the device's policy chooses. Where nothing is advised and nothing is chosen, the page comes. */
  private place(run: Run, state: PageState, vma: Vma, high: number, frame: number): Progress {
    const { space, device } = this.context;
    const { memory } = device;
    this.policy.begin();
    const hindrance = this.restrained(run, state, vma, high, frame);
    if (hindrance !== undefined) return hindrance;
    switch (this.policy.choose(this.vpn, this.write, state, frame)) {
      case 'remote': {
        if (state === 'other') return this.enterRemote(run, vma, high, frame);
        this.inPlace.cause = 'advice';
        const { start, end } = space.granule(this.vpn, device.granulePages);
        return this.mapHost(run, this.policy.isUniform(start, end) ? device.granulePages : 1);
      }
      case 'stay':
        this.inPlace.cause = 'advice';
        if (state !== 'other') return this.mapHost(run, 1);
        return this.reaches(frame) ? this.enterRemote(run, vma, high, frame, 'advice') : this.end(run, 'out of reach');
      case 'duplicate':
        // One on another device comes home first, and leaves a copy there.
        return state === 'host' ? this.planCopies(run, memory!, high) : this.callFault(run);
      default:
        if (state === 'other') return this.fetch(run, vma, high, frame);
        return memory ? this.plan(run, memory, vma, high) : this.callFault(run);
    }
  }

  /** Lists the pages of the granule that are to be duplicated, the faulting one first. */
  private planCopies(run: Run, memory: OwnMemory, high: number): Progress {
    const { context, platform } = this;
    const { space, replicas } = context;
    const { core, pageLocks } = platform;
    if (replicas.at(this.vpn) !== undefined) {
      // It has a copy, and lost the translation to it (a table that had to let go of more than it was asked for).
      if (!context.mayEnter) return run.waitFor(space.notifiers.idle);
      context.installReplica(this.vpn);
      return this.end(run, 'served');
    }
    if (high & L.ENTRY_ORDER) {
      if (!core.exports.splitHuge(space.table, this.vpn))
        return core.stopReason === L.STOP_LOCKED ? run.waitFor(pageLocks.wait(core.stopFrame)) : this.mapHost(run, 1);
      reportSplit(platform, space.id, windowStart(this.vpn, high), 'duplicate');
    }
    if (originalOf(platform, space, this.vpn) === L.FRAME_NONE) {
      // Somebody holds it, and may write it past all tables.
      this.inPlace.cause = 'pinned';
      return this.mapHost(run, 1);
    }
    this.granule.begin(this.vpn);
    this.granule.isCopied = true;
    gatherCopied(this.granule, this.policy);
    this.reserveIn(memory);
    return this.reserve(run);
  }

  /** The copies are there, or what hinders them. */
  private duplicated(run: Run): Progress {
    const { context } = this;
    if (context.reaches(this.vpn, false)) return this.end(run, 'served');
    if (this.duplicate!.hasFailed) {
      this.inPlace.cause = 'copy failed';
      return this.mapHost(run, 1);
    }
    this.phase = LOOK;
    return context.isInvalidating ? run.waitFor(context.space.notifiers.idle) : AGAIN;
  }

  /** The page is in a memory of this device already; of a huge one as much as its granule has. */
  private enterOwn(run: Run, frame: number, high: number, vma: Vma): Progress {
    const { device, space } = this.context;
    if (this.context.isInvalidating) return run.waitFor(space.notifiers.idle);
    let start = this.vpn;
    let end = start + 1;
    if (high & L.ENTRY_ORDER) {
      const block = start - (start % device.granulePages);
      start = Math.max(block, vma.start);
      end = Math.min(block + device.granulePages, vma.end);
    }
    const first = frame - (this.vpn - start);
    const write = (high & L.ENTRY_WRITE) !== 0;
    if (this.context.coupled) {
      this.phase = TOUCHED;
      this.touch ??= new Touch(this.platform);
      return run.call(this.touch.of(this.context, start, end - start, first, write, this.write ? 'write' : 'read'));
    }
    this.context.installRun(start, end - start, first, write);
    return this.end(run, 'served');
  }

  /** Does what the movements of the page's block want instead of its coming; undefined: nothing is against it. */
  private restrained(run: Run, state: PageState, vma: Vma, high: number, frame: number): Progress | undefined {
    switch (this.policy.restraint(this.vpn, state, frame)) {
      case 'go':
        return undefined;
      case 'reside':
        return this.reaches(frame) ? this.enterRemote(run, vma, high, frame) : this.throttle(run, 'residency');
      case 'defer':
        return this.throttle(run, 'thrashing');
      case 'pin':
        this.inPlace.cause = 'thrashing';
        if (state !== 'other') return this.mapHost(run, 1);
        return this.reaches(frame) ? this.enterRemote(run, vma, high, frame, 'thrashing') : this.callFault(run);
    }
  }

  private throttle(run: Run, cause: ThrottleCause): typeof DONE {
    const { events } = this.platform;
    const { space, device } = this.context;
    if (events.heard)
      events.emit({ type: 'fault.throttled', space: space.id, device: device.name, vpn: this.vpn, write: this.write, cause });
    return this.end(run, 'throttled');
  }

  /** The page is in the private memory of another device: it comes over their link (not to one that chooses its pages itself), else by way of the host. A device without memory uses it where it is, if it can. */
  private fetch(run: Run, vma: Vma, high: number, frame: number): Progress {
    const { memories, core, links } = this.platform;
    const { device, space } = this.context;
    const { memory } = device;
    const from = links.list.length > 0 ? memories.get(core.nodeOf(frame)) : undefined;
    if (!from || !links.between(device.owner, from.owner)) return this.callFault(run);
    if (memory && linkEngine(this.platform, from, memory, space) !== undefined) return this.plan(run, memory, vma, high, from);
    return !memory && this.reaches(frame) ? this.enterRemote(run, vma, high, frame) : this.callFault(run);
  }

  private reaches(frame: number): boolean {
    return isReachable(this.platform, this.context.device, frame);
  }

  /** The page did not come over the link. What somebody holds over there does not go home either: it is used there, if it can be. */
  private stuck(run: Run): Progress {
    const { core } = this.platform;
    const { space, device } = this.context;
    const vma = space.vmas.find(this.vpn)!;
    const high = core.entry(space.table, this.vpn);
    const frame = core.entryLow;
    const allowed = !this.write || (high & L.ENTRY_WRITE) !== 0;
    if (pageState(this.platform, device, vma, high, frame) !== 'other' || !allowed || !this.reaches(frame)) return this.mapHost(run, 1);
    this.phase = LOOK;
    return this.enterRemote(run, vma, high, frame, this.inPlace.cause);
  }

  /** Maps a page that is in the private memory of another device where it is. */
  private enterRemote(run: Run, vma: Vma, high: number, frame: number, cause: RemoteMapCause = 'link'): Progress {
    if (this.context.isInvalidating) return run.waitFor(this.context.space.notifiers.idle);
    this.inPlace.report(this.vpn, this.platform.nodes.of(frame).name, cause);
    return this.enterOwn(run, frame, high, vma);
  }

  /** What the device has chosen for this fault stays for the accesses of its batch. */
  private spareChosen(): void {
    const { device } = this.context;
    if (device.memory!.node.allocator !== 'peer') return;
    for (const vpn of this.granule.pages) {
      const frame = this.context.ownFrame(vpn);
      if (frame >= 0) device.memory!.bring(frame);
    }
  }

  /** The device had no room for what it was to bring: something goes first. */
  private clear(run: Run): Progress {
    const memory = this.context.device.memory!;
    this.refusals++;
    const victims = memory.victims(this.refusals > 1 ? 1 : this.granule.span);
    if (victims.length === 0) {
      if (!this.granule.isHuge) return this.noRoom(run, memory, LOOK);
      this.small = true;
      this.phase = LOOK;
      return AGAIN;
    }
    this.phase = CLEARED;
    return run.call(this.evict.frames(victims));
  }

  /** The device was asked to use again what it has: it may be sending it away just now. */
  private touched(run: Run): Progress {
    switch (this.touch!.outcome) {
      case 'done':
        this.phase = LOOK;
        return AGAIN;
      case 'migrating':
        return this.end(run, 'deferred');
      case 'no memory':
        return this.end(run, 'no memory');
      case 'refused':
        return this.end(run, 'bus error');
    }
  }

  private callFault(run: Run): Progress {
    this.phase = FAULTED;
    return run.call(this.fault.of(this.context.space, this.vpn, this.write, true));
  }

  /** Lists the pages of the granule that are to move. */
  private plan(run: Run, memory: OwnMemory, vma: Vma, high: number, from?: DeviceMemory): Progress {
    const { granule, policy } = this;
    granule.begin(this.vpn, from);
    this.reserveIn(memory);
    // A device that has had no room for it twice may have given it to its neighbours: it comes by itself.
    if (this.context.device.granulePages === 1 || this.refusals > 1) return this.reserve(run);
    const whole = this.small ? undefined : wholeGranule(granule, policy, vma, high);
    if (whole === undefined) {
      gatherMoving(granule, policy, vma, this.write);
      return this.reserve(run);
    }
    this.evicted = false;
    granule.asHuge(whole);
    return this.reserveHuge(run, memory);
  }

  /** Frames are reserved next. */
  private reserveIn(memory: OwnMemory): void {
    this.exhausted = false;
    this.evict.from(memory, this.context.space.id, this.vpn, 'fault');
    this.phase = RESERVE;
  }

  /** A frame for the whole block; where there is room for none, it moves as small pages. */
  private reserveHuge(run: Run, memory: OwnMemory): Progress {
    const isOver = this.context.roomIn(memory, 0) < HUGE_PAGES;
    const frame = isOver ? L.FRAME_NONE : memory.takeFrame(L.HUGE_ORDER);
    memory.keeper?.wake(run);
    if (frame === L.FRAME_NONE) {
      if (!this.evicted && (isOver || memory.node.free < HUGE_PAGES)) {
        this.evicted = true;
        this.phase = EVICTED;
        return run.call(isOver ? this.evict.room(HUGE_PAGES, this.context.payer) : this.evict.room(HUGE_PAGES, 0, L.HUGE_ORDER));
      }
      this.small = true;
      this.phase = LOOK;
      return AGAIN;
    }
    if (frame >= 0) memory.bring(frame);
    this.granule.reserve(frame);
    this.phase = MIGRATED;
    return run.call(this.moving(memory));
  }

  /** The migration of the granule, ready to run. */
  private moving(memory: OwnMemory): Migration {
    const { granule, migration } = this;
    const { space, install } = this.context;
    const first = granule.pages[0]!;
    const picks = granule.handToMigration();
    if (granule.from) migration.toPeer(space, first, picks, granule.from, memory, 'fault', install);
    else migration.toDevice(space, first, picks, memory, 'fault', install);
    migration.wanted = this.vpn;
    migration.access = this.write ? 'write' : 'read';
    return migration;
  }

  private reserve(run: Run): Progress {
    const { granule } = this;
    const memory = this.context.device.memory!;
    if (granule.isHuge) return this.reserveHuge(run, memory);
    while (granule.lacking > 0) {
      const isOver = this.context.roomIn(memory, granule.reserved) < 1;
      const frame = isOver || this.hasRefused ? L.FRAME_NONE : memory.takeFrame(0, granule.reserved);
      this.hasRefused = false;
      if (frame === L.FRAME_NONE) {
        if (!this.exhausted) {
          this.phase = EVICTED;
          return run.call(this.evict.room(granule.lacking, isOver ? this.context.payer : 0));
        }
        if (granule.reserved === 0) return this.noRoom(run, memory, RESERVE);
        break;
      }
      if (frame >= 0) memory.bring(frame);
      granule.reserve(frame);
    }
    memory.keeper?.wake(run);
    this.phase = MIGRATED;
    if (granule.pages.length === 1 && !granule.isCopied) return this.moveOne(run, memory);
    const faulting = granule.sort();
    if (!granule.isCopied) return run.call(this.moving(memory));
    this.phase = DUPLICATED;
    this.duplicate ??= new Duplicate(this.platform, this.context);
    return run.call(this.duplicate.of(granule.pages, granule.handOver(), faulting));
  }

  /** The page moves by itself, at once if that is simple. */
  private moveOne(run: Run, memory: OwnMemory): Progress {
    const { context, granule, vpn } = this;
    const { space } = context;
    const frame = granule.handOver()[0]!;
    const outcome = granule.from ? 'not simple' : this.page.toDevice(run, space, vpn, space.vmas.find(vpn)!, frame, memory);
    if (outcome !== 'not simple') return this.moved(run, outcome, memory);
    granule.reserve(frame);
    return run.call(this.moving(memory));
  }

  /** The page has moved by itself, or has stayed, or is on its way. */
  private moved(run: Run, outcome: PageMoveOutcome, memory: OwnMemory): Progress {
    const { context, vpn, page } = this;
    if (outcome === 'copying') {
      this.granule.begin(vpn);
      this.granule.reserve(page.target);
      this.phase = MIGRATED;
      return run.call(this.moving(memory).copying(page));
    }
    if (outcome === 'moved' && ((this.write ? page.isWritable : page.isReadable) || context.reaches(vpn, this.write)))
      return this.end(run, 'served');
    this.inPlace.cause = page.hasFailed ? 'copy failed' : 'pinned';
    return this.mapHost(run, 1);
  }

  /** Nothing may go: what there is has to do. */
  private noVictim(run: Run): Progress {
    this.exhausted = true;
    this.phase = RESERVE;
    return this.reserve(run);
  }

  /** There is not a single frame, and nothing that may go: what this batch has brought may go after its lanes have run. Else the memory is full of what others hold. */
  private noRoom(run: Run, memory: OwnMemory, then: typeof RESERVE | typeof LOOK): Progress {
    const waits = this.waitForRoom(run, then);
    if (waits !== undefined) return waits;
    if (memory.brought > 0 && this.willHaveRoom(memory)) return this.stop(run, 'deferred');
    this.inPlace.cause = 'out of memory';
    return this.mapHost(run, 1);
  }

  /** Whether what this batch needs makes room when its lanes have run: it is there still, and where the space has too much already, it is the space that pays for it. */
  private willHaveRoom(memory: OwnMemory): boolean {
    const { core } = this.platform;
    const isOver = this.context.roomIn(memory, 0) < 1;
    return memory.spared.some((frame) => !isOver || (core.field(core.frameRecord(frame), L.FRAME_CHARGE) & 0xffff) === this.context.payer);
  }

  /** No victim moved: they are on their way already, host memory is exhausted, or they are pinned. What needs no frame of the host is used where it is. */
  private fruitless(run: Run, then: typeof RESERVE | typeof LOOK): Progress {
    const waits = this.waitForRoom(run, then);
    if (waits !== undefined) return waits;
    this.granule.release();
    this.inPlace.cause = 'eviction';
    return this.mapHost(run, 1);
  }

  /** Waits for a frame of the memory that somebody else is moving, to go on with reserving, or, where a migration has had the granule, with a look at the page; undefined when there is none. */
  private waitForRoom(run: Run, then: typeof RESERVE | typeof LOOK): Progress | undefined {
    const { node } = this.context.device.memory!;
    const frame = this.platform.pageLocks.anyLocked(node.base, node.frames);
    if (frame === undefined) return undefined;
    this.exhausted = false;
    this.phase = then;
    return run.waitFor(this.platform.pageLocks.wait(frame));
  }

  /** Gives up with what was reserved put back. */
  private stop(run: Run, outcome: ServeOutcome): typeof DONE {
    this.granule.release();
    return this.end(run, outcome);
  }

  /** Maps the CPU's page for the device, and what is there of the `pages` pages around it. */
  private mapHost(run: Run, pages: number): Progress {
    this.context.space.mmapLock.release(run);
    this.phase = MIRRORED;
    return run.call(this.inPlace.mapping(this.vpn, this.write, pages));
  }
}

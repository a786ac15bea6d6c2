/**
 * A migration: pages of one range, or frames of one memory, move to other frames, in three phases that anything may come between.
 *
 * ```
 *   announce   notifier start: MIGRATE, with the owner so that its own contexts can ignore it; wait for every flush
 *   collect    migration entries in place, frames locked; notifier end; the owner's own translations withdrawn, flush awaited
 *   allocate   a target frame for each page that is to move; where there is none, the page stays; a huge page with small targets is split
 *   copy       by the device's engine or the core; holes and pages of zeros are cleared
 *   commit     late pins refuse; holes get their entry, inside a second notifier event
 *   install    the device's own translations of what moved to it
 *   finalize   new entries for what moved, the old ones for the rest; frames unlocked, freed ones reported to their owners
 * ```
 *
 * Partial success is normal. Nothing is lost whatever fails: until finalize the source frame has the bytes, and a page that did not move gets its old entry
 * back. Models: `migrate_vma_setup/pages/finalize`, `migrate_device_range`, `migrate_device_pfns`.
 */
import * as L from '../../assembly/layout.ts';
import { Ranges } from '../core/batch.ts';
import { type EvictionResult, MIGRATING, type MigrationCause, type Way } from '../events/cause.ts';
import type { PageRun } from '../events/record.ts';
import { fail } from '../errors.ts';
import { method } from '../step/method.ts';
import { AGAIN, DONE, type Progress, type Run, type Step } from '../step/step.ts';
import type { Ticket } from '../step/ticket.ts';
import type { AddressSpace } from './address-space.ts';
import type { DeviceMemory, MigrationDevice } from './device-memory.ts';
import { HUGE_PAGES } from './huge-window.ts';
import { MigrationCopies } from './migration-copies.ts';
import { MigrationInstall } from './migration-install.ts';
import { MIGRATION_PAGES_MAX, MigrationOrder } from './migration-order.ts';
import { MigrationPlaces } from './migration-places.ts';
import { routesOf } from './migration-routes.ts';
import { FEW, type RunsOf, type VisitRun } from './migration-words.ts';
import { Invalidation } from './notifier.ts';
import type { PageMove } from './page-move.ts';
import type { PeerCode } from './peer-batch.ts';
import { PeerMoves } from './peer-moves.ts';
import { runsOf } from './places.ts';
import type { Platform } from './platform.ts';
import { shorten } from './shorten.ts';
import { hugePagesIn, reportSplits } from './splits.ts';
import { isAnonymous, PROT_READ } from './vma.ts';

const ANNOUNCE = 0;
const COLLECT = 1;
const ALLOCATE = 2;
const COPY = 3;
const ZERO = 4;
const HOLES = 5;
const COMMIT = 6;
const INSTALL = 7;
const ENDED = 8;
const PEER = 9;
const UNDONE = 10;

/** The node of the second tier. */
const SWAP = 'swap';

const NOWHERE: readonly PageRun[] = [];
const NONE: readonly number[] = [];
/** Lists of the words that move: those that were collected, and those that go, as their VMA allows. */
const COLLECTED: RunsOf = { isRange: true, withTargets: false };

/** The step that moves pages as it is ordered to; reused by its owner. */
export class Migration extends MigrationOrder implements Step {
  readonly name = 'migrate';
  /** Pages that moved, holes included. A huge page is 512. */
  moved = 0;
  /** Pages whose bytes were copied. */
  copied = 0;
  /** Pages that appeared on the target without a source. */
  cleared = 0;
  /** Collected, but not moved: no target frame, a late pin, a failed copy. */
  refused = 0;
  /** While somebody listens: where what moved is mapped now. */
  runs: readonly PageRun[] = NOWHERE;

  /** Pages that were collected, and holes that got a target: what did not move, in the end, was refused. */
  private collected = 0;
  private phase = ANNOUNCE;
  private failed = false;
  private readonly invalidation: Invalidation = new Invalidation();
  private readonly second: Invalidation = new Invalidation();
  /** Where else what moves is mapped. */
  private readonly places: MigrationPlaces;
  private readonly withdrawn: Ranges = new Ranges();
  /** `withdrawRun`, to be handed out. */
  private readonly visitWithdrawn: VisitRun = method<Migration, 'withdrawRun'>(this, 'withdrawRun');
  private readonly tickets: Ticket[] = [];
  /** Made at the first use of a copy engine. */
  private copies: MigrationCopies | undefined;
  /** Pages that leave a copy, and the frames that become it, in turn. */
  private readonly staying: number[] = [];
  /** For events: the huge pages of the range, before. */
  private heads: readonly number[] = NONE;
  /** Made at the first of such a device. */
  private moves: PeerMoves | undefined;
  private isPeerDone = false;
  private readonly installs: MigrationInstall;
  /** The engine has this migration's copies. */
  private engine = false;
  /** It has some, and would not take the rest. */
  private broken: { readonly error: unknown } | undefined;

  constructor(platform: Platform) {
    super(platform);
    this.places = new MigrationPlaces(platform);
    this.installs = new MigrationInstall(platform, this.words);
  }

  protected override begin(pages: number, device: MigrationDevice, cause: MigrationCause): void {
    super.begin(pages, device, cause);
    this.moved = 0;
    this.copied = 0;
    this.cleared = 0;
    this.refused = 0;
    this.runs = NOWHERE;
    this.collected = 0;
    this.places.begin();
    this.phase = ANNOUNCE;
    this.failed = false;
    this.engine = false;
    this.broken = undefined;
    this.isPeerDone = false;
    shorten(this.tickets, 0);
  }

  /** @internal Goes on where `move` has stopped: the page is taken, its bytes are on their way. After `toDevice` or `toHost` of that one page. */
  copying(move: PageMove): this {
    const { words } = this;
    const { core, pageLocks } = this.platform;
    if (move.source >= 0) words.take(0, move.source, (core.entry(this.space!.table, this.vpn) & L.ENTRY_WRITE) !== 0);
    else words.takeHole(0);
    words.aim(0, move.target, false);
    words.tally(core);
    this.collected = 1;
    this.heads = NONE;
    this.tickets.push(move.ticket!);
    move.ticket = undefined;
    pageLocks.moving++;
    this.phase = COPY;
    return this;
  }

  /** Whether something stayed for want of a frame to go to. */
  get isShort(): boolean {
    return this.targets.isShort;
  }

  // -------------------------------------------------------------------------------------------------------------- for `allocate`

  /** Whether a copy has failed, so that everything stayed. */
  get copyFailed(): boolean {
    return this.failed;
  }

  /** What a device that brings or takes pages by itself said of the wanted page, or else of the first that did not move. */
  get peerCode(): PeerCode {
    return this.coupled && this.isPeerDone ? this.moves!.code : 'success';
  }

  /** @internal What became of it. Requires: DONE. */
  fateOf(i: number): EvictionResult {
    const words = this.words;
    const bits = words.bits(i);
    if (bits & L.MIGRATE_MOVE) return 'success';
    if (bits & L.MIGRATE_VALID) return this.failed ? 'device error' : words.hasTarget(i) ? 'held' : 'fallback';
    const { core } = this.platform;
    const record = core.frameRecord(this.listed![i]!);
    const isMapped = (core.field(record, L.FRAME_MAPS) & L.MAPS_MASK) !== 0;
    const isUsed = (core.field(record, L.FRAME_FLAGS) & L.FRAME_STATE) === L.STATE_USED;
    return isUsed && isMapped ? 'held' : 'unmapped';
  }

  /** What became of one page of the range. Requires: DONE. */
  verdict(vpn: number): 'moved' | 'refused' | 'not collected' {
    const words = this.words;
    if (!Number.isInteger(vpn) || vpn < this.vpn || vpn >= this.vpn + words.count)
      throw fail('EINVAL', 'verdict.vpn', vpn, `is not one of the ${words.count} pages of the migration`);
    let i = vpn - this.vpn;
    const head = i - (vpn % HUGE_PAGES);
    if (words.bits(i) === 0 && head >= 0 && words.span(head) > 1) i = head;
    const bits = words.bits(i);
    if (bits & L.MIGRATE_MOVE) return 'moved';
    return bits & L.MIGRATE_VALID ? 'refused' : 'not collected';
  }

  // -------------------------------------------------------------------------------------------------------------- the phases

  next(run: Run): Progress {
    switch (this.phase) {
      case ANNOUNCE:
        this.announce();
        this.phase = COLLECT;
        if (this.flushing()) return AGAIN;
      // falls through
      case COLLECT: {
        const pending = this.flushing();
        if (pending) return run.waitFor(pending);
        if (this.tellOthers()) return AGAIN;
        this.collect();
        this.platform.pageLocks.moving++;
        this.phase = ALLOCATE;
        return AGAIN;
      }
      case ALLOCATE: {
        const pending = this.nextTicket();
        if (pending) return run.waitFor(pending);
        const room = this.targets.makeRoom();
        if (room) return run.call(room);
        this.giveTargets();
        this.words.lend(this.platform.core);
        this.words.tally(this.platform.core);
        this.split();
        this.collected = this.words.valid + this.words.aimed;
        this.phase = COPY;
        if (this.coupled) {
          this.phase = HOLES;
          return AGAIN;
        }
        this.copy();
        if (this.tickets.length > 0) return AGAIN;
      }
      // falls through
      case COPY: {
        const pending = this.nextTicket();
        if (pending) return run.waitFor(pending);
        if (this.broken) throw this.broken.error;
        this.phase = ZERO;
        if (this.engine) this.copies!.zero(this.space, this.tickets, this.peer ?? this.device);
      }
      // falls through
      case ZERO: {
        const pending = this.nextTicket();
        if (pending) return run.waitFor(pending);
        this.phase = HOLES;
        return AGAIN;
      }
      case HOLES:
        this.announceHoles();
        this.phase = COMMIT;
      // falls through
      default: {
        const pending = this.second.unfinished;
        if (pending) return run.waitFor(pending);
        if (this.coupled && !this.isPeerDone) {
          if (this.phase !== PEER) this.listPeer();
          const what = this.moves!.next(run);
          if (what !== undefined) return what === 'again' ? AGAIN : run.waitFor(what);
          this.isPeerDone = true;
        }
        this.finish();
        if (this.coupled && this.tickets.length > 0) {
          this.phase = UNDONE;
          return AGAIN;
        }
        this.settle();
        return DONE;
      }
      case UNDONE: {
        const pending = this.nextTicket();
        if (pending) return run.waitFor(pending);
        this.settle();
        return DONE;
      }
    }
  }

  /** Lists what the device is to bring, or take, by itself. */
  private listPeer(): void {
    this.phase = PEER;
    const moves = (this.moves ??= new PeerMoves(this.platform));
    const context = this.coupled!;
    if (this.targets.giver === 'caller') moves.bring(this.words, this.device, context, this.space!, this.vpn, this);
    else moves.take(this.words, this.device, this.space ? this.places.chooseRange(context, this.vpn) : this.places, this.wanted);
  }

  /** A migration that is broken off puts every page back where it was. */
  abort(): void {
    const { core, pageLocks } = this.platform;
    const words = this.words;
    this.invalidation.close();
    this.second.close();
    this.places.end();
    if (this.coupled) this.moves?.abort();
    this.targets.abort(this.phase <= COLLECT);
    if (this.phase > COLLECT && this.phase !== ENDED) {
      // Holes that the commit has filled have their page, and keep it.
      const refused = this.phase === INSTALL || this.phase === UNDONE ? L.MIGRATE_VALID : 0;
      for (let i = 0; i < words.count; i++) if ((words.bits(i) & refused) === refused) words.refuse(i);
      words.lend(core);
      core.exports.migrateFinalize(words.count, core.area(L.AREA_SOURCE), core.area(L.AREA_TARGET));
      pageLocks.moving--;
      this.phase = ENDED;
      this.follow();
    }
    if (pageLocks.kept.size > 0) for (let i = 0; i < words.count; i++) pageLocks.kept.delete(core.headOf(words.frame(i)));
    this.evicted();
    this.platform.settleFreed();
    this.reportSplits();
    pageLocks.released();
  }

  /** What was on its way home to make room has arrived, or stays. */
  private evicted(): void {
    if (this.cause !== 'evict' || !this.listed) return;
    const { evicting } = this.platform;
    const at = evicting.indexOf(this.listed);
    if (at < 0) return;
    evicting[at] = evicting.at(-1)!;
    evicting.pop();
  }

  private announce(): void {
    if (this.space) {
      this.space.announce(this.invalidation.set(this.vpn, this.vpn + this.words.count, 'MIGRATE', this.owner, MIGRATING[this.cause]));
      return;
    }
    const frames = this.targets.prepare(this.listed!, MIGRATION_PAGES_MAX);
    if (frames !== this.listed) this.words.begin(frames.length);
    this.listed = frames;
    this.tellOthers();
  }

  /** Tells every space that maps what is to move and has not been told. Returns whether there was one. */
  private tellOthers(): boolean {
    const { places, space } = this;
    const cause = MIGRATING[this.cause];
    return space ? places.tellSharers(space, this.invalidation, cause) : places.tellOf(this.listed!, cause, this.owner);
  }

  private flushing(): Ticket | undefined {
    return this.invalidation.unfinished ?? this.places.unfinished;
  }

  /** The first ticket still open; a failed one makes every page of this migration stay. */
  private nextTicket(): Ticket | undefined {
    while (this.tickets.length > 0) {
      const ticket = this.tickets[0]!;
      if (ticket.state === 'pending') return ticket;
      if (ticket.state === 'failed') this.failed = true;
      this.tickets.shift();
    }
    return undefined;
  }

  /** Holes that a device fills by itself are its. */
  private leaveArrivals({ arrivals }: AddressSpace): void {
    const { words } = this;
    if (!arrivals.meets(this.vpn, words.count)) return;
    for (let i = 0; i < words.count; i++) {
      const isHole = words.moves(i) && (words.bits(i) & L.MIGRATE_VALID) === 0;
      if (isHole && arrivals.meets(this.vpn + i, words.span(i))) words.refuse(i);
    }
  }

  /** What was taken meanwhile does not come back. */
  private leaveHoles(): void {
    const { words } = this;
    for (let i = 0; i < words.count; i++) if (!(words.bits(i) & L.MIGRATE_VALID)) words.refuse(i);
  }

  private collect(): void {
    const { core } = this.platform;
    const { exports } = core;
    const words = this.words;
    const sourceAt = core.area(L.AREA_SOURCE);
    const space = this.space;
    if (space) {
      this.heads = hugePagesIn(this.platform, space, this.vpn, this.vpn + words.count);
      const aimed = this.targets.giver === 'caller';
      if (this.only) this.wantFrom(space, this.only);
      if (aimed || this.only) words.lendTarget(core);
      const vma = space.vmas.find(this.vpn);
      const select = vma && !isAnonymous(vma) ? this.select | L.SELECT_NO_HOLES : this.select;
      const wanted = aimed || this.only ? core.area(L.AREA_TARGET) : 0;
      exports.migrateCollect(space.table, this.vpn, words.count, select, this.owner, L.FRAME_NONE, sourceAt, wanted);
      words.keep(core);
      if (this.only) words.dropTargets();
      this.leaveArrivals(space);
      this.invalidation.close();
      this.places.end();
      this.withdraw(space);
    } else {
      const { listed } = this;
      if (words.count > FEW) core.words(L.AREA_LIST, words.count).set(listed!);
      else for (let i = 0; i < words.count; i++) core.u32[(core.area(L.AREA_LIST) >>> 2) + i] = listed![i]!;
      exports.migrateCollectFrames(core.area(L.AREA_LIST), words.count, sourceAt);
      words.keep(core);
      if (this.cause === 'evict') this.platform.evicting.push(this.listed!);
      this.places.end();
      if (this.coupled) this.places.choose(words, this.device, this.coupled, this.tickets);
      else this.places.withdraw(this.device, this.tickets);
    }
  }

  /** Marks the pages on this memory: the others are not looked at. */
  private wantFrom(space: AddressSpace, memory: DeviceMemory): void {
    const { core } = this.platform;
    const words = this.words;
    for (let i = 0; i < words.count; i++) {
      const high = core.entry(space.table, this.vpn + i);
      const kind = high & L.ENTRY_KIND;
      if ((kind !== L.KIND_PRESENT && kind !== L.KIND_DEVICE_PRIVATE) || !memory.node.holds(core.entryLow)) continue;
      const huge = (high & L.ENTRY_ORDER) !== 0 && (this.vpn + i) % HUGE_PAGES === 0 && i + HUGE_PAGES <= words.count;
      words.aim(i, core.entryLow, huge);
    }
  }

  /** @internal The pages of the words from `i` on are to move. */
  withdrawRun(i: number, pages: number): void {
    this.withdrawn.add(this.vpn + i, pages);
  }

  /** The owner's own contexts ignored the event: now they lose exactly the pages that were collected. */
  private withdraw(space: AddressSpace): void {
    // One that does it all in one go does that, too.
    if (this.coupled) return;
    const ranges = this.withdrawn.clear();
    this.words.eachRun(this.platform.core, COLLECTED, this.visitWithdrawn);
    if (ranges.count > 0) this.device.withdraw(space, ranges, this.tickets);
  }

  private giveTargets(): void {
    const { targets, space, cause } = this;
    if (targets.giver === 'plan') return this.allocate!(this);
    // What somebody touches comes as far as the space may have it; everything else has to go somewhere.
    const most = space && (cause === 'home' || cause === 'swap in') ? space.hostRoom : Infinity;
    targets.give(space ? this.vpn : undefined, this.first, most);
  }

  /** A huge page that goes to small frames is split now, while nobody can touch it. */
  private split(): void {
    const words = this.words;
    if (!this.space || !words.mustSplit) return;
    const { core } = this.platform;
    core.exports.migrateSplit(core.area(L.AREA_SOURCE), core.area(L.AREA_TARGET), words.count);
    words.keep(core);
    words.tally(core);
  }

  private copy(): void {
    if (this.peer ? this.engineOfPeers : this.device.hasEngine(this.space)) {
      this.engine = true;
      this.copies ??= new MigrationCopies(this.platform);
      this.copies.of(this.words, this.engineOfPeers ?? this.device, this.peer !== undefined);
      try {
        this.copies.copy(this.space, this.tickets);
      } catch (error) {
        // What the engine has already it still writes to: no target is given up before.
        if (this.tickets.length === 0) throw error;
        this.broken = { error };
      }
      return;
    }
    const { core } = this.platform;
    core.exports.migrateCopy(core.area(L.AREA_SOURCE), core.area(L.AREA_TARGET), this.words.count);
  }

  /** A second event surrounds the insertion of holes, from the first of them to the end of the range. */
  private announceHoles(): void {
    if (!this.space || this.failed) return;
    const { words, vpn } = this;
    const i = words.firstHole;
    if (i < words.count) this.space.announce(this.second.set(vpn + i, vpn + words.count, 'MIGRATE', this.owner, MIGRATING[this.cause]));
  }

  private finish(): void {
    const { core, pageLocks } = this.platform;
    const { exports } = core;
    const words = this.words;
    const space = this.space;
    const sourceAt = core.area(L.AREA_SOURCE);
    const targetAt = core.area(L.AREA_TARGET);
    if (this.failed) for (let i = 0; i < words.count; i++) words.refuse(i);
    else if (space?.isReaped && !this.coupled) this.leaveHoles();
    if (pageLocks.kept.size > 0) this.keep(pageLocks.kept);
    words.lend(core);
    const writable = space?.writable(this.vpn) ? 1 : 0;
    const moving = exports.migrateCommit(space ? space.table : 0, this.vpn, words.count, sourceAt, targetAt, writable, L.FRAME_NONE);
    // As many words as there were pages: every one is small, and still moves.
    const isWhole = moving === words.valid + words.holes;
    if (!isWhole) words.keep(core);
    this.phase = INSTALL;
    this.second.close();
    if (!isWhole) words.tally(core);
    const clean = this.targets.countClean();
    this.copied = words.valid - clean;
    this.cleared = words.holes;
    this.moved = words.valid + words.holes;
    this.refused = this.collected - this.moved;
    if (this.coupled) this.moves!.undo(this.device, this.coupled, this.tickets);
    else if (space && this.install) this.installs.byPages(space, this.vpn, this.install);
    else if (space && this.installer) this.installs.byRuns(space, this.vpn, this.installer);
  }

  private settle(): void {
    const { core, pageLocks } = this.platform;
    const words = this.words;
    const space = this.space;
    const kept = space && this.isShared && !this.coupled ? this.hold(space) : 0;
    words.lend(core);
    core.exports.migrateFinalize(words.count, core.area(L.AREA_SOURCE), core.area(L.AREA_TARGET));
    // From here on there is nothing to go back to.
    this.phase = ENDED;
    pageLocks.moving--;
    if (space) for (let i = 0; i < kept; i += 2) this.device.keep(space, this.staying[i]!, this.staying[i + 1]!);
    if (space && this.cleared > 0) this.withhold(space);
    this.evicted();
    if (this.coupled) this.moves!.end();
    if (this.platform.tier && (this.isPlanned || this.coupled || !this.platform.tier.isTrusting)) this.forget();
    this.platform.settleFreed();
    this.follow();
    pageLocks.released();
    this.report();
  }

  /** What came home, or stayed there, the CPU has again: those who follow its table are told. */
  private follow(): void {
    if (this.space && this.space.notifiers.followers.length > 0) this.space.installed(this.vpn, this.words.count);
    this.places.follow();
  }

  /** What has been asked for since an eviction took it stays. Models: GM_MAPPING_WILLNEED. */
  private keep(kept: Set<number>): void {
    const { core } = this.platform;
    const words = this.words;
    for (let i = 0; i < words.count; i++) {
      if (!(words.bits(i) & L.MIGRATE_VALID) || !kept.delete(core.headOf(words.frame(i))) || this.cause !== 'evict') continue;
      words.refuse(i);
    }
  }

  /** Holds the frames that become copies of what leaves them: pages and frames in turn, in `staying`; returns how many numbers that are. */
  private hold(space: AddressSpace): number {
    const words = this.words;
    let kept = 0;
    if (!this.device.mayDuplicateIn(space)) return kept;
    for (let i = 0; i < words.count; i++) {
      const bits = words.bits(i);
      if (!words.moves(i) || !(bits & L.MIGRATE_VALID) || bits & L.MIGRATE_COMPOUND || !this.device.duplicates(space, this.vpn + i))
        continue;
      this.staying[kept++] = this.vpn + i;
      this.staying[kept++] = words.frame(i);
    }
    // Afterwards: a policy that is asked may throw.
    for (let i = 1; i < kept; i += 2) this.platform.core.exports.frameGet(this.staying[i]!);
    return kept;
  }

  /** Whoever has the pages now, or had them, may write to them without a mark that is seen: a driver's plan, a device that brings and takes them by itself. */
  private forget(): void {
    const words = this.words;
    for (let i = 0; i < words.count; i++) if (words.moves(i)) this.platform.core.exports.backingDrop(words.targetFrame(i));
  }

  /** Counts what moved, by the nodes it moved between. */
  private report(): void {
    this.platform.events.counters.cleared += this.cleared;
    this.reportSplits();
    if (this.platform.movements && this.moved > 0 && (this.cause === 'fault' || this.cause === 'home')) this.remember();
    if (this.isPlanned || this.peer) {
      let { refused } = this;
      for (const { from, to, way, copied, cleared, frames } of routesOf(this.platform, this.words)) {
        this.count(from, to, way, copied, cleared, refused, frames);
        refused = 0;
      }
      return;
    }
    const host = this.platform.host.name;
    const { giver } = this.targets;
    if (giver === 'tier') this.count(this.node, SWAP, 'swapOut', this.copied, 0, this.refused);
    else if (this.cause === 'swap in') this.count(SWAP, host, 'swapIn', this.copied, 0, this.refused);
    else if (giver === 'caller') this.count(host, this.node, 'toDevice', this.copied, this.cleared, this.refused);
    else this.count(this.node, host, 'toHost', this.copied, this.cleared, this.refused);
  }

  /** What went to and fro because somebody touched it. */
  private remember(): void {
    const { movements, nodes } = this.platform;
    const { words, space } = this;
    if (!space) return;
    movements!.tick++;
    for (let i = 0; i < words.count; i++)
      if (words.moves(i)) movements!.moved(space.id, this.vpn + i, words.span(i), nodes.of(words.targetFrame(i)).owner);
  }

  private reportSplits(): void {
    if (this.space && this.heads.length > 0) reportSplits(this.platform, this.space, this.heads, 'migration');
    this.heads = NONE;
  }

  private count(from: string, to: string, way: Way, copied: number, cleared: number, refused: number, frames?: readonly number[]): void {
    const { events } = this.platform;
    const { clean } = this.targets;
    events.countMigrated(from, to, copied, copied * L.PAGE_BYTES, way, this.cause, clean);
    if (!events.heard) return;
    this.runs = runsOf(this.platform, frames ?? this.targetFrames());
    events.emit({
      type: 'pages.migrated',
      space: this.space?.id ?? -1,
      vpn: this.vpn,
      from,
      to,
      way,
      pages: copied,
      bytes: copied * L.PAGE_BYTES,
      cleared,
      refused,
      clean,
      cause: this.cause,
      wanted: this.wanted,
      runs: this.runs,
    });
  }

  /** Where what moved is now: the first frame of each word. */
  private targetFrames(): number[] {
    const words = this.words;
    const frames: number[] = [];
    for (let i = 0; i < words.count; i++) if (words.moves(i)) frames.push(words.targetFrame(i));
    return frames;
  }

  /** A hole that was filled where the VMA gives no right at all must not be open to the CPU: the core knows entries, not VMAs. */
  private withhold(space: AddressSpace): void {
    const vma = space.vmas.find(this.vpn);
    if (!vma || vma.prot & PROT_READ) return;
    const words = this.words;
    for (let i = 0; i < words.count; i++) {
      if (words.moves(i) && !(words.bits(i) & L.MIGRATE_VALID))
        this.platform.core.exports.reprotect(space.table, this.vpn + i, words.span(i), 0);
    }
  }
}

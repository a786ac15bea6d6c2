/**
 * A migration: pages of one range, or frames of one memory, move to other frames, in three phases that anything may come between.
 *
 * ```
 *   announce   notifier start: MIGRATE, with the owner so that its own contexts can ignore it; wait for every flush
 *   collect    migration entries in place, frames locked; notifier end; the owner's own translations withdrawn, flush awaited
 *   allocate   a target frame for each page that is to move; where there is none, the page stays
 *   copy       by the device's engine or the core; holes and pages of zeros are cleared
 *   commit     late pins refuse; holes get their entry, inside a second notifier event
 *   install    the device's own translations of what moved to it
 *   finalize   new entries for what moved, the old ones for the rest; frames unlocked, freed ones reported to their owners
 * ```
 *
 * Partial success is normal. Nothing is lost whatever fails: until finalize the source frame has the bytes, and a page that did not move gets its old entry
 * back. Models: `migrate_vma_setup/pages/finalize`, `migrate_device_range`.
 */
import * as L from '../../assembly/layout.ts';
import { Copies, Ranges } from '../core/batch.ts';
import type { MigrationCause } from '../events.ts';
import { fail } from '../errors.ts';
import { AGAIN, DONE, type Progress, type Run, type Step } from '../step/step.ts';
import type { Ticket } from '../step/ticket.ts';
import type { AddressSpace } from './address-space.ts';
import type { DeviceMemory } from './device-memory.ts';
import { Invalidation } from './notifier.ts';
import type { Node } from './node.ts';
import type { Platform } from './platform.ts';
import { PROT_READ } from './vma.ts';

/** Installs a device's translations of pages that have just moved to it. Called between commit and finalize, both frames locked. */
export type Install = (space: AddressSpace, vpn: number, frames: readonly number[], writable: (page: number) => boolean) => void;

/** Ends an invalidation that is running; one that never began is left alone. */
export function endInvalidation(invalidation: Invalidation): void {
  invalidation.running?.invalidateEnd(invalidation);
}

const ANNOUNCE = 0;
const COLLECT = 1;
const ALLOCATE = 2;
const COPY = 3;
const ZERO = 4;
const HOLES = 5;
const COMMIT = 6;
const INSTALL = 7;
const ENDED = 8;

/** Most pages of one migration: the batch area's words. */
export const MIGRATION_PAGES_MAX: number = L.WORDS_MAX;

/** The step that moves pages. Set up by `toDevice`, `toHost` or `framesToHost`; reused by its owner. */
export class Migration implements Step {
  readonly name = 'migrate';
  /** Pages that moved, holes included. */
  moved = 0;
  /** Pages whose bytes were copied. */
  copied = 0;
  /** Pages that appeared on the target without a source. */
  cleared = 0;
  /** Collected, but not moved: no target frame, a late pin, a failed copy. */
  refused = 0;
  /** Source words after the last phase (u32 pairs): MIGRATE_MOVE is the verdict on each page. */
  source: Uint32Array = new Uint32Array(0);
  target: Uint32Array = new Uint32Array(0);

  readonly #platform: Platform;
  #space: AddressSpace | undefined;
  #vpn = 0;
  #pages = 0;
  #select = 0;
  #owner = 0;
  /** Pages that were collected to move: what did not, in the end, was refused. */
  #collected = 0;
  #cause: MigrationCause = 'user';
  #memory!: DeviceMemory;
  #direction: 'to-device' | 'to-host' = 'to-host';
  #first = 0;
  #picks: readonly number[] | undefined;
  #frames: readonly number[] | undefined;
  #install: Install | undefined;
  #phase = ANNOUNCE;
  #failed = false;
  readonly #invalidation: Invalidation = new Invalidation();
  readonly #second: Invalidation = new Invalidation();
  readonly #others: Invalidation[] = [];
  /** Where the frames of a migration by frame were mapped when they were collected. */
  #places: Map<AddressSpace, Ranges> | undefined;
  readonly #withdrawn: Ranges = new Ranges();
  readonly #tickets: Ticket[] = [];
  #copies: Copies | undefined;
  #zeros: Copies | undefined;

  constructor(platform: Platform) {
    this.#platform = platform;
  }

  /**
   * Host pages, holes and pages of zeros in `[vpn, vpn + pages)` go to `memory`. `picks[i]` is the target frame of page i, with one
   * reference that the migration takes over, or -1: leave that page where it is.
   */
  toDevice(
    space: AddressSpace,
    vpn: number,
    picks: readonly number[],
    memory: DeviceMemory,
    cause: MigrationCause,
    install?: Install,
  ): this {
    this.#begin(picks.length, memory, cause, 'to-device');
    this.#space = space;
    this.#vpn = vpn;
    this.#picks = picks;
    this.#select = L.SELECT_SYSTEM;
    this.#install = install;
    return this;
  }

  /** The pages of `[vpn, vpn + pages)` that are on `memory` come home; `first` is served first when host frames run out. */
  toHost(space: AddressSpace, vpn: number, pages: number, memory: DeviceMemory, cause: MigrationCause, first: number): this {
    this.#begin(pages, memory, cause, 'to-host');
    this.#space = space;
    this.#vpn = vpn;
    this.#select = L.SELECT_PRIVATE;
    this.#first = first - vpn;
    return this;
  }

  /** These frames of `memory` come home, whoever maps them. Reads only physical structures: address spaces may be many. */
  framesToHost(frames: readonly number[], memory: DeviceMemory, cause: MigrationCause): this {
    this.#begin(frames.length, memory, cause, 'to-host');
    this.#frames = frames;
    return this;
  }

  #begin(pages: number, memory: DeviceMemory, cause: MigrationCause, direction: 'to-device' | 'to-host'): void {
    if (pages < 1 || pages > MIGRATION_PAGES_MAX)
      throw fail('EINVAL', 'migration pages', pages, `is not a count between 1 and ${MIGRATION_PAGES_MAX}`);
    this.moved = 0;
    this.copied = 0;
    this.cleared = 0;
    this.refused = 0;
    this.#space = undefined;
    this.#vpn = 0;
    this.#pages = pages;
    this.#owner = memory.owner;
    this.#collected = 0;
    this.#cause = cause;
    this.#memory = memory;
    this.#direction = direction;
    this.#first = 0;
    this.#picks = undefined;
    this.#frames = undefined;
    this.#places = undefined;
    this.#install = undefined;
    this.#phase = ANNOUNCE;
    this.#failed = false;
    this.#tickets.length = 0;
    if (this.source.length < pages * 2) {
      this.source = new Uint32Array(pages * 2);
      this.target = new Uint32Array(pages * 2);
    }
  }

  /** What became of one page of the range. Requires: DONE. */
  verdict(vpn: number): 'moved' | 'refused' | 'not collected' {
    const high = this.source[(vpn - this.#vpn) * 2 + 1]!;
    if (high & L.MIGRATE_MOVE) return 'moved';
    return high & L.MIGRATE_VALID ? 'refused' : 'not collected';
  }

  next(run: Run): Progress {
    switch (this.#phase) {
      case ANNOUNCE:
        this.#announce();
        this.#phase = COLLECT;
        if (this.#flushing()) return AGAIN;
      // falls through
      case COLLECT: {
        const pending = this.#flushing();
        if (pending) return run.waitFor(pending);
        this.#collect();
        this.#platform.pageLocks.moving++;
        this.#phase = ALLOCATE;
        return AGAIN;
      }
      case ALLOCATE: {
        const pending = this.#nextTicket();
        if (pending) return run.waitFor(pending);
        this.#allocate();
        this.#phase = COPY;
        this.#copy();
        if (this.#tickets.length > 0) return AGAIN;
      }
      // falls through
      case COPY: {
        const pending = this.#nextTicket();
        if (pending) return run.waitFor(pending);
        this.#phase = ZERO;
        this.#zero();
      }
      // falls through
      case ZERO: {
        const pending = this.#nextTicket();
        if (pending) return run.waitFor(pending);
        this.#phase = HOLES;
        return AGAIN;
      }
      case HOLES:
        this.#announceHoles();
        this.#phase = COMMIT;
      // falls through
      default: {
        const pending = this.#second.unfinished;
        if (pending) return run.waitFor(pending);
        this.#finish();
        return DONE;
      }
    }
  }

  /** A migration that is broken off puts every page back where it was. */
  abort(): void {
    endInvalidation(this.#invalidation);
    endInvalidation(this.#second);
    for (const each of this.#others) endInvalidation(each);
    this.#others.length = 0;
    if (this.#phase <= COLLECT && this.#picks) for (const frame of this.#picks) if (frame >= 0) this.#platform.core.exports.framePut(frame);
    if (this.#phase > COLLECT && this.#phase <= INSTALL) {
      // Holes that the commit has filled have their page, and keep it.
      const refused = this.#phase === INSTALL ? L.MIGRATE_VALID : 0;
      for (let i = 0; i < this.#pages; i++) if ((this.source[i * 2 + 1]! & refused) === refused) this.source[i * 2 + 1]! &= ~L.MIGRATE_MOVE;
      if (this.#phase <= ALLOCATE && !this.#picks) this.target.fill(0, 0, this.#pages * 2);
      this.#lend();
      this.#platform.core.exports.migrateFinalize(this.#pages, this.#sourceAt, this.#targetAt);
      this.#withhold();
      this.#platform.pageLocks.moving--;
      this.#phase = ENDED;
    }
    this.#platform.settleFreed();
    this.#platform.pageLocks.released();
  }

  get #sourceAt(): number {
    return this.#platform.core.area(L.AREA_SOURCE);
  }

  get #targetAt(): number {
    return this.#platform.core.area(L.AREA_TARGET);
  }

  /** Puts this migration's words into the batch areas for the next core call. */
  #lend(): void {
    const core = this.#platform.core;
    put(core.u32, this.#sourceAt >>> 2, this.source, this.#pages * 2);
    put(core.u32, this.#targetAt >>> 2, this.target, this.#pages * 2);
  }

  /** Takes the source words back. */
  #keep(): void {
    const { u32 } = this.#platform.core;
    const at = this.#sourceAt >>> 2;
    for (let i = 0, end = this.#pages * 2; i < end; i++) this.source[i] = u32[at + i]!;
  }

  #announce(): void {
    if (this.#space) {
      this.#space.announce(this.#invalidation.set(this.#vpn, this.#vpn + this.#pages, 'MIGRATE', this.#owner));
      return;
    }
    // By frame: one event for every run of consecutive pages of every space.
    for (const [space, ranges] of this.#mapped()) {
      ranges.each((vpn, pages) => {
        const each = new Invalidation();
        space.announce(each.set(vpn, vpn + pages, 'MIGRATE', this.#owner));
        this.#others.push(each);
      });
    }
  }

  /** The pages of every space that map the frames to be moved. */
  #mapped(): Map<AddressSpace, Ranges> {
    const core = this.#platform.core;
    const bySpace = new Map<AddressSpace, number[]>();
    const list = core.words(L.AREA_LIST, 3);
    for (const frame of this.#frames!) {
      const record = core.frameRecord(frame);
      const owner = core.field(record, L.FRAME_RMAP_OWNER);
      if (owner === 0) continue;
      const mappings = core.exports.rmapList(frame, core.area(L.AREA_LIST), L.LIST_MAX / 3);
      const words = mappings === 1 ? list : core.words(L.AREA_LIST, mappings * 3);
      for (let i = 0; i < mappings; i++) {
        const space = this.#platform.spaces.get(words[i * 3]!);
        if (!space) continue;
        const pages = bySpace.get(space);
        const vpn = words[i * 3 + 2]! * 2 ** 32 + words[i * 3 + 1]!;
        if (pages) pages.push(vpn);
        else bySpace.set(space, [vpn]);
      }
    }
    const result = new Map<AddressSpace, Ranges>();
    for (const [space, pages] of bySpace) {
      const ranges = new Ranges();
      for (const vpn of pages.sort((a, b) => a - b)) ranges.add(vpn, 1);
      result.set(space, ranges);
    }
    return result;
  }

  #flushing(): Ticket | undefined {
    const pending = this.#invalidation.unfinished;
    if (pending) return pending;
    for (const { unfinished } of this.#others) if (unfinished) return unfinished;
    return undefined;
  }

  /** The first ticket still open; a failed one makes every page of this migration stay. */
  #nextTicket(): Ticket | undefined {
    while (this.#tickets.length > 0) {
      const ticket = this.#tickets[0]!;
      if (ticket.state === 'pending') return ticket;
      if (ticket.state === 'failed') this.#failed = true;
      this.#tickets.shift();
    }
    return undefined;
  }

  #collect(): void {
    const { core } = this.#platform;
    const exports = core.exports;
    if (this.#space) {
      if (this.#picks) this.#aimPicks();
      const wanted = this.#picks ? this.#targetAt : 0;
      exports.migrateCollect(this.#space.table, this.#vpn, this.#pages, this.#select, this.#owner, L.FRAME_NONE, this.#sourceAt, wanted);
      this.#keep();
      this.#collected = this.#wanting(L.MIGRATE_VALID) + (this.#picks ? this.#wanting(0) : 0);
      endInvalidation(this.#invalidation);
      this.#withdraw(this.#space);
    } else {
      const spaces = this.#mapped();
      this.#places = spaces;
      core.words(L.AREA_LIST, this.#pages).set(this.#frames!);
      exports.migrateCollectFrames(core.area(L.AREA_LIST), this.#pages, this.#sourceAt);
      this.#keep();
      this.#collected = this.#wanting(L.MIGRATE_VALID);
      for (const each of this.#others) endInvalidation(each);
      this.#others.length = 0;
      for (const [space, ranges] of spaces) this.#memory.withdraw(space, ranges, this.#tickets);
    }
  }

  /** The owner's own contexts ignored the event: now they lose exactly the pages that were collected. */
  #withdraw(space: AddressSpace): void {
    const ranges = this.#withdrawn.clear();
    for (let i = 0; i < this.#pages; i++) {
      if (this.source[i * 2 + 1]! & L.MIGRATE_MOVE) ranges.add(this.#vpn + i, 1);
    }
    if (ranges.count > 0) this.#memory.withdraw(space, ranges, this.#tickets);
  }

  #allocate(): void {
    if (this.#picks) return;
    this.target.fill(0, 0, this.#pages * 2);
    const host: Node = this.#platform.host;
    const want = (i: number): boolean => {
      if (!(this.source[i * 2 + 1]! & L.MIGRATE_VALID) || this.target[i * 2 + 1]! !== 0) return true;
      const frame = host.take();
      if (frame < 0) return false;
      this.#aim(i, frame);
      return true;
    };
    if (!want(this.#first)) return;
    for (let i = 0; i < this.#pages; i++) if (!want(i)) return;
  }

  /** Only pages that have a target are collected. */
  #aimPicks(): void {
    this.target.fill(0, 0, this.#pages * 2);
    for (let i = 0; i < this.#pages; i++) if (this.#picks![i]! >= 0) this.#aim(i, this.#picks![i]!);
    put(this.#platform.core.u32, this.#targetAt >>> 2, this.target, this.#pages * 2);
  }

  #aim(page: number, frame: number): void {
    this.target[page * 2] = frame;
    this.target[page * 2 + 1] = L.MIGRATE_VALID;
  }

  #copy(): void {
    if (!this.#memory.hasEngine(this.#space)) {
      this.#lend();
      this.#platform.core.exports.migrateCopy(this.#sourceAt, this.#targetAt, this.#pages);
      // What an earlier migration of this object gave to an engine is not to be done again.
      this.#zeros?.clear();
      return;
    }
    this.#copies ??= new Copies(this.#locator, this.#performCopy, this.#bytes);
    this.#zeros ??= new Copies(this.#locator, this.#performCopy, this.#bytes);
    const copies = this.#copies.clear();
    const zeros = this.#zeros.clear();
    for (let i = 0; i < this.#pages; i++) {
      const high = this.source[i * 2 + 1]!;
      if (!(high & L.MIGRATE_MOVE) || this.target[i * 2 + 1] === 0) continue;
      if (high & L.MIGRATE_VALID) copies.add(this.source[i * 2]!, this.target[i * 2]!);
      else zeros.add(-1, this.target[i * 2]!);
    }
    if (copies.count === 0) return;
    const ticket = this.#memory.copy(this.#direction, this.#space, copies);
    if (ticket) this.#tickets.push(ticket);
  }

  #zero(): void {
    const zeros = this.#zeros;
    if (!zeros || zeros.count === 0) return;
    const ticket = this.#memory.zero(this.#space, zeros);
    if (ticket) this.#tickets.push(ticket);
  }

  readonly #locator = {
    memoryOf: (frame: number): number => (this.#platform.nodes.of(frame) === this.#memory.node ? 0 : -1),
    pageOf: (frame: number): number => this.#platform.nodes.pageOf(frame),
  };

  readonly #bytes = (frame: number, pages: number): Uint8Array => {
    const { core } = this.#platform;
    const at = core.frameBytes(frame);
    return core.u8.subarray(at, at === 0 ? 0 : at + pages * L.PAGE_BYTES);
  };

  readonly #performCopy = (from: number, to: number, pages: number): void => {
    this.#platform.core.exports.frameCopy(from, to, pages);
  };

  #isHole(page: number): boolean {
    const high = this.source[page * 2 + 1]!;
    return (high & L.MIGRATE_MOVE) !== 0 && !(high & L.MIGRATE_VALID) && this.target[page * 2 + 1] !== 0;
  }

  /** A second event surrounds the insertion of holes, from the first of them to the end of the range. */
  #announceHoles(): void {
    if (!this.#space || this.#failed) return;
    for (let i = 0; i < this.#pages; i++) {
      if (!this.#isHole(i)) continue;
      this.#space.announce(this.#second.set(this.#vpn + i, this.#vpn + this.#pages, 'MIGRATE', this.#owner));
      return;
    }
  }

  #finish(): void {
    const { core, events } = this.#platform;
    const { exports } = core;
    const space = this.#space;
    if (this.#failed) for (let i = 0; i < this.#pages; i++) this.source[i * 2 + 1]! &= ~L.MIGRATE_MOVE;
    this.#lend();
    const table = space ? space.table : 0;
    exports.migrateCommit(table, this.#vpn, this.#pages, this.#sourceAt, this.#targetAt, space?.writable(this.#vpn) ? 1 : 0, L.FRAME_NONE);
    this.#keep();
    this.#phase = INSTALL;
    endInvalidation(this.#second);
    this.copied = this.#wanting(L.MIGRATE_VALID);
    this.cleared = this.#wanting(0);
    this.refused = this.#collected - this.copied - this.cleared;
    if (space && this.#install) this.#installMoved(space, this.#install);
    this.#lend();
    this.moved = exports.migrateFinalize(this.#pages, this.#sourceAt, this.#targetAt);
    this.#withhold();
    this.#platform.pageLocks.moving--;
    this.#phase = ENDED;
    this.#platform.settleFreed();
    this.#platform.pageLocks.released();
    const host = this.#platform.host.name;
    const from = this.#direction === 'to-device' ? host : this.#memory.node.name;
    const to = this.#direction === 'to-device' ? this.#memory.node.name : host;
    events.countMigrated(
      from,
      to,
      this.copied,
      this.copied * L.PAGE_BYTES,
      this.#direction === 'to-device' ? 'toDevice' : 'toHost',
      this.#cause,
    );
    events.counters.cleared += this.cleared;
    if (events.heard) {
      const { copied: pages, cleared: fresh, refused } = this;
      events.emit({
        type: 'pages.migrated',
        space: space?.id ?? -1,
        vpn: this.#vpn,
        from,
        to,
        pages,
        cleared: fresh,
        refused,
        cause: this.#cause,
      });
    }
  }

  /** A page that comes to the host where the VMA gives no right to it must not be open to the CPU: the core knows entries, not VMAs. */
  #withhold(): void {
    if (this.#space) this.#withholdIn(this.#space, this.#vpn, this.#pages);
    else this.#places?.forEach((ranges, space) => ranges.each((vpn, pages) => this.#withholdIn(space, vpn, pages)));
  }

  #withholdIn(space: AddressSpace, start: number, pages: number): void {
    const { core, spaces } = this.#platform;
    if (spaces.get(space.id) !== space) return;
    space.vmas.each(start, start + pages, (vma, first, last) => {
      if (!(vma.prot & PROT_READ)) core.exports.reprotect(space.table, first, last - first, 0);
    });
  }

  /** Pages with MOVE, by whether they have a source. */
  #wanting(valid: number): number {
    let pages = 0;
    for (let i = 0; i < this.#pages; i++)
      if ((this.source[i * 2 + 1]! & (L.MIGRATE_MOVE | L.MIGRATE_VALID)) === (L.MIGRATE_MOVE | valid)) pages++;
    return pages;
  }

  /** Between commit and finalize the device gets its translations: the write right is the migration entry's, or for a hole the VMA's. */
  #installMoved(space: AddressSpace, install: Install): void {
    const frames: number[] = [];
    for (let i = 0; i < this.#pages; i++) frames.push(this.source[i * 2 + 1]! & L.MIGRATE_MOVE ? this.target[i * 2]! : -1);
    const writable = space.writable(this.#vpn);
    install(space, this.#vpn, frames, (page) => {
      const high = this.source[page * 2 + 1]!;
      return high & L.MIGRATE_VALID ? (high & L.MIGRATE_WRITE) !== 0 : writable;
    });
  }
}

/** Word by word: most migrations move a page or a few, for which two views cost more than the words. */
function put(into: Uint32Array, at: number, words: Uint32Array, count: number): void {
  for (let i = 0; i < count; i++) into[at + i] = words[i]!;
}

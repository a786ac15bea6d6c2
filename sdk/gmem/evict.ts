/**
 * Making room in a memory: pages of it come home, chosen by the policy of its device, or by its driver where that hands the frames out.
 *
 * ```
 *   choose   copies that devices read go first, and nothing moves for them; else the oldest that may go are shown to the policy: not those that are spared, locked, pinned, or have been tried
 *   marks    if it wants to know what was used: marks are taken, context by context, each flush awaited
 *   pick     victims; what was used becomes the newest
 *   move     by frame, whoever maps them; each victim has a result
 *   again    until there is room, no candidate, no host frame, or the rounds are over
 * ```
 *
 * Models: direct reclaim of GMEM (`gm_alloc_page`: at most so many rounds), its result classes, `shrink_folio_list`.
 */
import * as L from '../../assembly/layout.ts';
import { Marks, type Ranges } from '../core/batch.ts';
import { PageMap } from '../core/page-map.ts';
import type { EvictionCause, EvictionResult, Evictor } from '../events/cause.ts';
import { addFate, type EvictionFates } from '../events/counters.ts';
import type { PageRun } from '../events/record.ts';
import { Migration } from '../mm/migration.ts';
import { PLACE_WORDS, Places, PLACES_MAX, placesOf } from '../mm/places.ts';
import type { Platform } from '../mm/platform.ts';
import { ACCESSED, Candidates, DIRTY } from '../policy/candidates.ts';
import { Choice, NamedPolicy, type VictimPolicy } from '../policy/victim.ts';
import { AGAIN, DONE, type Progress, type Run, type Step } from '../step/step.ts';
import type { Ticket } from '../step/ticket.ts';
import type { Context } from './context.ts';
import type { OwnMemory } from './own-memory.ts';

/** Choices of victims before a memory counts as full. Models: the ten tries of GMEM's direct reclaim. */
export const RECLAIM_ROUNDS_MAX = 10;

const CHOOSE = 0;
const MARKS = 1;
const FLUSH = 2;
const PICK = 3;
const DROP = 4;
const MOVE = 5;
const MOVED = 6;

const NONE: readonly number[] = [];
/** Marks of what has been written: it has been accessed, too. */
const WRITTEN = ACCESSED | DIRTY;
const NO_BLOCKS: ReadonlyMap<number, readonly number[]> = new Map();

/** Makes room in one memory. Reused by its owner, who holds the batch lock of the device. */
export class Evict implements Step {
  readonly name = 'evict';
  /** Pages that went. */
  freed = 0;
  /** Whether there was anything that may go. */
  tried = false;
  private readonly platform: Platform;
  /** Made at the first eviction. */
  private migration: Migration | undefined;
  private memory!: OwnMemory;
  private phase = CHOOSE;
  private pages = 0;
  private payer = 0;
  private rounds = 0;
  /** Frames that did not go: not tried again. */
  private readonly passed: Set<number> = new Set();
  private candidates: readonly number[] = NONE;
  /** The lists of candidates at first, and when marks have been taken. */
  private readonly listed: number[] = [];
  private readonly still: number[] = [];
  private readonly shown: Candidates = new Candidates();
  private readonly choice: Choice = new Choice();
  /** The room is to be one block of 2^order frames: those that could become it. 0: any frames will do. */
  private order = 0;
  private blocks: ReadonlyMap<number, readonly number[]> = NO_BLOCKS;
  /** Contexts whose marks are to be taken. */
  private readonly asked: (Context | undefined)[] = [];
  private askedCount = 0;
  /** The next one of them. */
  private askedAt = 0;
  /** Their marks are taken of all pages that may go, not of the candidates alone, which are not listed before that if `byUse`. */
  private takesAll = false;
  private byUse = false;
  private readonly places: Places = new Places();
  private ticket: Ticket | undefined;
  /** Marks of frames, while a choice is made. */
  private readonly used: PageMap = new PageMap();
  private victims: readonly number[] = NONE;
  /** The list of them, but for what goes by blocks. */
  private readonly chosen: number[] = [];
  private readonly marks: Marks = new Marks();
  private at = 0;
  /** Flushes of copies that were dropped. */
  private readonly flushes: Ticket[] = [];
  /** Pages of this choice that went. */
  private gone = 0;
  /** Who needs the room. */
  private space = -1;
  private vpn = 0;
  private cause: EvictionCause = 'fault';
  private by: Evictor = 'direct';
  /** What became of the victims; each of them, while somebody listens. */
  private fates: EvictionFates = {};
  private told: number[] = [];
  private results: EvictionResult[] = [];
  /** While somebody listens: where what went is mapped now. */
  private runs: PageRun[] = [];

  constructor(platform: Platform) {
    this.platform = platform;
  }

  /** Chooses the memory, and says who needs the room: a fault, or a program that moves pages, at this page of a space. */
  from(memory: OwnMemory, space = -1, vpn = 0, cause: EvictionCause = 'user', by: Evictor = 'direct'): this {
    this.memory = memory;
    this.space = space;
    this.vpn = vpn;
    this.cause = cause;
    this.by = by;
    return this;
  }

  /**
   * For this many pages; less, if less may go. `payer`: only pages that the space of this number + 1 pays for; 0: whosever. `order`: for one block of 2^order frames, so that all of a block goes or nothing;
   * that is for memories whose frames the core hands out.
   */
  room(pages: number, payer = 0, order = 0): this {
    this.payer = payer;
    this.order = order;
    this.blocks = NO_BLOCKS;
    this.freed = 0;
    this.tried = false;
    this.phase = CHOOSE;
    this.pages = pages;
    this.rounds = 0;
    if (this.passed.size > 0) this.passed.clear();
    return this;
  }

  /** These frames of it go, whoever maps them; nobody is asked. */
  frames(frames: readonly number[]): this {
    this.room(0);
    if (frames.length > 0) this.go(frames);
    return this;
  }

  next(run: Run): Progress {
    switch (this.phase) {
      case CHOOSE:
        return this.choose();
      case MARKS:
        return this.takeMarks(run);
      case FLUSH:
        if (this.ticket?.state === 'pending') return run.waitFor(this.ticket);
        this.phase = MARKS;
        return AGAIN;
      case PICK:
        return this.pick();
      case DROP:
        return this.drop(run);
      case MOVED:
        this.settle();
      // falls through
      default:
        return this.move(run);
    }
  }

  abort(run: Run): void {
    const context = this.nextAsked;
    if (context && run.holds(context.lock)) context.lock.release(run);
  }

  private choose(): Progress {
    if (this.freed >= this.pages || this.rounds === RECLAIM_ROUNDS_MAX) return DONE;
    const { memory } = this;
    const wanted = this.pages - this.freed;
    this.rounds++;
    const block = this.order > 0 ? memory.blockPolicy : undefined;
    if (block) return this.chooseBlock(block, wanted);
    const policy = memory.victimPolicy;
    if (!policy) return this.go(memory.victims(wanted, this.passed, this.payer, this.chosen));
    // Copies go before anything that would have to move.
    const copies = memory.hasReplicas ? memory.copies(wanted, this.payer) : NONE;
    if (copies.length > 0) return this.go(copies);
    const most = memory.looksAt(policy, wanted);
    const isAll = most === Infinity && memory.hasMarksInCore;
    this.byUse = isAll && policy instanceof NamedPolicy && policy.goesByUse;
    this.candidates = memory.candidates(this.byUse ? 1 : most, this.passed, this.payer, this.listed);
    // Of what is not listed marks are not taken.
    this.takesAll = isAll && this.candidates.length < L.LIST_MAX;
    return this.show(policy);
  }

  private chooseBlock(policy: VictimPolicy, wanted: number): Progress {
    this.blocks = new Map([...this.memory.blocks(this.order, this.passed)].slice(0, this.memory.looksAt(policy, wanted)));
    this.candidates = [...this.blocks.values()].flat();
    this.byUse = false;
    this.takesAll = false;
    return this.show(policy);
  }

  private show(policy: VictimPolicy): Progress {
    if (this.candidates.length === 0) return DONE;
    if (this.used.size > 0) this.used.clear();
    this.phase = PICK;
    if (policy.marks) this.ask();
    return AGAIN;
  }

  /** Lists the contexts of the device that map candidates. */
  private ask(): void {
    this.askedCount = 0;
    this.askedAt = 0;
    this.phase = MARKS;
    if (this.takesAll) {
      const { contexts } = this.memory.device;
      for (let i = 0; i < contexts.length; i++) if (contexts[i]!.marks.mayBe) this.askFor(contexts[i]!);
      return;
    }
    const places = this.places.of(this.platform, this.candidates);
    for (let i = 0; i < places.count; i++) {
      const context = this.memory.device.contextOf(places.space(i));
      if (context) this.askFor(context);
    }
  }

  private askFor(context: Context): void {
    if (context.marks.areThere) this.asked[this.askedCount++] = context;
  }

  private get nextAsked(): Context | undefined {
    return this.askedAt < this.askedCount ? this.asked[this.askedAt] : undefined;
  }

  /** Where a context maps candidates. */
  private placesIn(context: Context): Ranges {
    const { places } = this;
    let i = 0;
    while (places.space(i) !== context.space) i++;
    return places.ranges(i);
  }

  private takeMarks(run: Run): Progress {
    const context = this.nextAsked;
    if (!context) {
      this.phase = PICK;
      return AGAIN;
    }
    if (!context.lock.tryAcquire(run)) return run.waitFor(context.lock);
    this.ticket = undefined;
    // While this one waited, it may have left.
    if (context.marks.areThere) {
      const marks = this.marks.clear();
      this.ticket = this.takesAll
        ? context.marks.takeOfVictims(this.memory, this.payer, this.passed, marks)
        : context.marks.take(this.placesIn(context), marks);
      for (let i = 0; i < marks.count; i++) this.note(context, marks.vpn(i), marks.isDirty(i));
    }
    context.lock.release(run);
    this.asked[this.askedAt++] = undefined;
    this.phase = FLUSH;
    return AGAIN;
  }

  /** A page has been used. */
  private note(context: Context, vpn: number, isDirty: boolean): void {
    context.marks.owe(vpn, isDirty);
    const frame = context.ownFrame(vpn);
    if (frame === L.FRAME_NONE) return;
    const head = this.platform.core.headOf(frame);
    const { used } = this;
    used.set(head, isDirty || used.get(head) === WRITTEN ? WRITTEN : ACCESSED);
  }

  /** Shows the policy what may still go: each by its frames. */
  private pick(): Progress {
    const { memory } = this;
    const blocks = this.order > 0 ? this.blocksLeft() : undefined;
    const heads = blocks ? headsOf(blocks) : this.framesLeft();
    this.fill(heads, blocks);
    const isLast = this.rounds === RECLAIM_ROUNDS_MAX;
    const { victims, renewed } = memory.choose(this.shown, this.pages - this.freed, isLast, this.choice);
    for (let k = 0; k < renewed.length; k++) {
      const i = renewed[k]!;
      if (!blocks) this.renew(heads[i]!);
      else for (const frame of blocks[i]!) this.renew(frame);
    }
    if (victims.length === 0) {
      this.phase = CHOOSE;
      return renewed.length > 0 ? AGAIN : DONE;
    }
    if (blocks) return this.go(framesOf(blocks, victims));
    const { chosen } = this;
    chosen.length = victims.length;
    for (let i = 0; i < victims.length; i++) chosen[i] = heads[victims[i]!]!;
    return this.go(chosen);
  }

  /** It counts as the newest. */
  private renew(frame: number): void {
    const { core } = this.platform;
    if (core.field(core.frameRecord(frame), L.FRAME_MAPS) & L.MAPS_MASK) core.exports.frameTouch(frame);
  }

  /** While devices flushed, some may have gone, or been taken. */
  private framesLeft(): readonly number[] {
    const { candidates, memory, used } = this;
    if (this.byUse) {
      const room = this.pages - this.freed;
      const isShort = used.size + room <= L.LIST_MAX;
      return isShort
        ? memory.candidatesByUse(used, room, this.passed, this.payer, this.still)
        : memory.candidates(Infinity, this.passed, this.payer, this.still);
    }
    // Most often they are the oldest still, and the others need not be listed.
    const oldest = memory.candidates(candidates.length, this.passed, this.payer, this.still);
    let same = 0;
    while (same < candidates.length && candidates[same] === oldest[same]) same++;
    if (same === candidates.length) return candidates;
    return both(candidates, memory.candidates(Infinity, this.passed, this.payer, this.still));
  }

  private blocksLeft(): (readonly number[])[] {
    const there = this.memory.blocks(this.order, this.passed);
    return [...this.blocks.keys()].flatMap((block) => (there.has(block) ? [there.get(block)!] : []));
  }

  /** What the policy is shown: of a block where its first frame is mapped, and the marks of all of them. */
  private fill(heads: readonly number[], blocks: readonly (readonly number[])[] | undefined): void {
    const { core } = this.platform;
    const { u32 } = core;
    const { pages, marks, spaces, vpns, frames } = this.shown.make(heads.length);
    for (let from = 0; from < heads.length; from += PLACES_MAX) {
      const end = Math.min(from + PLACES_MAX, heads.length);
      for (let i = from, at = placesOf(core, heads, from, end); i < end; i++, at += PLACE_WORDS) {
        frames[i] = heads[i]!;
        spaces[i] = u32[at]!;
        vpns[i] = u32[at + 2]! * 2 ** 32 + u32[at + 1]!;
        pages[i] = blocks ? 2 ** this.order : u32[at + 3]! & ~L.PLACE_MORE;
        marks[i] = 0;
      }
    }
    const { used } = this;
    if (used.size === 0) return;
    for (let i = 0; i < heads.length; i++) {
      if (!blocks) marks[i] = used.get(heads[i]!) ?? 0;
      else for (const frame of blocks[i]!) marks[i]! |= used.get(frame) ?? 0;
    }
  }

  private go(victims: readonly number[]): Progress {
    if (victims.length === 0) return DONE;
    this.tried = true;
    this.victims = victims;
    this.at = 0;
    this.gone = 0;
    for (const result in this.fates) this.fates[result as EvictionResult] = 0;
    if (this.platform.events.heard) {
      // They are the listener's.
      this.told = [];
      this.results = [];
      this.runs = [];
    }
    this.phase = MOVE;
    const rest = this.memory.dropReplicas(victims, 'evict', this.flushes);
    if (rest.length < victims.length) this.dropped(rest);
    return AGAIN;
  }

  /** Copies among the victims have been dropped: nothing moves for them. Their frames are free when the flushes have ended. */
  private dropped(rest: readonly number[]): void {
    const { victims } = this;
    // What is left is in the order of the victims.
    for (let i = 0, k = 0; i < victims.length; i++) {
      if (k < rest.length && rest[k] === victims[i]) k++;
      else this.tell(victims[i]!, 'success');
    }
    this.gone = this.victims.length - rest.length;
    this.freed += this.gone;
    this.victims = rest;
    this.phase = DROP;
  }

  private drop(run: Run): Progress {
    for (let flush = this.flushes[0]; flush; flush = this.flushes[0]) {
      if (flush.state === 'pending') return run.waitFor(flush);
      this.flushes.shift();
    }
    this.phase = MOVE;
    return AGAIN;
  }

  private move(run: Run): Progress {
    if (this.at < this.victims.length) {
      this.phase = MOVED;
      const { at, victims } = this;
      const part = at === 0 && victims.length <= L.WORDS_MAX ? victims : victims.slice(at, at + L.WORDS_MAX);
      this.at += part.length;
      this.migration ??= new Migration(this.platform);
      return run.call(this.migration.framesToHost(part, this.memory, 'evict'));
    }
    this.report();
    this.phase = CHOOSE;
    // What was used of a block has gone: it is free as a whole, however few that were.
    if (this.order > 0 && this.haveAllGone()) return DONE;
    // Without host frames the next ones would stay, too.
    return this.fates.fallback ? DONE : AGAIN;
  }

  private haveAllGone(): boolean {
    for (const result in this.fates) if (result !== 'success' && this.fates[result as EvictionResult]! > 0) return false;
    return true;
  }

  private tell(frame: number, result: EvictionResult): void {
    addFate(this.fates, result);
    if (!this.platform.events.heard) return;
    this.told.push(frame);
    this.results.push(result);
  }

  /** What became of each victim of a part. */
  private settle(): void {
    const migration = this.migration!;
    for (let i = 0; i < migration.pages; i++) {
      const frame = migration.listedFrame(i);
      const result = migration.fateOf(i);
      this.tell(frame, result);
      if (result !== 'success') this.passed.add(frame);
    }
    this.freed += migration.moved;
    this.gone += migration.moved;
    if (this.platform.events.heard) this.runs.push(...migration.runs);
  }

  private report(): void {
    const { events } = this.platform;
    const { space, vpn, cause, by, told: frames, results, runs } = this;
    const pages = this.gone;
    events.countEvicted(pages, this.fates, by);
    if (!events.heard) return;
    const node = this.memory.node.name;
    events.emit({ type: 'frames.evicted', node, pages, frames, results, by, space, vpn, cause, runs });
  }
}

// Functions of their own: their closures are not made where frames are chosen one by one.

/** What is in both lists, in the order of the first. */
function both(list: readonly number[], other: readonly number[]): readonly number[] {
  const there = new Set(other);
  return list.filter((each) => there.has(each));
}

function headsOf(blocks: readonly (readonly number[])[]): readonly number[] {
  return blocks.map(([first]) => first!);
}

/** The frames of some blocks. */
function framesOf(blocks: readonly (readonly number[])[], chosen: readonly number[]): readonly number[] {
  return chosen.flatMap((i) => blocks[i]!);
}

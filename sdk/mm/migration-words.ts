/**
 * The words of a migration: two u32 for each page on each side, low word frame, high word MIGRATE_* bits. They live here between two core calls, since the batch areas are
 * borrowed by everybody.
 *
 * ```
 *   source            frame | VALID | MOVE (| WRITE) (| COMPOUND)    this page is to move; a hole is MOVE alone
 *   target            frame | VALID (| COMPOUND)                     to here; 0: it stays
 * ```
 *
 * A COMPOUND word stands for 512 pages. By address the 511 words behind it are 0; in a list of frames it is one word like any other.
 */
import * as L from '../../assembly/layout.ts';
import type { Core } from '../core/abi.ts';
import { HUGE_PAGES } from './huge-window.ts';

/** The frame of a target that the device has not chosen yet. */
const LATER = 0xffffffff;

/** Most migrations move a page or a few. */
export const FEW = 16;

/** Runs that one call into the core lists. */
const RUNS_MAX = Math.floor((L.LIST_MAX * 4) / L.MOVING_BYTES);
const RUN_WORDS = L.MOVING_BYTES / 4;

/** What a list of the words that move looks at. */
export interface RunsOf {
  /** Words of neighbouring pages, not of frames. */
  readonly isRange: boolean;
  /** Only words with a target of their size, and then frames that follow each other on both sides; else a run goes on whatever its frames are. */
  readonly withTargets: boolean;
  /** Not those that the second tier has already. */
  readonly copied?: boolean;
  /** The right to write to what was a hole. */
  readonly writable?: boolean;
}

/** Called for a run of words that move: the first one, the pages from there on, source frame (-1 for a hole) and target frame of the first page, the right to write. */
export type VisitRun = (i: number, pages: number, from: number, to: number, write: boolean) => void;

export class MigrationWords {
  source: Uint32Array = new Uint32Array(0);
  target: Uint32Array = new Uint32Array(0);
  /** Words in use on each side. */
  count = 0;
  /** At the last `tally`, pages that move: those with a source, holes, and holes that have a target. */
  valid = 0;
  holes = 0;
  aimed = 0;
  /** The first word of a hole with a target; `count`: there is none. */
  firstHole = 0;
  /** Whether a huge source has small targets: it must be split before it is copied. */
  mustSplit = false;
  /** Whether what the batch areas have is what these have, as long as nobody else has put his words there. */
  private isSourceLent = false;
  private isTargetLent = false;

  /** Begins anew with no source and no target. */
  begin(count: number): void {
    this.count = count;
    this.isSourceLent = false;
    this.isTargetLent = false;
    if (this.source.length < count * 2) {
      this.source = new Uint32Array(count * 2);
      this.target = new Uint32Array(count * 2);
    } else if (count > FEW) {
      this.source.fill(0, 0, count * 2);
      this.target.fill(0, 0, count * 2);
    } else {
      for (let i = 0; i < count * 2; i++) {
        this.source[i] = 0;
        this.target[i] = 0;
      }
    }
  }

  /** Both sides are in the batch areas for the next core call. */
  lend(core: Core): void {
    this.lendSource(core);
    this.lendTarget(core);
  }

  lendSource(core: Core): void {
    this.occupy(core);
    if (this.isSourceLent) {
      if (core.asserts) requireStanding(core, L.AREA_SOURCE, this.source, this.count * 2);
      return;
    }
    core.lend(core.area(L.AREA_SOURCE), this.source, this.count * 2);
    this.isSourceLent = true;
  }

  lendTarget(core: Core): void {
    this.occupy(core);
    if (this.isTargetLent) {
      if (core.asserts) requireStanding(core, L.AREA_TARGET, this.target, this.count * 2);
      return;
    }
    core.lend(core.area(L.AREA_TARGET), this.target, this.count * 2);
    this.isTargetLent = true;
  }

  /** Takes the source words back. */
  keep(core: Core): void {
    this.occupy(core);
    core.take(core.area(L.AREA_SOURCE), this.source, this.count * 2);
    this.isSourceLent = true;
  }

  keepTarget(core: Core): void {
    this.occupy(core);
    core.take(core.area(L.AREA_TARGET), this.target, this.count * 2);
    this.isTargetLent = true;
  }

  /** What somebody else had in the areas is his no more, and what this one has had there is gone if there was somebody else. */
  private occupy(core: Core): void {
    if (core.tenant === this) return;
    core.tenant = this;
    this.isSourceLent = false;
    this.isTargetLent = false;
  }

  frame(i: number): number {
    return this.source[i * 2]!;
  }

  /** High source word: MIGRATE_* bits. */
  bits(i: number): number {
    return this.source[i * 2 + 1]!;
  }

  /** Whether word `i` is to move. */
  moves(i: number): boolean {
    return (this.source[i * 2 + 1]! & L.MIGRATE_MOVE) !== 0;
  }

  /** Pages that source word `i` stands for. */
  span(i: number): number {
    return this.source[i * 2 + 1]! & L.MIGRATE_COMPOUND ? HUGE_PAGES : 1;
  }

  /** Frame of target word `i`; requires `hasTarget(i)`. */
  targetFrame(i: number): number {
    return this.target[i * 2]!;
  }

  hasTarget(i: number): boolean {
    return this.target[i * 2 + 1] !== 0;
  }

  /** Whether word `i` has a target of its size. */
  fits(i: number): boolean {
    const target = this.target[i * 2 + 1]!;
    return target !== 0 && ((target ^ this.source[i * 2 + 1]!) & L.MIGRATE_COMPOUND) === 0;
  }

  /** Word `i` is a small page that has been collected. */
  take(i: number, frame: number, writable: boolean): void {
    this.isSourceLent = false;
    this.source[i * 2] = frame;
    this.source[i * 2 + 1] = L.MIGRATE_VALID | L.MIGRATE_MOVE | (writable ? L.MIGRATE_WRITE : 0);
  }

  /** Word `i` is a hole that is to be filled. */
  takeHole(i: number): void {
    this.isSourceLent = false;
    this.source[i * 2] = 0;
    this.source[i * 2 + 1] = L.MIGRATE_MOVE;
  }

  aim(i: number, frame: number, huge: boolean): void {
    this.isTargetLent = false;
    this.target[i * 2] = frame;
    this.target[i * 2 + 1] = huge ? L.MIGRATE_VALID | L.MIGRATE_COMPOUND : L.MIGRATE_VALID;
  }

  /** Gives small words their frames, in order: word `offsets[k] - offsets[0]` gets `frames[k]`, or, where that is negative, one that the device will choose. No other word has a target. */
  aimEach(core: Core, offsets: Uint32Array, frames: Int32Array, n: number): void {
    if (n <= FEW) {
      for (let k = 0; k < n; k++) this.aim(offsets[k]! - offsets[0]!, frames[k]! < 0 ? LATER : frames[k]!, false);
      return;
    }
    const offsetsAt = core.area(L.AREA_EXTENTS);
    const framesAt = core.area(L.AREA_LIST);
    core.lend(offsetsAt, offsets, n);
    core.lend(framesAt, frames, n);
    core.exports.aimEach(offsetsAt, framesAt, n, core.area(L.AREA_TARGET), this.count);
    this.keepTarget(core);
  }

  /**
   * Gives the small words from `from` on that have a source and no target a frame of the node each, `most` of them at most, and returns how many that were. `core.stopIndex` is the first word that was not looked at: a
   * huge page's, or one that got no frame; `count`: there is none.
   */
  aimWanting(core: Core, node: number, from: number, most: number): number {
    this.lend(core);
    const { count } = this;
    const targetAt = core.area(L.AREA_TARGET);
    const taken = core.exports.aimWanting(node, core.area(L.AREA_SOURCE), targetAt, from, count, most);
    const at = targetAt >>> 2;
    this.target.set(core.u32.subarray(at + from * 2, at + core.stopIndex * 2), from * 2);
    return taken;
  }

  /** The device will choose the target of word `i`. */
  later(i: number, huge: boolean): void {
    this.aim(i, LATER, huge);
  }

  isLater(i: number): boolean {
    return this.target[i * 2] === LATER && this.target[i * 2 + 1] !== 0;
  }

  /** A target that was never chosen is none. */
  dropLater(i: number): void {
    if (!this.isLater(i)) return;
    this.isTargetLent = false;
    this.target[i * 2] = 0;
    this.target[i * 2 + 1] = 0;
  }

  dropAllLater(): void {
    for (let i = 0; i < this.count; i++) this.dropLater(i);
  }

  /** No word has a target. */
  dropTargets(): void {
    this.isTargetLent = false;
    this.target.fill(0, 0, this.count * 2);
  }

  /** Word `i` stays where it is. */
  refuse(i: number): void {
    this.isSourceLent = false;
    this.source[i * 2 + 1]! &= ~L.MIGRATE_MOVE;
  }

  /** Counts what moves. Requires: both sides are lent. */
  tally(core: Core): void {
    if (this.count <= FEW) return this.tallyFew();
    core.exports.movingTally(core.area(L.AREA_SOURCE), core.area(L.AREA_TARGET), this.count, core.area(L.AREA_LIST));
    const at = core.area(L.AREA_LIST);
    this.valid = core.field(at, 0);
    this.holes = core.field(at, 4);
    this.aimed = core.field(at, 8);
    this.firstHole = core.field(at, 12);
    this.mustSplit = core.field(at, 16) !== 0;
  }

  /** Word by word. So few are never 512: there is no huge page of a range, and none of a list is split here. */
  private tallyFew(): void {
    const { source, target, count } = this;
    this.valid = 0;
    this.holes = 0;
    this.aimed = 0;
    this.firstHole = count;
    this.mustSplit = false;
    for (let i = 0; i < count; i++) {
      const bits = source[i * 2 + 1]!;
      if (!(bits & L.MIGRATE_MOVE)) continue;
      const pages = bits & L.MIGRATE_COMPOUND ? HUGE_PAGES : 1;
      if (bits & L.MIGRATE_VALID) this.valid += pages;
      else {
        this.holes += pages;
        if (target[i * 2 + 1] === 0) continue;
        this.aimed += pages;
        if (this.firstHole === count) this.firstHole = i;
      }
    }
  }

  /** Calls `visit` for the words that move, run by run. It must not call the core. */
  eachRun(core: Core, { isRange, withTargets, copied = false, writable = false }: RunsOf, visit: VisitRun): void {
    if (this.count <= FEW) {
      for (let i = 0; i < this.count; i++) {
        if (!this.moves(i) || (withTargets && !this.fits(i))) continue;
        const bits = this.bits(i);
        const isSource = (bits & L.MIGRATE_VALID) !== 0;
        if (copied && withTargets && isSource && core.exports.backingOf(this.frame(i)) === this.targetFrame(i) + 1) continue;
        visit(i, this.span(i), isSource ? this.frame(i) : -1, this.target[i * 2]!, isSource ? (bits & L.MIGRATE_WRITE) !== 0 : writable);
      }
      return;
    }
    this.lendSource(core);
    if (withTargets) this.lendTarget(core);
    const source = core.area(L.AREA_SOURCE);
    const target = withTargets ? core.area(L.AREA_TARGET) : 0;
    const list = core.area(L.AREA_LIST);
    const range = isRange ? 1 : 0;
    const may = writable ? 1 : 0;
    const some = copied ? 1 : 0;
    const { u32 } = core;
    for (let from = 0; from < this.count; from = core.stopIndex) {
      const runs = core.exports.movingRuns(source, target, from, this.count, range, may, some, list, RUNS_MAX);
      const end = (list >>> 2) + runs * RUN_WORDS;
      for (let at = list >>> 2; at < end; at += RUN_WORDS) visit(u32[at]!, u32[at + 1]!, u32[at + 2]! | 0, u32[at + 3]!, u32[at + 4] !== 0);
    }
  }
}

/** In the checked build: whoever puts something else into an area of words, or changes words that stand there, says so. */
function requireStanding(core: Core, area: number, words: Uint32Array, length: number): void {
  const at = core.area(area) >>> 2;
  for (let i = 0; i < length; i++)
    if (core.u32[at + i] !== words[i])
      throw new Error(`word ${i} of a migration is ${words[i]!}, and ${core.u32[at + i]!} stands in its area`);
}

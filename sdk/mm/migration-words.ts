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
const FEW = 16;

export class MigrationWords {
  source: Uint32Array = new Uint32Array(0);
  target: Uint32Array = new Uint32Array(0);
  /** Words in use on each side. */
  count = 0;

  /** Begins anew with no source and no target. */
  begin(count: number): void {
    this.count = count;
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

  /** Puts both sides into the batch areas for the next core call. */
  lend(core: Core): void {
    core.lend(core.area(L.AREA_SOURCE), this.source, this.count * 2);
    this.lendTarget(core);
  }

  lendTarget(core: Core): void {
    core.lend(core.area(L.AREA_TARGET), this.target, this.count * 2);
  }

  /** Takes the source words back. */
  keep(core: Core): void {
    core.take(core.area(L.AREA_SOURCE), this.source, this.count * 2);
  }

  keepTarget(core: Core): void {
    core.take(core.area(L.AREA_TARGET), this.target, this.count * 2);
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

  aim(i: number, frame: number, huge: boolean): void {
    this.target[i * 2] = frame;
    this.target[i * 2 + 1] = huge ? L.MIGRATE_VALID | L.MIGRATE_COMPOUND : L.MIGRATE_VALID;
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
    this.target[i * 2] = 0;
    this.target[i * 2 + 1] = 0;
  }

  dropAllLater(): void {
    for (let i = 0; i < this.count; i++) this.dropLater(i);
  }

  /** Word `i` stays where it is. */
  refuse(i: number): void {
    this.source[i * 2 + 1]! &= ~L.MIGRATE_MOVE;
  }

  /** Pages with MOVE: with `valid` those that have a source, without it the holes. */
  pages(valid: boolean): number {
    const wanted = L.MIGRATE_MOVE | (valid ? L.MIGRATE_VALID : 0);
    let pages = 0;
    for (let i = 1, end = this.count * 2; i < end; i += 2) {
      const bits = this.source[i]!;
      if ((bits & (L.MIGRATE_MOVE | L.MIGRATE_VALID)) === wanted) pages += bits & L.MIGRATE_COMPOUND ? HUGE_PAGES : 1;
    }
    return pages;
  }

  /** Pages that are to move: all with a source, and the holes that have a target. */
  get offered(): number {
    let pages = 0;
    for (let i = 1, end = this.count * 2; i < end; i += 2) {
      const bits = this.source[i]!;
      if (bits & L.MIGRATE_MOVE && (bits & L.MIGRATE_VALID || this.target[i] !== 0)) pages += bits & L.MIGRATE_COMPOUND ? HUGE_PAGES : 1;
    }
    return pages;
  }

  /** Whether a huge source has small targets: it must be split before it is copied. */
  get mustSplit(): boolean {
    for (let i = 1, end = this.count * 2; i < end; i += 2) {
      if (!(this.source[i]! & L.MIGRATE_COMPOUND) || this.target[i]! & L.MIGRATE_COMPOUND) continue;
      for (let page = i, last = Math.min(end, i + HUGE_PAGES * 2); page < last; page += 2) if (this.target[page] !== 0) return true;
    }
    return false;
  }
}

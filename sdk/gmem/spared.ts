/**
 * Frames of a memory that an operation under way has given away, or needs where they are: they are not evicted before it has ended. Each has a mark in its record, which goes when the frame is freed.
 */
import * as L from '../../assembly/layout.ts';
import type { Core } from '../core/abi.ts';

export class Spared {
  private readonly core: Core;
  /** Runs of frames with a mark, and of such that have had one: the first frame, how many. */
  private readonly runs: number[] = [];

  constructor(core: Core) {
    this.core = core;
  }

  /** How many runs of frames have got marks; 0: nothing is spared. */
  get size(): number {
    return this.runs.length / 2;
  }

  has(frame: number): boolean {
    const { core } = this;
    return (core.field(core.frameRecord(frame), L.FRAME_FLAGS) & L.FRAME_SPARED) !== 0;
  }

  /** Whether one of those that still have it passes. */
  some(passes: (frame: number) => boolean): boolean {
    const { runs } = this;
    for (let at = 0; at < runs.length; at += 2)
      for (let frame = runs[at]!; frame < runs[at]! + runs[at + 1]!; frame++) if (this.has(frame) && passes(frame)) return true;
    return false;
  }

  /** Marks a frame in use, of a huge one the first. */
  add(frame: number): void {
    const { core } = this;
    const record = core.frameRecord(frame);
    const flags = core.field(record, L.FRAME_FLAGS);
    if (flags & L.FRAME_SPARED) return;
    core.setField(record, L.FRAME_FLAGS, flags | L.FRAME_SPARED);
    this.note(frame, 1);
  }

  /** Neighbouring frames that have got their marks already. */
  note(frame: number, pages: number): void {
    const { runs } = this;
    const last = runs.length - 1;
    if (last > 0 && runs[last - 1]! + runs[last]! === frame) runs[last]! += pages;
    else runs.push(frame, pages);
  }

  /** The operation has ended. */
  clear(): void {
    const { core, runs } = this;
    while (runs.length > 0) {
      const pages = runs.pop()!;
      const frame = runs.pop()!;
      if (pages > 1) core.exports.frameMark(frame, pages, L.FRAME_SPARED, 0);
      else {
        const record = core.frameRecord(frame);
        core.setField(record, L.FRAME_FLAGS, core.field(record, L.FRAME_FLAGS) & ~L.FRAME_SPARED);
      }
    }
  }
}

/**
 * Frames of a memory that an operation under way has given away, or needs where they are: they are not evicted before it has ended. Each has a mark in its record, which goes when the frame is freed.
 */
import * as L from '../../assembly/layout.ts';
import type { Core } from '../core/abi.ts';

export class Spared {
  private readonly core: Core;
  /** Frames with a mark, and such that have had one. */
  private readonly frames: number[] = [];

  constructor(core: Core) {
    this.core = core;
  }

  /** How many have got a mark; 0: nothing is spared. */
  get size(): number {
    return this.frames.length;
  }

  has(frame: number): boolean {
    const { core } = this;
    return (core.field(core.frameRecord(frame), L.FRAME_FLAGS) & L.FRAME_SPARED) !== 0;
  }

  /** Whether one of those that still have it passes. */
  some(passes: (frame: number) => boolean): boolean {
    return this.frames.some((frame) => this.has(frame) && passes(frame));
  }

  /** Marks a frame in use, of a huge one the first. */
  add(frame: number): void {
    const { core, frames } = this;
    const record = core.frameRecord(frame);
    const flags = core.field(record, L.FRAME_FLAGS);
    if (flags & L.FRAME_SPARED) return;
    core.setField(record, L.FRAME_FLAGS, flags | L.FRAME_SPARED);
    frames.push(frame);
  }

  /** The operation has ended. */
  clear(): void {
    const { core, frames } = this;
    for (let frame = frames.pop(); frame !== undefined; frame = frames.pop()) {
      const record = core.frameRecord(frame);
      core.setField(record, L.FRAME_FLAGS, core.field(record, L.FRAME_FLAGS) & ~L.FRAME_SPARED);
    }
  }
}

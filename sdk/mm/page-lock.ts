/**
 * Waiting for a page lock. The lock itself is a bit in the frame record, of a huge frame in its head's, taken by a migration for thousands of frames at once and never
 * waited for by one; a fault that meets a migration entry waits here until the migration has ended. Whoever makes a page exclusive, or ends that, takes
 * the lock of this one page and waits for it here.
 */
import * as L from '../../assembly/layout.ts';
import type { Core } from '../core/abi.ts';
import { type Run, type Waitable, WaitQueue } from '../step/step.ts';

/** The wait for one frame's page lock. */
export class PageLockWait implements Waitable {
  readonly label: string;
  readonly queue: WaitQueue = new WaitQueue();
  private readonly locks: PageLocks;
  private readonly frame: number;

  constructor(locks: PageLocks, frame: number) {
    this.locks = locks;
    this.frame = frame;
    this.label = `page lock of frame ${frame}`;
  }

  enqueue(run: Run): boolean {
    if (!this.locks.locked(this.frame)) return false;
    this.queue.add(run);
    return true;
  }

  leave(run: Run): void {
    this.queue.leave(run);
  }
}

export class PageLocks {
  /** Operations that hold page locks. */
  moving = 0;
  /** Frames (of huge ones the first) that are being evicted and are needed after all: they stay. */
  readonly kept: Set<number> = new Set();
  private readonly core: Core;
  private readonly waits: Map<number, PageLockWait> = new Map();

  constructor(core: Core) {
    this.core = core;
  }

  /** Whether a frame, or the huge frame that it is part of, is locked. */
  locked(frame: number): boolean {
    const core = this.core;
    return (core.field(core.frameRecord(core.headOf(frame)), L.FRAME_FLAGS) & L.FRAME_LOCKED) !== 0;
  }

  /** Takes the page lock of one frame if it is free. Never waits. */
  tryLock(frame: number): boolean {
    if (!this.core.exports.frameTryLock(this.core.headOf(frame))) return false;
    this.moving++;
    return true;
  }

  /** Releases the page lock of one frame, and lets those go on that wait for it. Requires: the frame was not split meanwhile. */
  unlock(frame: number): void {
    this.core.exports.frameUnlock(this.core.headOf(frame));
    this.moving--;
    this.released();
  }

  /** A locked frame among `frames` from `base` on. Looks at them only while somebody holds page locks. */
  anyLocked(base: number, frames: number): number | undefined {
    if (this.moving === 0) return undefined;
    for (let frame = base; frame < base + frames; frame++) if (this.locked(frame)) return frame;
    return undefined;
  }

  /** What a step waits for when it met a locked frame. */
  wait(frame: number): Waitable {
    let wait = this.waits.get(frame);
    if (!wait) {
      wait = new PageLockWait(this, frame);
      this.waits.set(frame, wait);
    }
    return wait;
  }

  /** Page locks have been released: lets those go on whose frame is unlocked now. Costs nothing when nobody waits. */
  released(): void {
    if (this.waits.size === 0) return;
    for (const [frame, wait] of [...this.waits]) {
      if (this.locked(frame)) continue;
      this.waits.delete(frame);
      wait.queue.wakeAll();
    }
  }
}

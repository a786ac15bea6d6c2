/**
 * Waiting for a page lock. The lock itself is a bit in the frame record, taken by a migration for thousands of frames at once and never
 * waited for by one; a fault that meets a migration entry waits here until the migration has ended.
 */
import * as L from '../../assembly/layout.ts';
import type { Core } from '../core/abi.ts';
import { type Run, type Waitable, WaitQueue } from '../step/step.ts';

/** The wait for one frame's page lock. */
class PageLockWait implements Waitable {
  readonly label: string;
  readonly queue: WaitQueue = new WaitQueue();
  readonly #locks: PageLocks;
  readonly #frame: number;

  constructor(locks: PageLocks, frame: number) {
    this.#locks = locks;
    this.#frame = frame;
    this.label = `page lock of frame ${frame}`;
  }

  enqueue(run: Run): boolean {
    if (!this.#locks.locked(this.#frame)) return false;
    this.queue.add(run);
    return true;
  }

  leave(run: Run): void {
    this.queue.leave(run);
  }
}

export class PageLocks {
  /** Migrations that hold page locks. */
  moving = 0;
  readonly #core: Core;
  readonly #waits: Map<number, PageLockWait> = new Map();

  constructor(core: Core) {
    this.#core = core;
  }

  locked(frame: number): boolean {
    return (this.#core.field(this.#core.frameRecord(frame), L.FRAME_FLAGS) & L.FRAME_LOCKED) !== 0;
  }

  /** A locked frame among `frames` from `base` on. Looks at them only while a migration is under way. */
  anyLocked(base: number, frames: number): number | undefined {
    if (this.moving === 0) return undefined;
    for (let frame = base; frame < base + frames; frame++) if (this.locked(frame)) return frame;
    return undefined;
  }

  /** What a step waits for when it met a locked frame. */
  wait(frame: number): Waitable {
    let wait = this.#waits.get(frame);
    if (!wait) {
      wait = new PageLockWait(this, frame);
      this.#waits.set(frame, wait);
    }
    return wait;
  }

  /** Page locks have been released: lets those go on whose frame is unlocked now. Costs nothing when nobody waits. */
  released(): void {
    if (this.#waits.size === 0) return;
    for (const [frame, wait] of [...this.#waits]) {
      if (this.locked(frame)) continue;
      this.#waits.delete(frame);
      wait.queue.wakeAll();
    }
  }
}

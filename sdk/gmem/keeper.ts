/**
 * The evictor that keeps some of a memory free: woken by whoever takes a frame and leaves less than `low`, it makes room in turns of its own, beside whatever else runs, until `high` is free.
 * There is no timer: asynchronous operations and the simulator interleave it, a synchronous verb runs it before it returns.
 *
 * Models: `kswapd`, GMEM's device daemon (wakes below one mark of free memory, stops above another).
 */
import type { Platform } from '../mm/platform.ts';
import { DONE, type Progress, type Run, type Step } from '../step/step.ts';
import type { OwnMemory } from './own-memory.ts';
import { Evict } from './evict.ts';

const LOCK = 0;
const EVICTED = 1;

/** The step; one for each memory that has watermarks. */
export class Keeper implements Step {
  readonly name = 'keep free';
  private readonly memory: OwnMemory;
  private readonly low: number;
  private readonly high: number;
  private readonly evict: Evict;
  private phase = LOCK;
  private awake = false;

  /** Frames of `memory`: fewer than `low` free wake it, `high` are enough. */
  constructor(platform: Platform, memory: OwnMemory, low: number, high: number) {
    this.memory = memory;
    this.low = low;
    this.high = high;
    this.evict = new Evict(platform).from(memory, -1, 0, 'watermark', 'background');
  }

  /** A frame has been taken. */
  wake(run: Run): void {
    if (this.awake || this.memory.node.free >= this.low) return;
    this.phase = LOCK;
    this.awake = run.spawn(this);
  }

  next(run: Run): Progress {
    const { device, node } = this.memory;
    if (this.phase === LOCK) {
      if (!device.batch.tryAcquire(run)) return run.waitFor(device.batch);
      this.phase = EVICTED;
      // While it waited, room may have been made, or the memory may have gone.
      if (device.memories.includes(this.memory) && node.free < this.high) return run.call(this.evict.room(this.high - node.free));
    }
    this.end(run);
    return DONE;
  }

  abort(run: Run): void {
    this.end(run);
  }

  private end(run: Run): void {
    const { batch } = this.memory.device;
    this.awake = false;
    if (run.holds(batch)) batch.release(run);
  }
}

/**
 * Unplugging a memory: no frame of it is given away any more, everything on it comes home, then the node goes. A page that cannot leave keeps the memory, which is then what it was.
 *
 * Models: `memunmap_pages`.
 */
import { fail } from '../errors.ts';
import type { Platform } from '../mm/platform.ts';
import { DONE, type Progress, type Run, type Step } from '../step/step.ts';
import type { Device } from './device.ts';
import type { OwnMemory } from './own-memory.ts';
import { Evacuate } from './evacuate.ts';

const BATCH = 0;
const EVACUATED = 1;

/** The step behind `device.removeMemory`. */
export class Unplug implements Step {
  readonly name = 'unplug';
  private readonly device: Device;
  private readonly memory: OwnMemory;
  private readonly evacuate: Evacuate;
  private phase = BATCH;

  constructor(platform: Platform, device: Device, memory: OwnMemory) {
    this.device = device;
    this.memory = memory;
    this.evacuate = new Evacuate(platform);
  }

  /** Pages that came home. */
  get moved(): number {
    return this.evacuate.moved;
  }

  next(run: Run): Progress {
    const { batch, memories } = this.device;
    const { node } = this.memory;
    if (this.phase === BATCH) {
      if (!batch.tryAcquire(run)) return run.waitFor(batch);
      // While this one waited, another may have been quicker.
      if (!memories.includes(this.memory)) throw fail('EINVAL', 'removeMemory.memory', node.name, 'has been removed already');
      this.memory.leaving = true;
      this.phase = EVACUATED;
      return run.call(this.evacuate.of(this.memory, 'unplug'));
    }
    if (node.used > 0) {
      const why = 'pages that could not be brought home: they are pinned, or host memory is exhausted';
      throw fail('EBUSY', 'removeMemory', node.name, `keeps ${node.used} ${why}`);
    }
    this.device.drop(this.memory);
    batch.release(run);
    return DONE;
  }

  abort(run: Run): void {
    this.memory.leaving = false;
    if (run.holds(this.device.batch)) this.device.batch.release(run);
  }
}

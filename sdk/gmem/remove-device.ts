/**
 * Taking a device out of the machine: everything on its memories comes home, it leaves every address space, its memories go, and its place is another's.
 *
 * ```
 *   leaving     no frame of it is given away, no attach, no job, no access: ENODEV
 *   evacuate    every memory; a page that cannot leave keeps the device, which is then what it was
 *   detach      every context
 *   unplug      every memory; its links are cut
 * ```
 *
 * Models: hot unplug of a GPU (`drm_dev_unplug`), `gm_dev_destroy`, `gm_dev_unregister_physmem`.
 */
import { fail } from '../errors.ts';
import * as L from '../../assembly/layout.ts';
import type { Platform } from '../mm/platform.ts';
import { DONE, type Progress, type Run, type Step } from '../step/step.ts';
import type { Device } from './device.ts';
import { Evacuate } from './evacuate.ts';

const BATCH = 0;
const HOME = 1;
const DETACH = 2;
const UNPLUG = 3;

/** The step behind `machine.removeDevice`. */
export class RemoveDevice implements Step {
  readonly name = 'remove device';
  private readonly platform: Platform;
  private readonly device: Device;
  private readonly evacuate: Evacuate;
  private phase = BATCH;
  /** Memory that is being evacuated. */
  private at = 0;

  constructor(platform: Platform, device: Device) {
    this.platform = platform;
    this.device = device;
    this.evacuate = new Evacuate(platform);
  }

  next(run: Run): Progress {
    const { device } = this;
    switch (this.phase) {
      case BATCH:
        if (!device.batch.tryAcquire(run)) return run.waitFor(device.batch);
        // While this one waited, another may have been quicker.
        if (!this.platform.devices.includes(device)) {
          device.batch.release(run);
          return DONE;
        }
        this.leave(true);
        // What waits for the batch may go on, and find out.
        device.batch.release(run);
        this.phase = HOME;
      // falls through
      case HOME: {
        this.requireHome();
        const memory = device.memories[this.at++];
        if (memory) return run.call(this.evacuate.of(memory, 'unplug'));
        this.phase = DETACH;
      }
      // falls through
      case DETACH: {
        const context = device.contexts[0];
        if (context) return run.call(context.detachStep());
        this.phase = UNPLUG;
      }
      // falls through
      default: {
        const memory = device.memories[0];
        if (memory) return run.call(device.removeMemoryStep(memory));
        const { devices, events, links, spaces } = this.platform;
        // Nobody has a translation into it any more.
        for (const link of links.of(device.owner)) links.cut(link);
        devices.splice(devices.indexOf(device), 1);
        // Its number is the next one's.
        for (const { attributes } of spaces.values()) attributes.forget(device.owner);
        if (events.heard) events.emit({ type: 'device.removed', device: device.name });
        return DONE;
      }
    }
  }

  abort(run: Run): void {
    this.leave(false);
    if (run.holds(this.device.batch)) this.device.batch.release(run);
  }

  private leave(leaving: boolean): void {
    this.device.leaving = leaving;
    for (const memory of this.device.memories) memory.leaving = leaving;
  }

  /** A page that could not come home keeps the device. */
  private requireHome(): void {
    const before = this.device.memories[this.at - 1];
    if (!before || this.evacuate.left === L.FRAME_NONE) return;
    throw fail(
      'EBUSY',
      'removeDevice',
      before.node.name,
      'keeps pages that could not be brought home: they are pinned, or host memory is exhausted',
    );
  }
}

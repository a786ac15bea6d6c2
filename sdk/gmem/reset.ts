/**
 * Resetting a device: what it was doing is broken off, what it had cached or mapped is gone, and what was in its memory is there as before, or lost.
 *
 * ```
 *   break off    its unfinished operations fail: copies leave their pages where they were, flushes are over; its jobs end with ENODEV
 *   batch lock   the batch that is being served ends; what it has written is told to the second tier
 *   power-on     the driver's `reset`
 *   withdraw     all its translations, in every address space; a context that had failed serves again
 *   lose         with memory that is lost: every page whose only bytes were there becomes poison, whoever maps it, and is reported
 * ```
 *
 * Afterwards its contexts go on: the device faults for everything. Models: what follows `pci_reset_function`, a GPU reset with lost VRAM (`amdgpu_device_gpu_recover`).
 */
import * as L from '../../assembly/layout.ts';
import { Ranges } from '../core/batch.ts';
import { fail } from '../errors.ts';
import type { PageRun } from '../events/record.ts';
import type { NamesOf } from '../mm/arguments.ts';
import type { Platform } from '../mm/platform.ts';
import { DONE, type Progress, type Run, type Step } from '../step/step.ts';
import type { Device } from './device.ts';
import { Lose } from './lose.ts';

/** How a device is reset. */
export interface ResetOptions {
  /** What becomes of the bytes in its memories. Default 'kept'. */
  readonly memory?: 'kept' | 'lost';
}

export const RESET_OPTIONS: NamesOf<ResetOptions> = { memory: true };

/** What a reset has cost: by address space and page, ascending. */
export interface ResetReport {
  /** Pages whose bytes are lost, by address space: each is a bus error from now on, until it is unmapped. Several spaces may have had the same page. */
  readonly lost: readonly PageRun[];
}

const BREAK = 0;
const BATCH = 1;
const FLUSHED = 2;
const LOST = 3;

/** The step behind `device.reset`. */
export class Reset implements Step {
  readonly name = 'reset';
  private readonly platform: Platform;
  private readonly device: Device;
  private readonly memory: 'kept' | 'lost';
  private readonly lose: Lose;
  private phase = BREAK;
  /** Memory whose pages are being lost. */
  private at = 0;

  constructor(platform: Platform, device: Device, memory: 'kept' | 'lost') {
    this.platform = platform;
    this.device = device;
    this.memory = memory;
    this.lose = new Lose(platform, device);
  }

  report(): ResetReport {
    return { lost: [...this.lose.lost].sort((a, b) => a.space - b.space || a.vpn - b.vpn) };
  }

  next(run: Run): Progress {
    const { device } = this;
    switch (this.phase) {
      case BREAK:
        if (!this.platform.devices.includes(device)) throw fail('ENODEV', 'reset', device.name, 'is not in the machine any more');
        device.breakOff();
        this.phase = BATCH;
      // falls through
      case BATCH:
        if (!device.batch.tryAcquire(run)) return run.waitFor(device.batch);
        // What was begun while the batch ended.
        device.breakOff();
        for (const context of device.contexts) context.marks.end();
        device.powerOn();
        this.withdraw();
        this.phase = FLUSHED;
      // falls through
      case FLUSHED:
        for (const context of device.contexts) {
          const { unfinished } = context.flushes;
          if (unfinished) return run.waitFor(unfinished);
        }
        this.phase = LOST;
      // falls through
      default: {
        const memory = this.memory === 'lost' ? device.memories[this.at++] : undefined;
        if (memory) return run.call(this.lose.of(memory));
        for (const context of device.contexts) context.catchUp();
        device.endBatch();
        device.batch.release(run);
        this.tell();
        return DONE;
      }
    }
  }

  abort(run: Run): void {
    if (run.holds(this.device.batch)) this.device.batch.release(run);
  }

  private withdraw(): void {
    const everything = new Ranges();
    for (const context of this.device.contexts) {
      everything.clear();
      everything.add(0, 2 ** L.VPN_BITS);
      context.revive();
      context.withdraw(everything);
    }
  }

  private tell(): void {
    const { events } = this.platform;
    const { memory, lose } = this;
    if (events.heard) events.emit({ type: 'device.reset', device: this.device.name, memory, lost: lose.pages });
  }
}

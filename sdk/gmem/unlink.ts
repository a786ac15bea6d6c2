/**
 * Cutting a link: nothing new goes over it, what is under way ends, then the devices at its ends lose their translations into each other's memory. Pages stay where they are.
 */
import * as L from '../../assembly/layout.ts';
import { Places } from '../mm/places.ts';
import type { Link } from '../mm/links.ts';
import type { Platform } from '../mm/platform.ts';
import { DONE, type Progress, type Run, type Step } from '../step/step.ts';
import type { Ticket } from '../step/ticket.ts';
import type { Device } from './device.ts';

const NEAR = 0;
const FAR = 1;
const FLUSH = 2;

/** The step behind `machine.unlink`. */
export class Unlink implements Step {
  readonly name = 'unlink';
  private readonly platform: Platform;
  private readonly link: Link;
  /** Its ends, in the order of their locks. */
  private readonly near: Device;
  private readonly far: Device;
  private readonly tickets: Ticket[] = [];
  private phase = NEAR;

  constructor(platform: Platform, link: Link, ends: readonly [Device, Device]) {
    this.platform = platform;
    this.link = link;
    [this.near, this.far] = ends[0].owner < ends[1].owner ? ends : [ends[1], ends[0]];
  }

  next(run: Run): Progress {
    switch (this.phase) {
      case NEAR:
        if (this.link.open) this.cut();
        // Whoever brings pages over the link holds the batch lock of the device that gets them.
        if (!this.near.batch.tryAcquire(run)) return run.waitFor(this.near.batch);
        this.phase = FAR;
      // falls through
      case FAR:
        if (!this.far.batch.tryAcquire(run)) return run.waitFor(this.far.batch);
        if (this.link.coherent) {
          this.withdraw(this.near, this.far);
          this.withdraw(this.far, this.near);
        }
        this.phase = FLUSH;
      // falls through
      default:
        for (const ticket of this.tickets) if (ticket.state === 'pending') return run.waitFor(ticket);
        this.abort(run);
        return DONE;
    }
  }

  abort(run: Run): void {
    for (const { batch } of [this.far, this.near]) if (run.holds(batch)) batch.release(run);
  }

  private cut(): void {
    const { links, events } = this.platform;
    links.cut(this.link);
    if (events.heard) events.emit({ type: 'devices.unlinked', a: this.link.a.name, b: this.link.b.name });
  }

  /** One device loses its translations of pages that are in the private memories of the other. */
  private withdraw(device: Device, owner: Device): void {
    const { core } = this.platform;
    for (const { kind, node } of owner.memories) {
      if (kind !== 'private') continue;
      let from = 0;
      while (from < node.frames) {
        const found = core.exports.usedFrames(node.index, from, core.area(L.AREA_LIST), L.WORDS_MAX);
        from = core.stopIndex;
        const frames = [...core.words(L.AREA_LIST, found)];
        const places = new Places().of(this.platform, frames);
        for (let i = 0; i < places.count; i++) device.withdraw(places.space(i), places.ranges(i), this.tickets);
      }
    }
  }
}

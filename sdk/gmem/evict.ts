/** Eviction: frames of a device's memory come home to make room. */
import * as L from '../../assembly/layout.ts';
import type { EventOf, PageRun } from '../events.ts';
import type { DeviceMemory } from '../mm/device-memory.ts';
import { Migration } from '../mm/migration.ts';
import type { Platform } from '../mm/platform.ts';
import { DONE, type Progress, type Run, type Step } from '../step/step.ts';
import type { Ticket } from '../step/ticket.ts';

export class Evict implements Step {
  readonly name = 'evict';
  /** Pages that came home. */
  freed = 0;
  private readonly platform: Platform;
  /** Made at the first eviction. */
  private migration: Migration | undefined;
  private memory!: DeviceMemory;
  private victims: readonly number[] = [];
  private at = 0;
  /** Copies of pages are still to be dropped: nothing moves for them. */
  private dropping = false;
  private called = false;
  /** Flushes of copies that were dropped. */
  private readonly flushes: Ticket[] = [];
  /** Who needs the room. */
  private space = -1;
  private vpn = 0;
  private cause: EventOf<'frames.evicted'>['cause'] = 'fault';
  /** While somebody listens: where what went is mapped now. */
  private runs: PageRun[] = [];

  constructor(platform: Platform) {
    this.platform = platform;
  }

  /** Chooses the memory, and says who needs the room: a fault, or a program that moves pages, at this page of a space. */
  from(memory: DeviceMemory, space = -1, vpn = 0, cause: EventOf<'frames.evicted'>['cause'] = 'user'): this {
    this.memory = memory;
    this.space = space;
    this.vpn = vpn;
    this.cause = cause;
    return this;
  }

  /** These frames of it go, whoever maps them; counted as one eviction. */
  frames(frames: readonly number[]): this {
    this.freed = 0;
    this.victims = frames;
    this.dropping = true;
    this.at = 0;
    this.called = false;
    return this;
  }

  next(run: Run): Progress {
    const { events } = this.platform;
    if (this.dropping) {
      this.dropping = false;
      const rest = this.memory.dropReplicas(this.victims, 'evict', this.flushes);
      this.freed = this.victims.length - rest.length;
      this.victims = rest;
    }
    for (let flush = this.flushes[0]; flush; flush = this.flushes[0]) {
      if (flush.state === 'pending') return run.waitFor(flush);
      this.flushes.shift();
    }
    if (this.called) {
      this.freed += this.migration!.moved;
      if (events.heard) this.runs.push(...this.migration!.runs);
    }
    if (this.at < this.victims.length) {
      this.called = true;
      const part = this.victims.slice(this.at, this.at + L.WORDS_MAX);
      this.at += part.length;
      this.migration ??= new Migration(this.platform);
      return run.call(this.migration.framesToHost(part, this.memory, 'evict'));
    }
    if (this.freed > 0) {
      events.counters.evictions++;
      if (events.heard) this.report();
    }
    return DONE;
  }

  private report(): void {
    const { space, vpn, cause, victims, runs } = this;
    this.runs = [];
    const node = this.memory.node.name;
    this.platform.events.emit({ type: 'frames.evicted', node, pages: this.freed, frames: [...victims], space, vpn, cause, runs });
  }
}

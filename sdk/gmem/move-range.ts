/** Moving a range to a device's memory, or home from it, because the program asks: no fault, no batch, as much as fits. */
import * as L from '../../assembly/layout.ts';
import { Migration } from '../mm/migration.ts';
import type { Platform } from '../mm/platform.ts';
import { PROT_READ } from '../mm/vma.ts';
import { DONE, type Progress, type Run, type Step } from '../step/step.ts';
import type { Context } from './context.ts';
import type { OwnMemory } from './device.ts';
import { Evict } from './evict.ts';

const BATCH = -1;
const LOCK = 0;
const PART = 1;
const EVICTED = 2;
const MOVED = 3;

export class MoveRange implements Step {
  readonly name = 'move range';
  /** Pages that moved. */
  moved = 0;
  readonly #platform: Platform;
  readonly #context: Context;
  readonly #memory: OwnMemory;
  readonly #end: number;
  readonly #to: 'device' | 'host';
  readonly #migration: Migration;
  readonly #evict: Evict;
  #phase = BATCH;
  /** Next page to look at. */
  #vpn: number;
  /** Pages of the part under way that are to move, and their frames so far. */
  #need: number[] = [];
  #picks: number[] = [];
  #full = false;

  /** For the pages `[start, end)`. */
  constructor(platform: Platform, context: Context, memory: OwnMemory, start: number, end: number, to: 'device' | 'host') {
    this.#platform = platform;
    this.#context = context;
    this.#memory = memory;
    this.#vpn = start;
    this.#end = end;
    this.#to = to;
    this.#migration = new Migration(platform);
    this.#evict = new Evict(platform).from(memory);
  }

  next(run: Run): Progress {
    const { mmapLock } = this.#context.space;
    const { batch } = this.#context.device;
    switch (this.#phase) {
      case BATCH:
        if (!batch.tryAcquire(run)) return run.waitFor(batch);
        this.#phase = LOCK;
      // falls through
      case LOCK:
        if (!mmapLock.tryAcquireShared(run)) return run.waitFor(mmapLock);
        this.#context.requireWorking('migrate');
        this.#phase = PART;
      // falls through
      case PART:
        return this.#part(run);
      case EVICTED:
        if (this.#evict.freed === 0) this.#full = true;
        return this.#reserve(run);
      default:
        this.moved += this.#migration.moved;
        this.#phase = PART;
        return this.#part(run);
    }
  }

  abort(run: Run): void {
    for (const frame of this.#picks) if (frame >= 0) this.#platform.core.exports.framePut(frame);
    this.#platform.settleFreed();
    this.#unlock(run);
  }

  #unlock(run: Run): void {
    const { space, device } = this.#context;
    if (run.holds(space.mmapLock)) space.mmapLock.release(run);
    if (!run.holds(device.batch)) return;
    this.#memory.spared.clear();
    device.batch.release(run);
  }

  /** The next part of one VMA, at most one batch of words long. */
  #part(run: Run): Progress {
    const { space } = this.#context;
    const vma = this.#full || this.#vpn >= this.#end ? undefined : space.vmas.next(this.#vpn);
    if (!vma || vma.start >= this.#end) return this.#finish(run);
    const start = Math.max(vma.start, this.#vpn);
    const end = Math.min(vma.end, this.#end, start + L.WORDS_MAX);
    this.#vpn = end;
    if (this.#to === 'host') {
      this.#phase = MOVED;
      return run.call(this.#migration.toHost(space, start, end - start, this.#memory, 'user', start));
    }
    this.#need = [];
    // Whoever may not even read a page has no use for it on the device.
    if (!(vma.prot & PROT_READ)) return this.#part(run);
    for (let vpn = start; vpn < end; vpn++) {
      const kind = this.#platform.core.entry(space.table, vpn) & L.ENTRY_KIND;
      if (kind === L.KIND_NONE || kind === L.KIND_PRESENT) this.#need.push(vpn);
    }
    if (this.#need.length === 0) return this.#part(run);
    this.#picks = [];
    return this.#reserve(run);
  }

  #reserve(run: Run): Progress {
    while (this.#picks.length < this.#need.length && !this.#full) {
      const frame = this.#memory.takeFrame();
      if (frame !== L.FRAME_NONE) {
        this.#memory.spared.add(frame);
        this.#picks.push(frame);
        continue;
      }
      const victims = this.#memory.victims(this.#need.length - this.#picks.length);
      if (victims.length > 0) {
        this.#phase = EVICTED;
        return run.call(this.#evict.frames(victims));
      }
      this.#full = true;
    }
    if (this.#picks.length === 0) return this.#finish(run);
    const first = this.#need[0]!;
    const last = this.#need[this.#need.length - 1]!;
    const picks = new Array<number>(last - first + 1).fill(L.FRAME_NONE);
    this.#picks.forEach((frame, i) => (picks[this.#need[i]! - first] = frame));
    this.#picks = [];
    this.#phase = MOVED;
    return run.call(this.#migration.toDevice(this.#context.space, first, picks, this.#memory, 'user', this.#context.install));
  }

  #finish(run: Run): typeof DONE {
    this.#unlock(run);
    return DONE;
  }
}

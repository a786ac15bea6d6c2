/**
 * Everything on a memory comes home by frame, whoever maps it.
 *
 * ```
 *   list     the frames in use; a locked one is waited for
 *   drop     copies of pages that are elsewhere
 *   revoke   a page that is exclusive to a device (coherent memory) becomes an ordinary one
 *   home     migration by frame
 *   again    as long as something moved: what then remains is held by somebody
 * ```
 *
 * Models: `dmirror_device_evict_chunk`.
 */
import * as L from '../../assembly/layout.ts';
import type { MigrationCause } from '../events/cause.ts';
import type { DeviceMemory } from '../mm/device-memory.ts';
import { Migration } from '../mm/migration.ts';
import { Places } from '../mm/places.ts';
import type { Platform } from '../mm/platform.ts';
import { AGAIN, DONE, type Progress, type Run, type Step } from '../step/step.ts';
import type { Ticket } from '../step/ticket.ts';
import { Revoke } from './revoke.ts';

const NONE: ReadonlySet<number> = new Set();

export class Evacuate implements Step {
  readonly name = 'evacuate';
  /** Pages that came home. */
  moved = 0;
  /** A page that is still mapped there: it is pinned, or host memory is exhausted. FRAME_NONE: all are home. */
  left: number = L.FRAME_NONE;
  private readonly platform: Platform;
  private readonly migration: Migration;
  private readonly revoke: Revoke;
  private memory!: DeviceMemory;
  private cause: MigrationCause = 'unplug';
  private staying: ReadonlySet<number> = NONE;
  /** Frame of the node to go on from, and the pages that had moved when this pass began. */
  private from = 0;
  private before = 0;
  private called = false;
  /** Frames in use, and those of them that are mapped. */
  private readonly all: number[] = [];
  private readonly mapped: number[] = [];
  /** Flushes of copies that were dropped. */
  private readonly flushes: Ticket[] = [];

  constructor(platform: Platform) {
    this.platform = platform;
    this.migration = new Migration(platform);
    this.revoke = new Revoke(platform);
  }

  /** `staying`: frames that are passed over. */
  of(memory: DeviceMemory, cause: MigrationCause, staying: ReadonlySet<number> = NONE): this {
    this.staying = staying;
    this.moved = 0;
    this.left = L.FRAME_NONE;
    this.memory = memory;
    this.cause = cause;
    this.from = 0;
    this.before = 0;
    this.called = false;
    return this;
  }

  next(run: Run): Progress {
    const { core, pageLocks } = this.platform;
    const { node } = this.memory;
    if (this.called) this.moved += this.migration.moved;
    this.called = false;
    for (let flush = this.flushes[0]; flush; flush = this.flushes[0]) {
      if (flush.state === 'pending') return run.waitFor(flush);
      this.flushes.shift();
    }
    if (node.used === 0) {
      this.left = L.FRAME_NONE;
      return DONE;
    }
    const locked = pageLocks.anyLocked(node.base, node.frames);
    if (locked !== undefined) return run.waitFor(pageLocks.wait(locked));
    if (this.from >= node.frames) {
      if (this.left === L.FRAME_NONE || this.moved === this.before) return DONE;
      this.before = this.moved;
      this.from = 0;
      this.left = L.FRAME_NONE;
    }
    const found = core.exports.usedFrames(node.index, this.from, core.area(L.AREA_LIST), L.WORDS_MAX);
    const next = core.stopIndex;
    const { all, mapped: frames } = this;
    all.length = found;
    for (let i = 0; i < found; i++) all[i] = core.u32[(core.area(L.AREA_LIST) >>> 2) + i]!;
    const rest = this.memory.dropReplicas(all, this.cause, this.flushes);
    let count = 0;
    frames.length = rest.length;
    for (let i = 0; i < rest.length; i++) {
      const isMapped = (core.field(core.frameRecord(rest[i]!), L.FRAME_MAPS) & L.MAPS_MASK) !== 0;
      if (isMapped && !this.staying.has(rest[i]!)) frames[count++] = rest[i]!;
    }
    frames.length = count;
    const revoke = this.exclusive(frames);
    if (revoke) return run.call(revoke);
    this.from = next;
    if (frames.length === 0) return AGAIN;
    // Whether it has gone is seen in the next pass.
    this.left = frames[0]!;
    this.called = true;
    return run.call(this.migration.framesToHost(frames, this.memory, this.cause));
  }

  /** Takes back the first page among these frames that is exclusive to a device, if there is one. */
  private exclusive(frames: readonly number[]): Revoke | undefined {
    if (this.memory.kind !== 'coherent') return undefined;
    const { core } = this.platform;
    const places = new Places().of(this.platform, frames);
    for (let place = 0; place < places.count; place++) {
      const space = places.space(place);
      const ranges = places.ranges(place);
      for (let i = 0; i < ranges.count; i++) {
        for (let vpn = ranges.start(i); vpn < ranges.start(i) + ranges.length(i); vpn++) {
          if ((core.entry(space.table, vpn) & L.ENTRY_KIND) === L.KIND_EXCLUSIVE)
            return this.revoke.of(space, vpn, this.cause === 'unplug' ? 'unplug' : 'detach');
        }
      }
    }
    return undefined;
  }
}

/**
 * Losing what is on a memory: every page there that somebody maps becomes poison, in every address space, and each is reported. Never silence: a later access is a bus error, until the page is unmapped or discarded.
 *
 * ```
 *   list       the frames in use; a locked one is waited for
 *   clean      what the second tier has, still true, is there; copies that devices had of pages have gone with their translations: neither is lost
 *   announce   CLEAR to everybody who may have a translation; wait for the flushes
 *   poison     entries, the CPU's translations, reverse maps, pins to the device; the frame is free, unless somebody else has pinned it
 * ```
 *
 * Models: `memory_failure`, `hwpoison_user_mappings`; the lost VRAM of a GPU that was reset.
 */
import * as L from '../../assembly/layout.ts';
import type { Ranges } from '../core/batch.ts';
import { fail } from '../errors.ts';
import type { PageRun } from '../events/record.ts';
import type { AddressSpace } from '../mm/address-space.ts';
import { Announced } from '../mm/announced.ts';
import { Migration } from '../mm/migration.ts';
import { Places } from '../mm/places.ts';
import type { Platform } from '../mm/platform.ts';
import { AGAIN, DONE, type Progress, type Run, type Step } from '../step/step.ts';
import type { Device } from './device.ts';
import type { OwnMemory } from './own-memory.ts';

/** Loses what is on one memory after the other. */
export class Lose implements Step {
  readonly name = 'lose';
  /** What was lost, all memories together. */
  readonly lost: PageRun[] = [];
  private readonly platform: Platform;
  private readonly device: Device;
  private readonly announced: Announced = new Announced();
  private memory!: OwnMemory;
  /** Frame of the node to go on from. */
  private from = 0;
  private frames: readonly number[] = [];
  /** Made where there is a second tier. */
  private migration: Migration | undefined;

  constructor(platform: Platform, device: Device) {
    this.platform = platform;
    this.device = device;
  }

  of(memory: OwnMemory): this {
    this.memory = memory;
    this.from = 0;
    this.frames = [];
    return this;
  }

  /** Pages that were lost. */
  get pages(): number {
    return this.lost.reduce((sum, { pages }) => sum + pages, 0);
  }

  next(run: Run): Progress {
    const { core, pageLocks } = this.platform;
    const { node } = this.memory;
    if (this.frames.length === 0) {
      if (this.from >= node.frames) return DONE;
      const locked = pageLocks.anyLocked(node.base, node.frames);
      if (locked !== undefined) return run.waitFor(pageLocks.wait(locked));
      const found = core.exports.usedFrames(node.index, this.from, core.area(L.AREA_LIST), L.WORDS_MAX);
      this.from = core.stopIndex;
      this.frames = [...core.words(L.AREA_LIST, found)];
      if (found === 0) return DONE;
      const { tier } = this.platform;
      if (tier?.isTrusting) {
        this.migration ??= new Migration(this.platform);
        return run.call(this.migration.cleanToTier(this.frames, this.memory, tier));
      }
    }
    const { unfinished } = this.announced;
    if (unfinished) return run.waitFor(unfinished);
    // A fork, an mremap may have come while devices flushed; a migration may have taken a page.
    const locked = pageLocks.anyLocked(node.base, node.frames);
    if (locked !== undefined) return run.waitFor(pageLocks.wait(locked));
    const places = new Places().of(this.platform, this.frames);
    if (this.announced.tell(places, 'CLEAR', 'reset')) return AGAIN;
    for (let i = 0; i < places.count; i++) this.poison(places.space(i), places.ranges(i));
    this.announced.end();
    this.platform.settleFreed();
    this.frames = [];
    return AGAIN;
  }

  abort(): void {
    this.announced.end();
  }

  private poison(space: AddressSpace, ranges: Ranges): void {
    const { core, events } = this.platform;
    const device = this.device.name;
    const node = this.memory.node.name;
    for (let i = 0; i < ranges.count; i++) {
      const vpn = ranges.start(i);
      const pages = ranges.length(i);
      for (let page = vpn; page < vpn + pages; page++) {
        core.exports.zap(space.table, page, 1);
        // The place in the table that the page had is free.
        if (!core.exports.mapSpecial(space.table, page, 0, L.KIND_POISON))
          throw fail('ENOMEM', 'reset page', page * L.PAGE_BYTES, 'has no place in its table for the mark that it is lost');
        this.platform.settleFreed();
      }
      // A pin of what is lost would keep a frame that nobody has.
      space.devicePins.release(vpn, vpn + pages);
      this.lost.push({ space: space.id, vpn, pages });
      if (events.heard) events.emit({ type: 'pages.lost', space: space.id, vpn, pages, device, node });
    }
  }
}

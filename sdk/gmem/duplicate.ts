/**
 * Giving a device copies of pages that are on the host, for reading.
 *
 * ```
 *   page lock          of each page: from here on nobody revokes or moves it; the frame gets a reference while it is being read
 *   notifier           PROTECTION_PAGE, where somebody may write: every translation goes and is flushed
 *   entry              without write, replicated: a CPU write has to ask now, and waits for the page lock
 *   copy               by the device's engine or the core
 *   look again         the same page, unchanged (a copy-on-write may have been quicker), nobody invalidating
 *   install            the device's translation of its copy
 *   unlock
 * ```
 *
 * What does not come to pass (a page that has changed, a failed copy) leaves the page where it is, and its frame goes back.
 */
import * as L from '../../assembly/layout.ts';
import { Copies } from '../core/batch.ts';
import type { AddressSpace } from '../mm/address-space.ts';
import { Announced } from '../mm/announced.ts';
import { MigrationCopies } from '../mm/migration-copies.ts';
import { Places } from '../mm/places.ts';
import type { Platform } from '../mm/platform.ts';
import { DONE, type Progress, type Run, type Step } from '../step/step.ts';
import type { Ticket } from '../step/ticket.ts';
import type { Context } from './context.ts';

const LOCK = 0;
const FLUSHED = 1;
const COPIED = 2;

/** A page that is to be copied: its frame, and where to. */
interface Part {
  vpn: number;
  /** FRAME_NONE once it is the context's. */
  frame: number;
  original: number;
  isSet: boolean;
  /** The context gets the copy. */
  isKept: boolean;
}

/** The step that duplicates pages. Reused by its owner, who holds the mmap lock and the device's batch lock. */
export class Duplicate implements Step {
  readonly name = 'duplicate';
  /** Copies that were installed. */
  done = 0;
  /** The copy failed. */
  hasFailed = false;
  private readonly platform: Platform;
  private readonly context: Context;
  private readonly announced: Announced = new Announced();
  private readonly places: Places = new Places();
  private readonly ground: MigrationCopies;
  private readonly copies: Copies;
  private vpns: readonly number[] = [];
  private frames: readonly number[] = [];
  private wanted = 0;
  /** The first `count` are of this time. */
  private readonly parts: Part[] = [];
  private count = 0;
  /** Pages of which the context gets a copy. */
  private readonly kept: number[] = [];
  private ticket: Ticket | undefined;
  private phase = LOCK;

  constructor(platform: Platform, context: Context) {
    this.platform = platform;
    this.context = context;
    this.ground = new MigrationCopies(platform);
    this.copies = new Copies(this.ground);
  }

  /** For the pages `vpns`, each into the frame of the same place in `frames`, whose one reference goes over. Page `vpns[wanted]` is waited for, the others come along if they can. */
  of(vpns: readonly number[], frames: readonly number[], wanted: number): this {
    this.done = 0;
    this.hasFailed = false;
    this.vpns = vpns;
    this.frames = frames;
    this.wanted = wanted;
    this.count = 0;
    this.ticket = undefined;
    this.phase = LOCK;
    return this;
  }

  next(run: Run): Progress {
    switch (this.phase) {
      case LOCK: {
        const locked = this.lock();
        if (locked !== undefined) return run.waitFor(this.platform.pageLocks.wait(locked));
        this.tell();
        this.phase = FLUSHED;
      }
      // falls through
      case FLUSHED: {
        const { unfinished } = this.announced;
        if (unfinished) return run.waitFor(unfinished);
        this.protect();
        this.copy();
        this.phase = COPIED;
      }
      // falls through
      default:
        if (this.ticket?.state === 'pending') return run.waitFor(this.ticket);
        this.install();
        return DONE;
    }
  }

  abort(): void {
    this.announced.end();
    if (this.phase === LOCK && this.count === 0) for (const frame of this.frames) this.put(frame);
    else this.giveUp();
    this.platform.settleFreed();
  }

  /** Takes the page locks; what cannot be had is left out. Returns the frame of the wanted page while somebody else has its lock. */
  private lock(): number | undefined {
    const { core, pageLocks } = this.platform;
    const { space } = this.context;
    const { vpns, frames, wanted } = this;
    const original = originalOf(this.platform, space, vpns[wanted]!);
    if (original !== L.FRAME_NONE && pageLocks.locked(original)) return original;
    for (let i = 0; i < vpns.length; i++) {
      const frame = originalOf(this.platform, space, vpns[i]!);
      if (frame === L.FRAME_NONE || !pageLocks.tryLock(frame)) {
        this.put(frames[i]!);
        continue;
      }
      core.exports.frameGet(frame);
      const part = (this.parts[this.count++] ??= { vpn: 0, frame: 0, original: 0, isSet: false, isKept: false });
      part.vpn = vpns[i]!;
      part.frame = frames[i]!;
      part.original = frame;
      part.isSet = false;
      part.isKept = false;
    }
    return undefined;
  }

  /** Tells everybody of pages that a device may write: those that the CPU may write, or only reads for the sake of atomics. */
  private tell(): void {
    const { core } = this.platform;
    const { space } = this.context;
    const ranges = this.places.alone(space);
    for (let i = 0; i < this.count; i++) {
      const { vpn } = this.parts[i]!;
      const high = core.entry(space.table, vpn);
      if (high & L.ENTRY_WRITE || (high & L.ENTRY_PROMISES) === L.ENTRY_CPU_READS) ranges.add(vpn, 1);
    }
    if (ranges.count > 0) this.announced.tell(this.places, 'PROTECTION_PAGE', 'duplicate');
  }

  /** Nobody has a translation for writing any more: nor does the CPU, from here on. */
  private protect(): void {
    const { core } = this.platform;
    for (let i = 0; i < this.count; i++) {
      const part = this.parts[i]!;
      part.isSet = core.exports.duplicateSet(this.context.space.table, part.vpn, part.original) !== 0;
    }
    this.announced.end();
  }

  private copy(): void {
    const { device, space } = this.context;
    this.ground.for(device);
    this.copies.clear();
    for (let i = 0; i < this.count; i++) {
      const { isSet, frame, original } = this.parts[i]!;
      if (isSet) this.copies.add(original, frame);
    }
    if (this.copies.count === 0) return;
    if (device.hasEngine(space)) this.ticket = device.copy('to-device', space, this.copies) ?? undefined;
    else this.copies.perform();
  }

  private install(): void {
    const { core } = this.platform;
    const { context, parts, kept } = this;
    const { space } = context;
    this.hasFailed = this.ticket?.state === 'failed';
    let copies = 0;
    if (!this.hasFailed && context.mayEnter)
      for (let i = 0; i < this.count; i++) {
        const part = parts[i]!;
        const high = core.entry(space.table, part.vpn);
        const wanted = L.KIND_PRESENT | L.ENTRY_REPLICATED;
        part.isKept =
          part.isSet && (high & (L.ENTRY_KIND | L.ENTRY_REPLICATED | L.ENTRY_WRITE)) === wanted && core.entryLow === part.original;
        if (part.isKept) kept[copies++] = part.vpn;
      }
    for (let i = 0; i < this.count; i++) if (!parts[i]!.isKept) this.put(parts[i]!.frame);
    this.unlock(false);
    for (let i = 0; i < this.count; i++) {
      const part = parts[i]!;
      if (!part.isKept) continue;
      context.replicas.add(part.vpn, part.frame, part.original, false);
      // The context's from here on.
      part.frame = L.FRAME_NONE;
    }
    try {
      // A list that is emptied gives its memory back.
      if (copies > 0) {
        kept.length = copies;
        context.installReplicas(kept);
      }
    } finally {
      this.unlock(true);
      // Nothing is left to be given back, whoever has thrown.
      this.count = 0;
      this.platform.settleFreed();
    }
    for (let i = 0; i < copies; i++) if (context.replicas.at(kept[i]!) !== undefined) this.done++;
  }

  /** Gives back the frames of what is left, and lets its pages go. */
  private giveUp(): void {
    for (let i = 0; i < this.count; i++) this.put(this.parts[i]!.frame);
    this.unlock(true);
    this.unlock(false);
    this.count = 0;
  }

  /** Lets the pages go of which the context gets a copy, or of which it does not. */
  private unlock(isKept: boolean): void {
    const { core, pageLocks } = this.platform;
    for (let i = 0; i < this.count; i++) {
      const part = this.parts[i]!;
      if (part.isKept !== isKept) continue;
      pageLocks.unlock(part.original);
      core.exports.framePut(part.original);
    }
  }

  private put(frame: number): void {
    if (frame !== L.FRAME_NONE) this.platform.core.exports.framePut(frame);
  }
}

/** The frame of a page that can be duplicated now: small, anonymous, on the host, held by nobody but its mappings; FRAME_NONE when it is not such a page. */
export function originalOf({ core, host }: Platform, space: AddressSpace, vpn: number): number {
  const high = core.entry(space.table, vpn);
  const frame = core.entryLow;
  if ((high & (L.ENTRY_KIND | L.ENTRY_ZERO | L.ENTRY_ORDER)) !== L.KIND_PRESENT || !host.holds(frame)) return L.FRAME_NONE;
  const record = core.frameRecord(frame);
  if (core.field(record, L.FRAME_FLAGS) & L.FRAME_FILE) return L.FRAME_NONE;
  // While somebody else has the lock, he has a reference, too.
  const held = core.field(record, L.FRAME_REFS) - (core.field(record, L.FRAME_MAPS) & L.MAPS_MASK);
  return held === 0 || core.field(record, L.FRAME_FLAGS) & L.FRAME_LOCKED ? frame : L.FRAME_NONE;
}

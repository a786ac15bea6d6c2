/**
 * Ranges of an address space that belong to one device: not mirrored, not the CPU's, not given away by mmap. Their pages are in the device's memory from the beginning, and stay there.
 *
 * ```
 *   reserve     a VMA that says whose it is; every page in the device's memory, zeros, and pinned; all or none
 *   while held  the CPU, other devices and pins: EFAULT; munmap, mprotect, madvise, mremap, dontneed by hmadvise: EINVAL; a child does not get it
 *               hmemcpy: not copied, for want of the right; migrate and prefetch, to another device or home: left out
 *   free        unmapped and unpinned; a detach, an exec, a reaper and the end of the space do it too
 * ```
 *
 * Models: what reviewers of GMEM asked for beside the mirrored space: a buffer that is bound to addresses of the GPU alone (`DRM_IOCTL_*_VM_BIND`).
 */
import * as L from '../../assembly/layout.ts';
import { fail } from '../errors.ts';
import type { AddressRange, NamesOf } from '../mm/arguments.ts';
import type { Platform } from '../mm/platform.ts';
import { TakeDown } from '../mm/take-down.ts';
import { PROT_READ, PROT_WRITE, VMA_ANONYMOUS, VMA_DEVICE, VMA_DONTFORK, VMA_PRIVATE } from '../mm/vma.ts';
import { AGAIN, DONE, type Progress, type Run, type Step } from '../step/step.ts';
import type { Context } from './context.ts';
import { MoveRange } from './move-range.ts';

/** What to reserve, and where. */
export interface ReserveOptions {
  /** Length; rounded up to whole pages. */
  readonly bytes: number;
  /** Page-aligned: exactly there. Default: the first free place, as mmap chooses. */
  readonly at?: number;
}

export const RESERVE_OPTIONS: NamesOf<ReserveOptions> = { bytes: true, at: true };

/** One of them. */
export interface PrivateRange {
  readonly start: number;
  readonly end: number;
  /** Frames that are pinned for it. */
  readonly frames: number[];
}

const LOCK = 0;
const MOVE = 1;
const MOVED = 2;
const UNDO = 3;
const UNDONE = 4;

/** The step behind `context.reserve`. */
export class Reserve implements Step {
  readonly name = 'reserve';
  private readonly platform: Platform;
  private readonly context: Context;
  private readonly pages: number;
  private readonly at: number | undefined;
  private phase = LOCK;
  private range: PrivateRange | undefined;

  constructor(platform: Platform, context: Context, pages: number, at: number | undefined) {
    this.platform = platform;
    this.context = context;
    this.pages = pages;
    this.at = at;
  }

  /** Requires: DONE. */
  get result(): AddressRange {
    return { start: this.range!.start * L.PAGE_BYTES, end: this.range!.end * L.PAGE_BYTES };
  }

  next(run: Run): Progress {
    const { context } = this;
    const { mmapLock } = context.space;
    switch (this.phase) {
      case LOCK:
        if (!mmapLock.tryAcquire(run)) return run.waitFor(mmapLock);
        context.requireWorking('reserve');
        this.promise();
        mmapLock.release(run);
        this.phase = MOVE;
        return AGAIN;
      case MOVE:
        this.phase = MOVED;
        return run.call(new MoveRange(this.platform, context).of(undefined, this.range!.start, this.range!.end, 'device'));
      case MOVED:
        this.requireThere();
        if (this.hold()) return DONE;
        this.phase = UNDO;
      // falls through
      case UNDO:
        if (!mmapLock.tryAcquire(run)) return run.waitFor(mmapLock);
        this.requireThere();
        this.phase = UNDONE;
        return run.call(new TakeDown(this.platform, context.space, this.range!.start, this.range!.end, { verb: 'unmap' }));
      default:
        mmapLock.release(run);
        throw fail('ENOMEM', 'reserve.bytes', this.pages * L.PAGE_BYTES, `do not fit the memory of ${context.name}`);
    }
  }

  abort(run: Run): void {
    const { context, platform, range } = this;
    const { mmapLock } = context.space;
    if (run.holds(mmapLock)) mmapLock.release(run);
    // The driver of the device has thrown: what is there of the range goes beside this one, which must not wait any more.
    if (range && platform.open && context.reserved.includes(range)) run.spawn(new FreeRange(platform, context, range));
  }

  /** The VMA. Throws where there is no room. */
  private promise(): void {
    const { context, pages } = this;
    const { vmas, base, first, last } = context.space;
    const start = this.at ?? vmas.gap({ pages, base, limit: last });
    if (start === undefined || start < first || start + pages > last)
      throw fail('ENOMEM', 'reserve.bytes', pages * L.PAGE_BYTES, 'have no gap in the address space');
    if (!vmas.isFree(start, start + pages)) throw fail('EINVAL', 'reserve.at', start * L.PAGE_BYTES, 'is mapped already');
    vmas.insert({
      start,
      end: start + pages,
      prot: PROT_READ | PROT_WRITE,
      flags: VMA_ANONYMOUS | VMA_PRIVATE | VMA_DEVICE | VMA_DONTFORK,
    });
    this.range = { start, end: start + pages, frames: [] };
    context.reserved.push(this.range);
  }

  /** While its pages were on their way, an exec may have unmapped the range: what is there now is somebody else's. */
  private requireThere(): void {
    const range = this.range!;
    this.context.requireWorking('reserve');
    if (!this.context.reserved.includes(range)) throw fail('EFAULT', 'reserve', range.start * L.PAGE_BYTES, 'has been unmapped meanwhile');
  }

  /** Pins every page; false when one is not where it should be. */
  private hold(): boolean {
    const { core } = this.platform;
    const { start, end, frames } = this.range!;
    for (let vpn = start; vpn < end; vpn++) {
      const frame = this.context.ownFrame(vpn);
      if (frame === L.FRAME_NONE || !core.exports.framePin(frame, 1)) return false;
      frames.push(frame);
    }
    return true;
  }
}

/** The step behind `context.free`: a private range goes. */
export class FreeRange implements Step {
  readonly name = 'free range';
  private readonly platform: Platform;
  private readonly context: Context;
  private readonly range: PrivateRange;
  private called = false;

  constructor(platform: Platform, context: Context, range: PrivateRange) {
    this.platform = platform;
    this.context = context;
    this.range = range;
  }

  next(run: Run): Progress {
    const { space } = this.context;
    if (this.called) {
      space.mmapLock.release(run);
      return DONE;
    }
    if (!space.mmapLock.tryAcquire(run)) return run.waitFor(space.mmapLock);
    this.called = true;
    // While this one waited, another may have been quicker.
    if (!this.context.reserved.includes(this.range)) return AGAIN;
    return run.call(new TakeDown(this.platform, space, this.range.start, this.range.end, { verb: 'unmap' }));
  }

  abort(run: Run): void {
    const { mmapLock } = this.context.space;
    if (run.holds(mmapLock)) mmapLock.release(run);
  }
}

/**
 * Truncating a file: its end moves first, and the pages behind it leave the cache, so that no fault brings one back; then every space that maps such pages loses them, one
 * space after the other. What is written to the file meanwhile, past the new end, is new and stays. The next truncation waits until this one is done, or copies that came to be behind the
 * end that it sets would go.
 *
 * Models: `truncate_pagecache`, `unmap_mapping_range`.
 */
import * as L from '../../assembly/layout.ts';
import { AGAIN, DONE, type Progress, type Run, type Step } from '../step/step.ts';
import type { AddressSpace } from './address-space.ts';
import { Invalidation } from './notifier.ts';
import type { MemoryFile } from './page-cache.ts';
import type { Platform } from './platform.ts';
import { zapPages } from './take-down.ts';

const BEGIN = 0;
const SPACE = 1;
const FLUSHED = 2;

/** Makes a file shorter, or longer. */
export class Truncate implements Step {
  readonly name = 'truncate';
  private readonly platform: Platform;
  private readonly file: MemoryFile;
  private readonly bytes: number;
  private readonly event: Invalidation = new Invalidation();
  /** The spaces that are done: a child that is born of one that is not has to be looked at as well. */
  private readonly done: Set<AddressSpace> = new Set();
  private space: AddressSpace | undefined;
  /** Pages of the current space that go, `[start, end)` each. */
  private parts: number[] = [];
  /** The same, and so they stay. */
  private gone: readonly number[] = [];
  private phase = BEGIN;

  constructor(platform: Platform, file: MemoryFile, bytes: number) {
    this.platform = platform;
    this.file = file;
    this.bytes = bytes;
  }

  next(run: Run): Progress {
    switch (this.phase) {
      case BEGIN: {
        const { lock } = this.file;
        if (!lock.tryAcquire(run)) return run.waitFor(lock);
        // While this one waited, the file may have been closed.
        this.file.requireOpen('truncate');
        if (this.bytes >= this.file.bytes) {
          this.file.growTo(this.bytes);
          lock.release(run);
          return DONE;
        }
        this.file.shrinkTo(this.bytes);
        this.phase = SPACE;
      }
      // falls through
      case SPACE:
        return this.nextSpace(run);
      default:
        return this.zap(run);
    }
  }

  abort(run: Run): void {
    this.event.close();
    const space = this.space;
    if (space && run.holds(space.mmapLock)) space.mmapLock.release(run);
    if (run.holds(this.file.lock)) this.file.lock.release(run);
  }

  private nextSpace(run: Run): Progress {
    const space = [...this.platform.spaces.values()].find((each) => !this.done.has(each));
    this.space = space;
    if (!space) {
      this.file.lock.release(run);
      return DONE;
    }
    if (!space.mmapLock.tryAcquire(run)) return run.waitFor(space.mmapLock);
    const limit = Math.ceil(this.bytes / L.PAGE_BYTES);
    this.parts = [];
    space.vmas.each(0, 2 ** L.VPN_BITS, (vma, start, end) => {
      if (vma.object !== this.file) return;
      const first = Math.max(start, start + limit - vma.offset);
      if (first < end) this.parts.push(first, end);
    });
    if (this.parts.length === 0) return this.leave(run, space);
    this.gone = [...this.parts];
    space.announce(this.event.set(this.parts[0]!, this.parts.at(-1)!, 'CLEAR', undefined, 'truncate'));
    this.phase = FLUSHED;
    return AGAIN;
  }

  private zap(run: Run): Progress {
    const space = this.space!;
    const { unfinished } = this.event;
    if (unfinished) return run.waitFor(unfinished);
    const locked = zapPages(this.platform, space, this.parts);
    if (locked) return run.waitFor(locked);
    for (let i = 0; i < this.gone.length; i += 2) space.devicePins.release(this.gone[i]!, this.gone[i + 1]!);
    this.event.close();
    this.report(space);
    return this.leave(run, space);
  }

  private report({ id: space }: AddressSpace): void {
    const { events } = this.platform;
    if (!events.heard) return;
    for (let i = 0; i < this.gone.length; i += 2)
      events.emit({ type: 'space.unmapped', space, vpn: this.gone[i]!, pages: this.gone[i + 1]! - this.gone[i]!, cause: 'truncate' });
  }

  private leave(run: Run, space: AddressSpace): typeof AGAIN {
    if (run.holds(space.mmapLock)) space.mmapLock.release(run);
    this.done.add(space);
    this.phase = SPACE;
    return AGAIN;
  }
}

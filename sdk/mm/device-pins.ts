/**
 * Pages that a program has pinned to a device (`hmadvise(range, 'pinned')`): no eviction, no CPU touch and no other device takes them away. Each has one pin of its frame, however often it is asked
 * for; one that others share since a fork becomes the space's own first. What ends the page, or the device's part in it, ends the pin: munmap, dontneed, exit, exec, detach, the truncation of its file, the loss of its bytes. mremap takes it along. A fork ends it for pages that the child shares, which would else be
 * written by nobody any more; left out of the child (`omit`), they stay pinned. A fork or a detach that fails gives the pins back.
 *
 * Models: GMEM_PINNED, `MADV_PINNED`, `MADV_UNPINNED`.
 */
import * as L from '../../assembly/layout.ts';
import { PageMap } from '../core/page-map.ts';
import type { Run, Waitable } from '../step/step.ts';
import { WaitQueue } from '../step/step.ts';
import type { MemoryMap } from './memory-map.ts';
import type { Node } from './node.ts';
import type { Platform } from './platform.ts';

/** The pins of one space. Whoever waits for it goes on when some of them have ended. */
export class DevicePins implements Waitable {
  readonly label: string;
  private readonly platform: Platform;
  private readonly space: MemoryMap;
  /** Frames by page. */
  private readonly frames: PageMap = new PageMap();
  /** Those that the fork under way has ended, of which there is one at a time: given back if there is no child. */
  readonly suspended: PageMap = new PageMap();
  private readonly waiters: WaitQueue = new WaitQueue();

  constructor(platform: Platform, space: MemoryMap) {
    this.platform = platform;
    this.space = space;
    this.label = `pins of space ${space.id}`;
  }

  /** How many pages. */
  get size(): number {
    return this.frames.size;
  }

  has(vpn: number): boolean {
    return this.frames.has(vpn);
  }

  /** Pins a page to the frame that it has now. False: the frame has all the pins that it can have. */
  pin(vpn: number, frame: number): boolean {
    const before = this.frames.get(vpn);
    if (before === frame) return true;
    if (!this.platform.core.exports.framePin(frame, 1)) return false;
    if (before !== undefined) this.platform.core.exports.frameUnpin(before);
    this.frames.set(vpn, frame);
    return true;
  }

  /** Ends the pins of the pages `[start, end)`, or of those on one node. `kept`: gets them, for `restore`. Returns how many. */
  release(start: number, end: number, node?: Node, kept?: PageMap): number {
    if (this.frames.size === 0) return 0;
    const { frames } = this;
    let ended = 0;
    for (let at = frames.next(0); at >= 0; at = frames.next(at + 1)) {
      const vpn = frames.pageAt(at);
      const frame = frames.valueAt(at);
      if (vpn < start || vpn >= end || (node && !node.holds(frame))) continue;
      this.platform.core.exports.frameUnpin(frame);
      kept?.set(vpn, frame);
      frames.delete(vpn);
      ended++;
    }
    if (ended > 0) {
      this.platform.settleFreed();
      this.waiters.wakeAll();
    }
    return ended;
  }

  /** Pins again what was pinned, as far as it is in the same frames. */
  restore(kept: PageMap): void {
    const { core } = this.platform;
    for (let at = kept.next(0); at >= 0; at = kept.next(at + 1)) {
      const kind = core.entry(this.space.table, kept.pageAt(at)) & L.ENTRY_KIND;
      const isThere = kind === L.KIND_DEVICE_PRIVATE || kind === L.KIND_PRESENT || kind === L.KIND_PROTNONE;
      if (isThere && core.entryLow === kept.valueAt(at)) this.pin(kept.pageAt(at), kept.valueAt(at));
    }
    kept.clear();
  }

  /** Pages have gone to another place. */
  move(from: number, to: number, pages: number): void {
    this.frames.move(from, to, pages);
  }

  enqueue(run: Run): boolean {
    if (this.frames.size === 0) return false;
    this.waiters.add(run);
    return true;
  }

  leave(run: Run): void {
    this.waiters.leave(run);
  }
}

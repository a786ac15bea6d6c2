/**
 * The pages of a fault's granule that come to the device, and the frames that they go to.
 *
 * ```
 *   pages     7 | 4 5 6 9        the faulting one first, then ascending: who gets a frame is decided by need
 *   frames    20  21 22          one frame of a page, in that order, as long as there are any
 *
 *   sort      4 5 7              those that have one, and their frames: which one is decided by address, so that neighbours lie together where they can
 *             20 21 22
 *   picks     20 21 - 22         the frames from the first page on, as a migration takes them
 * ```
 *
 * One huge page is one page with one frame. Invariant: the granule has one reference to each of its frames, until a migration or a duplication takes them over, or `release` gives them back.
 */
import * as L from '../../assembly/layout.ts';
import type { DeviceMemory } from '../mm/device-memory.ts';
import { HUGE_PAGES } from '../mm/huge-window.ts';
import type { Platform } from '../mm/platform.ts';
import { shorten } from '../mm/shorten.ts';

export class Granule {
  readonly pages: number[] = [];
  /** Below 0: the device chooses it when the page comes. */
  readonly frames: number[] = [];
  /** Frames that nobody has taken over. */
  reserved = 0;
  /** It moves as one huge page, whose first page is the only one here. */
  isHuge = false;
  /** The pages are duplicated, not moved. */
  isCopied = false;
  /** The memory of another device that they come from, over a link; undefined: they come from the host. */
  from: DeviceMemory | undefined;
  private readonly platform: Platform;
  /** What a migration is given. */
  private readonly picks: number[] = [];

  constructor(platform: Platform) {
    this.platform = platform;
  }

  /** Begins anew, with the faulting page. Requires: nothing is reserved. */
  begin(vpn: number, from?: DeviceMemory): void {
    shorten(this.pages, 0);
    this.pages.push(vpn);
    this.isHuge = false;
    this.isCopied = false;
    this.from = from;
  }

  /** It moves as the huge page from `first` on. Requires: nothing has been added. */
  asHuge(first: number): void {
    this.pages[0] = first;
    this.isHuge = true;
  }

  /** Small pages that it has. */
  get span(): number {
    return this.isHuge ? HUGE_PAGES : this.pages.length;
  }

  /** Pages without a frame. */
  get lacking(): number {
    return this.pages.length - this.reserved;
  }

  /** The next page has a frame. */
  reserve(frame: number): void {
    this.frames[this.reserved++] = frame;
  }

  /** Drops the pages without a frame, and brings the others into the order of their addresses. Returns where the faulting one is. Requires: there is a frame. */
  sort(): number {
    const { pages, frames, reserved } = this;
    shorten(pages, reserved);
    shorten(frames, reserved);
    const faulting = pages[0]!;
    let at = 0;
    for (; at + 1 < pages.length && pages[at + 1]! < faulting; at++) pages[at] = pages[at + 1]!;
    pages[at] = faulting;
    return at;
  }

  /** The frames go over to whoever asks, one after the other as the pages are. */
  handOver(): readonly number[] {
    this.reserved = 0;
    return this.frames;
  }

  /** They go over to a migration: the target of each page from the first on. Requires: sorted, all with a frame. */
  handToMigration(): readonly number[] {
    const { pages, picks } = this;
    const frames = this.handOver();
    const first = pages[0]!;
    const span = this.isHuge ? HUGE_PAGES : pages.at(-1)! - first + 1;
    shorten(picks, span);
    for (let i = 0; i < span; i++) picks[i] = L.FRAME_NONE;
    for (let i = 0; i < pages.length; i++) picks[pages[i]! - first] = frames[i]!;
    return picks;
  }

  /** Gives the frames back. */
  release(): void {
    for (let i = 0; i < this.reserved; i++) if (this.frames[i]! >= 0) this.platform.core.exports.framePut(this.frames[i]!);
    this.reserved = 0;
    this.platform.settleFreed();
  }
}

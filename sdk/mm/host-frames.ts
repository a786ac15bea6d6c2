/**
 * Host frames for what comes home: a small one for each page, a huge one for a huge page. Where there is no huge one, a huge page with an address gets as many small ones as there are, and is
 * split on its way; one that comes home by frame is split before, since a migration without a VMA cannot do it.
 */
import * as L from '../../assembly/layout.ts';
import { HUGE_PAGES } from './huge-window.ts';
import { onePlaceOf } from './places.ts';
import { FEW, type MigrationWords } from './migration-words.ts';
import type { Platform } from './platform.ts';
import { reportSplit } from './splits.ts';

export class HostFrames {
  private readonly platform: Platform;
  /** Huge frames got before anything moves, by the frame that is to come home. */
  private readonly huge: Map<number, number> = new Map();
  private words!: MigrationWords;
  /** First page of the range; undefined: by frame. */
  private vpn: number | undefined;
  private first = 0;
  /** Frames that may still be taken, one by one. */
  private most = Infinity;

  constructor(platform: Platform) {
    this.platform = platform;
  }

  /** Before frames are collected: each huge one gets a huge host frame, or is split. Returns the frames with the pages of those that were split, `most` of them. */
  prepare(frames: readonly number[], most: number): readonly number[] {
    const { core, host } = this.platform;
    let list: number[] | undefined;
    for (let i = 0; i < frames.length; i++) {
      const frame = frames[i]!;
      const flags = core.field(core.frameRecord(frame), L.FRAME_FLAGS);
      if ((flags & L.FRAME_ORDER) !== 0 && (flags & L.FRAME_STATE) === L.STATE_USED) {
        const target = host.take(L.HUGE_ORDER);
        const place = target < 0 ? onePlaceOf(this.platform, frame) : undefined;
        if (target >= 0) this.huge.set(frame, target);
        else if (place && core.exports.splitHuge(place.table, place.vpn)) {
          reportSplit(this.platform, core.field(place.table, L.TABLE_INDEX), place.vpn, 'migration');
          list ??= frames.slice(0, i);
          for (let page = 0; page < HUGE_PAGES; page++) list.push(frame + page);
          continue;
        }
      }
      list?.push(frame);
    }
    if (!list) return frames;
    list.length = Math.min(list.length, most);
    return list;
  }

  /** Gives targets to the words of a range from page `vpn` on, word `first` before all others, or to those of frames: `most` pages. */
  give(words: MigrationWords, vpn: number | undefined, first: number, most: number = Infinity): void {
    this.words = words;
    this.most = most;
    this.vpn = vpn;
    this.first = first;
    if (this.want(first)) this.wantAll();
    this.putBack();
  }

  private wantAll(): void {
    const { words } = this;
    if (words.count <= FEW) {
      for (let i = 0; i < words.count; i++) if (!this.want(i)) return;
      return;
    }
    const { core, host } = this.platform;
    for (let i = 0; i < words.count;) {
      if (words.span(i) === 1) {
        // Small ones get their frames in one go, as far as a huge one.
        this.most -= words.aimWanting(core, host.index, i, Math.min(this.most, words.count));
        i = core.stopIndex;
        if (i === words.count || words.span(i) === 1) return;
      }
      if (!this.want(i)) return;
      // By address, the words behind it are its.
      i += this.vpn === undefined ? 1 : HUGE_PAGES;
    }
  }

  /** Gives up what was got and is not needed. */
  putBack(): void {
    if (this.huge.size === 0) return;
    for (const frame of this.huge.values()) this.platform.core.exports.framePut(frame);
    this.huge.clear();
  }

  /** Gives word `i` its frame, if it is to come home and has none; false: there is none left. */
  private want(i: number): boolean {
    const words = this.words;
    const bits = words.bits(i);
    if (!(bits & L.MIGRATE_VALID)) return this.wantHead(i);
    if (words.hasTarget(i)) return true;
    return bits & L.MIGRATE_COMPOUND ? this.wantHuge(i) : this.wantSmall(i);
  }

  /** Behind the word of a huge page: the page that was touched comes first there, too. */
  private wantHead(i: number): boolean {
    if (this.vpn === undefined || i !== this.first) return true;
    const head = i - ((this.vpn + i) % HUGE_PAGES);
    return head < 0 || head === i || this.words.span(head) === 1 || this.want(head);
  }

  private wantHuge(i: number): boolean {
    const words = this.words;
    if (this.vpn === undefined) {
      const prepared = this.huge.get(words.frame(i));
      // One that has become huge since the list was made stays.
      if (prepared !== undefined) words.aim(i, prepared, true);
      this.huge.delete(words.frame(i));
      return true;
    }
    const frame = this.most < HUGE_PAGES ? L.FRAME_NONE : this.platform.host.take(L.HUGE_ORDER);
    if (frame !== L.FRAME_NONE) {
      this.most -= HUGE_PAGES;
      words.aim(i, frame, true);
      return true;
    }
    const touched = this.first > i && this.first < i + HUGE_PAGES;
    if (touched && !this.wantSmall(this.first)) return false;
    for (let page = i; page < i + HUGE_PAGES; page++) if (!words.hasTarget(page) && !this.wantSmall(page)) return false;
    return true;
  }

  private wantSmall(i: number): boolean {
    const frame = this.most > 0 ? this.platform.host.take() : L.FRAME_NONE;
    if (frame === L.FRAME_NONE) return false;
    this.most--;
    this.words.aim(i, frame, false);
    return true;
  }
}

/** Where frames are mapped: the pages of every space, by the reverse map. Who takes frames announces and withdraws these pages. */
import * as L from '../../assembly/layout.ts';
import type { Core } from '../core/abi.ts';
import { Ranges } from '../core/batch.ts';
import { PageMap } from '../core/page-map.ts';
import type { PageRun } from '../events/record.ts';
import type { AddressSpace } from './address-space.ts';
import { HUGE_PAGES } from './huge-window.ts';
import type { Platform } from './platform.ts';

/** Mappings of a frame that one call lists. */
const MAPPINGS_MAX = Math.floor(L.LIST_MAX / 3);

/** Frames that `placesOf` tells the places of. */
export const PLACES_MAX: number = L.WORDS_MAX;
/** Words of a place. */
export const PLACE_WORDS: number = L.PLACE_BYTES / 4;

/** Pages that the list has room for when it is first needed. */
const FEW_PLACES = 64;

/** Of one space: where it maps frames, and of a space that is not the first one, its pages while they are not sorted. A page, and whether its mapping is huge, are one number. */
interface Place {
  space: AddressSpace;
  readonly ranges: Ranges;
  pages: Float64Array;
  count: number;
}

/** The pages of every space that map some frames, ascending: space by space, in the order in which they were come across. Reused by its owner. A huge frame's mapping is 512 pages. Models: `rmap_walk`. */
export class Places {
  private readonly list: Place[] = [];
  private used = 0;
  /** Where in the list a space is that is not the first one, by its number. */
  private readonly indexes: PageMap = new PageMap();

  /** How many spaces. */
  get count(): number {
    return this.used;
  }

  space(i: number): AddressSpace {
    return this.list[i]!.space;
  }

  ranges(i: number): Ranges {
    return this.list[i]!.ranges;
  }

  /** Of these frames. */
  of(platform: Platform, frames: readonly number[]): this {
    this.clear();
    for (let from = 0; from < frames.length; from += PLACES_MAX)
      this.noteMany(platform, frames, from, Math.min(from + PLACES_MAX, frames.length));
    return this.sorted(platform);
  }

  /** Of one frame. */
  ofOne(platform: Platform, frame: number): this {
    this.clear();
    this.note(platform, frame);
    return this.sorted(platform);
  }

  /** Of one space and no other: whoever calls fills the ranges. */
  alone(space: AddressSpace): Ranges {
    this.clear();
    return this.add(space).ranges;
  }

  /** One space is not looked at. */
  leaveOut(space: AddressSpace): void {
    const { list } = this;
    let at = 0;
    while (at < this.used && list[at]!.space !== space) at++;
    if (at === this.used) return;
    const place = list[at]!;
    for (this.used--; at < this.used; at++) list[at] = list[at + 1]!;
    list[at] = place;
  }

  /** What has been noted, as ranges. */
  private sorted(platform: Platform): this {
    for (let i = 0; i < this.used; i++) {
      const place = this.list[i]!;
      addAll(place.ranges, i === 0 ? platform.placed : place.pages, place.count);
    }
    return this;
  }

  /** None. */
  clear(): void {
    this.used = 0;
    if (this.indexes.size > 0) this.indexes.clear();
  }

  private add(space: AddressSpace): Place {
    const place = (this.list[this.used] ??= { space, ranges: new Ranges(), pages: new Float64Array(0), count: 0 });
    place.space = space;
    place.ranges.clear();
    place.count = 0;
    if (this.used > 0) this.indexes.set(space.id, this.used);
    this.used++;
    return place;
  }

  /** Notes where frames `[from, end)` of a list are mapped: one call tells the places of all that are mapped once. */
  private noteMany(platform: Platform, frames: readonly number[], from: number, end: number): void {
    const { core } = platform;
    const { u32 } = core;
    let at = placesOf(core, frames, from, end);
    for (let i = from; i < end; i++, at += PLACE_WORDS) {
      const pages = u32[at + 3]!;
      if (pages & L.PLACE_MORE) this.note(platform, frames[i]!);
      else this.put(platform, u32[at]!, (u32[at + 2]! * 2 ** 32 + u32[at + 1]!) * 2 + (pages > 1 ? 1 : 0));
    }
  }

  /** Notes the pages that map a frame. A function of its own: it is called for each, and then V8 has compiled it. */
  private note(platform: Platform, frame: number): void {
    const { core } = platform;
    const { u32 } = core;
    const list = core.area(L.AREA_LIST);
    const record = core.frameRecord(frame);
    if (u32[(record + L.FRAME_RMAP_OWNER) >>> 2] === 0) return;
    const huge = core.field(record, L.FRAME_FLAGS) & L.FRAME_ORDER ? 1 : 0;
    const mappings = core.exports.rmapList(frame, list, MAPPINGS_MAX);
    for (let at = list >>> 2, left = mappings; left > 0; at += 3, left--)
      this.put(platform, u32[at]!, (u32[at + 2]! * 2 ** 32 + u32[at + 1]!) * 2 + huge);
  }

  /** A page of the space whose home table has this index, unless there is none. */
  private put(platform: Platform, table: number, page: number): void {
    const space = platform.spaces.get(table);
    if (!space) return;
    const place = this.placeOf(space);
    // Most are of one space: its pages are in a list that all have in common.
    if (place === this.list[0]) {
      if (place.count === platform.placed.length) platform.placed = longer(platform.placed);
      platform.placed[place.count++] = page;
    } else {
      if (place.count === place.pages.length) place.pages = longer(place.pages);
      place.pages[place.count++] = page;
    }
  }

  private placeOf(space: AddressSpace): Place {
    if (this.used > 0 && this.list[0]!.space === space) return this.list[0]!;
    const at = this.used > 1 ? this.indexes.get(space.id) : undefined;
    return at === undefined ? this.add(space) : this.list[at]!;
  }
}

/** Adds the first `count` pages, sorted. */
function addAll(ranges: Ranges, pages: Float64Array, count: number): void {
  if (!isAscending(pages, count)) pages.subarray(0, count).sort();
  for (let i = 0; i < count; i++) {
    const huge = pages[i]! % 2;
    ranges.add((pages[i]! - huge) / 2, huge === 1 ? HUGE_PAGES : 1);
  }
}

function isAscending(pages: Float64Array, count: number): boolean {
  for (let i = 1; i < count; i++) if (pages[i]! < pages[i - 1]!) return false;
  return true;
}

function longer(list: Float64Array): Float64Array {
  const next = new Float64Array(Math.max(FEW_PLACES, 2 * list.length));
  next.set(list);
  return next;
}

/**
 * Where frames `[from, end)` of a list are mapped first, at most PLACES_MAX of them: PLACE_WORDS words each, from the index in `core.u32` that is returned on; see `rmapPlaces`. Borrowed until somebody else asks the core
 * for places or runs.
 */
export function placesOf(core: Core, frames: readonly number[], from: number, end: number): number {
  const list = core.area(L.AREA_LIST);
  const output = core.area(L.AREA_EXTENTS);
  for (let i = from, at = list >>> 2; i < end; i++, at++) core.u32[at] = frames[i]!;
  core.exports.rmapPlaces(list, end - from, output);
  return output >>> 2;
}

/** The pages that map a frame, at most `most` of them: the space's number and its first page. */
export function mappingsOf({ core }: Platform, frame: number, most: number): { readonly space: number; readonly vpn: number }[] {
  const found = core.exports.rmapList(frame, core.area(L.AREA_LIST), Math.min(most, MAPPINGS_MAX));
  const words = core.words(L.AREA_LIST, found * 3);
  return Array.from({ length: found }, (_, i) => ({ space: words[i * 3]!, vpn: words[i * 3 + 2]! * 2 ** 32 + words[i * 3 + 1]! }));
}

/** The same for events: space by space, ascending. */
export function runsOf(platform: Platform, frames: readonly number[]): PageRun[] {
  const runs: PageRun[] = [];
  const places = new Places().of(platform, frames);
  for (let i = 0; i < places.count; i++) {
    const { id: space } = places.space(i);
    places.ranges(i).each((vpn, pages) => void runs.push({ space, vpn, pages }));
  }
  return runs;
}

/** One page that maps a frame: its space's home table and page number; undefined when none does. */
export function onePlaceOf(platform: Platform, frame: number): { readonly table: number; readonly vpn: number } | undefined {
  const { core } = platform;
  const found = core.exports.rmapList(frame, core.area(L.AREA_LIST), 1);
  if (found === 0) return undefined;
  const [index, low, high] = core.words(L.AREA_LIST, 3) as unknown as [number, number, number];
  return { table: core.tableAt(index), vpn: high * 2 ** 32 + low };
}

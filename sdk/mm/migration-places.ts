/** Where frames are mapped: the pages of every space, by the reverse map. What a migration by frame announces and withdraws. */
import * as L from '../../assembly/layout.ts';
import { Ranges } from '../core/batch.ts';
import type { PageRun } from '../events.ts';
import type { AddressSpace } from './address-space.ts';
import { HUGE_PAGES } from './huge-window.ts';
import type { Platform } from './platform.ts';

/** Mappings of a frame that one call lists. */
const MAPPINGS_MAX = Math.floor(L.LIST_MAX / 3);

/** Pages that the list has room for when it is first needed. */
const FEW_PLACES = 64;

/** The pages of every space that map these frames, ascending. A huge frame's mapping is 512 pages. Models: `rmap_walk`. */
export function placesOf(platform: Platform, frames: readonly number[]): Map<AddressSpace, Ranges> {
  const found: Found = { ranges: new Map(), only: undefined, count: 0, others: undefined };
  for (let i = 0; i < frames.length; i++) note(platform, frames[i]!, found);
  if (found.only) addAll(found.ranges.get(found.only)!, platform.placed.subarray(0, found.count).sort());
  if (found.others) for (const [space, pages] of found.others) addAll(found.ranges.get(space)!, Float64Array.from(pages).sort());
  return found.ranges;
}

/** Where frames are mapped, so far. Most are of one space: its pages, `count` of them, are sorted in a list that is kept. A page, and whether its mapping is huge, are one number. */
interface Found {
  readonly ranges: Map<AddressSpace, Ranges>;
  only: AddressSpace | undefined;
  count: number;
  others: Map<AddressSpace, number[]> | undefined;
}

/** Notes the pages that map a frame. A function of its own: it is called for each, and then V8 has compiled it. */
function note(platform: Platform, frame: number, found: Found): void {
  const { core } = platform;
  const { u32 } = core;
  const list = core.area(L.AREA_LIST);
  const record = core.frameRecord(frame);
  if (core.field(record, L.FRAME_RMAP_OWNER) === 0) return;
  const huge = core.field(record, L.FRAME_FLAGS) & L.FRAME_ORDER ? 1 : 0;
  const mappings = core.exports.rmapList(frame, list, MAPPINGS_MAX);
  for (let at = list >>> 2, left = mappings; left > 0; at += 3, left--) {
    const space = platform.spaces.get(u32[at]!);
    if (!space) continue;
    if (!found.ranges.has(space)) found.ranges.set(space, new Ranges());
    found.only ??= space;
    const page = (u32[at + 2]! * 2 ** 32 + u32[at + 1]!) * 2 + huge;
    if (space !== found.only) noteOther(found, space, page);
    else {
      if (found.count === platform.placed.length) platform.placed = longer(platform.placed);
      platform.placed[found.count++] = page;
    }
  }
}

function noteOther(found: Found, space: AddressSpace, page: number): void {
  const others = (found.others ??= new Map());
  const pages = others.get(space);
  if (pages) pages.push(page);
  else others.set(space, [page]);
}

function addAll(ranges: Ranges, pages: Float64Array): void {
  for (let i = 0; i < pages.length; i++) {
    const huge = pages[i]! % 2;
    ranges.add((pages[i]! - huge) / 2, huge === 1 ? HUGE_PAGES : 1);
  }
}

function longer(list: Float64Array): Float64Array {
  const next = new Float64Array(Math.max(FEW_PLACES, 2 * list.length));
  next.set(list);
  return next;
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
  for (const [{ id: space }, ranges] of placesOf(platform, frames)) ranges.each((vpn, pages) => void runs.push({ space, vpn, pages }));
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

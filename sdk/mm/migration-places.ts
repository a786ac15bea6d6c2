/** Where frames are mapped: the pages of every space, by the reverse map. What a migration by frame announces and withdraws. */
import * as L from '../../assembly/layout.ts';
import { Ranges } from '../core/batch.ts';
import type { PageRun } from '../events.ts';
import type { AddressSpace } from './address-space.ts';
import { HUGE_PAGES } from './huge-window.ts';
import type { Platform } from './platform.ts';

/** The pages of every space that map these frames, ascending. A huge frame's mapping is 512 pages. Models: `rmap_walk`. */
export function placesOf(platform: Platform, frames: readonly number[]): Map<AddressSpace, Ranges> {
  const { core } = platform;
  const bySpace = new Map<AddressSpace, { readonly vpn: number; readonly pages: number }[]>();
  const list = core.words(L.AREA_LIST, 3);
  for (const frame of frames) {
    const record = core.frameRecord(frame);
    if (core.field(record, L.FRAME_RMAP_OWNER) === 0) continue;
    const pages = core.field(record, L.FRAME_FLAGS) & L.FRAME_ORDER ? HUGE_PAGES : 1;
    const mappings = core.exports.rmapList(frame, core.area(L.AREA_LIST), L.LIST_MAX / 3);
    const words = mappings === 1 ? list : core.words(L.AREA_LIST, mappings * 3);
    for (let i = 0; i < mappings; i++) {
      const space = platform.spaces.get(words[i * 3]!);
      if (!space) continue;
      const place = { vpn: words[i * 3 + 2]! * 2 ** 32 + words[i * 3 + 1]!, pages };
      const places = bySpace.get(space);
      if (places) places.push(place);
      else bySpace.set(space, [place]);
    }
  }
  const result = new Map<AddressSpace, Ranges>();
  for (const [space, places] of bySpace) {
    const ranges = new Ranges();
    for (const { vpn, pages } of places.sort((a, b) => a.vpn - b.vpn)) ranges.add(vpn, pages);
    result.set(space, ranges);
  }
  return result;
}

/** The pages that map a frame, at most `most` of them: the space's number and its first page. */
export function mappingsOf({ core }: Platform, frame: number, most: number): { readonly space: number; readonly vpn: number }[] {
  const found = core.exports.rmapList(frame, core.area(L.AREA_LIST), Math.min(most, L.LIST_MAX / 3));
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

/** What transfers cost by the constants of a preset. Pure. */
import * as L from '../../assembly/layout.ts';
import type { Way } from '../events/cause.ts';
import type { PresetConstants } from '../policy/preset.ts';

/** Ways that go over a link. */
export type LinkWay = Exclude<Way, 'swapOut' | 'swapIn'>;

/** Nanoseconds of one transfer of so many pages, rounded down. */
export function transferNs(pages: number, way: LinkWay, preset: PresetConstants): number {
  const psPerKiB = preset[`${way}PsPerKiB`];
  return preset.linkLatencyNs + Math.floor((pages * (L.PAGE_BYTES / 1024) * psPerKiB) / 1000);
}

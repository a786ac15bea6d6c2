/** What transfers cost by the constants of a preset. Pure. */
import * as L from '../../assembly/layout.ts';
import type { Way } from '../events.ts';
import type { PresetConstants } from '../policy/preset.ts';

/** Nanoseconds of one transfer of so many pages, rounded down. */
export function transferNs(pages: number, way: Way, preset: PresetConstants): number {
  const psPerKiB = preset[`${way}PsPerKiB`];
  return preset.linkLatencyNs + Math.floor((pages * (L.PAGE_BYTES / 1024) * psPerKiB) / 1000);
}

/** What transfers cost by the constants of a preset. Pure. */
import * as L from '../../assembly/layout.ts';
import type { PresetConstants } from '../policy/preset.ts';

/** Nanoseconds of one transfer of so many pages, rounded down. */
export function transferNs(pages: number, way: 'toDevice' | 'toHost', preset: PresetConstants): number {
  const psPerKiB = way === 'toDevice' ? preset.toDevicePsPerKiB : preset.toHostPsPerKiB;
  return preset.linkLatencyNs + Math.floor((pages * (L.PAGE_BYTES / 1024) * psPerKiB) / 1000);
}

/**
 * Windows: aligned stretches of pages that one entry can map. Pure: where they are, not what is in them.
 */
import * as L from '../../assembly/layout.ts';
import type { Vma } from './vma.ts';

/** Pages of a huge page. */
export const HUGE_PAGES: number = 2 ** L.HUGE_ORDER;

/** Pages that an entry maps: 1, or those of a block. `high`: its high word. */
export function windowPages(high: number): number {
  return 2 ** ((high & L.ENTRY_ORDER) >>> L.ENTRY_ORDER_SHIFT);
}

/** First page of the stretch that the entry of a page maps. */
export function windowStart(vpn: number, high: number): number {
  return vpn - (vpn % windowPages(high));
}

/** First page of the 2 MiB around a page, or -1 when they are not all in the VMA. Models: `thp_vma_suitable_order`. */
export function hugeWindow(vma: Vma, vpn: number): number {
  const start = vpn - (vpn % HUGE_PAGES);
  return start >= vma.start && start + HUGE_PAGES <= vma.end ? start : -1;
}

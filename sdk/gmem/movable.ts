/** Which pages of a space a device may take into its memory, and where they do so as one huge page. Leaves: no state, no step. */
import * as L from '../../assembly/layout.ts';
import type { AddressSpace } from '../mm/address-space.ts';
import { HUGE_PAGES, hugeWindow } from '../mm/huge-window.ts';
import type { Platform } from '../mm/platform.ts';
import { isAnonymous, isHugetlb, isSpecial, type Vma, VMA_HUGEPAGE, VMA_PRIVATE } from '../mm/vma.ts';

/**
 * Whether a present page may go to a device's memory: anonymous, on the host. Pages of files and of shared memory, hugetlb and special ones, and those in the coherent memory of another
 * device are used where they are. Models: what `migrate_vma_collect_pmd` takes with MIGRATE_VMA_SELECT_SYSTEM, less what `migrate_vma_pages` refuses.
 */
export function mayMove(platform: Platform, vma: Vma, high: number, frame: number): boolean {
  if (high & L.ENTRY_ZERO) return isAnonymous(vma);
  if (!platform.host.holds(frame)) return false;
  if (isAnonymous(vma)) return true;
  // What a private file mapping has copied for itself is anonymous.
  if (!(vma.flags & VMA_PRIVATE) || isHugetlb(vma) || isSpecial(vma)) return false;
  const { core } = platform;
  return (core.field(core.frameRecord(frame), L.FRAME_FLAGS) & L.FRAME_FILE) === 0;
}

/**
 * Whether the 2 MiB from page `vpn` on are one huge page that may move as such, or a hole that would become one: in a VMA that is advised to have huge pages.
 * `high`: entry of one of the pages, by which it may move.
 */
export function isWholeBlock(platform: Platform, space: AddressSpace, vma: Vma, vpn: number, high: number): boolean {
  if (hugeWindow(vma, vpn) !== vpn) return false;
  if ((high & L.ENTRY_KIND) === L.KIND_PRESENT) return (high & L.ENTRY_ORDER) !== 0;
  return (vma.flags & VMA_HUGEPAGE) !== 0 && platform.core.exports.rangeNext(space.table, vpn, HUGE_PAGES) < 0;
}

/**
 * Which pages of a fault's granule come to the device along with the faulting one: those that are where it is, and that the device's policy places as it does. Changes nothing but the list of the granule: no state, no step.
 *
 * All require that the granule has begun, with the faulting page. Models: what `migrate_vma_collect_pmd` takes of the range that a driver's fault handler asks for.
 */
import * as L from '../../assembly/layout.ts';
import { HUGE_PAGES, hugeWindow } from '../mm/huge-window.ts';
import type { Platform } from '../mm/platform.ts';
import { isAnonymous, type Vma } from '../mm/vma.ts';
import { originalOf } from './duplicate.ts';
import type { FaultPolicy } from './fault-policy.ts';
import type { Granule } from './granule.ts';
import { isWholeBlock, mayMove } from './movable.ts';
import { pageState } from './page-state.ts';

/** The first page of the granule, where it is one huge page, or a hole that is to be one, and the policy sees no difference in it. `high`: entry of the faulting page. */
export function wholeGranule({ pages, from }: Granule, policy: FaultPolicy, vma: Vma, high: number): number | undefined {
  const { platform, context } = policy;
  const { space, device } = context;
  const { start, end } = space.granule(pages[0]!, device.granulePages);
  if (end - start !== HUGE_PAGES || !policy.isUniform(start, end)) return undefined;
  const isWhole = from ? (high & L.ENTRY_ORDER) !== 0 && hugeWindow(vma, start) === start : isWholeBlock(platform, space, vma, start, high);
  return isWhole ? start : undefined;
}

/** Lists those that move with the faulting page. */
export function gatherMoving(granule: Granule, policy: FaultPolicy, vma: Vma, write: boolean): void {
  const { space, device } = policy.context;
  const faulting = granule.pages[0]!;
  const { start, end } = space.granule(faulting, device.granulePages);
  for (let vpn = start; vpn < end; vpn++) if (vpn !== faulting && moves(granule, policy, vma, vpn, write)) granule.pages.push(vpn);
}

/** Lists those that are duplicated with the faulting page: which have no copy on the device yet. */
export function gatherCopied({ pages }: Granule, policy: FaultPolicy): void {
  const { platform, context } = policy;
  const { space, device, replicas } = context;
  const faulting = pages[0]!;
  const { start, end } = space.granule(faulting, device.granulePages);
  for (let vpn = start; vpn < end; vpn++) {
    if (vpn === faulting || replicas.at(vpn) !== undefined) continue;
    const frame = originalOf(platform, space, vpn);
    if (frame !== L.FRAME_NONE && policy.choose(vpn, false, 'host', frame) === 'duplicate') pages.push(vpn);
  }
}

function moves(granule: Granule, policy: FaultPolicy, vma: Vma, vpn: number, write: boolean): boolean {
  const { platform, context } = policy;
  const { space, device } = context;
  const high = platform.core.entry(space.table, vpn);
  const frame = platform.core.entryLow;
  if (!isWithFaulting(granule, platform, vma, high, frame)) return false;
  if (!policy.asks) return true;
  // Copies that others have of it are worth more than its coming along.
  if (high & L.ENTRY_REPLICATED) return false;
  return policy.choose(vpn, write, pageState(platform, device, vma, high, frame), frame) === 'migrate';
}

/** Whether a page is where the faulting one is: in the memory that the granule comes from, or, without one, on the host or nowhere yet. */
function isWithFaulting({ from }: Granule, platform: Platform, vma: Vma, high: number, frame: number): boolean {
  const kind = high & L.ENTRY_KIND;
  if (from) return kind === L.KIND_DEVICE_PRIVATE && from.node.holds(frame);
  return kind === L.KIND_PRESENT ? mayMove(platform, vma, high, frame) : kind === L.KIND_NONE && isAnonymous(vma);
}

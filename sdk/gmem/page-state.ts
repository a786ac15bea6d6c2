/** Where a page is, as a device that wants it sees it. Leaves: no state, no step. */
import * as L from '../../assembly/layout.ts';
import type { Platform } from '../mm/platform.ts';
import { isAnonymous, type Vma } from '../mm/vma.ts';
import type { Device } from './device.ts';
import type { PageState } from './fault-table.ts';
import { mayMove } from './movable.ts';

/** What the fault table calls the state that a home entry says: its high word, and its frame. */
export function pageState(platform: Platform, device: Device, vma: Vma, high: number, frame: number): PageState {
  switch (high & L.ENTRY_KIND) {
    case L.KIND_NONE:
      return isAnonymous(vma) ? 'nothing' : 'elsewhere';
    case L.KIND_PRESENT:
      if (device.holding(frame)) return 'own';
      if (!mayMove(platform, vma, high, frame)) return 'fixed';
      return high & L.ENTRY_ZERO ? 'nothing' : 'host';
    case L.KIND_DEVICE_PRIVATE:
      return platform.nodes.of(frame).owner === device.owner ? 'own' : 'other';
    case L.KIND_MIGRATION:
      return 'moving';
    case L.KIND_EXCLUSIVE:
    case L.KIND_SWAP:
    case L.KIND_PROTNONE:
      return 'withheld';
    default:
      return 'lost';
  }
}

/** Whether the device's accesses reach a page in the private memory of another one: a coherent link, and bytes that are in the machine. */
export function isReachable({ nodes, links }: Platform, device: Device, frame: number): boolean {
  const { owner, bytesIn } = nodes.of(frame);
  return bytesIn === 'backed' && links.between(device.owner, owner)?.coherent === true;
}

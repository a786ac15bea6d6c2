/** Asking a device's policy where a page is to be used. */
import type { Platform } from '../mm/platform.ts';
import { type Placement, placementOf, type PlacementQuestion } from '../policy/placement.ts';
import type { Device } from './device.ts';

/** The answer; a policy of somebody's own is called, and must not call the machine. */
export function choosePlacement({ scheduler }: Platform, device: Device, question: PlacementQuestion): Placement {
  const { placement } = device.policy;
  if (placement?.choose === undefined) return placementOf(question, placement);
  const outer = scheduler.beginCall(`the placement policy of ${device.name}`);
  try {
    return placementOf(question, placement);
  } finally {
    scheduler.endCall(outer);
  }
}

/** What both drivers do with the records of a batch before they serve them: refuse those without a right, merge those of one page. */
import type { FaultRecord } from './lanes.ts';
import type { ModelSpace } from './space.ts';
import { allows } from './vma.ts';

/** All records of one page that a VMA allows: the strongest access. */
export interface MergedFault {
  readonly vpn: number;
  readonly write: boolean;
}

/** The records of a batch by page, pages ascending. */
export function recordsByPage(records: readonly FaultRecord[]): FaultRecord[][] {
  const pages = new Map<number, FaultRecord[]>();
  for (const record of records) {
    const same = pages.get(record.vpn);
    if (same === undefined) pages.set(record.vpn, [record]);
    else same.push(record);
  }
  return [...pages.values()].sort(([a], [b]) => a!.vpn - b!.vpn);
}

/** Merges the records of one page. Those that the VMA does not allow are cancelled: their lanes join `cancelled`. Undefined when none is left. */
export function mergedFault(space: ModelSpace, records: readonly FaultRecord[], cancelled: Set<number>): MergedFault | undefined {
  const allowed = records.filter((record) => isAllowed(space, record, cancelled));
  if (allowed.length === 0) return undefined;
  return { vpn: allowed[0]!.vpn, write: allowed.some((record) => record.write) };
}

/** True when the VMA allows the access; otherwise the lane's access will be dropped as failed. */
export function isAllowed(space: ModelSpace, record: FaultRecord, cancelled: Set<number>): boolean {
  if (allows(space.vmas.find(record.vpn), record.write)) return true;
  cancelled.add(record.lane);
  return false;
}

/**
 * What nouveau makes of a fault buffer: one fault a page, sorted by address, so that the pages of a granule are served together and a duplicate costs nothing.
 *
 * Models: `nouveau_svm_fault`, which sorts by instance, address and access and skips duplicates.
 */
import type { BatchFault, DeviceFaultRecord } from '../../sdk/gmem/index.ts';

/** Records of one page as one fault: the strongest access, whether anybody only reads, the union of the spans. Ascending by page. */
export function coalesce(records: readonly DeviceFaultRecord[]): readonly BatchFault[] {
  // The common batch has nothing to be sorted or merged.
  if (records.length === 1) return records;
  const sorted = [...records].sort((a, b) => a.vpn - b.vpn || Number(a.write) - Number(b.write));
  const faults: BatchFault[] = [];
  for (const { vpn, write, spanStart, spanPages } of sorted) {
    const last = faults[faults.length - 1];
    if (last?.vpn !== vpn) {
      faults.push({ vpn, write, reads: !write, spanStart, spanPages });
      continue;
    }
    const start = Math.min(last.spanStart, spanStart);
    const end = Math.max(last.spanStart + last.spanPages, spanStart + spanPages);
    faults[faults.length - 1] = {
      vpn,
      write: last.write || write,
      reads: last.reads === true || !write,
      spanStart: start,
      spanPages: end - start,
    };
  }
  return faults;
}

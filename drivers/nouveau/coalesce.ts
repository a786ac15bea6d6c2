/**
 * What nouveau makes of a fault buffer: one fault a page, sorted by address, so that the pages of a granule are served together and a duplicate costs nothing.
 *
 * Models: `nouveau_svm_fault`, which sorts by instance, address and access and skips duplicates.
 */
import type { BatchFault, DeviceFaultRecord } from '../../sdk/gmem/index.ts';

/** Several records as one fault. */
type Merged = { -readonly [field in keyof BatchFault]: BatchFault[field] };

/** Records that a fault buffer can have, and more. */
const RECORDS = 2 ** 14;

/** What one context makes of its batches, one after the other: list and faults are those of the last one, written again. */
export class Coalescer {
  private readonly faults: BatchFault[] = [];
  private readonly merged: Merged[] = [];
  private keys: Float64Array = new Float64Array(0);

  /** Records of one page as one fault: the strongest access, whether anybody only reads, the union of the spans. Ascending by page. */
  of(records: readonly DeviceFaultRecord[]): readonly BatchFault[] {
    const n = records.length;
    // The common batch has nothing to be sorted or merged.
    if (n === 1) return records;
    const { faults, merged } = this;
    const order = this.sorted(records);
    let count = 0;
    let made = 0;
    for (let i = 0; i < n; i++) {
      const record = records[order[i]! % RECORDS]!;
      const last = count > 0 ? faults[count - 1]! : undefined;
      if (last?.vpn !== record.vpn) {
        faults[count++] = record;
        continue;
      }
      // Reads of a page come before its writes.
      const reads = last.reads ?? !last.write;
      const start = Math.min(last.spanStart, record.spanStart);
      const end = Math.max(last.spanStart + last.spanPages, record.spanStart + record.spanPages);
      const fault = made > 0 && merged[made - 1] === last ? merged[made - 1]! : (merged[made++] ??= { ...last });
      fault.vpn = record.vpn;
      fault.write = record.write;
      fault.reads = reads;
      fault.spanStart = start;
      fault.spanPages = end - start;
      faults[count - 1] = fault;
    }
    faults.length = count;
    return faults;
  }

  /** By page, what reads before what writes, then in the order of their coming. The numbers of the records are what is left by RECORDS. */
  private sorted(records: readonly DeviceFaultRecord[]): Float64Array {
    const n = records.length;
    if (this.keys.length < n) this.keys = new Float64Array(n);
    const { keys } = this;
    for (let i = 0; i < n; i++) {
      const { vpn, write } = records[i]!;
      keys[i] = (vpn * 2 + Number(write)) * RECORDS + i;
    }
    return keys.subarray(0, n).sort();
  }
}

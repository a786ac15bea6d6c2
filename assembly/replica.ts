import {
  ENTRY_CPU_READS,
  ENTRY_KIND,
  ENTRY_ORDER,
  ENTRY_REPLICATED,
  ENTRY_WRITE,
  ENTRY_ZERO,
  FRAME_FILE,
  FRAME_FLAGS,
  FRAME_NONE,
  FRAME_REPLICA,
  FRAME_RMAP,
  H_STOP_REASON,
  KIND_PRESENT,
  STOP_NONE,
  STOP_REFUSED,
  TABLE_INDEX,
  TABLE_TLB,
} from './layout';
import { frameCharge, frameRecord } from './frame';
import { leafSlot } from './table';
import { tlbDrop } from './tlb';

/**
 * Copies of a page that devices keep: many read, nobody writes.
 *
 * ```
 *   present              -- duplicateSet -->  present, no write, CPU_READS, REPLICATED   -- mapReuse -->  present, write
 *   used frame, unmapped -- replicaSet  -->   REPLICA, names its original                -- replicaPart --> REPLICA, of nothing  -- framePut --> free
 * ```
 */

/** Takes write from a present order-0 page of anonymous memory in `frame`, and says that there are copies of it. Returns 1, or 0 (STOP_REFUSED) when it is not that page any more. */
export function duplicateSet(table: u32, vpn: f64, frame: u32): u32 {
  const slot = leafSlot(table, <u64>vpn),
    high = slot ? load<u32>(slot, 4) : 0;
  store<u32>(H_STOP_REASON, STOP_REFUSED);
  if ((high & (ENTRY_KIND | ENTRY_ZERO | ENTRY_ORDER)) != KIND_PRESENT || load<u32>(slot) != frame) return 0;
  if (load<u32>(frameRecord(frame), FRAME_FLAGS) & FRAME_FILE) return 0;
  store<u32>(H_STOP_REASON, STOP_NONE);
  store<u32>(slot, (high & ~ENTRY_WRITE) | ENTRY_CPU_READS | ENTRY_REPLICATED, 4);
  const tlb = load<u32>(table, TABLE_TLB);
  if (tlb) tlbDrop(tlb, <u64>vpn);
  return 1;
}

/** A used order-0 frame without mappings, with one reference, is a copy of `original` from now on; the space of `table` pays. */
export function replicaSet(frame: u32, original: u32, table: u32): void {
  const record = frameRecord(frame);
  store<u32>(record, load<u32>(record, FRAME_FLAGS) | FRAME_REPLICA, FRAME_FLAGS);
  store<u32>(record, original, FRAME_RMAP);
  frameCharge(record, load<u32>(table, TABLE_INDEX));
}

/** The original may change from now on: its device does not use the copy any more, or will not when its flush has ended. */
export function replicaPart(frame: u32): void {
  store<u32>(frameRecord(frame), FRAME_NONE, FRAME_RMAP);
}

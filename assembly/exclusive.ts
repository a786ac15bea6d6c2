import {
  ENTRY_ANON_EXCLUSIVE,
  ENTRY_CPU_READS,
  ENTRY_DIRTY,
  ENTRY_KIND,
  ENTRY_NO_ACCESS,
  ENTRY_WRITE,
  ENTRY_ZERO,
  FRAME_FILE,
  FRAME_FLAGS,
  H_STOP_REASON,
  KIND_EXCLUSIVE,
  KIND_PRESENT,
  KIND_PROTNONE,
  RIGHT_READ,
  RIGHT_WRITE,
  STOP_NONE,
  STOP_REFUSED,
  TABLE_TLB,
} from './layout';
import { backingDrop } from './backing';
import { frameRecord } from './frame';
import { leafSlot } from './table';
import { tlbDrop } from './tlb';

/**
 * Pages that only a device may touch, for its atomics.
 *
 * ```
 *   present, write, anon-exclusive  -- exclusiveSet -->  exclusive                -- exclusiveClear --> present, with the rights of the VMA
 *                                   -- cpuReadsSet  -->  present, CPU_READS       -- mapReuse -->       present, write
 * ```
 *
 * An exclusive page has one mapping: it is anon-exclusive, and a fork makes it present again first.
 *
 * Models: `make_device_exclusive`, `restore_exclusive_pte`.
 */

/** The slot of a present order-0 entry of an anonymous frame that is this space's own and has the bits `wanted`; 0 with STOP_REFUSED. */
function ownSlot(table: u32, vpn: f64, wanted: u32): u32 {
  const slot = leafSlot(table, <u64>vpn),
    high = slot ? load<u32>(slot, 4) : 0;
  store<u32>(H_STOP_REASON, STOP_REFUSED);
  if ((high & (ENTRY_KIND | ENTRY_ZERO | wanted)) != (KIND_PRESENT | wanted)) return 0;
  if (load<u32>(frameRecord(load<u32>(slot)), FRAME_FLAGS) & FRAME_FILE) return 0;
  store<u32>(H_STOP_REASON, STOP_NONE);
  // The device writes without a mark in this table.
  backingDrop(load<u32>(slot));
  return slot;
}

/** Writes the high word of an entry and drops the CPU's translation. */
function rewrite(table: u32, vpn: f64, slot: u32, high: u32): void {
  store<u32>(slot, high, 4);
  const tlb = load<u32>(table, TABLE_TLB);
  if (tlb) tlbDrop(tlb, <u64>vpn);
}

/** Makes a present, writable, anon-exclusive order-0 page exclusive. Returns 1, or 0 (STOP_REFUSED) when it is not such a page any more. */
export function exclusiveSet(table: u32, vpn: f64): u32 {
  const slot = ownSlot(table, vpn, ENTRY_WRITE | ENTRY_ANON_EXCLUSIVE);
  if (!slot) return 0;
  rewrite(table, vpn, slot, (load<u32>(slot, 4) & ~ENTRY_KIND) | KIND_EXCLUSIVE);
  return 1;
}

/** What an exclusive entry becomes under the rights of its VMA. The device may have written: with write, it is dirty. */
export function revoked(high: u32, rights: u32): u32 {
  let now = high & ~(ENTRY_KIND | ENTRY_WRITE | ENTRY_NO_ACCESS);
  if (!(rights & RIGHT_READ)) return now | KIND_PROTNONE;
  now |= KIND_PRESENT;
  if (rights & RIGHT_WRITE && high & ENTRY_ANON_EXCLUSIVE) now |= ENTRY_WRITE | ENTRY_DIRTY;
  return now;
}

/** Makes an exclusive page present again; writable iff `rights` (RIGHT_*, of the VMA) allow and it is still anon-exclusive; protnone without RIGHT_READ. Returns 1, or 0 when it is not exclusive. */
export function exclusiveClear(table: u32, vpn: f64, rights: u32): u32 {
  const slot = leafSlot(table, <u64>vpn),
    high = slot ? load<u32>(slot, 4) : 0;
  if ((high & ENTRY_KIND) != KIND_EXCLUSIVE) return 0;
  rewrite(table, vpn, slot, revoked(high, rights));
  return 1;
}

/** The variant in which the CPU may read: takes write from a present, anon-exclusive page and sets ENTRY_CPU_READS. Returns 1, or 0 (STOP_REFUSED). */
export function cpuReadsSet(table: u32, vpn: f64): u32 {
  const slot = ownSlot(table, vpn, ENTRY_ANON_EXCLUSIVE);
  if (!slot) return 0;
  rewrite(table, vpn, slot, (load<u32>(slot, 4) & ~ENTRY_WRITE) | ENTRY_CPU_READS);
  return 1;
}

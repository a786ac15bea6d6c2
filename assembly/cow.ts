import {
  ENTRY_ACCESSED,
  ENTRY_ANON_EXCLUSIVE,
  ENTRY_DEVICE,
  ENTRY_DIRTY,
  ENTRY_EXEC,
  ENTRY_KIND,
  ENTRY_WRITE,
  ENTRY_ZERO,
  FRAME_DIRTY,
  FRAME_FILE,
  FRAME_FLAGS,
  FRAME_NONE,
  FRAME_REFS,
  H_STOP_REASON,
  KIND_DEVICE_PRIVATE,
  KIND_EXCLUSIVE,
  KIND_MIGRATION,
  KIND_PRESENT,
  KIND_PROTNONE,
  KIND_POISON,
  KIND_SPECIAL,
  KIND_SWAP,
  STOP_CHAIN,
  STOP_FRAMES,
  STOP_NONE,
  STOP_REFUSED,
  TABLE_INDEX,
  TABLE_TLB,
} from './layout';
import { frameCharge, frameCopy, frameGet, frameMaps, framePut, frameRecord, frameTake } from './frame';
import { rmapAdd, rmapFirst, rmapLow, rmapNext, rmapOwner, rmapRemove, rmapTable, rmapVpn } from './rmap';
import { levelShift, makeLeafSlot, pruneLeaf, seek, slotOf, writeLeaf } from './table';
import { tlbDrop, tlbDropRange } from './tlb';

/**
 * Pages that several entries name: who may write in place, and who copies.
 *
 * ```
 *  a write to a present page that the entry does not let through
 *    canReuse: anonymous, and nobody else holds the frame   -> mapReuse: the right appears in place
 *    page of a shared object, shared mapping                -> mapShared: the same, and dirty
 *    everything else                                        -> mapCopy: a frame of this space's own
 * ```
 *
 * Models: `do_wp_page`, `wp_can_reuse_anon_folio`, `wp_page_copy`, `wp_page_shared`, `vm_insert_page`.
 */

/** Whether an entry of this high word names a frame that it holds: with a mapping and a reference. */
export function named(high: u32): bool {
  const kind = high & ENTRY_KIND;
  if (high & ENTRY_ZERO) return false;
  return (
    kind == KIND_PRESENT ||
    kind == KIND_DEVICE_PRIVATE ||
    kind == KIND_PROTNONE ||
    kind == KIND_MIGRATION ||
    kind == KIND_EXCLUSIVE ||
    kind == KIND_SWAP
  );
}

/** Drops the CPU's translations of the page, or of the block, behind a slot of `level`. */
export function shootDown(table: u32, vpn: u64, level: u32): void {
  const tlb = load<u32>(table, TABLE_TLB);
  if (!tlb) return;
  if (!level) tlbDrop(tlb, vpn);
  else tlbDropRange(tlb, (vpn >> levelShift(table, level)) << levelShift(table, level), 1 << levelShift(table, level));
}

/** Whether a write to the present page may go to the very frame: anonymous, not the page of zeros, and anon-exclusive or with no other holder (references == maps == 1). */
export function canReuse(table: u32, vpn: f64): u32 {
  const entry = load<u64>(slotOf(table, <u64>vpn)),
    high = <u32>(entry >> 32);
  if ((high & ENTRY_KIND) != KIND_PRESENT || high & ENTRY_ZERO) return 0;
  // A block's entry names the head of its frame, which has the references of all of its pages.
  const record = frameRecord(<u32>entry);
  if (load<u32>(record, FRAME_FLAGS) & FRAME_FILE) return 0;
  return u32((high & ENTRY_ANON_EXCLUSIVE) != 0 || (load<u32>(record, FRAME_REFS) == 1 && frameMaps(record) == 1));
}

/**
 * Gives this space its own copy of a present page (shared anonymous frame, page of a file, page of zeros), in a frame of `node`; anon-exclusive, writable iff `writable`.
 * Requires: an order-0 entry. Returns the new frame, or FRAME_NONE with STOP_FRAMES or STOP_CHAIN and nothing changed. The old frame loses this mapping.
 */
export function mapCopy(table: u32, vpn: f64, node: u32, writable: u32): u32 {
  const page = <u64>vpn,
    place = seek(table, page),
    slot = <u32>place,
    entry = load<u64>(slot),
    high = <u32>(entry >> 32),
    index = load<u32>(table, TABLE_INDEX);
  assert(!(place >> 32) && (high & ENTRY_KIND) == KIND_PRESENT);
  const frame = frameTake(node, 0);
  if (frame == <u32>FRAME_NONE) {
    store<u32>(H_STOP_REASON, STOP_FRAMES);
    return frame;
  }
  // The page of zeros is copied as "clear".
  frameCopy(high & ENTRY_ZERO ? <u32>FRAME_NONE : <u32>entry, frame, 1);
  // The first mapping of a frame is written into the frame itself: no record is needed.
  rmapAdd(frame, index, page);
  frameCharge(frameRecord(frame), index);
  const kept = (high & (ENTRY_EXEC | ENTRY_DEVICE)) | KIND_PRESENT | ENTRY_ANON_EXCLUSIVE | ENTRY_ACCESSED;
  store<u64>(slot, entryOf(frame, kept | (writable ? ENTRY_WRITE : 0)));
  shootDown(table, page, 0);
  if (!(high & ENTRY_ZERO)) {
    rmapRemove(<u32>entry, index, page);
    framePut(<u32>entry);
  }
  store<u32>(H_STOP_REASON, STOP_NONE);
  return frame;
}

function entryOf(frame: u32, high: u32): u64 {
  return ((<u64>high) << 32) | frame;
}

/**
 * Maps an existing frame (page cache, driver's page) where there is a hole: one more reference and mapping, `high` is the entry's high word (order 0). Nobody is charged: the object pays.
 * Returns 1, or 0 with STOP_TABLES, STOP_CHAIN, or STOP_REFUSED where there is no hole any more, and nothing changed.
 */
export function mapFrame(table: u32, vpn: f64, frame: u32, high: u32): u32 {
  const page = <u64>vpn,
    slot = holeSlot(table, page);
  if (!slot) return 0;
  if (!rmapAdd(frame, load<u32>(table, TABLE_INDEX), page)) {
    store<u32>(H_STOP_REASON, STOP_CHAIN);
    pruneLeaf(table, page);
    return 0;
  }
  frameGet(frame);
  writeLeaf(table, slot, entryOf(frame, high));
  store<u32>(H_STOP_REASON, STOP_NONE);
  return 1;
}

/**
 * A special entry: frame number `pfn` of something that is not the machine's memory; the kind in `high` is set here. Returns 1, or 0 with STOP_TABLES, or STOP_REFUSED where there is no hole.
 */
export function mapSpecial(table: u32, vpn: f64, pfn: u32, high: u32): u32 {
  const slot = holeSlot(table, <u64>vpn);
  if (!slot) return 0;
  writeLeaf(table, slot, entryOf(pfn, (high & ENTRY_KIND) == KIND_POISON ? KIND_POISON : (high & ~ENTRY_KIND) | KIND_SPECIAL));
  store<u32>(H_STOP_REASON, STOP_NONE);
  return 1;
}

/** The level-0 slot of a hole; 0 with the reason in H_STOP_REASON. */
function holeSlot(table: u32, page: u64): u32 {
  if (load<u64>(slotOf(table, page))) {
    store<u32>(H_STOP_REASON, STOP_REFUSED);
    return 0;
  }
  return makeLeafSlot(table, page);
}

/** A write to a page of shared memory: the right to write, and dirty, appear in place. Requires: present, order-0 or a block. */
export function mapShared(table: u32, vpn: f64): void {
  const place = seek(table, <u64>vpn),
    slot = <u32>place,
    record = frameRecord(load<u32>(slot));
  store<u32>(slot, load<u32>(slot, 4) | ENTRY_WRITE | ENTRY_DIRTY | ENTRY_ACCESSED, 4);
  store<u32>(record, load<u32>(record, FRAME_FLAGS) | FRAME_DIRTY, FRAME_FLAGS);
  shootDown(table, <u64>vpn, <u32>(place >> 32));
}

/** Marks a page of a private space its own without write (the unshare of a pin) when `canReuse`. */
export function mapOwn(table: u32, vpn: f64): void {
  if (!canReuse(table, vpn)) return;
  const slot = slotOf(table, <u64>vpn);
  store<u32>(slot, load<u32>(slot, 4) | ENTRY_ANON_EXCLUSIVE, 4);
}

/** Takes write and dirty from every entry of a frame, TLBs included. Returns 1 when any of them was dirty or writable, or the frame was dirty. Models: `folio_mkclean`. */
export function frameClean(frame: u32): u32 {
  const record = frameRecord(frame),
    flags = load<u32>(record, FRAME_FLAGS);
  let dirty = flags & FRAME_DIRTY;
  store<u32>(record, flags & ~FRAME_DIRTY, FRAME_FLAGS);
  for (let cursor = rmapFirst(frame); cursor; cursor = rmapNext(cursor)) {
    const owner = rmapOwner(frame, cursor),
      vpn = rmapVpn(rmapLow(frame, cursor), owner),
      table = rmapTable(owner),
      place = seek(table, vpn),
      slot = <u32>place,
      high = load<u32>(slot, 4);
    if (!(high & (ENTRY_WRITE | ENTRY_DIRTY))) continue;
    dirty |= 1;
    store<u32>(slot, high & ~(ENTRY_WRITE | ENTRY_DIRTY), 4);
    shootDown(table, vpn, <u32>(place >> 32));
  }
  return u32(dirty != 0);
}

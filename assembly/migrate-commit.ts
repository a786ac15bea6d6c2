import {
  ENTRY_ANON_EXCLUSIVE,
  ENTRY_KIND,
  ENTRY_ORDER_SHIFT,
  ENTRY_WRITE,
  ENTRY_ZERO,
  FRAME_BYTES,
  FRAME_REFS,
  HUGE_ORDER,
  H_STOP_REASON,
  KIND_NONE,
  KIND_PRESENT,
  MIGRATE_COMPOUND,
  MIGRATE_MOVE,
  MIGRATE_VALID,
  STOP_NONE,
  STOP_TABLES,
  TABLE_INDEX,
  TABLE_TLB,
} from './layout';
import { frameCharge, frameMaps, frameRecord } from './frame';
import { deposit, splitHuge } from './huge';
import { shootDown } from './isolate';
import { matches } from './migrate';
import { kindOn } from './migration-entry';
import { nodeOf } from './node';
import { rmapAdd } from './rmap';
import { runOfBoth } from './run';
import { makeLeafSlot, pruneLeaf, slotMake, slotOf, writeEntry, writeLeaf } from './table';
import { tlbDrop } from './tlb';

/** The second phase of a migration, see migrate.ts: what moves is decided, and holes get their entries. */

/** References and mappings of a frame with one mapping, no pin, and the reference of a migration. */
const TAKEN: u64 = ((<u64>1) << 32) | 2;

/**
 * Phase 2: decides for each page. Clears MOVE where there is no target or one of another size, where a page has got a holder since it was collected, where a hole has been
 * filled meanwhile. A hole, or the page of zeros, that moves gets its entry here: writable iff `writable` (the VMA is). Returns the words that still have MOVE.
 *
 * `table` and `vpn` are used for holes only (a collection by frame has none). `faultFrame` as in collect.
 */
export function migrateCommit(table: u32, vpn: f64, n: u32, source: u32, target: u32, writable: u32, faultFrame: u32): u32 {
  const first = <u64>vpn;
  let moving: u32 = 0,
    // Where the words end that follow each other on both sides.
    run: u32 = 0;
  store<u32>(H_STOP_REASON, STOP_NONE);
  for (let i: u32 = 0; i < n; i++) {
    const word = source + (i << 3),
      high = load<u32>(word, 4),
      frame = load<u32>(word),
      to = load<u32>(target + (i << 3)),
      aim = load<u32>(target + (i << 3), 4);
    if (!(high & MIGRATE_MOVE)) continue;
    // A small page that its mapping and this migration have, as most.
    if (
      (high & (MIGRATE_VALID | MIGRATE_COMPOUND)) == MIGRATE_VALID &&
      (aim & (MIGRATE_VALID | MIGRATE_COMPOUND)) == MIGRATE_VALID &&
      load<u64>(frameRecord(frame), FRAME_REFS) == TAKEN &&
      frame != faultFrame
    ) {
      if (i >= run) run = i + runOfBoth(word, target + (i << 3), n - i);
      const pages = takenRun(frame, min(run - i, faultFrame - frame));
      moving += pages;
      i += pages - 1;
      continue;
    }
    let moves = (aim & MIGRATE_VALID) != 0 && matches(high, aim);
    if (moves && high & MIGRATE_VALID) {
      const entry = frameRecord(frame);
      moves = load<u32>(entry, FRAME_REFS) == frameMaps(entry) + 1 + (frame == faultFrame ? 1 : 0);
    } else if (moves)
      moves = (high & MIGRATE_COMPOUND ? fillHuge(table, first + i, to, writable) : fill(table, first + i, to, writable)) != 0;
    if (moves) moving++;
    else store<u32>(word, high & ~MIGRATE_MOVE, 4);
  }
  return moving;
}

/** How many of the `most` frames from one on that is so, at least it, only their mapping and this migration have. */
function takenRun(frame: u32, most: u32): u32 {
  let n: u32 = 1;
  for (let record = frameRecord(frame) + FRAME_BYTES; n < most && load<u64>(record, FRAME_REFS) == TAKEN; record += FRAME_BYTES) n++;
  return n;
}

/** Gives a hole or the page of zeros its frame. Returns 1, or 0 when it has been filled meanwhile or no table page or record is to be had. */
export function fill(table: u32, vpn: u64, frame: u32, writable: u32): u32 {
  let slot = makeLeafSlot(table, vpn);
  // A huge page of zeros, some of whose pages move, or came meanwhile.
  if (!slot && load<u32>(slotOf(table, vpn), 4) & ENTRY_ZERO && splitHuge(table, <f64>vpn)) slot = makeLeafSlot(table, vpn);
  if (!slot) return 0;
  const high = <u32>(load<u64>(slot) >> 32),
    kind = high & ENTRY_KIND,
    index = load<u32>(table, TABLE_INDEX);
  if (kind != KIND_NONE && !(kind == KIND_PRESENT && high & ENTRY_ZERO)) return 0;
  if (!rmapAdd(frame, index, vpn)) {
    pruneLeaf(table, vpn);
    return 0;
  }
  const entry = kindOn(nodeOf(frame)) | ENTRY_ANON_EXCLUSIVE | (writable ? ENTRY_WRITE : 0);
  writeLeaf(table, slot, ((<u64>entry) << 32) | frame);
  const tlb = load<u32>(table, TABLE_TLB);
  if (tlb) tlbDrop(tlb, vpn);
  frameCharge(frameRecord(frame), index);
  return 1;
}

/** Gives a huge hole or the huge page of zeros its frame. Returns 1, or 0 when any of its pages has been filled meanwhile, or no table page can be promised for a split. */
function fillHuge(table: u32, vpn: u64, frame: u32, writable: u32): u32 {
  const slot = slotMake(table, vpn, 1);
  if (!slot) return 0;
  const old = load<u64>(slot),
    high = <u32>(old >> 32),
    zero = high & ENTRY_ZERO && (high & ENTRY_KIND) == KIND_PRESENT;
  if (old && !zero) return 0;
  if (!zero && !deposit()) {
    store<u32>(H_STOP_REASON, STOP_TABLES);
    pruneLeaf(table, vpn);
    return 0;
  }
  const index = load<u32>(table, TABLE_INDEX),
    entry = kindOn(nodeOf(frame)) | ENTRY_ANON_EXCLUSIVE | (writable ? ENTRY_WRITE : 0) | (HUGE_ORDER << ENTRY_ORDER_SHIFT);
  // The first mapping of a frame needs no record.
  rmapAdd(frame, index, vpn);
  writeEntry(table, slot, 1, ((<u64>entry) << 32) | frame);
  shootDown(table, vpn, 1);
  frameCharge(frameRecord(frame), index);
  return 1;
}

import {
  ENTRY_CPU_READS,
  ENTRY_DIRTY,
  ENTRY_KIND,
  FRAME_FILE,
  FRAME_FLAGS,
  FRAME_HUGETLB,
  FRAME_LOCKED,
  FRAME_ORDER,
  FRAME_REFS,
  FRAME_RMAP,
  H_BACKING,
  KIND_EXCLUSIVE,
  TABLE_INDEX,
  TABLE_TLB,
} from './layout';
import { backingDrop } from './backing';
import { HUGE_PAGES, frameMaps, frameRecord } from './frame';
import { kindOn, migrationOf, restored } from './migration-entry';
import { nodeOf } from './node';
import { ownerWord, rmapFirst, rmapLow, rmapNext, rmapOwner, rmapTable, rmapVpn } from './rmap';
import { slotOf } from './table';
import { tlbDrop, tlbDropRange } from './tlb';

/**
 * Isolation: a migration takes a frame out of use, so that nobody but it reaches its bytes, or puts it back.
 *
 * ```
 * take      locked, one reference more, migration entries in place of all its mappings, no translation of them in a TLB of the CPU
 * restore   the entries come back, and name the same frame or another one; the lock and the reference are the caller's to give back
 * ```
 *
 * Refused, with nothing changed: a frame that is locked, or that somebody holds beside its mappings.
 *
 * Models: `migrate_vma_collect_pmd`, `migrate_device_unmap`, `remove_migration_ptes`.
 */

/** Frames that no migration takes: somebody else's, not anonymous, or of a hugetlb-like mapping. */
export const UNMOVABLE: u32 = FRAME_LOCKED | FRAME_FILE | FRAME_HUGETLB;

/** Replaces every home entry of a frame by a migration entry. */
function isolate(frame: u32, huge: u32): void {
  for (let cursor = rmapFirst(frame); cursor; cursor = rmapNext(cursor)) {
    const owner = rmapOwner(frame, cursor),
      vpn = rmapVpn(rmapLow(frame, cursor), owner),
      table = rmapTable(owner),
      slot = slotOf(table, vpn);
    const entry = load<u64>(slot);
    // What has been written is no longer what the second tier has.
    if (load<u32>(H_BACKING) && (<u32>(entry >> 32)) & (ENTRY_DIRTY | ENTRY_CPU_READS)) backingDrop(frame);
    store<u64>(slot, migrationOf(entry));
    shootDown(table, vpn, huge);
  }
}

/** Drops the CPU's translations of a page, or of a huge one. */
export function shootDown(table: u32, vpn: u64, huge: u32): void {
  const tlb = load<u32>(table, TABLE_TLB);
  if (!tlb) return;
  if (huge) tlbDropRange(tlb, vpn, HUGE_PAGES);
  else tlbDrop(tlb, vpn);
}

/** Replaces the migration entries of `frame` by entries that name `to` (the same frame: the migration was refused). */
export function restore(frame: u32, to: u32): void {
  const kind = kindOn(nodeOf(to));
  for (let cursor = rmapFirst(frame); cursor; cursor = rmapNext(cursor)) {
    const owner = rmapOwner(frame, cursor),
      slot = slotOf(rmapTable(owner), rmapVpn(rmapLow(frame, cursor), owner));
    store<u64>(slot, restored(load<u32>(slot, 4), to, kind));
  }
}

/** Whether a device has a mapping of the frame for itself. */
export function isExclusive(frame: u32): bool {
  for (let cursor = rmapFirst(frame); cursor; cursor = rmapNext(cursor)) {
    const owner = rmapOwner(frame, cursor),
      slot = slotOf(rmapTable(owner), rmapVpn(rmapLow(frame, cursor), owner));
    if ((load<u32>(slot, 4) & ENTRY_KIND) == KIND_EXCLUSIVE) return true;
  }
  return false;
}

/**
 * Locks a mapped frame, takes a reference and puts migration entries in its place. Returns 1, or 0 with nothing changed when its page lock is
 * taken or somebody unknown holds it. `extra` references of the caller are allowed for (the faulting page of `migrate_to_ram`).
 */
export function take(frame: u32, extra: u32): u32 {
  const entry = frameRecord(frame);
  const refs = load<u32>(entry, FRAME_REFS),
    flags = load<u32>(entry, FRAME_FLAGS);
  if (refs != frameMaps(entry) + extra || flags & UNMOVABLE) return 0;
  store<u32>(entry, flags | FRAME_LOCKED, FRAME_FLAGS);
  store<u32>(entry, refs + 1, FRAME_REFS);
  isolate(frame, flags & FRAME_ORDER);
  return 1;
}

/** `take` of the page with this leaf entry. Where that is the only mapping of its frame, nothing is looked up. */
export function takeAt(table: u32, page: u64, slot: u32, entry: u64, extra: u32): u32 {
  const frame = <u32>entry,
    record = frameRecord(frame),
    refs = load<u32>(record, FRAME_REFS),
    flags = load<u32>(record, FRAME_FLAGS),
    mapping = ((<u64>ownerWord(load<u32>(table, TABLE_INDEX), page)) << 32) | (<u32>page);
  if (load<u64>(record, FRAME_RMAP) != mapping || flags & FRAME_ORDER) return take(frame, extra);
  if (refs != frameMaps(record) + extra || flags & UNMOVABLE) return 0;
  store<u32>(record, flags | FRAME_LOCKED, FRAME_FLAGS);
  store<u32>(record, refs + 1, FRAME_REFS);
  if (load<u32>(H_BACKING) && (<u32>(entry >> 32)) & (ENTRY_DIRTY | ENTRY_CPU_READS)) backingDrop(frame);
  store<u64>(slot, migrationOf(entry));
  shootDown(table, page, 0);
  return 1;
}

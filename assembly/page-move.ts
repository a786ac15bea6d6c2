import {
  ENTRY_CPU_READS,
  ENTRY_KIND,
  ENTRY_ORDER,
  ENTRY_REPLICATED,
  ENTRY_WRITE,
  ENTRY_ZERO,
  FRAME_FLAGS,
  FRAME_ORDER,
  FRAME_REFS,
  FRAME_RMAP_OWNER,
  KIND_NONE,
  KIND_PRESENT,
  PAGE_HOLE,
  PAGE_MOVED,
  PAGE_NOT_SIMPLE,
  PAGE_UNINSTALLED,
  PAGE_WRITABLE,
  RMAP_CHAINED_SHIFT,
  SELECT_SYSTEM,
  SELECT_UNTRANSLATED,
  SELECT_WRITABLE,
} from './layout';
import { frameCopy, frameGiveRun, frameMaps, framePut, frameRecord, frameUnlock } from './frame';
import { enlist, handOver } from './hand-over';
import { restore, takeAt } from './isolate';
import { selected } from './migrate-collect';
import { fill } from './migrate-commit';
import { OnePage, rangeMap, rangeUnmap } from './range';
import { seek, slotOf, walk } from './table';
import { tlbDrop } from './tlb';

/**
 * The migration of one small page that only one table maps, in two calls instead of one for each phase: what `migrate.ts` does for ranges, for the page of a fault.
 *
 * ```
 *   pageIsolate     collect, and the device's own translation of the page withdrawn: table, then TLB
 *   (the copy)      by the device's engine, or the core
 *   pageSettle      commit, the device's new translation installed, finalize
 * ```
 *
 * Models: `migrate_vma_setup`, `migrate_vma_pages`, `migrate_vma_finalize` as `migrate_to_ram` and `nouveau_dmem_migrate_to_ram` call them: for one page.
 */

/**
 * Takes a page from its mapping. Returns the frame that it is on, locked, with one reference more and a migration entry in its place; PAGE_HOLE for a hole or the page of zeros, if SELECT_SYSTEM: nothing is
 * locked then; PAGE_NOT_SIMPLE, with nothing changed, for all that needs `migrateCollect`: a huge page, one that several entries map or that is held, one with copies, one that is not selected.
 *
 * `mirror`, `tlb`: the device's table and the slot of its TLB. Requires: an anonymous VMA has the page. `select`, `owner`: as for `migrateCollect`; besides SELECT_UNTRANSLATED and SELECT_WRITABLE.
 */
export function pageIsolate(table: u32, vpn: f64, select: u32, owner: u32, mirror: u32, tlb: u32): i32 {
  const page = <u64>vpn,
    place = seek(table, page),
    entry = load<u64>(<u32>place),
    high = <u32>(entry >> 32),
    kind = high & ENTRY_KIND,
    isTranslated = walk(mirror, page) != 0;
  if (isTranslated && select & SELECT_UNTRANSLATED) return PAGE_NOT_SIMPLE;
  let frame: i32 = PAGE_HOLE;
  if (kind == KIND_NONE || (kind == KIND_PRESENT && high & ENTRY_ZERO)) {
    if (!(select & SELECT_SYSTEM) || high & ENTRY_ORDER) return PAGE_NOT_SIMPLE;
  } else {
    frame = <i32>entry;
    if (select & SELECT_WRITABLE && !(high & ENTRY_WRITE)) return PAGE_NOT_SIMPLE;
    if (place >> 32 || high & (ENTRY_ORDER | ENTRY_CPU_READS | ENTRY_REPLICATED) || !selected(kind, frame, select, owner))
      return PAGE_NOT_SIMPLE;
    const record = frameRecord(frame);
    if (load<u32>(record, FRAME_RMAP_OWNER) >> RMAP_CHAINED_SHIFT || load<u32>(record, FRAME_FLAGS) & FRAME_ORDER) return PAGE_NOT_SIMPLE;
    if (!takeAt(table, page, <u32>place, entry, 0)) return PAGE_NOT_SIMPLE;
  }
  if (isTranslated && !OnePage.unmap(mirror, page)) rangeUnmap(mirror, vpn, 1);
  tlbDrop(tlb, page);
  return frame;
}

/** Puts a page back that `pageIsolate` took: it stays on `frame`, what it said; a hole a hole. */
export function pageRestore(frame: i32): void {
  if (frame < 0) return;
  restore(frame, frame);
  frameUnlock(frame);
  framePut(frame);
}

/**
 * Ends it: with `moves` the page is on frame `to` from now on, otherwise it stays where it was, and a hole a hole; the frame that is not needed is put. `frame`: what `pageIsolate` returned. `copies`: the bytes
 * have not been copied, or cleared, yet. `writable`: what a hole's mapping allows. `mirror`: the table that is to have the translation, or 0. Requires: the
 * mapping is the frame's only one still, and there is no second tier.
 *
 * Returns PAGE_MOVED, with PAGE_WRITABLE when the translation has that right; PAGE_MOVED | PAGE_UNINSTALLED: without the translation, for which there is no table page; 0: it stays, since somebody has taken a reference meanwhile, or a hole got no table page.
 */
export function pageSettle(table: u32, vpn: f64, frame: i32, to: u32, moves: u32, copies: u32, writable: u32, mirror: u32): u32 {
  const page = <u64>vpn;
  let slot: u32 = 0,
    moved = moves != 0;
  if (moved && copies) frameCopy(frame, to, 1);
  if (frame < 0) {
    moved = moved && fill(table, page, to, writable) != 0;
    if (moved) enlist(to);
  } else {
    const record = frameRecord(frame);
    assert(frameMaps(record) == 1);
    moved = moved && load<u32>(record, FRAME_REFS) == 2;
    if (moved) {
      slot = slotOf(table, page);
      if (handOver(frame, to, slot)) frameGiveRun(frame, 1);
    } else pageRestore(frame);
  }
  if (!moved) {
    framePut(to);
    return 0;
  }
  if (!mirror) return PAGE_MOVED;
  if (!slot) slot = slotOf(table, page);
  const write = load<u32>(slot, 4) & ENTRY_WRITE,
    high = KIND_PRESENT | write;
  if (!OnePage.map(mirror, page, ((<u64>high) << 32) | to) && !rangeMap(mirror, vpn, 1, to, high)) return PAGE_MOVED | PAGE_UNINSTALLED;
  return write ? PAGE_MOVED | PAGE_WRITABLE : PAGE_MOVED;
}

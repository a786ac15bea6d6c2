import {
  ENTRY_ACCESSED,
  ENTRY_ANON_EXCLUSIVE,
  ENTRY_BYTES,
  ENTRY_DIRTY,
  ENTRY_KIND,
  ENTRY_ORDER_SHIFT,
  ENTRY_WRITE,
  ENTRY_ZERO,
  FRAME_CHARGE,
  FRAME_FILE,
  FRAME_FLAGS,
  FRAME_HUGETLB,
  FRAME_LISTED,
  FRAME_LOCKED,
  FRAME_LONG_TERM,
  FRAME_MAPS,
  FRAME_NONE,
  FRAME_ORDER,
  FRAME_REFS,
  FRAME_SPARED,
  FRAME_RMAP,
  FRAME_TICKET,
  HUGE_ORDER,
  H_STOP_ENTRY_LOW,
  H_STOP_REASON,
  H_ZERO_FRAME,
  KIND_MIGRATION,
  KIND_NONE,
  KIND_PRESENT,
  KIND_PROTNONE,
  MAPS_BITS,
  MAPS_MASK,
  NODE_IS_HOST,
  NODE_KIND,
  RIGHT_READ,
  RIGHT_WRITE,
  STOP_FRAMES,
  STOP_LOCKED,
  STOP_NONE,
  STOP_REFUSED,
  STOP_SPLIT,
  STOP_TABLES,
  TABLE_INDEX,
  TABLE_TLB,
} from './layout';
import { HUGE_PAGES, frameCharge, frameClear, frameCopy, frameMaps, framePut, frameRecord, frameTake, frameTouch } from './frame';
import { nodeOf } from './node';
import { rmapAdd, rmapFirst, rmapLow, rmapNext, rmapOwner, rmapRemove, rmapTable, rmapUnreserve, rmapVpn } from './rmap';
import { splitBlock } from './cut';
import { count, leafOf, pageDrop, pruneLeaf, seek, slotMake, slotOf, writeEntry } from './table';
import { deposit, live, undeposit } from './table-page';
import { tlbDropRange } from './tlb';

/**
 * Huge pages of address spaces: a frame of order 9 behind one entry two levels up, `splitHuge` to 512 small ones and back.
 *
 * ```
 *   level 1   [ . . huge . ]                        [ . . child . ]
 *                    |              splitHuge              |
 *   level 0          |           ------------>     [.|.|.|.|.| 512 entries ... |.]      in every table that maps the frame
 *   frames    [H t t t t t t t]                    [0 1 2 3 4 5 6 7]                    head and tails / small frames of their own
 * ```
 *
 * Invariants:
 * - A huge frame is mapped by huge entries only. Splitting one entry splits the frame, and with it the entries of every space.
 * - A split never fails for want of memory: each huge home entry (hugetlb excepted) has deposited a table page (H_PAGES_DEPOSITED), and a huge
 *   frame with n > 1 mappings has reserved the chain records of 512 frames with n mappings each (H_CHAIN_RESERVED).
 * - The huge page of zeros is the 512 frames from H_ZERO_FRAME on; split, each of its pages names its own of them. So no translation changes by it.
 *
 * Models: `__split_huge_pmd`, `split_huge_page_to_list`, `do_huge_pmd_anonymous_page`, `collapse_huge_page`, `pgtable_trans_huge_deposit`.
 */

export { deposit, undeposit } from './table-page';

const ORDER: u32 = HUGE_ORDER << ENTRY_ORDER_SHIFT;
/** The level of a home table whose leaves are 2 MiB. */
const HUGE_LEVEL: u32 = 1;

function stop(reason: u32): u32 {
  store<u32>(H_STOP_REASON, reason);
  return 0;
}

function stopLocked(frame: u32): u32 {
  store<u32>(H_STOP_ENTRY_LOW, frame);
  return stop(STOP_LOCKED);
}

function entryOf(frame: u32, high: u32): u64 {
  return ((<u64>high) << 32) | frame;
}

/** Drops the CPU's translations of `pages` pages. */
function shootDown(table: u32, vpn: u64, pages: u32): void {
  const tlb = load<u32>(table, TABLE_TLB);
  if (tlb) tlbDropRange(tlb, vpn, pages);
}

// ---------------------------------------------------------------------------------------------------------------- split

/**
 * Splits whatever huge leaf covers a page into small ones, in every space that maps its frame. Returns 1, also when there is none; 0 with H_STOP_REASON:
 * STOP_LOCKED (a migration has it; the frame is in H_STOP_ENTRY_LOW), STOP_REFUSED (hugetlb), and nothing changed.
 */
export function splitHuge(table: u32, vpn: f64): u32 {
  const place = seek(table, <u64>vpn),
    slot = <u32>place,
    level = <u32>(place >> 32);
  if (!level) return 1;
  const entry = load<u64>(slot),
    frame = <u32>entry;
  if (!entry) return 1;
  if ((<u32>(entry >> 32)) & ENTRY_ZERO) {
    undeposit();
    splitBlock(table, slot, level);
    return 1;
  }
  const flags = load<u32>(frameRecord(frame), FRAME_FLAGS);
  if (flags & FRAME_HUGETLB) return stop(STOP_REFUSED);
  if (flags & FRAME_LOCKED) return stopLocked(frame);
  splitIsolated(frame);
  return 1;
}

/**
 * Splits a huge frame and all of its entries, whatever their kind. Of a locked one every page is locked afterwards and has the reference of the operation; what other references the
 * head had, but for those of its mappings and of pins of its pages, stay the head's.
 */
export function splitIsolated(frame: u32): void {
  const record = frameRecord(frame),
    flags = load<u32>(record, FRAME_FLAGS),
    maps = frameMaps(record),
    isLocked = u32((flags & FRAME_LOCKED) != 0);
  rmapUnreserve(frame);
  for (let cursor = rmapFirst(frame); cursor; cursor = rmapNext(cursor)) {
    const owner = rmapOwner(frame, cursor);
    undeposit();
    splitBlock(rmapTable(owner), slotOf(rmapTable(owner), rmapVpn(rmapLow(frame, cursor), owner)), HUGE_LEVEL);
  }
  store<u32>(record, flags & ~FRAME_ORDER, FRAME_FLAGS);
  let references = load<u32>(record, FRAME_REFS);
  for (let i: u32 = 1; i < HUGE_PAGES; i++) {
    const tail = frameRecord(frame + i),
      pins = load<u32>(tail, FRAME_MAPS) & ~MAPS_MASK,
      marks = load<u32>(tail, FRAME_FLAGS) & FRAME_LONG_TERM;
    references -= pins >> MAPS_BITS;
    store<u32>(tail, (pins >> MAPS_BITS) + maps + isLocked, FRAME_REFS);
    store<u32>(tail, pins, FRAME_MAPS);
    store<u32>(tail, (flags & ~(FRAME_ORDER | FRAME_LISTED | FRAME_LONG_TERM | FRAME_SPARED)) | marks, FRAME_FLAGS);
    store<u16>(tail, load<u16>(record, FRAME_CHARGE), FRAME_CHARGE);
    store<u16>(tail, 0, FRAME_TICKET);
    store<u64>(tail, 0, FRAME_RMAP);
    if (flags & FRAME_LISTED) frameTouch(frame + i);
  }
  store<u32>(record, references, FRAME_REFS);
  for (let cursor = rmapFirst(frame); cursor; cursor = rmapNext(cursor)) {
    const owner = rmapOwner(frame, cursor),
      vpn = rmapVpn(rmapLow(frame, cursor), owner),
      index = load<u32>(rmapTable(owner), TABLE_INDEX);
    for (let i: u32 = 1; i < HUGE_PAGES; i++) rmapAdd(frame + i, index, vpn + i);
  }
}

// ------------------------------------------------------------------------------------------------------------------ map

/**
 * Maps a fresh zeroed huge frame of `node` (order 9) at an aligned page that is a hole up to the level above the leaves, or the huge page of zeros. Writable (iff
 * `rights` has RIGHT_WRITE; protnone without RIGHT_READ), this space's own. With `zero` the huge page of zeros is mapped instead, read-only.
 * Returns 1; 0 with STOP_FRAMES, STOP_TABLES, STOP_SPLIT (there is a level-0 table page or another entry), and nothing changed.
 */
export function mapHuge(table: u32, vpn: f64, node: u32, rights: u32, zero: u32): u32 {
  const page = <u64>vpn,
    slot = slotMake(table, page, HUGE_LEVEL);
  if (!slot) return 0;
  const old = load<u64>(slot),
    wasZero = u32(<i64>old > 0 && ((<u32>(old >> 32)) & (ENTRY_KIND | ENTRY_ZERO)) == (KIND_PRESENT | ENTRY_ZERO));
  if (old && (zero || !wasZero)) return stop(STOP_SPLIT);
  if (!wasZero && !deposit()) {
    pruneLeaf(table, page);
    return stop(STOP_TABLES);
  }
  store<u32>(H_STOP_REASON, STOP_NONE);
  if (zero) {
    writeEntry(table, slot, HUGE_LEVEL, entryOf(load<u32>(H_ZERO_FRAME), KIND_PRESENT | ENTRY_ZERO | ENTRY_ACCESSED | ORDER));
    return 1;
  }
  const frame = frameTake(node, HUGE_ORDER);
  if (frame == <u32>FRAME_NONE) {
    if (!wasZero) undeposit();
    pruneLeaf(table, page);
    return stop(STOP_FRAMES);
  }
  frameClear(frame);
  install(table, page, slot, HUGE_LEVEL, frame, rights, ORDER);
  return 1;
}

/** Enters a frame of the table's own, which nobody maps, as a block. */
function install(table: u32, page: u64, slot: u32, level: u32, frame: u32, rights: u32, order: u32): void {
  const index = load<u32>(table, TABLE_INDEX),
    kind = rights & RIGHT_READ ? KIND_PRESENT : KIND_PROTNONE,
    write = rights & RIGHT_READ && rights & RIGHT_WRITE ? ENTRY_WRITE : 0;
  // The first mapping is written into the frame itself: no record is needed.
  rmapAdd(frame, index, page);
  frameCharge(frameRecord(frame), index);
  writeEntry(table, slot, level, entryOf(frame, kind | write | ENTRY_ANON_EXCLUSIVE | ENTRY_ACCESSED | order));
  shootDown(table, page, 1 << (order >> ENTRY_ORDER_SHIFT));
}

/**
 * The same for a hugetlb-like mapping of order 9 or 18: the frame is FRAME_HUGETLB, and there is no deposit. A read-only entry that is there gets the right to write when it
 * has no other holder, and is replaced by a copy when it has. Returns 1; 0 with STOP_FRAMES or STOP_TABLES, and nothing changed.
 */
export function mapHugetlb(table: u32, vpn: f64, node: u32, order: u32, rights: u32): u32 {
  const page = <u64>vpn,
    level: u32 = order == HUGE_ORDER ? HUGE_LEVEL : HUGE_LEVEL + 1,
    slot = slotMake(table, page, level);
  if (!slot) return 0;
  const old = load<u64>(slot);
  // A table page of something smaller.
  if (<i64>old < 0) return stop(STOP_SPLIT);
  if (old) {
    const record = frameRecord(<u32>old);
    if ((<u32>(old >> 32)) & ENTRY_ANON_EXCLUSIVE || (load<u32>(record, FRAME_REFS) == 1 && frameMaps(record) == 1)) {
      store<u32>(slot, (<u32>(old >> 32)) | ENTRY_ANON_EXCLUSIVE | (rights & RIGHT_WRITE ? ENTRY_WRITE : 0), 4);
      shootDown(table, page, 1 << order);
      store<u32>(H_STOP_REASON, STOP_NONE);
      return 1;
    }
  }
  const frame = frameTake(node, order);
  if (frame == <u32>FRAME_NONE) {
    pruneLeaf(table, page);
    return stop(STOP_FRAMES);
  }
  const record = frameRecord(frame);
  store<u32>(record, load<u32>(record, FRAME_FLAGS) | FRAME_HUGETLB, FRAME_FLAGS);
  if (old) frameCopy(<u32>old, frame, 1 << order);
  else frameClear(frame);
  install(table, page, slot, level, frame, rights | RIGHT_READ, order << ENTRY_ORDER_SHIFT);
  if (old) {
    rmapRemove(<u32>old, load<u32>(table, TABLE_INDEX), page);
    framePut(<u32>old);
  }
  store<u32>(H_STOP_REASON, STOP_NONE);
  return 1;
}

// ------------------------------------------------------------------------------------------------------------- collapse

/**
 * Makes one huge page of the 512 small ones around `vpn` (aligned down): their bytes are copied to a huge frame of `node`, holes and the page of zeros count as
 * zeros. Every page must be none, or present, anonymous, mapped once, not held otherwise, of a host node. Writable iff `rights` has RIGHT_WRITE.
 * Returns 1, also when it is one already; 0 with STOP_FRAMES, STOP_TABLES, STOP_REFUSED, STOP_LOCKED, and nothing changed.
 */
export function collapseHuge(table: u32, vpn: f64, node: u32, rights: u32): u32 {
  const base = (<u64>vpn) & ~(<u64>(HUGE_PAGES - 1)),
    leaf = leafOf(table, base);
  if (!leaf) {
    const block = load<u64>(slotOf(table, base));
    if (!block) return mapHuge(table, <f64>base, node, rights, 0);
    return ((<u32>(block >> 32)) & ENTRY_KIND) == KIND_MIGRATION ? stopLocked(<u32>block) : 1;
  }
  for (let slot = leaf, end = leaf + HUGE_PAGES * ENTRY_BYTES; slot < end; slot += ENTRY_BYTES) if (!collapsible(load<u64>(slot))) return 0;
  const frame = frameTake(node, HUGE_ORDER);
  if (frame == <u32>FRAME_NONE) return stop(STOP_FRAMES);
  const index = load<u32>(table, TABLE_INDEX);
  let dirty: u32 = 0;
  for (let i: u32 = 0; i < HUGE_PAGES; i++) {
    const entry = load<u64>(leaf + i * ENTRY_BYTES),
      high = <u32>(entry >> 32),
      isEmpty = !entry || high & ENTRY_ZERO;
    dirty |= high & ENTRY_DIRTY;
    frameCopy(isEmpty ? <u32>FRAME_NONE : <u32>entry, frame + i, 1);
    if (isEmpty) continue;
    rmapRemove(<u32>entry, index, base + i);
    framePut(<u32>entry);
  }
  // The table page of the small entries is given back, so that there is one to deposit.
  const above = slotMake(table, base, HUGE_LEVEL);
  count(table, above, 0, 0 - live(leaf));
  store<u64>(above, 0);
  count(table, above & ~4095, -1, 0);
  pageDrop(table, leaf);
  deposit();
  install(table, base, above, HUGE_LEVEL, frame, rights, ORDER | dirty);
  store<u32>(H_STOP_REASON, STOP_NONE);
  return 1;
}

/** Whether a small entry can become part of a huge page; else the reason is noted. */
function collapsible(entry: u64): u32 {
  const high = <u32>(entry >> 32),
    kind = high & ENTRY_KIND,
    frame = <u32>entry;
  if (kind == KIND_NONE || high & ENTRY_ZERO) return 1;
  if (kind == KIND_MIGRATION) return stopLocked(frame);
  if (kind != KIND_PRESENT && kind != KIND_PROTNONE) return stop(STOP_REFUSED);
  const record = frameRecord(frame),
    flags = load<u32>(record, FRAME_FLAGS);
  if (flags & FRAME_LOCKED) return stopLocked(frame);
  if (flags & FRAME_FILE || load<u32>(record, FRAME_REFS) != 1 || frameMaps(record) != 1) return stop(STOP_REFUSED);
  return load<u32>(nodeOf(frame), NODE_KIND) == NODE_IS_HOST ? 1 : stop(STOP_REFUSED);
}

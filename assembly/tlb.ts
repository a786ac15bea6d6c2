import {
  H_TLBS,
  H_TLBS_MAX,
  PAGE_SHIFT,
  TLB_DIRTY,
  TLB_DROPPED,
  TLB_HEADER_BYTES,
  TLB_HITS,
  TLB_MISSES,
  TLB_SETS,
  TLB_SET_BYTES,
  TLB_SLOT_BYTES,
  TLB_TABLE,
  TLB_VALID,
  TLB_WAY_BYTES,
  TLB_WRITE,
  VPN_BITS,
} from './layout';
import { PAGE_NUMBER, vpnOf } from './packed-access';

/**
 * A translation cache: sets of four ways, true least-recently-used order (a hit moves its way to the front of the set).
 *
 * ```
 * set of page v = v mod sets      [ most recent | . | . | least recent ]   16 bytes a way, one cache line a set
 * ```
 *
 * A way keeps the byte address of its frame, so a hit needs nothing else. An invalidated way leaves no gap: later ways move up.
 */

/** What says which page a way is of. */
const KEY_MASK: u64 = PAGE_NUMBER | TLB_VALID;

/** An empty TLB of `sets` sets (a power of two up to TLB_SETS_MAX) in front of `table`: the byte address of its slot, or 0 when all are taken. */
export function tlbCreate(table: u32, sets: u32): u32 {
  const first = load<u32>(H_TLBS),
    end = first + load<u32>(H_TLBS_MAX) * TLB_SLOT_BYTES;
  for (let slot = first; slot < end; slot += TLB_SLOT_BYTES) {
    if (load<u32>(slot, TLB_TABLE)) continue;
    memory.fill(slot, 0, TLB_HEADER_BYTES + sets * TLB_SET_BYTES);
    store<u32>(slot, sets, TLB_SETS);
    store<u32>(slot, table, TLB_TABLE);
    return slot;
  }
  return 0;
}

export function tlbDestroy(tlb: u32): void {
  store<u32>(tlb, 0, TLB_TABLE);
}

/** A valid way of a page, without its rights. */
function keyOf(vpn: u64): u64 {
  return (vpn << PAGE_SHIFT) | TLB_VALID;
}

/** Whether a way is of that page. */
export function isOf(way: u32, vpn: u64): bool {
  return (load<u64>(way) & KEY_MASK) == keyOf(vpn);
}

/** Byte address of the set of a page: its most recent way. */
export function setOf(tlb: u32, vpn: u64): u32 {
  return tlb + TLB_HEADER_BYTES + ((<u32>vpn) & (load<u32>(tlb, TLB_SETS) - 1)) * TLB_SET_BYTES;
}

/** Moves way `way` of a set to the front; the ways before it move back by one. */
function toFront(set: u32, way: u32): void {
  const chosen = v128.load(way);
  for (let each = way; each > set; each -= TLB_WAY_BYTES) v128.store(each, v128.load(each - TLB_WAY_BYTES));
  v128.store(set, chosen);
}

/**
 * Finds the way of a page without changing anything: its byte address, or 0.
 */
export function tlbFind(tlb: u32, vpn: u64): u32 {
  const set = setOf(tlb, vpn),
    key = keyOf(vpn);
  if ((load<u64>(set) & KEY_MASK) == key) return set;
  if ((load<u64>(set, 16) & KEY_MASK) == key) return set + 16;
  if ((load<u64>(set, 32) & KEY_MASK) == key) return set + 32;
  if ((load<u64>(set, 48) & KEY_MASK) == key) return set + 48;
  return 0;
}

/** A hit: the way becomes its set's most recent. Returns its new address. */
export function tlbUse(tlb: u32, vpn: u64, way: u32): u32 {
  const set = setOf(tlb, vpn);
  if (way != set) toFront(set, way);
  return set;
}

/** Caches a translation as its set's most recent, in place of an older one of the same page or of the least recent. `dirty` only where it is writable. */
export function tlbFill(tlb: u32, vpn: u64, writable: bool, dirty: bool, bytes: u32, frame: u32): u32 {
  const set = setOf(tlb, vpn),
    old = tlbFind(tlb, vpn);
  toFront(set, old ? old : set + 3 * TLB_WAY_BYTES);
  store<u64>(set, keyOf(vpn) | (writable ? TLB_WRITE : 0) | (dirty ? (<u64>TLB_DIRTY) << 32 : 0));
  store<u32>(set, bytes, 8);
  store<u32>(set, frame, 12);
  return set;
}

function drop(tlb: u32, set: u32, way: u32): void {
  const last = set + 3 * TLB_WAY_BYTES;
  for (let each = way; each < last; each += TLB_WAY_BYTES) v128.store(each, v128.load(each + TLB_WAY_BYTES));
  v128.store(last, i64x2.splat(0));
  store<u64>(tlb, load<u64>(tlb, TLB_DROPPED) + 1, TLB_DROPPED);
}

/** Drops the translation of one page. */
export function tlbDrop(tlb: u32, vpn: u64): void {
  const way = tlbFind(tlb, vpn);
  if (way) drop(tlb, setOf(tlb, vpn), way);
}

/**
 * Drops the translations of a range: page by page while the range is shorter than the cache, else by one look at every way.
 * Requires: the range ends at or below 2^VPN_BITS.
 */
export function tlbDropRange(tlb: u32, vpn: u64, pages: u64): void {
  const sets = load<u32>(tlb, TLB_SETS);
  if (pages <= sets * 2) {
    for (let page = vpn, end = vpn + pages; page < end; page++) tlbDrop(tlb, page);
    return;
  }
  const end = vpn + pages;
  for (let set = tlb + TLB_HEADER_BYTES, last = set + sets * TLB_SET_BYTES; set < last; set += TLB_SET_BYTES) {
    let way = set;
    while (way < set + TLB_SET_BYTES) {
      const word = load<u64>(way),
        page = vpnOf(word);
      if (word & TLB_VALID && page >= vpn && page < end) drop(tlb, set, way);
      else way += TLB_WAY_BYTES;
    }
  }
}

/** For the SDK: `tlbDropRange` with the page number as f64. */
export function tlbInvalidate(tlb: u32, vpn: f64, pages: u32): void {
  tlbDropRange(tlb, <u64>vpn, pages);
}

/** Drops everything, keeping the counts. */
export function tlbFlush(tlb: u32): void {
  tlbDropRange(tlb, 0, (<u64>1) << VPN_BITS);
}

/** Counts `pages` looked-up pages, all as hits. */
export function tlbCount(tlb: u32, pages: u32): void {
  store<u64>(tlb, load<u64>(tlb, TLB_HITS) + pages, TLB_HITS);
}

/** One of the pages counted, or about to be, is a miss. */
export function tlbMiss(tlb: u32): void {
  store<u64>(tlb, load<u64>(tlb, TLB_HITS) - 1, TLB_HITS);
  store<u64>(tlb, load<u64>(tlb, TLB_MISSES) + 1, TLB_MISSES);
}

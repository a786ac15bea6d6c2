import {
  BLOCK_ACCESSES,
  ENTRY_ACCESSED,
  ENTRY_DIRTY,
  ENTRY_KIND,
  ENTRY_WRITE,
  H_BLANK,
  H_STOP_INDEX,
  H_STOP_REASON,
  H_STOP_VPN_HIGH,
  H_STOP_VPN_LOW,
  KIND_PRESENT,
  PAGE_BYTES,
  PAGE_SHIFT,
  STOP_BYTES,
  STOP_FAULT,
  STOP_NONE,
  TLB_DIRTY,
  TLB_HEADER_BYTES,
  TLB_SETS,
  TLB_TABLE,
  TLB_TURNS,
  TLB_WAY_BYTES,
  TLB_WRITE,
} from './layout';
import { frameBytes } from './node';
import { crosses, moreOf, offsetOf, PAGE_NUMBER, vpnOf, writeOf, WRITES } from './packed-access';
import { entryAt, isWithin, seek, slotOf, walk } from './table';
import { setOf, tlbCount, tlbFill, tlbFind, tlbMiss, tlbUse } from './tlb';

/**
 * One memory access through a TLB: the innermost loop of everything that reads or writes simulated memory.
 *
 * An access touches one page, or two when it crosses a page boundary. Every touched page is looked at before anything changes: an access
 * that faults leaves the TLB, its counts and all bytes as they were, and is simply tried again. So hits + misses is the number of pages
 * that executed accesses touched.
 *
 * ```
 * way with the right        -> hit    (a write through a way that is not dirty yet sets dirty in the entry, and is a hit)
 * none, or without it       -> walk:  entry with the right -> miss, cached as most recent
 *                                     otherwise            -> STOP_FAULT
 * ```
 */

/** What `translate` answers instead of a byte address (those are page-aligned). */
const NO_ACCESS: u32 = 0;
const BYTES_ELSEWHERE: u32 = 1;
/** What `runBlock` returns: accesses that ran; the next one was not let through. */
export const RAN_ACCESSES: u32 = 0x7fff;
const RAN_NO_ACCESS: u32 = 1 << 15;
/** What `runFront` says beside how many. */
const RAN_IN_FRONT: u32 = 1 << 16;
/** log2 of the bytes of a set. */
const SET_SHIFT: u32 = 6;
/** How far an access is shifted for its page number to count in sets. */
const SET_OF_ACCESS_SHIFT: u64 = PAGE_SHIFT - 6;
/** Of accesses, one in 2^n; and for how many blocks two ways are looked at then. */
const MANY_BEHIND_SHIFT: u32 = 3;
const TURNS: u32 = 64;

/** High word bits that say "an access of this sort may go through this entry" for the table of a TLB. */
function permitted(entry: u64, write: u32): bool {
  const high = <u32>(entry >> 32);
  if ((high & ENTRY_KIND) != KIND_PRESENT) return false;
  return !write || (high & ENTRY_WRITE) != 0;
}

/** Notes where and why a run of accesses stopped. */
export function stopAt(reason: u32, vpn: u64, index: u32): void {
  store<u32>(H_STOP_REASON, reason);
  store<u32>(H_STOP_VPN_LOW, <u32>vpn);
  store<u32>(H_STOP_VPN_HIGH, <u32>(vpn >> 32));
  store<u32>(H_STOP_INDEX, index);
}

/** True when an access of this sort to this page could go through, TLB or table; nothing changes. */
export function reachable(tlb: u32, vpn: u64, write: u32): bool {
  const way = tlbFind(tlb, vpn);
  if (way && (!write || load<u32>(way) & TLB_WRITE)) return true;
  return permitted(walk(load<u32>(tlb, TLB_TABLE), vpn), write);
}

/** Sets accessed, and dirty for a write, in the table entry of a page (all base pages of a contiguous group are marked one by one). */
function mark(table: u32, vpn: u64, write: u32): void {
  const slot = slotOf(table, vpn);
  if (slot) markAt(slot, write);
}

function markAt(slot: u32, write: u32): void {
  store<u32>(slot, load<u32>(slot, 4) | ENTRY_ACCESSED | (write ? ENTRY_DIRTY : 0), 4);
}

/**
 * Translates one page for one access: the byte address of its frame, with TLB and dirty bits updated; BYTES_ELSEWHERE when the
 * frame's bytes are not in this memory; NO_ACCESS, with nothing changed, when neither TLB nor table let it through.
 *
 * The caller counts the page as a hit (`tlbCount`, once for many); a miss is corrected here.
 */
function translate(tlb: u32, vpn: u64, write: u32): u32 {
  let way = tlbFind(tlb, vpn);
  if (way) {
    const high = load<u32>(way, 4);
    if (!write || load<u32>(way) & TLB_WRITE) {
      way = tlbUse(tlb, vpn, way);
      // The first write through a read-filled translation sets dirty.
      if (write && !(high & TLB_DIRTY)) {
        store<u32>(way, high | TLB_DIRTY, 4);
        mark(load<u32>(tlb, TLB_TABLE), vpn, write);
      }
      return load<u32>(way, 8);
    }
  }
  const table = load<u32>(tlb, TLB_TABLE);
  if (!isWithin(table, vpn)) return NO_ACCESS;
  const place = seek(table, vpn),
    entry = entryAt(table, place, vpn);
  if (!permitted(entry, write)) return NO_ACCESS;
  const frame = <u32>entry;
  let bytes = frameBytes(frame);
  if (!bytes) bytes = BYTES_ELSEWHERE;
  markAt(<u32>place, write);
  tlbFill(tlb, vpn, ((<u32>(entry >> 32)) & ENTRY_WRITE) != 0, write != 0, bytes, frame);
  tlbMiss(tlb);
  return bytes;
}

/** Stores the value of a write: the 8-byte word (lo, hi), repeated with lo + k in the k-th, cut to the access. */
function put(address: u32, from: u32, to: u32, low: u32, high: u32): void {
  for (let i = from; i < to; i++) {
    const part = i & 7;
    const word: u32 = part < 4 ? low + (i >> 3) : high;
    store<u8>(address + (i - from), <u8>(word >> ((part & 3) << 3)));
  }
}

/** Folds the next four bytes of a read longer than 8 into its hash. */
function foldWord(hash: u32, word: u32): u32 {
  hash = (hash ^ word) * 0x01000193;
  return hash ^ (hash >>> 15);
}

/** An access inside one page, `bytes` at `at`; the value is read from or written to `value` (u64). */
function perform(at: u32, bytes: u32, write: u32, value: u32): void {
  if (write) {
    if (bytes == 8) store<u64>(at, load<u64>(value));
    else if (bytes == 4) store<u32>(at, load<u32>(value));
    else if (bytes == 1) store<u8>(at, load<u8>(value));
    else if (bytes == 2) store<u16>(at, load<u16>(value));
    else put(at, 0, bytes, load<u32>(value), load<u32>(value, 4));
  } else if (bytes <= 8) {
    // The byte area ends with a spare page, so reading past the last frame is harmless; the mask drops what is not ours.
    const word = load<u64>(at);
    store<u64>(value, bytes == 8 ? word : word & (((<u64>1) << (bytes << 3)) - 1));
  } else {
    let hash: u32 = 0,
      i: u32 = 0;
    for (; i + 4 <= bytes; i += 4) hash = foldWord(hash, load<u32>(at + i));
    if (i < bytes) hash = foldWord(hash, load<u32>(at + i) & ((1 << ((bytes - i) << 3)) - 1));
    store<u32>(value, hash);
    store<u32>(value, bytes, 4);
  }
}

/** An access over a page boundary: the bytes are gathered from, or scattered to, two frames. */
function performCrossing(first: u32, firstBytes: u32, second: u32, bytes: u32, write: u32, value: u32): void {
  if (write) {
    const low = load<u32>(value),
      high = load<u32>(value, 4);
    put(first, 0, firstBytes, low, high);
    put(second, firstBytes, bytes, low, high);
    return;
  }
  let hash: u32 = 0,
    open: u32 = 0;
  let word: u64 = 0;
  for (let i: u32 = 0; i < bytes; i++) {
    const byte = <u32>load<u8>(i < firstBytes ? first + i : second + (i - firstBytes));
    if (bytes <= 8) word |= (<u64>byte) << (i << 3);
    else {
      open |= byte << ((i & 3) << 3);
      if ((i & 3) == 3 || i + 1 == bytes) {
        hash = foldWord(hash, open);
        open = 0;
      }
    }
  }
  if (bytes <= 8) store<u64>(value, word);
  else {
    store<u32>(value, hash);
    store<u32>(value, bytes, 4);
  }
}

/** An access to pages whose bytes are elsewhere: on a machine without bytes a load sees zeros and a store goes nowhere; else it stops. */
function performBlank(bytes: u32, write: u32, value: u32): u32 {
  const blank = load<u32>(H_BLANK);
  if (!blank) return STOP_BYTES;
  if (!write) perform(blank, bytes, 0, value);
  return STOP_NONE;
}

/**
 * Executes one packed access, counted by the caller as one page (a second page is counted here), its value in `value` (u64: written, or observed). Returns STOP_NONE; STOP_FAULT when a touched page has
 * no sufficient entry (nothing has changed); STOP_BYTES when the bytes of a page are not in this memory (the translation has happened).
 */
export function execute(tlb: u32, access: u64, value: u32): u32 {
  const offset = offsetOf(access),
    vpn = vpnOf(access),
    bytes = moreOf(access) + 1,
    write = writeOf(access);
  if (offset + bytes <= <u32>PAGE_BYTES) {
    // Most accesses hit the most recent way of their set, with nothing to update.
    const set = setOf(tlb, vpn);
    let at = Inner.wrong(load<u64>(set), access) ? NO_ACCESS : load<u32>(set, 8);
    if (at == NO_ACCESS) at = translate(tlb, vpn, write);
    if (at <= BYTES_ELSEWHERE) return at == NO_ACCESS ? STOP_FAULT : performBlank(bytes, write, value);
    perform(at + offset, bytes, write, value);
    return STOP_NONE;
  }
  if (!reachable(tlb, vpn, write) || !reachable(tlb, vpn + 1, write)) return STOP_FAULT;
  const first = translate(tlb, vpn, write),
    second = translate(tlb, vpn + 1, write);
  tlbCount(tlb, 1);
  // Only where an invalidation was forgotten: the first page's way pushed out the second's, which the table does not have any more.
  if (second == NO_ACCESS) return STOP_FAULT;
  if (first == BYTES_ELSEWHERE || second == BYTES_ELSEWHERE) return performBlank(bytes, write, value);
  performCrossing(first + offset, PAGE_BYTES - offset, second, bytes, write, value);
  return STOP_NONE;
}

/**
 * Executes accesses one after the other, as long as they are inside one page and can be translated: those whose indices are at `list` (u32 each), or without one the first `count` of `accesses`; at most BLOCK_ACCESSES.
 * Returns how many (RAN_ACCESSES). With RAN_NO_ACCESS the next one is over a page boundary, and was not looked at, or its page has no sufficient entry; else it is to be executed by itself. Counted by the caller.
 *
 * Two ways of a set are looked at for programs whose pages share sets in turns that nobody can guess: where many accesses of a block were not in front. Where the first way is right nearly always, looking at one is quicker, and the
 * set is not written; so that is asked anew every TURNS blocks, whoever runs them.
 */
export function runBlock(tlb: u32, accesses: u32, values: u32, list: u32, count: u32): u32 {
  const turns = load<u32>(tlb, TLB_TURNS);
  let behind: u32 = 0,
    stop: u32 = 0,
    ran = runFront(tlb, accesses, values, list, 0, count, turns != 0),
    k = ran & RAN_ACCESSES;
  while (k < count) {
    const index = list ? load<u32>(list + (k << 2)) : k,
      access = load<u64>(accesses + (index << 3));
    let page: u32;
    if (ran & RAN_IN_FRONT) page = load<u32>(setOf(tlb, vpnOf(access)), 8);
    else {
      page = locate(tlb, access);
      if (page == NO_ACCESS) {
        stop = RAN_NO_ACCESS;
        break;
      }
      behind++;
    }
    if (performHere(page, access, values + (index << 3))) break;
    ran = runFront(tlb, accesses, values, list, k + 1, count, turns != 0);
    k = ran & RAN_ACCESSES;
  }
  // An access that faults changes nothing, this neither.
  if (!k) return stop;
  if (turns) store<u32>(tlb, turns - 1, TLB_TURNS);
  else if (behind > k >> MANY_BEHIND_SHIFT) store<u32>(tlb, TURNS, TLB_TURNS);
  return k | stop;
}

/**
 * Of a block's accesses, from `k` on, executes those that need nothing but the front of their set. Returns how many of the block are executed then; with RAN_IN_FRONT, the next one is in front, too, but not of 1, 2, 4 or 8 bytes.
 *
 * Short loops without a call: all that they have is in the processor's registers, and it has the translations and bytes of several accesses under way at a time. What is known beforehand is not asked in a loop.
 */
function runFront(tlb: u32, accesses: u32, values: u32, list: u32, k: u32, count: u32, turning: bool): u32 {
  const sets = (load<u32>(tlb, TLB_SETS) - 1) << SET_SHIFT,
    ways = tlb + TLB_HEADER_BYTES;
  if (load<u32>(H_BLANK)) {
    if (list)
      return turning
        ? Inner.pass(ways, sets, accesses, values, list, k, count, true, true)
        : Inner.pass(ways, sets, accesses, values, list, k, count, true, false);
    return turning
      ? Inner.pass(ways, sets, accesses, values, 0, k, count, true, true)
      : Inner.pass(ways, sets, accesses, values, 0, k, count, true, false);
  }
  if (list)
    return turning
      ? Inner.pass(ways, sets, accesses, values, list, k, count, false, true)
      : Inner.pass(ways, sets, accesses, values, list, k, count, false, false);
  return turning
    ? Inner.pass(ways, sets, accesses, values, 0, k, count, false, true)
    : Inner.pass(ways, sets, accesses, values, 0, k, count, false, false);
}

/** The loop of `runFront` and its look at a way, which are written into it: one for each way of running. */
class Inner {
  /** `ways`: byte address of the first set; `sets`: byte offset of the last one from it. `blank`: on a machine without bytes. */
  @inline
  static pass(ways: u32, sets: u32, accesses: u32, values: u32, list: u32, k: u32, count: u32, blank: bool, turning: bool): u32 {
    const first = list ? list : accesses,
      shift: u32 = list ? 2 : 3,
      end = first + (count << shift),
      apart = values - accesses;
    let at = first + (k << shift);
    for (; at < end; at += 1 << shift) {
      const from = list ? accesses + (load<u32>(at) << 3) : at,
        access = load<u64>(from),
        value = from + apart,
        offset = offsetOf(access),
        more = moreOf(access),
        set = ways + ((<u32>(access >> SET_OF_ACCESS_SHIFT)) & sets),
        // In the second way, 1, or in neither.
        second = turning ? <u32>(Inner.wrong(load<u64>(set, TLB_WAY_BYTES), access) == 0) : 0;
      // What is wrong with the first way does not matter where the second one is right. One over a page boundary is nowhere.
      if ((Inner.wrong(load<u64>(set), access) & (turning ? <u64>second - 1 : ~(<u64>0))) | ((offset + more) >> PAGE_SHIFT)) break;
      const page = load<u32>(set + (second << 4), 8);
      if (blank ? page != BYTES_ELSEWHERE : page <= BYTES_ELSEWHERE) break;
      if (turning) {
        // Without a branch: in which of the two it is, is hard to guess.
        const chosen = v128.load(set + (second << 4)),
          other = v128.load(set + ((second << 4) ^ TLB_WAY_BYTES));
        v128.store(set, chosen);
        v128.store(set, other, TLB_WAY_BYTES);
      }
      const write = (access & WRITES) != 0;
      if (blank) {
        if (write) continue;
        if (more > 7) return ((at - first) >> shift) | RAN_IN_FRONT;
        store<u64>(value, 0);
        continue;
      }
      const bytes = page + offset;
      if (more == 7) {
        if (write) store<u64>(bytes, load<u64>(value));
        else store<u64>(value, load<u64>(bytes));
      } else if (more == 3) {
        if (write) store<u32>(bytes, load<u32>(value));
        else store<u64>(value, load<u32>(bytes));
      } else if (!more) {
        if (write) store<u8>(bytes, load<u8>(value));
        else store<u64>(value, load<u8>(bytes));
      } else if (more == 1) {
        if (write) store<u16>(bytes, load<u16>(value));
        else store<u64>(value, load<u16>(bytes));
      } else return ((at - first) >> shift) | RAN_IN_FRONT;
    }
    return (at - first) >> shift;
  }

  /**
   * What keeps an access from going through a way, whose first word is `way`, without more ado, 0 if nothing: that it is of another page, or that there is something to be done for a write. Without a branch on reading or writing: which it is,
   * is hard to guess. An empty way may seem to be right for page 0: its byte address says that it is none.
   */
  @inline
  static wrong(way: u64, access: u64): u64 {
    return (way ^ access) & (PAGE_NUMBER | (access & WRITES));
  }
}

/** Executes the access at which a block ended, which said `ran`: what is known already is not tried again. As `execute`. */
export function executeNext(ran: u32, tlb: u32, access: u64, value: u32): u32 {
  return ran & RAN_NO_ACCESS && !crosses(access) ? <u32>STOP_FAULT : execute(tlb, access, value);
}

/** Translates an access that is not in front, with all that `translate` does: the byte address of its page, NO_ACCESS or BYTES_ELSEWHERE. One over a page boundary is not looked at: NO_ACCESS. */
function locate(tlb: u32, access: u64): u32 {
  return crosses(access) ? NO_ACCESS : translate(tlb, vpnOf(access), writeOf(access));
}

/** An access inside the page at `page`, which may be BYTES_ELSEWHERE: as `execute`. */
function performHere(page: u32, access: u64, value: u32): u32 {
  const bytes = moreOf(access) + 1,
    write = writeOf(access);
  if (page == BYTES_ELSEWHERE) return performBlank(bytes, write, value);
  perform(page + offsetOf(access), bytes, write, value);
  return STOP_NONE;
}

/**
 * Executes accesses one after the other, from index `from` to `end`, as long as they can be. Returns the index of the first one not executed; H_STOP_REASON says why: STOP_NONE at the end, else as
 * `execute`. Counted by the caller.
 */
export function runStraight(tlb: u32, accesses: u32, values: u32, from: u32, end: u32): u32 {
  let status: u32 = STOP_NONE,
    i = from;
  while (i < end && status == STOP_NONE) {
    const count = min<u32>(end - i, BLOCK_ACCESSES),
      ran = runBlock(tlb, accesses + (i << 3), values + (i << 3), 0, count),
      done = ran & RAN_ACCESSES;
    i += done;
    if (done == count) continue;
    status = executeNext(ran, tlb, load<u64>(accesses + (i << 3)), values + (i << 3));
    if (status == STOP_NONE) i++;
  }
  store<u32>(H_STOP_REASON, status);
  return i;
}

/**
 * Executes accesses one after the other, from index `from` to `end`. Returns the index of the first one not executed; H_STOP_REASON says
 * why, H_STOP_VPN_* name the first page of it without a sufficient entry.
 */
export function runAccesses(tlb: u32, accesses: u32, values: u32, from: u32, end: u32): u32 {
  const i = runStraight(tlb, accesses, values, from, end),
    status = load<u32>(H_STOP_REASON);
  // A page whose bytes are elsewhere was translated all the same.
  tlbCount(tlb, i - from + (status == STOP_BYTES ? 1 : 0));
  if (status) stopAt(status, firstMissing(tlb, load<u64>(accesses + (i << 3))), i);
  return i;
}

/** First touched page of an access that lacks a sufficient entry (its first page when none does). */
function firstMissing(tlb: u32, access: u64): u64 {
  const vpn = vpnOf(access),
    write = writeOf(access);
  return crosses(access) && reachable(tlb, vpn, write) && !reachable(tlb, vpn + 1, write) ? vpn + 1 : vpn;
}

/**
 * Copies `length` bytes between simulated memory at byte `address` and the buffer at `buffer` (write: buffer to memory). Page by page
 * through the TLB; stops at the first page without a sufficient entry. Returns the bytes done.
 */
export function copyThrough(tlb: u32, address: f64, length: u32, buffer: u32, write: u32): u32 {
  let at = <u64>address,
    done: u32 = 0;
  while (done < length) {
    const vpn = at >> 12,
      offset = (<u32>at) & (PAGE_BYTES - 1);
    let chunk: u32 = PAGE_BYTES - offset;
    if (chunk > length - done) chunk = length - done;
    const bytes = translate(tlb, vpn, write);
    if (bytes != NO_ACCESS) tlbCount(tlb, 1);
    const blank = bytes == BYTES_ELSEWHERE ? load<u32>(H_BLANK) : 0;
    if (bytes <= BYTES_ELSEWHERE && !blank) {
      stopAt(bytes == NO_ACCESS ? STOP_FAULT : STOP_BYTES, vpn, done);
      return done;
    }
    if (!write) memory.copy(buffer + done, blank ? blank : bytes + offset, chunk);
    else if (!blank) memory.copy(bytes + offset, buffer + done, chunk);
    done += chunk;
    at += chunk;
  }
  store<u32>(H_STOP_REASON, STOP_NONE);
  return done;
}

/** Fills `n` values for accesses numbered from `number` on: lo = mix(seed + 2n), hi = mix(seed + 2n + 1). */
export function fillValues(values: u32, n: u32, seed: u32, number: u32): void {
  let x = seed + (number << 1),
    at = values;
  const end = values + (n << 3);
  // Two accesses at a time.
  let four = i32x4.add(i32x4.splat(x), i32x4(0, 1, 2, 3));
  for (; at + 16 <= end; at += 16) {
    let y = v128.xor(four, i32x4.shr_u(four, 16));
    y = i32x4.mul(y, i32x4.splat(0x85ebca6b));
    y = i32x4.mul(v128.xor(y, i32x4.shr_u(y, 13)), i32x4.splat(0xc2b2ae35));
    v128.store(at, v128.xor(y, i32x4.shr_u(y, 16)));
    four = i32x4.add(four, i32x4.splat(4));
  }
  if (at == end) return;
  x += (n - 1) << 1;
  store<u32>(at, mix(x));
  store<u32>(at, mix(x + 1), 4);
}

/** 32-bit finaliser: every input bit reaches every output bit. */
function mix(x: u32): u32 {
  x = (x ^ (x >>> 16)) * 0x85ebca6b;
  x = (x ^ (x >>> 13)) * 0xc2b2ae35;
  return x ^ (x >>> 16);
}

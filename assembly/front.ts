import {
  ACCESS_LENGTH,
  ACCESS_LENGTH_SHIFT,
  ACCESS_WRITE,
  BLOCK_ACCESSES,
  H_BLANK,
  H_STOP_REASON,
  PAGE_BYTES,
  STOP_BYTES,
  STOP_FAULT,
  STOP_NONE,
  TLB_HEADER_BYTES,
  TLB_SET_MASK,
  TLB_VALID,
  TLB_WAY_BYTES,
} from './layout';
import { BYTES_ELSEWHERE, execute, locate, NO_ACCESS, perform, reachable, stopAt, Way, WRITE_SHIFT } from './access';
import { tlbCount } from './tlb';

/**
 * Runs of accesses, one after the other: what `execute` does for one, for as many as need nothing more than a look at the TLB.
 *
 * ```
 * front        of at most 8 bytes, within a page, whose translation is the most recent of its set:     a short loop
 * locate       any other within one page that can be translated:                                       one, then `front` again
 * execute      what is left: over a page boundary, or it faults, or its bytes are elsewhere
 * ```
 */

/** Where in an access its length is, and by how much its address stands above the byte offset of its set. */
const LENGTH_SHIFT: u64 = 48;
const SET_SHIFT: u64 = 6;
/** Bytes behind the first one of the longest access that `front` takes. */
const SHORT: u32 = 7;
/** In what `runBlock` says: access `done` faults, within one page. */
export const FAULTS: u32 = 1 << 31;
/** Of accesses, one in 2^n. */
const MANY_BEHIND_SHIFT: u32 = 3;

/**
 * Executes accesses one after the other, as long as they are inside one page and can be translated: those whose indices are at `list` (u32 each), or without one the first `count` of `accesses`; at most BLOCK_ACCESSES.
 * Returns how many, and from bit 16 on, how many of them were not in front of their set; with FAULTS when the next one does, else that is to be executed by itself. Counted by the caller.
 *
 * `turning`: looks at two ways, see `Front.two`.
 */
export function runBlock(tlb: u32, accesses: u32, values: u32, list: u32, count: u32, turning: bool): u32 {
  const blank = load<u32>(H_BLANK);
  let behind: u32 = 0,
    k: u32 = 0;
  for (;;) {
    k = blank ? frontBlank(tlb, accesses, values, list, k, count, turning) : front(tlb, accesses, values, list, k, count, turning);
    if (k == count) break;
    const offset = Front.offset(list, k),
      access = load<u64>(accesses + offset),
      more = (<u32>(access >> LENGTH_SHIFT)) & ACCESS_LENGTH,
      at = locate(tlb, access);
    if (blank ? at != BYTES_ELSEWHERE : at <= BYTES_ELSEWHERE) {
      if (at == NO_ACCESS && ((<u32>access) & (PAGE_BYTES - 1)) + more < <u32>PAGE_BYTES) behind |= FAULTS >> 16;
      break;
    }
    if (more <= SHORT) behind++;
    if (!blank) perform(at, more + 1, (<u32>(access >> 32)) & ACCESS_WRITE, values + offset);
    else if (!((access >> WRITE_SHIFT) & 1)) perform(blank, more + 1, 0, values + offset);
    k++;
  }
  return k | (behind << 16);
}

/** From access `k` on, those that are in front: the first that is not, or `count`. It calls nothing: what it needs stays in registers, and the processor has the translations and bytes of several accesses under way at a time. */
function front(tlb: u32, accesses: u32, values: u32, list: u32, k: u32, count: u32, turning: bool): u32 {
  if (list) {
    return turning
      ? Front.run(tlb, accesses, values, list, k, count, true, false)
      : Front.run(tlb, accesses, values, list, k, count, false, false);
  }
  return turning ? Front.run(tlb, accesses, values, 0, k, count, true, false) : Front.run(tlb, accesses, values, 0, k, count, false, false);
}

/** The same on a machine without bytes. */
function frontBlank(tlb: u32, accesses: u32, values: u32, list: u32, k: u32, count: u32, turning: bool): u32 {
  if (list) {
    return turning
      ? Front.run(tlb, accesses, values, list, k, count, true, true)
      : Front.run(tlb, accesses, values, list, k, count, false, true);
  }
  return turning ? Front.run(tlb, accesses, values, 0, k, count, true, true) : Front.run(tlb, accesses, values, 0, k, count, false, true);
}

/** The loop of `front` and its looks, which are written into it, one for each way of running: what is known beforehand is not asked in the loop. */
class Front {
  @inline
  static run(tlb: u32, accesses: u32, values: u32, list: u32, from: u32, count: u32, turning: bool, blank: bool): u32 {
    const mask = load<u32>(tlb, TLB_SET_MASK);
    let k = from;
    for (; k < count; k++) {
      const offset = Front.offset(list, k),
        access = load<u64>(accesses + offset),
        more = (<u32>(access >> LENGTH_SHIFT)) & ACCESS_LENGTH,
        inPage = (<u32>access) & (PAGE_BYTES - 1);
      // Too long, or over the end of its page.
      if ((more & ~SHORT) | ((inPage + more) & PAGE_BYTES)) break;
      const set = tlb + ((<u32>(access >> SET_SHIFT)) & mask),
        bytes = turning ? Front.two(set, access) : Front.one(set, access);
      if (blank) {
        if (bytes != BYTES_ELSEWHERE) break;
        if (!((access >> WRITE_SHIFT) & 1)) store<u64>(values + offset, 0);
        continue;
      }
      if (bytes <= BYTES_ELSEWHERE) break;
      Front.short(bytes + inPage, more, access, values + offset);
    }
    return k;
  }

  /** Of the access that is to be executed as number `k`, among the others; of its value among theirs likewise. */
  @inline
  static offset(list: u32, k: u32): u32 {
    return list ? load<u32>(list + (k << 2)) << 3 : k << 3;
  }

  /**
   * An access of at most 8 bytes, `more` behind the first one, which is at `at`: its value is read from or written to `value`. Eight bytes are looked at, and written, whatever their number, the others as they were. The byte area ends with a
   * spare page, so that nothing else is met.
   */
  @inline
  static short(at: u32, more: u32, access: u64, value: u32): void {
    const others = <u64>((SHORT - more) << 3);
    if ((access >> WRITE_SHIFT) & 1) {
      if (more == SHORT) store<u64>(at, load<u64>(value));
      else {
        const there = load<u64>(at);
        store<u64>(at, there ^ (((there ^ load<u64>(value)) << others) >> others));
      }
    } else store<u64>(value, (load<u64>(at) << others) >> others);
  }

  /** Looks for the page of an access in the most recent way of its set: the byte address of its frame, or BYTES_ELSEWHERE, when that needs nothing more, else NO_ACCESS. */
  @inline
  static one(set: u32, access: u64): u32 {
    return Way.lacks(load<u64>(set, TLB_HEADER_BYTES), access) ? NO_ACCESS : load<u32>(set, TLB_HEADER_BYTES + 8);
  }

  /**
   * The same in the two most recent ways, the second of which then becomes the first: without a branch, for programs whose pages share sets in turns that nobody can guess. Where the first way is right nearly always,
   * `one` is quicker, which does not write the set.
   */
  @inline
  static two(set: u32, access: u64): u32 {
    const behind = load<u64>(set, TLB_HEADER_BYTES + TLB_WAY_BYTES),
      first = Way.lacks(load<u64>(set, TLB_HEADER_BYTES), access),
      // One that is empty stays behind: TLB_VALID is as much as a way has bytes.
      second = select<u32>((<u32>(behind >> 32)) & TLB_VALID, 0, Way.lacks(behind, access) == 0);
    if (select<u64>(0, first, second != 0)) return NO_ACCESS;
    const chosen = v128.load(set + second, TLB_HEADER_BYTES),
      other = v128.load(set + (second ^ TLB_WAY_BYTES), TLB_HEADER_BYTES);
    v128.store(set, chosen, TLB_HEADER_BYTES);
    v128.store(set, other, TLB_HEADER_BYTES + TLB_WAY_BYTES);
    return <u32>i32x4.extract_lane(chosen, 2);
  }
}

/** Whether the next block is to be run `turning`: when of the last one that was not, many were not in front. That is asked anew every 16 blocks. `ran`: what `runBlock` said. */
export function turnsWays(blocks: u32, turning: bool, ran: u32): bool {
  return (blocks & 15) != 0 && (turning || (ran & ~FAULTS) >> 16 > (ran & 0xffff) >> MANY_BEHIND_SHIFT);
}

/** Writes the numbers from `first` to `end` - 1, u32 each. */
export function numberFrom(at: u32, first: u32, end: u32): void {
  let four = i32x4.add(i32x4.splat(first), i32x4(0, 1, 2, 3));
  for (; first + 4 <= end; first += 4, at += 16) {
    v128.store(at, four);
    four = i32x4.add(four, i32x4.splat(4));
  }
  for (; first < end; first++, at += 4) store<u32>(at, first);
}

/**
 * Executes accesses one after the other, from index `from` to `end`, as long as they can be. Returns the index of the first one not executed; H_STOP_REASON says why: STOP_NONE at the end, else as
 * `execute`. Counted by the caller.
 */
export function runStraight(tlb: u32, accesses: u32, values: u32, from: u32, end: u32): u32 {
  let status: u32 = STOP_NONE,
    i = from,
    blocks: u32 = 0,
    turning: bool = false;
  while (i < end && status == STOP_NONE) {
    const count = min<u32>(end - i, BLOCK_ACCESSES),
      ran = runBlock(tlb, accesses + (i << 3), values + (i << 3), 0, count, turning),
      done = ran & 0xffff;
    i += done;
    turning = turnsWays(++blocks, turning, ran);
    if (done == count) continue;
    status = ran & FAULTS ? STOP_FAULT : execute(tlb, load<u64>(accesses + (i << 3)), values + (i << 3));
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
  const high = <u32>(access >> 32),
    vpn = (access & 0xffffffffffff) >> 12,
    write = high & ACCESS_WRITE;
  const crosses = ((<u32>access) & (PAGE_BYTES - 1)) + ((high >> ACCESS_LENGTH_SHIFT) & ACCESS_LENGTH) + 1 > <u32>PAGE_BYTES;
  return crosses && reachable(tlb, vpn, write) && !reachable(tlb, vpn + 1, write) ? vpn + 1 : vpn;
}

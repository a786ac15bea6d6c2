import { PAGE_BYTES, PAGE_SHIFT } from './layout';
import {
  BYTE_MAP_AHEAD,
  BYTE_MAP_LOADS,
  BYTE_MAP_PAGES,
  BYTE_MAP_PAGES_MAX,
  BYTE_MAP_PAGES_USED,
  BYTE_MAP_SLOTS,
  BYTE_MAP_SLOTS_AT,
  BYTE_MAP_STOP,
  BYTE_MAP_VALUES,
  BYTE_MAP_WANTED,
  BYTE_MAP_WORDS,
} from './layout';
import { addressOf, crosses, moreOf, offsetOf, vpnOf, WRITES } from './packed-access';

/**
 * A plain map of bytes, in which a replay repeats what the machine has executed: stores are done again, loads are compared. It runs in an
 * instance and a memory of its own, and knows nothing of frames, tables or TLBs: only which bytes were written last.
 *
 * ```
 * slots   open addressing, neighbours beside each other: u64 page number + 1 | u32 address of its bytes       0: free
 * pages   4 KiB each; page 0 stays all zero and stands for every page that was never written
 * ```
 */

/** Repeating goes on; no room for another page: grow and call again; a load observed other bytes than were written last. */
const GOING: u32 = 0;
const NO_ROOM: u32 = 1;
const DIFFERS: u32 = 2;

/** Byte offset, from BYTE_MAP_SLOTS_AT on, of the slot at which the search for a page begins. */
function slotOf(vpn: u64): u32 {
  return ((<u32>vpn + <u32>(vpn >> 20) * 0x9e37) & (BYTE_MAP_SLOTS - 1)) << 4;
}

/** Byte address of a page's bytes; without `make` that of the page of zeros where there is none, with it 0 when there is no room. */
function bytesOf(vpn: u64, make: bool): u32 {
  const key = vpn + 1,
    mask: u32 = BYTE_MAP_SLOTS * 16 - 1;
  let slot = slotOf(vpn),
    found = load<u64>(slot, BYTE_MAP_SLOTS_AT);
  while (found && found != key) {
    slot = (slot + 16) & mask;
    found = load<u64>(slot, BYTE_MAP_SLOTS_AT);
  }
  if (found) return load<u32>(slot, BYTE_MAP_SLOTS_AT + 8);
  if (!make) return BYTE_MAP_PAGES;
  const used = load<u32>(BYTE_MAP_PAGES_USED);
  // Half-full at most: a search always ends.
  if (used >= load<u32>(BYTE_MAP_PAGES_MAX) || used >= <u32>BYTE_MAP_SLOTS / 2) return 0;
  const at = BYTE_MAP_PAGES + (used << PAGE_SHIFT);
  store<u64>(slot, key, BYTE_MAP_SLOTS_AT);
  store<u32>(slot, at, BYTE_MAP_SLOTS_AT + 8);
  store<u32>(BYTE_MAP_PAGES_USED, used + 1);
  return at;
}

/**
 * Reads the bytes of `count` accesses whose words stand at BYTE_MAP_AHEAD: those that nobody has touched for long, so that repeating them need not wait for one after the other. Changes nothing else.
 */
export function byteMapAhead(count: u32): void {
  const end: u32 = BYTE_MAP_AHEAD + (count << 3);
  for (let at: u32 = BYTE_MAP_AHEAD; at < end; at += 8) {
    const word = load<u64>(at);
    store<u32>(at, bytesOf(vpnOf(word), false) + offsetOf(word));
  }
  let read: u32 = 0;
  for (let at: u32 = BYTE_MAP_AHEAD; at < end; at += 8) read += load<u8>(load<u32>(at));
  // Kept, or the reading would be left out.
  store<u32>(BYTE_MAP_AHEAD, read);
}

/**
 * Repeats accesses `from` to `count`, whose words and values stand at BYTE_MAP_*. Returns the one it came to; BYTE_MAP_STOP says why, BYTE_MAP_LOADS counts the loads.
 */
export function byteMapRepeat(from: u32, count: u32): u32 {
  const end: u32 = BYTE_MAP_WORDS + (count << 3);
  let at = repeatWords(BYTE_MAP_WORDS + (from << 3), end),
    status = GOING;
  for (; at < end; at = repeatWords(at + 8, end)) {
    status = repeatOne(load<u64>(at), at + (BYTE_MAP_VALUES - BYTE_MAP_WORDS));
    if (status != GOING) break;
  }
  store<u32>(BYTE_MAP_STOP, status);
  return (at - BYTE_MAP_WORDS) >> 3;
}

/**
 * Repeats the accesses at `at` to `end` that are a word, of 8, 4, 2 or 1 bytes, in a page that was written and whose slot is where the search for it begins; a load among them is as it should be. Returns where it stopped.
 *
 * A short loop without a call, as the machine's own is: all that it has is in the processor's registers.
 */
function repeatWords(at: u32, end: u32): u32 {
  let loads: u32 = 0;
  for (; at < end; at += 8) {
    const word = load<u64>(at),
      offset = offsetOf(word),
      more = moreOf(word),
      vpn = vpnOf(word),
      slot = slotOf(vpn);
    if ((load<u64>(slot, BYTE_MAP_SLOTS_AT) ^ (vpn + 1)) | ((offset + more) >> PAGE_SHIFT)) break;
    const bytes = load<u32>(slot, BYTE_MAP_SLOTS_AT + 8) + offset,
      value = load<u64>(at, BYTE_MAP_VALUES - BYTE_MAP_WORDS);
    if (word & WRITES) {
      if (more == 7) store<u64>(bytes, value);
      else if (more == 3) store<u32>(bytes, <u32>value);
      else if (!more) store<u8>(bytes, <u8>value);
      else if (more == 1) store<u16>(bytes, <u16>value);
      else break;
      continue;
    }
    loads++;
    if (more == 7) {
      if (load<u64>(bytes) == value) continue;
    } else if (more == 3) {
      if (load<u32>(bytes) == value) continue;
    } else if (!more) {
      if (load<u8>(bytes) == value) continue;
    } else if (more == 1) {
      if (load<u16>(bytes) == value) continue;
    }
    // Another length, or other bytes than were written last.
    loads--;
    break;
  }
  store<u32>(BYTE_MAP_LOADS, load<u32>(BYTE_MAP_LOADS) + loads);
  return at;
}

/** Repeats an access, whichever. */
function repeatOne(word: u64, value: u32): u32 {
  const more = moreOf(word),
    write = (word & WRITES) != 0;
  if (more > 7 || crosses(word)) {
    const status = repeatLong(addressOf(word), more + 1, write, value);
    if (status == GOING && !write) countLoad();
    return status;
  }
  const page = bytesOf(vpnOf(word), write),
    at = page + offsetOf(word);
  if (!page) return NO_ROOM;
  if (write) {
    for (let i: u32 = 0; i <= more; i++) store<u8>(at + i, load<u8>(value + i));
    return GOING;
  }
  // A look at the last bytes of a page sees the next page too; the mask drops that.
  const wanted = load<u64>(at) & (~(<u64>0) >> ((7 - more) << 3));
  if (wanted != load<u64>(value)) {
    store<u64>(BYTE_MAP_WANTED, wanted);
    return DIFFERS;
  }
  countLoad();
  return GOING;
}

function countLoad(): void {
  store<u32>(BYTE_MAP_LOADS, load<u32>(BYTE_MAP_LOADS) + 1);
}

/** One access of more than 8 bytes, or over a page boundary, byte by byte. */
function repeatLong(address: u64, bytes: u32, write: bool, value: u32): u32 {
  const first = bytesOf(address >> PAGE_SHIFT, write),
    second = bytesOf((address + bytes - 1) >> PAGE_SHIFT, write);
  if (!first || !second) return NO_ROOM;
  const offset = (<u32>address) & (PAGE_BYTES - 1),
    here: u32 = PAGE_BYTES - offset;
  let hash: u32 = 0,
    open: u32 = 0,
    wanted: u64 = 0;
  for (let i: u32 = 0; i < bytes; i++) {
    const at = i < here ? first + offset + i : second + (i - here);
    if (write) {
      const part = i & 7;
      const word: u32 = part < 4 ? load<u32>(value) + (i >> 3) : load<u32>(value, 4);
      store<u8>(at, <u8>(word >> ((part & 3) << 3)));
      continue;
    }
    const byte = <u32>load<u8>(at);
    if (bytes <= 8) wanted |= (<u64>byte) << (i << 3);
    else {
      open |= byte << ((i & 3) << 3);
      if ((i & 3) == 3 || i + 1 == bytes) {
        hash = (hash ^ open) * 0x01000193;
        hash ^= hash >>> 15;
        open = 0;
      }
    }
  }
  if (write) return GOING;
  if (bytes > 8) wanted = ((<u64>bytes) << 32) | hash;
  if (wanted == load<u64>(value)) return GOING;
  store<u64>(BYTE_MAP_WANTED, wanted);
  return DIFFERS;
}

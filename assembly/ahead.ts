import {
  AREA_LIST,
  ENTRY_KIND,
  FAULT_BYTES,
  FRAME_NONE,
  H_AREAS,
  KIND_DEVICE_PRIVATE,
  KIND_PRESENT,
  TLB_TABLE,
  TLB_WAY_BYTES,
} from './layout';
import { frameBytes } from './node';
import { vpnOf } from './packed-access';
import { walk } from './table';
import { isOf, setOf } from './tlb';

/**
 * Reading ahead. Faults are served one after the other, and each reads entries, records of frames and bytes that nobody has touched for long: one by one the processor would wait for each of them. Here what several faults will read is
 * read beforehand, many at a time. Nothing changes but AREA_LIST.
 */

/** Of the first two words of a fault record. */
const VPN_MASK: u64 = 0xfffffffff;

/** For `count` fault records of a device. Requires: `count` is at most FAULTS_MAX. */
export function faultsAhead(table: u32, faults: u32, count: u32): void {
  const list = load<u32>(H_AREAS) + AREA_LIST,
    end = list + (count << 2);
  for (let at = list; at < end; at += 4, faults += FAULT_BYTES) {
    const entry = walk(table, load<u64>(faults) & VPN_MASK);
    store<u32>(at, ((<u32>(entry >> 32)) & ENTRY_KIND) == KIND_PRESENT ? <u32>entry : FRAME_NONE);
  }
  bytesAhead(list, end);
}

/**
 * For the faults that accesses `from` to `end` of the CPU may meet: of those pages without a translation that are on a device. Requires: they are at most LIST_MAX / 2.
 */
export function accessesAhead(tlb: u32, accesses: u32, from: u32, end: u32): void {
  const table = load<u32>(tlb, TLB_TABLE),
    list = load<u32>(H_AREAS) + AREA_LIST;
  let last = list;
  for (let at = accesses + (from << 3), stop = accesses + (end << 3); at < stop; at += 8) {
    const vpn = vpnOf(load<u64>(at)),
      set = setOf(tlb, vpn);
    // Without a branch: which page has one is hard to guess. The two ways behind are not looked at.
    store<u64>(last, vpn);
    last += ((<u32>!isOf(set, vpn)) & (<u32>!isOf(set + TLB_WAY_BYTES, vpn))) << 3;
  }
  let count: u32 = 0;
  for (let at = list; at < last; at += 8) {
    const entry = walk(table, load<u64>(at));
    store<u32>(list + (count << 2), <u32>entry);
    count += u32(((<u32>(entry >> 32)) & ENTRY_KIND) == KIND_DEVICE_PRIVATE);
  }
  bytesAhead(list, list + (count << 2));
}

/** Reads the records of the frames of a list, and the first bytes of their pages. */
function bytesAhead(list: u32, end: u32): void {
  for (let at = list; at < end; at += 4) {
    const frame = load<u32>(at);
    store<u32>(at, frame == <u32>FRAME_NONE ? list : frameBytes(frame));
  }
  let read: u32 = 0;
  for (let at = list; at < end; at += 4) read += load<u8>(load<u32>(at));
  // Kept, or the reading would be left out.
  store<u32>(end, read);
}

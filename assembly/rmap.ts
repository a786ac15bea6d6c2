import {
  CHAIN_BYTES,
  CHAIN_KIND,
  CHAIN_MAPPING,
  CHAIN_NEXT,
  CHAIN_OWNER,
  CHAIN_VPN,
  FRAME_FLAGS,
  FRAME_HUGETLB,
  FRAME_MAPS,
  FRAME_ORDER,
  FRAME_RMAP,
  FRAME_RMAP_OWNER,
  HUGE_ORDER,
  H_CHAIN,
  H_CHAIN_BUMP,
  H_CHAIN_FREE,
  H_CHAIN_MAX,
  H_CHAIN_RESERVED,
  H_CHAIN_USED,
  H_TABLES,
  MAPS_MASK,
  PLACE_BYTES,
  PLACE_MORE,
  RMAP_CHAINED_SHIFT,
  RMAP_TABLE,
  RMAP_TABLE_SHIFT,
  RMAP_VPN_HIGH,
  TABLE_BYTES,
} from './layout';
import { frameOrder, frameRecord } from './frame';

/**
 * The reverse map: from a frame to every home-table entry that names it.
 *
 * One mapping, the usual case, is written into the frame's own record. The second one moves both into a chain of records:
 *
 * ```
 * frame: rmap = vpn low, owner = [table + 1 | vpn high]                       one mapping
 * frame: rmap = chain index, owner = bit 31  ->  record -> record -> 0         several
 * ```
 *
 * The mappings of a huge frame are recorded on its head. With more than one, H_CHAIN_RESERVED records are set aside for the day it is split: then each of its
 * pages has as many.
 *
 * Models: `anon_vma`, `rmap_walk`.
 */

const CHAINED: u32 = 1 << RMAP_CHAINED_SHIFT;

function chainRecord(index: u32): u32 {
  return load<u32>(H_CHAIN) + index * CHAIN_BYTES;
}

/** A free chain record's index, or 0 (record 0 is never handed out). */
function chainTake(): u32 {
  if (load<u32>(H_CHAIN_USED) + load<u32>(H_CHAIN_RESERVED) + 1 >= load<u32>(H_CHAIN_MAX)) return 0;
  let index = load<u32>(H_CHAIN_FREE);
  if (index) store<u32>(H_CHAIN_FREE, load<u32>(chainRecord(index), CHAIN_NEXT));
  else {
    index = load<u32>(H_CHAIN_BUMP) + 1;
    if (index >= load<u32>(H_CHAIN_MAX)) return 0;
    store<u32>(H_CHAIN_BUMP, index);
  }
  store<u32>(H_CHAIN_USED, load<u32>(H_CHAIN_USED) + 1);
  return index;
}

function chainGive(index: u32): void {
  const record = chainRecord(index);
  store<u32>(record, 0, CHAIN_KIND);
  store<u32>(record, load<u32>(H_CHAIN_FREE), CHAIN_NEXT);
  store<u32>(H_CHAIN_FREE, index);
  store<u32>(H_CHAIN_USED, load<u32>(H_CHAIN_USED) - 1);
}

/** Records set aside for a huge frame with that many mappings; none for one that is never split. */
function reservedFor(record: u32, maps: u32): u32 {
  const flags = load<u32>(record, FRAME_FLAGS);
  return maps > 1 && flags & FRAME_ORDER && !(flags & FRAME_HUGETLB) ? maps << HUGE_ORDER : 0;
}

/** The mappings of a huge frame become `to` instead of `from`: more records are set aside, or fewer. Returns 1, or 0 when there are not enough (nothing has changed then). */
function reserve(record: u32, from: u32, to: u32): u32 {
  const reserved = load<u32>(H_CHAIN_RESERVED) - reservedFor(record, from) + reservedFor(record, to);
  // Two more for the chain of the frame itself.
  if (to > from && load<u32>(H_CHAIN_USED) + reserved + 2 >= load<u32>(H_CHAIN_MAX)) return 0;
  store<u32>(H_CHAIN_RESERVED, reserved);
  return 1;
}

/** Table and upper bits of the page number of a mapping, in one word. */
export function ownerWord(tableIndex: u32, vpn: u64): u32 {
  return ((tableIndex + 1) << RMAP_TABLE_SHIFT) | ((<u32>(vpn >> 32)) & RMAP_VPN_HIGH);
}

/** Descriptor address of the table in an owner word. */
export function rmapTable(owner: u32): u32 {
  return load<u32>(H_TABLES) + (((owner & RMAP_TABLE) >> RMAP_TABLE_SHIFT) - 1) * TABLE_BYTES;
}

/** Page number in a mapping's two words. */
export function rmapVpn(low: u32, owner: u32): u64 {
  return ((<u64>(owner & RMAP_VPN_HIGH)) << 32) | low;
}

/** Records that `table` (by index) maps the frame at `vpn`. Returns 1, or 0 when there is no free record (nothing has changed then). */
export function rmapAdd(frame: u32, tableIndex: u32, vpn: u64): u32 {
  const entry = frameRecord(frame),
    owner = load<u32>(entry, FRAME_RMAP_OWNER);
  if (!owner) {
    store<u32>(entry, <u32>vpn, FRAME_RMAP);
    store<u32>(entry, ownerWord(tableIndex, vpn), FRAME_RMAP_OWNER);
  } else {
    const maps = load<u32>(entry, FRAME_MAPS) & MAPS_MASK,
      isHuge = (load<u32>(entry, FRAME_FLAGS) & FRAME_ORDER) != 0;
    if (isHuge && !reserve(entry, maps, maps + 1)) return 0;
    const first = chainTake();
    if (!first) {
      if (isHuge) reserve(entry, maps + 1, maps);
      return 0;
    }
    let next: u32 = load<u32>(entry, FRAME_RMAP);
    if (!(owner & CHAINED)) {
      const second = chainTake();
      if (!second) {
        chainGive(first);
        if (isHuge) reserve(entry, maps + 1, maps);
        return 0;
      }
      chainWrite(second, next, owner, 0);
      next = second;
    }
    chainWrite(first, <u32>vpn, ownerWord(tableIndex, vpn), next);
    store<u32>(entry, first, FRAME_RMAP);
    store<u32>(entry, CHAINED, FRAME_RMAP_OWNER);
  }
  store<u32>(entry, load<u32>(entry, FRAME_MAPS) + 1, FRAME_MAPS);
  return 1;
}

function chainWrite(index: u32, low: u32, owner: u32, next: u32): void {
  const record = chainRecord(index);
  store<u32>(record, low, CHAIN_VPN);
  store<u32>(record, owner, CHAIN_OWNER);
  store<u32>(record, next, CHAIN_NEXT);
  store<u32>(record, CHAIN_MAPPING, CHAIN_KIND);
}

/** Forgets that mapping. Returns 1, or 0 when it was not recorded. A chain that shrinks to one mapping moves back into the frame. */
export function rmapRemove(frame: u32, tableIndex: u32, vpn: u64): u32 {
  const entry = frameRecord(frame),
    owner = load<u32>(entry, FRAME_RMAP_OWNER),
    wanted = ownerWord(tableIndex, vpn);
  if (!(owner & CHAINED)) {
    if (owner != wanted || load<u32>(entry, FRAME_RMAP) != <u32>vpn) return 0;
    store<u64>(entry, 0, FRAME_RMAP);
  } else {
    let previous: u32 = 0,
      index = load<u32>(entry, FRAME_RMAP);
    while (index) {
      const record = chainRecord(index);
      if (load<u32>(record, CHAIN_OWNER) == wanted && load<u32>(record, CHAIN_VPN) == <u32>vpn) break;
      previous = index;
      index = load<u32>(record, CHAIN_NEXT);
    }
    if (!index) return 0;
    const next = load<u32>(chainRecord(index), CHAIN_NEXT);
    if (previous) store<u32>(chainRecord(previous), next, CHAIN_NEXT);
    else store<u32>(entry, next, FRAME_RMAP);
    chainGive(index);
    const first = load<u32>(entry, FRAME_RMAP),
      record = chainRecord(first);
    if (!load<u32>(record, CHAIN_NEXT)) {
      store<u32>(entry, load<u32>(record, CHAIN_VPN), FRAME_RMAP);
      store<u32>(entry, load<u32>(record, CHAIN_OWNER), FRAME_RMAP_OWNER);
      chainGive(first);
    }
    if (load<u32>(entry, FRAME_FLAGS) & FRAME_ORDER) {
      const maps = load<u32>(entry, FRAME_MAPS) & MAPS_MASK;
      reserve(entry, maps, maps - 1);
    }
  }
  store<u32>(entry, load<u32>(entry, FRAME_MAPS) - 1, FRAME_MAPS);
  return 1;
}

/** A mapping has moved to another page of the same table. Requires: it is recorded. Takes and gives no record. */
export function rmapRename(frame: u32, tableIndex: u32, from: u64, to: u64): void {
  const entry = frameRecord(frame),
    wanted = ownerWord(tableIndex, from);
  if (!(load<u32>(entry, FRAME_RMAP_OWNER) & CHAINED)) {
    store<u32>(entry, <u32>to, FRAME_RMAP);
    store<u32>(entry, ownerWord(tableIndex, to), FRAME_RMAP_OWNER);
    return;
  }
  for (let index = load<u32>(entry, FRAME_RMAP); index; index = load<u32>(chainRecord(index), CHAIN_NEXT)) {
    const record = chainRecord(index);
    if (load<u32>(record, CHAIN_OWNER) != wanted || load<u32>(record, CHAIN_VPN) != <u32>from) continue;
    store<u32>(record, <u32>to, CHAIN_VPN);
    store<u32>(record, ownerWord(tableIndex, to), CHAIN_OWNER);
    return;
  }
}

/** A huge frame is being split: what was set aside for it may be taken. */
export function rmapUnreserve(frame: u32): void {
  const record = frameRecord(frame);
  store<u32>(H_CHAIN_RESERVED, load<u32>(H_CHAIN_RESERVED) - reservedFor(record, load<u32>(record, FRAME_MAPS) & MAPS_MASK));
}

/**
 * A walk over the mappings of a frame: a cursor is the index of a chain record, or RMAP_INLINE for the one mapping in the frame itself.
 * `rmapFirst` starts, `rmapNext` goes on, 0 ends; `rmapLow` and `rmapOwner` read. The chain must not change during the walk.
 */
const RMAP_INLINE: u32 = 0xffffffff;

export function rmapFirst(frame: u32): u32 {
  const entry = frameRecord(frame),
    owner = load<u32>(entry, FRAME_RMAP_OWNER);
  return owner ? (owner & CHAINED ? load<u32>(entry, FRAME_RMAP) : RMAP_INLINE) : 0;
}

export function rmapNext(cursor: u32): u32 {
  return cursor == RMAP_INLINE ? 0 : load<u32>(chainRecord(cursor), CHAIN_NEXT);
}

export function rmapLow(frame: u32, cursor: u32): u32 {
  return cursor == RMAP_INLINE ? load<u32>(frameRecord(frame), FRAME_RMAP) : load<u32>(chainRecord(cursor), CHAIN_VPN);
}

export function rmapOwner(frame: u32, cursor: u32): u32 {
  return cursor == RMAP_INLINE ? load<u32>(frameRecord(frame), FRAME_RMAP_OWNER) : load<u32>(chainRecord(cursor), CHAIN_OWNER);
}

/** Hands every mapping of one frame over to another that has none: what a migration does at its end. */
export function rmapMove(from: u32, to: u32): void {
  const source = frameRecord(from),
    target = frameRecord(to),
    maps = load<u32>(source, FRAME_MAPS) & MAPS_MASK;
  store<u64>(target, load<u64>(source, FRAME_RMAP), FRAME_RMAP);
  store<u64>(source, 0, FRAME_RMAP);
  store<u32>(target, load<u32>(target, FRAME_MAPS) + maps, FRAME_MAPS);
  store<u32>(source, load<u32>(source, FRAME_MAPS) - maps, FRAME_MAPS);
}

/** For the SDK: `rmapAdd` with the page number as f64. */
export function rmapAddPage(frame: u32, tableIndex: u32, vpn: f64): u32 {
  return rmapAdd(frame, tableIndex, <u64>vpn);
}

/** For the SDK: `rmapRemove` with the page number as f64. */
export function rmapRemovePage(frame: u32, tableIndex: u32, vpn: f64): u32 {
  return rmapRemove(frame, tableIndex, <u64>vpn);
}

/** Writes the mappings of a frame at `output`, three u32 each: table index, vpn low, vpn high; at most `max`. Returns how many there are. */
export function rmapList(frame: u32, output: u32, max: u32): u32 {
  let found: u32 = 0;
  for (let cursor = rmapFirst(frame); cursor; cursor = rmapNext(cursor)) {
    if (found < max) {
      const owner = rmapOwner(frame, cursor),
        slot = output + found * 12;
      store<u32>(slot, ((owner & RMAP_TABLE) >> RMAP_TABLE_SHIFT) - 1);
      store<u32>(slot, rmapLow(frame, cursor), 4);
      store<u32>(slot, owner & RMAP_VPN_HIGH, 8);
    }
    found++;
  }
  return found;
}

/**
 * Writes where each of `n` frames (u32 at `frames`; of huge ones the head) is mapped first, 16 bytes each at `output`.
 *
 * ```
 *  place   0  table index; 0xffffffff: it is not mapped   4  vpn low   8  vpn high   12  pages of the frame | PLACE_MORE
 * ```
 */
export function rmapPlaces(frames: u32, n: u32, output: u32): void {
  for (let i: u32 = 0; i < n; i++, output += PLACE_BYTES) {
    const frame = load<u32>(frames + (i << 2)),
      pages = 1 << frameOrder(frameRecord(frame)),
      cursor = rmapFirst(frame),
      owner = cursor ? rmapOwner(frame, cursor) : 0;
    store<u32>(output, ((owner & RMAP_TABLE) >> RMAP_TABLE_SHIFT) - 1);
    store<u32>(output, cursor ? rmapLow(frame, cursor) : 0, 4);
    store<u32>(output, owner & RMAP_VPN_HIGH, 8);
    store<u32>(output, cursor && rmapNext(cursor) ? pages | PLACE_MORE : pages, 12);
  }
}

import {
  ENTRY_ACCESSED,
  ENTRY_ANON_EXCLUSIVE,
  ENTRY_KIND,
  ENTRY_WRITE,
  ENTRY_ZERO,
  FRAME_NONE,
  FREED_MAX,
  H_FREED,
  H_STOP_REASON,
  H_ZERO_FRAME,
  KIND_DEVICE_PRIVATE,
  KIND_EXCLUSIVE,
  KIND_MIGRATION,
  KIND_PRESENT,
  KIND_PROTNONE,
  STOP_CHAIN,
  STOP_FRAMES,
  STOP_FULL,
  STOP_NONE,
  STOP_TABLES,
  TABLE_INDEX,
  TABLE_TLB,
} from './layout';
import { frameCharge, frameClear, framePut, frameRecord, frameTake } from './frame';
import { leafOf, leafSlot, makeLeafSlot, pruneLeaf, writeLeaf } from './table';
import { rangeNext, rangeSplit } from './range';
import { live } from './table-page';
import { rmapAdd, rmapRemove } from './rmap';
import { tlbDrop, tlbDropRange } from './tlb';

/**
 * What happens to the home table of an address space: frames come and go with their references, reverse map, charge and the CPU's TLB.
 * The home table is the one truth about a page; `table.ts` and `range.ts` below know nothing of frames.
 *
 * Models: `mm/memory.c` (`do_anonymous_page`, `zap_pte_range`), `mm/mprotect.c` (`change_pte_range`).
 */

/** Drops the CPU's translation of a page. */
function shootDown(table: u32, vpn: u64): void {
  const tlb = load<u32>(table, TABLE_TLB);
  if (tlb) tlbDrop(tlb, vpn);
}

/** A read of a hole: the page of zeros appears, not writable. Requires: none at `vpn`. Returns 1, or 0 with the reason in H_STOP_REASON. */
export function mapZero(table: u32, vpn: f64): u32 {
  const slot = makeLeafSlot(table, <u64>vpn);
  if (!slot) return 0;
  writeLeaf(table, slot, entryOf(load<u32>(H_ZERO_FRAME), KIND_PRESENT | ENTRY_ZERO | ENTRY_ACCESSED));
  store<u32>(H_STOP_REASON, STOP_NONE);
  return 1;
}

/**
 * A write to a hole or to the page of zeros: a zeroed frame of `node` appears, writable, this space's own.
 * Requires: none or the page of zeros at `vpn`. Returns the frame, or FRAME_NONE with the reason in H_STOP_REASON and nothing changed.
 */
export function mapFresh(table: u32, vpn: f64, node: u32): u32 {
  const page = <u64>vpn,
    slot = makeLeafSlot(table, page);
  if (!slot) return <u32>FRAME_NONE;
  const frame = frameTake(node, 0);
  if (frame == <u32>FRAME_NONE) {
    store<u32>(H_STOP_REASON, STOP_FRAMES);
    pruneLeaf(table, page);
    return frame;
  }
  const index = load<u32>(table, TABLE_INDEX);
  if (!rmapAdd(frame, index, page)) {
    framePut(frame);
    store<u32>(H_STOP_REASON, STOP_CHAIN);
    pruneLeaf(table, page);
    return <u32>FRAME_NONE;
  }
  frameClear(frame);
  frameCharge(frameRecord(frame), index);
  writeLeaf(table, slot, entryOf(frame, KIND_PRESENT | ENTRY_WRITE | ENTRY_ANON_EXCLUSIVE | ENTRY_ACCESSED));
  shootDown(table, page);
  store<u32>(H_STOP_REASON, STOP_NONE);
  return frame;
}

/** A write to a page that is this space's own but mapped read-only: the right to write appears in place. Requires: present, not the page of zeros. */
export function mapReuse(table: u32, vpn: f64): void {
  const slot = leafSlot(table, <u64>vpn);
  writeLeaf(table, slot, load<u64>(slot) | ((<u64>(ENTRY_WRITE | ENTRY_ANON_EXCLUSIVE)) << 32));
  shootDown(table, <u64>vpn);
}

function entryOf(frame: u32, high: u32): u64 {
  return ((<u64>high) << 32) | frame;
}

/** Forgets one entry's frame: reverse map, reference. Whatever else holds the frame keeps it. */
function release(index: u32, vpn: u64, entry: u64): void {
  const high = <u32>(entry >> 32),
    kind = high & ENTRY_KIND;
  if (high & ENTRY_ZERO) return;
  if (kind == KIND_PRESENT || kind == KIND_PROTNONE || kind == KIND_DEVICE_PRIVATE || kind == KIND_EXCLUSIVE || kind == KIND_MIGRATION) {
    rmapRemove(<u32>entry, index, vpn);
    framePut(<u32>entry);
  }
}

/**
 * Takes every entry of a range away and gives up its frame. Skips what is not mapped without looking at it. Returns the pages of the
 * range dealt with: fewer than `pages` only when AREA_FREED is full (STOP_FULL: tell the owners, call again) or a huge leaf at the
 * border cannot be split (STOP_TABLES).
 */
export function zap(table: u32, vpn: f64, pages: u32): u32 {
  const first = <u64>vpn,
    end = first + pages,
    index = load<u32>(table, TABLE_INDEX),
    tlb = load<u32>(table, TABLE_TLB);
  let page = first;
  store<u32>(H_STOP_REASON, STOP_NONE);
  while (page < end) {
    const next = rangeNext(table, <f64>page, <u32>(end - page));
    if (next < 0) break;
    page = <u64>next;
    const leaf = leafOf(table, page);
    if (!leaf) {
      if (!rangeSplit(table, <f64>page)) {
        store<u32>(H_STOP_REASON, STOP_TABLES);
        return <u32>(page - first);
      }
      continue;
    }
    if (load<u32>(H_FREED) >= <u32>FREED_MAX) {
      store<u32>(H_STOP_REASON, STOP_FULL);
      return <u32>(page - first);
    }
    const slot = leafSlot(table, page),
      entry = load<u64>(slot);
    writeLeaf(table, slot, 0);
    if (tlb) tlbDrop(tlb, page);
    release(index, page, entry);
    if (!live(leaf)) pruneLeaf(table, page);
    page++;
  }
  return pages;
}

/**
 * Gives every entry of a range the rights of a new promise. Rights that shrink are taken at once; write comes back at once only on a host
 * page that is this space's own. A device-private entry loses write for good (only a CPU write brings it back).
 * `rights`: bit 0 read, bit 1 write. Returns the entries changed, or -1 with STOP_TABLES when a huge leaf at the border cannot be split.
 */
export function reprotect(table: u32, vpn: f64, pages: u32, rights: u32): i32 {
  const first = <u64>vpn,
    end = first + pages,
    tlb = load<u32>(table, TABLE_TLB);
  let page = first,
    changed: i32 = 0;
  store<u32>(H_STOP_REASON, STOP_NONE);
  // Before the entries: a call that stops half-way leaves no translation of an entry that it changed.
  if (tlb) tlbDropRange(tlb, first, pages);
  while (page < end) {
    const next = rangeNext(table, <f64>page, <u32>(end - page));
    if (next < 0) break;
    page = <u64>next;
    const slot = leafSlot(table, page);
    if (!slot) {
      if (!rangeSplit(table, <f64>page)) {
        store<u32>(H_STOP_REASON, STOP_TABLES);
        return -1;
      }
      continue;
    }
    const entry = load<u64>(slot),
      high = <u32>(entry >> 32),
      kind = high & ENTRY_KIND;
    let wanted = high;
    if (kind == KIND_PRESENT || kind == KIND_PROTNONE) {
      wanted = (wanted & ~ENTRY_KIND) | (rights & 1 ? KIND_PRESENT : KIND_PROTNONE);
      if (rights & 2 && high & ENTRY_ANON_EXCLUSIVE && !(high & ENTRY_ZERO)) wanted |= ENTRY_WRITE;
      else wanted &= ~ENTRY_WRITE;
    } else if (kind == KIND_DEVICE_PRIVATE || kind == KIND_MIGRATION) {
      if (!(rights & 2)) wanted &= ~ENTRY_WRITE;
    }
    if (wanted != high) {
      writeLeaf(table, slot, entryOf(<u32>entry, wanted));
      changed++;
    }
    page++;
  }
  return changed;
}

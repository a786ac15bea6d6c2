import {
  ENTRY_ACCESSED,
  ENTRY_ANON_EXCLUSIVE,
  ENTRY_BYTES,
  ENTRY_PROMISES,
  ENTRY_KIND,
  ENTRY_NO_ACCESS,
  ENTRY_WRITE,
  ENTRY_ZERO,
  FRAME_FILE,
  FRAME_FLAGS,
  FRAME_HUGETLB,
  FRAME_NONE,
  FRAME_REFS,
  FREED_MAX,
  H_FREED,
  H_STOP_REASON,
  H_ZERO_FRAME,
  KIND_DEVICE_PRIVATE,
  KIND_EXCLUSIVE,
  KIND_MIGRATION,
  KIND_PRESENT,
  KIND_PROTNONE,
  KIND_SWAP,
  RIGHT_READ,
  RIGHT_WRITE,
  STOP_CHAIN,
  STOP_FRAMES,
  STOP_FULL,
  STOP_NONE,
  TABLE_INDEX,
  TABLE_TLB,
} from './layout';
import { frameCharge, frameClear, frameMaps, framePut, frameRecord, frameTake } from './frame';
import { named } from './cow';
import { splitHuge } from './huge';
import { afterLeafPage, makeLeafSlot, pagesBelow, pruneLeaf, seek, writeEntry, writeLeaf } from './table';
import { nextSet } from './range';
import { alikeEnd, setHigh } from './run';
import { live, pageOf, undeposit } from './table-page';
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

/** A write to a page that is this space's own but mapped read-only: the right to write appears in place. Requires: present, small or huge, not the page of zeros. */
export function mapReuse(table: u32, vpn: f64): void {
  const place = seek(table, <u64>vpn),
    slot = <u32>place;
  store<u32>(slot, (load<u32>(slot, 4) & ~ENTRY_PROMISES) | ENTRY_WRITE | ENTRY_ANON_EXCLUSIVE, 4);
  if (!(place >> 32)) shootDown(table, <u64>vpn);
  else shootDownBlock(table, <u64>vpn, <u32>(place >> 32));
}

/** Drops the CPU's translations of a block. */
function shootDownBlock(table: u32, vpn: u64, level: u32): void {
  const tlb = load<u32>(table, TABLE_TLB),
    pages = pagesBelow(table, level);
  if (tlb) tlbDropRange(tlb, vpn & ~(pages - 1), pages);
}

function entryOf(frame: u32, high: u32): u64 {
  return ((<u64>high) << 32) | frame;
}

/** Forgets one entry's frame: reverse map, reference; and the deposit of a block. Whatever else holds the frame keeps it. */
function release(index: u32, vpn: u64, entry: u64, level: u32): void {
  const high = <u32>(entry >> 32);
  if (high & ENTRY_ZERO) {
    if (level) undeposit();
    return;
  }
  if (named(high)) {
    if (level && !(load<u32>(frameRecord(<u32>entry), FRAME_FLAGS) & FRAME_HUGETLB)) undeposit();
    rmapRemove(<u32>entry, index, vpn);
    framePut(<u32>entry);
  }
}

/** Whether the block at `level` around a page reaches out of `[page, end)`. */
function reachesOut(table: u32, level: u32, page: u64, end: u64): bool {
  const pages = pagesBelow(table, level);
  return (page & (pages - 1)) != 0 || page + pages > end;
}

/**
 * Takes every entry of a range away and gives up its frame. Skips what is not mapped without looking at it. A huge page across a border is split. Returns the pages of the
 * range dealt with: fewer than `pages` only when AREA_FREED is full (STOP_FULL: tell the owners, call again) or a huge page that must be split is locked by a
 * migration (STOP_LOCKED: wait for H_STOP_ENTRY_LOW, call again). Requires: no border inside a hugetlb page.
 */
export function zap(table: u32, vpn: f64, pages: u32): u32 {
  const first = <u64>vpn,
    end = first + pages,
    index = load<u32>(table, TABLE_INDEX),
    tlb = load<u32>(table, TABLE_TLB);
  let page = first;
  store<u32>(H_STOP_REASON, STOP_NONE);
  while (page < end) {
    page = nextSet(table, page, end);
    if (page == end) break;
    const place = seek(table, page),
      slot = <u32>place,
      level = <u32>(place >> 32);
    if (level && reachesOut(table, level, page, end)) {
      if (!splitHuge(table, <f64>page)) return <u32>(page - first);
      continue;
    }
    if (load<u32>(H_FREED) >= <u32>FREED_MAX) {
      store<u32>(H_STOP_REASON, STOP_FULL);
      return <u32>(page - first);
    }
    const entry = load<u64>(slot);
    if (!level) {
      writeLeaf(table, slot, 0);
      if (tlb) tlbDrop(tlb, page);
    } else {
      writeEntry(table, slot, level, 0);
      shootDownBlock(table, page, level);
    }
    release(index, page, entry, level);
    if (!live(pageOf(slot))) pruneLeaf(table, page);
    page += level ? pagesBelow(table, level) : 1;
  }
  store<u32>(H_STOP_REASON, STOP_NONE);
  return pages;
}

/**
 * The pages of a range that hold nothing anybody else knows of go: present, anonymous, mapped once, with no other holder. Everything else stays, device-private pages included. A huge page
 * across a border is split. Returns as `zap`. Models: `madvise_free_pte_range`, with the reclaim done at once.
 */
export function zapLazy(table: u32, vpn: f64, pages: u32): u32 {
  const first = <u64>vpn,
    end = first + pages;
  let page = first;
  store<u32>(H_STOP_REASON, STOP_NONE);
  while (page < end) {
    page = nextSet(table, page, end);
    if (page == end) break;
    const place = seek(table, page),
      level = <u32>(place >> 32),
      after = (page | (pagesBelow(table, level) - 1)) + 1;
    if (isLazy(load<u64>(<u32>place))) {
      // One that a migration has just taken stays: it is not ours alone any more.
      if (level && reachesOut(table, level, page, end) && splitHuge(table, <f64>page)) continue;
      const part = <u32>((after < end ? after : end) - page),
        done = zap(table, <f64>page, part);
      if (done < part) return <u32>(page - first) + done;
    }
    page = after;
  }
  store<u32>(H_STOP_REASON, STOP_NONE);
  return pages;
}

/** Whether nobody but this entry knows of its page. */
function isLazy(entry: u64): bool {
  const high = <u32>(entry >> 32);
  const kind = high & ENTRY_KIND;
  if ((kind != KIND_PRESENT && kind != KIND_SWAP) || high & ENTRY_ZERO) return false;
  const record = frameRecord(<u32>entry);
  return !(load<u32>(record, FRAME_FLAGS) & FRAME_FILE) && load<u32>(record, FRAME_REFS) == 1 && frameMaps(record) == 1;
}

/** What the high word of an entry becomes under the rights of a new promise. */
function underRights(high: u32, rights: u32): u32 {
  const kind = high & ENTRY_KIND;
  // The event that came before has taken the device's translation.
  let wanted = high & ~ENTRY_PROMISES;
  if (kind == KIND_PRESENT || kind == KIND_PROTNONE) {
    wanted = (wanted & ~ENTRY_KIND) | (rights & RIGHT_READ ? KIND_PRESENT : KIND_PROTNONE);
    if (rights & RIGHT_WRITE && high & ENTRY_ANON_EXCLUSIVE && !(high & ENTRY_ZERO)) wanted |= ENTRY_WRITE;
    else wanted &= ~ENTRY_WRITE;
  } else if (kind == KIND_DEVICE_PRIVATE || kind == KIND_MIGRATION || kind == KIND_EXCLUSIVE || kind == KIND_SWAP) {
    if (kind != KIND_EXCLUSIVE && !(rights & RIGHT_WRITE)) wanted &= ~ENTRY_WRITE;
    wanted = rights & RIGHT_READ ? wanted & ~ENTRY_NO_ACCESS : wanted | ENTRY_NO_ACCESS;
  }
  return wanted;
}

/**
 * Gives every entry of a range the rights of a new promise. Rights that shrink are taken at once; write comes back at once only on a present
 * page that is this space's own. A device-private entry loses write for good (only a CPU write brings it back); an exclusive one stays, and asks the VMA when it is revoked.
 * `rights`: RIGHT_*. A huge page across a border is split. Returns the entries changed, or -1 when one that must be split is locked by a migration (STOP_LOCKED; call again for
 * the whole range).
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
    page = nextSet(table, page, end);
    if (page == end) break;
    const place = seek(table, page),
      slot = <u32>place,
      level = <u32>(place >> 32);
    if (!level) {
      const next = afterLeafPage(table, page, end);
      changed += reprotectRun(slot, <u32>(next - page), rights);
      page = next;
      continue;
    }
    if (reachesOut(table, level, page, end)) {
      if (!splitHuge(table, <f64>page)) return -1;
      continue;
    }
    changed += reprotectRun(slot, 1, rights);
    page += pagesBelow(table, level);
  }
  return changed;
}

/** `reprotect` of neighbouring entries: most have all bits of their high words alike. Returns those changed. */
function reprotectRun(slot: u32, entries: u32, rights: u32): u32 {
  const end = slot + entries * ENTRY_BYTES;
  let changed: u32 = 0;
  while (slot < end) {
    const high = load<u32>(slot, 4),
      wanted = underRights(high, rights),
      next = alikeEnd(slot, end, high, -1);
    if (wanted != high) {
      setHigh(slot, next, wanted);
      changed += (next - slot) / ENTRY_BYTES;
    }
    slot = next;
  }
  return changed;
}

import {
  ENTRY_ANON_EXCLUSIVE,
  ENTRY_PROMISES,
  ENTRY_DIRTY,
  ENTRY_KIND,
  ENTRY_NO_ACCESS,
  ENTRY_WRITE,
  ENTRY_ZERO,
  FORK_OMIT_DEVICE,
  FRAME_BYTES,
  FRAME_FILE,
  FRAME_FLAGS,
  FRAME_HUGETLB,
  FRAME_LOCKED,
  FRAME_NONE,
  FRAME_ORDER,
  FRAME_ORDER_SHIFT,
  FRAME_REFS,
  H_STOP_ENTRY_LOW,
  H_STOP_REASON,
  KIND_EXCLUSIVE,
  KIND_PRESENT,
  KIND_PROTNONE,
  NODE_IS_PRIVATE,
  NODE_KIND,
  RIGHT_READ,
  STOP_CHAIN,
  STOP_FRAMES,
  STOP_LOCKED,
  STOP_NONE,
  STOP_TABLES,
  TABLE_INDEX,
} from './layout';
import { frameCharge, frameCopy, frameGet, frameMaps, framePins, frameRecord, frameTake } from './frame';
import { named, shootDown } from './cow';
import { deposit, splitHuge, undeposit } from './huge';
import { nodeOf } from './node';
import { revoked } from './exclusive';
import { rmapAdd } from './rmap';
import { nextSet } from './range';
import { makeLeafSlot, pagesBelow, pruneLeaf, seek, slotMake, writeEntry } from './table';

/**
 * What a child inherits of its parent's table.
 *
 * ```
 *   parent entry                         parent afterwards        child
 *   present, protnone, private, anon     no write, shared         the same; frame: one mapping and reference more
 *   the same, pinned and anon-exclusive  unchanged                a copy of its own, at once
 *   page of zeros, huge one included     unchanged                the same
 *   page of a file, private mapping      no write                 the same
 *   exclusive                            present again, as above  as above
 *   migration                            read flavour             read flavour
 *   special                              unchanged                the same
 *   poison                               unchanged                the same
 * ```
 *
 * Models: `copy_page_range`, `copy_nonpresent_pte`, `copy_huge_pmd`.
 */

/**
 * Inherits the pages of `[vpn, vpn + pages)` of private VMAs. `node`: where copies of pinned pages go. `flags`: FORK_OMIT_DEVICE.
 * Returns the pages dealt with: fewer only with STOP_TABLES, STOP_CHAIN, STOP_FRAMES, STOP_LOCKED (an exclusive page, or a pinned huge page that must be split, is locked: wait for
 * H_STOP_ENTRY_LOW); call again from there.
 */
export function forkRange(parent: u32, child: u32, vpn: f64, pages: u32, node: u32, flags: u32): u32 {
  const first = <u64>vpn,
    end = first + pages;
  let page = first;
  while (page < end) {
    page = nextSet(parent, page, end);
    if (page == end) break;
    const place = seek(parent, page),
      level = <u32>(place >> 32),
      n = pagesBelow(parent, level);
    if (level && (page & (n - 1) || page + n > end || mustSplit(load<u64>(<u32>place)))) {
      if (!splitHuge(parent, <f64>page)) return <u32>(page - first);
      continue;
    }
    if (!inherit(parent, child, page, <u32>place, level, node, flags)) return <u32>(page - first);
    page += n;
  }
  store<u32>(H_STOP_REASON, STOP_NONE);
  return pages;
}

/** Whether a present entry is of a frame that is this space's own and pinned, which a child must not share: the pin goes on meaning the parent's page. */
function isPinned(high: u32, record: u32): bool {
  const kind = high & ENTRY_KIND;
  if (!(high & ENTRY_ANON_EXCLUSIVE) || (kind != KIND_PRESENT && kind != KIND_PROTNONE)) return false;
  const flags = load<u32>(record, FRAME_FLAGS),
    // Whatever holds a frame beyond its mappings may be pins, of a huge one on any of its pages.
    order = (flags & FRAME_ORDER) >> FRAME_ORDER_SHIFT;
  if (flags & FRAME_FILE || load<u32>(record, FRAME_REFS) == frameMaps(record)) return false;
  for (let each = record, end = record + (FRAME_BYTES << order); each < end; each += FRAME_BYTES) if (framePins(each)) return true;
  return false;
}

/** Whether a block cannot be inherited as one: some of its pages are pinned. One of a hugetlb-like mapping is copied as a whole. */
function mustSplit(entry: u64): bool {
  const high = <u32>(entry >> 32);
  if (!named(high)) return false;
  const record = frameRecord(<u32>entry);
  return !(load<u32>(record, FRAME_FLAGS) & FRAME_HUGETLB) && isPinned(high, record);
}

/** Inherits the entry of the slot at `page`. Returns 1, or 0 with the reason in H_STOP_REASON and nothing changed. */
function inherit(parent: u32, child: u32, page: u64, slot: u32, level: u32, node: u32, flags: u32): u32 {
  const entry = load<u64>(slot),
    frame = <u32>entry;
  let high = <u32>(entry >> 32);
  const held = named(high);
  if (held && flags & FORK_OMIT_DEVICE && load<u32>(nodeOf(frame), NODE_KIND) == NODE_IS_PRIVATE) return 1;
  const into = level ? slotMake(child, page, level) : makeLeafSlot(child, page);
  if (!into) return 0;
  const isHugeZero = level && high & ENTRY_ZERO,
    record = held ? frameRecord(frame) : 0,
    deposits = level && (isHugeZero || (held && !(load<u32>(record, FRAME_FLAGS) & FRAME_HUGETLB)));
  if (deposits && !deposit()) return refuse(child, page, STOP_TABLES);
  if (!held) {
    writeEntry(child, into, level, entry);
    return 1;
  }
  if ((high & ENTRY_KIND) == KIND_EXCLUSIVE) {
    if (load<u32>(record, FRAME_FLAGS) & FRAME_LOCKED) {
      store<u32>(H_STOP_ENTRY_LOW, frame);
      return refuse(child, page, STOP_LOCKED);
    }
    // What the VMA allows is not known here: without write, which a fault brings back.
    high = revoked(high, high & ENTRY_NO_ACCESS ? 0 : RIGHT_READ);
  }
  high &= ~ENTRY_PROMISES;
  if (isPinned(high, record)) {
    const order = (load<u32>(record, FRAME_FLAGS) & FRAME_ORDER) >> FRAME_ORDER_SHIFT,
      copy = frameTake(node, order);
    if (copy == <u32>FRAME_NONE) return refuse(child, page, STOP_FRAMES);
    const copyRecord = frameRecord(copy);
    store<u32>(copyRecord, load<u32>(copyRecord, FRAME_FLAGS) | (load<u32>(record, FRAME_FLAGS) & FRAME_HUGETLB), FRAME_FLAGS);
    frameCopy(frame, copy, 1 << order);
    // The first mapping of a frame is written into the frame itself: no record is needed.
    rmapAdd(copy, load<u32>(child, TABLE_INDEX), page);
    frameCharge(copyRecord, load<u32>(child, TABLE_INDEX));
    writeEntry(child, into, level, entryOf(copy, high & ~ENTRY_DIRTY));
  } else {
    if (!rmapAdd(frame, load<u32>(child, TABLE_INDEX), page)) {
      if (deposits) undeposit();
      return refuse(child, page, STOP_CHAIN);
    }
    frameGet(frame);
    high &= ~(ENTRY_WRITE | ENTRY_ANON_EXCLUSIVE);
    writeEntry(child, into, level, entryOf(frame, high));
  }
  if (high != <u32>(entry >> 32)) {
    store<u32>(slot, high, 4);
    shootDown(parent, page, level);
  }
  return 1;
}

function entryOf(frame: u32, high: u32): u64 {
  return ((<u64>high) << 32) | frame;
}

/** Ends an inheritance that cannot be: the child's table is as it was. */
function refuse(child: u32, page: u64, reason: u32): u32 {
  store<u32>(H_STOP_REASON, reason);
  pruneLeaf(child, page);
  return 0;
}

import {
  ENTRY_BYTES,
  ENTRY_KIND,
  ENTRY_ORDER,
  ENTRY_ORDER_SHIFT,
  ENTRY_WRITE,
  ENTRY_ZERO,
  FRAME_BYTES,
  FRAME_FLAGS,
  FRAME_HUGETLB,
  FRAME_LOCKED,
  FRAME_NONE,
  FRAME_ORDER,
  FRAME_REFS,
  FRAME_RMAP,
  FRAME_STATE,
  HUGE_ORDER,
  H_BACKING,
  KIND_DEVICE_PRIVATE,
  KIND_NONE,
  KIND_PRESENT,
  KIND_SWAP,
  MIGRATE_COMPOUND,
  MIGRATE_MOVE,
  MIGRATE_VALID,
  MIGRATE_WRITE,
  NODE_BASE,
  NODE_FRAMES,
  NODE_IS_COHERENT,
  NODE_KIND,
  NODE_OWNER,
  SELECT_COHERENT,
  SELECT_COMPOUND,
  SELECT_NO_HOLES,
  SELECT_PRIVATE,
  SELECT_SWAP,
  SELECT_SYSTEM,
  STATE_USED,
  TABLE_INDEX,
  TABLE_TLB,
} from './layout';
import { HUGE_PAGES, frameMaps, frameRecord } from './frame';
import { splitHuge } from './huge';
import { UNMOVABLE, isExclusive, take, takeAt } from './isolate';
import { anyWanted } from './migrate';
import { migrationOf } from './migration-entry';
import { nodeOf } from './node';
import { ownerWord } from './rmap';
import { alikeEnd, fillRun, runLength } from './run';
import { afterBlock, afterHole, afterLeafPage, seek } from './table';
import { tlbDropRange } from './tlb';

/** The first phase of a migration, see migrate.ts: pages of a range, or frames, are isolated, each with a source word. */

/** Most pages whose entries are looked at before their records are. */
const LOOK_AHEAD: u32 = 64;
/** From ENTRY_WRITE to MIGRATE_WRITE. */
const WRITE_SHIFT = 1;

/** Whether the selectors mean an entry of this kind whose frame is on this node. */
export function selected(kind: u32, frame: u32, select: u32, owner: u32): bool {
  if (kind == KIND_PRESENT) {
    const node = nodeOf(frame);
    if (load<u32>(node, NODE_KIND) == NODE_IS_COHERENT) return select & SELECT_COHERENT && load<u32>(node, NODE_OWNER) == owner;
    return (select & SELECT_SYSTEM) != 0;
  }
  if (kind == KIND_SWAP) return (select & SELECT_SWAP) != 0;
  return kind == KIND_DEVICE_PRIVATE && select & SELECT_PRIVATE && load<u32>(nodeOf(frame), NODE_OWNER) == owner;
}

/** Writes the source word of a page that was taken. */
function wordOf(word: u32, frame: u32, high: u32, compound: u32): void {
  store<u32>(word, frame);
  store<u32>(word, MIGRATE_VALID | MIGRATE_MOVE | (high & ENTRY_WRITE ? MIGRATE_WRITE : 0) | compound, 4);
}

/**
 * Phase 1, by address: looks at `pages` pages from `vpn` on and writes one source word each. `owner` is the device (index + 1) whose pages
 * SELECT_PRIVATE and SELECT_COHERENT mean. `faultFrame` is the page of a `migrate_to_ram`, which its caller holds with one reference (of a huge
 * page its first frame), or FRAME_NONE. With `wanted` (address of target words, 0: none) only pages whose target word is VALID are looked at; a huge page or
 * hole is then taken as one if its first target word has COMPOUND. Returns the words with MOVE.
 *
 * Huge pages and holes come as one word with SELECT_COMPOUND, where they are wholly in the range; otherwise a huge page is split first, and not collected when that
 * cannot be. Those of hugetlb-like mappings are never collected.
 *
 * Requires: one VMA covers the range; SELECT_NO_HOLES unless it is anonymous. Ensures: words of pages that cannot be collected are 0 and those pages untouched.
 */
export function migrateCollect(table: u32, vpn: f64, pages: u32, select: u32, owner: u32, faultFrame: u32, source: u32, wanted: u32): u32 {
  const first = <u64>vpn,
    end = first + pages;
  const tlb = load<u32>(table, TABLE_TLB),
    // What the record of a frame says that is mapped at page 0 only; the page is added.
    mapping = (<u64>ownerWord(load<u32>(table, TABLE_INDEX), 0)) << 32,
    isPlain = !load<u32>(H_BACKING) && faultFrame == <u32>FRAME_NONE;
  let moving: u32 = 0,
    page = first,
    word = source,
    aim = wanted,
    // Kind and node of the page that was taken last: others like it are selected, too. No kind has all bits.
    likeKind: u32 = ENTRY_KIND,
    likeBase: u32 = 0,
    likeFrames: u32 = 0,
    // Pages whose translations are to be dropped.
    stale: u64 = 0,
    stales: u64 = 0;
  while (page < end) {
    let place = seek(table, page);
    if (place >> 32 && (load<u64>(<u32>place) || select & SELECT_COMPOUND)) {
      // A huge page or hole: n words of its own, 0 when it is to be looked at page by page.
      const n = collectHuge(table, page, <u32>(end - page), select, owner, faultFrame, word, aim);
      if (n) {
        moving += u32(load<u32>(word, 4) != 0);
        page += n;
        word += n << 3;
        if (aim) aim += n << 3;
        continue;
      }
      place = seek(table, page);
    }
    // What is left above the leaves is a hole. Those that come as a whole begin at a multiple of 512 pages.
    const isLeaf = !(place >> 32);
    let slot = <u32>place,
      next = isLeaf ? afterLeafPage(table, page, end) : afterHole(table, place, page, end);
    if (!isLeaf && next > (page | (HUGE_PAGES - 1))) next = (page | (HUGE_PAGES - 1)) + 1;
    if (next > end) next = end;
    for (; page < next; page++) {
      const entry = isLeaf ? load<u64>(slot) : 0,
        high = <u32>(entry >> 32),
        frame = <u32>entry;
      if (aim && !(load<u32>(aim, 4) & MIGRATE_VALID)) store<u64>(word, 0);
      else if ((high & (ENTRY_KIND | ENTRY_ZERO)) == likeKind && frame - likeBase < likeFrames && isAlone(frame, mapping + page)) {
        // One more of the sort that the last one was, which nobody else knows.
        const record = frameRecord(frame);
        store<u32>(record, load<u32>(record, FRAME_FLAGS) | FRAME_LOCKED, FRAME_FLAGS);
        store<u32>(record, 2, FRAME_REFS);
        store<u64>(slot, migrationOf(entry));
        const taken = ((<u64>(MIGRATE_VALID | MIGRATE_MOVE | ((high & ENTRY_WRITE) >> WRITE_SHIFT))) << 32) | frame;
        store<u64>(word, taken);
        const more = collectRun(page, slot, entry, likeFrames - (frame - likeBase), <u32>(next - page), mapping, word, taken, aim);
        moving += more + 1;
        // Translations go range by range.
        if (tlb) {
          if (stale + stales != page) {
            if (stales) tlbDropRange(tlb, stale, stales);
            stale = page;
            stales = 0;
          }
          stales += more + 1;
        }
        page += more;
        slot += more * ENTRY_BYTES;
        word += more << 3;
        if (aim) aim += more << 3;
      } else if (collectPage(table, page, slot, entry, select, owner, faultFrame, word)) {
        moving++;
        if (isPlain && load<u32>(word, 4) & MIGRATE_VALID) {
          const node = nodeOf(frame);
          likeKind = high & ENTRY_KIND;
          likeBase = load<u32>(node, NODE_BASE);
          likeFrames = load<u32>(node, NODE_FRAMES);
        }
      }
      slot += ENTRY_BYTES;
      word += 8;
      if (aim) aim += 8;
    }
  }
  if (stales) tlbDropRange(tlb, stale, stales);
  return moving;
}

/**
 * Takes the pages behind one that has just been taken, as long as everything counts on from it: entries, frames, mappings, with references, flags and payer alike. `slot` and `word` are the first one's,
 * `entry` and `taken` what was there and what its word is now; at most `frames` frames and `pages` pages, it included. `aim`: as `wanted` of a collection, of the first one. Returns how many.
 */
function collectRun(page: u64, slot: u32, entry: u64, frames: u32, pages: u32, mapping: u64, word: u32, taken: u64, aim: u32): u32 {
  let most = min(min(frames, pages), LOOK_AHEAD);
  if (most < 2 || load<u64>(slot, ENTRY_BYTES) != entry + 1) return 0;
  most = 1 + runLength(slot + ENTRY_BYTES, most - 1, entry + 1);
  if (aim) most = (alikeEnd(aim, aim + (most << 3), MIGRATE_VALID, MIGRATE_VALID) - aim) >> 3;
  const first = frameRecord(<u32>entry),
    migration = migrationOf(entry),
    locked = v128.load(first),
    // What it was before it was taken.
    before = i32x4.replace_lane(i32x4.replace_lane(locked, 2, i32x4.extract_lane(locked, 2) ^ FRAME_LOCKED), 0, 1);
  const end = first + most * FRAME_BYTES;
  let record = first + FRAME_BYTES,
    place = mapping + page + 1;
  for (; record < end; record += FRAME_BYTES, place++) {
    if (load<u64>(record, FRAME_RMAP) != place || v128.any_true(v128.xor(v128.load(record), before))) break;
    v128.store(record, locked);
  }
  const n = (record - first) / FRAME_BYTES;
  fillRun(slot, n, migration, 1);
  fillRun(word, n, taken, 1);
  return n - 1;
}

/** Whether nobody but one mapping, given as it is in its record, has a frame, so that it can be taken. */
function isAlone(frame: u32, mapping: u64): bool {
  const record = frameRecord(frame);
  return (
    load<u64>(record, FRAME_RMAP) == mapping &&
    load<u32>(record, FRAME_REFS) == 1 &&
    !(load<u32>(record, FRAME_FLAGS) & (UNMOVABLE | FRAME_ORDER))
  );
}

/** Collects one page with this leaf entry: writes its word, and returns 1 if it has MOVE, else 0. */
function collectPage(table: u32, page: u64, slot: u32, entry: u64, select: u32, owner: u32, faultFrame: u32, word: u32): u32 {
  const high = <u32>(entry >> 32),
    kind = high & ENTRY_KIND,
    frame = <u32>entry;
  let taken: u64 = 0;
  if (kind == KIND_NONE) {
    // A hole of an anonymous VMA is offered whatever the other selectors say: it migrates as "clear the target".
    if (!(select & SELECT_NO_HOLES)) taken = (<u64>MIGRATE_MOVE) << 32;
  } else if (kind == KIND_PRESENT && high & ENTRY_ZERO) {
    if (select & SELECT_SYSTEM) taken = (<u64>MIGRATE_MOVE) << 32;
  } else if (selected(kind, frame, select, owner) && takeAt(table, page, slot, entry, frame == faultFrame ? 1 : 0))
    taken = ((<u64>(MIGRATE_VALID | MIGRATE_MOVE | ((high & ENTRY_WRITE) >> WRITE_SHIFT))) << 32) | frame;
  store<u64>(word, taken);
  return u32(taken != 0);
}

/**
 * Collects what decides about `page` above the leaves, of which `left` pages are in the range: a block, or a hole. Returns the words written, or 0 when the page is to be looked at by itself:
 * the block has been split, or a hole does not come as a whole.
 */
function collectHuge(table: u32, page: u64, left: u32, select: u32, owner: u32, faultFrame: u32, word: u32, wanted: u32): u32 {
  const place = seek(table, page),
    entry = load<u64>(<u32>place),
    high = <u32>(entry >> 32),
    kind = high & ENTRY_KIND,
    frame = <u32>entry,
    whole = !((<u32>page) & (HUGE_PAGES - 1)) && left >= HUGE_PAGES,
    asOne = whole && select & SELECT_COMPOUND && (!wanted || load<u32>(wanted, 4) & MIGRATE_COMPOUND);
  if (!entry) {
    if (!asOne) return 0;
    memory.fill(word, 0, HUGE_PAGES << 3);
    if (!(select & SELECT_NO_HOLES)) store<u32>(word, MIGRATE_MOVE | MIGRATE_COMPOUND, 4);
    return HUGE_PAGES;
  }
  const end = afterBlock(table, place, page, page + left),
    n = <u32>(end - page);
  let taken = kind == KIND_PRESENT && high & ENTRY_ZERO ? (select & SELECT_SYSTEM) != 0 : selected(kind, frame, select, owner);
  if (taken && (high & ENTRY_ORDER) >> ENTRY_ORDER_SHIFT == HUGE_ORDER && !(load<u32>(frameRecord(frame), FRAME_FLAGS) & FRAME_HUGETLB)) {
    if (!asOne) {
      // Whoever only wants other pages of the range leaves this one whole.
      if (wanted && !anyWanted(wanted, n)) taken = false;
      else if (splitHuge(table, <f64>page)) return 0;
    } else if (high & ENTRY_ZERO) {
      memory.fill(word, 0, HUGE_PAGES << 3);
      store<u32>(word, MIGRATE_MOVE | MIGRATE_COMPOUND, 4);
      return HUGE_PAGES;
    } else if (take(frame, frame == faultFrame ? 1 : 0)) {
      memory.fill(word, 0, HUGE_PAGES << 3);
      wordOf(word, frame, high, MIGRATE_COMPOUND);
      return HUGE_PAGES;
    }
  }
  memory.fill(word, 0, n << 3);
  return n;
}

/**
 * Phase 1, by frame: the frame numbers (u32) at `list`, of huge frames the first. One word each, that of a huge frame with COMPOUND. A free, unmapped, locked or pinned frame, one that a device
 * has for itself, a tail and a page of a file get word 0. Returns the words with MOVE.
 *
 * Models: `migrate_device_range`, `migrate_device_pfns`.
 */
export function migrateCollectFrames(list: u32, n: u32, source: u32): u32 {
  let moving: u32 = 0;
  for (let i: u32 = 0; i < n; i++) {
    const frame = load<u32>(list + (i << 2)),
      word = source + (i << 3),
      entry = frameRecord(frame);
    store<u64>(word, 0);
    if ((load<u32>(entry, FRAME_FLAGS) & FRAME_STATE) != STATE_USED || !frameMaps(entry) || isExclusive(frame)) continue;
    if (!take(frame, 0)) continue;
    wordOf(word, frame, 0, load<u32>(entry, FRAME_FLAGS) & FRAME_ORDER ? MIGRATE_COMPOUND : 0);
    moving++;
  }
  return moving;
}

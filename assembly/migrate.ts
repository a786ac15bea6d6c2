import {
  ALLOC_DRIVER,
  ENTRY_ANON_EXCLUSIVE,
  ENTRY_BYTES,
  ENTRY_CPU_READS,
  ENTRY_DIRTY,
  ENTRY_KIND,
  ENTRY_ORDER,
  ENTRY_ORDER_SHIFT,
  ENTRY_WRITE,
  ENTRY_ZERO,
  FRAME_BYTES,
  FRAME_CHARGE,
  FRAME_FILE,
  FRAME_FLAGS,
  FRAME_HUGETLB,
  FRAME_LISTED,
  FRAME_LOCKED,
  FRAME_MAPS,
  FRAME_NONE,
  FRAME_ORDER,
  FRAME_REFS,
  FRAME_RMAP,
  FRAME_RMAP_OWNER,
  FRAME_STATE,
  HUGE_ORDER,
  H_BACKING,
  H_BLANK,
  H_MOVED,
  H_STOP_REASON,
  KIND_DEVICE_PRIVATE,
  KIND_EXCLUSIVE,
  KIND_NONE,
  KIND_PRESENT,
  KIND_SWAP,
  MIGRATE_COMPOUND,
  MIGRATE_MOVE,
  MIGRATE_VALID,
  MIGRATE_WRITE,
  NODE_ALLOC,
  NODE_BASE,
  NODE_BYTES_BASE,
  NODE_FRAME_SHIFT,
  NODE_FRAMES,
  NODE_IS_COHERENT,
  NODE_IS_TIER,
  NODE_KIND,
  NODE_OWNER,
  PAGE_BYTES,
  RMAP_CHAINED_SHIFT,
  SELECT_COHERENT,
  SELECT_COMPOUND,
  SELECT_NO_HOLES,
  SELECT_PRIVATE,
  SELECT_SWAP,
  SELECT_SYSTEM,
  STATE_USED,
  STOP_NONE,
  STOP_TABLES,
  TABLE_BITS,
  TABLE_INDEX,
  TABLE_TLB,
} from './layout';
import { backingDrop, backingMove, backingOf, backingSet } from './backing';
import {
  copyPages,
  frameCharge,
  frameClear,
  frameGiveRun,
  frameMaps,
  framePut,
  frameRecord,
  frameRetire,
  frameTouch,
  frameUnlock,
} from './frame';
import { handOverRun } from './hand-over';
import { deposit, splitHuge, splitIsolated } from './huge';
import { kindOn, migrationOf, restored } from './migration-entry';
import { listAppend, listRemove, nodeOf } from './node';
import { alikeEnd, fillRun, runLength, runOfBoth } from './run';
import { ownerWord, rmapAdd, rmapFirst, rmapLow, rmapMove, rmapNext, rmapOwner, rmapTable, rmapVpn } from './rmap';
import {
  FOUR_NINES,
  afterBlock,
  afterHole,
  afterLeafPage,
  leafOf,
  makeLeafSlot,
  pruneLeaf,
  seek,
  slotMake,
  slotOf,
  writeEntry,
  writeLeaf,
} from './table';
import { tlbDrop, tlbDropRange } from './tlb';

/**
 * The loops of a migration: collect, copy, commit, finalize, over arrays of one u64 word a page.
 *
 * ```
 *           source word                        home entry                     frame
 * collect   frame | VALID | MOVE (| WRITE)     migration entry, all spaces     locked, one reference more
 *           MOVE                               none or the page of zeros      -            "clear the target"
 *           0                                  untouched                       -            not to be moved
 * copy      target word: frame | VALID         .                               bytes copied or cleared
 * commit    MOVE cleared where it may not be   holes get their entry           references counted again: a late pin refuses
 * finalize  .                                  entry of the new frame where    mappings handed over, both unlocked,
 *                                              MOVE survived, else the old     the frame that lost is put
 * ```
 *
 * Partial success is the normal case; MOVE in the source word is the per-page verdict. Between collect and finalize nobody but the
 * migration reaches the pages: the CPU and other devices meet migration entries and wait for the page lock.
 *
 * A huge page, or a hole as large, is one word with COMPOUND at its first page and 0 at the other 511; it wants one huge target. Where there is none, `split`
 * makes single words of it before anything is copied:
 *
 * ```
 * collect   frame | VALID | MOVE | COMPOUND, 0, 0, ...           one migration block          one locked huge frame
 * aim       huge  | VALID | COMPOUND                             -> moves as a whole
 *           f | VALID,  0,  g | VALID, ...                       -> split:
 *           frame | VALID | MOVE,  frame + 1 | VALID,  frame + 2 | VALID | MOVE, ...   512 locked frames, of which some move
 * ```
 *
 * Models: `migrate_vma_setup`, `migrate_vma_pages`, `migrate_vma_finalize`, `migrate_device_range`.
 */

const HUGE_PAGES: u32 = 1 << HUGE_ORDER;
/** Most pages whose entries are looked at before their records are. */
const LOOK_AHEAD: u32 = 64;
/** References and mappings of a frame with one mapping, no pin, and the reference of a migration. */
const TAKEN: u64 = ((<u64>1) << 32) | 2;
/** From ENTRY_WRITE to MIGRATE_WRITE. */
const WRITE_SHIFT = 1;

/** Replaces every home entry of a frame by a migration entry. */
function isolate(frame: u32, huge: u32): void {
  for (let cursor = rmapFirst(frame); cursor; cursor = rmapNext(cursor)) {
    const owner = rmapOwner(frame, cursor),
      vpn = rmapVpn(rmapLow(frame, cursor), owner),
      table = rmapTable(owner),
      slot = slotOf(table, vpn);
    const entry = load<u64>(slot);
    // What has been written is no longer what the second tier has.
    if (load<u32>(H_BACKING) && (<u32>(entry >> 32)) & (ENTRY_DIRTY | ENTRY_CPU_READS)) backingDrop(frame);
    store<u64>(slot, migrationOf(entry));
    shootDown(table, vpn, huge);
  }
}

/** Drops the CPU's translations of a page, or of a huge one. */
function shootDown(table: u32, vpn: u64, huge: u32): void {
  const tlb = load<u32>(table, TABLE_TLB);
  if (!tlb) return;
  if (huge) tlbDropRange(tlb, vpn, HUGE_PAGES);
  else tlbDrop(tlb, vpn);
}

/** Replaces the migration entries of `frame` by entries that name `to` (the same frame: the migration was refused). */
export function restore(frame: u32, to: u32): void {
  const kind = kindOn(nodeOf(to));
  for (let cursor = rmapFirst(frame); cursor; cursor = rmapNext(cursor)) {
    const owner = rmapOwner(frame, cursor),
      slot = slotOf(rmapTable(owner), rmapVpn(rmapLow(frame, cursor), owner));
    store<u64>(slot, restored(load<u32>(slot, 4), to, kind));
  }
}

/** Frames that no migration takes: somebody else's, not anonymous, or of a hugetlb-like mapping. */
const UNMOVABLE: u32 = FRAME_LOCKED | FRAME_FILE | FRAME_HUGETLB;

/** Whether a device has a mapping of the frame for itself. */
function isExclusive(frame: u32): bool {
  for (let cursor = rmapFirst(frame); cursor; cursor = rmapNext(cursor)) {
    const owner = rmapOwner(frame, cursor),
      slot = slotOf(rmapTable(owner), rmapVpn(rmapLow(frame, cursor), owner));
    if ((load<u32>(slot, 4) & ENTRY_KIND) == KIND_EXCLUSIVE) return true;
  }
  return false;
}

/**
 * Locks a mapped frame, takes a reference and puts migration entries in its place. Returns 1, or 0 with nothing changed when its page lock is
 * taken or somebody unknown holds it. `extra` references of the caller are allowed for (the faulting page of `migrate_to_ram`).
 */
function take(frame: u32, extra: u32): u32 {
  const entry = frameRecord(frame);
  const refs = load<u32>(entry, FRAME_REFS),
    flags = load<u32>(entry, FRAME_FLAGS);
  if (refs != frameMaps(entry) + extra || flags & UNMOVABLE) return 0;
  store<u32>(entry, flags | FRAME_LOCKED, FRAME_FLAGS);
  store<u32>(entry, refs + 1, FRAME_REFS);
  isolate(frame, flags & FRAME_ORDER);
  return 1;
}

/** `take` of the page with this leaf entry. Where that is the only mapping of its frame, nothing is looked up. */
export function takeAt(table: u32, page: u64, slot: u32, entry: u64, extra: u32): u32 {
  const frame = <u32>entry,
    record = frameRecord(frame),
    refs = load<u32>(record, FRAME_REFS),
    flags = load<u32>(record, FRAME_FLAGS),
    mapping = ((<u64>ownerWord(load<u32>(table, TABLE_INDEX), page)) << 32) | (<u32>page);
  if (load<u64>(record, FRAME_RMAP) != mapping || flags & FRAME_ORDER) return take(frame, extra);
  if (refs != frameMaps(record) + extra || flags & UNMOVABLE) return 0;
  store<u32>(record, flags | FRAME_LOCKED, FRAME_FLAGS);
  store<u32>(record, refs + 1, FRAME_REFS);
  if (load<u32>(H_BACKING) && (<u32>(entry >> 32)) & (ENTRY_DIRTY | ENTRY_CPU_READS)) backingDrop(frame);
  store<u64>(slot, migrationOf(entry));
  shootDown(table, page, 0);
  return 1;
}

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

function anyWanted(wanted: u32, n: u32): bool {
  for (let i: u32 = 0; i < n; i++) if (load<u32>(wanted + (i << 3), 4) & MIGRATE_VALID) return true;
  return false;
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

/**
 * Between the choice of targets and the copy, of a migration by address: a huge page or hole whose target is not COMPOUND, but for whose pages there are targets, becomes 512 single ones. Of a
 * page, the words without a target lose MOVE: they go back as small pages.
 *
 * Models: `migrate_vma_split_unmapped_folio`.
 */
export function migrateSplit(source: u32, target: u32, n: u32): void {
  for (let i: u32 = 0; i < n; i++) {
    const word = source + (i << 3),
      aim = target + (i << 3),
      high = load<u32>(word, 4),
      frame = load<u32>(word);
    if ((high & (MIGRATE_MOVE | MIGRATE_COMPOUND)) != (MIGRATE_MOVE | MIGRATE_COMPOUND) || load<u32>(aim, 4) & MIGRATE_COMPOUND) continue;
    assert(n - i >= HUGE_PAGES);
    if (!anyWanted(aim, HUGE_PAGES)) continue;
    if (high & MIGRATE_VALID) splitIsolated(frame);
    for (let j: u32 = 0; j < HUGE_PAGES; j++) {
      const moves = load<u32>(aim + (j << 3), 4) & MIGRATE_VALID ? high : high & ~MIGRATE_MOVE;
      store<u32>(word + (j << 3), high & MIGRATE_VALID ? frame + j : 0);
      store<u32>(word + (j << 3), moves & ~MIGRATE_COMPOUND, 4);
    }
    i += HUGE_PAGES - 1;
  }
}

/** Whether the word of a page and its target are of one size. */
function matches(source: u32, target: u32): bool {
  return !((source ^ target) & MIGRATE_COMPOUND);
}

/**
 * Copies, or clears, every page whose source has MOVE and whose target is VALID and of its size: a whole migration in one call, for devices without a copy engine.
 * Returns the pages copied; H_MOVED holds the pages cleared.
 */
export function migrateCopy(source: u32, target: u32, n: u32): u32 {
  // A machine without bytes.
  if (load<u32>(H_BLANK)) {
    store<u32>(H_MOVED, 0);
    return 0;
  }
  const isPlain = !load<u32>(H_BACKING);
  let copied: u32 = 0,
    cleared: u32 = 0,
    // The nodes that the last two frames were on: first frame, frames, where its bytes are (0: elsewhere), log2 of a frame's.
    fromBase: u32 = 0,
    fromFrames: u32 = 0,
    fromBytes: u32 = 0,
    fromShift: u32 = 0,
    toBase: u32 = 0,
    toFrames: u32 = 0,
    toBytes: u32 = 0,
    toShift: u32 = 0,
    i: u32 = 0;
  while (i < n) {
    const from = load<u64>(source + (i << 3)),
      to = load<u64>(target + (i << 3)),
      high = <u32>(from >> 32),
      aim = <u32>(to >> 32),
      frame = <u32>from,
      first = <u32>to;
    i++;
    if (!(high & MIGRATE_MOVE) || !(aim & MIGRATE_VALID) || !matches(high, aim)) continue;
    if (!(high & MIGRATE_VALID)) {
      cleared += frameClear(first) * (high & MIGRATE_COMPOUND ? HUGE_PAGES : 1);
      continue;
    }
    // A page that is still what the second tier has of it is there already.
    if (!isPlain && backingOf(frame) == first + 1) continue;
    if (first - toBase >= toFrames) {
      const node = nodeOf(first);
      toBase = load<u32>(node, NODE_BASE);
      toFrames = load<u32>(node, NODE_FRAMES);
      toBytes = load<u32>(node, NODE_BYTES_BASE);
      toShift = load<u32>(node, NODE_FRAME_SHIFT);
    }
    if (frame - fromBase >= fromFrames) {
      const node = nodeOf(frame);
      fromBase = load<u32>(node, NODE_BASE);
      fromFrames = load<u32>(node, NODE_FRAMES);
      fromBytes = load<u32>(node, NODE_BYTES_BASE);
      fromShift = load<u32>(node, NODE_FRAME_SHIFT);
    }
    let pages: u32 = high & MIGRATE_COMPOUND ? HUGE_PAGES : 1;
    // Neighbours that stay neighbours are one copy.
    if (isPlain && pages == 1) {
      const most = min(n - i + 1, min(fromFrames - (frame - fromBase), toFrames - (first - toBase)));
      pages = runOfBoth(source + ((i - 1) << 3), target + ((i - 1) << 3), most);
      i += pages - 1;
    }
    if (!toBytes) continue;
    const bytes = toBytes + ((first - toBase) << toShift);
    if (fromBytes) copyPages(bytes, fromBytes + ((frame - fromBase) << fromShift), pages);
    else memory.fill(bytes, 0, pages * PAGE_BYTES);
    copied += pages;
  }
  store<u32>(H_MOVED, cleared);
  return copied;
}

/**
 * Phase 2: decides for each page. Clears MOVE where there is no target or one of another size, where a page has got a holder since it was collected, where a hole has been
 * filled meanwhile. A hole, or the page of zeros, that moves gets its entry here: writable iff `writable` (the VMA is). Returns the words that still have MOVE.
 *
 * `table` and `vpn` are used for holes only (a collection by frame has none). `faultFrame` as in collect.
 */
export function migrateCommit(table: u32, vpn: f64, n: u32, source: u32, target: u32, writable: u32, faultFrame: u32): u32 {
  const first = <u64>vpn;
  let moving: u32 = 0,
    // Where the words end that follow each other on both sides.
    run: u32 = 0;
  store<u32>(H_STOP_REASON, STOP_NONE);
  for (let i: u32 = 0; i < n; i++) {
    const word = source + (i << 3),
      high = load<u32>(word, 4),
      frame = load<u32>(word),
      to = load<u32>(target + (i << 3)),
      aim = load<u32>(target + (i << 3), 4);
    if (!(high & MIGRATE_MOVE)) continue;
    // A small page that its mapping and this migration have, as most.
    if (
      (high & (MIGRATE_VALID | MIGRATE_COMPOUND)) == MIGRATE_VALID &&
      (aim & (MIGRATE_VALID | MIGRATE_COMPOUND)) == MIGRATE_VALID &&
      load<u64>(frameRecord(frame), FRAME_REFS) == TAKEN &&
      frame != faultFrame
    ) {
      if (i >= run) run = i + runOfBoth(word, target + (i << 3), n - i);
      const pages = takenRun(frame, min(run - i, faultFrame - frame));
      moving += pages;
      i += pages - 1;
      continue;
    }
    let moves = (aim & MIGRATE_VALID) != 0 && matches(high, aim);
    if (moves && high & MIGRATE_VALID) {
      const entry = frameRecord(frame);
      moves = load<u32>(entry, FRAME_REFS) == frameMaps(entry) + 1 + (frame == faultFrame ? 1 : 0);
    } else if (moves)
      moves = (high & MIGRATE_COMPOUND ? fillHuge(table, first + i, to, writable) : fill(table, first + i, to, writable)) != 0;
    if (moves) moving++;
    else store<u32>(word, high & ~MIGRATE_MOVE, 4);
  }
  return moving;
}

/** How many of the `most` frames from one on that is so, at least it, only their mapping and this migration have. */
function takenRun(frame: u32, most: u32): u32 {
  let n: u32 = 1;
  for (let record = frameRecord(frame) + FRAME_BYTES; n < most && load<u64>(record, FRAME_REFS) == TAKEN; record += FRAME_BYTES) n++;
  return n;
}

/** Gives a hole or the page of zeros its frame. Returns 1, or 0 when it has been filled meanwhile or no table page or record is to be had. */
export function fill(table: u32, vpn: u64, frame: u32, writable: u32): u32 {
  let slot = makeLeafSlot(table, vpn);
  // A huge page of zeros, some of whose pages move, or came meanwhile.
  if (!slot && load<u32>(slotOf(table, vpn), 4) & ENTRY_ZERO && splitHuge(table, <f64>vpn)) slot = makeLeafSlot(table, vpn);
  if (!slot) return 0;
  const high = <u32>(load<u64>(slot) >> 32),
    kind = high & ENTRY_KIND,
    index = load<u32>(table, TABLE_INDEX);
  if (kind != KIND_NONE && !(kind == KIND_PRESENT && high & ENTRY_ZERO)) return 0;
  if (!rmapAdd(frame, index, vpn)) {
    pruneLeaf(table, vpn);
    return 0;
  }
  const entry = kindOn(nodeOf(frame)) | ENTRY_ANON_EXCLUSIVE | (writable ? ENTRY_WRITE : 0);
  writeLeaf(table, slot, ((<u64>entry) << 32) | frame);
  const tlb = load<u32>(table, TABLE_TLB);
  if (tlb) tlbDrop(tlb, vpn);
  frameCharge(frameRecord(frame), index);
  return 1;
}

/** Gives a huge hole or the huge page of zeros its frame. Returns 1, or 0 when any of its pages has been filled meanwhile, or no table page can be promised for a split. */
function fillHuge(table: u32, vpn: u64, frame: u32, writable: u32): u32 {
  const slot = slotMake(table, vpn, 1);
  if (!slot) return 0;
  const old = load<u64>(slot),
    high = <u32>(old >> 32),
    zero = high & ENTRY_ZERO && (high & ENTRY_KIND) == KIND_PRESENT;
  if (old && !zero) return 0;
  if (!zero && !deposit()) {
    store<u32>(H_STOP_REASON, STOP_TABLES);
    pruneLeaf(table, vpn);
    return 0;
  }
  const index = load<u32>(table, TABLE_INDEX),
    entry = kindOn(nodeOf(frame)) | ENTRY_ANON_EXCLUSIVE | (writable ? ENTRY_WRITE : 0) | (HUGE_ORDER << ENTRY_ORDER_SHIFT);
  // The first mapping of a frame needs no record.
  rmapAdd(frame, index, vpn);
  writeEntry(table, slot, 1, ((<u64>entry) << 32) | frame);
  shootDown(table, vpn, 1);
  frameCharge(frameRecord(frame), index);
  return 1;
}

/**
 * Phase 3: ends the migration of every page. Where MOVE survived, mappings, reverse map and charge go over to the new frame and the old one is
 * put; elsewhere the old entries come back and the new frame is put. Returns the pages that moved (holes included).
 *
 * A mapping that was taken away meanwhile (munmap) is gone from the reverse map: nothing comes back for it.
 */
export function migrateFinalize(n: u32, source: u32, target: u32): u32 {
  const isPlain = !load<u32>(H_BACKING);
  let moved: u32 = 0,
    // Frames that are free from now on, one behind the other: they are given back together.
    free: u32 = 0,
    frees: u32 = 0,
    // Where the last mapping was, and the table page that it is in.
    around: u64 = 0,
    leaf: u32 = 0,
    // The nodes of the last two frames: first frame, frames; of the target's the kind of its entries, and its record if it lists its frames.
    freeBase: u32 = 0,
    freeFrames: u32 = 0,
    toBase: u32 = 0,
    toFrames: u32 = 0,
    toKind: u32 = 0,
    list: u32 = 0,
    // Where the words end that follow each other on both sides.
    run: u32 = 0;
  for (let i: u32 = 0; i < n; i++) {
    const word = source + (i << 3),
      high = load<u32>(word, 4),
      frame = load<u32>(word);
    const to = load<u32>(target + (i << 3)),
      given = (load<u32>(target + (i << 3), 4) & MIGRATE_VALID) != 0;
    // Without a commit MOVE is still a wish: a page that has no target of its size stays.
    const moves = given && (high & MIGRATE_MOVE) != 0 && matches(high, load<u32>(target + (i << 3), 4));
    if (moves && isPlain && (high & (MIGRATE_VALID | MIGRATE_COMPOUND)) == MIGRATE_VALID) {
      const record = frameRecord(frame),
        rmapWord = load<u32>(record, FRAME_RMAP_OWNER);
      // One mapping, as most have.
      if (rmapWord && !(rmapWord >> RMAP_CHAINED_SHIFT)) {
        const low = load<u32>(record, FRAME_RMAP),
          here = (((<u64>rmapWord) << 32) | low) >> HUGE_ORDER;
        if (here != around) {
          const home = rmapTable(rmapWord);
          around = here;
          leaf = load<u64>(home, TABLE_BITS) == FOUR_NINES ? leafOf(home, rmapVpn(low, rmapWord)) : 0;
        }
        if (leaf) {
          if (to - toBase >= toFrames) {
            const node = nodeOf(to);
            toBase = load<u32>(node, NODE_BASE);
            toFrames = load<u32>(node, NODE_FRAMES);
            toKind = kindOn(node);
            list = listOf(node);
          }
          if (frees && (free + frees != frame || frame - freeBase >= freeFrames)) {
            frameGiveRun(free, frees);
            frees = 0;
          }
          if (frame - freeBase >= freeFrames) {
            const node = nodeOf(frame);
            freeBase = load<u32>(node, NODE_BASE);
            freeFrames = load<u32>(node, NODE_FRAMES);
          }
          if (i >= run) run = i + runOfBoth(word, target + (i << 3), n - i);
          const index = low & (HUGE_PAGES - 1),
            slot = leaf + index * ENTRY_BYTES,
            room = min(min(run - i, HUGE_PAGES - index), min(freeFrames - (frame - freeBase), toFrames - (to - toBase)));
          let pages = handOverRun(word, target + (i << 3), room, slot, toKind, list),
            gone = pages;
          if (!pages) {
            gone = u32(handOverOn(frame, to, slot, toKind, list));
            pages = 1;
          }
          moved += pages;
          i += pages - 1;
          if (!gone) continue;
          if (!frees) free = frame;
          frees += gone;
          continue;
        }
      }
    }
    if (frees) frameGiveRun(free, frees);
    frees = 0;
    if (high & MIGRATE_VALID) {
      if (moves) succeed(frame, to);
      else restore(frame, frame);
      frameUnlock(frame);
      framePut(frame);
    }
    if (!given) continue;
    if (moves) {
      moved += high & MIGRATE_COMPOUND ? HUGE_PAGES : 1;
      enlist(to);
    } else framePut(to);
  }
  if (frees) frameGiveRun(free, frees);
  return moved;
}

/** `succeed`, the end of the lock and of the migration's reference, and `enlist`, of a page with one mapping, whose entry is at `slot`. True: nobody has the old frame any more, and the caller frees it. Requires: no second tier. */
export function handOver(frame: u32, to: u32, slot: u32): bool {
  const node = nodeOf(to);
  return handOverOn(frame, to, slot, kindOn(node), listOf(node));
}

/** The record of a node that lists its frames, else 0: see `enlist`. */
function listOf(node: u32): u32 {
  return load<u32>(node, NODE_OWNER) && load<u32>(node, NODE_ALLOC) != ALLOC_DRIVER ? node : 0;
}

/** The same where it is known what kind the entries of the target's node are of, and its list. */
function handOverOn(frame: u32, to: u32, slot: u32, kind: u32, list: u32): bool {
  const record = frameRecord(frame),
    next = frameRecord(to),
    refs = load<u32>(record, FRAME_REFS) - 2,
    flags = load<u32>(record, FRAME_FLAGS) & ~FRAME_LOCKED,
    payer = <u32>load<u16>(record, FRAME_CHARGE);
  assert(frameMaps(record) == 1);
  store<u64>(slot, restored(load<u32>(slot, 4), to, kind));
  // The mapping's reference on the new frame is that of its allocation.
  store<u32>(record, refs, FRAME_REFS);
  store<u32>(record, load<u32>(record, FRAME_MAPS) - 1, FRAME_MAPS);
  store<u32>(next, load<u32>(next, FRAME_MAPS) + 1, FRAME_MAPS);
  store<u64>(next, load<u64>(record, FRAME_RMAP), FRAME_RMAP);
  store<u64>(record, 0, FRAME_RMAP);
  store<u32>(record, flags, FRAME_FLAGS);
  if (payer) frameCharge(next, payer - 1);
  if (!refs) frameRetire(frame);
  if (list) {
    const marks = load<u32>(next, FRAME_FLAGS);
    if (marks & FRAME_LISTED) listRemove(list, to);
    else store<u32>(next, marks | FRAME_LISTED, FRAME_FLAGS);
    listAppend(list, to);
  }
  return !refs;
}

/** Hands a frame's mappings over to the frame that has its bytes now. */
function succeed(frame: u32, to: u32): void {
  const entry = frameRecord(frame),
    next = frameRecord(to),
    maps = frameMaps(entry);
  restore(frame, to);
  rmapMove(frame, to);
  // Before the frame may go: when all mappings have gone meanwhile, it takes its backing along.
  if (load<u32>(H_BACKING)) {
    if (load<u32>(nodeOf(frame), NODE_KIND) == NODE_IS_TIER) backingSet(to, frame);
    else if (load<u32>(nodeOf(to), NODE_KIND) != NODE_IS_TIER) backingMove(frame, to);
  }
  // Each mapping carries a reference; the allocation's own one becomes the first mapping's.
  store<u32>(entry, load<u32>(entry, FRAME_REFS) - maps, FRAME_REFS);
  store<u32>(next, load<u32>(next, FRAME_REFS) + maps, FRAME_REFS);
  framePut(to);
  const payer = <u32>load<u16>(entry, FRAME_CHARGE);
  if (payer && maps) frameCharge(next, payer - 1);
}

/** Puts a frame of a device on its node's list of used frames, from which victims are chosen: the framework chooses them, whoever hands the frames out, but for a driver's allocator. The host's have no use for one. */
export function enlist(frame: u32): void {
  if (listOf(nodeOf(frame)) && frameMaps(frameRecord(frame))) frameTouch(frame);
}

import {
  ENTRY_BYTES,
  ENTRY_KIND,
  ENTRY_ORDER,
  H_STOP_INDEX,
  H_STOP_REASON,
  KIND_PRESENT,
  ORDER_MAX,
  PAGE_BYTES,
  STOP_NONE,
  STOP_SPLIT,
  STOP_TABLES,
  TABLE_LEVELS,
  TABLE_PAGES,
  TABLE_ROOT,
  TABLE_VPN_BITS,
} from './layout';
import { cut, loosen, orderOf, splitBlock, ungroup, withOrder } from './cut';
import { clearRun, countSet, fillRun, firstSet, runEnd } from './run';
import {
  Walk,
  afterBlock,
  afterHole,
  afterLeafPage,
  count,
  dropLeafPage,
  isChild,
  leafOf,
  leafSlot,
  levelBits,
  levelShift,
  link,
  makeLeafSlot,
  pageDrop,
  pagesBelow,
  pruneLeaf,
  seek,
  slotMake,
  subtreeFree,
  writeEntry,
} from './table';
import { live, liveAt, pageOf, pageTake } from './table-page';

/**
 * Changes to a range of pages `[vpn, vpn + pages)`: map, unmap, protect, count, find. One visit per level-0 table page, block or
 * stretch of absent table; a range of terabytes that maps nothing costs a few hundred compares.
 *
 * A call that stops early says why in H_STOP_REASON (STOP_NONE: it did not) and has dealt with the first H_STOP_INDEX pages of the
 * range completely and with the rest not at all, so it is resumed at `vpn + H_STOP_INDEX`.
 *
 * Requires everywhere: the range ends at or below 2^TABLE_VPN_BITS.
 *
 * Models: `zap_page_range`, `change_protection_range`, `remap_pfn_range`, `walk_page_range`.
 */

const KIND: u64 = (<u64>ENTRY_KIND) << 32;
const PRESENT: u64 = (<u64>KIND_PRESENT) << 32;
const ORDER: u64 = (<u64>ENTRY_ORDER) << 32;

/** Notes how far a call came. */
function finish(done: u64): u32 {
  store<u32>(H_STOP_INDEX, <u32>done);
  return <u32>done;
}

/** Start of a call: page number from its f64, nothing stopped yet. */
function begin(table: u32, vpn: f64, pages: u32): u64 {
  const start = <u64>(<i64>vpn),
    one: u64 = 1;
  assert(start + pages <= one << load<u32>(table, TABLE_VPN_BITS));
  store<u32>(H_STOP_REASON, STOP_NONE);
  return start;
}

// ------------------------------------------------------------------------------------------------------------------ map

/**
 * Maps pages to frames `frame`, `frame + 1` and so on, each with the high word `high` (its order bits 0). What was mapped there page
 * by page is replaced. Returns the pages done; stops with STOP_TABLES, or with STOP_SPLIT at a block.
 */
export function rangeMap(table: u32, vpn: f64, pages: u32, frame: u32, high: u32): u32 {
  const start = begin(table, vpn, pages),
    end = start + pages,
    width: u32 = 1 << levelBits(table, 0);
  let page = start,
    entry = ((<u64>high) << 32) | frame;
  if (pages == 1 && OnePage.map(table, start, entry)) return finish(1);
  if (pages) {
    loosen(table, start);
    loosen(table, end);
  }
  while (page < end) {
    const next = afterLeafPage(table, page, end),
      n = <u32>(next - page);
    const slot = n == width ? slotToFill(table, page) : makeLeafSlot(table, page);
    if (!slot) break;
    const leaf = pageOf(slot),
      had = live(leaf),
      old = had == width ? n : had ? countSet(slot, n) : 0;
    fillRun(slot, n, entry, 1);
    if (old != n) count(table, leaf, n - old, n - old);
    entry += n;
    page = next;
  }
  return finish(page - start);
}

/** What most calls for one page need: its table page is there, and it is not one of a group. Written into the callers, since a call takes as long as all of it. */
export class OnePage {
  /** `rangeMap`. False, with nothing changed, where there is more to it. */
  @inline
  static map(table: u32, page: u64, entry: u64): bool {
    const slot = Walk.leafSlot(table, page);
    return slot != 0 && OnePage.mapAt(table, slot, entry);
  }

  /** `map`, where the page's slot is known. */
  @inline
  static mapAt(table: u32, slot: u32, entry: u64): bool {
    const old = load<u64>(slot);
    if (old & ORDER) return false;
    store<u64>(slot, entry);
    if (!old) count(table, pageOf(slot), 1, 1);
    return true;
  }

  /** `rangeUnmap`, where the table page has other entries, or of a hole in one. False: as `map`. */
  @inline
  static unmap(table: u32, page: u64): bool {
    const slot = Walk.leafSlot(table, page);
    return slot != 0 && OnePage.unmapAt(table, slot);
  }

  /** `unmap`, where the page's slot is known. */
  @inline
  static unmapAt(table: u32, slot: u32): bool {
    const old = load<u64>(slot);
    if (!old) return true;
    if (old & ORDER) return false;
    const at = liveAt(pageOf(slot)),
      entries = <u32>load<u16>(at);
    if (entries == 1) return false;
    store<u64>(slot, 0);
    store<u16>(at, <u16>(entries - 1));
    store<u32>(table, load<u32>(table, TABLE_PAGES) - 1, TABLE_PAGES);
    return true;
  }
}

/**
 * The first slot of the level-0 table page of `vpn`. A page made for it holds stale bytes, since the caller writes every entry.
 * 0: as `slotMake`.
 */
function slotToFill(table: u32, vpn: u64): u32 {
  const leaf = leafOf(table, vpn);
  if (leaf) return leaf;
  const above = slotMake(table, vpn, 1);
  if (!above) return 0;
  if (load<u64>(above)) {
    store<u32>(H_STOP_REASON, STOP_SPLIT);
    return 0;
  }
  const page = pageTake(),
    bytes: u32 = ENTRY_BYTES << levelBits(table, 0);
  if (!page) {
    store<u32>(H_STOP_REASON, STOP_TABLES);
    pruneLeaf(table, vpn);
    return 0;
  }
  memory.fill(page + bytes, 0, PAGE_BYTES - bytes);
  link(table, above, page);
  return page;
}

/**
 * Maps 2^order pages by one leaf: a block where a level has that order, else a group of neighbouring entries. What was mapped there is
 * replaced, table pages below included. Returns 2^order, or 0 (STOP_TABLES, or STOP_SPLIT below a bigger block) with nothing changed.
 * Requires: `vpn` and `frame` are multiples of 2^order; order <= ORDER_MAX and below the table's width.
 */
export function rangeMapOrder(table: u32, vpn: f64, frame: u32, high: u32, order: u32): u32 {
  assert(order <= <u32>ORDER_MAX && order < load<u32>(table, TABLE_VPN_BITS));
  const pages: u32 = 1 << order,
    page = begin(table, vpn, pages);
  assert(!((<u32>page) & (pages - 1)) && !(frame & (pages - 1)));
  let level = load<u32>(table, TABLE_LEVELS) - 1;
  while (levelShift(table, level) > order) level--;
  let slot = slotMake(table, page, level);
  if (!slot) return finish(0);
  loosen(table, page);
  loosen(table, page + pages);
  const step = <u32>pagesBelow(table, level),
    entry = withOrder(((<u64>high) << 32) | frame, order);
  for (let done: u32 = 0; done < pages; done += step) {
    const old = load<u64>(slot);
    store<u64>(slot, entry + done);
    if (isChild(old)) count(table, pageOf(slot), 0, step - subtreeFree(table, <u32>old, level - 1));
    else if (!old) count(table, pageOf(slot), 1, step);
    slot += ENTRY_BYTES;
  }
  return finish(pages);
}

/**
 * Writes the u64 entries at `words` to the pages of a range as they are; 0 unmaps its page. Returns the pages done; stops with
 * STOP_TABLES, or with STOP_SPLIT at a block. Requires: no child entry among the words, and groups complete.
 */
export function rangeMapWords(table: u32, vpn: f64, pages: u32, words: u32): u32 {
  const start = begin(table, vpn, pages),
    end = start + pages;
  let page = start;
  if (pages) {
    loosen(table, start);
    loosen(table, end);
  }
  while (page < end) {
    const next = afterLeafPage(table, page, end),
      n = <u32>(next - page),
      set = countSet(words, n);
    const slot = set ? makeLeafSlot(table, page) : leafSlot(table, page);
    if (slot) {
      const leaf = pageOf(slot),
        old = live(leaf) ? countSet(slot, n) : 0;
      memory.copy(slot, words, n * ENTRY_BYTES);
      if (old != set) count(table, leaf, set - old, set - old);
      if (!live(leaf)) pruneLeaf(table, page);
    } else {
      if (set) break;
      if (load<u64>(<u32>seek(table, page))) {
        store<u32>(H_STOP_REASON, STOP_SPLIT);
        break;
      }
    }
    words += n * ENTRY_BYTES;
    page = next;
  }
  return finish(page - start);
}

// ------------------------------------------------------------------------------------------------------ unmap, protect

/**
 * Clears the entries of a range and frees the table pages that become empty. Returns the pages that were mapped. A block across a
 * border of the range is cut, which can stop with STOP_TABLES; all that lies before it is done.
 */
export function rangeUnmap(table: u32, vpn: f64, pages: u32): u32 {
  const start = begin(table, vpn, pages),
    end = start + pages,
    before = load<u32>(table, TABLE_PAGES);
  let page = start;
  if (pages == 1 && OnePage.unmap(table, start)) {
    finish(1);
    return before - load<u32>(table, TABLE_PAGES);
  }
  if (pages && cut(table, start)) {
    loosen(table, end);
    while (page < end) {
      const place = seek(table, page),
        slot = <u32>place;
      if (!(place >> 32)) page = unmapLeafPage(table, slot, page, end);
      else if (!load<u64>(slot)) page = afterHole(table, place, page, end);
      else {
        const level = <u32>(place >> 32),
          next = page + pagesBelow(table, level);
        if (next > end) {
          if (!cut(table, end)) break;
          continue;
        }
        writeEntry(table, slot, level, 0);
        if (!live(pageOf(slot))) pruneLeaf(table, page);
        page = next;
      }
    }
  }
  finish(page - start);
  return before - load<u32>(table, TABLE_PAGES);
}

/** Unmaps from `page` to the end of its level-0 table page or of the range; returns the page after. */
function unmapLeafPage(table: u32, slot: u32, page: u64, end: u64): u64 {
  const next = afterLeafPage(table, page, end),
    n = <u32>(next - page),
    leaf = pageOf(slot);
  // A page that is emptied as a whole is freed with its entries in it, and counts them yet; only the root stays.
  if (n >> levelBits(table, 0) && leaf != load<u32>(table, TABLE_ROOT)) {
    count(table, leaf, 0, 0 - live(leaf));
    dropLeafPage(table, page);
    return next;
  }
  const gone = countSet(slot, n);
  clearRun(slot, n);
  count(table, leaf, 0 - gone, 0 - gone);
  if (!live(leaf)) pruneLeaf(table, page);
  return next;
}

/**
 * Changes the high words of the present entries of a range to `high & ~clear | set`. Returns the present pages. A block across a border
 * of the range is cut, which can stop with STOP_TABLES. Requires: an entry keeps a kind.
 */
export function rangeProtect(table: u32, vpn: f64, pages: u32, clear: u32, set: u32): u32 {
  assert(!(clear & ENTRY_KIND) || set & ENTRY_KIND);
  const start = begin(table, vpn, pages),
    end = start + pages,
    clear64 = (<u64>clear) << 32,
    set64 = (<u64>set) << 32;
  let page = start,
    present: u32 = 0;
  if (pages && cut(table, start)) {
    loosen(table, end);
    while (page < end) {
      const place = seek(table, page),
        slot = <u32>place,
        entry = load<u64>(slot);
      if (!(place >> 32)) {
        const next = afterLeafPage(table, page, end);
        present += protectRun(slot, <u32>(next - page), clear64, set64);
        page = next;
      } else if (!entry) page = afterHole(table, place, page, end);
      else {
        const step = <u32>pagesBelow(table, <u32>(place >> 32));
        if (page + step > end) {
          if (!cut(table, end)) break;
          continue;
        }
        if ((entry & KIND) == PRESENT) {
          store<u64>(slot, (entry & ~clear64) | set64);
          present += step;
        }
        page += step;
      }
    }
  }
  finish(page - start);
  return present;
}

/** Bytes of the entries that `protectRun` looks at together. */
const PROTECT_STEP: u32 = 128;

/** `rangeProtect` of neighbouring level-0 entries: most are all present, and change alike. */
function protectRun(slot: u32, entries: u32, clear: u64, set: u64): u32 {
  const end = slot + entries * ENTRY_BYTES;
  const clears = i64x2.splat(<i64>clear),
    sets = i64x2.splat(<i64>set),
    kinds = i64x2.splat(<i64>KIND),
    presents = i64x2.splat(<i64>PRESENT);
  let present: u32 = 0;
  for (; slot + PROTECT_STEP <= end; slot += PROTECT_STEP) {
    const a = v128.load(slot),
      b = v128.load(slot, 16),
      c = v128.load(slot, 32),
      d = v128.load(slot, 48);
    const e = v128.load(slot, 64),
      f = v128.load(slot, 80),
      g = v128.load(slot, 96),
      h = v128.load(slot, 112);
    const first = v128.or(v128.or(v128.xor(a, presents), v128.xor(b, presents)), v128.or(v128.xor(c, presents), v128.xor(d, presents)));
    const second = v128.or(v128.or(v128.xor(e, presents), v128.xor(f, presents)), v128.or(v128.xor(g, presents), v128.xor(h, presents)));
    if (v128.any_true(v128.and(v128.or(first, second), kinds))) {
      present += protectSome(slot, PROTECT_STEP / ENTRY_BYTES, clear, set);
      continue;
    }
    v128.store(slot, v128.or(v128.andnot(a, clears), sets));
    v128.store(slot, v128.or(v128.andnot(b, clears), sets), 16);
    v128.store(slot, v128.or(v128.andnot(c, clears), sets), 32);
    v128.store(slot, v128.or(v128.andnot(d, clears), sets), 48);
    v128.store(slot, v128.or(v128.andnot(e, clears), sets), 64);
    v128.store(slot, v128.or(v128.andnot(f, clears), sets), 80);
    v128.store(slot, v128.or(v128.andnot(g, clears), sets), 96);
    v128.store(slot, v128.or(v128.andnot(h, clears), sets), 112);
    present += PROTECT_STEP / ENTRY_BYTES;
  }
  return slot < end ? present + protectSome(slot, (end - slot) / ENTRY_BYTES, clear, set) : present;
}

/** The same of entries of which some are not present. */
function protectSome(slot: u32, entries: u32, clear: u64, set: u64): u32 {
  const end = slot + entries * ENTRY_BYTES;
  const clears = i64x2.splat(<i64>clear),
    sets = i64x2.splat(<i64>set),
    kinds = i64x2.splat(<i64>KIND),
    presents = i64x2.splat(<i64>PRESENT);
  let hits = i64x2.splat(0);
  for (; slot + 64 <= end; slot += 64) {
    const a = v128.load(slot),
      b = v128.load(slot, 16),
      c = v128.load(slot, 32),
      d = v128.load(slot, 48);
    const inA = i64x2.eq(v128.and(a, kinds), presents),
      inB = i64x2.eq(v128.and(b, kinds), presents);
    const inC = i64x2.eq(v128.and(c, kinds), presents),
      inD = i64x2.eq(v128.and(d, kinds), presents);
    v128.store(slot, v128.or(v128.andnot(a, v128.and(clears, inA)), v128.and(sets, inA)));
    v128.store(slot, v128.or(v128.andnot(b, v128.and(clears, inB)), v128.and(sets, inB)), 16);
    v128.store(slot, v128.or(v128.andnot(c, v128.and(clears, inC)), v128.and(sets, inC)), 32);
    v128.store(slot, v128.or(v128.andnot(d, v128.and(clears, inD)), v128.and(sets, inD)), 48);
    hits = i64x2.add(hits, i64x2.add(i64x2.add(inA, inB), i64x2.add(inC, inD)));
  }
  let present = 0 - <u32>(i64x2.extract_lane(hits, 0) + i64x2.extract_lane(hits, 1));
  for (; slot < end; slot += ENTRY_BYTES) {
    const entry = load<u64>(slot);
    if ((entry & KIND) != PRESENT) continue;
    store<u64>(slot, (entry & ~clear) | set);
    present++;
  }
  return present;
}

// ------------------------------------------------------------------------------------------------------ split, collapse

/**
 * Splits the leaf that covers a page one level down: a group becomes entries of their own; a block, a table page of leaves.
 * Returns 1, also when there is nothing to split, or 0 with STOP_TABLES (a block that was in a group stays, on its own).
 */
export function rangeSplit(table: u32, vpn: f64): u32 {
  const page = begin(table, vpn, 1),
    place = seek(table, page),
    slot = <u32>place,
    level = <u32>(place >> 32),
    entry = load<u64>(slot);
  if (!entry) return 1;
  const shift = levelShift(table, level);
  if (orderOf(entry, shift) > shift) ungroup(table, slot, level);
  return level ? splitBlock(table, slot, level) : 1;
}

/**
 * Makes one block of the level-0 table page that covers a page, if its entries could be parts of one: all there, equal high words,
 * frames that follow each other from an aligned first one. Frees the table page. Returns 1 if it did, else 0.
 *
 * Models: `collapse_huge_page` without its copy.
 */
export function rangeCollapse(table: u32, vpn: f64): u32 {
  const page = begin(table, vpn, 1),
    leaf = leafOf(table, page),
    width: u32 = 1 << levelBits(table, 0);
  if (!leaf || leaf == load<u32>(table, TABLE_ROOT) || live(leaf) != width) return 0;
  const entry = load<u64>(leaf),
    end = leaf + width * ENTRY_BYTES;
  if ((<u32>entry) & (width - 1) || runEnd(leaf, end, entry, 1) != end) return 0;
  store<u64>(slotMake(table, page, 1), withOrder(entry, levelShift(table, 1)));
  pageDrop(table, leaf);
  return 1;
}

// ---------------------------------------------------------------------------------------------------------- count, find

/** Pages of a range whose entries are not none. */
export function rangeCount(table: u32, vpn: f64, pages: u32): u32 {
  const start = begin(table, vpn, pages),
    end = start + pages;
  let page = start,
    set: u32 = 0;
  while (page < end) {
    const place = seek(table, page),
      slot = <u32>place;
    let next: u64;
    if (!(place >> 32)) {
      next = afterLeafPage(table, page, end);
      const n = <u32>(next - page);
      set += n >> levelBits(table, 0) ? live(pageOf(slot)) : countSet(slot, n);
    } else if (!load<u64>(slot)) next = afterHole(table, place, page, end);
    else {
      next = afterBlock(table, place, page, end);
      set += <u32>(next - page);
    }
    page = next;
  }
  finish(page - start);
  return set;
}

/** The first page of a range whose entry is not none, or -1. */
export function rangeNext(table: u32, vpn: f64, pages: u32): f64 {
  const page = begin(table, vpn, pages),
    end = page + pages,
    next = nextSet(table, page, end);
  return next < end ? <f64>next : -1;
}

/** The first page of `[page, end)` whose entry is not none, or `end`. */
export function nextSet(table: u32, page: u64, end: u64): u64 {
  while (page < end) {
    const place = seek(table, page),
      slot = <u32>place;
    if (load<u64>(slot)) break;
    if (place >> 32) page = afterHole(table, place, page, end);
    else {
      const next = afterLeafPage(table, page, end),
        last = slot + <u32>(next - page) * ENTRY_BYTES,
        found = firstSet(slot, last);
      if (found < last) return page + ((found - slot) >> 3);
      page = next;
    }
  }
  return page;
}

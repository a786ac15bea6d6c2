import {
  H_LIVE,
  H_PAGES,
  H_PAGES_BUMP,
  H_PAGES_CLEAN,
  H_PAGES_DEPOSITED,
  H_PAGES_FREE,
  H_PAGES_MAX,
  H_PAGES_USED,
  PAGE_BYTES,
  PAGE_SHIFT,
} from './layout';

/**
 * Table pages: the 4 KiB pieces that every radix table of the machine is made of, from one arena.
 *
 * ```
 *  H_LIVE    u16 | u16 | u16 | ...              entries of each page that are not none
 *  H_PAGES  +------+------+------+- - - -+------+
 *           | page | free | page |       |      |
 *           +------+--|---+------+- - - -+------+
 *                     +-> next free page (first u32), 0: the end
 *           0                    BUMP            MAX     page numbers: pages at and past BUMP have never been handed out, and are zeros
 * ```
 *
 * A page that comes back without a live entry is zeros: it goes to a list of its own (H_PAGES_CLEAN), and need not be cleared for whoever wants
 * few entries. What is left on the other list (H_PAGES_FREE) has stale bytes. So a table of one entry touches two cache lines, not 64.
 *
 * H_PAGES_DEPOSITED of the pages that are left are promised: each huge home entry has deposited one, so that splitting it cannot fail.
 *
 * H_PAGES is a multiple of 4096, so an entry's address names its page. A header of zeros (no free page, BUMP 0, USED 0) is an unused arena.
 *
 * Models: `pte_alloc_one`, `pte_free`. Linux keeps no such counts: it knows from the areas of a space which table pages may go.
 */

/** Whether a page is left that is not promised. */
function isLeft(): bool {
  return load<u32>(H_PAGES_USED) + load<u32>(H_PAGES_DEPOSITED) < load<u32>(H_PAGES_MAX);
}

/** Takes the first page of a list, or 0. Its first u32 is the link yet. */
function pop(list: u32): u32 {
  const page = load<u32>(list);
  if (page) store<u32>(list, load<u32>(page));
  return page;
}

/** A page of zeros that has never been handed out, or 0. */
function fresh(): u32 {
  const bump = load<u32>(H_PAGES_BUMP);
  if (bump >= load<u32>(H_PAGES_MAX)) return 0;
  store<u32>(H_PAGES_BUMP, bump + 1);
  return load<u32>(H_PAGES) + (bump << PAGE_SHIFT);
}

function begin(page: u32): u32 {
  store<u16>(liveAt(page), 0);
  store<u32>(H_PAGES_USED, load<u32>(H_PAGES_USED) + 1);
  return page;
}

/** A table page with stale bytes and no live entry, or 0 when the arena is used up. For a caller that fills all 4 KiB at once. */
export function pageTake(): u32 {
  if (!isLeft()) return 0;
  let page = pop(H_PAGES_FREE);
  if (!page) page = pop(H_PAGES_CLEAN);
  if (!page) page = fresh();
  return page ? begin(page) : 0;
}

/** Promises a table page to a huge entry. Returns 1, or 0 when none can be promised. Models: `pgtable_trans_huge_deposit`. */
export function deposit(): u32 {
  if (!isLeft()) return 0;
  store<u32>(H_PAGES_DEPOSITED, load<u32>(H_PAGES_DEPOSITED) + 1);
  return 1;
}

/** A huge entry goes, or is about to be split: its page may be taken. Models: `pgtable_trans_huge_withdraw`. */
export function undeposit(): void {
  store<u32>(H_PAGES_DEPOSITED, load<u32>(H_PAGES_DEPOSITED) - 1);
}

/** A table page of none entries, or 0 when the arena is used up. */
export function pageAlloc(): u32 {
  if (!isLeft()) return 0;
  let page = pop(H_PAGES_CLEAN);
  if (page) store<u32>(page, 0);
  else {
    page = pop(H_PAGES_FREE);
    if (page) memory.fill(page, 0, PAGE_BYTES);
    else page = fresh();
    if (!page) return 0;
  }
  if (!ASC_NO_ASSERT) assert(isZeros(page));
  return begin(page);
}

/** Gives a table page back, whatever its entries say. Requires: no entry names it any more. */
export function pageFree(page: u32): void {
  if (!ASC_NO_ASSERT) assert(live(page) || isZeros(page));
  const list = live(page) ? H_PAGES_FREE : H_PAGES_CLEAN;
  store<u32>(page, load<u32>(list));
  store<u32>(list, page);
  store<u32>(H_PAGES_USED, load<u32>(H_PAGES_USED) - 1);
}

/** For assertions. */
function isZeros(page: u32): bool {
  for (let at = page, end = page + PAGE_BYTES; at < end; at += 8) if (load<u64>(at)) return false;
  return true;
}

/** The table page that holds the entry at `slot`. */
export function pageOf(slot: u32): u32 {
  return slot & ~(PAGE_BYTES - 1);
}

/** Where the count of entries of a table page is: a u16. */
export function liveAt(page: u32): u32 {
  return load<u32>(H_LIVE) + (((page - load<u32>(H_PAGES)) >> PAGE_SHIFT) << 1);
}

/** Entries of a table page that are not none. */
export function live(page: u32): u32 {
  return load<u16>(liveAt(page));
}

/** Adds to a page's count of live entries; `entries` may be a negative number in two's complement. */
export function liveAdd(page: u32, entries: u32): void {
  const at = liveAt(page);
  store<u16>(at, <u16>(load<u16>(at) + entries));
}

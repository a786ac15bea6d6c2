import {
  H_LIVE,
  H_PAGES,
  H_PAGES_BUMP,
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
 *           0                    BUMP            MAX     page numbers: pages at and past BUMP have never been handed out
 * ```
 *
 * H_PAGES_DEPOSITED of the pages that are left are promised: each huge home entry has deposited one, so that splitting it cannot fail.
 *
 * H_PAGES is a multiple of 4096, so an entry's address names its page. A header of zeros (no free page, BUMP 0, USED 0) is an unused arena.
 *
 * Models: `pte_alloc_one`, `pte_free`. Linux keeps no such counts: it knows from the areas of a space which table pages may go.
 */

/** A table page with stale bytes and no live entry, or 0 when the arena is used up. For a caller that fills all 4 KiB at once. */
export function pageTake(): u32 {
  if (load<u32>(H_PAGES_USED) + load<u32>(H_PAGES_DEPOSITED) >= load<u32>(H_PAGES_MAX)) return 0;
  let page = load<u32>(H_PAGES_FREE);
  if (page) store<u32>(H_PAGES_FREE, load<u32>(page));
  else {
    const bump = load<u32>(H_PAGES_BUMP);
    if (bump >= load<u32>(H_PAGES_MAX)) return 0;
    store<u32>(H_PAGES_BUMP, bump + 1);
    page = load<u32>(H_PAGES) + (bump << PAGE_SHIFT);
  }
  store<u16>(liveAt(page), 0);
  store<u32>(H_PAGES_USED, load<u32>(H_PAGES_USED) + 1);
  return page;
}

/** Promises a table page to a huge entry. Returns 1, or 0 when none can be promised. Models: `pgtable_trans_huge_deposit`. */
export function deposit(): u32 {
  const promised = load<u32>(H_PAGES_DEPOSITED);
  if (load<u32>(H_PAGES_USED) + promised >= load<u32>(H_PAGES_MAX)) return 0;
  store<u32>(H_PAGES_DEPOSITED, promised + 1);
  return 1;
}

/** A huge entry goes, or is about to be split: its page may be taken. Models: `pgtable_trans_huge_withdraw`. */
export function undeposit(): void {
  store<u32>(H_PAGES_DEPOSITED, load<u32>(H_PAGES_DEPOSITED) - 1);
}

/** A table page of none entries, or 0 when the arena is used up. */
export function pageAlloc(): u32 {
  const page = pageTake();
  if (page) memory.fill(page, 0, PAGE_BYTES);
  return page;
}

/** Gives a table page back, whatever its entries say. Requires: no entry names it any more. */
export function pageFree(page: u32): void {
  store<u32>(page, load<u32>(H_PAGES_FREE));
  store<u32>(H_PAGES_FREE, page);
  store<u32>(H_PAGES_USED, load<u32>(H_PAGES_USED) - 1);
}

/** The table page that holds the entry at `slot`. */
export function pageOf(slot: u32): u32 {
  return slot & ~(PAGE_BYTES - 1);
}

function liveAt(page: u32): u32 {
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

/**
 * For events: which huge pages an operation splits. The core splits where it has to, in the middle of its loops, and says nothing; so the huge pages of a range are listed before, and looked at
 * afterwards. All of it only while somebody listens.
 */
import * as L from '../../assembly/layout.ts';
import type { SplitCause } from '../events/cause.ts';
import type { AddressSpace } from './address-space.ts';
import { HUGE_PAGES, windowPages, windowStart } from './huge-window.ts';
import type { Platform } from './platform.ts';

const NONE: readonly number[] = [];

/** Most pages that the core looks through at once. */
const PAGES_PER_CALL = 2 ** 30;

/** The next page of `[vpn, end)` with an entry; undefined: there is none. */
export function nextEntry({ core }: Platform, table: number, vpn: number, end: number): number | undefined {
  for (let from = vpn; from < end; from += PAGES_PER_CALL) {
    const next = core.exports.rangeNext(table, from, Math.min(end - from, PAGES_PER_CALL));
    if (next >= 0) return next;
  }
  return undefined;
}

/** First pages of the huge pages of 2 MiB that have pages in `[start, end)`; empty when nobody listens. */
export function hugePagesIn(platform: Platform, space: AddressSpace, start: number, end: number): readonly number[] {
  if (!platform.events.heard) return NONE;
  const { core } = platform;
  const heads: number[] = [];
  for (let vpn = nextEntry(platform, space.table, start, end); vpn !== undefined;) {
    const high = core.entry(space.table, vpn);
    if (windowPages(high) === HUGE_PAGES) heads.push(windowStart(vpn, high));
    const after = windowPages(high) > HUGE_PAGES ? windowStart(vpn, high) + windowPages(high) : vpn - (vpn % HUGE_PAGES) + HUGE_PAGES;
    vpn = after < end ? nextEntry(platform, space.table, after, end) : undefined;
  }
  return heads;
}

/** Those across the borders of a range; empty when nobody listens. */
export function hugePagesAcross(platform: Platform, space: AddressSpace, start: number, end: number): readonly number[] {
  if (!platform.events.heard || (start % HUGE_PAGES === 0 && end % HUGE_PAGES === 0)) return NONE;
  const heads = start % HUGE_PAGES === 0 ? [] : [...hugePagesIn(platform, space, start, start + 1)];
  if (end % HUGE_PAGES !== 0) for (const head of hugePagesIn(platform, space, end - 1, end)) if (heads[0] !== head) heads.push(head);
  return heads;
}

/** Tells which of `heads` are small pages now, `by` pages further on. One of which nothing is left has gone, not been split. */
export function reportSplits(platform: Platform, space: AddressSpace, heads: readonly number[], cause: SplitCause, by = 0): void {
  for (const head of heads) {
    const place = by !== 0 && isSmall(platform, space.table, head + by) ? head + by : head;
    if (isSmall(platform, space.table, place)) reportSplit(platform, space.id, place, cause);
  }
}

/** Tells of one huge page that has been split. */
export function reportSplit({ events }: Platform, space: number, vpn: number, cause: SplitCause): void {
  if (events.heard) events.emit({ type: 'page.split', space, vpn, pages: HUGE_PAGES, cause });
}

function isSmall(platform: Platform, table: number, head: number): boolean {
  const found = nextEntry(platform, table, head, head + HUGE_PAGES);
  return found !== undefined && (platform.core.entry(table, found) & L.ENTRY_ORDER) === 0;
}

/** The shipped core, and loops around single operations of it: what one page costs inside, without the call. Compiled like the core, for the bench alone. */
export * from '../../assembly/index';
import { OnePage, REPLACED, rangeMap, rangeUnmap } from '../../assembly/range';
import { Walk, count, pruneLeaf } from '../../assembly/table';
import { H_LIVE, H_PAGES, PAGE_SHIFT } from '../../assembly/layout';

/** Pages whose entries are written before they are counted. */
const BLOCK: u32 = 256;

/** Maps the pages whose numbers, from `vpn` on, are the `n` words at `order`, each to the frame of its number. BLOCK words at `scratch` are its own. */
export function mapEach(table: u32, vpn: f64, order: u32, n: u32, high: u32, scratch: u32): void {
  const first = <u64>(<i64>vpn),
    end = order + (n << 2);
  for (let at = order; at < end;) {
    const stop = min(at + (BLOCK << 2), end);
    at = mapSome(table, first, at, stop, (<u64>high) << 32, scratch);
    if (at == stop) continue;
    const page = load<u32>(at);
    rangeMap(table, <f64>(first + page), 1, page, high);
    at += 4;
  }
}

/** Maps until there is more to a page. Returns where its number is, or `end`. */
function mapSome(table: u32, first: u64, at: u32, end: u32, high: u64, scratch: u32): u32 {
  const root = Walk.root(table);
  let news = scratch;
  for (; root && at < end; at += 4) {
    const page = load<u32>(at),
      slot = OnePage.put(root, first + page, high | page);
    if (!slot) break;
    store<u32>(news, slot);
    news += ((slot & REPLACED) ^ REPLACED) << 2;
  }
  countEach(scratch, news, 1);
  if (root) count(table, root, 0, (news - scratch) >> 2);
  return at;
}

/** Unmaps them. */
export function unmapEach(table: u32, vpn: f64, order: u32, n: u32, scratch: u32): void {
  const first = <u64>(<i64>vpn),
    end = order + (n << 2);
  for (let at = order; at < end;) {
    const stop = min(at + (BLOCK << 2), end);
    at = unmapSome(table, first, at, stop, scratch);
    if (at == stop) continue;
    rangeUnmap(table, <f64>(first + load<u32>(at)), 1);
    at += 4;
  }
}

/** Unmaps until there is more to a page, as `mapSome`. */
function unmapSome(table: u32, first: u64, at: u32, end: u32, scratch: u32): u32 {
  const root = Walk.root(table),
    from = at;
  let gone = scratch;
  for (; root && at < end; at += 4) {
    const slot = OnePage.put(root, first + load<u32>(at), 0);
    if (!slot) break;
    store<u32>(gone, slot);
    gone += (slot & REPLACED) << 2;
  }
  const isEmpty = countEach(scratch, gone, -1);
  if (root) count(table, root, 0, 0 - ((gone - scratch) >> 2));
  if (isEmpty) for (let page = from; page < at; page += 4) pruneLeaf(table, first + load<u32>(page));
  return at;
}

/** Adds to the count of live entries of the table page of each of the slots (u32) in `[list, end)`: `liveAdd`, with all that stays the same looked up once. Returns 1 if one of the pages has become empty, else 0. */
function countEach(list: u32, end: u32, entries: u32): u32 {
  const counts = load<u32>(H_LIVE),
    pages = load<u32>(H_PAGES);
  let isEmpty: u32 = 0;
  for (; list < end; list += 4) {
    const at = counts + (((load<u32>(list) - pages) >> PAGE_SHIFT) << 1),
      now = load<u16>(at) + entries;
    store<u16>(at, <u16>now);
    isEmpty |= u32(!now);
  }
  return isEmpty;
}

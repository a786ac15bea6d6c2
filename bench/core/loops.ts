/** The shipped core, and loops around single operations of it: what one page costs inside, without the call. Compiled like the core, for the bench alone. */
export * from '../../assembly/index';
import { OnePage, rangeMap, rangeUnmap } from '../../assembly/range';
import { Walk } from '../../assembly/table';

// What wants more than a page's own table page is behind the inner loop, which is entered anew: V8 gives up the registers of a loop around every call in it.

/** Maps the pages whose numbers, from `vpn` on, are the `n` words at `order`, each to the frame of its number. */
export function mapEach(table: u32, vpn: f64, order: u32, n: u32, high: u32): void {
  const first = <u64>vpn,
    end = order + (n << 2);
  for (let at = order; at < end; at += 4) {
    for (; at < end; at += 4) {
      const page = load<u32>(at),
        slot = Walk.nearLeafSlot(table, first + page);
      if (!slot || !OnePage.mapAt(table, slot, ((<u64>high) << 32) | page)) break;
    }
    if (at < end) rangeMap(table, <f64>(first + load<u32>(at)), 1, load<u32>(at), high);
  }
}

/** Unmaps them. */
export function unmapEach(table: u32, vpn: f64, order: u32, n: u32): void {
  const first = <u64>vpn,
    end = order + (n << 2);
  for (let at = order; at < end; at += 4) {
    for (; at < end; at += 4) {
      const slot = Walk.nearLeafSlot(table, first + load<u32>(at));
      if (!slot || !OnePage.unmapAt(table, slot)) break;
    }
    if (at < end) rangeUnmap(table, <f64>(first + load<u32>(at)), 1);
  }
}

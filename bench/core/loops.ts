/** The shipped core, and loops around single operations of it: what one page costs inside, without the call. Compiled like the core, for the bench alone. */
export * from '../../assembly/index';
import { OnePage, rangeMap, rangeUnmap } from '../../assembly/range';

/** Maps the pages whose numbers, from `vpn` on, are the `n` words at `order`, each to the frame of its number. */
export function mapEach(table: u32, vpn: f64, order: u32, n: u32, high: u32): void {
  const first = <u64>vpn;
  for (let i: u32 = 0; i < n; i++) {
    const page = load<u32>(order + (i << 2));
    if (!OnePage.map(table, first + page, ((<u64>high) << 32) | page)) rangeMap(table, <f64>(first + page), 1, page, high);
  }
}

/** Unmaps them. */
export function unmapEach(table: u32, vpn: f64, order: u32, n: u32): void {
  const first = <u64>vpn;
  for (let i: u32 = 0; i < n; i++) {
    const page = first + load<u32>(order + (i << 2));
    if (!OnePage.unmap(table, page)) rangeUnmap(table, <f64>page, 1);
  }
}

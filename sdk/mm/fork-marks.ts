/**
 * For events: what inheriting a VMA's pages does beside sharing them. Huge pages are split, pages that were exclusive to a device are revoked, pinned ones are copied at once; the core does it in its
 * loop, and says nothing. Made only while somebody listens.
 */
import * as L from '../../assembly/layout.ts';
import type { PageRun } from '../events/record.ts';
import type { AddressSpace } from './address-space.ts';
import { windowPages, windowStart } from './huge-window.ts';
import type { Platform } from './platform.ts';
import { hugePagesIn, nextEntry, reportSplits } from './splits.ts';

export class ForkMarks {
  private readonly platform: Platform;
  private readonly parent: AddressSpace;
  private readonly start: number;
  private readonly end: number;
  private readonly heads: readonly number[];
  private readonly exclusive: number[] = [];

  /** Before the pages `[start, end)` are inherited. */
  constructor(platform: Platform, parent: AddressSpace, start: number, end: number) {
    this.platform = platform;
    this.parent = parent;
    this.start = start;
    this.end = end;
    this.heads = hugePagesIn(platform, parent, start, end);
    this.each(parent, (vpn, high) => {
      if (isExclusive(high)) this.exclusive.push(vpn);
    });
  }

  /** Afterwards. `copies` gets what the child has copies of; it is told of them once it is told of. */
  report(child: AddressSpace, copies: PageRun[]): void {
    const { core, events } = this.platform;
    if (!events.heard) return;
    reportSplits(this.platform, this.parent, this.heads, 'fork');
    for (const vpn of this.exclusive) {
      if (!isExclusive(core.entry(this.parent.table, vpn)))
        events.emit({ type: 'page.revoked', space: this.parent.id, vpn, cause: 'fork' });
    }
    this.each(child, (vpn, high, frame) => {
      const kind = high & L.ENTRY_KIND;
      if ((kind !== L.KIND_PRESENT && kind !== L.KIND_PROTNONE) || high & L.ENTRY_ZERO) return;
      core.entry(this.parent.table, vpn);
      if (core.entryLow !== frame) copies.push({ space: child.id, vpn, pages: windowPages(high) });
    });
  }

  /** Every entry of the range, with the first page that it maps, its high word and its frame. */
  private each(space: AddressSpace, visit: (vpn: number, high: number, frame: number) => void): void {
    const { core } = this.platform;
    let vpn = nextEntry(this.platform, space.table, this.start, this.end);
    while (vpn !== undefined) {
      const high = core.entry(space.table, vpn);
      visit(vpn, high, core.entryLow);
      const after = windowStart(vpn, high) + windowPages(high);
      vpn = after < this.end ? nextEntry(this.platform, space.table, after, this.end) : undefined;
    }
  }
}

function isExclusive(high: number): boolean {
  return (high & L.ENTRY_KIND) === L.KIND_EXCLUSIVE || ((high & L.ENTRY_KIND) === L.KIND_PRESENT && (high & L.ENTRY_CPU_READS) !== 0);
}

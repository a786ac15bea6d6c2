/**
 * Which pages a device has accessed, and which it has written: the marks that its walker leaves, taken and told on.
 *
 * ```
 *   taken for      harvest                the program hears of them
 *                  a choice of victims    and owes them to the next harvest
 *                  a withdrawal           the second tier hears what has been written: what it has of these pages is true no more
 * ```
 *
 * Models: `iommu_read_and_clear_dirty`, `mmu_notifier_clear_young`; `folio_mark_dirty` for what a device has written.
 */
import * as L from '../../assembly/layout.ts';
import { Marks, Ranges } from '../core/batch.ts';
import { PageMap } from '../core/page-map.ts';
import { fail } from '../errors.ts';
import { VPN_LIMIT } from '../mm/arguments.ts';
import type { Platform } from '../mm/platform.ts';
import { nextEntry } from '../mm/splits.ts';
import type { Ticket } from '../step/ticket.ts';
import type { DeviceMirror } from './device-mirror.ts';
import type { OwnMemory } from './own-memory.ts';

/** Pages whose marks are taken one by one when they are withdrawn. */
const WRITTEN_MAX = 2 ** 20;

/** The marks of one context. */
export class AccessMarks {
  private readonly platform: Platform;
  private readonly mirror: DeviceMirror;
  /** Marks that are gone from its table and that nobody was told of: by page, 1 if it was written. */
  private readonly owed: PageMap = new PageMap();
  /** Pages that had marks, when they are taken. */
  private readonly changed: Ranges = new Ranges();
  /** Marks of what is withdrawn. */
  private readonly last: Marks = new Marks();

  constructor(platform: Platform, mirror: DeviceMirror) {
    this.platform = platform;
    this.mirror = mirror;
  }

  /** @internal Whether they can be taken. */
  get areThere(): boolean {
    const { walk } = this.mirror.mmu;
    return this.mirror.works && this.mirror.mode !== 'share' && (!walk || walk.harvest !== undefined);
  }

  /** @internal Whether nothing is owed to anybody. */
  get areTold(): boolean {
    return this.owed.size === 0;
  }

  /** @internal Whether they are all in a table of the core. */
  get areInCore(): boolean {
    return this.mirror.table !== undefined && !this.mirror.mmu.walk;
  }

  /** @internal Whether there is a page that could have some. Requires: they are all in the core. */
  get mayBe(): boolean {
    return this.areThere && this.mirror.table!.pages > 0;
  }

  /** @internal Takes those of these pages, and makes the caches forget the pages that had some; a ticket: they have not yet. Fails the context when the driver names a page that it was not asked for. */
  take(ranges: Ranges, marks: Marks): Ticket | undefined {
    try {
      this.read(ranges, marks);
      return this.forget(marks, ranges);
    } catch (error) {
      throw this.mirror.failWith(error);
    }
  }

  /** @internal The same of all pages whose frames may go from a memory. Requires: they are in the core. */
  takeOfVictims(memory: OwnMemory, payer: number, passed: ReadonlySet<number>, marks: Marks): Ticket | undefined {
    try {
      this.mirror.table!.harvestVictims(memory.node.index, payer, memory.passOver(passed), marks);
      return this.forget(marks, undefined);
    } catch (error) {
      throw this.mirror.failWith(error);
    }
  }

  /** Makes the caches forget the pages of marks that have been taken. `asked`: pages that they must be of. */
  private forget(marks: Marks, asked: Ranges | undefined): Ticket | undefined {
    const { mirror } = this;
    if (marks.count === 0) return undefined;
    const changed = this.changed.clear();
    let range = 0;
    for (let i = 0; i < marks.count; i++) {
      const vpn = marks.vpn(i);
      if (marks.isDirty(i) && this.platform.tier) this.written(vpn);
      if (asked) range = rangeOf(asked, vpn, range);
      if (range < 0) throw fail('EINVAL', `${mirror.name}.walk.harvest mark`, vpn, 'is not a page of the ranges');
      changed.add(vpn, 1);
    }
    const ticket = mirror.flushes.make(changed);
    mirror.flushes.add(ticket);
    return ticket;
  }

  /** @internal Marks that were taken for somebody else than `harvest`, which will tell them. */
  owe(vpn: number, dirty: boolean): void {
    this.owed.set(vpn, dirty || this.owed.get(vpn) === 1 ? 1 : 0);
  }

  /** @internal Takes what is owed of these pages. */
  takeOwed(start: number, end: number, marks: Marks): void {
    const { owed } = this;
    for (let at = owed.next(0); at >= 0; at = owed.next(at + 1)) {
      const vpn = owed.pageAt(at);
      if (vpn < start || vpn >= end) continue;
      marks.add(vpn, owed.valueAt(at) === 1);
      owed.delete(vpn);
    }
  }

  /** @internal Pages are taken away: they take their marks along. What the device has written of them is no longer what the second tier has. */
  withdrawn(asked: Ranges): void {
    if (this.owed.size > 0) for (let i = 0; i < asked.count; i++) this.owed.deleteRange(asked.start(i), asked.length(i));
    const { tier } = this.platform;
    if (!tier?.isTrusting) return;
    const ranges = asked.pages > WRITTEN_MAX ? this.mappedIn(asked) : asked;
    if (ranges.pages > WRITTEN_MAX) {
      tier.forget();
      return;
    }
    const marks = this.last.clear();
    this.read(ranges, marks);
    for (let i = 0; i < marks.count; i++) if (marks.isDirty(i)) this.written(marks.vpn(i));
  }

  /** @internal The device is about to be reset: the marks that it has are the last ones. */
  end(): void {
    const { tier } = this.platform;
    if (!tier) return;
    const everything = new Ranges();
    everything.add(0, VPN_LIMIT);
    try {
      if (this.mirror.works) this.withdrawn(everything);
      else tier.forget();
    } catch (error) {
      this.mirror.failWith(error);
    }
  }

  /** @internal It may write to these pages without a mark that is looked at: what the second tier has of them is not kept. */
  mayWrite(ranges: Ranges): void {
    if (!this.platform.tier?.isTrusting) return;
    const { table } = this.mirror.space;
    ranges.each((start, pages) => {
      for (let vpn = start; vpn < start + pages; vpn++) {
        const next = nextEntry(this.platform, table, vpn, start + pages);
        if (next === undefined) return;
        vpn = next;
        this.written(vpn);
      }
    });
  }

  private read(ranges: Ranges, marks: Marks): void {
    const { walk } = this.mirror.mmu;
    if (walk) walk.harvest!(ranges, marks);
    else this.mirror.table!.harvest(ranges, marks);
  }

  /** What of these ranges is mapped. */
  private mappedIn(ranges: Ranges): Ranges {
    const mapped = new Ranges();
    const { vmas } = this.mirror.space;
    ranges.each((start, pages) => vmas.each(start, start + pages, (_, from, to) => mapped.add(from, to - from)));
    return mapped;
  }

  private written(vpn: number): void {
    const { core } = this.platform;
    const kind = core.entry(this.mirror.space.table, vpn) & L.ENTRY_KIND;
    if (kind === L.KIND_PRESENT || kind === L.KIND_DEVICE_PRIVATE || kind === L.KIND_MIGRATION || kind === L.KIND_EXCLUSIVE)
      core.exports.backingDrop(core.entryLow);
  }
}

/** The range that has a page, or -1; looked for from range `first` on, and round: marks come in the order of the ranges, most often. */
function rangeOf(ranges: Ranges, vpn: number, first: number): number {
  const { count } = ranges;
  for (let i = 0, at = first; i < count; i++, at++) {
    if (at === count) at = 0;
    if (vpn >= ranges.start(at) && vpn < ranges.start(at) + ranges.length(at)) return Number.isInteger(vpn) ? at : -1;
  }
  return -1;
}

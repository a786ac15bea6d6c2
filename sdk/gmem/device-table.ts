/**
 * The ready-made device table and TLB: the core's radix code with a geometry of the driver's choice, and the core's translation cache in front of it.
 *
 *   deviceTable(context)   a `pmap` family, and `walk` for drivers that keep their own cache
 *   deviceTlb(context)     a `tlb` family; looked up by the core, so a job's accesses never leave it
 */
import * as L from '../../assembly/layout.ts';
import type { Core } from '../core/abi.ts';
import { type Locator, type Mappings, Marks, Ranges } from '../core/batch.ts';
import { fail } from '../errors.ts';
import { type NamesOf, requireArray, requireNames, requireObject } from '../mm/arguments.ts';
import type { Context } from './context.ts';
import type { Access, Pmap, TableGeometry, Tlb, Translation } from './driver.ts';

/** Four levels of nine bits, leaves first: 48-bit addresses, 2 MiB and 1 GiB blocks. */
export const DEFAULT_GEOMETRY: TableGeometry = { bits: [9, 9, 9, 9] };

/** Sets of a ready-made device TLB, four ways each. */
export const DEVICE_TLB_SETS = 256;

/** Runs of marks that one call into the core gives back. */
const HARVEST_RUNS_MAX = Math.floor((L.LIST_MAX * 4) / L.HARVEST_BYTES);
/** Marks that one call takes of what may go. */
const VICTIM_MARKS_MAX = L.LIST_MAX / 2;

/** A radix table of one context. */
export class DeviceTable implements Pmap {
  /** Descriptor address in the core. */
  readonly table: number;
  private readonly core: Core;
  private readonly locator: Locator;

  /** Pages around the last `release` that had to go along with it: their caches are to be emptied too. */
  readonly overshoot: Ranges = new Ranges();
  /** Somebody harvests: marks must not get lost when translations are entered anew. */
  private keepsMarks = false;
  /** Marks under what is being entered. */
  private readonly under: Marks = new Marks();
  /** Orders of the block entries it may use, largest first. */
  private readonly orders: readonly number[];
  /** Pages of the smallest of them; Infinity without any. */
  private readonly smallest: number;

  /** `table`: its descriptor, see `createTable`. `pageBytes`: the page sizes that its entries may have. */
  constructor(core: Core, table: number, pageBytes: readonly number[], locator: Locator) {
    this.orders = pageBytes
      .map((bytes) => Math.log2(bytes / L.PAGE_BYTES))
      .filter((order) => order > 0)
      .sort((a, b) => b - a);
    this.smallest = this.orders.length > 0 ? 2 ** this.orders[this.orders.length - 1]! : Infinity;
    this.core = core;
    this.locator = locator;
    this.table = table;
  }

  enter(mappings: Mappings): void {
    for (let i = 0; i < mappings.count; i++) {
      const high = L.KIND_PRESENT | (mappings.isWritable(i) ? L.ENTRY_WRITE : 0) | (mappings.attributes(i) << L.ENTRY_DEVICE_SHIFT);
      this.enterRun(mappings.vpn(i), mappings.length(i), mappings.frame(i), high);
    }
  }

  private enterRun(vpn: number, pages: number, frame: number, high: number): void {
    const { exports } = this.core;
    const kept = this.keepsMarks ? this.marksUnder(vpn, pages) : undefined;
    let at = 0;
    while (at < pages) {
      const order = this.fitting(vpn + at, frame + at, pages - at);
      const done =
        order > 0
          ? exports.rangeMapOrder(this.table, vpn + at, frame + at, high, order)
          : exports.rangeMap(this.table, vpn + at, this.upToBlock(vpn + at, pages - at), frame + at, high);
      at += done;
      if (done > 0) continue;
      // A block is in the way: it is cut, and the rest of it stays.
      const cut = this.core.stopReason === L.STOP_SPLIT && exports.rangeSplit(this.table, vpn + at) !== 0;
      if (!cut) throw fail('ENOMEM', 'table pages', this.core.plan.tablePages, 'are used up: the device table cannot grow');
    }
    kept?.each((page, dirty) => exports.tableMark(this.table, page, dirty ? L.ENTRY_ACCESSED | L.ENTRY_DIRTY : L.ENTRY_ACCESSED));
  }

  /** Order of the largest entry that can begin here; 0: a base page. */
  private fitting(vpn: number, frame: number, pages: number): number {
    if (pages < this.smallest) return 0;
    for (const order of this.orders) {
      const size = 2 ** order;
      if (pages >= size && vpn % size === 0 && frame % size === 0) return order;
    }
    return 0;
  }

  /** Base pages from here to where a block could begin. */
  private upToBlock(vpn: number, pages: number): number {
    const { smallest } = this;
    return pages === 1 || smallest === Infinity ? pages : Math.min(pages, smallest - (vpn % smallest));
  }

  release(ranges: Ranges): void {
    this.overshoot.clear();
    for (let i = 0; i < ranges.count; i++) {
      const pages = ranges.length(i);
      // A range may be the whole address space; counts cross the boundary as 32 bits.
      for (let done = 0; done < pages; done += 2 ** 30) this.unmap(ranges.start(i) + done, Math.min(pages - done, 2 ** 30));
    }
  }

  /** Taking away cannot fail: where there is no table page to cut a block at a border of the range, the whole block goes, and the device will fault on the rest. */
  private unmap(vpn: number, pages: number): void {
    const { exports } = this.core;
    const end = vpn + pages;
    for (let at = vpn; at < end;) {
      exports.rangeUnmap(this.table, at, end - at);
      if (this.core.stopReason === L.STOP_NONE) return;
      at += this.core.stopIndex;
      const size = 2 ** this.orders[0]!;
      const block = at - (at % size);
      exports.rangeUnmap(this.table, block, size);
      this.overshoot.add(block, size);
      at = block + size;
    }
  }

  protect(ranges: Ranges, write: boolean): void {
    this.overshoot.clear();
    for (let i = 0; i < ranges.count; i++) {
      const pages = ranges.length(i);
      for (let done = 0; done < pages; done += 2 ** 30) this.change(ranges.start(i) + done, Math.min(pages - done, 2 ** 30), write);
    }
  }

  /** A block at a border of the range that cannot be cut for want of a table page goes as a whole, as with `release`. */
  private change(vpn: number, pages: number, write: boolean): void {
    const { exports } = this.core;
    const end = vpn + pages;
    for (let at = vpn; at < end;) {
      exports.rangeProtect(this.table, at, end - at, write ? 0 : L.ENTRY_WRITE, write ? L.ENTRY_WRITE : 0);
      if (this.core.stopReason === L.STOP_NONE) return;
      at += this.core.stopIndex;
      const size = 2 ** this.orders[0]!;
      const block = at - (at % size);
      exports.rangeUnmap(this.table, block, size);
      this.overshoot.add(block, size);
      at = block + size;
    }
  }

  /**
   * Takes the marks of the pages in the ranges. From the first call on marks outlive a translation that is entered in place of theirs; before it, such a one begins without.
   */
  harvest(ranges: Ranges, marks: Marks): void {
    this.keepsMarks = true;
    for (let i = 0; i < ranges.count; i++) {
      const vpn = ranges.start(i);
      const pages = ranges.length(i);
      for (let done = 0; done < pages;) done += this.harvestRun(vpn + done, Math.min(pages - done, 2 ** 30), marks);
    }
  }

  /** @internal The same of all pages whose frames may go from a memory; see `harvestVictims`. The first `passed` words of AREA_FREED are frames that may not. */
  harvestVictims(node: number, payer: number, passed: number, marks: Marks): void {
    const { core } = this;
    this.keepsMarks = true;
    for (let from = 0; from >= 0;) {
      const list = core.area(L.AREA_LIST);
      const found = core.exports.harvestVictims(this.table, from, node, list, VICTIM_MARKS_MAX, core.area(L.AREA_FREED), passed, payer);
      for (let i = 0, at = list >>> 2; i < found; i++, at += L.HARVESTED_BYTES / 4) {
        const high = core.u32[at + 1]!;
        const isDirty = high >>> L.HARVESTED_DIRTY_SHIFT === 1;
        marks.add((isDirty ? high - 2 ** L.HARVESTED_DIRTY_SHIFT : high) * 2 ** 32 + core.u32[at]!, isDirty);
      }
      from = core.stopReason === L.STOP_FULL ? core.stopVpn : -1;
    }
  }

  /** Marks of pages up to where there was no more room for them; returns how many pages that are. */
  private harvestRun(vpn: number, pages: number, marks: Marks): number {
    const { core } = this;
    const runs = core.exports.tableHarvest(this.table, vpn, pages, core.area(L.AREA_LIST), HARVEST_RUNS_MAX);
    const { u32 } = core;
    for (let run = 0, at = core.area(L.AREA_LIST) >>> 2; run < runs; run++, at += L.HARVEST_BYTES / 4) {
      const first = vpn + u32[at]!;
      for (let page = 0; page < u32[at + 1]!; page++) marks.add(first + page, (u32[at + 2]! & L.ENTRY_DIRTY) !== 0);
    }
    return core.stopIndex;
  }

  /** Marks of the pages of a mapping that is to be entered, where they are kept; undefined without any. */
  private marksUnder(vpn: number, pages: number): Marks | undefined {
    const marks = this.under.clear();
    for (let done = 0; done < pages;) done += this.harvestRun(vpn + done, pages - done, marks);
    return marks.count > 0 ? marks : undefined;
  }

  /** The translation of a page if the table allows the access; for a driver's own cache. */
  walk(vpn: number, access: Access): Translation | undefined {
    const core = this.core;
    const high = core.entry(this.table, vpn);
    if ((high & L.ENTRY_KIND) !== L.KIND_PRESENT) return undefined;
    const write = (high & L.ENTRY_WRITE) !== 0;
    if (access === 'write' && !write) return undefined;
    const frame = core.entryLow;
    const attributes = (high & L.ENTRY_DEVICE) >>> L.ENTRY_DEVICE_SHIFT;
    return { vpn, memory: this.locator.memoryOf(frame), page: this.locator.pageOf(frame), write, ...(attributes > 0 && { attributes }) };
  }

  /** Mapped pages. */
  get pages(): number {
    return this.core.field(this.table, L.TABLE_PAGES);
  }

  destroy(): void {
    this.core.exports.tableDestroy(this.table);
  }
}

/** Descriptor address of a new device table of this shape, which mirrors the home table with descriptor `home`. Throws EINVAL, ENOMEM. */
export function createTable(core: Core, geometry: TableGeometry, home: number): number {
  checkGeometry(geometry);
  const table = core.tableCreate(geometry.bits, false);
  if (table === 0) throw fail('ENOMEM', 'device tables', core.plan.tables, 'is all that the machine has room for');
  core.setField(table, L.TABLE_HOME, home);
  return table;
}

/** A translation cache in the core, in front of a `DeviceTable`. */
export class DeviceTlb implements Tlb {
  /** Slot address in the core. */
  readonly slot: number;
  private readonly core: Core;

  constructor(core: Core, table: DeviceTable, sets: number) {
    if (!Number.isInteger(sets) || sets < 1 || sets > L.TLB_SETS_MAX || (sets & (sets - 1)) !== 0) {
      throw fail('EINVAL', 'deviceTlb.sets', sets, `is not a power of two between 1 and ${L.TLB_SETS_MAX}`);
    }
    this.core = core;
    this.slot = core.tlbCreate(table.table, sets);
    if (this.slot === 0) throw fail('ENOMEM', 'device TLBs', core.plan.tlbs, 'is all that the machine has room for');
  }

  invalidate(ranges: Ranges): void {
    const { exports } = this.core;
    for (let i = 0; i < ranges.count; i++) {
      if (ranges.length(i) >= 2 ** 32) exports.tlbFlush(this.slot);
      else exports.tlbInvalidate(this.slot, ranges.start(i), ranges.length(i));
    }
  }

  /** Looked-up pages. */
  get counts(): { readonly hit: number; readonly miss: number } {
    return { hit: this.core.counter(this.slot, L.TLB_HITS), miss: this.core.counter(this.slot, L.TLB_MISSES) };
  }

  destroy(): void {
    this.core.exports.tlbDestroy(this.slot);
  }
}

/** The context's ready-made table. Once per context. Errors: ENOMEM; EINVAL for a geometry that is not 1 to 5 levels of 1 to 9 bits, 36 bits together. */
export function deviceTable(context: Context, geometry?: TableGeometry): DeviceTable {
  if (typeof context?.makeTable !== 'function') throw notOfDriver('deviceTable', context);
  return context.makeTable(geometry);
}

/** The context's ready-made TLB, in front of its ready-made table: `sets` sets (a power of two up to 256) of four ways, least recently used out first. */
export function deviceTlb(context: Context, sets: number = DEVICE_TLB_SETS): DeviceTlb {
  if (typeof context?.makeTlb !== 'function') throw notOfDriver('deviceTlb', context);
  return context.makeTlb(sets);
}

function notOfDriver(verb: string, context: unknown): Error {
  return fail('EINVAL', `${verb}.context`, context, 'is not the context that a driver is attached with');
}

export function checkGeometry(geometry: TableGeometry): void {
  requireObject('geometry', geometry, 'an object with the bits of each level');
  requireNames('geometry', geometry, { bits: true } satisfies NamesOf<TableGeometry>);
  const { bits } = geometry;
  requireArray('geometry.bits', bits);
  if (bits.length < 1 || bits.length > L.LEVELS_MAX)
    throw fail('EINVAL', 'geometry.bits', bits.length, `levels are not between 1 and ${L.LEVELS_MAX}`);
  for (const width of bits) {
    if (!Number.isInteger(width) || width < 1 || width > L.LEVEL_BITS_MAX)
      throw fail('EINVAL', 'geometry.bits', width, `is not a width between 1 and ${L.LEVEL_BITS_MAX}`);
  }
  const sum = (bits as readonly number[]).reduce((total, width) => total + width, 0);
  if (sum !== L.VPN_BITS) throw fail('EINVAL', 'geometry.bits', sum, `bits in all are not the ${L.VPN_BITS} of a page number`);
}

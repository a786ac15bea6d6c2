/**
 * mirror: the driver to read first. A device without memory of its own that uses the program's pages where they are, like an RDMA adapter
 * with on-demand paging or an integrated GPU.
 *
 * It has a page table, and a TLB in front of it. When a lane touches a page that the table does not have, the framework does what every such
 * driver does by hand:
 *
 * ```
 *   begin       remember the sequence of the interval notifier
 *   look        at the CPU's page table (hmm_range_fault); fault the page in where it is missing
 *   lock        take the driver lock
 *   retry?      if the range was invalidated meanwhile, begin again
 *   enter       pmap.enter: the translations of what is there
 * ```
 *
 * And before the program's pages change (munmap, mprotect, a migration by another device) it calls, in this order, `pmap.release` and
 * `tlb.invalidate`; only when both have returned does the change happen.
 *
 * So this driver says what its hardware is: how a table is written, how a cache is emptied, how a page is looked up. Everything below
 * could be left out (the ready-made table and TLB do the same inside the core, faster), but then there would be nothing to read.
 */
import {
  type Access,
  type Context,
  defineDriver,
  type Driver,
  type DriverFactory,
  fail,
  type GmMmu,
  type Mappings,
  type Marks,
  PageMap,
  permits,
  type Ranges,
  type Translation,
  Translations,
} from '../../sdk/gmem/index.ts';

/** Options of the mirror driver. */
export interface MirrorOptions {
  /** How much one fault maps: the pages around the faulting one that are there already come along. 4096 (default) to 2 MiB. */
  readonly granule?: number;
  /** Records of the fault buffer. Default 256. */
  readonly faultEntries?: number;
  /** Read the table below, written in TypeScript, instead of the ready-made one in the core. Default false: the replay is faster without. */
  readonly ownTable?: boolean;
}

/** The page table of one context, as plain as it gets: from virtual page number to where the page is. */
class PageTable {
  private readonly entries = new Translations();
  /** Pages that were accessed since the marks were taken; 1: written. */
  private readonly marks = new PageMap();

  /** Translations to install, in place of older ones. A run of pages that are contiguous on both sides comes as one item. */
  enter(mappings: Mappings): void {
    this.entries.enter(mappings);
  }

  /** Every translation in these ranges goes. A range can be the whole address space: look at what is there, not at every page. */
  release(ranges: Ranges): void {
    this.entries.release(ranges);
    for (let i = 0; i < ranges.count; i++) this.marks.deleteRange(ranges.start(i), ranges.length(i));
  }

  walk(vpn: number, access: Access): Translation | undefined {
    const entry = this.entries.get(vpn);
    if (!permits(entry, access)) return undefined;
    if (access === 'write' || !this.marks.has(vpn)) this.marks.set(vpn, access === 'write' ? 1 : 0);
    return entry;
  }

  /** The marks of these pages, which are cleared. */
  harvest(ranges: Ranges, marks: Marks): void {
    for (let i = 0; i < ranges.count; i++) this.marks.deleteRange(ranges.start(i), ranges.length(i), marks);
  }
}

/** What the device is in one address space. */
function attach(saved?: unknown): GmMmu {
  const { table, cached } = (saved as { table: PageTable; cached: PageTable } | undefined) ?? {
    table: new PageTable(),
    cached: new PageTable(),
  };
  return {
    // What a saved machine has to know of it.
    save: () => ({ table, cached }),
    pmap: table,
    tlb: { invalidate: (ranges) => cached.release(ranges) },
    walk: {
      translate(vpn, access) {
        // Undefined raises a device fault.
        return cached.walk(vpn, access) ?? table.walk(vpn, access);
      },
      harvest: (ranges, marks) => table.harvest(ranges, marks),
    },
  };
}

/** A device that mirrors the program's address space and has no memory of its own. */
const mirror: DriverFactory<MirrorOptions> = defineDriver(
  ({ granule = 4096, faultEntries = 256, ownTable = false }: MirrorOptions): Driver => {
    if (typeof ownTable !== 'boolean') throw fail('EINVAL', 'mirror.ownTable', ownTable, 'is not true or false');
    return {
      name: 'mirror',
      granuleBytes: granule,
      faultEntries,
      // Having a family is the capability; without any, the ready-made table and TLB serve.
      attach: (_context: Context, saved?: unknown) => (ownTable ? attach(saved) : {}),
      classes: [PageTable],
    };
  },
  { granule: true, faultEntries: true, ownTable: true },
);

export default mirror;

/** One I/O address space: its addresses, its table, its IOTLB, and what waits for a flush. Models: `struct iommu_domain`, `iova_domain`, its flush queue. */
import {
  type Access,
  fail,
  MappingSet,
  method,
  permits,
  Ranges,
  type Translation,
  Translations,
  type VaRegion,
  VaSpace,
  type VaStrategy,
} from '../../sdk/gmem/index.ts';
import type { IommuCounts } from './costs.ts';

const PAGE = 4096;

/** When the IOTLB forgets what is unmapped. See `index.ts`. */
export type FlushMode = 'strict' | 'deferred' | 'coalesced';

/** How a domain is made. */
export interface DomainOptions {
  readonly flush: FlushMode;
  readonly queueEntries: number;
  readonly flushTicks: number;
  readonly iotlbEntries: number;
  readonly addressBits: number;
  readonly strategy: VaStrategy;
}

/** Pages that are held where they are: a `Pin` is one. */
export interface HeldPages {
  readonly frames: readonly number[];
  readonly isWritable: boolean;
  readonly held: boolean;
}

/** Where an I/O page leads. */
export interface Target {
  readonly pages: HeldPages;
  /** Index of the page among them. */
  readonly page: number;
  /** How many of them it leads to, from there on: no more than were asked for. */
  readonly count: number;
  readonly write: boolean;
}

/** One I/O address space. State is plain: it is part of a saved machine. */
export class Domain {
  readonly options: DomainOptions;
  readonly counts: IommuCounts = {
    maps: 0,
    unmaps: 0,
    pagesMapped: 0,
    pagesUnmapped: 0,
    searches: 0,
    invalidations: 0,
    furtherRanges: 0,
    dropped: 0,
    hits: 0,
    misses: 0,
  };
  /** The I/O page table: of each page, its index among those of its mapping. */
  private readonly entries: Translations = new Translations();
  /** The same, the oldest first. */
  private readonly iotlb: Translations = new Translations();
  private readonly va: VaSpace;
  /** Unmapped, and not flushed: nobody is given these addresses, and what was behind them is held. */
  private readonly queue: MappingSet;
  /** What is behind each mapping, by its first page. */
  private readonly behind: Map<number, HeldPages> = new Map();
  /** Nobody can reach these any more. */
  private readonly done: HeldPages[] = [];
  private now = 0;
  /** When the oldest of the queue came. */
  private since = 0;

  constructor(options: DomainOptions) {
    this.options = options;
    // The first page is no address: a descriptor of zeros shall not be one.
    this.va = new VaSpace({ start: PAGE, end: 2 ** options.addressBits, strategy: options.strategy });
    this.queue = new MappingSet(this.va);
  }

  // ------------------------------------------------------------------------------------------------------------- the device's side

  /** What the device reaches at a page, and at as many as `count` from there on that one mapping has; undefined: its access is blocked. */
  translate(vpn: number, access: Access, count: number): Target | undefined {
    const entry = this.lookUp(vpn, access);
    if (!entry) return undefined;
    const { page, write } = entry;
    let found = 1;
    while (found < count && this.known(vpn + found, access)?.page === page + found) this.lookUp(vpn + found++, access);
    return { pages: this.behind.get(vpn - page)!, page, count: found, write };
  }

  /** One look-up of the device: what it has found is in the IOTLB afterwards. */
  private lookUp(vpn: number, access: Access): Translation | undefined {
    const { counts, iotlb } = this;
    const hit = iotlb.get(vpn);
    if (permits(hit, access)) {
      counts.hits++;
      return hit;
    }
    counts.misses++;
    const entry = this.entries.get(vpn);
    if (!permits(entry, access)) return undefined;
    iotlb.delete(vpn);
    if (iotlb.size === this.options.iotlbEntries) iotlb.delete(iotlb.vpnAt(iotlb.next(0)));
    return iotlb.set(vpn, entry.page, entry.memory, entry.write);
  }

  /** What a look-up would find. */
  private known(vpn: number, access: Access): Translation | undefined {
    const hit = this.iotlb.get(vpn);
    if (permits(hit, access)) return hit;
    const entry = this.entries.get(vpn);
    return permits(entry, access) ? entry : undefined;
  }

  // ------------------------------------------------------------------------------------------------------------- the driver's side

  /** Gives held pages an address; undefined when there is none. Models: `dma_map_sg`, `iommu_dma_map_page`. */
  map(pages: HeldPages, write: boolean): number | undefined {
    const { counts, va } = this;
    const bytes = pages.frames.length * PAGE;
    const misses = va.use.cacheHits;
    let region = va.alloc({ bytes });
    if (!region && this.queue.size > 0) {
      // What is waiting may be what is missing.
      this.flush();
      region = va.alloc({ bytes });
    }
    if (!region) return undefined;
    counts.searches += va.use.cacheHits === misses ? 1 : 0;
    counts.maps++;
    counts.pagesMapped += pages.frames.length;
    const first = region.start / PAGE;
    for (let page = 0; page < pages.frames.length; page++) this.entries.set(first + page, page, 0, write);
    this.behind.set(first, pages);
    return region.start;
  }

  /** Takes an address away. Strict: nobody reaches the pages any more when it returns; else after the next flush. Models: `iommu_dma_unmap_page`, `queue_iova`. */
  unmap(iova: number): void {
    const region = this.va.region(iova);
    if (!region || region.set) throw fail('EINVAL', 'iommu.unmap.iova', iova, 'is not an address that was mapped');
    const { counts, options, queue } = this;
    const first = iova / PAGE;
    const pages = region.bytes / PAGE;
    this.entries.deleteRange(first, pages);
    counts.unmaps++;
    counts.pagesUnmapped += pages;
    if (queue.size === 0) this.since = this.now;
    queue.add(region, method<Domain, 'released'>(this, 'released'));
    if (options.flush === 'strict' || queue.size >= options.queueEntries) this.flush();
  }

  /** The IOTLB forgets what was unmapped; then its addresses and pages are free. Models: `fq_flush_iotlb`, `tlb_invl_coalesced`. */
  flush(): void {
    const { counts, iotlb, queue } = this;
    if (queue.size === 0) return;
    const before = iotlb.size;
    counts.invalidations++;
    if (this.options.flush === 'deferred') iotlb.clear();
    else {
      const ranges = new Ranges();
      queue.ranges(ranges);
      counts.furtherRanges += ranges.count - 1;
      iotlb.release(ranges);
    }
    counts.dropped += before - iotlb.size;
    queue.free();
  }

  /** Time goes by; what has waited long enough is flushed. */
  tick(ticks: number): void {
    this.now += ticks;
    if (this.queue.size > 0 && this.now - this.since >= this.options.flushTicks) this.flush();
  }

  /** The addresses of a region are free. */
  released({ start }: VaRegion): void {
    this.done.push(this.behind.get(start / PAGE)!);
    this.behind.delete(start / PAGE);
  }

  /** What nobody can reach any more since this was asked last: its holder may let go of it. */
  takeDone(): readonly HeldPages[] {
    return this.done.splice(0);
  }

  /** Regions that are unmapped and not flushed. */
  get waiting(): number {
    return this.queue.size;
  }

  /** Regions mapped, those that wait left out. */
  get mapped(): number {
    return this.behind.size - this.queue.size;
  }
}

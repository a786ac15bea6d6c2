/**
 * What the processor pays for a stream of DMA mappings, in integer nanoseconds: a plain sum of counted things, nothing overlaps. It ranks ways to flush; it does not predict a machine.
 *
 * Every constant is an assumption of this project: no published figure. They are of the order of a server of the years 2015 to 2023, with a 100 Gbit/s adapter and frames of 1500 bytes.
 */
import { fail } from '../../sdk/gmem/index.ts';

/** What has happened in one I/O address space. */
export interface IommuCounts {
  maps: number;
  unmaps: number;
  /** Entries written, and cleared. */
  pagesMapped: number;
  pagesUnmapped: number;
  /** Addresses that the allocator has looked for in its tree; the rest came from its caches. */
  searches: number;
  /** Commands to empty the IOTLB, ranges in them beside the first, and translations that they have dropped. */
  invalidations: number;
  furtherRanges: number;
  dropped: number;
  /** Look-ups of the device. */
  hits: number;
  misses: number;
}

/** Constants of one preset, integers. */
export interface IommuCosts {
  /** One packet, without what follows: interrupt, descriptor, the stack above. */
  readonly packetNs: number;
  /** One address, from a cache; and a search of the tree beside that. */
  readonly addressNs: number;
  readonly searchNs: number;
  /** One entry of the table written or cleared. */
  readonly entryNs: number;
  /** One command to the IOMMU, and the wait for it; a further range in it. */
  readonly invalidationNs: number;
  readonly rangeNs: number;
}

/** A network adapter that maps a buffer for each packet: the preset `nic-100g`. */
export const NIC_100G: IommuCosts = {
  packetNs: 1000,
  addressNs: 20,
  searchNs: 100,
  entryNs: 25,
  invalidationNs: 600,
  rangeNs: 25,
};

/** Time of the processor for what was counted, while `packets` packets went through. */
export function iommuTimeNs(counts: IommuCounts, packets: number, costs: IommuCosts = NIC_100G): number {
  if (typeof counts !== 'object' || counts === null || typeof counts.maps !== 'number')
    throw fail('EINVAL', 'iommuTimeNs.counts', counts, 'are not counts of an IOMMU');
  if (!Number.isSafeInteger(packets) || packets < 0) throw fail('EINVAL', 'iommuTimeNs.packets', packets, 'is not a count');
  if (typeof costs !== 'object' || costs === null || typeof costs.packetNs !== 'number')
    throw fail('EINVAL', 'iommuTimeNs.costs', costs, 'are not the constants of a preset');
  return (
    packets * costs.packetNs +
    counts.maps * costs.addressNs +
    counts.searches * costs.searchNs +
    (counts.pagesMapped + counts.pagesUnmapped) * costs.entryNs +
    counts.invalidations * costs.invalidationNs +
    counts.furtherRanges * costs.rangeNs
  );
}

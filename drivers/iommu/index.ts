/**
 * iommu: a device behind an I/O page table, with addresses that no CPU uses. What it reaches is not what a process has mapped, but what was mapped for it: a network adapter maps a buffer for each packet, and unmaps it when
 * the packet is there.
 *
 * ```
 *   process space                  I/O addresses (VaSpace)
 *   buffer --pin--> held pages <-- I/O page table <-- IOTLB <-- access of the device (DmaStream: read, write)
 *
 *   unmap     the entry goes, the address waits in a mapping set, its pages stay held
 *   flush     the IOTLB forgets, then addresses and pages are free
 *
 *   mode         flush                                       one command for
 *   strict       at each unmap                               that one range
 *   deferred     when the queue is full, or old              everything: what is mapped is looked up again
 *   coalesced    when the queue is full, or old              the ranges that were unmapped, what touches as one
 * ```
 *
 * Between unmap and flush the device may still reach the page: it is held, so what it reaches is what it was, and nobody else's. Addresses and pages are used again only after the flush. That is stronger than Linux, whose deferred mode
 * gives the pages back at once.
 *
 * `context.read` and `context.write` are the other way that such an adapter has to memory: shared virtual addressing, the addresses of the process. There it is a mirror with the ready-made table, and keeps the driver contract.
 *
 * Models: `iommu_dma_ops`, the flush queue of `dma-iommu.c`; coalesced: the IOMMU driver of the GMEM paper (`tlb_invl_coalesced`).
 */
import {
  type CommandStep,
  defineDriver,
  deviceTable,
  DONE,
  type Driver,
  type DriverFactory,
  fail,
  type GmMmu,
  type Progress,
  type VaStrategy,
} from '../../sdk/gmem/index.ts';
import type { IommuCounts } from './costs.ts';
import { Domain, type DomainOptions, type FlushMode, type HeldPages, type Target } from './domain.ts';

export { DmaStream } from './stream.ts';
export { type IommuCosts, type IommuCounts, iommuTimeNs, NIC_100G } from './costs.ts';
export type { FlushMode, HeldPages, Target } from './domain.ts';

const PAGE = 4096;

/** Options of the driver. */
export interface IommuOptions {
  /** Default `coalesced`. */
  readonly flush?: FlushMode;
  /** Regions that the flush queue holds. Default 256, as each of Linux. Models: IOVA_DEFAULT_FQ_SIZE. */
  readonly queueEntries?: number;
  /** Ticks that the oldest of the queue waits. Default 10. Models: IOVA_FQ_TIMEOUT. */
  readonly flushTicks?: number;
  /** Translations that the IOTLB holds. Default 128. */
  readonly iotlbEntries?: number;
  /** Bits of an I/O address. Default 32. */
  readonly addressBits?: number;
  /** How addresses are handed out. Default `default`: from caches. */
  readonly strategy?: VaStrategy;
}

/** What `context.command` takes. */
export type IommuRequest =
  /** Gives pages that are held (`space.pin`) an address. Result: `iova`; ENOMEM when there is none. */
  | { readonly op: 'map'; readonly pages: HeldPages; readonly write: boolean }
  | { readonly op: 'unmap'; readonly iova: number }
  | { readonly op: 'flush' }
  /** The device looks a page of its addresses up, to read or to write there, and up to `count` (default 1) from there on. Result: `target`, or none. */
  | { readonly op: 'translate'; readonly iova: number; readonly write: boolean; readonly count?: number }
  | { readonly op: 'tick'; readonly ticks: number }
  | { readonly op: 'counts' };

/** What it returns. */
export interface IommuResult {
  /** Of `map`. */
  readonly iova?: number;
  /** Of `translate`. */
  readonly target?: Target;
  /** Held pages that nobody reaches any more: their holder unpins them. */
  readonly done: readonly HeldPages[];
  readonly counts: IommuCounts;
  /** Regions that are unmapped and wait for a flush. */
  readonly waiting: number;
  readonly mapped: number;
}

/** A request, run at once. */
class IommuCommand implements CommandStep {
  readonly name = 'iommu';
  result: IommuResult | undefined;
  private readonly domain: Domain;
  private readonly request: IommuRequest;

  constructor(domain: Domain, request: IommuRequest) {
    this.domain = domain;
    this.request = request;
  }

  next(): Progress {
    const { domain } = this;
    const found = this.perform();
    this.result = { ...found, done: domain.takeDone(), counts: { ...domain.counts }, waiting: domain.waiting, mapped: domain.mapped };
    return DONE;
  }

  private perform(): Pick<IommuResult, 'iova' | 'target'> {
    const { domain, request } = this;
    switch (request.op) {
      case 'map': {
        const iova = domain.map(request.pages, request.write);
        if (iova === undefined) throw fail('ENOMEM', 'iommu.map.pages', request.pages.frames.length, 'have no room among the addresses');
        return { iova };
      }
      case 'translate': {
        const target = domain.translate(Math.floor(request.iova / PAGE), request.write ? 'write' : 'read', request.count ?? 1);
        return target ? { target } : {};
      }
      case 'unmap':
        domain.unmap(request.iova);
        return {};
      case 'flush':
        domain.flush();
        return {};
      case 'tick':
        domain.tick(request.ticks);
        return {};
      case 'counts':
        return {};
    }
  }
}

/** Throws EINVAL for a request that is none. */
function checkRequest(request: IommuRequest): void {
  if (typeof request !== 'object' || request === null) throw fail('EINVAL', 'iommu.request', request, 'is not an object');
  switch (request.op) {
    case 'map': {
      const { pages, write } = request;
      if (typeof pages !== 'object' || pages === null || !Array.isArray(pages.frames) || pages.frames.length === 0 || pages.held !== true)
        throw fail('EINVAL', 'iommu.map.pages', pages, 'are not held pages (see space.pin)');
      if (typeof write !== 'boolean') throw fail('EINVAL', 'iommu.map.write', write, 'is not true or false');
      if (write && !pages.isWritable) throw fail('EPERM', 'iommu.map.write', write, 'is for pages that are pinned for reading');
      return;
    }
    case 'translate':
      if (request.count !== undefined && !(Number.isSafeInteger(request.count) && request.count > 0))
        throw fail('EINVAL', 'iommu.translate.count', request.count, 'is not a positive count');
    // falls through
    case 'unmap':
      if (!Number.isSafeInteger(request.iova) || request.iova < 0)
        throw fail('EINVAL', `iommu.${request.op}.iova`, request.iova, 'is not an address');
      return;
    case 'tick':
      if (!Number.isSafeInteger(request.ticks) || request.ticks < 1)
        throw fail('EINVAL', 'iommu.tick.ticks', request.ticks, 'is not a count');
      return;
    case 'flush':
    case 'counts':
      return;
    default:
      throw fail(
        'EINVAL',
        'iommu.op',
        (request as { op: unknown }).op,
        "is not one of: 'map', 'unmap', 'flush', 'translate', 'tick', 'counts'",
      );
  }
}

function domainOptions(options: IommuOptions): DomainOptions {
  const { flush = 'coalesced', queueEntries = 256, flushTicks = 10, iotlbEntries = 128, addressBits = 32, strategy = 'default' } = options;
  if (!['strict', 'deferred', 'coalesced'].includes(flush))
    throw fail('EINVAL', 'iommu.flush', flush, "is not one of: 'strict', 'deferred', 'coalesced'");
  for (const [name, value] of Object.entries({ queueEntries, flushTicks, iotlbEntries }))
    if (!Number.isSafeInteger(value) || value < 1) throw fail('EINVAL', `iommu.${name}`, value, 'is not a positive count');
  if (!Number.isInteger(addressBits) || addressBits < 21 || addressBits > 48)
    throw fail('EINVAL', 'iommu.addressBits', addressBits, 'are not between 21 and 48');
  if (!['default', 'firstfit', 'bestfit', 'nextfit'].includes(strategy))
    throw fail('EINVAL', 'iommu.strategy', strategy, "is not one of: 'default', 'firstfit', 'bestfit', 'nextfit'");
  return { flush, queueEntries, flushTicks, iotlbEntries, addressBits, strategy };
}

/** A device behind an I/O page table; see the head of this file. */
const iommu: DriverFactory<IommuOptions> = defineDriver(
  (options: IommuOptions): Driver => {
    const domainOf = domainOptions(options);
    return {
      name: 'iommu',
      classes: [Domain, IommuCommand],
      attach(context, saved?: unknown): GmMmu {
        const domain = saved instanceof Domain ? saved : new Domain(domainOf);
        return {
          pmap: deviceTable(context),
          command(request) {
            checkRequest(request as IommuRequest);
            return new IommuCommand(domain, request as IommuRequest);
          },
          save: () => domain,
        };
      },
    };
  },
  { flush: true, queueEntries: true, flushTicks: true, iotlbEntries: true, addressBits: true, strategy: true },
);

export default iommu;

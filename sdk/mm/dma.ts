/**
 * DMA mapping of HMM words: addresses under which a device reaches pages over the bus, kept in step with the words of a range fault.
 *
 * ```
 *   page of the word                       address                       bits of the word
 *   host, coherent memory of a peer by     I/O virtual, by the IOMMU     DMA_MAPPED (and P2PDMA for a peer's)
 *   way of the host bridge
 *   a peer's memory, same switch           bus address of the peer       P2PDMA_BUS: nothing is mapped
 * ```
 *
 * The three bits are sticky: a range fault copies them from the request to the answer, so that a page whose right grows is not mapped twice. A caller that maps nothing asks with
 * none of them.
 *
 * Models: `hmm_dma_map_alloc`, `hmm_dma_map_pfn`, `hmm_dma_unmap_pfn`, `dma_iova_try_alloc`.
 */
import * as L from '../../assembly/layout.ts';
import { PageMap } from '../core/page-map.ts';
import { fail } from '../errors.ts';
import type { Platform } from './platform.ts';
import { HMM_VALID, HMM_WRITE } from './range-fault.ts';

/** The page is mapped for DMA. Sticky. Models: HMM_PFN_DMA_MAPPED. */
export const HMM_DMA_MAPPED: number = L.HMM_DMA_MAPPED;
/** The page is a peer's, and goes through the host bridge. Sticky. Models: HMM_PFN_P2PDMA. */
export const HMM_P2PDMA: number = L.HMM_P2PDMA;
/** The page is a peer's, and is reached by its bus address. Sticky. Models: HMM_PFN_P2PDMA_BUS. */
export const HMM_P2PDMA_BUS: number = L.HMM_P2PDMA_BUS;

/** How a device stands on the bus. */
export interface DmaDevice {
  readonly name: string;
  /** Device index + 1: its own memory needs no mapping. */
  readonly owner: number;
  /** It can only reach some memory, and copies through bounce buffers, or needs explicit synchronisation: HMM refuses it. Default false. */
  readonly needsSync?: boolean;
  /** Bits of an I/O virtual address; without an IOMMU (0) addresses are physical. Default 48. */
  readonly iovaBits?: number;
  /** How it reaches the memory of another device. Default: through the host bridge. */
  readonly peer?: (owner: number) => 'bridge' | 'bus' | 'none';
}

/** The I/O page table in front of one device. */
export class Iommu {
  /** By page: the frame, times two, plus one where writes are allowed. */
  private readonly frames: PageMap = new PageMap();
  /** Free addresses, as pages `[start, end)`: ascending, and no two of them touch. Page 0 is never handed out. */
  private readonly free: { readonly start: number; readonly end: number }[];

  /** `bits`: width of an address. */
  constructor(bits: number) {
    if (!Number.isInteger(bits) || bits < 13 || bits > 52) throw fail('EINVAL', 'dma.iovaBits', bits, 'is not between 13 and 52');
    this.free = [{ start: 1, end: 2 ** (bits - L.PAGE_SHIFT) }];
  }

  /** Pages mapped now. */
  get mapped(): number {
    return this.frames.size;
  }

  /** Takes the lowest `pages` consecutive free ones: their first page, or -1. Models: `alloc_iova`. */
  take(pages: number): number {
    const { free } = this;
    for (let i = 0; i < free.length; i++) {
      const { start, end } = free[i]!;
      if (end - start < pages) continue;
      if (end - start === pages) free.splice(i, 1);
      else free[i] = { start: start + pages, end };
      return start;
    }
    return -1;
  }

  /** Gives pages back. Requires: they were taken, and nothing is mapped there. Models: `free_iova`. */
  give(page: number, pages: number): void {
    const { free } = this;
    let at = 0;
    for (let past = free.length; at < past;) {
      const middle = (at + past) >>> 1;
      if (free[middle]!.start < page) at = middle + 1;
      else past = middle;
    }
    let [start, end] = [page, page + pages];
    let [first, joined] = [at, 0];
    if (at < free.length && free[at]!.start === end) {
      end = free[at]!.end;
      joined++;
    }
    if (at > 0 && free[at - 1]!.end === start) {
      start = free[at - 1]!.start;
      first--;
      joined++;
    }
    free.splice(first, joined, { start, end });
  }

  map(page: number, frame: number, write: boolean): void {
    this.frames.set(page, frame * 2 + (write ? 1 : 0));
  }

  unmap(page: number): void {
    this.frames.delete(page);
  }

  /** What the device reaches at an address; undefined: the access is blocked. */
  translate(address: number): { readonly frame: number; readonly write: boolean } | undefined {
    if (!Number.isSafeInteger(address) || address < 0) throw fail('EINVAL', 'translate.address', address, 'is not a byte address');
    const entry = this.frames.get(Math.floor(address / L.PAGE_BYTES));
    return entry === undefined ? undefined : { frame: Math.floor(entry / 2), write: entry % 2 === 1 };
  }
}

/** Addresses for the words of one range. */
export class DmaMap {
  private readonly platform: Platform;
  private readonly device: DmaDevice;
  private readonly iommu: Iommu | undefined;
  /** First page of one I/O virtual range for all words; -1: each word has an address of its own. */
  private range: number;
  private readonly addresses: Float64Array;

  /**
   * For `entries` words. One I/O virtual range is taken for all of them if there is one, else each gets its own when it is mapped. Throws EOPNOTSUPP for a device that needs bounce
   * buffers or synchronisation (HMM has no moment at which it could be done), EINVAL for a bad count. Models: `hmm_dma_map_alloc`.
   */
  constructor(platform: Platform, device: DmaDevice, entries: number, iommu: Iommu | undefined) {
    if (device.needsSync)
      throw fail('EOPNOTSUPP', 'dma.device', device.name, 'needs bounce buffers or synchronisation, which HMM cannot do');
    if (!Number.isInteger(entries) || entries < 1 || entries > L.WORDS_MAX)
      throw fail('EINVAL', 'dma.entries', entries, `is not a count between 1 and ${L.WORDS_MAX}`);
    this.platform = platform;
    this.device = device;
    this.iommu = iommu;
    this.range = iommu ? iommu.take(entries) : -1;
    this.addresses = new Float64Array(entries).fill(-1);
  }

  /** First address of the one range, or undefined when each word has its own. */
  get iova(): number | undefined {
    return this.range < 0 ? undefined : this.range * L.PAGE_BYTES;
  }

  /**
   * The address of word `i`, mapped now if it was not; a word that is DMA_MAPPED already keeps its address, with the right to write that it has now. `words` is two u32 a page, as a range
   * fault answers. Throws EINVAL for a word that is not VALID or has no place here, EOPNOTSUPP for a peer that cannot be reached, ENOMEM without an address. Models: `hmm_dma_map_pfn`.
   */
  map(words: Uint32Array, i: number): number {
    this.requireValid('map', words, i);
    const bits = words[i * 2 + 1]!;
    const frame = words[i * 2]!;
    const write = (bits & HMM_WRITE) !== 0;
    if (bits & HMM_DMA_MAPPED && this.addresses[i]! >= 0) {
      this.iommu?.map(this.addresses[i]! / L.PAGE_BYTES, frame, write);
      return this.addresses[i]!;
    }
    const node = this.platform.nodes.of(frame);
    const via = node.owner === 0 ? 'host' : node.owner === this.device.owner ? 'bus' : (this.device.peer?.(node.owner) ?? 'bridge');
    if (via === 'none') throw fail('EOPNOTSUPP', 'dma.map frame', frame, `is in ${node.name}, which ${this.device.name} cannot reach`);
    if (via === 'bus') {
      words[i * 2 + 1] = bits | HMM_P2PDMA_BUS;
      return (frame - node.base) * L.PAGE_BYTES;
    }
    const page = this.pageFor(i, frame);
    this.iommu?.map(page, frame, write);
    this.addresses[i] = page * L.PAGE_BYTES;
    words[i * 2 + 1] = bits | HMM_DMA_MAPPED | (via === 'bridge' ? HMM_P2PDMA : 0);
    return this.addresses[i]!;
  }

  /** Ends the mapping of word `i` and clears its sticky bits. False, and nothing changed, unless it is VALID and DMA_MAPPED. Models: `hmm_dma_unmap_pfn`. */
  unmap(words: Uint32Array, i: number): boolean {
    requireWords('unmap', words, i);
    const bits = words[i * 2 + 1]!;
    if (bits < HMM_VALID || !(bits & HMM_DMA_MAPPED) || i < 0 || i >= this.addresses.length) return false;
    this.end(i);
    words[i * 2 + 1] = bits & ~(HMM_DMA_MAPPED | HMM_P2PDMA | HMM_P2PDMA_BUS);
    return true;
  }

  /** Ends every mapping, and gives the one range back. A word that is mapped afterwards gets an address of its own. Models: `hmm_dma_map_free`. */
  free(): void {
    for (let i = 0; i < this.addresses.length; i++) this.end(i);
    if (this.range >= 0) this.iommu!.give(this.range, this.addresses.length);
    this.range = -1;
  }

  private end(i: number): void {
    const page = this.addresses[i]! / L.PAGE_BYTES;
    this.addresses[i] = -1;
    if (!this.iommu || page < 0) return;
    this.iommu.unmap(page);
    if (this.range < 0) this.iommu.give(page, 1);
  }

  private requireValid(verb: string, words: Uint32Array, i: number): void {
    requireWords(verb, words, i);
    if (!Number.isInteger(i) || i < 0 || i >= this.addresses.length || i * 2 + 1 >= words.length)
      throw fail('EINVAL', `dma.${verb} index`, i, `is not one of the ${this.addresses.length} words`);
    const bits = words[i * 2 + 1]!;
    if (bits < HMM_VALID) throw fail('EINVAL', `dma.${verb} word`, bits, 'is not VALID');
  }

  /** Without an IOMMU the page is the frame itself. */
  private pageFor(i: number, frame: number): number {
    if (!this.iommu) return frame;
    if (this.range >= 0) return this.range + i;
    // Of words that do not say any more that they are mapped.
    if (this.addresses[i]! >= 0) return this.addresses[i]! / L.PAGE_BYTES;
    const page = this.iommu.take(1);
    if (page < 0) throw fail('ENOMEM', 'dma.map index', i, 'needs an I/O virtual address, and there is none');
    return page;
  }
}

function requireWords(verb: string, words: Uint32Array, i: number): void {
  if (!(ArrayBuffer.isView(words) && words instanceof Uint32Array))
    throw fail('EINVAL', `dma.${verb} words`, words, 'is not a Uint32Array');
  if (!Number.isSafeInteger(i) || i < 0) throw fail('EINVAL', `dma.${verb} index`, i, 'is not the index of a word');
}

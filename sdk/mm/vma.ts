/**
 * The VMAs of an address space: contiguous ranges of pages, each with one promise (what may be done there, and what kind of memory it is).
 * They never overlap, and neighbours with the same promise are one.
 *
 * Kept as chunks of a sorted array, each of which knows its greatest inner gap: a look-up is two binary searches, a change moves no more
 * than a chunk, and the search for free room passes by full chunks. 100,000 VMAs are fine.
 *
 *   chunks   [ a b c . d ]  [ e f g h ]  [ i . . j ]          '.' a page that is free
 *   gap           1              0            2
 *
 * All positions are page numbers. Models: vm_area_struct and mm/vma.c.
 */
import { GIANT_ORDER, HUGE_ORDER, RIGHT_READ, RIGHT_WRITE, VPN_BITS } from '../../assembly/layout.ts';
import { fail } from '../errors.ts';
import type { SharedObject } from './page-cache.ts';

/** Bits of `Vma.prot`. */
export const PROT_READ = 1;
export const PROT_WRITE = 2;
export const PROT_EXEC = 4;

/** Bits of `Vma.flags`. Without VMA_ANONYMOUS the pages belong to a shared object; without VMA_PRIVATE writes are seen by all who map it. */
export const VMA_ANONYMOUS = 1;
export const VMA_PRIVATE = 2;
/** Faults may bring 2 MiB at a time. Models: VM_HUGEPAGE. */
export const VMA_HUGEPAGE = 4;
/** No huge pages, not by a collapse either. Models: VM_NOHUGEPAGE. */
export const VMA_NOHUGEPAGE = 8;
/** A child does not get it. Models: VM_DONTCOPY. */
export const VMA_DONTFORK = 16;
/** Made of huge pages that are never split, 2 MiB or 1 GiB each. Models: VM_HUGETLB. */
export const VMA_HUGETLB_2M = 32;
export const VMA_HUGETLB_1G = 64;
/** A driver has put pages and page numbers into it. Models: VM_MIXEDMAP. */
export const VMA_MIXEDMAP = 128;
/** Page numbers without pages. Models: VM_PFNMAP. */
export const VMA_PFNMAP = 256;
/** Registers of a device. Models: VM_IO. */
export const VMA_IO = 512;
/** mremap may not make it longer. Models: VM_DONTEXPAND. */
export const VMA_DONTEXPAND = 1024;
/** One device's alone: in its memory, not the CPU's, not mirrored. */
export const VMA_DEVICE = 2048;
/** At one address for every device, those included that hand out their addresses themselves; never the page of zeros. Models: VM_PEER_SHARED. */
export const VMA_PEER_SHARED = 4096;

/** Where the search for free room begins when nothing else is said: address 0x1000_0000. */
export const MMAP_BASE = 0x10000;

/** One past the last page number. */
const VPN_LIMIT = 2 ** VPN_BITS;

const CHUNK_MAX = 128;

/** Lent: later changes of the set change or retire it. */
export interface Vma {
  /** First page. */
  readonly start: number;
  /** One past the last page. */
  readonly end: number;
  /** PROT_* bits. */
  readonly prot: number;
  /** VMA_* bits. */
  readonly flags: number;
  /** The file or shared memory behind it; undefined for anonymous and special memory. */
  readonly object: SharedObject | undefined;
  /** Page of the object behind the first page; 0 without one. */
  readonly offset: number;
}

/** A range to map: without an object it is anonymous or special. */
export interface VmaRequest {
  readonly start: number;
  readonly end: number;
  readonly prot: number;
  readonly flags: number;
  readonly object?: SharedObject | undefined;
  readonly offset?: number;
}

/** Memory of a driver's own making: nothing migrates from it, mremap does not make it longer. */
export function isSpecial(vma: Vma): boolean {
  return (vma.flags & (VMA_MIXEDMAP | VMA_PFNMAP | VMA_IO | VMA_DONTEXPAND)) !== 0;
}

export function isHugetlb(vma: Vma): boolean {
  return (vma.flags & (VMA_HUGETLB_2M | VMA_HUGETLB_1G)) !== 0;
}

/** log2 of the pages of a huge page of a hugetlb VMA. */
export function hugetlbOrder(vma: Vma): number {
  return vma.flags & VMA_HUGETLB_1G ? GIANT_ORDER : HUGE_ORDER;
}

/** Private anonymous memory of ordinary pages: what may be migrated hole or not, made huge, freed lazily. */
export function isAnonymous(vma: Vma): boolean {
  return (vma.flags & (VMA_ANONYMOUS | VMA_PRIVATE)) === (VMA_ANONYMOUS | VMA_PRIVATE) && !isHugetlb(vma) && !isSpecial(vma);
}

/** RIGHT_* bits as the core takes them. */
export function rightsOf(vma: { readonly prot: number }): number {
  return (vma.prot & PROT_READ ? RIGHT_READ : 0) | (vma.prot & PROT_WRITE ? RIGHT_WRITE : 0);
}

export interface GapOptions {
  readonly pages: number;
  /** The result is a multiple of this. 1 unless said. */
  readonly alignPages?: number;
  /** Taken (rounded up to the alignment) when there is room. */
  readonly hint?: number;
  /** Search upward from here. MMAP_BASE unless said. */
  readonly base?: number;
  /** End at or below here: the end of the address space unless said. */
  readonly limit?: number;
}

interface Area {
  start: number;
  end: number;
  prot: number;
  flags: number;
  object: SharedObject | undefined;
  offset: number;
}

interface Chunk {
  readonly areas: Area[];
  /** The greatest number of free pages between two areas of this chunk; UNKNOWN after a change. */
  gap: number;
}

const UNKNOWN = -1;

/** The VMAs of one address space, ascending; neighbours that promise the same are one. */
export class VmaSet {
  private readonly chunks: Chunk[] = [];
  private count = 0;
  private lastHit: Area | undefined = undefined;
  // The position that `seek` found: an area, or one past the last chunk.
  private chunk = 0;
  private index = 0;

  /** How many VMAs. */
  get size(): number {
    return this.count;
  }

  /** The VMA that has page `vpn`. */
  find(vpn: number): Vma | undefined {
    const area = this.after(vpn);
    return area !== undefined && area.start <= vpn ? area : undefined;
  }

  /**
   * The VMA that has page `vpn`, or the first above. A loop over a range, which may change what it has passed:
   * `for (let vma = set.next(start); vma && vma.start < end; vma = set.next(vma.end))`. Models: find_vma.
   */
  next(vpn: number): Vma | undefined {
    return this.after(vpn);
  }

  /** The last VMA that ends at or below page `vpn`. Models: find_vma_prev. */
  previous(vpn: number): Vma | undefined {
    this.seek(vpn);
    return this.before();
  }

  /** Calls `visit` once for every VMA that touches `[start, end)`, with the part inside. `visit` may change what it is given. */
  each(start: number, end: number, visit: (vma: Vma, from: number, to: number) => void): void {
    for (let area = this.after(start); area !== undefined && area.start < end;) {
      const { start: first, end: past } = area;
      visit(area, Math.max(first, start), Math.min(past, end));
      area = past < end ? this.after(past) : undefined;
    }
  }

  /** The first page in `[start, end)` that no VMA has, or `end`. */
  covered(start: number, end: number): number {
    let vpn = start;
    for (let area = this.after(vpn); vpn < end && area !== undefined && area.start <= vpn; area = this.after(vpn)) vpn = area.end;
    return Math.min(vpn, end);
  }

  /** Whether no VMA touches `[start, end)`. */
  isFree(start: number, end: number): boolean {
    const area = this.after(start);
    return area === undefined || area.start >= end;
  }

  /**
   * Adds a range, and joins it with neighbours that promise the same. Returns the VMA that has it now. Requires: free (`remove` first).
   *
   *   old          request      new
   *   aaa...       ...aaa       aaaaaa        the one before grows
   *   ...aaa       aaa...       aaaaaa        the one after grows
   *   aa..aa       ..aa..       aaaaaa        both become one
   *   bb..bb       ..aa..       bbaabb        neither
   */
  insert({ start, end, prot, flags, object, offset = 0 }: VmaRequest): Vma {
    requireRange(start, end);
    const after = this.seek(start);
    if (after !== undefined && after.start < end)
      throw fail('EINVAL', 'range', printed(start, end), `overlaps ${printed(after.start, after.end)}`);
    const request: Area = { start, end, prot, flags, object, offset };
    const before = this.before();
    const joinsBefore = before !== undefined && isOne(before, request);
    const joinsAfter = after !== undefined && isOne(request, after);
    const chunk = this.chunks[this.chunk];
    if (chunk !== undefined) chunk.gap = UNKNOWN;
    object?.mapped(end - start);
    if (joinsBefore) {
      before.end = joinsAfter ? after.end : end;
      if (joinsAfter) this.removeHere();
      return before;
    }
    if (joinsAfter) {
      after.start = start;
      after.offset = offset;
      return after;
    }
    this.insertHere(request);
    return request;
  }

  /**
   * Splits what crosses `start` or `end`, and returns the VMAs in between, which are then inside. The lower part keeps the object.
   *
   *   old      aaaaaabbbccc        old      aaaaaaaaa
   *   cut         [-----)          cut         [--)
   *   new      aaa|aaabbb|ccc      new      aaa|aaa|aaa
   */
  cut(start: number, end: number): Vma[] {
    requireRange(start, end);
    this.split(start);
    this.split(end);
    const parts: Vma[] = [];
    for (let area = this.after(start); area !== undefined && area.start < end; area = this.after(area.end)) parts.push(area);
    return parts;
  }

  /** Takes `[start, end)` out, and returns the parts that were there. An object behind them loses as many mapped pages. */
  remove(start: number, end: number): Vma[] {
    requireRange(start, end);
    this.split(start);
    this.split(end);
    const parts = this.removeFrom(start, end);
    for (const { object, start: from, end: to } of parts) object?.unmapped(to - from);
    return parts;
  }

  /**
   * Gives what is mapped of `[start, end)` another `prot`; holes stay holes. Splits at the borders and joins again.
   *
   *   old          request      new
   *   aaaabbbb     ..bb....     aabbbbbb      the tail goes to the one after
   *   aaaabbbb     ....aa..     aaaaaabb      the head goes to the one before
   *   aabbaa       ..aa..       aaaaaa        all of it, and both sides become one
   *   aabbcc       ..aa..       aaaacc        all of it goes to the one before
   *   aabbcc       ..cc..       aacccc        all of it goes to the one after
   *   aaaaaa       ..bb..       aabbaa        a part on its own
   */
  protect(start: number, end: number, prot: number): void {
    for (const area of this.cut(start, end) as Area[]) area.prot = prot;
    this.join(start, end);
  }

  /** Sets and clears flag bits in what is mapped of `[start, end)`, as `protect` does for rights. */
  flag(start: number, end: number, { set = 0, clear = 0 }: { readonly set?: number; readonly clear?: number }): void {
    for (const area of this.cut(start, end) as Area[]) area.flags = (area.flags & ~clear) | set;
    this.join(start, end);
  }

  /** Joins neighbours in and at the borders of `[start, end)` that promise the same: after a `cut` whose parts were kept. */
  join(start: number, end: number): void {
    let area = this.after(Math.max(start - 1, 0));
    while (area !== undefined) {
      const next = this.after(area.end);
      if (next === undefined || next.start > end) return;
      if (isOne(area, next)) {
        this.seek(next.start);
        this.removeHere();
        area.end = next.end;
      } else {
        area = next;
      }
    }
  }

  /** The lowest start of enough free pages, or undefined. The same set gives the same answer, whatever its history. */
  gap({ pages, alignPages = 1, hint, base = MMAP_BASE, limit = VPN_LIMIT }: GapOptions): number | undefined {
    if (!Number.isSafeInteger(pages) || pages < 1) throw fail('EINVAL', 'pages', pages, 'is not a count of at least 1');
    if (!Number.isSafeInteger(alignPages) || alignPages < 1) throw fail('EINVAL', 'alignPages', alignPages, 'is not a count of at least 1');
    const top = Math.min(limit, VPN_LIMIT);
    if (hint !== undefined) {
      const start = alignedUp(hint, alignPages);
      if (start >= 0 && start + pages <= top && this.isFree(start, start + pages)) return start;
    }

    let free = base;
    this.seek(base);
    for (let c = this.chunk, i = this.index; c < this.chunks.length; c++, i = 0) {
      const chunk = this.chunks[c] as Chunk;
      const { areas } = chunk;
      for (; i < areas.length; i++) {
        const area = areas[i] as Area;
        const start = alignedUp(free, alignPages);
        if (start + pages > top) return undefined;
        if (start + pages <= area.start) return start;
        free = Math.max(free, area.end);
        if (greatestGap(chunk) < pages) {
          free = (areas[areas.length - 1] as Area).end;
          break;
        }
      }
    }
    const start = alignedUp(free, alignPages);
    return start + pages <= top ? start : undefined;
  }

  private after(vpn: number): Area | undefined {
    const last = this.lastHit;
    if (last !== undefined && last.start <= vpn && vpn < last.end) return last;
    const area = this.seek(vpn);
    if (area !== undefined) this.lastHit = area;
    return area;
  }

  // Goes to the first area that ends above `vpn`.
  private seek(vpn: number): Area | undefined {
    return this.step(vpn) ? this.chunks[this.chunk]?.areas[this.index] : this.search(vpn);
  }

  // The same where it is the next area after the position, as in a loop over all of them; false: it is not, or the position is none any more.
  private step(vpn: number): boolean {
    const { chunks } = this;
    const areas = chunks[this.chunk]?.areas;
    const area = areas?.[this.index];
    if (areas === undefined || area === undefined || area.end > vpn) return false;
    const next = this.index + 1;
    if (next < areas.length) {
      if ((areas[next] as Area).end <= vpn) return false;
      this.index = next;
      return true;
    }
    const after = chunks[this.chunk + 1];
    if (after !== undefined && (after.areas[0] as Area).end <= vpn) return false;
    this.chunk++;
    this.index = 0;
    return true;
  }

  private search(vpn: number): Area | undefined {
    const { chunks } = this;
    let low = 0;
    let high = chunks.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const { areas } = chunks[middle] as Chunk;
      if ((areas[areas.length - 1] as Area).end > vpn) high = middle;
      else low = middle + 1;
    }
    this.chunk = low;
    this.index = 0;
    const chunk = chunks[low];
    if (chunk === undefined) return undefined;
    const { areas } = chunk;
    low = 0;
    high = areas.length - 1;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((areas[middle] as Area).end > vpn) high = middle;
      else low = middle + 1;
    }
    this.index = low;
    return areas[low];
  }

  // The area before the position.
  private before(): Area | undefined {
    if (this.index > 0) return this.chunks[this.chunk]?.areas[this.index - 1];
    const areas = this.chunks[this.chunk - 1]?.areas;
    return areas?.[areas.length - 1];
  }

  private insertHere(area: Area): void {
    this.count++;
    if (this.chunk === this.chunks.length) {
      if (this.chunk === 0) {
        this.chunks.push({ areas: [area], gap: UNKNOWN });
        return;
      }
      this.chunk--;
      this.index = (this.chunks[this.chunk] as Chunk).areas.length;
    }
    const chunk = this.chunks[this.chunk] as Chunk;
    chunk.gap = UNKNOWN;
    chunk.areas.splice(this.index, 0, area);
    if (chunk.areas.length <= CHUNK_MAX) return;
    // An append leaves a full chunk behind; anything else, two halves.
    const keep = this.index === CHUNK_MAX ? CHUNK_MAX : CHUNK_MAX / 2;
    this.chunks.splice(this.chunk + 1, 0, { areas: chunk.areas.splice(keep), gap: UNKNOWN });
  }

  private removeHere(): void {
    const chunk = this.chunks[this.chunk] as Chunk;
    const [area] = chunk.areas.splice(this.index, 1);
    if (area === this.lastHit) this.lastHit = undefined;
    this.count--;
    chunk.gap = UNKNOWN;
    if (chunk.areas.length === 0) this.chunks.splice(this.chunk, 1);
  }

  // Takes out what lies in `[start, end)`, chunk by chunk. Requires: nothing crosses `start` or `end`.
  private removeFrom(start: number, end: number): Area[] {
    const parts: Area[] = [];
    const { chunks } = this;
    this.seek(start);
    let c = this.chunk;
    let emptied = 0;
    for (let from = this.index; c < chunks.length; from = 0) {
      const chunk = chunks[c] as Chunk;
      const { areas } = chunk;
      let to = from;
      while (to < areas.length && (areas[to] as Area).start < end) parts.push(areas[to++] as Area);
      if (to === from) break;
      const isTail = to === areas.length;
      if (isTail && from === 0) emptied++;
      else {
        areas.splice(from, to - from);
        chunk.gap = UNKNOWN;
      }
      if (!isTail) break;
      c++;
    }
    // Chunks that were emptied lie in a row, before the one where it ended.
    if (emptied > 0) chunks.splice(c - emptied, emptied);
    this.count -= parts.length;
    if (parts.length > 0) this.lastHit = undefined;
    return parts;
  }

  private split(vpn: number): void {
    const area = this.seek(vpn);
    if (area === undefined || area.start >= vpn) return;
    const { end, prot, flags, object, offset } = area;
    area.end = vpn;
    this.index++;
    this.insertHere({ start: vpn, end, prot, flags, object, offset: object ? offset + (vpn - area.start) : 0 });
  }
}

// Whether two areas touch and promise the same: the one place that knows what a promise consists of.
function isOne(low: Area, high: Area): boolean {
  return (
    low.end === high.start &&
    low.prot === high.prot &&
    low.flags === high.flags &&
    low.object === high.object &&
    (low.object === undefined || low.offset + (low.end - low.start) === high.offset)
  );
}

function greatestGap(chunk: Chunk): number {
  if (chunk.gap !== UNKNOWN) return chunk.gap;
  const { areas } = chunk;
  let greatest = 0;
  for (let i = 1; i < areas.length; i++) greatest = Math.max(greatest, (areas[i] as Area).start - (areas[i - 1] as Area).end);
  chunk.gap = greatest;
  return greatest;
}

function alignedUp(vpn: number, alignPages: number): number {
  return Math.ceil(vpn / alignPages) * alignPages;
}

function requireRange(start: number, end: number): void {
  if (!Number.isSafeInteger(start) || !Number.isSafeInteger(end) || start < 0 || start >= end || end > VPN_LIMIT) {
    throw fail('EINVAL', 'range', printed(start, end), 'is not a range of pages');
  }
}

function printed(start: number, end: number): string {
  return `[0x${start.toString(16)}, 0x${end.toString(16)})`;
}

/**
 * An address space: VMAs, the home table (a Map from page number to entry), the contexts that must be told before a range changes, and
 * the CPU that runs in it.
 */
import { ADDRESS_END } from './access.ts';
import type { ModelContext } from './context.ts';
import type { Counters } from './counters.ts';
import { type AccessFailure, Cpu } from './cpu.ts';
import { type Frame, type HostNode, PAGE_BYTES } from './frame.ts';
import { type Prot, VmaList } from './vma.ts';

/**
 * The one truth about a page. `zero`: the shared page of zeros. `host`: a frame of `dram`. `device`: a device-private frame, no CPU access.
 * A page without an entry is a hole. `write` is never true where the VMA is not `rw`.
 */
export interface HomeEntry {
  readonly kind: 'zero' | 'host' | 'device';
  readonly frame: Frame;
  write: boolean;
  dirty: boolean;
}

/** Pages that a device moves itself: its own contexts do not take the event as news and drop exactly these. */
export interface Move {
  owner: unknown;
  pages: readonly number[];
}

export class ModelSpace {
  /** Order of creation; evictions go by it. */
  readonly id: number;
  readonly host: HostNode;
  readonly counters: Counters;
  readonly vmas: VmaList = new VmaList();
  readonly pages: Map<number, HomeEntry> = new Map();
  readonly contexts: ModelContext[] = [];
  readonly cpu: Cpu;

  constructor(id: number, host: HostNode, counters: Counters) {
    this.id = id;
    this.host = host;
    this.counters = counters;
    this.cpu = new Cpu(this);
  }

  /** Private anonymous memory at pages that are free. */
  mmap(vpn: number, pages: number, prot: Prot): void {
    checkRange(vpn, pages);
    if (this.vmas.parts(vpn, vpn + pages).length > 0) throw new RangeError(`pages ${vpn} to ${vpn + pages} are not free`);
    this.vmas.set(vpn, vpn + pages, prot);
  }

  munmap(vpn: number, pages: number): void {
    if (this.dontneed(vpn, pages)) this.vmas.set(vpn, vpn + pages, undefined);
  }

  /** Forgets the bytes of a range; the VMAs stay. True when there was something of a VMA in it. */
  dontneed(vpn: number, pages: number): boolean {
    checkRange(vpn, pages);
    const end = vpn + pages;
    if (this.vmas.parts(vpn, end).length === 0) return false;
    this.notify(vpn, end);
    this.cpu.tlb.dropRange(vpn, end);
    for (const page of this.mapped(vpn, end)) {
      const { kind, frame } = this.pages.get(page)!;
      if (kind === 'host') this.host.release(frame);
      else if (kind === 'device') frame.owner!.release(frame);
      this.pages.delete(page);
    }
    return true;
  }

  /**
   * Gives every VMA part of the range a right; holes in the range stay holes. Nothing happens when no part changes, and nothing to the
   * pages of one that does not, except that the contexts are told of the whole range.
   */
  mprotect(vpn: number, pages: number, prot: Prot): void {
    checkRange(vpn, pages);
    const end = vpn + pages;
    const parts = this.vmas.parts(vpn, end);
    if (parts.every((part) => part.prot === prot)) return;
    if (prot === 'none') this.notify(vpn, end);
    else this.notifyOfWrites(vpn, end);
    for (const part of parts) {
      if (part.prot === prot) continue;
      this.cpu.tlb.dropRange(part.start, part.end);
      this.vmas.set(part.start, part.end, prot);
      for (const page of this.mapped(part.start, part.end)) {
        const entry = this.pages.get(page)!;
        if (prot !== 'rw') entry.write = false;
        // A host frame is exclusive, so write returns at once; a device-private one stays demoted for good.
        else if (entry.kind === 'host') entry.write = true;
      }
    }
  }

  /** The bytes of a range, read page by page by the CPU, or what stopped it. */
  read(addr: number, bytes: number): Uint8Array | AccessFailure {
    const data = new Uint8Array(bytes);
    return this.cpu.range(addr, data, false) ?? data;
  }

  /** Writes page by page; what was written before a failure stays. Undefined means done. */
  write(addr: number, data: Uint8Array): AccessFailure | undefined {
    return this.cpu.range(addr, data, true);
  }

  /** An event that takes the right to write alone. */
  notifyOfWrites(start: number, end: number): void {
    for (const context of this.contexts) {
      this.counters.invalidations += 1;
      context.protectRange(start, end);
    }
  }

  /**
   * A notifier event over [start, end): every context drops its entries and TLB ways there. In an event of a device's own migration
   * (`move`) its own contexts drop exactly the moved pages.
   */
  notify(start: number, end: number, move?: Move): void {
    for (const context of this.contexts) {
      this.counters.invalidations += 1;
      if (move !== undefined && context.device === move.owner) for (const page of move.pages) context.drop(page);
      else context.dropRange(start, end);
    }
  }

  /** Pages of a range that have an entry, ascending. */
  mapped(start: number, end: number): number[] {
    const found: number[] = [];
    if (end - start <= this.pages.size) {
      for (let vpn = start; vpn < end; vpn++) if (this.pages.has(vpn)) found.push(vpn);
      return found;
    }
    for (const vpn of this.pages.keys()) if (vpn >= start && vpn < end) found.push(vpn);
    return found.sort((a, b) => a - b);
  }

  /** One letter a page: `-` no VMA, `.` none, `z` zero, `h`/`r` host writable or not, `D`/`d` device-private writable or not. */
  dump(vpn: number, pages: number): string {
    let letters = '';
    for (let page = vpn; page < vpn + pages; page++) letters += this.#letter(page);
    return letters;
  }

  #letter(vpn: number): string {
    if (this.vmas.find(vpn) === undefined) return '-';
    const entry = this.pages.get(vpn);
    if (entry === undefined) return '.';
    switch (entry.kind) {
      case 'zero':
        return 'z';
      case 'host':
        return entry.write ? 'h' : 'r';
      case 'device':
        return entry.write ? 'D' : 'd';
    }
  }
}

export function checkRange(vpn: number, pages: number): void {
  if (!Number.isSafeInteger(vpn) || vpn < 0) throw new RangeError(`vpn ${vpn} is not a page number`);
  if (!Number.isSafeInteger(pages) || pages < 1) throw new RangeError(`pages ${pages} is not a positive count`);
  if ((vpn + pages) * PAGE_BYTES > ADDRESS_END) throw new RangeError(`pages ${vpn} to ${vpn + pages} are not below 2^48`);
}

/**
 * Snapshots: what the home table says of a range, at one moment, copied out. Three forms, from the cheapest to the most compact.
 *
 *   native    two u32 a page, the entries themselves: frame, bits (ENTRY_* of the layout)
 *   hmm       two u32 a page, as `hmm_range_fault` answers without a request: frame, HMM_VALID | HMM_WRITE | HMM_ERROR and the order
 *   extents   runs of pages with contiguous frames and the same rights; holes are left out
 *
 * Nothing is faulted in. For an answer that stays true while it is being used, see `MirrorRange`.
 */
import * as L from '../../assembly/layout.ts';
import type { AddressSpace } from './address-space.ts';
import type { Platform } from './platform.ts';
import { PROT_READ, VMA_IO, VMA_PFNMAP } from './vma.ts';
import { HMM_ERROR } from './range-fault.ts';

/** A run of pages. */
export interface Extent {
  /** Byte address of its first page. */
  readonly start: number;
  readonly pages: number;
  /** First frame. */
  readonly frame: number;
  /** Kind and rights of every entry in it: ENTRY_* bits. */
  readonly bits: number;
}

/** Native entries of the pages `[vpn, vpn + pages)`: frame and bits, two u32 a page. */
export function snapshotNative(platform: Platform, space: AddressSpace, vpn: number, pages: number): Uint32Array {
  return byBatch(platform, pages, (from, count) => {
    platform.core.exports.snapshotNative(space.table, vpn + from, count, platform.core.wordsArea(L.AREA_SOURCE));
  });
}

/** HMM words of the pages `[vpn, vpn + pages)`; `owner`: whose device-private pages count as readable (device index + 1, 0: nobody's). */
export function snapshotHmm(platform: Platform, space: AddressSpace, vpn: number, pages: number, owner: number): Uint32Array {
  const words = byBatch(platform, pages, (from, count) => {
    platform.core.exports.snapshotHmm(space.table, vpn + from, count, platform.core.wordsArea(L.AREA_SOURCE), owner);
  });
  // The table knows no promises: an address without a VMA, without the right to read, or of page numbers without pages, can never work.
  let next = vpn;
  const refuse = (end: number): void => {
    for (; next < end; next++) {
      words[(next - vpn) * 2] = 0;
      words[(next - vpn) * 2 + 1] = HMM_ERROR;
    }
  };
  space.vmas.each(vpn, vpn + pages, (vma, from, to) => {
    refuse(from);
    if (!(vma.prot & PROT_READ) || vma.flags & (VMA_IO | VMA_PFNMAP)) refuse(to);
    next = to;
  });
  refuse(vpn + pages);
  return words;
}

/** Extents of the pages `[vpn, vpn + pages)`, ascending. */
export function snapshotExtents(platform: Platform, space: AddressSpace, vpn: number, pages: number): Extent[] {
  const { core } = platform;
  const extents: Extent[] = [];
  let from = 0;
  while (from < pages) {
    const count = core.exports.snapshotExtents(space.table, vpn + from, pages - from, core.area(L.AREA_EXTENTS), L.WORDS_MAX);
    const words = core.words(L.AREA_EXTENTS, (count * L.EXTENT_BYTES) >>> 2);
    for (let i = 0; i < count; i++) {
      const at = (i * L.EXTENT_BYTES) >>> 2;
      extents.push({ start: (vpn + from + words[at]!) * L.PAGE_BYTES, bits: words[at + 1]!, pages: words[at + 2]!, frame: words[at + 3]! });
    }
    if (core.stopReason !== L.STOP_FULL) break;
    from += core.stopIndex;
  }
  return extents;
}

function byBatch(platform: Platform, pages: number, look: (from: number, count: number) => void): Uint32Array {
  const words = new Uint32Array(pages * 2);
  for (let from = 0; from < pages; from += L.WORDS_MAX) {
    const count = Math.min(pages - from, L.WORDS_MAX);
    look(from, count);
    words.set(platform.core.words(L.AREA_SOURCE, count * 2), from * 2);
  }
  return words;
}

/**
 * VRAM in chunks: who has which page of it, and which chunk goes when it is full.
 *
 * ```
 *   chunk 0        chunk 1        chunk 2 ...      C pages each, the last may be short
 *   [##.#....]     [########]     [........]       # in use
 *
 *   recency        1 < 0 < 2                       least recently allocated-into first: the victim's end
 * ```
 *
 * Allocation goes on in the chunk that it last allocated from; when that is full, in the lowest-numbered chunk with a free page; within a chunk, the lowest free page. Eviction
 * takes a whole chunk, the least recently allocated-into one that the fault batch under way has not used.
 *
 * Models: `nouveau_dmem.c` (2 MiB chunks with bitmaps), and nvidia-uvm's root-chunk lists for the order of victims.
 */
import { fail, type Phys } from '../../sdk/gmem/index.ts';

/** Pages of a chunk in a VRAM that has room for it: 2 MiB. */
export const CHUNK_PAGES_MAX = 512;
/** Chunks are halved until VRAM holds this many. */
export const CHUNKS_WANTED = 8;
/** Fewer would let a fault batch evict what it has just brought. */
export const CHUNKS_MIN = 4;

const NO_PAGES: readonly number[] = [];

export class Vram implements Phys {
  readonly pages: number;
  readonly chunkPages: number;
  readonly chunks: number;
  private readonly used: Uint8Array;
  private readonly usedInChunk: Uint32Array;
  /** Of each chunk a page below which all are used. */
  private readonly fullBelow: Uint32Array;
  /** Chunk numbers, least recently allocated-into first. */
  private readonly recency: number[];
  /** Pages that are to go. */
  private readonly chosen: number[] = [];
  private current = 0;

  /** `granulePages`: what one fault moves; a chunk is never smaller. */
  constructor(pages: number, granulePages: number) {
    let chunkPages = CHUNK_PAGES_MAX;
    while (chunkPages > granulePages && pages < CHUNKS_WANTED * chunkPages) chunkPages /= 2;
    if (pages < CHUNKS_MIN * chunkPages) {
      throw fail(
        'EINVAL',
        'nouveau.vram of',
        `${pages * 4} KiB`,
        `holds fewer than ${CHUNKS_MIN} chunks of ${chunkPages * 4} KiB (a chunk is at least the granule)`,
      );
    }
    this.pages = pages;
    this.chunkPages = chunkPages;
    this.chunks = Math.ceil(pages / chunkPages);
    this.used = new Uint8Array(pages);
    this.usedInChunk = new Uint32Array(this.chunks);
    this.fullBelow = Uint32Array.from(this.usedInChunk, (_, chunk) => chunk * chunkPages);
    this.recency = Array.from({ length: this.chunks }, (_, chunk) => chunk);
  }

  allocPage(): number | undefined {
    const chunk = this.withRoom();
    if (chunk === undefined) return undefined;
    const page = this.lowestFree(chunk);
    this.used[page] = 1;
    this.usedInChunk[chunk]!++;
    this.current = chunk;
    if (this.recency[this.recency.length - 1] !== chunk) {
      this.recency.splice(this.recency.indexOf(chunk), 1);
      this.recency.push(chunk);
    }
    return page;
  }

  freePage(page: number): void {
    this.used[page] = 0;
    const chunk = this.chunkOf(page);
    this.usedInChunk[chunk]!--;
    if (page < this.fullBelow[chunk]!) this.fullBelow[chunk] = page;
  }

  /** Every used page of the next chunk to go, ascending; empty when the batch needs them all. A chunk with one spared page stays as a whole. Lent until it is asked again. */
  victims(spared: (page: number) => boolean): readonly number[] {
    for (const chunk of this.recency) {
      if (!this.isSpared(chunk, spared)) return this.usedPages(chunk);
    }
    return NO_PAGES;
  }

  private isSpared(chunk: number, spared: (page: number) => boolean): boolean {
    for (let page = chunk * this.chunkPages; page < this.endOf(chunk); page++) if (this.used[page] && spared(page)) return true;
    return false;
  }

  private usedPages(chunk: number): readonly number[] {
    const pages = this.chosen;
    // A list that is emptied gives its memory back.
    if (this.usedInChunk[chunk] === 0) return NO_PAGES;
    pages.length = this.usedInChunk[chunk]!;
    for (let page = chunk * this.chunkPages, at = 0; page < this.endOf(chunk); page++) if (this.used[page]) pages[at++] = page;
    return pages;
  }

  private chunkOf(page: number): number {
    return Math.floor(page / this.chunkPages);
  }

  private endOf(chunk: number): number {
    return Math.min((chunk + 1) * this.chunkPages, this.pages);
  }

  private hasRoom(chunk: number): boolean {
    return this.usedInChunk[chunk]! < this.endOf(chunk) - chunk * this.chunkPages;
  }

  private withRoom(): number | undefined {
    if (this.hasRoom(this.current)) return this.current;
    for (let chunk = 0; chunk < this.chunks; chunk++) if (this.hasRoom(chunk)) return chunk;
    return undefined;
  }

  private lowestFree(chunk: number): number {
    let page = this.fullBelow[chunk]!;
    while (this.used[page]) page++;
    this.fullBelow[chunk] = page;
    return page;
  }
}

/**
 * Device memory: frames in chunks. Chunks are given out and taken back whole: a victim is the chunk that has gone longest without an
 * allocation, so "least recently allocated", not "least recently used", as in the nouveau driver.
 */
import { BytePool, type Frame, type FrameOwner } from './frame.ts';
import type { ModelSpace } from './space.ts';

export const CHUNK_PAGES_MAX = 512;
export const CHUNKS_MIN = 4;

/** A frame of device memory knows the page that lives in it, so that it can be sent home. */
export interface VramFrame extends Frame {
  readonly chunk: Chunk;
  readonly slot: number;
  readonly space: ModelSpace;
  vpn: number;
}

/** Frames by slot; undefined is free. */
export interface Chunk {
  readonly number: number;
  readonly slots: (VramFrame | undefined)[];
  used: number;
}

/** Pages of a chunk: 512, halved until memory holds eight chunks, but never less than a granule. */
export function chunkPages(pages: number, granulePages: number): number {
  let chunk = CHUNK_PAGES_MAX;
  while (pages < 8 * chunk && chunk / 2 >= granulePages) chunk /= 2;
  return chunk;
}

export class Vram {
  readonly chunks: Chunk[] = [];
  /** Chunks that the running batch (or verb) relies on; never victims. */
  readonly protected: Set<Chunk> = new Set();
  /** Least recently allocated-into first. */
  readonly #recency: Chunk[];
  readonly #bytes = new BytePool();
  readonly #owner: FrameOwner;
  readonly #count: { peak: number };
  #current: Chunk;
  used = 0;

  constructor(owner: FrameOwner, pages: number, count: { peak: number }) {
    const perChunk = chunkPages(pages, owner.granulePages);
    if (pages < CHUNKS_MIN * perChunk) throw new RangeError('vram holds fewer than four chunks');
    for (let first = 0; first < pages; first += perChunk) {
      const slots = new Array<VramFrame | undefined>(Math.min(perChunk, pages - first)).fill(undefined);
      this.chunks.push({ number: this.chunks.length, slots, used: 0 });
    }
    this.#recency = [...this.chunks];
    this.#current = this.chunks[0]!;
    this.#owner = owner;
    this.#count = count;
  }

  /**
   * A frame of zeros for a page: in the current chunk, else in the lowest chunk with room, else in a victim that `evict` makes room in.
   * Undefined when every chunk is full and protected, or `evict` could not. The chunk becomes the current, most recent and protected one.
   */
  take(space: ModelSpace, vpn: number, evict: (chunk: Chunk) => boolean): VramFrame | undefined {
    let chunk: Chunk | undefined = this.#current;
    if (isFull(chunk)) chunk = this.chunks.find((candidate) => !isFull(candidate));
    if (chunk === undefined) {
      chunk = this.#recency.find((candidate) => !this.protected.has(candidate));
      if (chunk === undefined || !evict(chunk)) return undefined;
    }
    this.#current = chunk;
    this.#recency.splice(this.#recency.indexOf(chunk), 1);
    this.#recency.push(chunk);
    this.protected.add(chunk);

    const slot = chunk.slots.indexOf(undefined);
    const frame: VramFrame = { owner: this.#owner, bytes: this.#bytes.take(), chunk, slot, space, vpn };
    chunk.slots[slot] = frame;
    chunk.used += 1;
    this.used += 1;
    this.#count.peak = Math.max(this.#count.peak, this.used);
    return frame;
  }

  release(frame: VramFrame): void {
    const { chunk, slot } = frame;
    if (chunk.slots[slot] !== frame) throw new Error(`device frame of page ${frame.vpn} is freed twice`);
    chunk.slots[slot] = undefined;
    chunk.used -= 1;
    this.used -= 1;
    this.#bytes.release(frame.bytes);
  }

  /** Chunks with a used frame, least recently allocated-into first. */
  occupied(): Chunk[] {
    return this.#recency.filter((chunk) => chunk.used > 0);
  }
}

function isFull(chunk: Chunk): boolean {
  return chunk.used === chunk.slots.length;
}

/**
 * Frames of the naive model: one object with 4096 real bytes each, and the host node that hands them out. A frame is never used twice;
 * its bytes are scribbled over when it is freed, so that whoever still reads them is caught by the byte map of the replay.
 */

export const PAGE_BYTES = 4096;

/** Who holds device-private frames: a device with memory of its own. */
export interface FrameOwner {
  /** Name of the device; its node is `<name>.vram`. */
  readonly name: string;
  readonly node: string;
  /** Pages that one CPU fault brings home together. */
  readonly granulePages: number;
  release(frame: Frame): void;
}

/** One page of simulated physical memory. `owner` is undefined on the host node. */
export interface Frame {
  readonly owner: FrameOwner | undefined;
  readonly bytes: Uint8Array;
}

/** What freed bytes are overwritten with. */
const SCRIBBLE = 0xdd;

/** Pages of bytes for new frames. Keeps those of freed ones: a trace that thrashes would spend its time in the allocator. */
export class BytePool {
  readonly #free: Uint8Array[] = [];

  /** 4096 zeros. */
  take(): Uint8Array {
    return this.#free.pop()?.fill(0) ?? new Uint8Array(PAGE_BYTES);
  }

  release(bytes: Uint8Array): void {
    this.#free.push(bytes.fill(SCRIBBLE));
  }
}

/** The shared page of zeros: behind every `zero` entry, never written, never freed, never counted. */
export const ZERO_FRAME: Frame = { owner: undefined, bytes: new Uint8Array(PAGE_BYTES) };

export const HOST_NODE = 'dram';

/** Host memory: a number of frames, how many are in use, and the most that ever were. */
export class HostNode {
  readonly pages: number;
  used = 0;
  readonly #bytes = new BytePool();
  readonly #count: { peak: number };

  constructor(pages: number, count: { peak: number }) {
    this.pages = pages;
    this.#count = count;
  }

  /** A frame of zeros, or undefined when all are in use. */
  take(): Frame | undefined {
    if (this.used === this.pages) return undefined;
    this.used += 1;
    this.#count.peak = Math.max(this.#count.peak, this.used);
    return { owner: undefined, bytes: this.#bytes.take() };
  }

  release(frame: Frame): void {
    if (frame.owner !== undefined || frame === ZERO_FRAME) throw new Error('released frame is not a host frame');
    this.used -= 1;
    this.#bytes.release(frame.bytes);
  }
}

/** Where the real replay ends with a data error: a device fault or an eviction needs a host frame and there is none. */
export function hostMemoryExhausted(): Error {
  return new Error('host memory is exhausted');
}

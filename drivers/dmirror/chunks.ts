/**
 * Device memory in chunks, shared by all mirrors of a device. A chunk is a memory that is plugged in when an allocation finds nothing, and is cut either into small pages or into 2 MiB pages; the first one is
 * cut into small pages and there from the beginning.
 *
 * Models: `struct dmirror_chunk`, `dmirror_allocate_chunk`, `dmirror_devmem_alloc_page`.
 */
import { type Context, isFarfaultError, type MemoryDescription, type OwnMemory } from '../../sdk/gmem/index.ts';

/** Order of a 2 MiB page. */
export const HUGE_ORDER = 9;
/** What an allocation answers that finds no page. */
export const NO_FRAME = -1;

type Cut = 'small' | 'huge';

export class Chunks {
  /** Of all chunks: whether the CPU can reach them. */
  readonly kind: MemoryDescription['kind'];
  private readonly bytes: number;
  /** How a chunk that was added is cut; the first chunk is in no list and is small. */
  private readonly cuts = new Map<OwnMemory, Cut>();
  /** Chunks made so far: names the next one. */
  private made = 1;

  constructor(kind: MemoryDescription['kind'], bytes: number) {
    this.kind = kind;
    this.bytes = bytes;
  }

  /** The chunk of the device's beginning. */
  get first(): MemoryDescription {
    return { name: 'chunk0', kind: this.kind, bytes: this.bytes };
  }

  /** A page of 2^order base pages with one reference, or NO_FRAME. A new chunk is plugged in when no page of that size is free. */
  take({ device, hmm }: Context, order: 0 | typeof HUGE_ORDER): number {
    const cut: Cut = order === 0 ? 'small' : 'huge';
    // The youngest chunk first.
    for (let i = device.memories.length - 1; i >= 0; i--) {
      const memory = device.memories[i]!;
      if ((this.cuts.get(memory) ?? 'small') !== cut) continue;
      const frame = hmm.takeFrame(memory, order);
      if (frame !== NO_FRAME) return frame;
    }
    let memory: OwnMemory;
    try {
      memory = device.addMemory({ name: `chunk${this.made}`, kind: this.kind, bytes: this.bytes });
    } catch (error) {
      if (isFarfaultError(error) && error.code === 'ENOMEM') return NO_FRAME;
      throw error;
    }
    this.made++;
    for (const gone of this.cuts.keys()) if (!device.memories.includes(gone)) this.cuts.delete(gone);
    this.cuts.set(memory, cut);
    return hmm.takeFrame(memory, order);
  }
}

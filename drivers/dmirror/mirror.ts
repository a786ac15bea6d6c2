/** One mirror: what the device is in one address space, as its commands see it. */
import type { Context, Hmm } from '../../sdk/gmem/index.ts';
import type { Chunks } from './chunks.ts';
import { MirrorTable } from './table.ts';

const PAGE_BYTES = 4096;

export class Mirror {
  readonly context: Context;
  readonly table: MirrorTable = new MirrorTable();
  /** The memory of the device, which all of its mirrors share. */
  readonly chunks: Chunks;
  /** FLAG_* bits. */
  flags = 0;

  constructor(context: Context, chunks: Chunks) {
    this.context = context;
    this.chunks = chunks;
  }

  get hmm(): Hmm {
    return this.context.hmm;
  }

  /**
   * Reads pages through the table into `bytes`, from page `from` on. Returns the page at which an entry is missing, or the number of pages. The table is true while this runs: whoever
   * changes a page takes its entry away first, in a turn of its own.
   */
  read(vpn: number, bytes: Uint8Array, from = 0): number {
    const pages = bytes.length / PAGE_BYTES;
    for (let i = from; i < pages; i++) {
      const frame = this.table.find(vpn + i, 'read');
      if (frame < 0) return i;
      this.hmm.readFrame(frame, 0, bytes.subarray(i * PAGE_BYTES, (i + 1) * PAGE_BYTES));
    }
    return pages;
  }

  /** The same for writing. */
  write(vpn: number, bytes: Uint8Array, from = 0): number {
    const pages = bytes.length / PAGE_BYTES;
    for (let i = from; i < pages; i++) {
      const frame = this.table.find(vpn + i, 'write');
      if (frame < 0) return i;
      this.hmm.writeFrame(frame, 0, bytes.subarray(i * PAGE_BYTES, (i + 1) * PAGE_BYTES));
    }
    return pages;
  }

  /** Takes the one-shot failure: whether the allocation that asks is to fail. */
  failsNow(flag: number): boolean {
    const fails = (this.flags & flag) !== 0;
    this.flags &= ~flag;
    return fails;
  }
}

/** One mirror: what the device is in one address space, as its commands see it. */
import type { Access, Context, Hmm } from '../../sdk/gmem/index.ts';
import type { Chunks } from './chunks.ts';
import { MirrorTable } from './table.ts';

const PAGE_BYTES = 4096;
const LIST_PAGES = 512;

export class Mirror {
  readonly context: Context;
  readonly table: MirrorTable = new MirrorTable();
  /** The memory of the device, which all of its mirrors share. */
  readonly chunks: Chunks;
  /** Frames that are read or written together. */
  private readonly list: Uint32Array = new Uint32Array(LIST_PAGES);
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
    let at = from;
    for (let its = this.found(vpn, bytes, at, 'read'); its.length > 0; its = this.found(vpn, bytes, at, 'read'))
      this.hmm.readFrames(its, 0, bytes.subarray(at * PAGE_BYTES, (at += its.length) * PAGE_BYTES));
    return at;
  }

  /** The same for writing. */
  write(vpn: number, bytes: Uint8Array, from = 0): number {
    let at = from;
    for (let its = this.found(vpn, bytes, at, 'write'); its.length > 0; its = this.found(vpn, bytes, at, 'write'))
      this.hmm.writeFrames(its, 0, bytes.subarray(at * PAGE_BYTES, (at += its.length) * PAGE_BYTES));
    return at;
  }

  /** Frames from page `from` on, as far as there are entries that allow the access. Lent until it is asked again. */
  private found(vpn: number, bytes: Uint8Array, from: number, access: Access): Uint32Array {
    const { list, table } = this;
    const most = Math.min(list.length, bytes.length / PAGE_BYTES - from);
    let count = 0;
    for (; count < most; count++) {
      const frame = table.find(vpn + from + count, access);
      if (frame < 0) break;
      list[count] = frame;
    }
    return list.subarray(0, count);
  }

  /** Takes the one-shot failure: whether the allocation that asks is to fail. */
  failsNow(flag: number): boolean {
    const fails = (this.flags & flag) !== 0;
    this.flags &= ~flag;
    return fails;
  }
}

/**
 * A program's accesses on plain memory: no page table, no TLB, no device, no fault, nothing checked. The same loads and stores, one after
 * the other, with the same values: what is left of a replay when the machine is taken away.
 */

const PAGE_BYTES = 4096;
const WRITE = 1 << 28;
const DEVICE = 1 << 29;

export class PlainMemory {
  cpu = 0;
  device = 0;
  reads = 0;
  writes = 0;
  /** Of all that was read: so that no load can be left out. */
  folded = 0;
  readonly #pages: Map<number, DataView> = new Map();

  /** Performs `n` packed accesses, two words each: see lackey-text.ts. */
  run(accesses: Uint32Array, n: number, seed: number): void {
    let vpn = -1;
    let page: DataView = new DataView(new ArrayBuffer(0));
    for (let i = 0; i < n; i++) {
      const low = accesses[2 * i]!;
      const high = accesses[2 * i + 1]!;
      const bytes = ((high >>> 16) & 0xfff) + 1;
      const offset = low & (PAGE_BYTES - 1);
      const own = (high & 0xffff) * 2 ** 20 + (low >>> 12);
      if (own !== vpn) {
        vpn = own;
        page = this.#page(own);
      }
      if (high & DEVICE) this.device++;
      else this.cpu++;
      if (high & WRITE) {
        this.writes++;
        const value = mix(seed + 2 * i);
        if (bytes === 8 && offset + bytes <= PAGE_BYTES) {
          page.setUint32(offset, value, true);
          page.setUint32(offset + 4, mix(seed + 2 * i + 1), true);
        } else if (bytes === 4 && offset + bytes <= PAGE_BYTES) page.setUint32(offset, value, true);
        else for (let k = 0; k < bytes; k++) this.#at(own, offset + k).setUint8((offset + k) % PAGE_BYTES, value >>> ((k & 3) * 8));
      } else {
        this.reads++;
        if (bytes === 8 && offset + bytes <= PAGE_BYTES) this.folded ^= page.getUint32(offset, true) ^ page.getUint32(offset + 4, true);
        else if (bytes === 4 && offset + bytes <= PAGE_BYTES) this.folded ^= page.getUint32(offset, true);
        else for (let k = 0; k < bytes; k++) this.folded ^= this.#at(own, offset + k).getUint8((offset + k) % PAGE_BYTES);
      }
    }
  }

  /** The page of byte `offset`, counted from the start of page `vpn`. */
  #at(vpn: number, offset: number): DataView {
    return this.#page(offset < PAGE_BYTES ? vpn : vpn + 1);
  }

  #page(vpn: number): DataView {
    let page = this.#pages.get(vpn);
    if (!page) {
      page = new DataView(new ArrayBuffer(PAGE_BYTES));
      this.#pages.set(vpn, page);
    }
    return page;
  }
}

function mix(x: number): number {
  x = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
  return x ^ (x >>> 16);
}

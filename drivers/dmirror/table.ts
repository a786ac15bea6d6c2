/**
 * The mirror's page table: a sparse array from virtual page number to the frame behind it, with a tag.
 *
 *   READ     the device may read
 *   ATOMIC   the page is the device's alone: it reads, and does atomics; a plain write goes through a fault first, which ends that
 *   WRITE    the device may read and write
 *
 * It holds no reference to any frame: the notifier keeps it honest. What is about to change is released first, exactly the pages that change.
 */
import type { Access, Mappings, Ranges } from '../../sdk/gmem/index.ts';

export const TAG_READ = 0;
export const TAG_ATOMIC = 1;
export const TAG_WRITE = 3;

/** Pages of one leaf: one 2 MiB range. */
const LEAF_PAGES = 512;

/** Entries of an aligned 2 MiB: frame + 1 (0: none), and tag. */
export class Leaf {
  readonly frames: Uint32Array = new Uint32Array(LEAF_PAGES);
  readonly tags: Uint8Array = new Uint8Array(LEAF_PAGES);
  live = 0;
}

export class MirrorTable {
  /** By VPN / 512. */
  private readonly leaves = new Map<number, Leaf>();

  /** Frame behind a page, or -1. */
  frame(vpn: number): number {
    const leaf = this.leaves.get(Math.floor(vpn / LEAF_PAGES));
    return leaf ? leaf.frames[vpn % LEAF_PAGES]! - 1 : -1;
  }

  /** Tag of a page that has an entry. */
  tag(vpn: number): number {
    return this.leaves.get(Math.floor(vpn / LEAF_PAGES))?.tags[vpn % LEAF_PAGES] ?? TAG_READ;
  }

  /** Frame behind a page if its entry allows the access, else -1. A write needs the very tag: that of an exclusive page is another. */
  find(vpn: number, access: Access): number {
    const frame = this.frame(vpn);
    return access === 'write' && frame >= 0 && this.tag(vpn) !== TAG_WRITE ? -1 : frame;
  }

  set(vpn: number, frame: number, tag: number): void {
    const block = Math.floor(vpn / LEAF_PAGES);
    let leaf = this.leaves.get(block);
    if (!leaf) this.leaves.set(block, (leaf = new Leaf()));
    const page = vpn % LEAF_PAGES;
    if (leaf.frames[page] === 0) leaf.live++;
    leaf.frames[page] = frame + 1;
    leaf.tags[page] = tag;
  }

  /** Whether any page of `[vpn, vpn + pages)` has this tag. */
  hasTag(vpn: number, pages: number, tag: number): boolean {
    for (let i = vpn; i < vpn + pages; i++) if (this.frame(i) >= 0 && this.tag(i) === tag) return true;
    return false;
  }

  /** Translations from the framework. */
  enter(mappings: Mappings): void {
    mappings.eachFrame((vpn, pages, frame, write) => {
      for (let i = 0; i < pages; i++) this.set(vpn + i, frame + i, write ? TAG_WRITE : TAG_READ);
    });
  }

  /** Every entry in these ranges goes. A range may be the whole address space. */
  release(ranges: Ranges): void {
    ranges.each((vpn, pages) => this.releaseRange(vpn, vpn + pages));
  }

  private releaseRange(start: number, end: number): void {
    this.eachLeaf(start, end, (leaf, from, to, block) => {
      if (to - from === LEAF_PAGES) {
        this.leaves.delete(block);
        return;
      }
      for (let page = from; page < to; page++) {
        if (leaf.frames[page] === 0) continue;
        leaf.frames[page] = 0;
        leaf.live--;
      }
      if (leaf.live === 0) this.leaves.delete(block);
    });
  }

  /** The leaves that `[start, end)` touches, with the pages of each: by what is asked for, or by what is there, whichever is less. */
  private eachLeaf(start: number, end: number, visit: (leaf: Leaf, from: number, to: number, block: number) => void): void {
    const first = Math.floor(start / LEAF_PAGES);
    const last = Math.floor((end - 1) / LEAF_PAGES);
    const one = (block: number, leaf: Leaf | undefined): void => {
      if (!leaf) return;
      const base = block * LEAF_PAGES;
      visit(leaf, Math.max(start - base, 0), Math.min(end - base, LEAF_PAGES), block);
    };
    if (last - first < this.leaves.size) for (let block = first; block <= last; block++) one(block, this.leaves.get(block));
    else for (const [block, leaf] of [...this.leaves]) if (block >= first && block <= last) one(block, leaf);
  }
}

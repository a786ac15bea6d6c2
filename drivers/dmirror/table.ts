/**
 * The mirror's page table: virtual page number to the frame behind it, with a tag.
 *
 *   READ     the device may read
 *   ATOMIC   the page is the device's alone: it reads, and does atomics; a plain write goes through a fault first, which ends that
 *   WRITE    the device may read and write
 *
 * It holds no reference to any frame: the notifier keeps it honest. What is about to change is released first, exactly the pages that change.
 */
import { type Access, type Mappings, PageMap, type Ranges } from '../../sdk/gmem/index.ts';

export const TAG_READ = 0;
export const TAG_ATOMIC = 1;
export const TAG_WRITE = 3;
const TAGS = 4;

export class MirrorTable {
  /** Frame times four, plus tag. */
  private readonly entries = new PageMap();

  /** Frame behind a page if its entry allows the access, else -1. A write needs the very tag: that of an exclusive page is another. */
  find(vpn: number, access: Access): number {
    const entry = this.entries.get(vpn);
    return entry === undefined || (access === 'write' && entry % TAGS !== TAG_WRITE) ? -1 : Math.floor(entry / TAGS);
  }

  set(vpn: number, frame: number, tag: number): void {
    this.entries.set(vpn, frame * TAGS + tag);
  }

  /** Whether any page of `[vpn, vpn + pages)` has this tag. */
  hasTag(vpn: number, pages: number, tag: number): boolean {
    for (let i = vpn; i < vpn + pages; i++) if (this.entries.has(i) && this.entries.get(i)! % TAGS === tag) return true;
    return false;
  }

  /** Translations from the framework. */
  enter(mappings: Mappings): void {
    for (let i = 0; i < mappings.count; i++)
      for (let page = 0; page < mappings.length(i); page++)
        this.set(mappings.vpn(i) + page, mappings.frame(i) + page, mappings.isWritable(i) ? TAG_WRITE : TAG_READ);
  }

  /** Every entry in these ranges goes. A range may be the whole address space. */
  release(ranges: Ranges): void {
    for (let i = 0; i < ranges.count; i++) this.entries.deleteRange(ranges.start(i), ranges.length(i));
  }
}

/**
 * Write-back: dirty pages of files reach the backing store. Whoever may write to a page loses that right first (devices by a PROTECTION_PAGE event, entries by being cleaned), so that
 * the bytes stand still and the next write is noticed.
 *
 * Models: `filemap_fdatawrite`, `folio_mkclean`, `page_vma_mkclean_one`.
 */
import * as L from '../../assembly/layout.ts';
import { AGAIN, DONE, type Progress, type Run, type Step } from '../step/step.ts';
import { PageMap } from '../core/page-map.ts';
import { endInvalidation } from './migration.ts';
import { Invalidation } from './notifier.ts';
import type { MemoryFile } from './page-cache.ts';
import type { Platform } from './platform.ts';
import { VMA_PRIVATE } from './vma.ts';

/** Pages of a file, half-open. */
export interface FilePart {
  readonly file: MemoryFile;
  readonly first: number;
  readonly end: number;
}

/** Stores the dirty pages of some files. */
export class WriteBack implements Step {
  readonly name = 'write back';
  /** Pages stored. */
  stored = 0;
  private readonly platform: Platform;
  private readonly parts: readonly FilePart[];
  private readonly events: Invalidation[] = [];
  /** The places announced: page, and number of the space times 2^36. */
  private readonly announced: PageMap = new PageMap();
  /** Where a page is mapped. */
  private places: Uint32Array = new Uint32Array(48);
  private part = 0;
  private pages: readonly number[] | undefined;

  constructor(platform: Platform, parts: readonly FilePart[]) {
    this.platform = platform;
    this.parts = parts;
  }

  next(run: Run): Progress {
    const part = this.parts[this.part];
    if (!part) return DONE;
    this.pages ??= part.file.dirtyPages(part.first, part.end);
    for (const { unfinished } of this.events) if (unfinished) return run.waitFor(unfinished);
    // While devices flushed, somebody else may have mapped a page: it is announced as well.
    if (this.announce(part.file, this.pages)) return AGAIN;
    const { core, events } = this.platform;
    let stored = 0;
    for (const page of this.pages) {
      const frame = part.file.frameOf(page);
      if (frame === undefined) continue;
      core.exports.frameClean(frame);
      part.file.store(page);
      this.stored++;
      stored++;
    }
    if (stored > 0 && events.heard) events.emit({ type: 'file.stored', file: part.file.id, first: this.pages[0]!, pages: stored });
    this.end();
    this.pages = undefined;
    this.part++;
    return AGAIN;
  }

  abort(): void {
    this.end();
  }

  private end(): void {
    for (const event of this.events) endInvalidation(event);
    this.events.length = 0;
    this.announced.clear();
  }

  /** Announces every place of the pages that has not been; false when there is none. */
  private announce(file: MemoryFile, pages: readonly number[]): boolean {
    const { core, spaces } = this.platform;
    let found = false;
    for (const page of pages) {
      const frame = file.frameOf(page);
      if (frame === undefined) continue;
      const count = core.exports.rmapList(frame, core.area(L.AREA_LIST), L.LIST_MAX / 3);
      const { places } = this;
      core.take(core.area(L.AREA_LIST), places.length < count * 3 ? (this.places = new Uint32Array(count * 3)) : places, count * 3);
      for (let i = 0; i < count * 3; i += 3) {
        const id = this.places[i]!;
        const space = spaces.get(id);
        const vpn = this.places[i + 2]! * 2 ** 32 + this.places[i + 1]!;
        const place = id * 2 ** L.VPN_BITS + vpn;
        // Private mappings only read it.
        if (!space || this.announced.has(place) || (space.vmas.find(vpn)?.flags ?? VMA_PRIVATE) & VMA_PRIVATE) continue;
        this.announced.set(place, 1);
        found = true;
        const event = new Invalidation();
        space.announce(event.set(vpn, vpn + 1, 'PROTECTION_PAGE', undefined, 'write-back').ofWrites());
        this.events.push(event);
      }
    }
    return found;
  }
}

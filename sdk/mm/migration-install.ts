/**
 * What a device enters into its own table of the pages that have moved to it: between commit and finalize, while the source frames are still locked, so that nobody sees a page at two places.
 *
 * ```
 *   of a page that moved   the right to write that its migration entry has
 *   of a hole              what its VMA allows
 * ```
 *
 * Models: the table that a driver writes between `migrate_vma_pages` and `migrate_vma_finalize`.
 */
import * as L from '../../assembly/layout.ts';
import { method } from '../step/method.ts';
import type { AddressSpace } from './address-space.ts';
import { HUGE_PAGES } from './huge-window.ts';
import type { MigrationWords, RunsOf, VisitRun } from './migration-words.ts';
import type { Platform } from './platform.ts';
import { shorten } from './shorten.ts';

/** Installs a device's translations of pages that have just moved to it. Called between commit and finalize, the source frame locked; -1: that page did not move. */
export type Install = (space: AddressSpace, vpn: number, frames: readonly number[], writable: (page: number) => boolean) => void;

/** The same, run by run: whoever has the translations asks for the runs, and need not, if it can enter none. */
export interface RunInstaller {
  installRuns(vpn: number, runs: (visit: VisitRun) => void): void;
}

const MOVED: RunsOf = { isRange: true, withTargets: true, writable: false };
const MOVED_WRITABLE: RunsOf = { isRange: true, withTargets: true, writable: true };

export class MigrationInstall {
  private readonly platform: Platform;
  private readonly words: MigrationWords;
  /** The first page of the range, and whether its VMA allows writes. */
  private vpn = 0;
  private isHoleWritable = false;
  /** What was handed out last, page by page. */
  private readonly frames: number[] = [];
  /** `isWritable` and `eachRun`, to be handed out; made at the first use. */
  private rights: ((page: number) => boolean) | undefined;
  private runs: ((visit: VisitRun) => void) | undefined;

  constructor(platform: Platform, words: MigrationWords) {
    this.platform = platform;
    this.words = words;
  }

  /** Has the pages from `vpn` on installed page by page. */
  byPages(space: AddressSpace, vpn: number, install: Install): void {
    const { words, frames } = this;
    this.of(space, vpn);
    shorten(frames, words.count);
    for (let i = 0; i < words.count; i++) frames[i] = L.FRAME_NONE;
    for (let i = 0; i < words.count; i++) {
      if (words.moves(i)) for (let page = 0; page < words.span(i); page++) frames[i + page] = words.targetFrame(i) + page;
    }
    this.rights ??= method<MigrationInstall, 'isWritable'>(this, 'isWritable');
    install(space, vpn, frames, this.rights);
  }

  /** The same run by run. */
  byRuns(space: AddressSpace, vpn: number, installer: RunInstaller): void {
    this.of(space, vpn);
    this.runs ??= method<MigrationInstall, 'eachRun'>(this, 'eachRun');
    installer.installRuns(vpn, this.runs);
  }

  /** @internal Whether the device may write to page `page` of the range, which has moved. */
  isWritable(page: number): boolean {
    const { words } = this;
    let bits = words.bits(page);
    if (bits === 0) bits = words.bits(page - ((this.vpn + page) % HUGE_PAGES));
    return bits & L.MIGRATE_VALID ? (bits & L.MIGRATE_WRITE) !== 0 : this.isHoleWritable;
  }

  /** @internal Calls `visit` for every run that has moved. */
  eachRun(visit: VisitRun): void {
    this.words.eachRun(this.platform.core, this.isHoleWritable ? MOVED_WRITABLE : MOVED, visit);
  }

  private of(space: AddressSpace, vpn: number): void {
    this.vpn = vpn;
    this.isHoleWritable = space.writable(vpn);
  }
}

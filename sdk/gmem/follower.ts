/**
 * A device that follows the table of the CPU: every entry that the CPU gets is entered into the device's table as well, so that the device does not fault for what the CPU has.
 *
 * ```
 *   a fault has filled, or widened, an entry          entered at once
 *   a migration has ended                             what came home, or stayed there, is entered
 *   a change was announced, and has been made         what is left of it is entered, when the last change that runs has ended
 *   the device is attached                            all that the CPU has
 * ```
 *
 * While a change is announced and not made yet nothing is entered: it waits in `behind`. What finds no room in the device's table is not entered, and faults.
 *
 * Models: GM_MMU_MODE_REPLICATE; the notification of installed entries that reviewers of HMM asked for.
 */
import * as L from '../../assembly/layout.ts';
import { Ranges } from '../core/batch.ts';
import type { EntryFollower } from '../mm/notifier.ts';
import { windowPages, windowStart } from '../mm/huge-window.ts';
import type { Platform } from '../mm/platform.ts';
import { HMM_VALID } from '../mm/range-fault.ts';
import { PROT_READ } from '../mm/vma.ts';
import type { DeviceMirror } from './device-mirror.ts';

/** Follows the home table of a context's space. */
export class Follower implements EntryFollower {
  private readonly platform: Platform;
  private readonly mirror: DeviceMirror;
  private words: Uint32Array = new Uint32Array(0);
  /** What has been withdrawn, or come to be, while changes were under way. */
  private readonly behind: Ranges = new Ranges();

  constructor(platform: Platform, mirror: DeviceMirror) {
    this.platform = platform;
    this.mirror = mirror;
  }

  /** These pages are about to change: they are looked at when the change has been made. */
  withdrawn(vpn: number, pages: number): void {
    this.behind.add(vpn, pages);
  }

  installed(vpn: number, pages: number): void {
    if (this.mirror.isInvalidating) this.behind.add(vpn, pages);
    else this.enter(vpn, pages);
  }

  settled(): void {
    const { behind } = this;
    if (behind.count === 0) return;
    for (let i = 0; i < behind.count; i++) this.enter(behind.start(i), behind.length(i));
    behind.clear();
  }

  /** Enters all that the CPU has. */
  catchUp(): void {
    this.mirror.space.vmas.each(0, 2 ** L.VPN_BITS, (_, from, to) => this.installed(from, to - from));
  }

  /** Enters what the home table has of these pages, in parts, passing over what is not mapped. */
  private enter(vpn: number, pages: number): void {
    const { core } = this.platform;
    const { table } = this.mirror.space;
    let end = vpn + pages;
    let at = vpn;
    const high = core.entry(table, vpn);
    if (pages === 1 && high & L.ENTRY_ORDER) {
      at = windowStart(vpn, high);
      end = at + windowPages(high);
    }
    if (end - at === 1) {
      const vma = this.mirror.space.vmas.find(at);
      if (vma && vma.prot & PROT_READ) this.enterMapped(at, end);
    } else this.enterEach(at, end);
  }

  /** The same, VMA by VMA. A function of its own: its closure is not made for one page. */
  private enterEach(at: number, end: number): void {
    this.mirror.space.vmas.each(at, end, ({ prot }, from, to) => {
      // An own page in private memory is there whatever its VMA allows.
      if (prot & PROT_READ) this.enterMapped(from, to);
    });
  }

  private enterMapped(from: number, end: number): void {
    const { core } = this.platform;
    const { table } = this.mirror.space;
    let at = from;
    while (at < end) {
      const next = core.exports.rangeNext(table, at, Math.min(end - at, 2 ** 31));
      if (next < 0) {
        at += Math.min(end - at, 2 ** 31);
        continue;
      }
      const count = Math.min(end - next, L.WORDS_MAX);
      this.enterPart(next, count);
      at = next + count;
    }
  }

  private enterPart(vpn: number, pages: number): void {
    const { core } = this.platform;
    const { mirror } = this;
    core.exports.snapshotHmm(mirror.space.table, vpn, pages, core.wordsArea(L.AREA_SOURCE), mirror.device.owner);
    const first = core.area(L.AREA_SOURCE) >>> 2;
    let any = false;
    for (let i = 1; i < pages * 2 && !any; i += 2) any = core.u32[first + i]! >= HMM_VALID;
    if (!any) return;
    // Of its own: a driver that is told of them may have the core use the area.
    if (this.words.length < pages * 2) this.words = new Uint32Array(Math.min(L.WORDS_MAX * 2, 2 ** Math.ceil(Math.log2(pages * 2))));
    const { words } = this;
    core.take(core.area(L.AREA_SOURCE), words, pages * 2);
    try {
      mirror.installAnswer(words, vpn, pages);
    } catch {
      // Its driver threw: the context has failed, and says why. Whoever changed the table goes on.
    }
  }
}

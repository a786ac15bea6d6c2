/**
 * A page that does not come to the device: it is used where it is, in host memory or in that of another device, and somebody may want to know why.
 *
 * The CPU's page is mapped by a range fault, with what is there around it; one of another device is entered by whoever knows its frame, and reported here. Models: `drm_gpusvm_range_get_pages`
 * after a migration that did not come about.
 */
import * as L from '../../assembly/layout.ts';
import type { RemoteMapCause } from '../events/cause.ts';
import type { Platform } from '../mm/platform.ts';
import { HMM_VALID, HMM_WRITE, MirrorRange, type RangeFaultOutcome, type RangeRequest } from '../mm/range-fault.ts';
import { PROT_READ } from '../mm/vma.ts';
import type { Context } from './context.ts';

/** What has come of mapping the page, as a fault is answered: `deferred`, somebody changes the range all the time. */
export type InPlaceOutcome = 'served' | 'deferred' | 'no mapping' | 'bus error' | Exclude<RangeFaultOutcome, 'done' | 'busy' | 'fault'>;

const READ_WRITE = HMM_VALID + HMM_WRITE;

/** Of the page of one fault after another. */
export class InPlace {
  /** Why it stays where it is. */
  cause: RemoteMapCause = 'policy';
  private readonly platform: Platform;
  private readonly context: Context;
  private readonly range: MirrorRange;
  /** What it is asked, filled anew for each page. */
  private asked: { -readonly [field in keyof RangeRequest]: RangeRequest[field] } | undefined;
  private vpn = 0;

  constructor(platform: Platform, context: Context) {
    this.platform = platform;
    this.context = context;
    this.range = new MirrorRange(platform);
  }

  /** The range fault that maps the CPU's page, and what is there of the `pages` pages around it. It takes the mmap lock itself. */
  mapping(vpn: number, write: boolean, pages: number): MirrorRange {
    const { space, device, notifier, lock, installWords } = this.context;
    let start = vpn;
    let end = vpn + 1;
    if (pages > 1) ({ start, end } = space.granule(vpn, pages));
    const asked = (this.asked ??= { notifier, vpn: start, pages: 1, request: HMM_VALID, only: 0, owner: device.owner });
    asked.vpn = start;
    asked.pages = end - start;
    asked.request = write ? READ_WRITE : HMM_VALID;
    asked.only = vpn - start;
    this.vpn = vpn;
    return this.range.of(space, asked, lock, installWords);
  }

  /** What has come of the range fault; it is reported. */
  mapped(): InPlaceOutcome {
    switch (this.range.outcome) {
      case 'done':
        this.reportHost();
        return 'served';
      case 'busy':
        return 'deferred';
      case 'fault':
        return this.withoutRange();
      default:
        return this.range.outcome;
    }
  }

  /** Tells whoever listens that the device uses a page of this node. */
  report(vpn: number, node: string, cause: RemoteMapCause): void {
    const { events } = this.platform;
    const { space, device } = this.context;
    if (events.heard) events.emit({ type: 'pages.mapped', space: space.id, device: device.name, vpn, pages: 1, node, cause });
  }

  /** Why the range fault found nothing to map: the lock was not held meanwhile, so the mapping, or the right to it, may have gone. */
  private withoutRange(): 'no mapping' | 'permission' | 'bus error' {
    const vma = this.context.space.vmas.find(this.vpn);
    if (!vma) return 'no mapping';
    return vma.prot & PROT_READ ? 'bus error' : 'permission';
  }

  /** A device with memory of its own has mapped what did not move to it. */
  private reportHost(): void {
    const { events, core, nodes } = this.platform;
    const { space, device } = this.context;
    if (!events.heard || !device.memory) return;
    const high = core.entry(space.table, this.vpn);
    if ((high & L.ENTRY_KIND) !== L.KIND_PRESENT) return;
    const node = nodes.of(core.entryLow);
    this.report(this.vpn, node.name, this.cause === 'policy' && node.kind === 'coherent' ? 'coherence' : this.cause);
  }
}

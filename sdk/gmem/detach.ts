/**
 * Detaching: the device's pages of this space come home, its translations go, its notifier ends.
 *
 * ```
 *   home    its pages, those that were pinned to it too; what is its alone stays
 *   rest    with the last context, what other spaces have there
 *   own     ranges that are its alone end, and their bytes
 *   leave   translations, peer-shared addresses, the notifier
 * ```
 *
 * A page that cannot come home ends it before `own`: the device is attached as before, and what is left there of what was pinned is pinned again.
 */
import * as L from '../../assembly/layout.ts';
import { Ranges } from '../core/batch.ts';
import { PageMap } from '../core/page-map.ts';
import { Migration } from '../mm/migration.ts';
import type { RemoveNotifier } from '../mm/notifier.ts';
import { type PeerAddresses, pendingOf, releasePeers } from '../mm/peer-va.ts';
import type { Platform } from '../mm/platform.ts';
import { fail } from '../errors.ts';
import { TakeDown } from '../mm/take-down.ts';
import { VMA_DEVICE } from '../mm/vma.ts';
import { DONE, type Progress, type Run, type Step } from '../step/step.ts';
import type { Ticket } from '../step/ticket.ts';
import type { Context } from './context.ts';
import { Evacuate } from './evacuate.ts';
import { Revoke } from './revoke.ts';

const LOCK = 0;
const HOME = 1;
const REST = 2;
const OWN = 3;
const WITHDRAW = 4;
const FLUSHED = 5;
const GIVEN_BACK = 6;
const ENDED = 7;

export class Detach implements Step {
  readonly name = 'detach';
  private readonly platform: Platform;
  private readonly context: Context;
  private readonly migration: Migration;
  private readonly revoke: Revoke;
  /** Made for the last context. */
  private evacuate: Evacuate | undefined;
  private remove: RemoveNotifier | undefined;
  private flush: Ticket | undefined;
  private readonly tickets: Ticket[] = [];
  private readonly owners: PeerAddresses[] = [];
  private phase = LOCK;
  /** Memory whose pages are being brought home, and the page to look at next. */
  private memory = 0;
  private vpn = 0;
  /** What was pinned to the device. */
  private readonly pins: PageMap = new PageMap();

  constructor(platform: Platform, context: Context) {
    this.platform = platform;
    this.context = context;
    this.migration = new Migration(platform);
    this.revoke = new Revoke(platform);
  }

  next(run: Run): Progress {
    const { space } = this.context;
    switch (this.phase) {
      case LOCK:
        if (!space.mmapLock.tryAcquire(run)) return run.waitFor(space.mmapLock);
        // While this one waited, another may have been quicker.
        if (!this.context.isAttached) {
          space.mmapLock.release(run);
          return DONE;
        }
        for (const { node } of this.context.device.memories) space.devicePins.release(0, 2 ** L.VPN_BITS, node, this.pins);
        this.phase = HOME;
      // falls through
      case HOME: {
        const progress = this.nextPart(run);
        if (progress !== undefined) return progress;
        this.requireEmpty();
        this.phase = REST;
        this.memory = 0;
      }
      // falls through
      case REST: {
        const progress = this.evacuated(run);
        if (progress !== undefined) return progress;
        this.pins.clear();
        this.phase = OWN;
      }
      // falls through
      case OWN: {
        const [range] = this.context.reserved;
        if (range) return run.call(new TakeDown(this.platform, space, range.start, range.end, { verb: 'unmap' }));
        this.phase = WITHDRAW;
      }
      // falls through
      case WITHDRAW: {
        this.context.unfollow();
        const everything = new Ranges();
        everything.add(0, 2 ** L.VPN_BITS);
        this.flush = this.context.withdraw(everything, 'migration: detach');
        this.phase = FLUSHED;
      }
      // falls through
      case FLUSHED:
        if (this.flush?.state === 'pending') return run.waitFor(this.flush);
        this.phase = GIVEN_BACK;
      // falls through
      case GIVEN_BACK: {
        const pending = this.givenBack();
        if (pending) return run.waitFor(pending);
        this.remove = this.context.removeNotifierStep();
        this.phase = ENDED;
        return run.call(this.remove);
      }
      default:
        // Held to the end: a fault that came in between would bring pages to a device that is not there any more.
        this.context.end();
        space.mmapLock.release(run);
        return DONE;
    }
  }

  abort(run: Run): void {
    const { devicePins, mmapLock } = this.context.space;
    devicePins.restore(this.pins);
    if (run.holds(mmapLock)) mmapLock.release(run);
  }

  /** A device that hands out its addresses itself gets those back that are peer-shared; returns a ticket that it has not completed. */
  private givenBack(): Ticket | undefined {
    const { space, peer } = this.context;
    if (peer?.isReady) {
      const everything = { start: 0, end: 2 ** L.VPN_BITS, cause: 'detach', only: peer } as const;
      releasePeers(this.platform, space, everything, this.tickets, this.owners);
      peer.leave();
    }
    return pendingOf(this.tickets, this.owners);
  }

  /** Brings the next mapped part that has pages of this device home, or waits for one that is on its way; undefined: there is none. */
  private nextPart(run: Run): Progress | undefined {
    const { space, device } = this.context;
    const { core, pageLocks } = this.platform;
    for (;;) {
      const memory = device.memories[this.memory];
      if (!memory) return undefined;
      const found = this.vpn >= 2 ** L.VPN_BITS ? 2 ** L.VPN_BITS : this.mapped(this.vpn);
      if (found === 2 ** L.VPN_BITS) {
        this.memory++;
        this.vpn = 0;
        continue;
      }
      this.vpn = found + 1;
      const vma = space.vmas.find(found);
      const kind = core.entry(space.table, found) & L.ENTRY_KIND;
      if (!vma || !memory.node.holds(core.entryLow)) continue;
      if (vma.flags & VMA_DEVICE) {
        this.vpn = vma.end;
        continue;
      }
      if (kind === L.KIND_MIGRATION) {
        this.vpn = found;
        return run.waitFor(pageLocks.wait(core.entryLow));
      }
      if (kind === L.KIND_EXCLUSIVE) {
        this.vpn = found;
        return run.call(this.revoke.of(space, found, 'detach'));
      }
      // A present page without rights is not looked at by address.
      if (kind === L.KIND_PROTNONE) return run.call(this.migration.framesToHost([core.headOf(core.entryLow)], memory, 'detach'));
      if (!isOn(kind)) continue;
      const pages = this.stretch(found, Math.min(vma.end, found + L.WORDS_MAX)) - found;
      this.vpn = found + pages;
      return run.call(this.migration.toHost(space, found, pages, memory, 'detach', found));
    }
  }

  /**
   * With the last context everything goes home: a child may have pages on the device without a context of its own. Those that cannot, for want of host memory or because they are pinned, stay, and the CPU
   * finds them there; but not in a memory that only the driver can read, or hands the pages out of.
   */
  private evacuated(run: Run): Progress | undefined {
    const { device } = this.context;
    if (device.contexts.length > 1) return undefined;
    const before = device.memories[this.memory - 1];
    const left = this.evacuate && before ? this.evacuate.left : L.FRAME_NONE;
    if (left !== L.FRAME_NONE && (before!.node.allocator !== 'core' || before!.node.bytesIn === 'external')) {
      throw fail(
        'EAGAIN',
        `detach ${device.name}, frame`,
        left,
        'could not be brought home: it is pinned, or host memory is exhausted; another address space has it',
      );
    }
    const memory = device.memories[this.memory++];
    if (!memory) return undefined;
    this.evacuate ??= new Evacuate(this.platform);
    return run.call(this.evacuate.of(memory, 'detach', new Set(this.context.reserved.flatMap(({ frames }) => frames))));
  }

  /** The first page from `vpn` on that is exclusive to a device, or `end`: a migration passes over such a page, which has to be revoked first. */
  private stretch(vpn: number, end: number): number {
    const { core } = this.platform;
    let next = vpn;
    while (next < end && (core.entry(this.context.space.table, next) & L.ENTRY_KIND) !== L.KIND_EXCLUSIVE) next++;
    return next;
  }

  /** The next page from `vpn` on with an entry; the end of the address space when there is none. */
  private mapped(vpn: number): number {
    const { core } = this.platform;
    for (let from = vpn; from < 2 ** L.VPN_BITS; from += 2 ** 31) {
      const found = core.exports.rangeNext(this.context.space.table, from, Math.min(2 ** L.VPN_BITS - from, 2 ** 31));
      if (found >= 0) return found;
    }
    return 2 ** L.VPN_BITS;
  }

  /** Whether a page is in a range that is one device's alone. */
  private isOwn(vpn: number): boolean {
    return ((this.context.space.vmas.find(vpn)?.flags ?? 0) & VMA_DEVICE) !== 0;
  }

  /** A page that could not come home (no host frame, a pin) keeps the device: nothing is lost, and the detach can be tried again. What is the device's alone need not come. */
  private requireEmpty(): void {
    const { space, device } = this.context;
    const { core } = this.platform;
    if (device.memories.length === 0) return;
    for (let vpn = 0; vpn < 2 ** L.VPN_BITS; vpn++) {
      // Not by a function that returns a page: its number would be an object, for each.
      const pages = Math.min(2 ** L.VPN_BITS - vpn, 2 ** 30);
      const found = core.exports.rangeNext(space.table, vpn, pages);
      vpn = found < 0 ? vpn + pages - 1 : found;
      if (found < 0) continue;
      if (isOn(core.entry(space.table, vpn) & L.ENTRY_KIND) && device.holding(core.entryLow) && !this.isOwn(vpn)) {
        throw fail(
          'EAGAIN',
          `detach ${device.name}, page`,
          vpn * L.PAGE_BYTES,
          'could not be brought home: it is pinned, or host memory is exhausted',
        );
      }
    }
  }
}

/** Kinds of entries whose page is where it can be used. */
function isOn(kind: number): boolean {
  return kind === L.KIND_DEVICE_PRIVATE || kind === L.KIND_PRESENT || kind === L.KIND_PROTNONE;
}

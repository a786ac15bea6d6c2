/**
 * The migration of one small page, all of it at once: what `Migration` does in steps, for the case that most faults are.
 *
 * ```
 *   simple:   the page is an anonymous one, not huge, mapped once, held by nobody, or a hole
 *             the device that moves it is the only one that must hear of it, its table and TLB are the ready-made ones, both in the core
 *             nobody listens, nothing is remembered of movements, there is no second tier
 * ```
 *
 * Then nothing has to be waited for but the copy engine, and nobody could come in between: `pageIsolate`, the engine, `pageSettle`. Whatever is not simple is left untouched for `Migration`; an engine that has not
 * finished leaves a migration in the middle of its way, which `Migration.copying` takes over.
 *
 * Everything that can be seen afterwards is what `Migration` would have left: entries, references, sequence, counters, calls of the driver.
 */
import * as L from '../../assembly/layout.ts';
import { Copies } from '../core/batch.ts';
import { addTraffic, type CountedTraffic } from '../events/counters.ts';
import type { Run } from '../step/step.ts';
import type { Ticket } from '../step/ticket.ts';
import type { AddressSpace } from './address-space.ts';
import type { CoreMirror, DeviceMemory } from './device-memory.ts';
import { MigrationCopies } from './migration-copies.ts';
import type { Platform } from './platform.ts';
import { PROT_WRITE, type Vma, VMA_ANONYMOUS } from './vma.ts';

/** `moved`; `stayed`: it could not, and is where it was; `copying`: the engine has not finished (`ticket`); `not simple`: nothing has been done; `no frame`: nor then, but the memory was asked for one. */
export type PageMoveOutcome = 'moved' | 'stayed' | 'copying' | 'not simple' | 'no frame';

export class PageMove {
  /** Of an engine that has not finished. */
  ticket: Ticket | undefined;
  /** The frame that the page was on, or PAGE_HOLE, and the one that it goes to. */
  source: number = L.PAGE_HOLE;
  target: number = L.FRAME_NONE;
  /** What the device's translation of a page that has moved to it allows. */
  isReadable = false;
  isWritable = false;
  /** The engine could not copy: the page stayed. */
  hasFailed = false;
  private readonly platform: Platform;
  /** Who knows frames and bytes. */
  private readonly ground: MigrationCopies;
  private readonly copies: Copies;
  /** Where its last page was counted: which way it went, between the host and which memory. */
  private traffic: CountedTraffic | undefined;
  private trafficMemory: DeviceMemory | undefined;
  private trafficInward = false;

  constructor(platform: Platform) {
    this.platform = platform;
    this.ground = new MigrationCopies(platform);
    this.copies = new Copies(this.ground);
  }

  /** For a device fault: the page `vpn` of `vma`, a page of the host, of zeros, or a hole, goes to `frame` of `memory`, whose one reference goes over unless the outcome is 'not simple'. */
  toDevice(run: Run, space: AddressSpace, vpn: number, vma: Vma, frame: number, memory: DeviceMemory): PageMoveOutcome {
    const mirror = this.mirrorFor(run, space, vpn, vma, memory);
    if (!mirror || frame < 0) return 'not simple';
    if (space.arrivals.meets(vpn)) return 'not simple';
    const { exports } = this.platform.core;
    this.source = exports.pageIsolate(space.table, vpn, L.SELECT_SYSTEM, memory.owner, mirror.descriptor, mirror.slot);
    if (this.source === L.PAGE_NOT_SIMPLE) return 'not simple';
    return this.go(space, vpn, vma, frame, memory, mirror, true);
  }

  /**
   * For a device fault, as part of a batch: the page `vpn` of `vma`, which the device does not translate yet, goes to a frame that `memory` gives for it (`target`). 'not simple' is also a page that is present without the right
   * to write when `write` is wanted.
   */
  faultIn(run: Run, space: AddressSpace, vpn: number, vma: Vma, memory: DeviceMemory, mirror: CoreMirror, write: boolean): PageMoveOutcome {
    if (space.arrivals.meets(vpn) || !this.concernsOnly(run, space, vpn, vma, mirror)) return 'not simple';
    const { exports } = this.platform.core;
    const select = L.SELECT_SYSTEM | L.SELECT_UNTRANSLATED | (write ? L.SELECT_WRITABLE : 0);
    this.source = exports.pageIsolate(space.table, vpn, select, memory.owner, mirror.descriptor, mirror.slot);
    if (this.source === L.PAGE_NOT_SIMPLE) return 'not simple';
    try {
      this.target = memory.takeFrame();
    } catch (error) {
      exports.pageRestore(this.source);
      throw error;
    }
    if (this.target >= 0) return this.go(space, vpn, vma, this.target, memory, mirror, true);
    exports.pageRestore(this.source);
    return 'no frame';
  }

  /** For a touch of the CPU: the page `vpn` of `vma`, on `memory`, comes home. Out of host frames it is 'not simple'. */
  toHost(run: Run, space: AddressSpace, vpn: number, vma: Vma, memory: DeviceMemory): PageMoveOutcome {
    const mirror = this.mirrorFor(run, space, vpn, vma, memory);
    if (!mirror || space.isLimited || memory.kind !== 'private') return 'not simple';
    const { core, host } = this.platform;
    if (host.free === 0) return 'not simple';
    this.source = core.exports.pageIsolate(space.table, vpn, L.SELECT_PRIVATE, memory.owner, mirror.descriptor, mirror.slot);
    if (this.source === L.PAGE_NOT_SIMPLE) return 'not simple';
    const frame = host.take();
    return this.go(space, vpn, vma, frame, memory, mirror, false);
  }

  /** What of the device is in the core, when the move concerns nobody else. */
  private mirrorFor(run: Run, space: AddressSpace, vpn: number, vma: Vma, memory: DeviceMemory): CoreMirror | undefined {
    const mirror = memory.device.mirrorIn(space);
    return mirror && this.concernsOnly(run, space, vpn, vma, mirror) ? mirror : undefined;
  }

  /** Whether nobody but this device has to hear of the page, and nobody looks on. */
  private concernsOnly(run: Run, space: AddressSpace, vpn: number, vma: Vma, { notifier }: CoreMirror): boolean {
    return !run.interleaves && this.platform.isUnobserved && (vma.flags & VMA_ANONYMOUS) !== 0 && space.notifiers.isOnly(notifier, vpn);
  }

  private go(
    space: AddressSpace,
    vpn: number,
    vma: Vma,
    frame: number,
    memory: DeviceMemory,
    mirror: CoreMirror,
    inward: boolean,
  ): PageMoveOutcome {
    const { platform, source } = this;
    const { core, events, pageLocks } = platform;
    const { device } = memory;
    space.notifiers.pulse(mirror.notifier);
    events.counters.invalidations++;
    mirror.withdrawn();
    let moves = 1;
    let copies = 1;
    this.hasFailed = false;
    if (mirror.hasEngine) {
      copies = 0;
      this.ground.for(device);
      this.copies.clear().add(source, frame);
      let ticket: Ticket | void;
      try {
        ticket = mirror.copy(source < 0 ? 'zero' : inward ? 'toDevice' : 'toHost', this.copies);
      } catch (error) {
        core.exports.pageSettle(space.table, vpn, source, frame, 0, 0, 0, 0);
        platform.settleFreed();
        throw error;
      }
      if (ticket) {
        if (ticket.state === 'pending') {
          this.ticket = ticket;
          this.target = frame;
          return 'copying';
        }
        if (ticket.state === 'failed') moves = 0;
      }
    }
    if (source < 0 && moves === 1) {
      // A hole is announced once more before it is filled.
      space.notifiers.pulse(mirror.notifier);
      events.counters.invalidations++;
    }
    const writable = vma.prot & PROT_WRITE ? 1 : 0;
    const table = inward && mirror.mayEnter ? mirror.descriptor : 0;
    const settled = core.exports.pageSettle(space.table, vpn, source, frame, moves, copies, writable, table);
    platform.settleFreed();
    pageLocks.released();
    if (settled === 0) {
      this.hasFailed = moves === 0;
      return 'stayed';
    }
    if (source < 0) events.counters.cleared++;
    else addTraffic(this.trafficOf(memory, inward), 1, L.PAGE_BYTES);
    if (settled & L.PAGE_UNINSTALLED) mirror.enterOne(vpn, frame);
    this.isReadable = table !== 0 && (settled & L.PAGE_UNINSTALLED) === 0;
    this.isWritable = (settled & L.PAGE_WRITABLE) !== 0;
    return 'moved';
  }

  /** Mostly that of its last page. */
  private trafficOf(memory: DeviceMemory, inward: boolean): CountedTraffic {
    if (this.traffic && this.trafficMemory === memory && this.trafficInward === inward) return this.traffic;
    const { events, host } = this.platform;
    this.trafficMemory = memory;
    this.trafficInward = inward;
    this.traffic = inward
      ? events.trafficOf(host.name, memory.node.name, 'toDevice', 'fault')
      : events.trafficOf(memory.node.name, host.name, 'toHost', 'home');
    return this.traffic;
  }
}

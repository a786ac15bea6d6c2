/** An access of the device to a byte range, by itself: page by page through its translations, serving each fault as a batch of one. */
import * as L from '../../assembly/layout.ts';
import { fail } from '../errors.ts';
import type { AccessOutcome } from '../mm/access.ts';
import type { Platform } from '../mm/platform.ts';
import { AGAIN, DONE, type Progress, type Run, type Step } from '../step/step.ts';
import type { Context } from './context.ts';
import { reportFatal, settle } from './serve-batch.ts';
import { type DeviceFaultRecord, FaultBatch } from './fault-batch.ts';
import { reportBatch } from './job.ts';
import type { ServeFault } from './serve.ts';
import { translated } from './walk-lanes.ts';
import { Window } from './window.ts';

/** Tries for one page before an access gives up. */
const ATTEMPTS_MAX = 64;

export class DeviceAccess implements Step {
  readonly name: string;
  outcome: AccessOutcome = 'done';
  done = 0;
  readonly bytes: Uint8Array;
  private readonly platform: Platform;
  private readonly context: Context;
  private readonly addr: number;
  private readonly write: boolean;
  /** Lent by the context from the first fault on that its driver does not serve itself. */
  private serve: ServeFault | undefined = undefined;
  /** Of the fault under way, its one record; both are used again. */
  private batch: FaultBatch | undefined;
  private record: { -readonly [field in keyof DeviceFaultRecord]: DeviceFaultRecord[field] } | undefined;
  private isServing = false;
  /** By which the bytes area knows it; 0: it has put nothing there. */
  private writer = 0;
  private vpn = 0;
  /** At a page that does not translate: a fault is to be served. */
  private stalled = false;
  private attempts = 0;
  /** Of a device that cannot replay a fault. */
  private window: Window | undefined;

  constructor(platform: Platform, context: Context, addr: number, bytes: Uint8Array, write: boolean) {
    this.name = write ? 'write' : 'read';
    this.platform = platform;
    this.context = context;
    this.addr = addr;
    this.write = write;
    this.bytes = bytes;
  }

  next(run: Run): Progress {
    const { turn } = this.context.device;
    if (turn && !run.holds(turn)) {
      if (!turn.tryAcquire(run)) return run.waitFor(turn);
      this.context.requireWorking(this.name);
      this.context.device.load(this.context);
    }
    const progress = this.go(run);
    if (progress !== DONE) return progress;
    if (this.serve) this.context.giveServe(this.serve);
    this.serve = undefined;
    this.window?.release();
    if (turn) turn.release(run);
    return DONE;
  }

  private go(run: Run): Progress {
    const context = this.context;
    const lock = context.device.batch;
    context.requireWorking(this.name);
    if (this.stalled) {
      if (!lock.tryAcquire(run)) return run.waitFor(lock);
      this.stalled = false;
      return run.call(this.fault());
    }
    if (this.isServing) {
      const goesOn = this.settled();
      lock.release(run);
      if (!goesOn) return DONE;
    }
    if (!context.device.replayable && !this.window) {
      this.window = this.windowOf();
      return run.call(this.window);
    }
    if (context.mustWait) return run.waitFor(context.space.notifiers.idle);
    while (this.done < this.bytes.length) {
      const done = this.advance();
      if (done > 0) {
        this.attempts = 0;
        this.done += done;
        continue;
      }
      if (this.platform.core.stopReason === L.STOP_BYTES) return this.fatal('bus error');
      if (this.window)
        throw fail(
          'EFAULT',
          `${this.name} of ${context.name}, page`,
          this.vpn * L.PAGE_BYTES,
          'was taken away, and the device cannot replay a fault',
        );
      if (++this.attempts > ATTEMPTS_MAX) return this.fatal('no progress');
      this.stalled = true;
      return AGAIN;
    }
    return DONE;
  }

  abort(run: Run): void {
    const { device } = this.context;
    this.window?.release();
    if (run.holds(device.batch)) {
      device.endBatch();
      device.batch.release(run);
    }
    if (device.turn && run.holds(device.turn)) device.turn.release(run);
  }

  /** What a device that cannot wait for a page has brought beforehand. */
  private windowOf(): Window {
    const window = new Window(this.platform, this.context);
    const last = Math.floor((this.addr + this.bytes.length - 1) / L.PAGE_BYTES);
    for (let vpn = Math.floor(this.addr / L.PAGE_BYTES); vpn <= last; vpn++) window.add(vpn, this.write);
    return window;
  }

  /** Nothing will make this access go on. */
  private fatal(reason: Exclude<AccessOutcome, 'done'>): typeof DONE {
    this.outcome = reason;
    reportFatal(this.platform.events, this.context, this.vpn, this.write, reason);
    return DONE;
  }

  /** Moves bytes up to the first page that does not translate; returns how many. */
  private advance(): number {
    const { core } = this.platform;
    const addr = this.addr + this.done;
    if (this.context.mmu.walk) return this.advanceByWalk(addr);
    const length = this.pass(addr);
    const { bytesArea } = core;
    const done = core.exports.copyThrough(this.context.slot, addr, length, bytesArea.address, this.write ? 1 : 0);
    if (!this.write) bytesArea.take(this.bytes, this.done, done);
    this.vpn = core.stopVpn;
    return done;
  }

  private advanceByWalk(addr: number): number {
    const { core } = this.platform;
    const vpn = Math.floor(addr / L.PAGE_BYTES);
    this.vpn = vpn;
    core.setHeader(L.H_STOP_REASON, L.STOP_FAULT);
    const at = translated(this.platform, this.context, vpn, this.write);
    if (at === undefined) return 0;
    if (at === 0) {
      core.setHeader(L.H_STOP_REASON, L.STOP_BYTES);
      return 0;
    }
    this.context.translations++;
    const offset = addr % L.PAGE_BYTES;
    const length = Math.min(this.pass(addr), L.PAGE_BYTES - offset);
    const { address } = core.bytesArea;
    if (this.write) core.u8.copyWithin(at + offset, address, address + length);
    else {
      core.u8.copyWithin(address, at + offset, at + offset + length);
      core.bytesArea.take(this.bytes, this.done, length);
    }
    return length;
  }

  /** Has the next bytes stand in the bytes area, or makes room for them: how many. */
  private pass(addr: number): number {
    const { bytesArea } = this.platform.core;
    if (!this.write) return bytesArea.room(this.done, this.bytes.length, addr);
    if (this.writer === 0) this.writer = bytesArea.begin();
    return bytesArea.lend(this.writer, this.bytes, this.done, addr);
  }

  /** The step that serves the fault, through the driver's own service where it has one. */
  private fault(): Step {
    const { counters } = this.platform.events;
    const context = this.context;
    const record = (this.record ??= { vpn: 0, write: this.write, lane: 0, spanStart: 0, spanPages: 1 });
    record.vpn = this.vpn;
    record.spanStart = this.vpn;
    this.batch = this.batch ? this.batch.refill(this.batch.records, 0) : new FaultBatch([record], 0);
    this.isServing = true;
    counters.deviceFaults[context.name] = (counters.deviceFaults[context.name] ?? 0) + 1;
    this.platform.events.countBatch(1);
    if (this.platform.events.heard)
      this.platform.events.emit({
        type: 'fault.device',
        space: context.space.id,
        device: context.name,
        vpn: this.vpn,
        write: this.write,
        lane: 0,
      });
    reportBatch(this.platform.events, context, 1, 0);
    return context.service(this.batch) ?? (this.serve ??= context.takeServe()).of(this.vpn, this.write);
  }

  /** Takes note of how the fault ended; false when the access ends with it. */
  private settled(): boolean {
    const batch = this.batch!;
    const context = this.context;
    const { counters } = this.platform.events;
    this.isServing = false;
    context.device.endBatch();
    if (!context.mmu.fault) {
      const { outcome } = this.serve!;
      if (outcome === 'no memory' || outcome === 'bus error' || outcome === 'out of reach') {
        this.fatal(outcome);
        return false;
      }
      settle(batch, this.record!.vpn, this.record!.write, outcome, context);
    }
    const { events } = this.platform;
    const { coalesced, deferred } = batch;
    counters.coalesced += coalesced;
    counters.deferred += deferred;
    const { device } = context;
    const space = context.space.id;
    if (events.heard) events.emit({ type: 'batch.served', space, device: device.name, records: 1, coalesced, deferred, overflow: 0 });
    const cancelled = batch.cancelled(this.vpn, this.write);
    if (!cancelled) return true;
    counters.cancelled++;
    if (events.heard)
      events.emit({ type: 'fault.cancelled', space, device: device.name, vpn: this.vpn, write: this.write, lane: 0, reason: cancelled });
    this.outcome = cancelled;
    return false;
  }
}

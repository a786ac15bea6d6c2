/**
 * Serving a fault batch: its faults one after the other, in an order of the driver's choice or of their coming, until memory cannot take more without giving up
 * what this batch has brought. The framework replays all stalled lanes afterwards; what was put off faults again.
 */
import * as L from '../../assembly/layout.ts';
import { fail } from '../errors.ts';
import type { FatalReason } from '../events/cause.ts';
import type { Events } from '../events/stream.ts';
import type { Platform } from '../mm/platform.ts';
import { CALL, DONE, type Progress, type Run, type Step } from '../step/step.ts';
import type { Context } from './context.ts';
import type { BatchFault, FaultBatch } from './fault-batch.ts';
import { ServeFault, type ServeOutcome } from './serve.ts';

/** The step that serves a batch. Made by `context.batchStep()`; reused by its owner. */
export class ServeBatch implements Step {
  readonly name = 'serve batch';
  private readonly platform: Platform;
  private readonly context: Context;
  private readonly serve: ServeFault;
  private batch!: FaultBatch;
  private faults: readonly BatchFault[] = [];
  private at = 0;
  private called = false;
  /** A write that is not allowed was cancelled; those who only read the page may still be served. */
  private readsOnly = false;

  constructor(platform: Platform, context: Context) {
    this.platform = platform;
    this.context = context;
    this.serve = new ServeFault(platform, context);
  }

  /** The faults of `batch`, in this order: its records by themselves, or what the driver has made of them. */
  of(batch: FaultBatch, faults: readonly BatchFault[] = batch.records): this {
    this.batch = batch;
    this.faults = faults;
    this.at = 0;
    this.called = false;
    this.readsOnly = false;
    return this;
  }

  next(run: Run): Progress {
    for (;;) {
      if (this.called && !this.settled()) return DONE;
      if (this.at === this.faults.length) return DONE;
      const fault = this.faults[this.at]!;
      if (fault.spanPages > 1) this.spare(fault);
      const serve = this.serve.of(fault.vpn, fault.write && !this.readsOnly);
      if (serve.isServedAtOnce(run)) {
        this.batch.served++;
        this.readsOnly = false;
        this.at++;
        continue;
      }
      if (fault.spanPages === 1) this.spare(fault);
      this.called = true;
      if (run.callNow(serve) !== DONE) return CALL;
    }
  }

  /** Enters how the last fault ended; false when the batch ends with it. */
  private settled(): boolean {
    const { vpn, write, reads = false } = this.faults[this.at]!;
    const { outcome } = this.serve;
    this.called = false;
    if (!settle(this.batch, vpn, write && !this.readsOnly, outcome, this.context)) {
      this.batch.deferred += this.faults.length - this.at;
      return false;
    }
    this.readsOnly = outcome === 'permission' && write && reads && !this.readsOnly;
    if (!this.readsOnly) this.at++;
    return true;
  }

  /** What the access also touches and is there must not be evicted before its lane has run. */
  private spare({ spanStart, spanPages }: BatchFault): void {
    const { device } = this.context;
    if (!device.memory) return;
    for (let vpn = spanStart; vpn < spanStart + spanPages; vpn++) {
      const frame = this.context.ownFrame(vpn);
      if (frame !== L.FRAME_NONE) device.holding(frame)!.spared.add(this.platform.core.headOf(frame));
    }
  }
}

/** Enters an outcome into a batch. Returns false when the batch ends here, the record and all later ones being deferred. Throws for what no replay can mend. */
export function settle(batch: FaultBatch, vpn: number, write: boolean, outcome: ServeOutcome, context: Context): boolean {
  switch (outcome) {
    case 'served':
      batch.served++;
      return true;
    case 'present':
      batch.served++;
      batch.coalesced++;
      return true;
    case 'throttled':
      batch.deferred++;
      batch.throttled++;
      return true;
    case 'deferred':
      return false;
    case 'no mapping':
      batch.cancel(vpn, false, outcome);
      return true;
    case 'permission':
      batch.cancel(vpn, write, outcome);
      return true;
    case 'no memory':
      reportFatal(context.events, context, vpn, write, outcome);
      throw fail('ENOMEM', `${context.name} fault at`, vpn * L.PAGE_BYTES, 'needs a host page, and host memory is exhausted');
    case 'bus error':
      reportFatal(context.events, context, vpn, write, outcome);
      throw fail('EIO', `${context.name} fault at`, vpn * L.PAGE_BYTES, 'is on a page whose bytes cannot be had');
    case 'out of reach':
      reportFatal(context.events, context, vpn, write, outcome);
      throw fail(
        'EOPNOTSUPP',
        `${context.name} fault at`,
        vpn * L.PAGE_BYTES,
        'is on a page that its policy lets stay where it cannot be reached',
      );
  }
}

/** A device's access will not be done. */
export function reportFatal(events: Events, context: Context, vpn: number, write: boolean, reason: FatalReason): void {
  const { space, name: device } = context;
  if (events.heard) events.emit({ type: 'fault.fatal', space: space.id, device, vpn, write, reason });
}

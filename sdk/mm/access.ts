/**
 * A CPU access to a byte range: page by page through the space's TLB, serving the faults it meets. A restart goes back to the faulting page, not to the
 * beginning.
 */
import * as L from '../../assembly/layout.ts';
import { DONE, type Progress, type Run, type Step } from '../step/step.ts';
import type { AddressSpace } from './address-space.ts';
import { CpuFault, type FaultOutcome } from './fault.ts';
import type { Platform } from './platform.ts';

/** How an access ended: `done`, or why the page at `done` bytes could not be reached. */
export type AccessOutcome = 'done' | Exclude<FaultOutcome, 'served'> | 'no progress';

/** Tries for one page before an access gives up: a fault that is served every time and never lasts is a livelock. */
export const FAULT_ATTEMPTS_MAX = 64;

/** Bytes that are handed to the core at once: they are handed over again after every fault among them. */
export const PIECE_BYTES = 65536;

/** Reads into, or writes from, `bytes`. */
export class CpuAccess implements Step {
  readonly name: string;
  outcome: AccessOutcome = 'done';
  /** Bytes done. */
  done = 0;
  readonly bytes: Uint8Array;
  private readonly platform: Platform;
  private readonly space: AddressSpace;
  private readonly addr: number;
  private readonly write: boolean;
  private readonly fault: CpuFault;
  private attempts = 0;
  private faulted = false;

  constructor(platform: Platform, space: AddressSpace, addr: number, bytes: Uint8Array, write: boolean) {
    this.name = write ? 'write' : 'read';
    this.platform = platform;
    this.space = space;
    this.addr = addr;
    this.write = write;
    this.bytes = bytes;
    this.fault = new CpuFault(platform);
  }

  next(run: Run): Progress {
    if (this.faulted) {
      this.faulted = false;
      const { outcome } = this.fault;
      if (outcome !== 'served') return this.end(outcome);
    }
    const { core } = this.platform;
    const buffer = core.area(L.AREA_BYTES);
    while (this.done < this.bytes.length) {
      // Pieces end where pages do: one that is in two of them would be looked up twice.
      const length = Math.min(this.bytes.length - this.done, PIECE_BYTES - ((this.addr + this.done) % L.PAGE_BYTES));
      const part = this.bytes.subarray(this.done, this.done + length);
      if (this.write) core.u8.set(part, buffer);
      const done = core.exports.copyThrough(this.space.tlb, this.addr + this.done, length, buffer, this.write ? 1 : 0);
      if (!this.write) part.set(core.u8.subarray(buffer, buffer + done));
      if (done > 0) this.attempts = 0;
      this.done += done;
      if (done === length) continue;
      if (core.stopReason !== L.STOP_FAULT) return this.end('bus error');
      if (++this.attempts > FAULT_ATTEMPTS_MAX) return this.end('no progress');
      this.faulted = true;
      return run.call(this.fault.of(this.space, core.stopVpn, this.write));
    }
    return this.end('done');
  }

  private end(outcome: AccessOutcome): typeof DONE {
    this.outcome = outcome;
    const { events } = this.platform;
    if (outcome !== 'done' && events.heard) {
      const vpn = Math.floor((this.addr + this.done) / L.PAGE_BYTES);
      events.emit({ type: 'fault.fatal', space: this.space.id, device: undefined, vpn, write: this.write, reason: outcome });
    }
    return DONE;
  }
}

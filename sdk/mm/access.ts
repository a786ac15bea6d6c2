/**
 * A CPU access to a byte range: page by page through the space's TLB, serving the faults it meets. A restart goes back to the faulting page, not to the
 * beginning.
 */
import * as L from '../../assembly/layout.ts';
import { fail, type FarfaultError } from '../errors.ts';
import { DONE, type Progress, type Run, type Step } from '../step/step.ts';
import type { AddressSpace } from './address-space.ts';
import type { CpuFault, FaultOutcome } from './fault.ts';
import type { Platform } from './platform.ts';

/** How an access ended: `done`, or why the page at `done` bytes could not be reached. `out of reach`: a policy lets the page stay where the device that accesses it cannot use it. */
export type AccessOutcome = 'done' | Exclude<FaultOutcome, 'served'> | 'no progress' | 'out of reach';

/** Tries for one page before an access gives up: a fault that is served every time and never lasts is a livelock. */
export const FAULT_ATTEMPTS_MAX = 64;

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
  /** Lent by the space from the first fault on. */
  private fault: CpuFault | undefined = undefined;
  private attempts = 0;
  private faulted = false;
  /** By which the bytes area knows it; 0: it has put nothing there. */
  private writer = 0;

  constructor(platform: Platform, space: AddressSpace, addr: number, bytes: Uint8Array, write: boolean) {
    this.name = write ? 'write' : 'read';
    this.platform = platform;
    this.space = space;
    this.addr = addr;
    this.write = write;
    this.bytes = bytes;
  }

  next(run: Run): Progress {
    if (this.faulted) {
      this.faulted = false;
      const { outcome } = this.fault!;
      if (outcome !== 'served') return this.end(outcome);
    }
    const { core } = this.platform;
    const { bytesArea } = core;
    if (this.write && this.writer === 0) this.writer = bytesArea.begin();
    while (this.done < this.bytes.length) {
      const addr = this.addr + this.done;
      const length = this.write
        ? bytesArea.lend(this.writer, this.bytes, this.done, addr)
        : bytesArea.room(this.done, this.bytes.length, addr);
      const done = core.exports.copyThrough(this.space.tlb, addr, length, bytesArea.address, this.write ? 1 : 0);
      if (!this.write) bytesArea.take(this.bytes, this.done, done);
      if (done > 0) this.attempts = 0;
      this.done += done;
      if (done === length) continue;
      if (core.stopReason !== L.STOP_FAULT) return this.end('bus error');
      if (this.space.devicePins.size > 0 && this.remotely(core.stopVpn)) continue;
      if (++this.attempts > FAULT_ATTEMPTS_MAX) return this.end('no progress');
      const fault = (this.fault ??= this.space.takeFault()).of(this.space, core.stopVpn, this.write);
      if (!fault.endsAtOnce(run)) {
        this.faulted = true;
        return run.call(fault);
      }
      if (fault.outcome !== 'served') return this.end(fault.outcome);
    }
    return this.end('done');
  }

  /**
   * The part of the access that is on a page which is pinned to a device, done where the page is: when the device's policy says so, the machine has the bytes, and the entry and the mapping give the right.
   * `vpn`: the page of byte `done`, which nobody moves while it is pinned.
   */
  private remotely(vpn: number): boolean {
    const { core, memories } = this.platform;
    const { space } = this;
    if (!space.devicePins.has(vpn)) return false;
    const high = core.entry(space.table, vpn);
    const frame = core.entryLow;
    if ((high & L.ENTRY_KIND) !== L.KIND_DEVICE_PRIVATE) return false;
    if (memories.get(core.nodeOf(frame))!.device.pinnedAccess !== 'remote') return false;
    const rights = space.rights(vpn);
    if (!(rights & L.RIGHT_READ) || (this.write && !(rights & L.RIGHT_WRITE && high & L.ENTRY_WRITE))) return false;
    const page = core.frameBytes(frame);
    if (page === 0) return false;
    const at = this.addr + this.done;
    const length = Math.min(this.bytes.length - this.done, L.PAGE_BYTES - (at % L.PAGE_BYTES));
    const from = page + (at % L.PAGE_BYTES);
    const part = this.bytes.subarray(this.done, this.done + length);
    if (this.write) {
      core.u8.set(part, from);
      space.mirrorOf(this.platform.nodes.of(frame).owner)?.markAtomic(vpn);
    } else part.set(core.u8.subarray(from, from + length));
    this.done += length;
    this.attempts = 0;
    return true;
  }

  private end(outcome: AccessOutcome): typeof DONE {
    this.outcome = outcome;
    if (this.fault) this.space.giveFault(this.fault);
    this.fault = undefined;
    const { events } = this.platform;
    if (outcome !== 'done' && events.heard) {
      const vpn = Math.floor((this.addr + this.done) / L.PAGE_BYTES);
      events.emit({ type: 'fault.fatal', space: this.space.id, device: undefined, vpn, write: this.write, reason: outcome });
    }
    return DONE;
  }
}

/** The error that an access throws at the address where it could not go on. */
export function accessError(verb: string, addr: number, outcome: Exclude<AccessOutcome, 'done'>, isOver = false): FarfaultError {
  switch (outcome) {
    case 'no mapping':
      return fail('EFAULT', `${verb}.addr`, addr, 'is not mapped');
    case 'permission':
      return fail('EFAULT', `${verb}.addr`, addr, `is mapped without the right to ${verb}`);
    case 'no memory':
      return fail('ENOMEM', `${verb}.addr`, addr, `needs a page, and ${isOver ? 'its space is at its limit' : 'host memory is exhausted'}`);
    case 'no progress':
      return fail('ETIME', `${verb}.addr`, addr, 'makes no progress: its page is served again and again, and taken away each time');
    case 'out of reach':
      return fail('EOPNOTSUPP', `${verb}.addr`, addr, 'is on a page that the policy of the device lets stay where it cannot be reached');
    case 'bus error':
      return fail('EIO', `${verb}.addr`, addr, 'has bytes that cannot be had: its page is pinned, on an external memory, or lost');
  }
}

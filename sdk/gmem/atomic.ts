/**
 * An atomic of a device: one read-modify-write of 4 or 8 bytes that nobody sees half done.
 *
 * ```
 *   where the page is                                    what happens
 *   in the device's own memory, or exclusive to it       done there, whichever of them it has
 *   else, by `driver.atomics`, the best first, of those that the page's attributes allow (`space.attributes`, `atomics`)
 *     native      served like a write, done through the translation, wherever that leads
 *     exclusive   made exclusive to the device; done while the page is locked; the translation stays until somebody else wants the page
 *     migrate     served like a write; done if that has brought the page to the device's memory
 *   none of them worked, or none is allowed              EOPNOTSUPP
 * ```
 *
 * Pages of files and shared memory can neither be made exclusive nor move: only native atomics reach them. Models: `nouveau_atomic_range_fault`, the atomic
 * faults of `uvm_hmm.c`.
 */
import * as L from '../../assembly/layout.ts';
import { method } from '../step/method.ts';
import { fail } from '../errors.ts';
import { type NamesOf, requireNames, requireObject } from '../mm/arguments.ts';
import { MakeExclusive } from '../mm/exclusive.ts';
import type { Platform } from '../mm/platform.ts';
import { AGAIN, DONE, type Progress, type Run, type Step } from '../step/step.ts';
import type { Context } from './context.ts';
import type { AtomicMeans } from './driver.ts';
import { mayMove } from './movable.ts';
import { MoveRange } from './move-range.ts';
import { ServeFault } from './serve.ts';
import { translated } from './walk-lanes.ts';

/** What to do. Values are unsigned and wrap at their width. */
export interface AtomicRequest {
  /** `add`: the old value plus `operand`. `exchange`: `operand`. `compare-and-swap`: `operand` where the old value is `expected`, else nothing changes. */
  readonly op: 'add' | 'exchange' | 'compare-and-swap';
  readonly bytes: 4 | 8;
  readonly operand: number | bigint;
  readonly expected?: number | bigint;
}

const REQUEST: NamesOf<AtomicRequest> = { op: true, bytes: true, operand: true, expected: true };

/** Tries of one means: each follows somebody who took the page again. */
const ATTEMPTS_MAX = 64;

const CHOOSE = 0;
const SERVED = 1;
const EXCLUSIVE = 2;

/** The step behind `context.atomic`. */
export class DeviceAtomic implements Step {
  readonly name = 'atomic';
  private old = 0n;
  private readonly platform: Platform;
  private readonly context: Context;
  private readonly addr: number;
  private readonly request: AtomicRequest;
  private readonly operand: bigint;
  private readonly expected: bigint;
  private readonly means: readonly AtomicMeans[];
  private readonly serve: ServeFault;
  private exclusive: MakeExclusive | undefined;
  private choice = 0;
  private attempts = 0;
  private phase = CHOOSE;
  private done = false;
  /** Somebody held the page; it may work another time. */
  private busy = false;

  /** Throws EINVAL for an address that is not a multiple of `bytes`, and for a request that is none. */
  constructor(platform: Platform, context: Context, addr: number, request: AtomicRequest) {
    checkRequest(addr, request);
    this.platform = platform;
    this.context = context;
    this.addr = addr;
    this.request = request;
    this.operand = BigInt.asUintN(request.bytes * 8, BigInt(request.operand));
    this.expected = BigInt.asUintN(request.bytes * 8, BigInt(request.expected ?? 0));
    const allowed = context.space.attributes.at(Math.floor(addr / L.PAGE_BYTES))?.atomics;
    const means = context.device.driver.atomics ?? [];
    this.means = allowed ? means.filter((each) => allowed.includes(each)) : means;
    this.serve = new ServeFault(platform, context);
  }

  /** The old value. Requires: DONE. */
  get result(): number | bigint {
    return this.request.bytes === 4 ? Number(this.old) : this.old;
  }

  next(run: Run): Progress {
    const { turn } = this.context.device;
    if (turn && !run.holds(turn)) {
      if (!turn.tryAcquire(run)) return run.waitFor(turn);
      this.context.requireWorking('atomic');
      this.context.device.load(this.context);
    }
    const progress = this.go(run);
    if (progress === DONE && turn) turn.release(run);
    return progress;
  }

  abort(run: Run): void {
    const { turn } = this.context.device;
    if (turn && run.holds(turn)) turn.release(run);
  }

  private go(run: Run): Progress {
    const context = this.context;
    const vpn = Math.floor(this.addr / L.PAGE_BYTES);
    context.requireWorking('atomic');
    if (context.mustWait) return run.waitFor(context.space.notifiers.idle);
    switch (this.phase) {
      case SERVED:
        this.phase = CHOOSE;
        switch (this.serve.outcome) {
          case 'served':
          case 'present':
            // What was brought may have been taken again before this turn.
            if (this.reaches(vpn) && (this.means[this.choice] === 'native' || this.isOwn(vpn))) return this.perform(this.bytesOf(vpn));
            if (this.means[this.choice] === 'native' && ++this.attempts < ATTEMPTS_MAX) return AGAIN;
            if (this.means[this.choice] === 'migrate' && this.couldMove(vpn)) {
              // A page that the fault has made movable (the copy of a file's) and left where it was: asked for explicitly, once.
              if (this.reaches(vpn) && this.attempts === 0) return AGAIN;
              this.busy = true;
            }
            break;
          case 'throttled':
            return AGAIN;
          case 'deferred':
            this.busy = true;
            break;
          case 'no mapping':
            throw fail('EFAULT', 'atomic.addr', this.addr, 'is not mapped');
          case 'permission':
            throw fail('EFAULT', 'atomic.addr', this.addr, 'is mapped without the right to write');
          case 'no memory':
            throw fail('ENOMEM', 'atomic.addr', this.addr, 'needs a page, and host memory is exhausted');
          case 'bus error':
            throw fail('EIO', 'atomic.addr', this.addr, 'has bytes that cannot be had');
          case 'out of reach':
        }
        return this.nextMeans();
      case EXCLUSIVE:
        this.phase = CHOOSE;
        if (this.done) return DONE;
        switch (this.exclusive!.outcome) {
          case 'no mapping':
            throw fail('EFAULT', 'atomic.addr', this.addr, 'is not mapped');
          case 'permission':
            throw fail('EFAULT', 'atomic.addr', this.addr, 'is mapped without the right to write');
          case 'no memory':
            throw fail('ENOMEM', 'atomic.addr', this.addr, 'needs a page, and host memory is exhausted');
          case 'bus error':
            throw fail('EIO', 'atomic.addr', this.addr, 'has bytes that cannot be had');
          case 'busy':
            this.busy = true;
            break;
          default:
        }
        return this.nextMeans();
      default:
        return this.choose(run, vpn);
    }
  }

  private choose(run: Run, vpn: number): Progress {
    const context = this.context;
    const means = this.means[this.choice];
    if (means !== undefined && this.reaches(vpn) && (means === 'native' || this.isOwn(vpn) || this.isAlone(vpn)))
      return this.perform(this.bytesOf(vpn));
    switch (means) {
      case undefined:
        throw this.busy
          ? fail('EAGAIN', 'atomic.addr', this.addr, 'is on a page that is held, or for which no frame is free')
          : fail('EOPNOTSUPP', 'atomic.addr', this.addr, `is on a page on which ${context.name} has no atomics`);
      case 'migrate':
        if (!context.device.memory) return this.nextMeans();
        if (this.reaches(vpn) && this.couldMove(vpn)) {
          // The device uses the page where it is, since it once could not move: a fault would find nothing to do.
          if (this.attempts++ === 0) return run.call(new MoveRange(this.platform, context).of(undefined, vpn, vpn + 1, 'device'));
          this.busy = true;
          return this.nextMeans();
        }
      // falls through
      case 'native':
        this.phase = SERVED;
        return run.call(this.serve.alone(vpn, true));
      case 'exclusive':
        // A page that the CPU cannot reach is one that this device, which walks the same table, cannot reach either.
        if (context.mode === 'share') return this.nextMeans();
        this.phase = EXCLUSIVE;
        this.exclusive ??= new MakeExclusive(this.platform);
        return run.call(
          this.exclusive.of(context.space, vpn, context.device.owner, {}, method<DeviceAtomic, 'performAlone'>(this, 'performAlone')),
        );
    }
  }

  /** @internal The page is this device's alone. */
  performAlone(frame: number): void {
    const context = this.context;
    // A device that has left meanwhile does nothing: the next turn says so.
    if (!context.isAttached) return;
    context.installAlone(Math.floor(this.addr / L.PAGE_BYTES), frame);
    this.perform(this.platform.core.frameBytes(frame));
  }

  private nextMeans(): Progress {
    this.choice++;
    this.attempts = 0;
    return AGAIN;
  }

  private reaches(vpn: number): boolean {
    return this.context.reaches(vpn, true);
  }

  private isOwn(vpn: number): boolean {
    return this.context.ownFrame(vpn) !== L.FRAME_NONE;
  }

  /** Whether the page is one that moves to the device at other times. */
  private couldMove(vpn: number): boolean {
    const { space } = this.context;
    const { core } = this.platform;
    const vma = space.vmas.find(vpn);
    const high = core.entry(space.table, vpn);
    return vma !== undefined && (high & L.ENTRY_KIND) === L.KIND_PRESENT && mayMove(this.platform, vma, high, core.entryLow);
  }

  /** Whether the page is nobody else's to write: with a writable translation of this device, it is exclusive to this one. */
  private isAlone(vpn: number): boolean {
    const high = this.platform.core.entry(this.context.space.table, vpn);
    return (high & L.ENTRY_KIND) === L.KIND_EXCLUSIVE || (high & L.ENTRY_CPU_READS) !== 0;
  }

  /** Reads, computes, writes: in one turn, at the bytes of the page at `page`. Throws EIO when they are not in the machine's memory. */
  private perform(page: number): typeof DONE {
    if (page === 0) throw fail('EIO', 'atomic.addr', this.addr, 'is on a page whose bytes are not in the memory of this machine');
    const { core } = this.platform;
    const { bytes, op } = this.request;
    const at = page + (this.addr % L.PAGE_BYTES);
    const view = new DataView(core.u8.buffer);
    this.old = bytes === 4 ? BigInt(view.getUint32(at, true)) : view.getBigUint64(at, true);
    this.done = true;
    this.context.markAtomic(Math.floor(this.addr / L.PAGE_BYTES));
    let value: bigint;
    switch (op) {
      case 'add':
        value = BigInt.asUintN(bytes * 8, this.old + this.operand);
        break;
      case 'exchange':
        value = this.operand;
        break;
      case 'compare-and-swap':
        if (this.old !== this.expected) return DONE;
        value = this.operand;
    }
    if (bytes === 4) view.setUint32(at, Number(value), true);
    else view.setBigUint64(at, value, true);
    return DONE;
  }

  /** Where the device's translation leads: the byte address of the page, 0 when its bytes are elsewhere. */
  private bytesOf(vpn: number): number {
    const context = this.context;
    if (context.mmu.walk) return translated(this.platform, context, vpn, true) ?? 0;
    return this.platform.core.frameBytes(context.frameBehind(vpn));
  }
}

function checkRequest(addr: number, request: AtomicRequest): void {
  requireObject('atomic request', request, 'an object');
  requireNames('atomic request', request, REQUEST);
  const { op, bytes, operand, expected } = request as AtomicRequest & { readonly op: string; readonly bytes: number };
  if (!['add', 'exchange', 'compare-and-swap'].includes(op))
    throw fail('EINVAL', 'atomic.op', op, "is not one of: 'add', 'exchange', 'compare-and-swap'");
  if (bytes !== 4 && bytes !== 8) throw fail('EINVAL', 'atomic.bytes', bytes, 'is not 4 or 8');
  if (!Number.isSafeInteger(addr) || addr < 0 || addr >= 2 ** L.ADDRESS_BITS)
    throw fail('EINVAL', 'atomic.addr', addr, 'is not a byte address below 2^48');
  if (addr % bytes !== 0) throw fail('EINVAL', 'atomic.addr', addr, `is not a multiple of ${bytes}`);
  if (!isInteger(operand)) throw fail('EINVAL', 'atomic.operand', operand, 'is not an integer');
  if (op === 'compare-and-swap' ? !isInteger(expected) : expected !== undefined)
    throw fail('EINVAL', 'atomic.expected', expected, op === 'compare-and-swap' ? 'is not an integer' : `is not for ${op}`);
}

function isInteger(value: unknown): boolean {
  return typeof value === 'bigint' || Number.isSafeInteger(value);
}

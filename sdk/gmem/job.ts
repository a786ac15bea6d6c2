/**
 * Jobs: a device's work, as accesses dealt to lanes. Rounds of lanes, batches of faults, replays, until every lane has finished.
 *
 * ```
 *   round      every lane runs until it has finished or stalls; records go into the bounded fault buffer
 *   service    the driver's own, or the framework's: every record in the order of its coming
 *   cancel     accesses without mapping or right are dropped, their lanes go on
 *   replay     all stalled lanes try again: the next round
 * ```
 *
 * Lane order, dealing and replay are those of `assembly/lanes.ts`, also where the driver translates (`walk-lanes.ts`).
 */
import * as L from '../../assembly/layout.ts';
import { JobBlock } from '../core/job-block.ts';
import { fail } from '../errors.ts';
import type { Events } from '../events/stream.ts';
import { type AddressRange, type NamesOf, requireArray, requireNames, requireObject, requireRange } from '../mm/arguments.ts';
import type { Platform } from '../mm/platform.ts';
import { AGAIN, CALL, DONE, type Progress, type Run, type Step } from '../step/step.ts';
import type { Context } from './context.ts';
import { ServeBatch } from './serve-batch.ts';
import { FaultBatch, FaultRecords } from './fault-batch.ts';
import { PreemptedJob } from './preempted.ts';
import { SLICE_ROUNDS_DEFAULT } from './switch.ts';
import { WalkLanes } from './walk-lanes.ts';
import { Window } from './window.ts';

/** One access of a job. */
export interface JobAccess {
  readonly op: 'read' | 'write';
  /** Byte address. */
  readonly addr: number;
  /** 1 to 4096. */
  readonly bytes: number;
  /** What a write stores: a non-negative integer below 2^53, as a little-endian 8-byte word cut to `bytes`; longer writes repeat it, adding 1 to the low half each time. Default 0. */
  readonly value?: number;
}

/** Access k goes to lane k mod `lanes`. */
export interface Job {
  /** At most 65,536. */
  readonly accesses: readonly JobAccess[];
  /** 1 to 4096. Default 32. */
  readonly lanes?: number;
  /**
   * Pages that are brought, and held where they are, before the job begins. Default: none, and those that its accesses touch for a device that cannot replay a fault; such a device fails the job at an access
   * outside of them.
   */
  readonly window?: readonly AddressRange[];
}

const JOB: NamesOf<Job> = { accesses: true, lanes: true, window: true };

/** What a job did. */
export interface JobReport {
  /** Rounds of lanes: one more than the batches of faults. */
  readonly rounds: number;
  /**
   * Two u32 per access: the value read (up to 8 bytes, zero-extended; longer reads give a hash of the bytes and their number), or what was written. An access
   * that was cancelled keeps what it had.
   */
  readonly observed: Uint32Array;
  /** Indices of the executed accesses in order of execution. */
  readonly order: Uint32Array;
  /** Indices of accesses given up: no mapping, or no right. */
  readonly cancelled: readonly number[];
}

/** One past the last byte address. */
const ADDRESSES_END = 2 ** L.ADDRESS_BITS;
/** Bytes of one range of a window. */
const WINDOW_BYTES_MAX = 2 ** 32;

/** Lanes of a job that does not say. A warp. */
export const LANES_DEFAULT = 32;

const TURN = 0;
const LOCK = 1;
const WINDOW = 2;
const ROUND = 3;
const STALLED = 4;
const SERVED = 5;

/** Rounds one after the other that execute nothing, however much their batches serve: more means that the device never uses what it gets. */
const IDLE_ROUNDS_MAX = 64;

export class JobRun implements Step {
  readonly name = 'job';
  private readonly platform: Platform;
  private readonly context: Context;
  private readonly block: JobBlock;
  /** Made when the driver has no service of its own. */
  private default: ServeBatch | undefined;
  private words: Uint32Array | undefined;
  private values: Uint32Array | undefined;
  private n = 0;
  private lanes = LANES_DEFAULT;
  private accessesAt = 0;
  private valuesAt = 0;
  private phase = TURN;
  private asked: readonly AddressRange[] | undefined;
  private window: Window | undefined;
  /** While another address space has the device. */
  private preempted: PreemptedJob | undefined;
  /** Rounds since its turn came. */
  private slice = 0;
  private rounds = 0;
  /** Resets of the device when it began. */
  private resets = 0;
  private executedNow = 0;
  /** Whether the last batch served and cancelled nothing. */
  private idle = false;
  private idleRounds = 0;
  /** Of the round before the last one that ran. */
  private readonly batch: FaultBatch = new FaultBatch([], 0);
  private readonly records: FaultRecords = new FaultRecords();
  private walk: WalkLanes | undefined;
  private cancelled: number[] = [];
  private order: Uint32Array = new Uint32Array(0);

  constructor(platform: Platform, context: Context) {
    this.platform = platform;
    this.context = context;
    this.block = new JobBlock(platform.core);
  }

  /** A program's job: checked, packed, and kept by this step until it has the job area. */
  of(job: Job): this {
    const { accesses, lanes, window } = checkJob(job);
    this.asked = window;
    const length = accesses.length * 2;
    // Kept for the next one.
    if (!this.words || this.words.length < length) this.words = new Uint32Array(length);
    const { words } = this;
    // Handed out with the report.
    const values = new Uint32Array(length);
    for (let i = 0; i < accesses.length; i++) {
      const { op, addr, bytes, value = 0 } = accesses[i]!;
      words[i * 2] = addr;
      words[i * 2 + 1] =
        (addr / 2 ** 32) | ((bytes - 1) << L.ACCESS_LENGTH_SHIFT) | (op === 'write' ? L.ACCESS_WRITE : 0) | L.ACCESS_DEVICE;
      values[i * 2] = value;
      values[i * 2 + 1] = value / 2 ** 32;
    }
    this.values = values;
    return this.begin(accesses.length, lanes, this.platform.core.area(L.AREA_ACCESSES), this.platform.core.area(L.AREA_VALUES));
  }

  /** A job that stands in the batch areas already: `n` packed accesses and their values. For the replay. */
  inPlace(n: number, lanes: number, accessesAt: number, valuesAt: number): this {
    this.words = undefined;
    this.values = undefined;
    this.asked = undefined;
    return this.begin(n, lanes, accessesAt, valuesAt);
  }

  /** What the device was doing when it was reset is not done. */
  private requireNotReset(): void {
    if (this.resets !== this.context.device.resets) throw fail('ENODEV', 'job', this.context.name, 'was broken off: the device was reset');
  }

  private begin(n: number, lanes: number, accessesAt: number, valuesAt: number): this {
    this.n = n;
    this.lanes = lanes;
    this.accessesAt = accessesAt;
    this.valuesAt = valuesAt;
    this.phase = TURN;
    this.window = undefined;
    this.preempted = undefined;
    this.rounds = 0;
    this.executedNow = 0;
    this.idle = false;
    this.idleRounds = 0;
    this.cancelled = [];
    return this;
  }

  /** Executed accesses, their indices being in the order area. */
  get executed(): number {
    return this.executedNow;
  }

  next(run: Run): Progress {
    const lock = this.platform.jobLock;
    const { batch } = this.context.device;
    switch (this.phase) {
      case TURN: {
        const { device } = this.context;
        if (device.turn) {
          if (!device.turn.tryAcquire(run)) return run.waitFor(device.turn);
          this.context.requireWorking('submit');
          device.load(this.context);
          this.slice = 0;
        }
        this.phase = LOCK;
      }
      // falls through
      case LOCK:
        if (!lock.tryAcquire(run)) return run.waitFor(lock);
        if (this.preempted) {
          this.preempted.putBack(this.platform.core);
          this.preempted = undefined;
          this.phase = ROUND;
          return AGAIN;
        }
        this.resets = this.context.device.resets;
        this.start();
        this.reportBegin();
        this.phase = WINDOW;
        this.context.requireWorking('submit');
        this.window = this.windowOf();
        if (this.window) return run.call(this.window);
      // falls through
      case WINDOW:
        this.phase = ROUND;
      // falls through
      case ROUND: {
        this.requireNotReset();
        if (this.context.mustWait) return run.waitFor(this.context.space.notifiers.idle);
        const stalled = this.round();
        if (stalled === 0) return this.finish(run);
        if (!this.context.device.replayable) throw this.notReplayed();
        if (!batch.tryAcquire(run)) {
          this.phase = STALLED;
          return run.waitFor(batch);
        }
        this.phase = SERVED;
        if (run.callNow(this.service()) !== DONE) return CALL;
        return this.replay(run);
      }
      case STALLED:
        if (!batch.tryAcquire(run)) return run.waitFor(batch);
        // While this one waited, the context may have failed, or left.
        this.context.requireWorking('submit');
        this.phase = SERVED;
        if (run.callNow(this.service()) !== DONE) return CALL;
      // falls through
      default:
        return this.replay(run);
    }
  }

  /** The batch has been served: the stalled lanes try again in the next round. */
  private replay(run: Run): Progress {
    this.served();
    this.context.device.batch.release(run);
    this.reportReplay();
    this.phase = ROUND;
    this.takeTurns(run);
    return AGAIN;
  }

  abort(run: Run): void {
    const lock = this.platform.jobLock;
    const { device } = this.context;
    if (run.holds(device.batch)) {
      device.endBatch();
      device.batch.release(run);
    }
    this.window?.release();
    if (run.holds(lock)) {
      lock.release(run);
      this.reportEnd(false);
    } else if (this.preempted) this.reportEnd(false);
    if (device.turn && run.holds(device.turn)) device.turn.release(run);
  }

  /** At the end of its slice the device is another's, if somebody waits for it. */
  private takeTurns(run: Run): void {
    const { turn, policy } = this.context.device;
    if (!turn || ++this.slice < (policy.slice ?? SLICE_ROUNDS_DEFAULT) || !turn.isWanted) return;
    this.preempted = new PreemptedJob(this.platform.core, this.n, this.lanes, this.executedNow);
    this.phase = TURN;
    this.platform.jobLock.release(run);
    turn.release(run);
  }

  /** The pages to be brought and held beforehand; undefined: none. */
  private windowOf(): Window | undefined {
    const { device } = this.context;
    if (!this.asked && device.replayable) return undefined;
    const window = new Window(this.platform, this.context);
    if (this.asked) {
      for (const { start, end } of this.asked) for (let vpn = start / L.PAGE_BYTES; vpn < end / L.PAGE_BYTES; vpn++) window.add(vpn, false);
      return window;
    }
    const touched = new Map<number, boolean>();
    const { u32 } = this.platform.core;
    for (let i = 0, at = this.accessesAt >>> 2; i < this.n; i++, at += 2) {
      const high = u32[at + 1]!;
      const addr = (high & L.ACCESS_ADDRESS_HIGH) * 2 ** 32 + u32[at]!;
      const last = Math.floor((addr + ((high >>> L.ACCESS_LENGTH_SHIFT) & L.ACCESS_LENGTH)) / L.PAGE_BYTES);
      const write = (high & L.ACCESS_WRITE) !== 0;
      for (let vpn = Math.floor(addr / L.PAGE_BYTES); vpn <= last; vpn++) touched.set(vpn, write || touched.get(vpn) === true);
    }
    for (const vpn of [...touched.keys()].sort((a, b) => a - b)) window.add(vpn, touched.get(vpn)!);
    return window;
  }

  /** A fault of a device that cannot wait for the page. */
  private notReplayed(): Error {
    const { core } = this.platform;
    const { vpn } = this.records.fetch(core, 1)[0]!;
    return fail(
      'EFAULT',
      `job of ${this.context.name}, page`,
      vpn * L.PAGE_BYTES,
      'is not there, and the device cannot replay a fault: it is outside of the window, or was taken away',
    );
  }

  report(): JobReport {
    return { rounds: this.rounds, observed: this.values!, order: this.order, cancelled: this.cancelled };
  }

  private start(): void {
    const { core } = this.platform;
    if (this.words && this.values) {
      core.lend(core.area(L.AREA_ACCESSES), this.words, this.n * 2);
      core.lend(core.area(L.AREA_VALUES), this.values, this.n * 2);
    }
    core.exports.jobBegin(this.block.address, this.n, this.lanes, this.context.device.faultEntries);
    this.walk = this.context.mmu.walk ? new WalkLanes(this.platform, this.context, this.accessesAt, this.valuesAt) : undefined;
  }

  private round(): number {
    const { core } = this.platform;
    const { block } = this;
    this.context.requireWorking('submit');
    this.rounds++;
    const before = this.executedNow;
    const stalled = this.walk
      ? this.walk.round()
      : core.exports.laneRound(
          this.context.slot,
          block.address,
          this.accessesAt,
          this.valuesAt,
          core.area(L.AREA_ORDER),
          core.area(L.AREA_FAULTS),
        );
    if (core.stopReason === L.STOP_BYTES && !this.walk) {
      throw fail('EIO', 'job access', core.stopVpn * L.PAGE_BYTES, 'is on a page whose bytes are not in this memory');
    }
    this.executedNow = block.executed;
    this.idleRounds = this.executedNow === before ? this.idleRounds + 1 : 0;
    if (this.idleRounds > IDLE_ROUNDS_MAX)
      throw fail('ETIME', 'job', this.context.name, `makes no progress: ${IDLE_ROUNDS_MAX} rounds one after the other executed nothing`);
    if (this.idleRounds > 0 && this.idle)
      throw fail('ETIME', 'job', this.context.name, 'makes no progress: a batch served nothing and the replay executed nothing');
    this.idle = false;
    return stalled;
  }

  private service(): Step {
    const { core, events } = this.platform;
    const context = this.context;
    const { block } = this;
    const count = block.faults;
    if (count > 1) core.exports.faultsAhead(context.space.table, core.area(L.AREA_FAULTS), count);
    const records = this.records.fetch(core, count);
    const batch = this.batch.refill(records, block.overflow);
    const { counters } = events;
    counters.deviceFaults[context.name] = (counters.deviceFaults[context.name] ?? 0) + count;
    counters.overflow += batch.overflow;
    events.countBatch(count);
    if (events.heard) {
      for (const { vpn, write, lane } of records)
        events.emit({ type: 'fault.device', space: context.space.id, device: context.name, vpn, write, lane });
    }
    reportBatch(events, context, count, batch.overflow);
    return context.service(batch) ?? (this.default ??= new ServeBatch(this.platform, context)).of(batch);
  }

  private served(): void {
    const { events } = this.platform;
    const { counters } = events;
    const { context, batch } = this;
    context.device.endBatch();
    counters.coalesced += batch.coalesced;
    counters.deferred += batch.deferred;
    if (batch.cancels > 0) this.cancel(batch);
    // A batch that served nothing, before a round that executes nothing: nobody would ever get on.
    this.idle = batch.served === 0 && batch.cancels === 0 && batch.throttled === 0;
    if (events.heard) {
      const { coalesced, deferred, overflow } = batch;
      events.emit({
        type: 'batch.served',
        space: context.space.id,
        device: context.name,
        records: batch.records.length,
        coalesced,
        deferred,
        overflow,
      });
    }
  }

  /** Drops the accesses of cancelled pages, once for each stalled lane. */
  private cancel(batch: FaultBatch): void {
    const { core, events } = this.platform;
    const lanes = new Set<number>();
    for (const { vpn, write, lane } of batch.records) {
      const reason = batch.cancelled(vpn, write);
      if (!reason || lanes.has(lane)) continue;
      lanes.add(lane);
      this.cancelled.push(this.block.next(lane));
      core.exports.laneCancel(this.block.address, lane);
      events.counters.cancelled++;
      if (events.heard)
        events.emit({ type: 'fault.cancelled', space: this.context.space.id, device: this.context.name, vpn, write, lane, reason });
    }
  }

  private finish(run: Run): typeof DONE {
    const { core } = this.platform;
    if (this.values) {
      core.take(core.area(L.AREA_VALUES), this.values, this.n * 2);
      this.order = new Uint32Array(this.executedNow);
      core.take(core.area(L.AREA_ORDER), this.order, this.executedNow);
    }
    this.window?.release();
    this.platform.jobLock.release(run);
    const { turn } = this.context.device;
    if (turn) turn.release(run);
    this.reportEnd(true);
    return DONE;
  }

  private reportBegin(): void {
    const { events } = this.platform;
    const { space, name: device } = this.context;
    if (events.heard) events.emit({ type: 'job.begun', space: space.id, device, accesses: this.n, lanes: this.lanes });
  }

  /** The batch has been served: the lanes that stalled, with a record or without, go on in the next round. */
  private reportReplay(): void {
    const { events } = this.platform;
    if (!events.heard) return;
    const { space, name: device } = this.context;
    const { served, cancels } = this.batch;
    const cause = served > 0 ? 'batch served' : cancels > 0 ? 'batch cancelled' : 'batch deferred';
    const lanes = this.block.stalled;
    events.emit({ type: 'lanes.replayed', space: space.id, device, lanes, round: this.rounds + 1, cause });
  }

  private reportEnd(done: boolean): void {
    const { events } = this.platform;
    if (!events.heard) return;
    const { executedNow: executed, rounds } = this;
    const { space, name: device } = this.context;
    events.emit({ type: 'job.ended', space: space.id, device, executed, cancelled: this.cancelled.length, rounds, done });
  }
}

/** A fault buffer has been fetched: what it had, and what found no room in it. */
export function reportBatch(events: Events, context: Context, records: number, lost: number): void {
  if (!events.heard) return;
  const { space, name: device } = context;
  if (lost > 0) events.emit({ type: 'buffer.overflowed', space: space.id, device, lost });
  events.emit({ type: 'batch.begun', space: space.id, device, records });
}

function checkJob(job: Job): { accesses: readonly JobAccess[]; lanes: number; window: readonly AddressRange[] | undefined } {
  requireObject('job', job, 'an object');
  requireNames('job', job, JOB);
  requireArray('job.accesses', job.accesses);
  const { accesses, lanes = LANES_DEFAULT, window } = job;
  if (window !== undefined) {
    requireArray('job.window', window);
    for (const range of window) {
      requireRange('job.window range', range);
      if (range.end - range.start > WINDOW_BYTES_MAX)
        throw fail('EINVAL', 'job.window range.end', range.end, `is more than ${WINDOW_BYTES_MAX} bytes behind its start`);
    }
  }
  if (accesses.length > L.JOB_ACCESSES_MAX) throw fail('EINVAL', 'job.accesses', accesses.length, `is more than ${L.JOB_ACCESSES_MAX}`);
  if (!Number.isInteger(lanes) || lanes < 1 || lanes > L.LANES_MAX)
    throw fail('EINVAL', 'job.lanes', lanes, `is not a count between 1 and ${L.LANES_MAX}`);
  for (const access of accesses as readonly JobAccess[]) {
    if (typeof access !== 'object' || access === null) throw fail('EINVAL', 'job access', access, 'is not an object');
    const { op, addr, bytes, value = 0 } = access;
    if (op !== 'read' && op !== 'write') throw fail('EINVAL', 'job access op', op, "is not one of: 'read', 'write'");
    if (!Number.isInteger(bytes) || bytes < 1 || bytes > L.ACCESS_LENGTH_MAX)
      throw fail('EINVAL', 'job access bytes', bytes, 'is not between 1 and 4096');
    if (!Number.isSafeInteger(addr) || addr < 0 || addr + bytes > ADDRESSES_END)
      throw fail('EINVAL', 'job access addr', addr, 'is not a byte address below 2^48');
    if (!Number.isSafeInteger(value) || value < 0)
      throw fail('EINVAL', 'job access value', value, 'is not a non-negative integer below 2^53');
  }
  return { accesses, lanes, window };
}

/**
 * Jobs in lanes. A lane runs its accesses in order and stalls at the first one that its table does not permit; faults gather until
 * nobody can go on, and are then served as one batch. So batches have duplicates and overflow, as on hardware.
 */
import { checkAccess, EXECUTED, touched, tryAccess } from './access.ts';
import type { ModelContext } from './context.ts';
import { countBatch } from './counters.ts';
import { PAGE_BYTES } from './frame.ts';
import { fill, observe } from './value.ts';

/** A longer list of accesses is cut into jobs of this length, one after the other. */
export const JOB_ACCESSES_MAX = 65536;

export interface JobAccess {
  addr: number;
  bytes: number;
  write: boolean;
  /** The word that a write stores, see `fill`; 0 unless given. */
  lo?: number;
  hi?: number;
}

/** One record of the fault buffer: page and right, the lane, and the pages first to last that its access touches. */
export interface FaultRecord {
  readonly vpn: number;
  readonly write: boolean;
  readonly lane: number;
  readonly first: number;
  readonly last: number;
}

export interface JobResult {
  /** What each access observed, by its number in the list; 0 for writes and for cancelled accesses. */
  lo: Uint32Array;
  hi: Uint32Array;
  /** Numbers of the accesses in the order they executed in. */
  order: number[];
  /** Numbers of the accesses that were dropped as failed. */
  cancelled: number[];
}

/** Access k belongs to lane k mod `lanes`, counted from the start of each job. */
export function runJob(context: ModelContext, accesses: readonly JobAccess[], lanes: number): JobResult {
  if (!Number.isSafeInteger(lanes) || lanes < 1) throw new RangeError(`lanes ${lanes} is not a positive count`);
  for (const { addr, bytes } of accesses) checkAccess(addr, bytes);
  const job = new Job(context, accesses);
  for (let start = 0; start < accesses.length; start += JOB_ACCESSES_MAX) {
    job.run(start, Math.min(start + JOB_ACCESSES_MAX, accesses.length), lanes);
  }
  return job.result;
}

class Job {
  readonly result: JobResult;
  readonly #context: ModelContext;
  readonly #accesses: readonly JobAccess[];
  #buffer: FaultRecord[] = [];
  readonly #data = new Uint8Array(PAGE_BYTES);

  constructor(context: ModelContext, accesses: readonly JobAccess[]) {
    this.#context = context;
    this.#accesses = accesses;
    this.result = { lo: new Uint32Array(accesses.length), hi: new Uint32Array(accesses.length), order: [], cancelled: [] };
  }

  /** Rounds of running and serving until accesses [start, end) are done. */
  run(start: number, end: number, lanes: number): void {
    const next = Array.from({ length: Math.min(lanes, end - start) }, (_, lane) => start + lane);
    let served = 1;
    for (;;) {
      const executed = this.#round(next, end, lanes);
      if (this.#buffer.length === 0) return;
      if (executed === 0 && served === 0) throw new Error(`no progress: ${this.#context.device.name} serves none of its faults`);
      served = this.#serve(next, lanes);
    }
  }

  /** Turns of one access for each lane that can go on, until none can. Returns how many accesses executed. */
  #round(next: number[], end: number, lanes: number): number {
    let executed = 0;
    const running = next.map((_, lane) => lane).filter((lane) => next[lane]! < end);
    while (running.length > 0) {
      let kept = 0;
      for (const lane of running) {
        if (!this.#try(next[lane]!, lane)) continue;
        executed += 1;
        next[lane]! += lanes;
        if (next[lane]! < end) running[kept++] = lane;
      }
      running.length = kept;
    }
    return executed;
  }

  /** One access of a lane: executed, or its faults recorded as far as the buffer holds them. */
  #try(index: number, lane: number): boolean {
    const { tlb, device, counters } = this.#context;
    const { addr, bytes, write, lo = 0, hi = 0 } = this.#accesses[index]!;
    if (write) fill(this.#data, bytes, { lo, hi });
    if (tryAccess(tlb, addr, bytes, write, this.#data) === EXECUTED) {
      counters.accesses.device += 1;
      counters.accesses[write ? 'write' : 'read'] += 1;
      this.result.order.push(index);
      if (!write) {
        const word = observe(this.#data, bytes);
        this.result.lo[index] = word.lo;
        this.result.hi[index] = word.hi;
      }
      return true;
    }

    const { first, last } = touched(addr, bytes);
    for (let vpn = first; vpn <= last; vpn++) {
      if (tlb.permits(vpn, write)) continue;
      if (this.#buffer.length < device.faultEntries) {
        this.#buffer.push({ vpn, write, lane, first, last });
        counters.faults.devices[device.name]! += 1;
        counters.detail.recorded += 1;
      } else {
        // Lost. The lane stays stalled and will fault again after the replay.
        counters.detail.overflow += 1;
      }
    }
    return false;
  }

  /** One batch. Returns how many faults were served; lanes whose access failed go on to their next. */
  #serve(next: number[], lanes: number): number {
    const { device, counters } = this.#context;
    const records = this.#buffer;
    this.#buffer = [];
    countBatch(counters, records.length);
    const { served, cancelled } = device.serve(this.#context, records);
    for (const lane of cancelled) {
      this.result.cancelled.push(next[lane]!);
      next[lane]! += lanes;
      counters.detail.cancelled += 1;
    }
    return served;
  }
}

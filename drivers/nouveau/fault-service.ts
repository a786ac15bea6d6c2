/**
 * The service of one fault batch: sort, coalesce, serve in ascending order, and stop when VRAM cannot take more without giving up what this batch has brought. The framework replays all
 * stalled lanes afterwards; what was put off faults again.
 *
 * Models: `nouveau_svm_fault`: a bounded buffer, sorted by address and access, duplicates served once, unresolvable faults cancelled, then a replay.
 */
import {
  type Context,
  type DeviceFaultRecord,
  DONE,
  type FaultBatch,
  type Progress,
  type Run,
  type ServeFault,
  settle,
  type Step,
} from '../../sdk/gmem/index.ts';
import type { Vram } from './vram.ts';

/** Records of one page as one fault: the strongest access, the union of the spans. */
interface Merged {
  readonly vpn: number;
  write: boolean;
  /** Whether one of the records only reads. */
  reads: boolean;
  spanStart: number;
  spanEnd: number;
}

export class FaultService implements Step {
  readonly name = 'nouveau fault batch';
  readonly #context: Context;
  readonly #vram: Vram;
  readonly #serve: ServeFault;
  #batch!: FaultBatch;
  #faults: Merged[] = [];
  #next = 0;
  #called = false;

  constructor(context: Context, vram: Vram) {
    this.#context = context;
    this.#vram = vram;
    this.#serve = context.serveStep();
  }

  of(batch: FaultBatch): this {
    this.#batch = batch;
    this.#faults = coalesce(batch.records);
    batch.coalesced += batch.records.length - this.#faults.length;
    this.#next = 0;
    this.#called = false;
    this.#vram.unprotect();
    return this;
  }

  next(run: Run): Progress {
    if (this.#called) {
      this.#called = false;
      const fault = this.#faults[this.#next]!;
      if (!settle(this.#batch, fault, this.#serve.outcome, this.#context)) {
        this.#batch.deferred += this.#faults.length - this.#next;
        return this.#end();
      }
      // A write that is not allowed was cancelled; those who only read the page may still be served.
      if (this.#serve.outcome === 'permission' && fault.write && fault.reads) fault.write = false;
      else this.#next++;
    }
    const fault = this.#faults[this.#next];
    if (!fault) return this.#end();
    this.#protectSpan(fault);
    this.#called = true;
    return run.call(this.#serve.of(fault.vpn, fault.write));
  }

  #end(): typeof DONE {
    this.#vram.unprotect();
    return DONE;
  }

  /** Pages that the access also touches and that are in VRAM must still be there when it is replayed. */
  #protectSpan({ spanStart, spanEnd }: Merged): void {
    for (let vpn = spanStart; vpn < spanEnd; vpn++) {
      const page = this.#context.residency(vpn);
      if (page !== undefined) this.#vram.protect(page);
    }
  }
}

/** Sorted by address, reads before writes; one fault per page. */
function coalesce(records: readonly DeviceFaultRecord[]): Merged[] {
  const merged: Merged[] = [];
  const sorted = [...records].sort((a, b) => a.vpn - b.vpn || Number(a.write) - Number(b.write));
  for (const { vpn, write, spanStart, spanPages } of sorted) {
    const last = merged[merged.length - 1];
    if (last?.vpn !== vpn) {
      merged.push({ vpn, write, reads: !write, spanStart, spanEnd: spanStart + spanPages });
      continue;
    }
    last.write ||= write;
    last.reads ||= !write;
    last.spanStart = Math.min(last.spanStart, spanStart);
    last.spanEnd = Math.max(last.spanEnd, spanStart + spanPages);
  }
  return merged;
}

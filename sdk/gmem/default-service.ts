/**
 * The framework's own fault service: every record of a batch in the order of its coming. A driver that wants to sort, merge or choose gives a `fault` family instead.
 */
import * as L from '../../assembly/layout.ts';
import { fail } from '../errors.ts';
import type { Platform } from '../mm/platform.ts';
import { DONE, type Progress, type Run, type Step } from '../step/step.ts';
import type { Context } from './context.ts';
import type { FaultBatch } from './fault-batch.ts';
import { ServeFault, type ServeOutcome } from './serve.ts';

export class DefaultService implements Step {
  readonly name = 'serve batch';
  readonly #context: Context;
  readonly #serve: ServeFault;
  #batch!: FaultBatch;
  #next = 0;
  #called = false;

  constructor(platform: Platform, context: Context) {
    this.#context = context;
    this.#serve = new ServeFault(platform, context);
  }

  of(batch: FaultBatch): this {
    this.#batch = batch;
    this.#next = 0;
    this.#called = false;
    return this;
  }

  next(run: Run): Progress {
    const { records } = this.#batch;
    if (this.#called) {
      this.#called = false;
      const record = records[this.#next]!;
      if (!settle(this.#batch, record, this.#serve.outcome, this.#context)) {
        this.#batch.deferred += records.length - this.#next;
        return DONE;
      }
      this.#next++;
    }
    if (this.#next === records.length) return DONE;
    const { vpn, write, spanStart, spanPages } = records[this.#next]!;
    this.#spare(spanStart, spanPages);
    this.#called = true;
    return run.call(this.#serve.of(vpn, write));
  }

  /** What the access also touches and is there must not be evicted before its lane has run. */
  #spare(start: number, pages: number): void {
    const memory = this.#context.device.memory;
    if (!memory) return;
    for (let vpn = start; vpn < start + pages; vpn++) {
      const page = this.#context.residency(vpn);
      if (page !== undefined) memory.spared.add(memory.node.base + page);
    }
  }
}

/** Enters an outcome into a batch. Returns false when the batch ends here, the record and all later ones being deferred. Throws for what no replay can mend. */
export function settle(
  batch: FaultBatch,
  fault: { readonly vpn: number; readonly write: boolean },
  outcome: ServeOutcome,
  context: Context,
): boolean {
  const { vpn, write } = fault;
  switch (outcome) {
    case 'served':
      batch.served++;
      return true;
    case 'present':
      batch.served++;
      batch.coalesced++;
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
      throw fail('ENOMEM', `${context.name} fault at`, vpn * L.PAGE_BYTES, 'needs a host page, and host memory is exhausted');
    case 'bus error':
      throw fail('EIO', `${context.name} fault at`, vpn * L.PAGE_BYTES, 'is on a page whose bytes cannot be had');
  }
}

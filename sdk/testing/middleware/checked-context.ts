/** One context whose calls are checked, both ways: in which order its operations come, what they are given, and what they answer. */
import * as L from '../../../assembly/layout.ts';
import {
  type Access,
  type Context,
  type Copies,
  type FaultBatch,
  isTicket,
  type Mappings,
  type Ranges,
  type Step,
  type Ticket,
  type Translation,
  type Walk,
} from '../../gmem/index.ts';
import { CheckedAddresses } from './checked-addresses.ts';
import { CheckedBatches } from './checked-batches.ts';
import type { CheckedDevice } from './checked-device.ts';
import { CheckedTranslations } from './checked-translations.ts';
import { type CallingRule, requireNothing } from './checks.ts';
import type { DriverOperation } from './faulty.ts';
import { lend, lendCopies, type Lent } from './lend.ts';
import { Serving } from './serving.ts';
import { ShadowTable } from './shadow.ts';

type Marks = Parameters<NonNullable<Walk['harvest']>>[1];

export class CheckedContext {
  readonly context: Context;
  /** It has a TLB of its own, which is to be told what is released. */
  hasCaches = false;
  /** It translates by itself: what it answers is compared with what it was given. */
  translates = false;
  /** It may install translations without `pmap.enter`. */
  entersItself = false;
  /** Its table was filled before this saw it. */
  restored = false;
  readonly addresses: CheckedAddresses;
  readonly batches: CheckedBatches;
  readonly #translations: CheckedTranslations;
  readonly #shadow = new ShadowTable();
  readonly #device: CheckedDevice;
  /** Released, and the caches have not been told. */
  #owed: [vpn: number, pages: number][] = [];
  #depth = 0;
  /** Verbs of the machine that the running operation runs. */
  #verbs = 0;
  #left: 'no' | 'detached' | 'destroyed' = 'no';

  constructor(device: CheckedDevice, context: Context) {
    this.#device = device;
    this.context = context;
    this.addresses = new CheckedAddresses(this);
    this.batches = new CheckedBatches(this, this.#shadow);
    this.#translations = new CheckedTranslations(this, this.#shadow);
  }

  report(rule: CallingRule, operation: DriverOperation, detail: string): void {
    this.#device.checks.add(rule, operation, detail);
  }

  #terms(operation: DriverOperation, what: string, fills = false): Parameters<typeof lend>[1] {
    return { operation, what, fills, broken: (detail) => this.report('lent lists', operation, detail) };
  }

  /** An operation of this context. */
  run<T>(operation: DriverOperation, call: () => T): T {
    this.batches.settle();
    if (this.#left !== 'no' && operation !== 'pmap.destroy') this.report('leaving', operation, 'is called after detach');
    this.#requireTold(operation);
    return this.alone(operation, call);
  }

  /** A call of the driver, during which nobody may call the machine. */
  alone<T>(operation: DriverOperation, call: () => T): T {
    // What a verb asks for that the driver runs from inside an operation is the driver's own doing, and has been reported.
    if (this.#depth > 0 && this.#verbs === 0)
      this.report('one at a time', operation, 'is entered while another operation of this context runs');
    this.#depth++;
    const { scheduler } = this.context['platform'];
    const { runSync, runAsync } = scheduler;
    const hadOwn = Object.hasOwn(scheduler, 'runSync');
    const verb = <R>(step: Step, run: () => R): R => {
      this.#verbs++;
      try {
        this.report('calls back', operation, `runs "${step.name}" of the machine that it serves`);
        return run();
      } finally {
        this.#verbs--;
      }
    };
    scheduler.runSync = (step) => verb(step, () => runSync.call(scheduler, step));
    scheduler.runAsync = (step) => verb(step, () => runAsync.call(scheduler, step));
    try {
      return call();
    } finally {
      this.#depth--;
      if (hadOwn) Object.assign(scheduler, { runSync, runAsync });
      else {
        Reflect.deleteProperty(scheduler, 'runSync');
        Reflect.deleteProperty(scheduler, 'runAsync');
      }
    }
  }

  /** The same with ranges, which are lent. */
  #lending<T>(operation: DriverOperation, ranges: Ranges, call: (lent: Ranges) => T): T {
    this.#requireRanges(operation, ranges);
    const lent = lend(ranges, this.#terms(operation, 'ranges'));
    return this.#whileLent(operation, lent, call);
  }

  enter(mappings: Mappings, call: (lent: Mappings) => void): void {
    this.#translations.requireMapped(mappings);
    let entered = false;
    try {
      const answer: unknown = this.#whileLent('pmap.enter', lend(mappings, this.#terms('pmap.enter', 'mappings')), call);
      entered = true;
      requireNothing(this.#device.checks, 'pmap.enter', answer);
    } finally {
      this.#shadow.enter(mappings, !entered);
    }
  }

  release(ranges: Ranges, call: (lent: Ranges) => void): void {
    // Several releases may come before the caches are told of all.
    const owed = this.#owed;
    this.#owed = [];
    const answer: unknown = this.#lending('pmap.release', ranges, call);
    this.#shadow.release(ranges);
    this.#owed = owed;
    if (this.hasCaches) ranges.each((vpn, pages) => this.#owed.push([vpn, pages]));
    else this.#shadow.flush(undefined);
    requireNothing(this.#device.checks, 'pmap.release', answer);
  }

  protect(ranges: Ranges, write: boolean, call: (lent: Ranges) => void): void {
    if (typeof write !== 'boolean') this.report('arguments', 'pmap.protect', `${String(write)} is not a right to write`);
    const answer: unknown = this.#lending('pmap.protect', ranges, call);
    this.#shadow.protect(ranges, write);
    requireNothing(this.#device.checks, 'pmap.protect', answer);
  }

  destroy(call: () => void): void {
    if (this.#left !== 'detached') {
      this.report('leaving', 'pmap.destroy', this.#left === 'no' ? 'is called before detach' : 'is called twice');
    }
    this.#left = 'destroyed';
    requireNothing(this.#device.checks, 'pmap.destroy', this.run('pmap.destroy', call) as unknown);
  }

  detach(call: () => void): void {
    this.addresses.requireFreed();
    const answer: unknown = this.run('detach', call);
    this.#left = 'detached';
    requireNothing(this.#device.checks, 'detach', answer);
    this.#device.left(this);
  }

  invalidate(
    operation: 'tlb.invalidate' | 'tlb.invalidateCoalesced',
    ranges: Ranges,
    call: (lent: Ranges) => Ticket | void,
  ): Ticket | void {
    const owed = this.#owed;
    this.#owed = [];
    for (const [vpn, pages] of owed) {
      if (!covers(ranges, vpn, pages)) {
        this.report(
          'taking away',
          operation,
          `pages ${vpn} to ${vpn + pages - 1} were released, and are not among what the caches are told of`,
        );
      }
    }
    const answer = this.#lending(operation, ranges, call);
    this.requireTicket(operation, answer);
    this.#shadow.flush(isTicket(answer) ? answer : undefined);
    return answer;
  }

  translate(vpn: number, access: Access, call: () => Translation | undefined): Translation | undefined {
    if (!Number.isInteger(vpn) || vpn < 0 || vpn >= 2 ** L.VPN_BITS)
      this.report('arguments', 'walk.translate', `${String(vpn)} is not a page number`);
    if (access !== 'read' && access !== 'write') this.report('arguments', 'walk.translate', `${String(access)} is not an access`);
    const answer = this.run('walk.translate', call);
    if (answer !== undefined) this.#translations.requireAnswer(vpn, access, answer);
    return answer;
  }

  harvest(ranges: Ranges, marks: Marks, call: (lent: Ranges, lentMarks: Marks) => void): void {
    const operation = 'walk.harvest';
    const lentMarks = lend(marks, this.#terms(operation, 'marks', true));
    const before = marks.count;
    try {
      this.#lending(operation, ranges, (lent) => call(lent, lentMarks.list));
    } finally {
      lentMarks.end();
    }
    let i = 0;
    marks.each((vpn) => {
      if (i++ >= before && !covers(ranges, vpn, 1)) this.report('answers', operation, `page ${vpn} is marked, which was not asked for`);
    });
  }

  copy(
    what: 'toDevice' | 'toHost' | 'peer' | 'zero' | 'phys.preparePage',
    copies: Copies,
    call: (lent: Copies) => Ticket | void,
  ): Ticket | void {
    const operation = what === 'phys.preparePage' ? what : (`copy.${what}` as const);
    const direction = what === 'phys.preparePage' ? 'toDevice' : what;
    copies.each((pages, fromMemory, _fromPage, toMemory) => {
      if (!Number.isInteger(pages) || pages < 1) this.report('arguments', operation, `${String(pages)} pages are to be copied`);
      // Between two devices one of the sides is its own; the other one is below HOST.
      if (direction === 'peer') {
        if (fromMemory >= 0 === toMemory >= 0)
          this.report('arguments', operation, `copies go from memory ${fromMemory} to memory ${toMemory}`);
      } else if (direction === 'toHost' ? toMemory >= 0 : toMemory < 0)
        this.report('arguments', operation, `memory ${toMemory} is where copies go`);
    });
    if (copies.count === 0) this.report('arguments', operation, 'there is nothing to copy');
    const lent = lendCopies(copies, direction, this.#terms(operation, 'copies'));
    const answer = this.#whileLent(operation, lent, call);
    this.requireTicket(operation, answer);
    return answer;
  }

  service(batch: FaultBatch, call: (lent: FaultBatch) => Step): Step {
    if (batch.records.length === 0) this.report('arguments', 'fault.service', 'a batch without records is to be served');
    const lent = lend(batch, this.#terms('fault.service', 'batch', true));
    const step = this.stepOf('fault.service', () => call(lent.list));
    if (typeof step?.next !== 'function') return step;
    return new Serving(step, () => {
      lent.end();
      for (const field of ['served', 'coalesced', 'deferred'] as const) {
        if (!Number.isInteger(batch[field]) || batch[field] < 0) {
          this.report('answers', 'fault.service', `${field} of the batch is ${String(batch[field])} and not a count`);
        }
      }
    });
  }

  stepOf<S extends Step>(operation: 'command' | 'fault.service', call: () => S): S {
    const step = this.run(operation, call);
    if (typeof step !== 'object' || step === null || typeof step.next !== 'function') {
      this.report('answers', operation, `${typeof step} is returned and not a step`);
    }
    return step;
  }

  requireNow(operation: DriverOperation, answer: object): void {
    if (typeof (answer as { then?: unknown }).then === 'function') {
      this.report('answers', operation, 'returns a promise: an operation that takes its time returns a ticket');
    }
  }

  /** A page of the device's first memory comes free. */
  freed(page: number, operation: 'phys.freePage' | 'peer.freePage' = 'phys.freePage'): void {
    if (this.context.failure) return;
    this.batches.settle();
    this.#requireTold(operation);
    const frame = this.context.frameOf({ vpn: 0, memory: 0, page, write: false });
    if (this.#shadow.maps(frame))
      this.report('taking away', operation, `page ${page} comes free, and is entered in space ${this.context.space.id}`);
    if (this.#shadow.isBeingFlushed(frame)) {
      this.report('taking away', operation, `page ${page} comes free, and the flush of its translation is not finished`);
    }
  }

  #whileLent<L, T>(operation: DriverOperation, { list, end }: Lent<L>, call: (lent: L) => T): T {
    try {
      return this.run(operation, () => call(list));
    } finally {
      end();
    }
  }

  /** Nothing comes between the release of a page and the word to the caches. */
  #requireTold(operation: DriverOperation): void {
    const [first] = this.#owed;
    if (!first || this.context.failure) return;
    this.#owed = [];
    this.report('taking away', operation, `is called after the release of page ${first[0]} and before tlb.invalidate of it`);
  }

  #requireRanges(operation: DriverOperation, ranges: Ranges): void {
    if (ranges.count === 0) this.report('arguments', operation, 'there are no ranges');
    ranges.each((vpn, pages) => {
      if (Number.isSafeInteger(vpn) && Number.isSafeInteger(pages) && vpn >= 0 && pages >= 1 && vpn + pages <= 2 ** L.VPN_BITS) return;
      this.report('arguments', operation, `${String(pages)} pages from ${String(vpn)} are not a range of an address space`);
    });
  }

  requireTicket(operation: DriverOperation, answer: unknown): void {
    if (answer === undefined) return;
    if (!isTicket(answer)) {
      const promise = typeof answer === 'object' && answer !== null && 'then' in answer;
      this.report(
        'answers',
        operation,
        promise ? 'returns a promise: work that takes its time is a ticket' : `${String(answer)} is not a ticket`,
      );
      return;
    }
    const { tickets } = this.context['platform'];
    if (answer.state === 'pending' && tickets.find(answer.id) !== answer)
      this.report('tickets', operation, `${answer.label} is of another machine`);
    this.#device.checks.returned(answer, operation);
  }
}

/** Whether the ranges have all of these pages. */
function covers(ranges: Ranges, vpn: number, pages: number): boolean {
  const whole: [number, number][] = [];
  ranges.each((start, count) => whole.push([start, start + count]));
  whole.sort(([a], [b]) => a - b);
  let at = vpn;
  for (const [start, end] of whole) if (start <= at && end > at) at = end;
  return at >= vpn + pages;
}

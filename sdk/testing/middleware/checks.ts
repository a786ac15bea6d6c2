/**
 * The calling rules between the framework and a driver, who has to keep each, and the violations of them that `checked` has found.
 *
 * The framework's promises to a driver (`by: 'framework'`):
 *
 * ```
 *   one at a time        an operation of a context is not entered while another one of it runs
 *   locked               translations are entered under the driver lock of the context (the answer of a range fault), with the page lock of what moves or is exclusive (a migration, an exclusive page),
 *                        or with the mmap lock of the space, shared at least (a page that is in the device's own memory already); in replicate mode also in the turn in which the CPU gets them
 *   as mapped            what is entered is what the CPU's table says at that moment: a VMA that may be read, that very frame (or the new one of a page whose old one is locked and moving),
 *                        writable only where the VMA is
 *   quiet                nothing is entered while an invalidation of the space is running
 *   taking away          release, then invalidate of the same pages, with nothing of the context in between; then copies; then freePage. A page comes free when no context has it entered, and no
 *                        flush of it is unfinished
 *   pages once           freePage gives back what allocPage gave, once; when the last context has left, all of it is back
 *   leaving              after detach comes pmap.destroy, and nothing else
 *   addresses            peerVa is asked for whole pages that it has not reserved, and frees what it has; before detach all of it
 *   batches              what a device is to bring by itself is locked, lies where the program may have it, and is writable only there; what it is to take is locked, too
 *   arguments            pages, counts, rights and memories are numbers that there are
 * ```
 *
 * The driver's duties (`by: 'driver'`):
 *
 * ```
 *   lent lists           no list is used after its call, none is changed, nor bytes that are to be read
 *   answers              what an operation returns has the right type; no promise; a harvest names pages it was asked for
 *   tickets              of this machine, and completed in the end
 *   translations         translate answers for the page asked, with a page of a memory that there is, as it was entered last: not after the release, not with more rights
 *   allocator            allocPage gives no page that is in use; victims are pages in use, each once, none of them spared; importPages gives pages that there are, each once
 *   results              peer.unmap succeeds where nothing is copied; an item is as it was lent, but for its answer and the page that it was given; what succeeds is translated as it was asked for, and what
 *                        does not, as before
 *   calls back           no operation runs a verb of its machine
 * ```
 */
import { fail, isTicket, type Ticket } from '../../gmem/index.ts';
import { type NamesOf, requireBoolean, requireOptions } from '../../mm/arguments.ts';
import type { DriverOperation } from './faulty.ts';

/** Rules, and who has to keep each. */
const RULES = {
  'one at a time': 'framework',
  locked: 'framework',
  'as mapped': 'framework',
  quiet: 'framework',
  'taking away': 'framework',
  'pages once': 'framework',
  leaving: 'framework',
  addresses: 'framework',
  batches: 'framework',
  arguments: 'framework',
  'lent lists': 'driver',
  answers: 'driver',
  tickets: 'driver',
  translations: 'driver',
  allocator: 'driver',
  results: 'driver',
  'calls back': 'driver',
} as const;

/** A calling rule. */
export type CallingRule = keyof typeof RULES;

/** All calling rules. */
export const CALLING_RULES: readonly CallingRule[] = Object.keys(RULES) as CallingRule[];

/** A rule that was broken. */
export interface Violation {
  readonly rule: CallingRule;
  readonly operation: DriverOperation;
  /** What happened, with the numbers. */
  readonly detail: string;
  readonly by: 'driver' | 'framework';
}

/** What a broken rule throws, when it is to. */
export class BrokenRule extends Error {
  readonly violation: Violation;

  constructor(violation: Violation) {
    super(printViolation(violation));
    this.name = 'BrokenRule';
    this.violation = violation;
  }
}

function printViolation({ rule, operation, detail, by }: Violation): string {
  return `${operation}: ${detail} (rule "${rule}", broken by the ${by})`;
}

/** How `checked` reacts, and how much it keeps. */
export interface CheckOptions {
  /** Throws a BrokenRule at once, in the operation: the context fails with it. Default false: violations are collected. */
  readonly throw?: boolean;
  /** Violations that are kept. Default 1000. */
  readonly max?: number;
}

const CHECK_OPTIONS: NamesOf<CheckOptions> = { throw: true, max: true };

/** What `checked` has found, for one driver or several. */
export class Checks {
  readonly violations: Violation[] = [];
  /** Violations that were found after the list was full. */
  dropped = 0;
  readonly #throws: boolean;
  readonly #max: number;
  readonly #tickets = new Map<Ticket, DriverOperation>();

  constructor(options: CheckOptions = {}) {
    requireOptions('checks', options, CHECK_OPTIONS);
    const { throw: throws = false, max = 1000 } = options;
    requireBoolean('checks.throw', throws);
    if (!Number.isSafeInteger(max) || max < 1) throw fail('EINVAL', 'checks.max', max, 'is not a positive count of violations');
    this.#throws = throws;
    this.#max = max;
  }

  /** A line for each violation. */
  text(): string {
    const lines = this.violations.map(printViolation);
    if (this.dropped > 0) lines.push(`... and ${this.dropped} more`);
    return lines.join('\n');
  }

  /** Everything is over: tickets that are pending now will never be completed. Returns the violations. */
  finish(): readonly Violation[] {
    for (const [ticket, operation] of this.#tickets) {
      if (ticket.state === 'pending') this.add('tickets', operation, `${ticket.label} was returned and never completed`, false);
    }
    this.#tickets.clear();
    return this.violations;
  }

  /** @internal */
  add(rule: CallingRule, operation: DriverOperation, detail: string, throws: boolean = this.#throws): void {
    const violation: Violation = { rule, operation, detail, by: RULES[rule] };
    if (this.violations.length < this.#max) this.violations.push(violation);
    else this.dropped++;
    if (throws) throw new BrokenRule(violation);
  }

  /** @internal */
  returned(ticket: Ticket, operation: DriverOperation): void {
    if (ticket.state === 'pending') this.#tickets.set(ticket, operation);
    if (this.#tickets.size > 64) for (const known of this.#tickets.keys()) if (known.state !== 'pending') this.#tickets.delete(known);
  }
}

/** Operations that return nothing, and are finished when they return. */
export function requireNothing(checks: Checks, operation: DriverOperation, answer: unknown): void {
  if (typeof answer !== 'object' || answer === null) return;
  if (isTicket(answer)) checks.add('answers', operation, 'returns a ticket, for which nobody waits: it has to be finished when it returns');
  else if ('then' in answer)
    checks.add('answers', operation, 'returns a promise, for which nobody waits: it has to be finished when it returns');
}

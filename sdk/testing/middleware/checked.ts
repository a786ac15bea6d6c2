/**
 * `checked(driver, checks)`: the calling rules, both sides of them. What the driver is given is lent (see `lend.ts`); what it answers, and what the framework asks of it, is compared with what went before.
 *
 * ```ts
 * const checks = new Checks();
 * const gpu = machine.addDevice(checked(myDriver(), checks));
 * ...
 * checks.finish();
 * console.log(checks.text());       // nothing, or a line for each rule that was broken
 * ```
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
 *
 * A driver that installs translations by itself (`context.hmm`, from a command) is known by what it answers only: that is compared with the CPU's table. Of the ready-made table and TLB nothing is seen: the core calls
 * them; who translates by himself in front of that table is held to what it has. With `faulty` around `checked`, calls that are late or half done look like the framework's: put `checked` around `faulty`. A machine that is saved while a fault service runs cannot
 * be restored under `checked`.
 */
import * as L from '../../../assembly/layout.ts';
import {
  type Access,
  type Context,
  type Copies,
  DeviceTable,
  DONE,
  type Driver,
  fail,
  type FaultBatch,
  isTicket,
  type Mappings,
  type PeerBatch,
  type PeerItem,
  type PeerVa,
  type Progress,
  type Ranges,
  type Run,
  type Step,
  type Ticket,
  type Translation,
} from '../../gmem/index.ts';
import { HUGE_PAGES } from '../../mm/huge-window.ts';
import { PROT_READ, PROT_WRITE } from '../../mm/vma.ts';
import type { DriverOperation } from './faulty.ts';
import { lend, lendCopies, type Lent } from './lend.ts';
import { ReservedAddresses } from './reserved.ts';
import { ShadowTable } from './shadow.ts';
import { requireBoolean, requireObject, requireOptions } from '../../mm/arguments.ts';
import { withOperations, wrapDriver } from './wrap.ts';

const VPN_LIMIT = 2 ** L.VPN_BITS;

type PeerVaAnswer = ReturnType<PeerVa['allocFixed']>;

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

/** What `checked` has found, for one driver or several. */
export class Checks {
  readonly violations: Violation[] = [];
  /** Violations that were found after the list was full. */
  dropped = 0;
  readonly #throws: boolean;
  readonly #max: number;
  readonly #tickets = new Map<Ticket, DriverOperation>();

  constructor(options: CheckOptions = {}) {
    requireOptions('checks', options);
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

/** The driver, with its calls checked. What is found is in `checks`; without it the first violation is thrown. */
export function checked<D extends Driver>(driver: D, checks: Checks = new Checks({ throw: true })): D {
  requireObject('driver', driver, 'a driver (an object made by a defineDriver factory)');
  if (!(checks instanceof Checks)) throw fail('EINVAL', 'checked.checks', checks, 'is not a Checks');
  const device = new CheckedDevice(driver, checks);
  return wrapDriver(driver, {
    attach: (context, attach) => device.attach(context, attach),
    pmap: (pmap, context) => {
      const at = device.of(context);
      return withOperations(pmap, {
        create: () => requireNothing(checks, 'pmap.create', at.run('pmap.create', () => pmap.create!()) as unknown),
        enter: (mappings) => at.enter(mappings, (lent) => pmap.enter(lent)),
        release: (ranges) => at.release(ranges, (lent) => pmap.release(lent)),
        protect: (ranges, write) => at.protect(ranges, write, (lent) => pmap.protect!(lent, write)),
        destroy: () => at.destroy(() => pmap.destroy!()),
      });
    },
    tlb: (tlb, context) => {
      const at = device.of(context);
      at.hasCaches = true;
      return withOperations(tlb, {
        invalidate: (ranges) => at.invalidate('tlb.invalidate', ranges, (lent) => tlb.invalidate(lent)),
        invalidateCoalesced: (ranges) => at.invalidate('tlb.invalidateCoalesced', ranges, (lent) => tlb.invalidateCoalesced!(lent)),
      });
    },
    walk: (walk, context) => {
      const at = device.of(context);
      at.translates = true;
      return withOperations(walk, {
        translate: (vpn, access) => at.translate(vpn, access, () => walk.translate(vpn, access)),
        harvest(ranges, marks) {
          const lentMarks = lend(marks, at.terms('walk.harvest', 'marks', true));
          const before = marks.count;
          try {
            at.lending('walk.harvest', ranges, (lent) => walk.harvest!(lent, lentMarks.list));
          } finally {
            lentMarks.end();
          }
          let i = 0;
          marks.each((vpn) => {
            if (i++ >= before && !covers(ranges, vpn))
              at.report('answers', 'walk.harvest', `page ${vpn} is marked, which was not asked for`);
          });
        },
      });
    },
    copy: (copy, context) => {
      const at = device.of(context);
      return withOperations(copy, {
        toDevice: (copies) => at.copy('toDevice', copies, (lent) => copy.toDevice!(lent)),
        toHost: (copies) => at.copy('toHost', copies, (lent) => copy.toHost!(lent)),
        peer: (copies) => at.copy('peer', copies, (lent) => copy.peer!(lent)),
        zero: (copies) => at.copy('zero', copies, (lent) => copy.zero!(lent)),
      });
    },
    phys: (phys) =>
      withOperations(phys, {
        allocPage: () => device.allocPage(() => phys.allocPage()),
        freePage: (page) => device.freePage(page, () => phys.freePage(page)),
        preparePage: (copies) => device.prepare(copies, (lent) => phys.preparePage!(lent)),
        victims: (spared) => device.victims(spared, () => phys.victims!(spared)),
      }),
    peer: (peer, context) => {
      const at = device.of(context);
      return withOperations(peer, {
        map: (batch) => at.bring(batch, () => peer.map(batch)),
        unmap: (batch) => at.take(batch, () => peer.unmap(batch)),
        importPages: (count) => device.importPages(count, () => at.run('peer.importPages', () => peer.importPages!(count))),
        freePage: (page, pages) => device.freePeerPage(page, pages, () => at.alone('peer.freePage', () => peer.freePage!(page, pages))),
      });
    },
    fault: (fault, context) => {
      const at = device.of(context);
      return withOperations(fault, { service: (batch) => at.service(batch, (lent) => fault.service(lent)) });
    },
    peerVa: (peerVa, context) => {
      const at = device.of(context);
      return withOperations(peerVa, {
        allocFixed: (start, bytes, prot) => at.allocFixed(start, bytes, prot, () => peerVa.allocFixed(start, bytes, prot)),
        free: (start, bytes) => at.freeAddresses(start, bytes, () => peerVa.free(start, bytes)),
      });
    },
    command: (command, context) => {
      const at = device.of(context);
      at.entersItself = true;
      return (request) => at.stepOf('command', () => command(request));
    },
    detach: (detach, context) => () => device.of(context).detach(() => detach?.()),
  });
}

/** What the contexts of one driver share: its allocator. */
class CheckedDevice {
  readonly checks: Checks;
  readonly contexts = new Set<CheckedContext>();
  readonly #byContext = new WeakMap<Context, CheckedContext>();
  readonly #pages: number;
  /** Pages that allocPage has given and freePage has not given back. */
  readonly #used = new Set<number>();
  /** Pages that it has handed out beforehand. */
  readonly #imported = new Set<number>();
  /** The allocator was filled before this saw it: a saved machine was restored. */
  #restored = false;
  #depth = 0;

  constructor(driver: Driver, checks: Checks) {
    this.checks = checks;
    this.#pages = (driver.memory?.[0]?.bytes ?? 0) / L.PAGE_BYTES;
  }

  of(context: Context): CheckedContext {
    return this.#byContext.get(context)!;
  }

  attach<T>(context: Context, attach: () => T): T {
    const at = new CheckedContext(this, context);
    this.#byContext.set(context, at);
    // A context that is restored is one of its space already.
    if (context.space.mirrors.includes(context)) {
      at.restored = true;
      this.#restored = true;
    }
    const mmu = at.run('attach', attach);
    this.contexts.add(at);
    if (typeof mmu !== 'object' || mmu === null) at.report('answers', 'attach', `${String(mmu)} is returned and not an object of families`);
    else at.requireNow('attach', mmu);
    return mmu;
  }

  left(at: CheckedContext): void {
    this.contexts.delete(at);
    if (this.contexts.size > 0 || this.#used.size === 0 || at.context.failure || this.#restored) return;
    this.checks.add(
      'pages once',
      'detach',
      `${this.#used.size} pages are not handed back when the last context leaves: ${printPages(this.#used)}`,
    );
  }

  allocPage(call: () => number | undefined): number | undefined {
    const page = this.#run('phys.allocPage', call);
    if (page === undefined) return undefined;
    if (!this.#isPage(page)) this.checks.add('answers', 'phys.allocPage', `${String(page)} is not a page below ${this.#pages}`);
    else if (this.#used.has(page)) this.checks.add('allocator', 'phys.allocPage', `page ${page} is in use already`);
    else this.#used.add(page);
    return page;
  }

  freePage(page: number, call: () => void): void {
    if (!this.#isPage(page)) this.checks.add('arguments', 'phys.freePage', `${String(page)} is not a page below ${this.#pages}`);
    if (!this.#used.delete(page) && !this.#restored) {
      this.checks.add('pages once', 'phys.freePage', `page ${page} is given back, which was not handed out, or is back already`);
    }
    if (this.#isPage(page)) for (const at of this.contexts) at.freed(page);
    const answer: unknown = this.#run('phys.freePage', call);
    requireNothing(this.checks, 'phys.freePage', answer);
  }

  prepare(copies: Copies, call: (lent: Copies) => Ticket | void): Ticket | void {
    const [any] = this.contexts;
    return any ? any.copy('phys.preparePage', copies, call) : call(copies);
  }

  importPages(count: number, call: () => readonly number[]): readonly number[] {
    const operation = 'peer.importPages';
    if (!Number.isInteger(count) || count < 1) this.checks.add('arguments', operation, `${String(count)} pages are to be imported`);
    const pages = call();
    if (!Array.isArray(pages)) {
      this.checks.add('answers', operation, `${String(pages)} is not a list of pages`);
      return pages;
    }
    if (pages.length > count) this.checks.add('answers', operation, `${pages.length} pages are given, and ${count} were asked for`);
    for (const page of pages as readonly unknown[]) {
      if (!this.#isPage(page)) this.checks.add('answers', operation, `${String(page)} is not a page below ${this.#pages}`);
      else if (this.#imported.has(page)) this.checks.add('allocator', operation, `page ${page} has been handed out already`);
      else this.#imported.add(page);
    }
    return pages;
  }

  freePeerPage(page: number, pages: number, call: () => void): void {
    const operation = 'peer.freePage';
    const whole = pages === 1 || pages === HUGE_PAGES;
    if (!whole || !this.#isPage(page) || !this.#isPage(page + pages - 1))
      this.checks.add('arguments', operation, `${String(pages)} pages from ${String(page)} are not pages below ${this.#pages}`);
    else for (const at of this.contexts) for (let i = 0; i < pages; i++) at.freed(page + i, operation);
    requireNothing(this.checks, operation, call() as unknown);
  }

  victims(spared: (page: number) => boolean, call: () => readonly number[]): readonly number[] {
    const pages = this.#run('phys.victims', call);
    if (!Array.isArray(pages)) {
      this.checks.add('answers', 'phys.victims', `${String(pages)} is not a list of pages`);
      return pages;
    }
    const seen = new Set<unknown>();
    for (const page of pages as readonly number[]) {
      if (!this.#isPage(page)) this.checks.add('answers', 'phys.victims', `${String(page)} is not a page below ${this.#pages}`);
      else if (!this.#used.has(page) && !this.#restored) this.checks.add('allocator', 'phys.victims', `page ${page} is not in use`);
      else if (spared(page)) this.checks.add('allocator', 'phys.victims', `page ${page} is spared`);
      if (seen.has(page)) this.checks.add('allocator', 'phys.victims', `page ${page} is named twice`);
      seen.add(page);
    }
    return pages;
  }

  #isPage(page: unknown): page is number {
    return typeof page === 'number' && Number.isInteger(page) && page >= 0 && page < this.#pages;
  }

  #run<T>(operation: DriverOperation, call: () => T): T {
    if (this.#depth > 0) this.checks.add('one at a time', operation, 'is entered while another operation of the allocator runs');
    this.#depth++;
    try {
      const [any] = this.contexts;
      return any ? any.alone(operation, call) : call();
    } finally {
      this.#depth--;
    }
  }
}

/** One context. */
class CheckedContext {
  readonly context: Context;
  /** It has a TLB of its own, which is to be told what is released. */
  hasCaches = false;
  /** It translates by itself: what it answers is compared with what it was given. */
  translates = false;
  /** It may install translations without `pmap.enter`. */
  entersItself = false;
  /** Its table was filled before this saw it. */
  restored = false;
  readonly #device: CheckedDevice;
  readonly #shadow = new ShadowTable();
  readonly #addresses = new ReservedAddresses();
  /** Released, and the caches have not been told. */
  #owed: [vpn: number, pages: number][] = [];
  /** Batches whose results have not come. */
  readonly #batches: Lending[] = [];
  #depth = 0;
  /** Verbs of the machine that the running operation runs. */
  #verbs = 0;
  #left: 'no' | 'detached' | 'destroyed' = 'no';

  constructor(device: CheckedDevice, context: Context) {
    this.#device = device;
    this.context = context;
  }

  report(rule: CallingRule, operation: DriverOperation, detail: string): void {
    this.#device.checks.add(rule, operation, detail);
  }

  terms(operation: DriverOperation, what: string, fills = false): Parameters<typeof lend>[1] {
    return { operation, what, fills, broken: (detail) => this.report('lent lists', operation, detail) };
  }

  /** An operation of this context. */
  run<T>(operation: DriverOperation, call: () => T): T {
    this.#settleBatches();
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
  lending<T>(operation: DriverOperation, ranges: Ranges, call: (lent: Ranges) => T): T {
    this.#requireRanges(operation, ranges);
    const lent = lend(ranges, this.terms(operation, 'ranges'));
    return this.#whileLent(operation, lent, call);
  }

  enter(mappings: Mappings, call: (lent: Mappings) => void): void {
    this.#requireEnter(mappings);
    let entered = false;
    try {
      const answer: unknown = this.#whileLent('pmap.enter', lend(mappings, this.terms('pmap.enter', 'mappings')), call);
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
    const answer: unknown = this.lending('pmap.release', ranges, call);
    this.#shadow.release(ranges);
    this.#owed = owed;
    if (this.hasCaches) ranges.each((vpn, pages) => this.#owed.push([vpn, pages]));
    else this.#shadow.flush(undefined);
    requireNothing(this.#device.checks, 'pmap.release', answer);
  }

  protect(ranges: Ranges, write: boolean, call: (lent: Ranges) => void): void {
    if (typeof write !== 'boolean') this.report('arguments', 'pmap.protect', `${String(write)} is not a right to write`);
    const answer: unknown = this.lending('pmap.protect', ranges, call);
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
    const left = this.#addresses.within(0, Infinity);
    if (left > 0 && !this.context.failure) this.report('addresses', 'detach', `${left} bytes of addresses have not been freed`);
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
      if (!coversRange(ranges, vpn, pages)) {
        this.report(
          'taking away',
          operation,
          `pages ${vpn} to ${vpn + pages - 1} were released, and are not among what the caches are told of`,
        );
      }
    }
    const answer = this.lending(operation, ranges, call);
    this.#requireTicket(operation, answer);
    this.#shadow.flush(isTicket(answer) ? answer : undefined);
    return answer;
  }

  translate(vpn: number, access: Access, call: () => Translation | undefined): Translation | undefined {
    if (!Number.isInteger(vpn) || vpn < 0 || vpn >= VPN_LIMIT)
      this.report('arguments', 'walk.translate', `${String(vpn)} is not a page number`);
    if (access !== 'read' && access !== 'write') this.report('arguments', 'walk.translate', `${String(access)} is not an access`);
    const answer = this.run('walk.translate', call);
    if (answer !== undefined) this.#requireTranslation(vpn, access, answer);
    return answer;
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
    const lent = lendCopies(copies, direction, this.terms(operation, 'copies'));
    const answer = this.#whileLent(operation, lent, call);
    this.#requireTicket(operation, answer);
    return answer;
  }

  /** The device brings pages by itself. */
  bring(batch: PeerBatch, call: () => Ticket | void): Ticket | void {
    batch.each((item) => this.#requireItem('peer.map', item, ['copy', 'zero', 'keep']));
    batch.each((item) => this.#requireBrought(item));
    return this.#batch('peer.map', batch, call);
  }

  /** The device takes pages by itself, or lets go of them. */
  take(batch: PeerBatch, call: () => Ticket | void): Ticket | void {
    batch.each((item) => this.#requireItem('peer.unmap', item, ['copy', 'none']));
    batch.each(({ bytes, page, frame }) => {
      if (bytes === 'copy' && !this.context['platform'].pageLocks.locked(frame))
        this.report('batches', 'peer.unmap', `page ${page} of the device is to be taken, and is not locked`);
    });
    return this.#batch('peer.unmap', batch, call);
  }

  #batch(operation: 'peer.map' | 'peer.unmap', batch: PeerBatch, call: () => Ticket | void): Ticket | void {
    if (batch.count === 0) this.report('arguments', operation, 'there are no items');
    const lending: Lending = { operation, items: [], ticket: undefined };
    batch.each((item) => void lending.items.push({ item, as: factsOf(item), page: item.page }));
    const answer = this.run(operation, call);
    this.#requireTicket(operation, answer);
    if (isTicket(answer) && answer.state === 'pending') this.#batches.push({ ...lending, ticket: answer });
    else this.#results(lending, isTicket(answer) && answer.state === 'failed');
    return answer;
  }

  #settleBatches(): void {
    const batches = this.#batches;
    for (let i = 0; i < batches.length; i++) {
      const lending = batches[i]!;
      const state = lending.ticket!.state;
      if (state === 'pending') continue;
      batches.splice(i--, 1);
      this.#results(lending, state === 'failed');
    }
  }

  /** What a batch has come to. `failed`: its ticket has, and nothing of it counts. */
  #results({ operation, items }: Lending, failed: boolean): void {
    for (const { item, as, page } of items) {
      const { vpn, pages, bytes, frame, code, write } = item;
      if (factsOf(item) !== as || (page >= 0 && item.page !== page))
        this.report('results', operation, `the item of page ${vpn} has been changed: it is borrowed`);
      const done = !failed && (code === 'success' || (code === 'page exists' && operation === 'peer.map'));
      if (operation === 'peer.unmap' && bytes === 'none' && !done && !this.context.failure && !failed)
        this.report('results', operation, `pages ${vpn} to ${vpn + pages - 1} are to go, and the answer is: ${code}`);
      if (!this.translates || vpn < 0) continue;
      // Of one that was broken off nobody asks any more.
      if (operation === 'peer.unmap' && (done || (failed && bytes === 'none'))) this.#shadow.gone(vpn, pages);
      if (operation === 'peer.map' && done && frame >= 0)
        for (let i = 0; i < pages; i++) this.#shadow.came(vpn + i, { frame: frame + i, write });
    }
  }

  #requireItem(operation: 'peer.map' | 'peer.unmap', item: PeerItem, known: readonly PeerItem['bytes'][]): void {
    const { vpn, pages, bytes, page, host, write } = item;
    if (!known.includes(bytes)) this.report('arguments', operation, `the bytes of page ${vpn} are to be: ${String(bytes)}`);
    const isRange = Number.isSafeInteger(vpn) && Number.isSafeInteger(pages) && pages >= 1 && vpn >= -1 && vpn + pages <= VPN_LIMIT;
    if (!isRange || (bytes !== 'none' && pages !== 1 && pages !== HUGE_PAGES))
      this.report('arguments', operation, `${String(pages)} pages from ${String(vpn)} are no item`);
    if (typeof write !== 'boolean') this.report('arguments', operation, `${String(write)} is not a right to write`);
    if (!Number.isInteger(page) || page < -1) this.report('arguments', operation, `${String(page)} is not a page of the device`);
    if (bytes === 'copy' ? !(host >= 0) : host !== -1)
      this.report(
        'arguments',
        operation,
        `page ${vpn} is to be ${bytes === 'copy' ? 'copied' : 'left'}, and page ${host} of the host is its other side`,
      );
  }

  /** What is brought is where the program may have it, and nobody moves it meanwhile. */
  #requireBrought({ vpn, pages, bytes, frame, hostFrame, write }: PeerItem): void {
    const { space } = this.context;
    const { core, pageLocks } = this.context['platform'];
    const low = core.entryLow;
    for (let i = 0; i < pages; i++) {
      const rights = space.vmas.find(vpn + i)?.prot ?? 0;
      if (!(rights & PROT_READ)) this.report('batches', 'peer.map', `page ${vpn + i} is brought, and may not be read`);
      else if (write && !(rights & PROT_WRITE))
        this.report('batches', 'peer.map', `page ${vpn + i} is brought writable, and may not be written`);
      if (bytes !== 'keep') continue;
      const kind = core.entry(space.table, vpn + i) & L.ENTRY_KIND;
      if (kind === L.KIND_NONE || core.entryLow !== frame + i)
        this.report('batches', 'peer.map', `page ${vpn + i} is said to be on the device, and is not`);
    }
    core.entryLow = low;
    if (bytes === 'copy' && !pageLocks.locked(hostFrame))
      this.report('batches', 'peer.map', `page ${vpn} is brought, and the page that it comes from is not locked`);
  }

  allocFixed(start: number, bytes: number, prot: unknown, call: () => PeerVaAnswer): PeerVaAnswer {
    const operation = 'peerVa.allocFixed';
    this.#requireAddresses(operation, start, bytes);
    if (typeof prot !== 'string' || !/^(none|rw?x?|x)$/.test(prot)) this.report('arguments', operation, `${String(prot)} are not rights`);
    if (this.#addresses.within(start, start + bytes) > 0)
      this.report('addresses', operation, `${printAddresses(start, bytes)} is asked for, and some of it is reserved`);
    const answer = this.run(operation, call);
    if (answer !== 'success' && answer !== 'nomem' && answer !== 'failure') this.#requireTicket(operation, answer ?? null);
    this.#addresses.add(start, start + bytes, answer);
    return answer;
  }

  freeAddresses(start: number, bytes: number, call: () => Ticket | void): Ticket | void {
    const operation = 'peerVa.free';
    this.#requireAddresses(operation, start, bytes);
    if (this.#addresses.within(start, start + bytes) !== bytes && !this.restored)
      this.report('addresses', operation, `${printAddresses(start, bytes)} is to be freed, and not all of it is reserved`);
    const answer = this.run(operation, call);
    this.#requireTicket(operation, answer);
    this.#addresses.remove(start, start + bytes);
    return answer;
  }

  #requireAddresses(operation: DriverOperation, start: number, bytes: number): void {
    const whole = [start, bytes].every((number) => Number.isSafeInteger(number) && number >= 0 && number % L.PAGE_BYTES === 0);
    if (!whole || bytes === 0) this.report('arguments', operation, `${printAddresses(start, bytes)} is not a range of whole pages`);
  }

  service(batch: FaultBatch, call: (lent: FaultBatch) => Step): Step {
    if (batch.records.length === 0) this.report('arguments', 'fault.service', 'a batch without records is to be served');
    const lent = lend(batch, this.terms('fault.service', 'batch', true));
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
    this.#settleBatches();
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
      if (Number.isSafeInteger(vpn) && Number.isSafeInteger(pages) && vpn >= 0 && pages >= 1 && vpn + pages <= VPN_LIMIT) return;
      this.report('arguments', operation, `${String(pages)} pages from ${String(vpn)} are not a range of an address space`);
    });
  }

  #requireEnter(mappings: Mappings): void {
    const { context } = this;
    const { space, lock } = context;
    const { core, pageLocks } = context['platform'];
    if (context.isInvalidating) this.report('quiet', 'pmap.enter', `an invalidation of space ${space.id} is running`);
    const low = core.entryLow;
    const held = lock.holder !== undefined || space.mmapLock.readers > 0 || space.mmapLock.writer !== undefined;
    // What the CPU has got is entered in the very turn in which it got it.
    const following = context.mode === 'replicate';
    if (mappings.count === 0) this.report('arguments', 'pmap.enter', 'there are no mappings');
    mappings.eachFrame((start, pages, frame, write) => {
      if (typeof write !== 'boolean' || !(pages >= 1))
        this.report('arguments', 'pmap.enter', `${pages} pages from ${start} have the right ${String(write)}`);
      for (let i = 0; i < pages; i++) {
        const vpn = start + i;
        const vma = space.vmas.find(vpn);
        const rights = vma ? vma.prot : 0;
        if (!(rights & PROT_READ)) this.report('as mapped', 'pmap.enter', `page ${vpn} is entered, and may not be read`);
        else if (write && !(rights & PROT_WRITE))
          this.report('as mapped', 'pmap.enter', `page ${vpn} is entered writable, and may not be written`);
        const kind = core.entry(space.table, vpn) & L.ENTRY_KIND;
        const there = kind === L.KIND_PRESENT || kind === L.KIND_DEVICE_PRIVATE || kind === L.KIND_EXCLUSIVE;
        // Until a migration is over, the entry is that of the migration, and what the page moves from is locked.
        const moving = kind === L.KIND_MIGRATION && pageLocks.locked(core.entryLow);
        if (!moving && (!there || core.entryLow !== frame + i)) {
          this.report(
            'as mapped',
            'pmap.enter',
            `page ${vpn} is entered with frame ${frame + i}, and has ${there ? `frame ${core.entryLow}` : 'none'}`,
          );
        }
        if (!held && !following && !moving && !pageLocks.locked(frame + i))
          this.report('locked', 'pmap.enter', `page ${vpn} is entered, and no lock is held`);
      }
    });
    core.entryLow = low;
  }

  #requireTicket(operation: DriverOperation, answer: unknown): void {
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

  #requireTranslation(vpn: number, access: Access, answer: Translation): void {
    const operation = 'walk.translate';
    if (typeof answer !== 'object' || answer === null || typeof answer.write !== 'boolean') {
      this.report('answers', operation, `the answer for page ${vpn} is not a translation`);
      return;
    }
    if (answer.vpn !== vpn) this.report('translations', operation, `page ${vpn} is asked for, and ${String(answer.vpn)} is answered`);
    if (access === 'write' && !answer.write)
      this.report('translations', operation, `page ${vpn} may not be written, and is answered to a write`);
    let frame: number;
    try {
      frame = this.context.frameOf(answer);
    } catch {
      this.report(
        'translations',
        operation,
        `page ${vpn} is at page ${String(answer.page)} of memory ${String(answer.memory)}, which there is not`,
      );
      return;
    }
    // Until a flush is over the device may use what it knew; until a batch is, what it had or what it gets.
    if (this.#batches.length > 0) return;
    if (this.#shadow.isFlushing || this.context.flushing || this.context.failure) return;
    if (this.entersItself || this.restored || this.context['dialect']) this.#requireTruth(vpn, frame);
    else if (this.context.pmap instanceof DeviceTable) this.#requireInTable(this.context.pmap, vpn, frame, answer.write);
    else this.#requireEntered(vpn, frame, answer.write);
  }

  #requireEntered(vpn: number, frame: number, write: boolean): void {
    const operation = 'walk.translate';
    const entered = this.#shadow.find(vpn);
    if (!entered) {
      const rule = this.#shadow.wasReleased(vpn) ? 'translates page %d after its release' : 'translates page %d, which was never entered';
      this.report('translations', operation, rule.replace('%d', String(vpn)));
    } else if (entered.frame !== frame) {
      this.report('translations', operation, `translates page ${vpn} to frame ${frame}, and ${entered.frame} was entered last`);
    } else if (write && !entered.write)
      this.report('translations', operation, `page ${vpn} may be written, and was entered without that right`);
  }

  /** The same where the table is the ready-made one, whose entries nobody sees come and go: it says now what it has. */
  #requireInTable(table: DeviceTable, vpn: number, frame: number, write: boolean): void {
    const operation = 'walk.translate';
    const entered = table.walk(vpn, 'read');
    if (!entered) this.report('translations', operation, `translates page ${vpn}, which its table does not have`);
    else if (this.context.frameOf(entered) !== frame)
      this.report('translations', operation, `translates page ${vpn} to frame ${frame}, and its table has ${this.context.frameOf(entered)}`);
    else if (write && !entered.write)
      this.report('translations', operation, `page ${vpn} may be written, and its table has it without that right`);
  }

  /** What is translated is where the CPU's table says. */
  #requireTruth(vpn: number, frame: number): void {
    const { space } = this.context;
    const { core } = this.context['platform'];
    if (this.context.isInvalidating) return;
    const low = core.entryLow;
    const kind = core.entry(space.table, vpn) & L.ENTRY_KIND;
    const there = kind === L.KIND_PRESENT || kind === L.KIND_DEVICE_PRIVATE || kind === L.KIND_EXCLUSIVE;
    const now = core.entryLow;
    core.entryLow = low;
    if (there && now !== frame)
      this.report('translations', 'walk.translate', `translates page ${vpn} to frame ${frame}, and the page has ${now}`);
    if (kind === L.KIND_NONE) this.report('translations', 'walk.translate', `translates page ${vpn}, which is not there`);
  }
}

/** A batch that a driver has been lent, each item with what it was then. */
interface Lending {
  readonly operation: 'peer.map' | 'peer.unmap';
  readonly items: { readonly item: PeerItem; readonly as: string; readonly page: number }[];
  readonly ticket: Ticket | undefined;
}

/** What a driver may not change of an item. */
function factsOf({ vpn, pages, bytes, host, memory, write, access, behaviour, attributes }: PeerItem): string {
  return [vpn, pages, bytes, host, memory, write, access, behaviour, attributes].join();
}

/** The step of a fault service: when it ends, its batch is nobody's any more. */
class Serving implements Step {
  readonly #step: Step;
  readonly #end: () => void;

  constructor(step: Step, end: () => void) {
    this.#step = step;
    this.#end = end;
  }

  get name(): string {
    return this.#step.name;
  }

  next(run: Run): Progress {
    const progress = this.#step.next(run);
    if (progress === DONE) this.#end();
    return progress;
  }

  abort(run: Run, error: unknown): void {
    try {
      this.#step.abort?.(run, error);
    } finally {
      this.#end();
    }
  }
}

function printAddresses(start: number, bytes: number): string {
  return `0x${start.toString(16)}+${bytes} bytes`;
}

/** Operations that return nothing, and are finished when they return. */
function requireNothing(checks: Checks, operation: DriverOperation, answer: unknown): void {
  if (typeof answer !== 'object' || answer === null) return;
  if (isTicket(answer)) checks.add('answers', operation, 'returns a ticket, for which nobody waits: it has to be finished when it returns');
  else if ('then' in answer)
    checks.add('answers', operation, 'returns a promise, for which nobody waits: it has to be finished when it returns');
}

function covers(ranges: Ranges, vpn: number): boolean {
  return coversRange(ranges, vpn, 1);
}

/** Whether the ranges have all of these pages. */
function coversRange(ranges: Ranges, vpn: number, pages: number): boolean {
  const whole: [number, number][] = [];
  ranges.each((start, count) => whole.push([start, start + count]));
  whole.sort(([a], [b]) => a - b);
  let at = vpn;
  for (const [start, end] of whole) if (start <= at && end > at) at = end;
  return at >= vpn + pages;
}

function printPages(pages: ReadonlySet<number>): string {
  const shown = [...pages].slice(0, 8).join(', ');
  return pages.size > 8 ? `${shown}, ...` : shown;
}

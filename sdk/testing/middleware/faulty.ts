/**
 * Middleware: a driver around a driver, with the type of a driver. `faulty(driver, plan)` lets everything through, counts it, and makes one call go wrong.
 *
 * ```ts
 * const plan = new FaultPlan();
 * const gpu = machine.addDevice(faulty(tinygpu(), plan));
 * const context = space.attach(gpu);
 * plan.fail('copy.toDevice', 2, 'late failure');      // the second copy to the device from now on
 * context.migrate(range, { to: 'device' });           // EBUSY: a ticket is open
 * plan.finish();                                      // the ticket fails, and the pages stay where they were
 * ```
 */
import {
  type CommandStep,
  type Context,
  type Copies,
  type Copy,
  DONE,
  type Driver,
  fail,
  type FaultService,
  isTicket,
  PEER_CODES,
  type Peer,
  type PeerBatch,
  type PeerCode,
  type PeerItem,
  type PeerVa,
  type Phys,
  type Pmap,
  type Progress,
  Ranges,
  type Run,
  type Step,
  type Ticket,
  type Tlb,
  type Walk,
} from '../../gmem/index.ts';
import { type NamesOf, requireArray, requireCount, requireOptions, requireWord } from '../../mm/arguments.ts';
import { randomOf } from '../random.ts';
import { wrapDriver, withOperations } from './wrap.ts';

/** What can go wrong with each operation of a driver, by family and operation. */
const FAULTS = {
  attach: ['throw'],
  'pmap.create': ['throw'],
  'pmap.enter': ['throw', 'partial'],
  'pmap.release': ['throw', 'partial'],
  'pmap.protect': ['throw', 'partial'],
  'pmap.destroy': ['throw'],
  'tlb.invalidate': ['throw', 'partial', 'late', 'late failure'],
  'tlb.invalidateCoalesced': ['throw', 'partial', 'late', 'late failure'],
  'walk.translate': ['throw', 'refuse'],
  'walk.harvest': ['throw', 'partial'],
  'copy.toDevice': ['throw', 'refuse', 'partial', 'late', 'late failure'],
  'copy.toHost': ['throw', 'refuse', 'partial', 'late', 'late failure'],
  'copy.peer': ['throw', 'refuse', 'partial', 'late', 'late failure'],
  'copy.zero': ['throw', 'refuse', 'partial', 'late', 'late failure'],
  'phys.allocPage': ['throw', 'refuse'],
  'phys.freePage': ['throw'],
  'phys.preparePage': ['throw', 'refuse', 'partial', 'late', 'late failure'],
  'phys.victims': ['throw', 'refuse'],
  'peer.map': ['throw', 'partial', 'late', 'late failure', 'nomem', 'page exists', 'migrating', 'dma error', 'unimplemented', 'failure'],
  'peer.unmap': ['throw', 'partial', 'late', 'late failure', 'nomem', 'page exists', 'migrating', 'dma error', 'unimplemented', 'failure'],
  'peer.importPages': ['throw', 'refuse'],
  'peer.freePage': ['throw'],
  'fault.service': ['throw', 'refuse', 'late'],
  'peerVa.allocFixed': ['throw', 'refuse', 'late', 'late failure'],
  'peerVa.free': ['throw', 'late', 'late failure'],
  command: ['throw', 'late', 'late failure'],
  detach: ['throw'],
} as const;

/** An operation of a driver, by family and operation. */
export type DriverOperation = keyof typeof FAULTS;

/**
 * How a call goes wrong. `throw`: it throws, having done nothing. `refuse`: it says no, where its type lets it (no page, no translation, nothing served, a copy that has failed already). `partial`: it does half of
 * what was asked, and then fails. `late`: it returns a ticket, and does its work when `finish` completes that. `late failure`: the ticket fails instead, and nothing has been done. A result code: each item of the
 * batch is answered with it, and nothing has been done; an item that must succeed does (`peer.unmap` without bytes).
 */
export type DriverFault = 'throw' | 'refuse' | 'partial' | 'late' | 'late failure' | Exclude<PeerCode, 'success'>;

/** All ways to go wrong. */
export const DRIVER_FAULTS: readonly DriverFault[] = [
  'throw',
  'refuse',
  'partial',
  'late',
  'late failure',
  'nomem',
  'page exists',
  'migrating',
  'dma error',
  'unimplemented',
  'failure',
];

/** Resolution of a rate. */
const ROLL = 1_000_000;

/** All operations. */
export const DRIVER_OPERATIONS: readonly DriverOperation[] = Object.keys(FAULTS) as DriverOperation[];

/** How calls of an operation can go wrong. */
export function faultsOf(operation: DriverOperation): readonly DriverFault[] {
  if (!DRIVER_OPERATIONS.includes(operation)) throw fail('EINVAL', 'faultsOf.operation', operation, 'is not an operation of a driver');
  return FAULTS[operation];
}

/** A ticket that a plan keeps open, and the work that ends it; without any it fails. */
interface Late {
  readonly ticket: Ticket;
  readonly work: (() => Ticket | void) | undefined;
}

/** How a seed decides. */
export interface SeededFaults {
  /** Share of the calls that go wrong, from 0 to 1. */
  readonly rate: number;
  /** Which operations. Default: all. */
  readonly operations?: readonly DriverOperation[];
  /** In which ways; of these, each operation takes those that it has. Default: all. */
  readonly faults?: readonly DriverFault[];
}

const SEEDED_FAULTS: NamesOf<SeededFaults> = { rate: true, operations: true, faults: true };

/** What decides, from a seed. */
interface Seeded extends Required<SeededFaults> {
  readonly seed: number;
}

/** A call that went wrong. */
export interface PlannedCall {
  readonly operation: DriverOperation;
  /** Which call of that operation, from 1. */
  readonly call: number;
  readonly fault: DriverFault;
}

/** Which calls go wrong, and what was called. One plan is for one driver; it may be used again. */
export class FaultPlan {
  readonly #calls: Map<DriverOperation, number> = new Map();
  readonly #late: Late[] = [];
  #operation: DriverOperation | undefined;
  #call = 0;
  #fault: DriverFault = 'throw';
  #seeded: Seeded | undefined;
  #random: (below: number) => number = randomOf(0);
  readonly #planned: PlannedCall[] = [];

  /**
   * A plan in which a seed says which calls go wrong, and how: the same calls of the driver go wrong in the same way each time. `count` begins again, from the same seed; `plan.log` says what it did, as the
   * calls that `fail` takes. Errors: EINVAL for a rate that is not between 0 and 1, or a seed that is not an integer.
   */
  static seeded(seed: number, options: SeededFaults): FaultPlan {
    if (!Number.isSafeInteger(seed)) throw fail('EINVAL', 'seed', seed, 'is not an integer');
    requireOptions('seeded', options, SEEDED_FAULTS);
    const { rate, operations = DRIVER_OPERATIONS, faults = DRIVER_FAULTS } = options;
    requireArray('seeded.operations', operations);
    requireArray('seeded.faults', faults);
    if (typeof rate !== 'number' || !(rate >= 0 && rate <= 1)) throw fail('EINVAL', 'seeded.rate', rate, 'is not between 0 and 1');
    for (const operation of operations) {
      if (!DRIVER_OPERATIONS.includes(operation)) throw fail('EINVAL', 'seeded.operations', operation, 'is not an operation of a driver');
    }
    for (const fault of faults)
      if (!DRIVER_FAULTS.includes(fault)) throw fail('EINVAL', 'seeded.faults', fault, 'is not a way to go wrong');
    const plan = new FaultPlan();
    plan.#seeded = { seed, rate, operations, faults };
    return plan.count();
  }

  /** What went wrong since the counting began, a line each: the seed, then `fail('copy.toDevice', 2, 'late')`. */
  get log(): string {
    const lines = this.#planned.map(({ operation, call, fault }) => `fail('${operation}', ${call}, '${fault}')`);
    if (this.#seeded) lines.unshift(`seed ${this.#seeded.seed}, rate ${this.#seeded.rate}`);
    return lines.join('\n');
  }

  /** The same, as data. */
  get planned(): readonly PlannedCall[] {
    return this.#planned;
  }

  /** Calls since the counting began, by operation. */
  get calls(): ReadonlyMap<DriverOperation, number> {
    return this.#calls;
  }

  /** Whether a call that was to go wrong has come. */
  get happened(): boolean {
    return this.#planned.length > 0;
  }

  /** Tickets that `finish` will end. */
  get unfinished(): number {
    return this.#late.length;
  }

  /** Begins counting, and lets everything through; a seeded plan begins again. */
  count(): this {
    this.#calls.clear();
    this.#operation = undefined;
    this.#planned.length = 0;
    if (this.#seeded) this.#random = randomOf(this.#seeded.seed);
    return this;
  }

  /** Begins counting: call number `call` (from 1) of `operation` goes wrong, once, and no other. Requires: `fault` is one of `faultsOf(operation)`. */
  fail(operation: DriverOperation, call: number, fault: DriverFault): this {
    if (!DRIVER_OPERATIONS.includes(operation)) throw fail('EINVAL', 'plan.operation', operation, 'is not an operation of a driver');
    requireCount('plan.call', call, 1, Number.MAX_SAFE_INTEGER);
    requireWord('plan.fault', fault, faultsOf(operation));
    this.#seeded = undefined;
    this.count();
    this.#operation = operation;
    this.#call = call;
    this.#fault = fault;
    return this;
  }

  /** Ends every open ticket, the oldest first, and those that this begins. One whose work the driver itself leaves unfinished ends at the `finish` after that is over. */
  finish(): void {
    const unfinished: Late[] = [];
    for (let next = this.#late.shift(); next; next = this.#late.shift()) {
      const { ticket, work } = next;
      const answer = work?.();
      if (!work) ticket.fail('planned');
      else if (!isTicket(answer) || answer.state === 'done') ticket.complete();
      else if (answer.state === 'failed') ticket.fail(answer.reason);
      else unfinished.push({ ticket, work: () => answer });
    }
    this.#late.push(...unfinished);
  }

  /** @internal How this call goes wrong; undefined: it does not. */
  next(operation: DriverOperation): DriverFault | undefined {
    const call = (this.#calls.get(operation) ?? 0) + 1;
    this.#calls.set(operation, call);
    const fault = this.#seeded ? this.#roll(operation, this.#seeded) : this.#once(operation, call);
    if (fault) this.#planned.push({ operation, call, fault });
    return fault;
  }

  #once(operation: DriverOperation, call: number): DriverFault | undefined {
    return operation === this.#operation && call === this.#call && !this.happened ? this.#fault : undefined;
  }

  #roll(operation: DriverOperation, { rate, operations, faults }: Seeded): DriverFault | undefined {
    if (!operations.includes(operation)) return undefined;
    const possible = faultsOf(operation).filter((fault) => faults.includes(fault));
    // Always two numbers a call: what one operation can do does not change what the next one does.
    const goes = this.#random(ROLL) < rate * ROLL;
    const which = this.#random(possible.length || 1);
    return goes ? possible[which] : undefined;
  }

  /** @internal Opens a ticket that `finish` ends: with the work, or, without any, by failing. */
  open(context: Context, operation: DriverOperation, work: (() => Ticket | void) | undefined): Ticket {
    const ticket = context.ticket(`late ${operation}`);
    this.#late.push({ ticket, work });
    return ticket;
  }
}

/** The error that a planned throw throws. */
export class PlannedFault extends Error {
  constructor(operation: DriverOperation) {
    super(`planned: ${operation} throws`);
    this.name = 'PlannedFault';
  }
}

/**
 * The driver, with one call going wrong as `plan` says. Families that the driver does not have stay away. Of a driver that does not translate by itself the ready-made table is called by the core and not by this, so
 * its `pmap` and `tlb` are passed through and not counted.
 */
export function faulty<D extends Driver>(driver: D, plan: FaultPlan): D {
  if (!(plan instanceof FaultPlan)) throw fail('EINVAL', 'faulty.plan', plan, 'is not a FaultPlan');
  return wrapDriver(driver, {
    attach(_context, attach) {
      if (plan.next('attach')) throw new PlannedFault('attach');
      return attach();
    },
    pmap: (pmap) => faultyPmap(pmap, plan),
    tlb: (tlb, context) => faultyTlb(tlb, plan, context),
    walk: (walk) => faultyWalk(walk, plan),
    copy: (copy, context) => faultyCopy(copy, plan, context),
    phys: (phys, context) => faultyPhys(phys, plan, context),
    peer: (peer, context) => faultyPeer(peer, plan, context),
    fault: (fault, context) => faultyService(fault, plan, context),
    peerVa: (peerVa, context) => faultyPeerVa(peerVa, plan, context),
    command: (command, context) => (request) => faultyCommand(command(request), plan, context),
    detach: (detach) => () => {
      detach?.();
      // A driver without the operation cannot fail in it.
      if (detach && plan.next('detach')) throw new PlannedFault('detach');
    },
  });
}

/** The first half of some ranges, or the second. */
function half(ranges: Ranges, which: 'first' | 'second'): Ranges {
  const middle = Math.floor(ranges.pages / 2);
  const part = new Ranges();
  let seen = 0;
  ranges.each((vpn, pages) => {
    const cut = Math.min(Math.max(middle - seen, 0), pages);
    if (which === 'first' && cut > 0) part.add(vpn, cut);
    if (which === 'second' && cut < pages) part.add(vpn + cut, pages - cut);
    seen += pages;
  });
  return part;
}

function copyOf(ranges: Ranges): Ranges {
  const kept = new Ranges();
  ranges.each((vpn, pages) => kept.add(vpn, pages));
  return kept;
}

function faultyPmap(pmap: Pmap, plan: FaultPlan): Pmap {
  const { create, protect, destroy } = pmap;
  return {
    ...(create
      ? {
          create() {
            if (plan.next('pmap.create')) throw new PlannedFault('pmap.create');
            create.call(pmap);
          },
        }
      : {}),
    enter(mappings) {
      const fault = plan.next('pmap.enter');
      if (fault === 'throw') throw new PlannedFault('pmap.enter');
      pmap.enter(mappings);
      if (fault !== 'partial') return;
      const entered = new Ranges();
      mappings.each((vpn, pages) => entered.add(vpn, pages));
      pmap.release(half(entered, 'second'));
      throw new PlannedFault('pmap.enter');
    },
    release(ranges) {
      const fault = plan.next('pmap.release');
      if (fault !== 'throw') pmap.release(fault === 'partial' ? half(ranges, 'first') : ranges);
      if (fault) throw new PlannedFault('pmap.release');
    },
    ...(protect
      ? {
          protect(ranges: Ranges, write: boolean) {
            const fault = plan.next('pmap.protect');
            if (fault !== 'throw') protect.call(pmap, fault === 'partial' ? half(ranges, 'first') : ranges, write);
            if (fault) throw new PlannedFault('pmap.protect');
          },
        }
      : {}),
    ...(destroy
      ? {
          destroy() {
            destroy.call(pmap);
            if (plan.next('pmap.destroy')) throw new PlannedFault('pmap.destroy');
          },
        }
      : {}),
  };
}

function faultyTlb(tlb: Tlb, plan: FaultPlan, context: Context): Tlb {
  const around =
    (operation: 'tlb.invalidate' | 'tlb.invalidateCoalesced', flush: (ranges: Ranges) => Ticket | void) =>
    (ranges: Ranges): Ticket | void => {
      switch (plan.next(operation)) {
        case 'throw':
          throw new PlannedFault(operation);
        case 'partial':
          flush(half(ranges, 'first'));
          throw new PlannedFault(operation);
        case 'late': {
          const kept = copyOf(ranges);
          return plan.open(context, operation, () => flush(kept));
        }
        case 'late failure':
          return plan.open(context, operation, undefined);
        default:
          return flush(ranges);
      }
    };
  const { invalidateCoalesced } = tlb;
  return {
    invalidate: around('tlb.invalidate', (ranges) => tlb.invalidate(ranges)),
    ...(invalidateCoalesced
      ? { invalidateCoalesced: around('tlb.invalidateCoalesced', (ranges) => invalidateCoalesced.call(tlb, ranges)) }
      : {}),
  };
}

function faultyWalk(walk: Walk, plan: FaultPlan): Walk {
  return withOperations(walk, {
    translate(vpn, access) {
      const fault = plan.next('walk.translate');
      if (fault === 'throw') throw new PlannedFault('walk.translate');
      return fault === 'refuse' ? undefined : walk.translate(vpn, access);
    },
    harvest(ranges, marks) {
      const fault = plan.next('walk.harvest');
      if (fault !== 'throw') walk.harvest!(fault === 'partial' ? half(ranges, 'first') : ranges, marks);
      if (fault) throw new PlannedFault('walk.harvest');
    },
  });
}

/** What copies, or fills pages otherwise. */
function faultyEngine(
  operation: 'copy.toDevice' | 'copy.toHost' | 'copy.peer' | 'copy.zero' | 'phys.preparePage',
  engine: (copies: Copies) => Ticket | void,
  plan: FaultPlan,
  context: Context,
): (copies: Copies) => Ticket | void {
  const failed = (): Ticket => {
    const ticket = context.ticket(`failed ${operation}`);
    ticket.fail('planned');
    return ticket;
  };
  return (copies) => {
    switch (plan.next(operation)) {
      case 'throw':
        throw new PlannedFault(operation);
      case 'refuse':
        return failed();
      case 'partial':
        engine(copies.keep(Math.floor(copies.pages / 2)));
        return failed();
      case 'late': {
        const kept = copies.keep();
        return plan.open(context, operation, () => engine(kept));
      }
      case 'late failure':
        return plan.open(context, operation, undefined);
      default:
        return engine(copies);
    }
  };
}

function faultyCopy(copy: Copy, plan: FaultPlan, context: Context): Copy {
  const around = (operation: 'copy.toDevice' | 'copy.toHost' | 'copy.peer' | 'copy.zero', engine: (copies: Copies) => Ticket | void) =>
    faultyEngine(operation, engine, plan, context);
  const { toDevice, toHost, peer, zero } = copy;
  return {
    ...(toDevice ? { toDevice: around('copy.toDevice', (copies) => toDevice.call(copy, copies)) } : {}),
    ...(toHost ? { toHost: around('copy.toHost', (copies) => toHost.call(copy, copies)) } : {}),
    ...(peer ? { peer: around('copy.peer', (copies) => peer.call(copy, copies)) } : {}),
    ...(zero ? { zero: around('copy.zero', (copies) => zero.call(copy, copies)) } : {}),
  };
}

function faultyPhys(phys: Phys, plan: FaultPlan, context: Context): Phys {
  const { preparePage, victims } = phys;
  return {
    allocPage() {
      const fault = plan.next('phys.allocPage');
      if (fault === 'throw') throw new PlannedFault('phys.allocPage');
      return fault === 'refuse' ? undefined : phys.allocPage();
    },
    freePage(page) {
      // The page is its own again, whatever it says: a driver that loses one has lost it for good.
      phys.freePage(page);
      if (plan.next('phys.freePage')) throw new PlannedFault('phys.freePage');
    },
    ...(preparePage ? { preparePage: faultyEngine('phys.preparePage', (copies) => preparePage.call(phys, copies), plan, context) } : {}),
    ...(victims
      ? {
          victims(spared: (page: number) => boolean) {
            const fault = plan.next('phys.victims');
            if (fault === 'throw') throw new PlannedFault('phys.victims');
            return fault === 'refuse' ? [] : victims.call(phys, spared);
          },
        }
      : {}),
  };
}

/** A batch of which the driver gets some items only. It is the batch itself otherwise: answers go to its items. */
function some(batch: PeerBatch, items: readonly PeerItem[]): PeerBatch {
  const at = (i: number): PeerItem => {
    if (!items[i]) throw fail('EINVAL', 'batch.item', i, `is not one of the ${items.length} items`);
    return items[i];
  };
  return Object.create(batch, {
    count: { value: items.length },
    item: { value: at },
    list: { value: () => items },
    each: { value: (visit: (item: PeerItem) => void) => items.forEach(visit) },
    ranges: {
      value(item?: PeerItem): Ranges {
        if (item) return batch.ranges(item);
        const ranges = new Ranges();
        for (const { vpn, pages } of items) if (vpn >= 0) ranges.add(vpn, pages);
        return ranges;
      },
    },
  }) as PeerBatch;
}

/** Items that the driver is to be asked for even so: what has no bytes must go. */
function unrefusable(batch: PeerBatch): PeerItem[] {
  const items: PeerItem[] = [];
  batch.each((item) => {
    if (item.bytes === 'none') items.push(item);
  });
  return items;
}

function faultyPeer(peer: Peer, plan: FaultPlan, context: Context): Peer {
  const around =
    (operation: 'peer.map' | 'peer.unmap', run: (batch: PeerBatch) => Ticket | void) =>
    (batch: PeerBatch): Ticket | void => {
      const fault = plan.next(operation);
      switch (fault) {
        case undefined:
          return run(batch);
        case 'throw':
          throw new PlannedFault(operation);
        case 'late':
          return plan.open(context, operation, () => run(batch));
        case 'late failure':
          return plan.open(context, operation, undefined);
        case 'partial': {
          const first: PeerItem[] = [];
          batch.each((item) => {
            if (item.bytes === 'none' || item.index < batch.count / 2) first.push(item);
            else batch.answer(item, 'failure');
          });
          return run(some(batch, first));
        }
        default: {
          const must = unrefusable(batch);
          batch.each((item) => {
            if (item.bytes === 'none') return;
            const code = PEER_CODES.find((each) => each === fault) ?? 'failure';
            // Only what has its page can be said to be there.
            batch.answer(item, code === 'page exists' && item.page < 0 ? 'failure' : code);
          });
          return must.length > 0 ? run(some(batch, must)) : undefined;
        }
      }
    };
  return withOperations(peer, {
    map: around('peer.map', (batch) => peer.map(batch)),
    unmap: around('peer.unmap', (batch) => peer.unmap(batch)),
    importPages(count) {
      const fault = plan.next('peer.importPages');
      if (fault === 'throw') throw new PlannedFault('peer.importPages');
      return fault === 'refuse' ? [] : peer.importPages!(count);
    },
    freePage(page, pages) {
      // The page is its own again, whatever it says.
      peer.freePage!(page, pages);
      if (plan.next('peer.freePage')) throw new PlannedFault('peer.freePage');
    },
  });
}

function faultyPeerVa(peerVa: PeerVa, plan: FaultPlan, context: Context): PeerVa {
  return withOperations(peerVa, {
    allocFixed(start, bytes, prot) {
      switch (plan.next('peerVa.allocFixed')) {
        case 'throw':
          throw new PlannedFault('peerVa.allocFixed');
        case 'refuse':
          return 'nomem';
        case 'late':
          return plan.open(context, 'peerVa.allocFixed', () => ticketOf(peerVa.allocFixed(start, bytes, prot), context));
        case 'late failure':
          return plan.open(context, 'peerVa.allocFixed', undefined);
        default:
          return peerVa.allocFixed(start, bytes, prot);
      }
    },
    free(start, bytes) {
      switch (plan.next('peerVa.free')) {
        case 'throw':
          // They are its own again, whatever it says.
          peerVa.free(start, bytes);
          throw new PlannedFault('peerVa.free');
        case 'late':
          return plan.open(context, 'peerVa.free', () => peerVa.free(start, bytes));
        case 'late failure':
          peerVa.free(start, bytes);
          return plan.open(context, 'peerVa.free', undefined);
        default:
          return peerVa.free(start, bytes);
      }
    },
  });
}

/** An answer as a ticket that comes to the same; nothing for success. */
function ticketOf(answer: ReturnType<PeerVa['allocFixed']>, context: Context): Ticket | void {
  if (isTicket(answer)) return answer;
  if (answer === 'success') return undefined;
  const ticket = context.ticket('refused addresses');
  ticket.fail(answer);
  return ticket;
}

/** A step that begins when a ticket has ended; one that failed makes it throw. */
class After implements CommandStep {
  readonly name: string;
  readonly #step: Step & { readonly result?: unknown };
  readonly #ticket: Ticket;
  readonly #error: PlannedFault;

  constructor(step: Step & { readonly result?: unknown }, ticket: Ticket, operation: DriverOperation) {
    this.name = step.name;
    this.#step = step;
    this.#ticket = ticket;
    this.#error = new PlannedFault(operation);
  }

  get result(): unknown {
    return this.#step.result;
  }

  next(run: Run): Progress {
    if (this.#ticket.state === 'pending') return run.waitFor(this.#ticket);
    if (this.#ticket.state === 'failed') throw this.#error;
    return this.#step.next(run);
  }

  abort(run: Run, error: unknown): void {
    this.#step.abort?.(run, error);
  }
}

function faultyService(service: FaultService, plan: FaultPlan, context: Context): FaultService {
  return {
    service(batch) {
      switch (plan.next('fault.service')) {
        case 'throw':
          throw new PlannedFault('fault.service');
        case 'refuse':
          return { name: 'serve nothing', next: () => DONE };
        case 'late':
          return new After(
            service.service(batch),
            plan.open(context, 'fault.service', () => undefined),
            'fault.service',
          );
        default:
          return service.service(batch);
      }
    },
  };
}

function faultyCommand(step: CommandStep, plan: FaultPlan, context: Context): CommandStep {
  switch (plan.next('command')) {
    case 'throw':
      throw new PlannedFault('command');
    case 'late':
      return new After(
        step,
        plan.open(context, 'command', () => undefined),
        'command',
      );
    case 'late failure':
      return new After(step, plan.open(context, 'command', undefined), 'command');
    default:
      return step;
  }
}

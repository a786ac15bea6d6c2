/**
 * The world of one case: a machine, the driver in it, and verbs that do what a program would and compare what comes back with what must.
 *
 * ```
 *   bench.machine                one machine, made for this case
 *     bench.device               the driver under test, with what watches it around it
 *     bench.space                an address space
 *       bench.context            the device in it
 * ```
 *
 * All verbs are asynchronous: a device that takes its time is graded by the same cases. The bench knows every byte that was written, and looks at what is read.
 */
import { H_PAGES_USED } from '../../../assembly/layout.ts';
import { type FarfaultError, isFarfaultError } from '../../errors.ts';
import { Ranges } from '../../core/batch.ts';
import type { Context, Device, Driver } from '../../gmem/index.ts';
import type { Job, JobReport } from '../../gmem/job.ts';
import { createMachine, type Machine, type MachineOptions, restoreMachine } from '../../machine.ts';
import type { AddressRange, AddressSpace } from '../../mm/address-space.ts';
import { HMM_VALID, HMM_WRITE } from '../../mm/range-fault.ts';
import type { ForkOptions } from '../../mm/fork.ts';
import type { MremapOptions } from '../../mm/mremap.ts';
import type { Prot } from '../../mm/prot.ts';
import { faulty, type FaultPlan } from '../middleware/index.ts';
import type { Step } from '../../step/step.ts';
import { randomOf } from '../random.ts';
import { ContractFailure, type Expectations, type Profile } from './case.ts';
import { ExpectedBytes, isWithoutBytes, PAGE } from './expected-bytes.ts';
import { Patience, PATIENCE_TURNS } from './patience.ts';
import { machineFor } from './profile.ts';
import { race } from './race.ts';
import { type Watched, watch } from './watch.ts';

export { PAGE } from './expected-bytes.ts';

/** Pages of a mapping that a state shows. */
const SHOWN_PAGES = 128;

/** @internal Who gets the machine of a world that is closed. */
export interface Heir {
  spare: Machine | undefined;
}

/** What a world that was saved brings along. */
interface Restored {
  readonly spaces: AddressSpace[];
  readonly contexts: Context[];
  readonly expected: ExpectedBytes;
}

/** The world of one case: a machine, the driver under test in it, and the verbs that cases are written with. */
export class Bench implements Heir {
  readonly machine: Machine;
  readonly profile: Profile;
  readonly expectations: Expectations;
  /** The driver under test, bare. */
  readonly driver: Driver;
  /** What was seen of its calls. */
  readonly watched: Watched;
  readonly device: Device;
  readonly space: AddressSpace;
  readonly context: Context;
  /** A number below `n`, from the seed. */
  readonly random: (n: number) => number;
  /** State before the verb that went wrong. */
  before = '';
  private readonly makeDriver: () => Driver;
  private readonly others: Bench[] = [];
  private readonly seed: number;
  /** @internal A machine that another world has left, and who gets the machine of this one. */
  spare: Machine | undefined;
  private heir: Heir | undefined;
  /** What watches each device. */
  private readonly watches: Watched[] = [];
  /** Drivers of the other devices. */
  private readonly drivers: Driver[] = [];
  private readonly spaces: AddressSpace[] = [];
  private readonly contexts: Context[] = [];
  private readonly expected: ExpectedBytes;
  private readonly patience: Patience;
  /** Said by the case: the context may have failed, or errors without a caller may be there. */
  private readonly excused: Set<'failure' | 'stray' | 'violation'> = new Set();

  private constructor(
    machine: Machine,
    profile: Profile,
    makeDriver: () => Driver,
    driver: Driver,
    expectations: Expectations,
    seed: number,
    restored?: Restored,
  ) {
    this.machine = machine;
    this.profile = profile;
    this.expectations = expectations;
    this.driver = driver;
    this.makeDriver = makeDriver;
    this.seed = seed;
    this.random = randomOf(seed);
    const { settle } = expectations;
    const settleAll = async (): Promise<void> => {
      for (const each of [driver, ...this.drivers]) await settle!(each);
    };
    this.patience = new Patience(machine, settle && settleAll);
    if (restored) {
      this.watched = { driver, violations: [], calls: () => '', finish: () => undefined };
      this.spaces = restored.spaces;
      this.contexts = restored.contexts;
      this.expected = restored.expected;
      this.space = restored.spaces[0]!;
      this.context = restored.contexts[0]!;
      this.device = this.context.device;
      return;
    }
    this.expected = new ExpectedBytes(!isWithoutBytes(driver));
    this.watched = this.watch(driver);
    this.device = machine.addDevice(this.watched.driver);
    this.space = this.addSpace();
    this.context = this.attach(this.space);
  }

  /** @internal A world of the driver that `makeDriver` makes. Throws what the driver throws when it is attached. */
  static async make(profile: Profile, makeDriver: () => Driver, expectations: Expectations, seed: number, used?: Machine): Promise<Bench> {
    const driver = makeDriver();
    const machine = used ?? (await createMachine(machineFor(driver, expectations)));
    try {
      return new Bench(machine, profile, makeDriver, driver, expectations, seed);
    } catch (error) {
      machine.close();
      throw error;
    }
  }

  // ------------------------------------------------------------------------------------------------------------------------------ world

  private watch(driver: Driver): Watched {
    const watched = watch(driver);
    this.watches.push(watched);
    return watched;
  }

  /** Another address space, without the device. */
  addSpace(): AddressSpace {
    return this.adopt(this.machine.createAddressSpace());
  }

  /** An address space that a verb has made (a fork's child), with the bytes of `parent`. */
  adopt(space: AddressSpace, parent?: AddressSpace): AddressSpace {
    this.spaces.push(space);
    this.expected.begin(space, parent);
    return space;
  }

  /** Attaches the device (or another one) to a space. */
  attach(space: AddressSpace, device: Device = this.device): Context {
    const context = space.attach(device);
    this.contexts.push(context);
    return context;
  }

  /** A world beside this one: another machine, with a device that the same factory makes. Closed with this one; what it must end with is asked by its own `end`. */
  async secondBench(): Promise<Bench> {
    const bench = await Bench.make(this.profile, this.makeDriver, this.expectations, this.random(2 ** 31));
    this.others.push(bench);
    return bench;
  }

  /**
   * Another device of the same driver, of which one call at a time goes wrong as the plan says. What the plan makes late ends when the case says `plan.finish()`. Its name ends in `-f`.
   */
  addFaulty(plan: FaultPlan): Device {
    const driver = this.makeDriver();
    this.drivers.push(driver);
    return this.machine.addDevice({ ...this.watch(faulty(driver, plan)).driver, name: `${driver.name.slice(0, 28)}-f` });
  }

  /** Another world of the same driver, with the same seed: for cases that compare two, or need many. The case ends it with `close`. */
  async another(machine?: MachineOptions): Promise<Bench> {
    const expectations = machine ? { ...this.expectations, machine: { ...this.expectations.machine, ...machine } } : this.expectations;
    const bench = await Bench.make(this.profile, this.makeDriver, expectations, this.seed, machine ? undefined : this.spare);
    if (machine) return bench;
    this.spare = undefined;
    bench.heir = this;
    return bench;
  }

  /**
   * This world saved, and restored around another driver of the same factory, with the same expectations of every byte. Operations under way go on in both. Closed with this one; what it must end with
   * is asked by its own `end`. Requires: no other device.
   */
  async restored(): Promise<Bench> {
    this.mark();
    const { spaces, contexts, expected } = this;
    const image = this.machine.save({ spaces, contexts, expected }, { classes: [ExpectedBytes] });
    const driver = this.makeDriver();
    const { machine, handles } = await restoreMachine<Restored>(image, { drivers: [driver], classes: [ExpectedBytes] });
    const bench = new Bench(machine, this.profile, this.makeDriver, driver, this.expectations, this.seed, handles);
    this.others.push(bench);
    return bench;
  }

  /** Another world, of the driver with something around it. The case ends it with `close`. */
  async anotherOf(wrap: (driver: Driver) => Driver): Promise<Bench> {
    return Bench.make(this.profile, () => wrap(this.makeDriver()), this.expectations, this.seed);
  }

  /** Another device of the same driver: the factory makes it, under another name. `wrap`: what is around it. */
  addDevice(wrap: (driver: Driver) => Driver = (driver) => driver): Device {
    const driver = wrap(this.makeDriver());
    this.drivers.push(driver);
    return this.machine.addDevice({ ...this.watch(driver).driver, name: `${driver.name.slice(0, 28)}-b` });
  }

  /** Anonymous memory. */
  mmap(pages: number, options: { readonly prot?: string; readonly space?: AddressSpace } & Record<string, unknown> = {}): AddressRange {
    const { space = this.space, ...rest } = options;
    const range = space.mmap({ bytes: pages * PAGE, prot: 'rw', ...rest } as never);
    this.expected.map(space, range);
    return range;
  }

  /** Memory that a case has mapped otherwise than by `mmap`. */
  adoptRange(range: AddressRange, space: AddressSpace = this.space): AddressRange {
    this.expected.map(space, range);
    return range;
  }

  // ------------------------------------------------------------------------------------------------------------------------------ verbs

  /** Waits for an operation, letting the device go on. Throws ContractFailure when it never ends. */
  wait<T>(operation: Promise<T>): Promise<T> {
    return this.patience.wait(operation);
  }

  /** Waits until nothing is unfinished. */
  idle(): Promise<void> {
    return this.patience.idle();
  }

  /** Waits until the device has finished all that it has begun: what its accesses leave in its caches from then on stays there. */
  quiet(): Promise<void> {
    return this.until(() => this.machine.tickets.length === 0, 'the end of all tickets');
  }

  /** The same, for a device made by `addFaulty`: what its plan makes late comes to its end after a moment. */
  waitLate<T>(operation: Promise<T>, plan: FaultPlan): Promise<T> {
    return this.patience.waitLate(operation, plan);
  }

  /** Lets the device go on for some turns. */
  turns(count: number): Promise<void> {
    return this.patience.turns(count);
  }

  /** Waits until `holds`, letting the device go on. Throws ContractFailure when it never does. */
  until(holds: () => boolean, what: string): Promise<void> {
    return this.patience.until(holds, what);
  }

  /** Marks the point from which a failure tells the state. Verbs do it themselves. */
  mark(): void {
    this.before = this.state();
  }

  /** The CPU writes the same byte over whole pages, from page `from` of a range. */
  async cpuWrite(range: AddressRange, from: number, pages: number, value: number, space: AddressSpace = this.space): Promise<void> {
    this.mark();
    const bytes = new Uint8Array(pages * PAGE).fill(value);
    await this.wait(space.writeAsync(range.start + from * PAGE, bytes));
    this.expected.wrote(space, range.start + from * PAGE, bytes);
  }

  /** The device writes the same byte over whole pages. */
  async deviceWrite(range: AddressRange, from: number, pages: number, value: number, context: Context = this.context): Promise<void> {
    this.mark();
    if (!this.runsAccesses) return this.fault(range, from, pages, 'write', context);
    const bytes = new Uint8Array(pages * PAGE).fill(value);
    await this.wait(context.writeAsync(range.start + from * PAGE, bytes));
    this.expected.wrote(context.space, range.start + from * PAGE, bytes);
  }

  /** The CPU reads pages; they must hold what was written last. */
  async cpuSees(range: AddressRange, from: number, pages: number, space: AddressSpace = this.space): Promise<void> {
    this.mark();
    this.expected.compare('the CPU', space, range, from, await this.wait(space.readAsync(range.start + from * PAGE, pages * PAGE)));
  }

  /** The device reads pages; they must hold what was written last. */
  async deviceSees(range: AddressRange, from: number, pages: number, context: Context = this.context): Promise<void> {
    this.mark();
    if (!this.runsAccesses) return this.fault(range, from, pages, 'read', context);
    const bytes = await this.wait(context.readAsync(range.start + from * PAGE, pages * PAGE));
    this.expected.compare('the device', context.space, range, from, bytes);
  }

  /**
   * Runs a job of the device. Every access must be executed or cancelled, and once only; what was read must be what the accesses before it have left, in the order that the report tells. Not for bytes
   * that somebody else changes meanwhile.
   */
  async submit(job: Job, context: Context = this.context): Promise<JobReport> {
    this.mark();
    const report = await this.wait(context.submitAsync(job));
    this.expected.follow(job, report, context.space);
    return report;
  }

  /** What a byte must be. */
  byteAt(space: AddressSpace, addr: number): number {
    return this.expected.byteAt(space, addr);
  }

  /** The device writes bytes anywhere, page boundaries included. */
  async deviceWriteBytes(addr: number, bytes: Uint8Array, context: Context = this.context): Promise<void> {
    this.mark();
    await this.wait(context.writeAsync(addr, bytes));
    this.expected.wrote(context.space, addr, bytes);
  }

  /** Changes the rights of a range. */
  async mprotect(range: AddressRange, prot: Prot, space: AddressSpace = this.space): Promise<void> {
    this.mark();
    await this.wait(space.mprotectAsync(range, prot));
  }

  /** Advice after which pages read as zeros. */
  async madvise(range: AddressRange, advice: 'dontneed', space: AddressSpace = this.space): Promise<void> {
    this.mark();
    await this.wait(space.madviseAsync(range, advice));
    this.expected.forget(space, range);
  }

  /** Moves a mapping, or changes its length; the bytes go along. Returns where it is now. */
  async mremap(range: AddressRange, options: MremapOptions, space: AddressSpace = this.space): Promise<AddressRange> {
    this.mark();
    const moved = await this.wait(space.mremapAsync(range, options));
    this.expected.move(space, range, moved);
    return moved;
  }

  /** What the bytes of a range must be. */
  snapshot(range: AddressRange, space: AddressSpace = this.space): Uint8Array {
    return this.expected.snapshot(space, range);
  }

  /** A child, with the bytes of its parent. */
  async fork(options: ForkOptions = {}, space: AddressSpace = this.space): Promise<AddressSpace> {
    this.mark();
    return this.adopt(await this.wait(space.forkAsync(options)), space);
  }

  /**
   * The device takes a range in at once, as a driver does that looks ahead: pages that follow on come as one run. `access`: what is faulted in first; undefined: only what is there.
   * Models: `hmm_range_fault`.
   */
  async mirror(
    range: AddressRange,
    from: number,
    pages: number,
    access?: 'read' | 'write',
    context: Context = this.context,
  ): Promise<void> {
    this.mark();
    const request = access === undefined ? 0 : access === 'write' ? HMM_VALID + HMM_WRITE : HMM_VALID;
    const step = context.hmm.rangeFault({ vpn: range.start / PAGE + from, pages, request }, context.installWords);
    await this.wait(this.machine.platform.scheduler.runAsync(step));
    if (step.outcome !== 'done') throw new ContractFailure(`a range fault of ${pages} pages ends in: ${step.outcome}`);
  }

  /** An address space ends, whatever is in it. */
  async exit(space: AddressSpace): Promise<void> {
    this.mark();
    await this.wait(space.closeAsync());
    this.expected.clear(space);
  }

  /** Whether the device's translation of a page allows the access, without a fault. */
  reaches(range: AddressRange, page: number, access: 'read' | 'write', context: Context = this.context): boolean {
    return context.reaches(range.start / PAGE + page, access === 'write');
  }

  /**
   * Takes translations of the device away, as the machine does for pages that change, and waits for its flush. It may be done at any time: what is missing faults again. Given as first page and number of pages of a range.
   */
  async withdraw(
    range: AddressRange,
    parts: readonly (readonly [from: number, pages: number])[],
    context: Context = this.context,
  ): Promise<void> {
    this.mark();
    const ranges = new Ranges();
    for (const [from, pages] of parts) ranges.add(range.start / PAGE + from, pages);
    const ticket = context.withdraw(ranges);
    await this.until(() => ticket === undefined || ticket.state !== 'pending', 'the end of a flush');
  }

  /** The device may have no translation of these pages that allows the access. Throws ContractFailure. */
  gone(range: AddressRange, from: number, pages: number, access: 'read' | 'write' = 'read', context: Context = this.context): void {
    for (let page = from; page < from + pages; page++) {
      if (this.reaches(range, page, access, context))
        throw new ContractFailure(`the device can still ${access} page ${page} of its range after its invalidation`);
    }
  }

  /** An access of the device to a page must be refused: it has no mapping, or no right to it. */
  async deviceRefused(range: AddressRange, page: number, access: 'read' | 'write', context: Context = this.context): Promise<void> {
    this.mark();
    const addr = range.start + page * PAGE;
    this.gone(range, page, 1, access, context);
    const outcome = await this.wait(context.faultAsync(addr, access));
    if (outcome !== 'no mapping' && outcome !== 'permission')
      throw new ContractFailure(`a fault to ${access} page ${page} of its range, which has no right to it, ends in: ${outcome}`);
    this.gone(range, page, 1, access, context);
    const operation = access === 'read' ? context.readAsync(addr, 1) : context.writeAsync(addr, Uint8Array.of(0xee));
    await this.fails('EFAULT', operation, `an access of the device to ${access} page ${page} of its range, which has no right to it,`);
  }

  /**
   * Runs operations at the same time; the seed decides at every point which of them goes on. Each may fail with one of `codes` only. Returns whether each of them ended well.
   * What a job among them has read and left is the case's affair: see `account`.
   */
  async race(steps: readonly Step[], codes: readonly string[] = []): Promise<boolean[]> {
    this.mark();
    const errors = await race(steps, {
      random: this.random,
      patience: PATIENCE_TURNS,
      turn: async () => {
        if (this.machine.tickets.length > 0) await this.turns(1);
      },
    });
    for (const error of errors) {
      if (error !== undefined && !(isFarfaultError(error) && codes.includes(error.code))) throw error;
    }
    return errors.map((error) => error === undefined);
  }

  /** Takes account of a job that ran in a race: as `submit` does. */
  account(job: Job, report: JobReport, context: Context = this.context): void {
    this.expected.follow(job, report, context.space);
  }

  /** Pages in use, in all memories. */
  used(): number {
    return this.machine.nodes.reduce((sum, node) => sum + node.used, 0);
  }

  /** Moves pages to the device or home; returns how many moved. */
  async migrate(range: AddressRange, to: 'device' | 'host', context: Context = this.context): Promise<number> {
    this.mark();
    return this.wait(context.migrateAsync(range, { to }));
  }

  /** The device faults on each page. */
  async fault(range: AddressRange, from: number, pages: number, access: 'read' | 'write', context: Context = this.context): Promise<void> {
    for (let page = from; page < from + pages; page++) {
      const outcome = await this.wait(context.faultAsync(range.start + page * PAGE, access));
      if (outcome !== 'served' && outcome !== 'present')
        throw new ContractFailure(`a fault to ${access} page ${page} of its range ends in: ${outcome}`);
    }
  }

  /** Pages of page tables in use, of the program's and of the device's. */
  tablePages(): number {
    return this.machine.platform.core.header(H_PAGES_USED);
  }

  /** What the driver's own allocator would bring home. Requires: it chooses victims. */
  driverVictims(spared: (page: number) => boolean): readonly number[] {
    return this.context.mmu.phys!.victims!(spared);
  }

  /** Whether the machine can run accesses of the device: its memory has bytes here. Where it has none, faults stand for accesses. */
  get runsAccesses(): boolean {
    return (this.driver.memory ?? []).every(({ bytesIn }) => bytesIn === undefined || bytesIn === 'backed');
  }

  /** Says that bytes changed by other means than these verbs. */
  wrote(space: AddressSpace, addr: number, bytes: Uint8Array): void {
    this.expected.wrote(space, addr, bytes);
  }

  /** Says that pages are new: they read as zeros again. */
  forget(space: AddressSpace, range: AddressRange): void {
    this.expected.forget(space, range);
  }

  /** Unmaps, and forgets what was there. */
  async munmap(range: AddressRange, space: AddressSpace = this.space): Promise<void> {
    this.mark();
    await this.wait(space.munmapAsync(range));
    this.expected.forget(space, range);
  }

  /** Ends an address space, and forgets what was in it. */
  async closeSpace(space: AddressSpace): Promise<void> {
    this.mark();
    await this.wait(space.closeAsync());
    this.spaces.splice(this.spaces.indexOf(space), 1);
    this.expected.end(space);
  }

  // ----------------------------------------------------------------------------------------------------------------------------- verdicts

  /** Throws ContractFailure with `what` unless `holds`. */
  require(holds: boolean, what: string): void {
    if (!holds) throw new ContractFailure(what);
  }

  /** Throws unless `actual` is `expected`; `what` names it. */
  equal(actual: unknown, expected: unknown, what: string): void {
    if (!Object.is(actual, expected)) throw new ContractFailure(`${what} is ${String(actual)}, not ${String(expected)}`);
  }

  /** The operation must fail with this code; returns its error. */
  async fails(code: string, operation: Promise<unknown>, what: string): Promise<FarfaultError> {
    this.mark();
    try {
      await this.wait(operation);
    } catch (error) {
      if (isFarfaultError(error) && error.code === code) return error;
      throw error;
    }
    throw new ContractFailure(`${what} succeeds; it must fail with ${code}`);
  }

  /** The case means it: the context fails, errors without a caller appear, or calling rules are broken. */
  excuse(...what: ('failure' | 'stray' | 'violation')[]): void {
    for (const each of what) this.excused.add(each);
  }

  /** Looks at what must hold at any time: the driver has not failed, has broken no calling rule, the machine is in order. Throws ContractFailure. */
  inspect(): void {
    const violation = this.watches.map(({ violations }) => violations[0]).find((each) => each !== undefined);
    if (violation && !this.excused.has('violation')) throw new ContractFailure(violation);
    if (!this.excused.has('failure')) {
      for (const { failure } of this.contexts) if (failure) throw new ContractFailure(`the context has failed: ${failure.message}`);
    }
    const wrong = this.machine.verify();
    if (wrong !== undefined) throw new ContractFailure(`the machine is not in order: ${wrong}`);
    if (!this.excused.has('stray') && !this.excused.has('failure') && this.machine.strayErrors.length > 0) {
      const [error] = this.machine.strayErrors;
      throw new ContractFailure(`an error without a caller: ${error instanceof Error ? error.message : String(error)}`);
    }
  }

  /** The end of every case: what was written is there, all of it goes, and nothing is left. Throws ContractFailure. */
  async end(): Promise<void> {
    this.inspect();
    for (const { space, range } of this.expected.mapped) for (const run of this.expected.runsIn(space, range)) await this.seen(space, run);
    for (const context of this.contexts) {
      this.mark();
      if (context.isAttached) await this.wait(context.detachAsync());
    }
    this.inspect();
    this.mark();
    for (const space of this.spaces) await this.wait(space.closeAsync());
    for (const each of this.watches) each.finish();
    this.inspect();
    if (this.machine.pending.length > 0) throw new ContractFailure(this.patience.stuck());
    for (const node of this.machine.nodes) {
      if (node.used > 0)
        throw new ContractFailure(`${node.used} pages of ${node.name} are in use after the last address space has ended: they leaked`);
    }
  }

  /** @internal Who gets the machine when this world is closed: for a world that has ended well. */
  leaveTo(heir: Heir): void {
    this.heir = heir;
  }

  /** @internal */
  close(): void {
    for (const other of this.others) other.close();
    this.spare?.close();
    if (this.heir && !this.heir.spare) {
      // Making a machine costs more than most cases: the next world gets this one. Bytes of this world are in its frames.
      this.machine.reset();
      this.heir.spare = this.machine;
    } else this.machine.close();
  }

  /** What a person needs to see: mappings a letter a page, nodes, what is unfinished. */
  state(): string {
    const lines: string[] = [];
    for (const space of this.spaces) {
      for (const { space: owner, range } of this.expected.mapped) {
        if (owner !== space) continue;
        const shown = { start: range.start, end: Math.min(range.end, range.start + SHOWN_PAGES * PAGE) };
        const rest = (range.end - shown.end) / PAGE;
        lines.push(
          `space ${space.id} 0x${range.start.toString(16)} ${attempt(() => space.dump(shown))}${rest > 0 ? ` and ${rest} pages more` : ''}`,
        );
      }
    }
    for (const node of attempt(() => this.machine.nodes, [])) lines.push(`${node.name}: ${node.used} of ${node.frames} pages in use`);
    for (const { failure, name, space } of this.contexts)
      if (failure) lines.push(`${name} in space ${space.id} has failed: ${failure.message}`);
    for (const pending of this.machine.pending)
      lines.push(`unfinished: ${pending.steps.join(' > ')} waits for ${pending.waitsFor || 'its turn'}`);
    return lines.join('\n');
  }

  /** What the CPU sees of some pages; if they cannot be read as one, page by page. */
  private async seen(space: AddressSpace, { start, end }: AddressRange): Promise<void> {
    if (await this.seenRun(space, { start, end })) return;
    for (let addr = start; addr < end; addr += PAGE) await this.seenRun(space, { start: addr, end: addr + PAGE });
  }

  /** False: some of it has been unmapped, or may not be read; that is not looked at. */
  private async seenRun(space: AddressSpace, range: AddressRange): Promise<boolean> {
    try {
      const bytes = await this.wait(space.readAsync(range.start, range.end - range.start));
      this.expected.compare('the CPU', space, range, 0, bytes);
      return true;
    } catch (error) {
      if (isFarfaultError(error) && error.code === 'EFAULT') return false;
      throw error;
    }
  }
}

function attempt(look: () => string): string;
function attempt<T>(look: () => T, otherwise: T): T;
function attempt<T>(look: () => T, otherwise: T | string = '(gone)'): T | string {
  try {
    return look();
  } catch {
    return otherwise;
  }
}

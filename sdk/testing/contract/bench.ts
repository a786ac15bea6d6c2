/// <reference path="../../core/host.d.ts" />
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
import { type FarfaultError, isFarfaultError } from '../../errors.ts';
import type { Context, Device, Driver } from '../../gmem/index.ts';
import type { Job, JobReport } from '../../gmem/job.ts';
import { createMachine, type Machine } from '../../machine.ts';
import type { AddressRange, AddressSpace } from '../../mm/address-space.ts';
import { randomOf } from '../random.ts';
import { ContractFailure, type Expectations, type Profile } from './case.ts';
import { machineFor } from './profile.ts';
import { type Watched, watch } from './watch.ts';

export const PAGE = 4096;

/** Turns that a case waits for a ticket before it says that the ticket is never completed. */
export const PATIENCE_TURNS = 400;

/** Pages of a mapping that a state shows. */
const SHOWN_PAGES = 128;

/** One turn of timers and promises. */
function turn(): Promise<void> {
  // A device that takes its time may take it from the clock.
  // eslint-disable-next-line no-restricted-globals
  return new Promise((resolve) => setTimeout(resolve, 0));
}

export class Bench {
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
  private readonly spaces: AddressSpace[] = [];
  private readonly contexts: Context[] = [];
  /** Bytes that pages must have, by space and page number: one value for every byte of the page, or all of them. */
  private readonly bytes: Map<AddressSpace, Map<number, Uint8Array>> = new Map();
  private readonly mapped: { space: AddressSpace; range: AddressRange }[] = [];
  /** Said by the case: the context may have failed, or errors without a caller may be there. */
  private readonly excused: Set<'failure' | 'stray' | 'violation'> = new Set();

  private constructor(
    machine: Machine,
    profile: Profile,
    makeDriver: () => Driver,
    driver: Driver,
    expectations: Expectations,
    seed: number,
  ) {
    this.machine = machine;
    this.profile = profile;
    this.expectations = expectations;
    this.driver = driver;
    this.makeDriver = makeDriver;
    this.random = randomOf(seed);
    this.watched = watch(driver);
    this.device = machine.addDevice(this.watched.driver);
    this.space = this.addSpace();
    this.context = this.attach(this.space);
  }

  /** @internal A world of the driver that `makeDriver` makes. Throws what the driver throws when it is attached. */
  static async make(profile: Profile, makeDriver: () => Driver, expectations: Expectations, seed: number): Promise<Bench> {
    const driver = makeDriver();
    const machine = await createMachine(machineFor(driver, expectations));
    try {
      return new Bench(machine, profile, makeDriver, driver, expectations, seed);
    } catch (error) {
      machine.close();
      throw error;
    }
  }

  // ------------------------------------------------------------------------------------------------------------------------------ world

  /** Another address space, without the device. */
  addSpace(): AddressSpace {
    return this.adopt(this.machine.createAddressSpace());
  }

  /** An address space that a verb has made (a fork's child), with the bytes of `parent`. */
  adopt(space: AddressSpace, parent?: AddressSpace): AddressSpace {
    this.spaces.push(space);
    const bytes = new Map<number, Uint8Array>();
    if (parent) {
      for (const [vpn, page] of this.bytes.get(parent)!) bytes.set(vpn, page.slice());
      for (const { space: owner, range } of [...this.mapped]) if (owner === parent) this.mapped.push({ space, range });
    }
    this.bytes.set(space, bytes);
    return space;
  }

  /** Attaches the device (or another one) to a space. */
  attach(space: AddressSpace, device: Device = this.device): Context {
    const context = space.attach(device);
    this.contexts.push(context);
    return context;
  }

  /** Another device of the same driver: the factory makes it, under another name. */
  addDevice(): Device {
    const driver = this.makeDriver();
    return this.machine.addDevice({ ...watch(driver).driver, name: `${driver.name.slice(0, 28)}-b` });
  }

  /** Anonymous memory. */
  mmap(pages: number, options: { readonly prot?: string; readonly space?: AddressSpace } & Record<string, unknown> = {}): AddressRange {
    const { space = this.space, ...rest } = options;
    const range = space.mmap({ bytes: pages * PAGE, prot: 'rw', ...rest } as never);
    this.mapped.push({ space, range });
    return range;
  }

  // ------------------------------------------------------------------------------------------------------------------------------ verbs

  /** Waits for an operation, letting the device go on. Throws ContractFailure when it never ends. */
  async wait<T>(operation: Promise<T>): Promise<T> {
    let ended = false;
    const settled = operation.then(
      () => (ended = true),
      () => (ended = true),
    );
    for (let turns = 0; !ended; turns++) {
      // What needs no device ends in microtasks.
      for (let i = 0; i < 20 && !ended; i++) await Promise.resolve();
      if (ended) break;
      if (turns >= PATIENCE_TURNS) throw new ContractFailure(this.stuck());
      await this.expectations.settle?.(this.driver);
      await turn();
    }
    await settled;
    return operation;
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
    this.wrote(space, range.start + from * PAGE, bytes);
  }

  /** The device writes the same byte over whole pages. */
  async deviceWrite(range: AddressRange, from: number, pages: number, value: number, context: Context = this.context): Promise<void> {
    this.mark();
    if (!this.runsAccesses) return this.fault(range, from, pages, 'write', context);
    const bytes = new Uint8Array(pages * PAGE).fill(value);
    await this.wait(context.writeAsync(range.start + from * PAGE, bytes));
    this.wrote(context.space, range.start + from * PAGE, bytes);
  }

  /** The CPU reads pages; they must hold what was written last. */
  async cpuSees(range: AddressRange, from: number, pages: number, space: AddressSpace = this.space): Promise<void> {
    this.mark();
    this.compare('the CPU', space, range, from, await this.wait(space.readAsync(range.start + from * PAGE, pages * PAGE)));
  }

  /** The device reads pages; they must hold what was written last. */
  async deviceSees(range: AddressRange, from: number, pages: number, context: Context = this.context): Promise<void> {
    this.mark();
    if (!this.runsAccesses) return this.fault(range, from, pages, 'read', context);
    const bytes = await this.wait(context.readAsync(range.start + from * PAGE, pages * PAGE));
    this.compare('the device', context.space, range, from, bytes);
  }

  /** Runs a job of the device, and keeps account of what its writes leave. Accesses of one job to one byte must not conflict between lanes. */
  async submit(job: Job, context: Context = this.context): Promise<JobReport> {
    this.mark();
    const report = await this.wait(context.submitAsync(job));
    const cancelled = new Set(report.cancelled);
    job.accesses.forEach((access, i) => {
      if (access.op !== 'write' || cancelled.has(i)) return;
      const bytes = new Uint8Array(access.bytes);
      let value = access.value ?? 0;
      for (let at = 0; at < access.bytes; at++, value = Math.floor(value / 256)) bytes[at] = value % 256;
      this.wrote(context.space, access.addr, bytes);
    });
    return report;
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

  /** Whether the machine can run accesses of the device: its memory has bytes here. Where it has none, faults stand for accesses. */
  get runsAccesses(): boolean {
    return (this.driver.memory ?? []).every(({ bytesIn }) => bytesIn === undefined || bytesIn === 'backed');
  }

  /** Says that bytes changed by other means than these verbs. */
  wrote(space: AddressSpace, addr: number, bytes: Uint8Array): void {
    const pages = this.bytes.get(space)!;
    for (let done = 0; done < bytes.length;) {
      const at = (addr + done) % PAGE;
      const vpn = Math.floor((addr + done) / PAGE);
      const length = Math.min(PAGE - at, bytes.length - done);
      let page = pages.get(vpn);
      if (!page) pages.set(vpn, (page = new Uint8Array(PAGE)));
      page.set(bytes.subarray(done, done + length), at);
      done += length;
    }
  }

  /** Says that pages are new: they read as zeros again. */
  forget(space: AddressSpace, range: AddressRange): void {
    const pages = this.bytes.get(space)!;
    for (const vpn of [...pages.keys()]) if (vpn * PAGE >= range.start && vpn * PAGE < range.end) pages.delete(vpn);
  }

  /** Unmaps, and forgets what was there. */
  async munmap(range: AddressRange, space: AddressSpace = this.space): Promise<void> {
    this.mark();
    await this.wait(space.munmapAsync(range));
    this.forget(space, range);
  }

  // ----------------------------------------------------------------------------------------------------------------------------- verdicts

  /** Throws ContractFailure with `what` unless `holds`. */
  require(holds: boolean, what: string): asserts holds {
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
    const violation = this.watched.violations[0];
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
    for (const { space, range } of this.mapped) await this.seen(space, range);
    for (const context of this.contexts) {
      this.mark();
      if (context.isAttached) await this.wait(context.detachAsync());
    }
    this.inspect();
    this.mark();
    for (const space of this.spaces) await this.wait(space.closeAsync());
    this.inspect();
    if (this.machine.pending.length > 0) throw new ContractFailure(this.stuck());
    for (const node of this.machine.nodes) {
      if (node.used > 0)
        throw new ContractFailure(`${node.used} pages of ${node.name} are in use after the last address space has ended: they leaked`);
    }
  }

  /** @internal */
  close(): void {
    this.machine.close();
  }

  /** What a person needs to see: mappings a letter a page, nodes, what is unfinished. */
  state(): string {
    const lines: string[] = [];
    for (const space of this.spaces) {
      for (const { space: owner, range } of this.mapped) {
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

  private stuck(): string {
    const waits = this.machine.pending.map(({ steps, waitsFor }) => `${steps.join(' > ')} waits for ${waitsFor || 'its turn'}`);
    return `does not end${waits.length > 0 ? `: ${waits.join('; ')}` : ''}`;
  }

  private async seen(space: AddressSpace, range: AddressRange): Promise<void> {
    // What has been unmapped, or may not be read, is not looked at.
    for (const [vpn] of this.bytes.get(space) ?? []) {
      const addr = vpn * PAGE;
      if (addr < range.start || addr >= range.end) continue;
      let bytes: Uint8Array;
      try {
        bytes = await this.wait(space.readAsync(addr, PAGE));
      } catch (error) {
        if (isFarfaultError(error) && error.code === 'EFAULT') continue;
        throw error;
      }
      this.compare('the CPU', space, { start: addr, end: addr + PAGE }, 0, bytes);
    }
  }

  private compare(who: string, space: AddressSpace, range: AddressRange, from: number, bytes: Uint8Array): void {
    // A memory without bytes gives zeros back, whatever was written.
    if (this.driver.memory?.some(({ bytesIn }) => bytesIn === 'metadata')) return;
    const pages = this.bytes.get(space)!;
    for (let page = 0; page < bytes.length / PAGE; page++) {
      const addr = range.start + (from + page) * PAGE;
      const wanted = pages.get(addr / PAGE);
      for (let at = 0; at < PAGE; at++) {
        const value = wanted?.[at] ?? 0;
        if (bytes[page * PAGE + at] === value) continue;
        const told = wanted ? `${value}, which was written last` : '0: nothing was written there';
        throw new ContractFailure(
          `${who} reads ${bytes[page * PAGE + at]} at 0x${(addr + at).toString(16)} (page ${from + page} of its range) and not ${told}`,
        );
      }
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

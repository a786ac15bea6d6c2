/** A program on the machine and on the naive model at once: after every operation both must be in the same state. */
import mirror from '../../drivers/mirror/index.ts';
import nouveau from '../../drivers/nouveau/index.ts';
import { isFarfaultError } from '../../sdk/errors.ts';
import type { Context } from '../../sdk/gmem/context.ts';
import type { Device } from '../../sdk/gmem/device.ts';
import { createMachineSync, type Machine } from '../../sdk/machine.ts';
import type { AddressRange, AddressSpace } from '../../sdk/mm/address-space.ts';
import { checkMachine } from '../../sdk/testing/model/check.ts';
import type { ModelContext } from '../../sdk/testing/model/context.ts';
import { ModelMachine } from '../../sdk/testing/model/machine.ts';
import type { ModelSpace } from '../../sdk/testing/model/space.ts';
import { fill, valueOf, type Word } from '../../sdk/testing/model/value.ts';
import {
  type Operation,
  printOperation,
  type Program,
  PROGRAM_PAGES,
  PROGRAM_SPACES,
  PROGRAM_VRAM_PAGES_MAX,
  type ProgramDevice,
} from '../../sdk/testing/program.ts';
import type { Coverage } from './coverage.ts';

const PAGE_BYTES = 4096;

/** The machine and the model are not in the same state, or one of them is in none. */
export class Divergence extends Error {}

/**
 * How an operation ended, in words that both sides use. `exhausted`: a device fault found host memory exhausted. That ends the program: how
 * far a batch has come then is nobody's promise.
 */
interface Outcome {
  readonly end: string;
  readonly data?: Uint8Array;
  readonly order?: readonly number[];
  readonly cancelled?: readonly number[];
  readonly observed?: readonly (Word | undefined)[];
}

/** A space on both sides, and the devices that are attached to it. */
interface SpacePair {
  readonly real: AddressSpace;
  readonly model: ModelSpace;
  readonly contexts: Map<number, { readonly real: Context; readonly model: ModelContext }>;
}

/** Machines by the size of their host memory: emptied for the next program, since a browser keeps few alive. */
const machines = new Map<number, Machine>();

function emptyMachine(dramPages: number): Machine {
  const used = machines.get(dramPages);
  if (used) {
    used.reset();
    return used;
  }
  const machine = createMachineSync({ dram: dramPages * PAGE_BYTES, deviceMemory: PROGRAM_VRAM_PAGES_MAX * PAGE_BYTES, tablePages: 512 });
  machines.set(dramPages, machine);
  return machine;
}

export function closeMachines(): void {
  for (const machine of machines.values()) machine.close();
  machines.clear();
}

/** Runs a program on both. Returns how many operations were carried out; throws a Divergence. */
export function runBoth(program: Program, coverage?: Coverage): number {
  try {
    const both = new Both(program, coverage);
    return both.run();
  } catch (error) {
    // Whatever state it is in, nobody should build on it.
    machines.get(program.dramPages)?.close();
    machines.delete(program.dramPages);
    throw error;
  }
}

class Both {
  readonly #program: Program;
  readonly #coverage: Coverage | undefined;
  readonly #machine: Machine;
  readonly #model: ModelMachine;
  readonly #devices: Device[];
  readonly #spaces: SpacePair[];
  /** What TLBs of detached contexts had counted, by device. */
  readonly #gone: { hit: number; miss: number }[];
  /** Pages that moved because the program asked or a device left: the model counts those as moved by faults and by touches. */
  readonly #asked = { fault: 0, home: 0 };

  constructor(program: Program, coverage: Coverage | undefined) {
    this.#program = program;
    this.#coverage = coverage;
    this.#machine = emptyMachine(program.dramPages);
    this.#model = new ModelMachine({ dramPages: program.dramPages });
    this.#devices = program.devices.map((device, i) => this.#machine.addDevice({ ...driverOf(device), name: nameOf(i) }));
    program.devices.forEach((device, i) => {
      if (device.kind === 'nouveau') this.#model.addNouveau({ ...device, name: nameOf(i) });
      else this.#model.addMirror({ ...device, name: nameOf(i) });
    });
    this.#gone = program.devices.map(() => ({ hit: 0, miss: 0 }));
    this.#spaces = Array.from({ length: PROGRAM_SPACES }, () => ({
      real: this.#machine.createAddressSpace(),
      model: this.#model.createSpace(),
      contexts: new Map(),
    }));
  }

  run(): number {
    const { operations } = this.#program;
    for (const [i, operation] of operations.entries()) {
      const where = `operation ${i}, ${printOperation(operation)}`;
      const before = this.#coverage?.look(this.#model, operation);
      let exhausted: boolean;
      try {
        exhausted = this.#step(operation);
        if (!exhausted) this.#compare();
      } catch (error) {
        if (error instanceof Divergence) throw new Divergence(`${where}: ${error.message}`);
        throw new Divergence(`${where}: ${error instanceof Error ? error.stack : String(error)}`);
      }
      if (exhausted) {
        this.#close(where);
        return i + 1;
      }
      if (before) this.#coverage!.add(this.#model, before);
    }
    checkMachine(this.#model);
    this.#close('the end');
    return operations.length;
  }

  /** One operation on both sides. True: a device fault found host memory exhausted, on both. */
  #step(operation: Operation): boolean {
    const counters = this.#machine.counters.migratedByCause;
    const { user, detach } = counters;
    const asked = user.pages + detach.pages;
    const real = this.#onReal(operation);
    const model = this.#onModel(operation);
    this.#asked[operation.verb === 'to-device' ? 'fault' : 'home'] += user.pages + detach.pages - asked;
    same('outcome', real.end, model.end);
    same('data', real.data?.join(), model.data?.join());
    same('order of execution', real.order?.join(), model.order?.join());
    same('cancelled accesses', real.cancelled?.join(), model.cancelled?.join());
    same('observed values', JSON.stringify(real.observed), JSON.stringify(model.observed));
    if (operation.verb === 'attach' || operation.verb === 'detach') this.#attachment(operation, real.end);
    return real.end === 'exhausted';
  }

  #onReal(operation: Operation): Outcome {
    const { real: space, contexts } = this.#spaces[operation.space]!;
    try {
      switch (operation.verb) {
        case 'map':
          space.mmap({ ...bytesOf(operation), prot: operation.prot, fixed: true });
          return { end: 'done' };
        case 'unmap':
          space.munmap(rangeOf(operation));
          return { end: 'done' };
        case 'protect':
          space.mprotect(rangeOf(operation), operation.prot);
          return { end: 'done' };
        case 'dontneed':
          space.madvise(rangeOf(operation), 'dontneed');
          return { end: 'done' };
        case 'read': {
          const data = new Uint8Array(operation.bytes);
          const { status, bytes } = space.tryRead(operation.addr, data);
          return status === 'done' ? { end: 'done', data } : { end: `${failure(status)} after ${bytes}` };
        }
        case 'write': {
          const { status, bytes } = space.tryWrite(operation.addr, dataOf(operation));
          return { end: status === 'done' ? 'done' : `${failure(status)} after ${bytes}` };
        }
        case 'attach': {
          const context = space.attach(this.#devices[operation.device]!);
          contexts.set(operation.device, { real: context, model: undefined as never });
          return { end: 'attached' };
        }
        default:
      }
      const context = contexts.get(operation.device)?.real;
      if (!context) return { end: 'not attached' };
      switch (operation.verb) {
        case 'detach':
          context.detach();
          return { end: 'detached' };
        case 'to-device':
        case 'to-host':
          return { end: `${context.migrate(rangeOf(operation), { to: operation.verb === 'to-device' ? 'device' : 'host' })} pages` };
        case 'load': {
          const step = context.readStep(operation.addr, operation.bytes);
          this.#machine.platform.scheduler.runSync(step);
          return step.outcome === 'done' ? { end: 'done', data: step.bytes } : { end: failed(step) };
        }
        case 'store': {
          const step = context.writeStep(operation.addr, dataOf(operation));
          this.#machine.platform.scheduler.runSync(step);
          return { end: step.outcome === 'done' ? 'done' : failed(step) };
        }
        case 'job': {
          const accesses = operation.accesses.map(({ write, addr, bytes, value }) => {
            const { lo, hi } = wordOf(value);
            return { op: write ? ('write' as const) : ('read' as const), addr, bytes, value: hi * 2 ** 32 + lo };
          });
          const { order, cancelled, observed } = context.submit({ accesses, lanes: operation.lanes });
          const seen = operation.accesses.map(({ write }, k) =>
            write || cancelled.includes(k) ? undefined : { lo: observed[k * 2]!, hi: observed[k * 2 + 1]! },
          );
          return { end: 'done', order: [...order], cancelled: ascending(cancelled), observed: seen };
        }
      }
    } catch (error) {
      if (!isFarfaultError(error)) throw error;
      // A device without memory has no pages to move.
      if (error.code === 'EOPNOTSUPP') return { end: '0 pages' };
      if ((error.code === 'EAGAIN' || error.code === 'EBUSY') && operation.verb === 'detach') return { end: 'busy' };
      if (error.code === 'ENOMEM' && (operation.verb === 'job' || operation.verb === 'load' || operation.verb === 'store'))
        return { end: 'exhausted' };
      if (error.code === 'EINVAL') return { end: 'refused' };
      throw error;
    }
  }

  #onModel(operation: Operation): Outcome {
    const { model: space, contexts } = this.#spaces[operation.space]!;
    switch (operation.verb) {
      case 'map': {
        const { vpn, pages, prot } = operation;
        if (space.vmas.parts(vpn, vpn + pages).length > 0) return { end: 'refused' };
        space.mmap(vpn, pages, prot);
        return { end: 'done' };
      }
      case 'unmap':
        space.munmap(operation.vpn, operation.pages);
        return { end: 'done' };
      case 'protect':
        if (!isMapped(space, operation)) return { end: 'refused' };
        space.mprotect(operation.vpn, operation.pages, operation.prot);
        return { end: 'done' };
      case 'dontneed':
        if (!isMapped(space, operation)) return { end: 'refused' };
        space.dontneed(operation.vpn, operation.pages);
        return { end: 'done' };
      case 'read': {
        const read = space.read(operation.addr, operation.bytes);
        return read instanceof Uint8Array ? { end: 'done', data: read } : { end: `${read.reason} after ${read.addr - operation.addr}` };
      }
      case 'write': {
        const failed = space.write(operation.addr, dataOf(operation));
        return { end: failed ? `${failed.reason} after ${failed.addr - operation.addr}` : 'done' };
      }
      case 'attach': {
        const device = this.#model.devices[operation.device]!;
        if (space.contexts.some((context) => context.device === device)) return { end: 'refused' };
        const pair = contexts.get(operation.device)!;
        contexts.set(operation.device, { ...pair, model: this.#model.attach(space, device) });
        return { end: 'attached' };
      }
      default:
    }
    const context = contexts.get(operation.device)?.model;
    if (!context) return { end: 'not attached' };
    try {
      switch (operation.verb) {
        case 'detach':
          return { end: context.detach() ? 'detached' : 'busy' };
        case 'to-device':
          return { end: `${context.migrate(operation.vpn, operation.pages)} pages` };
        case 'to-host':
          return { end: `${context.migrateHome(operation.vpn, operation.pages)} pages` };
        case 'load': {
          const data = new Uint8Array(operation.bytes);
          const bytes = context.range(operation.addr, data, false);
          return bytes === operation.bytes ? { end: 'done', data } : { end: `segfault after ${bytes}` };
        }
        case 'store': {
          const bytes = context.range(operation.addr, dataOf(operation), true);
          return { end: bytes === operation.bytes ? 'done' : `segfault after ${bytes}` };
        }
        case 'job': {
          const accesses = operation.accesses.map((access) => ({ ...access, ...wordOf(access.value) }));
          const { order, cancelled, lo, hi } = context.submit(accesses, operation.lanes);
          const seen = accesses.map(({ write }, k) => (write || cancelled.includes(k) ? undefined : { lo: lo[k]!, hi: hi[k]! }));
          return { end: 'done', order, cancelled: ascending(cancelled), observed: seen };
        }
      }
    } catch (error) {
      if (error instanceof Error && error.message === 'host memory is exhausted') return { end: 'exhausted' };
      throw error;
    }
  }

  /** After a detach the counts of the context's TLB are all that is left of it. */
  #attachment({ space, device, verb }: Operation & { device: number }, end: string): void {
    const { contexts } = this.#spaces[space]!;
    if (verb === 'attach' || end !== 'detached') return;
    this.#addTlb(this.#gone[device]!, contexts.get(device)!.real);
    contexts.delete(device);
  }

  #addTlb(sum: { hit: number; miss: number }, context: Context): void {
    const { hit, miss } = context.tlbCounts;
    sum.hit += hit;
    sum.miss += miss;
  }

  // ------------------------------------------------------------------------------------------------------------- comparing

  #compare(): void {
    for (const { real, model, contexts } of this.#spaces) {
      same('map', real.dump(), this.#dump(model));
      for (const [device, context] of contexts) same(`table of ${nameOf(device)}`, realRights(context.real), modelRights(context.model));
    }
    sameNumbers(this.#realNumbers(), this.#modelNumbers());
    same('verify()', this.#machine.verify(), undefined);
    same('stray errors', this.#machine.strayErrors.join(), '');
  }

  /** The model's pages in the letters of the machine. */
  #dump(space: ModelSpace): string {
    const lines = space.vmas.parts(0, 2 ** 36).map(({ start, end, prot }) => {
      let letters = '';
      for (let vpn = start; vpn < end; vpn++) letters += this.#letter(space, vpn, prot === 'none');
      const rights = { none: '---', r: 'r--', rw: 'rw-' }[prot];
      return `${(start * PAGE_BYTES).toString(16)}-${(end * PAGE_BYTES).toString(16)} ${rights} ${letters}`;
    });
    return lines.join('\n');
  }

  #letter(space: ModelSpace, vpn: number, noRights: boolean): string {
    const entry = space.pages.get(vpn);
    if (!entry) return '.';
    if (entry.kind === 'device') {
      const device = this.#model.devices.findIndex(({ name }) => name === entry.frame.owner?.name);
      const letter = String.fromCharCode('d'.charCodeAt(0) + device);
      return entry.write ? letter.toUpperCase() : letter;
    }
    if (noRights) return 'n';
    if (entry.kind === 'zero') return 'z';
    return entry.write ? 'H' : 'h';
  }

  #realNumbers(): Record<string, number> {
    const machine = this.#machine;
    const { counters } = machine;
    const { fault, home, evict } = counters.migratedByCause;
    const cpu = { hit: 0, miss: 0 };
    for (const { real } of this.#spaces) {
      cpu.hit += real.tlbCounts.hit;
      cpu.miss += real.tlbCounts.miss;
    }
    const numbers: Record<string, number> = {
      batches: counters.batches,
      coalesced: counters.coalesced,
      deferred: counters.deferred,
      cancelled: counters.cancelled,
      overflow: counters.overflow,
      cleared: counters.cleared,
      evictions: counters.evictions,
      invalidations: counters.invalidations,
      'moved by fault': fault.pages + this.#asked.fault,
      'moved by home': home.pages + this.#asked.home,
      'moved by evict': evict.pages,
      'cpu tlb hit': cpu.hit,
      'cpu tlb miss': cpu.miss,
    };
    for (const [cause, faults] of Object.entries(counters.cpuFaults)) numbers[`cpu fault ${cause}`] = faults;
    counters.batchSizes.forEach((times, i) => (numbers[`batches of ${2 ** i}`] = times));
    for (const [from, targets] of Object.entries(counters.migrated)) {
      for (const [to, { pages, bytes }] of Object.entries(targets)) {
        numbers[`${from} to ${to}`] = pages;
        numbers[`bytes ${from} to ${to}`] = bytes;
      }
    }
    for (const [pages, times] of Object.entries(counters.transfers.toDevice)) numbers[`transfers in of ${pages}`] = times;
    for (const [pages, times] of Object.entries(counters.transfers.toHost)) numbers[`transfers out of ${pages}`] = times;
    for (const { name, used, peak } of machine.nodes) {
      numbers[`${name} used`] = used;
      numbers[`${name} peak`] = peak;
    }
    this.#devices.forEach((device, i) => {
      const tlb = { ...this.#gone[i]! };
      for (const { contexts } of this.#spaces) if (contexts.has(i)) this.#addTlb(tlb, contexts.get(i)!.real);
      numbers[`${device.name} tlb hit`] = tlb.hit;
      numbers[`${device.name} tlb miss`] = tlb.miss;
      numbers[`${device.name} faults`] = counters.deviceFaults[device.name] ?? 0;
    });
    return numbers;
  }

  #modelNumbers(): Record<string, number> {
    const model = this.#model;
    const { tlb, faults, migrated, evictions, invalidations, frames, detail, transfers } = model.counters();
    const numbers: Record<string, number> = {
      batches: detail.batches,
      coalesced: detail.coalesced,
      deferred: detail.deferred,
      cancelled: detail.cancelled,
      overflow: detail.overflow,
      cleared: detail.cleared,
      evictions,
      invalidations,
      'moved by fault': detail.migratedByCause.fault,
      'moved by home': detail.migratedByCause.home,
      'moved by evict': detail.migratedByCause.evict,
      'cpu tlb hit': tlb.cpu.hit,
      'cpu tlb miss': tlb.cpu.miss,
      'dram used': model.host.used,
    };
    for (const [cause, times] of Object.entries(detail.cpuFaults)) numbers[`cpu fault ${cause}`] = times;
    for (const [power, times] of Object.entries(detail.batchSizes)) numbers[`batches of ${power}`] = times;
    for (const [from, targets] of Object.entries(migrated)) {
      for (const [to, { pages, bytes }] of Object.entries(targets)) {
        numbers[`${from} to ${to}`] = pages;
        numbers[`bytes ${from} to ${to}`] = bytes;
      }
    }
    for (const [pages, times] of Object.entries(transfers.toDevice)) numbers[`transfers in of ${pages}`] = times;
    for (const [pages, times] of Object.entries(transfers.toHost)) numbers[`transfers out of ${pages}`] = times;
    for (const [name, { peak }] of Object.entries(frames)) numbers[`${name} peak`] = peak;
    model.devices.forEach((device, i) => {
      if ('vram' in device) numbers[`${device.node} used`] = device.vram.used;
      const { hit, miss } = tlb.devices[device.name]!;
      const shape = this.#program.devices[i]!;
      // A table that the driver reads by itself has no TLB that the framework could count.
      const own = shape.kind === 'mirror' && shape.ownTable;
      numbers[`${device.name} tlb hit`] = own ? 0 : hit;
      numbers[`${device.name} tlb miss`] = own ? hit + miss : miss;
      numbers[`${device.name} faults`] = faults.devices[device.name]!;
    });
    return numbers;
  }

  /** Ends the spaces: every frame comes back. */
  #close(where: string): void {
    try {
      for (const { real } of this.#spaces) real.close();
      for (const { name, used } of this.#machine.nodes) same(`${name} used after closing`, used, 0);
      same('verify() after closing', this.#machine.verify(), undefined);
      same('stray errors', this.#machine.strayErrors.join(), '');
    } catch (error) {
      throw new Divergence(`closing after ${where}: ${error instanceof Error ? error.stack : String(error)}`);
    }
  }
}

function driverOf(device: ProgramDevice) {
  const granule = device.granulePages * PAGE_BYTES;
  const { faultEntries } = device;
  return device.kind === 'nouveau'
    ? nouveau({ vram: device.vramPages * PAGE_BYTES, granule, faultEntries })
    : mirror({ granule, faultEntries, ownTable: device.ownTable });
}

function nameOf(device: number): string {
  return 'ab'[device]!;
}

function rangeOf({ vpn, pages }: { vpn: number; pages: number }): AddressRange {
  return { start: vpn * PAGE_BYTES, end: (vpn + pages) * PAGE_BYTES };
}

function bytesOf({ vpn, pages }: { vpn: number; pages: number }): { at: number; bytes: number } {
  return { at: vpn * PAGE_BYTES, bytes: pages * PAGE_BYTES };
}

/** Whether every page of a range is in a VMA. */
function isMapped(space: ModelSpace, { vpn, pages }: { vpn: number; pages: number }): boolean {
  return Array.from({ length: pages }, (_, i) => space.vmas.find(vpn + i)).every((vma) => vma !== undefined);
}

/** A word that a job of the machine can be given: below 2^53. */
function wordOf(value: number): Word {
  const { lo, hi } = valueOf(value, 0);
  return { lo, hi: hi & 0x1fffff };
}

function dataOf({ bytes, value }: { bytes: number; value: number }): Uint8Array {
  const data = new Uint8Array(bytes);
  fill(data, bytes, wordOf(value));
  return data;
}

function failure(status: string): string {
  return status === 'no mapping' || status === 'permission' ? 'segfault' : status.replace(' ', '-');
}

/** How an access of a device by itself failed. */
function failed({ outcome, done }: { outcome: string; done: number }): string {
  return outcome === 'no memory' ? 'exhausted' : `${failure(outcome)} after ${done}`;
}

function ascending(numbers: readonly number[]): number[] {
  return [...numbers].sort((a, b) => a - b);
}

/** What a device may do without a fault, one letter a page. */
function realRights(context: Context): string {
  return PROGRAM_PAGES.map((vpn) => (context.reaches(vpn, false) ? (context.reaches(vpn, true) ? 'w' : 'r') : '-')).join('');
}

function modelRights(context: ModelContext): string {
  return PROGRAM_PAGES.map((vpn) => (context.permits(vpn, false) ? (context.permits(vpn, true) ? 'w' : 'r') : '-')).join('');
}

function same(what: string, real: unknown, model: unknown): void {
  if (real !== model) throw new Divergence(`${what}\n  machine: ${String(real)}\n  model:   ${String(model)}`);
}

/** Counters that are absent are zero. */
function sameNumbers(real: Record<string, number>, model: Record<string, number>): void {
  const wrong: string[] = [];
  for (const name of new Set([...Object.keys(real), ...Object.keys(model)])) {
    const [a, b] = [real[name] ?? 0, model[name] ?? 0];
    if (a !== b) wrong.push(`${name}: machine ${a}, model ${b}`);
  }
  if (wrong.length > 0) throw new Divergence(`counters\n  ${wrong.join('\n  ')}`);
}

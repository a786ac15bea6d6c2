/** The world in which one verb meets one anomaly: a machine, its spaces, devices whose driver can be made to fail, and who must read what. */
import { expect } from 'vitest';
import { type AddressRange, type AddressSpace, type Context, type Device, isFarfaultError, type Machine } from 'farfault';
import type { AtomicMeans, CommandStep, Driver, MemoryDescription } from 'farfault/gmem';
import { faulty, FaultPlan, PlannedFault } from 'farfault/testing';
import * as L from '../../assembly/layout.ts';
import { DONE } from '../../sdk/step/step.ts';
import { PAGE, Probe, type ProbeOptions, used } from '../machine/probe.ts';

/** What a page holds, all of it: one byte; or the code of the error that reading it is; several: one of them; undefined: whatever it likes. */
export type Cell = number | string | readonly (number | string)[] | undefined;

/** What a reader finds. */
export type Found = number | string | undefined;

/** Somebody who can read, what he reads before the verb, and what after it. */
export interface View {
  readonly name: string;
  readonly before: readonly Cell[];
  readonly after: readonly Cell[];
  /** What he reads on a page now. */
  read(page: number): Found;
  /** Whether he is there at all. */
  there?(): boolean;
}

/** A verb, ready to be called. */
export interface Arranged {
  act(): unknown;
  readonly views: readonly View[];
  /** Gives back what a success has left. */
  end?(): void;
  /** Codes that the verb may fail with, besides ENOMEM; all are documented at it. */
  readonly codes?: readonly string[];
  /** It does not mean the same after a success. */
  readonly once?: boolean;
}

export interface DeviceShape extends ProbeOptions {
  readonly kind?: 'private' | 'coherent';
  readonly atomics?: readonly AtomicMeans[];
}

export class World {
  readonly machine: Machine;
  readonly plans: FaultPlan[] = [];
  readonly contexts: Context[] = [];
  readonly files: { close(): void }[] = [];

  constructor(machine: Machine) {
    machine.reset();
    this.machine = machine;
  }

  /** A device whose driver has every family. */
  device(shape: DeviceShape = {}): Device {
    const { kind = 'private', atomics, ...options } = shape;
    const { driver } = new Probe({ name: 'gpu', pages: 16, cached: true, ...options });
    return this.add(complete(driver, kind, atomics));
  }

  /** A device whose driver can be made to fail. */
  add(driver: Driver): Device {
    const plan = new FaultPlan();
    this.plans.push(plan);
    return this.machine.addDevice(faulty(driver, plan));
  }

  attach(space: AddressSpace, shape: DeviceShape = {}): Context {
    const context = space.attach(this.device(shape));
    this.contexts.push(context);
    return context;
  }

  /** `space.read`, page by page of a range, as a view; pages full of one byte. */
  cpuView(
    name: string,
    space: () => AddressSpace | undefined,
    range: AddressRange,
    before: readonly Cell[],
    after: readonly Cell[] = before,
  ): View {
    return {
      name,
      before,
      after,
      read: (page) => read((addr, bytes) => space()!.read(addr, bytes), range, page),
      there: () => space() !== undefined,
    };
  }

  /** The same as the device reads. */
  deviceView(context: Context, range: AddressRange, before: readonly Cell[], after: readonly Cell[] = before): View {
    return {
      name: context.name,
      before,
      after,
      read: (page) => read((addr, bytes) => context.read(addr, bytes), range, page),
    };
  }

  /** Nothing is broken, or under way; what failed without a caller failed with one of these codes. */
  expectSound(excused: readonly string[] = []): void {
    const { machine } = this;
    expect(machine.verify()).toBe(undefined);
    expect(machine.pending).toEqual([]);
    expect(machine.tickets).toEqual([]);
    for (const error of machine.strayErrors)
      if (!(error instanceof PlannedFault) && !(isFarfaultError(error) && excused.includes(error.code))) throw error;
  }

  /** Ends everything: nothing is left. */
  expectNoLeak(): void {
    const { machine } = this;
    for (const space of [...machine.platform.spaces.values()]) space.close();
    for (const file of this.files) file.close();
    expect(used(machine)).toMatch(/^(\S+ 0(, )?)+$/);
    const { core } = machine.platform;
    const left = {
      tables: L.H_PAGES_USED,
      deposited: L.H_PAGES_DEPOSITED,
      records: L.H_CHAIN_USED,
      reserved: L.H_CHAIN_RESERVED,
    };
    expect(Object.fromEntries(Object.entries(left).map(([name, field]) => [name, core.header(field)]))).toEqual({
      tables: 0,
      deposited: 0,
      records: 0,
      reserved: 0,
    });
    expect(machine.verify()).toBe(undefined);
  }
}

/** The byte that a page is full of, or the code of the error. */
function read(from: (addr: number, bytes: number) => Uint8Array, range: AddressRange, page: number): Found {
  try {
    const bytes = from(range.start + page * PAGE, PAGE);
    const [first] = bytes;
    for (let i = 1; i < bytes.length; i++) if (bytes[i] !== first) return 'torn';
    return first;
  } catch (error) {
    if (isFarfaultError(error)) return error.code;
    throw error;
  }
}

/** Bytes of pages that are full of one value each. */
export function pagesOf(...values: number[]): Uint8Array {
  const bytes = new Uint8Array(values.length * PAGE);
  values.forEach((value, page) => bytes.fill(value, page * PAGE, (page + 1) * PAGE));
  return bytes;
}

/** A probe with the families that it lacks: a fault service, and a command that answers with its request. */
function complete(driver: Driver, kind: 'private' | 'coherent', atomics: readonly AtomicMeans[] | undefined): Driver {
  return {
    ...driver,
    memory: (driver.memory ?? []).map((each): MemoryDescription => ({ ...each, kind })),
    ...(atomics ? { atomics } : {}),
    attach(context) {
      return {
        ...driver.attach(context),
        fault: { service: (batch) => context.batchStep().of(batch, batch.records) },
        command: (request): CommandStep => ({ name: 'echo', result: request, next: () => DONE }),
      };
    },
  };
}

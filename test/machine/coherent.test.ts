import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type AddressRange, type AddressSpace, type Context, type Machine } from 'farfault';
import { defineDriver, deviceTable, type Driver, permits, type Translation } from 'farfault/gmem';
import { expectClean, PAGE, smallMachine, used } from './probe.ts';

/** A device whose memory the CPU reaches, with a table of its own if asked for. */
const apu = defineDriver(
  ({
    name = 'apu',
    pages = 8,
    granulePages = 1,
    walks = false,
  }: {
    name?: string;
    pages?: number;
    granulePages?: number;
    walks?: boolean;
  }): Driver => ({
    name,
    memory: [{ name: 'hbm', kind: 'coherent', bytes: pages * PAGE }],
    granuleBytes: granulePages * PAGE,
    attach(context) {
      if (!walks) return {};
      const table = deviceTable(context);
      return {
        pmap: table,
        walk: {
          translate: (vpn, access): Translation | undefined => {
            const found = table.walk(vpn, access);
            return permits(found, access) ? found : undefined;
          },
        },
      };
    },
  }),
);

let machine: Machine;
let space: AddressSpace;
let context: Context;
let range: AddressRange;

function begin(driver: Driver, pages = 4): void {
  machine = smallMachine();
  space = machine.createAddressSpace();
  context = space.attach(machine.addDevice(driver));
  range = space.mmap({ bytes: pages * PAGE });
  for (let i = 0; i < pages; i++) space.write(range.start + i * PAGE, Uint8Array.of(i + 1));
}

const first = (from: { read(addr: number, bytes: number): Uint8Array }): number[] =>
  Array.from({ length: (range.end - range.start) / PAGE }, (_, i) => from.read(range.start + i * PAGE, 1)[0]!);

afterEach(() => {
  expectClean(machine);
  machine.close();
});

describe('pages in coherent memory', () => {
  beforeEach(() => begin(apu({})));

  test('are read and written by both sides where they are', () => {
    expect(first(context)).toEqual([1, 2, 3, 4]);
    expect(used(machine)).toBe('dram 0, apu.hbm 4');
    const faults = { ...machine.counters.cpuFaults };
    for (let i = 0; i < 4; i++) space.write(range.start + i * PAGE, Uint8Array.of(10 + i));
    expect(first(context)).toEqual([10, 11, 12, 13]);
    for (let i = 0; i < 4; i++) context.write(range.start + i * PAGE, Uint8Array.of(20 + i));
    expect(first(space)).toEqual([20, 21, 22, 23]);
    expect(used(machine)).toBe('dram 0, apu.hbm 4');
    // The CPU's own rights did not suffice for nothing: not one fault.
    expect(machine.counters.cpuFaults).toEqual(faults);
  });

  test('come home by migration only', () => {
    context.migrate(range, { to: 'device' });
    expect(context.migrate(range, { to: 'host' })).toBe(4);
    expect(used(machine)).toBe('dram 4, apu.hbm 0');
    expect(machine.counters.migrated['apu.hbm']!['dram']!.pages).toBe(4);
    expect(first(space)).toEqual([1, 2, 3, 4]);
  });

  test('lose and regain the right to write by mprotect, without moving', () => {
    context.migrate(range, { to: 'device' });
    space.mprotect(range, 'r');
    expect(context.fault(range.start, 'write')).toBe('permission');
    expect(first(context)).toEqual([1, 2, 3, 4]);
    space.mprotect(range, 'rw');
    context.write(range.start, Uint8Array.of(9));
    space.write(range.start + PAGE, Uint8Array.of(8));
    expect(first(space)).toEqual([9, 8, 3, 4]);
    expect(used(machine)).toBe('dram 0, apu.hbm 4');
  });

  test('are where residency says', () => {
    context.migrate(range, { to: 'device' });
    expect([0, 1, 2, 3].map((i) => context.residency(range.start / PAGE + i)).sort()).toEqual([0, 1, 2, 3]);
    context.migrate(range, { to: 'host' });
    expect(context.residency(range.start / PAGE)).toBe(undefined);
  });

  test('are freed by munmap and go home with a detach', () => {
    context.migrate(range, { to: 'device' });
    space.munmap({ start: range.start, end: range.start + 2 * PAGE });
    expect(used(machine)).toBe('dram 0, apu.hbm 2');
    context.detach();
    expect(used(machine)).toBe('dram 2, apu.hbm 0');
    range = { start: range.start + 2 * PAGE, end: range.end };
    expect(first(space)).toEqual([3, 4]);
  });
});

describe('coherent memory that is full', () => {
  test('evicts its oldest pages, and the data stays right', () => {
    begin(apu({ pages: 3 }), 6);
    expect(first(context)).toEqual([1, 2, 3, 4, 5, 6]);
    expect(used(machine)).toBe('dram 3, apu.hbm 3');
    expect(machine.counters.evictions).toBe(3);
    expect(first(space)).toEqual([1, 2, 3, 4, 5, 6]);
  });
});

describe('the coherent memory of another device', () => {
  for (const walks of [false, true]) {
    test(`is used where it is${walks ? ', by a driver that translates itself' : ''}`, () => {
      begin(apu({}));
      context.migrate(range, { to: 'device' });
      const other = space.attach(machine.addDevice(apu({ name: 'other', walks })));
      expect(first(other)).toEqual([1, 2, 3, 4]);
      other.write(range.start, Uint8Array.of(77));
      expect(first(space)).toEqual([77, 2, 3, 4]);
      expect(used(machine)).toBe('dram 0, apu.hbm 4, other.hbm 0');
      // Its owner takes them away: the other one's translations went first.
      expect(context.migrate(range, { to: 'host' })).toBe(4);
      expect(first(other)).toEqual([77, 2, 3, 4]);
      expect(used(machine)).toBe('dram 0, apu.hbm 0, other.hbm 4');
    });
  }

  test('goes away by unplugging while another device uses it', () => {
    begin(apu({}));
    context.migrate(range, { to: 'device' });
    const other = space.attach(machine.addDevice(apu({ name: 'other' })));
    expect(first(other)).toEqual([1, 2, 3, 4]);
    context.device.removeMemory(context.device.memories[0]!);
    expect(used(machine)).toBe('dram 4, other.hbm 0');
    expect(first(other)).toEqual([1, 2, 3, 4]);
    expect(first(space)).toEqual([1, 2, 3, 4]);
  });
});

describe('a coherent page that is exclusive to another device', () => {
  let other: Context;

  beforeEach(() => {
    begin(apu({}));
    context.migrate(range, { to: 'device' });
    other = space.attach(machine.addDevice({ name: 'rdma', atomics: ['exclusive'], attach: () => ({}) }));
    expect(other.atomic(range.start, { op: 'add', bytes: 4, operand: 100 })).toBe(1);
    expect(space.dump({ start: range.start, end: range.start + PAGE })).toBe('x');
  });

  test('is revoked when its memory is unplugged', () => {
    context.device.removeMemory(context.device.memories[0]!);
    expect(used(machine)).toBe('dram 4');
    expect(other.reaches(range.start / PAGE, false)).toBe(false);
    expect(first(space)).toEqual([101, 2, 3, 4]);
  });

  test('is revoked when its owner leaves the space', () => {
    context.detach();
    expect(used(machine)).toBe('dram 4, apu.hbm 0');
    expect(other.reaches(range.start / PAGE, false)).toBe(false);
    expect(first(space)).toEqual([101, 2, 3, 4]);
  });

  test('stays where it is when a range is moved home around it', () => {
    expect(context.migrate(range, { to: 'host' })).toBe(3);
    expect(used(machine)).toBe('dram 3, apu.hbm 1');
    expect(first(space)).toEqual([101, 2, 3, 4]);
    expect(context.migrate(range, { to: 'host' })).toBe(1);
  });

  test('is revoked by its owner’s own access, which then uses it where it is', () => {
    expect(first(context)).toEqual([101, 2, 3, 4]);
    expect(used(machine)).toBe('dram 0, apu.hbm 4');
    expect(other.reaches(range.start / PAGE, false)).toBe(false);
  });
});

describe('pages without any right', () => {
  test('in coherent memory go home with a detach, and stay closed', () => {
    begin(apu({}));
    context.migrate(range, { to: 'device' });
    space.mprotect(range, 'none');
    context.detach();
    expect(used(machine)).toBe('dram 4, apu.hbm 0');
    expect(space.tryRead(range.start, new Uint8Array(1)).status).toBe('permission');
    space.mprotect(range, 'rw');
    expect(first(space)).toEqual([1, 2, 3, 4]);
  });
});

/** Share mode: the device walks the table of the CPU. */
import { afterEach, describe, expect, test } from 'vitest';
import { type AddressRange, type AddressSpace, type Context, type Machine, restoreMachine } from 'farfault';
import integrated from 'farfault/drivers/integrated';
import { defineDriver, deviceTable, type Driver, HOME_TABLE_FORMAT, type Ranges } from 'farfault/gmem';
import { expectClean, PAGE, Probe, smallMachine, used } from '../machine/probe.ts';

let machine: Machine;
afterEach(() => machine?.close());

function shared(driver: Driver = integrated()): { space: AddressSpace; context: Context; range: AddressRange } {
  machine = smallMachine();
  const space = machine.createAddressSpace();
  const context = space.attach(machine.addDevice(driver));
  return { space, context, range: space.mmap({ bytes: 8 * PAGE }) };
}

/** Bytes 0, 1, 2 ... */
const bytes = (n: number): Uint8Array => Uint8Array.from({ length: n }, (_, i) => i);

describe('a device of the same format', () => {
  test('walks the table of the CPU: what the CPU has, it has without a fault', () => {
    const { space, context, range } = shared();
    space.write(range.start, bytes(3 * PAGE));
    expect(context.mode).toBe('share');
    expect(context.read(range.start + PAGE, 4)).toEqual(bytes(3 * PAGE).subarray(PAGE, PAGE + 4));
    context.write(range.start + 2 * PAGE, Uint8Array.of(99));
    expect(space.read(range.start + 2 * PAGE, 1)[0]).toBe(99);
    expect(machine.counters.deviceFaults).toEqual({});
    expectClean(machine);
  });

  test('faults for both: what it has touched first, the CPU finds', () => {
    const { space, context, range } = shared();
    context.write(range.start, Uint8Array.of(7));
    expect(machine.counters.deviceFaults).toEqual({ integrated: 1 });
    expect(space.read(range.start, 1)[0]).toBe(7);
    expect(machine.counters.cpuFaults).toEqual({ zero: 0, demand: 0, cow: 0, reuse: 0, home: 0 });
    expectClean(machine);
  });

  test('loses what the CPU loses: rights, pages, promises', () => {
    const { space, context, range } = shared();
    context.write(range.start, bytes(2 * PAGE));
    space.mprotect({ start: range.start, end: range.start + PAGE }, 'r');
    expect(() => context.write(range.start, Uint8Array.of(1))).toThrow('without the right to write');
    space.madvise({ start: range.start + PAGE, end: range.start + 2 * PAGE }, 'dontneed');
    expect(context.read(range.start + PAGE, 1)[0]).toBe(0);
    space.munmap(range);
    expect(() => context.read(range.start, 1)).toThrow('is not mapped');
    expectClean(machine);
  });

  test('sees the copy after a write of the CPU to a page that it had read', () => {
    const { space, context, range } = shared();
    expect(context.read(range.start, 1)[0]).toBe(0);
    space.write(range.start, Uint8Array.of(5));
    expect(context.read(range.start, 1)[0]).toBe(5);
    const child = space.fork();
    context.write(range.start, Uint8Array.of(6));
    expect([space.read(range.start, 1)[0], child.read(range.start, 1)[0]]).toEqual([6, 5]);
    expectClean(machine);
  });

  test('does atomics on the bytes of the CPU', () => {
    const { space, context, range } = shared();
    space.write(range.start, Uint8Array.of(40));
    expect(context.atomic(range.start, { op: 'add', bytes: 4, operand: 2 })).toBe(40);
    expect(space.read(range.start, 1)[0]).toBe(42);
    expectClean(machine);
  });

  test('uses the coherent memory of another device where it is, and leaves when a page becomes exclusive to one', () => {
    const { space, context, range } = shared();
    const other = space.attach(
      machine.addDevice(defineDriver(() => ({ name: 'other', atomics: ['exclusive' as const], attach: () => ({}) }))()),
    );
    context.write(range.start, Uint8Array.of(1));
    other.atomic(range.start, { op: 'add', bytes: 4, operand: 1 });

    expect(context.read(range.start, 1)[0]).toBe(2);
    expectClean(machine);
  });

  test('gives nothing back that was not its own when it leaves', () => {
    const { space, context, range } = shared();
    space.write(range.start, bytes(4 * PAGE));
    const before = used(machine);
    context.detach();
    expect(used(machine)).toBe(before);
    expect(space.read(range.start + 5, 1)[0]).toBe(5);
    space.munmap(range);
    expectClean(machine);
  });

  test('goes on in a restored machine', async () => {
    const { space, context, range } = shared();
    context.write(range.start, Uint8Array.of(3));
    const { machine: again, handles } = await restoreMachine<{ space: AddressSpace; context: Context }>(machine.save({ space, context }), {
      drivers: [integrated()],
    });
    expect(handles.context.read(range.start, 1)[0]).toBe(3);
    handles.space.write(range.start + PAGE, Uint8Array.of(4));
    expect(handles.context.read(range.start + PAGE, 1)[0]).toBe(4);
    expectClean(again);
    again.close();
  });
});

test('while a change waits for another device, the one that shares the table does not translate', async () => {
  const { space, context, range } = shared();
  const slow = new Probe({ pages: 0 });
  space.attach(machine.addDevice(slow.driver)).read(range.start, 1);
  context.write(range.start, Uint8Array.of(9));
  slow.slow.add('invalidate');
  const gone = space.munmapAsync(range);
  const read = context.readAsync(range.start, 1).then(
    () => 'read',
    (error: Error) => error.message,
  );
  expect(machine.pending.map(({ waitsFor }) => waitsFor).join()).toContain('invalidations');
  slow.finish();
  await gone;
  expect(await read).toContain('is not mapped');
  expectClean(machine);
});

describe('a device is refused share mode', () => {
  const card = (more: Partial<Driver>): Driver => ({ name: 'card', attach: () => ({}), ...more });

  test.each([
    ['of another format', card({ tableFormat: 'sv48' }), 'needs the table format "radix-4k-9-9-9-9", the driver has "sv48"'],
    ['of no format', card({}), 'the driver has none'],
    [
      'with private memory',
      card({ tableFormat: HOME_TABLE_FORMAT, memory: [{ name: 'ram', kind: 'private', bytes: PAGE }] }),
      'is not for a device with private memory (card.ram)',
    ],
    [
      'with a table of its own',
      card({
        tableFormat: HOME_TABLE_FORMAT,
        attach: () => ({ pmap: { enter: () => {}, release: () => {} }, walk: { translate: () => undefined } }),
      }),
      'is not the table of the CPU',
    ],
  ])('%s', (_, driver, rule) => {
    machine = smallMachine();
    const space = machine.createAddressSpace();
    const device = machine.addDevice(driver);
    expect(() => space.attach(device, { mode: 'share' })).toThrow(rule);
    expect(device.contexts).toEqual([]);
    expect(space.mirrors).toEqual([]);
    expectClean(machine);
  });

  test('and private memory once it has it', () => {
    const { context } = shared();
    expect(() => context.device.addMemory({ name: 'ram', kind: 'private', bytes: PAGE })).toThrow('shares the table of the CPU');
  });

  test('and marks of its own, which are the marks of the CPU as well', () => {
    const { context, range } = shared();
    expect(() => context.harvest(range)).toThrow('those of the CPU as well');
  });
});

describe('the table of a driver', () => {
  /** A driver whose table is the ready-made one, and whose calls are noted. */
  function noted(log: string[], broken = ''): Driver {
    const did = (what: string): void => {
      log.push(what);
      if (what === broken) throw new Error(`${what} is broken`);
    };
    return {
      name: 'noted',
      attach(context) {
        const table = deviceTable(context);
        did('attach');
        return {
          pmap: {
            create: () => did('create'),
            enter: (mappings) => (did('enter'), table.enter(mappings)),
            release: (ranges: Ranges) => (did('release'), table.release(ranges)),
            destroy: () => did('destroy'),
          },
          tlb: { invalidate: () => did('invalidate') },
          walk: { translate: (vpn, access) => table.walk(vpn, access) },
          detach: () => did('detach'),
        };
      },
    };
  }

  test('is created when the device is attached, and destroyed last when it leaves', () => {
    const log: string[] = [];
    const { context, range } = shared(noted(log));
    expect(log).toEqual(['attach', 'create']);
    context.write(range.start, Uint8Array.of(1));
    context.detach();
    expect(log).toEqual(['attach', 'create', 'enter', 'release', 'invalidate', 'detach', 'destroy']);
    expectClean(machine);
  });

  test('is destroyed when the address space ends, for every device once', () => {
    const log: string[] = [];
    const { space } = shared(noted(log));
    space.close();
    expect(log.filter((each) => each === 'destroy')).toHaveLength(1);
    expectClean(machine);
  });

  test('that cannot be created refuses the attach, and nothing is left of it', () => {
    machine = smallMachine();
    const space = machine.createAddressSpace();
    const log: string[] = [];
    const device = machine.addDevice(noted(log, 'create'));
    expect(() => space.attach(device)).toThrow('create is broken');
    expect([device.contexts.length, space.mirrors.length, space.notifiers.size]).toEqual([0, 0, 0]);
    expect(log).toEqual(['attach', 'create']);
    expectClean(machine);
  });
});

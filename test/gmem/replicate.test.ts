/** Replicate mode: what the CPU has, the device has, in a table of its own. */
import { afterEach, describe, expect, test } from 'vitest';
import { type AddressRange, type AddressSpace, type Context, type Machine, MiB, restoreMachine } from 'farfault';
import mirror from 'farfault/drivers/mirror';
import { type Driver, deviceTable, type Ranges } from 'farfault/gmem';
import { expectClean, PAGE, Probe, smallMachine } from '../machine/probe.ts';

let machine: Machine;
afterEach(() => machine?.close());

function replicated(driver: Driver = mirror()): { space: AddressSpace; context: Context; range: AddressRange } {
  machine = smallMachine();
  const space = machine.createAddressSpace();
  const context = space.attach(machine.addDevice(driver), { mode: 'replicate' });
  return { space, context, range: space.mmap({ bytes: 8 * PAGE }) };
}

const faults = (name = 'mirror'): number => machine.counters.deviceFaults[name] ?? 0;
const page = (range: AddressRange, i: number, n = 1): AddressRange => ({
  start: range.start + i * PAGE,
  end: range.start + (i + n) * PAGE,
});
const first = (context: Context | AddressSpace, range: AddressRange, i = 0): number => context.read(range.start + i * PAGE, 1)[0]!;

describe.each([
  ['the ready-made table', (): Driver => mirror()],
  ['a table of its own', (): Driver => mirror({ ownTable: true })],
])('a device in replicate mode with %s does not fault for', (_, driver) => {
  test('what the CPU has touched', () => {
    const { space, context, range } = replicated(driver());
    space.read(range.start, 1);
    space.write(range.start + PAGE, Uint8Array.of(5));
    expect([first(context, range), first(context, range, 1)]).toEqual([0, 5]);
    context.write(range.start + PAGE, Uint8Array.of(6));
    expect(first(space, range, 1)).toBe(6);
    expect(faults()).toBe(0);
    expectClean(machine);
  });

  test('a page of zeros that the CPU has written since, nor one that was copied for it', () => {
    const { space, context, range } = replicated(driver());
    expect(first(space, range)).toBe(0);
    expect(first(context, range)).toBe(0);
    space.write(range.start, Uint8Array.of(1));
    expect(first(context, range)).toBe(1);
    const child = space.fork();
    expect(first(context, range)).toBe(1);
    space.write(range.start, Uint8Array.of(2));
    context.write(range.start, Uint8Array.of(3));
    expect([first(space, range), first(child, range)]).toEqual([3, 1]);
    expect(faults()).toBe(0);
    expectClean(machine);
  });

  test('rights that the CPU has got by mprotect, and it faults for those that it has lost', () => {
    const { space, context, range } = replicated(driver());
    space.write(range.start, new Uint8Array(8 * PAGE).fill(4));
    space.mprotect(page(range, 0, 4), 'r');
    for (let i = 0; i < 8; i++) expect(first(context, range, i)).toBe(4);
    context.write(range.start + 5 * PAGE, Uint8Array.of(1));
    expect(faults()).toBe(0);
    expect(() => context.write(range.start, Uint8Array.of(1))).toThrow('without the right');
    expect(faults()).toBe(1);
    expectClean(machine);
  });

  test('pages that mremap has moved', () => {
    const { space, context, range } = replicated(driver());
    space.write(range.start, Uint8Array.of(8));
    const now = space.mremap(range, { bytes: 8 * PAGE, mayMove: true, to: range.start + 64 * PAGE });
    expect(first(context, now)).toBe(8);
    expect(faults()).toBe(0);
    expect(() => context.read(range.start, 1)).toThrow('is not mapped');
    expectClean(machine);
  });

  test('pages that came home from another device', () => {
    const { space, context, range } = replicated(driver());
    const other = space.attach(machine.addDevice(new Probe().driver));
    other.write(range.start, new Uint8Array(3 * PAGE).fill(7));
    first(space, range);
    expect(first(context, range)).toBe(7);
    expect(faults()).toBe(0);
    other.migrate(range, { to: 'host' });
    expect(first(context, range, 2)).toBe(7);
    other.write(range.start, new Uint8Array(PAGE).fill(9));
    other.detach();
    expect(first(context, range)).toBe(9);
    expect(faults()).toBe(0);
    expectClean(machine);
  });

  test('what was there before it was attached', () => {
    machine = smallMachine();
    const space = machine.createAddressSpace();
    const ranges = Array.from({ length: 4 }, (__, i) =>
      space.mmap({ bytes: 8 * PAGE, at: (i + 1) * 1024 * MiB, prot: i === 3 ? 'r' : 'rw' }),
    );
    for (const range of ranges.slice(0, 3)) space.write(range.start + 2 * PAGE, Uint8Array.of(1, 2));
    first(space, ranges[3]!);
    const context = space.attach(machine.addDevice(driver()), { mode: 'replicate' });
    for (const range of ranges.slice(0, 3)) expect(first(context, range, 2)).toBe(1);
    expect(first(context, ranges[3]!)).toBe(0);
    expect(faults()).toBe(0);
    expect(first(context, ranges[0]!, 1)).toBe(0);
    expect(faults()).toBe(1);
    expectClean(machine);
  });
});

test('a huge page of the CPU comes as a whole', () => {
  machine = smallMachine({ dram: 8 * MiB });
  const space = machine.createAddressSpace();
  const context = space.attach(machine.addDevice(mirror()), { mode: 'replicate' });
  const range = space.mmap({ bytes: 2 * MiB, align: 2 * MiB });
  space.madvise(range, 'hugepage');
  space.write(range.start, Uint8Array.of(1));
  context.write(range.end - 1, Uint8Array.of(2));
  expect(space.read(range.end - 1, 1)[0]).toBe(2);
  space.munmap(page(range, 100, 1));
  expect(first(context, range, 101)).toBe(0);
  expect(faults()).toBe(0);
  expectClean(machine);
});

test('a device that is attached while a change waits for another one has what is left of it', async () => {
  machine = smallMachine();
  const space = machine.createAddressSpace();
  const slow = new Probe({ pages: 0 });
  const range = space.mmap({ bytes: 8 * PAGE });
  space.write(range.start, new Uint8Array(8 * PAGE).fill(3));
  space.attach(machine.addDevice(slow.driver)).read(range.start, 8 * PAGE);
  slow.slow.add('invalidate');
  const gone = space.munmapAsync(page(range, 0, 4));
  const context = space.attach(machine.addDevice(mirror()), { mode: 'replicate' });
  expect(context.isInvalidating).toBe(true);
  slow.finish();
  await gone;
  expect(first(context, range, 4)).toBe(3);
  expect(faults()).toBe(0);
  expect(() => context.read(range.start, 1)).toThrow('is not mapped');
  expectClean(machine);
});

test('one that shares pages with a parent has them when they come home for either', () => {
  const { space, range } = replicated();
  const probe = new Probe();
  const other = space.attach(machine.addDevice(probe.driver));
  space.write(range.start, Uint8Array.of(1));
  const child = space.fork();
  const theirs = child.attach(machine.devices[0]!, { mode: 'replicate' });
  other.migrate(page(range, 0), { to: 'device' });
  first(space, range);
  expect(first(theirs, range)).toBe(1);
  expect(faults()).toBe(0);
  expectClean(machine);
});

test('a driver that throws while it takes an entry in fails alone: the CPU goes on', () => {
  const broken: Driver = {
    name: 'broken',
    attach(context) {
      const table = deviceTable(context);
      return {
        pmap: {
          enter: () => {
            throw new Error('enter is broken');
          },
          release: (ranges: Ranges) => table.release(ranges),
        },
        walk: { translate: () => undefined },
      };
    },
  };
  const { space, context, range } = replicated(broken);
  space.write(range.start, Uint8Array.of(1));
  expect(first(space, range)).toBe(1);
  expect(context.failure?.message).toContain('enter is broken');
  space.munmap(range);
  expect(machine.verify()).toBe(undefined);
});

test('follows on in a restored machine', async () => {
  const { space, context, range } = replicated();
  space.write(range.start, Uint8Array.of(3));
  const { machine: again, handles } = await restoreMachine<{ space: AddressSpace; context: Context }>(machine.save({ space, context }), {
    drivers: [mirror()],
  });
  handles.space.write(range.start + PAGE, Uint8Array.of(4));
  expect([first(handles.context, range), first(handles.context, range, 1)]).toEqual([3, 4]);
  expect(again.counters.deviceFaults).toEqual({});
  expectClean(again);
  again.close();
});

test('nothing is entered any more once the device has left', () => {
  const { space, context, range } = replicated();
  context.detach();
  expect(space.notifiers.followers).toEqual([]);
  space.write(range.start, Uint8Array.of(1));
  expectClean(machine);
});

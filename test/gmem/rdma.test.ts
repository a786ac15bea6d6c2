import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type AddressRange, type AddressSpace, type Context, type Machine } from 'farfault';
import rdma, { register } from 'farfault/drivers/rdma';
import { expectClean, PAGE, Probe, smallMachine, used } from '../machine/probe.ts';

let machine: Machine;
let space: AddressSpace;
let context: Context;
let range: AddressRange;

beforeEach(() => {
  machine = smallMachine();
  space = machine.createAddressSpace();
  context = space.attach(machine.addDevice(rdma()));
  range = space.mmap({ bytes: 8 * PAGE });
});

afterEach(() => {
  expectClean(machine);
  space.close();
  expect(used(machine)).toMatch(/^dram 0/);
  machine.close();
});

const mapped = (): number => space.snapshotExtents(range).length;

describe('memory registered on demand', () => {
  test('costs nothing until it is accessed; an access brings its pages, and only those', () => {
    const region = register(context, range);
    expect(used(machine)).toBe('dram 0');
    expect(region.write(PAGE - 2, Uint8Array.of(1, 2, 3, 4))).toBe('success');
    expect(used(machine)).toBe('dram 2');
    expect([...space.read(range.start + PAGE - 2, 4)]).toEqual([1, 2, 3, 4]);
    space.write(range.start + 5 * PAGE, Uint8Array.of(7));
    expect(region.read(5 * PAGE, 1)).toEqual({ status: 'success', bytes: Uint8Array.of(7) });
    region.deregister();
  });

  test('follows the program: what it copies, moves to a device or gives back is faulted in anew', () => {
    const region = register(context, range);
    const gpu = space.attach(machine.addDevice(new Probe().driver));
    region.write(0, Uint8Array.of(1));
    const child = space.fork();
    // The parent's page is copied at its next write: the adapter must not write into the child's.
    region.write(0, Uint8Array.of(2));
    expect(child.read(range.start, 1)[0]).toBe(1);
    expect(space.read(range.start, 1)[0]).toBe(2);
    gpu.write(range.start, Uint8Array.of(3));
    expect(region.read(0, 1).bytes[0]).toBe(3);
    space.madvise(range, 'dontneed');
    expect(region.read(0, 1).bytes[0]).toBe(0);
    child.close();
  });

  test('is refused beyond its end, without its right, without the program’s, and where nothing is mapped', () => {
    const region = register(context, range);
    const reading = register(context, range, { write: false });
    expect(region.write(8 * PAGE - 1, Uint8Array.of(1, 2))).toBe('protection');
    expect(region.write(-1, Uint8Array.of(1))).toBe('protection');
    expect(reading.write(0, Uint8Array.of(1))).toBe('protection');
    expect(reading.read(0, 1).status).toBe('success');
    space.mprotect({ start: range.start, end: range.start + PAGE }, 'r');
    expect(region.write(0, Uint8Array.of(1))).toBe('protection');
    expect(region.read(0, 1).status).toBe('success');
    space.munmap({ start: range.start + PAGE, end: range.start + 2 * PAGE });
    expect(region.read(PAGE, 1).status).toBe('fault');
    // All or nothing: the part that is there is left alone, too.
    expect(region.write(2 * PAGE - 1, Uint8Array.of(9, 9))).toBe('fault');
    expect(space.read(range.start + 2 * PAGE, 1)[0]).toBe(0);
    region.deregister();
    expect(region.read(0, 1).status).toBe('protection');
    expect(() => region.deregister()).toThrow('is no region');
  });

  test('does not keep a page from moving, and its registration ends without waiting', () => {
    const region = register(context, range);
    const gpu = space.attach(machine.addDevice(new Probe().driver));
    region.write(0, Uint8Array.of(1));
    expect(gpu.migrate(range, { to: 'device' })).toBe(8);
    region.deregister();
    expect(mapped()).toBeGreaterThan(0);
  });
});

test('memory is not registered with an option that there is not', () => {
  expect(() => register(context, range, { pined: true } as never)).toThrow('rdma.register option "pined" is not one of: write, pinned');
});

describe('memory registered pinned', () => {
  test('stays where it is until it is deregistered: no fault, no invalidation, and no migration', () => {
    const region = register(context, range, { pinned: true });
    expect(used(machine)).toBe('dram 8');
    const gpu = space.attach(machine.addDevice(new Probe().driver));
    expect(gpu.migrate(range, { to: 'device' })).toBe(0);
    expect(region.write(PAGE - 1, Uint8Array.of(5, 6))).toBe('success');
    expect([...space.read(range.start + PAGE - 1, 2)]).toEqual([5, 6]);
    expect(machine.counters.deviceFaults['rdma'] ?? 0).toBe(0);
    region.deregister();
    expect(gpu.migrate(range, { to: 'device' })).toBe(8);
    expect([...space.read(range.start + PAGE - 1, 2)]).toEqual([5, 6]);
  });

  test('outlives the mapping: what is unmapped is still the holder’s, and nobody else’s', () => {
    const region = register(context, range, { pinned: true });
    space.write(range.start, Uint8Array.of(1));
    space.munmap(range);
    expect(region.read(0, 1).bytes[0]).toBe(1);
    range = space.mmap({ at: range.start, bytes: 8 * PAGE, fixed: true });
    region.write(0, Uint8Array.of(2));
    expect(space.read(range.start, 1)[0]).toBe(0);
    region.deregister();
  });
});

/** What programs write, and read, passes through one area of the core, piece by piece, and nobody gets what somebody else has put there. */
import { type AddressRange, type AddressSpace, createMachineSync, type Machine, MiB } from 'farfault';
import type { Context } from 'farfault/gmem';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { expectClean, PAGE, Probe, smallMachine } from './probe.ts';

let machine: Machine;
let probe: Probe;
let space: AddressSpace;
let context: Context;
let range: AddressRange;

const at = (page: number): number => range.start + page * PAGE;

/** Bytes that are different on every page and in every place of a page. */
function pattern(bytes: number, seed: number): Uint8Array {
  return Uint8Array.from({ length: bytes }, (_, i) => (i * 7 + Math.floor(i / PAGE) * 31 + seed) & 0xff);
}

/** Said in one word: there are millions of them. */
function isSame(one: Uint8Array, other: Uint8Array): boolean {
  return one.length === other.length && one.every((byte, i) => byte === other[i]);
}

afterEach(() => {
  expectClean(machine);
  machine.close();
});

describe('two accesses at once, one of which waits for a page', () => {
  beforeEach(() => {
    machine = smallMachine();
    probe = new Probe();
    space = machine.createAddressSpace();
    context = space.attach(machine.addDevice(probe.driver));
    range = space.mmap({ bytes: 8 * PAGE });
    space.write(range.start, new Uint8Array(8 * PAGE).fill(1));
    // The first access gets as far as this one.
    context.migrate({ start: at(1), end: at(2) }, { to: 'device' });
    probe.slow.add('toHost');
  });

  test.each([
    ['the CPU writes', () => space.write(at(4), pattern(3 * PAGE, 99))],
    ['the CPU reads', () => void space.read(at(3), 4 * PAGE)],
    ['the device reads', () => void context.read(at(4), 3 * PAGE)],
  ])('a write goes on with its own bytes, though meanwhile %s', async (_, other) => {
    const bytes = pattern(3 * PAGE + 100, 5);
    const writing = space.writeAsync(at(0) + 10, bytes);
    expect(probe.unfinished).toBe(1);
    other();
    probe.finish();
    await writing;
    expect(space.read(at(0) + 10, bytes.length)).toEqual(bytes);
  });

  test('a read has what it read before, though the CPU writes meanwhile', async () => {
    const reading = space.readAsync(at(0), 3 * PAGE);
    space.write(at(4), pattern(3 * PAGE, 99));
    probe.finish();
    expect(await reading).toEqual(new Uint8Array(3 * PAGE).fill(1));
    expect(space.read(at(4), 3 * PAGE)).toEqual(pattern(3 * PAGE, 99));
  });
});

describe('a long access', () => {
  // Longer than the area itself, and neither its beginning nor its end is that of a page.
  const LENGTH = 5 * MiB + 3 * PAGE + 77;
  const OFFSET = 2 * PAGE - 5;

  beforeEach(() => {
    machine = createMachineSync({ dram: 32 * MiB, deviceMemory: 16 * MiB });
    space = machine.createAddressSpace();
    probe = new Probe({ pages: 2048 });
    context = space.attach(machine.addDevice(probe.driver));
    range = space.mmap({ bytes: 8 * MiB });
  });

  test.each(['CPU', 'device'] as const)('of the %s writes every byte to its place and reads it from there, and none beside', (who) => {
    const actor = who === 'CPU' ? space : context;
    const bytes = pattern(LENGTH, 3);
    actor.write(range.start + OFFSET, bytes);
    expect(isSame(actor.read(range.start + OFFSET, LENGTH), bytes)).toBe(true);
    expect(isSame(space.read(range.start + OFFSET, LENGTH), bytes)).toBe(true);
    expect([...space.read(range.start + OFFSET - 3, 3), ...space.read(range.start + OFFSET + LENGTH, 3)]).toEqual([0, 0, 0, 0, 0, 0]);
  });
});

import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { AddressRange, AddressSpace, Context, Machine } from 'farfault';
import { defineDriver, type Driver } from 'farfault/gmem';
import { Fork, MakeExclusive, type Pin, type PinOptions, PinRange } from 'farfault/mm';
import type { Step } from '../../sdk/step/step.ts';
import { expectClean, PAGE, Probe, smallMachine, used } from './probe.ts';

let machine: Machine;
let space: AddressSpace;
let range: AddressRange;
const PAGES = 4;

const run = (step: Step): void => machine.platform.scheduler.runSync(step);
const at = (page: number): number => range.start + page * PAGE;

function tryPin(first: number, end: number, options: PinOptions = {}, of = space): PinRange {
  const step = new PinRange(machine.platform, of, at(first) / PAGE, at(end) / PAGE, options);
  run(step);
  return step;
}

function pinned(first: number, end: number, options: PinOptions = {}, of = space): Pin {
  const step = tryPin(first, end, options, of);
  expect(step.outcome).toBe('done');
  return step.pin!;
}

function forked(): AddressSpace {
  const fork = new Fork(machine.platform, space, {});
  run(fork);
  return fork.result!;
}

beforeEach(() => {
  machine = smallMachine();
  space = machine.createAddressSpace();
  range = space.mmap({ bytes: PAGES * PAGE });
  space.write(at(0), Uint8Array.of(1));
  space.write(at(1), Uint8Array.of(2));
});

afterEach(() => {
  for (const each of [...machine.platform.spaces.values()]) each.close();
  expect(used(machine)).toMatch(/^(\S+ 0(, )?)+$/);
  expectClean(machine);
  machine.close();
});

describe('a pin', () => {
  test('for writing faults every page in, and its holder writes what the CPU reads', () => {
    const pin = pinned(0, 4, { write: true });
    expect(space.dump(range)).toBe('HHHH');
    expect([pin.pages, pin.isWritable, pin.isLongTerm, pin.held]).toEqual([4, true, false, true]);
    pin.write(2 * PAGE - 1, Uint8Array.of(8, 9));
    expect([...space.read(at(2) - 1, 2)]).toEqual([8, 9]);
    space.write(at(3), Uint8Array.of(7));
    expect([...pin.read(3 * PAGE, 2)]).toEqual([7, 0]);
    expectClean(machine);
    pin.unpin();
    expect(used(machine)).toBe('dram 4');
  });

  test('for reading shows holes as zeros without taking frames, and may not be written through', () => {
    const pin = pinned(0, 4);
    expect(space.dump(range)).toBe('HHzz');
    expect([0, 1, 2, 3].map((page) => pin.read(page * PAGE, 1)[0])).toEqual([1, 2, 0, 0]);
    expect(() => pin.write(0, Uint8Array.of(1))).toThrow(expect.objectContaining({ code: 'EPERM' }) as Error);
    expectClean(machine);
    pin.unpin();
  });

  test('that is long-term has a page of its own for every hole, read-only', () => {
    const pin = pinned(1, 3, { longTerm: true });
    expect(space.dump(range)).toBe('HHh.');
    expect(used(machine)).toBe('dram 3');
    // The page is this space's own: what the CPU writes the holder sees.
    space.write(at(2), Uint8Array.of(5));
    expect(pin.read(PAGE, 1)[0]).toBe(5);
    pin.unpin();
  });

  test('leaves its page where it is: no device gets it, until it ends', () => {
    const context = space.attach(machine.addDevice(new Probe({ granulePages: 1 }).driver));
    const pin = pinned(0, 1);
    expect(context.migrate(range, { to: 'device' })).toBe(3);
    expect(space.dump(range)).toBe('HDDD');
    pin.unpin();
    context.migrate(range, { to: 'device' });
    expect(space.dump(range)).toBe('DDDD');
  });

  test('brings a page on a device home', () => {
    const context = space.attach(machine.addDevice(new Probe({ granulePages: 1 }).driver));
    context.migrate(range, { to: 'device' });
    const pin = pinned(0, 2);
    expect(space.dump(range)).toBe('HHDD');
    expect([pin.read(0, 1)[0], pin.read(PAGE, 1)[0]]).toEqual([1, 2]);
    expect(machine.counters.cpuFaults.home).toBe(0);
    pin.unpin();
  });

  test('takes an exclusive page from its device', () => {
    run(new MakeExclusive(machine.platform).of(space, at(0) / PAGE, 1, {}, () => {}));
    const pin = pinned(0, 1);
    expect(space.dump(range)).toBe('HH..');
    pin.unpin();
  });

  test('outlives the mapping and the space', () => {
    const pin = pinned(0, 2, { write: true });
    space.munmap(range);
    expect(used(machine)).toBe('dram 2');
    expect(pin.read(PAGE, 1)[0]).toBe(2);
    space.close();
    pin.write(0, Uint8Array.of(9));
    expect(pin.read(0, 1)[0]).toBe(9);
    expectClean(machine);
    // Another space in its place does not pay for what the pin holds.
    const next = machine.createAddressSpace();
    const there = next.mmap({ bytes: PAGE });
    next.write(there.start, Uint8Array.of(1));
    pin.unpin();
    expect(used(machine)).toBe('dram 1');
    expectClean(machine);
  });

  test('ends once, and serves nobody afterwards', () => {
    const pin = pinned(0, 1, { write: true });
    pin.unpin();
    for (const use of [() => pin.unpin(), () => pin.read(0, 1), () => pin.write(0, Uint8Array.of(1))])
      expect(use).toThrow(expect.objectContaining({ code: 'EBADF' }) as Error);
    expect(pin.held).toBe(false);
  });

  test('is asked only for bytes that it has', () => {
    const pin = pinned(0, 1);
    for (const [offset, bytes] of [
      [-1, 1],
      [0, PAGE + 1],
      [PAGE, 1],
      [0.5, 1],
      [0, 1.5],
    ] as const)
      expect(() => pin.read(offset, bytes)).toThrow(expect.objectContaining({ code: 'EINVAL' }) as Error);
    expect(pin.read(PAGE, 0).length).toBe(0);
    pin.unpin();
  });

  test('that another one shares is counted: the page stays until both have ended', () => {
    const pins = [pinned(0, 1), pinned(0, 1, { write: true })];
    space.munmap(range);
    pins[0]!.unpin();
    expect(pins[1]!.read(0, 1)[0]).toBe(1);
    expect(used(machine)).toBe('dram 1');
    pins[1]!.unpin();
    expect(used(machine)).toBe('dram 0');
  });
});

describe('a pin and a fork', () => {
  test('a pinned page stays with the parent, the child has a copy at once', () => {
    const pin = pinned(0, 1, { write: true });
    const child = forked();
    pin.write(0, Uint8Array.of(9));
    space.write(at(0) + 1, Uint8Array.of(8));
    expect([...pin.read(0, 2)]).toEqual([9, 8]);
    expect([...child.read(at(0), 2)]).toEqual([1, 0]);
    expectClean(machine);
    pin.unpin();
  });

  test('for reading a page that is shared takes a copy, so that the holder sees what the CPU writes', () => {
    const child = forked();
    const pin = pinned(0, 1);
    expect(used(machine)).toBe('dram 3');
    space.write(at(0), Uint8Array.of(9));
    expect(pin.read(0, 1)[0]).toBe(9);
    expect(child.read(at(0), 1)[0]).toBe(1);
    expectClean(machine);
    pin.unpin();
  });

  test('for reading a page that nobody shares any more takes no copy', () => {
    forked().close();
    const pin = pinned(0, 1);
    expect(used(machine)).toBe('dram 2');
    space.write(at(0), Uint8Array.of(9));
    expect(pin.read(0, 1)[0]).toBe(9);
    expect(machine.counters.cpuFaults.copy).toBe(undefined);
    pin.unpin();
  });

  test('for writing a page that is shared takes a copy', () => {
    const child = forked();
    const pin = pinned(0, 1, { write: true });
    pin.write(0, Uint8Array.of(7));
    expect([space.read(at(0), 1)[0], child.read(at(0), 1)[0]]).toEqual([7, 1]);
    pin.unpin();
  });
});

describe('a pin that cannot be had takes nothing', () => {
  const nothingHeld = (): void => {
    expectClean(machine);
    space.munmap(range);
    expect(used(machine)).toBe('dram 0');
  };

  test('because a page is not mapped', () => {
    expect(tryPin(0, 5)).toMatchObject({ outcome: 'no mapping', at: at(4) / PAGE, pin: undefined });
    nothingHeld();
  });

  test('because a page may not be read, or not be written', () => {
    space.mprotect({ start: at(1), end: at(2) }, 'r');
    expect(tryPin(0, 4, { write: true })).toMatchObject({ outcome: 'permission', at: at(1) / PAGE });
    space.mprotect({ start: at(1), end: at(2) }, 'none');
    expect(tryPin(0, 4)).toMatchObject({ outcome: 'permission', at: at(1) / PAGE });
    nothingHeld();
  });

  test('because there is no frame', () => {
    const hog = machine.createAddressSpace();
    const all = hog.mmap({ bytes: machine.nodes[0]!.frames * PAGE });
    for (let addr = all.start; hog.tryWrite(addr, Uint8Array.of(1)).status === 'done';) addr += PAGE;
    expect(tryPin(0, 4, { write: true })).toMatchObject({ outcome: 'no memory', at: at(2) / PAGE });
    hog.close();
    nothingHeld();
  });

  test('because a page has all the pins that it can have', () => {
    const pins: Pin[] = [];
    for (let i = 0; i < 4095; i++) pins.push(pinned(1, 2));
    expect(tryPin(0, 2)).toMatchObject({ outcome: 'too many', at: at(1) / PAGE });
    expectClean(machine);
    for (const pin of pins) pin.unpin();
    nothingHeld();
  });

  test('because a page on a device is held there', () => {
    const context = space.attach(machine.addDevice(new Probe({ granulePages: 1 }).driver));
    context.migrate({ start: at(1), end: at(2) }, { to: 'device' });
    const frame = space.snapshot({ start: at(1), end: at(2) })[0]!;
    machine.platform.core.exports.frameGet(frame);
    expect(tryPin(0, 2)).toMatchObject({ outcome: 'bus error', at: at(1) / PAGE });
    machine.platform.core.exports.framePut(frame);
    pinned(0, 2).unpin();
  });
});

describe('a pin of coherent memory', () => {
  /** A device whose memory the CPU reaches. */
  const apu = defineDriver((): Driver => ({
    name: 'apu',
    memory: [{ name: 'hbm', kind: 'coherent', bytes: 8 * PAGE }],
    granuleBytes: PAGE,
    attach: () => ({}),
  }));
  let context: Context;

  beforeEach(() => {
    context = space.attach(machine.addDevice(apu()));
    context.migrate({ start: at(0), end: at(2) }, { to: 'device' });
    expect(used(machine)).toBe('dram 0, apu.hbm 2');
  });

  test('leaves the page there when it is short', () => {
    const pin = pinned(0, 2, { write: true });
    expect(used(machine)).toBe('dram 0, apu.hbm 2');
    pin.write(0, Uint8Array.of(9));
    expect(space.read(at(0), 1)[0]).toBe(9);
    pin.unpin();
  });

  test('moves the page to the host first when it is for long', () => {
    const pin = pinned(0, 2, { longTerm: true });
    expect(used(machine)).toBe('dram 2, apu.hbm 0');
    expect(machine.counters.migratedByCause.pin).toEqual({ pages: 2, bytes: 2 * PAGE });
    expect([pin.read(0, 1)[0], pin.read(PAGE, 1)[0]]).toEqual([1, 2]);
    pin.unpin();
  });

  test('for long cannot be had while somebody holds the page there; nothing is pinned', () => {
    const short = pinned(1, 2);
    expect(tryPin(0, 2, { longTerm: true })).toMatchObject({ outcome: 'held', at: at(1) / PAGE });
    expectClean(machine);
    short.unpin();
    pinned(0, 2, { longTerm: true }).unpin();
  });

  test('keeps a frame of the device from being used again, until it ends', () => {
    const pin = pinned(0, 1);
    space.munmap(range);
    expect(used(machine)).toBe('dram 0, apu.hbm 1');
    pin.unpin();
    expect(used(machine)).toBe('dram 0, apu.hbm 0');
  });
});

test('a pin that waits for a flush holds what it has, and lets it go when it is broken off', async () => {
  space.read(at(2), 1);
  const slow = new Probe({ name: 'slow', pages: 0, cached: true });
  space.attach(machine.addDevice(slow.driver)).read(at(2), 1);
  slow.slow.add('invalidate');
  const step = new PinRange(machine.platform, space, at(0) / PAGE, at(3) / PAGE, { write: true });
  const done = machine.platform.scheduler.runAsync(step);
  expect(machine.pending).toMatchObject([{ steps: ['pin', 'cpu fault'], holds: ['mmap lock 0'] }]);
  slow.finish();
  await done;
  slow.slow.clear();
  expect(step.outcome).toBe('done');
  step.pin!.unpin();
});

/** Devices that cannot replay a fault: what a job needs is there beforehand, and held. */
import { afterEach, describe, expect, test } from 'vitest';
import { type AddressRange, type AddressSpace, type Context, type Machine } from 'farfault';
import type { Driver } from 'farfault/gmem';
import { expectClean, PAGE, Probe, probeDriver, type ProbeOptions, smallMachine } from '../machine/probe.ts';

let machine: Machine;
afterEach(() => machine?.close());

const rigid = (options: ProbeOptions = {}): Driver => ({ ...probeDriver(options), replayable: false });

function world(driver: Driver = rigid()): { space: AddressSpace; context: Context; range: AddressRange } {
  machine = smallMachine();
  const space = machine.createAddressSpace();
  const context = space.attach(machine.addDevice(driver));
  const range = space.mmap({ bytes: 8 * PAGE });
  space.write(range.start, new Uint8Array(8 * PAGE).fill(1));
  return { space, context, range };
}

const access = (op: 'read' | 'write', { start }: AddressRange, page: number, value = 9) => ({
  op,
  addr: start + page * PAGE,
  bytes: 1,
  value,
});
const page = ({ start }: AddressRange, i: number): AddressRange => ({ start: start + i * PAGE, end: start + (i + 1) * PAGE });

describe('a job on a device that cannot replay a fault', () => {
  test('has its pages before it begins: one round, no fault', () => {
    const { space, context, range } = world();
    const { rounds, observed } = context.submit({
      accesses: [access('read', range, 0), access('write', range, 3), access('read', range, 5)],
    });
    expect([rounds, observed[0], observed[4]]).toEqual([1, 1, 1]);
    expect(machine.counters.deviceFaults).toEqual({});
    expect(space.dump(range)).toBe('DHHDHDHH');
    expect(space.read(range.start + 3 * PAGE, 1)[0]).toBe(9);
    expectClean(machine);
  });

  test('on a device without memory holds the pages of the host', () => {
    const { space, context, range } = world(rigid({ pages: 0 }));
    expect(context.submit({ accesses: [access('write', range, 2)] }).rounds).toBe(1);
    expect(space.read(range.start + 2 * PAGE, 1)[0]).toBe(9);
    expectClean(machine);
  });

  test('fails at an access outside of the window that was asked for, and says where', () => {
    const { context, range } = world();
    const job = { accesses: [access('read', range, 0), access('write', range, 1)], window: [page(range, 0)] };
    expect(() => context.submit(job)).toThrow(/is not there, and the device cannot replay a fault/);
    expect(context.submit({ ...job, window: [page(range, 0), page(range, 1)] }).rounds).toBe(1);
    expectClean(machine);
  });

  test('is refused before it begins where there is no mapping, or no right', () => {
    const { space, context, range } = world();
    space.mprotect(page(range, 4), 'r');
    expect(() => context.submit({ accesses: [access('write', range, 0), access('write', range, 4)] })).toThrow('without the right');
    expect(() => context.submit({ accesses: [access('write', range, 0), access('write', range, 100)] })).toThrow('is not mapped');
    expect(space.read(range.start, 1)[0]).toBe(1);
    expectClean(machine);
  });

  test('is refused when the device cannot hold the whole window at once', () => {
    const { space, context, range } = world(rigid({ pages: 2 }));
    expect(() => context.submit({ accesses: [0, 1, 2].map((i) => access('write', range, i)) })).toThrow('has no room');
    expect(context.submit({ accesses: [0, 1].map((i) => access('write', range, i)) }).rounds).toBe(1);
    expect(space.read(range.start, 1)[0]).toBe(9);
    expectClean(machine);
  });

  test('has its pages held while the rest of the window comes: the CPU takes none of them, and they are free afterwards', async () => {
    const probe = new Probe({ pages: 4 });
    const { space, context, range } = world({ ...probe.driver, replayable: false });
    context.submit({ accesses: [access('write', range, 0)] });
    probe.slow.add('toDevice');
    const job = context.submitAsync({ accesses: [access('write', range, 0, 5), access('write', range, 1, 6)] });
    expect(probe.unfinished).toBe(1);
    expect(() => space.read(range.start, 1)).toThrow('cannot be had');
    probe.slow.clear();
    probe.finish();
    expect((await job).rounds).toBe(1);
    expect([space.read(range.start, 1)[0], space.read(range.start + PAGE, 1)[0]]).toEqual([5, 6]);
    expectClean(machine);
  });

  test('fails when what it needs is unmapped before it runs', async () => {
    const probe = new Probe();
    const { space, context, range } = world({ ...probe.driver, replayable: false });
    context.submit({ accesses: [access('write', range, 0)] });
    probe.slow.add('toDevice');
    const job = context.submitAsync({ accesses: [access('write', range, 0), access('write', range, 1)] }).then(
      () => 'done',
      (error: Error) => error.message,
    );
    // The second page is on its way, with the mmap lock: this one waits for it, and is first afterwards.
    const gone = space.munmapAsync(page(range, 0));
    probe.slow.clear();
    probe.finish();
    await gone;
    expect(await job).toMatch(/done|cannot replay a fault/);
    space.munmap(range);
    expectClean(machine);
  });

  test('of the pages of a parent has its own: a write of the child’s takes none away', () => {
    const { space, context, range } = world(rigid({ pages: 0 }));
    const child = space.fork();
    context.submit({ accesses: [access('read', range, 0)] });
    child.write(range.start, Uint8Array.of(4));
    expect(context.submit({ accesses: [access('read', range, 0)] }).observed[0]).toBe(1);
    expectClean(machine);
  });
});

test('single accesses and atomics of such a device bring their pages as well', () => {
  const { space, context, range } = world({ ...rigid(), atomics: ['migrate'] });
  context.write(range.start + PAGE - 1, Uint8Array.of(2, 3));
  expect([...context.read(range.start + PAGE - 1, 2)]).toEqual([2, 3]);
  expect(context.atomic(range.start, { op: 'add', bytes: 4, operand: 1 })).toBe(0x01010101);
  expect(machine.counters.deviceFaults).toEqual({});
  expect(space.read(range.start + PAGE, 1)[0]).toBe(3);
  expect(() => context.write(range.end, Uint8Array.of(1))).toThrow('is not mapped');
  expectClean(machine);
});

test('a device that replays faults takes a window, too: what is in it costs no fault', () => {
  const { context, range } = world(probeDriver());
  const { rounds } = context.submit({ accesses: [access('read', range, 0), access('read', range, 1)], window: [page(range, 0)] });
  expect([rounds, machine.counters.deviceFaults['probe']]).toEqual([2, 1]);
  expectClean(machine);
});

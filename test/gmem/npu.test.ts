/** The NPU: a device with an operating system of its own, behind messages. */
import { afterEach, describe, expect, test } from 'vitest';
import { type AddressRange, type AddressSpace, type Context, type Machine, MiB, restoreMachine } from 'farfault';
import npu, { type NpuOptions } from 'farfault/drivers/npu';
import { expectClean, PAGE, smallMachine } from '../machine/probe.ts';

let machine: Machine;
afterEach(() => machine?.close());

interface World {
  readonly space: AddressSpace;
  readonly context: Context;
  readonly range: AddressRange;
}

function world(options: NpuOptions = {}, pages = 8): World {
  machine = smallMachine({ dram: 16 * MiB, deviceMemory: 16 * MiB });
  const space = machine.createAddressSpace();
  const context = space.attach(machine.addDevice(npu({ vram: 2 * MiB, granule: PAGE, ...options })));
  return { space, context, range: space.mmap({ bytes: pages * PAGE }) };
}

interface Counts {
  readonly roundTrips: number;
  readonly timeouts: number;
  readonly resent: number;
  readonly ticks: number;
}
const counts = (context: Context): Counts => context.command({ type: 'counts' }) as Counts;

function end(): void {
  for (const space of machine.spaces) space.close();
  expectClean(machine);
  for (const node of machine.nodes) expect([node.name, node.used]).toEqual([node.name, 0]);
}

describe('messages', () => {
  test('a fault is one round trip, whatever its granule; so is the way home', () => {
    const { space, context, range } = world({ granule: 4 * PAGE });
    space.write(range.start, Uint8Array.of(1, 2));
    const before = counts(context).roundTrips;
    context.write(range.start + 1, Uint8Array.of(9));
    expect(counts(context).roundTrips).toBe(before + 1);
    expect(space.read(range.start, 2)).toEqual(Uint8Array.of(1, 9));
    expect(counts(context).roundTrips).toBe(before + 2);
    end();
  });

  test('that come too late are taken back: nothing has been done, and the next fault brings the page', () => {
    const { space, context, range } = world({ timeout: 10 });
    space.write(range.start, Uint8Array.of(5));
    context.command({ type: 'stall', count: 12 });
    expect(context.migrate(range, { to: 'device' })).toBe(0);
    expect(counts(context)).toMatchObject({ timeouts: 1 });
    expect(space.read(range.start, 1)[0]).toBe(5);
    expect(context.migrate(range, { to: 'device' })).toBe(8);
    context.command({ type: 'stall', count: 1000 });
    // What must go has all the time that there is.
    space.munmap(range);
    expect(counts(context)).toMatchObject({ timeouts: 1 });
    end();
  });

  test('whose answer gets lost are sent again, and what was done then is not done twice', () => {
    const { space, context, range } = world();
    space.write(range.start, Uint8Array.of(5));
    context.command({ type: 'lose', count: 2 });
    context.write(range.start + 1, Uint8Array.of(6));
    expect(counts(context)).toMatchObject({ resent: 2 });
    expect(context.peerCounts!.codes['page exists']).toBe(1);
    expect(machine.nodes.find(({ name }) => name === 'npu.hbm')!.used).toBe(1);
    expect(space.read(range.start, 2)).toEqual(Uint8Array.of(5, 6));
    end();
  });

  test('that are lost again and again: the NPU is out of the game, the page is where it was', () => {
    const { space, context, range } = world();
    space.write(range.start, Uint8Array.of(5));
    context.command({ type: 'lose', count: 99 });
    expect(() => context.write(range.start, Uint8Array.of(6))).toThrow('responses were lost');
    expect(context.failure).toBeDefined();
    expect(space.read(range.start, 1)[0]).toBe(5);
    expect(machine.verify()).toBe(undefined);
  });
});

describe('its memory', () => {
  test('has pages of 4 KiB and of 2 MiB; a huge page comes as one, and goes as one', () => {
    const { space, context } = world({ vram: 4 * MiB, granule: 2 * MiB });
    const range = space.mmap({ bytes: 2 * MiB, at: 64 * MiB });
    space.madvise(range, 'hugepage');
    space.write(range.start + 5 * PAGE, Uint8Array.of(1));
    context.write(range.start + 6 * PAGE, Uint8Array.of(2));
    expect(context.peerCounts).toMatchObject({ maps: 1, codes: { success: 1 } });
    expect(space.read(range.start + 5 * PAGE, 1)[0]).toBe(1);
    expect(space.read(range.start + 6 * PAGE, 1)[0]).toBe(2);
    end();
  });

  test('that is full makes the oldest pages go, and every byte is right', () => {
    const { space, context, range } = world({}, 1024);
    for (let i = 0; i < 1024; i += 3) context.write(range.start + i * PAGE, Uint8Array.of(i & 255));
    for (let i = 0; i < 1024; i++) expect(context.read(range.start + i * PAGE, 1)[0]).toBe(i % 3 === 0 ? i & 255 : 0);
    expect(context.peerCounts!.codes.nomem).toBeGreaterThan(0);
    // The last ones that were read are there, and the memory is full.
    expect(context.residency(range.start / PAGE + 1023)).toBeDefined();
    expect(machine.counters.evictions).toBeGreaterThan(0);
    for (let i = 0; i < 1024; i += 3) expect(space.read(range.start + i * PAGE, 1)[0]).toBe(i & 255);
    end();
  });

  test('of a child has its parent’s pages as well; both keep their own bytes', () => {
    const { space, context, range } = world();
    context.write(range.start, Uint8Array.of(1));
    const child = space.fork();
    const other = child.attach(context.device);
    expect(other.read(range.start, 1)[0]).toBe(1);
    other.write(range.start, Uint8Array.of(2));
    context.write(range.start + 1, Uint8Array.of(3));
    expect([...space.read(range.start, 2), ...child.read(range.start, 2)]).toEqual([1, 3, 2, 0]);
    end();
  });
});

describe('eviction that the NPU begins', () => {
  test('brings home what it names', () => {
    const { space, context, range } = world();
    for (let i = 0; i < 4; i++) context.write(range.start + i * PAGE, Uint8Array.of(i + 1));
    expect(context.command({ type: 'evict', count: 2 })).toEqual(['home', 'home']);
    expect(space.dump(range)).toBe('HHDD....');
    for (let i = 0; i < 4; i++) expect(context.read(range.start + i * PAGE, 1)[0]).toBe(i + 1);
    end();
  });

  test('is called off when the page is wanted at the same time: one of both, never neither', async () => {
    const { space, context, range } = world();
    context.write(range.start, Uint8Array.of(7));
    const evicted = context.commandAsync({ type: 'evict', count: 1 });
    const read = context.readAsync(range.start, 1);
    const results = (await evicted) as string[];
    expect((await read)[0]).toBe(7);
    expect(['will need', 'home']).toContain(results[0]);
    expect(context.read(range.start, 1)[0]).toBe(7);
    expect(space.read(range.start, 1)[0]).toBe(7);
    end();
  });

  test('meets a fault in between: the fault sets WILLNEED, the eviction sees it and keeps the page', () => {
    const { space, context, range } = world();
    context.write(range.start, Uint8Array.of(7));
    const step = context.commandStep({ type: 'evict', count: 1 });
    const serve = context.faultAsync(range.start, 'read');
    expect(context.peerCounts!.codes.migrating).toBe(1);
    machine.platform.scheduler.runSync(step);
    expect(step.result).toEqual(['will need']);
    return serve.then((outcome) => {
      expect(outcome).toBe('served');
      expect(context.read(range.start, 1)[0]).toBe(7);
      expect(space.dump(range)).toBe('D.......');
      end();
    });
  });
});

describe('addresses', () => {
  /** Where peer-shared memory comes to be, with these addresses kept by the NPU. */
  const placed = (options: NpuOptions = {}): AddressRange & { context: Context } => {
    const { space, context } = world(options);
    return { ...space.mmap({ bytes: 2 * MiB, peerShared: true }), context };
  };

  test('that the NPU keeps are refused, and the next ones are asked for: the host and all its devices agree', () => {
    const { start, end: last } = placed();
    machine.close();
    const other = placed({ kept: [{ start, end: last }] });
    expect(other.start >= last || other.end <= start).toBe(true);
    other.context.write(other.start, Uint8Array.of(3));
    expect(other.context.space.read(other.start, 1)[0]).toBe(3);
    expect(() => other.context.space.read(start, 1)).toThrow('is not mapped');
    end();
  });

  test('that are fixed and kept are nobody’s: what another device has reserved for them is free again', () => {
    const { start, end: last } = placed();
    machine.close();
    machine = smallMachine({ dram: 16 * MiB, deviceMemory: 16 * MiB });
    const space = machine.createAddressSpace();
    const first = space.attach(machine.addDevice({ ...npu({ vram: 2 * MiB, granule: PAGE }), name: 'first' }));
    const second = space.attach(machine.addDevice(npu({ vram: 2 * MiB, granule: PAGE, kept: [{ start, end: last }] })));
    const before = counts(first).roundTrips;
    expect(() => space.mmap({ bytes: 2 * MiB, peerShared: true, at: start, fixed: true })).toThrow('npu has refused the last one');
    // Asked, and told to forget it.
    expect(counts(first).roundTrips).toBe(before + 2);
    second.detach();
    expect(space.mmap({ bytes: 2 * MiB, peerShared: true, at: start, fixed: true }).start).toBe(start);
    end();
  });

  test('are not reserved twice because an answer got lost, and not at all when it came too late', () => {
    const { space, context } = world({ timeout: 10 });
    context.command({ type: 'lose', count: 1 });
    const range = space.mmap({ bytes: 2 * MiB, peerShared: true });
    context.command({ type: 'lose', count: 1 });
    space.munmap(range);
    expect(counts(context)).toMatchObject({ resent: 2 });
    context.command({ type: 'stall', count: 12 });
    expect(() => space.mmap({ bytes: 2 * MiB, peerShared: true, at: range.start, fixed: true })).toThrow(
      'is not reserved: npu has failed to',
    );
    expect(space.mmap({ bytes: 2 * MiB, peerShared: true, at: range.start, fixed: true }).start).toBe(range.start);
    expect(counts(context)).toMatchObject({ timeouts: 1 });
    end();
  });
});

test('a machine with an NPU is saved and restored with its pages, its tables and its addresses', async () => {
  const { space, context, range } = world();
  context.write(range.start, Uint8Array.of(4));
  const { machine: again, handles } = await restoreMachine<{ space: AddressSpace; context: Context }>(machine.save({ space, context }), {
    drivers: [npu({ vram: 2 * MiB, granule: PAGE })],
  });
  expect(handles.context.read(range.start, 1)[0]).toBe(4);
  handles.context.write(range.start + PAGE, Uint8Array.of(5));
  expect(handles.space.read(range.start, 1)[0]).toBe(4);
  expect(again.verify()).toBe(undefined);
  again.close();
});

test('options that make no sense are refused by name', () => {
  expect(() => npu({ vram: 4096 })).toThrow('npu.vram');
  expect(() => npu({ latency: 0 })).toThrow('npu.latency');
  expect(() => npu({ latency: 5, timeout: 4 })).toThrow('npu.timeout');
  expect(() => npu({ kept: [{ start: 4096, end: 4096 }] })).toThrow('npu.kept');
  const { context } = world();
  expect(() => context.command({ type: 'evict', count: -1 })).toThrow('npu.command');
  expect(() => context.command({ type: 'jump' })).toThrow('npu.command');
});

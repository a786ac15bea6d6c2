/** Devices that go: taken out of the machine, or reset, with what was in their memory or without. */
import { afterEach, describe, expect, test } from 'vitest';
import { type AddressRange, type AddressSpace, type Context, type Machine, type MachineEvent, restoreMachine } from 'farfault';
import nouveau from 'farfault/drivers/nouveau';
import type { Driver } from 'farfault/gmem';
import { expectClean, PAGE, Probe, probeDriver, smallMachine, used } from '../machine/probe.ts';

let machine: Machine;
afterEach(() => machine?.close());

interface World {
  readonly space: AddressSpace;
  readonly context: Context;
  readonly range: AddressRange;
}

/** Eight pages of byte 1, the first four on the device. */
function world(driver: Driver = probeDriver()): World {
  machine = smallMachine();
  const space = machine.createAddressSpace();
  const context = space.attach(machine.addDevice(driver));
  const range = space.mmap({ bytes: 8 * PAGE });
  space.write(range.start, new Uint8Array(8 * PAGE).fill(1));
  context.migrate({ start: range.start, end: range.start + 4 * PAGE }, { to: 'device' });
  return { space, context, range };
}

const first = (where: Context | AddressSpace, range: AddressRange, page = 0): number => where.read(range.start + page * PAGE, 1)[0]!;
const outcome = (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => 'done',
    (error: Error) => error.message,
  );

describe('a device that is taken out of the machine', () => {
  test('gives everything back, in every address space, and its name and number are free', () => {
    const { space, context, range } = world();
    const { device } = context;
    const child = space.fork();
    const other = machine.createAddressSpace();
    const theirs = other.attach(device);
    const second = other.mmap({ bytes: 2 * PAGE });
    theirs.write(second.start, Uint8Array.of(9));
    machine.removeDevice(device);
    expect([first(space, range), first(child, range, 3), first(other, second)]).toEqual([1, 1, 9]);
    expect([machine.devices, machine.nodes.length, space.mirrors.length, other.mirrors.length]).toEqual([[], 1, 0, 0]);
    expect(() => context.read(range.start, 1)).toThrow('has been detached');
    expect(() => space.attach(device)).toThrow('is not in the machine any more');
    const again = machine.addDevice(probeDriver());
    expect(again.owner).toBe(device.owner);
    expect(first(space.attach(again), range, 2)).toBe(1);
    machine.removeDevice(again);
    for (const each of [space, child, other]) each.close();
    expect(used(machine)).toBe('dram 0');
    expectClean(machine);
  });

  test('keeps the numbers of the others: a page of each is its own', () => {
    const { space, range } = world(probeDriver({ name: 'one' }));
    const two = space.attach(machine.addDevice(probeDriver({ name: 'two' })));
    machine.removeDevice(machine.devices[0]!);
    const three = space.attach(machine.addDevice(probeDriver({ name: 'three' })));
    expect(machine.devices.map(({ name, owner }) => `${name} ${owner}`)).toEqual(['two 2', 'three 1']);
    two.write(range.start, Uint8Array.of(2));
    three.write(range.start, Uint8Array.of(3));
    expect([first(two, range), first(space, range)]).toEqual([3, 3]);
    expectClean(machine);
  });

  test('fails new faults from the beginning, while its pages are still on their way', async () => {
    const probe = new Probe();
    const { space, context, range } = world(probe.driver);
    probe.slow.add('toHost');
    const gone = machine.removeDeviceAsync(context.device);
    expect(machine.devices).toHaveLength(1);
    expect(() => context.read(range.start + 5 * PAGE, 1)).toThrow('is being taken out of the machine');
    expect(() => machine.createAddressSpace().attach(context.device)).toThrow('is being taken out of the machine');
    probe.slow.clear();
    probe.finish();
    await gone;
    expect(first(space, range)).toBe(1);
    expect(machine.devices).toEqual([]);
    expectClean(machine);
  });

  test('stays as it was when a page cannot leave', () => {
    const { space, context, range } = world(probeDriver());
    const { core } = machine.platform;
    const frame = context.ownFrame(range.start / PAGE);
    core.exports.framePin(frame, 1);
    expect(() => machine.removeDevice(context.device)).toThrow('keeps pages that could not be brought home');
    expect(context.read(range.start, 1)[0]).toBe(1);
    context.write(range.start + 6 * PAGE, Uint8Array.of(6));
    core.exports.frameUnpin(frame);
    machine.removeDevice(context.device);
    expect([first(space, range), first(space, range, 6)]).toEqual([1, 6]);
    expectClean(machine);
  });

  test('stays as it was when that page is in the second of its memories', () => {
    machine = smallMachine();
    const card: Driver = {
      name: 'card',
      memory: [
        { name: 'ram', kind: 'private', bytes: 8 * PAGE },
        { name: 'window', kind: 'coherent', bytes: 4 * PAGE },
      ],
      attach: () => ({}),
    };
    const space = machine.createAddressSpace();
    const context = space.attach(machine.addDevice(card));
    const [range, held] = [space.mmap({ bytes: 8 * PAGE }), space.mmap({ bytes: PAGE })];
    for (let page = 0; page < 8; page++) context.write(range.start + page * PAGE, Uint8Array.of(page + 1));
    space.write(held.start, Uint8Array.of(9));
    context.migrate(held, { to: 'device', memory: 1 });
    const { core } = machine.platform;
    const frame = context.device.memories[1]!.node.base;
    core.exports.framePin(frame, 1);
    expect(() => machine.removeDevice(context.device)).toThrow('keeps pages that could not be brought home');
    expect([context.isAttached, context.read(range.start, 1)[0], context.read(held.start, 1)[0]]).toEqual([true, 1, 9]);
    core.exports.frameUnpin(frame);
    machine.removeDevice(context.device);
    expect([first(space, range, 7), first(space, held)]).toEqual([8, 9]);
    space.close();
    expectClean(machine);
  });

  test('goes once when two ask for it at once', async () => {
    const probe = new Probe();
    const { context } = world(probe.driver);
    probe.slow.add('toHost');
    const both = [machine.removeDeviceAsync(context.device), machine.removeDeviceAsync(context.device)];
    probe.slow.clear();
    probe.finish();
    await Promise.all(both);
    expect(machine.devices).toEqual([]);
    expectClean(machine);
  });

  test('leaves a restored machine by a step that was saved', async () => {
    const driver = nouveau({ vram: 16 * PAGE, granule: PAGE });
    const { space, context, range } = world(driver);
    const step = machine.removeDeviceStep(context.device);
    const { machine: again, handles } = await restoreMachine<{ space: AddressSpace; step: typeof step }>(machine.save({ space, step }), {
      drivers: [nouveau({ vram: 16 * PAGE, granule: PAGE })],
    });
    again.platform.scheduler.runSync(handles.step);
    expect([again.devices, machine.devices.length]).toEqual([[], 1]);
    expect(first(handles.space, range)).toBe(1);
    again.close();
  });
});

describe('a device that is reset', () => {
  test('with its memory kept, has its pages and no translation: it faults, and goes on', () => {
    const { space, context, range } = world();
    first(context, range);
    const faults = machine.counters.deviceFaults['probe'] ?? 0;
    expect(context.device.reset()).toEqual({ lost: [] });
    expect(space.dump(range)).toBe('DDDDHHHH');
    expect(first(context, range)).toBe(1);
    expect(machine.counters.deviceFaults['probe']).toBe(faults + 1);
    expectClean(machine);
  });

  test('with its memory lost, turns what only it had into poison, and reports each page', () => {
    const { space, context, range } = world();
    const child = space.fork();
    const events: MachineEvent[] = [];
    machine.onEvent((event) => void events.push(event));
    const { lost } = context.device.reset({ memory: 'lost' });
    const vpn = range.start / PAGE;
    expect(lost).toEqual([
      { space: space.id, vpn, pages: 4 },
      { space: child.id, vpn, pages: 4 },
    ]);
    expect(events.filter(({ type }) => type === 'pages.lost')).toHaveLength(2);
    expect(events.at(-1)).toMatchObject({ type: 'device.reset', memory: 'lost', lost: 8 });
    expect([space.dump(range), child.dump(range)]).toEqual(['!!!!hhhh', '!!!!hhhh']);
    for (const where of [space, child]) {
      expect(() => first(where, range)).toThrow('lost');
      expect(() => where.write(range.start + 3 * PAGE, Uint8Array.of(1))).toThrow('lost');
      expect(first(where, range, 4)).toBe(1);
    }
    expect(() => first(context, range)).toThrow('lost');
    expect(used(machine)).toContain('probe.ram 0');
    expectClean(machine);
    for (const each of [space, child]) each.close();
    expect(used(machine)).toBe('dram 0, probe.ram 0');
    expectClean(machine);
  });

  test('with its memory lost, ends the pins of what was pinned to it: no frame stays in use, and the memory can be removed', () => {
    const { space, context, range } = world();
    const { device } = context;
    const pinned = { start: range.start, end: range.start + 3 * PAGE };
    expect(space.hmadvise(pinned, 'pinned', { device }).pages).toBe(3);
    device.reset({ memory: 'lost' });
    expect([space.dump(range), space.devicePins.size, used(machine)]).toEqual(['!!!!HHHH', 0, 'dram 4, probe.ram 0']);
    device.removeMemory(device.memory!);
    expect(used(machine)).toBe('dram 4');
    expectClean(machine);
  });

  test('with its memory lost, loses no page of which it had a copy: the page is at home, or where its owner is', () => {
    machine = smallMachine();
    const space = machine.createAddressSpace();
    const contexts = ['one', 'two'].map((name) => space.attach(machine.addDevice(probeDriver({ name }))));
    const [one, two] = contexts as [Context, Context];
    const range = space.mmap({ bytes: 4 * PAGE });
    space.attributes.set({ start: range.start, end: range.start + 3 * PAGE }, { readMostly: true });
    space.write(range.start, new Uint8Array(4 * PAGE).fill(1));
    // Copies of both; one that its owner left behind; a page that only it has.
    for (const context of contexts) first(context, range);
    one.write(range.start + PAGE, Uint8Array.of(2));
    expect(first(two, range, 1)).toBe(2);
    expect(space.holders(range.start + PAGE).copies).toEqual(['one', 'two']);
    one.write(range.start + 3 * PAGE, Uint8Array.of(4));
    expect(one.device.reset({ memory: 'lost' }).lost).toEqual([{ space: space.id, vpn: range.start / PAGE + 3, pages: 1 }]);
    expect(space.dump(range)).toBe('rrH!');
    expect(space.holders(range.start).copies).toEqual(['two']);
    for (const where of [space, two, one]) expect([0, 1, 2].map((page) => first(where, range, page))).toEqual([1, 2, 1]);
    space.close();
    expect(used(machine)).toBe('dram 0, one.ram 0, two.ram 0');
    expectClean(machine);
  });

  test('with its memory lost, loses no page that is still true in the second tier', () => {
    machine = smallMachine({ dram: 4 * PAGE, swap: 32 * PAGE });
    const space = machine.createAddressSpace();
    const driver: Driver = { name: 'card', memory: [{ name: 'ram', kind: 'private', bytes: 4 * PAGE }], attach: () => ({}) };
    const context = space.attach(machine.addDevice(driver));
    const range = space.mmap({ bytes: 10 * PAGE });
    for (let page = 0; page < 10; page++) space.write(range.start + page * PAGE, Uint8Array.of(page + 1));
    // Three come back by the device, which writes one of them.
    for (const page of [0, 1, 2]) expect(first(context, range, page)).toBe(page + 1);
    context.write(range.start + PAGE, Uint8Array.of(77));
    expect(space.dump({ start: range.start, end: range.start + 3 * PAGE })).toBe('DDD');
    const events: MachineEvent[] = [];
    machine.onEvent((event) => void events.push(event));
    const { lost } = context.device.reset({ memory: 'lost' });
    expect(lost).toEqual([{ space: space.id, vpn: range.start / PAGE + 1, pages: 1 }]);
    expect(space.dump({ start: range.start, end: range.start + 3 * PAGE })).toBe('s!s');
    expect(events.find(({ type }) => type === 'pages.migrated')).toMatchObject({ from: 'card.ram', to: 'swap', pages: 0, clean: 2 });
    expect(machine.verify()).toBe(undefined);
    for (const page of [0, 2, 3, 9]) expect(first(page < 3 ? context : space, range, page)).toBe(page + 1);
    expect(() => first(space, range, 1)).toThrow('lost');
    space.close();
    expectClean(machine);
    expect(machine.nodes.map(({ used }) => used)).toEqual([0, 0, 0]);
  });

  test('poison survives mprotect, mremap and fork, and goes with munmap or madvise', () => {
    const { space, context, range } = world();
    context.device.reset({ memory: 'lost' });
    space.mprotect(range, 'r');
    const child = space.fork();
    expect(() => first(child, range)).toThrow('lost');
    const now = space.mremap(range, { bytes: 8 * PAGE, mayMove: true, to: range.start + 64 * PAGE });
    expect(space.dump(now)).toBe('!!!!hhhh');
    space.mprotect(now, 'rw');
    space.madvise({ start: now.start, end: now.start + PAGE }, 'dontneed');
    expect(first(space, now)).toBe(0);
    space.munmap(now);
    child.close();
    expectClean(machine);
  });

  test('loses coherent pages that the CPU had mapped, and those of a huge page', () => {
    machine = smallMachine({ dram: 8 * 2 ** 20, deviceMemory: 8 * 2 ** 20 });
    const card: Driver = {
      name: 'card',
      granuleBytes: 2 ** 21,
      memory: [
        { name: 'ram', kind: 'private', bytes: 2 ** 21 },
        { name: 'window', kind: 'coherent', bytes: 4 * PAGE },
      ],
      attach: () => ({}),
    };
    const space = machine.createAddressSpace();
    const context = space.attach(machine.addDevice(card));
    const huge = space.mmap({ bytes: 2 ** 21, align: 2 ** 21 });
    space.madvise(huge, 'hugepage');
    context.write(huge.start, Uint8Array.of(1));
    const range = space.mmap({ bytes: 2 * PAGE });
    space.write(range.start, new Uint8Array(2 * PAGE).fill(3));
    context.migrate(range, { to: 'device', memory: 1 });
    expect(first(space, range)).toBe(3);
    const { lost } = context.device.reset({ memory: 'lost' });
    expect(lost.reduce((sum, { pages }) => sum + pages, 0)).toBe(514);
    expect(space.dump(range)).toBe('!!');
    expect(() => first(space, range)).toThrow('lost');
    space.close();
    expectClean(machine);
  });

  test('breaks its jobs off, and what its driver never finishes: pages stay where they were', async () => {
    const probe = new Probe();
    const { space, context, range } = world(probe.driver);
    probe.slow.add('toDevice');
    const job = outcome(context.submitAsync({ accesses: [{ op: 'write', addr: range.start + 5 * PAGE, bytes: 1, value: 7 }] }));
    expect(probe.unfinished).toBe(1);
    await context.device.resetAsync();
    expect(await job).toContain('the device was reset');
    expect(space.dump(range)).toBe('DDDDHHHH');
    expect(first(space, range, 5)).toBe(1);
    expectClean(machine);
  });

  test('ends a flush that never comes: who waits for it goes on', async () => {
    const probe = new Probe();
    const { space, context, range } = world(probe.driver);
    first(context, range, 4);
    probe.slow.add('invalidate');
    const gone = space.munmapAsync(range);
    expect(machine.pending).toHaveLength(1);
    probe.slow.clear();
    context.device.reset();
    await gone;
    expect(machine.tickets).toEqual([]);
    expectClean(machine);
  });

  test('serves again though its driver had thrown', () => {
    const probe = new Probe();
    const { space, context, range } = world(probe.driver);
    probe.broken.add('toHost');
    expect(() => first(space, range)).toThrow();
    expect(context.failure?.message).toContain('toHost is broken');
    probe.broken.clear();
    context.device.reset();
    expect(context.failure).toBe(undefined);
    expect(first(context, range)).toBe(1);
    expect(first(space, range)).toBe(1);
    expect(machine.verify()).toBe(undefined);
  });

  test('is told so by its driver, which may throw: then it serves nothing', () => {
    const log: string[] = [];
    const { context, range } = world({ ...probeDriver(), reset: () => void log.push('reset') });
    context.device.reset();
    expect(log).toEqual(['reset']);
    expect(first(context, range)).toBe(1);
    expectClean(machine);
  });
});

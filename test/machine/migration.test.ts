import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { isFarfaultError, type AddressRange, type AddressSpace, type Context, type Machine } from 'farfault';
import { defineDriver } from 'farfault/gmem';
import { type Operation, expectClean, PAGE, Probe, type ProbeOptions, smallMachine, used } from './probe.ts';

let machine: Machine;
let space: AddressSpace;
let probe: Probe;
let context: Context;
let range: AddressRange;

/** A space of `pages` pages with a device; page i holds i + 1. */
function begin(options: ProbeOptions & { dram?: number; mapped?: number; written?: number } = {}): void {
  machine = smallMachine(options.dram === undefined ? {} : { dram: options.dram * PAGE });
  space = machine.createAddressSpace();
  probe = new Probe(options);
  context = space.attach(machine.addDevice(probe.driver));
  const { mapped = 4, written = mapped } = options;
  range = space.mmap({ bytes: mapped * PAGE });
  for (let i = 0; i < written; i++) space.write(range.start + i * PAGE, Uint8Array.of(i + 1));
  probe.log.length = 0;
}

/** First byte of every page, read by the CPU. */
const bytes = (pages: number): number[] => Array.from({ length: pages }, (_, i) => space.read(range.start + i * PAGE, 1)[0]!);

function code(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    if (isFarfaultError(error)) return error.code;
    throw error;
  }
  return 'done';
}

afterEach(() => machine.close());

describe('a migration to a device whose copy engine is asynchronous', () => {
  beforeEach(() => {
    begin({ cached: true });
    probe.slow.add('toDevice');
  });

  test('stops a synchronous verb with EBUSY and goes on by itself when the ticket completes', () => {
    expect(code(() => context.migrate(range, { to: 'device' }))).toBe('EBUSY');
    expect(space.dump(range)).toBe('mmmm');
    expect(machine.verify()).toBe(undefined);
    expect(machine.pending.map(({ steps, waitsFor }) => `${steps.join(' > ')}: ${waitsFor}`)).toEqual([
      'move range > migrate: ticket 1 (probe: toDevice)',
    ]);
    expect(machine.tickets.map((ticket) => ticket.label)).toEqual(['ticket 1 (probe: toDevice)']);
    probe.finish();
    expect(space.dump(range)).toBe('DDDD');
    expect([...context.read(range.start + PAGE, 1)]).toEqual([2]);
    expect(bytes(4)).toEqual([1, 2, 3, 4]);
    expectClean(machine);
  });

  test('lets a CPU access to a page under way wait for the page lock', async () => {
    const moved = context.migrateAsync(range, { to: 'device' });
    const read = space.readAsync(range.start + 2 * PAGE, 1);
    expect(code(() => space.write(range.start + PAGE, Uint8Array.of(77)))).toBe('EBUSY');
    expect(machine.pending.map(({ waitsFor }) => waitsFor)).toEqual([
      'ticket 1 (probe: toDevice)',
      expect.stringMatching(/^page lock of frame \d+$/) as string,
      expect.stringMatching(/^page lock of frame \d+$/) as string,
    ]);
    probe.finish();
    expect(await moved).toBe(4);
    expect([...(await read)]).toEqual([3]);
    expect(bytes(4)).toEqual([1, 77, 3, 4]);
    expectClean(machine);
  });

  test('keeps munmap, mprotect and madvise waiting for the mmap lock', async () => {
    const moved = context.migrateAsync(range, { to: 'device' });
    const hidden = space.mprotectAsync(range, 'r');
    const dropped = space.madviseAsync({ start: range.start, end: range.start + PAGE }, 'dontneed');
    const gone = space.munmapAsync({ start: range.start + PAGE, end: range.start + 2 * PAGE });
    expect(machine.pending.slice(1).map(({ waitsFor }) => waitsFor)).toEqual(Array(3).fill('mmap lock 0'));
    probe.finish();
    await Promise.all([moved, hidden, dropped, gone]);
    expect(space.dump(range)).toBe('.-dd');
    expect(used(machine)).toBe('dram 0, probe.ram 2');
    expectClean(machine);
  });

  test('that fails leaves every page where it was, with its bytes', async () => {
    const events: number[] = [];
    machine.onEvent((event) => event.type === 'pages.migrated' && events.push(event.pages, event.refused));
    const moved = context.migrateAsync(range, { to: 'device' });
    probe.giveUp();
    expect(await moved).toBe(0);
    expect(space.dump(range)).toBe('HHHH');
    expect(used(machine)).toBe('dram 4, probe.ram 0');
    expect(events).toEqual([0, 4]);
    expect(machine.counters.migrated).toEqual({});
    expect(bytes(4)).toEqual([1, 2, 3, 4]);
    expect(context.failure).toBe(undefined);
    expectClean(machine);
  });

  test('lets reads, writes and jobs of the device await it', async () => {
    const written = context.writeAsync(range.start + 1, Uint8Array.of(50));
    const job = context.submitAsync({ accesses: [{ op: 'read', addr: range.start + PAGE, bytes: 1 }] });
    const read = context.readAsync(range.start + 1, 1);
    probe.finish();
    await written;
    probe.finish();
    expect([...(await read)]).toEqual([50]);
    expect((await job).observed[0]).toBe(2);
    expect(space.dump(range)).toBe('DDHH');
    expectClean(machine);
  });
});

describe('a migration home by an asynchronous copy engine', () => {
  beforeEach(() => {
    begin();
    context.migrate(range, { to: 'device' });
    probe.slow.add('toHost');
  });

  test('is awaited by a CPU read, and meets a synchronous one with EBUSY', async () => {
    expect(code(() => space.read(range.start, 1))).toBe('EBUSY');
    expect(space.dump(range)).toBe('mDDD');
    const read = space.readAsync(range.start + PAGE, 1);
    probe.finish();
    expect([...(await read)]).toEqual([2]);
    expect(space.dump(range)).toBe('HHDD');
    expectClean(machine);
  });

  test('that fails is a bus error; the bytes are still there and come home when the engine works again', () => {
    const outcome = space.readAsync(range.start, 1);
    probe.giveUp();
    return expect(outcome)
      .rejects.toMatchObject({ code: 'EIO', argument: 'read.addr', value: range.start })
      .then(() => {
        expect(space.dump(range)).toBe('DDDD');
        expect(used(machine)).toBe('dram 0, probe.ram 4');
        expectClean(machine);
        probe.slow.clear();
        expect(bytes(4)).toEqual([1, 2, 3, 4]);
        expectClean(machine);
      });
  });

  test.each(['core', 'driver'] as const)('of the only page: a fault waits for its frame (allocated by the %s)', async (allocator) => {
    machine.close();
    begin({ pages: 1, allocator });
    context.read(range.start, 1);
    probe.slow.add('toHost');
    const home = space.readAsync(range.start, 1);
    const read = context.readAsync(range.start + PAGE, 1);
    const job = context.submitAsync({ accesses: [{ op: 'read', addr: range.start + PAGE, bytes: 1 }] });
    expect(machine.pending[1]!.waitsFor).toMatch(/^page lock of frame/);
    probe.finish();
    expect([...(await home)]).toEqual([1]);
    expect([...(await read)]).toEqual([2]);
    expect((await job).observed[0]).toBe(2);
    expect(space.dump(range)).toBe('HDHH');
    expectClean(machine);
  });

  test('is asked for once when two CPU accesses touch the page', async () => {
    const [first, second] = [space.readAsync(range.start, 1), space.writeAsync(range.start + 1, Uint8Array.of(9))];
    probe.finish();
    expect([...(await first)]).toEqual([1]);
    await second;
    expect([...space.read(range.start, 2)]).toEqual([1, 9]);
    expect(probe.log.filter((line) => line.startsWith('toHost'))).toEqual(['toHost 1']);
    expectClean(machine);
  });
});

describe('a flush that takes time', () => {
  test('keeps the frames of an munmap in use until it has completed', async () => {
    begin({ pages: 0, cached: true });
    expect([...context.read(range.start, 1)]).toEqual([1]);
    probe.slow.add('invalidate');
    probe.log.length = 0;
    const gone = space.munmapAsync(range);
    expect(used(machine)).toBe('dram 4');
    expect(space.dump(range)).toBe('HHHH');
    // The device may still use what it knew.
    expect([...context.read(range.start, 1)]).toEqual([1]);
    expect(context.failure).toBe(undefined);
    probe.finish();
    await gone;
    expect(used(machine)).toBe('dram 0');
    expect(probe.log).toEqual(['release 10000+4', 'invalidate 10000+4']);
    expect(code(() => context.read(range.start, 1))).toBe('EFAULT');
    expectClean(machine);
  });

  test('leaves alone what is mapped meanwhile in a hole of the range', async () => {
    begin({ pages: 0, cached: true, mapped: 1 });
    context.read(range.start, 1);
    probe.slow.add('invalidate');
    const all = { start: range.start, end: range.start + 16 * PAGE };
    const gone = space.munmapAsync(all);
    const later = space.mmap({ bytes: 2 * PAGE });
    expect(later.start).toBe(range.end);
    probe.finish();
    await gone;
    expect(space.dump(all).slice(0, 4)).toBe('-..-');
    space.write(later.start, Uint8Array.of(1));
    expectClean(machine);
  });

  test('of the page of zeros: two writes meet, and both are there afterwards', async () => {
    begin({ pages: 0, cached: true, written: 0 });
    space.read(range.start, 1);
    context.read(range.start, 1);
    probe.slow.add('invalidate');
    const writes = [space.writeAsync(range.start, Uint8Array.of(1)), space.writeAsync(range.start + 1, Uint8Array.of(2))];
    expect(space.dump(range)).toBe('z...');
    probe.finish();
    await Promise.all(writes);
    expect([...space.read(range.start, 2)]).toEqual([1, 2]);
    expect(used(machine)).toBe('dram 1');
    expectClean(machine);
  });

  test('of another device: two CPU reads of a device page both get it', async () => {
    begin({ name: 'gpu' });
    const other = new Probe({ name: 'nic', pages: 0, cached: true });
    space.attach(machine.addDevice(other.driver));
    context.migrate(range, { to: 'device' });
    other.slow.add('invalidate');
    const reads = [space.readAsync(range.start, 1), space.readAsync(range.start, 1)];
    other.finish();
    expect((await Promise.all(reads)).map(([byte]) => byte)).toEqual([1, 1]);
    expect(space.dump(range)).toBe('HDDD');
    expectClean(machine);
  });

  test('of the device itself: its accesses go on with the old page, the copy begins afterwards', async () => {
    begin({ cached: true });
    context.write(range.start, Uint8Array.of(10));
    probe.slow.add('invalidate');
    const moved = context.migrateAsync(range, { to: 'host' });
    expect(space.dump(range)).toBe('mHHH');
    context.write(range.start, Uint8Array.of(11));
    expect(probe.log.filter((line) => line.startsWith('toHost'))).toEqual([]);
    probe.finish();
    expect(await moved).toBe(1);
    expect(bytes(1)).toEqual([11]);
    expect(context.failure).toBe(undefined);
    expectClean(machine);
  });

  test('that fails takes no longer: what it guarded goes', async () => {
    begin({ pages: 0, cached: true });
    context.read(range.start, 1);
    probe.slow.add('invalidate');
    const gone = space.munmapAsync(range);
    probe.giveUp();
    await gone;
    expect(used(machine)).toBe('dram 0');
    expect(machine.verify()).toBe(undefined);
  });
});

describe('partial success', () => {
  test('a pinned page stays, the others move; the device uses it where it is', () => {
    begin();
    const frame = space.snapshot({ start: range.start + PAGE, end: range.start + 2 * PAGE })[0]!;
    const { core } = machine.platform;
    core.exports.framePin(frame, 0);
    expect(context.migrate(range, { to: 'device' })).toBe(3);
    expect(space.dump(range)).toBe('DHDD');
    context.write(range.start + PAGE + 1, Uint8Array.of(8));
    expect(space.dump(range)).toBe('DHDD');
    expect([...space.read(range.start + PAGE, 2)]).toEqual([2, 8]);
    expectClean(machine);
    core.exports.frameUnpin(frame);
    expect(context.migrate(range, { to: 'device' })).toBe(1);
    expect(space.dump(range)).toBe('DDDD');
    expectClean(machine);
  });

  test('a page that is pinned while it is copied stays', async () => {
    begin();
    const frame = space.snapshot(range)[0]!;
    const { core } = machine.platform;
    const events: number[] = [];
    machine.onEvent((event) => event.type === 'pages.migrated' && events.push(event.pages, event.refused));
    probe.slow.add('toDevice');
    const moved = context.migrateAsync(range, { to: 'device' });
    core.exports.framePin(frame, 0);
    probe.finish();
    expect(await moved).toBe(3);
    expect(events).toEqual([3, 1]);
    expect(space.dump(range)).toBe('HDDD');
    core.exports.frameUnpin(frame);
    expect(bytes(4)).toEqual([1, 2, 3, 4]);
    expectClean(machine);
  });

  test('a host that runs out of frames takes the faulting page, or none', () => {
    begin({ dram: 4, granulePages: 4 });
    context.migrate(range, { to: 'device' });
    const filler = space.mmap({ bytes: 3 * PAGE });
    space.write(filler.start, new Uint8Array(3 * PAGE).fill(1));
    expect([...space.read(range.start + 2 * PAGE, 1)]).toEqual([3]);
    expect(space.dump(range)).toBe('DDHD');
    expect(code(() => space.read(range.start, 1))).toBe('ENOMEM');
    expect(code(() => context.detach())).toBe('EAGAIN');
    expect(space.dump(range)).toBe('DDHD');
    expectClean(machine);
    space.munmap(filler);
    context.detach();
    expect(space.dump(range)).toBe('HHHH');
    expect(bytes(4)).toEqual([1, 2, 3, 4]);
    expectClean(machine);
  });

  test('a device that runs out of frames takes what fits', () => {
    begin({ mapped: 8, pages: 6, allocator: 'driver' });
    expect(context.migrate(range, { to: 'device' })).toBe(6);
    expect(space.dump(range)).toBe('DDDDDDHH');
    expectClean(machine);
  });
});

describe('a driver that throws', () => {
  const toDevice = (): number => context.migrate(range, { to: 'device' });
  const toHost = (): Uint8Array => space.read(range.start, 1);
  const cases: [Operation, string, ProbeOptions, 'before' | 'after', () => unknown, string][] = [
    ['toDevice', 'a migration', {}, 'before', toDevice, 'HH..'],
    ['zero', 'a migration of holes', {}, 'before', toDevice, 'HH..'],
    ['enter', 'a migration', {}, 'before', toDevice, 'HHDD'],
    ['allocPage', 'a migration', { allocator: 'driver' }, 'before', toDevice, 'HH..'],
    ['enter', 'a device write', {}, 'before', () => context.write(range.start, Uint8Array.of(99)), 'HH..'],
    ['enter', 'a device write to a hole', {}, 'before', () => context.write(range.start + 2 * PAGE, Uint8Array.of(99)), 'HHD.'],
    [
      'enter',
      'a job',
      { granulePages: 4 },
      'before',
      () => context.submit({ accesses: [{ op: 'read', addr: range.start, bytes: 1 }] }),
      'HHDD',
    ],
    ['toHost', 'a CPU read', {}, 'after', toHost, 'DDDD'],
    ['release', 'a CPU read', {}, 'after', toHost, 'HDDD'],
    ['invalidate', 'a CPU read', { cached: true }, 'after', toHost, 'HDDD'],
    ['release', 'munmap', {}, 'after', () => space.munmap({ start: range.start, end: range.start + PAGE }), '-DDD'],
    ['freePage', 'munmap', { allocator: 'driver' }, 'after', () => space.munmap({ start: range.start, end: range.start + PAGE }), '-DDD'],
    ['freePage', 'a CPU read', { allocator: 'driver', granulePages: 4 }, 'after', toHost, 'HHHH'],
    ['translate', 'a device read', {}, 'after', () => context.read(range.start, 1), 'DDDD'],
  ];

  test.each(cases)(
    'in %s during %s is contained: its context has failed, nothing is lost or leaked',
    (operation, _what, options, when, action, dump) => {
      begin({ ...options, written: 2 });
      if (when === 'after') context.migrate(range, { to: 'device' });
      probe.broken.add(operation);
      try {
        action();
      } catch (error) {
        expect(isFarfaultError(error) && error.message).toContain(`${operation} is broken`);
      }
      expect(space.dump(range)).toBe(dump);
      expect(context.failure?.message).toContain(`${operation} is broken`);
      expect(context.failure?.code).toBe('ENODEV');
      expect(code(() => context.read(range.start, 1))).toBe('ENODEV');
      expect(code(() => context.submit({ accesses: [] }))).toBe('ENODEV');
      expectClean(machine);
      probe.broken.clear();
      // The CPU still has every byte, and the device can leave.
      const there = dump.startsWith('-') ? 1 : 0;
      for (let i = there; i < 4; i++) expect(space.read(range.start + i * PAGE, 1)[0]).toBe(i < 2 ? i + 1 : 0);
      context.detach();
      expect(space.dump(range)).not.toMatch(/[dD]/);
      space.munmap(range);
      expect(used(machine)).toBe('dram 0, probe.ram 0');
      expectClean(machine);
    },
  );

  test('in victims is contained too', () => {
    begin({ allocator: 'driver', pages: 2 });
    context.migrate({ start: range.start, end: range.start + 2 * PAGE }, { to: 'device' });
    probe.broken.add('victims');
    expect(code(() => context.read(range.start + 2 * PAGE, 1))).toBe('ENODEV');
    expect(context.failure?.message).toContain('victims is broken');
    expectClean(machine);
    expect(bytes(4)).toEqual([1, 2, 3, 4]);
    expectClean(machine);
  });

  test('in attach leaves no trace', () => {
    begin();
    const before = used(machine);
    const broken = defineDriver(() => ({
      name: 'broken',
      attach(): never {
        throw new Error('no such hardware');
      },
    }))();
    const device = machine.addDevice(broken);
    expect(() => space.attach(device)).toThrow('no such hardware');
    expect(device.contexts).toEqual([]);
    expect(space.mirrors.length).toBe(1);
    expect(used(machine)).toBe(before);
    expectClean(machine);
  });

  test('in a phys family that gives a page twice, or one that is not there, is contained', () => {
    for (const [page, sentence] of [
      [0, 'is in use already'],
      [16, 'is not a page below 16'],
      [-1, 'is not a page below 16'],
      [0.5, 'is not a page below 16'],
    ] as const) {
      machine = smallMachine();
      space = machine.createAddressSpace();
      const driver = defineDriver(() => ({
        name: 'gpu',
        memory: [{ name: 'ram', kind: 'private' as const, bytes: 16 * PAGE, allocator: 'driver' as const }],
        attach: () => ({ phys: { allocPage: () => page, freePage: () => {} } }),
      }))();
      context = space.attach(machine.addDevice(driver));
      range = space.mmap({ bytes: 2 * PAGE });
      space.write(range.start, new Uint8Array(2 * PAGE).fill(6));
      expect(() => context.migrate(range, { to: 'device' })).toThrow(sentence);
      expect(context.failure?.message).toContain(sentence);
      expect(space.dump(range)).toBe('HH');
      expect(used(machine)).toBe('dram 2, gpu.ram 0');
      expectClean(machine);
      machine.close();
    }
    begin();
  });
});

describe('the order of taking away', () => {
  test('is release, invalidate, wait, free', async () => {
    begin({ allocator: 'driver', cached: true });
    context.migrate(range, { to: 'device' });
    probe.slow.add('invalidate');
    probe.log.length = 0;
    const gone = space.munmapAsync({ start: range.start, end: range.start + 2 * PAGE });
    probe.log.push('(waiting)');
    probe.finish();
    await gone;
    expect(probe.log).toEqual(['release 10000+2', 'invalidate 10000+2', '(waiting)', 'freePage 0', 'freePage 1']);
    expectClean(machine);
  });

  test('of a CPU touch is release, invalidate, copy, free; nothing is released that stays', () => {
    begin({ allocator: 'driver', granulePages: 2 });
    context.migrate(range, { to: 'device' });
    probe.log.length = 0;
    space.read(range.start + PAGE, 1);
    expect(space.dump(range)).toBe('HHDD');
    expect(probe.log).toEqual(['release 10000+2', 'invalidate 10000+2', 'toHost 2', 'freePage 0', 'freePage 1']);
    expectClean(machine);
  });

  test('by a context of one device waits for the flushes of all others', async () => {
    begin({ name: 'gpu' });
    const nic = new Probe({ name: 'nic', pages: 0, cached: true });
    const disk = new Probe({ name: 'disk', pages: 0, cached: true });
    const readers = [nic, disk].map((each) => space.attach(machine.addDevice(each.driver)));
    for (const reader of readers) reader.read(range.start, 1);
    nic.slow.add('invalidate');
    disk.slow.add('invalidate');
    const moved = context.migrateAsync(range, { to: 'device' });
    expect(space.dump(range)).toBe('HHHH');
    disk.finish();
    expect(space.dump(range)).toBe('HHHH');
    nic.finish();
    expect(await moved).toBe(4);
    expect(space.dump(range)).toBe('DDDD');
    expectClean(machine);
  });
});

test('a ticket that a driver opened and completes twice is its mistake, and changes nothing', () => {
  begin();
  probe.slow.add('toDevice');
  expect(code(() => context.migrate(range, { to: 'device' }))).toBe('EBUSY');
  const kept = machine.tickets[0]!;
  probe.finish();
  expect(() => kept.complete()).toThrow('is already done');
  expect(space.dump(range)).toBe('DDDD');
  expectClean(machine);
});

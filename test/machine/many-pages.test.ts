/** Ranges of many pages that move at once, beside the same pages a few at a time: what is where, what it says, what was counted. */
import { describe, expect, test } from 'vitest';
import { type AddressRange, type AddressSpace, type Context, type Machine, type Pin, type PinOptions, MiB } from 'farfault';
import { defineDriver } from 'farfault/gmem';
import * as L from '../../assembly/layout.ts';
import { randomOf } from '../../sdk/testing/random.ts';
import { expectClean, PAGE, Probe, smallMachine, used } from './probe.ts';

const PAGES = 700;
/** So few that the core is asked page by page. */
const FEW = 7;

interface Shape {
  readonly allocator: 'core' | 'driver';
  /** Pages of the device's memory, and of the host. */
  readonly vram: number;
  readonly dram: number;
  /** A child shares what was there: the second half of the program. */
  readonly forks?: boolean;
}

interface World {
  readonly machine: Machine;
  readonly probe: Probe;
  readonly space: AddressSpace;
  readonly context: Context;
  readonly range: AddressRange;
  readonly pins: Pin[];
}

function world({ allocator, vram, dram }: Shape): World {
  const machine = smallMachine({ dram: dram * PAGE, deviceMemory: 4 * MiB });
  const probe = new Probe({ pages: vram, allocator, cached: true });
  const space = machine.createAddressSpace();
  const context = space.attach(machine.addDevice(probe.driver));
  return { machine, probe, space, context, range: space.mmap({ bytes: PAGES * PAGE }), pins: [] };
}

/** Moves a part of the range, in steps of `step` pages; returns the pages that moved. */
function move({ context, range }: World, from: number, pages: number, to: 'device' | 'host', step: number): number {
  let moved = 0;
  for (let at = from; at < from + pages; at += step) {
    const end = Math.min(at + step, from + pages);
    moved += context.migrate({ start: range.start + at * PAGE, end: range.start + end * PAGE }, { to });
  }
  return moved;
}

/** What both must agree on. */
function seen({ machine, space, context, range, probe }: World): unknown {
  const { migrated, cleared } = machine.counters;
  return {
    dump: space.dump(range),
    used: used(machine),
    holds: Array.from({ length: PAGES }, (_, i) => context.holds(range.start / PAGE + i)?.[0] ?? '-').join(''),
    counters: { migrated, cleared },
    freed: probe.freed,
  };
}

/** The message of an error, or what comes of it. */
function outcome<T>(act: () => T): T | string {
  try {
    return act();
  } catch (error) {
    return (error as Error).message;
  }
}

const SHAPES: readonly (readonly [string, Shape])[] = [
  ['room for all', { allocator: 'core', vram: 800, dram: 1600 }],
  ['a memory that the driver hands out', { allocator: 'driver', vram: 800, dram: 1600 }],
  ['a host that is short of frames', { allocator: 'core', vram: 800, dram: 300 }],
  ['pages that a child shares', { allocator: 'driver', vram: 800, dram: 1600, forks: true }],
];

describe.each(SHAPES)('%s', (_name, shape) => {
  test.each(Array.from({ length: 10 }, (_, seed) => seed))('many pages go where a few at a time go: seed %i', (seed) => {
    const below = randomOf(seed);
    const [many, few] = [world(shape), world(shape)];
    const both = (act: (each: World) => unknown): void => expect(outcome(() => act(many))).toEqual(outcome(() => act(few)));
    for (let turn = 0; turn < 16; turn++) {
      const from = below(PAGES);
      const pages = Math.min(1 + below(below(3) ? 400 : 20), PAGES - from);
      const start = many.range.start + from * PAGE;
      const pinned: PinOptions = { write: below(2) === 0 };
      const what = below(9);
      if (turn === 8 && shape.forks) both(({ space }) => void space.fork());
      if (what < 3) both(({ space }) => space.write(start, new Uint8Array(pages * PAGE).fill(1 + turn)));
      else if (what === 3) both(({ space }) => void space.read(start, pages * PAGE));
      else if (what === 4) both(({ space, pins }) => pins.push(space.pin({ start, end: start + PAGE }, pinned)));
      else if (what === 5) both(({ pins }) => pins.pop()?.unpin());
      else {
        const to = below(3) ? 'device' : 'host';
        expect(move(many, from, pages, to, pages)).toBe(move(few, from, pages, to, FEW));
      }
      expect(seen(many)).toEqual(seen(few));
      for (const { machine } of [many, few]) expectClean(machine);
    }
    for (const { machine, pins } of [many, few]) {
      for (const pin of pins) pin.unpin();
      expectClean(machine);
    }
    const bytes = [many, few].map(({ space, range }) =>
      outcome(() => Buffer.from(space.read(range.start, PAGES * PAGE)).toString('base64')),
    );
    expect(bytes[0] === bytes[1]).toBe(true);
    for (const { machine, space, range } of [many, few]) {
      for (const each of [...machine.spaces]) if (each !== space) each.close();
      space.munmap(range);
      expectClean(machine);
      expect(used(machine)).toBe('dram 0, probe.ram 0');
      machine.close();
    }
  });
});

describe('of many pages on their way', () => {
  test('those with a late holder stay, and the others move', async () => {
    const { machine, probe, space, context, range } = world({ allocator: 'driver', vram: 800, dram: 1600 });
    space.write(range.start, new Uint8Array(100 * PAGE).fill(3));
    probe.slow.add('toDevice');
    const moved = context.migrateAsync(range, { to: 'device' });
    expect(probe.unfinished).toBe(1);
    const { core } = machine.platform;
    const late = [0, 17, 18, 99].map((page) => {
      core.entry(space.table, range.start / PAGE + page);
      core.exports.frameGet(core.entryLow);
      return core.entryLow;
    });
    probe.finish();
    expect(await moved).toBe(PAGES - late.length);
    const dump = 'H' + 'D'.repeat(16) + 'HH' + 'D'.repeat(80) + 'H';
    expect(space.dump({ start: range.start, end: range.start + 100 * PAGE })).toBe(dump);
    expect(used(machine)).toBe(`dram 4, probe.ram ${PAGES - 4}`);
    expect([17, 18, 19].map((page) => context.holds(range.start / PAGE + page))).toEqual([undefined, undefined, 'write']);
    for (const frame of late) core.exports.framePut(frame);
    expectClean(machine);
    space.munmap(range);
    expect(used(machine)).toBe('dram 0, probe.ram 0');
    machine.close();
  });

  test('all stay when the copy fails, and no frame is lost', async () => {
    const { machine, probe, space, context, range } = world({ allocator: 'driver', vram: 800, dram: 1600 });
    space.write(range.start, new Uint8Array(100 * PAGE).fill(3));
    probe.slow.add('toDevice');
    const part = { start: range.start, end: range.start + 100 * PAGE };
    const moved = context.migrateAsync(part, { to: 'device' });
    probe.giveUp();
    expect(await moved).toBe(0);
    expect(space.dump(part)).toBe('H'.repeat(100));
    expect([used(machine), probe.freed.length]).toEqual(['dram 100, probe.ram 0', 100]);
    expectClean(machine);
    machine.close();
  });

  test('none is taken by a driver that throws in the middle of handing pages out', () => {
    const { machine, probe, space, context, range } = world({ allocator: 'driver', vram: 800, dram: 1600 });
    space.write(range.start, new Uint8Array(100 * PAGE).fill(3));
    const { did } = probe;
    let left = 60;
    probe.did = (operation, what) => {
      if (operation === 'allocPage' && left-- === 0) throw new Error('out of order');
      did.call(probe, operation, what);
    };
    expect(() => context.migrate(range, { to: 'device' })).toThrow('out of order');
    expect([used(machine), space.read(range.start + 99 * PAGE, 1)[0]]).toEqual(['dram 100, probe.ram 0', 3]);
    // It hears of those that it gave before.
    expect(probe.freed).toHaveLength(60);
    expectClean(machine);
    machine.close();
  });
});

test('pages that two drivers have handed out, and that go together, are told to the driver that each came from', () => {
  const machine = smallMachine({ dram: 1 * MiB, deviceMemory: 1 * MiB });
  const space = machine.createAddressSpace();
  const probes = ['a', 'b'].map((name) => new Probe({ name, pages: 16, allocator: 'driver' }));
  const contexts = probes.map(({ driver }) => space.attach(machine.addDevice(driver)));
  const range = space.mmap({ bytes: 16 * PAGE });
  space.write(range.start, new Uint8Array(16 * PAGE).fill(5));
  // Two pages of the one, two of the other, and so on.
  for (let page = 0; page < 16; page += 2) {
    const start = range.start + page * PAGE;
    contexts[(page / 2) % 2]!.migrate({ start, end: start + 2 * PAGE }, { to: 'device' });
  }
  expect(used(machine)).toBe('dram 0, a.ram 8, b.ram 8');
  space.munmap(range);
  const eight = Array.from({ length: 8 }, (_, page) => page);
  expect(probes.map(({ freed }) => freed)).toEqual([eight, eight]);
  expectClean(machine);
  machine.close();
});

test('a page that its driver gives to a second fault is refused', () => {
  const machine = smallMachine();
  const driver = defineDriver(() => ({
    name: 'gpu',
    memory: [{ name: 'ram', kind: 'private' as const, bytes: 16 * PAGE, allocator: 'driver' as const }],
    attach: () => ({ phys: { allocPage: () => 3, freePage: () => {} } }),
  }))();
  const space = machine.createAddressSpace();
  const context = space.attach(machine.addDevice(driver));
  const { start } = space.mmap({ bytes: 2 * PAGE });
  space.write(start, new Uint8Array(2 * PAGE).fill(6));
  const read = (page: number): unknown => context.submit({ accesses: [{ op: 'read', addr: start + page * PAGE, bytes: 4 }] });
  read(0);
  expect(() => read(1)).toThrow('is in use already');
  expect(space.read(start + PAGE, 1)[0]).toBe(6);
  machine.close();
});

test('a view of words of the core is of those that were asked for, whatever was asked for before', () => {
  const machine = smallMachine();
  const { core } = machine.platform;
  for (const length of [8, 9, 8])
    for (let i = 0; i < 200; i++) {
      const { byteOffset, length: words } = core.words(L.AREA_LIST + i * 64, length);
      expect([byteOffset, words]).toEqual([core.area(L.AREA_LIST + i * 64), length]);
    }
  machine.close();
});

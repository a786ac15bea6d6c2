/** The second tier: where pages go when the host is full, how they come back, and what of them needs no copy. */
import { describe, expect, test } from 'vitest';
import { type Machine, restoreMachine } from 'farfault';
import type { Context } from 'farfault/gmem';
import { expectClean, PAGE, smallMachine } from '../machine/probe.ts';
import { randomOf, vram, type World, worldOf } from './evict-device.ts';

const of = (node: string, machine: Machine): number => machine.nodes.find((each) => each.name === node)!.used;

/** A host of `dram` pages with `swap` pages behind it, and a mapping of `pages`. */
function full(dram: number, swap: number, pages: number, device = 4): World {
  return worldOf({ dram: dram * PAGE, swap: swap * PAGE, pages, driver: vram({ pages: device }) });
}

function end({ machine, space }: World): void {
  space.close();
  for (const node of machine.nodes) expect(`${node.name} ${node.used}`).toBe(`${node.name} 0`);
  expectClean(machine);
  machine.close();
}

const moved = ({ machine }: World, from: string, to: string): number => machine.counters.migrated[from]?.[to]?.pages ?? 0;

test('a host of 8 pages holds 32: what has not been used goes, a touch brings it back', () => {
  const world = full(8, 32, 32);
  const { space, machine, at } = world;
  for (let i = 0; i < 32; i++) space.write(at(i), Uint8Array.of(i + 1));
  expect([of('dram', machine), of('swap', machine), machine.verify()]).toEqual([8, 24, undefined]);
  expect(space.dump(world.range).replace(/[^s]/g, '')).toHaveLength(24);
  for (let round = 0; round < 2; round++) for (let i = 0; i < 32; i++) expect(space.read(at(i), 1)[0]).toBe(i + 1);
  expect(machine.counters.cpuFaults.swap).toBeGreaterThan(24);
  end(world);
});

test('a file that is written makes room for its pages, and says so when there is none', () => {
  const world = full(8, 4, 8);
  const { space, machine, at } = world;
  for (let i = 0; i < 8; i++) space.write(at(i), Uint8Array.of(i + 1));
  const file = machine.createFile({ bytes: 0 });
  file.write(0, new Uint8Array(3 * PAGE).fill(7));
  expect([of('dram', machine), of('swap', machine), file.cached, machine.verify()]).toEqual([8, 3, 3, undefined]);
  expect(() => file.write(3 * PAGE, new Uint8Array(2 * PAGE).fill(8))).toThrow(
    'write.offset 0x4000 needs a page of the cache, and host memory is exhausted',
  );
  // What was written before stays written, and what is in the cache stays there, written back or not.
  file.sync();
  expect([file.bytes, file.read(3 * PAGE, 1)[0], file.cached, file.dirty]).toEqual([4 * PAGE, 8, 4, 0]);
  expect(space.tryWrite(at(0), Uint8Array.of(1))).toEqual({ status: 'no memory', bytes: 0 });
  file.close();
  for (let i = 0; i < 8; i++) expect(space.read(at(i), 1)[0]).toBe(i + 1);
  end(world);
});

test('what the CPU uses stays: the hand passes over it once', () => {
  const world = full(8, 32, 32);
  const { space, at } = world;
  for (let i = 0; i < 8; i++) space.write(at(i), Uint8Array.of(i));
  // All have been used; the hand has cleared that. Page 0 is used again.
  space.write(at(8), Uint8Array.of(8));
  for (let i = 9; i < 15; i++) {
    space.read(at(0), 1);
    space.write(at(i), Uint8Array.of(i));
  }
  expect(space.dump({ start: at(0), end: at(1) })).not.toBe('s');
  end(world);
});

test('with both full there is no memory, nothing is lost, and what is given back can be used', () => {
  const world = full(4, 4, 16);
  const { space, machine, at } = world;
  for (let i = 0; i < 8; i++) space.write(at(i), Uint8Array.of(i + 1));
  expect(() => space.write(at(8), Uint8Array.of(9))).toThrow('host memory is exhausted');
  expect(space.tryWrite(at(9), Uint8Array.of(9))).toEqual({ status: 'no memory', bytes: 0 });
  expect(machine.verify()).toBe(undefined);
  space.munmap({ start: at(0), end: at(2) });
  for (let i = 2; i < 8; i++) expect(space.read(at(i), 1)[0]).toBe(i + 1);
  space.write(at(9), Uint8Array.of(10));
  expect(space.read(at(9), 1)[0]).toBe(10);
  end(world);
});

describe('a page that came back', () => {
  test('and was not written goes again without a copy', () => {
    const world = full(2, 8, 4);
    const { space, machine, at } = world;
    for (let i = 0; i < 4; i++) space.write(at(i), Uint8Array.of(i + 1));
    for (let i = 0; i < 4; i++) space.read(at(i), 1);
    const before = moved(world, 'dram', 'swap');
    const { clean } = machine.counters;
    for (let i = 0; i < 12; i++) expect(space.read(at(i % 4), 1)[0]).toBe((i % 4) + 1);
    expect(moved(world, 'dram', 'swap')).toBe(before);
    expect(machine.counters.clean).toBeGreaterThan(clean + 6);
    end(world);
  });

  test('and was written goes with its new bytes', () => {
    const world = full(2, 8, 4);
    const { space, at } = world;
    for (let i = 0; i < 4; i++) space.write(at(i), Uint8Array.of(i + 1));
    for (let round = 0; round < 3; round++) {
      for (let i = 0; i < 4; i++) {
        expect(space.read(at(i), 1)[0]).toBe(i + 1 + round * 10);
        space.write(at(i), Uint8Array.of(i + 1 + (round + 1) * 10));
      }
    }
    expect(world.machine.verify()).toBe(undefined);
    end(world);
  });

  test('to a device and is read there is dropped by an eviction; one that the device wrote is copied', () => {
    const world = full(4, 16, 12, 2);
    const { space, context, machine, at } = world;
    for (let i = 0; i < 8; i++) space.write(at(i), Uint8Array.of(i + 1));
    for (let i = 0; i < 4; i++) expect(context.read(at(i), 1)[0]).toBe(i + 1);
    // Pages 2 and 3 are on the device, true in the second tier as well.
    const home = moved(world, 'gpu.vram', 'dram');
    const { clean } = machine.counters;
    context.read(at(4), 1);
    expect([moved(world, 'gpu.vram', 'dram') - home, machine.counters.clean - clean]).toEqual([0, 1]);
    expect(space.dump({ start: at(2), end: at(3) })).toBe('s');
    context.write(at(4), Uint8Array.of(77));
    context.write(at(3), Uint8Array.of(66));
    for (let i = 5; i < 8; i++) context.read(at(i), 1);
    expect([2, 3, 4].map((i) => space.read(at(i), 1)[0])).toEqual([3, 66, 77]);
    expect(machine.verify()).toBe(undefined);
    end(world);
  });

  test('is the space’s own again after a pin has written past its tables', () => {
    const world = full(2, 8, 4);
    const { space, at } = world;
    for (let i = 0; i < 4; i++) space.write(at(i), Uint8Array.of(i + 1));
    expect(space.read(at(0), 1)[0]).toBe(1);
    const pin = space.pin({ start: at(0), end: at(1) }, { write: true });
    pin.unpin();
    expect(world.machine.verify()).toBe(undefined);
    for (let i = 0; i < 4; i++) expect(space.read(at(i), 1)[0]).toBe(i + 1);
    end(world);
  });
});

test('a device evicts to a full host: the host makes room below; with all full the page stays', () => {
  const world = full(4, 8, 32, 4);
  const { context, space, machine, at } = world;
  for (let i = 0; i < 16; i++) context.write(at(i), Uint8Array.of(i + 1));
  expect([of('gpu.vram', machine), of('dram', machine), of('swap', machine)]).toEqual([4, 4, 8]);
  expect(() => context.write(at(16), Uint8Array.of(17))).toThrow('host memory is exhausted');
  expect(machine.counters.evicted.fallback).toBeGreaterThan(0);
  expect(machine.verify()).toBe(undefined);
  space.munmap({ start: at(0), end: at(5) });
  for (let i = 5; i < 16; i++) expect(space.read(at(i), 1)[0]).toBe(i + 1);
  for (let i = 5; i < 16; i++) expect(context.read(at(i), 1)[0]).toBe(i + 1);
  end(world);
});

describe('what is in the second tier', () => {
  const swapped = (): World => {
    const world = full(4, 16, 12);
    for (let i = 0; i < 8; i++) world.space.write(world.at(i), Uint8Array.of(i + 1));
    expect(world.space.dump({ start: world.at(0), end: world.at(4) })).toBe('ssss');
    return world;
  };

  test('is inherited by a child: shared, brought back for both, and copied by who writes', () => {
    const world = swapped();
    const { space, machine, at } = world;
    const child = space.fork();
    child.write(at(0), Uint8Array.of(100));
    space.write(at(1), Uint8Array.of(101));
    expect([0, 1, 2, 3].map((i) => space.read(at(i), 1)[0])).toEqual([1, 101, 3, 4]);
    expect([0, 1, 2, 3].map((i) => child.read(at(i), 1)[0])).toEqual([100, 2, 3, 4]);
    expect(machine.verify()).toBe(undefined);
    child.close();
    end(world);
  });

  test('goes with munmap and with advice, and moves with mremap', () => {
    const world = swapped();
    const { space, machine, at } = world;
    space.munmap({ start: at(0), end: at(1) });
    space.madvise({ start: at(1), end: at(2) }, 'dontneed');
    expect([space.read(at(1), 1)[0], of('swap', machine)]).toEqual([0, 2]);
    const range = space.mremap({ start: at(2), end: at(4) }, { bytes: 3 * PAGE, mayMove: true });
    expect([space.read(range.start, 1)[0], space.read(range.start + PAGE, 1)[0]]).toEqual([3, 4]);
    expect(machine.verify()).toBe(undefined);
    end(world);
  });

  test('obeys mprotect: no right to read it, then none to write it, then both', () => {
    const world = swapped();
    const { space, at } = world;
    const range = { start: at(0), end: at(4) };
    space.mprotect(range, 'none');
    expect(() => space.read(at(0), 1)).toThrow('read');
    space.mprotect(range, 'r');
    expect(space.read(at(0), 1)[0]).toBe(1);
    expect(() => space.write(at(1), Uint8Array.of(9))).toThrow('write');
    space.mprotect(range, 'rw');
    space.write(at(1), Uint8Array.of(9));
    expect([0, 1, 2, 3].map((i) => space.read(at(i), 1)[0])).toEqual([1, 9, 3, 4]);
    end(world);
  });

  test('is brought back by a device fault, by a range fault, by a pin and by an atomic', () => {
    const world = swapped();
    const { space, context, at } = world;
    expect(context.read(at(0), 1)[0]).toBe(1);
    expect(space.dump({ start: at(0), end: at(1) })).toBe('D');
    const pin = space.pin({ start: at(1), end: at(2) }, { write: true });
    expect(space.dump({ start: at(1), end: at(2) })).toBe('H');
    pin.unpin();
    context.write(at(2), Uint8Array.of(30));
    expect([1, 2, 3].map((i) => space.read(at(i), 1)[0])).toEqual([2, 30, 4]);
    expect(world.machine.verify()).toBe(undefined);
    end(world);
  });

  test('goes to a device with the range that a program moves there, and is brought by a prefetch', () => {
    const world = full(6, 32, 24, 8);
    const { space, context, at } = world;
    for (let i = 0; i < 24; i++) space.write(at(i), Uint8Array.of(i + 1));
    const dump = (from: number, to: number): string => space.dump({ start: at(from), end: at(to) });
    expect(dump(0, 8)).toBe('ssssssss');
    expect(context.migrate({ start: at(0), end: at(4) }, { to: 'device' })).toBe(4);
    expect(dump(0, 4)).toBe('DDDD');
    space.hmadvise({ start: at(4), end: at(8) }, 'prefetch', { device: context.device });
    expect(dump(4, 8)).toBe('DDDD');
    for (let i = 0; i < 24; i++) expect(context.read(at(i), 1)[0]).toBe(i + 1);
    end(world);
  });

  test('is not in a snapshot: a hole that a fault fills', () => {
    const world = swapped();
    const { space, at } = world;
    expect(space.snapshotExtents({ start: at(0), end: at(4) }).filter(({ bits }) => (bits & 15) === 1)).toEqual([]);
    expect([...space.snapshotHmm({ start: at(0), end: at(2) })]).toEqual([0, 0, 0, 0]);
    end(world);
  });

  test('is in a saved machine', async () => {
    const world = swapped();
    const { space, machine, at } = world;
    const { machine: other, handles } = await restoreMachine<{ space: typeof space; context: Context }>(machine.save({ space }), {
      drivers: [vram()],
    });
    for (let i = 0; i < 8; i++) expect(handles.space.read(at(i), 1)[0]).toBe(i + 1);
    expect(other.verify()).toBe(undefined);
    other.close();
    end(world);
  });
});

test('huge pages go as small ones', () => {
  const machine = smallMachine({ dram: 1024 * PAGE, swap: 2048 * PAGE });
  const space = machine.createAddressSpace();
  const range = space.mmap({ bytes: 1536 * PAGE });
  space.madvise(range, 'hugepage');
  for (let i = 0; i < 1536; i++) space.write(range.start + i * PAGE, Uint8Array.of(i, i >> 8));
  for (let i = 0; i < 1536; i += 7) expect([...space.read(range.start + i * PAGE, 2)]).toEqual([i & 255, i >> 8]);
  expect(machine.verify()).toBe(undefined);
  space.close();
  expect(machine.nodes.map((node) => node.used)).toEqual([0, 0]);
  expectClean(machine);
  machine.close();
});

test.each([1, 2, 3, 4])(
  'random operations of the CPU and a device on three times what the host has, every byte right (seed %i)',
  (seed) => {
    const world = worldOf({
      dram: 8 * PAGE,
      swap: 40 * PAGE,
      pages: 24,
      driver: vram({ pages: 5, granulePages: 2 }),
      policy: { victims: 'clock' },
    });
    const { context, machine, at } = world;
    const random = randomOf(seed);
    const spaces = [{ space: world.space, bytes: new Uint8Array(24) }];
    for (let i = 0; i < 800; i++) {
      const page = random(24);
      const which = random(spaces.length);
      const { space, bytes } = spaces[which]!;
      const who = which === 0 && random(2) === 0 ? context : space;
      if (random(40) === 0 && spaces.length < 2) spaces.push({ space: space.fork(), bytes: bytes.slice() });
      else if (random(40) === 0 && spaces.length > 1) spaces.pop()!.space.close();
      else if (random(2) === 0) who.write(at(page) + page, Uint8Array.of((bytes[page] = random(256))));
      else expect(who.read(at(page) + page, 1)[0]).toBe(bytes[page]);
      if (i % 50 === 0) expect(machine.verify()).toBe(undefined);
    }
    for (const { space, bytes } of spaces) for (let i = 0; i < 24; i++) expect(space.read(at(i) + i, 1)[0]).toBe(bytes[i]);
    for (const { space } of spaces.slice(1)) space.close();
    end(world);
  },
);

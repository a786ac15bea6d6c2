/** How much of the host one space may have, and what devices do when the host is full. */
import { describe, expect, test } from 'vitest';
import { type AddressSpace, type Machine, MiB } from 'farfault';
import { expectClean, PAGE, smallMachine } from '../machine/probe.ts';
import { randomOf, vram, type World, worldOf } from './evict-device.ts';

function end({ machine, space }: World): void {
  space.close();
  for (const node of machine.nodes) expect(`${node.name} ${node.used}`).toBe(`${node.name} 0`);
  expectClean(machine);
  machine.close();
}

const dram = (space: AddressSpace): number => space.charged['dram']! / PAGE;

describe('a space with a limit of host memory', () => {
  test('sends its own pages to the second tier, and another space keeps its', () => {
    const world = worldOf({ swap: 1 * MiB, pages: 32 });
    const { space, machine, at } = world;
    const other = machine.createAddressSpace();
    const range = other.mmap({ bytes: 8 * PAGE });
    for (let i = 0; i < 8; i++) other.write(range.start + i * PAGE, Uint8Array.of(i));
    space.limit(4 * PAGE);
    for (let i = 0; i < 32; i++) {
      space.write(at(i), Uint8Array.of(i + 1));
      expect(dram(space)).toBeLessThanOrEqual(4);
    }
    expect([dram(space), space.charged['swap']! / PAGE, dram(other), other.charged['swap']]).toEqual([4, 28, 8, 0]);
    for (let i = 0; i < 32; i++) expect([space.read(at(i), 1)[0], dram(space) <= 4]).toEqual([i + 1, true]);
    expect(other.dump(range)).not.toMatch(/s/);
    space.limit(undefined);
    for (let i = 0; i < 32; i++) space.read(at(i), 1);
    expect(dram(space)).toBe(32);
    other.close();
    end(world);
  });

  test('is out of memory where there is no second tier, though the host is not; reads of holes and files go on', () => {
    const world = worldOf();
    const { space, machine, at } = world;
    space.limit(2 * PAGE);
    const file = machine.createFile({ bytes: 4 * PAGE });
    const map = space.mmap({ bytes: 4 * PAGE, file, shared: true });
    for (let i = 0; i < 2; i++) space.write(at(i), Uint8Array.of(i + 1));
    expect(() => space.write(at(2), Uint8Array.of(3))).toThrow('needs a page, and its space is at its limit');
    expect(space.tryWrite(at(2), Uint8Array.of(3))).toEqual({ status: 'no memory', bytes: 0 });
    expect(space.read(at(3), 1)[0]).toBe(0);
    // Neither does a page of zeros become one of its own.
    expect(space.tryWrite(at(3), Uint8Array.of(3)).status).toBe('no memory');
    for (let i = 0; i < 4; i++) space.write(map.start + i * PAGE, Uint8Array.of(i));
    expect([space.read(at(0), 1)[0], space.read(at(1), 1)[0], dram(space), machine.verify()]).toEqual([1, 2, 2, undefined]);
    space.munmap({ start: at(0), end: at(1) });
    space.write(at(2), Uint8Array.of(3));
    expect(dram(space)).toBe(2);
    space.munmap(map);
    file.close();
    end(world);
  });

  test('brings home from a device what it may have, the touched page first; the neighbours stay', () => {
    const world = worldOf({ driver: vram({ pages: 16, granulePages: 8 }) });
    const { context, space, at } = world;
    for (let i = 0; i < 16; i++) context.write(at(i), Uint8Array.of(i + 1));
    space.limit(3 * PAGE);
    expect(space.read(at(5), 1)[0]).toBe(6);
    expect([dram(space), space.dump(world.range)]).toEqual([3, 'HHDDDHDDDDDDDDDD']);
    expect(space.tryRead(at(9), new Uint8Array(1)).status).toBe('no memory');
    expect(context.read(at(9), 1)[0]).toBe(10);
    end(world);
  });

  test('does not stop an eviction: what a device gives back has to go somewhere', () => {
    const world = worldOf({ driver: vram({ pages: 4 }) });
    const { context, space, at } = world;
    space.limit(PAGE);
    for (let i = 0; i < 12; i++) context.write(at(i), Uint8Array.of(i + 1));
    expect(dram(space)).toBe(8);
    expect(space.tryWrite(at(13), Uint8Array.of(1)).status).toBe('no memory');
    for (let i = 0; i < 12; i++) expect(context.read(at(i), 1)[0]).toBe(i + 1);
    end(world);
  });

  test('has no huge page that is larger than what is left', () => {
    const world = worldOf({ dram: 8 * MiB });
    const { space } = world;
    const huge = space.mmap({ at: 0x4000_0000, bytes: 4 * MiB, fixed: true });
    space.madvise(huge, 'hugepage');
    space.limit(3 * MiB);
    space.write(huge.start, Uint8Array.of(1));
    expect(dram(space)).toBe(512);
    space.write(huge.start + 2 * MiB, Uint8Array.of(2));
    expect(dram(space)).toBe(513);
    end(world);
  });

  test('is refused what is no limit', () => {
    const world = worldOf();
    for (const bytes of [0, -PAGE, 100, 1.5, NaN]) expect(() => world.space.limit(bytes)).toThrow('limit.bytes');
    end(world);
  });
});

describe('a device whose memory is full while the host is full, too', () => {
  /** Four pages on the device, the rest of the host full, page 4 among that. */
  const full = (): World & { machine: Machine } => {
    const world = worldOf({ dram: 8 * PAGE, pages: 16 });
    for (let i = 0; i < 4; i++) world.context.write(world.at(i), Uint8Array.of(i + 1));
    for (let i = 4; i < 12; i++) world.space.write(world.at(i), Uint8Array.of(i + 1));
    return world;
  };

  test('uses a page of the host where it is, for reading and for writing', () => {
    const world = full();
    const { context, space, at } = world;
    expect(context.read(at(4), 1)[0]).toBe(5);
    context.write(at(5), Uint8Array.of(99));
    expect([space.read(at(5), 1)[0], space.dump(world.range)]).toEqual([99, 'DDDDHHHHHHHH....']);
    end(world);
  });

  test('has no memory for a page that is nowhere, and loses none', () => {
    const world = full();
    const { context, space, at } = world;
    expect(() => context.write(at(13), Uint8Array.of(1))).toThrow('host memory is exhausted');
    expect(world.machine.counters.evicted.fallback).toBeGreaterThan(0);
    for (let i = 0; i < 4; i++) expect(context.read(at(i), 1)[0]).toBe(i + 1);
    for (let i = 4; i < 12; i++) expect(space.read(at(i), 1)[0]).toBe(i + 1);
    end(world);
  });
});

test('with the states of pages watched, random accesses by two spaces, a device and a fork go by legal ways only, through the second tier too', () => {
  const machine = smallMachine({ dram: 12 * PAGE, swap: 64 * PAGE, checked: 'states' });
  const space = machine.createAddressSpace();
  const device = machine.addDevice(vram({ pages: 6, granulePages: 2 }), { victims: 'lru' });
  const gpu = space.attach(device);
  const range = space.mmap({ bytes: 24 * PAGE });
  const random = randomOf(11);
  const bytes = new Uint8Array(24);
  let child: AddressSpace | undefined;
  for (let i = 0; i < 300; i++) {
    const page = random(24);
    const addr = range.start + page * PAGE;
    const who = random(3) === 0 ? space : gpu;
    if (i % 60 === 30) child = space.fork();
    if (i % 60 === 50) child!.close();
    if (i % 25 === 0) {
      space.munmap({ start: addr, end: addr + PAGE });
      space.mmap({ at: addr, bytes: PAGE, fixed: true });
      bytes[page] = 0;
    } else if (random(2) === 0) who.write(addr, Uint8Array.of((bytes[page] = random(256))));
    else expect(who.read(addr, 1)[0]).toBe(bytes[page]);
  }
  expect(machine.counters.migratedByCause['swap out']!.pages).toBeGreaterThan(20);
  expect(machine.counters.cpuFaults.swap).toBeGreaterThan(5);
  space.close();
  for (const node of machine.nodes) expect(`${node.name} ${node.used}`).toBe(`${node.name} 0`);
  expectClean(machine);
  machine.close();
});

/** Room that is made before it is needed, and how much one space may have. */
import { describe, expect, test } from 'vitest';
import { exploreSeeded } from 'farfault/testing';
import { expectClean, PAGE, smallMachine } from '../machine/probe.ts';
import { resident, vram, type World, worldOf } from './evict-device.ts';

function end({ machine, space }: World): void {
  space.close();
  for (const node of machine.nodes) expect(`${node.name} ${node.used}`).toBe(`${node.name} 0`);
  expectClean(machine);
  machine.close();
}

const WATERMARKS = { low: 2 * PAGE, high: 4 * PAGE };

describe('a memory with watermarks', () => {
  test('is brought to the high one when fewer than the low one are free, and nobody waits for it', () => {
    const world = worldOf({ driver: vram({ pages: 8 }), policy: { watermarks: WATERMARKS } });
    const { context, machine, at } = world;
    for (let i = 0; i < 6; i++) context.write(at(i), Uint8Array.of(i));
    expect(resident(world)).toEqual([0, 1, 2, 3, 4, 5]);
    context.write(at(6), Uint8Array.of(6));
    expect(resident(world)).toEqual([3, 4, 5, 6]);
    for (let i = 7; i < 16; i++) context.write(at(i), Uint8Array.of(i));
    expect(machine.counters.reclaimed.direct).toBe(0);
    expect(machine.counters.reclaimed.background).toBeGreaterThan(8);
    for (let i = 0; i < 16; i++) expect(world.space.read(at(i), 1)[0]).toBe(i);
    end(world);
  });

  test('says who made the room', () => {
    const world = worldOf({ driver: vram({ pages: 8 }), policy: { watermarks: WATERMARKS, victims: 'clock' } });
    const events: unknown[] = [];
    world.machine.onEvent((event) => void (event.type === 'frames.evicted' && events.push([event.by, event.cause, event.space])));
    for (let i = 0; i < 8; i++) world.context.write(world.at(i), Uint8Array.of(i));
    expect(events).toEqual([['background', 'watermark', -1]]);
    end(world);
  });

  test('is full for a moment when a batch takes all at once: then who needs the room makes it', () => {
    const world = worldOf({ driver: vram({ pages: 8, granulePages: 8 }), policy: { watermarks: WATERMARKS }, pages: 32 });
    for (let i = 0; i < 32; i++) world.context.write(world.at(i), Uint8Array.of(i + 1));
    const { direct, background } = world.machine.counters.reclaimed;
    expect(direct).toBeGreaterThan(0);
    expect(background).toBeGreaterThan(0);
    for (let i = 0; i < 32; i++) expect(world.context.read(world.at(i), 1)[0]).toBe(i + 1);
    end(world);
  });

  test('in every order with faults and accesses of the CPU', () => {
    const found = exploreSeeded(
      () => {
        const world = worldOf({
          driver: vram({ pages: 4 }),
          policy: { watermarks: { low: PAGE, high: 2 * PAGE }, victims: 'lru' },
          pages: 6,
        });
        for (let i = 0; i < 3; i++) world.context.write(world.at(i), Uint8Array.of(i));
        return {
          steps: [
            world.context.writeStep(world.at(3), Uint8Array.of(3)),
            world.context.writeStep(world.at(4), Uint8Array.of(4)),
            world.space.writeStep(world.at(0), Uint8Array.of(10)),
          ],
          check: () => {
            expect([0, 1, 2, 3, 4].map((i) => world.space.read(world.at(i), 1)[0])).toEqual([10, 1, 2, 3, 4]);
            expect(world.machine.counters.reclaimed.background).toBeGreaterThan(0);
            expectClean(world.machine);
            world.machine.close();
          },
        };
      },
      3,
      60,
    );
    expect(found.finding).toBe(undefined);
  });

  test('is refused for marks that are none', () => {
    const machine = smallMachine();
    const add = (watermarks: unknown) => (): unknown => machine.addDevice(vram({ pages: 8 }), { watermarks } as never);
    expect(add({ low: PAGE })).toThrow('gpu policy.watermarks.high');
    expect(add({ low: 2 * PAGE, high: PAGE })).toThrow('is above high');
    expect(add({ low: PAGE, high: 8 * PAGE })).toThrow('is not less than the 32768 bytes of vram');
    expect(add({ low: 100, high: PAGE })).toThrow('is not a positive multiple of 4096');
    expect(machine.nodes).toHaveLength(1);
    machine.close();
  });
});

describe('a space with a limit', () => {
  test('evicts its own pages first, and another space keeps its', () => {
    const world = worldOf({ driver: vram({ pages: 8 }) });
    const { context, machine, at } = world;
    const other = machine.createAddressSpace();
    const theirs = other.attach(context.device);
    const range = other.mmap({ bytes: 4 * PAGE });
    for (let i = 0; i < 4; i++) theirs.write(range.start + i * PAGE, Uint8Array.of(i));
    context.limit(3 * PAGE);
    for (let i = 0; i < 8; i++) context.write(at(i), Uint8Array.of(i));
    expect(resident(world)).toEqual([5, 6, 7]);
    expect([context.charged['gpu.vram'], theirs.charged['gpu.vram']]).toEqual([3 * PAGE, 4 * PAGE]);
    expect(other.dump(range)).toBe('DDDD');
    context.limit(undefined);
    for (let i = 0; i < 4; i++) context.write(at(i), Uint8Array.of(i));
    expect(context.charged['gpu.vram']).toBeGreaterThan(3 * PAGE);
    other.close();
    end(world);
  });

  test('does not take more by a program that moves a range, and pays for what is where', () => {
    const world = worldOf({ driver: vram({ pages: 8 }) });
    const { context, space, at, range } = world;
    for (let i = 0; i < 8; i++) space.write(at(i), Uint8Array.of(i));
    expect(context.charged).toEqual({ dram: 8 * PAGE, 'gpu.vram': 0 });
    context.limit(2 * PAGE);
    context.migrate(range, { to: 'device' });
    expect(context.charged).toMatchObject({ 'gpu.vram': 2 * PAGE });
    expect(() => context.limit(100)).toThrow('limit.bytes');
    expect(() => context.limit(PAGE, 3)).toThrow('limit.memory');
    for (let i = 0; i < 8; i++) expect(space.read(at(i), 1)[0]).toBe(i);
    end(world);
  });
});

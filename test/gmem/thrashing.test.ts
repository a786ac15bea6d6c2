/** Pages that go back and forth: how that is noticed, and what it costs with and without a policy. */
import nouveau from 'farfault/drivers/nouveau';
import type { Device, Driver } from 'farfault/gmem';
import { afterEach, describe, expect, test } from 'vitest';
import { type Context, type DevicePolicy, type Machine, type MachineEvent, restoreMachine } from 'farfault';
import { BLOCK_PAGES, BLOCKS_KEPT, MovedBlock, Movements } from '../../sdk/mm/movements.ts';
import { resides, restraintOf, thrashes } from '../../sdk/policy/thrashing.ts';
import { exploreSeeded } from '../../sdk/testing/simulator.ts';
import { thrownBy } from '../errors/refusal.ts';
import { expectClean, PAGE, probeDriver, smallMachine, used } from '../machine/probe.ts';

const open: Machine[] = [];
afterEach(() => {
  for (const machine of open.splice(0)) machine.close();
});

describe('the detector', () => {
  const block = (...moves: number[]): MovedBlock => Object.assign(new MovedBlock(), { moves });

  test('sees a block that has changed its side so often within the window', () => {
    const policy = { moves: 3, window: 10 };
    expect(thrashes(block(1, 5), 6, policy)).toBe(false);
    expect(thrashes(block(1, 5, 9), 11, policy)).toBe(true);
    expect(thrashes(block(1, 5, 9), 12, policy)).toBe(false);
    expect(thrashes(block(1, 2, 5, 9), 12, policy)).toBe(true);
    expect(thrashes(block(1, 5, 9, 60), 61, {})).toBe(true);
    expect(thrashes(block(1, 5, 9, 60), 66, {})).toBe(false);
  });

  test('pins what thrashes until the pin is over, or puts off so many faults', () => {
    const moved = block(1, 2, 3, 4);
    expect(restraintOf(moved, 5, {})).toBe('pin');
    expect(restraintOf(block(1), 5, {})).toBe('go');
    expect(restraintOf(Object.assign(block(), { pinnedUntil: 9 }), 8, {})).toBe('pin');
    expect(restraintOf(Object.assign(block(), { pinnedUntil: 9 }), 9, {})).toBe('go');
    expect(restraintOf(moved, 5, { response: 'throttle', throttles: 2 })).toBe('defer');
    expect(restraintOf(Object.assign(moved, { deferred: 2 }), 5, { response: 'throttle', throttles: 2 })).toBe('go');
  });

  test('counts changes of side, not pages that follow one another to the same one', () => {
    const movements = new Movements();
    for (const [tick, page, to] of [
      [1, 32, 1],
      [2, 33, 1],
      [3, 34, 2],
      [4, 40, 2],
      [5, 32, 0],
    ] as const) {
      movements.tick = tick;
      movements.moved(3, page, 1, to);
    }
    expect(movements.blockOf(3, 47)!.moves).toEqual([1, 3, 5]);
    expect(movements.blockOf(3, 47)!.arrived).toBe(5);
    expect(movements.blockOf(3, 48)).toBe(undefined);
    expect(movements.blockOf(2, 32)).toBe(undefined);
    movements.moved(3, 0, 512, 1);
    expect(movements.blockOf(3, 511)!.moves).toEqual([5]);
    expect(resides(movements.blockOf(3, 511)!, 8, 4)).toBe(true);
    expect(resides(movements.blockOf(3, 511)!, 9, 4)).toBe(false);
  });

  test('knows as many blocks as it keeps, and forgets the one that it has known longest', () => {
    const movements = new Movements();
    const known = (block: number): boolean => movements.blockOf(1, block * BLOCK_PAGES) !== undefined;
    for (let block = 0; block < BLOCKS_KEPT; block++) movements.moved(1, block * BLOCK_PAGES, 1, 1);
    expect([known(0), known(1), known(BLOCKS_KEPT - 1)]).toEqual([true, true, true]);
    movements.moved(1, BLOCKS_KEPT * BLOCK_PAGES, 1, 1);
    expect([known(0), known(1), known(BLOCKS_KEPT)]).toEqual([false, true, true]);
  });

  test('refuses what is no policy', () => {
    const machine = smallMachine();
    open.push(machine);
    for (const policy of [
      { thrashing: { moves: 1 } },
      { thrashing: { response: 'hope' } },
      { thrashing: { throttles: 17 } },
      { thrashing: { patience: 1 } },
      { residency: 33 },
      { residency: -1 },
    ])
      expect(thrownBy(() => machine.addDevice(probeDriver(), policy as DevicePolicy))).toMatchObject({ code: 'EINVAL' });
  });
});

interface Pair {
  readonly machine: Machine;
  readonly a: Context;
  readonly b: Context;
  readonly at: number;
  readonly events: MachineEvent[];
}

function pair(policy: DevicePolicy, link?: { coherent?: boolean }): Pair {
  const machine = smallMachine();
  open.push(machine);
  const [one, two] = ['a', 'b'].map((name) => machine.addDevice(probeDriver({ name }), policy)) as [Device, Device];
  if (link) machine.link(one, two, link);
  const space = machine.createAddressSpace();
  const events: MachineEvent[] = [];
  machine.onEvent((event) => events.push(event));
  const [a, b] = [space.attach(one), space.attach(two)];
  return { machine, a, b, at: space.mmap({ bytes: PAGE }).start, events };
}

/** The experiment: two devices write one page in turn. Returns the pages that were copied. */
function pingPong({ machine, a, b, at }: Pair, rounds = 50): number {
  for (let i = 0; i < rounds; i++) {
    a.write(at, Uint8Array.of(i));
    expect(b.read(at, 1)[0]).toBe(i);
    b.write(at + 1, Uint8Array.of(i));
    expect(a.read(at + 1, 1)[0]).toBe(i);
  }
  return moves(machine);
}

function moves(machine: Machine): number {
  return Object.values(machine.counters.migratedByCause).reduce((sum, each) => sum + (each?.pages ?? 0), 0);
}

function end({ machine, a }: Pair): void {
  expectClean(machine);
  a.space.close();
  expect(used(machine)).toMatch(/^(\S+ 0(, )?)+$/);
  expectClean(machine);
}

describe('two devices that write one page in turn', () => {
  test('move it each time without a policy', () => {
    const linked = pair({}, {});
    expect(pingPong(linked)).toBe(100);
    expect(linked.events.some(({ type }) => type === 'thrashing.detected')).toBe(false);
    end(linked);
    // By way of the host it is two moves each.
    const apart = pair({});
    expect(pingPong(apart)).toBe(2 * 100);
    end(apart);
  });

  test('are not held to what moved in a space that has ended: its number comes again', () => {
    const it = pair({ thrashing: {} }, { coherent: true });
    expect(pingPong(it)).toBe(3);
    it.a.space.close();
    const space = it.machine.createAddressSpace();
    expect(space.id).toBe(it.a.space.id);
    const [a, b] = [space.attach(it.a.device), space.attach(it.b.device)];
    const next = { ...it, a, b, at: space.mmap({ bytes: PAGE }).start };
    expect(next.at).toBe(it.at);
    expect(pingPong(next)).toBe(2 * 3);
    end(next);
  });

  test('move it a few times when it is pinned: in the memory of one of them over a coherent link', () => {
    const it = pair({ thrashing: {} }, { coherent: true });
    expect(pingPong(it)).toBe(3);
    expect(it.events.filter(({ type }) => type === 'thrashing.detected')).toMatchObject([
      { vpn: it.at / PAGE, pages: 16, response: 'pin', moves: 4 },
    ]);
    expect(it.events.filter(({ type }) => type === 'pages.mapped')).toMatchObject([
      { node: expect.stringMatching(/^[ab]\.ram$/), cause: 'thrashing' },
    ]);
    end(it);
  });

  test('move it a few times when it is pinned: on the host, where there is no coherent link', () => {
    for (const link of [{}, undefined]) {
      const it = pair({ thrashing: {} }, link);
      // The last one is the way to the host.
      expect(pingPong(it)).toBe(link ? 4 : 3);
      expect(it.events.filter(({ type }) => type === 'pages.mapped')).toMatchObject([
        { node: 'dram', cause: 'thrashing' },
        { node: 'dram', cause: 'thrashing' },
      ]);
      end(it);
    }
  });

  test('begin anew when the pin is over', () => {
    const it = pair({ thrashing: { pinTicks: 1 } }, { coherent: true });
    pingPong(it, 4);
    // Somebody takes the translations away: they ask again.
    it.a.space.read(it.at, 1);
    it.b.write(it.at, Uint8Array.of(1));
    expect(it.events.filter(({ type }) => type === 'thrashing.detected').length).toBe(2);
    end(it);
  });
});

describe('a device that works on a page while another one wants it', () => {
  /** Accesses of two devices in orders that a seed chooses. Returns the moves, all orders together. */
  function contended(policy: DevicePolicy, coherent = false): { moves: number; throttled: number } {
    let total = 0;
    let throttled = 0;
    let it: Pair | undefined;
    const setup = (): { steps: ReturnType<Context['writeStep']>[]; check(): void } => {
      it?.machine.close();
      const here = (it = pair(policy, { coherent }));
      open.pop();
      const { a, b, at } = here;
      const steps = Array.from({ length: 24 }, (_, i) => (i % 2 ? a : b).writeStep(at + i, Uint8Array.of(i + 1)));
      return {
        steps,
        check: () => {
          expect([...a.space.read(at, 24)]).toEqual(Array.from({ length: 24 }, (_, i) => i + 1));
          total += moves(here.machine);
          throttled += here.events.filter(({ type }) => type === 'fault.throttled').length;
          end(here);
        },
      };
    };
    expect(exploreSeeded(setup, 5, 20).finding).toBe(undefined);
    it?.machine.close();
    return { moves: total, throttled };
  }

  test('keeps it longer when faults are put off, or while it resides there; all accesses end', () => {
    const without = contended({});
    const throttle = contended({ thrashing: { moves: 2, response: 'throttle', throttles: 16 } });
    const residency = contended({ residency: 24 });
    expect(without.throttled).toBe(0);
    expect(throttle.throttled).toBeGreaterThan(0);
    expect(residency.throttled).toBeGreaterThan(0);
    expect(throttle.moves).toBeLessThan(without.moves * 0.8);
    expect(residency.moves).toBeLessThan(without.moves * 0.8);
  });

  test('lends it instead, over a coherent link', () => {
    const { moves: some, throttled } = contended({ residency: 24 }, true);
    expect(throttled).toBe(0);
    expect(some).toBeLessThan(contended({}, true).moves * 0.8);
  });
});

test('an access alone is put off so many times, and then served', () => {
  const it = pair({ residency: 5 }, {});
  it.a.write(it.at, Uint8Array.of(1));
  expect(it.b.fault(it.at, 'write')).toBe('throttled');
  it.b.write(it.at, Uint8Array.of(2));
  expect(it.events.filter(({ type }) => type === 'fault.throttled')).toMatchObject(
    Array.from({ length: 4 }, () => ({ device: 'b', vpn: it.at / PAGE, cause: 'residency' })),
  );
  const report = it.a.submit({ accesses: [{ op: 'write', addr: it.at, bytes: 1, value: 3 }], lanes: 1 });
  expect([...report.order]).toEqual([0]);
  expect([...it.a.space.read(it.at, 1)]).toEqual([3]);
  end(it);
});

test('of a granule every block has moved, and nothing else', () => {
  const machine = smallMachine();
  open.push(machine);
  const device = machine.addDevice(probeDriver({ granulePages: 2 * BLOCK_PAGES, pages: 4 * BLOCK_PAGES }), { thrashing: {} });
  const space = machine.createAddressSpace();
  const context = space.attach(device);
  const first = 64 * BLOCK_PAGES;
  space.mmap({ at: (first - 4 * BLOCK_PAGES) * PAGE, bytes: 8 * BLOCK_PAGES * PAGE, fixed: true });
  for (const block of [0, 1]) space.write((first + block * BLOCK_PAGES) * PAGE, Uint8Array.of(1));
  context.write(first * PAGE, Uint8Array.of(2));
  const known = [-3, -2, -1, 0, 1, 2].filter((block) => machine.platform.movements!.blockOf(space.id, first + block * BLOCK_PAGES));
  expect(known).toEqual([0, 1]);
});

test('what has moved is in a saved machine', async () => {
  const named = (name: string): Driver =>
    Object.create(nouveau({ vram: 16 * PAGE }), { name: { value: name, enumerable: true } }) as Driver;
  const machine = smallMachine();
  open.push(machine);
  const [one, two] = ['a', 'b'].map((name) => machine.addDevice(named(name), { thrashing: { moves: 3 } }));
  machine.link(one!, two!, { coherent: true });
  const space = machine.createAddressSpace();
  const [a, b] = [space.attach(one!), space.attach(two!)];
  const { start } = space.mmap({ bytes: PAGE });
  a.write(start, Uint8Array.of(1));
  b.write(start, Uint8Array.of(1));
  const again = await restoreMachine<{ a: Context; b: Context }>(machine.save({ a, b }), { drivers: [named('a'), named('b')] });
  open.push(again.machine);
  const play = (of: Machine, x: Context, y: Context): number => {
    for (let i = 0; i < 4; i++) {
      x.write(start, Uint8Array.of(1));
      y.write(start, Uint8Array.of(2));
    }
    return moves(of);
  };
  expect(play(machine, a, b)).toBe(2);
  expect(play(again.machine, again.handles.a, again.handles.b)).toBe(2);
  expect(again.machine.verify()).toBe(undefined);
});

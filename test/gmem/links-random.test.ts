/** Random programs over the CPU and two linked devices against a byte map, their copies and flushes finishing late, in any order. */
import { describe, expect, test } from 'vitest';
import { type Context, type DevicePolicy, type Machine } from 'farfault';
import { exploreSeeded, printFinding } from '../../sdk/testing/simulator.ts';
import { randomOf } from '../../sdk/testing/random.ts';
import { expectClean, PAGE, Probe, smallMachine, used } from '../machine/probe.ts';

const PAGES = 12;
const OPERATIONS = ['toDevice', 'toHost', 'zero', 'peer', 'invalidate'] as const;

interface Shape {
  readonly coherent: boolean;
  readonly policies: readonly [DevicePolicy, DevicePolicy];
  readonly engines: readonly [boolean, boolean];
}

async function program(seed: number, { coherent, policies, engines }: Shape): Promise<{ machine: Machine; peers: number }> {
  const below = randomOf(seed);
  const often = (percent: number): boolean => below(100) < percent;
  const machine = smallMachine();
  const probes = [
    new Probe({ name: 'a', pages: 6, granulePages: 1, peer: engines[0], allocator: 'driver' }),
    new Probe({ name: 'b', pages: 5, granulePages: 4, peer: engines[1], cached: true }),
  ];
  const devices = probes.map(({ driver }, i) => machine.addDevice(driver, policies[i]!));
  machine.link(devices[0]!, devices[1]!, { coherent });
  const space = machine.createAddressSpace();
  const contexts = devices.map((device): Context => space.attach(device));
  const range = space.mmap({ bytes: PAGES * PAGE });
  const map = new Uint8Array(PAGES * PAGE);
  const part = (): { start: number; end: number } => {
    const from = below(PAGES);
    return { start: range.start + from * PAGE, end: range.start + Math.min(PAGES, from + 1 + below(4)) * PAGE };
  };
  for (let turn = 0; turn < 60; turn++) {
    for (const { slow } of probes) {
      slow.clear();
      for (const operation of OPERATIONS) if (often(50)) slow.add(operation);
    }
    const offset = below(PAGES * PAGE - 3);
    const length = 1 + below(3);
    const who = [space, ...contexts][below(3)]!;
    const running: Promise<unknown>[] = [];
    // What changes no byte goes on beside one access.
    for (let others = below(3); others > 0; others--)
      running.push(contexts[below(2)]!.migrateAsync(part(), { to: often(70) ? 'device' : 'host' }));
    if (often(10)) running.push(link(machine, coherent));
    if (often(10)) {
      const change = often(50) ? { accessedBy: devices[below(2)]! } : { preferred: devices[below(2)]! };
      if (often(50)) space.attributes.clear(range);
      else space.attributes.set(part(), change);
    }
    if (often(50)) {
      const written = Uint8Array.from({ length }, () => below(256));
      running.push(who.writeAsync(range.start + offset, written).then(() => map.set(written, offset)));
    } else {
      const wanted = [...map.subarray(offset, offset + length)];
      running.push(
        who.readAsync(range.start + offset, length).then((read) => {
          if (String([...read]) !== String(wanted))
            throw new Error(`seed ${seed}, turn ${turn}: ${who.constructor.name} reads ${[...read]}, not ${wanted}`);
        }),
      );
    }
    let left = running.length;
    for (const each of running)
      void each.then(
        () => left--,
        () => left--,
      );
    for (let rounds = 0; left > 0; rounds++) {
      if (rounds > 2000) throw new Error(`seed ${seed}, turn ${turn}: ${JSON.stringify(machine.pending)}`);
      const waiting = probes.filter(({ unfinished }) => unfinished > 0);
      if (waiting.length > 0) waiting[below(waiting.length)]!.finishOne();
      await Promise.resolve();
    }
    await Promise.all(running);
  }
  for (const probe of probes) probe.slow.clear();
  expect(space.read(range.start, PAGES * PAGE)).toEqual(map);
  const peers = Object.entries(machine.counters.transfers.peer ?? {}).reduce((sum, [pages, times]) => sum + Number(pages) * times, 0);
  expectClean(machine);
  space.close();
  expect(used(machine)).toMatch(/^(\S+ 0(, )?)+$/);
  expectClean(machine);
  return { machine, peers };
}

async function link(machine: Machine, coherent: boolean): Promise<void> {
  const [a, b] = machine.devices;
  const [there] = machine.links;
  if (there) await machine.unlinkAsync(there);
  else machine.link(a!, b!, { coherent });
}

const NONE: DevicePolicy = {};

describe('every load sees the last store, by the CPU and two linked devices', () => {
  const shapes: readonly [string, Shape][] = [
    ['over a link for copies', { coherent: false, policies: [NONE, NONE], engines: [true, false] }],
    ['over a coherent link', { coherent: true, policies: [NONE, NONE], engines: [false, true] }],
    [
      'with pages that stay a while, and are pinned when they thrash',
      {
        coherent: true,
        policies: [{ residency: 6, thrashing: { moves: 3 } }, { thrashing: { moves: 3, pinTicks: 20 } }],
        engines: [false, false],
      },
    ],
    [
      'with faults that are put off when pages thrash',
      { coherent: false, policies: [{ residency: 4 }, { thrashing: { moves: 3, response: 'throttle' } }], engines: [true, true] },
    ],
  ];
  for (const [name, shape] of shapes)
    test(name, async () => {
      let peers = 0;
      for (let seed = 1; seed <= 4; seed++) {
        const ended = await program(seed, shape);
        peers += ended.peers;
        ended.machine.close();
      }
      expect(peers).toBeGreaterThan(10);
    });
});

test('two devices and the CPU on one page: every load sees its own last store, in many orders of their steps', () => {
  for (const coherent of [false, true]) {
    let machine: Machine | undefined;
    const found = exploreSeeded(
      () => {
        machine?.close();
        const it = (machine = smallMachine());
        const devices = ['a', 'b'].map((name) =>
          it.addDevice(new Probe({ name, cached: name === 'b' }).driver, { thrashing: { moves: 2, window: 1000 } }),
        );
        it.link(devices[0]!, devices[1]!, { coherent });
        const space = it.createAddressSpace();
        const { start } = space.mmap({ bytes: PAGE });
        const users = [space, ...devices.map((device) => space.attach(device))];
        const steps = users.flatMap((user, i) => [
          user.writeStep(start + i, Uint8Array.of(i + 1)),
          user.writeStep(start + 8 + i, Uint8Array.of(i + 4)),
        ]);
        return {
          steps,
          always: () => {
            const broken = it.verify();
            if (broken !== undefined && it.pending.length === 0 && !/locked|migration|referenc/i.test(broken)) throw new Error(broken);
          },
          check: () => {
            expect([...space.read(start, 12)]).toEqual([1, 2, 3, 0, 0, 0, 0, 0, 4, 5, 6, 0]);
            expectClean(it);
          },
        };
      },
      7,
      40,
    );
    machine?.close();
    expect(found.finding && printFinding(found.finding)).toBe(undefined);
  }
});

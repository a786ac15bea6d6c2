/** The N-th allocation of every resource fails, N = 1, 2, 3 ..., in every verb, until the verb gets all that it wants. */
import { afterAll, describe, expect, test } from 'vitest';
import { type Machine, MiB } from 'farfault';
import { smallMachine } from '../machine/probe.ts';
import { again, call, expectBytes } from './anomaly.ts';
import { RESOURCES } from './scarcity.ts';
import { VERBS } from './verbs.ts';
import { World } from './world.ts';

const machines: { small?: Machine; large?: Machine } = {};
const machineFor = (huge: boolean): Machine =>
  huge
    ? (machines.large ??= smallMachine({ dram: 16 * MiB, deviceMemory: 8 * MiB, tablePages: 1024 }))
    : (machines.small ??= smallMachine());
afterAll(() => Object.values(machines).forEach((machine) => machine?.close()));

/** How many are left, try by try: one more each time, and with huge pages soon around a whole one. */
const LEFT = Array.from({ length: 24 }, (_, n) => n);
const LEFT_HUGE = [0, 1, 2, 3, 4, 5, 8, 511, 512, 513, 514, 516, 1023, 1024, 1025, 1026, 1030, 1536, 1540];

const excuses = ['ENOMEM', 'EIO', 'EAGAIN', 'ETIME'];

describe.each(VERBS)('$name', ({ huge = false, arrange }) => {
  test.each(RESOURCES)('with too few: $name', (resource) => {
    let enough = 0;
    for (const n of huge ? LEFT_HUGE : LEFT) {
      const world = new World(machineFor(huge));
      const { machine } = world;
      const arranged = arrange(world);
      if (!resource.free(machine)) return;
      const giveBack = resource.leave(machine, n);
      const end = call(arranged);
      const left = resource.free(machine)!;
      // Whoever could read a page can read it still, or is told that there is no room.
      expectBytes(arranged.views, 'either', excuses);
      giveBack();
      world.expectSound();
      expect(machine.strayErrors).toEqual([]);
      for (const { failure } of world.contexts) expect(failure).toBe(undefined);
      expectBytes(arranged.views, end.failed ? 'either' : 'after');
      if (end.failed || !arranged.once) again(world, arranged, end);
      expectBytes(arranged.views, 'after');
      arranged.end?.();
      world.expectSound();
      world.expectNoLeak();
      if (end.failed || left < 2) enough = 0;
      else if (++enough === 2) return;
    }
  });
});

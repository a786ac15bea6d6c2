import { afterAll, describe, expect, test } from 'vitest';
import { type Counters, foldEvent, Machine, type MachineEvent, newCounters } from 'farfault';
import { randomProgram } from '../../sdk/testing/program.ts';
import { closeMachines as closeProgramMachines, runBoth } from '../random/differential.ts';
import type { Op } from '../random/oracle-program.ts';
import { closeMachines, runSeed } from '../random/oracle-run.ts';

afterAll(() => {
  closeMachines();
  closeProgramMachines();
});

interface Heard {
  readonly real: Counters;
  readonly folded: Counters;
}

/** Runs `work`, listening to every machine from its first device on; what was heard. */
function listening(work: () => void, look: (event: MachineEvent) => void = () => undefined): Heard[] {
  const heard: Heard[] = [];
  const { addDevice } = Machine.prototype;
  Machine.prototype.addDevice = function (this: Machine, driver) {
    const real = this.counters;
    if (!heard.some((each) => each.real === real)) {
      const folded = newCounters();
      heard.push({ real, folded });
      this.onEvent((event) => {
        foldEvent(folded, event);
        look(event);
      });
    }
    return addDevice.call(this, driver);
  };
  try {
    work();
  } finally {
    Machine.prototype.addDevice = addDevice;
  }
  return heard;
}

describe('events folded are the counters, all of them', () => {
  test.each([1, 2, 3, 4, 5, 6])('in random programs of two devices: %i', (seed) => {
    const heard = listening(() => {
      for (let i = 0; i < 8; i++) runBoth(randomProgram(seed * 100 + i, 60));
    });
    expect(heard.length).toBeGreaterThan(0);
    for (const { real, folded } of heard) expect(folded).toEqual(real);
  });

  test('in random programs of every verb, which are what they are without a listener', () => {
    const types = new Map<string, number>();
    for (let seed = 1; seed <= 6; seed++) {
      const ops: Op[] = [];
      const alone = runSeed(seed, 250, []).hash;
      let hash = 0;
      const heard = listening(
        () => {
          hash = runSeed(seed, 250, ops).hash;
        },
        ({ type }) => types.set(type, (types.get(type) ?? 0) + 1),
      );
      expect(hash).toBe(alone);
      expect(heard.length).toBe(1);
      expect(heard[0]!.folded).toEqual(heard[0]!.real);
    }
    // What such programs do not have: jobs and their lanes, tickets, memories that come and go, contexts that fail.
    const absent = new Set(['job.begun', 'job.ended', 'lanes.replayed', 'buffer.overflowed', 'frames.evicted']);
    expect([...types.keys()].filter((type) => absent.has(type))).toEqual([]);
    expect(types.size).toBeGreaterThanOrEqual(26);
  });
});

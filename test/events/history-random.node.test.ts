import { afterAll, expect, test } from 'vitest';
import { Machine, type MachineEvent, printHistory } from 'farfault';
import type { Op } from '../random/oracle-program.ts';
import { Both, closeMachines, runSeed } from '../random/oracle-run.ts';

const PAGE = 4096;
/** Where the programs live, and a page that nothing is ever mapped at. */
const LIMIT = 2 ** 36;

afterAll(closeMachines);

/** Calls `look` after every operation of the program of a seed. */
function afterEach(seed: number, length: number, look: (machine: Machine, op: Op) => void): void {
  const machines = new Set<Machine>();
  const { addDevice } = Machine.prototype;
  const { step } = Both.prototype;
  Machine.prototype.addDevice = function (this: Machine, driver) {
    if (this.counters.invalidations === 0 && !this.platform.events.log) this.record({ records: 2 ** 20 });
    machines.add(this);
    return addDevice.call(this, driver);
  };
  Both.prototype.step = function (this: Both, op: Op) {
    const result = step.call(this, op);
    for (const machine of machines) look(machine, op);
    return result;
  };
  try {
    runSeed(seed, length, []);
  } finally {
    Machine.prototype.addDevice = addDevice;
    Both.prototype.step = step;
  }
}

/** Where a record says that it put a page. */
function nodeAfter(event: MachineEvent): string | undefined {
  if (event.type === 'pages.migrated') return event.to;
  return event.type === 'fault.cpu' || event.type === 'page.copied' || event.type === 'page.collapsed' || event.type === 'page.inserted'
    ? 'dram'
    : undefined;
}

test.each([11, 12, 13, 14])('every page of a random program is where its history says, and nothing is missing: seed %i', (seed) => {
  const because = new Map<string, number>();
  let looked = 0;
  afterEach(seed, 160, (machine, op) => {
    for (const space of machine.platform.spaces.values()) {
      space.vmas.each(0, LIMIT, (_, start, end) => {
        // All of a short one, the borders of windows and some pages between of a long one.
        const pages = end - start <= 8 ? 1 : Math.max(1, Math.floor((end - start) / 5));
        for (let vpn = start; vpn < end; vpn += pages) {
          const history = space.history(vpn * PAGE);
          const { state, truncated } = history;
          const say = (): string => `${JSON.stringify(op)}\n${printHistory(history)}`;
          looked++;
          expect(truncated, say()).toBe(false);
          expect(history.because, say()).toBeDefined();
          because.set(`${state.letter} ${history.because!.type}`, (because.get(`${state.letter} ${history.because!.type}`) ?? 0) + 1);
          const node = nodeAfter(history.because!);
          if (state.node !== undefined && node !== undefined) expect(node, say()).toBe(state.node);
        }
      });
    }
  });
  expect(looked).toBeGreaterThan(500);
  expect(because.size).toBeGreaterThan(5);
});

/** A job whose lanes get out of step: its loads are checked in the order in which they were executed, and errors name the trace's. */
import { describe, expect, test } from 'vitest';
import * as L from '../../assembly/layout.ts';
import nouveau from '../../drivers/nouveau/index.ts';
import { createReplay, type Replay } from '../../sdk/replay/replay.ts';

const PAGES = 40;
const LANES = 32;
/** More than are checked at a time. */
const COUNT = 2 * L.BYTE_MAP_ACCESSES + 1000;
const BASE = 0x10000;

/** A replay whose CPU has written a word of each page. */
async function written(): Promise<Replay> {
  const replay = await createReplay({ driver: nouveau(), dram: 2 ** 20, lanes: LANES, seed: 3 });
  run(
    replay,
    Array.from({ length: PAGES }, (_, page) => ({ page, write: true })),
    0,
  );
  return replay;
}

function run(replay: Replay, accesses: readonly { readonly page: number; readonly write: boolean }[], side: number): void {
  const words = replay.core.words(L.AREA_ACCESSES, accesses.length * 2);
  accesses.forEach(({ page, write }, i) => {
    words[2 * i] = (BASE + page) * L.PAGE_BYTES;
    words[2 * i + 1] = (7 << L.ACCESS_LENGTH_SHIFT) | side | (write ? L.ACCESS_WRITE : 0);
  });
  replay.run(accesses.length);
}

/** Most pages are met by several lanes at a time. The last one is used once, at `at`. */
function job(at: number): { page: number; write: boolean }[] {
  return Array.from({ length: COUNT }, (_, i) => ({
    page: i === at ? PAGES - 1 : (i * 7 + (i >> 5)) % (PAGES - 1),
    write: i !== at && i % 3 === 0,
  }));
}

describe('a job whose lanes get out of step', () => {
  test('is checked in the order of its execution', async () => {
    const replay = await written();
    run(replay, job(COUNT - 1), L.ACCESS_DEVICE);
    expect(replay.core.field(replay.core.area(L.AREA_JOB), L.JOB_STRAIGHT)).toBeLessThan(2 * LANES);
    const order = Array.from(replay.core.words(L.AREA_ORDER, COUNT));
    expect(new Set(order).size).toBe(COUNT);
    expect(order.filter((index, k) => index !== k).length).toBeGreaterThan(L.BYTE_MAP_ACCESSES);
    expect([replay.device, replay.writes]).toEqual([COUNT, PAGES + job(COUNT - 1).filter(({ write }) => write).length]);
    expect(replay.machine.verify()).toBe(undefined);
    replay.machine.close();
  });

  test.each([3, L.BYTE_MAP_ACCESSES + 5, COUNT - 1])('names the access that observes a wrong byte: %s', async (at) => {
    const replay = await written();
    const { core, space } = replay;
    core.entry(space.table, BASE + PAGES - 1);
    core.u8[core.frameBytes(core.entryLow) + 2]! ^= 1;
    expect(() => run(replay, job(at), L.ACCESS_DEVICE)).toThrow(`access ${PAGES + at} reads 8 bytes`);
    replay.machine.close();
  });
});

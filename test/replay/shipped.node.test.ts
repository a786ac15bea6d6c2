import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import mirror from '../../drivers/mirror/index.ts';
import nouveau from '../../drivers/nouveau/index.ts';
import { lackeyAccesses } from '../../sdk/testing/model/lackey.ts';
import { modelReplay, type ModelReplayOptions } from '../../sdk/testing/model/replay.ts';
import { type Offload, replayText } from './feed.ts';
import { numbersOf } from './numbers.ts';

const folder = new URL('../../examples/workloads/', import.meta.url);
const DRAM_PAGES = 16384;

function offloadOf(name: string): Offload[] {
  const sidecar = JSON.parse(readFileSync(new URL(`${name}.trace.gz.json`, folder), 'utf8')) as { offload: { range: string }[] };
  return sidecar.offload.map(({ range }) => {
    const [start, end] = range.split('-').map(Number) as [number, number];
    return { start, end };
  });
}

/** VRAM that never fills, half of the pages that any of the traces touches (about 540), and a tenth. */
const CASES: readonly (readonly [string, Partial<ModelReplayOptions>])[] = [
  ['VRAM ample', { vramPages: 16384, granulePages: 1 }],
  ['VRAM half the working set', { vramPages: 270, granulePages: 1 }],
  ['VRAM a tenth of the working set', { vramPages: 54, granulePages: 1 }],
  ['granule 64K, VRAM half the working set', { vramPages: 270, granulePages: 16 }],
  ['granule 64K, one lane, a small fault buffer', { vramPages: 400, granulePages: 16, lanes: 1, faultEntries: 1 }],
  ['200 lanes, fault buffer of 64', { vramPages: 128, granulePages: 1, lanes: 200, faultEntries: 64 }],
  ['mirror', { device: 'mirror', granulePages: 16 }],
];

describe.each(['stencil', 'bfs', 'hashjoin'])('%s', (name) => {
  const text = readFileSync(new URL(`${name}.trace.gz`, folder));
  const offload = offloadOf(name);
  const accesses = [...lackeyAccesses(gunzipSync(text).toString('latin1').split('\n'), offload)];

  test.each(CASES)('replays with the counters of the naive model: %s', async (_case, partial) => {
    const options: ModelReplayOptions = {
      device: 'nouveau',
      vramPages: 0,
      dramPages: DRAM_PAGES,
      lanes: 32,
      granulePages: 1,
      seed: 7,
      ...partial,
    };
    const granule = options.granulePages * 4096;
    const faultEntries = options.faultEntries ?? 256;
    const driver =
      options.device === 'nouveau' ? nouveau({ vram: options.vramPages * 4096, granule, faultEntries }) : mirror({ granule, faultEntries });
    const replay = await replayText(text, { driver, dram: DRAM_PAGES * 4096, lanes: options.lanes, seed: 7 }, offload);
    expect(replay.machine.verify()).toBe(undefined);
    expect(numbersOf(replay)).toEqual(modelReplay(accesses, options));
    replay.machine.close();
  });
});

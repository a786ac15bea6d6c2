import { describe, expect, test } from 'vitest';
import mirror from '../../drivers/mirror/index.ts';
import nouveau from '../../drivers/nouveau/index.ts';
import { modelledParts } from '../../sdk/replay/totals.ts';
import type { ModelReport } from '../../sdk/testing/model/replay.ts';
import { HAND_PRESET, HAND_TRACES } from '../model/hand-traces.ts';
import { numbersOf } from './numbers.ts';
import { replayText } from './feed.ts';

describe('the replay gives the numbers that were derived by hand', () => {
  test.each(HAND_TRACES.map((trace) => [trace.name, trace] as const))('%s', async (_name, { text, offload, options, expected }) => {
    const granule = options.granulePages * 4096;
    const faultEntries = options.faultEntries ?? 256;
    const driver =
      options.device === 'nouveau' ? nouveau({ vram: options.vramPages * 4096, granule, faultEntries }) : mirror({ granule, faultEntries });
    const setup = { driver, dram: options.dramPages * 4096, lanes: options.lanes, seed: options.seed ?? 0 };
    const replay = await replayText(new TextEncoder().encode(text), setup, offload);
    const numbers: ModelReport = numbersOf(replay);
    if (options.preset) numbers.modelledNs = modelledParts(replay, HAND_PRESET as never);
    expect(numbers).toEqual(expected);
    expect(replay.machine.verify()).toBe(undefined);
    replay.machine.close();
  });
});

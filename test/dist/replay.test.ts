/** The built package, in Node and in Chromium: the shipped traces give the same digits everywhere. */
import { expect, test } from 'vitest';
import { type OffloadRange, parseRange, presets, replayTrace } from 'farfault/replay';
import { MiB } from 'farfault';
import mirror from 'farfault/drivers/mirror';
import nouveau from 'farfault/drivers/nouveau';
import digits from '../replay/digits.json';
import { exampleBytes } from '../host.ts';

const DRIVERS = {
  'nouveau, VRAM ample': () => nouveau({ vram: 64 * MiB }),
  'nouveau, VRAM half the working set': () => nouveau({ vram: 270 * 4096 }),
  'nouveau, VRAM a tenth of the working set': () => nouveau({ vram: 54 * 4096 }),
  mirror: () => mirror({ granule: 65536 }),
};

async function offloadOf(name: string): Promise<OffloadRange[]> {
  const text = new TextDecoder().decode(await exampleBytes(`${name}.trace.gz.json`));
  return (JSON.parse(text) as { offload: { range: string }[] }).offload.map(({ range }) => parseRange(range));
}

test.each(Object.keys(digits))('%s', async (key) => {
  const [name, title] = key.split(': ') as [string, keyof typeof DRIVERS];
  const { host, ...report } = await replayTrace([await exampleBytes(`${name}.trace.gz`)], {
    name,
    driver: DRIVERS[title](),
    dram: 64 * MiB,
    lanes: 32,
    preset: presets['uvmsmart-1080ti']!,
    offload: await offloadOf(name),
    seed: 1,
  });
  expect(report).toEqual(digits[key as keyof typeof digits]);
  expect(host).toEqual({ wallMs: 0, accessesPerSecond: 0 });
});

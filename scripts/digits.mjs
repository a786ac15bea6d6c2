/**
 * Writes test/replay/digits.json: the reports of the shipped traces, `host` left out, which every host has to reproduce digit by digit. Run it on purpose, after a
 * change that is meant to change counts, and look at the difference before committing it.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { createReadStream } from 'node:fs';
import { parseRange, presets, replayTrace } from 'farfault/replay';
import mirror from 'farfault/drivers/mirror';
import nouveau from 'farfault/drivers/nouveau';

const MIB = 2 ** 20;
const folder = new URL('../examples/workloads/', import.meta.url);
const cases = {
  'nouveau, VRAM ample': () => nouveau({ vram: 64 * MIB }),
  'nouveau, VRAM half the working set': () => nouveau({ vram: 270 * 4096 }),
  'nouveau, VRAM a tenth of the working set': () => nouveau({ vram: 54 * 4096 }),
  mirror: () => mirror({ granule: 65536 }),
};

const digits = {};
for (const name of ['stencil', 'bfs', 'hashjoin']) {
  const sidecar = JSON.parse(await readFile(new URL(`${name}.trace.gz.json`, folder), 'utf8'));
  for (const [title, driver] of Object.entries(cases)) {
    const report = await replayTrace(createReadStream(new URL(`${name}.trace.gz`, folder)), {
      name,
      driver: driver(),
      dram: 64 * MIB,
      lanes: 32,
      preset: presets['uvmsmart-1080ti'],
      offload: sidecar.offload.map(({ range }) => parseRange(range)),
      seed: 1,
    });
    delete report.host;
    digits[`${name}: ${title}`] = report;
  }
}
await writeFile(new URL('../test/replay/digits.json', import.meta.url), `${JSON.stringify(digits, null, 2)}\n`);

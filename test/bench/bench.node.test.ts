import { readdirSync } from 'node:fs';
import { expect, test } from 'vitest';
import { calibration, type Contender, type Effort, format, isNoisy, measure, type Row, type Rows } from '../../bench/harness.ts';
import * as copy from '../../bench/copy.bench.ts';
import * as fault from '../../bench/fault.bench.ts';
import * as replay from '../../bench/replay.bench.ts';
import * as table from '../../bench/table.bench.ts';
import * as trace from '../../bench/trace.bench.ts';

/** One run each: enough to see that both contenders do the same work, not to say how fast. */
const ONCE: Effort = { rounds: 1, roundMs: 0, warmUpMs: 0 };

const BENCHES: readonly (readonly [string, Rows])[] = [
  ['table', table.rows({ small: 1024, large: 2048, lookups: 640 })],
  ['copy', copy.rows({ hot: 4, cold: 64, migrated: 64 })],
  ['fault', fault.rows({ hot: 4, cold: 300 })],
  ['replay', replay.rows({ textBytes: 400_000 })],
  ['trace', trace.rows({ textBytes: 400_000 })],
];

test.each(BENCHES)('in every row of the %s bench both contenders do the same work', async (_name, rows) => {
  let measured = 0;
  for await (const row of rows) {
    const { ours, peer, ratio } = await measure(row, ONCE);
    expect(Math.min(ours, peer, ratio), row.name).toBeGreaterThan(0);
    measured++;
  }
  expect(measured).toBeGreaterThan(2);
});

test('no bench is left out here', () => {
  const files = readdirSync(new URL('../../bench/', import.meta.url)).filter((file) => file.endsWith('.bench.ts'));
  expect(BENCHES.map(([name]) => `${name}.bench.ts`).sort()).toEqual(files.sort());
});

test('a contender that does something else is found out', async () => {
  const [ours, peer] = [1, 2].map((sum): Contender => ({ run: () => {}, checksum: () => sum })) as [Contender, Contender];
  const row: Row = { name: 'sum', unit: 'ns', items: 1, ours, peer, against: 'another' };
  await expect(measure(row, ONCE)).rejects.toThrow('sum: ours found 1, the peer 2');
});

test('a calibration far from 1 is noise, and only a calibration', async () => {
  const result = await measure(calibration(), ONCE);
  expect(isNoisy({ ...result, spread: [0.8, 1] })).toBe(true);
  expect(isNoisy({ ...result, spread: [0.99, 1.01] })).toBe(false);
  expect(isNoisy({ ...result, name: 'look-up', spread: [0.8, 1] })).toBe(false);
});

test('the table has a line for each row, numbers to the right', () => {
  const result = { name: 'look-up', unit: 'ns', ours: 3.14159, peer: 31.4159, against: 'a tree', ratio: 10, spread: [9.5, 10.5] } as const;
  expect(format([result, { ...result, name: 'copy', ours: 1000 }])).toBe(
    `
         ours  peer  unit  ratio (spread)         peer is
look-up  3.14  31.4  ns    10.00 (9.50 to 10.50)  a tree
copy     1000  31.4  ns    10.00 (9.50 to 10.50)  a tree`.slice(1),
  );
});

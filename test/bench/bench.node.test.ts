import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, test } from 'vitest';
import * as calibration from '../../bench/calibration.bench.ts';
import * as copy from '../../bench/copy.bench.ts';
import * as fault from '../../bench/fault.bench.ts';
import { measure, type Effort, type Measured } from '../../bench/measure.ts';
import * as memory from '../../bench/memory.bench.ts';
import { compileNative, measureNative, type NativePrograms } from '../../bench/native.ts';
import { format, isQuiet, pairUp, type Result } from '../../bench/pairs.ts';
import { exponentOf, growthOf } from '../../bench/growth.ts';
import * as replay from '../../bench/replay.bench.ts';
import { isMet, type Make, type Native, printGoal, type Row } from '../../bench/row.ts';
import * as scale from '../../bench/scale.bench.ts';
import * as table from '../../bench/table.bench.ts';
import * as trace from '../../bench/trace.bench.ts';

/** One run each: enough to see that both contenders do the same work, not to say how fast. */
const ONCE: Effort = { warmUpMs: 0, runMs: 0 };

const TABLE: table.Size = {
  sets: { small: 1024, large: 2048 },
  cached: 1024,
  streaming: 4096,
  sequential: 2048,
  lookups: 640,
  runPages: 2048,
};
const BENCHES: readonly (readonly [string, () => readonly Row[]])[] = [
  ['calibration', () => calibration.rows()],
  ['copy', () => copy.rows({ hot: 4, hotTimes: 2, cold: 32, pool: 64, migrated: 64 })],
  ['fault', () => fault.rows({ hot: 4, cold: 300 })],
  ['memory', () => memory.rows({ dense: 2048, sparse: 8, huge: 4096 })],
  ['replay', () => replay.rows({ textBytes: 400_000, accesses: 70_000, sharedPages: 1024 })],
  [
    'scale',
    () =>
      scale.rows({
        pages: [8, 512, 2048, 16_384],
        vmas: [1, 2, 4, 600],
        notifiers: [1, 2, 4, 64],
        tables: [1, 2, 4, 8],
        spreads: [1, 2, 64, 1024],
        chunks: [8, 9, 10, 11],
        accesses: [2 ** 14, 2 ** 15],
        far: { accesses: 70_000, pages: 512 },
        times: 4,
      }),
  ],
  ['table', () => table.rows(TABLE)],
  ['trace', () => trace.rows({ textBytes: 400_000 })],
];

let native: NativePrograms;
beforeAll(() => {
  native = compileNative(fileURLToPath(new URL('../../build/bench/native-test', import.meta.url)));
}, 60_000);

const isNative = (contender: Make | Native): contender is Native => typeof contender !== 'function';

async function once(contender: Make | Native): Promise<Measured> {
  return isNative(contender) ? measureNative(native, contender, ONCE) : measure(await contender(), ONCE);
}

test.each(BENCHES)(
  'in every row of the %s bench all contenders do the same work',
  async (_name, rows) => {
    for (const row of rows()) {
      if (isNative(row.ours) && !native.paths.has(row.ours.program)) continue;
      const ours = once(row.ours);
      for (const peer of [undefined, ...row.peers]) {
        // Left out with a line of its own where there is no compiler, or no library.
        if (peer && isNative(peer.contender) && !native.paths.has(peer.contender.program)) continue;
        const result = await pairUp(row, peer, 1, (side) => (side === 'ours' ? ours : once(side.contender)));
        expect(result.ours, row.name).toBeGreaterThan(0);
        if (peer) expect(result.ratio, `${row.name}, ${peer.name}`).toBeGreaterThan(0);
      }
      for (const { label, make } of row.growth?.sizes ?? []) {
        const [found, again] = [await once(make), await once(make)];
        expect(found.checksum, `${row.name}, ${label}`).toBe(again.checksum);
      }
    }
  },
  60_000,
);

test('no bench is left out here', () => {
  const files = readdirSync(new URL('../../bench/', import.meta.url)).filter((file) => file.endsWith('.bench.ts'));
  expect(BENCHES.map(([name]) => `${name}.bench.ts`).sort()).toEqual(files.sort());
});

test('rows have names of their own, and so have the peers of a row', () => {
  const names = BENCHES.filter(([name]) => name !== 'calibration').flatMap(([, rows]) => rows().map(({ name }) => name));
  expect(names).toEqual([...new Set(names)]);
  for (const [, rows] of BENCHES) for (const { peers } of rows()) expect(new Set(peers.map(({ name }) => name)).size).toBe(peers.length);
});

describe('pairs', () => {
  const row: Row = {
    name: 'sum',
    unit: 'ns',
    items: 1000,
    ours: () => fail(),
    peers: [{ name: 'another', contender: () => fail(), goal: { ratio: 1.1 } }],
  };
  const [peer] = row.peers;
  const fail = (): never => {
    throw new Error('nobody asked for it');
  };

  test('take turns, each going first every other time, and give the median of their ratios', async () => {
    const times = { ours: [1, 2, 9], theirs: [2, 2, 3] };
    const order: string[] = [];
    const result = await pairUp(row, peer, 3, (side) => {
      order.push(side === 'ours' ? 'ours' : side.name);
      return Promise.resolve({ ms: times[side === 'ours' ? 'ours' : 'theirs'].shift()!, checksum: 7 });
    });
    expect(order).toEqual(['ours', 'another', 'another', 'ours', 'ours', 'another']);
    expect(result).toEqual({
      name: 'sum',
      peer: 'another',
      ours: 2000,
      theirs: 2000,
      unit: 'ns',
      ratio: 1,
      spread: [0.75, 2],
      goal: '<= 1.1',
      met: true,
    });
  });

  test('of contenders that do not do the same are found out', async () => {
    const run = (side: unknown): Promise<Measured> => Promise.resolve({ ms: 1, checksum: side === 'ours' ? 1 : 2 });
    await expect(pairUp(row, peer, 1, run)).rejects.toThrow('sum: ours found 1, another 2: they did not do the same work');
  });

  test('far from 1 in a calibration are noise', () => {
    const result: Result = { name: 'calibration', peer: 'itself', ours: 1, theirs: 1, unit: 'ns', ratio: 1, spread: [0.99, 1.01] };
    expect(isQuiet(result)).toBe(true);
    expect(isQuiet({ ...result, spread: [0.9, 1] })).toBe(false);
    expect(isQuiet({ ...result, spread: [1, 1.1] })).toBe(false);
  });
});

describe('growth', () => {
  const sizes = [1, 10, 100, 1000].map((amount) => ({ label: String(amount), amount, make: () => expect.unreachable() }));
  const row: Row = { name: 'sum', unit: 'ns', items: 1000, ours: sizes[0]!.make, peers: [], growth: { of: 'things', sizes, most: 0.5 } };

  test('is the slope of the logarithms', () => {
    const of = (time: (amount: number) => number): number =>
      exponentOf(
        sizes,
        sizes.map(({ amount }) => time(amount)),
      );
    expect(of(() => 7)).toBeCloseTo(0);
    expect(of((n) => 3 * n)).toBeCloseTo(1);
    expect(of((n) => 5 * n ** 2)).toBeCloseTo(2);
    expect(of((n) => 1 + Math.log2(n))).toBeCloseTo(0.32, 1);
  });

  test('is measured up and down the sizes, and judged by the median', async () => {
    const order: number[] = [];
    const exponents = [0, 1, 0.4];
    const result = await growthOf(row, 3, ({ amount }) => {
      const ms = amount ** exponents[Math.floor(order.length / 4)]!;
      order.push(amount);
      return Promise.resolve({ ms, checksum: 0 });
    });
    expect(order).toEqual([1, 10, 100, 1000, 1000, 100, 10, 1, 1, 10, 100, 1000]);
    expect([result.exponent!.toFixed(3), result.goal, result.met]).toEqual(['0.400', 'exponent <= 0.5', true]);
    expect([result.peer, result.theirs, result.points!.length]).toEqual(['1 to 1000 things', 1000, 4]);
    expect(format([result])).toContain('n^0.40 (0.20 to 0.70)');
  });
});

test.each([
  [{ ratio: 1.15 }, '<= 1.15', [1.15, 1], [1.2, 1]],
  [{ share: 0.97 }, 'share >= 0.97', [1.02, 1], [1.05, 1]],
  [{ times: 6 }, '>= 6 times as fast', [1, 6], [1, 5.9]],
  [{ most: 7 }, '<= 7 ns', [7, 1], [7.1, 1]],
  [{ least: 150 }, '>= 150 ns', [150, 1], [149, 1]],
  [{ above: 120 }, '<= 120 ns above', [220, 100], [221, 100]],
] as const)('the goal %j', (goal, text, [ours, theirs], [badOurs, badTheirs]) => {
  expect(printGoal(goal, 'ns')).toBe(text);
  expect(isMet(goal, ours, theirs, ours / theirs)).toBe(true);
  expect(isMet(goal, badOurs, badTheirs, badOurs / badTheirs)).toBe(false);
});

test('the table has a line for each result, numbers to the right', () => {
  const result: Result = { name: 'look-up', peer: 'a tree', ours: 3.14159, theirs: 31.4159, unit: 'ns', ratio: 0.1, spread: [0.09, 0.11] };
  const alone: Result = { name: 'copy', peer: '-', ours: 1000, unit: 'ns', spread: [1000, 1000], goal: '<= 7 ns', met: false };
  expect(format([result, alone])).toBe(
    `
         ours  theirs  unit  ratio (spread)       peer    goal
look-up  3.14    31.4  ns    0.10 (0.09 to 0.11)  a tree
copy     1000          ns                         -       <= 7 ns: NOT met`.slice(1),
  );
});

test('what a compiler cannot make is left out, with a line each; a source of ours that it cannot is an error', () => {
  const folder = mkdtempSync(join(tmpdir(), 'farfault-'));
  const before = process.env['CC'];
  try {
    const compiler = (name: string, refuses: string): string => {
      const path = join(folder, name);
      writeFileSync(path, `#!/bin/sh\ncase "$*" in *${refuses}*) echo refused >&2; exit 1;; esac\nexit 0\n`, { mode: 0o755 });
      return path;
    };
    process.env['CC'] = compiler('narrow', '-mno-avx');
    const { paths, missing } = compileNative(join(folder, 'made'));
    expect([...paths.keys()]).toEqual(['table', 'memory', 'judy']);
    expect(missing).toEqual(['No -mno-avx in this compiler: C with 128-bit vectors is left out.']);
    process.env['CC'] = compiler('broken', 'memory.c');
    expect(() => compileNative(join(folder, 'made'))).toThrow(/memory\.c does not compile:\nrefused/);
    process.env['CC'] = join(folder, 'nothing');
    expect(compileNative(join(folder, 'made')).missing).toEqual([
      `No C compiler (${folder}/nothing): the peers in C are left out. Install gcc, or set CC.`,
    ]);
  } finally {
    if (before === undefined) delete process.env['CC'];
    else process.env['CC'] = before;
    rmSync(folder, { recursive: true });
  }
});

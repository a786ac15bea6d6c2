/** `scripts/long-trace.mjs`, at sizes that take a second: what it says of its memory is what the process had, and it fails above its ceiling. */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, test } from 'vitest';

const root = fileURLToPath(new URL('../../', import.meta.url));
const SECONDS = 120_000;

interface Ended {
  readonly status: number | null;
  readonly output: string;
  readonly accesses: number;
  /** MiB. */
  readonly peak: number;
}

function longTrace(...args: string[]): Ended {
  const { status, stdout, stderr } = spawnSync(process.execPath, ['scripts/long-trace.mjs', ...args], { cwd: root, encoding: 'utf8' });
  const number = (pattern: RegExp): number => Number(pattern.exec(stdout)?.[1]);
  return { status, output: stdout + stderr, accesses: number(/^(\d+) accesses,/m), peak: number(/^(\d+) MiB resident at most/m) };
}

describe('a long trace', () => {
  let short: Ended;
  let long: Ended;
  beforeAll(() => {
    // The first builds what is stale.
    longTrace('1');
    short = longTrace('1000000');
    long = longTrace('48000000');
  }, 4 * SECONDS);

  test('is replayed to its end, every load checked, and ends well below the ceiling', () => {
    expect(short, short.output).toMatchObject({ status: 0 });
    expect(long, long.output).toMatchObject({ status: 0 });
    // Whole pieces.
    expect([short.accesses, long.accesses]).toEqual([16 * 65536, 733 * 65536]);
    expect(long.output).toMatch(/^\d+ accesses, \d+ faults, every load checked$/m);
    expect(long.output).toMatch(/; the ceiling is 192 MiB$/m);
    expect(long.peak).toBeGreaterThan(64);
    expect(long.peak).toBeLessThan(192);
  });

  test('takes the same memory however long it is', () => {
    // A byte for every access would be some 40 MiB more.
    expect(long.peak - short.peak, `${short.peak} MiB, ${long.peak} MiB`).toBeLessThan(12);
  });

  test(
    'fails when more memory was taken than the ceiling allows, and says how much',
    () => {
      const ended = longTrace('65536', '--ceiling', '64');
      expect(ended, ended.output).toMatchObject({ status: 1, accesses: 65536 });
      expect(ended.output).toMatch(/^\d+ MiB resident at most; the ceiling is 64 MiB$/m);
      expect(ended.peak).toBeGreaterThan(64);
      expect(longTrace('65536', '--ceiling', String(ended.peak + 40)).status).toBe(0);
    },
    SECONDS,
  );

  test.each([
    [['many'], 'many is not a count of accesses'],
    [['0'], '0 is not a count of accesses'],
    [['1e9'], '1e9 is not a count of accesses'],
    [['1', '2'], '2 is one argument too many'],
    [['1', '--ceiling', '-5'], 'ceiling'],
    [['1', '--floor', '5'], '--floor'],
  ])(
    'is not begun with %j',
    (args, message) => {
      const ended = longTrace(...args);
      expect(ended.status).toBe(2);
      expect(ended.output).toContain(message);
    },
    SECONDS,
  );
});

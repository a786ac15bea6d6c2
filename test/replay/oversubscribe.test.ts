/** Replays with less memory than what is touched: the working set of a trace, victims by a policy, and the second tier. */
import { describe, expect, test } from 'vitest';
import { VICTIM_POLICIES, type VictimPolicyName } from 'farfault/gmem';
import { formatReport, formatReports, measureTrace, presets, type ReplayOptions, type ReplayReport, replayTrace } from 'farfault/replay';
import mirror from '../../drivers/mirror/index.ts';
import nouveau from '../../drivers/nouveau/index.ts';
import { randomOf } from '../gmem/evict-device.ts';

const PAGE = 4096;
const DEVICE = { start: 0x1000, end: 0x1100 };
const OTHER = { start: 0x2000, end: 0x2100 };

type Access = readonly [at: number, kind: 'L' | 'S' | 'M', address: number, bytes?: number];

const textOf = (accesses: readonly Access[]): Uint8Array =>
  new TextEncoder().encode(
    accesses
      .map(([at, kind, address, bytes = 8]) => `I  ${at.toString(16).padStart(8, '0')},4\n ${kind} ${address.toString(16)},${bytes}\n`)
      .join(''),
  );

/** Stores to `pages` pages, then loads and stores all over them, a quarter of them the CPU's. */
function walk(pages: number, seed: number): Uint8Array {
  const random = randomOf(seed);
  const accesses: Access[] = Array.from({ length: pages }, (_, i) => [DEVICE.start, 'S', 0x100000 + i * PAGE] as const);
  for (let i = 0; i < 600; i++) {
    const at = 0x100000 + random(pages) * PAGE + random(500) * 8;
    accesses.push([random(4) === 0 ? 0x5000 : DEVICE.start, random(2) === 0 ? 'L' : 'S', at]);
  }
  return textOf(accesses);
}

const core = (vram: number, granule = PAGE): ReturnType<typeof nouveau> => nouveau({ vram, granule, allocator: 'core' });

const replay = (text: Uint8Array, options: Partial<ReplayOptions>): Promise<ReplayReport> =>
  replayTrace([text], {
    name: 'x.trace',
    driver: core(64 * PAGE),
    dram: 1024 * PAGE,
    lanes: 4,
    preset: presets['uvmsmart-1080ti']!,
    offload: [DEVICE],
    ...options,
  });

describe('the working set of a trace', () => {
  test('is what is touched: pages of everybody, whole granules of each device, what crosses a border in both', async () => {
    const text = textOf([
      [0x5000, 'S', 0x100000],
      [DEVICE.start, 'S', 0x100000],
      [DEVICE.start, 'L', 0x100ffc],
      [OTHER.start, 'M', 0x110008],
      [OTHER.start, 'L', 0x12f000, 4096],
    ]);
    const told = { name: 'x', offload: [DEVICE], further: [[OTHER]] };
    expect(await measureTrace([text], told)).toEqual({ all: 4 * PAGE, devices: [2 * PAGE, 2 * PAGE] });
    expect(await measureTrace([text], { ...told, granule: 65536 })).toEqual({ all: 4 * PAGE, devices: [65536, 2 * 65536] });
    expect(await measureTrace([text], { ...told, granule: [PAGE, 65536] })).toMatchObject({ devices: [2 * PAGE, 2 * 65536] });
    expect(await measureTrace([text], { ...told, granule: [65536, PAGE] })).toMatchObject({ devices: [65536, 2 * PAGE] });
    await expect(measureTrace([text], { ...told, granule: [PAGE] })).rejects.toThrow(
      'measureTrace.granule 1 is not one for each of 2 devices',
    );
  });

  test("of a trace without ranges is all the device's", async () => {
    const text = textOf([
      [0, 'S', 0x7fff_ffff_f000],
      [0, 'L', 0x1000],
    ]);
    expect(await measureTrace([text], { name: 'x', offload: [] })).toEqual({ all: 2 * PAGE, devices: [2 * PAGE] });
  });
});

describe('a device with less memory than what it touches', () => {
  test.each(VICTIM_POLICIES)('replays to the end at every factor, every load as it was stored: %s', async (victims) => {
    const text = walk(64, 7);
    const workingSet = await measureTrace([text], { name: 'x', offload: [DEVICE] });
    expect(workingSet.devices).toEqual([64 * PAGE]);
    const moved: number[] = [];
    for (const factor of [1, 2, 4, 8, 16]) {
      const report = await replay(text, { driver: core((64 * PAGE) / factor), victims, workingSet });
      expect(report.accesses.cpu + report.accesses.device).toBe(664);
      expect(report.frames['nouveau.vram']!.peak).toBe(64 / factor);
      expect(report.detail.options).toMatchObject({ victims, workingSet: { nouveau: 64 * PAGE } });
      expect(formatReport(report)).toMatch(new RegExp(`oversubscribed +${factor}\\.0x`));
      expect(report.detail.victims!.success ?? 0).toBe(report.detail.migratedByCause.evict.pages);
      moved.push(report.detail.migratedByCause.evict.pages);
    }
    expect(moved[0]).toBe(0);
    expect(moved.slice(1).every((pages, i) => pages > moved[i]!)).toBe(true);
  });

  test('keeps what is used again and again with lru, and not with fifo', async () => {
    // Page 0 between all others, which come by once.
    const accesses: Access[] = [];
    for (let i = 1; i <= 40; i++)
      accesses.push([DEVICE.start, 'L', 0x100000], [0x5000, 'L', 0x400000], [DEVICE.start, 'S', 0x100000 + i * PAGE]);
    const text = textOf(accesses);
    const of = async (victims: VictimPolicyName): Promise<number> =>
      (await replay(text, { driver: core(4 * PAGE), victims })).faults.devices['nouveau']!;
    expect(await of('lru')).toBeLessThan(await of('fifo'));
  });

  test('is refused a policy where it chooses by itself, and where there is no memory', async () => {
    const text = walk(4, 1);
    await expect(replay(text, { driver: nouveau(), victims: 'lru' })).rejects.toThrow('have no say in the memory of nouveau');
    await expect(replay(text, { driver: mirror(), victims: 'lru' })).rejects.toThrow('mean nothing to mirror');
    await expect(replay(text, { victims: 'oldest' as 'lru' })).rejects.toThrow('replayTrace.victims');
    await expect(replay(text, { workingSet: { all: 0, devices: [1, 2] } })).rejects.toThrow('is not one for each of 1 devices');
  });
});

describe('the second tier of a replay', () => {
  test('takes what the host has no room for, and the report says what went, what came back, and what needed no copy', async () => {
    const text = walk(64, 3);
    const small = { driver: core(8 * PAGE), dram: 16 * PAGE };
    await expect(replay(text, small)).rejects.toThrow('host memory is exhausted: the program needs more than 64 KiB at one time (--dram)');
    const report = await replay(text, { ...small, swap: 64 * PAGE, victims: 'lru' });
    const tier = report.detail.secondTier!;
    expect(tier.out.pages).toBeGreaterThan(40);
    expect(tier.in.pages).toBeGreaterThan(0);
    expect(report.detail.cpuFaults.swap).toBeGreaterThan(0);
    expect(report.faults.cpu).toBe(Object.values(report.detail.cpuFaults).reduce((sum, each) => sum + each, 0));
    expect(report.frames['swap']!.peak).toBeLessThanOrEqual(64);
    const table = formatReport(report);
    for (const line of [
      /second tier +256 KiB/,
      /victims chosen by +lru/,
      /to the second tier +\d+/,
      /without a copy: clean +\d+/,
      /back from it +\d+/,
    ])
      expect(table).toMatch(line);
    expect(Math.max(...table.split('\n').map(({ length }) => length))).toBeLessThanOrEqual(100);
  });

  test('holds no more than it has', async () => {
    await expect(replay(walk(64, 3), { driver: core(8 * PAGE), dram: 16 * PAGE, swap: 16 * PAGE })).rejects.toThrow('(--dram, --swap)');
  });
});

test('reports of one trace with more and less memory stand side by side', async () => {
  const text = walk(32, 5);
  const reports = [await replay(text, { victims: 'fifo', driver: core(32 * PAGE) }), await replay(text, { driver: core(16 * PAGE) })];
  const table = formatReports(reports);
  expect(table).toMatch(/victims chosen by +fifo +-\n/);
});

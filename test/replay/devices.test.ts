import { describe, expect, test } from 'vitest';
import { formatReport, presets, type ReplayOptions, type ReplayReport, replayTrace } from 'farfault/replay';
import type { Driver } from 'farfault/gmem';
import mirror from '../../drivers/mirror/index.ts';
import nouveau from '../../drivers/nouveau/index.ts';
import npu from '../../drivers/npu/index.ts';

const named = (driver: Driver, name: string): Driver => Object.create(driver, { name: { value: name, enumerable: true } }) as Driver;
const gpu = (name: string): Driver => named(nouveau({ vram: 64 * 4096 }), name);
const A = { start: 0x1000, end: 0x1100 };
const B = { start: 0x2000, end: 0x2100 };
const C = { start: 0x3000, end: 0x3100 };

/** One line of trace for each: whose instruction, load or store, page. */
function traceOf(accesses: readonly (readonly [at: number, kind: 'L' | 'S', page: number])[]): string {
  return accesses
    .map(([at, kind, page]) => `I  ${at.toString(16).padStart(8, '0')},4\n ${kind} ${(0x100000 + page * 4096).toString(16)},8\n`)
    .join('');
}

async function replay(text: string, options: Partial<ReplayOptions>): Promise<ReplayReport> {
  return replayTrace([new TextEncoder().encode(text)], {
    name: 'x.trace',
    driver: gpu('gpu0'),
    dram: 1024 * 4096,
    lanes: 4,
    preset: presets['uvmsmart-1080ti']!,
    offload: [A],
    ...options,
  });
}

describe('a replay with several devices', () => {
  test('gives each the accesses of its own instructions', async () => {
    const text = traceOf([
      [0x5000, 'S', 0],
      [A.start, 'S', 0],
      [A.start + 4, 'L', 0],
      [B.start, 'L', 1],
      [C.end - 4, 'L', 1],
      [C.end, 'L', 0],
    ]);
    const further = [
      { driver: gpu('gpu1'), offload: [B] },
      { driver: named(mirror(), 'nic'), offload: [C] },
    ];
    const { accesses, detail, faults } = await replay(text, { further });
    expect(accesses).toEqual({ cpu: 2, device: 4, devices: { gpu0: 2, gpu1: 1, nic: 1 }, read: 4, write: 2, instructions: 6 });
    // gpu0 faults once for its job of two accesses; gpu1 has the hole of page 1 cleared; nic has it brought home.
    expect(faults.devices).toEqual({ gpu0: 2, gpu1: 1, nic: 1 });
    expect(detail.options.device).toBe('gpu0 + gpu1 + nic');
    expect(detail.options.devices).toEqual({
      gpu0: { granulePages: 1, offload: ['0x1000-0x1100'] },
      gpu1: { granulePages: 1, offload: ['0x2000-0x2100'] },
      nic: { granulePages: 1, offload: ['0x3000-0x3100'] },
    });
  });

  test('shows a page that two of them fight for', async () => {
    const rounds = 8;
    const text = traceOf([
      [0x5000, 'S', 0],
      ...Array.from({ length: rounds }, () => [[A.start, 'S', 0] as const, [B.start, 'S', 0] as const]).flat(),
    ]);
    const { migrated } = await replay(text, { further: [{ driver: gpu('gpu1'), offload: [B] }] });
    // Each store finds the page at the other one.
    expect(migrated['dram']!['gpu0.vram']!.pages + (migrated['gpu1.vram']!['gpu0.vram']?.pages ?? 0)).toBe(rounds);
    expect(migrated['gpu0.vram']!['dram']!.pages + (migrated['gpu0.vram']!['gpu1.vram']?.pages ?? 0)).toBe(rounds);
  });

  test('copies a page for those who read it, until somebody writes, and counts what was copied', async () => {
    const text = traceOf([
      [0x5000, 'S', 0],
      [A.start, 'L', 0],
      [B.start, 'L', 0],
      [A.start, 'L', 0],
      [0x5000, 'L', 0],
      [B.start, 'L', 0],
      [0x5000, 'S', 0],
      [A.start, 'L', 0],
    ]);
    let timeline = '';
    const further = [{ driver: gpu('gpu1'), offload: [B] }];
    const report = await replay(text, { further, duplicate: true, timeline: (piece) => (timeline += piece) });
    const { detail, faults, migrated, modelledNs } = report;
    expect(detail.replicas).toEqual({ made: 3, kept: 0, dropped: 2 });
    expect(faults.devices).toEqual({ gpu0: 2, gpu1: 1 });
    expect(migrated['gpu0.vram']!['dram']!.pages + migrated['gpu1.vram']!['dram']!.pages).toBe(0);
    const copy = 1443 + Math.floor((4 * 79130) / 1000);
    expect(detail.modelledParts.toDevice).toBe(3 * copy);
    expect(Object.values(detail.modelledParts).reduce((sum, part) => sum + part, 0)).toBe(modelledNs);
    const { traceEvents } = JSON.parse(timeline) as { traceEvents: { ph: string; name: string; ts: number; dur?: number }[] };
    const slices = traceEvents.filter(({ ph }) => ph === 'X');
    expect(slices.filter(({ name }) => name.startsWith('for a reader')).map(({ dur }) => dur)).toEqual([
      copy / 1000,
      copy / 1000,
      copy / 1000,
    ]);
    expect(Math.max(...slices.map(({ ts, dur = 0 }) => ts + dur))).toBeCloseTo(modelledNs / 1000, 6);
    const table = formatReport(report);
    expect(table).toMatch(/what devices read +duplicated/);
    expect(table).toMatch(/copies for readers, made +3\n +left behind, not copied +0\n +dropped +2\n/);
    const moved = await replay(text, { further });
    expect(moved.detail.replicas).toBe(undefined);
    expect(moved.migrated['gpu0.vram']!['dram']!.pages).toBeGreaterThan(0);
  });

  test('tells what went to a device that brings pages by itself, and what it has counted', async () => {
    const text = traceOf([
      [0x5000, 'S', 0],
      [A.start, 'S', 0],
      [A.start, 'S', 1],
      [0x5000, 'L', 0],
      [A.start, 'L', 2],
    ]);
    const report = await replay(text, { driver: npu({ vram: 2 * 2 ** 20, granule: 4096 }) });
    // Three faults bring a page each, one touch takes one; each is a message, and so is the pairing.
    expect(report.detail.coupled).toEqual({ npu: { maps: 3, unmaps: 1, items: 4, refused: 0 } });
    expect(report.detail.counted).toEqual({ npu: { roundTrips: 5, timeouts: 0, resent: 0, ticks: 5 } });
    expect(report.detail.betweenDevices).toBe(undefined);
    const table = formatReport(report);
    expect(table).toMatch(/npu, calls to bring pages +3\n/);
    expect(table).toMatch(/npu, round trips +5\n/);
  });

  test('refuses what a driver calls its counts and what are none', async () => {
    for (const counts of [() => ({ trips: 1.5 }), () => 3, () => ({ trips: -1 })]) {
      const driver = { ...gpu('gpu0'), ...nouveau({ vram: 64 * 4096 }), name: 'gpu0', counts } as unknown as Driver;
      await expect(replay(traceOf([[A.start, 'S', 0]]), { driver })).rejects.toThrow('gpu0.counts result');
    }
  });

  test('goes directly between two that are linked, and the report says so', async () => {
    const rounds = 8;
    const text = traceOf(Array.from({ length: rounds }, () => [[A.start, 'S', 0] as const, [B.start, 'S', 0] as const]).flat());
    const report = await replay(text, { link: 'copies', further: [{ driver: gpu('gpu1'), offload: [B] }] });
    const { migrated, detail, modelledNs } = report;
    expect(migrated['gpu0.vram']).toEqual({ dram: { pages: 0, bytes: 0 }, 'gpu1.vram': { pages: rounds, bytes: rounds * 4096 } });
    expect(migrated['gpu1.vram']!['gpu0.vram']!.pages).toBe(rounds - 1);
    expect(detail.modelledParts.peer).toBe((2 * rounds - 1) * (1443 + Math.floor((4 * 79130) / 1000)));
    expect(Object.values(detail.modelledParts).reduce((sum, part) => sum + part, 0)).toBe(modelledNs);
    expect(detail.betweenDevices).toEqual({ pages: 2 * rounds - 1, bytes: (2 * rounds - 1) * 4096 });
    expect(formatReport(report)).toMatch(/ {4}between devices +15 +60 KiB/);
    expect(formatReport(report)).toMatch(/links between devices +copies/);
    expect(formatReport(report)).toMatch(/gpu0\.vram -> gpu1\.vram +8 +32 KiB/);
    expect(formatReport(report)).toMatch(/copies between devices/);
  });

  test('is the same whether ranges lie side by side or not, and however the text is cut', async () => {
    const beside = { start: A.end, end: A.end + 0x100 };
    const text = traceOf(
      Array.from({ length: 300 }, (_, i) => [i % 3 === 0 ? A.start : i % 3 === 1 ? beside.start : 0x5000, 'S', i % 7] as const),
    );
    const options = (): Partial<ReplayOptions> => ({ driver: gpu('gpu0'), further: [{ driver: gpu('gpu1'), offload: [beside] }] });
    const whole = await replay(text, options());
    expect(whole.accesses.devices).toEqual({ gpu0: 100, gpu1: 100 });
    const bytes = new TextEncoder().encode(text);
    const pieces = Array.from({ length: Math.ceil(bytes.length / 17) }, (_, i) => bytes.slice(17 * i, 17 * (i + 1)));
    const cut = await replayTrace(pieces, {
      name: 'x.trace',
      dram: 1024 * 4096,
      lanes: 4,
      preset: presets['uvmsmart-1080ti']!,
      offload: [A],
      ...options(),
    } as ReplayOptions);
    expect({ ...cut, host: undefined }).toEqual({ ...whole, host: undefined });
  });

  test('adds their parts of the timeline up to the modelled time', async () => {
    let text = '';
    const trace = traceOf(Array.from({ length: 90 }, (_, i) => [[A.start, B.start, 0x5000][i % 3]!, i % 2 ? 'S' : 'L', i % 5] as const));
    const { modelledNs } = await replay(trace, { further: [{ driver: gpu('gpu1'), offload: [B] }], timeline: (piece) => (text += piece) });
    const { traceEvents } = JSON.parse(text) as {
      traceEvents: { ph: string; cat?: string; name: string; ts: number; dur?: number; args?: { name?: string } }[];
    };
    const end = Math.max(...traceEvents.filter(({ ph }) => ph === 'X').map(({ ts, dur = 0 }) => ts + dur));
    expect(Math.round(end * 1000)).toBe(modelledNs);
    const processes = traceEvents.filter(({ ph, name }) => ph === 'M' && name === 'process_name').map(({ args }) => args!.name);
    expect(processes).toEqual(expect.arrayContaining(['gpu0', 'gpu1']));
  });

  test('refuses devices without instructions, two for one instruction, and too many', async () => {
    const text = traceOf([[A.start, 'S', 0]]);
    const refusal = async (options: Partial<ReplayOptions>): Promise<string> =>
      replay(text, options).then(
        () => 'nothing',
        (error: Error) => error.message,
      );
    expect(await refusal({ further: [{ driver: gpu('gpu1'), offload: [] }] })).toContain(
      'has no range: which instructions are those of gpu1?',
    );
    expect(await refusal({ offload: [], further: [{ driver: gpu('gpu1'), offload: [B] }] })).toContain(
      'has no range, though there are several devices',
    );
    expect(await refusal({ further: [{ driver: gpu('gpu1'), offload: [{ start: 0x10fc, end: 0x1200 }] }] })).toContain(
      'of device 1 overlaps 0x1000-0x1100 of device 0',
    );
    const many = Array.from({ length: 4 }, (_, i) => ({
      driver: gpu(`gpu${i + 1}`),
      offload: [{ start: 0x2000 + i * 16, end: 0x2010 + i * 16 }],
    }));
    expect(await refusal({ further: many })).toContain('5 devices are more than 4');
    expect(await refusal({ further: [{ driver: gpu('gpu0'), offload: [B] }] })).toContain(
      'is the name of a device of this machine already',
    );
  });
});

/** Replays on machines without bytes, and with large pages: the same counts. */
import { describe, expect, test } from 'vitest';
import { GiB, isFarfaultError, MiB } from 'farfault';
import nouveau from 'farfault/drivers/nouveau';
import { formatReport, PRESET_DEFAULT, presets, type ReplayOptions, type ReplayReport, replayTrace } from 'farfault/replay';
import { randomBelow } from '../../bench/random.ts';

const TIB = 1024 * GiB;
const preset = presets[PRESET_DEFAULT]!;

/** Both sides go to 200 pages, `apart` bytes from one to the next; some accesses are in two pages. */
function trace(apart: number, unit: number): Uint8Array {
  const below = randomBelow(5);
  const lines: string[] = [];
  for (let i = 0; i < 8000; i++) {
    if (i % 100 === 0) lines.push(`I  ${i % 200 === 0 ? '00001000' : '00002000'},4`);
    const inPage = below(8) === 0 ? 4092 : below(500) * 8;
    lines.push(
      ` ${'LSM'[below(3)]} ${(0x10000000 * unit + below(200) * apart + inPage * unit).toString(16)},${unit === 1 ? 8 : 7 * unit + 1}`,
    );
  }
  return new TextEncoder().encode(`${lines.join('\n')}\n`);
}

async function replayed(text: Uint8Array, options: Partial<ReplayOptions> = {}): Promise<ReplayReport> {
  const offload = [{ start: 0x1000, end: 0x1004 }];
  const driver = nouveau({ vram: 80 * 4096 });
  return replayTrace([text], { name: 'made up', driver, dram: 64 * MiB, swap: 16 * MiB, lanes: 8, preset, offload, ...options });
}

describe('a replay without bytes', () => {
  test('counts what one with bytes counts', async () => {
    const backed = await replayed(trace(4096, 1));
    const bodiless = await replayed(trace(4096, 1), { bytesIn: 'metadata' });
    expect(backed.evictions).toBeGreaterThan(10);
    const { bytesIn, ...options } = bodiless.detail.options;
    expect(bytesIn).toBe('metadata');
    expect({ ...bodiless, detail: { ...bodiless.detail, options } }).toEqual(backed);
    expect(formatReport(bodiless)).toMatch(/values +none: no load is checked/);
  });

  test('on 16 TiB of pages of 2 MiB counts the same accesses, further apart, and says their bytes', async () => {
    const small = await replayed(trace(4096, 1), { bytesIn: 'metadata' });
    // An access of 7 units and a byte touches eight units, wherever it begins.
    const large = await replayed(trace(4096 * 512, 512), { bytesIn: 'metadata', pageBytes: 2 * MiB, dram: 16 * TIB, swap: 32 * GiB });
    for (const part of ['accesses', 'tlb', 'faults', 'evictions', 'invalidations', 'frames'] as const)
      expect(large[part]).toEqual(small[part]);
    const { pages, bytes } = large.migrated['nouveau.vram']!['dram']!;
    expect(pages).toBe(small.migrated['nouveau.vram']!['dram']!.pages);
    expect(bytes).toBe(pages * 2 * MiB);
    expect(large.detail.options).toMatchObject({ dram: 16 * TIB, pageBytes: 2 * MiB, deviceMemory: { 'nouveau.vram': 160 * MiB } });
    expect(large.detail.modelledParts.access).toBe(small.detail.modelledParts.access);
    expect(large.detail.modelledParts.toDevice).toBeGreaterThan(50 * small.detail.modelledParts.toDevice);
    expect(formatReport(large)).toMatch(/page +2 MiB/);
  });

  test('refuses large pages of a machine with bytes, and sizes that are not of pages', async () => {
    const refusal = async (options: Partial<ReplayOptions>): Promise<string> =>
      replayed(trace(4096, 1), options).then(
        () => 'nothing',
        (error: unknown) => (isFarfaultError(error) ? error.message : String(error)),
      );
    expect(await refusal({ pageBytes: 2 * MiB })).toContain('createMachine.pageBytes');
    expect(await refusal({ bytesIn: 'metadata', pageBytes: 12288 })).toContain('is not a power of two between 4096 and 2 MiB');
    expect(await refusal({ bytesIn: 'metadata', pageBytes: 2 * MiB, dram: 3 * MiB })).toContain('is not a multiple of 2097152');
    expect(await refusal({ dram: 256 * GiB })).toContain('replayTrace.dram');
    expect(await refusal({ bytesIn: 'metadata', pageBytes: 2 * MiB, timeline: () => {} })).toContain('replayTrace.timeline');
  });
});

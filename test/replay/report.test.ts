import { describe, expect, test } from 'vitest';
import { formatReport, formatReports, type ReplayReport } from '../../sdk/replay/report.ts';

const stencil: ReplayReport = {
  schema: 1,
  trace: 'stencil.trace.gz',
  preset: 'uvmsmart-1080ti',
  accesses: { cpu: 1_015_976, device: 100_000, read: 730_240, write: 385_736, instructions: 2_495_045 },
  tlb: { cpu: { hit: 1_015_000, miss: 1_200 }, devices: { nouveau: { hit: 99_000, miss: 1_000 } } },
  faults: { cpu: 1_234, devices: { nouveau: 900 } },
  migrated: { dram: { 'nouveau.vram': { pages: 1_024, bytes: 4_194_304 } }, 'nouveau.vram': { dram: { pages: 300, bytes: 1_228_800 } } },
  evictions: 2,
  invalidations: 77,
  frames: { dram: { peak: 2_000 }, 'nouveau.vram': { peak: 512 } },
  modelledNs: 1_234_567_890,
  detail: {
    cpuFaults: { zero: 4, demand: 1_000, cow: 30, reuse: 0, home: 200 },
    batches: 60,
    batchSizes: [20, 0, 0, 30, 10],
    recorded: 900,
    coalesced: 15,
    deferred: 1,
    cancelled: 0,
    overflow: 6,
    cleared: 5,
    migratedByCause: {
      fault: { pages: 1_024, bytes: 4_194_304 },
      home: { pages: 200, bytes: 819_200 },
      evict: { pages: 100, bytes: 409_600 },
    },
    modelledParts: {
      access: 1_115_976,
      walk: 107_600,
      cpuFault: 1_234_000,
      batch: 2_700_000,
      invalidation: 77_000,
      toDevice: 1_229_233_314,
      toHost: 100_000,
    },
    presetSource: 'GTX 1080 Ti as configured in the UVMSmart simulator (Ganguly et al., ISCA 2019): 45 us far fault, PCIe 3.0 x16',
    options: {
      device: 'nouveau',
      dram: 2 ** 30,
      deviceMemory: { 'nouveau.vram': 1.5 * 2 ** 20 },
      granulePages: 16,
      lanes: 32,
      offload: ['0x1000-0x1100', '0x2000-0x2010'],
      seed: 0,
    },
  },
  host: { wallMs: 41.6, accessesPerSecond: 26_826_346 },
};

const mirrored: ReplayReport = {
  ...stencil,
  trace: 'a-name-that-is-much-too-long-for-a-column.trace',
  tlb: { cpu: { hit: 0, miss: 0 }, devices: { mirror: { hit: 5, miss: 5 } } },
  faults: { cpu: 0, devices: { mirror: 5 } },
  migrated: {},
  frames: { dram: { peak: 1 } },
  detail: {
    ...stencil.detail,
    batches: 0,
    batchSizes: [],
    options: { ...stencil.detail.options, device: 'mirror', deviceMemory: {}, offload: [] },
  },
};

describe('the table of a replay', () => {
  test('says everything, aligned', () => {
    expect(`\n${formatReport(stencil)}\n`).toBe(`
Replay                               stencil.trace.gz
  device                                      nouveau
  host memory                                   1 GiB
  nouveau.vram                                1.5 MiB
  granule of a device fault                    64 KiB
  lanes                                            32
  offloaded                                  2 ranges

Accesses
  by the CPU                        1,015,976  91.0 %
  by the device                       100,000   9.0 %
  reads                               730,240  65.4 %
  writes                              385,736  34.6 %
  instructions, not replayed                2,495,045

TLB, per page touched
  CPU hits                          1,015,000  99.9 %
  CPU misses                            1,200   0.1 %
  nouveau hits                         99,000  99.0 %
  nouveau misses                        1,000   1.0 %

Faults
  CPU                                           1,234
    zero: first read                                4
    demand: first write                         1,000
    cow: write after a read                        30
    reuse: write, was read-only                     0
    home: page on the device                      200
  nouveau, records                                900
    merged or brought along                        15
    put off to a later batch                        1
    given up                                        0
    lost: fault buffer full                         6

Fault batches
  batches                                          60
  records, on average                            15.0
    of 1 record                            20  33.3 %
    of 8 to 15 records                     30  50.0 %
    of 16 to 31 records                    10  16.7 %

Migration, pages and bytes
  dram -> nouveau.vram               1,024      4 MiB
  nouveau.vram -> dram                 300    1.2 MiB
    by a device fault                1,024      4 MiB
    by a touch of the CPU              200    800 KiB
    by eviction                        100    400 KiB
  cleared, nothing to copy               5     20 KiB
  evictions                                         2
  invalidations                                    77

Peak frames in use, and bytes
  dram                               2,000    7.8 MiB
  nouveau.vram                         512      2 MiB

Modelled time, nothing overlapping
  preset                              uvmsmart-1080ti
    accesses                         1.116 ms   0.1 %
    page walks                       0.108 ms   0.0 %
    CPU faults                       1.234 ms   0.1 %
    fault batches                    2.700 ms   0.2 %
    invalidations                    0.077 ms   0.0 %
    copies to the device         1,229.233 ms  99.6 %
    copies to the host               0.100 ms   0.0 %
  whole                          1,234.568 ms 100.0 %

This run
  wall time                                     42 ms
  accesses per second, replay                  26.8 M

uvmsmart-1080ti: GTX 1080 Ti as configured in the UVMSmart simulator (Ganguly et al., ISCA 2019): 45
  us far fault, PCIe 3.0 x16
`);
  });

  test('puts three side by side in 100 columns', () => {
    const large = {
      ...stencil,
      accesses: { cpu: 123_456_789, device: 987_654_321, read: 1, write: 1, instructions: 3_000_000_000 },
      modelledNs: 12_345_678_901_234,
    };
    const lines = formatReports([stencil, large, mirrored]).split('\n');
    expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(100);
    expect(lines[0]).toMatch(/^Replay +stencil.trace.gz +stencil.trace.gz +\.\.\.or-a-column\.trace$/);
    expect(lines.filter((line) => line.startsWith('uvmsmart'))).toHaveLength(1);
  });

  test('leaves a place empty where one replay has nothing that another has', () => {
    const lines = formatReports([stencil, mirrored]).split('\n');
    const cells = (label: string): string[] | undefined =>
      lines
        .find((line) => line.trim().startsWith(label))
        ?.trim()
        .slice(label.length)
        .trim()
        .split(/ {2,}/);
    expect(cells('nouveau, records')).toEqual(['900', '-']);
    expect(cells('mirror, records')).toEqual(['-', '5']);
    expect(cells('CPU hits')).toEqual(['1,015,000', '99.9 %', '0', '-']);
    expect(cells('offloaded')).toEqual(['2 ranges', 'everything']);
    expect(cells('records, on average')).toEqual(['15.0', '-']);
  });
});

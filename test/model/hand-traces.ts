/**
 * Three traces small enough to be followed on paper, with every number of their reports. Both the naive model and the real replay have to
 * produce exactly these.
 */
import type { Preset } from '../../sdk/testing/model/cost.ts';
import type { OffloadRange } from '../../sdk/testing/model/lackey.ts';
import type { ModelReplayOptions, ModelReport } from '../../sdk/testing/model/replay.ts';

export interface HandTrace {
  name: string;
  /** Lackey's format. */
  text: string;
  /** Undefined: every access is the device's. */
  offload: readonly OffloadRange[] | undefined;
  options: ModelReplayOptions;
  expected: ModelReport;
}

/** Round figures, so that every part of a sum is recognised in the result. */
export const HAND_PRESET: Preset = {
  cpuAccessNs: 1,
  deviceAccessNs: 2,
  cpuWalkNs: 10,
  deviceWalkNs: 20,
  cpuFaultNs: 1000,
  batchNs: 500,
  recordNs: 50,
  invalidationNs: 300,
  linkLatencyNs: 7000,
  toDevicePsPerKiB: 84992,
  toHostPsPerKiB: 93184,
};

/** Instructions at 0x1000 to 0x10ff run on the device. */
const OFFLOAD: readonly OffloadRange[] = [{ start: 0x1000, end: 0x1100 }];

/**
 * There and back. Granule 16, VRAM of 64 pages: four chunks of 16. Two lanes.
 *
 * ```
 *  #0 CPU writes page 16   fault demand; walk                                   cpu miss 1, dram 1
 *  #1 CPU reads page 17    fault zero; walk                                     cpu miss 2
 *  job of #2..#5: lane 0 has #2 #4, lane 1 has #3 #5
 *  round 1   #2 reads 16: record. #3 reads 17 and 18: two records               recorded 3
 *  batch 1   16: granule 16..31, host zero none*14, 16 frames                   copied 1, cleared 15, vram 16, dram 0
 *                event over 16..31, event from 17 on                            invalidations 2
 *            17, 18: there already                                              coalesced 2
 *  round 2   #2 walks 16, #3 walks 17 and 18                                    device miss 3
 *            #4 writes 17 and 18, #5 writes 18                                  device hit 3
 *  #6 CPU reads page 16    fault home: 16 pages; the way of #0 went in batch 1  cpu miss 3, dram 16, invalidations 3
 *  #7 CPU writes page 18   host, writable; walk                                 cpu miss 4
 *  #8 CPU reads page 18                                                         cpu hit 1
 * ```
 *
 * modelledNs: access 5*1 + 4*2; walk 4*10 + 3*20; cpuFault 3*1000; batch 500 + 3*50; invalidation 3*300;
 * toDevice 7000 + floor(4096*83/1000 = 339.968); toHost 7000 + floor(65536*91/1000 = 5963.776).
 */
const thereAndBack: HandTrace = {
  name: 'there and back',
  text: `I  00002000,4
 S 00010000,8
 L 00011000,4
I  00001000,4
 L 00010000,8
I  00001004,4
 M 00011ffe,4
 S 00012000,1
I  00002004,4
 L 00010004,4
 S 00012000,8
 L 00012004,4
`,
  offload: OFFLOAD,
  options: { device: 'nouveau', vramPages: 64, dramPages: 64, lanes: 2, granulePages: 16, seed: 1, preset: HAND_PRESET },
  expected: {
    accesses: { cpu: 5, device: 4, read: 5, write: 4 },
    tlb: { cpu: { hit: 1, miss: 4 }, devices: { nouveau: { hit: 3, miss: 3 } } },
    faults: { cpu: 3, devices: { nouveau: 3 } },
    migrated: { dram: { 'nouveau.vram': { pages: 1, bytes: 4096 } }, 'nouveau.vram': { dram: { pages: 16, bytes: 65536 } } },
    evictions: 0,
    invalidations: 3,
    frames: { dram: { peak: 16 }, 'nouveau.vram': { peak: 16 } },
    detail: {
      cpuFaults: { zero: 1, demand: 1, cow: 0, reuse: 0, home: 1 },
      batches: 1,
      batchSizes: { 2: 1 },
      recorded: 3,
      coalesced: 2,
      deferred: 0,
      cancelled: 0,
      overflow: 0,
      cleared: 15,
      migratedByCause: { fault: 1, home: 16, evict: 0 },
    },
    modelledNs: { access: 13, walk: 100, cpuFault: 3000, batch: 650, invalidation: 900, toDevice: 7339, toHost: 12963 },
  },
};

/**
 * No room. Granule 1, VRAM of 4 pages: four chunks of 1. Six lanes, a fault buffer of 4 records, everything on the device.
 *
 * ```
 *  lane 0: #0 writes 1, #6 reads 1     lane 1: #1 writes 2, #7 reads 6     lane 2: #2 writes 1, #8 reads 2
 *  lane 3: #3 reads 3, #9 reads 1+2    lane 4: #4 writes 4, #10 reads 1    lane 5: #5 reads 5
 *
 *  round 1   all stall: records 1w 2w 1w 3r; 4w and 5r are lost        recorded 4, overflow 2
 *  batch 1   the two records of 1 become one                             coalesced 1
 *            1, 2, 3 -> chunks 0, 1, 2, two events each                cleared 3, invalidations 6
 *  round 2   #0 #1 #3 walk, #2 hits; #4 #5 stall                       miss 3, hit 1
 *            #6 hits, #7 stalls, #8 hits, #9 hits twice                hit 5, recorded 7
 *  batch 2   4 -> chunk 3                                              cleared 4, invalidations 8
 *            5: chunk 0 is the oldest, page 1 goes home; 5 -> chunk 0  evictions 1, invalidations 9 + 2, dram 1
 *            6: chunk 1, page 2 goes home; 6 -> chunk 1                evictions 2, invalidations 12 + 2, dram 2, cleared 6
 *  round 3   #7 #4 #5 walk; #10 stalls                                 miss 6, recorded 8
 *  batch 3   1 is a host page: chunk 2, page 3 goes home (dram 3),     evictions 3, invalidations 15
 *            then one event and one copied page (dram 2)               invalidations 16, copied 1
 *  round 4   #10 walks                                                 miss 7
 * ```
 */
const noRoom: HandTrace = {
  name: 'no room',
  text: `I  00400000,4
 S 00001000,8
 S 00002000,8
 S 00001008,8
I  00400004,4
 L 00003000,8
 S 00004000,4
 L 00005000,2
I  00400008,4
 L 00001000,16
 L 00006000,1
 L 00002000,8
 L 00001ffc,8
 L 00001008,8
`,
  offload: undefined,
  options: { device: 'nouveau', vramPages: 4, dramPages: 8, lanes: 6, granulePages: 1, faultEntries: 4, seed: 2 },
  expected: {
    accesses: { cpu: 0, device: 11, read: 7, write: 4 },
    tlb: { cpu: { hit: 0, miss: 0 }, devices: { nouveau: { hit: 5, miss: 7 } } },
    faults: { cpu: 0, devices: { nouveau: 8 } },
    migrated: { dram: { 'nouveau.vram': { pages: 1, bytes: 4096 } }, 'nouveau.vram': { dram: { pages: 3, bytes: 12288 } } },
    evictions: 3,
    invalidations: 16,
    frames: { dram: { peak: 3 }, 'nouveau.vram': { peak: 4 } },
    detail: {
      cpuFaults: { zero: 0, demand: 0, cow: 0, reuse: 0, home: 0 },
      batches: 3,
      batchSizes: { 1: 1, 2: 1, 4: 1 },
      recorded: 8,
      coalesced: 1,
      deferred: 0,
      cancelled: 0,
      overflow: 2,
      cleared: 6,
      migratedByCause: { fault: 1, home: 0, evict: 3 },
    },
  },
};

/**
 * Side by side. A mirror with granule 16 and two lanes; the CPU and the device use the same host frames.
 *
 * ```
 *  #0 CPU reads page 32     fault zero; walk                                cpu miss 1
 *  #1 CPU writes page 33    fault demand; walk                              cpu miss 2, dram 1
 *  job of #2..#6: lane 0 has #2 #4 #6, lane 1 has #3 #5
 *  round 1   #2 reads 32, #3 writes 33: records                             recorded 2
 *  batch 1   32: zero, enters 32 and its neighbour 33. 33: there already    coalesced 1
 *  round 2   #2 and #3 walk; #4 writes 34, stalls; #5 reads 32+33: hits     miss 2, hit 2, recorded 3
 *  batch 2   34: a new host frame, no event                                 dram 2
 *  round 3   #4 walks; #6 writes 32, which is zero: stalls                  miss 3, recorded 4
 *  batch 3   32: cow, one event                                             invalidations 1, dram 3
 *  round 4   #6 walks                                                       miss 4
 *  #7 CPU reads page 32     its way went with the cow; walk                 cpu miss 3
 *  #8 CPU writes page 35    fault demand; walk                              cpu miss 4, dram 4
 *  job of #9..#11: lane 0 has #9 #11, lane 1 has #10
 *  round 1   #9 reads 35, #10 reads 36: records                             recorded 6
 *  batch 4   35: entered. 36: a hole becomes zero                           (no CPU fault)
 *  round 2   #9 and #10 walk; #11 reads 32: hit                             miss 6, hit 3
 * ```
 */
const sideBySide: HandTrace = {
  name: 'side by side',
  text: `I  00002000,4
 L 00020000,8
 S 00021000,8
I  00001000,4
 L 00020010,4
 S 00021000,8
 S 00022000,4
 L 00020ffc,8
 S 00020000,8
I  00002004,4
 L 00020000,8
 S 00023000,8
I  00001008,4
 L 00023000,8
 L 00024000,16
 L 00020000,8
`,
  offload: OFFLOAD,
  options: { device: 'mirror', vramPages: 0, dramPages: 16, lanes: 2, granulePages: 16, seed: 3 },
  expected: {
    accesses: { cpu: 4, device: 8, read: 7, write: 5 },
    tlb: { cpu: { hit: 0, miss: 4 }, devices: { mirror: { hit: 3, miss: 6 } } },
    faults: { cpu: 3, devices: { mirror: 6 } },
    migrated: {},
    evictions: 0,
    invalidations: 1,
    frames: { dram: { peak: 4 } },
    detail: {
      cpuFaults: { zero: 1, demand: 2, cow: 0, reuse: 0, home: 0 },
      batches: 4,
      batchSizes: { 1: 2, 2: 2 },
      recorded: 6,
      coalesced: 1,
      deferred: 0,
      cancelled: 0,
      overflow: 0,
      cleared: 0,
      migratedByCause: { fault: 0, home: 0, evict: 0 },
    },
  },
};

export const HAND_TRACES: readonly HandTrace[] = [thereAndBack, noRoom, sideBySide];

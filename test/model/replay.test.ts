import { describe, expect, test } from 'vitest';
import { lackeyAccesses, type TraceAccess } from '../../sdk/testing/model/lackey.ts';
import { modelReplay } from '../../sdk/testing/model/replay.ts';
import { fill, mix, observe, valueOf } from '../../sdk/testing/model/value.ts';
import { HAND_TRACES } from './hand-traces.ts';
import { random } from './random.ts';

describe('a trace followed on paper', () => {
  for (const { name, text, offload, options, expected } of HAND_TRACES) {
    test(`${name}: the model counts what the comment counts`, () => {
      expect(modelReplay(lackeyAccesses(text.split('\n'), offload), options)).toEqual(expected);
    });
  }
});

test('an M line is a read and then a write, and belongs to the instruction above it', () => {
  const lines = ['I  00001000,3', ' M 0000abcd,4', 'I  00001003,3', ' L 0000ABCD,2'];
  expect([...lackeyAccesses(lines, [{ start: 0x1003, end: 0x1004 }])]).toEqual([
    { addr: 0xabcd, bytes: 4, write: false, device: false },
    { addr: 0xabcd, bytes: 4, write: true, device: false },
    { addr: 0xabcd, bytes: 2, write: false, device: true },
  ]);
  expect([...lackeyAccesses([' L 0000abcd,2'])]).toEqual([{ addr: 0xabcd, bytes: 2, write: false, device: true }]);
  expect(() => [...lackeyAccesses(['L 0000abcd,2'])]).toThrow('not a lackey line');
});

test('values are scrambled, repeated and hashed as written down', () => {
  expect([mix(0), mix(1)]).toEqual([0, 0x514e28b7]); // the known finaliser of murmur3
  expect(valueOf(3, 0xffffffff)).toEqual({ lo: mix(5), hi: mix(6) }); // seed + 2n, modulo 2^32

  const data = new Uint8Array(20);
  fill(data, 17, { lo: 0xffffffff, hi: 0x01020304 });
  expect([...data]).toEqual([0xff, 0xff, 0xff, 0xff, 4, 3, 2, 1, 0, 0, 0, 0, 4, 3, 2, 1, 1, 0, 0, 0]);

  expect(observe(Uint8Array.of(1, 2, 3, 4, 5, 6), 3)).toEqual({ lo: 0x030201, hi: 0 });
  expect(observe(Uint8Array.of(1, 2, 3, 0x84, 5, 0x86), 6)).toEqual({ lo: 0x84030201, hi: 0x8605 });
  // 0, 0, 1 through h = imul(h ^ w, 0x01000193), h ^= h >>> 15: 0x01000193 ^ (0x01000193 >>> 15 = 0x200) = 0x01000393
  expect(observe(Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 1), 9)).toEqual({ lo: 0x01000393, hi: 9 });
});

test('a run of device accesses longer than a job is cut, and lanes start anew with each', () => {
  // One page, 65537 reads, 2 lanes. Job 1: both lanes record page 0; the driver merges them. Job 2: one read, through the TLB.
  const trace = Array.from({ length: 65537 }, (): TraceAccess => ({ addr: 0, bytes: 1, write: false, device: true }));
  const report = modelReplay(trace, { device: 'nouveau', vramPages: 4, dramPages: 4, lanes: 2, granulePages: 1 });
  expect(report.tlb.devices).toEqual({ nouveau: { hit: 65536, miss: 1 } });
  expect(report.detail).toMatchObject({ batches: 1, recorded: 2, coalesced: 1 });
});

test('an eviction without a host frame to go to ends the replay', () => {
  const trace = [0, 1, 2, 3, 4, 5].map((vpn): TraceAccess => ({ addr: vpn * 4096, bytes: 8, write: true, device: true }));
  const options = { device: 'nouveau', vramPages: 4, lanes: 1, granulePages: 1 } as const;
  expect(() => modelReplay(trace, { ...options, dramPages: 1 })).toThrow('host memory is exhausted');
  expect(modelReplay(trace, { ...options, dramPages: 2 }).evictions).toBe(2);
});

test('random traces read what a plain map of bytes reads, whatever the device and its room', () => {
  for (let seed = 1; seed <= 40; seed++) {
    const pick = random(seed);
    const trace: TraceAccess[] = [];
    let device = false;
    for (let i = 0; i < 400; i++) {
      if (pick(8) === 0) device = !device;
      trace.push({ addr: pick(40 * 4096), bytes: 1 + pick(pick(4) === 0 ? 4096 : 16), write: pick(2) === 0, device });
    }
    const shape = { dramPages: 600, lanes: 1 + pick(20), faultEntries: 1 + pick(24), seed };
    modelReplay(trace, { ...shape, device: 'mirror', vramPages: 0, granulePages: 16 });
    modelReplay(trace, { ...shape, device: 'nouveau', vramPages: 4 + pick(6), granulePages: 1 });
    modelReplay(trace, { ...shape, device: 'nouveau', vramPages: 64, granulePages: 16 });
  }
});

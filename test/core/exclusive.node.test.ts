import { describe, expect, test } from 'vitest';
import * as L from '../../assembly/layout.ts';
import { flavours } from './harness.ts';
import { ALL, GPU, HOST, MOVES, Mover } from './mover.ts';

const RW = L.RIGHT_READ | L.RIGHT_WRITE;

describe.each(flavours)('%s', (flavour) => {
  const make = (): { mover: Mover; table: number; tlb: number; frame: number } => {
    const mover = new Mover(flavour);
    const { table, tlb } = mover.home(4);
    return { mover, table, tlb, frame: mover.fresh(table, 5, 50) };
  };

  test('an exclusive page is out of the CPU’s reach and still mapped; with the rights of its area it comes back as it was', () => {
    const { mover, table, tlb, frame } = make();
    mover.touch(tlb, 5, true);
    expect(mover.core.exclusiveSet(table, 5)).toBe(1);
    expect(mover.entry(table, 5)).toMatchObject({ kind: L.KIND_EXCLUSIVE, low: frame });
    expect([mover.ways(tlb).flat(), mover.touch(tlb, 5, false), mover.holders(frame)]).toMatchObject([[], false, { refs: 1, maps: 1 }]);
    expect([mover.core.verify(1), mover.core.exclusiveSet(table, 5), mover.stop]).toEqual([0, 0, L.STOP_REFUSED]);
    expect(mover.core.exclusiveClear(table, 5, RW)).toBe(1);
    expect([mover.touch(tlb, 5, true), mover.stampOf(frame), mover.core.exclusiveClear(table, 5, RW), mover.core.verify(1)]).toEqual([
      true,
      50,
      0,
      0,
    ]);
  });

  test('mprotect leaves it exclusive; what its area allows at the end decides', () => {
    for (const [rights, kind, write] of [
      [L.RIGHT_READ, L.KIND_PRESENT, 0],
      [0, L.KIND_PROTNONE, 0],
      [RW, L.KIND_PRESENT, L.ENTRY_WRITE],
    ] as const) {
      const { mover, table } = make();
      mover.core.exclusiveSet(table, 5);
      mover.core.reprotect(table, 5, 1, rights);
      expect(mover.entry(table, 5).kind).toBe(L.KIND_EXCLUSIVE);
      mover.core.exclusiveClear(table, 5, rights);
      const { high } = mover.entry(table, 5);
      expect([high & L.ENTRY_KIND, high & L.ENTRY_WRITE, high & L.ENTRY_NO_ACCESS]).toEqual([kind, write, 0]);
      // Whatever is missing now comes back: the page stayed this space's own.
      mover.core.reprotect(table, 5, 1, RW);
      expect([mover.kinds(table, 5, 1), mover.core.verify(1)]).toEqual(['1w', 0]);
    }
  });

  test('a page that is shared, read-only, of zeros, on a device or not there is refused', () => {
    const { mover, table } = make();
    const child = mover.home();
    mover.fresh(table, 6);
    mover.core.reprotect(table, 6, 1, L.RIGHT_READ);
    mover.fresh(table, 7);
    mover.core.forkRange(table, child.table, 7, 1, HOST, 0);
    mover.core.mapZero(table, 8);
    mover.on(GPU, table, 9);
    const before = mover.kinds(table, 6, 6);
    for (const vpn of [6, 7, 8, 9, 10, 2 ** 34])
      expect([vpn, mover.core.exclusiveSet(table, vpn), mover.stop]).toEqual([vpn, 0, L.STOP_REFUSED]);
    for (const vpn of [7, 8, 9, 10]) expect([vpn, mover.core.cpuReadsSet(table, vpn), mover.stop]).toEqual([vpn, 0, L.STOP_REFUSED]);
    expect([mover.kinds(table, 6, 6), mover.core.verify(1)]).toEqual([before, 0]);
  });

  test('is not taken by a migration, by address or by frame', () => {
    const { mover, table, frame } = make();
    mover.core.exclusiveSet(table, 5);
    expect([mover.collect(table, 5, 1, ALL), mover.collectFrames([frame])]).toEqual([[[0, 0]], [[0, 0]]]);
    expect([mover.entry(table, 5).kind, mover.core.frameTryLock(frame)]).toEqual([L.KIND_EXCLUSIVE, 1]);
    mover.core.frameUnlock(frame);
    mover.core.zap(table, 5, 1);
    expect([mover.node(HOST, L.NODE_USED), mover.core.verify(1)]).toEqual([0, 0]);
  });

  test('in the variant for devices that let the CPU read, a read goes through and a write takes the promise back', () => {
    const { mover, table, tlb, frame } = make();
    mover.touch(tlb, 5, true);
    expect(mover.core.cpuReadsSet(table, 5)).toBe(1);
    expect([mover.touch(tlb, 5, false), mover.touch(tlb, 5, true), mover.entry(table, 5).high & L.ENTRY_CPU_READS]).toEqual([
      true,
      false,
      L.ENTRY_CPU_READS,
    ]);
    expect([mover.core.verify(1), mover.core.canReuse(table, 5)]).toEqual([0, 1]);
    // Taken by a migration, it does not come back with the promise.
    expect(mover.collect(table, 5, 1)).toEqual([[frame, MOVES]]);
    mover.aim([undefined]);
    mover.finish(table, 5, 1);
    expect(mover.entry(table, 5).high & (L.ENTRY_CPU_READS | L.ENTRY_WRITE | L.ENTRY_ANON_EXCLUSIVE)).toBe(L.ENTRY_ANON_EXCLUSIVE);
    expect(mover.core.verify(1)).toBe(0);
  });
});

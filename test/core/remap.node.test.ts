import { describe, expect, test } from 'vitest';
import * as L from '../../assembly/layout.ts';
import { flavours } from './harness.ts';
import { GPU, HOST, Mover } from './mover.ts';

const FAR = 2 ** 34 + 511;

describe.each(flavours)('%s', (flavour) => {
  test('entries of every kind move, their frames stay where they are and follow by reverse map', () => {
    const mover = new Mover(flavour);
    const { table, tlb, index } = mover.home(4);
    const child = mover.home();
    const frames = [mover.fresh(table, 0, 1), mover.fresh(table, 1, 2), mover.on(GPU, table, 2), mover.fresh(table, 4, 5)];
    mover.core.forkRange(table, child.table, 1, 1, HOST, 0);
    mover.core.mapZero(table, 3);
    mover.core.exclusiveSet(table, 4);
    mover.core.mapSpecial(table, 5, 99, 0);
    mover.fresh(table, 7);
    mover.core.reprotect(table, 7, 1, 0);
    mover.touch(tlb, 0, true);
    const kinds = mover.kinds(table, 0, 8);
    expect(mover.core.moveEntries(table, 0, FAR, 8)).toBe(8);
    expect([mover.kinds(table, FAR, 8), mover.kinds(table, 0, 8)]).toEqual([kinds, '0 0 0 0 0 0 0 0']);
    expect([mover.ways(tlb).flat(), mover.touch(tlb, FAR, true), mover.touch(tlb, 0, false)]).toEqual([[], true, false]);
    expect(mover.mappings(frames[1]!)).toEqual([`${index}:${FAR + 1}`, `${child.index}:1`]);
    expect(frames.slice(0, 2).map((frame) => mover.stampOf(frame))).toEqual([1, 2]);
    expect(frames.map((frame) => mover.holders(frame).refs)).toEqual([1, 2, 1, 1]);
    expect(mover.core.verify(1)).toBe(0);
    mover.core.zap(table, FAR, 8);
    mover.core.zap(child.table, 1, 1);
    expect([mover.node(HOST, L.NODE_USED), mover.bare.header(L.H_PAGES_USED), mover.core.verify(1)]).toEqual([0, 2, 0]);
  });

  test('a page that a migration has moves too, and the migration ends at its new place', () => {
    const mover = new Mover(flavour);
    const { table } = mover.home();
    mover.fresh(table, 0, 8);
    mover.collect(table, 0, 1);
    const to = mover.take(GPU);
    mover.aim([to]);
    expect(mover.core.moveEntries(table, 0, 600, 1)).toBe(1);
    expect([mover.finish(table, 0, 1), mover.kinds(table, 0, 1), mover.kinds(table, 600, 1), mover.stampOf(to)]).toEqual([1, '0', '2w', 8]);
    expect(mover.core.verify(1)).toBe(0);
  });

  test('a page that the CPU may only read for a device loses that: the device has lost its translation', () => {
    const mover = new Mover(flavour);
    const { table } = mover.home();
    mover.fresh(table, 0);
    mover.core.cpuReadsSet(table, 0);
    mover.core.moveEntries(table, 0, 9, 1);
    expect(mover.entry(table, 9).high & (L.ENTRY_CPU_READS | L.ENTRY_WRITE | L.ENTRY_ANON_EXCLUSIVE)).toBe(L.ENTRY_ANON_EXCLUSIVE);
  });

  test('without table pages it stops between two pages and is resumed there', () => {
    // Four for the old place, one for the other table, one of the two that the new place needs.
    const mover = new Mover(flavour, { tablePages: 6 });
    const { table } = mover.home();
    for (const vpn of [0, 1, 2, 3]) mover.fresh(table, vpn, vpn + 1);
    const hog = mover.home();
    // Two pages go to the end of one leaf page, two into the next: there is one table page too few.
    expect([mover.core.moveEntries(table, 0, 1022, 4), mover.stop]).toEqual([2, L.STOP_TABLES]);
    expect([mover.kinds(table, 0, 4), mover.kinds(table, 1022, 4), mover.core.verify(1)]).toEqual(['0 0 1w 1w', '1w 1w 0 0', 0]);
    mover.core.tableDestroy(hog.table);
    expect([mover.core.moveEntries(table, 2, 1024, 2), mover.kinds(table, 1022, 4), mover.core.verify(1)]).toEqual([2, '1w 1w 1w 1w', 0]);
    expect([0, 1, 2, 3].map((i) => mover.stampOf(mover.entry(table, 1022 + i).low))).toEqual([1, 2, 3, 4]);
  });
});

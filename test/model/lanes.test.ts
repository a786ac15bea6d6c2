import { expect, test } from 'vitest';
import { load, smallMirror, smallNouveau, store } from './small-machine.ts';

test('lanes take turns, and each runs its own accesses in order', () => {
  const { context } = smallNouveau();
  context.migrate(0, 8);
  // Lane 0: 0 3 6, lane 1: 1 4, lane 2: 2 5. A store is seen by the loads after it.
  const { order, lo } = context.submit([store(0, 1), load(0), load(0), store(0, 2), load(0), load(0), load(0)], 3);
  expect(order).toEqual([0, 1, 2, 3, 4, 5, 6]);
  expect([...lo]).toEqual([0, 1, 1, 0, 2, 2, 2]);
});

test('a stalled lane is overtaken by the others until the round ends', () => {
  const { context } = smallNouveau();
  context.migrate(0, 1);
  // Lane 0: page 9 (stalls), page 0. Lane 1: page 0 three times.
  const { order } = context.submit([load(9), load(0), load(0), load(0), load(0), load(0)], 2);
  expect(order).toEqual([1, 3, 5, 0, 2, 4]);
});

test('lanes that fault on one page leave duplicates, which are merged with the strongest access', () => {
  const { machine, context } = smallNouveau();
  const { order } = context.submit([load(7), store(7, 5), load(7)], 3);
  expect(order).toEqual([0, 1, 2]);
  const { detail, faults, tlb } = machine.counters();
  expect(detail).toMatchObject({ batches: 1, batchSizes: { 2: 1 }, recorded: 3, coalesced: 2, cleared: 1 });
  expect(faults.devices).toEqual({ nouveau: 3 });
  expect(tlb.devices).toEqual({ nouveau: { hit: 2, miss: 1 } });
});

test('a full fault buffer loses records, and the lanes fault again', () => {
  // Five lanes on five pages, three records. Round 1: 3 recorded, 2 lost. Round 2: three execute, 2 recorded. Round 3: the rest.
  const { machine, context } = smallNouveau({ faultEntries: 3 });
  const { order } = context.submit(
    [10, 11, 12, 13, 14].map((vpn) => load(vpn)),
    5,
  );
  expect(order).toEqual([0, 1, 2, 3, 4]);
  expect(machine.counters().detail).toMatchObject({ batches: 2, batchSizes: { 2: 2 }, recorded: 5, overflow: 2 });
});

test('the two pages of a crossing access are two records, and the second may be lost', () => {
  const { machine, context } = smallNouveau({ faultEntries: 1 });
  const { order } = context.submit([{ addr: 4094, bytes: 4, write: false }], 1);
  expect(order).toEqual([0]);
  // Page 0 recorded, page 1 lost; then page 1 alone.
  expect(machine.counters().detail).toMatchObject({ batches: 2, recorded: 2, overflow: 1 });
});

test('an access without a right is cancelled and its lane goes on; those that may read the page are served', () => {
  for (const { machine, space, context } of [smallNouveau(), smallMirror()]) {
    space.mprotect(0, 1, 'r'); // one event
    // Lane 0: reads 0, reads 0. Lane 1: writes 0 (not allowed), reads 0. Lane 2: reads page 100, which no VMA has.
    const { order, cancelled } = context.submit([load(0), store(0), load(100), load(0), load(0)], 3);
    expect(cancelled).toEqual([1, 2]);
    expect(order).toEqual([0, 4, 3]);
    expect(machine.counters().detail).toMatchObject({ batches: 1, recorded: 3, cancelled: 2 });
    expect(machine.counters().accesses).toEqual({ cpu: 0, device: 3, read: 3, write: 0 });
  }
});

import { expect, test } from 'vitest';
import { checkMachine } from '../../sdk/testing/model/check.ts';
import { at, load, smallMirror, store } from './small-machine.ts';

test('a mirror works on host frames, and its faults are not faults of the CPU', () => {
  const { machine, space, context } = smallMirror();
  context.submit([store(3, 0x55), load(4)], 1);
  expect(space.dump(2, 4)).toBe('.hz.');
  expect(space.read(at(3), 1)).toEqual(Uint8Array.of(0x55));
  expect(machine.counters()).toMatchObject({ faults: { cpu: 0, devices: { mirror: 2 } }, migrated: {}, invalidations: 0 });
});

test('a fault enters the neighbours that are there, and leaves holes alone', () => {
  const { machine, space, context } = smallMirror({ granulePages: 16 });
  space.write(at(1), Uint8Array.of(1));
  space.read(at(2), 1);
  context.submit([load(0), load(1), load(2), store(1, 9)], 1);
  expect(space.dump(0, 4)).toBe('zhz.');
  expect([...context.table.keys()]).toEqual([0, 1, 2]);
  expect(machine.counters().detail).toMatchObject({ batches: 1, recorded: 1 });
});

test('a write to a zero page that both sides have read drops both views of it', () => {
  const { machine, space, context } = smallMirror();
  space.read(at(6), 1); // cpu miss 1
  context.submit([load(6)], 1); // device miss 1
  context.submit([store(6, 3)], 1); // cow: one event; device miss 2
  expect(space.read(at(6), 1)).toEqual(Uint8Array.of(3)); // cpu miss 2
  expect(machine.counters()).toMatchObject({
    invalidations: 1,
    faults: { cpu: 1 },
    tlb: { cpu: { hit: 0, miss: 2 }, devices: { mirror: { hit: 0, miss: 2 } } },
  });
});

test('a CPU write to a page of zeros tells the mirror, which then reads the new bytes', () => {
  const { machine, space, context } = smallMirror();
  context.submit([load(6)], 1);
  space.write(at(6), Uint8Array.of(4)); // cow, though the CPU never read it
  expect(context.table.size).toBe(0);
  expect(context.submit([load(6)], 1).lo[0]).toBe(4);
  expect(machine.counters()).toMatchObject({ invalidations: 1, detail: { cpuFaults: { cow: 1 }, batches: 2 } });
  checkMachine(machine);
});

test('records are served as they came: a cow later in the batch takes back what an earlier record entered', () => {
  // Lane 0 reads page 1, lane 1 writes it. The read makes it zero and enters it; the write drops that, and enters a frame.
  const { machine, context } = smallMirror();
  const { order } = context.submit([load(1), store(1, 2)], 2);
  expect(order).toEqual([0, 1]);
  expect(machine.counters()).toMatchObject({ invalidations: 1, detail: { batches: 1, recorded: 2, coalesced: 0 } });

  // The other way round the read finds a writable page.
  const second = smallMirror();
  second.context.submit([store(1, 2), load(1)], 2);
  expect(second.machine.counters()).toMatchObject({ invalidations: 0, detail: { batches: 1, recorded: 2, coalesced: 1 } });
});

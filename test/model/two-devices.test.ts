import { expect, test } from 'vitest';
import { checkMachine } from '../../sdk/testing/model/check.ts';
import { at, load, smallMachine, store } from './small-machine.ts';

test('a page that one device takes leaves the mirror of the other, which gets it back through host memory', () => {
  const { machine, space } = smallMachine();
  const gpu = machine.attach(space, machine.addNouveau({ name: 'gpu', vramPages: 64, granulePages: 16, faultEntries: 256 }));
  const mirror = machine.attach(space, machine.addMirror({ name: 'mirror', granulePages: 16, faultEntries: 256 }));
  space.write(at(0), Uint8Array.of(5)); // demand
  mirror.submit([load(0)], 1);
  expect(mirror.table.size).toBe(1);

  expect(gpu.submit([load(0), store(3, 7)], 1).lo[0]).toBe(5); // 16 pages, two events, two contexts: 4
  expect(mirror.table.size).toBe(0);
  expect(machine.counters().invalidations).toBe(4);

  // The mirror asks for page 3: the granule of the gpu comes home (one event, two contexts: 6) and is entered whole.
  expect(mirror.submit([load(3)], 1).lo[0]).toBe(7);
  expect(space.dump(0, 17)).toBe(`${'h'.repeat(16)}.`);
  expect([gpu.table.size, mirror.table.size]).toEqual([0, 16]);
  expect(machine.counters()).toMatchObject({
    invalidations: 6,
    faults: { cpu: 1, devices: { gpu: 1, mirror: 2 } },
    migrated: { dram: { 'gpu.vram': { pages: 1 } }, 'gpu.vram': { dram: { pages: 16 } } },
    detail: { cleared: 15, cpuFaults: { home: 0 }, migratedByCause: { fault: 1, home: 16, evict: 0 } },
  });
  checkMachine(machine);
});

test('between two memories a page goes through the host', () => {
  const { machine, space } = smallMachine();
  const shape = { vramPages: 4, granulePages: 1, faultEntries: 256 };
  const a = machine.attach(space, machine.addNouveau({ name: 'a', ...shape }));
  const b = machine.attach(space, machine.addNouveau({ name: 'b', ...shape }));
  a.submit([store(0, 9)], 1); // a hole: two events, two contexts: 4
  expect(b.submit([load(0)], 1).lo[0]).toBe(9); // home: 6; a host page: one event: 8
  expect(space.dump(0, 1)).toBe('D');
  expect(a.table.size).toBe(0);
  expect(machine.counters()).toMatchObject({
    invalidations: 8,
    migrated: { 'a.vram': { dram: { pages: 1, bytes: 4096 } }, dram: { 'a.vram': { pages: 0 }, 'b.vram': { pages: 1 } } },
    frames: { dram: { peak: 1 }, 'a.vram': { peak: 1 }, 'b.vram': { peak: 1 } },
  });
  checkMachine(machine);
});

test('spaces share host memory and nothing else', () => {
  const { machine, space } = smallMachine({ dramPages: 2 });
  const other = machine.createSpace();
  other.mmap(0, 4, 'rw');
  const context = machine.attach(space, machine.addMirror({ name: 'mirror', granulePages: 1, faultEntries: 256 }));
  space.write(at(0), Uint8Array.of(1));
  other.write(at(0), Uint8Array.of(2));
  expect([space.read(at(0), 1), other.read(at(0), 1)]).toEqual([Uint8Array.of(1), Uint8Array.of(2)]);
  expect(other.write(at(1), Uint8Array.of(2))).toEqual({ reason: 'no-memory', addr: at(1) });
  context.submit([load(0)], 1);
  other.munmap(0, 4); // no context there: nobody to tell
  expect(machine.counters()).toMatchObject({ invalidations: 0, frames: { dram: { peak: 2 } } });
  expect(() => machine.attach(space, machine.devices[0]!)).toThrow('attached');
});

test('a mirror write to a read-only host page takes it in place, without an event', () => {
  const { machine, space } = smallMachine();
  const gpu = machine.attach(space, machine.addNouveau({ name: 'gpu', vramPages: 4, granulePages: 1, faultEntries: 256 }));
  const mirror = machine.attach(space, machine.addMirror({ name: 'mirror', granulePages: 1, faultEntries: 256 }));
  gpu.submit([load(0)], 1); // a hole: two events, two contexts: 4
  space.mprotect(0, 1, 'r'); // 6
  space.mprotect(0, 1, 'rw'); // 8
  space.read(at(0), 1); // home: 10
  mirror.submit([load(0)], 1); // miss 1, read-only
  expect(space.dump(0, 1)).toBe('r');
  mirror.submit([store(0, 4), load(0)], 1); // the entry is replaced, its way dropped: miss 2, hit 1
  expect(space.dump(0, 1)).toBe('h');
  space.write(at(0), Uint8Array.of(5)); // the way of the CPU was dropped too: no fault
  expect(machine.counters()).toMatchObject({
    invalidations: 10,
    faults: { cpu: 1, devices: { mirror: 2 } },
    tlb: { cpu: { hit: 0, miss: 2 }, devices: { mirror: { hit: 1, miss: 2 } } },
    detail: { cpuFaults: { home: 1, reuse: 0 } },
  });
  checkMachine(machine);
});

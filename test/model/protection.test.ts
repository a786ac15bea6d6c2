import { describe, expect, test } from 'vitest';
import { checkMachine } from '../../sdk/testing/model/check.ts';
import { at, load, smallMirror, smallNouveau, store } from './small-machine.ts';

describe('mprotect', () => {
  test('takes write away at once and gives it back at once to host pages', () => {
    const { machine, space } = smallMirror();
    space.write(at(0), Uint8Array.of(1)); // demand, miss 1
    space.read(at(1), 1); // zero, miss 2
    space.mprotect(0, 2, 'r'); // one event
    expect(space.dump(0, 3)).toBe('rz.');
    expect(space.write(at(0), Uint8Array.of(2))).toEqual({ reason: 'segfault', addr: at(0) });
    space.read(at(0), 1); // its way is gone: miss 3
    space.mprotect(0, 2, 'rw'); // one event
    expect(space.dump(0, 3)).toBe('hz.');
    space.write(at(0), Uint8Array.of(2)); // miss 4, no fault
    expect(machine.counters()).toMatchObject({ invalidations: 2, faults: { cpu: 2 }, tlb: { cpu: { hit: 0, miss: 4 } } });
  });

  test('without any right the frame stays and nobody reaches it', () => {
    const { space, context } = smallMirror();
    space.write(at(0), Uint8Array.of(1));
    context.submit([load(0)], 1);
    space.mprotect(0, 1, 'none');
    expect(space.read(at(0), 1)).toEqual({ reason: 'segfault', addr: at(0) });
    expect(context.submit([load(0)], 1).cancelled).toEqual([0]);
    space.mprotect(0, 1, 'r');
    expect(space.dump(0, 1)).toBe('r');
    expect(space.read(at(0), 1)).toEqual(Uint8Array.of(1));
  });

  test('says nothing when nothing changes, and once when one of several parts does', () => {
    const { machine, space } = smallMirror();
    space.mprotect(0, 64, 'rw');
    expect(machine.counters().invalidations).toBe(0);
    space.mprotect(8, 4, 'r');
    space.mprotect(0, 64, 'r');
    space.mprotect(0, 100, 'r'); // reaches past the VMA, changes nothing
    expect(machine.counters().invalidations).toBe(2);
  });

  test('leaves a device page where it is, read-only for good', () => {
    const { machine, space, context } = smallNouveau();
    context.submit([store(0, 5)], 1); // batch 1, two events, miss 1
    space.mprotect(0, 1, 'r'); // 3
    space.mprotect(0, 1, 'rw'); // 4
    expect(space.dump(0, 1)).toBe('d');
    expect(context.submit([load(0)], 1).lo[0]).toBe(5); // only the right to write went: no fault, miss 2
    expect(machine.counters()).toMatchObject({ invalidations: 4, migrated: { 'nouveau.vram': { dram: { pages: 0 } } } });

    // A device write goes through host memory: home (5), writable again, back as a host page (6).
    context.submit([store(0, 6)], 1);
    expect(space.dump(0, 1)).toBe('D');
    expect(machine.counters()).toMatchObject({
      invalidations: 6,
      faults: { cpu: 0, devices: { nouveau: 2 } },
      migrated: { dram: { 'nouveau.vram': { pages: 1 } }, 'nouveau.vram': { dram: { pages: 1 } } },
      detail: { batches: 2, cleared: 1, cpuFaults: { home: 0, reuse: 0 } },
    });
    checkMachine(machine);
  });

  test('a CPU write to a read-only device page brings it home and then takes it as it is', () => {
    const { machine, space, context } = smallNouveau();
    context.submit([load(0)], 1);
    space.mprotect(0, 1, 'r');
    space.mprotect(0, 1, 'rw');
    space.write(at(0), Uint8Array.of(1));
    expect(space.dump(0, 1)).toBe('h');
    expect(machine.counters().detail.cpuFaults).toEqual({ zero: 0, demand: 0, cow: 0, reuse: 1, home: 1 });
  });

  test('a device write to a read-only host page makes it writable first, and then moves it', () => {
    const { machine, space, context } = smallNouveau();
    context.submit([load(0)], 1);
    space.mprotect(0, 1, 'r');
    space.mprotect(0, 1, 'rw');
    space.read(at(0), 1);
    expect(space.dump(0, 1)).toBe('r');
    context.submit([store(0, 1)], 1);
    expect(space.dump(0, 1)).toBe('D');
    expect(machine.counters()).toMatchObject({
      faults: { cpu: 1 },
      detail: { batches: 2, cleared: 1, migratedByCause: { fault: 1, home: 1, evict: 0 } },
    });
  });
});

describe('munmap', () => {
  test('frees frames on both sides, tells every context once, and cuts the VMA', () => {
    const { machine, space, device, context } = smallNouveau();
    space.write(at(0), Uint8Array.of(1));
    context.submit([load(1)], 1); // two events
    space.write(at(2), Uint8Array.of(1));
    space.munmap(0, 2); // 3
    expect(space.dump(0, 4)).toBe('--h.');
    expect([machine.host.used, device.vram.used, context.table.size]).toEqual([1, 0, 0]);
    space.munmap(0, 2); // nothing there
    expect(machine.counters().invalidations).toBe(3);
    expect(space.read(at(1), 1)).toEqual({ reason: 'segfault', addr: at(1) });
    space.mmap(0, 2, 'r');
    expect(space.read(at(0), 1)).toEqual(Uint8Array.of(0));
    checkMachine(machine);
  });

  test('gives device frames back to their chunks', () => {
    const { machine, space, context } = smallNouveau({ vramPages: 4 });
    context.submit([load(0), load(1), load(2), load(3)], 4);
    space.munmap(2, 1);
    context.submit([load(5)], 1); // into chunk 2, without an eviction
    expect(space.dump(0, 6)).toBe('DD-D.D');
    expect(machine.counters().evictions).toBe(0);
  });
});

test('dontneed forgets the bytes and keeps the VMA', () => {
  const { machine, space, device, context } = smallNouveau();
  space.write(at(0), Uint8Array.of(1));
  context.submit([store(1, 1)], 1); // two events
  space.dontneed(0, 2); // 3
  expect(space.dump(0, 2)).toBe('..');
  expect([machine.host.used, device.vram.used]).toEqual([0, 0]);
  expect(context.submit([load(1)], 1).lo[0]).toBe(0);
  expect(space.read(at(0), 1)).toEqual(Uint8Array.of(0));
  expect(machine.counters()).toMatchObject({ invalidations: 5, detail: { batches: 2 } });
});

test('neighbours with equal rights are one VMA: a granule reaches across them', () => {
  const { machine, space } = smallNouveau();
  const device = machine.addNouveau({ name: 'second', vramPages: 64, granulePages: 16, faultEntries: 256 });
  const context = machine.attach(space, device);
  space.munmap(16, 48);
  space.mprotect(4, 4, 'r');
  context.submit([load(0)], 1);
  expect(space.dump(0, 16)).toBe('DDDD............');
  space.mprotect(4, 4, 'rw');
  context.submit([load(8)], 1);
  expect(space.dump(0, 16)).toBe('D'.repeat(16));
});

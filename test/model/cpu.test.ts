import { expect, test } from 'vitest';
import { checkMachine } from '../../sdk/testing/model/check.ts';
import { at, smallMachine } from './small-machine.ts';

test('the first write to a page finds a hole and gets a frame of zeros', () => {
  const { machine, space } = smallMachine();
  expect(space.write(at(1) + 5, Uint8Array.of(7))).toBeUndefined();
  expect(space.read(at(1) + 4, 3)).toEqual(Uint8Array.of(0, 7, 0));
  expect(space.dump(0, 3)).toBe('.h.');

  // The write faults once, is retried and walks; the read hits.
  const { faults, tlb, frames, detail, accesses } = machine.counters();
  expect(faults.cpu).toBe(1);
  expect(detail.cpuFaults).toEqual({ zero: 0, demand: 1, cow: 0, reuse: 0, home: 0 });
  expect(tlb.cpu).toEqual({ hit: 1, miss: 1 });
  expect(frames).toEqual({ dram: { peak: 1 } });
  expect(accesses).toEqual({ cpu: 2, device: 0, read: 1, write: 1 });
});

test('a page read first is the page of zeros, which costs no frame, and the first write replaces it', () => {
  const { machine, space } = smallMachine();
  expect(space.read(at(2), 2)).toEqual(Uint8Array.of(0, 0));
  expect(space.dump(2, 1)).toBe('z');
  expect(machine.counters().frames).toEqual({ dram: { peak: 0 } });
  space.write(at(2), Uint8Array.of(9));
  expect(space.dump(2, 1)).toBe('h');

  // Nobody is attached, so the notifier event of the cow is delivered to nobody. The read walks; the write, after its fault, walks again.
  const { detail, tlb, invalidations } = machine.counters();
  expect(detail.cpuFaults).toEqual({ zero: 1, demand: 0, cow: 1, reuse: 0, home: 0 });
  expect(tlb.cpu).toEqual({ hit: 0, miss: 2 });
  expect(invalidations).toBe(0);
  expect(space.read(at(2), 2)).toEqual(Uint8Array.of(9, 0));
});

test('an access that crosses pages executes once both are there, and touches two', () => {
  const { machine, space } = smallMachine();
  space.read(at(0), 1); // zero, miss 1
  // Pages 0 and 1, as one access: cow on 0, then demand on 1, one fault for each try; then two walks.
  expect(space.cpu.access(at(1) - 2, 4, true, Uint8Array.of(1, 2, 3, 4))).toBeUndefined();
  const { detail, tlb, accesses } = machine.counters();
  expect(detail.cpuFaults).toEqual({ zero: 1, demand: 1, cow: 1, reuse: 0, home: 0 });
  expect(tlb.cpu).toEqual({ hit: 0, miss: 3 });
  expect(accesses).toEqual({ cpu: 2, device: 0, read: 1, write: 1 });
  expect(space.read(at(1) - 2, 4)).toEqual(Uint8Array.of(1, 2, 3, 4));
});

test('a failing half leaves the other half of a crossing access undone', () => {
  const { machine, space } = smallMachine({ mapped: 1 });
  expect(space.cpu.access(at(1) - 2, 4, true, Uint8Array.of(1, 2, 3, 4))).toEqual({ reason: 'segfault', addr: at(1) - 2 });
  expect(space.read(at(1) - 2, 2)).toEqual(Uint8Array.of(0, 0));
  // Page 0 was populated before page 1 was looked at. The segmentation fault is no counted fault.
  expect(machine.counters().faults.cpu).toBe(1);
});

test('a range is one access per page, and stops where the VMA ends', () => {
  const { machine, space } = smallMachine({ mapped: 2 });
  const data = new Uint8Array(3 * 4096).fill(5);
  expect(space.write(at(0) + 4090, data)).toEqual({ reason: 'segfault', addr: at(2) });
  expect(machine.counters().accesses).toEqual({ cpu: 2, device: 0, read: 0, write: 2 });
  expect(space.read(at(0) + 4088, 4)).toEqual(Uint8Array.of(0, 0, 5, 5));
  expect(space.read(at(1), 8192)).toEqual({ reason: 'segfault', addr: at(2) });
});

test('a set of the TLB keeps the four pages used last', () => {
  const { space, machine } = smallMachine({ mapped: 2048 });
  // Pages 0, 256, 512, 768 fill set 0; 0 is used again; 1024 pushes out 256.
  for (const vpn of [0, 256, 512, 768]) space.read(at(vpn), 1); // miss 4
  space.read(at(0), 1); // hit 1
  space.read(at(1024), 1); // miss 5
  space.read(at(0), 1); // hit 2
  space.read(at(256), 1); // miss 6, pushes out 512
  space.read(at(768), 1); // hit 3
  expect(machine.counters().tlb.cpu).toEqual({ hit: 3, miss: 6 });
});

test('without a free frame a write fails, its fault is counted, and nothing else changes', () => {
  const { machine, space } = smallMachine({ dramPages: 1 });
  space.write(at(0), Uint8Array.of(1));
  space.read(at(1), 1);
  expect(space.write(at(1), Uint8Array.of(1))).toEqual({ reason: 'no-memory', addr: at(1) });
  expect(space.write(at(2), Uint8Array.of(1))).toEqual({ reason: 'no-memory', addr: at(2) });
  expect(space.dump(0, 3)).toBe('hz.');
  expect(machine.counters().detail.cpuFaults).toEqual({ zero: 1, demand: 2, cow: 1, reuse: 0, home: 0 });
  checkMachine(machine);
});

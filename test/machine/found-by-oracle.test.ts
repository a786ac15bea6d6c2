import { afterEach, beforeEach, expect, test } from 'vitest';
import { type AddressSpace, type Machine, MiB } from 'farfault';
import { defineDriver, type Driver } from 'farfault/gmem';
import { expectClean, PAGE, smallMachine } from './probe.ts';

const HUGE = 2 * MiB;

let machine: Machine;
let space: AddressSpace;

beforeEach(() => {
  machine = smallMachine({ dram: 16 * MiB });
  space = machine.createAddressSpace();
});

afterEach(() => {
  expectClean(machine);
  machine.close();
});

test('a page that a driver inserts where there is no right at all is protnone until there is one', () => {
  const range = space.mmap({ bytes: PAGE, special: 'mixed', prot: 'none' });
  space.insertPage(range.start, Uint8Array.of(7));
  expect(space.dump(range)).toBe('n');
  expect(() => space.read(range.start, 1)).toThrow(expect.objectContaining({ code: 'EFAULT' }));
  space.mprotect(range, 'r');
  expect(space.read(range.start, 1)[0]).toBe(7);
});

test('a mapping does not move onto a part of a huge page that is never split: EINVAL, and nothing has changed', () => {
  const huge = space.mmap({ bytes: HUGE, hugetlb: HUGE });
  space.write(huge.start + PAGE, Uint8Array.of(1));
  const range = space.mmap({ bytes: 2 * PAGE });
  space.write(range.start, Uint8Array.of(2));
  expect(() => space.mremap(range, { bytes: PAGE, mayMove: true, to: huge.start })).toThrow(expect.objectContaining({ code: 'EINVAL' }));
  expect(space.read(huge.start + PAGE, 1)[0]).toBe(1);
  expect(space.read(range.start, 1)[0]).toBe(2);
  expect(space.dump(range)).toBe('H.');
});

test('a device that leaves a space takes nothing along, be it exclusive to another device, and behind other pages', () => {
  const driver = defineDriver(({ name = 'apu', kind = 'coherent' }: { name?: string; kind?: 'coherent' | 'private' }): Driver => ({
    name,
    memory: [{ name: 'hbm', kind, bytes: 16 * PAGE }],
    atomics: ['exclusive'],
    attach: () => ({}),
  }));
  const apu = machine.addDevice(driver());
  const other = machine.createAddressSpace();
  other.attach(apu);
  const context = space.attach(apu);
  const gpu = space.attach(machine.addDevice(driver({ name: 'gpu', kind: 'private' })));
  const range = space.mmap({ bytes: 4 * PAGE });
  for (let page = 0; page < 4; page++) context.write(range.start + page * PAGE, Uint8Array.of(page));
  gpu.atomic(range.start + 2 * PAGE, { op: 'add', bytes: 4, operand: 5 });
  expect(space.dump(range)).toBe('CCxC');
  context.detach();
  expect(space.dump(range)).toBe('HHHH');
  expect(machine.nodes.find(({ name }) => name === 'apu.hbm')!.used).toBe(0);
  expect(space.read(range.start + 2 * PAGE, 1)[0]).toBe(7);
  other.close();
});

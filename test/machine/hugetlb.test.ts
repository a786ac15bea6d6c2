import { afterEach, beforeEach, expect, test } from 'vitest';
import { type AddressRange, type AddressSpace, isFarfaultError, type Machine, MiB } from 'farfault';
import { HMM_VALID, HMM_WRITE, MakeExclusive } from 'farfault/mm';
import { expectClean, PAGE, Probe, smallMachine, used } from './probe.ts';

const HUGE = 2 * MiB;

let machine: Machine;
let space: AddressSpace;
let range: AddressRange;

function refused(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    if (!isFarfaultError(error)) throw error;
    return `${error.code}: ${error.message}`;
  }
  return 'nothing thrown';
}

const high = (addr: number, of = space): number => of.snapshotHmm({ start: addr, end: addr + PAGE })[1]! >>> 0;
const order = (addr: number): number => (space.snapshot({ start: addr, end: addr + PAGE })[1]! >>> 8) & 0x1f;

beforeEach(() => {
  machine = smallMachine({ dram: 8 * MiB });
  space = machine.createAddressSpace();
  range = space.mmap({ bytes: 2 * HUGE, hugetlb: HUGE });
});

afterEach(() => {
  for (const each of [...machine.platform.spaces.values()]) each.close();
  expect(used(machine)).toMatch(/^(\S+ 0(, )?)+$/);
  expectClean(machine);
  machine.close();
});

test('one touch brings a whole huge page; a read first, and the write comes in place', () => {
  expect(space.read(range.start + 5 * PAGE, 1)[0]).toBe(0);
  expect([order(range.start + 511 * PAGE), used(machine), high(range.start) & HMM_WRITE]).toEqual([9, 'dram 512', 0]);
  space.write(range.start + 9 * PAGE, Uint8Array.of(1));
  expect([high(range.start) >= HMM_VALID, (high(range.start) & HMM_WRITE) !== 0, used(machine)]).toEqual([true, true, 'dram 512']);
});

test('after fork the first write copies the whole huge page', () => {
  space.write(range.start + 5 * PAGE, Uint8Array.of(1));
  space.write(range.start + 6 * PAGE, Uint8Array.of(2));
  const child = space.fork();
  expect(used(machine)).toBe('dram 512');
  child.write(range.start + 5 * PAGE, Uint8Array.of(9));
  expect(used(machine)).toBe('dram 1024');
  expect([5, 6].map((page) => [space.read(range.start + page * PAGE, 1)[0], child.read(range.start + page * PAGE, 1)[0]])).toEqual([
    [1, 9],
    [2, 2],
  ]);
  space.write(range.start, Uint8Array.of(3));
  expect([used(machine), order(range.start), machine.verify()]).toEqual(['dram 1024', 9, undefined]);
});

test('munmap, mprotect and madvise take whole huge pages only', () => {
  space.write(range.start, Uint8Array.of(1));
  const verbs: [string, (part: AddressRange) => void][] = [
    ['munmap', (part) => space.munmap(part)],
    ['mprotect', (part) => space.mprotect(part, 'r')],
    ['madvise', (part) => space.madvise(part, 'dontneed')],
  ];
  for (const [verb, act] of verbs) {
    expect(refused(() => act({ start: range.start + PAGE, end: range.end }))).toMatch(
      new RegExp(`^EINVAL: ${verb}.range.start .* cuts a huge page`),
    );
    expect(refused(() => act({ start: range.start, end: range.start + PAGE }))).toMatch(
      new RegExp(`^EINVAL: ${verb}.range.end .* cuts a huge page`),
    );
  }
  const first = { start: range.start, end: range.start + HUGE };
  space.mprotect(first, 'r');
  expect([order(range.start), space.tryWrite(range.start, Uint8Array.of(1)).status]).toEqual([9, 'permission']);
  space.mprotect(first, 'rw');
  space.write(range.start, Uint8Array.of(2));
  space.madvise(first, 'dontneed');
  expect([used(machine), space.read(range.start, 1)[0]]).toEqual(['dram 0', 0]);
  space.munmap(first);
  expect([used(machine), refused(() => space.read(range.start, 1)).slice(0, 6)]).toEqual(['dram 0', 'EFAULT']);
});

test('without a free huge page a touch is a bus error, and works when there is one again', () => {
  const hog = space.mmap({ bytes: 4 * HUGE, align: HUGE });
  for (let addr = hog.start; addr < hog.end; addr += HUGE) space.write(addr, new Uint8Array(HUGE - 64 * PAGE).fill(1));
  expect([
    refused(() => space.read(range.start, 1)).slice(0, 3),
    refused(() => space.write(range.start, Uint8Array.of(1))).slice(0, 3),
  ]).toEqual(['EIO', 'EIO']);
  space.munmap(hog);
  space.write(range.start, Uint8Array.of(1));
  expect(order(range.start)).toBe(9);
});

test('a device reads and writes it in the host’s memory; it neither migrates nor becomes exclusive', () => {
  const context = space.attach(machine.addDevice(new Probe().driver));
  context.write(range.start + 3 * PAGE, Uint8Array.of(8));
  expect([space.read(range.start + 3 * PAGE, 1)[0], used(machine)]).toEqual([8, 'dram 512, probe.ram 0']);
  const step = new MakeExclusive(machine.platform).of(space, range.start / PAGE, 0, {}, () => undefined);
  machine.platform.scheduler.runSync(step);
  expect(step.outcome).toBe('not supported');
  expect([refused(() => context.migrate(range, { to: 'device' })), used(machine)]).toEqual([expect.any(String), 'dram 512, probe.ram 0']);
  expect([order(range.start), context.read(range.start + 3 * PAGE, 1)[0]]).toEqual([9, 8]);
});

test('a pin holds it, and it outlives the mapping', () => {
  space.write(range.start, Uint8Array.of(4));
  const pin = space.pin({ start: range.start, end: range.start + PAGE }, { write: true });
  space.munmap(range);
  expect([pin.read(0, 1)[0], used(machine)]).toEqual([4, 'dram 512']);
  pin.unpin();
});

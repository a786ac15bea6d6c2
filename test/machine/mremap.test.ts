import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type AddressRange, type AddressSpace, type Context, GiB, isFarfaultError, type Machine, MiB, type MremapOptions } from 'farfault';
import { defineDriver } from 'farfault/gmem';
import { MakeExclusive } from 'farfault/mm';
import { expectClean, PAGE, Probe, smallMachine, used } from './probe.ts';

const HUGE = 2 * MiB;
/** A place where nothing is mapped, in a table page of its own. */
const FAR = 64 * GiB;

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

const part = (first: number, end: number): AddressRange => ({ start: range.start + first * PAGE, end: range.start + end * PAGE });
const order = (addr: number): number => (space.snapshot({ start: addr, end: addr + PAGE })[1]! >>> 8) & 0x1f;
const bytes = (from: AddressRange, pages: number): number[] =>
  Array.from({ length: pages }, (_, page) => space.read(from.start + page * PAGE, 1)[0]!);

beforeEach(() => {
  machine = smallMachine({ dram: 8 * MiB, deviceMemory: 4 * MiB });
  space = machine.createAddressSpace();
  range = space.mmap({ bytes: 4 * PAGE });
  for (let page = 0; page < 4; page++) space.write(range.start + page * PAGE, Uint8Array.of(page + 1));
});

afterEach(() => {
  for (const each of [...machine.platform.spaces.values()]) each.close();
  expect(used(machine)).toMatch(/^(\S+ 0(, )?)+$/);
  expectClean(machine);
  machine.close();
});

describe('a length', () => {
  test('that is the same changes nothing', () => {
    expect(space.mremap(range, {})).toEqual(range);
    expect([bytes(range, 4), machine.counters.invalidations]).toEqual([[1, 2, 3, 4], 0]);
  });

  test('that is shorter unmaps the tail', () => {
    expect(space.mremap(range, { bytes: PAGE + 1 })).toEqual(part(0, 2));
    expect([space.dump(range), used(machine)]).toEqual(['HH--', 'dram 2']);
  });

  test('that is longer is had in place where there is room, one mapping', () => {
    expect(space.mremap(range, { bytes: 6 * PAGE })).toEqual(part(0, 6));
    expect([space.dump(part(0, 7)), space.vmas.size]).toEqual(['HHHH..-', 1]);
  });

  test('that is longer needs leave to move where there is none', () => {
    space.mmap({ bytes: PAGE, at: range.end, fixed: true, prot: 'r' });
    expect(refused(() => space.mremap(range, { bytes: 6 * PAGE }))).toMatch(/^ENOMEM: mremap.bytes .* has no room where the mapping is/);
    expect(space.dump(range)).toBe('HHHH');
    const moved = space.mremap(range, { bytes: 6 * PAGE, mayMove: true });
    expect(moved.start).not.toBe(range.start);
    expect([space.dump(moved), space.dump(range), bytes(moved, 4)]).toEqual(['HHHH..', '----', [1, 2, 3, 4]]);
  });

  test('that is longer moves the middle of a mapping, and its sides stay', () => {
    const moved = space.mremap(part(1, 3), { bytes: 3 * PAGE, mayMove: true });
    expect([space.dump(range), space.dump(moved), bytes(moved, 3)]).toEqual(['H--H', 'HH.', [2, 3, 0]]);
  });

  test('that is longer than all there is, is refused', () => {
    expect(refused(() => space.mremap(range, { bytes: 2 ** 48, mayMove: true }))).toMatch(/^ENOMEM: mremap.bytes .* has no gap/);
    expect(space.dump(range)).toBe('HHHH');
  });
});

describe('a place', () => {
  test('is taken from what is mapped there', () => {
    const there = space.mmap({ bytes: 6 * PAGE, at: FAR, fixed: true, prot: 'r' });
    space.read(there.start, 6 * PAGE);
    expect(space.mremap(range, { mayMove: true, to: FAR + PAGE })).toEqual({ start: FAR + PAGE, end: FAR + 5 * PAGE });
    expect([space.dump(there), space.dump(range)]).toEqual(['zHHHHz', '----']);
    expect(space.vmas.size).toBe(3);
  });

  test('goes with a shorter length, or a longer one', () => {
    const short = space.mremap(range, { bytes: 2 * PAGE, mayMove: true, to: FAR });
    expect([space.dump(short), space.dump(range), used(machine)]).toEqual(['HH', '----', 'dram 2']);
    const long = space.mremap(short, { bytes: 4 * PAGE, mayMove: true, to: FAR + 16 * PAGE });
    expect(space.dump(long)).toBe('HH..');
  });

  test('with the old range kept leaves it empty', () => {
    const moved = space.mremap(range, { mayMove: true, dontUnmap: true });
    expect([space.dump(range), space.dump(moved), bytes(range, 2), bytes(moved, 4)]).toEqual(['....', 'HHHH', [0, 0], [1, 2, 3, 4]]);
    const back = space.mremap(moved, { mayMove: true, dontUnmap: true, to: range.start });
    expect([bytes(back, 4), space.dump(moved)]).toEqual([[1, 2, 3, 4], '....']);
  });

  test('keeps rights and marks', () => {
    space.madvise(part(1, 3), 'dontfork');
    space.mprotect(part(1, 3), 'r');
    const moved = space.mremap(part(1, 3), { mayMove: true, to: FAR });
    const { prot, flags } = space.vmas.find(moved.start / PAGE)!;
    expect([prot, flags & 16, space.dump(moved)]).toEqual([1, 16, 'hh']);
  });
});

const bad: [string, () => AddressRange, MremapOptions | (() => MremapOptions), RegExp][] = [
  ['no options', () => range, 5 as never, /^EINVAL: mremap options 5 are not an object/],
  ['no range', () => ({ start: 1, end: 2 }), {}, /^EINVAL: mremap.range.start 1 is not page-aligned/],
  ['no length', () => range, { bytes: 0 }, /^EINVAL: mremap.bytes 0 is not a length/],
  [
    'a length beyond all addresses',
    () => range,
    { bytes: 2 ** 48 + PAGE, mayMove: true },
    /^EINVAL: mremap.bytes 281474976714752 is not a length/,
  ],
  ['half a place', () => range, { mayMove: true, to: 5 }, /^EINVAL: mremap.to 5 is not page-aligned/],
  ['a place without leave to move', () => range, { to: FAR }, /^EINVAL: mremap.to .* needs mayMove/],
  ['a place in the range', () => range, () => ({ mayMove: true, to: range.start + PAGE }), /^EINVAL: mremap.to .* overlaps the range/],
  ['a place at the end', () => range, { mayMove: true, to: 2 ** 48 - PAGE }, /^EINVAL: mremap.to .* leaves no room/],
  ['keeping without leave to move', () => range, { dontUnmap: true }, /^EINVAL: mremap.dontUnmap .* needs mayMove/],
  [
    'keeping and another length',
    () => range,
    { mayMove: true, dontUnmap: true, bytes: PAGE },
    /^EINVAL: mremap.dontUnmap .* needs mayMove, and the length/,
  ],
  ['nothing', () => ({ start: FAR, end: FAR + PAGE }), {}, /^EFAULT: mremap.range .* is not inside one mapping/],
  ['more than one mapping', () => part(0, 5), { bytes: PAGE }, /^EFAULT: mremap.range .* is not inside one mapping/],
];

test.each(bad)('mremap of %s is refused, and nothing changes', (_, from, options, message) => {
  expect(refused(() => space.mremap(from(), typeof options === 'function' ? options() : options))).toMatch(message);
  expect([space.dump(range), machine.pending, machine.verify()]).toEqual(['HHHH', [], undefined]);
});

describe('what moves', () => {
  let context: Context;
  let probe: Probe;
  beforeEach(() => {
    probe = new Probe();
    context = space.attach(machine.addDevice(probe.driver));
  });

  test('leaves the device’s table, stays in its memory, and is found at the new place', () => {
    for (let page = 0; page < 4; page++) context.write(range.start + page * PAGE, Uint8Array.of(page + 11));
    const moved = space.mremap(range, { mayMove: true, to: FAR });
    expect([space.dump(moved), used(machine)]).toEqual(['DDDD', 'dram 0, probe.ram 4']);
    expect(() => context.read(range.start, 1)).toThrow();
    expect(context.read(moved.start + PAGE, 1)[0]).toBe(12);
    expect([bytes(moved, 4), space.dump(moved)]).toEqual([[11, 12, 13, 14], 'HHHH']);
  });

  test('stays exclusive, though its device has to look again', () => {
    machine.platform.scheduler.runSync(new MakeExclusive(machine.platform).of(space, range.start / PAGE, 0, {}, () => undefined));
    expect(space.dump(range)).toBe('xHHH');
    const moved = space.mremap(range, { mayMove: true, to: FAR });
    expect(space.dump(moved)).toBe('xHHH');
    expect([bytes(moved, 1), space.dump(moved)]).toEqual([[1], 'HHHH']);
  });

  test('stays shared with a child', () => {
    const child = space.fork();
    const moved = space.mremap(range, { mayMove: true, to: FAR });
    space.write(moved.start, Uint8Array.of(9));
    expect([space.dump(moved), child.dump(range), child.read(range.start, 1)[0]]).toEqual(['Hhhh', 'hhhh', 1]);
  });

  test('keeps the place in its file, and in shared memory', () => {
    const file = machine.createFile({ content: Uint8Array.from({ length: 4 * PAGE }, (_, i) => Math.floor(i / PAGE) + 1) });
    const mapped = space.mmap({ bytes: 4 * PAGE, file, shared: true });
    space.write(mapped.start + 2 * PAGE, Uint8Array.of(33));
    const moved = space.mremap({ start: mapped.start + 2 * PAGE, end: mapped.end }, { mayMove: true, to: FAR });
    expect([space.dump(moved), bytes(moved, 2), space.dump(mapped)]).toEqual(['F.', [33, 4], '..--']);
    space.munmap(mapped);
    space.munmap(moved);
    file.close();
    const shared = space.mmap({ bytes: PAGE, shared: true });
    space.write(shared.start, Uint8Array.of(3));
    const kept = space.mremap(shared, { mayMove: true, dontUnmap: true });
    expect([bytes(kept, 1), bytes(shared, 1)]).toEqual([[3], [3]]);
  });

  test('waits for a device that flushes late', async () => {
    context.write(range.start, Uint8Array.of(11));
    probe.slow.add('invalidate');
    const done = space.mremapAsync(range, { mayMove: true, to: FAR });
    await Promise.resolve();
    expect([probe.unfinished, space.dump(range)]).toEqual([1, 'DHHH']);
    probe.slow.clear();
    probe.finish();
    const moved = await done;
    expect([space.dump(moved), space.dump(range)]).toEqual(['DHHH', '----']);
  });

  test('that was left unfinished goes on when the device has flushed', () => {
    context.write(range.start, Uint8Array.of(11));
    probe.slow.add('invalidate');
    expect(refused(() => space.mremap(range, { mayMove: true, to: FAR }))).toMatch(/^EBUSY/);
    probe.slow.clear();
    probe.finish();
    expect(space.dump({ start: FAR, end: FAR + 4 * PAGE })).toBe('DHHH');
  });
});

describe('a huge page', () => {
  let huge: AddressRange;
  beforeEach(() => {
    huge = space.mmap({ bytes: HUGE, align: HUGE });
    space.madvise(huge, 'hugepage');
    space.write(huge.start + 5 * PAGE, Uint8Array.of(7));
    expect(order(huge.start)).toBe(9);
  });

  test('stays one where both places are aligned', () => {
    const moved = space.mremap(huge, { mayMove: true, to: FAR });
    expect([order(moved.start), space.read(moved.start + 5 * PAGE, 1)[0]]).toEqual([9, 7]);
  });

  test('is split where they are not, or where a part moves', () => {
    const moved = space.mremap(huge, { mayMove: true, to: FAR + PAGE });
    expect([order(moved.start), space.read(moved.start + 5 * PAGE, 1)[0]]).toEqual([0, 7]);
    const half = space.mremap({ start: moved.start + 4 * PAGE, end: moved.start + 8 * PAGE }, { mayMove: true, to: 2 * FAR });
    expect(space.read(half.start + PAGE, 1)[0]).toBe(7);
  });

  test('is cut by a shorter length', () => {
    space.mremap(huge, { bytes: 6 * PAGE });
    expect([order(huge.start), used(machine), space.read(huge.start + 5 * PAGE, 1)[0]]).toEqual([0, 'dram 10', 7]);
  });

  test('that is never split moves and shrinks by whole ones only', () => {
    const fixed = space.mmap({ bytes: 2 * HUGE, hugetlb: HUGE });
    space.write(fixed.start, Uint8Array.of(1));
    for (const options of [{ bytes: 3 * HUGE, mayMove: true }, { bytes: PAGE }, { mayMove: true, to: FAR + PAGE }] as MremapOptions[])
      expect(refused(() => space.mremap(fixed, options))).toMatch(/^EINVAL: mremap.range .* is of huge pages, and can only move/);
    for (const cut of [
      { start: fixed.start, end: fixed.end - PAGE },
      { start: fixed.start + PAGE, end: fixed.end },
    ])
      expect(refused(() => space.mremap(cut, { bytes: HUGE, mayMove: true, to: FAR }))).toMatch(
        /^EINVAL: mremap.range .* is of huge pages, and can only move/,
      );
    const moved = space.mremap(fixed, { bytes: HUGE, mayMove: true, to: FAR });
    expect([order(moved.start), moved.end - moved.start]).toEqual([9, HUGE]);
    expect(refused(() => space.mremap(range, { mayMove: true, to: FAR + 8 * PAGE }))).toMatch(
      /^EINVAL: mremap.to .* cuts a huge page that is never split/,
    );
    expect(space.dump(range)).toBe('HHHH');
  });
});

test('coherent pages move without a word to the CPU', () => {
  const driver = defineDriver(() => ({
    name: 'apu',
    memory: [{ name: 'hbm', kind: 'coherent' as const, bytes: 8 * PAGE }],
    granuleBytes: PAGE,
    attach: () => ({}),
  }));
  const context = space.attach(machine.addDevice(driver({})));
  context.migrate(range, { to: 'device' });
  const moved = space.mremap(range, { mayMove: true, to: FAR });
  expect([space.dump(moved), bytes(moved, 4)]).toEqual(['CCCC', [1, 2, 3, 4]]);
});

test('without a table page at the new place everything is back', () => {
  const small = smallMachine({ tablePages: 10 });
  const poor = small.createAddressSpace();
  const mapped = poor.mmap({ bytes: 8 * PAGE, at: 1024 * PAGE - 4 * PAGE + 256 * MiB, fixed: true });
  for (let addr = mapped.start; addr < mapped.end; addr += PAGE) poor.write(addr, Uint8Array.of(6));
  let last = '';
  // Pages of tables are used up from far places, until a move cannot have one.
  for (let far = 1; far < 12 && !last.startsWith('ENOMEM'); far++) {
    last = refused(() => poor.mremap(mapped, { mayMove: true, dontUnmap: true, to: far * FAR * 8 - 4 * PAGE }));
    if (last === 'nothing thrown') {
      last = refused(() =>
        poor.mremap({ start: far * FAR * 8 - 4 * PAGE, end: far * FAR * 8 + 4 * PAGE }, { mayMove: true, to: mapped.start }),
      );
      const hold = poor.mmap({ bytes: PAGE, at: far * FAR * 8 + 256 * MiB, fixed: true });
      if (refused(() => poor.write(hold.start, Uint8Array.of(1))) !== 'nothing thrown') poor.munmap(hold);
    }
  }
  expect(last).toMatch(/^ENOMEM: mremap.range .* needs a table page at its new place/);
  expect(poor.dump(mapped)).toBe('HHHHHHHH');
  expect(poor.read(mapped.start + 7 * PAGE, 1)[0]).toBe(6);
  expectClean(small);
  poor.close();
  small.close();
});

import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import {
  type AddressRange,
  type AddressSpace,
  type Advice,
  type Context,
  isFarfaultError,
  type Machine,
  MiB,
  type MmapOptions,
} from 'farfault';
import { MakeExclusive } from 'farfault/mm';
import { expectClean, PAGE, Probe, smallMachine, used } from './probe.ts';

const HUGE = 2 * MiB;

let machine: Machine;
let space: AddressSpace;
let probe: Probe;
let context: Context;

function refused(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    if (!isFarfaultError(error)) throw error;
    return `${error.code}: ${error.message}`;
  }
  return 'nothing thrown';
}

const order = (addr: number): number => (space.snapshot({ start: addr, end: addr + PAGE })[1]! >>> 8) & 0x1f;

beforeEach(() => {
  machine = smallMachine({ dram: 8 * MiB, deviceMemory: 4 * MiB });
  space = machine.createAddressSpace();
  probe = new Probe();
  context = space.attach(machine.addDevice(probe.driver));
});

afterEach(() => {
  for (const each of [...machine.platform.spaces.values()]) each.close();
  expect(used(machine)).toMatch(/^(\S+ 0(, )?)+$/);
  expectClean(machine);
  machine.close();
});

const ADVICE: readonly Advice[] = ['dontneed', 'free', 'nohugepage', 'hugepage', 'collapse', 'dontfork', 'dofork'];
const kinds: [string, () => Partial<MmapOptions>, string][] = [
  ['private anonymous memory', () => ({}), 'dontneed free nohugepage hugepage collapse dontfork dofork'],
  ['shared anonymous memory', () => ({ shared: true }), 'dontneed nohugepage hugepage dontfork dofork'],
  ['huge pages', () => ({ hugetlb: HUGE }), 'dontneed dontfork dofork'],
  ['a mixed mapping', () => ({ special: 'mixed' }), 'dontneed dontfork'],
  ['page numbers', () => ({ special: 'pfn' }), 'dontfork'],
  ['registers', () => ({ special: 'io' }), 'dontfork'],
];

test.each(kinds)('%s takes the advice that it can, and refuses all other', (_, options, taken) => {
  const range = space.mmap({ bytes: HUGE, align: HUGE, ...options() });
  const yes = ADVICE.filter((advice) => {
    const said = refused(() => space.madvise(range, advice));
    expect(said).toMatch(/^nothing thrown$|^EINVAL: madvise.range /);
    return said === 'nothing thrown';
  });
  expect(yes.join(' ')).toBe(taken);
});

test('advice is one of the words, on a range that is mapped from end to end', () => {
  const range = space.mmap({ bytes: 2 * PAGE });
  expect(refused(() => space.madvise(range, 'please' as never))).toMatch(
    /^EINVAL: madvise.advice "please" is not one of: 'dontneed', 'free'/,
  );
  expect(refused(() => space.madvise({ start: range.start, end: range.end + PAGE }, 'free'))).toMatch(
    /^EINVAL: madvise.range.start .* has no mapping at/,
  );
  expect(refused(() => space.madvise({ start: range.start, end: range.start }, 'free'))).toMatch(/^EINVAL: madvise.range.end/);
  expect(refused(() => space.madvise(range, 'collapse'))).toMatch(/^EINVAL: madvise.range .* has no whole 2 MiB/);
});

describe('dontneed', () => {
  test('takes pages wherever they are; the next touch finds zeros', () => {
    const range = space.mmap({ bytes: 5 * PAGE });
    for (let page = 0; page < 3; page++) space.write(range.start + page * PAGE, Uint8Array.of(5));
    space.read(range.start + 3 * PAGE, 1);
    context.write(range.start, Uint8Array.of(6));
    machine.platform.scheduler.runSync(new MakeExclusive(machine.platform).of(space, range.start / PAGE + 1, 0, {}, () => undefined));
    expect(space.dump(range)).toBe('DxHz.');
    space.madvise(range, 'dontneed');
    expect([space.dump(range), used(machine)]).toEqual(['.....', 'dram 0, probe.ram 0']);
    expect([space.read(range.start, 1)[0], context.read(range.start + PAGE, 1)[0]]).toEqual([0, 0]);
  });

  test('of a private mapping of a file loses the copy, and shows the file', () => {
    const file = machine.createFile({ content: Uint8Array.of(7) });
    const range = space.mmap({ bytes: PAGE, file });
    space.write(range.start, Uint8Array.of(8));
    space.madvise(range, 'dontneed');
    expect(space.read(range.start, 1)[0]).toBe(7);
    expect(refused(() => space.madvise(range, 'free'))).toMatch(/^EINVAL: madvise.range .* is not private anonymous memory/);
    space.munmap(range);
    file.close();
  });

  test('of part of a huge page splits it', () => {
    const range = space.mmap({ bytes: HUGE, align: HUGE });
    space.madvise(range, 'hugepage');
    space.write(range.start, Uint8Array.of(1));
    space.madvise({ start: range.start + PAGE, end: range.end }, 'dontneed');
    expect([order(range.start), used(machine), space.read(range.start, 1)[0]]).toEqual([0, 'dram 1, probe.ram 0', 1]);
  });

  test('waits for a device that flushes late', async () => {
    const range = space.mmap({ bytes: PAGE });
    context.write(range.start, Uint8Array.of(1));
    probe.slow.add('invalidate');
    const done = space.madviseAsync(range, 'dontneed');
    await Promise.resolve();
    expect([space.dump(range), probe.unfinished]).toEqual(['D', 1]);
    probe.slow.clear();
    probe.finish();
    await done;
    expect(space.dump(range)).toBe('.');
  });
});

describe('free', () => {
  test('takes pages that nobody else holds; shared, pinned and device pages stay', () => {
    const range = space.mmap({ bytes: 4 * PAGE });
    for (let page = 0; page < 4; page++) space.write(range.start + page * PAGE, Uint8Array.of(5));
    const child = space.fork();
    for (const page of [0, 2, 3]) space.write(range.start + page * PAGE, Uint8Array.of(6));
    context.write(range.start + 2 * PAGE, Uint8Array.of(7));
    const pin = space.pin({ start: range.start + 3 * PAGE, end: range.end });
    expect(space.dump(range)).toBe('HhDH');
    space.madvise(range, 'free');
    expect(space.dump(range)).toBe('.hDH');
    expect([space.read(range.start, 1)[0], child.read(range.start, 1)[0]]).toEqual([0, 5]);
    pin.unpin();
  });
});

describe('dontfork and dofork', () => {
  test('say whether a child gets the range', () => {
    const range = space.mmap({ bytes: 2 * PAGE });
    space.write(range.start, Uint8Array.of(5));
    space.madvise({ start: range.start, end: range.start + PAGE }, 'dontfork');
    expect(space.vmas.size).toBe(2);
    expect(space.fork().dump(range)).toBe('-.');
    space.madvise(range, 'dofork');
    expect([space.vmas.size, space.fork().dump(range)]).toEqual([1, 'h.']);
  });

  test('of part of a huge page split it, so that no page is in two mappings', () => {
    const range = space.mmap({ bytes: HUGE, align: HUGE });
    space.madvise(range, 'hugepage');
    space.write(range.start, Uint8Array.of(1));
    const half = { start: range.start, end: range.start + HUGE / 2 };
    expect(order(range.start)).toBe(9);
    space.madvise(half, 'dontfork');
    expect([order(range.start), order(range.end - PAGE), space.vmas.size]).toEqual([0, 0, 2]);
    const child = space.fork();
    expect(child.dump({ start: half.end - PAGE, end: half.end + PAGE })).toBe('-h');
    expect(space.read(range.start, 1)[0]).toBe(1);
  });
});

describe('collapse', () => {
  let range: AddressRange;
  beforeEach(() => {
    range = space.mmap({ bytes: HUGE, align: HUGE });
  });
  const at = (page: number): number => range.start + page * PAGE;

  test('makes one huge page of small ones, holes, zeros, device pages and exclusive ones', () => {
    for (const page of [0, 1, 2, 500]) space.write(at(page), Uint8Array.of(page % 251));
    space.read(at(7), 1);
    context.write(at(1), Uint8Array.of(99));
    machine.platform.scheduler.runSync(new MakeExclusive(machine.platform).of(space, at(2) / PAGE, 0, {}, () => undefined));
    expect(space.dump({ start: at(0), end: at(8) })).toBe('HDx....z');
    space.madvise(range, 'collapse');
    expect([order(at(0)), order(at(511)), used(machine)]).toEqual([9, 9, 'dram 512, probe.ram 0']);
    expect([0, 1, 2, 7, 9, 500].map((page) => space.read(at(page), 1)[0])).toEqual([0, 99, 2, 0, 0, 500 % 251]);
    expect(context.read(at(1), 1)[0]).toBe(99);
  });

  test('of a huge page leaves it', () => {
    space.madvise(range, 'collapse');
    space.write(at(3), Uint8Array.of(3));
    space.madvise(range, 'collapse');
    expect([order(at(0)), space.read(at(3), 1)[0]]).toEqual([9, 3]);
  });

  test('keeps the rights of the mapping', () => {
    space.write(at(0), Uint8Array.of(1));
    space.mprotect(range, 'r');
    space.madvise(range, 'collapse');
    expect([order(at(0)), space.dump({ start: at(0), end: at(2) }), space.tryWrite(at(0), Uint8Array.of(1)).status]).toEqual([
      9,
      'hh',
      'permission',
    ]);
  });

  test('of pages that a child shares, or somebody pins, is busy, and nothing changes', () => {
    space.write(at(0), Uint8Array.of(1));
    const child = space.fork();
    expect(refused(() => space.madvise(range, 'collapse'))).toMatch(/^EBUSY: madvise.range .* has a page that somebody holds or shares/);
    child.close();
    const pin = space.pin({ start: at(0), end: at(1) });
    expect(refused(() => space.madvise(range, 'collapse'))).toMatch(/^EBUSY/);
    pin.unpin();
    expect([order(at(0)), machine.verify()]).toEqual([0, undefined]);
    space.madvise(range, 'collapse');
    expect(order(at(0))).toBe(9);
  });

  test('without a free 2 MiB fails, and nothing changes', () => {
    space.write(at(0), Uint8Array.of(1));
    const hog = space.mmap({ bytes: 4 * HUGE, align: HUGE });
    for (let addr = hog.start; addr < hog.end - 2 * PAGE; addr += PAGE) space.write(addr, Uint8Array.of(1));
    expect(refused(() => space.madvise(range, 'collapse'))).toMatch(/^ENOMEM: madvise.range .* needs a free 2 MiB/);
    expect([space.dump({ start: at(0), end: at(2) }), machine.verify()]).toEqual(['H.', undefined]);
  });

  test('is refused where huge pages are not wanted, and where 2 MiB are more than one mapping', () => {
    space.madvise(range, 'nohugepage');
    expect(refused(() => space.madvise(range, 'collapse'))).toMatch(/^EINVAL: madvise.range .* begins 2 MiB that may not be one huge page/);
    space.madvise(range, 'hugepage');
    space.mprotect({ start: at(9), end: at(10) }, 'r');
    expect(refused(() => space.madvise(range, 'collapse'))).toMatch(/^EINVAL/);
  });

  test('waits for a device that flushes late', async () => {
    const mirror = new Probe({ name: 'mirror', pages: 0 });
    const seen = space.attach(machine.addDevice(mirror.driver));
    seen.write(at(0), Uint8Array.of(4));
    mirror.slow.add('invalidate');
    const done = space.madviseAsync(range, 'collapse');
    await Promise.resolve();
    expect([mirror.unfinished, order(at(0))]).toEqual([1, 0]);
    mirror.slow.clear();
    mirror.finish();
    await done;
    expect([order(at(0)), seen.read(at(0), 1)[0]]).toEqual([9, 4]);
  });
});

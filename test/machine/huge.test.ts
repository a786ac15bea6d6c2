import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type AddressRange, type AddressSpace, type Context, type Machine, MiB } from 'farfault';
import { Fork, MakeExclusive, type PinOptions, PinRange } from 'farfault/mm';
import type { Step } from '../../sdk/step/step.ts';
import { expectClean, PAGE, Probe, smallMachine, used } from './probe.ts';

let machine: Machine;
let space: AddressSpace;
let range: AddressRange;
const HUGE = 2 * MiB;
const HUGE_PAGES = 512;

const run = (step: Step): void => machine.platform.scheduler.runSync(step);
const at = (page: number): number => range.start + page * PAGE;
const byte = (of: AddressSpace | Context, page: number): number => of.read(at(page), 1)[0]!;

/** Order of the mapping of a page, by its entry. */
const order = (page: number, of = space): number => (of.snapshot({ start: at(page), end: at(page + 1) })[1]! >>> 8) & 0x1f;

function fork(of = space): AddressSpace {
  const step = new Fork(machine.platform, of, {});
  run(step);
  expect(step.outcome).toBe('done');
  return step.result!;
}

function pin(first: number, end: number, options: PinOptions = {}): PinRange {
  const step = new PinRange(machine.platform, space, at(first) / PAGE, at(end) / PAGE, options);
  run(step);
  return step;
}

beforeEach(() => {
  machine = smallMachine({ dram: 8 * MiB, deviceMemory: 8 * MiB });
  space = machine.createAddressSpace();
  range = space.mmap({ bytes: HUGE, align: HUGE });
  space.madvise(range, 'hugepage');
});

afterEach(() => {
  for (const each of [...machine.platform.spaces.values()]) each.close();
  expect(used(machine)).toMatch(/^(\S+ 0(, )?)+$/);
  expectClean(machine);
  machine.close();
});

describe('advised memory', () => {
  test('gets a huge page at the first write, zeroed, and one fault serves it all', () => {
    space.write(at(3), Uint8Array.of(9));
    expect([order(0), order(511)]).toEqual([9, 9]);
    for (const page of [0, 100, 511]) space.write(at(page) + 1, Uint8Array.of(1));
    expect([byte(space, 3), byte(space, 4)]).toEqual([9, 0]);
    expect(machine.counters.cpuFaults).toMatchObject({ huge: 1, demand: 0 });
    expect(used(machine)).toBe('dram 512');
    expectClean(machine);
  });

  test('gets the huge page of zeros at the first read, and a huge page of its own at the first write', () => {
    expect(byte(space, 5)).toBe(0);
    expect(order(5)).toBe(9);
    expect(used(machine)).toBe('dram 0');
    expectClean(machine);
    space.write(at(5), Uint8Array.of(7));
    expect([byte(space, 5), byte(space, 6), order(6)]).toEqual([7, 0, 9]);
    expect(used(machine)).toBe('dram 512');
    expect(machine.counters.cpuFaults).toMatchObject({ huge: 1, cow: 1 });
  });

  test('tells devices of the whole huge page of zeros before it is replaced', () => {
    space.read(at(0), 1);
    const heard: string[] = [];
    const notifier = space.subscribe(range, {
      invalidate: (event, self) => {
        self.setSequence(event.sequence);
        heard.push(`${event.reason} ${event.end - event.start}`);
        return true;
      },
    });
    space.write(at(0), Uint8Array.of(1));
    expect(heard).toEqual(['CLEAR 512']);
    space.unsubscribe(notifier);
  });

  test('gets small pages where a huge one does not fit: at the border of the mapping, or among small ones', () => {
    const odd = space.mmap({ bytes: HUGE + HUGE / 2, align: HUGE });
    space.madvise(odd, 'hugepage');
    space.write(odd.start + HUGE, Uint8Array.of(1));
    expect(machine.counters.cpuFaults).toMatchObject({ demand: 1 });
    space.madvise(range, 'nohugepage');
    space.write(at(0), Uint8Array.of(1));
    space.madvise(range, 'hugepage');
    space.write(at(1), Uint8Array.of(1));
    expect([order(0), order(1)]).toEqual([0, 0]);
    expect(machine.counters.cpuFaults).toMatchObject({ demand: 3 });
    expect(machine.counters.cpuFaults.huge).toBe(undefined);
  });

  test('gets small pages when no huge frame is left', () => {
    const hog = machine.createAddressSpace();
    const all = hog.mmap({ bytes: 8 * MiB });
    // Every 2 MiB of the host's memory has a page in use.
    for (let addr = all.start; addr < all.end - HUGE / 4; addr += PAGE) hog.write(addr, Uint8Array.of(1));
    space.write(at(0), Uint8Array.of(1));
    expect([order(0), byte(space, 0)]).toEqual([0, 1]);
    space.read(at(1), 1);
    expect(machine.counters.cpuFaults).toMatchObject({ zero: 1 });
  });
});

describe('a huge page', () => {
  beforeEach(() => {
    for (const page of [0, 1, 511]) space.write(at(page), Uint8Array.of((page % 255) + 1));
    expect(order(0)).toBe(9);
  });

  test('is shared by a fork as one, and is split for the one page that somebody writes', () => {
    const child = fork();
    expect([order(0), order(0, child)]).toEqual([9, 9]);
    expect(used(machine)).toBe('dram 512');
    space.write(at(1), Uint8Array.of(9));
    expect([byte(space, 1), byte(child, 1), byte(child, 511)]).toEqual([9, 2, 2]);
    expect(used(machine)).toBe('dram 513');
    expect([order(0), order(0, child)]).toEqual([0, 0]);
    expect(machine.counters.cpuFaults).toMatchObject({ copy: 1 });
    expectClean(machine);
  });

  test('is written in place, all of it, when nobody shares it any more', () => {
    fork().close();
    space.write(at(1), Uint8Array.of(9));
    expect(order(1)).toBe(9);
    expect(used(machine)).toBe('dram 512');
    space.write(at(2), Uint8Array.of(8));
    expect(machine.counters.cpuFaults).toMatchObject({ reuse: 1 });
  });

  test('is split when part of it goes or changes its rights', () => {
    space.munmap({ start: at(0), end: at(1) });
    expect(order(1)).toBe(0);
    expect(used(machine)).toBe('dram 511');
    space.mprotect({ start: at(1), end: at(2) }, 'r');
    expect(space.tryWrite(at(1), Uint8Array.of(1)).status).toBe('permission');
    expect([byte(space, 1), byte(space, 511)]).toEqual([2, 2]);
  });

  test('goes to a device and comes home as one, the page that was touched too', () => {
    const context = space.attach(machine.addDevice(new Probe({ pages: 1024, granulePages: HUGE_PAGES }).driver));
    expect(context.migrate(range, { to: 'device' })).toBe(HUGE_PAGES);
    expectClean(machine);
    expect(byte(context, 511)).toBe(2);
    expect(byte(space, 511)).toBe(2);
    expect(machine.counters.cpuFaults).toMatchObject({ home: 1 });
    expect([byte(space, 0), byte(space, 1)]).toEqual([1, 2]);
    expect(machine.counters.cpuFaults).toMatchObject({ home: 1 });
    expectClean(machine);
  });

  test('is pinned page by page, and a fork leaves the pinned page to its owner', () => {
    const step = pin(1, 2, { write: true });
    expect(step.outcome).toBe('done');
    expectClean(machine);
    const child = fork();
    step.pin!.write(0, Uint8Array.of(9));
    expect([byte(space, 1), byte(child, 1), byte(child, 511)]).toEqual([9, 2, 2]);
    expectClean(machine);
    space.munmap(range);
    expect(step.pin!.read(0, 1)[0]).toBe(9);
    step.pin!.unpin();
  });

  test('is not split for a pin that reads it', () => {
    const step = pin(0, 512);
    expect([step.outcome, order(0)]).toEqual(['done', 9]);
    expect(step.pin!.read(511 * PAGE, 1)[0]).toBe(2);
    step.pin!.unpin();
  });

  test('is split for the page that becomes exclusive', () => {
    const step = new MakeExclusive(machine.platform).of(space, at(1) / PAGE, 0, {}, () => {});
    run(step);
    expect([step.outcome, order(0)]).toEqual(['done', 0]);
    expect([byte(space, 1), byte(space, 511)]).toEqual([2, 2]);
    expectClean(machine);
  });

  test('is one answer of a range fault, for every page of it', () => {
    const words = space.snapshotHmm({ start: at(510), end: at(512) });
    expect([words[0]! + 1, (words[1]! >>> 21) & 0x1f]).toEqual([words[2], 9]);
  });
});

test('the huge page of zeros is replaced by a small page of its own when no huge frame is free', () => {
  space.read(at(0), 1);
  const hog = machine.createAddressSpace();
  const all = hog.mmap({ bytes: 8 * MiB });
  for (let addr = all.start; addr < all.end - HUGE / 4; addr += PAGE) hog.write(addr, Uint8Array.of(1));
  space.write(at(5), Uint8Array.of(7));
  expect([byte(space, 5), byte(space, 6), order(5)]).toEqual([7, 0, 0]);
  expectClean(machine);
});

test('pages of zeros are pinned as they are, but for a pin that is for long: it has a page of its own', () => {
  space.read(at(0), 1);
  const long = pin(3, 4, { longTerm: true });
  expect([long.outcome, used(machine)]).toEqual(['done', 'dram 1']);
  space.write(at(3), Uint8Array.of(7));
  expect(long.pin!.read(0, 1)[0]).toBe(7);
  long.pin!.unpin();
});

test('pages of zeros outlive their mapping like any others', () => {
  space.read(at(0), 1);
  expect(order(0)).toBe(9);
  const step = pin(0, 2);
  expect(step.outcome).toBe('done');
  space.munmap(range);
  expect([...step.pin!.read(0, 2)]).toEqual([0, 0]);
  expect(used(machine)).toBe('dram 0');
  step.pin!.unpin();
});

describe('a hugetlb mapping', () => {
  let huge: AddressRange;
  const here = (page: number): number => huge.start + page * PAGE;

  beforeEach(() => {
    huge = space.mmap({ bytes: HUGE, hugetlb: HUGE });
  });

  test('has a huge page at the first touch; a read leaves it read-only, the first write makes it writable in place', () => {
    expect(space.read(here(7), 1)[0]).toBe(0);
    expect(used(machine)).toBe('dram 512');
    space.write(here(8), Uint8Array.of(5));
    expect(machine.counters.cpuFaults).toMatchObject({ huge: 1, reuse: 1 });
    expect(space.read(here(8), 1)[0]).toBe(5);
    expectClean(machine);
  });

  test('is a bus error when no huge frame is free', () => {
    const hog = machine.createAddressSpace();
    const all = hog.mmap({ bytes: 8 * MiB });
    for (let addr = all.start; addr < all.end - HUGE / 4; addr += PAGE) hog.write(addr, Uint8Array.of(1));
    expect(space.tryWrite(here(0), Uint8Array.of(1)).status).toBe('bus error');
    expectClean(machine);
    hog.close();
    space.write(here(0), Uint8Array.of(1));
  });

  test('is shared by a fork and copied whole at the first write', () => {
    space.write(here(3), Uint8Array.of(3));
    const child = fork();
    expect(used(machine)).toBe('dram 512');
    child.write(here(4), Uint8Array.of(4));
    expect([...[3, 4].map((page) => space.read(here(page), 1)[0]), ...[3, 4].map((page) => child.read(here(page), 1)[0])]).toEqual([
      3, 0, 3, 4,
    ]);
    expect(used(machine)).toBe('dram 1024');
    expect(machine.counters.cpuFaults).toMatchObject({ copy: 1 });
    space.write(here(3), Uint8Array.of(9));
    expect(used(machine)).toBe('dram 1024');
    expectClean(machine);
  });

  test('cannot be made exclusive', () => {
    space.write(here(0), Uint8Array.of(1));
    const step = new MakeExclusive(machine.platform).of(space, here(0) / PAGE, 0, {}, () => {});
    run(step);
    expect(step.outcome).toBe('not supported');
  });
});

import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type AddressRange, type AddressSpace, type Context, isFarfaultError, type Machine } from 'farfault';
import { defineDriver } from 'farfault/gmem';
import { HMM_ERROR, HMM_VALID, HMM_WRITE, MakeExclusive } from 'farfault/mm';
import { expectClean, PAGE, Probe, smallMachine, used } from './probe.ts';

let machine: Machine;
let space: AddressSpace;
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

/** HMM words of a range: '-' for nothing, 'E', 'r' or 'w' for each page. */
function words(range: AddressRange): string {
  const found = space.snapshotHmm(range);
  let text = '';
  for (let i = 1; i < found.length; i += 2) {
    const word = found[i]! >>> 0;
    text += word & HMM_ERROR ? 'E' : word < HMM_VALID ? '-' : word & HMM_WRITE ? 'w' : 'r';
  }
  return text;
}

beforeEach(() => {
  machine = smallMachine();
  space = machine.createAddressSpace();
  context = space.attach(machine.addDevice(new Probe().driver));
});

afterEach(() => {
  for (const each of [...machine.platform.spaces.values()]) each.close();
  expect(used(machine)).toMatch(/^(\S+ 0(, )?)+$/);
  expectClean(machine);
  machine.close();
});

describe('a mixed mapping', () => {
  let range: AddressRange;
  beforeEach(() => {
    range = space.mmap({ bytes: 4 * PAGE, special: 'mixed' });
    space.insertPage(range.start, Uint8Array.of(1, 2, 3));
    space.insertPage(range.start + PAGE);
    space.insertPfn(range.start + 2 * PAGE, 0x1234);
  });

  test('has pages that are read, numbers that are not, and holes: each page answers for itself', () => {
    expect([space.dump(range), words(range), used(machine)]).toEqual(['ff*.', 'rrE-', 'dram 2, probe.ram 0']);
    expect([...space.read(range.start, 4)]).toEqual([1, 2, 3, 0]);
    for (const page of [2, 3]) expect(refused(() => space.read(range.start + page * PAGE, 1))).toMatch(/^EIO/);
    expect(space.snapshot(range)[4]).toBe(0x1234);
  });

  test('is read by a device where it is, and copied by the first write', () => {
    expect(context.read(range.start + 1, 1)[0]).toBe(2);
    expect(space.dump(range)).toBe('ff*.');
    for (const page of [2, 3]) expect(refused(() => context.read(range.start + page * PAGE, 1))).not.toBe('nothing thrown');
    space.write(range.start, Uint8Array.of(9));
    expect([space.dump(range), [...space.read(range.start, 2)]]).toEqual(['Hf*.', [9, 2]]);
    expect(context.migrate(range, { to: 'device' })).toBe(0);
  });

  test('is shared with a child', () => {
    const child = space.fork();
    space.write(range.start, Uint8Array.of(9));
    expect([child.read(range.start, 1)[0], child.dump(range).slice(0, 2)]).toEqual([1, 'ff']);
  });

  test('gives its pages back when it goes', () => {
    space.munmap(range);
    expect(used(machine)).toBe('dram 0, probe.ram 0');
  });

  test('moves, grows and is emptied, but is not left behind empty', () => {
    const moved = space.mremap(range, { bytes: 5 * PAGE, mayMove: true, to: 2 ** 36 });
    expect(space.dump(moved)).toBe('ff*..');
    expect(refused(() => space.mremap(moved, { mayMove: true, dontUnmap: true }))).toMatch(
      /^EINVAL: mremap.dontUnmap .* is in a special mapping/,
    );
    space.madvise(moved, 'dontneed');
    expect([space.dump(moved), used(machine)]).toEqual(['.....', 'dram 0, probe.ram 0']);
  });
});

test('a shared mixed mapping is written in place', () => {
  const range = space.mmap({ bytes: PAGE, special: 'mixed', shared: true });
  space.insertPage(range.start);
  expect([space.dump(range), words(range)]).toEqual(['F', 'w']);
  const child = space.fork();
  context.write(range.start, Uint8Array.of(4));
  child.write(range.start + 1, Uint8Array.of(5));
  expect([[...space.read(range.start, 2)], child.read(range.start, 1)[0], used(machine)]).toEqual([[4, 5], 4, 'dram 1, probe.ram 0']);
});

test('a page in a mapping without rights is not readable until there are some', () => {
  const range = space.mmap({ bytes: PAGE, special: 'mixed', prot: 'none' });
  space.insertPage(range.start, Uint8Array.of(6));
  expect([space.dump(range), refused(() => space.read(range.start, 1)).slice(0, 6)]).toEqual(['n', 'EFAULT']);
  space.mprotect(range, 'r');
  expect([space.dump(range), space.read(range.start, 1)[0]]).toEqual(['f', 6]);
});

test.each(['pfn', 'io'] as const)('a mapping of numbers (%s) is an error for whoever asks, page or hole', (special) => {
  const range = space.mmap({ bytes: 3 * PAGE, special });
  space.insertPfn(range.start + PAGE, 77);
  const around = { start: range.start, end: range.end + PAGE };
  expect([space.dump(around), words(around)]).toEqual(['.*.-', 'EEEE']);
  for (const addr of [range.start, range.start + PAGE]) {
    expect([refused(() => space.read(addr, 1)).slice(0, 3), refused(() => space.write(addr, Uint8Array.of(1))).slice(0, 3)]).toEqual([
      'EIO',
      'EIO',
    ]);
    expect(refused(() => context.read(addr, 1))).not.toBe('nothing thrown');
  }
  expect(refused(() => space.pin({ start: range.start, end: range.end }))).toMatch(/^EFAULT/);
  const step = new MakeExclusive(machine.platform).of(space, range.start / PAGE + 1, 0, {}, () => undefined);
  machine.platform.scheduler.runSync(step);
  expect(step.outcome).toBe('no mapping');
  expect(refused(() => space.mremap(range, { bytes: 4 * PAGE, mayMove: true }))).toMatch(
    /^EFAULT: mremap.bytes .* make a special mapping longer/,
  );
  const moved = space.mremap(range, { mayMove: true, to: 2 ** 36 });
  expect([space.dump(moved), space.fork().dump(moved).length]).toEqual(['.*.', 3]);
});

test('pages and numbers are refused where they may not be', () => {
  const anonymous = space.mmap({ bytes: PAGE }).start;
  const pfn = space.mmap({ bytes: PAGE, special: 'pfn' }).start;
  const mixed = space.mmap({ bytes: 2 * PAGE, special: 'mixed' }).start;
  space.insertPage(mixed);
  const bad: [() => unknown, RegExp][] = [
    [() => space.insertPage(5), /^EINVAL: insertPage.addr 5 is not page-aligned/],
    [() => space.insertPage(2 ** 40), /^EINVAL: insertPage.addr .* is not in a special mapping that takes it/],
    [() => space.insertPage(anonymous), /^EINVAL: insertPage.addr .* is not in a special mapping that takes it/],
    [() => space.insertPage(pfn), /^EINVAL: insertPage.addr .* is not in a special mapping that takes it/],
    [() => space.insertPage(mixed), /^EINVAL: insertPage.addr .* has an entry already/],
    [() => space.insertPage(mixed + PAGE, 'text' as never), /^EINVAL: insertPage.bytes "text" is not a Uint8Array of a page at most/],
    [() => space.insertPage(mixed + PAGE, new Uint8Array(PAGE + 1)), /^EINVAL: insertPage.bytes/],
    [() => space.insertPfn(anonymous, 1), /^EINVAL: insertPfn.addr .* is not in a special mapping that takes it/],
    [() => space.insertPfn(mixed, 1), /^EINVAL: insertPfn.addr .* has an entry already/],
    [() => space.insertPfn(pfn, -1), /^EINVAL: insertPfn.pfn -1 is not a page number below 2\^32/],
    [() => space.insertPfn(pfn, 2 ** 32), /^EINVAL: insertPfn.pfn/],
  ];
  for (const [action, message] of bad) expect(refused(action)).toMatch(message);
});

test('a page is refused for want of memory, and nothing is left', () => {
  const mixed = space.mmap({ bytes: PAGE, special: 'mixed' }).start;
  const hog = space.mmap({ bytes: 256 * PAGE });
  for (let addr = hog.start; addr < hog.end; addr += PAGE) space.write(addr, Uint8Array.of(1));
  expect(refused(() => space.insertPage(mixed))).toMatch(/^ENOMEM: insertPage.addr .* needs a page, and host memory is exhausted/);
  expect(space.dump({ start: mixed, end: mixed + PAGE })).toBe('.');
});

describe('the letters of a dump', () => {
  test('tell the devices apart, and clash with nothing else', () => {
    const range = space.mmap({ bytes: 10 * PAGE });
    const letters: string[] = [];
    for (let index = 1; index < 9; index++) {
      const mine = space.attach(machine.addDevice(new Probe({ name: `probe${index}` }).driver));
      mine.write(range.start + index * PAGE, Uint8Array.of(1));
    }
    context.write(range.start, Uint8Array.of(1));
    letters.push(space.dump(range));
    space.mprotect(range, 'r');
    letters.push(space.dump(range));
    expect(letters).toEqual(['DEGIJKLOD.', 'degijklod.']);
  });

  test('show coherent memory, and pages that a device has for its atomics', () => {
    const apu = defineDriver(() => ({
      name: 'apu',
      memory: [{ name: 'hbm', kind: 'coherent' as const, bytes: 8 * PAGE }],
      granuleBytes: PAGE,
      attach: () => ({}),
    }));
    const coherent = space.attach(machine.addDevice(apu({})));
    const range = space.mmap({ bytes: 3 * PAGE });
    space.write(range.start, new Uint8Array(3 * PAGE).fill(1));
    coherent.migrate({ start: range.start, end: range.start + 2 * PAGE }, { to: 'device' });
    space.mprotect({ start: range.start + PAGE, end: range.start + 2 * PAGE }, 'r');
    const step = new MakeExclusive(machine.platform).of(space, range.start / PAGE + 2, 0, { cpuReads: true }, () => undefined);
    machine.platform.scheduler.runSync(step);
    expect(space.dump(range)).toBe('Cca');
    space.write(range.start + 2 * PAGE, Uint8Array.of(1));
    expect(space.dump(range)).toBe('CcH');
  });
});

import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import {
  type AddressRange,
  type AddressSpace,
  type Context,
  isFarfaultError,
  type Machine,
  type MachineEvent,
  type MemoryFile,
} from 'farfault';
import type { InvalidateEvent } from 'farfault/mm';
import { expectClean, PAGE, Probe, smallMachine, used } from './probe.ts';

let machine: Machine;
let file: MemoryFile;
let space: AddressSpace;
let other: AddressSpace;
let probe: Probe;
let context: Context;
let range: AddressRange;
let there: AddressRange;

const at = (page: number): number => range.start + page * PAGE;
const code = (action: () => unknown): string => {
  try {
    action();
  } catch (error) {
    if (isFarfaultError(error)) return error.code;
    throw error;
  }
  return 'nothing thrown';
};

/** A file of three pages and a half, each byte the number of its page plus one, mapped shared by two spaces; the first has a device. */
beforeEach(() => {
  machine = smallMachine();
  const content = Uint8Array.from({ length: 3.5 * PAGE }, (_, i) => Math.floor(i / PAGE) + 1);
  file = machine.createFile({ content });
  space = machine.createAddressSpace();
  other = machine.createAddressSpace();
  probe = new Probe();
  context = space.attach(machine.addDevice(probe.driver));
  range = space.mmap({ bytes: 6 * PAGE, file, shared: true });
  there = other.mmap({ bytes: 6 * PAGE, file, shared: true });
});

afterEach(() => {
  for (const each of [...machine.platform.spaces.values()]) each.close();
  file.close();
  expect(used(machine)).toMatch(/^(\S+ 0(, )?)+$/);
  expectClean(machine);
  machine.close();
});

describe('a file that is mapped', () => {
  test('has one frame a page for all who map it', () => {
    expect([space.read(at(1), 1)[0], other.read(there.start + PAGE, 1)[0]]).toEqual([2, 2]);
    expect(space.snapshot(range)[2]).toBe(other.snapshot(there)[2]);
    expect([used(machine), file.cached, space.dump(range)]).toEqual(['dram 1, probe.ram 0', 1, '.f....']);
  });

  test('shows what anybody wrote: a space, the file’s own write, a device', () => {
    space.write(at(0), Uint8Array.of(10));
    file.write(1, Uint8Array.of(11));
    context.write(at(0) + 2, Uint8Array.of(12));
    for (const seen of [file.read(0, 4), other.read(there.start, 4), space.read(at(0), 4), context.read(at(0), 4)])
      expect([...seen]).toEqual([10, 11, 12, 1]);
    expect(used(machine)).toBe('dram 1, probe.ram 0');
  });

  test('is copied by a private mapping at its first write', () => {
    const own = other.mmap({ bytes: PAGE, file });
    other.write(own.start, Uint8Array.of(99));
    expect([other.dump(own), other.read(own.start, 2), file.read(0, 1)]).toEqual(['H', Uint8Array.of(99, 1), Uint8Array.of(1)]);
    file.write(1, Uint8Array.of(5));
    expect(other.read(own.start, 2)).toEqual(Uint8Array.of(99, 1));
  });

  test('is shown by a private mapping until then, later writes too', () => {
    const own = other.mmap({ bytes: PAGE, file });
    expect(other.read(own.start, 1)[0]).toBe(1);
    space.write(at(0), Uint8Array.of(77));
    expect([other.read(own.start, 1)[0], other.dump(own)]).toEqual([77, 'f']);
  });

  test('goes to a device as a copy only', () => {
    const own = space.mmap({ bytes: 2 * PAGE, file });
    space.write(own.start, Uint8Array.of(42));
    context.write(own.start, Uint8Array.of(43));
    expect(space.dump(own)).toBe('D.');
    expect([context.read(own.start + PAGE, 1)[0], space.read(own.start, 1)[0], file.read(0, 1)[0]]).toEqual([2, 43, 1]);
    expect(context.migrate(range, { to: 'device' })).toBe(0);
  });

  test('is a bus error past its end, for the CPU and for a device, in a private mapping too', () => {
    const own = space.mmap({ bytes: 6 * PAGE, file });
    expect(space.read(at(3) + PAGE - 1, 1)[0]).toBe(0);
    for (const addr of [at(4), own.start + 4 * PAGE]) {
      expect([code(() => space.read(addr, 1)), code(() => space.write(addr, Uint8Array.of(1)))]).toEqual(['EIO', 'EIO']);
      expect(code(() => context.read(addr, 1))).not.toBe('nothing thrown');
    }
    file.write(5 * PAGE, Uint8Array.of(6));
    expect([space.read(at(4), 1)[0], context.read(at(5), 1)[0]]).toEqual([0, 6]);
  });

  test('that gets the length that it has, or one behind a mapping, takes nothing away and announces nothing', () => {
    const first = space.mmap({ bytes: PAGE, file, shared: true });
    context.read(first.start, 1);
    const events: MachineEvent[] = [];
    machine.onEvent((event) => events.push(event));
    file.truncate(file.bytes);
    expect(events).toEqual([]);
    other.munmap(there);
    space.munmap(range);
    events.length = 0;
    file.truncate(PAGE);
    expect(events.filter(({ type }) => type === 'space.unmapped' || type === 'range.invalidated')).toEqual([]);
    expect(context.read(first.start, 1)[0]).toBe(1);
  });

  test('reads short at its end, and its holes are zeros', () => {
    expect([file.read(3 * PAGE, 2 * PAGE).length, file.read(4 * PAGE, 1).length]).toEqual([PAGE / 2, 0]);
    const empty = machine.createFile({ bytes: 2 * PAGE });
    expect([empty.bytes, empty.read(PAGE, 1)[0], empty.cached]).toEqual([2 * PAGE, 0, 0]);
    empty.close();
  });

  test('is not read, nor what is stored of it, in pieces that no array has room for', () => {
    const long = machine.createFile({ bytes: 2 ** 40 });
    expect(() => long.read(0, 2 ** 40)).toThrow(/^read.bytes .* is not a length between 0 and/);
    expect(() => long.stored(0, 2 ** 40)).toThrow(/^stored.bytes .* is not a length between 0 and/);
    expect(long.read(2 ** 40 - 2, 2 ** 40)).toEqual(new Uint8Array(2));
    long.close();
  });

  test('cannot be closed, and can be once it is unmapped', () => {
    expect(code(() => file.close())).toBe('EBUSY');
    space.munmap(range);
    other.munmap(there);
    file.close();
    file.close();
    expect([code(() => file.read(0, 1)), code(() => file.write(0, Uint8Array.of(1))), code(() => file.sync())]).toEqual([
      'EBADF',
      'EBADF',
      'EBADF',
    ]);
  });
});

describe('write-back', () => {
  test('stores what was written, and takes the right to write from spaces and devices', () => {
    context.write(at(0), Uint8Array.of(20));
    other.write(there.start + 1, Uint8Array.of(21));
    expect([...file.stored(0, 2), file.dirty, space.dump(range)]).toEqual([1, 1, 1, 'F.....']);
    const { invalidations } = machine.counters;
    file.sync();
    expect(machine.counters.invalidations).toBeGreaterThan(invalidations);
    expect([...file.stored(0, 2), file.dirty, space.dump(range), other.dump(there)]).toEqual([20, 21, 0, 'f.....', 'f.....']);
    context.write(at(0), Uint8Array.of(30));
    expect([file.stored(0, 1)[0], file.dirty, file.read(0, 1)[0]]).toEqual([20, 1, 30]);
    file.sync();
    expect(file.stored(0, 1)[0]).toBe(30);
  });

  test('does not store what nobody wrote', () => {
    space.read(at(0), 3 * PAGE);
    const step = file.syncStep();
    machine.platform.scheduler.runSync(step);
    expect(step.stored).toBe(0);
    space.write(at(0), Uint8Array.of(1, 2));
    const again = file.syncStep(0, 1, step);
    machine.platform.scheduler.runSync(again);
    expect([again, again.stored]).toEqual([step, 1]);
    machine.platform.scheduler.runSync(file.syncStep(0, Infinity, step));
    expect(step.stored).toBe(0);
  });

  test('by msync is for the pages of the range, and for shared mappings only', () => {
    space.write(at(0), Uint8Array.of(50));
    space.write(at(2), Uint8Array.of(52));
    const own = space.mmap({ bytes: 4 * PAGE, file });
    space.msync(own);
    expect(file.dirty).toBe(2);
    space.msync({ start: at(2), end: at(4) });
    expect([file.dirty, file.stored(0, 1)[0], file.stored(2 * PAGE, 1)[0]]).toEqual([1, 1, 52]);
    space.write(at(2), Uint8Array.of(62));
    space.msync({ start: at(0), end: at(2) });
    expect([file.dirty, file.stored(0, 1)[0], file.stored(2 * PAGE, 1)[0]]).toEqual([1, 50, 52]);
  });

  test('does not disturb who maps a page privately', () => {
    const own = other.mmap({ bytes: PAGE, file });
    other.read(own.start, 1);
    const heard: string[] = [];
    const notifier = other.subscribe(own, { invalidate: (event) => (heard.push(event.reason), true) });
    space.write(at(0), Uint8Array.of(1));
    file.sync();
    expect(heard).toEqual([]);
    other.unsubscribe(notifier);
  });

  test('waits for a device that flushes late', async () => {
    context.write(at(0), Uint8Array.of(60));
    probe.slow.add('invalidate');
    const done = file.syncAsync();
    await Promise.resolve();
    expect([probe.unfinished, file.stored(0, 1)[0]]).toEqual([1, 1]);
    probe.finish();
    await done;
    expect([file.stored(0, 1)[0], file.dirty]).toEqual([60, 0]);
    probe.slow.clear();
  });

  test('is an invalidation for each page in each space, all of which are under way until the last device has flushed', async () => {
    const heard: unknown[] = [];
    const hear =
      (name: string) =>
      ({ start, end, reason, cause, writeOnly, sequence }: InvalidateEvent): true => {
        heard.push([name, start, end, reason, cause, writeOnly, sequence]);
        return true;
      };
    const notifiers = [space.subscribe(range, { invalidate: hear('space') }), other.subscribe(there, { invalidate: hear('other') })];
    for (const page of [0, 1, 3]) context.write(at(page), Uint8Array.of(70 + page));
    other.write(there.start, Uint8Array.of(80));
    heard.length = 0;
    const [first, its] = [range.start / PAGE, there.start / PAGE];
    const [sequence, sequenceThere] = [space.notifiers.sequence + 1, other.notifiers.sequence + 1];
    probe.slow.add('invalidate');
    const done = file.syncAsync();
    await Promise.resolve();
    expect([space.notifiers.active, other.notifiers.active, file.dirty]).toEqual([3, 1, 3]);
    probe.slow.clear();
    probe.finish();
    await done;
    const told = (name: string, page: number, seq: number) => [name, page, page + 1, 'PROTECTION_PAGE', 'write-back', true, seq];
    expect(heard).toEqual([
      told('other', its, sequenceThere),
      told('space', first, sequence),
      told('space', first + 1, sequence),
      told('space', first + 3, sequence),
    ]);
    expect([space.notifiers.active, other.notifiers.active, file.dirty]).toEqual([0, 0, 0]);
    expect([space.notifiers.sequence, other.notifiers.sequence]).toEqual([sequence + 1, sequenceThere + 1]);
    space.unsubscribe(notifiers[0]!);
    other.unsubscribe(notifiers[1]!);
  });

  test('that was left unfinished goes on when the device has flushed', () => {
    context.write(at(0), Uint8Array.of(61));
    probe.slow.add('invalidate');
    expect(code(() => file.sync())).toBe('EBUSY');
    expect(machine.pending.length).toBe(1);
    probe.slow.clear();
    probe.finish();
    expect(file.stored(0, 1)[0]).toBe(61);
  });
});

describe('a file that is truncated', () => {
  test('takes the pages behind its end from all spaces and devices, private copies too', () => {
    const own = space.mmap({ bytes: 4 * PAGE, file });
    for (const page of [0, 1, 2]) {
      context.write(at(page), Uint8Array.of(70));
      other.write(there.start + page * PAGE + 1, Uint8Array.of(71));
      space.write(own.start + page * PAGE, Uint8Array.of(72));
    }
    file.truncate(PAGE + 2);
    expect([space.dump(range), other.dump(there), space.dump(own)]).toEqual(['FF....', 'FF....', 'HH..']);
    expect([file.bytes, file.cached, used(machine)]).toEqual([PAGE + 2, 2, 'dram 4, probe.ram 0']);
    for (const addr of [at(2), own.start + 2 * PAGE]) expect(code(() => space.read(addr, 1))).toBe('EIO');
    expect(code(() => context.read(at(2), 1))).not.toBe('nothing thrown');
  });

  test('has zeros in the rest of its last page, and where it grows again', () => {
    space.write(at(1), new Uint8Array(PAGE).fill(9));
    file.sync();
    file.truncate(PAGE + 2);
    expect([...space.read(at(1), 4)]).toEqual([9, 9, 0, 0]);
    file.truncate(3 * PAGE);
    expect([...file.read(PAGE, 4), file.read(2 * PAGE, 1)[0], space.read(at(2), 1)[0]]).toEqual([9, 9, 0, 0, 0, 0]);
    expect([...file.stored(PAGE, 4)]).toEqual([9, 9, 0, 0]);
  });

  test('does not grow by what mappings wrote behind its end', () => {
    space.write(at(3) + PAGE / 2, Uint8Array.of(5));
    file.sync();
    expect(file.stored(3.5 * PAGE, 1)[0]).toBe(0);
    file.truncate(4 * PAGE);
    expect([file.read(3.5 * PAGE, 1)[0], space.read(at(3) + PAGE / 2, 1)[0]]).toEqual([0, 0]);
  });

  test('keeps what is written past its new end while a device flushes', async () => {
    context.write(at(2), Uint8Array.of(1));
    probe.slow.add('invalidate');
    const done = file.truncateAsync(0);
    await Promise.resolve();
    expect(probe.unfinished).toBe(1);
    file.write(2 * PAGE, Uint8Array.of(33));
    probe.finish();
    await done;
    probe.slow.clear();
    expect([file.bytes, file.read(2 * PAGE, 2).length, space.read(at(2), 1)[0], context.read(at(2), 1)[0]]).toEqual([
      2 * PAGE + 1,
      1,
      33,
      33,
    ]);
  });

  test('also goes from a child that is born meanwhile', async () => {
    other.write(there.start + 2 * PAGE, Uint8Array.of(1));
    context.read(at(2), 1);
    probe.slow.add('invalidate');
    const done = file.truncateAsync(PAGE);
    await Promise.resolve();
    const child = other.fork();
    probe.finish();
    await done;
    probe.slow.clear();
    expect([child.dump(there), other.dump(there), code(() => child.read(there.start + 2 * PAGE, 1))]).toEqual(['......', '......', 'EIO']);
  });

  test('that was left unfinished goes on when the device has flushed', () => {
    context.write(at(2), Uint8Array.of(1));
    probe.slow.add('invalidate');
    expect(code(() => file.truncate(PAGE))).toBe('EBUSY');
    probe.slow.clear();
    probe.finish();
    expect([file.bytes, space.dump(range), file.cached]).toEqual([PAGE, '......', 0]);
  });

  test('ends the pins of private copies on a device: what comes there next is nobody’s', () => {
    const copies = space.mmap({ bytes: 4 * PAGE, file });
    space.write(copies.start, new Uint8Array(4 * PAGE).fill(5));
    const { device } = context;
    const before = device.memory!.node.used;
    expect(space.hmadvise(copies, 'pinned', { device }).pages).toBe(4);
    file.truncate(PAGE);
    expect([space.devicePins.size, device.memory!.node.used - before]).toEqual([1, 1]);
    file.truncate(4 * PAGE);
    space.write(copies.start + PAGE, new Uint8Array(3 * PAGE).fill(6));
    space.hmadvise(copies, 'prefetch', { device });
    expect(space.read(copies.start + PAGE, 1)[0]).toBe(6);
    expect(code(() => space.read(copies.start, 1))).toBe('EIO');
    space.munmap(copies);
    expect(space.devicePins.size).toBe(0);
  });

  test('is truncated once at a time: what the second makes room for, the first does not take', async () => {
    const copies = other.mmap({ bytes: 4 * PAGE, file });
    context.write(at(2), Uint8Array.of(1));
    probe.slow.add('invalidate');
    const shorter = file.truncateAsync(0);
    const longer = file.truncateAsync(4 * PAGE);
    expect(machine.pending.map(({ waitsFor }) => waitsFor)).toEqual([expect.stringContaining('ticket'), `file lock ${file.id}`]);
    expect([file.bytes, code(() => other.write(copies.start + PAGE, Uint8Array.of(42)))]).toEqual([0, 'EIO']);
    probe.slow.clear();
    probe.finish();
    await Promise.all([shorter, longer]);
    other.write(copies.start + PAGE, Uint8Array.of(42));
    expect([file.bytes, other.read(copies.start + PAGE, 1)[0], space.read(at(1), 1)[0]]).toEqual([4 * PAGE, 42, 0]);
  });

  test('leaves a pinned page to who pinned it', () => {
    space.write(at(2), Uint8Array.of(44));
    const pin = space.pin({ start: at(2), end: at(3) }, { write: true });
    file.truncate(0);
    expect(pin.read(0, 1)[0]).toBe(44);
    pin.unpin();
  });
});

test('what is written through a pin is dirty in the file behind its very page, whatever lies beside it', () => {
  const start = 0x4000_0000;
  const map = (page: number, options: object): unknown => space.mmap({ at: start + page * PAGE, fixed: true, bytes: PAGE, ...options });
  map(0, { file, shared: true, offset: 2 * PAGE });
  map(1, {});
  map(2, { file, shared: true, offset: 0 });
  map(3, { file, shared: true, offset: PAGE });
  map(4, { file, shared: true, offset: 3 * PAGE });
  map(5, { file });
  const behind = [2, undefined, 0, 1, 3, undefined];
  const pin = space.pin({ start, end: start + behind.length * PAGE }, { write: true });
  const pages = new Uint32Array(8);
  behind.forEach((page, i) => {
    file.sync();
    pin.write(i * PAGE + 7, Uint8Array.of(60 + i));
    const dirty = [...pages.subarray(0, file.dirtyPages(0, 8, pages))];
    expect([i, dirty]).toEqual([i, page === undefined ? [] : [page]]);
    if (page !== undefined) expect(file.read(page * PAGE + 7, 1)[0]).toBe(60 + i);
  });
  pin.unpin();
});

test('a file’s verbs refuse lengths and bytes that are none', () => {
  for (const action of [
    () => machine.createFile(5 as never),
    () => machine.createFile({ bytes: -1 }),
    () => machine.createFile({ content: 'text' as never }),
    () => machine.createFile({ bytes: 1, content: new Uint8Array(2) }),
    () => file.read(-1, 1),
    () => file.read(0, 0.5),
    () => file.write(-1, new Uint8Array(1)),
    () => file.write(0, 'text' as never),
    () => file.write(2 ** 40, new Uint8Array(1)),
    () => file.truncate(NaN),
    () => file.stored(0, -1),
  ])
    expect(code(action)).toBe('EINVAL');
});

test('a file that finds no memory says so, and what was written before stays', () => {
  const hog = space.mmap({ bytes: 254 * PAGE });
  for (let addr = hog.start; addr < hog.end; addr += PAGE) space.write(addr, Uint8Array.of(1));
  expect(code(() => file.write(0, new Uint8Array(4 * PAGE).fill(3)))).toBe('ENOMEM');
  expect([file.read(0, 1)[0], file.read(2 * PAGE, 1)[0], code(() => other.read(there.start + 3 * PAGE, 1))]).toEqual([3, 3, 'ENOMEM']);
});

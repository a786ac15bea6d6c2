import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { AddressRange, AddressSpace, Context, Machine, MachineEvent } from 'farfault';
import { Fork, type ForkOptions, Invalidation, MakeExclusive } from 'farfault/mm';
import type { Step } from '../../sdk/step/step.ts';
import { expectClean, PAGE, Probe, smallMachine, used } from './probe.ts';

let machine: Machine;
let space: AddressSpace;
let range: AddressRange;
const PAGES = 4;

const run = (step: Step): void => machine.platform.scheduler.runSync(step);
const at = (page: number): number => range.start + page * PAGE;

function forked(options: ForkOptions = {}): AddressSpace {
  const fork = new Fork(machine.platform, space, options);
  run(fork);
  expect(fork.outcome).toBe('done');
  return fork.result!;
}

/** The first byte of every page. */
const bytes = (of: AddressSpace, pages = PAGES): number[] => Array.from({ length: pages }, (_, page) => of.read(at(page), 1)[0]!);

beforeEach(() => {
  machine = smallMachine();
  space = machine.createAddressSpace();
  range = space.mmap({ bytes: PAGES * PAGE });
  for (let page = 0; page < PAGES; page++) space.write(at(page), Uint8Array.of(page + 1));
});

afterEach(() => {
  for (const each of [...machine.platform.spaces.values()]) each.close();
  expect(used(machine)).toMatch(/^(\S+ 0(, )?)+$/);
  expectClean(machine);
  machine.close();
});

describe('a child', () => {
  test('has the bytes of its parent, in the same frames, until one of them writes', () => {
    const child = forked();
    expect(bytes(child)).toEqual([1, 2, 3, 4]);
    expect(used(machine)).toBe('dram 4');
    child.write(at(0), Uint8Array.of(9));
    space.write(at(1), Uint8Array.of(8));
    expect(bytes(space)).toEqual([1, 8, 3, 4]);
    expect(bytes(child)).toEqual([9, 2, 3, 4]);
    expect(used(machine)).toBe('dram 6');
    expect(machine.counters.cpuFaults).toMatchObject({ copy: 2, reuse: 0 });
  });

  test('that ends leaves the page to its parent, who writes it in place again', () => {
    const child = forked();
    child.close();
    space.write(at(0), Uint8Array.of(9));
    expect(used(machine)).toBe('dram 4');
    expect(machine.counters.cpuFaults).toMatchObject({ reuse: 1 });
    expect(machine.counters.cpuFaults.copy).toBe(undefined);
  });

  test('outlives its parent, with the pages', () => {
    const child = forked();
    space.close();
    expect(bytes(child)).toEqual([1, 2, 3, 4]);
    child.write(at(3), Uint8Array.of(9));
    expect(used(machine)).toBe('dram 4');
    expectClean(machine);
    space = machine.createAddressSpace();
    space.mmap({ bytes: PAGE });
    space.write(0x1000_0000, Uint8Array.of(1));
    child.close();
    expectClean(machine);
  });

  test('has the rights and the holes of its parent, and the page of zeros where he has it', () => {
    space.madvise({ start: at(0), end: at(2) }, 'dontneed');
    space.read(at(1), 1);
    space.mprotect({ start: at(2), end: at(3) }, 'r');
    space.mprotect({ start: at(3), end: at(4) }, 'none');
    const child = forked();
    expect(child.dump()).toBe(space.dump());
    expect(child.dump(range)).toBe('.zh-'.replace('-', child.dump({ start: at(3), end: at(4) })));
    expect(() => child.write(at(2), Uint8Array.of(1))).toThrow('is mapped without the right to write');
    expect(() => child.read(at(3), 1)).toThrow('is mapped without the right to read');
    child.mprotect(range, 'rw');
    expect(bytes(child)).toEqual([0, 0, 3, 4]);
    child.write(at(1), Uint8Array.of(7));
    child.write(at(3), Uint8Array.of(9));
    space.mprotect(range, 'r');
    expect(bytes(space)).toEqual([0, 0, 3, 4]);
  });

  test('of a child shares with both, and three copies are made of what all write', () => {
    const child = forked();
    const parent = space;
    space = child;
    const grandchild = forked();
    space = parent;
    for (const each of [space, child, grandchild]) each.write(at(0), Uint8Array.of(each.id + 10));
    expect([space, child, grandchild].map((each) => each.read(at(0), 1)[0])).toEqual(
      [space, child, grandchild].map((each) => each.id + 10),
    );
    // The last of the three was alone with the page.
    expect(machine.counters.cpuFaults).toMatchObject({ copy: 2, reuse: 1 });
    expect(used(machine)).toBe('dram 6');
  });

  test('that there is no room for is an error, and not nothing', () => {
    machine.close();
    machine = smallMachine({ tables: 1 });
    space = machine.createAddressSpace();
    range = space.mmap({ bytes: PAGE });
    space.write(range.start, Uint8Array.of(1));
    expect(() => space.fork()).toThrow('needs frames, tables or records');
    expect(space.read(range.start, 1)[0]).toBe(1);
  });

  test('does not get what is marked dontfork', () => {
    space.vmas.flag(range.start / PAGE, range.start / PAGE + 1, { set: 16 });
    const child = forked();
    expect(child.dump(range)).toMatch(/^-/);
    expect(child.read(at(1), 1)[0]).toBe(2);
  });
});

describe('a fork', () => {
  let context: Context;
  let probe: Probe;

  beforeEach(() => {
    probe = new Probe({ granulePages: 1 });
    context = space.attach(machine.addDevice(probe.driver));
  });

  test('takes the right to write from devices before anything is shared', () => {
    // The device has no room for them: it writes the host's pages.
    context.write(at(0), Uint8Array.of(5));
    const heard: string[] = [];
    const notifier = space.subscribe(range, {
      invalidate: (event, self) => {
        self.setSequence(event.sequence);
        heard.push(`${event.reason} ${event.end - event.start}`);
        return true;
      },
    });
    const child = forked();
    expect(heard).toEqual(['PROTECTION_PAGE 4']);
    context.write(at(0), Uint8Array.of(6));
    expect([space.read(at(0), 1)[0], child.read(at(0), 1)[0]]).toEqual([6, 5]);
    space.unsubscribe(notifier);
  });

  test('shares pages on a device: they come home for both at the first touch', () => {
    context.migrate(range, { to: 'device' });
    const child = forked();
    expect(child.dump(range)).toBe('dddd');
    expect(used(machine)).toBe('dram 0, probe.ram 4');
    expect(child.read(at(0), 1)[0]).toBe(1);
    expect([space.dump(range), child.dump(range)]).toEqual(['hddd', 'hddd']);
    space.write(at(1), Uint8Array.of(9));
    expect(bytes(child)).toEqual([1, 2, 3, 4]);
    expect(bytes(space)).toEqual([1, 9, 3, 4]);
  });

  test('brings pages on a device home first when told so', () => {
    context.migrate(range, { to: 'device' });
    const child = forked({ device: 'home' });
    expect([space.dump(range), child.dump(range)]).toEqual(['hhhh', 'hhhh']);
    expect(machine.counters.migratedByCause.fork).toEqual({ pages: 4, bytes: 4 * PAGE });
    expect(bytes(child)).toEqual([1, 2, 3, 4]);
  });

  test('leaves pages on a device out when told so: the child finds zeros', () => {
    context.migrate({ start: at(1), end: at(2) }, { to: 'device' });
    const child = forked({ device: 'omit' });
    expect([space.dump(range), child.dump(range)]).toEqual(['hDhh', 'h.hh']);
    expect(bytes(child)).toEqual([1, 0, 3, 4]);
    expect(bytes(space)).toEqual([1, 2, 3, 4]);
  });

  test('of two that share a page on a device: what one device of the child knew is gone when the page comes home', () => {
    context.migrate(range, { to: 'device' });
    const child = forked();
    const other = child.attach(context.device);
    expect(other.read(at(0), 1)[0]).toBe(1);
    space.write(at(0), Uint8Array.of(9));
    expectClean(machine);
    expect(other.read(at(0), 1)[0]).toBe(1);
    expect(context.read(at(0), 1)[0]).toBe(9);
  });

  test('waits for devices to flush; what is written until then both have, what comes after only one', async () => {
    const cached = new Probe({ name: 'cached', pages: 0, cached: true });
    const second = space.attach(machine.addDevice(cached.driver));
    second.read(at(1), 1);
    cached.slow.add('invalidate');
    const fork = new Fork(machine.platform, space, {});
    const done = machine.platform.scheduler.runAsync(fork);
    expect(machine.pending).toMatchObject([{ steps: ['fork'], waitsFor: 'ticket 1 (cached: invalidate)', holds: ['mmap lock 0'] }]);
    space.write(at(1), Uint8Array.of(8));
    cached.finish();
    await done;
    cached.slow.clear();
    space.write(at(1), Uint8Array.of(9));
    expect([space.read(at(1), 1)[0], fork.result!.read(at(1), 1)[0]]).toEqual([9, 8]);
    expect(second.read(at(1), 1)[0]).toBe(9);
  });

  test('makes exclusive pages ordinary again, and waits for one that is being made exclusive', async () => {
    run(new MakeExclusive(machine.platform).of(space, at(0) / PAGE, 0, {}, () => {}));
    const child = forked();
    expect([space.read(at(0), 1)[0], child.read(at(0), 1)[0]]).toEqual([1, 1]);
    child.close();
    run(new MakeExclusive(machine.platform).of(space, at(0) / PAGE, 0, {}, () => {}));
    const frame = space.snapshot(range)[0]!;
    expect(machine.platform.pageLocks.tryLock(frame)).toBe(true);
    const fork = new Fork(machine.platform, space, {});
    const done = machine.platform.scheduler.runAsync(fork);
    expect(machine.pending.map(({ waitsFor }) => waitsFor)).toEqual([`page lock of frame ${frame}`]);
    machine.platform.pageLocks.unlock(frame);
    await done;
    expect(fork.result!.read(at(0), 1)[0]).toBe(1);
  });

  test('tells of itself', () => {
    const events: MachineEvent[] = [];
    const off = machine.onEvent((event) => void events.push(event));
    const child = forked();
    off();
    expect(events.filter(({ type }) => type === 'space.forked')).toMatchObject([{ space: space.id, child: child.id }]);
  });
});

describe('a fork that fails', () => {
  test('for want of table pages leaves the parent whole and no child', () => {
    machine.close();
    machine = smallMachine({ tablePages: 24 });
    space = machine.createAddressSpace();
    // Pages far apart: each needs table pages of its own.
    for (let i = 0; i < 7; i++) {
      range = space.mmap({ bytes: PAGE, at: 2 ** 30 * (i + 1), fixed: true });
      space.write(range.start, Uint8Array.of(i));
    }
    const before = machine.platform.spaces.size;
    const fork = new Fork(machine.platform, space, {});
    run(fork);
    expect([fork.outcome, fork.result]).toEqual(['no memory', undefined]);
    expect(machine.platform.spaces.size).toBe(before);
    expectClean(machine);
    for (let i = 0; i < 7; i++) {
      expect(space.read(2 ** 30 * (i + 1), 1)[0]).toBe(i);
      space.write(2 ** 30 * (i + 1), Uint8Array.of(i));
    }
    expect(space.notifiers.active).toBe(0);
  });

  test('for want of a host frame when pages shall come home', () => {
    const probe = new Probe({ granulePages: 1 });
    const context = space.attach(machine.addDevice(probe.driver));
    context.migrate(range, { to: 'device' });
    const hog = machine.createAddressSpace();
    const all = hog.mmap({ bytes: machine.nodes[0]!.frames * PAGE });
    for (let addr = all.start; hog.tryWrite(addr, Uint8Array.of(1)).status === 'done';) addr += PAGE;
    const fork = new Fork(machine.platform, space, { device: 'home' });
    run(fork);
    expect(fork.outcome).toBe('no memory');
    expect(space.dump(range)).toBe('DDDD');
    expectClean(machine);
    hog.close();
    expect(bytes(space)).toEqual([1, 2, 3, 4]);
  });

  test('because it is broken off leaves nothing behind', () => {
    const event = new Invalidation();
    expect(event.running).toBe(undefined);
    const slow = new Probe({ name: 'slow', pages: 0, cached: true });
    const context = space.attach(machine.addDevice(slow.driver));
    context.read(at(0), 1);
    slow.slow.add('invalidate');
    expect(() => run(new Fork(machine.platform, space, {}))).toThrow('goes on by itself');
    machine.close();
    machine = smallMachine();
    space = machine.createAddressSpace();
  });
});

import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type AddressRange, type AddressSpace, type Context, type Machine } from 'farfault';
import { Fork, PinRange } from 'farfault/mm';
import { exploreAll, exploreSeeded, printFinding, type Race } from 'farfault/testing';
import type { Step } from '../../sdk/step/step.ts';
import { expectClean, PAGE, Probe, type ProbeOptions, smallMachine, used } from './probe.ts';

let machine: Machine;
let space: AddressSpace;
let child: AddressSpace;
let range: AddressRange;
const PAGES = 4;

const run = (step: Step): void => machine.platform.scheduler.runSync(step);
const at = (page: number): number => range.start + page * PAGE;
const byte = (of: AddressSpace | Context, page = 0): number => of.read(at(page), 1)[0]!;

function fork(of: AddressSpace): AddressSpace {
  const step = new Fork(machine.platform, of, {});
  run(step);
  return step.result!;
}

function world(): void {
  space = machine.createAddressSpace();
  range = space.mmap({ bytes: PAGES * PAGE });
  for (let page = 0; page < PAGES; page++) space.write(at(page), Uint8Array.of(page + 1));
}

function attach(of: AddressSpace, options: ProbeOptions = {}): Context {
  return of.attach(machine.addDevice(new Probe({ granulePages: 1, ...options }).driver));
}

beforeEach(() => {
  machine = smallMachine();
  world();
});

afterEach(() => {
  for (const each of [...machine.platform.spaces.values()]) each.close();
  expect(used(machine)).toMatch(/^(\S+ 0(, )?)+$/);
  expectClean(machine);
  machine.close();
});

describe('a write to a shared page', () => {
  test('tells the devices of the writer, and of nobody else', () => {
    const mine = attach(space, { name: 'mine', pages: 0 });
    child = fork(space);
    const theirs = attach(child, { name: 'theirs', pages: 0 });
    expect([byte(mine), byte(theirs)]).toEqual([1, 1]);
    const before = machine.counters.invalidations;
    space.write(at(0), Uint8Array.of(9));
    expect(machine.counters.invalidations).toBe(before + 1);
    expect([byte(mine), byte(theirs), byte(child)]).toEqual([9, 1, 1]);
    expectClean(machine);
  });

  test('of a device without memory gives it a copy in the host’s', () => {
    const context = attach(space, { pages: 0 });
    child = fork(space);
    context.write(at(0), Uint8Array.of(9));
    expect([byte(space), byte(child)]).toEqual([9, 1]);
    expect(used(machine)).toBe('dram 5');
    // It was served on behalf of a device.
    expect(machine.counters.cpuFaults.copy).toBe(undefined);
  });

  test('of a device with memory gives it a copy in its own', () => {
    const context = attach(space);
    child = fork(space);
    context.write(at(0), Uint8Array.of(9));
    expect(space.dump(range)).toMatch(/^D/);
    expect([byte(child), byte(space)]).toEqual([1, 9]);
    expectClean(machine);
  });

  test('of a read-only device page brings it home for all who share it, and copies it then', () => {
    const context = attach(space);
    context.migrate(range, { to: 'device' });
    child = fork(space);
    space.write(at(0), Uint8Array.of(9));
    expect([space.dump(range), child.dump(range)]).toEqual(['Hddd', 'hddd']);
    expect(machine.counters.cpuFaults).toMatchObject({ home: 1, copy: 1 });
    expect([byte(space), byte(child)]).toEqual([9, 1]);
    context.write(at(1), Uint8Array.of(8));
    expect([byte(child, 1), byte(context, 1)]).toEqual([2, 8]);
    expectClean(machine);
  });

  test('finds no frame: nothing changes, nobody is told, and it works when there is one', () => {
    child = fork(space);
    const heard: string[] = [];
    const notifier = space.subscribe(range, { invalidate: (event) => heard.push(event.reason) > 0 });
    const hog = machine.createAddressSpace();
    const all = hog.mmap({ bytes: machine.nodes[0]!.frames * PAGE });
    for (let addr = all.start; hog.tryWrite(addr, Uint8Array.of(1)).status === 'done';) addr += PAGE;
    expect(space.tryWrite(at(0), Uint8Array.of(9)).status).toBe('no memory');
    expect(heard).toEqual([]);
    expect([byte(space), byte(child)]).toEqual([1, 1]);
    expectClean(machine);
    hog.close();
    space.write(at(0), Uint8Array.of(9));
    expect([byte(space), byte(child)]).toEqual([9, 1]);
    space.unsubscribe(notifier);
  });

  test('moves only one page: the migration of the rest keeps them shared', () => {
    child = fork(space);
    const context = attach(space, { pages: 16 });
    expect(context.migrate(range, { to: 'device' })).toBe(4);
    expect([space.dump(range), child.dump(range)]).toEqual(['dddd', 'dddd']);
    expect(byte(child, 2)).toBe(3);
    space.write(at(2), Uint8Array.of(9));
    expect([byte(space, 2), byte(child, 2)]).toEqual([9, 3]);
    expectClean(machine);
  });
});

describe('a write in place', () => {
  test('is enough when all who shared the page have written or gone', () => {
    child = fork(space);
    const second = fork(space);
    child.write(at(0), Uint8Array.of(9));
    second.munmap(range);
    space.write(at(0), Uint8Array.of(8));
    expect(machine.counters.cpuFaults).toMatchObject({ copy: 1, reuse: 1 });
    expect([byte(space), byte(child)]).toEqual([8, 9]);
  });

  test('is not enough while somebody holds the page: the holder keeps the old bytes', () => {
    child = fork(space);
    const pin = new PinRange(machine.platform, child, at(0) / PAGE, at(1) / PAGE, {});
    run(pin);
    child.munmap(range);
    space.write(at(0), Uint8Array.of(9));
    expect(pin.pin!.read(0, 1)[0]).toBe(1);
    expect(byte(space)).toBe(9);
    pin.pin!.unpin();
  });

  test('of the page of zeros never happens: each writer has a page of its own', () => {
    space.madvise(range, 'dontneed');
    space.read(at(0), 1);
    child = fork(space);
    child.write(at(0), Uint8Array.of(5));
    space.write(at(0), Uint8Array.of(6));
    expect([byte(space), byte(child)]).toEqual([6, 5]);
    expect(machine.counters.cpuFaults).toMatchObject({ cow: 2 });
    expect(machine.counters.cpuFaults.copy).toBe(undefined);
  });

  test('of a read-only page comes after a change of rights, and copies if it must', () => {
    child = fork(space);
    space.mprotect(range, 'r');
    expect(space.tryWrite(at(0), Uint8Array.of(9)).status).toBe('permission');
    space.mprotect(range, 'rw');
    space.write(at(0), Uint8Array.of(9));
    child.mprotect(range, 'none');
    child.mprotect(range, 'rw');
    expect(byte(child)).toBe(1);
    child.write(at(0), Uint8Array.of(8));
    expect(byte(space)).toBe(9);
  });
});

describe('in every order that the locks allow', () => {
  function race(make: () => { steps: Step[]; check: () => void }): void {
    const setup = (): Race => {
      for (const each of [...machine.platform.spaces.values()]) each.close();
      machine.reset();
      world();
      return make();
    };
    const all = exploreAll(setup, { limit: 2000 });
    const found = all.finding ?? (all.complete ? undefined : exploreSeeded(setup, 1, 500).finding);
    if (found) throw new Error(printFinding(found));
  }

  test('two writers of one shared page: each sees its own byte', () => {
    race(() => {
      child = fork(space);
      return {
        steps: [space.writeStep(at(0), Uint8Array.of(8)), child.writeStep(at(0), Uint8Array.of(9))],
        check() {
          expect([byte(space), byte(child)]).toEqual([8, 9]);
          expect(machine.verify()).toBe(undefined);
        },
      };
    });
  });

  test('two writes of one space to one shared page: one copy, both bytes', () => {
    race(() => {
      child = fork(space);
      return {
        steps: [space.writeStep(at(0), Uint8Array.of(8)), space.writeStep(at(0) + 1, Uint8Array.of(9))],
        check() {
          expect([...space.read(at(0), 2)]).toEqual([8, 9]);
          expect(used(machine)).toBe('dram 5');
          expect(machine.verify()).toBe(undefined);
        },
      };
    });
  });

  test('a fork and a write: the child has the old byte or the new one, and is not written', () => {
    const seen = new Set<number>();
    race(() => {
      const step = new Fork(machine.platform, space, {});
      return {
        steps: [step, space.writeStep(at(0), Uint8Array.of(9))],
        check() {
          seen.add(byte(step.result!));
          expect(byte(space)).toBe(9);
          expect(machine.verify()).toBe(undefined);
        },
      };
    });
    expect([...seen].sort()).toEqual([1, 9]);
  });

  test('a write to a shared page and its migration to a device: both sides keep their byte', () => {
    race(() => {
      child = fork(space);
      const context = attach(space, { pages: 4 });
      return {
        steps: [space.writeStep(at(0), Uint8Array.of(9)), context.migrateStep({ start: at(0), end: at(1) }, 'device')],
        check() {
          expect([byte(space), byte(child)]).toEqual([9, 1]);
          expect(machine.verify()).toBe(undefined);
          expect(machine.strayErrors).toEqual([]);
        },
      };
    });
  });

  test('both sides touch a page that they share on a device', () => {
    race(() => {
      const context = attach(space, { pages: 4 });
      context.migrate({ start: at(0), end: at(1) }, { to: 'device' });
      child = fork(space);
      return {
        steps: [space.writeStep(at(0), Uint8Array.of(9)), child.readStep(at(0), 1)],
        check() {
          expect([byte(space), byte(child)]).toEqual([9, 1]);
          expect(machine.verify()).toBe(undefined);
        },
      };
    });
  });
});

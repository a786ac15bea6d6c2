import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type AddressRange, type AddressSpace, type Machine } from 'farfault';
import { Fork, MakeExclusive, PinRange } from 'farfault/mm';
import type { Step } from '../../sdk/step/step.ts';
import { expectClean, PAGE, Probe, smallMachine, used } from './probe.ts';

let machine: Machine;
let space: AddressSpace;

const run = (step: Step): void => machine.platform.scheduler.runSync(step);

function fork(of = space): AddressSpace {
  const step = new Fork(machine.platform, of, {});
  run(step);
  return step.result!;
}

function exclusive(addr: number): string {
  const step = new MakeExclusive(machine.platform).of(space, addr / PAGE, 0, {}, () => {});
  run(step);
  return step.outcome;
}

function pin(range: AddressRange, options = {}): PinRange {
  const step = new PinRange(machine.platform, space, range.start / PAGE, range.end / PAGE, options);
  run(step);
  return step;
}

const content = (pages: number): Uint8Array => Uint8Array.from({ length: pages * PAGE }, (_, i) => Math.floor(i / PAGE) + 1);

beforeEach(() => {
  machine = smallMachine();
  space = machine.createAddressSpace();
});

afterEach(() => {
  for (const each of [...machine.platform.spaces.values()]) each.close();
  expectClean(machine);
  machine.close();
});

describe('a page that two want at once', () => {
  test('is brought by the first; the second finds it, and takes nothing more', async () => {
    const probe = new Probe();
    const context = space.attach(machine.addDevice(probe.driver));
    const other = space.mmap({ bytes: PAGE });
    const { start } = space.mmap({ bytes: 2 * PAGE });
    context.write(other.start, Uint8Array.of(1));
    probe.slow.add('invalidate');
    // Has the lock until the device has flushed.
    const gone = space.munmapAsync(other);
    const both = [space.readAsync(start, 1), space.readAsync(start, 1)];
    const writes = [1, 2].map((value) => space.writeAsync(start + PAGE + value, Uint8Array.of(value)));
    expect(machine.pending.map(({ waitsFor }) => waitsFor).filter((label) => label.startsWith('mmap lock'))).toHaveLength(4);
    probe.slow.clear();
    probe.finish();
    await Promise.all([gone, ...writes]);
    expect((await Promise.all(both)).map((bytes) => bytes[0])).toEqual([0, 0]);
    const { zero, demand, cow, copy } = machine.counters.cpuFaults;
    expect({ zero, demand, cow, copy }).toMatchObject({ zero: 1, demand: 1, cow: 0 });
    expect(used(machine)).toContain('dram 1,');
    expect([...space.read(start + PAGE, 3)]).toEqual([0, 1, 2]);
  });
});

describe('shared anonymous memory', () => {
  let range: AddressRange;

  beforeEach(() => {
    range = space.mmap({ bytes: 2 * PAGE, shared: true });
  });

  test('is zeros until somebody writes, and parent and child see each other’s writes', () => {
    expect(space.read(range.start, 1)[0]).toBe(0);
    const child = fork();
    child.write(range.start, Uint8Array.of(7));
    expect(space.read(range.start, 1)[0]).toBe(7);
    space.write(range.start + PAGE, Uint8Array.of(8));
    expect(child.read(range.start + PAGE, 1)[0]).toBe(8);
    expect(machine.counters.cpuFaults).toMatchObject({ share: 4, demand: 0, zero: 0 });
    expect(used(machine)).toBe('dram 2');
    space.close();
    expect(child.read(range.start, 1)[0]).toBe(7);
    child.close();
    expect(used(machine)).toBe('dram 0');
  });

  test('cannot be made exclusive, and is pinned as it is', () => {
    space.write(range.start, Uint8Array.of(1));
    expect(exclusive(range.start)).toBe('not supported');
    const { pin: held } = pin(range, { write: true });
    held!.write(0, Uint8Array.of(5));
    expect(space.read(range.start, 1)[0]).toBe(5);
    held!.unpin();
  });

  test('is used by a device where it is', () => {
    const context = space.attach(machine.addDevice(new Probe().driver));
    context.write(range.start, Uint8Array.of(6));
    expect(space.read(range.start, 1)[0]).toBe(6);
    expect(used(machine)).toBe('dram 1, probe.ram 0');
  });
});

describe('a file', () => {
  test('mapped shared: the page appears read-only, a write makes it dirty', () => {
    const file = machine.createFile({ content: content(2) });
    const range = space.mmap({ bytes: 2 * PAGE, file, shared: true });
    expect(space.read(range.start + PAGE, 1)[0]).toBe(2);
    expect([space.dump(range), file.dirty]).toEqual(['.f', 0]);
    space.write(range.start + PAGE, Uint8Array.of(9));
    expect([space.dump(range), file.dirty]).toEqual(['.F', 1]);
    expect(file.read(PAGE, 1)[0]).toBe(9);
    expect(machine.counters.cpuFaults).toMatchObject({ share: 2 });
    space.munmap(range);
    file.close();
    expect(used(machine)).toBe('dram 0');
  });

  test('mapped private: a write is a copy, that the file and others do not see', () => {
    const file = machine.createFile({ content: content(2) });
    const range = space.mmap({ bytes: 2 * PAGE, file });
    expect(space.read(range.start, 1)[0]).toBe(1);
    space.write(range.start, Uint8Array.of(8));
    space.write(range.start + PAGE, Uint8Array.of(9));
    expect([file.read(0, 1)[0], file.read(PAGE, 1)[0], file.dirty]).toEqual([1, 2, 0]);
    expect([space.read(range.start, 1)[0], space.read(range.start + PAGE + 1, 1)[0]]).toEqual([8, 2]);
    expect(machine.counters.cpuFaults).toMatchObject({ share: 1, copy: 2 });
    // Copies are anonymous pages like any other.
    const context = space.attach(machine.addDevice(new Probe({ granulePages: 1 }).driver));
    expect(context.migrate(range, { to: 'device' })).toBe(2);
    expect(exclusive(range.start)).toBe('done');
    const child = fork();
    child.write(range.start, Uint8Array.of(7));
    expect(space.read(range.start, 1)[0]).toBe(8);
    space.munmap(range);
    child.munmap(range);
    file.close();
  });

  test('is a bus error past its end, for the CPU, for devices and for pins', () => {
    const file = machine.createFile({ bytes: PAGE });
    const range = space.mmap({ bytes: 2 * PAGE, file, shared: true });
    const past = { start: range.start + PAGE, end: range.end };
    expect(space.tryRead(past.start, new Uint8Array(1)).status).toBe('bus error');
    expect(pin(past).outcome).toBe('bus error');
    expect(pin(range).outcome).toBe('bus error');
    const context = space.attach(machine.addDevice(new Probe({ pages: 0 }).driver));
    expect(() => context.read(past.start, 1)).toThrow(expect.objectContaining({ code: 'EIO' }) as Error);
    expectClean(machine);
    space.munmap(range);
    file.close();
  });

  test('written through a pin after write-back is dirty again', () => {
    const file = machine.createFile({ bytes: PAGE });
    const range = space.mmap({ bytes: PAGE, file, shared: true });
    expect(pin(range, { write: true, longTerm: true }).outcome).toBe('permission');
    const { pin: held } = pin(range, { write: true });
    file.sync();
    expect(file.dirty).toBe(0);
    held!.write(0, Uint8Array.of(5));
    expect(file.dirty).toBe(1);
    file.sync();
    expect(file.stored(0, 1)[0]).toBe(5);
    held!.unpin();
    space.munmap(range);
    file.close();
  });

  test('pinned for long through a private mapping is copied first: later writes of this space are seen, those to the file are not', () => {
    const file = machine.createFile({ content: content(1) });
    const range = space.mmap({ bytes: PAGE, file });
    const { pin: held } = pin(range, { longTerm: true });
    file.write(0, Uint8Array.of(9));
    expect(held!.read(0, 1)[0]).toBe(1);
    space.write(range.start, Uint8Array.of(5));
    expect(held!.read(0, 1)[0]).toBe(5);
    held!.unpin();
    space.munmap(range);
    file.close();
  });
});

describe('special memory', () => {
  test('has what its driver put there, and nothing else', () => {
    const range = space.mmap({ bytes: 3 * PAGE, special: 'mixed' });
    space.insertPage(range.start, Uint8Array.of(4));
    space.insertPfn(range.start + PAGE, 0x1234);
    expect(space.read(range.start, 1)[0]).toBe(4);
    expect(space.tryRead(range.start + PAGE, new Uint8Array(1)).status).toBe('bus error');
    expect(space.tryRead(range.start + 2 * PAGE, new Uint8Array(1)).status).toBe('bus error');
    expect(pin({ start: range.start + PAGE, end: range.start + 2 * PAGE }).outcome).toBe('no mapping');
    // A private mapping: the writer gets a copy, a child what was there.
    const child = fork();
    space.write(range.start, Uint8Array.of(5));
    expect([space.read(range.start, 1)[0], child.read(range.start, 1)[0]]).toEqual([5, 4]);
    expect(child.tryRead(range.start + PAGE, new Uint8Array(1)).status).toBe('bus error');
    const io = space.mmap({ bytes: PAGE, special: 'io' });
    expect(pin(io).outcome).toBe('no mapping');
    expect(exclusive(io.start)).toBe('no mapping');
  });
});

import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type AddressRange, type AddressSpace, type Context, type Machine } from 'farfault';
import kvm, { type DirtyLog, Guest } from 'farfault/drivers/kvm';
import { expectClean, PAGE, Probe, smallMachine, used } from '../machine/probe.ts';

let machine: Machine;
let space: AddressSpace;
let context: Context;
let guest: Guest;
let range: AddressRange;

function begin(dirtyLog: DirtyLog): void {
  machine = smallMachine();
  space = machine.createAddressSpace();
  context = space.attach(machine.addDevice(kvm({ dirtyLog })));
  range = space.mmap({ bytes: 8 * PAGE });
  guest = new Guest(context);
  // Guest pages 16 to 23 are the range.
  guest.addSlot(16 * PAGE, range);
}

const page = (i: number): number => (16 + i) * PAGE;

function end(): void {
  expectClean(machine);
  space.close();
  expect(used(machine)).toMatch(/^dram 0/);
  machine.close();
}

describe('a guest', () => {
  beforeEach(() => begin('marks'));
  afterEach(end);

  test('has the pages of the program by addresses of its own, and nothing beside its slots', () => {
    space.write(range.start + 3 * PAGE, Uint8Array.of(5));
    expect(guest.read(page(3), 1)[0]).toBe(5);
    guest.write(page(2) + 7, Uint8Array.of(9));
    expect(space.read(range.start + 2 * PAGE + 7, 1)[0]).toBe(9);
    expect(() => guest.read(page(8), 1)).toThrow('is in no slot');
    expect(() => guest.read(page(8) - 1, 2)).toThrow('is in no slot');
    expect(() => guest.addSlot(page(7), range)).toThrow('is in a slot already');
  });

  test('faults anew on pages that have moved, and sees what others wrote meanwhile', () => {
    const gpu = space.attach(machine.addDevice(new Probe().driver));
    guest.write(page(0), Uint8Array.of(1));
    gpu.write(range.start, Uint8Array.of(2));
    expect(space.dump({ start: range.start, end: range.start + PAGE })).not.toBe('H');
    expect(guest.read(page(0), 1)[0]).toBe(2);
    space.mprotect(range, 'r');
    expect(() => guest.write(page(0), Uint8Array.of(3))).toThrow('without the right to write');
    space.madvise(range, 'dontneed');
    expect(guest.read(page(0), 1)[0]).toBe(0);
  });
});

for (const dirtyLog of ['marks', 'write protect'] as const) {
  describe(`the dirty log, kept by ${dirtyLog}`, () => {
    beforeEach(() => begin(dirtyLog));
    afterEach(end);

    test('names each page that was written since it was last asked for, and no other', () => {
      for (const i of [0, 1, 2, 3]) guest.read(page(i), 1);
      expect(guest.dirtyLog(page(0))).toEqual([]);
      guest.write(page(1), Uint8Array.of(1));
      guest.write(page(3), Uint8Array.of(1));
      guest.write(page(1) + 8, Uint8Array.of(2));
      expect(guest.dirtyLog(page(0))).toEqual([17, 19]);
      expect(guest.dirtyLog(page(0))).toEqual([]);
      guest.write(page(1), Uint8Array.of(3));
      guest.read(page(0), 1);
      expect(guest.dirtyLog(page(0))).toEqual([17]);
    });

    test('keeps what was written to a page that has moved or gone since', () => {
      guest.write(page(0), Uint8Array.of(1));
      guest.write(page(1), Uint8Array.of(1));
      guest.write(page(2), Uint8Array.of(1));
      const gpu = space.attach(machine.addDevice(new Probe().driver));
      gpu.write(range.start, Uint8Array.of(2));
      space.madvise({ start: range.start + PAGE, end: range.start + 2 * PAGE }, 'dontneed');
      expect(guest.read(page(0), 1)[0]).toBe(2);
      expect(guest.dirtyLog(page(0))).toEqual([16, 17, 18]);
      expect(guest.dirtyLog(page(0))).toEqual([]);
    });

    test('is all that a migration of the guest has to send again: round by round, until both have the same', () => {
      const copy = new Map<number, Uint8Array>();
      for (let i = 0; i < 8; i++) guest.write(page(i), Uint8Array.of(i + 1));
      const send = (pages: readonly number[]): void => pages.forEach((gfn) => copy.set(gfn, guest.read(gfn * PAGE, PAGE)));
      send(guest.dirtyLog(page(0)));
      expect(copy.size).toBe(8);
      const rounds: number[] = [];
      for (let round = 3; round >= 0; round--) {
        for (let i = 0; i < round; i++) guest.write(page(2 * i), Uint8Array.of(100 + round));
        const again = guest.dirtyLog(page(0));
        rounds.push(again.length);
        send(again);
      }
      expect(rounds).toEqual([3, 2, 1, 0]);
      for (let i = 0; i < 8; i++) expect(copy.get(16 + i)).toEqual(guest.read(page(i), PAGE));
    });

    test('costs an exit for each page and round where the right to write is withheld, and none by marks', () => {
      for (let round = 0; round < 3; round++) {
        guest.write(page(0), Uint8Array.of(1));
        guest.write(page(0), Uint8Array.of(2));
        guest.write(page(1), Uint8Array.of(3));
        guest.dirtyLog(page(0));
      }
      expect(guest.exits).toBe(dirtyLog === 'marks' ? 0 : 6);
      // The framework has served two faults, however the log is kept.
      expect(machine.counters.deviceFaults['kvm']).toBe(2);
    });
  });
}

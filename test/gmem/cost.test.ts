import { afterEach, expect, test } from 'vitest';
import { GiB, type Machine } from 'farfault';
import integrated from 'farfault/drivers/integrated';
import mirror from 'farfault/drivers/mirror';
import { expectClean, PAGE, Probe, smallMachine } from '../machine/probe.ts';

let machine: Machine;

afterEach(() => machine.close());

test('what tables cost is told by table: grows with what is mapped far apart, and comes back', () => {
  machine = smallMachine();
  const space = machine.createAddressSpace();
  const gpu = space.attach(machine.addDevice(new Probe({ name: 'gpu' }).driver));
  space.attach(machine.addDevice(integrated()));
  space.attach(machine.addDevice(mirror({ ownTable: true })));
  const bytesOf = (): Record<string, number | undefined> => Object.fromEntries(machine.cost().tables.map(({ of, bytes }) => [of, bytes]));
  const before = bytesOf();
  expect(Object.keys(before)).toEqual(['space 0', 'space 0, gpu', 'space 0, integrated', 'space 0, mirror']);
  // The one walks the table of the space; the other keeps its own where nobody can look.
  expect([before['space 0, integrated'], before['space 0, mirror']]).toEqual([0, undefined]);
  const range = space.mmap({ bytes: 4 * GiB });
  for (const at of [0, 1, 2, 3]) space.write(range.start + at * GiB, Uint8Array.of(1));
  // Each page so far from the others needs tables of its own: as many bytes again as the four pages have.
  expect(bytesOf()['space 0']! - before['space 0']!).toBeGreaterThanOrEqual(4 * PAGE);
  expect(bytesOf()['space 0, gpu']).toBe(before['space 0, gpu']);
  gpu.write(range.start, Uint8Array.of(2));
  expect(bytesOf()['space 0, gpu']).toBeGreaterThan(before['space 0, gpu']!);
  space.munmap(range);
  expect(bytesOf()['space 0']).toBe(before['space 0']);
  expectClean(machine);
});

test('what frames and their mappings cost: 32 bytes a frame, wherever it is, and a record for each mapping that is not the only one', () => {
  machine = smallMachine();
  const space = machine.createAddressSpace();
  machine.addDevice(new Probe({ name: 'gpu', pages: 16 }).driver);
  const { frames, reverseMap } = machine.cost();
  expect(frames.bytes).toBe(32 * frames.frames);
  expect(frames.frames).toBeGreaterThanOrEqual(256 + 16);
  expect(reverseMap).toEqual({ records: 0, bytes: 0 });
  const range = space.mmap({ bytes: 3 * PAGE });
  for (const page of [0, 1, 2]) space.write(range.start + page * PAGE, Uint8Array.of(1));
  expect(machine.cost().reverseMap.records).toBe(0);
  const child = space.fork();
  expect(machine.cost().reverseMap.records).toBe(6);
  child.close();
  space.munmap(range);
  expect(machine.cost().reverseMap.records).toBe(0);
  space.mmap({ at: range.start, bytes: PAGE, fixed: true });
  space.attributes.set({ start: range.start, end: range.start + PAGE }, { readMostly: true });
  expect(machine.cost().attributes).toBe(1);
  expectClean(machine);
});

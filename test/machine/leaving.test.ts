/** What happens to operations that are under way, or wait, when a space ends, a device leaves, or a mapping goes away. */
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type AddressRange, type AddressSpace, type Context, isFarfaultError, type Machine } from 'farfault';
import { defineDriver, type Driver } from 'farfault/gmem';
import { expectClean, PAGE, Probe, smallMachine, used } from './probe.ts';

let machine: Machine;
let space: AddressSpace;
let range: AddressRange;
let context: Context;
let probe: Probe;

beforeEach(() => {
  machine = smallMachine();
  probe = new Probe({ name: 'gpu', pages: 8, cached: true });
  space = machine.createAddressSpace();
  range = space.mmap({ bytes: 4 * PAGE });
  context = space.attach(machine.addDevice(probe.driver));
  context.write(range.start, Uint8Array.of(7));
});
afterEach(() => machine.close());

/** Ends what is unfinished, again and again, until all of these have ended; how each one did. */
async function ends(...all: Promise<unknown>[]): Promise<string[]> {
  let left = all.length;
  const said = all.map((each) =>
    each
      .then(
        () => 'done',
        (error: unknown) => (isFarfaultError(error) ? error.code : String(error)),
      )
      .finally(() => left--),
  );
  for (let turn = 0; left > 0 && turn < 100; turn++) {
    await Promise.resolve();
    if (probe.unfinished > 0) probe.finishOne();
  }
  return Promise.all(said);
}

test('two detaches at once: the device leaves once, and both are done', async () => {
  probe.slow.add('invalidate');
  expect(await ends(context.detachAsync(), context.detachAsync())).toEqual(['done', 'done']);
  expect(probe.log.filter((line) => line === 'detach')).toEqual(['detach']);
  expect(space.read(range.start, 1)).toEqual(Uint8Array.of(7));
  expectClean(machine);
});

test('a space that is closed twice at once ends once', async () => {
  probe.slow.add('invalidate');
  expect(await ends(space.closeAsync(), space.closeAsync())).toEqual(['done', 'done']);
  expect(used(machine)).toBe('dram 0, gpu.ram 0');
  expectClean(machine);
});

test('nothing new comes into a space while it ends', async () => {
  probe.slow.add('invalidate');
  const closing = space.closeAsync();
  const tried = [() => space.mmap({ bytes: PAGE }), () => space.write(range.start, Uint8Array.of(1)), () => space.fork()].map((verb) => {
    try {
      return verb();
    } catch (error) {
      return isFarfaultError(error) && error.code;
    }
  });
  expect(tried).toEqual(['EBADF', 'EBADF', 'EBADF']);
  expect(await ends(closing)).toEqual(['done']);
  expect(used(machine)).toBe('dram 0, gpu.ram 0');
  expectClean(machine);
});

test('an operation that waited for the lock looks at its range again: what has gone meanwhile is EINVAL', async () => {
  probe.slow.add('invalidate');
  const to = range.start + 64 * PAGE;
  const moving = space.mremapAsync(range, { bytes: 4 * PAGE, mayMove: true, to });
  const waiting = [space.mprotectAsync(range, 'none'), space.madviseAsync(range, 'dontneed'), space.munmapAsync(range)];
  expect(await ends(moving, ...waiting)).toEqual(['done', 'EINVAL', 'EINVAL', 'done']);
  probe.slow.clear();
  expect(space.read(to, 1)).toEqual(Uint8Array.of(7));
  expectClean(machine);
});

const exclusive = defineDriver((): Driver => ({ name: 'nic', atomics: ['exclusive'], attach: () => ({}) }));

test('an atomic that meets its device leaving is EBADF, and changes nothing', async () => {
  const nic = space.attach(machine.addDevice(exclusive()));
  space.write(range.start, Uint8Array.of(5, 0, 0, 0));
  context.read(range.start, 1);
  probe.slow.add('invalidate');
  const unmapping = space.munmapAsync({ start: range.start + PAGE, end: range.end });
  const leaving = nic.detachAsync();
  const atomic = nic.atomicAsync(range.start, { op: 'add', bytes: 4, operand: 1 });
  expect(await ends(unmapping, leaving, atomic)).toEqual(['done', 'done', 'EBADF']);
  probe.slow.clear();
  expect(space.read(range.start, 4)).toEqual(Uint8Array.of(5, 0, 0, 0));
  expectClean(machine);
});

const mover = defineDriver((): Driver => ({
  name: 'mover',
  memory: [{ name: 'ram', kind: 'private', bytes: 8 * PAGE }],
  atomics: ['migrate'],
  attach: () => ({}),
}));

test('an atomic on an untouched page of a private file mapping: the copy moves to the device at once', () => {
  const file = machine.createFile({ content: Uint8Array.of(9, 0, 0, 0) });
  const private_ = space.mmap({ bytes: PAGE, file });
  const device = space.attach(machine.addDevice(mover()));
  expect(device.atomic(private_.start, { op: 'add', bytes: 4, operand: 1 })).toBe(9);
  expect(space.dump(private_)).toBe('E');
  expect(space.read(private_.start, 1)).toEqual(Uint8Array.of(10));
  expect(file.read(0, 1)).toEqual(Uint8Array.of(9));
  expectClean(machine);
});

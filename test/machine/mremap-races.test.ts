/** What others do while an mremap waits for a device: the place that it goes to is its own from the moment it was chosen. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type AddressRange, type AddressSpace, type Context, isFarfaultError, type Machine, type MremapOptions } from 'farfault';
import { expectClean, PAGE, Probe, smallMachine, used } from './probe.ts';

/** Where nothing is mapped. */
const FAR = 0x4000_0000;

let machine: Machine;
let space: AddressSpace;
let context: Context;
let probe: Probe;

const byte = (addr: number): number => space.read(addr, 1)[0]!;
const code = (action: () => unknown): string => {
  try {
    action();
  } catch (error) {
    if (isFarfaultError(error)) return error.code;
    throw error;
  }
  return 'nothing thrown';
};

beforeEach(() => {
  machine = smallMachine();
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

/** A mapping whose first page has a 7 that the device has seen. */
function seen(bytes: number): AddressRange {
  const range = space.mmap({ bytes });
  space.write(range.start, Uint8Array.of(7));
  context.read(range.start, 1);
  return range;
}

/** Begins an mremap that waits for the device, does something, and lets it end. */
async function during(range: AddressRange, options: MremapOptions, action: () => void): Promise<AddressRange> {
  probe.slow.add('invalidate');
  const moving = space.mremapAsync(range, options);
  await Promise.resolve();
  expect(probe.unfinished).toBe(1);
  probe.slow.clear();
  action();
  probe.finish();
  return moving;
}

describe('while a mapping moves', () => {
  test('an mmap gets another place than the one that was chosen', async () => {
    const range = seen(PAGE);
    space.mmap({ bytes: PAGE, prot: 'r' });
    let other!: AddressRange;
    const moved = await during(range, { bytes: 2 * PAGE, mayMove: true }, () => (other = space.mmap({ bytes: 2 * PAGE, prot: 'r' })));
    expect(other.start).toBeGreaterThanOrEqual(moved.end);
    expect([byte(moved.start), byte(other.start), code(() => byte(range.start))]).toEqual([7, 0, 'EFAULT']);
  });

  test('nothing can be mapped at the place that was asked for', async () => {
    const range = seen(PAGE);
    const moved = await during(range, { mayMove: true, to: FAR }, () =>
      expect(code(() => space.mmap({ bytes: PAGE, at: FAR, fixed: true }))).toBe('EINVAL'),
    );
    expect([moved.start, byte(FAR), space.dump().split('\n').length]).toEqual([FAR, 7, 1]);
  });

  test('nobody touches the place before the pages are there', async () => {
    const range = seen(PAGE);
    await during(range, { mayMove: true, to: FAR }, () => {
      expect(space.dump({ start: FAR, end: FAR + PAGE })).toBe('.');
      expect(code(() => byte(FAR))).toBe('EBUSY');
    });
    expect(byte(FAR)).toBe(7);
  });

  test('what is mapped in a hole of the place, while that is being unmapped, goes too', async () => {
    const range = space.mmap({ bytes: 2 * PAGE });
    space.write(range.start, Uint8Array.of(7));
    space.mmap({ bytes: PAGE, at: FAR, fixed: true });
    context.read(FAR, 1);
    const moved = await during(range, { mayMove: true, to: FAR }, () =>
      space.mmap({ bytes: PAGE, at: FAR + PAGE, fixed: true, prot: 'r' }),
    );
    expect([space.dump(moved), byte(FAR)]).toEqual(['H.', 7]);
    space.write(FAR + PAGE, Uint8Array.of(1));
    expect(space.dump().split('\n').length).toBe(1);
  });

  test('a driver puts nothing into its special mapping, neither at the old place nor at the new one', async () => {
    const range = space.mmap({ bytes: 2 * PAGE, special: 'mixed' });
    space.insertPage(range.start, Uint8Array.of(7));
    context.read(range.start, 1);
    await during(range, { mayMove: true, to: FAR }, () => {
      for (const addr of [range.start + PAGE, FAR, FAR + PAGE])
        expect([code(() => space.insertPage(addr)), code(() => space.insertPfn(addr, 9))]).toEqual(['EBUSY', 'EBUSY']);
    });
    expect([space.dump({ start: FAR, end: FAR + 2 * PAGE }), byte(FAR)]).toEqual(['f.', 7]);
    space.insertPage(FAR + PAGE, Uint8Array.of(8));
    expect(byte(FAR + PAGE)).toBe(8);
  });
});

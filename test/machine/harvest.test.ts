/** What a device did with its pages: accessed and dirty marks, and how they are taken. */
import { expect, test } from 'vitest';
import { isFarfaultError, MiB } from 'farfault';
import mirror from 'farfault/drivers/mirror';
import nouveau from 'farfault/drivers/nouveau';
import type { Driver, GmMmu, Marks, Ranges, Ticket } from 'farfault/gmem';
import { expectClean, PAGE, Probe, smallMachine } from './probe.ts';

/** Marks of pages as `2 3d`, counted from the first page of a range. */
function printed(marks: readonly { readonly vpn: number; readonly dirty: boolean }[], start: number): string {
  return marks.map(({ vpn, dirty }) => `${vpn - start / PAGE}${dirty ? 'd' : ''}`).join(' ');
}

const DRIVERS: readonly (readonly [string, () => Driver])[] = [
  ['the ready-made table', () => mirror()],
  ['a table of its own', () => mirror({ ownTable: true })],
  ['nouveau', () => nouveau({ vram: 1 * MiB })],
];

test.each(DRIVERS)('%s: reads mark accessed, writes mark dirty, and a harvest takes the marks of its range only', (_name, driver) => {
  const machine = smallMachine({ dram: 4 * MiB, deviceMemory: 4 * MiB });
  const space = machine.createAddressSpace();
  const context = space.attach(machine.addDevice(driver()));
  const range = space.mmap({ bytes: 8 * PAGE });
  const of = (from: number, to: number): string =>
    printed(context.harvest({ start: range.start + from * PAGE, end: range.start + to * PAGE }), range.start);
  context.write(range.start, new Uint8Array(8 * PAGE).fill(1));
  expect(of(0, 8)).toBe('0d 1d 2d 3d 4d 5d 6d 7d');
  expect(of(0, 8)).toBe('');
  context.read(range.start + 2 * PAGE, 2 * PAGE);
  context.write(range.start + 3 * PAGE, Uint8Array.of(1));
  context.write(range.start + 6 * PAGE, Uint8Array.of(1));
  expect([of(0, 3), of(0, 3), of(3, 8), of(0, 8)]).toEqual(['2', '', '3d 6d', '']);
  // The translation was filled by a read; the write after the harvest is seen, and so is the next read.
  context.read(range.start, 8);
  context.read(range.start, 8);
  context.write(range.start, Uint8Array.of(7));
  expect(of(0, 8)).toBe('0d');
  context.read(range.start, 8);
  expect(of(0, 8)).toBe('0');
  // What is taken away takes its marks along.
  context.write(range.start, new Uint8Array(8 * PAGE));
  space.munmap({ start: range.start, end: range.start + 4 * PAGE });
  expect(of(0, 8)).toBe('4d 5d 6d 7d');
  expectClean(machine);
  space.close();
  machine.close();
});

function code(act: () => unknown): string {
  try {
    act();
    return 'none';
  } catch (error) {
    return isFarfaultError(error) ? error.code : String(error);
  }
}

test('a driver that translates by itself and keeps no marks says so, and so does a context that has left', () => {
  const machine = smallMachine();
  const space = machine.createAddressSpace();
  const context = space.attach(machine.addDevice(new Probe({ cached: true }).driver));
  const range = space.mmap({ bytes: PAGE });
  expect(code(() => context.harvest(range))).toBe('EOPNOTSUPP');
  const other = space.attach(machine.addDevice(mirror()));
  expect(code(() => other.harvest({ start: range.start + 1, end: range.end }))).toBe('EINVAL');
  other.detach();
  expect(code(() => other.harvest(range))).toBe('EBADF');
  machine.close();
});

/** The mirror with a table of its own, and something in the place of one of its families. */
function changed(change: (mmu: GmMmu, ticket: (what: string) => Ticket) => Partial<GmMmu>): Driver {
  const driver = mirror({ ownTable: true });
  return {
    ...driver,
    attach(context) {
      const mmu = driver.attach(context);
      return { ...mmu, ...change(mmu, (what) => context.ticket(what)) };
    },
  };
}

test('a harvest waits for the flush of the pages that were marked, and other contexts go on meanwhile', async () => {
  const machine = smallMachine();
  const space = machine.createAddressSpace();
  const tickets: Ticket[] = [];
  const flushed: string[] = [];
  let late = false;
  const context = space.attach(
    machine.addDevice(
      changed((mmu, ticket) => ({
        tlb: {
          invalidate(ranges: Ranges) {
            ranges.each((vpn, pages) => flushed.push(`${vpn.toString(16)}+${pages}`));
            mmu.tlb!.invalidate(ranges);
            if (!late) return undefined;
            const pending = ticket('flush');
            tickets.push(pending);
            return pending;
          },
        },
      })),
    ),
  );
  const range = space.mmap({ bytes: 4 * PAGE });
  context.write(range.start, Uint8Array.of(1));
  context.write(range.start + 2 * PAGE, Uint8Array.of(1));
  late = true;
  flushed.length = 0;
  let over = false;
  const harvest = context.harvestAsync(range).then((marks) => {
    over = true;
    return marks;
  });
  for (let i = 0; i < 10; i++) await Promise.resolve();
  expect([over, tickets.length, flushed]).toEqual([false, 1, ['10000+1', '10002+1']]);
  expect(machine.pending.map(({ waitsFor }) => waitsFor).join()).toContain('flush');
  tickets[0]!.complete();
  expect(printed(await harvest, range.start)).toBe('0d 2d');
  expectClean(machine);
  machine.close();
});

test('a driver that names a page that it was not asked for has failed, and the machine is in order', () => {
  const machine = smallMachine();
  const space = machine.createAddressSpace();
  const context = space.attach(
    machine.addDevice(changed((mmu) => ({ walk: { ...mmu.walk!, harvest: (_ranges: Ranges, marks: Marks) => marks.add(5, false) } }))),
  );
  const range = space.mmap({ bytes: PAGE });
  expect(code(() => context.harvest(range))).toBe('EINVAL');
  expect(context.failure?.message).toContain('walk.harvest');
  expect(machine.verify()).toBe(undefined);
  context.detach();
  machine.close();
});

test('a translation that is entered in place of another keeps its marks, once somebody harvests', () => {
  const machine = smallMachine({ dram: 4 * MiB });
  const space = machine.createAddressSpace();
  const context = space.attach(machine.addDevice(mirror({ granule: 8 * PAGE })));
  const range = space.mmap({ bytes: 8 * PAGE });
  space.write(range.start, new Uint8Array(8 * PAGE).fill(1));
  context.harvest(range);
  context.write(range.start + 3 * PAGE, Uint8Array.of(1));
  context.read(range.start + 5 * PAGE, 1);
  context.fault(range.start + 4 * PAGE, 'write');
  space.mprotect({ start: range.start, end: range.start + PAGE }, 'r');
  context.fault(range.start, 'read');
  expect(printed(context.harvest(range), range.start)).toBe('3d 5');
  machine.close();
});

test('an atomic of the device marks its page dirty', () => {
  const machine = smallMachine();
  const space = machine.createAddressSpace();
  const context = space.attach(machine.addDevice({ ...mirror(), atomics: ['native'] }));
  const range = space.mmap({ bytes: 2 * PAGE });
  context.write(range.start, new Uint8Array(2 * PAGE).fill(1));
  context.harvest(range);
  context.atomic(range.start + PAGE, { op: 'add', bytes: 4, operand: 1 });
  expect(printed(context.harvest(range), range.start)).toBe('1d');
  machine.close();
});

/** Operations on the device's table and caches: what is called, how often, and what that saves. */
import { afterEach, describe, expect, test } from 'vitest';
import { type AddressRange, type AddressSpace, type Context, type DevicePolicy, type Machine, type Ticket } from 'farfault';
import mirror from 'farfault/drivers/mirror';
import { type Driver, defineDriver, deviceTable, deviceTlb, type GmMmu, type Mappings, type Ranges } from 'farfault/gmem';
import { expectClean, PAGE, smallMachine } from '../machine/probe.ts';

let machine: Machine;
afterEach(() => machine?.close());

/** A device with the ready-made table and TLB, whose operations are counted. */
class Counted {
  readonly calls: Record<string, number> = { create: 0, enter: 0, release: 0, protect: 0, destroy: 0, invalidate: 0, coalesced: 0 };
  /** Bits of every page as it was entered last. */
  readonly bits = new Map<number, number>();
  slow = false;
  private readonly tickets: Ticket[] = [];
  readonly driver: Driver;

  constructor({ pages = 32, protects = true }: { pages?: number; protects?: boolean } = {}) {
    this.driver = defineDriver(() => ({
      name: 'counted',
      memory: pages > 0 ? [{ name: 'ram', kind: 'private' as const, bytes: pages * PAGE }] : [],
      attach: (context: Context): GmMmu => {
        const table = deviceTable(context);
        const tlb = deviceTlb(context);
        const flush = (ranges: Ranges): Ticket | void => {
          tlb.invalidate(ranges);
          if (!this.slow) return;
          const ticket = context.ticket('flush');
          this.tickets.push(ticket);
          return ticket;
        };
        return {
          pmap: {
            create: () => void this.calls['create']!++,
            enter: (mappings) => {
              this.calls['enter']!++;
              mappings.each((vpn, count, _page, _memory, _write, attributes) => {
                for (let i = 0; i < count; i++) this.bits.set(vpn + i, attributes);
              });
              table.enter(mappings);
            },
            release: (ranges) => {
              this.calls['release']!++;
              table.release(ranges);
            },
            ...(protects && {
              protect: (ranges: Ranges, write: boolean) => {
                this.calls['protect']!++;
                table.protect(ranges, write);
              },
            }),
            destroy: () => void this.calls['destroy']!++,
          },
          tlb: {
            invalidate: (ranges) => {
              this.calls['invalidate']!++;
              return flush(ranges);
            },
            invalidateCoalesced: (ranges) => {
              this.calls['coalesced']!++;
              return flush(ranges);
            },
          },
          walk: { translate: (vpn, access) => table.walk(vpn, access) },
        };
      },
    }))();
  }

  finish(): void {
    for (const ticket of this.tickets.splice(0)) ticket.complete();
  }
}

interface World {
  readonly counted: Counted;
  readonly space: AddressSpace;
  readonly context: Context;
  readonly range: AddressRange;
}

function world(options: { pages?: number; protects?: boolean; policy?: DevicePolicy } = {}, pages = 16): World {
  machine = smallMachine();
  const counted = new Counted(options);
  const space = machine.createAddressSpace();
  const context = space.attach(machine.addDevice(counted.driver, options.policy ?? {}));
  return { counted, space, context, range: space.mmap({ bytes: pages * PAGE }) };
}

const part = (range: AddressRange, first: number, pages: number): AddressRange => ({
  start: range.start + first * PAGE,
  end: range.start + (first + pages) * PAGE,
});

describe('the family pmap', () => {
  test('is driven from the attach to the detach: create, enter, protect, release, destroy', () => {
    const { counted, space, context, range } = world();
    context.write(range.start, Uint8Array.of(1));
    space.mprotect(range, 'r');
    space.munmap(range);
    context.detach();
    expect(counted.calls).toMatchObject({ create: 1, enter: 1, protect: 1, destroy: 1 });
    expect(counted.calls['release']).toBeGreaterThan(0);
    expectClean(machine);
  });

  test.each([0, 32])(
    'loses only the right to write where only that goes: it reads on without a fault, with %i pages of its own',
    (pages) => {
      const { counted, space, context, range } = world({ pages });
      context.write(range.start, Uint8Array.of(1));
      const faults = machine.counters.deviceFaults['counted'];
      space.mprotect(range, 'r');
      const child = space.fork();
      expect(context.read(range.start, 1)[0]).toBe(1);
      expect(machine.counters.deviceFaults['counted']).toBe(faults);
      expect(counted.calls['release']).toBe(pages === 0 ? 0 : 1);
      expect(() => context.write(range.start, Uint8Array.of(2))).toThrow('without the right to write');
      space.mprotect(range, 'rw');
      context.write(range.start, Uint8Array.of(3));
      expect([child.read(range.start, 1)[0], space.read(range.start, 1)[0]]).toEqual([1, 3]);
      expectClean(machine);
    },
  );

  test('without protect loses the translation', () => {
    const { counted, space, context, range } = world({ protects: false, pages: 0 });
    context.write(range.start, Uint8Array.of(1));
    space.mprotect(range, 'r');
    expect(counted.calls['release']).toBe(1);
    expect(context.read(range.start, 1)[0]).toBe(1);
    expectClean(machine);
  });

  test('the ready-made table cuts a block where only a part of it loses a right', () => {
    machine = smallMachine({ dram: 8 * 1024 * 1024 });
    const space = machine.createAddressSpace();
    const context = space.attach(machine.addDevice(mirror()));
    const range = space.mmap({ bytes: 512 * PAGE, at: 512 * PAGE });
    space.madvise(range, 'hugepage');
    space.write(range.start, Uint8Array.of(1));
    context.write(range.start + PAGE, Uint8Array.of(2));
    space.mprotect(part(range, 0, 8), 'r');
    expect(context.read(range.start + PAGE, 1)[0]).toBe(2);
    expect(() => context.write(range.start, Uint8Array.of(2))).toThrow('without the right to write');
    context.write(range.start + 9 * PAGE, Uint8Array.of(9));
    expect(space.read(range.start + 9 * PAGE, 1)[0]).toBe(9);
    expectClean(machine);
  });
});

/** The CPU touches sixteen pages, far apart, that the device has, at the same time. */
async function touched(policy: DevicePolicy): Promise<Context['flushCounts']> {
  const { space, context, range } = world({ policy }, 32);
  for (let i = 0; i < 16; i++) context.write(range.start + 2 * i * PAGE, Uint8Array.of(i));
  const before = { ...context.flushCounts };
  const read = await Promise.all(Array.from({ length: 16 }, (_, i) => space.readAsync(range.start + 2 * i * PAGE, 1)));
  expect(read.map(([byte]) => byte)).toEqual(read.map((_, i) => i));
  const { flushes, ranges, pages } = context.flushCounts;
  expectClean(machine);
  machine.close();
  return { flushes: flushes - before.flushes, ranges: ranges - before.ranges, pages: pages - before.pages };
}

/** Every other page of a range, on the device, comes home in one operation. */
function broughtHome(policy: DevicePolicy): Context['flushCounts'] {
  const { space, context, range } = world({ policy }, 32);
  for (let i = 0; i < 16; i++) space.write(range.start + (2 * i + 1) * PAGE, Uint8Array.of(i));
  for (let i = 0; i < 16; i++) context.write(range.start + 2 * i * PAGE, Uint8Array.of(i));
  const before = { ...context.flushCounts };
  expect(context.migrate(range, { to: 'host' })).toBe(16);
  const { flushes, ranges, pages } = context.flushCounts;
  expectClean(machine);
  machine.close();
  return { flushes: flushes - before.flushes, ranges: ranges - before.ranges, pages: pages - before.pages };
}

describe('flushes', () => {
  test('of one operation are one when coalesced, one for each range when immediate', () => {
    expect(broughtHome({ flush: 'immediate' })).toEqual({ flushes: 16, ranges: 16, pages: 16 });
    expect(broughtHome({})).toEqual({ flushes: 1, ranges: 16, pages: 16 });
    expect(broughtHome({ flush: 'coalesced' })).toEqual({ flushes: 1, ranges: 16, pages: 16 });
    expect(broughtHome({ flush: 'deferred' })).toEqual({ flushes: 1, ranges: 16, pages: 16 });
  });

  test('of sixteen touches of the CPU at the same time are one when deferred', async () => {
    expect(await touched({ flush: 'immediate' })).toEqual({ flushes: 16, ranges: 16, pages: 16 });
    expect(await touched({})).toEqual({ flushes: 16, ranges: 16, pages: 16 });
    expect(await touched({ flush: 'deferred' })).toEqual({ flushes: 1, ranges: 16, pages: 16 });
  });

  test('that are deferred do not keep an operation waiting for which nobody else runs, and use invalidateCoalesced', () => {
    const { counted, space, context, range } = world({ policy: { flush: 'deferred' }, pages: 0 });
    for (let i = 0; i < 16; i += 2) context.write(range.start + i * PAGE, Uint8Array.of(i));
    space.munmap(part(range, 0, 4));
    expect(context.flushCounts.flushes).toBe(1);
    space.madvise(part(range, 4, 2), 'dontneed');
    expect(context.flushCounts.flushes).toBe(2);
    expect(counted.calls['coalesced']).toBe(0);
    expectClean(machine);
  });

  test.each(['immediate', 'coalesced', 'deferred'] as const)('%s: nothing is freed before they have ended', async (flush) => {
    const { counted, space, context, range } = world({ policy: { flush }, pages: 0 });
    context.write(range.start, Uint8Array.of(1));
    const used = machine.nodes[0]!.used;
    counted.slow = true;
    const done = space.munmapAsync(range);
    await Promise.resolve();
    await Promise.resolve();
    expect(context.flushCounts.flushes).toBe(1);
    expect(machine.nodes[0]!.used).toBe(used);
    counted.finish();
    await done;
    expect(machine.nodes[0]!.used).toBe(used - 1);
    expectClean(machine);
  });
});

test('pages of the driver’s own allocator are filled by preparePage, with bytes of the host and with zeros, and nothing else is', () => {
  const filled: string[] = [];
  const pages = [3, 2, 1, 0];
  const driver = defineDriver(() => ({
    name: 'filler',
    memory: [{ name: 'ram', kind: 'private' as const, bytes: 4 * PAGE, allocator: 'driver' as const }],
    attach: (): GmMmu => ({
      phys: {
        allocPage: () => pages.pop(),
        freePage: (page) => void pages.push(page),
        preparePage: (copies) => {
          copies.each((count, from, _page, _to, page) => filled.push(`${count} ${from < 0 && _page < 0 ? 'zeros' : 'bytes'} to ${page}`));
          copies.perform();
        },
      },
      save: () => undefined,
    }),
  }));
  machine = smallMachine();
  const space = machine.createAddressSpace();
  const context = space.attach(machine.addDevice(driver()));
  const range = space.mmap({ bytes: 2 * PAGE });
  space.write(range.start, Uint8Array.of(7));
  expect(context.migrate(range, { to: 'device' })).toBe(2);
  expect(filled).toEqual(['1 bytes to 0', '1 zeros to 1']);
  expect(context.read(range.start, 1)[0]).toBe(7);
  expect([space.read(range.start, 1)[0], space.read(range.start + PAGE, 1)[0]]).toEqual([7, 0]);
  expect(pages).toHaveLength(4);
  expectClean(machine);
});

describe('opaque bits of a page', () => {
  test('reach the device with the translation, and are kept over mprotect, migration, eviction, split, fork and mremap', () => {
    const { counted, space, context, range } = world({ pages: 8 });
    const vpn = range.start / PAGE;
    context.setAttributes(part(range, 2, 2), 0x5a);
    const bits = (): (number | undefined)[] => [1, 2, 3, 4].map((i) => counted.bits.get(vpn + i));
    const touch = (): void => {
      counted.bits.clear();
      for (let i = 1; i < 5; i++) context.read(range.start + i * PAGE, 1);
    };
    touch();
    expect(bits()).toEqual([0, 0x5a, 0x5a, 0]);
    space.read(range.start, 5 * PAGE);
    touch();
    expect(bits()).toEqual([0, 0x5a, 0x5a, 0]);
    space.mprotect(part(range, 3, 1), 'r');
    context.migrate(range, { to: 'host' });
    touch();
    expect(bits()).toEqual([0, 0x5a, 0x5a, 0]);
    space.mprotect(part(range, 3, 1), 'rw');
    context.migrate(range, { to: 'host' });
    context.migrate(range, { to: 'device' });
    for (let i = 8; i < 16; i++) context.write(range.start + i * PAGE, Uint8Array.of(i));
    touch();
    expect(bits()).toEqual([0, 0x5a, 0x5a, 0]);
    const child = space.fork();
    counted.bits.clear();
    const other = child.attach(context.device);
    other.read(range.start + 2 * PAGE, 1);
    expect(counted.bits.get(vpn + 2)).toBe(0x5a);
    expectClean(machine);
  });

  test('are each device’s own: what one of them keeps leaves the others as they are', () => {
    const { counted, space, context, range } = world();
    const more = new Counted({});
    const other = space.attach(machine.addDevice(Object.create(more.driver, { name: { value: 'other', enumerable: true } }) as Driver));
    const vpn = range.start / PAGE;
    const seen = (): (number | undefined)[] => {
      context.read(range.start, 1);
      const mine = counted.bits.get(vpn);
      other.read(range.start, 1);
      return [mine, more.bits.get(vpn)];
    };
    context.setAttributes(range, 5);
    other.setAttributes(range, 6);
    expect(seen()).toEqual([5, 6]);
    context.setAttributes(range, 7);
    expect(seen()).toEqual([7, 6]);
    other.setAttributes(range, 0);
    expect(seen()).toEqual([7, 0]);
    expectClean(machine);
  });

  test.each([
    ['with fewer address bits', 40, false],
    ['that reads a copy', 48, true],
  ] as const)('reach a device %s', (_name, addressBits, readMostly) => {
    const seen: number[] = [];
    const driver = defineDriver(() => ({
      name: 'seer',
      addressBits,
      memory: [{ name: 'ram', kind: 'private' as const, bytes: 4 * PAGE }],
      attach: (context: Context): GmMmu => {
        const table = deviceTable(context);
        const enter = (mappings: Mappings): void => {
          mappings.each((_vpn, _pages, _page, _memory, _write, attributes) => seen.push(attributes));
          table.enter(mappings);
        };
        return {
          pmap: { enter, release: (ranges) => table.release(ranges) },
          walk: { translate: (vpn, access) => table.walk(vpn, access) },
        };
      },
    }));
    machine = smallMachine();
    const space = machine.createAddressSpace();
    const context = space.attach(machine.addDevice(driver()));
    const range = space.mmap({ bytes: PAGE });
    space.write(range.start, Uint8Array.of(1));
    space.attributes.set(range, { readMostly });
    context.setAttributes(range, 5);
    expect(context.read(range.start, 1)[0]).toBe(1);
    expect(space.dump(range)).toBe(readMostly ? 'r' : 'D');
    expect(seen).toEqual([5]);
    expectClean(machine);
  });

  test('change what the device has: its translations go, the next ones have the new bits; munmap ends them', () => {
    const { counted, space, context, range } = world();
    const vpn = range.start / PAGE;
    context.write(range.start, Uint8Array.of(1));
    expect(counted.bits.get(vpn)).toBe(0);
    context.setAttributes(range, 3);
    expect(context.read(range.start, 1)[0]).toBe(1);
    expect(counted.bits.get(vpn)).toBe(3);
    expect(context.mmu.walk!.translate(vpn, 'read')!.attributes).toBe(3);
    space.munmap(range);
    const again = space.mmap({ bytes: PAGE, at: range.start });
    context.write(again.start, Uint8Array.of(1));
    expect(counted.bits.get(again.start / PAGE)).toBe(0);
    expect(() => context.setAttributes(range, 1)).toThrow('has a page without a mapping');
    expect(() => context.setAttributes(again, 256)).toThrow('is not a number of 8 bits');
    expectClean(machine);
  });
});

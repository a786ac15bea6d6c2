/** Entries larger than a page in the ready-made table: they change what it costs, never what it says. */
import { describe, expect, test } from 'vitest';
import { type AddressSpace, type Context, createMachine, type Machine, MiB } from 'farfault';
import { defineDriver, type DeviceTable, deviceTable } from 'farfault/gmem';
import * as L from '../../assembly/layout.ts';

const HUGE = 2 * MiB;

/** A device of 8 MiB whose faults move 2 MiB, with the page sizes given; its table comes out through `tables`. */
const huge = (tables: DeviceTable[], pageBytes: readonly number[]) =>
  defineDriver(() => ({
    name: 'huge',
    pageBytes,
    granuleBytes: HUGE,
    memory: [{ name: 'vram', kind: 'private' as const, bytes: 8 * MiB }],
    attach(context) {
      const table = deviceTable(context);
      tables.push(table);
      return { pmap: table };
    },
  }))();

interface World {
  readonly machine: Machine;
  readonly space: AddressSpace;
  readonly context: Context;
  readonly start: number;
  /** Table pages of the device's table, the root included. */
  tablePages(): number;
  /** Whether the device's entry of a page is part of a larger one. */
  isLarge(addr: number): boolean;
}

async function world(pageBytes: readonly number[]): Promise<World> {
  const tables: DeviceTable[] = [];
  const machine = await createMachine({ dram: 8 * MiB, deviceMemory: 8 * MiB, tablePages: 256 });
  const space = machine.createAddressSpace();
  const context = space.attach(machine.addDevice(huge(tables, pageBytes)));
  const { start } = space.mmap({ at: 512 * MiB, bytes: 2 * HUGE, fixed: true });
  for (let page = 0; page < 512; page++) space.write(start + page * 4096, Uint8Array.of(page & 255));
  const { core } = machine.platform;
  const isLarge = (addr: number): boolean => (core.entry(tables[0]!.table, addr / 4096) & L.ENTRY_ORDER) !== 0;
  return { machine, space, context, start, isLarge, tablePages: () => core.field(tables[0]!.table, L.TABLE_TABLES) };
}

describe('a 2 MiB fault', () => {
  test('takes one entry where the driver says that it has 2 MiB pages, and 512 where it does not', async () => {
    const small = await world([4096]);
    const large = await world([4096, HUGE]);
    for (const { context, start } of [small, large]) context.write(start + 5 * 4096 + 1, Uint8Array.of(9));
    // Root, two levels in between, and a page of leaves.
    expect(small.tablePages()).toBe(4);
    expect(large.tablePages()).toBe(3);
    for (const { machine, context, start } of [small, large]) {
      expect([...context.read(start + 5 * 4096, 2)]).toEqual([5, 9]);
      expect(context.read(start + 511 * 4096, 1)[0]).toBe(511 & 255);
      expect(machine.verify()).toBe(undefined);
      machine.close();
    }
  });

  test('with 64 KiB pages takes groups of neighbouring entries', async () => {
    const { machine, context, start, isLarge } = await world([4096, 65536]);
    context.write(start, Uint8Array.of(9));
    expect(context.read(start + 17 * 4096, 1)[0]).toBe(17);
    expect([isLarge(start), isLarge(start + 511 * 4096)]).toEqual([true, true]);
    expect(machine.verify()).toBe(undefined);
    machine.close();
  });

  test('takes a larger size only where the page and its frame are both aligned to it', async () => {
    const { machine, space, context, start, isLarge } = await world([4096, 65536]);
    const other = space.mmap({ at: 256 * MiB, bytes: 4096, fixed: true });
    // Frame 0 is taken: what comes now is aligned to 16 pages on one side only.
    expect(context.migrate(other, { to: 'device' })).toBe(1);
    expect(context.migrate({ start, end: start + 40 * 4096 }, { to: 'device' })).toBe(40);
    expect(context.residency(start / 4096)! % 16).not.toBe(0);
    for (let page = 0; page < 40; page++)
      expect([context.read(start + page * 4096, 1)[0], isLarge(start + page * 4096)]).toEqual([page, false]);
    context.write(start + 15 * 4096, Uint8Array.of(99));
    expect([...space.read(start + 14 * 4096, 1), ...space.read(start + 15 * 4096, 1), ...space.read(start + 16 * 4096, 1)]).toEqual([
      14, 99, 16,
    ]);
    expect(machine.verify()).toBe(undefined);
    machine.close();
  });

  test('is cut when a part of it goes: the rest stays where it was', async () => {
    const { machine, space, context, start, tablePages } = await world([4096, HUGE]);
    context.write(start, Uint8Array.of(9));
    space.munmap({ start: start + 100 * 4096, end: start + 200 * 4096 });
    expect(tablePages()).toBe(4);
    expect(machine.verify()).toBe(undefined);
    expect(context.read(start + 99 * 4096, 1)[0]).toBe(99);
    expect(context.read(start + 200 * 4096, 1)[0]).toBe(200);
    expect(() => context.read(start + 100 * 4096, 1)).toThrow('is not mapped');
    // No further fault was needed for what stayed.
    expect(machine.counters.deviceFaults['huge']).toBe(2);
    machine.close();
  });

  test('goes as a whole when there is no table page to cut it with, and comes back with the next fault', async () => {
    const { machine, space, context, start } = await world([4096, HUGE]);
    context.write(start, Uint8Array.of(9));
    const { core } = machine.platform;
    // No table page left: the arena ends where it has come to, and nothing is on its free lists.
    const [most, free, clean] = [core.header(L.H_PAGES_MAX), core.header(L.H_PAGES_FREE), core.header(L.H_PAGES_CLEAN)];
    core.setHeader(L.H_PAGES_MAX, core.header(L.H_PAGES_BUMP));
    core.setHeader(L.H_PAGES_FREE, 0);
    core.setHeader(L.H_PAGES_CLEAN, 0);
    space.munmap({ start: start + 100 * 4096, end: start + 200 * 4096 });
    core.setHeader(L.H_PAGES_FREE, free);
    core.setHeader(L.H_PAGES_CLEAN, clean);
    core.setHeader(L.H_PAGES_MAX, most);
    expect(machine.verify()).toBe(undefined);
    expect(context.read(start + 99 * 4096, 1)[0]).toBe(99);
    expect(machine.counters.deviceFaults['huge']).toBe(2);
    expect(machine.verify()).toBe(undefined);
    machine.close();
  });
});

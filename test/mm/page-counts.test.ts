/** What a page that moves by itself is counted as, and which operation of the copy engine it is given to. */
import { expect, test } from 'vitest';
import { createMachineSync, MiB } from 'farfault';
import type { Driver } from 'farfault/gmem';
import nouveau from 'farfault/drivers/nouveau';

const P = 4096;
const PAGES = 8;

/** A nouveau of another name, whose copy engine notes what it is asked for. */
function named(name: string, asked: string[]): Driver {
  const driver = nouveau({ vram: 16 * MiB });
  return {
    ...driver,
    name,
    attach(context) {
      const mmu = driver.attach(context);
      const noting =
        (operation: 'toDevice' | 'toHost' | 'zero'): NonNullable<NonNullable<typeof mmu.copy>['zero']> =>
        (copies) => {
          asked.push(`${name} ${operation} ${copies.pages}`);
          return mmu.copy![operation]!(copies);
        };
      return { ...mmu, copy: { toDevice: noting('toDevice'), toHost: noting('toHost'), zero: noting('zero') } };
    },
  };
}

test('pages that one device has, then another, are counted between their own memories and the host, each way by its operation', () => {
  const asked: string[] = [];
  const machine = createMachineSync({ dram: 4 * MiB, deviceMemory: 32 * MiB });
  const space = machine.createAddressSpace();
  const contexts = ['a', 'b'].map((name) => space.attach(machine.addDevice(named(name, asked))));
  const { start } = space.mmap({ bytes: PAGES * P });
  const page = (i: number): number => start + i * P;
  space.write(page(0), new Uint8Array(2 * P).fill(7));
  const read = (device: number, addr: number): void => void contexts[device]!.submit({ accesses: [{ op: 'read', addr, bytes: 4 }] });
  // A page each with bytes, and a hole.
  for (const i of [0, 1]) {
    read(i, page(i));
    read(i, page(2 + i));
  }
  for (const i of [0, 1, 2, 3]) space.read(page(i), 4);
  const host = machine.nodes[0]!.name;
  const one = { pages: 1, bytes: P };
  const two = { pages: 2, bytes: 2 * P };
  expect(machine.counters.migrated).toEqual({
    [host]: { 'a.vram': one, 'b.vram': one },
    'a.vram': { [host]: two },
    'b.vram': { [host]: two },
  });
  expect(asked).toEqual([
    'a toDevice 1',
    'a zero 1',
    'b toDevice 1',
    'b zero 1',
    ...['a', 'b', 'a', 'b'].map((name) => `${name} toHost 1`),
  ]);
});

test('pages that come home from one device, and when it has left from another, are counted from the memory that they were in', () => {
  const machine = createMachineSync({ dram: 4 * MiB, deviceMemory: 32 * MiB });
  const host = machine.nodes[0]!.name;
  const space = machine.createAddressSpace();
  const range = space.mmap({ bytes: 2 * P });
  space.write(range.start, new Uint8Array(2 * P).fill(7));
  for (const name of ['a', 'b']) {
    const context = space.attach(machine.addDevice(named(name, [])));
    context.migrate(range, { to: 'device' });
    for (const page of [0, 1]) space.read(range.start + page * P, 4);
    context.detach();
  }
  const two = { pages: 2, bytes: 2 * P };
  expect(machine.counters.migrated).toMatchObject({ 'a.vram': { [host]: two }, 'b.vram': { [host]: two } });
});

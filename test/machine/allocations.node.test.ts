/** Many pages at once leave nothing on the heap of JavaScript for each of them. */
import { createMachineSync } from 'farfault';
import nouveau from 'farfault/drivers/nouveau';
import { defineDriver, type Driver } from 'farfault/gmem';
import { expect, test } from 'vitest';
import { Allocations } from './allocations.ts';
import { PAGE } from './probe.ts';

const FEW = 1024;
const MANY = 16384;
const TIMES = 12;

const plain = defineDriver(({ pages = 1 }: { pages?: number }) => ({
  name: 'plain',
  memory: [{ name: 'ram', kind: 'private' as const, bytes: pages * PAGE }],
  attach: () => ({}),
}));

/** Bytes that are asked for while so many pages go to the device, and home, TIMES over. */
async function asked(driver: Driver, pages: number): Promise<number> {
  const machine = createMachineSync({ dram: 2 * pages * PAGE });
  const space = machine.createAddressSpace();
  const context = space.attach(machine.addDevice(driver));
  const range = space.mmap({ bytes: pages * PAGE });
  space.write(range.start, new Uint8Array(pages * PAGE).fill(1));
  const move = (): number => context.migrate(range, { to: 'device' }) + context.migrate(range, { to: 'host' });
  for (let i = 0; i < 4; i++) expect(move()).toBe(2 * pages);
  const allocations = new Allocations();
  allocations.begin();
  for (let i = 0; i < TIMES; i++) move();
  const bytes = await allocations.end();
  expect(machine.verify()).toBeUndefined();
  machine.close();
  return bytes;
}

test.each([
  ['a device whose memory the machine hands out', (pages: number) => plain({ pages })],
  ['nouveau, which hands it out itself', (pages: number) => nouveau({ vram: pages * PAGE })],
] as const)('a migration to %s, and home, asks for as much whatever the pages', async (_, driver) => {
  await asked(driver(MANY), MANY);
  const few = await asked(driver(FEW), FEW);
  const many = await asked(driver(MANY), MANY);
  // A number that is not small takes 12 bytes.
  expect((many - few) / (TIMES * 2 * (MANY - FEW)), `bytes for a page; ${few} for ${FEW}, ${many} for ${MANY}`).toBeLessThan(1);
});

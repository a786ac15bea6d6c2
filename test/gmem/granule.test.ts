/** A granule that comes to a device at a fault in its middle: who gets a frame goes by need, which one by address. */
import { createMachineSync, MiB } from 'farfault';
import nouveau from 'farfault/drivers/nouveau';
import { expect, test } from 'vitest';
import { expectClean, PAGE } from '../machine/probe.ts';

test.each([0, 5, 15])('neighbours lie together in its memory, whichever page is faulted for (page %i of 16)', (faulting) => {
  const machine = createMachineSync({ dram: MiB, deviceMemory: 4 * MiB });
  const space = machine.createAddressSpace();
  const context = space.attach(machine.addDevice(nouveau({ vram: 4 * MiB, granule: 16 * PAGE })));
  const { start } = space.mmap({ at: 16 * MiB, bytes: 16 * PAGE, fixed: true });
  space.write(start, new Uint8Array(16 * PAGE).fill(7));
  context.read(start + faulting * PAGE, 1);
  const { core } = machine.platform;
  const frames = Array.from({ length: 16 }, (_, i) => {
    core.entry(space.table, start / PAGE + i);
    return core.entryLow;
  });
  expect(frames).toEqual(Array.from({ length: 16 }, (_, i) => frames[0]! + i));
  expect(machine.counters.transfers.toDevice).toEqual({ 16: 1 });
  expectClean(machine);
  machine.close();
});

/** What a driver is, found by making it and attaching it once. */
import { createMachine } from '../../machine.ts';
import type { MachineOptions } from '../../machine.ts';
import { type Driver, DeviceTable, type MemoryDescription } from '../../gmem/index.ts';
import type { AnyFactory, Expectations, Profile } from './case.ts';

const PAGE = 4096;
const MIB = 2 ** 20;
/** What a machine has beside what the driver's memories need. */
const HOST_BYTES = 16 * MIB;

/** Bytes that a memory takes from the machine. */
function backedBytes(memory: MemoryDescription): number {
  return memory.bytesIn === undefined || memory.bytesIn === 'backed' ? memory.bytes : 0;
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((a, b) => a + b, 0);
}

/** A machine with room for two devices of this kind, and host memory for all that they hold. */
export function machineFor(driver: Driver, expectations: Expectations): MachineOptions {
  const memories = driver.memory ?? [];
  const backed = sum(memories.map(backedBytes));
  const bodiless = sum(memories.map((memory) => memory.bytes - backedBytes(memory))) / PAGE;
  const hugePage = 2 * MIB;
  return {
    dram: HOST_BYTES + 2 * sum(memories.map(({ bytes }) => bytes)),
    deviceMemory: Math.max(2 * backed + 4 * hugePage, HOST_BYTES * 2),
    bodilessFrames: 2 * bodiless,
    ...expectations.machine,
  };
}

/** Makes the driver, attaches it to an empty address space, and looks. Throws what the driver throws. */
export async function profileOf(factory: AnyFactory, expectations: Expectations): Promise<Profile> {
  const driver = factory(expectations.options as never);
  const machine = await createMachine(machineFor(driver, expectations));
  try {
    const context = machine.createAddressSpace().attach(machine.addDevice(driver));
    const memories = driver.memory ?? [];
    return {
      driver,
      mmu: context.mmu,
      mode: context.mode,
      ownTable: context.mmu.pmap !== undefined && !(context.mmu.pmap instanceof DeviceTable),
      memoryBytes: sum(memories.map(({ bytes }) => bytes)),
      memoryPages: (memories[0]?.bytes ?? 0) / PAGE,
      granulePages: context.device.granulePages,
    };
  } finally {
    machine.close();
  }
}

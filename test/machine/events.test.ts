import { afterEach, describe, expect, test } from 'vitest';
import { type Counters, type Machine, type MachineEvent } from 'farfault';
import mirror from 'farfault/drivers/mirror';
import { expectClean, PAGE, Probe, smallMachine } from './probe.ts';

let machine: Machine;
afterEach(() => machine.close());

/** The counters, made from the events alone. */
function folded(
  events: readonly MachineEvent[],
): Pick<
  Counters,
  | 'cpuFaults'
  | 'deviceFaults'
  | 'batches'
  | 'coalesced'
  | 'deferred'
  | 'cancelled'
  | 'overflow'
  | 'migrated'
  | 'cleared'
  | 'evictions'
  | 'invalidations'
> {
  const sums = { batches: 0, coalesced: 0, deferred: 0, cancelled: 0, overflow: 0, cleared: 0, evictions: 0, invalidations: 0 };
  const cpuFaults: Counters['cpuFaults'] = { zero: 0, demand: 0, cow: 0, reuse: 0, home: 0 };
  const deviceFaults: Record<string, number> = {};
  const migrated: Counters['migrated'] = {};
  for (const event of events) {
    switch (event.type) {
      case 'fault.cpu':
        if (!event.forDevice) cpuFaults[event.cause] = (cpuFaults[event.cause] ?? 0) + 1;
        break;
      case 'fault.device':
        deviceFaults[event.device] = (deviceFaults[event.device] ?? 0) + 1;
        break;
      case 'fault.cancelled':
        sums.cancelled++;
        break;
      case 'batch.served':
        sums.batches++;
        sums.coalesced += event.coalesced;
        sums.deferred += event.deferred;
        sums.overflow += event.overflow;
        break;
      case 'pages.migrated': {
        sums.cleared += event.cleared;
        if (event.pages === 0) break;
        const cell = ((migrated[event.from] ??= {})[event.to] ??= { pages: 0, bytes: 0 });
        cell.pages += event.pages;
        cell.bytes += event.pages * PAGE;
        break;
      }
      case 'frames.evicted':
        if (event.pages > 0) sums.evictions++;
        break;
      case 'range.invalidated':
        sums.invalidations++;
        break;
      default:
    }
  }
  return { ...sums, cpuFaults, deviceFaults, migrated };
}

/** A bit of everything. */
function busy(): void {
  const space = machine.createAddressSpace();
  const gpu = space.attach(machine.addDevice(new Probe({ name: 'gpu', pages: 4, faultEntries: 3 }).driver));
  const nic = space.attach(machine.addDevice(mirror()));
  const range = space.mmap({ bytes: 8 * PAGE });
  space.write(range.start, new Uint8Array(4 * PAGE).fill(1));
  space.read(range.start + 5 * PAGE, 1);
  space.write(range.start + 5 * PAGE, Uint8Array.of(1));
  gpu.submit({
    accesses: Array.from({ length: 12 }, (_, i) => ({ op: 'write' as const, addr: range.start + (i % 9) * PAGE, bytes: 2, value: i })),
    lanes: 6,
  });
  nic.submit({ accesses: Array.from({ length: 8 }, (_, i) => ({ op: 'read' as const, addr: range.start + i * PAGE, bytes: 2 })) });
  gpu.write(range.start, Uint8Array.of(1));
  gpu.read(range.start + PAGE, 3 * PAGE);
  expect(() => gpu.write(range.end, Uint8Array.of(1))).toThrow('is not mapped');
  space.mprotect({ start: range.start, end: range.start + PAGE }, 'r');
  gpu.migrate(range, { to: 'host' });
  space.mprotect({ start: range.start, end: range.start + PAGE }, 'rw');
  space.write(range.start, Uint8Array.of(1));
  gpu.detach();
  space.munmap(range);
  expectClean(machine);
}

describe('events', () => {
  test('folded are the counters', () => {
    machine = smallMachine();
    const events: MachineEvent[] = [];
    machine.onEvent((event) => events.push(event));
    busy();
    expect(machine.counters).toMatchObject(folded(events));
    expect(machine.counters.evictions).toBeGreaterThan(0);
    expect(machine.counters.cancelled).toBeGreaterThan(0);
    expect(machine.counters.overflow).toBeGreaterThan(0);
    expect(events.map(({ tick }) => tick)).toEqual(events.map((_, i) => i));
    expect(new Set(events.map(({ type }) => type)).size).toBeGreaterThan(10);
  });

  test('cost nothing when nobody listens: none is made, and the counters are the same', () => {
    machine = smallMachine();
    busy();
    const alone = structuredClone(machine.counters);
    machine.reset();
    let heard = 0;
    const stop = machine.onEvent(() => heard++);
    busy();
    expect(machine.counters).toEqual(alone);
    expect(heard).toBeGreaterThan(0);
    stop();
    const before = heard;
    machine.createAddressSpace().mmap({ bytes: PAGE });
    expect(heard).toBe(before);
  });

  test('go to every listener; one that throws breaks nothing off', () => {
    machine = smallMachine();
    machine.onEvent(() => {
      throw new Error('listener is broken');
    });
    let heard = 0;
    machine.onEvent(() => heard++);
    const space = machine.createAddressSpace();
    const context = space.attach(machine.addDevice(mirror()));
    const range = space.mmap({ bytes: PAGE });
    context.write(range.start, Uint8Array.of(1));
    space.munmap(range);
    expect(() => context.read(range.start, 1)).toThrow('is not mapped');
    expect(heard).toBe(machine.strayErrors.length);
    expect(machine.strayErrors.every((error) => (error as Error).message === 'listener is broken')).toBe(true);
    expect(machine.verify()).toBe(undefined);
  });
});

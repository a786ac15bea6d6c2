/** A device that runs one address space at a time: who has it, and who waits. */
import { afterEach, describe, expect, test } from 'vitest';
import {
  type AddressRange,
  type AddressSpace,
  type Context,
  type DevicePolicy,
  type Machine,
  type MachineEvent,
  restoreMachine,
} from 'farfault';
import mirror from 'farfault/drivers/mirror';
import type { Device, Driver } from 'farfault/gmem';
import { expectClean, PAGE, Probe, probeDriver, smallMachine } from '../machine/probe.ts';

let machine: Machine;
afterEach(() => machine?.close());

interface Side {
  readonly space: AddressSpace;
  readonly context: Context;
  readonly range: AddressRange;
}

/** Two address spaces with eight pages each, on one device. */
function world(driver: Driver, policy: DevicePolicy = {}): { device: Device; a: Side; b: Side } {
  machine = smallMachine();
  const device = machine.addDevice({ ...driver, activeContexts: 'one' }, policy);
  const side = (value: number): Side => {
    const space = machine.createAddressSpace();
    const range = space.mmap({ bytes: 8 * PAGE });
    space.write(range.start, new Uint8Array(8 * PAGE).fill(value));
    return { space, context: space.attach(device), range };
  };
  return { device, a: side(1), b: side(2) };
}

/** Notes who runs. */
function switches(): string[] {
  const log: string[] = [];
  machine.onEvent((event: MachineEvent) => {
    if (event.type === 'context.switched') log.push(`${event.from} > ${event.space}`);
  });
  return log;
}

/** One lane, a page an access: as many rounds as pages, and one. */
const job = ({ range }: Side, pages = 4) => ({
  lanes: 1,
  accesses: Array.from({ length: pages }, (_, i) => ({ op: 'write' as const, addr: range.start + i * PAGE, bytes: 1, value: 7 })),
});

describe('the current context', () => {
  test('is the first that was attached, then whoever works, or is switched to', () => {
    const { device, a, b } = world(probeDriver());
    expect(device.current).toBe(a.context);
    b.context.read(b.range.start, 1);
    expect([device.current === b.context, a.context.isCurrent, b.context.isCurrent]).toEqual([true, false, true]);
    device.switchTo(a.context);
    expect(device.current).toBe(a.context);
    device.switchTo(a.context);
    b.context.submit(job(b));
    expect([device.current, device.switches]).toEqual([b.context, 4]);
    b.context.detach();
    expect(device.current).toBe(undefined);
    expectClean(machine);
  });

  test('is chosen when a device is attached: activate', () => {
    const { device, a } = world(probeDriver());
    const other = machine.createAddressSpace();
    const third = machine.createAddressSpace();
    other.attach(device, { activate: false });
    expect(device.current).toBe(a.context);
    const context = third.attach(device, { activate: true });
    expect(device.current).toBe(context);
    expectClean(machine);
  });

  test('is nobody’s affair on a device that runs all of them', () => {
    machine = smallMachine();
    const space = machine.createAddressSpace();
    const device = machine.addDevice(probeDriver());
    expect(() => space.attach(device, { activate: false })).toThrow('runs one address space at a time');
    const context = space.attach(device, { activate: true });
    expect([device.current, context.isCurrent]).toEqual([undefined, true]);
    expect(() => device.switchTo(context)).toThrow('runs all its address spaces');
  });

  test('is told to the driver: unload of the one before, then load', () => {
    const log: string[] = [];
    const named: Driver = {
      name: 'named',
      attach(context) {
        const { id } = context.space;
        return { load: () => void log.push(`load ${id}`), unload: () => void log.push(`unload ${id}`) };
      },
    };
    const { a, b } = world(named);
    const [one, two] = [a.space.id, b.space.id];
    b.context.write(b.range.start, Uint8Array.of(1));
    a.context.detach();
    b.context.detach();
    expect(log).toEqual([`load ${one}`, `unload ${one}`, `load ${two}`, `unload ${two}`]);
    expectClean(machine);
  });
});

describe('jobs of two address spaces', () => {
  test('take turns, a round each, and each comes to its right end', async () => {
    const probe = new Probe();
    const { a, b } = world(probe.driver);
    const log = switches();
    probe.slow.add('toDevice');
    const both = [a.context.submitAsync(job(a)), b.context.submitAsync(job(b))];
    let turns = 0;
    while (probe.unfinished > 0 && turns++ < 50) probe.finishOne();
    const [one, two] = await Promise.all(both);
    expect([...one!.order, ...two!.order]).toEqual([0, 1, 2, 3, 0, 1, 2, 3]);
    expect([one!.rounds, two!.rounds]).toEqual([5, 5]);
    const [x, y] = [a.space.id, b.space.id];
    expect(log.slice(0, 4)).toEqual([`${x} > ${y}`, `${y} > ${x}`, `${x} > ${y}`, `${y} > ${x}`]);
    expect(log).toHaveLength(9);
    for (const { space, range } of [a, b]) for (let i = 0; i < 4; i++) expect(space.read(range.start + i * PAGE, 1)[0]).toBe(7);
    expectClean(machine);
  });

  test('have longer slices by the policy of the device', async () => {
    const probe = new Probe();
    const { a, b } = world(probe.driver, { slice: 2 });
    const log = switches();
    probe.slow.add('toDevice');
    const both = [a.context.submitAsync(job(a)), b.context.submitAsync(job(b))];
    while (probe.unfinished > 0) probe.finishOne();
    await Promise.all(both);
    // Nine with slices of one round: see above.
    expect(log).toHaveLength(5);
    expectClean(machine);
  });

  test('let an access and a switch in between', async () => {
    const probe = new Probe();
    const { device, a, b } = world(probe.driver);
    probe.slow.add('toDevice');
    const long = a.context.submitAsync(job(a, 8));
    const read = b.context.readAsync(b.range.start, 1);
    const switched = device.switchToAsync(b.context);
    expect(machine.pending.map(({ waitsFor }) => waitsFor).filter((each) => each.startsWith('turn lock'))).toHaveLength(2);
    expect(() => machine.createAddressSpace().attach(device, { activate: true })).toThrow('would take probe from what it runs');
    while (probe.unfinished > 0) probe.finishOne();
    await switched;
    expect((await read)[0]).toBe(2);
    expect((await long).rounds).toBe(9);
    expectClean(machine);
  });

  test('end one by one when one of them loses its address space while it waits', async () => {
    const probe = new Probe();
    const { a, b } = world(probe.driver);
    probe.slow.add('toDevice');
    const first = a.context.submitAsync(job(a));
    const second = b.context.submitAsync(job(b)).then(
      () => 'done',
      (error: Error) => error.message,
    );
    b.context.detach();
    while (probe.unfinished > 0) probe.finishOne();
    expect((await first).rounds).toBe(5);
    expect(await second).toContain('has been detached');
    expectClean(machine);
  });
});

test('whose turn it is is saved', async () => {
  const { device, b } = world(mirror());
  b.context.read(b.range.start, 1);
  const { machine: again, handles } = await restoreMachine<{ device: Device; b: Side }>(machine.save({ device, b }), {
    drivers: [{ ...mirror(), activeContexts: 'one' }],
  });
  expect(handles.device.current).toBe(handles.b.context);
  expect(handles.b.context.submit(job(handles.b)).rounds).toBe(4);
  expectClean(again);
  again.close();
});

/** What `npm run coherence` has found. */
import { afterEach, describe, expect, test } from 'vitest';
import type { AddressSpace, Context, Machine } from 'farfault';
import mirror from 'farfault/drivers/mirror';
import nouveau from 'farfault/drivers/nouveau';
import { type Copies, type Driver, permits } from 'farfault/gmem';
import { exploreAll, printFinding } from 'farfault/testing';
import { Evict } from '../../sdk/gmem/evict.ts';
import { Migration } from '../../sdk/mm/migration.ts';
import { expectClean, PAGE, Probe, smallMachine } from '../machine/probe.ts';
import { PeerDevice } from './peer-device.ts';

let machine: Machine;

afterEach(() => machine.close());

test('a device that writes while the right goes is told so, whatever comes first', () => {
  machine = smallMachine({ tablePages: 128 });
  const outcomes = new Set<string>();
  const { complete, finding } = exploreAll(() => {
    machine.reset();
    const space = machine.createAddressSpace();
    const context = space.attach(machine.addDevice(mirror()));
    const range = space.mmap({ bytes: PAGE });
    const write = context.writeStep(range.start, Uint8Array.of(1));
    return {
      steps: [write, space.protectStep(range, 'none')],
      check() {
        outcomes.add(write.outcome);
        expectClean(machine);
      },
    };
  });
  expect(finding && printFinding(finding)).toBe(undefined);
  expect(complete).toBe(true);
  expect([...outcomes].sort()).toEqual(['done', 'permission']);
});

test('a page that a program pins to a device becomes its own: who shares it since a fork goes on', () => {
  machine = smallMachine();
  const space = machine.createAddressSpace();
  const device = machine.addDevice(nouveau({ vram: 16 * PAGE }));
  const context = space.attach(device);
  const range = space.mmap({ bytes: 2 * PAGE });
  space.write(range.start, new Uint8Array(2 * PAGE).fill(1));
  // One is on the device already, one on the host.
  context.read(range.start, 1);
  const child = space.fork();
  expect(space.hmadvise(range, 'pinned', { device })).toMatchObject({ status: 'done', pages: 2 });
  expect(space.dump(range).toUpperCase()).toBe('DD');
  for (const at of [range.start, range.start + PAGE]) {
    expect(child.read(at, 1)[0]).toBe(1);
    child.write(at, Uint8Array.of(2));
    expect(context.read(at, 1)[0]).toBe(1);
    expect(child.read(at, 1)[0]).toBe(2);
  }
  child.close();
  // Without the right to read it there is no copy of it either.
  const other = space.mmap({ bytes: PAGE });
  context.write(other.start, Uint8Array.of(3));
  const second = space.fork();
  space.mprotect(other, 'none');
  expect(space.hmadvise(other, 'pinned', { device })).toMatchObject({ status: 'failed', reason: 'held' });
  expect(second.read(other.start, 1)[0]).toBe(3);
  second.close();
  space.close();
  expectClean(machine);
});

test('bytes are copied to a page that the device they go to has for its atomics', () => {
  machine = smallMachine();
  const space = machine.createAddressSpace();
  for (const atomics of ['exclusive', 'native'] as const) {
    const card: Driver = {
      name: atomics,
      atomics: [atomics],
      memory: [{ name: 'ram', kind: 'private', bytes: 4 * PAGE }],
      attach: () => ({}),
    };
    const device = machine.addDevice(card);
    const context = space.attach(device);
    const range = space.mmap({ bytes: 2 * PAGE });
    space.write(range.start + PAGE, Uint8Array.of(7));
    context.atomic(range.start, { op: 'add', bytes: 4, operand: 1 });
    expect(space.hmemcpy(range.start + 4, range.start + PAGE, 1, { to: device })).toMatchObject({ status: 'done', bytes: 1 });
    expect([...space.read(range.start, 5)]).toEqual([1, 0, 0, 0, 7]);
    expect(context.atomic(range.start, { op: 'add', bytes: 4, operand: 1 })).toBe(1);
  }
  space.close();
  expectClean(machine);
});

test('a part of a page on a device is written without the writes of others to the rest of it being undone', async () => {
  machine = smallMachine();
  const space = machine.createAddressSpace();
  const probe = new Probe({ cached: true });
  const device = machine.addDevice(probe.driver);
  const context = space.attach(device);
  const range = space.mmap({ bytes: 2 * PAGE });
  space.write(range.start, new Uint8Array(2 * PAGE).fill(1));
  space.hmadvise(range, 'prefetch', { device });
  probe.slow.add('toHost').add('toDevice');
  const copy = space.hmemcpyAsync(range.start + 100, range.start + PAGE, 50);
  context.write(range.start, Uint8Array.of(2));
  probe.slow.clear();
  probe.finish();
  expect(await copy).toMatchObject({ status: 'done', bytes: 50 });
  expect(context.read(range.start, 1)[0]).toBe(2);
  space.close();
  expectClean(machine);
});

test('and where only an engine reaches the page, nobody has it while it is changed', async () => {
  machine = smallMachine({ deviceMemory: 0, bodilessFrames: 8 });
  const ram = new Uint8Array(4 * PAGE);
  const late: (() => void)[] = [];
  const space = machine.createAddressSpace();
  const driver: Driver = {
    name: 'card',
    memory: [{ name: 'ram', kind: 'private', bytes: 4 * PAGE, bytesIn: 'external' }],
    attach(context) {
      const copying = (move: (page: number, pages: number, bytes: Uint8Array) => void) => (copies: Copies) => {
        const kept = copies.keep();
        const ticket = context.ticket('copy');
        late.push(() => {
          kept.eachHost(move);
          ticket.complete();
        });
        return ticket;
      };
      return {
        copy: {
          toDevice: copying((page, _, bytes) => ram.set(bytes, page * PAGE)),
          toHost: copying((page, pages, bytes) => bytes.set(ram.subarray(page * PAGE, (page + pages) * PAGE))),
          zero: (copies) => copies.each((pages, _from, _page, _to, page) => void ram.fill(0, page * PAGE, (page + pages) * PAGE)),
        },
      };
    },
  };
  const finish = async (): Promise<void> => {
    for (let turns = 0; turns < 8; turns++) {
      late.shift()?.();
      await Promise.resolve();
    }
  };
  const device = machine.addDevice(driver);
  const context = space.attach(device);
  const range = space.mmap({ bytes: 2 * PAGE });
  space.write(range.start, new Uint8Array(2 * PAGE).fill(1));
  void context.migrateAsync({ start: range.start, end: range.start + PAGE }, { to: 'device' });
  await finish();
  expect(context.fault(range.start, 'write')).toBe('present');
  const copy = space.hmemcpyAsync(range.start + 100, range.start + PAGE, 50);
  // The page is being fetched: the device cannot write to it any more, and has it again afterwards.
  expect(space.holders(range.start).writers).toEqual([]);
  const fault = context.faultAsync(range.start, 'write');
  await finish();
  expect(await copy).toMatchObject({ status: 'done', ways: { H2D: 50 } });
  expect(await fault).toBe('served');
  expect(space.holders(range.start).writers).toEqual(['card']);
  expect([...ram.subarray(98, 102)]).toEqual([1, 1, 1, 1]);
  const gone = space.closeAsync();
  await finish();
  await gone;
  expectClean(machine);
});

test('a copy comes to an end while another device reads the page that it writes, again and again', async () => {
  machine = smallMachine();
  const space = machine.createAddressSpace();
  const probes = [new Probe({ name: 'one', pages: 0 }), new Probe({ name: 'two' })];
  const [one, two] = probes.map(({ driver }) => space.attach(machine.addDevice(driver, { placement: { duplicate: 'reads' } }))) as [
    Context,
    Context,
  ];
  const range = space.mmap({ bytes: 2 * PAGE });
  space.write(range.start, new Uint8Array(2 * PAGE).fill(1));
  two.write(range.start, Uint8Array.of(2));
  for (const probe of probes) probe.slow.add('invalidate').add('toHost').add('toDevice');
  const read = one.readAsync(range.start, 1);
  const copy = space.hmemcpyAsync(range.start + 1, range.start + PAGE, 50, { to: two.device });
  for (let turns = 0; turns < 1000 && probes.some(({ unfinished }) => unfinished > 0); turns++) {
    for (const probe of probes) if (probe.unfinished > 0) probe.finishOne();
    await Promise.resolve();
  }
  expect(await copy).toMatchObject({ status: 'done', bytes: 50 });
  expect((await read)[0]).toBe(2);
  for (const probe of probes) probe.slow.clear();
  space.close();
  expectClean(machine);
});

describe('what a device has written goes to the second tier with its bytes', () => {
  /** A host of four pages, and four more that fill it. */
  function pressed(driver: Driver): { space: AddressSpace; context: Context; at: (page: number) => number; press: () => void } {
    machine = smallMachine({ dram: 4 * PAGE, swap: 32 * PAGE });
    const space = machine.createAddressSpace();
    const context = space.attach(machine.addDevice(driver));
    const { start } = space.mmap({ bytes: 9 * PAGE });
    const at = (page: number): number => start + page * PAGE;
    const press = (): void => {
      for (let round = 0; round < 2; round++) for (let page = 1; page < 9; page++) space.write(at(page), Uint8Array.of(page));
    };
    space.write(at(0), Uint8Array.of(1));
    press();
    // It has come back, and has its page in the second tier still.
    expect(space.read(at(0), 1)[0]).toBe(1);
    return { space, context, at, press };
  }

  /** Its driver says what it has written, when it is asked. */
  function marking(probe: Probe): Driver {
    const marks = new Map<number, boolean>();
    return {
      ...probe.driver,
      attach(context) {
        const mmu = probe.driver.attach(context);
        const { walk } = mmu;
        return {
          ...mmu,
          walk: {
            translate(vpn, access) {
              const found = walk!.translate(vpn, access);
              if (permits(found, access)) marks.set(vpn, access === 'write');
              return found;
            },
            harvest(ranges, taken) {
              ranges.each((vpn, pages) => {
                for (const [each, dirty] of marks) if (each >= vpn && each < vpn + pages && marks.delete(each)) taken.add(each, dirty);
              });
            },
          },
        };
      },
    };
  }

  test('when it takes its pages by itself', () => {
    const { space, context, at, press } = pressed(new PeerDevice({ pages: 2 }).driver);
    context.read(at(0), 1);
    context.write(at(0), Uint8Array.of(2));
    expect(space.read(at(0), 1)[0]).toBe(2);
    press();
    expect(space.read(at(0), 1)[0]).toBe(2);
    space.close();
    expectClean(machine);
  });

  test('when bytes are copied to its memory', () => {
    const { space, context, at, press } = pressed(marking(new Probe({ pages: 2 })));
    const { device } = context;
    space.hmadvise({ start: at(0), end: at(1) }, 'prefetch', { device });
    expect(space.hmemcpy(at(0), at(8), 1)).toMatchObject({ status: 'done', bytes: 1 });
    const { platform } = machine;
    platform.scheduler.runSync(new Evict(platform).from(device.memory!).frames([...device.memory!.victims(1)]));
    press();
    expect(space.read(at(0), 1)[0]).toBe(8);
    space.close();
    expectClean(machine);
  });

  test('when it writes while its translation is being flushed', async () => {
    const probe = new Probe({ pages: 0, cached: true });
    const { space, context, at } = pressed(marking(probe));
    // It may write, and has not yet.
    expect(context.fault(at(0), 'write')).toBe('served');
    context.read(at(0), 1);
    probe.slow.add('invalidate');
    const { platform } = machine;
    platform.core.entry(space.table, at(0) / PAGE);
    const gone = platform.scheduler.runAsync(new Migration(platform).framesToTier([platform.core.entryLow], platform.tier!));
    expect(probe.unfinished).toBe(1);
    context.write(at(0), Uint8Array.of(2));
    probe.slow.clear();
    probe.finish();
    await gone;
    expect(space.dump({ start: at(0), end: at(1) })).toBe('s');
    expect(space.read(at(0), 1)[0]).toBe(2);
    space.close();
    expectClean(machine);
  });
});

test('a job goes on where its memory is full of what another space has kept of its page', () => {
  machine = smallMachine();
  const space = machine.createAddressSpace();
  const driver: Driver = { name: 'apu', memory: [{ name: 'ram', kind: 'coherent', bytes: PAGE }], attach: () => ({}) };
  const context = space.attach(machine.addDevice(driver));
  const range = space.mmap({ bytes: PAGE });
  space.write(range.start, Uint8Array.of(1));
  expect(context.migrate(range, { to: 'device' })).toBe(1);
  const child = space.fork();
  // The write copies the page; the old one stays, for the child, and was needed when the batch began.
  expect(context.submit({ accesses: [{ op: 'write', addr: range.start, bytes: 1, value: 2 }] }).cancelled).toEqual([]);
  expect([space.read(range.start, 1)[0], child.read(range.start, 1)[0]]).toEqual([2, 1]);
  child.close();
  space.close();
  expectClean(machine);
});

test('an engine that copies by way of a full host has room made there', () => {
  machine = smallMachine({ dram: 2 * PAGE, swap: 8 * PAGE });
  const space = machine.createAddressSpace();
  const device = machine.addDevice(new Probe().driver);
  space.attach(device);
  const { start } = space.mmap({ bytes: 4 * PAGE });
  const two = { start, end: start + 2 * PAGE };
  space.write(start, new Uint8Array(2 * PAGE).fill(1));
  space.hmadvise(two, 'prefetch', { device });
  space.write(start + 2 * PAGE, new Uint8Array(2 * PAGE).fill(2));
  expect(machine.nodes[0]).toMatchObject({ name: 'dram', used: 2 });
  expect(space.hmemcpy(start, start + PAGE, PAGE)).toMatchObject({ status: 'done', ways: { D2D: PAGE } });
  expect([0, 1, 2, 3].map((page) => space.read(start + page * PAGE, 1)[0])).toEqual([1, 1, 2, 2]);
  space.close();
  expectClean(machine);
});

test('the room that a copy by hand needs on a full host is not made of the pages that it copies', () => {
  machine = smallMachine({ dram: 2 * PAGE, swap: 8 * PAGE });
  const space = machine.createAddressSpace();
  const device = machine.addDevice(new Probe().driver);
  space.attach(device);
  const { start } = space.mmap({ bytes: 4 * PAGE });
  space.write(start, Uint8Array.of(1));
  space.hmadvise({ start, end: start + PAGE }, 'prefetch', { device });
  for (const target of [2, 3]) {
    for (const page of [2, 3]) space.write(start + page * PAGE, Uint8Array.of(page + 10));
    expect(machine.nodes[0]).toMatchObject({ name: 'dram', used: 2 });
    expect(space.hmemcpy(start + target * PAGE, start, PAGE)).toMatchObject({ status: 'done', ways: { D2H: PAGE } });
    expect([2, 3].map((page) => space.read(start + page * PAGE, 1)[0])).toEqual(target === 2 ? [1, 13] : [12, 1]);
  }
  space.close();
  expectClean(machine);
});

test('a fork that must copy a pinned page has room made on a full host', () => {
  machine = smallMachine({ dram: 2 * PAGE, swap: 8 * PAGE });
  const space = machine.createAddressSpace();
  const { start } = space.mmap({ bytes: 2 * PAGE });
  for (const page of [0, 1]) space.write(start + page * PAGE, Uint8Array.of(page + 1));
  const pin = space.pin({ start, end: start + PAGE }, { write: true });
  const child = space.fork();
  for (const each of [space, child]) expect([0, 1].map((page) => each.read(start + page * PAGE, 1)[0])).toEqual([1, 2]);
  pin.unpin();
  child.close();
  space.close();
  expectClean(machine);
});

test('and the page that it copies to is not what goes', () => {
  for (const dest of [1, 2]) {
    machine = smallMachine({ dram: 2 * PAGE, swap: 8 * PAGE });
    const space = machine.createAddressSpace();
    const device = machine.addDevice(new Probe().driver);
    space.attach(device);
    const { start } = space.mmap({ bytes: 3 * PAGE });
    space.write(start, Uint8Array.of(1));
    space.hmadvise({ start, end: start + PAGE }, 'prefetch', { device });
    for (const page of [1, 2]) space.write(start + page * PAGE, Uint8Array.of(9));
    expect(space.hmemcpy(start + dest * PAGE, start, PAGE)).toMatchObject({ status: 'done', ways: { D2H: PAGE } });
    expect([1, 2].map((page) => space.read(start + page * PAGE, 1)[0])).toEqual(dest === 1 ? [1, 9] : [9, 1]);
    space.close();
    expectClean(machine);
    if (dest === 1) machine.close();
  }
});

test('a copy in a space that is reaped meanwhile brings nothing into memory that others share', async () => {
  machine = smallMachine();
  const space = machine.createAddressSpace();
  const probe = new Probe();
  const device = machine.addDevice(probe.driver);
  space.attach(device);
  const own = space.mmap({ bytes: 2 * PAGE });
  const shared = space.mmap({ bytes: 2 * PAGE, shared: true });
  space.write(own.start, new Uint8Array(2 * PAGE).fill(1));
  space.write(shared.start, new Uint8Array(2 * PAGE).fill(7));
  space.hmadvise({ start: own.start, end: own.start + PAGE }, 'prefetch', { device });
  const child = space.fork();
  probe.slow.add('toHost');
  const copy = space.hmemcpyAsync(shared.start, own.start, 2 * PAGE);
  const reap = machine.oomReapAsync(space);
  probe.slow.clear();
  probe.finish();
  await reap;
  expect(await copy).toMatchObject({ errors: [{ reason: 'bus error' }] });
  expect([1, 7]).toContain(child.read(shared.start, 1)[0]);
  expect(child.read(shared.start + PAGE, 1)[0]).toBe(7);
  child.close();
  space.close();
  expectClean(machine);
});

test('whoever touches a page that another space is copying out of a device waits for the end of that, and is not refused', async () => {
  machine = smallMachine();
  const space = machine.createAddressSpace();
  const probe = new Probe();
  const device = machine.addDevice(probe.driver);
  space.attach(device);
  const range = space.mmap({ bytes: 2 * PAGE });
  space.write(range.start, new Uint8Array(2 * PAGE).fill(1));
  space.hmadvise({ start: range.start, end: range.start + PAGE }, 'prefetch', { device });
  const child = space.fork();
  probe.slow.add('toHost');
  const copy = space.hmemcpyAsync(range.start + PAGE, range.start, PAGE);
  const write = child.writeAsync(range.start, Uint8Array.of(2));
  probe.slow.clear();
  probe.finish();
  expect(await copy).toMatchObject({ status: 'done', bytes: PAGE });
  await write;
  expect([space.read(range.start, 1)[0], child.read(range.start, 1)[0]]).toEqual([1, 2]);
  child.close();
  space.close();
  expectClean(machine);
});

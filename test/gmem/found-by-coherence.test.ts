/** What `npm run coherence` has found. */
import { afterEach, expect, test } from 'vitest';
import type { Context, Machine } from 'farfault';
import mirror from 'farfault/drivers/mirror';
import nouveau from 'farfault/drivers/nouveau';
import type { Copies, Driver } from 'farfault/gmem';
import { exploreAll, printFinding } from 'farfault/testing';
import { expectClean, PAGE, Probe, smallMachine } from '../machine/probe.ts';

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

/** Many may read a page, each from a copy of its own; one writes it, and then nobody else has it. */
import { type AddressSpace, type Context, type Device, type Machine, type MachineEvent, restoreMachine } from 'farfault';
import type { Driver } from 'farfault/gmem';
import mirror from 'farfault/drivers/mirror';
import nouveau from 'farfault/drivers/nouveau';
import { afterEach, describe, expect, it } from 'vitest';
import { expectClean, PAGE, Probe, type ProbeOptions, smallMachine, used } from '../machine/probe.ts';

let machine: Machine;
let spaces: AddressSpace[] = [];
afterEach(() => {
  for (const space of spaces) space.close();
  spaces = [];
  expect(machine.nodes.map((node) => node.used)).toEqual(machine.nodes.map(() => 0));
  expectClean(machine);
  machine.close();
});

interface World {
  readonly space: AddressSpace;
  readonly probes: readonly Probe[];
  readonly devices: readonly Device[];
  readonly contexts: readonly Context[];
  readonly events: MachineEvent[];
  /** First address of four pages that are mostly read, each with its number and one. */
  readonly at: (page: number) => number;
  readonly range: { readonly start: number; readonly end: number };
}

/** A space with four pages of which copies are advised, and devices: two with memory, and a mirror. */
function world(options: ProbeOptions = {}, pages = 4): World {
  machine = smallMachine({ tables: 16 });
  const probes = [new Probe({ name: 'one', ...options }), new Probe({ name: 'two', ...options }), new Probe({ name: 'mirror', pages: 0 })];
  const devices = probes.map((probe) => machine.addDevice(probe.driver));
  const space = machine.createAddressSpace();
  spaces.push(space);
  const contexts = devices.map((device) => space.attach(device));
  const range = space.mmap({ bytes: pages * PAGE });
  space.attributes.set(range, { readMostly: true });
  const at = (page: number): number => range.start + page * PAGE;
  for (let page = 0; page < pages; page++) space.write(at(page), Uint8Array.of(page + 1));
  const events: MachineEvent[] = [];
  machine.onEvent((event) => events.push(event));
  return { space, probes, devices, contexts, events, at, range };
}

const told = (events: readonly MachineEvent[]): string[] =>
  events.flatMap((event) =>
    event.type === 'page.replicated'
      ? [`${event.device} +${event.isKept ? ' kept' : ''}`]
      : event.type === 'replica.dropped'
        ? [`${event.device} - ${event.cause}`]
        : [],
  );

const byte = (reader: { read(addr: number, bytes: number): Uint8Array }, addr: number): number => reader.read(addr, 1)[0]!;

describe('a page that is mostly read', () => {
  it('is read by every device from a copy of its own, and by the CPU and a device without memory where it is', () => {
    const { space, contexts, events, at, range } = world();
    for (const context of contexts) expect(byte(context, at(0))).toBe(1);
    expect(space.dump(range)).toBe('rHHH');
    expect(space.holders(at(0))).toEqual({
      state: 'host',
      owner: 'host',
      readers: ['cpu', 'one', 'two', 'mirror'],
      writers: [],
      copies: ['one', 'two'],
      flags: ['dirty'],
    });
    expect(used(machine)).toBe('dram 4, one.ram 1, two.ram 1');
    expect(told(events)).toEqual(['one +', 'two +']);
    expect(machine.counters.replicas).toEqual({ made: 2, kept: 0, dropped: 0 });
    expect(machine.counters.migrated).toEqual({});
    expect(byte(space, at(0))).toBe(1);
    expect(machine.counters.cpuFaults.home).toBe(0);
    expect(machine.verify()).toBe(undefined);
  });

  it("is nobody else's any more when the CPU has written it, and is copied anew", () => {
    const { space, contexts, events, at, range } = world();
    for (const context of contexts) context.read(at(0), 1);
    events.length = 0;
    space.write(at(0), Uint8Array.of(9));
    expect(space.dump(range)).toBe('HHHH');
    expect(space.holders(at(0))).toMatchObject({ readers: ['cpu'], writers: ['cpu'], copies: [] });
    expect(told(events)).toEqual(['one - upgrade', 'two - upgrade']);
    expect(machine.counters.cpuFaults.upgrade).toBe(1);
    expect(used(machine)).toBe('dram 4, one.ram 0, two.ram 0');
    for (const context of contexts) expect(byte(context, at(0))).toBe(9);
    expect(machine.counters.replicas).toEqual({ made: 4, kept: 0, dropped: 2 });
  });

  it('goes to the device that writes it, whichever that is, and all copies go', () => {
    for (const writer of [0, 1, 2]) {
      const { space, contexts, events, at, range } = world();
      for (const context of contexts) context.read(at(0), 1);
      events.length = 0;
      contexts[writer]!.write(at(0), Uint8Array.of(7));
      expect(told(events)).toEqual(['one - upgrade', 'two - upgrade']);
      expect(space.dump(range)).toBe(['DHHH', 'EHHH', 'HHHH'][writer]);
      expect(space.holders(at(0)).writers).toEqual(writer < 2 ? [contexts[writer]!.name] : ['cpu', 'mirror']);
      for (const context of [space, ...contexts]) expect(byte(context, at(0))).toBe(7);
      if (writer === 2) continue;
      space.close();
      machine.close();
      spaces = [];
    }
  });

  it('leaves its copy behind on the device that wrote it, when another one or the CPU reads it', () => {
    const { space, contexts, events, at, range, probes } = world();
    const [one, two] = contexts as [Context, Context];
    one.write(at(0), Uint8Array.of(5));
    one.write(at(1), Uint8Array.of(6));
    events.length = 0;
    for (const probe of probes) probe.log.length = 0;
    expect(byte(two, at(0))).toBe(5);
    expect(byte(space, at(1))).toBe(6);
    expect(told(events)).toEqual(['one + kept', 'two +', 'one + kept']);
    expect(space.dump(range)).toBe('rrHH');
    // Home twice, to the second device once; to the first nothing.
    expect(probes[0]!.log.filter((line) => line.startsWith('to'))).toEqual(['toHost 1', 'toHost 1']);
    expect(probes[1]!.log.filter((line) => line.startsWith('to'))).toEqual(['toDevice 1']);
    events.length = 0;
    expect(byte(one, at(0))).toBe(5);
    expect(events).toEqual([]);
    expect(machine.counters.replicas).toMatchObject({ made: 3, kept: 2 });
    space.write(at(0), Uint8Array.of(8));
    for (const context of contexts) expect(byte(context, at(0))).toBe(8);
  });

  it('is duplicated with its granule, without the pages that somebody holds, or that other advice is about', () => {
    const { space, contexts, at, range } = world({ granulePages: 8 }, 8);
    const pin = space.pin({ start: at(2), end: at(3) }, { write: true });
    space.attributes.set({ start: at(5), end: at(6) }, { readMostly: false });
    contexts[0]!.read(at(0), 1);
    expect(space.dump(range)).toBe('rrHrrHrr');
    expect(byte(contexts[0]!, at(2))).toBe(3);
    expect(space.holders(at(2))).toMatchObject({ copies: [], flags: ['dirty', 'pinned'] });
    pin.unpin();
  });

  it('is duplicated for all that a device reads, where its policy says so', () => {
    const { space } = world();
    const three = machine.addDevice(new Probe({ name: 'three' }).driver, { placement: { duplicate: 'reads' } });
    const context = space.attach(three);
    const { start } = space.mmap({ bytes: PAGE });
    space.write(start, Uint8Array.of(4));
    expect(byte(context, start)).toBe(4);
    expect(space.holders(start).copies).toEqual(['three']);
  });
});

describe('the flags of a page', () => {
  it('say that it is written, pinned, needed by a batch, or on its way home to make room', async () => {
    const { space, contexts, probes, at } = world({ pages: 1 });
    const [one] = contexts as [Context];
    const other = space.mmap({ bytes: 2 * PAGE });
    expect(space.holders(other.start)).toEqual({ state: 'nothing', owner: undefined, readers: [], writers: [], copies: [], flags: [] });
    one.write(other.start, Uint8Array.of(1));
    expect(space.holders(other.start)).toMatchObject({ state: 'device', owner: 'one', readers: ['one'], writers: ['one'] });
    probes[0]!.slow.add('toHost');
    const second = one.writeAsync(other.start + PAGE, Uint8Array.of(2));
    expect(space.holders(other.start)).toMatchObject({ state: 'moving', owner: 'one', readers: [], flags: ['evicting'] });
    probes[0]!.slow.clear();
    probes[0]!.slow.add('invalidate');
    probes[0]!.finish();
    await second;
    expect(space.holders(other.start)).toMatchObject({ state: 'host', owner: 'host', flags: [] });
    const pin = space.pin({ start: at(3), end: at(4) });
    expect(space.holders(at(3)).flags).toContain('pinned');
    pin.unpin();
    probes[0]!.slow.clear();
    probes[0]!.finish();
    // While a batch is being served, what it has brought is needed.
    const { memory } = one.device;
    let seen: readonly string[] = [];
    machine.onEvent((event) => {
      if (event.type === 'pages.migrated' && event.way === 'toDevice')
        seen = [...seen, ...(memory!.spared.size > 0 ? space.holders(other.start).flags : [])];
    });
    one.submit({ accesses: [{ op: 'write', addr: other.start, bytes: 1, value: 3 }] });
    expect(seen).toContain('will need');
  });
});

describe('copies go', () => {
  it('with whatever happens to their page: each verb names itself, and leaves none', () => {
    const verbs: readonly (readonly [string, (all: World) => void])[] = [
      ['munmap', ({ space, range }) => space.munmap(range)],
      ['mprotect', ({ space, range }) => space.mprotect(range, 'r')],
      ['dontneed', ({ space, range }) => space.madvise(range, 'dontneed')],
      ['mremap', ({ space, range }) => void space.mremap(range, { mayMove: true, to: 0x5000_0000 })],
      ['fork', ({ space }) => void spaces.push(space.fork())],
      ['migration: detach', ({ contexts }) => contexts.forEach((context) => context.detach())],
      ['migration: unplug', ({ devices }) => devices.forEach((device) => device.memory && device.removeMemory(device.memory))],
      ['migration: user', ({ contexts, range }) => void contexts[0]!.migrate(range, { to: 'device' })],
    ];
    for (const [cause, verb] of verbs) {
      const all = world();
      const { space, contexts, events, at } = all;
      for (const context of contexts) context.read(at(0), 1);
      events.length = 0;
      verb(all);
      expect(told(events).sort()).toEqual([`one - ${cause}`, `two - ${cause}`]);
      expect(machine.counters.replicas).toMatchObject({ made: 2, dropped: 2 });
      expect(machine.verify()).toBe(undefined);
      for (const each of spaces) each.close();
      spaces = [];
      expect(used(machine)).toMatch(/^dram 0(, one.ram 0, two.ram 0)?$/);
      expectClean(machine);
      machine.close();
      void space;
    }
    machine = smallMachine();
  });

  it('before anything that would have to be moved', () => {
    const { space, contexts, events, at } = world({ pages: 3 });
    const [one] = contexts as [Context];
    const other = space.mmap({ bytes: 4 * PAGE });
    one.write(other.start, Uint8Array.of(1));
    one.read(at(0), 1);
    one.read(at(1), 1);
    events.length = 0;
    one.write(other.start + PAGE, Uint8Array.of(2));
    expect(told(events)).toEqual(['one - migration: evict']);
    expect(space.dump(other)).toBe('DD..');
    expect(space.dump({ start: at(0), end: at(2) })).toBe('hr');
    expect(machine.counters.evictions).toBe(1);
    // A copy that was dropped is made again when it is read.
    expect(byte(one, at(0))).toBe(1);
  });

  it('when their device fails, and are told to the driver that hands frames out', () => {
    const { probes, contexts, at } = world({ allocator: 'driver' });
    contexts.forEach((context) => context.read(at(0), 1));
    contexts[0]!.write(at(0), Uint8Array.of(2));
    expect(probes.map((probe) => probe.freed.length)).toEqual([1, 1, 0]);
    contexts[1]!.read(at(1), 1);
    probes[1]!.broken.add('enter');
    expect(() => contexts[1]!.read(at(2), 1)).toThrow('enter is broken');
    expect(machine.counters.replicas).toMatchObject({ made: 4, dropped: 4 });
    expect(probes[1]!.freed.length).toBe(3);
  });
});

describe('a flush that is late', () => {
  it('keeps the frame of the copy, and the write, until it has ended', async () => {
    const { space, probes, contexts, at } = world({ cached: true });
    const [one] = contexts as [Context];
    one.read(at(0), 1);
    probes[0]!.slow.add('invalidate');
    const writing = space.writeAsync(at(0), Uint8Array.of(9));
    expect(used(machine)).toBe('dram 4, one.ram 1, two.ram 0');
    expect(space.holders(at(0)).writers).toEqual([]);
    // Until then the device may read what it had.
    expect(byte(one, at(0))).toBe(1);
    expect(machine.verify()).toBe(undefined);
    probes[0]!.slow.clear();
    probes[0]!.finish();
    await writing;
    expect(used(machine)).toBe('dram 4, one.ram 0, two.ram 0');
    expect(byte(one, at(0))).toBe(9);
  });

  it('may be that of the device that is to get the copy: nobody writes while it is made', async () => {
    const { space, probes, contexts, at } = world();
    const [one, two] = contexts as [Context, Context];
    space.attributes.set({ start: at(0), end: at(1) }, { readMostly: false });
    one.write(at(0), Uint8Array.of(5));
    two.fault(at(0), 'read');
    space.attributes.set({ start: at(0), end: at(1) }, { readMostly: true });
    probes[0]!.slow.add('toDevice');
    const reading = one.readAsync(at(0), 1);
    const writing = space.writeAsync(at(0), Uint8Array.of(6));
    expect(machine.pending.map(({ waitsFor }) => waitsFor.replace(/\d+/, 'n')).sort()).toEqual([
      'page lock of frame n',
      expect.stringContaining('toDevice'),
    ]);
    probes[0]!.slow.clear();
    probes[0]!.finish();
    expect([5, 6]).toContain((await reading)[0]);
    await writing;
    for (const reader of [space, ...contexts]) expect(byte(reader, at(0))).toBe(6);
  });

  it('outlives a saved machine, as copies do', async () => {
    machine = smallMachine();
    const drivers = (): Driver[] => [nouveau({ vram: 16 * PAGE }), mirror()];
    const space = machine.createAddressSpace();
    const contexts = drivers().map((driver) => space.attach(machine.addDevice(driver)));
    const { start } = space.mmap({ bytes: 4 * PAGE });
    space.attributes.set({ start, end: start + PAGE }, { readMostly: true });
    space.write(start, Uint8Array.of(1));
    contexts.forEach((context) => context.read(start, 1));
    expect(space.dump()).toMatch(/r\.\.\.$/);
    const { machine: restored, handles } = await restoreMachine<{ space: AddressSpace; contexts: Context[] }>(
      machine.save({ space, contexts }),
      {
        drivers: drivers(),
      },
    );
    expect(handles.space.dump()).toMatch(/r\.\.\.$/);
    handles.space.write(start, Uint8Array.of(3));
    for (const context of handles.contexts) expect(byte(context, start)).toBe(3);
    expect(restored.counters.replicas).toEqual({ made: 2, kept: 0, dropped: 1 });
    handles.space.close();
    expectClean(restored);
    restored.close();
    space.close();
  });
});

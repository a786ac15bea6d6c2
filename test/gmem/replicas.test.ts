/** Many may read a page, each from a copy of its own; one writes it, and then nobody else has it. */
import { type AddressSpace, type Context, type Device, type Machine, type MachineEvent, restoreMachine } from 'farfault';
import { type Copies, defineDriver, type Driver } from 'farfault/gmem';
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

  it('is private and anonymous: what is shared, or of a file, is used where it is', () => {
    const { space, contexts } = world();
    const file = machine.createFile({ content: Uint8Array.of(1, 2, 3) });
    const copied = space.mmap({ bytes: PAGE, file });
    for (const range of [space.mmap({ bytes: PAGE, shared: true }), space.mmap({ bytes: PAGE, shared: true, file }), copied]) {
      space.attributes.set(range, { readMostly: true });
      for (const context of contexts) context.read(range.start, 1);
      expect(space.holders(range.start)).toMatchObject({ copies: [], readers: expect.arrayContaining(['one', 'two', 'mirror']) });
      expect(contexts[0]!.migrate(range, { to: 'device' })).toBe(0);
    }
    // What a private mapping of the file has copied for itself is anonymous.
    space.write(copied.start, Uint8Array.of(9));
    for (const context of contexts) expect([...context.read(copied.start, 3)]).toEqual([9, 2, 3]);
    expect(space.holders(copied.start).copies).toEqual(['one', 'two']);
    space.munmap(copied);
    space.close();
    spaces = [];
    file.close();
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

describe('a program that moves pages which are mostly read', () => {
  it('gives the device copies, which count as well, and the CPU keeps the pages', () => {
    const { space, contexts, events, at, range } = world();
    const [one, two] = contexts as [Context, Context];
    expect(one.migrate(range, { to: 'device' })).toBe(4);
    expect(space.dump(range)).toBe('rrrr');
    expect(told(events)).toEqual(['one +', 'one +', 'one +', 'one +']);
    expect(one.migrate(range, { to: 'device' })).toBe(0);
    expect(machine.counters.migrated).toEqual({});
    // A prefetch is the same; one to a device that pins is not.
    expect(space.hmadvise(range, 'prefetch', { device: two.device })).toMatchObject({ status: 'done', pages: 4 });
    expect(space.holders(at(3)).copies).toEqual(['one', 'two']);
    events.length = 0;
    expect(space.hmadvise({ start: at(0), end: at(2) }, 'pinned', { device: one.device })).toMatchObject({ status: 'done', pages: 2 });
    expect(space.dump(range)).toBe('ddrr');
    expect(told(events).sort()).toEqual(Array.from({ length: 4 }, (_, i) => `${i < 2 ? 'one' : 'two'} - migration: user`));
    expect(space.hmadvise(range, 'unpinned')).toMatchObject({ status: 'done' });
    for (const context of contexts) expect([0, 1, 2, 3].map((page) => byte(context, at(page)))).toEqual([1, 2, 3, 4]);
  });

  it('leaves copies behind on the device that they come home from, and on the one that another asks', () => {
    const { space, contexts, events, at, range } = world();
    const [one, two] = contexts as [Context, Context];
    const write = (): void => {
      for (let page = 0; page < 4; page++) one.write(at(page), Uint8Array.of(page + 5));
      events.length = 0;
    };
    write();
    expect(one.migrate(range, { to: 'host' })).toBe(4);
    expect(space.dump(range)).toBe('rrrr');
    expect(told(events)).toEqual(Array.from({ length: 4 }, () => 'one + kept'));
    write();
    expect(space.hmadvise(range, 'prefetch', { device: 'host' })).toMatchObject({ status: 'done', pages: 4 });
    expect(space.dump(range)).toBe('rrrr');
    write();
    expect(space.hmadvise(range, 'prefetch', { device: two.device })).toMatchObject({ status: 'done', pages: 4 });
    expect(space.holders(at(0)).copies).toEqual(['one', 'two']);
    for (const context of [space, ...contexts]) expect([0, 1, 2, 3].map((page) => byte(context, at(page)))).toEqual([5, 6, 7, 8]);
    space.write(at(1), Uint8Array.of(9));
    for (const context of contexts) expect(byte(context, at(1))).toBe(9);
  });

  it('moves holes, and what other advice or the policy of the device is about', () => {
    const { space, contexts, range } = world();
    const [one] = contexts as [Context];
    space.madvise({ start: range.start, end: range.start + PAGE }, 'dontneed');
    space.attributes.set({ start: range.start + PAGE, end: range.start + 2 * PAGE }, { readMostly: false });
    expect(one.migrate(range, { to: 'device' })).toBe(4);
    expect(space.dump(range)).toBe('DDrr');
    const never = space.attach(machine.addDevice(new Probe({ name: 'never' }).driver, { placement: { duplicate: 'never' } }));
    expect(never.migrate({ start: range.start + 2 * PAGE, end: range.end }, { to: 'device' })).toBe(2);
    expect(space.dump(range)).toBe('DDEE'.replace(/E/g, space.dump(range)[2]!));
    expect(space.holders(range.end - PAGE)).toMatchObject({ owner: 'never', copies: [] });
  });

  it('makes room for copies, and takes as many as there is room for', () => {
    const { space, contexts, at, range } = world({ pages: 2 });
    const [one] = contexts as [Context];
    const other = space.mmap({ bytes: PAGE });
    one.write(other.start, Uint8Array.of(9));
    expect(one.migrate(range, { to: 'device' })).toBe(2);
    expect(space.dump(other)).toBe('H');
    expect(space.dump(range)).toBe('rrHH');
    expect(byte(one, at(0))).toBe(1);
  });
});

describe('a device whose memory is out of the machine', () => {
  /** Its bytes are its driver's: nobody but its copy engine reaches them. */
  function outside(): { driver: Driver; ram: Uint8Array; log: string[] } {
    const ram = new Uint8Array(4 * PAGE).fill(0xee);
    const log: string[] = [];
    const driver = defineDriver(() => ({
      name: 'card',
      memory: [{ name: 'ram', kind: 'private' as const, bytes: 4 * PAGE, bytesIn: 'external' as const }],
      attach: () => ({
        copy: {
          toDevice: (copies: Copies) =>
            copies.eachHost((page, pages, bytes) => (log.push(`to ${page}+${pages}`), ram.set(bytes, page * PAGE))),
          toHost: (copies: Copies) =>
            copies.eachHost(
              (page, pages, bytes) => (log.push(`from ${page}+${pages}`), bytes.set(ram.subarray(page * PAGE, (page + pages) * PAGE))),
            ),
          zero: (copies: Copies) =>
            copies.each((pages, _from, _fromPage, _to, page) => void ram.fill(0, page * PAGE, (page + pages) * PAGE)),
        },
      }),
    }))();
    return { driver, ram, log };
  }

  it('gets its copies by its engine, loses them without it, and leaves behind what goes home', () => {
    machine = smallMachine({ deviceMemory: 0, bodilessFrames: 8 });
    const { driver, ram, log } = outside();
    const space = machine.createAddressSpace();
    spaces.push(space);
    const context = space.attach(machine.addDevice(driver));
    const range = space.mmap({ bytes: 2 * PAGE });
    space.attributes.set(range, { readMostly: true });
    space.write(range.start, Uint8Array.of(1));
    expect(context.fault(range.start, 'read')).toBe('served');
    expect(space.holders(range.start).copies).toEqual(['card']);
    expect([log, ram[0]]).toEqual([['to 0+1'], 1]);
    expect(machine.verify()).toBe(undefined);
    space.write(range.start, Uint8Array.of(2));
    expect([space.holders(range.start).copies, log.length, used(machine)]).toEqual([[], 1, 'dram 1, card.ram 0']);
    // It writes the page: the bytes are its own now, and the CPU that reads them leaves it a copy.
    expect(context.fault(range.start, 'write')).toBe('served');
    ram[1] = 77;
    log.length = 0;
    expect([...space.read(range.start, 2)]).toEqual([2, 77]);
    expect(log).toEqual(['from 0+1']);
    expect(space.holders(range.start).copies).toEqual(['card']);
    expect(used(machine)).toBe('dram 1, card.ram 1');
    expect(context.fault(range.start, 'read')).toBe('present');
    expect(log).toHaveLength(1);
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
      [
        'migration: user',
        ({ space, contexts, range }) => {
          space.attributes.set(range, { readMostly: false });
          contexts[0]!.migrate(range, { to: 'device' });
        },
      ],
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

describe('a driver, or a policy, that throws while copies are made', () => {
  it('takes nothing from who reads a page that leaves one behind: the device has failed', () => {
    const { space, probes, contexts, at } = world({ granulePages: 4 });
    for (let page = 0; page < 4; page++) contexts[0]!.write(at(page), Uint8Array.of(page + 11));
    probes[0]!.broken.add('enter');
    for (let page = 0; page < 4; page++) expect(byte(space, at(page))).toBe(page + 11);
    expect(contexts[0]!.failure?.code).toBe('ENODEV');
    expect(used(machine)).toBe('dram 4, one.ram 0, two.ram 0');
    // No frame of it is anybody else's.
    const other = machine.createAddressSpace();
    spaces.push(other);
    const there = other.mmap({ bytes: 4 * PAGE });
    other.write(there.start, new Uint8Array(4 * PAGE).fill(99));
    for (let page = 0; page < 4; page++) expect(byte(space, at(page))).toBe(page + 11);
  });

  it('leaves no reference to a page that was to leave one behind', () => {
    machine = smallMachine();
    let asked = -Infinity;
    const choose = ({ write }: { readonly write: boolean }): 'migrate' | 'duplicate' => {
      if (++asked === 2) throw new Error('undecided');
      return write ? 'migrate' : 'duplicate';
    };
    const device = machine.addDevice(new Probe({ name: 'one', granulePages: 4 }).driver, { placement: { choose } });
    const space = machine.createAddressSpace();
    spaces.push(space);
    const context = space.attach(device);
    const range = space.mmap({ bytes: 4 * PAGE });
    space.write(range.start, new Uint8Array(4 * PAGE).fill(5));
    context.write(range.start, new Uint8Array(4 * PAGE).fill(6));
    asked = 0;
    expect(() => space.read(range.start, 1)).toThrow('undecided');
    asked = -Infinity;
    expect([space.dump(range), used(machine)]).toEqual(['DDDD', 'dram 0, one.ram 4']);
    expect(space.read(range.start, 4 * PAGE)).toEqual(new Uint8Array(4 * PAGE).fill(6));
  });

  it('gives back each page and each frame once, where a part of them had changed meanwhile', async () => {
    const { space, probes, contexts, at } = world({ granulePages: 4 });
    const child = space.fork();
    spaces.push(child);
    probes[0]!.slow.add('toDevice');
    const reading = contexts[0]!.readAsync(at(0), 1);
    space.write(at(2), Uint8Array.of(77));
    probes[0]!.slow.clear();
    probes[0]!.broken.add('enter');
    probes[0]!.finish();
    await expect(reading).rejects.toThrow('enter is broken');
    expect(machine.verify()).toBe(undefined);
    expect(used(machine)).toBe('dram 5, one.ram 0, two.ram 0');
    expect([0, 1, 2, 3].map((page) => [byte(space, at(page)), byte(child, at(page))])).toEqual([
      [1, 1],
      [2, 2],
      [77, 3],
      [4, 4],
    ]);
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

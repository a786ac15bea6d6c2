import { afterEach, describe, expect, test } from 'vitest';
import { type AddressRange, type AddressSpace, type Context, isFarfaultError, KiB, type Machine } from 'farfault';
import nouveau from 'farfault/drivers/nouveau';
import mirror from 'farfault/drivers/mirror';
import { type Copies, defineDriver, deviceTable, type Driver, type Translation } from 'farfault/gmem';
import { expectClean, PAGE, Probe, smallMachine, used } from './probe.ts';

let machine: Machine;

afterEach(() => machine.close());

function begin(driver: Driver, options = {}): { space: AddressSpace; context: Context } {
  machine = smallMachine(options);
  const space = machine.createAddressSpace();
  return { space, context: space.attach(machine.addDevice(driver)) };
}

/** Page i gets i + 1 in its first byte. */
function fill(space: AddressSpace, { start, end }: AddressRange): void {
  for (let addr = start, i = 1; addr < end; addr += PAGE, i++) space.write(addr, Uint8Array.of(i));
}

const first = (from: { read(addr: number, bytes: number): Uint8Array }, { start, end }: AddressRange): number[] =>
  Array.from({ length: (end - start) / PAGE }, (_, i) => from.read(start + i * PAGE, 1)[0]!);

const upTo = (n: number): number[] => Array.from({ length: n }, (_, i) => (i + 1) & 0xff);

describe('a memory smaller than the working set', () => {
  test('of which the core hands the frames out: the oldest goes home, the data stays right', () => {
    const { space, context } = begin(new Probe({ pages: 4 }).driver);
    const range = space.mmap({ bytes: 8 * PAGE });
    fill(space, range);
    expect(first(context, range)).toEqual(upTo(8));
    expect(space.dump(range)).toBe('HHHHDDDD');
    expect(machine.counters.evictions).toBe(4);
    for (let round = 0; round < 3; round++) {
      for (let i = 0; i < 8; i++) context.write(range.start + i * PAGE + 1 + round, Uint8Array.of(i * 10 + round));
    }
    expect(used(machine)).toBe('dram 4, probe.ram 4');
    expectClean(machine);
    for (let i = 0; i < 8; i++) expect([...space.read(range.start + i * PAGE, 4)]).toEqual([i + 1, i * 10, i * 10 + 1, i * 10 + 2]);
    expectClean(machine);
  });

  test('of which the driver hands the pages out: told of every page that comes free, exactly once', () => {
    const probe = new Probe({ pages: 4, allocator: 'driver' });
    const { space, context } = begin(probe.driver);
    const range = space.mmap({ bytes: 8 * PAGE });
    fill(space, range);
    expect(first(context, range)).toEqual(upTo(8));
    expect(probe.freed).toEqual([0, 1, 2, 3]);
    space.munmap({ start: range.start + 4 * PAGE, end: range.start + 5 * PAGE });
    space.read(range.start + 5 * PAGE, 1);
    space.madvise({ start: range.start + 6 * PAGE, end: range.start + 7 * PAGE }, 'dontneed');
    context.migrate({ start: range.start + 7 * PAGE, end: range.end }, { to: 'host' });
    expect(probe.freed.slice(4)).toEqual([0, 1, 2, 3]);
    expect(space.dump(range)).toBe('HHHH-H.H');
    expect(used(machine)).toBe('dram 6, probe.ram 0');
    expectClean(machine);
  });

  test('faults one by one without end: nothing stays spared', () => {
    const { space, context } = begin(new Probe({ pages: 4 }).driver);
    const range = space.mmap({ bytes: 16 * PAGE });
    fill(space, range);
    for (let i = 0; i < 16; i++) expect(context.fault(range.start + i * PAGE, 'write')).toBe('served');
    expect(space.dump(range)).toBe('H'.repeat(12) + 'DDDD');
    expect(first(space, range)).toEqual(upTo(16));
    expectClean(machine);
  });

  test('and larger than any list of frames: all that a move has brought is spared, and nothing else is written', () => {
    const pages = 20_000;
    const { space, context } = begin(new Probe({ pages }).driver, { deviceMemory: pages * PAGE, tablePages: 1024 });
    const range = space.mmap({ bytes: (pages + 8) * PAGE });
    expect(context.migrate(range, { to: 'device' })).toBe(pages);
    expect(machine.counters.evictions).toBe(0);
    // What is read in a hole is the page of zeros.
    expect(space.read(range.end - PAGE, PAGE)).toEqual(new Uint8Array(PAGE));
    expectClean(machine);
  });

  test('and with room for one page only, gives every access its turn, also one that touches two', () => {
    const { space, context } = begin(new Probe({ pages: 2 }).driver);
    const range = space.mmap({ bytes: 6 * PAGE });
    const accesses = Array.from({ length: 5 }, (_, i) => ({
      op: 'write' as const,
      addr: range.start + (i + 1) * PAGE - 4,
      bytes: 8,
      value: 0x0101_0101_0101 * (i + 1),
    }));
    const report = context.submit({ accesses, lanes: 5 });
    expect([...report.order].sort()).toEqual([0, 1, 2, 3, 4]);
    for (let i = 0; i < 5; i++) expect(space.read(range.start + (i + 1) * PAGE - 4, 8)[5]).toBe(i + 1);
    expectClean(machine);
  });

  test('nouveau: chunks go home and come again, and every byte is right', () => {
    const { space, context } = begin(nouveau({ vram: 64 * KiB, granule: 8 * KiB }), { deviceMemory: 64 * KiB });
    const range = space.mmap({ bytes: 64 * PAGE });
    fill(space, range);
    for (let round = 1; round <= 3; round++) {
      const accesses = Array.from({ length: 64 }, (_, i) => ({
        op: 'write' as const,
        addr: range.start + ((i * 37) % 64) * PAGE + round,
        bytes: 1,
        value: (i * 37) % 64,
      }));
      expect(context.submit({ accesses, lanes: 8 }).cancelled).toEqual([]);
      expect(machine.verify()).toBe(undefined);
    }
    for (let i = 0; i < 64; i++) expect([...space.read(range.start + i * PAGE, 4)]).toEqual([i + 1, i, i, i]);
    expect(machine.counters.evictions).toBeGreaterThan(10);
    expectClean(machine);
    space.munmap(range);
    expect(used(machine)).toBe('dram 0, nouveau.vram 0');
  });
});

describe('detaching', () => {
  test('brings pages home, takes translations away, calls the driver last, and may be done again', () => {
    const probe = new Probe({ cached: true });
    const { space, context } = begin(probe.driver);
    const range = space.mmap({ bytes: 6 * PAGE });
    fill(space, range);
    context.migrate({ start: range.start + PAGE, end: range.start + 5 * PAGE }, { to: 'device' });
    space.munmap({ start: range.start + 2 * PAGE, end: range.start + 3 * PAGE });
    probe.log.length = 0;
    context.detach();
    context.detach();
    expect(space.dump(range)).toBe('HH-HHH');
    expect(probe.log.slice(-4)).toEqual(['release all', 'invalidate all', 'detach', 'destroy']);
    expect(space.mirrors).toEqual([]);
    expect(used(machine)).toBe('dram 5, probe.ram 0');
    expect(() => context.read(range.start, 1)).toThrow('has been detached from this address space');
    expect(machine.counters.migratedByCause.detach.pages).toBe(3);
    expectClean(machine);
    const again = space.attach(context.device);
    expect([...again.read(range.start, 1)]).toEqual([1]);
    expect(space.dump(range)).toBe('DH-HHH');
    expectClean(machine);
  });

  test('ends what waits to be served, and nothing comes to a device that has left', async () => {
    const probe = new Probe();
    const { space, context } = begin(probe.driver);
    const other = new Probe({ name: 'nic', pages: 0, cached: true });
    const reader = space.attach(machine.addDevice(other.driver));
    const range = space.mmap({ bytes: 2 * PAGE });
    fill(space, range);
    reader.read(range.start, 1);
    other.slow.add('invalidate');
    const gone = space.munmapAsync({ start: range.start, end: range.start + PAGE });
    // Behind the munmap, in this order: the detach, then a fault, a migration and a job of the same device.
    const left = context.detachAsync();
    const late = [
      context.writeAsync(range.start + PAGE, Uint8Array.of(9)),
      context.migrateAsync(range, { to: 'device' }),
      context.submitAsync({ accesses: [{ op: 'read', addr: range.start + PAGE, bytes: 1 }] }),
    ].map((each) =>
      each.then(
        () => 'done',
        (error: unknown) => (isFarfaultError(error) ? error.code : String(error)),
      ),
    );
    other.finish();
    await Promise.all([gone, left]);
    expect(await Promise.all(late)).toEqual(['EBADF', 'EBADF', 'EBADF']);
    expect(space.dump(range)).toBe('-H');
    expectClean(machine);
  });
});

describe('one device in two spaces', () => {
  test('shares its memory between them; each sees its own bytes, and eviction crosses over', () => {
    machine = smallMachine();
    const device = machine.addDevice(new Probe({ pages: 4 }).driver);
    const spaces = [machine.createAddressSpace(), machine.createAddressSpace()];
    const contexts = spaces.map((space) => space.attach(device));
    const ranges = spaces.map((space) => space.mmap({ bytes: 4 * PAGE }));
    for (const [i, space] of spaces.entries()) {
      fill(space, ranges[i]!);
      space.write(ranges[i]!.start + 1, Uint8Array.of(i + 100));
    }
    expect(first(contexts[0]!, ranges[0]!)).toEqual([1, 2, 3, 4]);
    expect(spaces[0]!.dump(ranges[0])).toBe('DDDD');
    expect([...contexts[1]!.read(ranges[1]!.start, 2)]).toEqual([1, 101]);
    expect(spaces[0]!.dump(ranges[0]) + ' ' + spaces[1]!.dump(ranges[1])).toBe('HDDD DHHH');
    expect([...contexts[0]!.read(ranges[0]!.start, 2)]).toEqual([1, 100]);
    expect(spaces[0]!.dump(ranges[0]) + ' ' + spaces[1]!.dump(ranges[1])).toBe('DHDD DHHH');
    expectClean(machine);
    spaces[0]!.close();
    expect(used(machine)).toBe('dram 3, probe.ram 1');
    expect([...contexts[1]!.read(ranges[1]!.start, 2)]).toEqual([1, 101]);
    expectClean(machine);
  });

  test('is attached once to each', () => {
    const { space, context } = begin(new Probe().driver);
    expect(() => space.attach(context.device)).toThrow('is attached to this address space already');
    expect(space.mirrors.length).toBe(1);
  });
});

describe('a device whose address spaces name different allocators', () => {
  test('is refused: a memory has one', () => {
    const pages = [0, 1, 2, 3];
    const driver = defineDriver(() => ({
      name: 'twofold',
      memory: [{ name: 'vram', kind: 'private' as const, bytes: 4 * PAGE, allocator: 'driver' as const }],
      attach: () => ({ phys: { allocPage: () => pages.pop(), freePage: (page: number) => void pages.push(page) } }),
    }));
    const { context } = begin(driver());
    const other = machine.createAddressSpace();
    expect(() => other.attach(context.device)).toThrow('a memory has one allocator');
    expect(other.mirrors.length).toBe(0);
    expectClean(machine);
  });
});

describe('two devices in one space', () => {
  test('hand a page from one to the other by way of the host', () => {
    machine = smallMachine();
    const space = machine.createAddressSpace();
    const [gpu, npu] = ['gpu', 'npu'].map((name) => space.attach(machine.addDevice(new Probe({ name, pages: 4 }).driver)));
    const nic = space.attach(machine.addDevice(mirror()));
    const range = space.mmap({ bytes: 3 * PAGE });
    fill(space, range);
    gpu!.write(range.start + 1, Uint8Array.of(50));
    expect(space.dump(range)).toBe('DHH');
    expect([...npu!.read(range.start, 2)]).toEqual([1, 50]);
    expect(space.dump(range)).toBe('EHH');
    nic.write(range.start + 2, Uint8Array.of(51));
    expect(space.dump(range)).toBe('HHH');
    expect([...gpu!.read(range.start, 3)]).toEqual([1, 50, 51]);
    expectClean(machine);
    expect(used(machine)).toBe('dram 2, gpu.ram 1, npu.ram 0');
    gpu!.detach();
    npu!.detach();
    nic.detach();
    expect([...space.read(range.start, 3)]).toEqual([1, 50, 51]);
    expectClean(machine);
  });

  test('without memory: a write through one is what the other reads', () => {
    machine = smallMachine();
    const space = machine.createAddressSpace();
    const [a, b] = ['a', 'b'].map((name) => space.attach(machine.addDevice({ ...mirror({ ownTable: name === 'b' }), name })));
    const range = space.mmap({ bytes: PAGE });
    expect([...a!.read(range.start, 1)]).toEqual([0]);
    expect([...b!.read(range.start, 1)]).toEqual([0]);
    b!.write(range.start, Uint8Array.of(7));
    expect([...a!.read(range.start, 1)]).toEqual([7]);
    a!.write(range.start, Uint8Array.of(8));
    expect([...b!.read(range.start, 1)]).toEqual([8]);
    space.mprotect(range, 'r');
    expect(() => b!.write(range.start, Uint8Array.of(1))).toThrow('without the right to write');
    expect([...b!.read(range.start, 1)]).toEqual([8]);
    expectClean(machine);
  });
});

describe('a driver that forgets its flush', () => {
  test('is found out at the next use of what it kept: the context has failed, with a sentence', () => {
    const probe = new Probe({ pages: 0, cached: true });
    const { space, context } = begin(probe.driver);
    const range = space.mmap({ bytes: PAGE });
    context.write(range.start, Uint8Array.of(1));
    probe.forgetful = true;
    space.munmap(range);
    const again = space.mmap({ bytes: PAGE });
    space.write(again.start, Uint8Array.of(2));
    const other = space.mmap({ bytes: PAGE });
    space.write(other.start, Uint8Array.of(3));
    space.munmap(again);
    expect(() => context.read(range.start, 1)).toThrow(
      'probe.walk.translate of page 0x10000000 is stale: an invalidation should have removed it',
    );
    expect(context.failure?.message).toContain('is stale');
    expect(() => context.read(other.start, 1)).toThrow('has failed');
    expectClean(machine);
  });

  test('is found out by a job, which ends', () => {
    const probe = new Probe({ cached: true });
    const { space, context } = begin(probe.driver);
    const range = space.mmap({ bytes: 2 * PAGE });
    context.write(range.start, Uint8Array.of(1));
    probe.forgetful = true;
    space.read(range.start, 1);
    expect(() => context.submit({ accesses: [{ op: 'read', addr: range.start, bytes: 1 }] })).toThrow('is stale');
    expect([...space.read(range.start, 1)]).toEqual([1]);
    expectClean(machine);
  });

  test('keeps a translation that may not write any more: found out when it writes', () => {
    const probe = new Probe({ pages: 0, cached: true });
    const { space, context } = begin(probe.driver);
    const range = space.mmap({ bytes: PAGE });
    context.write(range.start, Uint8Array.of(1));
    probe.forgetful = true;
    space.mprotect(range, 'r');
    expect([...context.read(range.start, 1)]).toEqual([1]);
    expect(() => context.write(range.start, Uint8Array.of(2))).toThrow('is stale');
    expect([...space.read(range.start, 1)]).toEqual([1]);
    expectClean(machine);
  });
});

describe('a driver whose walk answers nonsense', () => {
  const lying = (answer: (vpn: number) => Translation): Driver =>
    defineDriver(() => ({ name: 'liar', attach: () => ({ walk: { translate: (vpn: number) => answer(vpn) } }) }))();

  test.each([
    ['a page that no memory has', (vpn: number) => ({ vpn, memory: -1, page: 1e9, write: true }), 'is not a page of memory -1'],
    ['a memory that it does not have', (vpn: number) => ({ vpn, memory: 3, page: 0, write: true }), 'is not a page of memory 3'],
    ['null', () => null as never, 'liar.walk.translate result null is neither a translation nor undefined'],
    ['a number', () => 7 as never, 'liar.walk.translate result 7 is neither a translation nor undefined'],
    [
      'another page',
      (vpn: number) => ({ vpn: vpn + 1, memory: -1, page: 5, write: true }),
      /^liar\.walk\.translate result\.vpn (0x10001|65537) is not the page that was asked for, 65536$/,
    ],
    [
      'no right',
      (vpn: number) => ({ vpn, memory: -1, page: 5 }) as never,
      'liar.walk.translate result.write undefined is not true or false',
    ],
    ['a page that is somebody else’s', (vpn: number) => ({ vpn, memory: -1, page: 5, write: true }), 'is stale'],
  ])('%s, is contained', (_what, answer, sentence) => {
    const { space, context } = begin(lying(answer));
    const range = space.mmap({ bytes: PAGE });
    space.write(range.start, Uint8Array.of(1));
    expect(() => context.read(range.start, 1)).toThrow(sentence);
    expect(context.failure).toBeDefined();
    expect([...space.read(range.start, 1)]).toEqual([1]);
    expectClean(machine);
  });

  test('never a right to write, ends a job and an access instead of going on for ever', () => {
    const driver = defineDriver(() => ({
      name: 'reader',
      attach: (context: Context) => {
        const table = deviceTable(context);
        return {
          walk: {
            translate: (vpn: number) => {
              const found = table.walk(vpn, 'read');
              return found && { ...found, write: false };
            },
          },
        };
      },
    }))();
    const { space, context } = begin(driver);
    const range = space.mmap({ bytes: PAGE });
    expect([...context.read(range.start, 1)]).toEqual([0]);
    expect(() => context.write(range.start, Uint8Array.of(1))).toThrow(
      'write.addr 0x10000000 makes no progress: its page is served again and again, and walk.translate of reader never answers with a translation that allows it',
    );
    expect(() => context.submit({ accesses: [{ op: 'write', addr: range.start, bytes: 1 }] })).toThrow('makes no progress');
    expectClean(machine);
  });
});

test('a fault service that returns no step is contained, and named', () => {
  for (const [answer, printed] of [
    [undefined, 'undefined'],
    [{}, 'an object'],
  ] as const) {
    const driver = defineDriver(() => ({ name: 'idle', attach: () => ({ fault: { service: () => answer as never } }) }))();
    const { space, context } = begin(driver);
    const range = space.mmap({ bytes: PAGE });
    expect(() => context.read(range.start, 1)).toThrow(`idle.fault.service result ${printed} is not a step`);
    expect(context.failure?.code).toBe('EINVAL');
    expectClean(machine);
  }
});

describe('a job', () => {
  test('gives up accesses without a mapping or a right, by their indices, and does the others', () => {
    const { space, context } = begin(nouveau({ vram: 256 * KiB }));
    const range = space.mmap({ bytes: 2 * PAGE });
    space.mmap({ bytes: PAGE, prot: 'r', at: range.end, fixed: true });
    space.mmap({ bytes: PAGE, prot: 'none', at: range.end + PAGE, fixed: true });
    const at = (page: number, offset = 0): number => range.start + page * PAGE + offset;
    const report = context.submit({
      accesses: [
        { op: 'write', addr: at(0), bytes: 4, value: 11 },
        { op: 'write', addr: at(2), bytes: 4, value: 12 },
        { op: 'read', addr: at(2), bytes: 4 },
        { op: 'read', addr: at(3), bytes: 4 },
        { op: 'write', addr: at(4), bytes: 4, value: 13 },
        { op: 'read', addr: at(4), bytes: 4 },
        { op: 'write', addr: at(1, PAGE - 2), bytes: 4, value: 0x01020304 },
        { op: 'read', addr: at(0), bytes: 4 },
      ],
      lanes: 4,
    });
    expect([...report.cancelled].sort()).toEqual([1, 3, 4, 5, 6]);
    expect([...report.order].sort()).toEqual([0, 2, 7]);
    expect(report.observed[7 * 2]).toBe(11);
    expect(machine.counters.cancelled).toBe(5);
    // The access that touches a page without the right to write changes neither page.
    expect([...space.read(at(1, PAGE - 2), 4)]).toEqual([0, 0, 0, 0]);
    expectClean(machine);
  });

  test('with more faults than the buffer has records loses some, and comes to its end all the same', () => {
    const { space, context } = begin(new Probe({ faultEntries: 4, pages: 64 }).driver);
    const range = space.mmap({ bytes: 32 * PAGE });
    const accesses = Array.from({ length: 32 }, (_, i) => ({ op: 'write' as const, addr: range.start + i * PAGE, bytes: 1, value: i + 1 }));
    const report = context.submit({ accesses, lanes: 32 });
    expect(report.rounds).toBe(9);
    expect(machine.counters.overflow).toBe(28 + 24 + 20 + 16 + 12 + 8 + 4);
    expect(machine.counters.deviceFaults).toEqual({ probe: 32 });
    expect(machine.counters.batchSizes).toEqual([0, 0, 8]);
    // The next one counts its own.
    expect(context.submit({ accesses, lanes: 32 }).rounds).toBe(1);
    expect(first(space, range)).toEqual(upTo(32));
    expectClean(machine);
  });

  test('of another context waits for the first to end', async () => {
    const probe = new Probe();
    const { space, context } = begin(probe.driver);
    const nic = space.attach(machine.addDevice(mirror()));
    const range = space.mmap({ bytes: 2 * PAGE });
    fill(space, range);
    probe.slow.add('toDevice');
    const one = context.submitAsync({ accesses: [{ op: 'write', addr: range.start + 1, bytes: 1, value: 40 }] });
    const two = nic.submitAsync({ accesses: [{ op: 'read', addr: range.start, bytes: 2 }] });
    expect(machine.pending.map(({ waitsFor, holds }) => `${waitsFor} / ${holds.join()}`)).toEqual([
      'ticket 1 (probe: toDevice) / job lock 0,batch lock 1,mmap lock 0',
      'job lock 0 / ',
    ]);
    probe.finish();
    await one;
    expect((await two).observed[0]).toBe(1 + 40 * 256);
    expectClean(machine);
  });

  test('in nouveau, and accesses of the same context meanwhile, do not get into each other’s batch', async () => {
    const { space, context } = begin(nouveau({ vram: 256 * KiB }));
    const slow = new Probe({ name: 'nic', pages: 0, cached: true });
    const nic = space.attach(machine.addDevice(slow.driver));
    const range = space.mmap({ bytes: 4 * PAGE });
    fill(space, range);
    first(nic, range);
    slow.slow.add('invalidate');
    const job = context.submitAsync({
      accesses: [0, 1].map((page) => ({ op: 'read' as const, addr: range.start + page * PAGE, bytes: 1 })),
    });
    const reads = [2, 3].map((page) => context.readAsync(range.start + page * PAGE, 1));
    while (slow.unfinished > 0) slow.finish();
    expect([...(await job).observed]).toEqual([1, 0, 2, 0]);
    expect((await Promise.all(reads)).map(([byte]) => byte)).toEqual([3, 4]);
    expect(space.dump(range)).toBe('DDDD');
    expectClean(machine);
  });

  test('of nothing does nothing, and one of 65,536 accesses is the most', () => {
    const { space, context } = begin(mirror());
    expect(context.submit({ accesses: [] })).toMatchObject({ rounds: 1, cancelled: [] });
    const { start } = space.mmap({ bytes: PAGE });
    const access = { op: 'read' as const, addr: start, bytes: 1 };
    expect(context.submit({ accesses: Array(65536).fill(access), lanes: 4096 }).order.length).toBe(65536);
    expect(() => context.submit({ accesses: Array(65537).fill(access) })).toThrow('is more than 65536');
    expectClean(machine);
  });
});

describe('a memory without bytes', () => {
  test('of metadata: pages move and are counted; a page that comes home is zeros, whatever its frame held before', () => {
    const { space, context } = begin(
      defineDriver(() => ({
        name: 'sketch',
        memory: [{ name: 'ram', kind: 'private' as const, bytes: 8 * PAGE, bytesIn: 'metadata' as const }],
        attach: () => ({}),
      }))(),
      { dram: 2 * PAGE, deviceMemory: 0, bodilessFrames: 8 },
    );
    const range = space.mmap({ bytes: 2 * PAGE });
    space.write(range.start, new Uint8Array(2 * PAGE).fill(0xaa));
    expect(context.migrate(range, { to: 'device' })).toBe(2);
    expect(space.dump(range)).toBe('DD');
    expect(() => context.read(range.start, 1)).toThrow(expect.objectContaining({ code: 'EIO' }) as Error);
    expect(() => context.submit({ accesses: [{ op: 'read', addr: range.start, bytes: 1 }] })).toThrow(
      expect.objectContaining({ code: 'EIO' }) as Error,
    );
    expect(space.read(range.start, 2 * PAGE).every((byte) => byte === 0)).toBe(true);
    expect(space.dump(range)).toBe('HH');
    expectClean(machine);
  });

  test('held by the driver: the copy family moves the bytes, and a CPU read brings them home through it', () => {
    const ram = new Uint8Array(8 * PAGE).fill(0xee);
    const log: string[] = [];
    const external = defineDriver(() => ({
      name: 'card',
      memory: [{ name: 'ram', kind: 'private' as const, bytes: 8 * PAGE, bytesIn: 'external' as const }],
      attach: () => ({
        copy: {
          toDevice: (copies: Copies) =>
            copies.eachHost((page, pages, bytes) => (log.push(`to ${page}+${pages}`), ram.set(bytes, page * PAGE))),
          toHost: (copies: Copies) =>
            copies.eachHost(
              (page, pages, bytes) => (log.push(`from ${page}+${pages}`), bytes.set(ram.subarray(page * PAGE, (page + pages) * PAGE))),
            ),
          zero: (copies: Copies) =>
            copies.each(
              (pages, _from, _fromPage, _to, page) =>
                void (log.push(`zero ${page}+${pages}`), ram.fill(0, page * PAGE, (page + pages) * PAGE)),
            ),
        },
      }),
    }))();
    const { space, context } = begin(external, { deviceMemory: 0, bodilessFrames: 8 });
    const range = space.mmap({ bytes: 3 * PAGE });
    fill(space, { start: range.start, end: range.start + 2 * PAGE });
    expect(context.migrate(range, { to: 'device' })).toBe(3);
    expect(space.dump(range)).toBe('DDD');
    expect(log).toEqual(['to 0+2', 'zero 2+1']);
    expect([ram[0], ram[PAGE], ram[2 * PAGE]]).toEqual([1, 2, 0]);
    ram[PAGE + 1] = 77;
    expect([...space.read(range.start + PAGE, 2)]).toEqual([2, 77]);
    expect([...space.read(range.start + 2 * PAGE, 1)]).toEqual([0]);
    expect(log.slice(2)).toEqual(['from 1+1', 'from 2+1']);
    expect(space.dump(range)).toBe('DHH');
    context.detach();
    expect([...space.read(range.start, 1)]).toEqual([1]);
    expectClean(machine);
  });

  test('held by the driver, without a whole copy family, is refused when it is attached', () => {
    machine = smallMachine({ deviceMemory: 0, bodilessFrames: 8 });
    const device = machine.addDevice(
      defineDriver(() => ({
        name: 'card',
        memory: [{ name: 'ram', kind: 'private' as const, bytes: 8 * PAGE, bytesIn: 'external' as const }],
        attach: () => ({ copy: { toDevice: () => {}, toHost: () => {} } }),
      }))(),
    );
    const space = machine.createAddressSpace();
    expect(() => space.attach(device)).toThrow('must have toDevice, toHost and zero: its memory is external');
    expect(space.mirrors).toEqual([]);
    expectClean(machine);
  });
});

describe('a device with memory of its own', () => {
  test('uses shared memory and files where they are, and takes what a private mapping has copied', () => {
    const { space, context } = begin(new Probe({ pages: 8 }).driver);
    const file = machine.createFile({ content: Uint8Array.of(1, 2, 3) });
    const shared = space.mmap({ bytes: PAGE, shared: true });
    const mapped = space.mmap({ bytes: PAGE, shared: true, file });
    const copied = space.mmap({ bytes: 2 * PAGE, file });
    space.write(shared.start, Uint8Array.of(7));
    expect([...context.read(shared.start, 1), ...context.read(mapped.start, 3), ...context.read(copied.start, 3)]).toEqual([
      7, 1, 2, 3, 1, 2, 3,
    ]);
    expect(used(machine)).toBe('dram 2, probe.ram 0');
    for (const range of [shared, mapped, copied]) expect(context.migrate(range, { to: 'device' })).toBe(0);
    context.write(mapped.start, Uint8Array.of(9));
    expect([...file.read(0, 3)]).toEqual([9, 2, 3]);
    // The device’s own write copies the page, which is anonymous then.
    context.write(copied.start + 1, Uint8Array.of(8));
    expect(used(machine)).toBe('dram 2, probe.ram 1');
    expect([...space.read(copied.start, 3), ...file.read(0, 3)]).toEqual([9, 8, 3, 9, 2, 3]);
    for (const range of [shared, mapped, copied]) space.munmap(range);
    file.close();
    expect(used(machine)).toBe('dram 0, probe.ram 0');
    expectClean(machine);
  });
});

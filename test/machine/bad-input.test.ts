/** Every public verb, given what it cannot take: an error that names the argument, its value and the rule, and a machine that has not changed. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type AddressRange, type AddressSpace, type Context, createMachineSync, isFarfaultError, type Machine } from 'farfault';
import nouveau from 'farfault/drivers/nouveau';
import rdma from 'farfault/drivers/rdma';
import { defineDriver, deviceTable, deviceTlb, type Driver, type GmMmu } from 'farfault/gmem';
import { checked } from 'farfault/testing';
import { expectClean, PAGE, probeDriver, smallMachine, used } from './probe.ts';

/* What follows is what a program without types can do: `as never` is anything. */

let machine: Machine;
let space: AddressSpace;
let context: Context;
let range: AddressRange;

beforeAll(() => {
  machine = smallMachine();
  space = machine.createAddressSpace();
  context = space.attach(machine.addDevice(probeDriver()));
  range = space.mmap({ bytes: 4 * PAGE });
  space.write(range.start, new Uint8Array(2 * PAGE).fill(1));
  context.write(range.start, Uint8Array.of(2));
});
afterAll(() => machine.close());

/** The state that a refused call may not change. */
const state = (): string =>
  `${space.dump()} ${used(machine)} ${JSON.stringify(machine.counters)} ${machine.nodes.length} ${space.mirrors.length}`;

/** The message of the error thrown, which has to be one of the library's. */
function refused(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    if (!isFarfaultError(error)) throw new Error('not a FarfaultError', { cause: error });
    expect(error.argument).not.toBe('');
    expect(error.rule).not.toBe('');
    return `${error.code}: ${error.message}`;
  }
  return 'nothing thrown';
}

const device = (description: object) => (): unknown => machine.addDevice({ name: 'bad', attach: () => ({}), ...description });
const memory = (description: object) => device({ memory: [{ name: 'ram', kind: 'private', bytes: PAGE, ...description }] });
const at = (page: number): number => range.start + page * PAGE;

const verbs: Record<string, [string, () => unknown, string | RegExp][]> = {
  createMachine: [
    ['no object', () => createMachineSync(5 as never), 'EINVAL: createMachine options 5 are not an object'],
    ['null', () => createMachineSync(null as never), 'EINVAL: createMachine options null are not an object'],
    ['dram of half a page', () => createMachineSync({ dram: 2048 }), 'EINVAL: createMachine.dram 2048 is not a multiple of 4096 above 0'],
    ['no dram', () => createMachineSync({ dram: 0 }), 'EINVAL: createMachine.dram 0 is not a multiple of 4096 above 0'],
    [
      'dram in words',
      () => createMachineSync({ dram: '1 MiB' as never }),
      'EINVAL: createMachine.dram "1 MiB" is not a multiple of 4096 above 0',
    ],
    [
      'dram without end',
      () => createMachineSync({ dram: Infinity }),
      'EINVAL: createMachine.dram Infinity is not a multiple of 4096 above 0',
    ],
    [
      'dram beyond one memory',
      () => createMachineSync({ dram: 2 ** 40, deviceMemory: 0 }),
      /^EOVERFLOW: machine memory ".* MiB" does not fit/,
    ],
    ['less than no device memory', () => createMachineSync({ deviceMemory: -PAGE }), /^EINVAL: createMachine.deviceMemory -4096 /],
    ['no table', () => createMachineSync({ tables: 0 }), 'EINVAL: createMachine.tables 0 is not a count between 1 and 65534'],
    ['more tables than numbers for them', () => createMachineSync({ tables: 65535 }), /^EINVAL: createMachine.tables 65535 is not a count/],
    ['half a table page', () => createMachineSync({ tablePages: 0.5 }), /^EINVAL: createMachine.tablePages 0.5 is not a count/],
    [
      'frames that are not a number',
      () => createMachineSync({ bodilessFrames: NaN }),
      /^EINVAL: createMachine.bodilessFrames NaN is not a count/,
    ],
  ],
  addDevice: [
    ['nothing', () => machine.addDevice(undefined as never), /^EINVAL: driver undefined is not a driver/],
    ['a factory', () => machine.addDevice(nouveau as never), /^EINVAL: driver function .* is not a driver/],
    ['no name', device({ name: undefined }), /^EINVAL: driver.name undefined is not 1 to 32 lower-case letters/],
    ['a name in capitals', device({ name: 'GPU' }), /^EINVAL: driver.name "GPU" is not 1 to 32 lower-case letters/],
    ['a name that is taken', device({ name: 'probe' }), 'EINVAL: driver.name "probe" is the name of a device of this machine already'],
    ['no attach', device({ attach: undefined }), 'EINVAL: bad.attach undefined is not a function'],
    ['a granule of three pages', device({ granuleBytes: 3 * PAGE }), /^EINVAL: bad.granuleBytes 12288 is not a power of two/],
    ['no fault record', device({ faultEntries: 0 }), /^EINVAL: bad.faultEntries 0 is not a count/],
    ['memory that is no list', device({ memory: { bytes: PAGE } }), 'EINVAL: bad.memory an object is not an array'],
    ['a memory that is none', device({ memory: [null] }), /^EINVAL: bad.memory name undefined is not/],
    ['a memory of no bytes', memory({ bytes: 0 }), 'EINVAL: bad.memory.ram.bytes 0 is not a positive multiple of 4096'],
    ['a memory of another kind', memory({ kind: 'shared' }), `EINVAL: bad.memory.ram.kind "shared" is not one of: 'private', 'coherent'`],
    ['bytes that are nowhere', memory({ bytesIn: 'cloud' }), /^EINVAL: bad.memory.ram.bytesIn "cloud" is not one of/],
    ['an allocator unknown', memory({ allocator: 'me' }), /^EINVAL: bad.memory.ram.allocator "me" is not one of/],
    ['a memory that does not fit', memory({ bytes: 2 ** 30 }), /^ENOMEM: bad.ram pages 262144 do not fit the machine/],
    [
      'two memories, of which the second does not fit',
      device({
        memory: [
          { name: 'a', kind: 'private', bytes: PAGE },
          { name: 'b', kind: 'private', bytes: 2 ** 30 },
        ],
      }),
      /^ENOMEM: bad.b pages 262144 do not fit the machine/,
    ],
    [
      'two memories of one name',
      device({
        memory: [
          { name: 'a', kind: 'private', bytes: PAGE },
          { name: 'a', kind: 'private', bytes: PAGE },
        ],
      }),
      'EINVAL: node name "bad.a" is taken',
    ],
  ],
  mmap: [
    ['nothing', () => space.mmap(undefined as never), 'EINVAL: mmap options undefined are not an object'],
    ['no bytes', () => space.mmap({ bytes: 0 }), 'EINVAL: mmap.bytes 0 is not a length between 1 byte and 2^48'],
    ['half a byte', () => space.mmap({ bytes: 0.5 }), 'EINVAL: mmap.bytes 0.5 is not a length between 1 byte and 2^48'],
    ['a big integer', () => space.mmap({ bytes: 4096n as never }), 'EINVAL: mmap.bytes 4096n is not a length between 1 byte and 2^48'],
    ['rights unknown', () => space.mmap({ bytes: 1, prot: 'wr' as never }), /^EINVAL: mmap.prot "wr" is not one of none, r, w/],
    ['rights of an object', () => space.mmap({ bytes: 1, prot: 'toString' as never }), /^EINVAL: mmap.prot "toString" is not one of/],
    ['a place in a page', () => space.mmap({ bytes: 1, at: 0x1001 }), 'EINVAL: mmap.at 0x1001 is not page-aligned'],
    ['a place outside', () => space.mmap({ bytes: 1, at: 2 ** 48 }), 'EINVAL: mmap.at 0x1000000000000 is not a byte address below 2^48'],
    ['fixed nowhere', () => space.mmap({ bytes: 1, fixed: true }), 'EINVAL: mmap.at undefined is required with fixed'],
    [
      'fixed where there is one',
      () => space.mmap({ bytes: 1, at: range.start, fixed: true }),
      'EINVAL: mmap.at 0x10000000 is mapped already',
    ],
  ],
  'munmap, mprotect, madvise': [
    ['nothing', () => space.munmap(undefined as never), 'EINVAL: munmap.range undefined is not a range { start, end }'],
    ['a start in a page', () => space.munmap({ start: 1, end: PAGE }), 'EINVAL: munmap.range.start 1 is not page-aligned'],
    ['an end in a page', () => space.munmap({ start: 0, end: 5000 }), 'EINVAL: munmap.range.end 0x1388 is not page-aligned'],
    ['an empty range', () => space.munmap({ start: PAGE, end: PAGE }), 'EINVAL: munmap.range.end 0x1000 is not above its start 0x1000'],
    [
      'an end outside',
      () => space.munmap({ start: 0, end: 2 ** 49 }),
      'EINVAL: munmap.range.end 0x2000000000000 is not a byte address up to 2^48',
    ],
    ['a start below', () => space.munmap({ start: -PAGE, end: PAGE }), 'EINVAL: munmap.range.start -4096 is not a byte address below 2^48'],
    ['rights unknown', () => space.mprotect(range, 'rwxs' as never), /^EINVAL: mprotect.prot "rwxs" is not one of/],
    [
      'what is not mapped',
      () => space.mprotect({ start: at(3), end: at(5) }, 'r'),
      'EINVAL: mprotect.range.start 0x10003000 has no mapping at 0x10004000',
    ],
    [
      'advice unknown',
      () => space.madvise(range, 'willneed' as never),
      /^EINVAL: madvise.advice "willneed" is not one of: 'dontneed', 'free', 'hugepage', 'nohugepage', 'collapse', 'dontfork', 'dofork'$/,
    ],
    ['advice on what is not mapped', () => space.madvise({ start: at(4), end: at(5) }, 'dontneed'), /has no mapping at 0x10004000$/],
  ],
  'read, write': [
    ['nowhere', () => space.read(undefined as never, 1), 'EINVAL: read.addr undefined is not a byte address below 2^48'],
    ['below', () => space.read(-1, 1), 'EINVAL: read.addr -1 is not a byte address below 2^48'],
    ['less than nothing', () => space.read(0, -1), 'EINVAL: read.bytes -1 is not a length between 0 and 2^31 - 1'],
    ['more than there can be', () => space.read(0, 2 ** 40), 'EINVAL: read.bytes 1099511627776 is not a length between 0 and 2^31 - 1'],
    ['over the end', () => space.read(2 ** 48 - 1, 2), /^EOVERFLOW: read.addr 0xffffffffffff leaves the address space/],
    ['a list', () => space.write(range.start, [1] as never), 'EINVAL: write.bytes an array of 1 is not a Uint8Array'],
    ['words', () => space.write(range.start, new Uint16Array(1) as never), 'EINVAL: write.bytes a Uint16Array is not a Uint8Array'],
    ['no buffer to try', () => space.tryRead(range.start, undefined as never), 'EINVAL: tryRead.bytes undefined is not a Uint8Array'],
    ['no bytes to try', () => space.tryWrite(range.start, 'x' as never), 'EINVAL: write.bytes "x" is not a Uint8Array'],
  ],
  'looking and subscribing': [
    ['a dump of nothing', () => space.dump(5 as never), 'EINVAL: dump.range 5 is not a range { start, end }'],
    ['a snapshot of a part', () => space.snapshot({ start: 0, end: 1 }), 'EINVAL: snapshot.range.end 1 is not page-aligned'],
    [
      'a subscriber to nothing',
      () => space.subscribe({ start: 0, end: 0 }, { invalidate: () => true }),
      /^EINVAL: subscribe.range.end 0 is not above/,
    ],
    ['a subscriber that does not listen', () => space.subscribe(range, {} as never), 'EINVAL: ops.invalidate undefined is not a function'],
  ],
  attach: [
    ['nothing', () => space.attach(undefined as never), /^EINVAL: attach.device undefined is not a device of a machine/],
    ['a driver', () => space.attach(probeDriver() as never), /^EINVAL: attach.device an object is not a device of a machine/],
    ['twice', () => space.attach(context.device), 'EINVAL: attach.device "probe" is attached to this address space already'],
  ],
  context: [
    ['a read nowhere', () => context.read(NaN, 1), 'EINVAL: read.addr NaN is not a byte address below 2^48'],
    ['a read of everything', () => context.read(0, 2 ** 32), /^EINVAL: read.bytes 4294967296 is not a length/],
    ['a write of text', () => context.write(range.start, 'x' as never), 'EINVAL: write.bytes "x" is not a Uint8Array'],
    [
      'a fault of another sort',
      () => context.fault(range.start, 'execute' as never),
      `EINVAL: fault.access "execute" is not one of: 'read', 'write'`,
    ],
    ['a fault outside', () => context.fault(2 ** 48, 'read'), /^EINVAL: fault.addr 0x1000000000000 is not a byte address/],
    [
      'a migration of nothing',
      () => context.migrate(undefined as never, { to: 'device' }),
      /^EINVAL: migrate.range undefined is not a range/,
    ],
    [
      'a migration elsewhere',
      () => context.migrate(range, { to: 'moon' as never }),
      `EINVAL: migrate.to "moon" is not one of: 'device', 'host'`,
    ],
    [
      'a migration without a goal',
      () => context.migrate(range, undefined as never),
      /^EINVAL: migrate options undefined are not an object/,
    ],
    ['no job', () => context.submit(undefined as never), 'EINVAL: job undefined is not an object'],
    ['no lanes', () => context.submit({ accesses: [], lanes: 0 }), 'EINVAL: job.lanes 0 is not a count between 1 and 4096'],
    ['an access that is none', () => context.submit({ accesses: [null] as never }), /^EINVAL: job access null is not an object/],
    [
      'an access of another sort',
      () => context.submit({ accesses: [{ op: 'exec', addr: 0, bytes: 1 }] as never }),
      /^EINVAL: job access op "exec"/,
    ],
    [
      'an access of no bytes',
      () => context.submit({ accesses: [{ op: 'read', addr: 0, bytes: 0 }] }),
      /^EINVAL: job access bytes 0 is not between 1 and 4096/,
    ],
    [
      'an access over the end',
      () => context.submit({ accesses: [{ op: 'read', addr: 2 ** 48 - 1, bytes: 2 }] }),
      /^EINVAL: job access addr 0xffffffffffff/,
    ],
    [
      'a value below zero',
      () => context.submit({ accesses: [{ op: 'write', addr: 0, bytes: 1, value: -1 }] }),
      /^EINVAL: job access value -1 /,
    ],
  ],
};

for (const [verb, cases] of Object.entries(verbs)) {
  describe(verb, () => {
    test.each(cases)('refuses %s', (_what, action, message) => {
      const before = state();
      if (typeof message === 'string') expect(refused(action)).toBe(message);
      else expect(refused(action)).toMatch(message);
      expect(state()).toBe(before);
      expectClean(machine);
    });
  });
}

describe('a misspelt name', () => {
  test.each<[string, () => unknown, string]>([
    [
      'of an option',
      () => space.mmap({ bytes: PAGE, port: 'r' } as never),
      'mmap option "port" is not one of: bytes, prot, at, fixed, align, shared, file, offset, hugetlb, special, peerShared',
    ],
    ['that says nothing', () => space.fork({ devices: undefined } as never), 'fork option "devices" is not one of: device'],
    [
      'that every object has',
      () => space.pin(range, { constructor: true } as never),
      'pin option "constructor" is not one of: write, longTerm',
    ],
    [
      'that the options inherit',
      () => space.pin(range, Object.create({ writes: true }) as never),
      'pin option "writes" is not one of: write, longTerm',
    ],
    [
      'of a field of a job',
      () => context.submit({ accesses: [], lane: 4 } as never),
      'job field "lane" is not one of: accesses, lanes, window',
    ],
    [
      'of a field of a memory',
      memory({ alocator: 'driver' }),
      'bad.memory.ram field "alocator" is not one of: name, kind, bytes, bytesIn, allocator',
    ],
    ['of a field of a bus', device({ dma: { iovaBit: 48 } }), 'bad.dma field "iovaBit" is not one of: iovaBits, needsSync, peer'],
    [
      'of an option of a driver',
      () => nouveau({ vramm: 1 } as never),
      'driver option "vramm" is not one of: vram, granule, faultEntries, allocator',
    ],
    ['of an option of a driver that has none', () => rdma({ vram: 1 }), 'driver option "vram" is not known: there are none'],
  ])('%s is refused', (_what, action, message) => expect(refused(action)).toBe(`EINVAL: ${message}`));

  test('of a field of a driver is refused, of one in a wrapper too', () => {
    const message = /^EINVAL: bad field "granuleByte" is not one of: name, memory, granuleBytes, /;
    const driver = { name: 'bad', granuleByte: 65536, attach: () => ({}) };
    expect(refused(() => machine.addDevice(driver))).toMatch(message);
    expect(refused(() => machine.addDevice(checked(driver)))).toMatch(message);
  });

  test('is the business of the driver where it lists no options', () => {
    const make = defineDriver((options: { name?: string }) => ({ name: options.name ?? 'own', attach: () => ({}) }));
    expect(make({ nam: 'x' } as never).name).toBe('own');
  });
});

test('an instance of a class has its state in fields of its own, in a wrapper too, where it is reset like any other', () => {
  class Card {
    readonly name: string;
    readonly #secret = 1;
    resets = 0;

    constructor(name: string) {
      this.name = name;
    }

    attach(): GmMmu {
      return {};
    }

    reset(): void {
      this.resets += this.#secret;
    }
  }
  const own = smallMachine();
  const [plain, inside] = [new Card('plain'), new Card('inside')];
  const wrapper = checked(inside);
  for (const driver of [plain, wrapper, { ...checked<Driver>(new Card('copy')) }]) own.addDevice(driver).reset();
  expect([plain.resets, inside.resets, wrapper.resets]).toEqual([1, 1, 1]);
  own.close();
});

describe('a driver’s families', () => {
  let names = 0;

  /** Attaches a driver with these families, and says what is wrong with them. */
  function attached(mmu: unknown, driver: object = {}): string {
    const name = `d${names++}`;
    const added = machine.addDevice(defineDriver(() => ({ name, attach: () => mmu as GmMmu, ...driver }))());
    const message = refused(() => space.attach(added));
    expect(added.contexts).toEqual([]);
    return message.replace(name, 'bad');
  }

  test.each<[string, unknown, string | RegExp]>([
    ['nothing', undefined, 'EINVAL: bad.attach result undefined is not an object of families'],
    [
      'a family misspelt',
      { pamp: {} },
      'EINVAL: bad family "pamp" is unknown: the families are pmap, tlb, walk, copy, phys, peer, fault, peerVa',
    ],
    [
      'a family of every object',
      { constructor: {} },
      'EINVAL: bad family "constructor" is unknown: the families are pmap, tlb, walk, copy, phys, peer, fault, peerVa',
    ],
    ['a family that is null', { tlb: null }, 'EINVAL: bad.tlb null is not an object of operations'],
    ['a family that is a function', { walk: () => {} }, /^EINVAL: bad.walk function walk is not an object of operations/],
    [
      'an operation misspelt',
      { tlb: { invalidate() {}, invalidateCoalesed() {} } },
      'EINVAL: bad.tlb operation "invalidateCoalesed" is unknown: tlb has invalidate, invalidateCoalesced',
    ],
    ['an operation missing', { tlb: {} }, 'EINVAL: bad.tlb.invalidate undefined is not a function'],
    ['an operation that is no function', { walk: { translate: true } }, 'EINVAL: bad.walk.translate true is not a function'],
    ['an optional operation that is no function', { copy: { toHost: 1 } }, 'EINVAL: bad.copy.toHost 1 is not a function'],
    [
      'a copy operation misspelt',
      { copy: { toHots() {} } },
      'EINVAL: bad.copy operation "toHots" is unknown: copy has toDevice, toHost, zero, peer',
    ],
    ['a detach that is no function', { detach: 1 }, 'EINVAL: bad.detach 1 is not a function'],
    [
      'a pmap of its own without a walk',
      { pmap: { enter() {}, release() {} } },
      'EINVAL: bad.walk undefined is required: only the driver can translate through a pmap of its own',
    ],
    [
      'a tlb of its own without a walk',
      { tlb: { invalidate() {} } },
      'EINVAL: bad.walk undefined is required: only the driver can look up a tlb of its own',
    ],
  ])('are refused: %s', (_what, mmu, message) => {
    const before = state();
    if (typeof message === 'string') expect(attached(mmu)).toBe(message);
    else expect(attached(mmu)).toMatch(message);
    expect(state()).toBe(before);
    expectClean(machine);
  });

  test('are refused when the memory says that the driver hands the pages out, and it does not', () => {
    expect(attached({}, { memory: [{ name: 'ram', kind: 'private', bytes: PAGE, allocator: 'driver' }] })).toBe(
      'EINVAL: bad.phys undefined is required: its memory says that the driver hands the pages out',
    );
    expectClean(machine);
  });

  test.each<[string, (context: Context) => unknown, RegExp]>([
    [
      'a geometry without levels',
      (context) => deviceTable(context, { bits: [] }),
      /^EINVAL: geometry.bits 0 levels are not between 1 and 5/,
    ],
    [
      'a level too wide',
      (context) => deviceTable(context, { bits: [10, 9, 9, 8] }),
      /^EINVAL: geometry.bits 10 is not a width between 1 and 9/,
    ],
    [
      'a geometry that does not cover a page number',
      (context) => deviceTable(context, { bits: [9, 9, 9] }),
      /^EINVAL: geometry.bits 27 bits in all are not the 36/,
    ],
    ['a geometry that is none', (context) => deviceTable(context, {} as never), /^EINVAL: geometry.bits undefined is not an array/],
    ['three sets', (context) => deviceTlb(context, 3), /^EINVAL: deviceTlb.sets 3 is not a power of two between 1 and 256/],
    [
      'a second table',
      (context) => (deviceTable(context), deviceTable(context, { bits: [9, 9, 9, 9] })),
      /^EINVAL: deviceTable "d\d+" has made its table/,
    ],
    ['a second TLB', (context) => (deviceTlb(context), deviceTlb(context)), /^EINVAL: deviceTlb "d\d+" has made its TLB/],
  ])('are refused: %s', (_what, attach, message) => {
    const before = state();
    const name = `d${names++}`;
    const added = machine.addDevice(
      defineDriver(() => ({
        name,
        attach(context) {
          attach(context);
          return {};
        },
      }))(),
    );
    expect(refused(() => space.attach(added))).toMatch(message);
    expect(state()).toBe(before);
    expectClean(machine);
  });

  test('that a machine has no table or TLB left for are refused with ENOMEM', () => {
    const small = smallMachine({ tables: 2 });
    const first = small.createAddressSpace();
    const kept = first.attach(small.addDevice(probeDriver()));
    expect(refused(() => small.createAddressSpace())).toMatch(/^ENOMEM: address spaces 1 is all that the machine has tables for/);
    expect(refused(() => first.attach(small.addDevice(probeDriver({ name: 'other' }))))).toMatch(/^ENOMEM: device tables 2 is all/);
    kept.detach();
    expectClean(small);
    small.createAddressSpace().close();
    expectClean(small);
    small.close();
  });

  test('of another machine’s device are refused', () => {
    const other = smallMachine();
    const device = other.addDevice(probeDriver());
    expect(refused(() => space.attach(device))).toBe('EINVAL: attach.device "probe" is of another machine');
    other.close();
    expectClean(machine);
  });
});

test('a device without memory of its own cannot be migrated to', () => {
  const nic = space.attach(machine.addDevice(probeDriver({ name: 'nic', pages: 0 })));
  expect(refused(() => nic.migrate(range, { to: 'device' }))).toBe('EOPNOTSUPP: migrate.device "nic" has no memory of its own');
  nic.detach();
});

import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import {
  type AddressRange,
  type AddressSpace,
  type Context,
  createMachineSync,
  type EventOf,
  type Machine,
  type MachineEvent,
  MiB,
} from 'farfault';
import { defineDriver, type Driver } from 'farfault/gmem';
import { expectClean, PAGE, Probe } from '../machine/probe.ts';

const HUGE = 512;

let machine: Machine;
let space: AddressSpace;
let events: MachineEvent[];

/** Nodes of a device with memories of these kinds and sizes in pages, and nothing of its own besides. */
const plain = defineDriver(
  ({
    name = 'gpu',
    kind = 'private',
    pages = 16,
    granulePages = 1,
  }: {
    name?: string;
    kind?: 'private' | 'coherent';
    pages?: number;
    granulePages?: number;
  }): Driver => ({
    name,
    memory: [{ name: 'ram', kind, bytes: pages * PAGE }],
    granuleBytes: granulePages * PAGE,
    atomics: ['exclusive'],
    attach: () => ({}),
  }),
);

beforeEach(() => {
  machine = createMachineSync({ dram: 8 * MiB, deviceMemory: 16 * MiB, tablePages: 512 });
  space = machine.createAddressSpace();
  events = [];
  machine.onEvent((event) => events.push(event));
});

afterEach(() => {
  if (machine.platform.open) {
    expectClean(machine);
    machine.close();
  }
});

/** Events of one type since the last look, without what is the same in all of them. */
function told<T extends MachineEvent['type']>(type: T): EventOf<T>[] {
  const found = events.filter((event): event is EventOf<T> => event.type === type);
  events.length = 0;
  return found;
}

/** Everything since the last look: types, and the word that says why. */
function story(): string[] {
  const lines = events.map((event) => {
    const why = 'cause' in event ? event.cause : 'reason' in event ? event.reason : undefined;
    return why === undefined ? event.type : `${event.type} ${why}`;
  });
  events.length = 0;
  return lines;
}

const mapped = (pages: number, options: object = {}): AddressRange => space.mmap({ bytes: pages * PAGE, ...options });
const fill = ({ start, end }: AddressRange, of: AddressSpace = space): void => {
  for (let addr = start; addr < end; addr += PAGE) of.write(addr, Uint8Array.of(1));
};
const vpnOf = (addr: number): number => addr / PAGE;
const attach = (driver: Driver): Context => space.attach(machine.addDevice(driver));

describe('a job', () => {
  test('tells of itself, its batches, what the buffer lost, and why lanes go on', () => {
    const gpu = attach(new Probe({ name: 'gpu', faultEntries: 2 }).driver);
    const range = mapped(3);
    const accesses = [0, 1, 2, 9].map((page) => ({ op: 'write' as const, addr: range.start + page * PAGE, bytes: 1 }));
    events.length = 0;
    gpu.submit({ accesses, lanes: 4 });
    expect(events[0]).toMatchObject({ type: 'job.begun', device: 'gpu', accesses: 4, lanes: 4 });
    expect(events.at(-1)).toMatchObject({ type: 'job.ended', executed: 3, cancelled: 1, rounds: 3, done: true });
    const of = (type: string): MachineEvent[] => events.filter((event) => event.type === type);
    expect(of('buffer.overflowed')).toMatchObject([{ device: 'gpu', lost: 2 }]);
    expect(of('batch.begun')).toMatchObject([{ records: 2 }, { records: 2 }]);
    expect(of('lanes.replayed')).toMatchObject([
      { lanes: 4, round: 2, cause: 'batch served' },
      { lanes: 2, round: 3, cause: 'batch served' },
    ]);
    expect(of('fault.device')).toMatchObject([{ lane: 0 }, { lane: 1 }, { lane: 2 }, { lane: 3 }]);
    expect(of('fault.cancelled')).toMatchObject([{ lane: 3, write: true, vpn: vpnOf(range.start) + 9, reason: 'no mapping' }]);
    // Records come before their batch begins, and lanes go on when it has been served.
    const order = events.map(({ type }) => type).filter((type) => /^(fault\.d|buffer|batch|lanes|job)/.test(type));
    expect(order).toEqual([
      ...['job.begun', 'fault.device', 'fault.device', 'buffer.overflowed', 'batch.begun', 'batch.served', 'lanes.replayed'],
      ...['fault.device', 'fault.device', 'batch.begun', 'batch.served', 'lanes.replayed', 'job.ended'],
    ]);
  });

  test('of which nothing is left to do says that its batch was cancelled', () => {
    const gpu = attach(new Probe({ name: 'gpu' }).driver);
    const range = mapped(1, { prot: 'r' });
    gpu.submit({ accesses: [{ op: 'write', addr: range.start, bytes: 1 }], lanes: 1 });
    expect(events.find(({ type }) => type === 'fault.cancelled')).toMatchObject({ reason: 'permission', lane: 0 });
    expect(told('lanes.replayed')).toMatchObject([{ cause: 'batch cancelled' }]);
  });

  test('that is broken off says so, and why', () => {
    machine.close();
    machine = createMachineSync({ dram: 8 * PAGE, deviceMemory: 1 * MiB, tablePages: 128 });
    machine.onEvent((event) => events.push(event));
    space = machine.createAddressSpace();
    const nic = attach(new Probe({ name: 'nic', pages: 0 }).driver);
    const range = mapped(16);
    const accesses = Array.from({ length: 16 }, (_, page) => ({ op: 'write' as const, addr: range.start + page * PAGE, bytes: 1 }));
    expect(() => nic.submit({ accesses, lanes: 16 })).toThrow('exhausted');
    expect(events.find(({ type }) => type === 'fault.fatal')).toMatchObject({ device: 'nic', reason: 'no memory', write: true });
    expect(told('job.ended')).toMatchObject([{ done: false, executed: 0 }]);
  });
});

describe('an access that cannot be done', () => {
  test('is told of with the reason: no mapping, permission, bus error', () => {
    const range = mapped(1, { prot: 'r' });
    const file = machine.createFile({ bytes: PAGE });
    const view = mapped(2, { file, shared: true });
    expect(() => space.read(0x7000_0000, 1)).toThrow();
    expect(() => space.write(range.start, Uint8Array.of(1))).toThrow();
    expect(() => space.read(view.end - PAGE, 1)).toThrow();
    expect(told('fault.fatal')).toMatchObject([
      { vpn: 0x70000, reason: 'no mapping', write: false, device: undefined },
      { vpn: vpnOf(range.start), reason: 'permission', write: true },
      { vpn: vpnOf(view.end) - 1, reason: 'bus error' },
    ]);
  });

  test('for want of memory', () => {
    const range = mapped(8 * MiB + PAGE > 0 ? 2049 : 0);
    expect(() => space.write(range.start, new Uint8Array(2049 * PAGE))).toThrow('exhausted');
    expect(told('fault.fatal')).toMatchObject([{ reason: 'no memory', vpn: vpnOf(range.start) + 2048 }]);
  });
});

describe('a migration', () => {
  test('tells which page was wanted, what came along, and where it is mapped now', () => {
    const gpu = attach(plain({ granulePages: 4 }));
    const range = mapped(4, { align: 2 * MiB });
    fill({ start: range.start, end: range.start + 2 * PAGE });
    events.length = 0;
    gpu.write(range.start + PAGE, Uint8Array.of(2));
    const vpn = vpnOf(range.start);
    const moved = { from: 'dram', to: 'gpu.ram', way: 'toDevice', pages: 2, bytes: 2 * PAGE, cleared: 2, refused: 0, cause: 'fault' };
    expect(told('pages.migrated')).toMatchObject([{ ...moved, wanted: vpn + 1, runs: [{ space: space.id, vpn, pages: 4 }] }]);
    space.read(range.start + 2 * PAGE, 1);
    expect(told('pages.migrated')).toMatchObject([
      { from: 'gpu.ram', to: 'dram', way: 'toHost', pages: 4, cause: 'home', wanted: vpn + 2, runs: [{ space: space.id, vpn, pages: 4 }] },
    ]);
    gpu.migrate(range, { to: 'device' });
    expect(told('pages.migrated')).toMatchObject([{ cause: 'user', wanted: -1, pages: 4 }]);
  });

  test('of a page that two spaces share is told with both places', () => {
    const gpu = attach(plain({}));
    const range = mapped(1);
    fill(range);
    gpu.migrate(range, { to: 'device' });
    const child = space.fork();
    events.length = 0;
    expect(child.read(range.start, 1)[0]).toBe(1);
    const runs = [space.id, child.id].map((id) => ({ space: id, vpn: vpnOf(range.start), pages: 1 }));
    const [home] = told('pages.migrated');
    expect(home).toMatchObject({ space: child.id, cause: 'home' });
    expect([...home!.runs].sort((a, b) => a.space - b.space)).toEqual(runs.sort((a, b) => a.space - b.space));
  });

  test.each([
    ['detach', (gpu: Context) => gpu.detach()],
    ['unplug', (gpu: Context) => gpu.device.removeMemory(gpu.device.memories[0]!)],
    ['fork', () => space.fork({ device: 'home' }).close()],
  ] as const)('home says why: %s', (cause, act) => {
    const gpu = attach(plain({}));
    const range = mapped(2);
    fill(range);
    gpu.migrate(range, { to: 'device' });
    events.length = 0;
    act(gpu);
    const moved = told('pages.migrated').filter(({ pages }) => pages > 0);
    expect(moved).toMatchObject([{ cause, pages: 2, to: 'dram', runs: [{ vpn: vpnOf(range.start), pages: 2 }] }]);
  });

  test('for a pin, out of coherent memory', () => {
    const apu = attach(plain({ kind: 'coherent' }));
    const range = mapped(1);
    fill(range);
    apu.migrate(range, { to: 'device' });
    events.length = 0;
    const pin = space.pin(range, { longTerm: true });
    const vpn = vpnOf(range.start);
    expect(events.find(({ type }) => type === 'pages.migrated')).toMatchObject({ cause: 'pin', from: 'gpu.ram', to: 'dram' });
    expect(told('pages.pinned')).toMatchObject([{ space: space.id, vpn, pages: 1, write: false, longTerm: true }]);
    pin.unpin();
    expect(told('pages.unpinned')).toMatchObject([{ space: space.id, vpn, pages: 1 }]);
  });
});

describe('an eviction', () => {
  test('tells for whom, which frames, and where what went is now', () => {
    const gpu = attach(plain({ pages: 2 }));
    const range = mapped(3);
    fill(range);
    gpu.migrate({ start: range.start, end: range.start + 2 * PAGE }, { to: 'device' });
    events.length = 0;
    gpu.read(range.start + 2 * PAGE, 1);
    const vpn = vpnOf(range.start);
    const home = events.find((event) => event.type === 'pages.migrated' && event.cause === 'evict');
    expect(home).toMatchObject({ space: -1, from: 'gpu.ram', to: 'dram', pages: 1, runs: [{ space: space.id, vpn, pages: 1 }] });
    const [evicted] = told('frames.evicted');
    expect(evicted).toMatchObject({ node: 'gpu.ram', pages: 1, space: space.id, vpn: vpn + 2, cause: 'fault', runs: [{ vpn, pages: 1 }] });
    expect(evicted!.frames.length).toBe(1);
    gpu.migrate({ start: range.start, end: range.start + PAGE }, { to: 'device' });
    expect(told('frames.evicted')).toMatchObject([{ vpn, cause: 'user', pages: 1 }]);
  });
});

describe('a page that is used where it is says why', () => {
  const remote = (): EventOf<'pages.mapped'>[] => told('pages.mapped');

  test('pinned', () => {
    const gpu = attach(plain({}));
    const range = mapped(1);
    fill(range);
    const pin = space.pin(range);
    gpu.read(range.start, 1);
    expect(remote()).toMatchObject([{ device: 'gpu', vpn: vpnOf(range.start), pages: 1, node: 'dram', cause: 'pinned' }]);
    pin.unpin();
  });

  test('policy: a page of a file', () => {
    const gpu = attach(plain({}));
    const range = mapped(1, { file: machine.createFile({ bytes: PAGE }), shared: true });
    gpu.read(range.start, 1);
    expect(remote()).toMatchObject([{ node: 'dram', cause: 'policy' }]);
  });

  test('each for itself: what was said of the last page is not said of this one', () => {
    const gpu = attach(plain({}));
    const range = mapped(1);
    fill(range);
    const shared = mapped(1, { file: machine.createFile({ bytes: PAGE }), shared: true });
    const pin = space.pin(range);
    gpu.read(range.start, 1);
    gpu.read(shared.start, 1);
    expect(remote().map(({ cause }) => cause)).toEqual(['pinned', 'policy']);
    pin.unpin();
  });

  test('coherence: on coherent memory of another device', () => {
    const apu = attach(plain({ name: 'apu', kind: 'coherent' }));
    const gpu = attach(plain({}));
    const range = mapped(1);
    fill(range);
    apu.migrate(range, { to: 'device' });
    gpu.read(range.start, 1);
    expect(remote()).toMatchObject([{ device: 'gpu', node: 'apu.ram', cause: 'coherence' }]);
  });

  test('out of memory: the memory is full of what may not leave', () => {
    const gpu = attach(plain({ pages: 1, kind: 'coherent' }));
    const range = mapped(2);
    fill(range);
    gpu.migrate({ start: range.start, end: range.start + PAGE }, { to: 'device' });
    const pin = space.pin({ start: range.start, end: range.start + PAGE });
    gpu.read(range.start + PAGE, 1);
    expect(remote()).toMatchObject([{ node: 'dram', vpn: vpnOf(range.start) + 1, cause: 'out of memory' }]);
    pin.unpin();
  });

  test('eviction: the memory is full, and its driver’s victims could not leave', () => {
    const { core } = machine.platform;
    const gpu = attach(new Probe({ name: 'gpu', pages: 1, allocator: 'driver' }).driver);
    const range = mapped(2);
    fill(range);
    gpu.read(range.start, 1);
    // Somebody holds the page by its frame.
    const frame = space.snapshot({ start: range.start, end: range.start + PAGE })[0]!;
    core.exports.frameGet(frame);
    gpu.read(range.start + PAGE, 1);
    expect(remote()).toMatchObject([{ node: 'dram', vpn: vpnOf(range.start) + 1, cause: 'eviction' }]);
    core.exports.framePut(frame);
  });

  test('a copy that failed', () => {
    const probe = new Probe({ name: 'gpu' });
    const gpu = attach(probe.driver);
    const range = mapped(1);
    fill(range);
    probe.slow.add('toDevice');
    const step = gpu.faultStep(range.start, 'read');
    const done = machine.platform.scheduler.runAsync(step);
    probe.giveUp();
    return done.then(() => expect(remote()).toMatchObject([{ node: 'dram', cause: 'copy failed' }]));
  });

  test('and a device without memory of its own says nothing', () => {
    const nic = attach(new Probe({ name: 'nic', pages: 0 }).driver);
    const range = mapped(1);
    fill(range);
    nic.read(range.start, 1);
    expect(remote()).toEqual([]);
  });
});

describe('a huge page', () => {
  function huge(pages = HUGE): AddressRange {
    const range = mapped(pages, { align: 2 * MiB });
    space.madvise(range, 'hugepage');
    fill(range);
    events.length = 0;
    return range;
  }

  test('that appears is told of as the pages that it has', () => {
    const range = mapped(HUGE, { align: 2 * MiB });
    space.madvise(range, 'hugepage');
    space.write(range.start + 5 * PAGE, Uint8Array.of(1));
    expect(told('fault.cpu')).toMatchObject([{ cause: 'huge', vpn: vpnOf(range.start) + 5, pages: HUGE }]);
  });

  test.each([
    ['munmap', (range: AddressRange) => space.munmap({ start: range.start, end: range.start + PAGE })],
    ['mprotect', (range: AddressRange) => space.mprotect({ start: range.start + PAGE, end: range.end }, 'r')],
    ['madvise', (range: AddressRange) => space.madvise({ start: range.start + PAGE, end: range.end }, 'nohugepage')],
    ['madvise', (range: AddressRange) => space.madvise({ start: range.start, end: range.end - PAGE }, 'dontneed')],
    ['migration', (range: AddressRange) => attach(plain({})).read(range.start, 1)],
    ['exclusive', (range: AddressRange) => attach(plain({})).atomic(range.start, { op: 'add', bytes: 4, operand: 1 })],
  ] as const)('that becomes small ones says why: %s', (cause, act) => {
    const range = huge();
    act(range);
    expect(told('page.split')).toMatchObject([{ space: space.id, vpn: vpnOf(range.start), pages: HUGE, cause }]);
  });

  test('is split by mremap to where it does not fit, and is told of there', () => {
    const range = huge();
    const to = 0x4000_1000;
    space.mremap(range, { mayMove: true, to });
    expect(told('page.split')).toMatchObject([{ vpn: vpnOf(to), cause: 'mremap' }]);
  });

  test('is split by a fork when a page of it is pinned, and the copy of that is told of after the child', () => {
    const range = huge();
    const pin = space.pin({ start: range.start + PAGE, end: range.start + 2 * PAGE });
    events.length = 0;
    const child = space.fork();
    expect(story()).toEqual(['page.split fork', 'space.forked', 'page.copied fork']);
    child.close();
    pin.unpin();
  });

  test('that parent and child share is split by a write', () => {
    const range = huge();
    const child = space.fork();
    events.length = 0;
    child.write(range.start + 3 * PAGE, Uint8Array.of(2));
    const vpn = vpnOf(range.start);
    expect(events.filter(({ type }) => type.startsWith('page.'))).toMatchObject([
      { type: 'page.split', space: child.id, vpn, cause: 'fault' },
      { type: 'page.copied', space: child.id, vpn: vpn + 3, pages: 1, cause: 'write' },
    ]);
    child.close();
  });

  test('that goes, or moves as one, is not told of as split', () => {
    const gpu = attach(plain({ pages: HUGE, granulePages: HUGE }));
    const range = huge();
    gpu.read(range.start, 1);
    space.read(range.start, 1);
    space.mremap(range, { mayMove: true, to: 0x4000_0000 });
    space.munmap({ start: 0x4000_0000, end: 0x4000_0000 + 2 * MiB });
    expect(told('page.split')).toEqual([]);
  });

  test('made of small ones', () => {
    const range = mapped(HUGE, { align: 2 * MiB });
    fill(range);
    space.madvise(range, 'collapse');
    expect(events.find(({ type }) => type === 'range.invalidated')).toBe(undefined);
    expect(told('page.collapsed')).toMatchObject([{ space: space.id, vpn: vpnOf(range.start), pages: HUGE }]);
  });
});

describe('a page of a device’s atomics', () => {
  function exclusive(): { gpu: Context; range: AddressRange } {
    const gpu = attach(plain({}));
    const range = mapped(HUGE, { align: 2 * MiB });
    fill(range);
    gpu.atomic(range.start, { op: 'add', bytes: 4, operand: 1 });
    return { gpu, range };
  }

  test('is told of, and of who takes it back: the CPU', () => {
    const { gpu, range } = exclusive();
    const vpn = vpnOf(range.start);
    expect(told('page.exclusive')).toMatchObject([{ space: space.id, vpn, owner: gpu.device.owner, cpuReads: false }]);
    space.read(range.start, 1);
    expect(story()).toEqual(['fault.cpu exclusive', 'range.invalidated revoke', 'page.revoked fault']);
  });

  test.each([
    ['fork', () => space.fork().close()],
    ['collapse', (range: AddressRange) => space.madvise(range, 'collapse')],
  ] as const)('a %s', (cause, act) => {
    const { range } = exclusive();
    events.length = 0;
    act(range);
    expect(told('page.revoked')).toMatchObject([{ vpn: vpnOf(range.start), cause }]);
  });

  test.each([
    ['detach', (apu: Context) => apu.detach()],
    ['unplug', (apu: Context) => apu.device.removeMemory(apu.device.memories[0]!)],
  ] as const)('the end of the memory that it is on: %s', (cause, act) => {
    const apu = attach(plain({ name: 'apu', kind: 'coherent' }));
    const gpu = attach(plain({}));
    const range = mapped(1);
    fill(range);
    apu.migrate(range, { to: 'device' });
    gpu.atomic(range.start, { op: 'add', bytes: 4, operand: 1 });
    events.length = 0;
    act(apu);
    expect(told('page.revoked')).toMatchObject([{ vpn: vpnOf(range.start), cause }]);
  });
});

describe('an invalidation says what is behind it', () => {
  let nic: Context;
  let range: AddressRange;
  beforeEach(() => {
    nic = attach(new Probe({ name: 'nic', pages: 0 }).driver);
    range = mapped(4);
    fill(range);
    for (let page = 0; page < 4; page++) nic.read(range.start + page * PAGE, 1);
    events.length = 0;
  });

  test.each([
    ['munmap', 'UNMAP', () => space.munmap(range)],
    ['mremap', 'UNMAP', () => space.mremap(range, { mayMove: true, to: 0x4000_0000 })],
    ['mprotect', 'PROTECTION_VMA', () => space.mprotect(range, 'r')],
    ['dontneed', 'CLEAR', () => space.madvise(range, 'dontneed')],
    ['free', 'CLEAR', () => space.madvise(range, 'free')],
    ['fork', 'PROTECTION_PAGE', () => space.fork().close()],
    ['exit', 'RELEASE', () => space.close()],
    ['migration: user', 'MIGRATE', () => attach(plain({})).migrate(range, { to: 'device' })],
    ['migration: fault', 'MIGRATE', () => attach(plain({})).read(range.start, 1)],
    ['exclusive', 'EXCLUSIVE', () => attach(plain({})).atomic(range.start, { op: 'add', bytes: 4, operand: 1 })],
  ] as const)('%s', (cause, reason, act) => {
    act();
    const heard = told('range.invalidated').filter(({ device }) => device === 'nic');
    expect(heard.length).toBeGreaterThan(0);
    for (const each of heard) expect([each.cause, each.reason, each.ignored]).toEqual([cause, reason, false]);
  });

  test('a write that copies, write-back, truncation', () => {
    const child = space.fork();
    events.length = 0;
    space.write(range.start, Uint8Array.of(2));
    expect(story()).toEqual(['fault.cpu copy', 'range.invalidated cow', 'page.copied write']);
    const file = machine.createFile({ bytes: 4 * PAGE });
    const view = space.mmap({ bytes: 4 * PAGE, file, shared: true });
    space.write(view.start + PAGE, Uint8Array.of(1));
    nic.write(view.start + 3 * PAGE, Uint8Array.of(1));
    events.length = 0;
    file.sync();
    expect(events.at(-1)).toMatchObject({ type: 'file.stored', file: file.id, first: 1, pages: 2 });
    expect(story()).toEqual(['range.invalidated write-back', 'range.invalidated write-back', 'file.stored']);
    file.truncate(2 * PAGE);
    expect(events.at(-1)).toMatchObject({ type: 'space.unmapped', vpn: vpnOf(view.start) + 2, pages: 2 });
    expect(story()).toEqual(['range.invalidated truncate', 'space.unmapped truncate']);
    space.munmap(view);
    file.close();
    child.close();
  });
});

describe('mappings', () => {
  test('are told of: new ones, longer ones, moved ones, gone ones', () => {
    const range = mapped(2);
    const longer = space.mremap(range, { bytes: 3 * PAGE });
    space.mremap(longer, { bytes: 4 * PAGE, mayMove: true, to: 0x4000_0000 });
    space.munmap({ start: 0x4000_0000, end: 0x4000_4000 });
    const vpn = vpnOf(range.start);
    expect(events).toMatchObject([
      { type: 'space.mapped', vpn, pages: 2, cause: 'mmap' },
      { type: 'space.mapped', vpn: vpn + 2, pages: 1, cause: 'grow' },
      { type: 'space.moved', vpn, pages: 3, to: 0x40000 },
      { type: 'space.unmapped', vpn, pages: 3, cause: 'mremap' },
      { type: 'space.mapped', vpn: 0x40000, pages: 4, cause: 'mremap' },
      { type: 'space.unmapped', vpn: 0x40000, pages: 4, cause: 'munmap' },
    ]);
  });

  test('of a driver: what it puts in', () => {
    const range = mapped(2, { special: 'mixed' });
    space.insertPage(range.start, Uint8Array.of(1));
    space.insertPfn(range.start + PAGE, 77);
    expect(told('page.inserted')).toMatchObject([{ what: 'page' }, { vpn: vpnOf(range.start) + 1, what: 'pfn' }]);
  });
});

describe('devices', () => {
  test('tell of memories that come and go', () => {
    const device = machine.addDevice(plain({ pages: 3 }));
    const added = device.addMemory({ name: 'more', kind: 'private', bytes: 5 * PAGE });
    device.removeMemory(added);
    expect(story()).toEqual(['memory.plugged', 'memory.plugged', 'memory.unplugged']);
    device.addMemory({ name: 'more', kind: 'private', bytes: 5 * PAGE });
    expect(told('memory.plugged')).toMatchObject([{ device: 'gpu', node: 'gpu.more', frames: 5 }]);
  });

  test('tell of tickets: opened, done, failed', async () => {
    const probe = new Probe({ name: 'gpu' });
    const gpu = attach(probe.driver);
    const range = mapped(2);
    fill(range);
    probe.slow.add('toDevice');
    events.length = 0;
    const first = gpu.migrateAsync({ start: range.start, end: range.start + PAGE }, { to: 'device' });
    probe.finish();
    expect(await first).toBe(1);
    const second = gpu.migrateAsync({ start: range.start + PAGE, end: range.end }, { to: 'device' });
    probe.giveUp();
    expect(await second).toBe(0);
    expect(events.filter(({ type }) => type.startsWith('ticket'))).toMatchObject([
      { type: 'ticket.opened', what: 'gpu: toDevice' },
      { type: 'ticket.closed', state: 'done', reason: '' },
      { type: 'ticket.opened' },
      { type: 'ticket.closed', state: 'failed', reason: 'the engine is broken' },
    ]);
    expect(told('pages.migrated').at(-1)).toMatchObject({ refused: 1, pages: 0, runs: [] });
  });

  test('tell of a context that has failed', () => {
    const probe = new Probe({ name: 'nic', pages: 0 });
    const nic = attach(probe.driver);
    const range = mapped(1);
    probe.broken.add('enter');
    expect(() => nic.read(range.start, 1)).toThrow('enter is broken');
    expect(told('context.failed')).toMatchObject([{ space: space.id, device: 'nic', message: 'enter is broken' }]);
  });
});

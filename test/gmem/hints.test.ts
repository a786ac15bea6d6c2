/** `space.hmadvise`: advice on ranges with a device in it, by what pages and counters show. */
import {
  type AddressSpace,
  type Context,
  type Device,
  type DevicePolicy,
  type Machine,
  type MachineEvent,
  type MachineOptions,
  MiB,
} from 'farfault';
import { afterEach, describe, expect, it } from 'vitest';
import { faultOf, thrownBy } from '../errors/refusal.ts';
import { expectClean, PAGE, Probe, type ProbeOptions, smallMachine, used } from '../machine/probe.ts';

const BASE = 0x1000_0000;
const at = (from: number, to: number): { start: number; end: number } => ({ start: BASE + from * PAGE, end: BASE + to * PAGE });

let machine: Machine;
let space: AddressSpace;
let events: MachineEvent[];

afterEach(() => {
  space.close();
  for (const { memories } of machine.devices) for (const { node } of memories) expect(node.used).toBe(0);
  expectClean(machine);
  expect(used(machine)).toContain('dram 0');
  machine.close();
});

interface Gpu {
  readonly probe: Probe;
  readonly device: Device;
  readonly context: Context;
}

function begin(options: MachineOptions = {}): void {
  machine = smallMachine(options);
  space = machine.createAddressSpace();
  events = [];
  machine.onEvent((event) => events.push(event));
}

function gpu(options: ProbeOptions = {}, policy: DevicePolicy = {}): Gpu {
  const probe = new Probe(options);
  const device = machine.addDevice(probe.driver, policy);
  return { probe, device, context: space.attach(device) };
}

/** Pages `[from, to)` mapped, page i full of the byte i + 1. */
function filled(from: number, to: number): void {
  space.mmap({ bytes: (to - from) * PAGE, at: at(from, to).start, fixed: true });
  for (let page = from; page < to; page++) space.write(at(page, page).start, new Uint8Array(PAGE).fill(page + 1));
}

/** Where pages are, by the letters of `dump`: W at home, D on a device, m on its way. */
const dump = (from: number, to: number): string =>
  space.dump(at(from, to)).trim().split(/\s+/).pop()!.replaceAll('H', 'W').replaceAll('E', 'D');

const bytesAt = (page: number): number => space.read(at(page, page).start + 7, 1)[0]!;

describe('prefetch to a device', () => {
  it('brings pages there without a fault, and says how many there are', () => {
    begin();
    const { device, context } = gpu();
    filled(0, 4);
    expect(space.hmadvise(at(0, 3), 'prefetch', { device })).toEqual({
      status: 'done',
      pages: 3,
      failed: 0,
      reason: undefined,
      at: undefined,
    });
    expect(dump(0, 4)).toBe('DDDW');
    expect(context.read(at(1, 2).start, 2)).toEqual(Uint8Array.of(2, 2));
    expect(machine.counters.deviceFaults).toEqual({});
    expect(events.filter(({ type }) => type === 'range.advised')).toMatchObject([
      { advice: 'prefetch', device: 'probe', followed: 3, failed: 0 },
    ]);
  });

  it('rounds outward, to pages and to whole granules of the device, and not beyond the mappings that the range touches', () => {
    begin();
    const { device } = gpu({ granulePages: 4 });
    filled(2, 6);
    filled(7, 12);
    const { start } = at(5, 5);
    expect(space.hmadvise({ start: start + 100, end: start + 101 }, 'prefetch', { device })).toMatchObject({ status: 'done', pages: 2 });
    expect(dump(2, 6)).toBe('WWDD');
    expect(space.hmadvise({ start: at(9, 9).start + 1, end: at(9, 9).start + 2 }, 'prefetch', { device })).toMatchObject({ pages: 4 });
    expect(dump(7, 12)).toBe('WDDDD');
    for (const page of [2, 5, 9]) expect(bytesAt(page)).toBe(page + 1);
  });

  it('goes on behind a page that cannot follow, and tells of the first one', () => {
    begin();
    const { device } = gpu();
    filled(0, 2);
    filled(3, 4);
    space.mmap({ bytes: PAGE, at: at(4, 5).start, fixed: true, shared: true });
    space.write(at(4, 4).start, Uint8Array.of(5));
    filled(5, 7);
    space.mprotect(at(5, 6), 'none');
    expect(space.hmadvise(at(0, 7), 'prefetch', { device })).toEqual({
      status: 'partial',
      pages: 4,
      failed: 3,
      reason: 'no mapping',
      at: at(2, 2).start,
    });
    expect(space.hmadvise(at(4, 6), 'prefetch', { device })).toMatchObject({
      status: 'failed',
      pages: 0,
      failed: 2,
      reason: 'not movable',
    });
    expect(space.hmadvise(at(5, 7), 'prefetch', { device })).toMatchObject({ status: 'partial', failed: 1, reason: 'permission' });
    expect(dump(6, 7)).toBe('D');
    const pin = space.pin(at(0, 1));
    expect(space.hmadvise(at(0, 2), 'prefetch', { device })).toMatchObject({ status: 'partial', failed: 1, reason: 'held', at: BASE });
    pin.unpin();
  });

  it('passes what is not mapped in one go, and counts it, to a device as to the host', () => {
    begin();
    const { device } = gpu();
    filled(0, 2);
    filled(3, 4);
    space.mmap({ bytes: 2 ** 44, at: at(2 ** 30, 0).start, fixed: true });
    const all = { start: 0, end: 2 ** 47 };
    const failed = all.end / PAGE - 3 - 2 ** 32;
    space.hmadvise(at(0, 4), 'prefetch', { device });
    expect(space.hmadvise(all, 'prefetch', { device: 'host' })).toEqual({
      status: 'partial',
      pages: 3 + 2 ** 32,
      failed,
      reason: 'no mapping',
      at: 0,
    });
    expect(dump(0, 4)).toBe('WW-W');
    space.munmap({ start: at(2 ** 30, 0).start, end: at(2 ** 30, 0).start + 2 ** 44 });
    expect(space.hmadvise(all, 'prefetch', { device })).toMatchObject({ pages: 3, failed: failed + 2 ** 32, reason: 'no mapping', at: 0 });
    expect(dump(0, 4)).toBe('DD-D');
    expect(space.hmadvise(all, 'willneed')).toMatchObject({ pages: 3, failed: failed + 2 ** 32 });
  });

  it('moves as much as there is room for, the newest last, when the memory is full of what may not leave', () => {
    begin();
    const { device } = gpu({ pages: 4 });
    filled(0, 8);
    expect(space.hmadvise(at(0, 3), 'pinned', { device })).toMatchObject({ status: 'done', pages: 3 });
    expect(space.hmadvise(at(3, 6), 'prefetch', { device })).toMatchObject({ status: 'partial', pages: 1, failed: 2, reason: 'no memory' });
    expect(dump(0, 3)).toBe('DDD');
  });

  it('leaves hugetlb and shared memory where it is, and says that they do not move', () => {
    begin({ dram: 8 * MiB });
    const { device } = gpu();
    space.mmap({ bytes: 2 * MiB, at: BASE, fixed: true, hugetlb: 2 * MiB });
    space.write(BASE, Uint8Array.of(1));
    space.mmap({ bytes: 2 * PAGE, at: at(512, 514).start, fixed: true, shared: true });
    space.write(at(512, 513).start, Uint8Array.of(2));
    for (const range of [at(0, 1), at(512, 513), at(513, 514)])
      expect(space.hmadvise(range, 'prefetch', { device })).toMatchObject({ status: 'failed', failed: 1, reason: 'not movable' });
  });

  it('tells of a hole that there is no room for that there is none', () => {
    begin();
    const { device } = gpu({ pages: 2 });
    filled(0, 2);
    space.hmadvise(at(0, 2), 'pinned', { device });
    space.mmap({ bytes: 2 * PAGE, at: at(2, 2).start, fixed: true });
    expect(space.hmadvise(at(2, 4), 'prefetch', { device })).toMatchObject({ status: 'failed', failed: 2, reason: 'no memory' });
  });

  it('comes in parts, so that others get their turn, over several mappings', () => {
    begin({ dram: 8 * MiB, deviceMemory: 8 * MiB, tablePages: 1024 });
    const { device } = gpu({ pages: 1200 });
    filled(0, 700);
    filled(700, 1100);
    space.mprotect(at(600, 700), 'r');
    expect(space.hmadvise(at(0, 1100), 'prefetch', { device })).toMatchObject({ status: 'done', pages: 1100 });
    const moved = events.filter(({ type }) => type === 'pages.migrated') as { pages: number }[];
    expect(Math.max(...moved.map(({ pages }) => pages))).toBeLessThanOrEqual(512);
    for (const page of [0, 255, 600, 699, 700, 1099]) expect(bytesAt(page)).toBe((page + 1) % 256);
  });

  it('fetches what another device has', () => {
    begin();
    const one = gpu({ name: 'one' });
    const two = gpu({ name: 'two' });
    filled(0, 4);
    space.hmadvise(at(0, 3), 'prefetch', { device: one.device });
    expect(space.hmadvise(at(0, 4), 'prefetch', { device: two.device })).toMatchObject({ status: 'done', pages: 4 });
    expect(one.device.memory!.node.used).toBe(0);
    expect([0, 1, 2, 3].map((page) => two.context.residency(BASE / PAGE + page) !== undefined)).toEqual([true, true, true, true]);
    expect([0, 1, 2, 3].map((page) => two.context.read(at(page, page).start, 1)[0])).toEqual([1, 2, 3, 4]);
  });

  it('fetches what another device has over their link, by its engine, and is counted as such', () => {
    begin();
    const one = gpu({ name: 'one' });
    const two = gpu({ name: 'two', peer: true });
    const three = gpu({ name: 'three' });
    machine.link(one.device, two.device);
    filled(0, 4);
    space.hmadvise(at(0, 2), 'prefetch', { device: one.device });
    space.hmadvise(at(2, 3), 'prefetch', { device: three.device });
    const before = machine.nodes[0]!.used;
    events.length = 0;
    two.probe.log.length = 0;
    expect(space.hmadvise(at(0, 4), 'prefetch', { device: two.device })).toMatchObject({ status: 'done', pages: 4 });
    expect(events.flatMap((event) => (event.type === 'pages.migrated' ? [`${event.from} ${event.way} ${event.pages}`] : []))).toEqual([
      'three.ram toHost 1',
      'one.ram peer 2',
      'dram toDevice 2',
    ]);
    expect(two.probe.log.filter((line) => line.startsWith('peer'))).toEqual(['peer 2']);
    expect(machine.counters.transfers.peer).toEqual({ 2: 1 });
    expect(machine.nodes[0]!.used).toBe(before - 1);
    expect([0, 1, 2, 3].map((page) => two.context.read(at(page, page).start, 1)[0])).toEqual([1, 2, 3, 4]);
  });

  it('loses nothing when a copy fails', () => {
    begin();
    const { device, probe } = gpu();
    filled(0, 2);
    probe.slow.add('toDevice');
    const result = space.hmadviseAsync(at(0, 2), 'prefetch', { device });
    probe.giveUp();
    return result.then((value) => {
      expect(value).toMatchObject({ status: 'failed', failed: 2, reason: 'refused' });
      expect([bytesAt(0), bytesAt(1)]).toEqual([1, 2]);
    });
  });
});

describe('prefetch to the host', () => {
  it('brings home what devices have, of all of them, and leaves holes holes', () => {
    begin();
    const one = gpu({ name: 'one' });
    const two = gpu({ name: 'two' });
    filled(0, 4);
    space.mmap({ bytes: 2 * PAGE, at: at(4, 6).start, fixed: true });
    space.hmadvise(at(0, 1), 'prefetch', { device: one.device });
    space.hmadvise(at(2, 4), 'prefetch', { device: two.device });
    expect(dump(0, 6)).toBe('DWDD..');
    expect(space.hmadvise(at(0, 6), 'prefetch', { device: 'host' })).toMatchObject({ status: 'done', pages: 6 });
    expect(dump(0, 6)).toBe('WWWW..');
    expect(machine.counters.cpuFaults.home).toBe(0);
    expect([0, 1, 2, 3].map(bytesAt)).toEqual([1, 2, 3, 4]);
    expect(space.hmadvise(at(5, 7), 'prefetch', { device: 'host' })).toMatchObject({ status: 'partial', failed: 1, reason: 'no mapping' });
  });

  it('leaves what is pinned, and counts it', () => {
    begin();
    const { device } = gpu();
    filled(0, 3);
    space.hmadvise(at(0, 3), 'prefetch', { device });
    space.hmadvise(at(1, 2), 'pinned', { device });
    expect(space.hmadvise(at(0, 3), 'prefetch', { device: 'host' })).toMatchObject({
      status: 'partial',
      pages: 2,
      failed: 1,
      reason: 'held',
      at: at(1, 1).start,
    });
    expect(dump(0, 3)).toBe('WDW');
  });
});

describe('dontneed', () => {
  it('rounds inward: what is asked for in part stays, and nothing left is success', () => {
    begin();
    const { device } = gpu({ granulePages: 4 });
    filled(0, 8);
    const { start } = at(0, 0);
    expect(space.hmadvise({ start: start + 1, end: start + 2 * PAGE }, 'dontneed')).toMatchObject({ status: 'done', pages: 1 });
    expect(dump(0, 3)).toBe('W.W');
    expect(space.hmadvise({ start: start + 1, end: start + PAGE - 1 }, 'dontneed')).toMatchObject({ status: 'done', pages: 0 });
    expect(space.hmadvise(at(1, 7), 'dontneed', { device })).toMatchObject({ status: 'done', pages: 0 });
    expect(space.hmadvise(at(1, 8), 'dontneed', { device })).toMatchObject({ status: 'done', pages: 4 });
    expect(dump(0, 8)).toBe('W.WW....');
  });

  it('frees pages on devices and passes over holes between mappings', () => {
    begin();
    const { device } = gpu();
    filled(0, 2);
    filled(4, 6);
    space.hmadvise(at(0, 6), 'prefetch', { device });
    space.hmadvise(at(4, 5), 'pinned', { device });
    expect(space.hmadvise(at(0, 6), 'dontneed')).toMatchObject({ status: 'done', pages: 4 });
    expect(device.memory!.node.used).toBe(0);
    expect([bytesAt(0), bytesAt(4)]).toEqual([0, 0]);
  });

  it('leaves the mappings behind its range alone, and does not count them', () => {
    begin();
    gpu();
    filled(0, 2);
    filled(2, 4);
    space.mprotect(at(2, 4), 'r');
    filled(5, 6);
    expect(space.vmas.size).toBe(3);
    expect(space.hmadvise(at(0, 2), 'dontneed')).toMatchObject({ status: 'done', pages: 2 });
    expect(dump(0, 6)).toBe('..hh-W');
    expect([2, 3, 5].map(bytesAt)).toEqual([3, 4, 6]);
    expect(events.filter(({ type }) => type === 'range.invalidated').at(-1)).toMatchObject({ vpn: BASE / PAGE, pages: 2 });
  });
});

describe('dontneed of a range that ends in a hole', () => {
  it.each([4, 5])('ends there: what is mapped behind it, from page %i on, is not counted, and nothing is announced of it', (behind) => {
    begin();
    gpu();
    filled(0, 2);
    filled(behind, 6);
    const before = events.length;
    expect(space.hmadvise(at(0, 4), 'dontneed')).toMatchObject({ status: 'done', pages: 2 });
    expect(events.slice(before).filter(({ type }) => type === 'range.invalidated')).toMatchObject([{ vpn: BASE / PAGE, pages: 2 }]);
    expect([behind, 5].map(bytesAt)).toEqual([behind + 1, 6]);
  });
});

describe('pages pinned to a device', () => {
  it('are not evicted, whatever else needs room, until they are unpinned', () => {
    begin();
    const { device, context } = gpu({ pages: 4 });
    filled(0, 8);
    space.hmadvise(at(0, 2), 'pinned', { device });
    space.hmadvise(at(0, 1), 'pinned', { device });
    for (let page = 2; page < 8; page++) context.read(at(page, page).start, 1);
    expect(dump(0, 2)).toBe('DD');
    expect(space.hmadvise(at(0, 2), 'unpinned')).toMatchObject({ status: 'done', pages: 2 });
    for (let page = 2; page < 8; page++) context.read(at(page, page).start, 1);
    expect(dump(0, 2)).toBe('WW');
  });

  it('are a bus error for the CPU, unless the policy says otherwise', () => {
    begin();
    const { device, context } = gpu();
    filled(0, 1);
    space.hmadvise(at(0, 1), 'pinned', { device });
    expect(
      faultOf(
        thrownBy(() => space.read(BASE, 1)),
        ['read.addr'],
        'EIO',
      ),
    ).toBe(undefined);
    expect(context.read(BASE, 1)[0]).toBe(1);
    space.hmadvise(at(0, 1), 'unpinned', { device });
    expect(bytesAt(0)).toBe(1);
  });

  it('are read and written where they are under the policy remote, by no right that the mapping does not give', () => {
    begin();
    const { device, context } = gpu({}, { pinnedAccess: 'remote' });
    filled(0, 3);
    space.hmadvise(at(1, 2), 'pinned', { device });
    const across = { start: BASE + 2 * PAGE - 2, bytes: 4 };
    space.write(across.start, Uint8Array.of(7, 8, 9, 10));
    expect(space.read(across.start - 1, 6)).toEqual(Uint8Array.of(2, 7, 8, 9, 10, 3));
    expect(context.read(across.start, 2)).toEqual(Uint8Array.of(7, 8));
    expect(dump(0, 3)).toBe('WDW');
    space.mprotect(at(1, 2), 'r');
    expect(
      faultOf(
        thrownBy(() => space.write(across.start, Uint8Array.of(1))),
        ['write.addr'],
      ),
    ).toBe(undefined);
    expect(space.read(across.start, 2)).toEqual(Uint8Array.of(7, 8));
  });

  it('make the CPU wait under the policy wait, without keeping others from changing the mappings', async () => {
    begin();
    const { device } = gpu({}, { pinnedAccess: 'wait' });
    filled(0, 2);
    space.hmadvise(at(0, 2), 'pinned', { device });
    const one = space.readAsync(BASE, 1);
    const two = space.readAsync(BASE + PAGE, 1);
    expect(machine.pending.map(({ waitsFor }) => waitsFor)).toEqual([`pins of space ${space.id}`, `pins of space ${space.id}`]);
    space.munmap(at(1, 2));
    await expect(two).rejects.toMatchObject({ code: 'EFAULT' });
    expect(machine.pending.length).toBe(1);
    space.hmadvise(at(0, 1), 'unpinned');
    expect(await one).toEqual(Uint8Array.of(1));
  });

  it('move with mremap, stay out of a fork, and are free again with munmap, detach and exit', () => {
    begin({ tables: 8 });
    const { device, context } = gpu();
    filled(0, 4);
    space.hmadvise(at(0, 4), 'pinned', { device });
    const { start } = space.mremap(at(3, 4), { mayMove: true, to: at(8, 9).start });
    expect(
      faultOf(
        thrownBy(() => space.read(start, 1)),
        ['read.addr'],
        'EIO',
      ),
    ).toBe(undefined);
    space.munmap(at(0, 1));
    expect(device.memory!.node.used).toBe(3);
    context.detach();
    expect(space.read(start, 1)[0]).toBe(4);
    expect(device.memory!.node.used).toBe(0);
    const again = space.attach(device);
    expect(space.hmadvise(at(1, 3), 'pinned', { device: again.device })).toMatchObject({ pages: 2 });
  });

  it('on coherent memory are used in place', () => {
    begin();
    const probe = new Probe();
    const driver = { ...probe.driver, name: 'coherent', memory: [{ name: 'window', kind: 'coherent' as const, bytes: 8 * PAGE }] };
    const device = machine.addDevice(driver);
    space.attach(device);
    filled(0, 2);
    expect(space.hmadvise(at(0, 2), 'pinned', { device })).toMatchObject({ status: 'done', pages: 2 });
    space.write(BASE, Uint8Array.of(9));
    expect(bytesAt(1)).toBe(2);
    expect(device.memory!.node.used).toBe(2);
    space.hmadvise(at(0, 2), 'unpinned');
  });
});

describe('willneed', () => {
  it('makes pages the newest, so that others go first', () => {
    begin();
    const { device, context } = gpu({ pages: 3 });
    filled(0, 4);
    for (let page = 0; page < 3; page++) context.read(at(page, page).start, 1);
    expect(space.hmadvise(at(0, 1), 'willneed', { device })).toMatchObject({ status: 'done', pages: 1 });
    context.read(at(3, 3).start, 1);
    expect(dump(0, 4)).toBe('DWDD');
  });

  it('makes those the newest that are on the device that it names, or on any device', () => {
    begin();
    const near = gpu({ pages: 2 });
    const far = gpu({ name: 'far', pages: 2 });
    filled(0, 6);
    const fill = ({ context }: Gpu, first: number): void => {
      for (let page = first; page < first + 2; page++) context.read(at(page, page).start, 1);
    };
    fill(near, 0);
    fill(far, 2);
    // What is on the other device keeps its place in the queue.
    expect(space.hmadvise(at(0, 4), 'willneed', { device: near.device })).toMatchObject({ status: 'done', pages: 4, failed: 0 });
    space.hmadvise(at(1, 2), 'willneed', { device: far.device });
    near.context.read(at(4, 4).start, 1);
    far.context.read(at(5, 5).start, 1);
    expect(dump(0, 6)).toBe('WDWDDD');
    // For nobody in particular: both.
    expect(space.hmadvise(at(1, 2), 'willneed')).toMatchObject({ pages: 1 });
    expect(space.hmadvise(at(3, 4), 'willneed')).toMatchObject({ pages: 1 });
    near.context.read(at(0, 0).start, 1);
    far.context.read(at(2, 2).start, 1);
    expect(dump(0, 6)).toBe('DDDDWW');
  });

  it('says what of its range is not mapped', () => {
    begin();
    const { device } = gpu();
    filled(0, 2);
    filled(3, 4);
    expect(space.hmadvise(at(0, 4), 'willneed', { device })).toEqual({
      status: 'partial',
      pages: 3,
      failed: 1,
      reason: 'no mapping',
      at: at(2, 2).start,
    });
    expect(space.hmadvise(at(0, 2), 'unpinned')).toEqual({ status: 'done', pages: 2, failed: 0, reason: undefined, at: undefined });
  });

  it('lets a page stay that an eviction is taking away', async () => {
    begin();
    const { device, context, probe } = gpu({ pages: 2 });
    filled(0, 3);
    for (let page = 0; page < 2; page++) context.read(at(page, page).start, 1);
    probe.slow.add('toHost');
    const third = context.readAsync(at(2, 2).start, 1);
    expect(dump(0, 2)).toBe('mD');
    space.hmadvise(at(0, 1), 'willneed', { device });
    probe.slow.clear();
    probe.finish();
    expect((await third)[0]).toBe(3);
    expect(dump(0, 1)).toBe('D');
    expect(context.read(BASE, 1)[0]).toBe(1);
    expect(machine.platform.pageLocks.kept.size).toBe(0);
  });
});

describe('advice by other names', () => {
  it('sets the attributes of a range', () => {
    begin();
    const { device } = gpu();
    filled(0, 2);
    space.hmadvise(at(0, 2), 'preferred', { device });
    space.hmadvise(at(0, 1), 'accessedby', { device });
    space.hmadvise(at(1, 2), 'readmostly');
    expect(space.attributes.list()).toMatchObject([
      { start: BASE, preferred: 1, accessedBy: [1], readMostly: false },
      { start: BASE + PAGE, preferred: 1, accessedBy: [], readMostly: true },
    ]);
    space.hmadvise(at(0, 2), 'preferred');
    space.hmadvise(at(0, 1), 'notaccessedby', { device });
    space.hmadvise(at(1, 2), 'notreadmostly');
    expect(space.attributes.size).toBe(0);
  });

  it('binds a range to a memory by the name of its node, and moves what is elsewhere if asked to', () => {
    begin();
    const { device } = gpu();
    filled(0, 2);
    expect(space.mbind(at(0, 2), { mode: 'preferred', node: 'probe.ram' })).toMatchObject({ status: 'done', pages: 2 });
    expect(dump(0, 2)).toBe('WW');
    expect(space.attributes.list()).toMatchObject([{ preferred: device.owner }]);
    expect(space.mbind(at(0, 1), { mode: 'preferred', node: 'probe.ram', move: true })).toMatchObject({ status: 'done', pages: 1 });
    expect(dump(0, 2)).toBe('DW');
    expect(space.mbind(at(0, 2), { mode: 'preferred', node: 'dram', move: true })).toMatchObject({ status: 'done', pages: 2 });
    expect(dump(0, 2)).toBe('WW');
    space.mbind(at(0, 2), { mode: 'default' });
    expect(space.attributes.size).toBe(0);
    expect(
      faultOf(
        thrownBy(() => space.mbind(at(0, 2), { mode: 'preferred', node: 'nowhere' })),
        ['mbind.node'],
        'EINVAL',
      ),
    ).toBe(undefined);
  });
});

describe('advice that is none', () => {
  it('is refused before anything happens', () => {
    begin();
    const { device } = gpu();
    const cpu = machine.addDevice(new Probe({ name: 'bare', pages: 0 }).driver);
    filled(0, 1);
    const refused = (range: object, advice: string, options: object = {}, code = 'EINVAL'): string | undefined =>
      faultOf(
        thrownBy(() => space.hmadvise(range as never, advice as never, options)),
        ['hmadvise'],
        code,
      );
    expect(refused({ start: 2 ** 53 - 1, end: 2 ** 53 }, 'prefetch', { device })).toBe(undefined);
    expect(refused({ start: BASE, end: 2 ** 48 + 1 }, 'dontneed')).toBe(undefined);
    expect(refused({ start: BASE, end: BASE }, 'dontneed')).toBe(undefined);
    expect(refused(at(0, 1), 'prefetch')).toBe(undefined);
    expect(refused(at(0, 1), 'pinned', { device: 'host' })).toBe(undefined);
    expect(refused(at(0, 1), 'prefetch', { device: cpu })).toBe(undefined);
    space.attach(cpu);
    expect(refused(at(0, 1), 'prefetch', { device: cpu }, 'EOPNOTSUPP')).toBe(undefined);
    expect(refused(at(0, 1), 'soon', { device })).toBe(undefined);
    for (const advice of ['accessedby', 'notaccessedby']) expect(refused(at(0, 1), advice)).toBe(undefined);
    const other = smallMachine();
    const stranger = other.addDevice(new Probe().driver);
    expect(refused(at(0, 1), 'prefetch', { device: stranger })).toBe(undefined);
    other.close();
    expect(dump(0, 1)).toBe('W');
  });
});

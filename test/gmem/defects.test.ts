/**
 * What published code of GMEM got wrong, one test each: the defect by its number in the list of the survey, and what is so here instead.
 */
import { afterEach, expect, test } from 'vitest';
import { type AddressRange, type AddressSpace, type Context, isFarfaultError, type Machine, MiB } from 'farfault';
import mirror from 'farfault/drivers/mirror';
import { exploreAll, printFinding } from 'farfault/testing';
import { defineDriver, type Driver } from 'farfault/gmem';
import { HMM_VALID } from 'farfault/mm';
import * as L from '../../assembly/layout.ts';
import { Evict } from '../../sdk/gmem/evict.ts';
import { expectClean, PAGE, Probe, smallMachine, used } from '../machine/probe.ts';
import { vram } from './evict-device.ts';
import { HUGE, peerDriver, sharedPages } from './peer-world.ts';

let machine: Machine;

afterEach(() => {
  expectClean(machine);
  for (const space of machine.spaces) space.close();
  expect(machine.nodes.map((node) => node.used)).toEqual(machine.nodes.map(() => 0));
  expectClean(machine);
  machine.close();
});

interface World {
  readonly space: AddressSpace;
  readonly range: AddressRange;
  readonly probe: Probe;
  readonly gpu: Context;
  readonly other: Context;
}

/** Four pages with 1 to 4 in them, and two devices with memory. */
function begin(pages = 4, granulePages = 1): World {
  machine = smallMachine();
  const space = machine.createAddressSpace();
  const range = space.mmap({ bytes: pages * PAGE });
  for (let i = 0; i < pages; i++) space.write(range.start + i * PAGE, Uint8Array.of(i + 1));
  const probe = new Probe({ name: 'gpu', pages: 16, granulePages });
  const gpu = space.attach(machine.addDevice(probe.driver));
  const other = space.attach(machine.addDevice(new Probe({ name: 'other', pages: 16 }).driver));
  return { space, range, probe, gpu, other };
}

const at = ({ start }: AddressRange, page: number): number => start + page * PAGE;
const byte = (from: { read(addr: number, bytes: number): Uint8Array }, addr: number): number => from.read(addr, 1)[0]!;
const codeOf = (operation: () => unknown): string => {
  try {
    operation();
    return 'done';
  } catch (error) {
    if (isFarfaultError(error)) return error.code;
    throw error;
  }
};
const runSync = (step: Parameters<Machine['platform']['scheduler']['runSync']>[0]): void => machine.platform.scheduler.runSync(step);

test('defect 1, data lost when a page cannot be mapped on the device: a copy that fails leaves the page with the CPU', async () => {
  const { space, range, probe, gpu } = begin();
  probe.slow.add('toDevice');
  const served = gpu.faultAsync(at(range, 1), 'write');
  probe.giveUp();
  await served;
  expect(space.dump(range)).toBe('HHHH');
  expect(byte(space, at(range, 1))).toBe(2);
  expect(used(machine)).toBe('dram 4, gpu.ram 0, other.ram 0');
});

test('defect 2, success without a mapping when another device has the page: the access that was served goes through', () => {
  const { range, gpu, other } = begin();
  gpu.write(at(range, 0), Uint8Array.of(9));
  expect(other.fault(at(range, 0), 'read')).toBe('served');
  expect(other.fault(at(range, 0), 'read')).toBe('present');
  expect(byte(other, at(range, 0))).toBe(9);
});

test('defect 3, an owner overwritten by a hint: a page that is asked for elsewhere takes its bytes along, and its old frame comes free', () => {
  const { range, gpu, other } = begin();
  gpu.write(at(range, 0), Uint8Array.of(9));
  other.migrate(range, { to: 'device' });
  expect(byte(other, at(range, 0))).toBe(9);
  expect(used(machine)).toBe('dram 0, gpu.ram 0, other.ram 4');
  expect(byte(gpu, at(range, 0))).toBe(9);
});

test('defect 4, munmap that takes its lock twice and never ends: one over several mappings, holes and devices ends', () => {
  const { space, range, gpu, other } = begin();
  gpu.migrate({ start: range.start, end: at(range, 2) }, { to: 'device' });
  other.migrate({ start: at(range, 2), end: at(range, 3) }, { to: 'device' });
  space.mmap({ at: at(range, 6), bytes: PAGE, fixed: true });
  space.munmap({ start: range.start, end: at(range, 8) });
  expect(space.dump({ start: range.start, end: at(range, 8) })).toBe('--------');
  expect(used(machine)).toBe('dram 0, gpu.ram 0, other.ram 0');
});

test('defect 5, a device taken for a page when entries are zapped: pages of the CPU and of devices go alike', () => {
  const { space, range, gpu } = begin();
  gpu.migrate({ start: at(range, 1), end: at(range, 3) }, { to: 'device' });
  space.madvise(range, 'dontneed');
  expect(used(machine)).toBe('dram 0, gpu.ram 0, other.ram 0');
  for (let page = 0; page < 4; page++) expect(byte(space, at(range, page))).toBe(0);
});

test('defect 6, an inverted check when entries are freed: those that hold a page are freed with it, and so are their table pages', () => {
  const { space, gpu } = begin();
  const { core } = machine.platform;
  const tables = (): number => core.field(space.table, L.TABLE_PAGES);
  const before = tables();
  const sparse = space.mmap({ bytes: 64 * MiB });
  for (const page of [0, 5000, 9999]) gpu.write(sparse.start + page * PAGE, Uint8Array.of(1));
  expect(tables()).toBeGreaterThan(before);
  space.munmap(sparse);
  expect(tables()).toBe(before);
  expect(used(machine)).toBe('dram 4, gpu.ram 0, other.ram 0');
});

test('defect 7, a wrong mask for the address of a CPU fault: of a range that begins anywhere the page that is touched comes home', () => {
  const { space, gpu } = begin();
  // Not at a multiple of 2 MiB, and over the border of one.
  const range = space.mmap({ at: 512 * MiB + 2 * MiB - 3 * PAGE, bytes: 6 * PAGE, fixed: true });
  for (let page = 0; page < 6; page++) space.write(at(range, page) + PAGE - 1, Uint8Array.of(page + 1));
  gpu.migrate(range, { to: 'device' });
  expect(byte(space, at(range, 2) + PAGE - 1)).toBe(3);
  expect(byte(space, at(range, 3) + PAGE - 1)).toBe(4);
  expect(space.dump(range)).toBe('DDHHDD');
});

test('defect 8, a page that was recovered overwritten by a fresh one: what eviction brought home is what the CPU finds', () => {
  const { space, range, gpu } = begin();
  gpu.write(at(range, 0), Uint8Array.of(9));
  const memory = gpu.device.memory!;
  runSync(new Evict(machine.platform).from(memory).frames(memory.victims(1)));
  expect(space.dump(range)).toBe('HHHH');
  expect(byte(space, at(range, 0))).toBe(9);
  space.write(at(range, 0) + 1, Uint8Array.of(8));
  expect([...space.read(at(range, 0), 2)]).toEqual([9, 8]);
});

test('defect 9, a lock released twice when the entry was there already: two CPU faults on one page, in every order', () => {
  machine = smallMachine({ tablePages: 128 });
  const { complete, finding } = exploreAll(() => {
    machine.reset();
    const space = machine.createAddressSpace();
    const range = space.mmap({ bytes: PAGE });
    const steps = [space.writeStep(range.start, Uint8Array.of(7)), space.writeStep(range.start + 1, Uint8Array.of(8))];
    return {
      steps,
      check() {
        expect([...space.read(range.start, 2)]).toEqual([7, 8]);
        expect(machine.nodes[0]!.used).toBe(1);
      },
    };
  });
  expect(finding && printFinding(finding)).toBe(undefined);
  expect(complete).toBe(true);
});

test('defect 10, lists mixed up when a context is attached: each context is found from its device, and from its space', () => {
  const { space, gpu, other } = begin();
  const second = machine.createAddressSpace();
  const there = second.attach(gpu.device);
  expect(gpu.device.contexts).toEqual([gpu, there]);
  expect(other.device.contexts).toEqual([other]);
  expect(space.mirrors).toEqual([gpu, other]);
  expect(second.mirrors).toEqual([there]);
  gpu.detach();
  expect(there.device.contexts).toEqual([there]);
  expect(space.mirrors).toEqual([other]);
});

test('defect 11, no way to give no hint: a fault on a page that is there moves nothing, and nothing is advised', () => {
  const { space, range, gpu } = begin();
  expect(space.attributes.size).toBe(0);
  expect(space.attributes.at(range.start / PAGE)).toBe(undefined);
  gpu.write(at(range, 0), Uint8Array.of(9));
  const moved = machine.counters.migratedByCause.fault.pages;
  expect(gpu.fault(at(range, 0), 'read')).toBe('present');
  expect(machine.counters.migratedByCause.fault.pages).toBe(moved);
  expect(space.dump(range)).toBe('DHHH');
});

test('defect 12, leaks when a page is being evicted: the fault waits for the eviction, and no frame and no mapping is left over', async () => {
  const { space, range, probe, gpu } = begin();
  gpu.write(at(range, 0), Uint8Array.of(9));
  probe.slow.add('toHost');
  const memory = gpu.device.memory!;
  const evicted = machine.platform.scheduler.runAsync(new Evict(machine.platform).from(memory).frames(memory.victims(1)));
  const read = gpu.readAsync(at(range, 0), 1);
  expect(machine.pending.length).toBe(2);
  probe.finish();
  await evicted;
  expect([...(await read)]).toEqual([9]);
  expect(used(machine)).toBe('dram 3, gpu.ram 1, other.ram 0');
  expect(space.dump(range)).toBe('DHHH');
});

test('defect 13, an unaligned device fault: an address inside a page is that page, and an access over a border has both', () => {
  const { space, range, gpu } = begin();
  expect(gpu.fault(at(range, 1) + 1234, 'write')).toBe('served');
  expect(space.dump(range)).toBe('HDHH');
  gpu.write(at(range, 3) - 2, Uint8Array.of(5, 6, 7, 8));
  expect([...space.read(at(range, 3) - 2, 4)]).toEqual([5, 6, 7, 8]);
  expect(byte(gpu, at(range, 1))).toBe(2);
});

test('defect 14, a page of 4 KiB copied as one of 2 MiB: what moves is what is there, however much a fault may move', () => {
  machine = smallMachine({ dram: 8 * MiB, deviceMemory: 4 * MiB });
  const space = machine.createAddressSpace();
  const range = space.mmap({ bytes: 2 * MiB, align: 2 * MiB });
  for (const page of [0, 511]) space.write(at(range, page), Uint8Array.of(page & 255 || 1));
  const gpu = space.attach(machine.addDevice(new Probe({ name: 'gpu', pages: 512, granulePages: 512 }).driver));
  gpu.write(at(range, 0) + 1, Uint8Array.of(3));
  expect(machine.counters.migrated['dram']).toEqual({ 'gpu.ram': { pages: 2, bytes: 2 * PAGE } });
  expect([...space.read(at(range, 0), 2)]).toEqual([1, 3]);
  // Holes became pages of the device with the fault, and come home with it: zeros, each of 4 KiB.
  expect(machine.counters.migrated['gpu.ram']).toEqual({ dram: { pages: 512, bytes: 512 * PAGE } });
  expect(byte(space, at(range, 511))).toBe(255);
  expect(byte(space, at(range, 100))).toBe(0);
});

test('defect 15, a failed DMA mapping not looked at: it is told, and what was mapped before stays until it is given back', () => {
  machine = smallMachine();
  const space = machine.createAddressSpace();
  // Three pages of I/O virtual addresses, and four to map.
  const adapter = defineDriver((): Driver => ({ name: 'nic', dma: { iovaBits: 14 }, attach: () => ({}) }));
  const nic = space.attach(machine.addDevice(adapter()));
  const range = space.mmap({ bytes: 4 * PAGE });
  const words = new Uint32Array(8);
  runSync(nic.hmm.rangeFault({ vpn: range.start / PAGE, pages: 4, request: HMM_VALID }, (found) => words.set(found.subarray(0, 8))));
  const map = nic.hmm.dmaMap(4);
  expect([0, 1, 2, 3].map((i) => codeOf(() => map.map(words, i)))).toEqual(['done', 'done', 'done', 'ENOMEM']);
  expect(nic.device.iommu!.mapped).toBe(3);
  map.free();
  expect(nic.device.iommu!.mapped).toBe(0);
});

test('defect 16, tables and addresses of a device never given back: the end of a context destroys its table, once', () => {
  const { space, probe, other } = begin();
  expect(probe.log).not.toContain('destroy');
  space.close();
  expect(probe.log.filter((call) => call === 'destroy' || call === 'detach')).toEqual(['detach', 'destroy']);
  expect(other.isAttached).toBe(false);
});

test('defect 17, the devices of a parent shared with its child by copying a pointer: a child has none, until one is attached', () => {
  const { space, range, gpu } = begin();
  gpu.write(at(range, 0), Uint8Array.of(9));
  const child = space.fork();
  expect(child.mirrors).toEqual([]);
  gpu.write(at(range, 0), Uint8Array.of(10));
  expect(byte(child, at(range, 0))).toBe(9);
  const there = child.attach(gpu.device);
  there.write(at(range, 0), Uint8Array.of(11));
  expect([byte(space, at(range, 0)), byte(child, at(range, 0))]).toEqual([10, 11]);
});

test('defect 18, a device attached late: it has what was mapped and written before', () => {
  const { space, range } = begin();
  space.mprotect({ start: at(range, 3), end: range.end }, 'r');
  const late = space.attach(machine.addDevice(mirror()));
  for (let page = 0; page < 4; page++) expect(byte(late, at(range, page))).toBe(page + 1);
  expect(codeOf(() => late.write(at(range, 3), Uint8Array.of(1)))).toBe('EFAULT');
  const eager = space.attach(machine.addDevice({ ...mirror(), name: 'eager' }), { mode: 'replicate' });
  for (let page = 0; page < 4; page++) expect(byte(eager, at(range, page))).toBe(page + 1);
  expect(machine.counters.deviceFaults['eager'] ?? 0).toBe(0);
});

test('defect 19, addresses kept by peers when another peer refuses them: those that were asked before have given them back, and the next place is one for all', () => {
  machine = smallMachine({ tablePages: 256 });
  const space = machine.createAddressSpace();
  const peers = ['first', 'second', 'third'].map((name) => peerDriver({ name }));
  for (const { driver } of peers) space.attach(machine.addDevice(driver));
  const refuser = peers[2]!.own;
  refuser.taken = () => true;
  expect(codeOf(() => space.mmap({ bytes: HUGE, peerShared: true }))).toBe('ENOMEM');
  expect(peers.map(({ own }) => own.reserved.size)).toEqual([0, 0, 0]);
  expect(space.dump()).toBe('');
  let asked = 0;
  refuser.taken = () => asked++ === 0;
  space.mmap({ bytes: HUGE, peerShared: true });
  const pages = sharedPages(space);
  expect(pages.length).toBe(HUGE / PAGE);
  for (const { own } of peers) expect([...own.reserved].sort((x, y) => x - y)).toEqual(pages);
});

test('defect 20, errors of copies swallowed: what could not be copied is told, with its place and its reason, and the rest is copied', () => {
  const { space, range, gpu } = begin();
  gpu.write(at(range, 0), Uint8Array.of(9));
  space.munmap({ start: at(range, 1), end: at(range, 2) });
  const target = space.mmap({ bytes: 3 * PAGE });
  const { status, bytes, errors } = space.hmemcpy(target.start, range.start, 3 * PAGE);
  expect([status, bytes]).toEqual(['partial', 2 * PAGE]);
  expect(errors).toEqual([{ dest: at(target, 1), src: at(range, 1), bytes: PAGE, reason: 'no mapping' }]);
  expect([byte(space, at(target, 0)), byte(space, at(target, 1)), byte(space, at(target, 2))]).toEqual([9, 0, 3]);
});

test('defect 21, errors of advice swallowed: a range with a hole is told, as are a pinned and a failed device', async () => {
  const { space, range, probe, gpu } = begin();
  expect(codeOf(() => space.madvise({ start: range.start, end: at(range, 5) }, 'dontneed'))).not.toBe('done');
  gpu.migrate(range, { to: 'device' });
  // A device that forgets to answer is waited for; one that breaks is out of the game, and is told.
  probe.broken.add('invalidate');
  space.madvise(range, 'dontneed');
  expect(gpu.failure).toBeDefined();
  expect(codeOf(() => gpu.read(range.start, 1))).toBe('ENODEV');
  expect(byte(space, range.start)).toBe(0);
  await Promise.resolve();
});

test('defect 22, address and length that overflow: they are refused, whatever the verb', () => {
  const { space, gpu } = begin();
  const top = 2 ** 48;
  expect(codeOf(() => space.read(top - 1, 2))).toBe('EOVERFLOW');
  expect(codeOf(() => gpu.write(top - 1, Uint8Array.of(1, 2)))).toBe('EOVERFLOW');
  expect(codeOf(() => space.mmap({ at: top - PAGE, bytes: 2 * PAGE, fixed: true }))).toBe('EINVAL');
  expect(codeOf(() => space.munmap({ start: top - PAGE, end: top + PAGE }))).toBe('EINVAL');
  expect(codeOf(() => gpu.migrate({ start: 2 ** 53, end: 2 ** 53 + PAGE }, { to: 'device' }))).toBe('EINVAL');
});

test('defect 24, prefetch over memory that cannot move: what can move does, and the rest is used where it is', () => {
  const { space, range, gpu } = begin();
  const file = machine.createFile({ bytes: 2 * PAGE });
  space.mmap({ at: at(range, 6), bytes: 2 * PAGE, fixed: true, file, shared: true });
  space.write(at(range, 6), Uint8Array.of(5));
  expect(gpu.migrate({ start: range.start, end: at(range, 8) }, { to: 'device' })).toBe(4);
  expect(byte(gpu, at(range, 6))).toBe(5);
  expect(space.dump({ start: range.start, end: at(range, 4) })).toBe('DDDD');
  space.munmap({ start: at(range, 6), end: at(range, 8) });
  file.close();
});

test('defect 23, an evictor that never wakes: it does when less is free than is to be, each time, and stops when enough is', () => {
  machine = smallMachine();
  const space = machine.createAddressSpace();
  const gpu = space.attach(machine.addDevice(vram({ pages: 8 }), { watermarks: { low: 2 * PAGE, high: 4 * PAGE } }));
  const range = space.mmap({ bytes: 32 * PAGE });
  const free = (): number => 8 - machine.nodes.find(({ name }) => name === 'gpu.vram')!.used;
  let rounds = 0;
  for (let i = 0; i < 32; i++) {
    const before = free();
    gpu.write(at(range, i), Uint8Array.of(i + 1));
    expect(free()).toBe(before > 2 ? before - 1 : 4);
    if (before <= 2) rounds++;
  }
  expect(rounds).toBeGreaterThan(8);
  expect(machine.counters.reclaimed).toEqual({ direct: 0, background: 32 - (8 - free()) });
  for (let i = 0; i < 32; i++) expect(byte(space, at(range, i))).toBe(i + 1);
});

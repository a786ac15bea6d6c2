import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import {
  type AddressRange,
  type AddressSpace,
  type Context,
  createMachineSync,
  type Machine,
  MiB,
  printEvent,
  printHistory,
  restoreMachine,
} from 'farfault';
import { defineDriver } from 'farfault/gmem';
import { EventLog } from '../../sdk/events/log.ts';
import { PAGE, Probe, smallMachine } from '../machine/probe.ts';

const gpuDriver = defineDriver(({ pages = 16, granulePages = 1 }: { pages?: number; granulePages?: number }) => ({
  name: 'gpu',
  memory: [{ name: 'ram', kind: 'private' as const, bytes: pages * PAGE }],
  granuleBytes: granulePages * PAGE,
  atomics: ['exclusive' as const],
  attach: () => ({}),
}));

let machine: Machine;
let space: AddressSpace;
let gpu: Context;
let range: AddressRange;

function begin(options: Parameters<typeof gpuDriver>[0] = {}, records = 10_000): void {
  machine = smallMachine({ dram: 8 * MiB, deviceMemory: 8 * MiB });
  machine.record({ records });
  space = machine.createAddressSpace();
  gpu = space.attach(machine.addDevice(gpuDriver(options)));
  range = space.mmap({ bytes: 4 * PAGE });
}

afterEach(() => machine.close());

/** The first two lines: where, and why. */
const answer = (of: AddressSpace, addr: number): string[] => printHistory(of.history(addr)).split('\n').slice(0, 2);
const at = (page: number): number => range.start + page * PAGE;

describe('a page is where it is', () => {
  beforeEach(() => begin());

  test('because nobody has touched it, or because it was read, or written to', () => {
    expect(answer(space, at(0))[1]).toMatch(/^because nobody has touched it since it was mapped \(#\d+\)$/);
    space.read(at(1), 1);
    expect(answer(space, at(1))).toEqual([
      'page 0x10001000 of space 0: z, the page of zeros',
      expect.stringMatching(/^because the CPU read a hole/) as string,
    ]);
    space.write(at(1), Uint8Array.of(1));
    expect(answer(space, at(1))).toEqual([
      'page 0x10001000 of space 0: H, on the host, writable (dram)',
      expect.stringMatching(/^because the CPU wrote to the page of zeros/) as string,
    ]);
  });

  test('because a device faulted, and back because the CPU touched it', () => {
    space.write(at(0), Uint8Array.of(1));
    gpu.read(at(0), 1);
    expect(answer(space, at(0))).toEqual([
      'page 0x10000000 of space 0: D, on a device, writable (gpu.ram)',
      expect.stringMatching(/^because a device faulted on it.*: dram -> gpu\.ram/) as string,
    ]);
    space.read(at(0), 1);
    const history = space.history(at(0) + 77);
    expect(history).toMatchObject({ addr: at(0), space: space.id, truncated: false, state: { letter: 'H', node: 'dram' } });
    expect(history.because).toMatchObject({ type: 'pages.migrated', cause: 'home', wanted: at(0) / PAGE });
    expect(history.events.map(({ type }) => type)).toEqual([
      ...['space.mapped', 'fault.cpu', 'fault.device', 'range.invalidated', 'pages.migrated'],
      ...['fault.cpu', 'range.invalidated', 'pages.migrated'],
    ]);
    expect(history.events.map(({ tick }) => tick)).toEqual(history.events.map(({ tick }) => tick).sort((a, b) => a - b));
  });

  test('also where nobody may look: the page is there all the same', () => {
    space.write(at(0), Uint8Array.of(1));
    space.mprotect({ start: at(0), end: at(1) }, 'none');
    expect(space.history(at(0)).state).toEqual({ letter: 'n', words: 'there, but no rights', node: 'dram' });
    expect(answer(space, at(0))[1]).toMatch(/^because /);
  });

  test('on its way, because somebody has announced that he moves it', async () => {
    machine.close();
    machine = smallMachine({ dram: 8 * MiB });
    machine.record({ records: 100 });
    space = machine.createAddressSpace();
    const probe = new Probe();
    const slow = space.attach(machine.addDevice(probe.driver));
    range = space.mmap({ bytes: PAGE });
    space.write(at(0), Uint8Array.of(1));
    probe.slow.add('toDevice');
    const moved = slow.migrateAsync(range, { to: 'device' });
    const history = space.history(at(0));
    expect(history.state).toMatchObject({ letter: 'm', words: 'on its way' });
    expect(history.because).toMatchObject({ type: 'range.invalidated', reason: 'MIGRATE' });
    probe.slow.clear();
    probe.finish();
    await moved;
    expect(space.history(at(0)).because).toMatchObject({ type: 'pages.migrated' });
  });

  test('with the forks that it has been through, as a parent and as a child', () => {
    space.write(at(0), Uint8Array.of(1));
    const child = space.fork();
    const forks = (of: AddressSpace): number => of.history(at(0)).events.filter(({ type }) => type === 'space.forked').length;
    expect([forks(space), forks(child)]).toEqual([1, 1]);
    const other = machine.createAddressSpace();
    other.fork().close();
    expect([forks(space), forks(child)]).toEqual([1, 1]);
  });

  test('because a memory was full: the eviction says for whom', () => {
    machine.close();
    begin({ pages: 1 });
    gpu.write(at(0), Uint8Array.of(1));
    gpu.write(at(1), Uint8Array.of(1));
    const { because, events, state } = space.history(at(0));
    expect(state.letter).toBe('H');
    expect(because).toMatchObject({ type: 'pages.migrated', cause: 'evict' });
    expect(events.at(-1)).toMatchObject({ type: 'frames.evicted', vpn: at(1) / PAGE, space: space.id });
  });

  test('because the program took it away, once or for good', () => {
    space.write(at(0), Uint8Array.of(1));
    space.madvise({ start: at(0), end: at(1) }, 'dontneed');
    expect(answer(space, at(0))).toEqual([
      'page 0x10000000 of space 0: ., mapped, nothing there yet',
      expect.stringMatching(/^because dontneed took it away/) as string,
    ]);
    space.munmap(range);
    expect(answer(space, at(0))).toEqual([
      'page 0x10000000 of space 0: -, not mapped',
      expect.stringMatching(/^because munmap took it away/) as string,
    ]);
    expect(space.history(0x7000_0000)).toMatchObject({ because: undefined, events: [], truncated: false, state: { letter: '-' } });
  });

  test('and what was at its address before another mmap is not its history', () => {
    space.write(at(0), Uint8Array.of(1));
    space.munmap(range);
    const again = space.mmap({ bytes: PAGE, at: range.start, fixed: true });
    expect(space.history(again.start).events.map(({ type }) => type)).toEqual(['space.mapped']);
    const { id } = space;
    space.close();
    const other = machine.createAddressSpace();
    expect(other.id).toBe(id);
    expect(other.history(range.start)).toMatchObject({ events: [], truncated: false });
  });

  test('because a device does atomics in it', () => {
    space.write(at(0), Uint8Array.of(1));
    gpu.atomic(at(0), { op: 'add', bytes: 4, operand: 1 });
    expect(answer(space, at(0))).toEqual([
      'page 0x10000000 of space 0: x, exclusive to a device (dram)',
      expect.stringMatching(/^because a device does atomics in it/) as string,
    ]);
  });
});

describe('a page is followed', () => {
  beforeEach(() => begin());

  test('through mremap, twice, and into what was behind a longer end', () => {
    space.write(at(1), Uint8Array.of(1));
    gpu.read(at(1), 1);
    const first = space.mremap(range, { mayMove: true, to: 0x4000_0000 });
    const second = space.mremap(first, { bytes: 6 * PAGE, mayMove: true, to: 0x5000_0000 });
    const { because, events, truncated, state } = space.history(second.start + PAGE);
    expect([state.letter, truncated]).toEqual(['D', false]);
    expect(because).toMatchObject({ type: 'pages.migrated', vpn: at(1) / PAGE });
    expect(events[0]).toMatchObject({ type: 'space.mapped', cause: 'mmap', vpn: at(0) / PAGE });
    expect(events.filter(({ type }) => type === 'space.moved').length).toBe(2);
    // Page 5 was promised by the second move.
    const grown = space.history(second.start + 5 * PAGE);
    expect(grown).toMatchObject({ truncated: false, state: { letter: '.' }, because: { type: 'space.mapped', cause: 'mremap' } });
    expect(grown.events.length).toBe(2);
    // And where it was, nothing is.
    expect(space.history(at(1)).because).toMatchObject({ type: 'space.unmapped', cause: 'mremap' });
  });

  test('through a fork, to what its parent did before', () => {
    space.write(at(0), Uint8Array.of(1));
    gpu.read(at(0), 1);
    const child = space.fork();
    const inherited = child.history(at(0));
    expect(inherited.state).toMatchObject({ letter: 'd', node: 'gpu.ram' });
    expect(inherited.because).toMatchObject({ type: 'pages.migrated', cause: 'fault', space: space.id });
    expect(inherited.events.at(-1)).toMatchObject({ type: 'space.forked', child: child.id });
    expect(inherited.truncated).toBe(false);
    // What the parent does afterwards is its own, and so is what the child does.
    child.write(at(0), Uint8Array.of(2));
    expect(child.history(at(0)).because).toMatchObject({ type: 'page.copied', space: child.id });
    expect(space.history(at(0)).because).toMatchObject({ type: 'pages.migrated', cause: 'home' });
    const grandchild = child.fork();
    expect(grandchild.history(at(3)).events.filter(({ type }) => type === 'space.forked').length).toBe(2);
    expect(answer(grandchild, at(3))[1]).toMatch(/^because nobody has touched it since the fork/);
    grandchild.close();
    child.close();
  });

  test('as a part of a huge page, and after it is split', () => {
    const huge = space.mmap({ bytes: 2 * MiB, align: 2 * MiB });
    space.madvise(huge, 'hugepage');
    space.write(huge.start + 9 * PAGE, Uint8Array.of(1));
    const page = huge.start + 300 * PAGE;
    expect(space.history(page).because).toMatchObject({ type: 'fault.cpu', cause: 'huge', pages: 512, vpn: huge.start / PAGE + 9 });
    space.mprotect({ start: huge.start, end: huge.start + PAGE }, 'r');
    expect(space.history(page).events.at(-1)).toMatchObject({ type: 'page.split', cause: 'mprotect' });
    gpu.read(page, 1);
    expect(space.history(page).because).toMatchObject({ type: 'pages.migrated', to: 'gpu.ram' });
    expect(space.history(page + PAGE).because).toMatchObject({ type: 'fault.cpu', cause: 'huge' });
    space.mprotect(huge, 'rw');
    space.madvise(huge, 'collapse');
    expect(space.history(page).because).toMatchObject({ type: 'page.collapsed' });
  });
});

describe('the records', () => {
  test('are as many as asked for; what was dropped is admitted', () => {
    begin({}, 8);
    space.write(at(0), Uint8Array.of(1));
    expect(space.history(at(0)).truncated).toBe(false);
    for (let i = 0; i < 20; i++) space.read(at(0) + i, 1);
    for (let i = 0; i < 4; i++) {
      gpu.read(at(1), 1);
      space.read(at(1), 1);
    }
    expect(machine.platform.events.log!.length).toBeLessThanOrEqual(8);
    const history = space.history(at(0));
    expect(history).toMatchObject({ truncated: true, because: undefined, state: { letter: 'H' } });
    expect(printHistory(history)).toMatch(
      /\nbecause of something that is not among the records\nrecords, the oldest of which are missing:$/,
    );
    expect(space.history(at(1))).toMatchObject({ truncated: true, because: { type: 'pages.migrated', cause: 'home' } });
  });

  test('that begin late know that they do', () => {
    machine = smallMachine();
    space = machine.createAddressSpace();
    range = space.mmap({ bytes: 2 * PAGE });
    space.write(range.start, Uint8Array.of(1));
    machine.record();
    expect(space.history(range.start)).toMatchObject({ truncated: true, because: undefined, events: [] });
    space.write(at(1), Uint8Array.of(1));
    expect(space.history(at(1))).toMatchObject({ truncated: true, because: { type: 'fault.cpu', cause: 'demand' } });
  });

  test('are not kept unless asked for, and end when asked to', () => {
    machine = smallMachine();
    space = machine.createAddressSpace();
    range = space.mmap({ bytes: PAGE });
    expect(machine.platform.events.heard).toBe(false);
    expect(() => space.history(range.start)).toThrow('call machine.record() first');
    machine.record({ records: 1 });
    expect(machine.platform.events.heard).toBe(true);
    machine.record({ records: 0 });
    expect(machine.platform.events.heard).toBe(false);
    expect(() => space.history(range.start)).toThrow(expect.objectContaining({ code: 'EOPNOTSUPP' }));
    machine.record();
    machine.reset();
    expect(machine.platform.events.heard).toBe(false);
  });

  test.each([[-1], [0.5], [2 ** 24 + 1], [NaN], ['9']])('%s of them are refused', (records) => {
    machine = smallMachine();
    expect(() => machine.record({ records: records as number })).toThrow('record.records');
    expect(() => machine.record(null as never)).toThrow('record options');
    expect(machine.platform.events.log).toBe(undefined);
  });

  test('are asked about addresses', () => {
    begin();
    for (const addr of [-1, 0.5, NaN, 2 ** 48, '5']) expect(() => space.history(addr as number)).toThrow('history.addr');
    space.close();
    expect(() => space.history(range.start)).toThrow(expect.objectContaining({ code: 'EBADF' }));
  });

  test('stay within their budget, whatever they list, and stay in order', () => {
    machine = createMachineSync({ dram: 1 * MiB, tablePages: 64 });
    const log = new EventLog(10, false);
    const plain = (tick: number) => ({ type: 'space.forked' as const, tick, space: 0, child: 1 });
    const wide = (tick: number, width: number) => ({
      ...{
        type: 'frames.evicted' as const,
        tick,
        node: 'x',
        pages: 1,
        frames: [],
        space: 0,
        vpn: 0,
        cause: 'user' as const,
        results: [],
        by: 'direct' as const,
      },
      runs: Array.from({ length: width }, () => ({ space: 0, vpn: 0, pages: 1 })),
    });
    for (let i = 0; i < 25; i++) log.add(plain(i));
    expect([...log].map(({ tick }) => tick)).toEqual([15, 16, 17, 18, 19, 20, 21, 22, 23, 24]);
    log.add(wide(25, 6));
    expect([...log].map(({ tick }) => tick)).toEqual([22, 23, 24, 25]);
    expect([log.length, log.dropped]).toEqual([4, 22]);
    // One that is more than everything is not kept, and what is older than a record that is not there goes.
    log.add(wide(26, 10));
    expect([log.length, log.dropped]).toEqual([0, 27]);
    log.add(plain(27));
    expect(log.at(0)).toEqual(plain(27));
    expect([log.at(1), log.at(-1)]).toEqual([undefined, undefined]);
  });
});

test('a machine that was saved knows its history again, and goes on with it; its listeners stay behind', async () => {
  begin();
  let heard = 0;
  machine.onEvent(() => heard++);
  space.write(at(0), Uint8Array.of(1));
  gpu.read(at(0), 1);
  const image = machine.save({ space });
  const before = space.history(at(0));
  const restored = await restoreMachine<{ space: AddressSpace }>(image, { drivers: [gpuDriver({})] });
  const again = restored.handles.space;
  expect(again.history(at(0))).toEqual(before);
  heard = 0;
  again.read(at(0), 1);
  expect(heard).toBe(0);
  expect(again.history(at(0))).toMatchObject({ truncated: false, because: { type: 'pages.migrated', cause: 'home' } });
  expect(space.history(at(0))).toEqual(before);
  restored.machine.close();
});

test('a record in one line says what its fields do', () => {
  begin();
  const event = { type: 'fault.device', tick: 7, space: 2, device: 'gpu', vpn: 0x10, write: true, lane: 3 } as const;
  expect(printEvent(event)).toBe('#7 fault.device  space 2, device gpu, at 0x10000, write, lane 3');
  expect(printEvent({ ...event, write: false })).toBe('#7 fault.device  space 2, device gpu, at 0x10000, lane 3');
  // What is not there is not said.
  const advised = { type: 'range.advised', tick: 1, space: 2, vpn: 0x10, pages: 3, advice: 'dontneed', followed: 3, failed: 0 } as const;
  expect(printEvent({ ...advised, device: undefined })).toBe(printEvent(advised as never));
  expect(printEvent({ ...advised, device: undefined })).not.toContain('device');
});

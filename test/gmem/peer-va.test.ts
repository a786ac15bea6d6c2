import fc from 'fast-check';
import { afterEach, describe, expect, test } from 'vitest';
import {
  type AddressRange,
  type AddressSpace,
  type Context,
  GiB,
  isFarfaultError,
  type Machine,
  type MachineEvent,
  MiB,
  restoreMachine,
  type MmapOptions,
} from 'farfault';
import { randomOf } from '../../sdk/testing/random.ts';
import { expectClean, smallMachine, used } from '../machine/probe.ts';
import { HUGE, type OwnAddresses, PAGE, peerDriver, type PeerOptions, sharedPages } from './peer-world.ts';

const BASE = 0x1000_0000;
const machines: Machine[] = [];
afterEach(() => {
  for (const machine of machines.splice(0)) machine.close();
});

interface World {
  readonly machine: Machine;
  readonly space: AddressSpace;
  readonly contexts: readonly Context[];
  readonly owns: readonly OwnAddresses[];
  /** va.* and space.mapped since then. */
  readonly events: MachineEvent[];
}

/** A space with as many devices that hand out their addresses themselves: npu0, npu1 ... */
function world(...devices: PeerOptions[]): World {
  const machine = smallMachine({ dram: 4 * MiB, tablePages: 256 });
  machines.push(machine);
  const space = machine.createAddressSpace();
  const made = devices.map((options, i) => peerDriver({ name: `npu${i}`, ...options }));
  const contexts = made.map(({ driver }) => space.attach(machine.addDevice(driver)));
  const events: MachineEvent[] = [];
  machine.onEvent((event) => {
    if (event.type.startsWith('va.') || event.type === 'space.mapped') events.push(event);
  });
  return { machine, space, contexts, owns: made.map(({ own }) => own), events };
}

function codeOf(call: () => unknown): string {
  try {
    call();
  } catch (error) {
    if (isFarfaultError(error)) return error.code;
    throw error;
  }
  return 'none';
}

async function rejection(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
  } catch (error) {
    if (isFarfaultError(error)) return error.code;
    throw error;
  }
  return 'none';
}

/** What every peer has reserved is what is peer-shared in the space. */
function expectAgreed({ space, owns }: World): void {
  const pages = sharedPages(space);
  for (const own of owns) {
    expect([...own.reserved].sort((a, b) => a - b)).toEqual(pages);
    expect(own.wrong).toEqual([]);
  }
}

const shared = (bytes: number, more: Partial<MmapOptions> = {}): MmapOptions => ({ bytes, peerShared: true, ...more });

describe('peer-shared memory is private and anonymous', () => {
  const { space, machine } = world();
  machines.length = 0;
  const file = machine.createFile({ bytes: PAGE });
  const refused: [string, Partial<MmapOptions>][] = [
    ['a file', { file }],
    ['a file and shared', { file, shared: true }],
    ['an offset', { offset: 0 }],
    ['shared', { shared: true }],
    ['huge pages of 2 MiB', { hugetlb: 2 * MiB }],
    ['huge pages of 1 GiB', { hugetlb: GiB }],
    ["a driver's mapping", { special: 'mixed' }],
    ['page numbers', { special: 'pfn' }],
    ['registers', { special: 'io' }],
    ['a fixed place that is no multiple of 2 MiB', { at: BASE + PAGE, fixed: true }],
    ['a word', { peerShared: 'yes' as unknown as boolean }],
  ];
  test.each(refused)('it does not go with %s', (_, options) => {
    expect(codeOf(() => space.mmap(shared(PAGE, options)))).toBe('EINVAL');
    expect(space.dump()).toBe('');
  });

  const taken: [string, Partial<MmapOptions>, AddressRange][] = [
    ['nothing', {}, { start: BASE, end: BASE + HUGE }],
    ['no rights', { prot: 'none' }, { start: BASE, end: BASE + HUGE }],
    ['a place to begin with, rounded up', { at: BASE + PAGE }, { start: BASE + HUGE, end: BASE + 2 * HUGE }],
    ['a fixed place', { at: BASE + 4 * HUGE, fixed: true }, { start: BASE + 4 * HUGE, end: BASE + 5 * HUGE }],
    ['an alignment', { align: GiB }, { start: 4 * BASE, end: 4 * BASE + HUGE }],
    ['a word that says no', { peerShared: false }, { start: BASE, end: BASE + PAGE }],
  ];
  test.each(taken)('it goes with %s', (_, options, range) => {
    expect(space.mmap(shared(PAGE, options))).toEqual(range);
    expect(space.dump().endsWith(' ps')).toBe(options.peerShared !== false);
    space.munmap(range);
    expect(space.dump()).toBe('');
  });
});

test('it is handed out in whole 2 MiB, and marked in a dump', () => {
  const w = world({});
  const range = w.space.mmap(shared(HUGE + 1, { prot: 'r' }));
  expect(range).toEqual({ start: BASE, end: BASE + 2 * HUGE });
  expect(w.space.dump().replace(/\.+/, '...')).toBe('10000000-10400000 r-- ... ps');
  expect(w.owns[0]!.calls).toEqual(['alloc 10000000+1024 r']);
});

test('a read finds a page of its own, never the page of zeros', () => {
  const w = world({});
  const range = w.space.mmap(shared(HUGE));
  const first = { start: range.start, end: range.start + 2 * PAGE };
  expect(w.space.read(range.start, 2)).toEqual(new Uint8Array(2));
  expect(w.contexts[0]!.read(range.start + PAGE, 2)).toEqual(new Uint8Array(2));
  expect(w.space.dump(first)).toBe('HD');
  const readOnly = w.space.mmap(shared(HUGE, { prot: 'r' }));
  w.space.read(readOnly.start, 1);
  expect(w.space.dump({ start: readOnly.start, end: readOnly.start + PAGE })).toBe('h');
  expect(codeOf(() => w.space.write(readOnly.start, Uint8Array.of(1)))).toBe('EFAULT');
  expectClean(w.machine);
});

describe('a place is negotiated', () => {
  test('with every device that hands out its addresses, in the order of their coming', () => {
    const w = world({}, { peers: false }, {});
    const range = w.space.mmap(shared(HUGE));
    expect(range.start).toBe(BASE);
    expect(w.owns.map(({ calls }) => calls)).toEqual([['alloc 10000000+512 rw'], [], ['alloc 10000000+512 rw']]);
    expect(w.events).toMatchObject([
      { type: 'va.negotiated', vpn: BASE / PAGE, pages: 512, peers: 2, retries: 0, cause: 'mmap' },
      { type: 'space.mapped', vpn: BASE / PAGE, pages: 512, cause: 'mmap' },
    ]);
  });

  test('and picked again when one refuses; those asked before give it back, the last one first', () => {
    const w = world({}, {}, {});
    // The third has something of its own in the second 2 MiB from the base, the first in the third.
    w.owns[2]!.taken = (page) => page < BASE / PAGE + 700;
    w.owns[0]!.taken = (page) => page === BASE / PAGE + 1024 + 511;
    expect(w.space.mmap(shared(HUGE)).start).toBe(BASE + 3 * HUGE);
    expectAgreed(w);
    expect(w.owns[0]!.calls).toEqual([
      'alloc 10000000+512 rw',
      'free 10000000+512',
      'alloc 10200000+512 rw',
      'free 10200000+512',
      'alloc 10400000+512 rw',
      'alloc 10600000+512 rw',
    ]);
    expect(w.events.map((event) => [event.type, 'device' in event ? event.device : '', 'cause' in event ? event.cause : ''])).toEqual([
      ['va.refused', 'npu2', 'mmap'],
      ['va.released', 'npu1', 'rollback'],
      ['va.released', 'npu0', 'rollback'],
      ['va.refused', 'npu2', 'mmap'],
      ['va.released', 'npu1', 'rollback'],
      ['va.released', 'npu0', 'rollback'],
      ['va.refused', 'npu0', 'mmap'],
      ['va.negotiated', '', 'mmap'],
      ['space.mapped', '', 'mmap'],
    ]);
    // The places that were refused are free again for others.
    expect(w.space.mmap({ bytes: PAGE }).start).toBe(BASE);
  });

  test('ten times over, and no more', () => {
    const w = world({}, {});
    w.owns[1]!.taken = (page) => page < BASE / PAGE + 10 * 512;
    expect(w.space.mmap(shared(HUGE)).start).toBe(BASE + 10 * HUGE);
    w.space.munmap({ start: BASE, end: BASE + 20 * HUGE });
    w.owns[1]!.taken = (page) => page < BASE / PAGE + 11 * 512;
    expect(codeOf(() => w.space.mmap(shared(HUGE)))).toBe('ENOMEM');
    expect(w.owns[0]!.calls.filter((call) => call.startsWith('alloc'))).toHaveLength(11 + 11);
    expectAgreed(w);
    expect(w.space.dump()).toBe('');
    expectClean(w.machine);
  });

  test('but not for a fixed place', () => {
    const w = world({}, {});
    w.owns[1]!.taken = (page) => page === (BASE + HUGE) / PAGE;
    expect(codeOf(() => w.space.mmap(shared(2 * HUGE, { at: BASE, fixed: true })))).toBe('ENOMEM');
    expect(w.owns.map(({ calls }) => calls.length)).toEqual([2, 1]);
    expectAgreed(w);
    expect(w.space.mmap(shared(HUGE, { at: BASE + 4 * HUGE, fixed: true })).start).toBe(BASE + 4 * HUGE);
    expect(w.space.mmap(shared(HUGE, { at: BASE, fixed: true })).start).toBe(BASE);
    expect(codeOf(() => w.space.mmap(shared(HUGE, { at: BASE, fixed: true })))).toBe('EINVAL');
    expectAgreed(w);
  });

  test('and a device that fails to answer ends it: nothing is left', () => {
    const w = world({}, {});
    w.owns[1]!.says = 'failure';
    expect(codeOf(() => w.space.mmap(shared(HUGE)))).toBe('ENODEV');
    expect(w.contexts[1]!.failure).toBeUndefined();
    expectAgreed(w);
    expect(w.space.dump()).toBe('');
    w.owns[1]!.says = undefined;
    w.owns[1]!.throws = 'allocFixed';
    expect(codeOf(() => w.space.mmap(shared(HUGE)))).toBe('ENODEV');
    expect(w.contexts[1]!.failure?.code).toBe('ENODEV');
    expectAgreed(w);
    // The one that has failed is out of the game.
    const calls = w.owns[1]!.calls.length;
    const range = w.space.mmap(shared(HUGE));
    w.space.munmap(range);
    expect(w.owns[1]!.calls).toHaveLength(calls);
    expect(w.space.dump()).toBe('');
  });

  test('and an answer that is none fails the device', () => {
    const w = world({});
    w.owns[0]!.says = 'perhaps' as 'nomem';
    expect(codeOf(() => w.space.mmap(shared(HUGE)))).toBe('ENODEV');
    expect(w.contexts[0]!.failure?.message).toContain('allocFixed');
  });
});

describe('addresses go back', () => {
  test('at munmap, the part that goes', () => {
    const w = world({}, {});
    const range = w.space.mmap(shared(2 * HUGE));
    w.contexts[0]!.write(range.start + 3 * PAGE, Uint8Array.of(7));
    w.space.munmap({ start: range.start + 2 * PAGE, end: range.start + HUGE });
    expect(w.owns[1]!.calls.at(-1)).toBe('free 10002000+510');
    expectAgreed(w);
    expect(w.events.at(-1)).toMatchObject({ type: 'va.released', device: 'npu1', vpn: BASE / PAGE + 2, pages: 510, cause: 'munmap' });
    w.space.munmap({ start: 0, end: 2 ** 40 });
    expectAgreed(w);
    expect(used(w.machine)).toContain('dram 0');
  });

  test('when the space ends, and when a device leaves', () => {
    const w = world({}, {});
    const range = w.space.mmap(shared(HUGE));
    w.contexts[0]!.write(range.start, Uint8Array.of(1));
    w.contexts[0]!.detach();
    expect(w.owns.map(({ reserved }) => reserved.size)).toEqual([0, 512]);
    expect(w.space.read(range.start, 1)).toEqual(Uint8Array.of(1));
    expect(w.events.at(-1)).toMatchObject({ type: 'va.released', device: 'npu0', cause: 'detach' });
    w.space.close();
    expect(w.owns.map(({ reserved }) => reserved.size)).toEqual([0, 0]);
    expect(w.events.at(-1)).toMatchObject({ type: 'va.released', device: 'npu1', cause: 'exit' });
    expect(w.owns.flatMap(({ wrong }) => wrong)).toEqual([]);
    expectClean(w.machine);
  });

  test('when another program is run in the space', () => {
    const w = world({});
    w.space.mmap(shared(HUGE));
    w.space.exec();
    expectAgreed(w);
    expect(w.owns[0]!.reserved.size).toBe(0);
    expect(w.events.filter(({ type }) => type === 'va.released').at(-1)).toMatchObject({ cause: 'exec' });
    w.space.mmap(shared(HUGE));
    expect(w.owns[0]!.reserved.size).toBe(512);
  });

  test('also when the driver cannot let go: it is out of the game', () => {
    const w = world({}, {});
    const range = w.space.mmap(shared(HUGE));
    w.owns[0]!.throws = 'free';
    w.space.munmap(range);
    expect(w.contexts.map(({ failure }) => failure?.code)).toEqual(['ENODEV', undefined]);
    expect(w.owns[1]!.reserved.size).toBe(0);
    expect(w.space.dump()).toBe('');
  });
});

describe('mremap', () => {
  test('shorter gives the end back, longer asks for it where it is', () => {
    const w = world({});
    const range = w.space.mmap(shared(2 * HUGE));
    w.space.write(range.start, Uint8Array.of(5));
    const short = w.space.mremap(range, { bytes: HUGE });
    expectAgreed(w);
    const long = w.space.mremap(short, { bytes: 3 * HUGE });
    expect(long).toEqual({ start: BASE, end: BASE + 3 * HUGE });
    expectAgreed(w);
    expect(w.owns[0]!.calls).toEqual(['alloc 10000000+1024 rw', 'free 10200000+512', 'alloc 10200000+1024 rw']);
    expect(w.space.read(range.start, 1)).toEqual(Uint8Array.of(5));
  });

  test('moves when a peer does not take what is behind, if it may', () => {
    const w = world({}, {});
    const range = w.space.mmap(shared(HUGE));
    w.contexts[1]!.write(range.start, Uint8Array.of(9));
    w.owns[0]!.taken = (page) => page >= (BASE + HUGE) / PAGE && page < (BASE + 4 * HUGE) / PAGE;
    expect(codeOf(() => w.space.mremap(range, { bytes: 2 * HUGE }))).toBe('ENOMEM');
    expectAgreed(w);
    const moved = w.space.mremap(range, { bytes: 2 * HUGE, mayMove: true });
    expect(moved.start).toBe(BASE + 5 * HUGE);
    expectAgreed(w);
    expect(w.space.read(moved.start, 1)).toEqual(Uint8Array.of(9));
    expect(codeOf(() => w.space.read(range.start, 1))).toBe('EFAULT');
    expectClean(w.machine);
  });

  test('to a fixed place, and with the old range kept', () => {
    const w = world({});
    const range = w.space.mmap(shared(HUGE));
    const there = w.space.mmap({ bytes: HUGE, at: BASE + 8 * HUGE });
    const moved = w.space.mremap(range, { mayMove: true, to: there.start });
    expect(moved).toEqual(there);
    expectAgreed(w);
    w.space.mremap(moved, { mayMove: true, dontUnmap: true });
    expect(sharedPages(w.space)).toHaveLength(1024);
    expectAgreed(w);
  });

  test('that finds no table page for its new place gives that back', () => {
    const w = world({});
    const range = w.space.mmap(shared(HUGE));
    w.space.write(range.start, Uint8Array.of(5));
    // Each takes a table page; the last of them is one that a move would need.
    const fill: AddressRange[] = [];
    for (let i = 0; i < 1000; i++) {
      const next = w.space.mmap({ bytes: PAGE, at: (i + 1) * 2 * GiB });
      fill.push(next);
      if (w.space.tryWrite(next.start, Uint8Array.of(1)).status !== 'done') break;
    }
    expect(codeOf(() => w.space.mremap(range, { mayMove: true, to: 700 * GiB }))).toBe('ENOMEM');
    expectAgreed(w);
    expect(w.space.read(range.start, 1)).toEqual(Uint8Array.of(5));
    expectClean(w.machine);
  });
});

describe('a device that is attached later', () => {
  test('is asked for what is there', () => {
    const w = world({});
    const first = w.space.mmap(shared(HUGE));
    w.space.mmap({ bytes: PAGE });
    w.space.mmap(shared(2 * HUGE, { prot: 'r' }));
    w.space.munmap({ start: first.start + 8 * PAGE, end: first.start + 9 * PAGE });
    const { driver, own } = peerDriver({ name: 'late' });
    const context = w.space.attach(w.machine.addDevice(driver));
    expect(own.calls).toEqual(['alloc 10000000+8 rw', 'alloc 10009000+503 rw', 'alloc 10400000+1024 r']);
    expectAgreed({ ...w, owns: [...w.owns, own] });
    context.write(first.start, Uint8Array.of(3));
    expect(w.space.read(first.start, 1)).toEqual(Uint8Array.of(3));
  });

  test('and refuses it is not attached, and has nothing', () => {
    const w = world({});
    w.space.mmap(shared(HUGE));
    const second = w.space.mmap(shared(HUGE, { at: BASE + 8 * HUGE }));
    const { driver, own } = peerDriver({ name: 'late' });
    const device = w.machine.addDevice(driver);
    own.taken = (page) => page === second.start / PAGE + 100;
    expect(codeOf(() => w.space.attach(device))).toBe('ENOMEM');
    expect(own.reserved.size).toBe(0);
    expect(own.wrong).toEqual([]);
    expect(w.events.slice(-2)).toMatchObject([
      { type: 'va.refused', device: 'late', answer: 'nomem', cause: 'attach' },
      { type: 'va.released', device: 'late', cause: 'rollback' },
    ]);
    w.space.mmap(shared(HUGE));
    expect(own.calls.filter((call) => call.startsWith('alloc'))).toHaveLength(2);
    own.taken = () => false;
    w.space.attach(device);
    expectAgreed({ ...w, owns: [...w.owns, own] });
    expectClean(w.machine);
  });

  test('and throws is not attached', () => {
    const w = world({});
    w.space.mmap(shared(HUGE));
    const { driver, own } = peerDriver({ name: 'late' });
    const device = w.machine.addDevice(driver);
    own.throws = 'allocFixed';
    expect(codeOf(() => w.space.attach(device))).toBe('ENODEV');
    expect(device.contexts).toEqual([]);
    own.throws = undefined;
    w.space.attach(device);
    expectAgreed({ ...w, owns: [...w.owns, own] });
  });
});

describe('a peer that answers later', () => {
  test('is waited for; meanwhile nobody is given the place', async () => {
    const w = world({}, {});
    w.owns[0]!.late = true;
    const promise = w.space.mmapAsync(shared(HUGE));
    expect(w.space.mmap({ bytes: PAGE }).start).toBe(BASE + HUGE);
    expect(w.machine.pending).toMatchObject([{ waitsFor: expect.stringContaining('addresses') as string }]);
    w.owns[0]!.answer();
    expect((await promise).start).toBe(BASE);
    expectAgreed(w);
  });

  test('may refuse later, too', async () => {
    const w = world({}, {});
    w.owns[1]!.late = true;
    w.owns[1]!.taken = (page) => page < (BASE + HUGE) / PAGE;
    const promise = w.space.mmapAsync(shared(HUGE));
    w.owns[1]!.answer();
    expect((await promise).start).toBe(BASE + HUGE);
    expectAgreed(w);
    w.owns[1]!.says = 'failure';
    const other = w.space.mmapAsync(shared(HUGE));
    w.owns[1]!.answer();
    expect(await rejection(other)).toBe('ENODEV');
    expectAgreed(w);
    expectClean(w.machine);
  });

  test('ends a synchronous mmap with EBUSY: when the answer comes, it comes to nothing', () => {
    const w = world({}, {});
    w.owns[1]!.late = true;
    expect(codeOf(() => w.space.mmap(shared(HUGE)))).toBe('EBUSY');
    w.owns[1]!.answer();
    expectAgreed(w);
    expect(w.space.dump()).toBe('');
    expect(w.owns[0]!.reserved.size).toBe(0);
    expectClean(w.machine);
  });

  test('gives addresses back later: they are nobody else’s before', async () => {
    const w = world({}, {});
    const range = w.space.mmap(shared(HUGE));
    w.owns[0]!.late = true;
    const promise = w.space.munmapAsync(range);
    expect(w.space.mmap({ bytes: PAGE }).start).toBe(BASE + HUGE);
    w.owns[0]!.answer();
    await promise;
    expectAgreed(w);
    expect(w.space.mmap({ bytes: PAGE }).start).toBe(BASE);
  });

  test('is waited for when it is attached, and when it leaves', async () => {
    const w = world({});
    w.space.mmap(shared(HUGE));
    const { driver, own } = peerDriver({ name: 'late' });
    const device = w.machine.addDevice(driver);
    own.late = true;
    expect(codeOf(() => w.space.attach(device))).toBe('EBUSY');
    own.answer();
    expect([device.contexts.length, own.reserved.size]).toEqual([0, 0]);
    const promise = w.space.attachAsync(device);
    own.answer();
    const context = await promise;
    expectAgreed({ ...w, owns: [...w.owns, own] });
    const leaving = context.detachAsync();
    own.answer();
    await leaving;
    expect([device.contexts.length, own.reserved.size, own.wrong]).toEqual([0, 0, []]);
    expectClean(w.machine);
  });

  test('is asked again of a restored machine whatever it has said', async () => {
    const w = world({}, {});
    w.owns[1]!.late = true;
    w.owns[1]!.taken = (page) => page < (BASE + HUGE) / PAGE;
    const promise = w.space.mmapAsync(shared(HUGE));
    const drivers = [peerDriver({ name: 'npu0' }), peerDriver({ name: 'npu1' })];
    const image = w.machine.save({ space: w.space, ticket: w.owns[1]!.open[0]!.ticket });
    w.owns[1]!.answer();
    expect((await promise).start).toBe(BASE + HUGE);

    const { machine, handles } = await restoreMachine<{ space: AddressSpace; ticket: { fail(reason: string): void } }>(image, {
      drivers: drivers.map(({ driver }) => driver),
    });
    machines.push(machine);
    for (const page of w.owns[0]!.reserved) drivers[0]!.own.reserved.add(page - HUGE / PAGE);
    handles.ticket.fail('nomem');
    expect(machine.pending).toEqual([]);
    expect(handles.space.dump().slice(0, 17)).toBe('10200000-10400000');
    expectAgreed({ ...w, space: handles.space, owns: drivers.map(({ own }) => own) });
    expect(machine.verify()).toBeUndefined();
  });
});

describe('a child', () => {
  test('does not get it, unless it is advised to', () => {
    const w = world({});
    const range = w.space.mmap(shared(2 * HUGE));
    w.space.write(range.start + HUGE, Uint8Array.of(4));
    expect(w.space.fork().dump()).toBe('');
    w.space.madvise({ start: range.start + HUGE, end: range.end }, 'dofork');
    const child = w.space.fork();
    expect(sharedPages(child)).toHaveLength(512);
    // Its devices are asked when they come.
    const { driver, own } = peerDriver({ name: 'ofchild' });
    child.attach(w.machine.addDevice(driver));
    expect(own.calls).toEqual(['alloc 10200000+512 rw']);
    expect(child.read(range.start + HUGE, 1)).toEqual(Uint8Array.of(4));
    child.close();
    expect(own.reserved.size).toBe(0);
    expectAgreed(w);
  });
});

describe('a device with fewer address bits', () => {
  test('has peer-shared memory below what it can address', () => {
    const w = world({ addressBits: 40 }, { addressBits: 29, peers: false });
    const top = 2 ** 29;
    w.space.mmap(shared(top - BASE - HUGE));
    expect(w.space.mmap(shared(HUGE)).end).toBe(top);
    expect(codeOf(() => w.space.mmap(shared(HUGE)))).toBe('ENOMEM');
    expect(codeOf(() => w.space.mmap(shared(HUGE, { at: top, fixed: true })))).toBe('EINVAL');
    expect(w.space.mmap({ bytes: PAGE }).start).toBe(top);
    expectAgreed({ ...w, owns: [w.owns[0]!] });
    w.contexts[1]!.detach();
    expect(w.space.mmap(shared(HUGE)).start).toBe(top + HUGE);
  });

  test('keeps a range below when it grows', () => {
    const w = world({ addressBits: 29 });
    const last = w.space.mmap(shared(HUGE, { at: 2 ** 29 - HUGE, fixed: true }));
    expect(codeOf(() => w.space.mremap(last, { bytes: 2 * HUGE }))).toBe('ENOMEM');
    expectAgreed(w);
  });

  test('faults above, and says why; what is below works', () => {
    const w = world({ addressBits: 32 });
    const low = w.space.mmap({ bytes: PAGE });
    const high = w.space.mmap({ bytes: PAGE, at: 2 ** 32 });
    w.contexts[0]!.write(low.start, Uint8Array.of(1));
    for (const access of [
      () => w.contexts[0]!.write(high.start, Uint8Array.of(1)),
      () => w.contexts[0]!.read(high.start - 1, 2),
      () => w.contexts[0]!.fault(high.start, 'read'),
      () => w.contexts[0]!.migrate(high, { to: 'device' }),
      () => w.contexts[0]!.atomic(high.start, { op: 'add', bytes: 4, operand: 1 }),
    ])
      expect(access).toThrow(/is beyond the 32 address bits of npu0/);
    const report = w.contexts[0]!.submit({
      accesses: [
        { op: 'read', addr: high.start, bytes: 1 },
        { op: 'write', addr: low.start + 1, bytes: 1, value: 2 },
      ],
    });
    expect(report.cancelled).toEqual([0]);
    expect(w.space.read(low.start, 2)).toEqual(Uint8Array.of(1, 2));
    expectClean(w.machine);
  });

  test('is not attached where peer-shared memory is above', () => {
    const w = world({});
    w.space.mmap(shared(HUGE, { at: 2 ** 32, fixed: true }));
    const { driver } = peerDriver({ name: 'narrow', addressBits: 32, peers: false });
    const device = w.machine.addDevice(driver);
    expect(codeOf(() => w.space.attach(device))).toBe('ENOMEM');
    expect(device.contexts).toEqual([]);
    w.space.munmap({ start: 2 ** 32, end: 2 ** 33 });
    w.space.attach(device);
  });

  test('does not share the table of the CPU', () => {
    const { machine, space } = world();
    const { driver } = peerDriver({ name: 'narrow', addressBits: 32, peers: false, pages: 0 });
    const device = machine.addDevice({ ...driver, tableFormat: space.tableFormat });
    expect(codeOf(() => space.attach(device, { mode: 'share' }))).toBe('EINVAL');
  });

  test.each([20, 49, 32.5, NaN, '40' as unknown as number])('which are not %s', (addressBits) => {
    const { machine } = world();
    expect(codeOf(() => machine.addDevice(peerDriver({ addressBits }).driver))).toBe('EINVAL');
  });
});

test('random mappings, moves, devices that come and go, refuse and fall silent: every peer has what is shared, and nothing else', () => {
  const seed = fc.readConfigureGlobal().seed!;
  const random = randomOf(seed);
  for (let round = 0; round < 8; round++) {
    const w = world({}, { addressBits: 30 }, {});
    const { machine, space } = w;
    const devices = w.contexts.map(({ device }) => device);
    let contexts: Context[] = [...w.contexts];
    const attempt = (call: () => unknown): void => {
      try {
        call();
      } catch (error) {
        if (!isFarfaultError(error)) throw error;
      }
    };
    const some = (): AddressRange => {
      const start = BASE + HUGE * random(24) + (random(3) === 0 ? PAGE * random(512) : 0);
      return { start, end: start + PAGE * (1 + random(1200)) };
    };
    for (let i = 0; i < 50; i++) {
      for (const own of w.owns) {
        const from = BASE / PAGE + 512 * random(24);
        own.taken = random(3) === 0 ? (page) => page >= from && page < from + 800 : () => false;
        own.says = random(25) === 0 ? 'failure' : undefined;
      }
      switch (random(7)) {
        case 0:
        case 1:
          attempt(() => space.mmap(shared(1 + random(3 * HUGE), random(3) === 0 ? { at: BASE + HUGE * random(24), fixed: true } : {})));
          break;
        case 2:
          attempt(() => space.mmap({ bytes: PAGE * (1 + random(600)), at: BASE + HUGE * random(24) }));
          break;
        case 3:
          attempt(() => space.munmap(some()));
          break;
        case 4: {
          const to = random(3) === 0 ? { to: BASE + HUGE * random(24) } : {};
          attempt(() => space.mremap(some(), { bytes: PAGE * (1 + random(1500)), mayMove: random(4) > 0 || 'to' in to, ...to }));
          break;
        }
        case 5: {
          const addr = BASE + PAGE * random(24 * 512);
          attempt(() => (random(2) === 0 ? space : (contexts[random(contexts.length)] ?? space)).write(addr, Uint8Array.of(i)));
          break;
        }
        default: {
          const device = devices[random(3)]!;
          const context = contexts.find((each) => each.device === device);
          if (context) attempt(() => context.detach());
          else attempt(() => contexts.push(space.attach(device)));
          contexts = contexts.filter(({ isAttached }) => isAttached);
        }
      }
      const attached = w.owns.filter((_, at) => contexts.some(({ device }) => device === devices[at]));
      expectAgreed({ ...w, owns: attached });
      for (const own of w.owns) if (!attached.includes(own)) expect(own.reserved.size, `seed ${seed}, round ${round}, ${i}`).toBe(0);
      expect(machine.verify()).toBeUndefined();
    }
    space.close();
    expect(w.owns.map(({ reserved, wrong }) => [reserved.size, wrong])).toEqual([
      [0, []],
      [0, []],
      [0, []],
    ]);
    expect(machine.nodes.map((node) => node.used).filter((count) => count > 0)).toEqual([]);
    expectClean(machine);
    machines.pop();
    machine.close();
  }
});

/**
 * A page that moves at once beside a page that moves in steps. Who listens to a machine makes it move in steps: the same operations on one that is heard and one that is not must leave the same behind, after
 * each of them: results and errors, entries, counters, references, frames, sequences, calls of the driver.
 */
import {
  type AddressRange,
  type AddressSpace,
  type Context,
  createMachineSync,
  type DevicePolicy,
  isFarfaultError,
  type Machine,
  MiB,
  type Pin,
  type Ticket,
} from 'farfault';
import { type AttachMode, type Copies, defineDriver, deviceTable, deviceTlb, type Driver, type GmMmu, type Phys } from 'farfault/gmem';
import type { IntervalNotifier, InvalidateEvent } from 'farfault/mm';
import * as L from '../../assembly/layout.ts';
import { afterEach, describe, expect, test } from 'vitest';
import { expectClean, PAGE } from '../machine/probe.ts';

/** How the copy engine does what it is asked for: at once, later, never, or it throws. */
type Manner = 'now' | 'later' | 'fails' | 'fails later' | 'throws';

interface Shape {
  readonly engine: boolean;
  readonly allocator: 'core' | 'driver';
  readonly kind: 'private' | 'coherent';
  readonly pages: number;
  /** Somebody else has subscribed to the second quarter of the pages. */
  readonly subscribed?: boolean;
  /** What a fault moves; one page. */
  readonly granuleBytes?: number;
  readonly mode?: AttachMode;
  readonly policy?: DevicePolicy;
}

const PAGES = 24;

/** A machine, what its driver was asked for, and what it is to do about the next copies. */
class World {
  readonly machine: Machine;
  readonly space: AddressSpace;
  readonly context: Context;
  readonly calls: string[] = [];
  manner: Manner = 'now';
  open: { readonly ticket: Ticket; readonly copies: Copies } | undefined;
  child: AddressSpace | undefined;
  pin: Pin | undefined;
  private asked = 0;
  /** Address of the first page. */
  readonly start: number;

  constructor(shape: Shape, heard: boolean) {
    this.machine = createMachineSync({ dram: 40 * PAGE, deviceMemory: 2 ** 20, tablePages: 256 });
    if (heard) this.machine.onEvent(() => {});
    this.space = this.machine.createAddressSpace();
    this.context = this.space.attach(this.machine.addDevice(this.driver(shape), shape.policy), shape.mode && { mode: shape.mode });
    this.start = this.space.mmap({ bytes: PAGES * PAGE }).start;
    const [start, end] = [this.start + (PAGES / 4) * PAGE, this.start + (PAGES / 2) * PAGE];
    const invalidate = (event: InvalidateEvent, notifier: IntervalNotifier): boolean => {
      notifier.setSequence(event.sequence);
      this.calls.push(`${event.reason} ${event.cause} ${event.end - event.start}`);
      return true;
    };
    if (shape.subscribed) this.space.subscribe({ start, end }, { invalidate });
  }

  private driver({ engine, allocator, kind, pages, granuleBytes = PAGE }: Shape): Driver {
    const copied =
      (what: string) =>
      (copies: Copies): Ticket | void => {
        const list: string[] = [];
        copies.each((n, fromMemory, fromPage, toMemory, toPage) => list.push(`${n} ${fromMemory}.${fromPage} ${toMemory}.${toPage}`));
        this.calls.push(`${what} ${list.join(', ')}`);
        if (this.manner === 'throws') throw new Error('the engine is broken');
        if (this.manner === 'now') return copies.perform();
        const ticket = this.context.ticket(what);
        if (this.manner === 'fails') ticket.fail('no');
        else this.open = { ticket, copies: copies.keep() };
        return ticket;
      };
    const free = Array.from({ length: pages }, (_, page) => page);
    const phys: Phys = {
      // Now and then it has none though there are some.
      allocPage: () => {
        const page = ++this.asked % 5 === 0 ? undefined : free.shift();
        this.calls.push(`alloc ${page}`);
        return page;
      },
      freePage: (page) => {
        this.calls.push(`free ${page}`);
        free.push(page);
      },
      victims: (spared) => [...Array(pages).keys()].filter((page) => !free.includes(page) && !spared(page)).slice(0, 1),
    };
    return defineDriver(() => ({
      name: 'card',
      granuleBytes,
      memory: [{ name: 'ram', kind, bytes: pages * PAGE, allocator }],
      attach: (context: Context): GmMmu => ({
        pmap: deviceTable(context),
        tlb: deviceTlb(context, 4),
        ...(allocator === 'driver' && { phys }),
        ...(engine && { copy: { toDevice: copied('in'), toHost: copied('out'), zero: copied('zero') } }),
      }),
    }))();
  }

  /** The copy that was put off is made, or fails. */
  finish(): void {
    const { open } = this;
    this.open = undefined;
    if (!open) return;
    if (this.manner === 'fails later') open.ticket.fail('no');
    else {
      open.copies.perform();
      open.ticket.complete();
    }
  }

  /** One operation, `number` says which one and where. Returns what came of it. */
  async run(number: number): Promise<string> {
    const page = (number >>> 8) % PAGES;
    const addr = this.start + page * PAGE + ((number >>> 16) % 500) * 8;
    const bytes = Uint8Array.of(number, number >>> 8, number >>> 16);
    const later = async <T>(verb: Promise<T>): Promise<T> => {
      let ended = false;
      verb.then(
        () => (ended = true),
        () => (ended = true),
      );
      for (await Promise.resolve(); !ended; await Promise.resolve()) {
        this.finish();
      }
      return verb;
    };
    const range = { start: this.start + page * PAGE, end: this.start + Math.min(PAGES, page + 3) * PAGE };
    const turns: (() => unknown)[] = [
      () => later(this.space.readAsync(addr, 3)),
      () => later(this.space.writeAsync(addr, bytes)),
      () => later(this.context.readAsync(addr, 3)),
      () => later(this.context.writeAsync(addr, bytes)),
      () => later(this.context.writeAsync(addr, bytes)),
      () =>
        later(
          this.context.submitAsync({
            accesses: [
              { op: 'read', addr, bytes: 3 },
              { op: 'write', addr, bytes: 2, value: 77 },
            ],
          }),
        ).then((report) => [...report.observed, report.rounds, ...report.cancelled]),
      () => {
        this.manner = 'now';
        this.space.madvise(range, 'dontneed');
      },
      () => this.space.mprotect(range, number & 0x10000 ? 'rw' : 'r'),
      () => {
        this.manner = 'now';
        if (this.child) this.child = void this.child.close();
        else this.child = this.space.fork();
      },
      () => {
        this.manner = 'now';
        if (this.pin) this.pin = void this.pin.unpin();
        else this.pin = this.space.pin({ start: range.start, end: range.start + PAGE }, { write: true });
      },
      () => {
        this.manner = 'now';
        return this.child?.read(addr, 3);
      },
    ];
    this.manner = (['now', 'now', 'later', 'now', 'fails', 'fails later', 'later'] as const)[(number >>> 4) % 7]!;
    try {
      const result = await turns[number % turns.length]!();
      return result instanceof Uint8Array || Array.isArray(result) ? `done ${[...result].join()}` : 'done';
    } catch (error) {
      if (!isFarfaultError(error)) throw error;
      return error.message;
    } finally {
      this.manner = 'now';
    }
  }

  /** All that can be seen of it. */
  get state(): object {
    const { machine, space, context } = this;
    const { core } = machine.platform;
    // The entry of the CPU, that of the device, and who has the frame.
    const pages: string[] = [];
    for (let vpn = this.start / PAGE; vpn < this.start / PAGE + PAGES; vpn++) {
      const words = [space.table, context.table!.table].map((table) => `${core.entry(table, vpn).toString(16)} ${core.entryLow}`);
      const record = core.frameRecord(core.entryLow);
      pages.push(
        [...words, core.field(record, L.FRAME_REFS), core.field(record, L.FRAME_MAPS), core.field(record, L.FRAME_FLAGS)].join(' | '),
      );
    }
    return {
      pages,
      counters: machine.counters,
      nodes: machine.nodes.map(({ name, used, peak }) => `${name} ${used} of ${peak}`),
      sequence: space.notifiers.sequence,
      flushes: context.flushCounts,
      tlb: context.tlbCounts,
      charged: context.charged,
      calls: this.calls.splice(0),
    };
  }

  end(): void {
    if (this.pin) this.pin.unpin();
    this.child?.close();
    expectClean(this.machine);
    this.space.close();
    expect(this.machine.nodes.map(({ used }) => used).reduce((sum, used) => sum + used)).toBe(0);
    this.machine.close();
  }
}

const shapes: readonly Shape[] = [
  { engine: false, allocator: 'core', kind: 'private', pages: 32 },
  { engine: true, allocator: 'core', kind: 'private', pages: 10 },
  { engine: true, allocator: 'driver', kind: 'private', pages: 10 },
  { engine: false, allocator: 'core', kind: 'coherent', pages: 32 },
  { engine: true, allocator: 'core', kind: 'private', pages: 10, subscribed: true },
];

const SEED = Number(globalThis.process?.env['FARFAULT_SEED'] ?? 5);

describe.each(shapes)('a device with %o', (shape) => {
  test.each([0, 1, 2, 3])(`is the same whether a page moves at once or in steps (seed ${SEED} + %i)`, async (n) => {
    const [steps, once] = [new World(shape, true), new World(shape, false)];
    let random = Math.imul(SEED + n, 0x9e3779b1) | 1;
    for (let i = 0; i < 400; i++) {
      random ^= random << 13;
      random ^= random >>> 17;
      random ^= random << 5;
      const number = Math.imul(random, 0x85ebca6b) >>> 0;
      expect(await once.run(number), `operation ${i}`).toBe(await steps.run(number));
      expect(once.state, `after operation ${i}`).toEqual(steps.state);
      expect(once.machine.verify()).toBeUndefined();
      // Who pays could be wrong in both alike: alone in the machine, the space pays for all that is in use.
      if (!once.child)
        for (const { name, used } of once.machine.nodes) expect(once.space.charged[name], `${name} after ${i}`).toBe(used * PAGE);
    }
    steps.end();
    once.end();
  });
});

/** What is not the common fault of a device, and what is but only just: `space`, its first page, and what is looked at afterwards. */
const arrangements: Readonly<Record<string, (world: World) => unknown>> = {
  'a write to a page that has lost the right to write': ({ space, context, start }) => {
    space.write(start, Uint8Array.of(1));
    space.fork().close();
    context.write(start, Uint8Array.of(2));
    return [...space.read(start, 1)];
  },
  'a write to a page that others have, too': ({ space, context, start }) => {
    space.write(start, Uint8Array.of(1));
    const child = space.fork();
    context.write(start, Uint8Array.of(2));
    const has = [...child.read(start, 1)];
    child.close();
    return has;
  },
  'a page of zeros, read, then written': ({ space, context, start }) => {
    space.read(start, 1);
    context.read(start, 1);
    context.write(start, Uint8Array.of(2));
    return [...space.read(start, 1)];
  },
  'a hole of hugetlb-like memory': ({ machine, space, context }) => {
    const { start } = space.mmap({ bytes: 2 * MiB, hugetlb: 2 * MiB });
    try {
      context.read(start, 1);
    } finally {
      machine.verify();
      space.munmap({ start, end: start + 2 * MiB });
    }
  },
  'a mapping without rights, one that is read-only, and none': ({ space, context, start }) => {
    const none = space.mmap({ bytes: PAGE, prot: 'none' });
    const readOnly = space.mmap({ bytes: PAGE, prot: 'r' });
    const accesses = [none.start, readOnly.start, start - 64 * PAGE].flatMap((addr) => [
      { op: 'write' as const, addr, bytes: 1, value: 1 },
      { op: 'read' as const, addr, bytes: 1 },
    ]);
    const { cancelled, observed } = context.submit({ accesses, lanes: 6 });
    return [...cancelled, ...observed];
  },
  'more lanes than the memory has frames': ({ context, start }) => {
    const accesses = Array.from({ length: PAGES }, (_, i) => ({ op: 'write' as const, addr: start + i * PAGE, bytes: 8, value: i }));
    const { rounds, order } = context.submit({ accesses, lanes: PAGES });
    return [rounds, ...order];
  },
  'more pages than the space may have of the memory': ({ context, start }) => {
    context.limit(2 * PAGE);
    for (let page = 0; page < 4; page++) context.write(start + page * PAGE, Uint8Array.of(page));
    return context.charged;
  },
  'accesses that need two pages': ({ context, start }) => {
    const accesses = [0, 1, 2, 1].map((page) => ({ op: 'write' as const, addr: start + (page + 1) * PAGE - 4, bytes: 8, value: page }));
    return [...context.submit({ accesses, lanes: 3 }).order];
  },
  'a table page that cannot be had': ({ machine, space, context, start }) => {
    // One page of every 2 MiB: each of them wants a table page of its own, on both sides.
    const many = space.mmap({ bytes: 400 * 2 * MiB });
    let served = 0;
    try {
      for (; served < 400; served++) context.write(many.start + served * 2 * MiB, Uint8Array.of(1));
    } finally {
      space.munmap(many);
      context.write(start, Uint8Array.of(served));
    }
    return machine.nodes.map(({ used }) => used);
  },
  'somebody waits to have the mappings for himself': async (world) => {
    const { machine, space, context, start } = world;
    context.write(start, Uint8Array.of(1));
    const hold = { start: start + 4 * PAGE, end: start + 5 * PAGE };
    world.manner = 'later';
    const touch = space.readAsync(start, 1);
    world.manner = 'now';
    const unmap = space.munmapAsync(hold);
    const read = context.readAsync(start + PAGE, 1);
    const waiting = machine.pending.map(({ steps, waitsFor }) => `${steps[0]}: ${waitsFor.replace(/\d+/g, 'n')}`);
    world.finish();
    await Promise.all([touch, unmap, read]);
    return waiting;
  },
};

/** The same arrangement leaves the same behind on a machine that somebody listens to, and on one that nobody does. */
async function expectSame(shape: Shape, arrangement: (world: World) => unknown): Promise<void> {
  const outcomes = [];
  for (const heard of [true, false]) {
    const world = new World(shape, heard);
    const result = await Promise.resolve(world)
      .then(arrangement)
      .catch((error: unknown) => {
        if (!isFarfaultError(error)) throw error;
        return error.message;
      });
    expect(world.machine.verify()).toBeUndefined();
    outcomes.push({ result, state: world.state });
    world.end();
  }
  expect(outcomes[1]).toEqual(outcomes[0]);
}

describe.each([shapes[0]!, shapes[1]!, shapes[2]!])('a device with %o', (shape) => {
  test.each(Object.entries(arrangements))('is the same at once and in steps: %s', async (_, arrangement) => {
    await expectSame(shape, arrangement);
  });
});

/** The status of each access, and what it read. */
function touched({ space }: World, ...accesses: readonly (readonly ['read' | 'write', number])[]): unknown[] {
  return accesses.map(([op, addr]) => {
    const bytes = Uint8Array.of(9);
    const { status } = op === 'read' ? space.tryRead(addr, bytes) : space.tryWrite(addr, bytes);
    return [op, status, ...bytes];
  });
}

/** Writes pages of memory of its own until `left` frames of the host are left. */
function fill({ machine, space }: World, left: number): AddressRange {
  const [host] = machine.nodes;
  const range = space.mmap({ bytes: (host!.frames - host!.used) * PAGE });
  for (let addr = range.start; host!.frames - machine.nodes[0]!.used > left; addr += PAGE) space.write(addr, Uint8Array.of(1));
  return range;
}

/** What is not the common fault of the CPU, and what is but only just. */
const touches: Readonly<Record<string, (world: World) => unknown>> = {
  'a page of the device, read and written': (world) => {
    const { context, start } = world;
    for (let page = 0; page < 4; page++) context.write(start + page * PAGE, Uint8Array.of(page));
    return touched(world, ['read', start], ['write', start + PAGE], ['read', start + PAGE], ['read', start + 2 * PAGE]);
  },
  'holes, and a page of zeros that is written': (world) => {
    const { start } = world;
    return touched(world, ['read', start], ['write', start], ['write', start + PAGE], ['read', start]);
  },
  'a page of zeros that a device translates': (world) => {
    const { context, start } = world;
    fill(world, 2);
    context.limit(PAGE);
    context.write(start, Uint8Array.of(1));
    touched(world, ['read', start + PAGE]);
    context.read(start + PAGE, 1);
    return [touched(world, ['write', start + PAGE]), ...context.read(start + PAGE, 1)];
  },
  'the host has one frame, and then none': (world) => {
    const { context, start } = world;
    for (let page = 0; page < 3; page++) context.write(start + page * PAGE, Uint8Array.of(page + 1));
    const range = fill(world, 1);
    const [read, write] = ['read', 'write'] as const;
    touched(world, [read, start + 4 * PAGE]);
    const first = touched(world, [read, start], [read, start + PAGE], [write, start + 3 * PAGE], [write, start + 4 * PAGE]);
    world.space.munmap(range);
    return [first, touched(world, [read, start + PAGE], [write, start + 3 * PAGE], [write, start + 4 * PAGE])];
  },
  'mappings without rights, without the right to write, and none': (world) => {
    const { space, context, start } = world;
    for (const page of [0, 1]) context.write(start + page * PAGE, Uint8Array.of(7));
    space.mprotect({ start, end: start + PAGE }, 'none');
    space.mprotect({ start: start + PAGE, end: start + 3 * PAGE }, 'r');
    const places = [start, start + PAGE, start + 2 * PAGE, start - 64 * PAGE];
    return touched(world, ...places.flatMap((addr) => (['write', 'read'] as const).map((op) => [op, addr] as const)));
  },
  'a page of the device, and a hole, of a space that is at its limit': (world) => {
    const { space, context, start } = world;
    for (const page of [0, 1]) context.write(start + page * PAGE, Uint8Array.of(7));
    space.limit(PAGE);
    return touched(world, ['read', start], ['read', start + PAGE], ['write', start + 2 * PAGE], ['read', start + 2 * PAGE]);
  },
  'a page that is pinned to the device': (world) => {
    const { space, context, start } = world;
    context.write(start, Uint8Array.of(7));
    space.hmadvise({ start, end: start + PAGE }, 'pinned', { device: context.device });
    return touched(world, ['read', start], ['write', start]);
  },
  'a page of the device that others have, too': (world) => {
    const { space, context, start } = world;
    context.write(start, Uint8Array.of(7));
    const child = space.fork();
    const statuses = touched(world, ['read', start], ['write', start]);
    const has = [...child.read(start, 1)];
    child.close();
    return [statuses, has];
  },
  'an engine that throws': (world) => {
    const { context, start } = world;
    context.write(start, Uint8Array.of(7));
    world.manner = 'throws';
    let thrown = '';
    try {
      touched(world, ['read', start]);
    } catch (error) {
      thrown = (error as Error).message;
    }
    world.manner = 'now';
    return [thrown, touched(world, ['read', start])];
  },
  'a huge page of zeros where none is wanted any more': (world) => {
    const { space } = world;
    const range = space.mmap({ bytes: 4 * MiB });
    const huge = Math.ceil(range.start / (2 * MiB)) * 2 * MiB;
    space.madvise(range, 'hugepage');
    touched(world, ['read', huge + PAGE]);
    space.madvise(range, 'nohugepage');
    return touched(world, ['write', huge + PAGE], ['read', huge]);
  },
  'shared memory, and memory that is advised to be huge': (world) => {
    const { space } = world;
    const shared = space.mmap({ bytes: PAGE, shared: true }).start;
    const advised = space.mmap({ bytes: PAGE }).start;
    space.madvise({ start: advised, end: advised + PAGE }, 'hugepage');
    return touched(world, ...[shared, advised].flatMap((addr) => (['read', 'write'] as const).map((op) => [op, addr] as const)));
  },
  'a subscriber that has not finished when a page of zeros is to be written': async (world) => {
    const { machine, space, context, start } = world;
    touched(world, ['read', start]);
    const ticket = context.ticket('flush');
    const range = { start, end: start + PAGE };
    const subscription = space.subscribe(range, { invalidate: (event, notifier) => (notifier.setSequence(event.sequence), ticket) });
    const write = space.writeAsync(start, Uint8Array.of(5));
    const waiting = machine.pending.map(({ steps, waitsFor, holds }) => `${steps[0]}: ${waitsFor.replace(/\d+/g, 'n')}, ${holds.length}`);
    const unmap = space.munmapAsync({ start: start + PAGE, end: start + 2 * PAGE });
    ticket.complete();
    await Promise.all([write, unmap]);
    space.unsubscribe(subscription);
    return [waiting, ...space.read(start, 1)];
  },
  'the memory of the space is taken while an access to two pages is under way': async (world) => {
    const { machine, space, context, start } = world;
    context.write(start, Uint8Array.of(7));
    world.manner = 'later';
    const read = space.readAsync(start + PAGE - 1, 2);
    const reaped = machine.oomReapAsync(space);
    world.manner = 'now';
    world.finish();
    const ends = await Promise.allSettled([read, reaped]);
    return ends.map((end) => (end.status === 'fulfilled' ? String(end.value) : (end.reason as Error).message));
  },
  'somebody waits to have the mappings for himself': async (world) => {
    const { machine, space, context, start } = world;
    for (const page of [0, 1]) context.write(start + page * PAGE, Uint8Array.of(1));
    world.manner = 'later';
    const touch = space.readAsync(start, 1);
    world.manner = 'now';
    const unmap = space.munmapAsync({ start: start + 4 * PAGE, end: start + 5 * PAGE });
    const others = [space.readAsync(start + PAGE, 1), space.writeAsync(start + 2 * PAGE, Uint8Array.of(1))];
    const waiting = machine.pending.map(({ steps, waitsFor }) => `${steps[0]}: ${waitsFor.replace(/\d+/g, 'n')}`);
    world.finish();
    await Promise.all([touch, unmap, ...others]);
    return waiting;
  },
};

describe.each([
  ...shapes,
  { ...shapes[1]!, granuleBytes: 4 * PAGE },
  { ...shapes[1]!, mode: 'replicate' as const },
  { ...shapes[0]!, policy: { pinnedAccess: 'remote' as const } },
])('the CPU beside a device with %o', (shape) => {
  test.each(Object.entries(touches))('is the same at once and in steps: %s', async (_, arrangement) => {
    await expectSame(shape, arrangement);
  });
});

describe('a page that moves at once', () => {
  let world: World;
  afterEach(() => world.machine.close());
  const card: Shape = { engine: true, allocator: 'core', kind: 'private', pages: 8 };

  test('stays where it was, with its bytes, when the engine throws', () => {
    world = new World(card, false);
    const { space, context } = world;
    const { start } = space.mmap({ bytes: PAGE });
    space.write(start, Uint8Array.of(1, 2, 3));
    world.manner = 'throws';
    expect(() => context.read(start, 1)).toThrow('the engine is broken');
    expect(space.read(start, 3)).toEqual(Uint8Array.of(1, 2, 3));
    expect(world.machine.nodes.map(({ used }) => used)).toEqual([1, 0]);
    expect(world.machine.verify()).toBeUndefined();
  });

  test('is on its way while the engine copies: whoever touches it meanwhile waits, and finds its bytes', async () => {
    world = new World(card, false);
    const { space, context } = world;
    const { start } = space.mmap({ bytes: PAGE });
    space.write(start, Uint8Array.of(1, 2, 3));
    world.manner = 'later';
    const read = context.readAsync(start, 3);
    const touch = space.readAsync(start, 3);
    expect(world.machine.pending.map(({ waitsFor }) => waitsFor.replace(/\d+/, 'n'))).toEqual(
      ['ticket n (card: in)', 'page lock of frame n'].map((what) => what),
    );
    const { ticket, copies } = world.open!;
    world.manner = 'now';
    copies.perform();
    ticket.complete();
    expect(await read).toEqual(Uint8Array.of(1, 2, 3));
    expect(await touch).toEqual(Uint8Array.of(1, 2, 3));
    expectClean(world.machine);
  });
});

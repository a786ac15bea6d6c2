import { expect, test } from 'vitest';
import {
  type Context,
  type Copies,
  type Copy,
  deviceTable,
  type Driver,
  type FaultBatch,
  type GmMmu,
  HOST,
  Mappings,
  permits,
  type Phys,
  Ranges,
  type Step,
  type Translation,
} from '../../sdk/gmem/index.ts';
import mirror from '../../drivers/mirror/index.ts';
import nouveau from '../../drivers/nouveau/index.ts';
import { createMachineSync, type Machine } from '../../sdk/machine.ts';
import type { AddressRange, AddressSpace } from '../../sdk/mm/address-space.ts';
import { TicketBook } from '../../sdk/step/ticket.ts';
import {
  BrokenRule,
  Checks,
  checked,
  CALLING_RULES,
  DriverTrace,
  faulty,
  FaultPlan,
  randomProgram,
  traced,
  wrapFactory,
} from '../../sdk/testing/index.ts';
import { type Cast, runProgram } from './run-program.ts';

const PAGE = 4096;

const CASTS: readonly Cast[] = ['as it says', 'own table', 'dmirror'];

/** Every order of the three. */
function orders(checks: Checks): [string, (driver: Driver) => Driver][] {
  const layers = {
    traced: (driver: Driver) => traced(driver, new DriverTrace({ max: 50 })),
    checked: (driver: Driver) => checked(driver, checks),
    faulty: (driver: Driver) => faulty(driver, new FaultPlan()),
  };
  const all: [string, (driver: Driver) => Driver][] = [];
  for (const [a, outer] of Object.entries(layers))
    for (const [b, middle] of Object.entries(layers))
      for (const [c, inner] of Object.entries(layers))
        if (new Set([a, b, c]).size === 3) all.push([`${a}(${b}(${c}))`, (driver) => outer(middle(inner(driver)))]);
  return all;
}

test.each(CASTS)('random programs come out the same with middleware in any order, and no rule is broken: %s', (cast) => {
  for (let seed = 1; seed <= 6; seed++) {
    const program = randomProgram(20_000 + seed, 40);
    const bare = runProgram(program, cast, (driver) => driver);
    const checks = new Checks();
    for (const [name, wrap] of orders(checks)) expect([name, seed, ...runProgram(program, cast, wrap)]).toEqual([name, seed, ...bare]);
    checks.finish();
    expect(checks.text()).toBe('');
  }
});

// ---------------------------------------------------------------------------------------------------------- each rule, and who breaks it

/** A driver with a table, a cache, an allocator and a copy engine, of which a test breaks one operation. */
function own(broken: (good: Families, context: Context) => GmMmu = (good) => good, bytesIn: 'backed' | 'external' = 'backed'): Driver {
  let next = 0;
  const free: number[] = [];
  const used = new Set<number>();
  const phys: Phys = {
    allocPage() {
      const page = free.pop() ?? (next < 16 ? next++ : undefined);
      if (page !== undefined) used.add(page);
      return page;
    },
    freePage(page) {
      used.delete(page);
      free.push(page);
    },
    victims: (spared) => [...used].filter((page) => !spared(page)).slice(0, 4),
  };
  const vram = new Uint8Array(16 * PAGE);
  const external = bytesIn === 'external';
  const copy: Copy = {
    toDevice: (copies) => (external ? copies.eachHost((page, _pages, bytes) => vram.set(bytes, page * PAGE)) : copies.perform()),
    toHost: (copies) =>
      external ? copies.eachHost((page, pages, bytes) => bytes.set(vram.subarray(page * PAGE, (page + pages) * PAGE))) : copies.perform(),
    zero: (copies) =>
      external ? copies.each((pages, _m, _p, _to, page) => vram.fill(0, page * PAGE, (page + pages) * PAGE)) : copies.perform(),
  };
  const once = new Map<object, Phys>();
  return {
    name: 'own',
    memory: [{ name: 'vram', kind: 'private', bytes: 16 * PAGE, allocator: 'driver', bytesIn }],
    attach(context) {
      const table = new Map<number, Translation>();
      const good: Families = {
        pmap: {
          enter: (mappings) =>
            mappings.each((vpn, pages, page, memory, write) => {
              for (let i = 0; i < pages; i++) table.set(vpn + i, { vpn: vpn + i, memory, page: page + i, write });
            }),
          release: (ranges) => {
            for (const vpn of [...table.keys()]) ranges.each((start, pages) => vpn >= start && vpn < start + pages && table.delete(vpn));
          },
          destroy: () => table.clear(),
        },
        tlb: { invalidate: () => undefined },
        walk: {
          translate: (vpn, access) => {
            const entry = table.get(vpn);
            return permits(entry, access) ? entry : undefined;
          },
          harvest: (ranges, marks) => ranges.each((vpn) => marks.add(vpn, true)),
        },
        copy,
        phys,
        fault: {
          service: (batch) => {
            const { records } = batch;
            return context.batchStep().of(batch, [...records]);
          },
        },
        detach: () => undefined,
      };
      const mmu = broken(good, context);
      // One allocator for all contexts.
      if (mmu.phys && !once.has(phys)) once.set(phys, mmu.phys);
      return mmu.phys ? { ...mmu, phys: once.get(phys)! } : mmu;
    },
  };
}

type Families = Required<Pick<GmMmu, 'pmap' | 'tlb' | 'walk' | 'copy' | 'phys' | 'fault' | 'detach'>>;

/** A program that needs every family; what the driver makes of it does not matter. */
function exercise(driver: Driver): void {
  const machine = createMachineSync({ dram: 256 * PAGE, deviceMemory: 64 * PAGE, tablePages: 256 });
  const attempt = (verb: () => unknown): void => {
    try {
      verb();
    } catch {
      // The context has failed, or a verb was refused: that is for others to see.
    }
  };
  try {
    const device = machine.addDevice(driver);
    const space = machine.createAddressSpace();
    const range = space.mmap({ bytes: 24 * PAGE });
    attempt(() => {
      const context = space.attach(device);
      attempt(() => space.write(range.start, new Uint8Array(4 * PAGE).fill(1)));
      attempt(() => context.submit({ accesses: [{ op: 'write', addr: range.start, bytes: 8, value: 1 }] }));
      attempt(() => context.read(range.start, 3 * PAGE));
      attempt(() => context.migrate({ start: range.start, end: range.start + 8 * PAGE }, { to: 'device' }));
      attempt(() => context.read(range.start, 8 * PAGE));
      attempt(() => context.read(space.mmap({ bytes: 2 * PAGE, prot: 'r' }).start, PAGE));
      attempt(() => context.harvest({ start: range.start, end: range.start + 4 * PAGE }));
      attempt(() => space.read(range.start, PAGE));
      attempt(() => context.read(range.start, PAGE));
      attempt(() => space.munmap({ start: range.start, end: range.start + 2 * PAGE }));
      // More than its memory holds.
      for (let page = 8; page < 24; page++) {
        attempt(() => context.submit({ accesses: [{ op: 'write', addr: range.start + page * PAGE, bytes: 8, value: 2 }] }));
      }
      // And in one batch.
      const accesses = Array.from({ length: 14 }, (_, i) => ({
        op: 'write' as const,
        addr: range.start + (4 + i) * PAGE,
        bytes: 8,
        value: 3,
      }));
      attempt(() =>
        context.submit({ accesses: [...accesses, ...accesses.map((each) => ({ ...each, addr: each.addr + 6 * PAGE }))], lanes: 28 }),
      );
      attempt(() => context.read(range.start, PAGE));
      attempt(() => context.reaches(range.start / PAGE, false));
      attempt(() => context.detach());
    });
  } finally {
    machine.close();
  }
}

function found(driver: Driver): string {
  const checks = new Checks();
  exercise(checked(driver, checks));
  checks.finish();
  return checks.text();
}

test('a good driver breaks no rule, with its bytes in the machine or of its own', () => {
  expect(found(own())).toBe('');
  expect(found(own((good) => good, 'external'))).toBe('');
});

/** A good driver with one operation in place of its own. */
type Breaking = (good: Families, context: Context) => GmMmu;

let keptRanges: Ranges | undefined;
let keptMappings: Mappings | undefined;
let keptCopies: Copies | undefined;
let keptBatch: FaultBatch | undefined;

const BROKEN: [string, string, Breaking][] = [
  [
    'ranges that are kept',
    'tlb.invalidate "ranges" was lent until its call returned',
    (good) => ({
      ...good,
      tlb: {
        invalidate(ranges) {
          const before = keptRanges;
          keptRanges = ranges;
          before?.each(() => undefined);
        },
      },
    }),
  ],
  [
    'mappings that are kept',
    'pmap.enter "mappings" was lent',
    (good) => ({
      ...good,
      pmap: {
        ...good.pmap,
        enter(mappings) {
          void keptMappings?.pages;
          keptMappings = mappings;
          good.pmap.enter(mappings);
        },
      },
    }),
  ],
  [
    'copies that are kept without keep()',
    'copy.toDevice "copies" was lent',
    (good) => ({
      ...good,
      copy: {
        ...good.copy,
        toDevice(copies) {
          keptCopies?.perform();
          keptCopies = copies;
          return good.copy.toDevice!(copies);
        },
      },
    }),
  ],
  [
    'a batch that is kept',
    'fault.service "batch" was lent',
    (good) => ({
      ...good,
      fault: {
        service(batch) {
          if (keptBatch) void keptBatch.records;
          keptBatch = batch;
          return good.fault.service(batch);
        },
      },
    }),
  ],
  [
    'a list that is changed',
    'is changed by clear()',
    (good) => ({ ...good, pmap: { ...good.pmap, release: (ranges) => void ranges.clear() } }),
  ],
  [
    'a promise instead of work',
    'returns a promise',
    (good) => ({ ...good, pmap: { ...good.pmap, enter: (mappings) => Promise.resolve(good.pmap.enter(mappings)) as unknown as void } }),
  ],
  [
    'a flush that answers something',
    'true is not a ticket',
    (good) => ({ ...good, tlb: { invalidate: () => true as unknown as undefined } }),
  ],
  [
    'a release that returns a ticket',
    'returns a ticket, for which nobody waits',
    (good, context) => ({
      ...good,
      pmap: {
        ...good.pmap,
        release(ranges) {
          good.pmap.release(ranges);
          const ticket = context.ticket('release');
          ticket.complete();
          return ticket as unknown as void;
        },
      },
    }),
  ],
  [
    'a ticket that is never completed',
    'was returned and never completed',
    (good, context) => ({ ...good, tlb: { invalidate: () => context.ticket('flush') } }),
  ],
  [
    'a ticket of another machine',
    'is of another machine',
    (good) => ({ ...good, tlb: { invalidate: () => new TicketBook().open('elsewhere') } }),
  ],
  [
    'another page than was asked',
    'is asked for, and',
    (good) => ({ ...good, walk: { translate: (vpn, access) => bent(good.walk.translate(vpn, access), { vpn: vpn + 1 }) } }),
  ],
  [
    'a page that there is not',
    'which there is not',
    (good) => ({ ...good, walk: { translate: (vpn, access) => bent(good.walk.translate(vpn, access), { page: 1e6 }) } }),
  ],
  [
    'a read-only answer to a write',
    'is answered to a write',
    (good) => ({ ...good, walk: { translate: (vpn, access) => bent(good.walk.translate(vpn, access), { write: false }) } }),
  ],
  [
    'a right that was not entered',
    'was entered without that right',
    (good) => ({ ...good, walk: { translate: (vpn) => bent(good.walk.translate(vpn, 'read'), { write: true }) } }),
  ],
  [
    'another page of the right memory',
    'was entered last',
    (good) => ({
      ...good,
      walk: {
        translate(vpn, access) {
          const entry = good.walk.translate(vpn, access);
          return entry && bent(entry, { page: entry.page + 1 });
        },
      },
    }),
  ],
  [
    'a translation that outlives its release',
    'after its release',
    (good) => ({ ...good, pmap: { ...good.pmap, release: () => undefined } }),
  ],
  [
    'a translation that nobody entered',
    'which was never entered',
    (good) => ({
      ...good,
      walk: { translate: (vpn, access) => good.walk.translate(vpn, access) ?? { vpn, memory: HOST, page: 600, write: access === 'write' } },
    }),
  ],
  [
    'marks of other pages',
    'is marked, which was not asked for',
    (good) => ({ ...good, walk: { ...good.walk, harvest: (_ranges, marks) => marks.add(3, true) } }),
  ],
  ['a page in use that is handed out again', 'is in use already', (good) => ({ ...good, phys: { ...good.phys, allocPage: () => 3 } })],
  [
    'a page that the memory does not have',
    '16 is not a page below 16',
    (good) => ({ ...good, phys: { ...good.phys, allocPage: () => 16 } }),
  ],
  [
    'a victim that is not in use',
    'is not in use',
    (good) => ({ ...good, phys: { allocPage: twelve(good.phys), freePage: good.phys.freePage, victims: () => [15] } }),
  ],
  ['a victim twice', 'is named twice', (good) => ({ ...good, phys: { ...good.phys, victims: () => [0, 0] } })],
  [
    'a spared victim',
    'is spared',
    (good) => ({
      ...good,
      phys: {
        ...good.phys,
        victims: (spared) => {
          const kept = [...Array(16).keys()].filter((page) => spared(page));
          return kept.length > 0 ? kept : good.phys.victims!(spared);
        },
      },
    }),
  ],
  [
    'a verb of the machine in an operation',
    'of the machine that it serves',
    (good, context) => ({
      ...good,
      tlb: {
        invalidate() {
          void context.space.readAsync(0x10000, 1).catch(() => undefined);
        },
      },
    }),
  ],
  ['a fault service without a step', 'and not a step', (good) => ({ ...good, fault: { service: () => ({}) as Step } })],
  [
    'a count that is none',
    'served of the batch is NaN',
    (good) => ({
      ...good,
      fault: {
        service(batch) {
          batch.served = NaN;
          return good.fault.service(batch);
        },
      },
    }),
  ],
];

function bent(entry: Translation | undefined, change: Partial<Translation>): Translation | undefined {
  return entry && { ...entry, ...change };
}

/** It says that it is full at twelve. */
function twelve(phys: Phys): () => number | undefined {
  let given = 0;
  return () => (given++ < 12 ? phys.allocPage() : undefined);
}

test.each(BROKEN)('the driver is told of %s', (_what, detail, broken) => {
  [keptRanges, keptMappings, keptCopies, keptBatch] = [undefined, undefined, undefined, undefined];
  const text = found(own(broken));
  expect(text).toContain(detail);
  expect(text).not.toContain('broken by the framework');
});

test('an external memory is told of host bytes that it writes instead of reading', () => {
  const bad = own(
    (good) => ({
      ...good,
      copy: {
        ...good.copy,
        toDevice(copies) {
          good.copy.toDevice!(copies);
          copies.eachHost((_page, _pages, bytes) => bytes.fill(0));
        },
      },
    }),
    'external',
  );
  expect(found(bad)).toContain('the bytes of the host are written, which were to be read');
});

test('host bytes that are kept are junk after the call', () => {
  let kept: Uint8Array | undefined;
  const driver = own(
    (good) => ({
      ...good,
      copy: {
        ...good.copy,
        toDevice(copies) {
          good.copy.toDevice!(copies);
          copies.eachHost((_page, _pages, bytes) => (kept = bytes));
        },
      },
    }),
    'external',
  );
  expect(found(driver)).toBe('');
  expect(new Set(kept)).toEqual(new Set([0xdb]));
});

test('a driver with the ready-made table and a cache of its own is held to what the table has', () => {
  const cached = (broken: { forgets?: boolean; adds?: boolean; moves?: boolean } = {}): Driver => ({
    name: 'cached',
    memory: [{ name: 'vram', kind: 'private', bytes: 16 * PAGE }],
    attach(context) {
      const table = deviceTable(context);
      const cache = new Map<number, Translation>();
      return {
        pmap: table,
        tlb: {
          invalidate: (ranges) =>
            ranges.each((start, pages) => {
              for (const vpn of cache.keys()) if (!broken.forgets && vpn >= start && vpn < start + pages) cache.delete(vpn);
            }),
        },
        walk: {
          translate(vpn, access) {
            let entry = cache.get(vpn);
            if (!permits(entry, access)) entry = table.walk(vpn, access);
            if (entry && broken.adds) entry = { ...entry, write: true };
            if (entry && broken.moves) entry = { ...entry, page: entry.page ^ 1 };
            if (entry) cache.set(vpn, entry);
            return entry;
          },
        },
      };
    },
  });
  expect(found(cached())).toBe('');
  expect(found(cached({ forgets: true }))).toMatch(
    /^walk\.translate: translates page \d+, which its table does not have \(rule "translations"/m,
  );
  expect(found(cached({ adds: true }))).toMatch(/^walk\.translate: page \d+ may be written, and its table has it without that right/m);
  expect(found(cached({ moves: true }))).toMatch(/^walk\.translate: translates page \d+ to frame \d+, and its table has \d+/m);
});

// ------------------------------------------------------------------------------------------------------------- the framework's promises

/** A world in which a test plays the framework, and breaks its promises. */
function played(
  play: (world: { machine: Machine; space: AddressSpace; range: AddressRange; context: Context; mmu: Families }) => void,
): string {
  const checks = new Checks();
  const machine = createMachineSync({ dram: 256 * PAGE, deviceMemory: 64 * PAGE, tablePages: 256 });
  try {
    const space = machine.createAddressSpace();
    const range = space.mmap({ bytes: 8 * PAGE });
    const context = space.attach(machine.addDevice(checked(own(), checks)));
    context.write(range.start, Uint8Array.of(1));
    expect(checks.text()).toBe('');
    play({ machine, space, range, context, mmu: context.mmu as Families });
  } finally {
    machine.close();
  }
  return checks.text();
}

function pagesOf(vpn: number, pages = 1): Ranges {
  const ranges = new Ranges();
  ranges.add(vpn, pages);
  return ranges;
}

function mappingOf(context: Context, vpn: number, frame: number, write = true): Mappings {
  const mappings = new Mappings(context);
  mappings.add(vpn, frame, write);
  return mappings;
}

test.each([
  [
    'locked',
    'no lock is held',
    ({ context, mmu, range }) => mmu.pmap.enter(mappingOf(context, range.start / PAGE, context.ownFrame(range.start / PAGE))),
  ],
  ['as mapped', 'may not be read', ({ context, mmu }) => mmu.pmap.enter(mappingOf(context, 5, 600))],
  ['as mapped', 'is entered with frame 600', ({ context, mmu, range }) => mmu.pmap.enter(mappingOf(context, range.start / PAGE, 600))],
  [
    'as mapped',
    'may not be written',
    ({ context, mmu, range, space }) => {
      space.mprotect(range, 'r');
      mmu.pmap.enter(mappingOf(context, range.start / PAGE, context.ownFrame(range.start / PAGE)));
    },
  ],
  [
    'quiet',
    'is running',
    ({ context, mmu, range, space }) => {
      const entered = mappingOf(context, range.start / PAGE, context.ownFrame(range.start / PAGE));
      space.subscribe(range, {
        invalidate() {
          if (context.isInvalidating) mmu.pmap.enter(entered);
          return true;
        },
      });
      space.mprotect(range, 'r');
    },
  ],
  [
    'taking away',
    'before tlb.invalidate',
    ({ mmu, range }) => {
      mmu.pmap.release(pagesOf(range.start / PAGE));
      mmu.walk.translate(range.start / PAGE, 'read');
    },
  ],
  [
    'taking away',
    'are not among what the caches are told of',
    ({ mmu, range }) => {
      mmu.pmap.release(pagesOf(range.start / PAGE, 2));
      void mmu.tlb.invalidate(pagesOf(range.start / PAGE));
    },
  ],
  ['taking away', 'comes free, and is entered', ({ context, mmu, range }) => mmu.phys.freePage(context.residency(range.start / PAGE)!)],
  ['pages once', 'was not handed out', ({ mmu }) => mmu.phys.freePage(9)],
  ['pages once', 'are not handed back when the last context leaves', ({ mmu }) => mmu.detach()],
  [
    'leaving',
    'is called after detach',
    ({ context, mmu }) => {
      context.detach();
      mmu.walk.translate(1, 'read');
    },
  ],
  ['leaving', 'is called before detach', ({ mmu }) => mmu.pmap.destroy!()],
  ['arguments', 'there are no ranges', ({ mmu }) => mmu.pmap.release(new Ranges())],
  ['arguments', 'are not a range of an address space', ({ mmu }) => mmu.pmap.release(pagesOf(-1))],
  ['arguments', 'is not a page number', ({ mmu }) => void mmu.walk.translate(NaN, 'read')],
  ['arguments', 'is not a page below', ({ mmu }) => mmu.phys.freePage(NaN)],
] satisfies [string, string, Parameters<typeof played>[0]][])('the framework is told of: %s, %s', (rule, detail, play) => {
  const text = played(play);
  expect(text).toContain(detail);
  expect(text).toContain(`rule "${rule}", broken by the framework`);
});

test('an operation that is entered while another one runs is told of', () => {
  const checks = new Checks();
  const driver = own((good, context) => ({
    ...good,
    tlb: { invalidate: () => void context.mmu.walk!.translate(1, 'read') },
  }));
  exercise(checked(driver, checks));
  expect(checks.text()).toContain('rule "one at a time"');
  expect(CALLING_RULES).toContain('one at a time');
});

test('a broken rule is thrown where that is asked for, and is what the context has failed of', () => {
  const driver = checked(own((good) => ({ ...good, phys: { ...good.phys, allocPage: () => 16 } })));
  const machine = createMachineSync({ dram: 256 * PAGE, deviceMemory: 64 * PAGE, tablePages: 256 });
  const space = machine.createAddressSpace();
  const context = space.attach(machine.addDevice(driver));
  const range = space.mmap({ bytes: PAGE });
  expect(() => context.write(range.start, Uint8Array.of(1))).toThrow('broken by the driver');
  expect(context.failure?.message).toContain('16 is not a page below 16');
  expect(new BrokenRule({ rule: 'quiet', operation: 'attach', detail: 'x', by: 'framework' }).message).toBe(
    'attach: x (rule "quiet", broken by the framework)',
  );
  machine.close();
});

// ------------------------------------------------------------------------------------------------------------------- seeds, traces, wraps

test('a seeded plan does the same each time, and its log is what it did', () => {
  const program = randomProgram(7, 60);
  const log = (seed: number): string[] => {
    const plans: FaultPlan[] = [];
    const told = runProgram(program, 'own table', (driver) => {
      const plan = FaultPlan.seeded(seed, {
        rate: 0.05,
        operations: ['walk.translate', 'pmap.enter'],
        faults: ['throw', 'refuse', 'partial'],
      });
      plans.push(plan);
      return faulty(driver, plan);
    });
    for (const plan of plans) expect(plan.log.split('\n').length).toBe(plan.planned.length + 1);
    expect(plans.some(({ happened }) => happened)).toBe(true);
    return [...told, ...plans.map((plan) => plan.log)];
  };
  expect(log(3)).toEqual(log(3));
  expect(log(3)).not.toEqual(log(4));
});

test('a plan that is counted again begins again, and a rate of 0 lets everything through', () => {
  const plan = FaultPlan.seeded(1, { rate: 1, operations: ['attach'] });
  const driver = faulty(mirror(), plan);
  const machine = createMachineSync({ dram: 64 * PAGE });
  const device = machine.addDevice(driver);
  const space = machine.createAddressSpace();
  expect(() => space.attach(device)).toThrow('planned');
  expect(plan.log).toBe("seed 1, rate 1\nfail('attach', 1, 'throw')");
  plan.count();
  expect(plan.happened).toBe(false);
  expect(() => space.attach(device)).toThrow('planned');
  plan.fail('detach', 1, 'throw');
  space.attach(device).detach();
  machine.close();
  expect(() => FaultPlan.seeded(1, { rate: 2 })).toThrow('is not between 0 and 1');
  expect(() => FaultPlan.seeded(0.5, { rate: 1 })).toThrow('is not an integer');
});

test('a trace has a line for every call, and keeps no more than it may', () => {
  const run = (trace: DriverTrace): void => {
    const machine = createMachineSync({ dram: 64 * PAGE });
    const space = machine.createAddressSpace();
    const context = space.attach(machine.addDevice(traced(mirror({ ownTable: true }), trace)));
    const range = space.mmap({ bytes: 4 * PAGE });
    context.write(range.start, Uint8Array.of(7));
    space.munmap(range);
    machine.close();
  };
  const trace = new DriverTrace();
  run(trace);
  const text = trace.text();
  expect(text).toContain('space 0 attach -> save pmap tlb walk');
  expect(text).toMatch(/walk\.translate 0x10000 write -> nothing/);
  expect(text).toMatch(/pmap\.enter 0x10000\+1 host:\d+ rw/);
  expect(text).toMatch(/pmap\.release 0x10000\+4\n.*tlb\.invalidate 0x10000\+4/);
  expect(trace.calls.map(({ order }) => order)).toEqual(trace.calls.map((_, i) => i + 1));
  const again = new DriverTrace();
  run(again);
  expect(again.text()).toBe(text);
  const short = new DriverTrace({ max: 3 });
  run(short);
  expect([short.calls.length, short.dropped, short.total]).toEqual([3, trace.total - 3, trace.total]);
  expect(short.text()).toBe([`... ${trace.total - 3} calls before these`, ...text.split('\n').slice(-3)].join('\n'));
});

test('a trace tells tickets as they are now, and what was thrown', () => {
  const plan = new FaultPlan();
  const trace = new DriverTrace();
  const machine = createMachineSync({ dram: 64 * PAGE, deviceMemory: 64 * PAGE });
  const space = machine.createAddressSpace();
  const context = space.attach(machine.addDevice(traced(faulty(nouveau({ vram: 64 * PAGE }), plan), trace)));
  const range = space.mmap({ bytes: 4 * PAGE });
  space.write(range.start, Uint8Array.of(7));
  plan.fail('copy.toDevice', 1, 'late');
  expect(() => context.migrate(range, { to: 'device' })).toThrow('waits for');
  expect(trace.text()).toContain('(nouveau: late copy.toDevice), pending');
  plan.finish();
  expect(trace.text()).toContain('(nouveau: late copy.toDevice), done');
  plan.fail('fault.service', 1, 'throw');
  expect(() => context.submit({ accesses: [{ op: 'read', addr: space.mmap({ bytes: PAGE }).start, bytes: 1 }] })).toThrow('planned');
  expect(trace.text()).toContain('throws "planned: fault.service throws"');
  machine.close();
});

test('a factory of wrapped drivers takes the options of the one inside', () => {
  const checks = new Checks();
  const make = wrapFactory(nouveau, (driver) => checked(driver, checks));
  expect(make.driverFactory).toBe(true);
  expect(make({ vram: 64 * PAGE }).memory?.[0]?.bytes).toBe(64 * PAGE);
  exercise(make({ vram: 64 * PAGE }));
  expect(checks.text()).toBe('');
});

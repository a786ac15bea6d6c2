import { afterEach, describe, expect, test } from 'vitest';
import { type AddressRange, type AddressSpace, type Context, type Machine, MiB } from 'farfault';
import {
  type CommandStep,
  type Copies,
  defineDriver,
  DONE,
  type Driver,
  type MemoryDescription,
  MIGRATE_COMPOUND,
  MIGRATE_MOVE,
  MIGRATE_VALID,
  MIGRATE_WRITE,
  type Migration,
  type Progress,
  type Run,
  SELECT_COMPOUND,
  SELECT_PRIVATE,
  SELECT_SYSTEM,
  type Step,
  type Ticket,
} from 'farfault/gmem';
import { Evict } from '../../sdk/gmem/evict.ts';
import { expectClean, PAGE, smallMachine, used } from './probe.ts';

const HUGE = 2 * MiB;
const PAGES = 512;

interface Options {
  /** MiB of its memory. */
  readonly hbm?: number;
  readonly kind?: MemoryDescription['kind'];
  readonly granuleBytes?: number;
  readonly engine?: boolean;
  readonly name?: string;
  readonly submissions?: string[];
  /** Copies that are left unfinished. */
  readonly tickets?: Ticket[];
}

/** A command that runs one step of the driver's under the mmap lock. */
class Locked implements CommandStep {
  readonly name = 'locked';
  result: unknown = undefined;
  readonly #context: Context;
  readonly #make: () => Step;

  constructor(of: Context, make: () => Step) {
    this.#context = of;
    this.#make = make;
  }

  next(run: Run): Progress {
    const { mmapLock } = this.#context.hmm;
    if (!this.result) {
      if (!mmapLock.tryAcquireShared(run)) return run.waitFor(mmapLock);
      this.result = this.#make();
      return run.call(this.result as Step);
    }
    mmapLock.release(run);
    return DONE;
  }

  abort(run: Run): void {
    const { mmapLock } = this.#context.hmm;
    if (run.holds(mmapLock)) mmapLock.release(run);
  }
}

/** A device that takes 2 MiB at a time, into tables that have entries for as much. */
const gpu = defineDriver(
  ({ hbm = 8, kind = 'private', granuleBytes = HUGE, engine = false, name = 'gpu', submissions = [], tickets }: Options): Driver => ({
    name,
    memory: [{ name: 'hbm', kind, bytes: hbm * MiB }],
    granuleBytes,
    pageBytes: [PAGE, HUGE],
    attach(of) {
      const command = (make: unknown): CommandStep => new Locked(of, make as () => Step);
      if (!engine) return { command };
      const copy = (what: string, copies: Copies): Ticket | void => {
        submissions.push(`${what} ${copies.count}x${copies.pages}`);
        copies.perform();
        if (!tickets) return;
        const ticket = of.ticket(what);
        tickets.push(ticket);
        return ticket;
      };
      return {
        command,
        copy: {
          toDevice: (copies) => copy('toDevice', copies),
          toHost: (copies) => copy('toHost', copies),
          zero: (copies) => copy('zero', copies),
        },
      };
    },
  }),
);

let machine: Machine;
let space: AddressSpace;
let context: Context;
let range: AddressRange;

/** A space with `huge` huge windows, advised, and a device. */
function begin(options: Options = {}, { dram = 16, huge = 1 }: { dram?: number; huge?: number } = {}): void {
  machine = smallMachine({ dram: dram * MiB, deviceMemory: 32 * MiB });
  space = machine.createAddressSpace();
  context = space.attach(machine.addDevice(gpu(options)));
  range = space.mmap({ bytes: huge * HUGE, align: HUGE });
  space.madvise(range, 'hugepage');
}

const at = (page: number): number => range.start + page * PAGE;
const order = (page: number): number => (space.snapshot({ start: at(page), end: at(page + 1) })[1]! >>> 8) & 0x1f;
const fill = (pages = PAGES): void => {
  for (let page = 0; page < pages; page++) space.write(at(page), Uint8Array.of(page & 0xff, page >> 8));
};
/** Pages whose bytes are not those of `fill`. */
const wrong = (from: { read(addr: number, bytes: number): Uint8Array }, pages = PAGES): number[] =>
  Array.from({ length: pages }, (_, page) => page).filter((page) => {
    const [low, high] = from.read(at(page), 2);
    return low !== (page & 0xff) || high !== page >> 8;
  });
/** Uses host memory up, all but `left` pages. */
function exhaust(left: number): AddressRange {
  const free = machine.platform.host.free - left;
  const rest = space.mmap({ bytes: free * PAGE });
  for (let page = 0; page < free; page++) space.write(rest.start + page * PAGE, Uint8Array.of(1));
  expect(machine.platform.host.free).toBe(left);
  return rest;
}

afterEach(() => {
  expectClean(machine);
  space.close();
  expect(used(machine)).toMatch(/^(\S+ 0(, )?)+$/);
  expectClean(machine);
  machine.close();
});

for (const kind of ['private', 'coherent'] as const) {
  for (const engine of [false, true]) {
    describe(`a huge page, ${kind} memory${engine ? ', a copy engine' : ''}`, () => {
      test('goes to the device as one by a fault, and home as one', () => {
        const submissions: string[] = [];
        begin({ kind, engine, submissions });
        fill();
        expect(order(0)).toBe(9);
        expect(context.fault(at(77), 'write')).toBe('served');
        expect([order(0), order(511)]).toEqual([9, 9]);
        expect(used(machine)).toBe('dram 0, gpu.hbm 512');
        expect(wrong(context)).toEqual([]);
        expect(context.migrate(range, { to: 'host' })).toBe(PAGES);
        expect(used(machine)).toBe('dram 512, gpu.hbm 0');
        expect(order(300)).toBe(9);
        expect(wrong(space)).toEqual([]);
        expect(machine.counters.migratedByCause.fault).toEqual({ pages: PAGES, bytes: HUGE });
        expect(machine.counters.migratedByCause.user).toEqual({ pages: PAGES, bytes: HUGE });
        if (engine) expect(submissions).toEqual(['toDevice 1x512', 'toHost 1x512']);
      });

      test('goes by migrate, a hole and the huge page of zeros likewise', () => {
        begin({ kind, engine }, { huge: 3 });
        fill();
        space.read(at(PAGES), 1);
        expect(context.migrate(range, { to: 'device' })).toBe(3 * PAGES);
        expect([0, 1, 2].map((window) => order(window * PAGES))).toEqual([9, 9, 9]);
        expect(used(machine)).toBe('dram 0, gpu.hbm 1536');
        expect(machine.counters.cleared).toBe(2 * PAGES);
        expect(wrong(context)).toEqual([]);
        expect([...context.read(at(PAGES + 3), 1), ...context.read(at(2 * PAGES + 3), 1)]).toEqual([0, 0]);
        context.write(at(2 * PAGES + 3), Uint8Array.of(7));
        expect([...space.read(at(2 * PAGES + 3), 1)]).toEqual([7]);
        expect(wrong(space)).toEqual([]);
      });
    });
  }
}

describe('a huge page without the right to write, of memory that has it', () => {
  test.each([0, 5, 511])('goes to the device as one, and page %i cannot be written there without a fault', (page) => {
    begin();
    fill();
    // What was shared with a child stays without the right when the child has gone.
    space.fork().close();
    expect(context.fault(at(77), 'read')).toBe('served');
    expect([order(0), used(machine)]).toEqual([9, 'dram 0, gpu.hbm 512']);
    expectClean(machine);
    const faults = machine.counters.deviceFaults['gpu'] ?? 0;
    context.write(at(page), Uint8Array.of(page & 0xff, page >> 8));
    expect(machine.counters.deviceFaults['gpu']).toBe(faults + 1);
    expect(wrong(context)).toEqual([]);
  });
});

describe('a CPU touch of a huge page on the device', () => {
  test('brings it home as one', () => {
    begin();
    fill();
    context.migrate(range, { to: 'device' });
    expect([...space.read(at(300), 2)]).toEqual([300 & 0xff, 1]);
    expect(order(0)).toBe(9);
    expect(machine.counters.cpuFaults.home).toBe(1);
    expect(used(machine)).toBe('dram 512, gpu.hbm 0');
    expect(wrong(space)).toEqual([]);
  });

  test('brings it home as small pages where no huge one is free', () => {
    begin();
    fill();
    context.migrate(range, { to: 'device' });
    const rest = exhaust(0);
    // Every other page comes free: as many as are needed, none of them in one piece.
    for (let page = 0; page < 2 * PAGES; page += 2) {
      space.munmap({ start: rest.start + page * PAGE, end: rest.start + (page + 1) * PAGE });
    }
    expect([...space.read(at(300), 2)]).toEqual([300 & 0xff, 1]);
    expect(order(0)).toBe(0);
    expect(wrong(space)).toEqual([]);
    expect(machine.counters.cpuFaults.home).toBe(1);
    space.munmap(rest);
    expect(used(machine)).toBe('dram 512, gpu.hbm 0');
  });

  test('brings at least the touched page home when there are fewer free; the rest stays, in pieces', () => {
    begin();
    fill();
    context.migrate(range, { to: 'device' });
    const rest = exhaust(3);
    expect([...space.read(at(300), 2)]).toEqual([300 & 0xff, 1]);
    expect(used(machine)).toMatch(/gpu.hbm 509$/);
    expect(order(0)).toBe(0);
    expect(space.tryRead(at(400), new Uint8Array(1)).status).toBe('no memory');
    expect(wrong(context, 300)).toEqual([]);
    space.munmap(rest);
    expect(wrong(space)).toEqual([]);
  });
});

describe('many huge pages on the device', () => {
  test('come home by one migration, each as one', () => {
    begin({ hbm: 8 }, { huge: 3 });
    fill(3 * PAGES);
    expect(context.migrate(range, { to: 'device' })).toBe(3 * PAGES);
    let moves = 0;
    machine.onEvent(({ type }) => (moves += type === 'pages.migrated' ? 1 : 0));
    expect(context.migrate(range, { to: 'host' })).toBe(3 * PAGES);
    expect(moves).toBe(1);
    expect([0, 1, 2].map((window) => order(window * PAGES))).toEqual([9, 9, 9]);
    expect(wrong(space, 3 * PAGES)).toEqual([]);
  });

  test('are evicted together, each as one, and where one has to be split nothing beside it goes', () => {
    begin({ hbm: 8 }, { huge: 2 });
    fill(2 * PAGES);
    const small = space.mmap({ bytes: PAGE });
    context.migrate(range, { to: 'device' });
    space.write(small.start, Uint8Array.of(7));
    expect(context.migrate(small, { to: 'device' })).toBe(1);
    const { base } = context.device.memory!.node;
    const heads = [base, base + PAGES, base + 2 * PAGES];
    expect(space.dump(small)).toBe('D');
    const evict = (frames: readonly number[]): void =>
      machine.platform.scheduler.runSync(new Evict(machine.platform).from(context.device.memory!).frames([...frames]));
    evict([heads[0]!, heads[1]!]);
    expect([order(0), order(PAGES), used(machine)]).toEqual([9, 9, 'dram 1024, gpu.hbm 1']);
    context.migrate(range, { to: 'device' });
    const rest = exhaust(0);
    for (let page = 0; page < 2 * PAGES + 8; page += 2)
      space.munmap({ start: rest.start + page * PAGE, end: rest.start + (page + 1) * PAGE });
    evict([heads[1]!]);
    expect(space.dump(small)).toBe('D');
    space.munmap(rest);
    expect(wrong(space, 2 * PAGES)).toEqual([]);
    expect(space.read(small.start, 1)[0]).toBe(7);
  });

  test('are all named when a migration splits them', () => {
    begin({ hbm: 8 }, { huge: 3 });
    const cut: number[] = [];
    machine.onEvent((event) => {
      if (event.type === 'page.split') cut.push(event.vpn - range.start / PAGE);
    });
    const plain = space.attach(
      machine.addDevice(
        defineDriver((): Driver => ({ name: 'plain', memory: [{ name: 'ram', kind: 'private', bytes: 8 * MiB }], attach: () => ({}) }))(),
      ),
    );
    fill(3 * PAGES);
    expect(plain.migrate(range, { to: 'device' })).toBe(3 * PAGES);
    expect(cut).toEqual([0, PAGES, 2 * PAGES]);
    expect(wrong(space, 3 * PAGES)).toEqual([]);
  });
});

describe('device memory in pieces', () => {
  test('takes a huge page as 512 small ones', () => {
    // 4 MiB, of which a page in each half is taken.
    begin({ hbm: 4 });
    const taken: AddressRange[] = [];
    const small = space.mmap({ bytes: 1024 * PAGE });
    space.madvise(small, 'nohugepage');
    for (let page = 0; page < 1024; page++) space.write(small.start + page * PAGE, Uint8Array.of(1));
    context.migrate(small, { to: 'device' });
    for (let page = 0; page < 1024; page += 2) taken.push({ start: small.start + page * PAGE, end: small.start + (page + 1) * PAGE });
    for (const page of taken) space.munmap(page);
    fill();
    expect(order(0)).toBe(9);
    expect(context.migrate(range, { to: 'device' })).toBe(PAGES);
    expect(order(0)).toBe(0);
    expect(used(machine)).toBe('dram 0, gpu.hbm 1024');
    expect(wrong(context)).toEqual([]);
    expect(wrong(space)).toEqual([]);
  });

  test('that is full of huge pages evicts one for another, no more', () => {
    begin({ hbm: 4 }, { huge: 4 });
    fill(4 * PAGES);
    for (let window = 0; window < 4; window++) expect(context.fault(at(window * PAGES + 5), 'read')).toBe('served');
    expect(machine.counters.evictions).toBe(2);
    expect(machine.counters.migratedByCause.evict.pages).toBe(2 * PAGES);
    expect([0, 1, 2, 3].map((window) => order(window * PAGES))).toEqual([9, 9, 9, 9]);
    expect(used(machine)).toBe('dram 1024, gpu.hbm 1024');
    expect(wrong(context, 4 * PAGES)).toEqual([]);
    expect(wrong(space, 4 * PAGES)).toEqual([]);
  });

  test('evicts a huge victim in pieces where the host has no huge frame', () => {
    begin({ hbm: 2 }, { huge: 2 });
    fill(PAGES);
    context.migrate({ start: range.start, end: range.start + HUGE }, { to: 'device' });
    expect(order(0)).toBe(9);
    const rest = exhaust(0);
    for (let page = 0; page < 2 * PAGES; page += 2) {
      space.munmap({ start: rest.start + page * PAGE, end: rest.start + (page + 1) * PAGE });
    }
    // The second window is a hole, and takes the place of the first as a whole.
    expect(context.fault(at(PAGES), 'write')).toBe('served');
    expect([order(0), order(PAGES)]).toEqual([0, 9]);
    context.write(at(PAGES), Uint8Array.of(9));
    space.munmap(rest);
    expect(wrong(space, PAGES)).toEqual([]);
    expect([...space.read(at(PAGES), 1)]).toEqual([9]);
  });
});

describe('a device of small granules', () => {
  test('splits the huge page and takes what it needs', () => {
    begin({ granuleBytes: PAGE });
    fill();
    expect(context.fault(at(7), 'write')).toBe('served');
    expect(used(machine)).toBe('dram 511, gpu.hbm 1');
    expect([order(6), order(7)]).toEqual([0, 0]);
    expect(wrong(context, 8)).toEqual([]);
    expect(wrong(space)).toEqual([]);
  });
});

describe('a huge page on a memory that is unplugged, or a device that leaves', () => {
  test('comes home as one', () => {
    begin();
    fill();
    context.migrate(range, { to: 'device' });
    context.device.removeMemory(context.device.memories[0]!);
    expect(order(0)).toBe(9);
    expect(used(machine)).toBe('dram 512');
    expect(wrong(space)).toEqual([]);
  });

  test('comes home in pieces where it must', () => {
    begin();
    fill();
    context.migrate(range, { to: 'device' });
    const rest = exhaust(0);
    for (let page = 0; page < 2 * PAGES; page += 2) {
      space.munmap({ start: rest.start + page * PAGE, end: rest.start + (page + 1) * PAGE });
    }
    context.detach();
    expect(order(0)).toBe(0);
    expect(used(machine)).toMatch(/gpu.hbm 0$/);
    expect(wrong(space)).toEqual([]);
  });
});

describe('an mprotect or munmap of part of a huge page on the device', () => {
  test('splits it there, and the device keeps the rest', () => {
    begin();
    fill();
    context.fault(at(0), 'write');
    space.munmap({ start: at(100), end: at(200) });
    expect(used(machine)).toBe('dram 0, gpu.hbm 412');
    space.mprotect({ start: at(200), end: at(300) }, 'r');
    expect(context.fault(at(250), 'write')).toBe('permission');
    expect(context.fault(at(150), 'read')).toBe('no mapping');
    expect(wrong(context, 100)).toEqual([]);
    context.write(at(400), Uint8Array.of(400 & 0xff));
    expect([...space.read(at(250), 2)]).toEqual([250, 0]);
    space.madvise({ start: at(0), end: at(100) }, 'dontneed');
  });
});

describe('a huge page in the hands of a driver', () => {
  const plan = (select: number, allocate: (migration: Migration) => void): Migration =>
    context.command(() => context.hmm.migrate(at(0) / PAGE, PAGES, { select: select | SELECT_COMPOUND, allocate })) as Migration;
  const memory = () => context.device.memories[0]!;
  const word = (migration: Migration, page: number): number => migration.source[page * 2 + 1]!;

  test('is one word for 512 pages, and has one target', () => {
    begin();
    fill();
    const migration = plan(SELECT_SYSTEM, (each) => {
      expect([0, 1, 511].map((page) => word(each, page))).toEqual([MIGRATE_VALID | MIGRATE_MOVE | MIGRATE_WRITE | MIGRATE_COMPOUND, 0, 0]);
      each.aim(0, context.hmm.takeFrame(memory(), 9));
    });
    expect([migration.moved, migration.copied, migration.refused, migration.verdict(at(300) / PAGE)]).toEqual([PAGES, PAGES, 0, 'moved']);
    expect([order(0), used(machine)]).toEqual([9, 'dram 0, gpu.hbm 512']);
    expect(wrong(context)).toEqual([]);
  });

  test('becomes 512 small ones when it gets small targets, of which some may be missing', () => {
    begin();
    fill();
    const migration = plan(SELECT_SYSTEM, (each) => {
      for (let page = 10; page < 20; page++) each.aim(page, context.hmm.takeFrame(memory()));
    });
    expect([migration.moved, migration.verdict(at(15) / PAGE), migration.verdict(at(20) / PAGE)]).toEqual([10, 'moved', 'refused']);
    expect([order(15), order(100), used(machine)]).toEqual([0, 0, 'dram 502, gpu.hbm 10']);
    expect(wrong(context, 32)).toEqual([]);
    expect(wrong(space)).toEqual([]);
  });

  test('stays whole when it gets no target, or when its driver throws', () => {
    begin();
    fill();
    expect(plan(SELECT_SYSTEM, () => {}).refused).toBe(PAGES);
    const throws = (each: Migration): void => {
      each.aim(0, context.hmm.takeFrame(memory(), 9));
      throw new Error('out of luck');
    };
    expect(() => plan(SELECT_SYSTEM, throws)).toThrow('out of luck');
    expect([order(0), used(machine)]).toEqual([9, 'dram 512, gpu.hbm 0']);
    expect(wrong(space)).toEqual([]);
  });

  test('is a hole that wants a huge frame, or small ones', () => {
    begin({}, { huge: 2 });
    const holes = context.command(() =>
      context.hmm.migrate(at(0) / PAGE, 2 * PAGES, {
        select: SELECT_SYSTEM | SELECT_COMPOUND,
        allocate(each) {
          expect([0, 1, 512, 1023].map((page) => word(each, page))).toEqual([
            MIGRATE_MOVE | MIGRATE_COMPOUND,
            0,
            MIGRATE_MOVE | MIGRATE_COMPOUND,
            0,
          ]);
          each.aim(0, context.hmm.takeFrame(memory(), 9));
          for (let page = PAGES; page < PAGES + 3; page++) each.aim(page, context.hmm.takeFrame(memory()));
        },
      }),
    ) as Migration;
    expect([holes.moved, holes.cleared, holes.copied, holes.refused]).toEqual([PAGES + 3, PAGES + 3, 0, 0]);
    expect([order(0), order(PAGES), used(machine)]).toEqual([9, 0, 'dram 0, gpu.hbm 515']);
    expect([...context.read(at(1), 1), ...context.read(at(PAGES + 1), 1)]).toEqual([0, 0]);
    expect(space.dump({ start: at(PAGES), end: at(PAGES + 4) })).toBe('DDD.');
  });

  test('comes home by frame to a huge frame, and is refused a small one', () => {
    begin();
    fill();
    context.migrate(range, { to: 'device' });
    const frame = memory().node.base + context.residency(at(0) / PAGE)!;
    const home = (order_: number): Migration =>
      context.command(() =>
        context.hmm.migrateFrames([frame, frame + 1], {
          allocate(each) {
            expect([each.pages, word(each, 0), word(each, 1)]).toEqual([2, MIGRATE_VALID | MIGRATE_MOVE | MIGRATE_COMPOUND, 0]);
            each.aim(0, context.hmm.hostFrame(order_));
          },
        }),
      ) as Migration;
    expect(home(0).moved).toBe(0);
    expect([order(0), used(machine)]).toEqual([9, 'dram 0, gpu.hbm 512']);
    expect(home(9).moved).toBe(PAGES);
    expect([order(0), used(machine)]).toEqual([9, 'dram 512, gpu.hbm 0']);
    expect(wrong(space)).toEqual([]);
  });

  test('is split for a migration that does not ask for it whole, or for a part of it', () => {
    begin();
    fill();
    const aim = (each: Migration): void => {
      for (let page = 0; page < each.pages; page++) {
        if (word(each, page) & MIGRATE_MOVE) each.aim(page, context.hmm.takeFrame(memory()));
      }
    };
    const part = context.command(() =>
      context.hmm.migrate(at(5) / PAGE, 3, { select: SELECT_SYSTEM | SELECT_COMPOUND, allocate: aim }),
    ) as Migration;
    expect([part.moved, order(0), used(machine)]).toEqual([3, 0, 'dram 509, gpu.hbm 3']);
    expect(wrong(space)).toEqual([]);
    expect(plan(SELECT_PRIVATE, () => {}).refused).toBe(0);
  });
});

describe('a huge page on its way', () => {
  test('is waited for by a CPU access and by a munmap of a part of it', async () => {
    const tickets: Ticket[] = [];
    begin({ engine: true, tickets });
    fill();
    const moving = context.migrateAsync(range, { to: 'device' });
    expect(space.dump({ start: at(0), end: at(3) })).toBe('mmm');
    const reading = space.readAsync(at(300), 2);
    expect(machine.verify()).toBe(undefined);
    tickets.shift()!.complete();
    expect(await moving).toBe(PAGES);
    for (let ticket = tickets.shift(); ticket; ticket = tickets.shift()) ticket.complete();
    expect([...(await reading)]).toEqual([300 & 0xff, 1]);
    const again = context.migrateAsync(range, { to: 'device' });
    const unmapping = space.munmapAsync({ start: at(0), end: at(100) });
    for (let ticket = tickets.shift(); ticket; ticket = tickets.shift()) ticket.complete();
    await again;
    await unmapping;
    expect(used(machine)).toBe('dram 0, gpu.hbm 412');
  });

  test('stays whole where it was when the copy fails', async () => {
    const tickets: Ticket[] = [];
    begin({ engine: true, tickets });
    fill();
    const moving = context.migrateAsync(range, { to: 'device' });
    tickets.shift()!.fail('the engine is broken');
    expect(await moving).toBe(0);
    expect([order(0), used(machine)]).toEqual([9, 'dram 512, gpu.hbm 0']);
    expect(wrong(space)).toEqual([]);
  });
});

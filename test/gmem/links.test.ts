import { afterEach, describe, expect, test } from 'vitest';
import { type EventOf, type Machine, MiB, restoreMachine } from 'farfault';
import { type Context, type Copies, defineDriver, deviceTlb, type Device, type Driver, type GmMmu, type Ticket } from 'farfault/gmem';
import { expectClean, PAGE, Probe, probeDriver, smallMachine, used } from '../machine/probe.ts';

const open: Machine[] = [];
afterEach(() => {
  for (const machine of open.splice(0)) machine.close();
});

/** One copy of a peer engine, as it was submitted. */
interface Submission {
  readonly by: string;
  readonly pieces: string[];
}

interface EngineOptions {
  readonly name: string;
  readonly bytesIn?: 'backed' | 'external';
  readonly granuleBytes?: number;
  readonly bytes?: number;
  /** What it has been told, and what it has not finished. */
  readonly log?: Submission[];
  readonly late?: { ticket: Ticket; work: () => void }[];
  readonly broken?: { is: boolean };
}

/** The bytes of external memories of one make of devices, by device: what reaches them all. */
const bytesOf = new Map<string, Uint8Array>();

/** A device whose engine reaches the memories of others. */
const withEngine = defineDriver((options: Partial<EngineOptions> = {}): Driver => {
  const { name = 'engine', bytesIn = 'backed', granuleBytes = PAGE, bytes = 16 * PAGE, log = [], late, broken } = options;
  const own = new Uint8Array(bytesIn === 'external' ? bytes : 0);
  bytesOf.set(name, own);
  const pageOf = (device: string, page: number, pages: number): Uint8Array =>
    bytesOf.get(device)!.subarray(page * PAGE, (page + pages) * PAGE);
  const run = (what: string, context: Context, work: () => void): Ticket | void => {
    if (!late) return work();
    const ticket = context.ticket(what);
    late.push({ ticket, work });
    return ticket;
  };
  return {
    name,
    memory: [{ name: 'ram', kind: 'private', bytes, bytesIn }],
    granuleBytes,
    pageBytes: [PAGE, 2 * MiB],
    attach: (context): GmMmu => ({
      tlb: deviceTlb(context),
      copy: {
        toDevice: (copies) =>
          bytesIn === 'external' ? copies.eachHost((page, _pages, view) => own.set(view, page * PAGE)) : copies.perform(),
        toHost: (copies) =>
          bytesIn === 'external' ? copies.eachHost((page, pages, view) => view.set(pageOf(name, page, pages))) : copies.perform(),
        zero: (copies) => {
          if (bytesIn === 'backed') return copies.perform();
          copies.each((pages, _m, _p, _memory, page) => pageOf(name, page, pages).fill(0));
        },
        peer: (copies: Copies) => {
          if (broken?.is) throw new Error('the engine is broken');
          const pieces: string[] = [];
          copies.eachPeer((from, to, pages) =>
            pieces.push(`${from.device}[${from.memory}]:${from.page} -> ${to.device}[${to.memory}]:${to.page} x${pages}`),
          );
          copies.each((pages, from, fromPage, to, toPage) =>
            pieces.push(`${Math.sign(from)}:${fromPage} -> ${Math.sign(to)}:${toPage} x${pages}`),
          );
          log.push({ by: name, pieces });
          const kept = copies.keep();
          return run('peer', context, () => {
            kept.perform();
            kept.eachPeer((from, to, pages, view) => {
              if (view.from.length > 0 && view.to.length > 0) return;
              const source = view.from.length > 0 ? view.from : pageOf(from.device, from.page, pages);
              const target = view.to.length > 0 ? view.to : pageOf(to.device, to.page, pages);
              target.set(source);
            });
          });
        },
      },
    }),
  };
});

/** The same device, whose engine reaches nobody else's memory. */
function withoutPeers(driver: Driver): Driver {
  return {
    ...driver,
    attach: (context) => {
      const mmu = driver.attach(context);
      const { toDevice, toHost, zero } = mmu.copy!;
      return { ...mmu, copy: { toDevice: toDevice!, toHost: toHost!, zero: zero! } };
    },
  };
}

interface Pair {
  readonly machine: Machine;
  readonly a: Context;
  readonly b: Context;
  readonly one: Device;
  readonly two: Device;
  readonly moves: string[];
}

function pair(first: Driver, second: Driver, link?: { coherent?: boolean } | 'none', dram = 8 * MiB): Pair {
  const machine = smallMachine({ dram, deviceMemory: 12 * MiB });
  open.push(machine);
  const one = machine.addDevice(first);
  const two = machine.addDevice(second);
  if (link !== 'none') machine.link(one, two, link);
  const space = machine.createAddressSpace();
  const moves: string[] = [];
  machine.onEvent((event) => {
    if (event.type !== 'pages.migrated') return;
    const { from, to, way, pages, cleared, cause } = event;
    moves.push(`${cause}: ${pages}+${cleared} ${from} -> ${to} (${way})`);
  });
  return { machine, a: space.attach(one), b: space.attach(two), one, two, moves };
}

/** Everything given back, nothing broken. */
function end({ machine, a }: Pair): void {
  expectClean(machine);
  a.space.close();
  expect(used(machine).replace(/zero \d+, /, '')).toMatch(/^dram 0(, \S+ 0)*$/);
  expectClean(machine);
}

const bytes = (...values: number[]): Uint8Array => Uint8Array.of(...values);

describe('a page on one device that another one needs', () => {
  test('goes by way of the host when there is no link, and is counted both ways', () => {
    const it = pair(probeDriver({ name: 'a' }), probeDriver({ name: 'b' }), 'none');
    const { start } = it.a.space.mmap({ bytes: PAGE });
    it.a.write(start, bytes(1, 2, 3));
    it.moves.length = 0;
    expect([...it.b.read(start, 3)]).toEqual([1, 2, 3]);
    expect(it.moves).toEqual(['home: 1+0 a.ram -> dram (toHost)', 'fault: 1+0 dram -> b.ram (toDevice)']);
    expect(it.machine.counters.transfers.peer).toBe(undefined);
    end(it);
  });

  test('goes directly over a link: one migration, its frame freed on the one and its translation withdrawn', () => {
    const first = new Probe({ name: 'a', allocator: 'driver' });
    const it = pair(first.driver, probeDriver({ name: 'b' }));
    const { start } = it.a.space.mmap({ bytes: PAGE });
    it.a.write(start, bytes(1, 2, 3));
    it.moves.length = 0;
    first.log.length = 0;
    it.b.write(start, bytes(9));
    expect(it.moves).toEqual(['fault: 1+0 a.ram -> b.ram (peer)']);
    expect(first.log).toEqual([`release ${(start / PAGE).toString(16)}+1`, `invalidate ${(start / PAGE).toString(16)}+1`, 'freePage 0']);
    expect(it.machine.counters.transfers.peer).toEqual({ 1: 1 });
    expect(it.machine.counters.migrated['a.ram']).toEqual({ 'b.ram': { pages: 1, bytes: PAGE } });
    expect([...it.a.read(start, 3)]).toEqual([9, 2, 3]);
    expect([...it.a.space.read(start, 3)]).toEqual([9, 2, 3]);
    expect(it.machine.counters.cpuFaults.home).toBe(1);
    end(it);
  });

  test('keeps its right to be written, or not', () => {
    const it = pair(probeDriver({ name: 'a' }), probeDriver({ name: 'b' }));
    const { start } = it.a.space.mmap({ bytes: 2 * PAGE });
    it.a.write(start, bytes(1));
    it.a.write(start + PAGE, bytes(1));
    it.a.space.mprotect({ start, end: start + PAGE }, 'r');
    expect(it.b.fault(start, 'read')).toBe('served');
    expect(it.b.fault(start + PAGE, 'read')).toBe('served');
    expect(it.b.fault(start, 'write')).toBe('permission');
    expect(it.b.fault(start + PAGE, 'write')).toBe('present');
    it.a.space.mprotect({ start, end: start + PAGE }, 'rw');
    it.b.write(start, bytes(7));
    expect([...it.a.read(start, 1)]).toEqual([7]);
    end(it);
  });

  test('is pulled by migrate, with those of the host; without a link it stays', () => {
    for (const link of [undefined, 'none'] as const) {
      const it = pair(probeDriver({ name: 'a' }), probeDriver({ name: 'b' }), link);
      const range = it.a.space.mmap({ bytes: 4 * PAGE });
      for (let page = 0; page < 3; page++) it.a.space.write(range.start + page * PAGE, bytes(page + 1));
      it.a.migrate({ start: range.start + PAGE, end: range.start + 2 * PAGE }, { to: 'device' });
      it.moves.length = 0;
      expect(it.b.migrate(range, { to: 'device' })).toBe(link ? 3 : 4);
      expect(it.moves).toEqual(
        link ? ['user: 2+1 dram -> b.ram (toDevice)'] : ['user: 1+0 a.ram -> b.ram (peer)', 'user: 2+1 dram -> b.ram (toDevice)'],
      );
      for (let page = 0; page < 3; page++) expect([...it.b.read(range.start + page * PAGE, 1)]).toEqual([page + 1]);
      end(it);
    }
  });

  test('comes with what else of its granule is on the same device', () => {
    const it = pair(probeDriver({ name: 'a' }), probeDriver({ name: 'b', granulePages: 4 }));
    const { start } = it.a.space.mmap({ bytes: 4 * PAGE, at: 16 * MiB, fixed: true });
    for (const page of [0, 1, 3]) it.a.write(start + page * PAGE, bytes(page + 1));
    it.a.space.write(start + 2 * PAGE, bytes(3));
    it.moves.length = 0;
    it.b.read(start, 1);
    expect(it.moves).toEqual(['fault: 3+0 a.ram -> b.ram (peer)']);
    it.b.read(start + 2 * PAGE, 1);
    expect(it.moves.slice(1)).toEqual(['fault: 1+0 dram -> b.ram (toDevice)']);
    end(it);
  });

  test('comes as far as there is room; the rest stays where it is, and an eviction goes to the host', () => {
    const it = pair(probeDriver({ name: 'a' }), probeDriver({ name: 'b', pages: 2 }));
    const range = it.a.space.mmap({ bytes: 4 * PAGE });
    for (let page = 0; page < 4; page++) it.a.write(range.start + page * PAGE, bytes(page + 1));
    it.moves.length = 0;
    it.b.read(range.start, 1);
    it.b.read(range.start + PAGE, 1);
    it.b.read(range.start + 2 * PAGE, 1);
    expect(it.moves).toEqual([
      'fault: 1+0 a.ram -> b.ram (peer)',
      'fault: 1+0 a.ram -> b.ram (peer)',
      'evict: 1+0 b.ram -> dram (toHost)',
      'fault: 1+0 a.ram -> b.ram (peer)',
    ]);
    for (let page = 0; page < 4; page++) expect([...it.a.space.read(range.start + page * PAGE, 1)]).toEqual([page + 1]);
    end(it);
  });

  test('that is shared with a child goes for both', () => {
    const it = pair(probeDriver({ name: 'a' }), probeDriver({ name: 'b' }));
    const { start } = it.a.space.mmap({ bytes: PAGE });
    it.a.write(start, bytes(5));
    const child = it.a.space.fork({ device: 'share' });
    const theirs = child.attach(it.one);
    expect([...theirs.read(start, 1)]).toEqual([5]);
    it.moves.length = 0;
    expect([...it.b.read(start, 1)]).toEqual([5]);
    expect([...theirs.read(start, 1)]).toEqual([5]);
    theirs.write(start, bytes(6));
    expect([...it.b.read(start, 1)]).toEqual([5]);
    expect([...child.read(start, 1)]).toEqual([6]);
    child.close();
    end(it);
  });
});

describe('a huge page on one device', () => {
  const huge = { bytes: 4 * MiB, granuleBytes: 2 * MiB };

  test('goes to another one whole', () => {
    const it = pair(withEngine({ name: 'a', ...huge }), withEngine({ name: 'b', ...huge }));
    const { start } = it.a.space.mmap({ bytes: 2 * MiB, at: 16 * MiB, fixed: true });
    it.a.space.madvise({ start, end: start + 2 * MiB }, 'hugepage');
    it.a.write(start, bytes(1));
    it.a.write(start + 2 * MiB - 1, bytes(2));
    it.moves.length = 0;
    expect([...it.b.read(start, 1), ...it.b.read(start + 2 * MiB - 1, 1)]).toEqual([1, 2]);
    expect(it.moves).toEqual(['fault: 512+0 a.ram -> b.ram (peer)']);
    it.b.space.write(start, bytes(3));
    expect(it.moves.slice(1)).toEqual(['home: 512+0 b.ram -> dram (toHost)']);
    end(it);
  });

  test('is split for one with small pages, of which what is needed goes', () => {
    const it = pair(withEngine({ name: 'a', ...huge }), withEngine({ name: 'b' }));
    const { start } = it.a.space.mmap({ bytes: 2 * MiB, at: 16 * MiB, fixed: true });
    it.a.space.madvise({ start, end: start + 2 * MiB }, 'hugepage');
    it.a.write(start, bytes(1));
    it.a.write(start + 7 * PAGE, bytes(2));
    it.moves.length = 0;
    expect([...it.b.read(start + 7 * PAGE, 1)]).toEqual([2]);
    expect(it.moves).toEqual(['fault: 1+0 a.ram -> b.ram (peer)']);
    expect([...it.a.read(start, 1)]).toEqual([1]);
    expect([...it.a.read(start + 7 * PAGE, 1)]).toEqual([2]);
    end(it);
  });
});

describe('copy.peer', () => {
  test('is the engine of the one that pulls, and names both sides as their drivers know them', () => {
    const log: Submission[] = [];
    const it = pair(withEngine({ name: 'a', log }), withEngine({ name: 'b', log }));
    const range = it.a.space.mmap({ bytes: 3 * PAGE });
    for (let page = 0; page < 3; page++) it.a.write(range.start + page * PAGE, bytes(page + 1));
    it.b.migrate(range, { to: 'device' });
    expect(log).toEqual([{ by: 'b', pieces: ['a[0]:0 -> b[0]:0 x3', '-1:0 -> 0:0 x3'] }]);
    for (let page = 0; page < 3; page++) expect([...it.b.read(range.start + page * PAGE, 1)]).toEqual([page + 1]);
    end(it);
  });

  test('is the engine of the one that pushes when the other has none', () => {
    const log: Submission[] = [];
    const it = pair(withEngine({ name: 'a', log }), probeDriver({ name: 'b' }));
    const { start } = it.a.space.mmap({ bytes: PAGE });
    it.a.write(start, bytes(4));
    expect([...it.b.read(start, 1)]).toEqual([4]);
    expect(log).toEqual([{ by: 'a', pieces: ['a[0]:0 -> b[0]:0 x1', '0:0 -> -1:0 x1'] }]);
    end(it);
  });

  test('moves between memories whose bytes the drivers hold; without it their pages go by way of the host', () => {
    const it = pair(withEngine({ name: 'a', bytesIn: 'external' }), withEngine({ name: 'b', bytesIn: 'external' }));
    const { start, end: last } = it.a.space.mmap({ bytes: PAGE });
    it.a.space.write(start, bytes(8));
    it.a.migrate({ start, end: last }, { to: 'device' });
    it.moves.length = 0;
    expect(it.b.migrate({ start, end: last }, { to: 'device' })).toBe(1);
    expect(it.moves).toEqual(['user: 1+0 a.ram -> b.ram (peer)']);
    expect([...it.a.space.read(start, 1)]).toEqual([8]);
    end(it);

    const other = pair(withoutPeers(withEngine({ name: 'c', bytesIn: 'external' })), probeDriver({ name: 'b' }));
    const range = other.a.space.mmap({ bytes: PAGE });
    other.a.space.write(range.start, bytes(8));
    other.a.migrate(range, { to: 'device' });
    other.moves.length = 0;
    expect([...other.b.read(range.start, 1)]).toEqual([8]);
    expect(other.moves).toEqual(['home: 1+0 c.ram -> dram (toHost)', 'fault: 1+0 dram -> b.ram (toDevice)']);
    end(other);
  });

  test.each([
    ['that pulls', (driver: Driver) => driver],
    ['that pushes', withoutPeers],
  ])(
    'of the one %s has nothing to do with the next page, from the host: that is for the engine of the one that wants it',
    (_, reaching) => {
      const it = pair(withEngine({ name: 'a', bytesIn: 'external' }), reaching(withEngine({ name: 'b', bytesIn: 'external' })));
      const { start } = it.a.space.mmap({ bytes: 2 * PAGE });
      it.a.space.write(start, bytes(8));
      it.a.space.write(start + PAGE, bytes(9));
      it.a.migrate({ start, end: start + PAGE }, { to: 'device' });
      it.moves.length = 0;
      for (const page of [0, 1]) expect(it.b.fault(start + page * PAGE, 'read')).toBe('served');
      expect(it.moves).toEqual(['fault: 1+0 a.ram -> b.ram (peer)', 'fault: 1+0 dram -> b.ram (toDevice)']);
      for (const page of [0, 1]) expect([...it.a.space.read(start + page * PAGE, 1)]).toEqual([8 + page]);
      end(it);
    },
  );

  test('that ends later keeps the page from everybody until then, and is in a saved machine', async () => {
    const late: { ticket: Ticket; work: () => void }[] = [];
    const it = pair(withEngine({ name: 'a' }), withEngine({ name: 'b', late }));
    const { start } = it.a.space.mmap({ bytes: PAGE });
    it.a.write(start, bytes(1));
    const pulled = it.b.readAsync(start, 1);
    const touched = it.a.space.readAsync(start, 1);
    await Promise.resolve();
    expect(late.length).toBe(1);
    const image = it.machine.save({ space: it.a.space, ticket: late[0]!.ticket });
    const again = await restoreMachine<{ space: typeof it.a.space; ticket: Ticket }>(image, {
      drivers: [withEngine({ name: 'a' }), withEngine({ name: 'b' })],
    });
    open.push(again.machine);
    expect(again.machine.links.map(({ a, b, coherent }) => [a.name, b.name, coherent])).toEqual([['a', 'b', false]]);
    // Its copy was in the process that saved: it fails, and the page is where it was.
    again.handles.ticket.fail('the process has ended');
    expect([...again.handles.space.read(start, 1)]).toEqual([1]);
    expect(again.machine.verify()).toBe(undefined);

    late[0]!.work();
    late.splice(0)[0]!.ticket.complete();
    expect([...(await pulled)]).toEqual([1]);
    expect([...(await touched)]).toEqual([1]);
    end(it);
  });

  test('that fails leaves the page where it was; the host gives it to the one that wants it', () => {
    const broken = { is: true };
    const late: { ticket: Ticket; work: () => void }[] = [];
    const it = pair(probeDriver({ name: 'a' }), withEngine({ name: 'b', late }));
    const { start, end: last } = it.a.space.mmap({ bytes: PAGE });
    it.a.write(start, bytes(1));
    const step = it.b.migrateStep({ start, end: last }, 'device');
    const done = it.machine.platform.scheduler.runAsync(step);
    late.splice(0)[0]!.ticket.fail('a broken wire');
    return done.then(() => {
      expect(step.moved).toBe(0);
      expect(it.b.residency(start / PAGE)).toBe(undefined);
      expect(it.a.residency(start / PAGE)).toBe(0);
      expect([...it.a.read(start, 1)]).toEqual([1]);
      end(it);
      const other = pair(probeDriver({ name: 'a' }), withEngine({ name: 'b', broken }));
      const range = other.a.space.mmap({ bytes: PAGE });
      other.a.write(range.start, bytes(1));
      expect(() => other.b.read(range.start, 1)).toThrow('the engine is broken');
      expect([...other.a.read(range.start, 1)]).toEqual([1]);
      end(other);
    });
  });
});

describe('machine.link', () => {
  test('refuses what is no pair of its devices, and a second link', () => {
    const it = pair(probeDriver({ name: 'a' }), probeDriver({ name: 'b' }));
    expect(() => it.machine.link(it.one, it.one)).toThrow('is the same device');
    expect(() => it.machine.link(it.two, it.one)).toThrow('is linked with b already');
    const other = smallMachine();
    open.push(other);
    expect(() => it.machine.link(it.one, other.addDevice(probeDriver()))).toThrow('is not a device of this machine');
    const link = it.machine.links[0]!;
    it.machine.unlink(link);
    expect(it.machine.links).toEqual([]);
    expect(() => it.machine.unlink(link)).toThrow('is not a link of this machine');
    end(it);
  });

  test('tells of itself, and of its end', () => {
    const machine = smallMachine();
    open.push(machine);
    const events: EventOf<'devices.linked' | 'devices.unlinked'>[] = [];
    machine.onEvent((event) => {
      if (event.type === 'devices.linked' || event.type === 'devices.unlinked') events.push(event);
    });
    const link = machine.link(machine.addDevice(probeDriver({ name: 'a' })), machine.addDevice(probeDriver({ name: 'b' })), {
      coherent: true,
    });
    machine.unlink(link);
    expect(events).toMatchObject([
      { type: 'devices.linked', a: 'a', b: 'b', coherent: true },
      { type: 'devices.unlinked', a: 'a', b: 'b' },
    ]);
  });
});

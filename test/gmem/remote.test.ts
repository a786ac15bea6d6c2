/** A device uses a page in the private memory of another one, over a coherent link. */
import { afterEach, describe, expect, test } from 'vitest';
import { type Context, type DevicePolicy, type EventOf, type Machine, MiB, type Placement } from 'farfault';
import { defineDriver, deviceTlb, type Device, type Driver, HOST } from 'farfault/gmem';
import { expectClean, PAGE, Probe, probeDriver, smallMachine, used } from '../machine/probe.ts';

const open: Machine[] = [];
afterEach(() => {
  for (const machine of open.splice(0)) machine.close();
});

const bytes = (...values: number[]): Uint8Array => Uint8Array.of(...values);

/** Uses everything where it is. */
class Remote {
  readonly name = 'remote';
  choose(): Placement {
    return 'remote';
  }
}

const REMOTE: DevicePolicy = { placement: new Remote() };

interface Pair {
  readonly machine: Machine;
  readonly one: Device;
  readonly two: Device;
  readonly a: Context;
  readonly b: Context;
  readonly mapped: EventOf<'pages.mapped'>[];
  readonly moves: EventOf<'pages.migrated'>[];
}

function pair(first: Driver, second: Driver, { coherent = true, policy = {} as DevicePolicy } = {}): Pair {
  const machine = smallMachine({ dram: 8 * MiB, deviceMemory: 12 * MiB });
  open.push(machine);
  const one = machine.addDevice(first);
  const two = machine.addDevice(second, policy);
  machine.link(one, two, { coherent });
  const space = machine.createAddressSpace();
  const mapped: EventOf<'pages.mapped'>[] = [];
  const moves: EventOf<'pages.migrated'>[] = [];
  machine.onEvent((event) => {
    if (event.type === 'pages.mapped') mapped.push(event);
    if (event.type === 'pages.migrated') moves.push(event);
  });
  return { machine, one, two, a: space.attach(one), b: space.attach(two), mapped, moves };
}

function end({ machine, a }: Pair): void {
  expectClean(machine);
  a.space.close();
  expect(used(machine).replace(/zero \d+, /, '')).toMatch(/^dram 0(, \S+ 0)*$/);
  expectClean(machine);
}

/** A page on the first device that the second one has mapped. */
function shared(it: Pair): number {
  const range = it.a.space.mmap({ bytes: PAGE });
  it.a.write(range.start, bytes(1, 2, 3));
  it.a.space.attributes.set(range, { accessedBy: it.two });
  it.moves.length = 0;
  expect([...it.b.read(range.start, 3)]).toEqual([1, 2, 3]);
  expect(it.moves).toEqual([]);
  return range.start;
}

describe('over a coherent link a page that is to be accessed by a device', () => {
  test('is mapped where it is, and both read and write it there', () => {
    const it = pair(probeDriver({ name: 'a' }), probeDriver({ name: 'b' }));
    const at = shared(it);
    it.b.write(at, bytes(9));
    expect([...it.a.read(at, 3)]).toEqual([9, 2, 3]);
    it.a.write(at + 1, bytes(8));
    expect([...it.b.read(at, 3)]).toEqual([9, 8, 3]);
    expect(it.moves).toEqual([]);
    expect(it.mapped).toMatchObject([{ device: 'b', vpn: at / PAGE, node: 'a.ram', cause: 'link' }]);
    end(it);
  });

  test('is known to its driver by a memory index below HOST', () => {
    const it = pair(probeDriver({ name: 'a' }), probeDriver({ name: 'b' }));
    const at = shared(it);
    const where = it.b.mmu.walk!.translate(at / PAGE, 'write')!;
    expect(where).toMatchObject({ vpn: at / PAGE, page: 0, write: true });
    expect(where.memory).toBeLessThan(HOST);
    expect(it.b.frameOf(where)).toBe(it.a.ownFrame(at / PAGE));
    end(it);
  });

  test('is withdrawn when the page moves, and its flush is waited for', async () => {
    const second = new Probe({ name: 'b', cached: true });
    const it = pair(probeDriver({ name: 'a' }), second.driver);
    const at = shared(it);
    second.slow.add('invalidate');
    const touched = it.a.space.writeAsync(at, bytes(5));
    await Promise.resolve();
    // The copy has not begun: what the other device writes now is not lost.
    it.b.write(at + 2, bytes(7));
    expect(it.a.residency(at / PAGE)).toBe(0);
    second.finish();
    await touched;
    second.slow.clear();
    expect([...it.a.space.read(at, 3)]).toEqual([5, 2, 7]);
    expect([...it.b.read(at, 3)]).toEqual([5, 2, 7]);
    end(it);
  });

  test('is withdrawn by munmap, mprotect, fork and detach of the one that has it', () => {
    const it = pair(probeDriver({ name: 'a' }), probeDriver({ name: 'b' }));
    const at = shared(it);
    it.a.space.mprotect({ start: at, end: at + PAGE }, 'r');
    expect(() => it.b.write(at, bytes(1))).toThrow('without the right to write');
    expect([...it.b.read(at, 1)]).toEqual([1]);
    it.a.space.mprotect({ start: at, end: at + PAGE }, 'rw');
    it.b.write(at, bytes(4));
    const child = it.a.space.fork({});
    it.b.write(at, bytes(6));
    expect([...child.read(at, 1)]).toEqual([4]);
    child.close();
    const again = shared(it);
    it.a.detach();
    expect([...it.b.read(again, 1)]).toEqual([1]);
    it.a.space.munmap({ start: again, end: again + PAGE });
    expect(() => it.b.read(again, 1)).toThrow();
    end(it);
  });

  test('is let go when the link is cut; then it comes home', () => {
    const it = pair(probeDriver({ name: 'a' }), probeDriver({ name: 'b' }));
    const at = shared(it);
    it.machine.unlink(it.machine.links[0]!);
    expect(it.b.mmu.walk!.translate(at / PAGE, 'read')).toBe(undefined);
    expect(it.a.residency(at / PAGE)).toBe(0);
    expect([...it.b.read(at, 1)]).toEqual([1]);
    expect(it.moves.map(({ way }) => way)).toEqual(['toHost']);
    expect(it.mapped.at(-1)).toMatchObject({ node: 'dram', cause: 'advice' });
    end(it);
  });

  test('is one huge page there, and granule by granule here', () => {
    const huge = defineDriver(({ name = 'a' }: { name?: string } = {}): Driver => ({
      name,
      memory: [{ name: 'ram', kind: 'private', bytes: 4 * MiB }],
      granuleBytes: 2 * MiB,
      pageBytes: [PAGE, 2 * MiB],
      attach: (context) => ({ tlb: deviceTlb(context) }),
    }));
    const it = pair(huge(), huge({ name: 'b' }), { policy: REMOTE });
    const { start } = it.a.space.mmap({ bytes: 2 * MiB, at: 16 * MiB, fixed: true });
    it.a.space.madvise({ start, end: start + 2 * MiB }, 'hugepage');
    it.a.write(start, bytes(1));
    it.moves.length = 0;
    it.b.write(start + 2 * MiB - 1, bytes(2));
    expect([...it.b.read(start, 1)]).toEqual([1]);
    expect(it.machine.counters.deviceFaults['b']).toBe(1);
    expect([...it.a.read(start + 2 * MiB - 1, 1)]).toEqual([2]);
    expect(it.moves).toEqual([]);
    it.a.space.write(start, bytes(3));
    expect([...it.b.read(start, 1), ...it.b.read(start + 2 * MiB - 1, 1)]).toEqual([3, 2]);
    end(it);
  });
});

test('a page that somebody holds over there is used there', () => {
  const it = pair(probeDriver({ name: 'a' }), probeDriver({ name: 'b' }));
  const range = it.a.space.mmap({ bytes: PAGE });
  it.a.write(range.start, bytes(1));
  it.a.space.hmadvise(range, 'pinned', { device: it.one });
  it.moves.length = 0;
  it.b.write(range.start, bytes(2));
  expect(it.moves.filter(({ pages }) => pages > 0)).toEqual([]);
  expect(it.mapped).toMatchObject([{ device: 'b', node: 'a.ram', cause: 'pinned' }]);
  expect([...it.a.read(range.start, 1)]).toEqual([2]);
  it.a.space.hmadvise(range, 'unpinned', { device: it.one });
  end(it);
});

test('a device that loses its memory takes it from who uses it, too', () => {
  const it = pair(probeDriver({ name: 'a' }), probeDriver({ name: 'b' }));
  const at = shared(it);
  it.one.reset({ memory: 'lost' });
  expect(() => it.b.read(at, 1)).toThrow();
  expect(it.b.mmu.walk!.translate(at / PAGE, 'read')).toBe(undefined);
  end(it);
});

describe('a page of another device is not used there', () => {
  test('without advice, or over a link that is only for copies', () => {
    for (const coherent of [true, false]) {
      const it = pair(probeDriver({ name: 'a' }), probeDriver({ name: 'b' }), { coherent });
      const range = it.a.space.mmap({ bytes: PAGE });
      it.a.write(range.start, bytes(1));
      if (!coherent) it.a.space.attributes.set(range, { accessedBy: it.two });
      it.moves.length = 0;
      it.b.read(range.start, 1);
      expect(it.moves.map(({ way }) => way)).toEqual(['peer']);
      end(it);
    }
  });

  test('when the bytes are where no access reaches them', () => {
    const external = defineDriver((): Driver => {
      const ram = new Uint8Array(16 * PAGE);
      return {
        name: 'a',
        memory: [{ name: 'ram', kind: 'private', bytes: 16 * PAGE, bytesIn: 'external' }],
        attach: (context) => ({
          tlb: deviceTlb(context),
          copy: {
            toDevice: (copies) => copies.eachHost((page, _pages, view) => ram.set(view, page * PAGE)),
            toHost: (copies) => copies.eachHost((page, pages, view) => view.set(ram.subarray(page * PAGE, (page + pages) * PAGE))),
            zero: (copies) => copies.each((pages, _m, _p, _n, page) => ram.fill(0, page * PAGE, (page + pages) * PAGE)),
          },
        }),
      };
    });
    const it = pair(external(), probeDriver({ name: 'b' }), { policy: REMOTE });
    const range = it.a.space.mmap({ bytes: PAGE });
    it.a.space.write(range.start, bytes(6));
    it.a.migrate(range, { to: 'device' });
    it.moves.length = 0;
    expect([...it.b.read(range.start, 1)]).toEqual([6]);
    expect(it.moves[0]).toMatchObject({ way: 'toHost', cause: 'home' });
    end(it);
  });
});

test('a device without memory uses what it can reach there, and has the rest brought home', () => {
  for (const coherent of [true, false]) {
    const it = pair(probeDriver({ name: 'a' }), probeDriver({ name: 'b', pages: 0 }), { coherent });
    const { start } = it.a.space.mmap({ bytes: PAGE });
    it.a.write(start, bytes(1));
    it.moves.length = 0;
    it.b.write(start, bytes(2));
    expect(it.moves.map(({ way }) => way)).toEqual(coherent ? [] : ['toHost']);
    expect([...it.a.read(start, 1)]).toEqual([2]);
    end(it);
  }
});

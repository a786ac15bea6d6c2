/** The coupled form: a device that brings and takes pages by itself, beside the same device in steps. */
import { afterEach, describe, expect, test } from 'vitest';
import { type AddressRange, type AddressSpace, type Context, type Device, type Machine, type Ticket } from 'farfault';
import { PEER_CODES } from 'farfault/gmem';
import { Evict } from '../../sdk/gmem/evict.ts';
import { expectClean, PAGE, smallMachine, used } from '../machine/probe.ts';
import { PeerDevice, type PeerOptions } from './peer-device.ts';

let machine: Machine;
afterEach(() => machine?.close());

interface World {
  readonly peer: PeerDevice;
  readonly device: Device;
  readonly space: AddressSpace;
  readonly context: Context;
  readonly range: AddressRange;
}

function world(options: PeerOptions = {}, pages = 8): World {
  machine = smallMachine();
  const peer = new PeerDevice(options);
  const device = machine.addDevice(peer.driver);
  const space = machine.createAddressSpace();
  const context = space.attach(device);
  return { peer, device, space, context, range: space.mmap({ bytes: pages * PAGE }) };
}

function end(): void {
  for (const space of machine.spaces) space.close();
  expectClean(machine);
  for (const node of machine.nodes) expect([node.name, node.used]).toEqual([node.name, 0]);
}

describe('a device with the family peer', () => {
  test.each(['core', 'imports', 'places'] as const)(
    'is asked once to bring the pages of a fault, and once to take them: pages by %s',
    (hands) => {
      const { peer, space, context, range } = world({ hands, granulePages: 4 });
      space.write(range.start, Uint8Array.of(1, 2, 3));
      context.write(range.start + 1, Uint8Array.of(9));
      expect(space.dump(range)).toContain('D');
      expect(peer.log.filter((line) => !line.startsWith('import'))).toEqual(['map 4']);
      expect(peer.seen[0]).toEqual({
        vpn: range.start / PAGE,
        bytes: 'copy',
        write: true,
        access: 'write',
        behaviour: 'none',
        attributes: 0,
      });
      expect(peer.seen[1]).toMatchObject({ bytes: 'zero', access: 'none', behaviour: 'will need' });
      expect(space.read(range.start, 3)).toEqual(Uint8Array.of(1, 9, 3));
      expect(peer.log.at(-1)).toBe('unmap 4');
      expect(context.peerCounts!.codes.success).toBe(8);
      end();
    },
  );

  test('is told what the device wanted, and what it may do', () => {
    const { peer, space, context, range } = world({ granulePages: 2 });
    space.write(range.start, Uint8Array.of(1));
    space.mprotect(range, 'r');
    context.read(range.start + 1, 1);
    expect(peer.seen).toMatchObject([
      { bytes: 'copy', write: false, access: 'read' },
      { bytes: 'zero', write: false, access: 'none' },
    ]);
    end();
  });

  test('is told which of its pages the device wanted, also where that is not the first', () => {
    const { peer, space, context, range } = world({ granulePages: 4 });
    space.write(range.start + PAGE, Uint8Array.of(1));
    context.write(range.start + 2 * PAGE, Uint8Array.of(2));
    expect(peer.seen.map(({ access, behaviour }) => `${access}, ${behaviour}`)).toEqual([
      'none, will need',
      'none, will need',
      'write, none',
      'none, will need',
    ]);
    end();
  });

  test('is asked to take what it has, and nothing beside it', () => {
    const { peer, space, context, range } = world();
    for (let page = 0; page < 4; page++) space.write(range.start + page * PAGE, Uint8Array.of(page + 1));
    context.read(range.start + 2 * PAGE, 1);
    expect(context.migrate({ start: range.start, end: range.start + 4 * PAGE }, { to: 'host' })).toBe(1);
    expect(peer.log).toEqual(['map 1', 'unmap 1']);
    expect([0, 1, 2, 3].map((page) => space.read(range.start + page * PAGE, 1)[0])).toEqual([1, 2, 3, 4]);
    end();
  });

  test('lets go of the pages of two spaces by the hand of each', () => {
    const { peer, device, space, context, range } = world();
    const other = machine.createAddressSpace();
    const second = other.attach(device);
    const there = other.mmap({ at: range.start + 16 * PAGE, bytes: PAGE, fixed: true });
    context.write(range.start, Uint8Array.of(3));
    second.write(there.start, Uint8Array.of(4));
    const { base } = device.memory!.node;
    machine.platform.scheduler.runSync(new Evict(machine.platform).from(device.memory!).frames([base, base + 1]));
    expect(peer.log).toEqual(['map 1', 'map 1', 'unmap 1', 'unmap 1']);
    expect([space.dump(range).slice(0, 1), other.dump(there)]).toEqual(['H', 'H']);
    expect([space.read(range.start, 1)[0], other.read(there.start, 1)[0]]).toEqual([3, 4]);
    end();
  });

  test('takes every page of every space away that shares them, when they are evicted', () => {
    const { peer, device, space, context, range } = world({ pages: 4 });
    for (const page of [0, 1]) context.write(range.start + page * PAGE, Uint8Array.of(page + 1));
    const child = space.fork({ device: 'share' });
    const its = child.attach(device);
    for (const page of [0, 1]) expect(its.read(range.start + page * PAGE, 1)[0]).toBe(page + 1);
    const { base } = device.memory!.node;
    machine.platform.scheduler.runSync(new Evict(machine.platform).from(device.memory!).frames([base, base + 1]));
    expect(child.dump(range).slice(0, 2)).toBe('hh');
    // Others get the frames.
    for (let page = 2; page < 6; page++) context.write(range.start + page * PAGE, Uint8Array.of(9));
    expect([0, 1].map((page) => its.read(range.start + page * PAGE, 1)[0])).toEqual([1, 2]);
    expect(peer.log).toContain('unmap 2');
    end();
  });

  test('gets no item that there is not, and no copies or translations of one that has no page', () => {
    const { peer, space, context, range } = world({ hands: 'places' });
    space.write(range.start, Uint8Array.of(1));
    const said: string[] = [];
    const refused = (action: () => unknown): void => {
      try {
        action();
        said.push('nothing');
      } catch (error) {
        said.push((error as Error).message);
      }
    };
    peer.look = (batch) => {
      for (const i of [-1, 0.5, 1]) refused(() => batch.item(i));
      refused(() => batch.copies(batch.item(0)));
      refused(() => batch.mappings(batch.item(0)));
    };
    context.read(range.start, 1);
    expect(said).toEqual([
      ...[-1, 0.5, 1].map((i) => expect.stringContaining(`batch.item ${i} is`) as string),
      ...['copies', 'mappings'].map((of) => expect.stringMatching(`batch.${of} item .* has no page of the device yet`) as string),
    ]);
    end();
  });

  test('evicts when the device says that it has no room', () => {
    const { peer, space, context, range } = world({ hands: 'places', pages: 3 });
    for (let i = 0; i < 8; i++) {
      context.write(range.start + i * PAGE, Uint8Array.of(i + 1));
      // It came: others have gone for it.
      expect(context.residency(range.start / PAGE + i)).toBeDefined();
    }
    expect(context.peerCounts!.codes.nomem).toBeGreaterThan(0);
    for (let i = 0; i < 8; i++) expect(space.read(range.start + i * PAGE, 1)[0]).toBe(i + 1);
    expect(peer.free).toHaveLength(3);
    end();
  });

  test('brings a page by itself when its granule has found no room twice; the next granule comes whole', () => {
    const { peer, context, range } = world({ hands: 'places', granulePages: 4 }, 20);
    const write = (granule: number): string[] => {
      peer.log.length = 0;
      context.write(range.start + granule * 4 * PAGE, Uint8Array.of(granule));
      return [...peer.log];
    };
    for (const granule of [0, 1, 2]) expect(write(granule)).toEqual(['map 4']);
    peer.plans.push({ operation: 'map', code: 'nomem', times: 8 });
    expect(write(3)).toEqual(['map 4', 'unmap 4', 'map 4', 'unmap 1', 'map 1']);
    expect(write(4)).toEqual(['map 4']);
    end();
  });

  test.each(['core', 'imports', 'places'] as const)(
    'waits for what goes home when there is no room, and then brings every page of the granule: pages by %s',
    async (hands) => {
      const { peer, space, context, range } = world({ hands, granulePages: 2 });
      space.write(
        range.start,
        Uint8Array.from({ length: 4 * PAGE }, (_, i) => 1 + Math.floor(i / PAGE)),
      );
      context.write(range.start + 2 * PAGE, Uint8Array.of(33));
      peer.slow = true;
      const home = space.readAsync(range.start + 2 * PAGE, 1);
      peer.plans.push({ operation: 'map', code: 'nomem', times: 2 });
      // The second page of its granule.
      const write = context.writeAsync(range.start + PAGE, Uint8Array.of(22));
      peer.finishOne(1);
      expect(peer.unfinished).toBe(1);
      peer.finish();
      expect([...(await home)]).toEqual([33]);
      for (; peer.unfinished > 0; await Promise.resolve()) peer.finish();
      await write;
      peer.slow = false;
      expect(space.dump(range).slice(0, 2)).toBe('DD');
      expect([space.read(range.start, 1)[0], space.read(range.start + PAGE, 1)[0]]).toEqual([1, 22]);
      end();
    },
  );

  test('waits for a batch that the device has not finished, and for nothing else', async () => {
    const { peer, space, context, range } = world();
    space.write(range.start, Uint8Array.of(7));
    peer.slow = true;
    const moved = context.migrateAsync({ start: range.start, end: range.start + 2 * PAGE }, { to: 'device' });
    expect(peer.unfinished).toBe(1);
    expect(space.read(range.start + 4 * PAGE, 1)[0]).toBe(0);
    peer.finish();
    expect(await moved).toBe(2);
    peer.slow = false;
    expect(context.read(range.start, 1)[0]).toBe(7);
    end();
  });

  test('fills a hole alone: whoever faults there, or moves it elsewhere, waits for the device, and what it has written meanwhile is there', async () => {
    const tickets: Ticket[] = [];
    // The translation is in the table, and used, long before the batch is said to have ended.
    const ends: PeerOptions['ends'] = () => (ticket, work) => {
      work();
      tickets.push(ticket);
      if (!peer.log.at(-1)!.startsWith('map')) ticket.complete();
    };
    const { peer, space, context, range } = world({ ends });
    const other = new PeerDevice({ name: 'other', coupled: false });
    const second = space.attach(machine.addDevice(other.driver));
    const page = { start: range.start, end: range.start + PAGE };
    const moved = context.migrateAsync(page, { to: 'device' });
    await context.writeAsync(page.start, Uint8Array.of(1));
    const filled = space.writeAsync(page.start + 1, Uint8Array.of(2));
    expect(await second.migrateAsync(page, { to: 'device' })).toBe(0);
    expect(peer.log.filter((line) => line === 'map 1').length).toBe(1);
    tickets[0]!.complete();
    expect(await moved).toBe(1);
    await filled;
    expect([...space.read(page.start, 2)]).toEqual([1, 2]);
    second.detach();
    end();
  });
});

describe('memory that the device hands out', () => {
  test('comes in batches of 16, and a batch that is short is the last one until a page comes free', () => {
    const { peer, device, space, context, range } = world({ hands: 'imports', pages: 20 }, 24);
    const memory = device.memories[0]!;
    const imports = (): number => peer.log.filter((line) => line === 'import 16').length;
    for (let i = 0; i < 17; i++) context.write(range.start + i * PAGE, Uint8Array.of(i));
    expect(memory.importCounts).toEqual({ imports: 2, pages: 20, unused: 3, failed: true });
    for (let i = 17; i < 20; i++) context.write(range.start + i * PAGE, Uint8Array.of(i));
    // The next one finds no page, and the device is not asked for more: the oldest goes.
    context.write(range.start + 20 * PAGE, Uint8Array.of(20));
    expect([imports(), space.dump(range)]).toEqual([2, `H${'D'.repeat(20)}...`]);
    for (let i = 21; i < 24; i++) context.write(range.start + i * PAGE, Uint8Array.of(i));
    expect(imports()).toBeGreaterThan(2);
    for (let i = 0; i < 24; i++) expect(context.read(range.start + i * PAGE, 1)[0]).toBe(i);
    space.munmap(range);
    expect(memory.importCounts).toMatchObject({ pages: 20, unused: 20, failed: false });
    end();
  });

  test.each(['core', 'imports', 'places'] as const)('serves a page whose granule does not fit: pages by %s', (hands) => {
    const { space, context, range } = world({ hands, granulePages: 4, pages: 2 }, 4);
    for (let i = 0; i < 4; i++) space.write(range.start + i * PAGE, Uint8Array.of(i + 1));
    for (const i of [3, 0, 2, 3, 1]) {
      expect(context.read(range.start + i * PAGE, 1)).toEqual(Uint8Array.of(i + 1));
      expect(space.dump(range)[i]).toBe('D');
    }
    end();
  });

  test.each(['core', 'imports', 'places'] as const)(
    'keeps the limit of the memory, whether pages are moved, faulted in or reserved: pages by %s',
    (hands) => {
      const { device, space, context, range } = world({ hands, granulePages: 4 }, 16);
      const memory = device.memory!;
      for (let i = 0; i < 16; i++) space.write(range.start + i * PAGE, Uint8Array.of(i));
      memory.limit(4 * PAGE);
      expect(() => context.reserve({ bytes: 8 * PAGE })).toThrow('do not fit the memory');
      expect([memory.node.used, memory.node.peak]).toEqual([0, 4]);
      context.migrate(range, { to: 'device' });
      expect([memory.node.used, memory.node.peak]).toEqual([4, 4]);
      for (let i = 0; i < 16; i++) expect(context.read(range.start + i * PAGE, 1)).toEqual(Uint8Array.of(i));
      expect([memory.node.used, memory.node.peak]).toEqual([4, 4]);
      context.migrate(range, { to: 'host' });
      context.free(context.reserve({ bytes: 4 * PAGE }));
      end();
    },
  );

  test('is refused when a page is handed out twice, and the device is out of the game', () => {
    const { peer, context, range } = world({ hands: 'imports' });
    peer.free.splice(0, 16, 3, 3);
    expect(() => context.write(range.start, Uint8Array.of(1))).toThrow('has been handed out already');
    expect(context.failure).toBeDefined();
  });

  test('is given page by page as the device chooses, huge pages as one, and every page comes back', () => {
    machine = smallMachine({ dram: 8 * 1024 * 1024, deviceMemory: 8 * 1024 * 1024 });
    const peer = new PeerDevice({ hands: 'places', pages: 1024, granulePages: 512, huge: true });
    const space = machine.createAddressSpace();
    const context = space.attach(machine.addDevice(peer.driver));
    const range = space.mmap({ bytes: 4 * 1024 * 1024, at: 4 * 1024 * 1024 });
    space.madvise(range, 'hugepage');
    context.write(range.start, Uint8Array.of(1));
    context.write(range.start + 512 * PAGE + 5, Uint8Array.of(2));
    expect(peer.log).toEqual(['map 1', 'map 1']);
    expect(peer.free).toHaveLength(0);
    expect(space.read(range.start + 512 * PAGE + 5, 1)[0]).toBe(2);
    expect(peer.free).toHaveLength(512);
    expect(context.read(range.start, 1)[0]).toBe(1);
    end();
    expect(peer.free).toHaveLength(1024);
  });

  test('is not for a driver to take frames of, when the device chooses them', () => {
    const { device, context } = world({ hands: 'places' });
    for (const order of [0, 9]) expect(context.hmm.takeFrame(device.memory!, order)).toBe(-1);
    end();
  });

  test('cannot be brought to in steps: nobody else chooses its pages', () => {
    machine = smallMachine();
    const device = machine.addDevice(new PeerDevice({ hands: 'places' }).driver, { form: 'decoupled' });
    expect(() => machine.createAddressSpace().attach(device)).toThrow('the device chooses');
  });
});

describe('every result code of every operation', () => {
  const refusals = PEER_CODES.filter((code) => code !== 'success');
  const handers = ['core', 'imports', 'places'] as const;

  test('map, whoever hands the pages out: the page stays where it is with its bytes, and every page of the device is free again', () => {
    for (const hands of handers) {
      for (const code of refusals) {
        const { peer, space, context, range } = world({ hands });
        space.write(range.start, Uint8Array.of(5));
        // A device that chooses its pages has none to say that of.
        peer.plans.push({ operation: 'map', code: code === 'page exists' && hands === 'places' ? 'failure' : code });
        const before = used(machine);
        expect(context.migrate({ start: range.start, end: range.start + 2 * PAGE }, { to: 'device' })).toBe(0);
        expect(used(machine)).toBe(before);
        expect(space.read(range.start, 1)[0]).toBe(5);
        peer.plans.length = 0;
        expect(context.read(range.start, 1)[0]).toBe(5);
        end();
        machine.close();
      }
    }
  });

  test('unmap, whoever hands the pages out: the page stays on the device with its bytes', () => {
    for (const hands of handers) {
      for (const code of refusals) {
        const { peer, space, context, range } = world({ hands });
        context.write(range.start, Uint8Array.of(6));
        const before = used(machine);
        peer.plans.push({ operation: 'unmap', code });
        expect(context.migrate(range, { to: 'host' })).toBe(0);
        expect(used(machine)).toBe(before);
        peer.plans.length = 0;
        expect(context.read(range.start, 1)[0]).toBe(6);
        expect(space.read(range.start, 1)[0]).toBe(6);
        end();
        machine.close();
      }
    }
  });

  test('unmap that fails for a touch of the CPU is a bus error, not a page of zeros', () => {
    const { peer, space, context, range } = world();
    context.write(range.start, Uint8Array.of(6));
    peer.plans.push({ operation: 'unmap', code: 'dma error' });
    expect(() => space.read(range.start, 1)).toThrow('has bytes that');
    peer.plans.length = 0;
    expect(space.read(range.start, 1)[0]).toBe(6);
    end();
  });

  test('a device that says that a page exists, which it does, is believed; one that says so of what does not, is not', () => {
    const { peer, space, context, range } = world();
    space.write(range.start, Uint8Array.of(5));
    peer.plans.push({ operation: 'map', code: 'page exists', times: 1 });
    expect(context.migrate({ start: range.start, end: range.start + PAGE }, { to: 'device' })).toBe(0);
    peer.afterwards = 'page exists';
    expect(context.migrate({ start: range.start, end: range.start + PAGE }, { to: 'device' })).toBe(1);
    expect(context.read(range.start, 1)[0]).toBe(5);
    end();
  });

  test('migrating: is asked again, and is a success only when the device has it', () => {
    const { peer, context, range } = world();
    peer.plans.push({ operation: 'map', code: 'migrating', times: 3 });
    context.write(range.start, Uint8Array.of(1));
    expect(peer.log.filter((line) => line === 'map 1')).toHaveLength(4);
    // All of them for one fault.
    expect(machine.counters.deviceFaults).toEqual({ peer: 1 });
    expect(context.read(range.start, 1)[0]).toBe(1);
    end();
  });

  test('migrating: who touches the page waits until the device has let go, and only what it kept is asked for again', () => {
    const { peer, space, context, range } = world();
    for (let page = 0; page < 3; page++) context.write(range.start + page * PAGE, Uint8Array.of(page + 1));
    peer.log.length = 0;
    peer.plans.push({ operation: 'unmap', code: 'migrating', times: 2 });
    expect(context.migrate({ start: range.start, end: range.start + 3 * PAGE }, { to: 'host' })).toBe(3);
    expect(peer.log).toEqual(['unmap 3', 'unmap 2']);
    context.write(range.start, Uint8Array.of(7));
    peer.plans.push({ operation: 'unmap', code: 'migrating', times: 5 });
    expect(space.read(range.start, 1)[0]).toBe(7);
    expect(space.read(range.start + PAGE, 1)[0]).toBe(2);
    peer.log.length = 0;
    peer.plans.push({ operation: 'map', code: 'migrating', times: 1 });
    expect(context.migrate({ start: range.start, end: range.start + 3 * PAGE }, { to: 'device' })).toBe(3);
    expect(peer.log).toEqual(['map 3', 'map 1']);
    end();
  });

  test('migrating without end: the access ends, and nothing has been mapped', () => {
    const { peer, space, context, range } = world();
    peer.plans.push({ operation: 'map', code: 'migrating' });
    expect(context.fault(range.start, 'write')).toBe('deferred');
    expect(() => context.write(range.start, Uint8Array.of(1))).toThrow();
    expect(space.dump(range)).not.toContain('D');
    end();
  });

  test('migrating: each fault is asked again as often as the first', () => {
    const { peer, context, range } = world();
    for (let page = 0; page < 4; page++) {
      peer.log.length = 0;
      peer.plans.push({ operation: 'map', code: 'migrating', times: 4 });
      expect(context.fault(range.start + page * PAGE, 'write')).toBe('served');
      expect(peer.log).toEqual(['map 1', 'map 1', 'map 1', 'map 1', 'map 1']);
    }
    end();
  });

  test('migrating: the same where the page is there already, and only the translation is wanted', () => {
    const { peer, space, context, range } = world();
    context.write(range.start, Uint8Array.of(1));
    for (let turn = 0; turn < 4; turn++) {
      space.mprotect(range, turn % 2 ? 'rw' : 'r');
      peer.log.length = 0;
      peer.plans.push({ operation: 'map', code: 'migrating', times: 4 });
      expect(context.fault(range.start, 'read')).toBe('served');
      expect(peer.log).toEqual(['map 1', 'map 1', 'map 1', 'map 1', 'map 1']);
    }
    end();
  });

  test('a page that somebody holds is used where it is, and nothing goes for it: also after one for which there was no room', () => {
    const { peer, space, context, range } = world({ hands: 'places' });
    const write = (page: number): string[] => {
      peer.log.length = 0;
      expect(context.fault(range.start + page * PAGE, 'write')).toBe('served');
      return [...peer.log];
    };
    expect(write(0)).toEqual(['map 1']);
    peer.plans.push({ operation: 'map', code: 'nomem', times: 1 });
    expect(write(1)).toEqual(['map 1', 'unmap 1', 'map 1']);
    space.write(range.start + 2 * PAGE, Uint8Array.of(3));
    const pin = space.pin({ start: range.start + 2 * PAGE, end: range.start + 3 * PAGE }, { write: true });
    expect(write(2)).toEqual([]);
    expect(space.dump(range).slice(0, 3)).toBe('HDH');
    pin.unpin();
    end();
  });

  test('an unmap without bytes that the device refuses: it is out of the game', () => {
    const { peer, space, context, range } = world();
    context.write(range.start, Uint8Array.of(1));
    peer.refusesDrops = true;
    space.munmap(range);
    expect(context.failure?.message).toContain('is no way to end what must go');
    end();
  });

  test.each(['done when it says so', 'done when it returns'])(
    'the same, ended by a ticket: nothing is written to the page that another process has got (%s)',
    async (when) => {
      machine = smallMachine();
      const peer = new PeerDevice({
        pages: 1,
        ...(when === 'done when it returns' ? { ends: () => (ticket, work) => (work(), ticket.complete()) } : {}),
      });
      const device = machine.addDevice(peer.driver);
      const space = machine.createAddressSpace();
      const other = machine.createAddressSpace();
      const context = space.attach(device);
      const another = other.attach(device);
      const range = space.mmap({ bytes: PAGE });
      const its = other.mmap({ bytes: PAGE });
      context.write(range.start, Uint8Array.of(1));
      peer.slow = peer.refusesDrops = true;
      const unmapped = space.munmapAsync(range);
      peer.finish();
      await unmapped;
      expect(context.failure?.message).toContain('is no way to end what must go');
      peer.slow = peer.refusesDrops = false;
      another.write(its.start, Uint8Array.of(5));
      expect(() => context.write(range.start, Uint8Array.of(99))).toThrow('has failed');
      expect(another.read(its.start, 1)).toEqual(Uint8Array.of(5));
      end();
    },
  );
});

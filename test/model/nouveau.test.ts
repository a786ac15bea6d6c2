import { describe, expect, test } from 'vitest';
import { checkMachine } from '../../sdk/testing/model/check.ts';
import { chunkPages } from '../../sdk/testing/model/vram.ts';
import { at, load, smallNouveau, store } from './small-machine.ts';

describe('a device fault', () => {
  test('moves the whole granule: what is there is copied, the rest is cleared', () => {
    const { machine, space, context } = smallNouveau({ granulePages: 16 });
    space.write(at(17), Uint8Array.of(3));
    space.read(at(18), 1);
    const { lo } = context.submit([load(17), store(20, 8)], 1);
    expect(lo[0]).toBe(3);
    expect(space.dump(14, 20)).toBe(`..${'D'.repeat(16)}..`);

    // One batch; an event over 16..31 and one from page 16, the first that was cleared. The store needs no fault of its own.
    const { detail, invalidations, migrated, frames, transfers, tlb } = machine.counters();
    expect(detail).toMatchObject({ batches: 1, recorded: 1, cleared: 15, coalesced: 0 });
    expect(invalidations).toBe(2);
    expect(migrated['dram']!['nouveau.vram']).toEqual({ pages: 1, bytes: 4096 });
    expect(frames).toEqual({ dram: { peak: 1 }, 'nouveau.vram': { peak: 16 } });
    expect(transfers).toEqual({ toDevice: { 1: 1 }, toHost: {} });
    expect(tlb.devices['nouveau']).toEqual({ hit: 0, miss: 2 });
    expect(machine.host.used).toBe(0);
  });

  test('clips the granule to the VMA', () => {
    const { space, context } = smallNouveau({ granulePages: 16 });
    space.munmap(5, 1);
    context.submit([load(0)], 1);
    expect(space.dump(0, 17)).toBe('DDDDD-...........');
  });

  test('migrates again only what the CPU has brought home', () => {
    const { machine, space, context } = smallNouveau({ granulePages: 16, dramPages: 1 });
    context.submit([load(0)], 1); // 16 cleared, events 2
    space.read(at(3), 1); // one host frame only: page 3 comes home alone, event 1 over the granule
    expect(space.dump(0, 16)).toBe('DDDhDDDDDDDDDDDD');
    context.submit([load(3)], 1); // need is page 3: one event
    expect(space.dump(0, 16)).toBe('D'.repeat(16));
    expect(machine.counters()).toMatchObject({ invalidations: 4, detail: { batches: 2, cleared: 16 } });
    checkMachine(machine);
  });
});

describe('a CPU access to a device page', () => {
  test('brings the granule home with its bytes', () => {
    const { machine, space, context } = smallNouveau({ granulePages: 16 });
    context.submit([store(4, 0x0102), store(5, 0x0304)], 1);
    expect(space.read(at(4), 2)).toEqual(Uint8Array.of(2, 1));
    expect(space.dump(0, 17)).toBe(`${'h'.repeat(16)}.`);
    expect(space.read(at(5), 2)).toEqual(Uint8Array.of(4, 3));

    const { faults, invalidations, migrated, detail, transfers } = machine.counters();
    expect(faults.cpu).toBe(1);
    expect(detail.cpuFaults.home).toBe(1);
    expect(invalidations).toBe(3); // two into the device, one back
    expect(migrated['nouveau.vram']!['dram']).toEqual({ pages: 16, bytes: 65536 });
    expect(transfers.toHost).toEqual({ 16: 1 });
    expect(context.table.size).toBe(0);
  });

  test('brings home what host memory holds, the faulting page first, and fails when that is nothing', () => {
    const { machine, space, context } = smallNouveau({ granulePages: 16, dramPages: 2 });
    context.submit([load(0)], 1);
    space.read(at(5), 1);
    expect(space.dump(0, 16)).toBe('hDDDDhDDDDDDDDDD');
    expect(space.read(at(1), 1)).toEqual({ reason: 'no-memory', addr: at(1) });
    // Two events into the device, one for each attempt to bring pages back.
    expect(machine.counters()).toMatchObject({
      faults: { cpu: 2 },
      invalidations: 4,
      migrated: { 'nouveau.vram': { dram: { pages: 2 } } },
    });
    checkMachine(machine);
  });
});

describe('chunks', () => {
  test('are as large as leaves eight of them, and no smaller than a granule', () => {
    expect([4096, 4095, 36, 4].map((pages) => chunkPages(pages, 1))).toEqual([512, 256, 4, 1]);
    expect([chunkPages(64, 16), chunkPages(2048, 512)]).toEqual([16, 512]);
    expect(() => smallNouveau({ vramPages: 63, granulePages: 16 })).toThrow('vram holds fewer than four chunks');
    expect(() => smallNouveau({ vramPages: 3 })).toThrow('vram holds fewer than four chunks');
    // 38 pages in chunks of 4: nine whole ones and one of two pages.
    expect(smallNouveau({ vramPages: 38 }).device.vram.chunks.map(({ slots }) => slots.length)).toEqual([4, 4, 4, 4, 4, 4, 4, 4, 4, 2]);
  });

  test('are evicted by the age of their last allocation, not of their last use', () => {
    const { machine, space, context } = smallNouveau({ vramPages: 4 });
    for (const vpn of [0, 1, 2, 3]) context.submit([store(vpn, vpn + 10)], 1); // chunks 0 to 3
    context.submit([load(0)], 1); // a use of chunk 0 does not help it
    context.submit([load(4)], 1);
    expect(space.dump(0, 5)).toBe('hDDDD');

    space.read(at(1), 1); // page 1 comes home: chunk 1 has room
    context.submit([load(5)], 1);
    expect(space.dump(0, 6)).toBe('hhDDDD');
    expect(machine.counters().evictions).toBe(1);

    context.submit([load(6)], 1); // oldest: chunk 2
    expect(space.dump(0, 7)).toBe('hhhDDDD');
    expect(machine.counters().evictions).toBe(2);
    expect([0, 1, 2].map((vpn) => (space.read(at(vpn), 1) as Uint8Array)[0])).toEqual([10, 11, 12]);
    checkMachine(machine);
  });

  test('go home with one event for each run of pages, in every space they serve', () => {
    // Chunks of 2 pages: 16 / 8. Chunk 0 holds pages 3 and 4 of the first space, chunk 1 page 9 of it and page 10 of the second.
    const { machine, space, device, context } = smallNouveau({ vramPages: 16 });
    const other = machine.createSpace();
    other.mmap(0, 64, 'rw');
    const otherContext = machine.attach(other, device);
    context.submit([load(3), load(4), load(9)], 1);
    otherContext.submit([store(10, 77)], 1);
    const before = machine.counters().invalidations; // 4 migrations of a hole: 8
    expect(before).toBe(8);

    expect(device.evict(1)).toBe(1); // pages 3 and 4 are one run
    expect(machine.counters().invalidations).toBe(9);
    expect(device.evictAll()).toBe(1); // page 9 here, page 10 there: two runs
    expect(machine.counters()).toMatchObject({ invalidations: 11, evictions: 2, transfers: { toHost: { 2: 2 } } });
    expect([space.dump(0, 12), other.dump(0, 12)]).toEqual(['...hh....h..', '..........h.']);
    expect(other.read(at(10), 1)).toEqual(Uint8Array.of(77));
    expect(device.evictAll()).toBe(0);
    checkMachine(machine);
  });
});

describe('a batch', () => {
  test('defers what it has no room for, and the replay asks again', () => {
    // Six lanes, six pages, four chunks of one page, each protected once it is given out.
    const { machine, space, context } = smallNouveau({ vramPages: 4 });
    const { order } = context.submit(
      [0, 1, 2, 3, 4, 5].map((vpn) => load(vpn)),
      6,
    );
    expect(order).toEqual([0, 1, 2, 3, 4, 5]);
    expect(space.dump(0, 6)).toBe('hhDDDD');

    // Batch 1: four served (8 events), two deferred. Batch 2: two, with an eviction (1 event) and a migration (2) each.
    const { detail, evictions, invalidations, faults } = machine.counters();
    expect(detail).toMatchObject({ batches: 2, batchSizes: { 4: 1, 2: 1 }, deferred: 2, cleared: 6, coalesced: 0 });
    expect(faults.devices).toEqual({ nouveau: 8 });
    expect(evictions).toBe(2);
    expect(invalidations).toBe(14);
  });

  test('keeps the other page of a crossing access while it makes room', () => {
    // Chunks of one page. Page 0 and pages 5, 6, 7 are on the device, 0 in the oldest chunk. An access to 0+1 must not lose 0 to 1.
    const { machine, space, context } = smallNouveau({ vramPages: 4 });
    for (const vpn of [0, 5, 6, 7]) context.submit([store(vpn, 5)], 1);
    context.submit([{ addr: at(1) - 4, bytes: 8, write: true, lo: 1, hi: 2 }], 1);
    expect(space.dump(0, 8)).toBe('DD...hDD');
    expect(machine.counters()).toMatchObject({ detail: { batches: 5 }, evictions: 1 });
  });

  test('moves fewer neighbours when frames run out, and its events still span all it needed', () => {
    // Pages 8..79, four chunks of 16. Granules of 8, 16, 16 and 16 pages leave eight frames for 64..79, and every chunk is protected.
    const { machine, space, context } = smallNouveau({ granulePages: 16, vramPages: 64, mapped: 80 });
    space.munmap(0, 8); // one event
    const mirror = machine.attach(space, machine.addMirror({ name: 'mirror', granulePages: 1, faultEntries: 256 }));
    mirror.submit([load(79)], 1); // zero, no event
    const lanes = [8, 16, 32, 48, 64].map((vpn) => load(vpn));
    context.submit(lanes, 5);
    expect(space.dump(0, 80)).toBe(`${'-'.repeat(8)}${'D'.repeat(64)}.......z`);
    // Five migrations of holes, two events each, two contexts. The mirror lost page 79, which stayed.
    expect(machine.counters()).toMatchObject({ invalidations: 21, evictions: 0, detail: { deferred: 0, batches: 2, cleared: 64 } });
    expect(mirror.table.size).toBe(0);
  });

  test('gives the faulting page its frame first', () => {
    // As above, with the fault on page 75: it and 64..70 move.
    const { space, context } = smallNouveau({ granulePages: 16, vramPages: 64, mapped: 80 });
    space.munmap(0, 8);
    const lanes = [8, 16, 32, 48, 75].map((vpn) => load(vpn));
    context.submit(lanes, 5);
    expect(space.dump(64, 16)).toBe('DDDDDDD....D....');
  });
});

describe('the verb migrate', () => {
  test('moves holes, zeros and host pages of a range, one operation for each VMA part', () => {
    const { machine, space, context } = smallNouveau();
    space.write(at(1), Uint8Array.of(1));
    space.write(at(3), Uint8Array.of(3));
    space.mprotect(3, 2, 'r'); // 1 event; parts 0..2, 3..4, 5..
    expect(context.migrate(0, 6)).toBe(6);
    expect(space.dump(0, 7)).toBe('DDDddD.');
    // Part 0..2: first page clear: 2 events. Part 3..4: host, hole: 2 events. Part 5: 2 events.
    expect(machine.counters()).toMatchObject({ invalidations: 7, detail: { cleared: 4, migratedByCause: { fault: 2 } } });
    expect(machine.counters().transfers.toDevice).toEqual({ 1: 2 });
    expect(context.migrate(0, 6)).toBe(0);
    expect(context.submit([load(1), load(3)], 2).lo).toEqual(Uint32Array.of(1, 3)); // the device table has them: no batch
    expect(machine.counters().detail.batches).toBe(0);
    checkMachine(machine);
  });

  test('stops when every chunk has been given out once, and says how many pages moved', () => {
    const { space, context } = smallNouveau({ vramPages: 4 });
    expect(context.migrate(10, 6)).toBe(4);
    expect(space.dump(10, 6)).toBe('DDDD..');
    expect(context.migrate(14, 2)).toBe(2); // evicts the two oldest chunks
    expect(space.dump(10, 6)).toBe('hhDDDD');
  });
});

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import * as L from '../../assembly/layout.ts';
import { flavours } from './harness.ts';
import { NOTHING, SmallCore, type SmallRoom } from './small-core.ts';

const HOST = 1;
const NPU = 2;
const ROOM: SmallRoom = {
  nodes: [
    { kind: L.NODE_IS_HOST, frames: 24 },
    { kind: L.NODE_IS_PRIVATE, frames: 32, owner: 1, alloc: L.ALLOC_DRIVER, backed: false },
  ],
};

const NONE = 0;
const READ = 1;
const READ_WRITE = 3;
const OWN = L.KIND_PRESENT | L.ENTRY_WRITE | L.ENTRY_ANON_EXCLUSIVE | L.ENTRY_ACCESSED;
const ZERO = L.KIND_PRESENT | L.ENTRY_ZERO | L.ENTRY_ACCESSED;

describe.each(flavours)('%s', (flavour) => {
  const make = (room: Partial<SmallRoom> = {}): SmallCore => new SmallCore(flavour, { ...ROOM, ...room });

  /** Lets a driver's frame appear at a page, as the end of a migration does. */
  const give = (small: SmallCore, table: number, vpn: number, frame: number, high: number): void => {
    expect(small.core.frameClaim(frame, 0)).toBe(1);
    small.core.rangeMap(table, vpn, 1, frame, high);
    small.core.rmapAddPage(frame, small.field(table, L.TABLE_INDEX), vpn);
  };

  test('a read of a hole maps the page of zeros, which no frame is charged or counted for', () => {
    const small = make();
    const { table, tlb } = small.home(4);
    expect(small.core.mapZero(table, 9)).toBe(1);
    expect(small.entry(table, 9)).toMatchObject({ high: ZERO, low: small.zeroFrame });
    expect([small.touch(tlb, 9, false), small.touch(tlb, 9, true)]).toEqual([true, false]);
    expect([small.node(HOST, L.NODE_USED), small.field(table, L.TABLE_CHARGED), small.core.verify(1)]).toEqual([0, 0, 0]);
    expect(small.core.zap(table, 9, 1)).toBe(1);
    expect([small.bare.header(L.H_PAGES_USED), small.core.verify(1), small.ways(tlb).flat()]).toEqual([1, 0, []]);
  });

  test('a write after it gets a zeroed frame of its own, and the cached page of zeros goes', () => {
    const small = make();
    const { table, tlb, index } = small.home(4);
    small.core.mapZero(table, 9);
    small.touch(tlb, 9, false);
    // Used before, so its bytes are stale.
    const stale = small.core.frameTake(HOST, 0);
    small.u8.fill(0xee, small.core.frameBytes(stale), small.core.frameBytes(stale) + L.PAGE_BYTES);
    small.core.framePut(stale);
    const frame = small.core.mapFresh(table, 9, HOST);
    expect(frame).toBe(stale);
    const bytes = small.core.frameBytes(frame);
    expect(small.u8.subarray(bytes, bytes + L.PAGE_BYTES).every((byte) => byte === 0)).toBe(true);
    expect(small.entry(table, 9)).toMatchObject({ high: OWN, low: frame });
    expect(small.mappings(frame)).toEqual([`${index}:9`]);
    expect(small.holders(frame)).toMatchObject({ refs: 1, maps: 1 });
    expect([small.ways(tlb).flat(), small.touch(tlb, 9, true), small.core.verify(1)]).toEqual([[], true, 0]);
    expect(small.entry(table, 9).high).toBe(OWN | L.ENTRY_DIRTY);
  });

  test('without a frame nothing changes, and no table page is left behind', () => {
    const small = make();
    const { table, tlb } = small.home(4);
    while (small.core.frameTake(HOST, 0) >>> 0 !== NOTHING);
    small.core.mapZero(table, 9);
    small.touch(tlb, 9, false);
    const pages = small.bare.header(L.H_PAGES_USED);
    for (const vpn of [9, 2 ** 33]) {
      expect(small.core.mapFresh(table, vpn, HOST) >>> 0).toBe(NOTHING);
      expect(small.stop).toBe(L.STOP_FRAMES);
    }
    expect([small.bare.header(L.H_PAGES_USED), small.entry(table, 9).high, small.ways(tlb).flat()]).toEqual([pages, ZERO, ['9']]);
    expect(small.core.verify(0)).toBe(0);
  });

  test('without table pages nothing changes, and no frame is taken', () => {
    const small = make({ tablePages: 6 });
    const { table } = small.home();
    expect(small.core.mapZero(table, 0)).toBe(1);
    for (const attempt of [() => small.core.mapZero(table, 2 ** 33), () => small.core.mapFresh(table, 2 ** 33, HOST) + 1]) {
      expect(attempt()).toBe(0);
      expect([small.stop, small.bare.header(L.H_PAGES_USED), small.node(HOST, L.NODE_USED)]).toEqual([L.STOP_TABLES, 4, 0]);
    }
    expect(small.core.verify(1)).toBe(0);
  });

  test('without reverse-map records a fresh page still comes: its one mapping is kept in the frame', () => {
    const small = make({ chains: 1 });
    const { table } = small.home();
    expect(small.core.mapFresh(table, 3, HOST) >>> 0).not.toBe(NOTHING);
    expect(small.core.verify(1)).toBe(0);
  });

  test('reuse gives the right to write back in place, and the next write through the cache is seen as one', () => {
    const small = make();
    const { table, tlb } = small.home(4);
    const frame = small.core.mapFresh(table, 5, HOST);
    expect(small.core.reprotect(table, 0, 100, READ)).toBe(1);
    expect([small.touch(tlb, 5, false), small.touch(tlb, 5, true)]).toEqual([true, false]);
    small.core.mapReuse(table, 5);
    expect([small.ways(tlb).flat(), small.touch(tlb, 5, true), small.ways(tlb).flat()]).toEqual([[], true, ['5wd']]);
    expect(small.entry(table, 5).low).toBe(frame);
  });

  describe('reprotect', () => {
    test('takes rights at once, and gives write back at once only on a host page of this space alone', () => {
      const small = make();
      const { table } = small.home();
      small.core.mapFresh(table, 0, HOST);
      small.core.mapZero(table, 1);
      const shared = small.core.mapFresh(table, 2, HOST);
      small.core.rangeProtect(table, 2, 1, L.ENTRY_ANON_EXCLUSIVE | L.ENTRY_WRITE, 0);
      give(small, table, 3, small.base[NPU]!, L.KIND_DEVICE_PRIVATE | L.ENTRY_WRITE | L.ENTRY_ANON_EXCLUSIVE);
      give(small, table, 4, small.base[NPU]! + 1, L.KIND_MIGRATION | L.ENTRY_WRITE);
      give(small, table, 5, small.base[NPU]! + 2, L.KIND_EXCLUSIVE | L.ENTRY_WRITE);
      small.core.rangeMap(table, 6, 1, 77, L.KIND_POISON);
      const state = (): string[] =>
        [0, 1, 2, 3, 4, 5, 6].map((vpn) => {
          const { high, kind } = small.entry(table, vpn);
          return `${kind}${high & L.ENTRY_WRITE ? 'w' : ''}`;
        });
      expect(state()).toEqual(['1w', '1', '1', '2w', '4w', '3w', '8']);
      expect(small.core.reprotect(table, 0, 2 ** 20, READ)).toBe(3);
      expect(state()).toEqual(['1', '1', '1', '2', '4', '3w', '8']);
      // What is not present remembers that it may not be touched.
      const closed = (): number[] => [3, 4, 5].filter((vpn) => (small.entry(table, vpn).high & L.ENTRY_NO_ACCESS) !== 0);
      expect([small.core.reprotect(table, 0, 7, NONE), closed()]).toEqual([6, [3, 4, 5]]);
      expect(state()).toEqual(['6', '6', '6', '2', '4', '3w', '8']);
      expect(small.core.reprotect(table, 0, 7, NONE)).toBe(0);
      expect([small.core.reprotect(table, 0, 7, READ_WRITE), closed()]).toEqual([6, []]);
      expect(state()).toEqual(['1w', '1', '1', '2', '4', '3w', '8']);
      expect(small.entry(table, 2).low).toBe(shared);
    });

    test('ends what a device had of a page that the CPU only reads, whatever the rights', () => {
      const small = make();
      const { table } = small.home();
      for (const [vpn, rights] of [NONE, READ, READ_WRITE].entries()) {
        small.core.mapFresh(table, vpn, HOST);
        expect(small.core.cpuReadsSet(table, vpn)).toBe(1);
        small.core.reprotect(table, vpn, 1, rights);
        const { high, kind } = small.entry(table, vpn);
        expect([kind, high & L.ENTRY_CPU_READS, high & L.ENTRY_WRITE]).toEqual(
          rights === NONE ? [L.KIND_PROTNONE, 0, 0] : [L.KIND_PRESENT, 0, rights === READ ? 0 : L.ENTRY_WRITE],
        );
      }
      expect(small.core.verify(1)).toBe(0);
    });

    test('empties the TLB of its range only', () => {
      const small = make();
      const { table, tlb } = small.home(1);
      for (const vpn of [3, 4, 5]) small.core.mapFresh(table, vpn, HOST);
      for (const vpn of [3, 4, 5]) small.touch(tlb, vpn, true);
      small.core.reprotect(table, 4, 1, NONE);
      expect(small.ways(tlb)).toEqual([['5wd', '3wd']]);
      expect([small.touch(tlb, 4, false), small.core.verify(1)]).toEqual([false, 0]);
      small.core.reprotect(table, 0, 2 ** 31, READ);
      expect(small.ways(tlb)).toEqual([[]]);
    });

    test('that meets a huge page on its way, which must be split, says for which frame to wait, and leaves no cached right behind that it has taken', () => {
      const small = make({ tablePages: 8, nodes: [{ kind: L.NODE_IS_HOST, frames: 2048, backed: false }] });
      const { table, tlb } = small.home(4);
      small.core.mapFresh(table, 511, HOST);
      expect(small.core.mapHuge(table, 512, HOST, READ_WRITE, 0)).toBe(1);
      const huge = small.entry(table, 512).low;
      small.core.frameTryLock(huge);
      small.touch(tlb, 511, true);
      expect([small.core.reprotect(table, 511, 2, READ), small.stop, small.bare.header(L.H_STOP_ENTRY_LOW)]).toEqual([
        -1,
        L.STOP_LOCKED,
        huge,
      ]);
      expect([small.ways(tlb).flat(), small.entry(table, 511).high & L.ENTRY_WRITE]).toEqual([[], 0]);
      small.core.frameUnlock(huge);
      // 511 has changed already; of the split page only one entry is in the range.
      expect([small.core.reprotect(table, 511, 2, READ), small.core.verify(1)]).toEqual([1, 0]);
      expect(small.entry(table, 513).high & L.ENTRY_WRITE).toBe(L.ENTRY_WRITE);
    });
  });

  describe('zap', () => {
    test('gives up frames of every kind of entry that holds one, tells drivers, and frees every table page', () => {
      const small = make();
      const { table } = small.home();
      const kinds = [L.KIND_PRESENT, L.KIND_DEVICE_PRIVATE, L.KIND_EXCLUSIVE, L.KIND_MIGRATION, L.KIND_PROTNONE];
      kinds.forEach((kind, i) => give(small, table, i * 600, small.base[NPU]! + i, kind));
      small.core.rangeMap(table, 5000, 1, 12345, L.KIND_POISON);
      small.core.rangeMap(table, 5001, 1, 0, L.KIND_POISON);
      small.core.mapZero(table, 2 ** 35);
      small.core.mapFresh(table, 2 ** 35 + 1, HOST);
      expect(small.core.zap(table, 0, 2 ** 20)).toBe(2 ** 20);
      expect(small.freed()).toEqual(kinds.map((_, i) => small.base[NPU]! + i));
      expect(small.core.zap(table, 2 ** 35, 2)).toBe(2);
      expect([small.field(table, L.TABLE_PAGES), small.bare.header(L.H_PAGES_USED), small.core.verify(1)]).toEqual([0, 1, 0]);
      expect(small.node(HOST, L.NODE_USED) + small.node(NPU, L.NODE_USED) + small.field(table, L.TABLE_CHARGED)).toBe(0);
    });

    test('leaves a frame to whoever else holds it', () => {
      const small = make();
      const [a, b] = [small.home(), small.home()];
      const frame = small.core.mapFresh(a.table, 1, HOST);
      small.share(frame, b.table, 70, L.KIND_PRESENT);
      small.core.framePin(frame, 1);
      small.core.zap(a.table, 0, 10);
      expect([small.mappings(frame), small.holders(frame).refs, small.core.verify(1)]).toEqual([[`${b.index}:70`], 2, 0]);
      small.core.zap(b.table, 70, 1);
      expect([small.mappings(frame), small.holders(frame).state]).toEqual([[], L.STATE_USED]);
      small.core.frameUnpin(frame);
      expect(small.node(HOST, L.NODE_USED)).toBe(0);
    });

    test('stops when the list of freed frames is full, and goes on once it is read', () => {
      const small = make();
      const { table } = small.home();
      for (let i = 0; i < 20; i++) give(small, table, 10 + i, small.base[NPU]! + i, L.KIND_DEVICE_PRIVATE);
      small.setHeader(L.H_FREED, L.FREED_MAX - 8);
      const done = small.core.zap(table, 0, 100);
      expect([done, small.stop, small.field(table, L.TABLE_PAGES), small.core.verify(1)]).toEqual([18, L.STOP_FULL, 12, 0]);
      expect(small.freed().slice(-8)).toEqual(Array.from({ length: 8 }, (_, i) => small.base[NPU]! + i));
      expect([small.core.zap(table, done, 100 - done), small.stop]).toEqual([100 - done, L.STOP_NONE]);
      expect(small.freed()).toHaveLength(12);
      expect([small.bare.header(L.H_PAGES_USED), small.core.verify(1)]).toEqual([1, 0]);
    });

    test('of nothing but holes does not care how full the list is', () => {
      const small = make();
      const { table } = small.home();
      small.setHeader(L.H_FREED, L.FREED_MAX);
      expect([small.core.zap(table, 2 ** 31, 2 ** 30), small.stop]).toEqual([2 ** 30, L.STOP_NONE]);
    });
  });

  test('any sequence of faults, protections, takings and accesses leaves what a map of pages says, frames or table pages running out or not', () => {
    interface Page {
      zero: boolean;
      own: boolean;
      write: boolean;
      readable: boolean;
      dirty: boolean;
    }
    const starts = [0, 508, 2 ** 18 - 6, 2 ** 36 - 14];
    const where = fc.record({ space: fc.nat(1), at: fc.tuple(fc.constantFrom(...starts), fc.nat(13)).map(([a, b]) => a + b) });
    const verb = fc.constantFrom('zero', 'fresh', 'fresh', 'reuse', 'zap', 'protect', 'read', 'write', 'write');
    const step = fc.record({ verb, where, pages: fc.constantFrom(1, 2, 5, 14, 600), rights: fc.constantFrom(NONE, READ, READ_WRITE) });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), fc.constantFrom(5, 9, 64), fc.constantFrom(1, 4), (sequence, tablePages, sets) => {
        const small = make({ tablePages });
        const { core } = small;
        const spaces = [small.home(sets), small.home(sets)];
        const models = [new Map<number, Page>(), new Map<number, Page>()];
        const frames = (): number => models.flatMap((m) => [...m.values()]).filter(({ zero }) => !zero).length;
        for (const { verb: what, where: target, pages: asked, rights } of sequence) {
          const { table, tlb } = spaces[target.space]!;
          const model = models[target.space]!;
          const vpn = target.at;
          const pages = Math.min(asked, 2 ** 36 - vpn);
          const page = model.get(vpn);
          const before = small.bare.header(L.H_PAGES_USED);
          if (what === 'zero' && !page) {
            if (core.mapZero(table, vpn)) model.set(vpn, { zero: true, own: false, write: false, readable: true, dirty: false });
            else expect([small.stop, small.bare.header(L.H_PAGES_USED)]).toEqual([L.STOP_TABLES, before]);
          } else if (what === 'fresh' && (!page || (page.zero && page.readable))) {
            const full = frames() === 24;
            if (core.mapFresh(table, vpn, HOST) >>> 0 !== NOTHING) {
              expect(full).toBe(false);
              model.set(vpn, { zero: false, own: true, write: true, readable: true, dirty: false });
            } else {
              expect(small.bare.header(L.H_PAGES_USED)).toBe(before);
              if (small.stop === L.STOP_FRAMES) expect(full).toBe(true);
              else expect([small.stop, page]).toEqual([L.STOP_TABLES, undefined]);
            }
          } else if (what === 'reuse' && page && !page.zero && page.readable) {
            core.mapReuse(table, vpn);
            page.write = true;
          } else if (what === 'zap') {
            expect(core.zap(table, vpn, pages)).toBe(pages);
            for (const each of model.keys()) if (each >= vpn && each < vpn + pages) model.delete(each);
          } else if (what === 'protect') {
            let changed = 0;
            for (const [each, one] of model) {
              if (each < vpn || each >= vpn + pages) continue;
              const [readable, write] = [rights !== NONE, rights === READ_WRITE && one.own];
              if (readable !== one.readable || write !== one.write) changed++;
              Object.assign(one, { readable, write });
            }
            expect(core.reprotect(table, vpn, pages, rights)).toBe(changed);
          } else if (what === 'read') {
            expect(small.touch(tlb, vpn, false)).toBe(page?.readable ?? false);
          } else if (what === 'write') {
            const allowed = page !== undefined && page.readable && page.write;
            expect(small.touch(tlb, vpn, true)).toBe(allowed);
            if (allowed) page.dirty = true;
          }
          expect(core.verify(1)).toBe(0);
        }
        models.forEach((model, i) => {
          const { table } = spaces[i]!;
          expect(small.field(table, L.TABLE_PAGES)).toBe(model.size);
          for (const [vpn, page] of model) {
            const { high, kind, low } = small.entry(table, vpn);
            const bits = [L.ENTRY_ZERO, L.ENTRY_WRITE, L.ENTRY_DIRTY, L.ENTRY_ANON_EXCLUSIVE].map((bit) => (high & bit) !== 0);
            expect([kind, ...bits]).toEqual([
              page.readable ? L.KIND_PRESENT : L.KIND_PROTNONE,
              page.zero,
              page.write,
              page.dirty,
              page.own,
            ]);
            if (page.zero) expect(low).toBe(small.zeroFrame);
          }
          expect(small.field(table, L.TABLE_CHARGED)).toBe([...model.values()].filter(({ zero }) => !zero).length);
          core.zap(table, 0, 2 ** 31);
          core.zap(table, 2 ** 36 - 14, 14);
          expect(small.field(table, L.TABLE_TABLES)).toBe(1);
        });
        expect([small.node(HOST, L.NODE_USED), core.verify(1)]).toEqual([0, 0]);
      }),
      { numRuns: 150 },
    );
  });
});

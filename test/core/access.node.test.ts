import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import * as L from '../../assembly/layout.ts';
import { flavours } from './harness.ts';
import { type Access, SmallCore } from './small-core.ts';

const P = L.PAGE_BYTES;
/** Where the pages of a test are; frames are given out backwards, so that no two pages that meet are neighbours in memory. */
const BASE = 2 ** 24 - 4;
const PAGES = 8;
type Right = 'none' | 'r' | 'w';

/** Byte k of a written value: the word (lo, hi), lo counting up by one a word. */
function written(low: number, high: number, k: number): number {
  const part = k & 7;
  const word = part < 4 ? (low + (k >> 3)) >>> 0 : high;
  return (word >>> ((part & 3) * 8)) & 0xff;
}

/** What a read observes: the bytes themselves up to eight, a hash and the length beyond. */
function observed(bytes: readonly number[]): [low: number, high: number] {
  const word = (from: number): number => [0, 1, 2, 3].reduce((sum, i) => (sum | ((bytes[from + i] ?? 0) << (8 * i))) >>> 0, 0);
  if (bytes.length <= 8) return [word(0), word(4)];
  let hash = 0;
  for (let at = 0; at < bytes.length; at += 4) {
    hash = Math.imul(hash ^ word(at), 0x01000193) >>> 0;
    hash = (hash ^ (hash >>> 15)) >>> 0;
  }
  return [hash, bytes.length];
}

describe.each(flavours)('%s', (flavour) => {
  const make = (sets: number, rights: readonly Right[]): { small: SmallCore; table: number; tlb: number } => {
    const small = new SmallCore(flavour, {
      nodes: [
        { kind: L.NODE_IS_HOST, frames: PAGES },
        { kind: L.NODE_IS_HOST, frames: 2, backed: false },
      ],
    });
    const { table, tlb } = small.home(sets);
    rights.forEach((right, i) => {
      const high = L.KIND_PRESENT | (right === 'w' ? L.ENTRY_WRITE : 0);
      if (right !== 'none') small.core.rangeMap(table, BASE + i, 1, small.base[1]! + PAGES - 1 - i, high);
    });
    return { small, table, tlb };
  };
  const every = (right: Right): Right[] => Array.from({ length: PAGES }, () => right);
  const run = (small: SmallCore, tlb: number, list: readonly Access[], from = 0): number => {
    list.forEach((access, i) => small.setAccess(i, access));
    return small.core.runAccesses(tlb, small.accesses, small.values, from, list.length);
  };
  /** All bytes of the core's memory but the header, the batch areas, and where in the table the last walk has been: what a fault must not change. */
  const everything = (small: SmallCore, table: number): Uint8Array[] => [
    small.u8.slice(L.HEADER_BYTES, table + L.TABLE_DIRECTORY),
    small.u8.slice(table + L.TABLE_DIRECTORY_INDEX + 8, small.bare.areas),
    small.u8.slice(small.bare.areas + L.AREAS_LENGTH),
  ];

  test('accesses of 1 to 4096 bytes at any alignment, over page boundaries too, do to memory what they do to an array of bytes', () => {
    const sizes = fc.oneof(fc.integer({ min: 1, max: 16 }), fc.constantFrom(1, 2, 4, 8), fc.integer({ min: 1, max: P }));
    const places = fc.oneof(
      fc.nat(PAGES * P - 1),
      fc.tuple(fc.integer({ min: 1, max: PAGES - 1 }), fc.integer({ min: -12, max: 4 })).map(([page, by]) => page * P + by),
    );
    const value = fc.tuple(fc.integer({ min: 0, max: 0xffffffff }), fc.integer({ min: 0, max: 0xffffffff }));
    const accesses = fc.array(fc.record({ at: places, bytes: sizes, write: fc.boolean(), value }), { minLength: 1, maxLength: 60 });
    const rights = fc.array(fc.constantFrom<Right>('none', 'r', 'w', 'w', 'w'), { minLength: PAGES, maxLength: PAGES });
    fc.assert(
      fc.property(accesses, rights, fc.constantFrom(1, 2, 64), (sequence, pages, sets) => {
        const { small, table, tlb } = make(sets, pages);
        const model = new Uint8Array(PAGES * P);
        const dirty = new Set<number>();
        let touched = 0;
        // A pattern to begin with, the same on both sides.
        for (let i = 0; i < PAGES; i++) {
          for (let k = 0; k < P; k++) model[i * P + k] = (i * 37 + k * 11) & 0xff;
          small.u8.set(model.subarray(i * P, i * P + P), small.core.frameBytes(small.base[1]! + PAGES - 1 - i));
        }
        for (const {
          at,
          bytes: asked,
          write,
          value: [low, high],
        } of sequence) {
          const bytes = Math.min(asked, PAGES * P - at);
          const first = Math.floor(at / P);
          const last = Math.floor((at + bytes - 1) / P);
          const allowed = [first, last].every((page) => pages[page] === 'w' || (!write && pages[page] === 'r'));
          small.setAccess(0, { address: BASE * P + at, bytes, write });
          small.setField(small.values, 0, write ? low : 0x55555555);
          small.setField(small.values, 4, write ? high : 0x55555555);
          const before = allowed ? [] : everything(small, table);
          const done = small.core.runAccesses(tlb, small.accesses, small.values, 0, 1);
          if (!allowed) {
            expect([done, small.stop, small.bare.header(L.H_STOP_INDEX)]).toEqual([0, L.STOP_FAULT, 0]);
            const lacks = (page: number): boolean => pages[page] === 'none' || (write && pages[page] === 'r');
            expect(small.bare.header(L.H_STOP_VPN_LOW)).toBe(BASE + (lacks(first) ? first : last));
            expect(
              everything(small, table).every((part, i) => Buffer.compare(part, before[i]!) === 0),
              'a fault changes nothing',
            ).toBe(true);
            continue;
          }
          expect([done, small.stop]).toEqual([1, L.STOP_NONE]);
          touched += last - first + 1;
          if (write) {
            for (let k = 0; k < bytes; k++) model[at + k] = written(low, high, k);
            dirty.add(first).add(last);
          } else expect(small.list(small.values, 2)).toEqual(observed(Array.from(model.subarray(at, at + bytes))));
        }
        const [hits, misses] = small.counts(tlb);
        expect(hits + misses, 'pages looked up').toBe(touched);
        for (let i = 0; i < PAGES; i++) {
          const bytes = small.core.frameBytes(small.base[1]! + PAGES - 1 - i);
          expect(Buffer.compare(small.u8.subarray(bytes, bytes + P), model.subarray(i * P, i * P + P)), `bytes of page ${i}`).toBe(0);
          expect((small.entry(table, BASE + i).high & L.ENTRY_DIRTY) !== 0, `dirty of page ${i}`).toBe(dirty.has(i));
        }
      }),
      { numRuns: 80 },
    );
  });

  test('the first write through a translation that a read filled sets dirty, and only the first has to', () => {
    const { small, table, tlb } = make(4, every('w'));
    small.touch(tlb, BASE, false);
    expect([small.ways(tlb).flat(), small.entry(table, BASE).high & L.ENTRY_DIRTY]).toEqual([[`${BASE}w`], 0]);
    expect(small.entry(table, BASE).high & L.ENTRY_ACCESSED).toBe(L.ENTRY_ACCESSED);
    small.touch(tlb, BASE, true);
    expect([small.ways(tlb).flat(), small.entry(table, BASE).high & L.ENTRY_DIRTY]).toEqual([[`${BASE}wd`], L.ENTRY_DIRTY]);
    expect(small.counts(tlb)).toEqual([1, 1, 0]);
  });

  test('a run stops at the first access that faults, with all before it done, and goes on from there', () => {
    const rights = every('w');
    rights[1] = 'none';
    const { small, table, tlb } = make(4, rights);
    const list = [0, 8, P - 1, 16].map((at) => ({ address: BASE * P + at, bytes: 2, write: true }));
    expect([run(small, tlb, list), small.stop, small.bare.header(L.H_STOP_VPN_LOW)]).toEqual([2, L.STOP_FAULT, BASE + 1]);
    expect(small.counts(tlb)).toEqual([1, 1, 0]);
    small.core.rangeMap(table, BASE + 1, 1, small.base[1]! + PAGES - 2, L.KIND_PRESENT | L.ENTRY_WRITE);
    expect([run(small, tlb, list, 2), small.stop]).toEqual([4, L.STOP_NONE]);
    expect(small.counts(tlb)).toEqual([3, 2, 0]);
  });

  test('two ways of a set are looked at where pages share sets in turns, for some blocks, whoever runs them and wherever they fault', () => {
    const { small, tlb } = make(1, ['w', 'w', 'none', 'w', 'w', 'w', 'w', 'w']);
    const access = (page: number): Access => ({ address: (BASE + page) * P, bytes: 8, write: false });
    const pages = (count: number, page: (i: number) => number): Access[] => Array.from({ length: count }, (_, i) => access(page(i)));
    const turns = (): number => small.field(tlb, L.TLB_TURNS);
    // One page after the other, each for long.
    expect(
      run(
        small,
        tlb,
        pages(L.BLOCK_ACCESSES * 4, (i) => (i < L.BLOCK_ACCESSES * 2 ? 0 : 1)),
      ),
    ).toBe(L.BLOCK_ACCESSES * 4);
    expect(turns()).toBe(0);
    const alternating = pages(L.BLOCK_ACCESSES, (i) => i % 2);
    expect(run(small, tlb, alternating)).toBe(L.BLOCK_ACCESSES);
    const full = turns();
    expect(full).toBeGreaterThan(0);
    // A block that a fault cuts is one, however short; one that faults at once is none.
    expect(run(small, tlb, [...alternating.slice(0, 3), access(2)])).toBe(3);
    expect(turns()).toBe(full - 1);
    expect(run(small, tlb, [access(2), ...alternating])).toBe(0);
    expect(turns()).toBe(full - 1);
    // Asked anew at the end, and not before.
    for (let left = full - 1; left > 0; left--) {
      expect(
        run(
          small,
          tlb,
          pages(L.BLOCK_ACCESSES, () => 0),
        ),
      ).toBe(L.BLOCK_ACCESSES);
      expect(turns()).toBe(left - 1);
    }
    expect(
      run(
        small,
        tlb,
        pages(L.BLOCK_ACCESSES, () => 0),
      ),
    ).toBe(L.BLOCK_ACCESSES);
    expect(turns()).toBe(0);
  });

  test('a page whose bytes are elsewhere stops the run with that reason, translated and counted', () => {
    const { small, table, tlb } = make(4, every('w'));
    small.core.rangeMap(table, BASE + 1, 1, small.base[2]!, L.KIND_PRESENT | L.ENTRY_WRITE);
    const list = [BASE * P, (BASE + 1) * P].map((address) => ({ address, bytes: 1, write: true }));
    for (const counts of [
      [0, 2, 0],
      [2, 2, 0],
    ]) {
      // prettier-ignore
      expect([run(small, tlb, list), small.stop, small.bare.header(L.H_STOP_INDEX)]).toEqual([1, L.STOP_BYTES, 1]);
      expect(small.counts(tlb)).toEqual(counts);
    }
    expect(run(small, tlb, [{ address: (BASE + 1) * P - 1, bytes: 2, write: true }])).toBe(0);
    expect(small.stop).toBe(L.STOP_BYTES);
    expect(small.entry(table, BASE + 1).high & L.ENTRY_DIRTY).toBe(L.ENTRY_DIRTY);
  });

  test('kinds that are not present are never reached, whatever rights their words carry', () => {
    const { small, table, tlb } = make(4, every('none'));
    for (let kind = 0; kind <= L.KIND_POISON; kind++) {
      if (kind === L.KIND_PRESENT) continue;
      small.core.rangeMap(table, BASE, 1, small.base[1]!, kind | L.ENTRY_WRITE);
      expect([small.touch(tlb, BASE, false), small.touch(tlb, BASE, true)]).toEqual([false, false]);
    }
  });

  test('a second page that only a stale translation reaches, pushed out by the first page, is a fault and touches no memory', () => {
    const { small, table, tlb } = make(1, every('w'));
    for (const i of [1, 5, 6, 7]) small.touch(tlb, BASE + i, true);
    // The driver forgets to invalidate.
    small.core.rangeUnmap(table, BASE + 1, 1);
    const header = small.u8.slice(0, 64);
    expect([run(small, tlb, [{ address: (BASE + 1) * P - 4, bytes: 8, write: true }]), small.stop]).toEqual([0, L.STOP_FAULT]);
    expect(Buffer.compare(small.u8.subarray(0, 64), header)).toBe(0);
    expect(small.counts(tlb).slice(0, 2)).toEqual([0, 5]);
  });

  test('copies of any length go page by page and stop, with the rest undone, where the right ends', () => {
    const range = fc.tuple(fc.nat(PAGES * P - 1), fc.nat(PAGES * P)).map(([at, n]) => ({ at, length: Math.min(n, PAGES * P - at) }));
    const rights = fc.array(fc.constantFrom<Right>('none', 'r', 'w', 'w', 'w'), { minLength: PAGES, maxLength: PAGES });
    fc.assert(
      fc.property(fc.array(fc.tuple(range, fc.boolean()), { maxLength: 8 }), rights, (copies, pages) => {
        const { small, tlb } = make(2, pages);
        const model = new Uint8Array(PAGES * P);
        let touched = 0;
        copies.forEach(([{ at, length }, write], n) => {
          const buffer = small.bare.areas + L.AREA_BYTES;
          const data = Uint8Array.from({ length }, (_, i) => (i * 13 + n) & 0xff);
          small.u8.set(data, buffer);
          const done = small.core.copyThrough(tlb, BASE * P + at, length, buffer, write ? 1 : 0);
          let end = at;
          while (end < at + length) {
            const page = Math.floor(end / P);
            if (pages[page] !== 'w' && (write || pages[page] !== 'r')) break;
            end = Math.min((page + 1) * P, at + length);
            touched++;
          }
          expect(done).toBe(end - at);
          expect(small.stop).toBe(done < length ? L.STOP_FAULT : L.STOP_NONE);
          if (done < length) expect(small.bare.header(L.H_STOP_VPN_LOW)).toBe(BASE + Math.floor(end / P));
          if (write) model.set(data.subarray(0, done), at);
          else expect(Buffer.compare(small.u8.subarray(buffer, buffer + done), model.subarray(at, at + done))).toBe(0);
          const [hits, misses] = small.counts(tlb);
          expect(hits + misses).toBe(touched);
        });
      }),
      { numRuns: 60 },
    );
  });

  test('values of accesses depend on the seed and the number of the access alone', () => {
    const { small } = make(1, every('w'));
    const values = (n: number, seed: number, number: number): number[] => {
      small.core.fillValues(small.values, n, seed, number);
      return small.list(small.values, 2 * n);
    };
    const all = values(50, 7, 0);
    expect([...values(20, 7, 0), ...values(30, 7, 20)]).toEqual(all);
    expect(new Set(all).size).toBe(100);
    expect(values(50, 8, 0)).not.toEqual(all);
  });
});

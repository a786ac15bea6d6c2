import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import * as L from '../../assembly/layout.ts';
import { flavours } from './harness.ts';
import { SmallCore } from './small-core.ts';

const WRITABLE = L.KIND_PRESENT | L.ENTRY_WRITE;
const BOTH = L.ENTRY_ACCESSED | L.ENTRY_DIRTY;
const PAGES = 1600;
const BASE = 2 ** 18 - 900;

describe.each(flavours)('%s', (flavour) => {
  const make = (): SmallCore => new SmallCore(flavour, { nodes: [{ kind: L.NODE_IS_HOST, frames: 48 }] });

  /** All marks of a range, in calls of at most `max` runs, as page -> dirty; runs must be ascending and as long as they can be. */
  const harvest = (small: SmallCore, table: number, vpn: number, pages: number, max = 100): Map<number, boolean> => {
    const found = new Map<number, boolean>();
    let end = -1;
    let last = 0;
    for (let done = 0; done < pages;) {
      const runs = small.core.tableHarvest(table, vpn + done, pages - done, small.spare, max);
      const full = small.stop === L.STOP_FULL;
      const words = small.list(small.spare, runs * 3);
      for (let run = 0; run < runs; run++) {
        const [offset, length, marks] = words.slice(run * 3) as [number, number, number];
        const start = vpn + done + offset;
        expect(start).toBeGreaterThanOrEqual(end);
        if (run > 0) expect(start === end && marks === last).toBe(false);
        for (let page = 0; page < length; page++) found.set(start + page, (marks & L.ENTRY_DIRTY) !== 0);
        end = start + length;
        last = marks;
      }
      const covered = small.bare.header(L.H_STOP_INDEX);
      if (full) expect([runs, covered > 0]).toEqual([max, true]);
      else expect([small.stop, covered]).toEqual([L.STOP_NONE, pages - done]);
      done += covered;
    }
    return found;
  };

  test('marks of any pages are found once, in the range that was asked for, in as many calls as it takes', () => {
    const marks = fc.constantFrom(0, 0, L.ENTRY_ACCESSED, BOTH);
    const pieces = fc.array(fc.record({ pages: fc.integer({ min: 1, max: 90 }), mapped: fc.boolean(), marks }), { maxLength: 40 });
    const range = fc.record({ from: fc.nat(PAGES - 1), pages: fc.integer({ min: 1, max: PAGES }) });
    fc.assert(
      fc.property(pieces, range, fc.constantFrom(1, 2, 7, 100), (list, { from, pages }, max) => {
        const small = make();
        const { table } = small.home();
        const model = new Map<number, number>();
        let at = 0;
        for (const piece of list) {
          const length = Math.min(piece.pages, PAGES - at);
          if (length > 0 && piece.mapped) {
            small.core.rangeMap(table, BASE + at, length, at, WRITABLE | piece.marks);
            for (let page = at; page < at + length; page++) model.set(BASE + page, piece.marks);
          }
          at += length;
        }
        const length = Math.min(pages, PAGES - from);
        const wanted = new Map([...model].filter(([vpn, set]) => set !== 0 && vpn >= BASE + from && vpn < BASE + from + length));
        expect([...harvest(small, table, BASE + from, length, max)]).toEqual([...wanted].map(([vpn, set]) => [vpn, set === BOTH]));
        for (const [vpn, set] of model) expect(small.entry(table, vpn).high).toBe(WRITABLE | (wanted.has(vpn) ? 0 : set));
        expect(harvest(small, table, BASE + from, length, max).size).toBe(0);
      }),
      { numRuns: 60 },
    );
  });

  test('a block reports all of its pages; it is cleared when all of them were asked for, and keeps its mark otherwise', () => {
    const small = make();
    const { table } = small.home();
    small.core.rangeMapOrder(table, 512, 0, WRITABLE | BOTH, 9);
    expect(harvest(small, table, 600, 10)).toEqual(new Map(Array.from({ length: 10 }, (_, page) => [600 + page, true])));
    expect(small.entry(table, 512).high & BOTH).toBe(BOTH);
    expect([harvest(small, table, 0, 700).size, harvest(small, table, 700, 1000).size]).toEqual([700 - 512, 1024 - 700]);
    expect(harvest(small, table, 512, 512).size).toBe(512);
    expect(small.entry(table, 512).high & BOTH).toBe(0);
    expect(harvest(small, table, 0, 2048).size).toBe(0);
  });

  test('only present entries have marks', () => {
    const small = make();
    const { table } = small.home();
    for (let kind = 1; kind < 15; kind++) small.core.rangeMap(table, kind, 1, kind, kind | BOTH);
    expect([...harvest(small, table, 0, 100)]).toEqual([[L.KIND_PRESENT, true]]);
  });

  test('a range of terabytes that maps nothing is one call', () => {
    const small = make();
    const { table } = small.home();
    expect(harvest(small, table, 0, 2 ** 30).size).toBe(0);
  });

  test('an access marks its page again once the TLB has forgotten it', () => {
    const small = make();
    const { table, tlb } = small.home(8);
    small.core.rangeMap(table, 3, 4, 1, WRITABLE);
    small.touch(tlb, 3, false);
    small.touch(tlb, 4, true);
    expect([...harvest(small, table, 0, 10)]).toEqual([
      [3, false],
      [4, true],
    ]);
    small.core.tlbInvalidate(tlb, 3, 2);
    small.touch(tlb, 3, false);
    small.touch(tlb, 3, true);
    small.touch(tlb, 4, false);
    expect([...harvest(small, table, 0, 10)]).toEqual([
      [3, true],
      [4, false],
    ]);
  });

  test('tableMark sets marks of entries that there are, and nothing else', () => {
    const small = make();
    const { table } = small.home();
    small.core.rangeMap(table, 5, 1, 7, WRITABLE);
    small.core.tableMark(table, 5, -1);
    small.core.tableMark(table, 6, BOTH);
    expect([small.entry(table, 5), small.entry(table, 6)]).toEqual([
      { high: WRITABLE | BOTH, low: 7, kind: L.KIND_PRESENT },
      { high: 0, low: 0, kind: 0 },
    ]);
  });
});

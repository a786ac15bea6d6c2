import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import * as L from '../../assembly/layout.ts';
import { flavours } from './harness.ts';
import { SmallCore } from './small-core.ts';

const TOP = 2 ** 36;
const PLAIN = L.KIND_PRESENT;
const WRITABLE = L.KIND_PRESENT | L.ENTRY_WRITE;

/** A TLB as one list a set, most recent page first. */
class TlbModel {
  readonly sets: { vpn: number; write: boolean; dirty: boolean }[][];
  hits = 0;
  misses = 0;
  dropped = 0;

  constructor(sets: number) {
    this.sets = Array.from({ length: sets }, () => []);
  }

  /** An access that the table allows when `entry` says so; true when it goes through. */
  touch(vpn: number, write: boolean, entry: 'none' | 'r' | 'w'): boolean {
    const set = this.sets[vpn % this.sets.length]!;
    const at = set.findIndex((way) => way.vpn === vpn);
    const way = set[at];
    if (way && (!write || way.write)) {
      this.hits++;
      way.dirty ||= write;
      set.splice(at, 1);
      set.unshift(way);
      return true;
    }
    if (entry === 'none' || (write && entry === 'r')) return false;
    this.misses++;
    if (way) set.splice(at, 1);
    set.unshift({ vpn, write: entry === 'w', dirty: write });
    set.length = Math.min(set.length, L.TLB_WAYS);
    return true;
  }

  drop(from: number, pages: number): void {
    for (const set of this.sets) {
      const kept = set.filter(({ vpn }) => vpn < from || vpn >= from + pages);
      this.dropped += set.length - kept.length;
      set.splice(0, set.length, ...kept);
    }
  }

  ways(): string[][] {
    return this.sets.map((set) => set.map(({ vpn, write, dirty }) => `${vpn}${write ? 'w' : ''}${dirty ? 'd' : ''}`));
  }
}

describe.each(flavours)('%s', (flavour) => {
  const make = (tlbs = 4): SmallCore => new SmallCore(flavour, { nodes: [{ kind: L.NODE_IS_HOST, frames: 48 }], tlbs });

  test('any sequence of accesses and invalidations leaves the ways, their order and the counts of a list a set', () => {
    const bases = [0, 30, 2 ** 32 - 4, TOP - 40];
    const pages = fc.tuple(fc.constantFrom(...bases), fc.nat(39)).map(([base, by]) => base + by);
    const touch = fc.record({ vpn: pages, write: fc.boolean() });
    const change = fc.record({ vpn: pages, entry: fc.constantFrom('none' as const, 'r' as const, 'w' as const) });
    const drop = fc.record({ from: pages, pages: fc.constantFrom(0, 1, 2, 3, 7, 30, 200, 2 ** 31, 2 ** 32 - 1) });
    const steps = fc.array(
      fc.oneof(
        { weight: 12, arbitrary: touch },
        { weight: 2, arbitrary: change },
        { weight: 1, arbitrary: drop },
        fc.constant('flush' as const),
      ),
      { minLength: 20, maxLength: 200 },
    );
    fc.assert(
      fc.property(fc.constantFrom(1, 2, 8, 256), steps, (sets, sequence) => {
        const small = make();
        const { table, tlb } = small.home(sets);
        const model = new TlbModel(sets);
        const entries = new Map<number, 'none' | 'r' | 'w'>();
        // Every page is there to begin with, so that accesses fill.
        for (const base of bases) {
          small.core.rangeMap(table, base, 40, 1, WRITABLE);
          for (let i = 0; i < 40; i++) entries.set(base + i, 'w');
        }
        for (const step of sequence) {
          if (step === 'flush') {
            small.core.tlbFlush(tlb);
            model.drop(0, TOP);
          } else if ('from' in step) {
            const range = Math.min(step.pages, TOP - step.from);
            small.core.tlbInvalidate(tlb, step.from, range);
            model.drop(step.from, range);
          } else if ('entry' in step) {
            // Behind the TLB's back, as a driver does that forgets to invalidate.
            if (step.entry === 'none') small.core.rangeUnmap(table, step.vpn, 1);
            else small.core.rangeMap(table, step.vpn, 1, 2, step.entry === 'w' ? WRITABLE : PLAIN);
            entries.set(step.vpn, step.entry);
          } else {
            expect(small.touch(tlb, step.vpn, step.write)).toBe(model.touch(step.vpn, step.write, entries.get(step.vpn)!));
          }
          expect(small.counts(tlb)).toEqual([model.hits, model.misses, model.dropped]);
          if (sets < 256) expect(small.ways(tlb)).toEqual(model.ways());
        }
        expect(small.ways(tlb)).toEqual(model.ways());
      }),
      { numRuns: 120 },
    );
  });

  test('a flush empties the whole of the address space', () => {
    const small = make();
    const { table, tlb } = small.home(16);
    const vpns = [0, 2 ** 32 - 2, 2 ** 32 - 1, 2 ** 32, TOP - 1];
    for (const vpn of vpns) {
      small.core.rangeMap(table, vpn, 1, 1, PLAIN);
      small.touch(tlb, vpn, false);
    }
    expect(small.ways(tlb).flat()).toHaveLength(5);
    small.core.tlbFlush(tlb);
    expect([small.ways(tlb).flat(), small.counts(tlb)]).toEqual([[], [0, 5, 5]]);
  });

  test('the least recently used of four pages makes room for the fifth', () => {
    const small = make();
    const { table, tlb } = small.home(1);
    small.core.rangeMap(table, 0, 6, 1, PLAIN);
    for (const vpn of [0, 1, 2, 3, 0, 4]) small.touch(tlb, vpn, false);
    expect(small.ways(tlb)).toEqual([['4', '0', '3', '2']]);
    small.core.tlbInvalidate(tlb, 0, 1);
    expect(small.ways(tlb)).toEqual([['4', '3', '2']]);
    small.touch(tlb, 5, false);
    expect(small.ways(tlb)).toEqual([['5', '4', '3', '2']]);
  });

  test('a write through a way without the right replaces it by one that has it, once the table does', () => {
    const small = make();
    const { table, tlb } = small.home(2);
    small.core.rangeMap(table, 7, 1, 1, PLAIN);
    expect([small.touch(tlb, 7, false), small.touch(tlb, 7, true)]).toEqual([true, false]);
    small.core.rangeMap(table, 7, 1, 1, WRITABLE);
    expect([small.touch(tlb, 7, true), small.ways(tlb).flat(), small.counts(tlb)]).toEqual([true, ['7wd'], [0, 2, 0]]);
  });

  test('TLBs that are all taken make tlbCreate return 0; one that is given back starts empty, with counts of zero', () => {
    const small = make(2);
    const first = small.home(4);
    expect(small.home(256).tlb).toBeGreaterThan(0);
    expect(small.core.tlbCreate(first.table, 4)).toBe(0);
    small.core.rangeMap(first.table, 0, 1, 1, PLAIN);
    small.touch(first.tlb, 0, false);
    small.core.tlbDestroy(first.tlb);
    expect(small.core.tlbCreate(first.table, 8) >>> 0).toBe(first.tlb);
    expect([small.ways(first.tlb), small.counts(first.tlb)]).toEqual([Array.from({ length: 8 }, () => []), [0, 0, 0]]);
  });
});

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import * as L from '../../assembly/layout.ts';
import { flavours } from './harness.ts';
import { SmallCore } from './small-core.ts';

const FRAMES = 6;

describe.each(flavours)('%s', (flavour) => {
  const make = (chains: number): { small: SmallCore; frames: number[] } => {
    const small = new SmallCore(flavour, { nodes: [{ kind: L.NODE_IS_HOST, frames: FRAMES }], chains });
    return { small, frames: Array.from({ length: FRAMES }, () => small.core.frameTake(1, 0)) };
  };
  const chained = (small: SmallCore, frame: number): boolean => small.frame(frame, L.FRAME_RMAP_OWNER) >>> L.RMAP_CHAINED_SHIFT === 1;
  const used = (small: SmallCore): number => small.bare.header(L.H_CHAIN_USED);

  test('one mapping is in the frame, the second moves both into a chain, and the last but one moves back', () => {
    const { small, frames } = make(10);
    const frame = frames[0]!;
    const { core } = small;
    expect(core.rmapAddPage(frame, 3, 2 ** 36 - 1)).toBe(1);
    expect([chained(small, frame), used(small)]).toEqual([false, 0]);
    expect(core.rmapAddPage(frame, 0, 2 ** 32)).toBe(1);
    expect([chained(small, frame), used(small)]).toEqual([true, 2]);
    expect(small.mappings(frame)).toEqual([`0:${2 ** 32}`, `3:${2 ** 36 - 1}`]);
    expect(core.rmapRemovePage(frame, 0, 2 ** 32 + 1)).toBe(0);
    expect(core.rmapRemovePage(frame, 1, 2 ** 32)).toBe(0);
    expect(core.rmapRemovePage(frame, 3, 2 ** 36 - 1)).toBe(1);
    expect([chained(small, frame), used(small)]).toEqual([false, 0]);
    expect(small.mappings(frame)).toEqual([`0:${2 ** 32}`]);
    expect(core.rmapRemovePage(frame, 0, 0)).toBe(0);
    expect(core.rmapRemovePage(frame, 0, 2 ** 32)).toBe(1);
    expect([small.mappings(frame), small.holders(frame).maps]).toEqual([[], 0]);
  });

  test('a list that is too short says how many there are and writes no more than asked', () => {
    const { small, frames } = make(10);
    for (let page = 0; page < 5; page++) small.core.rmapAddPage(frames[0]!, 1, page);
    small.u32.fill(0xdead, small.spare >>> 2, (small.spare >>> 2) + 9);
    expect(small.core.rmapList(frames[0]!, small.spare, 2)).toBe(5);
    expect(small.list(small.spare + 24, 1)).toEqual([0xdead]);
  });

  test('the places of many frames: the first mapping of each, and whether there are more', () => {
    const { small, frames } = make(10);
    const { core } = small;
    const [none, one, two] = frames as [number, number, number];
    core.rmapAddPage(one, 3, 2 ** 36 - 1);
    core.rmapAddPage(two, 2, 7);
    core.rmapAddPage(two, 0, 2 ** 32);
    const list = small.spare + 1024;
    small.u32.set([two, none, one], list >>> 2);
    small.u32.fill(0xdead, small.spare >>> 2, (small.spare >>> 2) + 13);
    core.rmapPlaces(list, 3, small.spare);
    const first = core.rmapList(two, small.spare + 2048, 1) && small.list(small.spare + 2048, 3);
    expect(small.list(small.spare, 13)).toEqual([...(first || []), 1 + L.PLACE_MORE, 2 ** 32 - 1, 0, 0, 1, 3, 2 ** 32 - 1, 15, 1, 0xdead]);
  });

  test('a second mapping that finds one record where it needs two takes none', () => {
    const { small, frames } = make(4);
    const { core } = small;
    const [a, b] = frames as [number, number];
    core.rmapAddPage(a, 0, 1);
    core.rmapAddPage(a, 0, 2);
    core.rmapAddPage(b, 0, 3);
    expect(used(small)).toBe(2);
    expect(core.rmapAddPage(b, 0, 4)).toBe(0);
    expect([used(small), small.mappings(b), chained(small, b), small.holders(b).maps]).toEqual([2, ['0:3'], false, 1]);
    // A frame that has its chain needs one only.
    expect(core.rmapAddPage(a, 0, 5)).toBe(1);
    expect(core.rmapAddPage(a, 0, 6)).toBe(0);
    expect(small.mappings(a)).toEqual(['0:1', '0:2', '0:5']);
    expect(core.rmapRemovePage(a, 0, 1)).toBe(1);
    expect(core.rmapRemovePage(a, 0, 5)).toBe(1);
    expect(used(small)).toBe(0);
    expect(core.rmapAddPage(b, 0, 4)).toBe(1);
  });

  test('any sequence of mappings coming and going, records running out included, leaves the sets that a map of sets has', () => {
    const page = fc.constantFrom(0, 1, 2, 3, 7, 2 ** 32, 2 ** 32 + 1, 2 ** 36 - 1);
    const change = fc.record({ add: fc.boolean(), frame: fc.nat(FRAMES - 1), table: fc.constantFrom(0, 1, 3, 65534), page });
    fc.assert(
      fc.property(fc.constantFrom(1, 2, 3, 8, 20, 200), fc.array(change, { maxLength: 120 }), (chains, sequence) => {
        const { small, frames } = make(chains);
        const { core } = small;
        const sets = frames.map(() => new Set<string>());
        const records = (): number => sets.reduce((sum, { size }) => sum + (size > 1 ? size : 0), 0);
        for (const { add, frame: at, table, page: vpn } of sequence) {
          const [frame, set, key] = [frames[at]!, sets[at]!, `${table}:${vpn}`];
          if (add) {
            if (set.has(key)) continue;
            const wanted = set.size === 0 ? 0 : set.size === 1 ? 2 : 1;
            const fits = records() + wanted <= chains - 1;
            expect(core.rmapAddPage(frame, table, vpn)).toBe(fits ? 1 : 0);
            if (fits) set.add(key);
          } else expect(core.rmapRemovePage(frame, table, vpn)).toBe(set.delete(key) ? 1 : 0);
          expect(used(small)).toBe(records());
          frames.forEach((each, i) => {
            expect(small.mappings(each)).toEqual([...sets[i]!].sort());
            expect(small.holders(each)).toMatchObject({ refs: 1, maps: sets[i]!.size, pins: 0 });
            expect(chained(small, each)).toBe(sets[i]!.size > 1);
          });
        }
      }),
      { numRuns: 150 },
    );
  });
});

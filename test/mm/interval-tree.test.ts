import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Interval, IntervalTree } from '../../sdk/mm/interval-tree.ts';

describe('an interval tree', () => {
  it('finds what a list would find, in order of start and id, whatever came and went', () => {
    const command = fc.record({
      kind: fc.constantFrom('insert', 'insert', 'remove', 'query'),
      start: fc.nat(60),
      length: fc.integer({ min: 1, max: 20 }),
      which: fc.nat(100),
    });
    fc.assert(
      fc.property(fc.array(command, { maxLength: 120 }), (commands) => {
        const tree = new IntervalTree<Interval>();
        const list: Interval[] = [];
        let id = 0;
        for (const { kind, start, length, which } of commands) {
          if (kind === 'insert') {
            const item = { id: ++id, start, end: start + length };
            tree.insert(item);
            list.push(item);
          } else if (kind === 'remove' && list.length > 0) {
            const [item] = list.splice(which % list.length, 1);
            expect(tree.remove(item as Interval)).toBe(true);
            expect(tree.remove(item as Interval)).toBe(false);
          }
          const found: Interval[] = [];
          const hits = list
            .filter((item) => item.start < start + length && item.end > start)
            .sort((a, b) => a.start - b.start || a.id - b.id);
          expect(tree.overlapping(start, start + length, found)).toBe(hits.length);
          expect(found).toEqual(hits);
          expect(tree.size).toBe(list.length);
        }
      }),
      { seed: 1, numRuns: 300 },
    );
  });

  it('takes [10, 20) and [20, 30) apart at 20', () => {
    const tree = new IntervalTree<Interval>();
    const [low, high] = [
      { id: 1, start: 10, end: 20 },
      { id: 2, start: 20, end: 30 },
    ];
    tree.insert(low);
    tree.insert(high);
    const at = (start: number, end: number) => {
      const out: Interval[] = [];
      tree.overlapping(start, end, out);
      return out.map((item) => item.id);
    };
    expect([at(0, 10), at(10, 11), at(19, 20), at(20, 21), at(19, 21), at(30, 40)]).toEqual([[], [1], [1], [2], [1, 2], []]);
  });

  it.each(['upward', 'downward'])('looks at few of very many, inserted %s', (direction) => {
    let looks = 0;
    const tree = new IntervalTree<Interval>();
    const count = 20_000;
    for (let n = 0; n < count; n++) {
      const i = direction === 'upward' ? n : count - 1 - n;
      tree.insert({
        id: i,
        end: i * 10 + 5,
        get start() {
          looks++;
          return i * 10;
        },
      });
    }
    expect(looks).toBeLessThan(count * 2 * 60);
    looks = 0;
    const out: Interval[] = [];
    for (let i = 0; i < 100; i++) tree.overlapping(i * 1990, i * 1990 + 1, out);
    expect(out.length).toBe(100);
    expect(looks).toBeLessThan(100 * 2 * 60);
  });
});

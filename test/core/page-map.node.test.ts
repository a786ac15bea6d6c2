/** A `PageMap` is a `Map` of pages: the same answers, the same order. */
import { describe, expect, test } from 'vitest';
import { PageMap } from '../../sdk/core/page-map.ts';
import { randomOf } from '../../sdk/testing/random.ts';

function listed(map: PageMap): [number, number][] {
  const all: [number, number][] = [];
  for (let at = map.next(0); at >= 0; at = map.next(at + 1)) all.push([map.pageAt(at), map.valueAt(at)]);
  return all;
}

function moved(map: Map<number, number>, from: number, to: number, count: number): void {
  const moving = [...map].filter(([page]) => page >= from && page < from + count);
  for (const [page] of moving) map.delete(page);
  for (const [page, value] of moving) map.set(page - from + to, value);
}

describe('pages and what each has', () => {
  test.each([1, 2, 3, 4, 5, 6])('are those of a Map, in the same order, whatever comes and goes (seed %i)', (seed) => {
    const random = randomOf(seed);
    const [map, model] = [new PageMap(), new Map<number, number>()];
    // Few pages close together, huge pages apart, and in the highest addresses.
    const page = (): number => random(40) * [1, 512, 2 ** 30][random(3)]! + [0, 2 ** 35][random(2)]!;
    for (let step = 0; step < 5000; step++) {
      const at = page();
      switch (random(8)) {
        case 0:
        case 1:
        case 2:
          map.set(at, step % 5);
          model.set(at, step % 5);
          break;
        case 3:
        case 4:
          expect(map.delete(at)).toBe(model.delete(at));
          break;
        case 5:
          if (random(20) > 0) break;
          map.move(at, at + 7, 20);
          moved(model, at, at + 7, 20);
          break;
        case 6:
          if (random(100) > 0) {
            // Fewer pages than there are, and far more.
            const count = [random(10), 2 ** 40][random(40) === 0 ? 1 : 0]!;
            const told: [number, boolean][] = [];
            map.deleteRange(at, count, { add: (gone, isMarked) => told.push([gone, isMarked]) });
            const gone = [...model].filter(([each]) => each >= at && each < at + count);
            for (const [each] of gone) model.delete(each);
            const byPage = (a: readonly [number, unknown], b: readonly [number, unknown]): number => a[0] - b[0];
            expect(told.sort(byPage)).toEqual(gone.map(([each, value]): [number, boolean] => [each, value !== 0]).sort(byPage));
            break;
          }
          map.clear();
          model.clear();
          break;
        default:
          // What is taken out on the way is not come across any more.
          for (let place = map.next(0); place >= 0; place = map.next(place + 1)) if (random(4) === 0) map.delete(map.pageAt(place));
          for (const had of [...model.keys()]) if (!map.has(had)) model.delete(had);
      }
      const asked = page();
      expect([map.size, map.has(asked), map.get(asked)]).toEqual([model.size, model.has(asked), model.get(asked)]);
      if (step % 10 === 0) expect(listed(map)).toEqual([...model]);
    }
  });

  test('are found however many there are, and the largest value comes back as it was', () => {
    const map = new PageMap();
    for (let i = 0; i < 100_000; i++) map.set(2 ** 36 - 1 - i * 512, 2 ** 32 - 1 - i);
    expect(map.size).toBe(100_000);
    for (let i = 0; i < 100_000; i++) if (map.get(2 ** 36 - 1 - i * 512) !== 2 ** 32 - 1 - i) expect.unreachable(`page ${i}`);
  });
});

/** `Translations` are a `Map` from page to where it is: the same answers, the same order. */
import { HOST, Mappings, Ranges, type Translation, Translations } from 'farfault/gmem';
import { describe, expect, test } from 'vitest';
import { randomOf } from '../../sdk/testing/random.ts';

const copyOf = (translation: Translation | undefined): Translation | undefined => translation && { ...translation };

function listed(all: Translations): (Translation | undefined)[] {
  const list: (Translation | undefined)[] = [];
  for (let at = all.next(0); at >= 0; at = all.next(at + 1)) list.push(copyOf(all.get(all.vpnAt(at))));
  return list;
}

describe('translations', () => {
  test.each([1, 2, 3])('are those of a Map, whatever comes and goes (seed %i)', (seed) => {
    const random = randomOf(seed);
    const [all, model] = [new Translations(), new Map<number, Translation>()];
    for (let step = 0; step < 4000; step++) {
      const vpn = random(60) + [0, 2 ** 35][random(2)]!;
      switch (random(8)) {
        case 0:
          expect(all.delete(vpn)).toBe(model.delete(vpn));
          break;
        case 1: {
          const count = random(20) === 0 ? 2 ** 36 : random(10);
          const ranges = new Ranges();
          ranges.add(vpn, count);
          all.release(ranges);
          for (const each of [...model.keys()]) if (each >= vpn && each < vpn + count) model.delete(each);
          break;
        }
        case 2:
          if (random(50) > 0) break;
          all.clear();
          model.clear();
          break;
        default: {
          const translation = { vpn, page: random(1000), memory: random(6) - 3, write: random(2) === 1 };
          model.set(vpn, translation);
          expect(all.set(vpn, translation.page, translation.memory, translation.write)).toEqual(translation);
        }
      }
      const asked = random(60) + [0, 2 ** 35][random(2)]!;
      expect([all.size, all.has(asked), all.get(asked)]).toEqual([model.size, model.has(asked), model.get(asked)]);
      if (step % 20 === 0) expect(listed(all)).toEqual([...model.values()]);
    }
  });

  test('of a larger page are found by the page that they were set for', () => {
    const all = new Translations();
    all.set(512, 1024, 0, true);
    expect(all.get(515)).toBe(undefined);
    expect(all.get(515, 512)).toEqual({ vpn: 515, memory: 0, page: 1027, write: true });
    expect(all.get(512)).toEqual({ vpn: 512, memory: 0, page: 1024, write: true });
  });

  test('of a list of mappings are entered page by page, in place of older ones', () => {
    const mappings = new Mappings({ memoryOf: (frame) => (frame < 100 ? HOST : 0), pageOf: (frame) => frame % 100 });
    mappings.add(10, 7, true);
    mappings.add(11, 8, true);
    mappings.add(20, 130, false);
    const all = new Translations();
    all.set(11, 1, 0, false);
    all.enter(mappings);
    expect(listed(all)).toEqual([
      { vpn: 11, memory: HOST, page: 8, write: true },
      { vpn: 10, memory: HOST, page: 7, write: true },
      { vpn: 20, memory: 0, page: 30, write: false },
    ]);
  });

  test('are lent: the answer is written again by the next one', () => {
    const all = new Translations();
    all.set(1, 5, 0, true);
    all.set(2, 6, 0, false);
    const first = all.get(1)!;
    expect(first).toEqual({ vpn: 1, memory: 0, page: 5, write: true });
    expect(all.get(2)).toBe(first);
  });
});

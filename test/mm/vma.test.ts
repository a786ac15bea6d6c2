import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FarfaultError } from '../../sdk/errors.ts';
import type { SharedObject } from '../../sdk/mm/page-cache.ts';
import {
  hugetlbOrder,
  isAnonymous,
  isHugetlb,
  isSpecial,
  MMAP_BASE,
  PROT_EXEC,
  PROT_READ,
  PROT_WRITE,
  type Vma,
  VMA_ANONYMOUS,
  VMA_DONTEXPAND,
  VMA_DONTFORK,
  VMA_HUGEPAGE,
  VMA_HUGETLB_1G,
  VMA_HUGETLB_2M,
  VMA_IO,
  VMA_MIXEDMAP,
  VMA_PFNMAP,
  VMA_PRIVATE,
  VmaSet,
} from '../../sdk/mm/vma.ts';

// A drawing has one letter a page: a, b, c ... is a promise, '.' is free. A VMA begins at a change of letter; '|' shows where two of one
// letter meet. Page 0 is at the left.

const promise = (letter: string) => ({ prot: letter.charCodeAt(0) - 96, flags: VMA_ANONYMOUS | VMA_PRIVATE });
const letterOf = (vma: Vma) => String.fromCharCode(96 + vma.prot);

function runs(drawing: string): { letter: string; start: number; end: number }[] {
  const found: { letter: string; start: number; end: number }[] = [];
  for (let page = 0; page < drawing.length; page++) {
    const letter = drawing[page] as string;
    const last = found[found.length - 1];
    if (last && last.letter === letter) last.end = page + 1;
    else found.push({ letter, start: page, end: page + 1 });
  }
  return found.filter(({ letter }) => letter !== '.');
}

function drawn(drawing: string): VmaSet {
  const set = new VmaSet();
  for (const { letter, start, end } of runs(drawing)) set.insert({ start, end, ...promise(letter) });
  return set;
}

function draw(set: VmaSet, pages: number): string {
  let out = '';
  let past = 0;
  let previous = '';
  set.each(0, pages, (vma, from, to) => {
    if (from === past && letterOf(vma) === previous) out += '|';
    out += '.'.repeat(from - past) + letterOf(vma).repeat(to - from);
    past = to;
    previous = letterOf(vma);
  });
  return out + '.'.repeat(pages - past);
}

function inserted(old: string, request: string): string {
  const set = drawn(old);
  for (const { letter, start, end } of runs(request)) {
    const vma = set.insert({ start, end, ...promise(letter) });
    expect(set.find(start)).toBe(vma);
    expect(set.find(end - 1)).toBe(vma);
  }
  return draw(set, old.length);
}

function protectedAs(old: string, request: string): string {
  const set = drawn(old);
  for (const { letter, start, end } of runs(request)) set.protect(start, end, promise(letter).prot);
  return draw(set, old.length);
}

function codeOf(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    if (error instanceof FarfaultError) return error.code;
    throw error;
  }
  return 'none';
}

describe('merging with neighbours that promise the same', () => {
  // The eight cases: three for a request in a hole, two for a part of a VMA, three for a whole one.
  it.each([
    // old        request     new
    ['aa..aa..', '..aa....', 'aaaaaa..', '1: a hole filled, both sides become one'],
    ['aa..bb..', '..aa....', 'aaaabb..', '2: the one before grows'],
    ['bb..aa..', '..aa....', 'bbaaaa..', '3: the one after grows'],
  ])('insert %s + %s = %s (%4$s)', (old, request, expected) => {
    expect(inserted(old, request)).toBe(expected);
  });

  it.each([
    // old        request     new
    ['aaaabbbb', '..bb....', 'aabbbbbb', '4: a tail goes to the one after'],
    ['aaaabbbb', '....aa..', 'aaaaaabb', '5: a head goes to the one before'],
    ['aabbaa..', '..aa....', 'aaaaaa..', '6: a whole one and both sides become one'],
    ['aabbcc..', '..aa....', 'aaaacc..', '7: a whole one goes to the one before'],
    ['aabbcc..', '..cc....', 'aacccc..', '8: a whole one goes to the one after'],
  ])('protect %s + %s = %s (%4$s)', (old, request, expected) => {
    expect(protectedAs(old, request)).toBe(expected);
  });

  it.each([
    // old        request     new
    ['bb..bb..', '..aa....', 'bbaabb..'],
    ['aa...aa.', '...a....', 'aa.a.aa.'],
    ['........', '..aa....', '..aa....'],
  ])('insert %s + %s = %s', (old, request, expected) => {
    expect(inserted(old, request)).toBe(expected);
  });

  it.each([
    // old        request     new
    ['aaaaaaaa', '..bb....', 'aabbaaaa'],
    ['aaaa..aa', '..bbbbbb', 'aabb..bb'],
    ['aabbccdd', '.eeeeee.', 'aeeeeeed'],
    ['aabbccdd', 'aaaaaaaa', 'aaaaaaaa'],
    ['..aa....', '.bbbb...', '..bb....'],
    ['aa..bb..', '..cc....', 'aa..bb..'],
    ['aaaaaaaa', '..aa....', 'aaaaaaaa'],
  ])('protect %s + %s = %s', (old, request, expected) => {
    expect(protectedAs(old, request)).toBe(expected);
  });

  it('looks at flags too', () => {
    const set = new VmaSet();
    set.insert({ start: 0, end: 2, prot: PROT_READ, flags: VMA_ANONYMOUS });
    set.insert({ start: 2, end: 4, prot: PROT_READ, flags: VMA_ANONYMOUS | VMA_PRIVATE });
    set.insert({ start: 4, end: 6, prot: PROT_READ, flags: VMA_ANONYMOUS });
    expect(set.size).toBe(3);
    set.flag(2, 4, { clear: VMA_PRIVATE });
    expect(set.size).toBe(1);
    set.flag(1, 3, { set: 8 });
    expect([set.size, set.find(1)?.flags]).toEqual([3, VMA_ANONYMOUS | 8]);
    set.flag(0, 6, { set: 8 });
    expect(set.size).toBe(1);
  });

  it('does not happen across a hole', () => {
    const set = drawn('aa.aa');
    set.protect(0, 5, PROT_READ | PROT_WRITE | PROT_EXEC);
    expect(set.size).toBe(2);
  });
});

describe('cutting', () => {
  it.each([
    // old          cut           new           parts
    ['aaaaaabbbccc', '...xxxxxx...', 'aaa|aaabbbccc', 'aaa bbb'],
    ['aaaaaaaaa...', '...xxx......', 'aaa|aaa|aaa...', 'aaa'],
    ['aa..bb..cc..', 'xxxxxxxxx...', 'aa..bb..c|c..', 'aa bb c'],
    ['aa..bb......', '..xx........', 'aa..bb......', ''],
    ['aabb........', 'xxxx........', 'aabb........', 'aa bb'],
  ])('%s at %s = %s', (old, at, expected, parts) => {
    const set = drawn(old);
    const [range] = runs(at);
    const cut = set.cut(range?.start ?? 0, range?.end ?? 0);
    expect(draw(set, old.length)).toBe(expected);
    expect(cut.map((vma) => letterOf(vma).repeat(vma.end - vma.start)).join(' ')).toBe(parts);
    set.join(range?.start ?? 0, range?.end ?? 0);
    expect(draw(set, old.length)).toBe(old);
  });

  it('leaves the lower part its object', () => {
    const set = drawn('aaaaaa');
    const vma = set.find(0);
    set.cut(2, 4);
    expect(set.find(0)).toBe(vma);
    expect([vma?.start, vma?.end]).toEqual([0, 2]);
  });

  it.each([
    // old          remove        new
    ['aaaaaabbbccc', '...xxxxxx...', 'aaa......ccc'],
    ['aaaaaaaaa...', '...xxx......', 'aaa...aaa...'],
    ['aa..bb..cc..', 'xxxxxxxxxxxx', '............'],
    ['aa..........', '..xx........', 'aa..........'],
  ])('%s without %s = %s', (old, at, expected) => {
    const set = drawn(old);
    const [range] = runs(at);
    const parts = set.remove(range?.start ?? 0, range?.end ?? 0);
    expect(draw(set, old.length)).toBe(expected);
    const gone = [...old].filter((letter, page) => letter !== '.' && expected[page] === '.').length;
    expect(parts.reduce((pages, vma) => pages + vma.end - vma.start, 0)).toBe(gone);
  });
});

describe('looking', () => {
  const set = drawn('..aa..bbcc');

  it('finds the VMA of a page, or the first above', () => {
    expect([1, 2, 3, 4, 6, 9, 10].map((vpn) => set.find(vpn)?.start)).toEqual([undefined, 2, 2, undefined, 6, 8, undefined]);
    expect([0, 2, 3, 4, 6, 9, 10].map((vpn) => set.next(vpn)?.start)).toEqual([2, 2, 2, 6, 6, 8, undefined]);
  });

  it('visits each VMA that touches a range once, with the part inside', () => {
    const seen: string[] = [];
    set.each(3, 9, (vma, from, to) => void seen.push(`${letterOf(vma)} ${from} ${to}`));
    expect(seen).toEqual(['a 3 4', 'b 6 8', 'c 8 9']);
    set.each(4, 6, () => expect.unreachable());
  });

  it('visits each VMA once also when it is changed by the visit', () => {
    const changing = drawn('aabbccdd');
    const seen: string[] = [];
    changing.each(1, 7, (vma, from, to) => {
      seen.push(`${letterOf(vma)} ${from} ${to}`);
      changing.protect(from, to, promise('e').prot);
    });
    expect(seen).toEqual(['a 1 2', 'b 2 4', 'c 4 6', 'd 6 7']);
    expect(draw(changing, 8)).toBe('aeeeeeed');
    changing.each(0, 8, (_vma, from, to) => void changing.remove(from, to));
    expect(changing.size).toBe(0);
  });

  it('knows the first page that is not mapped', () => {
    expect([set.covered(2, 4), set.covered(2, 6), set.covered(6, 10), set.covered(6, 12), set.covered(0, 3), set.covered(3, 4)]).toEqual([
      4, 4, 10, 10, 0, 4,
    ]);
    expect([set.isFree(0, 2), set.isFree(0, 3), set.isFree(4, 6), set.isFree(3, 6), set.isFree(10, 20)]).toEqual([
      true,
      false,
      true,
      false,
      true,
    ]);
  });

  it('does not remember a VMA that is gone', () => {
    const changing = drawn('aabb');
    expect(changing.find(2)).toBeDefined();
    changing.protect(2, 4, promise('a').prot);
    expect(changing.find(2)).toBe(changing.find(0));
    changing.remove(0, 4);
    expect(changing.find(2)).toBeUndefined();
    expect(changing.next(0)).toBeUndefined();
  });
});

describe('free room', () => {
  it('is found at the lowest place that fits, from 0x10000000 up', () => {
    const set = new VmaSet();
    expect(MMAP_BASE * 4096).toBe(0x1000_0000);
    expect(set.gap({ pages: 4 })).toBe(MMAP_BASE);
    // A wish at the very end is granted, and one beyond it is none.
    expect([set.gap({ pages: 4, hint: 2 ** 36 - 4 }), set.gap({ pages: 4, hint: 2 ** 36 - 3 })]).toEqual([2 ** 36 - 4, MMAP_BASE]);
    set.insert({ start: MMAP_BASE, end: MMAP_BASE + 4, ...promise('a') });
    set.insert({ start: MMAP_BASE + 6, end: MMAP_BASE + 8, ...promise('a') });
    expect([1, 2, 3].map((pages) => set.gap({ pages }))).toEqual([MMAP_BASE + 4, MMAP_BASE + 4, MMAP_BASE + 8]);
  });

  it('respects alignment, base and limit', () => {
    const set = drawn('a...a.......aaaa');
    expect(set.gap({ pages: 3, base: 0 })).toBe(1);
    expect(set.gap({ pages: 3, alignPages: 4, base: 0 })).toBe(8);
    expect(set.gap({ pages: 5, base: 0 })).toBe(5);
    expect(set.gap({ pages: 8, base: 0 })).toBe(16);
    expect(set.gap({ pages: 2, base: 2 })).toBe(2);
    expect(set.gap({ pages: 2, base: 12, limit: 17 })).toBeUndefined();
    expect(set.gap({ pages: 8, base: 0, limit: 16 })).toBeUndefined();
    expect(set.gap({ pages: 1, base: 13, limit: 17 })).toBe(16);
    expect(set.gap({ pages: 2 ** 36 })).toBeUndefined();
    expect(set.gap({ pages: 2 ** 36 - 16, base: 0 })).toBe(16);
  });

  it('is taken at the hint when that is free, and found elsewhere when not', () => {
    const set = drawn('aa..aa');
    expect(set.gap({ pages: 2, hint: 2 })).toBe(2);
    expect(set.gap({ pages: 2, hint: 3 })).toBe(MMAP_BASE);
    expect(set.gap({ pages: 2, hint: 7, alignPages: 8 })).toBe(8);
    expect(set.gap({ pages: 2, hint: 2 ** 36 - 1 })).toBe(MMAP_BASE);
  });

  it('asks for whole pages', () => {
    const set = new VmaSet();
    expect(codeOf(() => set.gap({ pages: 0 }))).toBe('EINVAL');
    expect(codeOf(() => set.gap({ pages: 1.5 }))).toBe('EINVAL');
    expect(codeOf(() => set.gap({ pages: 1, alignPages: 0 }))).toBe('EINVAL');
  });
});

describe('a mistake', () => {
  it('is refused', () => {
    const set = drawn('aa..');
    expect(codeOf(() => set.insert({ start: 1, end: 3, ...promise('b') }))).toBe('EINVAL');
    expect(() => set.insert({ start: 1, end: 3, ...promise('b') })).toThrow('range "[0x1, 0x3)" overlaps [0x0, 0x2)');
    for (const [start, end] of [
      [2, 2],
      [3, 2],
      [-1, 2],
      [0.5, 2],
      [0, 2 ** 36 + 1],
      [0, NaN],
    ] as const) {
      expect(codeOf(() => set.insert({ start, end, ...promise('b') }))).toBe('EINVAL');
      expect(codeOf(() => set.cut(start, end))).toBe('EINVAL');
      expect(codeOf(() => set.remove(start, end))).toBe('EINVAL');
    }
    expect(draw(set, 4)).toBe('aa..');
  });
});

describe('any history', () => {
  const PAGES = 600;
  const command = fc.record({
    kind: fc.constantFrom('insert', 'insert', 'remove', 'protect', 'cut', 'gap'),
    letter: fc.constantFrom('a', 'b', 'c'),
    start: fc.nat(PAGES - 1),
    length: fc.oneof(fc.integer({ min: 1, max: 6 }), fc.integer({ min: 1, max: 80 })),
    align: fc.constantFrom(1, 2, 8, 3),
  });

  function lowestGap(model: readonly string[], pages: number, align: number): number | undefined {
    for (let start = 0; start + pages <= PAGES; start += align) {
      if (model.slice(start, start + pages).every((letter) => letter === '.')) return start;
    }
    return undefined;
  }

  function follow(
    set: VmaSet,
    model: string[],
    commands: readonly { kind: string; letter: string; start: number; length: number; align: number }[],
  ): void {
    for (const { kind, letter, start, length, align } of commands) {
      const end = Math.min(start + length, PAGES);
      switch (kind) {
        case 'insert':
          set.remove(start, end);
          set.insert({ start, end, ...promise(letter) });
          model.fill(letter, start, end);
          break;
        case 'remove':
          set.remove(start, end);
          model.fill('.', start, end);
          break;
        case 'protect':
          set.protect(start, end, promise(letter).prot);
          for (let page = start; page < end; page++) if (model[page] !== '.') model[page] = letter;
          break;
        case 'cut':
          set.cut(start, end);
          set.join(start, end);
          break;
        default:
          expect(set.gap({ pages: length, alignPages: align, base: 0, limit: PAGES })).toBe(lowestGap(model, length, align));
      }
      // No '|' in the drawing: neighbours that promise the same are one.
      expect(draw(set, PAGES)).toBe(model.join(''));
      expect(set.size).toBe(runs(model.join('')).length);
      expect(set.find(start) === undefined).toBe(model[start] === '.');
    }
  }

  it('leaves what an array of pages would hold', () => {
    fc.assert(
      fc.property(fc.array(command, { maxLength: 60 }), (commands) => follow(new VmaSet(), Array<string>(PAGES).fill('.'), commands)),
      { seed: 1, numRuns: 200 },
    );
  });

  it('also with more VMAs than fit one chunk', () => {
    fc.assert(
      fc.property(fc.array(command, { minLength: 20, maxLength: 60 }), (commands) => {
        const model = Array.from({ length: PAGES }, (_, page) => (page % 7 === 6 ? '.' : page % 2 === 0 ? 'a' : 'b'));
        follow(drawn(model.join('')), model, commands);
      }),
      { seed: 2, numRuns: 100 },
    );
  });
});

describe('100,000 VMAs', () => {
  const COUNT = 100_000;

  it('come, are found and go, in any order', () => {
    const set = new VmaSet();
    const order = Array.from({ length: COUNT }, (_, i) => (i * 61_803) % COUNT);
    for (const i of order) set.insert({ start: i * 3, end: i * 3 + 2, ...promise('a') });
    expect(set.size).toBe(COUNT);
    for (const i of order) expect(set.find(i * 3 + 1)?.start === i * 3 && set.find(i * 3 + 2) === undefined).toBe(true);
    let visits = 0;
    set.each(0, COUNT * 3, () => void visits++);
    expect(visits).toBe(COUNT);
    expect(set.gap({ pages: 2, base: 0 })).toBe(COUNT * 3 - 1);
    set.protect(0, COUNT * 3, promise('b').prot);
    for (let i = 0; i < COUNT - 1; i++) set.insert({ start: i * 3 + 2, end: i * 3 + 3, ...promise('b') });
    expect(set.size).toBe(1);
    set.remove(0, COUNT * 3);
    expect(set.size).toBe(0);
  });

  it('are given room one after the other', () => {
    const set = new VmaSet();
    for (let i = 0; i < COUNT; i++) {
      const start = set.gap({ pages: 1 }) as number;
      set.insert({ start, end: start + 1, ...promise(i % 2 === 0 ? 'a' : 'b') });
    }
    expect([set.size, set.next(0)?.start, set.gap({ pages: 1 })]).toEqual([COUNT, MMAP_BASE, MMAP_BASE + COUNT]);
  });
});

describe('VMAs with an object behind them', () => {
  /** What a set needs of an object: to be told how many pages name it. */
  function counted(): { object: SharedObject; pages: () => number } {
    let pages = 0;
    const object = { mapped: (n: number) => void (pages += n), unmapped: (n: number) => void (pages -= n) };
    return { object: object as unknown as SharedObject, pages: () => pages };
  }
  const list = (set: VmaSet): string[] => {
    const out: string[] = [];
    set.each(0, 100, ({ start, end, offset }) => void out.push(`${start}-${end}@${offset}`));
    return out;
  };
  const shared = { prot: PROT_READ, flags: 0 };

  it('join where the offset goes on, before and after, and nowhere else', () => {
    const { object, pages } = counted();
    const set = new VmaSet();
    set.insert({ start: 10, end: 12, ...shared, object, offset: 4 });
    set.insert({ start: 14, end: 16, ...shared, object, offset: 8 });
    set.insert({ start: 12, end: 14, ...shared, object, offset: 6 });
    expect([list(set), pages()]).toEqual([['10-16@4'], 6]);
    set.insert({ start: 8, end: 10, ...shared, object, offset: 2 });
    set.insert({ start: 16, end: 17, ...shared, object, offset: 0 });
    set.insert({ start: 17, end: 18, ...shared, object: counted().object, offset: 1 });
    expect([list(set), pages()]).toEqual([['8-16@2', '16-17@0', '17-18@1'], 9]);
  });

  it('split into parts that know their offset, and are one again', () => {
    const { object, pages } = counted();
    const set = new VmaSet();
    set.insert({ start: 10, end: 20, ...shared, object, offset: 100 });
    set.protect(13, 16, PROT_READ | PROT_WRITE);
    expect([list(set), pages()]).toEqual([['10-13@100', '13-16@103', '16-20@106'], 10]);
    set.protect(10, 20, PROT_WRITE);
    expect([list(set), pages()]).toEqual([['10-20@100'], 10]);
    set.remove(12, 18);
    expect([list(set), pages()]).toEqual([['10-12@100', '18-20@108'], 4]);
    set.remove(0, 100);
    expect(pages()).toBe(0);
  });

  it('have an offset of 0 without one, whatever is cut', () => {
    const set = drawn('aaaaaa');
    set.cut(2, 4);
    expect(list(set)).toEqual(['0-2@0', '2-4@0', '4-6@0']);
  });
});

describe('flags', () => {
  it('are set and cleared like rights, and part what differs', () => {
    const set = drawn('aaaaaa');
    set.flag(2, 4, { set: VMA_DONTFORK });
    expect(set.size).toBe(3);
    set.flag(0, 2, { set: VMA_DONTFORK });
    expect([set.size, set.find(0)?.end]).toEqual([2, 4]);
    set.flag(0, 6, { set: VMA_HUGEPAGE, clear: VMA_DONTFORK });
    expect([set.size, set.find(5)?.flags]).toEqual([1, VMA_ANONYMOUS | VMA_PRIVATE | VMA_HUGEPAGE]);
  });

  it('say what sort of memory a VMA is', () => {
    const of = (flags: number): string => {
      const vma = new VmaSet().insert({ start: 0, end: 1, prot: PROT_READ, flags });
      return `${isAnonymous(vma) ? 'anonymous ' : ''}${isHugetlb(vma) ? `hugetlb ${hugetlbOrder(vma)} ` : ''}${isSpecial(vma) ? 'special' : ''}`.trim();
    };
    const own = VMA_ANONYMOUS | VMA_PRIVATE;
    expect([own, own | VMA_HUGEPAGE, VMA_PRIVATE, 0].map(of)).toEqual(['anonymous', 'anonymous', '', '']);
    expect([own | VMA_HUGETLB_2M, own | VMA_HUGETLB_1G].map(of)).toEqual(['hugetlb 9', 'hugetlb 18']);
    expect([VMA_MIXEDMAP, VMA_PFNMAP, VMA_IO, VMA_DONTEXPAND].map(of)).toEqual(['special', 'special', 'special', 'special']);
  });
});

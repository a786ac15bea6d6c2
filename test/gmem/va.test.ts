import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { createMachineSync, isFarfaultError, MiB, restoreMachine } from 'farfault';
import { CACHED_OBJECTS_MAX, MappingSet, Ranges, VaRegion, type VaRequest, VaSpace, type VaStrategy } from 'farfault/gmem';
import { randomOf } from '../../sdk/testing/random.ts';
import { NaiveVa } from './va-naive.ts';

const PAGE = 4096;
const seed = fc.readConfigureGlobal().seed!;
const STRATEGIES: readonly VaStrategy[] = ['default', 'firstfit', 'bestfit', 'nextfit'];

/** Pages from 0 on, of which those in `taken` are taken. */
function pages(count: number, strategy: VaStrategy, taken: readonly (readonly [number, number])[] = []): VaSpace {
  const space = new VaSpace({ start: 0, end: count * PAGE, strategy });
  for (const [from, to] of taken) expect(space.alloc({ at: from * PAGE, bytes: (to - from) * PAGE })).toBeDefined();
  return space;
}

/** The page that an allocation begins at. */
function placed(space: VaSpace, request: VaRequest): number | undefined {
  const region = space.alloc(request);
  return region && region.start / PAGE;
}

function codeOf(call: () => unknown): string {
  try {
    call();
  } catch (error) {
    if (isFarfaultError(error)) return error.code;
    throw error;
  }
  return 'none';
}

describe('an allocation is cut', () => {
  // Free: 2 to 6, 8 to 10, 12 to 32.
  const holes = [
    [0, 2],
    [6, 8],
    [10, 12],
  ] as const;

  test('from the lowest extent by first fit, from the shortest by best fit, from where the last one ended by next fit', () => {
    expect(placed(pages(32, 'firstfit', holes), { bytes: 2 * PAGE })).toBe(2);
    expect(placed(pages(32, 'bestfit', holes), { bytes: 2 * PAGE })).toBe(8);
    expect(placed(pages(32, 'nextfit', holes), { bytes: 2 * PAGE })).toBe(12);
  });

  test('by next fit from the beginning again when there is nothing above', () => {
    const space = pages(32, 'nextfit', [...holes, [30, 32]]);
    expect(placed(space, { bytes: 2 * PAGE })).toBe(2);
    expect(placed(space, { bytes: 2 * PAGE })).toBe(4);
    expect(placed(space, { bytes: PAGE })).toBe(8);
  });

  test('at a multiple of the alignment', () => {
    for (const strategy of ['firstfit', 'bestfit', 'nextfit'] as const)
      expect(placed(pages(32, strategy, holes), { bytes: 2 * PAGE, align: 16 * PAGE })).toBe(16);
  });

  test('between two multiples of a boundary that it may not cross', () => {
    expect(placed(pages(32, 'firstfit', [[0, 3]]), { bytes: 2 * PAGE, noCross: 4 * PAGE })).toBe(4);
    expect(placed(pages(32, 'firstfit', [[0, 2]]), { bytes: 2 * PAGE, noCross: 4 * PAGE })).toBe(2);
  });

  test('below an upper bound, or not at all', () => {
    const space = pages(32, 'firstfit', [[0, 6]]);
    expect(placed(space, { bytes: 2 * PAGE, below: 8 * PAGE })).toBe(6);
    expect(placed(space, { bytes: 2 * PAGE, below: 8 * PAGE })).toBe(undefined);
    expect(placed(space, { bytes: 2 * PAGE })).toBe(8);
  });

  test('at its hint, or as if there had been none', () => {
    const space = pages(32, 'firstfit', holes);
    expect(placed(space, { bytes: 2 * PAGE, hint: 20 * PAGE })).toBe(20);
    expect(placed(space, { bytes: 2 * PAGE, hint: 20 * PAGE })).toBe(2);
  });

  test('exactly where it is wanted, or nowhere', () => {
    const space = pages(32, 'firstfit', holes);
    expect(placed(space, { bytes: 2 * PAGE, at: 20 * PAGE })).toBe(20);
    expect(placed(space, { bytes: 2 * PAGE, at: 21 * PAGE })).toBe(undefined);
    expect(placed(space, { bytes: 20 * PAGE, at: 22 * PAGE })).toBe(undefined);
  });
});

test.each(STRATEGIES)('%s: what is given back is joined with what it touches', (strategy) => {
  const space = pages(64, strategy);
  const regions = Array.from({ length: 40 }, () => space.alloc({ bytes: PAGE })!);
  for (const i of [1, 3, 5, 0, 4, 2]) space.free(regions[i]!);
  for (const region of regions.slice(6).reverse()) space.free(region);
  space.shrink();
  expect(space.use).toMatchObject({ regions: 0, allocated: 0, rounding: 0, cached: 0, free: 64 * PAGE, extents: 1, longest: 64 * PAGE });
});

describe.each(STRATEGIES)('%s, random requests', (strategy) => {
  test('agrees with a list of who has each page', () => {
    const random = randomOf(seed ^ STRATEGIES.indexOf(strategy));
    for (let round = 0; round < 12; round++) {
      const units = 64 + random(200);
      const base = PAGE * 1024 * random(3);
      // Multiples of the base are multiples of every alignment asked for.
      const space = new VaSpace({ start: base, end: base + units * PAGE, strategy });
      const naive = new NaiveVa(units, strategy);
      const live: [VaRegion, { start: number; taken: number }][] = [];
      for (let i = 0; i < 300; i++) {
        if (live.length > 0 && random(100) < 48) {
          const [region, had] = live.splice(random(live.length), 1)[0]!;
          space.free(region);
          naive.free(had);
        } else {
          const wanted = 1 + random(random(4) === 0 ? 40 : 6);
          const request = {
            bytes: wanted,
            ...(random(4) === 0 && { align: 2 ** random(5) }),
            ...(random(5) === 0 && { noCross: 2 ** (Math.ceil(Math.log2(wanted)) + random(2)) }),
            ...(random(5) === 0 && { below: random(units + 1) }),
            ...(random(6) === 0 && { hint: random(units) }),
          };
          const asked: VaRequest = random(10) === 0 ? { bytes: wanted, at: random(units) } : request;
          const scaled: Record<string, number> = {};
          for (const [key, value] of Object.entries(asked) as [string, number][])
            scaled[key] = value * PAGE + (['at', 'hint', 'below'].includes(key) ? base : 0);
          const expected = naive.alloc(asked);
          const region = space.alloc(scaled as unknown as VaRequest);
          expect(region && (region.start - base) / PAGE, `${JSON.stringify(asked)} (seed ${seed}, round ${round}, ${i})`).toBe(
            expected?.start,
          );
          if (!region || !expected) continue;
          expect(region.end - region.start).toBe(wanted * PAGE);
          expect((region.taken - base) / PAGE).toBe(expected.taken);
          live.push([region, expected]);
        }
        const extents: [number, number][] = [];
        space.eachFree((start, end) => extents.push([(start - base) / PAGE, (end - base) / PAGE]));
        expect(extents).toEqual(naive.extents());
      }
      for (const [region] of live) space.free(region);
      space.shrink();
      expect(space.use).toMatchObject({ regions: 0, free: units * PAGE, extents: 1 });
    }
  });
});

describe('the cache of objects', () => {
  test('serves a length again without a look at the tree, the one given back last first', () => {
    const space = pages(64, 'default');
    const [first, second] = [space.alloc({ bytes: 3 * PAGE })!, space.alloc({ bytes: 4 * PAGE })!];
    expect([first.start, first.end, first.taken]).toEqual([0, 3 * PAGE, 4 * PAGE]);
    space.free(first);
    space.free(second);
    expect(space.use).toMatchObject({ cached: 8 * PAGE, cacheHits: 0, cacheMisses: 2 });
    expect(placed(space, { bytes: 4 * PAGE })).toBe(4);
    expect(placed(space, { bytes: 3 * PAGE })).toBe(0);
    expect(space.use).toMatchObject({ cached: 0, cacheHits: 2, cacheMisses: 2, rounding: PAGE });
  });

  test('gives its older half back when it is full', () => {
    const space = pages(CACHED_OBJECTS_MAX + 1, 'default');
    const regions = Array.from({ length: CACHED_OBJECTS_MAX + 1 }, () => space.alloc({ bytes: PAGE })!);
    for (const region of regions) space.free(region);
    expect(space.use).toMatchObject({ cached: (CACHED_OBJECTS_MAX / 2 + 1) * PAGE, extents: 1, longest: (CACHED_OBJECTS_MAX / 2) * PAGE });
  });

  test('gives everything back before an allocation fails, and rounds up only where there is room to', () => {
    const space = pages(7, 'default');
    const regions = [space.alloc({ bytes: 4 * PAGE })!, space.alloc({ bytes: 2 * PAGE })!, space.alloc({ bytes: PAGE })!];
    for (const region of regions) space.free(region);
    expect(space.use.cached).toBe(7 * PAGE);
    expect(placed(space, { bytes: 5 * PAGE })).toBe(0);
    expect(placed(space, { bytes: 2 * PAGE })).toBe(5);
    expect(space.use.free).toBe(0);
  });

  test('has a smallest object of its own', () => {
    const space = new VaSpace({ start: 0, end: MiB, cacheQuantum: 4 * PAGE });
    const region = space.alloc({ bytes: PAGE })!;
    expect([region.bytes, region.taken]).toEqual([PAGE, 4 * PAGE]);
    space.free(region);
    expect(space.use.cached).toBe(4 * PAGE);
  });
});

describe('a mapping set', () => {
  test('keeps its regions from being changed one by one', () => {
    const space = pages(16, 'firstfit');
    const set = new MappingSet(space);
    const region = space.alloc({ bytes: PAGE })!;
    set.add(region);
    expect(codeOf(() => space.free(region))).toBe('EBUSY');
    expect(codeOf(() => new MappingSet(space).add(region))).toBe('EBUSY');
    expect(set).toMatchObject({ size: 1, bytes: PAGE });
    set.remove(region);
    expect(set).toMatchObject({ size: 0, bytes: 0 });
    space.free(region);
    expect(codeOf(() => set.add(region))).toBe('EINVAL');
  });

  test('gives no address away before it is freed, and tells everybody afterwards', () => {
    const space = pages(4, 'firstfit');
    const set = new MappingSet(space);
    const told: string[] = [];
    const regions = Array.from({ length: 4 }, () => space.alloc({ bytes: PAGE })!);
    for (const region of [regions[2]!, regions[0]!])
      set.add(region, ({ start }) => {
        // All of them are free already.
        told.push(`${start / PAGE} of ${space.use.free / PAGE}`);
      });
    set.add(regions[3]!);
    expect(placed(space, { bytes: PAGE })).toBe(undefined);
    const ranges = new Ranges();
    set.ranges(ranges);
    expect([ranges.count, ranges.start(0), ranges.length(0), ranges.start(1), ranges.length(1)]).toEqual([2, 0, 1, 2, 2]);
    set.free();
    expect(told).toEqual(['2 of 3', '0 of 3']);
    expect([set.size, set.bytes, space.use.regions]).toEqual([0, 0, 1]);
    expect(placed(space, { bytes: 2 * PAGE })).toBe(2);
  });

  test('frees all of them also when one who is told throws', () => {
    const space = pages(4, 'firstfit');
    const set = new MappingSet(space);
    let told = 0;
    for (let i = 0; i < 3; i++)
      set.add(space.alloc({ bytes: PAGE })!, () => {
        if (told++ === 0) throw new Error('not me');
      });
    expect(() => set.free()).toThrow('not me');
    expect([told, space.use.regions, space.use.longest]).toEqual([3, 0, 4 * PAGE]);
  });
});

describe('a request that breaks a rule is refused', () => {
  const space = pages(16, 'default');
  test.each<[string, () => unknown]>([
    ['no length', () => space.alloc({ bytes: 0 })],
    ['an alignment that is no power of two', () => space.alloc({ bytes: PAGE, align: 3 * PAGE })],
    ['a boundary within the region', () => space.alloc({ bytes: 3 * PAGE, noCross: 2 * PAGE })],
    ['a place between two pages', () => space.alloc({ bytes: PAGE, at: 17 })],
    ['a place and a hint', () => space.alloc({ bytes: PAGE, at: 0, hint: 0 })],
    ['a region that it did not give', () => space.free(new VaRegion(0, PAGE, PAGE))],
    ['a space that ends before it begins', () => new VaSpace({ start: PAGE, end: PAGE })],
    ['an unknown strategy', () => new VaSpace({ start: 0, end: PAGE, strategy: 'worstfit' as VaStrategy })],
    ['a cached object shorter than the quantum', () => new VaSpace({ start: 0, end: PAGE, cacheQuantum: 512 })],
  ])('%s', (_, call) => expect(codeOf(call)).toBe('EINVAL'));

  test('a region that was given back already', () => {
    const region = space.alloc({ bytes: PAGE })!;
    space.free(region);
    expect(codeOf(() => space.free(region))).toBe('EINVAL');
  });
});

test('100,000 regions, half of them given back: an allocation looks at few of the holes', () => {
  const space = new VaSpace({ start: 0, end: 2 ** 40, strategy: 'bestfit' });
  const regions = Array.from({ length: 100_000 }, (_, i) => space.alloc({ bytes: PAGE * (1 + (i % 7)) })!);
  for (let i = 0; i < regions.length; i += 2) space.free(regions[i]!);
  expect(space.use.extents).toBe(50_001);
  // A look at each hole every time would be 10^9 of them, which the time limit does not allow.
  for (let i = 0; i < 50_000; i++) space.free(space.alloc({ bytes: PAGE * (1 + (i % 7)) })!);
  expect(space.use.extents).toBe(50_001);
}, 10_000);

test('a saved allocator goes on with the same addresses', async () => {
  const machine = createMachineSync({ dram: 1 * MiB, tablePages: 16 });
  const va = pages(1024, 'default');
  const set = new MappingSet(va);
  const random = randomOf(seed);
  const live = Array.from({ length: 60 }, () => va.alloc({ bytes: PAGE * (1 + random(9)) })!);
  for (let i = 0; i < 30; i++) va.free(live.splice(random(live.length), 1)[0]!);
  for (const region of live.slice(0, 10)) set.add(region);
  const { machine: again, handles } = await restoreMachine<{ va: VaSpace; set: MappingSet }>(machine.save({ va, set }));
  const rest = [va, handles.va].map((each) => {
    const places: unknown[] = [each.use];
    (each === va ? set : handles.set).free();
    for (let i = 0; i < 40; i++) places.push(each.alloc({ bytes: PAGE * (1 + (i % 9)) })?.start);
    return [...places, each.use];
  });
  expect(rest[1]).toEqual(rest[0]);
  machine.close();
  again.close();
});

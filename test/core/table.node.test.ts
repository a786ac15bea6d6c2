import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import * as L from '../../assembly/layout.ts';
import { type Bare, bareCore, type Flavour, flavours } from './harness.ts';
import { type Entry, type Geometry, TableModel } from './table-model.ts';

/** A stretch of page numbers in which a test's operations happen. */
interface Window {
  readonly start: number;
  readonly pages: number;
}

interface Shape {
  readonly name: string;
  readonly geometry: Geometry;
  readonly windows: readonly Window[];
  readonly orders: readonly number[];
}

const shapes: readonly Shape[] = [
  {
    name: 'the home table, 4 levels of 9 bits',
    geometry: [9, 9, 9, 9],
    windows: [
      { start: 0, pages: 1600 },
      { start: 2 ** 18 - 900, pages: 1800 },
      { start: 2 ** 36 - 1600, pages: 1600 },
    ],
    orders: [0, 1, 4, 5, 9, 10],
  },
  {
    name: 'a device table of 9, 8, 9, 9 and 1 bits',
    geometry: [9, 8, 9, 9, 1],
    windows: [
      { start: 2 ** 17 - 1100, pages: 2200 },
      { start: 2 ** 35 - 700, pages: 1400 },
    ],
    orders: [0, 2, 4, 9, 10],
  },
  {
    name: 'a small table of 3, 2 and 4 bits',
    geometry: [3, 2, 4],
    windows: [{ start: 0, pages: 512 }],
    orders: [0, 1, 2, 3, 4, 5, 6, 8],
  },
  { name: 'a table of one level', geometry: [6], windows: [{ start: 0, pages: 64 }], orders: [0, 1, 3, 5] },
];

/** Frames below belong to node 1 (owner 1), those from it on to node 2 (owner 2). */
const SECOND_NODE = 1 << 12;
const FRAMES = 1 << 13;
const ownerOf = (frame: number): number => (frame < SECOND_NODE ? 1 : 2);

const present = L.KIND_PRESENT;
const highs = [
  present,
  present | L.ENTRY_WRITE,
  present | L.ENTRY_WRITE | L.ENTRY_DIRTY,
  present | (0xa5 << L.ENTRY_DEVICE_SHIFT),
  present | L.ENTRY_ZERO,
  L.KIND_DEVICE_PRIVATE,
  L.KIND_DEVICE_PRIVATE | L.ENTRY_WRITE,
  L.KIND_MIGRATION | L.ENTRY_WRITE,
  L.KIND_SPECIAL,
  L.KIND_PROTNONE,
  L.KIND_SWAP,
];

type Operation =
  | { readonly verb: 'map'; readonly vpn: number; readonly pages: number; readonly frame: number; readonly high: number }
  | { readonly verb: 'mapOrder'; readonly vpn: number; readonly order: number; readonly frame: number; readonly high: number }
  | { readonly verb: 'words'; readonly vpn: number; readonly words: readonly (Entry | undefined)[] }
  | { readonly verb: 'unmap'; readonly vpn: number; readonly pages: number }
  | { readonly verb: 'protect'; readonly vpn: number; readonly pages: number; readonly clear: number; readonly set: number }
  | { readonly verb: 'split' | 'collapse'; readonly vpn: number };

/** Pages of a window: short ranges, long ones, and ones with both ends between two level-0 table pages. */
function ranges(window: Window, shape: Shape): fc.Arbitrary<{ vpn: number; pages: number }> {
  const width = 2 ** shape.geometry[0]!;
  const at = fc.integer({ min: 0, max: window.pages });
  const round = fc.oneof(at, fc.constantFrom(0, window.pages)).map((page) => Math.max(0, page - ((window.start + page) % width)));
  return fc
    .oneof(
      fc.tuple(at, at),
      fc.tuple(round, round),
      fc.tuple(at, fc.integer({ min: 0, max: 20 })).map(([a, n]) => [a, a + n]),
    )
    .map(([a, b]) => {
      const [low, high] = [Math.min(a!, b!), Math.min(Math.max(a!, b!), window.pages)];
      return { vpn: window.start + low, pages: high - low };
    });
}

function operations(shape: Shape): fc.Arbitrary<Operation> {
  const frame = fc.integer({ min: 0, max: 5 }).map((n) => n * 1024);
  const high = fc.constantFrom(...highs);
  const range = fc.constantFrom(...shape.windows).chain((window) => ranges(window, shape));
  const word = fc.option(fc.record({ low: fc.integer({ min: 0, max: 5000 }), high }), { nil: undefined });
  const page = range.map(({ vpn }) => Math.min(vpn, shape.windows.at(-1)!.start + shape.windows.at(-1)!.pages - 1));
  return fc.oneof(
    {
      weight: 3,
      arbitrary: fc.tuple(range, frame, high).map(([r, f, h]) => ({ verb: 'map' as const, ...r, frame: f + (r.vpn % 512), high: h })),
    },
    {
      weight: 4,
      arbitrary: fc.tuple(page, fc.constantFrom(...shape.orders), frame, high).map(([vpn, order, f, h]) => ({
        verb: 'mapOrder' as const,
        vpn: vpn - (vpn % 2 ** order),
        order,
        frame: f,
        high: h,
      })),
    },
    {
      weight: 2,
      arbitrary: fc
        .tuple(
          page,
          fc.oneof({ weight: 3, arbitrary: fc.array(word, { maxLength: 40 }) }, fc.array(fc.constant(undefined), { maxLength: 64 })),
        )
        .map(([vpn, words]) => ({ verb: 'words' as const, vpn, words: words.slice(0, 2 ** sum(shape.geometry) - vpn) })),
    },
    { weight: 3, arbitrary: range.map((r) => ({ verb: 'unmap' as const, ...r })) },
    {
      weight: 2,
      arbitrary: fc
        .tuple(
          range,
          fc.constantFrom(
            [L.ENTRY_WRITE, 0],
            [0, L.ENTRY_WRITE],
            [L.ENTRY_DIRTY | L.ENTRY_ACCESSED, 0],
            [L.ENTRY_KIND | L.ENTRY_WRITE, L.KIND_PROTNONE],
          ),
        )
        .map(([r, [clear, set]]) => ({ verb: 'protect' as const, ...r, clear: clear!, set: set! })),
    },
    { weight: 1, arbitrary: page.map((vpn) => ({ verb: 'split' as const, vpn })) },
    { weight: 1, arbitrary: page.map((vpn) => ({ verb: 'collapse' as const, vpn })) },
  );
}

const sum = (numbers: readonly number[]): number => numbers.reduce((a, b) => a + b, 0);

/** A table in a bare core, and what the model says it is. */
class Pair {
  readonly bare: Bare;
  readonly model: TableModel;
  readonly table: number;
  readonly input: number;
  readonly output: number;

  constructor(
    flavour: Flavour,
    readonly shape: Shape,
    tablePages = 100,
  ) {
    this.bare = bareCore(flavour, { tablePages, frames: FRAMES, scratchBytes: 1 << 18 });
    this.model = new TableModel(shape.geometry);
    this.table = newTable(this.bare, shape.geometry);
    this.input = this.bare.scratch;
    this.output = this.bare.scratch + (1 << 17);
    const { u32, nodes, frames } = this.bare;
    for (const [node, base, pages] of [
      [1, 0, SECOND_NODE],
      [2, SECOND_NODE, FRAMES - SECOND_NODE],
    ] as const) {
      const record = nodes + node * L.NODE_BYTES;
      u32[(record + L.NODE_BASE) >>> 2] = base;
      u32[(record + L.NODE_FRAMES) >>> 2] = pages;
      u32[(record + L.NODE_OWNER) >>> 2] = node;
      for (let frame = base; frame < base + pages; frame++) {
        u32[(frames + frame * L.FRAME_BYTES + L.FRAME_FLAGS) >>> 2] = node << L.FRAME_NODE_SHIFT;
      }
    }
  }

  get stop(): { reason: number; done: number } {
    return { reason: this.bare.header(L.H_STOP_REASON), done: this.bare.header(L.H_STOP_INDEX) };
  }

  field(field: number): number {
    return this.bare.u32[(this.table + field) >>> 2]!;
  }

  /** Carries an operation out in the core; returns what the core returned. */
  apply(operation: Operation): number {
    const { core, u32 } = this.bare;
    const { table } = this;
    switch (operation.verb) {
      case 'map':
        return core.rangeMap(table, operation.vpn, operation.pages, operation.frame, operation.high);
      case 'mapOrder':
        return core.rangeMapOrder(table, operation.vpn, operation.frame, operation.high, operation.order);
      case 'words':
        operation.words.forEach((word, i) => {
          u32[(this.input >>> 2) + 2 * i] = word?.low ?? 0;
          u32[(this.input >>> 2) + 2 * i + 1] = word?.high ?? 0;
        });
        return core.rangeMapWords(table, operation.vpn, operation.words.length, this.input);
      case 'unmap':
        return core.rangeUnmap(table, operation.vpn, operation.pages);
      case 'protect':
        return core.rangeProtect(table, operation.vpn, operation.pages, operation.clear, operation.set);
      case 'split':
        return core.rangeSplit(table, operation.vpn);
      case 'collapse':
        return core.rangeCollapse(table, operation.vpn);
    }
  }

  /** What the model makes of the first `limit` pages of an operation. */
  expect(operation: Operation, limit = Infinity): number {
    const { model } = this;
    switch (operation.verb) {
      case 'map':
        return model.map(operation.vpn, Math.min(operation.pages, limit), operation.frame, operation.high);
      case 'mapOrder':
        return limit < 2 ** operation.order ? 0 : model.mapOrder(operation.vpn, operation.frame, operation.high, operation.order);
      case 'words':
        return model.write(operation.vpn, operation.words.slice(0, limit));
      case 'unmap':
        return model.unmap(operation.vpn, Math.min(operation.pages, limit));
      case 'protect':
        return model.protect(operation.vpn, Math.min(operation.pages, limit), operation.clear, operation.set);
      case 'split':
        if (limit > 0) model.split(operation.vpn);
        return 1;
      case 'collapse':
        return model.collapse(operation.vpn) ? 1 : 0;
    }
  }

  /** Table and model agree in every page of every window, and every count is exact. `mask`: bits of the high words to compare. */
  check(mask = -1): void {
    for (const window of this.shape.windows) this.#checkWindow(window, mask);
    expect(this.field(L.TABLE_PAGES), 'TABLE_PAGES').toBe(this.model.entries.size);
    if (mask === -1) expect(this.field(L.TABLE_TABLES), 'TABLE_TABLES').toBe(this.model.tablePages());
    expect(this.bare.header(L.H_PAGES_USED), 'H_PAGES_USED').toBe(this.field(L.TABLE_TABLES));
    expect(countLive(this.bare, this.table), 'table pages by walking them').toBe(this.field(L.TABLE_TABLES));
  }

  #checkWindow({ start, pages }: Window, mask: number): void {
    const { core, u32 } = this.bare;
    const from = this.output >>> 2;
    u32.fill(0xdeadbeef, from, from + 2 * pages + 1);
    const set = core.snapshotNative(this.table, start, pages, this.output);
    expect(set, 'pages of a native snapshot').toBe(this.model.count(start, pages));
    expect(u32[from + 2 * pages], 'the word after a native snapshot').toBe(0xdeadbeef);
    for (let page = 0; page < pages; page++) {
      const entry = this.model.entries.get(start + page);
      const low = u32[from + 2 * page]!;
      const high = u32[from + 2 * page + 1]!;
      if (low === (entry?.low ?? 0) && ((high ^ (entry?.high ?? 0)) & mask) === 0) continue;
      const text = (h: number, l: number): string => `${h.toString(16)}:${l.toString(16)}`;
      throw new Error(`page ${start + page}: the entry is ${text(high, low)}, expected ${text(entry?.high ?? 0, entry?.low ?? 0)}`);
    }
  }

  /** Takes over the core's order bits, after a cut that ended early. */
  adoptOrders(): void {
    for (const [vpn, entry] of this.model.entries) {
      const high = this.bare.core.tableWalk(this.table, vpn) >>> 0;
      this.model.entries.set(vpn, { low: entry.low, high });
    }
  }

  checkQueries(vpn: number, pages: number, owner: number, max: number): void {
    const { core, u32 } = this.bare;
    const { model, table, output } = this;
    expect(core.rangeCount(table, vpn, pages), 'rangeCount').toBe(model.count(vpn, pages));
    expect(core.rangeNext(table, vpn, pages), 'rangeNext').toBe(model.next(vpn, pages));

    const expected: number[] = [];
    for (let page = vpn; page < vpn + pages; page++) {
      const [high, low] = model.hmm(page, owner, ownerOf);
      expected.push(low, high);
    }
    const valid = core.snapshotHmm(table, vpn, pages, output, owner);
    expect(Array.from(u32.subarray(output >>> 2, (output >>> 2) + 2 * pages)), 'HMM words').toEqual(expected);
    expect(valid, 'valid pages').toBe(expected.filter((word, i) => i & 1 && word >>> L.HMM_VALID_SHIFT).length);

    // In portions of `max`, put together again.
    const extents: number[][] = [];
    for (let done = 0; done < pages;) {
      const found = core.snapshotExtents(table, vpn + done, pages - done, output, max);
      expect(found).toBeLessThanOrEqual(max);
      for (let i = 0; i < found; i++) {
        const at = (output + i * L.EXTENT_BYTES) >>> 2;
        extents.push([u32[at]! + done, ...u32.subarray(at + 1, at + 4)]);
      }
      const { reason, done: covered } = this.stop;
      expect(reason).toBe(done + covered < pages ? L.STOP_FULL : L.STOP_NONE);
      done += covered;
    }
    expect(extents, 'extents').toEqual(model.extents(vpn, pages));
  }

  /** Looks addresses up one by one and in a batch. */
  checkLookups(vpns: readonly number[]): void {
    const { core, u32 } = this.bare;
    const { table, input, output, bare } = this;
    vpns.forEach((vpn, i) => {
      const address = vpn * L.PAGE_BYTES + ((i * 37) & 0xfff);
      u32[(input >>> 2) + 2 * i] = address >>> 0;
      u32[(input >>> 2) + 2 * i + 1] =
        ((Math.floor(address / 2 ** 32) & L.ACCESS_ADDRESS_HIGH) | (i & 1 ? L.ACCESS_WRITE | L.ACCESS_DEVICE : 0)) >>> 0;
    });
    const behind = (output >>> 2) + 2 * vpns.length;
    u32[behind] = 0xbeef;
    core.lookupBatch(table, input, output, vpns.length, bare.areas);
    expect(u32[behind], 'the word behind the last answer').toBe(0xbeef);
    vpns.forEach((vpn, i) => {
      const entry = this.model.entries.get(vpn) ?? { low: 0, high: 0 };
      const found = { low: u32[(output >>> 2) + 2 * i]!, high: u32[(output >>> 2) + 2 * i + 1]! };
      expect(found, `look-up of page ${vpn} in a batch`).toEqual(entry);
      expect(core.tableWalk(table, vpn) >>> 0).toBe(entry.high);
      expect(bare.header(L.H_STOP_ENTRY_LOW)).toBe(entry.low);
      expect(bare.header(L.H_STOP_ENTRY_HIGH)).toBe(entry.high);
    });
    const last = this.model.entries.get(vpns.at(-1)!)?.low ?? 0;
    expect(core.lookupDependent(table, input, vpns.length) >>> 0).toBe(last);
  }
}

function newTable(bare: Bare, geometry: Geometry): number {
  return bare.core.tableCreate(
    geometry.length,
    geometry.reduce((packed, bits, level) => packed | (bits << (4 * level)), 0),
    0,
  );
}

/** Walks the table pages themselves: checks every live count, returns the number of pages, fails on an empty one. */
function countLive({ u32, u16, header }: Bare, table: number): number {
  const levels = u32[(table + L.TABLE_LEVELS) >>> 2]!;
  const u8 = new Uint8Array(u32.buffer);
  const visit = (page: number, level: number): number => {
    let live = 0;
    let pages = 1;
    const width = 2 ** u8[table + L.TABLE_BITS + level]!;
    for (let slot = page; slot < page + L.PAGE_BYTES; slot += L.ENTRY_BYTES) {
      const high = u32[(slot >>> 2) + 1]!;
      const low = u32[slot >>> 2]!;
      if (!high && !low) continue;
      if (slot >= page + width * L.ENTRY_BYTES) throw new Error(`table page ${page}: an entry past its ${width}`);
      live++;
      if (high >>> 31) pages += visit(low, level - 1);
    }
    const counted = u16[(header(L.H_LIVE) >>> 1) + (page - header(L.H_PAGES)) / L.PAGE_BYTES];
    if (counted !== live) throw new Error(`table page ${page}: live count ${counted}, ${live} entries`);
    if (!live && level < levels - 1) throw new Error(`table page ${page} of level ${level} is empty`);
    return pages;
  };
  return visit(u32[(table + L.TABLE_ROOT) >>> 2]!, levels - 1);
}

describe.each(flavours)('%s', (flavour) => {
  describe.each(shapes)('$name', (shape) => {
    test('any sequence of changes leaves the entries, counts and table pages that a map of pages has', () => {
      fc.assert(
        fc.property(fc.array(operations(shape), { minLength: 1, maxLength: 25 }), (sequence) => {
          const pair = new Pair(flavour, shape);
          for (const operation of sequence) {
            const returned = pair.apply(operation);
            const { reason, done } = pair.stop;
            const expected = pair.expect(operation);
            expect(returned, `${operation.verb} returned`).toBe(expected);
            if (operation.verb === 'map' || operation.verb === 'words') {
              const asked = operation.verb === 'map' ? operation.pages : operation.words.length;
              expect(done).toBe(expected);
              expect(reason).toBe(expected < asked ? L.STOP_SPLIT : L.STOP_NONE);
            }
            pair.check();
          }
          pair.bare.core.tableDestroy(pair.table);
          expect(pair.bare.header(L.H_PAGES_USED)).toBe(0);
        }),
        { numRuns: 120 },
      );
    });

    test('every way to look at the table says what the map says', () => {
      const questions = fc
        .constantFrom(...shape.windows)
        .chain((window) => fc.tuple(ranges(window, shape), fc.integer({ min: 0, max: 2 }), fc.constantFrom(1, 2, 7, 5000)));
      const all = shape.windows.flatMap(({ start, pages }) => [start, start + (pages >> 1), start + pages - 1]);
      const near = fc
        .tuple(fc.constantFrom(...all), fc.integer({ min: -80, max: 80 }))
        .map(([vpn, by]) => Math.max(0, vpn + by) % 2 ** sum(shape.geometry));
      fc.assert(
        fc.property(
          fc.array(operations(shape), { minLength: 1, maxLength: 12 }),
          fc.array(questions, { minLength: 1, maxLength: 6 }),
          fc.array(near, { minLength: 1, maxLength: 200 }),
          fc.boolean(),
          (sequence, asked, vpns, sorted) => {
            const pair = new Pair(flavour, shape);
            for (const operation of sequence) {
              pair.apply(operation);
              pair.expect(operation);
            }
            for (const [{ vpn, pages }, owner, max] of asked) pair.checkQueries(vpn, pages, owner, max);
            pair.checkLookups(sorted ? [...vpns].sort((a, b) => a - b) : vpns);
          },
        ),
        { numRuns: 80 },
      );
    });

    test('when the table pages run out, what was done is done, what was not is untouched, and nothing leaks', () => {
      fc.assert(
        fc.property(
          fc.integer({ min: 1, max: 7 }),
          fc.array(operations(shape), { minLength: 1, maxLength: 30 }),
          (tablePages, sequence) => {
            const pair = new Pair(flavour, shape, tablePages);
            for (const operation of sequence) {
              const returned = pair.apply(operation);
              const { reason, done } = pair.stop;
              if (reason === L.STOP_TABLES) {
                // A page is asked for at a time and at most one a level is given back.
                expect(pair.bare.header(L.H_PAGES_USED)).toBeGreaterThan(tablePages - shape.geometry.length);
                const limit = operation.verb === 'split' ? 0 : done;
                const expected = pair.expect(operation, limit);
                if (operation.verb !== 'split') expect(returned).toBe(expected);
                else expect(returned).toBe(0);
                pair.check(~L.ENTRY_ORDER);
                pair.adoptOrders();
                pair.check();
              } else {
                expect(returned).toBe(pair.expect(operation));
                pair.check();
              }
            }
            pair.bare.core.tableDestroy(pair.table);
            expect(pair.bare.header(L.H_PAGES_USED)).toBe(0);
          },
        ),
        { numRuns: 120 },
      );
    });
  });

  test('a 1 GiB block is one entry; a hole of one page in it takes two table pages and keeps every other frame', () => {
    const bare = bareCore(flavour);
    const table = newTable(bare, [9, 9, 9, 9]);
    expect(bare.core.rangeMapOrder(table, 2 ** 18, 2 ** 18, present, 18)).toBe(2 ** 18);
    expect(bare.header(L.H_PAGES_USED)).toBe(2);
    expect(bare.core.rangeUnmap(table, 2 ** 18 + 70_000, 1)).toBe(1);
    expect(bare.header(L.H_PAGES_USED)).toBe(4);
    expect(bare.u32[(table + L.TABLE_PAGES) >>> 2]).toBe(2 ** 18 - 1);
    const frames = [0, 69_999, 70_001, 2 ** 18 - 1].map((page) => {
      bare.core.tableWalk(table, 2 ** 18 + page);
      return bare.header(L.H_STOP_ENTRY_LOW) - 2 ** 18;
    });
    expect(frames).toEqual([0, 69_999, 70_001, 2 ** 18 - 1]);
    expect(bare.core.snapshotExtents(table, 0, 2 ** 20, bare.areas, 10)).toBe(2);
  });

  test('an empty terabyte is counted, searched, unmapped and listed without a table page', () => {
    const bare = bareCore(flavour);
    const table = newTable(bare, [9, 9, 9, 9]);
    const pages = 2 ** 28;
    expect(bare.core.rangeMap(table, 2 ** 33 + pages - 1, 1, 7, present)).toBe(1);
    expect(bare.core.rangeCount(table, 2 ** 33, pages)).toBe(1);
    expect(bare.core.rangeNext(table, 2 ** 33, pages)).toBe(2 ** 33 + pages - 1);
    expect(bare.core.rangeNext(table, 2 ** 34, pages)).toBe(-1);
    expect(bare.core.snapshotExtents(table, 2 ** 33, pages, bare.areas, 10)).toBe(1);
    expect(bare.u32[bare.areas >>> 2]).toBe(pages - 1);
    expect(bare.core.rangeProtect(table, 2 ** 33, pages, L.ENTRY_WRITE, 0)).toBe(1);
    expect(bare.core.rangeUnmap(table, 2 ** 33, pages)).toBe(1);
    expect(bare.header(L.H_PAGES_USED)).toBe(1);
  });

  test.each([
    ['of one level-1 page', 512],
    ['of as many level-1 pages', 2 ** 18],
  ])(
    '64 addresses below one table page, over many and over more than the cache holds find the same entries, with tables %s',
    (_, stride) => {
      const pair = new Pair(flavour, shapes[0]!, 700);
      const hole = (i: number): number => stride * 400 + i;
      // One page in each of 300 level-0 table pages: more than the interleaved look-up is used for.
      for (let i = 0; i < 300; i++) {
        pair.apply({ verb: 'map', vpn: i * stride + i, pages: 1, frame: i, high: present });
        pair.expect({ verb: 'map', vpn: i * stride + i, pages: 1, frame: i, high: present });
        // One chunk, of whose last addresses some have no table page.
        if (i === 63) pair.checkLookups(Array.from({ length: 64 }, (_, j) => (j < 60 ? j * stride + j : hole(j))));
      }
      const spread = Array.from({ length: 256 }, (_, i) => i * stride + i);
      pair.checkLookups(spread);
      pair.checkLookups(spread.map((vpn, i) => (i % 7 ? vpn : hole(i))));
      // Two long pairs of passes, short ones, and a rest; then with holes in one of each.
      const many = Array.from({ length: 2 * 1024 + 2 * 64 + 5 }, (_, i) => spread[(i * 97) % 256]!);
      pair.checkLookups(many);
      pair.checkLookups(many.map((vpn, i) => ([7, 1030, 2050].includes(i) ? hole(i) : vpn)));
      const near = Array.from({ length: 192 }, (_, i) => stride * 3 + i);
      pair.checkLookups(near);
      pair.checkLookups(near.map((vpn, i) => (i % 64 === 30 ? stride * 9 + 9 : vpn)));
    },
  );

  test('64 addresses that differ first in the bits of one level find the same entries', () => {
    const pair = new Pair(flavour, shapes[0]!, 100);
    const apply = (operation: Operation): void => {
      pair.apply(operation);
      pair.expect(operation);
    };
    // Pages, a block of 512 beside them, a hole behind it; the same 1 GiB on with other frames, and a block of 1 GiB.
    for (const at of [2 ** 18, 2 ** 19]) {
      apply({ verb: 'map', vpn: at, pages: 700, frame: at + 1000, high: present });
      apply({ verb: 'mapOrder', vpn: at + 1024, order: 9, frame: at + 512, high: present });
    }
    apply({ verb: 'mapOrder', vpn: 3 * 2 ** 18, order: 18, frame: 2 ** 18, high: present });
    const all = Array.from({ length: 64 }, (_, i) => 2 ** 19 + i);
    for (const elsewhere of [1, 2 ** 8, 2 ** 9, 2 ** 10, 2 ** 11, 2 ** 17, 2 ** 18, -(2 ** 18), 2 ** 19, 2 ** 27, 2 ** 35])
      for (const i of [0, 1, 31, 62, 63]) pair.checkLookups(all.map((vpn, j) => (j === i ? vpn + elsewhere : vpn)));
    pair.checkLookups(all.map((vpn, i) => vpn + 2 ** 18 + 4099 * i));
    pair.checkLookups(all.map((vpn) => vpn + 2 ** 30));
  });

  test('words copied from a block to other page numbers are cut like pages, whatever order they carry', () => {
    const bare = bareCore(flavour);
    const { core } = bare;
    const table = newTable(bare, [9, 9, 9, 9]);
    core.rangeMapOrder(table, 2 ** 18, 2 ** 18, present, 18);
    core.snapshotNative(table, 2 ** 18, 1024, bare.areas);
    expect(core.rangeMapWords(table, 100, 1024, bare.areas)).toBe(1024);
    expect(core.rangeUnmap(table, 200, 400)).toBe(400);
    expect(core.rangeCount(table, 0, 2 ** 18)).toBe(624);
    expect(countLive(bare, table)).toBe(bare.header(L.H_PAGES_USED));
    expect(core.snapshotExtents(table, 0, 2 ** 18, bare.areas, 10)).toBe(2);
    expect(Array.from(bare.u32.subarray(bare.areas >>> 2, (bare.areas >>> 2) + 8))).toEqual([
      100,
      present,
      100,
      2 ** 18,
      600,
      present,
      524,
      2 ** 18 + 500,
    ]);
  });

  test('a full table page collapses into a block only if its frames are aligned and follow each other with the same rights', () => {
    const bare = bareCore(flavour);
    const { core } = bare;
    const table = newTable(bare, [9, 9, 9, 9]);
    core.rangeMap(table, 512, 512, 1025, present);
    expect(core.rangeCollapse(table, 512)).toBe(0);
    core.rangeMap(table, 512, 512, 1024, present);
    core.rangeProtect(table, 700, 1, 0, L.ENTRY_WRITE);
    expect(core.rangeCollapse(table, 512)).toBe(0);
    core.rangeProtect(table, 700, 1, L.ENTRY_WRITE, 0);
    core.rangeUnmap(table, 1023, 1);
    expect(core.rangeCollapse(table, 512)).toBe(0);
    core.rangeMap(table, 1023, 1, 1535, present);
    expect(core.rangeCollapse(table, 1000)).toBe(1);
    expect(core.tableWalk(table, 1000)).toBe(present | (9 << L.ENTRY_ORDER_SHIFT));
    expect(bare.header(L.H_STOP_ENTRY_LOW)).toBe(1024 + 488);
    expect(bare.header(L.H_PAGES_USED)).toBe(3);
    expect(core.rangeCollapse(table, 512)).toBe(0);
  });

  test('descriptors and table pages that are all taken make tableCreate return 0', () => {
    const bare = bareCore(flavour, { tables: 2, tablePages: 1 });
    const first = newTable(bare, [9, 9]);
    expect(first).toBeGreaterThan(0);
    expect(newTable(bare, [9, 9])).toBe(0);
    bare.core.tableDestroy(first);
    expect(newTable(bare, [9, 9])).toBe(first);
  });

  test('a page number wider than the table has no entry', () => {
    const bare = bareCore(flavour, { tablePages: 81 });
    const table = newTable(bare, [3, 2, 4]);
    bare.core.rangeMap(table, 0, 512, 0, present);
    expect(bare.core.tableWalk(table, 511)).toBe(present);
    expect(bare.core.tableWalk(table, 512)).toBe(0);
  });
});

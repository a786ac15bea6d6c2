/** Page tables: look-ups, walks, changes of one page and of ranges, snapshots. The core beside the same algorithm in C, JudyL, a `Map`, and a tree in plain TypeScript. */
import { createMachineSync, type Machine, type MachineOptions, MiB } from 'farfault';
import * as L from '../assembly/layout.ts';
import { coreWithLoops, type CoreLoops } from './core-with-loops.ts';
import { entryOf, meaning, RadixTree } from './peers/radix-tree.ts';
import { randomBelow, shuffled } from './random.ts';
import type { Contender, Native, Row } from './row.ts';

export interface Size {
  /** Mapped pages: of look-ups, by the name of the size; of tables that stay in the cache, and that do not; of one that has several levels to fill. */
  readonly sets: Readonly<Record<string, number>>;
  readonly cached: number;
  readonly streaming: number;
  readonly sequential: number;
  /** Addresses of one batch. */
  readonly lookups: number;
  /** Pages that a run handles at least, by doing its work again. */
  readonly runPages: number;
}

const FULL: Size = {
  sets: { '4MiB': 1 << 10, '64MiB': 1 << 14, '1GiB': 1 << 18, '16GiB': 1 << 22, '256GiB': 1 << 26 },
  cached: 1 << 14,
  streaming: 1 << 22,
  sequential: 1 << 18,
  lookups: 1 << 20,
  runPages: 1 << 20,
};

/** First page: every level of the tree has work with it. */
const BASE = 5 * 2 ** 27 + 3 * 2 ** 18;
/** Pages in a row with consecutive frames; every eighth run is read-only. */
const RUN_PAGES = 64;
const PRESENT = L.KIND_PRESENT | L.ENTRY_WRITE;

/** Sets up to here fit the caches of the processor, with their tables. */
const CACHED_PAGES = 1 << 14;
/** JudyL and Map take minutes to fill beyond. */
const JUDY_PAGES = 1 << 22;
const MAP_PAGES = 1 << 20;

export function rows(size: Size = FULL): Row[] {
  const { lookups, cached, streaming, runPages } = size;
  const inC = (row: string, pages: number): Native => ({ program: 'table', row, numbers: [pages, lookups] });
  const list: Row[] = [];
  for (const [name, pages] of Object.entries(size.sets)) {
    list.push({
      name: `lookup.random.${name}`,
      unit: 'ns',
      items: lookups,
      ours: () => new Tables(pages, lookups).lookup(random(pages)),
      peers: [
        { name: 'C, simple loop', contender: inC('lookup.simple', pages), ...(pages <= CACHED_PAGES ? { goal: { ratio: 1.15 } } : {}) },
        { name: 'C, two passes', contender: inC('lookup.two-pass', pages), ...(pages > CACHED_PAGES ? { goal: { ratio: 1.05 } } : {}) },
        ...(pages <= JUDY_PAGES
          ? [{ name: 'JudyL', contender: { program: 'judy', row: 'lookup', numbers: [pages, lookups] } as const, goal: { times: 6 } }]
          : []),
        ...(pages <= MAP_PAGES ? [{ name: 'Map', contender: () => mapLookup(pages, lookups), goal: { times: 13 } }] : []),
        ...(pages <= MAP_PAGES ? [{ name: 'tree in TypeScript', contender: () => treeLookup(pages, lookups) }] : []),
      ],
    });
  }
  list.push({
    name: 'lookup.sequential',
    unit: 'ns',
    items: lookups,
    ours: () => new Tables(size.sequential, lookups).lookup((i) => BASE + (i % size.sequential)),
    peers: [{ name: 'C', contender: inC('lookup.sequential', size.sequential), goal: { ratio: 0.8 } }],
  });
  for (const [name, pages] of [Object.entries(size.sets)[0]!, Object.entries(size.sets).at(-1)!]) {
    list.push({
      name: `walk.dependent.${name}`,
      unit: 'ns',
      items: lookups,
      ours: () => new Tables(pages, lookups).dependent(),
      peers: [{ name: 'C', contender: inC('walk.dependent', pages), goal: { ratio: 1.1 } }],
    });
  }
  list.push({
    name: 'lookup.fromTypeScript',
    unit: 'ns',
    items: Math.min(lookups, 1 << 16),
    ours: () => new Tables(cached, lookups).single(),
    peers: [{ name: 'Map', contender: () => mapSingle(cached, lookups) }],
    goal: { most: 7 },
  });
  for (const name of ['map.single', 'unmap.single'] as const) {
    list.push({
      name,
      unit: 'ns',
      items: Math.min(lookups, cached),
      ours: async () => new Changes(cached, await coreWithLoops()).single(name, Math.min(lookups, cached)),
      peers: [{ name: 'C', contender: inC(name, cached), goal: { ratio: 1.1 } }],
    });
  }
  for (const [name, pages] of [
    ['cached', cached],
    ['streaming', streaming],
  ] as const) {
    const times = Math.max(1, Math.floor(runPages / pages));
    const goal = { ratio: name === 'cached' ? 1.7 : 1.1 };
    const numbers = [pages, lookups, times];
    const items = pages * times;
    list.push(
      {
        name: `map.range.${name}`,
        unit: 'ns',
        items,
        ours: () => new Changes(pages).mapRange(times),
        peers: [{ name: 'C', contender: { program: 'table', row: 'map.range', numbers }, goal }],
      },
      {
        name: `protect.range.${name}`,
        unit: 'ns',
        items,
        ours: () => new Changes(pages).protectRange(times),
        peers: [
          { name: 'C', contender: { program: 'table', row: 'protect.range', numbers }, goal },
          { name: 'C, 128-bit vectors', contender: { program: 'table128', row: 'protect.range', numbers } },
        ],
      },
      {
        name: `snapshot.hmm.${name}`,
        unit: 'ns',
        items,
        ours: () => new Tables(pages, 2 * pages).snapshotHmm(times),
        peers: [
          { name: 'C', contender: { program: 'table', row: 'snapshot.hmm', numbers } },
          ...(name === 'streaming'
            ? [
                {
                  name: 'memcpy of the words',
                  contender: { program: 'table', row: 'snapshot.memcpy', numbers } as const,
                  sameWork: false,
                  goal: { share: 0.97 },
                },
              ]
            : []),
        ],
        // Two pages a nanosecond.
        ...(name === 'cached' ? { goal: { most: 0.5 } } : {}),
      },
    );
  }
  const times = Math.max(1, Math.floor(runPages / cached));
  const numbers = [cached, lookups, times];
  list.push({
    name: 'snapshot.native.cached',
    unit: 'ns',
    items: cached * times,
    ours: () => new Tables(cached, 2 * cached).snapshotNative(times),
    peers: [{ name: 'C', contender: { program: 'table', row: 'snapshot.native', numbers } }],
    // Six pages a nanosecond.
    goal: { most: 0.167 },
  });
  for (const [shape, most] of [
    ['contiguous', 0.4],
    ['huge', 0.03],
    ['random', 3],
  ] as const) {
    list.push({
      name: `snapshot.extents.${shape}`,
      unit: 'ns',
      items: cached * times,
      ours: () => new Changes(cached).extents(shape, times),
      peers: [{ name: 'C', contender: { program: 'table', row: `extents.${shape}`, numbers } }],
      goal: { most },
    });
  }
  return list;
}

function random(pages: number): (i: number) => number {
  const below = randomBelow(1);
  return () => BASE + below(pages);
}

function frameOf(at: number): number {
  return (Math.imul(at, 0x9e3779b1) >>> 12) * RUN_PAGES;
}

function isWritable(at: number): boolean {
  return (at / RUN_PAGES) % 8 !== 7;
}

/** Byte addresses of pages, two words each, low first. */
function addressesOf(n: number, page: (i: number) => number): Uint32Array {
  const addresses = new Uint32Array(2 * n);
  for (let i = 0; i < n; i++) {
    const vpn = page(i);
    addresses[2 * i] = vpn << L.PAGE_SHIFT;
    addresses[2 * i + 1] = vpn / 2 ** 20;
  }
  return addresses;
}

// ---------------------------------------------------------------------------------------------------------------------- the core

/** A table of the core, and memory for what goes in and comes out: unused host memory. */
class Table {
  protected readonly core: Machine['platform']['core'];
  protected readonly table: number;
  protected readonly input: number;
  protected readonly output: number;
  protected readonly pages: number;

  /** `words`: pairs of words that the input, and the output, have room for. */
  constructor(pages: number, words: number, options: MachineOptions = {}) {
    this.pages = pages;
    const room = Math.max(words, 1024) * 8;
    const tablePages = Math.ceil((pages / 512) * 1.01) + 64;
    const machine = createMachineSync({ dram: Math.ceil((2 * room) / MiB + 1) * MiB, deviceMemory: 0, tablePages, ...options });
    const { core, host } = machine.platform;
    this.core = core;
    this.input = core.frameBytes(host.base);
    this.output = this.input + room;
    this.table = core.tableCreate([9, 9, 9, 9], false);
  }

  /** What the core's entries at the output say, as `meaning` puts it. */
  protected meanings(entries: number): number {
    const words = this.words(entries);
    return sum(entries, (i) => meaningOf(words[2 * i]!, words[2 * i + 1]!));
  }

  /** The output as `entries` pairs of words. */
  protected words(entries: number): Uint32Array {
    return this.core.u32.subarray(this.output >>> 2, (this.output >>> 2) + 2 * entries);
  }
}

/** A table with the mapping that all look-ups have. */
class Tables extends Table {
  readonly #n: number;

  constructor(pages: number, lookups: number) {
    super(pages, lookups);
    this.#n = lookups;
    for (let at = 0; at < pages; at += RUN_PAGES) {
      const high = L.KIND_PRESENT | (isWritable(at) ? L.ENTRY_WRITE : 0);
      this.core.exports.rangeMap(this.table, BASE + at, Math.min(RUN_PAGES, pages - at), frameOf(at), high);
    }
  }

  lookup(page: (i: number) => number): Contender {
    this.core.u32.set(addressesOf(this.#n, page), this.input >>> 2);
    const scratch = this.core.area(L.AREA_LIST);
    return {
      run: () => this.core.exports.lookupBatch(this.table, this.input, this.output, this.#n, scratch),
      checksum: () => this.meanings(this.#n),
    };
  }

  dependent(): Contender {
    this.core.u32.set(addressesOf(this.#n, random(this.pages)), this.input >>> 2);
    let last = 0;
    return {
      run: () => void (last = this.core.exports.lookupDependent(this.table, this.input, this.#n)),
      checksum: () => last,
    };
  }

  /** Not a batch: one look-up for each page, as steps and drivers make it. */
  single(): Contender {
    const { core, table } = this;
    const pages = somePages(this.pages, this.#n);
    let total = 0;
    const run = (): void => {
      let sum = 0;
      for (let i = 0; i < pages.length; i++) if (core.entry(table, pages[i]!) !== 0) sum += core.entryLow;
      total = sum;
    };
    return { run, checksum: () => total };
  }

  snapshotNative(times: number): Contender {
    const { exports } = this.core;
    const run = (): void => {
      for (let i = 0; i < times; i++) exports.snapshotNative(this.table, BASE, this.pages, this.output);
    };
    return { run, checksum: () => this.meanings(this.pages) };
  }

  snapshotHmm(times: number): Contender {
    const { exports } = this.core;
    const run = (): void => {
      for (let i = 0; i < times; i++) exports.snapshotHmm(this.table, BASE, this.pages, this.output, 0);
    };
    const checksum = (): number => {
      const words = this.words(this.pages);
      return sum(this.pages, (i) => words[2 * i]! * 4 + (words[2 * i + 1]! >>> 30));
    };
    return { run, checksum };
  }
}

/** A table that changes. */
class Changes extends Table {
  constructor(pages: number, module?: WebAssembly.Module) {
    super(pages, 2 * pages, module ? { module } : {});
  }

  /** One page after the other, in an order of chance. The first page of each table stays, and with it the table. */
  single(which: 'map.single' | 'unmap.single', n: number): Contender {
    const exports = this.core.exports as unknown as CoreLoops;
    const { table, input } = this;
    const order = shuffled(this.pages, 3).map((page) => (page % 512 === 0 ? page + 1 : page));
    this.core.u32.set(order, input >>> 2);
    const fill = (): void => void this.core.exports.rangeMap(table, BASE, this.pages, 0, PRESENT);
    const empty = (): void => {
      fill();
      exports.unmapEach(table, BASE, input, n);
    };
    const checksum = (): number => this.#everything();
    return which === 'map.single'
      ? { reset: empty, run: () => exports.mapEach(table, BASE, input, n, PRESENT), checksum }
      : { reset: fill, run: () => exports.unmapEach(table, BASE, input, n), checksum };
  }

  mapRange(times: number): Contender {
    const { exports } = this.core;
    const { table, pages } = this;
    const run = (): void => {
      for (let i = 0; i < times; i++) {
        exports.rangeMap(table, BASE, pages, 1, PRESENT);
        exports.rangeUnmap(table, BASE, pages);
      }
    };
    const checksum = (): number => {
      exports.rangeMap(table, BASE, pages, 1, PRESENT);
      return this.#everything();
    };
    return { run, checksum };
  }

  protectRange(times: number): Contender {
    const { exports } = this.core;
    const { table, pages } = this;
    exports.rangeMap(table, BASE, pages, 1, PRESENT);
    const run = (): void => {
      for (let i = 0; i < times; i++) exports.rangeProtect(table, BASE, pages, i & 1 ? 0 : L.ENTRY_WRITE, i & 1 ? L.ENTRY_WRITE : 0);
    };
    return { run, checksum: () => this.#everything() };
  }

  extents(shape: 'contiguous' | 'huge' | 'random', times: number): Contender {
    const { exports } = this.core;
    const { table, pages } = this;
    if (shape === 'contiguous') exports.rangeMap(table, BASE, pages, 1, PRESENT);
    else if (shape === 'huge')
      for (let at = 0; at < pages; at += 512) exports.rangeMapOrder(table, BASE + at, (at + 512) * 2, PRESENT, L.HUGE_ORDER);
    else for (let at = 0; at < pages; at++) exports.rangeMap(table, BASE + at, 1, Math.imul(at, 0x9e3779b1) >>> 12, PRESENT);
    let found = 0;
    const run = (): void => {
      for (let i = 0; i < times; i++) found = exports.snapshotExtents(table, BASE, pages, this.output, pages);
    };
    const checksum = (): number => {
      const words = this.words(2 * pages);
      return sum(found, (i) => words[4 * i]! + 3 * words[4 * i + 2]! + 5 * words[4 * i + 3]!) + found;
    };
    return { run, checksum };
  }

  /** What the table says in the end, by reading all of it. */
  #everything(): number {
    this.core.exports.snapshotNative(this.table, BASE, this.pages, this.output);
    return this.meanings(this.pages);
  }
}

// ------------------------------------------------------------------------------------------------------------------ in JavaScript

function treeLookup(pages: number, lookups: number): Contender {
  const tree = new RadixTree(Math.ceil(pages / 512) + 64);
  for (let at = 0; at < pages; at += RUN_PAGES) tree.map(BASE + at, Math.min(RUN_PAGES, pages - at), frameOf(at), isWritable(at));
  const addresses = addressesOf(lookups, random(pages));
  const entries = new Int32Array(lookups);
  return { run: () => tree.lookup(addresses, entries, lookups), checksum: () => sum(lookups, (i) => meaning(entries[i]!)) };
}

function mapOf(pages: number): Map<number, number> {
  const map = new Map<number, number>();
  for (let at = 0; at < pages; at++) {
    const run = at - (at % RUN_PAGES);
    map.set(BASE + at, entryOf(frameOf(run) + (at - run), isWritable(run)));
  }
  return map;
}

function mapLookup(pages: number, lookups: number): Contender {
  const map = mapOf(pages);
  const addresses = addressesOf(lookups, random(pages));
  const entries = new Int32Array(lookups);
  const run = (): void => {
    for (let i = 0; i < entries.length; i++)
      entries[i] = map.get(addresses[2 * i + 1]! * 2 ** 20 + (addresses[2 * i]! >>> L.PAGE_SHIFT)) ?? 0;
  };
  return { run, checksum: () => sum(lookups, (i) => meaning(entries[i]!)) };
}

function mapSingle(pages: number, lookups: number): Contender {
  const map = mapOf(pages);
  const asked = somePages(pages, lookups);
  let total = 0;
  const run = (): void => {
    let sum = 0;
    for (let i = 0; i < asked.length; i++) sum += map.get(asked[i]!)! & (2 ** 26 - 1);
    total = sum;
  };
  return { run, checksum: () => total };
}

function somePages(pages: number, lookups: number): Float64Array {
  const page = random(pages);
  return Float64Array.from({ length: Math.min(lookups, 1 << 16) }, (_, i) => page(i));
}

function meaningOf(frame: number, high: number): number {
  return frame * 2 + (high & L.ENTRY_WRITE ? 1 : 0);
}

function sum(n: number, each: (i: number) => number): number {
  let total = 0;
  for (let i = 0; i < n; i++) total += each(i);
  return total;
}

/** Look-ups and snapshots: the core's page table beside a tree, and a Map, in plain TypeScript. */
import { createMachineSync, type Machine, MiB } from 'farfault';
import * as L from '../assembly/layout.ts';
import type { Contender, Row } from './harness.ts';
import { entryOf, meaning, RadixTree } from './peers/radix-tree.ts';
import { randomBelow } from './random.ts';

export interface Size {
  /** Mapped pages of the small and of the large table. */
  readonly small: number;
  readonly large: number;
  /** Addresses of one batch. */
  readonly lookups: number;
}

const FULL: Size = { small: 1 << 14, large: 1 << 22, lookups: 1 << 20 };

/** First page: every level of the tree has work with it. */
const BASE = 5 * 2 ** 27 + 3 * 2 ** 18;
/** Pages in a row with consecutive frames; every eighth run is read-only. */
const RUN_PAGES = 64;

export function* rows(size: Size = FULL): Generator<Row> {
  const bytes = (pages: number): string => (pages >= 1 << 18 ? `${pages / 2 ** 18} GiB` : `${pages / 2 ** 8} MiB`);
  for (const pages of [size.small, size.large]) {
    const tables = new Tables(pages, size.lookups);
    yield tables.lookup(`look-up, random in ${bytes(pages)}`, tables.random());
    if (pages === size.large) yield tables.lookup(`look-up, sequential in ${bytes(pages)}`, tables.sequential());
    yield tables.dependent(`dependent walk, random in ${bytes(pages)}`);
    if (pages === size.small) {
      yield tables.lookupInMap(`look-up, random in ${bytes(pages)}`);
      yield tables.single(`one look-up from TypeScript, ${bytes(pages)}`);
      yield tables.snapshot(`snapshot of ${bytes(pages)}, native entries`);
      yield tables.snapshotHmm(`snapshot of ${bytes(pages)}, HMM words`);
      yield tables.snapshotExtents(`snapshot of ${bytes(pages)}, extents`);
    }
    tables.close();
  }
}

/** The same mapping in both tables, and addresses to look up. */
class Tables {
  readonly #pages: number;
  readonly #n: number;
  readonly #machine: Machine;
  readonly #core: Machine['platform']['core'];
  readonly #table: number;
  readonly #tree: RadixTree;
  /** Where addresses come from and results go to: unused host memory. */
  readonly #input: number;
  readonly #output: number;
  #addresses = new Uint32Array(0);

  constructor(pages: number, lookups: number) {
    this.#pages = pages;
    this.#n = lookups;
    const nodes = Math.ceil(pages / 512) + 64;
    const words = Math.max(lookups, 2 * pages) * 8;
    this.#machine = createMachineSync({ dram: Math.ceil((2 * words) / MiB + 1) * MiB, deviceMemory: 0, tablePages: nodes });
    const { core, host } = this.#machine.platform;
    this.#core = core;
    this.#input = core.frameBytes(host.base);
    this.#output = this.#input + words;
    this.#table = core.tableCreate([9, 9, 9, 9], false);
    this.#tree = new RadixTree(nodes);
    for (let at = 0; at < pages; at += RUN_PAGES) {
      const frame = (Math.imul(at, 0x9e3779b1) >>> 12) * RUN_PAGES;
      const write = (at / RUN_PAGES) % 8 !== 7;
      const high = L.KIND_PRESENT | (write ? L.ENTRY_WRITE : 0);
      core.exports.rangeMap(this.#table, BASE + at, RUN_PAGES, frame, high);
      this.#tree.map(BASE + at, RUN_PAGES, frame, write);
    }
  }

  close(): void {
    this.#machine.close();
  }

  random(): (i: number) => number {
    const below = randomBelow(1);
    return () => BASE + below(this.#pages);
  }

  sequential(): (i: number) => number {
    return (i) => BASE + (i % this.#pages);
  }

  lookup(name: string, page: (i: number) => number): Row {
    this.#aim(page);
    return { name, unit: 'ns', items: this.#n, ours: this.#batch(), peer: this.#treeBatch(), against: 'radix tree in TypeScript' };
  }

  lookupInMap(name: string): Row {
    this.#aim(this.random());
    const map = new Map<number, number>();
    for (let at = 0; at < this.#pages; at += RUN_PAGES) {
      const frame = (Math.imul(at, 0x9e3779b1) >>> 12) * RUN_PAGES;
      for (let i = 0; i < RUN_PAGES; i++) map.set(BASE + at + i, entryOf(frame + i, (at / RUN_PAGES) % 8 !== 7));
    }
    const entries = new Int32Array(this.#n);
    const addresses = this.#addresses;
    const run = (): void => {
      for (let i = 0; i < entries.length; i++)
        entries[i] = map.get(addresses[2 * i + 1]! * 2 ** 20 + (addresses[2 * i]! >>> L.PAGE_SHIFT)) ?? 0;
    };
    const peer: Contender = { run, checksum: () => sum(entries.length, (i) => meaning(entries[i]!)) };
    return { name, unit: 'ns', items: this.#n, ours: this.#batch(), peer, against: 'Map<number, number>' };
  }

  dependent(name: string): Row {
    this.#aim(this.random());
    const { exports } = this.#core;
    let ours = 0;
    let peer = 0;
    return {
      name,
      unit: 'ns',
      items: this.#n,
      ours: { run: () => void (ours = exports.lookupDependent(this.#table, this.#input, this.#n)), checksum: () => ours },
      peer: { run: () => void (peer = this.#tree.lookupDependent(this.#addresses, this.#n)), checksum: () => meaning(peer) >>> 1 },
      against: 'radix tree in TypeScript',
    };
  }

  /** Not a batch: one call for each page, as a driver's code makes it. */
  single(name: string): Row {
    const core = this.#core;
    const page = this.random();
    const pages = Float64Array.from({ length: Math.min(this.#n, 1 << 16) }, (_, i) => page(i));
    const map = new Map<number, number>();
    for (const vpn of pages) {
      core.entry(this.#table, vpn);
      map.set(vpn, core.entryLow);
    }
    let ours = 0;
    let peer = 0;
    const runOurs = (): void => {
      ours = 0;
      for (let i = 0; i < pages.length; i++) if (core.entry(this.#table, pages[i]!) !== 0) ours += core.entryLow;
    };
    const runPeer = (): void => {
      peer = 0;
      for (let i = 0; i < pages.length; i++) peer += map.get(pages[i]!)!;
    };
    return {
      name,
      unit: 'ns',
      items: pages.length,
      ours: { run: runOurs, checksum: () => ours },
      peer: { run: runPeer, checksum: () => peer },
      against: 'Map<number, number>',
    };
  }

  snapshot(name: string): Row {
    const { exports } = this.#core;
    const entries = new Int32Array(this.#pages);
    return {
      name,
      unit: 'ns',
      items: this.#pages,
      ours: {
        run: () => void exports.snapshotNative(this.#table, BASE, this.#pages, this.#output),
        checksum: () => this.#meanings(this.#pages),
      },
      peer: { run: () => this.#tree.snapshot(BASE, this.#pages, entries), checksum: () => sum(this.#pages, (i) => meaning(entries[i]!)) },
      against: 'radix tree in TypeScript',
    };
  }

  snapshotHmm(name: string): Row {
    const { exports } = this.#core;
    const words = new Uint32Array(2 * this.#pages);
    const of = (output: Uint32Array): number => sum(this.#pages, (i) => output[2 * i]! * 4 + (output[2 * i + 1]! >>> 30));
    return {
      name,
      unit: 'ns',
      items: this.#pages,
      ours: {
        run: () => void exports.snapshotHmm(this.#table, BASE, this.#pages, this.#output, 0),
        checksum: () => of(this.#words(this.#pages)),
      },
      peer: { run: () => this.#tree.snapshotHmm(BASE, this.#pages, words), checksum: () => of(words) },
      against: 'radix tree in TypeScript',
    };
  }

  snapshotExtents(name: string): Row {
    const { exports } = this.#core;
    const extents = new Uint32Array(4 * this.#pages);
    let [ours, peer] = [0, 0];
    const of = (output: Uint32Array, count: number): number =>
      sum(count, (i) => output[4 * i]! + 3 * output[4 * i + 2]! + 5 * output[4 * i + 3]!) + count;
    return {
      name,
      unit: 'ns',
      items: this.#pages,
      ours: {
        run: () => void (ours = exports.snapshotExtents(this.#table, BASE, this.#pages, this.#output, this.#pages)),
        checksum: () => of(this.#words(2 * this.#pages), ours),
      },
      peer: {
        run: () => void (peer = this.#tree.snapshotExtents(BASE, this.#pages, extents)),
        checksum: () => of(extents, peer),
      },
      against: 'radix tree in TypeScript',
    };
  }

  /** Puts the addresses to look up into both memories. */
  #aim(page: (i: number) => number): void {
    this.#addresses = new Uint32Array(2 * this.#n);
    for (let i = 0; i < this.#n; i++) {
      const vpn = page(i);
      this.#addresses[2 * i] = vpn << L.PAGE_SHIFT;
      this.#addresses[2 * i + 1] = vpn / 2 ** 20;
    }
    this.#core.u32.set(this.#addresses, this.#input >>> 2);
  }

  #batch(): Contender {
    const core = this.#core;
    const scratch = core.area(L.AREA_LIST);
    return {
      run: () => core.exports.lookupBatch(this.#table, this.#input, this.#output, this.#n, scratch),
      checksum: () => this.#meanings(this.#n),
    };
  }

  #treeBatch(): Contender {
    const entries = new Int32Array(this.#n);
    return {
      run: () => this.#tree.lookup(this.#addresses, entries, this.#n),
      checksum: () => sum(this.#n, (i) => meaning(entries[i]!)),
    };
  }

  /** What the core's entries at the output say, as `meaning` puts it. */
  #meanings(entries: number): number {
    const words = this.#words(entries);
    return sum(entries, (i) => words[2 * i]! * 2 + (words[2 * i + 1]! & L.ENTRY_WRITE ? 1 : 0));
  }

  /** The output as `entries` pairs of words. */
  #words(entries: number): Uint32Array {
    return this.#core.u32.subarray(this.#output >>> 2, (this.#output >>> 2) + 2 * entries);
  }
}

function sum(n: number, each: (i: number) => number): number {
  let total = 0;
  for (let i = 0; i < n; i++) total += each(i);
  return total;
}

import { describe, expect, test } from 'vitest';
import * as L from '../../assembly/layout.ts';
import { type Flavour, flavours } from './harness.ts';
import { CXL, GPU, GPU_OWNER, HOST, Mover, NPU } from './mover.ts';
import { NOTHING, type SmallRoom } from './small-core.ts';

/** Pages of a huge page, and of a giant one. */
const N = 512;
const GIANT = 2 ** 18;
const READ = L.RIGHT_READ;
const RW = L.RIGHT_READ | L.RIGHT_WRITE;
const OWN = L.KIND_PRESENT | L.ENTRY_ANON_EXCLUSIVE | L.ENTRY_ACCESSED;
const ROOM: Partial<SmallRoom> = {
  nodes: [
    { kind: L.NODE_IS_HOST, frames: 4 * N },
    { kind: L.NODE_IS_PRIVATE, frames: 2 * N, owner: GPU_OWNER },
    { kind: L.NODE_IS_PRIVATE, frames: N, owner: 2, alloc: L.ALLOC_DRIVER, backed: false },
    { kind: L.NODE_IS_COHERENT, frames: N, owner: 3 },
  ],
  chains: 8192,
  zeroFrames: N,
};
const PROMISES = [L.H_PAGES_USED, L.H_PAGES_DEPOSITED, L.H_CHAIN_USED, L.H_CHAIN_RESERVED];

class Huge extends Mover {
  constructor(flavour: Flavour, room: Partial<SmallRoom> = {}) {
    super(flavour, { ...ROOM, ...room });
  }

  /** Maps a fresh huge page, its pages stamped 1 to 512; returns its first frame. */
  fill(table: number, vpn: number, rights = RW): number {
    expect(this.core.mapHuge(table, vpn, HOST, rights, 0)).toBe(1);
    const frame = this.entry(table, vpn).low;
    for (let i = 0; i < N; i++) this.stamp(frame + i, i + 1);
    return frame;
  }

  /** The same pages in another space as well, as a fork shares them. */
  shareHuge(from: number, to: number, vpn: number, pages = N): void {
    expect(this.core.forkRange(from, to, vpn, pages, HOST, 0)).toBe(pages);
  }

  /** A huge page that lives on a node. */
  huge(node: number, table: number, vpn: number): number {
    this.fill(table, vpn);
    this.core.migrateCollect(table, vpn, N, L.SELECT_SYSTEM | L.SELECT_COMPOUND, 0, L.FRAME_NONE, this.source, 0);
    const to = node === NPU ? this.base[NPU]! : this.core.frameTake(node, 9);
    if (node === NPU) expect(this.core.frameClaim(to, 9)).toBe(1);
    this.aimHuge(to);
    expect(this.finish(table, vpn, N)).toBe(N);
    return to;
  }

  /** The target of 512 pages: one huge frame, or nothing. */
  aimHuge(frame?: number): void {
    for (let i = 0; i < N; i++) this.setField(this.target, i * 8 + 4, 0);
    if (frame === undefined) return;
    this.setField(this.target, 0, frame);
    this.setField(this.target, 4, L.MIGRATE_VALID | L.MIGRATE_COMPOUND);
  }

  /** Ends the migration of a huge page that goes nowhere. */
  giveUp(): void {
    this.aimHuge();
    expect(this.core.migrateFinalize(N, this.source, this.target)).toBe(0);
  }

  headers(...fields: number[]): number[] {
    return fields.map((field) => this.bare.header(field));
  }

  get promises(): number[] {
    return this.headers(...PROMISES);
  }

  get deposited(): number {
    return this.bare.header(L.H_PAGES_DEPOSITED);
  }

  get reserved(): number {
    return this.bare.header(L.H_CHAIN_RESERVED);
  }

  /** Why the last call stopped, and, for STOP_LOCKED, for which frame to wait. */
  get why(): number | [number, number] {
    return this.stop === L.STOP_LOCKED ? [this.stop, this.bare.header(L.H_STOP_ENTRY_LOW)] : this.stop;
  }

  orderAt(table: number, vpn: number): number {
    return (this.entry(table, vpn).high & L.ENTRY_ORDER) >>> L.ENTRY_ORDER_SHIFT;
  }

  flags(frame: number): number {
    return this.frame(frame, L.FRAME_FLAGS);
  }

  mark(frame: number, flags: number): void {
    this.setField(this.frameRecord(frame), L.FRAME_FLAGS, this.flags(frame) | flags);
  }

  stamps(table: number, vpn: number, n = N): number[] {
    return Array.from({ length: n }, (_, i) => this.stampOf(this.entry(table, vpn + i).low));
  }

  /** Everything that a refused call must leave as it was: promises, entries, and the records of nodes, tables, TLBs, mappings and frames. */
  state(...tables: number[]): unknown {
    const entries = tables.map((table) => {
      this.core.snapshotNative(table, 0, 8 * N, this.values);
      return this.list(this.values, 16 * N);
    });
    const records = this.list(this.bare.nodes, (this.bare.header(L.H_CHARGES) - this.bare.nodes) / 4);
    return [this.promises, entries, records];
  }

  /** Zaps the tables and looks for what is left. */
  end(...tables: number[]): void {
    for (const table of tables) expect(this.core.zap(table, 0, 8 * N)).toBe(8 * N);
    this.freed();
    expect([HOST, GPU, NPU, CXL].map((node) => this.node(node, L.NODE_USED))).toEqual([0, 0, 0, 0]);
    expect(tables.map((table) => [this.field(table, L.TABLE_CHARGED), this.field(table, L.TABLE_PAGES)])).toEqual(tables.map(() => [0, 0]));
    expect([this.promises, this.core.verify(1)]).toEqual([[tables.length, 0, 0, 0], 0]);
  }
}

const STAMPS = Array.from({ length: N }, (_, i) => i + 1);

describe.each(flavours)('%s', (flavour) => {
  const make = (room: Partial<SmallRoom> = {}): Huge => new Huge(flavour, room);

  describe('a fault', () => {
    test('that brings a huge page maps one zeroed frame, own and charged, by one entry that promises a table page', () => {
      const huge = make();
      const { table, tlb, index } = huge.home(4);
      const stale = huge.core.frameTake(HOST, 9);
      for (let i = 0; i < N; i++) huge.stamp(stale + i, 0xbad);
      huge.core.framePut(stale);
      for (const [vpn, rights] of [[0, RW], [N, READ]] as const) expect(huge.core.mapHuge(table, vpn, HOST, rights, 0)).toBe(1); // prettier-ignore
      const frame = huge.entry(table, 0).low;
      expect([frame, huge.entry(table, 511).low, huge.stamps(table, 0)]).toEqual([stale, stale + 511, STAMPS.map(() => 0)]);
      expect(huge.entry(table, 7).high).toBe(OWN | L.ENTRY_WRITE | (9 << L.ENTRY_ORDER_SHIFT));
      expect(huge.entry(table, N).high).toBe(OWN | (9 << L.ENTRY_ORDER_SHIFT));
      expect([huge.holders(frame), huge.mappings(frame), huge.payer(frame)]).toMatchObject([
        { refs: 1, maps: 1 },
        [`${index}:0`],
        index + 1,
      ]);
      expect([huge.field(table, L.TABLE_CHARGED), huge.field(table, L.TABLE_PAGES), huge.deposited]).toEqual([2 * N, 2 * N, 2]);
      expect([huge.touch(tlb, 3, true), huge.touch(tlb, N + 3, false), huge.touch(tlb, N + 3, true)]).toEqual([true, true, false]);
      expect(huge.core.verify(1)).toBe(0);
      huge.end(table);
    });

    test('that reads maps the huge page of zeros, which is nobody’s; a write puts a huge page in its place', () => {
      const huge = make();
      const { table, tlb } = huge.home(4);
      expect(huge.core.mapHuge(table, 0, HOST, READ, 1)).toBe(1);
      const zero = { high: L.KIND_PRESENT | L.ENTRY_ZERO | L.ENTRY_ACCESSED | (9 << L.ENTRY_ORDER_SHIFT), low: huge.zeroFrame + 5 };
      expect(huge.entry(table, 5)).toMatchObject(zero);
      expect([huge.touch(tlb, 5, false), huge.touch(tlb, 5, true)]).toEqual([true, false]);
      expect([huge.node(HOST, L.NODE_USED), huge.deposited, huge.field(table, L.TABLE_CHARGED), huge.core.verify(1)]).toEqual([0, 1, 0, 0]);
      expect(huge.core.mapHuge(table, 0, HOST, RW, 0)).toBe(1);
      expect([huge.ways(tlb).flat(), huge.orderAt(table, 5), huge.deposited]).toEqual([[], 9, 1]);
      expect([huge.touch(tlb, 5, true), huge.node(HOST, L.NODE_USED), huge.core.verify(1)]).toEqual([true, N, 0]);
      huge.end(table);
    });

    test('of a huge page does not come where something is, nor without a frame or a table page for it and for its split', () => {
      const huge = make();
      const { table } = huge.home();
      const refused = (home: Huge, at: number, vpn: number, zero: number, reason: number): void => {
        const before = home.state(at);
        expect([home.core.mapHuge(at, vpn, HOST, RW, zero), home.stop]).toEqual([0, reason]);
        expect(home.state(at)).toEqual(before);
      };
      huge.core.mapZero(table, 5);
      huge.fill(table, N);
      huge.core.mapHuge(table, 2 * N, HOST, READ, 1);
      for (const [vpn, zero] of [[0, 0], [0, 1], [N, 0], [N, 1], [2 * N, 1]] as const) refused(huge, table, vpn, zero, L.STOP_SPLIT); // prettier-ignore
      // Of the last block one frame is taken: there is room, and none of it is huge.
      for (let i = 0; i < 2; i++) expect(huge.core.frameTake(HOST, 9) >>> 0).not.toBe(NOTHING);
      for (const frame of STAMPS.map(() => huge.core.frameTake(HOST, 0)).slice(1)) huge.core.framePut(frame);
      for (const vpn of [2 * N, 3 * N, 2 ** 30]) refused(huge, table, vpn, 0, L.STOP_FRAMES);
      expect([huge.core.mapHuge(table, 3 * N, HOST, READ, 1), huge.core.verify(0)]).toEqual([1, 0]);

      // A root, two pages on the way, and no page to promise.
      const poor = make({ tablePages: 3 });
      const home = poor.home();
      for (const zero of [0, 1]) refused(poor, home.table, 0, zero, L.STOP_TABLES);
      expect(poor.bare.header(L.H_PAGES_USED)).toBe(1);
      // A root and one page: the way itself is not to be had.
      const poorer = make({ tablePages: 2 });
      refused(poorer, poorer.home().table, 0, 0, L.STOP_TABLES);
      // What is promised already is enough for the page in place of the zeros.
      const enough = make({ tablePages: 4 });
      const there = enough.home();
      expect([enough.core.mapHuge(there.table, 0, HOST, READ, 1), enough.core.mapHuge(there.table, 0, HOST, RW, 0)]).toEqual([1, 1]);
      expect([enough.deposited, enough.core.splitHuge(there.table, 9), enough.core.verify(1)]).toEqual([1, 1, 0]);
    });

    test('that may reuse a huge page writes in place everywhere in it, and ends what a device was promised', () => {
      const huge = make();
      const { table, tlb } = huge.home(4);
      const frame = huge.fill(table, 0);
      huge.core.reprotect(table, 0, N, READ);
      for (const vpn of [0, 300, 511]) expect([huge.touch(tlb, vpn, false), huge.touch(tlb, vpn, true)]).toEqual([true, false]);
      huge.core.mapReuse(table, 300);
      expect([huge.ways(tlb).flat(), huge.touch(tlb, 0, true), huge.touch(tlb, 511, true)]).toEqual([[], true, true]);
      expect([huge.entry(table, 0).low, huge.orderAt(table, 0), huge.core.verify(1)]).toEqual([frame, 9, 0]);
      huge.core.mapFresh(table, N, HOST);
      expect([huge.core.cpuReadsSet(table, N), huge.entry(table, N).high & L.ENTRY_CPU_READS]).toEqual([1, L.ENTRY_CPU_READS]);
      huge.core.mapReuse(table, N);
      expect(huge.entry(table, N).high).toBe(OWN | L.ENTRY_WRITE);
      huge.end(table);
    });
  });

  describe('a split', () => {
    test('gives each page a frame, an entry in every space that maps it, its own holders and the head’s charge; bytes and rights stay', () => {
      const huge = make();
      const homes = [huge.home(4), huge.home(), huge.home()];
      const [a, b, c] = homes as [(typeof homes)[0], (typeof homes)[0], (typeof homes)[0]];
      const frame = huge.fill(a.table, N);
      huge.touch(a.tlb, N + 9, true);
      huge.shareHuge(a.table, b.table, N);
      huge.shareHuge(b.table, c.table, N);
      expect([huge.reserved, huge.deposited, huge.bare.header(L.H_CHAIN_USED)]).toEqual([3 * N, 3, 3]);
      huge.touch(a.tlb, N + 9, false);
      for (const [page, pins] of [[0, 1], [3, 2], [511, 1]] as const) for (let i = 0; i < pins; i++) huge.core.framePin(frame + page, 0); // prettier-ignore
      huge.core.framePin(frame + 3, 1);
      // A driver holds the frame too: that is a reference of its first page from now on.
      huge.core.frameGet(frame);
      huge.mark(frame, L.FRAME_DIRTY | L.FRAME_ACCESSED);
      const high = huge.entry(c.table, N).high;
      expect(huge.core.splitHuge(c.table, N + 77)).toBe(1);
      expect([huge.reserved, huge.deposited, huge.bare.header(L.H_CHAIN_USED)]).toEqual([0, 0, 3 * N]);
      for (let i = 0; i < N; i++) {
        const pins = i === 3 ? 3 : i === 0 || i === 511 ? 1 : 0;
        expect(huge.holders(frame + i)).toEqual({ refs: 3 + pins + (i ? 0 : 1), maps: 3, pins, state: L.STATE_USED });
        expect(huge.mappings(frame + i)).toEqual(homes.map(({ index }) => `${index}:${N + i}`));
        expect(huge.payer(frame + i)).toBe(a.index + 1);
        const marks = L.FRAME_ORDER | L.FRAME_LOCKED | L.FRAME_LISTED | L.FRAME_LONG_TERM | L.FRAME_DIRTY | L.FRAME_ACCESSED;
        expect(huge.flags(frame + i) & marks).toBe(L.FRAME_DIRTY | L.FRAME_ACCESSED | (i === 3 ? L.FRAME_LONG_TERM : 0));
        for (const { table } of homes) expect(huge.entry(table, N + i)).toMatchObject({ low: frame + i, kind: L.KIND_PRESENT });
      }
      expect(huge.entry(c.table, N + 4).high).toBe(high & ~L.ENTRY_ORDER);
      // No translation has changed.
      expect([huge.ways(a.tlb).flat(), huge.stamps(b.table, N), huge.field(a.table, L.TABLE_CHARGED)]).toEqual([[`${N + 9}`], STAMPS, N]);
      expect([huge.core.verify(0), huge.core.verify(1)]).toEqual([0, 3]);
      huge.core.framePut(frame);
      for (const page of [0, 3, 3, 3, 511]) expect(huge.core.frameUnpin(frame + page)).toBe(1);
      expect([huge.flags(frame + 3) & L.FRAME_LONG_TERM, huge.core.verify(1)]).toEqual([0, 0]);
      huge.end(a.table, b.table, c.table);
    });

    test('of the huge page of zeros is of one space only, and no translation changes by it', () => {
      const huge = make();
      const [a, b] = [huge.home(4), huge.home()];
      huge.core.mapHuge(a.table, 0, HOST, READ, 1);
      huge.shareHuge(a.table, b.table, 0);
      huge.touch(a.tlb, 5, false);
      expect([huge.core.splitHuge(a.table, 5), huge.orderAt(a.table, 0), huge.orderAt(b.table, 0), huge.deposited]).toEqual([1, 0, 9, 1]);
      for (const vpn of [0, 5, 511]) {
        expect(huge.entry(a.table, vpn)).toMatchObject({
          high: L.KIND_PRESENT | L.ENTRY_ZERO | L.ENTRY_ACCESSED,
          low: huge.zeroFrame + vpn,
        });
      }
      expect([huge.ways(a.tlb).flat(), huge.core.verify(1)]).toEqual([['5'], 0]);
      const fresh = huge.core.mapFresh(a.table, 5, HOST);
      expect([huge.entry(a.table, 5).low, huge.ways(a.tlb).flat(), huge.core.verify(1)]).toEqual([fresh, [], 0]);
      huge.end(a.table, b.table);
    });

    test('of what is small, or a hole, is done already', () => {
      const huge = make();
      const { table } = huge.home();
      huge.core.mapFresh(table, 5, HOST);
      const before = huge.state(table);
      for (const vpn of [0, 5, N, 2 ** 35]) expect(huge.core.splitHuge(table, vpn)).toBe(1);
      expect(huge.state(table)).toEqual(before);
      huge.end(table);
    });

    test('of a frame that a migration has waits for it, in every space; of a hugetlb-like mapping it is refused', () => {
      const huge = make();
      const [a, b] = [huge.home(), huge.home()];
      const frame = huge.fill(a.table, 0);
      huge.shareHuge(a.table, b.table, 0);
      huge.collect(b.table, 0, N, L.SELECT_SYSTEM | L.SELECT_COMPOUND);
      huge.core.mapHugetlb(a.table, N, HOST, 9, RW);
      const before = huge.state(a.table, b.table);
      for (const { table } of [a, b]) expect([huge.core.splitHuge(table, 5), huge.why]).toEqual([0, [L.STOP_LOCKED, frame]]);
      expect([huge.core.splitHuge(a.table, N + 5), huge.why]).toEqual([0, L.STOP_REFUSED]);
      expect(huge.state(a.table, b.table)).toEqual(before);
      huge.giveUp();
      expect([huge.core.splitHuge(a.table, 5), huge.orderAt(b.table, 5), huge.core.verify(1)]).toEqual([1, 0, 0]);
      huge.end(a.table, b.table);
    });

    test('finds its table page and its records, however many others want them', () => {
      const huge = make({ tablePages: 9, chains: 2 * N + 3 + 4 });
      const [a, b] = [huge.home(), huge.home()];
      const frame = huge.fill(a.table, 0);
      const small = huge.core.mapFresh(a.table, 2 ** 18 - 1, HOST);
      huge.shareHuge(a.table, b.table, 0);
      expect(huge.promises).toEqual([7, 2, 2, 2 * N]);
      // Two table pages are free, and both are promised.
      for (const vpn of [N, 2 ** 27]) {
        expect([huge.core.mapZero(a.table, vpn), huge.stop]).toEqual([0, L.STOP_TABLES]);
        expect([huge.core.mapHuge(a.table, vpn, HOST, RW, 0), huge.stop]).toEqual([0, L.STOP_TABLES]);
      }
      expect(huge.core.tableCreate(4, 0x9999, 0)).toBe(0);
      // Four records are free that are not: two of the chain of the small page, and two more.
      for (const [vpn, fits] of [[1, 1], [2, 1], [3, 1], [4, 0]] as const) expect(huge.core.rmapAddPage(small, 9, vpn)).toBe(fits); // prettier-ignore
      for (const vpn of [1, 2, 3]) huge.core.rmapRemovePage(small, 9, vpn);
      expect([huge.core.splitHuge(b.table, 9), huge.promises]).toEqual([1, [9, 0, 2 * N, 0]]);
      expect([huge.mappings(frame + 511), huge.core.verify(1)]).toEqual([[`${a.index}:511`, `${b.index}:511`], 0]);
      huge.core.zap(a.table, 2 ** 18 - 1, 1);
      huge.end(a.table, b.table);
    });

    test('of a listed frame lists each of its pages', () => {
      const huge = make();
      const { table } = huge.home();
      const frame = huge.huge(GPU, table, 0);
      const walked = (): number[] => {
        const list: number[] = [];
        for (let link = huge.node(GPU, L.NODE_OLDEST); link; link = huge.frame(link - 1, L.FRAME_NEXT)) list.push(link - 1);
        return list;
      };
      expect(walked()).toEqual([frame]);
      huge.core.splitHuge(table, 0);
      expect(walked()).toEqual(STAMPS.map((_, i) => frame + i));
      expect(huge.core.zap(table, 100, 300)).toBe(300);
      expect(walked()).toEqual(STAMPS.map((_, i) => frame + i).filter((_, i) => i < 100 || i >= 400));
      huge.end(table);
    });

    test('of a driver’s frame tells it of every page that is freed; whole, it is told of the first', () => {
      const huge = make();
      const { table } = huge.home();
      const frame = huge.huge(NPU, table, 0);
      expect(huge.core.zap(table, 0, N)).toBe(N);
      expect(huge.freed()).toEqual([frame]);
      expect(huge.huge(NPU, table, 0)).toBe(frame);
      expect(huge.core.zap(table, 509, 2 * N)).toBe(2 * N);
      expect(huge.freed()).toEqual([frame + 509, frame + 510, frame + 511]);
      huge.end(table);
    });
  });

  describe('pins', () => {
    test('of any page hold the whole frame, by a reference of its head; the page that is pinned is known', () => {
      const huge = make();
      const { table } = huge.home();
      const frame = huge.fill(table, 0);
      expect([huge.core.framePin(frame + 100, 1), huge.core.framePin(frame, 0)]).toEqual([1, 1]);
      expect([huge.holders(frame), huge.holders(frame + 100)]).toMatchObject([{ refs: 3, maps: 1, pins: 1 }, { maps: 0, pins: 1, state: L.STATE_TAIL }]); // prettier-ignore
      expect([frame, frame + 100].map((page) => huge.flags(page) & L.FRAME_LONG_TERM)).toEqual([0, L.FRAME_LONG_TERM]);
      expect([huge.core.frameUnpin(frame + 99), huge.core.verify(1)]).toEqual([0, 0]);
      expect(huge.core.zap(table, 0, N)).toBe(N);
      expect([huge.node(HOST, L.NODE_USED), huge.deposited, huge.core.verify(1)]).toEqual([N, 0, 0]);
      expect([huge.core.frameUnpin(frame), huge.core.frameUnpin(frame), huge.node(HOST, L.NODE_USED)]).toEqual([1, 0, N]);
      expect([huge.core.frameUnpin(frame + 100), huge.node(HOST, L.NODE_USED)]).toEqual([1, 0]);
      // Nothing of them is left on the frames that come next.
      for (const page of [frame, frame + 100]) {
        expect(huge.holders(page)).toMatchObject({ pins: 0 });
        expect(huge.flags(page) & L.FRAME_LONG_TERM).toBe(0);
      }
      huge.end(table);
    });

    test('of one page can be counted up to 4095, and the next one is refused', () => {
      const huge = make();
      const { table } = huge.home();
      const frame = huge.fill(table, 0);
      for (const page of [frame + 7, frame]) {
        for (let i = 0; i < L.PINS_MAX; i++) expect(huge.core.framePin(page, 0)).toBe(1);
        const before = huge.state(table);
        expect(huge.core.framePin(page, 1)).toBe(0);
        expect(huge.state(table)).toEqual(before);
      }
      expect([huge.holders(frame), huge.holders(frame + 7).pins]).toMatchObject([{ refs: 1 + 2 * 4095, maps: 1, pins: 4095 }, 4095]);
      huge.core.splitHuge(table, 0);
      expect([huge.holders(frame), huge.holders(frame + 7)]).toMatchObject([{ refs: 4096, maps: 1, pins: 4095 }, { refs: 4096, maps: 1, pins: 4095 }]); // prettier-ignore
      expect(huge.core.verify(1)).toBe(0);
      for (const page of [frame + 7, frame]) for (let i = 0; i < L.PINS_MAX; i++) huge.core.frameUnpin(page);
      huge.end(table);
    });
  });

  describe('reverse-map records', () => {
    test('are set aside by the second mapping of a huge frame, by each one after it, and given back as they go', () => {
      const huge = make();
      const homes = [huge.home(), huge.home(), huge.home()];
      huge.fill(homes[0]!.table, 0);
      expect(huge.reserved).toBe(0);
      for (const [at, reserved] of [
        [1, 2],
        [2, 3],
      ] as const) {
        huge.shareHuge(homes[0]!.table, homes[at]!.table, 0);
        expect([huge.reserved, huge.core.verify(1)]).toEqual([reserved * N, 0]);
      }
      for (const [at, reserved] of [
        [1, 2],
        [0, 0],
        [2, 0],
      ] as const) {
        huge.core.zap(homes[at]!.table, 0, N);
        expect([huge.reserved, huge.bare.header(L.H_CHAIN_USED), huge.core.verify(1)]).toEqual([reserved * N, reserved, 0]);
      }
      huge.end(...homes.map(({ table }) => table));
    });

    test('that cannot be set aside refuse the mapping, and nothing changes; small frames do not care about them', () => {
      for (const [chains, fits] of [
        [2 * N + 3, 1],
        [2 * N + 2, 0],
      ] as const) {
        const huge = make({ chains });
        const [a, b] = [huge.home(), huge.home()];
        const frame = huge.fill(a.table, 0);
        const before = huge.state(a.table, b.table);
        expect(huge.core.rmapAddPage(frame, b.index, 0)).toBe(fits);
        if (fits) {
          expect([huge.promises.slice(2), huge.core.rmapRemovePage(frame, b.index, 0)]).toEqual([[2, 2 * N], 1]);
          expect(huge.promises.slice(2)).toEqual([0, 0]);
        } else expect(huge.state(a.table, b.table)).toEqual(before);
        const small = huge.core.mapFresh(a.table, N, HOST);
        expect([huge.core.rmapAddPage(small, b.index, 9), huge.reserved]).toEqual([1, 0]);
        huge.core.rmapRemovePage(small, b.index, 9);
        huge.end(a.table, b.table);
      }
    });

    test('go over to the frame that has the bytes, and to no other, when a shared huge page moves', () => {
      const huge = make();
      const [a, b] = [huge.home(), huge.home()];
      const frame = huge.fill(a.table, 0);
      huge.shareHuge(a.table, b.table, 0);
      huge.collect(a.table, 0, N, L.SELECT_SYSTEM | L.SELECT_COMPOUND);
      const to = huge.core.frameTake(GPU, 9);
      huge.aimHuge(to);
      expect([huge.finish(a.table, 0, N), huge.reserved, huge.mappings(to).length]).toEqual([N, 2 * N, 2]);
      expect([huge.mappings(frame), huge.node(HOST, L.NODE_USED)]).toEqual([[], 0]);
      expect([huge.core.splitHuge(a.table, 0), huge.reserved, huge.entry(b.table, 9), huge.core.verify(1)]).toMatchObject([1, 0, { low: to + 9, kind: L.KIND_DEVICE_PRIVATE }, 0]); // prettier-ignore
      huge.end(a.table, b.table);
    });
  });

  describe('taking away', () => {
    test('a huge page as a whole takes its promises, charge and translations; a part of one splits it first', () => {
      const huge = make();
      const { table, tlb } = huge.home(4);
      const [whole, cut] = [huge.fill(table, 0), huge.fill(table, N)];
      for (const vpn of [1, 2, N + 3, N + 100]) huge.touch(tlb, vpn, true);
      expect(huge.core.zap(table, 0, N + 100)).toBe(N + 100);
      expect([huge.stop, huge.mappings(whole), huge.orderAt(table, N + 100)]).toEqual([L.STOP_NONE, [], 0]);
      expect([huge.ways(tlb).flat(), huge.deposited, huge.field(table, L.TABLE_CHARGED)]).toEqual([[`${N + 100}wd`], 0, 412]);
      expect([huge.entry(table, N + 99).kind, huge.entry(table, N + 100).low, huge.core.verify(1)]).toEqual([0, cut + 100, 0]);
      huge.end(table);
    });

    test('a middle of a huge page leaves both ends, in this space only', () => {
      const huge = make();
      const [a, b] = [huge.home(), huge.home()];
      const frame = huge.fill(a.table, 0);
      huge.shareHuge(a.table, b.table, 0);
      expect(huge.core.zap(a.table, 10, 2)).toBe(2);
      expect([8, 9, 10, 11, 12].map((vpn) => huge.entry(a.table, vpn).kind)).toEqual([1, 1, 0, 0, 1]);
      expect([huge.stamps(b.table, 0), huge.holders(frame + 10), huge.holders(frame + 9)]).toMatchObject([
        STAMPS,
        { refs: 1 },
        { refs: 2 },
      ]);
      expect(huge.core.verify(1)).toBe(0);
      huge.end(a.table, b.table);
    });

    test('a part of a huge page that a migration has stops there with its frame; the whole of it goes, and does not come back', () => {
      const huge = make();
      const { table } = huge.home();
      huge.core.mapFresh(table, N - 1, HOST);
      const frame = huge.fill(table, N);
      huge.collect(table, N, N, L.SELECT_SYSTEM | L.SELECT_COMPOUND);
      expect([huge.core.zap(table, N - 1, 5), huge.why, huge.entry(table, N - 1).kind]).toEqual([1, [L.STOP_LOCKED, frame], 0]);
      expect([huge.core.zap(table, N + 9, N), huge.why]).toEqual([0, [L.STOP_LOCKED, frame]]);
      expect([huge.orderAt(table, N), huge.core.verify(0)]).toEqual([9, 0]);
      expect([huge.core.zap(table, 0, 2 * N), huge.deposited, huge.holders(frame)]).toMatchObject([2 * N, 0, { refs: 1, maps: 0 }]);
      huge.giveUp();
      expect([huge.node(HOST, L.NODE_USED), huge.entry(table, N).kind]).toEqual([0, 0]);
      huge.end(table);
    });

    test('stops at a huge page when the list of freed frames is full', () => {
      const huge = make();
      const { table } = huge.home();
      const frame = huge.huge(NPU, table, 0);
      huge.setHeader(L.H_FREED, L.FREED_MAX);
      expect([huge.core.zap(table, 0, N), huge.stop, huge.orderAt(table, 0), huge.deposited]).toEqual([0, L.STOP_FULL, 9, 1]);
      expect([huge.core.zapLazy(table, 0, N), huge.stop]).toEqual([N, L.STOP_NONE]);
      huge.setHeader(L.H_FREED, 0);
      expect([huge.core.zap(table, 0, N), huge.freed()]).toEqual([N, [frame]]);
      huge.end(table);
    });

    test('lazily takes what nobody else knows of, and leaves the rest: devices’, shared, pinned, locked, zeros, pages of files', () => {
      const huge = make();
      const [a, b] = [huge.home(4), huge.home()];
      const kinds = (vpn: number): string => huge.kinds(a.table, vpn, 1);
      // Small pages, by what is with them.
      const small = [0, 1, 2, 3, 4].map((vpn) => huge.core.mapFresh(a.table, vpn, HOST));
      huge.core.mapZero(a.table, 5);
      huge.core.framePin(small[1]!, 0);
      huge.core.frameGet(small[2]!);
      huge.mark(small[3]!, L.FRAME_FILE);
      huge.on(CXL, a.table, 6);
      huge.on(GPU, a.table, 7);
      huge.touch(a.tlb, 4, true);
      expect([huge.core.zapLazy(a.table, 0, 8), huge.stop, huge.kinds(a.table, 0, 8)]).toEqual([8, L.STOP_NONE, '0 1w 1w 1w 0 1 0 2w']);
      expect(huge.ways(a.tlb).flat()).toEqual([]);
      huge.core.frameUnpin(small[1]!);
      huge.core.framePut(small[2]!);
      // Huge pages: on a device; shared; pinned at a page; whole.
      huge.huge(GPU, a.table, N);
      huge.fill(a.table, 2 * N);
      huge.shareHuge(a.table, b.table, 2 * N);
      const pinned = huge.fill(a.table, 3 * N);
      huge.core.framePin(pinned + 5, 0);
      const before = [1, 2, 3].map((i) => [kinds(i * N), huge.orderAt(a.table, i * N)]);
      // A border through them splits none of them.
      expect([huge.core.zapLazy(a.table, N + 9, 3 * N - 18), huge.stop]).toEqual([3 * N - 18, L.STOP_NONE]);
      expect([1, 2, 3].map((i) => [kinds(i * N), huge.orderAt(a.table, i * N)])).toEqual(before);
      huge.core.frameUnpin(pinned + 5);
      huge.fill(a.table, 4 * N);
      expect(huge.core.zapLazy(a.table, 3 * N, N + 9)).toBe(N + 9);
      expect([3 * N, 4 * N, 4 * N + 9].map((vpn) => [kinds(vpn), huge.orderAt(a.table, vpn)])).toEqual([['0', 0], ['0', 0], ['1w', 0]]); // prettier-ignore
      expect(huge.core.verify(1)).toBe(0);
      huge.end(a.table, b.table);
    });
  });

  describe('new rights', () => {
    test('of a huge page as a whole change one entry; of a part of it, the entries of that part', () => {
      const huge = make();
      const { table, tlb } = huge.home(4);
      huge.fill(table, 0);
      for (const vpn of [1, 400]) huge.touch(tlb, vpn, true);
      expect([huge.core.reprotect(table, 0, N, READ), huge.kinds(table, 400, 1), huge.orderAt(table, 400), huge.ways(tlb).flat()]).toEqual([1, '1', 9, []]); // prettier-ignore
      expect([huge.core.reprotect(table, 0, N, READ), huge.core.reprotect(table, 0, 2 ** 20, 0), huge.kinds(table, 0, 1)]).toEqual([
        0,
        1,
        '6',
      ]);
      expect([huge.touch(tlb, 9, false), huge.core.reprotect(table, 0, N, RW), huge.kinds(table, 511, 1)]).toEqual([false, 1, '1w']);
      expect([huge.deposited, huge.core.reprotect(table, 500, 600, READ), huge.kinds(table, 499, 3)]).toEqual([1, 12, '1w 1 1']);
      expect([huge.deposited, huge.orderAt(table, 0), huge.core.verify(1)]).toEqual([0, 0, 0]);
      huge.end(table);
    });

    test('of huge pages that are shared, zeros, a device’s or on their way follow the rules of small ones', () => {
      const huge = make();
      const [a, b] = [huge.home(), huge.home()];
      huge.fill(a.table, 0);
      huge.shareHuge(a.table, b.table, 0);
      huge.core.mapHuge(a.table, N, HOST, READ, 1);
      huge.huge(GPU, a.table, 2 * N);
      huge.fill(a.table, 3 * N);
      huge.collect(a.table, 3 * N, N, L.SELECT_SYSTEM | L.SELECT_COMPOUND);
      const now = (): string[] =>
        [0, 1, 2, 3].map((i) => huge.kinds(a.table, i * N + 9, 1) + (huge.entry(a.table, i * N).high & L.ENTRY_NO_ACCESS ? '!' : ''));
      expect(now()).toEqual(['1', '1', '2w', '4w']);
      expect([huge.core.reprotect(a.table, 0, 4 * N, RW), now()]).toEqual([0, ['1', '1', '2w', '4w']]);
      expect([huge.core.reprotect(a.table, 0, 4 * N, 0), now()]).toEqual([4, ['6', '6', '2!', '4!']]);
      expect([huge.core.reprotect(a.table, 0, 4 * N, RW), now()]).toEqual([4, ['1', '1', '2', '4']]);
      expect(huge.entry(a.table, 3 * N).high & L.ENTRY_ANON_EXCLUSIVE).toBe(L.ENTRY_ANON_EXCLUSIVE);
      huge.core.reprotect(a.table, 3 * N, N, 0);
      huge.giveUp();
      expect([now(), huge.orderAt(a.table, 3 * N), huge.core.verify(1)]).toEqual([['1', '1', '2', '6'], 9, 0]);
      huge.end(a.table, b.table);
    });

    test('of a part of a huge page that a migration has wait for its frame, what lies before it being done', () => {
      const huge = make();
      const { table } = huge.home();
      huge.core.mapFresh(table, N - 1, HOST);
      const frame = huge.fill(table, N);
      huge.core.frameTryLock(frame);
      expect([huge.core.reprotect(table, 0, N + 1, READ), huge.why, huge.kinds(table, N - 1, 2)]).toEqual([
        -1,
        [L.STOP_LOCKED, frame],
        '1 1w',
      ]);
      huge.core.frameUnlock(frame);
      expect([huge.core.reprotect(table, 0, N + 1, READ), huge.kinds(table, N - 1, 3), huge.core.verify(1)]).toEqual([1, '1 1 1w', 0]);
      huge.end(table);
    });
  });

  describe('hugetlb-like mappings', () => {
    test('of 2 MiB are never split, promise nothing, and go as a whole', () => {
      const huge = make();
      const [a, b] = [huge.home(4), huge.home()];
      expect([huge.core.mapHugetlb(a.table, N, HOST, 9, RW), huge.stop, huge.deposited]).toEqual([1, L.STOP_NONE, 0]);
      const frame = huge.entry(a.table, N).low;
      for (let i = 0; i < N; i++) huge.stamp(frame + i, i + 1);
      expect([huge.flags(frame) & L.FRAME_HUGETLB, huge.entry(a.table, N).high & ~L.ENTRY_ORDER]).toEqual([
        L.FRAME_HUGETLB,
        OWN | L.ENTRY_WRITE,
      ]);
      huge.touch(a.tlb, N + 9, true);
      huge.shareHuge(a.table, b.table, N);
      expect([huge.reserved, huge.deposited, huge.core.verify(1)]).toEqual([0, 0, 0]);
      for (const [at, pages] of [
        [N, 5],
        [N + 5, N - 5],
      ] as const) {
        expect([huge.core.zap(a.table, at, pages), huge.why]).toEqual([0, L.STOP_REFUSED]);
        expect([huge.core.reprotect(a.table, at, pages, 0), huge.why]).toEqual([-1, L.STOP_REFUSED]);
      }
      // A write copies it, in this space only.
      huge.touch(a.tlb, N + 9, false);
      expect([huge.core.mapHugetlb(a.table, N, HOST, 9, RW), huge.ways(a.tlb).flat()]).toEqual([1, []]);
      const copy = huge.entry(a.table, N).low;
      expect([copy === frame, huge.entry(b.table, N).low, huge.stamps(a.table, N)]).toEqual([false, frame, STAMPS]);
      expect([huge.flags(copy) & L.FRAME_HUGETLB, huge.kinds(a.table, N, 1), huge.kinds(b.table, N, 1)]).toEqual([
        L.FRAME_HUGETLB,
        '1w',
        '1',
      ]);
      expect([huge.payer(copy), huge.field(a.table, L.TABLE_CHARGED), huge.holders(frame), huge.core.verify(1)]).toMatchObject([a.index + 1, 2 * N, { refs: 1, maps: 1 }, 0]); // prettier-ignore
      huge.end(a.table, b.table);
    });

    test('that cannot come, for want of a frame or a table page, change nothing, the shared one that is there included', () => {
      const huge = make({ nodes: [{ kind: L.NODE_IS_HOST, frames: N + 9 }, ...ROOM.nodes!.slice(1)] });
      const [a, b] = [huge.home(), huge.home()];
      expect(huge.core.mapHugetlb(a.table, 0, HOST, 9, RW)).toBe(1);
      huge.shareHuge(a.table, b.table, 0);
      const before = huge.state(a.table, b.table);
      for (const vpn of [0, N, 2 ** 30]) expect([huge.core.mapHugetlb(b.table, vpn, HOST, 9, RW), huge.stop]).toEqual([0, L.STOP_FRAMES]);
      expect(huge.state(a.table, b.table)).toEqual(before);
      const poor = make({ tablePages: 2 });
      const { table } = poor.home();
      expect([poor.core.mapHugetlb(table, 0, HOST, 9, RW), poor.stop, poor.promises[0]]).toEqual([0, L.STOP_TABLES, 1]);
      huge.end(a.table, b.table);
    });

    test('of 1 GiB are one entry two levels up, come and go as a whole, and are copied on a write when they are shared', () => {
      const huge = make({ nodes: [{ kind: L.NODE_IS_HOST, frames: 2 * GIANT, backed: false }] });
      const [a, b] = [huge.home(4), huge.home()];
      expect(huge.core.mapHugetlb(a.table, GIANT, HOST, 18, RW)).toBe(1);
      const frame = huge.entry(a.table, GIANT).low;
      expect([huge.orderAt(a.table, 2 * GIANT - 1), huge.entry(a.table, 2 * GIANT - 1).low]).toEqual([18, frame + GIANT - 1]);
      expect([huge.field(a.table, L.TABLE_PAGES), huge.field(a.table, L.TABLE_CHARGED), huge.promises]).toEqual([
        GIANT,
        GIANT,
        [3, 0, 0, 0],
      ]);
      huge.shareHuge(a.table, b.table, GIANT, GIANT);
      expect([huge.core.splitHuge(b.table, GIANT + 5), huge.stop, huge.reserved, huge.core.verify(1)]).toEqual([0, L.STOP_REFUSED, 0, 0]);
      expect([huge.core.mapHugetlb(b.table, GIANT, HOST, 18, RW), huge.core.verify(1)]).toEqual([1, 0]);
      expect([huge.entry(b.table, GIANT).low === frame, huge.kinds(b.table, GIANT, 1), huge.kinds(a.table, GIANT, 1)]).toEqual([
        false,
        '1w',
        '1',
      ]);
      expect([huge.core.mapHugetlb(a.table, 0, HOST, 18, RW), huge.stop]).toEqual([0, L.STOP_FRAMES]);
      expect([huge.core.zap(a.table, 0, 4 * GIANT), huge.core.zap(b.table, 0, 4 * GIANT)]).toEqual([4 * GIANT, 4 * GIANT]);
      expect([huge.node(HOST, L.NODE_USED), huge.promises, huge.core.verify(1)]).toEqual([0, [2, 0, 0, 0], 0]);
    });

    test('of which nobody else holds the page get the right to write back in place', () => {
      const huge = make();
      const { table, tlb } = huge.home(4);
      huge.core.mapHugetlb(table, 0, HOST, 9, READ);
      const frame = huge.entry(table, 0).low;
      expect([huge.touch(tlb, 5, false), huge.touch(tlb, 5, true)]).toEqual([true, false]);
      expect([huge.core.mapHugetlb(table, 0, HOST, 9, RW), huge.entry(table, 0).low, huge.touch(tlb, 5, true)]).toEqual([1, frame, true]);
      expect(huge.core.verify(1)).toBe(0);
      huge.end(table);
    });
  });

  describe('a collapse', () => {
    /** Small pages with some holes and zeros among them. */
    const scatter = (huge: Huge, table: number, vpn: number): number[] =>
      STAMPS.map((stamp, i) => {
        if (i % 7 === 3) return 0;
        if (i % 7 !== 5) huge.fresh(table, vpn + i, stamp);
        else huge.core.mapZero(table, vpn + i);
        return i % 7 === 5 ? 0 : stamp;
      });

    test('copies what is there to one huge frame, zeros where nothing is, and gives up the small ones', () => {
      const huge = make();
      const { table, tlb, index } = huge.home(4);
      const bytes = scatter(huge, table, N);
      huge.touch(tlb, N + 1, true);
      huge.touch(tlb, N + 5, false);
      expect(huge.core.collapseHuge(table, N + 200, HOST, RW)).toBe(1);
      const frame = huge.entry(table, N).low;
      expect([huge.stop, huge.orderAt(table, N + 511), huge.stamps(table, N), huge.ways(tlb).flat()]).toEqual([L.STOP_NONE, 9, bytes, []]);
      expect(huge.entry(table, N).high & ~L.ENTRY_ORDER).toBe(OWN | L.ENTRY_WRITE | L.ENTRY_DIRTY);
      expect([huge.holders(frame), huge.mappings(frame), huge.node(HOST, L.NODE_USED)]).toMatchObject([{ refs: 1, maps: 1 }, [`${index}:${N}`], N]); // prettier-ignore
      expect([huge.field(table, L.TABLE_PAGES), huge.field(table, L.TABLE_CHARGED), huge.promises]).toEqual([N, N, [3, 1, 0, 0]]);
      expect([huge.core.verify(1), huge.core.collapseHuge(table, N, HOST, RW), huge.entry(table, N).low]).toEqual([0, 1, frame]);
      expect([huge.core.splitHuge(table, N), huge.stamps(table, N)]).toEqual([1, bytes]);
      expect([huge.core.collapseHuge(table, N, HOST, READ), huge.kinds(table, N, 1), huge.core.verify(1)]).toEqual([1, '1', 0]);
      huge.end(table);
    });

    test('of a hole brings a huge page of zeros of its own; the last table page is enough to make one of small ones', () => {
      const huge = make({ tablePages: 4 });
      const { table } = huge.home();
      expect([huge.core.collapseHuge(table, 5, HOST, RW), huge.orderAt(table, 0), huge.kinds(table, 0, 1)]).toEqual([1, 9, '1w']);
      expect([huge.core.collapseHuge(table, N, HOST, RW), huge.stop]).toEqual([0, L.STOP_TABLES]);
      expect([huge.core.splitHuge(table, 0), huge.promises, huge.core.collapseHuge(table, 0, HOST, RW)]).toEqual([1, [4, 0, 0, 0], 1]);
      expect([huge.promises, huge.core.verify(1)]).toEqual([[3, 1, 0, 0], 0]);
      huge.end(table);
    });

    test('of memory without rights is without them; zeros that may not be read are zeros', () => {
      const huge = make();
      const { table, tlb } = huge.home(4);
      const bytes = scatter(huge, table, 0);
      huge.core.reprotect(table, 0, N, 0);
      for (const vpn of [0, N]) {
        expect([huge.core.collapseHuge(table, vpn, HOST, 0), huge.kinds(table, vpn, 1), huge.orderAt(table, vpn)]).toEqual([1, '6', 9]);
        expect([huge.touch(tlb, vpn + 9, false), huge.core.reprotect(table, vpn, N, RW), huge.touch(tlb, vpn + 9, true)]).toEqual([
          false,
          1,
          true,
        ]);
      }
      expect([huge.stamps(table, 0), huge.core.verify(1)]).toEqual([bytes, 0]);
      huge.end(table);
    });

    test('is refused, and nothing changes, where one page is shared, pinned, held, of a file, a device’s, exclusive or special', () => {
      const spoil: Record<string, (huge: Huge, table: number, other: number, frame: number) => void> = {
        shared: (huge, table, other) => huge.core.forkRange(table, other, 300, 1, HOST, 0),
        pinned: (huge, _table, _other, frame) => huge.core.framePin(frame, 0),
        held: (huge, _table, _other, frame) => huge.core.frameGet(frame),
        'of a file': (huge, _table, _other, frame) => huge.mark(frame, L.FRAME_FILE),
        exclusive: (huge, table) => huge.core.exclusiveSet(table, 300),
        private: (huge, table) => huge.on(GPU, table, 300),
        coherent: (huge, table) => huge.on(CXL, table, 300),
        special: (huge, table) => huge.core.mapSpecial(table, 300, 77, L.ENTRY_WRITE),
        poisoned: (huge, table) => huge.core.rangeMap(table, 300, 1, 0, L.KIND_POISON),
      };
      for (const [name, how] of Object.entries(spoil)) {
        const huge = make();
        const [a, b] = [huge.home(), huge.home()];
        huge.fresh(a.table, 0, 1);
        const there = name === 'private' || name === 'coherent' || name === 'special';
        how(huge, a.table, b.table, there ? 0 : huge.fresh(a.table, 300, 2));
        const before = huge.state(a.table, b.table);
        expect([name, huge.core.collapseHuge(a.table, 0, HOST, RW), huge.stop]).toEqual([name, 0, L.STOP_REFUSED]);
        expect(huge.state(a.table, b.table)).toEqual(before);
      }
    });

    test('waits for a page that a migration has or that is locked, and needs a free huge frame', () => {
      const huge = make({ nodes: [{ kind: L.NODE_IS_HOST, frames: 2 * N }, ...ROOM.nodes!.slice(1)] });
      const { table } = huge.home();
      const [moving, locked] = [huge.fresh(table, 5), huge.fresh(table, 9)];
      huge.core.frameTryLock(locked);
      huge.collect(table, 5, 1);
      const before = huge.state(table);
      expect([huge.core.collapseHuge(table, 0, HOST, RW), huge.why]).toEqual([0, [L.STOP_LOCKED, moving]]);
      expect(huge.state(table)).toEqual(before);
      huge.core.migrateFinalize(1, huge.source, huge.target);
      expect([huge.core.collapseHuge(table, 0, HOST, RW), huge.why]).toEqual([0, [L.STOP_LOCKED, locked]]);
      huge.core.frameUnlock(locked);
      const other = huge.core.frameTake(HOST, 9);
      expect([huge.core.collapseHuge(table, 0, HOST, RW), huge.why]).toEqual([0, L.STOP_FRAMES]);
      huge.core.framePut(other);
      expect([huge.core.collapseHuge(table, 0, HOST, RW), huge.core.verify(1)]).toEqual([1, 0]);
      huge.end(table);
    });
  });
});

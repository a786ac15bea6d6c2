import { describe, expect, test } from 'vitest';
import * as L from '../../assembly/layout.ts';
import { type Flavour, flavours } from './harness.ts';
import { ALL, CXL, GPU, GPU_OWNER, HOST, MOVE, Mover, MOVES, WRITES } from './mover.ts';
import { type SmallRoom } from './small-core.ts';

const N = 512;
const RW = L.RIGHT_READ | L.RIGHT_WRITE;
const COMPOUND = L.MIGRATE_COMPOUND;
const HUGE = ALL | L.SELECT_COMPOUND;
const ROOM: Partial<SmallRoom> = {
  nodes: [
    { kind: L.NODE_IS_HOST, frames: 4 * N },
    { kind: L.NODE_IS_PRIVATE, frames: 3 * N, owner: GPU_OWNER },
    { kind: L.NODE_IS_PRIVATE, frames: N, owner: 2, backed: false },
    { kind: L.NODE_IS_COHERENT, frames: N, owner: 3 },
  ],
  chains: 4096,
  zeroFrames: N,
};

/** A mover whose nodes have huge frames. */
class HugeMover extends Mover {
  constructor(flavour: Flavour, room: Partial<SmallRoom> = {}) {
    super(flavour, { ...ROOM, ...room });
  }

  /** Maps a huge page whose pages are stamped 1 to 512; returns its first frame. */
  huge(table: number, vpn: number): number {
    expect(this.core.mapHuge(table, vpn, HOST, RW, 0)).toBe(1);
    const frame = this.entry(table, vpn).low;
    for (let i = 0; i < N; i++) this.stamp(frame + i, i + 1);
    return frame;
  }

  hugeTake(node: number): number {
    const frame = this.core.frameTake(node, 9);
    expect(frame).toBeGreaterThanOrEqual(0);
    return frame;
  }

  /** Target words of `pages` pages: those given by index; [frame, COMPOUND] for a huge one. */
  pick(pages: number, targets: Readonly<Record<number, number | readonly [number, number]>>): void {
    for (let i = 0; i < pages; i++) {
      const one = targets[i];
      const [frame, bits] = typeof one === 'number' ? [one, 0] : (one ?? [0, 0]);
      this.setField(this.target, i * 8, frame);
      this.setField(this.target, i * 8 + 4, one === undefined ? 0 : L.MIGRATE_VALID | bits);
    }
  }

  /** Words that are not 0, by index. */
  found(pages: number): Record<number, [number, number]> {
    return Object.fromEntries([...this.words(this.source, pages).entries()].filter(([, [low, high]]) => low !== 0 || high !== 0));
  }

  stamps(table: number, vpn: number, n = N): number[] {
    return Array.from({ length: n }, (_, i) => this.stampOf(this.entry(table, vpn + i).low));
  }

  orderAt(table: number, vpn: number): number {
    return (this.entry(table, vpn).high & L.ENTRY_ORDER) >>> L.ENTRY_ORDER_SHIFT;
  }

  /** Zaps a table and looks for what is left. */
  end(...tables: number[]): void {
    for (const table of tables) expect(this.core.zap(table, 0, 8 * N)).toBe(8 * N);
    const used = [HOST, GPU, CXL].map((node) => this.node(node, L.NODE_USED));
    expect(used).toEqual([0, 0, 0]);
    expect(tables.map((table) => this.field(table, L.TABLE_CHARGED))).toEqual(tables.map(() => 0));
    expect([L.H_CHAIN_USED, L.H_CHAIN_RESERVED, L.H_PAGES_DEPOSITED].map((field) => this.bare.header(field))).toEqual([0, 0, 0]);
    expect([this.bare.header(L.H_PAGES_USED), this.core.verify(1)]).toEqual([tables.length, 0]);
  }
}

const STAMPS = Array.from({ length: N }, (_, i) => i + 1);

describe.each(flavours)('%s', (flavour) => {
  const make = (room: Partial<SmallRoom> = {}): HugeMover => new HugeMover(flavour, room);

  test('a huge page moves to a device and home again as one word, with bytes, rights, charge and TLB', () => {
    const mover = make();
    const { table, tlb, index } = mover.home(4);
    const frame = mover.huge(table, N);
    mover.touch(tlb, N + 3, true);
    expect(mover.collect(table, 0, 3 * N, HUGE)[N]).toEqual([frame, WRITES | COMPOUND]);
    expect(mover.found(3 * N)).toEqual({ 0: [0, MOVE | COMPOUND], [N]: [frame, WRITES | COMPOUND], [2 * N]: [0, MOVE | COMPOUND] });
    expect([mover.ways(tlb).flat(), mover.kinds(table, N, 2), mover.orderAt(table, N), mover.core.verify(0)]).toEqual([[], '4w 4w', 9, 0]);
    const there = mover.hugeTake(GPU);
    mover.pick(3 * N, { [N]: [there, COMPOUND] });
    expect(mover.finish(table, 0, 3 * N)).toBe(N);
    expect([mover.entry(table, N).low, mover.kinds(table, N + 511, 1), mover.orderAt(table, N)]).toEqual([there, '2w', 9]);
    expect([mover.stamps(table, N), mover.payer(there), mover.field(table, L.TABLE_CHARGED)]).toEqual([STAMPS, index + 1, N]);
    expect([mover.mappings(there), mover.holders(there), mover.node(HOST, L.NODE_USED), mover.core.verify(1)]).toMatchObject([
      [`${index}:${N}`],
      { refs: 1, maps: 1 },
      0,
      0,
    ]);
    const victims = (): number[] => mover.list(mover.spare, mover.core.victims(GPU, mover.spare, 9, 0, 0, 0));
    expect(victims()).toEqual([there]);
    mover.core.framePin(there + 8, 0);
    expect(victims()).toEqual([]);
    mover.core.frameUnpin(there + 8);
    expect(mover.list(mover.spare, mover.core.usedFrames(GPU, 0, mover.spare, 9))).toEqual([there]);

    expect(mover.collect(table, N, N, L.SELECT_PRIVATE | L.SELECT_COMPOUND)[0]).toEqual([there, WRITES | COMPOUND]);
    const home = mover.hugeTake(HOST);
    mover.pick(N, { 0: [home, COMPOUND] });
    expect([mover.finish(table, N, N), mover.kinds(table, N, 1), mover.stamps(table, N)]).toEqual([N, '1w', STAMPS]);
    mover.end(table);
  });

  test('without COMPOUND, or where the range cuts it, a huge page is split and its pages are collected one by one', () => {
    for (const [vpn, pages, select] of [
      [0, N, ALL],
      [1, N, HUGE],
      [0, N - 1, HUGE],
    ] as const) {
      const mover = make();
      const { table } = mover.home();
      const frame = mover.huge(table, 0);
      const words = mover.collect(table, vpn, pages, select);
      const inside = Math.min(pages, N - vpn);
      expect(words.slice(0, inside)).toEqual(Array.from({ length: inside }, (_, i) => [frame + vpn + i, WRITES]));
      expect([mover.orderAt(table, 0), mover.core.verify(0)]).toEqual([0, 0]);
      const to = mover.take(GPU);
      mover.pick(pages, { 0: to });
      expect([mover.finish(table, vpn, pages), mover.kinds(table, vpn, 2), mover.stampOf(to)]).toEqual([1, '2w 1w', vpn + 1]);
      mover.end(table);
    }
  });

  test('a huge page that is not meant, is locked, or is held by somebody is passed over as a whole', () => {
    const mover = make();
    const { table } = mover.home();
    const frame = mover.huge(table, 0);
    mover.collect(table, 0, N, L.SELECT_PRIVATE | L.SELECT_COMPOUND);
    expect([mover.found(N), mover.orderAt(table, 0)]).toEqual([{}, 9]);
    mover.collect(table, 0, N, L.SELECT_PRIVATE);
    expect([mover.found(N), mover.orderAt(table, 0)]).toEqual([{}, 9]);
    mover.core.framePin(frame + 7, 0);
    mover.collect(table, 0, N, HUGE);
    expect([mover.found(N), mover.collectFrames([frame]), mover.kinds(table, 0, 1)]).toEqual([{}, [[0, 0]], '1w']);
    mover.core.frameUnpin(frame + 7);
    mover.core.frameTryLock(frame);
    mover.collect(table, 0, N, HUGE);
    expect([mover.found(N), mover.orderAt(table, 0)]).toEqual([{}, 9]);
    // It cannot be split now either: none of its pages is collected.
    mover.collect(table, 1, 2, ALL);
    expect([mover.found(2), mover.orderAt(table, 0)]).toEqual([{}, 9]);
    mover.core.frameUnlock(frame);
    mover.end(table);
  });

  test('only the pages that are wanted are looked at; a huge page is split for one of them, not for none', () => {
    const mover = make();
    const { table } = mover.home();
    const frame = mover.huge(table, 0);
    mover.pick(N, {});
    mover.collect(table, 0, N, HUGE, GPU_OWNER, L.FRAME_NONE, mover.target);
    expect([mover.found(N), mover.orderAt(table, 0)]).toEqual([{}, 9]);
    mover.pick(N, { 0: [1, COMPOUND] });
    mover.collect(table, 0, N, HUGE, GPU_OWNER, L.FRAME_NONE, mover.target);
    expect(mover.found(N)).toEqual({ 0: [frame, WRITES | COMPOUND] });
    mover.pick(N, {});
    expect([mover.finish(table, 0, N), mover.kinds(table, 0, 1), mover.orderAt(table, 0), mover.core.verify(1)]).toEqual([0, '1w', 9, 0]);
    mover.pick(N, { 5: 1 });
    mover.collect(table, 0, N, HUGE, GPU_OWNER, L.FRAME_NONE, mover.target);
    expect([mover.found(N), mover.orderAt(table, 0)]).toEqual([{ 5: [frame + 5, WRITES] }, 0]);
    mover.pick(N, {});
    mover.finish(table, 0, N);
    mover.end(table);
  });

  test('a huge hole and the huge page of zeros migrate as "clear the target", writable iff the area is', () => {
    for (const writable of [0, 1]) {
      const mover = make();
      const [{ table }, other] = [mover.home(), mover.home()];
      mover.core.mapHuge(table, N, HOST, RW, 1);
      mover.core.mapHuge(other.table, 0, HOST, RW, 1);
      mover.collect(table, 0, 2 * N, HUGE);
      expect(mover.found(2 * N)).toEqual({ 0: [0, MOVE | COMPOUND], [N]: [0, MOVE | COMPOUND] });
      const targets = [mover.hugeTake(GPU), mover.hugeTake(GPU)];
      for (const frame of targets) mover.stamp(frame + 100, 9);
      mover.pick(2 * N, { 0: [targets[0]!, COMPOUND], [N]: [targets[1]!, COMPOUND] });
      expect([mover.core.migrateCopy(mover.source, mover.target, 2 * N), mover.bare.header(L.H_MOVED)]).toEqual([0, 2 * N]);
      expect(mover.commit(table, 0, 2 * N, writable)).toBe(2);
      expect(mover.core.verify(0)).toBe(0);
      expect(mover.core.migrateFinalize(2 * N, mover.source, mover.target)).toBe(2 * N);
      const kind = writable ? '2w' : '2';
      expect([mover.kinds(table, 0, 1), mover.kinds(table, N, 1), mover.orderAt(table, 0)]).toEqual([kind, kind, 9]);
      expect([mover.stampOf(targets[0]! + 100), mover.field(table, L.TABLE_CHARGED), mover.core.verify(1)]).toEqual([0, 2 * N, 0]);
      mover.end(table, other.table);
    }
  });

  test('the huge page of zeros comes with SYSTEM only, and page by page where the range cuts it', () => {
    const mover = make();
    const { table } = mover.home();
    mover.core.mapHuge(table, 0, HOST, RW, 1);
    mover.collect(table, 0, N, L.SELECT_PRIVATE | L.SELECT_COMPOUND);
    expect([mover.found(N), mover.orderAt(table, 0)]).toEqual([{}, 9]);
    mover.collect(table, 3, 2, HUGE);
    expect([mover.found(2), mover.orderAt(table, 0)]).toEqual([{ 0: [0, MOVE], 1: [0, MOVE] }, 0]);
    const to = mover.take(GPU);
    mover.pick(2, { 1: to });
    expect([mover.finish(table, 3, 2), mover.kinds(table, 3, 3)]).toEqual([1, '1 2w 1']);
    mover.end(table);
  });

  test('a huge hole in which a page has come meanwhile refuses, as does one for which no table page can be promised', () => {
    const mover = make();
    const { table } = mover.home();
    mover.collect(table, 0, N, HUGE);
    const frame = mover.fresh(table, 77, 1);
    mover.pick(N, { 0: [mover.hugeTake(GPU), COMPOUND] });
    expect([mover.finish(table, 0, N), mover.entry(table, 77).low, mover.kinds(table, 0, 1)]).toEqual([0, frame, '0']);
    mover.end(table);

    // Root, two levels for the block, and none to promise.
    const poor = make({ tablePages: 3 });
    const home = poor.home();
    poor.collect(home.table, 0, N, HUGE);
    poor.pick(N, { 0: [poor.hugeTake(GPU), COMPOUND] });
    expect([poor.commit(home.table, 0, N), poor.stop, poor.bare.header(L.H_PAGES_USED)]).toEqual([0, L.STOP_TABLES, 1]);
    expect(poor.core.migrateFinalize(N, poor.source, poor.target)).toBe(0);
    poor.end(home.table);
  });

  describe('split between the choice of targets and the copy', () => {
    test('gives every page of a huge page its own word; those without a target stay, as small pages', () => {
      const mover = make();
      const [parent, child] = [mover.home(), mover.home()];
      const frame = mover.huge(parent.table, 0);
      expect(mover.core.forkRange(parent.table, child.table, 0, N, HOST, 0)).toBe(N);
      mover.collect(parent.table, 0, N, HUGE);
      expect(mover.found(N)).toEqual({ 0: [frame, MOVES | COMPOUND] });
      const targets = { 1: mover.take(GPU), 2: mover.take(GPU), 511: mover.take(GPU) };
      mover.pick(N, targets);
      mover.core.migrateSplit(mover.source, mover.target, N);
      const words = mover.words(mover.source, N);
      expect(words).toEqual(words.map((_, i) => [frame + i, i in targets ? MOVES : L.MIGRATE_VALID]));
      expect(mover.core.verify(0)).toBe(0);
      expect(mover.finish(parent.table, 0, N)).toBe(3);
      for (const { table } of [parent, child]) {
        const kinds = mover.kinds(table, 0, N).split(' ');
        expect(kinds).toEqual(kinds.map((_, i) => (i in targets ? '2' : '1')));
        expect(mover.stamps(table, 0)).toEqual(STAMPS);
      }
      expect([mover.field(parent.table, L.TABLE_CHARGED), mover.core.verify(1)]).toEqual([N, 0]);
      mover.end(parent.table, child.table);
    });

    test('gives every page of a huge hole a word of its own, the huge page of zeros included', () => {
      const mover = make();
      const { table } = mover.home();
      mover.core.mapHuge(table, N, HOST, RW, 1);
      mover.collect(table, 0, 2 * N, HUGE);
      const [a, b] = [mover.take(GPU), mover.take(GPU)];
      mover.pick(2 * N, { 3: a, [N + 4]: b });
      mover.core.migrateSplit(mover.source, mover.target, 2 * N);
      expect([mover.found(2 * N)[3], mover.found(2 * N)[N + 4], mover.found(2 * N)[5]?.[0] ?? 0]).toEqual([[0, MOVE], [0, MOVE], 0]); // prettier-ignore
      expect([mover.finish(table, 0, 2 * N), mover.kinds(table, 2, 3), mover.kinds(table, N + 3, 3)]).toEqual([2, '0 2w 0', '1 2w 1']);
      mover.end(table);
    });

    test('looks at no word behind the last one', () => {
      const mover = make();
      const { table } = mover.home();
      mover.collect(table, 0, N, HUGE);
      mover.pick(N, {});
      // What an earlier, longer migration has left there.
      mover.setField(mover.source, N * 8, 0);
      mover.setField(mover.source, N * 8 + 4, MOVE | COMPOUND);
      mover.setField(mover.target, (N + 1) * 8 + 4, L.MIGRATE_VALID);
      mover.core.migrateSplit(mover.source, mover.target, N);
      expect(mover.words(mover.source + N * 8, 2)).toEqual([
        [0, MOVE | COMPOUND],
        [0, 0],
      ]);
      expect(mover.finish(table, 0, N)).toBe(0);
      mover.end(table);
    });

    test('leaves what has a huge target, or none at all, as it is', () => {
      const mover = make();
      const { table } = mover.home();
      const [a, b] = [mover.huge(table, 0), mover.huge(table, N)];
      mover.collect(table, 0, 2 * N, HUGE);
      const to = mover.hugeTake(GPU);
      mover.pick(2 * N, { 0: [to, COMPOUND] });
      mover.core.migrateSplit(mover.source, mover.target, 2 * N);
      expect(mover.found(2 * N)).toEqual({ 0: [a, WRITES | COMPOUND], [N]: [b, WRITES | COMPOUND] });
      expect([mover.finish(table, 0, 2 * N), mover.kinds(table, 0, 1), mover.kinds(table, N, 1), mover.orderAt(table, N)]).toEqual([
        N,
        '2w',
        '1w',
        9,
      ]);
      mover.end(table);
    });

    test('the faulting page of a huge page is its first, and its reference is allowed for before and after', () => {
      const mover = make();
      const { table } = mover.home();
      mover.huge(table, 0);
      mover.collect(table, 0, N, HUGE);
      const there = mover.hugeTake(GPU);
      mover.pick(N, { 0: [there, COMPOUND] });
      mover.finish(table, 0, N);
      mover.core.frameGet(there);
      mover.collect(table, 0, N, HUGE);
      expect(mover.found(N)).toEqual({});
      mover.collect(table, 0, N, HUGE, GPU_OWNER, there);
      expect(mover.found(N)).toEqual({ 0: [there, WRITES | COMPOUND] });
      const targets = Object.fromEntries(Array.from({ length: N }, (_, i) => [i, mover.take(HOST)]));
      mover.pick(N, targets);
      mover.core.migrateSplit(mover.source, mover.target, N);
      expect([mover.finish(table, 0, N, 1, there), mover.stamps(table, 0)]).toEqual([N, STAMPS]);
      expect(mover.holders(there)).toMatchObject({ refs: 1, maps: 0 });
      mover.core.framePut(there);
      mover.end(table);
    });
  });

  test('a pin that comes late on any page refuses the whole, or, split, that page', () => {
    const mover = make();
    const { table } = mover.home();
    const frame = mover.huge(table, 0);
    mover.collect(table, 0, N, HUGE);
    mover.core.framePin(frame + 9, 0);
    mover.pick(N, { 0: [mover.hugeTake(GPU), COMPOUND] });
    expect([mover.finish(table, 0, N), mover.kinds(table, 0, 1), mover.orderAt(table, 0), mover.node(GPU, L.NODE_USED)]).toEqual([
      0,
      '1w',
      9,
      0,
    ]);
    mover.core.frameUnpin(frame + 9);
    expect(mover.core.verify(1)).toBe(0);
    mover.collect(table, 0, N, HUGE);
    mover.core.framePin(frame + 9, 0);
    mover.pick(N, { 8: mover.take(GPU), 9: mover.take(GPU), 10: mover.take(GPU) });
    mover.core.migrateSplit(mover.source, mover.target, N);
    expect([mover.finish(table, 0, N), mover.kinds(table, 7, 5)]).toEqual([2, '1w 2w 1w 2w 1w']);
    expect([mover.holders(frame + 9).pins, mover.core.frameUnpin(frame + 9), mover.core.verify(1)]).toEqual([1, 1, 0]);
    mover.end(table);
  });

  test('a target of the other size refuses: huge for a small page, small for a huge one that nobody split', () => {
    for (const commits of [true, false]) {
      const mover = make();
      const { table } = mover.home();
      mover.huge(table, 0);
      mover.fresh(table, N, 3);
      mover.collect(table, 0, 2 * N, HUGE | L.SELECT_NO_HOLES);
      mover.pick(2 * N, { 0: mover.take(GPU), [N]: [mover.hugeTake(GPU), COMPOUND] });
      expect(mover.core.migrateCopy(mover.source, mover.target, 2 * N)).toBe(0);
      if (commits) expect(mover.commit(table, 0, 2 * N)).toBe(0);
      expect(mover.core.migrateFinalize(2 * N, mover.source, mover.target)).toBe(0);
      expect([mover.kinds(table, 0, 1), mover.kinds(table, N, 1), mover.orderAt(table, 0)]).toEqual(['1w', '1w', 9]);
      expect([mover.node(GPU, L.NODE_USED), mover.core.verify(1)]).toEqual([0, 0]);
      mover.end(table);
    }
  });

  test('pages of a hugetlb-like mapping are shared by a fork as they are, copied as a whole where they are pinned, and never collected or split', () => {
    const mover = make();
    const [parent, child, other] = [mover.home(), mover.home(), mover.home()];
    expect(mover.core.mapHugetlb(parent.table, 0, HOST, 9, RW)).toBe(1);
    const frame = mover.entry(parent.table, 0).low;
    mover.stamp(frame + 3, 33);
    mover.collect(parent.table, 0, N, HUGE);
    expect([mover.found(N), mover.collectFrames([frame])]).toEqual([{}, [[0, 0]]]);
    mover.collect(parent.table, 3, 2, ALL);
    expect([mover.found(2), mover.core.splitHuge(parent.table, 0), mover.stop]).toEqual([{}, 0, L.STOP_REFUSED]);
    mover.core.framePin(frame + 3, 0);
    expect(mover.core.forkRange(parent.table, child.table, 0, N, HOST, 0)).toBe(N);
    const copy = mover.entry(child.table, 0).low;
    expect([copy === frame, mover.kinds(parent.table, 0, 1), mover.kinds(child.table, 0, 1), mover.stampOf(copy + 3)]).toEqual([
      false,
      '1w',
      '1w',
      33,
    ]);
    expect([mover.orderAt(child.table, 0), mover.payer(copy), mover.frame(copy, L.FRAME_FLAGS) & L.FRAME_HUGETLB]).toEqual([
      9,
      child.index + 1,
      L.FRAME_HUGETLB,
    ]);
    mover.core.frameUnpin(frame + 3);
    expect(mover.core.forkRange(parent.table, other.table, 0, N, HOST, 0)).toBe(N);
    expect([mover.entry(other.table, 0).low, mover.kinds(other.table, 0, 1), mover.core.canReuse(other.table, 3)]).toEqual([frame, '1', 0]);
    expect([mover.bare.header(L.H_PAGES_DEPOSITED), mover.bare.header(L.H_CHAIN_RESERVED), mover.core.verify(1)]).toEqual([0, 0, 0]);
    expect(mover.core.moveEntries(parent.table, 0, 2 * N, N)).toBe(N);
    expect([mover.orderAt(parent.table, 2 * N), mover.core.verify(1)]).toEqual([9, 0]);
    mover.end(parent.table, child.table, other.table);
  });

  test('by frame a huge frame is one word, wherever it is mapped, and needs a huge target', () => {
    const mover = make();
    const [parent, child] = [mover.home(), mover.home()];
    mover.huge(parent.table, 0);
    const small = mover.on(GPU, parent.table, N);
    mover.collect(parent.table, 0, N, HUGE);
    const there = mover.hugeTake(GPU);
    mover.pick(N, { 0: [there, COMPOUND] });
    mover.finish(parent.table, 0, N);
    mover.core.forkRange(parent.table, child.table, 0, 2 * N, HOST, 0);
    expect(mover.collectFrames([there + 1, there, small])).toEqual([[0, 0], [there, MOVES | COMPOUND], [small, MOVES]]); // prettier-ignore
    // A small target for a huge frame is refused: there is no range to split it in.
    mover.pick(3, { 1: mover.take(HOST), 2: mover.take(HOST) });
    expect(mover.finish(0, 0, 3)).toBe(1);
    expect([mover.kinds(parent.table, 0, 1), mover.orderAt(child.table, 0), mover.core.verify(1)]).toEqual(['2', 9, 0]);
    mover.collectFrames([there]);
    mover.pick(1, { 0: [mover.hugeTake(HOST), COMPOUND] });
    expect(mover.finish(0, 0, 1)).toBe(N);
    for (const { table } of [parent, child]) expect([mover.kinds(table, 0, 1), mover.stamps(table, 0)]).toEqual(['1', STAMPS]);
    mover.end(parent.table, child.table);
  });

  test('a huge page that is unmapped meanwhile does not come back; write that is taken away stays away', () => {
    const mover = make();
    const { table } = mover.home();
    mover.huge(table, 0);
    mover.huge(table, N);
    mover.collect(table, 0, 2 * N, HUGE);
    mover.core.zap(table, 0, N);
    mover.core.reprotect(table, N, N, L.RIGHT_READ);
    mover.core.reprotect(table, N, N, RW);
    mover.pick(2 * N, { 0: [mover.hugeTake(GPU), COMPOUND], [N]: [mover.hugeTake(GPU), COMPOUND] });
    mover.finish(table, 0, 2 * N);
    expect([mover.kinds(table, 0, 1), mover.kinds(table, N, 1), mover.node(GPU, L.NODE_USED), mover.core.verify(1)]).toEqual([
      '0',
      '2',
      N,
      0,
    ]);
    mover.end(table);
  });

  test('a coherent huge page is present, and goes by its own selector', () => {
    const mover = make();
    const { table, tlb } = mover.home(4);
    mover.huge(table, 0);
    mover.collect(table, 0, N, HUGE);
    const there = mover.hugeTake(CXL);
    mover.pick(N, { 0: [there, COMPOUND] });
    mover.finish(table, 0, N);
    expect([mover.kinds(table, 0, 1), mover.touch(tlb, 5, true), mover.entry(table, 0).low]).toEqual(['1w', true, there]);
    mover.collect(table, 0, N, L.SELECT_SYSTEM | L.SELECT_COMPOUND, 3);
    expect(mover.found(N)).toEqual({});
    mover.collect(table, 0, N, L.SELECT_COHERENT | L.SELECT_COMPOUND, 3);
    expect(mover.found(N)).toEqual({ 0: [there, WRITES | COMPOUND] });
    mover.pick(N, {});
    mover.finish(table, 0, N);
    mover.end(table);
  });

  describe('fork', () => {
    test('shares huge pages as blocks; pinned ones are split, and only the pinned pages are copied', () => {
      const mover = make();
      const [parent, child] = [mover.home(4), mover.home()];
      const [a, b] = [mover.huge(parent.table, 0), mover.huge(parent.table, N)];
      mover.core.mapHuge(parent.table, 2 * N, HOST, RW, 1);
      mover.touch(parent.tlb, 5, true);
      mover.core.framePin(b + 3, 0);
      expect(mover.core.forkRange(parent.table, child.table, 0, 3 * N, HOST, 0)).toBe(3 * N);
      for (const { table } of [parent, child]) {
        expect([0, N, 2 * N].map((vpn) => [mover.kinds(table, vpn, 1), mover.orderAt(table, vpn)])).toEqual([['1', 9], ['1', 0], ['1', 9]]); // prettier-ignore
      }
      expect([mover.ways(parent.tlb).flat(), mover.holders(a)]).toMatchObject([[], { refs: 2, maps: 2 }]);
      expect([mover.kinds(parent.table, N + 3, 1), mover.entry(parent.table, N + 3).low]).toEqual(['1w', b + 3]);
      expect([mover.kinds(child.table, N + 3, 1), mover.stampOf(mover.entry(child.table, N + 3).low)]).toEqual(['1w', 4]);
      expect(mover.entry(child.table, N + 4).low).toBe(b + 4);
      mover.core.frameUnpin(b + 3);
      expect(mover.core.verify(1)).toBe(0);
      mover.end(parent.table, child.table);
    });

    test('of a huge page on its way, or on a device, shares it there, read-only; left out where that is asked for', () => {
      const mover = make();
      const [parent, child, other] = [mover.home(), mover.home(), mover.home()];
      mover.huge(parent.table, 0);
      mover.collect(parent.table, 0, N, HUGE);
      const there = mover.hugeTake(GPU);
      mover.pick(N, { 0: [there, COMPOUND] });
      mover.core.forkRange(parent.table, child.table, 0, N, HOST, 0);
      mover.finish(parent.table, 0, N);
      for (const { table } of [parent, child]) expect([mover.kinds(table, 0, 1), mover.entry(table, 0).low]).toEqual(['2', there]);
      mover.core.forkRange(parent.table, other.table, 0, N, HOST, L.FORK_OMIT_DEVICE);
      expect([mover.kinds(other.table, 0, 1), mover.holders(there).maps, mover.core.verify(1)]).toEqual(['0', 2, 0]);
      mover.end(parent.table, child.table, other.table);
    });

    test('of a pinned huge page that is locked stops with its frame; without records or table pages it stops too, and changes nothing', () => {
      const mover = make();
      const [parent, child] = [mover.home(), mover.home()];
      const frame = mover.huge(parent.table, 0);
      mover.core.framePin(frame, 0);
      mover.core.frameTryLock(frame);
      expect([mover.core.forkRange(parent.table, child.table, 0, N, HOST, 0), mover.stop, mover.bare.header(L.H_STOP_ENTRY_LOW)]).toEqual([
        0,
        L.STOP_LOCKED,
        frame,
      ]);
      mover.core.frameUnlock(frame);
      mover.core.frameUnpin(frame);
      mover.end(parent.table, child.table);

      const few = make({ chains: 900 });
      const [a, b] = [few.home(), few.home()];
      few.huge(a.table, 0);
      const before = [L.H_PAGES_USED, L.H_PAGES_DEPOSITED, L.H_CHAIN_USED, L.H_CHAIN_RESERVED].map((field) => few.bare.header(field));
      expect([few.core.forkRange(a.table, b.table, 0, N, HOST, 0), few.stop, few.kinds(a.table, 0, 1)]).toEqual([0, L.STOP_CHAIN, '1w']);
      expect([L.H_PAGES_USED, L.H_PAGES_DEPOSITED, L.H_CHAIN_USED, L.H_CHAIN_RESERVED].map((field) => few.bare.header(field))).toEqual(
        before,
      );
      few.end(a.table, b.table);

      // Two roots, two levels, a promise, two levels of the child's, and no second promise.
      const tables = make({ tablePages: 7 });
      const [c, d] = [tables.home(), tables.home()];
      tables.huge(c.table, 0);
      expect([tables.core.forkRange(c.table, d.table, 0, N, HOST, 0), tables.stop, tables.kinds(c.table, 0, 1)]).toEqual([
        0,
        L.STOP_TABLES,
        '1w',
      ]);
      expect([tables.bare.header(L.H_PAGES_USED), tables.core.verify(1)]).toEqual([4, 0]);
      tables.end(c.table, d.table);
    });
  });

  describe('mremap', () => {
    test('a block stays a block where both places are aligned, on its way as well; else it is split', () => {
      const mover = make();
      const { table, index } = mover.home();
      const frame = mover.huge(table, 0);
      mover.core.mapHuge(table, N, HOST, RW, 1);
      expect(mover.core.moveEntries(table, 0, 4 * N, 2 * N)).toBe(2 * N);
      expect([mover.orderAt(table, 4 * N), mover.orderAt(table, 5 * N), mover.mappings(frame)]).toEqual([9, 9, [`${index}:${4 * N}`]]);
      expect([mover.stamps(table, 4 * N), mover.core.verify(1)]).toEqual([STAMPS, 0]);
      mover.collect(table, 4 * N, N, HUGE);
      expect(mover.core.moveEntries(table, 4 * N, 0, N)).toBe(N);
      mover.pick(N, { 0: [mover.hugeTake(GPU), COMPOUND] });
      expect([mover.finish(table, 4 * N, N), mover.kinds(table, 0, 1), mover.stamps(table, 0)]).toEqual([N, '2w', STAMPS]);
      expect(mover.core.moveEntries(table, 0, 2 * N + 1, N)).toBe(N);
      expect([mover.orderAt(table, 2 * N + 1), mover.stamps(table, 2 * N + 1), mover.core.verify(1)]).toEqual([0, STAMPS, 0]);
      mover.end(table);
    });

    test('a part of a huge page splits it; one that is on its way stops there with its frame', () => {
      const mover = make();
      const { table } = mover.home();
      const frame = mover.huge(table, 0);
      mover.collect(table, 0, N, HUGE);
      expect([mover.core.moveEntries(table, 5, 4 * N + 5, 3), mover.stop, mover.bare.header(L.H_STOP_ENTRY_LOW)]).toEqual([
        0,
        L.STOP_LOCKED,
        frame,
      ]);
      mover.pick(N, {});
      mover.finish(table, 0, N);
      expect([mover.core.moveEntries(table, 5, 4 * N + 5, 3), mover.kinds(table, 4, 5), mover.kinds(table, 4 * N + 5, 3)]).toEqual([
        3,
        '1w 0 0 0 1w',
        '1w 1w 1w',
      ]);
      expect([mover.stamps(table, 4 * N + 5, 3), mover.core.verify(1)]).toEqual([[6, 7, 8], 0]);
      mover.end(table);
    });
  });

  test('a huge page that nobody else holds may be written in place; shared, it may not', () => {
    const mover = make();
    const [parent, child] = [mover.home(), mover.home()];
    mover.huge(parent.table, 0);
    expect(mover.core.canReuse(parent.table, 9)).toBe(1);
    mover.core.forkRange(parent.table, child.table, 0, N, HOST, 0);
    expect([mover.core.canReuse(parent.table, 9), mover.core.canReuse(child.table, 9)]).toEqual([0, 0]);
    mover.core.zap(child.table, 0, N);
    expect(mover.core.canReuse(parent.table, 9)).toBe(1);
    mover.core.mapOwn(parent.table, 9);
    expect(mover.entry(parent.table, 0).high & L.ENTRY_ANON_EXCLUSIVE).toBe(L.ENTRY_ANON_EXCLUSIVE);
    mover.end(parent.table, child.table);
  });
});

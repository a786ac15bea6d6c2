import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import * as L from '../../assembly/layout.ts';
import { flavours } from './harness.ts';
import { ALL, CXL, CXL_OWNER, GPU, GPU_OWNER, HOST, MOVE, MOVES, Mover, NPU, NPU_OWNER, WRITES } from './mover.ts';
import { NOTHING } from './small-core.ts';

describe.each(flavours)('%s', (flavour) => {
  describe('collect', () => {
    test('offers holes whatever the selectors are, and the page of zeros with SYSTEM only', () => {
      const mover = new Mover(flavour);
      const { table } = mover.home();
      mover.core.mapZero(table, 1);
      expect(mover.collect(table, 0, 3, 0)).toEqual([[0, MOVE], [0, 0], [0, MOVE]]); // prettier-ignore
      expect(mover.collect(table, 0, 3, L.SELECT_PRIVATE)).toEqual([[0, MOVE], [0, 0], [0, MOVE]]); // prettier-ignore
      expect(mover.collect(table, 0, 3, L.SELECT_SYSTEM)).toEqual([[0, MOVE], [0, MOVE], [0, MOVE]]); // prettier-ignore
      expect([mover.kinds(table, 0, 3), mover.core.verify(1)]).toEqual(['0 1 0', 0]);
      expect(mover.collect(table, 2 ** 35, 1, 0)).toEqual([[0, MOVE]]);
      expect(mover.bare.header(L.H_PAGES_USED)).toBe(4);
    });

    test('takes present pages with SYSTEM: migration entries, locked, one reference more, out of the TLB', () => {
      const mover = new Mover(flavour);
      const { table, tlb } = mover.home(4);
      const [a, b] = [mover.fresh(table, 0), mover.fresh(table, 1)];
      mover.core.reprotect(table, 1, 1, 1);
      mover.touch(tlb, 0, true);
      mover.touch(tlb, 1, false);
      expect(mover.collect(table, 0, 2, L.SELECT_PRIVATE | L.SELECT_COHERENT)).toEqual([[0, 0], [0, 0]]); // prettier-ignore
      expect(mover.ways(tlb).flat().sort()).toEqual(['0wd', '1']);
      expect(mover.collect(table, 0, 2, L.SELECT_SYSTEM)).toEqual([[a, WRITES], [b, MOVES]]); // prettier-ignore
      expect([mover.kinds(table, 0, 2), mover.ways(tlb).flat()]).toEqual(['4w 4', []]);
      expect(mover.entry(table, 0).high & (L.ENTRY_DIRTY | L.ENTRY_ANON_EXCLUSIVE)).toBe(L.ENTRY_DIRTY | L.ENTRY_ANON_EXCLUSIVE);
      expect(mover.holders(a)).toMatchObject({ refs: 2, maps: 1 });
      expect([mover.core.frameTryLock(a), mover.core.verify(0), mover.touch(tlb, 0, false)]).toEqual([0, 0, false]);
    });

    test('takes private and coherent pages of their owner only', () => {
      const mover = new Mover(flavour);
      const { table } = mover.home();
      const [gpu, npu, cxl] = [mover.on(GPU, table, 0), mover.on(NPU, table, 1, 0), mover.on(CXL, table, 2)];
      expect(mover.kinds(table, 0, 3)).toBe('2w 2 1w');
      const none = [[0, 0], [0, 0], [0, 0]]; // prettier-ignore
      expect(mover.collect(table, 0, 3, L.SELECT_SYSTEM)).toEqual(none);
      expect(mover.collect(table, 0, 3, L.SELECT_PRIVATE | L.SELECT_COHERENT, 9)).toEqual(none);
      expect(mover.collect(table, 0, 3, L.SELECT_PRIVATE, CXL_OWNER)).toEqual(none);
      expect(mover.collect(table, 0, 3, L.SELECT_COHERENT, GPU_OWNER)).toEqual(none);
      expect([mover.kinds(table, 0, 3), mover.core.verify(1)]).toEqual(['2w 2 1w', 0]);
      expect(mover.collect(table, 0, 3, ALL, GPU_OWNER)).toEqual([[gpu, WRITES], [0, 0], [0, 0]]); // prettier-ignore
      expect(mover.collect(table, 0, 3, ALL, NPU_OWNER)).toEqual([[0, 0], [npu, MOVES], [0, 0]]); // prettier-ignore
      expect(mover.collect(table, 0, 3, ALL, CXL_OWNER)).toEqual([[0, 0], [0, 0], [cxl, WRITES]]); // prettier-ignore
    });

    test('leaves alone what is locked, pinned, held by somebody unknown, or neither a page nor a hole', () => {
      const mover = new Mover(flavour);
      const { table } = mover.home();
      const frames = [0, 1, 2].map((vpn) => mover.fresh(table, vpn));
      mover.core.frameTryLock(frames[0]!);
      mover.core.framePin(frames[1]!, 0);
      mover.core.frameGet(frames[2]!);
      [L.KIND_SWAP, L.KIND_POISON, L.KIND_SPECIAL, L.KIND_EXCLUSIVE, L.KIND_MIGRATION, L.KIND_PROTNONE].forEach((kind, i) =>
        mover.core.rangeMap(table, 3 + i, 1, 100, kind),
      );
      const before = mover.kinds(table, 0, 9);
      expect(mover.collect(table, 0, 9)).toEqual(Array.from({ length: 9 }, () => [0, 0]));
      expect(mover.kinds(table, 0, 9)).toBe(before);
      expect(frames.map((frame) => mover.holders(frame).refs)).toEqual([1, 2, 2]);
      expect(mover.core.frameTryLock(frames[1]!)).toBe(1);
    });

    test('looks only at the pages that are wanted', () => {
      const mover = new Mover(flavour);
      const { table } = mover.home();
      const frames = [0, 1, 2].map((vpn) => mover.fresh(table, vpn));
      mover.aim([undefined, 7, undefined, 8]);
      expect(mover.collect(table, 0, 5, ALL, 1, L.FRAME_NONE, mover.target)).toEqual([[0, 0], [frames[1], WRITES], [0, 0], [0, MOVE], [0, 0]]); // prettier-ignore
      expect(mover.kinds(table, 0, 4)).toBe('1w 4w 1w 0');
    });

    test('of a frame that two pages of the range map takes the first; the second is on its way already', () => {
      const mover = new Mover(flavour);
      const { table } = mover.home();
      const frame = mover.fresh(table, 0);
      mover.share(frame, table, 1, L.KIND_PRESENT);
      expect(mover.collect(table, 0, 2)).toEqual([[frame, MOVES], [0, 0]]); // prettier-ignore
      expect(mover.kinds(table, 0, 2)).toBe('4 4');
      mover.aim([mover.take(GPU), undefined]);
      expect(mover.finish(table, 0, 2)).toBe(1);
      expect([mover.kinds(table, 0, 2), mover.core.verify(1)]).toEqual(['2 2', 0]);
    });

    test('tolerates one reference more on the faulting page, not two, and not on its neighbour', () => {
      const mover = new Mover(flavour);
      const { table } = mover.home();
      const frames = [mover.on(GPU, table, 0), mover.on(GPU, table, 1)];
      for (const frame of frames) mover.core.frameGet(frame);
      expect(mover.collect(table, 0, 2)).toEqual([[0, 0], [0, 0]]); // prettier-ignore
      expect(mover.collect(table, 0, 2, ALL, GPU_OWNER, frames[1])).toEqual([[0, 0], [frames[1], WRITES]]); // prettier-ignore
      mover.aim([undefined, mover.take(HOST)]);
      expect(mover.finish(table, 0, 2, 1, frames[1])).toBe(1);
      const { refs, maps } = mover.holders(frames[1]!);
      expect([mover.kinds(table, 0, 2), refs, maps]).toEqual(['2w 1w', 1, 0]);
      for (const frame of frames) mover.core.framePut(frame);
      expect(mover.core.verify(1)).toBe(0);
      mover.core.frameGet(frames[0]!);
      mover.core.frameGet(frames[0]!);
      expect(mover.collect(table, 0, 1, ALL, GPU_OWNER, frames[0])).toEqual([[0, 0]]);
    });

    test('a faulting page among its neighbours stays when its holder has let it go meanwhile', () => {
      const mover = new Mover(flavour);
      const { table } = mover.home();
      const frames = [0, 1, 2].map((vpn) => mover.on(GPU, table, vpn));
      mover.core.frameGet(frames[1]!);
      mover.collect(table, 0, 3, ALL, GPU_OWNER, frames[1]);
      mover.aim(frames.map(() => mover.take(HOST)));
      mover.core.framePut(frames[1]!);
      expect(mover.finish(table, 0, 3, 1, frames[1])).toBe(2);
      expect([mover.kinds(table, 0, 3), mover.core.verify(1)]).toEqual(['1w 2w 1w', 0]);
    });

    test('leaves a block of something that is no page alone: it is no hole, and is not split', () => {
      const mover = new Mover(flavour, { nodes: [{ kind: L.NODE_IS_HOST, frames: 2, backed: false }], tablePages: 9 });
      const { table } = mover.home();
      const leaf = L.KIND_POISON;
      mover.core.rangeMapOrder(table, 2 ** 18, 2 ** 18, leaf, 18);
      expect(mover.collect(table, 2 ** 18 + 5, 2)).toEqual([[0, 0], [0, 0]]); // prettier-ignore
      expect(mover.collect(table, 2 ** 18, 600, ALL | L.SELECT_COMPOUND).every(([low, high]) => low === 0 && high === 0)).toBe(true);
      expect(mover.entry(table, 2 ** 18 + 6)).toMatchObject({ kind: leaf, low: 2 ** 18 + 6 });
      expect(mover.bare.header(L.H_PAGES_USED)).toBe(2);
    });

    test('offers no holes where the area is not anonymous, and takes its private copies', () => {
      const mover = new Mover(flavour);
      const { table } = mover.home();
      const [own, file] = [mover.fresh(table, 1), mover.take(HOST)];
      mover.setField(mover.frameRecord(file), L.FRAME_FLAGS, mover.frame(file, L.FRAME_FLAGS) | L.FRAME_FILE);
      mover.core.mapFrame(table, 2, file, L.KIND_PRESENT);
      mover.core.framePut(file);
      expect(mover.collect(table, 0, 4, ALL | L.SELECT_NO_HOLES)).toEqual([[0, 0], [own, WRITES], [0, 0], [0, 0]]); // prettier-ignore
      expect(mover.collectFrames([file])).toEqual([[0, 0]]);
      mover.aim([undefined, undefined, undefined, undefined]);
      mover.finish(table, 0, 4);
      expect([mover.kinds(table, 0, 4), mover.core.verify(1)]).toEqual(['0 1w 1 0', 0]);
    });

    test('of a page without rights by frame comes back without rights, on the device as at home', () => {
      const mover = new Mover(flavour);
      const { table } = mover.home();
      const frame = mover.fresh(table, 0, 6);
      mover.core.reprotect(table, 0, 1, 0);
      expect(mover.kinds(table, 0, 1)).toBe('6');
      expect(mover.collect(table, 0, 1)).toEqual([[0, 0]]);
      // Refused: as it was.
      expect(mover.collectFrames([frame])).toEqual([[frame, MOVES]]);
      expect(mover.entry(table, 0).high & (L.ENTRY_KIND | L.ENTRY_NO_ACCESS)).toBe(L.KIND_MIGRATION | L.ENTRY_NO_ACCESS);
      mover.aim([undefined]);
      mover.finish(table, 0, 1);
      expect(mover.entry(table, 0).high & (L.ENTRY_KIND | L.ENTRY_NO_ACCESS)).toBe(L.KIND_PROTNONE);
      // To a device and back.
      mover.collectFrames([frame]);
      const there = mover.take(GPU);
      mover.aim([there]);
      expect(mover.finish(table, 0, 1)).toBe(1);
      expect(mover.entry(table, 0).high & (L.ENTRY_KIND | L.ENTRY_NO_ACCESS)).toBe(L.KIND_DEVICE_PRIVATE | L.ENTRY_NO_ACCESS);
      expect(mover.collect(table, 0, 1)).toEqual([[there, MOVES]]);
      const back = mover.take(HOST);
      mover.aim([back]);
      expect(mover.finish(table, 0, 1)).toBe(1);
      expect([mover.entry(table, 0).high & (L.ENTRY_KIND | L.ENTRY_NO_ACCESS), mover.stampOf(back)]).toEqual([L.KIND_PROTNONE, 6]);
      expect(mover.core.verify(1)).toBe(0);
    });
  });

  describe('by frame', () => {
    test('free, unmapped, locked and pinned frames get no word; the others take all spaces with them', () => {
      const mover = new Mover(flavour);
      const [a, b] = [mover.home(), mover.home(4)];
      const frames = [0, 1, 2].map((vpn) => mover.on(GPU, a.table, vpn));
      mover.share(frames[0]!, b.table, 2 ** 33, L.KIND_DEVICE_PRIVATE);
      mover.core.frameTryLock(frames[1]!);
      const unmapped = mover.take(GPU);
      const free = unmapped + 1;
      mover.core.framePin(frames[2]!, 0);
      expect(mover.collectFrames([free, unmapped, frames[1]!, frames[2]!, frames[0]!])).toEqual([
        [0, 0],
        [0, 0],
        [0, 0],
        [0, 0],
        [frames[0], MOVES], // prettier-ignore
      ]);
      expect([mover.kinds(a.table, 0, 3), mover.kinds(b.table, 2 ** 33, 1), mover.core.verify(0)]).toEqual(['4 2w 2w', '4', 0]);
      mover.stamp(frames[0]!, 77);
      const home = mover.take(HOST);
      mover.aim([undefined, undefined, undefined, undefined, home]);
      expect(mover.finish(0, 0, 5)).toBe(1);
      expect([mover.kinds(a.table, 0, 3), mover.kinds(b.table, 2 ** 33, 1)]).toEqual(['1 2w 2w', '1']);
      expect([mover.stampOf(home), mover.holders(home)]).toMatchObject([77, { refs: 2, maps: 2 }]);
      expect(mover.mappings(home)).toEqual([`${a.index}:0`, `${b.index}:${2 ** 33}`]);
      expect(mover.payer(home)).toBe(a.index + 1);
      expect(mover.node(GPU, L.NODE_USED)).toBe(3);
    });
  });

  describe('copy', () => {
    test('copies pages, clears where there was a hole, and passes over bytes that are elsewhere', () => {
      const mover = new Mover(flavour);
      const { table } = mover.home();
      const frames = [0, 1].map((vpn) => mover.fresh(table, vpn, 100 + vpn));
      mover.collect(table, 0, 4);
      const targets = [mover.take(GPU), mover.base[NPU]! + 1, mover.take(GPU), undefined];
      mover.core.frameClaim(targets[1]!, 0);
      mover.stamp(targets[2]!, 99);
      mover.aim(targets);
      expect(mover.core.migrateCopy(mover.source, mover.target, 4)).toBe(1);
      expect(mover.bare.header(L.H_MOVED)).toBe(1);
      expect([mover.stampOf(targets[0]!), mover.stampOf(targets[2]!)]).toEqual([100, 0]);
      expect(frames.map((frame) => mover.stampOf(frame))).toEqual([100, 101]);
    });
  });

  describe('a copy of neighbours', () => {
    /** Words of two pages whose frames are neighbours on both sides, from these on. */
    function twoPages(mover: Mover, from: number, to: number): void {
      for (const i of [0, 1]) {
        mover.setField(mover.source, i * 8, from + i);
        mover.setField(mover.source, i * 8 + 4, MOVES);
      }
      mover.aim([to, to + 1]);
    }

    test('ends where the bytes of the source do: what is behind them is zeros', () => {
      const mover = new Mover(flavour);
      const [last, target, other] = [mover.base[NPU]! - 1, mover.base[HOST]!, mover.base[CXL]!];
      for (const [frame, stamp] of [[last, 5], [target, 6], [target + 1, 7], [other, 8]] as const) mover.stamp(frame, stamp); // prettier-ignore
      twoPages(mover, last, target);
      expect(mover.core.migrateCopy(mover.source, mover.target, 2)).toBe(2);
      expect([target, target + 1, other].map((frame) => mover.stampOf(frame))).toEqual([5, 0, 8]);
    });

    test('ends where the bytes of the target do', () => {
      const mover = new Mover(flavour);
      const [last, source, other] = [mover.base[NPU]! - 1, mover.base[HOST]!, mover.base[CXL]!];
      for (const [frame, stamp] of [[last, 5], [source, 6], [source + 1, 7], [other, 8]] as const) mover.stamp(frame, stamp); // prettier-ignore
      twoPages(mover, source, last);
      expect(mover.core.migrateCopy(mover.source, mover.target, 2)).toBe(1);
      expect([last, other].map((frame) => mover.stampOf(frame))).toEqual([6, 8]);
    });

    test('is none on a machine without bytes', () => {
      const mover = new Mover(flavour);
      mover.setHeader(L.H_BLANK, mover.spare);
      mover.setHeader(L.H_MOVED, 9);
      twoPages(mover, mover.base[NPU]!, mover.base[NPU]! + 4);
      expect(mover.core.migrateCopy(mover.source, mover.target, 2)).toBe(0);
      expect(mover.bare.header(L.H_MOVED)).toBe(0);
    });
  });

  describe('commit and finalize', () => {
    test('a page moves with its rights, its charge and its bytes, and the old frame is freed', () => {
      const mover = new Mover(flavour);
      const { table, index } = mover.home();
      const old = mover.fresh(table, 3, 5);
      mover.core.reprotect(table, 3, 1, 1);
      mover.collect(table, 3, 1);
      const to = mover.take(GPU);
      mover.aim([to]);
      expect(mover.finish(table, 3, 1)).toBe(1);
      expect(mover.entry(table, 3)).toMatchObject({ kind: L.KIND_DEVICE_PRIVATE, low: to });
      expect([mover.kinds(table, 3, 1), mover.stampOf(to), mover.payer(to), mover.field(table, L.TABLE_CHARGED)]).toEqual([
        '2',
        5,
        index + 1,
        1,
      ]);
      expect(mover.holders(to)).toEqual({ refs: 1, maps: 1, pins: 0, state: L.STATE_USED });
      expect([mover.holders(old).state === L.STATE_USED, mover.node(HOST, L.NODE_USED), mover.core.verify(1)]).toEqual([false, 0, 0]);
    });

    test('every mapping of a frame follows it, also through a refusal', () => {
      const mover = new Mover(flavour);
      const [a, b] = [mover.home(1), mover.home(1)];
      const frame = mover.fresh(a.table, 0, 42);
      mover.share(frame, b.table, 600, L.KIND_PRESENT);
      mover.share(frame, b.table, 2 ** 35, L.KIND_PRESENT);
      mover.touch(b.tlb, 600, false);
      const pages = (): string[] => [mover.kinds(a.table, 0, 1), mover.kinds(b.table, 600, 1), mover.kinds(b.table, 2 ** 35, 1)];
      expect(mover.collect(a.table, 0, 1)).toEqual([[frame, MOVES]]);
      expect([pages(), mover.ways(b.tlb), mover.core.verify(0)]).toEqual([['4', '4', '4'], [[]], 0]);
      mover.aim([undefined]);
      expect(mover.finish(a.table, 0, 1)).toBe(0);
      expect([pages(), mover.core.verify(1), mover.holders(frame).refs]).toEqual([['1', '1', '1'], 0, 3]);
      mover.collect(b.table, 600, 1);
      const to = mover.take(GPU);
      mover.aim([to]);
      expect(mover.finish(b.table, 600, 1)).toBe(1);
      expect([pages(), mover.core.verify(1), mover.holders(to)]).toMatchObject([['2', '2', '2'], 0, { refs: 3, maps: 3 }]);
      expect([mover.stampOf(to), mover.node(HOST, L.NODE_USED)]).toEqual([42, 0]);
    });

    test('a pin that comes between collect and commit refuses, and the target is given back', () => {
      const mover = new Mover(flavour);
      const { table } = mover.home();
      const frame = mover.fresh(table, 0, 1);
      mover.collect(table, 0, 1);
      mover.aim([mover.take(GPU)]);
      mover.core.framePin(frame, 1);
      expect(mover.finish(table, 0, 1)).toBe(0);
      expect([mover.kinds(table, 0, 1), mover.entry(table, 0).low, mover.node(GPU, L.NODE_USED), mover.core.verify(1)]).toEqual([
        '1w',
        frame,
        0,
        0,
      ]);
      mover.core.frameUnpin(frame);
      expect(mover.collect(table, 0, 1)).toEqual([[frame, WRITES]]);
    });

    test('a hole and the page of zeros get an entry that is writable iff the area is, and pay for it', () => {
      for (const writable of [0, 1]) {
        const mover = new Mover(flavour);
        const { table, tlb } = mover.home(4);
        mover.core.mapZero(table, 1);
        mover.touch(tlb, 1, false);
        mover.collect(table, 0, 3);
        const targets = [mover.take(GPU), mover.take(CXL), undefined];
        mover.aim(targets);
        mover.core.migrateCopy(mover.source, mover.target, 3);
        expect(mover.commit(table, 0, 3, writable)).toBe(2);
        const w = writable ? 'w' : '';
        expect([mover.kinds(table, 0, 3), mover.ways(tlb).flat(), mover.core.verify(0)]).toEqual([`2${w} 1${w} 0`, [], 0]);
        expect(mover.core.migrateFinalize(3, mover.source, mover.target)).toBe(2);
        expect([mover.field(table, L.TABLE_CHARGED), mover.core.verify(1)]).toEqual([2, 0]);
      }
    });

    test('a hole that was filled meanwhile refuses, and what filled it stays', () => {
      const mover = new Mover(flavour);
      const { table } = mover.home();
      mover.collect(table, 0, 2);
      const frame = mover.fresh(table, 0, 8);
      mover.core.mapZero(table, 1);
      mover.aim([mover.take(GPU), mover.take(GPU)]);
      // The page of zeros is as good as the hole.
      expect(mover.finish(table, 0, 2)).toBe(1);
      expect([mover.kinds(table, 0, 2), mover.entry(table, 0).low, mover.stampOf(frame)]).toEqual(['1w 2w', frame, 8]);
      expect([mover.node(GPU, L.NODE_USED), mover.core.verify(1)]).toEqual([1, 0]);
    });

    test('a hole for which there is no table page refuses, and names that', () => {
      const mover = new Mover(flavour, { tablePages: 4 });
      const { table } = mover.home();
      mover.fresh(table, 0);
      mover.collect(table, 2 ** 30, 1);
      mover.aim([mover.take(GPU)]);
      expect([mover.commit(table, 2 ** 30, 1), mover.stop]).toEqual([0, L.STOP_TABLES]);
      expect(mover.core.migrateFinalize(1, mover.source, mover.target)).toBe(0);
      expect([mover.node(GPU, L.NODE_USED), mover.core.verify(1)]).toEqual([0, 0]);
    });

    test('pages that are unmapped between collect and finalize do not come back, and both frames are freed', () => {
      for (const after of ['collect', 'commit'] as const) {
        const mover = new Mover(flavour);
        const { table } = mover.home();
        for (const vpn of [0, 1, 2]) mover.fresh(table, vpn);
        mover.collect(table, 0, 4);
        mover.aim([mover.take(GPU), undefined, mover.take(GPU), mover.take(GPU)]);
        if (after === 'collect') mover.core.zap(table, 0, 2);
        mover.commit(table, 0, 4);
        if (after === 'commit') mover.core.zap(table, 0, 2);
        expect(mover.core.verify(0)).toBe(0);
        mover.core.migrateFinalize(4, mover.source, mover.target);
        expect([after, mover.kinds(table, 0, 4)]).toEqual([after, '0 0 2w 2w']);
        expect([mover.node(HOST, L.NODE_USED), mover.node(GPU, L.NODE_USED), mover.field(table, L.TABLE_CHARGED)]).toEqual([0, 2, 2]);
        expect(mover.core.verify(1)).toBe(0);
      }
    });

    test('one of two mappings that is taken away meanwhile stays away, the other follows the frame', () => {
      const mover = new Mover(flavour);
      const [a, b] = [mover.home(), mover.home()];
      const frame = mover.fresh(a.table, 0, 3);
      mover.share(frame, b.table, 9, L.KIND_PRESENT);
      mover.collect(a.table, 0, 1);
      mover.core.zap(a.table, 0, 1);
      const to = mover.take(GPU);
      mover.aim([to]);
      mover.finish(a.table, 0, 1);
      expect([mover.kinds(a.table, 0, 1), mover.kinds(b.table, 9, 1), mover.mappings(to)]).toEqual(['0', '2', [`${b.index}:9`]]);
      expect(mover.core.verify(1)).toBe(0);
    });

    test('write that is taken away meanwhile does not come back', () => {
      const mover = new Mover(flavour);
      const { table } = mover.home();
      mover.fresh(table, 0);
      mover.collect(table, 0, 1);
      mover.core.reprotect(table, 0, 1, 1);
      mover.core.reprotect(table, 0, 1, 3);
      mover.aim([mover.take(GPU)]);
      mover.finish(table, 0, 1);
      expect([mover.kinds(table, 0, 1), mover.core.verify(1)]).toEqual(['2', 0]);
    });

    test('a target on a driver-owned node that is refused is told to its driver', () => {
      const mover = new Mover(flavour);
      const { table } = mover.home();
      const frame = mover.fresh(table, 0);
      mover.collect(table, 0, 1);
      const to = mover.base[NPU]! + 5;
      mover.core.frameClaim(to, 0);
      mover.aim([to]);
      mover.core.frameGet(frame);
      mover.finish(table, 0, 1);
      expect(mover.freed()).toEqual([to]);
      mover.core.framePut(frame);
      expect(mover.core.verify(1)).toBe(0);
    });

    test("pages that arrive on a device's own node are its youngest victims, pages that go home are none", () => {
      const mover = new Mover(flavour);
      const { table } = mover.home();
      const frames = [0, 1, 2].map((vpn) => mover.on(GPU, table, vpn));
      const victims = (): number[] => mover.list(mover.spare, mover.core.victims(GPU, mover.spare, 9, 0, 0, 0));
      expect(victims()).toEqual(frames);
      mover.collect(table, 1, 1);
      mover.aim([mover.take(HOST)]);
      mover.finish(table, 1, 1);
      expect(victims()).toEqual([frames[0], frames[2]]);
      expect(mover.core.victims(HOST, mover.spare, 9, 0, 0, 0)).toBe(0);
    });

    test('a finalize without a commit puts every page back that has no target', () => {
      const mover = new Mover(flavour);
      const { table } = mover.home();
      const frame = mover.fresh(table, 0);
      mover.collect(table, 0, 2);
      mover.aim([undefined, undefined]);
      expect(mover.core.migrateFinalize(2, mover.source, mover.target)).toBe(0);
      expect([mover.kinds(table, 0, 2), mover.entry(table, 0).low, mover.core.verify(1)]).toEqual(['1w 0', frame, 0]);
    });
  });

  test('whatever happens in between, every page ends with its own bytes and rights where the migration says, or nowhere', () => {
    const PAGES = 12;
    interface Page {
      stamp: number;
      write: boolean;
      place: 'host' | 'gpu';
    }
    const round = fc.record({
      from: fc.nat(PAGES - 1),
      pages: fc.integer({ min: 1, max: PAGES }),
      toDevice: fc.boolean(),
      byFrame: fc.boolean(),
      targets: fc.array(fc.boolean(), { minLength: PAGES, maxLength: PAGES }),
      wanted: fc.boolean(),
      between: fc.array(fc.tuple(fc.constantFrom('pin', 'zap', 'fill', 'demote'), fc.nat(PAGES - 1)), { maxLength: 4 }),
    });
    const setUp = fc.array(fc.constantFrom('hole', 'zero', 'page', 'page', 'shared'), { minLength: PAGES, maxLength: PAGES });
    fc.assert(
      fc.property(setUp, fc.array(round, { minLength: 1, maxLength: 6 }), (layout, rounds) => {
        const mover = new Mover(flavour);
        const [a, b] = [mover.home(4), mover.home(4)];
        // What page i of the first space holds; the second space maps some of the same frames, at 1000 + i.
        const model: (Page | 'zero' | undefined)[] = layout.map((what, i) => {
          if (what === 'hole') return undefined;
          if (what === 'zero') {
            mover.core.mapZero(a.table, i);
            return 'zero';
          }
          const frame = mover.fresh(a.table, i, i + 1);
          if (what === 'shared') mover.share(frame, b.table, 1000 + i, L.KIND_PRESENT);
          // Shared, nobody writes.
          return { stamp: i + 1, write: what !== 'shared', place: 'host' };
        });
        const peers = layout.map((what) => what === 'shared');
        const stamps = layout.map((_, i) => i + 1);
        for (const { from, pages: asked, toDevice, byFrame, targets, wanted, between } of rounds) {
          const pages = Math.min(asked, PAGES - from);
          const node = toDevice ? GPU : HOST;
          const range = Array.from({ length: pages }, (_, i) => from + i);
          const frameAt = (page: number): number => {
            const one = mover.entry(a.table, page);
            if (one.kind !== L.KIND_NONE && !(one.high & L.ENTRY_ZERO)) return one.low;
            return peers[page] ? mover.entry(b.table, 1000 + page).low : NOTHING;
          };
          const before = range.map((page) => frameAt(page));
          const picked = range.map((_, i) => (targets[i]! ? mover.take(node) : undefined));
          mover.aim(picked);
          const only = wanted && !byFrame ? mover.target : 0;
          if (byFrame) mover.collectFrames(before.map((frame) => (frame === NOTHING ? mover.zeroFrame : frame)));
          else mover.collect(a.table, from, pages, toDevice ? L.SELECT_SYSTEM : L.SELECT_PRIVATE, GPU_OWNER, L.FRAME_NONE, only);
          const source = mover.words(mover.source, pages);
          source.forEach(([low, high], i) => {
            const page = model[range[i]!];
            const aimed = !only || targets[i]!;
            if (byFrame) expect([low, high]).toEqual(before[i] === NOTHING ? [0, 0] : [before[i], MOVES]);
            else if (page === undefined) expect([low, high]).toEqual([0, aimed ? MOVE : 0]);
            else if (page === 'zero') expect([low, high]).toEqual([0, aimed && toDevice ? MOVE : 0]);
            else if (!aimed || (page.place === 'host') !== toDevice) expect([low, high]).toEqual([0, 0]);
            else expect([low, high]).toEqual([before[i], page.write ? WRITES : MOVES]);
          });
          expect(mover.core.verify(0)).toBe(0);
          mover.core.migrateCopy(mover.source, mover.target, pages);
          const pinned: number[] = [];
          // Came as another page, which the migration has nothing to do with.
          const filled = new Set<number>();
          for (const [event, page] of between) {
            const one = model[page];
            const frame = frameAt(page);
            if (event === 'pin' && frame !== NOTHING) {
              mover.core.framePin(frame, 0);
              pinned.push(frame);
            } else if (event === 'zap') {
              mover.core.zap(a.table, page, 1);
              model[page] = undefined;
            } else if (event === 'fill' && one === undefined) {
              mover.fresh(a.table, page, (stamps[page]! += 100));
              model[page] = { stamp: stamps[page]!, write: true, place: 'host' };
              filled.add(page);
              // From here on the two spaces have pages of their own.
              if (peers[page]) {
                mover.core.zap(b.table, 1000 + page, 1);
                peers[page] = false;
              }
            } else if (event === 'demote') {
              mover.core.reprotect(a.table, page, 1, 1);
              if (typeof one === 'object') one.write = false;
            }
            expect(mover.core.verify(0)).toBe(0);
          }
          mover.commit(a.table, from, pages);
          const moved = mover.core.migrateFinalize(pages, mover.source, mover.target);
          let expected = 0;
          source.forEach(([low, high], i) => {
            if (!(high & MOVE) || picked[i] === undefined) return;
            const page = range[i]!;
            const one = model[page];
            if (high & L.MIGRATE_VALID) {
              if (pinned.includes(low)) return;
              expected++;
              if (typeof one === 'object' && !filled.has(page)) one.place = toDevice ? 'gpu' : 'host';
            } else if (one === undefined || one === 'zero') {
              expected++;
              stamps[page] = 0;
              model[page] = { stamp: 0, write: true, place: toDevice ? 'gpu' : 'host' };
            }
          });
          expect(moved).toBe(expected);
          for (const frame of pinned) mover.core.frameUnpin(frame);
          expect(mover.core.verify(1)).toBe(0);
          model.forEach((one, page) => {
            const { high, kind, low } = mover.entry(a.table, page);
            if (one === undefined) expect(kind).toBe(L.KIND_NONE);
            else if (one === 'zero') expect([kind, low]).toEqual([L.KIND_PRESENT, mover.zeroFrame]);
            else {
              expect(kind, `kind of page ${page}`).toBe(one.place === 'gpu' ? L.KIND_DEVICE_PRIVATE : L.KIND_PRESENT);
              expect([mover.stampOf(low), (high & L.ENTRY_WRITE) !== 0]).toEqual([one.stamp, one.write]);
            }
            if (!peers[page]) return;
            const other = mover.entry(b.table, 1000 + page);
            if (one !== undefined && typeof one === 'object' && one.stamp === page + 1) expect(other.low).toBe(low);
            expect(mover.stampOf(other.low)).toBe(page + 1);
          });
        }
        mover.core.zap(a.table, 0, PAGES);
        mover.core.zap(b.table, 1000, PAGES);
        const used = [HOST, GPU].map((node) => mover.node(node, L.NODE_USED));
        expect([...used, mover.field(a.table, L.TABLE_CHARGED), mover.bare.header(L.H_CHAIN_USED)]).toEqual([0, 0, 0, 0]);
      }),
      { numRuns: 200 },
    );
  });
});

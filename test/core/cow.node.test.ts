import { describe, expect, test } from 'vitest';
import * as L from '../../assembly/layout.ts';
import { flavours } from './harness.ts';
import { GPU, HOST, Mover, NPU } from './mover.ts';
import { NOTHING } from './small-core.ts';

const OWN = L.KIND_PRESENT | L.ENTRY_WRITE | L.ENTRY_ANON_EXCLUSIVE | L.ENTRY_ACCESSED;
const RW = L.RIGHT_READ | L.RIGHT_WRITE;

/** A used host frame with its allocation's reference, marked as a page of a file. */
function filePage(mover: Mover, stamp: number): number {
  const frame = mover.take(HOST);
  mover.setField(mover.frameRecord(frame), L.FRAME_FLAGS, mover.frame(frame, L.FRAME_FLAGS) | L.FRAME_FILE | L.FRAME_CACHED);
  mover.stamp(frame, stamp);
  return frame;
}

/** Takes a file page out of its cache. */
function drop(mover: Mover, frame: number): void {
  mover.setField(mover.frameRecord(frame), L.FRAME_FLAGS, mover.frame(frame, L.FRAME_FLAGS) & ~L.FRAME_CACHED);
  mover.core.framePut(frame);
}

describe.each(flavours)('%s', (flavour) => {
  const make = (...room: ConstructorParameters<typeof Mover> extends [unknown, ...infer R] ? R : never): Mover =>
    new Mover(flavour, ...room);

  describe('a write to a page', () => {
    test('of its own, or that nobody else holds, may go to the frame itself', () => {
      const mover = make();
      const { table } = mover.home();
      const [own, alone] = [mover.fresh(table, 0), mover.fresh(table, 1)];
      const child = mover.home();
      expect(mover.core.forkRange(table, child.table, 1, 1, HOST, 0)).toBe(1);
      expect([mover.core.canReuse(table, 0), mover.core.canReuse(table, 1)]).toEqual([1, 0]);
      mover.core.zap(child.table, 1, 1);
      expect([mover.core.canReuse(table, 1), mover.entry(table, 1).high & L.ENTRY_ANON_EXCLUSIVE]).toEqual([1, 0]);
      // Another holder, be it a pin, makes it somebody else's business, unless the page is this space's own.
      for (const frame of [own, alone]) mover.core.framePin(frame, 0);
      expect([mover.core.canReuse(table, 0), mover.core.canReuse(table, 1)]).toEqual([1, 0]);
      for (const frame of [own, alone]) mover.core.frameUnpin(frame);
      mover.core.mapReuse(table, 1);
      expect(mover.entry(table, 1)).toMatchObject({ high: OWN, low: alone });
      expect(mover.core.verify(1)).toBe(0);
    });

    test('of zeros, of a file, of a device, or to none, may not', () => {
      const mover = make();
      const { table } = mover.home();
      const file = filePage(mover, 7);
      mover.core.mapZero(table, 0);
      expect(mover.core.mapFrame(table, 1, file, L.KIND_PRESENT)).toBe(1);
      mover.on(GPU, table, 2);
      expect([0, 1, 2, 3, 2 ** 35].map((vpn) => mover.core.canReuse(table, vpn))).toEqual([0, 0, 0, 0, 0]);
      drop(mover, file);
      // With the cache gone, one holder is left: it still is no anonymous page.
      expect([mover.holders(file).refs, mover.core.canReuse(table, 1)]).toEqual([1, 0]);
    });
  });

  describe('a copy', () => {
    test('has the bytes, its own mapping and charge, and the others keep the old frame', () => {
      const mover = make();
      const [parent, child] = [mover.home(4), mover.home(4)];
      const old = mover.fresh(parent.table, 5, 77);
      mover.core.forkRange(parent.table, child.table, 5, 1, HOST, 0);
      mover.touch(child.tlb, 5, false);
      const copy = mover.core.mapCopy(child.table, 5, HOST, 1);
      expect(mover.entry(child.table, 5)).toMatchObject({ high: OWN, low: copy });
      expect([mover.stampOf(copy), mover.payer(copy), mover.mappings(copy)]).toEqual([77, child.index + 1, [`${child.index}:5`]]);
      expect([mover.ways(child.tlb).flat(), mover.touch(child.tlb, 5, true)]).toEqual([[], true]);
      expect([mover.holders(old), mover.mappings(old), mover.payer(old)]).toMatchObject([
        { refs: 1, maps: 1 },
        [`${parent.index}:5`],
        parent.index + 1,
      ]);
      expect([mover.core.canReuse(parent.table, 5), mover.core.verify(1)]).toEqual([1, 0]);
      mover.core.zap(parent.table, 5, 1);
      mover.core.zap(child.table, 5, 1);
      expect([mover.node(HOST, L.NODE_USED), mover.bare.header(L.H_CHAIN_USED), mover.core.verify(1)]).toEqual([0, 0, 0]);
    });

    test('of the page of zeros is cleared, and is without write where that is asked for', () => {
      const mover = make();
      const { table } = mover.home();
      const stale = mover.take(HOST);
      mover.stamp(stale, 9);
      mover.core.framePut(stale);
      mover.core.mapZero(table, 3);
      const frame = mover.core.mapCopy(table, 3, HOST, 0);
      expect(frame).toBe(stale);
      expect([mover.stampOf(frame), mover.entry(table, 3).high]).toEqual([0, OWN & ~L.ENTRY_WRITE]);
      expect(mover.core.verify(1)).toBe(0);
    });

    test('of a page of a file is anonymous', () => {
      const mover = make();
      const { table } = mover.home();
      const file = filePage(mover, 12);
      mover.core.mapFrame(table, 0, file, L.KIND_PRESENT);
      const copy = mover.core.mapCopy(table, 0, HOST, 1);
      expect([mover.stampOf(copy), mover.frame(copy, L.FRAME_FLAGS) & L.FRAME_FILE, mover.core.canReuse(table, 0)]).toEqual([12, 0, 1]);
      expect(mover.holders(file)).toMatchObject({ refs: 1, maps: 0 });
      drop(mover, file);
      expect([mover.node(HOST, L.NODE_USED), mover.core.verify(1)]).toEqual([1, 0]);
    });

    test('for which there is no frame changes nothing', () => {
      const mover = make({ nodes: [{ kind: L.NODE_IS_HOST, frames: 1 }] });
      const [parent, child] = [mover.home(), mover.home()];
      const frame = mover.fresh(parent.table, 0);
      mover.core.forkRange(parent.table, child.table, 0, 1, HOST, 0);
      const before = mover.entry(child.table, 0);
      expect([mover.core.mapCopy(child.table, 0, HOST, 1) >>> 0, mover.stop]).toEqual([NOTHING, L.STOP_FRAMES]);
      expect(mover.entry(child.table, 0)).toEqual(before);
      expect([mover.holders(frame).refs, mover.core.verify(1)]).toEqual([2, 0]);
    });
  });

  describe('an existing frame', () => {
    test('appears in a hole with one reference and mapping more, and nobody is charged', () => {
      const mover = make();
      const [a, b] = [mover.home(), mover.home()];
      const file = filePage(mover, 3);
      expect(mover.core.mapFrame(a.table, 8, file, L.KIND_PRESENT | L.ENTRY_ACCESSED)).toBe(1);
      expect(mover.core.mapFrame(b.table, 2 ** 33, file, L.KIND_PRESENT)).toBe(1);
      expect([mover.holders(file), mover.mappings(file)]).toMatchObject([{ refs: 3, maps: 2 }, [`${a.index}:8`, `${b.index}:${2 ** 33}`]]);
      expect([mover.payer(file), mover.field(a.table, L.TABLE_CHARGED)]).toEqual([0, 0]);
      mover.core.zap(a.table, 8, 1);
      mover.core.zap(b.table, 2 ** 33, 1);
      expect(mover.holders(file)).toMatchObject({ refs: 1, maps: 0 });
      drop(mover, file);
      expect([mover.node(HOST, L.NODE_USED), mover.core.verify(1)]).toEqual([0, 0]);
    });

    test('does not appear where there is something, nor without a table page or a record, and nothing changes', () => {
      const mover = make({ tablePages: 9, chains: 1 });
      const [a, b] = [mover.home(), mover.home()];
      const file = filePage(mover, 3);
      mover.core.mapZero(a.table, 0);
      expect([mover.core.mapFrame(a.table, 0, file, L.KIND_PRESENT), mover.stop]).toEqual([0, L.STOP_REFUSED]);
      expect(mover.core.mapFrame(a.table, 1, file, L.KIND_PRESENT)).toBe(1);
      const pages = mover.bare.header(L.H_PAGES_USED);
      expect([mover.core.mapFrame(b.table, 0, file, L.KIND_PRESENT), mover.stop]).toEqual([0, L.STOP_CHAIN]);
      expect(mover.bare.header(L.H_PAGES_USED)).toBe(pages);
      mover.core.mapZero(b.table, 0);
      expect([mover.core.mapFrame(b.table, 2 ** 30, file, L.KIND_PRESENT), mover.stop]).toEqual([0, L.STOP_TABLES]);
      expect([mover.holders(file), mover.entry(b.table, 2 ** 30).kind]).toMatchObject([{ refs: 2, maps: 1 }, L.KIND_NONE]);
    });

    test("that is not the machine's is special: held by nothing, taken away by nothing but a zap", () => {
      const mover = make();
      const { table } = mover.home();
      expect(mover.core.mapSpecial(table, 6, 123456789, L.ENTRY_WRITE)).toBe(1);
      expect(mover.entry(table, 6)).toEqual({ kind: L.KIND_SPECIAL, low: 123456789, high: L.KIND_SPECIAL | L.ENTRY_WRITE });
      expect([mover.core.mapSpecial(table, 6, 1, 0), mover.stop]).toEqual([0, L.STOP_REFUSED]);
      expect(mover.core.verify(1)).toBe(0);
      mover.core.zap(table, 6, 1);
      expect([mover.entry(table, 6).kind, mover.core.verify(1)]).toEqual([L.KIND_NONE, 0]);
    });
  });

  test('a write to shared memory makes the entry writable and dirty; cleaning the frame takes both from every space', () => {
    const mover = make();
    const [a, b, c] = [mover.home(4), mover.home(4), mover.home(4)];
    const file = filePage(mover, 3);
    for (const [i, { table }] of [a, b, c].entries()) mover.core.mapFrame(table, i, file, L.KIND_PRESENT);
    expect(mover.core.frameClean(file)).toBe(0);
    mover.core.mapShared(a.table, 0);
    mover.core.mapShared(b.table, 1);
    expect([mover.touch(a.tlb, 0, true), mover.touch(b.tlb, 1, true), mover.touch(c.tlb, 2, true)]).toEqual([true, true, false]);
    expect(mover.frame(file, L.FRAME_FLAGS) & L.FRAME_DIRTY).toBe(L.FRAME_DIRTY);
    expect(mover.core.frameClean(file)).toBe(1);
    const left = [a, b, c].map(({ table }, i) => mover.entry(table, i).high & (L.ENTRY_WRITE | L.ENTRY_DIRTY | L.ENTRY_KIND));
    expect(left).toEqual([L.KIND_PRESENT, L.KIND_PRESENT, L.KIND_PRESENT]);
    expect([mover.ways(a.tlb).flat(), mover.ways(b.tlb).flat(), mover.touch(a.tlb, 0, true)]).toEqual([[], [], false]);
    expect([mover.core.frameClean(file), mover.frame(file, L.FRAME_FLAGS) & L.FRAME_DIRTY, mover.core.verify(1)]).toEqual([0, 0, 0]);
    // What is written back has gone through a mapping that is there no more: the frame remembers.
    mover.core.mapShared(a.table, 0);
    mover.core.zap(a.table, 0, 1);
    expect([mover.core.frameClean(file), mover.core.frameClean(file)]).toEqual([1, 0]);
    // A page that came with the right to write may have been written.
    mover.core.mapFrame(a.table, 9, file, L.KIND_PRESENT | L.ENTRY_WRITE);
    expect([mover.core.frameClean(file), mover.core.frameClean(file), mover.kinds(a.table, 9, 1)]).toEqual([1, 0, '1']);
  });

  test('a page that nobody else holds becomes the own page of its space without the right to write', () => {
    const mover = make();
    const [parent, child] = [mover.home(), mover.home()];
    mover.fresh(parent.table, 0);
    mover.core.forkRange(parent.table, child.table, 0, 1, HOST, 0);
    mover.core.mapOwn(parent.table, 0);
    expect(mover.entry(parent.table, 0).high & (L.ENTRY_ANON_EXCLUSIVE | L.ENTRY_WRITE)).toBe(0);
    mover.core.zap(child.table, 0, 1);
    mover.core.mapOwn(parent.table, 0);
    expect(mover.entry(parent.table, 0).high & (L.ENTRY_ANON_EXCLUSIVE | L.ENTRY_WRITE)).toBe(L.ENTRY_ANON_EXCLUSIVE);
    expect(mover.core.reprotect(parent.table, 0, 1, RW)).toBe(1);
    expect([mover.entry(parent.table, 0).high & L.ENTRY_WRITE, mover.core.verify(1)]).toEqual([L.ENTRY_WRITE, 0]);
  });

  test('used frames of a node are listed in pieces, and each piece says where the next one begins', () => {
    const mover = make();
    const { table } = mover.home();
    const frames = [0, 1, 2, 3, 4].map((vpn) => mover.on(GPU, table, vpn));
    mover.core.zap(table, 1, 2);
    const left = [frames[0], frames[3], frames[4]].sort((a, b) => a! - b!);
    const found: number[] = [];
    let from = 0;
    for (let calls = 0; from < mover.node(GPU, L.NODE_FRAMES); calls++) {
      expect(calls).toBeLessThan(3);
      found.push(...mover.list(mover.spare, mover.core.usedFrames(GPU, from, mover.spare, 2)));
      from = mover.bare.header(L.H_STOP_INDEX);
    }
    expect([found, mover.core.usedFrames(NPU, 0, mover.spare, 9)]).toEqual([left, 0]);
  });
});

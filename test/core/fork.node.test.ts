import { describe, expect, test } from 'vitest';
import * as L from '../../assembly/layout.ts';
import { flavours } from './harness.ts';
import { CXL, GPU, HOST, Mover, NPU } from './mover.ts';

const OWNED = L.ENTRY_WRITE | L.ENTRY_ANON_EXCLUSIVE;

describe.each(flavours)('%s', (flavour) => {
  const make = (...room: ConstructorParameters<typeof Mover> extends [unknown, ...infer R] ? R : never): Mover =>
    new Mover(flavour, ...room);

  test('host, private and coherent pages are shared: nobody writes, the TLB forgets, the frame counts both', () => {
    const mover = make();
    const [parent, child] = [mover.home(4), mover.home(4)];
    const frames = [
      mover.fresh(parent.table, 0, 1),
      mover.on(GPU, parent.table, 1),
      mover.on(CXL, parent.table, 2),
      mover.on(NPU, parent.table, 3),
    ];
    mover.touch(parent.tlb, 0, true);
    expect(mover.core.forkRange(parent.table, child.table, 0, 4, HOST, 0)).toBe(4);
    for (const { table } of [parent, child]) {
      expect([mover.kinds(table, 0, 4), [0, 1, 2, 3].map((vpn) => mover.entry(table, vpn).low)]).toEqual(['1 2 1 2', frames]);
      expect([0, 1, 2, 3].map((vpn) => mover.entry(table, vpn).high & OWNED)).toEqual([0, 0, 0, 0]);
    }
    expect(frames.map((frame) => mover.holders(frame))).toMatchObject(frames.map(() => ({ refs: 2, maps: 2 })));
    expect(frames.map((frame) => mover.payer(frame))).toEqual(frames.map(() => parent.index + 1));
    expect([mover.ways(parent.tlb).flat(), mover.touch(parent.tlb, 0, true), mover.touch(child.tlb, 0, false)]).toEqual([[], false, true]);
    // Rights that come back do not bring write.
    mover.core.reprotect(parent.table, 0, 4, 3);
    expect([mover.kinds(parent.table, 0, 4), mover.core.verify(1)]).toEqual(['1 2 1 2', 0]);
    mover.core.zap(parent.table, 0, 4);
    mover.core.zap(child.table, 0, 4);
    const used = [HOST, GPU, CXL, NPU].map((node) => mover.node(node, L.NODE_USED));
    expect([used, mover.bare.header(L.H_CHAIN_USED), mover.field(parent.table, L.TABLE_CHARGED), mover.core.verify(1)]).toEqual([
      [0, 0, 0, 0],
      0,
      0,
      0,
    ]);
  });

  test('device-private pages are left out where that is asked for, on their way as well, and leave no table page', () => {
    const mover = make();
    const [parent, child] = [mover.home(), mover.home()];
    mover.on(GPU, parent.table, 0);
    mover.on(NPU, parent.table, 1);
    const moving = mover.on(GPU, parent.table, 2);
    mover.collectFrames([moving]);
    const before = mover.kinds(parent.table, 0, 3);
    const pages = mover.bare.header(L.H_PAGES_USED);
    expect(mover.core.forkRange(parent.table, child.table, 0, 3, HOST, L.FORK_OMIT_DEVICE)).toBe(3);
    expect([mover.kinds(parent.table, 0, 3), mover.kinds(child.table, 0, 3), mover.bare.header(L.H_PAGES_USED)]).toEqual([
      before,
      '0 0 0',
      pages,
    ]);
    const coherent = mover.on(CXL, parent.table, 3);
    mover.core.forkRange(parent.table, child.table, 0, 4, HOST, L.FORK_OMIT_DEVICE);
    expect([mover.kinds(child.table, 0, 4), mover.entry(child.table, 3).low, mover.core.verify(0)]).toEqual(['0 0 0 1', coherent, 0]);
  });

  test('a pinned page of the parent’s own stays its own, and the child gets a copy at once', () => {
    const mover = make();
    const [parent, child] = [mover.home(4), mover.home()];
    const [pinned, shared] = [mover.fresh(parent.table, 0, 5), mover.fresh(parent.table, 1, 6)];
    mover.touch(parent.tlb, 0, true);
    mover.core.framePin(pinned, 0);
    mover.core.forkRange(parent.table, child.table, 0, 2, HOST, 0);
    const copy = mover.entry(child.table, 0).low;
    expect([mover.kinds(parent.table, 0, 2), mover.kinds(child.table, 0, 2), mover.entry(parent.table, 0).low]).toEqual([
      '1w 1',
      '1w 1',
      pinned,
    ]);
    expect([copy === pinned, mover.stampOf(copy), mover.payer(copy), mover.ways(parent.tlb).flat()]).toEqual([
      false,
      5,
      child.index + 1,
      ['0wd'],
    ]);
    expect(mover.entry(child.table, 0).high & OWNED).toBe(OWNED);
    // A page that is shared when it is pinned has no owner to protect: it is shared on.
    mover.core.framePin(shared, 0);
    const grandchild = mover.home();
    mover.core.forkRange(parent.table, grandchild.table, 1, 1, HOST, 0);
    expect(mover.entry(grandchild.table, 1).low).toBe(shared);
    for (const frame of [pinned, shared]) mover.core.frameUnpin(frame);
    expect(mover.core.verify(1)).toBe(0);
  });

  test('the page of zeros, files’ pages, special and poisoned ones are inherited, file pages without write', () => {
    const mover = make();
    const [parent, child] = [mover.home(), mover.home()];
    mover.core.mapZero(parent.table, 0);
    const file = mover.take(HOST);
    mover.setField(mover.frameRecord(file), L.FRAME_FLAGS, mover.frame(file, L.FRAME_FLAGS) | L.FRAME_FILE);
    mover.core.mapFrame(parent.table, 1, file, L.KIND_PRESENT | L.ENTRY_WRITE);
    mover.core.framePut(file);
    mover.core.mapSpecial(parent.table, 2, 77, L.ENTRY_WRITE);
    mover.core.rangeMap(parent.table, 3, 1, 0, L.KIND_POISON);
    // A pin on a file's page is no reason to copy it.
    mover.core.framePin(file, 0);
    mover.core.forkRange(parent.table, child.table, 0, 5, HOST, 0);
    for (const { table } of [parent, child]) expect(mover.kinds(table, 0, 5)).toBe('1 1 7w 8 0');
    expect([mover.entry(child.table, 1).low, mover.holders(file).maps, mover.entry(child.table, 2).low]).toEqual([file, 2, 77]);
    mover.core.frameUnpin(file);
    expect(mover.core.verify(1)).toBe(0);
  });

  test('an exclusive page is present and shared afterwards; locked, it stops the fork there, with its frame', () => {
    const mover = make();
    const [parent, child] = [mover.home(), mover.home()];
    const frames = [0, 1, 2, 3].map((vpn) => mover.fresh(parent.table, vpn));
    for (const vpn of [1, 2, 3]) mover.core.exclusiveSet(parent.table, vpn);
    mover.core.reprotect(parent.table, 2, 1, 0);
    mover.core.framePin(frames[3]!, 0);
    mover.core.frameTryLock(frames[1]!);
    expect([mover.core.forkRange(parent.table, child.table, 0, 4, HOST, 0), mover.stop]).toEqual([1, L.STOP_LOCKED]);
    expect([mover.bare.header(L.H_STOP_ENTRY_LOW), mover.kinds(parent.table, 0, 2), mover.kinds(child.table, 0, 2)]).toEqual([
      frames[1],
      '1 3w',
      '1 0',
    ]);
    mover.core.frameUnlock(frames[1]!);
    expect(mover.core.forkRange(parent.table, child.table, 1, 3, HOST, 0)).toBe(3);
    // The pinned one keeps its frame for itself, though a fault must bring write back; the child has a copy.
    expect([mover.kinds(parent.table, 0, 4), mover.kinds(child.table, 0, 4)]).toEqual(['1 1 6 1', '1 1 6 1']);
    expect([mover.entry(parent.table, 3).high & OWNED, mover.entry(child.table, 3).low === frames[3]]).toEqual([
      L.ENTRY_ANON_EXCLUSIVE,
      false,
    ]);
    expect(mover.core.canReuse(parent.table, 3)).toBe(1);
    mover.core.frameUnpin(frames[3]!);
    expect(mover.core.verify(1)).toBe(0);
  });

  test('a page that the CPU may only read for a device is shared, or stays the parent’s, without that promise', () => {
    const mover = make();
    const [parent, child] = [mover.home(), mover.home()];
    const frames = [0, 1].map((vpn) => mover.fresh(parent.table, vpn));
    for (const vpn of [0, 1]) mover.core.cpuReadsSet(parent.table, vpn);
    mover.core.framePin(frames[1]!, 0);
    mover.core.forkRange(parent.table, child.table, 0, 2, HOST, 0);
    const bits = OWNED | L.ENTRY_CPU_READS;
    expect([0, 1].map((vpn) => mover.entry(parent.table, vpn).high & bits)).toEqual([0, L.ENTRY_ANON_EXCLUSIVE]);
    expect([0, 1].map((vpn) => mover.entry(child.table, vpn).high & bits)).toEqual([0, L.ENTRY_ANON_EXCLUSIVE]);
    mover.core.frameUnpin(frames[1]!);
    expect(mover.core.verify(1)).toBe(0);
  });

  test('a page on its way arrives in both spaces, read-only', () => {
    for (const late of [false, true]) {
      const mover = make();
      const [parent, child] = [mover.home(), mover.home()];
      mover.fresh(parent.table, 0, 4);
      mover.collect(parent.table, 0, 2);
      const to = [mover.take(GPU), mover.take(GPU)];
      mover.aim(to);
      mover.core.migrateCopy(mover.source, mover.target, 2);
      if (!late) mover.core.forkRange(parent.table, child.table, 0, 2, HOST, 0);
      mover.commit(parent.table, 0, 2);
      if (late) mover.core.forkRange(parent.table, child.table, 0, 2, HOST, 0);
      expect(mover.core.verify(0)).toBe(0);
      mover.core.migrateFinalize(2, mover.source, mover.target);
      expect(mover.kinds(parent.table, 0, 2)).toBe(late ? '2 2' : '2 2w');
      expect(mover.kinds(child.table, 0, 2)).toBe(late ? '2 2' : '2 0');
      expect([mover.entry(parent.table, 0).low, mover.entry(child.table, 0).low, mover.stampOf(to[0]!)]).toEqual([to[0], to[0], 4]);
      expect([mover.node(HOST, L.NODE_USED), mover.core.verify(1)]).toEqual([0, 0]);
    }
  });

  test('a fork that runs out of table pages, records or frames stops between two pages and is resumed there', () => {
    const starved = make({ chains: 4, tablePages: 8 });
    const [parent, child] = [starved.home(), starved.home()];
    // The first shared page takes two records of three.
    const frames = [0, 1].map((vpn) => starved.fresh(parent.table, vpn));
    expect([starved.core.forkRange(parent.table, child.table, 0, 2, HOST, 0), starved.stop]).toEqual([1, L.STOP_CHAIN]);
    expect([starved.kinds(parent.table, 0, 2), starved.kinds(child.table, 0, 2), starved.core.verify(1)]).toEqual(['1 1w', '1 0', 0]);
    starved.core.framePin(frames[1]!, 0);
    expect(starved.core.forkRange(parent.table, child.table, 1, 1, HOST, 0)).toBe(1);
    starved.core.frameUnpin(frames[1]!);

    const tables = make({ tablePages: 7 });
    const [a, b] = [tables.home(), tables.home()];
    tables.fresh(a.table, 7);
    expect([tables.core.forkRange(a.table, b.table, 0, 9, HOST, 0), tables.stop, tables.kinds(a.table, 7, 1)]).toEqual([
      7,
      L.STOP_TABLES,
      '1w',
    ]);
    expect([tables.bare.header(L.H_PAGES_USED), tables.core.verify(1)]).toEqual([5, 0]);

    const framesOut = make({ nodes: [{ kind: L.NODE_IS_HOST, frames: 3 }] });
    const [c, d] = [framesOut.home(), framesOut.home()];
    const pinned = [0, 1].map((vpn) => framesOut.fresh(c.table, vpn));
    for (const frame of pinned) framesOut.core.framePin(frame, 0);
    expect([framesOut.core.forkRange(c.table, d.table, 0, 2, HOST, 0), framesOut.stop]).toEqual([1, L.STOP_FRAMES]);
    expect([framesOut.kinds(c.table, 0, 2), framesOut.kinds(d.table, 0, 2)]).toEqual(['1w 1w', '1w 0']);
    for (const frame of pinned) framesOut.core.frameUnpin(frame);
    expect(framesOut.core.verify(1)).toBe(0);
  });

  test('one range after the other, over stretches that map nothing', () => {
    const mover = make();
    const [parent, child] = [mover.home(), mover.home()];
    const pages = [3, 511, 512, 2 ** 20, 2 ** 20 + 2 ** 19];
    for (const vpn of pages) mover.fresh(parent.table, vpn, vpn);
    expect(mover.core.forkRange(parent.table, child.table, 4, 2 ** 22, HOST, 0)).toBe(2 ** 22);
    expect(mover.core.forkRange(parent.table, child.table, 0, 4, HOST, 0)).toBe(4);
    expect(pages.map((vpn) => mover.entry(child.table, vpn).low)).toEqual(pages.map((vpn) => mover.entry(parent.table, vpn).low));
    expect([mover.field(child.table, L.TABLE_PAGES), mover.core.verify(1)]).toEqual([5, 0]);
  });
});

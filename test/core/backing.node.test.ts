/** The second tier in the core: pages that go and come back, what is kept of them there, and which pages of the host are cold. */
import { describe, expect, test } from 'vitest';
import * as L from '../../assembly/layout.ts';
import { flavours } from './harness.ts';
import { GPU, HOST, MOVES, Mover } from './mover.ts';

const TIER = 3;
const IN = L.SELECT_SWAP | L.SELECT_NO_HOLES;

class Tiered extends Mover {
  constructor(flavour: ConstructorParameters<typeof Mover>[0]) {
    super(flavour, {
      nodes: [
        { kind: L.NODE_IS_HOST, frames: 16 },
        { kind: L.NODE_IS_PRIVATE, frames: 16, owner: 1 },
        { kind: L.NODE_IS_TIER, frames: 16 },
      ],
    });
    this.setHeader(L.H_BACKING, this.spare + (1 << 15));
  }

  /** The page of a frame goes to a slot of the second tier, or to this one, which has it. */
  out(frame: number, slot = this.take(TIER)): number {
    const collected = this.collectFrames([frame]);
    expect((collected[0]![1] & MOVES) >>> 0).toBe(MOVES);
    this.aim([slot]);
    expect(this.finish(0, 0, 1)).toBe(1);
    return slot;
  }

  /** Page 5 comes back. */
  back(table: number, node = HOST): number {
    expect(this.collect(table, 5, 1, IN)[0]![1] & MOVES).toBe(MOVES);
    const frame = this.take(node);
    this.aim([frame]);
    expect(this.finish(table, 5, 1)).toBe(1);
    return frame;
  }

  slotOf(frame: number): number | undefined {
    const backing = this.core.backingOf(frame);
    return backing === 0 ? undefined : backing - 1;
  }

  cold(from: number, most = 16, look = 16, payer = 0): { pages: number[]; hand: number } {
    const found = this.core.coldFrames(HOST, from, look, this.bare.areas + L.AREA_LIST, most, payer);
    const pages = this.list(this.bare.areas + L.AREA_LIST, found).map((frame) => frame - this.base[HOST]!);
    return { pages, hand: this.bare.header(L.H_STOP_INDEX) };
  }
}

describe.each(flavours)('%s', (flavour) => {
  const make = (): { mover: Tiered; table: number; tlb: number; frame: number } => {
    const mover = new Tiered(flavour);
    const { table, tlb } = mover.home(4);
    return { mover, table, tlb, frame: mover.fresh(table, 5, 50) };
  };

  describe('a page of the second tier', () => {
    test('is out of reach, without marks, and its host frame is free; it comes back with its bytes and its rights', () => {
      const { mover, table, tlb, frame } = make();
      mover.touch(tlb, 5, true);
      const slot = mover.out(frame);
      expect(mover.entry(table, 5)).toMatchObject({ kind: L.KIND_SWAP, low: slot });
      expect(mover.entry(table, 5).high & (L.ENTRY_DIRTY | L.ENTRY_ACCESSED)).toBe(0);
      expect([mover.touch(tlb, 5, false), mover.ways(tlb).flat(), mover.node(HOST, L.NODE_USED), mover.core.verify(1)]).toEqual([
        false,
        [],
        0,
        0,
      ]);
      const came = mover.back(table);
      expect([mover.touch(tlb, 5, true), mover.stampOf(came), mover.core.verify(1)]).toEqual([true, 50, 0]);
    });

    test('is taken by nothing that does not ask for it', () => {
      const { mover, table, frame } = make();
      mover.out(frame);
      expect(mover.collect(table, 5, 1)).toEqual([[0, 0]]);
      mover.core.zap(table, 5, 1);
      expect([mover.node(TIER, L.NODE_USED), mover.core.verify(1)]).toEqual([0, 0]);
    });
  });

  describe('what has come back', () => {
    test('keeps its slot, which nobody maps, and goes there again without a copy', () => {
      const { mover, table, frame } = make();
      const slot = mover.out(frame);
      const came = mover.back(table);
      expect([mover.slotOf(came), mover.holders(slot)]).toMatchObject([slot, { refs: 1, maps: 0 }]);
      // Were it copied, it would have these bytes.
      mover.stamp(came, 51);
      mover.core.frameGet(slot);
      expect(mover.out(came, slot)).toBe(slot);
      expect([mover.stampOf(slot), mover.holders(slot), mover.core.verify(1)]).toMatchObject([50, { refs: 1, maps: 1 }, 0]);
    });

    test('loses it when it was written: at the next move it is copied to another one', () => {
      const { mover, table, tlb, frame } = make();
      const first = mover.out(frame);
      const came = mover.back(table);
      mover.touch(tlb, 5, true);
      mover.stamp(came, 51);
      const second = mover.out(came);
      expect([second === first, mover.stampOf(second), mover.holders(first).state === L.STATE_USED]).toEqual([false, 51, false]);
      expect([mover.node(TIER, L.NODE_USED), mover.core.verify(1)]).toEqual([1, 0]);
    });

    test('takes it along to another node', () => {
      const { mover, table, frame } = make();
      const slot = mover.out(frame);
      const came = mover.back(table);
      mover.collect(table, 5, 1);
      const to = mover.take(GPU);
      mover.aim([to]);
      mover.finish(table, 5, 1);
      expect([mover.slotOf(came), mover.slotOf(to), mover.core.verify(1)]).toEqual([undefined, slot, 0]);
    });

    test('is not kept for a page that is unmapped while it comes back', () => {
      const { mover, table, frame } = make();
      mover.out(frame);
      expect(mover.collect(table, 5, 1, IN)[0]![1] & MOVES).toBe(MOVES);
      const to = mover.take(HOST);
      mover.aim([to]);
      mover.core.zap(table, 5, 1);
      mover.finish(table, 5, 1);
      expect([mover.slotOf(to), mover.holders(to).state === L.STATE_USED]).toEqual([undefined, false]);
      expect([mover.node(HOST, L.NODE_USED), mover.node(TIER, L.NODE_USED), mover.core.verify(1)]).toEqual([0, 0, 0]);
    });

    test.each(['pinned', 'made exclusive', 'freed', 'told'] as const)('gives it back when it is %s', (how) => {
      const { mover, table, frame } = make();
      mover.out(frame);
      const came = mover.back(table);
      if (how === 'pinned') mover.core.framePin(came, 0);
      else if (how === 'made exclusive') mover.core.exclusiveSet(table, 5);
      else if (how === 'freed') mover.core.zap(table, 5, 1);
      else mover.core.backingDrop(came);
      expect([mover.slotOf(came), mover.node(TIER, L.NODE_USED), mover.core.verify(1)]).toEqual([undefined, 0, 0]);
    });
  });

  test('the self-check knows an entry that lies about the tier, and a backing that is none', () => {
    const { mover, table, frame } = make();
    mover.core.rangeMap(table, 5, 1, frame, L.KIND_SWAP);
    expect([mover.core.verify(1), mover.bare.header(L.H_VERIFY_RULE)]).toEqual([22, 22]);
    mover.core.rangeMap(table, 5, 1, frame, L.KIND_PRESENT);
    mover.setField(mover.bare.header(L.H_BACKING), frame * 4, mover.take(GPU) + 1);
    expect([mover.core.verify(0), mover.bare.header(L.H_VERIFY_RULE)]).toEqual([23, 23]);
  });

  describe('cold frames', () => {
    const filled = (pages = 6): { mover: Tiered; table: number; tlb: number; frames: number[] } => {
      const mover = new Tiered(flavour);
      const { table, tlb } = mover.home(4);
      const frames = Array.from({ length: pages }, (_, i) => mover.fresh(table, i));
      // What has been faulted in has been used.
      expect(mover.cold(0)).toEqual({ pages: [], hand: 0 });
      return { mover, table, tlb, frames };
    };

    test('are those that were not used since the hand was there last', () => {
      const { mover, tlb } = filled();
      for (let i = 0; i < 6; i++) mover.touch(tlb, i, false);
      expect(mover.cold(0)).toEqual({ pages: [], hand: 0 });
      mover.touch(tlb, 2, false);
      mover.touch(tlb, 4, true);
      expect(mover.cold(0).pages).toEqual([0, 1, 3, 5]);
      expect(mover.cold(0).pages).toEqual([0, 1, 2, 3, 4, 5]);
    });

    test('are looked for from the hand on, round once, no more than are asked for', () => {
      const { mover } = filled();
      expect(mover.cold(4, 3)).toEqual({ pages: [4, 5, 0], hand: 1 });
      expect(mover.cold(1, 16, 3)).toEqual({ pages: [1, 2, 3], hand: 4 });
      expect(mover.cold(99, 1)).toEqual({ pages: [0], hand: 1 });
    });

    test('are not those that somebody locks, pins or holds, that are of a file, or that another space pays for', () => {
      const { mover, table, frames } = filled();
      const other = mover.home();
      mover.fresh(other.table, 9);
      mover.cold(0);
      mover.core.frameTryLock(frames[0]!);
      mover.core.framePin(frames[1]!, 0);
      mover.core.frameGet(frames[2]!);
      mover.setField(mover.frameRecord(frames[3]!), L.FRAME_FLAGS, mover.frame(frames[3]!, L.FRAME_FLAGS) | L.FRAME_FILE);
      expect(mover.cold(0).pages).toEqual([4, 5, 6]);
      expect(mover.cold(0, 16, 16, mover.payer(frames[4]!)).pages).toEqual([4, 5]);
      expect(mover.kinds(table, 0, 6)).toBe('1w 1w 1w 1w 1w 1w');
    });

    test('are used where any of their mappings was, and by a device that has them for itself', () => {
      const { mover, table, tlb, frames } = filled(3);
      const child = mover.home(4);
      mover.core.forkRange(table, child.table, 0, 1, HOST, 0);
      mover.touch(child.tlb, 0, false);
      mover.core.exclusiveSet(table, 1);
      expect(mover.cold(0).pages).toEqual([2]);
      expect([mover.holders(frames[0]!).maps, mover.touch(tlb, 2, false)]).toEqual([2, true]);
      expect(mover.cold(0).pages).toEqual([0]);
    });
  });
});

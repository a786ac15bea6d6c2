import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import * as L from '../../assembly/layout.ts';
import { flavours } from './harness.ts';
import { NOTHING, SmallCore } from './small-core.ts';

const HOST = 1;
const GPU = 2;
const NPU = 3;

describe.each(flavours)('%s', (flavour) => {
  const make = (): SmallCore =>
    new SmallCore(flavour, {
      nodes: [
        { kind: L.NODE_IS_HOST, frames: 16 },
        { kind: L.NODE_IS_PRIVATE, frames: 16, owner: 1 },
        { kind: L.NODE_IS_PRIVATE, frames: 16, owner: 2, alloc: L.ALLOC_DRIVER, backed: false },
      ],
    });

  test('a frame lives as long as its last reference, and then it is the next to be handed out', () => {
    const small = make();
    const { core } = small;
    const frame = core.frameTake(HOST, 0);
    expect(small.holders(frame)).toEqual({ refs: 1, maps: 0, pins: 0, state: L.STATE_USED });
    core.frameGet(frame);
    core.framePut(frame);
    expect(small.holders(frame).state).toBe(L.STATE_USED);
    core.framePut(frame);
    expect(small.node(HOST, L.NODE_USED)).toBe(0);
    expect(core.frameTake(HOST, 0)).toBe(frame);
  });

  test('the tails of a big frame name its head, belong to its node, and go with it', () => {
    const small = make();
    const { core } = small;
    const head = core.frameTake(GPU, 2);
    const tails = [1, 2, 3].map((i) => [small.holders(head + i).state, small.frame(head + i, L.FRAME_PREVIOUS)]);
    expect(tails).toEqual([1, 2, 3].map(() => [L.STATE_TAIL, head]));
    expect((small.frame(head + 3, L.FRAME_FLAGS) & L.FRAME_NODE) >>> L.FRAME_NODE_SHIFT).toBe(GPU);
    expect(core.frameBytes(head + 3) - core.frameBytes(head)).toBe(3 * L.PAGE_BYTES);
    small.u8.fill(7, core.frameBytes(head), core.frameBytes(head) + 5 * L.PAGE_BYTES);
    expect(core.frameClear(head)).toBe(1);
    expect(small.u8[core.frameBytes(head) + 4 * L.PAGE_BYTES - 1]).toBe(0);
    expect(small.u8[core.frameBytes(head) + 4 * L.PAGE_BYTES]).toBe(7);
    expect(core.verify(0)).toBe(0);
    core.framePut(head);
    expect(core.frameTake(GPU, 4)).toBe(small.base[GPU]);
  });

  test('pins are references that are told apart; the long-term mark goes with the last of them', () => {
    const small = make();
    const { core } = small;
    const frame = core.frameTake(HOST, 0);
    const longTerm = (): boolean => (small.frame(frame, L.FRAME_FLAGS) & L.FRAME_LONG_TERM) !== 0;
    expect(core.frameUnpin(frame)).toBe(0);
    core.framePin(frame, 0);
    expect(longTerm()).toBe(false);
    core.framePin(frame, 1);
    core.framePin(frame, 0);
    expect(small.holders(frame)).toMatchObject({ refs: 4, pins: 3, maps: 0 });
    expect([core.frameUnpin(frame), core.frameUnpin(frame), longTerm()]).toEqual([1, 1, true]);
    expect([core.frameUnpin(frame), longTerm(), core.frameUnpin(frame)]).toEqual([1, false, 0]);
    expect(small.holders(frame)).toMatchObject({ refs: 1, pins: 0 });
    core.framePin(frame, 1);
    core.framePut(frame);
    expect(small.holders(frame).state).toBe(L.STATE_USED);
    expect(core.frameUnpin(frame)).toBe(1);
    expect(small.node(HOST, L.NODE_USED)).toBe(0);
  });

  test('the page lock is had once, and is not had by the frame after it', () => {
    const small = make();
    const { core } = small;
    const [a, b] = [core.frameTake(HOST, 0), core.frameTake(HOST, 0)];
    expect([core.frameTryLock(a), core.frameTryLock(a), core.frameTryLock(b)]).toEqual([1, 0, 1]);
    core.frameUnlock(a);
    expect([core.frameTryLock(a), core.frameTryLock(b)]).toEqual([1, 0]);
    expect(small.holders(a)).toMatchObject({ refs: 1, state: L.STATE_USED });
  });

  test('a driver claims each frame of its own once, and is told of every one that is freed, by its head', () => {
    const small = make();
    const { core } = small;
    const base = small.base[NPU]!;
    expect(core.frameClaim(base + 4, 2)).toBe(1);
    expect([core.frameClaim(base + 4, 0), core.frameClaim(base + 7, 0), core.frameClaim(base, 3)]).toEqual([0, 0, 0]);
    expect(small.node(NPU, L.NODE_USED)).toBe(4);
    expect(core.frameClaim(base + 8, 0)).toBe(1);
    core.framePut(base + 8);
    core.framePut(base + 4);
    expect(small.freed()).toEqual([base + 8, base + 4]);
    expect([small.node(NPU, L.NODE_USED), small.node(NPU, L.NODE_USED_PEAK)]).toEqual([0, 5]);
    expect(core.frameClaim(base, 3)).toBe(1);
    expect([core.frameBytes(base), core.frameClear(base)]).toEqual([0, 0]);
    expect(core.verify(0)).toBe(0);
  });

  test("the core's own nodes report no freed frame", () => {
    const small = make();
    small.core.framePut(small.core.frameTake(GPU, 0));
    expect(small.freed()).toEqual([]);
  });

  test('a space pays for a frame from its first write to the last reference, once', () => {
    const small = make();
    const { core } = small;
    const { table, index } = small.home();
    const charged = (): number => small.field(table, L.TABLE_CHARGED);
    const frame = core.mapFresh(table, 5, HOST);
    expect([charged(), small.payer(frame)]).toEqual([1, index + 1]);
    core.frameGet(frame);
    expect(core.zap(table, 0, 10)).toBe(10);
    expect(charged()).toBe(1);
    core.framePut(frame);
    expect([charged(), small.payer(frame)]).toEqual([0, 0]);
  });

  describe('victims', () => {
    /** A core with `n` mapped frames on the gpu, touched in order. */
    const used = (n: number): { small: SmallCore; frames: number[]; table: number } => {
      const small = make();
      const { table } = small.home();
      const frames = Array.from({ length: n }, (_, i) => small.core.mapFresh(table, i, GPU));
      for (const frame of frames) small.core.frameTouch(frame);
      return { small, frames, table };
    };
    const victims = (small: SmallCore, max: number, spared: readonly number[] = [], payer = 0): number[] => {
      const at = small.spare + 4096;
      small.u32.set(spared, at >>> 2);
      const found = small.core.victims(GPU, small.spare, max, at, spared.length, payer);
      return small.list(small.spare, found);
    };

    test('are the oldest frames of their node first, at most as many as asked for', () => {
      const { small, frames } = used(5);
      expect(victims(small, 9)).toEqual(frames);
      small.core.frameTouch(frames[1]!);
      expect(victims(small, 9)).toEqual([frames[0], frames[2], frames[3], frames[4], frames[1]]);
      expect(victims(small, 2)).toEqual([frames[0], frames[2]]);
      expect(victims(small, 0)).toEqual([]);
    });

    test('pass over what is locked, pinned, spared or not mapped', () => {
      const { small, frames, table } = used(6);
      const { core } = small;
      core.frameTryLock(frames[0]!);
      core.framePin(frames[1]!, 0);
      core.frameGet(frames[3]!);
      core.zap(table, 3, 1);
      expect(victims(small, 9, [frames[2]!, 0])).toEqual([frames[4], frames[5]]);
      core.frameUnlock(frames[0]!);
      core.frameUnpin(frames[1]!);
      core.framePut(frames[3]!);
      expect(victims(small, 9)).toEqual([frames[0], frames[1], frames[2], frames[4], frames[5]]);
    });

    test('can be those that one space pays for', () => {
      const { small, frames, table } = used(2);
      const other = small.home().table;
      const theirs = small.core.mapFresh(other, 7, GPU);
      small.core.frameTouch(theirs);
      expect(victims(small, 9, [], small.field(table, L.TABLE_INDEX) + 1)).toEqual(frames);
      expect(victims(small, 9, [], small.field(other, L.TABLE_INDEX) + 1)).toEqual([theirs]);
      expect(victims(small, 9, [theirs], small.field(other, L.TABLE_INDEX) + 1)).toEqual([]);
    });
  });

  test('any sequence of takes, claims, references, pins, locks and touches is what a list of frames says', () => {
    type Model = { refs: number; pins: number; locked: boolean };
    const verbs = fc.constantFrom('take', 'claim', 'get', 'put', 'put', 'pin', 'unpin', 'lock', 'unlock', 'touch', 'touch', 'free');
    fc.assert(
      fc.property(fc.array(fc.tuple(verbs, fc.nat(100)), { maxLength: 120 }), (sequence) => {
        const small = make();
        const { core } = small;
        const live = new Map<number, Model>();
        const used: number[] = [];
        const freed: number[] = [];
        const begin = (frame: number): void => {
          expect(live.has(frame)).toBe(false);
          live.set(frame, { refs: 1, pins: 0, locked: false });
        };
        const put = (frame: number): void => {
          const model = live.get(frame)!;
          if (--model.refs > 0) return;
          live.delete(frame);
          if (used.includes(frame)) used.splice(used.indexOf(frame), 1);
          if (frame >= small.base[NPU]!) freed.push(frame);
        };
        for (const [verb, n] of sequence) {
          const frame = [...live.keys()][n % Math.max(1, live.size)];
          const model = frame === undefined ? undefined : live.get(frame)!;
          if (verb === 'take') {
            const taken = core.frameTake(GPU, 0) >>> 0;
            const full = [...live.keys()].filter((each) => each < small.base[NPU]!).length === 16;
            if (full) expect(taken).toBe(NOTHING);
            else begin(taken);
          } else if (verb === 'claim') {
            const wanted = small.base[NPU]! + (n % 16);
            expect(core.frameClaim(wanted, 0)).toBe(live.has(wanted) ? 0 : 1);
            if (!live.has(wanted)) begin(wanted);
          } else if (frame === undefined || !model) continue;
          else if (verb === 'get') {
            core.frameGet(frame);
            model.refs++;
          } else if (verb === 'put') {
            // A pin's reference is the pin's to give.
            if (model.refs === model.pins) continue;
            core.framePut(frame);
            put(frame);
          } else if (verb === 'pin') {
            core.framePin(frame, n & 1);
            model.pins++;
            model.refs++;
          } else if (verb === 'unpin') {
            expect(core.frameUnpin(frame)).toBe(model.pins > 0 ? 1 : 0);
            if (model.pins === 0) continue;
            model.pins--;
            put(frame);
          } else if (verb === 'lock') {
            expect(core.frameTryLock(frame)).toBe(model.locked ? 0 : 1);
            model.locked = true;
          } else if (verb === 'unlock') {
            core.frameUnlock(frame);
            model.locked = false;
          } else if (verb === 'touch') {
            if (frame >= small.base[NPU]!) continue;
            core.frameTouch(frame);
            if (used.includes(frame)) used.splice(used.indexOf(frame), 1);
            used.push(frame);
          } else {
            expect(small.freed()).toEqual(freed.splice(0));
          }
        }
        for (const [frame, { refs, pins, locked }] of live) {
          expect(small.holders(frame)).toEqual({ refs, pins, maps: 0, state: L.STATE_USED });
          expect((small.frame(frame, L.FRAME_FLAGS) & L.FRAME_LOCKED) !== 0).toBe(locked);
        }
        const walked: number[] = [];
        for (let link = small.node(GPU, L.NODE_OLDEST); link; link = small.frame(link - 1, L.FRAME_NEXT)) walked.push(link - 1);
        expect(walked).toEqual(used);
        expect(small.node(GPU, L.NODE_NEWEST)).toBe(used.length > 0 ? used.at(-1)! + 1 : 0);
        expect(small.freed()).toEqual(freed);
        expect(small.node(GPU, L.NODE_USED) + small.node(NPU, L.NODE_USED)).toBe(live.size);
        expect(core.verify(0)).toBe(0);
      }),
      { numRuns: 200 },
    );
  });
});

/** Candidates for eviction, and the marks of devices on them, against lists of frames. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import * as L from '../../assembly/layout.ts';
import { flavours } from './harness.ts';
import { SmallCore } from './small-core.ts';

const HOST = 1;
const GPU = 2;
const BOTH = L.ENTRY_ACCESSED | L.ENTRY_DIRTY;
const PRESENT = L.KIND_PRESENT | L.ENTRY_WRITE;

describe.each(flavours)('%s', (flavour) => {
  /** A core with `n` mapped frames of the gpu, of the pages from 0 on, the oldest first; the first one of the gpu is 512. */
  const make = (n: number): { small: SmallCore; frames: number[]; home: number; index: number; table: number } => {
    const nodes = [
      { kind: L.NODE_IS_HOST, frames: 511 },
      { kind: L.NODE_IS_HOST, frames: 1024, backed: false },
    ];
    const small = new SmallCore(flavour, { nodes });
    const { table: home, index } = small.home();
    const frames = Array.from({ length: n }, (_, i) => small.core.mapFresh(home, i, GPU));
    for (const frame of frames) small.core.frameTouch(frame);
    return { small, frames, home, index, table: small.home().table };
  };

  /** Makes frames such as may not go. */
  const hold = (small: SmallCore, frame: number, how: string): void => {
    if (how === 'locked') small.core.frameTryLock(frame);
    else if (how === 'pinned') small.core.framePin(frame, 0);
    else if (how === 'spared') small.core.frameMark(frame, 1, 0, L.FRAME_SPARED);
  };

  const victims = (small: SmallCore, passed: readonly number[], payer: number): number[] => {
    small.u32.set(passed, (small.spare + 8192) >>> 2);
    return small.list(small.spare, small.core.victims(GPU, small.spare, 1000, small.spare + 8192, passed.length, payer));
  };

  const byUse = (small: SmallCore, used: readonly number[], room: number, passed: readonly number[], payer: number): number[] => {
    small.u32.set(passed, (small.spare + 8192) >>> 2);
    small.u32.set(used, (small.spare + 16384) >>> 2);
    const found = small.core.victimsByUse(
      GPU,
      small.spare + 16384,
      used.length,
      room,
      small.spare,
      small.spare + 8192,
      passed.length,
      payer,
    );
    return small.list(small.spare, found);
  };

  test('candidates by use are what has been used, and the oldest others, as many as are asked for', () => {
    const how = fc.constantFrom('', '', '', '', 'locked', 'pinned', 'spared', 'passed');
    const list = fc.array(fc.record({ how, used: fc.boolean(), touched: fc.boolean() }), { maxLength: 24 });
    fc.assert(
      fc.property(list, fc.nat(10), fc.constantFrom(0, 0, 1, 2), (all, room, payer) => {
        const { small, frames } = make(all.length);
        all.forEach((each, i) => void (each.touched && small.core.frameTouch(frames[i]!)));
        all.forEach((each, i) => hold(small, frames[i]!, each.how));
        const of = (is: (each: (typeof all)[number]) => boolean): number[] => frames.filter((_, i) => is(all[i]!));
        const [passed, used] = [of((each) => each.how === 'passed'), of((each) => each.used)];
        const every = victims(small, passed, payer);
        const others = every.filter((frame) => !used.includes(frame)).slice(0, room);
        const wanted = every.filter((frame) => used.includes(frame) || others.includes(frame));
        expect(byUse(small, [...used, ...used.slice(0, 2)].reverse(), room, passed, payer)).toEqual(wanted);
        for (const frame of frames) expect(small.frame(frame, L.FRAME_FLAGS) & L.FRAME_SOUGHT).toBe(0);
        expect(victims(small, passed, payer)).toEqual(every);
      }),
      { numRuns: 200 },
    );
  });

  test('of candidates by use a huge one makes room for all of its pages, and what is on no list is not looked for again', () => {
    const { small, frames } = make(3);
    const { table } = small.home();
    expect(small.core.mapHuge(table, 512, GPU, L.ENTRY_WRITE, 0)).toBe(1);
    const huge = small.entry(table, 512).low;
    small.core.frameTouch(huge);
    for (const frame of frames) small.core.frameTouch(frame);
    expect(byUse(small, [], 512, [], 0)).toEqual([huge]);
    expect(byUse(small, [huge], 2, [], 0)).toEqual([huge, frames[0], frames[1]]);
    const gone = small.core.frameTake(HOST, 0);
    expect(byUse(small, [gone, frames[2]!], 1, [], 0)).toEqual([huge, frames[2]]);
    expect(small.frame(gone, L.FRAME_FLAGS) & L.FRAME_SOUGHT).toBe(0);
  });

  /** The marks of what may go, in calls of at most `max`, as page -> dirty. */
  const harvest = (small: SmallCore, table: number, max: number, passed: readonly number[], payer = 0): [number, boolean][] => {
    const found: [number, boolean][] = [];
    small.u32.set(passed, (small.spare + 32768) >>> 2);
    for (let from = 0; from >= 0;) {
      const marks = small.core.harvestVictims(table, from, GPU, small.spare, max, small.spare + 32768, passed.length, payer);
      const words = small.list(small.spare, marks * 2);
      for (let at = 0; at < words.length; at += 2)
        found.push([
          (words[at + 1]! % 2 ** L.HARVESTED_DIRTY_SHIFT) * 2 ** 32 + words[at]!,
          words[at + 1]! >= 2 ** L.HARVESTED_DIRTY_SHIFT,
        ]);
      const full = small.stop === L.STOP_FULL;
      from = full ? small.bare.header(L.H_STOP_VPN_HIGH) * 2 ** 32 + small.bare.header(L.H_STOP_VPN_LOW) : -1;
    }
    return found;
  };

  test('marks are taken of pages whose frames may go, and stay on all others', () => {
    const how = fc.constantFrom('', '', '', 'locked', 'pinned', 'spared', 'passed', 'host', 'absent');
    const marks = fc.constantFrom(0, 0, 0, L.ENTRY_ACCESSED, BOTH);
    const list = fc.array(fc.record({ how, marks, after: fc.constantFrom(0, 0, 0, 1, 9, 700, 2 ** 33) }), { maxLength: 40 });
    fc.assert(
      fc.property(list, fc.constantFrom(1, 2, 7, 100), fc.constantFrom(0, 0, 1, 9), (all, max, payer) => {
        const { small, frames, table, index } = make(all.length);
        const { table: other } = small.home();
        let vpn = 5;
        const pages = all.map((each, i) => {
          hold(small, frames[i]!, each.how);
          const frame = each.how === 'host' ? small.core.mapFresh(other, i, HOST) : frames[i]!;
          const high = each.how === 'absent' ? L.KIND_MIGRATION : PRESENT;
          const page = { ...each, frame, high: high | each.marks, vpn };
          small.core.rangeMap(table, vpn, 1, frame, page.high);
          vpn += 1 + each.after;
          return page;
        });
        const passed = pages.filter((page) => page.how === 'passed').map(({ frame }) => frame);
        const goes = payer === 0 || payer === index + 1 ? pages.filter((page) => page.how === '' && page.marks !== 0) : [];
        expect(harvest(small, table, max, passed, payer)).toEqual(goes.map((page) => [page.vpn, page.marks === BOTH]));
        for (const page of pages) expect(small.entry(table, page.vpn).high).toBe(goes.includes(page) ? page.high & ~BOTH : page.high);
        expect(harvest(small, table, max, passed, payer)).toEqual([]);
      }),
      { numRuns: 100 },
    );
  });

  test('a block keeps its marks as long as one of its pages may not go, and tells them of the others', () => {
    const { small, frames, table } = make(512);
    expect(frames[0]).toBe(512);
    small.core.rangeMapOrder(table, 1024, 512, PRESENT | BOTH, 9);
    small.core.frameTryLock(frames[7]!);
    const told = harvest(small, table, 100, []);
    expect([told.length, told[6], told[7]]).toEqual([511, [1024 + 6, true], [1024 + 8, true]]);
    expect(small.entry(table, 1024).high & BOTH).toBe(BOTH);
    small.core.frameUnlock(frames[7]!);
    expect(harvest(small, table, 7, []).map(([vpn]) => vpn)).toEqual(frames.map((_, i) => 1024 + i));
    expect(small.entry(table, 1024).high & BOTH).toBe(0);
  });
});

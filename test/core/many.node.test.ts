/** What the core does for many pages in one call, beside the same one by one: random programs, and the edges. */
import { describe, expect, test } from 'vitest';
import * as L from '../../assembly/layout.ts';
import { randomOf } from '../../sdk/testing/random.ts';
import { type Flavour, flavours } from './harness.ts';
import { ALL, CXL, GPU, GPU_OWNER, HOST, Mover, NPU } from './mover.ts';
import { NOTHING, SmallCore } from './small-core.ts';

const NODE = 1;
const FRAMES = [1, 7, 64, 100, 513, 1024, 3000];
const RUN_WORDS = L.MOVING_BYTES / 4;

function coreOf(flavour: Flavour, frames: number): SmallCore {
  return new SmallCore(flavour, { nodes: [{ kind: L.NODE_IS_HOST, frames, backed: false }] });
}

/** All that can be seen of a node: its record, its free lists in their order, the records of its frames but for links that are on no list. */
function stateOf(small: SmallCore, node = NODE): unknown {
  const record = small.nodeRecord(node);
  const lists: number[][] = [];
  for (let order = 0; order <= L.ORDER_MAX; order++) {
    const list: number[] = [];
    for (let link = small.field(record, L.NODE_HEADS + order * 4); link !== 0; link = small.frame(link - 1, L.FRAME_NEXT))
      list.push(link - 1);
    lists.push(list);
  }
  const frames = small.node(node, L.NODE_FRAMES);
  const records = Array.from({ length: frames }, (_, i) => small.list(small.frameRecord(small.base[node]! + i), L.FRAME_NEXT / 4));
  // What a frame that is not in use was once is nobody's business.
  for (const each of records) if ((each[2]! & L.FRAME_STATE) !== L.STATE_USED) each.splice(3);
  return { node: small.list(record, L.NODE_BYTES / 4), lists, records };
}

function takeMany(small: SmallCore, n: number, marks = 0): number[] {
  const list = small.bare.areas + L.AREA_LIST;
  return small.list(list, small.core.frameTakeMany(NODE, n, list, marks, small.bare.areas + L.AREA_EXTENTS));
}

function takeEach(small: SmallCore, n: number): number[] {
  const frames: number[] = [];
  while (frames.length < n) {
    const frame = small.core.frameTake(NODE, 0) >>> 0;
    if (frame === NOTHING) break;
    frames.push(frame);
  }
  return frames;
}

describe.each(flavours)('%s', (flavour) => {
  describe('frameTakeMany', () => {
    test.each(Array.from({ length: 40 }, (_, seed) => seed))(
      'takes what as many calls of frameTake take, and leaves what they leave: seed %i',
      (seed) => {
        const below = randomOf(seed);
        const frames = FRAMES[below(FRAMES.length)]!;
        const [many, each] = [coreOf(flavour, frames), coreOf(flavour, frames)];
        const held: number[] = [];
        for (let turn = 0; turn < 30; turn++) {
          const what = below(4);
          if (what < 2) {
            const n = 1 + below(below(2) ? 20 : frames + 10);
            const taken = takeMany(many, n);
            const runsBefore = many.bare.header(L.H_STOP_INDEX);
            expect(taken).toEqual(takeEach(each, n));
            const runs = many.list(many.bare.areas + L.AREA_EXTENTS, runsBefore * 2);
            expect(runs.flatMap((first, i) => (i % 2 ? [] : Array.from({ length: runs[i + 1]! }, (_, k) => first + k)))).toEqual(taken);
            held.push(...taken);
          } else if (what === 2) {
            for (let i = below(held.length + 1); i > 0; i--) {
              const [frame] = held.splice(below(held.length), 1);
              for (const { core } of [many, each]) core.framePut(frame!);
            }
          } else {
            const order = below(5);
            const [a, b] = [many, each].map(({ core }) => core.frameTake(NODE, order) >>> 0);
            expect(a).toBe(b);
            // It stays: blocks are cut around it.
          }
          expect(stateOf(many)).toEqual(stateOf(each));
          expect(many.core.verify(0)).toBe(0);
        }
      },
    );

    test('gives what there is when there is less, and nothing for nothing', () => {
      const small = coreOf(flavour, 5);
      expect(takeMany(small, 0)).toEqual([]);
      expect(takeMany(small, 3)).toEqual([5, 1, 2]);
      expect(takeMany(small, 3)).toEqual([3, 4]);
      expect(takeMany(small, 1)).toEqual([]);
      expect([small.node(NODE, L.NODE_USED), small.node(NODE, L.NODE_FREE)]).toEqual([5, 0]);
    });

    test('gives each frame the marks that are asked for, which frameMark changes in a run and nowhere else', () => {
      const small = coreOf(flavour, 8);
      const flags = (): number[] =>
        Array.from({ length: 8 }, (_, i) => small.frame(1 + i, L.FRAME_FLAGS) & (L.FRAME_SPARED | L.FRAME_STATE));
      takeMany(small, 6, L.FRAME_SPARED);
      const [spared, plain] = [L.STATE_USED | L.FRAME_SPARED, L.STATE_USED];
      expect(flags().slice(0, 6)).toEqual([spared, spared, spared, spared, spared, spared]);
      small.core.frameMark(2, 3, L.FRAME_SPARED, 0);
      expect(flags().slice(0, 6)).toEqual([spared, plain, plain, plain, spared, spared]);
      small.core.frameMark(3, 1, 0, L.FRAME_SPARED);
      expect(flags().slice(0, 6)).toEqual([spared, plain, spared, plain, spared, spared]);
    });
  });

  describe('frameClaimMany', () => {
    /** Its one node is handed out by a driver. */
    const ofDriver = (): SmallCore =>
      new SmallCore(flavour, { nodes: [{ kind: L.NODE_IS_PRIVATE, frames: 16, owner: 1, alloc: L.ALLOC_DRIVER, backed: false }] });
    const claimMany = (small: SmallCore, wanted: readonly number[], marks = 0): { claimed: number; runs: number[] } => {
      const list = small.bare.areas + L.AREA_LIST;
      const runs = small.bare.areas + L.AREA_EXTENTS;
      wanted.forEach((frame, i) => small.setField(list, i * 4, frame));
      const claimed = small.core.frameClaimMany(list, wanted.length, marks, runs);
      return { claimed, runs: small.list(runs, small.bare.header(L.H_STOP_INDEX) * 2) };
    };

    test.each(Array.from({ length: 30 }, (_, seed) => seed))(
      'claims what as many calls of frameClaim claim, up to the first frame in use, and leaves what they leave: seed %i',
      (seed) => {
        const below = randomOf(seed);
        const [many, each] = [ofDriver(), ofDriver()];
        const base = many.base[NODE]!;
        const held: number[] = [];
        for (let turn = 0; turn < 30; turn++) {
          // Ascending, or this one and that one; also one that is asked for twice.
          const from = below(16);
          const wanted = Array.from({ length: below(12) }, (_, i) => base + (below(5) ? (from + i) % 16 : below(16)));
          const { claimed, runs } = claimMany(many, wanted);
          let one = 0;
          while (one < wanted.length && each.core.frameClaim(wanted[one]!, 0)) one++;
          expect(claimed).toBe(one);
          const told = runs.flatMap((first, i) => (i % 2 ? [] : Array.from({ length: runs[i + 1]! }, (_, k) => first + k)));
          expect(told).toEqual(wanted.slice(0, claimed));
          held.push(...told);
          for (let i = below(held.length + 1); i > 0; i--) {
            const [frame] = held.splice(below(held.length), 1);
            for (const { core } of [many, each]) core.framePut(frame!);
          }
          expect(many.freed()).toEqual(each.freed());
          expect(stateOf(many)).toEqual(stateOf(each));
          expect(many.core.verify(0)).toBe(0);
        }
      },
    );

    test('marks what it claims, and nothing else', () => {
      const small = ofDriver();
      const base = small.base[NODE]!;
      small.core.frameClaim(base + 3, 0);
      expect(claimMany(small, [base + 1, base + 2, base + 3, base + 4], L.FRAME_SPARED)).toEqual({ claimed: 2, runs: [base + 1, 2] });
      const flags = Array.from({ length: 5 }, (_, i) => small.frame(base + i, L.FRAME_FLAGS) & (L.FRAME_SPARED | L.FRAME_STATE));
      const spared = L.STATE_USED | L.FRAME_SPARED;
      expect(flags).toEqual([L.STATE_OFFLINE, spared, spared, L.STATE_USED, L.STATE_OFFLINE]);
    });
  });

  describe('movablePages', () => {
    const BASE = 100;
    const HELD = 50;

    /** Page by page, as the sentence above it says. */
    function naive(small: SmallCore, table: number, vpn: number, pages: number, which: number): number[] {
      const found: number[] = [];
      for (let i = 0; i < pages; i++) {
        const { high, low } = entryOf(small, table, vpn + i);
        const kind = high & L.ENTRY_KIND;
        const isThere = low >= BASE && low < BASE + HELD;
        const isFile = isThere && (small.frame(low, L.FRAME_FLAGS) & L.FRAME_FILE) !== 0;
        const isZero = (high & L.ENTRY_ZERO) !== 0;
        const may =
          which === L.MOVABLE_DEVICE
            ? isThere && (kind === L.KIND_PRESENT || kind === L.KIND_DEVICE_PRIVATE)
            : which === L.MOVABLE_ANONYMOUS
              ? kind === L.KIND_NONE || (kind === L.KIND_PRESENT && (isThere || isZero))
              : kind === L.KIND_PRESENT && isThere && !isFile && !isZero;
        if (may) found.push(i);
      }
      return found;
    }

    test.each(Array.from({ length: 40 }, (_, seed) => seed))('lists what a look at each page finds: seed %i', (seed) => {
      const below = randomOf(seed);
      const small = new SmallCore(flavour, { nodes: [{ kind: L.NODE_IS_HOST, frames: 2000, backed: false }] });
      const table = small.core.tableCreate(4, 0x9999, 0) >>> 0;
      const start = 2 ** 27 - 700;
      const kinds = [L.KIND_PRESENT, L.KIND_PRESENT, L.KIND_DEVICE_PRIVATE, L.KIND_SWAP, L.KIND_MIGRATION, L.KIND_PRESENT | L.ENTRY_ZERO];
      for (let frame = BASE; frame < BASE + HELD; frame++) if (below(4) === 0) small.core.frameMark(frame, 1, 0, L.FRAME_FILE);
      for (let turn = 0; turn < 40; turn++) {
        const vpn = start + below(1600);
        const high = kinds[below(kinds.length)]!;
        if (below(8) === 0) small.core.rangeMapOrder(table, vpn - (vpn % 512), below(3) * 512, high, L.HUGE_ORDER);
        else if (below(5) === 0) small.core.rangeUnmap(table, vpn, 1 + below(40));
        else small.core.rangeMap(table, vpn, 1 + below(30), BASE - 20 + below(HELD + 20), high);
      }
      const list = small.bare.areas + L.AREA_LIST;
      for (const which of [0, L.MOVABLE_ANONYMOUS, L.MOVABLE_DEVICE]) {
        const [vpn, pages] = [start + below(300), below(1700)];
        const found = small.core.movablePages(table, vpn, pages, BASE, HELD, which, list);
        expect(small.list(list, found)).toEqual(naive(small, table, vpn, pages, which));
      }
    });
  });

  describe('aimEach', () => {
    test.each(Array.from({ length: 30 }, (_, seed) => seed))(
      'writes a target for each offset, and none between them and behind them: seed %i',
      (seed) => {
        const below = randomOf(seed);
        const small = coreOf(flavour, 1);
        const { areas } = small.bare;
        const n = seed < 10 ? seed : 1 + below(200);
        const offsets: number[] = [];
        const frames: number[] = [];
        for (let offset = below(50), frame = 1000; offsets.length < n; offset++, frame++) {
          if (below(7) === 0) offset += 1 + below(9);
          if (below(7) === 0) frame = below(2) ? 2000 + below(1000) : frame + 1;
          offsets.push(offset);
          frames.push(below(11) === 0 ? -2 : frame);
        }
        small.u32.set(offsets, (areas + L.AREA_EXTENTS) >>> 2);
        small.u32.set(frames, (areas + L.AREA_LIST) >>> 2);
        const span = (n === 0 ? 0 : offsets[n - 1]! - offsets[0]! + 1) + below(20);
        small.u32.fill(77, (areas + L.AREA_TARGET) >>> 2, ((areas + L.AREA_TARGET) >>> 2) + span * 2 + 2);
        small.core.aimEach(areas + L.AREA_EXTENTS, areas + L.AREA_LIST, n, areas + L.AREA_TARGET, span);
        const words = Array.from({ length: span * 2 }, () => 0);
        offsets.forEach((offset, k) => {
          const frame = frames[k]!;
          words.splice((offset - offsets[0]!) * 2, 2, frame < 0 ? NOTHING : frame, L.MIGRATE_VALID);
        });
        expect(small.list(areas + L.AREA_TARGET, span * 2 + 2)).toEqual([...words, 77, 77]);
      },
    );
  });

  describe('aimWanting', () => {
    test.each(Array.from({ length: 60 }, (_, seed) => seed))(
      'gives each word that wants one the frame that frameTake has: seed %i',
      (seed) => {
        const below = randomOf(seed);
        const frames = FRAMES[below(FRAMES.length)]!;
        const [many, each] = [coreOf(flavour, frames), coreOf(flavour, frames)];
        // Free frames that follow each other and such that do not.
        const held = takeEach(each, frames);
        expect(takeEach(many, frames)).toEqual(held);
        for (const frame of held.filter(() => below(3) > 0)) for (const { core } of [many, each]) core.framePut(frame);
        const n = seed < 10 ? seed : 1 + below(120);
        const from = n === 0 ? 0 : below(2) * below(n);
        const most = below(3) === 0 ? below(n + 2) : n;
        const sort = [1 + below(20), 1 + below(20), 20 + below(200)];
        const [sourceAt, targetAt] = [many.bare.areas + L.AREA_SOURCE, many.bare.areas + L.AREA_TARGET];
        const wanted: number[][] = [];
        for (let i = 0; i < n; i++) {
          const compound = below(sort[2]!) === 0 ? L.MIGRATE_COMPOUND : 0;
          const bits = below(sort[0]!) === 0 ? 0 : L.MIGRATE_VALID | L.MIGRATE_MOVE | (below(2) ? L.MIGRATE_WRITE : 0);
          const aim = below(sort[1]!) === 0 ? [500 + i, L.MIGRATE_VALID] : [0, 0];
          many.setField(sourceAt, i * 8, 9000 + i);
          many.setField(sourceAt, i * 8 + 4, bits | compound);
          many.setField(targetAt, i * 8, aim[0]!);
          many.setField(targetAt, i * 8 + 4, aim[1]!);
          wanted.push([bits | compound, ...aim]);
        }
        const taken = many.core.aimWanting(NODE, sourceAt, targetAt, from, n, most);
        let [stop, got] = [from, 0];
        for (; stop < n && !(wanted[stop]![0]! & L.MIGRATE_COMPOUND); stop++) {
          const [bits, , aim] = wanted[stop] as [number, number, number];
          if (!(bits & L.MIGRATE_VALID) || aim !== 0) continue;
          const frame = got < most ? each.core.frameTake(NODE, 0) >>> 0 : NOTHING;
          if (frame === NOTHING) break;
          wanted[stop] = [bits, frame, L.MIGRATE_VALID];
          got++;
        }
        expect([taken, many.bare.header(L.H_STOP_INDEX)]).toEqual([got, stop]);
        expect(many.list(targetAt, n * 2)).toEqual(wanted.flatMap(([, ...aim]) => aim));
        expect(stateOf(many)).toEqual(stateOf(each));
      },
    );
  });

  describe('movingRuns', () => {
    type Word = readonly [frame: number, bits: number];
    const [VALID, MOVE, WRITE, COMPOUND] = [L.MIGRATE_VALID, L.MIGRATE_MOVE, L.MIGRATE_WRITE, L.MIGRATE_COMPOUND];

    interface How {
      readonly isRange: boolean;
      readonly withTargets: boolean;
      readonly writable: boolean;
    }

    /** Every page that moves by itself: its word, its two frames, its right to write. */
    function pagesOf(source: readonly Word[], target: readonly Word[], { isRange, withTargets, writable }: How): number[][] {
      const pages: number[][] = [];
      source.forEach(([frame, bits], i) => {
        const [to, aim] = target[i]!;
        if (!(bits & MOVE) || (withTargets && (!(aim & VALID) || (aim & COMPOUND) !== (bits & COMPOUND)))) return;
        const write = bits & VALID ? Number((bits & WRITE) !== 0) : Number(writable);
        for (let page = 0; page < (bits & COMPOUND ? 512 : 1); page++)
          pages.push(withTargets ? [isRange ? i + page : i, bits & VALID ? frame + page : -1, to + page, write] : [isRange ? i + page : i]);
      });
      return pages;
    }

    function tallyOf(source: readonly Word[], target: readonly Word[]): number[] {
      const tally = [0, 0, 0, source.length, 0];
      source.forEach(([, bits], i) => {
        const pages = bits & COMPOUND ? 512 : 1;
        if (bits & COMPOUND && !(target[i]![1] & COMPOUND) && target.slice(i, i + 512).some(([, aim]) => aim !== 0)) tally[4] = 1;
        if (!(bits & MOVE)) return;
        if (bits & VALID) tally[0]! += pages;
        else tally[1]! += pages;
        if (bits & VALID || target[i]![1] === 0) return;
        tally[2]! += pages;
        tally[3] = Math.min(tally[3]!, i);
      });
      return tally;
    }

    function put(small: SmallCore, at: number, words: readonly Word[]): void {
      words.forEach(([frame, bits], i) => {
        small.setField(at, i * 8, frame);
        small.setField(at, i * 8 + 4, bits);
      });
    }

    test.each(Array.from({ length: 60 }, (_, seed) => seed))(
      'is what the words say, page by page, in as few runs as there can be: seed %i',
      (seed) => {
        const below = randomOf(seed);
        const small = coreOf(flavour, 1);
        const [isRange, withTargets, writable] = [below(2) === 0, below(3) > 0, below(2) === 0];
        const n = 1 + below(1400);
        const source: Word[] = [];
        const target: Word[] = [];
        let [from, to] = [5000, 9000];
        while (source.length < n) {
          if (below(6) === 0) from += 1 + below(3);
          if (below(6) === 0) to += 1 + below(3);
          const hole = below(8) === 0 ? 0 : VALID | (below(5) === 0 ? 0 : WRITE);
          const bits = (below(6) === 0 ? 0 : MOVE) | hole;
          const aim = below(6) === 0 ? 0 : VALID;
          if (below(40) === 0 && (!isRange || n - source.length >= 512)) {
            source.push([hole ? from : 0, bits | COMPOUND]);
            target.push([to, aim | (below(4) === 0 ? 0 : COMPOUND)]);
            if (isRange) for (const words of [source, target]) words.push(...Array.from({ length: 511 }, () => [0, 0] as const));
            [from, to] = [from + 512, to + 512];
          } else {
            source.push([hole ? from++ : 0, bits]);
            target.push([to++, aim]);
          }
        }
        const [sourceAt, targetAt, list] = [L.AREA_SOURCE, L.AREA_TARGET, L.AREA_LIST].map((area) => small.bare.areas + area) as [
          number,
          number,
          number,
        ];
        put(small, sourceAt, source);
        put(small, targetAt, target);
        small.core.movingTally(sourceAt, targetAt, n, list);
        expect(small.list(list, L.MOVING_TALLY_BYTES / 4)).toEqual(tallyOf(source, target));
        const max = 1 + below(20);
        const runs: number[][] = [];
        for (let at = 0; at < n; at = small.bare.header(L.H_STOP_INDEX)) {
          const flags = [isRange, writable].map(Number) as [number, number];
          const found = small.core.movingRuns(sourceAt, withTargets ? targetAt : 0, at, n, ...flags, 0, list, max);
          expect(found).toBeLessThanOrEqual(max);
          for (let run = 0; run < found; run++) runs.push(small.list(list + run * L.MOVING_BYTES, RUN_WORDS));
        }
        const how = { isRange, withTargets, writable };
        const seen: number[][] = [];
        for (const [i, pages, frame, aim, write] of runs as [number, number, number, number, number][]) {
          for (let page = 0, word = i, left = 0; page < pages; page++) {
            if (!isRange) {
              if (left === 0) left = source[word]![1] & COMPOUND ? 512 : 1;
              seen.push(withTargets ? [word, frame === NOTHING ? -1 : frame + page, aim + page, write] : [word]);
              if (--left === 0) word++;
            } else seen.push(withTargets ? [i + page, frame === NOTHING ? -1 : frame + page, aim + page, write] : [i + page]);
          }
        }
        const wanted = pagesOf(source, target, how);
        expect(seen).toEqual(wanted);
        // Where a run ends, the next one cannot be a part of it; one that began with the list being full may be.
        if (max < runs.length) return;
        runs.slice(1).forEach(([i, , frame, aim, write], k) => {
          const [before, pages, oldFrame, oldAim, oldWrite] = runs[k] as [number, number, number, number, number];
          const follows = isRange ? before + pages === i : true;
          if (!isRange && (pages > 1 || before + 1 !== i)) return;
          const frames = frame === NOTHING ? oldFrame === NOTHING : oldFrame !== NOTHING && oldFrame + pages === frame;
          expect(follows && (!withTargets || (frames && oldAim + pages === aim && oldWrite === write))).toBe(false);
        });
      },
    );
  });
});

describe.each(flavours)('%s: a migration of many words', (flavour) => {
  const VPN = 2 ** 27 - 40;
  const PAGES = 80;

  /** A space, with pages of every sort where its table pages meet. */
  function world(): { mover: Mover; table: number; other: number } {
    const mover = new Mover(flavour, {
      nodes: [
        { kind: L.NODE_IS_HOST, frames: 300 },
        { kind: L.NODE_IS_PRIVATE, frames: 200, owner: GPU_OWNER },
        { kind: L.NODE_IS_PRIVATE, frames: 100, owner: 2, alloc: L.ALLOC_DRIVER, backed: false },
        { kind: L.NODE_IS_COHERENT, frames: 100, owner: GPU_OWNER },
      ],
    });
    return { mover, table: mover.home(4).table, other: mover.home().table };
  }

  /** All of it: nodes, entries, what spaces pay, what owners are to be told. */
  function seen(mover: Mover, tables: readonly number[]): unknown {
    const entries = tables.map((table) => Array.from({ length: PAGES }, (_, i) => entryOf(mover, table, VPN + i)));
    const charged = tables.map((table) => [
      mover.field(table, L.TABLE_CHARGED),
      mover.field(table, L.TABLE_PAGES),
      mover.field(table, L.TABLE_TABLES),
      mover.list(mover.bare.header(L.H_CHARGES) + mover.field(table, L.TABLE_INDEX) * L.NODES_MAX * 4, CXL + 1),
    ]);
    const used = [HOST, GPU, NPU, CXL].map((node) => {
      const list: number[] = [];
      for (let link = mover.node(node, L.NODE_OLDEST); link !== 0; link = mover.frame(link - 1, L.FRAME_NEXT)) list.push(link - 1);
      return list;
    });
    return { nodes: [HOST, GPU, NPU, CXL].map((node) => stateOf(mover, node)), entries, charged, used, freed: mover.freed() };
  }

  test.each(Array.from({ length: 40 }, (_, seed) => seed))('ends as the migration of one word after the other: seed %i', (seed) => {
    const below = randomOf(seed);
    const [many, each] = [world(), world()];
    const both = (act: (of: { mover: Mover; table: number; other: number }) => unknown): void => expect(act(many)).toEqual(act(each));
    let next = 0;
    for (let turn = 0; turn < 25; turn++) {
      const what = below(12);
      const vpn = VPN + below(PAGES);
      const [from, n] = [VPN + below(PAGES - 10), 1 + below(10 + below(60))];
      const pages = Math.min(n, VPN + PAGES - from);
      if (what === 0)
        both(({ mover, table }) =>
          Array.from({ length: pages }, (_, i) => entryOf(mover, table, from + i).high || (mover.core.mapFresh(table, from + i, HOST), 0)),
        );
      else if (what === 1) both(({ mover, table }) => entryOf(mover, table, vpn).high || mover.core.mapZero(table, vpn));
      else if (what === 2) both(({ mover, table }) => mover.core.zap(table, from, below(1) + 5));
      else if (what === 3) both(({ mover, table }) => mover.core.reprotect(table, from, 5, 1));
      else if (what === 4) {
        both(({ mover, table, other }) => {
          const { high, low } = entryOf(mover, table, vpn);
          const may = (high & L.ENTRY_KIND) === L.KIND_PRESENT && !(high & L.ENTRY_ZERO) && entryOf(mover, other, vpn).high === 0;
          if (may) mover.share(low, other, vpn, L.KIND_PRESENT);
        });
      } else {
        const to = [HOST, GPU, NPU, CXL][below(4)]!;
        const late = VPN + below(PAGES);
        // Somebody has a reference on it all the time: it stays.
        const guest = VPN + below(PAGES);
        // Without gaps, too: pages that follow each other on both sides end together.
        const [gap, writable, refuse] = [below(2) ? 1 + below(6) : PAGES + 1, below(2), below(2) ? below(PAGES) : PAGES];
        both(({ mover, table }) => {
          const one = mover === each.mover;
          const { core, source, target } = mover;
          const step = one ? 1 : pages;
          const { high, low } = entryOf(mover, table, guest);
          const isThere = [L.KIND_PRESENT, L.KIND_DEVICE_PRIVATE].includes(high & L.ENTRY_KIND) && !(high & L.ENTRY_ZERO);
          if (isThere) core.frameGet(low);
          for (let i = 0; i < pages; i += step) core.migrateCollect(table, from + i, step, ALL, GPU_OWNER, L.FRAME_NONE, source + i * 8, 0);
          const collected = mover.words(source, pages);
          const targets = collected.map(([, bits], i) => {
            if (!(bits & L.MIGRATE_MOVE) || i % gap === gap - 1) return undefined;
            if (to !== NPU) {
              const frame = core.frameTake(to, 0) >>> 0;
              return frame === NOTHING ? undefined : frame;
            }
            const frame = mover.base[NPU]! + ((next + i) % 100);
            return core.frameClaim(frame, 0) ? frame : undefined;
          });
          mover.aim(targets);
          const held = collected.find(([, bits], i) => bits & L.MIGRATE_VALID && from + i === late);
          if (held) core.frameGet(held[0]);
          for (let i = 0; i < pages; i += step) core.migrateCopy(source + i * 8, target + i * 8, step);
          for (let i = 0; i < pages; i += step)
            core.migrateCommit(table, from + i, step, source + i * 8, target + i * 8, writable, L.FRAME_NONE);
          if (refuse < pages && mover.field(source, refuse * 8 + 4) & L.MIGRATE_VALID)
            mover.setField(source, refuse * 8 + 4, mover.field(source, refuse * 8 + 4) & ~L.MIGRATE_MOVE);
          const words = mover.words(source, pages);
          let moved = 0;
          for (let i = 0; i < pages; i += step) moved += core.migrateFinalize(step, source + i * 8, target + i * 8);
          if (held) core.framePut(held[0]);
          if (isThere) core.framePut(low);
          return [collected, targets, words, moved];
        });
        next += pages;
      }
      both(({ mover, table, other }) => seen(mover, [table, other]));
      both(({ mover }) => mover.core.verify(1));
      expect(many.mover.core.verify(1)).toBe(0);
    }
  });

  /** What may be different of one page among its neighbours when a migration ends, and what takes it back. */
  const ODD: Record<
    string,
    { come: (mover: Mover, frame: number, to: number, at: Place) => void; go?: (mover: Mover, frame: number, to: number) => void }
  > = {
    'a holder of its old frame': { come: ({ core }, frame) => core.frameGet(frame), go: ({ core }, frame) => core.framePut(frame) },
    'a holder of its new frame': { come: ({ core }, _, to) => core.frameGet(to), go: ({ core }, _, to) => core.framePut(to) },
    'a mark on its old frame': { come: ({ core }, frame) => core.frameMark(frame, 1, 0, L.FRAME_SPARED) },
    'a mark on its new frame': { come: ({ core }, _, to) => core.frameMark(to, 1, 0, L.FRAME_SPARED) },
    'a new frame that is listed': { come: ({ core }, _, to) => core.frameTouch(to) },
    'no payer': { come: (mover, frame) => mover.setField(mover.frameRecord(frame), L.FRAME_CHARGE, 0) },
    'another right': { come: ({ core }, _frame, _to, { table, vpn }) => core.reprotect(table, vpn, 1, 1) },
    'no mapping any more': { come: ({ core }, _frame, _to, { table, vpn }) => core.zap(table, vpn, 1) },
    'a verdict to stay': { come: (mover, _frame, _to, { i }) => mover.setField(mover.source, i * 8 + 4, L.MIGRATE_VALID) },
  };

  interface Place {
    readonly table: number;
    readonly vpn: number;
    readonly i: number;
  }

  test.each(Object.keys(ODD))('ends so, too, when one of a few neighbours has %s', (name) => {
    const { come, go } = ODD[name]!;
    for (const pages of [1, 2, 3, 4, 5, 6, 7, 8, 9]) {
      const [many, each] = [world(), world()];
      const both = (act: (of: { mover: Mover; table: number; other: number }) => unknown): void => expect(act(many)).toEqual(act(each));
      for (let odd = 0; odd < pages; odd++) {
        both(({ mover, table }) => Array.from({ length: pages }, (_, i) => mover.core.mapFresh(table, VPN + i, HOST)));
        for (const to of [GPU, HOST]) {
          both(({ mover, table }) => {
            const { core, source, target } = mover;
            core.migrateCollect(table, VPN, pages, ALL, GPU_OWNER, L.FRAME_NONE, source, 0);
            const words = mover.words(source, pages);
            const frames = words.map(([frame]) => frame);
            const targets = words.map(([, bits]) => (bits & L.MIGRATE_VALID ? mover.take(to) : undefined));
            mover.aim(targets);
            core.migrateCommit(table, VPN, pages, source, target, 1, L.FRAME_NONE);
            const isThere = targets[odd] !== undefined;
            if (isThere) come(mover, frames[odd]!, targets[odd]!, { table, vpn: VPN + odd, i: odd });
            const step = mover === each.mover ? 1 : pages;
            let moved = 0;
            for (let i = 0; i < pages; i += step) moved += core.migrateFinalize(step, source + i * 8, target + i * 8);
            const records = frames.map((frame) => [mover.frame(frame, L.FRAME_RMAP), mover.frame(frame, L.FRAME_RMAP_OWNER)]);
            if (isThere) go?.(mover, frames[odd]!, targets[odd]!);
            return [moved, words, targets, records];
          });
          both(({ mover, table, other }) => seen(mover, [table, other]));
          both(({ mover }) => mover.core.verify(1));
        }
        both(({ mover, table }) => mover.core.zap(table, VPN, pages));
      }
    }
  });

  test.each(Array.from({ length: 30 }, (_, seed) => seed))(
    'ends so, too, when frames follow each other and their pages, marks, or places on the list do not: seed %i',
    (seed) => {
      const below = randomOf(seed);
      const [many, each] = [world(), world()];
      const both = (act: (of: { mover: Mover; table: number; other: number }) => unknown): void => expect(act(many)).toEqual(act(each));
      const pages = Array.from({ length: PAGES }, (_, i) => i);
      for (let swaps = below(8); swaps > 0; swaps--) {
        const [a, b] = [below(PAGES), below(PAGES)];
        [pages[a], pages[b]] = [pages[b]!, pages[a]!];
      }
      let frames: number[] = [];
      both(({ mover, table }) => (frames = pages.map((page) => mover.core.mapFresh(table, VPN + page, HOST) >>> 0)));
      both(({ mover, table, other }) => {
        mover.core.reprotect(table, VPN + (seed % PAGES), 7, 1);
        mover.share(frames[(seed * 7) % PAGES]!, other, VPN + pages[(seed * 7) % PAGES]!, L.KIND_PRESENT);
      });
      for (const to of [GPU, HOST, CXL, GPU, HOST]) {
        const step = 1 + below(PAGES);
        const [touched, gone] = [Array.from({ length: below(4) }, () => below(PAGES)), below(2 * PAGES)];
        let moved: number[] = [];
        both(({ mover, table }) => {
          const { core, source, target } = mover;
          for (const i of touched) if (mover.frame(frames[i]!, L.FRAME_FLAGS) & L.FRAME_LISTED) core.frameTouch(frames[i]!);
          mover.collectFrames(frames);
          const targets = frames.map(() => mover.take(to));
          mover.aim(targets);
          core.migrateCopy(source, target, PAGES);
          core.migrateCommit(0, 0, PAGES, source, target, 0, L.FRAME_NONE);
          // Unmapped on its way: nobody has it at the end.
          if (gone < PAGES) core.zap(table, VPN + gone, 1);
          const words = mover.words(source, PAGES);
          const one = mover === each.mover;
          const count = one ? 1 : step;
          for (let i = 0; i < PAGES; i += count) core.migrateFinalize(Math.min(count, PAGES - i), source + i * 8, target + i * 8);
          moved = targets.map((frame, i) => (words[i]![1] & L.MIGRATE_MOVE ? frame : frames[i]!));
          return [words, targets];
        });
        frames = moved;
        both(({ mover, table, other }) => seen(mover, [table, other]));
        expect(many.mover.core.verify(1)).toBe(0);
        if (gone < PAGES) {
          both(({ mover, table }) => mover.core.mapFresh(table, VPN + gone, HOST));
          frames = pages.map((page) => entryOf(many.mover, many.table, VPN + page).low);
        }
      }
    },
  );
});

function entryOf(small: SmallCore, table: number, vpn: number): { high: number; low: number } {
  const high = small.core.tableWalk(table, vpn);
  return { high, low: small.bare.header(L.H_STOP_ENTRY_LOW) };
}

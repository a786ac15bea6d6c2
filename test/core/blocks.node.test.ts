/**
 * Accesses run in blocks: translated first, their bytes afterwards. What comes of it has to be what comes of one access after the other, however long the run, whatever shares a set, faults, crosses a page, or was
 * invalidated on the way.
 */
import { describe, expect, test } from 'vitest';
import * as L from '../../assembly/layout.ts';
import { observe } from '../../sdk/testing/model/value.ts';
import { random } from '../model/random.ts';
import { flavours } from './harness.ts';
import { type Access, SmallCore } from './small-core.ts';

const P = L.PAGE_BYTES;
const BASE = 2 ** 24 - 4;
const PAGES = 12;
/** Several blocks, and enough of them for every way of looking. */
const COUNT = 20 * L.BLOCK_ACCESSES + 3;

/** A core whose pages are mapped, read-only, or missing. Frames are given out backwards. */
class World {
  readonly small: SmallCore;
  readonly table: number;
  readonly tlb: number;

  readonly base: number;

  constructor(flavour: (typeof flavours)[number], sets: number, base = BASE) {
    this.base = base;
    this.small = new SmallCore(flavour, {
      nodes: [
        { kind: L.NODE_IS_HOST, frames: PAGES },
        { kind: L.NODE_IS_HOST, frames: 1, backed: false },
      ],
    });
    const { table, tlb } = this.small.home(sets);
    this.table = table;
    this.tlb = tlb;
  }

  map(page: number, write: boolean): void {
    const { small, table, base } = this;
    small.core.rangeMap(table, base + page, 1, small.base[1]! + PAGES - 1 - page, L.KIND_PRESENT | (write ? L.ENTRY_WRITE : 0));
  }

  /** The page goes, or its right to be written: as an invalidation ends it. */
  take(page: number, all: boolean): void {
    if (all) this.small.core.rangeUnmap(this.table, this.base + page, 1);
    else this.map(page, false);
    this.small.core.tlbInvalidate(this.tlb, this.base + page, 1);
  }

  /** Values as a program gives them, the same in both cores. */
  load(accesses: readonly Access[]): void {
    accesses.forEach((access, i) => this.small.setAccess(i, access));
    this.small.core.fillValues(this.small.values, accesses.length, 5, 0);
  }

  /** Values, bytes, ways, counts, and marks in the table. */
  state(count: number): unknown[] {
    const { small, table, tlb, base } = this;
    const pages = Array.from({ length: PAGES }, (_, i) => {
      const at = small.core.frameBytes(small.base[1]! + i);
      return Buffer.from(small.u8.slice(at, at + P)).toString('base64');
    });
    const entries = Array.from({ length: PAGES }, (_, i) => small.entry(table, base + i).high);
    return [small.list(small.values, 2 * count), small.ways(tlb), small.counts(tlb), entries, pages];
  }
}

/** Accesses to pages of which `hot` are wanted most, with all lengths, some over a page boundary. */
function program(next: (limit: number) => number, hot: number, count: number): Access[] {
  return Array.from({ length: count }, () => {
    const page = next(8) > 0 ? next(hot) : next(PAGES);
    const bytes = [1, 2, 4, 8, 8, 8, 8, 16, 100][next(9)]!;
    const crosses = next(40) === 0 && page + 1 < PAGES;
    const address = (BASE + page) * P + (crosses ? P - 1 : next(P - bytes + 1));
    return { address, bytes: crosses ? Math.max(bytes, 2) : bytes, write: next(3) === 0 };
  });
}

describe.each(flavours)('%s', (flavour) => {
  test('a long run leaves what its accesses leave one by one, faults and invalidations between them too', () => {
    for (let seed = 1; seed <= 24; seed++) {
      const next = random(seed);
      const sets = [1, 1, 2, 4][next(4)]!;
      const accesses = program(next, [1, 2, 3, 6][seed % 4]!, COUNT);
      const together = new World(flavour, sets);
      const apart = new World(flavour, sets);
      const both = [together, apart];
      for (const world of both) {
        world.load(accesses);
        for (let page = 0; page < PAGES; page += 2) world.map(page, page % 4 === 0);
      }
      let at = 0;
      for (let stops = 0; at < COUNT; stops++) {
        const { small, tlb } = together;
        const end = small.core.runAccesses(tlb, small.accesses, small.values, at, COUNT);
        // The other one goes as far, and stops where this one did.
        const one = apart.small;
        while (at < end) expect(one.core.runAccesses(apart.tlb, one.accesses, one.values, at, ++at), `seed ${seed}`).toBe(at);
        if (end < COUNT) expect(one.core.runAccesses(apart.tlb, one.accesses, one.values, end, end + 1)).toBe(end);
        expect(together.state(COUNT), `seed ${seed}, after ${end}`).toEqual(apart.state(COUNT));
        if (end === COUNT) break;
        const stop = [L.H_STOP_REASON, L.H_STOP_VPN_LOW, L.H_STOP_VPN_HIGH, L.H_STOP_INDEX].map((field) => small.bare.header(field));
        expect(stop).toEqual([L.STOP_FAULT, stop[1], 0, end]);
        expect(stop).toEqual([L.H_STOP_REASON, L.H_STOP_VPN_LOW, L.H_STOP_VPN_HIGH, L.H_STOP_INDEX].map((field) => one.bare.header(field)));
        const write = accesses[end]!.write;
        const page = stop[1]! - BASE;
        // Some other page goes as this one comes; towards the end none does, so that there is an end.
        const other = next(PAGES);
        const all = next(2) === 0;
        for (const world of both) {
          world.map(page, write);
          if (other !== page && stops < 60) world.take(other, all);
        }
      }
    }
  });

  test('page 0 is found where it is, not in a way that is empty', () => {
    for (const turning of [false, true]) {
      const worlds = [new World(flavour, 2, 0), new World(flavour, 2, 0)];
      // Pages of the odd set take turns, or do not; of the even one, one page has been used when page 0 is.
      const pages = Array.from({ length: 8 * L.BLOCK_ACCESSES }, (_, i): number => (turning && i % 2 === 1 ? 3 : 1));
      pages[0] = 2;
      for (const at of [5, 6, 7]) pages[at * L.BLOCK_ACCESSES] = 0;
      const [together, apart] = worlds.map((world) => {
        world.load(pages.map((page, i) => ({ address: page * P + 8, bytes: 8, write: i % 3 === 0 })));
        for (let page = 0; page < 4; page++) world.map(page, true);
        return world;
      }) as [World, World];
      expect(together.small.core.runAccesses(together.tlb, together.small.accesses, together.small.values, 0, pages.length)).toBe(
        pages.length,
      );
      const { small, tlb } = apart;
      for (let i = 0; i < pages.length; i++) expect(small.core.runAccesses(tlb, small.accesses, small.values, i, i + 1)).toBe(i + 1);
      expect(together.state(pages.length)).toEqual(apart.state(pages.length));
      expect(together.small.ways(together.tlb)[0]).toEqual(['0wd', '2wd']);
    }
  });

  test('a run over a page whose bytes are elsewhere stops there, with the bytes of all before it done', () => {
    const { small, tlb, table } = new World(flavour, 1);
    const at = (page: number, write: boolean): Access => ({ address: (BASE + page) * P + 8, bytes: 8, write });
    small.core.rangeMap(table, BASE, 1, small.base[1]!, L.KIND_PRESENT | L.ENTRY_WRITE);
    small.core.rangeMap(table, BASE + 1, 1, small.base[2]!, L.KIND_PRESENT);
    [at(0, true), at(0, false), at(1, false), at(0, true)].forEach((access, i) => small.setAccess(i, access));
    small.core.fillValues(small.values, 4, 1, 0);
    const [low, high] = small.list(small.values, 2);
    expect([small.core.runAccesses(tlb, small.accesses, small.values, 0, 4), small.stop]).toEqual([2, L.STOP_BYTES]);
    expect(small.list(small.values, 4)).toEqual([low, high, low, high]);
  });

  test('without bytes a load observes zeros, and what a store stores stays where it stands: in a run and in a round', () => {
    for (const missing of [false, true]) {
      const { small, tlb, table } = new World(flavour, 1);
      const next = random(7);
      small.setHeader(L.H_BLANK, small.spare);
      const accesses = program(next, 3, COUNT);
      accesses.forEach((access, i) => small.setAccess(i, access));
      small.core.fillValues(small.values, COUNT, 5, 0);
      const given = small.list(small.values, 2 * COUNT);
      const map = (page: number): unknown => small.core.rangeMap(table, BASE + page, 1, small.base[2]!, L.KIND_PRESENT | L.ENTRY_WRITE);
      for (let page = missing ? 1 : 0; page < PAGES; page++) map(page);
      if (missing) {
        // Lanes that stall get out of step.
        const job = small.bare.areas + L.AREA_JOB;
        const round = (): number =>
          small.core.laneRound(tlb, job, small.accesses, small.values, small.bare.areas + L.AREA_ORDER, small.bare.areas + L.AREA_FAULTS);
        small.core.jobBegin(job, COUNT, 3, L.FAULTS_MAX);
        expect(round()).toBe(3);
        map(0);
        expect(round()).toBe(0);
      } else expect(small.core.runAccesses(tlb, small.accesses, small.values, 0, COUNT)).toBe(COUNT);
      const wanted = accesses.flatMap(({ bytes, write }, i) => {
        const { lo, hi } = write ? { lo: given[2 * i]!, hi: given[2 * i + 1]! } : observe(new Uint8Array(bytes), bytes);
        return [lo, hi];
      });
      expect(small.list(small.values, 2 * COUNT)).toEqual(wanted);
      expect(small.u8.subarray(small.spare, small.spare + P).every((byte) => byte === 0)).toBe(true);
      const pages = accesses.map(({ address, bytes }) => Math.floor((address + bytes - 1) / P) - Math.floor(address / P) + 1);
      expect(small.counts(tlb).reduce((sum, each) => sum + each, 0)).toBe(pages.reduce((sum, each) => sum + each, 0));
    }
  });

  test('rounds of a long job execute in the order of the turns, and leave what that order leaves', () => {
    for (let seed = 1; seed <= 24; seed++) {
      const next = random(seed);
      const lanes = [1, 2, 5, 32, 70][next(5)]!;
      const count = COUNT - next(70);
      const sets = [1, 2][next(2)]!;
      const accesses = program(next, [2, 3, 6][seed % 3]!, count);
      const world = new World(flavour, sets);
      const plain = new World(flavour, sets);
      for (const each of [world, plain]) each.load(accesses);
      for (let page = 0; page < PAGES; page++) {
        if (seed % 4 === 0 || next(4) > 0) world.map(page, seed % 4 === 0 || next(4) > 0);
        plain.map(page, true);
      }
      const { small, tlb, table } = world;
      const job = small.bare.areas + L.AREA_JOB;
      small.core.jobBegin(job, count, lanes, L.FAULTS_MAX);
      const turns = Array.from({ length: lanes }, (_, lane) => lane);
      const wanted: number[] = [];
      for (let rounds = 0; ; rounds++) {
        expect(rounds).toBeLessThan(3 * PAGES);
        const fails = (index: number): boolean => {
          const { address, bytes, write } = accesses[index]!;
          return [address, address + bytes - 1].some((byte) => {
            const { kind, high } = small.entry(table, Math.floor(byte / P));
            return kind !== L.KIND_PRESENT || (write && (high & L.ENTRY_WRITE) === 0);
          });
        };
        const stalls = new Set<number>();
        for (let going = true; going;) {
          going = false;
          for (let lane = 0; lane < lanes; lane++) {
            if (turns[lane]! >= count || stalls.has(lane)) continue;
            if (fails(turns[lane]!)) stalls.add(lane);
            else {
              wanted.push(turns[lane]!);
              turns[lane]! += lanes;
              going = true;
            }
          }
        }
        const stalled = small.core.laneRound(tlb, job, small.accesses, small.values, small.bare.areas + L.AREA_ORDER, small.bare.areas + L.AREA_FAULTS); // prettier-ignore
        expect(stalled, `seed ${seed}, round ${rounds}`).toBe(stalls.size);
        expect(small.list(small.bare.areas + L.AREA_ORDER, small.field(job, L.JOB_EXECUTED))).toEqual(wanted);
        expect(small.list(job + L.JOB_LANE_NEXT, lanes)).toEqual(turns);
        // So much of it is in the order of the accesses, and says so.
        const straight = wanted.findIndex((index, i) => index !== i);
        expect(small.field(job, L.JOB_STRAIGHT)).toBeLessThanOrEqual(straight < 0 ? wanted.length : straight);
        if (stalled === 0) {
          if (rounds === 0) expect(small.field(job, L.JOB_STRAIGHT)).toBe(count);
          break;
        }
        // Some of what is missing comes.
        const { lane, index } = { lane: small.field(small.bare.areas + L.AREA_FAULTS, 8), index: small.field(small.bare.areas + L.AREA_FAULTS, 12) }; // prettier-ignore
        expect(turns[lane]).toBe(index);
        const page = small.field(small.bare.areas + L.AREA_FAULTS, 0) - BASE;
        world.map(page, (small.field(small.bare.areas + L.AREA_FAULTS, 4) & L.FAULT_WRITE) !== 0);
        small.core.tlbInvalidate(tlb, BASE + page, 1);
      }
      for (const index of wanted) plain.small.core.runAccesses(plain.tlb, plain.small.accesses, plain.small.values, index, index + 1);
      const [values, , , , bytes] = world.state(count);
      const [valuesThere, , , , bytesThere] = plain.state(count);
      expect(values, `seed ${seed}`).toEqual(valuesThere);
      expect(bytes, `seed ${seed}`).toEqual(bytesThere);
    }
  });

  test.each([
    { missing: false, at: 5, order: [0, 1, 2, 3, 4], lanes: [8, 5, 6, 7], rest: [8, 5, 6, 7, 9, 10] },
    { missing: true, at: 6, order: [0, 2, 3, 4], lanes: [8, 1, 6, 7], rest: [8, 1, 6, 7, 5, 10, 9] },
  ])('a round that breaks off in the middle of a turn says where each lane is, and goes on from there: $at', ({ missing, ...wanted }) => {
    const { small, tlb, table } = new World(flavour, 4);
    const map = (page: number, frame: number): unknown => small.core.rangeMap(table, BASE + page, 1, frame, L.KIND_PRESENT);
    map(0, small.base[1]!);
    if (!missing) map(1, small.base[1]! + 1);
    map(2, small.base[2]!);
    for (let i = 0; i < 11; i++) {
      const page = i === 1 ? 1 : i === wanted.at ? 2 : 0;
      small.setAccess(i, { address: (BASE + page) * P, bytes: 8, write: false });
    }
    const job = small.bare.areas + L.AREA_JOB;
    const order = small.bare.areas + L.AREA_ORDER;
    const round = (): number => small.core.laneRound(tlb, job, small.accesses, small.values, order, small.bare.areas + L.AREA_FAULTS);
    const executed = (): number[] => small.list(order, small.field(job, L.JOB_EXECUTED));
    small.core.jobBegin(job, 11, 4, 10);
    round();
    expect([small.stop, small.bare.header(L.H_STOP_INDEX), executed()]).toEqual([L.STOP_BYTES, wanted.at, wanted.order]);
    expect(small.list(job + L.JOB_LANE_NEXT, 4)).toEqual(wanted.lanes);
    map(1, small.base[1]! + 1);
    map(2, small.base[1]! + 2);
    small.core.tlbFlush(tlb);
    expect([round(), executed()]).toEqual([0, [...wanted.order, ...wanted.rest]]);
    expect(small.counts(tlb)[0] + small.counts(tlb)[1]).toBe(12);
  });
});

describe('loops over a batch', () => {
  const { small } = new World(flavours[0], 1);
  const at = small.accesses;

  test('a run ends where the side changes, whatever stands there', () => {
    const next = random(3);
    for (let round = 0; round < 200; round++) {
      const count = 1 + next(40);
      const sides = Array.from({ length: count }, () => (next(6) === 0 ? next(8) : 0));
      sides.forEach((side, i) => {
        small.setField(at, i * 8, next(2 ** 31));
        small.setField(at, i * 8 + 4, ((side << L.ACCESS_SIDE_SHIFT) | next(2 ** L.ACCESS_SIDE_SHIFT)) >>> 0);
      });
      for (let from = 0; from < count; from++) {
        let end = from + 1;
        while (end < count && sides[end] === sides[from]) end++;
        expect(small.core.runEnd(at, from, count)).toBe(end);
      }
    }
  });

  test('a block that has not been seen stops the look, the second one of an access over its end too', () => {
    const next = random(4);
    const recent = small.bare.areas + L.AREA_BLOCKS;
    const slots = 8;
    const block = L.PAGE_BYTES << L.HUGE_ORDER;
    for (let round = 0; round < 300; round++) {
      const known = Array.from({ length: slots }, (_, i) => next(2) * 8 + i);
      known.forEach((each, i) => small.setField(recent, i * 4, next(5) === 0 ? 0 : each + 1));
      const seen = (each: number): boolean => small.field(recent, (each % slots) * 4) === each + 1;
      const accesses = Array.from({ length: 1 + next(30) }, () => {
        const bytes = 1 + next(L.ACCESS_LENGTH_MAX);
        const offset = next(4) === 0 ? block - 1 - next(2 * bytes) : next(block);
        return { address: next(16) * block + Math.max(0, offset), bytes, write: next(2) === 0 };
      });
      accesses.forEach((access, i) => small.setAccess(i, access));
      const found = accesses.findIndex(
        ({ address, bytes }) => !seen(Math.floor(address / block)) || !seen(Math.floor((address + bytes - 1) / block)),
      );
      expect(small.core.nextBlock(at, 0, accesses.length, recent, slots)).toBe(found < 0 ? accesses.length : found);
    }
  });

  test('one access among many of one block stops the look, wherever it is and whatever it differs by', () => {
    const next = random(6);
    const recent = small.bare.areas + L.AREA_BLOCKS;
    const slots = 8;
    const block = L.PAGE_BYTES << L.HUGE_ORDER;
    const home = 0x2345 * block;
    const count = 200;
    for (const [address, bytes] of [
      [home ^ block, 8],
      [home + 2 ** 47, 1],
      [home + block - 7, 8],
      [home + block - 1, L.ACCESS_LENGTH_MAX],
      [home - 1, 1],
      // The last bytes of it are at home.
      [home + block - 8, 8],
    ] as const) {
      for (let round = 0; round < 100; round++) {
        for (let slot = 0; slot < slots; slot++) small.setField(recent, slot * 4, 0);
        small.setField(recent, (0x2345 % slots) * 4, 0x2345 + 1);
        for (let i = 0; i < count; i++) small.setAccess(i, { address: home + next(block - 8), bytes: 1 + next(8), write: next(2) === 0 });
        const from = next(8);
        const place = from + next(count - from);
        small.setAccess(place, { address, bytes, write: next(2) === 0 });
        const isHome = address >= home && address + bytes <= home + block;
        expect(small.core.nextBlock(at, from, count, recent, slots), `${address} at ${place}, from ${from}`).toBe(isHome ? count : place);
      }
    }
  });

  test('accesses are gathered in an order, and their values behind them', () => {
    const next = random(5);
    const order = small.bare.areas + L.AREA_ORDER;
    const target = small.bare.areas + L.AREA_BYTES;
    for (const count of [1, 2, 7, 100]) {
      const words = Array.from({ length: 400 }, () => next(2 ** 32));
      words.forEach((word, i) => small.setField(i < 200 ? at : small.values, (i % 200) * 4, word));
      const wanted = Array.from({ length: count }, () => next(100));
      wanted.forEach((index, k) => small.setField(order, k * 4, index));
      small.setField(target, count * 16, 77);
      small.core.gatherAccesses(at, small.values, order, count, target);
      const pairs = (from: number): number[] => wanted.flatMap((index) => words.slice(from + 2 * index, from + 2 * index + 2));
      expect(small.list(target, 4 * count + 1)).toEqual([...pairs(0), ...pairs(200), 77]);
    }
  });
});

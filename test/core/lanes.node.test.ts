import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import * as L from '../../assembly/layout.ts';
import { flavours } from './harness.ts';
import { type Access, SmallCore } from './small-core.ts';

const P = L.PAGE_BYTES;
const PAGES = 10;
const BASE = 2 ** 32 - 5;
type Right = 'none' | 'r' | 'w';

/** A fault record in words: page, rights asked for and span, lane, access. */
type Fault = readonly [page: number, flags: string, lane: number, index: number];

/** The turns of a round as arrays: no translation cache, no bytes. */
class JobModel {
  readonly #accesses: readonly Access[];
  readonly #lanes: number;
  readonly next: number[];
  readonly order: number[] = [];
  faults: Fault[] = [];
  overflow = 0;

  constructor(accesses: readonly Access[], lanes: number) {
    this.#accesses = accesses;
    this.#lanes = lanes;
    this.next = Array.from({ length: lanes }, (_, lane) => lane);
  }

  #lacking(index: number, rights: readonly Right[]): Fault[] {
    const { address, bytes, write } = this.#accesses[index]!;
    const first = Math.floor(address / P);
    const last = Math.floor((address + bytes - 1) / P);
    const missing = (page: number): boolean => rights[page - BASE] === 'none' || (write && rights[page - BASE] === 'r');
    const spans = last > first ? ['>', '<'] : [''];
    return spans.flatMap((span, i) =>
      missing(first + i) ? [[first + i, (write ? 'w' : 'r') + span, index % this.#lanes, index] as const] : [],
    );
  }

  /** Lanes that stalled. */
  round(rights: readonly Right[], faultsMax: number): number {
    const stalled = new Set<number>();
    const all: Fault[] = [];
    for (let moved = true; moved;) {
      moved = false;
      for (let lane = 0; lane < this.#lanes; lane++) {
        const index = this.next[lane]!;
        if (stalled.has(lane) || index >= this.#accesses.length) continue;
        const lacking = this.#lacking(index, rights);
        if (lacking.length > 0) {
          stalled.add(lane);
          all.push(...lacking);
          continue;
        }
        moved = true;
        this.order.push(index);
        this.next[lane] = index + this.#lanes;
      }
    }
    this.faults = all.slice(0, faultsMax);
    this.overflow = all.length - this.faults.length;
    return stalled.size;
  }
}

/** A device table of `rights`, a TLB, and a job submitted to it. */
class Job {
  readonly small: SmallCore;
  readonly table: number;
  readonly tlb: number;
  readonly job: number;

  constructor(flavour: (typeof flavours)[number], accesses: readonly Access[], lanes: number, faultsMax: number, sets = 4) {
    this.small = new SmallCore(flavour, {
      nodes: [
        { kind: L.NODE_IS_HOST, frames: PAGES },
        { kind: L.NODE_IS_HOST, frames: 1, backed: false },
      ],
    });
    const { table, tlb } = this.small.home(sets);
    this.table = table;
    this.tlb = tlb;
    this.job = this.small.bare.areas + L.AREA_JOB;
    accesses.forEach((access, i) => this.small.setAccess(i, access));
    // A used area, with the words of another job in it.
    this.small.u32.fill(0xfefefefe, this.job >>> 2, (this.job >>> 2) + 200);
    this.small.core.jobBegin(this.job, accesses.length, lanes, faultsMax);
  }

  allow(rights: readonly Right[]): void {
    const { small, table, tlb } = this;
    rights.forEach((right, i) => {
      if (right === 'none') small.core.rangeUnmap(table, BASE + i, 1);
      else small.core.rangeMap(table, BASE + i, 1, small.base[1]! + i, L.KIND_PRESENT | (right === 'w' ? L.ENTRY_WRITE : 0));
    });
    small.core.tlbFlush(tlb);
  }

  round(): number {
    const { small, job, tlb } = this;
    const { areas } = small.bare;
    return small.core.laneRound(tlb, job, small.accesses, small.values, areas + L.AREA_ORDER, areas + L.AREA_FAULTS);
  }

  field(offset: number): number {
    return this.small.field(this.job, offset);
  }

  get order(): number[] {
    return this.small.list(this.small.bare.areas + L.AREA_ORDER, this.field(L.JOB_EXECUTED));
  }

  get faults(): Fault[] {
    return Array.from({ length: this.field(L.JOB_FAULTS) }, (_, i) => {
      const [low, word, lane, index] = this.small.list(this.small.bare.areas + L.AREA_FAULTS + i * L.FAULT_BYTES, 4) as [
        number,
        number,
        number,
        number,
      ];
      const span = (word & L.FAULT_SPAN_AFTER ? '>' : '') + (word & L.FAULT_SPAN_BEFORE ? '<' : '');
      return [(word & 0xf) * 2 ** 32 + low, (word & L.FAULT_WRITE ? 'w' : 'r') + span, lane, index];
    });
  }
}

const at = (page: number, offset: number, bytes: number, write: boolean): Access => ({ address: (BASE + page) * P + offset, bytes, write });
const every = (right: Right): Right[] => Array.from({ length: PAGES }, () => right);

describe.each(flavours)('%s', (flavour) => {
  test('rounds run in the order, stall on the faults and lose the records that a list of turns says', () => {
    const access = fc
      .tuple(fc.nat(PAGES - 2), fc.constantFrom(0, 8, P - 4, P - 1), fc.constantFrom(1, 4, 8, 16), fc.boolean())
      .map(([page, offset, bytes, write]) => at(page, offset, bytes, write));
    const rights = fc.array(fc.constantFrom<Right>('none', 'r', 'w', 'w'), { minLength: PAGES, maxLength: PAGES });
    const rounds = fc.array(fc.record({ rights, cancel: fc.array(fc.nat(20), { maxLength: 2 }) }), { minLength: 1, maxLength: 5 });
    fc.assert(
      fc.property(
        fc.array(access, { maxLength: 60 }),
        fc.constantFrom(1, 2, 3, 7, 16, 61),
        fc.constantFrom(0, 1, 3, 8, 200),
        fc.constantFrom(1, 4),
        rounds,
        (accesses, lanes, faultsMax, sets, sequence) => {
          const job = new Job(flavour, accesses, lanes, faultsMax, sets);
          const model = new JobModel(accesses, lanes);
          const check = (pages: readonly Right[]): number => {
            job.allow(pages);
            const stalled = job.round();
            expect(stalled, 'lanes that stalled').toBe(model.round(pages, faultsMax));
            expect(job.field(L.JOB_STALLED)).toBe(stalled);
            expect(job.order, 'order of execution').toEqual(model.order);
            expect(job.faults, 'fault records').toEqual(model.faults);
            expect(job.field(L.JOB_OVERFLOW), 'records lost').toBe(model.overflow);
            expect(job.small.list(job.job + L.JOB_LANE_NEXT, lanes), 'next access of each lane').toEqual(model.next);
            const [hits, misses] = job.small.counts(job.tlb);
            const looked = model.order.reduce((sum, index) => {
              const { address, bytes } = accesses[index]!;
              return sum + Math.floor((address + bytes - 1) / P) - Math.floor(address / P) + 1;
            }, 0);
            expect(hits! + misses!, 'pages looked up').toBe(looked);
            return stalled;
          };
          for (const { rights: pages, cancel } of sequence) {
            check(pages);
            for (const n of cancel) {
              const lane = n % lanes;
              if (model.next[lane]! >= accesses.length) continue;
              job.small.core.laneCancel(job.job, lane);
              model.next[lane]! += lanes;
            }
          }
          expect(check(every('w'))).toBe(0);
          expect(job.round()).toBe(0);
          expect(job.field(L.JOB_EXECUTED)).toBe(model.order.length);
        },
      ),
      { numRuns: 150 },
    );
  });

  test('lanes take turns, and a lane that stalls leaves the turns to the others', () => {
    const job = new Job(
      flavour,
      [0, 1, 2, 0, 1, 2, 0].map((page) => at(page, 0, 4, false)),
      3,
      10,
    );
    job.allow(['r', 'none', 'r', ...every('none').slice(3)]);
    expect([job.round(), job.order, job.faults]).toEqual([1, [0, 2, 3, 5, 6], [[BASE + 1, 'r', 1, 1]]]);
    job.allow(every('r'));
    expect([job.round(), job.order, job.faults]).toEqual([0, [0, 2, 3, 5, 6, 1, 4], []]);
  });

  test('an access over two missing pages writes two records that name each other, and one over a present page says so too', () => {
    const job = new Job(flavour, [at(4, P - 2, 4, true), at(6, P - 2, 4, false)], 2, 10);
    job.allow(['r', 'r', 'r', 'r', 'r', 'none', 'r', 'none', 'r', 'r']);
    expect([job.round(), job.faults]).toEqual([2, [[BASE + 4, 'w>', 0, 0], [BASE + 5, 'w<', 0, 0], [BASE + 7, 'r<', 1, 1]]]); // prettier-ignore
  });

  test('lanes that want one page write a record each; what does not fit is counted and comes again in the next round', () => {
    const job = new Job(
      flavour,
      Array.from({ length: 5 }, () => at(0, 0, 1, true)),
      5,
      3,
    );
    job.allow(every('none'));
    for (let i = 0; i < 2; i++) {
      expect([job.round(), job.faults.map(([, , lane]) => lane), job.field(L.JOB_OVERFLOW)]).toEqual([5, [0, 1, 2], 2]);
    }
  });

  test('a cancelled access is never executed, and its lane goes on with the next', () => {
    const job = new Job(flavour, [at(0, 0, 1, false), at(1, 0, 1, false), at(2, 0, 1, false), at(2, 0, 1, false)], 2, 9);
    job.allow(['none', ...every('r').slice(1)]);
    expect([job.round(), job.order]).toEqual([1, [1, 3]]);
    job.small.core.laneCancel(job.job, 0);
    expect([job.round(), job.order]).toEqual([0, [1, 3, 2]]);
  });

  test('a job of nothing, and one with more lanes than accesses, are done at once', () => {
    expect(new Job(flavour, [], 4, 4).round()).toBe(0);
    const job = new Job(flavour, [at(0, 0, 1, false)], L.LANES_MAX, 4);
    job.allow(every('r'));
    expect([job.round(), job.order]).toEqual([0, [0]]);
  });

  test('a page whose bytes are elsewhere breaks the round off at that access, with what ran before it done', () => {
    const job = new Job(flavour, [at(0, 0, 1, false), at(1, 0, 1, false), at(0, 0, 1, false)], 1, 4);
    job.allow(every('r'));
    job.small.core.rangeMap(job.table, BASE + 1, 1, job.small.base[2]!, L.KIND_PRESENT);
    job.round();
    expect([job.small.stop, job.small.bare.header(L.H_STOP_INDEX), job.order]).toEqual([L.STOP_BYTES, 1, [0]]);
    job.small.core.rangeMap(job.table, BASE + 1, 1, job.small.base[1]!, L.KIND_PRESENT);
    job.small.core.tlbFlush(job.tlb);
    expect([job.round(), job.small.stop, job.order]).toEqual([0, L.STOP_NONE, [0, 1, 2]]);
  });

  test('reading ahead of the service of faults changes nothing but a list, whatever the pages are', () => {
    const pages = every('r').map((_, page) => page);
    const job = new Job(
      flavour,
      pages.map((page) => at(page, 0, 1, true)),
      PAGES,
      100,
    );
    const { small, table } = job;
    job.allow(every('r'));
    // A hole, a page without bytes, one that is on its way, one of a device.
    small.core.rangeUnmap(table, BASE + 1, 1);
    small.core.rangeMap(table, BASE + 2, 1, small.base[2]!, L.KIND_PRESENT);
    small.core.rangeMap(table, BASE + 3, 1, small.base[1]! + 3, L.KIND_MIGRATION);
    small.core.rangeMap(table, BASE + 4, 1, 2 ** 31, L.KIND_SPECIAL);
    job.round();
    const count = job.field(L.JOB_FAULTS);
    expect(job.faults.map(([page]) => page - BASE)).toEqual(pages);
    const list = small.bare.areas + L.AREA_LIST;
    const before = small.u8.slice();
    small.core.faultsAhead(table, small.bare.areas + L.AREA_FAULTS, count);
    const after = small.u8.slice();
    for (const memory of [before, after]) memory.fill(0, list, list + (count + 1) * 4);
    expect(Buffer.compare(before, after)).toBe(0);
  });

  test('reading ahead of the faults of the CPU looks at pages of devices without a translation, and changes nothing but a list', () => {
    const pages = every('r').map((_, page) => page);
    const job = new Job(
      flavour,
      pages.map((page) => at(page, 8, 1, true)),
      PAGES,
      100,
    );
    const { small, table, tlb } = job;
    const [, frames, bodiless] = small.base;
    job.allow(every('w'));
    const place = (page: number, frame: number, kind: number): number => small.core.rangeMap(table, BASE + page, 1, frame, kind);
    // With a translation, in front of its set and behind another; in the trace they come again.
    for (const page of [7, 3]) expect(small.core.runAccesses(tlb, small.accesses, small.values, page, page + 1)).toBe(page + 1);
    for (const page of [7, 3, 2, 5, 9]) place(page, frames! + page, L.KIND_DEVICE_PRIVATE);
    place(6, bodiless!, L.KIND_DEVICE_PRIVATE);
    place(1, frames! + 1, L.KIND_MIGRATION);
    small.core.rangeUnmap(table, BASE + 4, 1);
    small.core.rangeMap(table, BASE + 8, 1, 2 ** 31, L.KIND_SPECIAL);
    const list = small.bare.areas + L.AREA_LIST;
    const before = small.u8.slice();
    small.core.accessesAhead(tlb, small.accesses, 1, PAGES - 1);
    expect(small.list(list, 3)).toEqual([small.core.frameBytes(frames! + 2), small.core.frameBytes(frames! + 5), 0].map((at) => at >>> 0));
    // Of one access, and of none.
    small.core.accessesAhead(tlb, small.accesses, PAGES - 1, PAGES);
    expect(small.list(list, 1)).toEqual([small.core.frameBytes(frames! + 9) >>> 0]);
    small.core.accessesAhead(tlb, small.accesses, 3, 3);
    const after = small.u8.slice();
    for (const memory of [before, after]) memory.fill(0, list, list + (PAGES + 1) * 8);
    expect(Buffer.compare(before, after)).toBe(0);
  });
});

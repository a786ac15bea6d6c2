import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import * as L from '../../assembly/layout.ts';
import { type Flavour, flavours } from './harness.ts';
import { CXL, CXL_OWNER, GPU, GPU_OWNER, HOST, Mover } from './mover.ts';
import { NOTHING, type SmallRoom } from './small-core.ts';

/** Pages of a space: two huge windows and as much again behind them, into which ranges are moved. */
const PAGES = 1024;
const HUGE = 512;
const RW = L.RIGHT_READ | L.RIGHT_WRITE;
const NODE = { host: HOST, gpu: GPU, cxl: CXL } as const;
type Place = keyof typeof NODE;

/** Nothing is mapped. */
const NONE = -1;

interface Space {
  readonly table: number;
  readonly index: number;
  /** What a read of each page gives: the whole of the model. */
  readonly values: Int32Array;
  rights: number;
}

/**
 * Three spaces over host, private and coherent memory, driven as the SDK drives them (a fault is served by the calls that it would make), and next to them what
 * each page of each space must read as.
 */
class World extends Mover {
  readonly spaces: Space[];
  readonly pins: { space: Space; page: number; frame: number }[] = [];
  stampsUsed = 0;

  constructor(flavour: Flavour, room: Partial<SmallRoom>) {
    super(flavour, room);
    this.spaces = [0, 1, 2].map(() => {
      const { table, index } = this.home();
      return { table, index, values: new Int32Array(PAGES).fill(NONE), rights: RW };
    });
  }

  headOf(frame: number): number {
    return (this.frame(frame, L.FRAME_FLAGS) & L.FRAME_STATE) === L.STATE_TAIL ? this.frame(frame, L.FRAME_PREVIOUS) : frame;
  }

  isBlock(high: number): boolean {
    return (high & L.ENTRY_ORDER) !== 0;
  }

  // -------------------------------------------------------------------------------------------------------------- faults

  /** Brings a page home, as the service of a CPU fault on a private page does. False when it cannot. */
  bringHome({ table }: Space, page: number, whole: boolean): boolean {
    const { low, high } = this.entry(table, page);
    const head = this.headOf(low);
    const compound = whole && this.isBlock(high);
    const first = compound ? page - (page % HUGE) : page;
    const pages = compound ? HUGE : 1;
    const select = L.SELECT_PRIVATE | (compound ? L.SELECT_COMPOUND : 0);
    this.core.frameGet(head);
    this.core.migrateCollect(table, first, pages, select, GPU_OWNER, head, this.source, 0);
    const huge = compound ? this.core.frameTake(HOST, 9) >>> 0 : NOTHING;
    for (let i = 0; i < pages; i++) {
      const frame = huge === NOTHING ? this.core.frameTake(HOST, 0) >>> 0 : i ? NOTHING : huge;
      this.target_(i, frame, huge !== NOTHING);
    }
    this.core.migrateSplit(this.source, this.target, pages);
    this.finish(table, first, pages, 1, head);
    this.core.framePut(head);
    return this.entry(table, page).kind !== L.KIND_DEVICE_PRIVATE;
  }

  target_(i: number, frame: number, compound: boolean): void {
    this.setField(this.target, i * 8, frame === NOTHING ? 0 : frame);
    this.setField(this.target, i * 8 + 4, frame === NOTHING ? 0 : L.MIGRATE_VALID | (compound ? L.MIGRATE_COMPOUND : 0));
  }

  /** Serves faults until the page can be accessed so. False when it cannot be now, or never. */
  fault(space: Space, page: number, write: boolean): boolean {
    const { table } = space;
    if (!(space.rights & L.RIGHT_READ) || (write && !(space.rights & L.RIGHT_WRITE))) return false;
    for (let round = 0; round < 4; round++) {
      const { high, kind } = this.entry(table, page);
      const block = this.isBlock(high);
      if (kind === L.KIND_NONE) {
        if (write ? this.core.mapFresh(table, page, HOST) >>> 0 === NOTHING : !this.core.mapZero(table, page)) return false;
        space.values[page] = 0;
      } else if (kind === L.KIND_DEVICE_PRIVATE) {
        if (!this.bringHome(space, page, page % 2 === 0)) return false;
      } else if (kind === L.KIND_EXCLUSIVE) {
        if (!this.core.exclusiveClear(table, page, space.rights)) return false;
      } else if (kind !== L.KIND_PRESENT) return false;
      else if (!write || high & L.ENTRY_WRITE) return true;
      else if (high & L.ENTRY_ZERO) {
        if (block && !this.core.splitHuge(table, page)) return false;
        if (this.core.mapFresh(table, page, HOST) >>> 0 === NOTHING) return false;
      } else if (this.core.canReuse(table, page)) this.core.mapReuse(table, page);
      else if (block) {
        if (!this.core.splitHuge(table, page)) return false;
      } else if (this.core.mapCopy(table, page, HOST, 1) >>> 0 === NOTHING) return false;
    }
    return this.core.canReuse(table, page) === 1;
  }

  write(space: Space, page: number): void {
    if (!this.fault(space, page, true)) return;
    this.stamp(this.entry(space.table, page).low, ++this.stampsUsed);
    space.values[page] = this.stampsUsed;
  }

  pin(space: Space, page: number): void {
    if (!this.fault(space, page, false)) return;
    const { high } = this.entry(space.table, page);
    if (!(high & L.ENTRY_ANON_EXCLUSIVE)) {
      if (this.isBlock(high) && !this.core.splitHuge(space.table, page)) return;
      if (this.core.canReuse(space.table, page)) this.core.mapOwn(space.table, page);
      else if (this.core.mapCopy(space.table, page, HOST, 0) >>> 0 === NOTHING) return;
    }
    const frame = this.entry(space.table, page).low;
    if (this.core.framePin(frame, 0)) this.pins.push({ space, page, frame });
  }

  unpin(which: number): void {
    const [pin] = this.pins.splice(which % Math.max(1, this.pins.length), 1);
    if (pin) expect(this.core.frameUnpin(pin.frame)).toBe(1);
  }

  // -------------------------------------------------------------------------------------------------------------- ranges

  zap(space: Space, from: number, pages: number): void {
    const done = this.core.zap(space.table, from, pages);
    if (done < pages) expect(this.stop).toBe(L.STOP_LOCKED);
    space.values.fill(NONE, from, from + done);
    // A pin outlives the mapping, and says nothing about the address any more.
    for (const pin of this.pins) if (pin.space === space && pin.page >= from && pin.page < from + done) pin.page = NONE;
  }

  /** MADV_FREE: what goes reads as zeros; what stays reads as before. */
  free(space: Space, from: number, pages: number): void {
    const before = Array.from({ length: pages }, (_, i) => this.entry(space.table, from + i).kind);
    const done = this.core.zapLazy(space.table, from, pages);
    if (done < pages) expect(this.stop).toBe(L.STOP_LOCKED);
    before.forEach((kind, i) => {
      if (kind !== L.KIND_NONE && this.entry(space.table, from + i).kind === L.KIND_NONE) space.values[from + i] = NONE;
    });
    for (const pin of this.pins)
      if (pin.space === space && pin.page >= from && pin.page < from + pages) expect(space.values[pin.page]).not.toBe(NONE);
  }

  /** MADV_COLLAPSE of one window. */
  collapse(space: Space, block: number): void {
    const first = block * HUGE;
    if (space.rights !== RW) return;
    const collapsed = this.core.collapseHuge(space.table, first, HOST, space.rights);
    if (!collapsed) return void expect([L.STOP_FRAMES, L.STOP_TABLES, L.STOP_REFUSED, L.STOP_LOCKED]).toContain(this.stop);
    expect(this.isBlock(this.entry(space.table, first).high)).toBe(true);
    for (let page = first; page < first + HUGE; page++) if (space.values[page] === NONE) space.values[page] = 0;
  }

  fork(parent: Space, child: Space, omit: boolean): void {
    if (parent === child) return;
    this.zap(child, 0, PAGES);
    if (child.values.some((value) => value !== NONE)) return;
    const isLeftOut = (page: number): boolean => {
      const { kind, low, high } = this.entry(parent.table, page);
      const held = kind !== L.KIND_NONE && kind !== L.KIND_POISON && !(high & L.ENTRY_ZERO);
      return omit && held && low >= this.base[GPU]! && low < this.base[CXL]!;
    };
    const left = Array.from({ length: PAGES }, (_, page) => isLeftOut(page));
    child.rights = parent.rights;
    const done = this.core.forkRange(parent.table, child.table, 0, PAGES, HOST, omit ? L.FORK_OMIT_DEVICE : 0);
    if (done < PAGES) expect([L.STOP_LOCKED, L.STOP_TABLES, L.STOP_CHAIN, L.STOP_FRAMES]).toContain(this.stop);
    for (let page = 0; page < done; page++) child.values[page] = left[page] ? NONE : parent.values[page]!;
  }

  /** Moves a range behind the others and to another place, as mremap does. */
  move(space: Space, from: number, to: number, pages: number): void {
    this.zap(space, to, pages);
    if (space.values.subarray(to, to + pages).some((value) => value !== NONE)) return;
    const done = this.core.moveEntries(space.table, from, to, pages);
    if (done < pages) expect([L.STOP_LOCKED, L.STOP_TABLES]).toContain(this.stop);
    space.values.copyWithin(to, from, from + done);
    space.values.fill(NONE, from, from + done);
    for (const pin of this.pins) if (pin.space === space && pin.page >= from && pin.page < from + done) pin.page += to - from;
  }

  protect(space: Space, from: number, pages: number, rights: number, all: boolean): void {
    if (all) {
      if (this.core.reprotect(space.table, 0, PAGES, rights) >= 0) space.rights = rights;
      else this.protectAgain(space, 0, PAGES);
    } else {
      this.core.reprotect(space.table, from, pages, rights);
      this.protectAgain(space, from, pages);
    }
  }

  /** A range that stopped half-way gets what its space has. */
  protectAgain(space: Space, from: number, pages: number): void {
    if (this.core.reprotect(space.table, from, pages, space.rights) < 0) expect(this.stop).toBe(L.STOP_LOCKED);
  }

  migrate(space: Space, from: number, pages: number, to: Place, how: Migration, between: (step: number) => void): void {
    const { table } = space;
    const select = { host: L.SELECT_SYSTEM, gpu: L.SELECT_PRIVATE, cxl: L.SELECT_COHERENT };
    const wanted = (Object.keys(select) as Place[]).filter((place) => place !== to).reduce((bits, place) => bits | select[place], 0);
    const owner = how.owner === 'gpu' ? GPU_OWNER : CXL_OWNER;
    const bits = wanted | (how.compound ? L.SELECT_COMPOUND : 0) | (how.holes ? 0 : L.SELECT_NO_HOLES);
    const moving = this.core.migrateCollect(table, from, pages, bits, owner, L.FRAME_NONE, this.source, 0);
    const words = this.words(this.source, pages);
    expect(moving).toBe(words.filter(([, high]) => high & L.MIGRATE_MOVE).length);
    let huge = false;
    words.forEach(([, high], i) => {
      if (high & L.MIGRATE_COMPOUND) {
        const frame = how.hugeTarget ? this.core.frameTake(NODE[to], 9) >>> 0 : NOTHING;
        huge = frame !== NOTHING;
        this.target_(i, huge ? frame : how.skip === 1 ? NOTHING : this.core.frameTake(NODE[to], 0) >>> 0, huge);
      } else if ((words[i - ((from + i) % HUGE)]?.[1] ?? 0) & L.MIGRATE_COMPOUND) {
        // A page of a huge one that may have to be split.
        this.target_(i, huge || i % how.skip === 0 ? NOTHING : this.core.frameTake(NODE[to], 0) >>> 0, false);
      } else this.target_(i, !(high & L.MIGRATE_MOVE) || i % how.skip === 0 ? NOTHING : this.core.frameTake(NODE[to], 0) >>> 0, false);
    });
    between(0);
    this.core.migrateSplit(this.source, this.target, pages);
    this.core.migrateCopy(this.source, this.target, pages);
    between(1);
    const writable = space.rights === RW ? 1 : 0;
    const left = this.core.migrateCommit(table, from, pages, this.source, this.target, writable, L.FRAME_NONE);
    const after = this.words(this.source, pages);
    expect(left).toBe(after.filter(([, high]) => high & L.MIGRATE_MOVE).length);
    // A hole that moved reads as zeros.
    after.forEach(([, high], i) => {
      if ((high & (L.MIGRATE_MOVE | L.MIGRATE_VALID)) === L.MIGRATE_MOVE)
        space.values.fill(0, from + i, from + i + (high & L.MIGRATE_COMPOUND ? HUGE : 1));
    });
    between(2);
    this.core.migrateFinalize(pages, this.source, this.target);
  }

  byFrame(to: Place, from: Place, skip: number): void {
    const count = this.core.usedFrames(NODE[from], 0, this.bare.areas + L.AREA_LIST, 600);
    this.core.migrateCollectFrames(this.bare.areas + L.AREA_LIST, count, this.source);
    this.words(this.source, count).forEach(([, high], i) => {
      const compound = (high & L.MIGRATE_COMPOUND) !== 0;
      const frame = high & L.MIGRATE_MOVE && i % skip !== 1 ? this.core.frameTake(NODE[to], compound ? 9 : 0) >>> 0 : NOTHING;
      this.target_(i, frame, compound);
    });
    this.finish(0, 0, count);
  }

  // -------------------------------------------------------------------------------------------------------------- checks

  /** Every page reads as it must, every pin is on the frame that its page has, and the core's own check is content. */
  check(strict: boolean): void {
    expect(this.core.verify(strict ? 1 : 0), 'verify').toBe(0);
    for (const [i, { table, values }] of this.spaces.entries()) {
      for (let page = 0; page < PAGES; page++) {
        const { kind, low } = this.entry(table, page);
        const value = kind === L.KIND_NONE ? NONE : this.stampOf(low);
        if (value !== values[page]) expect.fail(`space ${i} page ${page} (kind ${kind}, frame ${low}) reads ${value}, not ${values[page]}`);
      }
    }
    for (const { space, page, frame } of this.pins) {
      if (page !== NONE) expect(this.entry(space.table, page).low, 'frame of a pinned page').toBe(frame);
    }
  }

  end(): void {
    while (this.pins.length > 0) this.unpin(0);
    for (const space of this.spaces) this.zap(space, 0, PAGES);
    this.check(true);
    const header = [L.H_CHAIN_USED, L.H_CHAIN_RESERVED, L.H_PAGES_DEPOSITED].map((field) => this.bare.header(field));
    const used = [HOST, GPU, CXL].map((node) => this.node(node, L.NODE_USED));
    expect([used, header, this.bare.header(L.H_PAGES_USED)]).toEqual([[0, 0, 0], [0, 0, 0], this.spaces.length]);
    expect(this.spaces.map(({ table }) => this.field(table, L.TABLE_CHARGED))).toEqual([0, 0, 0]);
  }
}

interface Migration {
  readonly owner: 'gpu' | 'cxl';
  readonly compound: boolean;
  readonly holes: boolean;
  readonly hugeTarget: boolean;
  readonly skip: number;
}

const EDGES = [0, 1, 2, 3, 4, 5, 510, 511, 512, 513, 514, 1022, 1023];
const page = fc.constantFrom(...EDGES);
const space = fc.constantFrom(0, 0, 0, 1, 2);
/** Whole windows as often as pieces. */
const range = fc.oneof(
  fc.constantFrom({ from: 0, pages: HUGE }, { from: HUGE, pages: HUGE }, { from: 0, pages: PAGES }),
  fc.tuple(page, fc.constantFrom(1, 2, 3, 5, 513)).map(([from, pages]) => ({ from, pages: Math.min(pages, PAGES - from) })),
);
const place = fc.constantFrom<Place>('host', 'gpu', 'cxl');
const how = fc.record<Migration>({
  owner: fc.constantFrom('gpu', 'cxl'),
  compound: fc.constantFrom(true, true, false),
  holes: fc.boolean(),
  hugeTarget: fc.boolean(),
  skip: fc.constantFrom(1, 2, 3, 1000),
});

const simple = fc.oneof(
  { weight: 4, arbitrary: fc.record({ op: fc.constant('write' as const), space, page }) },
  fc.record({ op: fc.constant('read' as const), space, page }),
  fc.record({ op: fc.constant('pin' as const), space, page }),
  fc.record({ op: fc.constant('unpin' as const), which: fc.nat(9) }),
  fc.record({ op: fc.constant('exclusive' as const), space, page }),
  fc.record({ op: fc.constant('cpuReads' as const), space, page }),
  fc.record({ op: fc.constant('zap' as const), space, range }),
  fc.record({ op: fc.constant('free' as const), space, range }),
  fc.record({ op: fc.constant('collapse' as const), space, block: fc.nat(1) }),
  {
    weight: 3,
    arbitrary: fc.record({ op: fc.constant('fork' as const), space, to: fc.nat(2), omit: fc.constantFrom(false, false, true) }),
  },
  fc.record({ op: fc.constant('move' as const), space, range, to: page }),
  fc.record({ op: fc.constant('protect' as const), space, range, rights: fc.constantFrom(0, 1, RW, RW), all: fc.boolean() }),
  { weight: 3, arbitrary: fc.record({ op: fc.constant('huge' as const), space, block: fc.nat(1), zero: fc.boolean() }) },
);
type Simple = typeof simple extends fc.Arbitrary<infer T> ? T : never;

function run(world: World, step: Simple): void {
  const on = 'space' in step ? world.spaces[step.space]! : world.spaces[0]!;
  switch (step.op) {
    case 'write':
      return world.write(on, step.page);
    case 'read':
      return void world.fault(on, step.page, false);
    case 'pin':
      return world.pin(on, step.page);
    case 'unpin':
      return world.unpin(step.which);
    case 'exclusive':
      return void world.core.exclusiveSet(on.table, step.page);
    case 'cpuReads':
      return void world.core.cpuReadsSet(on.table, step.page);
    case 'zap':
      return world.zap(on, step.range.from, step.range.pages);
    case 'free':
      return world.free(on, step.range.from, step.range.pages);
    case 'collapse':
      return world.collapse(on, step.block);
    case 'fork':
      return world.fork(on, world.spaces[step.to]!, step.omit);
    case 'move': {
      const { from, pages } = step.range;
      const apart = step.to + pages <= from || step.to >= from + pages;
      if (apart && step.to + pages <= PAGES) world.move(on, from, step.to, pages);
      return;
    }
    case 'protect':
      return world.protect(on, step.range.from, step.range.pages, step.rights, step.all);
    case 'huge': {
      const first = step.block * HUGE;
      if (!on.rights) return;
      if (world.core.mapHuge(on.table, first, HOST, on.rights, step.zero ? 1 : 0)) on.values.fill(0, first, first + HUGE);
      return;
    }
  }
}

const step = fc.oneof(
  { weight: 8, arbitrary: simple },
  {
    weight: 4,
    arbitrary: fc.record({
      op: fc.constant('migrate' as const),
      space,
      range,
      to: place,
      how,
      between: fc.array(fc.tuple(fc.nat(2), simple), { maxLength: 3 }),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      op: fc.constant('byFrame' as const),
      from: fc.constantFrom<Place>('gpu', 'cxl'),
      to: place,
      skip: fc.constantFrom(2, 1000),
    }),
  },
);

/** What the windows of the first space hold at the start. */
const start = fc.tuple(...[0, 1].map(() => fc.constantFrom('huge', 'huge', 'zero', 'small', 'none')));

function begin(world: World, windows: readonly string[]): void {
  windows.forEach((what, block) => {
    if (what === 'huge' || what === 'zero') run(world, { op: 'huge', space: 0, block, zero: what === 'zero' });
    for (const page of EDGES)
      if (what !== 'none' && what !== 'zero' && Math.floor(page / HUGE) === block) world.write(world.spaces[0]!, page);
  });
}

/** Room enough, and too little of each thing. */
const rooms = (frames: number, chains: number, tablePages: number): Partial<SmallRoom> => ({
  nodes: [
    { kind: L.NODE_IS_HOST, frames },
    { kind: L.NODE_IS_PRIVATE, frames: 1100, owner: GPU_OWNER },
    { kind: L.NODE_IS_PRIVATE, frames: 1, owner: 2, alloc: L.ALLOC_DRIVER },
    { kind: L.NODE_IS_COHERENT, frames: 600, owner: CXL_OWNER },
  ],
  chains,
  tablePages,
  zeroFrames: HUGE,
});
const room = fc.constantFrom(
  rooms(2600, 16384, 64),
  rooms(2600, 16384, 64),
  rooms(700, 16384, 64),
  rooms(2600, 1100, 64),
  rooms(2600, 5, 64),
  rooms(2600, 16384, 14),
);

describe.each(flavours)('%s', (flavour) => {
  test('whatever three spaces do with their pages, each reads what it wrote, pins stay where they are, and nothing is left at the end', () => {
    fc.assert(
      fc.property(room, start, fc.array(step, { minLength: 5, maxLength: 25 }), (shape, windows, steps) => {
        const world = new World(flavour, shape);
        begin(world, windows);
        for (const one of steps) {
          if (one.op === 'migrate') {
            const between = (at: number): void => {
              for (const [when, event] of one.between) {
                // A fault on a page that is on its way waits for it: there is no other migration meanwhile.
                if (when !== at || event.op === 'write' || event.op === 'read' || event.op === 'pin') continue;
                run(world, event);
                expect(world.core.verify(0), `verify after ${event.op} in a migration`).toBe(0);
              }
            };
            world.migrate(world.spaces[one.space]!, one.range.from, one.range.pages, one.to, one.how, between);
          } else if (one.op === 'byFrame') {
            if (one.to !== one.from) world.byFrame(one.to, one.from, one.skip);
          } else run(world, one);
          world.check(world.pins.length === 0);
        }
        world.end();
      }),
      { numRuns: 60 },
    );
  });
});

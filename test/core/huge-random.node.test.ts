import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import * as L from '../../assembly/layout.ts';
import { type Flavour, flavours } from './harness.ts';
import { NOTHING, SmallCore } from './small-core.ts';

const HOST = 1;
const N = 512;
const WINDOWS = 3;
const PAGES = WINDOWS * N;
const SPACES = 2;
const READ = L.RIGHT_READ;
const RW = L.RIGHT_READ | L.RIGHT_WRITE;

/** A frame of the model, small or huge, with what each of its pages holds. */
interface Folio {
  readonly stamps: number[];
  readonly pins: number[];
  /** Entries that map it. */
  maps: number;
  /** Space that pays. */
  readonly payer: number;
  /** Where the core has it. */
  readonly frame: number;
}

/** An entry of the model. A huge one is the same object at each of its 512 pages; without a folio it is the page of zeros. */
interface Entry {
  readonly folio: Folio | undefined;
  readonly first: number;
  readonly huge: boolean;
  write: boolean;
  own: boolean;
  readable: boolean;
}

interface Space {
  readonly table: number;
  readonly index: number;
  readonly pages: (Entry | undefined)[];
}

const pinned = (folio: Folio): boolean => folio.pins.some((count) => count > 0);

/**
 * Two spaces over one host node, and what each of their pages, frames and promises must be: structure, not only bytes. The model knows no table page and no
 * reverse map; it says what a huge page, a split and a copy mean.
 */
class World extends SmallCore {
  readonly spaces: Space[];
  readonly folios = new Set<Folio>();
  /** Pins that are still to be ended: folio and page. */
  readonly held: { folio: Folio; page: number }[] = [];
  stampsUsed = 0;

  constructor(
    flavour: Flavour,
    readonly hostFrames: number,
  ) {
    super(flavour, { nodes: [{ kind: L.NODE_IS_HOST, frames: hostFrames }], chains: 2 ** 14, zeroFrames: N });
    this.spaces = Array.from({ length: SPACES }, () => {
      const { table, index } = this.home(4);
      return { table, index, pages: Array.from({ length: PAGES }) };
    });
  }

  // -------------------------------------------------------------------------------------------------------------- model

  /** Whether the core has a free frame of that size: its buddies are merged at all times. */
  hasFrame(huge: boolean): boolean {
    const size = huge ? N : 1;
    const base = this.base[HOST]!;
    const isUsed = (frame: number): boolean => (this.frame(frame, L.FRAME_FLAGS) & L.FRAME_STATE) >= L.STATE_USED;
    for (let first = base; first + size <= base + this.hostFrames; first += size) {
      let free = 0;
      while (free < size && !isUsed(first + free)) free++;
      if (free === size) return true;
    }
    return false;
  }

  /** Enters a new folio of the model where the core has put one. */
  appear(space: Space, vpn: number, huge: boolean, stamps: number[], { write = true, own = true } = {}): void {
    const frame = this.entry(space.table, vpn).low;
    const folio: Folio = { stamps, pins: stamps.map(() => 0), maps: 1, payer: space.index, frame };
    this.folios.add(folio);
    space.pages.fill({ folio, first: vpn, huge, write, own, readable: true }, vpn, vpn + stamps.length);
  }

  /** The entries of a range, each once, that are not none. */
  *within(space: Space, from: number, to: number): Generator<Entry> {
    let last: Entry | undefined;
    for (let vpn = from; vpn < to; vpn++) {
      const entry = space.pages[vpn];
      if (entry && entry !== last) yield entry;
      last = entry;
    }
  }

  /** Ends a mapping; a folio that nobody holds is gone. */
  drop(space: Space, entry: Entry): void {
    space.pages.fill(undefined, entry.first, entry.first + (entry.huge ? N : 1));
    if (!entry.folio) return;
    entry.folio.maps--;
    this.settle(entry.folio);
  }

  settle(folio: Folio): void {
    if (folio.maps === 0 && !pinned(folio)) this.folios.delete(folio);
  }

  /** Splits a huge entry: that of zeros in its own space, a frame's wherever it is mapped. */
  divide(space: Space, entry: Entry): void {
    const { folio } = entry;
    const small = folio?.stamps.map<Folio>((stamp, i) => ({
      stamps: [stamp],
      pins: [folio.pins[i]!],
      maps: folio.maps,
      payer: folio.payer,
      frame: folio.frame + i,
    }));
    for (const each of folio ? this.spaces : [space]) {
      for (let vpn = 0; vpn < PAGES; vpn++) {
        const old = each.pages[vpn];
        if (!old || (folio ? old.folio !== folio : old !== entry)) continue;
        each.pages[vpn] = { ...old, folio: small?.[vpn - old.first], first: vpn, huge: false };
      }
    }
    if (!folio || !small) return;
    this.folios.delete(folio);
    for (const each of small) this.folios.add(each);
    for (const pin of this.held) {
      if (pin.folio !== folio) continue;
      pin.folio = small[pin.page]!;
      pin.page = 0;
    }
  }

  /** Splits the huge entries that reach over a border of a range. */
  cut(space: Space, from: number, to: number, only: (entry: Entry) => boolean = () => true): void {
    for (const vpn of [from, to - 1]) {
      const entry = space.pages[vpn];
      if (entry?.huge && (entry.first < from || entry.first + N > to) && only(entry)) this.divide(space, entry);
    }
  }

  // -------------------------------------------------------------------------------------------------------------- verbs

  huge(space: Space, window: number, rights: number, zero: boolean): void {
    const first = window * N;
    const there = [...this.within(space, first, first + N)];
    const zeros = there.length === 1 && there[0]!.huge && !there[0]!.folio && there[0]!.readable ? there[0] : undefined;
    const can = there.length === 0 || (zeros && !zero);
    const hasFrame = zero || this.hasFrame(true);
    const done = this.core.mapHuge(space.table, first, HOST, rights, zero ? 1 : 0);
    expect([done, this.stop]).toEqual(can ? (hasFrame ? [1, L.STOP_NONE] : [0, L.STOP_FRAMES]) : [0, L.STOP_SPLIT]);
    if (!done) return;
    if (!zero) this.appear(space, first, true, Array<number>(N).fill(0), { write: rights === RW });
    else space.pages.fill({ folio: undefined, first, huge: true, write: false, own: false, readable: true }, first, first + N);
  }

  /** Serves a write fault, and writes. */
  write(space: Space, vpn: number): void {
    const { core } = this;
    const { table } = space;
    const entry = space.pages[vpn];
    const stamp = ++this.stampsUsed;
    if (entry && !entry.readable) return;
    if (!entry?.folio) {
      if (entry?.huge) this.split(space, vpn);
      const can = this.hasFrame(false);
      expect(core.mapFresh(table, vpn, HOST) >>> 0 !== NOTHING).toBe(can);
      if (!can) return;
      this.appear(space, vpn, false, [0]);
    } else if (!entry.write) {
      const alone = entry.own || (entry.folio.maps === 1 && !pinned(entry.folio));
      expect(core.canReuse(table, vpn)).toBe(alone ? 1 : 0);
      if (alone) {
        core.mapReuse(table, vpn);
        Object.assign(entry, { write: true, own: true });
      } else {
        if (entry.huge) this.split(space, vpn);
        const old = space.pages[vpn]!;
        const can = this.hasFrame(false);
        expect(core.mapCopy(table, vpn, HOST, 1) >>> 0 !== NOTHING).toBe(can);
        if (!can) return;
        this.drop(space, old);
        this.appear(space, vpn, false, [...old.folio!.stamps]);
      }
    }
    const now = space.pages[vpn]!;
    now.folio!.stamps[vpn - now.first] = stamp;
    this.setField(core.frameBytes(this.entry(table, vpn).low) >>> 0, 0, stamp);
  }

  read(space: Space, vpn: number): void {
    if (space.pages[vpn]) return;
    expect(this.core.mapZero(space.table, vpn)).toBe(1);
    space.pages[vpn] = { folio: undefined, first: vpn, huge: false, write: false, own: false, readable: true };
  }

  split(space: Space, vpn: number): void {
    expect(this.core.splitHuge(space.table, vpn)).toBe(1);
    const entry = space.pages[vpn];
    if (entry?.huge) this.divide(space, entry);
  }

  zap(space: Space, from: number, to: number): void {
    expect(this.core.zap(space.table, from, to - from)).toBe(to - from);
    this.cut(space, from, to);
    for (const entry of [...this.within(space, from, to)]) this.drop(space, entry);
  }

  zapLazy(space: Space, from: number, to: number): void {
    expect(this.core.zapLazy(space.table, from, to - from)).toBe(to - from);
    const goes = ({ folio, readable }: Entry): boolean => folio !== undefined && readable && folio.maps === 1 && !pinned(folio);
    this.cut(space, from, to, goes);
    for (const entry of [...this.within(space, from, to)]) if (goes(entry)) this.drop(space, entry);
  }

  protect(space: Space, from: number, to: number, rights: number): void {
    const changed = this.core.reprotect(space.table, from, to - from, rights);
    this.cut(space, from, to);
    let expected = 0;
    for (const entry of this.within(space, from, to)) {
      const wanted = { readable: (rights & READ) !== 0, write: rights === RW && entry.own };
      if (wanted.readable !== entry.readable || wanted.write !== entry.write) expected++;
      Object.assign(entry, wanted);
    }
    expect(changed).toBe(expected);
  }

  pin(space: Space, vpn: number): void {
    const entry = space.pages[vpn];
    // Others hold what they pin by a page of their own.
    if (!entry?.folio || !entry.own) return;
    const page = vpn - entry.first;
    expect(this.core.framePin(this.entry(space.table, vpn).low, 0)).toBe(1);
    entry.folio.pins[page]!++;
    this.held.push({ folio: entry.folio, page });
  }

  unpin(which: number): void {
    const [pin] = this.held.splice(which % Math.max(1, this.held.length), 1);
    if (!pin) return;
    expect(this.core.frameUnpin(pin.folio.frame + pin.page)).toBe(1);
    pin.folio.pins[pin.page]!--;
    this.settle(pin.folio);
  }

  /** Shares a window with another space, as a fork does, unless something of it is pinned or the other has something there. */
  fork(from: Space, to: Space, window: number): void {
    const [first, end] = [window * N, window * N + N];
    const entries = [...this.within(from, first, end)];
    if (from === to || [...this.within(to, first, end)].length > 0 || entries.some(({ folio }) => folio && pinned(folio))) return;
    expect(this.core.forkRange(from.table, to.table, first, N, HOST, 0)).toBe(N);
    for (const entry of entries) {
      if (entry.folio) {
        entry.folio.maps++;
        Object.assign(entry, { write: false, own: false });
      }
      to.pages.fill({ ...entry }, entry.first, entry.first + (entry.huge ? N : 1));
    }
  }

  collapse(space: Space, window: number, rights: number): void {
    const first = window * N;
    const entries = [...this.within(space, first, first + N)];
    if (entries.some(({ readable }) => !readable)) return;
    const isHuge = entries[0]?.huge ?? false;
    const can = entries.every(({ folio }) => !folio || (folio.maps === 1 && !pinned(folio)));
    const hasFrame = this.hasFrame(true);
    const done = this.core.collapseHuge(space.table, first, HOST, rights);
    if (isHuge) return expect(done).toBe(1);
    expect([done, this.stop]).toEqual(can ? (hasFrame ? [1, L.STOP_NONE] : [0, L.STOP_FRAMES]) : [0, L.STOP_REFUSED]);
    if (!done) return;
    const stamps = Array.from({ length: N }, (_, i) => space.pages[first + i]?.folio?.stamps[0] ?? 0);
    for (const entry of entries) this.drop(space, entry);
    this.appear(space, first, true, stamps, { write: rights === RW });
  }

  // -------------------------------------------------------------------------------------------------------------- checks

  check(): void {
    expect(this.core.verify(1), 'verify').toBe(0);
    const bytes = this.core.frameBytes(this.base[HOST]!) >>> 0;
    let entriesHuge = 0;
    for (const { table, pages } of this.spaces) {
      this.core.snapshotNative(table, 0, PAGES, this.values);
      for (let vpn = 0; vpn < PAGES; vpn++) {
        const [low, high] = [this.field(this.values, vpn * 8), this.field(this.values, vpn * 8 + 4)];
        const entry = pages[vpn];
        if (!entry) {
          if (high) expect.fail(`page ${vpn} is mapped`);
          continue;
        }
        const { folio, first } = entry;
        const wanted = [
          entry.readable ? L.KIND_PRESENT : L.KIND_PROTNONE,
          entry.huge ? 9 : 0,
          entry.write,
          entry.own,
          !folio,
          folio ? folio.frame + vpn - first : low,
          folio ? folio.stamps[vpn - first] : 0,
        ];
        const stamp = folio
          ? this.field(bytes + (low - this.base[HOST]!) * L.PAGE_BYTES, 0)
          : this.field(this.core.frameBytes(low) >>> 0, 0);
        const order = (high & L.ENTRY_ORDER) >>> L.ENTRY_ORDER_SHIFT;
        const bits = [L.ENTRY_WRITE, L.ENTRY_ANON_EXCLUSIVE, L.ENTRY_ZERO].map((bit) => (high & bit) !== 0);
        const found = [high & L.ENTRY_KIND, order, ...bits, low, stamp];
        if (found.some((value, i) => value !== wanted[i])) expect(found, `page ${vpn}`).toEqual(wanted);
        if (entry.huge && first === vpn) entriesHuge++;
      }
      expect(this.field(table, L.TABLE_PAGES)).toBe(pages.filter(Boolean).length);
    }
    let [used, chained, reserved] = [0, 0, 0];
    const charged = this.spaces.map(() => 0);
    for (const { stamps, pins, maps, payer, frame } of this.folios) {
      used += stamps.length;
      charged[payer]! += stamps.length;
      if (maps > 1) chained += maps;
      if (maps > 1 && stamps.length > 1) reserved += maps * N;
      const holders = this.holders(frame);
      if (holders.refs !== maps + pins.reduce((a, b) => a + b) || holders.maps !== maps)
        expect.fail(`frame ${frame}: ${JSON.stringify(holders)}, not ${maps} maps`);
      pins.forEach((count, i) => count && expect(this.holders(frame + i).pins).toBe(count));
    }
    expect(this.node(HOST, L.NODE_USED)).toBe(used);
    expect(this.spaces.map(({ table }) => this.field(table, L.TABLE_CHARGED))).toEqual(charged);
    const promised = [L.H_CHAIN_USED, L.H_CHAIN_RESERVED, L.H_PAGES_DEPOSITED].map((field) => this.bare.header(field));
    expect(promised).toEqual([chained, reserved, entriesHuge]);
  }

  end(): void {
    while (this.held.length > 0) this.unpin(0);
    for (const space of this.spaces) this.zap(space, 0, PAGES);
    this.check();
    expect([this.folios.size, this.bare.header(L.H_PAGES_USED)]).toEqual([0, SPACES]);
  }
}

const EDGES = [0, 1, 255, 510, 511, 512, 513, 1022, 1023, 1024, 1030, 1535];
const at = { space: fc.nat(SPACES - 1), vpn: fc.constantFrom(...EDGES), window: fc.nat(WINDOWS - 1) };
const range = fc
  .tuple(fc.constantFrom(...EDGES), fc.constantFrom(1, 2, 7, N - 1, N, N + 1, 2 * N))
  .map(([from, pages]) => ({ from, to: Math.min(PAGES, from + pages) }));
const rights = fc.constantFrom(0, READ, RW, RW);
const step = fc.oneof(
  { weight: 4, arbitrary: fc.record({ op: fc.constant('huge' as const), ...at, rights: fc.constantFrom(READ, RW, RW), zero: fc.nat(3) }) },
  { weight: 4, arbitrary: fc.record({ op: fc.constant('write' as const), ...at }) },
  fc.record({ op: fc.constant('read' as const), ...at }),
  { weight: 2, arbitrary: fc.record({ op: fc.constant('split' as const), ...at }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant('zap' as const), ...at, range }) },
  fc.record({ op: fc.constant('free' as const), ...at, range }),
  { weight: 2, arbitrary: fc.record({ op: fc.constant('protect' as const), ...at, range, rights }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant('pin' as const), ...at }) },
  fc.record({ op: fc.constant('unpin' as const), which: fc.nat(9) }),
  { weight: 3, arbitrary: fc.record({ op: fc.constant('fork' as const), ...at }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant('collapse' as const), ...at, rights: fc.constantFrom(READ, RW) }) },
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

function run(world: World, one: Step): void {
  if (one.op === 'unpin') return world.unpin(one.which);
  const space = world.spaces[one.space]!;
  switch (one.op) {
    case 'huge':
      return world.huge(space, one.window, one.rights, one.zero === 0);
    case 'write':
      return world.write(space, one.vpn);
    case 'read':
      return world.read(space, one.vpn);
    case 'split':
      return world.split(space, one.vpn);
    case 'zap':
      return world.zap(space, one.range.from, one.range.to);
    case 'free':
      return world.zapLazy(space, one.range.from, one.range.to);
    case 'protect':
      return world.protect(space, one.range.from, one.range.to, one.rights);
    case 'pin':
      return world.pin(space, one.vpn);
    case 'fork':
      return world.fork(space, world.spaces[1 - one.space]!, one.window);
    case 'collapse':
      return world.collapse(space, one.window, one.rights);
  }
}

describe.each(flavours)('%s', (flavour) => {
  test('whatever comes, huge pages, splits, pins and promises are what a model of folios says, frames running out or not', () => {
    // Room for everything; for two huge pages and a bit; for one and a half.
    const frames = fc.constantFrom(8 * N, 2 * N + 9, N + 256);
    fc.assert(
      fc.property(frames, fc.array(step, { minLength: 8, maxLength: 40 }), (hostFrames, steps) => {
        const world = new World(flavour, hostFrames);
        for (const one of steps) {
          run(world, one);
          world.check();
        }
        world.end();
      }),
      { numRuns: 30 },
    );
  });
});

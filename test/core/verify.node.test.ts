import { describe, expect, test } from 'vitest';
import * as L from '../../assembly/layout.ts';
import { type Flavour, flavours } from './harness.ts';
import { SmallCore } from './small-core.ts';

const HOST = 1;
const GPU = 2;
const NPU = 3;
const PRESENT = L.KIND_PRESENT;

/** A machine with a bit of everything: shared, pinned, zero and device pages, holes in the free lists, a device table, two TLBs. */
class Sound extends SmallCore {
  readonly a: ReturnType<SmallCore['home']>;
  readonly b: ReturnType<SmallCore['home']>;
  readonly device: number;
  readonly deviceTlb: number;
  /** Frames at pages 0, 1, ... of space a; the first is mapped by b as well. */
  readonly frames: readonly number[];

  constructor(flavour: Flavour) {
    super(flavour, {
      nodes: [
        { kind: L.NODE_IS_HOST, frames: 37 },
        { kind: L.NODE_IS_PRIVATE, frames: 16, owner: 1 },
        { kind: L.NODE_IS_PRIVATE, frames: 8, owner: 2, alloc: L.ALLOC_DRIVER, backed: false },
      ],
    });
    const { core } = this;
    this.a = this.home(4);
    this.b = this.home(4);
    this.frames = [0, 1, 2, 3].map((vpn) => core.mapFresh(this.a.table, vpn, HOST));
    this.share(this.frames[0]!, this.b.table, 2 ** 33, PRESENT);
    // Shared by two spaces: nobody's own.
    const first = this.slot(this.a.table, 0) + 4;
    this.u32[first >>> 2]! &= ~(L.ENTRY_WRITE | L.ENTRY_ANON_EXCLUSIVE);
    core.framePin(this.frames[1]!, 1);
    core.mapZero(this.a.table, 1000);
    const on = (vpn: number, frame: number): void => {
      core.rangeMap(this.b.table, vpn, 1, frame, L.KIND_DEVICE_PRIVATE | L.ENTRY_WRITE | L.ENTRY_ANON_EXCLUSIVE);
      core.rmapAddPage(frame, this.b.index, vpn);
    };
    on(0, core.frameTake(GPU, 0));
    core.frameClaim(this.base[NPU]! + 2, 0);
    on(1, this.base[NPU]! + 2);
    this.device = core.tableCreate(4, 0x9999, 0) >>> 0;
    this.setField(this.device, L.TABLE_HOME, this.a.table);
    this.frames.forEach((frame, vpn) => core.rangeMap(this.device, vpn, 1, frame, PRESENT));
    core.rangeMap(this.device, 2, 1, this.frames[2]!, PRESENT | L.ENTRY_WRITE);
    core.rangeMap(this.device, 1000, 1, this.zeroFrame, PRESENT);
    this.deviceTlb = core.tlbCreate(this.device, 8) >>> 0;
    for (const vpn of [0, 2, 1000]) this.touch(this.deviceTlb, vpn, false);
    this.touch(this.a.tlb, 3, true);
    this.touch(this.b.tlb, 2 ** 33, false);
  }

  /** Byte address of a page's level-0 entry. */
  slot(table: number, vpn: number): number {
    let page = this.field(table, L.TABLE_ROOT);
    for (let level = 3; level > 0; level--) page = this.field(page, (Math.floor(vpn / 2 ** (9 * level)) & 511) * L.ENTRY_BYTES);
    return page + (vpn & 511) * L.ENTRY_BYTES;
  }

  /** Adds to a word. */
  add(record: number, offset: number, by: number): void {
    this.setField(record, offset, this.field(record, offset) + by);
  }

  /** First way of the set of a page. */
  way(tlb: number, vpn: number): number {
    return tlb + L.TLB_HEADER_BYTES + (vpn % this.field(tlb, L.TLB_SETS)) * L.TLB_SET_BYTES;
  }

  broken(strict: boolean): [rule: number, a: number, b: number, c: number] {
    const rule = this.core.verify(strict ? 1 : 0);
    return [rule, ...([L.H_VERIFY_A, L.H_VERIFY_B, L.H_VERIFY_C].map((field) => this.bare.header(field)) as [number, number, number])];
  }
}

describe.each(flavours)('%s', (flavour) => {
  const sound = (): Sound => new Sound(flavour);

  test('a sound machine breaks no rule, busy or idle', () => {
    const machine = sound();
    expect([machine.core.verify(0), machine.core.verify(1), machine.bare.header(L.H_VERIFY_RULE)]).toEqual([0, 0, 0]);
  });

  test('an empty machine breaks no rule', () => {
    expect(new SmallCore(flavour, { nodes: [] }).core.verify(1)).toBe(0);
  });

  test('1: frames of a node that are neither used nor free', () => {
    for (const [field, by] of [
      [L.NODE_USED, 1],
      [L.NODE_FREE, -1],
    ] as const) {
      // prettier-ignore
      for (const node of [HOST, NPU]) {
        const machine = sound();
        machine.add(machine.nodeRecord(node), field, by);
        const used = node === HOST ? 4 : 1;
        expect(machine.broken(true)).toEqual([1, node, used, field === L.NODE_USED ? used + 1 : used]);
      }
    }
  });

  test('2: free blocks that do not add up', () => {
    const machine = sound();
    const block = machine.node(HOST, L.NODE_HEADS + 5 * 4) - 1 || machine.node(HOST, L.NODE_HEADS + 2 * 4) - 1;
    machine.add(machine.frameRecord(block), L.FRAME_FLAGS, 1 << L.FRAME_ORDER_SHIFT);
    const [rule, node, counted, recorded] = machine.broken(true);
    expect([rule, node, recorded, counted > recorded]).toEqual([2, HOST, 33, true]);
  });

  test('3: a reference that nobody owns up to, and one too few', () => {
    const machine = sound();
    const frame = machine.frames[1]!;
    machine.add(machine.frameRecord(frame), L.FRAME_REFS, 1);
    expect([machine.core.verify(0), machine.broken(true)]).toEqual([0, [3, frame, 3, 2]]);
    machine.add(machine.frameRecord(frame), L.FRAME_REFS, -2);
    expect(machine.broken(false)).toEqual([3, frame, 1, 2]);
  });

  test('4: a mapping count that is not the length of the reverse map', () => {
    const machine = sound();
    const frame = machine.frames[0]!;
    machine.add(machine.frameRecord(frame), L.FRAME_MAPS, -1);
    expect(machine.broken(false)).toEqual([4, frame, 2, 1]);
    const other = sound();
    other.setField(other.frameRecord(other.frames[2]!), L.FRAME_RMAP_OWNER, 0);
    expect(other.broken(true)).toEqual([4, other.frames[2], 0, 1]);
  });

  test('5: a reverse map to a page that has another frame, no frame, or to no table at all', () => {
    const machine = sound();
    const frame = machine.frames[2]!;
    for (const vpn of [3, 1000, 2 ** 20]) {
      machine.setField(machine.frameRecord(frame), L.FRAME_RMAP, vpn);
      expect(machine.broken(true)).toEqual([5, frame, vpn, machine.a.index]);
    }
    machine.setField(machine.frameRecord(frame), L.FRAME_RMAP, 0);
    machine.setField(machine.frameRecord(frame), L.FRAME_RMAP_OWNER, 4 << L.RMAP_TABLE_SHIFT);
    expect(machine.broken(true)).toEqual([5, frame, 0, 0]);
    const zapped = sound();
    zapped.core.rangeUnmap(zapped.a.table, 2, 1);
    expect(zapped.broken(true)).toEqual([5, zapped.frames[2], 2, zapped.a.index]);
  });

  test('6: a frame that is still locked', () => {
    const machine = sound();
    machine.core.frameTryLock(machine.frames[3]!);
    expect([machine.core.verify(0), machine.broken(true)]).toEqual([0, [6, machine.frames[3], 0, 0]]);
  });

  test('7: an entry for a frame that is free, the tail of another, or none', () => {
    const machine = sound();
    const tail = machine.core.frameTake(HOST, 2) + 1;
    for (const frame of [machine.base[HOST]! + 30, tail, machine.bare.header(L.H_FRAMES_MAX), 0xffffffff]) {
      machine.core.rangeMap(machine.a.table, 77, 1, frame, PRESENT);
      expect(machine.broken(false)).toEqual([7, 77, frame, machine.a.index]);
    }
  });

  test('8: an entry that the frame does not know of', () => {
    for (const kind of [PRESENT, L.KIND_DEVICE_PRIVATE, L.KIND_EXCLUSIVE, L.KIND_MIGRATION, L.KIND_PROTNONE]) {
      const machine = sound();
      machine.core.rangeMap(machine.b.table, 77, 1, machine.frames[0]!, kind);
      expect(machine.broken(false)).toEqual([8, 77, machine.frames[0], machine.b.index]);
      // Neither holds a frame.
      for (const other of [L.KIND_POISON, L.KIND_SPECIAL, PRESENT | L.ENTRY_ZERO]) {
        machine.core.rangeMap(machine.b.table, 77, 1, machine.frames[0]!, other);
        expect(machine.core.verify(1)).toBe(0);
      }
    }
  });

  test('9: a live count of a table page', () => {
    const machine = sound();
    const page = machine.slot(machine.a.table, 0);
    const count = (machine.bare.header(L.H_LIVE) >>> 1) + (page - machine.bare.header(L.H_PAGES)) / L.PAGE_BYTES;
    machine.bare.u16[count]! += 1;
    expect(machine.broken(true)).toEqual([9, page, 4, 5]);
  });

  test('10: the mapped pages and the table pages of a table', () => {
    for (const field of [L.TABLE_PAGES, L.TABLE_TABLES]) {
      for (const which of ['a', 'device'] as const) {
        const machine = sound();
        const table = which === 'a' ? machine.a.table : machine.device;
        const counted = machine.field(table, field);
        machine.add(table, field, 1);
        expect(machine.broken(true)).toEqual([10, machine.field(table, L.TABLE_INDEX), counted, counted + 1]);
      }
    }
  });

  test('11: a device that maps another frame than its home, or one that its home does not', () => {
    const machine = sound();
    machine.core.rangeMap(machine.device, 1, 1, machine.frames[2]!, PRESENT);
    expect(machine.broken(true)).toEqual([11, 1, machine.frames[2], machine.frames[1]]);
    machine.core.rangeMap(machine.device, 1, 1, machine.frames[1]!, PRESENT);
    machine.core.rangeMap(machine.device, 500, 1, machine.frames[2]!, PRESENT);
    expect(machine.broken(true)).toEqual([11, 500, machine.frames[2], 2 ** 32 - 1]);
    const moving = sound();
    moving.setField(moving.slot(moving.a.table, 1), 4, L.KIND_MIGRATION);
    expect(moving.broken(false)).toEqual([11, 1, moving.frames[1], 2 ** 32 - 1]);
  });

  test('12: a device that may write what its home may not', () => {
    const machine = sound();
    machine.core.rangeProtect(machine.device, 1000, 1, 0, L.ENTRY_WRITE);
    expect(machine.broken(true)).toEqual([12, 1000, machine.zeroFrame, 0]);
  });

  test('13: a TLB that knows a page, a right or a frame that its table does not', () => {
    const gone = sound();
    gone.core.rangeUnmap(gone.device, 2, 1);
    expect(gone.broken(true)).toEqual([13, 2, gone.frames[2], 0]);
    const right = sound();
    right.setField(right.way(right.b.tlb, 2 ** 33), 0, right.field(right.way(right.b.tlb, 2 ** 33), 0) | L.TLB_WRITE);
    expect(right.broken(true).slice(0, 2)).toEqual([13, 0]);
    // What a loop of accesses looks at alone.
    const dirty = sound();
    dirty.setField(dirty.way(dirty.b.tlb, 2 ** 33), 4, dirty.field(dirty.way(dirty.b.tlb, 2 ** 33), 4) | L.TLB_DIRTY);
    expect(dirty.broken(true).slice(0, 2)).toEqual([13, 0]);
    const frame = sound();
    frame.add(frame.way(frame.a.tlb, 3), 12, 1);
    expect(frame.broken(true)).toEqual([13, 3, frame.frames[3]! + 1, frame.frames[3]]);
  });

  test('14: a migration entry that nobody ends', () => {
    const machine = sound();
    const slot = machine.slot(machine.b.table, 0);
    machine.setField(slot, 4, L.KIND_MIGRATION);
    const frame = machine.field(slot, 0);
    expect([machine.core.verify(0), machine.broken(true)]).toEqual([0, [14, 0, frame, machine.b.index]]);
  });

  test('15: table pages in use that no table has', () => {
    const machine = sound();
    const used = machine.bare.header(L.H_PAGES_USED);
    machine.setHeader(L.H_PAGES_USED, used + 1);
    expect(machine.broken(true)).toEqual([15, used, used + 1, 0]);
  });

  describe('with huge pages', () => {
    const N = 512;
    const RW = L.RIGHT_READ | L.RIGHT_WRITE;

    /** Of space a: an own huge page at 0, of which page 5 is pinned, and one at 512 that b shares; of b, the huge page of zeros at 0 and a hugetlb-like one at 1024. */
    class SoundHuge extends SmallCore {
      readonly a = this.home(4);
      readonly b = this.home(4);
      readonly own: number;
      readonly shared: number;
      readonly hugetlb: number;
      readonly file: number;

      constructor() {
        super(flavour, { nodes: [{ kind: L.NODE_IS_HOST, frames: 4 * N }], chains: 4096, zeroFrames: N });
        const { core } = this;
        for (const vpn of [0, N]) core.mapHuge(this.a.table, vpn, HOST, RW, 0);
        core.forkRange(this.a.table, this.b.table, N, N, HOST, 0);
        core.mapHuge(this.b.table, 0, HOST, RW, 1);
        core.mapHugetlb(this.b.table, 2 * N, HOST, 9, RW);
        [this.own, this.shared, this.hugetlb] = [this.entry(this.a.table, 0).low, this.entry(this.a.table, N).low, this.entry(this.b.table, 2 * N).low]; // prettier-ignore
        core.framePin(this.own + 5, 1);
        // A page of a file: a mapping that may be written, and the cache's reference.
        this.file = core.frameTake(HOST, 0);
        this.mark(this.file, L.FRAME_FILE | L.FRAME_CACHED);
        core.mapFrame(this.a.table, 3 * N, this.file, PRESENT | L.ENTRY_WRITE);
      }

      mark(frame: number, flags: number): void {
        this.setField(this.frameRecord(frame), L.FRAME_FLAGS, this.frame(frame, L.FRAME_FLAGS) | flags);
      }

      /** Byte address of the high word of a page's entry, at whatever level. */
      high(table: number, vpn: number): number {
        let page = this.field(table, L.TABLE_ROOT);
        for (let level = 3; ; level--) {
          const slot = page + (Math.floor(vpn / 2 ** (9 * level)) & 511) * L.ENTRY_BYTES;
          if (level === 0 || this.field(slot, 4) < 2 ** 31) return slot + 4;
          page = this.field(slot, 0);
        }
      }

      /** Sets and clears bits of a page's entry. */
      change(table: number, vpn: number, set: number, clear = 0): void {
        const at = this.high(table, vpn) >>> 2;
        this.u32[at] = (this.u32[at]! & ~clear) | set;
      }

      broken(strict: boolean): [rule: number, a: number, b: number, c: number] {
        const rule = this.core.verify(strict ? 1 : 0);
        return [rule, ...([L.H_VERIFY_A, L.H_VERIFY_B, L.H_VERIFY_C].map((field) => this.bare.header(field)) as [number, number, number])];
      }
    }

    const soundHuge = (): SoundHuge => new SoundHuge();

    test('a sound machine breaks no rule, busy or idle', () => {
      const machine = soundHuge();
      expect([machine.core.verify(0), machine.core.verify(1)]).toEqual([0, 0]);
    });

    test('3: a pin of a page without the reference of its head, and a cached page without that of its cache', () => {
      const machine = soundHuge();
      machine.setField(machine.frameRecord(machine.own + 5), L.FRAME_MAPS, 2 * L.PIN_ONE);
      expect(machine.broken(false)).toEqual([3, machine.own, 2, 3]);
      const cached = soundHuge();
      cached.setField(cached.frameRecord(cached.file), L.FRAME_REFS, 1);
      expect(cached.broken(false)).toEqual([3, cached.file, 1, 2]);
    });

    test('16: an entry of another size than its frame', () => {
      const small = soundHuge();
      small.change(small.a.table, 0, 0, L.ENTRY_ORDER);
      expect(small.broken(true)).toEqual([16, 0, small.own, small.a.index]);
      const huge = soundHuge();
      huge.change(huge.a.table, 3 * N, 9 << L.ENTRY_ORDER_SHIFT);
      expect(huge.broken(true)).toEqual([16, 3 * N, huge.file, huge.a.index]);
    });

    test('17: promised table pages that are more or fewer than the huge entries that may be split', () => {
      for (const by of [1, -1]) {
        const machine = soundHuge();
        machine.setHeader(L.H_PAGES_DEPOSITED, 4 + by);
        expect(machine.broken(true)).toEqual([17, 4, 4 + by, 0]);
      }
    });

    test('18: records set aside that are more or fewer than shared huge frames need', () => {
      for (const by of [1, -1]) {
        const machine = soundHuge();
        machine.setHeader(L.H_CHAIN_RESERVED, 2 * N + by);
        expect(machine.broken(true)).toEqual([18, 2 * N, 2 * N + by, 0]);
      }
    });

    test('19: an entry that says its shared frame is its own, one on its way included', () => {
      for (const kind of [0, L.KIND_MIGRATION]) {
        const machine = soundHuge();
        machine.change(machine.b.table, N, L.ENTRY_ANON_EXCLUSIVE | kind, kind ? L.ENTRY_KIND : 0);
        expect(machine.broken(kind === 0)).toEqual([19, N, machine.shared, machine.b.index]);
      }
    });

    test('20: an entry that allows writing to an anonymous frame that is not its own; pages of files may be written', () => {
      for (const [vpn, frame] of [
        [N, 'shared'],
        [0, 'own'],
      ] as const) {
        const machine = soundHuge();
        machine.change(machine.a.table, vpn, L.ENTRY_WRITE, L.ENTRY_ANON_EXCLUSIVE);
        expect(machine.broken(true)).toEqual([20, vpn, machine[frame], machine.a.index]);
      }
      const file = soundHuge();
      file.setField(file.frameRecord(file.file), L.FRAME_FLAGS, file.frame(file.file, L.FRAME_FLAGS) & ~L.FRAME_FILE);
      expect(file.broken(true)).toEqual([20, 3 * N, file.file, file.a.index]);
    });

    test('11, 12: a device may map any page of a huge one, of zeros too, and write a page that it has for its atomics', () => {
      const machine = soundHuge();
      const { core, a } = machine;
      const device = core.tableCreate(4, 0x9999, 0) >>> 0;
      machine.setField(device, L.TABLE_HOME, a.table);
      core.rangeMapOrder(device, 16, machine.own + 16, PRESENT | L.ENTRY_WRITE, 4);
      core.rangeMap(device, N + 7, 1, machine.shared + 7, PRESENT);
      const [alone, read] = [core.mapFresh(a.table, 3 * N + 1, HOST), core.mapFresh(a.table, 3 * N + 2, HOST)];
      expect([core.exclusiveSet(a.table, 3 * N + 1), core.cpuReadsSet(a.table, 3 * N + 2)]).toEqual([1, 1]);
      core.rangeMap(device, 3 * N + 1, 1, alone, PRESENT | L.ENTRY_WRITE);
      core.rangeMap(device, 3 * N + 2, 1, read, PRESENT | L.ENTRY_WRITE);
      expect(machine.broken(true)[0]).toBe(0);
      core.splitHuge(a.table, 0);
      expect(machine.broken(true)[0]).toBe(0);
      core.rangeMap(device, N + 7, 1, machine.shared + 7, PRESENT | L.ENTRY_WRITE);
      expect(machine.broken(true)).toEqual([12, N + 7, machine.shared + 7, 0]);
      core.rangeMap(device, N + 7, 1, machine.shared + 8, PRESENT);
      expect(machine.broken(true)).toEqual([11, N + 7, machine.shared + 8, machine.shared + 7]);
    });
  });
});

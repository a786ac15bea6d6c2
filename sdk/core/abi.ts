/**
 * THE boundary: the core's exports as TypeScript sees them, and the views over its memory.
 *
 * Numbers only: addresses and counts are u32, page numbers f64 integers below 2^36. Wasm coerces silently and returns u32 as negative
 * numbers, so arguments are checked by the callers above, and `>>> 0` happens here and nowhere else.
 */
import * as L from '../../assembly/layout.ts';
import { BytesArea } from './bytes-area.ts';
import type { MemoryPlan } from './memory.ts';

/** Exports of `assembly/index.ts`, by hand: name, parameters, result. Addresses come back signed; see `Core`. */
export interface CoreExports {
  nodeCreate(
    node: number,
    base: number,
    frames: number,
    kind: number,
    bytesMode: number,
    alloc: number,
    owner: number,
    bytesBase: number,
    frameShift: number,
  ): void;
  nodeDestroy(node: number): number;
  clearTouched(start: number, length: number): void;
  frameTake(node: number, order: number): number;
  frameTakeMany(node: number, n: number, list: number, marks: number, runs: number): number;
  frameMark(frame: number, n: number, clear: number, set: number): void;
  frameClaim(frame: number, order: number): number;
  frameClaimMany(list: number, n: number, marks: number, runs: number): number;
  frameGet(frame: number): void;
  framePut(frame: number): void;
  framePin(frame: number, longTerm: number): number;
  frameUnpin(frame: number): number;
  frameTryLock(frame: number): number;
  frameUnlock(frame: number): void;
  frameTouch(frame: number): void;
  frameClear(frame: number): number;
  frameCopy(from: number, to: number, pages: number): number;
  frameBytes(frame: number): number;
  rmapAddPage(frame: number, tableIndex: number, vpn: number): number;
  rmapRemovePage(frame: number, tableIndex: number, vpn: number): number;
  rmapPlaces(frames: number, n: number, output: number): void;
  rmapList(frame: number, output: number, max: number): number;
  tableCreate(levels: number, bits: number, isHome: number): number;
  tableDestroy(table: number): void;
  tableWalk(table: number, vpn: number): number;
  rangeMap(table: number, vpn: number, pages: number, frame: number, high: number): number;
  rangeMapOrder(table: number, vpn: number, frame: number, high: number, order: number): number;
  rangeMapWords(table: number, vpn: number, pages: number, words: number): number;
  rangeUnmap(table: number, vpn: number, pages: number): number;
  rangeProtect(table: number, vpn: number, pages: number, clear: number, set: number): number;
  rangeSplit(table: number, vpn: number): number;
  rangeCollapse(table: number, vpn: number): number;
  rangeCount(table: number, vpn: number, pages: number): number;
  rangeNext(table: number, vpn: number, pages: number): number;
  lookupBatch(table: number, input: number, output: number, n: number, scratch: number): void;
  lookupDependent(table: number, input: number, n: number): number;
  snapshotNative(table: number, vpn: number, pages: number, output: number): number;
  snapshotHmm(table: number, vpn: number, pages: number, output: number, owner: number): number;
  alikeEnd(slot: number, end: number, high: number, mask: number): number;
  snapshotExtents(table: number, vpn: number, pages: number, output: number, max: number): number;
  tableHarvest(table: number, vpn: number, pages: number, output: number, max: number): number;
  tableMark(table: number, vpn: number, marks: number): void;
  mapZero(table: number, vpn: number): number;
  mapFresh(table: number, vpn: number, node: number): number;
  mapReuse(table: number, vpn: number): void;
  zap(table: number, vpn: number, pages: number): number;
  zapLazy(table: number, vpn: number, pages: number): number;
  reprotect(table: number, vpn: number, pages: number, rights: number): number;
  splitHuge(table: number, vpn: number): number;
  mapHuge(table: number, vpn: number, node: number, rights: number, zero: number): number;
  mapHugetlb(table: number, vpn: number, node: number, order: number, rights: number): number;
  collapseHuge(table: number, vpn: number, node: number, rights: number): number;
  canReuse(table: number, vpn: number): number;
  mapCopy(table: number, vpn: number, node: number, writable: number): number;
  mapFrame(table: number, vpn: number, frame: number, high: number): number;
  mapSpecial(table: number, vpn: number, pfn: number, high: number): number;
  mapShared(table: number, vpn: number): void;
  mapOwn(table: number, vpn: number): void;
  frameClean(frame: number): number;
  forkRange(parent: number, child: number, vpn: number, pages: number, node: number, flags: number): number;
  moveEntries(table: number, from: number, to: number, pages: number): number;
  exclusiveSet(table: number, vpn: number): number;
  exclusiveClear(table: number, vpn: number, rights: number): number;
  cpuReadsSet(table: number, vpn: number): number;
  duplicateSet(table: number, vpn: number, frame: number): number;
  replicaSet(frame: number, original: number, table: number): void;
  replicaPart(frame: number): void;
  migrateCollect(
    table: number,
    vpn: number,
    pages: number,
    select: number,
    owner: number,
    faultFrame: number,
    source: number,
    wanted: number,
  ): number;
  migrateCollectFrames(list: number, n: number, source: number): number;
  migrateSplit(source: number, target: number, n: number): void;
  migrateCopy(source: number, target: number, n: number): number;
  migrateCommit(table: number, vpn: number, n: number, source: number, target: number, writable: number, faultFrame: number): number;
  migrateFinalize(n: number, source: number, target: number): number;
  movablePages(table: number, vpn: number, pages: number, base: number, frames: number, which: number, output: number): number;
  movingRuns(
    source: number,
    target: number,
    from: number,
    n: number,
    isRange: number,
    writable: number,
    copied: number,
    output: number,
    max: number,
  ): number;
  pageIsolate(table: number, vpn: number, select: number, owner: number, mirror: number, tlb: number): number;
  pageRestore(frame: number): void;
  pageSettle(
    table: number,
    vpn: number,
    frame: number,
    to: number,
    moves: number,
    copies: number,
    writable: number,
    mirror: number,
  ): number;
  movingTally(source: number, target: number, n: number, output: number): void;
  aimEach(offsets: number, frames: number, n: number, target: number, words: number): void;
  aimWanting(node: number, source: number, target: number, from: number, n: number, most: number): number;
  usedFrames(node: number, from: number, output: number, max: number): number;
  coldFrames(node: number, from: number, look: number, output: number, max: number, payer: number): number;
  backingOf(frame: number): number;
  backingDrop(frame: number): void;
  victims(node: number, output: number, max: number, passed: number, passedCount: number, payer: number): number;
  victimsByUse(
    node: number,
    used: number,
    n: number,
    room: number,
    output: number,
    passed: number,
    passedCount: number,
    payer: number,
  ): number;
  harvestVictims(
    table: number,
    from: number,
    node: number,
    output: number,
    max: number,
    passed: number,
    passedCount: number,
    payer: number,
  ): number;
  tlbCreate(table: number, sets: number): number;
  tlbDestroy(tlb: number): void;
  tlbInvalidate(tlb: number, vpn: number, pages: number): void;
  tlbFlush(tlb: number): void;
  runAccesses(tlb: number, accesses: number, values: number, from: number, end: number): number;
  copyThrough(tlb: number, address: number, length: number, buffer: number, write: number): number;
  fillValues(values: number, n: number, seed: number, number: number): void;
  jobBegin(job: number, n: number, lanes: number, faultsMax: number): void;
  laneRound(tlb: number, job: number, accesses: number, values: number, order: number, faults: number): number;
  laneCancel(job: number, lane: number): void;
  faultsAhead(table: number, faults: number, count: number): void;
  accessesAhead(tlb: number, accesses: number, from: number, end: number): void;
  lackeyParse(input: number, length: number, output: number, max: number, last: number): number;
  verify(strict: number): number;
  byteMapAhead(count: number): void;
  byteMapRepeat(from: number, count: number): number;
  runEnd(accesses: number, from: number, count: number): number;
  gatherAccesses(accesses: number, values: number, order: number, count: number, target: number): void;
  countReads(accesses: number, from: number, end: number): number;
  scaleAccesses(accesses: number, count: number, shift: number): void;
  nextBlock(accesses: number, from: number, count: number, recent: number, slots: number): number;
}

const HIGH = 2 ** 32;
/** High words from here on have the sign bit: child entries. */
const CHILD = 2 ** 31;
/** Up to here word by word is quicker than the views that a copy of many needs. */
const FEW_WORDS = 64;
/** TABLE_BITS of four levels of nine bits, as one word. */
const FOUR_NINES = 0x09090909;

const NO_WORDS: Uint32Array = new Uint32Array(0);
/** Views that are kept, and how many bits of a hash of their start are not looked at. */
const VIEWS = 32;
const VIEWS_SHIFT = 27;

/** Who is told of the frames that a core call has freed. */
export interface FreedFrames {
  /** A frame of a driver has come free, `pages` of them for a huge one. */
  freed(frame: number, pages: number): void;
  /** The same of `count` of them, as the core lists them: a huge one with FREED_HUGE. */
  freedMany(list: Uint32Array, count: number): void;
}

/**
 * One instance of the core over one memory. Its views never go stale: the memory cannot grow. Arrays handed out by `area*` are borrowed until the next call
 * into the core.
 */
export class Core {
  readonly exports: CoreExports;
  readonly plan: MemoryPlan;
  /** Whether it is the build that checks itself: then what the SDK takes for granted of it is checked as well. */
  readonly asserts: boolean;
  /** The area AREA_BYTES. */
  readonly bytesArea: BytesArea = new BytesArea(this);
  u8: Uint8Array;
  u32: Uint32Array;
  /** The same words with a sign: that of a high word tells child entries, and an entry is read without turning it into a fraction. */
  private i32: Int32Array;
  /** Descriptor address of the table that was looked at last and has four levels of nine bits; 0: none yet. */
  private fourNines = 0;
  /** Low word of the entry that the last `entry` call found. */
  entryLow = 0;
  /** Whose words stand in AREA_SOURCE and AREA_TARGET, so that they need not be put there again; undefined: nobody's. */
  tenant: object | undefined = undefined;
  /** For the next list of freed frames; empty while one is being gone through. */
  private spareList: Uint32Array = NO_WORDS;
  /** Views of stretches of words that were asked for lately, by a hash of where they start: most are asked for again and again, and they never go stale. */
  private readonly views: Uint32Array[] = new Array<Uint32Array>(VIEWS).fill(NO_WORDS);
  private readonly viewStarts: Uint32Array = new Uint32Array(VIEWS);

  constructor(exports: CoreExports, buffer: ArrayBuffer, plan: MemoryPlan, asserts: boolean = false) {
    this.exports = exports;
    this.plan = plan;
    this.asserts = asserts;
    this.u8 = new Uint8Array(buffer);
    this.u32 = new Uint32Array(buffer);
    this.i32 = new Int32Array(buffer);
  }

  /** Drops every view, so that the memory can be collected. Any later use fails. */
  close(): void {
    this.u8 = new Uint8Array(0);
    this.u32 = new Uint32Array(0);
    this.i32 = new Int32Array(0);
    this.fourNines = 0;
    this.bytesArea.close();
  }

  /** Byte address of a batch area (AREA_*). */
  area(offset: number): number {
    return this.plan.areasAt + offset;
  }

  /** u32 view of a batch area, `length` words. Borrowed. */
  words(offset: number, length: number): Uint32Array {
    return this.view(this.area(offset) >>> 2, length);
  }

  /** Byte address of AREA_SOURCE or AREA_TARGET for words that nobody comes back to: whoever had his there puts them there again. */
  wordsArea(offset: number): number {
    this.tenant = undefined;
    return this.area(offset);
  }

  /** Copies the first `length` words into the memory, from byte address `at` on. */
  lend(at: number, words: Uint32Array | Int32Array, length: number): void {
    const { u32 } = this;
    const first = at >>> 2;
    if (length > FEW_WORDS) u32.set(words.length === length ? words : words.subarray(0, length), first);
    else for (let i = 0; i < length; i++) u32[first + i] = words[i]!;
  }

  /** Copies `length` words of the memory, from byte address `at` on, to the front of `words`. */
  take(at: number, words: Uint32Array, length: number): void {
    const { u32 } = this;
    const first = at >>> 2;
    if (length > FEW_WORDS) words.set(this.view(first, length));
    else for (let i = 0; i < length; i++) words[i] = u32[first + i]!;
  }

  private view(first: number, length: number): Uint32Array {
    const place = Math.imul(first, 0x9e3779b1) >>> VIEWS_SHIFT;
    const last = this.views[place]!;
    if (last.length === length && this.viewStarts[place] === first) return last;
    const view = this.u32.subarray(first, first + length);
    this.views[place] = view;
    this.viewStarts[place] = first;
    return view;
  }

  header(offset: number): number {
    return this.u32[offset >>> 2]!;
  }

  setHeader(offset: number, value: number): void {
    this.u32[offset >>> 2] = value;
  }

  /** Why the last call stopped: STOP_*. */
  get stopReason(): number {
    return this.header(L.H_STOP_REASON);
  }

  get stopVpn(): number {
    return this.header(L.H_STOP_VPN_HIGH) * HIGH + this.header(L.H_STOP_VPN_LOW);
  }

  get stopIndex(): number {
    return this.header(L.H_STOP_INDEX);
  }

  /** A new table's descriptor address, or 0. `bits`: width of each level, leaves first. */
  tableCreate(bits: readonly number[], isHome: boolean): number {
    let packed = 0;
    // It may take the place of one of another shape.
    this.fourNines = 0;
    bits.forEach((width, level) => {
      packed |= width << (level * 4);
    });
    return this.exports.tableCreate(bits.length, packed, isHome ? 1 : 0) >>> 0;
  }

  tlbCreate(table: number, sets: number): number {
    return this.exports.tlbCreate(table, sets) >>> 0;
  }

  /**
   * Byte address of a frame's bytes, 0 when they are elsewhere. On a machine without bytes all frames that have none share blank pages: the first one is zeros again with every call, what is written there is
   * forgotten, and further ones, for runs, mean nothing.
   */
  frameBytes(frame: number): number {
    const at = this.exports.frameBytes(frame) >>> 0;
    const { blankAt } = this.plan;
    if (at !== 0 || blankAt === 0) return at;
    this.u8.fill(0, blankAt, blankAt + L.PAGE_BYTES);
    return blankAt;
  }

  /** A field of a table descriptor, TLB slot, node or frame record. */
  field(record: number, offset: number): number {
    return this.u32[(record + offset) >>> 2]!;
  }

  setField(record: number, offset: number, value: number): void {
    this.u32[(record + offset) >>> 2] = value;
  }

  /** A u64 counter as a number. */
  counter(record: number, offset: number): number {
    return this.field(record, offset + 4) * HIGH + this.field(record, offset);
  }

  nodeRecord(node: number): number {
    return this.plan.nodesAt + node * L.NODE_BYTES;
  }

  frameRecord(frame: number): number {
    return this.plan.framesAt + frame * L.FRAME_BYTES;
  }

  nodeOf(frame: number): number {
    const flags = this.field(this.frameRecord(frame), L.FRAME_FLAGS);
    return flags === 0 ? this.nodeAround(frame) : (flags & L.FRAME_NODE) >>> L.FRAME_NODE_SHIFT;
  }

  /** The node of a frame that nobody has had yet. */
  private nodeAround(frame: number): number {
    for (let node = 0; node < L.NODES_MAX; node++) {
      const record = this.nodeRecord(node);
      const base = this.field(record, L.NODE_BASE);
      if (this.field(record, L.NODE_KIND) !== 0 && frame >= base && frame < base + this.field(record, L.NODE_FRAMES)) return node;
    }
    return 0;
  }

  /** The head of the huge frame that a frame is part of: itself when it is part of none. */
  headOf(frame: number): number {
    const record = this.frameRecord(frame);
    return (this.field(record, L.FRAME_FLAGS) & L.FRAME_STATE) === L.STATE_TAIL ? this.field(record, L.FRAME_PREVIOUS) : frame;
  }

  /** Pages of a frame: 1, or of the head of a huge one all of them. */
  pagesOf(frame: number): number {
    return 2 ** ((this.field(this.frameRecord(frame), L.FRAME_FLAGS) & L.FRAME_ORDER) >>> L.FRAME_ORDER_SHIFT);
  }

  /** Where the last call stopped because a frame is locked (STOP_LOCKED). */
  get stopFrame(): number {
    return this.header(L.H_STOP_ENTRY_LOW);
  }

  /** Descriptor address of a table by its index. */
  tableAt(index: number): number {
    return this.plan.tablesAt + index * L.TABLE_BYTES;
  }

  /**
   * The entry of a page: high word returned, low word in `entryLow`; 0 when there is none. Reads the tables through a view: a single look-up does not cross
   * the boundary. A block leaf answers with the frame of the very page.
   */
  entry(table: number, vpn: number): number {
    if (table !== this.fourNines) {
      // Every home table and most device tables: four levels of nine bits. A table does not change its shape.
      if (this.field(table, L.TABLE_BITS) !== FOUR_NINES || this.field(table, L.TABLE_LEVELS) !== 4) return this.entryByLevel(table, vpn);
      this.fourNines = table;
    }
    const { i32 } = this;
    const low = vpn | 0;
    let slot = (i32[table >>> 2]! >>> 2) + ((((vpn / 2 ** 27) | 0) & 511) << 1);
    if (i32[slot + 1]! >= 0) return this.block(slot, low & 0x7ffffff);
    slot = (i32[slot]! >>> 2) + (((low >>> 18) & 511) << 1);
    if (i32[slot + 1]! >= 0) return this.block(slot, low & 0x3ffff);
    slot = (i32[slot]! >>> 2) + (((low >>> 9) & 511) << 1);
    if (i32[slot + 1]! >= 0) return this.block(slot, low & 511);
    slot = (i32[slot]! >>> 2) + ((low & 511) << 1);
    this.entryLow = i32[slot]! >>> 0;
    return i32[slot + 1]!;
  }

  /** What a slot above the leaves says of page `page` of its block. */
  private block(slot: number, page: number): number {
    this.entryLow = this.u32[slot]! + page;
    return this.u32[slot + 1]!;
  }

  private entryByLevel(table: number, vpn: number): number {
    const { u8, u32 } = this;
    const low = vpn >>> 0;
    const high = (vpn / HIGH) | 0;
    let page = u32[(table + L.TABLE_ROOT) >>> 2]!;
    let level = u32[(table + L.TABLE_LEVELS) >>> 2]!;
    while (level > 0) {
      level--;
      const shift = u8[table + L.TABLE_SHIFTS + level]!;
      const width = u8[table + L.TABLE_BITS + level]!;
      const bits = shift === 0 ? low : shift < 32 ? (low >>> shift) | (high << (32 - shift)) : high >>> (shift - 32);
      const slot = (page + ((bits & ((1 << width) - 1)) << 3)) >>> 2;
      if (u32[slot + 1]! < CHILD) return this.block(slot, level === 0 ? 0 : low & ((1 << shift) - 1));
      page = u32[slot]!;
    }
    return 0;
  }

  /** Whether the last call freed frames that a driver owns. */
  get hasFreed(): boolean {
    return this.header(L.H_FREED) !== 0;
  }

  /** Takes the list of driver-owned frames that the last call freed: `owner` is told of every one, once. */
  drainFreed(owner: FreedFrames): void {
    const count = this.header(L.H_FREED);
    if (count === 0) return;
    this.setHeader(L.H_FREED, 0);
    if (count === 1) {
      const frame = this.u32[this.area(L.AREA_FREED) >>> 2]!;
      owner.freed(frame & ~L.FREED_HUGE, frame & L.FREED_HUGE ? 2 ** L.HUGE_ORDER : 1);
      return;
    }
    // Copied first: an owner that is told may call the core again, and then this list is in use.
    let { spareList: list } = this;
    this.spareList = NO_WORDS;
    if (list.length < count) list = new Uint32Array(count);
    this.take(this.area(L.AREA_FREED), list, count);
    owner.freedMany(list, count);
    this.spareList = list;
  }
}

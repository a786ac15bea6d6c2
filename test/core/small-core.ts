import * as L from '../../assembly/layout.ts';
import { type CoreExports } from '../../sdk/core/abi.ts';
import { type Bare, bareCore, type Flavour } from './harness.ts';

/** One node of a small core. Frames follow those of the nodes before it. */
export interface NodeShape {
  readonly kind: number;
  readonly frames: number;
  /** ALLOC_*; the core's if left out. */
  readonly alloc?: number;
  /** Device index + 1. */
  readonly owner?: number;
  /** False: a metadata-only node. */
  readonly backed?: boolean;
}

export interface SmallRoom {
  readonly nodes: readonly NodeShape[];
  readonly tables?: number;
  readonly tablePages?: number;
  readonly tlbs?: number;
  /** Reverse-map records, of which record 0 is never used. */
  readonly chains?: number;
  /** 512 where the huge page of zeros is used. */
  readonly zeroFrames?: number;
}

/** One access of a trace or a job. */
export interface Access {
  readonly address: number;
  readonly bytes: number;
  readonly write: boolean;
}

export const NOTHING = L.FRAME_NONE >>> 0;
export const FOUR_NINES = [9, 9, 9, 9] as const;

/**
 * A bare core with nodes, TLBs and reverse-map records: everything of a machine but the SDK. Node 0 is the page of zeros, as in a machine;
 * the shapes given are nodes 1, 2 and so on.
 */
export class SmallCore {
  readonly core: CoreExports;
  readonly bare: Bare;
  readonly u32: Uint32Array;
  readonly u8: Uint8Array;
  readonly zeroFrame = 0;
  /** First frame of each node. */
  readonly base: readonly number[];
  /** Byte address of a few free KiB. */
  readonly spare: number;

  constructor(flavour: Flavour, room: SmallRoom) {
    const { tables = 4, tablePages = 64, tlbs = 4, chains = 64, zeroFrames = 1 } = room;
    const shapes: NodeShape[] = [{ kind: L.NODE_IS_HOST, frames: zeroFrames, alloc: L.ALLOC_DRIVER }, ...room.nodes];
    const frames = shapes.reduce((sum, { frames: n }) => sum + n, 0);
    const backed = shapes.reduce((sum, { frames: n, backed: is = true }) => sum + (is ? n : 0), 0);
    const spareBytes = 1 << 16;
    const aside = spareBytes + tlbs * L.TLB_SLOT_BYTES + chains * L.CHAIN_BYTES;
    // The last page is spare: an 8-byte read of the last byte of the last frame stays inside the memory.
    const scratchBytes = (Math.ceil(aside / L.PAGE_BYTES) + backed + 1) * L.PAGE_BYTES;
    this.bare = bareCore(flavour, { tables, tablePages, frames, scratchBytes });
    this.core = this.bare.core;
    this.u32 = this.bare.u32;
    this.u8 = new Uint8Array(this.u32.buffer);
    this.spare = this.bare.scratch;
    const tlbsAt = this.spare + spareBytes;
    this.setHeader(L.H_TLBS, tlbsAt);
    this.setHeader(L.H_TLBS_MAX, tlbs);
    this.setHeader(L.H_CHAIN, tlbsAt + tlbs * L.TLB_SLOT_BYTES);
    this.setHeader(L.H_CHAIN_MAX, chains);
    let bytes = this.spare + Math.ceil(aside / L.PAGE_BYTES) * L.PAGE_BYTES;
    let frame = 0;
    this.base = shapes.map(({ kind, frames: n, alloc = L.ALLOC_CORE, owner = 0, backed: is = true }, node) => {
      const mode = is ? L.BYTES_BACKED : L.BYTES_METADATA;
      this.core.nodeCreate(node, frame, n, kind, mode, alloc, owner, is ? bytes : 0, L.PAGE_SHIFT);
      if (is) bytes += n * L.PAGE_BYTES;
      frame += n;
      return frame - n;
    });
    this.setHeader(L.H_ZERO_FRAME, this.zeroFrame);
  }

  // ------------------------------------------------------------------------------------------------------------- records

  setHeader(field: number, value: number): void {
    this.u32[field >>> 2] = value;
  }

  field(record: number, offset: number): number {
    return this.u32[(record + offset) >>> 2]!;
  }

  setField(record: number, offset: number, value: number): void {
    this.u32[(record + offset) >>> 2] = value;
  }

  frameRecord(frame: number): number {
    return this.bare.frames + frame * L.FRAME_BYTES;
  }

  nodeRecord(node: number): number {
    return this.bare.nodes + node * L.NODE_BYTES;
  }

  node(node: number, offset: number): number {
    return this.field(this.nodeRecord(node), offset);
  }

  frame(frame: number, offset: number): number {
    return this.field(this.frameRecord(frame), offset);
  }

  /** References, mappings and pins of a frame, and its state. */
  holders(frame: number): { refs: number; maps: number; pins: number; state: number } {
    const maps = this.frame(frame, L.FRAME_MAPS);
    return {
      refs: this.frame(frame, L.FRAME_REFS),
      maps: maps & L.MAPS_MASK,
      pins: maps >>> L.MAPS_BITS,
      state: this.frame(frame, L.FRAME_FLAGS) & L.FRAME_STATE,
    };
  }

  /** Space that pays for a frame + 1. */
  payer(frame: number): number {
    return this.frame(frame, L.FRAME_CHARGE) & 0xffff;
  }

  get stop(): number {
    return this.bare.header(L.H_STOP_REASON);
  }

  /** Driver-owned frames that were freed since the last time. */
  freed(): number[] {
    const count = this.bare.header(L.H_FREED);
    this.setHeader(L.H_FREED, 0);
    return this.list(this.bare.areas + L.AREA_FREED, count).map((frame) => frame & ~L.FREED_HUGE);
  }

  list(at: number, count: number): number[] {
    return Array.from(this.u32.subarray(at >>> 2, (at >>> 2) + count));
  }

  // -------------------------------------------------------------------------------------------------------------- tables

  /** A home table with a TLB of `sets` sets in front of it (0: none). */
  home(sets = 0): { table: number; tlb: number; index: number } {
    const table = this.core.tableCreate(4, 0x9999, 1) >>> 0;
    const tlb = sets > 0 ? this.core.tlbCreate(table, sets) >>> 0 : 0;
    this.setField(table, L.TABLE_TLB, tlb);
    return { table, tlb, index: this.field(table, L.TABLE_INDEX) };
  }

  entry(table: number, vpn: number): { high: number; low: number; kind: number } {
    const high = this.core.tableWalk(table, vpn) >>> 0;
    return { high, low: this.bare.header(L.H_STOP_ENTRY_LOW), kind: high & L.ENTRY_KIND };
  }

  /** One more mapping of a used frame, as fork makes one. */
  share(frame: number, table: number, vpn: number, high: number): void {
    if (this.core.rangeMap(table, vpn, 1, frame, high) !== 1) throw new Error(`page ${vpn} could not be mapped`);
    if (!this.core.rmapAddPage(frame, this.field(table, L.TABLE_INDEX), vpn)) throw new Error('no reverse-map record');
    this.core.frameGet(frame);
  }

  /** The mappings of a frame as `table index:page`, sorted. */
  mappings(frame: number): string[] {
    const count = this.core.rmapList(frame, this.spare, 1000);
    return Array.from({ length: count }, (_, i) => {
      const [table, low, high] = this.list(this.spare + i * 12, 3);
      return `${table}:${high! * 2 ** 32 + low!}`;
    }).sort();
  }

  // ------------------------------------------------------------------------------------------------------------- accesses

  get accesses(): number {
    return this.bare.areas + L.AREA_ACCESSES;
  }

  get values(): number {
    return this.bare.areas + L.AREA_VALUES;
  }

  setAccess(index: number, { address, bytes, write }: Access): void {
    const high = Math.floor(address / 2 ** 32) | ((bytes - 1) << L.ACCESS_LENGTH_SHIFT) | (write ? L.ACCESS_WRITE : 0);
    this.setField(this.accesses, index * L.ACCESS_BYTES, address >>> 0);
    this.setField(this.accesses, index * L.ACCESS_BYTES + 4, high);
  }

  /** Runs one access through a TLB: true when it was executed. */
  touch(tlb: number, vpn: number, write: boolean): boolean {
    this.setAccess(0, { address: vpn * L.PAGE_BYTES + 8, bytes: 1, write });
    return this.core.runAccesses(tlb, this.accesses, this.values, 0, 1) === 1;
  }

  /** The ways of a TLB's sets, most recent first, as `page` and rights: `5`, `5w`, `5wd`. */
  ways(tlb: number): string[][] {
    const sets = this.field(tlb, L.TLB_SETS);
    return Array.from({ length: sets }, (_, set) => {
      const all = Array.from({ length: L.TLB_WAYS }, (_, way) => {
        const at = tlb + L.TLB_HEADER_BYTES + set * L.TLB_SET_BYTES + way * L.TLB_WAY_BYTES;
        const [low, high] = [this.field(at, 0), this.field(at, 4)];
        const page = (high & L.ACCESS_ADDRESS_HIGH) * 2 ** (32 - L.PAGE_SHIFT) + (low >>> L.PAGE_SHIFT);
        return low & L.TLB_VALID ? `${page}${low & L.TLB_WRITE ? 'w' : ''}${high & L.TLB_DIRTY ? 'd' : ''}` : '-';
      });
      while (all.at(-1) === '-') all.pop();
      return all;
    });
  }

  /** Hits, misses and dropped ways of a TLB. */
  counts(tlb: number): [number, number, number] {
    return [this.field(tlb, L.TLB_HITS), this.field(tlb, L.TLB_MISSES), this.field(tlb, L.TLB_DROPPED)];
  }
}

import { expect } from 'vitest';
import * as L from '../../assembly/layout.ts';
import { type Flavour } from './harness.ts';
import { NOTHING, SmallCore, type SmallRoom } from './small-core.ts';

/** Nodes of the core: host memory, private memory of two devices (one of a driver's own allocator), coherent memory. */
export const HOST = 1;
export const GPU = 2;
export const NPU = 3;
export const CXL = 4;
export const GPU_OWNER = 1;
export const NPU_OWNER = 2;
export const CXL_OWNER = 3;
const ROOM: SmallRoom = {
  nodes: [
    { kind: L.NODE_IS_HOST, frames: 64 },
    { kind: L.NODE_IS_PRIVATE, frames: 64, owner: GPU_OWNER },
    { kind: L.NODE_IS_PRIVATE, frames: 16, owner: NPU_OWNER, alloc: L.ALLOC_DRIVER, backed: false },
    { kind: L.NODE_IS_COHERENT, frames: 16, owner: CXL_OWNER },
  ],
};
export const ALL = L.SELECT_SYSTEM | L.SELECT_PRIVATE | L.SELECT_COHERENT;
export const MOVE = L.MIGRATE_MOVE;
export const MOVES = L.MIGRATE_VALID | L.MIGRATE_MOVE;
export const WRITES = MOVES | L.MIGRATE_WRITE;
export const RW = L.ENTRY_WRITE | L.ENTRY_ANON_EXCLUSIVE;

export type Words = readonly (readonly [low: number, high: number])[];

/** A small core and the two arrays of words of one migration. */
export class Mover extends SmallCore {
  readonly source: number;
  readonly target: number;

  constructor(flavour: Flavour, room: Partial<SmallRoom> = {}) {
    super(flavour, { ...ROOM, ...room });
    this.source = this.bare.areas + L.AREA_SOURCE;
    this.target = this.bare.areas + L.AREA_TARGET;
  }

  words(at: number, n: number): [number, number][] {
    return Array.from({ length: n }, (_, i) => [this.field(at, i * 8), this.field(at, i * 8 + 4)]);
  }

  /** Target words; undefined: no target. */
  aim(targets: readonly (number | undefined)[]): void {
    targets.forEach((frame, i) => {
      this.setField(this.target, i * 8, frame ?? 0);
      this.setField(this.target, i * 8 + 4, frame === undefined ? 0 : L.MIGRATE_VALID);
    });
  }

  collect(
    table: number,
    vpn: number,
    pages: number,
    select = ALL,
    owner = GPU_OWNER,
    faultFrame: number = L.FRAME_NONE,
    wanted = 0,
  ): Words {
    const moving = this.core.migrateCollect(table, vpn, pages, select, owner, faultFrame, this.source, wanted);
    const words = this.words(this.source, pages);
    expect(moving, 'words with MOVE').toBe(words.filter(([, high]) => high & MOVE).length);
    return words;
  }

  collectFrames(frames: readonly number[]): Words {
    const list = this.bare.areas + L.AREA_LIST;
    this.u32.set(frames, list >>> 2);
    this.core.migrateCollectFrames(list, frames.length, this.source);
    return this.words(this.source, frames.length);
  }

  /** Copy, commit and finalize; returns the pages that moved. */
  finish(table: number, vpn: number, pages: number, writable = 1, faultFrame: number = L.FRAME_NONE): number {
    this.core.migrateCopy(this.source, this.target, pages);
    this.commit(table, vpn, pages, writable, faultFrame);
    return this.core.migrateFinalize(pages, this.source, this.target);
  }

  commit(table: number, vpn: number, pages: number, writable = 1, faultFrame: number = L.FRAME_NONE): number {
    return this.core.migrateCommit(table, vpn, pages, this.source, this.target, writable, faultFrame);
  }

  take(node: number): number {
    const frame = this.core.frameTake(node, 0) >>> 0;
    if (frame === NOTHING) throw new Error(`node ${node} has no frame`);
    return frame;
  }

  /** Maps a page with the stamp `stamp` in its bytes. */
  fresh(table: number, vpn: number, stamp = 0): number {
    const frame = this.core.mapFresh(table, vpn, HOST);
    this.stamp(frame, stamp);
    return frame;
  }

  stamp(frame: number, stamp: number): void {
    this.setField(this.core.frameBytes(frame) >>> 0, L.PAGE_BYTES - 4, stamp);
  }

  stampOf(frame: number): number {
    return this.field(this.core.frameBytes(frame) >>> 0, L.PAGE_BYTES - 4);
  }

  /** One more mapping of a used frame; nobody may write any more, as after a fork. */
  override share(frame: number, table: number, vpn: number, high: number): void {
    super.share(frame, table, vpn, high);
    const count = this.core.rmapList(frame, this.spare, 1000);
    for (let i = 0; i < count; i++) {
      const [index, low, upper] = this.list(this.spare + i * 12, 3);
      const at = this.bare.header(L.H_TABLES) + index! * L.TABLE_BYTES;
      const page = upper! * 2 ** 32 + low!;
      this.core.rangeMap(at, page, 1, frame, this.entry(at, page).high & ~RW);
    }
  }

  /** A page that already lives on a device's or coherent node. */
  on(node: number, table: number, vpn: number, rights = RW): number {
    const frame = this.core.mapFresh(table, vpn, HOST);
    const to = node === NPU ? this.base[NPU]! + vpn : this.take(node);
    if (node === NPU) this.core.frameClaim(to, 0);
    this.collect(table, vpn, 1);
    this.aim([to]);
    expect(this.finish(table, vpn, 1)).toBe(1);
    expect(this.holders(frame).state).not.toBe(L.STATE_USED);
    if (!(rights & L.ENTRY_WRITE)) this.core.reprotect(table, vpn, 1, 1);
    return to;
  }

  kinds(table: number, vpn: number, pages: number): string {
    return Array.from({ length: pages }, (_, i) => {
      const { high, kind } = this.entry(table, vpn + i);
      return `${kind}${high & L.ENTRY_WRITE ? 'w' : ''}`;
    }).join(' ');
  }
}

/** What the bookkeeping of a machine costs: the memory that a kernel would pay for it. */
import * as L from '../../assembly/layout.ts';
import type { Platform } from '../mm/platform.ts';
import type { Device } from './device.ts';

/** One page table: of a space, or of a device in one. */
export interface TableCost {
  /** `space 0`, or `space 0, gpu`. */
  readonly of: string;
  /** Bytes of its table pages; undefined where the driver keeps the table itself, 0 where the device walks the table of the space. */
  readonly bytes: number | undefined;
}

/** All of it, in bytes. */
export interface MemoryCost {
  readonly tables: readonly TableCost[];
  /** A record for every frame that there is, on the host and on devices: what a kernel's array of `struct page` is. */
  readonly frames: { readonly frames: number; readonly bytes: number };
  /** Records of frames that are mapped more than once: one for each mapping. */
  readonly reverseMap: { readonly records: number; readonly bytes: number };
  /** What is known of each frame's page in the second tier; 0 without one. */
  readonly secondTier: number;
  /** All but the tables, for one frame of 4 KiB; a record is the same whatever the frame's size. */
  readonly bytesPerPage: number;
  /** The same in a kernel of 64 bits: `sizeof(struct page)`. */
  readonly structPageBytes: number;
  /** Intervals of advice, all spaces together. */
  readonly attributes: number;
}

const STRUCT_PAGE_BYTES = 64;
/** A frame number. */
const WORD_BYTES = 4;

/** Adds up what is in use. Proportional to spaces and contexts. */
export function costOf({ core, nodes, spaces }: Platform, devices: readonly Device[]): MemoryCost {
  const tables: TableCost[] = [];
  let attributes = 0;
  for (const space of spaces.values()) {
    tables.push({ of: `space ${space.id}`, bytes: core.field(space.table, L.TABLE_PAGES) * L.PAGE_BYTES });
    attributes += space.attributes.size;
  }
  for (const device of devices)
    for (const context of device.contexts) tables.push({ of: `space ${context.space.id}, ${context.name}`, bytes: context.tableBytes });
  const frames = nodes.list.reduce((sum, node) => sum + node.frames, 0);
  const records = core.header(L.H_CHAIN_USED);
  const secondTier = core.plan.tiered ? frames * WORD_BYTES : 0;
  const all = frames * L.FRAME_BYTES + records * L.CHAIN_BYTES + secondTier;
  return {
    tables: tables.sort((a, b) => (a.of < b.of ? -1 : 1)),
    frames: { frames, bytes: frames * L.FRAME_BYTES },
    reverseMap: { records, bytes: records * L.CHAIN_BYTES },
    secondTier,
    bytesPerPage: all / frames,
    structPageBytes: STRUCT_PAGE_BYTES,
    attributes,
  };
}

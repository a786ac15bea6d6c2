/**
 * What the oracle remembers: plain objects, one for each page, entry and promise. Nothing here knows frames, tables, TLBs or notifiers.
 *
 * A space has 40 slots, which follow each other without a gap. A slot is one page, but for the insides of the two windows of 2 MiB: nobody touches a single
 * page of those, so all of them always are in the same state, and one object stands for them.
 *
 * ```
 *   slot    0  1  2        3    4    5        6    7      8 ... 15              16 ... 39
 *   pages   0  1  2..253   254  255  256..509 510  511    the second window     small pages
 * ```
 */

/** Words of a page that are looked at, by their byte. */
export const WORD_OFFSETS: readonly number[] = [0, 1024, 2048, 4092];

export const PAGE_BYTES = 4096;
export const BASE_VPN = 0x10000;
export const WINDOW_PAGES = 512;
export const WINDOW_SLOTS = 8;
export const WINDOWS = 2;
export const SMALL_PAGES = 24;

export interface Slot {
  readonly index: number;
  readonly vpn: number;
  readonly pages: number;
}

const IN_WINDOW: readonly (readonly [number, number])[] = [
  [0, 1],
  [1, 1],
  [2, 252],
  [254, 1],
  [255, 1],
  [256, 254],
  [510, 1],
  [511, 1],
];

export const SLOTS: readonly Slot[] = makeSlots();
export const END_VPN: number = BASE_VPN + WINDOWS * WINDOW_PAGES + SMALL_PAGES;

function makeSlots(): Slot[] {
  const slots: Slot[] = [];
  for (let window = 0; window < WINDOWS; window++)
    for (const [at, pages] of IN_WINDOW) slots.push({ index: slots.length, vpn: BASE_VPN + window * WINDOW_PAGES + at, pages });
  for (let i = 0; i < SMALL_PAGES; i++) slots.push({ index: slots.length, vpn: BASE_VPN + WINDOWS * WINDOW_PAGES + i, pages: 1 });
  return slots;
}

/** First slot of the window that a slot is in, or -1. */
export function windowOf(slot: number): number {
  return slot < WINDOWS * WINDOW_SLOTS ? slot - (slot % WINDOW_SLOTS) : -1;
}

/** The slots that make up `[vpn, vpn + pages)`; undefined when they do not. */
export function slotsOf(vpn: number, pages: number): { readonly from: number; readonly to: number } | undefined {
  const from = SLOTS.findIndex((slot) => slot.vpn === vpn);
  const to = SLOTS.findIndex((slot) => slot.vpn + slot.pages === vpn + pages);
  return from < 0 || to < from ? undefined : { from, to: to + 1 };
}

/** An operation that the universe has no place for: neither side does it. */
export const SKIP = 'skip';

/** A memory: the host's, or one of a device. */
export interface Memory {
  readonly name: string;
  readonly kind: 'host' | 'private' | 'coherent';
  readonly device: DeviceModel | undefined;
}

export const HOST: Memory = { name: 'host', kind: 'host', device: undefined };

export interface DeviceModel {
  readonly name: string;
  readonly granulePages: number;
  readonly atomics: readonly ('native' | 'exclusive' | 'migrate')[];
  /** By index; a hole where one has been removed. */
  readonly memories: (Memory | undefined)[];
}

/** The pages of a window that are one huge page. */
export interface Block {
  readonly pages: Page[];
  readonly hugetlb: boolean;
}

/** A page of memory, with everything that depends on the page and not on who looks. */
export interface Page {
  words: number[];
  memory: Memory;
  /** Of a file, of shared memory, or a driver's: never moves, never reused. */
  readonly isFile: boolean;
  isCached: boolean;
  maps: number;
  pins: number;
  block: Block | undefined;
  /** The entry through which the CPU only reads it. */
  reader: Entry | undefined;
  /** Frames that it stands for. */
  readonly weight: number;
  /** For whoever compares. */
  frame: number;
  seen: number;
}

/** What a space has at a slot. */
export interface Entry {
  /** Undefined: the page of zeros, or special. */
  page: Page | undefined;
  zero: boolean;
  /** The huge page of zeros. */
  hugeZero: boolean;
  special: boolean;
  write: boolean;
  /** Anon-exclusive: this space's own. */
  own: boolean;
  /** The promise gives no right. */
  noAccess: boolean;
  exclusive: boolean;
  /** Exclusive, but the CPU may read. */
  cpuReads: boolean;
}

export type Prot = 'none' | 'r' | 'rw';

/** A file, or shared anonymous memory. */
export interface Backing {
  readonly kind: 'anonymous' | 'file';
  bytes: number;
  readonly cache: Map<number, Page>;
  readonly store: Map<number, number[]>;
  readonly dirty: Set<number>;
}

/** What a space promises at a slot. Two neighbours with equal marks are of one VMA. */
export interface Promise_ {
  readonly prot: Prot;
  readonly shared: boolean;
  readonly hugepage: boolean;
  readonly nohugepage: boolean;
  readonly dontfork: boolean;
  readonly hugetlb: boolean;
  readonly special: '' | 'mixed' | 'pfn' | 'io';
  readonly object: Backing | undefined;
  /** Page of the object. */
  readonly offset: number;
}

export interface SpaceModel {
  readonly promises: (Promise_ | undefined)[];
  readonly entries: (Entry | undefined)[];
  /** Devices that are attached, oldest first. */
  readonly attached: DeviceModel[];
}

export interface PinModel {
  readonly pages: readonly {
    readonly slot: number;
    readonly page: Page | undefined;
    readonly object: Backing | undefined;
    readonly offset: number;
  }[];
  readonly write: boolean;
}

/** Everything that the oracle has in mind. */
export interface World {
  readonly spaces: (SpaceModel | undefined)[];
  readonly files: Backing[];
  /** Shared anonymous memory that somebody promises. */
  readonly objects: Set<Backing>;
  readonly devices: DeviceModel[];
  readonly pins: (PinModel | undefined)[];
}

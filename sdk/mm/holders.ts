/**
 * Who has a page: its owner, of whom there is one, and its readers. A reading of the home entry, and of what attached devices have of the page; nothing is kept for it.
 *
 * ```
 *   state       GMEM                  owner          who may have it
 *   nothing     NOMAP                 -              readers of zeros
 *   host        CPU                   host           the CPU, devices that map it where it is, devices with copies
 *   device      DEVICE                that device    itself; of coherent memory the CPU and others, too
 *   moving      MIGRATING, EVICTING   as before      whoever has not flushed yet
 *   elsewhere   -                     -              nobody yet: the bytes are a file's, a shared object's, a driver's
 *   lost        -                     -              nobody: swapped out, special, poison
 * ```
 *
 * Models: `gm_mapping` (flags, owner), and the holder set that it lacks.
 */
import * as L from '../../assembly/layout.ts';
import type { AddressSpace } from './address-space.ts';
import type { Platform } from './platform.ts';
import { isAnonymous } from './vma.ts';

/** Where a page is. */
export type HeldState = 'nothing' | 'host' | 'device' | 'moving' | 'elsewhere' | 'lost';

/**
 * `dirty`: written since it came to be there, by the marks of the home entry. `pinned`: it will not move. `will need`: a device is to use it before it may be evicted. `evicting`: it is on its way home to
 * make room; who wants it waits for that. Models: GM_PAGE_DIRTY, GM_MAPPING_PINNED, GM_MAPPING_WILLNEED, GM_PAGE_EVICTING.
 */
export type PageFlag = 'dirty' | 'pinned' | 'will need' | 'evicting';

/** Who has a page. */
export interface PageHolders {
  readonly state: HeldState;
  /** 'host', or the name of the device in whose memory the one truth is. */
  readonly owner: string | undefined;
  /** Who can read it without a fault: 'cpu', and devices in the order of their coming. */
  readonly readers: readonly string[];
  /** Those of them that can write it. Two of them only where all use the same bytes. */
  readonly writers: readonly string[];
  /** Those that read a copy of their own. */
  readonly copies: readonly string[];
  readonly flags: readonly PageFlag[];
}

const HAVE_FRAMES: ReadonlySet<number> = new Set([
  L.KIND_PRESENT,
  L.KIND_PROTNONE,
  L.KIND_EXCLUSIVE,
  L.KIND_DEVICE_PRIVATE,
  L.KIND_MIGRATION,
]);

/** Who has a page of a mapping. */
export function holdersOf(platform: Platform, space: AddressSpace, vpn: number): PageHolders {
  const { core } = platform;
  const high = core.entry(space.table, vpn);
  const frame = core.entryLow;
  const kind = high & L.ENTRY_KIND;
  const readers: string[] = [];
  const writers: string[] = [];
  const copies: string[] = [];
  if (kind === L.KIND_PRESENT) {
    readers.push('cpu');
    if (high & L.ENTRY_WRITE) writers.push('cpu');
  }
  for (const mirror of space.mirrors) {
    const hold = mirror.holds(vpn);
    if (hold === undefined) continue;
    readers.push(mirror.name);
    if (hold === 'write') writers.push(mirror.name);
    if (hold === 'copy') copies.push(mirror.name);
  }
  const isFrame = HAVE_FRAMES.has(kind) && !(high & L.ENTRY_ZERO);
  const state = stateOf(platform, space, vpn, kind, high, frame);
  return {
    state,
    owner: isFrame ? ownerOf(platform, frame) : undefined,
    readers,
    writers,
    copies,
    flags: isFrame ? flagsOf(platform, high, frame) : [],
  };
}

function stateOf(platform: Platform, space: AddressSpace, vpn: number, kind: number, high: number, frame: number): HeldState {
  switch (kind) {
    case L.KIND_NONE: {
      const vma = space.vmas.find(vpn);
      return !vma || isAnonymous(vma) ? 'nothing' : 'elsewhere';
    }
    case L.KIND_PRESENT:
    case L.KIND_PROTNONE:
    case L.KIND_EXCLUSIVE:
      if (high & L.ENTRY_ZERO) return 'nothing';
      return platform.nodes.of(frame).owner === 0 ? 'host' : 'device';
    case L.KIND_DEVICE_PRIVATE:
      return 'device';
    case L.KIND_MIGRATION:
      return 'moving';
    default:
      return 'lost';
  }
}

/** In whose memory a frame is. */
function ownerOf({ core, memories }: Platform, frame: number): string {
  return memories.get(core.nodeOf(frame))?.device.name ?? 'host';
}

function flagsOf(platform: Platform, high: number, frame: number): PageFlag[] {
  const { core, memories } = platform;
  const flags: PageFlag[] = [];
  const head = core.headOf(frame);
  const dirty = high & L.ENTRY_DIRTY || core.field(core.frameRecord(head), L.FRAME_FLAGS) & L.FRAME_DIRTY;
  if (dirty) flags.push('dirty');
  if (core.field(core.frameRecord(frame), L.FRAME_MAPS) >>> L.MAPS_BITS > 0) flags.push('pinned');
  if (memories.get(core.nodeOf(frame))?.needs(head)) flags.push('will need');
  for (const frames of platform.evicting) {
    if (!frames.includes(head)) continue;
    flags.push('evicting');
    break;
  }
  return flags;
}

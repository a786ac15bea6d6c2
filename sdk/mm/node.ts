/**
 * Nodes as the SDK sees them: an interval of frames with one owner. The records are the core's; here are names, and who hands frames out.
 */
import { fail } from '../errors.ts';
import type { Core } from '../core/abi.ts';
import * as L from '../../assembly/layout.ts';

/** `host`: DRAM. `tier`: the second tier, which nobody maps. `private`: a device's, the CPU cannot reach it. `coherent`: a device's, mapped for the CPU like its own. */
export type NodeKind = 'host' | 'private' | 'coherent' | 'tier';
export type BytesIn = 'backed' | 'metadata' | 'external';

const KINDS: Readonly<Record<NodeKind, number>> = {
  host: L.NODE_IS_HOST,
  private: L.NODE_IS_PRIVATE,
  coherent: L.NODE_IS_COHERENT,
  tier: L.NODE_IS_TIER,
};
const BYTES: Readonly<Record<BytesIn, number>> = { backed: L.BYTES_BACKED, metadata: L.BYTES_METADATA, external: L.BYTES_EXTERNAL };
/** Who hands frames out: the core's buddy allocator, the driver's own, or a device's operating system. */
export type Allocator = 'core' | 'driver' | 'peer';

const ALLOCATORS: Readonly<Record<Allocator, number>> = { core: L.ALLOC_CORE, driver: L.ALLOC_DRIVER, peer: L.ALLOC_PEER };

export interface NodeDescription {
  readonly name: string;
  readonly kind: NodeKind;
  readonly frames: number;
  readonly bytesIn: BytesIn;
  readonly allocator: Allocator;
  /** Device index + 1, 0 for the host. */
  readonly owner: number;
}

/** Hears of neighbouring frames: the first one, and how many. */
export interface FrameRuns {
  note(frame: number, frames: number): void;
}

/** One node of a machine. */
export class Node {
  readonly index: number;
  readonly name: string;
  readonly kind: NodeKind;
  readonly base: number;
  readonly frames: number;
  readonly owner: number;
  /** On a machine without bytes: where they would be. */
  readonly bytesIn: BytesIn;
  readonly allocator: Allocator;
  /** Byte address of its first frame's bytes, 0 when they are not in the machine's memory. */
  readonly bytesAt: number;
  private readonly core: Core;

  constructor(core: Core, index: number, base: number, bytesAt: number, description: NodeDescription) {
    this.core = core;
    this.bytesAt = bytesAt;
    this.index = index;
    this.base = base;
    this.name = description.name;
    this.kind = description.kind;
    this.frames = description.frames;
    this.owner = description.owner;
    this.bytesIn = description.bytesIn;
    this.allocator = description.allocator;
    core.exports.nodeCreate(
      index,
      base,
      description.frames,
      KINDS[description.kind],
      BYTES[bytesAt === 0 && description.bytesIn === 'backed' ? 'metadata' : description.bytesIn],
      ALLOCATORS[description.allocator],
      description.owner,
      bytesAt,
      bytesAt === 0 ? Math.log2(core.plan.pageBytes) : L.PAGE_SHIFT,
    );
  }

  /** Frames in use. */
  get used(): number {
    return this.core.field(this.core.nodeRecord(this.index), L.NODE_USED);
  }

  /** Most frames that were in use at one time. */
  get peak(): number {
    return this.core.field(this.core.nodeRecord(this.index), L.NODE_USED_PEAK);
  }

  get free(): number {
    return this.core.field(this.core.nodeRecord(this.index), L.NODE_FREE);
  }

  /** A frame of 2^order pages with one reference and stale bytes, or -1 when none is free. Requires: the core is the allocator. */
  take(order = 0): number {
    return this.core.exports.frameTake(this.index, order);
  }

  /**
   * @internal Takes up to `n` frames of one page into `frames` from index `at` on, as `take` would one by one, with the marks `marks` (FRAME_*), and tells `runs` of them. Returns how many there were.
   * Requires: as `take`; at most LIST_MAX.
   */
  takeMany(frames: Int32Array, at: number, n: number, marks: number, runs: FrameRuns): number {
    const { core } = this;
    const taken = core.exports.frameTakeMany(this.index, n, core.area(L.AREA_LIST), marks, core.area(L.AREA_EXTENTS));
    frames.set(core.words(L.AREA_LIST, taken), at);
    this.tell(runs);
    return taken;
  }

  /**
   * @internal Claims the `n` frames of one page that stand in `frames` from index `at` on, with the marks `marks` (FRAME_*), up to the first that is in use already, and tells `runs` of them. Returns how many that were.
   * Requires: its driver is the allocator, and has chosen them; at most LIST_MAX.
   */
  claimMany(frames: Int32Array, at: number, n: number, marks: number, runs: FrameRuns): number {
    const { core } = this;
    core.words(L.AREA_LIST, n).set(frames.subarray(at, at + n));
    const claimed = core.exports.frameClaimMany(core.area(L.AREA_LIST), n, marks, core.area(L.AREA_EXTENTS));
    this.tell(runs);
    return claimed;
  }

  /** Neighbours among the frames that the core has just given. */
  private tell(runs: FrameRuns): void {
    const { core } = this;
    const first = core.area(L.AREA_EXTENTS) >>> 2;
    const end = first + core.stopIndex * 2;
    for (let run = first; run < end; run += 2) runs.note(core.u32[run]!, core.u32[run + 1]!);
  }

  holds(frame: number): boolean {
    return frame >= this.base && frame < this.base + this.frames;
  }
}

const HUGE_FRAMES = 2 ** L.HUGE_ORDER;

/** A stretch of frame numbers or bytes that a node has. */
interface Stretch {
  readonly start: number;
  readonly end: number;
}

/** The nodes of a machine, and the frame numbers and bytes that are left for more. What a node that is dropped had, the next one that fits gets. */
export class Nodes {
  /** By ascending index: the page of zeros, the host's DRAM, then the memories of devices. */
  readonly list: Node[] = [];
  /** Page numbers that the machine's physical addresses can have. */
  readonly framesMax: number;
  private readonly core: Core;
  private readonly byIndex: (Node | undefined)[] = [];

  /** `framesMax`: frame numbers are below it, and below the number of frame records. */
  constructor(core: Core, framesMax: number = Number.MAX_SAFE_INTEGER) {
    this.core = core;
    this.framesMax = framesMax;
  }

  /**
   * Adds a node: the first free index, the first stretches of frame numbers and bytes that are long enough. Throws ENOMEM when frame records, physical addresses, bytes or
   * node slots run out, EINVAL for a name that is taken; nothing has changed then. Models: `request_free_mem_region`, `add_pages`.
   */
  add(description: NodeDescription): Node {
    const { plan } = this.core;
    const { name, frames } = description;
    if (this.list.length >= L.NODES_MAX) throw fail('ENOMEM', 'nodes', this.list.length, `is the limit, reached before ${name}`);
    if (this.list.some((node) => node.name === name)) throw fail('EINVAL', 'node name', name, 'is taken');
    const begin = description.owner > 0 ? behind : next;
    const records = gaps(this.frames(description.owner), 0, Math.min(plan.frames, this.framesMax));
    const base = firstFit(records, frames, begin);
    if (base === undefined) {
      // Would the records do? Then it is the addresses that do not.
      const roomy =
        this.framesMax < plan.frames && firstFit(gaps(this.frames(description.owner), 0, plan.frames), frames, begin) !== undefined;
      const cure = roomy ? 'physicalBits' : 'deviceMemory';
      const left = longest(records, begin);
      throw fail(
        'ENOMEM',
        `${name} pages`,
        frames,
        `do not fit the machine: ${left} pages are left in one piece; give createMachine more ${cure}`,
      );
    }
    let bytesAt = 0;
    // The pages of zeros come first, and have bytes on any machine.
    if (description.bytesIn === 'backed' && (!plan.bodiless || this.list.length === 0)) {
      const bytes = frames * L.PAGE_BYTES;
      const held = this.list
        .filter((node) => node.bytesAt > 0)
        .map((node) => ({ start: node.bytesAt, end: node.bytesAt + node.frames * L.PAGE_BYTES }));
      const free = gaps(held, plan.bytesAt, plan.bytesEnd);
      const found = firstFit(free, bytes, next);
      if (found === undefined) {
        throw fail(
          'ENOMEM',
          `${name} bytes`,
          bytes,
          `do not fit the machine: ${longest(free, next)} bytes are left in one piece; give createMachine more deviceMemory`,
        );
      }
      bytesAt = found;
    }
    let index = 0;
    while (this.byIndex[index]) index++;
    const node = new Node(this.core, index, base, bytesAt, description);
    this.byIndex[index] = node;
    this.list.push(node);
    this.list.sort((a, b) => a.index - b.index);
    return node;
  }

  /** Takes a node away. Requires: none of its frames is in use. Throws EBUSY otherwise; nothing has changed then. */
  drop(node: Node): void {
    const used = this.core.exports.nodeDestroy(node.index);
    if (used !== 0) throw fail('EBUSY', `${node.name} frames`, used, 'are still in use');
    this.byIndex[node.index] = undefined;
    this.list.splice(this.list.indexOf(node), 1);
  }

  /** Frame numbers that are taken. A device's memory ends one frame before the next, if not earlier. */
  private frames(owner: number): Stretch[] {
    return this.list.map(({ base, frames }) => ({ start: owner > 0 ? base - 1 : base, end: base + frames }));
  }

  /** Whether it is a frame of some node. */
  has(frame: number): boolean {
    if (!Number.isInteger(frame)) return false;
    for (const node of this.list) if (node.holds(frame)) return true;
    return false;
  }

  /** Page of a frame within its memory, as devices count: the pages of the host come after the pages of zeros, of which the first is its page 0. */
  pageOf(frame: number): number {
    const node = this.of(frame);
    return frame - (node.owner === 0 ? this.list[0]! : node).base;
  }

  /** The node that a frame is on. */
  of(frame: number): Node {
    return this.byIndex[this.core.nodeOf(frame)]!;
  }
}

/** Where the host's frames, and bytes, can begin behind others: at once. */
function next(end: number): number {
  return end;
}

/**
 * Where the frames of a device's memory can begin behind others: at a multiple of 2 MiB, so that pages aligned in its memory are aligned in the machine; and never right
 * behind, so that a run of frames is always of one memory.
 */
function behind(end: number): number {
  return (Math.floor(end / HUGE_FRAMES) + 1) * HUGE_FRAMES;
}

/** Start of the first free stretch in which `length` fits; `begin` says where one can begin. */
function firstFit(free: readonly Stretch[], length: number, begin: (end: number) => number): number | undefined {
  for (const { start, end } of free) if (begin(start) + length <= end) return begin(start);
  return undefined;
}

/** Length of the longest stretch that could be had. */
function longest(free: readonly Stretch[], begin: (end: number) => number): number {
  return free.reduce((most, { start, end }) => Math.max(most, end - begin(start)), 0);
}

/** What lies between `from` and `limit` and is not taken, ascending. */
function gaps(taken: readonly Stretch[], from: number, limit: number): Stretch[] {
  const free: Stretch[] = [];
  let start = from;
  for (const each of [...taken].sort((a, b) => a.start - b.start)) {
    free.push({ start, end: Math.min(each.start, limit) });
    start = Math.max(start, each.end);
  }
  free.push({ start, end: limit });
  return free.filter((gap) => gap.end > gap.start);
}

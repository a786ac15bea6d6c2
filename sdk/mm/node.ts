/**
 * Nodes as the SDK sees them: an interval of frames with one owner. The records are the core's; here are names, and who hands frames out.
 */
import { fail } from '../errors.ts';
import type { Core } from '../core/abi.ts';
import * as L from '../../assembly/layout.ts';

export type NodeKind = 'host' | 'private';
export type BytesIn = 'backed' | 'metadata' | 'external';

const KINDS: Readonly<Record<NodeKind, number>> = { host: L.NODE_IS_HOST, private: L.NODE_IS_PRIVATE };
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

/** One node of a machine. */
export class Node {
  readonly index: number;
  readonly name: string;
  readonly kind: NodeKind;
  readonly base: number;
  readonly frames: number;
  readonly owner: number;
  readonly bytesIn: BytesIn;
  readonly allocator: Allocator;
  readonly #core: Core;

  constructor(core: Core, index: number, base: number, bytesAt: number, description: NodeDescription) {
    this.#core = core;
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
      BYTES[description.bytesIn],
      ALLOCATORS[description.allocator],
      description.owner,
      bytesAt,
      L.PAGE_SHIFT,
    );
  }

  /** Frames in use. */
  get used(): number {
    return this.#core.field(this.#core.nodeRecord(this.index), L.NODE_USED);
  }

  /** Most frames that were in use at one time. */
  get peak(): number {
    return this.#core.field(this.#core.nodeRecord(this.index), L.NODE_USED_PEAK);
  }

  get free(): number {
    return this.#core.field(this.#core.nodeRecord(this.index), L.NODE_FREE);
  }

  /** A frame with one reference, or -1 when none is free. Requires: the core is the allocator. */
  take(): number {
    return this.#core.exports.frameTake(this.index, 0);
  }

  holds(frame: number): boolean {
    return frame >= this.base && frame < this.base + this.frames;
  }
}

const HUGE_FRAMES = 2 ** L.HUGE_ORDER;

/** The nodes of a machine, and the frame numbers and bytes that are left for more. */
export class Nodes {
  readonly list: Node[] = [];
  readonly #core: Core;
  #nextFrame = 0;
  #nextByte: number;

  constructor(core: Core) {
    this.#core = core;
    this.#nextByte = core.plan.bytesAt;
  }

  /** Adds a node behind the others. Throws ENOMEM when frame records, bytes or node slots run out; nothing has changed then. */
  add(description: NodeDescription): Node {
    const plan = this.#core.plan;
    const { name, frames } = description;
    if (this.list.length >= L.NODES_MAX) throw fail('ENOMEM', 'nodes', this.list.length, `is the limit, reached before ${name}`);
    if (this.list.some((node) => node.name === name)) throw fail('EINVAL', 'node name', name, 'is taken');
    // A device's frames begin at a multiple of 2 MiB, so that pages aligned in its memory are aligned here; and never right behind another
    // node's, so that a run of frames is always of one memory.
    const base = description.owner > 0 ? (Math.floor(this.#nextFrame / HUGE_FRAMES) + 1) * HUGE_FRAMES : this.#nextFrame;
    if (base + frames > plan.frames) {
      throw fail(
        'ENOMEM',
        `${name} pages`,
        frames,
        `do not fit the machine: ${Math.max(0, plan.frames - base)} pages are left; give createMachine more deviceMemory`,
      );
    }
    const bytes = description.bytesIn === 'backed' ? frames * L.PAGE_BYTES : 0;
    if (this.#nextByte + bytes > plan.bytesEnd) {
      throw fail(
        'ENOMEM',
        `${name} bytes`,
        bytes,
        `do not fit the machine: ${plan.bytesEnd - this.#nextByte} bytes are left; give createMachine more deviceMemory`,
      );
    }
    const node = new Node(this.#core, this.list.length, base, bytes > 0 ? this.#nextByte : 0, description);
    this.list.push(node);
    this.#nextFrame = base + frames;
    this.#nextByte += bytes;
    return node;
  }

  /** Takes the node away that was added last. Requires: none of its frames has been used. */
  drop(node: Node): void {
    if (this.list.at(-1) !== node || this.#core.exports.nodeDestroy(node.index) !== 0)
      throw fail('EINVAL', 'node', node.name, 'is not the last one, or in use');
    this.list.pop();
    this.#nextFrame = node.base;
    if (node.bytesIn === 'backed') this.#nextByte -= node.frames * L.PAGE_BYTES;
  }

  /** Page of a frame within its memory, as devices count: the pages of the host come after the page of zeros, which is its page 0. */
  pageOf(frame: number): number {
    const node = this.of(frame);
    return frame - (node.kind === 'host' ? this.list[0]! : node).base;
  }

  /** The node that a frame is on. */
  of(frame: number): Node {
    return this.list[this.#core.nodeOf(frame)]!;
  }
}

/**
 * The second tier: a store, larger and slower than the host's memory, for anonymous pages of the host when that is full. Its pages are frames of a node of their own, which nobody maps: an entry of
 * kind swap names one.
 *
 * ```
 *   out    the host is short of frames: the hand goes round, what was not used since it came by goes      dram -> swap
 *   in     a touch by the CPU, or on behalf of a device, brings one page back, for all that share it      swap -> dram
 *   clean  what came back, and has not been written since, is still there: it goes again without a copy   from dram, or from a device
 * ```
 *
 * Models: swap, the swap cache, `kswapd` and direct reclaim of anonymous pages. See docs/deviations.md for what is otherwise.
 */
import * as L from '../../assembly/layout.ts';
import type { PinnedAccess } from '../policy/policy.ts';
import type { Step } from '../step/step.ts';
import type { MigrationDevice } from './device-memory.ts';
import type { Node } from './node.ts';
import type { Platform } from './platform.ts';
import { Reclaim } from './reclaim.ts';

/** Name of its node. */
export const SWAP_NODE = 'swap';

/** The second tier of a machine. */
export class SecondTier implements MigrationDevice {
  readonly name: string = SWAP_NODE;
  readonly owner = 0;
  readonly memories: readonly never[] = [];
  readonly granulePages: number = 1;
  readonly pinnedAccess: PinnedAccess = 'error';
  readonly node: Node;
  /** Where the hand is: a page of the host's node. */
  hand = 0;
  private readonly platform: Platform;
  /** Somebody may write to pages without a mark that could be seen: what came back counts as written at once. */
  private isBlind = false;

  constructor(platform: Platform, frames: number) {
    this.platform = platform;
    this.node = platform.nodes.add({ name: SWAP_NODE, kind: 'tier', frames, bytesIn: 'backed', allocator: 'core', owner: 0 });
  }

  memoryOf(): number {
    return -1;
  }

  hasEngine(): boolean {
    return false;
  }

  hasPeerEngine(): boolean {
    return false;
  }

  mirrorIn(): undefined {
    return undefined;
  }

  coupledIn(): undefined {
    return undefined;
  }

  isOf(): boolean {
    return false;
  }

  copy(): void {
    // The core copies.
  }

  zero(): void {
    // Nothing is cleared.
  }

  withdraw(): void {
    // It has no translations.
  }

  mayDuplicateIn(): boolean {
    return false;
  }

  duplicates(): boolean {
    return false;
  }

  keep(): void {
    // What leaves it leaves nothing behind but a backing.
  }

  /** A frame, or FRAME_NONE. When there is none, what is only kept for pages that came back is given up. */
  take(): number {
    const frame = this.node.take();
    if (frame !== L.FRAME_NONE) return frame;
    this.forget();
    return this.node.take();
  }

  /** Pages that came back count as written. */
  forget(): void {
    const { core } = this.platform;
    const backings = core.plan.backingAt >>> 2;
    for (let frame = 0; frame < core.plan.frames; frame++) if (core.u32[backings + frame] !== 0) core.exports.backingDrop(frame);
  }

  /** From now on, pages may be written without a mark: nothing goes without a copy. */
  distrust(): void {
    if (this.isBlind) return;
    this.isBlind = true;
    this.forget();
  }

  /** Whether what came back may be kept as true. */
  get isTrusting(): boolean {
    return !this.isBlind;
  }

  /** The page that a frame has there, still true; FRAME_NONE: none. */
  backingOf(frame: number): number {
    return this.platform.core.exports.backingOf(frame) - 1;
  }

  /** A step that makes room for `pages` pages on the host, or as much as can be. */
  roomStep(pages: number): Reclaim {
    return new Reclaim(this.platform).room(pages);
  }
}

/** Makes room on the host, told how much came of it. */
export interface RoomStep extends Step {
  readonly freed: number;
}

/**
 * What has moved when, by blocks of pages: what `sdk/policy/thrashing.ts` decides by. There is one only in a machine with a device that has a policy about it.
 */
import { MOVES_KEPT, type BlockHistory } from '../policy/thrashing.ts';

/** Pages of a block. */
export const BLOCK_PAGES = 16;

/** Blocks that are remembered; the one that has been known longest goes first. */
export const BLOCKS_KEPT = 4096;

/** One block of one space. */
export class MovedBlock implements BlockHistory {
  readonly moves: number[] = [];
  arrived = 0;
  deferred = 0;
  pinnedUntil = 0;
  /** Where its pages went last: the number of a device, 0 for the host. */
  side = 0;
}

/** The movements of a machine. */
export class Movements {
  /** Questions for pages, and migrations by faults. */
  tick = 0;
  private readonly blocks: Map<number, MovedBlock> = new Map();

  /** What is known of the block of a page; undefined: it has not moved. */
  blockOf(space: number, vpn: number): MovedBlock | undefined {
    return this.blocks.get(keyOf(space, vpn));
  }

  /** Pages `[vpn, vpn + pages)` have gone to a device, or to the host (0), for a fault. */
  moved(space: number, vpn: number, pages: number, to: number): void {
    for (let page = vpn - (vpn % BLOCK_PAGES); page < vpn + pages; page += BLOCK_PAGES) {
      const key = keyOf(space, page);
      let block = this.blocks.get(key);
      if (!block) {
        if (this.blocks.size >= BLOCKS_KEPT) this.blocks.delete(this.blocks.keys().next().value!);
        this.blocks.set(key, (block = new MovedBlock()));
      }
      block.deferred = 0;
      block.arrived = this.tick;
      if (block.side === to) continue;
      block.side = to;
      block.moves.push(this.tick);
      if (block.moves.length > MOVES_KEPT) block.moves.shift();
    }
  }

  /** A space has ended: the blocks of the next one with its number have not moved. */
  forget(space: number): void {
    for (const key of this.blocks.keys()) if (Math.floor(key / BLOCKS_PER_SPACE) === space) this.blocks.delete(key);
  }
}

/** Multiplier of a space's number in a key: page numbers are below 2^36. */
const BLOCKS_PER_SPACE = 2 ** 36;

/** Spaces are fewer than 2^16. */
function keyOf(space: number, vpn: number): number {
  return space * BLOCKS_PER_SPACE + Math.floor(vpn / BLOCK_PAGES);
}

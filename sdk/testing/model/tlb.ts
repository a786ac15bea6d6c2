/**
 * A TLB of 256 sets of 4 ways, for the CPU of a space or for one context of a device. Looking changes nothing; only an access that
 * executes moves ways and counts. So hits and misses together are the pages touched by executed accesses.
 */
import type { Frame } from './frame.ts';

export const TLB_SETS = 256;
export const TLB_WAYS = 4;

/** What a table says about a page: where it is, and whether it may be written. */
export interface Translation {
  readonly frame: Frame;
  readonly write: boolean;
  dirty: boolean;
}

/** The table behind a TLB: the entry of a page if it may be read, else undefined. */
export type Walk = (vpn: number) => Translation | undefined;

interface Way {
  readonly vpn: number;
  /** A copy: if an invalidation is forgotten, the access goes to the old frame and the byte map notices. */
  readonly frame: Frame;
  readonly write: boolean;
  dirty: boolean;
}

export class Tlb {
  /** Each set lists its ways, most recent first. */
  readonly #sets: Way[][] = Array.from({ length: TLB_SETS }, () => []);
  readonly #walk: Walk;
  readonly #count: { hit: number; miss: number };

  constructor(walk: Walk, count: { hit: number; miss: number }) {
    this.#walk = walk;
    this.#count = count;
  }

  /** True when an access to the page may execute. Changes nothing. */
  permits(vpn: number, write: boolean): boolean {
    if (this.#find(vpn, write) !== undefined) return true;
    const entry = this.#walk(vpn);
    return entry !== undefined && (!write || entry.write);
  }

  /** The frame of a page that `permits` allowed; counts a hit or a miss and makes the way the most recent of its set. */
  use(vpn: number, write: boolean): Frame {
    const set = this.#sets[vpn % TLB_SETS]!;
    let way = this.#find(vpn, write);
    if (way !== undefined) {
      this.#count.hit += 1;
      if (set[0] !== way) {
        set.splice(set.indexOf(way), 1);
        set.unshift(way);
      }
    } else {
      this.#count.miss += 1;
      const entry = this.#walk(vpn);
      if (entry === undefined) throw new Error(`page ${vpn} is used without an entry`);
      this.drop(vpn);
      way = { vpn, frame: entry.frame, write: entry.write, dirty: false };
      set.unshift(way);
      if (set.length > TLB_WAYS) set.pop();
    }
    // The first write through a way, also through one that a read has filled, makes the entry dirty.
    if (write && !way.dirty) {
      way.dirty = true;
      const entry = this.#walk(vpn);
      if (entry === undefined || !entry.write) throw new Error(`page ${vpn} is written through a stale translation`);
      entry.dirty = true;
    }
    return way.frame;
  }

  drop(vpn: number): void {
    const set = this.#sets[vpn % TLB_SETS]!;
    for (let i = 0; i < set.length; i++) {
      if (set[i]!.vpn === vpn) {
        set.splice(i, 1);
        return;
      }
    }
  }

  /** Drops the ways of pages [start, end). */
  dropRange(start: number, end: number): void {
    for (const set of this.#sets) {
      for (let i = set.length - 1; i >= 0; i--) if (set[i]!.vpn >= start && set[i]!.vpn < end) set.splice(i, 1);
    }
  }

  /** Every way, for the checker. */
  ways(): readonly { readonly vpn: number; readonly frame: Frame; readonly write: boolean }[] {
    return this.#sets.flat();
  }

  #find(vpn: number, write: boolean): Way | undefined {
    const set = this.#sets[vpn % TLB_SETS]!;
    for (let i = 0; i < set.length; i++) {
      const way = set[i]!;
      if (way.vpn === vpn) return !write || way.write ? way : undefined;
    }
    return undefined;
  }
}

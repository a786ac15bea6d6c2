/**
 * Virtual addresses handed out: the allocator behind an address space of a device, usable alone (an IOVA space, the own range of a peer).
 *
 * ```
 *   free       [....)      [......)   two trees: by address (which knows the longest extent below a node), by length (best fit)
 *   cached          [c)               objects of a power of two, given back and kept for the next who asks for that length
 *   regions         ...[rrr)          what somebody has; perhaps in a mapping set, which is changed as one
 *
 *   alloc    cache (default only) -> tree, by strategy -> all caches back to the tree, and once more -> undefined
 *   free     region -> cache of its length, the older half of it to the tree when it is full -> tree, joined with its neighbours
 * ```
 *
 * Everything is deterministic: the same calls give the same addresses. Its state is plain data: it may be part of a saved machine.
 *
 * Models: `gm_as_create`, `gm_as_alloc`, `gm_as_free`, `struct gm_region`, `struct gm_mapping_set`; vmem, and the IOVA caches of Linux.
 */
import { Ranges } from '../core/batch.ts';
import { fail } from '../errors.ts';
import { ADDRESS_LIMIT, type NamesOf, requireCount, requireFunction, requireOptions, requireWord } from '../mm/arguments.ts';
import { alignedUp, type Extent, ExtentTree, type Fit, placeIn } from './va-tree.ts';

/**
 * Which free extent an allocation is cut from. `default`: short lengths are rounded up to powers of two and come from caches of such objects; the rest is first fit. `firstfit`: the lowest
 * address. `bestfit`: the shortest extent, then the lowest. `nextfit`: the lowest address from the end of the allocation before on, then from the beginning.
 * Models: `enum gm_as_alloc`.
 */
export type VaStrategy = 'default' | 'firstfit' | 'bestfit' | 'nextfit';

/** A space of addresses. */
export interface VaSpaceOptions {
  /** First address, a multiple of `quantum`. */
  readonly start: number;
  /** One past the last, a multiple of `quantum`, at most 2^48. */
  readonly end: number;
  /** Default `default`. */
  readonly strategy?: VaStrategy;
  /** What lengths are rounded up to, bytes: a power of two. Default 4096. */
  readonly quantum?: number;
  /** Bytes of the smallest cached object, a power of two, at least `quantum`. Default `quantum`. For `default` only. Models: `cache_quantum`. */
  readonly cacheQuantum?: number;
}

const SPACE_OPTIONS: NamesOf<VaSpaceOptions> = { start: true, end: true, strategy: true, quantum: true, cacheQuantum: true };

/** What is asked for. Models: the parameters of `gm_as_alloc`. */
export interface VaRequest {
  /** Length, rounded up to the quantum. */
  readonly bytes: number;
  /** Exactly there, or nowhere. */
  readonly at?: number;
  /** There, rounded up to the alignment, when it is free; else as if it had not been said. */
  readonly hint?: number;
  /** The region starts at a multiple: a power of two. Default: the quantum. */
  readonly align?: number;
  /** The region lies between two neighbouring multiples: a power of two, at least as long as the region. Default: wherever. */
  readonly noCross?: number;
  /** The region ends at or below. Default: the end of the space. */
  readonly below?: number;
}

const REQUEST: NamesOf<VaRequest> = { bytes: true, at: true, hint: true, align: true, noCross: true, below: true };

/** Called when the addresses of a region are free, see `MappingSet.add`. Of a machine that is saved: made by `method`. */
export type RegionFreed = (region: VaRegion) => void;

/** Where a space stands, in bytes unless said. */
export interface VaUse {
  /** Regions that somebody has: a count. */
  readonly regions: number;
  /** What they asked for, in whole quanta. */
  readonly allocated: number;
  /** What they take beside that: lengths rounded up to powers of two. */
  readonly rounding: number;
  /** In caches. */
  readonly cached: number;
  /** In the tree. */
  readonly free: number;
  /** Free extents: a count. */
  readonly extents: number;
  /** The longest free extent. */
  readonly longest: number;
  /** Allocations that a cache has served: a count. */
  readonly cacheHits: number;
  /** Allocations of a length that is cached and that the tree has served: a count. */
  readonly cacheMisses: number;
}

/** Lengths that are cached: so many powers of two from the cache quantum on. Models: IOVA_RANGE_CACHE_MAX_SIZE. */
export const CACHED_LENGTHS = 6;

/** Objects that the cache of one length keeps. */
export const CACHED_OBJECTS_MAX = 128;

const QUANTUM_MAX = 2 ** 40;
const QUANTUM = 4096;

/** Addresses that somebody has. Models: `struct gm_region`. */
export class VaRegion implements Extent {
  readonly start: number;
  /** One past the last address that was asked for, rounded up to the quantum. */
  readonly end: number;
  /** One past the last address that is taken: a cached object is longer. */
  readonly taken: number;
  /** The set that it is changed with. Models: `mapping_set_link`. */
  set: MappingSet | undefined = undefined;

  constructor(start: number, end: number, taken: number) {
    this.start = start;
    this.end = end;
    this.taken = taken;
  }

  get bytes(): number {
    return this.end - this.start;
  }
}

/** Addresses from `start` to `end`, and who has them. */
export class VaSpace {
  readonly start: number;
  readonly end: number;
  readonly strategy: VaStrategy;
  readonly quantum: number;
  readonly cacheQuantum: number;
  private readonly extents: ExtentTree = new ExtentTree('address');
  /** The same extents by length, for best fit. */
  private readonly lengths: ExtentTree | undefined;
  /** Starts of the objects that wait for their next use, by length; the last one is the next. */
  private readonly caches: number[][] = [];
  private readonly regions: Map<number, VaRegion> = new Map();
  /** Where the last allocation ended: next fit goes on there. */
  private next: number;
  private allocated = 0;
  private rounding = 0;
  private cached = 0;
  private hits = 0;
  private misses = 0;

  constructor(options: VaSpaceOptions) {
    requireOptions('VaSpace', options, SPACE_OPTIONS);
    const { start, end, strategy = 'default', quantum = QUANTUM, cacheQuantum = quantum } = options;
    requirePower('VaSpace.quantum', quantum, 1);
    requirePower('VaSpace.cacheQuantum', cacheQuantum, quantum);
    requireAddress('VaSpace.start', start, quantum);
    requireAddress('VaSpace.end', end, quantum);
    if (end <= start) throw fail('EINVAL', 'VaSpace.end', end, `is not above its start 0x${start.toString(16)}`);
    this.strategy = requireWord('VaSpace.strategy', strategy, ['default', 'firstfit', 'bestfit', 'nextfit']);
    this.start = start;
    this.end = end;
    this.quantum = quantum;
    this.cacheQuantum = cacheQuantum;
    this.lengths = strategy === 'bestfit' ? new ExtentTree('length') : undefined;
    this.next = start;
    for (let i = 0; i < CACHED_LENGTHS; i++) this.caches.push([]);
    this.addFree(start, end);
  }

  /**
   * A region that nobody else has; undefined when there is no such room. Errors: EINVAL for a request that breaks a rule. Takes O(log n) of the free extents; an alignment, a boundary or an upper bound costs
   * a look at each that is long enough and does not fit. Models: `gm_as_alloc`.
   */
  alloc(request: VaRequest): VaRegion | undefined {
    requireOptions('va.alloc', request, REQUEST);
    const { at, hint, align = this.quantum, noCross = 0, below = this.end } = request;
    requireCount('va.alloc.bytes', request.bytes, 1, ADDRESS_LIMIT);
    requirePower('va.alloc.align', align, 1);
    const bytes = alignedUp(request.bytes, this.quantum);
    if (request.noCross !== undefined) {
      requirePower('va.alloc.noCross', noCross, 1);
      if (noCross < bytes) throw fail('EINVAL', 'va.alloc.noCross', noCross, `is shorter than the region, ${bytes} bytes`);
    }
    requireCount('va.alloc.below', below, 0, ADDRESS_LIMIT);
    if (at !== undefined) {
      requireAddress('va.alloc.at', at, this.quantum, ADDRESS_LIMIT - 1);
      if (hint !== undefined) throw fail('EINVAL', 'va.alloc.hint', hint, 'does not go with `at`');
    }
    if (hint !== undefined) requireCount('va.alloc.hint', hint, 0, ADDRESS_LIMIT);

    const unit = Math.max(align, this.quantum);
    const fit: Fit = { bytes, align: unit, noCross, from: this.start, below: Math.min(below, this.end) };
    const length = at === undefined && hint === undefined ? this.cachedLength(bytes) : -1;
    const region = this.place(fit, length, at, hint);
    if (region || (this.cached === 0 && length < 0)) return region;
    // What waits in caches may be what is missing, or the rounding up.
    this.shrink();
    return this.place(fit, length, at, hint) ?? (length < 0 ? undefined : this.place(fit, -1, at, hint));
  }

  /** Gives a region back. Errors: EINVAL for one that this space does not know, or no longer; EBUSY for one in a mapping set, which is freed as one. Models: `gm_as_free`. */
  free(region: VaRegion): void {
    this.requireOwn('va.free', region);
    if (region.set) throw fail('EBUSY', 'va.free.region', region.start, 'is in a mapping set');
    this.drop(region);
  }

  /** The region that starts at an address. */
  region(start: number): VaRegion | undefined {
    requireCount('va.region.start', start, 0, ADDRESS_LIMIT);
    return this.regions.get(start);
  }

  /** Gives everything in caches back to the tree. */
  shrink(): void {
    for (let length = 0; length < CACHED_LENGTHS; length++) this.empty(length, this.caches[length]!.length);
  }

  /** Calls `visit` for each free extent of the tree, ascending. */
  eachFree(visit: (start: number, end: number) => void): void {
    requireFunction('va.eachFree.visit', visit);
    this.extents.each(visit);
  }

  get use(): VaUse {
    const { allocated, rounding, cached, hits, misses, extents } = this;
    return {
      regions: this.regions.size,
      allocated,
      rounding,
      cached,
      free: this.end - this.start - allocated - rounding - cached,
      extents: extents.size,
      longest: extents.longest,
      cacheHits: hits,
      cacheMisses: misses,
    };
  }

  /** @internal Throws EINVAL for a region that this space does not know. */
  requireOwn(verb: string, region: VaRegion): void {
    if (!(region instanceof VaRegion)) throw fail('EINVAL', `${verb}.region`, region, 'is not a region (see VaSpace.alloc)');
    if (this.regions.get(region.start) !== region)
      throw fail('EINVAL', `${verb}.region`, region.start, 'is not a region of this space, or was freed');
  }

  /** @internal The addresses of a region are free. Requires: its own. */
  drop(region: VaRegion): void {
    const { start, end, taken } = region;
    this.regions.delete(start);
    this.allocated -= end - start;
    this.rounding -= taken - end;
    const length = this.cachedLength(taken - start);
    if (length < 0 || start % (taken - start) !== 0 || taken - start !== this.cacheQuantum * 2 ** length) {
      this.giveBack(start, taken);
      return;
    }
    const cache = this.caches[length]!;
    if (cache.length === CACHED_OBJECTS_MAX) this.empty(length, CACHED_OBJECTS_MAX / 2);
    cache.push(start);
    this.cached += taken - start;
  }

  private place(fit: Fit, length: number, at: number | undefined, hint: number | undefined): VaRegion | undefined {
    const { bytes, align } = fit;
    if (at !== undefined) return at % align === 0 ? this.exactly(at, bytes, fit) : undefined;
    if (hint !== undefined) {
      const region = this.exactly(alignedUp(hint, align), bytes, fit);
      if (region) return region;
    }
    if (length >= 0) return this.object(fit, length);
    return this.cut(fit, bytes);
  }

  /** The place that was named, if it is free. */
  private exactly(at: number, bytes: number, fit: Fit): VaRegion | undefined {
    const extent = this.extents.atOrBelow(at);
    if (!extent || placeIn(extent.start, extent.end, { ...fit, from: Math.max(at, this.start) }) !== at) return undefined;
    return this.take(extent, at, at + bytes, bytes);
  }

  /** An object of a cached length, the one given back last. They lie at multiples of their length: a boundary that is not shorter is never crossed. */
  private object(fit: Fit, length: number): VaRegion | undefined {
    const cache = this.caches[length]!;
    const bytes = this.cacheQuantum * 2 ** length;
    for (let i = cache.length - 1; i >= 0; i--) {
      const start = cache[i]!;
      if (start % fit.align !== 0 || start + fit.bytes > fit.below) continue;
      cache.splice(i, 1);
      this.cached -= bytes;
      this.hits++;
      return this.keep(start, start + fit.bytes, start + bytes);
    }
    const whole: Fit = { ...fit, bytes, align: Math.max(bytes, fit.align), noCross: Math.max(fit.noCross, bytes) };
    const region = this.cut(whole, fit.bytes);
    if (region) this.misses++;
    return region;
  }

  /** From the tree, as the strategy says. */
  private cut(fit: Fit, asked: number): VaRegion | undefined {
    let extent: Extent | undefined;
    let wanted = fit;
    if (this.strategy === 'bestfit') extent = this.lengths!.first(fit);
    else {
      if (this.strategy === 'nextfit' && this.next > this.start) {
        wanted = { ...fit, from: this.next };
        extent = this.extents.first(wanted);
      }
      if (!extent) {
        wanted = fit;
        extent = this.extents.first(fit);
      }
    }
    if (!extent) return undefined;
    const start = placeIn(extent.start, extent.end, wanted);
    return this.take(extent, start, start + fit.bytes, asked);
  }

  /** Cuts `[start, taken)` out of a free extent. */
  private take(extent: Extent, start: number, taken: number, asked: number): VaRegion {
    const { start: first, end: past } = extent;
    this.removeFree(first, past);
    if (first < start) this.addFree(first, start);
    if (taken < past) this.addFree(taken, past);
    this.next = taken;
    return this.keep(start, start + asked, taken);
  }

  private keep(start: number, end: number, taken: number): VaRegion {
    const region = new VaRegion(start, end, taken);
    this.regions.set(start, region);
    this.allocated += end - start;
    this.rounding += taken - end;
    return region;
  }

  /** Which cache objects of at least so many bytes are in; -1: none. */
  private cachedLength(bytes: number): number {
    if (this.strategy !== 'default') return -1;
    for (let length = 0; length < CACHED_LENGTHS; length++) if (bytes <= this.cacheQuantum * 2 ** length) return length;
    return -1;
  }

  /** Gives the oldest objects of a cache back. */
  private empty(length: number, objects: number): void {
    const bytes = this.cacheQuantum * 2 ** length;
    for (const start of this.caches[length]!.splice(0, objects)) {
      this.cached -= bytes;
      this.giveBack(start, start + bytes);
    }
  }

  /** A free extent, joined with those that it touches. */
  private giveBack(start: number, end: number): void {
    const before = this.extents.atOrBelow(start);
    const after = this.extents.atOrAbove(end);
    let first = start;
    let past = end;
    if (before?.end === start) {
      first = before.start;
      this.removeFree(first, start);
    }
    if (after?.start === end) {
      past = after.end;
      this.removeFree(end, past);
    }
    this.addFree(first, past);
  }

  private addFree(start: number, end: number): void {
    this.extents.insert(start, end);
    this.lengths?.insert(start, end);
  }

  private removeFree(start: number, end: number): void {
    this.extents.remove(start, end);
    this.lengths?.remove(start, end);
  }
}

/**
 * Regions that are changed as one: none of them can be freed, or put into another set, by itself. What a deferred, coalesced invalidation is about: regions whose addresses must not be given
 * to anybody before the flush has ended.
 *
 * ```
 *   set.add(region, freed)        unmapped, its addresses stay taken
 *   set.ranges(ranges)            one invalidation for all of them
 *   set.free()                    the flush has ended: all addresses are free, then each is told
 * ```
 *
 * Models: `struct gm_mapping_set`, `callback_op` and `cb_args` of `struct gm_region`.
 */
export class MappingSet {
  readonly space: VaSpace;
  private readonly list: VaRegion[] = [];
  private readonly told: (RegionFreed | undefined)[] = [];
  private length = 0;

  constructor(space: VaSpace) {
    if (!(space instanceof VaSpace)) throw fail('EINVAL', 'MappingSet.space', space, 'is not a VaSpace');
    this.space = space;
  }

  /** How many regions. Models: `region_cnt`. */
  get size(): number {
    return this.list.length;
  }

  /** Their bytes. */
  get bytes(): number {
    return this.length;
  }

  /** Takes a region in. `freed`: called when its addresses are free. Errors: EINVAL for a region of another space, EBUSY for one in a set. */
  add(region: VaRegion, freed?: RegionFreed): void {
    this.space.requireOwn('set.add', region);
    if (region.set) throw fail('EBUSY', 'set.add.region', region.start, 'is in a mapping set');
    if (freed !== undefined) requireFunction('set.add.freed', freed);
    region.set = this;
    this.list.push(region);
    this.told.push(freed);
    this.length += region.bytes;
  }

  /** Lets a region go: it is one by itself again, and nobody is told. Errors: EINVAL when it is not in this set. */
  remove(region: VaRegion): void {
    const at = this.list.indexOf(region);
    if (at < 0) throw fail('EINVAL', 'set.remove.region', region, 'is not in this mapping set');
    this.list.splice(at, 1);
    this.told.splice(at, 1);
    this.length -= region.bytes;
    region.set = undefined;
  }

  /** Adds their pages to a batch, ascending, what touches as one. Requires: the quantum of the space is a multiple of a page. */
  ranges(ranges: Ranges): void {
    if (!(ranges instanceof Ranges)) throw fail('EINVAL', 'set.ranges.ranges', ranges, 'are not Ranges');
    const sorted = [...this.list].sort((a, b) => a.start - b.start);
    for (let i = 0; i < sorted.length;) {
      const first = sorted[i]!.start;
      let { end } = sorted[i]!;
      for (i++; sorted[i]?.start === end; i++) ({ end } = sorted[i]!);
      ranges.add(first / QUANTUM, (end - first) / QUANTUM);
    }
  }

  /** Calls `visit` for each region, in the order of coming. */
  each(visit: (region: VaRegion) => void): void {
    requireFunction('set.each.visit', visit);
    for (const region of this.list) visit(region);
  }

  /** All addresses are free; then whoever wanted to know is told, in the order of coming. One that throws does not stop the others; the first error is thrown at the end. */
  free(): void {
    const regions = this.list.splice(0);
    const told = this.told.splice(0);
    this.length = 0;
    for (const region of regions) {
      region.set = undefined;
      this.space.drop(region);
    }
    const errors: unknown[] = [];
    for (let i = 0; i < regions.length; i++) {
      try {
        told[i]?.(regions[i]!);
      } catch (error) {
        errors.push(error);
      }
    }
    if (errors.length > 0) throw errors[0];
  }
}

function requirePower(argument: string, value: number, least: number): void {
  requireCount(argument, value, least, QUANTUM_MAX);
  if (2 ** Math.round(Math.log2(value)) !== value) throw fail('EINVAL', argument, value, 'is not a power of two');
}

function requireAddress(argument: string, addr: number, unit: number, most = ADDRESS_LIMIT): void {
  requireCount(argument, addr, 0, most);
  if (addr % unit !== 0) throw fail('EINVAL', argument, addr, `is not a multiple of 0x${unit.toString(16)}`);
}

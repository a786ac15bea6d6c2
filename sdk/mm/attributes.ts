/**
 * What is advised for the pages of a space: where they would best be, who uses them, whether they are mostly read, which atomics a device may do on them. Kept by ranges outside the VMAs, so that advice
 * neither splits a mapping nor keeps two from being one. Advice never changes what a program reads; the policies (`sdk/policy`) look at it.
 *
 * ```
 *   set        an attribute replaces the one that was there, page by page; the others stay; accessed-by adds to or takes from a set
 *   neighbours that say the same are one; a page that says nothing is in no interval
 *   mmap       begins without; a mapping that grows (mremap, a neighbour that joins it) does not take its attributes along
 *   mprotect   and whatever else splits or joins mappings: nothing changes
 *   munmap     clears
 *   mremap     moves them with the pages; also away from a range that stays mapped (dontUnmap)
 *   fork       copies those of the mappings that the child gets: devices are of the machine, and advice on them holds when the child attaches them
 *   detach     keeps them; a device that leaves the machine is forgotten
 *
 *   old        aaaaaa....bb          a, b: values; '.': none
 *   set b      ...bbbbbbb..          where a and b are about one attribute
 *   new        aaabbbbbbbbb
 * ```
 *
 * Models: the range attributes asked for in the review of GMEM, `drm_xe_vm_mem_range_attr`, `UVM_SET_PREFERRED_LOCATION` and its kin.
 */
import * as L from '../../assembly/layout.ts';
import { fail } from '../errors.ts';
import type { MemoryMap } from './memory-map.ts';
import { type AddressRange, type NamesOf, requireArray, requireBoolean, requireNames, requireObject, requireRange } from './arguments.ts';
import type { Platform } from './platform.ts';

/**
 * How a device does an atomic. `native`: through its writable translation, wherever the page is (its bus has atomics). `exclusive`: on a page that nobody else may touch
 * meanwhile (`make_device_exclusive`). `migrate`: in its own memory, where the page goes first.
 */
export type AtomicMeans = 'native' | 'exclusive' | 'migrate';

const ATOMIC_MEANS: readonly AtomicMeans[] = ['native', 'exclusive', 'migrate'];

/** A device, as far as advice needs to know it: `Device` of `sdk/gmem` is one. */
export interface AdvisedDevice {
  readonly name: string;
  /** Its number in the machine, 1 and up. */
  readonly owner: number;
  /** Whether it is a device of this machine. */
  isOf(platform: Platform): boolean;
}

/** `PageAttributes.preferred`: on the host. Devices are named by their number (`device.owner`), 1 and up. */
export const PREFERS_HOST = 0;

/** `PageAttributes.preferred`: nobody has said. */
export const PREFERS_NOTHING: number = -1;

/** What is advised for a page. Lent, and never changed: advice that changes is another object. */
export interface PageAttributes {
  /** Number of a device, PREFERS_HOST, or PREFERS_NOTHING. */
  readonly preferred: number;
  /** Numbers of the devices that will use it, ascending. */
  readonly accessedBy: readonly number[];
  /** It is read far more often than written: worth duplicating. */
  readonly readMostly: boolean;
  /** Of the means that a device has for atomics, those that it may use; undefined: all of them. */
  readonly atomics: readonly AtomicMeans[] | undefined;
  /** Opaque bits that drivers keep for it: pairs of the device's number and its bits, ascending. Undefined: none. See `context.setAttributes`. */
  readonly bits?: readonly number[] | undefined;
}

/** What to change. What is left out stays as it is. */
export interface AttributeChange {
  /** Where the pages would best be; `'none'`: no matter. Models: `UVM_SET_PREFERRED_LOCATION`, `MPOL_PREFERRED`. */
  readonly preferred?: AdvisedDevice | 'host' | 'none';
  /** One more device that will use the pages. Models: `UVM_SET_ACCESSED_BY`. */
  readonly accessedBy?: AdvisedDevice;
  /** A device that will not any more. */
  readonly notAccessedBy?: AdvisedDevice;
  /** Models: `UVM_ENABLE_READ_DUPLICATION`. */
  readonly readMostly?: boolean;
  /** The means that devices may use; an empty list: none; `'any'`: all that they have. Models: `DRM_XE_MEM_RANGE_ATTR_ATOMIC`. */
  readonly atomics?: readonly AtomicMeans[] | 'any';
}

const CHANGE: NamesOf<AttributeChange> = { preferred: true, accessedBy: true, notAccessedBy: true, readMostly: true, atomics: true };

/** A range with one advice, as `list` shows it. */
export interface AttributeRange extends AddressRange, PageAttributes {}

interface Interval {
  readonly start: number;
  readonly end: number;
  readonly value: PageAttributes;
}

const NOTHING: PageAttributes = { preferred: PREFERS_NOTHING, accessedBy: [], readMostly: false, atomics: undefined };

/** Intervals put in by one `splice`: they are its arguments, of which there cannot be many. */
const SPLICED_MAX = 64;

/** The attributes of one space, `space.attributes`. */
export class Attributes {
  private readonly platform: Platform;
  private readonly space: MemoryMap;
  /** Ascending, disjoint; neighbours differ. */
  private intervals: Interval[] = [];
  /** Where the last look-up ended: the next one is mostly near. */
  private last = 0;

  constructor(platform: Platform, space: MemoryMap) {
    this.platform = platform;
    this.space = space;
  }

  /** How many intervals; 0: nothing is advised anywhere. */
  get size(): number {
    return this.intervals.length;
  }

  /**
   * Changes attributes of a range, which must be mapped from end to end. Errors: EINVAL for a range with a hole, a device of another machine, or one that is both to be added and
   * taken out; EBADF, and EINVAL from inside an operation.
   */
  set(range: AddressRange, change: AttributeChange): void {
    this.pages('attributes.set', range);
    this.change(range, change);
  }

  /** @internal The same, for a step. */
  change(range: AddressRange, change: AttributeChange): void {
    const start = range.start / L.PAGE_BYTES;
    const end = range.end / L.PAGE_BYTES;
    const edit = this.edited(change);
    const hole = this.space.vmas.covered(start, end);
    if (hole < end) {
      const rule = `has no mapping at 0x${(hole * L.PAGE_BYTES).toString(16)}`;
      throw fail('EINVAL', 'attributes.set.range', start * L.PAGE_BYTES, rule);
    }
    this.edit(start, end, edit);
  }

  /** Takes all attributes of a range away, mapped or not. */
  clear(range: AddressRange): void {
    const { start, end } = this.pages('attributes.clear', range);
    this.clearPages(start, end);
  }

  /** What is advised in a range, or everywhere: ascending, without what is not advised. */
  list(range?: AddressRange): AttributeRange[] {
    this.space.requireOpen('attributes.list');
    if (range !== undefined) requireRange('attributes.list.range', range);
    const { start = 0, end = 2 ** L.ADDRESS_BITS } = range ?? {};
    const found: AttributeRange[] = [];
    for (const { start: first, end: past, value } of this.intervals) {
      const from = Math.max(first * L.PAGE_BYTES, start);
      const to = Math.min(past * L.PAGE_BYTES, end);
      if (from < to) found.push({ start: from, end: to, ...value });
    }
    return found;
  }

  /** @internal What is advised for a page; undefined: nothing. Lent. Allocates nothing; with nothing advised anywhere it is one test. */
  at(vpn: number): PageAttributes | undefined {
    const { intervals } = this;
    if (intervals.length === 0) return undefined;
    const near = intervals[this.last];
    if (near !== undefined && near.start <= vpn && vpn < near.end) return near.value;
    const found = this.after(vpn);
    this.last = found;
    const interval = intervals[found];
    return interval !== undefined && interval.start <= vpn ? interval.value : undefined;
  }

  /** @internal One past the last page, from `vpn` on and up to `end`, of which the same is advised. */
  sameUntil(vpn: number, end: number): number {
    const interval = this.intervals[this.after(vpn)];
    if (interval === undefined) return end;
    return Math.min(end, interval.start <= vpn ? interval.end : interval.start);
  }

  /** @internal The pages `[start, end)` are unmapped. */
  clearPages(start: number, end: number): void {
    if (this.intervals.length > 0) this.edit(start, end, nothing);
  }

  /** @internal Pages go to another place; what was advised there gives way. The two do not overlap. */
  movePages(from: number, to: number, pages: number): void {
    if (this.intervals.length === 0) return;
    const moving = this.within(from, from + pages);
    this.clearPages(from, from + pages);
    this.clearPages(to, to + pages);
    for (const { start, end, value } of moving) this.edit(start - from + to, end - from + to, () => value);
  }

  /** @internal A child gets what its parent has for the pages `[start, end)`. */
  inherit(parent: Attributes, start: number, end: number): void {
    for (const { start: first, end: past, value } of parent.within(start, end)) this.edit(first, past, () => value);
  }

  /** @internal The opaque bits of a device for the pages `[start, end)`; 0: none. */
  setBits(start: number, end: number, owner: number, bits: number): void {
    if (bits !== 0 || this.intervals.length > 0) this.edit(start, end, (old) => ({ ...old, bits: withBits(old.bits, owner, bits) }));
  }

  /** @internal The opaque bits of a device for a page. */
  bitsAt(vpn: number, owner: number): number {
    const pairs = this.at(vpn)?.bits;
    if (pairs === undefined) return 0;
    for (let i = 0; i < pairs.length; i += 2) if (pairs[i] === owner) return pairs[i + 1]!;
    return 0;
  }

  /** @internal A device leaves the machine. */
  forget(owner: number): void {
    const without = (old: PageAttributes): PageAttributes => ({
      ...old,
      preferred: old.preferred === owner ? PREFERS_NOTHING : old.preferred,
      accessedBy: old.accessedBy.filter((each) => each !== owner),
      bits: withBits(old.bits, owner, 0),
    });
    if (this.intervals.length > 0) this.edit(0, 2 ** L.VPN_BITS, without);
  }

  private pages(verb: string, range: AddressRange): { readonly start: number; readonly end: number } {
    this.space.requireOpen(verb);
    this.platform.requireIdle(verb);
    requireRange(`${verb}.range`, range);
    return { start: range.start / L.PAGE_BYTES, end: range.end / L.PAGE_BYTES };
  }

  /** What a change makes of what was. */
  private edited(change: AttributeChange): (old: PageAttributes) => PageAttributes {
    requireObject('attributes.set.change', change, 'an object of attributes');
    requireNames('attributes.set.change', change, CHANGE);
    const preferred = change.preferred === undefined ? undefined : this.place(change.preferred);
    const added = change.accessedBy === undefined ? undefined : this.number('accessedBy', change.accessedBy);
    const removed = change.notAccessedBy === undefined ? undefined : this.number('notAccessedBy', change.notAccessedBy);
    if (added !== undefined && added === removed)
      throw fail('EINVAL', 'attributes.set.notAccessedBy', change.notAccessedBy?.name, 'is the device that is to be added');
    if (change.readMostly !== undefined) requireBoolean('attributes.set.readMostly', change.readMostly);
    const atomics = change.atomics === undefined ? undefined : meansOf(change.atomics);
    return (old) => ({
      preferred: preferred ?? old.preferred,
      accessedBy: withAndWithout(old.accessedBy, added, removed),
      readMostly: change.readMostly ?? old.readMostly,
      atomics: atomics === undefined ? old.atomics : atomics === 'any' ? undefined : atomics,
      bits: old.bits,
    });
  }

  private place(preferred: AdvisedDevice | 'host' | 'none'): number {
    if (preferred === 'host') return PREFERS_HOST;
    if (preferred === 'none') return PREFERS_NOTHING;
    return this.number('preferred', preferred, ", 'host' or 'none'");
  }

  private number(field: string, device: AdvisedDevice, or = ''): number {
    if (!isOfMachine(device, this.platform) || !this.platform.devices.includes(device))
      throw fail('EINVAL', `attributes.set.${field}`, device, `is not a device of this machine${or}`);
    return device.owner;
  }

  /** The first interval that ends above a page. */
  private after(vpn: number): number {
    const { intervals } = this;
    let low = 0;
    let high = intervals.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (intervals[middle]!.end > vpn) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  /** The parts of intervals in `[start, end)`. */
  private within(start: number, end: number): Interval[] {
    const parts: Interval[] = [];
    for (let i = this.after(start); i < this.intervals.length && this.intervals[i]!.start < end; i++) {
      const { start: first, end: past, value } = this.intervals[i]!;
      parts.push({ start: Math.max(first, start), end: Math.min(past, end), value });
    }
    return parts;
  }

  /** Gives every page of `[start, end)` what `change` makes of what it has. */
  private edit(start: number, end: number, change: (old: PageAttributes) => PageAttributes): void {
    const { intervals } = this;
    // One that ends where the range begins, or begins where it ends, may come to say the same.
    const first = this.after(start - 1);
    const put: Interval[] = [];
    let next = first;
    let at = start;
    for (; next < intervals.length && intervals[next]!.start <= end; next++) {
      const { start: from, end: to, value } = intervals[next]!;
      if (from < start) append(put, from, Math.min(to, start), value);
      if (at < Math.min(from, end)) append(put, at, Math.min(from, end), change(NOTHING));
      const inside = Math.max(from, start);
      const past = Math.min(to, end);
      if (inside < past) append(put, inside, past, change(value));
      if (to > end) append(put, Math.max(from, end), to, value);
      at = Math.max(at, past);
    }
    if (at < end) append(put, at, end, change(NOTHING));
    if (put.length <= SPLICED_MAX) intervals.splice(first, next - first, ...put);
    else this.intervals = intervals.slice(0, first).concat(put, intervals.slice(next));
  }
}

/** Appends what is said of `[start, end)`: nothing when nothing is, and as one with the last when it says the same. */
function append(list: Interval[], start: number, end: number, value: PageAttributes): void {
  if (isSame(value, NOTHING)) return;
  const last = list[list.length - 1];
  if (last !== undefined && last.end === start && isSame(last.value, value)) list[list.length - 1] = { start: last.start, end, value };
  else list.push({ start, end, value });
}

function nothing(): PageAttributes {
  return NOTHING;
}

function isSame(a: PageAttributes, b: PageAttributes): boolean {
  return (
    a.preferred === b.preferred &&
    a.readMostly === b.readMostly &&
    areSame(a.accessedBy, b.accessedBy) &&
    areSame(a.atomics, b.atomics) &&
    areSame(a.bits, b.bits)
  );
}

function areSame(a: readonly unknown[] | undefined, b: readonly unknown[] | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  return a.length === b.length && a.every((each, i) => each === b[i]);
}

function withAndWithout(list: readonly number[], added: number | undefined, removed: number | undefined): readonly number[] {
  const rest = removed === undefined ? list : list.filter((each) => each !== removed);
  return added === undefined || rest.includes(added) ? rest : [...rest, added].sort((a, b) => a - b);
}

/** Pairs with one for this device, or without. */
function withBits(pairs: readonly number[] | undefined, owner: number, bits: number): readonly number[] | undefined {
  const list: (readonly [number, number])[] = [];
  for (let i = 0; i < (pairs?.length ?? 0); i += 2) if (pairs![i] !== owner) list.push([pairs![i]!, pairs![i + 1]!]);
  if (bits !== 0) list.push([owner, bits]);
  return list.length === 0 ? undefined : list.sort((a, b) => a[0] - b[0]).flat();
}

/** The means in a fixed order, each once. Throws EINVAL for what is none. */
function meansOf(atomics: readonly AtomicMeans[] | 'any'): readonly AtomicMeans[] | 'any' {
  if (atomics === 'any') return 'any';
  requireArray('attributes.set.atomics', atomics);
  for (const means of atomics) {
    if (!ATOMIC_MEANS.includes(means))
      throw fail('EINVAL', 'attributes.set.atomics', means, "is not one of: 'native', 'exclusive', 'migrate'");
  }
  return ATOMIC_MEANS.filter((means) => atomics.includes(means));
}

/** Whether a value is a device of a machine. Asks nothing of it that could throw. */
export function isOfMachine(device: unknown, platform: Platform): device is AdvisedDevice {
  try {
    return typeof device === 'object' && device !== null && (device as AdvisedDevice).isOf(platform) === true;
  } catch {
    return false;
  }
}

/**
 * An address space: what a process's memory is. VMAs say what was promised, the home table what is there now, interval notifiers tell
 * the devices before it changes.
 *
 * The verbs here check their arguments, build a step and run it; the steps (`access.ts`, `fault.ts`, `take-down.ts`, `migration.ts`) do the work.
 * Byte addresses are integers below 2^48; ranges are half-open.
 *
 * Models: `mm_struct`, `gm_as`.
 */
import * as L from '../../assembly/layout.ts';
import { fail, type FarfaultError } from '../errors.ts';
import { RwLock } from '../step/lock.ts';
import type { Step } from '../step/step.ts';
import { type AccessOutcome, CpuAccess } from './access.ts';
import { dumpRange } from './dump.ts';
import { type IntervalNotifier, type Invalidation, type NotifierOps, NotifierSet, RemoveNotifier } from './notifier.ts';
import type { Platform } from './platform.ts';
import { type Extent, snapshotExtents, snapshotHmm, snapshotNative } from './snapshot.ts';
import { TakeDown } from './take-down.ts';
import { type Prot, protBits } from './prot.ts';
import { PROT_WRITE, VMA_ANONYMOUS, VMA_PRIVATE, type Vma, VmaSet } from './vma.ts';

/** A half-open range of byte addresses, page-aligned. */
export interface AddressRange {
  readonly start: number;
  readonly end: number;
}

/** What to map, and where. */
export interface MmapOptions {
  /** Length; rounded up to whole pages. */
  readonly bytes: number;
  /** Rights: any of the letters r, w and x, or 'none'. Default 'rw'. */
  readonly prot?: Prot;
  /** Where, page-aligned; with `fixed` exactly there, else the first free place from there on. Default: the first free place from 256 MiB on. */
  readonly at?: number;
  /** Exactly at `at`; fails when anything is mapped there. Models: MAP_FIXED_NOREPLACE. */
  readonly fixed?: boolean;
}

/** What a device is attached by; `sdk/gmem/device.ts` implements it. */
export interface Attachable<Context> {
  attachTo(space: AddressSpace): Context;
}

/** What a space asks of each attached context when the space ends. */
export interface SpaceMirror {
  readonly name: string;
  detach(): void;
  detachAsync(): Promise<void>;
}

/** How a read or write ended, when failing is an expected outcome. */
export interface AccessResult {
  readonly status: AccessOutcome;
  /** Bytes done before that. */
  readonly bytes: number;
}

export const ADDRESS_LIMIT: number = 2 ** L.ADDRESS_BITS;

/** First address that `mmap` chooses by itself: 256 MiB. */
export const MMAP_BASE = 0x1000_0000;

/** Sets of the CPU's TLB, four ways each. */
export const CPU_TLB_SETS = 256;

/** Geometry of every home table: four levels of nine bits, leaves first. */
const HOME_GEOMETRY = [9, 9, 9, 9] as const;

/** The memory of one process. Made by `machine.createAddressSpace()`. */
export class AddressSpace {
  /** Index of its home table: names the space in events and in the reverse map. */
  readonly id: number;
  /** Descriptor address of the home table, for steps and device code; not for programs. */
  readonly table: number;
  /** The CPU's TLB slot. */
  readonly tlb: number;
  readonly vmas: VmaSet = new VmaSet();
  readonly notifiers: NotifierSet;
  readonly mmapLock: RwLock;
  /** Attached contexts, oldest first. */
  readonly mirrors: SpaceMirror[] = [];
  readonly #platform: Platform;
  #open = true;
  /** RELEASE has been announced: once. */
  #exiting = false;

  constructor(platform: Platform) {
    this.#platform = platform;
    const { core } = platform;
    this.table = core.tableCreate(HOME_GEOMETRY, true);
    if (this.table === 0) throw fail('ENOMEM', 'address spaces', platform.spaces.size, 'is all that the machine has tables for');
    this.tlb = core.tlbCreate(this.table, CPU_TLB_SETS);
    if (this.tlb === 0) {
      core.exports.tableDestroy(this.table);
      throw fail('ENOMEM', 'address spaces', platform.spaces.size, 'is all that the machine has TLBs for');
    }
    core.setField(this.table, L.TABLE_TLB, this.tlb);
    this.id = core.field(this.table, L.TABLE_INDEX);
    this.mmapLock = new RwLock('mmap', this.id);
    this.notifiers = new NotifierSet({ label: `space ${this.id}`, warn: (message) => platform.stray.push(new Error(message)) });
    platform.spaces.set(this.id, this);
  }

  // -------------------------------------------------------------------------------------------------------------- mapping

  /**
   * Promises `bytes` of private anonymous memory; frames come with the first touch. Returns the range.
   * Errors: EINVAL for bad arguments or a fixed place that is taken, ENOMEM when no gap is large enough. Models: `mmap`.
   */
  mmap(options: MmapOptions): AddressRange {
    this.requireOpen('mmap');
    if (typeof options !== 'object' || options === null) throw fail('EINVAL', 'mmap options', options, 'are not an object');
    const { bytes, at, fixed = false } = options;
    if (!Number.isSafeInteger(bytes) || bytes <= 0 || bytes > ADDRESS_LIMIT)
      throw fail('EINVAL', 'mmap.bytes', bytes, 'is not a length between 1 byte and 2^48');
    const prot = protBits('mmap.prot', options.prot ?? 'rw');
    if (at !== undefined) requireAligned('mmap.at', at);
    else if (fixed) throw fail('EINVAL', 'mmap.at', at, 'is required with fixed');
    const pages = Math.ceil(bytes / L.PAGE_BYTES);
    const wanted = (at ?? MMAP_BASE) / L.PAGE_BYTES;
    let start: number | undefined = wanted;
    if (fixed) {
      if (wanted + pages > ADDRESS_LIMIT / L.PAGE_BYTES)
        throw fail('EINVAL', 'mmap.at', at, `leaves no room for 0x${bytes.toString(16)} bytes below 2^48`);
      if (!this.vmas.isFree(wanted, wanted + pages)) throw fail('EINVAL', 'mmap.at', at, 'is mapped already');
    } else start = this.vmas.gap({ pages, base: wanted });
    if (start === undefined) throw fail('ENOMEM', 'mmap.bytes', bytes, 'has no gap in the address space');
    this.vmas.insert({ start, end: start + pages, prot, flags: VMA_ANONYMOUS | VMA_PRIVATE });
    const { events } = this.#platform;
    if (events.heard) events.emit({ type: 'space.mapped', space: this.id, vpn: start, pages });
    return { start: start * L.PAGE_BYTES, end: (start + pages) * L.PAGE_BYTES };
  }

  /** Takes a range away: device translations, pages, promise. Whatever of it is not mapped is passed over. Models: `munmap`. */
  munmap(range: AddressRange): void {
    this.#runSync(this.unmapStep(range));
  }

  /** The same, waiting for devices that flush asynchronously. */
  async munmapAsync(range: AddressRange): Promise<void> {
    await this.#runAsync(this.unmapStep(range));
  }

  /** Changes the rights of a range, which must be mapped from end to end (EINVAL, nothing changed). Models: `mprotect`. */
  mprotect(range: AddressRange, prot: Prot): void {
    this.#runSync(this.protectStep(range, prot));
  }

  async mprotectAsync(range: AddressRange, prot: Prot): Promise<void> {
    await this.#runAsync(this.protectStep(range, prot));
  }

  /**
   * Advice on a range, which must be mapped from end to end. `dontneed`: its pages go, the promise stays, the next touch finds zeros.
   * Models: `madvise`.
   */
  madvise(range: AddressRange, advice: 'dontneed'): void {
    this.#runSync(this.adviseStep(range, advice));
  }

  async madviseAsync(range: AddressRange, advice: 'dontneed'): Promise<void> {
    await this.#runAsync(this.adviseStep(range, advice));
  }

  // -------------------------------------------------------------------------------------------------------------- access

  /** Reads `bytes` bytes as the CPU would. Throws EFAULT where there is no right to read, ENOMEM, EIO; EBUSY when a device has not finished. */
  read(addr: number, bytes: number): Uint8Array {
    const step = this.readStep(addr, bytes);
    this.#runSync(step);
    return this.#checked(step, addr);
  }

  async readAsync(addr: number, bytes: number): Promise<Uint8Array> {
    const step = this.readStep(addr, bytes);
    await this.#runAsync(step);
    return this.#checked(step, addr);
  }

  /** Writes bytes as the CPU would. Throws as `read` does; what was written before the failing page stays written. */
  write(addr: number, bytes: Uint8Array): void {
    const step = this.writeStep(addr, bytes);
    this.#runSync(step);
    this.#checked(step, addr);
  }

  async writeAsync(addr: number, bytes: Uint8Array): Promise<void> {
    const step = this.writeStep(addr, bytes);
    await this.#runAsync(step);
    this.#checked(step, addr);
  }

  /** Reads into `bytes` and says how far it came, instead of throwing where there is no right to. */
  tryRead(addr: number, bytes: Uint8Array): AccessResult {
    requireBytes('tryRead.bytes', bytes);
    const step = new CpuAccess(this.#platform, this, this.#address('tryRead.addr', addr, bytes.length), bytes, false);
    this.#runSync(step);
    return { status: step.outcome, bytes: step.done };
  }

  /** Writes and says how far it came, instead of throwing where there is no right to. */
  tryWrite(addr: number, bytes: Uint8Array): AccessResult {
    const step = this.writeStep(addr, bytes);
    this.#runSync(step);
    return { status: step.outcome, bytes: step.done };
  }

  // -------------------------------------------------------------------------------------------------------------- devices

  /** Brings a device into this address space: the context is the device's side of it. */
  attach<Context>(device: Attachable<Context>): Context {
    this.requireOpen('attach');
    if (typeof device?.attachTo !== 'function')
      throw fail('EINVAL', 'attach.device', device, 'is not a device of a machine (see machine.addDevice)');
    return device.attachTo(this);
  }

  // -------------------------------------------------------------------------------------------------------------- looking

  /** Where every page of a range is, one letter a page; see `dump.ts` for the letters. Without a range: every VMA, a line each. */
  dump(range?: AddressRange): string {
    this.requireOpen('dump');
    if (range) requireRange('dump.range', range);
    return dumpRange(this.#platform, this, range);
  }

  /** The entries of a range as they are: frame and ENTRY_* bits, two u32 a page. */
  snapshot(range: AddressRange): Uint32Array {
    const { start, end } = this.#pages('snapshot.range', range);
    return snapshotNative(this.#platform, this, start, end - start);
  }

  /** The same as `hmm_range_fault` answers without a request; `owner`: whose device-private pages count as readable (device.owner). */
  snapshotHmm(range: AddressRange, owner = 0): Uint32Array {
    const { start, end } = this.#pages('snapshotHmm.range', range);
    return snapshotHmm(this.#platform, this, start, end - start, owner);
  }

  /** The same as runs of pages with contiguous frames and the same rights; holes are left out. */
  snapshotExtents(range: AddressRange): Extent[] {
    const { start, end } = this.#pages('snapshotExtents.range', range);
    return snapshotExtents(this.#platform, this, start, end - start);
  }

  /**
   * Subscribes to a range: `ops` is called before any page of it changes. The returned notifier begins and checks sequences; end it with `unsubscribe`.
   * Models: `mmu_interval_notifier_insert`.
   */
  subscribe(range: AddressRange, ops: NotifierOps): IntervalNotifier {
    const { start, end } = this.#pages('subscribe.range', range);
    return this.notifiers.insert({ start, end }, ops);
  }

  /** Ends a subscription; no callback comes afterwards. Models: `mmu_interval_notifier_remove`. */
  unsubscribe(notifier: IntervalNotifier): void {
    this.#runSync(new RemoveNotifier(notifier));
  }

  /** Looked-up pages of the CPU's TLB. */
  get tlbCounts(): { readonly hit: number; readonly miss: number } {
    const { core } = this.#platform;
    return { hit: core.counter(this.tlb, L.TLB_HITS), miss: core.counter(this.tlb, L.TLB_MISSES) };
  }

  // -------------------------------------------------------------------------------------------------------------- steps

  /** The steps behind the verbs, for the simulator and for whoever schedules operations himself. */
  readStep(addr: number, bytes: number): CpuAccess {
    requireLength('read.bytes', bytes);
    return new CpuAccess(this.#platform, this, this.#address('read.addr', addr, bytes), new Uint8Array(bytes), false);
  }

  writeStep(addr: number, bytes: Uint8Array): CpuAccess {
    requireBytes('write.bytes', bytes);
    return new CpuAccess(this.#platform, this, this.#address('write.addr', addr, bytes.length), bytes, true);
  }

  unmapStep(range: AddressRange): TakeDown {
    const { start, end } = this.#pages('munmap.range', range);
    return new TakeDown(this.#platform, this, start, end, { verb: 'unmap' });
  }

  protectStep(range: AddressRange, prot: Prot): TakeDown {
    const { start, end } = this.#pages('mprotect.range', range);
    const bits = protBits('mprotect.prot', prot);
    this.#requireMapped('mprotect.range', range, start, end);
    return new TakeDown(this.#platform, this, start, end, { verb: 'protect', prot: bits });
  }

  adviseStep(range: AddressRange, advice: 'dontneed'): TakeDown {
    const { start, end } = this.#pages('madvise.range', range);
    if (advice !== 'dontneed') throw fail('EINVAL', 'madvise.advice', advice, "is not one of: 'dontneed'");
    this.#requireMapped('madvise.range', range, start, end);
    return new TakeDown(this.#platform, this, start, end, { verb: 'discard' });
  }

  // -------------------------------------------------------------------------------------------------------------- for steps and devices

  /** Tells every subscriber that a range is about to change. */
  announce(event: Invalidation): void {
    this.notifiers.invalidateStart(event);
    // A subscriber that throws does not stop what is announced; contexts have marked themselves failed already.
    for (const { error } of event.failures) this.#platform.stray.push(error);
  }

  /** The block of `pages` pages around a page, aligned to its length and clipped to the VMA. Requires: the page is in a VMA. */
  granule(vpn: number, pages: number): { start: number; end: number } {
    const vma = this.vmas.find(vpn) as Vma;
    const block = vpn - (vpn % pages);
    return { start: Math.max(block, vma.start), end: Math.min(block + pages, vma.end) };
  }

  /** Whether the VMA of a page allows writing. */
  writable(vpn: number): boolean {
    const vma = this.vmas.find(vpn);
    return vma !== undefined && (vma.prot & PROT_WRITE) !== 0;
  }

  /** Tells every subscriber that the space ends. */
  release(event: Invalidation): void {
    this.notifiers.release(event);
    for (const { error } of event.failures) this.#platform.stray.push(error);
  }

  /**
   * Ends the space: subscribers hear RELEASE, everything is unmapped, contexts are detached. Any later use is EBADF. Errors: EBUSY while a device flushes; the pages go by themselves when
   * it is done, and `close` has to be called again. Models: `exit_mmap`.
   */
  close(): void {
    if (!this.#open) return;
    // First the pages, so that those on devices need no room at home any more: a detach could fail for want of it.
    const exit = this.#exit();
    if (exit) this.#runSync(exit);
    for (const mirror of [...this.mirrors]) mirror.detach();
    this.#end();
  }

  /** The same, waiting for devices that flush asynchronously. */
  async closeAsync(): Promise<void> {
    if (!this.#open) return;
    const exit = this.#exit();
    if (exit) await this.#runAsync(exit);
    for (const mirror of [...this.mirrors]) await mirror.detachAsync();
    this.#end();
  }

  #exit(): TakeDown | undefined {
    if (this.#exiting) return undefined;
    this.#exiting = true;
    return new TakeDown(this.#platform, this, 0, ADDRESS_LIMIT / L.PAGE_BYTES, { verb: 'exit' });
  }

  #end(): void {
    this.#open = false;
    const { core } = this.#platform;
    core.exports.tlbDestroy(this.tlb);
    core.exports.tableDestroy(this.table);
    this.#platform.spaces.delete(this.id);
  }

  requireOpen(verb: string): void {
    this.#platform.requireOpen(verb);
    if (!this.#open) throw fail('EBADF', verb, 'address space', 'has been closed');
  }

  #runSync(step: Step): void {
    this.requireOpen(step.name);
    this.#platform.scheduler.runSync(step);
  }

  #runAsync(step: Step): Promise<void> {
    this.requireOpen(step.name);
    return this.#platform.scheduler.runAsync(step);
  }

  #address(argument: string, addr: number, bytes: number): number {
    this.requireOpen(argument);
    if (!Number.isSafeInteger(addr) || addr < 0 || addr >= ADDRESS_LIMIT)
      throw fail('EINVAL', argument, addr, 'is not a byte address below 2^48');
    if (addr + bytes > ADDRESS_LIMIT)
      throw fail('EOVERFLOW', argument, addr, `leaves the address space after 0x${bytes.toString(16)} bytes`);
    return addr;
  }

  #pages(argument: string, range: AddressRange): { start: number; end: number } {
    this.requireOpen(argument);
    requireRange(argument, range);
    return { start: range.start / L.PAGE_BYTES, end: range.end / L.PAGE_BYTES };
  }

  #requireMapped(argument: string, range: AddressRange, start: number, end: number): void {
    const next = this.vmas.covered(start, end);
    if (next < end) throw fail('EINVAL', `${argument}.start`, range.start, `has no mapping at 0x${(next * L.PAGE_BYTES).toString(16)}`);
  }

  #checked(step: CpuAccess, addr: number): Uint8Array {
    if (step.outcome === 'done') return step.bytes;
    throw accessError(step.name, addr + step.done, step.outcome);
  }
}

/** The error that an access throws at the address where it could not go on. */
export function accessError(verb: string, addr: number, outcome: Exclude<AccessOutcome, 'done'>): FarfaultError {
  switch (outcome) {
    case 'no mapping':
      return fail('EFAULT', `${verb}.addr`, addr, 'is not mapped');
    case 'permission':
      return fail('EFAULT', `${verb}.addr`, addr, `is mapped without the right to ${verb}`);
    case 'no memory':
      return fail('ENOMEM', `${verb}.addr`, addr, 'needs a page, and host memory is exhausted');
    case 'no progress':
      return fail('ETIME', `${verb}.addr`, addr, 'makes no progress: its page is served again and again, and taken away each time');
    case 'bus error':
      return fail('EIO', `${verb}.addr`, addr, 'has bytes that cannot be had: its page is pinned, on an external memory, or lost');
  }
}

function requireAligned(argument: string, addr: number): void {
  if (!Number.isSafeInteger(addr) || addr < 0 || addr >= ADDRESS_LIMIT)
    throw fail('EINVAL', argument, addr, 'is not a byte address below 2^48');
  if (addr % L.PAGE_BYTES !== 0) throw fail('EINVAL', argument, addr, 'is not page-aligned');
}

/** Throws unless `range` is a page-aligned, non-empty range of addresses. */
export function requireRange(argument: string, range: AddressRange): void {
  if (typeof range !== 'object' || range === null) throw fail('EINVAL', argument, range, 'is not a range { start, end }');
  requireAligned(`${argument}.start`, range.start);
  if (!Number.isSafeInteger(range.end) || range.end > ADDRESS_LIMIT)
    throw fail('EINVAL', `${argument}.end`, range.end, 'is not a byte address up to 2^48');
  if (range.end % L.PAGE_BYTES !== 0) throw fail('EINVAL', `${argument}.end`, range.end, 'is not page-aligned');
  if (range.end <= range.start) throw fail('EINVAL', `${argument}.end`, range.end, `is not above its start 0x${range.start.toString(16)}`);
}

/** Most bytes of one read: what a typed array can have everywhere. */
export const READ_BYTES_MAX: number = 2 ** 31 - 1;

/** Throws unless a read can have this length. */
export function requireLength(argument: string, bytes: number): void {
  if (!Number.isSafeInteger(bytes) || bytes < 0 || bytes > READ_BYTES_MAX)
    throw fail('EINVAL', argument, bytes, 'is not a length between 0 and 2^31 - 1');
}

function requireBytes(argument: string, bytes: unknown): void {
  if (!(bytes instanceof Uint8Array)) throw fail('EINVAL', argument, bytes, 'is not a Uint8Array');
}

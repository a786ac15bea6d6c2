/**
 * A memory map: the state of an address space, as steps and devices know it. VMAs say what was promised, the home table what is there now, interval notifiers tell the devices before it changes.
 *
 * Whoever changes VMAs holds the mmap lock for writing; whoever changes entries announces it first, and ends what he has announced.
 *
 * Models: `mm_struct`, `gm_as`.
 */
import * as L from '../../assembly/layout.ts';
import { fail } from '../errors.ts';
import { RwLock } from '../step/lock.ts';
import { method } from '../step/method.ts';
import { ADDRESS_LIMIT, type AddressRange, type NamesOf, requireCount } from './arguments.ts';
import { Arrivals } from './arrivals.ts';
import { HOME_TABLE_FORMAT, type SpaceMirror } from './attach.ts';
import { type AdvisedDevice, Attributes } from './attributes.ts';
import { DevicePins } from './device-pins.ts';
import { CpuFault } from './fault.ts';
import { type Invalidation, NotifierSet } from './notifier.ts';
import type { Platform } from './platform.ts';
import { hugetlbOrder, isHugetlb, PROT_WRITE, rightsOf, type Vma, VMA_DEVICE, VmaSet } from './vma.ts';

/** First address that `mmap` chooses by itself: 256 MiB. */
export const MMAP_BASE = 0x1000_0000;

/** Sets of the CPU's TLB, four ways each. */
export const CPU_TLB_SETS = 256;

/** Geometry of every home table: four levels of nine bits, leaves first. */
const HOME_GEOMETRY = [9, 9, 9, 9] as const;

/** What an address space is made with; all of it has defaults. */
export interface SpaceOptions {
  /** Whether a CPU uses it. Without one it is what devices have in common and nothing else: no `read`, no `write`. Default true. */
  readonly cpu?: boolean;
  /** Addresses that can be mapped. Default: all. Models: the `begin` and `end` of `gm_as_create`. */
  readonly range?: AddressRange;
}

export const SPACE_OPTIONS: NamesOf<SpaceOptions> = { cpu: true, range: true };

/** The memory map of one process; its verbs are those of `AddressSpace`. */
export class MemoryMap {
  /** Index of its home table: names the space in events and in the reverse map. */
  readonly id: number;
  /** Descriptor address of the home table, for steps and device code; not for programs. */
  readonly table: number;
  /** The CPU's TLB slot; 0 without a CPU. */
  readonly tlb: number;
  readonly vmas: VmaSet = new VmaSet();
  readonly notifiers: NotifierSet;
  readonly mmapLock: RwLock;
  /** Pages pinned to devices. */
  readonly devicePins: DevicePins;
  /** Holes that devices fill just now. */
  readonly arrivals: Arrivals;
  /** What is advised for its pages. */
  readonly attributes: Attributes;
  /** Page numbers that can be mapped: from `first` to before `last`. */
  readonly first: number;
  readonly last: number;
  /** Attached contexts, oldest first. */
  readonly mirrors: SpaceMirror[] = [];
  protected readonly platform: Platform;
  protected open = true;
  /** It has begun to end: nothing new comes to be in it. */
  protected exiting = false;
  /** Its memory has been taken: nothing comes back. */
  private dying = false;
  /** Pages of the host that it may have; 0: no limit. */
  private hostFramesMax = 0;
  /** The step of the last CPU fault that an access needed, for the next one. */
  private spareFault: CpuFault | undefined = undefined;
  /** What `granule` lends. */
  private readonly block = { start: 0, end: 0 };

  constructor(platform: Platform, { cpu = true, range }: SpaceOptions = {}) {
    this.platform = platform;
    const { core } = platform;
    this.first = range ? range.start / L.PAGE_BYTES : 0;
    this.last = range ? range.end / L.PAGE_BYTES : ADDRESS_LIMIT / L.PAGE_BYTES;
    this.table = core.tableCreate(HOME_GEOMETRY, true);
    if (this.table === 0) throw fail('ENOMEM', 'address spaces', platform.spaces.size, 'is all that the machine has tables for');
    this.tlb = cpu ? core.tlbCreate(this.table, CPU_TLB_SETS) : 0;
    if (cpu && this.tlb === 0) {
      core.exports.tableDestroy(this.table);
      throw fail('ENOMEM', 'address spaces', platform.spaces.size, 'is all that the machine has TLBs for');
    }
    core.setField(this.table, L.TABLE_TLB, this.tlb);
    this.id = core.field(this.table, L.TABLE_INDEX);
    this.mmapLock = new RwLock('mmap', this.id);
    this.attributes = new Attributes(platform, this);
    this.devicePins = new DevicePins(platform, this);
    this.arrivals = new Arrivals(this.id);
    this.notifiers = new NotifierSet({ label: `space ${this.id}`, warn: method(platform, 'warn') });
  }

  // -------------------------------------------------------------------------------------------------------------- limits

  /**
   * Most bytes of host memory that this space may pay for. A fault that would take it over the limit sends pages of its own to the second tier first; without one, or when nothing of it may go, there is no memory for the access,
   * as when the host is full. Not limited is what has to go somewhere: what devices evict or give back, what fork and a huge page at a time bring; and pages of files and hugetlb pages, which no space pays for by
   * itself. What is there already stays. Undefined: no limit. Errors: EINVAL for bytes that are not a positive multiple of 4096. Models: `memory.max` of a cgroup.
   */
  limit(bytes: number | undefined): void {
    this.requireOpen('limit');
    this.platform.requireIdle('limit');
    if (bytes !== undefined && (!Number.isSafeInteger(bytes) || bytes <= 0 || bytes % L.PAGE_BYTES !== 0))
      throw fail('EINVAL', 'limit.bytes', bytes, 'is not a positive multiple of 4096');
    this.hostFramesMax = (bytes ?? 0) / L.PAGE_BYTES;
  }

  /** Bytes of every node that this space pays for, by the node's name. */
  get charged(): Readonly<Record<string, number>> {
    this.platform.requireOpen('charged');
    const charged: Record<string, number> = {};
    for (const { name, index } of this.platform.nodes.list.slice(1)) charged[name] = this.chargedOn(index) * L.PAGE_BYTES;
    return charged;
  }

  /** @internal Pages of a node that it pays for. */
  chargedOn(node: number): number {
    const { core } = this.platform;
    return core.u32[(core.plan.chargesAt >>> 2) + this.id * L.NODES_MAX + node]!;
  }

  /** @internal Whether it has a limit. */
  get isLimited(): boolean {
    return this.hostFramesMax > 0;
  }

  /** @internal Pages of the host that it may still have; Infinity: as many as there are. */
  get hostRoom(): number {
    return this.hostFramesMax === 0 ? Infinity : Math.max(0, this.hostFramesMax - this.chargedOn(this.platform.host.index));
  }

  // ---------------------------------------------------------------------------------------------------------- what it is

  /** Whether a CPU uses it. */
  get hasCpu(): boolean {
    return this.tlb !== 0;
  }

  /** @internal Page from which on free room is looked for. */
  get base(): number {
    return this.first > 0 || this.last <= MMAP_BASE / L.PAGE_BYTES ? this.first : MMAP_BASE / L.PAGE_BYTES;
  }

  /** Whether pages of this space may be on a node: the host, and the memories of attached devices. Errors: EINVAL. Models: `is_hnode_allowed`, `mems_allowed`. */
  allows(node: number): boolean {
    this.requireOpen('allows');
    requireCount('allows.node', node, 0, 2 ** 31);
    const { owner } = this.platform.nodes.list.find(({ index }) => index === node) ?? { owner: -1 };
    return owner === 0 || this.mirrors.some((mirror) => mirror.owner === owner);
  }

  /** The format of the home table: which devices can share it. */
  get tableFormat(): string {
    return HOME_TABLE_FORMAT;
  }

  /** Looked-up pages of the CPU's TLB. */
  get tlbCounts(): { readonly hit: number; readonly miss: number } {
    this.platform.requireOpen('tlbCounts');
    const { core } = this.platform;
    if (!this.hasCpu) return { hit: 0, miss: 0 };
    return { hit: core.counter(this.tlb, L.TLB_HITS), miss: core.counter(this.tlb, L.TLB_MISSES) };
  }

  /** @internal Whether it serves: neither closed nor reaped. */
  get isOpen(): boolean {
    return !this.exiting && !this.dying && this.platform.open;
  }

  /** Whether its memory has been taken because the machine had none left. */
  get isReaped(): boolean {
    return this.dying;
  }

  /** RIGHT_* bits of the VMA of a page, 0 without one. */
  rights(vpn: number): number {
    const vma = this.vmas.find(vpn);
    return vma ? rightsOf(vma) : 0;
  }

  /** Whether the VMA of a page allows writing. */
  writable(vpn: number): boolean {
    const vma = this.vmas.find(vpn);
    return vma !== undefined && (vma.prot & PROT_WRITE) !== 0;
  }

  /** The block of `pages` pages around a page, aligned to its length and clipped to the VMA. Lent until it is asked again. Requires: the page is in a VMA. */
  granule(vpn: number, pages: number): { readonly start: number; readonly end: number } {
    const vma = this.vmas.find(vpn) as Vma;
    const { block } = this;
    const first = vpn - (vpn % pages);
    block.start = Math.max(first, vma.start);
    block.end = Math.min(first + pages, vma.end);
    return block;
  }

  /** The context of the device with this number. */
  mirrorOf(owner: number): SpaceMirror | undefined {
    for (const each of this.mirrors) if (each.device.owner === owner) return each;
    return undefined;
  }

  /** @internal Where the node with this number is: with a device, or the host. */
  placeOf(node: number): AdvisedDevice | 'host' | undefined {
    if (node === this.platform.host.index) return 'host';
    return this.platform.memories.get(node)?.device;
  }

  // ----------------------------------------------------------------------------------------------- for steps and devices

  /** Tells every subscriber that a range is about to change. */
  announce(event: Invalidation): void {
    this.notifiers.invalidateStart(event);
    // A subscriber that throws does not stop what is announced; contexts have marked themselves failed already.
    for (const { error } of event.failures) this.platform.stray.push(error);
  }

  /** Tells every subscriber that the space ends. */
  release(event: Invalidation): void {
    this.notifiers.release(event);
    for (const { error } of event.failures) this.platform.stray.push(error);
  }

  /** @internal Tells who follows the table that the CPU has got entries of these pages, or more rights to them. */
  installed(vpn: number, pages: number): void {
    for (const each of this.notifiers.followers) each.installed(vpn, pages);
  }

  /** @internal Its memory is being taken because the machine has none left: whatever is under way ends, and nothing begins. */
  beginReaping(): void {
    this.dying = true;
  }

  /** @internal A step for the faults of one access, to be given back when the access has ended. */
  takeFault(): CpuFault {
    const fault = this.spareFault ?? new CpuFault(this.platform);
    this.spareFault = undefined;
    return fault;
  }

  /** @internal Requires: the step has ended. */
  giveFault(fault: CpuFault): void {
    this.spareFault = fault;
  }

  // ------------------------------------------------------------------------------------------------ what a verb requires

  requireOpen(verb: string): void {
    this.platform.requireOpen(verb);
    // What came to be after the pages have gone, nobody would take away any more.
    if (this.exiting) throw fail('EBADF', verb, 'address space', 'has been closed');
    this.requireUnreaped(verb);
  }

  /** @internal Throws EBADF once its memory has been taken. */
  requireUnreaped(verb: string): void {
    if (this.dying) throw fail('EBADF', verb, 'address space', 'has been reaped: it can only be closed');
  }

  protected requireCpu(verb: string): void {
    if (!this.hasCpu) throw fail('EOPNOTSUPP', verb, `space ${this.id}`, 'has no CPU: only devices use it');
  }

  /**
   * Throws EINVAL unless a range is mapped from end to end, if it has to be, and cuts no huge page that is never split. Asked before a step is made, and by the step when it has the mmap lock: while it
   * waited, another may have been quicker.
   */
  requireChangeable(argument: string, start: number, end: number, mapped: boolean): void {
    if (mapped) this.requireMapped(argument, start, end);
    this.requireWholeHugePages(argument, start, end);
  }

  /** Throws EINVAL unless a range is mapped from end to end. */
  protected requireMapped(argument: string, start: number, end: number): void {
    const next = this.vmas.covered(start, end);
    if (next < end)
      throw fail('EINVAL', `${argument}.start`, start * L.PAGE_BYTES, `has no mapping at 0x${(next * L.PAGE_BYTES).toString(16)}`);
  }

  /** Throws EINVAL for a range that cuts a huge page that is never split. */
  private requireWholeHugePages(argument: string, start: number, end: number): void {
    this.vmas.each(start, end, (vma, from, to) => {
      if (vma.flags & VMA_DEVICE) throw fail('EINVAL', `${argument}.start`, from * L.PAGE_BYTES, 'is a private range of a device');
      if (!isHugetlb(vma)) return;
      const pages = 2 ** hugetlbOrder(vma);
      if (from % pages !== 0) throw fail('EINVAL', `${argument}.start`, from * L.PAGE_BYTES, 'cuts a huge page that is never split');
      if (to % pages !== 0) throw fail('EINVAL', `${argument}.end`, to * L.PAGE_BYTES, 'cuts a huge page that is never split');
    });
  }
}

/**
 * The HMM dialect: what a driver in control of everything is built from, in the words that Linux drivers use. A framework driver needs none of it; a driver
 * with a control interface of its own (`command`) calls these from its steps.
 *
 * ```
 *   Linux                                   here
 *   mmu_interval_notifier_insert, _remove   subscribe, unsubscribe (the context has one over the whole space already)
 *   hmm_range_fault and its retry loop      rangeFault: begin, look, take the driver lock, retry, install
 *   migrate_vma_setup, _pages, _finalize    migrate, with hooks where a driver does its part
 *   migrate_device_range, _pfns             migrateFrames
 *   make_device_exclusive                   makeExclusive
 *   alloc_page, folio_alloc, put_page       hostFrame, takeFrame, putFrame
 *   kmap_local_page                         readFrame, writeFrame
 *   sg_copy_to_buffer, sg_copy_from_buffer  readFrames, writeFrames
 *   hmm_dma_map_alloc, _map_pfn, _unmap     dmaMap
 * ```
 *
 * Steps that look at the table of the space need its mmap lock, shared: `if (!hmm.mmapLock.tryAcquireShared(run)) return run.waitFor(hmm.mmapLock)`.
 * `rangeFault` takes it by itself. Events that this device causes (MIGRATE, EXCLUSIVE with its owner) do not reach its `pmap.release`: what a
 * migration takes away is released exactly, page by page, when it has been collected. But `rangeFault` begins again for them as for all others.
 */
import * as L from '../../assembly/layout.ts';
import { fail } from '../errors.ts';
import { MIGRATING, type MigrationCause } from '../events/cause.ts';
import {
  type NamesOf,
  requireArray,
  requireBoolean,
  requireBytes,
  requireCount,
  requireFunction,
  requireObject,
  requireOptions,
  requirePages,
  VPN_LIMIT,
} from '../mm/arguments.ts';
import { DmaMap } from '../mm/dma.ts';
import { EXCLUSIVE_OPTIONS, type ExclusiveOptions, type InstallExclusive, MakeExclusive } from '../mm/exclusive.ts';
import { Migration } from '../mm/migration.ts';
import type { Install } from '../mm/migration-install.ts';
import type { Node } from '../mm/node.ts';
import { IntervalNotifier, type NotifierOps, RemoveNotifier } from '../mm/notifier.ts';
import type { Platform } from '../mm/platform.ts';
import { type InstallAnswer, MirrorRange } from '../mm/range-fault.ts';
import { snapshotHmm } from '../mm/snapshot.ts';
import type { RwLock } from '../step/lock.ts';
import { method } from '../step/method.ts';
import type { Context } from './context.ts';
import type { OwnMemory } from './own-memory.ts';

/** Selector of a migration: pages of the host. Selectors are added; holes of anonymous memory are offered whatever they say. */
export const SELECT_SYSTEM: number = L.SELECT_SYSTEM;
/** Pages in private memories of the owner. */
export const SELECT_PRIVATE: number = L.SELECT_PRIVATE;
/** Pages in coherent memories of the owner. */
export const SELECT_COHERENT: number = L.SELECT_COHERENT;
/** Huge pages as one word. Without it they are split first. */
export const SELECT_COMPOUND: number = L.SELECT_COMPOUND;

/** Bit of the high word of a migration: the low word is a frame. */
export const MIGRATE_VALID: number = L.MIGRATE_VALID;
/** The page is to move, and in the end: has moved. Without MIGRATE_VALID it is a hole, whose target is cleared. */
export const MIGRATE_MOVE: number = L.MIGRATE_MOVE;
/** The entry that the page had allowed writes. */
export const MIGRATE_WRITE: number = L.MIGRATE_WRITE;
/** The word stands for 512 pages; those behind it are 0. */
export const MIGRATE_COMPOUND: number = L.MIGRATE_COMPOUND;

/** What a range fault looks at and asks for. */
export interface HmmRequest {
  /** First page. */
  readonly vpn: number;
  /** 1 to 8192. */
  readonly pages: number;
  /** What every page asks for, or a function of page `i`: 0 (look only), HMM_VALID, HMM_VALID + HMM_WRITE. Default: look only. */
  readonly request?: number | ((page: number) => number);
  /** Must cover the range. Default: the context's own, over the whole space. */
  readonly notifier?: IntervalNotifier;
  /** Whose device-private pages count as readable. Default: this device's. */
  readonly owner?: number;
}

/** A migration in the driver's hands. */
export interface HmmPlan {
  /** SELECT_* bits. Not looked at by `migrateFrames`. */
  readonly select?: number;
  /** Whose device pages the selectors mean, and the owner of the MIGRATE event. Default: this device. */
  readonly owner?: number;
  /** For the counters. Default `user`. */
  readonly cause?: MigrationCause;
  /**
   * Called once, when pages are collected and flushed. Looks at `migration.source` (two u32 a page) and gives targets with `migration.aim(page, frame)`: frames
   * with one reference, which goes over. Pages without a target stay where they are.
   */
  readonly allocate: (migration: Migration) => void;
  /**
   * Between commit and finalize, the source frames locked; not called while somebody else is about to change pages of the space, the device's fault finds them then. Default: the device's translations of
   * what moved to its memories are entered into its table.
   */
  readonly install?: Install;
}

/** Where a frame is, seen from one device. */
export interface FrameDescription {
  readonly owner: 'host' | 'own' | 'foreign';
  readonly kind: 'host' | 'private' | 'coherent';
  /** The page of zeros, the huge one too. */
  readonly zero: boolean;
  /** Which of this device's memories; undefined when it is in none. */
  readonly memory: OwnMemory | undefined;
}

/** Order of the mapping that an HMM word speaks of: 0, 9 or 18. `high`: its high word. */
export function hmmOrder(high: number): number {
  requireCount('hmmOrder.high', high, 0, 2 ** 32 - 1);
  return (high >>> L.HMM_ORDER_SHIFT) & 0x1f;
}

const MAKE_EXCLUSIVE_OPTIONS: NamesOf<ExclusiveOptions & { readonly owner?: number }> = { owner: true, ...EXCLUSIVE_OPTIONS };

/** A plan's own install, which is not called while somebody else is about to change pages of the space. */
export class InstallUnlessInvalidated {
  private readonly context: Context;
  private readonly then: Install;

  constructor(context: Context, then: Install) {
    this.context = context;
    this.then = then;
  }

  install(...moved: Parameters<Install>): void {
    if (!this.context.isInvalidating) this.then(...moved);
  }
}

/** The HMM dialect of one context: `context.hmm`. */
export class Hmm {
  private readonly platform: Platform;
  private readonly context: Context;
  /** The node that was described last, and what was said. */
  private node: Node | undefined;
  private description: FrameDescription | undefined;

  constructor(platform: Platform, context: Context) {
    this.platform = platform;
    this.context = context;
  }

  /** The mmap lock of the space: shared to look and migrate. */
  get mmapLock(): RwLock {
    return this.context.space.mmapLock;
  }

  /**
   * A step that looks at a range, faults in what is asked for, and calls `install` with the words (two u32 a page: frame and HMM_* bits) while the driver lock is held and
   * they are still true; it begins again until they are. `step.outcome` says how that ended, `step.retries` how often it began again. `spare`: such a step of this machine that
   * has ended, to be used again. Models: `hmm_range_fault`.
   */
  rangeFault(request: HmmRequest, install: InstallAnswer, spare?: MirrorRange): MirrorRange {
    const { space, device, lock } = this.context;
    this.platform.requireOpen('rangeFault');
    requireObject('rangeFault.request', request, 'an object');
    const { vpn, pages, request: bits = 0, notifier = this.context.notifier, owner = device.owner } = request;
    requirePages('rangeFault', vpn, pages, L.WORDS_MAX);
    this.requireNotifier('rangeFault.notifier', notifier);
    requireOwner('rangeFault.owner', owner);
    if (typeof bits !== 'function') requireCount('rangeFault.request', bits, 0, 2 ** 32 - 1);
    requireFunction('rangeFault.install', install);
    this.requireSpare('rangeFault', spare, MirrorRange);
    const asked = spare?.asked ?? { notifier, vpn, pages, request: bits, owner };
    asked.notifier = notifier;
    asked.vpn = vpn;
    asked.pages = pages;
    asked.request = bits;
    asked.owner = owner;
    return (spare ?? new MirrorRange(this.platform)).of(space, asked, lock, install);
  }

  /** HMM words of a range as they are now, nothing faulted in: two u32 a page. They may be wrong after the next step of anybody; `rangeFault` installs what is true. */
  snapshot(vpn: number, pages: number): Uint32Array {
    const { space, device } = this.context;
    this.platform.requireOpen('snapshot');
    requirePages('snapshot', vpn, pages, SNAPSHOT_PAGES_MAX);
    return snapshotHmm(this.platform, space, vpn, pages, device.owner);
  }

  /**
   * Bus addresses for `entries` words of a range fault, through this device's IOMMU (`device.iommu`). Throws EOPNOTSUPP when the driver says that its device needs bounce buffers or
   * synchronisation. Models: `hmm_dma_map_alloc`.
   */
  dmaMap(entries: number): DmaMap {
    const { device } = this.context;
    this.platform.requireOpen('dmaMap');
    return new DmaMap(this.platform, { ...device.driver.dma, name: device.name, owner: device.owner }, entries, device.iommu);
  }

  /** Where the frame of an HMM or migration word is. */
  describe(frame: number): FrameDescription {
    const { nodes } = this.platform;
    this.requireFrame('describe', frame);
    const node = nodes.of(frame);
    if (this.node !== node || !this.description) {
      this.node = node;
      this.description = this.descriptionOf(node);
    }
    return this.description;
  }

  private descriptionOf(node: Node): FrameDescription {
    const { device } = this.context;
    return {
      owner: node.owner === 0 ? 'host' : node.owner === device.owner ? 'own' : 'foreign',
      kind: node.kind === 'tier' ? 'host' : node.kind,
      // They stand on a node of their own.
      zero: node === this.platform.nodes.list[0],
      memory: device.memories.find((memory) => memory.node === node),
    };
  }

  /**
   * A step that moves pages of `[vpn, vpn + pages)`, one VMA at most; `plan` says which and where to. Its results: `moved`, `refused`, `source`, `verdict(vpn)`.
   * Requires: the mmap lock, held by the caller to the end. Throws EINVAL as `migrate_vma_setup` does: no VMA, hugetlb or special memory, a range that leaves the VMA.
   * `spare`: such a step of this machine that has ended, to be used again.
   */
  migrate(vpn: number, pages: number, plan: HmmPlan, spare?: Migration): Migration {
    const { space, device } = this.context;
    this.platform.requireOpen('migrate');
    requirePages('migrate', vpn, pages, L.WORDS_MAX);
    requirePlan('migrate', plan);
    this.requireSpare('migrate', spare, Migration);
    const install = plan.install ?? this.context.install;
    return (spare ?? new Migration(this.platform)).vma(space, vpn, pages, {
      select: plan.select ?? 0,
      owner: plan.owner ?? device.owner,
      device,
      cause: plan.cause ?? 'user',
      allocate: plan.allocate,
      install: method(new InstallUnlessInvalidated(this.context, install), 'install'),
    });
  }

  /** The same by frames of this device's memories, whoever maps them; one word for each listed frame. There is no VMA, so nothing is installed. `spare`: as for `migrate`. Models: `migrate_device_pfns`. */
  migrateFrames(frames: readonly number[], plan: HmmPlan, spare?: Migration): Migration {
    const { device } = this.context;
    this.platform.requireOpen('migrateFrames');
    requireArray('migrateFrames.frames', frames);
    for (let i = 0; i < frames.length; i++) this.requireFrame('migrateFrames', frames[i]!);
    requirePlan('migrateFrames', plan);
    this.requireSpare('migrateFrames', spare, Migration);
    return (spare ?? new Migration(this.platform)).frames(frames, {
      select: 0,
      owner: plan.owner ?? device.owner,
      device,
      cause: plan.cause ?? 'evict',
      allocate: plan.allocate,
    });
  }

  /**
   * A step that makes one page exclusive to this device; `install` is called with its frame while it is locked: what the device does in there nobody can come between. The step's
   * `outcome` says how it ended. Takes the mmap lock unless the caller holds it. `owner`: of the EXCLUSIVE event; 0: this device's own translations are released as well.
   * Default: this device, whose translation `install` replaces. `spare`: such a step of this machine that has ended, to be used again. Models: `make_device_exclusive`.
   */
  makeExclusive(
    vpn: number,
    options: ExclusiveOptions & { readonly owner?: number },
    install: InstallExclusive,
    spare?: MakeExclusive,
  ): MakeExclusive {
    const { space, device } = this.context;
    this.platform.requireOpen('makeExclusive');
    requirePages('makeExclusive', vpn, 1, 1);
    requireOptions('makeExclusive', options, MAKE_EXCLUSIVE_OPTIONS);
    if (options.owner !== undefined) requireOwner('makeExclusive.owner', options.owner);
    if (options.cpuReads !== undefined) requireBoolean('makeExclusive.cpuReads', options.cpuReads);
    requireFunction('makeExclusive.install', install);
    this.requireSpare('makeExclusive', spare, MakeExclusive);
    if (this.context.mode === 'share')
      throw fail('EOPNOTSUPP', 'makeExclusive', this.context.name, 'shares the table of the CPU: what the CPU cannot reach, it cannot');
    return (spare ?? new MakeExclusive(this.platform)).of(space, vpn, options.owner ?? device.owner, options, install);
  }

  /** Subscribes to pages of the space. End it with the step of `unsubscribe`. */
  subscribe(vpn: number, pages: number, ops: NotifierOps): IntervalNotifier {
    this.platform.requireOpen('subscribe');
    requirePages('subscribe', vpn, pages, VPN_LIMIT);
    return this.context.space.notifiers.insert({ start: vpn, end: vpn + pages }, ops);
  }

  /** A step: a running invalidation has to end first. */
  unsubscribe(notifier: IntervalNotifier): RemoveNotifier {
    this.platform.requireOpen('unsubscribe');
    this.requireNotifier('unsubscribe.notifier', notifier);
    return new RemoveNotifier(notifier);
  }

  /** A frame of 2^order pages of one of this device's memories with one reference and stale bytes, or -1, also where the device chooses the page when it is brought. Order 0 or 9. */
  takeFrame(memory: OwnMemory, order = 0): number {
    this.platform.requireOpen('takeFrame');
    requireOrder('takeFrame.order', order);
    if (!this.context.device.memories.includes(memory))
      throw fail('EINVAL', 'takeFrame.memory', memory, `is not a memory of ${this.context.name}`);
    return Math.max(L.FRAME_NONE, memory.takeFrame(order));
  }

  /** A frame of the host's memory with one reference and stale bytes, or -1. Order 0 or 9. */
  hostFrame(order = 0): number {
    this.platform.requireOpen('hostFrame');
    requireOrder('hostFrame.order', order);
    return this.platform.host.take(order);
  }

  /** Gives a reference up. Throws EINVAL for a frame without one that is a driver's to give: mappings, pins and the page cache have theirs. */
  putFrame(frame: number): void {
    // Steps that are aborted because the machine is closed give back what they have.
    if (this.platform.scheduler.isQuiet) this.platform.requireOpen('putFrame');
    if (!this.platform.nodes.has(frame) || !this.isHeld(frame))
      throw fail('EINVAL', 'putFrame.frame', frame, 'is not a frame to which there is a reference');
    this.platform.core.exports.framePut(frame);
    this.platform.settleFreed();
  }

  /** Whether there are more references to a frame than its mappings, its pins, a cache and an operation that has locked it have. A pin of a huge page is counted on the page. */
  private isHeld(frame: number): boolean {
    const { core } = this.platform;
    const record = core.frameRecord(frame);
    const flags = core.field(record, L.FRAME_FLAGS);
    if ((flags & L.FRAME_STATE) !== L.STATE_USED || flags & L.FRAME_REPLICA) return false;
    const maps = core.field(record, L.FRAME_MAPS);
    const others = (maps & L.MAPS_MASK) + (maps >>> L.MAPS_BITS) + (flags & L.FRAME_CACHED ? 1 : 0) + (flags & L.FRAME_LOCKED ? 1 : 0);
    return core.field(record, L.FRAME_REFS) > others;
  }

  /** Reads bytes of a frame into `into`. Throws EIO when they are not in the machine's memory. */
  readFrame(frame: number, offset: number, into: Uint8Array): void {
    requireBytes('readFrame.into', into);
    const at = this.bytesOf('readFrame', frame, offset, into.length);
    into.set(this.platform.core.u8.subarray(at, at + into.length));
  }

  /** Writes bytes into a frame. */
  writeFrame(frame: number, offset: number, bytes: Uint8Array): void {
    requireBytes('writeFrame.bytes', bytes);
    this.platform.core.u8.set(bytes, this.bytesOf('writeFrame', frame, offset, bytes.length));
  }

  /** Reads bytes from several frames, one behind the other: from byte `offset` of the first on. Errors as `readFrame`; nothing is read then. Models: `sg_copy_to_buffer`. */
  readFrames(frames: Uint32Array, offset: number, into: Uint8Array): void {
    requireBytes('readFrames.into', into);
    this.requireFrames('readFrames', frames, offset, into.length);
    const { core } = this.platform;
    const { bytesArea, u8 } = core;
    for (let done = 0; done < into.length;) {
      const room = bytesArea.room(done, into.length, offset + done);
      for (let filled = 0; filled < room;) {
        const from = offset + done + filled;
        const length = Math.min(room - filled, L.PAGE_BYTES - (from % L.PAGE_BYTES));
        const at = core.frameBytes(frames[Math.floor(from / L.PAGE_BYTES)]!) + (from % L.PAGE_BYTES);
        u8.copyWithin(bytesArea.address + filled, at, at + length);
        filled += length;
      }
      bytesArea.take(into, done, room);
      done += room;
    }
  }

  /** Writes bytes into several frames, in the same way. Models: `sg_copy_from_buffer`. */
  writeFrames(frames: Uint32Array, offset: number, bytes: Uint8Array): void {
    requireBytes('writeFrames.bytes', bytes);
    this.requireFrames('writeFrames', frames, offset, bytes.length);
    const { core } = this.platform;
    const { bytesArea, u8 } = core;
    for (let done = 0; done < bytes.length;) {
      const put = bytesArea.put(bytes, done);
      for (let used = 0; used < put;) {
        const to = offset + done + used;
        const length = Math.min(put - used, L.PAGE_BYTES - (to % L.PAGE_BYTES));
        const at = core.frameBytes(frames[Math.floor(to / L.PAGE_BYTES)]!) + (to % L.PAGE_BYTES);
        u8.copyWithin(at, bytesArea.address + used, bytesArea.address + used + length);
        used += length;
      }
      done += put;
    }
  }

  private requireFrames(verb: string, frames: Uint32Array, offset: number, length: number): void {
    if (!(frames instanceof Uint32Array)) throw fail('EINVAL', `${verb}.frames`, frames, 'is not a Uint32Array');
    if (!Number.isInteger(offset) || offset < 0 || offset + length > frames.length * L.PAGE_BYTES)
      throw fail('EINVAL', `${verb}.offset`, offset, `begins ${length} bytes that are not of ${frames.length} pages`);
    this.platform.requireOpen(verb);
    for (let i = 0; i < frames.length; i++) this.bytesOf(verb, frames[i]!, 0, 0);
  }

  private requireSpare(
    verb: string,
    spare: { readonly platform: Platform } | undefined,
    kind: typeof MirrorRange | typeof Migration | typeof MakeExclusive,
  ): void {
    if (spare !== undefined && !(spare instanceof kind && spare.platform === this.platform))
      throw fail('EINVAL', `${verb}.spare`, spare, 'is no such step of this machine');
  }

  private bytesOf(verb: string, frame: number, offset: number, length: number): number {
    this.requireFrame(verb, frame);
    if (!Number.isInteger(offset) || offset < 0 || offset + length > L.PAGE_BYTES)
      throw fail('EINVAL', `${verb}.offset`, offset, `begins ${length} bytes that are not of one page`);
    const at = this.platform.core.frameBytes(frame);
    if (at === 0) throw fail('EIO', `${verb}.frame`, frame, 'has no bytes in the memory of this machine');
    return at + offset;
  }

  private requireFrame(verb: string, frame: number): void {
    this.platform.requireOpen(verb);
    if (!this.platform.nodes.has(frame)) throw fail('EINVAL', `${verb}.frame`, frame, 'is not a frame of this machine');
  }

  private requireNotifier(argument: string, notifier: IntervalNotifier): void {
    if (!(notifier instanceof IntervalNotifier) || notifier.set !== this.context.space.notifiers)
      throw fail('EINVAL', argument, notifier, 'is not a notifier of this address space');
  }
}

/** Most pages of one snapshot: what a typed array can have everywhere, two words a page. */
const SNAPSHOT_PAGES_MAX = 2 ** 28;

/** Throws unless it is nobody (0), or can be a device. */
function requireOwner(argument: string, owner: number): void {
  requireCount(argument, owner, 0, 2 ** 31);
}

function requirePlan(verb: string, plan: HmmPlan): void {
  requireObject(`${verb}.plan`, plan, 'an object');
  if (plan.select !== undefined) requireCount(`${verb}.select`, plan.select, 0, 2 ** 31 - 1);
  if (plan.owner !== undefined) requireOwner(`${verb}.owner`, plan.owner);
  if (plan.cause !== undefined && (typeof plan.cause !== 'string' || !Object.hasOwn(MIGRATING, plan.cause)))
    throw fail('EINVAL', `${verb}.cause`, plan.cause, `is not one of: ${Object.keys(MIGRATING).join(', ')}`);
  requireFunction(`${verb}.allocate`, plan.allocate);
  if (plan.install !== undefined) requireFunction(`${verb}.install`, plan.install);
}

function requireOrder(argument: string, order: number): void {
  if (order !== 0 && order !== L.HUGE_ORDER) throw fail('EINVAL', argument, order, `is not 0 or ${L.HUGE_ORDER}`);
}

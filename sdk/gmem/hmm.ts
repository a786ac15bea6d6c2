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
 *   hmm_dma_map_alloc, _map_pfn, _unmap     dmaMap
 * ```
 *
 * Steps that look at the table of the space need its mmap lock, shared: `if (!hmm.mmapLock.tryAcquireShared(run)) return run.waitFor(hmm.mmapLock)`.
 * `rangeFault` takes it by itself. Events that this device causes (MIGRATE, EXCLUSIVE with its owner) do not reach its `pmap.release`: what a
 * migration takes away is released exactly, page by page, when it has been collected. But `rangeFault` begins again for them as for all others.
 */
import * as L from '../../assembly/layout.ts';
import { fail } from '../errors.ts';
import type { MigrationCause } from '../events.ts';
import { DmaMap } from '../mm/dma.ts';
import { type ExclusiveOptions, type InstallExclusive, MakeExclusive } from '../mm/exclusive.ts';
import { type Install, Migration } from '../mm/migration.ts';
import { type IntervalNotifier, type NotifierOps, RemoveNotifier } from '../mm/notifier.ts';
import type { Platform } from '../mm/platform.ts';
import { type InstallAnswer, MirrorRange } from '../mm/range-fault.ts';
import { snapshotHmm } from '../mm/snapshot.ts';
import type { RwLock } from '../step/lock.ts';
import { method } from '../step/method.ts';
import type { Context } from './context.ts';
import type { OwnMemory } from './device.ts';

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
   * Between commit and finalize, both frames locked; not called while somebody else is about to change pages of the space, the device's fault finds them then. Default: the device's translations of
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
  return (high >>> L.HMM_ORDER_SHIFT) & 0x1f;
}

/** A plan's own install, which is not called while somebody else is about to change pages of the space. */
class InstallUnlessInvalidated {
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
   * they are still true; it begins again until they are. `step.outcome` says how that ended, `step.retries` how often it began again. Models: `hmm_range_fault`.
   */
  rangeFault(request: HmmRequest, install: InstallAnswer): MirrorRange {
    const { space, notifier, device, lock } = this.context;
    const asked = {
      notifier: request.notifier ?? notifier,
      vpn: request.vpn,
      pages: request.pages,
      request: request.request ?? 0,
      owner: request.owner ?? device.owner,
    };
    return new MirrorRange(this.platform).of(space, asked, lock, install);
  }

  /** HMM words of a range as they are now, nothing faulted in: two u32 a page. They may be wrong after the next step of anybody; `rangeFault` installs what is true. */
  snapshot(vpn: number, pages: number): Uint32Array {
    const { space, device } = this.context;
    return snapshotHmm(this.platform, space, vpn, pages, device.owner);
  }

  /**
   * Bus addresses for `entries` words of a range fault, through this device's IOMMU (`device.iommu`). Throws EOPNOTSUPP when the driver says that its device needs bounce buffers or
   * synchronisation. Models: `hmm_dma_map_alloc`.
   */
  dmaMap(entries: number): DmaMap {
    const { device } = this.context;
    return new DmaMap(this.platform, { ...device.driver.dma, name: device.name, owner: device.owner }, entries, device.iommu);
  }

  /** Where the frame of an HMM or migration word is. */
  describe(frame: number): FrameDescription {
    const { nodes } = this.platform;
    const node = nodes.of(frame);
    const { device } = this.context;
    return {
      owner: node.owner === 0 ? 'host' : node.owner === device.owner ? 'own' : 'foreign',
      kind: node.kind,
      // They stand on a node of their own.
      zero: node === nodes.list[0],
      memory: device.memories.find((memory) => memory.node === node),
    };
  }

  /**
   * A step that moves pages of `[vpn, vpn + pages)`, one VMA at most; `plan` says which and where to. Its results: `moved`, `refused`, `source`, `verdict(vpn)`.
   * Requires: the mmap lock, held by the caller to the end. Throws EINVAL as `migrate_vma_setup` does: no VMA, hugetlb or special memory, a range that leaves the VMA.
   */
  migrate(vpn: number, pages: number, plan: HmmPlan): Migration {
    const { space, device } = this.context;
    const install = plan.install ?? this.context.install;
    return new Migration(this.platform).vma(space, vpn, pages, {
      select: plan.select ?? 0,
      owner: plan.owner ?? device.owner,
      device,
      cause: plan.cause ?? 'user',
      allocate: plan.allocate,
      install: method(new InstallUnlessInvalidated(this.context, install), 'install'),
    });
  }

  /** The same by frames of this device's memories, whoever maps them; one word for each listed frame. There is no VMA, so nothing is installed. Models: `migrate_device_pfns`. */
  migrateFrames(frames: readonly number[], plan: HmmPlan): Migration {
    const { device } = this.context;
    return new Migration(this.platform).frames(frames, {
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
   * Default: this device, whose translation `install` replaces. Models: `make_device_exclusive`.
   */
  makeExclusive(vpn: number, options: ExclusiveOptions & { readonly owner?: number }, install: InstallExclusive): MakeExclusive {
    const { space, device } = this.context;
    return new MakeExclusive(this.platform).of(space, vpn, options.owner ?? device.owner, options, install);
  }

  /** Subscribes to pages of the space. End it with the step of `unsubscribe`. */
  subscribe(vpn: number, pages: number, ops: NotifierOps): IntervalNotifier {
    return this.context.space.notifiers.insert({ start: vpn, end: vpn + pages }, ops);
  }

  /** A step: a running invalidation has to end first. */
  unsubscribe(notifier: IntervalNotifier): RemoveNotifier {
    return new RemoveNotifier(notifier);
  }

  /** A frame of 2^order pages of one of this device's memories with one reference and stale bytes, or -1. Order 0 or 9. */
  takeFrame(memory: OwnMemory, order = 0): number {
    requireOrder('takeFrame.order', order);
    return memory.takeFrame(order);
  }

  /** A frame of the host's memory with one reference and stale bytes, or -1. Order 0 or 9. */
  hostFrame(order = 0): number {
    requireOrder('hostFrame.order', order);
    return this.platform.host.take(order);
  }

  /** Gives a reference up. */
  putFrame(frame: number): void {
    this.platform.core.exports.framePut(frame);
    this.platform.settleFreed();
  }

  /** Reads bytes of a frame into `into`. Throws EIO when they are not in the machine's memory. */
  readFrame(frame: number, offset: number, into: Uint8Array): void {
    const at = this.bytesOf('readFrame', frame, offset, into.length);
    into.set(this.platform.core.u8.subarray(at, at + into.length));
  }

  /** Writes bytes into a frame. */
  writeFrame(frame: number, offset: number, bytes: Uint8Array): void {
    this.platform.core.u8.set(bytes, this.bytesOf('writeFrame', frame, offset, bytes.length));
  }

  private bytesOf(verb: string, frame: number, offset: number, length: number): number {
    if (!Number.isInteger(offset) || offset < 0 || offset + length > L.PAGE_BYTES)
      throw fail('EINVAL', `${verb}.offset`, offset, `begins ${length} bytes that are not of one page`);
    const at = this.platform.core.frameBytes(frame);
    if (at === 0) throw fail('EIO', `${verb}.frame`, frame, 'has no bytes in the memory of this machine');
    return at + offset;
  }
}

function requireOrder(argument: string, order: number): void {
  if (order !== 0 && order !== L.HUGE_ORDER) throw fail('EINVAL', argument, order, `is not 0 or ${L.HUGE_ORDER}`);
}

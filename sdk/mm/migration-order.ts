/**
 * What a migration is to do, before it begins: which pages, of a range or by their frames, and where to.
 *
 * ```
 *   toDevice      a range, from the host         to frames that the caller has taken
 *   toPeer        a range, from another device   to frames that the caller has taken
 *   toHost        a range, from a device         to the host
 *   framesToHost  frames of a device             to the host
 *   framesToTier  frames of the host             to the second tier; `fromTier` is the way back
 *   vma, frames   a range, or frames             to what a plan gives when it has seen what was collected
 * ```
 */
import * as L from '../../assembly/layout.ts';
import type { MigrationCause } from '../events/cause.ts';
import { fail } from '../errors.ts';
import type { AddressSpace } from './address-space.ts';
import { type DeviceMemory, FRAME_LATER_HUGE, type MigrationDevice, type PeerContext } from './device-memory.ts';
import type { Aims } from './migration-aims.ts';
import { peerEngine } from './migration-copies.ts';
import type { Install, RunInstaller } from './migration-install.ts';
import { MigrationTargets } from './migration-targets.ts';
import { MigrationWords } from './migration-words.ts';
import type { PeerBehaviour } from './peer-batch.ts';
import type { Platform } from './platform.ts';
import type { SecondTier } from './second-tier.ts';
import { isHugetlb, isSpecial } from './vma.ts';

/** A migration in somebody else's hands: what to collect, and where to. */
export interface MigrationPlan {
  /** SELECT_* bits, SELECT_COMPOUND included; not looked at by frame. */
  readonly select: number;
  /** Whose device pages the selectors mean, and the MIGRATE event's owner. */
  readonly owner: number;
  /** Whose translations are withdrawn, whose engine copies. */
  readonly device: MigrationDevice;
  readonly cause: MigrationCause;
  /** Called when pages are collected: look at `order.source`, give targets with `order.aim(i, frame)`. Frames come with one reference, which goes over. */
  allocate(order: MigrationOrder): void;
  /** Between commit and finalize. */
  readonly install?: Install | undefined;
}

/** Most pages of one migration: the batch area's words. */
export const MIGRATION_PAGES_MAX: number = L.WORDS_MAX;

/** Set up by one of its verbs, as often as its owner wants. */
export class MigrationOrder {
  /** For events: the page for whose sake the others come along; -1: none. Set it after `toDevice` or `toHost`. */
  wanted = -1;
  /** Set it after `toHost`: small pages that come home leave a copy behind, where the device would duplicate them. */
  isShared = false;
  /** Set it after `toDevice` or `toPeer`, instead of an `install`: for many pages. */
  installer: RunInstaller | undefined = undefined;
  /** @internal Of its machine. */
  readonly platform: Platform;
  protected readonly words: MigrationWords = new MigrationWords();
  protected space: AddressSpace | undefined;
  protected vpn = 0;
  protected select = 0;
  protected owner = 0;
  protected cause: MigrationCause = 'user';
  protected device!: MigrationDevice;
  /** The device that the pages go to, when they come from another one's memory; `device` is whose they are. */
  protected peer: MigrationDevice | undefined;
  /** Whose engine copies between the two; undefined: the core. */
  protected engineOfPeers: MigrationDevice | undefined;
  /** It is somebody's plan: between which nodes pages move has to be asked of each. Else all of them move between the host and this node. */
  protected isPlanned = false;
  protected node = '';
  protected first = 0;
  /** Only pages on this memory are collected. */
  protected only: DeviceMemory | undefined;
  protected listed: readonly number[] | undefined;
  protected readonly targets: MigrationTargets;
  protected allocate: ((order: MigrationOrder) => void) | undefined;
  protected install: Install | undefined;
  /** What the wanted page is to be brought for, as a device with the family `peer` is told. Set them after `toDevice`. */
  access: 'read' | 'write' | 'none' = 'none';
  behaviour: PeerBehaviour = 'none';
  /** The device does in one go what is else done in steps. */
  protected coupled: PeerContext | undefined;

  constructor(platform: Platform) {
    this.platform = platform;
    this.targets = new MigrationTargets(platform, this.words);
  }

  /**
   * Host pages, holes and pages of zeros in `[vpn, vpn + pages)` go to `memory`. `picks[i]` is the target frame of page i, with one
   * reference that the migration takes over, or -1: leave that page where it is. A huge frame is the target of the 512 pages from i on, whose other picks are -1.
   */
  toDevice(
    space: AddressSpace,
    vpn: number,
    picks: readonly number[],
    memory: DeviceMemory,
    cause: MigrationCause,
    install?: Install,
  ): this {
    this.begin(picks.length, memory.device, cause);
    this.space = space;
    this.vpn = vpn;
    this.select = L.SELECT_SYSTEM;
    for (let i = 0; i < picks.length; i++) {
      const pick = picks[i]!;
      if (pick === L.FRAME_NONE) continue;
      if (pick < 0) this.words.later(i, pick === FRAME_LATER_HUGE);
      if (pick < 0 ? pick === FRAME_LATER_HUGE : this.give(i, pick)) this.select |= L.SELECT_COMPOUND;
    }
    this.node = memory.node.name;
    this.install = install;
    this.coupled = memory.device.coupledIn(space);
    return this;
  }

  /** @internal The same for many pages: those that have a frame of `aims`, of the `pages` from its first page on. */
  manyToDevice(space: AddressSpace, aims: Aims, memory: DeviceMemory, cause: MigrationCause): this {
    this.begin(aims.span, memory.device, cause);
    this.space = space;
    this.vpn = aims.vpn;
    this.select = L.SELECT_SYSTEM;
    this.aimAll(aims);
    this.node = memory.node.name;
    this.coupled = memory.device.coupledIn(space);
    return this;
  }

  /**
   * The pages of `[vpn, vpn + picks.length)` that are on memories of the device of `from` go to `to`, a memory of another device, over their link: `picks` as for `toDevice`. The device of
   * `from` loses its translations of them. Requires: one VMA; `peerEngine(from, to, space)` is not undefined. Models: a device-private page that `migrate_vma` takes to another device.
   */
  toPeer(
    space: AddressSpace,
    vpn: number,
    picks: readonly number[],
    from: DeviceMemory,
    to: DeviceMemory,
    cause: MigrationCause,
    install?: Install,
  ): this {
    this.begin(picks.length, from.device, cause);
    this.vpn = vpn;
    this.install = install;
    this.byLink(space, from, to);
    for (let i = 0; i < picks.length; i++) {
      if (picks[i]! < 0) continue;
      if (this.give(i, picks[i]!)) this.select |= L.SELECT_COMPOUND;
    }
    return this;
  }

  /** @internal The same for many pages, as `manyToDevice`. */
  manyToPeer(space: AddressSpace, aims: Aims, from: DeviceMemory, to: DeviceMemory, cause: MigrationCause): this {
    this.begin(aims.span, from.device, cause);
    this.vpn = aims.vpn;
    this.byLink(space, from, to);
    this.aimAll(aims);
    return this;
  }

  private byLink(space: AddressSpace, from: DeviceMemory, to: DeviceMemory): void {
    this.peer = to.device;
    this.space = space;
    this.select = from.kind === 'coherent' ? L.SELECT_COHERENT : L.SELECT_PRIVATE;
    this.node = to.node.name;
    const engine = peerEngine(from, to, space);
    this.engineOfPeers = engine === 'core' ? undefined : engine;
  }

  /** Gives the pages of `aims` their frames. */
  private aimAll({ offsets, frames, taken, huge }: Aims): void {
    const { words } = this;
    if (huge.size === 0) {
      words.aimEach(this.platform.core, offsets, frames, taken);
      return;
    }
    const first = offsets[0]!;
    for (let k = 0; k < taken; k++) {
      const frame = frames[k]!;
      const i = offsets[k]! - first;
      const isHuge = huge.has(offsets[k]!);
      if (isHuge) this.select |= L.SELECT_COMPOUND;
      if (frame < 0) words.later(i, isHuge);
      else words.aim(i, frame, isHuge);
    }
  }

  /**
   * The pages of `[vpn, vpn + pages)`, of one VMA, that are on `memory` come home; `first` is served first when host frames run out. A huge page gets a huge frame, or, where there is none, as many small
   * ones as there are.
   */
  toHost(space: AddressSpace, vpn: number, pages: number, memory: DeviceMemory, cause: MigrationCause, first: number): this {
    this.begin(pages, memory.device, cause);
    this.space = space;
    this.vpn = vpn;
    this.select = (memory.kind === 'coherent' ? L.SELECT_COHERENT : L.SELECT_PRIVATE) | L.SELECT_COMPOUND;
    // Selectors know devices, not memories.
    if (hasLike(memory)) this.only = memory;
    this.first = first - vpn;
    this.node = memory.node.name;
    this.coupled = memory.device.coupledIn(space);
    this.targets.fromHost(false);
    return this;
  }

  /** These frames of `memory` come home, whoever maps them. Reads only physical structures: address spaces may be many. A huge frame that finds no huge host frame is split first. */
  framesToHost(frames: readonly number[], memory: DeviceMemory, cause: MigrationCause): this {
    this.begin(frames.length, memory.device, cause);
    this.listed = frames;
    this.node = memory.node.name;
    this.coupled = memory.device.coupledIn(undefined);
    this.targets.fromHost(cause === 'evict');
    return this;
  }

  /**
   * The pages of `[vpn, vpn + pages)` that `plan` selects go where it says. Requires: the mmap lock, held to the end. Throws EINVAL for no VMA, for hugetlb and special memory,
   * and for a range that leaves the VMA; rights are not looked at. Models: `migrate_vma_setup`.
   */
  vma(space: AddressSpace, vpn: number, pages: number, plan: MigrationPlan): this {
    const vma = space.vmas.find(vpn);
    const at = vpn * L.PAGE_BYTES;
    if (!vma) throw fail('EINVAL', 'migration start', at, 'is not mapped');
    if (isHugetlb(vma) || isSpecial(vma))
      throw fail('EINVAL', 'migration start', at, 'is hugetlb or special memory, which does not migrate');
    if (vpn + pages > vma.end) throw fail('EINVAL', 'migration end', at + pages * L.PAGE_BYTES, 'is outside the mapping of its start');
    this.plan(pages, plan);
    this.space = space;
    this.vpn = vpn;
    this.select = plan.select;
    return this;
  }

  /**
   * These frames of memories of `plan.device` go where it says, whoever maps them: one word for each listed frame, COMPOUND for a huge one. Free, locked and held ones stay. Nothing is installed.
   * Models: `migrate_device_pfns`.
   */
  frames(frames: readonly number[], plan: MigrationPlan): this {
    this.plan(frames.length, plan);
    this.listed = [...frames];
    return this;
  }

  /** These frames of the host go to the second tier, whoever maps them. Requires: none is huge. */
  framesToTier(frames: readonly number[], tier: SecondTier): this {
    this.begin(frames.length, tier, 'swap out');
    this.listed = frames;
    this.node = this.platform.host.name;
    this.targets.fromTier(false);
    return this;
  }

  /** @internal Of these frames of a device's memory, those that the second tier has, still true, go there: nothing is copied. The others stay. */
  cleanToTier(frames: readonly number[], memory: DeviceMemory, tier: SecondTier): this {
    this.framesToTier(frames, tier);
    this.node = memory.node.name;
    this.targets.fromTier(true);
    return this;
  }

  /** A page that is in the second tier comes back. */
  fromTier(space: AddressSpace, vpn: number, tier: SecondTier): this {
    this.begin(1, tier, 'swap in');
    this.space = space;
    this.vpn = vpn;
    this.select = L.SELECT_SWAP | L.SELECT_NO_HOLES;
    this.node = tier.node.name;
    this.targets.fromHost(false);
    return this;
  }

  private plan(pages: number, plan: MigrationPlan): void {
    this.begin(pages, plan.device, plan.cause);
    this.owner = plan.owner;
    this.isPlanned = true;
    this.targets.giver = 'plan';
    this.allocate = plan.allocate;
    this.install = plan.install;
  }

  /** Begins anew, with an order of nothing yet. */
  protected begin(pages: number, device: MigrationDevice, cause: MigrationCause): void {
    if (!Number.isInteger(pages) || pages < 1 || pages > MIGRATION_PAGES_MAX)
      throw fail('EINVAL', 'migration pages', pages, `is not a count between 1 and ${MIGRATION_PAGES_MAX}`);
    this.wanted = -1;
    this.isShared = false;
    this.space = undefined;
    this.vpn = 0;
    this.select = 0;
    this.owner = device.owner;
    this.cause = cause;
    this.device = device;
    this.peer = undefined;
    this.engineOfPeers = undefined;
    this.isPlanned = false;
    this.first = 0;
    this.only = undefined;
    this.listed = undefined;
    this.targets.begin();
    this.install = undefined;
    this.installer = undefined;
    this.access = 'none';
    this.behaviour = 'none';
    this.coupled = undefined;
    this.words.begin(pages);
  }

  /** Words of the range, or of the list of frames: how many. */
  get pages(): number {
    return this.words.count;
  }

  /** Source words (u32 pairs: frame, MIGRATE_* bits), after the last phase with the verdict on each page: MIGRATE_MOVE. */
  get source(): Uint32Array {
    return this.words.source;
  }

  /** Target words. */
  get target(): Uint32Array {
    return this.words.target;
  }

  /**
   * Gives word `i` its target: a frame with one reference, which goes over. A huge frame is for a COMPOUND word; a COMPOUND word may also get 512 small ones, one for each of its
   * pages. Returns whether it is huge. Errors: EINVAL for a frame that somebody else has, or another word.
   */
  aim(i: number, frame: number): boolean {
    const { core, nodes } = this.platform;
    if (!Number.isInteger(i) || i < 0 || i >= this.words.count)
      throw fail('EINVAL', 'aim.word', i, `is not one of the ${this.words.count} words`);
    if (!nodes.has(frame)) throw fail('EINVAL', 'aim.frame', frame, 'is not a frame of this machine');
    const record = core.frameRecord(frame);
    const flags = core.field(record, L.FRAME_FLAGS);
    const isAlone = core.field(record, L.FRAME_REFS) === 1 && core.field(record, L.FRAME_MAPS) === 0;
    if ((flags & (L.FRAME_STATE | L.FRAME_CACHED | L.FRAME_REPLICA | L.FRAME_LOCKED)) !== L.STATE_USED || !isAlone)
      throw fail('EINVAL', 'aim.frame', frame, 'is not a frame with one reference and no mapping');
    // Where a frame is mapped says nothing while it is not: until then that is the word which it is aimed at.
    const other = core.field(record, L.FRAME_RMAP);
    if (other < this.words.count && this.words.hasTarget(other) && this.words.targetFrame(other) === frame)
      throw fail('EINVAL', 'aim.frame', frame, `is the target of word ${other} already`);
    core.setField(record, L.FRAME_RMAP, i);
    return this.give(i, frame);
  }

  /** `aim`, of a frame that the framework has taken. */
  protected give(i: number, frame: number): boolean {
    const { core } = this.platform;
    const huge = (core.field(core.frameRecord(frame), L.FRAME_FLAGS) & L.FRAME_ORDER) !== 0;
    this.words.aim(i, frame, huge);
    return huge;
  }

  /** @internal The frame that word `i` of a migration by frame was of. */
  listedFrame(i: number): number {
    return this.listed![i]!;
  }
}

/** Whether its device has another memory of its kind. */
function hasLike(memory: DeviceMemory): boolean {
  const { memories } = memory.device;
  // A loop: a closure would be made for every page that comes home by itself.
  for (let i = 0; i < memories.length; i++) if (memories[i] !== memory && memories[i]!.kind === memory.kind) return true;
  return false;
}

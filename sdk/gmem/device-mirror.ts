/**
 * What a device has of an address space: the translations of its table, its caches and its copies of pages, kept true by a notifier over the whole space.
 *
 * ```
 *   enter       what has moved to it, what a range fault has found, what is a copy of its own     nothing, while a change is announced and not made
 *   withdraw    its table, then its caches, then its copies                                       cannot fail: a driver that throws has no part any more
 * ```
 *
 * What the device does with it, and who brings pages, is the context's (`context.ts`), which is one of these. Nothing here calls a verb.
 *
 * Models: the mirroring half of `gm_context` and `hmm_mirror`: `pmap_enter`, `pmap_release`, `pmap_protect`, `tlb_invl` of `gm_mmu`, behind an `mmu_interval_notifier`.
 */
import * as L from '../../assembly/layout.ts';
import { type Locator, Mappings, Ranges } from '../core/batch.ts';
import { fail, type FarfaultError, isFarfaultError } from '../errors.ts';
import type { ReplicaCause } from '../events/cause.ts';
import type { AddressSpace } from '../mm/address-space.ts';
import { VPN_LIMIT } from '../mm/arguments.ts';
import type { AttachMode, MirrorHold } from '../mm/attach.ts';
import type { Install, RunInstaller } from '../mm/migration-install.ts';
import type { VisitRun } from '../mm/migration-words.ts';
import type { IntervalNotifier, InvalidateEvent } from '../mm/notifier.ts';
import { type Platform, ZERO_FRAMES } from '../mm/platform.ts';
import { HMM_VALID, HMM_WRITE, type InstallAnswer } from '../mm/range-fault.ts';
import { Lock } from '../step/lock.ts';
import { method } from '../step/method.ts';
import type { Ticket } from '../step/ticket.ts';
import { ReadyMirror } from './core-mirror.ts';
import { createTable, DEFAULT_GEOMETRY, DEVICE_TLB_SETS, DeviceTable, DeviceTlb } from './device-table.ts';
import type { Device } from './device.ts';
import {
  type Access,
  checkFamilies,
  type GmMmu,
  HOST,
  permits,
  type Pmap,
  type TableGeometry,
  type Tlb,
  type Translation,
} from './driver.ts';
import { type FlushCounts, Flushes } from './flush.ts';
import { Follower } from './follower.ts';
import { AccessMarks } from './marks.ts';
import { Coupled, formOf, type PeerCounts } from './planner.ts';
import { Replicas } from './replica.ts';
import { SharedTable } from './shared-table.ts';

/** What one device has of one address space: the half of a `Context` that follows the space. */
export class DeviceMirror implements Locator, RunInstaller {
  readonly name: string;
  readonly space: AddressSpace;
  readonly device: Device;
  /** How it uses the space. */
  readonly mode: AttachMode;
  /** The families that the driver returned. */
  readonly mmu!: GmMmu;
  readonly pmap!: Pmap;
  readonly tlb: Tlb | undefined;
  /** TLB slot in the core through which the device's accesses go; 0 when the driver translates. */
  readonly slot!: number;
  /** Of the whole space. Undefined inside its driver's `attach`. */
  readonly notifier!: IntervalNotifier;
  /** One past the last page that the device has an address for. */
  readonly pageLimit: number;
  /** The driver lock: held while the device's table takes an answer in. */
  readonly lock: Lock;
  /** Pages that the driver's own `walk.translate` was asked for by executed accesses. */
  translations = 0;
  protected readonly platform: Platform;
  private readonly ranges: Ranges = new Ranges();
  private readonly changed: Ranges = new Ranges();
  private readonly mappings: Mappings = new Mappings(this);
  private readonly one: number[] = [0];
  /** @internal Its caches being emptied. */
  readonly flushes: Flushes;
  /** @internal Which pages it has accessed and written. */
  readonly marks: AccessMarks;
  /** Its copies of pages. */
  readonly replicas: Replicas;
  /** Its operations go to the driver's family `peer`; undefined: they are done in steps. */
  readonly coupled: Coupled | undefined = undefined;
  /** @internal The ready-made table, if it has one. */
  table: DeviceTable | undefined;
  private readyTlb: DeviceTlb | undefined;
  /** In replicate mode, until the device leaves. */
  private follower: Follower | undefined;
  /** @internal What it has in the core; undefined where not all of it is there. */
  ready: ReadyMirror | undefined = undefined;
  private failed: FarfaultError | undefined;
  private full = false;
  private open = true;
  /** `attach` is being called for a context that was saved: its table and TLB are there. */
  protected restoring = false;

  constructor(platform: Platform, device: Device, space: AddressSpace, mode: AttachMode) {
    this.platform = platform;
    this.mode = mode;
    this.name = device.name;
    this.device = device;
    this.space = space;
    this.flushes = new Flushes(platform, this);
    this.marks = new AccessMarks(platform, this);
    this.replicas = new Replicas(platform, this);
    this.pageLimit = device.pageLimit;
    this.lock = new Lock('driver', device.owner * 2 ** 16 + space.id);
  }

  /** Takes the families that the driver has returned; what they leave out is the ready-made. Throws EINVAL for families that do not fit each other, ENOMEM: then `dropTables`. */
  protected take(mmu: GmMmu): void {
    // Fields that nobody else writes: when it is attached, and again when it is restored.
    Object.assign(this, { mmu });
    checkFamilies(this.name, mmu);
    const pmap = mmu.pmap ?? this.table ?? this.makeTable();
    const tlb = this.chooseTlb();
    Object.assign(this, { pmap, tlb, slot: mmu.walk ? 0 : this.readyTlb!.slot });
  }

  /** From now on it is told of changes. */
  protected subscribe(): void {
    const { platform, device, space, mode, mmu } = this;
    const coupled = formOf(mmu, device.policy, mode) === 'coupled' ? new Coupled(platform, this) : undefined;
    if (mmu.walk && (mode === 'share' || !mmu.walk.harvest)) platform.tier?.distrust();
    Object.assign(this, { coupled, notifier: space.notifiers.insert({ start: 0, end: VPN_LIMIT }, this) });
    this.ready = this.readyMirror();
  }

  /** The driver's own table comes to be. The last thing that can fail when a device is attached. */
  protected createPmap(): void {
    if (!this.pmap.create) return;
    const { scheduler } = this.platform;
    const outer = scheduler.beginCall(`${this.name}.pmap.create`);
    try {
      this.pmap.create();
    } finally {
      scheduler.endCall(outer);
    }
  }

  /** Takes in what the CPU has, and from now on what it gets. */
  protected follow(): void {
    this.follower = new Follower(this.platform, this);
    this.space.notifiers.followers.push(this.follower);
    const { scheduler } = this.platform;
    const outer = scheduler.beginCall(`${this.name}.pmap.enter`);
    try {
      this.follower.catchUp();
    } finally {
      scheduler.endCall(outer);
    }
  }

  /** @internal The device is leaving: what the CPU gets is not entered any more. */
  unfollow(): void {
    if (!this.follower) return;
    const { followers } = this.space.notifiers;
    followers.splice(followers.indexOf(this.follower), 1);
    this.follower = undefined;
  }

  /** @internal In replicate mode, takes in all that the CPU has. */
  catchUp(): void {
    this.follower?.catchUp();
  }

  /** The driver leaves, and its table with it. */
  protected leave(): void {
    this.open = false;
    try {
      this.mmu.detach?.();
      if (this.mmu.pmap && this.mmu.pmap !== this.table) this.mmu.pmap.destroy?.();
    } catch (error) {
      this.fail(error);
    }
    this.dropTables();
  }

  protected dropTables(): void {
    this.readyTlb?.destroy();
    this.table?.destroy();
  }

  /** The ready-made table; made at most once. */
  makeTable(geometry?: TableGeometry): DeviceTable {
    this.requireAttached('deviceTable');
    if (this.table) {
      if (geometry !== undefined && !this.restoring)
        throw fail('EINVAL', 'deviceTable', this.name, 'has made its table for this context already');
      return this.table;
    }
    const { core } = this.platform;
    const home = this.space.table;
    if (this.mode === 'share') this.table = new SharedTable(core, home, this);
    else {
      const shape = geometry ?? this.device.driver.geometry ?? DEFAULT_GEOMETRY;
      this.table = new DeviceTable(core, createTable(core, shape, home), this.device.pageBytes, this);
    }
    return this.table;
  }

  /** The ready-made TLB; made at most once. */
  makeTlb(sets: number = DEVICE_TLB_SETS): DeviceTlb {
    this.requireAttached('deviceTlb');
    if (this.readyTlb && this.restoring) return this.readyTlb;
    if (this.readyTlb) throw fail('EINVAL', 'deviceTlb', this.name, 'has made its TLB for this context already');
    this.readyTlb = new DeviceTlb(this.platform.core, this.makeTable(), sets);
    return this.readyTlb;
  }

  private chooseTlb(): Tlb | undefined {
    if (this.mode === 'share' && this.mmu.pmap && !(this.mmu.pmap instanceof DeviceTable)) {
      throw fail('EINVAL', `${this.name}.pmap`, this.mmu.pmap, 'is not the table of the CPU (deviceTable): the device shares that one');
    }
    if (this.mmu.walk) return this.mmu.tlb;
    if (this.mmu.pmap && !(this.mmu.pmap instanceof DeviceTable)) {
      throw fail('EINVAL', `${this.name}.walk`, undefined, 'is required: only the driver can translate through a pmap of its own');
    }
    if (this.mmu.tlb && this.mmu.tlb !== this.readyTlb && !this.readyTlb) {
      throw fail('EINVAL', `${this.name}.walk`, undefined, 'is required: only the driver can look up a tlb of its own');
    }
    if (!this.readyTlb) return this.makeTlb();
    return this.mmu.tlb ?? this.readyTlb;
  }

  /** Its table and its TLB are the ready-made ones, and nobody but its own faults enters into them. */
  protected readyMirror(): ReadyMirror | undefined {
    const { placement, flush } = this.device.policy;
    if (this.mode !== 'exclusive' || this.coupled || this.mmu.walk || placement || flush === 'deferred') return undefined;
    const { table } = this;
    if (!table || this.pmap !== table || this.tlb !== this.readyTlb || this.pageLimit !== VPN_LIMIT) return undefined;
    return new ReadyMirror(this, table);
  }

  /** Whether the driver writes a table of its own, or translates by itself. */
  get hasOwnTable(): boolean {
    return this.mmu.walk !== undefined || (this.mmu.pmap !== undefined && !(this.mmu.pmap instanceof DeviceTable));
  }

  /** Bytes of the ready-made table: 0 where the device walks the table of the space, undefined where the driver keeps the table itself. */
  get tableBytes(): number | undefined {
    this.platform.requireOpen('tableBytes');
    if (this.mode === 'share') return 0;
    return this.table && this.table.pages * L.PAGE_BYTES;
  }

  /** Looked-up pages of the device's TLB; a driver that translates by itself is counted by the translations it was asked for, all as misses. */
  get tlbCounts(): { readonly hit: number; readonly miss: number } {
    this.platform.requireOpen('tlbCounts');
    return this.mmu.walk ? { hit: 0, miss: this.translations } : this.readyTlb!.counts;
  }

  /** Memory index of a frame for this device's driver: an index into its memories, or HOST. */
  memoryOf(frame: number): number {
    return this.device.memoryOf(frame);
  }

  /** Page of a frame within its memory. */
  pageOf(frame: number): number {
    return this.platform.nodes.pageOf(frame);
  }

  /** Frame behind a translation of this device's driver. */
  frameOf(translation: Translation): number {
    const { memory, page } = translation;
    const node = this.device.nodeAt(memory);
    // The pages of zeros come first, the host's own pages follow.
    const pages = memory === HOST ? this.platform.host.frames + ZERO_FRAMES : (node?.frames ?? 0);
    if (!node || !Number.isInteger(page) || page < 0 || page >= pages) {
      throw fail('EINVAL', `${this.name}.walk.translate result`, page, `is not a page of memory ${memory}`);
    }
    return node.base + page;
  }

  // ---------------------------------------------------------------------------------------------------------- what it gets

  /**
   * Whether somebody has told this device of a change and has not made it yet. What is entered now may be wrong then, however true it is at the moment: wait for
   * `space.notifiers.idle` and look again, or leave it to the next fault.
   */
  get isInvalidating(): boolean {
    return this.notifier.readBegin() === 'wait';
  }

  /** Whether the device may not translate now: it walks a table in which something is about to change. Wait for `space.notifiers.idle`. */
  get mustWait(): boolean {
    return this.mode === 'share' && this.notifier.state !== 'removed' && this.isInvalidating;
  }

  /** Whether what is true now may be entered: it works, and nobody has told it of a change that is still to come. */
  get mayEnter(): boolean {
    return this.works && !this.isInvalidating;
  }

  /** Whether copies of pages can be made for this device: it has memory, a table of its own that only its faults fill, and can fault: a copy may go at any time. Pages that the device hands out by itself are not copied to. */
  get mayDuplicate(): boolean {
    const { memory, driver } = this.device;
    return (
      this.mode === 'exclusive' && !this.coupled && memory !== undefined && memory.node.allocator !== 'peer' && driver.replayable !== false
    );
  }

  /** Whether the device's table had no room for the last translations that it was given: some of them are not there. */
  get isFull(): boolean {
    return this.full;
  }

  /** `installPages`, and `installAnswer`, to be handed out. */
  readonly install: Install = method<DeviceMirror, 'installPages'>(this, 'installPages');

  readonly installWords: InstallAnswer = method<DeviceMirror, 'installAnswer'>(this, 'installAnswer');

  /** Installs translations of pages that have just moved to this device. */
  installPages(_space: AddressSpace, vpn: number, frames: readonly number[], writable: (page: number) => boolean): void {
    if (!this.open || this.isInvalidating) return;
    const mappings = this.mappings.clear();
    const hasBits = this.space.attributes.size > 0;
    for (let i = 0; i < frames.length; i++)
      if (frames[i]! >= 0) mappings.add(vpn + i, frames[i]!, writable(i), hasBits ? this.attributesAt(vpn + i) : 0);
    this.enter(mappings);
  }

  /** @internal The same, run by run. */
  installRuns(vpn: number, runs: (visit: VisitRun) => void): void {
    if (!this.open || this.isInvalidating) return;
    const mappings = this.mappings.clear();
    const hasBits = this.space.attributes.size > 0;
    runs((i, pages, _from, to, write) => {
      if (!hasBits) mappings.add(vpn + i, to, write, 0, pages);
      else for (let page = 0; page < pages; page++) mappings.add(vpn + i + page, to + page, write, this.attributesAt(vpn + i + page));
    });
    this.enter(mappings);
  }

  /** Installs translations of pages with contiguous frames that this device may use as they are. Requires: `isInvalidating` is false. */
  installRun(vpn: number, pages: number, frame: number, write: boolean): void {
    const mappings = this.mappings.clear();
    const hasBits = this.space.attributes.size > 0;
    for (let page = 0; page < pages; page++) mappings.add(vpn + page, frame + page, write, hasBits ? this.attributesAt(vpn + page) : 0);
    this.enter(mappings);
  }

  /** Installs the writable translation of a page that is exclusive to this device now; one that allowed less leaves the caches. Nothing, once the device has left. */
  installAlone(vpn: number, frame: number): void {
    if (!this.open || this.isInvalidating) return;
    this.installRun(vpn, 1, frame, true);
    const changed = this.changed.clear();
    changed.add(vpn, 1);
    if (this.works) this.flushed(changed);
  }

  /** Installs the answer of a range fault; translations whose rights changed leave the device's caches. */
  installAnswer(words: Uint32Array, vpn: number, pages: number): void {
    if (!this.works) return;
    const mappings = this.mappings.clear();
    const changed = this.changed.clear();
    const hasBits = this.space.attributes.size > 0;
    for (let i = 0; i < pages; i++) {
      const high = words[i * 2 + 1]!;
      // What it has a copy of, it reads there.
      if (high < HMM_VALID || (this.replicas.size > 0 && this.replicas.at(vpn + i) !== undefined)) continue;
      const write = (high & HMM_WRITE) !== 0;
      mappings.add(vpn + i, words[i * 2]!, write, hasBits ? this.attributesAt(vpn + i) : 0);
      if (this.table) {
        const old = this.platform.core.entry(this.table.table, vpn + i);
        if ((old & L.ENTRY_KIND) === L.KIND_PRESENT && ((old & L.ENTRY_WRITE) !== 0) !== write) changed.add(vpn + i, 1);
      } else changed.add(vpn + i, 1);
    }
    this.enter(mappings);
    if (changed.count > 0) this.flushed(changed);
  }

  /** @internal Enters a page as its home entry has it. */
  installAsHome(vpn: number, frame: number): void {
    const high = this.platform.core.entry(this.space.table, vpn);
    this.installRun(vpn, 1, frame, (high & L.ENTRY_WRITE) !== 0);
  }

  /** @internal The same as `installReplicas`, of one page. */
  installReplica(vpn: number): void {
    this.one[0] = vpn;
    this.installReplicas(this.one);
  }

  /** @internal The same for what stays here of a page that leaves. Who makes it leave is not told of a driver that throws: the context has failed, and the copy is gone. */
  keepReplica(vpn: number): void {
    try {
      this.installReplica(vpn);
    } catch {
      // `fail` has said so.
    }
  }

  /** Installs the translations of its copies of pages; other translations of them leave the caches. What the table has no room for is dropped. Requires: `mayEnter`. */
  installReplicas(vpns: readonly number[]): void {
    const mappings = this.mappings.clear();
    const changed = this.changed.clear();
    const hasBits = this.space.attributes.size > 0;
    for (let i = 0; i < vpns.length; i++) {
      const vpn = vpns[i]!;
      mappings.add(vpn, this.replicas.at(vpn)!, false, hasBits ? this.attributesAt(vpn) : 0);
      const old = this.table ? this.platform.core.entry(this.table.table, vpn) : L.KIND_PRESENT;
      if ((old & L.ENTRY_KIND) === L.KIND_PRESENT) changed.add(vpn, 1);
    }
    this.enter(mappings);
    if (changed.count > 0) this.flushed(changed);
    if (!this.full) return;
    changed.clear();
    for (let i = 0; i < vpns.length; i++) changed.add(vpns[i]!, 1);
    this.withdraw(changed, 'full');
  }

  /** A context that has left or failed while the answer was on its way takes nothing in. */
  private enter(mappings: Mappings): void {
    if (mappings.count === 0 || !this.works) return;
    this.full = false;
    const reached = this.pageLimit < VPN_LIMIT ? this.within(mappings) : mappings;
    if (reached.count === 0) return;
    try {
      this.pmap.enter(reached);
    } catch (error) {
      // What has no room in the ready-made table is not entered: the device faults on it again.
      if (!isFarfaultError(error) || error.code !== 'ENOMEM') throw this.failWith(error);
      this.full = true;
    }
  }

  /** What of a list the device has an address for. */
  private within(mappings: Mappings): Mappings {
    const kept = new Mappings(this);
    mappings.eachFrame((vpn, pages, frame, write, attributes) => {
      for (let page = 0; page < pages && vpn + page < this.pageLimit; page++) kept.add(vpn + page, frame + page, write, attributes);
    });
    return kept;
  }

  /** Empties the caches of pages whose translations have changed. */
  private flushed(changed: Ranges): void {
    try {
      this.flushes.make(changed);
    } catch (error) {
      throw this.failWith(error);
    }
  }

  /** @internal Opaque bits of a page for this device's driver. */
  attributesAt(vpn: number): number {
    return this.space.attributes.bitsAt(vpn, this.device.owner);
  }

  // --------------------------------------------------------------------------------------------------------- what it loses

  /**
   * The notifier callback. Own migrations release nothing here: they withdraw exactly what they move, when it has been collected. Nor do own exclusive pages, whose translation is about to be replaced. But
   * the sequence is stored for them, too: a range fault of this device that has looked at the pages before looks again.
   */
  invalidate(event: InvalidateEvent): boolean | Ticket {
    const { events } = this.platform;
    events.counters.invalidations++;
    const own = (event.reason === 'MIGRATE' || event.reason === 'EXCLUSIVE') && event.owner === this.device.owner;
    const ignored = own && this.mode !== 'share';
    if (events.heard) {
      const { start: vpn, end, reason, cause } = event;
      events.emit({ type: 'range.invalidated', space: this.space.id, device: this.name, vpn, pages: end - vpn, reason, cause, ignored });
    }
    this.notifier.setSequence(event.sequence);
    if (ignored) return true;
    this.follower?.withdrawn(event.start, event.end - event.start);
    const ranges = this.ranges.clear();
    ranges.add(event.start, event.end - event.start);
    // The home entry forgets that there are copies: they go.
    if (event.writeOnly && this.replicas.size === 0) return this.withdrawWrites(ranges) ?? true;
    return this.withdraw(ranges, event.cause) ?? true;
  }

  /** Removes this device's translations of these pages, table first, then caches, and its copies of them. A ticket: the flush is unfinished. `cause`: why copies go. */
  withdraw(ranges: Ranges, cause: ReplicaCause = 'migration: user'): Ticket | undefined {
    try {
      this.marks.withdrawn(ranges);
      const ticket = this.coupled ? this.dropped(this.coupled, ranges) : this.released(ranges);
      this.flushes.add(ticket);
      // Until the flush has ended it may write, and no mark of that is looked at.
      if (ticket?.state === 'pending') this.marks.mayWrite(ranges);
      if (this.replicas.size > 0) this.replicas.drop(ranges, ticket, cause);
      return ticket;
    } catch (error) {
      // Taking away cannot fail: a driver that throws is out of the game, and nothing will be translated through it any more.
      this.fail(error);
      return undefined;
    }
  }

  /** The same, alone; its ticket is appended. */
  withdrawOne(vpn: number, pages: number, tickets: Ticket[]): void {
    const ranges = this.ranges.clear();
    ranges.add(vpn, pages);
    const ticket = this.withdraw(ranges);
    if (ticket) tickets.push(ticket);
  }

  /** Takes only the right to write from these pages, where the driver can; reading goes on without a fault. */
  private withdrawWrites(ranges: Ranges): Ticket | undefined {
    if (this.coupled || !this.pmap.protect) return this.withdraw(ranges);
    try {
      this.pmap.protect(ranges, false);
      const ticket = this.flushes.make(this.withOvershoot(ranges));
      this.flushes.add(ticket);
      return ticket;
    } catch (error) {
      this.fail(error);
      return undefined;
    }
  }

  private released(ranges: Ranges): Ticket | undefined {
    this.pmap.release(ranges);
    if (this.device.policy.flush === 'deferred' && this.tlb) return this.flushes.putOff(this.withOvershoot(ranges));
    return this.flushes.make(this.withOvershoot(ranges));
  }

  /** In one go; the ready-made table may have had to let go of more than its driver knows. */
  private dropped(coupled: Coupled, ranges: Ranges): Ticket | undefined {
    const ticket = coupled.dropRanges(ranges);
    const overshoot = this.table?.overshoot;
    if (overshoot && overshoot.count > 0) {
      const flushed = this.flushes.make(overshoot);
      overshoot.clear();
      this.flushes.add(flushed);
    }
    return ticket;
  }

  /** The ranges, and what the ready-made table had to let go around them. */
  private withOvershoot(ranges: Ranges): Ranges {
    const overshoot = this.table?.overshoot;
    if (!overshoot || overshoot.count === 0) return ranges;
    for (let i = 0; i < ranges.count; i++) overshoot.add(ranges.start(i), ranges.length(i));
    return overshoot;
  }

  /** Whether a flush of this device is unfinished: until then it may use what it knew, since nothing has been copied or freed. */
  get flushing(): boolean {
    return this.flushes.unfinished !== undefined;
  }

  /** Flushes so far. */
  get flushCounts(): FlushCounts {
    return this.flushes.counts;
  }

  /** Calls and results of a driver that brings and takes pages by itself; undefined when it does not. */
  get peerCounts(): PeerCounts | undefined {
    return this.coupled?.counts;
  }

  // ----------------------------------------------------------------------------------------------------------- what it has

  /** Whether the device's translation of a page, cached or not, allows the access. */
  reaches(vpn: number, write: boolean): boolean {
    if (this.mmu.walk) return this.walks(vpn, write ? 'write' : 'read');
    if (this.mustWait) return false;
    const high = this.platform.core.entry(this.table!.table, vpn);
    return (high & L.ENTRY_KIND) === L.KIND_PRESENT && (!write || (high & L.ENTRY_WRITE) !== 0);
  }

  /** Whether the driver's own translation allows an access. */
  private walks(vpn: number, access: Access): boolean {
    return permits(this.translated(vpn, access), access);
  }

  /** What the driver translates a page to. No closure for `guard`: it is asked for each page. */
  private translated(vpn: number, access: Access): Translation | undefined {
    try {
      return this.mmu.walk!.translate(vpn, access);
    } catch (error) {
      throw this.failWith(error);
    }
  }

  /** @internal Whether the device translates this page to this frame now. */
  translatesTo(vpn: number, frame: number): boolean {
    if (!this.mmu.walk) return this.reaches(vpn, false) && this.frameBehind(vpn) === frame;
    const translation = this.translated(vpn, 'read');
    return translation !== undefined && this.guard(() => this.frameOf(translation)) === frame;
  }

  /** Frame behind a page in the ready-made table. Requires: it has one, and the driver does not translate by itself. */
  frameBehind(vpn: number): number {
    const { core } = this.platform;
    core.entry(this.table!.table, vpn);
    return core.entryLow;
  }

  /** What this device has of a page. */
  holds(vpn: number): MirrorHold | undefined {
    if (this.replicas.at(vpn) !== undefined) return 'copy';
    if (!this.works) return undefined;
    if (this.mmu.walk && !this.table) return this.reaches(vpn, true) ? 'write' : this.reaches(vpn, false) ? 'read' : undefined;
    const high = this.platform.core.entry(this.table ? this.table.table : this.space.table, vpn);
    if ((high & L.ENTRY_KIND) !== L.KIND_PRESENT) return undefined;
    return high & L.ENTRY_WRITE ? 'write' : 'read';
  }

  /** Whether a frame is where this device may read its copy of a page: it has it, or had it and has not finished the flush. */
  readsCopy(vpn: number, frame: number): boolean {
    const copy = this.replicas.at(vpn);
    if (copy !== undefined) return copy === frame;
    const { core } = this.platform;
    return this.flushing && (core.field(core.frameRecord(frame), L.FRAME_FLAGS) & L.FRAME_REPLICA) !== 0;
  }

  /** An atomic of the device has used its translation of a page. */
  markAtomic(vpn: number): void {
    if (this.table && !this.mmu.walk) this.platform.core.exports.tableMark(this.table.table, vpn, L.ENTRY_ACCESSED | L.ENTRY_DIRTY);
  }

  // ------------------------------------------------------------------------------------------------------ whether it works

  /** False once the device has left this address space. */
  get isAttached(): boolean {
    return this.open;
  }

  /** Throws EBADF once detached. */
  protected requireAttached(verb: string): void {
    this.platform.requireOpen(verb);
    if (!this.open) throw fail('EBADF', verb, this.name, 'has been detached from this address space');
  }

  /** @internal Whether it serves: neither left nor failed. */
  get works(): boolean {
    return this.open && !this.failed;
  }

  /** Why this context serves nothing any more: a driver operation threw. */
  get failure(): FarfaultError | undefined {
    return this.failed;
  }

  /** A driver operation threw, or broke its contract: nothing goes through this context from now on. */
  failWith(error: unknown): FarfaultError {
    this.fail(error);
    return this.failed!;
  }

  /** Marks the context failed when a driver operation throws; the error goes on to the caller. */
  private guard<T>(operation: () => T): T {
    try {
      return operation();
    } catch (error) {
      this.fail(error);
      throw this.failed!;
    }
  }

  private fail(error: unknown): void {
    if (this.failed) return;
    const message = error instanceof Error ? error.message : String(error);
    this.failed = isFarfaultError(error) ? error : fail('ENODEV', `driver ${this.name}`, message, 'threw');
    // Nothing is translated through it any more, whatever its driver has left behind.
    const everything = this.ranges.clear();
    everything.add(0, VPN_LIMIT);
    this.platform.tier?.forget();
    this.table?.release(everything);
    this.readyTlb?.invalidate(everything);
    this.replicas.drop(everything, undefined, 'failure');
    const { events } = this.platform;
    if (events.heard) events.emit({ type: 'context.failed', space: this.space.id, device: this.name, message });
  }

  /** @internal The device was reset: what its driver broke is mended. */
  revive(): void {
    if (!this.failed) return;
    this.failed = undefined;
    const { events } = this.platform;
    if (events.heard) events.emit({ type: 'context.revived', space: this.space.id, device: this.name });
  }
}

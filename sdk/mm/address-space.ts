/**
 * An address space: a process's memory, and what a program does with it.
 *
 * What it is (VMAs, home table, notifiers, the mmap lock) is in `memory-map.ts`. The verbs here check their arguments, build a step and run it; the steps (`access.ts`, `fault.ts`, `take-down.ts`, `migration.ts`) do the work.
 * Byte addresses are integers below 2^48; ranges are half-open.
 *
 * Models: `mm_struct`, `gm_as`.
 */
import * as L from '../../assembly/layout.ts';
import { fail } from '../errors.ts';
import type { RwLock } from '../step/lock.ts';
import { DONE, type Progress, type Run, type Step } from '../step/step.ts';
import { accessError, type AccessOutcome, CpuAccess } from './access.ts';
import {
  ADDRESS_LIMIT,
  type AddressRange,
  requireBoolean,
  requireBytes,
  requireCount,
  requireLength,
  requireOptions,
  requireRange,
  requireWord,
} from './arguments.ts';
import type { Attachable, AttachOptions } from './attach.ts';
import { dumpRange } from './dump.ts';
import { Fork, FORK_OPTIONS, forked, type ForkOptions } from './fork.ts';
import {
  type Hint,
  type HintAdvice,
  type HintMark,
  HINT_OPTIONS,
  type HintOptions,
  type HintResult,
  hintStep,
  MBIND_OPTIONS,
  type MbindOptions,
  mbindHints,
} from './hint.ts';
import { type Memcpy, MEMCPY_OPTIONS, type MemcpyOptions, type MemcpyResult, memcpyStep } from './hmemcpy.ts';
import { historyOf, type PageHistory } from './history.ts';
import { holdersOf, type PageHolders } from './holders.ts';
import { type Advice, adviseStep } from './madvise.ts';
import { MemoryMap, type SpaceOptions } from './memory-map.ts';
import { insertPage, insertPfn, Mmap, mmap, type MmapOptions } from './mmap.ts';
import { Mremap, type MremapOptions } from './mremap.ts';
import { IntervalNotifier, type NotifierOps, RemoveNotifier } from './notifier.ts';
import { MemoryFile } from './page-cache.ts';
import { type Pin, PIN_OPTIONS, pinned, type PinOptions, PinRange } from './pin.ts';
import type { Platform } from './platform.ts';
import { type Extent, snapshotExtents, snapshotHmm, snapshotNative } from './snapshot.ts';
import { TakeDown } from './take-down.ts';
import { type Prot, protBits } from './prot.ts';
import { VMA_PRIVATE } from './vma.ts';
import { type FilePart, WriteBack } from './write-back.ts';

export { ADDRESS_LIMIT, type AddressRange, READ_BYTES_MAX, requireLength, requireRange } from './arguments.ts';
export type { Attachable, AttachMode, AttachOptions, SpaceMirror } from './attach.ts';
export type { Advice } from './madvise.ts';
export type { MmapOptions } from './mmap.ts';
export type { MremapOptions } from './mremap.ts';

/** How a read or write ended, when failing is an expected outcome. */
export interface AccessResult {
  readonly status: AccessOutcome;
  /** Bytes done before that. */
  readonly bytes: number;
}

/** The memory of one process. Made by `machine.createAddressSpace()`. */
export class AddressSpace extends MemoryMap {
  constructor(platform: Platform, options: SpaceOptions = {}) {
    super(platform, options);
    platform.spaces.set(this.id, this);
  }

  /** @internal An empty one, with a CPU and of addresses as this one has. */
  another(): AddressSpace {
    const { first, last, hasCpu: cpu } = this;
    return new AddressSpace(this.platform, { cpu, range: { start: first * L.PAGE_BYTES, end: last * L.PAGE_BYTES } });
  }

  // -------------------------------------------------------------------------------------------------------------- mapping

  /**
   * Promises `bytes` of memory, private and anonymous unless the options say otherwise; frames come with the first touch. Returns the range.
   * Errors: EINVAL for bad arguments, options that do not go together or a fixed place that is taken, ENOMEM when no gap is large enough, or a device refuses every place that is offered for peer-shared memory; ENODEV when
   * it fails to take one; EBUSY when it has not answered, and nothing will be mapped. Models: `mmap`.
   */
  mmap(options: MmapOptions): AddressRange {
    this.requireOpen('mmap');
    this.platform.requireIdle('mmap');
    if (!(options as MmapOptions | undefined)?.peerShared) return mmap(this.platform, this, options);
    const step = this.mmapStep(options);
    this.runHere(step);
    return step.result!;
  }

  /** The same, waiting for devices that answer later. */
  async mmapAsync(options: MmapOptions): Promise<AddressRange> {
    const step = this.mmapStep(options);
    await this.runAsync(step);
    return step.result!;
  }

  /** A driver puts a page of the host into its mixed mapping: zeros, or `bytes` and zeros behind. Errors: EINVAL where it may not be, EBUSY while mappings of the space change, ENOMEM. Models: `vm_insert_page`. */
  insertPage(addr: number, bytes?: Uint8Array): void {
    this.requireOpen('insertPage');
    this.platform.requireIdle('insertPage');
    insertPage(this.platform, this, addr, bytes);
  }

  /** A driver puts the number of something that is not the machine's memory into its special mapping. Errors: EINVAL where it may not be, EBUSY while mappings of the space change, ENOMEM. Models: `vmf_insert_pfn`. */
  insertPfn(addr: number, pfn: number): void {
    this.requireOpen('insertPfn');
    this.platform.requireIdle('insertPfn');
    insertPfn(this.platform, this, addr, pfn);
  }

  /** Takes a range away: device translations, pages, promise. Whatever of it is not mapped is passed over. Models: `munmap`. */
  munmap(range: AddressRange): void {
    this.runSync(this.unmapStep(range));
  }

  /** The same, waiting for devices that flush asynchronously. */
  async munmapAsync(range: AddressRange): Promise<void> {
    await this.runAsync(this.unmapStep(range));
  }

  /** Changes the rights of a range, which must be mapped from end to end (EINVAL, nothing changed). Models: `mprotect`. */
  mprotect(range: AddressRange, prot: Prot): void {
    this.runSync(this.protectStep(range, prot));
  }

  async mprotectAsync(range: AddressRange, prot: Prot): Promise<void> {
    await this.runAsync(this.protectStep(range, prot));
  }

  /**
   * Advice on a range, which must be mapped from end to end: see `madvise.ts` for each. Errors: EINVAL for memory that cannot take it; for `collapse` ENOMEM without a free 2 MiB and EBUSY
   * when somebody holds or shares a page. Models: `madvise`.
   */
  madvise(range: AddressRange, advice: Advice): void {
    this.runSync(this.adviseStep(range, advice));
  }

  async madviseAsync(range: AddressRange, advice: Advice): Promise<void> {
    await this.runAsync(this.adviseStep(range, advice));
  }

  /**
   * Advice on a range with a device in it: where its pages should be, that they are needed soon, or stay, or are not needed any more; see `hint.ts` for each word, and how ranges are rounded. What could not
   * follow is in the result. Errors: EINVAL for a range or a word that is none, a device of another machine or space, or one that the word does not go with, and for dontneed of a private
   * range; EOPNOTSUPP for a device without memory; ENODEV when its context has failed; EBUSY when a device has not finished. Models: `hmadvise`.
   */
  hmadvise(range: AddressRange, advice: HintAdvice, options: HintOptions = {}): HintResult {
    const step = this.hintStep(range, advice, options);
    this.runSync(step);
    return step.result;
  }

  async hmadviseAsync(range: AddressRange, advice: HintAdvice, options: HintOptions = {}): Promise<HintResult> {
    const step = this.hintStep(range, advice, options);
    await this.runAsync(step);
    return step.result;
  }

  /**
   * Copies `bytes` bytes from `src` to `dest`, wherever both are, and has the destination go where `to` says; the ranges may overlap. What could not be copied is in the result. Errors: EINVAL and EOVERFLOW
   * for bytes that are not in the address space, EINVAL for a device of another machine or space, EOPNOTSUPP for one without memory; ENODEV when its context has failed; EBUSY when a device has not
   * finished. See `hmemcpy.ts`. Models: `hmemcpy`.
   */
  hmemcpy(dest: number, src: number, bytes: number, options: MemcpyOptions = {}): MemcpyResult {
    const step = this.memcpyStep(dest, src, bytes, options);
    this.runSync(step);
    return step.result;
  }

  async hmemcpyAsync(dest: number, src: number, bytes: number, options: MemcpyOptions = {}): Promise<MemcpyResult> {
    const step = this.memcpyStep(dest, src, bytes, options);
    await this.runAsync(step);
    return step.result;
  }

  /** Unmaps everything, as a process does that becomes another program: devices are told and flush, the addresses are free again, those that were one device's alone too; contexts stay. Models: `exec_mmap`. */
  exec(): void {
    this.runSync(this.execStep());
  }

  async execAsync(): Promise<void> {
    await this.runAsync(this.execStep());
  }

  /**
   * A memory policy for a range, by names of nodes, of devices too: where its pages should be, and, with `move`, that they go there now. Errors: EINVAL, as for `hmadvise`. Models: `mbind`, with
   * MPOL_PREFERRED, MPOL_DEFAULT and MPOL_MF_MOVE.
   */
  mbind(range: AddressRange, options: MbindOptions): HintResult {
    this.pages('mbind.range', range);
    requireOptions('mbind', options, MBIND_OPTIONS);
    const hints = mbindHints(this.platform, options).map(([advice, target]) => this.hintStep(range, advice, target));
    for (const step of hints) this.runSync(step);
    return hints.at(-1)!.result;
  }

  async mbindAsync(range: AddressRange, options: MbindOptions): Promise<HintResult> {
    this.pages('mbind.range', range);
    requireOptions('mbind', options, MBIND_OPTIONS);
    const hints = mbindHints(this.platform, options).map(([advice, target]) => this.hintStep(range, advice, target));
    for (const step of hints) await this.runAsync(step);
    return hints.at(-1)!.result;
  }

  /**
   * Makes a mapping longer or shorter, or moves it; returns where it is now. Errors: EFAULT when the range is not inside one mapping, ENOMEM without room, EINVAL for options
   * that do not go together. Models: `mremap`.
   */
  mremap(range: AddressRange, options: MremapOptions): AddressRange {
    const step = this.mremapStep(range, options);
    this.runSync(step);
    return step.result;
  }

  async mremapAsync(range: AddressRange, options: MremapOptions): Promise<AddressRange> {
    const step = this.mremapStep(range, options);
    await this.runAsync(step);
    return step.result;
  }

  /** Writes the dirty pages of the files that are mapped shared in a range back. Models: `msync(MS_SYNC)`. */
  msync(range: AddressRange): void {
    const { platform } = this;
    const step = this.msyncStep(range, platform.spareWriteBack);
    platform.spareWriteBack = undefined;
    this.runSync(step);
    platform.spareWriteBack = step;
  }

  async msyncAsync(range: AddressRange): Promise<void> {
    await this.runAsync(this.msyncStep(range));
  }

  /**
   * A child: a copy of this space, whose pages are shared until one of both writes. It has no devices attached. Errors: ENOMEM, and EBADF when the space is reaped meanwhile: nothing is left of the child; EBUSY
   * while a device flushes, and there will be no child. Models: `fork`, `dup_mmap`.
   */
  fork(options: ForkOptions = {}): AddressSpace {
    const step = this.forkStep(options);
    this.runHere(step);
    return forked(step);
  }

  async forkAsync(options: ForkOptions = {}): Promise<AddressSpace> {
    const step = this.forkStep(options);
    await this.runAsync(step);
    return forked(step);
  }

  /**
   * Holds the pages of a range where they are, for whoever reads or writes them past all page tables; end it with `pin.unpin()`. All or none: EFAULT, ENOMEM, EIO, EBUSY (a page that cannot leave
   * coherent memory, or a device that flushes: nothing will be pinned), EOVERFLOW (too many pins of a page). Models: `pin_user_pages`, with `longTerm` FOLL_LONGTERM.
   */
  pin(range: AddressRange, options: PinOptions = {}): Pin {
    const step = this.pinStep(range, options);
    this.runHere(step);
    return pinned(step, range);
  }

  async pinAsync(range: AddressRange, options: PinOptions = {}): Promise<Pin> {
    const step = this.pinStep(range, options);
    await this.runAsync(step);
    return pinned(step, range);
  }

  // -------------------------------------------------------------------------------------------------------------- access

  /** Reads `bytes` bytes as the CPU would. Throws EFAULT where there is no right to read, ENOMEM, EIO; EBUSY when a device has not finished. */
  read(addr: number, bytes: number): Uint8Array {
    const step = this.readStep(addr, bytes);
    this.runSync(step);
    return this.checked(step, addr);
  }

  async readAsync(addr: number, bytes: number): Promise<Uint8Array> {
    const step = this.readStep(addr, bytes);
    await this.runAsync(step);
    return this.checked(step, addr);
  }

  /** Writes bytes as the CPU would. Throws as `read` does; what was written before the failing page stays written. */
  write(addr: number, bytes: Uint8Array): void {
    const step = this.writeStep(addr, bytes);
    this.runSync(step);
    this.checked(step, addr);
  }

  async writeAsync(addr: number, bytes: Uint8Array): Promise<void> {
    const step = this.writeStep(addr, bytes);
    await this.runAsync(step);
    this.checked(step, addr);
  }

  /** Reads into `bytes` and says how far it came, instead of throwing where there is no right to. */
  tryRead(addr: number, bytes: Uint8Array): AccessResult {
    requireBytes('tryRead.bytes', bytes);
    this.requireCpu('tryRead');
    const step = new CpuAccess(this.platform, this, this.address('tryRead.addr', addr, bytes.length), bytes, false);
    this.runSync(step);
    return { status: step.outcome, bytes: step.done };
  }

  /** Writes and says how far it came, instead of throwing where there is no right to. */
  tryWrite(addr: number, bytes: Uint8Array): AccessResult {
    const step = this.writeStep(addr, bytes);
    this.runSync(step);
    return { status: step.outcome, bytes: step.done };
  }

  // -------------------------------------------------------------------------------------------------------------- devices

  /**
   * Brings a device into this address space: the context is the device's side of it. What is mapped already is the device's to fault on; in replicate mode, what the CPU has is entered at once. One that hands out its
   * addresses itself is asked for those that are peer-shared already. Errors: EINVAL for options that are none, and for a mode that the device cannot have; ENOMEM when it refuses addresses, or has none for peer-shared
   * memory; ENODEV when it fails; EBUSY when it has not answered. The device is not attached then. Models: `gm_as_attach`.
   */
  attach<Context>(device: Attachable<Context>, options: AttachOptions = {}): Context {
    this.requireAttachable(device);
    return device.attachTo(this, options);
  }

  /** The same, waiting for a device that answers later whether it takes the addresses of peer-shared memory. */
  async attachAsync<Context>(device: Attachable<Context>, options: AttachOptions = {}): Promise<Context> {
    this.requireAttachable(device);
    return device.attachToAsync(this, options);
  }

  private requireAttachable(device: Attachable<unknown>): void {
    this.requireOpen('attach');
    this.platform.requireIdle('attach');
    if (typeof device?.attachTo !== 'function')
      throw fail('EINVAL', 'attach.device', device, 'is not a device of a machine (see machine.addDevice)');
  }

  // -------------------------------------------------------------------------------------------------------------- looking

  /** Where every page of a range is, one letter a page; see `dump.ts` for the letters. Without a range: every VMA, a line each. */
  dump(range?: AddressRange): string {
    this.requireOpen('dump');
    if (range !== undefined) requireRange('dump.range', range);
    return dumpRange(this.platform, this, range);
  }

  /** Who has the page of an address: its one owner, its readers, and what is the matter with it; see `holders.ts`. */
  holders(addr: number): PageHolders {
    this.address('holders.addr', addr, 1);
    return holdersOf(this.platform, this, Math.floor(addr / L.PAGE_BYTES));
  }

  /**
   * Why the page of an address is where it is: its state, the last record that put it there, and all that the machine has recorded about it, under other addresses (mremap) and in parents (fork) too.
   * Print it with `printHistory`. Errors: EINVAL for an address that is none, EOPNOTSUPP unless `machine.record()` was called.
   */
  history(addr: number): PageHistory {
    this.address('history.addr', addr, 1);
    const { log } = this.platform.events;
    if (!log) throw fail('EOPNOTSUPP', 'history.addr', addr, 'is a page that nothing is recorded about: call machine.record() first');
    return historyOf(this.platform, this, Math.floor(addr / L.PAGE_BYTES), log);
  }

  /** The entries of a range as they are: frame and ENTRY_* bits, two u32 a page. */
  snapshot(range: AddressRange): Uint32Array {
    const { start, end } = this.pages('snapshot.range', range);
    return snapshotNative(this.platform, this, start, end - start);
  }

  /** The same as `hmm_range_fault` answers without a request; `owner`: whose device-private pages count as readable (device.owner). */
  snapshotHmm(range: AddressRange, owner = 0): Uint32Array {
    const { start, end } = this.pages('snapshotHmm.range', range);
    requireCount('snapshotHmm.owner', owner, 0, 2 ** 31);
    return snapshotHmm(this.platform, this, start, end - start, owner);
  }

  /** The same as runs of pages with contiguous frames and the same rights; holes are left out. */
  snapshotExtents(range: AddressRange): Extent[] {
    const { start, end } = this.pages('snapshotExtents.range', range);
    return snapshotExtents(this.platform, this, start, end - start);
  }

  /**
   * Subscribes to a range: `ops` is called before any page of it changes. The returned notifier begins and checks sequences; end it with `unsubscribe`.
   * Models: `mmu_interval_notifier_insert`.
   */
  subscribe(range: AddressRange, ops: NotifierOps): IntervalNotifier {
    const { start, end } = this.pages('subscribe.range', range);
    this.platform.tier?.distrust();
    return this.notifiers.insert({ start, end }, ops);
  }

  /** Ends a subscription; no callback comes afterwards. Models: `mmu_interval_notifier_remove`. */
  unsubscribe(notifier: IntervalNotifier): void {
    this.requireOpen('unsubscribe');
    if (!(notifier instanceof IntervalNotifier))
      throw fail('EINVAL', 'unsubscribe.notifier', notifier, 'is not a notifier (see space.subscribe)');
    if (notifier.set !== this.notifiers) throw fail('EINVAL', 'unsubscribe.notifier', notifier, 'is one of another address space');
    this.runSync(new RemoveNotifier(notifier));
  }

  // -------------------------------------------------------------------------------------------------------------- steps

  /** The steps behind the verbs, for the simulator and for whoever schedules operations himself. */
  readStep(addr: number, bytes: number): CpuAccess {
    requireLength('read.bytes', bytes);
    this.requireCpu('read');
    return new CpuAccess(this.platform, this, this.address('read.addr', addr, bytes), new Uint8Array(bytes), false);
  }

  writeStep(addr: number, bytes: Uint8Array): CpuAccess {
    requireBytes('write.bytes', bytes);
    this.requireCpu('write');
    return new CpuAccess(this.platform, this, this.address('write.addr', addr, bytes.length), bytes, true);
  }

  mmapStep(options: MmapOptions): Mmap {
    this.requireOpen('mmap');
    return new Mmap(this.platform, this, options);
  }

  unmapStep(range: AddressRange): TakeDown {
    const { start, end } = this.pages('munmap.range', range);
    this.requireChangeable('munmap.range', start, end, false);
    return new TakeDown(this.platform, this, start, end, { verb: 'unmap' });
  }

  protectStep(range: AddressRange, prot: Prot): TakeDown {
    const { start, end } = this.pages('mprotect.range', range);
    const bits = protBits('mprotect.prot', prot);
    this.requireChangeable('mprotect.range', start, end, true);
    return new TakeDown(this.platform, this, start, end, { verb: 'protect', prot: bits });
  }

  adviseStep(range: AddressRange, advice: Advice): Step {
    const { start, end } = this.pages('madvise.range', range);
    this.requireChangeable('madvise.range', start, end, true);
    return adviseStep(this.platform, this, start, end, advice);
  }

  memcpyStep(dest: number, src: number, bytes: number, options: MemcpyOptions = {}): Memcpy {
    this.requireOpen('hmemcpy');
    requireOptions('hmemcpy', options, MEMCPY_OPTIONS);
    return memcpyStep(this.platform, this, dest, src, bytes, options);
  }

  execStep(): TakeDown {
    this.requireOpen('exec');
    return new TakeDown(this.platform, this, 0, ADDRESS_LIMIT / L.PAGE_BYTES, { verb: 'exec' });
  }

  hintStep(range: AddressRange, advice: HintAdvice, options: HintOptions = {}): Hint | HintMark {
    this.requireOpen('hmadvise');
    requireOptions('hmadvise', options, HINT_OPTIONS);
    return hintStep(this.platform, this, range, advice, options);
  }

  mremapStep(range: AddressRange, options: MremapOptions): Mremap {
    this.pages('mremap.range', range);
    return new Mremap(this.platform, this, range, options);
  }

  /** `spare`: a step of this machine that has ended, to be used again. */
  msyncStep(range: AddressRange, spare?: WriteBack): WriteBack {
    const { start, end } = this.pages('msync.range', range);
    this.requireMapped('msync.range', start, end);
    const parts: FilePart[] = [];
    this.vmas.each(start, end, ({ start: first, flags, object, offset }, from, to) => {
      if (object instanceof MemoryFile && !(flags & VMA_PRIVATE))
        parts.push({ file: object, first: offset + from - first, end: offset + to - first });
    });
    return spare?.of(parts) ?? new WriteBack(this.platform, parts);
  }

  forkStep(options: ForkOptions = {}): Fork {
    this.requireOpen('fork');
    requireOptions('fork', options, FORK_OPTIONS);
    if (options.device !== undefined) requireWord('fork.device', options.device, ['share', 'home', 'omit']);
    return new Fork(this.platform, this, options);
  }

  pinStep(range: AddressRange, options: PinOptions = {}): PinRange {
    const { start, end } = this.pages('pin.range', range);
    requireOptions('pin', options, PIN_OPTIONS);
    if (options.write !== undefined) requireBoolean('pin.write', options.write);
    if (options.longTerm !== undefined) requireBoolean('pin.longTerm', options.longTerm);
    return new PinRange(this.platform, this, start, end, options);
  }

  // -------------------------------------------------------------------------------------------------------------- the end

  /**
   * Ends the space: subscribers hear RELEASE, everything is unmapped, contexts are detached. Any later use is EBADF. Errors: EBUSY while a device flushes; the pages go by themselves when
   * it is done, and `close` has to be called again. Models: `exit_mmap`.
   */
  close(): void {
    if (!this.open) return;
    this.platform.requireIdle('exit');
    // First the pages, so that those on devices need no room at home any more: a detach could fail for want of it.
    this.platform.scheduler.runSync(this.exit());
    for (const mirror of [...this.mirrors]) mirror.detach();
    this.end();
  }

  /** The same, waiting for devices that flush asynchronously. */
  async closeAsync(): Promise<void> {
    if (!this.open) return;
    this.platform.requireOpen('exit');
    await this.platform.scheduler.runAsync(this.exit());
    for (const mirror of [...this.mirrors]) await mirror.detachAsync();
    this.end();
  }

  /** Takes everything down; the second time, it waits for the first to have done so. */
  private exit(): Step {
    if (this.exiting) return new Exited(this.mmapLock);
    this.exiting = true;
    return new TakeDown(this.platform, this, 0, ADDRESS_LIMIT / L.PAGE_BYTES, { verb: 'exit' });
  }

  private end(): void {
    // Whoever closed it as well was quicker.
    if (!this.open) return;
    this.open = false;
    const { core, movements, memories, spaces } = this.platform;
    if (this.hasCpu) core.exports.tlbDestroy(this.tlb);
    core.exports.tableDestroy(this.table);
    // Its number is the next one's.
    spaces.delete(this.id);
    movements?.forget(this.id);
    for (const memory of memories.values()) memory.forget(this.id);
  }

  private runSync(step: Step): void {
    this.requireOpen(step.name);
    this.platform.scheduler.runSync(step);
  }

  /** Runs a step whose result nobody else could have: one that has to be left unfinished comes to nothing. */
  private runHere(step: Step & { abandon(): void }): void {
    try {
      this.runSync(step);
    } catch (error) {
      step.abandon();
      throw error;
    }
  }

  private runAsync(step: Step): Promise<void> {
    this.requireOpen(step.name);
    return this.platform.scheduler.runAsync(step);
  }

  private address(argument: string, addr: number, bytes: number): number {
    this.requireOpen(argument);
    if (!Number.isSafeInteger(addr) || addr < 0 || addr >= ADDRESS_LIMIT)
      throw fail('EINVAL', argument, addr, 'is not a byte address below 2^48');
    if (addr + bytes > ADDRESS_LIMIT) throw fail('EOVERFLOW', argument, addr, `leaves the address space after ${bytes} bytes`);
    return addr;
  }

  private pages(argument: string, range: AddressRange): { start: number; end: number } {
    this.requireOpen(argument);
    requireRange(argument, range);
    return { start: range.start / L.PAGE_BYTES, end: range.end / L.PAGE_BYTES };
  }

  private checked(step: CpuAccess, addr: number): Uint8Array {
    if (step.outcome === 'done') return step.bytes;
    throw accessError(step.name, addr + step.done, step.outcome, this.hostRoom === 0);
  }
}

/** Waits until a space that ends has given everything up. */
export class Exited implements Step {
  readonly name = 'exit';
  private readonly lock: RwLock;

  constructor(lock: RwLock) {
    this.lock = lock;
  }

  next(run: Run): Progress {
    if (!this.lock.tryAcquire(run)) return run.waitFor(this.lock);
    this.lock.release(run);
    return DONE;
  }
}

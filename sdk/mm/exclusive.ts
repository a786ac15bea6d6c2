/**
 * Making a page exclusive to a device, for atomics that the device does in the CPU's memory: nobody else reaches the page until it is revoked.
 *
 * ```
 *   fault for write        in, writable, this space's own: COW broken, on no device, not exclusive to anybody, a huge page split
 *   page lock              from here on nobody revokes or moves it
 *   notifier EXCLUSIVE     every other device drops its translation and flushes
 *   look again             still the same page
 *   exclusive entry        the CPU's translations go; with `cpuReads` they stay, without write
 *   install                the device's own translation
 *   unlock                 a CPU access may revoke it now (see fault.ts)
 * ```
 *
 * Models: `make_device_exclusive`.
 */
import * as L from '../../assembly/layout.ts';
import { DONE, type Progress, type Run, type Step } from '../step/step.ts';
import type { AddressSpace } from './address-space.ts';
import type { NamesOf } from './arguments.ts';
import { CpuFault } from './fault.ts';
import { windowStart } from './huge-window.ts';
import { Invalidation } from './notifier.ts';
import type { Platform } from './platform.ts';
import { reportSplit } from './splits.ts';
import { isHugetlb, PROT_READ, PROT_WRITE, VMA_IO, VMA_PFNMAP, VMA_PRIVATE } from './vma.ts';

/**
 * How it ended. `no mapping`, `permission`: there is nothing to write to. `not supported`: not anonymous memory, or hugetlb. `busy`: somebody takes the page again and
 * again. `no memory`, `bus error`: as for a CPU write.
 */
export type ExclusiveOutcome = 'done' | 'no mapping' | 'permission' | 'not supported' | 'no memory' | 'bus error' | 'busy';

/** Which exclusivity. */
export interface ExclusiveOptions {
  /** The CPU keeps reading the page; only its writes revoke. For a device whose atomics the CPU may watch. Default false. */
  readonly cpuReads?: boolean;
}

export const EXCLUSIVE_OPTIONS: NamesOf<ExclusiveOptions> = { cpuReads: true };

/** Enters the device's translation of the exclusive page. Called while the page is locked; must not call back into the machine. */
export type InstallExclusive = (frame: number) => void;

/** Tries before it gives up with `busy`: each one follows a change that somebody made. */
export const EXCLUSIVE_ATTEMPTS_MAX = 64;

const LOCK = 0;
const LOOK = 1;
const FAULTED = 2;
const FLUSHED = 3;

/** Makes one page exclusive. Reused by its owner. */
export class MakeExclusive implements Step {
  readonly name = 'make exclusive';
  outcome: ExclusiveOutcome = 'done';
  /** @internal Of its machine. */
  readonly platform: Platform;
  private readonly fault: CpuFault;
  private readonly event: Invalidation = new Invalidation();
  private space!: AddressSpace;
  private vpn = 0;
  private owner = 0;
  private cpuReads = false;
  private install!: InstallExclusive;
  /** The mmap lock is this step's, not its caller's. */
  private isLocker = false;
  private frame = L.FRAME_NONE;
  private attempts = 0;
  private phase = LOCK;

  constructor(platform: Platform) {
    this.platform = platform;
    this.fault = new CpuFault(platform);
  }

  /**
   * For page `vpn`. `owner` goes with the EXCLUSIVE event, so that a driver can ignore its own (device index + 1; 0: nobody ignores it). Takes the mmap lock shared, unless the caller
   * holds it. Ensures: when `done`, `install` was called once, and the page is exclusive until it is revoked.
   */
  of(space: AddressSpace, vpn: number, owner: number, { cpuReads = false }: ExclusiveOptions, install: InstallExclusive): this {
    this.outcome = 'done';
    this.space = space;
    this.vpn = vpn;
    this.owner = owner;
    this.cpuReads = cpuReads;
    this.install = install;
    this.isLocker = false;
    this.attempts = 0;
    this.phase = LOCK;
    return this;
  }

  next(run: Run): Progress {
    const { mmapLock } = this.space;
    switch (this.phase) {
      case LOCK:
        if (!run.holds(mmapLock)) {
          if (!mmapLock.tryAcquireShared(run)) return run.waitFor(mmapLock);
          this.isLocker = true;
        }
        this.phase = LOOK;
      // falls through
      case LOOK:
        return this.look(run);
      case FAULTED:
        if (this.fault.outcome !== 'served') return this.end(run, this.fault.outcome);
        this.phase = LOOK;
        return this.look(run);
      default: {
        const { unfinished } = this.event;
        if (unfinished) return run.waitFor(unfinished);
        return this.make(run);
      }
    }
  }

  abort(run: Run): void {
    this.event.close();
    this.unlockPage();
    this.unlock(run);
  }

  private end(run: Run, outcome: ExclusiveOutcome): typeof DONE {
    this.outcome = outcome;
    this.unlock(run);
    return DONE;
  }

  private unlock(run: Run): void {
    if (!this.isLocker) return;
    this.isLocker = false;
    this.space.mmapLock.release(run);
  }

  private unlockPage(): void {
    if (this.frame === L.FRAME_NONE) return;
    this.platform.pageLocks.unlock(this.frame);
    this.frame = L.FRAME_NONE;
  }

  private look(run: Run): Progress {
    const { core, pageLocks } = this.platform;
    const space = this.space;
    const vma = space.vmas.find(this.vpn);
    if (!vma || vma.flags & (VMA_IO | VMA_PFNMAP)) return this.end(run, 'no mapping');
    if (!(vma.prot & PROT_READ) || !(vma.prot & PROT_WRITE)) return this.end(run, 'permission');
    if (!(vma.flags & VMA_PRIVATE) || isHugetlb(vma)) return this.end(run, 'not supported');
    if (++this.attempts > EXCLUSIVE_ATTEMPTS_MAX) return this.end(run, 'busy');
    const high = core.entry(space.table, this.vpn);
    if (!isOwn(high)) {
      this.phase = FAULTED;
      return run.call(this.fault.of(space, this.vpn, true, true));
    }
    if (high & L.ENTRY_ORDER) {
      if (!core.exports.splitHuge(space.table, this.vpn)) {
        if (core.stopReason !== L.STOP_LOCKED) return this.end(run, 'not supported');
        return run.waitFor(pageLocks.wait(core.stopFrame));
      }
      reportSplit(this.platform, space.id, windowStart(this.vpn, high), 'exclusive');
    }
    core.entry(space.table, this.vpn);
    const frame = core.entryLow;
    if (!pageLocks.tryLock(frame)) return run.waitFor(pageLocks.wait(frame));
    this.frame = frame;
    this.phase = FLUSHED;
    space.announce(this.event.set(this.vpn, this.vpn + 1, 'EXCLUSIVE', this.owner, 'exclusive'));
    return this.event.unfinished ? run.waitFor(this.event.unfinished) : this.make(run);
  }

  /** Every other device has flushed. The page may have been forked, or taken by a write to it, meanwhile: then it all begins again. */
  private make(run: Run): Progress {
    const { core, events } = this.platform;
    const { table, id } = this.space;
    const high = core.entry(table, this.vpn);
    const isSame = isOwn(high) && core.entryLow === this.frame;
    const made = isSame && (this.cpuReads ? core.exports.cpuReadsSet(table, this.vpn) : core.exports.exclusiveSet(table, this.vpn));
    this.event.close();
    if (!made) {
      this.unlockPage();
      this.phase = LOOK;
      return this.look(run);
    }
    this.install(this.frame);
    this.unlockPage();
    if (events.heard) {
      const { vpn, owner, cpuReads } = this;
      events.emit({ type: 'page.exclusive', space: id, vpn, owner, cpuReads });
    }
    return this.end(run, 'done');
  }
}

/** Whether an entry is a present, writable page of this space's own. */
function isOwn(high: number): boolean {
  const wanted = L.KIND_PRESENT | L.ENTRY_WRITE | L.ENTRY_ANON_EXCLUSIVE;
  return (high & (L.ENTRY_KIND | L.ENTRY_WRITE | L.ENTRY_ANON_EXCLUSIVE)) === wanted;
}

/**
 * Copying bytes within a space, wherever its pages are: `space.hmemcpy`.
 *
 * ```
 *   first    the destination goes where it should be (`to`), as by a prefetch; what cannot follow is written where it is
 *   then     piece by piece: a piece ends where a page of the source or of the destination does, so that a page of the destination has three at most
 *
 *   source page                          destination page
 *   none, anonymous   zeros              none, or no right to write in its entry: a write fault of the device, or of the CPU
 *   on a device       read there         on a device: written there, the rest of the page as it was
 *   else              a read fault       at home: written
 *
 *   dest   ......dddddddddddddddddd......        a whole page on a device with a copy engine goes through a frame of the host: fetched (toHost), sent (toDevice); from one device to
 *   src    sssssss|ssssssss|ssssssss             another over a link directly (`copy.peer`). Parts of pages, and what has no engine, the core moves at once
 *
 *   a part of a page whose bytes are not in      goes by its engine: the page is withdrawn from everybody, fetched, changed, and sent back; nobody writes to it meanwhile
 *   the machine (external memory)
 * ```
 *
 * Ranges may overlap: the bytes are those that the source had. A piece that cannot be copied does not stop the others, and is in the result; what no mapping has, or gives no right to, is passed in one go. Nobody changes the mappings meanwhile; a page on
 * its way to or from a device is waited for. Models: `hmemcpy`, `gm_memcpy_kind`.
 */
import * as L from '../../assembly/layout.ts';
import { Copies, type CopyGround, type PeerPlace } from '../core/batch.ts';
import { fail } from '../errors.ts';
import { AGAIN, DONE, type Progress, type Run, type Step, type Waitable } from '../step/step.ts';
import type { Ticket } from '../step/ticket.ts';
import type { AddressSpace } from './address-space.ts';
import { ADDRESS_LIMIT, type NamesOf, requireCount } from './arguments.ts';
import type { SpaceMirror } from './attach.ts';
import { type AdvisedDevice, isOfMachine } from './attributes.ts';
import type { CopyDirection, DeviceMemory, MigrationDevice } from './device-memory.ts';
import { CpuFault, type FaultOutcome } from './fault.ts';
import { Hint } from './hint.ts';
import { linkEngine } from './migration-copies.ts';
import { Invalidation } from './notifier.ts';
import type { Platform } from './platform.ts';
import { isAnonymous, PROT_READ, PROT_WRITE, VMA_DEVICE } from './vma.ts';

/** Where the destination is to be. */
export interface MemcpyOptions {
  /** Default: where it is. Models: the `hnid`. */
  readonly to?: AdvisedDevice | 'host';
}

export const MEMCPY_OPTIONS: NamesOf<MemcpyOptions> = { to: true };

/** Why a piece was not copied. `permission`: also of a private range of a device, which is not the CPU's. `no progress`: its page is taken away again and again. */
export type MemcpyReason = Exclude<FaultOutcome, 'served'> | 'copy failed' | 'no progress';

/** Neighbouring pieces that failed for one reason. */
export interface MemcpyError {
  readonly dest: number;
  readonly src: number;
  readonly bytes: number;
  readonly reason: MemcpyReason;
}

/** What became of a copy. */
export interface MemcpyResult {
  readonly status: 'done' | 'partial' | 'failed';
  /** Bytes copied, and those among them by where they were and where they went: H host, D device. */
  readonly bytes: number;
  readonly ways: { readonly H2H: number; readonly H2D: number; readonly D2H: number; readonly D2D: number };
  /** Bytes that went from one device to another directly, over their link. */
  readonly linked: number;
  /** Everything that was not, by ascending address. */
  readonly errors: readonly MemcpyError[];
  /** Pages of the destination that are not where they should be. */
  readonly misplaced: number;
}

/** Looks at the pages of one piece before it is given up. */
const LOOKS_MAX = 64;

/** Those among them after which the page is brought home, and written there, whatever device it should be on. */
const DEVICE_LOOKS_MAX = 8;

const PLACE = 0;
const PLACED = 1;
const LOOK = 2;
const FAULTED = 3;
const FETCH = 4;
const FETCHED = 5;
const MERGED = 6;
const SENT = 7;
const PEER = 8;
const CROSSED = 9;
const LOCKED = 10;

/** The step behind `space.hmemcpy`. */
export class Memcpy implements Step, CopyGround {
  readonly name = 'hmemcpy';
  private readonly platform: Platform;
  private readonly space: AddressSpace;
  private readonly dest: number;
  private readonly src: number;
  private readonly bytes: number;
  private readonly target: SpaceMirror | 'host' | undefined;
  /** From the end: the destination overlaps the source behind its beginning. */
  private readonly backwards: boolean;
  private readonly fault: CpuFault;
  private readonly list: Copies;
  /** Nobody has a translation of the page that is changed in part. */
  private readonly clear: Invalidation = new Invalidation();
  private hint: Hint | undefined;
  private deviceFault: (Step & { readonly outcome: string }) | undefined;
  private device!: MigrationDevice;
  /** Bytes that are behind it, from whichever end. */
  private done = 0;
  /** The piece: its first byte in both ranges, and its length. */
  private at = 0;
  private length = 0;
  private looks = 0;
  /** Bytes from the piece on, whichever way it goes, that the mappings refuse for the same reason. */
  private stretch = 0;
  /** The device may write the page, and has it for its atomics: only a fault of the CPU takes that from it. */
  private isPresent = false;
  /** Room has been made on the host for this piece. */
  private isPressed = false;
  private readonly buffer: Uint8Array = new Uint8Array(L.PAGE_BYTES);
  /** Frames of its two pages; FRAME_NONE: zeros. The locked ones among them, and the frame of the host through which the bytes go. */
  private from = L.FRAME_NONE;
  private to = L.FRAME_NONE;
  private lockedSource = L.FRAME_NONE;
  private lockedTarget = L.FRAME_NONE;
  private bounce = L.FRAME_NONE;
  private ticket: Ticket | undefined;
  private readonly ways = { H2H: 0, H2D: 0, D2H: 0, D2D: 0 };
  private linked = 0;
  private readonly errors: MemcpyError[] = [];
  private misplaced = 0;
  private phase = PLACE;

  constructor(platform: Platform, space: AddressSpace, dest: number, src: number, bytes: number, target: SpaceMirror | 'host' | undefined) {
    this.platform = platform;
    this.space = space;
    this.dest = dest;
    this.src = src;
    this.bytes = bytes;
    this.target = target;
    this.backwards = dest > src && dest < src + bytes;
    this.fault = new CpuFault(platform);
    this.list = new Copies(this);
  }

  /** What became of it. Requires: DONE. */
  get result(): MemcpyResult {
    const { misplaced, linked } = this;
    const ways = { ...this.ways };
    const errors = this.backwards ? [...this.errors].reverse() : [...this.errors];
    const bytes = ways.H2H + ways.H2D + ways.D2H + ways.D2D;
    return { status: errors.length === 0 ? 'done' : bytes > 0 ? 'partial' : 'failed', bytes, ways, linked, errors, misplaced };
  }

  // What a list of copies asks for.

  memoryOf(frame: number): number {
    return this.device.memoryOf(frame);
  }

  pageOf(frame: number): number {
    return this.platform.nodes.pageOf(frame);
  }

  placeOf(frame: number): PeerPlace | undefined {
    const memory = this.memoryWith(frame);
    return memory && { device: memory.device.name, memory: memory.device.memoryOf(frame), page: this.pageOf(frame) };
  }

  copyRun(from: number, to: number, pages: number): void {
    this.platform.core.exports.frameCopy(from, to, pages);
  }

  bytesOf(frame: number, pages: number): Uint8Array {
    const { core } = this.platform;
    const at = core.frameBytes(frame);
    return core.u8.subarray(at, at === 0 ? 0 : at + pages * L.PAGE_BYTES);
  }

  next(run: Run): Progress {
    switch (this.phase) {
      case PLACE:
        this.phase = PLACED;
        if (this.target === undefined) return AGAIN;
        this.hint = new Hint(
          this.platform,
          this.space,
          { start: this.dest, end: this.dest + this.bytes },
          'prefetch',
          this.target === 'host' ? undefined : this.target,
        );
        return run.call(this.hint);
      case PLACED:
        if (this.hint) this.misplaced = this.hint.result.failed;
        this.cut();
        return AGAIN;
      case FAULTED:
        return this.faulted();
      case LOOK:
        return this.look(run);
      default:
        return this.engine(run);
    }
  }

  abort(run: Run): void {
    this.release();
    this.unlock(run);
  }

  private unlock(run: Run): void {
    if (run.holds(this.space.mmapLock)) this.space.mmapLock.release(run);
  }

  // -------------------------------------------------------------------------------------------------------------- pieces

  /** The next piece: as far as neither page ends. */
  private cut(): void {
    const left = this.bytes - this.done;
    this.looks = 0;
    this.isPresent = false;
    this.isPressed = false;
    this.phase = LOOK;
    if (this.backwards) {
      this.length = Math.min(left, ((this.dest + left - 1) % L.PAGE_BYTES) + 1, ((this.src + left - 1) % L.PAGE_BYTES) + 1);
      this.at = left - this.length;
    } else {
      this.at = this.done;
      const { at } = this;
      this.length = Math.min(left, L.PAGE_BYTES - ((this.dest + at) % L.PAGE_BYTES), L.PAGE_BYTES - ((this.src + at) % L.PAGE_BYTES));
    }
  }

  private pieceDone(): typeof AGAIN {
    this.done += this.length;
    this.cut();
    return AGAIN;
  }

  /** `stretch`: the pieces within so many bytes, which all have the same reason. */
  private refuse(reason: MemcpyReason, stretch = this.length): typeof AGAIN {
    this.length = Math.min(stretch, this.bytes - this.done);
    if (this.backwards) this.at = this.bytes - this.done - this.length;
    const last = this.errors.at(-1);
    const piece = { dest: this.dest + this.at, src: this.src + this.at, bytes: this.length, reason };
    if (last?.reason === reason && last.dest + last.bytes === piece.dest)
      this.errors[this.errors.length - 1] = { ...last, bytes: last.bytes + piece.bytes };
    else if (last?.reason === reason && piece.dest + piece.bytes === last.dest)
      this.errors[this.errors.length - 1] = { ...piece, bytes: last.bytes + piece.bytes };
    else this.errors.push(piece);
    return this.pieceDone();
  }

  /** Looks at both pages: when both are where they can be read and written, the piece is copied. */
  private look(run: Run): Progress {
    const { mmapLock } = this.space;
    if (!run.holds(mmapLock) && !mmapLock.tryAcquire(run)) return run.waitFor(mmapLock);
    if (this.done >= this.bytes) return this.finish(run);
    // What a space had whose memory has been reaped is not zeros: it is gone.
    if (this.space.isReaped) return this.refuse('bus error', Infinity);
    const refused = this.refused();
    if (refused) return this.refuse(refused, this.stretch);
    if (++this.looks > LOOKS_MAX) return this.refuse('no progress');
    const src = Math.floor((this.src + this.at) / L.PAGE_BYTES);
    const dest = Math.floor((this.dest + this.at) / L.PAGE_BYTES);
    return this.target_(run, dest) ?? this.source(run, src) ?? this.copy(run, dest);
  }

  /** Why the mappings do not allow the piece, and those next to it: `stretch` bytes. Undefined: they allow it. */
  private refused(): MemcpyReason | undefined {
    this.stretch = Infinity;
    return this.refusedAt(this.dest + this.at, PROT_WRITE) ?? this.refusedAt(this.src + this.at, PROT_READ);
  }

  /** The same of the piece at this address; nothing changes before the end of the mapping, or of the hole. */
  private refusedAt(addr: number, right: number): MemcpyReason | undefined {
    const { vmas } = this.space;
    const vpn = Math.floor(addr / L.PAGE_BYTES);
    const next = vmas.next(vpn);
    const vma = next && next.start <= vpn ? next : undefined;
    if (this.backwards) {
      const start = vma ? vma.start : (vmas.previous(vpn)?.end ?? 0);
      this.stretch = Math.min(this.stretch, addr + this.length - start * L.PAGE_BYTES);
    } else {
      const end = vma ? vma.end : next ? next.start : Infinity;
      this.stretch = Math.min(this.stretch, end * L.PAGE_BYTES - addr);
    }
    if (!vma) return 'no mapping';
    return vma.prot & right && !(vma.flags & VMA_DEVICE) ? undefined : 'permission';
  }

  /** Finds the frame to be written; otherwise what has to happen first. */
  private target_(run: Run, vpn: number): Progress | undefined {
    const { core, pageLocks } = this.platform;
    const high = core.entry(this.space.table, vpn);
    const kind = high & L.ENTRY_KIND;
    this.to = core.entryLow;
    if (kind === L.KIND_MIGRATION) return this.waitUnlocked(run, pageLocks.wait(this.to));
    const isThere = kind === L.KIND_PRESENT || kind === L.KIND_DEVICE_PRIVATE;
    if (isThere && high & L.ENTRY_WRITE && !(high & L.ENTRY_CPU_READS)) return undefined;
    const owner = kind === L.KIND_DEVICE_PRIVATE ? this.space.mirrorOf(this.platform.nodes.of(this.to).owner) : undefined;
    // Others may take the page from the device as often as it is brought; from a fault of the CPU, in which the lock is kept, nobody does.
    const device =
      this.isPresent || this.looks > DEVICE_LOOKS_MAX ? undefined : (owner ?? (this.target === 'host' ? undefined : this.target));
    this.phase = FAULTED;
    if (!device) {
      this.deviceFault = undefined;
      return run.call(this.fault.of(this.space, vpn, true, true));
    }
    this.unlock(run);
    this.deviceFault = device.faultStep(vpn * L.PAGE_BYTES, 'write');
    return run.call(this.deviceFault);
  }

  /** Finds the frame to be read. */
  private source(run: Run, vpn: number): Progress | undefined {
    const { core, pageLocks } = this.platform;
    const kind = core.entry(this.space.table, vpn) & L.ENTRY_KIND;
    this.from = core.entryLow;
    if (kind === L.KIND_MIGRATION) return this.waitUnlocked(run, pageLocks.wait(this.from));
    if (kind === L.KIND_PRESENT || kind === L.KIND_DEVICE_PRIVATE) return undefined;
    if (kind === L.KIND_NONE && isAnonymous(this.space.vmas.find(vpn)!)) {
      this.from = L.FRAME_NONE;
      return undefined;
    }
    this.phase = FAULTED;
    this.deviceFault = undefined;
    return run.call(this.fault.of(this.space, vpn, false, true));
  }

  /** Who waits for others to finish holds no lock that they might need. */
  private waitUnlocked(run: Run, what: Waitable): Progress {
    this.unlock(run);
    return run.waitFor(what);
  }

  private faulted(): Progress {
    this.phase = LOOK;
    const outcome = this.deviceFault ? this.deviceFault.outcome : this.fault.outcome;
    this.isPresent = outcome === 'present';
    switch (outcome) {
      case 'no mapping':
      case 'permission':
      case 'no memory':
      case 'bus error':
        return this.refuse(outcome);
      default:
        return AGAIN;
    }
  }

  // -------------------------------------------------------------------------------------------------------------- bytes

  private copy(run: Run, dest: number): Progress {
    const { core } = this.platform;
    const link = this.linkOf();
    if (link !== 'core' && (this.engineOf(this.from) || this.engineOf(this.to))) {
      this.phase = link && this.length === L.PAGE_BYTES ? PEER : LOCKED;
      return this.engine(run);
    }
    const to = core.frameBytes(this.to);
    const from = this.from === L.FRAME_NONE ? 0 : core.frameBytes(this.from);
    if (to === 0 || (from === 0 && this.from !== L.FRAME_NONE)) return this.refuse('bus error');
    const into = to + ((this.dest + this.at) % L.PAGE_BYTES);
    if (from === 0) core.u8.fill(0, into, into + this.length);
    else {
      const begin = from + ((this.src + this.at) % L.PAGE_BYTES);
      core.u8.copyWithin(into, begin, begin + this.length);
    }
    if (link === 'core') this.linked += this.length;
    this.written(dest);
    return this.pieceDone();
  }

  /** Who copies from the one page to the other over a link; undefined: there is none, or nobody can. */
  private linkOf(): MigrationDevice | 'core' | undefined {
    const { links } = this.platform;
    const from = links.list.length === 0 || this.from === L.FRAME_NONE ? undefined : this.memoryWith(this.from);
    const to = from && this.memoryWith(this.to);
    return from && to && linkEngine(this.platform, from, to, this.space);
  }

  /** The page has been written: its entries say so, and the piece counts. */
  private written(vpn: number): void {
    const { core, nodes } = this.platform;
    core.exports.tableMark(this.space.table, vpn, L.ENTRY_ACCESSED | L.ENTRY_DIRTY);
    const { owner } = nodes.of(this.to);
    if (owner > 0) this.space.mirrorOf(owner)?.markAtomic(vpn);
    // No entry of the CPU says so, and perhaps none of the device.
    if (owner > 0 && this.platform.tier) core.exports.backingDrop(this.to);
    const wasOn = this.from !== L.FRAME_NONE && nodes.of(this.from).owner > 0;
    this.ways[wasOn ? (owner > 0 ? 'D2D' : 'D2H') : owner > 0 ? 'H2D' : 'H2H'] += this.length;
  }

  /** The device whose engine copies from or to a frame: a whole page, or one that nothing else reaches. */
  private engineOf(frame: number): MigrationDevice | undefined {
    const memory = frame === L.FRAME_NONE ? undefined : this.memoryWith(frame);
    if (!memory?.device.hasEngine(this.space)) return undefined;
    return this.length === L.PAGE_BYTES || memory.node.bytesIn !== 'backed' ? memory.device : undefined;
  }

  private memoryWith(frame: number): DeviceMemory | undefined {
    return this.platform.memories.get(this.platform.core.nodeOf(frame));
  }

  /** By way of the host: the source is fetched, then what of the destination stays, then it is sent. The pages are locked, so that nobody takes them away; one that is changed in part is withdrawn from everybody first. */
  private engine(run: Run): Progress {
    const { core, host } = this.platform;
    if (this.ticket?.state === 'pending') return run.waitFor(this.ticket);
    if (this.ticket?.state === 'failed') return this.broken('copy failed');
    this.ticket = undefined;
    const inSource = (this.src + this.at) % L.PAGE_BYTES;
    const inDest = (this.dest + this.at) % L.PAGE_BYTES;
    switch (this.phase) {
      case PEER: {
        const waits = this.lockPages(run);
        if (waits !== undefined) return waits;
        const device = this.linkOf();
        this.phase = device === undefined || device === 'core' ? LOCKED : CROSSED;
        // A link that was cut meanwhile leaves the way over the host.
        return this.phase === LOCKED ? AGAIN : this.transfer('peer', device as MigrationDevice, this.from, this.to);
      }
      case CROSSED:
        if (!this.isStill()) return this.lookAgain();
        this.linked += this.length;
        return this.landed();
      case LOCKED: {
        const waits = this.lockPages(run);
        if (waits !== undefined) return waits;
        this.phase = FETCH;
        if (this.length < L.PAGE_BYTES && this.engineOf(this.to)) {
          const vpn = Math.floor((this.dest + this.at) / L.PAGE_BYTES);
          this.space.announce(this.clear.set(vpn, vpn + 1, 'CLEAR', undefined, 'hmemcpy'));
        }
      }
      // falls through
      case FETCH: {
        const { unfinished } = this.clear;
        if (unfinished) return run.waitFor(unfinished);
        this.bounce = host.take();
        if (this.bounce === L.FRAME_NONE) {
          const { tier } = this.platform;
          if (!tier || this.isPressed) return this.broken('no memory');
          // The host is full: something of it goes to the second tier.
          this.isPressed = true;
          return run.call(tier.roomStep(1));
        }
        this.phase = FETCHED;
        if (this.engineOf(this.from)) return this.transfer('to-host', this.engineOf(this.from)!, this.from, this.bounce);
      }
      // falls through
      case FETCHED: {
        const frame = this.engineOf(this.from) ? this.bounce : this.from;
        const page = frame === L.FRAME_NONE ? 0 : core.frameBytes(frame);
        if (page === 0 && frame !== L.FRAME_NONE) return this.broken('bus error');
        if (frame === L.FRAME_NONE) this.buffer.fill(0, 0, this.length);
        else core.bytesArea.fetch(page + inSource, this.buffer, this.length);
        this.phase = MERGED;
        const device = this.engineOf(this.to);
        if (!device) return this.land(core.frameBytes(this.to) + inDest);
        if (this.length < L.PAGE_BYTES) return this.transfer('to-host', device, this.to, this.bounce);
      }
      // falls through
      case MERGED:
        this.put(core.frameBytes(this.bounce) + inDest);
        this.phase = SENT;
        return this.transfer('to-device', this.engineOf(this.to)!, this.bounce, this.to);
      default:
        return this.isStill() ? this.landed() : this.lookAgain();
    }
  }

  /**
   * Whether the destination is the page that was looked at, and may be written. The lock of the space keeps most others away, but not who reaps it, shortens a file, or stores its pages: what lands after that
   * is lost. On a device its bytes are there already.
   */
  private isStill(): boolean {
    const { core, nodes } = this.platform;
    if (this.space.isReaped) return false;
    const high = core.entry(this.space.table, Math.floor((this.dest + this.at) / L.PAGE_BYTES));
    const kind = high & L.ENTRY_KIND;
    if ((kind !== L.KIND_PRESENT && kind !== L.KIND_DEVICE_PRIVATE) || core.entryLow !== this.to) return false;
    return nodes.of(this.to).owner > 0 || (high & L.ENTRY_WRITE) !== 0;
  }

  private lookAgain(): typeof AGAIN {
    this.release();
    this.phase = LOOK;
    return AGAIN;
  }

  /** Locks both pages, or says what to wait for: with nothing locked, and looking again then. */
  private lockPages(run: Run): Progress | undefined {
    if (this.lock(this.from) && this.lock(this.to)) return undefined;
    const frame = this.lock(this.from) ? this.to : this.from;
    this.release();
    this.phase = LOOK;
    return this.waitUnlocked(run, this.platform.pageLocks.wait(frame));
  }

  /** False: somebody else has locked it. */
  private lock(frame: number): boolean {
    const { core, pageLocks } = this.platform;
    if (frame === L.FRAME_NONE || this.isOfZeros(frame)) return true;
    const head = core.headOf(frame);
    if (head === this.lockedSource || head === this.lockedTarget) return true;
    if (!pageLocks.tryLock(frame)) return false;
    // Reaping asks for no lock, at home as on a device: the frame stays a frame.
    core.exports.frameGet(head);
    if (this.lockedSource === L.FRAME_NONE) this.lockedSource = head;
    else this.lockedTarget = head;
    return true;
  }

  /** Ends the lock of a frame, if it is one. */
  private free(frame: number): void {
    if (frame === L.FRAME_NONE) return;
    this.platform.pageLocks.unlock(frame);
    this.platform.core.exports.framePut(frame);
  }

  /** It goes nowhere, and is nobody's. */
  private isOfZeros(frame: number): boolean {
    const { nodes, host } = this.platform;
    return nodes.of(frame).owner === 0 && !host.holds(frame);
  }

  private transfer(direction: CopyDirection, device: MigrationDevice, from: number, to: number): Progress {
    this.device = device;
    const list = this.list.clear();
    list.add(from, to);
    this.ticket = device.copy(direction, this.space, list) ?? undefined;
    return AGAIN;
  }

  private land(into: number): Progress {
    if (!this.isStill()) return this.lookAgain();
    this.put(into);
    return this.landed();
  }

  private put(into: number): void {
    this.platform.core.u8.set(this.length === L.PAGE_BYTES ? this.buffer : this.buffer.subarray(0, this.length), into);
  }

  private landed(): Progress {
    this.written(Math.floor((this.dest + this.at) / L.PAGE_BYTES));
    this.release();
    return this.pieceDone();
  }

  private broken(reason: MemcpyReason): Progress {
    this.release();
    return this.refuse(reason);
  }

  private release(): void {
    this.ticket = undefined;
    this.clear.close();
    this.free(this.lockedSource);
    this.free(this.lockedTarget);
    this.lockedSource = L.FRAME_NONE;
    this.lockedTarget = L.FRAME_NONE;
    if (this.bounce !== L.FRAME_NONE) this.platform.core.exports.framePut(this.bounce);
    this.bounce = L.FRAME_NONE;
    this.platform.settleFreed();
  }

  private finish(run: Run): typeof DONE {
    this.unlock(run);
    const { events } = this.platform;
    if (events.heard) {
      const { dest, src, linked, misplaced } = this;
      const { bytes, ways, errors } = this.result;
      const failed = this.bytes - bytes;
      events.emit({
        type: 'bytes.copied',
        space: this.space.id,
        dest,
        src,
        bytes,
        failed,
        pieces: errors.length,
        ...ways,
        linked,
        misplaced,
      });
    }
    return DONE;
  }
}

/** The step for a copy. Throws EINVAL for bytes that are not in the address space, or a device that is not attached to it. */
export function memcpyStep(
  platform: Platform,
  space: AddressSpace,
  dest: number,
  src: number,
  bytes: number,
  { to }: MemcpyOptions,
): Memcpy {
  requireCount('hmemcpy.bytes', bytes, 1, ADDRESS_LIMIT);
  for (const [name, addr] of [
    ['dest', dest],
    ['src', src],
  ] as const) {
    if (!Number.isSafeInteger(addr) || addr < 0 || addr >= ADDRESS_LIMIT)
      throw fail('EINVAL', `hmemcpy.${name}`, addr, 'is not a byte address below 2^48');
    if (addr + bytes > ADDRESS_LIMIT) throw fail('EOVERFLOW', `hmemcpy.${name}`, addr, `leaves the address space after ${bytes} bytes`);
  }
  if (to === undefined || to === 'host') return new Memcpy(platform, space, dest, src, bytes, to);
  if (!isOfMachine(to, platform)) throw fail('EINVAL', 'hmemcpy.to', to, "is not a device of this machine, or 'host'");
  const target = space.mirrorOf(to.owner);
  if (!target) throw fail('EINVAL', 'hmemcpy.to', to.name, 'is not attached to this address space');
  if (target.device.memories.length === 0) throw fail('EOPNOTSUPP', 'hmemcpy.to', to.name, 'has no memory of its own');
  return new Memcpy(platform, space, dest, src, bytes, target);
}

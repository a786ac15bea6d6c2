/**
 * What every operation of a machine stands on: the core, the nodes, the event stream, the scheduler, the tickets. The machine owns one and
 * hands it to its spaces and devices.
 */
import * as L from '../../assembly/layout.ts';
import type { Core, FreedFrames } from '../core/abi.ts';
import { Events } from '../events/stream.ts';
import { fail } from '../errors.ts';
import { Lock } from '../step/lock.ts';
import { method } from '../step/method.ts';
import { Scheduler } from '../step/runner.ts';
import { TicketBook } from '../step/ticket.ts';
import type { AddressSpace } from './address-space.ts';
import type { DeviceMemory } from './device-memory.ts';
import { HUGE_PAGES } from './huge-window.ts';
import { Links } from './links.ts';
import { Movements } from './movements.ts';
import { type Node, Nodes } from './node.ts';
import { PageLocks } from './page-lock.ts';
import type { SecondTier } from './second-tier.ts';
import { Transitions } from './transitions.ts';
import type { WriteBack } from './write-back.ts';

/** Frames of zeros: a huge page of them. */
export const ZERO_FRAMES: number = 2 ** L.HUGE_ORDER;

/** Whoever can put a flush off. */
interface DeferredFlush {
  flushDeferred(): void;
}

const NO_WORDS: Uint32Array = new Uint32Array(0);

/** The common ground of one machine's spaces, devices and steps. */
export class Platform implements FreedFrames {
  readonly core: Core;
  readonly nodes: Nodes;
  readonly events: Events = new Events(method<Platform, 'addStray'>(this, 'addStray'));
  readonly tickets: TicketBook = new TicketBook(this.events);
  readonly scheduler: Scheduler;
  readonly pageLocks: PageLocks;
  /** The lock of its one area for the accesses of a job. */
  readonly jobLock: Lock = new Lock('job', 0);
  /** Errors that had no caller: bugs of steps, failures of operations that were left parked. */
  readonly stray: unknown[] = [];
  readonly host: Node;
  /** Where pages of the host go when it is full; undefined: nowhere. */
  tier: SecondTier | undefined = undefined;
  /** Address spaces by the index of their home table. */
  readonly spaces: Map<number, AddressSpace> = new Map();
  /** Who reaches whom without the host. */
  readonly links: Links = new Links();
  /** What has moved when; undefined until a device has a policy that asks for it. */
  movements: Movements | undefined = undefined;
  /** Device memories by node index. */
  readonly memories: Map<number, DeviceMemory> = new Map();
  /** Devices of the machine, in the order of their coming. `sdk/gmem` knows what they are. */
  readonly devices: object[] = [];
  /** Who has put a flush off. */
  private readonly deferred: Set<DeferredFlush> = new Set();
  /** Lists of frames, first ones of huge frames, that are on their way home to make room. */
  readonly evicting: (readonly number[])[] = [];
  /** @internal For `Places`. */
  placed: Float64Array = new Float64Array(0);
  /** @internal Of a range fault that has ended. */
  spareWords: Uint32Array = NO_WORDS;
  /** @internal Write-back that has ended. */
  spareWriteBack: WriteBack | undefined = undefined;
  /** Files that were made. */
  lastFile = 0;
  private running = true;

  /** `framesMax`: frame numbers that its physical addresses can have. */
  constructor(core: Core, dramFrames: number, checked: boolean | 'states', framesMax?: number) {
    this.core = core;
    this.nodes = new Nodes(core, framesMax);
    this.scheduler = new Scheduler({ checked: checked !== false, report: method<Platform, 'addStray'>(this, 'addStray') });
    if (checked === 'states') this.scheduler.watch = method<Transitions, 'look'>(new Transitions(this), 'look');
    this.events.gate = this.scheduler;
    this.scheduler.idle = method<Platform, 'flushDeferred'>(this, 'flushDeferred');
    this.pageLocks = new PageLocks(core);
    // The page of zeros, and the huge one of which it is the first, stand on a node of their own: they are nobody's, and counted nowhere. Their bytes are never written.
    const zero = this.nodes.add({ name: 'zero', kind: 'host', frames: ZERO_FRAMES, bytesIn: 'backed', allocator: 'driver', owner: 0 });
    core.setHeader(L.H_ZERO_FRAME, zero.base);
    if (core.plan.bodiless) core.setHeader(L.H_BLANK, zero.bytesAt);
    this.host = this.nodes.add({ name: 'dram', kind: 'host', frames: dramFrames, bytesIn: 'backed', allocator: 'core', owner: 0 });
  }

  /** Whether nobody wants to know of a page that moves but those that it concerns: no listener, no memory of movements, no second tier, no eviction that waits for an answer. */
  get isUnobserved(): boolean {
    return !this.events.heard && this.tier === undefined && this.movements === undefined && this.pageLocks.kept.size === 0;
  }

  /** From now on what moves is remembered. */
  rememberMovements(): void {
    this.movements ??= new Movements();
  }

  /** Keeps an error that has no caller. */
  addStray(error: unknown): void {
    this.stray.push(error);
  }

  /** Keeps a warning of the notifiers: a driver's bug that is passed over. */
  warn(message: string): void {
    this.stray.push(new Error(message));
  }

  get open(): boolean {
    return this.running;
  }

  /** Throws EBADF once the machine is closed. */
  requireOpen(what: string): void {
    if (!this.running) throw fail('EBADF', what, 'machine', 'has been closed');
  }

  /** Throws EBADF once the machine is closed, EINVAL from inside an operation of it. For verbs that are no step. */
  requireIdle(verb: string): void {
    this.requireOpen(verb);
    this.scheduler.requireOutside('verb', verb);
  }

  /** Ends everything, leaving the memory to its next use. Throws EINVAL from inside an operation. */
  retire(): void {
    if (!this.running) return;
    this.scheduler.requireOutside('verb', 'close');
    this.running = false;
    this.scheduler.close();
  }

  /** Ends everything: unfinished operations are aborted, the memory is let go. */
  close(): void {
    if (!this.running) return;
    this.retire();
    this.core.close();
  }

  /** A flush is put off: it is made when an operation must wait and nothing else can go on, at the latest when this call into the machine has ended. */
  deferFlush(flusher: DeferredFlush): void {
    if (this.deferred.has(flusher)) return;
    this.deferred.add(flusher);
    this.flushSoon();
  }

  /** @internal A machine that was saved with flushes put off makes them when its first call has ended. */
  resume(): void {
    if (this.deferred.size > 0) this.flushSoon();
  }

  private flushSoon(): void {
    void Promise.resolve().then(method<Platform, 'flushWhenQuiet'>(this, 'flushWhenQuiet'));
  }

  /** Makes the flushes that were put off. Returns whether there were some. */
  flushDeferred(): boolean {
    if (this.deferred.size === 0) return false;
    const flushers = [...this.deferred];
    this.deferred.clear();
    const outer = this.scheduler.beginCall('a deferred flush');
    try {
      for (const flusher of flushers) flusher.flushDeferred();
    } finally {
      this.scheduler.endCall(outer);
    }
    return true;
  }

  flushWhenQuiet(): void {
    if (this.running && this.scheduler.isQuiet) this.flushDeferred();
  }

  /** Tells drivers of the frames that the last core call freed. */
  settleFreed(): void {
    if (!this.core.hasFreed) return;
    const outer = this.scheduler.beginCall('phys.freePage');
    try {
      this.core.drainFreed(this);
    } finally {
      this.scheduler.endCall(outer);
    }
  }

  /** @internal Words for a range fault, whatever they are: no fewer than `count`. */
  takeWords(count: number): Uint32Array {
    const words = this.spareWords;
    if (words.length < count) return new Uint32Array(count);
    this.spareWords = NO_WORDS;
    return words;
  }

  /** @internal A frame of a driver has come free: its memory is told. */
  freed(frame: number, pages: number): void {
    this.memories.get(this.core.nodeOf(frame))?.freed(frame, pages);
  }

  /** @internal The same of many: most often of one memory. */
  freedMany(list: Uint32Array, count: number): void {
    let memory: DeviceMemory | undefined;
    for (let i = 0; i < count; i++) {
      const frame = list[i]! & ~L.FREED_HUGE;
      if (!memory?.node.holds(frame)) memory = this.memories.get(this.core.nodeOf(frame));
      memory?.freed(frame, list[i]! & L.FREED_HUGE ? HUGE_PAGES : 1);
    }
  }
}

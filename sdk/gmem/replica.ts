/**
 * Copies of pages that a device keeps in its memory: many may read a page, each from a copy of its own, as long as nobody writes it.
 *
 * ```
 *   home entry      present, on the host, without write: ENTRY_CPU_READS, ENTRY_REPLICATED      the one truth, and one reader: the CPU
 *   context A       translation, without write   ->  frame of A's memory, FRAME_REPLICA         a reader
 *   context B       translation, without write   ->  frame of B's memory, FRAME_REPLICA         a reader
 *   context C       translation, without write   ->  the host's frame                           a reader without a copy
 *
 *   write, whosever   CLEAR to all: translations withdrawn, copies parted from the page;  every flush awaited;  write
 * ```
 *
 * A copy goes with its translation: whatever withdraws that (`Context.withdraw`) drops it, and nothing is copied. Its frame is free when the flush has ended, since until then the device may read it.
 * Before the home entry changes in any way its pages are announced, so no copy outlives what it is a copy of; the core's self-check compares the bytes.
 *
 * Models: read duplication (`UVM_ENABLE_READ_DUPLICATION`), the hint that GMEM's `gm_fault_hint` was to have.
 */
import type { Ranges } from '../core/batch.ts';
import { PageMap } from '../core/page-map.ts';
import type { ReplicaCause } from '../events/cause.ts';
import type { Platform } from '../mm/platform.ts';
import { DONE, type Progress, type Run, type Step } from '../step/step.ts';
import type { Ticket } from '../step/ticket.ts';
import type { DeviceMirror } from './device-mirror.ts';
import type { OwnMemory } from './own-memory.ts';

/** Gives frames up when a flush has ended. Nobody waits for it. */
export class FreeReplicas implements Step {
  readonly name = 'free replicas';
  private readonly platform: Platform;
  private readonly flush: Ticket;
  private readonly frames: readonly number[];
  private readonly parting: Map<number, Ticket>;

  constructor(platform: Platform, flush: Ticket, frames: readonly number[], parting: Map<number, Ticket>) {
    this.platform = platform;
    this.flush = flush;
    this.frames = frames;
    this.parting = parting;
  }

  next(run: Run): Progress {
    if (this.flush.state === 'pending') return run.waitFor(this.flush);
    for (const frame of this.frames) this.parting.delete(frame);
    putFrames(this.platform, this.frames, this.frames.length);
    return DONE;
  }
}

/** The copies of one context, by page. */
export class Replicas {
  private readonly platform: Platform;
  private readonly mirror: DeviceMirror;
  /** Oldest first. */
  private readonly frames: PageMap = new PageMap();
  /** Frames that are dropped now, the first `parted` of the list. */
  private readonly gone: number[] = [];
  private parted = 0;
  /** Frames of copies that were dropped, and the flushes that they wait for. */
  readonly parting: Map<number, Ticket> = new Map();

  constructor(platform: Platform, mirror: DeviceMirror) {
    this.platform = platform;
    this.mirror = mirror;
  }

  get size(): number {
    return this.frames.size;
  }

  /** Frame of the copy of a page. */
  at(vpn: number): number | undefined {
    return this.frames.get(vpn);
  }

  /** The context has a copy of page `vpn`, whose original is `original`. Requires: `duplicateSet` of that page, the same bytes. The frame's one reference goes over. */
  add(vpn: number, frame: number, original: number, isKept: boolean): void {
    const { core, events, nodes } = this.platform;
    const { space, name: device } = this.mirror;
    core.exports.replicaSet(frame, original, space.table);
    this.frames.set(vpn, frame);
    events.countReplicated(isKept);
    if (events.heard) events.emit({ type: 'page.replicated', space: space.id, device, vpn, node: nodes.of(frame).name, isKept });
  }

  /** Translations of these pages have been released; `flush` is not finished. What the context has copies of among them, it has not any more. */
  drop(ranges: Ranges, flush: Ticket | undefined, cause: ReplicaCause): void {
    const { frames } = this;
    this.parted = 0;
    if (ranges.pages > frames.size) {
      for (let at = frames.next(0); at >= 0; at = frames.next(at + 1))
        if (covers(ranges, frames.pageAt(at))) this.part(frames.pageAt(at), frames.valueAt(at), cause);
    } else {
      for (let i = 0; i < ranges.count; i++) {
        const end = ranges.start(i) + ranges.length(i);
        for (let vpn = ranges.start(i); vpn < end; vpn++) {
          const frame = frames.get(vpn);
          if (frame !== undefined) this.part(vpn, frame, cause);
        }
      }
    }
    if (this.parted === 0) return;
    if (flush?.state === 'pending') {
      const gone = this.gone.slice(0, this.parted);
      for (const frame of gone) this.parting.set(frame, flush);
      this.platform.scheduler.spawn(new FreeReplicas(this.platform, flush, gone, this.parting));
    } else putFrames(this.platform, this.gone, this.parted);
  }

  /** Puts the copies that are in `memory` into `frames` from index `count` on, oldest first, spared ones left out, until there are `most`; returns how many there are. */
  framesIn(memory: OwnMemory, frames: number[], count: number, most: number): number {
    const { frames: copies } = this;
    let found = count;
    for (let at = copies.next(0); at >= 0 && found < most; at = copies.next(at + 1)) {
      const frame = copies.valueAt(at);
      if (memory.node.holds(frame) && !memory.spared.has(frame)) frames[found++] = frame;
    }
    return found;
  }

  /** Puts the pages of these copies into `pages`, ascending. */
  pagesOf(frames: PageMap, pages: number[]): void {
    const { frames: copies } = this;
    let found = 0;
    for (let at = copies.next(0); at >= 0 && found < frames.size; at = copies.next(at + 1))
      if (frames.has(copies.valueAt(at))) pages[found++] = copies.pageAt(at);
    pages.length = found;
    if (found > 1) pages.sort(ascending);
  }

  private part(vpn: number, frame: number, cause: ReplicaCause): void {
    const { core, events } = this.platform;
    const { space, name: device } = this.mirror;
    this.frames.delete(vpn);
    core.exports.replicaPart(frame);
    this.gone[this.parted++] = frame;
    events.counters.replicas.dropped++;
    if (events.heard) events.emit({ type: 'replica.dropped', space: space.id, device, vpn, cause });
  }
}

function ascending(a: number, b: number): number {
  return a - b;
}

function covers(ranges: Ranges, vpn: number): boolean {
  for (let i = 0; i < ranges.count; i++) if (vpn >= ranges.start(i) && vpn < ranges.start(i) + ranges.length(i)) return true;
  return false;
}

/** The first `count` frames are given up. */
function putFrames(platform: Platform, frames: readonly number[], count: number): void {
  for (let i = 0; i < count; i++) {
    platform.core.exports.framePut(frames[i]!);
    platform.settleFreed();
  }
}

/**
 * The device with memory of its own. Its driver serves a sorted batch of faults by migrating the granule around each into device memory,
 * and makes room by sending whole chunks home. Models: `nouveau_svm_fault` and `nouveau_dmem`.
 */
import { ADDRESS_END } from './access.ts';
import { type MergedFault, mergedFault, recordsByPage } from './batch.ts';
import type { ModelContext, ModelDevice, Service } from './context.ts';
import { type Counters, countCopied } from './counters.ts';
import { faultCause, moveHome, resolve, sendHome } from './fault.ts';
import { type Frame, type FrameOwner, HOST_NODE, type HostNode, hostMemoryExhausted, PAGE_BYTES } from './frame.ts';
import type { FaultRecord } from './lanes.ts';
import { checkRange, type ModelSpace } from './space.ts';
import { granuleBlock, type Vma } from './vma.ts';
import { type Chunk, Vram, type VramFrame } from './vram.ts';

export interface NouveauOptions {
  name: string;
  vramPages: number;
  /** Pages that migrate together: 1, 16 or 512. */
  granulePages: number;
  /** Records that the fault buffer holds. */
  faultEntries: number;
}

export class ModelNouveau implements ModelDevice, FrameOwner {
  readonly name: string;
  readonly node: string;
  readonly granulePages: number;
  readonly faultEntries: number;
  readonly vram: Vram;
  readonly #host: HostNode;
  readonly #counters: Counters;

  constructor(options: NouveauOptions, host: HostNode, counters: Counters) {
    this.name = options.name;
    this.node = `${options.name}.vram`;
    this.granulePages = options.granulePages;
    this.faultEntries = options.faultEntries;
    const count = { peak: 0 };
    this.vram = new Vram(this, options.vramPages, count);
    this.#host = host;
    this.#counters = counters;
    counters.frames[this.node] = count;
    counters.migrated[HOST_NODE] ??= {};
    counters.migrated[HOST_NODE][this.node] = { pages: 0, bytes: 0 };
    counters.migrated[this.node] = { [HOST_NODE]: { pages: 0, bytes: 0 } };
  }

  /** One batch: merged faults by ascending page, until a faulting page gets no frame; that one and the rest are deferred. */
  serve(context: ModelContext, records: readonly FaultRecord[]): Service {
    const { space } = context;
    const pages = recordsByPage(records);
    const service: Service = { served: 0, cancelled: new Set() };
    this.vram.protected.clear();
    this.#counters.detail.coalesced += records.length - pages.length;
    for (let i = 0; i < pages.length; i++) {
      this.#protect(space, pages[i]!);
      const fault = mergedFault(space, pages[i]!, service.cancelled);
      if (fault !== undefined && context.permits(fault.vpn, fault.write)) {
        this.#counters.detail.coalesced += 1;
      } else if (fault === undefined || this.#place(context, fault)) {
        service.served += 1;
      } else {
        this.#counters.detail.deferred += pages.length - i;
        break;
      }
    }
    return service;
  }

  /** The verb: every none, zero or host page of the range, one migration for each VMA part that allows any access. */
  migrate(context: ModelContext, vpn: number, pages: number): number {
    checkRange(vpn, pages);
    this.vram.protected.clear();
    let moved = 0;
    for (const part of context.space.vmas.parts(vpn, vpn + pages)) {
      if (part.prot === 'none') continue;
      const came = this.#moveIn(context, part);
      moved += came.moved;
      if (came.full) break;
    }
    return moved;
  }

  /** The verb the other way: what of the range is here goes home, one migration for each VMA part. Returns how many pages. */
  migrateHome(context: ModelContext, vpn: number, pages: number): number {
    checkRange(vpn, pages);
    let moved = 0;
    for (const part of context.space.vmas.parts(vpn, vpn + pages)) moved += moveHome(context.space, this, part).size;
    return moved;
  }

  /** Sends every page of a space home: for each VMA one migration, from the first such page to the end. False: some had to stay. */
  leave(space: ModelSpace): boolean {
    for (const part of space.vmas.parts(0, ADDRESS_END / PAGE_BYTES)) {
      const first = space.mapped(part.start, part.end).find((vpn) => space.pages.get(vpn)!.frame.owner === this);
      if (first !== undefined) moveHome(space, this, { start: first, end: part.end });
    }
    return ![...space.pages.values()].some(({ frame }) => frame.owner === this);
  }

  /** Sends the pages of `chunks` chunks home, the least recently allocated-into first; empty chunks are passed over. Returns how many. */
  evict(chunks: number): number {
    const victims = this.vram.occupied().slice(0, chunks);
    for (const chunk of victims) this.#evict(chunk);
    return victims.length;
  }

  evictAll(): number {
    return this.evict(this.vram.chunks.length);
  }

  release(frame: Frame): void {
    this.vram.release(frame as VramFrame);
  }

  /** Serves one fault that the VMA allows and the device table does not. False: the page needs a frame and there is none. */
  #place(context: ModelContext, fault: MergedFault): boolean {
    const { space } = context;
    const { vpn, write } = fault;
    const vma = space.vmas.find(vpn)!;
    const entry = space.pages.get(vpn);
    if (entry?.kind === 'device') {
      if (entry.frame.owner === this && (entry.write || !write)) {
        context.enter(vpn);
        return true;
      }
      // Another device has it, or this one may only read it: through host memory.
      if (!resolve(space, vpn, 'home')) throw hostMemoryExhausted();
    }
    // Write permission comes back as for the CPU, before the page moves: a migration keeps what it finds.
    if (faultCause(space, vpn, write) === 'reuse') resolve(space, vpn, 'reuse');
    return this.#moveIn(context, { ...granuleBlock(vma, vpn, this.granulePages), prot: vma.prot }, vpn).moved > 0;
  }

  /** Protects the chunks of those pages that the faulting accesses touch and that are in this device's memory. */
  #protect(space: ModelSpace, records: readonly FaultRecord[]): void {
    for (const { first, last } of records) {
      for (let vpn = first; vpn <= last; vpn++) {
        const frame = space.pages.get(vpn)?.frame;
        if (frame?.owner === this) this.vram.protected.add((frame as VramFrame).chunk);
      }
    }
  }

  /**
   * One migration: the pages of a block that are not on a device, the faulting one first, as far as frames go. Returns pages moved, and
   * whether frames ran out.
   *
   * ```
   * block      |. h D z h .|          pages of the block
   * need        . h   z h .           none, zero, host
   * got         . h   z               frames ran out
   * event 1    [...........)          first need to last need
   * event 2    [...........)          first none or zero page that got a frame, to the end of event 1
   * ```
   */
  #moveIn(context: ModelContext, block: Vma, faulting?: number): { moved: number; full: boolean } {
    const { space } = context;
    const need: number[] = [];
    for (let vpn = block.start; vpn < block.end; vpn++) if (space.pages.get(vpn)?.kind !== 'device') need.push(vpn);
    if (need.length === 0) return { moved: 0, full: false };

    // A fault that cannot have room made for it fails; the verb moves what it has frames for.
    const evict = (chunk: Chunk): boolean => {
      const room = this.#evict(chunk);
      if (!room && faulting !== undefined) throw hostMemoryExhausted();
      return room;
    };
    const taken: VramFrame[] = [];
    const order = faulting === undefined ? need : [faulting, ...need.filter((vpn) => vpn !== faulting)];
    for (const vpn of order) {
      const frame = this.vram.take(space, vpn, evict);
      if (frame === undefined) break;
      taken.push(frame);
    }
    if (taken.length === 0) return { moved: 0, full: true };

    // Who gets one is decided by that order; which one, by address: neighbours lie together where they can.
    const moved = order.slice(0, taken.length).sort((a, b) => a - b);
    const frames = new Map(moved.map((vpn, i) => [vpn, taken[i]!]));
    for (const [vpn, frame] of frames) frame.vpn = vpn;
    const end = need.at(-1)! + 1;
    space.notify(need[0]!, end, { owner: this, pages: moved });
    const firstClear = moved.find((vpn) => space.pages.get(vpn)?.kind !== 'host');
    if (firstClear !== undefined) space.notify(firstClear, end, { owner: this, pages: moved });

    let copied = 0;
    for (const vpn of moved) {
      const old = space.pages.get(vpn);
      const frame = frames.get(vpn)!;
      space.cpu.tlb.drop(vpn);
      if (old?.kind === 'host') {
        frame.bytes.set(old.frame.bytes);
        copied += 1;
        space.pages.set(vpn, { kind: 'device', frame, write: old.write, dirty: old.dirty });
        this.#host.release(old.frame);
      } else {
        // A hole migrates as "clear the target": there is nothing to copy, and the VMA says whether it may be written.
        space.pages.set(vpn, { kind: 'device', frame, write: block.prot === 'rw', dirty: false });
      }
      context.enter(vpn);
    }
    countCopied(this.#counters, copied, { from: HOST_NODE, to: this.node, cause: 'fault' });
    this.#counters.detail.cleared += moved.length - copied;
    return { moved: moved.length, full: frames.size < need.length };
  }

  /**
   * Sends the pages of a chunk home: one event for each maximal run of pages, one transfer for the chunk. When host frames run out the
   * later ones stay. False: none came home.
   */
  #evict(chunk: Chunk): boolean {
    const frames = chunk.slots.filter((frame) => frame !== undefined);
    const homes = new Map<VramFrame, Frame>();
    for (const frame of frames) {
      const home = this.#host.take();
      if (home === undefined) break;
      homes.set(frame, home);
    }

    const byPage = [...frames].sort((a, b) => a.space.id - b.space.id || a.vpn - b.vpn);
    for (let start = 0; start < byPage.length;) {
      const { space, vpn } = byPage[start]!;
      const pages = [vpn];
      while (byPage[start + pages.length]?.space === space && byPage[start + pages.length]!.vpn === vpn + pages.length) {
        pages.push(vpn + pages.length);
      }
      space.notify(vpn, vpn + pages.length, { owner: this, pages });
      start += pages.length;
    }
    for (const [frame, home] of homes) {
      if (frame.space.pages.get(frame.vpn)?.frame !== frame) throw new Error(`evicted frame does not hold page ${frame.vpn}`);
      sendHome(frame.space, frame.vpn, home);
    }
    if (homes.size === 0) return false;
    countCopied(this.#counters, homes.size, { from: this.node, to: HOST_NODE, cause: 'evict' });
    this.#counters.evictions += 1;
    return true;
  }
}

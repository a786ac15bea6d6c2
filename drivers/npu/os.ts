/**
 * The operating system of the NPU: it owns the pages of its memory and the addresses of its tasks, and chooses by itself what to send away. It knows nothing of the machine around it; it answers messages.
 *
 * Models: the device's side of `remote_pager`.
 */
import type { PeerCode, Ticket } from '../../sdk/gmem/index.ts';
import type { Place, Request, Response } from './messages.ts';

/** A block of the NPU's table: 512 pages. */
export const BLOCK_PAGES = 512;

/** Addresses, in bytes. */
export interface VaRange {
  readonly start: number;
  readonly end: number;
}

/** A translation: one page, or a block. */
interface Entry {
  readonly page: number;
  readonly write: boolean;
  readonly pages: number;
  /** 0: its own; below 0: as `Translation.memory`. */
  readonly memory: number;
}

/** One process: its table and its addresses. */
export class Task {
  readonly entries: Map<number, Entry> = new Map();
  /** Addresses that are in use in it. */
  taken: VaRange[] = [];
  /** What is being sent away, and what ends with that. */
  readonly leaving: Set<number> = new Set();
  eviction: Ticket | undefined;

  /** The entry of a page, its own or that of its block. */
  entry(vpn: number): Entry | undefined {
    const block = this.entries.get(vpn - (vpn % BLOCK_PAGES));
    return this.entries.get(vpn) ?? (block?.pages === BLOCK_PAGES ? block : undefined);
  }

  /** Removes what overlaps these pages; of a block that they cut, all. */
  drop(vpn: number, pages: number): void {
    const first = vpn - (vpn % BLOCK_PAGES);
    if (pages > this.entries.size) {
      for (const [at, entry] of this.entries) if (at < vpn + pages && at + entry.pages > vpn) this.entries.delete(at);
      return;
    }
    if (this.entries.get(first)?.pages === BLOCK_PAGES) this.entries.delete(first);
    for (let at = vpn; at < vpn + pages; at++) this.entries.delete(at);
  }
}

/** All of it. */
export class NpuOs {
  readonly tasks: Map<number, Task> = new Map();
  /** Addresses that it keeps for itself in every task. */
  private readonly kept: readonly VaRange[];
  /** Pages of its memory that are free, ascending. */
  private readonly free: boolean[];

  constructor(pages: number, kept: readonly VaRange[]) {
    this.kept = kept;
    this.free = new Array<boolean>(pages).fill(true);
  }

  /** Does what a message says. `again`: it is one whose response got lost. */
  serve(request: Request, again = false): Response {
    switch (request.type) {
      case 'task pairing':
        this.tasks.set(request.task, new Task());
        return DONE;
      case 'task exit':
        this.tasks.delete(request.task);
        return DONE;
      case 'alloc vma':
        return this.reserve(this.tasks.get(request.task)!, request.start, request.start + request.bytes, again);
      case 'free vma':
        this.release(this.tasks.get(request.task)!, request.start, request.start + request.bytes);
        return DONE;
      case 'alloc page':
        return { code: 'success', answers: request.places.map((place) => this.bring(this.tasks.get(request.task)!, place)) };
      case 'unmap':
        for (const { vpn, pages } of request.places) this.tasks.get(request.task)!.drop(vpn, pages);
        return DONE;
      case 'free page':
        this.free.fill(true, request.page, request.page + request.pages);
        return DONE;
    }
  }

  /** Pages that a task would send away: those that it has had the longest. Their translations are gone, and they are leaving, until `keep`. */
  sendAway(task: Task, count: number): number[] {
    const victims = [...task.entries]
      .filter(([, { memory }]) => memory === 0)
      .slice(0, count)
      .map(([vpn]) => vpn);
    for (const vpn of victims) {
      task.entries.delete(vpn);
      task.leaving.add(vpn);
    }
    return victims;
  }

  private bring(task: Task, { vpn, pages, page: given, memory, write }: Place): { code: PeerCode; page: number } {
    if (task.leaving.has(vpn)) return { code: 'migrating', page: -1 };
    const old = task.entries.get(vpn);
    const isSame = old?.memory === memory && old.pages === pages && old.write === write && (given < 0 || given === old.page);
    // The same request came before, and its response got lost.
    if (old && isSame) return { code: 'page exists', page: old.page };
    const page = given >= 0 ? given : this.take(pages);
    if (page < 0) return { code: 'nomem', page };
    task.drop(vpn, pages);
    const size = pages === BLOCK_PAGES && vpn % BLOCK_PAGES === 0 && page % BLOCK_PAGES === 0 ? BLOCK_PAGES : 1;
    for (let at = 0; at < pages; at += size) task.entries.set(vpn + at, { page: page + at, pages: size, memory, write });
    return { code: 'success', page };
  }

  /** The lowest page that is free, or the lowest block; -1: none. */
  private take(pages: number): number {
    const page = this.free.findIndex((isFree, at) => isFree && this.isFree(at, pages));
    if (page >= 0) this.free.fill(false, page, page + pages);
    return page;
  }

  private isFree(page: number, pages: number): boolean {
    return page % pages === 0 && page + pages <= this.free.length && this.free.slice(page, page + pages).every(Boolean);
  }

  private reserve(task: Task, start: number, end: number, again: boolean): Response {
    if (again && task.taken.some((range) => range.start === start && range.end === end)) return DONE;
    if ([...this.kept, ...task.taken].some((range) => range.start < end && start < range.end)) return { code: 'nomem', answers: [] };
    task.taken.push({ start, end });
    return DONE;
  }

  private release(task: Task, start: number, end: number): void {
    const parts = (range: VaRange): VaRange[] => [
      { start: range.start, end: Math.min(range.end, start) },
      { start: Math.max(range.start, end), end: range.end },
    ];
    task.taken = task.taken.flatMap(parts).filter((range) => range.start < range.end);
  }
}

const DONE: Response = { code: 'success', answers: [] };

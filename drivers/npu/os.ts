/**
 * The operating system of the NPU: it owns the pages of its memory and the addresses of its tasks, and chooses by itself what to send away. It knows nothing of the machine around it; it answers messages.
 *
 * Models: the device's side of `remote_pager`.
 */
import { PageMap, type PeerCode, type Ticket, type Translation, Translations } from '../../sdk/gmem/index.ts';
import type { Answer, Place, Request, Response } from './messages.ts';

/** A block of the NPU's table: 512 pages. */
export const BLOCK_PAGES = 512;

/** Addresses, in bytes. */
export interface VaRange {
  readonly start: number;
  readonly end: number;
}

/** One process: its table and its addresses. */
export class Task {
  /** Of pages, and of blocks by their first page. */
  readonly entries: Translations = new Translations();
  /** First pages of the entries that are for a block, and its pages. */
  readonly blocks: PageMap = new PageMap();
  /** Addresses that are in use in it. */
  taken: VaRange[] = [];
  /** What is being sent away, and what ends with that. */
  readonly leaving: PageMap = new PageMap();
  eviction: Ticket | undefined;

  /** Where a page is, by its own entry or that of its block. */
  entry(vpn: number): Translation | undefined {
    const first = vpn - (vpn % BLOCK_PAGES);
    return this.entries.get(vpn, this.blocks.has(first) ? first : vpn);
  }

  /** Removes what overlaps these pages; of a block that they cut, all. */
  drop(vpn: number, pages: number): void {
    const first = vpn - (vpn % BLOCK_PAGES);
    if (this.blocks.delete(first)) this.entries.delete(first);
    this.entries.deleteRange(vpn, pages);
    this.blocks.deleteRange(vpn, pages);
  }
}

/** All of it. */
export class NpuOs {
  readonly tasks: Map<number, Task> = new Map();
  /** Addresses that it keeps for itself in every task. */
  private readonly kept: readonly VaRange[];
  /** Of each page of its memory: 1, it is free. */
  private readonly free: Uint8Array;
  /** Of the last `alloc page`. */
  private readonly answers: Answer[] = [];

  constructor(pages: number, kept: readonly VaRange[]) {
    this.kept = kept;
    this.free = new Uint8Array(pages).fill(1);
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
        for (let i = 0; i < request.places.count; i++) this.bring(this.tasks.get(request.task)!, request.places.item(i), i);
        return { code: 'success', answers: this.answers };
      case 'unmap':
        for (let i = 0; i < request.ranges.count; i++)
          this.tasks.get(request.task)!.drop(request.ranges.start(i), request.ranges.length(i));
        return DONE;
      case 'free page':
        for (let at = request.freed.next(0); at >= 0; at = request.freed.next(at + 1))
          this.free.fill(1, request.freed.pageAt(at), request.freed.pageAt(at) + request.freed.valueAt(at));
        return DONE;
    }
  }

  /** Pages that a task would send away: those that it has had the longest. Their translations are gone, and they are leaving, until `keep`. */
  sendAway(task: Task, count: number): number[] {
    const victims: number[] = [];
    for (let at = task.entries.next(0); at >= 0 && victims.length < count; at = task.entries.next(at + 1))
      if (task.entries.get(task.entries.vpnAt(at))!.memory === 0) {
        victims.push(task.entries.vpnAt(at));
        task.leaving.set(task.entries.vpnAt(at), 1);
        task.drop(task.entries.vpnAt(at), 1);
      }
    return victims;
  }

  /** Answer `i` is for this place. */
  private bring(task: Task, { vpn, pages, page: given, memory, write }: Place, i: number): void {
    if (task.leaving.has(vpn)) return this.answer(i, 'migrating', -1);
    const old = task.entries.get(vpn);
    const isSame =
      old?.memory === memory && (task.blocks.get(vpn) ?? 1) === pages && old.write === write && (given < 0 || given === old.page);
    // The same request came before, and its response got lost.
    if (old && isSame) return this.answer(i, 'page exists', old.page);
    const page = given >= 0 ? given : this.take(pages);
    if (page < 0) return this.answer(i, 'nomem', page);
    task.drop(vpn, pages);
    const isBlock = pages === BLOCK_PAGES && vpn % BLOCK_PAGES === 0 && page % BLOCK_PAGES === 0;
    if (isBlock) task.blocks.set(vpn, BLOCK_PAGES);
    for (let at = 0; at < (isBlock ? 1 : pages); at++) task.entries.set(vpn + at, page + at, memory, write);
    this.answer(i, 'success', page);
  }

  private answer(i: number, code: PeerCode, page: number): void {
    const answer = (this.answers[i] ??= { code, page });
    answer.code = code;
    answer.page = page;
  }

  /** The lowest page that is free, or the lowest block; -1: none. */
  private take(pages: number): number {
    for (let page = this.free.indexOf(1); page >= 0; page = this.free.indexOf(1, page + 1))
      if (page % pages === 0 && this.isFree(page, pages)) {
        this.free.fill(0, page, page + pages);
        return page;
      }
    return -1;
  }

  private isFree(page: number, pages: number): boolean {
    const taken = this.free.indexOf(0, page);
    return taken < 0 || taken >= page + pages;
  }

  private reserve(task: Task, start: number, end: number, again: boolean): Response {
    if (again && task.taken.some((range) => range.start === start && range.end === end)) return DONE;
    if ([...this.kept, ...task.taken].some((range) => range.start < end && start < range.end)) return { code: 'nomem' };
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

const DONE: Response = { code: 'success' };

/** What has been entered into a driver's own table and not released again: what it may translate. */
import { type Mappings, type Ranges, type Ticket } from '../../gmem/index.ts';

/** A translation that was entered. */
export interface Shadow {
  readonly frame: number;
  readonly write: boolean;
}

/** Frames whose translations a flush takes out of the caches, while its ticket is pending. */
interface Flush {
  readonly ticket: Ticket;
  readonly frames: ReadonlySet<number>;
}

export class ShadowTable {
  readonly #pages = new Map<number, Shadow>();
  /** How many pages are entered with a frame behind them. */
  readonly #frames = new Map<number, number>();
  /** Pages that were entered once and are not now. */
  readonly #gone = new Set<number>();
  /** Frames of what was released and is in the caches yet. */
  #released = new Set<number>();
  readonly #flushes: Flush[] = [];

  find(vpn: number): Shadow | undefined {
    return this.#pages.get(vpn);
  }

  wasReleased(vpn: number): boolean {
    return this.#gone.has(vpn);
  }

  /** Whether a page is entered with this frame. */
  maps(frame: number): boolean {
    return (this.#frames.get(frame) ?? 0) > 0;
  }

  /** `partly`: the driver threw, and what was there may be there yet. */
  enter(mappings: Mappings, partly: boolean): void {
    mappings.eachFrame((vpn, pages, frame, write) => {
      for (let i = 0; i < pages; i++) {
        const old = this.#pages.get(vpn + i);
        this.#put(vpn + i, { frame: frame + i, write: write || (partly && old?.frame === frame + i && old.write) });
      }
    });
  }

  release(ranges: Ranges): void {
    this.#each(ranges, (vpn, { frame }) => {
      this.#take(vpn);
      this.#gone.add(vpn);
      this.#released.add(frame);
    });
  }

  /** The device has brought a page by itself. */
  came(vpn: number, shadow: Shadow): void {
    this.#put(vpn, shadow);
  }

  /** The device has let go of pages by itself, in its caches as well. */
  gone(vpn: number, pages: number): void {
    this.#in(vpn, pages, (each) => {
      this.#take(each);
      this.#gone.add(each);
    });
  }

  protect(ranges: Ranges, write: boolean): void {
    this.#each(ranges, (vpn, { frame }) => this.#pages.set(vpn, { frame, write }));
  }

  /** The caches have been told; a ticket: they have not forgotten yet. */
  flush(ticket: Ticket | undefined): void {
    if (ticket?.state === 'pending') this.#flushes.push({ ticket, frames: this.#released });
    this.#released = new Set();
  }

  /** Whether a flush is unfinished: the device may use what it knew. */
  get isFlushing(): boolean {
    this.#settle();
    return this.#flushes.length > 0;
  }

  /** Whether a translation of this frame may be in the caches though its flush has begun. */
  isBeingFlushed(frame: number): boolean {
    this.#settle();
    return this.#flushes.some(({ frames }) => frames.has(frame));
  }

  #settle(): void {
    for (let i = this.#flushes.length - 1; i >= 0; i--) if (this.#flushes[i]!.ticket.state !== 'pending') this.#flushes.splice(i, 1);
  }

  #put(vpn: number, shadow: Shadow): void {
    this.#take(vpn);
    this.#pages.set(vpn, shadow);
    this.#gone.delete(vpn);
    this.#frames.set(shadow.frame, (this.#frames.get(shadow.frame) ?? 0) + 1);
  }

  #take(vpn: number): void {
    const shadow = this.#pages.get(vpn);
    if (!shadow) return;
    this.#pages.delete(vpn);
    const left = this.#frames.get(shadow.frame)! - 1;
    if (left === 0) this.#frames.delete(shadow.frame);
    else this.#frames.set(shadow.frame, left);
  }

  /** A range may be the whole address space: by what is asked for, or by what is there, whichever is less. */
  #each(ranges: Ranges, visit: (vpn: number, shadow: Shadow) => void): void {
    ranges.each((start, pages) => this.#in(start, pages, visit));
  }

  #in(start: number, pages: number, visit: (vpn: number, shadow: Shadow) => void): void {
    if (pages > this.#pages.size) {
      for (const [vpn, shadow] of [...this.#pages]) if (vpn >= start && vpn < start + pages) visit(vpn, shadow);
      return;
    }
    for (let vpn = start; vpn < start + pages; vpn++) {
      const shadow = this.#pages.get(vpn);
      if (shadow) visit(vpn, shadow);
    }
  }
}

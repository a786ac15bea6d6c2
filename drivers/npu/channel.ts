/**
 * The channel between host and NPU: bounded, with a time for every answer. Time is counted in ticks of the NPU; nothing here looks at a clock.
 *
 * ```
 *   host   ---- request ---->  [ at most CHANNEL_MESSAGES_MAX ]  ---->  NPU
 *          <--- response ----                                   <----
 * ```
 *
 * A request that the NPU has not begun when its time is over is taken back: nothing has been done. A response that gets lost is asked for again, with the same request, which says `page exists` of what it has
 * done before. Models: the wait stations of `remote_pager`, whose time-outs become "busy".
 */
import { PageMap } from '../../sdk/gmem/index.ts';
import type { Request, Response } from './messages.ts';
import type { NpuOs } from './os.ts';

/** Messages that wait at one time: each `free page` is one, and they go together. */
export const CHANNEL_MESSAGES_MAX = 64;
/** How often a request is sent again whose response was lost. */
export const CHANNEL_RETRIES_MAX = 3;

/** What went over the channel. */
export interface ChannelCounts {
  /** A request and its response. */
  roundTrips: number;
  timeouts: number;
  resent: number;
  ticks: number;
}

/** The host's end. */
export class Channel {
  readonly counts: ChannelCounts = { roundTrips: 0, timeouts: 0, resent: 0, ticks: 0 };
  /** Ticks that the NPU does something else before it looks at the next request; responses that will get lost. */
  stalled = 0;
  lossy = 0;
  private readonly os: NpuOs;
  private readonly timeout: number;
  private readonly latency: number;
  /** Pages that wait to be freed, each the first of so many. */
  private readonly freed = new PageMap();
  /** The message that says so. */
  private readonly freeing: Request = { type: 'free page', freed: this.freed };

  constructor(os: NpuOs, timeout: number, latency: number) {
    this.os = os;
    this.timeout = timeout;
    this.latency = latency;
  }

  /** Sends what need not be answered at once: `free page`. It is served, with those before it, when the channel is full or somebody waits for an answer. */
  free(page: number, pages: number): void {
    this.freed.set(page, pages);
    if (this.freed.size === CHANNEL_MESSAGES_MAX) this.drain();
  }

  /** Sends a request and waits for its response; undefined: its time was over, and it has been taken back. `forever`: it has all the time that there is. */
  call(request: Request, forever = false): Response | undefined {
    for (let sent = 0; sent <= CHANNEL_RETRIES_MAX; sent++) {
      const waits = this.stalled + this.latency;
      if (waits > this.timeout && !forever) return this.takenBack();
      this.counts.ticks += waits;
      this.stalled = 0;
      this.drain();
      this.counts.roundTrips++;
      const response = this.os.serve(request, sent > 0);
      if (this.lossy === 0) return response;
      this.lossy--;
      this.counts.resent++;
    }
    throw new Error(`${request.type}: ${CHANNEL_RETRIES_MAX} responses were lost`);
  }

  private takenBack(): undefined {
    this.counts.ticks += this.timeout;
    this.stalled -= Math.min(this.timeout, this.stalled);
    this.counts.timeouts++;
  }

  private drain(): void {
    this.os.serve(this.freeing);
    this.freed.clear();
  }
}

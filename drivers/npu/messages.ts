/**
 * What host and NPU say to each other. Models: the messages of `remote_pager`: task pairing and exit, alloc and free of addresses and pages, page fault, evict page, and the common response; one message has many
 * pages here.
 */
import type { PageMap, PeerCode, Ranges } from '../../sdk/gmem/index.ts';

/** A page, or 512 of them, in a message. */
export interface Place {
  readonly vpn: number;
  /** 1, or 512 for a huge page; any number where the page is the host's. */
  readonly pages: number;
  /** First page of that memory; -1: the NPU chooses. */
  readonly page: number;
  /** 0: the NPU's; the host's and those of other devices are below 0. */
  readonly memory: number;
  readonly write: boolean;
}

/** The places of a message, in order: a batch of the framework is such a list. */
export interface Places {
  readonly count: number;
  item(i: number): Place;
}

/** From the host. */
export type Request =
  | { readonly type: 'task pairing' | 'task exit'; readonly task: number }
  | { readonly type: 'alloc vma' | 'free vma'; readonly task: number; readonly start: number; readonly bytes: number }
  /** A page for each place that has none, and the translation. Where it stands already the answer says so. */
  | { readonly type: 'alloc page'; readonly task: number; readonly places: Places }
  /** Translations go. */
  | { readonly type: 'unmap'; readonly task: number; readonly ranges: Ranges }
  /** Pages of the NPU's memory, each the first of so many. */
  | { readonly type: 'free page'; readonly freed: PageMap };

/** What became of a place. */
export interface Answer {
  code: PeerCode;
  /** -1: none. */
  page: number;
}

/** The common response: a code, and for an `alloc page` one answer for each place, in a list that the next one is written over. */
export interface Response {
  readonly code: PeerCode;
  readonly answers?: readonly Answer[];
}

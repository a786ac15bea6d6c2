/**
 * The memory plan of one machine: where each region of linear memory begins, computed once, before anything exists.
 * `assembly/layout.ts` draws it; nothing outside `sdk/core` knows an address from here.
 */
import { fail } from '../errors.ts';
import * as L from '../../assembly/layout.ts';

/** What a machine is to have room for. All counts; bytes only where named so. */
export interface Budget {
  /** Bytes of every backed node together, page-aligned. */
  readonly backedBytes: number;
  /** No node has bytes but the page of zeros: the machine is without bytes. */
  readonly bodiless: boolean;
  /** Bytes that a page stands for: more than PAGE_BYTES only where the machine is without them. */
  readonly pageBytes: number;
  /** Frame records: frames of all nodes, backed or not. */
  readonly frames: number;
  /** 4 KiB pages for radix tables. */
  readonly tablePages: number;
  /** Whether frames can have a backing in a second tier. */
  readonly tiered: boolean;
  /** Radix tables: one per address space and one per context. */
  readonly tables: number;
  /** Ready-made TLBs. */
  readonly tlbs: number;
  /** Reverse-map records, for frames that more than one entry names. */
  readonly chains: number;
}

/** Byte addresses of the regions, and the size of the memory in Wasm pages of 64 KiB. */
export interface MemoryPlan extends Budget {
  readonly nodesAt: number;
  readonly tablesAt: number;
  readonly tlbsAt: number;
  readonly chainsAt: number;
  readonly framesAt: number;
  readonly chargesAt: number;
  /** 0: there is no second tier. */
  readonly backingAt: number;
  readonly liveAt: number;
  readonly pagesAt: number;
  readonly areasAt: number;
  /** Of a machine without bytes: what stands for the bytes of any frame outside the core, a batch of pages long; 0: it has bytes. */
  readonly blankAt: number;
  readonly bytesAt: number;
  readonly bytesEnd: number;
  readonly wasmPages: number;
}

const WASM_PAGE = 65536;
const WASM_PAGES_MAX = 65536;

const aligned = (address: number, to: number): number => Math.ceil(address / to) * to;

/** Lays the regions out one after the other. Throws EOVERFLOW when they do not fit the 4 GiB that one Wasm memory can have. */
export function planMemory(budget: Budget): MemoryPlan {
  let at = L.HEADER_BYTES;
  const region = (bytes: number, alignment = 64): number => {
    const start = aligned(at, alignment);
    at = start + bytes;
    return start;
  };
  const nodesAt = region(L.NODES_MAX * L.NODE_BYTES);
  const tablesAt = region(budget.tables * L.TABLE_BYTES);
  const tlbsAt = region(budget.tlbs * L.TLB_SLOT_BYTES);
  const chainsAt = region(budget.chains * L.CHAIN_BYTES);
  const framesAt = region(budget.frames * L.FRAME_BYTES);
  const chargesAt = region(budget.tables * L.NODES_MAX * 4);
  const backingAt = budget.tiered ? region(budget.frames * 4) : 0;
  const liveAt = region(budget.tablePages * 2);
  const pagesAt = region(budget.tablePages * L.PAGE_BYTES, L.PAGE_BYTES);
  const areasAt = region(L.AREAS_LENGTH, L.PAGE_BYTES);
  const blankAt = budget.bodiless ? region(L.WORDS_MAX * L.PAGE_BYTES, L.PAGE_BYTES) : 0;
  const bytesAt = region(budget.backedBytes, L.PAGE_BYTES);
  const bytesEnd = at;
  // A spare page at the end: an 8-byte read of the last byte of the last frame stays inside the memory.
  const wasmPages = Math.ceil((at + L.PAGE_BYTES) / WASM_PAGE);
  if (wasmPages > WASM_PAGES_MAX) {
    throw fail(
      'EOVERFLOW',
      'machine memory',
      `${Math.ceil(at / 2 ** 20)} MiB`,
      `does not fit the 4 GiB of one Wasm memory: ask for less dram or deviceMemory${budget.bodiless ? ', or fewer tablePages' : ''}`,
    );
  }
  return {
    ...budget,
    nodesAt,
    tablesAt,
    tlbsAt,
    chainsAt,
    framesAt,
    chargesAt,
    backingAt,
    liveAt,
    pagesAt,
    areasAt,
    blankAt,
    bytesAt,
    bytesEnd,
    wasmPages,
  };
}

/** Writes the header of an empty machine. Requires: the memory is all zero. */
export function writeHeader(u32: Uint32Array, plan: MemoryPlan): void {
  const set = (offset: number, value: number): void => {
    u32[offset >>> 2] = value;
  };
  set(L.H_MAGIC, L.MAGIC);
  set(L.H_ABI, L.ABI_VERSION);
  set(L.H_NODES, plan.nodesAt);
  set(L.H_TABLES, plan.tablesAt);
  set(L.H_TABLES_MAX, plan.tables);
  set(L.H_TLBS, plan.tlbsAt);
  set(L.H_TLBS_MAX, plan.tlbs);
  set(L.H_CHAIN, plan.chainsAt);
  set(L.H_CHAIN_MAX, plan.chains);
  set(L.H_FRAMES, plan.framesAt);
  set(L.H_FRAMES_MAX, plan.frames);
  set(L.H_LIVE, plan.liveAt);
  set(L.H_CHARGES, plan.chargesAt);
  set(L.H_BACKING, plan.backingAt);
  set(L.H_PAGES, plan.pagesAt);
  set(L.H_PAGES_MAX, plan.tablePages);
  set(L.H_AREAS, plan.areasAt);
  set(L.H_BYTES, plan.bytesAt);
  set(L.H_BYTES_END, plan.wasmPages);
}

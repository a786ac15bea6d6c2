import {
  ENTRY_ACCESSED,
  ENTRY_ANON_EXCLUSIVE,
  ENTRY_DEVICE,
  ENTRY_DIRTY,
  ENTRY_KIND,
  ENTRY_WRITE,
  ENTRY_ZERO,
  FRAME_CHARGE,
  FRAME_FLAGS,
  FRAME_REFS,
  FRAME_STATE,
  H_MOVED,
  H_STOP_REASON,
  KIND_DEVICE_PRIVATE,
  KIND_MIGRATION,
  KIND_NONE,
  KIND_PRESENT,
  MIGRATE_MOVE,
  MIGRATE_VALID,
  MIGRATE_WRITE,
  NODE_ALLOC,
  NODE_IS_COHERENT,
  NODE_IS_PRIVATE,
  NODE_KIND,
  NODE_OWNER,
  ALLOC_CORE,
  SELECT_COHERENT,
  SELECT_PRIVATE,
  SELECT_SYSTEM,
  STATE_USED,
  STOP_NONE,
  TABLE_INDEX,
  TABLE_TLB,
} from './layout';
import {
  frameCharge,
  frameClear,
  frameCopy,
  frameGet,
  frameMaps,
  framePut,
  frameRecord,
  frameTouch,
  frameTryLock,
  frameUnlock,
} from './frame';
import { nodeOf } from './node';
import { rmapAdd, rmapFirst, rmapLow, rmapMove, rmapNext, rmapOwner, rmapTable, rmapVpn } from './rmap';
import { leafSlot, makeLeafSlot, pruneLeaf, walk, writeLeaf } from './table';
import { rangeSplit } from './range';
import { tlbDrop } from './tlb';

/**
 * The loops of a migration: collect, copy, commit, finalize, over arrays of one u64 word a page.
 *
 * ```
 *           source word                        home entry                     frame
 * collect   frame | VALID | MOVE (| WRITE)     migration entry, all spaces     locked, one reference more
 *           MOVE                               none or the page of zeros      -            "clear the target"
 *           0                                  untouched                       -            not to be moved
 * copy      target word: frame | VALID         .                               bytes copied or cleared
 * commit    MOVE cleared where it may not be   holes get their entry           references counted again: a late pin refuses
 * finalize  .                                  entry of the new frame where    mappings handed over, both unlocked,
 *                                              MOVE survived, else the old     the frame that lost is put
 * ```
 *
 * Partial success is the normal case; MOVE in the source word is the per-page verdict. Between collect and finalize nobody but the
 * migration reaches the pages: the CPU and other devices meet migration entries and wait for the page lock.
 *
 * Models: `migrate_vma_setup`, `migrate_vma_pages`, `migrate_vma_finalize`, `migrate_device_range`.
 */

/** A migration entry that remembers what the entry it replaces allowed. */
function migrationOf(entry: u64): u64 {
  const high = <u32>(entry >> 32);
  return (
    ((<u64>((high & (ENTRY_WRITE | ENTRY_ANON_EXCLUSIVE | ENTRY_DIRTY | ENTRY_ACCESSED | ENTRY_DEVICE)) | KIND_MIGRATION)) << 32) |
    (<u32>entry)
  );
}

/** Kind that an entry for a frame of this node has. */
function kindOn(node: u32): u32 {
  return load<u32>(node, NODE_KIND) == NODE_IS_PRIVATE ? KIND_DEVICE_PRIVATE : KIND_PRESENT;
}

/** Replaces every home entry of a frame by a migration entry. */
function isolate(frame: u32): void {
  for (let cursor = rmapFirst(frame); cursor; cursor = rmapNext(cursor)) {
    const owner = rmapOwner(frame, cursor),
      vpn = rmapVpn(rmapLow(frame, cursor), owner),
      table = rmapTable(owner),
      slot = leafSlot(table, vpn);
    writeLeaf(table, slot, migrationOf(load<u64>(slot)));
    const tlb = load<u32>(table, TABLE_TLB);
    if (tlb) tlbDrop(tlb, vpn);
  }
}

/** Replaces the migration entries of `frame` by entries that name `to` (the same frame: the migration was refused). */
function restore(frame: u32, to: u32): void {
  const node = nodeOf(to),
    kind = kindOn(node);
  for (let cursor = rmapFirst(frame); cursor; cursor = rmapNext(cursor)) {
    const owner = rmapOwner(frame, cursor),
      vpn = rmapVpn(rmapLow(frame, cursor), owner),
      table = rmapTable(owner),
      slot = leafSlot(table, vpn);
    const high = <u32>(load<u64>(slot) >> 32);
    writeLeaf(table, slot, ((<u64>((high & ~ENTRY_KIND) | kind)) << 32) | to);
  }
}

/**
 * Locks a mapped frame, takes a reference and puts migration entries in its place. Returns 1, or 0 with nothing changed when its page lock is
 * taken or somebody unknown holds it. `extra` references of the caller are allowed for (the faulting page of `migrate_to_ram`).
 */
function take(frame: u32, extra: u32): u32 {
  const entry = frameRecord(frame);
  if (load<u32>(entry, FRAME_REFS) != frameMaps(entry) + extra || !frameTryLock(frame)) return 0;
  frameGet(frame);
  isolate(frame);
  return 1;
}

/**
 * Phase 1, by address: looks at `pages` pages from `vpn` on and writes one source word each. `owner` is the device (index + 1) whose pages
 * SELECT_PRIVATE and SELECT_COHERENT mean. `faultFrame` is the page of a `migrate_to_ram`, which its caller holds with one reference, or
 * FRAME_NONE. With `wanted` (address of target words, 0: none) only pages whose target word is VALID are looked at. Returns the words with MOVE.
 *
 * Requires: an anonymous VMA covers the range. Ensures: words of pages that cannot be collected are 0 and those pages untouched.
 */
export function migrateCollect(table: u32, vpn: f64, pages: u32, select: u32, owner: u32, faultFrame: u32, source: u32, wanted: u32): u32 {
  const first = <u64>vpn;
  let moving: u32 = 0;
  for (let i: u32 = 0; i < pages; i++) {
    const page = first + i,
      word = source + (i << 3);
    store<u64>(word, 0);
    if (wanted && !(load<u32>(wanted + (i << 3), 4) & MIGRATE_VALID)) continue;
    let slot = leafSlot(table, page);
    if (!slot && walk(table, page)) {
      // A 1 GiB block comes down in two steps; without table pages for them it stays, and is not a hole.
      while (!slot && rangeSplit(table, <f64>page)) slot = leafSlot(table, page);
      if (!slot) continue;
    }
    const entry = slot ? load<u64>(slot) : 0,
      high = <u32>(entry >> 32),
      kind = high & ENTRY_KIND,
      frame = <u32>entry;
    if (kind == KIND_NONE) {
      // A hole is offered whatever the selectors say: it migrates as "clear the target".
      store<u32>(word, MIGRATE_MOVE, 4);
      moving++;
      continue;
    }
    if (kind == KIND_PRESENT && high & ENTRY_ZERO) {
      if (!(select & SELECT_SYSTEM)) continue;
      store<u32>(word, MIGRATE_MOVE, 4);
      moving++;
      continue;
    }
    if (kind == KIND_PRESENT) {
      const node = nodeOf(frame);
      if (load<u32>(node, NODE_KIND) == NODE_IS_COHERENT) {
        if (!(select & SELECT_COHERENT) || load<u32>(node, NODE_OWNER) != owner) continue;
      } else if (!(select & SELECT_SYSTEM)) continue;
    } else if (kind == KIND_DEVICE_PRIVATE) {
      if (!(select & SELECT_PRIVATE) || load<u32>(nodeOf(frame), NODE_OWNER) != owner) continue;
    } else continue;
    if (!take(frame, frame == faultFrame ? 1 : 0)) continue;
    store<u32>(word, frame);
    store<u32>(word, MIGRATE_VALID | MIGRATE_MOVE | (high & ENTRY_WRITE ? MIGRATE_WRITE : 0), 4);
    moving++;
  }
  return moving;
}

/**
 * Phase 1, by frame: the frame numbers (u32) at `list`. A free, unmapped, locked or pinned frame gets word 0. Returns the words with MOVE.
 *
 * Models: `migrate_device_range`, `migrate_device_pfns`.
 */
export function migrateCollectFrames(list: u32, n: u32, source: u32): u32 {
  let moving: u32 = 0;
  for (let i: u32 = 0; i < n; i++) {
    const frame = load<u32>(list + (i << 2)),
      word = source + (i << 3),
      entry = frameRecord(frame);
    store<u64>(word, 0);
    if ((load<u32>(entry, FRAME_FLAGS) & FRAME_STATE) != STATE_USED || !frameMaps(entry) || !take(frame, 0)) continue;
    store<u32>(word, frame);
    store<u32>(word, MIGRATE_VALID | MIGRATE_MOVE, 4);
    moving++;
  }
  return moving;
}

/**
 * Copies, or clears, every page whose source has MOVE and whose target is VALID: a whole migration in one call, for devices without a copy engine.
 * Returns the pages copied; H_MOVED holds the pages cleared.
 */
export function migrateCopy(source: u32, target: u32, n: u32): u32 {
  let copied: u32 = 0,
    cleared: u32 = 0,
    i: u32 = 0;
  while (i < n) {
    const from = load<u64>(source + (i << 3)),
      to = load<u64>(target + (i << 3));
    i++;
    if (!((<u32>(from >> 32)) & MIGRATE_MOVE) || !((<u32>(to >> 32)) & MIGRATE_VALID)) continue;
    if (!((<u32>(from >> 32)) & MIGRATE_VALID)) {
      cleared += frameClear(<u32>to);
      continue;
    }
    copied += frameCopy(<u32>from, <u32>to, 1);
  }
  store<u32>(H_MOVED, cleared);
  return copied;
}

/**
 * Phase 2: decides for each page. Clears MOVE where there is no target, where a page has got a holder since it was collected, where a hole has been
 * filled meanwhile. A hole, or the page of zeros, that moves gets its entry here: writable iff `writable` (the VMA is). Returns the words that still have MOVE.
 *
 * `table` and `vpn` are used for holes only (a collection by frame has none). `faultFrame` as in collect.
 */
export function migrateCommit(table: u32, vpn: f64, n: u32, source: u32, target: u32, writable: u32, faultFrame: u32): u32 {
  const first = <u64>vpn;
  let moving: u32 = 0;
  store<u32>(H_STOP_REASON, STOP_NONE);
  for (let i: u32 = 0; i < n; i++) {
    const word = source + (i << 3),
      high = load<u32>(word, 4),
      frame = load<u32>(word),
      to = load<u32>(target + (i << 3));
    if (!(high & MIGRATE_MOVE)) continue;
    let moves = (load<u32>(target + (i << 3), 4) & MIGRATE_VALID) != 0;
    if (moves && high & MIGRATE_VALID) {
      const entry = frameRecord(frame);
      moves = load<u32>(entry, FRAME_REFS) == frameMaps(entry) + 1 + (frame == faultFrame ? 1 : 0);
    } else if (moves) moves = fill(table, first + i, to, writable) != 0;
    if (moves) moving++;
    else store<u32>(word, high & ~MIGRATE_MOVE, 4);
  }
  return moving;
}

/** Gives a hole or the page of zeros its frame. Returns 1, or 0 when it has been filled meanwhile or no table page or record is to be had. */
function fill(table: u32, vpn: u64, frame: u32, writable: u32): u32 {
  const slot = makeLeafSlot(table, vpn);
  if (!slot) return 0;
  const high = <u32>(load<u64>(slot) >> 32),
    kind = high & ENTRY_KIND,
    index = load<u32>(table, TABLE_INDEX);
  if (kind != KIND_NONE && !(kind == KIND_PRESENT && high & ENTRY_ZERO)) return 0;
  if (!rmapAdd(frame, index, vpn)) {
    pruneLeaf(table, vpn);
    return 0;
  }
  const entry = kindOn(nodeOf(frame)) | ENTRY_ANON_EXCLUSIVE | (writable ? ENTRY_WRITE : 0);
  writeLeaf(table, slot, ((<u64>entry) << 32) | frame);
  const tlb = load<u32>(table, TABLE_TLB);
  if (tlb) tlbDrop(tlb, vpn);
  frameCharge(frameRecord(frame), index);
  return 1;
}

/**
 * Phase 3: ends the migration of every page. Where MOVE survived, mappings, reverse map and charge go over to the new frame and the old one is
 * put; elsewhere the old entries come back and the new frame is put. Returns the pages that moved (holes included).
 *
 * A mapping that was taken away meanwhile (munmap) is gone from the reverse map: nothing comes back for it.
 */
export function migrateFinalize(n: u32, source: u32, target: u32): u32 {
  let moved: u32 = 0;
  for (let i: u32 = 0; i < n; i++) {
    const word = source + (i << 3),
      high = load<u32>(word, 4),
      frame = load<u32>(word);
    const to = load<u32>(target + (i << 3)),
      given = (load<u32>(target + (i << 3), 4) & MIGRATE_VALID) != 0;
    // Without a commit MOVE is still a wish: a page that has no target stays.
    const moves = given && (high & MIGRATE_MOVE) != 0;
    if (high & MIGRATE_VALID) {
      if (moves) succeed(frame, to);
      else restore(frame, frame);
      frameUnlock(frame);
      framePut(frame);
    }
    if (!given) continue;
    if (moves) {
      moved++;
      enlist(to);
    } else framePut(to);
  }
  return moved;
}

/** Hands a frame's mappings over to the frame that has its bytes now. */
function succeed(frame: u32, to: u32): void {
  const entry = frameRecord(frame),
    next = frameRecord(to),
    maps = frameMaps(entry);
  restore(frame, to);
  rmapMove(frame, to);
  // Each mapping carries a reference; the allocation's own one becomes the first mapping's.
  store<u32>(entry, load<u32>(entry, FRAME_REFS) - maps, FRAME_REFS);
  store<u32>(next, load<u32>(next, FRAME_REFS) + maps, FRAME_REFS);
  framePut(to);
  const payer = <u32>load<u16>(entry, FRAME_CHARGE);
  if (payer && maps) frameCharge(next, payer - 1);
}

/** Puts a frame of a device on its node's list of used frames, from which victims are chosen. The host's have no use for one. */
function enlist(frame: u32): void {
  const node = nodeOf(frame);
  if (load<u32>(node, NODE_OWNER) && load<u32>(node, NODE_ALLOC) == ALLOC_CORE && frameMaps(frameRecord(frame))) frameTouch(frame);
}

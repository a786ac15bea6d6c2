import {
  ENTRY_BYTES,
  FRAME_RMAP,
  FRAME_RMAP_OWNER,
  HUGE_ORDER,
  H_BACKING,
  H_BLANK,
  H_MOVED,
  MIGRATE_COMPOUND,
  MIGRATE_MOVE,
  MIGRATE_VALID,
  NODE_BASE,
  NODE_BYTES_BASE,
  NODE_FRAME_SHIFT,
  NODE_FRAMES,
  PAGE_BYTES,
  RMAP_CHAINED_SHIFT,
  TABLE_BITS,
} from './layout';
import { backingOf } from './backing';
import { HUGE_PAGES, copyPages, frameClear, frameGiveRun, framePut, frameRecord, frameUnlock } from './frame';
import { enlist, handOverOn, handOverRun, listOf, succeed } from './hand-over';
import { splitIsolated } from './huge';
import { restore } from './isolate';
import { kindOn } from './migration-entry';
import { nodeOf } from './node';
import { rmapTable, rmapVpn } from './rmap';
import { runOfBoth } from './run';
import { FOUR_NINES, leafOf } from './table';

/**
 * The loops of a migration: collect (migrate-collect.ts), copy, commit (migrate-commit.ts), finalize, over arrays of one u64 word a page.
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
 * A huge page, or a hole as large, is one word with COMPOUND at its first page and 0 at the other 511; it wants one huge target. Where there is none, `split`
 * makes single words of it before anything is copied:
 *
 * ```
 * collect   frame | VALID | MOVE | COMPOUND, 0, 0, ...           one migration block          one locked huge frame
 * aim       huge  | VALID | COMPOUND                             -> moves as a whole
 *           f | VALID,  0,  g | VALID, ...                       -> split:
 *           frame | VALID | MOVE,  frame + 1 | VALID,  frame + 2 | VALID | MOVE, ...   512 locked frames, of which some move
 * ```
 *
 * Models: `migrate_vma_setup`, `migrate_vma_pages`, `migrate_vma_finalize`, `migrate_device_range`.
 */

/**
 * Between the choice of targets and the copy, of a migration by address: a huge page or hole whose target is not COMPOUND, but for whose pages there are targets, becomes 512 single ones. Of a
 * page, the words without a target lose MOVE: they go back as small pages.
 *
 * Models: `migrate_vma_split_unmapped_folio`.
 */
export function migrateSplit(source: u32, target: u32, n: u32): void {
  for (let i: u32 = 0; i < n; i++) {
    const word = source + (i << 3),
      aim = target + (i << 3),
      high = load<u32>(word, 4),
      frame = load<u32>(word);
    if ((high & (MIGRATE_MOVE | MIGRATE_COMPOUND)) != (MIGRATE_MOVE | MIGRATE_COMPOUND) || load<u32>(aim, 4) & MIGRATE_COMPOUND) continue;
    assert(n - i >= HUGE_PAGES);
    if (!anyWanted(aim, HUGE_PAGES)) continue;
    if (high & MIGRATE_VALID) splitIsolated(frame);
    for (let j: u32 = 0; j < HUGE_PAGES; j++) {
      const moves = load<u32>(aim + (j << 3), 4) & MIGRATE_VALID ? high : high & ~MIGRATE_MOVE;
      store<u32>(word + (j << 3), high & MIGRATE_VALID ? frame + j : 0);
      store<u32>(word + (j << 3), moves & ~MIGRATE_COMPOUND, 4);
    }
    i += HUGE_PAGES - 1;
  }
}

/** Whether any of the `n` target words is VALID. */
export function anyWanted(wanted: u32, n: u32): bool {
  for (let i: u32 = 0; i < n; i++) if (load<u32>(wanted + (i << 3), 4) & MIGRATE_VALID) return true;
  return false;
}

/** Whether the word of a page and its target are of one size. */
export function matches(source: u32, target: u32): bool {
  return !((source ^ target) & MIGRATE_COMPOUND);
}

/**
 * Copies, or clears, every page whose source has MOVE and whose target is VALID and of its size: a whole migration in one call, for devices without a copy engine.
 * Returns the pages copied; H_MOVED holds the pages cleared.
 */
export function migrateCopy(source: u32, target: u32, n: u32): u32 {
  // A machine without bytes.
  if (load<u32>(H_BLANK)) {
    store<u32>(H_MOVED, 0);
    return 0;
  }
  const isPlain = !load<u32>(H_BACKING);
  let copied: u32 = 0,
    cleared: u32 = 0,
    // The nodes that the last two frames were on: first frame, frames, where its bytes are (0: elsewhere), log2 of a frame's.
    fromBase: u32 = 0,
    fromFrames: u32 = 0,
    fromBytes: u32 = 0,
    fromShift: u32 = 0,
    toBase: u32 = 0,
    toFrames: u32 = 0,
    toBytes: u32 = 0,
    toShift: u32 = 0,
    i: u32 = 0;
  while (i < n) {
    const from = load<u64>(source + (i << 3)),
      to = load<u64>(target + (i << 3)),
      high = <u32>(from >> 32),
      aim = <u32>(to >> 32),
      frame = <u32>from,
      first = <u32>to;
    i++;
    if (!(high & MIGRATE_MOVE) || !(aim & MIGRATE_VALID) || !matches(high, aim)) continue;
    if (!(high & MIGRATE_VALID)) {
      cleared += frameClear(first) * (high & MIGRATE_COMPOUND ? HUGE_PAGES : 1);
      continue;
    }
    // A page that is still what the second tier has of it is there already.
    if (!isPlain && backingOf(frame) == first + 1) continue;
    if (first - toBase >= toFrames) {
      const node = nodeOf(first);
      toBase = load<u32>(node, NODE_BASE);
      toFrames = load<u32>(node, NODE_FRAMES);
      toBytes = load<u32>(node, NODE_BYTES_BASE);
      toShift = load<u32>(node, NODE_FRAME_SHIFT);
    }
    if (frame - fromBase >= fromFrames) {
      const node = nodeOf(frame);
      fromBase = load<u32>(node, NODE_BASE);
      fromFrames = load<u32>(node, NODE_FRAMES);
      fromBytes = load<u32>(node, NODE_BYTES_BASE);
      fromShift = load<u32>(node, NODE_FRAME_SHIFT);
    }
    let pages: u32 = high & MIGRATE_COMPOUND ? HUGE_PAGES : 1;
    // Neighbours that stay neighbours are one copy; mostly there are none, which two words tell before the run is looked for.
    if (isPlain && pages == 1 && i < n && load<u64>(source + (i << 3)) == from + 1 && load<u64>(target + (i << 3)) == to + 1) {
      const most = min(n - i + 1, min(fromFrames - (frame - fromBase), toFrames - (first - toBase)));
      pages = runOfBoth(source + ((i - 1) << 3), target + ((i - 1) << 3), most);
      i += pages - 1;
    }
    if (!toBytes) continue;
    const bytes = toBytes + ((first - toBase) << toShift);
    if (fromBytes) copyPages(bytes, fromBytes + ((frame - fromBase) << fromShift), pages);
    else memory.fill(bytes, 0, pages * PAGE_BYTES);
    copied += pages;
  }
  store<u32>(H_MOVED, cleared);
  return copied;
}

/**
 * Phase 3: ends the migration of every page. Where MOVE survived, mappings, reverse map and charge go over to the new frame and the old one is
 * put; elsewhere the old entries come back and the new frame is put. Returns the pages that moved (holes included).
 *
 * A mapping that was taken away meanwhile (munmap) is gone from the reverse map: nothing comes back for it.
 */
export function migrateFinalize(n: u32, source: u32, target: u32): u32 {
  const isPlain = !load<u32>(H_BACKING);
  let moved: u32 = 0,
    // Frames that are free from now on, one behind the other: they are given back together.
    free: u32 = 0,
    frees: u32 = 0,
    // Where the last mapping was, and the table page that it is in.
    around: u64 = 0,
    leaf: u32 = 0,
    // The nodes of the last two frames: first frame, frames; of the target's the kind of its entries, and its record if it lists its frames.
    freeBase: u32 = 0,
    freeFrames: u32 = 0,
    toBase: u32 = 0,
    toFrames: u32 = 0,
    toKind: u32 = 0,
    list: u32 = 0,
    // Where the words end that follow each other on both sides.
    run: u32 = 0;
  for (let i: u32 = 0; i < n; i++) {
    const word = source + (i << 3),
      high = load<u32>(word, 4),
      frame = load<u32>(word);
    const to = load<u32>(target + (i << 3)),
      given = (load<u32>(target + (i << 3), 4) & MIGRATE_VALID) != 0;
    // Without a commit MOVE is still a wish: a page that has no target of its size stays.
    const moves = given && (high & MIGRATE_MOVE) != 0 && matches(high, load<u32>(target + (i << 3), 4));
    if (moves && isPlain && (high & (MIGRATE_VALID | MIGRATE_COMPOUND)) == MIGRATE_VALID) {
      const record = frameRecord(frame),
        rmapWord = load<u32>(record, FRAME_RMAP_OWNER);
      // One mapping, as most have.
      if (rmapWord && !(rmapWord >> RMAP_CHAINED_SHIFT)) {
        const low = load<u32>(record, FRAME_RMAP),
          here = (((<u64>rmapWord) << 32) | low) >> HUGE_ORDER;
        if (here != around) {
          const home = rmapTable(rmapWord);
          around = here;
          leaf = load<u64>(home, TABLE_BITS) == FOUR_NINES ? leafOf(home, rmapVpn(low, rmapWord)) : 0;
        }
        if (leaf) {
          if (to - toBase >= toFrames) {
            const node = nodeOf(to);
            toBase = load<u32>(node, NODE_BASE);
            toFrames = load<u32>(node, NODE_FRAMES);
            toKind = kindOn(node);
            list = listOf(node);
          }
          if (frees && (free + frees != frame || frame - freeBase >= freeFrames)) {
            frameGiveRun(free, frees);
            frees = 0;
          }
          if (frame - freeBase >= freeFrames) {
            const node = nodeOf(frame);
            freeBase = load<u32>(node, NODE_BASE);
            freeFrames = load<u32>(node, NODE_FRAMES);
          }
          if (i >= run) run = i + runOfBoth(word, target + (i << 3), n - i);
          const index = low & (HUGE_PAGES - 1),
            slot = leaf + index * ENTRY_BYTES,
            room = min(min(run - i, HUGE_PAGES - index), min(freeFrames - (frame - freeBase), toFrames - (to - toBase)));
          let pages = handOverRun(word, target + (i << 3), room, slot, toKind, list),
            gone = pages;
          if (!pages) {
            gone = u32(handOverOn(frame, to, slot, toKind, list));
            pages = 1;
          }
          moved += pages;
          i += pages - 1;
          if (!gone) continue;
          if (!frees) free = frame;
          frees += gone;
          continue;
        }
      }
    }
    if (frees) frameGiveRun(free, frees);
    frees = 0;
    if (high & MIGRATE_VALID) {
      if (moves) succeed(frame, to);
      else restore(frame, frame);
      frameUnlock(frame);
      framePut(frame);
    }
    if (!given) continue;
    if (moves) {
      moved += high & MIGRATE_COMPOUND ? HUGE_PAGES : 1;
      enlist(to);
    } else framePut(to);
  }
  if (frees) frameGiveRun(free, frees);
  return moved;
}

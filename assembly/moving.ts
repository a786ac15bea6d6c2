import {
  ENTRY_BYTES,
  ENTRY_KIND,
  ENTRY_ZERO,
  FRAME_FILE,
  FRAME_FLAGS,
  FRAME_NONE,
  H_BACKING,
  H_STOP_INDEX,
  KIND_DEVICE_PRIVATE,
  KIND_NONE,
  KIND_PRESENT,
  MIGRATE_COMPOUND,
  MIGRATE_MOVE,
  MIGRATE_VALID,
  MIGRATE_WRITE,
  MOVABLE_ANONYMOUS,
  MOVABLE_DEVICE,
  MOVING_BYTES,
} from './layout';
import { backingOf } from './backing';
import { HUGE_PAGES, frameRecord } from './frame';
import { alikeEnd, numberFrom, runLength, runOfBoth } from './run';
import { afterBlock, afterHole, afterLeafPage, pagesBelow, seek } from './table';

/**
 * What the SDK has to know of many pages that move, as lists: which pages of a range could, and in what runs they do.
 *
 * Models: the loop of `migrate_vma_collect_pmd` without its effects, what drivers make of `migrate->src` and `migrate->dst`.
 */

/** What of a source word counts. */
const TALLIED: u32 = MIGRATE_VALID | MIGRATE_MOVE | MIGRATE_COMPOUND;

/**
 * Writes the pages of `[vpn, vpn + pages)` that could move, as u32 counted from `vpn` on, ascending, at `output`, and returns how many they are. `which` says what could:
 *
 * - MOVABLE_ANONYMOUS: present pages on one of `frames` frames from `base` on, the page of zeros, holes;
 * - MOVABLE_DEVICE: present and device-private pages on one of these frames;
 * - 0: present pages on one of these frames that are no page of a file.
 *
 * A page of a block counts by itself.
 */
export function movablePages(table: u32, vpn: f64, pages: u32, base: u32, frames: u32, which: u32, output: u32): u32 {
  const first = <u64>vpn,
    end = first + pages;
  let page = first,
    at = output;
  while (page < end) {
    const place = seek(table, page),
      entry = load<u64>(<u32>place);
    let i = <u32>(page - first);
    if (!(place >> 32)) {
      page = afterLeafPage(table, page, end);
      for (let slot = <u32>place, end = slot + (<u32>(page - first) - i) * ENTRY_BYTES; slot < end;) {
        const each = load<u64>(slot),
          ahead = frames - (<u32>each - base),
          // What is on the next frames of these, with the same rights, is as this one is; but whose pages are a file's is said of each.
          pages: u32 = which && ahead - 1 < frames ? runLength(slot, min((end - slot) / ENTRY_BYTES, ahead), each) : 1;
        if (isMovable(<u32>(each >> 32), <u32>each, base, frames, which)) {
          numberFrom(at, i, i + pages);
          at += pages << 2;
        }
        i += pages;
        slot += pages * ENTRY_BYTES;
      }
    } else {
      // Page i of a block has the block's entry with frame + i.
      let frame = <u32>entry + <u32>(page & (pagesBelow(table, <u32>(place >> 32)) - 1));
      page = entry ? afterBlock(table, place, page, end) : afterHole(table, place, page, end);
      for (let last = <u32>(page - first); i < last; i++) {
        if (isMovable(<u32>(entry >> 32), frame, base, frames, which)) {
          store<u32>(at, i);
          at += 4;
        }
        frame++;
      }
    }
  }
  return (at - output) >> 2;
}

function isMovable(high: u32, frame: u32, base: u32, frames: u32, which: u32): bool {
  const kind = high & ENTRY_KIND,
    isThere = frame - base < frames;
  if (which & MOVABLE_DEVICE) return (kind == KIND_PRESENT || kind == KIND_DEVICE_PRIVATE) && isThere;
  if (kind == KIND_NONE) return (which & MOVABLE_ANONYMOUS) != 0;
  if (kind != KIND_PRESENT) return false;
  if (which & MOVABLE_ANONYMOUS) return isThere || (high & ENTRY_ZERO) != 0;
  return isThere && !(high & ENTRY_ZERO) && !(load<u32>(frameRecord(frame), FRAME_FLAGS) & FRAME_FILE);
}

/**
 * Writes the runs of words `[from, n)` that move, at most `max` of them, at `output`: words that follow each other, whose frames do so on both sides, with the same right to write. MOVING_BYTES each:
 *
 * ```
 *   0 first word   4 pages   8 source frame, FRAME_NONE for a hole   12 target frame   16 1: writable
 * ```
 *
 * `writable` is the right of holes. With `target` 0 nobody looks for targets, and a run goes on whatever its frames are; else words without a target of their size are left out, and so are with
 * `copied` those that the second tier has already. A COMPOUND word counts 512 pages, and with `isRange` as many words. Returns the runs; H_STOP_INDEX holds the first word that was not looked at.
 */
export function movingRuns(
  source: u32,
  target: u32,
  from: u32,
  n: u32,
  isRange: u32,
  writable: u32,
  copied: u32,
  output: u32,
  max: u32,
): u32 {
  const isTier = copied && load<u32>(H_BACKING);
  let runs: u32 = 0,
    at = output - MOVING_BYTES,
    // What the next word must be to belong to the run.
    nextWord: u32 = 0xffffffff,
    nextSource: u32 = 0,
    nextTarget: u32 = 0,
    write: u32 = 0,
    i = from;
  while (i < n) {
    const word = source + (i << 3),
      high = load<u32>(word, 4),
      pages = high & MIGRATE_COMPOUND ? HUGE_PAGES : 1,
      words: u32 = isRange ? pages : 1;
    const aim = target ? load<u32>(target + (i << 3), 4) : 0,
      to = target ? load<u32>(target + (i << 3)) : <u32>FRAME_NONE,
      isSource = (high & MIGRATE_VALID) != 0,
      frame = isSource ? load<u32>(word) : <u32>FRAME_NONE;
    let moves = (high & MIGRATE_MOVE) != 0;
    if (moves && target) {
      moves = (aim & MIGRATE_VALID) != 0 && !((aim ^ high) & MIGRATE_COMPOUND);
      if (moves && copied && isSource && backingOf(frame) == to + 1) moves = false;
    }
    i += words;
    if (!moves) continue;
    const may: u32 = isSource ? u32((high & MIGRATE_WRITE) != 0) : writable,
      isNext = i - words == nextWord && (!target || (frame == nextSource && to == nextTarget && may == write));
    if (!isNext) {
      if (runs == max) {
        i -= words;
        break;
      }
      runs++;
      at += MOVING_BYTES;
      store<u32>(at, i - words);
      store<u32>(at, 0, 4);
      store<u32>(at, frame, 8);
      store<u32>(at, to, 12);
      store<u32>(at, may, 16);
      write = may;
    }
    let more = pages;
    if (!(high & MIGRATE_COMPOUND)) {
      if (!target) {
        more = (alikeEnd(word, source + (n << 3), MIGRATE_MOVE, MIGRATE_MOVE | MIGRATE_COMPOUND) - word) >> 3;
        i += more - 1;
      } else if (isSource && !isTier) {
        more = runOfBoth(word, target + ((i - 1) << 3), n - i + 1);
        i += more - 1;
      }
    }
    store<u32>(at, load<u32>(at, 4) + more, 4);
    nextWord = i;
    nextSource = isSource ? frame + more : <u32>FRAME_NONE;
    nextTarget = to + more;
  }
  store<u32>(H_STOP_INDEX, i);
  return runs;
}

/**
 * Counts `n` words: writes at `output`, MOVING_TALLY_BYTES, what a migration of them has to know.
 *
 * ```
 *   0 pages with a source that move   4 holes that move   8 those that have a target   12 first word of a hole with a target; n: none   16 1: a huge source has small targets
 * ```
 */
export function movingTally(source: u32, target: u32, n: u32, output: u32): void {
  let valid: u32 = 0,
    holes: u32 = 0,
    aimed: u32 = 0,
    first = n,
    splits: u32 = 0,
    // Where the source words end that are like the last one.
    alike: u32 = 0;
  for (let i: u32 = 0; i < n;) {
    const sort = load<u32>(source + (i << 3), 4) & TALLIED,
      aim = load<u32>(target + (i << 3), 4),
      from = i;
    let pages = HUGE_PAGES;
    if (sort & MIGRATE_COMPOUND) {
      if (!(aim & MIGRATE_COMPOUND) && !splits) splits = u32(isAimed(target, i, n));
      i++;
    } else {
      // Words that are alike count together; whether there is a target matters to holes alone.
      if (i >= alike) alike = (alikeEnd(source + (i << 3), source + (n << 3), sort, TALLIED) - source) >> 3;
      i = sort == MIGRATE_MOVE ? (alikeEnd(target + (i << 3), target + (alike << 3), aim, -1) - target) >> 3 : alike;
      pages = i - from;
    }
    if (!(sort & MIGRATE_MOVE)) continue;
    if (sort & MIGRATE_VALID) valid += pages;
    else {
      holes += pages;
      if (aim) {
        aimed += pages;
        if (first == n) first = from;
      }
    }
  }
  store<u32>(output, valid);
  store<u32>(output, holes, 4);
  store<u32>(output, aimed, 8);
  store<u32>(output, first, 12);
  store<u32>(output, splits, 16);
}

/** Whether one of the words that a huge page of a range stands for has a target. */
function isAimed(target: u32, from: u32, n: u32): bool {
  for (let i = from, end = min(n, from + HUGE_PAGES); i < end; i++) if (load<u32>(target + (i << 3), 4)) return true;
  return false;
}

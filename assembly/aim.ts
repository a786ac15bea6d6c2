import { ENTRY_BYTES, H_STOP_INDEX, MIGRATE_COMPOUND, MIGRATE_VALID } from './layout';
import { frameTakeRun } from './frame';
import { nodeRecord } from './node';
import { alikeEnd, fillRun, numbersLength } from './run';

/**
 * Targets for many small pages at once: target words for frames that a list has, or that a node has free.
 *
 * ```
 *   offsets   2   3   4   7          frames   f   g   LATER   h
 *   words     f | VALID,   g | VALID,   LATER | VALID,   0,   0,   h | VALID
 * ```
 */

/**
 * Gives pages their frames: word `offsets[k] - offsets[0]` of those from `target` on gets `frames[k]` (u32 each), or, where that is negative, FRAME_NONE: the device will choose it. The others of `words` words become 0.
 *
 * Requires: offsets ascend, and the words reach to the last of them.
 */
export function aimEach(offsets: u32, frames: u32, n: u32, target: u32, words: u32): void {
  const first = load<u32>(offsets);
  let end = target;
  for (let k: u32 = 0; k < n;) {
    const at = offsets + (k << 2),
      run = numbersLength(at, n - k),
      word = target + ((load<u32>(at) - first) << 3);
    memory.fill(end, 0, word - end);
    aimRun(word, frames + (k << 2), run);
    end = word + (run << 3);
    k += run;
  }
  memory.fill(end, 0, target + (words << 3) - end);
}

/** Target words for `n` frames. */
function aimRun(word: u32, frames: u32, n: u32): void {
  const valid = i32x4.splat(MIGRATE_VALID);
  let i: u32 = 0;
  for (; i + 4 <= n; i += 4, word += 32, frames += 16) {
    const four = v128.load(frames),
      aims = v128.or(four, i32x4.shr_s(four, 31));
    v128.store(word, v128.shuffle<i32>(aims, valid, 0, 4, 1, 5));
    v128.store(word, v128.shuffle<i32>(aims, valid, 2, 6, 3, 7), 16);
  }
  for (; i < n; i++, word += 8, frames += 4) {
    const frame = load<i32>(frames);
    store<i32>(word, frame | (frame >> 31));
    store<u32>(word, MIGRATE_VALID, 4);
  }
}

/** Gives `n` words without a target a free frame each, or as many as there are and as may be. Returns how many. */
function fillWanting(record: u32, aim: u32, n: u32, most: u32): u32 {
  const wanted = min(n, most);
  let taken: u32 = 0;
  while (taken < wanted) {
    const run = frameTakeRun(record, wanted - taken);
    if (!run) break;
    const pages = <u32>(run >> 32);
    fillRun(aim + (taken << 3), pages, ((<u64>MIGRATE_VALID) << 32) | (<u32>run), 1);
    taken += pages;
  }
  return taken;
}

/**
 * Gives the small words of `[from, n)` that have a source and no target a frame of `node` each, in order, `most` of them at most: the same frames in the same order as by `frameTake`. Returns how many; H_STOP_INDEX holds the first
 * word that was not looked at: a COMPOUND one, or one for which there was no frame; `n` at the end.
 */
export function aimWanting(node: u32, source: u32, target: u32, from: u32, n: u32, most: u32): u32 {
  const record = nodeRecord(node),
    last = source + (n << 3);
  let word = source + (from << 3),
    taken: u32 = 0;
  while (word < last && !(load<u32>(word, 4) & MIGRATE_COMPOUND)) {
    const valid = load<u32>(word, 4) & MIGRATE_VALID,
      end = alikeEnd(word, last, valid, MIGRATE_VALID | MIGRATE_COMPOUND);
    if (!valid) word = end;
    while (word < end) {
      const aim = target + (word - source);
      if (load<u32>(aim, 4)) {
        word += ENTRY_BYTES;
        continue;
      }
      const pages = fillWanting(record, aim, (alikeEnd(aim, target + (end - source), 0, -1) - aim) >> 3, most - taken);
      taken += pages;
      word += pages << 3;
      if (word < end && !load<u32>(target + (word - source), 4)) {
        store<u32>(H_STOP_INDEX, (word - source) >> 3);
        return taken;
      }
    }
  }
  store<u32>(H_STOP_INDEX, (word - source) >> 3);
  return taken;
}

import {
  ENTRY_BYTES,
  FRAME_BYTES,
  FRAME_FLAGS,
  FRAME_LISTED,
  FRAME_MAPS,
  FRAME_NEXT,
  FRAME_NODE,
  FRAME_ORDER,
  FRAME_PREVIOUS,
  FRAME_REFS,
  FRAME_RMAP,
  FRAME_CHARGE,
  STATE_OFFLINE,
  NODE_NEWEST,
  NODE_OLDEST,
} from './layout';
import { chargeNode, frameRecord } from './frame';
import { restored } from './migration-entry';
import { nodeOf } from './node';

/**
 * The end of a migration for pages that follow each other on both sides: what `handOver` does with each, and what it counts and links, once for all.
 *
 * ```
 *  words   f | f + 1 | f + 2 ...  ->  t | t + 1 | t + 2 ...
 *  source  2 references (mapping, migration), 1 mapping at p, p + 1, ..., flags and payer alike      ->   nobody's: retired, off its list
 *  target  flags and references alike, no payer, on no list                                          ->   mapped at p, p + 1, ..., paid for, listed
 *  slots   migration entries at p, p + 1, ...                                                        ->   entries of t, t + 1, ...
 * ```
 */

/**
 * Hands over as many pages as are alike, at most `most`, from the words at `source` and `target` on, whose first entry is at `slot`. `kind` is that of the target's entries, `list` the record of its node
 * if that lists its frames, else 0. Returns how many; their frames have retired, and the caller gives them back. 0, and nothing has changed: the first page is not of this sort.
 *
 * Requires: the first source word is VALID and moves, its target is VALID, neither COMPOUND; `most` slots are in one table page, `most` frames on one node on each side; no second tier.
 */
export function handOverRun(source: u32, target: u32, most: u32, slot: u32, kind: u32, list: u32): u32 {
  const word = load<u64>(source),
    goal = load<u64>(target);
  // One by itself is not worth it.
  if (most < 2 || load<u64>(source, 8) != word + 1 || load<u64>(target, 8) != goal + 1) return 0;
  const frame = <u32>word,
    to = <u32>goal,
    first = frameRecord(frame),
    next = frameRecord(to),
    flags = load<u32>(first, FRAME_FLAGS),
    nextFlags = load<u32>(next, FRAME_FLAGS),
    mapping = load<u64>(first, FRAME_RMAP);
  if (load<u32>(first, FRAME_REFS) != 2 || load<u32>(first, FRAME_MAPS) != 1 || flags & FRAME_ORDER) return 0;
  if (load<u16>(next, FRAME_CHARGE) || nextFlags & (FRAME_ORDER | FRAME_LISTED)) return 0;
  const isListed = (flags & FRAME_LISTED) != 0,
    payer = <u32>load<u16>(first, FRAME_CHARGE),
    // The lower halves of all records: references, mappings, flags, payer.
    from = v128.load(first),
    aim = v128.load(next);
  const free = i32x4.replace_lane(
    i32x4.replace_lane(v128.and(from, i32x4(0, 0, 0, -65536)), 2, (flags & FRAME_NODE) | STATE_OFFLINE),
    0,
    0,
  );
  let taken = i32x4.add(aim, i32x4(0, 1, 0, 0));
  taken = i32x4.replace_lane(taken, 2, list ? nextFlags | FRAME_LISTED : nextFlags);
  taken = v128.or(taken, i32x4.replace_lane(i32x4.splat(0), 3, payer));
  // The upper half of a target: its mapping, the neighbours on the list.
  let upper = i32x4.replace_lane(i32x4.replace_lane(i64x2.splat(<i64>mapping), 2, to + 2), 3, to);
  let migration = load<u32>(slot, 4),
    entry = restored(migration, to, kind),
    n: u32 = 0,
    record = first,
    other = next;
  for (; n < most; n++) {
    if (load<u64>(source + (n << 3)) != word + n || load<u64>(target + (n << 3)) != goal + n) break;
    if (load<u64>(record, FRAME_RMAP) != mapping + n) break;
    if (v128.any_true(v128.or(v128.xor(v128.load(record), from), v128.xor(v128.load(other), aim)))) break;
    // Neighbours on their list, too.
    if (isListed && n && load<u32>(record, FRAME_PREVIOUS) != frame + n) break;
    const high = load<u32>(slot, 4);
    if (high != migration) {
      migration = high;
      entry = restored(high, to + n, kind);
    }
    store<u64>(slot, entry);
    v128.store(record, free);
    store<u64>(record, 0, FRAME_RMAP);
    v128.store(other, taken);
    if (list) {
      v128.store(other, upper, FRAME_RMAP);
      upper = i32x4.add(upper, i32x4(1, 0, 1, 1));
    } else store<u64>(other, mapping + n, FRAME_RMAP);
    entry++;
    slot += ENTRY_BYTES;
    record += FRAME_BYTES;
    other += FRAME_BYTES;
  }
  if (!n) return 0;
  if (isListed) {
    const node = nodeOf(frame),
      link = load<u32>(first, FRAME_PREVIOUS),
      after = load<u32>(record - FRAME_BYTES, FRAME_NEXT);
    if (link) store<u32>(frameRecord(link - 1), after, FRAME_NEXT);
    else store<u32>(node, after, NODE_OLDEST);
    if (after) store<u32>(frameRecord(after - 1), link, FRAME_PREVIOUS);
    else store<u32>(node, link, NODE_NEWEST);
  }
  if (list) {
    const newest = load<u32>(list, NODE_NEWEST);
    store<u32>(next, newest, FRAME_PREVIOUS);
    store<u32>(other - FRAME_BYTES, 0, FRAME_NEXT);
    if (newest) store<u32>(frameRecord(newest - 1), to + 1, FRAME_NEXT);
    else store<u32>(list, to + 1, NODE_OLDEST);
    store<u32>(list, to + n, NODE_NEWEST);
  }
  if (payer) {
    chargeNode(first, payer - 1, 0 - n);
    chargeNode(next, payer - 1, n);
  }
  return n;
}

import {
  ALLOC_DRIVER,
  ENTRY_BYTES,
  FRAME_BYTES,
  FRAME_CHARGE,
  FRAME_FLAGS,
  FRAME_LISTED,
  FRAME_LOCKED,
  FRAME_MAPS,
  FRAME_NEXT,
  FRAME_NODE,
  FRAME_ORDER,
  FRAME_PREVIOUS,
  FRAME_REFS,
  FRAME_RMAP,
  H_BACKING,
  NODE_ALLOC,
  NODE_IS_TIER,
  NODE_KIND,
  NODE_NEWEST,
  NODE_OLDEST,
  NODE_OWNER,
  STATE_OFFLINE,
} from './layout';
import { backingMove, backingSet } from './backing';
import { chargeNode, frameCharge, frameMaps, framePut, frameRecord, frameRetire, frameTouch } from './frame';
import { restore } from './isolate';
import { kindOn, restored } from './migration-entry';
import { listAppend, listRemove, nodeOf } from './node';
import { rmapMove } from './rmap';

/**
 * The end of a migration for what moved: mappings, reference, lock, payer and place on its node's list go over to the frame that has the bytes now. `succeed` does it for any frame, `handOver` for one with one mapping, and
 * `handOverRun` for pages that follow each other on both sides, what is to be counted and linked once for all:
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
 * Requires: the first source word is VALID and moves, its target is VALID, neither COMPOUND, and the `most` words of both follow them; `most` slots are in one table page, `most` frames on one node on each side; no second tier.
 */
export function handOverRun(source: u32, target: u32, most: u32, slot: u32, kind: u32, list: u32): u32 {
  // One by itself is not worth it.
  if (most < 2) return 0;
  const frame = load<u32>(source),
    to = load<u32>(target),
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
  const step = i32x4(1, 0, 1, 1),
    // What is the same in the upper half of a source as in that of the one before it, counted up: its mapping; and that is its neighbour on the list.
    care = i32x4(-1, -1, 0, isListed ? -1 : 0),
    end = first + most * FRAME_BYTES;
  // The upper half of a target: its mapping, the neighbours on the list.
  let upper = i32x4.replace_lane(i32x4.replace_lane(i64x2.splat(<i64>mapping), 2, to + 2), 3, to),
    place = i32x4.replace_lane(upper, 3, frame),
    migration = load<u32>(slot, 4),
    entry = restored(migration, to, kind),
    record = first,
    other = next;
  for (;;) {
    const high = load<u32>(slot, 4);
    if (high != migration) {
      migration = high;
      entry = restored(high, <u32>entry, kind);
    }
    store<u64>(slot, entry);
    v128.store(record, free);
    store<u64>(record, 0, FRAME_RMAP);
    v128.store(other, taken);
    if (list) {
      v128.store(other, upper, FRAME_RMAP);
      upper = i32x4.add(upper, step);
    } else store<u64>(other, i64x2.extract_lane(place, 0), FRAME_RMAP);
    place = i32x4.add(place, step);
    entry++;
    slot += ENTRY_BYTES;
    record += FRAME_BYTES;
    other += FRAME_BYTES;
    if (record == end) break;
    const lower = v128.or(v128.xor(v128.load(record), from), v128.xor(v128.load(other), aim));
    if (v128.any_true(v128.or(lower, v128.and(v128.xor(v128.load(record, FRAME_RMAP), place), care)))) break;
  }
  const n = (record - first) / FRAME_BYTES;
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

/** `succeed`, the end of the lock and of the migration's reference, and `enlist`, of a page with one mapping, whose entry is at `slot`. True: nobody has the old frame any more, and the caller frees it. Requires: no second tier. */
export function handOver(frame: u32, to: u32, slot: u32): bool {
  const node = nodeOf(to);
  return handOverOn(frame, to, slot, kindOn(node), listOf(node));
}

/** The record of a node that lists its frames, else 0: see `enlist`. */
export function listOf(node: u32): u32 {
  return load<u32>(node, NODE_OWNER) && load<u32>(node, NODE_ALLOC) != ALLOC_DRIVER ? node : 0;
}

/** The same where it is known what kind the entries of the target's node are of, and its list. */
export function handOverOn(frame: u32, to: u32, slot: u32, kind: u32, list: u32): bool {
  const record = frameRecord(frame),
    next = frameRecord(to),
    refs = load<u32>(record, FRAME_REFS) - 2,
    flags = load<u32>(record, FRAME_FLAGS) & ~FRAME_LOCKED,
    payer = <u32>load<u16>(record, FRAME_CHARGE);
  assert(frameMaps(record) == 1);
  store<u64>(slot, restored(load<u32>(slot, 4), to, kind));
  // The mapping's reference on the new frame is that of its allocation.
  store<u32>(record, refs, FRAME_REFS);
  store<u32>(record, load<u32>(record, FRAME_MAPS) - 1, FRAME_MAPS);
  store<u32>(next, load<u32>(next, FRAME_MAPS) + 1, FRAME_MAPS);
  store<u64>(next, load<u64>(record, FRAME_RMAP), FRAME_RMAP);
  store<u64>(record, 0, FRAME_RMAP);
  store<u32>(record, flags, FRAME_FLAGS);
  if (payer) frameCharge(next, payer - 1);
  if (!refs) frameRetire(frame);
  if (list) {
    const marks = load<u32>(next, FRAME_FLAGS);
    if (marks & FRAME_LISTED) listRemove(list, to);
    else store<u32>(next, marks | FRAME_LISTED, FRAME_FLAGS);
    listAppend(list, to);
  }
  return !refs;
}

/** Hands a frame's mappings over to the frame that has its bytes now. */
export function succeed(frame: u32, to: u32): void {
  const entry = frameRecord(frame),
    next = frameRecord(to),
    maps = frameMaps(entry);
  restore(frame, to);
  rmapMove(frame, to);
  // Before the frame may go: when all mappings have gone meanwhile, it takes its backing along.
  if (load<u32>(H_BACKING)) {
    if (load<u32>(nodeOf(frame), NODE_KIND) == NODE_IS_TIER) backingSet(to, frame);
    else if (load<u32>(nodeOf(to), NODE_KIND) != NODE_IS_TIER) backingMove(frame, to);
  }
  // Each mapping carries a reference; the allocation's own one becomes the first mapping's.
  store<u32>(entry, load<u32>(entry, FRAME_REFS) - maps, FRAME_REFS);
  store<u32>(next, load<u32>(next, FRAME_REFS) + maps, FRAME_REFS);
  framePut(to);
  const payer = <u32>load<u16>(entry, FRAME_CHARGE);
  if (payer && maps) frameCharge(next, payer - 1);
}

/** Puts a frame of a device on its node's list of used frames, from which victims are chosen: the framework chooses them, whoever hands the frames out, but for a driver's allocator. The host's have no use for one. */
export function enlist(frame: u32): void {
  if (listOf(nodeOf(frame)) && frameMaps(frameRecord(frame))) frameTouch(frame);
}

import {
  FRAME_FLAGS,
  FRAME_NEXT,
  FRAME_NONE,
  FRAME_ORDER,
  FRAME_ORDER_SHIFT,
  FRAME_PREVIOUS,
  FRAME_STATE,
  NODE_BASE,
  NODE_COUNTS,
  NODE_FLAGS,
  NODE_FRAMES,
  NODE_FREE,
  NODE_HEADS,
  ORDER_MAX,
  STATE_FREE,
  STATE_OFFLINE,
} from './layout';
import { frameRecord } from './frame';

/**
 * Buddy allocation inside one node, orders 0 to ORDER_MAX.
 *
 * A free block of order o is 2^o frames, aligned to 2^o within the node. Only its first frame is marked (STATE_FREE and its order); the
 * others are offline, so a merge touches two records however large the block is.
 *
 * ```
 * order 2   [F2 .  .  . ]                 one head, three silent frames
 * split     [F1 . ][F1 . ]                order 1: two heads, buddies of each other: index ^ 2^order
 * split     [U ][F0][F1 . ]               order 0: one handed out
 * ```
 *
 * Models: `mm/page_alloc.c`, `__rmqueue_smallest` and `__free_one_page`.
 */

function headSlot(record: u32, order: u32): u32 {
  return record + NODE_HEADS + (order << 2);
}

function countSlot(record: u32, order: u32): u32 {
  return record + NODE_COUNTS + (order << 2);
}

/** Puts a free block at the front of its order's list. */
function push(record: u32, frame: u32, order: u32): void {
  const entry = frameRecord(frame),
    slot = headSlot(record, order),
    head = load<u32>(slot);
  store<u32>(entry, load<u32>(record, NODE_FLAGS) | STATE_FREE | (order << FRAME_ORDER_SHIFT), FRAME_FLAGS);
  store<u32>(entry, head, FRAME_NEXT);
  store<u32>(entry, 0, FRAME_PREVIOUS);
  if (head) store<u32>(frameRecord(head - 1), frame + 1, FRAME_PREVIOUS);
  store<u32>(slot, frame + 1);
  store<u32>(countSlot(record, order), load<u32>(countSlot(record, order)) + 1);
}

/** Takes a free block out of its order's list and unmarks it. */
function pull(record: u32, frame: u32, order: u32): void {
  const entry = frameRecord(frame),
    next = load<u32>(entry, FRAME_NEXT),
    previous = load<u32>(entry, FRAME_PREVIOUS);
  if (previous) store<u32>(frameRecord(previous - 1), next, FRAME_NEXT);
  else store<u32>(headSlot(record, order), next);
  if (next) store<u32>(frameRecord(next - 1), previous, FRAME_PREVIOUS);
  store<u32>(countSlot(record, order), load<u32>(countSlot(record, order)) - 1);
  store<u32>(entry, load<u32>(record, NODE_FLAGS) | STATE_OFFLINE, FRAME_FLAGS);
}

/** Makes every frame of a new node free, in the largest aligned blocks; of blocks of one order the lowest is handed out first. */
export function buddyFill(record: u32): void {
  const base = load<u32>(record, NODE_BASE),
    frames = load<u32>(record, NODE_FRAMES);
  // From the top down, because push puts a block at the front of its list.
  let end = frames;
  while (end) {
    let order: u32 = ctz(end);
    if (order > <u32>ORDER_MAX) order = ORDER_MAX;
    push(record, base + end - (1 << order), order);
    end -= 1 << order;
  }
  store<u32>(record, frames, NODE_FREE);
}

/**
 * Takes a block of 2^order frames: the low end of the block that was freed last among those of the smallest order that will do. Returns
 * its first frame, unmarked, or FRAME_NONE. The caller counts it into use.
 */
export function buddyTake(record: u32, order: u32): u32 {
  let from = order;
  while (from <= <u32>ORDER_MAX && !load<u32>(headSlot(record, from))) from++;
  if (from > <u32>ORDER_MAX) return <u32>FRAME_NONE;
  const frame = load<u32>(headSlot(record, from)) - 1;
  pull(record, frame, from);
  while (from > order) {
    from--;
    push(record, frame + (1 << from), from);
  }
  return frame;
}

/**
 * Takes a run of at most `most` frames, `most` at least 1: those that as many calls for one frame each would take, in their order. Its first frame, unmarked, is in the low word, how many they are in
 * the high word; 0: there is none.
 */
export function buddyTakeRun(record: u32, most: u32): u64 {
  let order: u32 = 0;
  while (order <= <u32>ORDER_MAX && !load<u32>(headSlot(record, order))) order++;
  if (order > <u32>ORDER_MAX) return 0;
  const frame = load<u32>(headSlot(record, order)) - 1;
  pull(record, frame, order);
  // Smaller blocks there are none: single frames would come from this one, its low end first, until it is used up.
  while ((<u32>1) << order > most) {
    order--;
    push(record, frame + (1 << order), order);
  }
  const one: u64 = 1;
  return (one << (32 + order)) | frame;
}

/** Gives `n` neighbouring frames back, as one by one from the lowest on. */
export function buddyGiveRun(record: u32, frame: u32, n: u32): void {
  const base = load<u32>(record, NODE_BASE);
  let index = frame - base;
  while (n) {
    let order: u32 = min(ctz(index), 31 - clz(n));
    if (order > <u32>ORDER_MAX) order = ORDER_MAX;
    buddyGive(record, base + index, order);
    index += 1 << order;
    n -= 1 << order;
  }
}

/** Gives a block of 2^order frames back and merges it with its free buddies as far as that goes. */
export function buddyGive(record: u32, frame: u32, order: u32): void {
  const base = load<u32>(record, NODE_BASE),
    frames = load<u32>(record, NODE_FRAMES);
  let index = frame - base;
  while (order < <u32>ORDER_MAX) {
    const buddy = index ^ (1 << order);
    if (buddy + (1 << order) > frames) break;
    const flags = load<u32>(frameRecord(base + buddy), FRAME_FLAGS);
    if ((flags & FRAME_STATE) != STATE_FREE || (flags & FRAME_ORDER) >> FRAME_ORDER_SHIFT != order) break;
    pull(record, base + buddy, order);
    index &= ~(1 << order);
    order++;
  }
  push(record, base + index, order);
}

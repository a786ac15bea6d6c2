import {
  ALLOC_CORE,
  FREED_HUGE,
  AREA_FREED,
  FRAME_BYTES,
  FRAME_CHARGE,
  FRAME_FLAGS,
  FRAME_LISTED,
  FRAME_LOCKED,
  FRAME_LONG_TERM,
  FRAME_MAPS,
  FRAME_NODE,
  FRAME_NODE_SHIFT,
  FRAME_NONE,
  FRAME_ORDER,
  FRAME_ORDER_SHIFT,
  FRAME_PREVIOUS,
  FRAME_REFS,
  FRAME_RMAP,
  FRAME_STATE,
  H_AREAS,
  H_BACKING,
  H_CHARGES,
  H_FRAMES,
  H_FREED,
  HUGE_ORDER,
  H_STOP_INDEX,
  H_TABLES,
  MAPS_BITS,
  MAPS_MASK,
  NODES_MAX,
  NODE_ALLOC,
  NODE_FLAGS,
  PAGE_BYTES,
  PINS_MAX,
  PIN_ONE,
  STATE_OFFLINE,
  STATE_TAIL,
  STATE_USED,
  TABLE_BYTES,
  TABLE_CHARGED,
} from './layout';
import { backingDrop } from './backing';
import { buddyGive, buddyGiveRun, buddyTake, buddyTakeRun } from './buddy';
import { frameBytes, listAppend, listRemove, nodeGive, nodeOf, nodeRecord, nodeTake } from './node';
import { numberFrom } from './run';

/**
 * Frames: the life of one page of simulated physical memory.
 *
 * ```
 *           frameTake, frameClaim              framePut of the last reference
 *  offline / free  ------------->  used, refs 1  -------------------------->  free (core) or offline (its driver is told)
 * ```
 *
 * A reference is held by every mapping, every pin, and every operation in flight. `refs == maps + pins + operations` at all times; a
 * migration relies on it to notice a holder that it does not know.
 *
 * Models: `struct page`, `folio_ref_*`, `__SetPageLocked`.
 */

/** Pages of a huge frame. */
export const HUGE_PAGES: u32 = 1 << HUGE_ORDER;

/** Byte address of a frame's record. */
export function frameRecord(frame: u32): u32 {
  return load<u32>(H_FRAMES) + frame * FRAME_BYTES;
}

/** log2 of the pages of a frame. */
export function frameOrder(record: u32): u32 {
  return (load<u32>(record, FRAME_FLAGS) & FRAME_ORDER) >> FRAME_ORDER_SHIFT;
}

/** Home-table entries that name the frame. */
export function frameMaps(record: u32): u32 {
  return load<u32>(record, FRAME_MAPS) & MAPS_MASK;
}

export function framePins(record: u32): u32 {
  return load<u32>(record, FRAME_MAPS) >> MAPS_BITS;
}

/** Makes 2^order frames from `frame` on one used frame with one reference. */
function begin(record: u32, frame: u32, order: u32): void {
  const entry = frameRecord(frame),
    flags = load<u32>(record, NODE_FLAGS);
  store<u32>(entry, 1, FRAME_REFS);
  store<u32>(entry, 0, FRAME_MAPS);
  store<u32>(entry, flags | STATE_USED | (order << FRAME_ORDER_SHIFT), FRAME_FLAGS);
  store<u32>(entry, 0, FRAME_CHARGE);
  store<u64>(entry, 0, FRAME_RMAP);
  for (let tail = frame + 1, end = frame + (1 << order); tail < end; tail++) {
    const tailEntry = frameRecord(tail);
    store<u32>(tailEntry, flags | STATE_TAIL, FRAME_FLAGS);
    store<u32>(tailEntry, 0, FRAME_MAPS);
    store<u32>(tailEntry, frame, FRAME_PREVIOUS);
  }
  nodeTake(record, 1 << order);
}

/** A frame of 2^order pages from a node whose allocation is the core's, with one reference and stale bytes; FRAME_NONE when there is none. */
export function frameTake(node: u32, order: u32): u32 {
  const record = nodeRecord(node);
  const frame = buddyTake(record, order);
  if (frame != <u32>FRAME_NONE) begin(record, frame, order);
  return frame;
}

/**
 * Takes `n` frames of one page, or as many as there are, with the marks `marks`; their numbers (u32) are written at `list`, and at `runs` what neighbours they are: the first one and how many, u32 each. Returns how many: the same
 * frames in the same order as by `frameTake`. H_STOP_INDEX holds the number of runs.
 */
export function frameTakeMany(node: u32, n: u32, list: u32, marks: u32, runs: u32): u32 {
  const record = nodeRecord(node);
  let taken: u32 = 0,
    at = runs;
  while (taken < n) {
    const run = frameTakeRun(record, n - taken, marks);
    if (!run) break;
    const frame = <u32>run,
      count = <u32>(run >> 32);
    store<u64>(at, run);
    at += 8;
    numberFrom(list + (taken << 2), frame, frame + count);
    taken += count;
  }
  store<u32>(H_STOP_INDEX, (at - runs) >> 3);
  return taken;
}

/** Takes neighbouring frames of a node, at most `most`: those that as many calls for one each would take. The first one is in the low word, how many they are in the high word; 0: there is none. */
export function frameTakeRun(record: u32, most: u32, marks: u32 = 0): u64 {
  const run = most ? buddyTakeRun(record, most) : 0;
  if (run) beginRun(record, <u32>run, <u32>(run >> 32), marks);
  return run;
}

/** `begin` of `n` neighbouring frames of one page each. */
function beginRun(record: u32, frame: u32, n: u32, marks: u32): void {
  const used = i32x4.replace_lane(i32x4(1, 0, 0, 0), 2, load<u32>(record, NODE_FLAGS) | STATE_USED | marks);
  for (let entry = frameRecord(frame), end = entry + n * FRAME_BYTES; entry < end; entry += FRAME_BYTES) {
    // References, mappings, flags, payer.
    v128.store(entry, used);
    store<u64>(entry, 0, FRAME_RMAP);
  }
  nodeTake(record, n);
}

/** Changes the marks of `n` neighbouring frames: those in `clear` go, those in `set` come. */
export function frameMark(frame: u32, n: u32, clear: u32, set: u32): void {
  for (let entry = frameRecord(frame), end = entry + n * FRAME_BYTES; entry < end; entry += FRAME_BYTES)
    store<u32>(entry, (load<u32>(entry, FRAME_FLAGS) & ~clear) | set, FRAME_FLAGS);
}

/**
 * Marks a frame that its driver's or peer's own allocator chose as used, with one reference. Returns 1, or 0 when it is in use already.
 * Requires: the frame is on a node whose allocation is not the core's.
 */
export function frameClaim(frame: u32, order: u32): u32 {
  for (let each = frame, end = frame + (1 << order); each < end; each++) {
    if (!isOffline(each)) return 0;
  }
  begin(nodeOf(frame), frame, order);
  return 1;
}

/**
 * Claims the frames of one page whose numbers (u32) stand at `list`, `n` of them, with the marks `marks`: as `frameClaim` one after the other, up to the first that is in use already. Returns how many; `runs` and H_STOP_INDEX as by
 * `frameTakeMany`. Requires: they are on one node, whose allocation is not the core's.
 */
export function frameClaimMany(list: u32, n: u32, marks: u32, runs: u32): u32 {
  const record = n ? nodeOf(load<u32>(list)) : 0;
  let claimed: u32 = 0,
    at = runs;
  while (claimed < n) {
    const next = list + (claimed << 2),
      first = load<u32>(next),
      most = n - claimed;
    let count: u32 = 0;
    while (count < most && load<u32>(next + (count << 2)) == first + count && isOffline(first + count)) count++;
    if (!count) break;
    beginRun(record, first, count, marks);
    store<u32>(at, first);
    store<u32>(at, count, 4);
    at += 8;
    claimed += count;
  }
  store<u32>(H_STOP_INDEX, (at - runs) >> 3);
  return claimed;
}

/** Whether nobody has a frame that is not the core's to give. */
function isOffline(frame: u32): bool {
  return (load<u32>(frameRecord(frame), FRAME_FLAGS) & FRAME_STATE) == STATE_OFFLINE;
}

/** The head of the huge frame that a frame is part of: itself when it is part of none. */
export function headOf(frame: u32): u32 {
  const record = frameRecord(frame);
  return (load<u32>(record, FRAME_FLAGS) & FRAME_STATE) == STATE_TAIL ? load<u32>(record, FRAME_PREVIOUS) : frame;
}

/** One more reference. Requires: not a tail. */
export function frameGet(frame: u32): void {
  const entry = frameRecord(frame);
  store<u32>(entry, load<u32>(entry, FRAME_REFS) + 1, FRAME_REFS);
}

/**
 * One reference less. The last one frees the frame: it goes back to the core's free lists, or, on a node of which the core is not the
 * allocator, offline, and its number is appended to AREA_FREED so that its owner is told.
 */
export function framePut(frame: u32): void {
  const entry = frameRecord(frame),
    refs = load<u32>(entry, FRAME_REFS) - 1;
  store<u32>(entry, refs, FRAME_REFS);
  if (!refs) frameFree(frame, entry);
}

function frameFree(frame: u32, entry: u32): void {
  const flags = load<u32>(entry, FRAME_FLAGS),
    order = (flags & FRAME_ORDER) >> FRAME_ORDER_SHIFT,
    record = nodeOf(frame);
  frameUncharge(entry, order);
  if (load<u32>(H_BACKING)) backingDrop(frame);
  if (flags & FRAME_LISTED) listRemove(record, frame);
  for (let each = frame, end = frame + (1 << order); each < end; each++) {
    const slot = frameRecord(each);
    store<u32>(slot, (load<u32>(slot, FRAME_FLAGS) & FRAME_NODE) | STATE_OFFLINE, FRAME_FLAGS);
  }
  store<u32>(entry, 0, FRAME_MAPS);
  nodeGive(record, 1 << order);
  if (load<u32>(record, NODE_ALLOC) == ALLOC_CORE) buddyGive(record, frame, order);
  else tellFreed(order ? frame | FREED_HUGE : frame);
}

/** The owner of a frame is to be told that it is free. */
function tellFreed(frame: u32): void {
  const count = load<u32>(H_FREED);
  store<u32>(load<u32>(H_AREAS) + AREA_FREED + (count << 2), frame);
  store<u32>(H_FREED, count + 1);
}

/** A frame of one page is nobody's from now on: all of its end but that its allocator has it again, which `frameGiveRun` sees to. Requires: no references, no mappings; no second tier. */
export function frameRetire(frame: u32): void {
  const entry = frameRecord(frame),
    flags = load<u32>(entry, FRAME_FLAGS);
  frameUncharge(entry, 0);
  if (flags & FRAME_LISTED) listRemove(nodeOf(frame), frame);
  store<u32>(entry, (flags & FRAME_NODE) | STATE_OFFLINE, FRAME_FLAGS);
  store<u32>(entry, 0, FRAME_MAPS);
}

/** Gives back neighbouring frames of one node that have retired: as one after the other. */
export function frameGiveRun(frame: u32, n: u32): void {
  const record = nodeOf(frame);
  nodeGive(record, n);
  if (load<u32>(record, NODE_ALLOC) == ALLOC_CORE) buddyGiveRun(record, frame, n);
  else for (let each = frame, end = frame + n; each < end; each++) tellFreed(each);
}

/** Makes a space pay for a frame, once. `index` is the table index of the space's home table. */
export function frameCharge(entry: u32, index: u32): void {
  if (load<u16>(entry, FRAME_CHARGE)) return;
  store<u16>(entry, <u16>(index + 1), FRAME_CHARGE);
  const table = load<u32>(H_TABLES) + index * TABLE_BYTES;
  store<u32>(table, load<u32>(table, TABLE_CHARGED) + (1 << frameOrder(entry)), TABLE_CHARGED);
  chargeNode(entry, index, 1 << frameOrder(entry));
}

/** Counts pages of a frame's node in for a space, or out. */
export function chargeNode(entry: u32, index: u32, pages: i32): void {
  const node = (load<u32>(entry, FRAME_FLAGS) >> FRAME_NODE_SHIFT) & 0xff,
    at = load<u32>(H_CHARGES) + ((index * NODES_MAX + node) << 2);
  store<u32>(at, load<u32>(at) + pages);
}

function frameUncharge(entry: u32, order: u32): void {
  const payer = <u32>load<u16>(entry, FRAME_CHARGE);
  if (!payer) return;
  store<u16>(entry, 0, FRAME_CHARGE);
  const table = load<u32>(H_TABLES) + (payer - 1) * TABLE_BYTES;
  store<u32>(table, load<u32>(table, TABLE_CHARGED) - (1 << order), TABLE_CHARGED);
  chargeNode(entry, payer - 1, -(1 << order));
}

/** Takes the page lock if it is free: 1, else 0. Never waits. */
export function frameTryLock(frame: u32): u32 {
  const entry = frameRecord(frame),
    flags = load<u32>(entry, FRAME_FLAGS);
  if (flags & FRAME_LOCKED) return 0;
  store<u32>(entry, flags | FRAME_LOCKED, FRAME_FLAGS);
  return 1;
}

export function frameUnlock(frame: u32): void {
  const entry = frameRecord(frame);
  store<u32>(entry, load<u32>(entry, FRAME_FLAGS) & ~FRAME_LOCKED, FRAME_FLAGS);
}

/**
 * A pin: a reference, and the promise that the frame will not move while it lasts. Of a page of a huge frame the count is the page's and the reference the head's. Returns 1, or 0 when
 * the page has as many as can be counted.
 */
export function framePin(frame: u32, longTerm: u32): u32 {
  const entry = frameRecord(frame),
    maps = load<u32>(entry, FRAME_MAPS);
  if (maps >> MAPS_BITS == <u32>PINS_MAX) return 0;
  // Whoever pins may write past all tables.
  if (load<u32>(H_BACKING)) backingDrop(frame);
  frameGet(headOf(frame));
  store<u32>(entry, maps + PIN_ONE, FRAME_MAPS);
  if (longTerm) store<u32>(entry, load<u32>(entry, FRAME_FLAGS) | FRAME_LONG_TERM, FRAME_FLAGS);
  return 1;
}

/** Ends a pin. Returns 1, or 0 when the page has none. The long-term mark goes with the last pin. */
export function frameUnpin(frame: u32): u32 {
  const entry = frameRecord(frame),
    maps = load<u32>(entry, FRAME_MAPS);
  if (maps < <u32>PIN_ONE) return 0;
  store<u32>(entry, maps - PIN_ONE, FRAME_MAPS);
  if (maps - PIN_ONE < <u32>PIN_ONE) store<u32>(entry, load<u32>(entry, FRAME_FLAGS) & ~FRAME_LONG_TERM, FRAME_FLAGS);
  framePut(headOf(frame));
  return 1;
}

/** Puts a used frame at the young end of its node's list; a frame that is on it already moves there. */
export function frameTouch(frame: u32): void {
  const entry = frameRecord(frame),
    flags = load<u32>(entry, FRAME_FLAGS),
    record = nodeOf(frame);
  if (flags & FRAME_LISTED) listRemove(record, frame);
  else store<u32>(entry, flags | FRAME_LISTED, FRAME_FLAGS);
  listAppend(record, frame);
}

/** Fills a frame with zeros, where its bytes are in this memory. Returns 1 when they are. */
export function frameClear(frame: u32): u32 {
  const bytes = frameBytes(frame);
  if (!bytes) return 0;
  memory.fill(bytes, 0, (<usize>PAGE_BYTES) << frameOrder(frameRecord(frame)));
  return 1;
}

/**
 * Gives `pages` frames from `to` on the bytes of as many frames from `from` on: copied, or zeros when `from` is FRAME_NONE or has no bytes in this memory. Returns 1, or 0 when the
 * target's bytes are elsewhere.
 */
export function frameCopy(from: u32, to: u32, pages: u32): u32 {
  const target = frameBytes(to);
  if (!target) return 0;
  const source = from == <u32>FRAME_NONE ? 0 : frameBytes(from);
  if (source) copyPages(target, source, pages);
  else memory.fill(target, 0, pages * PAGE_BYTES);
  return 1;
}

/** Copies `pages` pages, page by page: what is under `memory.copy` takes other ways with long pieces, which are slower in memory that no cache has. */
export function copyPages(to: u32, from: u32, pages: u32): void {
  for (let end = to + pages * PAGE_BYTES; to != end; to += PAGE_BYTES) {
    memory.copy(to, from, PAGE_BYTES);
    from += PAGE_BYTES;
  }
}

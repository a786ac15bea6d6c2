import {
  ALLOC_CORE,
  FRAME_BYTES,
  FRAME_FLAGS,
  FRAME_NEXT,
  FRAME_NODE_SHIFT,
  FRAME_PREVIOUS,
  H_FRAMES,
  H_NODES,
  NODE_ALLOC,
  NODE_BASE,
  NODE_BYTES,
  NODE_BYTES_BASE,
  NODE_BYTES_MODE,
  NODE_FLAGS,
  NODE_FRAME_SHIFT,
  NODE_FRAMES,
  NODE_FREE,
  NODE_KIND,
  NODE_NEWEST,
  NODE_OLDEST,
  NODE_OWNER,
  NODE_USED,
  NODE_USED_PEAK,
  NODES_MAX,
  PAGE_BYTES,
} from './layout';
import { frameRecord } from './frame';
import { buddyFill } from './buddy';

/**
 * A node: an interval of frames with one owner and one cost. Host DRAM, a device's private or coherent memory, a second tier.
 *
 * Models: `pg_data_t`, `hnode`.
 */

/** Byte address of a node's record. */
export function nodeRecord(node: u32): u32 {
  return load<u32>(H_NODES) + node * NODE_BYTES;
}

/** The node that a frame belongs to. */
export function nodeOf(frame: u32): u32 {
  const flags = load<u32>(frameRecord(frame), FRAME_FLAGS);
  return flags ? nodeRecord((flags >> FRAME_NODE_SHIFT) & 0xff) : nodeAround(frame);
}

/** The node of a frame that nobody has had yet; the first one for a number that is no frame's. */
function nodeAround(frame: u32): u32 {
  for (let record = nodeRecord(0), end = nodeRecord(NODES_MAX); record < end; record += NODE_BYTES) {
    if (load<u32>(record, NODE_KIND) && frame - load<u32>(record, NODE_BASE) < load<u32>(record, NODE_FRAMES)) return record;
  }
  return nodeRecord(0);
}

/**
 * Brings `frames` frames from frame number `base` on into being, as node `node`.
 * `bytesBase` is the byte address of the first frame's bytes, 0 for a metadata-only or external node. On a node whose allocation is
 * the core's every frame is free afterwards; on a driver-owned or peer-owned one the frames are the owner's to hand out.
 *
 * Requires: an empty node slot; records of the frames are zeros. They stay so, but for the first ones of free blocks.
 */
export function nodeCreate(
  node: u32,
  base: u32,
  frames: u32,
  kind: u32,
  bytesMode: u32,
  alloc: u32,
  owner: u32,
  bytesBase: u32,
  frameShift: u32,
): void {
  const record = nodeRecord(node);
  memory.fill(record, 0, NODE_BYTES);
  store<u32>(record, base, NODE_BASE);
  store<u32>(record, frames, NODE_FRAMES);
  store<u32>(record, kind, NODE_KIND);
  store<u32>(record, bytesMode, NODE_BYTES_MODE);
  store<u32>(record, alloc, NODE_ALLOC);
  store<u32>(record, owner, NODE_OWNER);
  store<u32>(record, bytesBase, NODE_BYTES_BASE);
  store<u32>(record, frameShift, NODE_FRAME_SHIFT);
  store<u32>(record, node << FRAME_NODE_SHIFT, NODE_FLAGS);
  if (alloc == ALLOC_CORE) buddyFill(record);
  else store<u32>(record, frames, NODE_FREE);
}

/** Takes a node out of being. Requires: none of its frames is in use. Returns 0, or the number of frames still in use (nothing is changed then). */
export function nodeDestroy(node: u32): u32 {
  const record = nodeRecord(node);
  const used = load<u32>(record, NODE_USED);
  if (used) return used;
  clearTouched(load<u32>(H_FRAMES) + load<u32>(record, NODE_BASE) * FRAME_BYTES, load<u32>(record, NODE_FRAMES) * FRAME_BYTES);
  memory.fill(record, 0, NODE_BYTES);
  return 0;
}

/** Makes `length` bytes at `start` zeros, and leaves alone what is: memory that was never touched stays so. Requires: both are multiples of 32. */
export function clearTouched(start: u32, length: u32): void {
  for (let done: u32 = 0; done < length;) {
    const at = start + done;
    let piece: u32 = PAGE_BYTES - (at & (PAGE_BYTES - 1)),
      any = i64x2.splat(0);
    if (piece > length - done) piece = length - done;
    for (let i: u32 = 0; i < piece; i += 32) any = v128.or(any, v128.or(v128.load(at + i), v128.load(at + i, 16)));
    if (v128.any_true(any)) memory.fill(at, 0, piece);
    done += piece;
  }
}

/** Byte address of a frame's bytes, or 0 when they are not in this memory. */
export function frameBytes(frame: u32): u32 {
  const node = nodeOf(frame);
  const base = load<u32>(node, NODE_BYTES_BASE);
  return base ? base + ((frame - load<u32>(node, NODE_BASE)) << load<u32>(node, NODE_FRAME_SHIFT)) : 0;
}

/** Counts frames into use, and remembers the most that ever were. */
export function nodeTake(record: u32, frames: u32): void {
  const used = load<u32>(record, NODE_USED) + frames;
  store<u32>(record, used, NODE_USED);
  store<u32>(record, load<u32>(record, NODE_FREE) - frames, NODE_FREE);
  if (used > load<u32>(record, NODE_USED_PEAK)) store<u32>(record, used, NODE_USED_PEAK);
}

/** Counts frames out of use. */
export function nodeGive(record: u32, frames: u32): void {
  store<u32>(record, load<u32>(record, NODE_USED) - frames, NODE_USED);
  store<u32>(record, load<u32>(record, NODE_FREE) + frames, NODE_FREE);
}

// The list of used frames, oldest first: links are frame numbers + 1, so that 0 ends the list.

/** Puts a frame at the young end of its node's list. Requires: it is on no list. */
export function listAppend(record: u32, frame: u32): void {
  const entry = frameRecord(frame);
  const newest = load<u32>(record, NODE_NEWEST);
  store<u32>(entry, 0, FRAME_NEXT);
  store<u32>(entry, newest, FRAME_PREVIOUS);
  if (newest) store<u32>(frameRecord(newest - 1), frame + 1, FRAME_NEXT);
  else store<u32>(record, frame + 1, NODE_OLDEST);
  store<u32>(record, frame + 1, NODE_NEWEST);
}

/** Takes a frame off its node's list. */
export function listRemove(record: u32, frame: u32): void {
  const entry = frameRecord(frame);
  const next = load<u32>(entry, FRAME_NEXT),
    previous = load<u32>(entry, FRAME_PREVIOUS);
  if (previous) store<u32>(frameRecord(previous - 1), next, FRAME_NEXT);
  else store<u32>(record, next, NODE_OLDEST);
  if (next) store<u32>(frameRecord(next - 1), previous, FRAME_PREVIOUS);
  else store<u32>(record, previous, NODE_NEWEST);
}

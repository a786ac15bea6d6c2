import { FRAME_CACHED, FRAME_FLAGS, H_BACKING } from './layout';
import { frameGet, framePut, frameRecord } from './frame';

/**
 * What a page has in the second tier while it is elsewhere: a frame there with the same bytes, kept when the page came back. The page can go again without a copy for as long as nobody
 * has written to it.
 *
 * ```
 *   swapped out     entries -> slot
 *   swapped in      entries -> frame, clean       backing(frame) = slot, which has one reference for it (FRAME_CACHED)
 *   written         entry dirty                   the backing is stale, and goes when the page next moves
 *   frame freed, or pinned, or a device's alone   the backing goes
 * ```
 *
 * Models: the swap cache, `folio_free_swap`.
 */

/** The frame of the second tier that has the bytes of a frame, + 1; 0: none. */
export function backingOf(frame: u32): u32 {
  const backings = load<u32>(H_BACKING);
  return backings ? load<u32>(backings + (frame << 2)) : 0;
}

/** From now on `slot` has the bytes of `frame`; one reference more. Requires: a second tier; neither has a backing, nor is one. */
export function backingSet(frame: u32, slot: u32): void {
  assert(!backingOf(frame));
  const record = frameRecord(slot);
  store<u32>(load<u32>(H_BACKING) + (frame << 2), slot + 1);
  store<u32>(record, load<u32>(record, FRAME_FLAGS) | FRAME_CACHED, FRAME_FLAGS);
  frameGet(slot);
}

/** The bytes of a frame are its own again, or gone. */
export function backingDrop(frame: u32): void {
  const slot = backingOf(frame);
  if (!slot) return;
  store<u32>(load<u32>(H_BACKING) + (frame << 2), 0);
  const record = frameRecord(slot - 1);
  store<u32>(record, load<u32>(record, FRAME_FLAGS) & ~FRAME_CACHED, FRAME_FLAGS);
  framePut(slot - 1);
}

/** The bytes of one frame are those of another now. */
export function backingMove(from: u32, to: u32): void {
  const slot = backingOf(from);
  if (!slot) return;
  assert(!backingOf(to));
  store<u32>(load<u32>(H_BACKING) + (from << 2), 0);
  store<u32>(load<u32>(H_BACKING) + (to << 2), slot);
}

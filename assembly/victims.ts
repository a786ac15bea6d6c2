import {
  FRAME_FLAGS,
  FRAME_LOCKED,
  FRAME_NEXT,
  FRAME_ORDER,
  FRAME_ORDER_SHIFT,
  FRAME_REFS,
  FRAME_STATE,
  H_STOP_INDEX,
  NODE_BASE,
  NODE_FRAMES,
  NODE_OLDEST,
  STATE_USED,
} from './layout';
import { frameMaps, framePins, frameRecord } from './frame';
import { nodeRecord } from './node';

/**
 * Candidates for eviction: the oldest frames of a node that may move, of huge ones the first, as frame numbers (u32) at `output`, at most `max`, passing over
 * those that are locked (source or target of something in flight), pinned, or listed in `spared` (u32 x `sparedCount`).
 * Returns how many were found. Which of them go is the SDK's decision.
 */
export function victims(node: u32, output: u32, max: u32, spared: u32, sparedCount: u32): u32 {
  let found: u32 = 0,
    link = load<u32>(nodeRecord(node), NODE_OLDEST);
  while (link && found < max) {
    const frame = link - 1,
      entry = frameRecord(frame);
    const flags = load<u32>(entry, FRAME_FLAGS);
    if (!(flags & FRAME_LOCKED) && !pinned(entry, flags) && frameMaps(entry) && !listed(frame, spared, sparedCount)) {
      store<u32>(output + (found++ << 2), frame);
    }
    link = load<u32>(entry, FRAME_NEXT);
  }
  return found;
}

/** Whether a pin holds a frame; a huge one also by any of its tails, whose pins are references of the head. */
function pinned(entry: u32, flags: u32): bool {
  return flags & FRAME_ORDER ? load<u32>(entry, FRAME_REFS) != frameMaps(entry) : framePins(entry) != 0;
}

function listed(frame: u32, list: u32, count: u32): bool {
  for (let i: u32 = 0; i < count; i++) if (load<u32>(list + (i << 2)) == frame) return true;
  return false;
}

/**
 * Frames of a node in use, from index `from` of the node on, heads only, as frame numbers (u32) at `output`, at most `max`. Returns how many; H_STOP_INDEX is the index to go on from, the node's
 * frame count when all have been looked at.
 */
export function usedFrames(node: u32, from: u32, output: u32, max: u32): u32 {
  const record = nodeRecord(node),
    base = load<u32>(record, NODE_BASE),
    frames = load<u32>(record, NODE_FRAMES);
  let found: u32 = 0,
    index = from;
  while (index < frames && found < max) {
    const flags = load<u32>(frameRecord(base + index), FRAME_FLAGS);
    if ((flags & FRAME_STATE) == STATE_USED) {
      store<u32>(output + (found++ << 2), base + index);
      // The tails of a huge frame are its head's.
      index += 1 << ((flags & FRAME_ORDER) >> FRAME_ORDER_SHIFT);
    } else index++;
  }
  store<u32>(H_STOP_INDEX, index);
  return found;
}

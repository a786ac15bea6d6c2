import { FRAME_FLAGS, FRAME_LOCKED, FRAME_NEXT, NODE_OLDEST } from './layout';
import { frameMaps, framePins, frameRecord } from './frame';
import { nodeRecord } from './node';

/**
 * Candidates for eviction: the oldest frames of a node that may move, as frame numbers (u32) at `output`, at most `max`, passing over
 * those that are locked (source or target of something in flight), pinned, or listed in `spared` (u32 x `sparedCount`).
 * Returns how many were found. Which of them go is the SDK's decision.
 */
export function victims(node: u32, output: u32, max: u32, spared: u32, sparedCount: u32): u32 {
  let found: u32 = 0,
    link = load<u32>(nodeRecord(node), NODE_OLDEST);
  while (link && found < max) {
    const frame = link - 1,
      entry = frameRecord(frame);
    if (!(load<u32>(entry, FRAME_FLAGS) & FRAME_LOCKED) && !framePins(entry) && frameMaps(entry) && !listed(frame, spared, sparedCount)) {
      store<u32>(output + (found++ << 2), frame);
    }
    link = load<u32>(entry, FRAME_NEXT);
  }
  return found;
}

function listed(frame: u32, list: u32, count: u32): bool {
  for (let i: u32 = 0; i < count; i++) if (load<u32>(list + (i << 2)) == frame) return true;
  return false;
}

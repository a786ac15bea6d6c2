import {
  ENTRY_ACCESSED,
  ENTRY_KIND,
  ENTRY_ORDER,
  ENTRY_ORDER_SHIFT,
  FRAME_CHARGE,
  FRAME_FILE,
  FRAME_FLAGS,
  FRAME_HUGETLB,
  FRAME_LOCKED,
  FRAME_NEXT,
  FRAME_ORDER,
  FRAME_ORDER_SHIFT,
  FRAME_PREVIOUS,
  FRAME_REFS,
  FRAME_SOUGHT,
  FRAME_SPARED,
  FRAME_STATE,
  H_STOP_INDEX,
  KIND_PRESENT,
  KIND_PROTNONE,
  NODE_BASE,
  NODE_FRAMES,
  NODE_NEWEST,
  NODE_OLDEST,
  STATE_TAIL,
  STATE_USED,
  TABLE_TLB,
} from './layout';
import { slotOf } from './table';
import { tlbDrop, tlbDropRange } from './tlb';
import { rmapFirst, rmapLow, rmapNext, rmapOwner, rmapTable, rmapVpn } from './rmap';
import { frameMaps, frameOrder, framePins, frameRecord } from './frame';
import { nodeRecord } from './node';

/**
 * Candidates for eviction: the oldest frames of a node that may move, of huge ones the first, as frame numbers (u32) at `output`, at most `max`, passing over
 * those that are locked (source or target of something in flight), pinned, spared, or listed in `passed` (u32 x `passedCount`), and, unless `payer` is 0, those that another space pays for (`payer`:
 * index of its home table + 1). Returns how many were found. Which of them go is the SDK's decision.
 */
export function victims(node: u32, output: u32, max: u32, passed: u32, passedCount: u32, payer: u32): u32 {
  let found: u32 = 0,
    link = load<u32>(nodeRecord(node), NODE_OLDEST);
  while (link && found < max) {
    const frame = link - 1;
    if (mayGo(frame, payer) && !listed(frame, passed, passedCount)) store<u32>(output + (found++ << 2), frame);
    link = load<u32>(frameRecord(frame), FRAME_NEXT);
  }
  return found;
}

/**
 * Candidates among which the one that has been unused for longest is the same as among all: those of `n` frames that may go (u32 at `used`: what has been used), and the oldest others, `room` pages of them or all. Oldest
 * first, as `victims` has them, at most `n + room`. The work is in what is listed, and in what is younger than the oldest of `used`.
 */
export function victimsByUse(node: u32, used: u32, n: u32, room: u32, output: u32, passed: u32, passedCount: u32, payer: u32): u32 {
  const record = nodeRecord(node);
  let sought: u32 = 0,
    found: u32 = 0,
    got: u32 = 0;
  for (let i: u32 = 0; i < n; i++) sought += seekFrame(load<u32>(used + (i << 2)));
  for (let link = load<u32>(record, NODE_OLDEST); link && got < room;) {
    const frame = link - 1,
      entry = frameRecord(frame),
      isSought = foundFrame(entry);
    sought -= isSought;
    if (mayGo(frame, payer) && !listed(frame, passed, passedCount)) {
      store<u32>(output + (found++ << 2), frame);
      if (!isSought) got += 1 << frameOrder(entry);
    }
    link = load<u32>(entry, FRAME_NEXT);
  }
  // The others of them are younger: looked for from the youngest on.
  const first = found;
  for (let link = load<u32>(record, NODE_NEWEST); link && sought;) {
    const frame = link - 1,
      entry = frameRecord(frame);
    if (foundFrame(entry)) {
      sought--;
      if (mayGo(frame, payer) && !listed(frame, passed, passedCount)) store<u32>(output + (found++ << 2), frame);
    }
    link = load<u32>(entry, FRAME_PREVIOUS);
  }
  if (sought) for (let i: u32 = 0; i < n; i++) foundFrame(frameRecord(load<u32>(used + (i << 2))));
  reverse(output + (first << 2), output + (found << 2));
  return found;
}

/** Marks a frame as one that is looked for. 0: it was already. */
function seekFrame(frame: u32): u32 {
  const entry = frameRecord(frame),
    flags = load<u32>(entry, FRAME_FLAGS);
  store<u32>(entry, flags | FRAME_SOUGHT, FRAME_FLAGS);
  return u32(!(flags & FRAME_SOUGHT));
}

/** Whether a frame was looked for; it is no longer. */
function foundFrame(entry: u32): u32 {
  const flags = load<u32>(entry, FRAME_FLAGS);
  if (!(flags & FRAME_SOUGHT)) return 0;
  store<u32>(entry, flags & ~FRAME_SOUGHT, FRAME_FLAGS);
  return 1;
}

/** The u32 of `[start, end)`, the other way round. */
function reverse(start: u32, end: u32): void {
  for (let low = start, high = end - 4; low < high && end > start; low += 4, high -= 4) {
    const word = load<u32>(low);
    store<u32>(low, load<u32>(high));
    store<u32>(high, word);
  }
}

/** Whether a frame, or the huge one that it is of, is of a node and may go. */
export function goes(frame: u32, node: u32, passed: u32, passedCount: u32, payer: u32): bool {
  const record = nodeRecord(node);
  if (frame - load<u32>(record, NODE_BASE) >= load<u32>(record, NODE_FRAMES)) return false;
  const entry = frameRecord(frame),
    isTail = (load<u32>(entry, FRAME_FLAGS) & FRAME_STATE) == STATE_TAIL,
    head = isTail ? load<u32>(entry, FRAME_PREVIOUS) : frame;
  return mayGo(head, payer) && !listed(head, passed, passedCount);
}

/** Whether a frame may go: it is mapped, and neither locked, spared nor pinned, and, unless `payer` is 0, no other space pays for it. */
function mayGo(frame: u32, payer: u32): bool {
  const entry = frameRecord(frame),
    flags = load<u32>(entry, FRAME_FLAGS);
  if (payer && load<u16>(entry, FRAME_CHARGE) != payer) return false;
  return !(flags & (FRAME_LOCKED | FRAME_SPARED)) && !pinned(entry, flags) && frameMaps(entry) != 0;
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

/**
 * Anonymous frames of a node that could go to the second tier: a hand goes round the frames from index `from` of the node on, past at most `look` of them. What the CPU has used since the hand was here
 * last is passed over, and its marks are cleared. As frame numbers (u32) at `output`, at most `max`, heads of huge frames among them; unless `payer` is 0, only those that one space pays for. Returns how
 * many; H_STOP_INDEX is where the hand is. Models: the second chance of `shrink_inactive_list`.
 */
export function coldFrames(node: u32, from: u32, look: u32, output: u32, max: u32, payer: u32): u32 {
  const record = nodeRecord(node),
    base = load<u32>(record, NODE_BASE),
    frames = load<u32>(record, NODE_FRAMES);
  let found: u32 = 0,
    index = from < frames ? from : 0;
  for (let seen: u32 = 0; seen < look && found < max;) {
    const frame = base + index,
      entry = frameRecord(frame),
      flags = load<u32>(entry, FRAME_FLAGS),
      used = (flags & FRAME_STATE) == STATE_USED,
      n: u32 = used ? 1 << ((flags & FRAME_ORDER) >> FRAME_ORDER_SHIFT) : 1;
    const apart = !used || flags & (FRAME_LOCKED | FRAME_FILE | FRAME_HUGETLB) || (payer && load<u16>(entry, FRAME_CHARGE) != payer);
    if (!apart && frameMaps(entry) && load<u32>(entry, FRAME_REFS) == frameMaps(entry) && isCold(frame))
      store<u32>(output + (found++ << 2), frame);
    seen += n;
    index += n;
    if (index >= frames) index = 0;
  }
  store<u32>(H_STOP_INDEX, index);
  return found;
}

/** Whether a frame has not been used since it was looked at last; what says so is cleared. One that a device has for itself is in use. */
function isCold(frame: u32): bool {
  let cold = true;
  for (let cursor = rmapFirst(frame); cursor; cursor = rmapNext(cursor)) {
    const owner = rmapOwner(frame, cursor),
      vpn = rmapVpn(rmapLow(frame, cursor), owner),
      table = rmapTable(owner),
      slot = slotOf(table, vpn),
      high = load<u32>(slot, 4),
      kind = high & ENTRY_KIND;
    if (kind != KIND_PRESENT && kind != KIND_PROTNONE) return false;
    if (!(high & ENTRY_ACCESSED)) continue;
    cold = false;
    store<u32>(slot, high & ~ENTRY_ACCESSED, 4);
    const tlb = load<u32>(table, TABLE_TLB);
    if (tlb && high & ENTRY_ORDER) tlbDropRange(tlb, vpn, 1 << ((high & ENTRY_ORDER) >> ENTRY_ORDER_SHIFT));
    else if (tlb) tlbDrop(tlb, vpn);
  }
  return cold;
}

import {
  ENTRY_BYTES,
  ENTRY_KIND,
  ENTRY_ORDER,
  ENTRY_ORDER_SHIFT,
  FRAME_BYTES,
  FRAME_FLAGS,
  FRAME_NODE,
  FRAME_NODE_SHIFT,
  H_FRAMES,
  H_NODES,
  HMM_ERROR,
  HMM_ORDER_SHIFT,
  HMM_VALID_SHIFT,
  HMM_WRITE,
  KIND_DEVICE_PRIVATE,
  KIND_PRESENT,
  KIND_SPECIAL,
  NODE_BASE,
  NODE_BYTES,
  NODE_FRAMES,
  NODE_OWNER,
} from './layout';
import { countSet, fillRun } from './run';
import { afterBlock, afterHole, afterLeafPage, levelBits, pagesBelow, seek } from './table';
import { live, pageOf } from './table-page';

/**
 * What a range looks like, one u64 word a page, in `output` (8 bytes a page, every word is written).
 *
 * - native: the entries themselves, as `walk` returns them. The fast form: a copy.
 * - hmm: the words of `hmm_range_fault` without any request.
 *
 * Requires everywhere: the range ends at or below 2^TABLE_VPN_BITS.
 */

const LOW: u64 = 0xffffffff;
const HIGH: u64 = (<u64>1) << 32;
const VALID: u64 = HIGH << HMM_VALID_SHIFT;
const WRITE: u64 = HIGH * HMM_WRITE;
const ERROR: u64 = HIGH * HMM_ERROR;
/** Bits of a high word by which an entry is neither none nor present of order 0. */
const UNCOMMON: i32 = (ENTRY_KIND & ~KIND_PRESENT) | ENTRY_ORDER;
/** From ENTRY_WRITE to HMM_WRITE, and from ENTRY_ORDER to the order in an HMM word. */
const TO_WRITE = 26;
const TO_ORDER = HMM_ORDER_SHIFT - ENTRY_ORDER_SHIFT;

// --------------------------------------------------------------------------------------------------------------- native

/**
 * Copies the entries of a range; those of a block one for each of its pages, holes as 0. Returns the pages that are not none.
 *
 * Leaf pages of the table that lie one behind the other, as those of a range that was mapped in order, are copied together.
 */
export function snapshotNative(table: u32, vpn: f64, pages: u32, output: u32): u32 {
  let page = <u64>(<i64>vpn),
    set: u32 = 0,
    // Leaf entries that have been seen and not copied, `bytes` of them: their words end at `output`.
    from: u32 = 0,
    bytes: u32 = 0;
  const end = page + pages;
  while (page < end) {
    const place = seek(table, page),
      slot = <u32>place,
      entry = load<u64>(slot),
      isLeaf = !(place >> 32);
    let next: u64;
    if (!isLeaf || slot != from + bytes) {
      memory.copy(output - bytes, from, bytes);
      from = slot;
      bytes = 0;
    }
    if (isLeaf) {
      next = afterLeafPage(table, page, end);
      const n = <u32>(next - page);
      bytes += n * ENTRY_BYTES;
      set += n >> levelBits(table, 0) ? live(pageOf(slot)) : countSet(slot, n);
    } else if (!entry) {
      next = afterHole(table, place, page, end);
      memory.fill(output, 0, (<u32>(next - page)) << 3);
    } else {
      next = afterBlock(table, place, page, end);
      fillRun(output, <u32>(next - page), entry + (page & (pagesBelow(table, <u32>(place >> 32)) - 1)), 1);
      set += <u32>(next - page);
    }
    output += (<u32>(next - page)) << 3;
    page = next;
  }
  memory.copy(output - bytes, from, bytes);
  return set;
}

// ------------------------------------------------------------------------------------------------------------------ hmm

/**
 * Writes HMM words: HMM_* bits in the high word, frame in the low word. `owner` is the NODE_OWNER whose device-private pages the caller can
 * reach (0: nobody's). Returns the pages that are VALID.
 *
 * ```
 *  present, page of zeros          VALID (WRITE) order
 *  device-private, own             VALID (WRITE) order
 *  device-private, foreign         0; a block: ERROR
 *  special                         ERROR
 *  all else                        0
 * ```
 *
 * The order is that of the mapping, 0 for single entries. Sticky bits of the old words are not looked at.
 *
 * Models: `hmm_vma_walk_pmd`, `hmm_vma_handle_pte` with `default_flags` 0.
 */
export function snapshotHmm(table: u32, vpn: f64, pages: u32, output: u32, owner: u32): u32 {
  let page = <u64>(<i64>vpn),
    valid: u32 = 0;
  const end = page + pages;
  while (page < end) {
    const place = seek(table, page),
      slot = <u32>place,
      entry = load<u64>(slot);
    let next: u64;
    if (!(place >> 32)) {
      next = afterLeafPage(table, page, end);
      valid += hmmLeaves(table, slot, <u32>(next - page), output, owner);
    } else if (!entry) {
      next = afterHole(table, place, page, end);
      memory.fill(output, 0, (<u32>(next - page)) << 3);
    } else {
      next = afterBlock(table, place, page, end);
      const n = <u32>(next - page),
        word = hmmBlock(entry + (page & (pagesBelow(table, <u32>(place >> 32)) - 1)), owner);
      fillRun(output, n, word, <u32>((word >> HMM_VALID_SHIFT) >> 32));
      if (word & VALID) valid += n;
    }
    output += (<u32>(next - page)) << 3;
    page = next;
  }
  return valid;
}

/** Converts `entries` neighbouring level-0 entries; returns the valid ones. */
function hmmLeaves(table: u32, slot: u32, entries: u32, output: u32, owner: u32): u32 {
  const first = slot,
    end = slot + entries * ENTRY_BYTES;
  let valid: u32 = 0;
  while (true) {
    const stop = hmmCommon(slot, end, output);
    // Common entries that are not none are valid; in a whole page they are counted already.
    if (stop == end && slot == first && entries >> levelBits(table, 0)) return live(pageOf(slot));
    valid += countSet(slot, (stop - slot) >> 3);
    output += stop - slot;
    slot = stop;
    if (slot >= end) return valid;
    // Something else: up to 64 pages one by one, then the vectors are tried again.
    const next = slot + 512 < end ? slot + 512 : end;
    valid += hmmOneByOne(slot, next, output, owner);
    output += next - slot;
    slot = next;
  }
}

/**
 * Converts eight entries at a time for as long as all are none or present and of order 0; returns where it stopped.
 * Low and high words are taken apart, so that four high words are shifted at once.
 */
function hmmCommon(slot: u32, end: u32, output: u32): u32 {
  const uncommon = i32x4.splat(UNCOMMON),
    write = i32x4.splat(HMM_WRITE);
  for (; slot + 64 <= end; slot += 64, output += 64) {
    const a = v128.load(slot),
      b = v128.load(slot, 16),
      c = v128.load(slot, 32),
      d = v128.load(slot, 48);
    const high = v128.shuffle<i32>(a, b, 1, 3, 5, 7),
      higher = v128.shuffle<i32>(c, d, 1, 3, 5, 7);
    if (v128.any_true(v128.and(v128.or(high, higher), uncommon))) break;
    const low = v128.shuffle<i32>(a, b, 0, 2, 4, 6),
      lower = v128.shuffle<i32>(c, d, 0, 2, 4, 6);
    // KIND_PRESENT is bit 0, the other kinds are not here: shifted by 31 it is HMM_VALID and nothing else is left.
    const word = v128.or(i32x4.shl(high, HMM_VALID_SHIFT), v128.and(i32x4.shl(high, TO_WRITE), write));
    const words = v128.or(i32x4.shl(higher, HMM_VALID_SHIFT), v128.and(i32x4.shl(higher, TO_WRITE), write));
    v128.store(output, v128.shuffle<i32>(low, word, 0, 4, 1, 5));
    v128.store(output, v128.shuffle<i32>(low, word, 2, 6, 3, 7), 16);
    v128.store(output, v128.shuffle<i32>(lower, words, 0, 4, 1, 5), 32);
    v128.store(output, v128.shuffle<i32>(lower, words, 2, 6, 3, 7), 48);
  }
  return slot;
}

/** Word of an entry whose page the caller can reach. */
function hmmValid(entry: u64): u64 {
  return VALID | ((entry << TO_WRITE) & WRITE) | ((entry << TO_ORDER) & (HIGH * (ENTRY_ORDER << TO_ORDER))) | (entry & LOW);
}

function hmmOneByOne(slot: u32, end: u32, output: u32, owner: u32): u32 {
  // Frames of the node that was looked at last: neighbours are mostly from the same node, whose owner is then known.
  let base: u32 = 0,
    frames: u32 = 0,
    own: bool = false,
    valid: u32 = 0;
  for (; slot < end; slot += ENTRY_BYTES, output += 8) {
    const entry = load<u64>(slot),
      kind = (<u32>(entry >> 32)) & ENTRY_KIND;
    let word: u64 = 0;
    if (kind == KIND_PRESENT) word = hmmValid(entry);
    else if (kind == KIND_DEVICE_PRIVATE) {
      if (<u32>entry - base >= frames) {
        const node = nodeOfFrame(<u32>entry);
        base = load<u32>(node, NODE_BASE);
        frames = load<u32>(node, NODE_FRAMES);
        own = load<u32>(node, NODE_OWNER) == owner;
      }
      if (own) word = hmmValid(entry);
    } else if (kind == KIND_SPECIAL) word = ERROR;
    valid += <u32>((word >> HMM_VALID_SHIFT) >> 32);
    store<u64>(output, word);
  }
  return valid;
}

/** Word of a block's page. */
function hmmBlock(entry: u64, owner: u32): u64 {
  const kind = (<u32>(entry >> 32)) & ENTRY_KIND;
  if (kind == KIND_PRESENT) return hmmValid(entry);
  if (kind == KIND_DEVICE_PRIVATE) return load<u32>(nodeOfFrame(<u32>entry), NODE_OWNER) == owner ? hmmValid(entry) : ERROR;
  return kind == KIND_SPECIAL ? ERROR : 0;
}

function nodeOfFrame(frame: u32): u32 {
  const flags = load<u32>(load<u32>(H_FRAMES) + frame * FRAME_BYTES, FRAME_FLAGS);
  return load<u32>(H_NODES) + ((flags & FRAME_NODE) >> FRAME_NODE_SHIFT) * NODE_BYTES;
}

import {
  ALLOC_CORE,
  ENTRY_ANON_EXCLUSIVE,
  ENTRY_CPU_READS,
  ENTRY_KIND,
  ENTRY_ORDER,
  ENTRY_ORDER_SHIFT,
  ENTRY_REPLICATED,
  ENTRY_WRITE,
  FRAME_CACHED,
  FRAME_FILE,
  FRAME_FLAGS,
  FRAME_HUGETLB,
  FRAME_LOCKED,
  FRAME_NONE,
  FRAME_ORDER,
  FRAME_ORDER_SHIFT,
  FRAME_REFS,
  FRAME_REPLICA,
  FRAME_RMAP,
  FRAME_STATE,
  HUGE_ORDER,
  H_CHAIN_RESERVED,
  H_FRAMES_MAX,
  H_PAGES_DEPOSITED,
  H_PAGES_USED,
  H_TABLES,
  H_TABLES_MAX,
  H_TLBS,
  H_TLBS_MAX,
  H_VERIFY_A,
  H_VERIFY_B,
  H_VERIFY_C,
  H_VERIFY_DEPOSITS,
  H_VERIFY_RESERVED,
  H_VERIFY_RULE,
  KIND_DEVICE_PRIVATE,
  KIND_EXCLUSIVE,
  KIND_MIGRATION,
  KIND_PRESENT,
  KIND_SWAP,
  NODES_MAX,
  NODE_ALLOC,
  NODE_BASE,
  NODE_FRAMES,
  NODE_FREE,
  NODE_IS_TIER,
  NODE_KIND,
  NODE_USED,
  PAGE_BYTES,
  STATE_FREE,
  STATE_TAIL,
  STATE_USED,
  TABLE_BYTES,
  TABLE_HOME,
  TABLE_INDEX,
  TABLE_IS_HOME,
  TABLE_LEVELS,
  TABLE_PAGES,
  TABLE_ROOT,
  TABLE_TABLES,
  TLB_DIRTY,
  TLB_HEADER_BYTES,
  TLB_SETS,
  TLB_SET_BYTES,
  TLB_SLOT_BYTES,
  TLB_TABLE,
  TLB_VALID,
  TLB_WAY_BYTES,
  TLB_WRITE,
} from './layout';
import { backingOf } from './backing';
import { named } from './cow';
import { frameMaps, framePins, frameRecord } from './frame';
import { frameBytes, nodeOf, nodeRecord } from './node';
import { vpnOf } from './packed-access';
import { rmapFirst, rmapLow, rmapNext, rmapOwner, rmapTable, rmapVpn } from './rmap';
import { isChild, levelBits, levelShift, walk } from './table';
import { live } from './table-page';

/**
 * Looks at everything and names the first rule that is broken. Proportional to what exists: for tests and checks, never on a path.
 *
 * The rules, by number; `sdk/core/verify.ts` has the sentence for each, H_VERIFY_A to _C the values.
 */

/** A node's frames are not all either used or free. A: node. */
const NODE_COUNTS: u32 = 1;
/** Free blocks of a node do not add up to its free count. A: node, B: counted, C: recorded. */
const NODE_FREE_BLOCKS: u32 = 2;
/** A used frame has references that nobody owns up to. A: frame, B: references, C: mappings and pins. */
const FRAME_REFERENCES: u32 = 3;
/** A frame's mapping count is not the length of its reverse map. A: frame, B: counted, C: recorded. */
const FRAME_MAPPINGS: u32 = 4;
/** A reverse map names an entry that does not name the frame. A: frame, B: page (low), C: table index. */
const RMAP_ENTRY: u32 = 5;
/** A frame is locked though no operation is in flight. A: frame. */
const FRAME_LOCK: u32 = 6;
/** A home entry names a frame that is not in use. A: page (low), B: frame, C: table index. */
const ENTRY_FRAME: u32 = 7;
/** A home entry's frame has no reverse map to it. A: page (low), B: frame, C: table index. */
const ENTRY_RMAP: u32 = 8;
/** A table page's live count is wrong. A: page address, B: counted, C: recorded. */
const TABLE_LIVE: u32 = 9;
/** A table's count of mapped pages or of table pages is wrong. A: table index, B: counted, C: recorded. */
const TABLE_COUNTS: u32 = 10;
/** A device entry names another frame than the home entry. A: page (low), B: device's frame, C: home's. */
const DEVICE_FRAME: u32 = 11;
/** A device may write where the home entry does not allow it. A: page (low), B: frame. */
const DEVICE_WRITE: u32 = 12;
/** A TLB translates a page otherwise than its table, or lets writes through that its table does not. A: page (low), B: TLB's frame, C: table's. */
const TLB_STALE: u32 = 13;
/** A migration entry though no operation is in flight. A: page (low), B: frame, C: table index. */
const ENTRY_MIGRATION: u32 = 14;
/** Table pages in use are not the sum of all tables'. A: counted, B: recorded. */
const PAGES_USED: u32 = 15;

/** An entry and its frame disagree about its size. A: page (low), B: frame, C: table index. */
const ENTRY_SIZE: u32 = 16;
/** Table pages promised are not one a huge home entry. A: counted, B: recorded. */
const DEPOSITS: u32 = 17;
/** Reverse-map records set aside are not what shared huge frames need. A: counted, B: recorded. */
const RESERVED: u32 = 18;
/** An entry says that its page is its space's own, and another one names the frame as well. A: page (low), B: frame, C: table index. */
const ANON_SHARED: u32 = 19;
/** An entry allows writing to an anonymous page that is not its space's own. A: page (low), B: frame, C: table index. */
const ANON_WRITE: u32 = 20;

/** A copy is not what it is a copy of, or of nothing that is in use. A: frame, B: original, C: first byte that differs, FRAME_NONE: the original is not in use. */
const REPLICA_BYTES: u32 = 21;
/** An entry says that its page is on the second tier, and its frame is elsewhere, or the reverse. A: page (low), B: frame, C: table index. */
const ENTRY_TIER: u32 = 22;
/** A frame's backing is no frame of the second tier that is kept for it. A: frame, B: backing. */
const FRAME_BACKING: u32 = 23;

function broken(rule: u32, a: u32, b: u32, c: u32): u32 {
  store<u32>(H_VERIFY_RULE, rule);
  store<u32>(H_VERIFY_A, a);
  store<u32>(H_VERIFY_B, b);
  store<u32>(H_VERIFY_C, c);
  return rule;
}

/** Returns 0, or the number of the first broken rule. `strict`: no operation is in flight, so nothing may be locked, half-moved, or held. */
export function verify(strict: u32): u32 {
  store<u32>(H_VERIFY_RULE, 0);
  store<u32>(H_VERIFY_DEPOSITS, 0);
  store<u32>(H_VERIFY_RESERVED, 0);
  for (let node: u32 = 0; node < <u32>NODES_MAX; node++) {
    if (load<u32>(nodeRecord(node), NODE_KIND) && verifyNode(node, strict)) return load<u32>(H_VERIFY_RULE);
  }
  let pages: u32 = 0;
  for (let i: u32 = 0, n = load<u32>(H_TABLES_MAX); i < n; i++) {
    const table = load<u32>(H_TABLES) + i * TABLE_BYTES;
    if (!load<u32>(table, TABLE_ROOT)) continue;
    if (verifyTable(table, strict)) return load<u32>(H_VERIFY_RULE);
    pages += load<u32>(table, TABLE_TABLES);
  }
  if (pages != load<u32>(H_PAGES_USED)) return broken(PAGES_USED, pages, load<u32>(H_PAGES_USED), 0);
  const deposits = load<u32>(H_VERIFY_DEPOSITS),
    reserved = load<u32>(H_VERIFY_RESERVED);
  if (deposits != load<u32>(H_PAGES_DEPOSITED)) return broken(DEPOSITS, deposits, load<u32>(H_PAGES_DEPOSITED), 0);
  if (reserved != load<u32>(H_CHAIN_RESERVED)) return broken(RESERVED, reserved, load<u32>(H_CHAIN_RESERVED), 0);
  for (let i: u32 = 0, n = load<u32>(H_TLBS_MAX); i < n; i++) {
    const tlb = load<u32>(H_TLBS) + i * TLB_SLOT_BYTES;
    if (load<u32>(tlb, TLB_TABLE) && verifyTlb(tlb)) return load<u32>(H_VERIFY_RULE);
  }
  return 0;
}

function verifyNode(node: u32, strict: u32): u32 {
  const record = nodeRecord(node),
    base = load<u32>(record, NODE_BASE),
    frames = load<u32>(record, NODE_FRAMES);
  let used: u32 = 0,
    free: u32 = 0;
  for (let frame = base, end = base + frames; frame < end; frame++) {
    const entry = frameRecord(frame),
      flags = load<u32>(entry, FRAME_FLAGS),
      state = flags & FRAME_STATE;
    const order = (flags & FRAME_ORDER) >> FRAME_ORDER_SHIFT;
    if (state == STATE_FREE) free += 1 << order;
    if (state == STATE_TAIL) used++;
    if (state != STATE_USED) continue;
    used++;
    if (verifyFrame(frame, entry, flags, strict)) return 1;
  }
  if (used != load<u32>(record, NODE_USED) || used + load<u32>(record, NODE_FREE) != frames) {
    return broken(NODE_COUNTS, node, used, load<u32>(record, NODE_USED));
  }
  if (load<u32>(record, NODE_ALLOC) == ALLOC_CORE && free != load<u32>(record, NODE_FREE)) {
    return broken(NODE_FREE_BLOCKS, node, free, load<u32>(record, NODE_FREE));
  }
  return 0;
}

function verifyFrame(frame: u32, entry: u32, flags: u32, strict: u32): u32 {
  const refs = load<u32>(entry, FRAME_REFS),
    maps = frameMaps(entry),
    order = (flags & FRAME_ORDER) >> FRAME_ORDER_SHIFT;
  const backing = backingOf(frame);
  if (backing) {
    const kept = frameRecord(backing - 1),
      wanted = STATE_USED | FRAME_CACHED;
    if (
      (load<u32>(kept, FRAME_FLAGS) & (FRAME_STATE | FRAME_CACHED)) != wanted ||
      load<u32>(nodeOf(backing - 1), NODE_KIND) != NODE_IS_TIER
    )
      return broken(FRAME_BACKING, frame, backing - 1, 0);
  }
  let held = maps + (flags & FRAME_CACHED ? 1 : 0) + (flags & FRAME_REPLICA ? 1 : 0);
  if (flags & FRAME_REPLICA && verifyReplica(frame, entry)) return 1;
  for (let i: u32 = 0; i < 1 << order; i++) held += framePins(frameRecord(frame + i));
  if (strict ? refs != held : refs < held) return broken(FRAME_REFERENCES, frame, refs, held);
  if (strict && flags & FRAME_LOCKED) return broken(FRAME_LOCK, frame, 0, 0);
  let counted: u32 = 0;
  for (let cursor = rmapFirst(frame); cursor; cursor = rmapNext(cursor)) {
    const owner = rmapOwner(frame, cursor),
      vpn = rmapVpn(rmapLow(frame, cursor), owner),
      table = rmapTable(owner);
    const found = load<u32>(table, TABLE_ROOT) ? walk(table, vpn) : 0;
    if (<u32>found != frame || !named(<u32>(found >> 32))) return broken(RMAP_ENTRY, frame, <u32>vpn, load<u32>(table, TABLE_INDEX));
    if (((<u32>(found >> 32)) & ENTRY_ORDER) >> ENTRY_ORDER_SHIFT != order)
      return broken(ENTRY_SIZE, <u32>vpn, frame, load<u32>(table, TABLE_INDEX));
    counted++;
  }
  if (order && maps > 1 && !(flags & FRAME_HUGETLB)) store<u32>(H_VERIFY_RESERVED, load<u32>(H_VERIFY_RESERVED) + (maps << HUGE_ORDER));
  return counted != maps ? broken(FRAME_MAPPINGS, frame, counted, maps) : 0;
}

/** A copy that its device may still read has the bytes of its original, where both have bytes here. */
function verifyReplica(frame: u32, entry: u32): u32 {
  const original = load<u32>(entry, FRAME_RMAP);
  if (original == <u32>FRAME_NONE) return 0;
  if ((load<u32>(frameRecord(original), FRAME_FLAGS) & FRAME_STATE) != STATE_USED)
    return broken(REPLICA_BYTES, frame, original, FRAME_NONE);
  const a = frameBytes(frame),
    b = frameBytes(original);
  if (!a || !b) return 0;
  for (let i: u32 = 0; i < <u32>PAGE_BYTES; i += 8)
    if (load<u64>(a + i) != load<u64>(b + i)) return broken(REPLICA_BYTES, frame, original, i);
  return 0;
}

/** Whether a device's entry leads to its own copy of the page: both only for reading. */
function isReplica(entry: u64, original: u32, high: u32): bool {
  if ((high & (ENTRY_KIND | ENTRY_REPLICATED | ENTRY_WRITE)) != (KIND_PRESENT | ENTRY_REPLICATED)) return false;
  const record = frameRecord(<u32>entry);
  if (!(load<u32>(record, FRAME_FLAGS) & FRAME_REPLICA) || load<u32>(record, FRAME_RMAP) != original) return false;
  return !((<u32>(entry >> 32)) & ENTRY_WRITE);
}

/** Counts of one subtree, kept on the stack of the walk as a pair: mapped pages in the low, table pages in the high word. */
function verifyTable(table: u32, strict: u32): u32 {
  const counts = verifySubtree(table, load<u32>(table, TABLE_ROOT), load<u32>(table, TABLE_LEVELS) - 1, 0, strict);
  if (load<u32>(H_VERIFY_RULE)) return 1;
  if (<u32>counts != load<u32>(table, TABLE_PAGES))
    return broken(TABLE_COUNTS, load<u32>(table, TABLE_INDEX), <u32>counts, load<u32>(table, TABLE_PAGES));
  const tables = <u32>(counts >> 32);
  return tables != load<u32>(table, TABLE_TABLES)
    ? broken(TABLE_COUNTS, load<u32>(table, TABLE_INDEX), tables, load<u32>(table, TABLE_TABLES))
    : 0;
}

function verifySubtree(table: u32, page: u32, level: u32, base: u64, strict: u32): u64 {
  const slots: u32 = 1 << levelBits(table, level),
    shift = levelShift(table, level);
  let counts: u64 = (<u64>1) << 32,
    counted: u32 = 0;
  for (let i: u32 = 0; i < slots; i++) {
    const entry = load<u64>(page + (i << 3)),
      vpn = base + ((<u64>i) << shift);
    if (!entry) continue;
    counted++;
    if (isChild(entry)) {
      counts += verifySubtree(table, <u32>entry, level - 1, vpn, strict);
    } else {
      counts += (<u64>1) << shift;
      if (load<u32>(table, TABLE_IS_HOME)) {
        if (level) countDeposit(entry);
        verifyHomeEntry(table, vpn, entry, strict);
      } else
        for (let page: u64 = 0; page < (<u64>1) << shift && !load<u32>(H_VERIFY_RULE); page++)
          verifyDeviceEntry(table, vpn + page, entry + page);
    }
    if (load<u32>(H_VERIFY_RULE)) return counts;
  }
  if (counted != live(page)) broken(TABLE_LIVE, page, counted, live(page));
  return counts;
}

/** A huge entry has deposited a table page, unless it is never split. */
function countDeposit(entry: u64): void {
  const high = <u32>(entry >> 32);
  if (named(high) && load<u32>(frameRecord(<u32>entry), FRAME_FLAGS) & FRAME_HUGETLB) return;
  store<u32>(H_VERIFY_DEPOSITS, load<u32>(H_VERIFY_DEPOSITS) + 1);
}

function verifyHomeEntry(table: u32, vpn: u64, entry: u64, strict: u32): void {
  const high = <u32>(entry >> 32),
    frame = <u32>entry,
    index = load<u32>(table, TABLE_INDEX);
  if (strict && (high & ENTRY_KIND) == KIND_MIGRATION) broken(ENTRY_MIGRATION, <u32>vpn, frame, index);
  if (!named(high)) return;
  if (frame >= load<u32>(H_FRAMES_MAX) || (load<u32>(frameRecord(frame), FRAME_FLAGS) & FRAME_STATE) != STATE_USED) {
    broken(ENTRY_FRAME, <u32>vpn, frame, index);
    return;
  }
  const record = frameRecord(frame),
    kind = high & ENTRY_KIND;
  if (kind != KIND_MIGRATION && (kind == KIND_SWAP) != (load<u32>(nodeOf(frame), NODE_KIND) == NODE_IS_TIER)) {
    broken(ENTRY_TIER, <u32>vpn, frame, index);
    return;
  }
  if (high & ENTRY_ANON_EXCLUSIVE && frameMaps(record) > 1) {
    broken(ANON_SHARED, <u32>vpn, frame, index);
    return;
  }
  if (high & ENTRY_WRITE && !(high & ENTRY_ANON_EXCLUSIVE) && !(load<u32>(record, FRAME_FLAGS) & FRAME_FILE)) {
    broken(ANON_WRITE, <u32>vpn, frame, index);
    return;
  }
  for (let cursor = rmapFirst(frame); cursor; cursor = rmapNext(cursor)) {
    const owner = rmapOwner(frame, cursor);
    if (rmapTable(owner) == table && rmapVpn(rmapLow(frame, cursor), owner) == vpn) return;
  }
  broken(ENTRY_RMAP, <u32>vpn, frame, index);
}

/** What a device may use is what the home table says. */
function verifyDeviceEntry(table: u32, vpn: u64, entry: u64): void {
  const home = load<u32>(table, TABLE_HOME);
  if (!home) return;
  const truth = walk(home, vpn),
    high = <u32>(truth >> 32),
    kind = high & ENTRY_KIND;
  // The device for whose atomics a page is exclusive, or only read by the CPU, has it and may write.
  const frame = kind == KIND_PRESENT || kind == KIND_DEVICE_PRIVATE || kind == KIND_EXCLUSIVE ? <u32>truth : 0xffffffff,
    mayWrite = high & ENTRY_WRITE || (high & (ENTRY_CPU_READS | ENTRY_REPLICATED)) == ENTRY_CPU_READS || kind == KIND_EXCLUSIVE;
  if (isReplica(entry, frame, high)) return;
  if (frame != <u32>entry) broken(DEVICE_FRAME, <u32>vpn, <u32>entry, frame);
  else if ((<u32>(entry >> 32)) & ENTRY_WRITE && !mayWrite) broken(DEVICE_WRITE, <u32>vpn, frame, 0);
}

function verifyTlb(tlb: u32): u32 {
  const table = load<u32>(tlb, TLB_TABLE),
    end = tlb + TLB_HEADER_BYTES + load<u32>(tlb, TLB_SETS) * TLB_SET_BYTES;
  for (let way = tlb + TLB_HEADER_BYTES; way < end; way += TLB_WAY_BYTES) {
    const word = load<u64>(way);
    if (!(word & TLB_VALID)) continue;
    const vpn = vpnOf(word),
      truth = walk(table, vpn),
      high = <u32>(truth >> 32),
      // Either lets a write through.
      writes = (word & (TLB_WRITE | ((<u64>TLB_DIRTY) << 32))) != 0;
    const stale = (high & ENTRY_KIND) != KIND_PRESENT || <u32>truth != load<u32>(way, 12) || (writes && !(high & ENTRY_WRITE));
    if (stale) return broken(TLB_STALE, <u32>vpn, load<u32>(way, 12), <u32>truth);
  }
  return 0;
}

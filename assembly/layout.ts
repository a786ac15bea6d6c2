/**
 * The one place where bits, offsets, limits and status codes are written down.
 *
 * Compiled twice: by asc into the core, by tsc into the SDK. So it holds plain numeric constants only, no types, no functions,
 * and nothing at or above 2^31 (a literal that large would be an i64 to asc).
 *
 * ## Linear memory of one machine
 *
 * ```
 *  0            +---------------------------+
 *               | header                    |  H_*: bounds of every region below, free lists, counters
 *  HEADER_BYTES +---------------------------+
 *               | node records              |  NODES_MAX x NODE_BYTES
 *               | table descriptors         |  tables x TABLE_BYTES: one per home table and per device table
 *               | TLB slots                 |  tlbs x TLB_SLOT_BYTES
 *               | reverse-map records       |  chained mappings of shared frames
 *               | frame records             |  one FRAME_BYTES record per frame of the budget
 *               | charges                   |  u32 per table and node: pages that a space pays for
 *               | backings                  |  u32 per frame, where there is a second tier: its frame there
 *               | live counts               |  u16 per table page: how many of its entries are not none
 *               | table pages               |  4 KiB each, for every radix table
 *               | batch areas               |  borrowed by the SDK between two calls: see AREA_*
 *               | blank pages               |  of a machine without bytes: what the SDK gets for the bytes of any frame
 *               | bytes of backed nodes     |  page-aligned, handed out node by node
 *               +---------------------------+  memory size: initial == maximum, so no view goes stale
 * ```
 */

// ---------------------------------------------------------------------------------------------------------------- pages

export const PAGE_SHIFT = 12;
export const PAGE_BYTES = 4096;
/** Byte addresses are below 2^48, so page numbers need 36 bits: a low word and four bits. */
export const ADDRESS_BITS = 48;
export const VPN_BITS = 36;
/** Orders 0 (4 KiB) to 18 (1 GiB). */
export const ORDER_MAX = 18;
export const HUGE_ORDER = 9;
export const GIANT_ORDER = 18;

// ---------------------------------------------------------------------------------------------------------------- entry
//
//  63   62..59 58         57        56          55..48       47        46    45              44..40  39        38     37    36     35..32  31..0
// +-----+------+----------+---------+-----------+------------+---------+-----+---------------+-------+---------+------+-----+------+-------+--------+
// |table|  0   |replicated|cpu reads|speculative|device bits |no access|zero |anon-exclusive | order |accessed |dirty |exec |write | kind  | frame  |
// +-----+------+----------+---------+-----------+------------+---------+-----+---------------+-------+---------+------+-----+------+-------+--------+
//
// The constants below are bits of the HIGH word, so TypeScript reads an entry as two u32 and never meets a BigInt.
// The low word is a frame number, except: a table entry (sign bit) holds the byte address of the next table page. A present entry is readable; a mapping without any right is of kind protnone.

export const ENTRY_BYTES = 8;
export const ENTRY_KIND = 0x0f;
export const ENTRY_WRITE = 1 << 4;
export const ENTRY_EXEC = 1 << 5;
export const ENTRY_DIRTY = 1 << 6;
export const ENTRY_ACCESSED = 1 << 7;
export const ENTRY_ORDER_SHIFT = 8;
export const ENTRY_ORDER = 0x1f << ENTRY_ORDER_SHIFT;
/** The page belongs to this space alone: a write needs no copy. On a migration entry: the read-exclusive flavour. */
export const ENTRY_ANON_EXCLUSIVE = 1 << 13;
/** The shared page of zeros stands behind this entry: never writable, never freed. */
export const ENTRY_ZERO = 1 << 14;
/**
 * On a device-private, migration or exclusive entry: the VMA gives no right at all, so the page is protnone when it becomes present. A present
 * entry without rights is of kind protnone instead.
 */
export const ENTRY_NO_ACCESS = 1 << 15;
/** Eight bits that mean something to the driver only; they survive split, merge and migration. */
export const ENTRY_DEVICE_SHIFT = 16;
export const ENTRY_DEVICE = 0xff << ENTRY_DEVICE_SHIFT;
/** Installed ahead of need; not yet asked for. */
export const ENTRY_SPECULATIVE = 1 << 24;
/** Devices rely on it that the CPU only reads this page: one does atomics on it, or some have copies of it. On a present entry without write. */
export const ENTRY_CPU_READS = 1 << 25;
/** Besides ENTRY_CPU_READS: it is copies (replicas), and nobody writes the page. */
export const ENTRY_REPLICATED = 1 << 26;
/** What goes when devices have lost their translations of the page. */
export const ENTRY_PROMISES = ENTRY_CPU_READS | ENTRY_REPLICATED;

export const KIND_NONE = 0;
export const KIND_PRESENT = 1;
/** The frame is on a device-private node: no CPU access, a fault brings it home. */
export const KIND_DEVICE_PRIVATE = 2;
/** Only one device may touch the page (atomics); a CPU access revokes it. */
export const KIND_EXCLUSIVE = 3;
/** Somebody moves the page right now. WRITE: write flavour; ANON_EXCLUSIVE: read-exclusive; neither: read. */
export const KIND_MIGRATION = 4;
/** The frame is one of the second tier: a fault brings its bytes back. */
export const KIND_SWAP = 5;
export const KIND_PROTNONE = 6;
export const KIND_SPECIAL = 7;
/** The bytes are lost: any access is a bus error. */
export const KIND_POISON = 8;

// ---------------------------------------------------------------------------------------------------------------- frame
//
// One record per frame of simulated physical memory: 32 bytes, half of the kernel's 64-byte struct page.
//
//   0  references   u32   every holder: a mapping, an operation in flight, a pin, a driver
//   4  maps         u32   20 bits: home-table entries that name the frame; upper 12 bits: pins
//   8  flags        u32   FRAME_* below: state, marks, order, node
//  12  charge       u16   space that pays for it + 1; 0: nobody
//  14  ticket       u16   copy or flush still unfinished on it; 0: none
//  16  rmap         u32   one mapping: low word of its VPN; several: index of the first chain record
//  20  rmap owner   u32   bits 0..3 upper VPN bits, bits 4..19 table index + 1 (0: unmapped), bit 31: chained
//  24  next         u32   list link + 1 (free list of its order, or the node's list of used frames, oldest first)
//  28  previous     u32   list link + 1; of a tail frame: the frame number of its head
//
// A frame with an order above 0 is a head; its tails carry STATE_TAIL and their head's number. References, maps, charge and reverse map
// are the head's; a pin is counted on the very page that was pinned (upper bits of its own `maps`), and its reference on the head:
//     head.references == head.maps + pins of head and tails + operations in flight + 1 if cached
//
// A record of zeros is a frame that nobody has had yet, not even its node's free lists beyond the first frame of a block: a new node writes
// next to nothing, and fresh memory is not touched before it is used. Its flags then do not say the node: `nodeOf` finds it by the number.

export const FRAME_BYTES = 32;
export const FRAME_REFS = 0;
export const FRAME_MAPS = 4;
export const FRAME_FLAGS = 8;
export const FRAME_CHARGE = 12;
export const FRAME_TICKET = 14;
export const FRAME_RMAP = 16;
export const FRAME_RMAP_OWNER = 20;
export const FRAME_NEXT = 24;
export const FRAME_PREVIOUS = 28;

export const MAPS_BITS = 20;
export const MAPS_MASK = 0xfffff;
export const PIN_ONE = 1 << MAPS_BITS;
/** Most pins of one page that can be counted. */
export const PINS_MAX = 0xfff;

export const FRAME_STATE = 0x3;
export const STATE_OFFLINE = 0;
export const STATE_FREE = 1;
export const STATE_USED = 2;
export const STATE_TAIL = 3;
/** The page lock: one operation may change where the page is. */
export const FRAME_LOCKED = 1 << 2;
export const FRAME_ANON_EXCLUSIVE = 1 << 3;
export const FRAME_DIRTY = 1 << 4;
export const FRAME_ACCESSED = 1 << 5;
export const FRAME_POISON = 1 << 6;
/** At least one pin is long-term. */
export const FRAME_LONG_TERM = 1 << 7;
/** On its node's list of used frames (oldest first). */
export const FRAME_LISTED = 1 << 8;
/** A copy of a page that another frame owns: FRAME_RMAP is that frame, FRAME_NONE once the copy is being given up. It has no mappings, and one reference. */
export const FRAME_REPLICA = 1 << 9;
/** Not anonymous memory: a page of a file or shared object, or a driver's own. A private writer copies it. */
export const FRAME_FILE = 1 << 10;
export const FRAME_ORDER_SHIFT = 11;
export const FRAME_ORDER = 0x1f << FRAME_ORDER_SHIFT;
export const FRAME_NODE_SHIFT = 16;
export const FRAME_NODE = 0xff << FRAME_NODE_SHIFT;
/** In a page cache, or of the second tier and as true as the page that came back from it: one reference more. */
export const FRAME_CACHED = 1 << 24;
/** Of a hugetlb-like mapping: never split, never migrated. */
export const FRAME_HUGETLB = 1 << 25;
/** An operation under way has given it away, or needs it where it is: no victim. */
export const FRAME_SPARED = 1 << 26;
/** Looked for by a call into the core that is under way. */
export const FRAME_SOUGHT = 1 << 27;

export const RMAP_VPN_HIGH = 0xf;
export const RMAP_TABLE_SHIFT = 4;
export const RMAP_TABLE = 0xffff << RMAP_TABLE_SHIFT;
/** Bit 31 of the rmap owner word, as a shift (the literal would not fit an i32). */
export const RMAP_CHAINED_SHIFT = 31;

// Reverse-map chain record: one mapping, or one holder (a context that keeps a replica or a device-table entry).
//   0  vpn low u32   4  owner word as in the frame   8  next record, 0 = end   12  kind
export const CHAIN_BYTES = 16;
export const CHAIN_VPN = 0;
export const CHAIN_OWNER = 4;
export const CHAIN_NEXT = 8;
export const CHAIN_KIND = 12;
export const CHAIN_MAPPING = 1;
export const CHAIN_HOLDER = 2;

// ---------------------------------------------------------------------------------------------------------------- node

export const NODES_MAX = 64;
export const NODE_BYTES = 256;
/** First frame number. */
export const NODE_BASE = 0;
export const NODE_FRAMES = 4;
/** NODE_IS_*; 0: the slot is empty. */
export const NODE_KIND = 8;
/** BYTES_*. */
export const NODE_BYTES_MODE = 12;
/** ALLOC_*. */
export const NODE_ALLOC = 16;
/** Device index + 1; 0: the host. Also the owner that device-private selectors compare. */
export const NODE_OWNER = 20;
/** Byte address of its first frame's bytes; 0 when it has none here. */
export const NODE_BYTES_BASE = 24;
export const NODE_FREE = 28;
export const NODE_USED = 32;
export const NODE_USED_PEAK = 36;
/** List of used frames, oldest first: frame number + 1. */
export const NODE_OLDEST = 40;
export const NODE_NEWEST = 44;
/** Frames set aside for the one page that a CPU fault must bring home. */
export const NODE_RESERVED = 48;
/** log2 of a frame's bytes: 12, or 21 on a node of 2 MiB frames. */
export const NODE_FRAME_SHIFT = 52;
/** Its index where the flags of its frames have it. */
export const NODE_FLAGS = 56;
/** Free-list heads by order: frame number + 1. */
export const NODE_HEADS = 64;
export const NODE_COUNTS = 144;

export const NODE_IS_HOST = 1;
export const NODE_IS_PRIVATE = 2;
export const NODE_IS_COHERENT = 3;
export const NODE_IS_TIER = 4;

export const BYTES_BACKED = 0;
/** No bytes at all: counts and states only. */
export const BYTES_METADATA = 1;
/** A driver holds the bytes. */
export const BYTES_EXTERNAL = 2;

export const ALLOC_CORE = 0;
export const ALLOC_DRIVER = 1;
export const ALLOC_PEER = 2;

// ---------------------------------------------------------------------------------------------------------------- table
//
// Descriptor of one radix table. Level 0 holds the leaves. A table page takes 4 KiB whatever its level's width.

export const TABLE_BYTES = 96;
/** Byte address of the root table page; 0: the slot is empty. */
export const TABLE_ROOT = 0;
export const TABLE_LEVELS = 4;
/** Its own index in the array of descriptors. */
export const TABLE_INDEX = 8;
/** CPU TLB of a home table: byte address of the TLB slot, 0 when it has none. */
export const TABLE_TLB = 12;
/** Mapped base pages (a huge leaf counts all of its pages). */
export const TABLE_PAGES = 16;
/** Table pages in use, the root included. */
export const TABLE_TABLES = 20;
/** 1: a home table (frames carry reverse maps to it); 0: a device table. */
export const TABLE_IS_HOME = 24;
/** Sum of the bits of all levels: the width of a page number. */
export const TABLE_VPN_BITS = 28;
/** u8 x LEVELS_MAX: width of each level. */
export const TABLE_BITS = 32;
/** u8 x LEVELS_MAX: pages below one entry of each level, as a shift. */
export const TABLE_SHIFTS = 40;
/** Pages charged to the space, a limit of 0 meaning none. */
export const TABLE_CHARGED = 48;
export const TABLE_CHARGE_LIMIT = 52;
/** Of a device table: byte address of the descriptor of the home table that it mirrors. */
export const TABLE_HOME = 56;
/** Of a table whose shape has no unrolled walk: the level-0 table page that was last walked to, 0: none; and, a u64, which one it is: its page numbers without the bits of level 0. */
export const TABLE_NEAR = 60;
export const TABLE_NEAR_INDEX = 64;
/** Of a table of four levels of nine bits: the level-1 table page that was last walked to; and, a u64, which one it is: its page numbers without their low 18 bits, all ones for none. */
export const TABLE_DIRECTORY = 72;
export const TABLE_DIRECTORY_INDEX = 80;

export const LEVELS_MAX = 5;
export const LEVEL_BITS_MAX = 9;

// ---------------------------------------------------------------------------------------------------------------- TLB
//
// A slot: a small header, then sets of four ways, most recently used way first (a hit moves to the front).
// One set is 64 bytes, one cache line. The set of a page is its VPN modulo the number of sets.
//
// Way:  0 page's address | TLB_VALID | TLB_WRITE | TLB_DIRTY   8 byte address of the frame (0: none)   12 frame
//
// The first word has what an access has at the same bits: the page, and, where the access says that it writes, TLB_DIRTY: that a write needs nothing more.

export const TLB_HEADER_BYTES = 64;
export const TLB_WAY_BYTES = 16;
export const TLB_WAYS = 4;
export const TLB_SET_BYTES = 64;
export const TLB_SETS_MAX = 256;
export const TLB_SLOT_BYTES = 16448;
export const TLB_SETS = 0;
/** Table descriptor whose translations it caches; 0: the slot is empty. */
export const TLB_TABLE = 4;
export const TLB_HITS = 8;
export const TLB_MISSES = 16;
/** Ways that an invalidation emptied. */
export const TLB_DROPPED = 24;
/** Blocks of accesses for which two ways of a set are looked at; 0: one. Says nothing but what is quicker. */
export const TLB_TURNS = 32;
/** Of the low word. */
export const TLB_VALID = 1 << 0;
export const TLB_WRITE = 1 << 1;
/** Of the high word: the way is writable, and the table's entry says dirty. */
export const TLB_DIRTY = 1 << 28;

// ---------------------------------------------------------------------------------------------------------------- access
//
// One memory access of a trace or a job, 8 bytes:
//
//   63 62     61     60     59..48     47..0
// +--------+--------+------+----------+---------+
// | number | device | write| bytes - 1| address |
// +--------+--------+------+----------+---------+
//
// The constants are bits of the HIGH word.

export const ACCESS_BYTES = 8;
export const ACCESS_ADDRESS_HIGH = 0xffff;
export const ACCESS_LENGTH_SHIFT = 16;
export const ACCESS_LENGTH = 0xfff;
export const ACCESS_WRITE = 1 << 28;
export const ACCESS_DEVICE = 1 << 29;
/** From here on: whose access it is. */
export const ACCESS_SIDE_SHIFT = 29;
/** Which device, 0 to ACCESS_DEVICES_MAX - 1: from this bit on. */
export const ACCESS_DEVICE_SHIFT = 30;
export const ACCESS_DEVICES_MAX = 4;
export const ACCESS_LENGTH_MAX = 4096;

// Fault record in a fault buffer, 16 bytes:
//   0 vpn low   4 vpn high (bits 0..3) | FAULT_WRITE | span   8 lane   12 index of the access in the job
// The span says which pages the access touches, so that all of them are there at once when it is replayed.
export const FAULT_BYTES = 16;
export const FAULT_WRITE = 1 << 4;
/** The access touches the page before / after this one as well. */
export const FAULT_SPAN_BEFORE = 1 << 5;
export const FAULT_SPAN_AFTER = 1 << 6;

// Job block: state of one submitted job's lanes, in the batch area AREA_JOB. One u32 per lane follows: index of its next access.
export const JOB_ACCESSES = 0;
export const JOB_LANES = 4;
export const JOB_EXECUTED = 8;
export const JOB_FAULTS = 12;
export const JOB_FAULTS_MAX = 16;
export const JOB_OVERFLOW = 20;
export const JOB_STALLED = 24;
/** So many of the executed accesses, from the first on, ran in the order in which they stand. */
export const JOB_STRAIGHT = 28;
export const JOB_LANE_NEXT = 64;
export const LANES_MAX = 4096;
export const JOB_ACCESSES_MAX = 65536;

// ---------------------------------------------------------------------------------------------------------------- lackey

/** Longer lines are refused, so that a partial line is never long. */
export const LINE_BYTES_MAX = 65536;
/** Not a line of lackey. */
export const LINE_SYNTAX = 1;
/** The address, or the end of the access, is not below 2^48. */
export const LINE_ADDRESS = 2;
/** A length of 0, or over ACCESS_LENGTH_MAX. */
export const LINE_LENGTH = 3;
/** Bytes that are not text. */
export const LINE_BINARY = 4;
/** Over LINE_BYTES_MAX. */
export const LINE_LONG = 5;
/** The input ends in the middle of it. */
export const LINE_CUT = 6;

// ---------------------------------------------------------------------------------------------------------------- header

export const HEADER_BYTES = 4096;
/** End of the header's fields; what follows is unused, but for the texts that a checked build keeps there. */
export const HEADER_FIELDS_END = 512;
export const H_MAGIC = 0;
export const H_ABI = 4;
export const H_NODES = 8;
export const H_TABLES = 12;
export const H_TABLES_MAX = 16;
export const H_TLBS = 20;
export const H_TLBS_MAX = 24;
export const H_CHAIN = 28;
export const H_CHAIN_MAX = 32;
export const H_CHAIN_USED = 36;
export const H_CHAIN_FREE = 40;
export const H_CHAIN_BUMP = 44;
export const H_FRAMES = 48;
/** Frame budget: records that exist. */
export const H_FRAMES_MAX = 52;
export const H_LIVE = 56;
export const H_PAGES = 60;
export const H_PAGES_MAX = 64;
export const H_PAGES_USED = 68;
export const H_PAGES_FREE = 72;
export const H_PAGES_BUMP = 76;
export const H_AREAS = 80;
export const H_BYTES = 84;
/** End of the byte area, in 64 KiB units (4 GiB does not fit a u32). */
export const H_BYTES_END = 88;
/** First of 512 frames of zeros: the page of zeros, and all of them the huge page of zeros. Nobody counts their holders. */
export const H_ZERO_FRAME = 92;
/** Where and why the last call stopped; see STOP_*. */
export const H_STOP_REASON = 96;
export const H_STOP_VPN_LOW = 100;
export const H_STOP_VPN_HIGH = 104;
export const H_STOP_INDEX = 108;
export const H_STOP_ENTRY_LOW = 112;
export const H_STOP_ENTRY_HIGH = 116;
/** Frames of driver-owned and peer-owned nodes that the last call freed: their numbers are in AREA_FREED, for their owners to be told. */
export const H_FREED = 120;
/** Pages that the last migration phase copied / cleared / mapped. */
export const H_MOVED = 124;
/** Parser state between two chunks of text: LACKEY_*, see lackey.ts. */
export const H_LACKEY = 128;
/** Bytes of the last chunk that were used; what is behind them is to come again, in front of the next chunk. */
export const LACKEY_CONSUMED = H_LACKEY;
/** Why a line was refused: LINE_*. */
export const LACKEY_REASON = H_LACKEY + 4;
/** u64: lines finished so far; a refused line is the one after them. */
export const LACKEY_LINES = H_LACKEY + 8;
/** u64 each: I, L, S and M lines so far. */
export const LACKEY_INSTRUCTIONS = H_LACKEY + 16;
export const LACKEY_LOADS = H_LACKEY + 24;
export const LACKEY_STORES = H_LACKEY + 32;
export const LACKEY_MODIFIES = H_LACKEY + 40;
/** ACCESS_DEVICE and the number of the device whose offload range the current instruction is in; 0: the CPU's. */
export const LACKEY_DEVICE = H_LACKEY + 48;
/** Offload ranges in AREA_LIST: pairs of u64 [start, end), ascending and disjoint; the number of the device is above the 48 bits of the start. 0: every access is the device's. */
export const LACKEY_RANGES = H_LACKEY + 52;
/** Beside the number of the device, in the upper half of a range's start: the parser has met an instruction in it. */
export const RANGE_MET = 1 << 24;
/** 1: the read of the M line that comes next has been handed out, its write has not. */
export const LACKEY_HALF = H_LACKEY + 56;
/** Table pages promised to huge home entries: splitting one can then never fail for want of a page. */
export const H_PAGES_DEPOSITED = 216;
/** Results of verify. */
export const H_VERIFY_RULE = 192;
export const H_VERIFY_A = 196;
export const H_VERIFY_B = 200;
export const H_VERIFY_C = 204;
/** Reverse-map records promised to huge frames that several entries map: splitting them can then never fail for want of one. */
export const H_CHAIN_RESERVED = 208;
/** What verify has counted so far: deposits, reserved records. */
export const H_VERIFY_DEPOSITS = 220;
export const H_VERIFY_RESERVED = 224;
/** One u32 for each frame: frame of the second tier with the same bytes, + 1; 0: none. 0 here: there is no second tier. */
export const H_BACKING = 228;
/** u32 for each table and node: pages of the node that the space pays for. */
export const H_CHARGES = 232;
/** Byte address of a page of zeros, where no node has bytes: what every load of such a machine sees, while its stores go nowhere. 0: a machine with bytes. */
export const H_BLANK = 236;
/** Free table pages that are zeros but for the link to the next one. */
export const H_PAGES_CLEAN = 240;

export const MAGIC = 0x46414c54;
/** Raised whenever a record or a signature changes: a saved state of another layout is refused. */
export const ABI_VERSION = 1;

// ---------------------------------------------------------------------------------------------------------------- areas
//
// Batch areas: offsets from H_AREAS. Borrowed by the SDK until its next call into the core.

/** Text in, bytes in and out. */
export const AREA_BYTES = 0;
export const AREA_BYTES_LENGTH = 1 << 20;
/** u64 per access. */
export const AREA_ACCESSES = AREA_BYTES + AREA_BYTES_LENGTH;
/** u64 per access: value to write, value read. */
export const AREA_VALUES = AREA_ACCESSES + JOB_ACCESSES_MAX * ACCESS_BYTES;
/** u32 per executed access: its index, in order of execution. */
export const AREA_ORDER = AREA_VALUES + JOB_ACCESSES_MAX * 8;
/** Job block and lanes. */
export const AREA_JOB = AREA_ORDER + JOB_ACCESSES_MAX * 4;
/** Fault records of the round. */
export const AREA_FAULTS = AREA_JOB + JOB_LANE_NEXT + LANES_MAX * 16;
export const FAULTS_MAX = 2 * LANES_MAX;
/** u64 per page: source words of a migration, native entries, HMM words. */
export const AREA_SOURCE = AREA_FAULTS + FAULTS_MAX * FAULT_BYTES;
export const WORDS_MAX = 8192;
/** u64 per page: destination words. */
export const AREA_TARGET = AREA_SOURCE + WORDS_MAX * 8;
/** u32 lists: frames freed, frames allocated, victims. */
export const AREA_LIST = AREA_TARGET + WORDS_MAX * 8;
export const LIST_MAX = 16384;
export const AREA_EXTENTS = AREA_LIST + LIST_MAX * 4;
/** vpn low, vpn high | flags, pages, frame. */
export const EXTENT_BYTES = 16;
/** Offset of the first page, pages, ENTRY_ACCESSED | ENTRY_DIRTY: a run of `tableHarvest`. */
export const HARVEST_BYTES = 12;
/** Table index, vpn low, vpn high, pages | PLACE_MORE: what `rmapPlaces` tells of a frame, in the same area. */
export const PLACE_BYTES = 16;
/** It is mapped elsewhere, too. */
export const PLACE_MORE = 1 << 30;
/** vpn low, vpn high | dirty above HARVESTED_DIRTY_SHIFT: a mark of `harvestVictims`. */
export const HARVESTED_BYTES = 8;
export const HARVESTED_DIRTY_SHIFT = 31;
/** u32 list: driver-owned frames freed by the last call. */
export const AREA_FREED = AREA_EXTENTS + WORDS_MAX * EXTENT_BYTES;
export const FREED_MAX = 16384;
/** On a frame of that list: all 512 of a huge one. */
export const FREED_HUGE = 1 << 30;
/** u32 list: 2 MiB blocks that a replay has reserved lately. */
export const AREA_BLOCKS = AREA_FREED + FREED_MAX * 4;
export const BLOCKS_MAX = 1024;
export const AREAS_LENGTH = AREA_BLOCKS + BLOCKS_MAX * 4;
/** Accesses that run in one go, before it is asked again how to look for their pages. */
export const BLOCK_ACCESSES = 64;
/** Links of lists count from 1; a frame number that is none. */
export const FRAME_NONE = -1;

// ---------------------------------------------------------------------------------------------------------------- HMM words
//
// hmm_range_fault's output on 64-bit, high word: VALID 63, WRITE 62, ERROR 61, order in bits 53..57. The low word is the frame.
// HMM_VALID is given as a shift because the literal would not fit an i32.

export const HMM_VALID_SHIFT = 31;
export const HMM_WRITE = 1 << 30;
export const HMM_ERROR = 1 << 29;
export const HMM_ORDER_SHIFT = 21;
/** Bits of the DMA mapping, 60 to 58: a range fault copies them from the request to the answer. */
export const HMM_DMA_MAPPED = 1 << 28;
export const HMM_P2PDMA = 1 << 27;
export const HMM_P2PDMA_BUS = 1 << 26;

// ---------------------------------------------------------------------------------------------------------------- migration words
//
// u64: low word frame, high word these bits (struct migrate_vma's, without the shift of the frame number).

export const MIGRATE_VALID = 1;
export const MIGRATE_MOVE = 2;
export const MIGRATE_WRITE = 8;
export const MIGRATE_COMPOUND = 16;
/** Selectors of setup. */
export const SELECT_SYSTEM = 1;
export const SELECT_PRIVATE = 2;
export const SELECT_COHERENT = 4;
export const SELECT_COMPOUND = 8;
/** Holes are not offered: the VMA is not anonymous. */
export const SELECT_NO_HOLES = 16;
/** Pages on the second tier. */
export const SELECT_SWAP = 32;
/** Of one page: not one that the device's table translates, nor one that is present without the right to write. */
export const SELECT_UNTRANSLATED = 64;
export const SELECT_WRITABLE = 128;

// Which pages could move: see `movablePages`.
export const MOVABLE_ANONYMOUS = 1;
export const MOVABLE_DEVICE = 2;
/** A run of `movingRuns`. */
export const MOVING_BYTES = 20;
/** What `pageIsolate` says instead of a frame: nothing is mapped there but perhaps the page of zeros; the page is not of the simple sort. */
export const PAGE_HOLE = FRAME_NONE;
export const PAGE_NOT_SIMPLE = -2;
/** What `pageSettle` says. */
export const PAGE_MOVED = 1;
export const PAGE_UNINSTALLED = 2;
export const PAGE_WRITABLE = 4;
/** What `movingTally` writes. */
export const MOVING_TALLY_BYTES = 20;

// ---------------------------------------------------------------------------------------------------------------- status

export const STOP_NONE = 0;
/** No entry, or one without the right asked for: a fault to serve. */
export const STOP_FAULT = 1;
/** No free table page. */
export const STOP_TABLES = 2;
/** No free frame. */
export const STOP_FRAMES = 3;
/** The output area is full: act on it and call again. */
export const STOP_FULL = 4;
/** No free reverse-map record. */
export const STOP_CHAIN = 5;
/** The frame's bytes are not in this memory. */
export const STOP_BYTES = 6;
/** A line that is not lackey's, see LACKEY_REASON. */
export const STOP_LINE = 7;
/** A range cuts a huge leaf that must be split first. */
export const STOP_SPLIT = 8;
/** A huge frame that must be split, or a page that must be changed, is locked by a migration: H_STOP_ENTRY_LOW is the frame to wait for. */
export const STOP_LOCKED = 9;
/** A page is not of the sort that the operation needs. */
export const STOP_REFUSED = 10;

// ---------------------------------------------------------------------------------------------------------------- rights

/** Rights of a VMA as the core takes them. */
export const RIGHT_READ = 1;
export const RIGHT_WRITE = 2;

/** forkRange: device-private entries are not inherited. */
export const FORK_OMIT_DEVICE = 1;

// ---------------------------------------------------------------------------------------------------------------- byte map
//
// The memory of a replay's byte map: an instance of the same module with a memory of its own, which may grow. See byte-map.ts.

export const BYTE_MAP_PAGES_USED = 0;
export const BYTE_MAP_PAGES_MAX = 4;
/** Why the last call ended: 0 done, 1 no room for another page, 2 a load differs. */
export const BYTE_MAP_STOP = 8;
export const BYTE_MAP_LOADS = 12;
/** u64: what a load that differs should have observed. */
export const BYTE_MAP_WANTED = 16;
export const BYTE_MAP_SLOTS = 1 << 20;
export const BYTE_MAP_SLOTS_AT = HEADER_BYTES;
export const BYTE_MAP_WORDS = BYTE_MAP_SLOTS_AT + BYTE_MAP_SLOTS * 16;
/** Accesses that are handed over at a time: few enough to stay in the processor's nearest caches, from the loop that executes them to the one that repeats them. */
export const BYTE_MAP_ACCESSES = 4096;
export const BYTE_MAP_VALUES = BYTE_MAP_WORDS + BYTE_MAP_ACCESSES * 8;
/** u64 per access: those that are to be read ahead. */
export const BYTE_MAP_AHEAD = BYTE_MAP_VALUES + BYTE_MAP_ACCESSES * 8;
export const BYTE_MAP_PAGES = BYTE_MAP_AHEAD + BYTE_MAP_ACCESSES * 8;

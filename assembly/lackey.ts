import {
  ACCESS_DEVICE,
  ACCESS_DEVICE_SHIFT,
  ACCESS_LENGTH_MAX,
  ACCESS_LENGTH_SHIFT,
  ACCESS_WRITE,
  ADDRESS_BITS,
  AREA_LIST,
  H_AREAS,
  H_STOP_REASON,
  LACKEY_CONSUMED,
  LACKEY_DEVICE,
  LACKEY_HALF,
  LACKEY_INSTRUCTIONS,
  LACKEY_LINES,
  LACKEY_LOADS,
  LACKEY_MODIFIES,
  LACKEY_RANGES,
  LACKEY_REASON,
  LACKEY_STORES,
  LINE_ADDRESS,
  LINE_BINARY,
  LINE_BYTES_MAX,
  LINE_CUT,
  LINE_LENGTH,
  LINE_LONG,
  LINE_SYNTAX,
  RANGE_MET,
  STOP_FULL,
  STOP_LINE,
  STOP_NONE,
} from './layout';

/**
 * The text of Valgrind's lackey (`--trace-mem=yes`) in, packed accesses out.
 *
 * ```
 * I  004784f3,5        an instruction: address in hex, length in decimal
 *  L 1ffeffff28,8      a load          the data accesses of the instruction above
 *  S 004c5f40,8        a store
 *  M 004c32c8,8        a load and a store of the same bytes: two accesses
 * ==1234== ...         Valgrind's own lines, also -- and **: skipped, as are empty ones
 * ```
 *
 * Nothing is remembered here: what lasts from one chunk to the next is at LACKEY_* in the header. A chunk is consumed by whole lines.
 *
 * ```
 * chunk 1   |I  00401000,3\n L 1fff0|      chunk 2   | L 1fff000,8\n ...
 *                          ^ LACKEY_CONSUMED           ^ the host moved the rest to the front
 * ```
 */

const NEWLINE: u32 = 0x0a;
const RETURN: u32 = 0x0d;
const SPACE: u32 = 0x20;
const STAR: u32 = 0x2a;
const COMMA: u32 = 0x2c;
const DASH: u32 = 0x2d;
const EQUALS: u32 = 0x3d;
const I: u32 = 0x49;
const L: u32 = 0x4c;
const M: u32 = 0x4d;
const S: u32 = 0x53;
/** No address has more digits, save for zeros in front. */
const ADDRESS_DIGITS: u32 = ADDRESS_BITS / 4;
const ADDRESS_END: u64 = (<u64>1) << ADDRESS_BITS;
const RANGE_BYTES: u32 = 16;
const DEVICE: u64 = (<u64>ACCESS_DEVICE) << 32;
/** Where a range says whose it is: above the address that it begins at. */
const RANGE_DEVICE: usize = 6;
const WRITE: u64 = (<u64>ACCESS_WRITE) << 32;

/**
 * Reads lines from `length` bytes at `input` and writes at most `max` accesses (u64) at `output`; returns how many. `last`: nothing
 * follows, so a last line may lack its newline.
 *
 * Stops with STOP_NONE when the text is used up (but for a partial line), with STOP_FULL in front of the first access that found no room, with
 * STOP_LINE in front of a line that is refused: LACKEY_REASON says why, and it is line LACKEY_LINES + 1. LACKEY_CONSUMED is exact in
 * all three cases. How the text is cut into chunks changes nothing.
 *
 * A range of AREA_LIST that an instruction is in gets RANGE_MET.
 *
 * Requires: one byte behind the text may be written; `length` is over LINE_BYTES_MAX or `last` is given some day; AREA_LIST
 * holds LACKEY_RANGES ranges.
 */
export function lackeyParse(input: u32, length: u32, output: u32, max: u32, last: u32): u32 {
  const end = input + length,
    outputEnd = output + (max << 3);
  // A newline behind the text: no scan below can run past it.
  store<u8>(end, NEWLINE);

  const ranges = load<u32>(LACKEY_RANGES),
    list = load<u32>(H_AREAS) + AREA_LIST;
  let device: u64 = ranges ? (<u64>load<u32>(LACKEY_DEVICE)) << 32 : DEVICE;
  // Instructions in [sameStart, sameEnd) are on the same side as the last one that was looked up.
  let sameStart: u64 = 0,
    sameEnd: u64 = ranges ? 0 : ADDRESS_END;

  let line = input,
    p = input,
    at = output,
    stop: u32 = STOP_NONE,
    reason: u32 = 0;
  let lines: u32 = 0,
    instructions: u32 = 0,
    loads: u32 = 0,
    stores: u32 = 0,
    modifies: u32 = 0;
  while (line < end) {
    reason = LINE_SYNTAX;
    p = line;
    let c: u32 = load<u8>(p);
    if (c == SPACE || c == I) {
      // `I  ` or ` L `, then hex digits, a comma, decimal digits.
      const kind = c == I ? I : <u32>load<u8>(p, 1);
      if (load<u8>(p, 2) != SPACE || (c == I ? load<u8>(p, 1) != SPACE : kind != L && kind != S && kind != M)) {
        // Up to the byte that does not fit: where the text ends there, the line was cut.
        p += (c == I ? load<u8>(p, 1) == SPACE : kind == L || kind == S || kind == M) ? 2 : 1;
        break;
      }
      p += 3;
      const digits = p;
      let address: u64 = 0;
      while (true) {
        c = load<u8>(p);
        let digit = c - 0x30;
        if (digit > 9) {
          digit = (c | 0x20) - 0x61;
          if (digit > 5) break;
          digit += 10;
        }
        address = (address << 4) | digit;
        p++;
      }
      if (p == digits) break;
      if (p - digits > ADDRESS_DIGITS && !zeros(digits, p - ADDRESS_DIGITS)) {
        reason = LINE_ADDRESS;
        break;
      }
      if (c != COMMA) break;
      const decimals = ++p;
      let bytes: u32 = 0;
      while (true) {
        c = load<u8>(p);
        const digit = c - 0x30;
        if (digit > 9) break;
        // Kept from overflowing by staying too large.
        bytes = min<u32>(bytes * 10 + digit, ACCESS_LENGTH_MAX + 1);
        p++;
      }
      if (p == decimals) break;
      if (c == RETURN) c = load<u8>(++p);
      if (c != NEWLINE) break;
      if (bytes - 1 >= <u32>ACCESS_LENGTH_MAX) {
        reason = LINE_LENGTH;
        break;
      }
      if (address + bytes > ADDRESS_END) {
        reason = LINE_ADDRESS;
        break;
      }
      if (p - line > <u32>LINE_BYTES_MAX || (p == end && !last)) break;

      if (kind == I) {
        instructions++;
        if (address < sameStart || address >= sameEnd) {
          const i = firstEndingBehind(list, ranges, address),
            range = list + i * RANGE_BYTES;
          const start = i < ranges ? load<u64>(range) & (ADDRESS_END - 1) : ADDRESS_END;
          if (start <= address) {
            sameStart = start;
            sameEnd = load<u64>(range, 8);
            store<u32>(range, load<u32>(range, 4) | RANGE_MET, 4);
            device = DEVICE | ((<u64>load<u8>(range, RANGE_DEVICE)) << (ACCESS_DEVICE_SHIFT + 32));
          } else {
            sameStart = i > 0 ? load<u64>(range - 8) : 0;
            sameEnd = start;
            device = 0;
          }
        }
      } else {
        if (at == outputEnd) {
          stop = STOP_FULL;
          break;
        }
        const access = address | ((<u64>(bytes - 1)) << (ACCESS_LENGTH_SHIFT + 32)) | device;
        if (kind == L) {
          store<u64>(at, access);
          loads++;
        } else if (kind == S) {
          store<u64>(at, access | WRITE);
          stores++;
        } else {
          if (!load<u32>(LACKEY_HALF)) {
            store<u64>(at, access);
            at += 8;
            if (at == outputEnd) {
              store<u32>(LACKEY_HALF, 1);
              stop = STOP_FULL;
              break;
            }
          }
          store<u64>(at, access | WRITE);
          store<u32>(LACKEY_HALF, 0);
          modifies++;
        }
        at += 8;
      }
    } else if (c == EQUALS || c == DASH || c == STAR) {
      if (load<u8>(p, 1) != c) break;
      while (load<u8>(p) != NEWLINE) p++;
      if (p - line > <u32>LINE_BYTES_MAX || (p == end && !last)) break;
    } else {
      // An empty line.
      if (c == RETURN) c = load<u8>(++p);
      if (c != NEWLINE || (p == end && !last)) break;
    }
    lines++;
    line = p + 1;
  }

  if (line < end && stop == STOP_NONE) {
    // Right up to where the text ends: cut, not wrong.
    if (reason == LINE_SYNTAX && p >= end) reason = LINE_CUT;
    reason = judge(line, end, reason, last);
    if (reason) stop = STOP_LINE;
  }
  store<u32>(H_STOP_REASON, stop);
  store<u32>(LACKEY_REASON, stop == STOP_LINE ? reason : 0);
  store<u32>(LACKEY_CONSUMED, min(line, end) - input);
  store<u32>(LACKEY_DEVICE, <u32>(device >> 32));
  add(LACKEY_LINES, lines);
  add(LACKEY_INSTRUCTIONS, instructions);
  add(LACKEY_LOADS, loads);
  add(LACKEY_STORES, stores);
  add(LACKEY_MODIFIES, modifies);
  return (at - output) >> 3;
}

function add(counter: u32, n: u32): void {
  store<u64>(counter, load<u64>(counter) + n);
}

function zeros(from: u32, to: u32): bool {
  for (; from < to; from++) if (load<u8>(from) != 0x30) return false;
  return true;
}

/** Index of the first range whose end is behind the address; their number when there is none. */
function firstEndingBehind(list: u32, ranges: u32, address: u64): u32 {
  let low: u32 = 0,
    high = ranges;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (load<u64>(list + middle * RANGE_BYTES, 8) > address) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** What is wrong with the line that the parser stopped at, all of it in view: 0 when its end is still to come. */
function judge(line: u32, end: u32, reason: u32, last: u32): u32 {
  let p = line,
    binary = false;
  for (; load<u8>(p) != NEWLINE; p++) {
    if (p - line >= <u32>LINE_BYTES_MAX) return binary ? LINE_BINARY : LINE_LONG;
    const c = <u32>load<u8>(p);
    if (c >= 0x7f || (c < SPACE && c != 9 && c != RETURN)) binary = true;
  }
  if (p == end && !last) return 0;
  return binary ? LINE_BINARY : reason;
}

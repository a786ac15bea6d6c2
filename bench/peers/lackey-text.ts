/**
 * Lackey's text as one would read it in plain TypeScript: a loop over its bytes, and a regular expression over its lines. Both take well-formed text
 * only: no errors, no line numbers, no partial lines.
 *
 * Accesses come out packed as the core has them, two words each: address, and in the high half the length - 1 (bits 16..27), write (28), device (29).
 */

/** Instructions at `[start, end)` are the device's. */
export interface Range {
  readonly start: number;
  readonly end: number;
}

const WRITE = 1 << 28;
const DEVICE = 1 << 29;

/** Reads `text`, byte by byte; returns how many accesses were written to `output`. */
export function parseBytes(text: Uint8Array, ranges: readonly Range[], output: Uint32Array): number {
  let at = 0;
  let device = 0;
  let p = 0;
  while (p < text.length) {
    const first = text[p]!;
    if (first !== 0x49 && first !== 0x20) {
      while (p < text.length && text[p++] !== 0x0a);
      continue;
    }
    const kind = text[p + 1]!;
    p += 3;
    let low = 0;
    let high = 0;
    for (let c = text[p]!; c !== 0x2c; c = text[++p]!) {
      high = (high << 4) | (low >>> 28);
      low = (low << 4) | (c <= 0x39 ? c - 0x30 : (c | 0x20) - 0x57);
    }
    let bytes = 0;
    for (let c = text[++p]!; c !== 0x0a; c = text[++p]!) bytes = bytes * 10 + c - 0x30;
    p++;
    if (first === 0x49) {
      device = isInside(ranges, high * 2 ** 32 + (low >>> 0)) ? DEVICE : 0;
      continue;
    }
    const word = high | ((bytes - 1) << 16) | device;
    if (kind !== 0x53) {
      output[at] = low;
      output[at + 1] = word;
      at += 2;
    }
    if (kind !== 0x4c) {
      output[at] = low;
      output[at + 1] = word | WRITE;
      at += 2;
    }
  }
  return at / 2;
}

const LINE = /^(I| [LSM]) +([0-9a-f]+),(\d+)$/gim;

/** The same with a regular expression. */
export function parseLines(text: Uint8Array, ranges: readonly Range[], output: Uint32Array): number {
  let at = 0;
  let device = 0;
  for (const [, kind, address, bytes] of new TextDecoder('latin1').decode(text).matchAll(LINE)) {
    const addr = parseInt(address!, 16);
    if (kind === 'I') {
      device = isInside(ranges, addr) ? DEVICE : 0;
      continue;
    }
    const word = (addr / 2 ** 32) | ((Number(bytes) - 1) << 16) | device;
    if (kind !== ' S') {
      output[at++] = addr;
      output[at++] = word;
    }
    if (kind !== ' L') {
      output[at++] = addr;
      output[at++] = word | WRITE;
    }
  }
  return at / 2;
}

function isInside(ranges: readonly Range[], address: number): boolean {
  for (let i = 0; i < ranges.length; i++) if (address >= ranges[i]!.start && address < ranges[i]!.end) return true;
  return ranges.length === 0;
}

/**
 * The bytes of a saved machine.
 *
 * ```
 *   0    "farfault"                 8 letters
 *   8    CRC-32 of all that follows u32
 *   12   length of the heading      u32      JSON: format, build, options, sizes
 *   16   heading | objects (JSON) | blob | pages of memory that are not all zeros
 * ```
 *
 * A page of memory is 4 KiB, a run of them is written as first page and number of pages, two u32, then their bytes.
 */
/// <reference path="../core/host.d.ts" />
import { fail } from '../errors.ts';

const MAGIC = 'farfault';
const FRONT_BYTES = 16;
const PAGE_BYTES = 4096;
const PAGE_WORDS = PAGE_BYTES / 4;

/** What the heading says beside what the caller puts there. */
interface Sizes {
  readonly objectsBytes: number;
  readonly blobBytes: number;
  readonly runs: number;
}

/** The parts of an image. `H`: what its heading says. */
export interface Parts<H extends object> {
  readonly heading: H;
  readonly objects: string;
  readonly blob: Uint8Array;
  readonly memory: Memory;
}

/** Memory by runs of pages that are not all zeros. */
export interface Memory {
  readonly runs: readonly Run[];
}

/** Bytes from page `page` on. */
export interface Run {
  readonly page: number;
  readonly bytes: Uint8Array;
}

/** The runs of pages of a memory that are not all zeros: views of it. */
export function memoryRuns(u8: Uint8Array): Memory {
  const words = new Uint32Array(u8.buffer, u8.byteOffset, u8.length >>> 2);
  const pages = u8.length / PAGE_BYTES;
  const runs: Run[] = [];
  let from = -1;
  for (let page = 0; page <= pages; page++) {
    const holds = page < pages && !isZero(words, page * PAGE_WORDS);
    if (holds && from < 0) from = page;
    if (!holds && from >= 0) {
      runs.push({ page: from, bytes: u8.subarray(from * PAGE_BYTES, page * PAGE_BYTES) });
      from = -1;
    }
  }
  return { runs };
}

function isZero(words: Uint32Array, from: number): boolean {
  for (let i = from; i < from + PAGE_WORDS; i++) if (words[i] !== 0) return false;
  return true;
}

/** Writes an image. */
export function packImage<H extends object>({ heading, objects, blob, memory }: Parts<H>): Uint8Array {
  const encoder = new TextEncoder();
  const objectsBytes = encoder.encode(objects);
  const sizes: Sizes = { objectsBytes: objectsBytes.length, blobBytes: blob.length, runs: memory.runs.length };
  const headingBytes = encoder.encode(JSON.stringify({ ...heading, ...sizes }));
  const memoryBytes = memory.runs.reduce((sum, { bytes }) => sum + 8 + bytes.length, 0);
  const image = new Uint8Array(FRONT_BYTES + headingBytes.length + objectsBytes.length + blob.length + memoryBytes);
  const view = new DataView(image.buffer);
  image.set(encoder.encode(MAGIC), 0);
  view.setUint32(12, headingBytes.length, true);
  let at = FRONT_BYTES;
  for (const piece of [headingBytes, objectsBytes, blob]) {
    image.set(piece, at);
    at += piece.length;
  }
  for (const { page, bytes } of memory.runs) {
    view.setUint32(at, page, true);
    view.setUint32(at + 4, bytes.length / PAGE_BYTES, true);
    image.set(bytes, at + 8);
    at += 8 + bytes.length;
  }
  view.setUint32(8, crc32(image.subarray(12)), true);
  return image;
}

/**
 * The heading of an image, and its other parts when `check(heading)` does not throw. Throws EINVAL for bytes that are no image, are cut off, or damaged. Views of the bytes are lent.
 */
export function unpackImage<H extends object>(image: Uint8Array, check: (heading: Partial<H>) => void): Parts<H> {
  if (!(ArrayBuffer.isView(image) && image instanceof Uint8Array)) throw fail('EINVAL', 'image', image, 'is not a Uint8Array');
  const decoder = new TextDecoder();
  if (image.length < FRONT_BYTES || decoder.decode(image.subarray(0, 8)) !== MAGIC)
    throw fail('EINVAL', 'image', image, 'is not a saved machine');
  const view = new DataView(image.buffer, image.byteOffset, image.length);
  if (view.getUint32(8, true) !== crc32(image.subarray(12))) throw fail('EINVAL', 'image', image, 'is damaged: its checksum is wrong');
  let at = FRONT_BYTES;
  const take = (length: number): Uint8Array => image.subarray(at, (at += length));
  const heading = JSON.parse(decoder.decode(take(view.getUint32(12, true)))) as H & Sizes;
  check(heading);
  const objects = decoder.decode(take(heading.objectsBytes));
  const blob = take(heading.blobBytes);
  const runs: Run[] = [];
  for (let i = 0; i < heading.runs; i++) {
    const page = view.getUint32(at, true);
    const pages = view.getUint32(at + 4, true);
    at += 8;
    runs.push({ page, bytes: take(pages * PAGE_BYTES) });
  }
  return { heading, objects, blob, memory: { runs } };
}

/** Writes runs into a memory that is all zeros. */
export function fillMemory(u8: Uint8Array, { runs }: Memory): void {
  for (const { page, bytes } of runs) u8.set(bytes, page * PAGE_BYTES);
}

let table: Uint32Array | undefined;

/** CRC-32 as of IEEE 802.3, least bit first, four bytes a turn. */
function crc32(bytes: Uint8Array): number {
  const t = (table ??= crcTable());
  let crc = 0xffffffff;
  let i = 0;
  for (const end = bytes.length - 3; i < end; i += 4) {
    crc ^= bytes[i]! | (bytes[i + 1]! << 8) | (bytes[i + 2]! << 16) | (bytes[i + 3]! << 24);
    crc = t[768 + (crc & 255)]! ^ t[512 + ((crc >>> 8) & 255)]! ^ t[256 + ((crc >>> 16) & 255)]! ^ t[crc >>> 24]!;
  }
  for (; i < bytes.length; i++) crc = (crc >>> 8) ^ t[(crc ^ bytes[i]!) & 255]!;
  return ~crc >>> 0;
}

/** Four tables of 256: of a byte, and of a byte that one, two, three others follow. */
function crcTable(): Uint32Array {
  const made = new Uint32Array(1024);
  for (let n = 0; n < 256; n++) {
    let crc = n;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
    made[n] = crc;
  }
  for (let n = 256; n < 1024; n++) made[n] = (made[n - 256]! >>> 8) ^ made[made[n - 256]! & 255]!;
  return made;
}

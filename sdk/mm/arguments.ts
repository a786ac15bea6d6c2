/** What the verbs of an address space ask of their arguments. */
import * as L from '../../assembly/layout.ts';
import { fail } from '../errors.ts';

/** A half-open range of byte addresses, page-aligned. */
export interface AddressRange {
  readonly start: number;
  readonly end: number;
}

export const ADDRESS_LIMIT: number = 2 ** L.ADDRESS_BITS;

export function requireAligned(argument: string, addr: number): void {
  if (!Number.isSafeInteger(addr) || addr < 0 || addr >= ADDRESS_LIMIT)
    throw fail('EINVAL', argument, addr, 'is not a byte address below 2^48');
  if (addr % L.PAGE_BYTES !== 0) throw fail('EINVAL', argument, addr, 'is not page-aligned');
}

/** Throws unless `range` is a page-aligned, non-empty range of addresses. */
export function requireRange(argument: string, range: AddressRange): void {
  if (typeof range !== 'object' || range === null) throw fail('EINVAL', argument, range, 'is not a range { start, end }');
  requireAligned(`${argument}.start`, range.start);
  if (!Number.isSafeInteger(range.end) || range.end > ADDRESS_LIMIT)
    throw fail('EINVAL', `${argument}.end`, range.end, 'is not a byte address up to 2^48');
  if (range.end % L.PAGE_BYTES !== 0) throw fail('EINVAL', `${argument}.end`, range.end, 'is not page-aligned');
  if (range.end <= range.start) throw fail('EINVAL', `${argument}.end`, range.end, `is not above its start 0x${range.start.toString(16)}`);
}

/** Most bytes of one read: what a typed array can have everywhere. */
export const READ_BYTES_MAX: number = 2 ** 31 - 1;

/** Throws unless a read can have this length. */
export function requireLength(argument: string, bytes: number): void {
  if (!Number.isSafeInteger(bytes) || bytes < 0 || bytes > READ_BYTES_MAX)
    throw fail('EINVAL', argument, bytes, 'is not a length between 0 and 2^31 - 1');
}

export function requireBytes(argument: string, bytes: unknown): void {
  if (!(bytes instanceof Uint8Array)) throw fail('EINVAL', argument, bytes, 'is not a Uint8Array');
}

/** Throws unless options are an object, or left out. */
export function requireOptions(argument: string, options: unknown): void {
  if (typeof options !== 'object' || options === null) throw fail('EINVAL', `${argument} options`, options, 'are not an object');
}

/** Throws unless a value is one of a list of words. */
export function requireWord<Word extends string>(argument: string, value: unknown, words: readonly Word[]): Word {
  if (!words.includes(value as Word))
    throw fail('EINVAL', argument, value, `is not one of: ${words.map((word) => `'${word}'`).join(', ')}`);
  return value as Word;
}

/** What the verbs of an address space ask of their arguments. */
import * as L from '../../assembly/layout.ts';
import { fail } from '../errors.ts';

/** A half-open range of byte addresses, page-aligned. */
export interface AddressRange {
  readonly start: number;
  readonly end: number;
}

export const ADDRESS_LIMIT: number = 2 ** L.ADDRESS_BITS;

/** Throws unless `addr` is the address of a page. `part`: as for `requireCount`. */
export function requireAligned(argument: string, addr: number, part = ''): void {
  if (!Number.isSafeInteger(addr) || addr < 0 || addr >= ADDRESS_LIMIT)
    throw fail('EINVAL', argument + part, addr, 'is not a byte address below 2^48');
  if (addr % L.PAGE_BYTES !== 0) throw fail('EINVAL', argument + part, addr, 'is not page-aligned');
}

/** Throws unless `range` is a page-aligned, non-empty range of addresses. */
export function requireRange(argument: string, range: AddressRange): void {
  if (typeof range !== 'object' || range === null || Array.isArray(range))
    throw fail('EINVAL', argument, range, 'is not a range { start, end }');
  requireAligned(argument, range.start, '.start');
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

/** Whether a value is a Uint8Array; asks nothing of it that could throw. */
export function isBytes(value: unknown): value is Uint8Array {
  return ArrayBuffer.isView(value) && value instanceof Uint8Array;
}

export function requireBytes(argument: string, bytes: unknown): void {
  if (!isBytes(bytes)) throw fail('EINVAL', argument, bytes, 'is not a Uint8Array');
}

/** The names of all fields of a type: tsc sees to it that none is missing, and none is too much. */
export type NamesOf<T> = Readonly<Record<keyof T, true>>;

/** Throws unless options are an object, or left out, and each of them is one that there is. `names`: those, as the names of an object's fields. */
export function requireOptions(argument: string, options: unknown, names: Readonly<Record<string, unknown>>): void {
  if (typeof options !== 'object' || options === null || Array.isArray(options))
    throw fail('EINVAL', `${argument} options`, options, 'are not an object');
  requireNames(argument, options, names, 'option');
}

/** Throws for a field with a name that there is not: whatever it says, nobody would look at it. `what`: what a field is called. Allocates nothing. */
export function requireNames(argument: string, value: object, names: Readonly<Record<string, unknown>>, what = 'field'): void {
  for (const name in value) {
    if (Object.hasOwn(names, name)) continue;
    const known = Object.keys(names).join(', ');
    throw fail('EINVAL', `${argument} ${what}`, name, known === '' ? 'is not known: there are none' : `is not one of: ${known}`);
  }
}

/** Whether an object is no instance of a class: its fields are what it says, and not its state. */
export function isPlain(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}

/** Throws unless a value is one of a list of words. */
export function requireWord<Word extends string>(argument: string, value: unknown, words: readonly Word[]): Word {
  if (!words.includes(value as Word))
    throw fail('EINVAL', argument, value, `is not one of: ${words.map((word) => `'${word}'`).join(', ')}`);
  return value as Word;
}

/** Throws unless an argument is an object. `what`: what it has to be. */
export function requireObject(argument: string, value: unknown, what: string): void {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw fail('EINVAL', argument, value, `is not ${what}`);
}

export function requireFunction(argument: string, value: unknown): void {
  if (typeof value !== 'function') throw fail('EINVAL', argument, value, 'is not a function');
}

export function requireBoolean(argument: string, value: unknown): void {
  if (typeof value !== 'boolean') throw fail('EINVAL', argument, value, 'is not true or false');
}

/** Throws unless an argument is an array. A proxy of nothing is none. */
export function requireArray(argument: string, value: unknown): void {
  let is = false;
  try {
    is = Array.isArray(value);
  } catch {
    // Nobody can say what it is.
  }
  if (!is) throw fail('EINVAL', argument, value, 'is not an array');
}

/** Throws unless a value is an integer between two others. `part`: of the argument, put behind its name only where it is wrong. */
export function requireCount(argument: string, value: unknown, least: number, most: number, part = ''): void {
  if (!Number.isSafeInteger(value) || (value as number) < least || (value as number) > most)
    throw fail('EINVAL', argument + part, value, `is not a count between ${least} and ${most}`);
}

/** Page numbers are below it. */
export const VPN_LIMIT: number = 2 ** L.VPN_BITS;

/** Throws unless there are these pages in an address space. `most`: pages at once. */
export function requirePages(verb: string, vpn: unknown, pages: unknown, most: number): void {
  if (!Number.isSafeInteger(vpn) || (vpn as number) < 0 || (vpn as number) >= VPN_LIMIT)
    throw fail('EINVAL', `${verb}.vpn`, vpn, 'is not a page number below 2^36');
  requireCount(verb, pages, 1, most, '.pages');
  if ((vpn as number) + (pages as number) > VPN_LIMIT) throw fail('EINVAL', `${verb}.pages`, pages, 'leave the address space');
}

/** Sizes and counts as people write them: 64MiB, 4K, 1.5GiB, 65536. */
import { UsageError } from './fail.ts';

const UNITS: Readonly<Record<string, number>> = {
  '': 1,
  b: 1,
  k: 2 ** 10,
  kib: 2 ** 10,
  m: 2 ** 20,
  mib: 2 ** 20,
  g: 2 ** 30,
  gib: 2 ** 30,
  t: 2 ** 40,
  tib: 2 ** 40,
};
const PAGE_BYTES = 4096;
/** A machine with bytes. */
const WITH_BYTES: MachineMeasure = { pageBytes: PAGE_BYTES, bodiless: false };
/** What one Wasm memory can have. */
const MACHINE_BYTES = 2 ** 32;

/** What a machine without bytes can have addresses for. */
const ADDRESS_BYTES = 2 ** 48;
const LARGE_PAGE_BYTES = 2 * 2 ** 20;

/** What the sizes of a machine are measured by. */
export interface MachineMeasure {
  readonly pageBytes: number;
  /** It is without bytes. */
  readonly bodiless: boolean;
}

/** Bytes: a multiple of a page, above 0, below what a machine can have. `option` is what errors name. */
export function parseBytes(option: string, text: string, { pageBytes, bodiless }: MachineMeasure = WITH_BYTES): number {
  const [, digits, unit] = /^([0-9]+(?:\.[0-9]+)?) ?([a-zA-Z]*)$/.exec(text) ?? [];
  if (digits === undefined || unit === undefined) throw new UsageError(`${option} ${text} is not a size, such as 64MiB`);
  const scale = UNITS[unit.toLowerCase()];
  if (scale === undefined)
    throw new UsageError(`${option} ${text} has an unknown unit ${unit}: use KiB, MiB, GiB or TiB (or K, M, G, T), or plain bytes`);
  const bytes = Number(digits) * scale;
  if (bytes === 0 || bytes % pageBytes !== 0)
    throw new UsageError(`${option} ${text} is not a multiple of a page of ${printBytes(pageBytes)}, above 0`);
  if (bodiless && bytes >= ADDRESS_BYTES) throw new UsageError(`${option} ${text} is more than there are addresses for, 256 TiB`);
  if (!bodiless && bytes >= MACHINE_BYTES) throw new UsageError(`${option} ${text} does not fit one machine, which has less than 4 GiB`);
  return bytes;
}

/** A power of two from 4K to 2M, in bytes. */
export function parseGranule(option: string, text: string): number {
  const bytes = parseBytes(option, text);
  if (bytes > LARGE_PAGE_BYTES || !Number.isInteger(Math.log2(bytes)))
    throw new UsageError(`${option} ${text} is not a power of two from 4K to 2M`);
  return bytes;
}

/** 4K or 2M, in bytes. */
export function parsePage(option: string, text: string): number {
  const bytes = parseBytes(option, text);
  if (bytes !== PAGE_BYTES && bytes !== LARGE_PAGE_BYTES) throw new UsageError(`${option} ${text} is not 4K or 2M`);
  return bytes;
}

/** A whole number from `least` to `most`. */
export function parseCount(option: string, text: string, { least, most }: { least: number; most: number }): number {
  const count = /^[0-9]{1,16}$/.test(text) ? Number(text) : NaN;
  if (!(count >= least && count <= most)) throw new UsageError(`${option} ${text} is not a whole number from ${least} to ${most}`);
  return count;
}

/** Most that a memory is divided by. */
const FACTOR_MAX = 1024;

/** A factor, `2x`, or a range of them, `1..16x`: the first one and its doubles, and the last one. */
export function parseFactors(option: string, text: string): readonly number[] {
  const [, first, last] = /^([0-9]+(?:\.[0-9]+)?)x?(?:\.\.([0-9]+(?:\.[0-9]+)?)x)?$/.exec(text.endsWith('x') ? text : '') ?? [];
  if (first === undefined) throw new UsageError(`${option} ${text} is not a factor, such as 2x, or a range of them, such as 1..16x`);
  const from = Number(first);
  const to = last === undefined ? from : Number(last);
  if (from < 1 || to > FACTOR_MAX) throw new UsageError(`${option} ${text} is not between 1x and ${FACTOR_MAX}x`);
  if (last !== undefined && to <= from) throw new UsageError(`${option} ${text} does not go up`);
  const factors: number[] = [];
  for (let factor = from; factor < to; factor *= 2) factors.push(factor);
  return [...factors, to];
}

/** Bytes in the largest unit that leaves a whole number. */
export function printBytes(bytes: number): string {
  for (const [name, scale] of [
    ['TiB', 2 ** 40],
    ['GiB', 2 ** 30],
    ['MiB', 2 ** 20],
    ['KiB', 2 ** 10],
  ] as const) {
    if (bytes >= scale && bytes % scale === 0) return `${bytes / scale} ${name}`;
  }
  return `${bytes} bytes`;
}

/** A value of a driver's option: a number, a size such as 16MiB in bytes, `true`, `false`; everything else is text. */
export function parseValue(text: string): number | boolean | string {
  if (text === 'true' || text === 'false') return text === 'true';
  if (/^-?[0-9]+(?:\.[0-9]+)?$/.test(text)) return Number(text);
  const [, digits, unit = ''] = /^([0-9]+(?:\.[0-9]+)?)([a-zA-Z]+)$/.exec(text) ?? [];
  const scale = UNITS[unit.toLowerCase()];
  return digits === undefined || scale === undefined ? text : Number(digits) * scale;
}

/**
 * Which part of a recorded program is the device's: ranges of instruction addresses, given by hand or by the sidecar of a trace.
 *
 * ```
 * stencil.trace.gz.json      { "schema": 1,
 *                              "program": "stencil",
 *                              "about":   "one sentence: what the program does and what is offloaded",
 *                              "command": "valgrind --tool=lackey --trace-mem=yes ./stencil",
 *                              "offload": [ { "symbol": "sweep", "range": "0x401200-0x401300" } ] }
 * ```
 *
 * `schema` and `offload` are required; without a range, every access is the device's.
 */
import { ADDRESS_BITS, LIST_MAX } from '../../assembly/layout.ts';
import { fail, FarfaultError } from '../errors.ts';
import { requireArray, requireCount, requireObject } from '../mm/arguments.ts';

/** Instructions at `[start, end)`, byte addresses below 2^48, and the name of the function that is there, if it is known. */
export interface OffloadRange {
  readonly start: number;
  readonly end: number;
  readonly symbol?: string;
}

/** What stands beside a trace. */
export interface Sidecar {
  readonly program?: string;
  readonly about?: string;
  readonly command?: string;
  readonly offload: readonly OffloadRange[];
}

/** A replay takes as many ranges, after merging. */
export const OFFLOAD_RANGES_MAX: number = LIST_MAX / 4;

const ADDRESS_END = 2 ** ADDRESS_BITS;
const RANGE = /^(?:0x)?([0-9a-f]+)-(?:0x)?([0-9a-f]+)$/i;

/**
 * The range that a text like `0x401200-0x401300` names: hexadecimal with or without 0x, the end not included. Throws EINVAL when it is
 * not of that form, empty, inverted, or not below 2^48.
 */
export function parseRange(text: string): OffloadRange {
  if (typeof text !== 'string') throw fail('EINVAL', 'offload range', text, 'is not text');
  const [, first, second] = RANGE.exec(text) ?? [];
  if (first === undefined || second === undefined) {
    throw fail('EINVAL', 'offload range', text, 'is not of the form 0x401200-0x401300 (hexadecimal, the end not included)');
  }
  const start = parseInt(first, 16);
  const end = parseInt(second, 16);
  if (end > ADDRESS_END) throw fail('EINVAL', 'offload range', text, 'reaches above the addresses of 48 bits');
  if (start === end) throw fail('EINVAL', 'offload range', text, 'is empty: its end is not included');
  if (start > end) throw fail('EINVAL', 'offload range', text, 'is inverted: it ends before it starts');
  return { start, end };
}

/** A range as `parseRange` reads it. */
export function printRange(range: OffloadRange): string {
  requireInstructions('printRange.range', range);
  const { start, end } = range;
  return `0x${start.toString(16)}-0x${end.toString(16)}`;
}

/** Instructions of one of several devices. */
export interface DeviceRange extends OffloadRange {
  /** Number of the device, from 0. */
  readonly device: number;
}

/** Ranges of several devices, those of each merged, in ascending order. Throws EINVAL where two devices have the same instruction, and for too many. */
export function dealRanges(ranges: readonly (readonly OffloadRange[])[]): DeviceRange[] {
  const all = ranges.flatMap((own, device) => mergeRanges(own).map((range) => ({ ...range, device })));
  all.sort((a, b) => a.start - b.start);
  all.forEach((range, i) => {
    const next = all[i + 1];
    if (next && next.start < range.end)
      throw fail(
        'EINVAL',
        'offload range',
        printRange(next),
        `of device ${next.device} overlaps ${printRange(range)} of device ${range.device}`,
      );
  });
  if (all.length > OFFLOAD_RANGES_MAX) throw fail('EINVAL', 'offload ranges', all.length, `are more than ${OFFLOAD_RANGES_MAX}`);
  return all;
}

/**
 * The same addresses in ascending order, without overlaps; neighbours become one. Symbols are dropped. Throws EINVAL when more than OFFLOAD_RANGES_MAX are left.
 *
 * ```
 *   given    |---- a ----|     |-- c --|
 *                 |---- b ----|               |-- d --|
 *   merged   |----------------||-------|      |-------|     b touches c: one range
 * ```
 */
export function mergeRanges(ranges: readonly OffloadRange[]): OffloadRange[] {
  requireArray('mergeRanges.ranges', ranges);
  for (const range of ranges) requireInstructions('mergeRanges.range', range);
  const merged: { start: number; end: number }[] = [];
  for (const { start, end } of [...ranges].sort((a, b) => a.start - b.start)) {
    const last = merged[merged.length - 1];
    if (last && start <= last.end) last.end = Math.max(last.end, end);
    else merged.push({ start, end });
  }
  if (merged.length > OFFLOAD_RANGES_MAX) throw fail('EINVAL', 'offload ranges', merged.length, `are more than ${OFFLOAD_RANGES_MAX}`);
  return merged;
}

/** Reads the text of a sidecar; `name` is what errors call it. Throws EILSEQ when it is not a sidecar. */
export function parseSidecar(text: string, name: string): Sidecar {
  if (typeof name !== 'string') throw fail('EINVAL', 'parseSidecar.name', name, 'is not text');
  if (typeof text !== 'string') throw fail('EINVAL', 'parseSidecar.text', text, 'is not text');
  let json: unknown;
  try {
    json = JSON.parse(text.replace(/^\ufeff/, ''));
  } catch (error) {
    throw broken(name, text, `is not JSON: ${(error as Error).message.split('\n')[0]}`);
  }
  if (!isObject(json)) throw broken(name, json, 'is not a JSON object');
  if (json['schema'] === undefined) throw broken(name, json, 'has no "schema": 1 is expected');
  if (json['schema'] !== 1) throw broken(name, json['schema'], `has schema ${JSON.stringify(json['schema'])}: 1 is expected`);
  const offload = json['offload'];
  if (!Array.isArray(offload))
    throw broken(name, offload, offload === undefined ? 'has no "offload"' : 'has an "offload" that is not an array');
  return {
    ...textOf(name, json, 'program'),
    ...textOf(name, json, 'about'),
    ...textOf(name, json, 'command'),
    offload: offload.map((entry: unknown, i) => {
      const which = `offload[${i}]`;
      if (!isObject(entry)) throw broken(name, entry, `has an ${which} that is not an object with "symbol" and "range"`);
      const range = entry['range'];
      if (typeof range !== 'string') throw broken(name, range, `has no text "range" in ${which}`);
      return { ...rangeOf(name, which, range), ...textOf(name, entry, 'symbol') };
    }),
  };
}

/** Throws unless it is a range of instructions: whole bytes, below 2^48, the end above the start. */
export function requireInstructions(argument: string, range: OffloadRange): void {
  requireObject(argument, range, 'a range { start, end }');
  requireCount(`${argument}.start`, range.start, 0, ADDRESS_END - 1);
  requireCount(`${argument}.end`, range.end, range.start + 1, ADDRESS_END);
}

function rangeOf(name: string, which: string, range: string): OffloadRange {
  try {
    return parseRange(range);
  } catch (error) {
    throw broken(name, range, `has a bad ${which}: ${(error as Error).message}`);
  }
}

/** `{ [key]: text }`, or nothing when the key is absent. */
function textOf<K extends string>(name: string, json: Record<string, unknown>, key: K): { [P in K]?: string } {
  const value = json[key];
  if (value === undefined) return {};
  if (typeof value !== 'string') throw broken(name, value, `has a ${JSON.stringify(key)} that is not text`);
  return { [key]: value } as { [P in K]?: string };
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function broken(name: string, value: unknown, rule: string): FarfaultError {
  return new FarfaultError('EILSEQ', name, value, rule, `${name} ${rule}`);
}

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import * as L from '../../assembly/layout.ts';
import { bareCore, type Flavour, flavours } from './harness.ts';

type Range = readonly [start: number, end: number];

/** What a trace holds: accesses as `device? kind address bytes`, counts, and the line that was refused. */
interface Parsed {
  accesses: string[];
  counts: { lines: number; instructions: number; loads: number; stores: number; modifies: number };
  refused: { line: number; reason: number } | undefined;
  /** Of each range: whether an instruction was in it. */
  met: boolean[];
}

/** The same by regular expressions, all of the text at once. */
function expected(text: string, ranges: readonly Range[]): Parsed {
  const counted = { lines: 0, instructions: 0, loads: 0, stores: 0, modifies: 0 };
  const parsed: Parsed = { accesses: [], counts: counted, refused: undefined, met: ranges.map(() => false) };
  const { accesses, counts } = parsed;
  const raw = text.split('\n');
  const unfinished = raw.pop()!;
  if (unfinished !== '') raw.push(unfinished);
  let side = ranges.length === 0 ? 'device' : 'cpu';
  for (const [index, one] of raw.entries()) {
    const reason = wrong(one, index === raw.length - 1 && unfinished !== '');
    if (reason !== 0) return { ...parsed, refused: { line: index + 1, reason } };
    counts.lines++;
    const [, kind, digits, decimals] = LINE.exec(one) ?? [];
    if (kind === undefined) continue;
    const address = parseInt(digits!, 16);
    if (kind[0] === 'I') {
      counts.instructions++;
      const isIn = ranges.map(([start, end]) => address >= start && address < end);
      isIn.forEach((each, i) => (parsed.met[i] ||= each));
      if (ranges.length > 0) side = isIn.includes(true) ? 'device' : 'cpu';
      continue;
    }
    if (kind[1] !== 'S') accesses.push(`${side} read ${address.toString(16)} ${Number(decimals)}`);
    if (kind[1] !== 'L') accesses.push(`${side} write ${address.toString(16)} ${Number(decimals)}`);
    counts[({ L: 'loads', S: 'stores', M: 'modifies' } as const)[kind[1] as 'L' | 'S' | 'M']]++;
  }
  return parsed;
}

const LINE = /^(I | [LSM]) ([0-9a-fA-F]+),([0-9]+)\r?$/;
const CUT = /^(?:I ?| [LSM]?|(?:I | [LSM]) (?:[0-9a-fA-F]+(?:,(?:[0-9]+\r?)?)?)?)$/;

function wrong(line: string, unfinished: boolean): number {
  const binary = /[^\t\r\x20-\x7e]/.test(line.slice(0, L.LINE_BYTES_MAX)) ? L.LINE_BINARY : 0;
  if (line.length > L.LINE_BYTES_MAX) return binary || L.LINE_LONG;
  if (/^(?:\r?$|==|--|\*\*)/.test(line)) return 0;
  const digits = /^(?:I | [LSM]) 0*([0-9a-fA-F]+)/.exec(line)?.[1] ?? '';
  if (digits.length > 12) return binary || L.LINE_ADDRESS;
  const match = LINE.exec(line);
  if (!match) return binary || (unfinished && CUT.test(line) ? L.LINE_CUT : L.LINE_SYNTAX);
  const bytes = Number(match[3]);
  if (bytes === 0 || bytes > L.ACCESS_LENGTH_MAX) return L.LINE_LENGTH;
  return parseInt(digits, 16) + bytes > 2 ** 48 ? L.LINE_ADDRESS : 0;
}

/** Feeds the text in chunks that end at `cuts`, with room for `max` accesses a call. */
function parse(
  flavour: Flavour,
  text: string,
  { ranges = [], cuts = [], max = 1000 }: { ranges?: readonly Range[]; cuts?: readonly number[]; max?: number },
): Parsed {
  const { core, u32, areas, scratch, header } = bareCore(flavour, { scratchBytes: text.length + 65536 });
  const u8 = new Uint8Array(u32.buffer);
  const counter = (field: number): number => header(field + 4) * 2 ** 32 + header(field);
  ranges.flat().forEach((address, i) => {
    u32[((areas + L.AREA_LIST) >>> 2) + 2 * i] = address >>> 0;
    u32[((areas + L.AREA_LIST) >>> 2) + 2 * i + 1] = address / 2 ** 32;
  });
  u32[L.LACKEY_RANGES >>> 2] = ranges.length;

  const bytes = Buffer.from(text, 'latin1');
  const counts = { lines: 0, instructions: 0, loads: 0, stores: 0, modifies: 0 };
  const parsed: Parsed = { accesses: [], counts, refused: undefined, met: [] };
  let from = 0;
  for (const end of [...cuts.filter((cut) => cut < bytes.length).sort((a, b) => a - b), bytes.length]) {
    do {
      u8.fill(0xa5, scratch, scratch + end - from + 100);
      u8.set(bytes.subarray(from, end), scratch);
      const count = core.lackeyParse(scratch, end - from, areas + L.AREA_ACCESSES, max, end === bytes.length ? 1 : 0);
      expect(count).toBeLessThanOrEqual(max);
      for (let i = 0; i < count; i++) {
        const at = ((areas + L.AREA_ACCESSES) >>> 2) + 2 * i;
        const high = u32[at + 1]!;
        const address = (high & L.ACCESS_ADDRESS_HIGH) * 2 ** 32 + u32[at]!;
        const length = ((high >>> L.ACCESS_LENGTH_SHIFT) & L.ACCESS_LENGTH) + 1;
        parsed.accesses.push(
          `${high & L.ACCESS_DEVICE ? 'device' : 'cpu'} ${high & L.ACCESS_WRITE ? 'write' : 'read'} ${address.toString(16)} ${length}`,
        );
        expect(high & ~(L.ACCESS_ADDRESS_HIGH | (L.ACCESS_LENGTH << L.ACCESS_LENGTH_SHIFT) | L.ACCESS_WRITE | L.ACCESS_DEVICE)).toBe(0);
      }
      from += header(L.LACKEY_CONSUMED);
      if (header(L.H_STOP_REASON) === L.STOP_LINE) {
        parsed.refused = { line: counter(L.LACKEY_LINES) + 1, reason: header(L.LACKEY_REASON) };
      }
    } while (header(L.H_STOP_REASON) === L.STOP_FULL);
    if (parsed.refused) break;
  }
  if (!parsed.refused) expect(from).toBe(bytes.length);
  parsed.counts.lines = counter(L.LACKEY_LINES);
  parsed.counts.instructions = counter(L.LACKEY_INSTRUCTIONS);
  parsed.counts.loads = counter(L.LACKEY_LOADS);
  parsed.counts.stores = counter(L.LACKEY_STORES);
  parsed.counts.modifies = counter(L.LACKEY_MODIFIES);
  parsed.met = ranges.map((_, i) => (u32[((areas + L.AREA_LIST) >>> 2) + 4 * i + 1]! & L.RANGE_MET) !== 0);
  return parsed;
}

// ------------------------------------------------------------------------------------------------------------------- random text

const hex = fc.oneof(
  { weight: 8, arbitrary: fc.integer({ min: 0, max: 0x7fffffff }).map((n) => n.toString(16).padStart(8, '0')) },
  { weight: 4, arbitrary: fc.integer({ min: 0, max: 2 ** 48 - 4096 }).map((n) => n.toString(16)) },
  { weight: 4, arbitrary: fc.integer({ min: 0x0ff0, max: 0x1110 }).map((n) => n.toString(16)) },
  { weight: 1, arbitrary: fc.integer({ min: 2 ** 48 - 10, max: 2 ** 48 + 10 }).map((n) => n.toString(16).toUpperCase()) },
  { weight: 1, arbitrary: fc.constantFrom('0', '000000000000000000001000', 'ffffffffffff', 'ffffffffff600000', '10000000000000000', '') },
);
const decimal = fc.oneof(
  { weight: 12, arbitrary: fc.constantFrom('1', '2', '4', '8', '16', '32') },
  { weight: 1, arbitrary: fc.constantFrom('0', '00', '4096', '4097', '0004096', '99999999999999999999', '42949672960', '4294967297', '') },
);
const good = fc
  .tuple(fc.constantFrom('I  ', ' L ', ' S ', ' M '), hex, decimal)
  .map(([kind, address, bytes]) => `${kind}${address},${bytes}`);
const odd = fc.oneof(
  fc.constantFrom(
    '',
    '\r',
    '==12== text \xe9\0',
    '--12-- debug',
    '**12** printed',
    '=',
    '-',
    '==',
    'I',
    ' L',
    ' X 1000,4',
    ' L 1000',
    ' L1000,4',
    'I 1000,4',
    ' L  1000,4',
  ),
  fc.constantFrom(
    ' L 1000,4 ',
    ' L 1000,4\r\r',
    '\tL 1000,4',
    ' L 0x1000,4',
    'hello',
    ' S 1000,-4',
    '\x7fELF\x02\x01',
    ' L 1000,4\0',
    ' L 1000;4',
  ),
  fc.string({ maxLength: 6, unit: fc.constantFrom(...'IL S0,\r\0g\xff') }),
);
const line = fc.oneof({ weight: 30, arbitrary: good }, { weight: 1, arbitrary: odd });
const text = fc
  .tuple(fc.array(fc.tuple(line, fc.constantFrom('\n', '\n', '\n', '\r\n')), { maxLength: 40 }), fc.oneof(fc.constant(''), line))
  .map(([lines, last]) => lines.flat().join('') + last);
const rangeLists = fc.oneof(
  fc.constant([]),
  fc
    .uniqueArray(fc.oneof(fc.integer({ min: 0x0ff0, max: 0x1110 }), fc.integer({ min: 0, max: 2 ** 48 })), { minLength: 2, maxLength: 12 })
    .map((edges) => {
      edges.sort((a, b) => a - b);
      return Array.from({ length: edges.length >> 1 }, (_, i): Range => [edges[2 * i]!, edges[2 * i + 1]!]);
    }),
);

describe.each(flavours)('lackeyParse of %s', (flavour) => {
  test('reads what regular expressions read, however the text is cut', () => {
    fc.assert(
      fc.property(
        text,
        rangeLists,
        fc.array(fc.nat(600), { maxLength: 12 }),
        fc.constantFrom(1, 2, 3, 7, 1000),
        (lines, ranges, cuts, max) => {
          expect(parse(flavour, lines, { ranges, cuts, max })).toEqual(expected(lines, ranges));
        },
      ),
      { numRuns: 400 },
    );
  });

  test('reads what regular expressions read, byte by byte', () => {
    const sample =
      '==1== x\n\nI  00401000,3\n L 1fff000d70,8\r\n--1--\nI  00402000,3\n M 00000010,4\n S ffffffffffff,1\nI  00401001,3\n M 0a,16';
    const ranges: Range[] = [[0x401000, 0x401002]];
    const cuts = Array.from(sample, (_, i) => i);
    expect(parse(flavour, sample, { ranges, cuts, max: 1 })).toEqual(expected(sample, ranges));
    expect(parse(flavour, sample, { ranges, cuts }).accesses).toEqual([
      'device read 1fff000d70 8',
      'cpu read 10 4',
      'cpu write 10 4',
      'cpu write ffffffffffff 1',
      'device read a 16',
      'device write a 16',
    ]);
  });

  test('an access before any instruction is the CPU, unless nothing is offloaded by range', () => {
    expect(parse(flavour, ' L 10,4\n', { ranges: [[0, 0x1000]] }).accesses).toEqual(['cpu read 10 4']);
    expect(parse(flavour, ' L 10,4\n', {}).accesses).toEqual(['device read 10 4']);
  });

  test.each([
    ['a word', 'hello', L.LINE_SYNTAX],
    ['another letter', ' X 1000,4', L.LINE_SYNTAX],
    ['no length', ' L 1000', L.LINE_SYNTAX],
    ['a negative length', ' L 1000,-4', L.LINE_SYNTAX],
    ['something behind the length', ' L 1000,4 x', L.LINE_SYNTAX],
    ['an address of 2^48', ' L 1000000000000,4', L.LINE_ADDRESS],
    ['an address of 20 digits', ' S ffffffffffffffff1000,4', L.LINE_ADDRESS],
    ['an access that ends above 2^48', ' S ffffffffffff,2', L.LINE_ADDRESS],
    ['an instruction above 2^48', 'I  ffffffffff600000,9', L.LINE_ADDRESS],
    ['no bytes', ' L 1000,0', L.LINE_LENGTH],
    ['4097 bytes', ' M 1000,4097', L.LINE_LENGTH],
    ['a length that overflows', ' M 1000,4294967300', L.LINE_LENGTH],
    ['zeros', '\0\0\0\0', L.LINE_BINARY],
    ['a program file', '\x7fELF\x02\x01\x01', L.LINE_BINARY],
    ['an archive', 'PK\x03\x04', L.LINE_BINARY],
    ['text in UTF-16', '\xff\xfeI\0 \0 \0', L.LINE_BINARY],
    ['an endless line', 'x'.repeat(L.LINE_BYTES_MAX + 1), L.LINE_LONG],
    ['an endless address', ` L ${'0'.repeat(L.LINE_BYTES_MAX)}10,4`, L.LINE_LONG],
    ['an endless comment', `==1== ${'x'.repeat(L.LINE_BYTES_MAX)}`, L.LINE_LONG],
    ['a kind and nothing else', 'I', L.LINE_SYNTAX],
    ['a kind that is none', 'Ix', L.LINE_SYNTAX],
  ])('refuses %s, and names its line', (_, bad, reason) => {
    const before = 'I  1000,4\n==1==\n\n L 2000,8\n';
    for (const cuts of [[], [30], [30, 33], [31, 40, 40000]]) {
      const parsed = parse(flavour, `${before}${bad}\n S 3000,8\n`, { cuts });
      expect(parsed.refused).toEqual({ line: 5, reason });
      expect(parsed.accesses).toEqual(['device read 2000 8']);
      expect(parsed.counts).toEqual({ lines: 4, instructions: 1, loads: 1, stores: 0, modifies: 0 });
    }
  });

  test.each(['I', 'I  ', ' ', ' L', ' L 10', ' L 10,'])('a text that ends in %j was cut off', (end) => {
    expect(parse(flavour, ` L 2000,8\n${end}`, {}).refused).toEqual({ line: 2, reason: L.LINE_CUT });
  });

  test('a line of the greatest length passes', () => {
    const comment = `==1== ${'x'.repeat(L.LINE_BYTES_MAX - 6)}`;
    for (const cuts of [[], [5], [65000], [65535], [65536], [65537]])
      expect(parse(flavour, `${comment}\n L 10,4\n`, { cuts }).counts.lines).toBe(2);
  });
});

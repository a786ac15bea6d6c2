import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { isFarfaultError } from '../../sdk/errors.ts';
import { mergeRanges, OFFLOAD_RANGES_MAX, parseRange, parseSidecar, printRange } from '../../sdk/replay/offload.ts';

function refusal(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    if (isFarfaultError(error)) return `${error.code}: ${error.message}`;
    throw error;
  }
  return 'no error';
}

describe('an offload range', () => {
  test.each(['0x401200-0x401300', '401200-401300', '0X401200-401300', '0x00401200-0x0000000000401300'])('is read from %s', (text) => {
    expect(parseRange(text)).toEqual({ start: 0x401200, end: 0x401300 });
  });

  test('may reach up to 2^48', () => {
    expect(parseRange('0-1000000000000')).toEqual({ start: 0, end: 2 ** 48 });
    expect(printRange({ start: 0xabc, end: 2 ** 48 })).toBe('0xabc-0x1000000000000');
  });

  test.each([
    ['0x401300-0x401200', 'is inverted: it ends before it starts'],
    ['0x401200-0x401200', 'is empty: its end is not included'],
    ['0x1000-0x1000000000001', 'reaches above the addresses of 48 bits'],
    ['0x401200', 'is not of the form 0x401200-0x401300 (hexadecimal, the end not included)'],
    ['sweep', 'is not of the form 0x401200-0x401300 (hexadecimal, the end not included)'],
    ['0x401200-', 'is not of the form 0x401200-0x401300 (hexadecimal, the end not included)'],
    ['0x401200-0x401300,0x10-0x20', 'is not of the form 0x401200-0x401300 (hexadecimal, the end not included)'],
    [' 1-2', 'is not of the form 0x401200-0x401300 (hexadecimal, the end not included)'],
  ])('%j is refused', (text, rule) => {
    expect(refusal(() => parseRange(text))).toBe(`EINVAL: offload range "${text}" ${rule}`);
  });
});

describe('merging', () => {
  const range = fc
    .tuple(fc.nat(60), fc.integer({ min: 1, max: 12 }))
    .map(([start, length]) => ({ start, end: start + length, symbol: 'f' }));

  test('keeps every address, in ascending ranges that do not touch', () => {
    fc.assert(
      fc.property(fc.array(range), (ranges) => {
        const merged = mergeRanges(ranges);
        const covers = (list: readonly { start: number; end: number }[], address: number): boolean =>
          list.some(({ start, end }) => start <= address && address < end);
        for (let address = 0; address < 80; address++) expect(covers(merged, address)).toBe(covers(ranges, address));
        merged.forEach(({ start, end }, i) => {
          expect(start).toBeLessThan(end);
          if (i > 0) expect(start).toBeGreaterThan(merged[i - 1]!.end);
        });
      }),
    );
  });

  test('refuses more ranges than a replay takes', () => {
    const ranges = Array.from({ length: OFFLOAD_RANGES_MAX + 1 }, (_, i) => ({ start: 2 * i, end: 2 * i + 1 }));
    expect(mergeRanges(ranges.slice(1))).toHaveLength(OFFLOAD_RANGES_MAX);
    expect(refusal(() => mergeRanges(ranges))).toBe('EINVAL: offload ranges 4097 are more than 4096');
  });
});

describe('a sidecar', () => {
  test('names the program and its ranges', () => {
    const text = `\ufeff${JSON.stringify({ schema: 1, program: 'p', about: 'a', command: 'c', offload: [{ symbol: 'sweep', range: '0x10-0x20' }, { range: '30-31' }], more: 1 })}`;
    expect(parseSidecar(text, 'x.json')).toEqual({
      program: 'p',
      about: 'a',
      command: 'c',
      offload: [
        { symbol: 'sweep', start: 0x10, end: 0x20 },
        { start: 0x30, end: 0x31 },
      ],
    });
    expect(parseSidecar('{"schema":1,"offload":[]}', 'x.json')).toEqual({ offload: [] });
  });

  test.each([
    ['[1]', 'is not a JSON object'],
    ['null', 'is not a JSON object'],
    ['{}', 'has no "schema": 1 is expected'],
    ['{"schema":2,"offload":[]}', 'has schema 2: 1 is expected'],
    ['{"schema":1}', 'has no "offload"'],
    ['{"schema":1,"offload":{}}', 'has an "offload" that is not an array'],
    ['{"schema":1,"offload":["0x10-0x20"]}', 'has an offload[0] that is not an object with "symbol" and "range"'],
    ['{"schema":1,"offload":[{"range":"1-2"},{"symbol":"f"}]}', 'has no text "range" in offload[1]'],
    [
      '{"schema":1,"offload":[{"range":"0x20-0x10"}]}',
      'has a bad offload[0]: offload range "0x20-0x10" is inverted: it ends before it starts',
    ],
    ['{"schema":1,"offload":[{"range":"1-2","symbol":7}]}', 'has a "symbol" that is not text'],
    ['{"schema":1,"program":7,"offload":[]}', 'has a "program" that is not text'],
  ])('%s is refused', (text, rule) => {
    expect(refusal(() => parseSidecar(text, 'x.json'))).toBe(`EILSEQ: x.json ${rule}`);
  });

  test('that is not JSON is refused in one line', () => {
    expect(refusal(() => parseSidecar('{ "schema": 1,\n\n oops', 'x.json'))).toMatch(/^EILSEQ: x\.json is not JSON: [^\n]+$/);
  });
});

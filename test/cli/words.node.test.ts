import { describe, expect, test } from 'vitest';
import { type OptionDescription, parseArguments } from '../../cli/arguments.ts';
import { UsageError } from '../../cli/fail.ts';
import { parseBytes, parseCount, parseGranule, printBytes } from '../../cli/quantity.ts';

describe('a size', () => {
  test.each([
    ['64MiB', 64 * 2 ** 20],
    ['64M', 64 * 2 ** 20],
    ['64 mib', 64 * 2 ** 20],
    ['1GiB', 2 ** 30],
    ['1.5g', 1.5 * 2 ** 30],
    ['512KiB', 512 * 1024],
    ['4K', 4096],
    ['0.5MiB', 2 ** 19],
    ['8192', 8192],
    ['8192B', 8192],
  ])('%s', (text, bytes) => expect(parseBytes('--vram', text)).toBe(bytes));

  test.each(['', '64MB', '64 kB', '1TiB', '-4K', '4K4K', '0x1000', '1e6', 'K', '4,096', '1.K', '4097', '0', '1.0001MiB', '99999999GiB'])(
    '%j is none',
    (text) => {
      expect(() => parseBytes('--vram', text)).toThrow(UsageError);
    },
  );

  test('is printed in the largest unit that leaves a whole number', () => {
    expect([4096, 2 ** 20, 1.5 * 2 ** 30, 2 ** 30, 100].map(printBytes)).toEqual(['4 KiB', '1 MiB', '1536 MiB', '1 GiB', '100 bytes']);
  });
});

test('a granule is a power of two from 4K to 2M, however it is written', () => {
  const granule = (text: string): number => parseGranule('--granule', text);
  expect(['4K', '4KiB', '4096', '8K', '64K', '1M', '2M', '2048KiB'].map(granule)).toEqual([
    4096,
    4096,
    4096,
    8192,
    65536,
    2 ** 20,
    2 ** 21,
    2 ** 21,
  ]);
  for (const text of ['12K', '4M', '1.5M', '2K', '1GiB', 'page']) expect(() => parseGranule('--granule', text)).toThrow(UsageError);
});

test('a count is digits within bounds', () => {
  const lanes = (text: string): number => parseCount('--lanes', text, { least: 1, most: 4096 });
  expect(['1', '007', '4096'].map(lanes)).toEqual([1, 7, 4096]);
  for (const text of ['0', '4097', '1.5', '-1', '1e2', '', ' 1', '99999999999999999999']) expect(() => lanes(text)).toThrow(UsageError);
});

describe('a command line', () => {
  const known: OptionDescription[] = [
    { name: 'size', takes: 'one', value: '1', help: [] },
    { name: 'range', takes: 'many', value: 'a-b', help: [], further: /^\d-\d$/ },
    { name: 'json', takes: 'optional', value: '[file]', help: [] },
    { name: 'fast', takes: 'none', help: [] },
  ];
  const take = (line: string): unknown => {
    const { positionals, options } = parseArguments(line.split(' ').filter(Boolean), known, 'x');
    return { positionals, ...Object.fromEntries(options) };
  };

  test.each([
    ['', { positionals: [] }],
    ['trace --size 007 --fast', { positionals: ['trace'], size: ['007'], fast: [] }],
    ['--size=1=2 trace', { positionals: ['trace'], size: ['1=2'] }],
    ['- --size -', { positionals: ['-'], size: ['-'] }],
    ['--size -1 --range -2K trace --fast', { positionals: ['trace'], size: ['-1'], range: ['-2K'], fast: [] }],
    ['--size -12', { positionals: [], size: ['-12'] }],
    ['--range 1-2 3-4 trace --range=5-6 7-8', { positionals: ['trace'], range: ['1-2', '3-4', '5-6', '7-8'] }],
    ['--range x trace', { positionals: ['trace'], range: ['x'] }],
    ['trace --json', { positionals: ['trace'], json: [] }],
    ['trace --json out', { positionals: ['trace'], json: ['out'] }],
    ['--json out trace', { positionals: ['trace'], json: ['out'] }],
    ['--json trace', { positionals: ['trace'], json: [] }],
    ['--json --fast trace', { positionals: ['trace'], json: [], fast: [] }],
    ['--json -', { positionals: ['-'], json: [] }],
    ['--json=out', { positionals: [], json: ['out'] }],
    ['--fast -- --size', { positionals: ['--size'], fast: [] }],
  ])('%s', (line, parts) => expect(take(line)).toEqual(parts));

  test.each([
    ['--sise 1', 'unknown option --sise: did you mean --size?'],
    ['--nothing-like-it', 'unknown option --nothing-like-it: x --help lists what there is'],
    ['--size', '--size needs a value: --size 1'],
    ['--size --fast', '--size needs a value: --size 1'],
    ['--size -1 -x', 'unknown option -x: x --help lists what there is'],
    ['-1', 'unknown option -1: x --help lists what there is'],
    ['--json -1', 'unknown option -1: x --help lists what there is'],
    ['--size=', '--size needs a value: --size 1'],
    ['--range', '--range needs a value: --range a-b'],
    ['--fast=yes', '--fast takes no value'],
    ['--fast --fast', '--fast is given twice'],
  ])('%s is refused', (line, sentence) => expect(() => take(line)).toThrow(sentence));
});

import { readFileSync } from 'node:fs';
import { afterAll, describe, expect, test } from 'vitest';
import { fuzz, message } from './oracle-main.ts';
import { parseOps, printOps, shrinkOps } from './oracle-program.ts';
import { closeMachines, missingCells } from './oracle-run.ts';

interface Committed {
  readonly seed: number;
  readonly operations: number;
  /** Of every result, entry and word compared, in hexadecimal. */
  readonly hash: string;
}

const committed = JSON.parse(readFileSync(new URL('./oracle.json', import.meta.url), 'utf8')) as Committed;

afterAll(closeMachines);

describe('the machine and the oracle', () => {
  test('agree about every entry after every operation; all verbs meet all kinds of entries', { timeout: 120_000 }, () => {
    const { seed, operations, hash } = committed;
    const report = fuzz(seed, operations);
    expect(missingCells(report.coverage)).toEqual([]);
    expect(report.hash.toString(16).padStart(8, '0')).toBe(hash);
  });

  test('say the same twice', () => {
    expect(fuzz(5, 2000).hash).toBe(fuzz(5, 2000).hash);
  });
});

describe('a program', () => {
  test('is what its text says', () => {
    const text = 'map 0 16 20 2 0 0 0 1; write 0 17 0 5; remap 0 16 18 2 1 -1 0';
    expect(printOps(parseOps(text))).toBe(text);
  });

  test('is shrunk to what fails', () => {
    const ops = parseOps('map 0 16 20 2 0 0 0 1; read 0 17 0; write 0 17 0 5; read 0 18 0; unpin 0');
    const small = shrinkOps(ops, (rest) => rest.some(({ verb }) => verb === 'map') && rest.some(({ verb }) => verb === 'write'));
    expect(printOps(small)).toBe('map 0 16 20 2 0 0 0 1; write 0 17 0 5');
  });

  test.each([
    ['a page inserted where there is no right at all', 'map 0 29 40 0 5 0 3 1; insert-page 0 30 522; read 0 30 0'],
    [
      'a mapping moved onto a part of a huge page that is never split',
      'map 1 8 16 2 0 0 0 1; map 1 8 16 2 4 0 0 0; write 1 0 0 7; remap 1 8 16 511 1 0 0',
    ],
    [
      'a device that leaves, and an exclusive page behind another on its coherent memory',
      'attach 0 1; attach 1 1; attach 1 2; map 1 0 32 2 0 0 0 1; store 1 1 24 2 14; load 1 1 19 1; atomic 1 2 24 2 6; detach 1 1',
    ],
  ])('%s: no divergence', (_, text) => {
    expect(message(parseOps(text))).toBe(undefined);
  });
});

import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { format, resolveConfig } from 'prettier';
import { describe, expect, test } from 'vitest';
import { documentOf } from './rows/document.ts';
import { areas, rows } from './rows/index.ts';
import { isBrokenOnce, titlesOf } from './rows/sources.ts';

// prettier-ignore
const IDS = [
  'A1', 'A2', 'A3', 'A4', 'A5', 'A6', 'A7', 'A8',
  'B1', 'B2', 'B3', 'B4', 'B5', 'B6', 'B7', 'B8', 'B9', 'B10',
  'C1', 'C2', 'C3', 'C4', 'C5', 'C6', 'C7', 'C8', 'C9',
  'D1', 'D2', 'D3', 'D4', 'D5', 'D6', 'D7', 'D8', 'D9',
  'O1', 'O2', 'O3', 'O4', 'O5', 'O6', 'O7', 'O8', 'O9', 'O10', 'O11',
  'F1', 'F2', 'F3', 'F4', 'F5', 'F6', 'F7', 'F8', 'F9', 'F10',
  'G1', 'G2', 'G3', 'G4', 'G5', 'G6', 'G7', 'G8', 'G9',
  'H1', 'H2', 'H3', 'H4', 'H5', 'H6', 'H7', 'H8', 'H9', 'H10', 'H11', 'H12', 'H13',
  'I1', 'I2', 'I3', 'I4', 'I5',
  'J1', 'J2', 'J3', 'J4', 'J5',
  'K1', 'K2', 'K3', 'K4', 'K5', 'K6', 'K7',
];

const root = new URL('../../', import.meta.url);
const DOCUMENT = new URL('docs/gmem.md', root);

describe('the rows of GMEM', () => {
  test('there are 96 of them, and no row is there twice', () => {
    expect(new Set(IDS).size).toBe(96);
    expect(rows.filter((row) => !IDS.includes(row.id)).map((row) => row.id)).toEqual([]);
    const seen = new Map<string, string>();
    for (const [area, of] of Object.entries(areas))
      for (const row of of) {
        expect(seen.get(row.id), `${row.id} is in ${seen.get(row.id)} and in ${area}`).toBeUndefined();
        seen.set(row.id, area);
      }
  });

  test('docs/gmem.md is what the rows say, and names the rows that are not there yet', async () => {
    const options = await resolveConfig(DOCUMENT);
    const text = await format(documentOf(IDS, rows), { ...options, parser: 'markdown' });
    if (process.env['FARFAULT_WRITE_TABLE']) writeFileSync(DOCUMENT, text);
    expect(existsSync(DOCUMENT) && readFileSync(DOCUMENT, 'utf8') === text, 'docs/gmem.md is old: node scripts/gmem-table.mjs').toBe(true);
  });

  test.each(rows)('$id says what it is, names tests that exist, and a canary that can be put in', (row) => {
    expect(row.title).not.toBe('');
    expect(row.here).not.toBe('');
    expect(row.deviation ?? 'a reason').not.toBe('');
    expect(row.tests.length, 'has no test').toBeGreaterThan(row.deviation === undefined ? 0 : -1);
    for (const name of row.tests) {
      const [file = '', ...titles] = name.split(' > ');
      expect(titles.length, `${name}: 'file > title'`).toBeGreaterThan(0);
      const known = titlesOf(file);
      for (const title of titles) expect(known.has(title), `${file} has no test or group called '${title}'`).toBe(true);
    }
    if (row.deviation !== undefined && row.canary === undefined) return;
    expect(row.canary, 'has no canary').toBeDefined();
    const { file, find, replace } = row.canary!;
    expect(file).toMatch(/^(sdk|drivers|assembly|scripts|docs)\//);
    expect(isBrokenOnce(file, find), `${file} has '${find}' once`).toBe(true);
    expect(replace).not.toBe(find);
  });
});

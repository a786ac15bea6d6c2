import { existsSync, readFileSync, statSync } from 'node:fs';
import { describe, expect, test } from 'vitest';

/** Rows of docs/names.md: what is named, and where. */
const rows = readFileSync(new URL('../../docs/names.md', import.meta.url), 'utf8')
  .split('\n')
  .filter((line) => line.startsWith('|') && line.includes(']('))
  .map((line) => {
    const [, , ours, file] = line.split('|').map((cell) => cell.trim());
    return { ours: [...ours!.matchAll(/`([^`]+)`/g)].map((match) => match[1]!), path: /\]\(\.\.\/(.+)\)/.exec(file!)![1]! };
  });

describe('the table of kernel names', () => {
  test('has rows', () => expect(rows.length).toBeGreaterThan(40));

  test.each(rows)('$path has $ours', ({ ours, path }) => {
    const url = new URL(`../../${path}`, import.meta.url);
    expect(existsSync(url), path).toBe(true);
    expect(statSync(url).isFile()).toBe(true);
    const text = readFileSync(url, 'utf8');
    const found = ours.filter((name) => text.includes(name));
    expect(found, `${path} names one of them at least`).not.toEqual([]);
    // Further names of a row may live next door; the first one must be here.
    expect(text.includes(ours[0]!) || text.includes(ours.at(-1)!), `${path} names ${ours[0]}`).toBe(true);
  });
});

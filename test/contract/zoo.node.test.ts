/** What docs/testing.md says of the zoo is true. */
import { expect, test } from 'vitest';
import { readFileSync } from 'node:fs';
import { BROKEN } from './zoo/broken/index.ts';

const TESTING = new URL('../../docs/testing.md', import.meta.url);

/** Rows of the tables of a section: the cells of each. */
function rowsOf(section: string): string[][] {
  const text = readFileSync(TESTING, 'utf8');
  const from = text.indexOf(`\n## ${section}\n`);
  const to = text.indexOf('\n## ', from + 1);
  return text
    .slice(from, to < 0 ? undefined : to)
    .split('\n')
    .filter((line) => line.startsWith('| '))
    .map((line) =>
      line
        .slice(1, -1)
        .split('|')
        .map((cell) => cell.trim()),
    )
    .filter(([first]) => !first!.startsWith('---'))
    .slice(1);
}

test('the table of the zoo has every broken driver, what is wrong with it, and the case that catches it', () => {
  expect(rowsOf('The zoo')).toEqual(BROKEN.map(({ name, how, by }) => [name, how.replaceAll('|', '\\|'), by]));
});

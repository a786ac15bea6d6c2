import type { Row } from './row.ts';

const GROUPS: Readonly<Record<string, string>> = {
  A: 'Devices and memory nodes',
  B: 'Address spaces and contexts',
  C: 'Virtual addresses',
  D: 'Logical page table',
  O: 'MMU operations',
  F: 'Faults',
  G: 'Hints and copies',
  H: 'Physical memory and eviction',
  I: 'Process events',
  J: 'Other clients',
  K: 'Assurance',
};

const HEAD = `<!-- Written by scripts/gmem-table.mjs from test/gmem/rows: change it there. -->

# GMEM, row by row

What GMEM is made of, as far as it was ever written, declared or asked for: the patches of the request for comments, the port to openEuler, the paper, and what reviewers wanted. Each row says what it is here, and
names tests that hold it. A row is believed when its first test fails after a small break in the sources, its canary:

\`\`\`sh
npm run canaries -- --row B6      # breaks the source on load, and expects the test of the row to fail
\`\`\`
`;

/** The text of docs/gmem.md, before it is formatted. */
export function documentOf(ids: readonly string[], rows: readonly Row[]): string {
  const byId = new Map(rows.map((row) => [row.id, row]));
  const parts = [HEAD];
  for (const [letter, title] of Object.entries(GROUPS)) {
    const group = ids.filter((id) => id.startsWith(letter));
    parts.push(`## ${letter}. ${title}\n`);
    for (const id of group) {
      const row = byId.get(id);
      if (row) parts.push(paragraph(row));
    }
    const missing = group.filter((id) => !byId.has(id));
    if (missing.length > 0) parts.push(`Not there yet: ${missing.join(', ')}.\n`);
  }
  return parts.join('\n');
}

function paragraph(row: Row): string {
  const sentences = [`**${row.id}. ${row.title}.** ${ended(row.here)}`];
  if (row.deviation !== undefined) sentences.push(`Not so here: ${ended(row.deviation)}`);
  const files = new Map<string, string[]>();
  for (const test of row.tests) {
    const [file = '', ...titles] = test.split(' > ');
    files.set(file, [...(files.get(file) ?? []), `_${escaped(titles.join(': '))}_`]);
  }
  for (const [file, titles] of files) sentences.push(`[${file.replace(/^test\//, '')}](../${file}): ${titles.join('; ')}.`);
  return `${sentences.join('\n')}\n`;
}

function ended(text: string): string {
  return /[.!?:]$/.test(text) ? text : `${text}.`;
}

function escaped(text: string): string {
  return text.replace(/[\\`*_<>[\]|]/g, '\\$&');
}

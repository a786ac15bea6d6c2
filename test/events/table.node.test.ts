import { readFileSync } from 'node:fs';
import ts from 'typescript';
import { describe, expect, test } from 'vitest';

// docs/events.md says of every event which fields it has, and of every vocabulary which words: exactly those of sdk/events.

const read = (path: string): string => readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8');
const trees = ['cause.ts', 'record.ts'].map((name) => ts.createSourceFile(name, read(`sdk/events/${name}`), ts.ScriptTarget.Latest, true));
const document = read('docs/events.md');

const aliases = new Map(
  trees.flatMap(({ statements }) =>
    statements.filter(ts.isTypeAliasDeclaration).map((each): [string, ts.TypeNode] => [each.name.text, each.type]),
  ),
);

/** The words of a union of literals, templates spelt out. */
function wordsOf(type: ts.TypeNode): string[] {
  if (ts.isUnionTypeNode(type)) return type.types.flatMap(wordsOf);
  if (ts.isParenthesizedTypeNode(type)) return wordsOf(type.type);
  if (ts.isLiteralTypeNode(type) && ts.isStringLiteral(type.literal)) return [type.literal.text];
  if (ts.isTypeReferenceNode(type)) return wordsOf(aliases.get(type.typeName.getText())!);
  if (ts.isTemplateLiteralTypeNode(type))
    return type.templateSpans.flatMap((span) => wordsOf(span.type).map((word) => `${type.head.text}${word}${span.literal.text}`));
  throw new Error(`not a word: ${type.getText()}`);
}

/** Fields of each record, by its type. */
function records(): Map<string, string[]> {
  const found = new Map<string, string[]>();
  const union = aliases.get('MachineEvent') as ts.UnionTypeNode;
  for (const member of union.types) {
    const fields = (member as ts.TypeLiteralNode).members.filter(ts.isPropertySignature);
    const [type, ...rest] = fields;
    found.set(
      wordsOf(type!.type!)[0]!,
      rest.map((field) => field.name.getText()).filter((name) => name !== 'tick'),
    );
  }
  return found;
}

/** The part of the document below a heading. */
function section(heading: string): string {
  const start = document.indexOf(`${heading}\n`);
  expect(start, `docs/events.md has ${heading}`).toBeGreaterThan(0);
  const end = document.slice(start + heading.length).search(/\n##/);
  return document.slice(start, end < 0 ? undefined : start + heading.length + end);
}

test('the table has every event and its fields, in the order of the union', () => {
  const rows = section('## Every event')
    .split('\n')
    .filter((line) => line.startsWith('| `'))
    .map((line) => line.split('|').map((cell) => cell.trim()));
  expect(rows.map(([, type, fields]) => [type!.replaceAll('`', ''), fields!.split(' ')])).toEqual([...records()]);
  for (const row of rows) expect(row.length, row[1]).toBe(6);
});

test('every record is named noun.verb, and has a tick behind its type', () => {
  for (const type of records().keys()) expect(type).toMatch(/^[a-z]+\.[a-z]+$/);
});

describe('the words', () => {
  const vocabularies = [...aliases]
    .filter(([name, type]) => /(Cause|Reason)$/.test(name) && ts.isUnionTypeNode(type))
    .map(([name]) => name);

  test('are all there', () => expect(vocabularies.length).toBeGreaterThanOrEqual(9));

  test.each(vocabularies)('%s', (name) => {
    const text = section(`### \`${name}\``);
    const rows = text.split('\n').filter((line) => line.startsWith('| `'));
    // In a table the first column has them; else the text of the section.
    const source = rows.length > 0 ? rows.map((row) => row.split('|')[1]!).join(' ') : text.slice(text.indexOf('\n'));
    const named = [...source.matchAll(/`([^`]+)`/g)].flatMap(([, word]) => (aliases.has(word!) ? wordsOf(aliases.get(word!)!) : [word!]));
    expect(named).toEqual(wordsOf(aliases.get(name)!));
  });
});

/**
 * The state of a machine can be seen, or it could not be saved: no `#private` fields, no closures kept in fields, every class known by name to the image.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { describe, expect, test } from 'vitest';
import { STATE_CLASSES } from '../../sdk/image/classes.ts';

const root = fileURLToPath(new URL('../../', import.meta.url));
/** Classes that are no state: made again with every machine, or gone before anybody can save. */
const NOT_STATE = new Set(['Core', 'BytesArea', 'Machine', 'FarfaultError', 'Idle', 'Walk']);

function files(folder: string): string[] {
  return readdirSync(join(root, folder), { recursive: true })
    .map((name) => join(folder, String(name)))
    .filter((name) => name.endsWith('.ts') && !name.endsWith('.d.ts'));
}

const SOURCES = [
  ...['sdk/core', 'sdk/events', 'sdk/step', 'sdk/mm', 'sdk/gmem'].flatMap(files),
  'sdk/machine.ts',
  'sdk/policy/victim.ts',
  'sdk/errors.ts',
].filter((name) => !name.endsWith('core-wasm.ts'));

function classes(file: string): ts.ClassDeclaration[] {
  const source = ts.createSourceFile(file, readFileSync(join(root, file), 'utf8'), ts.ScriptTarget.Latest, true);
  const found: ts.ClassDeclaration[] = [];
  const visit = (node: ts.Node): void => {
    if (ts.isClassDeclaration(node)) found.push(node);
    ts.forEachChild(node, visit);
  };
  visit(source);
  return found;
}

describe('the state of a machine can be seen', () => {
  test.each(SOURCES)('%s', (file) => {
    for (const each of classes(file)) {
      const name = each.name!.text;
      // Nothing is of an abstract class and of no other.
      const isAbstract = each.modifiers?.some(({ kind }) => kind === ts.SyntaxKind.AbstractKeyword);
      if (!NOT_STATE.has(name) && !isAbstract)
        expect(Object.keys(STATE_CLASSES), `${name} of ${file} is in sdk/image/classes.ts`).toContain(name);
      for (const member of each.members) {
        if (!ts.isPropertyDeclaration(member)) continue;
        expect(ts.isPrivateIdentifier(member.name), `${name}.${member.name.getText()} is #private`).toBe(false);
        const initial = member.initializer;
        const closure = initial && (ts.isArrowFunction(initial) || ts.isFunctionExpression(initial));
        expect(Boolean(closure), `${name}.${member.name.getText()} keeps a closure`).toBe(false);
      }
    }
  });

  test('every class that the image knows exists', () => {
    const all = new Set(SOURCES.flatMap((file) => classes(file).map((each) => each.name!.text)));
    expect(Object.keys(STATE_CLASSES).filter((name) => !all.has(name))).toEqual([]);
  });
});

import { existsSync, readFileSync } from 'node:fs';
import ts from 'typescript';
import type { Canary } from './row.ts';

const root = new URL('../../../', import.meta.url);
const parsed = new Map<string, Titles>();

/** Titles of tests and groups of one file, as they stand in its source. */
export class Titles {
  private readonly whole = new Set<string>();
  /** Pieces of titles that are made when the test runs, in order: ['a ', ' page']. */
  private readonly made: string[][] = [];
  /** Where a title is a variable it may be any text of the file. */
  private readonly texts = new Set<string>();
  private hasVariable = false;

  constructor(file: string) {
    const url = new URL(file, root);
    if (!existsSync(url)) return;
    const tree = ts.createSourceFile(file, readFileSync(url, 'utf8'), ts.ScriptTarget.Latest, true);
    const visit = (node: ts.Node): void => {
      if (ts.isCallExpression(node) && node.arguments[0] && isTest(node.expression)) this.add(node.arguments[0]);
      if (ts.isStringLiteralLike(node)) this.texts.add(node.text);
      ts.forEachChild(node, visit);
    };
    visit(tree);
  }

  has(title: string): boolean {
    if (this.whole.has(title) || (this.hasVariable && this.texts.has(title))) return true;
    return this.made.some((pieces) => fits(title, pieces));
  }

  private add(node: ts.Expression): void {
    if (ts.isStringLiteralLike(node)) {
      this.whole.add(node.text);
      const pieces = node.text.split(/\$\{[^}]*\}|\$[\w.]+|%[sdifjo]/);
      if (pieces.length > 1) this.made.push(pieces);
    } else if (ts.isTemplateExpression(node)) {
      this.made.push([node.head.text, ...node.templateSpans.map((span) => span.literal.text)]);
    } else if (ts.isIdentifier(node)) {
      this.hasVariable = true;
    }
  }
}

export function titlesOf(file: string): Titles {
  const known = parsed.get(file) ?? new Titles(file);
  parsed.set(file, known);
  return known;
}

/** Whether `find` stands in the file exactly once. */
export function isBrokenOnce(file: string, find: string): boolean {
  const url = new URL(file, root);
  return existsSync(url) && find !== '' && readFileSync(url, 'utf8').split(find).length === 2;
}

/** test, it or describe, with .each, .skipIf and the like behind it. */
function isTest(node: ts.Expression): boolean {
  if (ts.isIdentifier(node)) return node.text === 'test' || node.text === 'it' || node.text === 'describe';
  if (ts.isPropertyAccessExpression(node) || ts.isCallExpression(node)) return isTest(node.expression);
  if (ts.isTaggedTemplateExpression(node)) return isTest(node.tag);
  return false;
}

/** The pieces, with anything between them. A title that is nothing but what is put in fits nothing: it says nothing. */
function fits(title: string, pieces: readonly string[]): boolean {
  if (pieces.join('').trim().length < 4) return false;
  const pattern = pieces.map((piece) => piece.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')).join('.+');
  return new RegExp(`^${pattern}$`, 's').test(title);
}

/** The text of a document; with a canary in it, when that is asked for. */
export function textOf(file: string): string {
  const text = readFileSync(new URL(file, root), 'utf8');
  const canary = JSON.parse(process.env['FARFAULT_CANARY'] ?? 'null') as Canary | null;
  return canary?.file === file ? text.replace(canary.find, () => canary.replace) : text;
}

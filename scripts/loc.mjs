/**
 * `npm run loc`: how long the shipped drivers are, in lines of code and in statements: no comments, no blank lines, no imports. What comes with a device (its options, its memory, its own
 * commands) counts; what the framework does for all of them is not there to be counted.
 *
 * Beside it what others have said of theirs: the IOMMU driver of the GMEM paper needs less than 70 lines that are not the hardware's, the NPU driver of the request for comments 30 changed of 3,700.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';

const root = fileURLToPath(new URL('../', import.meta.url));

/** Lines with code, and statements, of a source text. */
export function measure(text) {
  const tree = ts.createSourceFile('text.ts', text, ts.ScriptTarget.Latest, true);
  const lines = new Set();
  let statements = 0;
  const visit = (node) => {
    if (ts.isImportDeclaration(node)) return;
    if (ts.isStatement(node) && !ts.isBlock(node) && !ts.isInterfaceDeclaration(node) && !ts.isTypeAliasDeclaration(node)) statements++;
    // A line counts that has a token on it, whatever it belongs to.
    if (node.getChildCount(tree) === 0 && node.getStart(tree) < node.end) {
      const from = tree.getLineAndCharacterOfPosition(node.getStart(tree)).line;
      for (let line = from; line <= tree.getLineAndCharacterOfPosition(node.end).line; line++) lines.add(line);
    }
    for (const child of node.getChildren(tree)) if (!ts.isJSDoc(child)) visit(child);
  };
  visit(tree);
  return { lines: lines.size, statements };
}

/** All drivers, by name, the shortest first. */
export function report() {
  const drivers = readdirSync(join(root, 'drivers'), { withFileTypes: true }).filter((entry) => entry.isDirectory());
  return drivers
    .map(({ name }) => {
      const files = readdirSync(join(root, 'drivers', name)).filter((file) => file.endsWith('.ts'));
      const all = files.map((file) => measure(readFileSync(join(root, 'drivers', name, file), 'utf8')));
      const sum = (of) => all.reduce((total, each) => total + each[of], 0);
      return { name, files: files.length, lines: sum('lines'), statements: sum('statements') };
    })
    .sort((a, b) => a.lines - b.lines);
}

/** The report as it is printed. */
export function print(rows) {
  const line = (cells) => cells.map((cell, i) => (i === 0 ? String(cell).padEnd(12) : String(cell).padStart(12))).join('');
  return [
    line(['driver', 'files', 'lines', 'statements']),
    ...rows.map(({ name, files, lines, statements }) => line([name, files, lines, statements])),
  ].join('\n');
}

if (process.argv[1] === fileURLToPath(import.meta.url)) console.log(print(report()));

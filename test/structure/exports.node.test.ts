import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { expect, test } from 'vitest';

const root = fileURLToPath(new URL('../../', import.meta.url));
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { exports: Record<string, unknown> };

/** Published entry points with types, by name: `./gmem` is sdk/gmem/index.ts. */
const entries = Object.entries(manifest.exports)
  .filter(([, target]) => typeof target === 'object')
  .map(([name]) => ({ name: name.replace(/^\./, 'farfault'), file: sourceOf(name) }));

const { config } = ts.readConfigFile(join(root, 'tsconfig.json'), ts.sys.readFile) as { config: unknown };
const { options } = ts.parseJsonConfigFileContent(config, ts.sys, root);
const present = entries.filter(({ file }) => existsSync(join(root, file)));
const program = ts.createProgram([...present.map(({ file }) => join(root, file)), join(root, 'sdk/core/host.d.ts')], options);
const checker = program.getTypeChecker();

test.each(entries)('every export of $name has a doc comment', ({ file }) => {
  expect(existsSync(join(root, file)), `${file} does not exist`).toBe(true);
  const source = program.getSourceFile(join(root, file));
  const module = source && checker.getSymbolAtLocation(source);
  expect(module, `${file} exports nothing`).toBeDefined();
  const bare = checker.getExportsOfModule(module as ts.Symbol).filter((symbol) => !isDocumented(symbol));
  expect(bare.map((symbol) => `${whereIs(symbol)}: ${symbol.name} has no doc comment`)).toEqual([]);
});

test('the published types need neither the DOM nor the types of Node', () => {
  const files = Object.values(manifest.exports)
    .flatMap((target) => (typeof target === 'object' ? Object.values(target as Record<string, { types: string }>) : []))
    .map(({ types }) => join(root, types));
  const missing = files.filter((file) => !existsSync(file));
  expect(missing.map((file) => `${file.slice(root.length)} does not exist: run npm run build`)).toEqual([]);
  const strict: ts.CompilerOptions = {
    strict: true,
    noEmit: true,
    skipLibCheck: false,
    types: [],
    lib: ['lib.es2022.d.ts'],
    target: ts.ScriptTarget.ES2022,
    module: ts.ModuleKind.NodeNext,
    moduleResolution: ts.ModuleResolutionKind.NodeNext,
  };
  const problems = ts.getPreEmitDiagnostics(ts.createProgram(files, strict));
  expect(problems.map(describe)).toEqual([]);
});

function sourceOf(name: string): string {
  if (name === '.') return 'sdk/index.ts';
  return name.startsWith('./drivers/') ? `${name.slice(2)}/index.ts` : `sdk/${name.slice(2)}/index.ts`;
}

/** A re-export is as good as what it names. */
function isDocumented(symbol: ts.Symbol): boolean {
  if (symbol.getDocumentationComment(checker).length > 0) return true;
  if (symbol.flags & ts.SymbolFlags.Alias) {
    const target = checker.getAliasedSymbol(symbol);
    if (target !== symbol && target.getDocumentationComment(checker).length > 0) return true;
  }
  // `export default expression`: the comment stands above the statement.
  return (symbol.declarations ?? []).some((node) => ts.isExportAssignment(node) && ts.getJSDocCommentsAndTags(node).length > 0);
}

function whereIs(symbol: ts.Symbol): string {
  const target = symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol;
  const node = target.declarations?.[0] ?? symbol.declarations?.[0];
  if (!node) return 'unknown place';
  const source = node.getSourceFile();
  return `${source.fileName.replace(root, '')}:${source.getLineAndCharacterOfPosition(node.getStart()).line + 1}`;
}

function describe(problem: ts.Diagnostic): string {
  const text = ts.flattenDiagnosticMessageText(problem.messageText, '\n');
  if (!problem.file) return text;
  const line = problem.file.getLineAndCharacterOfPosition(problem.start ?? 0).line + 1;
  return `${problem.file.fileName.replace(root, '')}:${line}: ${text}`;
}

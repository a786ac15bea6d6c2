/**
 * `node scripts/count-driver.mjs drivers/npu ...`: counts the statements of drivers, one line each: those that call the framework, and those that implement what it asks for.
 *
 * A statement is one of the language, blocks aside; a condition or a loop is one beside what it holds. It calls the framework when it calls something that was imported from
 * the SDK, `fail` and the units aside, or an operation of a context, a batch, a run, a list that the framework has lent.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import ts from 'typescript';

/** Parameters and fields that are the framework's. */
const LENT = new Set(['context', 'batch', 'run', 'mappings', 'ranges', 'copies', 'marks', 'table', 'tlb', 'serve']);
const OWN = new Set(['fail', 'permits']);

/** Names that a file has from the SDK. */
function importsOf(source) {
  const names = new Set();
  for (const statement of source.statements) {
    if (!ts.isImportDeclaration(statement) || !statement.moduleSpecifier.text.includes('sdk/')) continue;
    const bindings = statement.importClause?.namedBindings;
    if (bindings && ts.isNamedImports(bindings)) for (const { name } of bindings.elements) if (!OWN.has(name.text)) names.add(name.text);
  }
  return names;
}

/** What a call is made of: the names from left to right. */
function chain(node) {
  if (ts.isIdentifier(node)) return [node.text];
  if (node.kind === ts.SyntaxKind.ThisKeyword) return [];
  if (ts.isPropertyAccessExpression(node)) return [...chain(node.expression), node.name.text];
  if (ts.isCallExpression(node) || ts.isNonNullExpression(node) || ts.isElementAccessExpression(node)) return chain(node.expression);
  return [];
}

function isStatement(node) {
  if (ts.isBlock(node) || ts.isFunctionDeclaration(node) || ts.isClassDeclaration(node)) return false;
  return (
    ts.isStatement(node) &&
    !ts.isImportDeclaration(node) &&
    !ts.isExportDeclaration(node) &&
    !ts.isTypeAliasDeclaration(node) &&
    !ts.isInterfaceDeclaration(node)
  );
}

/** Whether a statement itself, without the statements inside it, calls the framework. */
function callsFramework(statement, imported) {
  let calls = false;
  const visit = (node) => {
    if (node !== statement && isStatement(node)) return;
    if (ts.isCallExpression(node)) {
      const names = chain(node.expression);
      if (
        names.length > 0 &&
        (imported.has(names[0]) || (names.length > 1 && LENT.has(names[0])) || (names.length > 2 && LENT.has(names[1])))
      )
        calls = true;
      // A field of `this` comes without it.
      if (names.length > 1 && LENT.has(names[0])) calls = true;
    }
    ts.forEachChild(node, visit);
  };
  visit(statement);
  return calls;
}

/** The statements of all files of a folder. */
export function countDriver(folder) {
  const counts = { framework: 0, operations: 0, lines: 0 };
  for (const file of readdirSync(folder)
    .filter((name) => name.endsWith('.ts'))
    .sort()) {
    const text = readFileSync(join(folder, file), 'utf8');
    const source = ts.createSourceFile(file, text, ts.ScriptTarget.Latest, true);
    const imported = importsOf(source);
    counts.lines += text.split('\n').length - 1;
    const visit = (node) => {
      if (isStatement(node)) counts[callsFramework(node, imported) ? 'framework' : 'operations']++;
      ts.forEachChild(node, visit);
    };
    visit(source);
  }
  return counts;
}

if (process.argv[1]?.endsWith('count-driver.mjs')) {
  const folders = process.argv.slice(2);
  if (folders.length === 0) {
    console.error('usage: node scripts/count-driver.mjs drivers/npu ...');
    process.exit(2);
  }
  for (const folder of folders) {
    const { framework, operations, lines } = countDriver(folder);
    console.log(`${folder}: ${framework} statements call the framework, ${operations} implement operations, ${lines} lines`);
  }
}

/**
 * `npm run mutate:drivers`: is the driver contract worth something? Makes small faults in good drivers, one at a time, and looks whether a case of the contract notices.
 *
 *   npm run mutate:drivers -- [--sample n] [--seed n] [--file name] [--operator name]   n mutants chosen by the seed (20, 1)
 *   npm run mutate:drivers -- --all                                                     every mutant
 *   npm run mutate:drivers -- --only 'nouveau/vram.ts:77:12 comparison'                 one mutant, as a report prints it
 *   npm run mutate:drivers -- --list                                                    prints the mutants, and runs none
 *   further: --limit seconds (without news of a mutant, 20), --json file (the report as data), --verbose (what the case said), --strict (for tests: leaves out what docs/testing.md lists as equivalent, and the drivers as they are; fails when one survives)
 *
 * Mutated are drivers/ and the good drivers of the zoo; what they meet is in test/contract/mutated.ts. Sources are not touched; build/driver-mutants holds what is made of them. See docs/testing.md.
 */
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { clearTimeout, setTimeout } from 'node:timers';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { Worker } from 'node:worker_threads';
import { requireTools } from './build-if-stale.mjs';

const root = fileURLToPath(new URL('../', import.meta.url));
// One folder a run: two may run at once.
const out = join(root, 'build/driver-mutants', String(process.pid));

requireTools(['typescript', 'tsup'], 'make mutants');
const { default: ts } = await import('typescript');
const { build } = await import('esbuild');

/** What is mutated, by the name that mutants have: the file, and the specimens of test/contract/mutated.ts that it is in. */
const FILES = {
  'mirror/index.ts': ['drivers/mirror/index.ts', ['mirror']],
  'nouveau/coalesce.ts': ['drivers/nouveau/coalesce.ts', ['nouveau']],
  'nouveau/index.ts': ['drivers/nouveau/index.ts', ['nouveau']],
  'nouveau/vram.ts': ['drivers/nouveau/vram.ts', ['nouveau']],
  ...Object.fromEntries(
    [
      'access',
      'chunks',
      'command',
      'errno',
      'exclusive',
      'fault',
      'index',
      'migrate',
      'mirror',
      'release',
      'request',
      'snapshot',
      'table',
    ].map((name) => [`dmirror/${name}.ts`, [`drivers/dmirror/${name}.ts`, ['dmirror']]]),
  ),
  'zoo/good.ts': ['test/contract/zoo/good.ts', ['zoo']],
};

const COMPARISONS = { '<': '<=', '<=': '<', '>': '>=', '>=': '>', '==': '!=', '!=': '==', '===': '!==', '!==': '===' };
const LOGIC = { '&&': '||', '||': '&&', '??': '&&' };
const SUMS = {
  '+': '-',
  '-': '+',
  '*': '/',
  '/': '*',
  '%': '*',
  '+=': '-=',
  '-=': '+=',
  '|': '&',
  '&': '|',
  '&=': '|=',
  '|=': '&=',
  '++': '--',
  '--': '++',
};

const asked = readArguments();
/** Files made so far, and what grades. */
let made = 0;
let worker;
const sources = new Map(Object.entries(FILES).map(([name, [path]]) => [name, readFileSync(join(root, path), 'utf8')]));
const all = [...sources].flatMap(([name, text]) => mutantsOf(name, text));
const chosen = choose(all);
if (asked.list) {
  for (const mutant of chosen) console.log(`${mutant.id}: ${shown(mutant)}`);
  process.exit(0);
}
if (chosen.length === 0) stop('no such mutant');

mkdirSync(out, { recursive: true });
process.on('exit', () => rmSync(out, { recursive: true, force: true }));
writeFileSync(join(out, 'worker.mjs'), workerText());
await bundleSdk();
console.log(`${all.length} mutants, of which ${chosen.length} are tried.${asked.strict ? '' : ' First the drivers as they are.'}`);

/** The cases that have found something, the most successful first: what the next mutant of the file meets first. */
const finders = new Map();
for (const specimens of asked.strict ? [] : new Set(chosen.map(({ file }) => FILES[file][1]))) {
  const { verdict, by, said } = await grade(await bundle(undefined), specimens, [], 600);
  if (verdict !== 'survived') stop(`the drivers as they are do not keep the contract: ${specimens.join()}, ${by}\n${said}`);
}

const results = [];
const began = Date.now();
for (const mutant of chosen) {
  const start = Date.now();
  const order = [...(finders.get(mutant.file) ?? new Map())].sort((a, b) => b[1] - a[1]).map(([name]) => name);
  let file;
  let broken = '';
  try {
    file = await bundle(mutant);
  } catch (error) {
    broken = error.message;
  }
  const { verdict, by, said } = broken
    ? { verdict: 'not compiling', by: '', said: broken }
    : await grade(file, FILES[mutant.file][1], order, asked.limit, nearestTo(mutant));
  if (verdict === 'killed') {
    const found = finders.get(mutant.file) ?? new Map();
    finders.set(mutant.file, found.set(by, (found.get(by) ?? 0) + 1));
  }
  const seconds = (Date.now() - start) / 1000;
  const row = { id: mutant.id, file: mutant.file, change: shown(mutant), verdict, by, seconds };
  results.push(row);
  console.log(`${verdict.padEnd(13)} ${seconds.toFixed(1).padStart(5)} s  ${mutant.id}: ${row.change}${by ? `  [${by}]` : ''}`);
  if (asked.verbose && said) console.log(said);
}
await worker?.terminate();
report(results);

// -------------------------------------------------------------------------------------------------------------------- mutants

/** Every place where one of the operators fits, in the order of the text. */
function mutantsOf(file, source) {
  const tree = ts.createSourceFile(file, source, ts.ScriptTarget.Latest, true);
  const found = [];
  const add = (operator, from, to, replacement) => {
    const { line, character } = tree.getLineAndCharacterOfPosition(from);
    found.push({ id: `${file}:${line + 1}:${character + 1} ${operator}`, file, operator, from, to, replacement });
  };
  const text = (node) => node.getText(tree);
  const visit = (node) => {
    // Imports and types hold no behaviour; what a refusal says is looked at by people; drivers that are saved are tested elsewhere.
    if (
      ts.isImportDeclaration(node) ||
      ts.isExportDeclaration(node) ||
      ts.isTypeNode(node) ||
      ts.isInterfaceDeclaration(node) ||
      ts.isTypeAliasDeclaration(node)
    )
      return;
    if (ts.isThrowStatement(node)) {
      if (ts.isBlock(node.parent) || ts.isIfStatement(node.parent)) add('statement', node.getStart(tree), node.end, '{}');
      return;
    }
    if (isSaving(node, text)) return;
    if (ts.isBinaryExpression(node)) binary(node, tree, add);
    if (ts.isPostfixUnaryExpression(node) || (ts.isPrefixUnaryExpression(node) && /^(\+\+|--)/.test(text(node)))) {
      const at = ts.isPostfixUnaryExpression(node) ? node.operand.end : node.getStart(tree);
      // The step of a loop, turned round, never ends: that is the clock's kill, and takes its time.
      if (!ts.isForStatement(node.parent)) add('sum', at, at + 2, SUMS[source.slice(at, at + 2)]);
    }
    if (ts.isPrefixUnaryExpression(node) && node.operator === ts.SyntaxKind.ExclamationToken)
      add('negation', node.getStart(tree), node.getStart(tree) + 1, '');
    if (ts.isNumericLiteral(node) && !isLooseConstant(node))
      add('constant', node.getStart(tree), node.end, text(node) === '0' ? '1' : `(${text(node)} + 1)`);
    if (node.kind === ts.SyntaxKind.TrueKeyword) add('constant', node.getStart(tree), node.end, 'false');
    if (node.kind === ts.SyntaxKind.FalseKeyword) add('constant', node.getStart(tree), node.end, 'true');
    if (ts.isIfStatement(node)) condition(node.expression);
    if (ts.isConditionalExpression(node)) condition(node.condition);
    if (ts.isExpressionStatement(node) && node.expression.kind !== ts.SyntaxKind.SuperKeyword && !isSuperCall(node.expression))
      add('statement', node.getStart(tree), node.end, '{}');
    if (ts.isReturnStatement(node) && isEarly(node)) add('return', node.getStart(tree), node.end, '{}');
    if ((ts.isBreakStatement(node) || ts.isContinueStatement(node)) && !ts.isCaseOrDefaultClause(node.parent))
      add('jump', node.getStart(tree), node.end, '{}');
    if (ts.isBlock(node) && ts.isFunctionLike(node.parent) && !ts.isConstructorDeclaration(node.parent) && node.statements.length > 1)
      add('body', node.getStart(tree), node.end, '{}');
    if (ts.isArrowFunction(node) && !ts.isBlock(node.body)) add('body', node.body.getStart(tree), node.body.end, 'undefined');
    if (ts.isArrayLiteralExpression(node) && node.elements.length > 0)
      add('element', node.elements[0].getStart(tree), node.elements[1]?.getStart(tree) ?? node.elements[0].end, '');
    if (ts.isCallExpression(node) && /\.(sort|filter|slice|reverse)$/.test(text(node.expression)))
      add('call', node.expression.expression.end, node.end, '');
    if (ts.isCallExpression(node) && /^Math\.(min|max)$/.test(text(node.expression))) {
      const at = node.expression.getStart(tree);
      add('bound', at, node.expression.end, text(node.expression) === 'Math.min' ? 'Math.max' : 'Math.min');
    }
    ts.forEachChild(node, visit);
  };
  const condition = (node) => add('condition', node.getStart(tree), node.end, `!(${text(node)})`);
  visit(tree);
  return found;
}

function binary(node, tree, add) {
  const { left, operatorToken, right } = node;
  const sign = operatorToken.getText(tree);
  if (COMPARISONS[sign]) add('comparison', operatorToken.getStart(tree), operatorToken.end, COMPARISONS[sign]);
  if (LOGIC[sign]) add('logic', operatorToken.getStart(tree), operatorToken.end, LOGIC[sign]);
  if (SUMS[sign]) add('sum', operatorToken.getStart(tree), operatorToken.end, SUMS[sign]);
  if ((sign === '+' || sign === '-') && ts.isNumericLiteral(right)) add('off by one', left.end, right.end, '');
}

/** What is said of a machine that is saved: `classes`, `save`, `restore`, and what is got back. */
function isSaving(node, text) {
  if (!ts.isPropertyAssignment(node) && !ts.isMethodDeclaration(node)) return false;
  return ['classes', 'save', 'restore'].includes(text(node.name));
}

function isSuperCall(node) {
  return ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.SuperKeyword;
}

/** A number that is the value of a named constant by itself, a factor of a size, or a phase: another one would do as well. */
function isLooseConstant(node) {
  return (
    ts.isVariableDeclaration(node.parent) &&
    ts.isVariableDeclarationList(node.parent.parent) &&
    /^[A-Z][A-Z0-9_]*$/.test(node.parent.name.getText())
  );
}

/** A return that others of the same function come after. */
function isEarly(node) {
  let top = node;
  while (!ts.isFunctionLike(top.parent?.parent ?? top.parent)) top = top.parent;
  const block = top.parent;
  return ts.isBlock(block) && block.statements.at(-1) !== top;
}

/** Which of the drivers of a file a mutant is in: those of the zoo are made of classes. */
function nearestTo({ file, from }) {
  if (file !== 'zoo/good.ts') return 0;
  const before = sources.get(file).slice(0, from);
  const [name] = [...before.matchAll(/^(?:export )?(?:class|function|interface|const) (\w+)/gm)].map(([, found]) => found).reverse();
  const nearest = {
    Vram: 1,
    Engine: 1,
    Service: 1,
    card: 1,
    LateTlb: 2,
    LateEngine: 2,
    Mail: 2,
    lateDriver: 2,
    late: 2,
    Queue: 3,
    queued: 3,
    Store: 4,
    remote: 4,
  };
  return nearest[name] ?? 0;
}

function choose(mutants) {
  const known = asked.strict ? survivorsListed() : new Set();
  const fits = mutants.filter((mutant) => {
    const { id, file, operator } = mutant;
    return (
      (asked.only === undefined || id === asked.only) &&
      !known.has(keyOf({ file, change: shown(mutant) })) &&
      (asked.file === undefined || file === asked.file || file.startsWith(`${asked.file}/`)) &&
      (asked.operator === undefined || operator === asked.operator)
    );
  });
  if (asked.all || asked.only !== undefined || fits.length <= asked.sample) return fits;
  // By what they change and not by their number: an edit of one line leaves the rest of a sample as it is.
  const seen = new Map();
  const drawn = fits.map((mutant) => {
    const key = keyOf({ file: mutant.file, change: shown(mutant) });
    const time = (seen.get(key) ?? 0) + 1;
    seen.set(key, time);
    return { mutant, lot: createHash('sha256').update(`${asked.seed} ${time} ${key}`).digest('hex') };
  });
  drawn.sort((a, b) => (a.lot < b.lot ? -1 : 1));
  const sample = new Set(drawn.slice(0, asked.sample).map(({ mutant }) => mutant));
  return fits.filter((mutant) => sample.has(mutant));
}

/** The piece, what becomes of it, and its line. */
function shown({ file, from, to, replacement }) {
  const source = sources.get(file);
  const piece = (text) => text.replace(/\s+/g, ' ').trim().slice(0, 80);
  const start = source.lastIndexOf('\n', from) + 1;
  const line = source.slice(start, source.indexOf('\n', from)).trim();
  return `${piece(source.slice(from, to))} -> ${piece(replacement) || 'nothing'} in \`${line.slice(0, 120)}\``;
}

// ------------------------------------------------------------------------------------------------------------ building, grading

/** The library, once: all mutants use this one. */
async function bundleSdk() {
  await build({
    entryPoints: {
      farfault: join(root, 'sdk/index.ts'),
      gmem: join(root, 'sdk/gmem/index.ts'),
      testing: join(root, 'sdk/testing/index.ts'),
    },
    bundle: true,
    splitting: true,
    format: 'esm',
    platform: 'neutral',
    outdir: join(out, 'sdk'),
    outExtension: { '.js': '.mjs' },
    logLevel: 'silent',
  });
}

/** The drivers and what they are graded with, with this one change. Returns the file. */
async function bundle(mutant) {
  const path = mutant && resolve(root, FILES[mutant.file][0]);
  const source = mutant && sources.get(mutant.file);
  const file = join(out, `mutant-${made++}.mjs`);
  await build({
    entryPoints: [join(root, 'test/contract/mutated.ts')],
    bundle: true,
    format: 'esm',
    platform: 'neutral',
    outfile: file,
    logLevel: 'silent',
    plugins: [
      {
        name: 'mutant',
        setup(builder) {
          const external = (name) => ({ path: pathToFileURL(join(out, `sdk/${name}.mjs`)).href, external: true });
          builder.onResolve({ filter: /^farfault$/ }, () => external('farfault'));
          builder.onResolve({ filter: /^farfault\/(gmem|testing)$/ }, ({ path: name }) => external(name.slice('farfault/'.length)));
          builder.onResolve({ filter: /sdk\/gmem\/index\.ts$/ }, () => external('gmem'));
          builder.onResolve({ filter: /^farfault\/drivers\// }, ({ path: name }) => ({
            path: join(root, `${name.slice('farfault/'.length)}/index.ts`),
          }));
          builder.onLoad({ filter: /\.ts$/ }, (loaded) =>
            loaded.path === path
              ? { contents: source.slice(0, mutant.from) + mutant.replacement + source.slice(mutant.to), loader: 'ts' }
              : undefined,
          );
        },
      },
    ],
  });
  return file;
}

/** What grades, in a thread of its own: what loops for ever is ended from outside. */
function workerText() {
  return `
import process from 'node:process';
import { parentPort } from 'node:worker_threads';
import { CONTRACT, gradeDriver, printFailure } from './sdk/testing.mjs';

/** Cases of one go: few at first, so that it ends soon after one has failed. */
const AT_FIRST = 4;
const TOGETHER = 8;
/** Goes that each of the drivers is put through, with one that the mutant is nearest to first; that one is put through all. */
const GOES_FOR_ALL = 3;

// A promise that a broken driver leaves behind is nobody's; what a timer throws is an error.
process.on('unhandledRejection', () => undefined);

parentPort.on('message', async ({ file, specimens, order, nearest }) => {
  try {
    parentPort.postMessage(await graded(await import(file), specimens, order, nearest));
  } catch (error) {
    parentPort.postMessage({ verdict: 'killed', by: 'the driver cannot be made', said: String(error?.stack ?? error) });
  }
});

const OWN = "the author's own scenario";

async function graded({ SPECIMENS }, specimens, order, nearest) {
  const usual = CONTRACT.map(({ name, group }) => ({ name, late: group === 'calls' ? 1 : 0 })).sort((a, b) => a.late - b.late);
  const names = [...new Set([...order, OWN, ...usual.map(({ name }) => name)])].filter((name) => CONTRACT.some((each) => each.name === name));
  const parts = [];
  for (let at = 0; at < names.length; at += parts.at(-1).length) parts.push(names.slice(at, at + (at < 2 * AT_FIRST ? AT_FIRST : TOGETHER)));
  const drivers = specimens.flatMap((name) => SPECIMENS[name]);
  for (const [go, cases] of parts.entries()) {
    for (const [i, { factory, expectations }] of drivers.entries()) {
      if (i === nearest || go < GOES_FOR_ALL) {
        const report = await gradeDriver(factory, { ...expectations, cases });
        const failed = report.cases.find(({ verdict }) => verdict === 'failed');
        if (failed) return { verdict: 'killed', by: failed.name, said: printFailure(failed) };
        parentPort.postMessage('still at work');
      }
    }
  }
  return { verdict: 'survived', by: '', said: '' };
}
`;
}

function grade(file, specimens, order, seconds, nearest = 0) {
  worker ??= new Worker(join(out, 'worker.mjs'));
  const mine = worker;
  return new Promise((settle) => {
    const end = (result, dead) => {
      clearTimeout(clock);
      mine.off('message', answered);
      mine.off('error', broke);
      if (dead) {
        worker = undefined;
        void mine.terminate();
      }
      rmSync(file, { force: true });
      settle(result);
    };
    const answered = (result) => {
      if (result !== 'still at work') end(result, false);
      else clock.refresh();
    };
    // A timer of the driver threw: whoever runs the contract sees that, too.
    const broke = (error) => end({ verdict: 'killed', by: 'an error that nobody catches', said: String(error) }, true);
    const clock = setTimeout(() => end({ verdict: 'killed', by: 'the clock', said: '' }, true), seconds * 1000);
    mine.on('message', answered);
    mine.on('error', broke);
    mine.postMessage({ file: pathToFileURL(file).href, specimens, order, nearest });
  });
}

// --------------------------------------------------------------------------------------------------------------------- the report

function report(rows) {
  const files = [...new Set(rows.map(({ file }) => file))];
  const count = (of, verdict) => of.filter((row) => row.verdict === verdict).length;
  const known = survivorsListed();
  const line = (name, of) => {
    const killed = count(of, 'killed');
    const survived = count(of, 'survived');
    const equivalent = of.filter((row) => row.verdict === 'survived' && known.has(keyOf(row))).length;
    const score = killed + survived === 0 ? '' : `${Math.round((100 * killed) / Math.max(1, killed + survived - equivalent))} %`;
    return [name, of.length, killed, survived, equivalent, count(of, 'not compiling'), score].map((cell, i) =>
      i === 0 ? String(cell).padEnd(22) : String(cell).padStart(13),
    );
  };
  console.log(
    `\n${['file'.padEnd(22), ...['mutants', 'killed', 'survived', 'equivalent', 'not compiling', 'score'].map((name) => name.padStart(13))].join('')}`,
  );
  for (const file of files)
    console.log(
      line(
        file,
        rows.filter((row) => row.file === file),
      ).join(''),
    );
  console.log(line('all', rows).join(''));
  const survivors = rows.filter((row) => row.verdict === 'survived' && !known.has(keyOf(row)));
  if (survivors.length > 0)
    console.log(`\nSurvivors that are not listed:\n${survivors.map(({ id, change }) => `  ${id}: ${change}`).join('\n')}`);
  console.log(`\n${((Date.now() - began) / 1000).toFixed(0)} s`);
  if (asked.json) writeFileSync(asked.json, `${JSON.stringify(rows, null, 2)}\n`);
  if (asked.strict && survivors.length > 0) process.exitCode = 1;
}

/** Mutants that nobody can tell from the original, as docs/testing.md lists them: by file and change, since lines move. */
function survivorsListed() {
  const text = readFileSync(join(root, 'docs/testing.md'), 'utf8');
  const found = new Set();
  for (const [, file, change] of text.matchAll(/^\| *`([\w/.-]+):\d+` *\| *(`+.*?`+) *\|/gm))
    found.add(`${file} ${squeezed(change.replace(/^`+ ?| ?`+$/g, ''))}`);
  return found;
}

function keyOf({ file, change }) {
  return `${file} ${squeezed(change)}`;
}

/** As it is in a cell of a table. */
function squeezed(text) {
  return text.replace(/`/g, '').replace(/\\\|/g, '|').replace(/\s+/g, ' ').trim();
}

function stop(message) {
  console.error(`mutate-drivers: ${message}`);
  process.exit(1);
}

function readArguments() {
  const counts = { sample: 20, seed: 1, limit: 20 };
  const usage =
    'usage: npm run mutate:drivers -- [--all | --sample n | --only id | --list] [--seed n] [--file name] [--operator name] [--limit s] [--json file] [--strict]';
  try {
    const { values } = parseArgs({
      options: {
        ...Object.fromEntries([...Object.keys(counts), 'file', 'operator', 'only', 'json'].map((name) => [name, { type: 'string' }])),
        ...Object.fromEntries(['all', 'list', 'verbose', 'strict'].map((name) => [name, { type: 'boolean', default: false }])),
      },
    });
    for (const [name, otherwise] of Object.entries(counts)) {
      if (values[name] !== undefined && !/^\d{1,9}$/.test(values[name])) throw new Error(`--${name} ${values[name]} is not a count`);
      values[name] = values[name] === undefined ? otherwise : Number(values[name]);
    }
    return { ...values };
  } catch (error) {
    console.error(`${error.message}\n${usage}`);
    process.exit(1);
  }
}

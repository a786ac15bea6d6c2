/**
 * `npm run mutate:core`: are the checks checked? Makes small faults in the core, one at a time, and looks whether a test notices.
 *
 *   npm run mutate:core -- [--sample n] [--seed n] [--file name] [--operator name]   n mutants chosen by the seed (20, 1)
 *   npm run mutate:core -- --all                                                     every mutant
 *   npm run mutate:core -- --only 'table.ts:120:7 comparison'                        one mutant, as a report prints it
 *   npm run mutate:core -- --list                                                    prints the mutants, and runs none
 *   further: --tests globs (with commas between them, instead of those), --limit seconds (per mutant), --json file (the report as data), --verbose (what the tests said)
 *
 * Each mutant is compiled in memory into build/mutants, with its assertions on, and meets the tests of `stagesOf` until the first one fails. Sources are not touched. See docs/testing.md.
 */
import { Buffer } from 'node:buffer';
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { clearTimeout, setTimeout } from 'node:timers';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { requireTools } from './build-if-stale.mjs';

const root = fileURLToPath(new URL('../', import.meta.url));
const out = join(root, 'build/mutants');

requireTools(['vitest', 'typescript', 'assemblyscript'], 'make mutants');
const { default: ts } = await import('typescript');
const { default: asc } = await import('assemblyscript/asc');

/** What a mutant of a file meets, stage by stage, the quick and narrow tests first: those that are named after the file before all others. */
const stagesOf = (file) => [
  ...(file ? [[`test/core/${file.replace('.ts', '')}*.test.ts`]] : []),
  ['test/core/**/*.test.ts', 'test/replay/byte-map.test.ts'],
  ['test/machine/**/*.test.ts', 'test/random/programs.test.ts'],
];
/** Constants only, and exports only. */
const NOT_MUTATED = ['layout.ts', 'index.ts'];
/** A mutant may take this many times as long as the core itself. */
const PATIENCE = 4;

/** What the operators make of a sign. */
const COMPARISONS = { '<': '<=', '<=': '<', '>': '>=', '>=': '>', '==': '!=', '!=': '==' };
const LOGIC = { '&&': '||', '||': '&&' };
const SUMS = { '+': '-', '-': '+', '+=': '-=', '-=': '+=' };

const asked = readArguments();
const sources = new Map(
  readdirSync(join(root, 'assembly'))
    .filter((name) => name.endsWith('.ts'))
    .map((name) => [name, readFileSync(join(root, 'assembly', name), 'utf8')]),
);

const all = [...sources].filter(([name]) => !NOT_MUTATED.includes(name)).flatMap(([name, text]) => mutantsOf(name, text));
const chosen = choose(all);
if (asked.list) {
  for (const mutant of chosen) console.log(`${mutant.id}: ${shown(mutant)}`);
  process.exit(0);
}
if (chosen.length === 0) stop('no such mutant');

prepare();
console.log(`${all.length} mutants, of which ${chosen.length} are tried. First the core as it is.`);
const text = new Map(sources);
const problem = await compile(text);
if (problem) stop(`the core does not compile:\n${problem}`);
const began = Date.now();
const baseline = await test(600);
if (baseline.verdict !== 'survived') stop(`the core as it is does not pass: ${baseline.by || baseline.said}`);
const limit = asked.limit ?? Math.max(20, Math.ceil((PATIENCE * (Date.now() - began)) / 1000));
console.log(`It passes in ${Math.round((Date.now() - began) / 1000)} s; a mutant has ${limit} s.\n`);

const results = [];
for (const mutant of chosen) {
  const start = Date.now();
  text.set(mutant.file, mutated(mutant));
  const broken = await compile(text);
  const { verdict, by, said } = broken ? { verdict: 'not compiling', by: '', said: broken } : await test(limit, mutant.file);
  text.set(mutant.file, sources.get(mutant.file));
  const seconds = (Date.now() - start) / 1000;
  results.push({ id: mutant.id, change: shown(mutant), verdict, by, seconds });
  console.log(`${verdict.padEnd(13)} ${seconds.toFixed(1).padStart(5)} s  ${mutant.id}: ${shown(mutant)}${by ? `  [${by}]` : ''}`);
  if (asked.verbose) console.log(said);
}
report(results);

// -------------------------------------------------------------------------------------------------------------------- mutants

/** Every place where one of the operators fits, in the order of the text. */
function mutantsOf(file, source) {
  const tree = ts.createSourceFile(file, source, ts.ScriptTarget.Latest, true);
  const found = [];
  const add = (node, operator, from, to, replacement) => {
    const { line, character } = tree.getLineAndCharacterOfPosition(from);
    found.push({ id: `${file}:${line + 1}:${character + 1} ${operator}`, file, operator, from, to, replacement });
  };
  const visit = (node) => {
    // Assertions are checks themselves; imports, types and constants hold no behaviour.
    if (ts.isImportDeclaration(node) || ts.isTypeNode(node)) return;
    if (ts.isCallExpression(node) && node.expression.getText(tree) === 'assert') return;
    if (ts.isBinaryExpression(node)) binary(node, tree, add);
    if (ts.isExpressionStatement(node) && ts.isCallExpression(node.expression) && node.expression.expression.getText(tree) !== 'assert')
      add(node, 'statement', node.getStart(tree), node.end, '{}');
    if (ts.isReturnStatement(node) && isEarly(node)) add(node, 'return', node.getStart(tree), node.end, '{}');
    ts.forEachChild(node, visit);
  };
  visit(tree);
  return found;
}

function binary(node, tree, add) {
  const { left, operatorToken, right } = node;
  const sign = operatorToken.getText(tree);
  const swap = (operator, to) => add(node, operator, operatorToken.getStart(tree), operatorToken.end, to);
  const drop = (operator) => add(node, operator, left.end, right.end, '');
  if (COMPARISONS[sign]) swap('comparison', COMPARISONS[sign]);
  if (LOGIC[sign]) swap('logic', LOGIC[sign]);
  if (SUMS[sign]) swap('sum', SUMS[sign]);
  if ((sign === '+' || sign === '-') && ts.isNumericLiteral(right)) drop('off by one');
  if (sign === '|' && isFlag(right, tree)) drop('flag');
  if (sign === '|' && isFlag(left, tree)) add(node, 'flag', left.getStart(tree), right.getStart(tree), '');
  if (sign === '&' && ts.isPrefixUnaryExpression(right) && right.operator === ts.SyntaxKind.TildeToken) drop('flag');
}

/** A named constant, as layout.ts has them. */
function isFlag(node, tree) {
  return ts.isIdentifier(node) && /^[A-Z][A-Z0-9_]*$/.test(node.getText(tree));
}

/** A return that others of the same function come after. */
function isEarly(node) {
  let top = node;
  while (!ts.isFunctionLike(top.parent?.parent ?? top.parent)) top = top.parent;
  const block = top.parent;
  return ts.isBlock(block) && block.statements.at(-1) !== top;
}

function choose(mutants) {
  const fits = mutants.filter(
    ({ id, file, operator }) =>
      (asked.only === undefined || id === asked.only) &&
      (asked.file === undefined || file === asked.file) &&
      (asked.operator === undefined || operator === asked.operator),
  );
  if (asked.all || asked.only !== undefined || fits.length <= asked.sample) return fits;
  // Fisher and Yates, as far as needed, with a generator of its own: the same sample everywhere.
  let state = Math.imul(asked.seed ^ 0x9e3779b9, 0x85ebca6b) | 1;
  const below = (n) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return Math.floor(((state >>> 0) / 2 ** 32) * n);
  };
  const shuffled = [...fits];
  for (let i = 0; i < asked.sample; i++) {
    const j = i + below(shuffled.length - i);
    [shuffled[i], shuffled[j]] = [shuffled[j], shuffled[i]];
  }
  const sample = new Set(shuffled.slice(0, asked.sample));
  return fits.filter((mutant) => sample.has(mutant));
}

function mutated({ file, from, to, replacement }) {
  const source = sources.get(file);
  return source.slice(0, from) + replacement + source.slice(to);
}

/** The line as it is, and what becomes of the piece in it. */
function shown({ file, from, to, replacement }) {
  const source = sources.get(file);
  const piece = source.slice(from, to).replace(/\s+/g, ' ').trim();
  const start = source.lastIndexOf('\n', from) + 1;
  const line = source.slice(start, source.indexOf('\n', from)).trim();
  return `${piece} -> ${replacement || 'nothing'} in \`${line.slice(0, 120)}\``;
}

// ------------------------------------------------------------------------------------------------------------ building, testing

/** Compiles in memory and puts the core where the tests look for it. Returns what the compiler had to say when it failed. */
async function compile(texts) {
  let wasm;
  const options = JSON.parse(readFileSync(join(root, 'asconfig.json'), 'utf8')).options;
  const args = ['assembly/index.ts', '--outFile', 'core.wasm', '--debug', '--memoryBase', '512', '--noColors'];
  for (const [name, value] of Object.entries(options))
    if (value === true) args.push(`--${name}`);
    else args.push(`--${name}`, Array.isArray(value) ? value.join(',') : String(value));
  const { error, stderr } = await asc.main(args, {
    readFile: (name) => texts.get(name.replace(/^assembly\//, '')) ?? null,
    writeFile: (_, contents) => (wasm = contents),
    listFiles: () => [],
  });
  if (error || !wasm) return `${error?.message ?? 'no output'}\n${stderr.toString()}`;
  for (const name of ['core.wasm', 'core.debug.wasm']) writeFileSync(join(out, name), wasm);
  const hash = createHash('sha256').update(wasm).digest('hex').slice(0, 16);
  const base64 = Buffer.from(wasm).toString('base64');
  const constants = { CORE_WASM: base64, CORE_HASH: hash, SOURCES_HASH: hash, ASSERTS: true };
  const lines = Object.entries(constants).map(([name, value]) => `export const ${name} = ${JSON.stringify(value)};\n`);
  writeFileSync(join(out, 'core-wasm.ts'), lines.join(''));
  return undefined;
}

/** The tests, against the core in build/mutants instead of the built one. */
function prepare() {
  mkdirSync(out, { recursive: true });
  const alias = [
    { find: '/^.*\\/core-wasm\\.ts$/', replacement: join(out, 'core-wasm.ts') },
    { find: '/^farfault$/', replacement: join(root, 'sdk/index.ts') },
    { find: '/^farfault\\/drivers\\/([\\w-]+)$/', replacement: join(root, 'drivers/$1/index.ts') },
    { find: '/^farfault\\/(gmem|mm|replay|testing)$/', replacement: join(root, 'sdk/$1/index.ts') },
  ];
  const rows = alias.map(({ find, replacement }) => `{ find: ${find}, replacement: ${JSON.stringify(replacement)} }`).join(',\n      ');
  writeFileSync(
    join(out, 'vitest.config.mjs'),
    `export default {
  root: ${JSON.stringify(root)},
  resolve: {
    alias: [
      ${rows},
    ],
  },
  test: {
    include: (process.env['MUTATE_TESTS'] ?? '').split(','),
    environment: 'node',
    setupFiles: ['./test/setup.ts'],
    testTimeout: 30_000,
    bail: 1,
    maxWorkers: 2,
    passWithNoTests: true,
  },
};
`,
  );
}

/** Runs the tests for `seconds` at most: killed by the first that fails, or by the clock. */
async function test(seconds, file) {
  const end = Date.now() + seconds * 1000;
  let result;
  for (const globs of asked.tests ? [asked.tests.split(',')] : stagesOf(file)) {
    result = await stage(globs, Math.max(1, end - Date.now()));
    if (result.verdict === 'killed') return result;
  }
  return result;
}

function stage(globs, milliseconds) {
  const vitest = join(root, 'node_modules/vitest/vitest.mjs');
  const args = ['run', '--config', join(out, 'vitest.config.mjs'), '--reporter=tap-flat'];
  const env = { ...process.env, CORE_BUILD: out, MUTATE_TESTS: globs.join(), NO_COLOR: '1' };
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [vitest, ...args], { cwd: root, env, stdio: ['ignore', 'pipe', 'pipe'] });
    let said = '';
    let late = false;
    child.stdout.on('data', (data) => (said += data));
    child.stderr.on('data', (data) => (said += data));
    const clock = setTimeout(() => {
      late = true;
      child.kill('SIGKILL');
    }, milliseconds);
    child.on('exit', (code) => {
      clearTimeout(clock);
      // Files that were not begun any more count as not ok, too, but have no test.
      const by = /^not ok \d+ - (\S+ > .*?)( # .*)?$/m.exec(said)?.[1] ?? '';
      if (late) resolve({ verdict: 'killed', by: 'the clock', said });
      else resolve({ verdict: code === 0 ? 'survived' : 'killed', by, said });
    });
  });
}

// --------------------------------------------------------------------------------------------------------------------- the report

function report(rows) {
  const files = [...new Set(rows.map(({ id }) => id.split(':')[0]))].sort();
  const count = (of, verdict) => of.filter((row) => row.verdict === verdict).length;
  const line = (name, of) => {
    const killed = count(of, 'killed');
    const survived = count(of, 'survived');
    const score = killed + survived === 0 ? '' : `${Math.round((100 * killed) / (killed + survived))} %`;
    return [name, of.length, killed, survived, count(of, 'not compiling'), score].map((cell, i) =>
      i === 0 ? String(cell).padEnd(16) : String(cell).padStart(13),
    );
  };
  console.log(
    `\n${['file'.padEnd(16), ...['mutants', 'killed', 'survived', 'not compiling', 'score'].map((name) => name.padStart(13))].join('')}`,
  );
  for (const file of files)
    console.log(
      line(
        file,
        rows.filter(({ id }) => id.startsWith(`${file}:`)),
      ).join(''),
    );
  console.log(line('all', rows).join(''));
  const survivors = rows.filter(({ verdict }) => verdict === 'survived');
  if (survivors.length > 0) console.log(`\nSurvivors:\n${survivors.map(({ id, change }) => `  ${id}: ${change}`).join('\n')}`);
  if (asked.json) writeFileSync(asked.json, `${JSON.stringify(rows, null, 2)}\n`);
}

function stop(message) {
  console.error(`mutate-core: ${message}`);
  process.exit(1);
}

function readArguments() {
  const counts = { sample: 20, seed: 1, limit: undefined };
  const usage =
    'usage: npm run mutate:core -- [--all | --sample n | --only id | --list] [--seed n] [--file name] [--operator name] [--tests globs] [--limit s] [--json file]';
  try {
    const { values } = parseArgs({
      options: {
        ...Object.fromEntries(
          [...Object.keys(counts), 'file', 'operator', 'only', 'json', 'tests'].map((name) => [name, { type: 'string' }]),
        ),
        ...Object.fromEntries(['all', 'list', 'verbose'].map((name) => [name, { type: 'boolean', default: false }])),
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

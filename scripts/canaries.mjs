/**
 * `npm run canaries`: is each row of docs/gmem.md held by its test? Breaks the sources as the row's canary says, and expects the row's first test to fail.
 *
 *   npm run canaries                              every row
 *   npm run canaries -- --row B6 [--row I1]       these rows
 *   npm run canaries -- --area planner            the rows of test/gmem/rows/planner.ts
 *   npm run canaries -- --sample 3                the three rows that come first in an order that only their ids decide
 *   further: --jobs n (2), --limit seconds (per row, 120), --verbose (what the tests said)
 *
 * TypeScript is broken while it is loaded (a plugin in vitest.config.ts, told by FARFAULT_CANARY), assembly/ in memory, into build/canaries. No source is touched.
 */
import { Buffer } from 'node:buffer';
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { clearTimeout, setTimeout } from 'node:timers';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { buildIfStale, requireTools } from './build-if-stale.mjs';

const root = fileURLToPath(new URL('../', import.meta.url));
const out = join(root, 'build/canaries');

requireTools(['vitest', 'typescript', 'assemblyscript'], 'try canaries');
buildIfStale('core');
const { default: ts } = await import('typescript');
const { runnerImport } = await import('vite');

const asked = readArguments();
const { module: table } = await runnerImport(join(root, 'test/gmem/rows/index.ts'), { root, configFile: false, logLevel: 'error' });
const chosen = choose(table.areas);
if (chosen.length === 0) stop('no such row, or it has no canary');

const left = [...chosen];
let alive = 0;
await Promise.all(Array.from({ length: Math.min(asked.jobs, chosen.length) }, work));
console.log(`${chosen.length} canaries, ${chosen.length - alive} dead, ${alive} alive`);
process.exit(alive > 0 ? 1 : 0);

async function work() {
  for (let row = left.shift(); row; row = left.shift()) {
    const start = Date.now();
    const problem = await attempt(row);
    if (problem) alive++;
    const seconds = ((Date.now() - start) / 1000).toFixed(1).padStart(5);
    console.log(
      `${problem ? 'ALIVE' : 'dead '} ${seconds} s  ${row.id.padEnd(3)} ${row.canary.file}: ${oneLine(row.canary)}${problem ? `\n  ${problem}` : ''}`,
    );
  }
}

/** Why the canary is still alive, or undefined. */
async function attempt(row) {
  const { file, find, replace } = row.canary;
  const source = readFileSync(join(root, file), 'utf8');
  const parts = source.split(find);
  if (parts.length !== 2) return `'${find}' is there ${parts.length - 1} times`;
  const broken = parts.join(replace);
  // A break that does not even compile would kill every test.
  const { diagnostics } = file.endsWith('.md')
    ? { diagnostics: [] }
    : ts.transpileModule(broken, { fileName: file, reportDiagnostics: true, compilerOptions: { target: 'es2022' } });
  if (diagnostics.length > 0) return `does not compile: ${ts.flattenDiagnosticMessageText(diagnostics[0].messageText, ' ')}`;
  const canary = { file, find, replace, core: file.startsWith('assembly/') ? await compile(file, broken, row.id) : undefined };
  if (canary.core?.problem) return canary.core.problem;
  const [test, ...titles] = row.tests[0].split(' > ');
  const { code, ran, said } = await runTest(test, titles.join(' '), canary);
  if (asked.verbose) console.log(reasonsIn(said));
  if (!ran) return `${test} has no test '${titles.join(' > ')}' that runs in Node`;
  return code === 0 ? `'${row.tests[0]}' passes` : undefined;
}

function runTest(file, title, canary) {
  const vitest = join(root, 'node_modules/vitest/vitest.mjs');
  const pattern = `${title.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')}$`;
  const args = ['run', '--project', 'node', file, '-t', pattern, '--bail', '1', '--reporter=json'];
  const env = { ...process.env, FARFAULT_CANARY: JSON.stringify(canary), CHROMIUM_PATH: '', NO_COLOR: '1' };
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [vitest, ...args], { cwd: root, env, stdio: ['ignore', 'pipe', 'pipe'] });
    let said = '';
    child.stdout.on('data', (data) => (said += data));
    child.stderr.on('data', (data) => (said += data));
    // A break may well make a loop endless.
    const clock = setTimeout(() => child.kill('SIGKILL'), asked.limit * 1000);
    child.on('exit', (code) => {
      clearTimeout(clock);
      const counts = /"numPassedTests":(\d+),"numFailedTests":(\d+)/.exec(said);
      // A file that cannot even be loaded has run no test: the break was noticed all the same.
      const ran = !counts || Number(counts[1]) + Number(counts[2]) > 0 || code !== 0;
      resolve({ code: code ?? 1, ran, said });
    });
  });
}

/** What the failing tests said. */
function reasonsIn(said) {
  const messages = [...said.matchAll(/"failureMessages":(\[(?:"(?:[^"\\]|\\.)*",?)+\])/g)].flatMap((match) => JSON.parse(match[1]));
  return messages.length > 0 ? messages.map((message) => message.split('\n    at ')[0]).join('\n') : said;
}

/** The core with one file broken, as the node project wants it. */
async function compile(file, broken, id) {
  const { default: asc } = await import('assemblyscript/asc');
  const { options, targets } = JSON.parse(readFileSync(join(root, 'asconfig.json'), 'utf8'));
  const args = ['assembly/index.ts', '--outFile', 'core.wasm', '--noColors'];
  for (const [name, value] of Object.entries({ ...options, ...targets.release })) {
    if (name === 'outFile') continue;
    if (value === true) args.push(`--${name}`);
    else if (value !== false) args.push(`--${name}`, Array.isArray(value) ? value.join(',') : String(value));
  }
  let wasm;
  const { error, stderr } = await asc.main(args, {
    readFile: (name) => (name === file ? broken : name.startsWith('assembly/') ? read(name) : null),
    writeFile: (_, contents) => (wasm = contents),
    listFiles: () => [],
  });
  if (error || !wasm) return { problem: `does not compile: ${error?.message ?? 'no output'}\n${stderr.toString()}` };
  mkdirSync(out, { recursive: true });
  const hash = createHash('sha256').update(wasm).digest('hex').slice(0, 16);
  const module = join(out, `${id}.ts`);
  const lines = { CORE_WASM: Buffer.from(wasm).toString('base64'), CORE_HASH: hash, SOURCES_HASH: hash };
  writeFileSync(
    module,
    Object.entries(lines)
      .map(([name, text]) => `export const ${name}: string = '${text}';\n`)
      .join(''),
  );
  return module;
}

function read(name) {
  const file = name.slice('assembly/'.length);
  return readdirSync(join(root, 'assembly')).includes(file) ? readFileSync(join(root, name), 'utf8') : null;
}

function choose(areas) {
  const all = Object.entries(areas).flatMap(([area, rows]) => rows.map((row) => ({ ...row, area })));
  const fits = all.filter(
    ({ id, area, canary }) => canary && (!asked.row || asked.row.includes(id)) && (!asked.area || asked.area === area),
  );
  if (asked.sample === undefined) return fits;
  const rank = ({ id }) => createHash('sha256').update(id).digest('hex');
  return fits.sort((a, b) => (rank(a) < rank(b) ? -1 : 1)).slice(0, asked.sample);
}

function oneLine({ find, replace }) {
  const shown = (text) => (text.trim() === '' ? 'nothing' : text.replace(/\s+/g, ' ').trim().slice(0, 80));
  return `${shown(find)} -> ${shown(replace)}`;
}

function stop(message) {
  console.error(`canaries: ${message}`);
  process.exit(1);
}

function readArguments() {
  const counts = { sample: undefined, jobs: 2, limit: 120 };
  try {
    const { values } = parseArgs({
      options: {
        ...Object.fromEntries([...Object.keys(counts), 'area'].map((name) => [name, { type: 'string' }])),
        row: { type: 'string', multiple: true },
        verbose: { type: 'boolean', default: false },
      },
    });
    for (const [name, otherwise] of Object.entries(counts)) {
      if (values[name] !== undefined && !/^[1-9]\d{0,4}$/.test(values[name])) throw new Error(`--${name} ${values[name]} is not a count`);
      values[name] = values[name] === undefined ? otherwise : Number(values[name]);
    }
    return { ...values };
  } catch (error) {
    console.error(
      `${error.message}\nusage: npm run canaries -- [--row id]... [--area name] [--sample n] [--jobs n] [--limit s] [--verbose]`,
    );
    process.exit(1);
  }
}

/**
 * `npm run mutate`: are the checks of the address space checked? Stryker over sdk/mm, whole files or a sample.
 *
 *   npm run mutate -- --mutate sdk/mm/vma.ts             every mutant of a file, or of a piece of one (sdk/mm/fault.ts:100-180): Stryker's own options
 *   npm run mutate -- --sample n [--seed n]              n mutants of all files, in proportion to what each has, chosen by the seed (1)
 *   npm run mutate -- --only 'vma.ts:62:42 EqualityOperator'   mutants as a report prints them; several of it are several mutants
 *   further: --part 2/3 (the second third of those), --tests globs (with commas between them), --long (who survives meets the long tests as well), --list (prints the mutants, and
 *   runs none), --json file (the report as data), --strict (fails when a survivor is not listed)
 *
 * The mutants are those of Stryker's instrumenter, without the kinds that scripts/stryker.config.mjs leaves out. A sample is drawn by what a mutant changes, so that an edit elsewhere
 * leaves it as it is. Survivors that nobody can tell from the original are read from docs/survivors.md. See docs/testing.md.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { buildIfStale, requireTools } from './build-if-stale.mjs';
import { LONG, QUICK } from './mutate.vitest.config.mjs';
import config from './stryker.config.mjs';

const root = fileURLToPath(new URL('../', import.meta.url));
const FOLDER = 'sdk/mm';
const LIST = 'docs/survivors.md';

const own = /^--(sample|only|list)(=|$)/;
if (!process.argv.slice(2).some((word) => own.test(word))) {
  const stryker = join(root, 'node_modules/@stryker-mutator/core/bin/stryker.js');
  const { status } = spawnSync(process.execPath, [stryker, 'run', 'scripts/stryker.config.mjs', ...process.argv.slice(2)], {
    cwd: root,
    stdio: 'inherit',
  });
  process.exit(status ?? 1);
}

const asked = readArguments();
requireTools(['@stryker-mutator/core', '@stryker-mutator/instrumenter', '@stryker-mutator/vitest-runner', 'vitest'], 'make mutants');
buildIfStale('core');
const { Instrumenter } = await import('@stryker-mutator/instrumenter');
const { Stryker } = await import('@stryker-mutator/core');

const sources = new Map(
  readdirSync(join(root, FOLDER))
    .filter((name) => name.endsWith('.ts'))
    .sort()
    .map((name) => [name, readFileSync(join(root, FOLDER, name), 'utf8')]),
);
const all = await everyMutant();
const chosen = choose(all);
if (chosen.length === 0) stop('no mutant fits');
if (asked.list) {
  for (const mutant of chosen) console.log(`${mutant.id}: ${shown(mutant)}`);
  process.exit(0);
}
const began = Date.now();
console.log(`${all.length} mutants, of which ${chosen.length} are tried.`);
let rows = await run(chosen, asked.tests?.split(',') ?? QUICK);
if (asked.long) {
  const left = rows.filter(survives);
  if (left.length > 0) {
    console.log(`\n${left.length} of them meet the long tests.`);
    const again = new Map((await run(left, LONG)).map((row) => [row.id, row]));
    rows = rows.map((row) => (survives(again.get(row.id) ?? { verdict: '' }) || !again.has(row.id) ? row : again.get(row.id)));
  }
}
report(rows);

// -------------------------------------------------------------------------------------------------------------------- mutants

/** What Stryker would try, in the order of files and lines. */
async function everyMutant() {
  const quiet = { debug() {}, info() {}, warn() {}, isDebugEnabled: () => false };
  const files = [...sources].map(([name, content]) => ({ name: join(root, FOLDER, name), mutate: true, content }));
  const { mutants } = await new Instrumenter(quiet).instrument(files, { plugins: null, ignorers: [], ...config.mutator });
  const times = new Map();
  return mutants.filter(({ status }) => status === undefined).map((mutant) => described(mutant, times));
}

/** A mutant of the instrumenter, with a name that is its alone: the replacement is told where place and kind are those of another. */
function described({ fileName, location: { start, end }, mutatorName, replacement }, times) {
  const file = relative(join(root, FOLDER), fileName);
  const place = `${file}:${start.line + 1}:${start.column + 1} ${mutatorName}`;
  const time = (times.get(place) ?? 0) + 1;
  times.set(place, time);
  return {
    id: time === 1 ? place : `${place} ${time}`,
    file,
    mutator: mutatorName,
    replacement,
    start,
    end,
    key: keyOfPlace(fileName, { start, end }, mutatorName, replacement),
  };
}

function keyOfPlace(file, { start, end }, mutator, replacement) {
  return [relative(root, resolve(root, file)), start.line, start.column, end.line, end.column, mutator, replacement].join(' ');
}

function choose(mutants) {
  let fits = mutants;
  if (asked.only) {
    const wanted = new Set(asked.only);
    fits = mutants.filter(({ id }) => wanted.delete(id));
    if (wanted.size > 0) stop(`no mutant is called ${[...wanted].join(', ')}`);
  } else if (asked.sample < mutants.length) {
    const drawn = new Set(sample(mutants, asked.sample));
    fits = mutants.filter((mutant) => drawn.has(mutant));
  }
  const [part, parts] = asked.part;
  return fits.filter((_, i) => i % parts === part - 1);
}

/** From each file as many as are its due, one at least where that leaves room, by the largest remainder; within a file by lot. */
function sample(mutants, n) {
  const times = new Map();
  const shares = [...grouped(mutants)].map(([file, of]) => ({ file, of, due: (n * of.length) / mutants.length }));
  const count = new Map(shares.map(({ file, due }) => [file, Math.max(1, Math.floor(due))]));
  let left = n - [...count.values()].reduce((sum, each) => sum + each, 0);
  const byRemainder = shares.filter(({ due }) => due > 1).sort((a, b) => (b.due % 1) - (a.due % 1));
  for (let i = 0; left > 0; i = (i + 1) % byRemainder.length, left--) count.set(byRemainder[i].file, count.get(byRemainder[i].file) + 1);
  for (; left < 0; left++) {
    const [most] = [...count].reduce((one, other) => (other[1] > one[1] ? other : one));
    count.set(most, count.get(most) - 1);
  }
  return shares.flatMap(({ file, of }) => {
    const drawn = of.map((mutant) => {
      const key = `${file} ${mutant.mutator} ${shown(mutant)}`;
      const time = (times.get(key) ?? 0) + 1;
      times.set(key, time);
      return { mutant, lot: createHash('sha256').update(`${asked.seed} ${time} ${key}`).digest('hex') };
    });
    drawn.sort((a, b) => (a.lot < b.lot ? -1 : 1));
    return drawn.slice(0, count.get(file)).map(({ mutant }) => mutant);
  });
}

function grouped(mutants) {
  const files = new Map();
  for (const mutant of mutants) files.set(mutant.file, [...(files.get(mutant.file) ?? []), mutant]);
  return files;
}

/** The piece, what becomes of it, and its line. */
function shown({ file, start, end, replacement }) {
  const lines = sources.get(file).split('\n');
  const inside = lines.slice(start.line, end.line + 1);
  inside[inside.length - 1] = inside.at(-1).slice(0, end.column);
  inside[0] = inside[0].slice(start.column);
  const piece = (text) => text.replace(/\s+/g, ' ').trim().slice(0, 80);
  return `${piece(inside.join('\n'))} -> ${piece(replacement) || 'nothing'} in \`${lines[start.line].trim().slice(0, 120)}\``;
}

// -------------------------------------------------------------------------------------------------------------------- running

/** Stryker with these mutants and these tests, in this process. A range has all that is inside of it: what was not drawn is marked as not to be run. */
async function run(mutants, tests) {
  const wanted = new Map(mutants.map((mutant) => [mutant.key, mutant]));
  const { instrument } = Instrumenter.prototype;
  Instrumenter.prototype.instrument = async function (...given) {
    const made = await instrument.apply(this, given);
    for (const mutant of made.mutants)
      if (!wanted.has(keyOfPlace(mutant.fileName, mutant.location, mutant.mutatorName, mutant.replacement))) mutant.status = 'Ignored';
    return made;
  };
  process.env['MUTATE_TESTS'] = tests.join(',');
  try {
    const results = await new Stryker({
      ...config,
      mutate: mutants.map(({ file, start, end }) => `${FOLDER}/${file}:${start.line + 1}:${start.column}-${end.line + 1}:${end.column}`),
      reporters: ['lines'],
      plugins: [...config.plugins, fileURLToPath(new URL('./mutate-mm-lines.mjs', import.meta.url))],
      concurrency: 1,
      // What runs while tests are being set up runs in some of them as well: those say enough.
      ignoreStatic: true,
      timeoutMS: 5000,
      logLevel: 'error',
    }).runMutationTest();
    return results.flatMap(({ fileName, location, mutatorName, replacement, status, killedBy }) => {
      // What has been tried counts lines and columns from 1.
      const at = ({ line, column }) => ({ line: line - 1, column: column - 1 });
      const place = { start: at(location.start), end: at(location.end) };
      const mutant = wanted.get(keyOfPlace(fileName, place, mutatorName, replacement));
      return mutant ? [{ id: mutant.id, file: mutant.file, change: shown(mutant), verdict: status, by: killedBy?.[0] ?? '' }] : [];
    });
  } finally {
    Instrumenter.prototype.instrument = instrument;
  }
}

// --------------------------------------------------------------------------------------------------------------------- the report

function survives({ verdict }) {
  return verdict === 'Survived' || verdict === 'NoCoverage';
}

function report(results) {
  const known = listed();
  const isKnown = ({ file, change }) => known.has(`${file} ${squeezed(change)}`);
  const line = (name, of) => {
    const count = (verdict) => of.filter((row) => row.verdict === verdict).length;
    const equivalent = of.filter((row) => survives(row) && isKnown(row)).length;
    const caught = count('Killed') + count('Timeout');
    const could = caught + of.filter(survives).length - equivalent;
    const cells = [of.length, count('Killed'), count('Timeout'), count('Survived'), count('NoCoverage'), equivalent];
    return [
      name.padEnd(24),
      ...cells.map((cell) => String(cell).padStart(11)),
      (could === 0 ? '' : `${Math.round((100 * caught) / could)} %`).padStart(11),
    ].join('');
  };
  const heads = ['mutants', 'killed', 'timed out', 'survived', 'no test', 'equivalent', 'score'];
  console.log(`\n${['file'.padEnd(24), ...heads.map((head) => head.padStart(11))].join('')}`);
  for (const [file, of] of grouped(results)) console.log(line(file, of));
  console.log(line('all', results));
  const survivors = results.filter((row) => survives(row) && !isKnown(row));
  if (survivors.length > 0)
    console.log(
      `\nSurvivors that are not listed as equivalent:\n${survivors.map(({ id, change }) => `| \`${id}\` | \`${change.replaceAll('`', '').replaceAll('|', '\\|')}\` |`).join('\n')}`,
    );
  console.log(`\n${((Date.now() - began) / 1000).toFixed(0)} s`);
  if (asked.json) writeFileSync(asked.json, `${JSON.stringify(results, null, 2)}\n`);
  if (asked.strict && survivors.length > 0) process.exitCode = 1;
}

/** Mutants that nobody can tell from the original: by file and change, since lines move. */
function listed() {
  const text = readFileSync(join(root, LIST), 'utf8');
  const found = new Set();
  for (const section of text.split(/^## /m).filter((each) => /^sdk\/mm: equivalent/.test(each)))
    for (const [, file, change] of section.matchAll(/^\| *`([\w.-]+\.ts):[^`]*` *\| *`(.*?)` *\|/gm))
      found.add(`${file} ${squeezed(change)}`);
  return found;
}

/** As it is in a cell of a table. */
function squeezed(text) {
  return text.replaceAll('`', '').replaceAll('\\|', '|').replace(/\s+/g, ' ').trim();
}

function stop(message) {
  console.error(`mutate: ${message}`);
  process.exit(1);
}

function readArguments() {
  const usage =
    'usage: npm run mutate -- (--sample n [--seed n] | --only id | --list | --mutate file) [--part 1/3] [--tests globs] [--long] [--json file] [--strict]';
  try {
    const { values } = parseArgs({
      options: {
        ...Object.fromEntries(['sample', 'seed', 'part', 'tests', 'json'].map((name) => [name, { type: 'string' }])),
        ...Object.fromEntries(['list', 'long', 'strict'].map((name) => [name, { type: 'boolean', default: false }])),
        only: { type: 'string', multiple: true },
      },
    });
    for (const [name, otherwise] of [
      ['sample', Infinity],
      ['seed', 1],
    ]) {
      if (values[name] !== undefined && !/^\d{1,9}$/.test(values[name])) throw new Error(`--${name} ${values[name]} is not a count`);
      values[name] = values[name] === undefined ? otherwise : Number(values[name]);
    }
    const [, part, parts] = /^(\d+)\/(\d+)$/.exec(values.part ?? '1/1') ?? [];
    if (!(Number(part) >= 1 && Number(part) <= Number(parts))) throw new Error(`--part ${values.part} is not one like 2/3`);
    return { ...values, part: [Number(part), Number(parts)] };
  } catch (error) {
    console.error(`${error.message}\n${usage}`);
    process.exit(1);
  }
}

/**
 * `npm run bench:lines -- ROW`: how many instructions each line takes for one item of a row of the bench, by valgrind. Instructions do not depend on what else the machine does, and they say what a profile by samples blurs.
 *
 *   npm run bench:lines -- fault.device.hot [--runs n] [--least n]      two processes, of n (1000) and of 3 n runs; lines of at least n (4) instructions
 *
 * What is counted is the difference of the two, so that loading and compiling fall out, by the items of the runs. Lines are those of the package as built, in one file; functions of the core have their names from `assembly`. Whatever a run
 * does beside its work (its reset) is counted too; what V8 and its libraries do themselves, to compile, to collect garbage and to print its code, is left out.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { buildIfStale, requireTools } from './build-if-stale.mjs';

const root = fileURLToPath(new URL('../', import.meta.url));
const folder = join(root, 'build/bench-lines');
const bundle = join(folder, 'entry.js');

const { row, runs, least } = readArguments();
requireTools(['tsup', 'assemblyscript'], 'count instructions');
if (spawnSync('valgrind', ['--version']).status !== 0) stop('valgrind is not installed: it is what counts');
buildIfStale();
rmSync(folder, { recursive: true, force: true });
mkdirSync(folder, { recursive: true });
await bundled(row.split('.')[0]);
const names = coreNames();
const few = counted(runs);
const many = counted(3 * runs);
print(difference(many.functions, few.functions), many.items - few.items);

/** Everything in one file, so that a place in it says which line is meant. */
async function bundled(bench) {
  const file = ['lookup', 'walk', 'map', 'unmap', 'protect', 'snapshot'].includes(bench) ? 'table' : bench === 'migrate' ? 'copy' : bench;
  const entry = join(folder, 'entry.ts');
  writeFileSync(
    entry,
    `import { rows } from '../../bench/${file}.bench.ts';
import { repeat } from '../../bench/repeat.ts';
const [name, times] = process.argv.slice(2);
const list = rows();
console.log('items ' + list.find((each) => each.name === name)?.items);
await repeat(list, name!, Number(times));
`,
  );
  const { exports } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  const alias = Object.entries(exports)
    .filter(([, target]) => target.import)
    .map(([path, target]) => [join('farfault', path), join(root, target.import.default)]);
  const { build } = await import('tsup');
  await build({
    config: false,
    silent: true,
    entry: { entry },
    format: ['esm'],
    target: 'node20',
    platform: 'node',
    splitting: false,
    noExternal: [/^farfault/],
    external: ['assemblyscript/asc'],
    esbuildOptions(options) {
      options.alias = Object.fromEntries(alias);
    },
    outDir: folder,
  });
}

/** The functions of the core in their order: the release build says no names. */
function coreNames() {
  const text = join(folder, 'core.wat');
  const asc = join(root, 'node_modules/assemblyscript/bin/asc.js');
  spawnSync(process.execPath, [asc, '--target', 'release', '--debug', '--outFile', join(folder, 'core.wasm'), '--textFile', text], {
    cwd: root,
  });
  return [...readFileSync(text, 'utf8').matchAll(/^ \(func \$(\S+)/gm)].map(([, name]) => name.replace('assembly/', ''));
}

/** Instructions of a process that does the row's work so often: by function and line, all in all. */
function counted(times) {
  const out = join(folder, `callgrind.${times}`);
  const options = ['--tool=callgrind', `--callgrind-out-file=${out}`, '--dump-instr=yes', '--smc-check=all-non-file'];
  const flags = ['--single-threaded', '--print-opt-code', '--print-wasm-code'];
  const child = spawnSync('valgrind', [...options, process.execPath, ...flags, bundle, row, String(times)], {
    maxBuffer: 2 ** 30,
    encoding: 'utf8',
  });
  const items = /^items (\d+)$/m.exec(child.stdout);
  if (child.status !== 0 || !items) stop(`counting ${row} failed: ${child.stderr.slice(-400)}`);
  return { items: Number(items[1]) * times, functions: byLine(readFileSync(out, 'utf8'), codeIn(child.stdout)) };
}

/** V8's listing of what it compiled: where each function stands, and which place in the source its instructions come from. */
function codeIn(listing) {
  const codes = [];
  let name = '';
  let code;
  let inPositions = false;
  for (const line of listing.split('\n')) {
    const [, key, value] = /^(name|index): (?:wasm-function\[)?(\S+?)\]?$/.exec(line) ?? /^(name) = (.*)$/.exec(line) ?? [];
    if (key) name = key === 'index' ? `core: ${names[Number(value)]}` : value;
    const size = /^Instructions \(size = (\d+)\)/.exec(line);
    if (size) codes.push((code = { name, bytes: Number(size[1]), start: 0, positions: [] }));
    const first = code?.start === 0 && /^0x([0-9a-f]+) +0 /.exec(line);
    if (first) code.start = parseInt(first[1], 16);
    if (line !== '' && !line.startsWith(' ')) inPositions = line.startsWith('Source positions') && !name.startsWith('core');
    const place = inPositions && /^ +([0-9a-f]+) +(\d+)/.exec(line);
    if (place) code.positions.push([parseInt(place[1], 16), Number(place[2])]);
  }
  return codes.sort((a, b) => a.start - b.start);
}

/** Adds the cost of every instruction to its function and line; what V8 did not compile is named as callgrind names it. */
function byLine(callgrind, codes) {
  const functions = new Map();
  const called = new Map();
  let address = 0;
  let own = '';
  let isCall = false;
  for (const line of callgrind.split('\n')) {
    const [, kind, id, text] = /^(c?fn)=\((\d+)\)(?: (.*))?$/.exec(line) ?? [];
    if (kind) {
      if (text) called.set(id, text);
      if (kind === 'fn') own = called.get(id);
      continue;
    }
    if (line.startsWith('calls=')) {
      isCall = true;
      continue;
    }
    const [, at, cost] = /^(0x[0-9a-f]+|[+-]\d+|\*) \S+ (\d+)/.exec(line) ?? [];
    if (!at) continue;
    address = at.startsWith('0x') ? parseInt(at, 16) : at === '*' ? address : address + Number(at);
    // The line behind a call has what the callee cost.
    if (!isCall) add(functions, codes, address, own, Number(cost));
    isCall = false;
  }
  return functions;
}

function add(functions, codes, address, own, cost) {
  const code = around(codes, address);
  const name = code?.name ?? (own.startsWith('0x') ? 'builtins and baseline code' : own);
  let lines = functions.get(name);
  if (!lines) functions.set(name, (lines = new Map()));
  let place = -1;
  for (const [offset, position] of code?.positions ?? []) {
    if (offset > address - code.start) break;
    place = position;
  }
  lines.set(place, (lines.get(place) ?? 0) + cost);
}

function around(codes, address) {
  let low = 0;
  let high = codes.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (codes[middle].start <= address) low = middle + 1;
    else high = middle;
  }
  // Code that was thrown away may have stood here before.
  for (let i = low - 1; i >= 0 && i > low - 4; i--) if (address < codes[i].start + codes[i].bytes) return codes[i];
  return undefined;
}

function difference(many, few) {
  for (const [name, lines] of many) for (const [place, cost] of lines) lines.set(place, cost - (few.get(name)?.get(place) ?? 0));
  return many;
}

/** What V8 does itself: its own functions, and those of the libraries that it prints its code with. What V8 has compiled has places in the source; what copies and clears memory is the row's. */
function isOfHost(name, lines) {
  if (name.startsWith('core: ') || [...lines.keys()].some((place) => place >= 0)) return false;
  return /^(v8|disasm|std|operator)\b|^_(IO|int)_|^__(v|str|pthread)|^(malloc|free|fwrite|new_do_write)$/.test(name);
}

function print(functions, items) {
  const source = readFileSync(bundle, 'utf8');
  const total = (lines) => [...lines.values()].reduce((sum, cost) => sum + cost, 0) / items;
  const sorted = [...functions]
    .filter(([name, lines]) => !isOfHost(name, lines))
    .map(([name, lines]) => ({ name, lines, cost: total(lines) }))
    .sort((a, b) => b.cost - a.cost);
  console.log(`${row}: ${sorted.reduce((sum, { cost }) => sum + cost, 0).toFixed(0)} instructions an item\n`);
  for (const { name, lines, cost } of sorted) {
    if (cost < 2 * least) break;
    console.log(`${cost.toFixed(0).padStart(6)}  ${name}`);
    const bySourceLine = new Map();
    for (const [place, each] of lines) {
      if (place < 0) continue;
      const start = source.lastIndexOf('\n', place - 1) + 1;
      bySourceLine.set(start, (bySourceLine.get(start) ?? 0) + each / items);
    }
    for (const [start, each] of [...bySourceLine].sort(([a], [b]) => a - b)) {
      if (each >= least)
        console.log(`${each.toFixed(0).padStart(12)}  ${source.slice(start, source.indexOf('\n', start)).trim().slice(0, 140)}`);
    }
  }
}

function readArguments() {
  try {
    const options = { runs: { type: 'string', default: '1000' }, least: { type: 'string', default: '4' } };
    const { values, positionals } = parseArgs({ options, allowPositionals: true });
    for (const name of ['runs', 'least'])
      if (!/^[1-9][0-9]*$/.test(values[name])) throw new Error(`--${name} ${values[name]} is not a positive count`);
    if (positionals.length !== 1) throw new Error('which row? For example: npm run bench:lines -- fault.device.hot');
    return { row: positionals[0], runs: Number(values.runs), least: Number(values.least) };
  } catch (error) {
    return stop(error.message);
  }
}

function stop(message) {
  console.error(message);
  process.exit(2);
}

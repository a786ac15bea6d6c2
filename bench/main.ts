/** Runs benches, pair by pair, and prints their table: `main.js PAIRS JSON_FILE PATTERN BENCH...`. Started by scripts/bench.mjs. */
import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { Effort, Measured } from './measure.ts';
import { compileNative, measureNative, type NativePrograms } from './native.ts';
import { growthOf } from './growth.ts';
import { format, isQuiet, pairUp, type Result } from './pairs.ts';
import { rows as calibrations } from './calibration.bench.ts';
import type { Peer, Row } from './row.ts';
import { packageRoot } from './workload.ts';

const EFFORT: Effort = { warmUpMs: 800, runMs: 300 };

const [pairs, json, pattern, ...benches] = process.argv.slice(2) as [string, string, string, ...string[]];
const wanted = new RegExp(pattern);
const native = compileNative(join(packageRoot(), 'build/bench/native'));
for (const line of native.missing) console.log(line);

const results: Result[] = [];
const loop = calibrations().find(({ peers }) => isHere(peers[0]!, native))!;
const first = await measured('calibration', loop, loop.peers[0]);
report(first);
for (const bench of benches) {
  const { rows } = (await import(new URL(`${bench}.bench.js`, import.meta.url).href)) as { rows: () => readonly Row[] };
  for (const row of rows().filter(({ name }) => wanted.test(name))) {
    if (row.growth) {
      report(await growthOf(row, Number(pairs), (size) => contenderOf(bench, row, size.label)));
      continue;
    }
    if (row.goal || row.peers.length === 0) report(await measured(bench, row, undefined));
    for (const peer of row.peers) if (isHere(peer, native)) report(await measured(bench, row, peer));
  }
}
// Once more: the machine may have changed its mind on the way.
const last = await measured('calibration', loop, loop.peers[0]);
results.push(last);
const quiet = isQuiet(first) && isQuiet(last);
console.log(`\n${format(results)}\n`);
console.log(
  quiet
    ? 'The machine was quiet: a loop beside itself came to 1 within 5 % at the beginning and at the end.'
    : 'The machine was too busy to be judged: a loop beside itself did not come to 1 within 5 %. Believe only ratios whose spread is narrow, or run again.',
);
const machine = { processor: cpus()[0]!.model, cores: cpus().length, node: process.version };
if (json !== '-') writeFileSync(json, `${JSON.stringify({ machine, calibration: { first, last, quiet }, results }, undefined, 2)}\n`);

function report(result: Result): void {
  results.push(result);
  // What comes later may take minutes.
  process.stderr.write(
    `${result.name}${result.peer === '-' ? '' : `, ${result.peer}`}: ${(result.exponent ?? result.ratio ?? result.ours).toPrecision(3)}\n`,
  );
}

/** Each turn in a fresh process. */
async function measured(bench: string, row: Row, peer: Peer | undefined): Promise<Result> {
  return pairUp(row, peer, Number(pairs), async (side) => {
    const contender = side === 'ours' ? row.ours : side.contender;
    if (typeof contender !== 'function') return measureNative(native, contender, EFFORT);
    return contenderOf(bench, row, side === 'ours' ? 'ours' : side.name);
  });
}

/** One side of a row, in a fresh process. */
async function contenderOf(bench: string, { name }: Row, side: string): Promise<Measured> {
  const args = [bench, name, side, String(EFFORT.warmUpMs), String(EFFORT.runMs)];
  const script = fileURLToPath(new URL('contender.js', import.meta.url));
  const { stdout } = await promisify(execFile)(process.execPath, [script, ...args], { maxBuffer: 2 ** 26 });
  return JSON.parse(stdout) as Measured;
}

function isHere({ contender }: Peer, { paths }: NativePrograms): boolean {
  return typeof contender === 'function' || paths.has(contender.program);
}

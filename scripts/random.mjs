/**
 * `npm run random`: random programs on the machine and on the naive model, for as long as you like.
 *
 *   npm run random -- [--seed n] [--programs n] [--operations n]    programs of the seeds n, n + 1, ...
 *   npm run random -- --program '<text>'                            one program, as a failure prints it
 */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { buildIfStale, requireTools } from './build-if-stale.mjs';

const root = fileURLToPath(new URL('../', import.meta.url));
const COUNTS = ['seed', 'programs', 'operations'];

const asked = readArguments();
requireTools(['vitest', 'typescript'], 'run random programs');
buildIfStale('core');

const vitest = join(root, 'node_modules/vitest/vitest.mjs');
const args = ['run', '--project', 'node', 'test/random/programs.node.test.ts', '--disable-console-intercept'];
const env = { ...process.env, FARFAULT_RANDOM: JSON.stringify(asked) };
const child = spawn(process.execPath, [vitest, ...args], { cwd: root, stdio: 'inherit', env });
child.on('exit', (code, signal) => (signal ? process.kill(process.pid, signal) : process.exit(code ?? 1)));

function readArguments() {
  try {
    const options = Object.fromEntries([...COUNTS, 'program'].map((name) => [name, { type: 'string' }]));
    const { values } = parseArgs({ options });
    for (const name of COUNTS) {
      if (values[name] === undefined) continue;
      if (!/^\d{1,9}$/.test(values[name])) throw new Error(`--${name} ${values[name]} is not a count`);
      values[name] = Number(values[name]);
    }
    return { ...values };
  } catch (error) {
    console.error(`${error.message}\nusage: npm run random -- [--seed n] [--programs n] [--operations n] | --program '<text>'`);
    process.exit(1);
  }
}

/**
 * `npm run fuzz -- [seed] [operations]`: random programs over five spaces and three devices, on the machine and on the value model.
 *
 * Prints how far it is, and in the end the hash of everything seen: the same for the same seed, operations and version. The first difference ends it, with the
 * smallest program that shows it and the command that runs it again.
 */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { buildIfStale, requireTools } from './build-if-stale.mjs';

const root = fileURLToPath(new URL('../', import.meta.url));
const [seed = '1', operations = '100000', ...rest] = process.argv.slice(2);
for (const [name, text] of [
  ['seed', seed],
  ['operations', operations],
]) {
  if (/^\d{1,9}$/.test(text)) continue;
  console.error(`${name} ${text} is not a count\nusage: npm run fuzz -- [seed] [operations]`);
  process.exit(1);
}
if (rest.length > 0) {
  console.error(`${rest[0]} is one argument too many\nusage: npm run fuzz -- [seed] [operations]`);
  process.exit(1);
}
requireTools(['vitest', 'typescript'], 'run random programs');
buildIfStale('core');

const vitest = join(root, 'node_modules/vitest/vitest.mjs');
const args = ['run', '--project', 'node', 'test/fuzz/fuzz.node.test.ts', '--disable-console-intercept'];
const env = { ...process.env, FARFAULT_FUZZ: JSON.stringify({ seed: Number(seed), operations: Number(operations) }) };
const child = spawn(process.execPath, [vitest, ...args], { cwd: root, stdio: 'inherit', env });
child.on('exit', (code, signal) => (signal ? process.kill(process.pid, signal) : process.exit(code ?? 1)));

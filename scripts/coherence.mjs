/**
 * `npm run coherence -- [seed] [operations]`: random programs over three spaces and four devices that answer late. Every load must see the last write, or one that was under way.
 *
 * Prints how far it is, and in the end the hash of what was seen: the same for the same seed, operations and version. The first load that is wrong ends it, with the program's seed.
 */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { buildIfStale, requireTools } from './build-if-stale.mjs';

const root = fileURLToPath(new URL('../', import.meta.url));
const [seed = '1', operations = '100000', ...rest] = process.argv.slice(2);
for (const text of [seed, operations, ...rest]) {
  if (/^\d{1,9}$/.test(text) && rest.length === 0) continue;
  console.error(
    `${rest[0] ?? text} is ${rest.length > 0 ? 'one argument too many' : 'not a count'}\nusage: npm run coherence -- [seed] [operations]`,
  );
  process.exit(1);
}
requireTools(['vitest', 'typescript'], 'run random programs');
buildIfStale('core');

const vitest = join(root, 'node_modules/vitest/vitest.mjs');
const args = ['run', '--project', 'node', 'test/gmem/coherence.node.test.ts', '-t', 'every load sees', '--disable-console-intercept'];
const env = {
  ...process.env,
  FARFAULT_COHERENCE: JSON.stringify({ seed: Number(seed), operations: Number(operations) }),
  CHROMIUM_PATH: '',
};
const child = spawn(process.execPath, [vitest, ...args], { cwd: root, stdio: 'inherit', env });
child.on('exit', (code, signal) => (signal ? process.kill(process.pid, signal) : process.exit(code ?? 1)));

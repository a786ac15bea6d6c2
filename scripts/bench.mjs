/**
 * `npm run bench`: compiles bench/*.bench.ts and runs each in a fresh Node process, against the built package. Arguments choose files
 * by a part of their name: `npm run bench -- fault`. What follows `--` goes to the benches.
 */
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { buildIfStale, requireTools } from './build-if-stale.mjs';

const root = fileURLToPath(new URL('../', import.meta.url));

requireTools(['tsup', 'tinybench'], 'run the benches');
buildIfStale();

const args = process.argv.slice(2);
const split = args.includes('--') ? args.indexOf('--') : args.length;
const wanted = args.slice(0, split);
const names = readdirSync(join(root, 'bench'))
  .filter((file) => file.endsWith('.bench.ts'))
  .map((file) => file.slice(0, -'.ts'.length))
  .filter((name) => wanted.length === 0 || wanted.some((part) => name.includes(part)));
if (names.length === 0) {
  console.error(`No bench matches ${wanted.join(' ') || 'bench/*.bench.ts'}.`);
  process.exit(1);
}

const { build } = await import('tsup');
await build({
  config: false,
  silent: true,
  entry: Object.fromEntries(names.map((name) => [name, `bench/${name}.ts`])),
  format: ['esm'],
  target: 'node20',
  platform: 'node',
  removeNodeProtocol: false,
  // Measured as users get it: the package by its own name, from dist.
  external: [/^farfault(\/|$)/],
  outDir: 'build/bench',
  clean: true,
});

for (const name of names) {
  console.log(`\n${name}`);
  const result = spawnSync(process.execPath, [join(root, `build/bench/${name}.js`), ...args.slice(split + 1)], {
    cwd: root,
    stdio: 'inherit',
  });
  if (result.status !== 0) process.exit(result.status ?? 1);
}

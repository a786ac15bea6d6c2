/**
 * `npm run bench`: compiles bench/*.bench.ts and runs each in a fresh Node process, against the built package. Arguments choose files by a part of
 * their name; `--json FILE` also writes the results: `npm run bench -- fault --json fault.json`.
 */
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { buildIfStale, requireTools } from './build-if-stale.mjs';

const root = fileURLToPath(new URL('../', import.meta.url));
const { positionals: wanted, values } = parseArgs({ allowPositionals: true, options: { json: { type: 'string' } } });

requireTools(['tsup', 'tinybench'], 'run the benches');

const names = readdirSync(join(root, 'bench'))
  .filter((file) => file.endsWith('.bench.ts'))
  .map((file) => file.slice(0, -'.bench.ts'.length))
  .filter((name) => wanted.length === 0 || wanted.some((part) => name.includes(part)));
if (names.length === 0) {
  console.error(`No bench matches ${wanted.join(' ') || 'bench/*.bench.ts'}.`);
  process.exit(1);
}
buildIfStale();

const { build } = await import('tsup');
await build({
  config: false,
  silent: true,
  entry: { main: 'bench/main.ts', ...Object.fromEntries(names.map((name) => [`${name}.bench`, `bench/${name}.bench.ts`])) },
  format: ['esm'],
  target: 'node20',
  platform: 'node',
  removeNodeProtocol: false,
  // Measured as users get it: the package by its own name, from dist.
  external: [/^farfault(\/|$)/],
  outDir: 'build/bench',
  clean: true,
});

const benches = {};
for (const name of names) {
  console.log(`\n${name}`);
  const json = join(root, `build/bench/${name}.json`);
  const result = spawnSync(process.execPath, [join(root, 'build/bench/main.js'), name, json], { cwd: root, stdio: 'inherit' });
  if (result.status !== 0) process.exit(result.status ?? 1);
  benches[name] = JSON.parse(readFileSync(json, 'utf8'));
}
if (values.json) writeFileSync(values.json, `${JSON.stringify({ schema: 1, node: process.version, benches }, undefined, 2)}\n`);

/**
 * Builds what is missing or older than its sources: the core, then the package in dist. With the argument `core`, only the core.
 * Says nothing when there is nothing to do.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const root = fileURLToPath(new URL('../', import.meta.url));

const CORE = {
  sources: ['assembly', 'asconfig.json', 'scripts/embed.mjs'],
  outputs: ['build/core.wasm', 'build/core.debug.wasm', 'build/core-wasm.debug.ts', 'sdk/core/core-wasm.ts'],
  script: 'build:core',
  tools: ['assemblyscript'],
};

const PACKAGE = {
  sources: [...CORE.sources, 'sdk', 'drivers', 'cli', 'package.json', 'tsconfig.json', 'tsup.config.ts'],
  outputs: ['dist/index.js', 'dist/index.cjs', 'dist/index.d.ts', 'dist/cli.js', 'dist/core.wasm'],
  script: 'build',
  tools: ['assemblyscript', 'tsup'],
};

export function buildIfStale(what = 'package') {
  const { sources, outputs, script, tools } = what === 'core' ? CORE : PACKAGE;
  if (!isStale(sources, outputs)) return;
  requireTools(tools, 'build farfault');
  console.log(what === 'core' ? 'Building the core.' : 'Building farfault.');
  const result = spawnSync('npm', ['run', '--silent', script], { cwd: root, stdio: 'inherit', shell: process.platform === 'win32' });
  if (result.status !== 0) process.exit(result.status ?? 1);
}

/** Stops with one sentence when development tools were left out of the installation. */
export function requireTools(tools, purpose) {
  const missing = tools.filter((tool) => !existsSync(join(root, 'node_modules', tool)));
  if (missing.length === 0) return;
  const cause = process.env['NODE_ENV'] === 'production' ? ' because NODE_ENV=production leaves development tools out' : '';
  const cure = cause ? 'run `npm ci --include=dev`' : 'run `npm ci`';
  console.error(`Cannot ${purpose}: ${missing.join(', ')} not installed${cause}; ${cure} first.`);
  process.exit(1);
}

function isStale(sources, outputs) {
  const oldest = Math.min(...outputs.map((file) => (existsSync(join(root, file)) ? statSync(join(root, file)).mtimeMs : 0)));
  return oldest === 0 || sources.some((source) => newest(source) > oldest);
}

/** Modification time of a file, or the latest in a folder. */
function newest(path) {
  const full = join(root, path);
  if (!existsSync(full)) return 0;
  if (!statSync(full).isDirectory()) return statSync(full).mtimeMs;
  const inside = readdirSync(full, { withFileTypes: true }).map((entry) => newest(join(path, entry.name)));
  // A folder's own time changes when a file in it goes away.
  return Math.max(statSync(full).mtimeMs, ...inside);
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) buildIfStale(process.argv[2]);

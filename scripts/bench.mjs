/** `npm run bench`: our own ways beside those of others, pair by pair, each turn in a fresh process, against the built package. See bench/README.md and `--help`. */
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { buildIfStale, requireTools } from './build-if-stale.mjs';

const HELP = `Usage: npm run bench -- [--only PATTERN] [--pairs N] [--json FILE]

Measures each row beside its peers, N turns of each in fresh processes (default 9), and prints the ratios, their spread and the goals.
  --only PATTERN   rows whose name matches this regular expression; all of them take an hour or more
  --pairs N        turns of each; fewer than 9 are for a first look
  --json FILE      what was measured, for a program
bench/README.md explains every row, and how a noisy run is read.`;

const root = fileURLToPath(new URL('../', import.meta.url));
const { only = '', pairs = '9', json } = readArguments();

requireTools(['tsup', 'tinybench', 'assemblyscript'], 'run the benches');

const names = readdirSync(join(root, 'bench'))
  .filter((file) => file.endsWith('.bench.ts') && file !== 'calibration.bench.ts')
  .map((file) => file.slice(0, -'.bench.ts'.length));
buildIfStale();

const { build } = await import('tsup');
await build({
  config: false,
  silent: true,
  entry: {
    main: 'bench/main.ts',
    contender: 'bench/contender.ts',
    ...Object.fromEntries(names.map((name) => [`${name}.bench`, `bench/${name}.bench.ts`])),
  },
  format: ['esm'],
  target: 'node20',
  platform: 'node',
  removeNodeProtocol: false,
  // Measured as users get it: the package by its own name, from dist.
  external: [/^farfault(\/|$)/, 'assemblyscript/asc'],
  outDir: 'build/bench',
  clean: true,
});

const args = [join(root, 'build/bench/main.js'), pairs, json === undefined ? '-' : resolve(json), only, ...names];
const { status } = spawnSync(process.execPath, args, { cwd: root, stdio: 'inherit' });
process.exit(status ?? 1);

function readArguments() {
  const options = { help: { type: 'boolean' }, only: { type: 'string' }, pairs: { type: 'string' }, json: { type: 'string' } };
  try {
    const { values } = parseArgs({ options });
    if (values.help) {
      console.log(HELP);
      process.exit(0);
    }
    if (values.pairs !== undefined && !/^[1-9][0-9]*$/.test(values.pairs))
      throw new Error(`--pairs ${values.pairs} is not a positive count`);
    if (values.only !== undefined) new RegExp(values.only);
    return values;
  } catch (error) {
    console.error(`${error.message}\n\n${HELP}`);
    process.exit(2);
  }
}

/**
 * `npm run oracle`: random programs on the machine and on the oracle, which knows every entry, for as long as you like.
 *
 *   npm run oracle -- [seed] [operations]        programs from that seed on (default: 1, 200000)
 *   npm run oracle -- --program '<text>'         one program, as a failure prints it
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { buildIfStale, requireTools } from './build-if-stale.mjs';

const root = fileURLToPath(new URL('../', import.meta.url));
const args = process.argv.slice(2);
const isText = args[0] === '--program';
if (isText ? args.length !== 2 : args.length > 2 || args.some((arg) => !/^\d{1,9}$/.test(arg))) {
  console.error("usage: npm run oracle -- [seed] [operations] | --program '<text>'");
  process.exit(1);
}
requireTools(['tsup', 'typescript'], 'run random programs');
buildIfStale('core');

const { build } = await import('esbuild');
mkdirSync(join(root, 'build'), { recursive: true });
const outfile = join(root, 'build', 'oracle.mjs');
const entryPoints = [join(root, 'test/random/oracle-main.ts')];
await build({ entryPoints, bundle: true, format: 'esm', platform: 'node', target: 'es2022', outfile, logLevel: 'error' });
const { fuzz, printCoverage, replay } = await import(pathToFileURL(outfile).href);

if (isText) {
  const said = replay(args[1]);
  console.log(said);
  process.exit(said === 'no divergence' ? 0 : 1);
}

const seed = Number(args[0] ?? 1);
const operations = Number(args[1] ?? 200_000);
const began = performance.now();
let said = 0;
const rate = (done) => `${done} operations, ${Math.round((done / (performance.now() - began)) * 1000)}/s`;
try {
  const report = fuzz(seed, operations, (done) => {
    if (done - said < 100_000) return;
    said = done;
    console.log(rate(done));
  });
  console.log(printCoverage(report.coverage));
  console.log(`${rate(report.operations)}, no divergence, state ${report.hash.toString(16).padStart(8, '0')}`);
} catch (error) {
  console.error(error.message);
  process.exit(1);
}

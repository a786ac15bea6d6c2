import { playwright } from '@vitest/browser-playwright';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { defineConfig, type TestProjectConfiguration } from 'vitest/config';

// test/**/*.test.ts        Node and Chromium, against the sources
// test/**/*.node.test.ts   Node only
// test/dist/*.test.ts      also against the built package, in both hosts
//
// Projects: node, checked (the core with its assertions on), dist, chromium, dist-chromium. `npm test -- --project node` runs one.
// scripts/test.mjs looks for the browser; without CHROMIUM_PATH the last two are left out.

const root = fileURLToPath(new URL('.', import.meta.url));

const sources = [
  { find: /^farfault$/, replacement: `${root}sdk/index.ts` },
  { find: /^farfault\/drivers\/([\w-]+)$/, replacement: `${root}drivers/$1/index.ts` },
  { find: /^farfault\/(gmem|mm|replay|testing)$/, replacement: `${root}sdk/$1/index.ts` },
];
const built = [
  { find: /^farfault$/, replacement: `${root}dist/index.js` },
  { find: /^farfault\/drivers\/([\w-]+)$/, replacement: `${root}dist/drivers/$1.js` },
  { find: /^farfault\/(gmem|mm|replay|testing)$/, replacement: `${root}dist/$1.js` },
];
const checkedCore = { find: /^.*\/core-wasm\.ts$/, replacement: `${root}build/core-wasm.debug.ts` };

const everywhere = ['test/**/*.test.ts'];
const nodeOnly = ['test/**/*.node.test.ts'];
const package_ = ['test/dist/**/*.test.ts'];
// Of what is long, the core with its assertions on sees as much in other tests.
const long = [
  'test/fuzz/**',
  'test/exhaustive/**',
  'test/kernel/benchmark.node.test.ts',
  'test/kernel/giant.node.test.ts',
  'test/machine/allocations*.node.test.ts',
  'test/contract/zoo.test.ts',
  'test/contract/mutants.node.test.ts',
  'test/cli/**',
  'test/bench/**',
  'test/replay/shipped.node.test.ts',
  'test/events/perfetto.node.test.ts',
  'test/events/cli.node.test.ts',
  'test/gmem/table.node.test.ts',
  'test/gmem/loc.node.test.ts',
  'test/gmem/canaries.node.test.ts',
  'test/gmem/coherence.node.test.ts',
  'test/gmem/small-states.node.test.ts',
];
// A verdict on a broken driver does not depend on the host; the cases and the shipped drivers run in both.
const inNodeOnly = [...nodeOnly, 'test/contract/zoo.test.ts'];

/** A source that `npm run canaries` has asked to break, and what to put in its place: see scripts/canaries.mjs. */
interface Canary {
  readonly file: string;
  readonly find: string;
  readonly replace: string;
  /** Instead of the compiled core, where it is the core that is broken. */
  readonly core?: string;
}
const canary = process.env['FARFAULT_CANARY'] ? (JSON.parse(process.env['FARFAULT_CANARY']) as Canary) : undefined;
const brokenCore = canary?.core ? [{ find: /^.*\/core-wasm\.ts$/, replacement: canary.core }] : [];
const breaking = {
  name: 'canary',
  enforce: 'pre' as const,
  transform(code: string, id: string): string | undefined {
    return canary && !canary.core && id.split('?')[0] === root + canary.file ? code.replace(canary.find, () => canary.replace) : undefined;
  },
};

// The seed of random tests is fixed in test/setup.ts; FARFAULT_SEED=n npm test takes another.
const timeouts = { testTimeout: 30_000, hookTimeout: 30_000, setupFiles: ['./test/setup.ts'] };

// Cross-origin isolation, which shared memory and fine timers ask for.
const isolated = {
  server: {
    headers: {
      'Cross-Origin-Opener-Policy': 'same-origin',
      'Cross-Origin-Embedder-Policy': 'require-corp',
      // The frames of a run share what the first of them has fetched: it does not change meanwhile.
      'Cache-Control': 'max-age=3600',
    },
  },
  // Named, because a package that vite discovers late reloads the page in the middle of a test.
  optimizeDeps: { include: ['@assemblyscript/loader', 'fast-check'] },
};
const quiet = ['--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];

/** A new object for each project: vitest writes into it. */
function inChromium(name: string, executablePath: string) {
  return {
    // vitest wants a name for the project and another for its one browser; the latter is the one that it shows and selects by.
    name: `${name}-project`,
    ...timeouts,
    browser: {
      enabled: true,
      headless: true,
      screenshotFailures: false,
      provider: playwright({ launchOptions: { executablePath, args: ['--no-sandbox', '--disable-gpu', ...quiet] } }),
      instances: [{ browser: 'chromium' as const, name }],
      // One file at a time, each in a frame of its own: a renderer keeps about 125 memories alive, and they go with their frame.
      fileParallelism: false,
    },
  };
}

const projects: TestProjectConfiguration[] = [
  {
    resolve: { alias: [...brokenCore, ...sources] },
    plugins: canary ? [breaking] : [],
    test: { name: 'node', include: everywhere, environment: 'node', ...timeouts },
  },
  {
    resolve: { alias: [checkedCore, ...sources] },
    test: {
      name: 'checked',
      include: everywhere,
      // The tests of the bare core take both cores by themselves, whatever the project.
      exclude: ['test/structure/**', 'test/dist/**', 'test/core/**', ...long],
      environment: 'node',
      ...timeouts,
    },
  },
  { resolve: { alias: built }, test: { name: 'dist', include: package_, environment: 'node', ...timeouts } },
];

const chromium = process.env['CHROMIUM_PATH'];
if (chromium) {
  projects.push(
    { ...isolated, resolve: { alias: sources }, test: { ...inChromium('chromium', chromium), include: everywhere, exclude: inNodeOnly } },
    { ...isolated, resolve: { alias: built }, test: { ...inChromium('dist-chromium', chromium), include: package_, exclude: nodeOnly } },
  );
}

// vitest leaves a core to itself, which of two is half of what there is.
export default defineConfig({ test: { projects, maxWorkers: Math.max(2, availableParallelism() - 1) } });

/** The tests that mutants of sdk/mm meet; MUTATE_TESTS names others (globs, with commas between them). */
import { fileURLToPath } from 'node:url';
import { BaseSequencer } from 'vitest/node';

const root = fileURLToPath(new URL('../', import.meta.url));

/** Those that are quick and say most, in the order in which they run: the first that fails ends a mutant. */
export const QUICK = [
  'test/mm/**/*.test.ts',
  'test/machine/**/*.test.ts',
  'test/gmem/*.test.ts',
  'test/errors/bad-input.test.ts',
  'test/errors/closed.test.ts',
  'test/events/causes.test.ts',
  'test/events/history.test.ts',
  'test/kernel/*.test.ts',
  'test/model/*.test.ts',
  'test/image/image.test.ts',
  'test/random/programs.test.ts',
  'test/gmem/coherence.node.test.ts',
];
/** Those that a survivor meets as well, when asked for. */
export const LONG = [
  'test/exhaustive/ranges.node.test.ts',
  'test/anomaly/*.test.ts',
  'test/errors/reentrant.test.ts',
  'test/random/race.node.test.ts',
  'test/random/oracle.node.test.ts',
  'test/fuzz/*.test.ts',
  'test/gmem/small-states.node.test.ts',
  'test/events/history-random.node.test.ts',
];
/** Of the quick ones, those that take seconds: they run last. */
const LAST = [
  'mm/vma.test.ts',
  'machine/cow.test.ts',
  'machine/races.test.ts',
  'machine/huge-migration.test.ts',
  'gmem/links-random.test.ts',
  'gmem/thrashing.test.ts',
  'gmem/peer-va.test.ts',
  'kernel/situations.test.ts',
  'random/programs.test.ts',
];
/** What is about the repository and not about the code, and what is longest. */
const NEVER = [
  '**/zz-*',
  'test/gmem/{canaries,gmem-names,loc,table}.node.test.ts',
  'test/kernel/{benchmark,giant}.node.test.ts',
  'test/kernel/{interleaved,table}.test.ts',
];
const asked = process.env['MUTATE_TESTS']?.split(',') ?? QUICK;

class QuickFirst extends BaseSequencer {
  async sort(files) {
    const place = ({ moduleId }) =>
      LAST.some((name) => moduleId.endsWith(name)) ? 1000 : asked.findIndex((glob) => moduleId.includes(glob.replace(/\*.*$/, '')));
    return files
      .map((file) => [place(file), file])
      .sort(([a, one], [b, other]) => a - b || (one.moduleId < other.moduleId ? -1 : 1))
      .map(([, file]) => file);
  }
}

export default {
  root,
  resolve: {
    alias: [
      { find: /^farfault$/, replacement: `${root}sdk/index.ts` },
      { find: /^farfault\/drivers\/([\w-]+)$/, replacement: `${root}drivers/$1/index.ts` },
      { find: /^farfault\/(gmem|mm|replay|testing)$/, replacement: `${root}sdk/$1/index.ts` },
    ],
  },
  test: {
    include: asked,
    exclude: asked === QUICK || process.env['MUTATE_TESTS'] === QUICK.join() ? NEVER : ['**/zz-*'],
    environment: 'node',
    setupFiles: ['./test/setup.ts'],
    testTimeout: 600_000,
    // Modules are loaded once for all files of a mutant: loading takes longer than most tests.
    isolate: false,
    sequence: { sequencer: QuickFirst },
  },
};

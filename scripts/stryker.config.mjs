/**
 * `npm run mutate`: Stryker over sdk/mm. Are the checks of the address space checked? See docs/testing.md.
 *
 *   npm run mutate -- --mutate sdk/mm/vma.ts            one file
 *   npm run mutate -- --mutate sdk/mm/fault.ts:100-180  a piece of one
 */
export default {
  testRunner: 'vitest',
  plugins: ['@stryker-mutator/vitest-runner'],
  vitest: { configFile: 'scripts/mutate.vitest.config.mjs' },
  coverageAnalysis: 'perTest',
  mutate: ['sdk/mm/**/*.ts'],
  // Texts of errors and events are for people; that there is one is looked at, what it says mostly not.
  mutator: { excludedMutations: ['StringLiteral'] },
  ignorePatterns: ['/.git', '/dist', '/bench', '/cli', '/docs', '/examples', '/build/docs', '/build/mutants', '/build/stryker*'],
  tempDirName: 'build/stryker-tmp',
  reporters: ['clear-text', 'progress-append-only', 'json'],
  jsonReporter: { fileName: 'build/stryker.json' },
  clearTextReporter: { allowColor: false, logTests: false, reportTests: false },
  concurrency: 1,
  timeoutMS: 10_000,
  // Loops without an end are common among mutants of steps.
  timeoutFactor: 3,
  allowEmpty: false,
  thresholds: { high: 90, low: 75, break: null },
};

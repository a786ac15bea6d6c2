/** The tests that mutants of sdk/mm meet: those of the address space and of the machine; MUTATE_TESTS names others (globs, with commas between them). */
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../', import.meta.url));

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
    include: process.env['MUTATE_TESTS']?.split(',') ?? ['test/mm/**/*.test.ts', 'test/machine/**/*.test.ts'],
    exclude: ['**/zz-*'],
    environment: 'node',
    setupFiles: ['./test/setup.ts'],
    testTimeout: 120_000,
  },
};

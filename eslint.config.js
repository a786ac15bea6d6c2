import js from '@eslint/js';
import { defineConfig, globalIgnores } from 'eslint/config';
import tseslint from 'typescript-eslint';

const sources = ['sdk/**/*.ts', 'drivers/**/*.ts', 'cli/**/*.ts', 'test/**/*.ts', 'bench/**/*.ts', 'examples/**/*.ts', '*.config.ts'];

export default defineConfig([
  globalIgnores(['node_modules/', 'build/', 'dist/', 'coverage/', 'sdk/core/core-wasm.ts', 'assembly/', 'bench/core/']),
  js.configs.recommended,
  {
    files: ['**/*.js', '**/*.mjs'],
    languageOptions: { globals: { process: 'readonly', console: 'readonly', URL: 'readonly', WebAssembly: 'readonly' } },
  },
  {
    files: sources,
    extends: [tseslint.configs.recommended],
    languageOptions: { parserOptions: { project: ['./tsconfig.json', './tsconfig.node.json'], tsconfigRootDir: import.meta.dirname } },
    rules: {
      // The compiler knows names, and says so better.
      'no-undef': 'off',
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_' }],
      '@typescript-eslint/consistent-type-imports': ['error', { fixStyle: 'inline-type-imports' }],
      '@typescript-eslint/switch-exhaustiveness-check': ['error', { considerDefaultExhaustiveForUnions: true }],
      '@typescript-eslint/no-floating-promises': 'error',
      '@typescript-eslint/no-misused-promises': 'error',
      '@typescript-eslint/await-thenable': 'error',
      eqeqeq: ['error', 'always'],
      'prefer-const': ['error', { destructuring: 'all' }],
      // sdk/core/host.d.ts is named where it is used: see there.
      '@typescript-eslint/triple-slash-reference': ['error', { path: 'always', types: 'never', lib: 'never' }],
    },
  },
  {
    // Random needs a seed, time needs a tick.
    files: ['sdk/**/*.ts', 'drivers/**/*.ts'],
    rules: {
      'no-restricted-properties': [
        'error',
        { object: 'Math', property: 'random', message: 'Random needs a seed.' },
        { object: 'Date', property: 'now', message: 'Time needs a tick.' },
      ],
      'no-restricted-globals': ['error', 'performance', 'setTimeout', 'setInterval', 'process', 'window', 'document'],
      'no-console': 'error',
    },
  },
]);

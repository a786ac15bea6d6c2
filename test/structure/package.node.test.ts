import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const root = fileURLToPath(new URL('../../', import.meta.url));
const read = (file: string): string => readFileSync(join(root, file), 'utf8');
const manifest = JSON.parse(read('package.json')) as Record<string, Record<string, string> | undefined>;

test('the package depends on nothing at run time', () => {
  expect(manifest['dependencies'] ?? {}).toEqual({});
  expect(manifest['peerDependencies'] ?? {}).toEqual({});
});

test('development tools are pinned exactly', () => {
  const loose = Object.entries(manifest['devDependencies'] ?? {}).filter(([, version]) => !/^\d+\.\d+\.\d+$/.test(version));
  expect(loose).toEqual([]);
});

test('the lock names no registry', () => {
  expect(read('package-lock.json')).not.toContain('"resolved"');
});

test('THIRD-PARTY-NOTICES.md covers what is bundled', async () => {
  expect(existsSync(join(root, 'dist/cli.js')), 'dist does not exist: run npm run build').toBe(true);
  const script = new URL('../../scripts/notices.mjs', import.meta.url).href;
  const { notices } = (await import(/* @vite-ignore */ script)) as { notices: () => string };
  expect(read('THIRD-PARTY-NOTICES.md') === notices(), 'out of date: run npm run notices').toBe(true);
});

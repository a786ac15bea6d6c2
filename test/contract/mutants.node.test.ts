/** A fixed sample of generated mutants of the shipped drivers and the zoo's: each is caught, or listed in docs/testing.md as one that nobody can tell from the original. */
import { expect, test } from 'vitest';
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const SAMPLE = ['--strict', '--sample', '24', '--seed', '1'];

test('mutants of good drivers do not keep the contract', { timeout: 180_000 }, async () => {
  const said = await new Promise<string>((resolve) => {
    execFile(process.execPath, ['scripts/mutate-drivers.mjs', ...SAMPLE], { cwd: ROOT }, (error, out, err) =>
      resolve(`${error ? `exit ${String(error.code)}\n` : ''}${out}${err}`),
    );
  });
  expect(said).not.toMatch(/^exit|^survived/m);
  expect(said).toMatch(/^all +24 +24 /m);
});

/** A few rows of docs/gmem.md, always the same: each is broken in the sources, and its test notices. `npm run canaries` tries all. */
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));

test('what breaks a row of docs/gmem.md fails its test', { timeout: 180_000 }, async () => {
  const said = await new Promise<string>((resolve) => {
    execFile(process.execPath, ['scripts/canaries.mjs', '--sample', '3'], { cwd: ROOT }, (error, out, err) =>
      resolve(`${error ? `exit ${String(error.code)}\n` : ''}${out}${err}`),
    );
  });
  expect(said).not.toMatch(/^exit|^ALIVE/m);
  expect(said).toMatch(/^\d canaries, \d dead, 0 alive$/m);
});

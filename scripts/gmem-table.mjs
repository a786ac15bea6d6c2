/** `node scripts/gmem-table.mjs`: writes docs/gmem.md from test/gmem/rows. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { requireTools } from './build-if-stale.mjs';

const root = fileURLToPath(new URL('../', import.meta.url));
requireTools(['vitest', 'typescript'], 'write docs/gmem.md');
const vitest = join(root, 'node_modules/vitest/vitest.mjs');
const args = ['run', '--project', 'node', 'test/gmem/table.node.test.ts'];
const { status } = spawnSync(process.execPath, [vitest, ...args], {
  cwd: root,
  stdio: 'inherit',
  env: { ...process.env, FARFAULT_WRITE_TABLE: '1', CHROMIUM_PATH: '' },
});
process.exit(status ?? 1);

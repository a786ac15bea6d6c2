/**
 * `npm test`: builds what is needed, looks for Chromium, runs every test project. Arguments go to vitest: `npm test -- -t "comes home"`.
 *
 * CHROMIUM_PATH names the browser; FARFAULT_BROWSER=required turns a missing one into an error.
 */
import { spawn } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { buildIfStale, requireTools } from './build-if-stale.mjs';
import { saveWorld } from './save-world.mjs';

const root = fileURLToPath(new URL('../', import.meta.url));

requireTools(['vitest', 'typescript'], 'run the tests');
buildIfStale();
// One machine is saved here and restored in the tests: in other processes, and in a browser.
await saveWorld();

const browser = findBrowser();
if (!browser && process.env['FARFAULT_BROWSER'] === 'required') {
  console.error('FARFAULT_BROWSER=required, but no Chromium was found: install it from the system packages or set CHROMIUM_PATH.');
  process.exit(1);
}
if (!browser) {
  console.log(
    'No Chromium found: the browser tests are left out. To run them, install Chromium from the system packages or set CHROMIUM_PATH.',
  );
}

const vitest = join(root, 'node_modules/vitest/vitest.mjs');
const env = { ...process.env };
if (browser) env['CHROMIUM_PATH'] = browser;
else delete env['CHROMIUM_PATH'];
const child = spawn(process.execPath, [vitest, 'run', ...process.argv.slice(2)], { cwd: root, stdio: 'inherit', env });
child.on('exit', (code, signal) => (signal ? process.kill(process.pid, signal) : process.exit(code ?? 1)));

function findBrowser() {
  const named = process.env['CHROMIUM_PATH'];
  if (named) {
    if (isExecutable(named)) return named;
    console.error(`CHROMIUM_PATH is ${named}, which is not a program that can be run.`);
    process.exit(1);
  }
  for (const name of ['chromium', 'chromium-browser', 'google-chrome']) {
    for (const folder of (process.env['PATH'] ?? '').split(delimiter)) {
      if (folder && isExecutable(join(folder, name))) return join(folder, name);
    }
  }
  return undefined;
}

function isExecutable(file) {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, mkdirSync, readdirSync, readFileSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { farfault, folder } from './command.ts';

const root = fileURLToPath(new URL('../../', import.meta.url));
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
  version: string;
  files: string[];
  devDependencies: Record<string, string>;
};
const WRITTEN = ['.gitignore', 'README.md', 'driver.js', 'driver.test.js', 'jsconfig.json', 'package.json'];

/** Every file of a folder, and what is in it. */
function contents(path: string): Record<string, string> {
  return Object.fromEntries(readdirSync(path).map((name) => [name, readFileSync(join(path, name), 'utf8')]));
}

/** Runs a program of Node's. */
async function node(script: string, words: readonly string[], cwd: string): Promise<{ code: number | null; out: string }> {
  // What vitest tells its own workers is not for the one that is started here.
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(VITEST|NODE_ENV$|TEST$)/.test(name)));
  const child = spawn(process.execPath, [script, ...words], { cwd, env: { ...env, NO_COLOR: '1' } });
  let out = '';
  child.stdout.on('data', (bytes: Buffer) => void (out += bytes.toString()));
  child.stderr.on('data', (bytes: Buffer) => void (out += bytes.toString()));
  await once(child, 'close');
  return { code: child.exitCode, out };
}

/** What `npm install` does: the package as it is published, and vitest. */
function install(path: string): void {
  const farfaultFolder = join(path, 'node_modules/farfault');
  mkdirSync(farfaultFolder, { recursive: true });
  for (const name of ['package.json', 'dist']) cpSync(join(root, name), join(farfaultFolder, name), { recursive: true });
  symlinkSync(join(root, 'node_modules/vitest'), join(path, 'node_modules/vitest'), 'junction');
}

test('what is written passes its test, is graded without a failure, and its types are right', async () => {
  const cwd = folder();
  const { code, out, err } = await farfault(['new-driver', 'tiny-2'], { cwd });
  expect([code, err]).toEqual([0, '']);
  expect(out).toBe(`tiny-2: a driver, in ./tiny-2
  driver.js        the device: start here
  driver.test.js   runs it through the driver contract
  package.json     farfault, and vitest to run the test
  jsconfig.json    types are checked in the editor
  README.md        how to test, how to grade, what next
  .gitignore       node_modules

Next:
  cd tiny-2
  npm install
  npm test                              the driver contract, a test a case
  npx farfault grade ./driver.js        the same as a report
`);
  const path = join(cwd, 'tiny-2');
  expect(readdirSync(path).sort()).toEqual(WRITTEN);
  expect(JSON.parse(readFileSync(join(path, 'package.json'), 'utf8'))).toEqual({
    name: 'farfault-driver-tiny-2',
    version: '0.0.0',
    private: true,
    type: 'module',
    exports: './driver.js',
    scripts: { test: 'vitest run', grade: 'farfault grade ./driver.js' },
    dependencies: { farfault: `file:${relative(realpathSync(path), root)}` },
    devDependencies: { vitest: manifest.devDependencies['vitest'] },
  });

  install(path);
  const tested = await node(join(root, 'node_modules/vitest/vitest.mjs'), ['run'], path);
  expect(tested.code, tested.out).toBe(0);
  const [, passed, skipped] = /Tests +(\d+) passed \| (\d+) skipped \(\d+\)/.exec(tested.out) ?? [];

  const graded = await node(join(path, 'node_modules/farfault/dist/cli.js'), ['grade', './driver.js'], path);
  expect(graded.code, graded.out).toBe(0);
  expect(graded.out).toMatch(/^driver tiny-2, seed 1\n/);
  // What does not apply is neither passed here nor there.
  expect(graded.out).toMatch(new RegExp(`\\n${passed} passed, 0 failed, ${skipped} not applicable\\n$`));

  const misspelt = await node(join(path, 'node_modules/farfault/dist/cli.js'), ['grade', './driver.js', '--option', 'vramm=1MiB'], path);
  expect(misspelt.code).not.toBe(0);
  expect(misspelt.out).toContain('driver option "vramm" is not one of: vram, granule');

  const typed = await node(join(root, 'node_modules/typescript/bin/tsc'), ['-p', 'jsconfig.json'], path);
  expect(typed.code, typed.out).toBe(0);

  // The example of its README.
  const [, example] = /```js\n([\s\S]*?)```/.exec(readFileSync(join(path, 'README.md'), 'utf8'))!;
  writeFileSync(join(path, 'example.js'), example!);
  expect(await node(join(path, 'example.js'), [], path)).toEqual({ code: 0, out: 'D....\nUint8Array(1) [ 7 ]\n' });
}, 120_000);

test.concurrent(
  'npm finds the package that it names, though it is in no registry',
  async () => {
    const cwd = folder();
    await farfault(['new-driver', 'gpu'], { cwd });
    const path = join(cwd, 'gpu');
    // Without what comes from a registry, and with nothing that came from one before: alike on every machine.
    const file = join(path, 'package.json');
    const { devDependencies: _, ...asked } = JSON.parse(readFileSync(file, 'utf8')) as Record<string, unknown>;
    writeFileSync(file, JSON.stringify(asked));
    const npm = spawn('npm', ['install', '--offline', '--no-audit', '--no-fund', '--cache', join(cwd, 'cache')], {
      cwd: path,
      shell: process.platform === 'win32',
    });
    let out = '';
    npm.stderr.on('data', (bytes: Buffer) => void (out += bytes.toString()));
    await once(npm, 'close');
    expect(npm.exitCode, out).toBe(0);
    expect(realpathSync(join(path, 'node_modules/farfault'))).toBe(realpathSync(root));
    expect(readdirSync(join(path, 'node_modules/.bin'))).toContain('farfault');
  },
  120_000,
);

test.concurrent.each<readonly [asked: string | undefined, named: string]>([
  ['file:../../farfault-0.1.0.tgz', 'file:../farfault-0.1.0.tgz'],
  [`^${manifest.version}`, `^${manifest.version}`],
  [undefined, `^${manifest.version}`],
])('one that npx has fetched, asked for %s, is asked for again by the package that it writes', async (asked, named) => {
  const cwd = folder();
  const cache = join(cwd, '_npx/0123456789abcdef');
  const fetched = join(cache, 'node_modules/farfault');
  mkdirSync(fetched, { recursive: true });
  if (asked !== undefined) writeFileSync(join(cache, 'package.json'), JSON.stringify({ dependencies: { farfault: asked } }));
  for (const name of ['package.json', 'dist']) cpSync(join(root, name), join(fetched, name), { recursive: true });
  const { code, out } = await node(join(fetched, 'dist/cli.js'), ['new-driver', 'gpu'], cwd);
  expect(code, out).toBe(0);
  const { dependencies } = JSON.parse(readFileSync(join(cwd, 'gpu/package.json'), 'utf8')) as { dependencies: unknown };
  expect(dependencies).toEqual({ farfault: named });
});

test.concurrent('a second run writes nothing', async () => {
  const cwd = folder();
  await farfault(['new-driver', 'gpu'], { cwd });
  writeFileSync(join(cwd, 'gpu/driver.js'), '// precious\n');
  const before = contents(join(cwd, 'gpu'));
  expect(await farfault(['new-driver', 'gpu'], { cwd })).toEqual({
    code: 1,
    out: '',
    err: 'farfault: gpu/driver.js exists already: nothing was written\n',
  });
  expect(contents(join(cwd, 'gpu'))).toEqual(before);
});

test.concurrent.each(WRITTEN)('where there is a %s already, nothing is written at all', async (name) => {
  const cwd = folder();
  writeFileSync(join(cwd, name), 'precious');
  expect(await farfault(['new-driver', 'gpu', '.'], { cwd })).toEqual({
    code: 1,
    out: '',
    err: `farfault: ${name} exists already: nothing was written\n`,
  });
  expect(contents(cwd)).toEqual({ [name]: 'precious' });
});

test.concurrent('a folder, and a link that leads nowhere, are not overwritten either', async () => {
  const cwd = folder();
  mkdirSync(join(cwd, 'README.md'));
  const err = 'farfault: README.md exists already: nothing was written\n';
  expect(await farfault(['new-driver', 'gpu', '.'], { cwd })).toEqual({ code: 1, out: '', err });
  expect(readdirSync(cwd)).toEqual(['README.md']);
  rmSync(join(cwd, 'README.md'), { recursive: true });
  symlinkSync('nowhere', join(cwd, 'README.md'));
  expect(await farfault(['new-driver', 'gpu', '.'], { cwd })).toEqual({ code: 1, out: '', err });
  expect(readdirSync(cwd)).toEqual(['README.md']);
});

test.concurrent('it goes beside files that are not its own, and into folders that it makes', async () => {
  const cwd = folder();
  writeFileSync(join(cwd, 'other.js'), 'precious');
  const here = await farfault(['new-driver', 'gpu', '.'], { cwd });
  expect([here.code, here.err]).toEqual([0, '']);
  expect(here.out).toContain('gpu: a driver, in .\n');
  expect(here.out).not.toContain('  cd ');
  expect(readdirSync(cwd).sort()).toEqual([...WRITTEN, 'other.js'].sort());
  expect(readFileSync(join(cwd, 'other.js'), 'utf8')).toBe('precious');
  const deep = await farfault(['new-driver', 'gpu', 'a b/c'], { cwd });
  expect([deep.code, deep.err]).toEqual([0, '']);
  expect(deep.out).toContain("\n  cd 'a b/c'\n");
  expect(readdirSync(join(cwd, 'a b/c')).sort()).toEqual(WRITTEN);
});

test.concurrent.each<readonly [words: readonly string[], code: 1 | 2, sentence: string]>([
  [[], 2, 'new-driver needs a name: farfault new-driver <name> [dir]'],
  [['gpu', 'a', 'b', 'c'], 2, 'new-driver takes a name and a directory, and was given b, c as well'],
  [['gpu', '--force'], 2, 'unknown option --force: farfault new-driver --help lists what there is'],
  ...['Gpu', '2gpu', 'g_pu', 'gpu.js', './gpu', 'ü', '', 'g'.repeat(33)].map(
    (name) =>
      [[name], 2, `${name || 'an empty word'} is no name for a driver: 1 to 32 lower-case letters, digits or -, a letter first`] as const,
  ),
  [['gpu', 'file'], 1, 'file cannot be made: a part of its path exists and is not a directory'],
  [['gpu', 'file/gpu'], 1, 'file/gpu cannot be made: a part of its path exists and is not a directory'],
])('farfault new-driver %j', async (words, code, sentence) => {
  const cwd = folder();
  writeFileSync(join(cwd, 'file'), 'precious');
  expect(await farfault(['new-driver', ...words], { cwd })).toEqual({ code, out: '', err: `farfault: ${sentence}\n` });
  expect(contents(cwd)).toEqual({ file: 'precious' });
});

test('--help is the whole truth', async () => {
  const { code, out, err } = await farfault(['new-driver', '--help'], { cwd: folder() });
  expect([code, err]).toEqual([0, '']);
  for (const line of out.split('\n')) expect(line.length).toBeLessThanOrEqual(110);
  expect(out).toMatchInlineSnapshot(`
    "farfault new-driver <name> [dir]

    Writes a small package: a driver with a page table and memory of its own, and the test that runs it through
    the driver contract. It passes as written; make it your device step by step.

      name   names the device and its memory: 1 to 32 lower-case letters, digits or -, a letter first
      dir    where it goes; default ./<name>. Folders that do not exist are made.

    Nothing is overwritten: where one of its files exists already, nothing is written at all.

    Exit codes: 0 done, 1 a file exists already or cannot be written, 2 the command line is wrong.
    "
  `);
});

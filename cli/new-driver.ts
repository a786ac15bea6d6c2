/** `farfault new-driver`: a small package with a driver that passes the driver contract, to begin with. */
import { lstatSync, mkdirSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { join, relative, resolve, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArguments } from './arguments.ts';
import { DataError, fileError, UsageError } from './fail.ts';
import { manifest } from './manifest.ts';
import { print } from './output.ts';

/** As `driver.name`. */
const NAME = /^[a-z][a-z0-9-]{0,31}$/;

/** Runs the command with the words that follow its name. */
export async function newDriver(words: readonly string[]): Promise<void> {
  const { positionals } = parseArguments(words, [], 'farfault new-driver');
  const [name, folder = `./${name}`, ...more] = positionals;
  if (name === undefined) throw new UsageError('new-driver needs a name: farfault new-driver <name> [dir]');
  if (!NAME.test(name))
    throw new UsageError(`${name || 'an empty word'} is no name for a driver: 1 to 32 lower-case letters, digits or -, a letter first`);
  if (more.length > 0) throw new UsageError(`new-driver takes a name and a directory, and was given ${more.join(', ')} as well`);
  const files = packageOf(name, folder);
  write(folder, files);
  const there = relative('.', folder) || '.';
  const width = Math.max(...files.map((file) => file.name.length));
  await print(
    [
      `${name}: a driver, in ${folder}`,
      ...files.map((file) => `  ${file.name.padEnd(width)}   ${file.about}`),
      '',
      'Next:',
      ...(there === '.' ? [] : [`  cd ${/^[\w./:@%+,-]+$/.test(there) ? there : `'${there.replaceAll("'", `'\\''`)}'`}`]),
      '  npm install',
      '  npm test                              the driver contract, a test a case',
      '  npx farfault grade ./driver.js        the same as a report',
    ].join('\n'),
  );
}

interface File {
  readonly name: string;
  /** What it is, in a few words. */
  readonly about: string;
  readonly text: string;
}

/** Writes all files, or none. Throws DataError when one of them exists, or cannot be written. */
function write(folder: string, files: readonly File[]): void {
  const path = resolve(folder);
  const made: string[] = [];
  try {
    for (const { name } of files) {
      // A link that leads nowhere is something, too.
      if (lstatSync(join(path, name), { throwIfNoEntry: false }))
        throw new DataError(`${join(folder, name)} exists already: nothing was written`);
    }
    const first = mkdirSync(path, { recursive: true });
    if (first !== undefined) made.push(first);
    for (const { name, text } of files) {
      writeFileSync(join(path, name), text, { flag: 'wx' });
      made.push(join(path, name));
    }
  } catch (error) {
    for (const each of made.reverse()) rmSync(each, { recursive: true, force: true });
    const code = (error as { code?: unknown } | null)?.code;
    if (code === 'EEXIST' || code === 'ENOTDIR')
      throw new DataError(`${folder} cannot be made: a part of its path exists and is not a directory`, { cause: error });
    throw fileError(error, folder);
  }
}

/** The files of the package of a driver with this name, that is to be in a folder. */
function packageOf(name: string, folder: string): readonly File[] {
  return [
    { name: 'driver.js', about: 'the device: start here', text: driverFile(name) },
    { name: 'driver.test.js', about: 'runs it through the driver contract', text: testFile() },
    { name: 'package.json', about: 'farfault, and vitest to run the test', text: packageFile(name, folder) },
    { name: 'jsconfig.json', about: 'types are checked in the editor', text: configFile() },
    { name: 'README.md', about: 'how to test, how to grade, what next', text: readmeFile(name) },
    { name: '.gitignore', about: 'node_modules', text: 'node_modules/\n' },
  ];
}

function packageFile(name: string, folder: string): string {
  const { devDependencies } = manifest();
  // Not the bare name: npm does not install farfault into a package called farfault.
  const contents = {
    name: `farfault-driver-${name}`,
    version: '0.0.0',
    private: true,
    type: 'module',
    exports: './driver.js',
    scripts: { test: 'vitest run', grade: 'farfault grade ./driver.js' },
    dependencies: { farfault: whereabouts(folder) },
    devDependencies: { vitest: devDependencies['vitest'] },
  };
  return `${JSON.stringify(contents, undefined, 2)}\n`;
}

/** The farfault that this command is of, as npm is told of it from a folder: a path, since it may be in no registry. */
function whereabouts(folder: string): string {
  const here = resolve(realpathSync('.'), folder);
  const root = fileURLToPath(new URL('../', import.meta.url));
  const cache = /^.*[\\/]_npx[\\/][^\\/]+/.exec(root)?.[0];
  if (cache === undefined) return `file:${pathFrom(here, root)}`;
  // npx has fetched it for this call alone, and keeps beside it what it was asked for: a path, or what is in a registry.
  const asked = npxWasAsked(cache);
  return asked?.startsWith('file:') ? `file:${pathFrom(here, resolve(cache, asked.slice('file:'.length)))}` : `^${manifest().version}`;
}

function pathFrom(folder: string, path: string): string {
  return relative(folder, path).replaceAll(sep, '/');
}

/** What a folder of npx's cache was made for. Undefined where it does not say: how npx keeps it is its own affair. */
function npxWasAsked(cache: string): string | undefined {
  try {
    const { dependencies } = JSON.parse(readFileSync(join(cache, 'package.json'), 'utf8')) as { dependencies?: Record<string, string> };
    return dependencies?.['farfault'];
  } catch {
    return undefined;
  }
}

function configFile(): string {
  const compilerOptions = { checkJs: true, strict: true, noEmit: true, module: 'nodenext', target: 'es2022' };
  return `${JSON.stringify({ compilerOptions, include: ['*.js'] }, undefined, 2)}\n`;
}

function driverFile(name: string): string {
  return `/**
 * ${name}: a device with memory of its own, and a page table of its own in front of it.
 *
 * A fault of the device moves the page to its memory; a touch of the CPU brings it home. The framework does both, and tells this
 * driver which translations to enter and which to release.
 *
 * @typedef {import('farfault/gmem').Translation} Translation
 * @typedef {import('farfault/testing').Expectations} Expectations
 */
import { KiB, MiB, defineDriver, permits } from 'farfault/gmem';

/**
 * @typedef {object} Options
 * @property {number} [vram] Bytes of its memory, a multiple of 4096.
 * @property {number} [granule] Bytes that one fault moves, a power of two from 4096 to 2 MiB.
 */

export default defineDriver((/** @type {Options} */ { vram = 16 * MiB, granule = 4096 }) => ({
  name: '${name}',
  memory: [{ name: 'vram', kind: 'private', bytes: vram }],
  granuleBytes: granule,

  // The device in one address space. What it returns are families of operations; what is left out is ready-made.
  attach(_context, saved) {
    /** The page table: by virtual page number. @type {Map<number, Translation>} */
    const table = saved instanceof Map ? saved : new Map();
    return {
      // What a machine that is saved has to know; \`saved\` above when it is restored.
      save: () => table,
      pmap: {
        enter(mappings) {
          // An item is a run of pages, contiguous on both sides.
          mappings.each((vpn, pages, page, memory, write) => {
            for (let i = 0; i < pages; i++) table.set(vpn + i, { vpn: vpn + i, page: page + i, memory, write });
          });
        },
        release(ranges) {
          // A range can be a whole address space: look at what is there.
          ranges.each((start, pages) => {
            for (const vpn of table.keys()) if (vpn >= start && vpn < start + pages) table.delete(vpn);
          });
        },
      },
      walk: {
        // Undefined raises a fault of the device.
        translate(vpn, access) {
          const entry = table.get(vpn);
          return permits(entry, access) ? entry : undefined;
        },
      },
    };
  },
  // Another option is refused by name.
}), { vram: true, granule: true });

/**
 * What the driver contract is told. Small memories make short tests.
 *
 * @type {Expectations}
 */
export const expectations = { options: { vram: 256 * KiB } };
`;
}

function testFile(): string {
  return `import { describe, it } from 'vitest';
import { driverContract } from 'farfault/testing';
import driver, { expectations } from './driver.js';

driverContract(driver, expectations, { describe, it });
`;
}

function readmeFile(name: string): string {
  return `# ${name}

A device for farfault, a user-space machine with the semantics of Linux HMM.

| File             | What it is                                                                   |
| ---------------- | ---------------------------------------------------------------------------- |
| \`driver.js\`      | the device, and what the driver contract is told about it (\`expectations\`)   |
| \`driver.test.js\` | the driver contract as tests, one a case; what does not apply is skipped     |
| \`jsconfig.json\`  | types are checked in the editor; \`npx -p typescript tsc -p jsconfig.json\` does the same |

## Test and grade

\`\`\`sh
npm install
npm test                           # the contract, a test a case
npx farfault grade ./driver.js     # the same as a report
npx farfault grade --list          # all cases, and the rule of each
\`\`\`

A case that fails says which rule is broken, what was seen, the state before and after (a letter a page), the calls of the driver around it,
and the command that runs this one case again.

## Use it

\`\`\`js
import { createMachine, MiB } from 'farfault';
import driver from './driver.js';

const machine = await createMachine({ dram: 64 * MiB });
const device = machine.addDevice(driver({ vram: 16 * MiB }));
const space = machine.createAddressSpace();
const context = space.attach(device);
const buffer = space.mmap({ bytes: 5 * 4096 });
context.write(buffer.start, Uint8Array.of(7)); // the page moves to the device
console.log(space.dump(buffer)); // D....
console.log(space.read(buffer.start, 1)); // and comes home
machine.close();
\`\`\`

A recorded program runs on it, too: \`npx farfault replay prog.trace.gz --device ./driver.js --vram 16MiB\`.

## Next steps

Each is a few lines; grade after each of them.

- a TLB: the family \`tlb\`, which is told what to forget
- an allocator of its own: \`allocator: 'driver'\` at the memory, and the family \`phys\`
- a copy engine, a flush that takes time: the family \`copy\`, operations that return \`context.ticket('...')\`
- faults in an order of its own: the family \`fault\`

node_modules/farfault/docs/drivers.md builds a driver up in five stages; driver-reference.md beside it has every operation, and each of these.
`;
}

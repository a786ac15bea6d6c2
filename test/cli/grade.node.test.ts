import { once } from 'node:events';
import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { CONTRACT, type GradeReport } from 'farfault/testing';
import { expect, test } from 'vitest';
import { Command, farfault, folder } from './command.ts';

const root = fileURLToPath(new URL('../../', import.meta.url));

const TABLE = `
import { defineDriver, permits } from 'farfault/gmem';
export default defineDriver(({ forgetful = true, vram = 0 }) => ({
  name: 'own',
  ...(vram ? { memory: [{ name: 'vram', kind: 'private', bytes: vram }] } : {}),
  attach() {
    const table = new Map();
    return {
      pmap: {
        enter: (mappings) =>
          mappings.each((vpn, pages, page, memory, write) => {
            for (let i = 0; i < pages; i++) table.set(vpn + i, { vpn: vpn + i, page: page + i, memory, write });
          }),
        release(ranges) {
          if (forgetful) return;
          ranges.each((start, pages) => {
            for (const vpn of table.keys()) if (vpn >= start && vpn < start + pages) table.delete(vpn);
          });
        },
      },
      walk: {
        translate(vpn, access) {
          const entry = table.get(vpn);
          return permits(entry, access) ? entry : undefined;
        },
      },
    };
  },
}));
`;
const EMPTY =
  "import { defineDriver } from 'farfault/gmem';\nexport default defineDriver(() => ({ name: 'empty', attach: () => ({}) }));\n";

/** Files of the folder that a command runs in. */
const FILES: Readonly<Record<string, string>> = {
  'empty.js': EMPTY,
  'own.js': TABLE,
  'excused.js': `${EMPTY}export const expectations = { notApplicable: { ${JSON.stringify(CONTRACT[0]!.name)}: 'it is a test' }, seed: 7 };\n`,
  'unattachable.js':
    "import { defineDriver } from 'farfault/gmem';\nexport default defineDriver(() => ({ name: 'gpu', attach: () => ({ pump: {} }) }));\n",
  'loose.js': EMPTY.replace('attach: () => ({})', "attach: () => (setTimeout(() => { throw new Error('no\\nluck'); }), {})"),
  'chosen.js': `${EMPTY}export const expectations = { cases: [${JSON.stringify(CONTRACT[0]!.name)}] };\n`,
  'array.js': `${EMPTY}export const expectations = [];\n`,
  'bad-seed.js': `${EMPTY}export const expectations = { seed: -1 };\n`,
  'no-default.js': 'export const gpu = 1;\n',
  'other-default.js': 'export default () => ({ name: "gpu" });\n',
  'throws.js': 'throw new Error("no\\nluck");\n',
  'typed.ts': 'export default 1 as number;\n',
};

function prepared(): string {
  const cwd = folder();
  mkdirSync(join(cwd, 'node_modules'));
  symlinkSync(root, join(cwd, 'node_modules/farfault'), 'junction');
  writeFileSync(join(cwd, 'package.json'), '{ "type": "module" }\n');
  for (const [name, contents] of Object.entries(FILES)) writeFileSync(join(cwd, name), contents);
  return cwd;
}

const parsed = (text: string): GradeReport & { loose: string[] } => JSON.parse(text) as GradeReport & { loose: string[] };
const NAME = CONTRACT[0]!.name;
/** A few cases, one of which tells a driver that keeps what it should forget. */
const MIRRORING = CONTRACT.filter(({ group }) => group === 'mirroring').flatMap(({ name }) => ['--case', name]);

test.concurrent.each<readonly [words: readonly string[], code: 1 | 2, sentence: string]>([
  [[], 2, 'grade needs a driver: farfault grade ./my-driver.js'],
  [['./empty.js', './own.js'], 2, 'grade takes one driver, and was given ./own.js as well'],
  [
    ['nouveu'],
    2,
    'unknown driver nouveu: did you mean nouveau? (nouveau, mirror, integrated, npu, kvm, rdma, iommu, dmirror, or a path such as ./my-driver.js)',
  ],
  [
    ['accelerator'],
    2,
    'unknown driver accelerator: farfault grade --help lists what there is (nouveau, mirror, integrated, npu, kvm, rdma, iommu, dmirror, or a path such as ./my-driver.js)',
  ],
  [['./missing.js'], 2, './missing.js does not exist'],
  [['./node_modules'], 2, './node_modules is a directory: name the module in it'],
  [['./no-default.js'], 2, './no-default.js has no default export: a driver module exports defineDriver(...) by default'],
  [['./other-default.js'], 2, './other-default.js exports by default something that was not made with defineDriver'],
  [['./throws.js'], 2, './throws.js cannot be loaded: no; luck'],
  [['./array.js'], 2, './array.js exports expectations that are not an object'],
  [['./bad-seed.js'], 2, './bad-seed.js: expectations.seed -1 is not a non-negative integer'],
  [['./empty.js', '--sead', '1'], 2, 'unknown option --sead: did you mean --seed?'],
  [['./empty.js', '--seed', '-1'], 2, '--seed -1 is not a whole number from 0 to 4294967295'],
  [['./empty.js', '--seed=-1'], 2, '--seed -1 is not a whole number from 0 to 4294967295'],
  [['./empty.js', '--seed', '4294967296'], 2, '--seed 4294967296 is not a whole number from 0 to 4294967295'],
  [['./empty.js', '--option', 'vram'], 2, '--option vram is not name=value, such as vram=16MiB'],
  [['./empty.js', '--option'], 2, '--option needs a value: --option name=value ...'],
  [['./empty.js', '--case', NAME.slice(1)], 2, `unknown case "${NAME.slice(1)}": did you mean "${NAME}"?`],
  [['./empty.js', '--case', 'x'], 2, 'unknown case "x": farfault grade --list names them all'],
  [['./empty.js', '--list'], 2, '--list stands alone: it prints what all drivers are graded by'],
  [['--list', '--seed', '1'], 2, '--list stands alone: it prints what all drivers are graded by'],
  [['./empty.js', '--json', './empty.js'], 2, '--json ./empty.js would overwrite the driver'],
  [['./empty.js', '--json', 'nowhere/x.json'], 1, 'nowhere/x.json cannot be written: its directory does not exist'],
])('farfault grade %j', async (words, code, sentence) => {
  const cwd = prepared();
  const before = readdirSync(cwd);
  expect(await farfault(['grade', ...words], { cwd })).toEqual({ code, out: '', err: `farfault: ${sentence}\n` });
  expect(readdirSync(cwd)).toEqual(before);
  expect(readFileSync(join(cwd, 'empty.js'), 'utf8')).toBe(EMPTY);
});

test.concurrent('a module in TypeScript that this Node does not load is an error in one line', async () => {
  const { code, out, err } = await farfault(['grade', './typed.ts'], { cwd: prepared() });
  expect([code, out]).toEqual([2, '']);
  const loads = 'exports by default something that was not made with defineDriver';
  const loadsNot = `is TypeScript, which Node ${process.versions.node} does not load: compile it to JavaScript`;
  expect([`farfault: ./typed.ts ${loads}\n`, `farfault: ./typed.ts ${loadsNot}\n`]).toContain(err);
});

test.concurrent('a driver that keeps the contract has a line for each case, and ends with 0', { timeout: 120_000 }, async () => {
  const { code, out, err } = await farfault(['grade', './empty.js'], { cwd: prepared() });
  expect([code, err]).toEqual([0, '']);
  expect(out).toMatch(/^driver empty, seed 1\n\nattach\n {2}passed {2}the driver attaches to an address space\n/);
  for (const { name } of CONTRACT) expect(out).toContain(`  ${name}`);
  expect(out).toMatch(/\n\d+ passed, 0 failed, \d+ not applicable\n$/);
});

test.concurrent.each(['nouveau', 'mirror', 'dmirror'])('%s is graded by its name, and passes', async (name) => {
  const { code, out, err } = await farfault(['grade', name, '--case', NAME], { cwd: folder() });
  expect([code, err], out).toEqual([0, '']);
});

test.concurrent('what does not apply says why, and is not counted as passed', async () => {
  const cwd = prepared();
  const { code, out } = await farfault(['grade', './excused.js', '--case', NAME], { cwd });
  expect(code).toBe(0);
  expect(out).toContain('driver empty, seed 7\n');
  expect(out).toContain(`${NAME} (it is a test)\n`);
  expect(out).toMatch(/\n1 passed, 0 failed, 1 not applicable\n$/);
  expect(parsed((await farfault(['grade', './excused.js', '--json', '--seed', '8', '--case', NAME], { cwd })).out)).toMatchObject({
    driver: 'empty',
    seed: 8,
    failed: 0,
    loose: [],
  });
});

test.concurrent('cases of the expectations are the only ones, unless the command line has others', async () => {
  const cwd = prepared();
  const cases = async (...words: string[]): Promise<string[]> =>
    parsed((await farfault(['grade', './chosen.js', '--json', ...words], { cwd })).out)
      .cases.slice(1)
      .map(({ name }) => name);
  expect(await cases()).toEqual([NAME]);
  expect(await cases('--case', CONTRACT[1]!.name)).toEqual([CONTRACT[1]!.name]);
});

test.concurrent('a failure tells the rule, what was seen, the state before and after, and the command that shows it again', async () => {
  const cwd = prepared();
  const { code, out, err } = await farfault(['grade', './own.js', '--option', 'forgetful=true', 'vram=256K', '--json', ...MIRRORING], {
    cwd,
  });
  expect([code, err]).toEqual([1, '']);
  const report = parsed(out);
  const first = report.cases.find(({ verdict }) => verdict === 'failed')!;
  expect(report.failed).toBe(report.cases.filter(({ verdict }) => verdict === 'failed').length);
  expect(first.reason).not.toBe('');
  expect(first.replay).toBe(`farfault grade ./own.js --option forgetful=true --option vram=256K --case "${first.name}" --seed 1`);

  const words = first.replay.match(/"[^"]*"|\S+/g)!.map((word) => word.replaceAll('"', ''));
  const again = await farfault(words.slice(1), { cwd });
  expect([again.code, again.err]).toEqual([1, '']);
  expect(again.out).toContain(`  FAILED  ${first.name}\n`);
  expect(again.out).toContain(`\n${first.name}\n  rule: ${first.rule}\n  seen: ${first.reason}\n  state before\n`);
  expect(again.out).toContain('\n  state after\n    space 0 0x');
  expect(again.out).toContain(`\n  seed 1; again: ${first.replay}\n`);
  expect(again.out).toMatch(/\n\d passed, 1 failed, 0 not applicable\n$/);
  expect((await farfault(['grade', './own.js', ...MIRRORING, '--option', 'forgetful=false', 'vram=256K'], { cwd })).code).toBe(0);
});

test.concurrent('a driver that cannot be attached fails that case, and the others are not run', async () => {
  const { code, out, err } = await farfault(['grade', './unattachable.js'], { cwd: prepared() });
  expect([code, err]).toEqual([1, '']);
  expect(out).toContain('seen: gpu family "pump" is unknown: the families are pmap, tlb, walk, copy, phys, peer, fault, peerVa');
  expect(out).toMatch(/\n0 passed, 1 failed, 0 not applicable\n$/);
});

test.concurrent('what a driver throws where nobody can catch it is told, and ends with 1', async () => {
  const cwd = prepared();
  const { code, out, err } = await farfault(['grade', './loose.js', '--case', NAME], { cwd });
  expect([code, err]).toEqual([1, '']);
  expect(out).toMatch(/\nThe driver threw in a timer or a promise of its own, outside of every call: no; luck\n$/);
  expect(parsed((await farfault(['grade', './loose.js', '--case', NAME, '--json'], { cwd })).out).loose).toEqual(['no; luck']);
});

test.concurrent('--json with a file writes the report beside the text', async () => {
  const cwd = prepared();
  const bare = await farfault(['grade', './empty.js', '--json', '--case', NAME], { cwd });
  const { code, out } = await farfault(['grade', '--json', 'out.json', './empty.js', '--case', NAME], { cwd });
  expect(code).toBe(0);
  expect(out).toMatch(/^driver empty, seed 1\n/);
  expect(readFileSync(join(cwd, 'out.json'), 'utf8')).toBe(bare.out);
});

test.concurrent('an option that a shipped driver does not have is named, with those that it has', async () => {
  const { code, out } = await farfault(['grade', 'nouveau', '--option', 'vramm=1MiB'], { cwd: prepared() });
  expect(code).toBe(1);
  expect(out).toContain('driver option "vramm" is not one of: vram, granule, faultEntries, allocator');
});

test.concurrent('options of a driver are numbers, sizes, true and false, and text', async () => {
  const cwd = prepared();
  writeFileSync(
    join(cwd, 'shows.js'),
    "import { defineDriver } from 'farfault/gmem';\nexport default defineDriver((o) => { throw new Error(JSON.stringify(o)); });\nexport const expectations = { options: { a: 0, z: 9 } };\n",
  );
  const options = ['a=1', 'b=-1.5', 'c=16MiB', 'd=0.5K', 'e=true', 'f=false', 'g=private', 'h=16MB', 'i=x=y', 'a=2'];
  const { code, out } = await farfault(['grade', './shows.js', '--option', ...options], { cwd });
  expect(code).toBe(1);
  expect(out).toContain(
    JSON.stringify({ a: 2, z: 9, b: -1.5, c: 16 * 2 ** 20, d: 512, e: true, f: false, g: 'private', h: '16MB', i: 'x=y' }),
  );
});

test('the drivers of the guide are JavaScript that can be graded', async () => {
  const cwd = prepared();
  const guide = readFileSync(join(root, 'docs/drivers.md'), 'utf8');
  const files = [...guide.matchAll(/```js file=(\S+)\n([\s\S]*?)```/g)];
  expect(files.map(([, name]) => name)).toEqual(['mirror.js', 'table.js', 'memory.js', 'peer.js', 'async.js']);
  for (const [, name, text] of files) {
    writeFileSync(join(cwd, name!), text!);
    const { code, out, err } = await farfault(['grade', `./${name}`, '--case', NAME], { cwd });
    expect([code, err], out).toEqual([0, '']);
  }
});

test('a driver in an endless loop is ended by Ctrl-C, and the old report stays as it was', async () => {
  const cwd = prepared();
  writeFileSync(join(cwd, 'loop.js'), EMPTY.replace('attach: () => ({})', "attach: () => { console.log('in'); for (;;); }"));
  writeFileSync(join(cwd, 'out.json'), 'precious');
  const before = readdirSync(cwd);
  const command = new Command(['grade', './loop.js', '--json', 'out.json'], cwd);
  command.process.stdin.end();
  await once(command.process.stdout, 'data');
  command.process.kill('SIGINT');
  const { err } = await command.outcome();
  expect([command.process.signalCode, err]).toEqual(['SIGINT', '']);
  expect(readFileSync(join(cwd, 'out.json'), 'utf8')).toBe('precious');
  expect(readdirSync(cwd)).toEqual(before);
});

const HANGING = `
import { defineDriver } from 'farfault/gmem';
export default defineDriver(() => ({ name: 'hanging', attach: () => ({
  walk: { translate: () => undefined },
  pmap: { enter: () => spin(),
    release() {} },
}) }));
function spin() {
  for (;;);
}
`;

test('a driver that hangs is told on standard error: the case, and the line that is running', { timeout: 120_000 }, async () => {
  const cwd = prepared();
  writeFileSync(join(cwd, 'hanging.js'), HANGING);
  const command = new Command(['grade', './hanging.js', '--case', NAME, '--json'], cwd);
  command.process.stdin.end();
  await once(command.process.stderr, 'data');
  command.process.kill('SIGINT');
  const { out, err } = await command.outcome();
  expect([command.process.signalCode, out]).toEqual(['SIGINT', '']);
  expect(err).toBe(`farfault: "${NAME}" has not ended after 10 s: the driver is in spin (hanging.js:9), from enter (hanging.js:5)\n`);
});

test('--list prints every case with its rule, by group', async () => {
  const { code, out, err } = await farfault(['grade', '--list'], { cwd: folder() });
  expect([code, err]).toEqual([0, '']);
  for (const { group, name, rule } of CONTRACT) {
    expect(`\n${out}`).toContain(`\n${group}\n`);
    expect(out).toContain(`  ${name}\n      ${rule}\n`);
  }
});

test('--help is the whole truth', async () => {
  const { code, out, err } = await farfault(['grade', '--help'], { cwd: folder() });
  expect([code, err]).toEqual([0, '']);
  for (const line of out.split('\n')) expect(line.length).toBeLessThanOrEqual(110);
  expect(out).toMatchInlineSnapshot(`
    "farfault grade <driver> [options]

    Runs a driver through the driver contract: rules that hold for every driver, each a case on a machine of its
    own. Prints a line a case: passed, failed, or not applicable and why. For a failure, the rule, what was seen,
    the state before and after (a letter a page), the calls of the driver around it, and the command that
    replays it.

    On a terminal the case that is being run is shown. One that takes more than ten seconds is told on standard
    error, with the line of the driver that is running: a loop over too many pages, or one without an end.

    The driver is a module, ./my-driver.js, that exports defineDriver(...) by default, or one of
      nouveau, mirror, integrated, npu, kvm, rdma, iommu, dmirror
    What its author says about it is an export of the same module, called expectations, all optional:
      export const expectations = {
        options: { vram: 262144 },                     made with these in each case: small memories, short tests
        machine: { dram: 67108864 },                   sizes of the machine
        settle: (driver) => { ... },                   lets the device go on, when time alone does not
        notApplicable: { 'name of a case': 'why' },    cases that do not fit this device
        exercise: async (bench) => { ... },            what this device in particular must do
        seed: 1,                                       of what is random
        cases: ['name of a case'],                     only these
      };

    Options:
      --option name=value ...
          Options that the driver is made with, beside those of its expectations: numbers,
          sizes such as 16MiB (bytes), true, false, or text.
      --case "name of a case"
          Only this case; may be repeated. Default: what its expectations say, else all.
      --seed 1
          Seed of what is random, 0 to 2^32 - 1. Default: what its expectations say, else 1.
      --json [file]
          Write the report as JSON to a file, beside the text; without a file to
          standard output, instead of the text.
      --list
          Print the names of all cases, with the rule that each looks at, and grade nothing.

    Exit codes: 0 all passed, 1 a case failed, 2 the command line is wrong or the driver cannot be loaded,
    130 Ctrl-C.
    "
  `);
});

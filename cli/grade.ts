/** `farfault grade`: a driver, run through the driver contract, and what came of each case. */
import { resolve } from 'node:path';
import { isFarfaultError, MiB } from 'farfault';
import dmirror from 'farfault/drivers/dmirror';
import integrated from 'farfault/drivers/integrated';
import iommu from 'farfault/drivers/iommu';
import kvm from 'farfault/drivers/kvm';
import mirror from 'farfault/drivers/mirror';
import nouveau from 'farfault/drivers/nouveau';
import npu from 'farfault/drivers/npu';
import rdma from 'farfault/drivers/rdma';
import type { DriverFactory } from 'farfault/gmem';
import { ATTACH, CONTRACT, type Expectations, gradeDriver, GROUPS, type GradeReport, printReport, type Verdict } from 'farfault/testing';
import { nearest, type OptionDescription, parseArguments } from './arguments.ts';
import { type DriverSource, findDriver } from './device.ts';
import { EXIT_DATA, oneLine, UsageError } from './fail.ts';
import { postLookout } from './lookout.ts';
import { openTarget, print } from './output.ts';
import { showSteps } from './progress.ts';
import { parseCount, parseValue } from './quantity.ts';

const SEED_MAX = 2 ** 32 - 1;

/** What a report can have a line for. */
const CASES = [ATTACH, ...CONTRACT];

/** Options of `farfault grade`. */
export const GRADE_OPTIONS: readonly OptionDescription[] = [
  {
    name: 'option',
    takes: 'many',
    value: 'name=value ...',
    further: /^[A-Za-z_$][\w$]*=/,
    help: [
      'Options that the driver is made with, beside those of its expectations: numbers,',
      'sizes such as 16MiB (bytes), true, false, or text.',
    ],
  },
  {
    name: 'case',
    takes: 'many',
    value: '"name of a case"',
    help: ['Only this case; may be repeated. Default: what its expectations say, else all.'],
  },
  {
    name: 'seed',
    takes: 'one',
    value: '1',
    help: ['Seed of what is random, 0 to 2^32 - 1. Default: what its expectations say, else 1.'],
  },
  {
    name: 'json',
    takes: 'optional',
    value: '[file]',
    help: ['Write the report as JSON to a file, beside the text; without a file to', 'standard output, instead of the text.'],
  },
  { name: 'list', takes: 'none', help: ['Print the names of all cases, with the rule that each looks at, and grade nothing.'] },
];

/** Runs the command with the words that follow its name; returns the exit code. */
export async function grade(words: readonly string[]): Promise<number> {
  const { positionals, options } = parseArguments(words, GRADE_OPTIONS, 'farfault grade');
  const [driver, ...more] = positionals;
  if (options.has('list')) {
    if (driver !== undefined || options.size > 1) throw new UsageError('--list stands alone: it prints what all drivers are graded by');
    await print(list());
    return 0;
  }
  if (driver === undefined) throw new UsageError('grade needs a driver: farfault grade ./my-driver.js');
  if (more.length > 0) throw new UsageError(`grade takes one driver, and was given ${more.join(', ')} as well`);
  const optionWords = options.get('option') ?? [];
  const given = driverOptions(optionWords);
  const cases = options.get('case')?.map(knownCase);
  const seedWord = options.get('seed')?.[0];
  const seed = seedWord === undefined ? undefined : parseCount('--seed', seedWord, { least: 0, most: SEED_MAX });
  const json = options.get('json');
  if (json?.[0] !== undefined && resolve(json[0]) === resolve(driver)) throw new UsageError(`--json ${json[0]} would overwrite the driver`);

  const { factory, expectations: own } = await findDriver(driver, GRADED);
  const expectations: Expectations = {
    ...own,
    options: { ...own?.options, ...given },
    ...(cases === undefined ? {} : { cases }),
    ...(seed === undefined ? {} : { seed }),
  };
  const file = json?.[0];
  // Whether it can be written is known before the work; it is opened behind it, since Ctrl-C ends a grading at once.
  if (file !== undefined) openTarget(file).abandon();
  const { report, loose } = await run(driver, () => gradeCases(factory, expectations));
  // What the command that replays a failure names: the driver, and what it is made with.
  const module = [driver, ...optionWords.flatMap((word) => ['--option', word])].map(quoted).join(' ');
  const text = JSON.stringify({ ...named(report, module), loose }, undefined, 2);
  if (file !== undefined) openTarget(file).commit(`${text}\n`);
  await print(json && file === undefined ? text : [printReport(report, module), ...loose.map((error) => `${LOOSE}: ${error}`)].join('\n'));
  return report.failed > 0 || loose.length > 0 ? EXIT_DATA : 0;
}

/** How errors name the driver, and which ones need no file. */
const GRADED: DriverSource = {
  prefix: '',
  command: 'farfault grade',
  builtIn: {
    nouveau: { factory: nouveau, expectations: { options: { vram: 1 * MiB } } },
    mirror: { factory: mirror },
    integrated: { factory: integrated },
    npu: { factory: npu, expectations: { options: { vram: 2 * MiB, granule: 4096 } } },
    kvm: { factory: kvm },
    rdma: { factory: rdma },
    iommu: { factory: iommu },
    dmirror: { factory: dmirror, expectations: { options: { chunkBytes: 2 * MiB } } },
  },
};

/** Their names. */
export const SHIPPED_DRIVERS: readonly string[] = Object.keys(GRADED.builtIn);

/** What the driver threw where nobody could catch it. */
const LOOSE = 'The driver threw in a timer or a promise of its own, outside of every call';

interface Outcome {
  readonly report: GradeReport;
  /** Errors that came from a timer or a promise of the driver's: no case can see them. */
  readonly loose: readonly string[];
}

/** Grades. Throws UsageError when that cannot begin: the expectations are wrong. */
async function run(driver: string, begin: () => Promise<GradeReport>): Promise<Outcome> {
  const loose: string[] = [];
  const catchLoose = (error: unknown): void => void loose.push(oneLine(error));
  process.on('uncaughtException', catchLoose).on('unhandledRejection', catchLoose);
  // A driver in an endless loop leaves no turn for our own answer to Ctrl-C: the system's is quicker.
  for (const signal of SIGNALS) process.removeAllListeners(signal);
  try {
    const report = await begin();
    // What is under way comes to its end.
    await new Promise((resolve) => setTimeout(resolve, 0));
    return { report, loose: [...new Set(loose)] };
  } catch (error) {
    if (isFarfaultError(error) && error.code === 'EINVAL') throw new UsageError(`${driver}: ${oneLine(error)}`, { cause: error });
    throw error;
  } finally {
    process.off('uncaughtException', catchLoose).off('unhandledRejection', catchLoose);
  }
}

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** Runs the cases one by one, so that a terminal, and a lookout, know which one is being run: the one that never ends. */
async function gradeCases(factory: DriverFactory<object>, expectations: Expectations): Promise<GradeReport> {
  const { cases = CONTRACT.map((each) => each.name) } = expectations;
  const names = typeof cases === 'string' ? [cases] : [...new Set(cases)];
  const progress = showSteps(names.length);
  const lookout = postLookout();
  let whole: GradeReport | undefined;
  try {
    for (const name of names) {
      progress.begin(name);
      lookout.begin(name);
      const report = await gradeDriver(factory, { ...expectations, cases: name });
      whole = whole ? joined(whole, report) : report;
      if (report.cases[0]?.verdict === 'failed') break;
    }
  } finally {
    lookout.stop();
    progress.stop();
  }
  return whole ?? gradeDriver(factory, { ...expectations, cases: [] });
}

/** Two reports on one driver: whether it can be attached is in both. */
function joined(one: GradeReport, other: GradeReport): GradeReport {
  const cases = [...one.cases, ...other.cases.slice(1)];
  const of = (verdict: Verdict): number => cases.filter((each) => each.verdict === verdict).length;
  return { ...one, passed: of('passed'), failed: of('failed'), notApplicable: of('not applicable'), cases };
}

/** `vram=16MiB` and the like. The last of one name counts. */
function driverOptions(words: readonly string[]): Readonly<Record<string, unknown>> {
  return Object.fromEntries(
    words.map((word) => {
      const [, name, value] = /^([A-Za-z_$][\w$]*)=(.+)$/s.exec(word) ?? [];
      if (name === undefined || value === undefined) throw new UsageError(`--option ${word} is not name=value, such as vram=16MiB`);
      return [name, parseValue(value)];
    }),
  );
}

function knownCase(name: string): string {
  const names = CASES.map((each) => each.name);
  if (names.includes(name)) return name;
  const near = nearest(name, names);
  throw new UsageError(
    `unknown case "${name}": ${near === undefined ? 'farfault grade --list names them all' : `did you mean "${near}"?`}`,
  );
}

/** All cases, by group: the name, and the rule below it. */
function list(): string {
  return GROUPS.map((group) => ({ group, cases: CASES.filter((each) => each.group === group) }))
    .filter(({ cases }) => cases.length > 0)
    .map(({ group, cases }) => [group, ...cases.flatMap(({ name, rule }) => [`  ${name}`, `      ${rule}`])].join('\n'))
    .join('\n\n');
}

/** A report whose commands can be typed as they are. */
function named(report: GradeReport, module: string): GradeReport {
  return { ...report, cases: report.cases.map((each) => ({ ...each, replay: each.replay.replace('<driver>', () => module) })) };
}

/** A word as a shell wants it. */
function quoted(word: string): string {
  return /^[\w./:=@%+,-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}

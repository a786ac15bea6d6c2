/**
 * Grading: a driver, all cases, and what came of each.
 *
 * ```ts
 * const report = await gradeDriver(tinygpu, { options: { vram: 1 * MiB } });
 * console.log(printReport(report));
 * ```
 */
import { fail, isFarfaultError } from '../../errors.ts';
import { requireArray, requireFunction, requireObject, requireOptions } from '../../mm/arguments.ts';
import { MACHINE_OPTIONS } from '../../machine.ts';
import { Bench, type Heir } from './bench.ts';
import { type AnyFactory, type CaseGroup, type ContractCase, ContractFailure, type Expectations, GROUPS, type Profile } from './case.ts';
import { CONTRACT } from './cases/index.ts';
import { profileOf } from './profile.ts';

/** How a case ended. */
export type Verdict = 'passed' | 'failed' | 'not applicable';

/** What came of one case. */
export interface CaseReport {
  readonly name: string;
  readonly group: CaseGroup;
  /** The rule in one sentence. */
  readonly rule: string;
  readonly verdict: Verdict;
  /** Why it does not apply, or what was seen; empty when it passed. */
  readonly reason: string;
  /** State before the verb that went wrong, and when it had: a letter a page, see `space.dump`. Empty unless failed. */
  readonly before: string;
  readonly after: string;
  /** The last calls into the driver. Empty unless failed. */
  readonly calls: string;
  readonly seed: number;
  /** The command that shows this failure again; `<driver>` stands for the module. */
  readonly replay: string;
}

/** What came of all cases. */
export interface GradeReport {
  readonly driver: string;
  readonly seed: number;
  readonly passed: number;
  readonly failed: number;
  readonly notApplicable: number;
  readonly cases: readonly CaseReport[];
}

/** The two functions that a test runner must have. */
export interface Runner {
  readonly describe: (name: string, body: () => void) => unknown;
  readonly it: (name: string, body: () => Promise<void>) => unknown;
}

/** The case that stands for making and attaching the driver, before any other can be run. */
export const ATTACH = {
  name: 'the driver attaches to an address space',
  group: 'attach',
  rule: 'A driver is made from its options and attached to an empty address space without an error.',
} as const;

/** Runs the contract's cases on a driver. Errors: EINVAL for a factory that is no function, or a case that does not exist. */
export async function gradeDriver(factory: AnyFactory, expectations: Expectations = {}): Promise<GradeReport> {
  requireFactory(factory);
  requireExpectations(expectations);
  const seed = requireSeed(expectations.seed);
  const chosen = chosenCases(expectations.cases);
  let profile: Profile;
  try {
    profile = await profileOf(factory, expectations);
  } catch (error) {
    const name = driverName(factory, expectations);
    return count(name, seed, [failed({ ...ATTACH, seed }, error, undefined)]);
  }
  const cases: CaseReport[] = [passed({ ...ATTACH, seed })];
  const heir: Heir = { spare: undefined };
  for (const each of chosen) cases.push(await gradeCase(each, factory, profile, expectations, seed, heir));
  heir.spare?.close();
  return count(profile.driver.name, seed, cases);
}

/**
 * The contract as tests of any runner that has `describe` and `it`: one test a case. A case that does not apply is skipped, with the reason, where the runner lets a test that has begun skip itself (Vitest, Mocha, `node:test`),
 * and passes elsewhere. Throws in `it` what `gradeDriver` would report.
 */
export function driverContract(factory: AnyFactory, expectations: Expectations, runner: Runner): void {
  requireFactory(factory);
  requireExpectations(expectations);
  requireObject('driverContract.runner', runner, 'an object with describe and it');
  const { describe, it } = runner;
  requireFunction('driverContract.runner.describe', describe);
  requireFunction('driverContract.runner.it', it);
  const seed = requireSeed(expectations.seed);
  const chosen = chosenCases(expectations.cases);
  const name = driverName(factory, expectations);
  const heir: Heir = { spare: undefined };
  describe(`driver contract: ${name}`, () => {
    let profile: Promise<Profile> | undefined;
    it(ATTACH.name, async () => {
      await (profile ??= profileOf(factory, expectations));
    });
    for (const group of GROUPS) {
      const members = chosen.filter((each) => each.group === group);
      if (members.length === 0) continue;
      describe(group, () => {
        for (const each of members) {
          it(each.name, async function (this: unknown): Promise<void> {
            // Not a parameter: to Mocha and Jest one is a callback, to Vitest a list of fixtures.
            // eslint-disable-next-line prefer-rest-params
            const runners: readonly unknown[] = [arguments[0], this];
            const found = await (profile ??= profileOf(factory, expectations));
            const report = await gradeCase(each, factory, found, expectations, seed, heir);
            if (report.verdict === 'failed') throw new ContractFailure(printFailure(report));
            if (report.verdict === 'not applicable') skip(runners, report.reason);
          });
        }
      });
    }
  });
}

/** Says that the test under way does not apply: to what a runner has passed to it (Vitest, `node:test`), or calls it on (Mocha). May throw, which is how they hear of it. */
function skip(runners: readonly unknown[], reason: string): void {
  const runner = runners.find((each) => typeof (each as { skip?: unknown } | null | undefined)?.skip === 'function');
  (runner as { skip(reason: string): void } | undefined)?.skip(reason);
}

/** Runs one case on an empty machine: the one that a case before has left empty, or a new one. */
async function gradeCase(
  each: ContractCase,
  factory: AnyFactory,
  profile: Profile,
  expectations: Expectations,
  seed: number,
  heir: Heir,
): Promise<CaseReport> {
  const facts = { name: each.name, group: each.group, rule: each.rule, seed };
  const notApplicable = expectations.notApplicable?.[each.name] ?? each.needs?.(profile, expectations);
  if (notApplicable !== undefined) return { ...passed(facts), verdict: 'not applicable', reason: notApplicable };
  let bench: Bench | undefined;
  try {
    const { spare } = heir;
    heir.spare = undefined;
    bench = await Bench.make(profile, () => factory(expectations.options as never), expectations, seed, spare);
    await each.run(bench);
    await bench.end();
    bench.leaveTo(heir);
    return passed(facts);
  } catch (error) {
    return failed(facts, error, bench);
  } finally {
    bench?.close();
  }
}

type Facts = Pick<CaseReport, 'name' | 'group' | 'rule' | 'seed'>;

function passed(facts: Facts): CaseReport {
  return { ...facts, verdict: 'passed', reason: '', before: '', after: '', calls: '', replay: replayOf(facts) };
}

function failed(facts: Facts, error: unknown, bench: Bench | undefined): CaseReport {
  // A violation that was seen on the way says more than what came of it later.
  const violation = bench?.watched.violations[0];
  const seen = said(error);
  return {
    ...passed(facts),
    verdict: 'failed',
    reason: violation && !seen.includes(violation) ? `${seen}; before that: ${violation}` : seen,
    before: bench?.before ?? '',
    after: bench?.state() ?? '',
    calls: bench?.watched.calls() ?? '',
  };
}

function said(error: unknown): string {
  if (error instanceof ContractFailure || isFarfaultError(error)) return error.message;
  return error instanceof Error ? `${error.name}: ${error.message}` : String(error);
}

function replayOf({ name, seed }: Facts): string {
  return `farfault grade <driver> --case "${name}" --seed ${seed}`;
}

function count(driver: string, seed: number, cases: readonly CaseReport[]): GradeReport {
  const of = (verdict: Verdict): number => cases.filter((each) => each.verdict === verdict).length;
  return { driver, seed, passed: of('passed'), failed: of('failed'), notApplicable: of('not applicable'), cases };
}

/** A report as text: a line for each case, then what each failure says. `module`: what stands for the driver in the commands that replay. */
export function printReport(report: GradeReport, module = '<driver>'): string {
  requireObject('printReport.report', report, 'what gradeDriver answers');
  requireArray('printReport.report.cases', report.cases);
  if (typeof module !== 'string') throw fail('EINVAL', 'printReport.module', module, 'is not text');
  const lines: string[] = [`driver ${report.driver}, seed ${report.seed}`];
  for (const group of GROUPS) {
    const members = report.cases.filter((each) => each.group === group);
    if (members.length === 0) continue;
    lines.push('', group);
    for (const each of members) {
      const sign = { passed: 'passed', failed: 'FAILED', 'not applicable': '-     ' }[each.verdict];
      lines.push(`  ${sign}  ${each.name}${each.verdict === 'not applicable' ? ` (${each.reason})` : ''}`);
    }
  }
  for (const each of report.cases) if (each.verdict === 'failed') lines.push('', printFailure(each, module));
  lines.push('', `${report.passed} passed, ${report.failed} failed, ${report.notApplicable} not applicable`);
  return lines.join('\n');
}

/** What a failed case says. */
export function printFailure(report: CaseReport, module = '<driver>'): string {
  requireObject('printFailure.report', report, 'the report of a case');
  if (typeof report.name !== 'string') throw fail('EINVAL', 'printFailure.report.name', report.name, 'is not text');
  if (typeof module !== 'string') throw fail('EINVAL', 'printFailure.module', module, 'is not text');
  const block = (title: string, text: string): string => (text ? `\n  ${title}\n${text.replace(/^/gm, '    ')}` : '');
  return (
    `${report.name}\n  rule: ${report.rule}\n  seen: ${report.reason.replace(/\n/g, '\n        ')}` +
    block('state before', report.before) +
    block('state after', report.after) +
    block('last calls', report.calls) +
    `\n  seed ${report.seed}; again: ${report.replay.replace('<driver>', module)}`
  );
}

function chosenCases(names: Expectations['cases']): readonly ContractCase[] {
  if (names === undefined) return CONTRACT;
  const wanted = typeof names === 'string' ? [names] : names;
  requireArray('expectations.cases', wanted);
  for (const name of wanted) {
    if (name !== ATTACH.name && !CONTRACT.some((each) => each.name === name))
      throw fail('EINVAL', 'expectations.cases', name, 'is not the name of a case');
  }
  return CONTRACT.filter((each) => wanted.includes(each.name));
}

function requireFactory(factory: AnyFactory): void {
  if (typeof factory !== 'function') throw fail('EINVAL', 'factory', factory, 'is not a function that makes a driver (see defineDriver)');
}

/** What expectations can say. */
const EXPECTATIONS: Readonly<Record<keyof Expectations, string>> = {
  options: 'object',
  machine: 'object',
  settle: 'function',
  notApplicable: 'object',
  exercise: 'function',
  seed: 'number',
  cases: 'names',
};

/** Throws EINVAL for what nobody would look at: an unknown or misspelt field, a case that does not exist, a value of another type. */
function requireExpectations(expectations: Expectations): void {
  requireOptions('expectations', expectations, EXPECTATIONS);
  for (const [name, value] of Object.entries(expectations) as [keyof Expectations, unknown][]) {
    const type = EXPECTATIONS[name];
    if (value === undefined || type === 'number' || type === 'names') continue;
    if (typeof value !== type || value === null)
      throw fail('EINVAL', `expectations.${name}`, value, `is not ${type === 'object' ? 'an object' : 'a function'}`);
  }
  if (expectations.machine !== undefined) requireOptions('expectations.machine', expectations.machine, MACHINE_OPTIONS);
  for (const [name, reason] of Object.entries(expectations.notApplicable ?? {})) {
    if (!CONTRACT.some((each) => each.name === name)) throw fail('EINVAL', 'expectations.notApplicable', name, 'is not the name of a case');
    if (typeof reason !== 'string' || reason === '')
      throw fail('EINVAL', `expectations.notApplicable["${name}"]`, reason, 'is not a reason in words');
  }
}

function requireSeed(seed = 1): number {
  if (!Number.isSafeInteger(seed) || seed < 0) throw fail('EINVAL', 'expectations.seed', seed, 'is not a non-negative integer');
  return seed;
}

function driverName(factory: AnyFactory, expectations: Expectations): string {
  try {
    return factory(expectations.options as never).name;
  } catch {
    return 'unknown';
  }
}

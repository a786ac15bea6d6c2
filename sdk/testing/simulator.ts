/**
 * The third runner of steps: it decides at every point which step goes on, and so finds the orders in which racing operations go wrong.
 * Only schedules that the locks and tickets allow are taken. A schedule is written as the numbers of the steps in the order of their
 * turns, `0.1.1.0`, and can be replayed.
 */
import { fail } from '../errors.ts';
import { type NamesOf, requireCount, requireFunction, requireObject, requireOptions } from '../mm/arguments.ts';
import { DONE, Run, type RunHost, type Step } from '../step/step.ts';

/** A small world, made afresh for every schedule, so that none sees what another left. */
export interface Race {
  /** The operations that race. A device that completes a ticket is one of them. */
  readonly steps: readonly Step[];
  /** Throws when the state after all steps have ended is wrong. */
  check(): void;
  /** Throws when a state that must hold between any two turns does not. */
  always?(): void;
  /** Asked when no step can go on; returns whether it has done something about it. For what a machine does when nothing else can: `() => machine.flushDeferred()`. */
  idle?(): boolean;
  /** Whether the step with this number may fail with `error`; otherwise a failing step is a finding. */
  mayFail?(error: unknown, step: number): boolean;
}

/** What went wrong, and the schedule that shows it. */
export interface Finding {
  readonly kind: 'deadlock' | 'endless' | 'step' | 'check';
  /** Give it to `replaySchedule`. */
  readonly schedule: string;
  /** What the step or the check threw, or an error that tells who waits for what. */
  readonly error: unknown;
}

/** How far an exploration came. */
export interface Exploration {
  /** Schedules run. */
  readonly schedules: number;
  /** Whether these were all there are. */
  readonly complete: boolean;
  /** The first thing that went wrong. */
  readonly finding?: Finding;
}

/** Schedules that `exploreAll` runs when no limit is given. */
export const SCHEDULES_MAX = 100_000;
/** Schedules that can be asked for. */
const RUNS_MAX = 2 ** 32;
/** Turns in one schedule; more means that the steps never end. */
export const TURNS_MAX = 100_000;

/** Runs every schedule, in order, until something goes wrong or `limit` schedules have been run. */
export function exploreAll(setup: () => Race, bounds: { readonly limit?: number } = {}): Exploration {
  requireFunction('exploreAll.setup', setup);
  requireOptions('exploreAll', bounds, { limit: true } satisfies NamesOf<typeof bounds>);
  const { limit = SCHEDULES_MAX } = bounds;
  requireCount('exploreAll.limit', limit, 1, RUNS_MAX);
  // The choice made at each turn of the last schedule: an index into the steps that could have gone on.
  const choices: number[] = [];
  const options: number[] = [];
  for (let schedules = 1; schedules <= limit; schedules++) {
    let turn = 0;
    const finding = runSchedule(setup(), (runnable) => {
      if (turn === choices.length) choices.push(0);
      options[turn] = runnable.length;
      return runnable[choices[turn++] as number] as number;
    });
    if (finding) return { schedules, complete: false, finding };
    choices.length = turn;
    while (choices.length > 0 && (choices[choices.length - 1] as number) + 1 === options[choices.length - 1]) choices.pop();
    if (choices.length === 0) return { schedules, complete: true };
    choices[choices.length - 1] = (choices[choices.length - 1] as number) + 1;
  }
  return { schedules: limit, complete: false };
}

/** Runs `runs` schedules chosen by `seed`, until something goes wrong. */
export function exploreSeeded(setup: () => Race, seed: number, runs: number): Exploration {
  requireFunction('exploreSeeded.setup', setup);
  requireCount('exploreSeeded.seed', seed, 0, 2 ** 32 - 1);
  requireCount('exploreSeeded.runs', runs, 1, RUNS_MAX);
  const random = randomOf(seed);
  for (let schedules = 1; schedules <= runs; schedules++) {
    const finding = runSchedule(setup(), (runnable) => runnable[random(runnable.length)] as number);
    if (finding) return { schedules, complete: false, finding };
  }
  return { schedules: runs, complete: false };
}

/** Runs one written schedule; after its end the lowest step that can goes on. Throws EINVAL when a step named in it cannot go on. */
export function replaySchedule(setup: () => Race, schedule: string): Finding | undefined {
  requireFunction('replaySchedule.setup', setup);
  if (typeof schedule !== 'string' || !/^(\d+(\.\d+)*)?$/.test(schedule))
    throw fail('EINVAL', 'replaySchedule.schedule', schedule, 'is not a list of step numbers, as in 0.1.1.0');
  const written = schedule === '' ? [] : schedule.split('.').map(Number);
  let turn = 0;
  return runSchedule(setup(), (runnable) => {
    const wanted = turn < written.length ? (written[turn] as number) : (runnable[0] as number);
    if (!runnable.includes(wanted)) throw fail('EINVAL', 'schedule', schedule, `names a step that cannot go on at turn ${turn}`);
    turn++;
    return wanted;
  });
}

/** What a finding says, in a few lines: print it when a test fails. */
export function printFinding(finding: Finding): string {
  requireObject('printFinding.finding', finding, 'a finding');
  if (!['deadlock', 'endless', 'step', 'check'].includes(finding.kind))
    throw fail('EINVAL', 'printFinding.finding.kind', finding.kind, 'is not the kind of a finding');
  if (typeof finding.schedule !== 'string') throw fail('EINVAL', 'printFinding.finding.schedule', finding.schedule, 'is not text');
  const error = finding.error instanceof Error ? finding.error.message : String(finding.error);
  return `${finding.kind}: ${error}\nreplaySchedule(setup, '${finding.schedule}')`;
}

function runSchedule(race: Race, choose: (runnable: readonly number[]) => number): Finding | undefined {
  const turns: number[] = [];
  const finding = (kind: Finding['kind'], error: unknown): Finding => ({ kind, schedule: turns.join('.'), error });

  let reported: { readonly error: unknown } | undefined;
  const waiting = new Set<Run>();
  const runs: Run[] = [];
  const unfinished = new Set<number>();
  const host: RunHost = {
    checked: true,
    interleaves: true,
    woken: (run) => void waiting.delete(run),
    settle: () => {},
    spawn: (step) => spawn(step),
    report: (error) => (reported ??= { error }),
  };
  // What a step spawns gets the next number.
  const spawn = (step: Step): void => {
    const run = new Run(host);
    run.start(step, runs.length);
    unfinished.add(runs.length);
    runs.push(run);
  };
  for (const step of race.steps) spawn(step);
  let idle = 0;

  while (unfinished.size > 0) {
    const runnable = [...unfinished].filter((number) => !waiting.has(runs[number] as Run));
    if (runnable.length === 0) {
      if (idle++ < TURNS_MAX && race.idle?.()) continue;
      return finding('deadlock', deadlock([...waiting]));
    }
    if (turns.length >= TURNS_MAX) return finding('endless', fail('ETIME', 'turns', TURNS_MAX, 'is the limit of a schedule'));

    const number = choose(runnable);
    turns.push(number);
    const run = runs[number] as Run;
    try {
      const progress = run.advance();
      if (progress === DONE) unfinished.delete(number);
      else if (run.waiting !== undefined) waiting.add(run);
    } catch (error) {
      if (!race.mayFail?.(error, number)) return finding('step', error);
      unfinished.delete(number);
    }
    if (reported) return finding('step', reported.error);
    try {
      race.always?.();
    } catch (error) {
      return finding('check', error);
    }
  }
  try {
    race.check();
  } catch (error) {
    return finding('check', error);
  }
  return undefined;
}

function deadlock(runs: readonly Run[]): Error {
  const facts = runs.map((run) => {
    const held =
      run.held
        .toArray()
        .map((lock) => lock.label)
        .join(', ') || 'nothing';
    return `${run.label} holds ${held} and waits for ${run.waiting?.label ?? 'nothing'}`;
  });
  return fail('EBUSY', 'deadlock', runs.length, `steps wait for each other or for nobody: ${facts.join('; ')}`);
}

// xorshift32, and a multiplication instead of a remainder: good enough to choose schedules, the same in every host.
function randomOf(seed: number): (below: number) => number {
  let state = Math.imul(seed ^ 0x9e3779b9, 0x85ebca6b) | 1;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return Math.floor(((state >>> 0) / 0x1_0000_0000) * below);
  };
}

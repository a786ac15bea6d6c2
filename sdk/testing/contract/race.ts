/**
 * Operations that race: at every point a seed decides which of them goes on, as on a machine with several processors. A device that takes its time is let go on now and then, and whenever all of them wait for it.
 */
import { DONE, Run, type RunHost, type Step } from '../../step/step.ts';
import { ContractFailure } from './case.ts';

export interface RaceOptions {
  /** A number below `n`, from the seed. */
  readonly random: (n: number) => number;
  /** Lets the device go on. */
  readonly turn: () => Promise<void>;
  /** Turns that all wait before they are said to wait for ever. */
  readonly patience: number;
  /** Called after every step: throws when something is wrong already. */
  readonly always?: () => void;
}

/** Advances after which an operation begins, at most: short operations meet long ones at their beginning, and in their middle. */
const DELAYS = [4, 16, 64];

/** Runs all steps to their ends; returns what each of them threw, undefined where it ended well. Throws ContractFailure when they never end. */
export async function race(steps: readonly Step[], { random, turn, patience, always }: RaceOptions): Promise<unknown[]> {
  const errors: unknown[] = steps.map(() => undefined);
  const parked = new Set<Run>();
  const host: RunHost = {
    checked: true,
    interleaves: true,
    woken: (run) => void parked.delete(run),
    settle: () => {},
    report: (error) => {
      throw error;
    },
  };
  const runs = steps.map((step, id) => {
    const run = new Run(host);
    run.start(step, id);
    return run;
  });
  const going = new Set(runs);
  const delays = runs.map((_, i) => (i === 0 ? 0 : random(DELAYS[random(DELAYS.length)]!)));
  let advances = 0;
  let idle = 0;
  while (going.size > 0) {
    const awake = [...going].filter((run) => !parked.has(run));
    const begun = awake.filter((run) => delays[run.id]! <= advances);
    const ready = begun.length > 0 ? begun : awake;
    if (ready.length === 0) {
      if (++idle > patience)
        throw new ContractFailure(
          `${[...going].map((run) => `${run.step.name} waits for ${run.waiting?.label ?? 'its turn'}`).join('; ')}, for ever`,
        );
      await turn();
      continue;
    }
    idle = 0;
    if (random(16) === 0) await turn();
    const run = ready[random(ready.length)]!;
    if (parked.has(run)) continue;
    advances++;
    try {
      const progress = run.advance();
      if (progress === DONE) going.delete(run);
      else if (run.waiting !== undefined) parked.add(run);
    } catch (error) {
      errors[run.id] = error;
      going.delete(run);
    }
    always?.();
  }
  return errors;
}

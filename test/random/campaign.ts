/** Many programs one after the other; the first divergence ends it, with what is needed to see it again. */
import { parseProgram, printProgram, type Program, randomProgram, shrinkProgram } from '../../sdk/testing/program.ts';
import { Coverage } from './coverage.ts';
import { closeMachines, Divergence, runBoth } from './differential.ts';

export interface CampaignOptions {
  /** Of the first program; the next has the next. */
  readonly seed: number;
  readonly programs: number;
  /** Of each program. */
  readonly operations: number;
  /** Called now and then with how far it has come. */
  readonly progress?: (programs: number, operations: number) => void;
}

export interface CampaignReport {
  readonly programs: number;
  /** Carried out: fewer than asked for where a program ended early, since a device fault found host memory exhausted. */
  readonly operations: number;
  readonly coverage: Coverage;
}

/** Programs between two breaths: a test runner wants to hear of its tests. */
const PROGRAMS_PER_TURN = 20;

/** Runs programs of consecutive seeds. Throws for the first that diverges: its text, shrunk, and the commands that replay it. */
export async function campaign({ seed, programs, operations, progress }: CampaignOptions): Promise<CampaignReport> {
  const coverage = new Coverage();
  let done = 0;
  try {
    for (let i = 0; i < programs; i++) {
      const program = randomProgram(seed + i, operations);
      try {
        done += runBoth(program, coverage);
      } catch (error) {
        throw new Divergence(explain(program, error, `--seed ${seed + i} --programs 1 --operations ${operations}`), { cause: error });
      }
      if ((i + 1) % PROGRAMS_PER_TURN === 0) {
        progress?.(i + 1, done);
        await new Promise((resolve) => setTimeout(resolve));
      }
    }
  } finally {
    closeMachines();
  }
  return { programs, operations: done, coverage };
}

/** Runs the program of a text. Returns how many operations were carried out. */
export function replayProgram(text: string): number {
  try {
    return runBoth(parseProgram(text));
  } finally {
    closeMachines();
  }
}

function explain(program: Program, error: unknown, replay: string): string {
  const small = shrinkProgram(program, (candidate) => divergence(candidate) !== undefined);
  return [
    'the machine and the model differ',
    `as found: ${error instanceof Error ? error.message : String(error)}`,
    `replay:   npm run random -- ${replay}`,
    `shrunk:   ${divergence(small)}`,
    `replay:   npm run random -- --program '${printProgram(small)}'`,
  ].join('\n');
}

function divergence(program: Program): string | undefined {
  try {
    runBoth(program);
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

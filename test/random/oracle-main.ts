/** Programs of consecutive seeds on the machine and the oracle; the first divergence is shrunk and printed. Run by scripts/oracle.mjs. */
import { type Op, parseOps, printOps, shrinkOps } from './oracle-program.ts';
import { type Coverage, missingCells, printCoverage, runOps, runSeed } from './oracle-run.ts';

export const PROGRAM_LENGTH = 2000;

export interface FuzzReport {
  readonly operations: number;
  readonly hash: number;
  readonly coverage: Coverage;
}

export function message(ops: readonly Op[]): string | undefined {
  try {
    runOps(ops);
    return undefined;
  } catch (error) {
    return error instanceof Error ? (error.constructor.name === 'Divergence' ? error.message : `${error.stack}`) : String(error);
  }
}

/** So many operations from a seed on, in programs of PROGRAM_LENGTH. */
export function fuzz(seed: number, operations: number, progress?: (done: number) => void): FuzzReport {
  const coverage: Coverage = new Map();
  let done = 0;
  let hash = 0x811c9dc5;
  for (let i = 0; done < operations; i++) {
    const ops: Op[] = [];
    const length = Math.min(PROGRAM_LENGTH, operations - done);
    try {
      const both = runSeed(seed + i, length, ops, coverage);
      hash = Math.imul(hash ^ both.hash, 0x01000193) >>> 0;
    } catch (error) {
      const found = message(ops);
      if (found === undefined) throw error;
      const small = shrinkOps(ops, (rest) => message(rest) !== undefined);
      throw new Error(
        [
          'the machine and the oracle differ',
          `as found: ${found}`,
          `replay:   npm run oracle -- ${seed + i} ${length}`,
          `shrunk:   ${message(small)}`,
          `replay:   npm run oracle -- --program '${printOps(small)}'`,
        ].join('\n'),
        { cause: error },
      );
    }
    done += ops.length;
    progress?.(done);
  }
  return { operations: done, hash, coverage };
}

export function replay(text: string): string {
  return message(parseOps(text)) ?? 'no divergence';
}

export { missingCells, printCoverage };

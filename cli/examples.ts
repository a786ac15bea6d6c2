/** `farfault examples`: the three recorded workloads of the repository, replayed one after the other and printed side by side. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { formatReports, type ReplayReport } from 'farfault/replay';
import { parseArguments } from './arguments.ts';
import { DataError, UsageError } from './fail.ts';
import { print } from './output.ts';
import { dealt, MACHINE_OPTIONS, openTrace, readSidecar, runReplay, setUp } from './replay.ts';

const NAMES = ['stencil', 'bfs', 'hashjoin'] as const;
/** From dist/cli.js. */
const FOLDER = fileURLToPath(new URL('../examples/workloads/', import.meta.url));

/** Runs the command with the words that follow its name. */
export async function examples(words: readonly string[]): Promise<void> {
  const parsed = parseArguments(words, MACHINE_OPTIONS, 'farfault examples');
  if (parsed.positionals.length > 0) throw new UsageError(`examples takes no trace: farfault replay ${parsed.positionals[0]}`);
  const reports: ReplayReport[] = [];
  for (const name of NAMES) {
    const path = join(FOLDER, `${name}.trace.gz`);
    if (!existsSync(path)) throw new DataError(`${path} does not exist: the recorded workloads are in the repository, not in the package`);
    // A driver serves one machine: it keeps the state of its memory.
    const setup = await setUp(parsed);
    const trace = await openTrace(path);
    try {
      reports.push(await runReplay(trace, { ...setup, offload: dealt(readSidecar(`${path}.json`), setup.drivers) }));
    } finally {
      trace.close();
    }
  }
  await print(formatReports(reports));
}

/** Measures one contender, in the process that it is in. */
import { Bench } from 'tinybench';
import { type Contender, Timed } from './row.ts';

/** How long. */
export interface Effort {
  readonly warmUpMs: number;
  readonly runMs: number;
}

/** What one process found. */
export interface Measured {
  /** Median of its runs. */
  readonly ms: number;
  readonly checksum: number;
}

/** Runs it until it is warm, and then for as long as was asked, at least once. */
export async function measure(contender: Contender, { warmUpMs, runMs }: Effort): Promise<Measured> {
  await medianMs(contender, warmUpMs);
  const ms = await medianMs(contender, runMs);
  return { ms, checksum: contender.checksum() };
}

async function medianMs({ run, reset }: Contender, ms: number): Promise<number> {
  const bench = new Bench({ time: ms, iterations: 1, warmup: false, throws: true });
  const hooks = reset ? { beforeEach: reset } : {};
  if (run instanceof Timed) bench.add('run', async () => ({ overriddenDuration: await run.ms() }), { async: true, ...hooks });
  else bench.add('run', run, { async: false, ...hooks });
  const [task] = run instanceof Timed ? await bench.run() : bench.runSync();
  const { result } = task!;
  if (!('latency' in result)) throw new Error(`a run ended as ${result.state}`);
  return result.latency.p50;
}

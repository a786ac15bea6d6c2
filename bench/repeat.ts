/** The work of one row, ours, done so many times in this process, and nothing else: what `npm run bench:lines` counts the instructions of. */
import { type Row, Timed } from './row.ts';

export async function repeat(rows: readonly Row[], name: string, times: number): Promise<void> {
  const row = rows.find((each) => each.name === name);
  if (!row || typeof row.ours !== 'function') throw new Error(`${name} is not a row that is worked in this process`);
  const { reset, run } = await row.ours();
  for (let i = 0; i < times; i++) {
    reset?.();
    if (run instanceof Timed) await run.ms();
    else run();
  }
}

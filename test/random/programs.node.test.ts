import { expect, test } from 'vitest';
import { campaign, replayProgram } from './campaign.ts';

/** What `npm run random` asks for; without it a fixed number of programs. */
interface Asked {
  readonly seed?: number;
  readonly programs?: number;
  readonly operations?: number;
  readonly program?: string;
}

const asked = JSON.parse(process.env['FARFAULT_RANDOM'] ?? 'null') as Asked | null;
const { seed = 1, programs = 300, operations = 60, program } = asked ?? {};
const DAY_MS = 24 * 3600 * 1000;

test('random programs reach every entry with every operation, and the machine and the model agree', { timeout: DAY_MS }, async () => {
  if (program !== undefined) {
    console.log(`${replayProgram(program)} operations, no divergence`);
    return;
  }
  const said = { at: 0 };
  const progress = (done: number, carriedOut: number): void => {
    if (!asked || done < said.at + 1000) return;
    said.at = done;
    console.log(`${done} programs, ${carriedOut} operations`);
  };
  const report = await campaign({ seed, programs, operations, progress });
  if (asked) {
    console.log(`${report.programs} programs, ${report.operations} operations, no divergence`);
    console.log(report.coverage.table());
    return;
  }
  expect(report.coverage.missing).toEqual([]);
  expect(report.coverage.impossible).toEqual([]);
});

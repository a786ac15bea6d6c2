import { readFileSync, writeFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { closeMachine, Seen } from './run.ts';
import { IMPOSSIBLE_STEPS, legalSteps, MEETING, rulesOf, STEPS, StepTable } from './step-table.ts';
import { fewest, meet, type Meeting, meetings } from './steps.ts';

/** The programs that CI runs: as few as fill the table. FARFAULT_WRITE_HASH=1 chooses them anew among all, and FARFAULT_STEPS=1 runs all and prints the table. */
const committed = new URL('./steps.json', import.meta.url);

test('every verb and step is in one rule', () => {
  expect(MEETING.flatMap((verb) => STEPS.filter((step) => rulesOf(verb, step) !== 1).map((step) => `${verb} ${step}`))).toEqual([]);
});

test(
  'every kind of entry meets every verb in each step that it can be in, every byte is what the value model says, and no frame is left',
  { timeout: 600_000 },
  () => {
    const isAsked = process.env['FARFAULT_STEPS'] !== undefined;
    if (process.env['FARFAULT_WRITE_HASH']) write();
    const { hash, programs } = JSON.parse(readFileSync(committed, 'utf8')) as { hash: string; programs: Meeting[] };
    const table = new StepTable();
    const seen = new Seen();
    meet(isAsked ? meetings() : programs, table, seen);
    closeMachine();
    if (isAsked) console.log(table.toString());
    expect(legalSteps().filter((cell) => !table.cells.has(cell))).toEqual([]);
    expect([...table.cells.keys()].filter((cell) => IMPOSSIBLE_STEPS.has(cell))).toEqual([]);
    if (!isAsked) expect(seen.hash.toString(16)).toBe(hash);
  },
);

function write(): void {
  const reached: (readonly [Meeting, readonly string[]])[] = [];
  for (const meeting of meetings()) {
    const table = new StepTable();
    meet([meeting], table, new Seen());
    reached.push([meeting, [...table.cells.keys()]]);
  }
  const programs = fewest(reached);
  const seen = new Seen();
  meet(programs, new StepTable(), seen);
  const rows = programs
    .map((meeting) => `    { ${JSON.stringify(meeting).slice(1, -1).replaceAll('":', '": ').replaceAll(',"', ', "')} }`)
    .join(',\n');
  writeFileSync(committed, `{\n  "hash": "${seen.hash.toString(16)}",\n  "programs": [\n${rows}\n  ]\n}\n`);
}

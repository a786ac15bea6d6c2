import { readFileSync, writeFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { IMPOSSIBLE, legalCells } from './coverage.ts';
import { closeMachine, fuzz, runProgram, Seen } from './run.ts';
import { directedPrograms, randomOperations } from './operations.ts';

/** What `npm run fuzz` asks for; without it a fixed number of operations, whose hash is committed. */
interface Asked {
  readonly seed: number;
  readonly operations: number;
}

const asked = JSON.parse(process.env['FARFAULT_FUZZ'] ?? 'null') as Asked | null;
const committed = new URL('./hash.json', import.meta.url);
const SHORT: Asked = { seed: 1, operations: 60_000 };
const DAY_MS = 24 * 3600 * 1000;

test(
  'five spaces and three devices: every byte is what the value model says, whatever random programs do',
  { timeout: DAY_MS },
  async () => {
    const { seed, operations } = asked ?? SHORT;
    const began = performance.now();
    let said = began;
    const seen = await fuzz({
      seed,
      operations,
      progress: (done) => {
        if (!asked || performance.now() < said + 5000) return;
        said = performance.now();
        console.log(`${done} operations, ${Math.round(done / ((said - began) / 1000))} a second`);
      },
    });
    const hash = seen.hash.toString(16).padStart(8, '0');
    if (asked) {
      console.log(seen.table());
      console.log(`seed ${seed}: ${seen.operations} operations, no divergence, hash ${hash}`);
      return;
    }
    for (const program of directedPrograms()) runProgram(program, seen);
    closeMachine();
    if (process.env['FARFAULT_WRITE_HASH']) writeFileSync(committed, `${JSON.stringify({ ...SHORT, hash }, undefined, 2)}\n`);
    expect({ ...SHORT, hash }).toEqual(JSON.parse(readFileSync(committed, 'utf8')));
    expect(legalCells().filter((cell) => !seen.cells.has(cell))).toEqual([]);
    expect([...seen.cells.keys()].filter((cell) => IMPOSSIBLE.has(cell))).toEqual([]);
  },
);

test('the same program has the same hash twice', () => {
  const program = randomOperations(7, 1000);
  const hashes = [0, 1].map(() => {
    const seen = new Seen();
    runProgram(program, seen);
    return seen.hash;
  });
  closeMachine();
  expect(hashes[0]).toBe(hashes[1]);
});

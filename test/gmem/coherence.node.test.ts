import { readFileSync, writeFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { coherence } from './coherence/run.ts';
import { Register } from './coherence/register.ts';
import { VERBS } from './coherence/verbs.ts';

/** What `npm run coherence` asks for; without it a fixed number of operations, whose hash is committed. */
const asked = JSON.parse(process.env['FARFAULT_COHERENCE'] ?? 'null') as { readonly seed: number; readonly operations: number } | null;
const committed = new URL('./coherence.json', import.meta.url);
const SHORT = { seed: 1, operations: 10_000 };

test(
  'three spaces and four devices that answer late: every load sees the last write, whatever is under way',
  { timeout: 24 * 3600 * 1000 },
  async () => {
    const { seed, operations } = asked ?? SHORT;
    const began = performance.now();
    let said = began;
    const progress = (done: number): void => {
      if (!asked || performance.now() < said + 5000) return;
      said = performance.now();
      console.log(`${done} operations, ${Math.round(done / ((said - began) / 1000))} a second`);
    };
    const { hash, verbs } = await coherence({ seed, operations, progress });
    if (asked) {
      console.log([...verbs].map(([name, count]) => `${String(count).padStart(9)}  ${name}`).join('\n'));
      console.log(`seed ${seed}: ${operations} operations, every load saw the last write, hash ${hash}`);
      return;
    }
    if (process.env['FARFAULT_WRITE_HASH']) writeFileSync(committed, `${JSON.stringify({ ...SHORT, hash }, undefined, 2)}\n`);
    expect({ ...SHORT, hash }).toEqual(JSON.parse(readFileSync(committed, 'utf8')));
    expect(VERBS.filter(({ name }) => !verbs.has(name)).map(({ name }) => name)).toEqual([]);
  },
);

test('the oracle knows what a read may return', () => {
  const word = new Register(0);
  const values = (began: number): number[] => word.possible(began).map(({ value }) => value);
  const first = word.begin(1, 10);
  expect(values(11)).toEqual([0, 1]);
  first.done = 20;
  expect(values(15)).toEqual([0, 1]);
  expect(values(21)).toEqual([1]);
  const second = word.begin(2, 30);
  expect(values(31)).toEqual([1, 2]);
  // Once it has been seen, nothing older may be.
  expect(word.saw(2, 31, 35)).toBe(true);
  expect(values(36)).toEqual([2]);
  expect(word.saw(1, 36, 37)).toBe(false);
  word.withdraw(second);
  expect(values(40)).toEqual([1]);
});

import { afterAll, expect, test } from 'vitest';
import { closeRaceMachine, raceOf, races, runRace } from './race.ts';

declare const process: { readonly env: Record<string, string | undefined> };

afterAll(closeRaceMachine);

/** `FARFAULT_RACES=seed,count` for more than the short form. */
const [seed = 1, count = 3000] = (process.env['FARFAULT_RACES'] ?? '').split(',').filter(Boolean).map(Number);

test(
  'two or three operations at once, while devices flush and copy late: the outcome is that of one order',
  { timeout: 24 * 3600 * 1000 },
  async () => {
    await races(seed, count);
  },
);

test('a race of a seed is the same twice', async () => {
  expect(raceOf(7, false)).toEqual(raceOf(7, false));
  expect(await runRace(raceOf(7, false))).toBe(undefined);
});

import { readFileSync, writeFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { explore, type SmallStates, type SmallWorldOptions } from './small-states.ts';

/** `FARFAULT_DEPTH=20` takes every operation in every state that there is. */
const asked = process.env['FARFAULT_DEPTH'];
const committed = new URL('./small-states.json', import.meta.url);
const counts = JSON.parse(readFileSync(committed, 'utf8')) as Record<string, SmallStates>;

const gpu = { name: 'gpu', pages: 2 };
const WORLDS: readonly { readonly name: string; readonly depth: number; readonly options: SmallWorldOptions }[] = [
  { name: 'two with memory, one of which has room for one page', depth: 6, options: { devices: [gpu, { name: 'small', pages: 1 }] } },
  { name: 'one with memory and one without', depth: 4, options: { devices: [gpu, { name: 'nic', pages: 0 }] } },
];

describe('two pages, a CPU and two devices: in every state that a few operations lead to, every load sees the last write', () => {
  for (const { name, depth, options } of WORLDS) {
    test(`devices: ${name}`, { timeout: 3_600_000 }, () => {
      const found = explore(options, asked ? Number(asked) : depth);
      if (asked) {
        const all = found.complete ? 'these are all' : 'there are more';
        console.log(`${name}: ${found.states.join(', ')} states; ${found.transitions} transitions; ${all}`);
        return;
      }
      if (process.env['FARFAULT_WRITE_HASH']) {
        counts[name] = found;
        writeFileSync(committed, `${JSON.stringify(counts, undefined, 2)}\n`);
      }
      expect(found).toEqual(counts[name]);
    });
  }
});

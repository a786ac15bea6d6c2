import { test, expect } from 'vitest';
import { runBoth } from './differential.ts';
import { parseProgram, printProgram, randomProgram, shrinkProgram, type Program } from '../../sdk/testing/program.ts';

test('programs', () => {
  const problems: string[] = [];
  const t = Date.now();
  let operations = 0, n = 0;
  const { FIRST = '1', PROGRAMS = '300', OPS = '60', PROGRAM } = process.env;
  const programs = PROGRAM ? [parseProgram(PROGRAM)] : Array.from({ length: Number(PROGRAMS) }, (_, i) => randomProgram(Number(FIRST) + i, Number(OPS)));
  for (const program of programs) {
    expect(parseProgram(printProgram(program))).toEqual(program);
    try { operations += runBoth(program); n++; }
    catch (e) {
      const fails = (p: Program) => { try { runBoth(p); return false; } catch (e) { return true; } };
      const small = PROGRAM ? program : shrinkProgram(program, fails);
      let m = (e as Error).message;
      try { runBoth(small); } catch (e) { m = (e as Error).message; }
      problems.push(printProgram(small) + '\n' + m);
      if (problems.length > 3) break;
    }
  }
  console.log(n, 'programs', operations, 'operations', Date.now() - t, 'ms');
  console.log(problems.join('\n\n'));
  expect(problems.length).toBe(0);
}, 600000);

import { expect, test } from 'vitest';
import { parseProgram, printProgram, type Program, randomProgram, shrinkProgram } from '../../sdk/testing/program.ts';
import { campaign, replayProgram } from './campaign.ts';

test('random programs leave the machine and the model in the same state after every operation', async () => {
  const { programs } = await campaign({ seed: 10_001, programs: 60, operations: 40 });
  expect(programs).toBe(60);
});

// What random programs have found, shrunk.
test.each([
  [
    'a page evicted into a VMA without rights stays closed to the CPU',
    'a nouveau 5/1/8; b mirror 1/8; map 0 464+8 rw; map 1 464+8 rw; attach 0 a; attach 1 a; to-device 0 a 464+4; protect 0 464+4 none; to-device 1 a 464+5; read 0 464:0+8',
  ],
  [
    'a job that reads and writes where nothing is mapped is given up in one batch',
    'a nouveau 16/1/12; b mirror 1/8; attach 0 a; job 0 a 2 r468:100+9 w468:200+8=3',
  ],
  [
    'a translation of the page of zeros is one that a driver can hold',
    'a mirror 1/8 own; b mirror 16/8 own; map 0 464+8 rw; attach 0 a; attach 0 b; job 0 a 1 r465:0+8; write 0 466:0+8=1; job 0 b 1 r465:0+8 r466:0+8',
  ],
  [
    'moving a part of a VMA ends where the part does',
    'a nouveau 8/1/8; b mirror 1/8; map 0 464+8 rw; attach 0 a; to-device 0 a 465+2; to-host 0 a 465+1',
  ],
  [
    'nothing moves to a device where nobody may read it',
    'a nouveau 8/1/8; b mirror 1/8; map 0 464+8 none; attach 0 a; to-device 0 a 464+8; load 0 a 464:0+8',
  ],
  [
    'moving makes room in a memory that the last batch has filled',
    'a nouveau 4/1/8; b mirror 1/8; map 0 464+16 rw; attach 0 a; job 0 a 4 r464:4093+8 r466:0+8 r467:0+8; to-device 0 a 470+4; to-device 0 a 474+4',
  ],
  [
    'rights that do not change leave the pages as they are',
    'a nouveau 80/16/4; b mirror 1/8; map 0 480+16 r; attach 0 a; load 0 a 481:0+8; protect 0 484+12 rw; read 0 490:0+8; protect 0 480+16 rw; write 0 490:0+8=1',
  ],
  [
    'a device that gets a right back forgets the translation without it',
    'a nouveau 78/16/3; b mirror 16/2; attach 0 a; attach 0 b; map 0 466+5 r; job 0 a 1 r466:906+1332; protect 0 468+3 rw; job 0 b 1 r469:4093+7 w470:4094+4=57 r470:3809+11',
  ],
  [
    'a write that finds no host frame tells no device of it',
    'dram 32; a nouveau 4/1/8; b mirror 1/8; map 0 464+40 rw; attach 0 b; load 0 b 500:0+8; write 0 464:0+131072=5; write 0 500:0+8=3; load 0 b 500:0+8',
  ],
  [
    'a space ends though there is no room at home for what it has on a device',
    'dram 32; a nouveau 80/16/8; b mirror 1/8; map 0 464+64 rw; attach 0 a; to-device 0 a 464+48; detach 0 a',
  ],
])('%s', (_sentence, text) => {
  expect(replayProgram(text)).toBe(text.split(';').filter((part) => !/^ *(dram|[ab]) /.test(part)).length);
});

test('a seed decides a program, and its text says all of it', () => {
  for (let seed = 1; seed <= 20; seed++) {
    const program = randomProgram(seed, 80);
    expect(randomProgram(seed, 80)).toEqual(program);
    expect(parseProgram(printProgram(program))).toEqual(program);
  }
  expect(randomProgram(1, 80)).not.toEqual(randomProgram(2, 80));
  expect(randomProgram(1, 30).operations).toEqual(randomProgram(1, 80).operations.slice(0, 30));
});

test('a text that is no program is refused with the part that makes no sense', () => {
  for (const part of [
    'map 0 3',
    'map 0 3+4 rwx',
    'read 0 12',
    'job 0 a 4 x3:0+8',
    'jump 0',
    'a nouveau 24/1',
    'detach 0 A',
    'unmap 0 -1+2',
  ]) {
    expect(() => parseProgram(`dram 64; ${part}; unmap 0 1+1`)).toThrow(`program part "${part}" makes no sense`);
  }
});

test('shrinking leaves what the failure needs', () => {
  // Fails when page 470 of a space is mapped, and later a job writes to it.
  const fails = ({ operations }: Program): boolean => {
    const mapped = operations.findIndex((each) => each.verb === 'map' && each.vpn <= 470 && each.vpn + each.pages > 470);
    const writes = (operation: Program['operations'][number]): boolean =>
      operation.verb === 'job' && operation.accesses.some(({ write, addr }) => write && Math.floor(addr / 4096) === 470);
    return mapped >= 0 && operations.slice(mapped).some(writes);
  };
  const found = Array.from({ length: 200 }, (_, seed) => randomProgram(seed, 100)).filter(fails);
  expect(found.length).toBeGreaterThan(0);
  for (const program of found.slice(0, 5)) {
    const { operations } = shrinkProgram(program, fails);
    expect(operations.map(({ verb }) => verb)).toEqual(['map', 'job']);
    expect(operations[1]).toMatchObject({ lanes: 1, accesses: [{ write: true }] });
  }
});

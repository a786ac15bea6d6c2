/** The words of a migration, and what of them is in the batch areas: whatever was changed, and whoever had the areas meanwhile, a core call sees the words as they are. */
import fc from 'fast-check';
import { createMachineSync, MiB } from 'farfault';
import { describe, expect, test } from 'vitest';
import * as L from '../../assembly/layout.ts';
import { FEW, MigrationWords } from '../../sdk/mm/migration-words.ts';

const COUNTS = [1, 3, FEW, FEW + 1, 3 * FEW];
const CHANGES = ['begin', 'take', 'takeHole', 'aim', 'aimEach', 'later', 'dropLater', 'dropAllLater', 'dropTargets', 'refuse'] as const;
const LENDS = ['lend', 'lendSource', 'lendTarget', 'keep', 'keepTarget', 'somebody else'] as const;

describe('the words of a migration', () => {
  test('are in the batch areas as they are when they are lent, whatever changed and whoever was there before', () => {
    const machine = createMachineSync({ dram: MiB });
    const { core } = machine.platform;
    const areas = { source: core.area(L.AREA_SOURCE), target: core.area(L.AREA_TARGET) };
    const command = fc.record({
      kind: fc.oneof(fc.constantFrom(...CHANGES), fc.constantFrom(...LENDS)),
      who: fc.constantFrom(0, 0, 0, 1),
      at: fc.nat(5),
      frame: fc.integer({ min: 0, max: 2 ** 31 }),
      flag: fc.boolean(),
      // Many changes between two lends would hide one that is forgotten.
      lends: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(command, { maxLength: 80 }), (commands) => {
        const both = [new MigrationWords(), new MigrationWords()];
        for (const words of both) words.begin(FEW + 4);
        const expectLent = (words: MigrationWords, side: 'source' | 'target'): void => {
          const from = areas[side] >>> 2;
          expect([...core.u32.subarray(from, from + 2 * words.count)], side).toEqual([...words[side].subarray(0, 2 * words.count)]);
        };
        for (const { kind, who, at, frame, flag, lends } of commands) {
          const words = both[who]!;
          const i = at % words.count;
          switch (kind) {
            case 'begin':
              words.begin(COUNTS[at % COUNTS.length]!);
              break;
            case 'take':
              words.take(i, frame, flag);
              break;
            case 'takeHole':
            case 'later':
              if (kind === 'takeHole') words.takeHole(i);
              else words.later(i, flag);
              break;
            case 'aim':
              words.aim(i, frame, flag);
              break;
            case 'aimEach': {
              // The first word, and every second one behind it.
              const n = Math.ceil(words.count / 2);
              words.dropTargets();
              words.aimEach(
                core,
                Uint32Array.from({ length: n }, (_, k) => 7 + 2 * k),
                Int32Array.from({ length: n }, (_, k) => (flag && k % 3 === 0 ? -1 : k)),
                n,
              );
              for (let k = 0; k < words.count; k++) expect(words.hasTarget(k)).toBe(k % 2 === 0);
              break;
            }
            case 'dropLater':
            case 'refuse':
              words[kind](i);
              break;
            case 'dropAllLater':
            case 'dropTargets':
              words[kind]();
              break;
            case 'keep':
            case 'keepTarget': {
              // What a core call has left is taken.
              words.lend(core);
              const side = kind === 'keep' ? 'source' : 'target';
              core.u32[(areas[side] >>> 2) + 2 * i] = frame;
              words[kind](core);
              expect(words[side][2 * i]).toBe(frame);
              break;
            }
            case 'somebody else':
              core.u32.fill(frame, core.wordsArea(L.AREA_SOURCE) >>> 2, (areas.source >>> 2) + 2 * words.count);
              core.u32.fill(frame, core.wordsArea(L.AREA_TARGET) >>> 2, (areas.target >>> 2) + 2 * words.count);
              break;
            default:
              words[kind](core);
              if (kind !== 'lendTarget') expectLent(words, 'source');
              if (kind !== 'lendSource') expectLent(words, 'target');
          }
          if (!lends) continue;
          words.lend(core);
          expectLent(words, 'source');
          expectLent(words, 'target');
        }
      }),
      { seed: 20261123, numRuns: 1000 },
    );
    machine.close();
  });

  test('are missed by the checked build where somebody has put something else without a word', () => {
    const { core } = createMachineSync({ dram: MiB }).platform;
    const words = new MigrationWords();
    words.begin(2);
    words.take(1, 7, false);
    words.lend(core);
    words.lend(core);
    core.u32[(core.area(L.AREA_SOURCE) >>> 2) + 2] = 8;
    if (core.asserts) expect(() => words.lend(core)).toThrow('word 2 of a migration is 7, and 8 stands in its area');
    else expect(() => words.lend(core)).not.toThrow();
  });
});

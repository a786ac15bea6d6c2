/** The choices of the policies that have names, against the same written naively, candidate by candidate, and shown all that may go. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  VICTIM_POLICIES,
  type VictimCandidate,
  type VictimChoice,
  type VictimPolicy,
  victimPolicy,
  type VictimPolicyName,
} from 'farfault/gmem';
import * as L from '../../assembly/layout.ts';
import { ACCESSED, Candidates, DIRTY } from '../../sdk/policy/candidates.ts';
import { Choice, type NamedPolicy } from '../../sdk/policy/victim.ts';
import { createMachineSync, MiB } from 'farfault';
import { expectClean, PAGE, smallMachine } from '../machine/probe.ts';
import { randomOf, vram } from './evict-device.ts';

type Choose = (candidates: readonly VictimCandidate[], pages: number, last: boolean) => VictimChoice;

/** Indexes of as many, in this order, as make room. */
function enough(candidates: readonly VictimCandidate[], order: readonly number[], pages: number): number[] {
  const victims: number[] = [];
  for (const i of order) {
    if (victims.reduce((room, each) => room + candidates[each]!.pages, 0) >= pages) break;
    victims.push(i);
  }
  return victims;
}

const all = (candidates: readonly VictimCandidate[]): number[] => [...candidates.keys()];

const NAIVE: Readonly<Record<Exclude<VictimPolicyName, 'random'>, () => Choose>> = {
  fifo: () => (candidates, pages) => ({ victims: enough(candidates, all(candidates), pages), renewed: [] }),
  lru: () => (candidates, pages) => {
    const used = all(candidates).filter((i) => candidates[i]!.accessed);
    const victims = enough(candidates, [...all(candidates).filter((i) => !used.includes(i)), ...used], pages);
    return { victims, renewed: used.filter((i) => !victims.includes(i)) };
  },
  clock: () => (candidates, pages, last) => {
    const isUnused = (i: number): boolean => !candidates[i]!.accessed;
    const victims = enough(candidates, all(candidates).filter(isUnused), pages);
    const room = victims.reduce((sum, i) => sum + candidates[i]!.pages, 0);
    const hand = room >= pages ? victims.at(-1)! : candidates.length;
    const renewed = all(candidates).filter((i) => i < hand && !isUnused(i));
    return victims.length === 0 && last ? { victims: enough(candidates, renewed, pages), renewed: [] } : { victims, renewed };
  },
  lfu: () => {
    const counts = new Map<string, number>();
    let choices = 0;
    return (candidates, pages) => {
      if (++choices % 64 === 0) for (const [key, count] of counts) counts.set(key, count >> 1);
      const key = (i: number): string => `${candidates[i]!.space} ${candidates[i]!.vpn}`;
      // Those of one page have what it had when they came.
      const uses = all(candidates).map((i) => {
        if (candidates[i]!.accessed) counts.set(key(i), (counts.get(key(i)) ?? 0) + 1);
        return counts.get(key(i)) ?? 0;
      });
      const order = all(candidates).sort((a, b) => uses[a]! - uses[b]! || a - b);
      return { victims: enough(candidates, order, pages), renewed: [] };
    };
  },
};

const candidates = fc.array(
  fc.record({
    frame: fc.nat(999),
    pages: fc.constantFrom(1, 1, 1, 512),
    accessed: fc.boolean(),
    dirty: fc.boolean(),
    space: fc.integer({ min: -1, max: 2 }),
    vpn: fc.nat(5),
  }),
  { maxLength: 12 },
);
const choices = fc.array(fc.tuple(candidates, fc.constantFrom(1, 2, 4, 512, 600), fc.boolean()), { minLength: 1, maxLength: 150 });

describe.each(Object.entries(NAIVE))('%s', (name, naive) => {
  test('chooses what it chooses when it is written naively, again and again', () => {
    fc.assert(
      fc.property(choices, (rounds) => {
        const policy = victimPolicy(name as VictimPolicyName);
        const expected = naive();
        for (const round of rounds) expect(policy.choose(...round)).toEqual(expected(...round));
      }),
      { numRuns: 50 },
    );
  });
});

test('random victims: as many as make room, each of them once, and not always the same', () => {
  const seen = new Set<number>();
  fc.assert(
    fc.property(candidates, fc.constantFrom(1, 2, 600), fc.nat(99), (shown, pages, seed) => {
      const { victims, renewed } = victimPolicy('random', seed).choose(shown, pages, true);
      expect([new Set(victims).size, renewed]).toEqual([victims.length, []]);
      expect(enough(shown, victims, pages)).toEqual(victims);
      if (enough(shown, all(shown), pages).length === shown.length) return;
      expect(victims.reduce((sum, i) => sum + shown[i]!.pages, 0)).toBeGreaterThanOrEqual(pages);
      seen.add(victims[0]!);
    }),
  );
  expect(seen.size).toBeGreaterThan(5);
});

test.each(VICTIM_POLICIES)('%s: what is shown as columns is chosen like what is shown as objects', (name) => {
  const [one, other] = [victimPolicy(name), victimPolicy(name)] as [NamedPolicy, NamedPolicy];
  const random = randomOf(3);
  const columns = new Candidates();
  const choice = new Choice();
  for (let round = 0; round < 100; round++) {
    columns.make(random(200));
    for (let i = 0; i < columns.count; i++) {
      columns.frames[i] = i;
      columns.pages[i] = random(9) === 0 ? 512 : 1;
      columns.marks[i] = [0, 0, ACCESSED, ACCESSED | DIRTY][random(4)]!;
      columns.spaces[i] = random(3);
      columns.vpns[i] = random(2 ** 20) * 2 ** 14;
    }
    const shown = columns.list();
    expect(shown.filter(({ dirty }) => dirty).every(({ accessed }) => accessed)).toBe(true);
    const last = random(2) === 0;
    const { victims, renewed } = one.pick(columns, 20, last, choice);
    expect({ victims, renewed }).toEqual(other.choose(shown, 20, last));
  }
});

/** One that has no name: it is shown all that may go, as objects, and their marks are taken place by place. */
class Shown implements VictimPolicy {
  readonly name = 'shown';
  readonly marks = true;
  private readonly choice: Choose;

  constructor(choice: Choose) {
    this.choice = choice;
  }

  looksAt(): number {
    return 1000;
  }

  choose(...its: Parameters<Choose>): VictimChoice {
    return this.choice(...its);
  }
}

/** What is where, after each of 400 accesses, pins and moves, in two address spaces of a device with 24 pages. */
function history(victims: VictimPolicyName | VictimPolicy, seed: number, granulePages: number): string[] {
  const machine = smallMachine({ dram: 4 * MiB });
  const device = machine.addDevice(vram({ pages: 24, granulePages }), { victims, pinnedAccess: 'remote' });
  const spaces = [machine.createAddressSpace(), machine.createAddressSpace()];
  const sides = spaces.map((space) => ({ space, context: space.attach(device), range: space.mmap({ bytes: 40 * PAGE }) }));
  const random = randomOf(seed);
  const told: string[] = [];
  for (let step = 0; step < 400; step++) {
    const { space, context, range } = sides[random(3) === 0 ? 1 : 0]!;
    const page = random(4) > 0 ? random(14) : random(40);
    const start = range.start + page * PAGE;
    const verb = random(20);
    if (verb < 9) context.read(start, 1);
    else if (verb < 15) context.write(start, Uint8Array.of(step));
    else if (verb < 17) space.write(start, Uint8Array.of(step));
    else if (verb === 17) context.harvest({ start, end: start + PAGE });
    else if (verb === 18) space.hmadvise({ start, end: start + PAGE }, random(4) === 0 ? 'pinned' : 'unpinned', { device });
    else context.migrate({ start, end: Math.min(start + 3 * PAGE, range.end) }, { to: random(2) === 0 ? 'host' : 'device' });
    const there = sides.map((side) => {
      const pages = Array.from({ length: 40 }, (_, i) => side.context.residency(side.range.start / PAGE + i));
      return pages.map((frame, i) => (frame === undefined ? '' : `${i}:${frame}`)).join(' ');
    });
    told.push(`${step} ${verb} ${there.join(' | ')} ${machine.counters.evictions}`);
  }
  expectClean(machine);
  expect(machine.counters.evictions).toBeGreaterThan(50);
  machine.close();
  return told;
}

describe.each(['lru', 'lfu'] as const)('%s', (name) => {
  test.each([
    [1, 1],
    [2, 1],
    [3, 1],
    [4, 2],
    [5, 4],
  ])(
    'goes by marks that are taken in one call, as if it were shown all that may go (seed %d, granules of %d pages)',
    (seed, granulePages) => {
      expect(history(name, seed, granulePages)).toEqual(history(new Shown(NAIVE[name]()), seed, granulePages));
    },
  );
});

test('lru: marks of more pages than one call tells of', () => {
  const pages = L.LIST_MAX / 2 + 8;
  const machine = createMachineSync({ dram: 2 * pages * PAGE, deviceMemory: pages * PAGE, tablePages: 256 });
  const space = machine.createAddressSpace();
  const context = space.attach(machine.addDevice(vram({ pages }), { victims: 'lru' }));
  const { start } = space.mmap({ bytes: (pages + 1) * PAGE });
  context.write(start, new Uint8Array(pages * PAGE));
  // All have been used: the oldest goes, and not the first one behind the list.
  context.write(start + pages * PAGE, Uint8Array.of(1));
  const vpn = start / PAGE;
  expect([0, 1, pages - 9, pages - 8, pages - 1].map((page) => context.residency(vpn + page) !== undefined)).toEqual([
    false,
    true,
    true,
    true,
    true,
  ]);
  machine.close();
});

test.each([
  ['choose', [undefined, null, 7, {}, { victims: [0] }, { victims: 0, renewed: [] }], 3],
  ['looksAt', [undefined, NaN, 'x', -1, 0.5], undefined],
] as const)('a policy whose %s answers what is no answer: EINVAL, and the page stays where it is', (verb, answers, good) => {
  for (const answer of answers) {
    const machine = smallMachine();
    const victims: VictimPolicy = {
      name: 'bad',
      marks: false,
      looksAt: () => (verb === 'looksAt' ? answer : good) as number,
      choose: () => answer as unknown as VictimChoice,
    };
    const space = machine.createAddressSpace();
    const context = space.attach(machine.addDevice(vram({ pages: 2 }), { victims }));
    const range = space.mmap({ bytes: 3 * PAGE });
    for (let i = 0; i < 3; i++) space.write(range.start + i * PAGE, Uint8Array.of(i + 1));
    for (let i = 0; i < 2; i++) context.read(range.start + i * PAGE, 1);
    expect(() => context.read(range.start + 2 * PAGE, 1)).toThrow(`bad.${verb} `);
    expect(space.dump(range)).toBe('DDH');
    expectClean(machine);
    machine.close();
  }
});

/** Random programs of the coherence oracle, each in a world of its own. */
import type { Machine } from 'farfault';
import { randomOf } from '../../../sdk/testing/random.ts';
import { type Below, type Verb, VERBS } from './verbs.ts';
import { machinesForWorlds, World } from './world.ts';

/** Operations of one program. */
const PROGRAM = 250;
/** Operations between two looks at everything, at most. */
const SETTLE = 60;

/** What a run has seen. */
export interface Coherence {
  readonly operations: number;
  readonly hash: string;
  /** How often each verb has been begun. */
  readonly verbs: ReadonlyMap<string, number>;
}

export interface CoherenceOptions {
  readonly seed: number;
  readonly operations: number;
  readonly verbs?: readonly Verb[];
  /** Called with a world that has just been made. */
  readonly arrange?: (world: World) => void;
  readonly progress?: (operations: number) => void;
}

/** Runs programs until so many operations have been begun. Throws at the first load that does not see the last write, with the program's seed and what it had done. */
export async function coherence({ seed, operations, verbs = VERBS, arrange, progress }: CoherenceOptions): Promise<Coherence> {
  const machines = machinesForWorlds();
  const counts = new Map<string, number>();
  let hash = 0x811c9dc5;
  let done = 0;
  for (let program = 0; done < operations; program++) {
    const count = Math.min(PROGRAM, operations - done);
    hash = await runProgram(machines, { seed: seed * 100_003 + program, count, verbs, arrange, counts, hash });
    done += count;
    progress?.(done);
  }
  for (const machine of machines) machine.close();
  return { operations: done, hash: (hash >>> 0).toString(16).padStart(8, '0'), verbs: counts };
}

/** One program. */
export interface Program {
  readonly seed: number;
  readonly count: number;
  readonly verbs: readonly Verb[];
  readonly arrange: ((world: World) => void) | undefined;
  readonly counts: Map<string, number>;
  readonly hash: number;
}

/** Runs one program, by the seed that a finding names. */
export async function runProgram(
  machines: readonly Machine[],
  { seed, count, verbs, arrange, counts, hash: before }: Program,
): Promise<number> {
  const below = randomOf(seed);
  const machine = machines[seed % machines.length]!;
  const world = new World(machine, seed, arrange);
  const total = verbs.reduce((sum, { weight }) => sum + weight, 0);
  const names: string[] = [];
  let hash = before;
  const fold = (value: number): void => {
    hash = Math.imul(hash ^ (value & 255), 0x01000193);
    hash = Math.imul(hash ^ ((value >>> 8) & 255), 0x01000193);
  };
  try {
    for (let i = 0; i < count; i++) {
      const verb = choose(verbs, total, below);
      names.push(verb.name);
      counts.set(verb.name, (counts.get(verb.name) ?? 0) + 1);
      if (verb.alone || i % SETTLE === SETTLE - 1) await world.settle();
      const chosen = world.slots[below(world.slots.length)];
      const slot = chosen && !chosen.isDying ? chosen : world.slots.find((each) => each && !each.isDying)!;
      const slow = world.slow;
      // What is done alone is done at once.
      if (verb.alone) world.slow = false;
      verb.start(world, slot, below);
      if (verb.alone) world.slow = slow;
      await world.breathe();
      fold(world.now);
      fold(world.underWay * 16 + world.late.length);
    }
    await world.close();
    for (const { peak } of machine.nodes) fold(peak);
    fold(machine.counters.invalidations);
    return hash;
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    throw new Error(`program ${seed}, operation ${names.length} (…, ${names.slice(-8).join(', ')}): ${message}`, { cause: error });
  }
}

function choose(verbs: readonly Verb[], total: number, below: Below): Verb {
  let at = (below(1_000_000) / 1_000_000) * total;
  for (const verb of verbs) {
    at -= verb.weight;
    if (at < 0) return verb;
  }
  return verbs[0]!;
}

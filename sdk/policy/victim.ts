/**
 * Which pages of a memory go when room is needed. Pure choices: a policy is shown candidates, oldest first, and names those that go; `sdk/gmem/evict.ts` shows and acts.
 *
 * ```
 *   fifo     the oldest in the memory                                        no marks are taken
 *   lru      marks of all are taken; what was used counts as new, the oldest goes
 *   clock    marks of the oldest are taken; what was used gets a second chance as the newest
 *   lfu      marks of all are taken and counted; the least used goes, counts fade
 *   random   any of them, by a seed
 * ```
 *
 * Marks are those of `context.harvest`: what the device has used since marks were last taken. A driver that translates by itself and has no `walk.harvest` has none, and its pages count as
 * unused. Models: the policy object of GMEM's device daemon (init, add, del, update, pick victims), `list_lru`.
 */
import { fail } from '../errors.ts';

/** A page, or huge page, that may go. */
export interface VictimCandidate {
  /** First frame in use. */
  readonly frame: number;
  /** 1, or 512: a huge page, or, where room for one is needed, a whole block, with what is in use of it. */
  readonly pages: number;
  /** Used, and written, by a device since marks were last taken; false of one whose marks were not. */
  readonly accessed: boolean;
  readonly dirty: boolean;
  /** One place where it is mapped: the space's number and the page. */
  readonly space: number;
  readonly vpn: number;
}

/** Places in the list of candidates. */
export interface VictimChoice {
  readonly victims: readonly number[];
  /** Those that count as the newest from now on, in this order. */
  readonly renewed: readonly number[];
}

/** One way to choose. Instances are part of a machine's state: plain fields, and their class is given to `machine.save`. */
export interface VictimPolicy {
  readonly name: string;
  /** Whether it needs to know what was used: marks are taken of what it looks at. */
  readonly marks: boolean;
  /** How many of the oldest candidates it looks at to free `pages` pages. Infinity: all. */
  looksAt(pages: number): number;
  /**
   * Chooses among `candidates`, oldest first, to free `pages` pages. A choice without victims is asked again, a bounded number of times; with `last` it must choose, or the memory counts as full.
   */
  choose(candidates: readonly VictimCandidate[], pages: number, last: boolean): VictimChoice;
}

/** The policies that have a name. */
export type VictimPolicyName = 'fifo' | 'lru' | 'clock' | 'random' | 'lfu';

/** All of them, in the order of the table above. */
export const VICTIM_POLICIES: readonly VictimPolicyName[] = ['fifo', 'lru', 'clock', 'lfu', 'random'];

const NOBODY: readonly number[] = [];
/** Candidates that the clock looks at, at the least. */
const CLOCK_WINDOW = 16;
/** Choices after which counts of use are halved. */
const FADE_AFTER = 64;
/** Pages whose use is counted; beyond it, counts are halved and those of nothing go. */
const COUNTED_MAX = 65536;
/** Multiplier of a space's number in the key of a page: 2^36 pages. */
const PAGES_PER_SPACE = 2 ** 36;

/** As many of `order`, from the first on, as are needed for room. A huge one makes room for 512. */
function enough(candidates: readonly VictimCandidate[], order: Iterable<number>, pages: number): number[] {
  const victims: number[] = [];
  let room = 0;
  for (const i of order) {
    if (room >= pages) break;
    victims.push(i);
    room += candidates[i]!.pages;
  }
  return victims;
}

/** The oldest goes. */
export class Fifo implements VictimPolicy {
  readonly name = 'fifo';
  readonly marks = false;

  looksAt(pages: number): number {
    return pages;
  }

  choose(candidates: readonly VictimCandidate[], pages: number): VictimChoice {
    return { victims: enough(candidates, candidates.keys(), pages), renewed: NOBODY };
  }
}

/** What has been unused for longest goes. */
export class Lru implements VictimPolicy {
  readonly name = 'lru';
  readonly marks = true;

  looksAt(): number {
    return Infinity;
  }

  choose(candidates: readonly VictimCandidate[], pages: number): VictimChoice {
    const unused: number[] = [];
    const renewed: number[] = [];
    candidates.forEach((each, i) => (each.accessed ? renewed : unused).push(i));
    const victims = enough(candidates, [...unused, ...renewed], pages);
    return { victims, renewed: renewed.slice(Math.max(0, victims.length - unused.length)) };
  }
}

/** What was used gets a second chance. Models: second-chance FIFO, `folio_referenced` at the tail of the inactive list. */
export class Clock implements VictimPolicy {
  readonly name = 'clock';
  readonly marks = true;

  looksAt(pages: number): number {
    return Math.max(CLOCK_WINDOW, 2 * pages);
  }

  choose(candidates: readonly VictimCandidate[], pages: number, last: boolean): VictimChoice {
    const unused: number[] = [];
    const renewed: number[] = [];
    // The hand stops behind the last victim: who comes later keeps its place.
    let room = 0;
    for (let i = 0; i < candidates.length && room < pages; i++) {
      if (candidates[i]!.accessed) renewed.push(i);
      else {
        unused.push(i);
        room += candidates[i]!.pages;
      }
    }
    if (unused.length > 0 || !last) return { victims: unused, renewed };
    return { victims: enough(candidates, renewed, pages), renewed: NOBODY };
  }
}

/** What was used least often goes; counts outlive an eviction, and fade. */
export class Lfu implements VictimPolicy {
  readonly name = 'lfu';
  readonly marks = true;
  /** Times that a page was found used, by space and page. */
  private readonly uses: Map<number, number> = new Map();
  private choices = 0;

  looksAt(): number {
    return Infinity;
  }

  choose(candidates: readonly VictimCandidate[], pages: number): VictimChoice {
    const { uses } = this;
    if (++this.choices % FADE_AFTER === 0 || uses.size > COUNTED_MAX) this.fade();
    const counts = candidates.map((each) => {
      const key = each.space * PAGES_PER_SPACE + each.vpn;
      const count = (uses.get(key) ?? 0) + (each.accessed ? 1 : 0);
      if (each.accessed) uses.set(key, count);
      return count;
    });
    // A stable sort: of equals the oldest goes.
    const order = [...candidates.keys()].sort((a, b) => counts[a]! - counts[b]!);
    return { victims: enough(candidates, order, pages), renewed: NOBODY };
  }

  private fade(): void {
    for (const [key, count] of this.uses) {
      if (count > 1) this.uses.set(key, count >> 1);
      else this.uses.delete(key);
    }
  }
}

/** Any of them. */
export class RandomVictims implements VictimPolicy {
  readonly name = 'random';
  readonly marks = false;
  private state: number;

  /** `seed`: 32 bits. Errors: EINVAL. */
  constructor(seed: number) {
    if (!Number.isInteger(seed) || seed < 0 || seed >= 2 ** 32) throw fail('EINVAL', 'seed', seed, 'is not an integer below 2^32');
    this.state = Math.imul(seed ^ 0x9e3779b9, 0x85ebca6b) | 1;
  }

  looksAt(): number {
    return Infinity;
  }

  choose(candidates: readonly VictimCandidate[], pages: number): VictimChoice {
    const order = [...candidates.keys()];
    const victims: number[] = [];
    for (let room = 0; room < pages && order.length > 0;) {
      const at = this.below(order.length);
      const i = order[at]!;
      order[at] = order[order.length - 1]!;
      order.pop();
      victims.push(i);
      room += candidates[i]!.pages;
    }
    return { victims, renewed: NOBODY };
  }

  /** xorshift32. */
  private below(limit: number): number {
    this.state ^= this.state << 13;
    this.state ^= this.state >>> 17;
    this.state ^= this.state << 5;
    return Math.floor(((this.state >>> 0) / 2 ** 32) * limit);
  }
}

/** The policy of a name; a fresh one, since some remember. `seed` is for `random`. Errors: EINVAL. */
export function victimPolicy(name: VictimPolicyName, seed = 1): VictimPolicy {
  switch (name) {
    case 'fifo':
      return new Fifo();
    case 'lru':
      return new Lru();
    case 'clock':
      return new Clock();
    case 'lfu':
      return new Lfu();
    case 'random':
      return new RandomVictims(seed);
    default:
      throw fail('EINVAL', 'victims', name, `is not one of: ${VICTIM_POLICIES.map((each) => `'${each}'`).join(', ')}`);
  }
}

/** Throws EINVAL unless it is a name, or an object with what a policy has. */
export function checkVictims(argument: string, victims: unknown): void {
  if (typeof victims === 'string') {
    if (!(VICTIM_POLICIES as readonly string[]).includes(victims))
      throw fail('EINVAL', argument, victims, `is not one of: ${VICTIM_POLICIES.map((each) => `'${each}'`).join(', ')}`);
    return;
  }
  const policy = victims as Partial<VictimPolicy> | null;
  const isPolicy =
    typeof policy === 'object' &&
    policy !== null &&
    typeof policy.name === 'string' &&
    typeof policy.marks === 'boolean' &&
    typeof policy.looksAt === 'function' &&
    typeof policy.choose === 'function';
  if (!isPolicy)
    throw fail('EINVAL', argument, victims, 'is neither the name of a victim policy nor an object with name, marks, looksAt and choose');
}

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
 * All are the 16,384 oldest. What a choice costs grows with how many are looked at: `fifo` and `clock` look at a few; `lru`, where marks are in tables of the core, at what was used and the oldest others.
 *
 * Marks are those of `context.harvest`: what the device has used since marks were last taken. A driver that translates by itself and has no `walk.harvest` has none, and its pages count as
 * unused. Models: the policy object of GMEM's device daemon (init, add, del, update, pick victims), `list_lru`.
 */
import { PageMap } from '../core/page-map.ts';
import { fail } from '../errors.ts';
import { ACCESSED, Candidates, type VictimCandidate } from './candidates.ts';

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
  /** How many of the oldest candidates it looks at to free `pages` pages. Infinity: as many as it can be shown, 16,384. */
  looksAt(pages: number): number;
  /**
   * Chooses among `candidates`, oldest first, to free `pages` pages. A choice without victims is asked again, a bounded number of times; with `last` it must choose, or the memory counts as full.
   */
  choose(candidates: readonly VictimCandidate[], pages: number, last: boolean): VictimChoice;
  /** The space `space` (as of a candidate) has ended: what is remembered of its pages is of nobody, and its number may come again. */
  forget?(space: number): void;
}

/** The policies that have a name. */
export type VictimPolicyName = 'fifo' | 'lru' | 'clock' | 'random' | 'lfu';

/** All of them, in the order of the table above. */
export const VICTIM_POLICIES: readonly VictimPolicyName[] = ['fifo', 'lru', 'clock', 'lfu', 'random'];

/** Candidates that the clock looks at, at the least. */
const CLOCK_WINDOW = 16;
/** Choices after which counts of use are halved. */
const FADE_AFTER = 64;
/** Pages whose use is counted; beyond it, counts are halved and those of nothing go. */
const COUNTED_MAX = 65536;
/** Multiplier of a space's number, plus one, in the key of a page: 2^36 pages. */
const PAGES_PER_SPACE = 2 ** 36;

/** A choice that is written again and again. Its lists keep their length while it is made: a list that is emptied gives its memory back. */
export class Choice implements VictimChoice {
  readonly victims: number[] = [];
  readonly renewed: number[] = [];
  private going = 0;
  private staying = 0;

  begin(): void {
    this.going = 0;
    this.staying = 0;
  }

  /** Candidate `i` goes; returns the room that it makes. */
  go(i: number, pages: Uint32Array): number {
    this.victims[this.going++] = i;
    return pages[i]!;
  }

  /** Candidate `i` counts as the newest. */
  renew(i: number): void {
    this.renewed[this.staying++] = i;
  }

  /** No more is chosen; `missing` pages of room are made by the first of those that were to be renewed. */
  end(missing = 0, pages?: Uint32Array): this {
    const { victims, renewed } = this;
    let gone = 0;
    for (let left = missing; left > 0 && gone < this.staying; gone++) left -= this.go(renewed[gone]!, pages!);
    if (gone > 0) renewed.copyWithin(0, gone, this.staying);
    victims.length = this.going;
    renewed.length = this.staying - gone;
    return this;
  }

  renewNobody(): this {
    this.renewed.length = 0;
    return this;
  }
}

/** One that has a name: it reads columns, and makes nothing for a candidate that stays. */
export abstract class NamedPolicy implements VictimPolicy {
  abstract readonly name: VictimPolicyName;
  abstract readonly marks: boolean;
  /** Its choice is the same whether it is shown all that it looks at, or of those that have not been used the oldest alone, as many as make room. */
  readonly goesByUse: boolean = false;

  abstract looksAt(pages: number): number;

  choose(candidates: readonly VictimCandidate[], pages: number, last: boolean): VictimChoice {
    const { victims, renewed } = this.pick(new Candidates().of(candidates), pages, last, new Choice());
    return { victims: [...victims], renewed: [...renewed] };
  }

  /** The same choice, of columns, into `choice`, which is returned. */
  abstract pick(candidates: Candidates, pages: number, last: boolean, choice: Choice): Choice;
}

/** The oldest goes. */
export class Fifo extends NamedPolicy {
  readonly name = 'fifo';
  readonly marks = false;

  looksAt(pages: number): number {
    return pages;
  }

  pick({ count, pages: sizes }: Candidates, pages: number, _last: boolean, choice: Choice): Choice {
    choice.begin();
    // A huge one makes room for 512.
    for (let i = 0, room = 0; i < count && room < pages; i++) room += choice.go(i, sizes);
    return choice.end();
  }
}

/** What has been unused for longest goes. */
export class Lru extends NamedPolicy {
  readonly name = 'lru';
  readonly marks = true;
  override readonly goesByUse = true;

  looksAt(): number {
    return Infinity;
  }

  pick({ count, marks, pages: sizes }: Candidates, pages: number, _last: boolean, choice: Choice): Choice {
    choice.begin();
    let room = 0;
    for (let i = 0; i < count; i++) {
      if (marks[i]! & ACCESSED) choice.renew(i);
      else if (room < pages) room += choice.go(i, sizes);
    }
    return choice.end(pages - room, sizes);
  }
}

/** What was used gets a second chance. Models: second-chance FIFO, `folio_referenced` at the tail of the inactive list. */
export class Clock extends NamedPolicy {
  readonly name = 'clock';
  readonly marks = true;

  looksAt(pages: number): number {
    return Math.max(CLOCK_WINDOW, 2 * pages);
  }

  pick({ count, marks, pages: sizes }: Candidates, pages: number, last: boolean, choice: Choice): Choice {
    choice.begin();
    // The hand stops behind the last victim: who comes later keeps its place.
    let room = 0;
    for (let i = 0; i < count && room < pages; i++) {
      if (marks[i]! & ACCESSED) choice.renew(i);
      else room += choice.go(i, sizes);
    }
    return room === 0 && last ? choice.end(pages, sizes).renewNobody() : choice.end();
  }
}

/** What was used least often goes; counts outlive an eviction, and fade. */
export class Lfu extends NamedPolicy {
  readonly name = 'lfu';
  readonly marks = true;
  /** Times that a page was found used, by space and page. */
  private readonly uses: PageMap = new PageMap();
  private choices = 0;
  /** Of each candidate: its count. */
  private counts: Uint32Array = new Uint32Array(0);

  looksAt(): number {
    return Infinity;
  }

  pick(candidates: Candidates, pages: number, _last: boolean, choice: Choice): Choice {
    const { count, pages: sizes } = candidates;
    if (++this.choices % FADE_AFTER === 0 || this.uses.size > COUNTED_MAX) this.fade();
    let least = this.countUses(candidates);
    const { counts } = this;
    choice.begin();
    // The least used, then those one step above, as long as there is no room: of equals the oldest goes.
    for (let room = 0; room < pages && least < Infinity;) {
      let next = Infinity;
      for (let i = 0; i < count && room < pages; i++) {
        const uses = counts[i]!;
        if (uses === least) room += choice.go(i, sizes);
        else if (uses > least && uses < next) next = uses;
      }
      least = next;
    }
    return choice.end();
  }

  /** Counts what has been used; the least count of all, Infinity of none. */
  private countUses({ count, marks, spaces, vpns }: Candidates): number {
    const { uses } = this;
    if (count > this.counts.length) this.counts = new Uint32Array(2 * count);
    let least = Infinity;
    for (let i = 0; i < count; i++) {
      const key = (spaces[i]! + 1) * PAGES_PER_SPACE + vpns[i]!;
      let times = uses.get(key) ?? 0;
      if (marks[i]! & ACCESSED) uses.set(key, ++times);
      this.counts[i] = times;
      if (times < least) least = times;
    }
    return least;
  }

  forget(space: number): void {
    this.uses.deleteRange((space + 1) * PAGES_PER_SPACE, PAGES_PER_SPACE);
  }

  private fade(): void {
    const { uses } = this;
    for (let at = uses.next(0); at >= 0; at = uses.next(at + 1)) {
      const [key, times] = [uses.pageAt(at), uses.valueAt(at)];
      if (times > 1) uses.set(key, times >> 1);
      else uses.delete(key);
    }
  }
}

/** Any of them. */
export class RandomVictims extends NamedPolicy {
  readonly name = 'random';
  readonly marks = false;
  private state: number;
  /** Candidates that have not been drawn. */
  private order: Uint32Array = new Uint32Array(0);

  /** `seed`: 32 bits. Errors: EINVAL. */
  constructor(seed: number) {
    super();
    if (!Number.isInteger(seed) || seed < 0 || seed >= 2 ** 32) throw fail('EINVAL', 'seed', seed, 'is not an integer below 2^32');
    this.state = Math.imul(seed ^ 0x9e3779b9, 0x85ebca6b) | 1;
  }

  looksAt(): number {
    return Infinity;
  }

  pick({ count, pages: sizes }: Candidates, pages: number, _last: boolean, choice: Choice): Choice {
    if (count > this.order.length) this.order = new Uint32Array(2 * count);
    const { order } = this;
    for (let i = 0; i < count; i++) order[i] = i;
    choice.begin();
    for (let room = 0, left = count; room < pages && left > 0; left--) {
      const at = this.below(left);
      const i = order[at]!;
      order[at] = order[left - 1]!;
      room += choice.go(i, sizes);
    }
    return choice.end();
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
    typeof policy.choose === 'function' &&
    (policy.forget === undefined || typeof policy.forget === 'function');
  if (!isPolicy)
    throw fail('EINVAL', argument, victims, 'is neither the name of a victim policy nor an object with name, marks, looksAt and choose');
}

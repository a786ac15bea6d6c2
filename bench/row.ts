/** What is measured: a row, the ways of doing its work, and what is hoped for. */

/** One way of doing the work of a row. */
export interface Contender {
  /** Puts everything to where the work starts; not timed. */
  readonly reset?: () => void;
  /** The work, timed: some ten microseconds or more. */
  readonly run: (() => void) | Timed;
  /** What the last run found or left behind, as one number: that of both contenders must be the same. */
  readonly checksum: () => number;
}

/** Work that times itself, since only a part of it counts. */
export class Timed {
  /** Does the work; milliseconds of the part that counts. */
  readonly ms: () => Promise<number>;

  constructor(ms: () => Promise<number>) {
    this.ms = ms;
  }
}

/** Makes a contender, in the process that measures it. */
export type Make = () => Contender | Promise<Contender>;

/** A way in C: a program of bench/native, its row, and the numbers that it is told. */
export interface Native {
  readonly program: 'table' | 'table128' | 'memory' | 'judy';
  readonly row: string;
  readonly numbers: readonly number[];
}

/** Time for one item, items in a time, or something that is counted. */
export type Unit = 'ns' | 'ms' | 'M/s' | 'MB/s' | 'B';

/**
 * What is hoped for. `ratio`: our time is at most so many of the peer's. `share`: the peer's time is at least this part of ours. `times`: we are at least so many times as fast. `most`, `least`: ours is at
 * most, at least, that, in the unit of the row. `above`: ours is at most so much above the peer.
 */
export type Goal =
  | { readonly ratio: number }
  | { readonly share: number }
  | { readonly times: number }
  | { readonly most: number }
  | { readonly least: number }
  | { readonly above: number };

/** Somebody else who does the work. */
export interface Peer {
  readonly name: string;
  readonly contender: Make | Native;
  /** False: only its time is compared. */
  readonly sameWork?: boolean;
  readonly goal?: Goal;
}

/** The same work at one of several sizes of something. */
export interface GrowthSize {
  readonly label: string;
  /** How much of it: what the time is fitted to. */
  readonly amount: number;
  readonly make: Make;
}

/** How a cost grows with something: at least four sizes of it. */
export interface Growth {
  /** What there is more and more of. */
  readonly of: string;
  readonly sizes: readonly GrowthSize[];
  /** The exponent that is hoped for, at most: 0 is a cost that does not grow, 1 one that grows in step. */
  readonly most: number;
}

/** One line of the table, or one for each of its peers. */
export interface Row {
  readonly name: string;
  readonly unit: Unit;
  /** Look-ups, pages, accesses or bytes that one run handles. */
  readonly items: number;
  /** Made when its turn comes, in a process of its own. In C only where a loop is compared with itself. */
  readonly ours: Make | Native;
  readonly peers: readonly Peer[];
  /** Of ours alone. */
  readonly goal?: Goal;
  /** Ours is measured at all of these sizes, and nobody is beside it. */
  readonly growth?: Growth;
}

/** Whether ours, beside theirs, is what was hoped for. Both in the row's unit; `ratio`: our time by theirs. */
export function isMet(goal: Goal, ours: number, theirs: number | undefined, ratio: number | undefined): boolean {
  if ('ratio' in goal) return ratio! <= goal.ratio;
  if ('share' in goal) return 1 / ratio! >= goal.share;
  if ('times' in goal) return 1 / ratio! >= goal.times;
  if ('most' in goal) return ours <= goal.most;
  if ('least' in goal) return ours >= goal.least;
  return ours - theirs! <= goal.above;
}

/** A goal as the table shows it. */
export function printGoal(goal: Goal, unit: Unit): string {
  if ('ratio' in goal) return `<= ${goal.ratio}`;
  if ('share' in goal) return `share >= ${goal.share}`;
  if ('times' in goal) return `>= ${goal.times} times as fast`;
  if ('most' in goal) return `<= ${goal.most} ${unit}`;
  if ('least' in goal) return `>= ${goal.least} ${unit}`;
  return `<= ${goal.above} ${unit} above`;
}

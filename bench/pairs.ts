/**
 * Two ways of doing the same work, side by side. Neither is trusted by itself: the machine changes its speed from second to second, so the two take turns, each turn in a fresh process, and what counts is
 * the ratio inside a turn.
 *
 * ```
 *   pair 1   ours, theirs   ->   our time by theirs; their checksums must agree
 *   pair 2   theirs, ours   ->   ...
 *   result   median of the times, median of the ratios, the middle half of the ratios as the spread
 * ```
 */
import type { Measured } from './measure.ts';
import { type Goal, isMet, type Peer, printGoal, type Row, type Unit } from './row.ts';

/** A measured row, as `--json` writes it. */
export interface Result {
  readonly name: string;
  /** `-`: nobody to compare with. */
  readonly peer: string;
  readonly ours: number;
  readonly theirs?: number;
  readonly unit: Unit;
  /** Our time by theirs: below 1 ours is faster, whatever the unit. */
  readonly ratio?: number;
  /** Of a cost that grows: see `growth.ts`. `ours` is at the largest size then, `theirs` at the smallest. */
  readonly exponent?: number;
  readonly points?: readonly { readonly label: string; readonly amount: number; readonly ours: number }[];
  /** The middle half of the ratios, or of the exponents; without a peer, of our values. */
  readonly spread: readonly [number, number];
  readonly goal?: string;
  readonly met?: boolean;
}

/** Runs one side of a row, in a fresh process. */
export type Runner = (side: 'ours' | Peer) => Promise<Measured>;

/** Measures a row against one peer, or ours alone. Throws when the two did not do the same. */
export async function pairUp(row: Row, peer: Peer | undefined, pairs: number, run: Runner): Promise<Result> {
  const { name, unit, items } = row;
  const rounds: { ours: number; theirs: number }[] = [];
  for (let pair = 0; pair < pairs; pair++) {
    const sides: ('ours' | Peer)[] = peer ? ['ours', peer] : ['ours'];
    if (pair % 2 === 1) sides.reverse();
    const found = new Map<'ours' | Peer, Measured>();
    for (const side of sides) found.set(side, await run(side));
    const ours = found.get('ours')!;
    const theirs = peer && found.get(peer)!;
    if (theirs && peer.sameWork !== false && ours.checksum !== theirs.checksum)
      throw new Error(`${name}: ours found ${ours.checksum}, ${peer.name} ${theirs.checksum}: they did not do the same work`);
    rounds.push({ ours: ours.ms, theirs: theirs?.ms ?? NaN });
  }
  const value = (ms: number): number =>
    unit === 'ns' ? (ms * 1e6) / items : unit === 'ms' ? ms / items : unit === 'B' ? ms : items / ms / 1e3;
  const ours = value(quantile(rounds.map((round) => round.ours)));
  const goal = peer ? peer.goal : row.goal;
  if (!peer) {
    const values = rounds.map((round) => value(round.ours));
    return { name, peer: '-', ours, unit, spread: [quantile(values, 0.25), quantile(values, 0.75)], ...judged(goal, unit, ours) };
  }
  const ratios = rounds.map((round) => round.ours / round.theirs);
  const theirs = value(quantile(rounds.map((round) => round.theirs)));
  const ratio = quantile(ratios);
  const spread = [quantile(ratios, 0.25), quantile(ratios, 0.75)] as const;
  return { name, peer: peer.name, ours, theirs, unit, ratio, spread, ...judged(goal, unit, ours, theirs, ratio) };
}

function judged(goal: Goal | undefined, unit: Unit, ours: number, theirs?: number, ratio?: number): Pick<Result, 'goal' | 'met'> {
  return goal ? { goal: printGoal(goal, unit), met: isMet(goal, ours, theirs, ratio) } : {};
}

/** A middle half of calibration ratios further from 1 than this: the machine is too busy to be judged. */
const NOISE_MAX = 0.05;

/** Whether ratios of this run mean something. */
export function isQuiet({ spread }: Result): boolean {
  return spread[0] >= 1 - NOISE_MAX && spread[1] <= 1 + NOISE_MAX;
}

/** The table that a person reads. */
export function format(results: readonly Result[]): string {
  const cells = results.map(({ name, ours, theirs, unit, ratio, exponent, spread, peer, goal, met }) => [
    name,
    digits(ours),
    theirs === undefined ? '' : digits(theirs),
    unit,
    ratio === undefined && exponent === undefined
      ? ''
      : `${exponent === undefined ? '' : 'n^'}${(ratio ?? exponent!).toFixed(2)} (${spread[0].toFixed(2)} to ${spread[1].toFixed(2)})`,
    peer,
    goal === undefined ? '' : `${goal}: ${met ? 'met' : 'NOT met'}`,
  ]);
  const table = [['', 'ours', 'theirs', 'unit', 'ratio (spread)', 'peer', 'goal'], ...cells];
  const widths = table[0]!.map((_, column) => Math.max(...table.map((line) => line[column]!.length)));
  const isNumber = (column: number): boolean => column === 1 || column === 2;
  const line = (each: readonly string[]): string =>
    each.map((cell, column) => (isNumber(column) ? cell.padStart(widths[column]!) : cell.padEnd(widths[column]!))).join('  ');
  return table.map((each) => line(each).trimEnd()).join('\n');
}

function digits(value: number): string {
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value >= 0.1 ? value.toFixed(2) : value.toFixed(4);
}

/** Quantile of a few numbers; the median when it is not said. */
export function quantile(values: readonly number[], part = 0.5): number {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (sorted.length - 1) * part;
  const below = sorted[Math.floor(at)]!;
  return below + (sorted[Math.ceil(at)]! - below) * (at - Math.floor(at));
}

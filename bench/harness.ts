/**
 * Measures two ways of doing the same work side by side. Neither is trusted by itself: the machine changes its speed from second to second,
 * so both take turns, and what counts is the ratio inside a turn.
 *
 * ```
 *   warm up   ours, peer        until both are compiled; their checksums must agree
 *   round 1   ours, peer   ->   median of each, and the ratio of the two
 *   round 2   ours, peer   ->   ...
 *   result    median of the medians, median of the ratios, and the middle half of the ratios as the spread
 * ```
 */
import { Bench } from 'tinybench';

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

/** Time for one item, or items in a time. */
export type Unit = 'ns' | 'M/s' | 'MB/s';

/** One line of the table. */
export interface Row {
  readonly name: string;
  readonly unit: Unit;
  /** Look-ups, pages, accesses or bytes that one run handles. */
  readonly items: number;
  readonly ours: Contender;
  readonly peer: Contender;
  /** What the peer is, in a few words. */
  readonly against: string;
}

/** Rows are made one at a time, when their turn comes, so that one's memory is gone before the next one's is made. */
export type Rows = Iterable<Row> | AsyncIterable<Row>;

/** How long to measure. */
export interface Effort {
  readonly rounds: number;
  /** Milliseconds that each contender gets in each round, and at least one run. */
  readonly roundMs: number;
  readonly warmUpMs: number;
}

export const FULL: Effort = { rounds: 11, roundMs: 60, warmUpMs: 400 };

/** A measured row: `ours` and `peer` in its unit; `ratio` says how many times as fast as the peer ours is. */
export interface Result {
  readonly name: string;
  readonly unit: Unit;
  readonly ours: number;
  readonly peer: number;
  readonly against: string;
  readonly ratio: number;
  /** The middle half of the rounds' ratios. */
  readonly spread: readonly [number, number];
}

/** Measures one row. Throws when the contenders did not do the same. */
export async function measure(row: Row, effort: Effort = FULL): Promise<Result> {
  const { name, unit, items, ours, peer, against } = row;
  await medianMs(ours, effort.warmUpMs);
  await medianMs(peer, effort.warmUpMs);
  agree(row);
  const rounds: { ours: number; peer: number }[] = [];
  for (let round = 0; round < effort.rounds; round++)
    rounds.push({ ours: await medianMs(ours, effort.roundMs), peer: await medianMs(peer, effort.roundMs) });
  agree(row);
  const ratios = rounds.map((round) => round.peer / round.ours);
  const printed = (ms: number): number => (unit === 'ns' ? (ms * 1e6) / items : items / ms / 1e3);
  return {
    name,
    unit,
    ours: printed(quantile(rounds.map((round) => round.ours))),
    peer: printed(quantile(rounds.map((round) => round.peer))),
    against,
    ratio: quantile(ratios),
    spread: [quantile(ratios, 0.25), quantile(ratios, 0.75)],
  };
}

/** The same loop against itself: what it shows beside 1.00 is the noise of the machine. */
export function calibration(): Row {
  const words = new Uint32Array(1 << 16).map((_, i) => Math.imul(i, 0x9e3779b1));
  const loop = (): Contender => {
    let sum = 0;
    return {
      run: () => {
        sum = 0;
        for (let i = 0; i < words.length; i++) sum = (sum + words[words[i]! & 0xffff]!) | 0;
      },
      checksum: () => sum,
    };
  };
  return { name: CALIBRATION, unit: 'ns', items: words.length, ours: loop(), peer: loop(), against: 'itself' };
}

const CALIBRATION = 'calibration';
/** Calibration further from 1 than this: the machine is too busy to say much. */
const NOISE_MAX = 0.1;

/** True for a calibration that is off. */
export function isNoisy({ name, spread }: Result): boolean {
  return name === CALIBRATION && (spread[0] < 1 - NOISE_MAX || spread[1] > 1 + NOISE_MAX);
}

/** The table that a person reads. */
export function format(results: readonly Result[]): string {
  const cells = results.map(({ name, ours, peer, unit, ratio, spread, against }) => [
    name,
    digits(ours),
    digits(peer),
    unit,
    `${ratio.toFixed(2)} (${spread[0].toFixed(2)} to ${spread[1].toFixed(2)})`,
    against,
  ]);
  const table = [['', 'ours', 'peer', 'unit', 'ratio (spread)', 'peer is'], ...cells];
  const widths = table[0]!.map((_, column) => Math.max(...table.map((line) => line[column]!.length)));
  const isNumber = (column: number): boolean => column === 1 || column === 2;
  const line = (each: readonly string[]): string =>
    each.map((cell, column) => (isNumber(column) ? cell.padStart(widths[column]!) : cell.padEnd(widths[column]!))).join('  ');
  return table.map((each) => line(each).trimEnd()).join('\n');
}

function digits(value: number): string {
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
}

function agree({ name, ours, peer }: Row): void {
  const [a, b] = [ours.checksum(), peer.checksum()];
  if (a !== b) throw new Error(`${name}: ours found ${a}, the peer ${b}: they did not do the same work`);
}

/** Median of the runs that fit into `ms` milliseconds, at least one. */
async function medianMs({ run, reset }: Contender, ms: number): Promise<number> {
  const bench = new Bench({ time: ms, iterations: 1, warmup: false, throws: true });
  const hooks = reset ? { beforeEach: reset } : {};
  if (run instanceof Timed) bench.add('run', async () => ({ overriddenDuration: await run.ms() }), { async: true, ...hooks });
  else bench.add('run', run, { async: false, ...hooks });
  const [task] = run instanceof Timed ? await bench.run() : bench.runSync();
  const { result } = task!;
  if (!('latency' in result)) throw new Error(`a run ended as ${result.state}`);
  return result.latency.p50;
}

/** Quantile of a few numbers; the median when it is not said. */
function quantile(values: readonly number[], part = 0.5): number {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (sorted.length - 1) * part;
  const below = sorted[Math.floor(at)]!;
  return below + (sorted[Math.ceil(at)]! - below) * (at - Math.floor(at));
}

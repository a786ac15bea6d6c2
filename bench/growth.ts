/**
 * How a cost grows with something there is more and more of. The sizes take turns, each turn in a fresh process, as in `pairs.ts`; each round gives an exponent:
 *
 * ```
 *   time ~ amount^e      e is the slope of ln(time) against ln(amount), by least squares over all sizes
 *   e = 0                the cost does not grow          e = 1   it grows in step
 *   logarithmic          0.05 to 0.15 over the sizes here
 * ```
 */
import type { Measured } from './measure.ts';
import { quantile, type Result } from './pairs.ts';
import type { GrowthSize, Row } from './row.ts';

/** Measures a row at every size of its growth, `rounds` times. Requires: `row.growth`. */
export async function growthOf(row: Row, rounds: number, run: (size: GrowthSize) => Promise<Measured>): Promise<Result> {
  const { name, unit, items } = row;
  const { of, sizes, most } = row.growth!;
  const times: number[][] = sizes.map(() => []);
  const exponents: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const found: number[] = [];
    for (let turn = 0; turn < sizes.length; turn++) {
      // Up, and down again.
      const i = round % 2 === 0 ? turn : sizes.length - 1 - turn;
      const { ms } = await run(sizes[i]!);
      found[i] = unit === 'ns' ? (ms * 1e6) / items : ms;
    }
    found.forEach((time, i) => times[i]!.push(time));
    exponents.push(exponentOf(sizes, found));
  }
  const points = sizes.map(({ label, amount }, i) => ({ label, amount, ours: quantile(times[i]!) }));
  const [first, last] = [points[0]!, points.at(-1)!];
  const exponent = quantile(exponents);
  return {
    name,
    peer: `${first.label} to ${last.label} ${of}`,
    ours: last.ours,
    theirs: first.ours,
    unit,
    exponent,
    points,
    spread: [quantile(exponents, 0.25), quantile(exponents, 0.75)],
    goal: `exponent <= ${most}`,
    met: exponent <= most,
  };
}

/** The slope of the logarithms. */
export function exponentOf(sizes: readonly { readonly amount: number }[], times: readonly number[]): number {
  const x = sizes.map(({ amount }) => Math.log(amount));
  const y = times.map(Math.log);
  const mean = (values: readonly number[]): number => values.reduce((sum, each) => sum + each, 0) / values.length;
  const [mx, my] = [mean(x), mean(y)];
  const above = x.reduce((sum, each, i) => sum + (each - mx) * (y[i]! - my), 0);
  return above / x.reduce((sum, each) => sum + (each - mx) ** 2, 0);
}

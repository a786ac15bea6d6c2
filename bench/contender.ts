/** One side of one row, in this process: `contender.js BENCH ROW SIDE WARM_UP_MS RUN_MS`. Prints what it found as JSON. */
import { measure } from './measure.ts';
import type { Make, Row } from './row.ts';

const [bench, name, side, warmUpMs, runMs] = process.argv.slice(2);
const { rows } = (await import(new URL(`${bench}.bench.js`, import.meta.url).href)) as { rows: () => readonly Row[] };
const row = rows().find((each) => each.name === name)!;
const size = row.growth?.sizes.find(({ label }) => label === side);
const make = (size?.make ?? (side === 'ours' ? row.ours : row.peers.find((peer) => peer.name === side)!.contender)) as Make;
console.log(JSON.stringify(await measure(await make(), { warmUpMs: Number(warmUpMs), runMs: Number(runMs) })));

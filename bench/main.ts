/** Runs one bench in this process and prints its table: `main.js NAME JSON_FILE`. Started by scripts/bench.mjs. */
import { writeFileSync } from 'node:fs';
import { calibration, format, isNoisy, measure, type Result, type Rows } from './harness.ts';

const [name, json] = process.argv.slice(2);
const bench = (await import(new URL(`${name}.bench.js`, import.meta.url).href)) as { rows: () => Rows };

const results: Result[] = [await measure(calibration())];
for await (const row of bench.rows()) results.push(await measure(row));

console.log(format(results));
if (results.some(isNoisy)) console.log('The machine was busy: believe only ratios whose spread is narrow, or run again.');
writeFileSync(json!, JSON.stringify(results));

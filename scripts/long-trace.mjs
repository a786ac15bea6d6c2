/**
 * Replays a generated trace of any length against the built package, and says how fast, and how much memory the process took at most:
 *
 *   node scripts/long-trace.mjs [accesses] [--ceiling MiB]      a billion, and 192 MiB, if left out
 *
 * The text is made, read and forgotten piece by piece. Ends with 1 when the memory was above the ceiling, which no length of a trace may move, or when accesses are missing.
 */
import { performance } from 'node:perf_hooks';
import { parseArgs, TextEncoder } from 'node:util';
import { buildIfStale } from './build-if-stale.mjs';

const MiB = 2 ** 20;
/** Bytes of resident memory: Node itself, a machine of 64 MiB, the replay's own map of bytes, eight pieces of text. */
const CEILING_MIB = 192;
/** Accesses of a piece: half the CPU's, half the device's, to the same pages. */
const PIECE = 1 << 16;
const PIECES = 8;
const PAGES = 64;

const { accesses, ceiling } = readArguments();
buildIfStale();
const { PRESET_DEFAULT, presets, replayTrace } = await import('../dist/replay.js');
const { default: nouveau } = await import('../dist/drivers/nouveau.js');

const pieces = Array.from({ length: PIECES }, (_, k) => pieceOf(k));
const total = Math.ceil(accesses / PIECE);
const began = performance.now();
const report = await replayTrace(text(), {
  name: 'generated',
  driver: nouveau({ vram: 32 * MiB }),
  offload: [{ start: 0x1000, end: 0x1004 }],
  preset: presets[PRESET_DEFAULT],
  dram: 32 * MiB,
  lanes: 32,
  now: () => performance.now(),
});
const seconds = (performance.now() - began) / 1000;
const done = report.accesses.cpu + report.accesses.device;
const peak = process.resourceUsage().maxRSS * 1024;
const faults = report.faults.cpu + Object.values(report.faults.devices).reduce((sum, each) => sum + each, 0);
console.log(`${done} accesses, ${faults} faults, every load checked`);
console.log(
  `${seconds.toFixed(1)} s with the reading of the text, ${(report.host.accessesPerSecond / 1e6).toFixed(1)} million accesses a second without it`,
);
console.log(`${(peak / MiB).toFixed(0)} MiB resident at most; the ceiling is ${ceiling} MiB`);
if (done < accesses || peak > ceiling * MiB) process.exit(1);

function readArguments() {
  try {
    const { values, positionals } = parseArgs({ options: { ceiling: { type: 'string' } }, allowPositionals: true });
    const [count = '1000000000', ...others] = positionals;
    if (others.length > 0) throw new Error(`${others[0]} is one argument too many`);
    return { accesses: countOf(count, 'accesses'), ceiling: countOf(values.ceiling ?? String(CEILING_MIB), 'MiB') };
  } catch (error) {
    console.error(error.message);
    process.exit(2);
  }
}

function countOf(text, what) {
  if (!/^[1-9][0-9]{0,14}$/.test(text)) throw new Error(`${text} is not a count of ${what}`);
  return Number(text);
}

function* text() {
  for (let i = 0; i < total; i++) yield pieces[i % PIECES];
}

function pieceOf(k) {
  const lines = [];
  for (let i = 0; i < PIECE; i++) {
    if (i === 0) lines.push('I  00002000,4');
    if (i === PIECE / 2) lines.push('I  00001000,4');
    const page = (i * 29 + k * 7) % PAGES;
    lines.push(` ${i % 4 === 0 ? 'S' : 'L'} ${(0x10000000 + page * 4096 + (i % 500) * 8).toString(16)},8`);
  }
  return new TextEncoder().encode(`${lines.join('\n')}\n`);
}

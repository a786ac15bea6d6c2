/** What a replay takes does not depend on how long the trace is: neither what it keeps, nor, where nothing faults, what it leaves behind for the garbage collector. */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect, test } from 'vitest';
import nouveau from '../../drivers/nouveau/index.ts';
import { PRESET_DEFAULT, presets } from '../../sdk/policy/preset.ts';
import { replayTrace } from '../../sdk/replay/replay-trace.ts';
import { Allocations } from '../machine/allocations.ts';

const MiB = 2 ** 20;
const PAGES = 32;
/** Accesses of a piece of the trace: half of them the CPU's. */
const PIECE = 1 << 15;

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

/** Text of CPU and device that take turns. Shared: both go to the same pages. */
function piece(shared: boolean): Uint8Array {
  const lines: string[] = [];
  for (let i = 0; i < PIECE; i++) {
    const side = i < PIECE / 2 ? 0 : 1;
    if (i % (PIECE / 2) === 0) lines.push(side === 0 ? 'I  00002000,4' : 'I  00001000,4');
    const page = ((i * 7) % PAGES) + (shared ? 0 : side * PAGES);
    lines.push(` ${i % 4 === 0 ? 'S' : 'L'} ${(0x10000000 + page * 4096 + (i % 500) * 8).toString(16)},8`);
  }
  return new TextEncoder().encode(`${lines.join('\n')}\n`);
}

/** Replays the piece again and again, as often as `next` says. */
async function replayed(text: Uint8Array, next: (pieces: number) => boolean): Promise<number> {
  function* source(): Generator<Uint8Array> {
    for (let pieces = 0; next(pieces); pieces++) yield text;
  }
  const { accesses } = await replayTrace(source(), {
    name: 'generated',
    driver: nouveau({ vram: 4 * MiB }),
    offload: [{ start: 0x1000, end: 0x1004 }],
    preset: presets[PRESET_DEFAULT]!,
    dram: 4 * MiB,
    lanes: 32,
  });
  return accesses.cpu + accesses.device;
}

/** Bytes that are reachable. */
function kept(): number {
  collect();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

test('a trace four times as long is replayed in the same memory', async () => {
  const text = piece(true);
  const length = 64;
  const at: number[] = [];
  const done = await replayed(text, (pieces) => {
    if (pieces >= length && pieces % length === 0) at.push(kept());
    return pieces < 4 * length;
  });
  expect([done, at.length]).toEqual([4 * length * PIECE, 4]);
  // Code that becomes faster, and the like, but nothing for an access: a single bit for each would be 256 KiB in every quarter.
  const grown = at[3]! - at[1]!;
  expect(grown, `bytes kept, by quarter: ${at.join(', ')}`).toBeLessThan((2 * length * PIECE) / 8);
});

test('accesses that do not fault leave nothing on the heap of JavaScript', async () => {
  const text = piece(false);
  const allocations = new Allocations();
  const warm = 8;
  const length = 16;
  const done = await replayed(text, (pieces) => {
    if (pieces === warm) allocations.begin();
    return pieces < warm + length;
  });
  const bytes = await allocations.end();
  expect(done).toBe((warm + length) * PIECE);
  // Something for a batch, a chunk or a turn; an object for each access would be 12 bytes or more.
  expect(bytes / (length * PIECE), 'bytes for an access').toBeLessThan(1);
  expect(bytes).toBeGreaterThan(0);
});

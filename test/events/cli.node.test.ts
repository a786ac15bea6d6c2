import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { farfault, folder } from '../cli/command.ts';
import { HAND_TRACES } from './traces.ts';

const SIDECAR = '{ "schema": 1, "offload": [{ "symbol": "kernel", "range": "0x1000-0x1100" }] }';

function withTrace(): string {
  const cwd = folder();
  writeFileSync(join(cwd, 'x.trace'), HAND_TRACES['there and back']!);
  writeFileSync(join(cwd, 'x.trace.json'), SIDECAR);
  return cwd;
}

test('--timeline writes a trace file beside the table, and nothing else', async () => {
  const cwd = withTrace();
  const { code, out, err } = await farfault(['replay', 'x.trace', '--timeline', 'out.json', '--preset', 'gh200-c2c'], { cwd });
  expect([code, err]).toEqual([0, '']);
  expect(out).toMatch(/^Replay +x\.trace\n/);
  const file = JSON.parse(readFileSync(join(cwd, 'out.json'), 'utf8')) as { otherData: unknown; traceEvents: { ph: string }[] };
  expect(file.otherData).toMatchObject({ name: 'x.trace', preset: 'gh200-c2c' });
  expect(new Set(file.traceEvents.map(({ ph }) => ph))).toEqual(new Set(['M', 'C', 'X', 'B', 'E', 'i']));
  expect(readdirSync(cwd).sort()).toEqual(['out.json', 'x.trace', 'x.trace.json']);
});

test('--timeline replaces a file only when the replay has ended well', async () => {
  const cwd = withTrace();
  writeFileSync(join(cwd, 'out.json'), 'old');
  writeFileSync(join(cwd, 'bad.trace'), ' S 00010000,8\n X what\n');
  expect((await farfault(['replay', 'bad.trace', '--timeline', 'out.json'], { cwd })).code).toBe(1);
  expect(readFileSync(join(cwd, 'out.json'), 'utf8')).toBe('old');
  expect((await farfault(['replay', 'x.trace', '--timeline', 'out.json'], { cwd })).code).toBe(0);
  expect(readFileSync(join(cwd, 'out.json'), 'utf8')).toMatch(/^\{"otherData":/);
  expect(readdirSync(cwd).filter((name) => name.endsWith('.part'))).toEqual([]);
});

test('--timeline goes with --json, and is written to a device directly', async () => {
  const cwd = withTrace();
  const { code } = await farfault(['replay', 'x.trace', '--json', 'numbers.json', '--timeline', 'out.json'], { cwd });
  expect(code).toBe(0);
  const report = JSON.parse(readFileSync(join(cwd, 'numbers.json'), 'utf8')) as { modelledNs: number };
  const { traceEvents } = JSON.parse(readFileSync(join(cwd, 'out.json'), 'utf8')) as { traceEvents: { ts?: number; dur?: number }[] };
  expect(Math.max(...traceEvents.map(({ ts = 0, dur = 0 }) => Math.round((ts + dur) * 1000)))).toBe(report.modelledNs);
  if (existsSync('/dev/null')) expect((await farfault(['replay', 'x.trace', '--timeline', '/dev/null'], { cwd })).code).toBe(0);
});

test.each([
  [['--timeline', './x.trace'], '--timeline ./x.trace would overwrite the trace', 2],
  [['--timeline', 'a.json', '--json', './a.json'], '--timeline a.json is the file of --json', 2],
  [['--timeline'], '--timeline needs a value: --timeline file.json', 2],
  [['--timeline', 'nowhere/out.json'], 'nowhere/out.json cannot be written: its directory does not exist', 1],
  [['--timeline', '.'], '. is a directory', 1],
])('%j is refused in one sentence', async (words, sentence, exit) => {
  const { code, out, err } = await farfault(['replay', 'x.trace', ...words], { cwd: withTrace() });
  expect([code, out, err]).toEqual([exit, '', `farfault: ${sentence}\n`]);
});

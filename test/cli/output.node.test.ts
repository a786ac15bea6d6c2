import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { Command, farfault, folder } from './command.ts';

const STENCIL = fileURLToPath(new URL('../../examples/workloads/stencil.trace.gz', import.meta.url));
const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string };

/** The CPU writes and reads a page, the device reads it, the CPU reads it again. */
const THERE_AND_BACK = 'I  00002000,4\n S 00010000,8\n L 00010000,8\nI  00001000,4\n L 00010000,8\nI  00002004,4\n L 00010000,8\n';
const SIDECAR = '{ "schema": 1, "offload": [{ "symbol": "kernel", "range": "0x1000-0x1100" }] }';

interface Report {
  accesses: unknown;
  migrated: unknown;
  detail: object;
  host: { wallMs: number; accessesPerSecond: number };
}

function withTrace(): string {
  const cwd = folder();
  writeFileSync(join(cwd, 'x.trace'), THERE_AND_BACK);
  writeFileSync(join(cwd, 'x.trace.json'), SIDECAR);
  return cwd;
}

const parsed = (text: string): Report => JSON.parse(text) as Report;
const withoutHost = (text: string): unknown => ({ ...parsed(text), host: undefined });

test('a replay prints the table, and nothing on standard error', async () => {
  const { code, out, err } = await farfault(['replay', 'x.trace'], { cwd: withTrace() });
  expect([code, err]).toEqual([0, '']);
  expect(out).toMatch(/^Replay +x\.trace\n/);
  expect(out).toMatch(/offloaded +1 range\n/);
  expect(out).toMatch(/by the CPU +3 +75\.0 %\n/);
});

test('bare --json prints the numbers instead of the table', async () => {
  const { code, out, err } = await farfault(['replay', 'x.trace', '--json'], { cwd: withTrace() });
  expect([code, err]).toEqual([0, '']);
  expect(parsed(out)).toMatchObject({
    schema: 1,
    trace: 'x.trace',
    preset: 'uvmsmart-1080ti',
    accesses: { cpu: 3, device: 1, read: 3, write: 1, instructions: 3 },
    faults: { cpu: 2, devices: { nouveau: 1 } },
    migrated: { dram: { 'nouveau.vram': { pages: 1, bytes: 4096 } }, 'nouveau.vram': { dram: { pages: 1, bytes: 4096 } } },
    evictions: 0,
    frames: { dram: { peak: 1 }, 'nouveau.vram': { peak: 1 } },
  });
  expect(parsed(out).host.wallMs).toBeGreaterThan(0);
});

test('--oversubscribe replays a trace with less and less memory, side by side, and --json writes all of them', async () => {
  const cwd = folder();
  const line = (i: number): string => ` ${i % 3 === 0 ? 'S' : 'L'} ${(0x10000 + (i % 32) * 4096).toString(16)},8\n`;
  writeFileSync(join(cwd, 'x.trace'), `I  00001000,4\n${Array.from({ length: 200 }, (_, i) => line(i)).join('')}`);
  const words = ['replay', 'x.trace', '--oversubscribe', '1..16x', '--policy', 'lru', '--dram', '40K', '--swap', '256K'];
  const { code, out, err } = await farfault(words, { cwd });
  expect([code, err]).toEqual([0, '']);
  expect(out).toMatch(/oversubscribed +1\.0x +2\.0x +4\.0x +8\.0x +16\.0x\n/);
  expect(out).toMatch(/nouveau\.vram +128 KiB +64 KiB +32 KiB +16 KiB +8 KiB\n/);
  expect(out).toMatch(/victims chosen by( +lru){5}\n/);
  const json = JSON.parse((await farfault([...words, '--json'], { cwd })).out) as (Report & { evictions: number })[];
  expect(json.map(({ evictions }) => evictions > 0)).toEqual([false, true, true, true, true]);
});

test('--json with a file writes the same numbers beside the table', async () => {
  const cwd = withTrace();
  const bare = await farfault(['replay', '--json', 'x.trace'], { cwd });
  const { code, out } = await farfault(['replay', '--json', 'out.json', 'x.trace'], { cwd });
  expect(code).toBe(0);
  expect(out).toMatch(/^Replay +x\.trace\n/);
  expect(withoutHost(readFileSync(join(cwd, 'out.json'), 'utf8'))).toEqual(withoutHost(bare.out));
  expect(readdirSync(cwd).sort()).toEqual(['out.json', 'x.trace', 'x.trace.json']);
});

test('--json replaces what a link leads to, and writes to a device directly', async () => {
  const cwd = withTrace();
  mkdirSync(join(cwd, 'real'));
  writeFileSync(join(cwd, 'real/numbers.json'), 'old');
  symlinkSync('real/numbers.json', join(cwd, 'link.json'));
  expect((await farfault(['replay', 'x.trace', '--json', 'link.json'], { cwd })).code).toBe(0);
  expect(parsed(readFileSync(join(cwd, 'real/numbers.json'), 'utf8'))).toMatchObject({ schema: 1 });
  if (existsSync('/dev/null')) expect((await farfault(['replay', 'x.trace', '--json', '/dev/null'], { cwd })).code).toBe(0);
});

test('outside host, two runs give the same JSON, from a file or a pipe, plain or gzip', async () => {
  const cwd = withTrace();
  const input = readFileSync(STENCIL);
  const words = ['--json', '--vram', '1MiB', '--granule', '64K', '--offload', '0x47836f-0x478381', '0x478381-0x478454'];
  const first = await farfault(['replay', STENCIL, ...words], { cwd });
  const second = await farfault(['replay', '-', ...words], { cwd, input });
  expect([first.code, second.code]).toEqual([0, 0]);
  expect({ ...(withoutHost(second.out) as object), trace: 'stencil.trace.gz' }).toEqual(withoutHost(first.out));
  const small = await farfault(['replay', '-', '--json', '--offload=1000-1100'], { cwd, input: gzipSync(THERE_AND_BACK) });
  const plain = await farfault(['replay', '-', '--json', '--offload', '0x1000-0x1080', '--offload', '0x1080-0x1100'], {
    cwd,
    input: THERE_AND_BACK,
  });
  expect(parsed(small.out).migrated).toEqual(parsed(plain.out).migrated);
});

test('without a sidecar and without ranges everything is the device', async () => {
  const { out } = await farfault(['replay', '-', '--json'], { cwd: withTrace(), input: THERE_AND_BACK });
  expect(parsed(out).accesses).toEqual({ cpu: 0, device: 4, read: 3, write: 1, instructions: 3 });
});

test('mirror and a module of one own are devices too', async () => {
  const cwd = withTrace();
  const gmem = new URL('../../dist/gmem.js', import.meta.url).href;
  writeFileSync(
    join(cwd, 'tiny.mjs'),
    `import { defineDriver } from ${JSON.stringify(gmem)};
     export default defineDriver(({ vram = 1 << 20, granule }) => ({ name: 'tiny', granuleBytes: granule,
       memory: [{ name: 'vram', kind: 'private', bytes: vram }], attach: () => ({}) }));`,
  );
  const mirror = await farfault(['replay', 'x.trace', '--device', 'mirror', '--json'], { cwd });
  expect(parsed(mirror.out)).toMatchObject({ migrated: {}, faults: { devices: { mirror: 1 } } });
  const tiny = await farfault(['replay', 'x.trace', '--device', './tiny.mjs', '--vram', '512KiB', '--granule', '64K', '--json'], { cwd });
  expect(tiny.err).toBe('');
  expect(parsed(tiny.out)).toMatchObject({
    migrated: { dram: { 'tiny.vram': { pages: 1 } } },
    detail: { options: { device: 'tiny', deviceMemory: { 'tiny.vram': 512 * 1024 }, granulePages: 16 } },
  });
});

test('a granule may be any power of two, and is the default of a module where it is not given', async () => {
  const cwd = withTrace();
  const gmem = new URL('../../dist/gmem.js', import.meta.url).href;
  writeFileSync(
    join(cwd, 'tiny.mjs'),
    `import { defineDriver } from ${JSON.stringify(gmem)};
     export default defineDriver(({ vram = 1 << 20, granule = 32768, ...more }) => ({ name: 'tiny' + Object.keys(more), granuleBytes: granule,
       memory: [{ name: 'vram', kind: 'private', bytes: vram }], attach: () => ({}) }));`,
  );
  const settings = async (...words: string[]): Promise<unknown> => {
    const { out, err } = await farfault(['replay', 'x.trace', '--json', ...words], { cwd });
    expect(err).toBe('');
    return (JSON.parse(out) as { detail: { options: object } }).detail.options;
  };
  expect(await settings('--device', './tiny.mjs')).toMatchObject({ device: 'tiny', granulePages: 8 });
  expect(await settings('--device', './tiny.mjs', '--granule', '16K')).toMatchObject({ granulePages: 4 });
  // A fault moves one page then.
  expect(await settings('--device', './tiny.mjs', '--metadata', '--page', '2M', '--vram', '2M')).toMatchObject({ granulePages: 1 });
  // Whole granules of the device.
  expect(await settings('--device', './tiny.mjs', '--oversubscribe', '4x')).toMatchObject({
    workingSet: { tiny: 32768 },
    deviceMemory: { 'tiny.vram': 32768 },
  });
  // Shipped drivers are compared: npu's own default is 2 MiB.
  for (const device of ['nouveau', 'mirror', 'npu']) expect(await settings('--device', device)).toMatchObject({ granulePages: 1 });
  expect(await settings('--device', 'npu', '--granule', '8K')).toMatchObject({ granulePages: 2 });
});

test('a range that no instruction is in is told on standard error, and in the report', async () => {
  const cwd = withTrace();
  const warning = (range: string): string =>
    `farfault: warning: no instruction of x.trace is in the offload range ${range}: compare its I lines (a position-independent program runs at other addresses than its symbols say: link with -no-pie)\n`;
  const none = await farfault(['replay', 'x.trace', '--offload', '0x1-0x2', '0x1000-0x1100', '0x5000-0x5001', '0x5001-0x5002'], { cwd });
  expect([none.code, none.err]).toEqual([0, warning('0x1-0x2') + warning('0x5000-0x5002')]);
  expect(none.out).toMatch(/\n +offloaded +4 ranges\n +without an instruction +2 ranges\n/);
  const json = await farfault(['replay', 'x.trace', '--offload', '0x1-0x2', '--json'], { cwd });
  expect([json.code, json.err]).toEqual([0, warning('0x1-0x2')]);
  expect(parsed(json.out)).toMatchObject({ detail: { unmet: ['0x1-0x2'] } });
  const some = await farfault(['replay', 'x.trace', '--offload', '0x1000-0x1100', '--json'], { cwd });
  expect([some.code, some.err]).toEqual([0, '']);
  expect(parsed(some.out).detail).not.toHaveProperty('unmet');
});

test('examples are printed side by side, in 100 columns', async () => {
  const { code, out, err } = await farfault(['examples', '--vram', '1MiB'], { cwd: folder() });
  expect([code, err]).toEqual([0, '']);
  const lines = out.trimEnd().split('\n');
  expect(lines[0]).toMatch(/^Replay +stencil\.trace\.gz +bfs\.trace\.gz +hashjoin\.trace\.gz$/);
  expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(100);
});

test('help and version', async () => {
  const cwd = folder();
  for (const words of [[], ['--help'], ['-h']]) {
    const { code, out, err } = await farfault(words, { cwd });
    expect([code, err]).toEqual([0, '']);
    expect(out).toContain('farfault replay <trace | ->');
  }
  expect(await farfault(['--version'], { cwd })).toEqual({ code: 0, out: `${version}\n`, err: '' });
  const { code, out } = await farfault(['replay', '--help'], { cwd });
  expect(code).toBe(0);
  for (const fact of [
    '256 sets of 4 ways',
    'least recently used',
    'allocated into least recently',
    'lane k modulo n',
    'Chunks of 2 MiB',
    '2 MiB block',
    'uvmsmart-1080ti',
    '--seed',
  ]) {
    expect(out).toContain(fact);
  }
  for (const line of `${out}\n${(await farfault(['examples', '--help'], { cwd })).out}`.split('\n'))
    expect(line.length).toBeLessThanOrEqual(105);
});

test('a reader that goes away ends the command quietly', async () => {
  const cwd = withTrace();
  for (const words of [['x.trace'], ['x.trace', '--json']]) {
    const command = new Command(['replay', ...words], cwd);
    command.process.stdin.end();
    command.process.stdout.destroy();
    const { code, err } = await command.outcome();
    expect([code, err]).toEqual([0, '']);
  }
});

test('Ctrl-C ends the command with 130, and leaves the old JSON file as it was', async () => {
  const cwd = withTrace();
  writeFileSync(join(cwd, 'out.json'), 'precious');
  const command = new Command(['replay', '-', '--json', 'out.json'], cwd);
  const { stdin } = command.process;
  // The pipe stays open: the replay is under way, and has its file beside the other.
  stdin.write(THERE_AND_BACK.repeat(2000));
  while (!readdirSync(cwd).some((name) => name.endsWith('.part'))) await new Promise((resolve) => setTimeout(resolve, 10));
  command.process.kill('SIGINT');
  await once(command.process, 'exit');
  expect(await command.outcome()).toEqual({ code: 130, out: '', err: '' });
  expect(readFileSync(join(cwd, 'out.json'), 'utf8')).toBe('precious');
  expect(readdirSync(cwd).sort()).toEqual(['out.json', 'x.trace', 'x.trace.json']);
});

test('FARFAULT_DEBUG shows where an error came from', async () => {
  const cwd = folder();
  const command = new Command(['replay', 'missing'], cwd, { FARFAULT_DEBUG: '1' });
  command.process.stdin.end();
  expect((await command.outcome()).err).toMatch(/missing does not exist\n +at /);
});

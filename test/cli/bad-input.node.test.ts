import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { farfault, folder } from './command.ts';

const GOOD = 'I  00001000,4\n L 00002000,8\n S 00003000,4\n';
const NOT_LACKEY = 'is not a line of Valgrind\'s lackey, such as "I  00401200,3" or " L 1fff0008,8"';

/** With a bit of its checksum turned over. */
function damaged(bytes: Buffer): Buffer {
  bytes[bytes.length - 6]! ^= 1;
  return bytes;
}

/** Files of the folder that a command runs in. */
const FILES: Readonly<Record<string, string | Uint8Array>> = {
  'good.trace': GOOD,
  'cut.trace.gz': gzipSync(GOOD.repeat(1000)).subarray(0, 60),
  'damaged.trace.gz': damaged(gzipSync(GOOD)),
  'behind.trace.gz': Buffer.concat([gzipSync(GOOD), Buffer.from('something else')]),
  'binary.trace': Uint8Array.of(0x7f, 0x45, 0x4c, 0x46, 2, 1, 1, 0, 0, 10, 0, 0),
  'unparsable.trace': `==1== lackey\n${GOOD}hello\n`,
  'crlf-unparsable.trace': `${GOOD}hello\r\n`,
  'high.trace': `${GOOD} L 1000000000000,8\n`,
  'none.trace': `${GOOD} L 00002000,0\n`,
  'large.trace': `${GOOD} M 00002000,4097\n`,
  'half.trace': `${GOOD} L 0000`,
  'empty.trace': '',
  'comments.trace': '==1== lackey\n\n==1== end\n',
  'broken.trace': GOOD,
  'broken.trace.json': '{ "schema": 1',
  'old.trace': GOOD,
  'old.trace.json': '{ "schema": 0, "offload": [] }',
  'inverted.trace': GOOD,
  'inverted.trace.json': '{ "schema": 1, "offload": [{ "symbol": "f", "range": "0x20-0x10" }] }',
  'no-default.mjs': 'export const gpu = 1;\n',
  'other-default.mjs': 'export default () => ({ name: "gpu" });\n',
  'syntax.mjs': 'export default {\n',
  'gpu.mjs': `export default Object.assign(() => ({ name: 'gpu', attach: () => ({}) }), { driverFactory: true });\n`,
  'throws.mjs': 'throw new Error("no\\nluck");\n',
};

/** What is typed, the exit code, and the sentence. */
const CASES: readonly (readonly [words: string, code: 1 | 2, sentence: string])[] = [
  // The command line.
  ['replay', 2, 'replay needs a trace: farfault replay <trace>, or - for standard input'],
  ['repaly good.trace', 2, 'unknown command repaly: did you mean replay?'],
  ['frobnicate', 2, 'unknown command frobnicate: farfault --help lists what there is'],
  ['--verison', 2, 'unknown option --verison: did you mean --version?'],
  ['replay good.trace other.trace', 2, 'replay takes one trace, and was given other.trace as well'],
  ['examples good.trace', 2, 'examples takes no trace: farfault replay good.trace'],
  ['replay good.trace --vrma 64MiB', 2, 'unknown option --vrma: did you mean --vram?'],
  ['replay good.trace -x', 2, 'unknown option -x: farfault replay --help lists what there is'],
  ['replay good.trace --no-vram', 2, 'unknown option --no-vram: did you mean --vram?'],
  ['replay good.trace --vram', 2, '--vram needs a value: --vram 64MiB'],
  ['replay good.trace --vram -4K', 2, '--vram -4K is not a size, such as 64MiB'],
  ['replay good.trace --seed -1', 2, '--seed -1 is not a whole number from 0 to 4294967295'],
  ['replay good.trace --oversubscribe -2x', 2, '--oversubscribe -2x is not a factor, such as 2x, or a range of them, such as 1..16x'],
  ['replay good.trace --vram --lanes 4', 2, '--vram needs a value: --vram 64MiB'],
  ['replay good.trace --lanes 4 --lanes=5', 2, '--lanes is given twice'],
  [
    'replay good.trace --device nouveau --device nouveau',
    2,
    'two devices are called nouveau: name them, --device nouveau0=nouveau --device nouveau1=nouveau',
  ],
  [
    'replay good.trace --device ./gpu.mjs --device ./folder/../gpu.mjs',
    2,
    'two devices are called gpu: name them, --device gpu0=./gpu.mjs --device gpu1=./folder/../gpu.mjs',
  ],
  [
    'replay good.trace --device gpu=nouveau --device mirror --device gpu=npu',
    2,
    'two devices are called gpu: name them, --device gpu0=nouveau --device gpu1=npu',
  ],
  [
    'replay good.trace --device =nouveau',
    2,
    '--device =nouveau names the device nothing: a name is 1 to 32 lower-case letters, digits or -, a letter first',
  ],
  [
    'replay good.trace --device nouveau --device nic=mirror --offload nouveau:0x1000-0x1100 nic:0x1080-0x1200',
    2,
    'offload range 0x1080-0x1200 of nic overlaps 0x1000-0x1100 of nouveau: an instruction belongs to one device',
  ],
  [
    'replay good.trace --device a=nouveau --device b=nouveau --offload a:10-80 a:20-30 b:40-50',
    2,
    'offload range 0x40-0x50 of b overlaps 0x10-0x80 of a: an instruction belongs to one device',
  ],
  [
    'replay good.trace --device nouveau --device Big=mirror',
    2,
    '--device Big=: Big is not 1 to 32 lower-case letters, digits or -, a letter first',
  ],
  [
    'replay good.trace --device nouveau --device nic=mirror --offload 0x1000-0x1100',
    2,
    'which accesses are those of nic? Say --offload nic:0x401200-0x401300, or another range of instructions',
  ],
  [
    'replay good.trace --device nouveau --device nic=mirror --offload npu:0x1000-0x1100',
    2,
    '--offload npu:0x1000-0x1100: no device is called npu; there is nouveau, nic',
  ],
  ['replay good.trace --vram 64MB', 2, '--vram 64MB has an unknown unit MB: use KiB, MiB, GiB or TiB (or K, M, G, T), or plain bytes'],
  [
    'replay good.trace --dram 1parsec',
    2,
    '--dram 1parsec has an unknown unit parsec: use KiB, MiB, GiB or TiB (or K, M, G, T), or plain bytes',
  ],
  ['replay good.trace --dram much', 2, '--dram much is not a size, such as 64MiB'],
  ['replay good.trace --vram 0', 2, '--vram 0 is not a multiple of a page of 4 KiB, above 0'],
  ['replay good.trace --vram 1000', 2, '--vram 1000 is not a multiple of a page of 4 KiB, above 0'],
  ['replay good.trace --vram 4GiB', 2, '--vram 4GiB does not fit one machine, which has less than 4 GiB'],
  ['replay good.trace --vram 9999999GiB', 2, '--vram 9999999GiB does not fit one machine, which has less than 4 GiB'],
  [
    'replay good.trace --vram 3GiB',
    2,
    "1 GiB of host memory and 3 GiB of nouveau's do not fit one machine, which has less than 4 GiB: lower --dram or --vram",
  ],
  [
    'replay good.trace --dram 3.9375GiB',
    2,
    "4032 MiB of host memory and 64 MiB of nouveau's do not fit one machine, which has less than 4 GiB: lower --dram or --vram",
  ],
  ['replay good.trace --granule 12K', 2, '--granule 12K is not a power of two from 4K to 2M'],
  ['replay good.trace --granule 4M', 2, '--granule 4M is not a power of two from 4K to 2M'],
  ['replay good.trace --granule 2K', 2, '--granule 2K is not a multiple of a page of 4 KiB, above 0'],
  ['replay good.trace --link copies', 2, '--link copies links devices with each other: there is one only'],
  ['replay good.trace --link wire', 2, '--link wire is not one of: copies, coherent'],
  ['replay good.trace --policy oldest', 2, '--policy oldest is not one of: fifo, lru, clock, lfu, random'],
  ['replay good.trace --policy lru --device mirror', 2, '--policy means nothing to mirror, which has no memory of its own'],
  ['replay good.trace --page 2M', 2, '--page 2M is for a machine without bytes: say --metadata as well'],
  ['replay good.trace --page 64K --metadata', 2, '--page 64K is not 4K or 2M'],
  ['replay good.trace --page 2M --metadata --dram 3MiB', 2, '--dram 3MiB is not a multiple of a page of 2 MiB, above 0'],
  ['replay good.trace --page 2M --metadata --granule 64K', 2, '--granule does not go with --page 2M: a fault moves one page'],
  [
    'replay good.trace --page 2M --metadata --timeline x',
    2,
    '--timeline does not go with --page 2M: a timeline has the copies of pages of 4 KiB',
  ],
  [
    'replay good.trace --metadata --dram 1TiB',
    2,
    "1 TiB of host memory and 64 MiB of nouveau's do not fit one machine, whose records and page tables are below 4 GiB: lower --dram or --vram",
  ],
  ['replay good.trace --metadata --dram 999TiB', 2, '--dram 999TiB is more than there are addresses for, 256 TiB'],
  ['replay good.trace --swap 1', 2, '--swap 1 is not a multiple of a page of 4 KiB, above 0'],
  ['replay good.trace --oversubscribe 2', 2, '--oversubscribe 2 is not a factor, such as 2x, or a range of them, such as 1..16x'],
  ['replay good.trace --oversubscribe much', 2, '--oversubscribe much is not a factor, such as 2x, or a range of them, such as 1..16x'],
  ['replay good.trace --oversubscribe 0.5x', 2, '--oversubscribe 0.5x is not between 1x and 1024x'],
  ['replay good.trace --oversubscribe 1..2000x', 2, '--oversubscribe 1..2000x is not between 1x and 1024x'],
  ['replay good.trace --oversubscribe 4..2x', 2, '--oversubscribe 4..2x does not go up'],
  [
    'replay good.trace --oversubscribe 2x --vram 1MiB',
    2,
    '--vram and --oversubscribe both say how much memory the device has: give one of them',
  ],
  ['replay - --oversubscribe 2x', 2, '--oversubscribe reads the trace twice, which standard input cannot be'],
  [
    'replay good.trace --oversubscribe 1..4x --timeline t.json',
    2,
    '--timeline draws one replay: give --oversubscribe one factor, such as 2x',
  ],
  ['replay good.trace --oversubscribe 2x --device mirror', 2, '--oversubscribe means nothing to mirror, which has no memory of its own'],
  [
    'replay good.trace --oversubscribe 2x',
    2,
    '--oversubscribe 2x leaves nouveau 4 KiB: --device nouveau: nouveau.vram of "4 KiB" holds fewer than 4 chunks of 4 KiB (a chunk is at least the granule)',
  ],
  ['replay good.trace --lanes 0', 2, '--lanes 0 is not a whole number from 1 to 4096'],
  ['replay good.trace --lanes 1e3', 2, '--lanes 1e3 is not a whole number from 1 to 4096'],
  ['replay good.trace --seed 4294967296', 2, '--seed 4294967296 is not a whole number from 0 to 4294967295'],
  ['replay good.trace --preset fast', 2, 'unknown preset fast: there are uvmsmart-1080ti, nvprof-1080ti, gh200-c2c'],
  ['replay good.trace --preset toString', 2, 'unknown preset toString: there are uvmsmart-1080ti, nvprof-1080ti, gh200-c2c'],
  ['replay good.trace --offload 0x20-0x10', 2, '--offload "0x20-0x10" is inverted: it ends before it starts'],
  ['replay good.trace --offload 0x20-0x20', 2, '--offload "0x20-0x20" is empty: its end is not included'],
  ['replay good.trace --offload 0x10-0x20 0x5-0x4', 2, '--offload "0x5-0x4" is inverted: it ends before it starts'],
  ['replay good.trace --offload sweep', 2, '--offload "sweep" is not of the form 0x401200-0x401300 (hexadecimal, the end not included)'],
  ['replay good.trace --json=good.trace', 2, '--json good.trace would overwrite the trace'],
  // Devices.
  [
    'replay good.trace --device voodoo',
    2,
    'unknown device voodoo: farfault replay --help lists what there is (nouveau, mirror, npu, or a path such as ./my-device.js)',
  ],
  [
    'replay good.trace --device novueau',
    2,
    'unknown device novueau: did you mean nouveau? (nouveau, mirror, npu, or a path such as ./my-device.js)',
  ],
  ['replay good.trace --device mirror --vram 1MiB', 2, '--vram means nothing to mirror, which has no memory of its own'],
  ['replay good.trace --device ./missing.js', 2, '--device ./missing.js does not exist'],
  ['replay good.trace --device ./folder', 2, '--device ./folder is a directory: name the module in it'],
  [
    'replay good.trace --device ./no-default.mjs',
    2,
    '--device ./no-default.mjs has no default export: a driver module exports defineDriver(...) by default',
  ],
  [
    'replay good.trace --device other-default.mjs',
    2,
    '--device other-default.mjs exports by default something that was not made with defineDriver',
  ],
  ['replay good.trace --device ./syntax.mjs', 2, '--device ./syntax.mjs cannot be loaded: Unexpected end of input'],
  ['replay good.trace --device ./throws.mjs', 2, '--device ./throws.mjs cannot be loaded: no; luck'],
  // The trace.
  ['replay missing.trace', 1, 'missing.trace does not exist'],
  ['replay good.trace/x', 1, 'good.trace/x does not exist: a part of its path is not a directory'],
  ['replay folder', 1, 'folder is a directory, not a trace'],
  ['replay cut.trace.gz', 1, 'cut.trace.gz is gzip that was cut off: its end is missing'],
  ['replay damaged.trace.gz', 1, 'damaged.trace.gz is damaged gzip: its contents do not match their checksum'],
  ['replay behind.trace.gz', 1, 'behind.trace.gz is gzip with something else behind its end'],
  ['replay binary.trace', 1, "binary.trace line 1: these bytes are not text, and so not a trace of Valgrind's lackey"],
  ['replay unparsable.trace', 1, `unparsable.trace line 5: "hello" ${NOT_LACKEY}`],
  ['replay crlf-unparsable.trace', 1, `crlf-unparsable.trace line 4: "hello" ${NOT_LACKEY}`],
  ['replay high.trace', 1, 'high.trace line 4: " L 1000000000000,8" has an address that does not fit 48 bits'],
  ['replay none.trace', 1, 'none.trace line 4: " L 00002000,0" is an access of 0 bytes, or of more than 4096'],
  ['replay large.trace', 1, 'large.trace line 4: " M 00002000,4097" is an access of 0 bytes, or of more than 4096'],
  ['replay half.trace', 1, 'half.trace line 4: " L 0000" is cut off: the trace ends in the middle of a line'],
  ['replay empty.trace', 1, 'empty.trace holds no data access'],
  ['replay comments.trace', 1, 'comments.trace holds no data access'],
  ['replay -', 1, 'standard input holds no data access'],
  ['replay old.trace', 1, 'old.trace.json has schema 0: 1 is expected'],
  ['replay inverted.trace', 1, 'inverted.trace.json has a bad offload[0]: offload range "0x20-0x10" is inverted: it ends before it starts'],
  // Where the numbers go.
  ['replay good.trace --json folder', 1, 'folder is a directory'],
  ['replay good.trace --json nowhere/x.json', 1, 'nowhere/x.json cannot be written: its directory does not exist'],
  ['replay good.trace --json good.trace/x.json', 1, 'good.trace/x.json does not exist: a part of its path is not a directory'],
];

function prepared(): string {
  const cwd = folder();
  mkdirSync(join(cwd, 'folder'));
  for (const [name, contents] of Object.entries(FILES)) writeFileSync(join(cwd, name), contents);
  return cwd;
}

test.concurrent.each(CASES)('farfault %s', async (words, code, sentence) => {
  const cwd = prepared();
  const before = readdirSync(cwd);
  expect(await farfault(words.split(' '), { cwd })).toEqual({ code, out: '', err: `farfault: ${sentence}\n` });
  expect(readdirSync(cwd)).toEqual(before);
});

test.concurrent('a sidecar that is not JSON is an error in one line', async () => {
  const { code, out, err } = await farfault(['replay', 'broken.trace'], { cwd: prepared() });
  expect([code, out]).toEqual([1, '']);
  expect(err).toMatch(/^farfault: broken\.trace\.json is not JSON: [^\n]+\n$/);
});

test.concurrent('a VRAM of fewer than four chunks is an error in one line', async () => {
  const { code, out, err } = await farfault(['replay', 'good.trace', '--vram', '4MiB', '--granule', '2M'], { cwd: prepared() });
  expect([code, out]).toEqual([2, '']);
  expect(err).toMatch(/^farfault: --device nouveau: [^\n]*fewer than 4 chunks[^\n]*\n$/);
});

test.concurrent('a program that needs more than the host has is an error in one line', async () => {
  const pages = Array.from({ length: 100 }, (_, i) => ` S ${((i + 16) * 4096).toString(16)},8\n`).join('');
  const { code, out, err } = await farfault(['replay', '-', '--dram', '64K', '--offload', '1-2'], {
    cwd: prepared(),
    input: `I  1000,4\n${pages}`,
  });
  expect([code, out]).toEqual([1, '']);
  expect(err).toBe('farfault: host memory is exhausted: the program needs more than 64 KiB at one time (--dram)\n');
});

test.concurrent('a trace that turns bad leaves the old JSON file as it was', async () => {
  const cwd = prepared();
  writeFileSync(join(cwd, 'old.json'), 'precious');
  const before = readdirSync(cwd);
  expect((await farfault(['replay', 'unparsable.trace', '--json', 'old.json'], { cwd })).code).toBe(1);
  expect(readFileSync(join(cwd, 'old.json'), 'utf8')).toBe('precious');
  expect(readdirSync(cwd)).toEqual(before);
});

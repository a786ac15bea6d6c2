import { describe, expect, test } from 'vitest';
import * as L from '../../assembly/layout.ts';
import type { Core } from '../../sdk/core/abi.ts';
import { loadCoreSync } from '../../sdk/core/load.ts';
import { isFarfaultError } from '../../sdk/errors.ts';
import type { ByteSource } from '../../sdk/replay/gzip.ts';
import type { OffloadRange } from '../../sdk/replay/offload.ts';
import { TraceReader } from '../../sdk/replay/trace.ts';

const bytesOf = (text: string): Uint8Array => Uint8Array.from(text, (letter) => letter.charCodeAt(0));

/** The stream classes that both hosts have; the type libraries of the two differ. */
interface Gzip {
  new (format: 'gzip'): { readable: never; writable: { getWriter(): { write(bytes: Uint8Array): Promise<void>; close(): Promise<void> } } };
}

async function gzip(text: string): Promise<Uint8Array> {
  const stream = new (globalThis as unknown as { CompressionStream: Gzip }).CompressionStream('gzip');
  const writer = stream.writable.getWriter();
  void writer.write(bytesOf(text));
  void writer.close();
  return new Uint8Array(
    await new (globalThis as unknown as { Response: new (body: never) => { arrayBuffer(): Promise<ArrayBuffer> } }).Response(
      stream.readable,
    ).arrayBuffer(),
  );
}

function* cut(bytes: Uint8Array, length: number): Generator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += length) yield bytes.slice(at, at + length);
}

const newCore = (): Core =>
  loadCoreSync({
    backedBytes: 0,
    bodiless: false,
    pageBytes: 4096,
    frames: 1,
    tablePages: 1,
    tables: 1,
    tlbs: 1,
    chains: 1,
    tiered: false,
  });

interface Read {
  reader: TraceReader;
  /** First and one past the last access of each batch, counted over the trace. */
  batches: [number, number][];
  addresses: number[];
  /** Length of each run of the device, as a replay would submit it. */
  jobs: number[];
}

async function read(source: ByteSource, offload: readonly OffloadRange[] = [], core: Core = newCore()): Promise<Read> {
  const reader = new TraceReader(core, { name: 'x.trace', offload });
  const result: Read = { reader, batches: [], addresses: [], jobs: [] };
  for await (const batch of reader.batches(source)) {
    result.batches.push([result.addresses.length, result.addresses.length + batch.count]);
    let job = 0;
    for (let i = 0; i < batch.count; i++) {
      const at = (batch.address >>> 2) + 2 * i;
      const high = core.u32[at + 1]!;
      result.addresses.push((high & L.ACCESS_ADDRESS_HIGH) * 2 ** 32 + core.u32[at]!);
      if (high & L.ACCESS_DEVICE) job++;
      if (job > 0 && (!(high & L.ACCESS_DEVICE) || i === batch.count - 1)) {
        result.jobs.push(job);
        job = 0;
      }
    }
    // What runs between two batches may use every other area.
    for (const area of [L.AREA_BYTES, L.AREA_LIST]) core.u8.fill(0xee, core.area(area), core.area(area) + 65536);
  }
  return result;
}

async function refusal(source: ByteSource, offload: readonly OffloadRange[] = []): Promise<string> {
  try {
    await read(source, offload);
  } catch (error) {
    if (isFarfaultError(error)) return `${error.code}: ${error.message}`;
    throw error;
  }
  return 'no error';
}

/** `n` accesses at ascending addresses, by instructions of the device's range or not. */
const CPU = 'I  00002000,4\n';
const DEVICE = 'I  00001000,4\n';
const OFFLOAD = [{ start: 0x1000, end: 0x1100 }];
const loads = (n: number, from = 0): string => Array.from({ length: n }, (_, i) => ` L ${((from + i) * 8).toString(16)},8\n`).join('');

describe('a trace', () => {
  test.each([1, 2, 3, 1000, 10 ** 7])('is the same in chunks of %d bytes, plain or gzip', async (length) => {
    const text = `==1== lackey\n${CPU}${loads(20)}${DEVICE}${loads(300, 20)}${CPU}${loads(7, 320)}`.trimEnd();
    for (const bytes of [bytesOf(text), await gzip(text)]) {
      const { reader, addresses, jobs } = await read(cut(bytes, length), OFFLOAD);
      expect(addresses).toEqual(Array.from({ length: 327 }, (_, i) => i * 8));
      expect(jobs).toEqual([300]);
      expect([reader.lines, reader.instructions, reader.bytesRead]).toEqual([331, 3, bytes.length]);
    }
  });

  test('whose runs of the device are longer than a job is cut at the length of a job, wherever a batch ends', async () => {
    const max = L.JOB_ACCESSES_MAX;
    // An M line at the very cut: its read ends one job, its write begins the next.
    const text = `${CPU}${loads(5)}${DEVICE}${loads(max - 1, 5)} M ${((max + 4) * 8).toString(16)},8\n${loads(max, max + 5)}${CPU}${loads(9)}${DEVICE}${loads(3)}`;
    for (const length of [4096, 65537, 10 ** 8]) {
      const { addresses, jobs, batches } = await read(cut(bytesOf(text), length), OFFLOAD);
      expect(jobs).toEqual([max, max, 1, 3]);
      expect(addresses.length).toBe(5 + 2 * max + 1 + 9 + 3);
      expect(addresses.slice(max + 3, max + 7)).toEqual([(max + 3) * 8, (max + 4) * 8, (max + 4) * 8, (max + 5) * 8]);
      expect(batches[0]).toEqual([0, 5]);
    }
  });

  test('with a run of the device behind those of the CPU in a full area keeps it whole', async () => {
    const max = L.JOB_ACCESSES_MAX;
    const { jobs, batches } = await read([bytesOf(`${CPU}${loads(max - 10)}${DEVICE}${loads(30)}${CPU}${loads(1)}`)], OFFLOAD);
    expect(jobs).toEqual([30]);
    expect(batches).toEqual([
      [0, max - 10],
      [max - 10, max + 21],
    ]);
  });

  test('without ranges is all the device', async () => {
    expect((await read([bytesOf(`${loads(3)}${CPU}${loads(4)}`)])).jobs).toEqual([7]);
  });

  test('is read again from the start by the same core', async () => {
    const core = newCore();
    expect(await refusal([bytesOf(`${DEVICE} M 10,`)], OFFLOAD)).toContain('line 2');
    for (let i = 0; i < 2; i++) expect((await read([bytesOf(` L 10,4\n${DEVICE} L 20,4\n`)], OFFLOAD, core)).jobs).toEqual([1]);
  });

  test.each([
    [
      'an unknown line',
      `${CPU}hello\n`,
      'EILSEQ: x.trace line 2: "hello" is not a line of Valgrind\'s lackey, such as "I  00401200,3" or " L 1fff0008,8"',
    ],
    ['an address of 2^48', ' S 1000000000000,8\n', 'EILSEQ: x.trace line 1: " S 1000000000000,8" has an address that does not fit 48 bits'],
    ['an access of 0 bytes', `${loads(2)} L 10,0`, 'EILSEQ: x.trace line 3: " L 10,0" is an access of 0 bytes, or of more than 4096'],
    ['an access of 4097 bytes', ' L 10,4097', 'EILSEQ: x.trace line 1: " L 10,4097" is an access of 0 bytes, or of more than 4096'],
    ['a line that is cut off', ' L 10,4\n L 1f', 'EILSEQ: x.trace line 2: " L 1f" is cut off: the trace ends in the middle of a line'],
    [
      'a binary file',
      '\x7fELF\x02\x01\0\0\n\0',
      "EILSEQ: x.trace line 1: these bytes are not text, and so not a trace of Valgrind's lackey",
    ],
    ['no line end', 'x'.repeat(10 ** 6), "EILSEQ: x.trace line 1 is longer than 65536 bytes, and so not one of Valgrind's lackey"],
    [
      'a long line',
      `${'y'.repeat(100)}\n`,
      `EILSEQ: x.trace line 1: "${'y'.repeat(60)}..." is not a line of Valgrind's lackey, such as "I  00401200,3" or " L 1fff0008,8"`,
    ],
    ['nothing', '', 'EILSEQ: x.trace holds no data access'],
    ['only instructions', CPU.repeat(3), 'EILSEQ: x.trace holds no data access'],
  ])('with %s is refused', async (_, text, message) => {
    for (const length of [5, 10 ** 6]) expect(await refusal(cut(bytesOf(text), length))).toBe(message);
  });

  test('in gzip that is cut off, damaged or followed by something is refused', async () => {
    const whole = await gzip(CPU + loads(5000));
    expect(await refusal(cut(whole.subarray(0, whole.length - 50), 1000))).toBe(
      'EILSEQ: x.trace is gzip that was cut off: its end is missing',
    );
    expect(await refusal([whole.subarray(0, 5)])).toBe('EILSEQ: x.trace is gzip that was cut off: its end is missing');
    expect(await refusal([Uint8Array.of(...whole, ...bytesOf('hello hello'))])).toBe(
      'EILSEQ: x.trace is gzip with something else behind its end',
    );
    const damaged = whole.slice();
    damaged[whole.length - 6]! ^= 1;
    expect(await refusal(cut(damaged, 1000))).toBe('EILSEQ: x.trace is damaged gzip: its contents do not match their checksum');
  });

  test('passes on the error of its source, and closes the source when nobody reads on', async () => {
    let closed = 0;
    const source = async function* (text: Uint8Array, end: 'throws' | 'goes on'): AsyncGenerator<Uint8Array> {
      try {
        yield text;
        await Promise.resolve();
        if (end === 'throws') throw new Error('the disk is gone');
        while (true) yield text;
      } finally {
        closed++;
      }
    };
    const compressed = await gzip(loads(1000));
    for (const bytes of [bytesOf(loads(1000)), compressed.subarray(0, 500)])
      await expect(read(source(bytes, 'throws'))).rejects.toThrow('the disk is gone');
    expect(closed).toBe(2);
    const reader = new TraceReader(newCore(), { name: 'x', offload: [] });
    for await (const batch of reader.batches(source(bytesOf(loads(1000)), 'goes on'))) {
      expect(batch.count).toBe(L.JOB_ACCESSES_MAX);
      break;
    }
    expect(closed).toBe(3);
  });
});

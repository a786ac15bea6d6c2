/** Reading lackey's text: the core's parser beside loops in TypeScript. */
import { createMachineSync, type Machine, MiB } from 'farfault';
import * as L from '../assembly/layout.ts';
import type { Contender, Row } from './row.ts';
import { parseBytes, parseLines, type Range } from './peers/lackey-text.ts';
import { type Workload, workload, WORKLOADS } from './workload.ts';

export interface Size {
  /** Bytes of each recording's text, from its start. */
  readonly textBytes: number;
}

const FULL: Size = { textBytes: 16 * MiB };

export function rows({ textBytes }: Size = FULL): Row[] {
  return WORKLOADS.map((name, i) => {
    // The peers parse the same text, in processes of their own.
    const text = (): Workload => workload(name, textBytes);
    return {
      name: i === 0 ? 'replay.lackey.parse' : `replay.lackey.parse.${name}`,
      unit: 'MB/s',
      items: text().text.length,
      ours: () => inCore(createMachineSync({ dram: MiB, deviceMemory: 0 }).platform.core, text()),
      peers: [
        { name: 'loop over bytes', contender: () => inTypeScript(text(), parseBytes) },
        ...(i === 0 ? [{ name: 'regular expression', contender: () => inTypeScript(text(), parseLines) }] : []),
      ],
      ...(i === 0 ? { goal: { least: 150 } } : {}),
    };
  });
}

/** In chunks, as the replay's reader does it. */
function inCore(core: Machine['platform']['core'], { text, offload }: Workload): Contender {
  const output = new Uint32Array(text.length / 2);
  let count = 0;
  const run = (): void => {
    const input = core.area(L.AREA_BYTES);
    core.u8.fill(0, L.H_LACKEY, L.LACKEY_HALF + 4);
    core.words(L.AREA_LIST, offload.length * 4).set(offload.flatMap(pairs));
    core.setHeader(L.LACKEY_RANGES, offload.length);
    count = 0;
    for (let at = 0; at < text.length; at += core.header(L.LACKEY_CONSUMED)) {
      const length = Math.min(text.length - at, 4 * L.LINE_BYTES_MAX);
      core.u8.set(text.subarray(at, at + length), input);
      const last = at + length === text.length ? 1 : 0;
      const parsed = core.exports.lackeyParse(input, length, core.area(L.AREA_ACCESSES), L.JOB_ACCESSES_MAX, last);
      output.set(core.words(L.AREA_ACCESSES, parsed * 2), count * 2);
      count += parsed;
      if (core.stopReason === L.STOP_LINE) throw new Error(`line ${core.header(L.LACKEY_LINES) + 1} was refused`);
    }
  };
  return { run, checksum: () => hash(output, count) };
}

function pairs({ start, end }: Range): number[] {
  return [start, Math.floor(start / 2 ** 32), end, Math.floor(end / 2 ** 32)];
}

function inTypeScript({ text, offload }: Workload, parse: typeof parseBytes): Contender {
  const output = new Uint32Array(text.length / 2);
  let count = 0;
  return { run: () => void (count = parse(text, offload, output)), checksum: () => hash(output, count) };
}

function hash(words: Uint32Array, count: number): number {
  let value = count;
  for (let i = 0; i < count * 2; i++) value = (Math.imul(value, 31) + words[i]!) | 0;
  return value;
}

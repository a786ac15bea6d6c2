/** `farfault replay`: a recorded program through a machine with a device, and what happened. */
import { createReadStream, readFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { basename, resolve } from 'node:path';
import { isFarfaultError } from 'farfault';
import { type Driver, VICTIM_POLICIES, type VictimPolicyName } from 'farfault/gmem';
import {
  formatReports,
  measureTrace,
  type OffloadRange,
  parseRange,
  parseSidecar,
  type Preset,
  PRESET_DEFAULT,
  presets,
  printRange,
  REPLAY_LINKS,
  type ReplayLink,
  type ReplayReport,
  replayTrace,
  type WorkingSet,
} from 'farfault/replay';
import { type Arguments, type OptionDescription, parseArguments } from './arguments.ts';
import { makeDriver, REPLAYED_DRIVERS } from './device.ts';
import { DataError, fileError, oneLine, UsageError } from './fail.ts';
import { openTarget, print, type Target } from './output.ts';
import { showProgress } from './progress.ts';
import { parseBytes, parseCount, parseFactors, parseGranule, parsePage, printBytes } from './quantity.ts';

const LANES_MAX = 4096;
const SEED_MAX = 2 ** 32 - 1;
const DEVICES_MAX = 4;
const SMALL_PAGE_BYTES = 4096;

const DEFAULTS = { device: 'nouveau', dram: '1GiB', lanes: '32', page: '4K', preset: PRESET_DEFAULT, seed: '0' } as const;

/** Options that every replay has, of a trace of one's own or of the examples. */
export const MACHINE_OPTIONS: readonly OptionDescription[] = [
  {
    name: 'device',
    takes: 'many',
    value: `[name=]${REPLAYED_DRIVERS.join('|')}|./module.js`,
    help: [
      'The device. A module exports a driver made with defineDriver by default;',
      'it is called with { vram, granule } in bytes, each only where it is given here.',
      `Default: ${DEFAULTS.device}. Given again, another one beside it, up to ${DEVICES_MAX}: name= tells two of`,
      'a kind apart.',
    ],
  },
  { name: 'vram', takes: 'one', value: '64MiB', help: ['Memory of the device. Default: what its driver says, 64MiB for nouveau and npu.'] },
  {
    name: 'dram',
    takes: 'one',
    value: DEFAULTS.dram,
    help: [`Memory of the host. Default: ${DEFAULTS.dram}. Both together are below 4GiB, but with --metadata.`],
  },
  {
    name: 'lanes',
    takes: 'one',
    value: DEFAULTS.lanes,
    help: [`Lanes that the device runs a job on, 1 to ${LANES_MAX}. Default: ${DEFAULTS.lanes}.`],
  },
  {
    name: 'granule',
    takes: 'one',
    value: '64K',
    help: [
      'How much one device fault moves or maps, a power of two from 4K to 2M. Default: what the driver',
      `of a module says; 4K for ${REPLAYED_DRIVERS.join(', ')}.`,
    ],
  },
  {
    name: 'preset',
    takes: 'one',
    value: 'name',
    help: ['Costs behind the modelled time:', ...Object.keys(presets).map((name) => `  ${name}`), `Default: ${DEFAULTS.preset}.`],
  },
  {
    name: 'link',
    takes: 'one',
    value: REPLAY_LINKS.join('|'),
    help: [
      'Link two devices or more, each with each: pages go directly from one to another (copies),',
      "or may also be used in the other one's memory (coherent). Default: by way of the host.",
    ],
  },
  {
    name: 'swap',
    takes: 'one',
    value: '64MiB',
    help: ['A second tier behind the host: pages that host memory has no room for go there. Default: none.'],
  },
  {
    name: 'policy',
    takes: 'one',
    value: VICTIM_POLICIES.join('|'),
    help: [
      "What chooses the pages that go when the device's memory is full. Default: the device does,",
      'nouveau by chunks. A module that hands out its memory itself leaves no choice.',
    ],
  },
  {
    name: 'metadata',
    takes: 'none',
    help: ['A machine without bytes: it counts the same, checks no load, and may have hundreds of GiB.'],
  },
  {
    name: 'page',
    takes: 'one',
    value: '4K|2M',
    help: [`Bytes of a page, with --metadata. Default: ${DEFAULTS.page}. With 2M, memories may have many TiB.`],
  },
  {
    name: 'duplicate',
    takes: 'none',
    help: ['A device that reads a page gets a copy of it, until somebody writes. Default: the page moves.'],
  },
  { name: 'seed', takes: 'one', value: DEFAULTS.seed, help: [`Seed of the written values, 0 to 2^32 - 1. Default: ${DEFAULTS.seed}.`] },
];

/** Options of `farfault replay`. */
export const REPLAY_OPTIONS: readonly OptionDescription[] = [
  {
    name: 'offload',
    takes: 'many',
    value: '[device:]0x401200-0x401300 ...',
    further: /^(?:[a-z][a-z0-9-]*:)?(?:0x)?[0-9a-f]+-(?:0x)?[0-9a-f]+$/i,
    help: [
      "Instructions whose data accesses are the device's: addresses in hex, the",
      'end not included. Default: what <trace>.json says; without either, every',
      "access is the device's. Of several devices, each has its own: those that",
      'name none are dealt to the devices in turn. A range that no instruction of',
      'the trace is in is told on standard error.',
    ],
  },
  ...MACHINE_OPTIONS,
  {
    name: 'oversubscribe',
    takes: 'one',
    value: '2x|1..16x',
    help: [
      'Give the device so much less memory than what it touches, instead of --vram: the trace is read',
      'once more before. A range replays the first factor, its doubles and the last one, side by side.',
    ],
  },
  {
    name: 'json',
    takes: 'optional',
    value: '[file]',
    help: ['Write the numbers as JSON to a file, beside the table; without a file to', 'standard output, instead of the table.'],
  },
  {
    name: 'timeline',
    takes: 'one',
    value: 'file.json',
    help: [
      'Write what happens, in modelled time, to a file that ui.perfetto.dev opens: lanes,',
      'fault batches, CPU faults, copies, invalidations, frames in use. A file that is',
      'there already is replaced, as by --json.',
    ],
  },
];

/** Runs the command with the words that follow its name. */
export async function replay(words: readonly string[]): Promise<void> {
  const parsed = parseArguments(words, REPLAY_OPTIONS, 'farfault replay');
  const [trace, ...more] = parsed.positionals;
  if (trace === undefined) throw new UsageError('replay needs a trace: farfault replay <trace>, or - for standard input');
  if (more.length > 0) throw new UsageError(`replay takes one trace, and was given ${more.join(', ')} as well`);
  const factors = parsed.options.get('oversubscribe')?.[0];
  const times = factors === undefined ? undefined : requireFactors(factors, trace, parsed);
  const setup = await setUp(parsed);
  const offload = (parsed.options.get('offload') ?? []).map((word) => offloadRange(word, setup.drivers));

  const json = parsed.options.get('json');
  const source = await openTrace(trace);
  try {
    // Read again for each replay: what has been opened is closed with the first.
    const again = (): Promise<OpenTrace> => openTrace(trace);
    const ranges = dealt(offload.length > 0 || trace === '-' ? offload : readSidecar(`${trace}.json`), setup.drivers);
    const line = parsed.options.get('timeline')?.[0];
    for (const [option, file] of [['json', json?.[0]] as const, ['timeline', line] as const])
      if (file !== undefined && resolve(file) === resolve(trace)) throw new UsageError(`--${option} ${file} would overwrite the trace`);
    if (line !== undefined && json?.[0] !== undefined && resolve(line) === resolve(json[0]))
      throw new UsageError(`--timeline ${line} is the file of --json`);
    const target = json?.[0] === undefined ? undefined : openTarget(json[0]);
    let drawn: Target | undefined;
    try {
      drawn = line === undefined ? undefined : openTarget(line);
      const timeline = drawn && { timeline: (text: string) => drawn!.write(text) };
      const reports = times
        ? await runOversubscribed(source, again, parsed, { times, ranges, setup, ...timeline })
        : [await runReplay(source, { ...setup, offload: ranges, ...timeline })];
      const text = JSON.stringify(reports.length === 1 ? reports[0] : reports, undefined, 2);
      drawn?.commit('');
      target?.commit(`${text}\n`);
      await print(json && !target ? text : formatReports(reports));
      warn(reports[0]!);
    } finally {
      drawn?.abandon();
      target?.abandon();
    }
  } finally {
    source.close();
  }
}

/** Says on standard error which ranges offload nothing. */
function warn({ trace, detail: { unmet = [] } }: ReplayReport): void {
  for (const range of unmet) {
    const look = 'compare its I lines (a position-independent program runs at other addresses than its symbols say: link with -no-pie)';
    process.stderr.write(`farfault: warning: no instruction of ${trace} is in the offload range ${range}: ${look}\n`);
  }
}

/** The factors of `--oversubscribe`. Throws UsageError for one that is none, or that something else forbids. */
function requireFactors(factors: string, trace: string, { options }: Arguments): readonly number[] {
  const times = parseFactors('--oversubscribe', factors);
  if (options.has('vram')) throw new UsageError('--vram and --oversubscribe both say how much memory the device has: give one of them');
  if (trace === '-') throw new UsageError('--oversubscribe reads the trace twice, which standard input cannot be');
  if (times.length > 1 && options.has('timeline'))
    throw new UsageError('--timeline draws one replay: give --oversubscribe one factor, such as 2x');
  return times;
}

/** What `runOversubscribed` is told beside the trace. */
interface Oversubscribed {
  readonly times: readonly number[];
  readonly ranges: readonly (readonly OffloadRange[])[];
  readonly setup: Setup;
  readonly timeline?: (text: string) => void;
}

/** Measures a trace, and replays it once for each factor, with as much less memory. Throws UsageError when a device cannot do with so little, or has none at all. */
async function runOversubscribed(
  source: OpenTrace,
  again: () => Promise<OpenTrace>,
  parsed: Arguments,
  { times, ranges, setup, timeline }: Oversubscribed,
): Promise<ReplayReport[]> {
  const granules = setup.drivers.map(({ granuleBytes = SMALL_PAGE_BYTES }) => granuleBytes);
  const isWithout = ({ memory = [] }: Driver): boolean => memory.length === 0;
  if (setup.drivers.every(isWithout))
    throw new UsageError(`--oversubscribe means nothing to ${setup.drivers[0]!.name}, which has no memory of its own`);
  const workingSet = await measure(source, ranges, granules);
  const reports: ReplayReport[] = [];
  for (const factor of times) {
    // Whole granules: less would leave a part of one unused.
    const vram = workingSet.devices.map((bytes, i) =>
      isWithout(setup.drivers[i]!) ? undefined : Math.max(1, Math.ceil(bytes / factor / granules[i]!)) * granules[i]!,
    );
    const trace = await again();
    try {
      // A driver serves one machine: it keeps the state of its memory.
      const own = await setUp(parsed, vram);
      reports.push(await runReplay(trace, { ...own, offload: ranges, workingSet, ...(timeline && { timeline }) }));
    } catch (error) {
      if (!(error instanceof UsageError)) throw error;
      const left = vram.flatMap((bytes, i) => (bytes === undefined ? [] : [`${setup.drivers[i]!.name} ${printBytes(bytes)}`]));
      throw new UsageError(`--oversubscribe ${factor}x leaves ${left.join(' and ')}: ${error.message}`, { cause: error });
    } finally {
      trace.close();
    }
  }
  return reports;
}

async function measure(trace: OpenTrace, ranges: readonly (readonly OffloadRange[])[], granule: readonly number[]): Promise<WorkingSet> {
  const progress = showProgress(`${trace.name}, measured`, trace.totalBytes);
  try {
    const onProgress = (bytes: number): void => progress.update(bytes);
    return await measureTrace(trace.bytes, { name: trace.name, offload: ranges[0]!, further: ranges.slice(1), granule, onProgress });
  } catch (error) {
    throw fileError(error, trace.name);
  } finally {
    progress.stop();
  }
}

/** A machine and a device, as the options say. */
export interface Setup {
  readonly drivers: readonly Driver[];
  readonly dram: number;
  readonly lanes: number;
  readonly preset: Preset;
  readonly seed: number;
  readonly link?: ReplayLink;
  readonly swap?: number;
  readonly bytesIn?: 'metadata';
  readonly pageBytes?: number;
  readonly victims?: VictimPolicyName;
  readonly duplicate?: boolean;
}

/** What MACHINE_OPTIONS ask for. `vrams`: bytes of each device's memory, instead of `--vram`. Throws UsageError for the first that is wrong. */
export async function setUp({ options }: Arguments, vrams?: readonly (number | undefined)[]): Promise<Setup> {
  const value = (name: keyof typeof DEFAULTS): string => options.get(name)?.[0] ?? DEFAULTS[name];
  const vram = options.get('vram')?.[0];
  const bodiless = options.has('metadata');
  const pageBytes = parsePage('--page', value('page'));
  requirePage(pageBytes, options);
  const measure = { pageBytes, bodiless };
  const dram = parseBytes('--dram', value('dram'), measure);
  const lanes = parseCount('--lanes', value('lanes'), { least: 1, most: LANES_MAX });
  const seed = parseCount('--seed', value('seed'), { least: 0, most: SEED_MAX });
  const granuleText = options.get('granule')?.[0];
  // With large pages a fault moves one of them, whatever the driver's own default.
  const least = pageBytes === SMALL_PAGE_BYTES ? undefined : SMALL_PAGE_BYTES;
  const granule = granuleText === undefined ? least : parseGranule('--granule', granuleText);
  // A driver counts in pages of 4 KiB.
  const vramBytes = vram === undefined ? undefined : parseBytes('--vram', vram, measure) / (pageBytes / SMALL_PAGE_BYTES);
  const name = value('preset');
  const preset = Object.hasOwn(presets, name) ? presets[name] : undefined;
  if (!preset) throw new UsageError(`unknown preset ${name}: there are ${Object.keys(presets).join(', ')}`);
  const link = options.get('link')?.[0];
  const known = REPLAY_LINKS.find((each) => each === link);
  if (link !== undefined && known === undefined) throw new UsageError(`--link ${link} is not one of: ${REPLAY_LINKS.join(', ')}`);
  const swapText = options.get('swap')?.[0];
  const swap = swapText === undefined ? undefined : parseBytes('--swap', swapText, measure);
  const policy = options.get('policy')?.[0];
  const victims = VICTIM_POLICIES.find((each) => each === policy);
  if (policy !== undefined && victims === undefined)
    throw new UsageError(`--policy ${policy} is not one of: ${VICTIM_POLICIES.join(', ')}`);
  const drivers: Driver[] = [];
  const sources: string[] = [];
  for (const [i, device] of (options.get('device') ?? [DEFAULTS.device]).entries()) {
    const [, called, source] = /^(?:([^=./\\]*)=)?(.*)$/s.exec(device)!;
    if (called === '') throw new UsageError(`--device ${device} names the device nothing: a name is ${NAME_RULE}`);
    sources.push(source!);
    const driver = await makeDriver(source!, { vram: vrams ? vrams[i] : vramBytes, granule, policy: victims !== undefined });
    drivers.push(called === undefined ? driver : renamed(driver, called));
  }
  if (drivers.length > DEVICES_MAX) throw new UsageError(`${drivers.length} devices are more than ${DEVICES_MAX}`);
  for (const [i, { name }] of drivers.entries()) {
    const first = drivers.findIndex((each) => each.name === name);
    if (first === i) continue;
    const named = `--device ${name}0=${sources[first]} --device ${name}1=${sources[i]}`;
    throw new UsageError(`two devices are called ${name}: name them, ${named}`);
  }
  if (known !== undefined && drivers.length === 1) throw new UsageError(`--link ${known} links devices with each other: there is one only`);
  if (policy !== undefined) requireChoice(policy, drivers);
  return {
    ...{ drivers, dram, lanes, preset, seed },
    ...(known === undefined ? {} : { link: known }),
    ...(swap === undefined ? {} : { swap }),
    ...(bodiless ? { bytesIn: 'metadata', pageBytes } : {}),
    ...(victims === undefined ? {} : { victims }),
    ...(options.has('duplicate') ? { duplicate: true } : {}),
  };
}

/** Throws UsageError where large pages go with something else that was asked for. */
function requirePage(pageBytes: number, options: Arguments['options']): void {
  if (pageBytes === SMALL_PAGE_BYTES) return;
  const page = `--page ${options.get('page')![0]}`;
  if (!options.has('metadata')) throw new UsageError(`${page} is for a machine without bytes: say --metadata as well`);
  const reasons = {
    granule: 'a fault moves one page',
    oversubscribe: 'what a trace touches is measured in pages of 4 KiB',
    timeline: 'a timeline has the copies of pages of 4 KiB',
  };
  for (const [option, reason] of Object.entries(reasons))
    if (options.has(option)) throw new UsageError(`--${option} does not go with ${page}: ${reason}`);
}

/** Throws UsageError unless there is a memory of which a policy may choose what goes, and none of which it may not. */
function requireChoice(policy: string, drivers: readonly Driver[]): void {
  for (const { name, memory = [] } of drivers)
    if (memory.some(({ allocator = 'core' }) => allocator !== 'core'))
      throw new UsageError(`--policy ${policy} has no say in the memory of ${name}, which hands it out itself`);
  if (drivers.every(({ memory = [] }) => memory.length === 0))
    throw new UsageError(`--policy means nothing to ${drivers[0]!.name}, which has no memory of its own`);
}

const NAME_RULE = '1 to 32 lower-case letters, digits or -, a letter first';

/** The same driver by another name. */
function renamed(driver: Driver, name: string): Driver {
  if (!/^[a-z][a-z0-9-]{0,31}$/.test(name)) throw new UsageError(`--device ${name}=: ${name} is not ${NAME_RULE}`);
  return Object.create(driver, { name: { value: name, enumerable: true } }) as Driver;
}

/** A range, and the device that it names. */
interface NamedRange extends OffloadRange {
  readonly device?: number;
}

function offloadRange(text: string, drivers: readonly Driver[]): NamedRange {
  const [, called, range] = /^(?:(.*):)?([^:]*)$/s.exec(text)!;
  const device = drivers.findIndex(({ name }) => name === called);
  if (called !== undefined && device < 0)
    throw new UsageError(`--offload ${text}: no device is called ${called}; there is ${drivers.map(({ name }) => name).join(', ')}`);
  try {
    return { ...parseRange(range!), ...(called === undefined ? {} : { device }) };
  } catch (error) {
    throw new UsageError(oneLine(error).replace(/^offload range/, '--offload'), { cause: error });
  }
}

/** The ranges of each device: those that name none are dealt in turn. Throws UsageError where one of several has none, or two have the same instruction. */
export function dealt(ranges: readonly NamedRange[], drivers: readonly Driver[]): OffloadRange[][] {
  const own = drivers.map((): OffloadRange[] => []);
  let turn = 0;
  for (const { device, ...range } of ranges) own[device ?? turn++ % drivers.length]!.push(range);
  const without = own.findIndex((each) => each.length === 0);
  if (drivers.length > 1 && without >= 0) {
    const { name } = drivers[without]!;
    throw new UsageError(`which accesses are those of ${name}? Say --offload ${name}:0x401200-0x401300, or another range of instructions`);
  }
  requireApart(
    own.flatMap((each, device) => each.map((range) => ({ ...range, device }))),
    drivers,
  );
  return own;
}

/** Throws UsageError where two devices have the same instruction. */
function requireApart(ranges: readonly Required<Pick<NamedRange, 'start' | 'end' | 'device'>>[], drivers: readonly Driver[]): void {
  const shown = (range: (typeof ranges)[number]): string => `${printRange(range)} of ${drivers[range.device]!.name}`;
  // The one that reaches farthest, of those that begin no later.
  let far: (typeof ranges)[number] | undefined;
  for (const range of [...ranges].sort((a, b) => a.start - b.start)) {
    if (far && far.end > range.start && far.device !== range.device)
      throw new UsageError(`offload range ${shown(range)} overlaps ${shown(far)}: an instruction belongs to one device`);
    if (!far || range.end > far.end) far = range;
  }
}

/** The ranges that stand beside a trace; none when nothing does. A sidecar that cannot be read is an error: without it, everything would be the device's. */
export function readSidecar(path: string): readonly OffloadRange[] {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if ((error as { code?: unknown }).code === 'ENOENT') return [];
    throw fileError(error, path);
  }
  return parseSidecar(text, path).offload;
}

/** A trace that has been opened. */
export interface OpenTrace {
  /** What reports and errors call it. */
  readonly name: string;
  readonly bytes: AsyncIterable<Uint8Array>;
  /** Undefined for a pipe. */
  readonly totalBytes: number | undefined;
  close(): void;
}

/** Opens a trace, `-` being standard input. Throws DataError when there is nothing to read. */
export async function openTrace(path: string): Promise<OpenTrace> {
  if (path === '-')
    return { name: 'standard input', bytes: process.stdin, totalBytes: undefined, close: () => void process.stdin.destroy() };
  try {
    const file = await open(path);
    const stat = await file.stat();
    if (stat.isDirectory()) {
      await file.close();
      throw new DataError(`${path} is a directory, not a trace`);
    }
    const stream = createReadStream(path, { fd: file, highWaterMark: READ_BYTES });
    return { name: basename(path), bytes: stream, totalBytes: stat.isFile() ? stat.size : undefined, close: () => void stream.destroy() };
  } catch (error) {
    throw fileError(error, path);
  }
}

const READ_BYTES = 256 * 1024;

/** Replays one trace, with a bar where somebody sees it. Throws UsageError when the machine does not fit. */
export async function runReplay(
  trace: OpenTrace,
  setup: Setup & {
    readonly offload: readonly (readonly OffloadRange[])[];
    readonly workingSet?: WorkingSet;
    readonly timeline?: (text: string) => void;
  },
): Promise<ReplayReport> {
  const progress = showProgress(trace.name, trace.totalBytes);
  const { drivers, offload, ...machine } = setup;
  try {
    return await replayTrace(trace.bytes, {
      ...machine,
      driver: drivers[0]!,
      offload: offload[0]!,
      further: drivers.slice(1).map((driver, i) => ({ driver, offload: offload[i + 1]! })),
      name: trace.name,
      onProgress: (bytes) => progress.update(bytes),
      now: () => performance.now(),
    });
  } catch (error) {
    if (isFarfaultError(error) && error.code === 'EOVERFLOW') {
      const unit = (setup.pageBytes ?? SMALL_PAGE_BYTES) / SMALL_PAGE_BYTES;
      const device = drivers.flatMap(({ memory = [] }) => memory).reduce((bytes, memory) => bytes + memory.bytes * unit, 0);
      const names = drivers.map(({ name }) => name).join(' and ');
      const host = `${printBytes(setup.dram)} of host memory${setup.swap === undefined ? '' : `, ${printBytes(setup.swap)} behind it`}`;
      const options = setup.swap === undefined ? '--dram or --vram' : '--dram, --swap or --vram';
      const sum = `${host} and ${printBytes(device)} of ${names}'s`;
      const limit = setup.bytesIn ? 'whose records and page tables are below 4 GiB' : 'which has less than 4 GiB';
      throw new UsageError(`${sum} do not fit one machine, ${limit}: lower ${options}`, { cause: error });
    }
    if (isFarfaultError(error) && error.code === 'EINVAL') throw new UsageError(oneLine(error), { cause: error });
    throw fileError(error, trace.name);
  } finally {
    progress.stop();
  }
}

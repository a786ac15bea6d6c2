/**
 * What a replay found, as data and as the table that a person reads. Pure: no clock, no machine.
 *
 * A report is exactly the object that `farfault replay --json` writes. Everything outside `host` is the same for the same trace and options, on every host.
 */
import { fail } from '../errors.ts';
import { requireArray, requireObject } from '../mm/arguments.ts';
import type { CpuFaultCause, EvictionResult } from '../events/cause.ts';
import type { Traffic } from '../events/counters.ts';

/** Look-ups in one TLB, by page touched. */
export interface TlbCounts {
  readonly hit: number;
  readonly miss: number;
}

/** Modelled time by what it was spent on, in nanoseconds. The parts add up to the whole. */
export interface ModelledParts {
  /** Accesses of CPU and devices. */
  readonly access: number;
  /** TLB misses. */
  readonly walk: number;
  readonly cpuFault: number;
  /** Fault batches and the records in them. */
  readonly batch: number;
  /** Notifier events. */
  readonly invalidation: number;
  /** Copies over the link. */
  readonly toDevice: number;
  readonly toHost: number;
  /** Copies between devices; only where they are linked. */
  readonly peer?: number;
}

/** What the replay was told. */
export interface ReplaySettings {
  readonly device: string;
  /** Of several devices, each one's own settings; `device` is their names, the others are those of the first. */
  readonly devices?: Readonly<Record<string, { readonly granulePages: number; readonly offload: readonly string[] }>>;
  /** Bytes of the host's memory, and of each of the device's by node. */
  readonly dram: number;
  readonly deviceMemory: Readonly<Record<string, number>>;
  readonly granulePages: number;
  readonly lanes: number;
  /** Instruction ranges as `0x401200-0x401300`; none: every access is the device's. */
  readonly offload: readonly string[];
  readonly seed: number;
  /** Without bytes: nothing was checked; absent: every load was. */
  readonly bytesIn?: 'metadata';
  /** Bytes of a page; absent: 4096. */
  readonly pageBytes?: number;
  /** Bytes of the second tier; absent: there is none. */
  readonly swap?: number;
  /** Name of the policy that chooses what goes from the devices' memories; absent: each device chooses. */
  readonly victims?: string;
  /** Devices get copies of what they read; absent: the pages themselves. */
  readonly duplicate?: boolean;
  /** Bytes that each device touches, in whole granules; absent: nobody has measured. */
  readonly workingSet?: Readonly<Record<string, number>>;
  /** How the devices are linked; absent: they are not. */
  readonly link?: 'copies' | 'coherent';
}

/** A replay has private anonymous memory of base pages, in one space. */
type ReplayedCause = Exclude<CpuFaultCause, 'copy' | 'share' | 'huge' | 'exclusive' | 'upgrade'>;

/** Counts behind the counts. */
export interface ReplayDetail {
  /** CPU faults by cause; they add up to `faults.cpu`. */
  readonly cpuFaults: Readonly<Record<Exclude<ReplayedCause, 'swap'>, number>> & { readonly swap?: number };
  /** Fault batches served. */
  readonly batches: number;
  /** Element i counts batches of 2^i to 2^(i+1) - 1 records. */
  readonly batchSizes: readonly number[];
  /** Records written into fault buffers, of all devices. */
  readonly recorded: number;
  /** Records that needed no service of their own: merged with another one of their page, or the page had come along with an earlier one of the batch. */
  readonly coalesced: number;
  /** Records put off to a later batch, because no frame could be had. */
  readonly deferred: number;
  /** Device accesses given up: no mapping, or no right. */
  readonly cancelled: number;
  /** Records lost to a full fault buffer; the access faults again. */
  readonly overflow: number;
  /** Pages that came to a device as zeros: nothing was copied. */
  readonly cleared: number;
  /** Pages copied because of a device fault, a touch of the CPU, or lack of room. */
  readonly migratedByCause: Readonly<Record<'fault' | 'home' | 'evict', Readonly<Traffic>>>;
  /** Frames that a policy chose to go, by what became of them; absent: each device chooses. */
  readonly victims?: Readonly<{ [result in EvictionResult]?: number }>;
  /** Pages that went to the second tier and came back, copied; and those that went without a copy, because it had them, still true. Absent: there is none. */
  readonly secondTier?: { readonly out: Readonly<Traffic>; readonly in: Readonly<Traffic>; readonly clean: number };
  /** Pages copied from one device to another without the host; only where they are linked. */
  readonly betweenDevices?: Readonly<Traffic>;
  /** Copies of pages that several may read: made; those of them that were what a page left behind, for which nothing was copied; and dropped. Only where there were some. */
  readonly replicas?: { readonly made: number; readonly kept: number; readonly dropped: number };
  /** What devices were asked for that bring and take pages by themselves, by name: calls each way, the pages or ranges in them, and those of them that were refused. */
  readonly coupled?: Readonly<
    Record<string, { readonly maps: number; readonly unmaps: number; readonly items: number; readonly refused: number }>
  >;
  /** What devices have counted by themselves, by name: `counts` of their drivers. */
  readonly counted?: Readonly<Record<string, Readonly<Record<string, number>>>>;
  /** Offload ranges that no instruction of the trace was in, of all devices, those that touch as one: most often their addresses are not those of the recorded program. Absent: there is none. */
  readonly unmet?: readonly string[];
  readonly modelledParts: ModelledParts;
  /** Where the preset's constants come from. */
  readonly presetSource: string;
  readonly options: ReplaySettings;
}

/** A replay in numbers. */
export interface ReplayReport {
  readonly schema: 1;
  /** Name of the trace. */
  readonly trace: string;
  /** Name of the preset that gave the modelled time. */
  readonly preset: string;
  /** Executed accesses: `cpu + device` is `read + write`. Instructions are counted, not replayed. */
  readonly accesses: {
    readonly cpu: number;
    readonly device: number;
    /** Of several devices, by name. */
    readonly devices?: Readonly<Record<string, number>>;
    readonly read: number;
    readonly write: number;
    readonly instructions: number;
  };
  readonly tlb: { readonly cpu: TlbCounts; readonly devices: Readonly<Record<string, TlbCounts>> };
  /** Faults raised by the CPU; records in the fault buffer of each device. */
  readonly faults: { readonly cpu: number; readonly devices: Readonly<Record<string, number>> };
  /** Pages copied: source node, target node. */
  readonly migrated: Readonly<Record<string, Readonly<Record<string, Readonly<Traffic>>>>>;
  /** Times that a device gave frames back to make room. */
  readonly evictions: number;
  /** Notifier events delivered: one per event and context. */
  readonly invalidations: number;
  /** Most frames of each node in use at one time. */
  readonly frames: Readonly<Record<string, { readonly peak: number }>>;
  readonly modelledNs: number;
  readonly detail: ReplayDetail;
  /** The only part that differs from run to run. */
  readonly host: { readonly wallMs: number; readonly accessesPerSecond: number };
}

/** The table of one replay: at most 100 columns, no newline at its end. */
export function formatReport(report: ReplayReport): string {
  requireReport('formatReport.report', report);
  return formatReports([report]);
}

/** The tables of several replays side by side, one column each; three fit into 100 columns. */
export function formatReports(reports: readonly ReplayReport[]): string {
  requireArray('formatReports.reports', reports);
  for (const report of reports) requireReport('formatReports.report', report);
  return layOut(
    [settings, accesses, tlb, faults, batches, migration, conversations, frames, modelledTime, host].flatMap((section) => section(reports)),
    reports.map((report) => shortened(report.trace)),
    sources(reports),
  );
}

/** Throws unless it is a report of this schema. */
function requireReport(argument: string, report: ReplayReport): void {
  requireObject(argument, report, 'a report of replayTrace');
  if (report.schema !== 1) throw fail('EINVAL', `${argument}.schema`, report.schema, 'is not 1, the schema of a report of replayTrace');
}

// --------------------------------------------------------------------------------------------------------------------- sections

/** A line of the table: a label and one cell for each report, or the heading of a section. */
type Row = { readonly label: string; readonly cells: readonly string[] } | { readonly heading: string };
type Reports = readonly ReplayReport[];

function settings(reports: Reports): Row[] {
  const nodes = union(reports, (report) => report.detail.options.deviceMemory);
  return [
    row('device', reports, ({ detail }) => detail.options.device),
    row('host memory', reports, ({ detail }) => printBytes(detail.options.dram)),
    ...nodes.map((node) => row(node, reports, ({ detail }) => optional(detail.options.deviceMemory[node], printBytes))),
    row('granule of a device fault', reports, ({ detail }) => printBytes(detail.options.granulePages * pageBytes(detail))),
    ...(reports.some(({ detail }) => detail.options.link)
      ? [row('links between devices', reports, ({ detail }) => detail.options.link ?? NOTHING)]
      : []),
    ...optionalRow('values', reports, ({ detail }) => (detail.options.bytesIn ? 'none: no load is checked' : undefined)),
    ...optionalRow('page', reports, ({ detail }) => optional(detail.options.pageBytes, printBytes)),
    ...optionalRow('second tier', reports, ({ detail }) => optional(detail.options.swap, printBytes)),
    ...union(reports, (report) => report.detail.options.workingSet ?? {}).map((device) =>
      row(`working set of ${device}`, reports, ({ detail: { options } }) => optional(options.workingSet?.[device], printBytes)),
    ),
    ...optionalRow('oversubscribed', reports, ({ detail }) => oversubscribed(detail.options)),
    ...optionalRow('victims chosen by', reports, ({ detail }) => detail.options.victims),
    ...optionalRow('what devices read', reports, ({ detail }) => (detail.options.duplicate ? 'duplicated' : undefined)),
    row('lanes', reports, ({ detail }) => count(detail.options.lanes)),
    row('offloaded', reports, ({ detail }) => plural(offloaded(detail.options), 'range') ?? 'everything'),
    ...optionalRow('without an instruction', reports, ({ detail }) => plural(detail.unmet?.length ?? 0, 'range')),
  ];
}

/** How many times larger the working sets of the devices that have memory are than it. */
function oversubscribed({ workingSet, deviceMemory }: ReplaySettings): string | undefined {
  if (!workingSet) return undefined;
  let touched = 0;
  for (const [device, length] of Object.entries(workingSet))
    if (Object.keys(deviceMemory).some((node) => node.startsWith(`${device}.`))) touched += length;
  const memory = Object.values(deviceMemory).reduce((total, each) => total + each, 0);
  return memory === 0 ? undefined : `${(touched / memory).toFixed(1)}x`;
}

/** Ranges of all devices. */
function offloaded({ offload, devices }: ReplaySettings): number {
  return devices ? Object.values(devices).reduce((total, each) => total + each.offload.length, 0) : offload.length;
}

function accesses(reports: Reports): Row[] {
  return [
    { heading: 'Accesses' },
    row('by the CPU', reports, (report) => share(report.accesses.cpu, report.accesses.cpu + report.accesses.device)),
    row('by the device', reports, (report) => share(report.accesses.device, report.accesses.cpu + report.accesses.device)),
    ...union(reports, (report) => report.accesses.devices ?? {}).map((device) =>
      row(`  ${device}`, reports, ({ accesses: { cpu, device: all, devices } }) => optional(devices?.[device], (n) => share(n, cpu + all))),
    ),
    row('reads', reports, (report) => share(report.accesses.read, report.accesses.read + report.accesses.write)),
    row('writes', reports, (report) => share(report.accesses.write, report.accesses.read + report.accesses.write)),
    row('instructions, not replayed', reports, (report) => count(report.accesses.instructions)),
  ];
}

function tlb(reports: Reports): Row[] {
  const devices = union(reports, (report) => report.tlb.devices);
  const ofOne = (name: string, of: (report: ReplayReport) => TlbCounts | undefined): Row[] => [
    row(`${name} hits`, reports, (report) => optional(of(report), ({ hit, miss }) => share(hit, hit + miss))),
    row(`${name} misses`, reports, (report) => optional(of(report), ({ hit, miss }) => share(miss, hit + miss))),
  ];
  return [
    { heading: 'TLB, per page touched' },
    ...ofOne('CPU', (report) => report.tlb.cpu),
    ...devices.flatMap((device) => ofOne(device, (report) => report.tlb.devices[device])),
  ];
}

const CPU_CAUSES: Readonly<Record<ReplayedCause, string>> = {
  zero: 'first read',
  demand: 'first write',
  cow: 'write after a read',
  reuse: 'write, was read-only',
  home: 'page on the device',
  swap: 'page in the second tier',
};

function faults(reports: Reports): Row[] {
  const devices = union(reports, (report) => report.faults.devices);
  return [
    { heading: 'Faults' },
    row('CPU', reports, (report) => count(report.faults.cpu)),
    ...(Object.keys(CPU_CAUSES) as ReplayedCause[])
      .filter((cause) => cause !== 'swap' || reports.some(({ detail }) => detail.secondTier))
      .map((cause) => row(`  ${cause}: ${CPU_CAUSES[cause]}`, reports, ({ detail }) => count(detail.cpuFaults[cause] ?? 0))),
    ...devices.map((device) => row(`${device}, records`, reports, (report) => optional(report.faults.devices[device], count))),
    row('  merged or brought along', reports, ({ detail }) => count(detail.coalesced)),
    row('  put off to a later batch', reports, ({ detail }) => count(detail.deferred)),
    row('  given up', reports, ({ detail }) => count(detail.cancelled)),
    row('  lost: fault buffer full', reports, ({ detail }) => count(detail.overflow)),
  ];
}

function batches(reports: Reports): Row[] {
  const sizes = Math.max(0, ...reports.map((report) => report.detail.batchSizes.length));
  return [
    { heading: 'Fault batches' },
    row('batches', reports, ({ detail }) => count(detail.batches)),
    row('records, on average', reports, ({ detail }) => (detail.batches === 0 ? NOTHING : (detail.recorded / detail.batches).toFixed(1))),
    ...Array.from({ length: sizes }, (_, i) => i)
      .filter((i) => reports.some((report) => (report.detail.batchSizes[i] ?? 0) > 0))
      .map((i) => row(`  ${sizeClass(i)}`, reports, ({ detail }) => share(detail.batchSizes[i] ?? 0, detail.batches))),
  ];
}

function sizeClass(i: number): string {
  return i === 0 ? 'of 1 record' : `of ${count(2 ** i)} to ${count(2 ** (i + 1) - 1)} records`;
}

function migration(reports: Reports): Row[] {
  const ways = union(reports, (report) =>
    Object.fromEntries(
      Object.entries(report.migrated).flatMap(([from, targets]) => Object.keys(targets).map((to) => [`${from} -> ${to}`, [from, to]])),
    ),
  );
  return [
    { heading: 'Migration, pages and bytes' },
    ...ways.map((way) => {
      const [from, to] = way.split(' -> ') as [string, string];
      return row(way, reports, (report) => optional(report.migrated[from]?.[to], traffic));
    }),
    row('  by a device fault', reports, ({ detail }) => traffic(detail.migratedByCause.fault)),
    row('  by a touch of the CPU', reports, ({ detail }) => traffic(detail.migratedByCause.home)),
    row('  by eviction', reports, ({ detail }) => traffic(detail.migratedByCause.evict)),
    ...(reports.some(({ detail }) => detail.betweenDevices)
      ? [row('  between devices', reports, ({ detail }) => optional(detail.betweenDevices, traffic))]
      : []),
    row('cleared, nothing to copy', reports, ({ detail }) => traffic({ pages: detail.cleared, bytes: detail.cleared * pageBytes(detail) })),
    row('evictions', reports, (report) => count(report.evictions)),
    ...union(reports, ({ detail }) => detail.victims ?? {}).map((result) =>
      row(`  victims: ${result}`, reports, ({ detail }) =>
        optional(detail.victims, (victims) => count(victims[result as EvictionResult] ?? 0)),
      ),
    ),
    ...optionalRow('to the second tier', reports, ({ detail }) => optional(detail.secondTier, ({ out }) => traffic(out))),
    ...optionalRow('  without a copy: clean', reports, ({ detail }) =>
      optional(detail.secondTier, ({ clean }) => traffic({ pages: clean, bytes: clean * pageBytes(detail) })),
    ),
    ...optionalRow('back from it', reports, ({ detail }) => optional(detail.secondTier, (tier) => traffic(tier.in))),
    row('invalidations', reports, (report) => count(report.invalidations)),
    ...(reports.some(({ detail }) => detail.replicas)
      ? [
          row('copies for readers, made', reports, ({ detail }) => optional(detail.replicas, ({ made }) => count(made))),
          row('  left behind, not copied', reports, ({ detail }) => optional(detail.replicas, ({ kept }) => count(kept))),
          row('  dropped', reports, ({ detail }) => optional(detail.replicas, ({ dropped }) => count(dropped))),
        ]
      : []),
  ];
}

/** What went to devices that bring and take pages by themselves, and what devices have counted. */
function conversations(reports: Reports): Row[] {
  const coupled = union(reports, ({ detail }) => detail.coupled ?? {});
  const counted = union(reports, ({ detail }) => detail.counted ?? {});
  if (coupled.length + counted.length === 0) return [];
  const asked = (device: string, label: string, of: 'maps' | 'unmaps' | 'items' | 'refused'): Row =>
    row(`${device}, ${label}`, reports, ({ detail }) => optional(detail.coupled?.[device]?.[of], count));
  return [
    { heading: 'Asked of devices' },
    ...coupled.flatMap((device) => [
      asked(device, 'calls to bring pages', 'maps'),
      asked(device, 'calls to take pages', 'unmaps'),
      asked(device, 'pages and ranges in them', 'items'),
      asked(device, 'refused', 'refused'),
    ]),
    ...counted.flatMap((device) =>
      union(reports, ({ detail }) => detail.counted?.[device] ?? {}).map((name) =>
        row(`${device}, ${wordsOf(name)}`, reports, ({ detail }) => optional(detail.counted?.[device]?.[name], count)),
      ),
    ),
  ];
}

/** roundTrips as round trips. */
function wordsOf(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);
}

function frames(reports: Reports): Row[] {
  const nodes = union(reports, (report) => report.frames);
  return [
    { heading: 'Peak frames in use, and bytes' },
    ...nodes.map((node) =>
      row(node, reports, (report) =>
        optional(report.frames[node], ({ peak }) => traffic({ pages: peak, bytes: peak * pageBytes(report.detail) })),
      ),
    ),
  ];
}

const PARTS: Readonly<Record<keyof ModelledParts, string>> = {
  access: 'accesses',
  walk: 'page walks',
  cpuFault: 'CPU faults',
  batch: 'fault batches',
  invalidation: 'invalidations',
  toDevice: 'copies to the device',
  toHost: 'copies to the host',
  peer: 'copies between devices',
};

function modelledTime(reports: Reports): Row[] {
  return [
    { heading: 'Modelled time, nothing overlapping' },
    row('preset', reports, (report) => report.preset),
    ...(Object.keys(PARTS) as (keyof ModelledParts)[])
      .filter((part) => reports.some((report) => report.detail.modelledParts[part] !== undefined))
      .map((part) =>
        row(`  ${PARTS[part]}`, reports, ({ detail, modelledNs }) => optional(detail.modelledParts[part], (ns) => time(ns, modelledNs))),
      ),
    row('whole', reports, (report) => time(report.modelledNs, report.modelledNs)),
  ];
}

function host(reports: Reports): Row[] {
  return [
    { heading: 'This run' },
    row('wall time', reports, (report) => `${count(Math.round(report.host.wallMs))} ms`),
    row('accesses per second, replay', reports, (report) => `${(report.host.accessesPerSecond / 1e6).toFixed(1)} M`),
  ];
}

/** Below the table: each preset once, with its source. */
function sources(reports: Reports): string[] {
  return [...new Set(reports.map((report) => `${report.preset}: ${report.detail.presetSource}`))].flatMap((text) => wrapped(text));
}

// ------------------------------------------------------------------------------------------------------------------------ cells

function pageBytes({ options }: ReplayDetail): number {
  return options.pageBytes ?? 4096;
}

/** A report that has no such row: another device, say. */
const NOTHING = '-';

function row(label: string, reports: Reports, cell: (report: ReplayReport) => string): Row {
  return { label, cells: reports.map(cell) };
}

/** A row of what only some replays have; none where no report has it. */
function optionalRow(label: string, reports: Reports, cell: (report: ReplayReport) => string | undefined): Row[] {
  const isThere = (text: string | undefined): boolean => text !== undefined && text !== NOTHING;
  return reports.some((report) => isThere(cell(report))) ? [row(label, reports, (report) => cell(report) ?? NOTHING)] : [];
}

/** The keys of a record in every report, in the order of their first coming. */
function union(reports: Reports, of: (report: ReplayReport) => Readonly<Record<string, unknown>>): string[] {
  return [...new Set(reports.flatMap((report) => Object.keys(of(report))))];
}

function optional<T>(value: T | undefined, print: (value: T) => string): string {
  return value === undefined ? NOTHING : print(value);
}

/** 1234567 as 1,234,567, whatever the host's locale. */
function count(n: number): string {
  return String(n).replace(/\B(?=(\d{3})+$)/g, ',');
}

function plural(n: number, noun: string): string | undefined {
  return n === 0 ? undefined : `${count(n)} ${noun}${n === 1 ? '' : 's'}`;
}

function share(part: number, whole: number): string {
  return `${count(part)}${percent(part, whole)}`;
}

function percent(part: number, whole: number): string {
  return (whole === 0 ? NOTHING : `${((100 * part) / whole).toFixed(1)} %`).padStart(8);
}

function traffic({ pages, bytes: length }: Readonly<Traffic>): string {
  return `${count(pages)} ${printBytes(length).padStart(10)}`;
}

const UNITS = ['KiB', 'MiB', 'GiB', 'TiB'] as const;

/** 4096 as 4 KiB, 1.5 * 2^20 as 1.5 MiB: at most one decimal. */
export function printBytes(n: number): string {
  if (n < 1024) return `${n} B`;
  let unit = 0;
  let scaled = n / 1024;
  // 1023.95 would be printed as 1024.0.
  while (scaled >= 1023.95 && unit < UNITS.length - 1) {
    scaled /= 1024;
    unit++;
  }
  return `${Number.isInteger(scaled) ? scaled : scaled.toFixed(1)} ${UNITS[unit]}`;
}

const SECONDS_FROM_NS = 1e10;

/** Nanoseconds as milliseconds, or as seconds where the whole is long, and their share. */
function time(ns: number, whole: number): string {
  const long = whole >= SECONDS_FROM_NS;
  const [units, decimals] = (ns / (long ? 1e9 : 1e6)).toFixed(3).split('.') as [string, string];
  return `${count(Number(units))}.${decimals} ${long ? 's' : 'ms'}${percent(ns, whole)}`;
}

// ----------------------------------------------------------------------------------------------------------------------- layout

const COLUMNS = 100;
const NAME_LENGTH = 20;
const GAP = '  ';

/** The end of a long name says more than its start. */
function shortened(name: string): string {
  return name.length <= NAME_LENGTH ? name : `...${name.slice(3 - NAME_LENGTH)}`;
}

/** Labels to the left, cells to the right, everything aligned. */
function layOut(rows: readonly Row[], names: readonly string[], footer: readonly string[]): string {
  const labelWidth = Math.max(...rows.map((one) => ('label' in one ? one.label.length + GAP.length : 0)));
  const widths = names.map((name, i) => Math.max(name.length, ...rows.map((one) => ('cells' in one ? one.cells[i]!.length : 0))));
  const line = (label: string, cells: readonly string[]): string =>
    [label.padEnd(labelWidth), ...cells.map((cell, i) => cell.padStart(widths[i]!))].join(GAP);
  const lines = [line('Replay', names)];
  for (const one of rows) {
    if ('heading' in one) lines.push('', one.heading);
    else lines.push(line(`${GAP}${one.label}`, one.cells));
  }
  return [...lines, '', ...footer].map((text) => text.trimEnd()).join('\n');
}

function wrapped(text: string): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + 1 + word.length > COLUMNS) {
      lines.push(line);
      line = GAP + word;
    } else line = line === '' ? word : `${line} ${word}`;
  }
  return [...lines, line];
}

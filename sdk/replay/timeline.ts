/**
 * What happens in a machine as a timeline: Chrome's trace event format, which the Perfetto viewer (ui.perfetto.dev) and `chrome://tracing` open.
 *
 * ```
 *   process   thread                  slices                                            counters
 *   CPU       CPU                     accesses, faults
 *   <device>  jobs                    job > round, batch                                fault buffer records
 *             lane <n>                stalled
 *             notifier                invalidations, by their reason
 *   links     <node> <-> <node>       copies, by their cause
 *   memory                                                                              frames in use, of each node
 * ```
 *
 * Time is modelled time: the clock stands still except for what a preset has a cost for (accesses, page walks, CPU faults, batches and their records, invalidations, copies). Nothing overlaps, so
 * the timeline of a replay ends at the report's `modelledNs`. What has no cost is an instant. Events do not say when they end; what a slice contains is what comes before the event that ends it.
 *
 * Written piece by piece while the machine works: what is kept is one entry for each stalled lane. https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
 */
import * as L from '../../assembly/layout.ts';
import { fail } from '../errors.ts';
import type { EventOf, MachineEvent } from '../events/record.ts';
import type { Machine } from '../machine.ts';
import { type NamesOf, requireFunction, requireObject, requireOptions } from '../mm/arguments.ts';
import { Platform } from '../mm/platform.ts';
import { type Preset, PRESET_DEFAULT, presets } from '../policy/preset.ts';
import { transferNs } from './cost.ts';

/** How to write a timeline. */
export interface TimelineOptions {
  /** Gets the text, piece by piece; all pieces together are one JSON object. What it throws, `end` throws. */
  readonly write: (text: string) => void;
  /** What things cost. Default: the preset of a replay that does not name one. */
  readonly preset?: Preset;
  /** What the timeline is of; stands in its head. */
  readonly name?: string;
}

const TIMELINE_OPTIONS: NamesOf<TimelineOptions> = { write: true, preset: true, name: true };

/** A timeline that is being written. */
export interface Timeline {
  /** Modelled nanoseconds so far. */
  readonly ns: number;
  /** Writes the rest, and listens no more. Twice is fine. Throws what `write` threw: nothing was written after that. */
  end(): void;
}

/** What a machine has done without an event: sums. */
export interface Progress {
  readonly cpuAccesses: number;
  readonly cpuMisses: number;
  readonly deviceAccesses: number;
  readonly deviceMisses: number;
  /** Whose the device accesses are. */
  readonly device: string;
}

/**
 * Writes the timeline of a machine from now on. Accesses are those that its TLBs have counted: one that touches two pages counts twice. (`replayTrace` counts them exactly: give it `timeline`.) Errors:
 * EINVAL, EBADF.
 */
export function timeline(machine: Machine, options: TimelineOptions): Timeline {
  requireObject('timeline.machine', machine, 'a machine (see createMachine)');
  if (!(machine.platform instanceof Platform)) throw fail('EINVAL', 'timeline.machine', machine, 'is not a machine (see createMachine)');
  machine.platform.requireOpen('timeline');
  requireOptions('timeline', options, TIMELINE_OPTIONS);
  const { write, preset, name } = options;
  requireFunction('timeline.write', write);
  if (preset !== undefined) requireObject('timeline.preset', preset, 'a preset (see presets)');
  if (preset !== undefined && typeof preset.name !== 'string')
    throw fail('EINVAL', 'timeline.preset', preset, 'is not a preset (see presets)');
  if (name !== undefined && typeof name !== 'string') throw fail('EINVAL', 'timeline.name', name, 'is not text');
  return new TimelineWriter(machine, options, () => touchedPages(machine.platform));
}

/** Sums over the TLBs of everything that is there now. */
function touchedPages({ spaces }: Platform): Progress[] {
  const sums: Progress[] = [];
  let cpuAccesses = 0;
  let cpuMisses = 0;
  const devices = new Map<string, { accesses: number; misses: number }>();
  for (const space of spaces.values()) {
    const { hit, miss } = space.tlbCounts;
    cpuAccesses += hit + miss;
    cpuMisses += miss;
    for (const mirror of space.mirrors) {
      const counts = (mirror as { readonly tlbCounts?: { readonly hit: number; readonly miss: number } }).tlbCounts;
      if (!counts) continue;
      let sum = devices.get(mirror.name);
      if (!sum) devices.set(mirror.name, (sum = { accesses: 0, misses: 0 }));
      sum.accesses += counts.hit + counts.miss;
      sum.misses += counts.miss;
    }
  }
  sums.push({ cpuAccesses, cpuMisses, deviceAccesses: 0, deviceMisses: 0, device: '' });
  for (const [device, { accesses, misses }] of devices)
    sums.push({ cpuAccesses: 0, cpuMisses: 0, deviceAccesses: accesses, deviceMisses: misses, device });
  return sums;
}

/** Text is given on in pieces of about so many characters. */
const PIECE = 65536;

const CPU = 1;
const LINKS = 2;
const MEMORY = 3;
/** Process numbers of devices begin here. */
const DEVICES = 10;

/** Threads of a device, in the order in which they are shown. */
const JOBS = 0;
const NOTIFIER = 1;
const LANES = 100;
/** Thread numbers are unique over all processes. */
const THREADS_PER_PROCESS = 10_000;

interface StalledLane {
  readonly since: number;
  readonly write: boolean;
  readonly addrs: number[];
}

/** What is known of one device. */
interface DeviceTracks {
  readonly pid: number;
  readonly stalled: Map<number, StalledLane>;
  /** Slices that are open on its `jobs`, outermost first. */
  readonly open: string[];
}

/** @internal Use `timeline`, or the `timeline` option of `replayTrace`. */
export class TimelineWriter implements Timeline {
  readonly #platform: Platform;
  readonly #preset: Preset;
  readonly #write: (text: string) => void;
  readonly #progress: () => readonly Progress[];
  readonly #off: () => void;
  readonly #devices: Map<string, DeviceTracks> = new Map();
  readonly #named: Set<number> = new Set();
  readonly #links: Map<string, number> = new Map();
  /** Frames in use when they were last written, by node. */
  readonly #frames: Map<string, number> = new Map();
  readonly #before: Map<string, Progress> = new Map();
  #ns = 0;
  #text = '';
  #isFirst = true;
  #isEnded = false;
  #failure: { readonly error: unknown } | undefined;

  constructor(
    machine: Machine,
    { write, preset = presets[PRESET_DEFAULT]!, name = '' }: TimelineOptions,
    progress: () => readonly Progress[],
  ) {
    this.#platform = machine.platform;
    this.#preset = preset;
    this.#write = write;
    this.#progress = progress;
    for (const each of progress()) this.#before.set(each.device, each);
    const head = { name, preset: preset.name, source: preset.source, time: 'modelled: nothing overlaps' };
    // No displayTimeUnit: there are versions of Perfetto that take it for the unit of `ts`, which is the microsecond.
    this.#text = `{"otherData":${JSON.stringify(head)},"traceEvents":[`;
    this.#thread(CPU, 'CPU', 0, 'CPU');
    this.#occupancy();
    this.#off = machine.onEvent((event) => this.#hear(event));
  }

  get ns(): number {
    return this.#ns;
  }

  end(): void {
    if (!this.#isEnded) {
      this.#isEnded = true;
      this.#off();
      if (this.#platform.open) {
        this.#charge();
        this.#occupancy();
      }
      for (const tracks of this.#devices.values()) this.#closeJob(tracks);
      this.#text += '\n]}\n';
      this.#flush();
    }
    if (this.#failure) throw this.#failure.error;
  }

  // -------------------------------------------------------------------------------------------------------------- events

  #hear(event: MachineEvent): void {
    if (this.#failure) return;
    this.#charge();
    switch (event.type) {
      case 'fault.cpu':
        if (event.forDevice) this.#instant(CPU, 0, `fault for a device: ${event.cause}`, 'fault', where(event));
        else this.#spend(CPU, 0, `fault: ${event.cause}`, 'fault', this.#preset.cpuFaultNs, { ...where(event), write: event.write });
        break;
      case 'fault.device':
        this.#stall(event);
        break;
      case 'job.begun':
        this.#begin(this.#device(event.device), 'job', { accesses: event.accesses, lanes: event.lanes, space: event.space });
        break;
      case 'job.ended':
        this.#closeJob(this.#device(event.device));
        break;
      case 'batch.begun':
        this.#beginBatch(event);
        break;
      case 'batch.served':
        this.#endBatch(event);
        break;
      case 'lanes.replayed': {
        const tracks = this.#device(event.device);
        this.#resume(tracks);
        this.#instant(tracks.pid, JOBS, `replay: ${event.cause}`, 'job', { lanes: event.lanes, round: event.round });
        break;
      }
      case 'pages.migrated':
        this.#migrated(event);
        break;
      case 'page.replicated': {
        const { node, isKept, type, tick: _, ...args } = event;
        // What a page has left behind is a copy without copying.
        if (isKept) this.#instant(this.#device(event.device).pid, 0, type, 'page', { node, ...args });
        else {
          const link = this.#link(this.#platform.host.name, node);
          this.#spend(LINKS, link, `for a reader: 1 to ${node}`, 'toDevice', transferNs(1, 'toDevice', this.#preset), args);
        }
        break;
      }
      case 'range.invalidated': {
        const { reason, cause, pages, ignored, device } = event;
        const args = { cause, ...where(event), pages, ignored };
        this.#spend(this.#device(device).pid, NOTIFIER, reason, 'invalidation', this.#preset.invalidationNs, args);
        break;
      }
      case 'frames.evicted':
        this.#instant(LINKS, this.#link(this.#platform.host.name, event.node), `eviction from ${event.node}`, 'eviction', {
          pages: event.pages,
          for: event.cause,
          ...where(event),
        });
        break;
      default: {
        const { type, tick: _, ...args } = event;
        const device = 'device' in event && event.device !== undefined ? this.#device(event.device).pid : CPU;
        this.#instant(device, 0, type, type.slice(0, type.indexOf('.')), args);
      }
    }
    this.#occupancy();
  }

  /** Time goes on by what was executed since the last look. */
  #charge(): void {
    const { cpuAccessNs, cpuWalkNs, deviceAccessNs, deviceWalkNs } = this.#preset;
    for (const now of this.#progress()) {
      const before = this.#before.get(now.device);
      this.#before.set(now.device, now);
      // A space that has been closed takes its sums with it.
      const since = (field: 'cpuAccesses' | 'cpuMisses' | 'deviceAccesses' | 'deviceMisses'): number =>
        Math.max(0, now[field] - (before?.[field] ?? 0));
      const cpu = { accesses: since('cpuAccesses'), misses: since('cpuMisses') };
      if (cpu.accesses + cpu.misses > 0)
        this.#spend(CPU, 0, 'accesses', 'access', cpu.accesses * cpuAccessNs + cpu.misses * cpuWalkNs, cpu);
      const device = { accesses: since('deviceAccesses'), misses: since('deviceMisses') };
      if (device.accesses + device.misses === 0) continue;
      const tracks = this.#device(now.device);
      this.#spend(tracks.pid, JOBS, 'accesses', 'access', device.accesses * deviceAccessNs + device.misses * deviceWalkNs, device);
    }
  }

  #stall({ device, lane, vpn, write }: EventOf<'fault.device'>): void {
    const { stalled } = this.#device(device);
    const already = stalled.get(lane);
    if (already) already.addrs.push(vpn * L.PAGE_BYTES);
    else stalled.set(lane, { since: this.#ns, write, addrs: [vpn * L.PAGE_BYTES] });
  }

  /** Stalled lanes go on. */
  #resume(tracks: DeviceTracks): void {
    for (const [lane, { since, write, addrs }] of [...tracks.stalled].sort(([a], [b]) => a - b)) {
      const name = `stalled: ${write ? 'write' : 'read'} ${hex(addrs[0]!)}`;
      this.#thread(tracks.pid, undefined, LANES + lane, `lane ${lane}`);
      this.#put(
        { name, cat: 'stall', ph: 'X', ts: since, dur: this.#ns - since, pid: tracks.pid, tid: LANES + lane },
        { pages: addrs.map(hex) },
      );
    }
    tracks.stalled.clear();
  }

  #beginBatch({ device, records }: EventOf<'batch.begun'>): void {
    const tracks = this.#device(device);
    if (tracks.open.at(-1) === 'batch') this.#close(tracks);
    this.#begin(tracks, 'batch', { records });
    this.#counter(tracks.pid, 'fault buffer', { records });
    this.#ns += this.#preset.batchNs + records * this.#preset.recordNs;
  }

  #endBatch({ device, coalesced, deferred, overflow }: EventOf<'batch.served'>): void {
    const tracks = this.#device(device);
    if (tracks.open.at(-1) === 'batch') this.#close(tracks, { coalesced, deferred, overflow });
    this.#counter(tracks.pid, 'fault buffer', { records: 0 });
    // A fault by itself: there is no job whose lanes would be replayed.
    if (tracks.open.length === 0) this.#resume(tracks);
  }

  #migrated(event: EventOf<'pages.migrated'>): void {
    const { from, to, way, pages, bytes, cleared, refused, cause } = event;
    const isOut = way === 'toDevice' || way === 'swapOut';
    const link = this.#link(isOut ? from : to, isOut ? to : from);
    const args = { pages, bytes, cleared, refused, cause, from, to, ...where(event) };
    // What the second tier costs is not modelled.
    if (way === 'swapOut' || way === 'swapIn') this.#instant(LINKS, link, `${cause}: ${pages} to ${to}`, way, args);
    else if (pages > 0) this.#spend(LINKS, link, `${cause}: ${pages} to ${to}`, way, transferNs(pages, way, this.#preset), args);
    else this.#instant(LINKS, link, `${cause}: ${cleared} cleared on ${to}`, way, args);
  }

  // -------------------------------------------------------------------------------------------------------------- tracks

  #device(name: string): DeviceTracks {
    let tracks = this.#devices.get(name);
    if (tracks) return tracks;
    tracks = { pid: DEVICES + this.#devices.size, stalled: new Map(), open: [] };
    this.#devices.set(name, tracks);
    this.#thread(tracks.pid, name, JOBS, 'jobs');
    this.#thread(tracks.pid, undefined, NOTIFIER, 'notifier');
    return tracks;
  }

  /** The thread of a link. */
  #link(near: string, far: string): number {
    const name = `${near} <-> ${far}`;
    let link = this.#links.get(name);
    if (link === undefined) {
      link = this.#links.size;
      this.#links.set(name, link);
      this.#thread(LINKS, 'links', link, name);
    }
    return link;
  }

  /** Names a thread, and its process when it is the first of it; once. */
  #thread(pid: number, process: string | undefined, thread: number, name: string): void {
    const tid = threadOf(pid, thread);
    if (this.#named.has(tid)) return;
    this.#named.add(tid);
    if (process !== undefined && thread === 0) {
      this.#name('process_name', pid, 0, { name: process });
      this.#name('process_sort_index', pid, 0, { sort_index: pid });
    }
    this.#name('thread_name', pid, thread, { name });
    this.#name('thread_sort_index', pid, thread, { sort_index: thread });
  }

  #name(name: string, pid: number, thread: number, args: object): void {
    this.#line(`{"name":"${name}","ph":"M","pid":${pid},"tid":${threadOf(pid, thread)},"args":${JSON.stringify(args)}}`);
  }

  // -------------------------------------------------------------------------------------------------------------- writing

  #begin(tracks: DeviceTracks, name: string, args: object): void {
    tracks.open.push(name);
    this.#put({ name, cat: 'job', ph: 'B', ts: this.#ns, pid: tracks.pid, tid: JOBS }, args);
  }

  /** Ends the innermost open slice. */
  #close(tracks: DeviceTracks, args: object = {}): void {
    const name = tracks.open.pop();
    if (name !== undefined) this.#put({ name, cat: 'job', ph: 'E', ts: this.#ns, pid: tracks.pid, tid: JOBS }, args);
  }

  /** A job has ended, and with it a batch that was broken off. */
  #closeJob(tracks: DeviceTracks): void {
    this.#resume(tracks);
    while (tracks.open.length > 0) this.#close(tracks);
  }

  /** A slice from now on, and the time that it takes. */
  #spend(pid: number, thread: number, name: string, cat: string, ns: number, args: object): void {
    this.#put({ name, cat, ph: 'X', ts: this.#ns, dur: ns, pid, tid: thread }, args);
    this.#ns += ns;
  }

  #instant(pid: number, thread: number, name: string, cat: string, args: object): void {
    this.#put({ name, cat, ph: 'i', ts: this.#ns, pid, tid: thread }, args);
  }

  #counter(pid: number, name: string, values: Readonly<Record<string, number>>): void {
    this.#line(`{"name":${JSON.stringify(name)},"ph":"C","ts":${micros(this.#ns)},"pid":${pid},"args":${JSON.stringify(values)}}`);
  }

  /** Nodes whose frames in use have changed. */
  #occupancy(): void {
    const { list } = this.#platform.nodes;
    // The first one has the pages of zeros.
    for (let i = 1; i < list.length; i++) {
      const { name, used } = list[i]!;
      if (this.#frames.get(name) === used) continue;
      if (this.#frames.size === 0) {
        this.#name('process_name', MEMORY, 0, { name: 'memory' });
        this.#name('process_sort_index', MEMORY, 0, { sort_index: MEMORY });
      }
      this.#frames.set(name, used);
      this.#counter(MEMORY, `frames of ${name}`, { used });
    }
  }

  #put(
    event: {
      readonly name: string;
      readonly cat: string;
      readonly ph: 'B' | 'E' | 'X' | 'i';
      readonly ts: number;
      readonly dur?: number;
      readonly pid: number;
      readonly tid: number;
    },
    args: object,
  ): void {
    const { name, cat, ph, ts, dur, pid, tid } = event;
    const length = dur === undefined ? '' : `,"dur":${micros(dur)}`;
    const scope = ph === 'i' ? ',"s":"t"' : '';
    const at = `"ts":${micros(ts)}${length},"pid":${pid},"tid":${threadOf(pid, tid)}${scope}`;
    this.#line(`{"name":${JSON.stringify(name)},"cat":"${cat}","ph":"${ph}",${at},"args":${JSON.stringify(args)}}`);
  }

  #line(text: string): void {
    this.#text += this.#isFirst ? `\n${text}` : `,\n${text}`;
    this.#isFirst = false;
    if (this.#text.length >= PIECE) this.#flush();
  }

  #flush(): void {
    const text = this.#text;
    this.#text = '';
    if (this.#failure) return;
    try {
      this.#write(text);
    } catch (error) {
      // A listener may not break off what it hears: `end` tells.
      this.#failure = { error };
    }
  }
}

function threadOf(pid: number, thread: number): number {
  return pid * THREADS_PER_PROCESS + thread;
}

/** Nanoseconds as the microseconds of the format, exactly. */
function micros(ns: number): string {
  const rest = ns % 1000;
  return rest === 0 ? String(ns / 1000) : `${(ns - rest) / 1000}.${String(rest).padStart(3, '0')}`;
}

function where({ space, vpn }: { readonly space: number; readonly vpn: number }): { space: number; addr?: string } {
  return space < 0 ? { space } : { space, addr: hex(vpn * L.PAGE_BYTES) };
}

function hex(addr: number): string {
  return `0x${addr.toString(16)}`;
}

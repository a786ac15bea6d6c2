/**
 * A trace replayed on the naive model: the same report as the real replay (all of its JSON outside `host`), and every load compared with
 * a plain map of bytes, so that the model checks itself.
 */
import { touched } from './access.ts';
import { ByteMap } from './byte-map.ts';
import type { ModelContext } from './context.ts';
import type { Counters } from './counters.ts';
import { modelledNs, type ModelledNs, type Preset } from './cost.ts';
import { PAGE_BYTES } from './frame.ts';
import type { TraceAccess } from './lackey.ts';
import { JOB_ACCESSES_MAX, type JobAccess } from './lanes.ts';
import { ModelMachine } from './machine.ts';
import type { ModelSpace } from './space.ts';
import { fill, observe, valueOf, type Word } from './value.ts';

export const FAULT_ENTRIES = 256;

/** A page outside every VMA is mapped with the aligned block of this many pages around it. */
const RESERVATION_PAGES = 512;

/** What a replay on the model is told. */
export interface ModelReplayOptions {
  device: 'nouveau' | 'mirror';
  /** Not looked at for a mirror. */
  vramPages: number;
  dramPages: number;
  lanes: number;
  granulePages: number;
  /** 256 unless given. */
  faultEntries?: number;
  /** 0 unless given. */
  seed?: number;
  /** Adds `modelledNs` to the report. */
  preset?: Preset;
}

/** What it counts: the numbers of a replay's JSON, `host` and `instructions` left out. */
export type ModelReport = Omit<Counters, 'transfers'> & { modelledNs?: ModelledNs };

/** Replays accesses on the naive model. Throws when a load observes anything but the bytes last written. */
export function modelReplay(trace: Iterable<TraceAccess>, options: ModelReplayOptions): ModelReport {
  const replay = new Replay(options);
  for (const access of trace) replay.add(access);
  replay.flush();
  const counters = replay.machine.counters();
  const { transfers: _, ...report } = counters;
  return options.preset === undefined ? report : { ...report, modelledNs: modelledNs(counters, options.preset) };
}

class Replay {
  readonly machine: ModelMachine;
  readonly #space: ModelSpace;
  readonly #context: ModelContext;
  readonly #lanes: number;
  readonly #seed: number;
  /** The run of device accesses not yet submitted, and the number of its first. */
  #job: JobAccess[] = [];
  #jobStart = 0;
  /** Number of the next access. */
  #next = 0;
  readonly #expected = new ByteMap();
  readonly #data = new Uint8Array(PAGE_BYTES);

  constructor({ device, vramPages, dramPages, lanes, granulePages, faultEntries = FAULT_ENTRIES, seed = 0 }: ModelReplayOptions) {
    this.machine = new ModelMachine({ dramPages });
    this.#space = this.machine.createSpace();
    const shape = { name: device, granulePages, faultEntries };
    const added = device === 'nouveau' ? this.machine.addNouveau({ ...shape, vramPages }) : this.machine.addMirror(shape);
    this.#context = this.machine.attach(this.#space, added);
    this.#lanes = lanes;
    this.#seed = seed;
  }

  /** Takes the next access of the trace. A CPU access runs at once, a device access when its run ends or is a whole job. */
  add({ addr, bytes, write, device }: TraceAccess): void {
    const n = this.#next++;
    this.#reserve(addr, bytes);
    const word = valueOf(n, this.#seed);
    if (device) {
      if (this.#job.length === 0) this.#jobStart = n;
      this.#job.push({ addr, bytes, write, lo: word.lo, hi: word.hi });
      if (this.#job.length === JOB_ACCESSES_MAX) this.flush();
      return;
    }

    this.flush();
    if (write) fill(this.#data, bytes, word);
    const failure = this.#space.cpu.access(addr, bytes, write, this.#data);
    if (failure !== undefined) {
      throw new Error(failure.reason === 'no-memory' ? 'host memory is exhausted' : `access ${n} at ${addr} is a segmentation fault`);
    }
    this.#check(n, addr, bytes, write, write ? word : observe(this.#data, bytes));
  }

  /** Submits the run of device accesses, if any, and replays it on the byte map in the order of execution. */
  flush(): void {
    const job = this.#job;
    if (job.length === 0) return;
    this.#job = [];
    const { lo, hi, order, cancelled } = this.#context.submit(job, this.#lanes);
    if (cancelled.length > 0) throw new Error(`access ${this.#jobStart + cancelled[0]!} is cancelled`);
    if (order.length !== job.length) throw new Error(`${order.length} of ${job.length} accesses of a job have executed`);
    for (const k of order) {
      const access = job[k]!;
      const word = access.write ? { lo: access.lo!, hi: access.hi! } : { lo: lo[k]!, hi: hi[k]! };
      this.#check(this.#jobStart + k, access.addr, access.bytes, access.write, word);
    }
  }

  /** Applies a store to the byte map, or compares what a load observed with it. */
  #check(n: number, addr: number, bytes: number, write: boolean, word: Word): void {
    if (write) {
      fill(this.#data, bytes, word);
      this.#expected.write(addr, bytes, this.#data);
      return;
    }
    this.#expected.read(addr, bytes, this.#data);
    const expected = observe(this.#data, bytes);
    if (word.lo !== expected.lo || word.hi !== expected.hi) {
      throw new Error(
        `access ${n}: ${bytes} bytes at 0x${addr.toString(16)} read ${word.hi},${word.lo}, not ${expected.hi},${expected.lo}`,
      );
    }
  }

  #reserve(addr: number, bytes: number): void {
    const { first, last } = touched(addr, bytes);
    for (let vpn = first; vpn <= last; vpn++) {
      if (this.#space.vmas.find(vpn) !== undefined) continue;
      this.#space.mmap(vpn - (vpn % RESERVATION_PAGES), RESERVATION_PAGES, 'rw');
    }
  }
}

/**
 * The main job: programs, replayed. Only the replay itself is timed (it says how long it took), not the reading of the text; every load is
 * checked by the replay, so that what is compared here are the counts.
 */
import { MiB } from 'farfault';
import nouveau from 'farfault/drivers/nouveau';
import { type OffloadRange, PRESET_DEFAULT, presets, replayTrace } from 'farfault/replay';
import { parseBytes } from './peers/lackey-text.ts';
import { PlainMemory } from './peers/plain-memory.ts';
import { randomBelow } from './random.ts';
import { type Contender, type Row, Timed } from './row.ts';
import { workload, WORKLOADS } from './workload.ts';

export interface Size {
  /** Bytes of each recording's text that are replayed, from its start. */
  readonly textBytes: number;
  /** Accesses of a made-up program, those that warm the machine apart. */
  readonly accesses: number;
  /** Pages that go to and fro in it. */
  readonly sharedPages: number;
}

/** The pages that go to and fro: 256 MiB. */
const FULL: Size = { textBytes: Infinity, accesses: 1 << 22, sharedPages: 1 << 16 };

const LANES = 32;
const SEED = 7;

/** Accesses of one side before the other one's turn: half a job of the device. */
const TURN = 1 << 15;
/** Pages that a side has for itself, and words of them that it uses: one line of a page, or nearly all of it. */
const HOT_PAGES = 512;
const HOT_WORDS = 8;
const ALL_WORDS = 500;
/** More than a batch of the replay: behind so many accesses nothing is left of what was before them. */
const BATCH = 1 << 16;

/** A program: lackey's lines, and what of it is the device's. */
interface Program {
  readonly name: string;
  /** Replayed before the clock is started. */
  readonly warmUp?: Uint8Array;
  readonly text: Uint8Array;
  readonly offload: readonly OffloadRange[];
}

export function rows(size: Size = FULL): Row[] {
  const row = (name: string, items: () => number, program: () => Program, goal?: { readonly least: number }): Row => ({
    name,
    unit: 'M/s',
    get items() {
      return items();
    },
    ours: () => onMachine(program()),
    peers: [{ name: 'plain memory', contender: () => onPlainMemory(program()) }],
    ...(goal ? { goal } : {}),
  });
  const madeUp = (name: string, faults: number, words: number, least?: number): Row =>
    row(
      `replay.${name}`,
      () => size.accesses,
      () => turns(size, faults, words),
      least === undefined ? undefined : { least },
    );
  const metadata = (percent: number): Row => ({
    name: `replay.metadata.${percent}percent`,
    unit: 'M/s',
    items: size.accesses,
    ours: () => onMachine(turns(size, percent / 100, HOT_WORDS), 'metadata'),
    peers: [{ name: 'with bytes', contender: () => onMachine(turns(size, percent / 100, HOT_WORDS)) }],
  });
  const recorded = (name: string): Row => {
    const program = (): Program => workload(name, size.textBytes);
    return row(`replay.${name}`, () => parsed(program().text, program().offload).length / 2, program);
  };
  return [
    madeUp('0percent', 0, HOT_WORDS),
    madeUp('0.1percent', 0.001, HOT_WORDS, 120),
    madeUp('1percent', 0.01, HOT_WORDS, 50),
    madeUp('10percent', 0.1, HOT_WORDS, 9),
    madeUp('0.1percent.scattered', 0.001, ALL_WORDS),
    ...[0, 0.1, 1, 10].map(metadata),
    ...WORKLOADS.map(recorded),
  ];
}

/**
 * CPU and device take turns, each on pages of its own; a part of the accesses is to any of the shared pages, which is at the other one. Beforehand both have been at all pages, the CPU at last at every second
 * of the shared ones: no page of the host's memory is touched for the first time while the clock runs.
 */
function turns({ accesses, sharedPages }: Size, faults: number, words: number): Program {
  const below = randomBelow(SEED);
  const where = new Uint8Array(sharedPages).fill(1);
  const warmUp = new Lines(2 * (HOT_PAGES + sharedPages) + sharedPages / 2 + BATCH + 3);
  for (const side of [0, 1]) {
    warmUp.side(side);
    for (let page = 0; page < HOT_PAGES; page++) warmUp.access(true, side * HOT_PAGES + page, 0);
    for (let page = 0; page < sharedPages; page++) warmUp.access(true, 2 * HOT_PAGES + page, 8);
  }
  warmUp.side(0);
  for (let page = 0; page < sharedPages; page += 2) {
    warmUp.access(true, 2 * HOT_PAGES + page, 16);
    where[page] = 0;
  }
  for (let i = 0; i < BATCH; i++) warmUp.access(false, i % HOT_PAGES, 0);
  const body = new Lines(accesses + Math.ceil(accesses / TURN));
  for (let i = 0; i < accesses; i++) {
    const side = Math.floor(i / TURN) % 2;
    if (i % TURN === 0) body.side(side);
    let page = side * HOT_PAGES + below(HOT_PAGES);
    if (below(100_000) < faults * 100_000) {
      page = below(sharedPages);
      // One that is here already is looked past.
      for (let tries = 0; where[page] === side && tries < 8; tries++) page = below(sharedPages);
      where[page] = side;
      page += 2 * HOT_PAGES;
    }
    // A word is written and read: what a load comes to is seldom what was there at the beginning.
    body.access(i % 4 === 0, page, ((i >>> 2) % words) * 8);
  }
  return { name: `${faults * 100} % faults`, warmUp: warmUp.text, text: body.text, offload: [{ start: 0x1000, end: 0x1004 }] };
}

/** Lackey's lines, written byte by byte: millions of them. */
class Lines {
  static readonly #bytes = 14;
  readonly text: Uint8Array;
  #at = 0;

  constructor(count: number) {
    this.text = new Uint8Array(count * Lines.#bytes);
  }

  /** An instruction of the CPU (0) or of the device (1). */
  side(side: number): void {
    this.#line('I  ', side === 1 ? 0x1000 : 0x2000, ',4\n');
  }

  /** A store, or a load, of 8 bytes. */
  access(store: boolean, page: number, offset: number): void {
    this.#line(store ? ' S ' : ' L ', 0x10000000 + page * 4096 + offset, ',8\n');
  }

  #line(before: string, address: number, behind: string): void {
    const { text } = this;
    for (let i = 0; i < 3; i++) text[this.#at++] = before.charCodeAt(i);
    for (let shift = 28; shift >= 0; shift -= 4) {
      const digit = (address >>> shift) & 15;
      text[this.#at++] = digit < 10 ? 0x30 + digit : 0x57 + digit;
    }
    for (let i = 0; i < 3; i++) text[this.#at++] = behind.charCodeAt(i);
  }
}

/** The accesses of a text, two words each. */
function parsed(text: Uint8Array, offload: readonly OffloadRange[]): Uint32Array {
  const accesses = new Uint32Array(text.length / 2);
  return accesses.subarray(0, 2 * parseBytes(text, offload, accesses));
}

interface Counts {
  readonly cpu: number;
  readonly device: number;
  readonly reads: number;
  readonly writes: number;
}

/** On a fresh machine each time, its device memory ample. The clock stands still until what warms the machine has been read: at most the last batch of it is timed. */
function onMachine({ name, warmUp, text, offload }: Program, bytesIn: 'backed' | 'metadata' = 'backed'): Contender {
  const preset = presets[PRESET_DEFAULT]!;
  let counts: Counts | undefined;
  const ms = async (): Promise<number> => {
    let runs = false;
    const source = function* (): Generator<Uint8Array> {
      if (warmUp) yield warmUp;
      runs = true;
      yield text;
    };
    const now = (): number => (runs ? performance.now() : 0);
    const options = { name, offload, preset, driver: nouveau({ vram: 512 * MiB }), dram: 512 * MiB, bytesIn, lanes: LANES, seed: SEED };
    const { accesses, host } = await replayTrace(source(), { ...options, now });
    const { cpu, device, read: reads, write: writes } = accesses;
    counts = { cpu, device, reads, writes };
    return ((cpu + device) / host.accessesPerSecond) * 1e3;
  };
  return { run: new Timed(ms), checksum: () => folded(counts!) };
}

function onPlainMemory({ warmUp, text, offload }: Program): Contender {
  const before = warmUp ? parsed(warmUp, offload) : new Uint32Array(0);
  const accesses = parsed(text, offload);
  let memory = new PlainMemory();
  return {
    reset: () => {
      memory = new PlainMemory();
      memory.run(before, before.length / 2, SEED);
    },
    run: () => memory.run(accesses, accesses.length / 2, SEED),
    checksum: () => folded(memory),
  };
}

function folded({ cpu, device, reads, writes }: Counts): number {
  if (cpu + device !== reads + writes) throw new Error(`${cpu} + ${device} accesses, but ${reads} + ${writes} reads and writes`);
  return cpu * 2 ** 26 + reads;
}

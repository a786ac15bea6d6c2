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
  /** Accesses of a made-up program. */
  readonly accesses: number;
}

const FULL: Size = { textBytes: Infinity, accesses: 1 << 20 };

const LANES = 32;
const SEED = 7;

/** Accesses of one side before the other one's turn: half a job of the device. */
const TURN = 1 << 15;
/** Pages that a side has for itself, and those that go to and fro, 256 MiB. */
const HOT_PAGES = 512;
const SHARED_PAGES = 1 << 16;

/** A program: lackey's lines, and what of it is the device's. */
interface Program {
  readonly name: string;
  readonly text: Uint8Array;
  readonly offload: readonly OffloadRange[];
}

export function rows({ textBytes, accesses }: Size = FULL): Row[] {
  const row = (name: string, program: () => Program, goal?: { readonly least: number }): Row => ({
    name,
    unit: 'M/s',
    get items() {
      return parsed(program()).length / 2;
    },
    ours: () => onMachine(program()),
    peers: [{ name: 'plain memory', contender: () => onPlainMemory(parsed(program())) }],
    ...(goal ? { goal } : {}),
  });
  return [
    row('replay.0.1percent', () => turns(accesses, 0.001), { least: 120 }),
    row('replay.1percent', () => turns(accesses, 0.01), { least: 50 }),
    row('replay.10percent', () => turns(accesses, 0.1), { least: 9 }),
    ...WORKLOADS.map((name) => row(`replay.${name}`, () => workload(name, textBytes))),
  ];
}

/** CPU and device take turns, each on pages of its own; a part of the accesses is to any of the shared pages, which is at the other one, or nowhere yet. */
function turns(accesses: number, faults: number): Program {
  const below = randomBelow(SEED);
  const where = new Uint8Array(SHARED_PAGES);
  const lines: string[] = [];
  for (let i = 0; i < accesses; i++) {
    const side = Math.floor(i / TURN) % 2;
    if (i % TURN === 0) lines.push(`I  ${side === 1 ? '00001000' : '00002000'},4`);
    let page = side * HOT_PAGES + below(HOT_PAGES);
    if (below(100_000) < faults * 100_000) {
      page = below(SHARED_PAGES);
      // One that is here already is looked past.
      for (let tries = 0; where[page] === side + 1 && tries < 8; tries++) page = below(SHARED_PAGES);
      where[page] = side + 1;
      page += 2 * HOT_PAGES;
    }
    lines.push(` ${i % 4 === 0 ? 'S' : 'L'} ${(0x10000000 + page * 4096 + (i % 500) * 8).toString(16)},8`);
  }
  return {
    name: `${faults * 100} % faults`,
    text: new TextEncoder().encode(`${lines.join('\n')}\n`),
    offload: [{ start: 0x1000, end: 0x1004 }],
  };
}

/** The accesses of a program, two words each. */
function parsed({ text, offload }: Program): Uint32Array {
  const accesses = new Uint32Array(text.length / 2);
  return accesses.subarray(0, 2 * parseBytes(text, offload, accesses));
}

interface Counts {
  readonly cpu: number;
  readonly device: number;
  readonly reads: number;
  readonly writes: number;
}

/** On a fresh machine each time, its device memory ample. */
function onMachine({ name, text, offload }: Program): Contender {
  const preset = presets[PRESET_DEFAULT]!;
  let counts: Counts | undefined;
  const ms = async (): Promise<number> => {
    const options = { name, offload, preset, driver: nouveau({ vram: 512 * MiB }), dram: 512 * MiB, lanes: LANES, seed: SEED };
    const { accesses, host } = await replayTrace([text], { ...options, now: () => performance.now() });
    const { cpu, device, read: reads, write: writes } = accesses;
    counts = { cpu, device, reads, writes };
    return ((cpu + device) / host.accessesPerSecond) * 1e3;
  };
  return { run: new Timed(ms), checksum: () => folded(counts!) };
}

function onPlainMemory(accesses: Uint32Array): Contender {
  let memory = new PlainMemory();
  return {
    reset: () => (memory = new PlainMemory()),
    run: () => memory.run(accesses, accesses.length / 2, SEED),
    checksum: () => folded(memory),
  };
}

function folded({ cpu, device, reads, writes }: Counts): number {
  if (cpu + device !== reads + writes) throw new Error(`${cpu} + ${device} accesses, but ${reads} + ${writes} reads and writes`);
  return cpu * 2 ** 26 + reads;
}

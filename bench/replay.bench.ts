/**
 * The main job: the recorded programs, replayed. Only the replay itself is timed (it says how long it took), not the reading of the text; every load is
 * checked by the replay, so that what is compared here are the counts.
 */
import { MiB } from 'farfault';
import nouveau from 'farfault/drivers/nouveau';
import { PRESET_DEFAULT, presets, replayTrace } from 'farfault/replay';
import { type Contender, type Row, Timed } from './harness.ts';
import { parseBytes } from './peers/lackey-text.ts';
import { PlainMemory } from './peers/plain-memory.ts';
import { type Workload, workload, WORKLOADS } from './workload.ts';

export interface Size {
  /** Bytes of each recording's text that are replayed, from its start. */
  readonly textBytes: number;
}

const FULL: Size = { textBytes: Infinity };

const LANES = 32;
const SEED = 7;

export function* rows({ textBytes }: Size = FULL): Generator<Row> {
  for (const name of WORKLOADS) {
    const recorded = workload(name, textBytes);
    const accesses = new Uint32Array(recorded.text.length / 2);
    const n = parseBytes(recorded.text, recorded.offload, accesses);
    yield {
      name: `replay ${name}`,
      unit: 'M/s',
      items: n,
      ours: onMachine(recorded),
      peer: onPlainMemory(accesses, n),
      against: 'the accesses alone, plain memory',
    };
  }
}

interface Counts {
  readonly cpu: number;
  readonly device: number;
  readonly reads: number;
  readonly writes: number;
}

/** On a fresh machine each time, its device memory ample. */
function onMachine({ name, text, offload }: Workload): Contender {
  const preset = presets[PRESET_DEFAULT]!;
  let counts: Counts | undefined;
  const ms = async (): Promise<number> => {
    const options = { name, offload, preset, driver: nouveau({ vram: 64 * MiB }), dram: 64 * MiB, lanes: LANES, seed: SEED };
    const { accesses, host } = await replayTrace([text], { ...options, now: () => performance.now() });
    const { cpu, device, read: reads, write: writes } = accesses;
    counts = { cpu, device, reads, writes };
    return ((cpu + device) / host.accessesPerSecond) * 1e3;
  };
  return { run: new Timed(ms), checksum: () => folded(counts!) };
}

function onPlainMemory(accesses: Uint32Array, n: number): Contender {
  let memory = new PlainMemory();
  return {
    reset: () => (memory = new PlainMemory()),
    run: () => memory.run(accesses, n, SEED),
    checksum: () => folded(memory),
  };
}

function folded({ cpu, device, reads, writes }: Counts): number {
  if (cpu + device !== reads + writes) throw new Error(`${cpu} + ${device} accesses, but ${reads} + ${writes} reads and writes`);
  return cpu * 2 ** 26 + reads;
}

/** Feeds lackey text, plain or gzip, to a replay: for tests that look at the machine afterwards. */
import { createReplay, type Replay, type ReplaySetup } from '../../sdk/replay/replay.ts';
import { TraceReader } from '../../sdk/replay/trace.ts';

export interface Offload {
  readonly start: number;
  readonly end: number;
}

/** Replays a trace that is in memory as a whole; undefined ranges: every access is the device's. */
export async function replayText(text: Uint8Array, setup: ReplaySetup, offload: readonly Offload[] | undefined): Promise<Replay> {
  const replay = await createReplay(setup);
  const reader = new TraceReader(replay.core, { name: 'test', offload: offload ?? [] });
  for await (const batch of reader.batches([text])) replay.run(batch.count);
  return replay;
}

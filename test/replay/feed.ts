/** Feeds lackey text to a replay without a reader: for tests that compare with the model. */
import * as L from '../../assembly/layout.ts';
import { createReplay, type Replay, type ReplaySetup } from '../../sdk/replay/replay.ts';

export interface Offload {
  readonly start: number;
  readonly end: number;
}

/** Replays text that is in memory as a whole; undefined ranges: every access is the device's. */
export async function replayText(text: Uint8Array, setup: ReplaySetup, offload: readonly Offload[] | undefined): Promise<Replay> {
  const replay = await createReplay(setup);
  const { core } = replay;
  core.setHeader(L.LACKEY_RANGES, offload?.length ?? 0);
  let at = 0;
  for (;;) {
    const ranges = core.words(L.AREA_LIST, (offload?.length ?? 0) * 4);
    offload?.forEach(({ start, end }, i) => ranges.set([start >>> 0, start / 2 ** 32, end >>> 0, end / 2 ** 32], i * 4));
    const length = Math.min(text.length - at, L.AREA_BYTES_LENGTH - 1);
    const last = at + length === text.length;
    core.u8.set(text.subarray(at, at + length), core.area(L.AREA_BYTES));
    const count = core.exports.lackeyParse(core.area(L.AREA_BYTES), length, replay.target, replay.room, last ? 1 : 0);
    const { stopReason } = core;
    if (stopReason === L.STOP_LINE) throw new Error(`line ${core.header(L.LACKEY_LINES) + 1}`);
    at += core.header(L.LACKEY_CONSUMED);
    const ended = last && stopReason === L.STOP_NONE;
    replay.run(count, ended);
    if (ended) return replay;
  }
}

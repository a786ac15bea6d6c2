/**
 * The verb of this folder: a trace in, a report out. A `Replay` does the work, batch by batch.
 */
import * as L from '../../assembly/layout.ts';
import { fail } from '../errors.ts';
import type { ByteSource } from './gzip.ts';
import { checkReplayOptions, type ReplayOptions } from './replay-options.ts';
import { createReplay } from './replay.ts';
import type { ReplayReport } from './report.ts';
import { requireSource } from './source.ts';
import { TimelineWriter } from './timeline.ts';
import { reportOf } from './totals.ts';
import { TraceReader } from './trace.ts';

/**
 * Replays a trace (lackey's text, plain or gzip) on a fresh machine and reports what happened. The same trace and options give the same report, `host` apart, in every host.
 *
 * Errors: EILSEQ for a malformed trace (with the line), ENOMEM when host memory is exhausted or the memories do not fit, EIO when a load observes wrong data, EINVAL for bad options,
 * EAGAIN when `signal` was aborted.
 */
export async function replayTrace(source: ByteSource, options: ReplayOptions): Promise<ReplayReport> {
  requireSource('replayTrace.source', source);
  checkReplayOptions(options);
  const { name, driver, dram, lanes, offload, further = [], link, swap, bytesIn = 'backed', pageBytes = L.PAGE_BYTES } = options;
  const { victims, duplicate, seed = 0, preset, timeline, onProgress, signal, now = () => 0 } = options;
  const began = now();
  const replay = await createReplay({ driver, further, link, dram, swap, bytesIn, pageBytes, victims, duplicate, lanes, seed });
  const writer = timeline && new TimelineWriter(replay.machine, { write: timeline, preset, name }, () => replay.progress);
  try {
    const reader = new TraceReader(replay.core, { name, offload, further: further.map((each) => each.offload), onProgress });
    let replayMs = 0;
    for await (const { count } of reader.batches(source)) {
      if (signal?.aborted) throw fail('EAGAIN', 'replay', name, 'was interrupted');
      const start = now();
      replay.run(count);
      replayMs += now() - start;
    }
    writer?.end();
    return reportOf(replay, options, reader, { wallMs: now() - began, replayMs });
  } finally {
    replay.machine.close();
  }
}

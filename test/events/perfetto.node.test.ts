import { describe, expect, test } from 'vitest';
import { MiB } from 'farfault';
import nouveau from 'farfault/drivers/nouveau';
import { presets, type ReplayReport, replayTrace } from 'farfault/replay';
import { TraceProcessor } from './perfetto.ts';
import { HAND_TRACES } from './traces.ts';

const PAGE = 4096;

interface TraceEvent {
  readonly name: string;
  readonly ph: string;
  readonly ts: number;
  readonly dur?: number;
  readonly pid: number;
  readonly tid: number;
  readonly args: Record<string, unknown>;
}

/** A timeline as it is written to a file, and what Perfetto makes of it. */
async function opened(trace: string): Promise<{ report: ReplayReport; events: readonly TraceEvent[]; perfetto: TraceProcessor }> {
  let text = '';
  const report = await replayTrace([new TextEncoder().encode(trace)], {
    name: 'x.trace',
    driver: nouveau({ vram: 16 * PAGE, granule: PAGE }),
    dram: 4 * MiB,
    lanes: 4,
    preset: presets['uvmsmart-1080ti']!,
    offload: [{ start: 0x1000, end: 0x1100 }],
    timeline: (piece) => (text += piece),
  });
  const { traceEvents } = JSON.parse(text) as { traceEvents: TraceEvent[] };
  return { report, events: traceEvents, perfetto: await TraceProcessor.open(new TextEncoder().encode(text)) };
}

describe('Perfetto opens a timeline', () => {
  test.each(Object.keys(HAND_TRACES))('without a complaint, and with all that is in it: %s', async (name) => {
    const { events, perfetto } = await opened(HAND_TRACES[name]!);
    expect(perfetto.query("select name, value from stats where value > 0 and severity != 'info'")).toEqual([]);
    const begun = events.filter(({ ph }) => 'XBi'.includes(ph));
    const counts = new Map<string, number>();
    for (const each of begun) counts.set(each.name, (counts.get(each.name) ?? 0) + 1);
    const read = perfetto.query('select name, count(*) as n from slice group by name');
    expect(new Map(read.map((row) => [row['name'], row['n']]))).toEqual(counts);
    // A slice that Perfetto could not close has no length.
    expect(perfetto.query('select count(*) as open from slice where dur < 0')).toEqual([{ open: 0 }]);
    expect(perfetto.query('select count(*) as n from counter')).toEqual([
      { n: events.filter(({ ph }) => ph === 'C').reduce((n, { args }) => n + Object.keys(args).length, 0) },
    ]);
  });

  test('with times in nanoseconds that are those of the report', async () => {
    const { report, perfetto } = await opened(HAND_TRACES['thrash']!);
    const [{ end } = { end: null }] = perfetto.query('select max(ts + dur) as end from slice');
    // Perfetto cuts ts and dur to whole nanoseconds each.
    expect(Math.abs(Number(end) - report.modelledNs)).toBeLessThanOrEqual(2);
  });

  test('with a track for the CPU, each lane, the jobs, the notifiers and the link, and a counter for each node and the buffer', async () => {
    const { perfetto } = await opened(HAND_TRACES['there and back']!);
    expect(
      perfetto.query(
        'select process.name as process, thread.name as thread from thread join process using (upid) where thread.name is not null order by 1, 2',
      ),
    ).toEqual([
      { process: 'CPU', thread: 'CPU' },
      { process: 'links', thread: 'dram <-> nouveau.vram' },
      { process: 'nouveau', thread: 'jobs' },
      { process: 'nouveau', thread: 'lane 0' },
      { process: 'nouveau', thread: 'lane 1' },
      { process: 'nouveau', thread: 'lane 2' },
      { process: 'nouveau', thread: 'lane 3' },
      { process: 'nouveau', thread: 'notifier' },
    ]);
    expect(
      perfetto.query(
        'select process.name as process, process_counter_track.name as counter from process_counter_track join process using (upid) order by 1, 2',
      ),
    ).toEqual([
      { process: 'memory', counter: 'frames of dram used' },
      { process: 'memory', counter: 'frames of nouveau.vram used' },
      { process: 'nouveau', counter: 'fault buffer records' },
    ]);
  });
});

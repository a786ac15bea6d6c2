import { describe, expect, test } from 'vitest';
import { createMachineSync, MiB } from 'farfault';
import mirror from 'farfault/drivers/mirror';
import nouveau from 'farfault/drivers/nouveau';
import { type Preset, presets, type ReplayReport, replayTrace, timeline } from 'farfault/replay';
import { HAND_TRACES } from './traces.ts';
import { Probe } from '../machine/probe.ts';

const PAGE = 4096;

interface TraceEvent {
  readonly name: string;
  readonly ph: string;
  readonly cat?: string;
  readonly ts?: number;
  readonly dur?: number;
  readonly pid: number;
  readonly tid: number;
  readonly s?: string;
  readonly args: Record<string, unknown>;
}

interface TraceFile {
  readonly otherData: Record<string, string>;
  readonly traceEvents: readonly TraceEvent[];
}

/** What the format asks of every file, whatever is in it. Thousands of records: the rule is only spelt out for one that breaks it. */
function expectWellFormed({ traceEvents }: TraceFile): void {
  const ends = new Map<number, number[]>();
  const last = new Map<string, number>();
  const processes = new Set<number>();
  const threads = new Set<number>();
  for (const event of traceEvents) {
    const { name, ph, ts = -1, dur = -1, pid, tid, args } = event;
    const must = (holds: boolean, rule: string): void => {
      if (!holds) expect.fail(`${rule}: ${JSON.stringify(event)}`);
    };
    must(typeof name === 'string' && Number.isInteger(pid), 'a name and a process');
    if (ph === 'M') {
      if (name === 'process_name') processes.add(pid);
      if (name === 'thread_name') threads.add(tid);
      must(typeof args['name'] === 'string' || typeof args['sort_index'] === 'number', 'a name or an index');
      continue;
    }
    must(ts >= 0, 'a time');
    must(processes.has(pid), 'its process has a name');
    const track = ph === 'C' ? `${pid} ${name}` : `${tid}`;
    must(ts >= (last.get(track) ?? 0), 'sorted on its track');
    last.set(track, ts);
    if (ph === 'C') {
      must(
        Object.values(args).every((value) => typeof value === 'number' && value >= 0),
        'a counter has numbers',
      );
      continue;
    }
    must(threads.has(tid), 'its thread has a name');
    // Slices of a thread nest: what begins inside of one ends inside of it. Times are thousandths: compared as nanoseconds.
    const open = ends.get(tid) ?? [];
    ends.set(tid, open);
    const start = Math.round(ts * 1000);
    while (open.length > 0 && open.at(-1)! <= start) open.pop();
    switch (ph) {
      case 'X': {
        const end = start + Math.round(dur * 1000);
        must(dur >= 0 && open.every((outer) => outer >= end), 'nests');
        open.push(end);
        break;
      }
      case 'B':
        open.push(Infinity);
        break;
      case 'E':
        must(open.pop() === Infinity, 'ends what has begun');
        break;
      default:
        must(ph === 'i' && event.s === 't', 'an instant of a thread');
    }
  }
  expect([...ends.values()].flat().filter((end) => end === Infinity)).toEqual([]);
}

async function replayed(
  text: string,
  options: Partial<Parameters<typeof replayTrace>[1]> = {},
): Promise<{ report: ReplayReport; file: TraceFile }> {
  let written = '';
  const report = await replayTrace([new TextEncoder().encode(text)], {
    name: 'x.trace',
    driver: nouveau({ vram: 64 * PAGE, granule: 16 * PAGE }),
    dram: 4 * MiB,
    lanes: 4,
    preset: presets['uvmsmart-1080ti']!,
    offload: [{ start: 0x1000, end: 0x1100 }],
    timeline: (piece) => (written += piece),
    ...options,
  });
  const file = JSON.parse(written) as TraceFile;
  expectWellFormed(file);
  return { report, file };
}

const sum = (events: readonly TraceEvent[], value: (event: TraceEvent) => number): number =>
  events.reduce((total, each) => total + value(each), 0);
const ns = (event: TraceEvent): number => Math.round((event.dur ?? 0) * 1000);
const slices = (file: TraceFile, cat: string): TraceEvent[] => file.traceEvents.filter((each) => each.ph === 'X' && each.cat === cat);

describe('the timeline of a replay', () => {
  test.each(Object.keys(HAND_TRACES))('adds up to the report, part by part: %s', async (name) => {
    for (const preset of Object.values(presets) as Preset[]) {
      const { report, file } = await replayed(HAND_TRACES[name]!, { preset, driver: nouveau({ vram: 16 * PAGE, granule: PAGE }) });
      const { detail } = report;
      expect(sum(slices(file, 'access'), ns)).toBe(detail.modelledParts.access + detail.modelledParts.walk);
      expect(sum(slices(file, 'fault'), ns)).toBe(detail.modelledParts.cpuFault);
      expect(sum(slices(file, 'invalidation'), ns)).toBe(detail.modelledParts.invalidation);
      expect(sum(slices(file, 'toDevice'), ns)).toBe(detail.modelledParts.toDevice);
      expect(sum(slices(file, 'toHost'), ns)).toBe(detail.modelledParts.toHost);
      // Nothing overlaps: the last thing ends when all parts are over.
      const end = Math.max(...file.traceEvents.map((each) => Math.round((each.ts ?? 0) * 1000) + ns(each)));
      expect(end).toBe(report.modelledNs);
    }
  });

  test.each(Object.keys(HAND_TRACES))('counts what the report counts: %s', async (name) => {
    const { report, file } = await replayed(HAND_TRACES[name]!);
    const { traceEvents } = file;
    expect(slices(file, 'fault').length).toBe(report.faults.cpu);
    expect(slices(file, 'invalidation').length).toBe(report.invalidations);
    expect(traceEvents.filter((each) => each.ph === 'B' && each.name === 'batch').length).toBe(report.detail.batches);
    expect(traceEvents.filter((each) => each.cat === 'eviction').length).toBe(report.evictions);
    for (const [from, to] of [
      ['dram', 'nouveau.vram'],
      ['nouveau.vram', 'dram'],
    ] as const) {
      const copies = [...slices(file, 'toDevice'), ...slices(file, 'toHost')].filter(
        ({ args }) => args['from'] === from && args['to'] === to,
      );
      expect(sum(copies, ({ args }) => args['pages'] as number)).toBe(report.migrated[from]![to]!.pages);
    }
    // The buffer: what came in, batch by batch, and nothing is left in it.
    const buffer = traceEvents
      .filter((each) => each.ph === 'C' && each.name === 'fault buffer')
      .map(({ args }) => args['records'] as number);
    expect(buffer.reduce((total, each) => total + each, 0)).toBe(report.detail.recorded);
    if (buffer.length > 0) expect(buffer.at(-1)).toBe(0);
    for (const [node, { peak }] of Object.entries(report.frames)) {
      const counts = traceEvents
        .filter((each) => each.ph === 'C' && each.name === `frames of ${node}`)
        .map(({ args }) => args['used'] as number);
      expect(counts[0]).toBe(0);
      expect(Math.max(...counts)).toBeLessThanOrEqual(peak);
      expect(new Set(counts).size).toBeGreaterThan(1);
    }
  });

  test('has a track for the CPU, each lane that stalled, and the link, with names', async () => {
    const { file } = await replayed(HAND_TRACES['there and back']!);
    const names = (kind: string): unknown[] => file.traceEvents.filter(({ name }) => name === kind).map(({ args }) => args['name']);
    expect(names('process_name')).toEqual(['CPU', 'memory', 'nouveau', 'links']);
    expect(names('thread_name').sort()).toEqual(
      ['CPU', 'dram <-> nouveau.vram', 'jobs', 'lane 0', 'lane 1', 'lane 2', 'lane 3', 'notifier'].sort(),
    );
    const stalled = file.traceEvents.filter((each) => each.cat === 'stall');
    expect(stalled.map(({ name, args }) => [name, args['pages']])).toEqual([
      ['stalled: read 0x10000', ['0x10000']],
      ['stalled: read 0x11000', ['0x11000', '0x12000']],
      ['stalled: write 0x11000', ['0x11000', '0x12000']],
      ['stalled: write 0x12000', ['0x12000']],
    ]);
    expect(stalled.every((each) => each.dur! > 45)).toBe(true);
    expect(file.otherData).toMatchObject({ name: 'x.trace', preset: 'uvmsmart-1080ti' });
  });

  test('does not change the report', async () => {
    for (const text of Object.values(HAND_TRACES)) {
      const { report } = await replayed(text);
      const alone = await replayTrace([new TextEncoder().encode(text)], {
        name: 'x.trace',
        driver: nouveau({ vram: 64 * PAGE, granule: 16 * PAGE }),
        dram: 4 * MiB,
        lanes: 4,
        preset: presets['uvmsmart-1080ti']!,
        offload: [{ start: 0x1000, end: 0x1100 }],
      });
      expect(report).toEqual(alone);
    }
  });

  test('comes in pieces of bounded length, and a writer that fails ends the replay', async () => {
    const pieces: number[] = [];
    const text = HAND_TRACES['thrash']!;
    let whole = '';
    const options = {
      name: 'x',
      driver: nouveau({ vram: 4 * PAGE, granule: PAGE }),
      dram: 4 * MiB,
      lanes: 4,
      preset: presets['uvmsmart-1080ti']!,
      offload: [{ start: 0x1000, end: 0x1100 }],
    };
    const timelineOf = (piece: string): void => {
      pieces.push(piece.length);
      whole += piece;
    };
    await replayTrace([new TextEncoder().encode(text)], { ...options, timeline: timelineOf });
    expect(pieces.length).toBeGreaterThan(3);
    expect(Math.max(...pieces)).toBeLessThan(70_000);
    expectWellFormed(JSON.parse(whole) as TraceFile);
    let calls = 0;
    const failing = (): void => {
      calls++;
      throw new Error('no space is left');
    };
    const driver = nouveau({ vram: 4 * PAGE, granule: PAGE });
    await expect(replayTrace([new TextEncoder().encode(text)], { ...options, driver, timeline: failing })).rejects.toThrow(
      'no space is left',
    );
    expect(calls).toBe(1);
  });
});

describe('the timeline of any machine', () => {
  test('of two devices that are used by hand, with what fails on the way', () => {
    const machine = createMachineSync({ dram: 1 * MiB, deviceMemory: 1 * MiB, tablePages: 512 });
    const space = machine.createAddressSpace();
    let written = '';
    const line = timeline(machine, { write: (text) => (written += text) });
    const gpu = space.attach(machine.addDevice(new Probe({ name: 'gpu', pages: 4, faultEntries: 3 }).driver));
    const nic = space.attach(machine.addDevice(mirror()));
    const range = space.mmap({ bytes: 8 * PAGE });
    space.write(range.start, new Uint8Array(6 * PAGE).fill(1));
    const accesses = Array.from({ length: 12 }, (_, i) => ({
      op: 'write' as const,
      addr: range.start + (i % 9) * PAGE,
      bytes: 2,
      value: i,
    }));
    gpu.submit({ accesses, lanes: 6 });
    nic.submit({ accesses: accesses.slice(0, 4), lanes: 2 });
    gpu.read(range.start, 3 * PAGE);
    expect(() => gpu.write(range.end, Uint8Array.of(1))).toThrow('is not mapped');
    gpu.migrate(range, { to: 'host' });
    gpu.detach();
    const { ns: length } = line;
    line.end();
    line.end();
    space.write(range.start, Uint8Array.of(1));
    expect(line.ns).toBe(length);
    const file = JSON.parse(written) as TraceFile;
    expectWellFormed(file);
    const processes = file.traceEvents.filter(({ name }) => name === 'process_name').map(({ args }) => args['name']);
    expect(processes.sort()).toEqual(['CPU', 'gpu', 'links', 'memory', 'mirror']);
    for (const each of ['fault.cancelled', 'buffer.overflowed', 'context.detached'])
      expect(
        file.traceEvents.some(({ name }) => name === each),
        each,
      ).toBe(true);
    machine.close();
  });

  test('of one that is closed before the timeline ends, or whose job breaks off', () => {
    const machine = createMachineSync({ dram: 16 * PAGE, deviceMemory: 1 * MiB, tablePages: 512 });
    let written = '';
    const line = timeline(machine, { write: (text) => (written += text), name: 'broken off' });
    const space = machine.createAddressSpace();
    const nic = space.attach(machine.addDevice(mirror()));
    const range = space.mmap({ bytes: 64 * PAGE });
    const accesses = Array.from({ length: 64 }, (_, i) => ({ op: 'write' as const, addr: range.start + i * PAGE, bytes: 8, value: i }));
    expect(() => nic.submit({ accesses, lanes: 64 })).toThrow('exhausted');
    machine.close();
    line.end();
    const file = JSON.parse(written) as TraceFile;
    expectWellFormed(file);
    expect(file.traceEvents.filter(({ ph }) => ph === 'B').length).toBe(2);
    expect(file.traceEvents.some(({ name, args }) => name === 'fault.fatal' && args['reason'] === 'no memory')).toBe(true);
  });

  test('wants a machine that is open, and a function to write with', () => {
    const machine = createMachineSync({ dram: 16 * PAGE, tablePages: 64 });
    expect(() => timeline(machine, {} as never)).toThrow('timeline.write');
    expect(() => timeline(machine, undefined as never)).toThrow('timeline options');
    expect(() => timeline({} as never, { write: () => undefined })).toThrow('timeline.machine');
    expect(() => timeline(machine, { write: () => undefined, preset: 'x' as never })).toThrow('timeline.preset');
    expect(() => timeline(machine, { write: () => undefined, name: 1 as never })).toThrow('timeline.name');
    expect(machine.platform.events.heard).toBe(false);
    machine.close();
    expect(() => timeline(machine, { write: () => undefined })).toThrow('has been closed');
  });
});

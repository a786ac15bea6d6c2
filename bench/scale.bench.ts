/** What things cost when there is more and more of something that they have nothing to do with, and what they cost when there is more to do. */
import { type AddressSpace, createMachineSync, GiB, type Machine, type MachineOptions, MiB } from 'farfault';
import nouveau from 'farfault/drivers/nouveau';
import { PRESET_DEFAULT, presets, replayTrace } from 'farfault/replay';
import * as L from '../assembly/layout.ts';
import { randomBelow } from './random.ts';
import { type Contender, type Growth, type Row, Timed, type Unit } from './row.ts';

export interface Size {
  /** Pages mapped elsewhere; VMAs; notifiers. */
  readonly pages: readonly number[];
  readonly vmas: readonly number[];
  readonly notifiers: readonly number[];
  /** Leaf tables of a space that is forked and ends, all sizes beyond the caches, and how far the fewest are spread, in leaf tables. */
  readonly tables: readonly number[];
  readonly spreads: readonly number[];
  /** Chunks of a memory. */
  readonly chunks: readonly number[];
  /** Accesses of a trace: whole blocks. */
  readonly accesses: readonly number[];
  /** Accesses of a trace that is replayed on machines without bytes, all in all pages, and pages that go to and fro. */
  readonly far: { readonly accesses: number; readonly pages: number };
  /** Faults, unmaps and invalidations in a run. */
  readonly times: number;
}

/** A machine without bytes. */
interface Bodiless {
  readonly dram: number;
  readonly pageBytes: number;
}

const TIB = 1024 * GiB;
const MACHINES: Readonly<Record<string, Bodiless>> = {
  '64GiB': { dram: 64 * GiB, pageBytes: L.PAGE_BYTES },
  '256GiB': { dram: 256 * GiB, pageBytes: L.PAGE_BYTES },
  '1TiB': { dram: TIB, pageBytes: 2 * MiB },
  '16TiB': { dram: 16 * TIB, pageBytes: 2 * MiB },
};
/** What their replays are beside. */
const BESIDE: Bodiless = { dram: 16 * GiB, pageBytes: L.PAGE_BYTES };

const FULL: Size = {
  pages: [2 ** 10, 2 ** 14, 2 ** 18, 2 ** 22, 2 ** 26],
  vmas: [10, 100, 1000, 10_000, 100_000],
  notifiers: [1, 10, 100, 1000, 10_000],
  tables: [1024, 4096, 16_384, 32_768],
  spreads: [1, 16, 256, 4096, 65_536],
  chunks: [8, 32, 128, 256],
  accesses: [2 ** 20, 2 ** 22, 2 ** 24, 2 ** 26],
  far: { accesses: 2 ** 20, pages: 2 ** 16 },
  times: 64,
};

/** A cost that grows logarithmically at most has less than this over such sizes: log 100,000 by log 10 is 5, over four decades 10^(4 x 0.17). */
const LOGARITHMIC = 0.17;
/** What is in proportion, with room for caches that it grows out of. */
const LINEAR = 1.15;

/** Pages of one unmap, and of one invalidation. */
const PAGES = 16;
/** Where the work is done; everything else is elsewhere. */
const HERE = 2 ** 46;
const ELSEWHERE = 2 ** 30;
const LEAF_BYTES = L.PAGE_BYTES << L.HUGE_ORDER;

export function rows(size: Size = FULL): Row[] {
  const { times } = size;
  const elsewhere: readonly [name: string, of: string, amounts: readonly number[], label: (n: number) => string, fill: Fill][] = [
    ['pages', 'mapped elsewhere', size.pages, bytesLabel, mapped],
    ['vmas', 'VMAs', size.vmas, String, vmas],
    ['notifiers', 'notifiers elsewhere', size.notifiers, String, notifiers],
  ];
  const list: Row[] = [];
  const row = (name: string, items: number, growth: Growth, unit: Unit = 'ns'): void => {
    list.push({ name: `scale.${name}`, unit, items, ours: growth.sizes[0]!.make, peers: [], growth });
  };
  for (const [name, of, amounts, label, fill] of elsewhere) {
    for (const [verb, make] of [
      ['fault', faults],
      ['munmap', unmaps],
      ['invalidation', invalidations],
    ] as const) {
      const sizes = amounts.map((amount) => ({ label: label(amount), amount, make: () => make(machineWith(amount, fill), times) }));
      row(`${verb}.${name}`, times, { of, sizes, most: LOGARITHMIC });
    }
  }
  for (const verb of ['fork', 'exit'] as const) {
    row(`${verb}.tables`, 1, {
      of: 'leaf tables',
      sizes: size.tables.map((tables) => ({ label: String(tables), amount: tables, make: () => forks(verb, tables, 1) })),
      most: LINEAR,
    });
    row(`${verb}.range`, 1, {
      of: 'of addresses',
      sizes: size.spreads.map((spread) => ({
        label: bytesLabel(size.tables[0]! * spread * 512),
        amount: spread,
        make: () => forks(verb, size.tables[0]!, spread),
      })),
      most: LOGARITHMIC,
    });
  }
  row('evict.chunks', 1, {
    of: 'chunks resident',
    sizes: size.chunks.map((chunks) => ({ label: String(chunks), amount: chunks, make: () => evictions(chunks) })),
    most: LOGARITHMIC,
  });
  row(
    'trace.memory',
    1,
    {
      of: 'accesses',
      sizes: size.accesses.map((accesses) => ({ label: String(accesses), amount: accesses, make: () => streamed(accesses) })),
      most: 0.02,
    },
    'B',
  );
  for (const [name, machine] of Object.entries(MACHINES)) {
    list.push(
      { name: `scale.machine.create.${name}`, unit: 'ms', items: 1, ours: () => creations(machine), peers: [], goal: { most: 1000 } },
      {
        name: `scale.replay.${name}`,
        unit: 'M/s',
        items: FAR_TIMES * size.far.accesses,
        ours: () => replays(machine, size.far),
        peers: [{ name: 'the same on 16GiB', contender: () => replays(BESIDE, size.far), goal: { ratio: 2 } }],
      },
    );
  }
  return list;
}

function bytesLabel(pages: number): string {
  const mib = pages / 256;
  return mib >= 2 ** 20 ? `${mib / 2 ** 20}TiB` : mib >= 1024 ? `${mib / 1024}GiB` : `${mib}MiB`;
}

/** Fills a space with what is elsewhere. */
type Fill = (machine: Machine, space: AddressSpace, amount: number) => void;

interface World {
  readonly machine: Machine;
  readonly space: AddressSpace;
}

function machineWith(amount: number, fill: Fill): World {
  const options: MachineOptions = { dram: 32 * MiB, deviceMemory: 32 * MiB, tablePages: 8192 + Math.ceil(amount / 512) * 2 };
  const machine = createMachineSync(options);
  const space = machine.createAddressSpace();
  fill(machine, space, amount);
  return { machine, space };
}

/** Pages that were read and never written: the page of zeros is behind all of them, as it is after as many faults. */
function mapped(machine: Machine, space: AddressSpace, pages: number): void {
  const { core } = machine.platform;
  space.mmap({ at: ELSEWHERE, bytes: pages * L.PAGE_BYTES, fixed: true });
  const words = core.words(L.AREA_SOURCE, 2 * L.WORDS_MAX);
  const high = L.KIND_PRESENT | L.ENTRY_ZERO | L.ENTRY_ACCESSED;
  for (let i = 0; i < L.WORDS_MAX; i++) words.set([core.header(L.H_ZERO_FRAME), high], 2 * i);
  for (let done = 0; done < pages; done += L.WORDS_MAX)
    core.exports.rangeMapWords(space.table, ELSEWHERE / L.PAGE_BYTES + done, Math.min(L.WORDS_MAX, pages - done), core.area(L.AREA_SOURCE));
}

function vmas(_machine: Machine, space: AddressSpace, count: number): void {
  for (let i = 0; i < count; i++) space.mmap({ at: ELSEWHERE + 2 * i * L.PAGE_BYTES, bytes: L.PAGE_BYTES, fixed: true });
}

function notifiers(_machine: Machine, space: AddressSpace, count: number): void {
  for (let i = 0; i < count; i++) {
    const start = ELSEWHERE + 2 * i * L.PAGE_BYTES;
    space.subscribe({ start, end: start + L.PAGE_BYTES }, { invalidate: () => true });
  }
}

/** Each of `times` pages is wanted by a device. */
function faults({ machine, space }: World, times: number): Contender {
  const context = space.attach(machine.addDevice(nouveau({ vram: 16 * MiB })));
  const range = space.mmap({ at: HERE, bytes: times * L.PAGE_BYTES, fixed: true });
  space.write(range.start, new Uint8Array(times * L.PAGE_BYTES).fill(1));
  const run = (): void => {
    for (let at = range.start; at < range.end; at += L.PAGE_BYTES) context.fault(at, 'read');
  };
  return {
    reset: () => void context.migrate(range, { to: 'host' }),
    run,
    checksum: () => machine.counters.migratedByCause.fault.pages % times,
  };
}

/** Each of `times` stretches of 16 pages goes. */
function unmaps({ machine, space }: World, times: number): Contender {
  const bytes = PAGES * L.PAGE_BYTES;
  const content = new Uint8Array(bytes).fill(1);
  const starts = Array.from({ length: times }, (_, i) => HERE + 2 * i * bytes);
  const reset = (): void => {
    for (const at of starts) {
      space.mmap({ at, bytes, fixed: true });
      space.write(at, content);
    }
  };
  const run = (): void => {
    for (const start of starts) space.munmap({ start, end: start + bytes });
  };
  return { reset, run, checksum: () => machine.nodes[0]!.used };
}

/** Each of `times` stretches of 16 pages, which a device has, loses its right to write. */
function invalidations({ machine, space }: World, times: number): Contender {
  const context = space.attach(machine.addDevice(nouveau({ vram: 16 * MiB })));
  const bytes = PAGES * L.PAGE_BYTES;
  const starts = Array.from({ length: times }, (_, i) => HERE + 2 * i * bytes);
  for (const at of starts) space.write(space.mmap({ at, bytes, fixed: true }).start, new Uint8Array(bytes).fill(1));
  const reset = (): void => {
    for (const start of starts) {
      space.mprotect({ start, end: start + bytes }, 'rw');
      context.fault(start, 'read');
    }
  };
  const run = (): void => {
    for (const start of starts) space.mprotect({ start, end: start + bytes }, 'r');
  };
  return { reset, run, checksum: () => times };
}

/** A space with a page in each of `tables` leaf tables, every `spread`th leaf table: a child of it comes, or goes. */
function forks(verb: 'fork' | 'exit', tables: number, spread: number): Contender {
  const machine = createMachineSync({ dram: (2 * tables + 256) * L.PAGE_BYTES, deviceMemory: 0, tablePages: 16 * tables + 4096 });
  const space = machine.createAddressSpace();
  const word = Uint8Array.of(1);
  for (let i = 0; i < tables; i++) {
    const at = ELSEWHERE + i * spread * LEAF_BYTES;
    space.mmap({ at, bytes: L.PAGE_BYTES, fixed: true });
    space.write(at, word);
  }
  let child: AddressSpace | undefined;
  const fork = (): void => void (child = space.fork());
  const exit = (): void => {
    child?.close();
    child = undefined;
  };
  const checksum = (): number => machine.nodes[0]!.used;
  if (verb === 'fork') return { reset: exit, run: fork, checksum };
  const reset = (): void => {
    exit();
    fork();
  };
  return { reset, run: exit, checksum };
}

/** A memory that is full: the page that comes makes a chunk go. */
function evictions(chunks: number): Contender {
  const chunk = 512;
  const pages = (chunks + 1) * chunk;
  const machine = createMachineSync({ dram: (pages + 1024) * L.PAGE_BYTES, deviceMemory: chunks * chunk * L.PAGE_BYTES });
  const space = machine.createAddressSpace();
  const context = space.attach(machine.addDevice(nouveau({ vram: chunks * chunk * L.PAGE_BYTES })));
  const range = space.mmap({ at: HERE, bytes: pages * L.PAGE_BYTES, fixed: true });
  for (let at = range.start; at < range.end; at += MiB) space.write(at, new Uint8Array(Math.min(MiB, range.end - at)).fill(1));
  const bytes = chunk * L.PAGE_BYTES;
  context.migrate({ start: range.start, end: range.end - bytes }, { to: 'device' });
  let next = range.end - bytes;
  // What has gone longest is wanted: the rest of its chunk follows, so that the memory is full again.
  const reset = (): void => {
    if (machine.counters.evictions === 0) return;
    context.migrate({ start: next + L.PAGE_BYTES, end: next + bytes }, { to: 'device' });
    next = next + bytes === range.end ? range.start : next + bytes;
  };
  return { reset, run: () => void context.fault(next, 'read'), checksum: () => machine.nodes[1]!.used };
}

/** Accesses of a block of text, half of them the CPU's, and pages that both go to. */
const BLOCK = 2 ** 14;
const TRACE_PAGES = 64;

/** The most memory that a process has had by the end of the replay of a generated trace: it is made, read and forgotten piece by piece. */
function streamed(accesses: number): Contender {
  const below = randomBelow(11);
  const block = (): Uint8Array => {
    const lines: string[] = [];
    for (let i = 0; i < BLOCK; i++) {
      if (i % (BLOCK / 2) === 0) lines.push(`I  ${i === 0 ? '00002000' : '00001000'},4`);
      lines.push(` ${i % 4 === 0 ? 'S' : 'L'} ${(0x10000000 + below(TRACE_PAGES) * L.PAGE_BYTES + (i % 500) * 8).toString(16)},8`);
    }
    return new TextEncoder().encode(`${lines.join('\n')}\n`);
  };
  const blocks = Array.from({ length: 8 }, block);
  function* text(): Generator<Uint8Array> {
    for (let i = 0; i < accesses / BLOCK; i++) yield blocks[i % blocks.length]!;
  }
  const preset = presets[PRESET_DEFAULT]!;
  let done = 0;
  const bytes = async (): Promise<number> => {
    const options = { name: 'generated', offload: [{ start: 0x1000, end: 0x1004 }], preset, dram: 32 * MiB, lanes: 32 };
    const report = await replayTrace(text(), { ...options, driver: nouveau({ vram: 32 * MiB }) });
    done = report.accesses.cpu + report.accesses.device;
    return process.resourceUsage().maxRSS * 1024;
  };
  return { run: new Timed(bytes), checksum: () => done };
}

/** A machine comes. */
function creations(options: Bodiless): Contender {
  let machine: Machine | undefined;
  const run = (): void => void (machine = createMachineSync({ ...options, bytesIn: 'metadata' }));
  return { reset: () => machine?.close(), run, checksum: () => machine!.nodes[0]!.frames };
}

/** Times that a trace is replayed on one machine. A memory of more than 2 GiB makes V8 collect garbage as it comes, and forget compiled code: that is the machine's making, not its rate. */
const FAR_TIMES = 4;
/** Accesses of one side before the other one's turn, and pages that it has for itself. */
const FAR_TURN = 2 ** 15;
const FAR_OWN = 512;

/**
 * CPU and device take turns, each on pages of its own; one access in a hundred is to any of the pages that go to and fro, and those are spread over all addresses that the machine has memory for. With every machine
 * the same pages in the same order, only further apart.
 */
function replays({ dram, pageBytes }: Bodiless, { accesses, pages }: Size['far']): Contender {
  const below = randomBelow(13);
  const where = new Uint8Array(pages);
  const lines: string[] = [];
  for (let i = 0; i < accesses; i++) {
    const side = Math.floor(i / FAR_TURN) % 2;
    if (i % FAR_TURN === 0) lines.push(`I  ${side === 1 ? '00001000' : '00002000'},4`);
    let at = 2 ** 47 + (side * FAR_OWN + below(FAR_OWN)) * pageBytes;
    if (below(100) === 0) {
      let page = below(pages);
      // One that is here already is looked past.
      for (let tries = 0; where[page] === side + 1 && tries < 8; tries++) page = below(pages);
      where[page] = side + 1;
      at = ELSEWHERE + page * (dram / pages);
    }
    lines.push(` ${i % 4 === 0 ? 'S' : 'L'} ${(at + (i % 500) * 8).toString(16)},8`);
  }
  const text = new TextEncoder().encode(`${lines.join('\n')}\n`);
  let done = 0;
  const ms = async (): Promise<number> => {
    const machine = { dram, pageBytes, bytesIn: 'metadata', driver: nouveau({ vram: 2 * pages * L.PAGE_BYTES }) } as const;
    const options = { name: 'far apart', offload: [{ start: 0x1000, end: 0x1004 }], preset: presets[PRESET_DEFAULT]!, lanes: 32 };
    const report = await replayTrace(Array<Uint8Array>(FAR_TIMES).fill(text), { ...machine, ...options, now: () => performance.now() });
    const { cpu, device, read } = report.accesses;
    done = (cpu + device) * 2 ** 24 + read;
    return ((cpu + device) / report.host.accessesPerSecond) * 1e3;
  };
  return { run: new Timed(ms), checksum: () => done };
}

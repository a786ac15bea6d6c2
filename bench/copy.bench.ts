/** Bytes that move: copies inside the core, and the migration of a whole range, beside memcpy in C. */
import { createMachineSync } from 'farfault';
import { defineDriver } from 'farfault/gmem';
import nouveau from 'farfault/drivers/nouveau';
import * as L from '../assembly/layout.ts';
import { PageCopies } from './peers/page-copies.ts';
import { shuffled } from './random.ts';
import type { Contender, Native, Row } from './row.ts';

export interface Size {
  /** Pages copied one after the other that stay within the L2 cache, and how often. */
  readonly hot: number;
  readonly hotTimes: number;
  /** Pages copied one after the other, of so many, at random: in DRAM. */
  readonly cold: number;
  readonly pool: number;
  /** Pages of the range that migrates to the device and back. */
  readonly migrated: number;
}

const FULL: Size = { hot: 64, hotTimes: 16, cold: 8192, pool: 1 << 16, migrated: 1 << 15 };

export function rows({ hot, hotTimes, cold, pool, migrated }: Size = FULL): Row[] {
  const inC = (row: string, ...numbers: number[]): Native => ({ program: 'memory', row, numbers });
  return [
    {
      name: 'copy.page.L2',
      unit: 'ns',
      items: hot * hotTimes,
      ours: () => pageCopy(hot, hot, hotTimes),
      peers: [
        { name: 'memcpy in C', contender: inC('copy.pages', hot, hotTimes), goal: { share: 0.92 } },
        { name: 'copyWithin', contender: () => plainCopy(hot, hot, hotTimes) },
      ],
    },
    {
      name: 'copy.page.DRAM',
      unit: 'ns',
      items: cold,
      ours: () => pageCopy(pool, cold, 1),
      peers: [
        { name: 'memcpy in C', contender: inC('copy.pages', pool, 1, cold), goal: { share: 0.98 } },
        { name: 'copyWithin', contender: () => plainCopy(pool, cold, 1) },
      ],
    },
    {
      name: 'migrate.bulk.DRAM',
      unit: 'ns',
      items: 2 * migrated,
      ours: () => bulkMigration(migrated),
      peers: [{ name: 'memcpy in C', contender: inC('copy.range', migrated, 1), goal: { share: 0.97 } }],
    },
    { name: 'migrate.metadata', unit: 'ns', items: 2 * migrated, ours: () => metadataMigration(migrated), peers: [], goal: { most: 12 } },
  ];
}

/** `pages` of a pool of frames to as many others, in an order of chance; `times` over, so that a run is long enough to be timed. */
function pageCopy(pool: number, pages: number, times: number): Contender {
  const machine = createMachineSync({ dram: 2 * pool * L.PAGE_BYTES, deviceMemory: 0 });
  const { core, host } = machine.platform;
  const sources = shuffled(pool, 1);
  const targets = shuffled(pool, 2);
  const bytes = core.frameBytes(host.base) >>> 2;
  const memory = core.u32.subarray(bytes, bytes + 2 * pool * 1024);
  fill(memory);
  for (let i = 0; i < pages; i++) {
    core.words(L.AREA_SOURCE, pages * 2).set([host.base + sources[i]!, L.MIGRATE_VALID | L.MIGRATE_MOVE], i * 2);
    core.words(L.AREA_TARGET, pages * 2).set([host.base + pool + targets[i]!, L.MIGRATE_VALID], i * 2);
  }
  const [from, to] = [core.area(L.AREA_SOURCE), core.area(L.AREA_TARGET)];
  const run = (): void => {
    for (let i = 0; i < times; i++) core.exports.migrateCopy(from, to, pages);
  };
  return { run, checksum: () => hash(memory) };
}

function plainCopy(pool: number, pages: number, times: number): Contender {
  const plain = new PageCopies(2 * pool);
  fill(plain.words);
  const sources = shuffled(pool, 1).subarray(0, pages);
  const targets = shuffled(pool, 2)
    .map((page) => pool + page)
    .subarray(0, pages);
  const run = (): void => {
    for (let i = 0; i < times; i++) plain.copy(sources, targets);
  };
  return { run, checksum: () => hash(plain.words) };
}

/** The whole verb: notifiers, page locks, reverse maps, the driver's allocator, both tables. The peer only copies. */
function bulkMigration(pages: number): Contender {
  const bytes = pages * L.PAGE_BYTES;
  const machine = createMachineSync({ dram: 2 * bytes, deviceMemory: 2 * bytes });
  const space = machine.createAddressSpace();
  const context = space.attach(machine.addDevice(nouveau({ vram: 2 * bytes })));
  const range = space.mmap({ bytes });
  const words = new Uint32Array(bytes / 4);
  fill(words);
  space.write(range.start, new Uint8Array(words.buffer));
  const run = (): void => {
    const moved = context.migrate(range, { to: 'device' }) + context.migrate(range, { to: 'host' });
    if (moved !== 2 * pages) throw new Error(`${moved} pages moved, of ${2 * pages}`);
  };
  return { run, checksum: () => hash(new Uint32Array(space.read(range.start, bytes).buffer)) };
}

/** A machine without bytes: all of a migration but its copy, and without the zeros that a page from a memory without bytes would come home with. */
const bodiless = defineDriver(({ bytes = L.PAGE_BYTES }: { bytes?: number }) => ({
  name: 'bodiless',
  memory: [{ name: 'memory', kind: 'private', bytes, bytesIn: 'metadata' }],
  attach: () => ({}),
}));

function metadataMigration(pages: number): Contender {
  const bytes = pages * L.PAGE_BYTES;
  const machine = createMachineSync({ dram: 2 * bytes, bytesIn: 'metadata', deviceMemory: 0, bodilessFrames: 2 * pages });
  const space = machine.createAddressSpace();
  const context = space.attach(machine.addDevice(bodiless({ bytes: 2 * bytes })));
  const range = space.mmap({ bytes });
  space.write(range.start, new Uint8Array(bytes));
  let moved = 0;
  const run = (): void => {
    moved = context.migrate(range, { to: 'device' }) + context.migrate(range, { to: 'host' });
    if (moved !== 2 * pages) throw new Error(`${moved} pages moved, of ${2 * pages}`);
  };
  return { run, checksum: () => moved };
}

function fill(words: Uint32Array): void {
  for (let i = 0; i < words.length; i++) words[i] = Math.imul(i, 0x9e3779b1);
}

function hash(words: Uint32Array): number {
  let value = 0;
  for (let i = 0; i < words.length; i++) value = (Math.imul(value, 31) + words[i]!) | 0;
  return value;
}

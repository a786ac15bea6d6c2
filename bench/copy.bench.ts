/** Bytes that move: copies inside the core, and the migration of a whole range, beside a bare `copyWithin`. */
import { createMachineSync } from 'farfault';
import nouveau from 'farfault/drivers/nouveau';
import * as L from '../assembly/layout.ts';
import type { Row } from './harness.ts';
import { PageCopies } from './peers/page-copies.ts';
import { shuffled } from './random.ts';

export interface Size {
  /** Pages copied one after the other: few, within the L2 cache, and many, in DRAM. */
  readonly hot: number;
  readonly cold: number;
  /** Pages of the range that migrates to the device and back. */
  readonly migrated: number;
}

const FULL: Size = { hot: 64, cold: 8192, migrated: 8192 };

const AGAINST = 'copyWithin, page by page';

export function* rows(size: Size = FULL): Generator<Row> {
  yield pageCopy(`page copy in the core, ${size.hot} pages`, size.hot, Math.ceil(1024 / size.hot));
  yield pageCopy(`page copy in the core, ${size.cold} pages at random`, size.cold, 1);
  yield bulkMigration(`bulk migration, ${size.migrated} pages there and back`, size.migrated);
}

/** `pages` frames to as many others, in an order of chance; `times` over, so that a run is long enough to be timed. */
function pageCopy(name: string, pages: number, times: number): Row {
  const machine = createMachineSync({ dram: 2 * pages * L.PAGE_BYTES, deviceMemory: 0 });
  const { core, host } = machine.platform;
  const sources = shuffled(pages, 1);
  const targets = shuffled(pages, 2).map((page) => pages + page);
  const fill = (u32: Uint32Array): void => u32.forEach((_, i) => (u32[i] = Math.imul(i, 0x9e3779b1)));
  const bytes = core.frameBytes(host.base) >>> 2;
  const memory = core.u32.subarray(bytes, bytes + 2 * pages * 1024);
  fill(memory);
  for (let i = 0; i < pages; i++) {
    core.words(L.AREA_SOURCE, pages * 2).set([host.base + sources[i]!, L.MIGRATE_VALID | L.MIGRATE_MOVE], i * 2);
    core.words(L.AREA_TARGET, pages * 2).set([host.base + targets[i]!, L.MIGRATE_VALID], i * 2);
  }
  const plain = new PageCopies(2 * pages);
  fill(plain.words);
  const [from, to] = [core.area(L.AREA_SOURCE), core.area(L.AREA_TARGET)];
  const runOurs = (): void => {
    for (let i = 0; i < times; i++) core.exports.migrateCopy(from, to, pages);
  };
  const runPeer = (): void => {
    for (let i = 0; i < times; i++) plain.copy(sources, targets);
  };
  return {
    name,
    unit: 'ns',
    items: pages * times,
    ours: { run: runOurs, checksum: () => hash(memory) },
    peer: { run: runPeer, checksum: () => hash(plain.words) },
    against: AGAINST,
  };
}

/** The whole verb: notifiers, page locks, reverse maps, the driver's allocator, both tables. The peer only copies. */
function bulkMigration(name: string, pages: number): Row {
  const bytes = pages * L.PAGE_BYTES;
  const machine = createMachineSync({ dram: 2 * bytes, deviceMemory: 2 * bytes });
  const space = machine.createAddressSpace();
  const context = space.attach(machine.addDevice(nouveau({ vram: 2 * bytes })));
  const range = space.mmap({ bytes });
  const words = new Uint32Array(bytes / 4).map((_, i) => Math.imul(i, 0x9e3779b1));
  space.write(range.start, new Uint8Array(words.buffer));
  const plain = new PageCopies(2 * pages);
  plain.words.set(words);
  const [there, back] = [new Uint32Array(pages).map((_, i) => i), new Uint32Array(pages).map((_, i) => pages + i)];
  let moved = 0;
  const runOurs = (): void => {
    moved = context.migrate(range, { to: 'device' }) + context.migrate(range, { to: 'host' });
  };
  const runPeer = (): void => {
    plain.copy(there, back);
    plain.copy(back, there);
  };
  return {
    name,
    unit: 'ns',
    items: 2 * pages,
    ours: { run: runOurs, checksum: () => hash(new Uint32Array(space.read(range.start, bytes).buffer)) + moved },
    peer: { run: runPeer, checksum: () => hash(plain.words.subarray(0, bytes / 4)) + 2 * pages },
    against: AGAINST,
  };
}

function hash(words: Uint32Array): number {
  let value = 0;
  for (let i = 0; i < words.length; i++) value = (Math.imul(value, 31) + words[i]!) | 0;
  return value;
}

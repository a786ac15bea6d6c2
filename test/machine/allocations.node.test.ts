/** Many pages at once leave nothing for each of them on the heap of JavaScript, nor outside of it, but the answer that was asked for. */
import { type AddressRange, type AddressSpace, createMachineSync, type Machine } from 'farfault';
import nouveau from 'farfault/drivers/nouveau';
import { type Context, defineDriver, type Driver } from 'farfault/gmem';
import { describe, expect, test } from 'vitest';
import { HMM_VALID, HMM_WRITE } from 'farfault/mm';
import * as L from '../../assembly/layout.ts';
import { Allocations, arrayBytes } from './allocations.ts';
import { PAGE } from './probe.ts';

const FEW = 1024;
const MANY = 16384;
/** Times that it is done, and looked at. */
const TIMES = 3;
const LOOKS = 2;
/** Measurements that are made again before a path is found to ask for too much. */
const AGAIN_MAX = 4;

const plain = defineDriver(({ pages = 1 }: { pages?: number }) => ({
  name: 'plain',
  memory: [{ name: 'ram', kind: 'private' as const, bytes: pages * PAGE }],
  attach: () => ({}),
}));

/** A device whose memory the machine hands out and whose bytes the core copies; one that does both by itself. */
const DRIVERS = {
  plain: (pages: number) => plain({ pages }),
  nouveau: (pages: number) => nouveau({ vram: pages * PAGE }),
} as const satisfies Record<string, (pages: number) => Driver>;

/** A space with as many pages, and a device whose memory has room for them. */
interface World {
  readonly machine: Machine;
  readonly space: AddressSpace;
  readonly context: Context;
  /** Of `pages` pages, which have bytes. */
  readonly range: AddressRange;
  readonly pages: number;
  /** Of as many bytes as the range has: to be read into, and written. */
  readonly bytes: Uint8Array;
}

interface Path {
  readonly name: string;
  readonly drivers?: readonly (keyof typeof DRIVERS)[];
  /** Makes ready; returns what is done again and again. */
  readonly of: (world: World) => () => void;
  /** Bytes of a page in the array that is returned. */
  readonly answer?: number;
  /** Below how many bytes of heap for a page: an element of an array takes 8, a number that is not small 12. Default 4: V8 compiles when it likes, and that is seen as well. */
  readonly heap?: number;
}

/** Of what a device takes part in. */
const BOTH = ['plain', 'nouveau'] as const;

/** Calls a verb for as many pages as one call takes. */
const PART = 4096;
function eachPart({ range, pages }: World, call: (vpn: number, pages: number) => void): void {
  for (let page = 0; page < pages; page += PART) call(range.start / PAGE + page, Math.min(PART, pages - page));
}

function onDevice({ context, range, pages }: World): void {
  expect(context.migrate(range, { to: 'device' })).toBe(pages);
}

function another({ space, bytes }: World): AddressRange {
  const range = space.mmap({ bytes: bytes.length });
  space.write(range.start, bytes);
  return range;
}

const PATHS: readonly Path[] = [
  {
    name: 'a snapshot, native',
    of:
      ({ space, range }) =>
      () =>
        space.snapshot(range),
    answer: 8,
  },
  {
    name: 'a snapshot, HMM',
    of:
      ({ space, range }) =>
      () =>
        space.snapshotHmm(range),
    answer: 8,
  },
  {
    name: 'a snapshot, extents of neighbouring frames',
    of:
      ({ space, range }) =>
      () =>
        space.snapshotExtents(range),
  },
  {
    name: 'look-ups',
    of: (world) => {
      const { core } = world.machine.platform;
      const [input, output] = [core.area(L.AREA_SOURCE), core.area(L.AREA_TARGET)];
      return () =>
        eachPart(world, (vpn, pages) => {
          for (let i = 0; i < pages; i++) {
            core.u32[(input >>> 2) + i * 2] = vpn + i;
            core.u32[(input >>> 2) + i * 2 + 1] = Math.floor((vpn + i) / 2 ** 32);
          }
          core.exports.lookupBatch(world.space.table, input, output, pages, core.area(L.AREA_LIST));
        });
    },
  },
  {
    name: 'mmap, first touches, and munmap',
    of:
      ({ space, bytes }) =>
      () => {
        const range = space.mmap({ bytes: bytes.length });
        space.write(range.start, bytes);
        space.munmap(range);
      },
  },
  {
    name: 'mmap, holes that are filled on a device, and munmap there',
    drivers: BOTH,
    of:
      ({ space, context, bytes, pages }) =>
      () => {
        const range = space.mmap({ bytes: bytes.length });
        expect(context.migrate(range, { to: 'device' })).toBe(pages);
        space.munmap(range);
      },
  },
  {
    name: 'mprotect of pages at home',
    of:
      ({ space, range }) =>
      () => {
        space.mprotect(range, 'r');
        space.mprotect(range, 'rw');
      },
  },
  {
    name: 'mprotect of pages on a device',
    drivers: BOTH,
    of: (world) => {
      onDevice(world);
      return () => {
        world.space.mprotect(world.range, 'r');
        world.space.mprotect(world.range, 'rw');
      };
    },
  },
  {
    name: 'mremap to another place',
    of: ({ space, range }) => {
      let here = range;
      return () => {
        here = space.mremap(here, { mayMove: true, to: here.start === range.start ? 2 ** 40 : range.start });
      };
    },
  },
  {
    name: "madvise 'dontneed', and first touches",
    of:
      ({ space, range, bytes }) =>
      () => {
        space.madvise(range, 'dontneed');
        space.write(range.start, bytes);
      },
  },
  {
    name: "madvise 'free', and first touches",
    of:
      ({ space, range, bytes }) =>
      () => {
        space.madvise(range, 'free');
        space.write(range.start, bytes);
      },
  },
  {
    name: "madvise 'collapse'",
    of:
      ({ space, range, bytes }) =>
      () => {
        space.madvise(range, 'dontneed');
        space.write(range.start, bytes);
        space.madvise(range, 'collapse');
      },
  },
  {
    name: 'marks of madvise and hmadvise',
    of:
      ({ space, range }) =>
      () => {
        space.madvise(range, 'nohugepage');
        space.madvise(range, 'dontfork');
        space.madvise(range, 'dofork');
        space.hmadvise(range, 'willneed');
        space.hmadvise(range, 'readmostly');
        space.hmadvise(range, 'notreadmostly');
      },
  },
  {
    name: 'read',
    of:
      ({ space, range, bytes }) =>
      () =>
        space.read(range.start, bytes.length),
    answer: PAGE,
  },
  {
    name: 'tryRead',
    of:
      ({ space, range, bytes }) =>
      () =>
        space.tryRead(range.start, bytes),
  },
  {
    name: 'tryWrite',
    of:
      ({ space, range, bytes }) =>
      () =>
        space.tryWrite(range.start, bytes),
  },
  {
    name: 'a device that reads what it has',
    drivers: BOTH,
    of: (world) => {
      onDevice(world);
      return () => world.context.read(world.range.start, world.bytes.length);
    },
    answer: PAGE,
  },
  {
    name: 'a device that writes what it has',
    drivers: BOTH,
    of: (world) => {
      onDevice(world);
      return () => world.context.write(world.range.start, world.bytes);
    },
  },
  {
    name: 'a migration to a device, and home',
    drivers: BOTH,
    // One for each way.
    heap: 2,
    of:
      ({ context, range, pages }) =>
      () => {
        expect(context.migrate(range, { to: 'device' }) + context.migrate(range, { to: 'host' })).toBe(2 * pages);
      },
  },
  {
    // In parts of 512 pages, each of which asks for some 6 KB.
    name: "hmadvise 'prefetch' to a device, and home",
    drivers: BOTH,
    heap: 16,
    of:
      ({ space, context, range, pages }) =>
      () => {
        expect(space.hmadvise(range, 'prefetch', { device: context.device }).pages).toBe(pages);
        expect(space.hmadvise(range, 'prefetch', { device: 'host' }).pages).toBe(pages);
      },
  },
  {
    name: 'range faults of pages that are there',
    drivers: BOTH,
    of: (world) => {
      const { scheduler } = world.machine.platform;
      const { hmm, installWords } = world.context;
      return () =>
        eachPart(world, (vpn, pages) => scheduler.runSync(hmm.rangeFault({ vpn, pages, request: HMM_VALID + HMM_WRITE }, installWords)));
    },
  },
  {
    name: 'range faults of holes',
    of: (world) => {
      const { scheduler } = world.machine.platform;
      const { hmm, installWords } = world.context;
      return () => {
        world.space.madvise(world.range, 'dontneed');
        eachPart(world, (vpn, pages) => scheduler.runSync(hmm.rangeFault({ vpn, pages, request: HMM_VALID + HMM_WRITE }, installWords)));
      };
    },
  },
  {
    // Two evictions for a page, and the list of victims has 8 bytes for each.
    name: 'an eviction',
    of: (world) => {
      const { start, end } = another(world);
      return () => {
        world.context.migrate(world.range, { to: 'device' });
        world.context.migrate({ start, end }, { to: 'device' });
      };
    },
    heap: 24,
  },
  {
    name: "a device's fault batches",
    drivers: BOTH,
    of: ({ context, range, pages }) => {
      const accesses = Array.from({ length: pages }, (_, i) => ({ op: 'read' as const, addr: range.start + i * PAGE, bytes: 4 }));
      return () => {
        context.migrate(range, { to: 'host' });
        expect(context.submit({ accesses, lanes: 128 }).rounds).toBe(pages / 128 + 1);
      };
    },
    // What each access observed, and their order.
    answer: 12,
  },
  {
    name: 'a fork, and its end',
    of:
      ({ space }) =>
      () =>
        space.fork().close(),
  },
  {
    name: 'a fork that is written to, and its end',
    of:
      ({ space, range, bytes }) =>
      () => {
        const child = space.fork();
        child.write(range.start, bytes);
        child.close();
      },
  },
  {
    name: 'hmemcpy at home',
    of: (world) => {
      const { start } = another(world);
      return () => world.space.hmemcpy(start, world.range.start, world.bytes.length);
    },
  },
  {
    name: 'hmemcpy from a device',
    drivers: BOTH,
    of: (world) => {
      const { start } = another(world);
      onDevice(world);
      return () => world.space.hmemcpy(start, world.range.start, world.bytes.length);
    },
  },
  {
    name: 'exec, and first touches',
    of:
      ({ space, bytes }) =>
      () => {
        space.exec();
        space.write(space.mmap({ bytes: bytes.length }).start, bytes);
      },
  },
];

interface Asked {
  readonly heap: number;
  readonly arrays: number;
  readonly most: string;
}

/** What is asked for while it is done once with so many pages. */
async function asked(driver: Driver, pages: number, { of }: Path): Promise<Asked> {
  const machine = createMachineSync({ dram: 4 * pages * PAGE, tablePages: 1024 });
  const space = machine.createAddressSpace();
  const context = space.attach(machine.addDevice(driver));
  const range = space.mmap({ bytes: pages * PAGE });
  const bytes = new Uint8Array(pages * PAGE).fill(1);
  space.write(range.start, bytes);
  const work = of({ machine, space, context, range, pages, bytes });
  for (let i = 0; i < 3; i++) work();
  const arrays = arrayBytes(work);
  // V8 compiles when it likes, and that is seen as well.
  let [heap, most] = [Infinity, ''];
  for (let look = 0; look < LOOKS; look++) {
    const allocations = new Allocations();
    allocations.begin();
    for (let i = 0; i < TIMES; i++) work();
    const now = (await allocations.end()) / TIMES;
    if (now < heap) [heap, most] = [now, allocations.most];
  }
  expect(machine.verify()).toBeUndefined();
  machine.close();
  return { heap, arrays, most };
}

describe.each(PATHS)('$name', (path) => {
  test.each(path.drivers ?? (['plain'] as const))('asks for as much whatever the pages (%s)', async (name) => {
    const driver = DRIVERS[name];
    await asked(driver(MANY), MANY, path);
    const few = await asked(driver(FEW), FEW, path);
    const further = MANY - FEW;
    const most = path.heap ?? 4;
    // On a busy machine it compiles late: what is asked for in the meantime is not asked for again, what the path makes for each page is.
    let many = await asked(driver(MANY), MANY, path);
    for (let again = 0; again < AGAIN_MAX && (many.heap - few.heap) / further >= most; again++)
      many = await asked(driver(MANY), MANY, path);
    expect(
      (many.heap - few.heap) / further,
      `bytes of heap for a page: ${few.heap} for ${FEW}, ${many.heap} for ${MANY}: ${many.most}`,
    ).toBeLessThan(most);
    const arrays = (many.arrays - few.arrays) / further - (path.answer ?? 0);
    expect(arrays, `bytes of arrays for a page: ${few.arrays} for ${FEW}, ${many.arrays} for ${MANY}`).toBeLessThan(0.1);
  });
});

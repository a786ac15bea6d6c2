/** Many pages at once leave nothing for each of them on the heap of JavaScript, nor outside of it, but the answer that was asked for. */
import { describe, expect, test } from 'vitest';
import { HMM_VALID, HMM_WRITE } from 'farfault/mm';
import * as L from '../../assembly/layout.ts';
import { another, ARRAYS_MAX, BOTH, eachPart, forEachPage, HEAP_MAX, hold, onDevice, type Path } from './allocations-paths.ts';
import { PAGE } from './probe.ts';

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
    // In parts of 512 pages, each of which asks for some 4 KB.
    name: "hmadvise 'prefetch' to a device, and home",
    drivers: BOTH,
    heap: 12,
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
    name: 'an eviction',
    of: (world) => {
      const { start, end } = another(world);
      return () => {
        world.context.migrate(world.range, { to: 'device' });
        world.context.migrate({ start, end }, { to: 'device' });
      };
    },
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

hold(PATHS);

/** What a path should not do. */
const kept: unknown[] = [undefined];

describe('of what a path makes for each page', () => {
  test.each([1, 4])('an object for every %i is found', async (every) => {
    const path: Path = {
      name: 'objects',
      of:
        ({ pages }) =>
        () => {
          for (let page = 0; page < pages; page += every) kept[0] = { page };
        },
    };
    expect((await forEachPage(path, 'plain')).heap).toBeGreaterThan(HEAP_MAX);
  });

  test('a word in an array is found', async () => {
    const path: Path = {
      name: 'an array',
      of:
        ({ pages }) =>
        () =>
          (kept[0] = new Uint32Array(pages)),
    };
    const { heap, arrays } = await forEachPage(path, 'plain');
    expect(heap).toBeLessThan(HEAP_MAX);
    expect(arrays).toBeGreaterThan(ARRAYS_MAX);
  });
});

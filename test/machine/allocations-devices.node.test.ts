/** The same for what devices, pins, files and drivers do with many pages: nothing for each of them, but the answer. */
import { expect } from 'vitest';
import { register } from 'farfault/drivers/rdma';
import { another, BOTH, eachPart, hold, onDevice, type Path, plain, type World } from './allocations-paths.ts';
import { PAGE } from './probe.ts';

/** A second device, with as much memory as the first, and a link between them. */
function peer({ machine, space, context, pages }: World): World['context'] {
  const device = machine.addDevice(plain({ pages, name: 'peer' }));
  machine.link(context.device, device);
  return space.attach(device);
}

const PATHS: readonly Path[] = [
  {
    name: 'a device that reads what it faults in, page by page',
    drivers: BOTH,
    of: (world) => () => {
      world.context.migrate(world.range, { to: 'host' });
      world.context.read(world.range.start, world.bytes.length);
    },
    answer: PAGE,
  },
  {
    name: 'a device that writes what it faults in, page by page',
    drivers: BOTH,
    of: (world) => () => {
      world.context.migrate(world.range, { to: 'host' });
      world.context.write(world.range.start, world.bytes);
    },
  },
  {
    name: "a device without memory that maps the host's pages, fault by fault",
    drivers: ['mirror'],
    of:
      ({ space, context, range, bytes }) =>
      () => {
        space.mprotect(range, 'none');
        space.mprotect(range, 'rw');
        context.write(range.start, bytes);
      },
  },
  {
    name: 'a CPU that reads what it brings home, page by page',
    drivers: BOTH,
    of: (world) => () => {
      onDevice(world);
      world.space.read(world.range.start, world.bytes.length);
    },
    answer: PAGE,
  },
  {
    name: 'a CPU that writes what it brings home, page by page',
    drivers: BOTH,
    of: (world) => () => {
      onDevice(world);
      world.space.write(world.range.start, world.bytes);
    },
  },
  {
    // Its frames, 8 bytes each, are the answer.
    name: 'a pin for reading, and its end',
    heap: 12,
    of:
      ({ space, range }) =>
      () =>
        space.pin(range).unpin(),
  },
  {
    name: 'a pin of holes for writing, and its end',
    heap: 12,
    of:
      ({ space, range }) =>
      () => {
        space.madvise(range, 'dontneed');
        space.pin(range, { write: true, longTerm: true }).unpin();
      },
  },
  {
    name: 'a pin of shared memory for writing, and its end',
    heap: 12,
    of: ({ space, bytes }) => {
      const range = space.mmap({ bytes: bytes.length, shared: true });
      space.write(range.start, bytes);
      return () => space.pin(range, { write: true }).unpin();
    },
  },
  {
    name: 'what the holder of a pin writes and reads',
    of: ({ space, range, bytes }) => {
      const pin = space.pin(range, { write: true });
      return () => {
        pin.write(0, bytes);
        pin.read(0, bytes.length);
      };
    },
    answer: PAGE,
  },
  {
    name: 'pages that are pinned to a device, and are not any more',
    drivers: BOTH,
    of:
      ({ space, context, range, pages }) =>
      () => {
        expect(space.hmadvise(range, 'pinned', { device: context.device }).pages).toBe(pages);
        space.hmadvise(range, 'unpinned');
      },
  },
  {
    name: 'mremap of pages that are pinned to a device',
    of: ({ space, context, range }) => {
      space.hmadvise(range, 'pinned', { device: context.device });
      let here = range;
      return () => {
        here = space.mremap(here, { mayMove: true, to: here.start === range.start ? 2 ** 40 : range.start });
      };
    },
  },
  {
    name: 'a fork of pages that are pinned to a device, and its end',
    of:
      ({ space, context, range }) =>
      () => {
        space.hmadvise(range, 'pinned', { device: context.device });
        space.fork().close();
        space.hmadvise(range, 'unpinned');
      },
  },
  {
    // The answer is an object for each page that has been used: three fields, a page number that is not small, its place in the list.
    name: 'a harvest of marks',
    drivers: BOTH,
    heap: 80,
    of: (world) => {
      onDevice(world);
      return () => {
        world.context.write(world.range.start, world.bytes);
        expect(world.context.harvest(world.range).length).toBe(world.pages);
      };
    },
  },
  {
    name: 'a step that harvests marks, and whose answer is only counted',
    drivers: BOTH,
    of: (world) => {
      onDevice(world);
      const { scheduler } = world.machine.platform;
      const step = world.context.harvestStep(world.range);
      return () => {
        world.context.write(world.range.start, world.bytes);
        scheduler.runSync(world.context.harvestStep(world.range, step));
        expect(step.found.count).toBe(world.pages);
      };
    },
  },
  {
    name: 'addresses on the bus for the words of range faults, and their end',
    of: (world) => {
      const words = world.context.hmm.snapshot(world.range.start / PAGE, world.pages);
      const maps: ReturnType<typeof world.context.hmm.dmaMap>[] = [];
      eachPart(world, (_, pages) => maps.push(world.context.hmm.dmaMap(pages)));
      return () => {
        let part = 0;
        eachPart(world, (vpn, pages) => {
          const its = words.subarray((vpn - world.range.start / PAGE) * 2);
          for (let i = 0; i < pages; i++) maps[part]!.map(its, i);
          for (let i = 0; i < pages; i++) maps[part]!.unmap(its, i);
          part++;
        });
      };
    },
  },
  {
    name: 'the words of a range in the HMM dialect',
    of:
      ({ context, range, pages }) =>
      () =>
        context.hmm.snapshot(range.start / PAGE, pages),
    answer: 8,
  },
  {
    name: 'a migration from one device to another',
    of: (world) => {
      const other = peer(world);
      return () => {
        onDevice(world);
        expect(other.migrate(world.range, { to: 'device' })).toBe(world.pages);
      };
    },
  },
  {
    name: 'hmemcpy from one device to another',
    of: (world) => {
      const other = peer(world);
      const { start, end } = another(world);
      other.migrate({ start, end }, { to: 'device' });
      onDevice(world);
      return () => world.space.hmemcpy(start, world.range.start, world.bytes.length);
    },
  },
  {
    name: 'hmemcpy to a device',
    drivers: BOTH,
    of: (world) => {
      const { start, end } = another(world);
      return () => {
        world.space.hmemcpy(start, world.range.start, world.bytes.length, { to: world.context.device });
        world.context.migrate({ start, end }, { to: 'host' });
      };
    },
    // It goes by parts of 512 pages, and each part asks for lists and views.
    heap: 8,
  },
  {
    name: 'bits of a driver for its pages, and a migration with them',
    drivers: BOTH,
    of: (world) => {
      let bits = 1;
      return () => {
        world.context.setAttributes(world.range, (bits = 3 - bits));
        onDevice(world);
        world.context.migrate(world.range, { to: 'host' });
      };
    },
  },
  {
    name: "hmadvise 'dontneed' and 'willneed' of pages on a device",
    drivers: BOTH,
    of: (world) => () => {
      onDevice(world);
      world.space.hmadvise(world.range, 'willneed');
      world.space.hmadvise(world.range, 'dontneed');
    },
  },
  {
    // In parts of 512 pages, two evictions for a page.
    name: 'an eviction of what a driver chooses',
    drivers: ['nouveau'],
    heap: 8,
    of: (world) => {
      const { start, end } = another(world);
      return () => {
        onDevice(world);
        world.context.migrate({ start, end }, { to: 'device' });
      };
    },
  },
  {
    // In parts of 512 pages.
    name: 'faults of a device that evicts what its driver chooses',
    drivers: ['nouveau'],
    heap: 8,
    of: (world) => {
      const { start } = another(world);
      return () => {
        world.context.write(world.range.start, world.bytes);
        world.context.write(start, world.bytes);
      };
    },
  },
  {
    name: 'faults of a device that evicts what came first',
    of: (world) => {
      const { start } = another(world);
      return () => {
        world.context.write(world.range.start, world.bytes);
        world.context.write(start, world.bytes);
      };
    },
  },
  ...(['lru', 'clock'] as const).map((victims): Path => ({
    name: `faults with victims by ${victims}`,
    of: (world) => {
      const { machine, space, pages, range, bytes } = world;
      const context = space.attach(machine.addDevice(plain({ pages, name: victims }), { victims }));
      const { start } = another(world);
      return () => {
        context.write(range.start, bytes);
        context.write(start, bytes);
      };
    },
  })),
  {
    name: 'a dump',
    of:
      ({ space, range }) =>
      () =>
        space.dump(range),
  },
  {
    name: 'a device that leaves with pages, and comes again',
    drivers: BOTH,
    few: 8192,
    of: (world) => () => {
      onDevice(world);
      world.context.detach();
      world.context = world.space.attach(world.context.device);
    },
  },
  {
    name: 'a device that leaves with pages that are pinned to it, and comes again',
    few: 8192,
    of: (world) => () => {
      world.space.hmadvise(world.range, 'pinned', { device: world.context.device });
      world.context.detach();
      world.context = world.space.attach(world.context.device);
    },
  },
  {
    name: 'a long pin of pages that leave coherent memory for it, one by one',
    drivers: ['coherent'],
    heap: 12,
    of: (world) => () => {
      onDevice(world);
      world.space.pin(world.range, { longTerm: true }).unpin();
    },
  },
  {
    name: 'a reset that loses pages',
    of: (world) => () => {
      onDevice(world);
      world.context.device.reset();
      world.space.madvise(world.range, 'dontneed');
      world.space.write(world.range.start, world.bytes);
    },
  },
  {
    name: 'a fork that brings pages home, and one that leaves them out',
    few: 8192,
    of: (world) => () => {
      onDevice(world);
      world.space.fork({ device: 'omit' }).close();
      world.space.fork({ device: 'home' }).close();
    },
  },
  {
    // In parts of 512 pages.
    name: 'copies of what is mostly read, brought beforehand and dropped',
    drivers: BOTH,
    heap: 8,
    of: ({ space, context, range, bytes, pages }) => {
      space.hmadvise(range, 'readmostly');
      return () => {
        expect(space.hmadvise(range, 'prefetch', { device: context.device }).pages).toBe(pages);
        space.write(range.start, bytes);
      };
    },
  },
  {
    name: 'a file that is mapped and read',
    of: ({ machine, space, bytes }) => {
      const file = machine.createFile({ content: bytes });
      const range = space.mmap({ bytes: bytes.length, file, shared: true });
      return () => {
        space.read(range.start, bytes.length);
        space.madvise(range, 'dontneed');
        file.read(0, bytes.length);
      };
    },
    // Both readings.
    answer: 2 * PAGE,
  },
  {
    name: 'a file that is mapped and written, made shorter and longer',
    of: ({ machine, space, bytes }) => {
      const file = machine.createFile({ bytes: bytes.length });
      const range = space.mmap({ bytes: bytes.length, file, shared: true });
      return () => {
        space.write(range.start, bytes);
        file.truncate(0);
        file.truncate(bytes.length);
      };
    },
  },
  {
    name: 'pages of a file that are stored',
    drivers: ['plain', 'mirror'],
    of: ({ machine, space, context, bytes }) => {
      const file = machine.createFile({ bytes: bytes.length });
      const range = space.mmap({ bytes: bytes.length, file, shared: true });
      return () => {
        space.write(range.start, bytes);
        space.msync(range);
        context.write(range.start, bytes);
        file.sync();
      };
    },
  },
  {
    name: 'a private mapping of a file: copies of its pages',
    of: ({ machine, space, bytes }) => {
      const file = machine.createFile({ content: bytes });
      return () => {
        const range = space.mmap({ bytes: bytes.length, file });
        space.write(range.start, bytes);
        space.munmap(range);
      };
    },
  },
  {
    name: 'hugetlb pages: mmap, touches, munmap',
    of:
      ({ space, bytes }) =>
      () => {
        const range = space.mmap({ bytes: bytes.length, hugetlb: 2 ** 21 });
        space.write(range.start, bytes);
        space.munmap(range);
      },
  },
  {
    name: 'huge pages: touches, a migration to a device, and home',
    drivers: BOTH,
    of:
      ({ space, context, bytes }) =>
      () => {
        const range = space.mmap({ bytes: bytes.length, align: 2 ** 21 });
        space.madvise(range, 'hugepage');
        space.write(range.start, bytes);
        context.migrate(range, { to: 'device' });
        context.migrate(range, { to: 'host' });
        space.munmap(range);
      },
  },
  {
    name: 'touches that a device follows',
    drivers: ['plain', 'mirror'],
    of: ({ machine, context, bytes }) => {
      const space = machine.createAddressSpace();
      space.attach(context.device, { mode: 'replicate' });
      return () => {
        const range = space.mmap({ bytes: bytes.length });
        space.write(range.start, bytes);
        space.munmap(range);
      };
    },
  },
  {
    // The frames of the pin, and a command for every 64 pages.
    name: 'an adapter that writes to memory that is pinned for it',
    drivers: ['rdma'],
    heap: 20,
    of: ({ context, range, bytes }) => {
      const piece = bytes.subarray(0, 64 * PAGE);
      return () => {
        let all = true;
        const region = register(context, range, { pinned: true });
        for (let at = 0; at < bytes.length; at += 64 * PAGE) all &&= region.write(at, piece) === 'success';
        expect(all).toBe(true);
        region.deregister();
      };
    },
  },
];

hold(PATHS);

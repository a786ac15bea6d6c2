/** The same for the drivers that keep tables of their own: nothing for each page that is behind them, but the answer. */
import type { DmirrorOp, DmirrorReply } from 'farfault/drivers/dmirror';
import { Guest } from 'farfault/drivers/kvm';
import { DmaStream } from 'farfault/drivers/iommu';
import { register } from 'farfault/drivers/rdma';
import type { GivenUp } from 'farfault/gmem';
import { expect } from 'vitest';
import { hold, onDevice, type Path, type World } from './allocations-paths.ts';
import { PAGE } from './probe.ts';

/** Whose translations are their own. */
const OWN = ['kvm', 'rdma'] as const;
/** Bytes of one access of an adapter. */
const PIECE = 64 * PAGE;

/** Takes every translation from the device. */
function takeAway({ space, range }: World): void {
  space.mprotect(range, 'none');
  space.mprotect(range, 'rw');
}

/** A command of dmirror for the whole range. */
function command({ context, range, pages, bytes }: World, op: DmirrorOp): void {
  const reply = context.command({ op, addr: range.start, pages, buffer: bytes }) as DmirrorReply;
  expect(reply.ret).toBe(0);
}

const PATHS: readonly Path[] = [
  {
    name: 'a migration to a device, and home',
    drivers: ['coupled', 'npu'],
    of:
      ({ context, range, pages }) =>
      () => {
        expect(context.migrate(range, { to: 'device' }) + context.migrate(range, { to: 'host' })).toBe(2 * pages);
      },
  },
  {
    // In parts of 512 pages.
    name: 'a device that faults granules in, and a CPU that brings them home',
    drivers: ['coupled', 'npu'],
    heap: 12,
    of: (world) => () => {
      world.context.write(world.range.start, world.bytes);
      world.space.write(world.range.start, world.bytes);
      onDevice(world);
      world.space.write(world.range.start, world.bytes);
    },
  },
  {
    name: 'a device that reads, is taken what it has, and writes',
    drivers: OWN,
    of: (world) => () => {
      takeAway(world);
      world.context.read(world.range.start, world.bytes.length);
      takeAway(world);
      world.context.write(world.range.start, world.bytes);
    },
    answer: PAGE,
  },
  {
    name: "a device's fault batches",
    drivers: OWN,
    of: (world) => {
      const { context, range, pages } = world;
      const accesses = Array.from({ length: pages }, (_, i) => ({ op: 'read' as const, addr: range.start + i * PAGE, bytes: 4 }));
      return () => {
        takeAway(world);
        context.submit({ accesses, lanes: 128 });
      };
    },
    // What each access observed, and their order.
    answer: 12,
  },
  {
    // The log, 8 bytes a page, is the answer.
    name: 'a harvest of marks, and a dirty log',
    heap: 12,
    drivers: ['kvm'],
    of: (world) => {
      const guest = new Guest(world.context);
      guest.addSlot(0, world.range);
      return () => {
        guest.write(0, world.bytes);
        expect(guest.dirtyLog(0).length).toBe(world.pages);
      };
    },
  },
  {
    // Two commands for every 64 pages: some 1.5 KB.
    name: 'an adapter that reads and writes what comes when it is needed',
    drivers: ['rdma'],
    heap: 32,
    of: (world) => {
      const region = register(world.context, world.range);
      const piece = world.bytes.subarray(0, PIECE);
      return () => {
        takeAway(world);
        let all = true;
        for (let at = 0; at < world.bytes.length; at += PIECE) {
          all &&= region.read(at, PIECE).status === 'success';
          all &&= region.write(at, piece) === 'success';
        }
        expect(all).toBe(true);
      };
    },
    answer: PAGE,
  },
  {
    // Page by page: of each a message to the device, its number in the list of those that go, and its word in the list of what became of them.
    name: 'pages that a device sends away by itself',
    drivers: ['npu'],
    heap: 300,
    of: (world) => () => {
      onDevice(world);
      const became = world.context.command({ type: 'evict', count: world.pages }) as readonly GivenUp[];
      expect(became.length).toBe(world.pages);
    },
  },
  {
    name: 'a device behind an I/O page table that reads and writes what is mapped for it',
    drivers: ['iommu'],
    of: ({ space, context, range, bytes }) => {
      const stream = new DmaStream(context, space);
      const iova = stream.map(range, { write: true });
      return () => {
        stream.write(iova, bytes);
        stream.read(iova, bytes.length);
      };
    },
    // What the pin reads, and what the stream makes of it.
    answer: 2 * PAGE,
  },
  {
    // The frames of the pin.
    name: 'a buffer that is mapped for such a device, and unmapped',
    drivers: ['iommu'],
    heap: 12,
    of: ({ space, context, range }) => {
      const stream = new DmaStream(context, space);
      return () => stream.unmap(stream.map(range, { write: true }));
    },
  },
  {
    name: 'READ of pages that were taken from the device',
    drivers: ['dmirror'],
    of: (world) => () => {
      takeAway(world);
      command(world, 'READ');
    },
    // Its bounce buffer.
    answer: PAGE,
  },
  {
    name: 'WRITE of pages that were taken from the device',
    drivers: ['dmirror'],
    of: (world) => () => {
      takeAway(world);
      command(world, 'WRITE');
    },
  },
  {
    name: 'a table that is kept without the core: writes, reads, and its end',
    drivers: ['own table'],
    of: (world) => () => {
      world.context.write(world.range.start, world.bytes);
      world.context.read(world.range.start, world.bytes.length);
      takeAway(world);
    },
    answer: PAGE,
  },
  {
    // In parts of 512 pages.
    name: 'MIGRATE_TO_DEV and MIGRATE_TO_SYS',
    drivers: ['dmirror'],
    heap: 8,
    of: (world) => () => {
      command(world, 'MIGRATE_TO_DEV');
      command(world, 'MIGRATE_TO_SYS');
    },
    // What the device reads back.
    answer: PAGE,
  },
  {
    // A subscription for every 32 pages, as in the kernel's driver: 240 bytes where V8 has compiled all that it calls, 800 before that.
    name: 'SNAPSHOT',
    drivers: ['dmirror'],
    heap: 32,
    of: (world) => () => command(world, 'SNAPSHOT'),
    answer: 1,
  },
  {
    name: 'EXCLUSIVE and CHECK_EXCLUSIVE',
    drivers: ['dmirror'],
    of: (world) => () => {
      command(world, 'EXCLUSIVE');
      takeAway(world);
      command(world, 'CHECK_EXCLUSIVE');
      world.space.tryWrite(world.range.start, world.bytes);
    },
    answer: PAGE,
  },
];

hold(PATHS);

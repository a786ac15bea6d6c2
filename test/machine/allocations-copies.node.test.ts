/** The same for pages that many have: tables that are shared, forks, copies. And for migrations in the hands of a driver. */
import {
  type Context,
  DONE,
  type HmmPlan,
  type Migration,
  MIGRATE_MOVE,
  type Progress,
  type Run,
  SELECT_COHERENT,
  SELECT_PRIVATE,
  SELECT_SYSTEM,
  type Step,
} from 'farfault/gmem';
import { expect } from 'vitest';
import { another, BOTH, hold, onDevice, type Path, plain } from './allocations-paths.ts';
import { PAGE } from './probe.ts';

/** A migration under the mmap lock. */
class Locked implements Step {
  readonly name = 'locked';
  private readonly context: Context;
  private readonly step: Step;
  private isCalled = false;

  constructor(context: Context, step: Step) {
    this.context = context;
    this.step = step;
  }

  next(run: Run): Progress {
    const { mmapLock } = this.context.hmm;
    if (!this.isCalled) {
      if (!mmapLock.tryAcquireShared(run)) return run.waitFor(mmapLock);
      this.isCalled = true;
      return run.call(this.step);
    }
    mmapLock.release(run);
    return DONE;
  }
}

function aimAll(take: () => number): (migration: Migration) => void {
  return (migration) => {
    const { source, pages } = migration;
    for (let i = 0; i < pages; i++) if (source[i * 2 + 1]! & MIGRATE_MOVE) migration.aim(i, take());
  };
}

const PATHS: readonly Path[] = [
  {
    name: 'a device that walks the table of the CPU: reads, and writes',
    drivers: ['integrated'],
    of:
      ({ space, context, range, bytes }) =>
      () => {
        context.write(range.start, bytes);
        context.read(range.start, bytes.length);
        space.mprotect(range, 'none');
        space.mprotect(range, 'rw');
      },
    answer: PAGE,
  },
  {
    name: 'a device that walks the table of the CPU, and faults pages in',
    drivers: ['integrated'],
    of:
      ({ space, context, range, bytes }) =>
      () => {
        space.madvise(range, 'dontneed');
        context.write(range.start, bytes);
        space.madvise(range, 'dontneed');
        context.read(range.start, bytes.length);
        context.write(range.start, bytes);
      },
    answer: PAGE,
  },
  {
    name: 'a fork that shares pages on a device, and its end',
    drivers: BOTH,
    few: 8192,
    of: (world) => () => {
      world.context.migrate(world.range, { to: 'device' });
      world.space.fork({ device: 'share' }).close();
      world.context.write(world.range.start, world.bytes);
    },
  },
  {
    name: 'a fork that shares pages on a device, and writes them',
    drivers: BOTH,
    few: 8192,
    of: (world) => () => {
      onDevice(world);
      const child = world.space.fork({ device: 'share' });
      child.write(world.range.start, world.bytes);
      child.close();
    },
  },
  {
    name: 'a device that reads what is mostly read, page by page',
    drivers: BOTH,
    of: ({ space, context, range, bytes }) => {
      space.hmadvise(range, 'readmostly');
      return () => {
        context.read(range.start, bytes.length);
        space.write(range.start, bytes);
      };
    },
    answer: PAGE,
  },
  {
    name: 'what is mostly read, written by the device, and read by the CPU, page by page',
    drivers: BOTH,
    of: ({ space, context, range, bytes }) => {
      space.hmadvise(range, 'readmostly');
      return () => {
        context.write(range.start, bytes);
        space.read(range.start, bytes.length);
      };
    },
    answer: PAGE,
  },
  {
    name: 'copies on two devices',
    of: (world) => {
      const { machine, space, context, range, bytes, pages } = world;
      const other = space.attach(machine.addDevice(plain({ pages, name: 'peer' })));
      space.hmadvise(range, 'readmostly');
      return () => {
        context.read(range.start, bytes.length);
        other.read(range.start, bytes.length);
        other.write(range.start, bytes);
      };
    },
    answer: 2 * PAGE,
  },
  {
    name: 'copies that are evicted',
    drivers: BOTH,
    heap: 4,
    of: (world) => {
      const { space, context, range, bytes } = world;
      const { start } = another(world);
      space.hmadvise(range, 'readmostly');
      return () => {
        context.read(range.start, bytes.length);
        context.write(start, bytes);
      };
    },
    answer: PAGE,
  },
  {
    name: 'hmm.migrate to a device, and home',
    drivers: ['plain', 'coherent'],
    of: ({ machine, context, range, pages }) => {
      const { hmm, device } = context;
      const { scheduler } = machine.platform;
      const there: HmmPlan = { select: SELECT_SYSTEM, allocate: aimAll(() => hmm.takeFrame(device.memories[0]!)) };
      const home: HmmPlan = { select: SELECT_PRIVATE | SELECT_COHERENT, allocate: aimAll(() => hmm.hostFrame()) };
      let migration: Migration | undefined;
      return () => {
        migration = hmm.migrate(range.start / PAGE, pages, there, migration);
        scheduler.runSync(new Locked(context, migration));
        expect(migration.moved).toBe(pages);
        const back = hmm.migrate(range.start / PAGE, pages, home, migration);
        scheduler.runSync(new Locked(context, back));
        expect(back.moved).toBe(pages);
      };
    },
  },
  {
    // The list of frames is copied.
    name: 'hmm.migrateFrames of what is on a device',
    drivers: BOTH,
    heap: 12,
    of: (world) => {
      const { machine, context, pages } = world;
      const { hmm, device } = context;
      const { scheduler } = machine.platform;
      const plan: HmmPlan = { allocate: aimAll(() => hmm.hostFrame()) };
      const frames = Array.from({ length: pages }, (_, i) => device.memories[0]!.node.base + i);
      let migration: Migration | undefined;
      return () => {
        onDevice(world);
        migration = hmm.migrateFrames(frames, plan, migration);
        scheduler.runSync(migration);
        expect(migration.moved).toBe(pages);
      };
    },
  },
];

hold(PATHS);

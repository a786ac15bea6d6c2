/** Leaving: devices, memories and address spaces go while others are at work, and nothing of them is left. */
import { isFarfaultError } from '../../../errors.ts';
import type { AddressRange } from '../../../mm/address-space.ts';
import { FaultPlan } from '../../middleware/index.ts';
import { type Bench, PAGE } from '../bench.ts';
import { type ContractCase, ContractFailure, type Profile } from '../case.ts';
import { cpuChecks, cpuStamps, deviceChecks, deviceStamps, inUse, needsBytes, part, needsOwnTranslations } from './common.ts';

function some(bench: Bench, wanted = 32): number {
  return bench.profile.memoryPages === 0 ? wanted : Math.max(1, Math.min(wanted, Math.floor(bench.profile.memoryPages / 2)));
}

/** An operation that may be cut short by somebody who leaves: EBADF, ENODEV, EFAULT are fair answers. */
async function mayBeCut(bench: Bench, operation: Promise<unknown>, what: string): Promise<void> {
  try {
    await bench.wait(operation);
  } catch (error) {
    if (error instanceof ContractFailure) throw error;
    if (!isFarfaultError(error)) throw new ContractFailure(`${what} throws ${String(error)}, which is no FarfaultError`);
    bench.require(
      ['EBADF', 'ENODEV', 'EFAULT', 'EBUSY', 'ESRCH', 'EOPNOTSUPP'].includes(error.code),
      `${what} fails with ${error.code}: ${error.message}`,
    );
  }
}

/** What is begun now and waited for later: it may fail meanwhile. */
function awaited<T>(operation: Promise<T>): Promise<T> {
  operation.catch(() => undefined);
  return operation;
}

/** Pages of the program, some of them on the device, all of them used by it. */
async function inhabited(bench: Bench, pages: number): Promise<AddressRange> {
  const range = bench.mmap(pages);
  await cpuStamps(bench, range, 0, pages, 1);
  if (bench.profile.memoryPages > 0) await bench.migrate(part(range, 0, Math.ceil(pages / 2)), 'device');
  await deviceStamps(bench, range, 0, pages, 2);
  return range;
}

export const LEAVING: readonly ContractCase[] = [
  {
    name: 'a device that leaves sends the pages home',
    group: 'leaving',
    rule: 'After detach every byte is in the host memory, and nothing of the device is in the address space.',
    async run(bench) {
      const pages = some(bench);
      const range = await inhabited(bench, pages);
      bench.mark();
      await bench.wait(bench.context.detachAsync());
      bench.equal(inUse(bench), 0, 'pages of the device in use after it has left');
      await cpuChecks(bench, range, 0, pages);
    },
  },
  {
    name: 'a device that left is told nothing any more',
    group: 'leaving',
    rule: 'After detach the verbs of the context are EBADF, and changes of the address space do not reach the driver.',
    async run(bench) {
      const range = await inhabited(bench, 8);
      await bench.wait(bench.context.detachAsync());
      await bench.fails(
        'EBADF',
        refused(() => bench.context.faultAsync(range.start, 'read')),
        'a fault of a device that has left',
      );
      await bench.fails(
        'EBADF',
        refused(() => bench.context.readAsync(range.start, 8)),
        'a read of a device that has left',
      );
      await bench.munmap(part(range, 0, 4));
      await bench.wait(bench.space.mprotectAsync(part(range, 4, 4), 'r'));
      await bench.cpuSees(range, 4, 4);
    },
  },
  {
    name: 'a device comes back as a new one',
    group: 'leaving',
    rule: 'A device may attach again after it has left: it remembers nothing, neither translations nor pages.',
    needs: needsOwnTranslations,
    async run(bench) {
      const pages = some(bench);
      const range = await inhabited(bench, pages);
      bench.mark();
      await bench.wait(bench.context.detachAsync());
      for (let round = 0; round < 4; round++) {
        // Pages change while it is away.
        await bench.cpuWrite(range, round, 2, round + 50);
        const context = bench.attach(bench.space);
        for (let page = 0; page < pages; page++)
          bench.require(
            !context.reaches(range.start / PAGE + page, false),
            `the device reaches page ${page} before it has faulted, as it did before it left`,
          );
        await deviceChecks(bench, range, 0, pages, context);
        if (bench.profile.memoryPages > 0) await bench.migrate(range, 'device', context);
        await deviceStamps(bench, range, 0, pages, round + 3, context);
        bench.mark();
        await bench.wait(context.detachAsync());
        bench.equal(inUse(bench), 0, 'pages of the device in use after it has left');
      }
      await cpuChecks(bench, range, 0, pages);
    },
  },
  {
    name: 'a device in two address spaces leaves one',
    group: 'leaving',
    rule: 'Detaching from one address space takes neither translations nor pages of the other.',
    async run(bench) {
      const pages = some(bench, 16);
      const range = await inhabited(bench, pages);
      for (let round = 0; round < 3; round++) {
        const space = bench.addSpace();
        const context = bench.attach(space);
        const theirs = bench.mmap(pages, { space });
        await cpuStamps(bench, theirs, 0, pages, round + 20, space);
        if (bench.profile.memoryPages > 0) await bench.migrate(part(theirs, 0, Math.ceil(pages / 2)), 'device', context);
        await deviceStamps(bench, theirs, 0, pages, round + 30, context);
        bench.mark();
        await bench.wait(context.detachAsync());
        await cpuChecks(bench, theirs, 0, pages, space);
        // What the one that left had is free for others, and only that.
        const { memoryPages } = bench.profile;
        if (memoryPages > 0 && memoryPages <= 2048) {
          const wide = bench.mmap(memoryPages);
          await bench.migrate(wide, 'device');
          await bench.munmap(wide);
        }
        await deviceChecks(bench, range, 0, pages);
        await deviceStamps(bench, range, 0, pages, round + 40);
      }
      await cpuChecks(bench, range, 0, pages);
    },
  },
  {
    name: 'attaching twice is refused and harmless',
    group: 'leaving',
    rule: 'A device is in an address space once: the second attach is EINVAL, and the first goes on.',
    async run(bench) {
      const range = await inhabited(bench, 8);
      await bench.fails(
        'EINVAL',
        refused(() => Promise.resolve(bench.space.attach(bench.device))),
        'a second attach to one address space',
      );
      await deviceChecks(bench, range, 0, 8);
      await cpuChecks(bench, range, 0, 8);
    },
  },
  {
    name: 'a device that leaves during a migration loses no byte',
    group: 'leaving',
    rule: 'A detach that meets copies under way waits for them, or they for it: each page ends in one place, whole.',
    needs: needsBytes,
    async run(bench) {
      const pages = some(bench);
      for (const to of ['device', 'host'] as const) {
        const space = bench.addSpace();
        const context = bench.attach(space);
        const range = bench.mmap(pages, { space });
        await cpuStamps(bench, range, 0, pages, 1, space);
        if (to === 'host') {
          await bench.migrate(range, 'device', context);
          await deviceStamps(bench, range, 0, pages, 2, context);
        }
        bench.mark();
        const migration = context.migrateAsync(range, { to });
        const detach = awaited(context.detachAsync());
        await mayBeCut(bench, migration, `a migration to the ${to} of a device that leaves`);
        await bench.wait(detach);
        bench.equal(inUse(bench), 0, 'pages of the device in use after it has left');
        await cpuChecks(bench, range, 0, pages, space);
      }
    },
  },
  {
    name: 'a device that leaves during a job lets it end',
    group: 'leaving',
    rule: 'A job under way ends, done or refused, when its device leaves; no lane writes afterwards.',
    async run(bench) {
      if (!bench.runsAccesses) return;
      const pages = some(bench, 16);
      for (let delay = 0; delay < 3; delay++) {
        const space = bench.addSpace();
        const context = bench.attach(space);
        const range = bench.mmap(pages, { space });
        await bench.cpuWrite(range, 0, pages, 5, space);
        bench.mark();
        const job = context.submitAsync({
          accesses: Array.from({ length: pages * 2 }, (_, i) => ({
            op: 'write' as const,
            addr: range.start + (i % pages) * PAGE + Math.floor(i / pages) * 64,
            bytes: 8,
            value: 7,
          })),
          lanes: 8,
        });
        for (let i = 0; i < delay; i++) await Promise.resolve();
        const detach = awaited(context.detachAsync());
        await mayBeCut(bench, job, 'a job of a device that leaves');
        await bench.wait(detach);
        // What the job wrote before it was cut is not known; now everything is written anew, and stays.
        await bench.cpuWrite(range, 0, pages, 9, space);
        await bench.turns(2);
        await bench.cpuSees(range, 0, pages, space);
      }
    },
  },
  {
    name: 'a device leaves while a copy is late',
    group: 'leaving',
    rule: 'A detach waits for the ticket of a copy: the bytes arrive, then the device goes.',
    needs: (profile) =>
      needsBytes(profile) ??
      (profile.mmu.copy?.toDevice && profile.mmu.copy.toHost ? undefined : 'it has no copy engine that could be late'),
    async run(bench) {
      for (const operation of ['copy.toDevice', 'copy.toHost'] as const) {
        const plan = new FaultPlan();
        const inner = await bench.another();
        try {
          const device = inner.addFaulty(plan);
          const space = inner.addSpace();
          const context = inner.attach(space, device);
          const pages = some(bench, 16);
          const range = inner.mmap(pages, { space });
          await cpuStamps(inner, range, 0, pages, 1, space);
          if (operation === 'copy.toHost') {
            await inner.migrate(range, 'device', context);
            await deviceStamps(inner, range, 0, pages, 2, context);
          }
          plan.fail(operation, 1, 'late');
          const migration = awaited(context.migrateAsync(range, { to: operation === 'copy.toHost' ? 'host' : 'device' }));
          await inner.turns(1);
          const detach = awaited(context.detachAsync());
          await inner.turns(2);
          for (let i = 0; i < 20 && plan.unfinished > 0; i++) {
            plan.finish();
            await inner.turns(1);
          }
          await mayBeCut(inner, migration, 'a migration of a device that leaves');
          await inner.wait(detach);
          inner.equal(device.memory!.node.used, 0, 'pages of the device in use after it has left');
          await cpuChecks(inner, range, 0, pages, space);
          await inner.end();
        } finally {
          inner.close();
        }
      }
    },
  },
  {
    name: 'an address space ends with the device in it',
    group: 'leaving',
    rule: 'A program that ends takes its devices out: translations, pages and tables are given back, and the device serves others.',
    async run(bench) {
      const pages = some(bench);
      for (let round = 0; round < 4; round++) {
        const space = bench.addSpace();
        const context = bench.attach(space);
        const range = bench.mmap(pages, { space });
        await bench.cpuWrite(range, 0, pages, round + 1, space);
        if (bench.profile.memoryPages > 0) await bench.migrate(part(range, 0, Math.ceil(pages / 2)), 'device', context);
        await bench.deviceWrite(range, 0, pages, round + 5, context);
        await bench.closeSpace(space);
        bench.require(!context.isAttached, 'the device is still attached to an address space that has ended');
        bench.equal(inUse(bench), 0, 'pages of the device in use after the address space has ended');
      }
      const range = await inhabited(bench, pages);
      await deviceChecks(bench, range, 0, pages);
    },
  },
  {
    name: 'an address space ends while the device is at work',
    group: 'leaving',
    rule: 'Migrations and faults under way end, done or refused, when the address space does; nothing is left of them.',
    async run(bench) {
      const pages = some(bench, 16);
      for (let round = 0; round < 3; round++) {
        const space = bench.addSpace();
        const context = bench.attach(space);
        const range = bench.mmap(pages, { space });
        await bench.cpuWrite(range, 0, pages, 1, space);
        bench.mark();
        const operations: Promise<unknown>[] = [context.faultAsync(range.start, 'write'), context.faultAsync(range.start + PAGE, 'read')];
        if (bench.profile.memoryPages > 0) operations.push(context.migrateAsync(range, { to: 'device' }));
        for (let i = 0; i < round; i++) await Promise.resolve();
        const close = awaited(bench.closeSpace(space));
        for (const operation of operations) void awaited(operation);
        for (const operation of operations) await mayBeCut(bench, operation, 'work of a device whose address space ends');
        await bench.wait(close);
        bench.equal(inUse(bench), 0, 'pages of the device in use after the address space has ended');
      }
    },
  },
  {
    name: 'a memory that is unplugged sends its pages home',
    group: 'leaving',
    rule: 'Hot-unplug: everything on the memory comes home, of every address space, with its bytes; then the device works without it.',
    needs: needsBytes,
    async run(bench) {
      const pages = some(bench);
      const range = await inhabited(bench, pages);
      const space = bench.addSpace();
      const context = bench.attach(space);
      const theirs = bench.mmap(pages, { space });
      await cpuStamps(bench, theirs, 0, pages, 7, space);
      await bench.migrate(theirs, 'device', context);
      bench.mark();
      for (const memory of [...bench.device.memories]) await bench.wait(bench.device.removeMemoryAsync(memory));
      await cpuChecks(bench, range, 0, pages);
      await cpuChecks(bench, theirs, 0, pages, space);
      await deviceChecks(bench, range, 0, pages);
      await deviceChecks(bench, theirs, 0, pages, context);
      await bench.deviceWrite(range, 0, pages, 9);
      await bench.cpuSees(range, 0, pages);
      bench.require(
        !bench.machine.nodes.some(({ name }) => name.startsWith(`${bench.device.name}.`)),
        'a memory that was unplugged is still a node',
      );
    },
  },
  {
    name: 'a memory is unplugged while pages move',
    group: 'leaving',
    rule: 'Pages on their way to a memory that is unplugged come home, or never leave: none is lost, none is left behind.',
    needs: needsBytes,
    async run(bench) {
      const pages = some(bench);
      const range = bench.mmap(pages);
      await cpuStamps(bench, range, 0, pages, 1);
      bench.mark();
      const migration = awaited(bench.context.migrateAsync(range, { to: 'device' }));
      const unplug = awaited(
        (async (): Promise<void> => {
          for (const memory of [...bench.device.memories]) await bench.device.removeMemoryAsync(memory);
        })(),
      );
      await mayBeCut(bench, migration, 'a migration to a memory that is unplugged');
      await mayBeCut(bench, unplug, 'an unplug that meets a migration');
      await deviceChecks(bench, range, 0, pages);
      await cpuChecks(bench, range, 0, pages);
    },
  },
  {
    name: 'a memory that is plugged in can be used',
    group: 'leaving',
    rule: 'Hot-plug: a memory that is added gets pages, and is as good as those that were there; unplugged, it leaves nothing.',
    needs: (profile: Profile) =>
      needsBytes(profile) ??
      (profile.driver.memory?.some(({ bytesIn }) => bytesIn === 'external') ? 'the bytes of its memories are its own' : undefined),
    async run(bench) {
      const pages = 16;
      for (let round = 0; round < 3; round++) {
        const memory = bench.device.addMemory({ name: `added${round}`, kind: bench.profile.driver.memory![0]!.kind, bytes: 32 * PAGE });
        const range = bench.mmap(pages);
        await cpuStamps(bench, range, 0, pages, round);
        bench.mark();
        const moved = await bench.wait(bench.context.migrateAsync(range, { to: 'device', memory: memory.index }));
        bench.require(moved > 0, 'no page moves to a memory that was added');
        bench.require(memory.node.used > 0, 'a memory that was added has no page in use after a migration to it');
        await deviceChecks(bench, range, 0, pages);
        await deviceStamps(bench, range, 0, pages, round + 10);
        bench.mark();
        await bench.wait(bench.device.removeMemoryAsync(memory));
        await cpuChecks(bench, range, 0, pages);
        await deviceChecks(bench, range, 0, pages);
        await bench.munmap(range);
      }
    },
  },
  {
    name: 'nothing is left after many programs',
    group: 'leaving',
    rule: 'Programs come and go: pages, tables and records of all of them are given back, so that the last finds what the first found.',
    async run(bench) {
      const pages = some(bench, 8);
      let tables = -1;
      for (let round = 0; round < 12; round++) {
        const space = bench.addSpace();
        const context = bench.attach(space);
        const range = bench.mmap(pages, { space });
        await bench.cpuWrite(range, 0, pages, 1, space);
        if (bench.profile.memoryPages > 0) await bench.migrate(range, 'device', context);
        await bench.deviceWrite(range, 0, pages, 2, context);
        if (round % 3 === 0) await bench.munmap(part(range, 0, Math.ceil(pages / 2)), space);
        if (round % 2 === 0) await bench.wait(context.detachAsync());
        await bench.closeSpace(space);
        const used = bench.tablePages();
        if (round === 0) tables = used;
        bench.equal(used, tables, `the number of table pages in use after ${round + 1} programs`);
      }
    },
  },
];

/** A verb whose arguments are refused before it begins throws at once; here it is a rejection like any other. */
async function refused(act: () => Promise<unknown>): Promise<unknown> {
  return act();
}

/** Isolation: what a device knows of one address space says nothing about another. */
import { PAGE } from '../bench.ts';
import type { ContractCase } from '../case.ts';
import { cpuStamps, deviceChecks, deviceStamps, needsAccesses, needsMemory, part, needsOwnTranslations } from './common.ts';

const SECRET = 0xa5;

export const ISOLATION: readonly ContractCase[] = [
  {
    name: 'two address spaces never see each other',
    group: 'isolation',
    rule: 'The same address in two spaces is two pages: state of the device in a space is kept for each context.',
    async run(bench) {
      const other = bench.addSpace();
      const context = bench.attach(other);
      const at = 0x5000_0000;
      const mine = bench.mmap(8, { at, fixed: true });
      const theirs = bench.mmap(8, { at, fixed: true, space: other });
      await bench.cpuWrite(mine, 0, 8, 1);
      await bench.deviceSees(mine, 0, 8);
      await bench.deviceSees(theirs, 0, 8, context);
      await bench.cpuWrite(theirs, 0, 6, 2, other);
      await bench.deviceSees(theirs, 0, 8, context);
      await bench.deviceSees(mine, 0, 8);
      await bench.deviceWrite(mine, 2, 3, 3);
      await bench.deviceWrite(theirs, 3, 4, 4, context);
      await bench.deviceSees(mine, 0, 8);
      await bench.deviceSees(theirs, 0, 8, context);
      await bench.cpuSees(mine, 0, 8);
      await bench.cpuSees(theirs, 0, 8, other);
    },
  },
  {
    name: 'an address that only another space has is a fault',
    group: 'isolation',
    rule: 'A translation is of its context: a device in a space without the mapping has none.',
    async run(bench) {
      const other = bench.addSpace();
      const context = bench.attach(other);
      const range = bench.mmap(4);
      await bench.cpuWrite(range, 0, 4, SECRET);
      await bench.deviceSees(range, 0, 4);
      await bench.deviceWrite(range, 0, 2, SECRET - 1);
      for (const page of [0, 3]) for (const access of ['read', 'write'] as const) await bench.deviceRefused(range, page, access, context);
      await bench.deviceSees(range, 0, 4);
    },
  },
  {
    name: 'what one space unmaps stays with the other',
    group: 'isolation',
    rule: 'An invalidation is of one space: it takes away there, and leaves the same addresses of another alone.',
    async run(bench) {
      const other = bench.addSpace();
      const context = bench.attach(other);
      const at = 0x5000_0000;
      const mine = bench.mmap(8, { at, fixed: true });
      const theirs = bench.mmap(8, { at, fixed: true, space: other });
      await bench.deviceWrite(mine, 0, 8, 1);
      await bench.deviceWrite(theirs, 0, 8, 2, context);
      await bench.munmap(part(theirs, 2, 4), other);
      bench.gone(theirs, 2, 4, 'read', context);
      await bench.deviceRefused(theirs, 3, 'read', context);
      bench.require(bench.reaches(mine, 3, 'read'), 'munmap in one space takes the translations of another away');
      await bench.deviceSees(mine, 0, 8);
      await bench.mprotect(part(mine, 6, 2), 'r');
      await bench.deviceRefused(mine, 7, 'write');
      await bench.deviceWrite(theirs, 6, 2, 3, context);
      await bench.deviceSees(mine, 0, 8);
    },
  },
  {
    name: 'a space that ends leaves the others alone',
    group: 'isolation',
    rule: 'Detach and exit end one context: the device goes on in the other spaces.',
    async run(bench) {
      const other = bench.addSpace();
      const context = bench.attach(other);
      const third = bench.addSpace();
      const last = bench.attach(third);
      const at = 0x5000_0000;
      const mine = bench.mmap(6, { at, fixed: true });
      const theirs = bench.mmap(6, { at, fixed: true, space: other });
      const lasts = bench.mmap(6, { at, fixed: true, space: third });
      await bench.deviceWrite(mine, 0, 6, 1);
      await bench.deviceWrite(theirs, 0, 6, 2, context);
      await bench.deviceWrite(lasts, 0, 6, 3, last);
      await bench.exit(other);
      await bench.deviceSees(mine, 0, 6);
      await bench.deviceSees(lasts, 0, 6, last);
      bench.mark();
      await bench.wait(last.detachAsync());
      await bench.deviceSees(mine, 0, 6);
      await bench.deviceWrite(mine, 1, 4, 4);
      await bench.cpuSees(mine, 0, 6);
      await bench.cpuSees(lasts, 0, 6, third);
    },
  },
  {
    name: 'fresh pages are zeros, whoever had them before',
    group: 'isolation',
    rule: 'A page that another space has left, in the host or on the device, shows nothing of it to the next.',
    async run(bench) {
      const pages = Math.min(32, bench.profile.memoryPages || 32);
      const other = bench.addSpace();
      const context = bench.attach(other);
      for (let round = 0; round < 2; round++) {
        const secret = bench.mmap(pages, { space: other });
        await bench.cpuWrite(secret, 0, pages, SECRET, other);
        await bench.deviceWrite(secret, 0, pages, SECRET + 1, context);
        await bench.munmap(secret, other);
        const fresh = bench.mmap(pages);
        // One half is read first, the other half gets a byte of its own first.
        await bench.deviceSees(fresh, 0, pages >> 1);
        for (let page = pages >> 1; page < pages; page += 3) {
          if (!bench.runsAccesses) await bench.fault(fresh, page, 1, 'write');
          else await bench.deviceWriteBytes(fresh.start + page * PAGE + 5, Uint8Array.of(1));
        }
        await bench.deviceSees(fresh, 0, pages);
        await bench.cpuSees(fresh, 0, pages);
        await bench.munmap(fresh);
      }
    },
  },
  {
    name: 'fresh pages of the device are zeros',
    group: 'isolation',
    rule: 'A page that comes to be on the device without a source is filled with zeros (copy.zero, where the driver has it) before anybody sees it.',
    needs: needsMemory,
    async run(bench) {
      const pages = Math.min(32, bench.profile.memoryPages);
      const other = bench.addSpace();
      const context = bench.attach(other);
      const secret = bench.mmap(pages, { space: other });
      await bench.cpuWrite(secret, 0, pages, SECRET, other);
      await bench.migrate(secret, 'device', context);
      await bench.deviceSees(secret, 0, pages, context);
      await bench.exit(other);
      const fresh = bench.mmap(pages);
      await bench.migrate(fresh, 'device');
      await bench.deviceSees(fresh, 0, pages);
      await bench.cpuSees(fresh, 0, pages >> 1);
      await bench.migrate(fresh, 'host');
      await bench.cpuSees(fresh, 0, pages);
    },
  },
  {
    name: 'two devices of one driver share nothing',
    group: 'isolation',
    rule: 'Each call of the factory makes a device: tables, caches and memories are not those of another.',
    async run(bench) {
      const device = bench.addDevice();
      const context = bench.attach(bench.space, device);
      const other = bench.addSpace();
      const theirs = bench.attach(other, device);
      const at = 0x5000_0000;
      const range = bench.mmap(8, { at, fixed: true });
      const apart = bench.mmap(8, { at, fixed: true, space: other });
      await bench.deviceWrite(range, 0, 8, 1);
      await bench.deviceSees(range, 0, 8, context);
      await bench.deviceWrite(range, 2, 4, 2, context);
      await bench.deviceWrite(apart, 0, 8, 3, theirs);
      await bench.deviceSees(range, 0, 8);
      await bench.cpuWrite(range, 3, 2, 4);
      await bench.deviceSees(range, 0, 8, context);
      await bench.deviceSees(apart, 0, 8, theirs);
      await bench.munmap(part(range, 5, 3));
      bench.gone(range, 5, 3);
      bench.gone(range, 5, 3, 'read', context);
      await bench.deviceRefused(range, 6, 'read', context);
      bench.mark();
      await bench.wait(context.detachAsync());
      await bench.deviceSees(range, 0, 5);
      await bench.deviceSees(apart, 0, 8, theirs);
    },
  },
  {
    name: 'two devices have their memories for themselves',
    group: 'isolation',
    rule: 'Pages of one memory are handed out once: what one device has been given, another device of the driver cannot overwrite.',
    needs: needsMemory,
    async run(bench) {
      const device = bench.addDevice();
      const context = bench.attach(bench.space, device);
      const pages = Math.min(16, bench.profile.memoryPages);
      const [mine, theirs] = [bench.mmap(pages), bench.mmap(pages)];
      await cpuStamps(bench, mine, 0, pages, 1);
      await cpuStamps(bench, theirs, 0, pages, 2);
      await bench.migrate(mine, 'device');
      await bench.migrate(theirs, 'device', context);
      await deviceStamps(bench, mine, 0, pages, 3);
      await deviceStamps(bench, theirs, 0, pages, 4, context);
      await deviceChecks(bench, mine, 0, pages);
      await deviceChecks(bench, theirs, 0, pages, context);
      // Each takes the other's pages.
      await deviceChecks(bench, mine, 0, pages, context);
      await deviceChecks(bench, theirs, 0, pages);
      await bench.cpuSees(mine, 0, pages);
      await bench.cpuSees(theirs, 0, pages);
    },
  },
  {
    name: 'a device that comes back starts empty',
    group: 'isolation',
    rule: 'detach ends the context: attached again, the device has no translation of before.',
    needs: needsOwnTranslations,
    async run(bench) {
      const range = bench.mmap(6);
      await bench.cpuWrite(range, 0, 6, 1);
      await bench.deviceSees(range, 0, 6);
      await bench.deviceWrite(range, 0, 3, 2);
      for (let round = 0; round < 3; round++) {
        bench.mark();
        const last = bench.space.mirrors.at(-1)!;
        await bench.wait(last.detachAsync());
        await bench.cpuWrite(range, round, 3, 10 + round);
        await bench.wait(bench.space.madviseAsync(part(range, 5, 1), 'dontneed'));
        bench.forget(bench.space, part(range, 5, 1));
        const context = bench.attach(bench.space);
        bench.gone(range, 0, 6, 'read', context);
        await bench.deviceSees(range, 0, 6, context);
        await bench.deviceWrite(range, 4, 2, 20 + round, context);
        await bench.cpuSees(range, 0, 6);
      }
    },
  },
  {
    name: 'two machines at once share nothing',
    group: 'isolation',
    rule: 'A driver keeps its state in the device and in the context, not in its module: a second machine is a second world.',
    async run(bench) {
      const there = await bench.secondBench();
      const at = 0x5000_0000;
      const mine = bench.mmap(6, { at, fixed: true });
      const theirs = there.mmap(6, { at, fixed: true });
      await bench.deviceWrite(mine, 0, 6, 1);
      there.gone(theirs, 0, 6);
      await there.deviceSees(theirs, 0, 6);
      await there.deviceWrite(theirs, 1, 4, 2);
      await bench.deviceSees(mine, 0, 6);
      await bench.munmap(part(mine, 0, 3));
      await there.deviceSees(theirs, 0, 6);
      await there.munmap(part(theirs, 3, 3));
      await bench.deviceSees(mine, 3, 3);
      for (const page of [0, 2]) await bench.deviceRefused(mine, page, 'read');
      await there.end();
      await bench.deviceSees(mine, 3, 3);
    },
  },
  {
    name: 'jobs in two spaces keep to their own',
    group: 'isolation',
    rule: 'A fault belongs to the context in which it was raised, also when several spaces have work for the device.',
    needs: needsAccesses,
    async run(bench) {
      const other = bench.addSpace();
      const context = bench.attach(other);
      const at = 0x5000_0000;
      const mine = bench.mmap(8, { at, fixed: true });
      const theirs = bench.mmap(8, { at, fixed: true, space: other });
      await bench.cpuWrite(mine, 0, 4, 1);
      await bench.cpuWrite(theirs, 2, 4, 2, other);
      for (let round = 1; round <= 3; round++) {
        const accesses = Array.from({ length: 16 }, (_, i) => ({
          op: i % 2 === 0 ? ('read' as const) : ('write' as const),
          addr: at + (i >> 1) * PAGE + (i % 2) * 8,
          bytes: 4,
          value: round * 100 + i,
        }));
        const jobs = [
          bench.submit({ accesses, lanes: 16 }),
          bench.submit({ accesses: accesses.map((a) => ({ ...a, value: a.value + 50 })), lanes: 5 }, context),
        ];
        await Promise.all(jobs);
      }
      await bench.cpuSees(mine, 0, 8);
      await bench.cpuSees(theirs, 0, 8, other);
    },
  },
];

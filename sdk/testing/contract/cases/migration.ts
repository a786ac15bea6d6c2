/** Migration: pages go to the device and come home, whole, or stay where they were. */
import type { AtomicRequest } from '../../../gmem/index.ts';
import { isFarfaultError } from '../../../errors.ts';
import type { AddressRange } from '../../../mm/address-space.ts';
import { FaultPlan } from '../../middleware/index.ts';
import { type Bench, PAGE } from '../bench.ts';
import { type ContractCase, ContractFailure, type Profile } from '../case.ts';
import { cpuChecks, cpuStamps, deviceChecks, deviceStamps, inUse, needsBytes, needsMemory, part, resident } from './common.ts';

/** Pages of most cases: a memory that is smaller gives as many as it has. */
function some(bench: Bench, wanted = 64): number {
  return Math.max(1, Math.min(wanted, Math.floor(bench.profile.memoryPages / 2)));
}

function needsEngine(operation: 'toDevice' | 'toHost' | 'zero') {
  return (profile: Profile): string | undefined =>
    needsBytes(profile) ?? (profile.mmu.copy?.[operation] ? undefined : `it has no copy engine with ${operation}`);
}

/** Leaves stale bytes on every page of the memory that can be had, as another program would. */
async function dirtyMemory(bench: Bench, pages: number): Promise<void> {
  const space = bench.addSpace();
  const context = bench.attach(space);
  const range = bench.mmap(pages, { space });
  await bench.cpuWrite(range, 0, pages, 0xd7, space);
  await bench.migrate(range, 'device', context);
  await bench.munmap(range, space);
  await bench.closeSpace(space);
}

export const MIGRATION: readonly ContractCase[] = [
  {
    name: 'every byte goes to the device and comes home',
    group: 'migration',
    rule: 'A copy moves whole pages, each to its own place: the first byte and the last of every page.',
    needs: needsBytes,
    async run(bench) {
      const pages = some(bench);
      const range = bench.mmap(pages);
      await cpuStamps(bench, range, 0, pages, 1);
      const moved = await bench.migrate(range, 'device');
      bench.require(moved > 0, 'no page moves to a memory that is empty');
      await deviceChecks(bench, range, 0, pages);
      await bench.migrate(range, 'host');
      bench.equal(inUse(bench), 0, 'pages of the device in use after all have come home');
      await cpuChecks(bench, range, 0, pages);
    },
  },
  {
    name: 'what the device wrote comes home',
    group: 'migration',
    rule: 'The bytes that go home are those of the device, not those that the host had before.',
    needs: needsBytes,
    async run(bench) {
      const pages = some(bench);
      const range = bench.mmap(pages);
      await cpuStamps(bench, range, 0, pages, 1);
      await bench.migrate(range, 'device');
      await deviceStamps(bench, range, 0, pages, 2);
      await bench.migrate(range, 'host');
      await cpuChecks(bench, range, 0, pages);
    },
  },
  {
    name: 'a page touched by the CPU comes home with its bytes',
    group: 'migration',
    rule: 'A CPU access to a page of the device finds what the device left, on that page and on those around it.',
    needs: needsBytes,
    async run(bench) {
      const pages = some(bench);
      const range = bench.mmap(pages);
      await cpuStamps(bench, range, 0, pages, 1);
      await bench.migrate(range, 'device');
      await deviceStamps(bench, range, 0, pages, 2);
      for (let page = 0; page < pages; page += 7) await bench.cpuSees(range, page, 1);
      for (let page = 1; page < pages; page += 5) {
        await bench.cpuWrite(range, page, 1, page);
        await bench.deviceSees(range, page, 1);
      }
      await deviceChecks(bench, range, 0, pages);
      await cpuChecks(bench, range, 0, pages);
    },
  },
  {
    name: 'pages go to and fro many times',
    group: 'migration',
    rule: 'A page that changes sides often has the bytes of whoever wrote last, every time.',
    needs: needsBytes,
    async run(bench) {
      const pages = some(bench, 8);
      const range = bench.mmap(pages);
      for (let round = 0; round < 24; round++) {
        await cpuStamps(bench, range, round % pages, 1, round * 2);
        if (round % 2 === 0) await bench.migrate(range, 'device');
        await deviceChecks(bench, range, 0, pages);
        await deviceStamps(bench, range, (round * 3) % pages, 1, round * 2 + 1);
        await bench.cpuSees(range, 0, pages);
      }
    },
  },
  {
    name: 'the place of a page is not remembered over a migration',
    group: 'migration',
    rule: 'When a page moves, every translation of its old place goes before its bytes are copied: what is written later lands in the new place.',
    needs: needsBytes,
    async run(bench) {
      const pages = some(bench, 16);
      const range = bench.mmap(pages);
      const other = bench.mmap(pages);
      await cpuStamps(bench, range, 0, pages, 1);
      for (let round = 0; round < 4; round++) {
        // The device uses the page at home, then moves it, then uses it again: three places.
        await bench.fault(range, 0, pages, 'write');
        await bench.migrate(range, 'host');
        await bench.migrate(range, 'device');
        await deviceStamps(bench, range, 0, pages, round * 3 + 2);
        await bench.migrate(range, 'host');
        // Somebody else takes the places that came free.
        await bench.cpuWrite(other, 0, pages, round + 40);
        await bench.migrate(other, 'device');
        await deviceStamps(bench, range, 0, pages, round * 3 + 3);
        await deviceChecks(bench, other, 0, pages);
        await cpuChecks(bench, other, 0, pages);
        await cpuChecks(bench, range, 0, pages);
      }
    },
  },
  {
    name: 'a copy of many pieces copies all of them',
    group: 'migration',
    rule: 'One submission may hold many pieces, contiguous runs and single pages: each goes to its own place, to the last.',
    needs: needsBytes,
    async run(bench) {
      const pages = some(bench, 96);
      const range = bench.mmap(pages);
      // Pages come in an order that leaves frames in pieces, and holes between.
      const order = Array.from({ length: pages }, (_, i) => (i * 37) % pages).filter((page, i, all) => all.indexOf(page) === i);
      for (const page of order) if (page % 6 !== 5) await cpuStamps(bench, range, page, 1, page + 1);
      await bench.migrate(range, 'device');
      await deviceChecks(bench, range, 0, pages);
      for (const page of order) if (page % 4 === 1) await deviceStamps(bench, range, page, 1, page + 500);
      await bench.cpuSees(range, Math.floor(pages / 2), 1);
      await bench.migrate(range, 'host');
      await cpuChecks(bench, range, 0, pages);
      await bench.migrate(range, 'device');
      await cpuChecks(bench, range, 0, pages);
    },
  },
  {
    name: 'a fresh page of the device is zeros',
    group: 'migration',
    rule: 'A page that nobody wrote is cleared where it comes to be (zero): what another program left there is never seen.',
    needs: needsBytes,
    async run(bench) {
      const pages = some(bench);
      await dirtyMemory(bench, bench.profile.memoryPages <= 4096 ? bench.profile.memoryPages : pages * 2);
      const range = bench.mmap(pages);
      await bench.migrate(range, 'device');
      await deviceChecks(bench, range, 0, pages);
      await cpuChecks(bench, range, 0, pages);
      // Faults bring fresh pages, too, and so do pages of zeros that were only read.
      const faulted = bench.mmap(pages);
      await bench.fault(faulted, 0, pages, 'write');
      await deviceChecks(bench, faulted, 0, pages);
      await cpuChecks(bench, faulted, 0, pages);
      const looked = bench.mmap(pages);
      await bench.cpuSees(looked, 0, pages);
      await bench.migrate(looked, 'device');
      await deviceChecks(bench, looked, 0, pages);
      await cpuChecks(bench, looked, 0, pages);
    },
  },
  {
    name: 'holes and pages go together',
    group: 'migration',
    rule: 'A range that is written in part goes as a whole: what was written keeps its bytes, the rest is zeros.',
    needs: needsBytes,
    async run(bench) {
      const pages = some(bench);
      await dirtyMemory(bench, pages * 2);
      const range = bench.mmap(pages);
      for (let page = 0; page < pages; page += 3) await cpuStamps(bench, range, page, 1, 9);
      for (let page = 1; page < pages; page += 3) await bench.cpuSees(range, page, 1);
      await bench.migrate(range, 'device');
      await deviceChecks(bench, range, 0, pages);
      await bench.migrate(range, 'host');
      await cpuChecks(bench, range, 0, pages);
    },
  },
  {
    name: 'pinned pages stay, and the others go',
    group: 'migration',
    rule: 'A page that somebody holds cannot move: it stays where it is with its bytes, and the pages around it are moved correctly.',
    needs: needsBytes,
    async run(bench) {
      const pages = some(bench, 32);
      const range = bench.mmap(pages);
      await cpuStamps(bench, range, 0, pages, 1);
      const pins = [];
      for (const page of [0, Math.floor(pages / 2), pages - 1])
        pins.push({ page, pin: await bench.wait(bench.space.pinAsync(part(range, page, 1), { write: true })) });
      await bench.migrate(range, 'device');
      for (const { page } of pins)
        bench.require(
          bench.context.residency(range.start / PAGE + page) === undefined,
          `page ${page} has moved to the device while it was pinned`,
        );
      await deviceChecks(bench, range, 0, pages);
      await deviceStamps(bench, range, 0, pages, 2);
      await cpuChecks(bench, range, 0, pages);
      for (const { pin } of pins) pin.unpin();
      await bench.migrate(range, 'device');
      await deviceChecks(bench, range, 0, pages);
      await cpuChecks(bench, range, 0, pages);
    },
  },
  {
    name: 'a page of the device that is pinned long-term is at home',
    group: 'migration',
    rule: 'Whoever holds a page for long has it in the host memory: it comes home first, whole, and device and holder see the same bytes.',
    needs: needsBytes,
    async run(bench) {
      const pages = some(bench, 8);
      const range = bench.mmap(pages);
      await cpuStamps(bench, range, 0, pages, 1);
      await bench.migrate(range, 'device');
      await deviceStamps(bench, range, 0, pages, 2);
      const pin = await bench.wait(bench.space.pinAsync(range, { write: true, longTerm: true }));
      bench.equal(resident(range, bench.context), 0, 'the number of pages on the device while they are pinned long-term');
      await deviceChecks(bench, range, 0, pages);
      await deviceStamps(bench, range, 0, pages, 3);
      await bench.migrate(range, 'device');
      bench.equal(resident(range, bench.context), 0, 'the number of pages on the device while they are pinned long-term');
      await cpuChecks(bench, range, 0, pages);
      pin.unpin();
    },
  },
  {
    name: 'a page that may only be read stays so when it moves',
    group: 'migration',
    rule: 'A migration gives no right: a page without the right to write has no writable translation afterwards.',
    needs: needsBytes,
    async run(bench) {
      const pages = some(bench, 8);
      const range = bench.mmap(pages);
      await cpuStamps(bench, range, 0, pages, 1);
      await bench.wait(bench.space.mprotectAsync(range, 'r'));
      await bench.migrate(range, 'device');
      for (let page = 0; page < pages; page++) {
        await bench.fault(range, page, 1, 'read');
        bench.require(
          !bench.context.reaches(range.start / PAGE + page, true),
          `page ${page} has a writable translation and no right to write`,
        );
      }
      await deviceChecks(bench, range, 0, pages);
      const outcome = await bench.wait(bench.context.faultAsync(range.start, 'write'));
      bench.equal(outcome, 'permission', 'the outcome of a fault to write a page without the right');
      await bench.wait(bench.space.mprotectAsync(range, 'rw'));
      await deviceStamps(bench, range, 0, pages, 2);
      await cpuChecks(bench, range, 0, pages);
    },
  },
  {
    name: 'a host memory that is full loses nothing',
    group: 'migration',
    rule: 'A page that cannot come home, since the host has no page for it, stays on the device with its bytes.',
    needs: needsBytes,
    async run(bench) {
      const small = await bench.another({ dram: 64 * PAGE });
      try {
        const pages = some(small, 32);
        const range = small.mmap(pages);
        await cpuStamps(small, range, 0, pages, 1);
        await small.migrate(range, 'device');
        await deviceStamps(small, range, 0, pages, 2);
        const hog = small.mmap(64);
        const hogged = await fillHost(small, hog, 64);
        await small.migrate(range, 'host');
        await deviceChecks(small, range, 0, pages);
        await small.munmap(part(hog, 0, Math.max(1, hogged)));
        await small.migrate(range, 'host');
        await cpuChecks(small, range, 0, pages);
        await small.end();
      } finally {
        small.close();
      }
    },
  },
  {
    name: 'a copy to the device that fails leaves the pages at home',
    group: 'migration',
    rule: 'When a ticket of toDevice fails, or the engine does half and refuses, the pages stay where they were, whole, and can be moved again.',
    needs: needsEngine('toDevice'),
    run: (bench) => refusals(bench, 'copy.toDevice'),
  },
  {
    name: 'a copy to the host that fails leaves the pages on the device',
    group: 'migration',
    rule: 'When a ticket of toHost fails, or the engine does half and refuses, the pages stay on the device, whole, and can be moved again.',
    needs: needsEngine('toHost'),
    run: (bench) => refusals(bench, 'copy.toHost'),
  },
  {
    name: 'a clearing that fails leaves no page behind',
    group: 'migration',
    rule: 'When zero fails, the page is not used: whoever reads finds zeros all the same.',
    needs: needsEngine('zero'),
    run: (bench) => refusals(bench, 'copy.zero'),
  },
  {
    name: 'the copy list is used while it is lent',
    group: 'migration',
    rule: 'A copy list is borrowed: an engine that ends later keeps a copy of it (copies.keep).',
    needs: (profile) => needsBytes(profile) ?? (profile.mmu.copy ? undefined : 'it has no copy engine'),
    async run(bench) {
      // Migrations one after the other, each begun while the last one may still be under way.
      const pages = some(bench, 48);
      const ranges = Array.from({ length: 4 }, () => bench.mmap(Math.max(1, Math.floor(pages / 4))));
      const each = Math.max(1, Math.floor(pages / 4));
      for (const [i, range] of ranges.entries()) await cpuStamps(bench, range, 0, each, i + 1);
      bench.mark();
      await bench.wait(Promise.all(ranges.map((range) => bench.context.migrateAsync(range, { to: 'device' }))));
      for (const range of ranges) await deviceChecks(bench, range, 0, each);
      for (const [i, range] of ranges.entries()) await deviceStamps(bench, range, 0, each, i + 11);
      bench.mark();
      await bench.wait(Promise.all(ranges.map((range) => bench.context.migrateAsync(range, { to: 'host' }))));
      for (const range of ranges) await cpuChecks(bench, range, 0, each);
    },
  },
  {
    name: 'a migration that meets munmap loses neither pages nor order',
    group: 'migration',
    rule: 'A page that is unmapped while it is being copied is freed once on both sides, and its neighbours arrive whole.',
    needs: needsBytes,
    async run(bench) {
      const pages = some(bench, 16);
      for (let round = 0; round < 4; round++) {
        const range = bench.mmap(pages);
        await cpuStamps(bench, range, 0, pages, round + 1);
        if (round % 2 === 1) await bench.migrate(range, 'device');
        bench.mark();
        const middle = part(range, Math.floor(pages / 4), Math.floor(pages / 2));
        await bench.wait(
          Promise.all([bench.context.migrateAsync(range, { to: round % 2 === 0 ? 'device' : 'host' }), bench.space.munmapAsync(middle)]),
        );
        bench.forget(bench.space, middle);
        const upper = Math.floor(pages / 4) + Math.floor(pages / 2);
        await deviceChecks(bench, range, 0, Math.floor(pages / 4));
        await cpuChecks(bench, range, upper, pages - upper);
        bench.mark();
        await bench.wait(bench.space.munmapAsync(range));
        bench.forget(bench.space, range);
      }
      bench.equal(inUse(bench), 0, 'pages of the device in use after everything was unmapped');
    },
  },
  {
    name: 'two devices hand a page over with its bytes',
    group: 'migration',
    rule: 'A page that goes from one device to another passes the host: it has the bytes of the last writer in every place.',
    needs: needsBytes,
    async run(bench) {
      const pages = some(bench, 16);
      const other = bench.attach(bench.space, bench.addDevice());
      const range = bench.mmap(pages);
      await cpuStamps(bench, range, 0, pages, 1);
      for (let round = 0; round < 3; round++) {
        await bench.migrate(range, 'device');
        await deviceStamps(bench, range, 0, pages, round * 2 + 2);
        await bench.migrate(range, 'device', other);
        await deviceChecks(bench, range, 0, pages, other);
        await deviceStamps(bench, range, 0, pages, round * 2 + 3, other);
      }
      await deviceChecks(bench, range, 0, pages);
      await cpuChecks(bench, range, 0, pages);
    },
  },
  {
    name: 'atomics of device and CPU add up',
    group: 'migration',
    rule: 'By whatever means the device declares (native, exclusive, migrate), an atomic is lost neither to the CPU nor to a migration.',
    needs: ({ driver }) => ((driver.atomics ?? []).length > 0 ? undefined : 'it declares no atomics'),
    async run(bench) {
      const range = bench.mmap(2);
      const add: AtomicRequest & { bytes: 4 } = { op: 'add', bytes: 4, operand: 1 };
      for (let round = 0; round < 12; round++) {
        const addr = range.start + (round % 2) * PAGE + 8;
        bench.mark();
        const before = await bench.wait(bench.context.atomicAsync(addr, add));
        bench.equal(before, Math.floor(round / 2) * 2, 'the value that an atomic finds');
        const bytes = await bench.wait(bench.space.readAsync(addr, 4));
        const expected = Math.floor(round / 2) * 2 + 1;
        bench.equal(
          new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true),
          expected,
          'what the CPU reads after an atomic of the device',
        );
        const next = new Uint8Array(4);
        new DataView(next.buffer).setUint32(0, expected + 1, true);
        await bench.wait(bench.space.writeAsync(addr, next));
        bench.wrote(bench.space, addr, next);
      }
    },
  },
  {
    name: 'a request that the control interface does not know is refused',
    group: 'migration',
    rule: 'A device with commands answers what it does not know with an error or a refusal; one without says that it has none. Neither does any harm.',
    async run(bench) {
      for (const request of [undefined, null, 7, 'no such command', {}, { op: 'NO SUCH COMMAND', addr: 0, pages: 1 }, []]) {
        bench.mark();
        try {
          await bench.wait(bench.context.commandAsync(request));
        } catch (error) {
          if (!isFarfaultError(error))
            throw new ContractFailure(`a command that it does not know throws ${String(error)}, which is no FarfaultError`);
          if (!bench.profile.mmu.command) bench.equal(error.code, 'EOPNOTSUPP', 'the code of a command to a device without commands');
        }
      }
      await bench.deviceWrite(bench.mmap(2), 0, 2, 4);
    },
  },
  {
    name: 'a device without memory says so',
    group: 'migration',
    rule: 'A migration to a device that has no memory of its own is EOPNOTSUPP, and changes nothing.',
    needs: (profile) => (needsMemory(profile) === undefined ? 'it has a memory of its own' : undefined),
    async run(bench) {
      const range = bench.mmap(4);
      await bench.cpuWrite(range, 0, 4, 3);
      await bench.fails('EOPNOTSUPP', bench.context.migrateAsync(range, { to: 'device' }), 'a migration to a device without memory');
      await bench.deviceSees(range, 0, 4);
    },
  },
];

/** The CPU touches pages until the host has none left; returns how many. */
async function fillHost(bench: Bench, range: AddressRange, pages: number): Promise<number> {
  for (let page = 0; page < pages; page++) {
    try {
      await bench.wait(bench.space.writeAsync(range.start + page * PAGE, Uint8Array.of(1)));
      bench.wrote(bench.space, range.start + page * PAGE, Uint8Array.of(1));
    } catch (error) {
      if (isFarfaultError(error) && error.code === 'ENOMEM') return page;
      throw error;
    }
  }
  return pages;
}

/** Copies of one kind refuse, call after call, in each way that they can without throwing: nothing is lost, and the verb can be called again. */
async function refusals(bench: Bench, operation: 'copy.toDevice' | 'copy.toHost' | 'copy.zero'): Promise<void> {
  const plan = new FaultPlan();
  const device = bench.addFaulty(plan);
  const space = bench.addSpace();
  const context = bench.attach(space, device);
  const pages = some(bench, 24);
  for (const fault of ['refuse', 'partial', 'late failure'] as const) {
    for (const call of [1, 2]) {
      const range = bench.mmap(pages, { space });
      for (let page = 0; page < pages; page++) if (page % 5 !== 4) await cpuStamps(bench, range, page, 1, call + 3, space);
      plan.fail(operation, call, fault);
      for (const to of ['device', 'host', 'device', 'host'] as const) {
        bench.mark();
        await bench.waitLate(context.migrateAsync(range, { to }), plan);
      }
      plan.count();
      await bench.migrate(range, 'device', context);
      await deviceChecks(bench, range, 0, pages, context);
      await bench.migrate(range, 'host', context);
      bench.equal(device.memory!.node.used, 0, `pages of the device in use after ${operation} (${fault}) and a migration home`);
      await cpuChecks(bench, range, 0, pages, space);
      await bench.munmap(range, space);
    }
  }
}

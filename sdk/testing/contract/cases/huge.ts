/** Huge pages: 2 MiB at once, taken apart where the program takes them apart. */
import type { AddressRange, AddressSpace } from '../../../mm/address-space.ts';
import { type Bench, PAGE } from '../bench.ts';
import type { ContractCase, Profile } from '../case.ts';
import { cpuStamps, deviceChecks, deviceStamps, inUse, needsBytes, part } from './common.ts';

const HUGE_PAGES = 512;

/** A mapping that begins with a huge page of the CPU, written. */
async function hugeRange(bench: Bench, pages = HUGE_PAGES): Promise<AddressRange> {
  const range = bench.mmap(pages, { align: HUGE_PAGES * PAGE });
  bench.mark();
  await bench.wait(bench.space.madviseAsync(range, 'hugepage'));
  await cpuStamps(bench, range, 0, pages, 1);
  return range;
}

/** A few pages of a huge one, its first and last among them. */
const LOOKED = [0, 1, 15, 16, 200, 255, 256, 257, 511];

async function look(bench: Bench, range: AddressRange, pages: readonly number[] = LOOKED): Promise<void> {
  for (const page of pages) {
    await bench.deviceSees(range, page, 1);
    await bench.cpuSees(range, page, 1);
  }
}

/** The device takes pages in, as large as it can: many at once. */
async function take(bench: Bench, range: AddressRange, from: number, pages: number, access: 'read' | 'write'): Promise<void> {
  await bench.mirror(range, from, pages, access);
}

function needsHugeMemory(profile: Profile): string | undefined {
  return (
    needsBytes(profile) ?? (profile.memoryPages < 2 * HUGE_PAGES ? 'its memory is smaller than 4 MiB: no two huge pages fit' : undefined)
  );
}

function needsBlocks({ driver, mmu }: Profile): string | undefined {
  if (mmu.walk) return 'it translates by itself: how it keeps its entries is its own';
  return (driver.pageBytes ?? []).some((bytes) => bytes > PAGE) ? undefined : 'its table has entries for base pages only';
}

export const HUGE: readonly ContractCase[] = [
  {
    name: 'a huge page of the program is used page by page',
    group: 'huge pages',
    rule: 'Translations of a huge page name the right page at every offset, whatever the size of the entries that hold them.',
    async run(bench) {
      const range = await hugeRange(bench);
      await take(bench, range, 0, HUGE_PAGES, 'read');
      await deviceChecks(bench, range, 0, HUGE_PAGES);
      await deviceStamps(bench, range, 0, HUGE_PAGES, 2);
      for (const page of LOOKED) await bench.cpuSees(range, page, 1);
    },
  },
  {
    name: 'munmap in the middle of a huge page takes that page only',
    group: 'huge pages',
    rule: 'An invalidation of a part of a block takes this part: the rest may stay or be faulted in again, what is gone is gone.',
    async run(bench) {
      for (const [from, pages] of [
        [200, 1],
        [0, 3],
        [500, 12],
      ] as const) {
        const range = await hugeRange(bench);
        await take(bench, range, 0, HUGE_PAGES, 'write');
        await deviceStamps(bench, range, 0, HUGE_PAGES, 2);
        const gone = part(range, from, pages);
        await bench.munmap(gone);
        for (let page = from; page < from + pages; page++)
          bench.require(
            !bench.context.reaches(range.start / PAGE + page, false),
            `the device can still read page ${page} of a huge page after its munmap`,
          );
        // The place is taken by others: what the device writes through a stale block lands there.
        const other = bench.mmap(4);
        await bench.cpuWrite(other, 0, 4, 0x5a);
        for (const page of LOOKED.filter((each) => each < from || each >= from + pages)) {
          await bench.deviceSees(range, page, 1);
          await bench.deviceWrite(range, page, 1, page % 251);
        }
        await bench.cpuSees(other, 0, 4);
        await bench.cpuSees(range, from === 0 ? pages : 0, 1);
      }
    },
  },
  {
    name: 'mprotect of a part of a huge page holds for that part',
    group: 'huge pages',
    rule: 'A block whose part loses the right to write is taken apart: no write goes through there, and writes go on beside it.',
    async run(bench) {
      const range = await hugeRange(bench);
      await take(bench, range, 0, HUGE_PAGES, 'write');
      await deviceStamps(bench, range, 0, HUGE_PAGES, 2);
      const middle = part(range, 100, 50);
      bench.mark();
      await bench.wait(bench.space.mprotectAsync(middle, 'r'));
      for (const page of [100, 125, 149])
        bench.require(
          !bench.context.reaches(range.start / PAGE + page, true),
          `the device can still write page ${page} of a huge page, which lost the right`,
        );
      for (const page of [99, 150]) await bench.deviceWrite(range, page, 1, 77);
      bench.mark();
      const outcome = await bench.wait(bench.context.faultAsync(middle.start, 'write'));
      bench.equal(outcome, 'permission', 'the outcome of a fault to write a page without the right');
      await look(bench, range, [0, 99, 100, 125, 149, 150, 511]);
      await bench.wait(bench.space.mprotectAsync(middle, 'rw'));
      await bench.deviceWrite(range, 120, 1, 78);
      await look(bench, range, [99, 119, 120, 121]);
    },
  },
  {
    name: 'a huge page that was forked is copied when one side writes',
    group: 'huge pages',
    rule: 'After a fork parent and child share the huge page for reading: a write of the device in one is not seen in the other.',
    async run(bench) {
      const range = await hugeRange(bench);
      await take(bench, range, 0, HUGE_PAGES, 'write');
      await deviceStamps(bench, range, 0, HUGE_PAGES, 2);
      const child: AddressSpace = await bench.fork();
      const childContext = bench.attach(child);
      await bench.deviceWrite(range, 10, 1, 31);
      await bench.deviceWrite(range, 511, 1, 32);
      await bench.cpuWrite(range, 300, 1, 33, child);
      await bench.deviceWrite(range, 0, 1, 34, childContext);
      for (const page of [0, 10, 11, 300, 511]) {
        await bench.cpuSees(range, page, 1, child);
        await bench.deviceSees(range, page, 1, childContext);
        await bench.cpuSees(range, page, 1);
        await bench.deviceSees(range, page, 1);
      }
    },
  },
  {
    name: 'a huge page goes to the device and comes home whole',
    group: 'huge pages',
    rule: 'A migration of 2 MiB moves all 512 pages, each to its own place, as one copy or as many.',
    needs: needsHugeMemory,
    async run(bench) {
      const range = await hugeRange(bench);
      await bench.migrate(range, 'device');
      await deviceChecks(bench, range, 0, HUGE_PAGES);
      await deviceStamps(bench, range, 0, HUGE_PAGES, 2);
      await bench.migrate(range, 'host');
      bench.equal(inUse(bench), 0, 'pages of the device in use after a huge page has come home');
      await bench.cpuSees(range, 0, HUGE_PAGES);
    },
  },
  {
    name: 'a fault brings a whole huge page',
    group: 'huge pages',
    rule: 'A device whose granule is 2 MiB takes a huge page at once: every byte of it is the right one at once.',
    needs: (profile) =>
      needsHugeMemory(profile) ??
      (profile.granulePages < HUGE_PAGES ? 'its faults bring less than a huge page: the granule is smaller than 2 MiB' : undefined),
    async run(bench) {
      const range = await hugeRange(bench, 2 * HUGE_PAGES);
      await bench.deviceWrite(range, 37, 1, 5);
      await bench.deviceWrite(range, HUGE_PAGES + 400, 1, 6);
      await deviceChecks(bench, range, 0, 2 * HUGE_PAGES);
      await bench.cpuSees(range, 38, 1);
      await bench.deviceSees(range, 0, HUGE_PAGES);
    },
  },
  {
    name: 'a CPU touch takes a huge page of the device apart',
    group: 'huge pages',
    rule: 'When one page of a huge one goes home, or all of them do, the others keep their bytes where they are.',
    needs: needsHugeMemory,
    async run(bench) {
      const range = await hugeRange(bench);
      await bench.migrate(range, 'device');
      await deviceStamps(bench, range, 0, HUGE_PAGES, 2);
      await bench.cpuSees(range, 100, 1);
      await bench.cpuWrite(range, 101, 1, 9);
      await bench.migrate(part(range, 400, 20), 'host');
      await deviceChecks(bench, range, 0, HUGE_PAGES);
      await bench.munmap(part(range, 300, 10));
      await look(bench, range, [0, 99, 100, 101, 299, 310, 399, 400, 419, 420, 511]);
      await bench.migrate(range, 'device');
      await look(bench, range, [0, 100, 101, 299, 310, 400, 511]);
    },
  },
  {
    name: 'huge pages under pressure keep their bytes',
    group: 'huge pages',
    rule: 'Huge pages that go to a memory that is full evict others, whole or in pieces, and none of their bytes is lost.',
    needs: (profile) =>
      needsHugeMemory(profile) ??
      (profile.memoryPages > 16 * HUGE_PAGES ? 'its memory is too large to be filled here: give it 4 to 32 MiB in the options' : undefined),
    async run(bench) {
      const count = Math.floor(bench.profile.memoryPages / HUGE_PAGES) + 2;
      const range = await hugeRange(bench, count * HUGE_PAGES);
      for (let huge = 0; huge < count; huge++) await bench.migrate(part(range, huge * HUGE_PAGES, HUGE_PAGES), 'device');
      for (let huge = 0; huge < count; huge++) await look(bench, part(range, huge * HUGE_PAGES, HUGE_PAGES), []);
      for (let huge = 0; huge < count; huge++)
        for (const page of [0, 255, 511]) {
          await bench.deviceSees(range, huge * HUGE_PAGES + page, 1);
          await bench.deviceWrite(range, huge * HUGE_PAGES + page, 1, huge + 1);
        }
      for (let huge = 0; huge < count; huge++) await bench.cpuSees(range, huge * HUGE_PAGES, HUGE_PAGES);
    },
  },
  {
    name: 'a block entry is one, and is taken apart',
    group: 'huge pages',
    rule: 'Entries for large pages (pageBytes) hold what base entries would: at their borders, after a part has gone, and when a smaller one takes their place.',
    needs: needsBlocks,
    async run(bench) {
      const range = await hugeRange(bench, 2 * HUGE_PAGES);
      await take(bench, range, 0, 2 * HUGE_PAGES, 'write');
      await bench.deviceWrite(range, HUGE_PAGES - 1, 2, 3);
      await bench.munmap(part(range, HUGE_PAGES - 2, 1));
      for (const page of [HUGE_PAGES - 3, HUGE_PAGES - 1, HUGE_PAGES]) {
        await bench.deviceSees(range, page, 1);
        await bench.deviceWrite(range, page, 1, page % 251);
        await bench.cpuSees(range, page, 1);
      }
      bench.require(
        !bench.context.reaches(range.start / PAGE + HUGE_PAGES - 2, false),
        'the device can still read a page that was cut out of a block',
      );
      await take(bench, range, 0, HUGE_PAGES - 2, 'write');
      await deviceChecks(bench, range, 0, HUGE_PAGES - 2);
    },
  },
];

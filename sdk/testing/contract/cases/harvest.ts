/** Harvest: what the device did with its pages is known, page by page, and asked for without an error. */
import type { Mark } from '../../../gmem/index.ts';
import type { AddressRange } from '../../../mm/address-space.ts';
import { type Bench, PAGE } from '../bench.ts';
import type { ContractCase, Profile } from '../case.ts';
import { needsMarks, part } from './common.ts';

function needsMarksAndAccesses(profile: Profile): string | undefined {
  const bodiless = profile.driver.memory?.some(({ bytesIn }) => bytesIn !== undefined && bytesIn !== 'backed');
  return needsMarks(profile) ?? (bodiless ? 'the machine cannot run its accesses: its memory has no bytes there' : undefined);
}

async function harvest(bench: Bench, range: AddressRange): Promise<readonly Mark[]> {
  bench.mark();
  return bench.wait(bench.context.harvestAsync(range));
}

/** Pages of a range that are among the marks. */
function among(marks: readonly Mark[], range: AddressRange, want: (mark: Mark) => boolean): Set<number> {
  return new Set(marks.filter(want).map(({ vpn }) => vpn - range.start / PAGE));
}

/** Requires that each of these pages of the range is marked. */
function requireMarks(
  bench: Bench,
  marks: readonly Mark[],
  range: AddressRange,
  pages: readonly number[],
  kind: 'accessed' | 'dirty',
  after: string,
): void {
  const found = among(marks, range, (mark) => mark[kind]);
  for (const page of pages) bench.require(found.has(page), `page ${page} of the range is not marked ${kind} after ${after}`);
}

/** A range that the device has faulted in completely, with a first harvest behind it. */
async function prepared(bench: Bench, pages: number): Promise<AddressRange> {
  const range = bench.mmap(pages);
  await bench.cpuWrite(range, 0, pages, 1);
  await bench.deviceWrite(range, 0, pages, 2);
  await harvest(bench, range);
  return range;
}

const PAGES = 16;
const ALL = Array.from({ length: PAGES }, (_, page) => page);

export const HARVEST: readonly ContractCase[] = [
  {
    name: 'a page that the device read is marked accessed',
    group: 'harvest',
    rule: 'After an access of the device the mark of its page is never missing.',
    needs: needsMarksAndAccesses,
    async run(bench) {
      const range = await prepared(bench, PAGES);
      await bench.deviceSees(range, 3, 1);
      await bench.deviceSees(range, 9, 2);
      const marks = await harvest(bench, range);
      requireMarks(bench, marks, range, [3, 9, 10], 'accessed', 'the device has read it');
    },
  },
  {
    name: 'a page that the device wrote is marked dirty',
    group: 'harvest',
    rule: 'After a write of the device the dirty mark of its page is never missing, whether the translation was filled by a read or by a write.',
    needs: needsMarksAndAccesses,
    async run(bench) {
      const range = await prepared(bench, PAGES);
      await bench.deviceSees(range, 0, PAGES);
      await bench.deviceWrite(range, 2, 1, 7);
      await bench.deviceWrite(range, PAGES - 1, 1, 8);
      const marks = await harvest(bench, range);
      requireMarks(bench, marks, range, [2, PAGES - 1], 'dirty', 'the device has read it, then written it');
      await bench.deviceWrite(range, 5, 1, 9);
      requireMarks(bench, await harvest(bench, range), range, [5], 'dirty', 'the device has written it at once');
    },
  },
  {
    name: 'the first access after a harvest marks the page again',
    group: 'harvest',
    rule: 'Taking the marks makes the caches forget the pages: the next access marks them again, however often the page was used before.',
    needs: needsMarksAndAccesses,
    async run(bench) {
      const range = await prepared(bench, PAGES);
      for (let round = 0; round < 4; round++) {
        await bench.deviceSees(range, 0, PAGES);
        requireMarks(bench, await harvest(bench, range), range, ALL, 'accessed', `the device has read it in round ${round}`);
        await bench.deviceWrite(range, 0, PAGES, round + 3);
        requireMarks(bench, await harvest(bench, range), range, ALL, 'dirty', `the device has written it in round ${round}`);
      }
    },
  },
  {
    name: 'a harvest takes the marks that it reports',
    group: 'harvest',
    rule: 'A mark that was reported is cleared: a page that nobody has used since is not reported for ever.',
    needs: needsMarks,
    async run(bench) {
      const range = await prepared(bench, PAGES);
      // One that is there without an access may be there once.
      await harvest(bench, range);
      const marks = await harvest(bench, range);
      bench.equal(marks.length, 0, 'the number of pages that are reported a third time in a row, with no access between,');
    },
  },
  {
    name: 'a harvest leaves the marks of other pages',
    group: 'harvest',
    rule: 'Only marks of the pages that were asked for are taken.',
    needs: needsMarksAndAccesses,
    async run(bench) {
      const range = await prepared(bench, PAGES);
      await bench.deviceWrite(range, 0, PAGES, 5);
      const middle = part(range, 4, 4);
      requireMarks(bench, await harvest(bench, middle), range, [4, 5, 6, 7], 'dirty', 'the device has written it');
      const rest = ALL.filter((page) => page < 4 || page >= 8);
      requireMarks(bench, await harvest(bench, range), range, rest, 'dirty', 'a harvest of other pages');
    },
  },
  {
    name: 'a harvest reports only pages of its range',
    group: 'harvest',
    rule: 'What is reported is of the pages that were asked for.',
    needs: needsMarks,
    async run(bench) {
      const range = await prepared(bench, PAGES);
      await bench.deviceWrite(range, 0, PAGES, 5);
      const asked = part(range, 4, 4);
      for (const { vpn } of await harvest(bench, asked))
        bench.require(vpn * PAGE >= asked.start && vpn * PAGE < asked.end, `page 0x${vpn.toString(16)} is reported and was not asked for`);
      const apart = bench.mmap(4);
      bench.equal((await harvest(bench, apart)).length, 0, 'the number of pages reported of a range that nobody has used');
    },
  },
  {
    name: 'a page that is gone has no marks',
    group: 'harvest',
    rule: 'A translation that is taken away takes its marks along.',
    needs: needsMarks,
    async run(bench) {
      const range = await prepared(bench, PAGES);
      await bench.deviceWrite(range, 0, PAGES, 5);
      const gone = part(range, 4, 8);
      await bench.munmap(gone);
      bench.equal((await harvest(bench, gone)).length, 0, 'the number of pages reported of a range that was unmapped');
    },
  },
  {
    name: 'a translation that is entered again keeps the marks of its page',
    group: 'harvest',
    rule: 'A fault next to a page enters translations around it anew; what the device has done with that page must still be known.',
    needs: needsMarksAndAccesses,
    async run(bench) {
      const pages = Math.min(Math.max(bench.profile.granulePages, 2) * 2, 1024);
      const range = bench.mmap(pages);
      await bench.cpuWrite(range, 0, pages, 1);
      await harvest(bench, range);
      const used: number[] = [];
      for (let page = 0; page < pages; page += Math.max(1, pages / 32)) {
        await bench.deviceWrite(range, page, 1, 2);
        used.push(page);
        await bench.fault(range, (page + 1) % pages, 1, 'write');
      }
      await bench.mirror(range, 0, pages, 'write');
      requireMarks(bench, await harvest(bench, range), range, used, 'dirty', 'the device has written it and faulted next to it');
    },
  },
];

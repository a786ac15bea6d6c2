/** Devices with memory that have one defect each, and the case that says so. */
import { expect, test } from 'vitest';
import { defineDriver, type GmMmu, type Marks, type Mappings, permits, type Ranges, type Translation } from 'farfault/gmem';
import { gradeDriver } from 'farfault/testing';

const PAGES = 64;
const PAGE = 4096;

/** A small device of which everything is written out: a table, marks, a cache, an allocator, a copy engine. `defect`: what it does wrong. */
function device(defect: string): ReturnType<typeof defineDriver<object>> {
  return defineDriver(() => {
    const used = new Set<number>();
    const phys = {
      allocPage(): number | undefined {
        const first = defect === 'random' ? Math.floor(Math.random() * PAGES) : 0;
        for (let i = 0; i < (defect === 'last page unused' ? PAGES - 1 : PAGES); i++) {
          const page = (first + i) % PAGES;
          if (used.has(page)) continue;
          used.add(page);
          return page;
        }
        if (defect === 'throws when full') throw new Error('no page is free');
        return undefined;
      },
      freePage(page: number): void {
        if (defect !== 'leak' || page % 5 !== 0) used.delete(page);
      },
      victims(spared: (page: number) => boolean): readonly number[] {
        if (defect === 'no victims') return [];
        if (defect === 'victims free') return Array.from({ length: PAGES }, (_, page) => page).filter((page) => !spared(page));
        return [...used].filter((page) => defect === 'victims spared' || !spared(page)).slice(0, 8);
      },
    };
    return {
      name: 'broken',
      memory: [{ name: 'memory', kind: 'private', bytes: PAGES * PAGE, allocator: 'driver' }],
      attach(): GmMmu {
        const table = new Map<number, Translation>();
        const cache = new Map<number, Translation>();
        const marks = new Map<number, boolean>();
        const drop = (from: Map<number, unknown>, ranges: Ranges): void =>
          ranges.each((start, pages) => {
            for (const vpn of from.keys()) if (vpn >= start && vpn < start + pages) from.delete(vpn);
          });
        return {
          pmap: {
            enter(mappings: Mappings) {
              mappings.each((vpn, pages, page, memory, write) => {
                for (let i = 0; i < pages; i++) table.set(vpn + i, { vpn: vpn + i, page: page + i, memory, write });
                if (defect === 'enter clears marks') for (let i = 0; i < pages; i++) marks.delete(vpn + i);
              });
            },
            release(ranges) {
              drop(table, ranges);
              if (defect !== 'marks stay') drop(marks, ranges);
            },
          },
          tlb: { invalidate: (ranges) => drop(cache, ranges) },
          walk: {
            translate(vpn, access) {
              let entry = cache.get(vpn);
              if (!permits(entry, access)) {
                entry = table.get(vpn);
                if (!permits(entry, access)) return undefined;
                cache.set(vpn, entry);
                if (defect === 'marks on fill') marks.set(vpn, access === 'write' || marks.get(vpn) === true);
              }
              if (defect !== 'marks on fill') marks.set(vpn, access === 'write' || marks.get(vpn) === true);
              return entry;
            },
            harvest(ranges: Ranges, out: Marks) {
              ranges.each((start, pages) => {
                for (const [vpn, dirty] of marks) {
                  if (vpn < start || vpn >= start + pages) continue;
                  out.add(vpn, dirty);
                  if (defect !== 'harvest keeps') marks.delete(vpn);
                }
              });
            },
          },
          copy: {
            toDevice: (copies) => (defect === 'half to device' ? copies.keep(Math.ceil(copies.pages / 2)) : copies).perform(),
            toHost: (copies) => (defect === 'last stays' ? copies.keep(Math.max(1, copies.pages - 1)) : copies).perform(),
            zero: (copies) => (defect === 'no zeros' ? undefined : copies.perform()),
          },
          phys,
        };
      },
    };
  });
}

const DEFECTS: readonly (readonly [defect: string, caught: string])[] = [
  ['leak', 'a page comes back after munmap'],
  ['last page unused', 'every page of the memory can be used'],
  ['victims spared', 'victims are not pages that are spared'],
  ['victims free', 'victims are pages in use'],
  ['no victims', 'a memory that is full has victims'],
  ['half to device', 'every byte goes to the device and comes home'],
  ['last stays', 'what the device wrote comes home'],
  ['no zeros', 'a fresh page of the device is zeros'],
  ['marks on fill', 'a page that the device wrote is marked dirty'],
  ['harvest keeps', 'a harvest takes the marks that it reports'],
  ['marks stay', 'a page that is gone has no marks'],
  ['enter clears marks', 'a translation that is entered again keeps the marks of its page'],
  ['random', 'the same seed gives the same calls'],
  ['throws when full', 'too many pages at once is an answer and not an error'],
];

test.each(DEFECTS)('%s: %s', async (defect, caught) => {
  const good = await gradeDriver(device(''), { cases: caught });
  expect(good.cases.find(({ name }) => name === caught)?.verdict).toBe('passed');
  const report = await gradeDriver(device(defect), { cases: caught });
  expect(report.cases.find(({ name }) => name === caught)?.verdict).toBe('failed');
});

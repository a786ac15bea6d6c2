/** Broken accessed and dirty marks. */
import { type Marks, Ranges } from 'farfault/gmem';
import { type Cached, mirrored, Table, Tlb } from '../good.ts';
import type { Broken } from './case.ts';

export const HARVEST: readonly Broken[] = [
  {
    name: 'forgets the first write',
    how: 'A write through a translation that a read has filled does not set dirty.',
    by: 'a page that the device wrote is marked dirty',
    driver: mirrored({
      Tlb: class extends Tlb {
        override firstWrite(_vpn: number, hit: Cached): void {
          hit.dirty = true;
        }
      },
    }),
  },
  {
    name: 'clears marks without a report',
    how: 'walk.harvest clears the marks of a range and names the written pages only.',
    by: 'a page that the device read is marked accessed',
    driver: mirrored({
      Table: class extends Table {
        override harvest(ranges: Ranges, marks: Marks): void {
          const written = { add: (vpn: number, dirty: boolean): void => (dirty ? marks.add(vpn, true) : undefined) } as Marks;
          super.harvest(ranges, written);
        }
      },
    }),
  },
  {
    name: 'reports marks and keeps them',
    how: 'walk.harvest does not clear what it has named.',
    by: 'a harvest takes the marks that it reports',
    driver: mirrored({
      Table: class extends Table {
        override harvest(ranges: Ranges, marks: Marks): void {
          const kept = [...this.marks];
          super.harvest(ranges, marks);
          for (const [vpn, dirty] of kept) this.marks.set(vpn, dirty);
        }
      },
    }),
  },
  {
    name: 'clears the marks of its whole table',
    how: 'walk.harvest names the pages of its ranges, and clears all others as well.',
    by: 'a harvest leaves the marks of other pages',
    driver: mirrored({
      Table: class extends Table {
        override harvest(ranges: Ranges, marks: Marks): void {
          super.harvest(ranges, marks);
          this.marks.clear();
        }
      },
    }),
  },
  {
    name: 'names pages beside the range',
    how: 'walk.harvest looks one page too far.',
    by: 'a harvest reports only pages of its range',
    driver: mirrored({
      Table: class extends Table {
        override harvest(ranges: Ranges, marks: Marks): void {
          const wider = new Ranges();
          ranges.each((vpn, pages) => wider.add(vpn, pages + 1));
          super.harvest(wider, marks);
        }
      },
    }),
  },
  {
    name: 'keeps the marks of a page that is gone',
    how: 'pmap.release takes the translation away and leaves its marks.',
    by: 'a page that is gone has no marks',
    driver: mirrored({
      Table: class extends Table {
        override forget(vpn: number): void {
          this.entries.delete(vpn);
        }
      },
    }),
  },
];

/** Broken tables and translation caches. */
import type { Access, Mappings, Ranges, Ticket, Translation } from 'farfault/gmem';
import { type Cached, card, type Entry, late, LateTlb, mirrored, PAGE, Table, Tlb } from '../good.ts';
import type { Broken } from './case.ts';

/** A table in runs, as one with huge entries is: what is released is cut out of them. */
class RunTable extends Table {
  private runs: { vpn: number; pages: number; entry: Entry }[] = [];

  override enterRun(vpn: number, pages: number, page: number, memory: number, write: boolean): void {
    this.releaseRun(vpn, vpn + pages);
    this.runs.push({ vpn, pages, entry: { page, memory, write } });
  }

  override releaseRun(start: number, end: number): void {
    const left: typeof this.runs = [];
    for (const run of this.runs) {
      const last = run.vpn + run.pages;
      if (last <= start || run.vpn >= end) {
        left.push(run);
        continue;
      }
      if (run.vpn < start) left.push({ ...run, pages: start - run.vpn });
      if (last > end) left.push({ vpn: end, pages: last - end, entry: this.tail(run.entry, end - run.vpn) });
    }
    this.runs = left;
  }

  tail(entry: Entry, skipped: number): Entry {
    return { ...entry, page: entry.page + skipped };
  }

  override find(vpn: number): Entry | undefined {
    const run = this.runs.find((each) => vpn >= each.vpn && vpn < each.vpn + each.pages);
    return run && { ...run.entry, page: run.entry.page + vpn - run.vpn };
  }

  override destroy(): void {
    this.runs = [];
  }
}

export const GOOD_RUNS = mirrored({ Table: RunTable });

export const TRANSLATION: readonly Broken[] = [
  {
    name: 'forgets a flush',
    how: 'tlb.invalidate does nothing.',
    by: 'a translation that is only cached is gone after its invalidation',
    driver: mirrored({
      Tlb: class extends Tlb {
        override invalidate(): void {}
      },
    }),
  },
  {
    name: 'flushes the first range only',
    how: 'tlb.invalidate looks at the first of its ranges.',
    by: 'all ranges of one call are taken away',
    driver: card({
      Tlb: class extends Tlb {
        override invalidate(ranges: Ranges): void {
          this.flush(ranges.start(0), ranges.start(0) + ranges.length(0));
        }
      },
    }),
  },
  {
    name: 'flushes the first page only',
    how: 'tlb.invalidate drops the first page of each range.',
    by: 'every page of a run is entered with its own page',
    driver: mirrored({
      Tlb: class extends Tlb {
        override flush(start: number): void {
          super.flush(start, start + 1);
        }
      },
    }),
  },
  {
    name: 'flushes one page too few',
    how: 'tlb.invalidate ends one page before the end of a range.',
    by: 'the last page of a range is released',
    driver: mirrored({
      Tlb: class extends Tlb {
        override flush(start: number, end: number): void {
          super.flush(start, end - 1);
        }
      },
    }),
  },
  {
    name: 'releases the first range only',
    how: 'pmap.release looks at the first of its ranges.',
    by: 'every range of one invalidation is released',
    driver: card({
      Table: class extends Table {
        override release(ranges: Ranges): void {
          this.releaseRun(ranges.start(0), ranges.start(0) + ranges.length(0));
        }
      },
    }),
  },
  {
    name: 'releases one page too few',
    how: 'pmap.release ends one page before the end of a range.',
    by: 'the last page of a range is released',
    driver: mirrored({
      Table: class extends Table {
        override releaseRun(start: number, end: number): void {
          super.releaseRun(start, end - 1);
        }
      },
    }),
  },
  {
    name: 'flushes before it clears',
    how: 'pmap.release is put off until the TLB has been flushed and filled again with what was used last.',
    by: 'the device reads what the CPU wrote',
    driver: mirrored({
      Table: class extends Table {
        override release(): void {}
      },
      Tlb: class extends Tlb {
        override invalidate(ranges: Ranges): void {
          const used = [...this.cached.keys()];
          super.invalidate(ranges);
          for (const vpn of used) this.lookup(vpn, 'read');
          this.table.releaseRun(ranges.start(0), ranges.start(0) + ranges.length(0));
        }
      },
    }),
  },
  {
    name: 'clears the table after the flush is acknowledged',
    how: 'pmap.release is sent by mail, behind the flush: between the two the TLB fills itself from the old table.',
    by: 'a flush has ended when its ticket says so',
    driver: late({
      Table: class extends Table {
        override release(): void {}
      },
      Tlb: class extends LateTlb {
        override send(kept: readonly [number, number][]): Ticket | void {
          const ticket = super.send(kept);
          this.mail.post(() => {
            for (const [start, end] of kept) this.table.releaseRun(start, end);
          });
          return ticket;
        }
      },
    }),
  },
  {
    name: 'enters the first page of a run only',
    how: 'pmap.enter installs one page of each item.',
    by: 'every page of a run is entered with its own page',
    driver: mirrored({
      Table: class extends Table {
        override enterRun(vpn: number, _pages: number, page: number, memory: number, write: boolean): void {
          super.enterRun(vpn, 1, page, memory, write);
        }
      },
    }),
  },
  {
    name: 'enters the first half of the mappings only',
    how: 'pmap.enter stops in the middle of its list.',
    by: 'a page that nobody wrote reads as zeros',
    driver: mirrored({
      Table: class extends Table {
        override enter(mappings: Mappings): void {
          let left = Math.ceil(mappings.count / 2);
          mappings.each((vpn, pages, page, memory, write) => {
            if (left-- > 0) this.enterRun(vpn, pages, page, memory, write);
          });
        }
      },
    }),
  },
  {
    name: 'does not replace what it had',
    how: 'pmap.enter leaves a page alone that has a translation.',
    by: 'a newer translation replaces the older one',
    driver: mirrored({
      Table: class extends Table {
        override set(vpn: number, entry: Entry): void {
          if (!this.entries.has(vpn)) super.set(vpn, entry);
        }
      },
    }),
  },
  {
    name: 'ignores read-only',
    how: 'pmap.enter installs every translation with the right to write.',
    by: 'a translation that was entered for reading takes no writes',
    driver: mirrored({
      Table: class extends Table {
        override enterRun(vpn: number, pages: number, page: number, memory: number): void {
          super.enterRun(vpn, pages, page, memory, true);
        }
      },
    }),
  },
  {
    name: 'keeps the right to write in its cache',
    how: 'A page that was once writable stays so in the TLB when it is entered again.',
    by: 'a right that was taken is not used any more',
    driver: mirrored({
      Tlb: class extends Tlb {
        private readonly writable = new Set<number>();
        override lookup(vpn: number, access: Access): Entry | undefined {
          const entry = super.lookup(vpn, this.writable.has(vpn) ? 'read' : access);
          if (entry?.write) this.writable.add(vpn);
          return entry && { ...entry, write: this.writable.has(vpn) };
        }
      },
    }),
  },
  {
    name: 'counts pages in 32 bits',
    how: 'The key of the TLB is the low 32 bits of the page number.',
    by: 'page numbers above 32 bits are kept whole',
    driver: mirrored({
      Tlb: class extends Tlb {
        override lookup(vpn: number, access: Access): Entry | undefined {
          const hit = this.cached.get(vpn >>> 0);
          if (this.allows(hit, access)) {
            if (access === 'write' && !hit.dirty) this.firstWrite(vpn, hit);
            return hit;
          }
          const entry = super.lookup(vpn, access);
          const filled = this.cached.get(vpn);
          this.cached.delete(vpn);
          if (filled) this.cached.set(vpn >>> 0, filled);
          return entry;
        }
        override flush(start: number, end: number): void {
          if (end - start > 2 ** 31) this.cached.clear();
          else for (let vpn = start; vpn < end; vpn++) this.cached.delete(vpn >>> 0);
        }
      },
    }),
  },
  {
    name: 'translates another page',
    how: 'walk.translate answers from the neighbour when it has the page itself not.',
    by: 'a translation is gone after its invalidation',
    driver: mirrored({
      Table: class extends Table {
        override find(vpn: number): Entry | undefined {
          return super.find(vpn) ?? super.find(vpn - 1);
        }
      },
    }),
  },
  {
    name: 'answers with another page number',
    how: 'walk.translate says `vpn` of the page before the one that it was asked for.',
    by: 'a translation says whose it is',
    driver: mirrored({
      Tlb: class extends Tlb {
        override translate(vpn: number, access: Access): Translation | undefined {
          const answer = super.translate(vpn, access);
          return answer && { ...answer, vpn: vpn - 1 };
        }
      },
    }),
  },
  {
    name: 'throws on what is not mapped',
    how: 'walk.translate throws where it should say undefined.',
    by: 'the device reads what the CPU wrote',
    driver: mirrored({
      Tlb: class extends Tlb {
        override translate(vpn: number, access: Access): Translation | undefined {
          const answer = super.translate(vpn, access);
          if (!answer) throw new Error('a page without a translation');
          return answer;
        }
      },
    }),
  },
  {
    name: 'one table for two spaces',
    how: 'Translations are kept in a variable of the driver, not of the context.',
    by: 'two address spaces never see each other',
    driver: mirrored(() => {
      const shared = new Map<number, Entry>();
      return {
        Table: class extends Table {
          override readonly entries = shared;
        },
      };
    }),
  },
  {
    name: 'one cache for two spaces',
    how: 'The TLB is a variable of the driver; its entries do not say whose they are.',
    by: 'two address spaces never see each other',
    driver: mirrored(() => {
      const shared = new Map<number, Cached>();
      return {
        Tlb: class extends Tlb {
          override readonly cached = shared;
        },
      };
    }),
  },
  {
    name: 'keeps the list of ranges',
    how: 'tlb.invalidate keeps its list, and looks at it at the next translation.',
    by: 'a translation that is only cached is gone after its invalidation',
    driver: mirrored({
      Tlb: class extends Tlb {
        private kept: Ranges | undefined;
        override invalidate(ranges: Ranges): void {
          this.kept = ranges;
        }
        override lookup(vpn: number, access: Access): Entry | undefined {
          if (this.kept) super.invalidate(this.kept);
          this.kept = undefined;
          return super.lookup(vpn, access);
        }
      },
    }),
  },
  {
    name: 'keeps the list of mappings',
    how: 'pmap.enter keeps its list, and installs it at the next look.',
    by: 'every page of a run is entered with its own page',
    says: 'was lent until its call returned',
    driver: mirrored({
      Table: class extends Table {
        private kept: Mappings | undefined;
        override enter(mappings: Mappings): void {
          this.settle();
          this.kept = mappings;
        }
        override release(ranges: Ranges): void {
          this.settle();
          super.release(ranges);
        }
        override find(vpn: number): Entry | undefined {
          this.settle();
          return super.find(vpn);
        }
        private settle(): void {
          if (this.kept) super.enter(this.kept);
          this.kept = undefined;
        }
      },
    }),
  },
  {
    name: 'changes the list of ranges',
    how: 'pmap.release empties the list that it was lent.',
    by: 'a translation that is only cached is gone after its invalidation',
    driver: mirrored({
      Table: class extends Table {
        override release(ranges: Ranges): void {
          super.release(ranges);
          ranges.clear();
        }
      },
    }),
  },
  {
    name: 'calls the machine from a callback',
    how: 'tlb.invalidate reads a byte of the program.',
    by: 'a translation is gone after its invalidation',
    driver: mirrored({
      Tlb: class extends Tlb {
        override invalidate(ranges: Ranges): void {
          super.invalidate(ranges);
          this.context.space.read(ranges.start(0) * PAGE, 1);
        }
      },
    }),
  },
  {
    name: 'protects upwards only',
    how: 'pmap.protect gives the right to write, and never takes it.',
    by: 'protect takes the right to write, and gives it back',
    driver: mirrored({
      Table: class extends Table {
        override protectOne(entry: Entry, write: boolean): void {
          entry.write ||= write;
        }
      },
    }),
  },
  {
    name: 'caches a page across its migration',
    how: 'tlb.invalidate leaves entries alone that are in the memory of the card.',
    by: 'the place of a page is not remembered over a migration',
    driver: card({
      Tlb: class extends Tlb {
        override flush(start: number, end: number): void {
          for (const [vpn, { memory }] of this.cached) if (memory < 0 && vpn >= start && vpn < end) this.cached.delete(vpn);
        }
      },
    }),
  },
  {
    name: 'caches a host page across its migration',
    how: 'pmap.release leaves entries alone that are in the memory of the host.',
    by: 'the first page of a range is released',
    driver: card({
      Table: class extends Table {
        override releaseRun(start: number, end: number): void {
          for (const [vpn, { memory }] of this.entries) if (memory >= 0 && vpn >= start && vpn < end) this.entries.delete(vpn);
        }
      },
    }),
  },
  {
    name: 'loses the place in a run that is cut',
    how: 'What is left behind a hole in a huge entry begins at the page where the whole entry began.',
    by: 'rights of single pages count inside a granule',
    driver: mirrored({
      Table: class extends RunTable {
        override tail(entry: Entry): Entry {
          return entry;
        }
      },
    }),
  },
  {
    name: 'keeps the run when its end is released',
    how: 'pmap.release takes a huge entry only when the range covers its first page.',
    by: 'the last page of a range is released',
    driver: mirrored({
      Table: class extends RunTable {
        override releaseRun(start: number, end: number): void {
          const found = this.find(start);
          const before = this.find(start - 1);
          if (end - start < 2 ** 31 && found && before && before.page + 1 === found.page) return;
          super.releaseRun(start, end);
        }
      },
    }),
  },
];

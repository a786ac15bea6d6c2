/** Broken allocators and copy engines. */
import type { Copies } from 'farfault/gmem';
import { card, Engine, LateEngine, PAGE, queued, remote, Store, Vram } from '../good.ts';
import type { Broken } from './case.ts';

export const MEMORY: readonly Broken[] = [
  {
    name: 'hands a page out twice',
    how: 'phys.allocPage leaves the page among the free ones.',
    by: 'a page is handed out once',
    driver: card({
      Vram: class extends Vram {
        override allocPage(): number | undefined {
          const page = this.free[this.free.length - 1];
          if (page !== undefined) this.used.add(page);
          return page;
        }
      },
    }),
  },
  {
    name: 'hands out the page behind its memory',
    how: 'phys.allocPage counts pages from 1.',
    by: 'every page of the memory can be used',
    driver: card({
      Vram: class extends Vram {
        override allocPage(): number | undefined {
          const page = super.allocPage();
          return page === undefined ? undefined : page + 1;
        }
        override freePage(page: number): void {
          super.freePage(page - 1);
        }
      },
    }),
  },
  {
    name: 'never hands out its last page',
    how: 'phys.allocPage says that none is free when one is left.',
    by: 'every page of the memory can be used',
    driver: card({
      Vram: class extends Vram {
        override allocPage(): number | undefined {
          return this.free.length > 1 ? super.allocPage() : undefined;
        }
      },
    }),
  },
  {
    name: 'frees twice',
    how: 'phys.freePage enters the page among the free ones twice.',
    by: 'a page comes back after munmap',
    driver: card({
      Vram: class extends Vram {
        override freePage(page: number): void {
          super.freePage(page);
          this.free.push(page);
        }
      },
    }),
  },
  {
    name: 'leaks what comes free',
    how: 'phys.freePage forgets the page.',
    by: 'a page comes back after munmap',
    driver: card({
      Vram: class extends Vram {
        override freePage(page: number): void {
          this.used.delete(page);
        }
      },
    }),
  },
  {
    name: 'leaks the last page',
    how: 'phys.freePage forgets the page with the highest number.',
    by: 'a page comes back after munmap',
    driver: card({
      Vram: class extends Vram {
        override freePage(page: number): void {
          if (page === this.pages - 1) this.used.delete(page);
          else super.freePage(page);
        }
      },
    }),
  },
  {
    name: 'leaks when a full memory comes free',
    how: 'phys.freePage loses the page that comes free when no other one is.',
    by: 'a page comes back after an eviction',
    driver: card({
      Vram: class extends Vram {
        override freePage(page: number): void {
          if (this.free.length === 0) this.used.delete(page);
          else super.freePage(page);
        }
      },
    }),
  },
  {
    name: 'leaks on failure',
    how: 'phys.freePage takes a page back only when something has been copied or cleared into it.',
    by: 'a page comes back after a migration that was refused',
    driver: card(() => {
      const filled = new Set<number>();
      const note = (copies: Copies): void =>
        copies.each((pages, _from, _fromPage, memory, page) => {
          for (let i = 0; i < pages; i++) if (memory >= 0) filled.add(page + i);
        });
      return {
        Vram: class extends Vram {
          override freePage(page: number): void {
            if (filled.delete(page)) super.freePage(page);
            else this.used.delete(page);
          }
        },
        Engine: class extends Engine {
          override toDevice(copies: Copies): void {
            note(copies);
            copies.perform();
          }
          override zero(copies: Copies): void {
            note(copies);
            copies.perform();
          }
        },
      };
    }),
  },
  {
    name: 'throws when a page comes free',
    how: 'phys.freePage throws for every page of the upper half.',
    by: 'a page comes back after munmap',
    driver: card({
      Vram: class extends Vram {
        override freePage(page: number): void {
          if (page >= this.pages / 2) throw new Error('not mine');
          super.freePage(page);
        }
      },
    }),
  },
  {
    name: 'has an allocator for each space',
    how: 'phys is made anew in each attach.',
    by: 'the end of one space leaves the pages of the other',
    driver: card({ allocators: 'each' }),
  },
  {
    name: 'gives spared pages away',
    how: 'phys.victims does not ask whether a page is spared.',
    by: 'what a job has just been given is not evicted for it',
    driver: card({
      Vram: class extends Vram {
        override victims(): readonly number[] {
          return [...this.used].slice(-4);
        }
      },
    }),
  },
  {
    name: 'names free pages as victims',
    how: 'phys.victims names pages that nobody has.',
    by: 'victims are pages in use',
    driver: card({
      Vram: class extends Vram {
        override victims(spared: (page: number) => boolean): readonly number[] {
          const free = this.free.at(-1) ?? [...this.used][0]!;
          const chosen = super.victims(spared);
          return chosen.length > 1 ? [chosen[0]!, chosen[0]!, free] : [...chosen, free];
        }
      },
    }),
  },
  {
    name: 'names no victims',
    how: 'phys.victims says that nothing may go.',
    by: 'a memory that is full has victims',
    driver: card({
      Vram: class extends Vram {
        override victims(): readonly number[] {
          return [];
        }
      },
    }),
  },
  {
    name: 'names a victim behind its memory',
    how: 'phys.victims counts pages from 1.',
    by: 'a page comes back after an eviction',
    driver: card({
      Vram: class extends Vram {
        override victims(spared: (page: number) => boolean): readonly number[] {
          return super.victims(spared).map((page) => page + 1);
        }
      },
    }),
  },
  {
    name: 'copies the first half only',
    how: 'copy.toDevice and copy.toHost stop in the middle of their list.',
    by: 'a copy of many pieces copies all of them',
    driver: card({
      Engine: class extends Engine {
        override toDevice(copies: Copies): void {
          copies.keep(Math.ceil(copies.pages / 2)).perform();
        }
        override toHost(copies: Copies): void {
          copies.keep(Math.ceil(copies.pages / 2)).perform();
        }
      },
    }),
  },
  {
    name: 'copies the first page of a run only',
    how: 'The engine copies one page of each piece.',
    by: 'every byte goes to the device and comes home',
    driver: remote({
      Engine: class extends Store {
        override toDevice(copies: Copies): void {
          copies.eachHost((page, _pages, host) => this.bytes.set(host.subarray(0, PAGE), page * PAGE));
        }
      },
    }),
  },
  {
    name: 'copies one way only',
    how: 'copy.toHost does nothing.',
    by: 'what the device wrote comes home',
    driver: card({
      Engine: class extends Engine {
        override toHost(): void {}
      },
    }),
  },
  {
    name: 'brings home what it has not',
    how: 'copy.toDevice does nothing.',
    by: 'every byte goes to the device and comes home',
    driver: card({
      Engine: class extends Engine {
        override toDevice(): void {}
      },
    }),
  },
  {
    name: 'does not zero',
    how: 'copy.zero does nothing: a page shows what it held before.',
    by: 'fresh pages of the device are zeros',
    driver: card({
      Engine: class extends Engine {
        override zero(): void {}
      },
    }),
  },
  {
    name: 'does not zero the memory that it holds',
    how: 'copy.zero of an external memory does nothing.',
    by: 'a fresh page of the device is zeros',
    driver: remote({
      Engine: class extends Store {
        override zero(): void {}
      },
    }),
  },
  {
    name: 'swaps the order of pages',
    how: 'A run is copied home with its pages in reverse.',
    by: 'every byte goes to the device and comes home',
    driver: remote({
      Engine: class extends Store {
        override toHost(copies: Copies): void {
          copies.eachHost((page, pages, host) => {
            for (let i = 0; i < pages; i++)
              host.set(this.bytes.subarray((page + pages - 1 - i) * PAGE, (page + pages - i) * PAGE), i * PAGE);
          });
        }
      },
    }),
  },
  {
    name: 'keeps the list of copies',
    how: 'The engine keeps the list that it was lent, and performs it when its turn comes.',
    by: 'the copy list is used while it is lent',
    says: 'was lent until its call returned',
    driver: queued({
      Engine: class extends LateEngine {
        override send(copies: Copies): ReturnType<LateEngine['send']> {
          return this.mail.send(this.context.ticket('copy'), () => copies.perform());
        }
      },
    }),
  },
  {
    name: 'loses the end of a copy that is kept',
    how: 'The engine keeps all but the last page of a list.',
    by: 'a copy of many pieces copies all of them',
    driver: queued({
      Engine: class extends LateEngine {
        override send(copies: Copies): ReturnType<LateEngine['send']> {
          return super.send(copies.keep(Math.max(copies.pages - 1, 1)));
        }
      },
    }),
  },
  {
    name: 'fails what it has done',
    how: 'Every copy home of more than one page ends in a failed ticket.',
    by: 'what the device wrote comes home',
    driver: queued({
      Engine: class extends LateEngine {
        override toHost(copies: Copies): ReturnType<LateEngine['send']> {
          const kept = copies.keep();
          const ticket = this.context.ticket('copy');
          this.mail.post(() => {
            kept.perform();
            if (kept.pages > 1) ticket.fail('too long');
            else ticket.complete();
          });
          return ticket;
        }
      },
    }),
  },
];

/** Addresses that are handed out wrong. */
import { Addresses, PAGE, pagesOf, peer } from '../good.ts';
import type { Broken } from './case.ts';

export const ADDRESSES: readonly Broken[] = [
  {
    name: 'never frees addresses',
    how: 'peerVa.free does nothing.',
    by: 'addresses come back',
    driver: peer({
      Addresses: class extends Addresses {
        override free(): void {}
      },
    }),
  },
  {
    name: 'gives addresses twice',
    how: 'peerVa.allocFixed says success for a range that is reserved.',
    by: 'addresses that are reserved are given to nobody else',
    driver: peer({
      Addresses: class extends Addresses {
        override isFree(): boolean {
          return true;
        }
      },
    }),
  },
  {
    name: 'looks at the first page of a range only',
    how: 'peerVa.allocFixed says success when the first page is free.',
    by: 'addresses that are reserved are given to nobody else',
    driver: peer({
      Addresses: class extends Addresses {
        override isFree(pages: readonly number[]): boolean {
          return super.isFree(pages.slice(0, 1));
        }
      },
    }),
  },
  {
    name: 'frees a piece too many',
    how: 'peerVa.free frees the page behind its range, too.',
    by: 'addresses come back',
    driver: peer({
      Addresses: class extends Addresses {
        override free(start: number, bytes: number): void {
          super.free(start - PAGE, bytes + PAGE);
        }
      },
    }),
  },
  {
    name: 'keeps what it has refused',
    how: 'peerVa.allocFixed reserves the free pages of a range before it says nomem.',
    by: 'addresses that are reserved are given to nobody else',
    driver: peer({
      Addresses: class extends Addresses {
        override allocFixed(start: number, bytes: number): 'success' | 'nomem' {
          const pages = pagesOf(start, bytes);
          const free = this.isFree(pages);
          for (const page of pages) this.taken.add(page);
          return free ? 'success' : 'nomem';
        }
      },
    }),
  },
  {
    name: 'frees addresses once',
    how: 'peerVa.free does nothing from the second time on.',
    by: 'a place that another device refuses is free again',
    driver: peer(() => {
      let calls = 0;
      return {
        Addresses: class extends Addresses {
          override free(start: number, bytes: number): void {
            if (calls++ < 1) super.free(start, bytes);
          }
        },
      };
    }),
  },
];

/** Drivers that bring and take pages by themselves, and say what is not so; engines that copy between devices wrongly. */
import type { Copies, PeerBatch, PeerItem, Ranges, Ticket } from 'farfault/gmem';
import { Coupling, coupled, linked, LinkedEngine, placing, PostedCoupling, posted, Stock } from '../coupled.ts';
import type { Broken } from './case.ts';

export const COUPLED: readonly Broken[] = [
  {
    name: 'says that it has brought what it has not',
    how: 'peer.map answers success for the last item of a batch without doing anything.',
    by: 'every page of a batch is brought',
    driver: coupled({
      Coupling: class extends Coupling {
        override map(batch: PeerBatch): void {
          batch.each((item) => {
            if (item.index > 0 && item.index === batch.count - 1) batch.answer(item, 'success');
            else this.bring(batch, item);
          });
        }
      },
    }),
  },
  {
    name: 'brings pages without a translation',
    how: 'peer.map copies the bytes, and leaves the table as it is.',
    by: 'every page of a batch is brought',
    driver: coupled({
      Coupling: class extends Coupling {
        override enter(): void {}
      },
    }),
  },
  {
    name: 'answers the first item only',
    how: 'peer.map stops after the first item of a batch.',
    by: 'every page of a batch is brought',
    driver: coupled({
      Coupling: class extends Coupling {
        override map(batch: PeerBatch): void {
          this.bring(batch, batch.item(0));
        }
      },
    }),
  },
  {
    name: 'maps before the bytes are there',
    how: 'The ticket of peer.map ends when the translations are entered; the bytes come a message later.',
    by: 'pages that are brought have their bytes at once',
    driver: posted({
      Coupling: class extends PostedCoupling {
        override fill(copies: Copies, item: PeerItem): void {
          const kept = copies.keep();
          if (item.bytes === 'copy' && item.access !== 'write' && item.behaviour === 'will need') this.mail.post(() => kept.perform());
          else copies.perform();
        }
      },
    }),
  },
  {
    name: 'does not clear what it brings empty',
    how: 'peer.map leaves a page that is to be zeros as it was.',
    by: 'a page that is brought empty is zeros',
    driver: coupled({
      Coupling: class extends Coupling {
        override fill(copies: Copies, { bytes }: PeerItem): void {
          if (bytes !== 'zero') copies.perform();
        }
      },
    }),
  },
  {
    name: 'brings everything writable',
    how: 'peer.map enters every translation with the right to write.',
    by: 'a page that may only be read is brought so',
    driver: coupled({
      Coupling: class extends Coupling {
        override enter({ vpn, pages, page, memory }: PeerItem): void {
          this.table.enterRun(vpn, pages, page, memory, true);
        }
      },
    }),
  },
  {
    name: 'forgets the bytes of the last page',
    how: 'peer.unmap copies all items of a batch but the last one.',
    by: 'the bytes of every page that is taken come home',
    driver: coupled({
      Coupling: class extends Coupling {
        override unmap(batch: PeerBatch): void {
          batch.each((item) => {
            this.drop(batch.ranges(item));
            if (item.index < batch.count - 1) batch.copies(item).perform();
            batch.answer(item, 'success');
          });
        }
      },
    }),
  },
  {
    name: 'says that it has taken while it copies',
    how: 'peer.unmap answers success at once, and copies when its mail is read.',
    by: 'the bytes of every page that is taken come home',
    driver: placing({
      Coupling: class extends Coupling {
        override unmap(batch: PeerBatch): void {
          batch.each((item) => {
            this.drop(batch.ranges(item));
            const kept = batch.copies(item).keep();
            this.mail.post(() => kept.perform());
            batch.answer(item, 'success');
          });
        }
      },
    }),
  },
  {
    name: 'uses what it has let go of',
    how: 'peer.unmap answers success at once, and takes the translations away when its mail is read.',
    by: 'what was taken is used no more',
    driver: coupled({
      Coupling: class extends Coupling {
        override unmap(batch: PeerBatch): void {
          batch.each((item) => {
            const { vpn, pages } = item;
            this.mail.post(() => {
              this.table.releaseRun(vpn, vpn + pages);
              this.tlb.flush(vpn, vpn + pages);
            });
            batch.copies(item).perform();
            batch.answer(item, 'success');
          });
        }
      },
    }),
  },
  {
    name: 'keeps what it takes in its cache',
    how: 'peer.unmap clears its table, and leaves the TLB as it is.',
    by: 'what was taken is used no more',
    driver: coupled({
      Coupling: class extends Coupling {
        override drop(ranges: Ranges): void {
          this.table.release(ranges);
        }
      },
    }),
  },
  {
    name: 'refuses to let go',
    how: 'peer.unmap ends in failure for what has no bytes to be copied.',
    by: 'pages that only go are let go of',
    driver: coupled({
      Coupling: class extends Coupling {
        override take(batch: PeerBatch, item: PeerItem): void {
          if (item.bytes === 'none') batch.answer(item, 'failure');
          else super.take(batch, item);
        }
      },
    }),
  },
  {
    name: 'lets go of the first page of a range',
    how: 'peer.unmap takes one translation away where a range of pages goes.',
    by: 'pages that only go are let go of',
    driver: coupled({
      Coupling: class extends Coupling {
        override take(batch: PeerBatch, item: PeerItem): void {
          if (item.bytes !== 'none') return super.take(batch, item);
          this.table.releaseRun(item.vpn, item.vpn + 1);
          this.tlb.flush(item.vpn, item.vpn + 1);
          batch.answer(item, 'success');
        }
      },
    }),
  },
  {
    name: 'enters what it has no room for',
    how: 'peer.map enters a translation to the page that it gave last, and then says nomem.',
    by: 'what the device has no room for leaves nothing behind',
    driver: placing({
      Coupling: class extends Coupling {
        override refuse(batch: PeerBatch, item: PeerItem): void {
          this.table.enterRun(item.vpn, 1, 0, 0, true);
          batch.answer(item, 'nomem');
        }
      },
    }),
  },
  {
    name: 'loses every second page',
    how: 'peer.freePage takes back pages with even numbers only.',
    by: 'a page comes back after munmap',
    driver: placing({
      Stock: class extends Stock {
        override freePage(page: number): void {
          if (page % 2 === 0) super.freePage(page);
        }
      },
    }),
  },
  {
    name: 'changes what it was lent',
    how: 'peer.map makes an item writable that is not.',
    by: 'a page that may only be read is brought so',
    says: 'has been changed: it is borrowed',
    driver: coupled({
      Coupling: class extends Coupling {
        override bring(batch: PeerBatch, item: PeerItem): void {
          super.bring(batch, item);
          item.write = true;
        }
      },
    }),
  },
  {
    name: 'needs more than one go',
    how: 'peer.map copies a page only when its number is even; in steps it copies all.',
    by: 'in one go and in steps the same program leaves the same bytes',
    driver: coupled({
      Coupling: class extends Coupling {
        override fill(copies: Copies, { vpn, bytes }: PeerItem): void {
          if (bytes !== 'copy' || vpn % 2 === 0) copies.perform();
        }
      },
    }),
  },
  {
    name: 'copies the first page between devices',
    how: 'copy.peer moves one page of its list.',
    by: 'a copy between two devices copies every page',
    driver: linked({
      Engine: class extends LinkedEngine {
        override peer(copies: Copies): void {
          copies.keep(1).perform();
        }
      },
    }),
  },
  {
    name: 'does not push',
    how: 'copy.peer moves bytes only where its own memory is the target.',
    by: 'a copy between two devices goes where it is to',
    driver: linked({
      Engine: class extends LinkedEngine {
        override peer(copies: Copies): Ticket | void {
          let pulls = false;
          copies.each((_pages, _fromMemory, _fromPage, toMemory) => (pulls = toMemory >= 0));
          if (pulls) copies.perform();
        }
      },
    }),
  },
];

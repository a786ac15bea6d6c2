/** Drivers whose work ends later, and wrongly. */
import type { Context, Ticket } from 'farfault/gmem';
import { LateEngine, LateTlb, late, queued, Queue } from '../good.ts';
import type { Broken } from './case.ts';

export const LATE: readonly Broken[] = [
  {
    name: 'acknowledges before the flush',
    how: 'The ticket of a flush is completed before the TLB is emptied.',
    by: 'a flush has ended when its ticket says so',
    driver: late({
      Tlb: class extends LateTlb {
        override send(kept: readonly [number, number][]): Ticket {
          const ticket = this.context.ticket('flush');
          this.mail.post(() => ticket.complete());
          this.mail.post(() => {
            for (const [start, end] of kept) this.flush(start, end);
          });
          return ticket;
        }
      },
    }),
  },
  {
    name: 'acknowledges before the copy',
    how: 'The ticket of a copy is completed before the bytes have moved.',
    by: 'the device reads what the CPU wrote',
    driver: late({
      Engine: class extends LateEngine {
        override send(copies: Parameters<LateEngine['send']>[0]): Ticket {
          const kept = copies.keep();
          const ticket = this.context.ticket('copy');
          this.mail.post(() => ticket.complete());
          this.mail.post(() => kept.perform());
          return ticket;
        }
      },
    }),
  },
  {
    name: 'never completes a ticket',
    how: 'Every third ticket is forgotten.',
    by: 'a translation is gone after its invalidation',
    driver: queued({
      Mail: class extends Queue {
        private sent = 0;
        override send(ticket: Ticket, work: () => void): Ticket {
          if (++this.sent % 3 === 0) this.post(work);
          else super.send(ticket, work);
          return ticket;
        }
      },
    }),
  },
  {
    name: 'completes a ticket twice',
    how: 'Every ticket is completed once more.',
    by: 'a translation is gone after its invalidation',
    driver: queued({
      Mail: class extends Queue {
        override send(ticket: Ticket, work: () => void): Ticket {
          super.send(ticket, work);
          this.post(() => ticket.complete());
          return ticket;
        }
      },
    }),
  },
  {
    name: 'flushes the first of the kept ranges only',
    how: 'A flush that is sent later has the first range of its list.',
    by: 'all ranges of one call are taken away',
    driver: queued({
      Tlb: class extends LateTlb {
        override send(kept: readonly [number, number][]): Ticket | void {
          return super.send(kept.slice(0, 1));
        }
      },
    }),
  },
  {
    name: 'does not say that a flush is under way',
    how: 'tlb.invalidate returns nothing, and flushes when the mail is read.',
    by: 'the device is done before anybody else goes on',
    driver: late({
      Tlb: class extends LateTlb {
        override send(kept: readonly [number, number][]): void {
          this.mail.post(() => {
            for (const [start, end] of kept) this.flush(start, end);
          });
        }
      },
    }),
  },
  {
    name: 'does not say that a copy is under way',
    how: 'copy.toDevice returns nothing, and copies when the mail is read.',
    by: 'every byte goes to the device and comes home',
    driver: late({
      Engine: class extends LateEngine {
        override toDevice(copies: Parameters<LateEngine['send']>[0]): void {
          const kept = copies.keep();
          this.mail.post(() => kept.perform());
        }
      },
    }),
  },
  {
    name: 'one ticket for all',
    how: 'A flush returns the ticket of the flush before, which may have ended.',
    by: 'nothing is freed before the flush has ended',
    driver: late({
      Tlb: class extends LateTlb {
        private last: Ticket | undefined;
        override send(kept: readonly [number, number][]): Ticket {
          const { last } = this;
          this.last = super.send(kept) as Ticket;
          return last ?? this.last;
        }
      },
    }),
  },
  {
    name: 'uses a context that has ended',
    how: 'At a detach it posts a message that asks the machine for pages to come home.',
    by: 'a device that left is told nothing any more',
    driver: queued({
      leave(context: Context, { tlb }) {
        tlb.mail.post(() => context.migrate({ start: 0, end: 4096 } as never, { to: 'host' }));
      },
    }),
  },
];

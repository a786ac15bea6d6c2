/** Devices that answer late: what is under way waits in each of its steps until somebody lets it go on. */
import type { Context, Ticket } from 'farfault';
import {
  type Copies,
  defineDriver,
  deviceTable,
  type Driver,
  type GmMmu,
  type Marks,
  permits,
  type Ranges,
  type Translation,
} from 'farfault/gmem';

/** Work of a device that has been begun and not been done. */
export interface Late {
  readonly ticket: Ticket;
  readonly work: () => void;
}

/** Whether devices answer late, and what they have not answered yet. */
export interface Pace {
  slow: boolean;
  readonly late: Late[];
}

/** Has a device do one thing that it was late with. */
export function finishLate({ late }: Pace, i: number): void {
  const [{ ticket, work }] = late.splice(i, 1) as [Late];
  work();
  ticket.complete();
}

export interface SlowOptions extends Pick<Driver, 'memory' | 'pageBytes' | 'granuleBytes' | 'atomics'> {
  readonly pace?: Pace;
  readonly name?: string;
  /** Its engine reaches the memory of others. */
  readonly hasPeerEngine?: boolean;
  /** It says which pages it has accessed. */
  readonly hasMarks?: boolean;
}

/** A device with a cache of its own, whose flushes and copies end when its pace says so. */
export const slowDevice = defineDriver((options: SlowOptions): Driver => {
  const { pace, name = '', hasPeerEngine = false, hasMarks = false, ...rest } = options;
  const later = (context: Context, what: string, work: () => void): Ticket | void => {
    if (!pace!.slow) return work();
    const ticket = context.ticket(what);
    pace!.late.push({ ticket, work });
    return ticket;
  };
  return {
    ...rest,
    name,
    faultEntries: 8,
    attach(context): GmMmu {
      const table = deviceTable(context);
      const cache = new Map<number, Translation>();
      /** Pages that were accessed, and whether they were written. */
      const marks = new Map<number, boolean>();
      const forget = (start: number, pages: number): void => {
        for (const vpn of [...cache.keys()]) if (vpn >= start && vpn < start + pages) cache.delete(vpn);
      };
      const copy = (what: string) => (copies: Copies) => {
        const kept = copies.keep();
        return later(context, what, () => kept.perform());
      };
      return {
        pmap: {
          enter(mappings) {
            mappings.each((vpn, pages) => forget(vpn, pages));
            table.enter(mappings);
          },
          release: (ranges) => table.release(ranges),
        },
        tlb: {
          invalidate(ranges: Ranges) {
            const list: (readonly [number, number])[] = [];
            ranges.each((vpn, pages) => list.push([vpn, pages]));
            return later(context, 'flush', () => list.forEach(([vpn, pages]) => forget(vpn, pages)));
          },
        },
        walk: {
          translate(vpn, access) {
            const known = cache.get(vpn);
            const found = permits(known, access) ? known : table.walk(vpn, access);
            if (found) cache.set(vpn, found);
            if (permits(found, access)) marks.set(vpn, access === 'write' || marks.get(vpn) === true);
            return found;
          },
          ...(hasMarks && {
            harvest(ranges: Ranges, taken: Marks) {
              ranges.each((start, pages) => {
                for (const [vpn, dirty] of [...marks]) {
                  if (vpn < start || vpn >= start + pages) continue;
                  taken.add(vpn, dirty);
                  marks.delete(vpn);
                }
              });
            },
          }),
        },
        copy: {
          toDevice: copy('to the device'),
          toHost: copy('to the host'),
          zero: copy('zero'),
          ...(hasPeerEngine ? { peer: copy('over the link') } : {}),
        },
      };
    },
  };
});

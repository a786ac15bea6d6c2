/** Each case of the contract catches what it is named for: a good driver with one thing wrong fails it. */
import { describe, expect, test } from 'vitest';
import { MiB } from 'farfault';
import dmirror from 'farfault/drivers/dmirror';
import mirror from 'farfault/drivers/mirror';
import nouveau from 'farfault/drivers/nouveau';
import {
  type Access,
  AGAIN,
  type BatchFault,
  type Context,
  type Copies,
  defineDriver,
  DONE,
  type Driver,
  type FaultBatch,
  type GmMmu,
  HMM_VALID,
  HMM_WRITE,
  type Mappings,
  permits,
  type Progress,
  Ranges,
  type Run,
  type Step,
  type Ticket,
  type Translation,
} from 'farfault/gmem';
import { type AnyFactory, type CaseGroup, CONTRACT, type Expectations, gradeDriver, printReport } from 'farfault/testing';

const GROUPS: readonly CaseGroup[] = ['mirroring', 'invalidation', 'faults', 'isolation', 'process'];
const CASES = CONTRACT.filter(({ group }) => GROUPS.includes(group)).map(({ name }) => name);

/** A mirror that a test breaks. */
class Mirror {
  readonly table: Map<number, Translation> = new Map();
  readonly cached: Map<number, Translation> = new Map();
  readonly context: Context;

  constructor(context: Context) {
    this.context = context;
  }

  enter(mappings: Mappings): void {
    mappings.each((vpn, pages, page, memory, write) => {
      for (let i = 0; i < pages; i++) this.install({ vpn: vpn + i, page: page + i, memory, write });
    });
  }

  install(entry: Translation): void {
    this.table.set(entry.vpn, entry);
  }

  release(ranges: Ranges): void {
    ranges.each((start, pages) => this.drop(this.table, start, start + pages));
  }

  flush(ranges: Ranges): Ticket | void {
    ranges.each((start, pages) => this.drop(this.cached, start, start + pages));
  }

  drop(from: Map<number, Translation>, start: number, end: number): void {
    for (const vpn of from.keys()) if (vpn >= start && vpn < end) from.delete(vpn);
  }

  protect(ranges: Ranges, write: boolean): void {
    ranges.each((start, pages) => {
      for (const [vpn, entry] of this.table) if (vpn >= start && vpn < start + pages) this.table.set(vpn, { ...entry, write });
    });
  }

  translate(vpn: number, access: Access): Translation | undefined {
    const hit = this.cached.get(vpn);
    if (permits(hit, access)) return hit;
    const entry = this.table.get(vpn);
    if (!permits(entry, access)) return undefined;
    this.cached.set(vpn, entry);
    return entry;
  }

  service(batch: FaultBatch): Step {
    return this.context.batchStep().of(batch);
  }

  mmu(): GmMmu {
    return {
      pmap: {
        enter: (mappings) => this.enter(mappings),
        release: (ranges) => this.release(ranges),
        protect: (ranges, write) => this.protect(ranges, write),
      },
      tlb: { invalidate: (ranges) => this.flush(ranges) },
      walk: { translate: (vpn, access) => this.translate(vpn, access) },
      fault: { service: (batch) => this.service(batch) },
    };
  }
}

/** Serves what is there by looking at it, and enters that a turn later without asking whether it is still so. */
class Hasty implements Step {
  readonly name = 'hasty service';
  private readonly context: Context;
  private readonly batch: FaultBatch;
  private readonly seen: { readonly vpn: number; readonly words: Uint32Array }[] = [];
  private phase = 0;

  constructor(context: Context, batch: FaultBatch) {
    this.context = context;
    this.batch = batch;
  }

  next(run: Run): Progress {
    const { context, batch } = this;
    switch (this.phase++) {
      case 0:
        for (const { vpn, write } of batch.records) {
          const words = context.hmm.snapshot(vpn, 1);
          if (words[1]! >= HMM_VALID && (!write || words[1]! & HMM_WRITE)) this.seen.push({ vpn, words });
        }
        return AGAIN;
      case 1: {
        for (const { vpn, words } of this.seen) context.installAnswer(words, vpn, 1);
        batch.served += this.seen.length;
        const rest = batch.records.filter(({ vpn }) => !this.seen.some((seen) => seen.vpn === vpn));
        return rest.length === 0 ? DONE : run.call(context.batchStep().of(batch, rest));
      }
      default:
        return DONE;
    }
  }
}

/** A driver of mirrors of a class. */
function of(Kind: new (context: Context) => Mirror, more: Partial<Driver> = {}): AnyFactory {
  return defineDriver((): Driver => ({ name: 'broken', ...more, attach: (context) => new Kind(context).mmu() })) as AnyFactory;
}

/** The same driver, whose flushes and copies end when `settle` says so, the last first if asked. */
function delayed(factory: AnyFactory, { expectations = {} as Expectations, backwards = false } = {}): [AnyFactory, Expectations] {
  const open = new WeakMap<Driver, (() => void)[]>();
  const late = (options?: never): Driver => {
    const driver = factory(options);
    const work: (() => void)[] = [];
    const later = (context: Context, what: string, act: () => unknown): Ticket => {
      const ticket = context.ticket(what);
      work.push(() => {
        act();
        ticket.complete();
      });
      return ticket;
    };
    const made: Driver = {
      ...driver,
      attach(context) {
        const mmu = driver.attach(context);
        const { tlb, copy, walk } = mmu;
        const engine = (name: 'toDevice' | 'toHost' | 'zero') => {
          const act = copy?.[name];
          if (!act) return {};
          return {
            [name]: (copies: Copies): Ticket => {
              const kept = copies.keep();
              return later(context, name, () => act.call(copy, kept));
            },
          };
        };
        return {
          ...mmu,
          ...(tlb && walk
            ? {
                tlb: {
                  invalidate(ranges: Ranges): Ticket {
                    const kept = new Ranges();
                    ranges.each((vpn, pages) => kept.add(vpn, pages));
                    return later(context, 'flush', () => tlb.invalidate(kept));
                  },
                },
              }
            : {}),
          ...(copy ? { copy: { ...engine('toDevice'), ...engine('toHost'), ...engine('zero') } } : {}),
        };
      },
    };
    open.set(made, work);
    return made;
  };
  const settle = (driver: Driver): void => {
    const work = open.get(driver);
    for (let act = backwards ? work?.pop() : work?.shift(); act; act = backwards ? work?.pop() : work?.shift()) act();
  };
  return [late as AnyFactory, { ...expectations, settle }];
}

/** What is wrong, the case that says so, and the driver. */
const BROKEN: readonly (readonly [what: string, by: string, factory: AnyFactory, expectations?: Expectations])[] = [
  [
    'translations answer whatever is asked of them',
    'a translation that was entered for reading takes no writes',
    of(
      class extends Mirror {
        override translate(vpn: number): Translation | undefined {
          return this.table.get(vpn);
        }
      },
    ),
  ],
  [
    'the page of zeros is entered writable',
    'the page of zeros is never written',
    of(
      class extends Mirror {
        override install(entry: Translation): void {
          super.install(entry.page < 512 ? { ...entry, write: true } : entry);
        }
      },
    ),
  ],
  [
    'an older translation is kept',
    'a newer translation replaces the older one',
    of(
      class extends Mirror {
        override install(entry: Translation): void {
          if (!this.table.has(entry.vpn)) super.install(entry);
        }
      },
    ),
  ],
  [
    'the last page of a run is lost',
    'every page of a run is entered with its own page',
    of(
      class extends Mirror {
        override enter(mappings: Mappings): void {
          mappings.each((vpn, pages, page, memory, write) => {
            for (let i = 0; i < Math.max(1, pages - 1); i++) this.install({ vpn: vpn + i, page: page + i, memory, write });
          });
        }
      },
    ),
  ],
  [
    'the table has room for 256 pages',
    'more pages than one batch holds are all mirrored',
    of(
      class extends Mirror {
        override install(entry: Translation): void {
          if (this.table.size < 256) super.install(entry);
        }
      },
    ),
  ],
  [
    'the cache knows a page by its low bits',
    'pages that lie far apart keep apart',
    of(
      class extends Mirror {
        override translate(vpn: number, access: Access): Translation | undefined {
          const hit = this.cached.get(vpn % 512);
          if (permits(hit, access)) return { ...hit, vpn };
          const entry = this.table.get(vpn);
          if (!permits(entry, access)) return undefined;
          this.cached.set(vpn % 512, entry);
          return entry;
        }
        override flush(): void {
          this.cached.clear();
        }
      },
    ),
  ],
  [
    'page numbers have 32 bits',
    'page numbers above 32 bits are kept whole',
    of(
      class extends Mirror {
        override install(entry: Translation): void {
          this.table.set(entry.vpn | 0, entry);
        }
        override drop(from: Map<number, Translation>, start: number, end: number): void {
          for (const [vpn, entry] of from) if (entry.vpn >= start && entry.vpn < end) from.delete(vpn);
        }
        override translate(vpn: number, access: Access): Translation | undefined {
          const entry = this.table.get(vpn | 0);
          return permits(entry, access) ? entry : undefined;
        }
      },
    ),
  ],
  [
    'ranges to release have 32 bits',
    'page numbers above 32 bits are invalidated whole',
    of(
      class extends Mirror {
        override drop(from: Map<number, Translation>, start: number, end: number): void {
          if (end - start > 2 ** 32) from.clear();
          else for (let vpn = start | 0; vpn < (start | 0) + (end - start); vpn++) from.delete(vpn);
        }
      },
    ),
  ],
  [
    'a right that was cached for reading hides the one to write',
    'a newer translation replaces the older one',
    of(
      class extends Mirror {
        override translate(vpn: number, access: Access): Translation | undefined {
          const hit = this.cached.get(vpn);
          if (hit) return permits(hit, access) ? hit : undefined;
          return super.translate(vpn, access);
        }
        override flush(ranges: Ranges): void {
          ranges.each((start, pages) => {
            if (pages !== 1) this.drop(this.cached, start, start + pages);
          });
        }
      },
    ),
  ],
  [
    'protect only gives',
    'protect takes the right to write, and gives it back',
    of(
      class extends Mirror {
        override protect(ranges: Ranges, write: boolean): void {
          if (write) super.protect(ranges, write);
        }
      },
    ),
  ],
  [
    'the table is never cleared',
    'a translation is gone after its invalidation',
    of(
      class extends Mirror {
        override release(): void {}
      },
    ),
  ],
  [
    'the cache is never flushed',
    'a translation that is only cached is gone after its invalidation',
    of(
      class extends Mirror {
        override flush(): void {}
      },
    ),
  ],
  [
    'the first page of a range stays',
    'the first page of a range is released',
    of(
      class extends Mirror {
        override drop(from: Map<number, Translation>, start: number, end: number): void {
          super.drop(from, start + 1, end);
        }
      },
    ),
  ],
  [
    'the last page of a range stays',
    'the last page of a range is released',
    of(
      class extends Mirror {
        override drop(from: Map<number, Translation>, start: number, end: number): void {
          super.drop(from, start, end - 1);
        }
      },
    ),
  ],
  [
    'the second range stays',
    'every range of one invalidation is released',
    of(
      class extends Mirror {
        override release(ranges: Ranges): void {
          this.drop(this.table, ranges.start(0), ranges.start(0) + ranges.length(0));
        }
      },
    ),
  ],
  [
    'every page of a range is looked for, up to a limit',
    'a range as large as the address space is released at once',
    of(
      class extends Mirror {
        override drop(from: Map<number, Translation>, start: number, end: number): void {
          if (end - start > 2 ** 30) from.clear();
          else for (let vpn = start; vpn < end; vpn++) from.delete(vpn);
        }
      },
    ),
  ],
  [
    'a page that was never entered is an error',
    'pages that were never entered can be invalidated',
    of(
      class extends Mirror {
        override release(ranges: Ranges): void {
          const before = this.table.size;
          super.release(ranges);
          if (before === this.table.size && ranges.pages < 2 ** 30) throw new Error('not mine');
        }
      },
    ),
  ],
  [
    'a flush ends before its work',
    'a flush has ended when its ticket says so',
    of(
      class extends Mirror {
        override flush(ranges: Ranges): Ticket {
          const parts: [number, number][] = [];
          ranges.each((start, pages) => parts.push([start, start + pages]));
          const ticket = this.context.ticket('flush');
          setTimeout(() => {
            ticket.complete();
            for (const [start, end] of parts) this.drop(this.cached, start, end);
          }, 0);
          return ticket;
        }
      },
    ),
  ],
  [
    'the table is cleared with the flush, late',
    'an access during the flush brings nothing back',
    of(
      class extends Mirror {
        readonly released: [number, number][] = [];
        override release(ranges: Ranges): void {
          ranges.each((start, pages) => this.released.push([start, start + pages]));
        }
        override flush(ranges: Ranges): Ticket {
          super.flush(ranges);
          const ticket = this.context.ticket('flush');
          setTimeout(() => {
            for (const [start, end] of this.released.splice(0)) this.drop(this.table, start, end);
            ticket.complete();
          }, 0);
          return ticket;
        }
      },
    ),
  ],
  [
    'there is room for the flush of one invalidation',
    'invalidations at the same time do not mix',
    of(
      class extends Mirror {
        next: [number, number][] = [];
        override flush(ranges: Ranges): Ticket {
          this.next = [];
          ranges.each((start, pages) => this.next.push([start, start + pages]));
          const ticket = this.context.ticket('flush');
          setTimeout(() => {
            for (const [start, end] of this.next) this.drop(this.cached, start, end);
            ticket.complete();
          }, 0);
          return ticket;
        }
      },
    ),
  ],
  [
    'a page that was invalidated is never entered again',
    'what was invalidated comes back with the next fault',
    of(
      class extends Mirror {
        readonly lost: Set<number> = new Set();
        override drop(from: Map<number, Translation>, start: number, end: number): void {
          if (end - start < 3) for (let vpn = start; vpn < end; vpn++) this.lost.add(vpn);
          super.drop(from, start, end);
        }
        override install(entry: Translation): void {
          if (!this.lost.has(entry.vpn)) super.install(entry);
        }
      },
    ),
  ],
  [
    'records that overflow are given up',
    'more faults than the fault buffer holds are all served',
    of(
      class extends Mirror {
        override service(batch: FaultBatch): Step {
          if (batch.overflow > 0) for (const { vpn, write } of batch.records) batch.cancel(vpn, write, 'no mapping');
          return super.service(batch);
        }
      },
      { faultEntries: 16 },
    ),
  ],
  [
    'one fault of a batch is served',
    'a batch of distinct pages is served whole',
    of(
      class extends Mirror {
        override service(batch: FaultBatch): Step {
          return this.context.batchStep().of(batch, batch.records.slice(0, 1));
        }
      },
    ),
  ],
  [
    'the first record of a page decides',
    'a write among reads of one page gets its right',
    of(
      class extends Mirror {
        override service(batch: FaultBatch): Step {
          const faults = new Map<number, BatchFault>();
          for (const record of batch.records) faults.set(record.vpn, { ...record, write: faults.get(record.vpn)?.write ?? record.write });
          return this.context.batchStep().of(
            batch,
            [...faults.values()].map((fault) => ({ ...fault, write: false })),
          );
        }
      },
    ),
  ],
  [
    'a whole batch is cancelled with one of its records',
    'accesses to what is not mapped are cancelled, and no others',
    of(
      class extends Mirror {
        override service(batch: FaultBatch): Step {
          const { space } = this.context;
          if (batch.records.some(({ vpn }) => space.rights(vpn) === 0))
            for (const { vpn, write } of batch.records) batch.cancel(vpn, write, 'no mapping');
          return super.service(batch);
        }
      },
    ),
  ],
  [
    'a page without the right to write is cancelled for reads as well',
    'writes to what may only be read are cancelled, and no reads',
    of(
      class extends Mirror {
        override service(batch: FaultBatch): Step {
          for (const { vpn, write } of batch.records)
            if (write && !this.context.space.writable(vpn)) batch.cancel(vpn, false, 'permission');
          return super.service(batch);
        }
      },
    ),
  ],
  [
    'a translation is used once',
    'a job on pages that are there needs no fault',
    of(
      class extends Mirror {
        readonly uses: Map<number, number> = new Map();
        override translate(vpn: number, access: Access): Translation | undefined {
          const uses = (this.uses.get(vpn) ?? 0) + 1;
          this.uses.set(vpn, uses);
          return uses % 4 === 1 && uses > 2 ? undefined : super.translate(vpn, access);
        }
      },
    ),
  ],
  [
    'contexts share a table',
    'two address spaces never see each other',
    (() => {
      const table = new Map<number, Translation>();
      return of(
        class extends Mirror {
          override readonly table = table;
        },
      );
    })(),
  ],
  [
    'contexts share a cache',
    'an address that only another space has is a fault',
    (() => {
      const cached = new Map<number, Translation>();
      return of(
        class extends Mirror {
          override readonly cached = cached;
        },
      );
    })(),
  ],
  [
    'a context is made once and kept',
    'a device that comes back starts empty',
    (() => {
      return defineDriver((): Driver => {
        let kept: Mirror | undefined;
        return { name: 'broken', attach: (context) => (kept ??= new Mirror(context)).mmu() };
      }) as AnyFactory;
    })(),
  ],
  [
    'the module keeps the cache of the device',
    'two machines at once share nothing',
    (() => {
      const caches = new Map<number, Map<number, Translation>>();
      return of(
        class extends Mirror {
          override readonly cached: Map<number, Translation>;
          constructor(context: Context) {
            super(context);
            this.cached = caches.get(context.space.id) ?? new Map<number, Translation>();
            caches.set(context.space.id, this.cached);
          }
        },
      );
    })(),
  ],
  [
    'a fork does not take the right to write',
    'a child does not see what the device writes after the fork',
    of(
      class extends Mirror {
        override flush(ranges: Ranges): Ticket | void {
          // A range whose pages may still be written needs no flush, it thinks.
          let writable = true;
          ranges.each((start) => (writable &&= this.context.space.writable(start)));
          if (!writable || ranges.pages > 64) return super.flush(ranges);
          ranges.each((start, pages) => {
            for (let vpn = start; vpn < start + pages; vpn++) if (!this.cached.get(vpn)?.write) this.cached.delete(vpn);
          });
        }
      },
    ),
  ],
  ...[
    'nothing is entered while an invalidation is under way',
    'overlapping invalidations all count',
    'a job goes on while pages are unmapped under it',
    'a job goes on while rights change under it',
  ].map(
    (by) =>
      [
        `what a fault has seen is entered later, as if it still were so: ${by}`,
        by,
        of(
          class extends Mirror {
            override service(batch: FaultBatch): Step {
              return new Hasty(this.context, batch);
            }
          },
        ),
      ] as const,
  ),
  [
    'a refusal is remembered',
    'a right that was given is used',
    of(
      class extends Mirror {
        readonly refused: Set<number> = new Set();
        override translate(vpn: number, access: Access): Translation | undefined {
          if (access === 'write' && this.table.get(vpn)?.write === false) this.refused.add(vpn);
          return access === 'write' && this.refused.has(vpn) ? undefined : super.translate(vpn, access);
        }
      },
    ),
  ],
  [
    'the table has room for one page',
    'an access over a page boundary has both its pages at once',
    of(
      class extends Mirror {
        override install(entry: Translation): void {
          this.table.clear();
          this.cached.clear();
          super.install(entry);
        }
      },
    ),
  ],
  [
    'faults of another mapping than the first one are cancelled',
    'faults in several mappings are served in one job',
    of(
      class extends Mirror {
        override service(batch: FaultBatch): Step {
          const { vmas } = this.context.space;
          const first = vmas.find(batch.records[0]!.vpn);
          for (const { vpn, write } of batch.records) if (vmas.find(vpn) !== first) batch.cancel(vpn, write, 'no mapping');
          return super.service(batch);
        }
      },
    ),
  ],
  [
    'an invalidation that may not wait is refused',
    'an invalidation that may not wait is carried out',
    of(
      class extends Mirror {
        constructor(context: Context) {
          super(context);
          context.hmm.subscribe(0, 2 ** 36, { invalidate: ({ blockable }) => blockable });
        }
      },
    ),
  ],
  [
    'an invalidation clears the tables of all spaces',
    'what one space unmaps stays with the other',
    (() => {
      const all: Mirror[] = [];
      return of(
        class extends Mirror {
          constructor(context: Context) {
            super(context);
            all.push(this);
          }
          override release(ranges: Ranges): void {
            for (const each of all) each.flush(ranges);
            ranges.each((start, pages) => all.forEach((each) => each.drop(each.table, start, start + pages)));
          }
        },
      );
    })(),
  ],
  [
    'the device stops when one of its contexts ends',
    'a space that ends leaves the others alone',
    defineDriver((): Driver => {
      let stopped = false;
      return {
        name: 'broken',
        attach(context) {
          const mirror = new Mirror(context);
          const mmu = mirror.mmu();
          return {
            ...mmu,
            walk: { translate: (vpn, access) => (stopped ? undefined : mirror.translate(vpn, access)) },
            detach: () => {
              stopped = true;
            },
          };
        },
      };
    }) as AnyFactory,
  ],
  [
    "the cache is the module's, by space",
    'two devices of one driver share nothing',
    (() => {
      const caches = new Map<number, Map<number, Translation>>();
      return of(
        class extends Mirror {
          override readonly cached: Map<number, Translation>;
          constructor(context: Context) {
            super(context);
            this.cached = caches.get(context.space.id) ?? new Map<number, Translation>();
            caches.set(context.space.id, this.cached);
          }
        },
        { memory: [{ name: 'vram', kind: 'private', bytes: 2 * MiB }] },
      );
    })(),
  ],
  [
    'faults are served for the space that came last',
    'jobs in two spaces keep to their own',
    defineDriver((): Driver => {
      let last: Context;
      return {
        name: 'broken',
        attach(context) {
          last = context;
          return { ...new Mirror(context).mmu(), fault: { service: (batch) => last.batchStep().of(batch) } };
        },
      };
    }) as AnyFactory,
  ],
  [
    'all pages of a fault get the right of one',
    'a child does not see what the device writes after the fork',
    of(
      class extends Mirror {
        override enter(mappings: Mappings): void {
          let strongest = false;
          mappings.each((_vpn, _pages, _page, _memory, write) => (strongest ||= write));
          mappings.each((vpn, pages, page, memory) => {
            for (let i = 0; i < pages; i++) this.install({ vpn: vpn + i, page: page + i, memory, write: strongest });
          });
        }
      },
      { granuleBytes: 65536 },
    ),
  ],
];

test('every case has a name of its own', () => {
  const names = CONTRACT.map(({ name }) => name);
  expect(new Set(names).size).toBe(names.length);
});

describe('a broken driver fails the case that is named for it', () => {
  for (const [what, by, factory, expectations] of BROKEN) {
    test(what, async () => {
      const report = await gradeDriver(factory, { ...expectations, cases: by });
      expect(report.cases.find(({ name }) => name === by)?.verdict, printReport(report)).toBe('failed');
    });
  }
});

describe('a driver that is not broken passes', () => {
  const good: readonly (readonly [string, AnyFactory, Expectations])[] = [
    ['what the broken ones are made of', of(Mirror), {}],
    ['mirror, flushing late', ...delayed(mirror as AnyFactory, { expectations: { options: { ownTable: true } } })],
    [
      'mirror, flushing late and the last first',
      ...delayed(mirror as AnyFactory, { expectations: { options: { ownTable: true, granule: 16384 } }, backwards: true }),
    ],
    ['nouveau, copying late', ...delayed(nouveau as AnyFactory, { expectations: { options: { vram: 1 * MiB } } })],
    ['dmirror, late', ...delayed(dmirror as AnyFactory, { expectations: { options: { chunkBytes: 2 * MiB } } })],
  ];
  for (const [what, factory, expectations] of good) {
    test(what, async () => {
      const report = await gradeDriver(factory, { ...expectations, cases: CASES });
      expect(report.failed, printReport(report)).toBe(0);
    });
  }
});

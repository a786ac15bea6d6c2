/// <reference path="../../../core/host.d.ts" />
/** Invalidation: what the program's pages were told to be is forgotten before they change. */
import type { AddressRange } from '../../../mm/address-space.ts';
import { Invalidation } from '../../../mm/notifier.ts';
import { type Bench, PAGE } from '../bench.ts';
import type { ContractCase } from '../case.ts';
import { cpuChecks, cpuStamps, deviceChecks, needsMemory, part, needsOwnTranslations } from './common.ts';

/** Pages of a range that is as good as endless: what looks at each of them takes far longer than what looks at what is there. */
const ENDLESS_PAGES = 2 ** 24;
/** Milliseconds that a release of them may take. It takes one where it is done right. */
const ENDLESS_MS = 100;

/** Milliseconds of some time. */
function now(): number {
  // The one thing that is measured: how long a call takes.
  // eslint-disable-next-line no-restricted-globals
  return performance.now();
}

/** The device has used all pages, and their translations are cached. */
async function warm(bench: Bench, range: AddressRange, pages: number, access: 'read' | 'write'): Promise<void> {
  for (let round = 0; round < 2; round++) {
    if (access === 'read') await bench.deviceSees(range, 0, pages);
    else await bench.deviceWrite(range, 0, pages, 40 + round);
    await bench.quiet();
  }
}

/** The pages are gone for the device; the others are as they were. */
async function onlyGone(bench: Bench, range: AddressRange, pages: number, gone: (page: number) => boolean): Promise<void> {
  for (let page = 0; page < pages; page++) if (gone(page)) bench.gone(range, page, 1);
  for (let page = 0; page < pages; page++) {
    if (gone(page)) await bench.deviceRefused(range, page, 'read');
    else await bench.deviceSees(range, page, 1);
  }
}

/** Begins an invalidation, as the machine does before it changes pages, and waits for the devices' flushes. Ended by `space.notifiers.invalidateEnd`. */
async function announce(bench: Bench, range: AddressRange, blockable = true): Promise<Invalidation> {
  bench.mark();
  const event = new Invalidation().set(range.start / PAGE, range.end / PAGE, 'CLEAR');
  event.blockable = blockable;
  bench.space.announce(event);
  await bench.until(() => event.unfinished === undefined, 'the end of a flush');
  return event;
}

/** One access of the device, which is not waited for; where the machine cannot run it, its fault. */
async function touch(bench: Bench, range: AddressRange, page: number, access: 'read' | 'write'): Promise<void> {
  const addr = range.start + page * PAGE;
  if (bench.runsAccesses) {
    await (access === 'read' ? bench.context.readAsync(addr, 1) : bench.context.writeAsync(addr, Uint8Array.of(0xee)));
    return;
  }
  const outcome = await bench.context.faultAsync(addr, access);
  bench.require(outcome === 'served' || outcome === 'present', `a fault that waited for an invalidation ends in: ${outcome}`);
}

function endOf(bench: Bench, event: Invalidation): void {
  bench.space.notifiers.invalidateEnd(event);
}

export const INVALIDATION: readonly ContractCase[] = [
  {
    name: 'a translation is gone after its invalidation',
    group: 'invalidation',
    rule: 'When release has returned and the flush has ended, no access of the device reaches the page any more.',
    async run(bench) {
      const range = bench.mmap(8);
      await cpuStamps(bench, range, 0, 8, 1);
      await warm(bench, range, 8, 'write');
      await bench.munmap(range);
      await onlyGone(bench, range, 8, () => true);
    },
  },
  {
    name: 'a translation that is only cached is gone after its invalidation',
    group: 'invalidation',
    rule: 'tlb.invalidate empties every cache of the device, also of what was only read, and of what was used a moment ago.',
    async run(bench) {
      const range = bench.mmap(8);
      await cpuStamps(bench, range, 0, 4, 1);
      await warm(bench, range, 8, 'read');
      await bench.munmap(part(range, 0, 2));
      await onlyGone(bench, range, 4, (page) => page < 2);
      await bench.deviceSees(range, 2, 6);
      await bench.munmap(part(range, 2, 6));
      await onlyGone(bench, range, 8, () => true);
      // The same addresses again, with other pages: nothing old shows through.
      const again = bench.mmap(8, { at: range.start, fixed: true });
      await bench.deviceSees(again, 0, 8);
      await bench.cpuWrite(again, 0, 8, 77);
      await bench.deviceSees(again, 0, 8);
    },
  },
  {
    name: 'a page that is mapped again shows nothing of the old one',
    group: 'invalidation',
    rule: 'An address that was unmapped and mapped again is another page: the device faults on it.',
    async run(bench) {
      let range = bench.mmap(6);
      for (let round = 1; round <= 3; round++) {
        await bench.cpuWrite(range, 0, 6, round);
        await warm(bench, range, 6, 'read');
        if (round % 2 === 0) await bench.deviceWrite(range, 0, 6, 100 + round);
        await bench.munmap(range);
        range = bench.mmap(6, { at: range.start, fixed: true });
        bench.gone(range, 0, 6);
        await bench.deviceSees(range, 0, 6);
      }
    },
  },
  {
    name: 'the first page of a range is released',
    group: 'invalidation',
    rule: 'A range begins with its first page: release takes it along.',
    async run(bench) {
      const range = bench.mmap(8);
      await cpuStamps(bench, range, 0, 8, 1);
      await bench.mirror(range, 0, 8, 'read');
      await warm(bench, range, 8, 'read');
      await bench.munmap(part(range, 3, 5));
      await onlyGone(bench, range, 8, (page) => page >= 3);
      await bench.munmap(part(range, 0, 1));
      await onlyGone(bench, range, 8, (page) => page === 0 || page >= 3);
    },
  },
  {
    name: 'the last page of a range is released',
    group: 'invalidation',
    rule: 'A range of n pages ends with page start + n - 1: release takes it along, and nothing behind it.',
    async run(bench) {
      const range = bench.mmap(8);
      await cpuStamps(bench, range, 0, 8, 1);
      await bench.mirror(range, 0, 8, 'read');
      await warm(bench, range, 8, 'write');
      await bench.munmap(part(range, 0, 5));
      await onlyGone(bench, range, 8, (page) => page < 5);
      await bench.munmap(part(range, 7, 1));
      await onlyGone(bench, range, 8, (page) => page < 5 || page === 7);
    },
  },
  {
    name: 'a hole in a run takes its neighbours nothing away',
    group: 'invalidation',
    rule: 'Releasing the middle of what was entered as one run leaves both ends usable, or has them fault again.',
    async run(bench) {
      const pages = 32;
      const range = bench.mmap(pages);
      await cpuStamps(bench, range, 0, pages, 1);
      await bench.mirror(range, 0, pages, 'write');
      await warm(bench, range, pages, 'write');
      await bench.munmap(part(range, 12, 6));
      await onlyGone(bench, range, pages, (page) => page >= 12 && page < 18);
      await bench.munmap(part(range, 4, 1));
      await bench.munmap(part(range, 30, 1));
      await onlyGone(bench, range, pages, (page) => (page >= 12 && page < 18) || page === 4 || page === 30);
    },
  },
  {
    name: 'a range over the border of two blocks is released on both sides',
    group: 'invalidation',
    rule: 'Tables are made of blocks (512 pages, 1 GiB and so on): a range that lies in two of them, or has one in its middle, is released in all of them.',
    async run(bench) {
      for (const border of [2 ** 33 + 2 ** 21, 2 ** 34 + 2 ** 30, 2 ** 42 + 2 ** 39]) {
        const pages = 16;
        const range = bench.mmap(pages, { at: border - 8 * PAGE, fixed: true });
        await cpuStamps(bench, range, 0, pages, 1);
        await warm(bench, range, pages, 'read');
        await bench.munmap(part(range, 6, 4));
        await onlyGone(bench, range, pages, (page) => page >= 6 && page < 10);
        await bench.munmap(part(range, 10, 1));
        await bench.munmap(part(range, 5, 1));
        await onlyGone(bench, range, pages, (page) => page >= 5 && page < 11);
      }
      // Three blocks, the middle one whole.
      const block = 2 ** 21;
      const wide = bench.mmap(3 * 512, { at: 2 ** 35, fixed: true });
      const places = [0, 509, 511, 512, 700, 1023, 1024, 1026, 1535];
      for (const page of places) await bench.deviceWrite(wide, page, 1, page & 0xff);
      for (const page of places) await bench.deviceSees(wide, page, 1);
      await bench.munmap({ start: wide.start + block - 2 * PAGE, end: wide.start + 2 * block + 2 * PAGE });
      for (const page of places) {
        if (page >= 510 && page < 1026) await bench.deviceRefused(wide, page, 'read');
        else await bench.deviceSees(wide, page, 1);
      }
    },
  },
  {
    name: 'every range of one invalidation is released',
    group: 'invalidation',
    rule: 'A call of release or invalidate can have several ranges: each of them goes.',
    needs: needsOwnTranslations,
    async run(bench) {
      const pages = 20;
      const range = bench.mmap(pages);
      await cpuStamps(bench, range, 0, pages, 1);
      for (let round = 0; round < 2; round++) {
        await warm(bench, range, pages, round === 0 ? 'read' : 'write');
        await bench.withdraw(range, [
          [0, 2],
          [4, 1],
          [7, 3],
          [pages - 1, 1],
        ]);
        for (const [from, count] of [
          [0, 2],
          [4, 1],
          [7, 3],
          [pages - 1, 1],
        ] as const)
          bench.gone(range, from, count);
        await bench.deviceSees(range, 0, pages);
      }
    },
  },
  {
    name: 'pages that go home with gaps between them are gone',
    group: 'invalidation',
    rule: 'Of a migration home exactly the pages that move are released, however they lie.',
    needs: needsMemory,
    async run(bench) {
      const step = bench.profile.granulePages * 2;
      const pages = step * 4;
      const range = bench.mmap(pages, { align: step * PAGE <= 2 ** 21 ? undefined : 2 ** 30 });
      for (let page = 0; page < pages; page += step) await bench.cpuWrite(range, page, 1, page + 1);
      for (let page = 0; page < pages; page += step) await bench.migrate(part(range, page, 1), 'device');
      for (let page = 0; page < pages; page += step) await bench.deviceSees(range, page, 1);
      await bench.migrate(range, 'host');
      for (let page = 0; page < pages; page += step) {
        bench.require(
          !bench.reaches(range, page, 'read') || bench.context.residency(range.start / PAGE + page) === undefined,
          `the device still uses its own page ${page}, which went home`,
        );
      }
      for (let page = 0; page < pages; page += step) await bench.cpuWrite(range, page, 1, (100 + page) & 0xff);
      for (let page = 0; page < pages; page += step) await bench.deviceSees(range, page, 1);
    },
  },
  {
    name: 'a range as large as the address space is released at once',
    group: 'invalidation',
    rule: 'A range can be a whole address space: release looks at what is there, not at every page.',
    async run(bench) {
      const range = bench.mmap(4);
      await bench.cpuWrite(range, 0, 4, 3);
      await warm(bench, range, 4, 'read');
      let shortest = Infinity;
      for (let attempt = 0; attempt < 3 && shortest > ENDLESS_MS; attempt++) {
        const endless = bench.space.mmap({ bytes: ENDLESS_PAGES * PAGE, at: 2 ** 40 });
        await bench.cpuWrite(endless, 5, 1, 9);
        await bench.deviceSees(endless, 5, 1);
        const begun = now();
        await bench.munmap(endless);
        shortest = Math.min(shortest, now() - begun);
        bench.gone(endless, 5, 1);
      }
      bench.require(
        shortest <= ENDLESS_MS,
        `releasing a range of ${ENDLESS_PAGES} pages, one of which is there, takes ${Math.round(shortest)} ms`,
      );
      await bench.deviceSees(range, 0, 4);
    },
  },
  {
    name: 'pages that were never entered can be invalidated',
    group: 'invalidation',
    rule: 'An invalidation tells of pages that change, not of pages that the device has: what is not there is passed over.',
    async run(bench) {
      const range = bench.mmap(24);
      await bench.cpuWrite(range, 0, 4, 3);
      await warm(bench, range, 4, 'read');
      await bench.mprotect(part(range, 4, 8), 'r');
      await bench.wait(bench.space.madviseAsync(part(range, 12, 6), 'dontneed'));
      await bench.munmap(part(range, 18, 6));
      await bench.munmap(part(range, 18, 6));
      await bench.deviceSees(range, 0, 18);
      const event = await announce(bench, { start: 2 ** 46, end: 2 ** 46 + 64 * PAGE });
      endOf(bench, event);
      await bench.deviceSees(range, 0, 18);
    },
  },
  {
    name: 'nothing is entered while an invalidation is under way',
    group: 'invalidation',
    rule: 'Between the begin and the end of an invalidation the device has no translation of its pages: what it faults for waits for the end.',
    async run(bench) {
      const range = bench.mmap(8);
      await cpuStamps(bench, range, 0, 8, 1);
      await warm(bench, range, 8, 'read');
      const event = await announce(bench, range);
      bench.gone(range, 0, 8);
      let ended = false;
      const access = touch(bench, range, 2, 'read').then(() => (ended = true));
      await bench.turns(3);
      bench.gone(range, 0, 8);
      bench.require(!ended, 'a fault in a range that is being invalidated is served before the invalidation has ended');
      endOf(bench, event);
      await bench.wait(access);
      await deviceChecks(bench, range, 0, 8);
    },
  },
  {
    name: 'overlapping invalidations all count',
    group: 'invalidation',
    rule: 'Invalidations nest and overlap: only when the last one has ended may translations come back.',
    async run(bench) {
      const range = bench.mmap(12);
      await cpuStamps(bench, range, 0, 12, 1);
      await warm(bench, range, 12, 'write');
      const outer = await announce(bench, part(range, 0, 8));
      const inner = await announce(bench, part(range, 4, 8));
      const whole = await announce(bench, part(range, 2, 2));
      bench.gone(range, 0, 12);
      let ended = 0;
      const accesses = [1, 5, 10].map((page) => touch(bench, range, page, 'write').then(() => ended++));
      endOf(bench, outer);
      await bench.turns(2);
      bench.gone(range, 4, 8);
      endOf(bench, whole);
      await bench.turns(2);
      bench.gone(range, 4, 8);
      bench.equal(ended, 0, 'faults served while an invalidation of the space is under way');
      endOf(bench, inner);
      await bench.wait(Promise.all(accesses));
      if (bench.runsAccesses) for (const page of [1, 5, 10]) bench.wrote(bench.space, range.start + page * PAGE, Uint8Array.of(0xee));
      await bench.deviceSees(range, 0, 12);
    },
  },
  {
    name: 'an invalidation that may not wait is carried out',
    group: 'invalidation',
    rule: 'A non-blockable invalidation (the host is out of memory) takes translations away like any other.',
    async run(bench) {
      const range = bench.mmap(8);
      await cpuStamps(bench, range, 0, 8, 1);
      await warm(bench, range, 8, 'write');
      const event = await announce(bench, part(range, 2, 4), false);
      bench.gone(range, 2, 4);
      bench.require(event.running !== undefined, 'the device refuses a non-blockable invalidation');
      endOf(bench, event);
      await bench.deviceSees(range, 0, 8);
    },
  },
  {
    name: 'the device is done before anybody else goes on',
    group: 'invalidation',
    rule: 'When every subscriber has started, a translation of the device is gone, unless its ticket is open.',
    async run(bench) {
      const range = bench.mmap(6);
      await cpuStamps(bench, range, 0, 6, 1);
      await warm(bench, range, 6, 'write');
      const log: string[] = [];
      const token = {};
      const notifier = bench.space.subscribe(range, {
        invalidateStart: (event, self) => {
          self.setSequence(event.sequence);
          log.push('start');
          return token;
        },
        invalidateFinish: (given) => {
          log.push(given === token ? 'finish' : 'a finish with another token');
          if (!bench.context.flushing && bench.reaches(range, 1, 'read')) log.push('the device still reads page 1');
        },
      });
      await bench.munmap(part(range, 0, 3));
      bench.equal(log.join(', '), 'start, finish', 'what a two-pass subscriber beside the device saw');
      bench.gone(range, 0, 3);
      bench.space.unsubscribe(notifier);
      await bench.deviceSees(range, 3, 3);
    },
  },
  {
    name: 'a flush has ended when its ticket says so',
    group: 'invalidation',
    rule: 'A ticket is completed after the work: pages are freed in the moment that it is.',
    async run(bench) {
      const range = bench.mmap(6);
      await cpuStamps(bench, range, 0, 6, 1);
      await warm(bench, range, 6, 'write');
      const early: number[] = [];
      const stop = bench.machine.onEvent((event) => {
        if (event.type !== 'space.unmapped') return;
        for (let page = 0; page < 3; page++) if (bench.reaches(range, page, 'read')) early.push(page);
      });
      try {
        await bench.munmap(part(range, 0, 3));
      } finally {
        stop();
      }
      bench.require(early.length === 0, `the device still reads page ${early[0]} when it is unmapped`);
      await onlyGone(bench, range, 6, (page) => page < 3);
    },
  },
  {
    name: 'nothing is freed before the flush has ended',
    group: 'invalidation',
    rule: 'While a flush is under way the old page stays as it is, and the device may use it; afterwards it may not.',
    async run(bench) {
      const range = bench.mmap(4);
      await cpuStamps(bench, range, 0, 4, 1);
      await warm(bench, range, 4, 'write');
      const used = bench.used();
      bench.mark();
      const unmapping = bench.space.munmapAsync(range);
      for (let turns = 0; bench.context.flushing && turns < 4; turns++) {
        bench.equal(bench.used(), used, 'pages in use while a flush is under way');
        await Promise.resolve();
      }
      await bench.wait(unmapping);
      bench.forget(bench.space, range);
      bench.gone(range, 0, 4);
      bench.require(bench.used() < used, 'pages are still in use after they were unmapped');
    },
  },
  {
    name: 'an access during the flush brings nothing back',
    group: 'invalidation',
    rule: 'The table is cleared before the flush: lanes that go on meanwhile may use what they have, and find nothing to fill their caches with.',
    async run(bench) {
      const pages = 6;
      for (let round = 0; round < 3; round++) {
        const range = bench.mmap(pages);
        await cpuStamps(bench, range, 0, pages, round);
        await warm(bench, range, pages, round === 0 ? 'read' : 'write');
        const touch = (): void => {
          for (let page = 0; page < pages; page++) bench.reaches(range, page, page % 2 === 0 ? 'read' : 'write');
        };
        // Others hear of the change after the device: its lanes go on between its own callback and theirs.
        const notifier = bench.space.subscribe(range, {
          invalidate: (event, self) => {
            self.setSequence(event.sequence);
            if (bench.context.flushing) touch();
            return true;
          },
        });
        bench.mark();
        const unmapping = bench.space.munmapAsync(part(range, 1, 4));
        for (let turns = 0; bench.context.flushing && turns < 40; turns++) {
          touch();
          await Promise.resolve();
          touch();
          if (turns > 4) await bench.turns(1);
        }
        await bench.wait(unmapping);
        bench.forget(bench.space, part(range, 1, 4));
        bench.gone(range, 1, 4);
        await onlyGone(bench, range, pages, (page) => page >= 1 && page < 5);
        bench.space.unsubscribe(notifier);
      }
    },
  },
  {
    name: 'invalidations at the same time do not mix',
    group: 'invalidation',
    rule: 'Several invalidations can be under way at once, each with its flush: each takes away its own ranges.',
    async run(bench) {
      const pages = 24;
      const range = bench.mmap(pages);
      await cpuStamps(bench, range, 0, pages, 1);
      await warm(bench, range, pages, 'write');
      // Several that nobody waits for before the next one begins.
      bench.mark();
      const places = [
        [1, 2],
        [8, 3],
        [20, 4],
      ] as const;
      const events = places.map(([from, count]) => {
        const event = new Invalidation().set(range.start / PAGE + from, range.start / PAGE + from + count, 'CLEAR');
        bench.space.announce(event);
        return event;
      });
      await bench.until(() => events.every((event) => event.unfinished === undefined), 'the end of all flushes');
      for (const [from, count] of places) bench.gone(range, from, count);
      for (const event of events) endOf(bench, event);
      await warm(bench, range, pages, 'write');
      bench.mark();
      const space = bench.space;
      await bench.wait(
        Promise.all([
          space.munmapAsync(part(range, 0, 4)),
          space.mprotectAsync(part(range, 6, 4), 'r'),
          space.munmapAsync(part(range, 12, 4)),
          space.mprotectAsync(part(range, 18, 4), 'none'),
        ]),
      );
      bench.forget(space, part(range, 0, 4));
      bench.forget(space, part(range, 12, 4));
      bench.gone(range, 0, 4);
      bench.gone(range, 6, 4, 'write');
      bench.gone(range, 12, 4);
      bench.gone(range, 18, 4);
      for (const [page, access] of [
        [0, 'read'],
        [3, 'write'],
        [6, 'write'],
        [9, 'write'],
        [15, 'read'],
        [18, 'read'],
        [21, 'read'],
      ] as const)
        await bench.deviceRefused(range, page, access);
      await bench.mprotect(part(range, 18, 4), 'rw');
      for (const [from, count] of [
        [4, 8],
        [16, 8],
      ] as const)
        await deviceChecks(bench, range, from, count);
      await cpuChecks(bench, range, 16, 8);
    },
  },
  {
    name: 'what was invalidated comes back with the next fault',
    group: 'invalidation',
    rule: 'An invalidation forbids nothing for ever: the next access faults, and sees the page of now.',
    async run(bench) {
      const range = bench.mmap(8);
      for (let round = 1; round <= 5; round++) {
        await bench.cpuWrite(range, 0, 8, round);
        await bench.deviceSees(range, 0, 8);
        const event = await announce(bench, part(range, round, 2));
        bench.gone(range, round, 2);
        endOf(bench, event);
        await bench.deviceWrite(range, 1, 6, 50 + round);
        await bench.cpuSees(range, 0, 8);
      }
    },
  },
];

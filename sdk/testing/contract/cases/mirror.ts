/** Mirroring: the device sees the program's memory as the program does. */
import { Ranges } from '../../../core/batch.ts';
import type { AddressRange } from '../../../mm/address-space.ts';
import { type Bench, PAGE } from '../bench.ts';
import type { ContractCase } from '../case.ts';
import { cpuChecks, cpuStamps, deviceChecks, deviceStamps, needsAccesses, part } from './common.ts';

/** Bytes that lie apart so that page numbers cut to 20, 31, 32 or 35 bits are the same. */
const ALIASES = [2 ** 32, 2 ** 42, 2 ** 43, 2 ** 44, 2 ** 46, 2 ** 47 - 16 * PAGE, 2 ** 48 - 16 * PAGE] as const;

/** Mappings of four pages at addresses that a short page number takes for the same. */
function aliases(bench: Bench): AddressRange[] {
  const base = 0x4000_0000;
  const places = ALIASES.map((at) => (at >= 2 ** 47 - 16 * PAGE ? at : base + at));
  return [base, ...places].map((at) => bench.mmap(4, { at, fixed: true }));
}

/** Twice: what the first use has cached, the second one uses. */
async function devicesTwice(bench: Bench, range: AddressRange, from: number, pages: number): Promise<void> {
  await bench.deviceSees(range, from, pages);
  await bench.quiet();
  await bench.deviceSees(range, from, pages);
}

export const MIRRORING: readonly ContractCase[] = [
  {
    name: 'the device reads what the CPU wrote',
    group: 'mirroring',
    rule: 'A translation names the page that the address has now: what the CPU wrote last is what the device reads.',
    async run(bench) {
      const range = bench.mmap(8);
      for (let page = 0; page < 8; page++) await bench.cpuWrite(range, page, 1, page + 1);
      await bench.deviceSees(range, 0, 8);
      await bench.cpuWrite(range, 3, 2, 77);
      await bench.deviceSees(range, 0, 8);
    },
  },
  {
    name: 'the CPU reads what the device wrote',
    group: 'mirroring',
    rule: 'What the device writes through its translations is what the CPU reads.',
    async run(bench) {
      const range = bench.mmap(8);
      await bench.deviceWrite(range, 0, 8, 5);
      await bench.cpuSees(range, 0, 4);
      await bench.deviceWrite(range, 2, 4, 6);
      await bench.cpuSees(range, 0, 8);
    },
  },
  {
    name: 'a page that nobody wrote reads as zeros',
    group: 'mirroring',
    rule: 'A read of memory that was never written finds zeros, and does not make it writable.',
    async run(bench) {
      const range = bench.mmap(4);
      await bench.deviceSees(range, 0, 4);
      await bench.deviceWrite(range, 1, 1, 9);
      await bench.deviceSees(range, 0, 4);
      await bench.cpuSees(range, 0, 4);
    },
  },
  {
    name: 'a translation that was entered for reading takes no writes',
    group: 'mirroring',
    rule: 'A translation entered with write: false answers reads only; a write through it is a fault.',
    async run(bench) {
      const range = bench.mmap(8);
      await bench.cpuWrite(range, 0, 4, 3);
      await bench.mprotect(range, 'r');
      await devicesTwice(bench, range, 0, 8);
      bench.gone(range, 0, 8, 'write');
      for (const page of [0, 3, 7]) await bench.deviceRefused(range, page, 'write');
      await bench.deviceSees(range, 0, 8);
      await bench.cpuSees(range, 0, 8);
    },
  },
  {
    name: 'the page of zeros is never written',
    group: 'mirroring',
    rule: 'Pages that were only read share one page of zeros, entered read-only; the first write gets a page of its own.',
    async run(bench) {
      const range = bench.mmap(6);
      const other = bench.mmap(2);
      await devicesTwice(bench, range, 0, 6);
      await bench.deviceSees(other, 0, 2);
      await bench.deviceWrite(range, 2, 1, 9);
      await bench.deviceWrite(range, 5, 1, 8);
      await bench.deviceSees(range, 0, 6);
      await bench.deviceSees(other, 0, 2);
      await bench.cpuSees(other, 0, 2);
      await bench.cpuWrite(range, 0, 1, 7);
      await bench.deviceSees(range, 0, 6);
    },
  },
  {
    name: 'a page that the CPU exchanged for another is followed',
    group: 'mirroring',
    rule: 'When the page behind an address changes, the old translation is released first, and the next access enters the new one.',
    async run(bench) {
      const range = bench.mmap(8);
      // From the page of zeros to a page of its own.
      await devicesTwice(bench, range, 0, 8);
      await bench.cpuWrite(range, 1, 2, 4);
      await bench.deviceSees(range, 0, 8);
      // Thrown away, and new.
      await bench.wait(bench.space.madviseAsync(part(range, 2, 4), 'dontneed'));
      bench.forget(bench.space, part(range, 2, 4));
      await bench.deviceSees(range, 0, 8);
      await bench.cpuWrite(range, 2, 3, 5);
      await bench.deviceSees(range, 0, 8);
      // A copy of its own, after a child has the same page.
      const child = await bench.fork();
      await bench.deviceSees(range, 0, 8);
      await bench.cpuWrite(range, 1, 3, 6);
      await bench.deviceSees(range, 0, 8);
      await bench.cpuSees(range, 0, 8, child);
    },
  },
  {
    name: 'a newer translation replaces the older one',
    group: 'mirroring',
    rule: 'enter installs translations in place of older ones: a page that was entered for reading is writable once it is entered so.',
    async run(bench) {
      const range = bench.mmap(6);
      await bench.cpuWrite(range, 0, 6, 2);
      // A child makes the pages read-only; when it has gone the right comes back in place, and nothing is released before.
      const child = await bench.fork();
      await devicesTwice(bench, range, 0, 6);
      await bench.exit(child);
      await bench.deviceWrite(range, 0, 3, 7);
      await bench.deviceSees(range, 0, 6);
      await bench.cpuSees(range, 0, 6);
      await bench.mirror(range, 0, 6);
      await bench.mirror(range, 0, 6, 'write');
      await bench.deviceWrite(range, 2, 3, 8);
      await bench.cpuSees(range, 0, 6);
    },
  },
  {
    name: 'every page of a run is entered with its own page',
    group: 'mirroring',
    rule: 'An item of enter is a run: page i of it is at page + i of the memory, the first and the last as well.',
    async run(bench) {
      const pages = 48;
      const range = bench.mmap(pages);
      await cpuStamps(bench, range, 0, pages, 1);
      await bench.mirror(range, 0, pages, 'read');
      for (const page of [0, 1, pages - 1]) {
        bench.require(bench.reaches(range, page, 'read'), `page ${page} of a run of ${pages} that was entered is not there`);
      }
      await deviceChecks(bench, range, 0, pages);
      for (let page = pages - 1; page >= 0; page -= 5) await bench.deviceSees(range, page, 1);
      await deviceStamps(bench, range, 0, pages, 2);
      await cpuChecks(bench, range, 0, pages);
      // Runs of mixed rights and holes.
      await bench.mprotect(part(range, 8, 8), 'r');
      await bench.munmap(part(range, 24, 4));
      await bench.mirror(range, 0, 24);
      await bench.mirror(range, 28, pages - 28);
      await bench.deviceSees(range, 0, 24);
      await bench.deviceSees(range, 28, pages - 28);
      bench.gone(range, 8, 8, 'write');
      bench.gone(range, 24, 4);
    },
  },
  {
    name: 'more pages than one batch holds are all mirrored',
    group: 'mirroring',
    rule: 'Nothing limits how many translations a device has: what has no room in one batch comes in the next.',
    async run(bench) {
      const pages = Math.max(48, Math.min(700, bench.profile.memoryPages || 700));
      const range = bench.mmap(pages);
      await cpuStamps(bench, range, 0, pages, 1);
      await deviceChecks(bench, range, 0, pages);
      await bench.mirror(range, 0, pages);
      await bench.deviceSees(range, 0, 3);
      await bench.deviceSees(range, pages >> 1, 4);
      await bench.deviceSees(range, pages - 3, 3);
      await cpuStamps(bench, range, pages >> 2, 12, 2);
      await deviceChecks(bench, range, pages >> 2, 20);
    },
  },
  {
    name: 'pages that lie far apart keep apart',
    group: 'mirroring',
    rule: 'A table finds a page by its whole number: neighbours in a set or in a level are not taken for each other.',
    async run(bench) {
      const ranges: AddressRange[] = [];
      for (const stride of [2 ** 6, 2 ** 9, 2 ** 10, 2 ** 18, 2 ** 27])
        for (let i = 1; i <= 4; i++) ranges.push(bench.mmap(1, { at: 0x1_0000_0000 + i * stride * PAGE + stride * 32 * PAGE }));
      let value = 1;
      for (const range of ranges) await bench.cpuWrite(range, 0, 1, value++);
      for (const range of ranges) await bench.deviceSees(range, 0, 1);
      for (const range of ranges) await bench.deviceSees(range, 0, 1);
      for (const range of ranges) await bench.deviceWrite(range, 0, 1, value++);
      for (const range of ranges) await bench.cpuSees(range, 0, 1);
      // What of them goes takes no other along.
      for (let i = 0; i < ranges.length; i += 2) await bench.munmap(ranges[i]!);
      for (let i = 1; i < ranges.length; i += 2) await bench.deviceSees(ranges[i]!, 0, 1);
      for (let i = 0; i < ranges.length; i += 2) bench.gone(ranges[i]!, 0, 1);
    },
  },
  {
    name: 'page numbers above 32 bits are kept whole',
    group: 'mirroring',
    rule: 'A virtual page number has 36 bits: what is cut to 32, or becomes negative, is taken for another page.',
    async run(bench) {
      const ranges = aliases(bench);
      for (const [i, range] of ranges.entries()) await bench.cpuWrite(range, 0, 4, i + 1);
      for (const range of ranges) await devicesTwice(bench, range, 0, 4);
      for (const [i, range] of ranges.entries()) await bench.deviceWrite(range, 1, 2, 64 + i);
      for (const range of ranges) await bench.cpuSees(range, 0, 4);
      for (const [i, range] of ranges.entries()) await bench.cpuWrite(range, 1, 2, 128 + i);
      for (const range of ranges) await bench.deviceSees(range, 0, 4);
    },
  },
  {
    name: 'page numbers above 32 bits are invalidated whole',
    group: 'mirroring',
    rule: 'Taking a page away takes its translation away, not the one of a page whose number ends in the same bits.',
    async run(bench) {
      const ranges = aliases(bench);
      for (const [i, range] of ranges.entries()) await bench.cpuWrite(range, 0, 4, i + 1);
      for (const range of ranges) await devicesTwice(bench, range, 0, 4);
      const left = [...ranges];
      for (let range = left.pop(); range; range = left.pop()) {
        await bench.munmap(range);
        for (let page = 0; page < 4; page++) await bench.deviceRefused(range, page, 'read');
        for (const other of left) await bench.deviceSees(other, 0, 4);
      }
    },
  },
  {
    name: 'a right that was given is used',
    group: 'mirroring',
    rule: 'After mprotect to rw the next write of the device faults and is served, though it has read the page before, and was refused.',
    async run(bench) {
      const range = bench.mmap(6, { prot: 'r' });
      await devicesTwice(bench, range, 0, 6);
      for (const page of [0, 2, 5]) await bench.deviceRefused(range, page, 'write');
      await bench.mprotect(range, 'rw');
      await bench.deviceWrite(range, 0, 3, 4);
      await bench.deviceSees(range, 0, 6);
      await bench.mprotect(range, 'r');
      await devicesTwice(bench, range, 0, 6);
      await bench.mprotect(part(range, 1, 4), 'rw');
      await bench.deviceWrite(range, 1, 4, 5);
      await bench.cpuSees(range, 0, 6);
    },
  },
  {
    name: 'a right that was taken is not used any more',
    group: 'mirroring',
    rule: 'After mprotect to r no translation, cached or not, takes a write of the device; after mprotect to none none answers at all.',
    async run(bench) {
      const range = bench.mmap(8);
      await bench.deviceWrite(range, 0, 8, 6);
      await bench.deviceWrite(range, 0, 8, 7);
      await bench.mprotect(part(range, 2, 4), 'r');
      bench.gone(range, 2, 4, 'write');
      for (const page of [2, 5]) await bench.deviceRefused(range, page, 'write');
      await bench.deviceSees(range, 0, 8);
      await bench.deviceWrite(range, 0, 2, 8);
      await bench.deviceWrite(range, 6, 2, 9);
      await bench.mprotect(part(range, 3, 2), 'none');
      bench.gone(range, 3, 2, 'read');
      for (const page of [3, 4]) for (const access of ['read', 'write'] as const) await bench.deviceRefused(range, page, access);
      await bench.deviceSees(range, 0, 3);
      await bench.mprotect(range, 'rw');
      await bench.deviceSees(range, 0, 8);
      await bench.deviceWrite(range, 0, 8, 10);
      await bench.cpuSees(range, 0, 8);
    },
  },
  {
    name: 'a translation says whose it is',
    group: 'mirroring',
    rule: 'What walk.translate answers has the page number that it was asked for, the memory and the page that were entered for it, and the right.',
    needs: (profile) => (profile.mmu.walk ? undefined : 'it does not translate by itself'),
    async run(bench) {
      const pages = 10;
      const range = bench.mmap(pages);
      const { walk } = bench.context.mmu;
      await bench.cpuWrite(range, 0, 4, 1);
      await bench.deviceSees(range, 0, pages);
      await bench.deviceWrite(range, 2, 5, 2);
      await bench.mprotect(part(range, 5, 3), 'r');
      await bench.deviceSees(range, 0, pages);
      for (const access of ['read', 'write', 'read'] as const) {
        for (let page = 0; page < pages; page++) {
          const vpn = range.start / PAGE + page;
          const answer = walk!.translate(vpn, access);
          if (answer === undefined) continue;
          bench.equal(answer.vpn, vpn, `the page number of the translation of page 0x${vpn.toString(16)}`);
          bench.require(access === 'read' || answer.write, `a translation of page ${page} without the right to write answers a write`);
          const [frame] = bench.space.snapshot(part(range, page, 1));
          bench.equal(bench.context.frameOf(answer), frame, `the frame behind the translation of page ${page}`);
        }
      }
    },
  },
  {
    name: 'protect takes the right to write, and gives it back',
    group: 'mirroring',
    rule: 'pmap.protect changes the right of every translation in its ranges, both ways, and of no other.',
    needs: (profile) => (profile.ownTable && profile.mmu.pmap?.protect ? undefined : 'it has no pmap.protect of its own'),
    async run(bench) {
      const pages = 12;
      const range = bench.mmap(pages);
      await bench.deviceWrite(range, 0, pages, 1);
      const { pmap, tlb } = bench.context;
      const change = async (parts: readonly (readonly [number, number])[], write: boolean): Promise<void> => {
        bench.mark();
        const ranges = new Ranges();
        for (const [from, count] of parts) ranges.add(range.start / PAGE + from, count);
        pmap.protect!(ranges, write);
        const ticket = tlb?.invalidate(ranges);
        await bench.until(() => ticket === undefined || ticket.state !== 'pending', 'the end of a flush');
      };
      await change(
        [
          [2, 3],
          [8, 2],
        ],
        false,
      );
      for (let page = 0; page < pages; page++) {
        const taken = (page >= 2 && page < 5) || page === 8 || page === 9;
        bench.equal(bench.reaches(range, page, 'write'), !taken, `the right to write page ${page}`);
        bench.equal(bench.reaches(range, page, 'read'), true, `the right to read page ${page}`);
      }
      await change(
        [
          [3, 1],
          [8, 2],
        ],
        true,
      );
      for (let page = 0; page < pages; page++)
        bench.equal(
          bench.reaches(range, page, 'write'),
          page !== 2 && page !== 4,
          `the right to write page ${page} after some of them got it back`,
        );
      // What is missing comes with the next fault.
      await bench.deviceWrite(range, 0, pages, 2);
      await bench.cpuSees(range, 0, pages);
    },
  },
  {
    name: 'bytes land where they were aimed, page boundaries included',
    group: 'mirroring',
    rule: 'A translation maps a page to a page: the offset of a byte is the same on both sides.',
    needs: needsAccesses,
    async run(bench) {
      const range = bench.mmap(5);
      await bench.cpuWrite(range, 0, 5, 1);
      for (const [offset, length] of [
        [0, 1],
        [PAGE - 1, 2],
        [2 * PAGE - 5, 9],
        [3 * PAGE - 100, PAGE + 200],
        [5 * PAGE - 3, 3],
      ] as const) {
        const bytes = Uint8Array.from({ length }, (_, i) => (offset + i * 7 + 11) & 0xff);
        await bench.deviceWriteBytes(range.start + offset, bytes);
        await bench.cpuSees(range, 0, 5);
      }
      await bench.deviceSees(range, 0, 5);
    },
  },
];

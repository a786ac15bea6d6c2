/** The operations of a table and a TLB one by one, called as the framework may call them and seldom does: several ranges at once, rights that change in place. */
import { type GmMmu, isTicket, Ranges, type Ticket } from '../../../gmem/index.ts';
import type { AddressRange } from '../../../mm/address-space.ts';
import { type Bench, PAGE } from '../bench.ts';
import type { ContractCase, Profile } from '../case.ts';
import { needsAccesses, needsMarks } from './common.ts';

function needsTranslate({ mmu, ...profile }: Profile): string | undefined {
  if (!mmu.walk || !mmu.pmap) return 'it does not translate by itself';
  return needsAccesses({ mmu, ...profile });
}

/** Pages of a range, as the list of a driver call: neighbours are one range. */
function rangesOf(range: AddressRange, pages: readonly number[]): Ranges {
  const ranges = new Ranges();
  for (const page of pages) ranges.add(range.start / PAGE + page, 1);
  return ranges;
}

/** What the driver says of a page. */
function translation(
  bench: Bench,
  range: AddressRange,
  page: number,
  access: 'read' | 'write',
): ReturnType<NonNullable<GmMmu['walk']>['translate']> {
  return bench.context.mmu.walk!.translate(range.start / PAGE + page, access);
}

/** Empties the caches, and waits for the end of that. */
async function flush(bench: Bench, ranges: Ranges): Promise<void> {
  const { tlb } = bench.context.mmu;
  const answer: Ticket | void = ranges.count > 1 && tlb?.invalidateCoalesced ? tlb.invalidateCoalesced(ranges) : tlb?.invalidate(ranges);
  if (isTicket(answer)) await bench.until(() => answer.state !== 'pending', 'the end of a flush');
}

export const TABLES: readonly ContractCase[] = [
  {
    name: 'all ranges of one call are taken away',
    group: 'invalidation',
    rule: 'release and invalidate get a list of ranges: what is in any of them goes, first range or last.',
    needs: needsTranslate,
    async run(bench) {
      const range = bench.mmap(16);
      await bench.deviceWrite(range, 0, 16, 5);
      await bench.deviceSees(range, 0, 16);
      const gone = [1, 4, 5, 6, 9, 15];
      bench.context.mmu.pmap!.release(rangesOf(range, gone));
      await flush(bench, rangesOf(range, gone));
      for (const page of gone)
        bench.require(!translation(bench, range, page, 'read'), `page ${page} is still translated, which was in a list of 4 ranges`);
      await bench.deviceSees(range, 0, 16);
      await bench.deviceWrite(range, 0, 16, 6);
      await bench.cpuSees(range, 0, 16);
    },
  },
  {
    name: 'a page that was written stays dirty when it is read',
    group: 'harvest',
    rule: 'A read marks a page accessed, and takes no dirty mark away.',
    needs: (profile) => needsMarks(profile) ?? needsAccesses(profile),
    async run(bench) {
      const range = bench.mmap(4);
      await bench.deviceWrite(range, 0, 4, 5);
      await bench.wait(bench.context.harvestAsync(range));
      await bench.deviceWrite(range, 1, 2, 6);
      // One of them once, the other one twice.
      await bench.deviceSees(range, 0, 4);
      await bench.deviceSees(range, 2, 1);
      const marks = await bench.wait(bench.context.harvestAsync(range));
      for (const page of [1, 2]) {
        const dirty = marks.some(({ vpn, dirty: written }) => written && vpn === range.start / PAGE + page);
        bench.require(dirty, `page ${page} is not marked dirty, which was written, and read after that`);
      }
    },
  },
  {
    name: 'merged records keep what each of them asks for',
    group: 'faults',
    rule: 'A page that one lane reads and another writes is served for both in one batch: the write is not lost, and where it is refused the read is not.',
    needs: needsAccesses,
    async run(bench) {
      const range = bench.mmap(4);
      await bench.cpuWrite(range, 0, 4, 5);
      const at = (page: number, offset: number): number => range.start + page * PAGE + offset;
      // Shared with a child, a page has no right to write before it is copied.
      const child = await bench.fork();
      const report = await bench.submit({
        accesses: [
          { op: 'read', addr: at(1, 0), bytes: 4 },
          { op: 'write', addr: at(1, 8), bytes: 4, value: 7 },
        ],
        lanes: 2,
      });
      bench.require(report.rounds <= 2, `a read and a write of one page take ${report.rounds} rounds: the batch was not served for both`);
      // A mapping of its own: the device has no translation yet, not even one to read.
      const constant = bench.mmap(1);
      await bench.cpuWrite(constant, 0, 1, 6);
      await bench.mprotect(constant, 'r');
      const refused = await bench.submit({
        accesses: [
          { op: 'read', addr: constant.start, bytes: 4 },
          { op: 'write', addr: constant.start + 8, bytes: 4, value: 7 },
        ],
        lanes: 2,
      });
      bench.equal(refused.cancelled.join(), '1', 'what was cancelled');
      bench.require(
        refused.rounds <= 2,
        `a read, and a write that is refused, of one page take ${refused.rounds} rounds: the read was not served`,
      );
      await bench.cpuSees(range, 0, 4);
      await bench.cpuSees(range, 0, 4, child);
      await bench.cpuSees(constant, 0, 1);
    },
  },
];

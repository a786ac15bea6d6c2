/** Faults: batches are served whole, overflow comes again, what has no right is cancelled, and every access is executed once. */
import type { Job, JobAccess } from '../../../gmem/job.ts';
import type { AddressRange } from '../../../mm/address-space.ts';
import { type Bench, PAGE } from '../bench.ts';
import type { ContractCase } from '../case.ts';
import { cpuStamps, needsAccesses, part } from './common.ts';

function read(range: AddressRange, page: number, offset = 0, bytes = 4): JobAccess {
  return { op: 'read', addr: range.start + page * PAGE + offset, bytes };
}

function write(range: AddressRange, page: number, value: number, offset = 0, bytes = 4): JobAccess {
  return { op: 'write', addr: range.start + page * PAGE + offset, bytes, value };
}

/** A job of one access a lane. */
function together(accesses: readonly JobAccess[]): Job {
  return { accesses, lanes: Math.max(1, accesses.length) };
}

/** Rounds that a job may take: one for each batch that its faults need, twice that where a page needs two faults, and some. */
function roundsFor(bench: Bench, pages: number): number {
  return 4 + 4 * Math.ceil(pages / Math.min(bench.device.faultEntries, pages));
}

/** Accesses anywhere in a range, from the seed. `from`: lanes write to places of their own, so that only what a page holds counts. */
function randomAccesses(bench: Bench, range: AddressRange, pages: number, count: number): JobAccess[] {
  return Array.from({ length: count }, () => {
    const bytes = [1, 2, 4, 8, 3, 16][bench.random(6)]!;
    const addr = range.start + bench.random(pages * PAGE - bytes);
    return bench.random(2) === 0 ? { op: 'read', addr, bytes } : { op: 'write', addr, bytes, value: bench.random(2 ** 31) };
  });
}

export const FAULTS: readonly ContractCase[] = [
  {
    name: 'every access of a job is executed once',
    group: 'faults',
    rule: 'A stalled access is replayed until it has gone through, and then not again; what its lane does next comes after it.',
    needs: needsAccesses,
    async run(bench) {
      const pages = 12;
      const range = bench.mmap(pages);
      await cpuStamps(bench, range, 0, 6, 1);
      const lanes = 8;
      const accesses: JobAccess[] = [];
      // Each lane writes, reads it, writes again: out of order, or twice, it would read another number.
      for (let turn = 0; turn < 6; turn++) {
        for (let lane = 0; lane < lanes; lane++) {
          const page = (lane + (turn >> 1)) % pages;
          accesses.push(turn % 2 === 0 ? write(range, page, turn * 100 + lane, lane * 8, 8) : read(range, page, lane * 8, 8));
        }
      }
      const report = await bench.submit({ accesses, lanes });
      bench.equal(report.order.length, accesses.length, 'the number of executed accesses');
      bench.equal(report.cancelled.length, 0, 'the number of cancelled accesses');
      const last = new Map<number, number>();
      for (const i of report.order) {
        bench.require((last.get(i % lanes) ?? -1) < i, `lane ${i % lanes} executes access ${i} after access ${last.get(i % lanes)}`);
        last.set(i % lanes, i);
      }
      await bench.cpuSees(range, 0, pages);
    },
  },
  {
    name: 'more faults than the fault buffer holds are all served',
    group: 'faults',
    rule: 'Lanes whose records find no room stall as well, and fault again after the replay.',
    needs: needsAccesses,
    async run(bench) {
      const entries = bench.device.faultEntries;
      const lanes = Math.min(entries * 2 + 3, 1200);
      // Pages that all fit its memory; where there is none, a page for each lane.
      const pages = Math.min(lanes, bench.profile.memoryPages === 0 ? 600 : Math.min(40, bench.profile.memoryPages));
      const range = bench.mmap(pages);
      await cpuStamps(bench, range, 0, pages >> 1, 1);
      const accesses = Array.from({ length: lanes }, (_, lane) => {
        const offset = Math.floor(lane / pages) * 8;
        return lane % 3 === 0 ? write(range, lane % pages, lane + 1, offset) : read(range, lane % pages, offset + 4);
      });
      const report = await bench.submit(together(accesses));
      bench.equal(report.order.length, lanes, 'the number of executed accesses');
      bench.require(report.rounds <= 8 + roundsFor(bench, lanes) * 2, `a job of ${lanes} faults takes ${report.rounds} rounds`);
      await bench.cpuSees(range, 0, Math.min(pages, 40));
    },
  },
  {
    name: 'many lanes that fault on one page are all served',
    group: 'faults',
    rule: 'Records of one page are one fault; all lanes that wait for it go on.',
    needs: needsAccesses,
    async run(bench) {
      const lanes = Math.min(96, Math.max(24, bench.device.faultEntries + 5));
      const range = bench.mmap(3);
      await bench.cpuWrite(range, 0, 2, 7);
      const reads = await bench.submit(together(Array.from({ length: lanes }, (_, lane) => read(range, lane % 2, lane * 4))));
      bench.equal(reads.order.length, lanes, 'the number of executed reads');
      const writes = await bench.submit(together(Array.from({ length: lanes }, (_, lane) => write(range, 2, lane + 1, lane * 8, 8))));
      bench.equal(writes.order.length, lanes, 'the number of executed writes');
      bench.require(writes.rounds <= roundsFor(bench, lanes), `${lanes} lanes that write to one page take ${writes.rounds} rounds`);
      await bench.cpuSees(range, 0, 3);
    },
  },
  {
    name: 'a batch of distinct pages is served whole',
    group: 'faults',
    rule: 'A service takes every record of its batch: a job does not need a round for each fault.',
    needs: needsAccesses,
    async run(bench) {
      const pages = 24;
      const range = bench.mmap(pages);
      await cpuStamps(bench, range, 0, pages, 1);
      // In no order.
      const accesses = Array.from({ length: pages }, (_, i) => read(range, (i * 7) % pages, 16));
      const report = await bench.submit(together(accesses));
      bench.equal(report.order.length, pages, 'the number of executed accesses');
      bench.require(report.rounds <= roundsFor(bench, pages), `a job of one access each to ${pages} pages takes ${report.rounds} rounds`);
    },
  },
  {
    name: 'a write among reads of one page gets its right',
    group: 'faults',
    rule: 'Of the records of one page the strongest access counts: served for reading only, the write would fault for ever.',
    needs: needsAccesses,
    async run(bench) {
      const pages = 6;
      const range = bench.mmap(pages);
      await bench.cpuWrite(range, 0, 3, 5);
      const accesses: JobAccess[] = [];
      for (let page = 0; page < pages; page++) {
        accesses.push(read(range, page, 0), read(range, page, 64), write(range, page, page + 1, 128), read(range, page, 256));
      }
      const report = await bench.submit(together(accesses));
      bench.equal(report.order.length, accesses.length, 'the number of executed accesses');
      bench.require(report.rounds <= 2 * roundsFor(bench, accesses.length), `a job of reads and writes takes ${report.rounds} rounds`);
      // The write comes first, or alone in the middle.
      const more = await bench.submit(
        together([write(range, 1, 9, 512), read(range, 1), read(range, 2), write(range, 2, 8, 512), read(range, 1, 8)]),
      );
      bench.equal(more.order.length, 5, 'the number of executed accesses');
      await bench.cpuSees(range, 0, pages);
    },
  },
  {
    name: 'accesses to what is not mapped are cancelled, and no others',
    group: 'faults',
    rule: 'A record that cannot be served is cancelled; its lane drops that access and goes on, and all other lanes are served.',
    needs: needsAccesses,
    async run(bench) {
      const range = bench.mmap(12);
      await cpuStamps(bench, range, 0, 12, 1);
      await bench.munmap(part(range, 4, 2));
      const accesses: JobAccess[] = [];
      for (let page = 0; page < 12; page++) accesses.push(read(range, page), write(range, page, page + 1, 8));
      for (const lanes of [accesses.length, 3, 1]) {
        const report = await bench.submit({ accesses, lanes });
        bench.equal([...report.cancelled].sort((a, b) => a - b).join(' '), '8 9 10 11', `what was cancelled of a job of ${lanes} lanes`);
        bench.equal(report.order.length, accesses.length - 4, 'the number of executed accesses');
      }
      bench.gone(range, 4, 2);
      await bench.cpuSees(range, 0, 4);
      await bench.cpuSees(range, 6, 6);
    },
  },
  {
    name: 'writes to what may only be read are cancelled, and no reads',
    group: 'faults',
    rule: 'Of a page without the right to write, the writes are cancelled and the reads are served, in one batch.',
    needs: needsAccesses,
    async run(bench) {
      const range = bench.mmap(8);
      await cpuStamps(bench, range, 0, 8, 1);
      await bench.mprotect(part(range, 2, 3), 'r');
      const accesses: JobAccess[] = [];
      for (let page = 0; page < 8; page++) accesses.push(write(range, page, page + 1, 8), read(range, page, 16), read(range, page));
      for (const lanes of [accesses.length, 5]) {
        const report = await bench.submit({ accesses, lanes });
        bench.equal([...report.cancelled].sort((a, b) => a - b).join(' '), '6 9 12', `what was cancelled of a job of ${lanes} lanes`);
        bench.equal(report.order.length, accesses.length - 3, 'the number of executed accesses');
      }
      bench.gone(range, 2, 3, 'write');
      await bench.cpuSees(range, 0, 8);
    },
  },
  {
    name: 'an access over a page boundary has both its pages at once',
    group: 'faults',
    rule: 'The pages of one access (a record has its span) are there together when it is replayed; an access that has half of them is not executed.',
    needs: needsAccesses,
    async run(bench) {
      const pages = 16;
      const range = bench.mmap(pages);
      await cpuStamps(bench, range, 0, 8, 1);
      const accesses: JobAccess[] = [];
      for (let page = 1; page < pages; page++) {
        accesses.push(page % 2 === 0 ? read(range, page, -3, 8) : write(range, page, page * 1000, -4, 8));
      }
      const report = await bench.submit(together(accesses));
      bench.equal(report.order.length, accesses.length, 'the number of executed accesses');
      await bench.cpuSees(range, 0, pages);
      // One half is not mapped: the access is cancelled, and the other half is as it was.
      await bench.munmap(part(range, 5, 1));
      const cut = await bench.submit(together([write(range, 5, 77, -4, 8), write(range, 6, 78, -4, 8), write(range, 8, 79, -4, 8)]));
      bench.equal([...cut.cancelled].sort().join(' '), '0 1', 'what was cancelled');
      await bench.cpuSees(range, 0, 5);
      await bench.cpuSees(range, 6, 10);
    },
  },
  {
    name: 'faults in several mappings are served in one job',
    group: 'faults',
    rule: 'A batch can have pages of any mapping of the space, each with its own rights.',
    needs: needsAccesses,
    async run(bench) {
      const ranges = [
        bench.mmap(4),
        bench.mmap(4, { at: 2 ** 40 }),
        bench.mmap(4, { at: 2 ** 46, prot: 'r' }),
        bench.mmap(4, { at: 2 ** 33 }),
      ];
      await bench.cpuWrite(ranges[0]!, 0, 4, 3);
      await bench.cpuWrite(ranges[3]!, 1, 2, 4);
      const accesses: JobAccess[] = [];
      for (let page = 0; page < 4; page++)
        for (const [i, range] of ranges.entries()) accesses.push(read(range, page), write(range, page, page * 16 + i + 1, 8));
      const report = await bench.submit(together(accesses));
      bench.equal([...report.cancelled].sort((a, b) => a - b).join(' '), '5 13 21 29', 'what was cancelled');
      for (const range of ranges) await bench.cpuSees(range, 0, 4);
    },
  },
  {
    name: 'a job on pages that are there needs no fault',
    group: 'faults',
    rule: 'What was entered is used: a second job on the same pages faults on none of them.',
    needs: needsAccesses,
    async run(bench) {
      const pages = 16;
      const range = bench.mmap(pages);
      const job = together(Array.from({ length: pages }, (_, page) => write(range, page, page + 1)));
      await bench.submit(job);
      const report = await bench.submit(job);
      bench.equal(report.rounds, 1, 'the number of rounds of a job whose pages are there');
    },
  },
  {
    name: 'faults are served one by one as well',
    group: 'faults',
    rule: 'A fault outside a job is served like one in a batch, and says how it ended.',
    async run(bench) {
      const range = bench.mmap(6);
      await cpuStamps(bench, range, 0, 3, 1);
      await bench.fault(range, 0, 6, 'read');
      for (let page = 0; page < 6; page++) bench.require(bench.reaches(range, page, 'read'), `page ${page} was served and is not there`);
      await bench.fault(range, 0, 6, 'write');
      for (let page = 0; page < 6; page++)
        bench.require(bench.reaches(range, page, 'write'), `page ${page} was served for writing and cannot be written`);
      await bench.mprotect(part(range, 1, 2), 'r');
      await bench.munmap(part(range, 4, 1));
      await bench.deviceRefused(range, 1, 'write');
      await bench.deviceRefused(range, 4, 'read');
      await bench.fault(range, 1, 2, 'read');
      await bench.fault(range, 5, 1, 'write');
    },
  },
  {
    name: 'random jobs read what was written',
    group: 'faults',
    rule: 'Whatever a job does, in whatever lanes: every read finds what the accesses before it have left, and so does the CPU.',
    needs: needsAccesses,
    async run(bench) {
      const pages = 20;
      const range = bench.mmap(pages);
      for (let round = 0; round < 6; round++) {
        const accesses = randomAccesses(bench, range, pages, 40 + bench.random(60));
        await bench.submit({ accesses, lanes: 1 + bench.random(40) });
        const page = bench.random(pages - 4);
        switch (bench.random(4)) {
          case 0:
            await bench.cpuWrite(range, page, 1 + bench.random(4), round + 1);
            break;
          case 1:
            await bench.cpuSees(range, page, 4);
            break;
          case 2:
            await bench.wait(bench.space.madviseAsync(part(range, page, 2), 'dontneed'));
            bench.forget(bench.space, part(range, page, 2));
            break;
          default:
            if (bench.profile.memoryPages > 0) await bench.migrate(part(range, page, 4), bench.random(2) === 0 ? 'device' : 'host');
        }
      }
      await bench.cpuSees(range, 0, pages);
      await bench.deviceSees(range, 0, pages);
    },
  },
];

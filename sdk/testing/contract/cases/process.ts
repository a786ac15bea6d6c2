/** Processes: fork, unmapping, moving, advice, truncation and exit, also in the middle of what the device does. */
import { isFarfaultError } from '../../../errors.ts';
import type { AddressRange } from '../../../mm/address-space.ts';
import type { ForkDevice } from '../../../mm/fork.ts';
import { Invalidation } from '../../../mm/notifier.ts';
import type { Job, JobAccess } from '../../../gmem/job.ts';
import { type Bench, PAGE } from '../bench.ts';
import type { ContractCase } from '../case.ts';
import { cpuChecks, cpuStamps, deviceChecks, deviceStamps, needsAccesses, needsMemory, part, needsOwnTranslations } from './common.ts';

/** Seeds that a race is tried with. */
const RACES = 6;

/** A job that reads and writes all pages of a range again and again, each lane at places of its own. */
function busyJob(range: AddressRange, pages: number, lanes: number, turns: number): Job {
  const accesses: JobAccess[] = [];
  for (let turn = 0; turn < turns; turn++) {
    for (let lane = 0; lane < lanes; lane++) {
      const addr = range.start + ((lane * 3 + turn) % pages) * PAGE + lane * 8;
      accesses.push(turn % 2 === 0 ? { op: 'write', addr, bytes: 8, value: turn * 1000 + lane } : { op: 'read', addr, bytes: 8 });
    }
  }
  return { accesses, lanes };
}

/** Pages of a range whose accesses a job gave up. */
function cancelledPages({ accesses }: Job, cancelled: readonly number[], range: AddressRange): number[] {
  return cancelled.map((i) => Math.floor((accesses[i]!.addr - range.start) / PAGE));
}

/** Fork by one of the policies; the child has the bytes that it must have. */
async function forked(bench: Bench, range: AddressRange, pages: number, device: ForkDevice): Promise<void> {
  const there = Array.from({ length: pages }, (_, page) => bench.context.residency(range.start / PAGE + page) !== undefined);
  const child = await bench.fork({ device });
  if (device === 'omit' && bench.profile.driver.memory?.[0]?.kind === 'private')
    for (let page = 0; page < pages; page++) if (there[page]) bench.forget(child, part(range, page, 1));
  // The device writes what the child still shares; nothing of it may come to the child.
  await deviceStamps(bench, range, 0, pages >> 1, 20);
  await cpuChecks(bench, range, 0, pages, child);
  await cpuStamps(bench, range, pages >> 2, pages >> 2, 30, child);
  await deviceChecks(bench, range, 0, pages);
  await cpuChecks(bench, range, 0, pages, child);
  await cpuStamps(bench, range, 0, pages, 40);
  await cpuChecks(bench, range, 0, pages, child);
  await deviceChecks(bench, range, 0, pages);
  await bench.exit(child);
  await deviceStamps(bench, range, 0, pages, 50);
  await cpuChecks(bench, range, 0, pages);
}

/** A program that does anything, from the seed, on one range whose pages each have a state. */
class RandomProgram {
  private readonly bench: Bench;
  private readonly pages: number;
  private readonly range: AddressRange;
  /** The right of each page: none where it is not mapped. */
  private readonly rights: ('' | 'r' | 'rw')[];

  constructor(bench: Bench, pages: number) {
    this.bench = bench;
    this.pages = pages;
    this.range = bench.mmap(pages);
    this.rights = Array.from({ length: pages }, () => 'rw');
  }

  async step(): Promise<void> {
    const { bench } = this;
    const value = 1 + bench.random(255);
    switch (bench.random(12)) {
      case 0:
      case 1:
        return this.on(['rw'], (from, pages) => bench.deviceWrite(this.range, from, pages, value));
      case 2:
        return this.on(['rw'], (from, pages) => bench.cpuWrite(this.range, from, pages, value));
      case 3:
        return this.on(['r', 'rw'], (from, pages) => bench.deviceSees(this.range, from, pages));
      case 4:
        return this.on(['r', 'rw'], (from, pages) => bench.cpuSees(this.range, from, pages));
      case 5:
        return this.protect();
      case 6:
        return this.map();
      case 7:
        return this.on(['r', 'rw'], (from, pages) => bench.madvise(part(this.range, from, pages), 'dontneed'));
      case 8:
        return this.fork();
      case 9:
      case 10:
        return this.job();
      default:
        if (bench.profile.memoryPages === 0) return this.job();
        await this.on(
          ['rw'],
          async (from, pages) => void (await bench.migrate(part(this.range, from, pages), bench.random(2) === 0 ? 'device' : 'host')),
        );
    }
  }

  /** Runs `act` on a run of pages with one of these rights. */
  private async on(rights: readonly string[], act: (from: number, pages: number) => Promise<void>): Promise<void> {
    const from = this.bench.random(this.pages);
    const most = 1 + this.bench.random(6);
    let pages = 0;
    while (pages < most && from + pages < this.pages && rights.includes(this.rights[from + pages]!)) pages++;
    if (pages > 0) await act(from, pages);
  }

  private async protect(): Promise<void> {
    const right = this.bench.random(2) === 0 ? 'r' : 'rw';
    await this.on(['r', 'rw'], async (from, pages) => {
      await this.bench.mprotect(part(this.range, from, pages), right);
      this.rights.fill(right, from, from + pages);
      if (right === 'r') this.bench.gone(this.range, from, pages, 'write');
    });
  }

  private async map(): Promise<void> {
    await this.on([''], (from, pages) => {
      this.bench.mmap(pages, { at: this.range.start + from * PAGE, fixed: true });
      this.rights.fill('rw', from, from + pages);
      return Promise.resolve();
    });
    if (this.bench.random(3) > 0) return;
    await this.on(['r', 'rw'], async (from, pages) => {
      await this.bench.munmap(part(this.range, from, pages));
      this.rights.fill('', from, from + pages);
      this.bench.gone(this.range, from, pages);
    });
  }

  private async fork(): Promise<void> {
    const child = await this.bench.fork();
    await this.on(['rw'], (from, pages) => this.bench.deviceWrite(this.range, from, pages, 200));
    await this.on(['r', 'rw'], (from, pages) => this.bench.cpuSees(this.range, from, pages, child));
    await this.bench.exit(child);
  }

  private async job(): Promise<void> {
    const { bench } = this;
    if (!bench.runsAccesses) return;
    const accesses = Array.from({ length: 10 + bench.random(30) }, (): JobAccess => {
      const addr = this.range.start + bench.random(this.pages) * PAGE + bench.random(PAGE / 8) * 8;
      return bench.random(2) === 0 ? { op: 'read', addr, bytes: 8 } : { op: 'write', addr, bytes: 8, value: bench.random(2 ** 31) };
    });
    const report = await bench.submit({ accesses, lanes: 1 + bench.random(20) });
    const refused = accesses.flatMap(({ op, addr }, i) => {
      const right = this.rights[Math.floor((addr - this.range.start) / PAGE)]!;
      return right === 'rw' || (right === 'r' && op === 'read') ? [] : [i];
    });
    bench.equal([...report.cancelled].sort((a, b) => a - b).join(' '), refused.join(' '), 'what was cancelled of a job');
  }
}

export const PROCESS: readonly ContractCase[] = [
  {
    name: 'a child does not see what the device writes after the fork',
    group: 'process',
    rule: 'fork makes shared pages read-only for the device as well: its next write to one of them faults, and gets a copy.',
    async run(bench) {
      const range = bench.mmap(8);
      await bench.cpuWrite(range, 0, 8, 1);
      await bench.deviceWrite(range, 0, 8, 2);
      await bench.deviceSees(range, 0, 8);
      const child = await bench.fork();
      await bench.deviceSees(range, 0, 8);
      await bench.deviceWrite(range, 1, 5, 3);
      await bench.cpuSees(range, 0, 8, child);
      await bench.cpuWrite(range, 3, 4, 4, child);
      await bench.deviceSees(range, 0, 8);
      await bench.cpuSees(range, 0, 8);
      await bench.cpuWrite(range, 0, 8, 5);
      await bench.deviceSees(range, 0, 8);
      await bench.cpuSees(range, 0, 8, child);
    },
  },
  ...(['share', 'home', 'omit'] as const).map((device): ContractCase => ({
    name: `pages on the device survive a fork that is to ${device} them`,
    group: 'process',
    rule: {
      share: 'Pages on the device are shared by parent and child until one of them writes.',
      home: 'Pages on the device come home before the child gets them.',
      omit: 'Pages on the device stay with the parent; the child has holes there.',
    }[device],
    needs: needsMemory,
    async run(bench) {
      const pages = 16;
      const range = bench.mmap(pages);
      await cpuStamps(bench, range, 0, pages, 1);
      await bench.migrate(part(range, 0, pages - 4), 'device');
      await deviceStamps(bench, range, 2, 4, 2);
      await forked(bench, range, pages, device);
    },
  })),
  {
    name: 'parent and child have the device each for itself',
    group: 'process',
    rule: 'A child begins without devices; attached there as well, the device keeps both apart.',
    needs: needsOwnTranslations,
    async run(bench) {
      const range = bench.mmap(8);
      await cpuStamps(bench, range, 0, 8, 1);
      await deviceStamps(bench, range, 0, 4, 2);
      const child = await bench.fork();
      const context = bench.attach(child);
      bench.gone(range, 0, 8, 'read', context);
      await deviceChecks(bench, range, 0, 8, context);
      await deviceStamps(bench, range, 1, 4, 3, context);
      await deviceChecks(bench, range, 0, 8);
      await deviceStamps(bench, range, 2, 4, 4);
      await deviceChecks(bench, range, 0, 8, context);
      await bench.munmap(part(range, 3, 2));
      await deviceChecks(bench, range, 0, 8, context);
      await bench.deviceRefused(range, 4, 'read');
      await bench.exit(child);
      await deviceChecks(bench, range, 5, 3);
    },
  },
  {
    name: 'a child outlives its parent',
    group: 'process',
    rule: 'What was shared belongs to who is left: the exit of a parent takes its own translations away only.',
    async run(bench) {
      const parent = bench.addSpace();
      const first = bench.attach(parent);
      const range = bench.mmap(8, { space: parent });
      await cpuStamps(bench, range, 0, 8, 1, parent);
      await deviceStamps(bench, range, 0, 5, 2, first);
      const child = await bench.fork({}, parent);
      const context = bench.attach(child);
      await deviceChecks(bench, range, 0, 4, context);
      await bench.exit(parent);
      await deviceChecks(bench, range, 0, 8, context);
      await deviceStamps(bench, range, 0, 8, 3, context);
      await cpuChecks(bench, range, 0, 8, child);
    },
  },
  {
    name: 'memory that is shared is one memory',
    group: 'process',
    rule: 'A shared mapping shows each process, and each of their devices, what the others write.',
    async run(bench) {
      const range = bench.mmap(6, { shared: true });
      await bench.cpuWrite(range, 0, 4, 1);
      await bench.deviceSees(range, 0, 6);
      const child = await bench.fork();
      const context = bench.attach(child);
      await bench.deviceSees(range, 0, 6, context);
      const both = async (from: number, pages: number, value: number): Promise<void> => {
        const bytes = new Uint8Array(pages * PAGE).fill(value);
        bench.wrote(bench.space, range.start + from * PAGE, bytes);
        bench.wrote(child, range.start + from * PAGE, bytes);
        await bench.deviceSees(range, 0, 6);
        await bench.deviceSees(range, 0, 6, context);
        await bench.cpuSees(range, 0, 6);
        await bench.cpuSees(range, 0, 6, child);
      };
      await bench.deviceWrite(range, 0, 2, 2);
      if (bench.runsAccesses) await both(0, 2, 2);
      await bench.deviceWrite(range, 1, 3, 3, context);
      if (bench.runsAccesses) await both(1, 3, 3);
      await bench.cpuWrite(range, 3, 3, 4, child);
      await both(3, 3, 4);
    },
  },
  {
    name: 'a mapping that moves takes its pages along and leaves nothing behind',
    group: 'process',
    rule: 'mremap is an unmapping for the device: the old addresses are gone, and the new ones fault and find the same pages.',
    async run(bench) {
      const pages = 8;
      const range = bench.mmap(pages);
      await cpuStamps(bench, range, 0, pages, 1);
      await deviceStamps(bench, range, 2, 4, 2);
      await bench.deviceSees(range, 0, pages);
      const there = await bench.mremap(range, { to: 0x7000_0000, mayMove: true });
      bench.gone(range, 0, pages);
      await bench.deviceRefused(range, 3, 'read');
      await deviceChecks(bench, there, 0, pages);
      await deviceStamps(bench, there, 1, 3, 3);
      await cpuChecks(bench, there, 0, pages);
      // Shorter, and longer again.
      const short = await bench.mremap(there, { bytes: 5 * PAGE });
      bench.gone(there, 5, 3);
      await bench.deviceRefused(there, 6, 'read');
      const long = await bench.mremap(short, { bytes: 7 * PAGE, mayMove: true });
      await deviceChecks(bench, long, 0, 7);
      // The old place stays, empty.
      const last = await bench.mremap(long, { mayMove: true, dontUnmap: true });
      bench.gone(long, 0, 7);
      await bench.deviceSees(long, 0, 7);
      await deviceChecks(bench, last, 0, 7);
      await bench.deviceWrite(long, 0, 3, 9);
      await deviceChecks(bench, last, 0, 7);
    },
  },
  {
    name: 'rights of single pages count inside a granule',
    group: 'process',
    rule: 'A fault takes what is around it along only as far as each page allows: page 3 without a right does not lend that of page 2.',
    async run(bench) {
      const pages = 24;
      const range = bench.mmap(pages);
      await cpuStamps(bench, range, 0, pages, 1);
      await bench.deviceWrite(range, 0, 2, 7);
      for (let page = 2; page < pages; page += 4) await bench.mprotect(part(range, page, 1), 'r');
      await bench.mprotect(part(range, 9, 1), 'none');
      await bench.munmap(part(range, 13, 1));
      const readOnly = (page: number): boolean => page % 4 === 2;
      for (let page = 0; page < pages; page++) {
        if (page === 9 || page === 13) continue;
        await bench.deviceSees(range, page, 1);
        if (!readOnly(page)) await bench.deviceWrite(range, page, 1, 100 + page);
      }
      for (let page = 0; page < pages; page++) {
        if (page === 9 || page === 13) await bench.deviceRefused(range, page, 'read');
        else if (readOnly(page)) await bench.deviceRefused(range, page, 'write');
      }
      await bench.mprotect(part(range, 0, 9), 'rw');
      await bench.deviceWrite(range, 0, 9, 3);
      await bench.deviceSees(range, 0, 9);
    },
  },
  {
    name: 'what the program gave up is gone for the device',
    group: 'process',
    rule: 'After madvise(dontneed) the device reads zeros, after madvise(free) what it finds; what it writes then stays.',
    async run(bench) {
      const range = bench.mmap(12);
      await cpuStamps(bench, range, 0, 12, 1);
      await deviceStamps(bench, range, 0, 6, 2);
      await bench.deviceSees(range, 0, 12);
      await bench.madvise(part(range, 3, 6), 'dontneed');
      bench.gone(range, 3, 6);
      await bench.deviceSees(range, 0, 12);
      await bench.deviceWrite(range, 4, 3, 3);
      await bench.deviceSees(range, 0, 12);
      await bench.wait(bench.space.madviseAsync(part(range, 0, 6), 'free'));
      await bench.deviceWrite(range, 0, 6, 4);
      await bench.deviceSees(range, 0, 12);
      await bench.cpuSees(range, 0, 12);
    },
  },
  {
    name: 'pages of a file are gone when it becomes shorter',
    group: 'process',
    rule: 'truncate takes the pages behind the new end from every mapping, and from every device.',
    async run(bench) {
      const pages = 8;
      const content = new Uint8Array(pages * PAGE).map((_, i) => (i >> 12) + 1);
      const file = bench.machine.createFile({ content });
      const range = bench.mmap(pages, { file, shared: true });
      bench.wrote(bench.space, range.start, content);
      await bench.deviceSees(range, 0, pages);
      await bench.deviceWrite(range, 1, 5, 77);
      await bench.deviceSees(range, 0, pages);
      bench.mark();
      await bench.wait(file.truncateAsync(3 * PAGE));
      bench.forget(bench.space, part(range, 3, 5));
      bench.gone(range, 3, 5);
      await bench.deviceSees(range, 0, 3);
      const outcome = await bench.wait(bench.context.faultAsync(range.start + 4 * PAGE, 'read'));
      bench.require(outcome === 'bus error', `a fault behind the end of a file ends in: ${outcome}`);
      await bench.wait(file.truncateAsync(pages * PAGE));
      await bench.deviceSees(range, 0, pages);
      await bench.deviceWrite(range, 4, 2, 78);
      await bench.cpuSees(range, 0, pages);
      await bench.munmap(range);
      file.close();
    },
  },
  {
    name: 'a job goes on while pages are unmapped under it',
    group: 'process',
    rule: 'The program may take pages away between any two steps of a job: their accesses are cancelled, all others are executed on the pages of now.',
    needs: needsAccesses,
    async run(bench) {
      const pages = 12;
      for (let round = 0; round < RACES; round++) {
        const range = bench.mmap(pages);
        await cpuStamps(bench, range, 0, pages - 2, round);
        const job = busyJob(range, pages, 10, 8);
        const step = bench.context.jobStep(job);
        await bench.race([step, bench.space.unmapStep(part(range, 3, 2)), bench.space.unmapStep(part(range, 8, 1))]);
        const report = step.report();
        bench.account(job, report);
        bench.forget(bench.space, part(range, 3, 2));
        bench.forget(bench.space, part(range, 8, 1));
        const others = cancelledPages(job, report.cancelled, range).filter((page) => ![3, 4, 8].includes(page));
        bench.equal(others.join(' '), '', 'pages that are mapped, and whose accesses were cancelled,');
        bench.gone(range, 3, 2);
        bench.gone(range, 8, 1);
        for (const [from, count] of [
          [0, 3],
          [5, 3],
          [9, 3],
        ] as const) {
          await bench.deviceSees(range, from, count);
          await bench.cpuSees(range, from, count);
        }
        await bench.munmap(range);
      }
    },
  },
  {
    name: 'a job goes on while rights change under it',
    group: 'process',
    rule: 'A right that is taken between two steps of a job is not used from there on; one that comes back is.',
    needs: needsAccesses,
    async run(bench) {
      const pages = 10;
      const range = bench.mmap(pages);
      await cpuStamps(bench, range, 0, pages, 1);
      for (let round = 0; round < RACES; round++) {
        const job = busyJob(range, pages, 8, 8);
        const step = bench.context.jobStep(job);
        const { space } = bench;
        await bench.race([step, space.protectStep(part(range, 2, 3), 'r'), space.protectStep(part(range, 6, 2), 'none')]);
        const report = step.report();
        bench.account(job, report);
        const others = cancelledPages(job, report.cancelled, range).filter((page) => ![2, 3, 4, 6, 7].includes(page));
        bench.equal(others.join(' '), '', 'pages with all rights whose accesses were cancelled');
        const reads = report.cancelled.filter((i) => job.accesses[i]!.op === 'read' && job.accesses[i]!.addr < range.start + 5 * PAGE);
        bench.equal(reads.length, 0, 'reads of pages that may always be read, and were cancelled,');
        bench.gone(range, 2, 3, 'write');
        bench.gone(range, 6, 2);
        await bench.mprotect(range, 'rw');
        await bench.deviceSees(range, 0, pages);
        await bench.cpuSees(range, 0, pages);
      }
    },
  },
  {
    name: 'a job goes on while its pages move',
    group: 'process',
    rule: 'Pages may go to the device and home between any two steps of a job: it finds them where they are, with their bytes.',
    needs: (profile) => needsMemory(profile) ?? needsAccesses(profile),
    async run(bench) {
      const pages = 12;
      const range = bench.mmap(pages);
      await cpuStamps(bench, range, 0, pages - 2, 1);
      for (let round = 0; round < RACES; round++) {
        const job = busyJob(range, pages, 8, 8);
        const step = bench.context.jobStep(job);
        const { context, space } = bench;
        await bench.race([
          step,
          context.migrateStep(part(range, 0, 8), round % 2 === 0 ? 'device' : 'host'),
          context.migrateStep(part(range, 4, 8), round % 2 === 0 ? 'host' : 'device'),
          space.readStep(range.start + PAGE, 4 * PAGE),
        ]);
        const report = step.report();
        bench.account(job, report);
        bench.equal(report.cancelled.length, 0, 'the number of cancelled accesses');
        await bench.deviceSees(range, 0, pages);
        await bench.cpuSees(range, 0, pages);
      }
    },
  },
  {
    name: 'a fork in the middle of a job keeps both apart',
    group: 'process',
    rule: 'From the moment of the fork the device writes for the parent only.',
    needs: needsAccesses,
    async run(bench) {
      const pages = 8;
      const range = bench.mmap(pages);
      for (let round = 0; round < RACES >> 1; round++) {
        await cpuStamps(bench, range, 0, pages, round);
        const before = bench.snapshot(range);
        const job = busyJob(range, pages, 6, 8);
        const [step, fork] = [bench.context.jobStep(job), bench.space.forkStep({})];
        await bench.race([step, fork]);
        bench.account(job, step.report());
        const child = fork.result!;
        const now = await bench.wait(child.readAsync(range.start, pages * PAGE));
        // The child has each word as it was at some moment: of before, or of some write of the job.
        for (let at = 0; at < now.length; at += 8) {
          const written = at % PAGE < 48 && now[at + 4] === 0 && now[at + 7] === 0;
          bench.require(
            written || now.subarray(at, at + 8).every((byte, i) => byte === before[at + i]),
            `the child reads at 0x${(range.start + at).toString(16)} what nobody wrote`,
          );
        }
        bench.adopt(child);
        await cpuStamps(bench, range, 0, pages, round + 50);
        await deviceStamps(bench, range, 0, pages, round + 60);
        const later = await bench.wait(child.readAsync(range.start, pages * PAGE));
        bench.require(
          later.every((byte, i) => byte === now[i]),
          'a child sees what was written after the fork',
        );
        await bench.exit(child);
        await deviceChecks(bench, range, 0, pages);
      }
    },
  },
  {
    name: 'pages that are unmapped while they move are freed once',
    group: 'process',
    rule: 'munmap during a migration waits for it or wins: no page is lost, none is freed twice, none comes back.',
    needs: needsMemory,
    async run(bench) {
      const pages = 12;
      for (let round = 0; round < RACES; round++) {
        const range = bench.mmap(pages);
        await cpuStamps(bench, range, 0, pages, round);
        const { context, space } = bench;
        if (round % 2 === 1) await bench.migrate(range, 'device');
        await bench.race([
          context.migrateStep(range, round % 2 === 0 ? 'device' : 'host'),
          space.unmapStep(part(range, 2, 4)),
          space.protectStep(part(range, 7, 2), 'r'),
        ]);
        bench.forget(space, part(range, 2, 4));
        bench.gone(range, 2, 4);
        bench.gone(range, 7, 2, 'write');
        await bench.deviceSees(range, 0, 2);
        await bench.deviceSees(range, 6, 6);
        await bench.cpuSees(range, 6, 6);
        await bench.munmap(range);
        bench.inspect();
      }
    },
  },
  {
    name: 'faults and invalidations in any order leave what is true',
    group: 'process',
    rule: 'A fault that was begun before an invalidation enters nothing that the invalidation has taken away.',
    async run(bench) {
      const pages = 8;
      const { context, space } = bench;
      for (let round = 0; round < RACES; round++) {
        const range = bench.mmap(pages);
        await bench.cpuWrite(range, 0, pages - 2, round + 1);
        const steps = [0, 2, 3, 4, 5, 7].map((page) =>
          context.faultStep(range.start + page * PAGE, (page + round) % 2 === 0 ? 'read' : 'write'),
        );
        await bench.race([
          ...steps,
          space.unmapStep(part(range, 2, 2)),
          space.protectStep(part(range, 4, 2), 'r'),
          space.adviseStep(part(range, 6, 2), 'dontneed'),
        ]);
        bench.forget(space, part(range, 2, 2));
        bench.forget(space, part(range, 6, 2));
        bench.gone(range, 2, 2);
        bench.gone(range, 4, 2, 'write');
        await bench.deviceSees(range, 4, 4);
        await bench.deviceSees(range, 0, 2);
        await bench.deviceRefused(range, 3, 'read');
        await bench.munmap(range);
        bench.inspect();
      }
    },
  },
  {
    name: 'a program that does anything sees what it wrote',
    group: 'process',
    rule: 'In whatever order a program maps, unmaps, protects, forks, moves and uses its memory, CPU and device see one memory.',
    async run(bench) {
      const program = new RandomProgram(bench, 24);
      for (let steps = 0; steps < 90; steps++) await program.step();
    },
  },
  {
    name: 'a process ends while the device works for it',
    group: 'process',
    rule: 'exit takes all pages away under a running job: it ends, with its accesses cancelled or with an error, and nothing is left.',
    async run(bench) {
      const space = bench.addSpace();
      const context = bench.attach(space);
      const range = bench.mmap(8, { space });
      await bench.cpuWrite(range, 0, 8, 1, space);
      await bench.deviceSees(range, 0, 4, context);
      // An invalidation keeps the job from going on.
      const event = new Invalidation().set(range.start / PAGE, range.end / PAGE, 'CLEAR');
      bench.mark();
      space.announce(event);
      await bench.until(() => event.unfinished === undefined, 'the end of a flush');
      const codes: string[] = [];
      const ended = (operation: Promise<unknown>): Promise<unknown> =>
        operation.catch((error: unknown) => {
          if (!isFarfaultError(error)) throw error;
          codes.push(`${error.code} (${error.message})`);
        });
      const work = [4, 6].map((page) => ended(context.faultAsync(range.start + page * PAGE, 'write')));
      if (bench.runsAccesses) work.push(ended(context.submitAsync(busyJob(range, 8, 8, 4))));
      if (bench.profile.memoryPages > 0) work.push(ended(context.migrateAsync(range, { to: 'device' })));
      const exit = bench.exit(space);
      await bench.turns(1);
      space.notifiers.invalidateEnd(event);
      await bench.wait(Promise.all(work));
      await exit;
      for (const code of codes) bench.require(/^(EBADF|EFAULT) /.test(code), `work of a process that ends fails with ${code}`);
      bench.require(!context.isAttached, 'the device is still attached to a process that has ended');
    },
  },
];

/** Memory: the device's pages are handed out, come back, and are enough for more than they are. */
import type { AddressRange } from '../../../mm/address-space.ts';
import { type Bench, PAGE } from '../bench.ts';
import { FaultPlan } from '../../middleware/index.ts';
import type { ContractCase, Profile } from '../case.ts';
import {
  cpuChecks,
  cpuStamps,
  deviceChecks,
  deviceStamps,
  inUse,
  needsBytes,
  needsFillableMemoryWithBytes,
  needsMemory,
  needsSmallMemory,
  needsSmallMemoryWithBytes,
  part,
  resident,
} from './common.ts';

/** Rounds of filling and emptying: what is lost a page at a time shows in the second. */
const ROUNDS = 3;
/** Pages from which on fewer rounds do. */
const LARGE_PAGES = 2048;

/** Pages that are moved and used at a time. */
const PIECE_PAGES = 32;

function roundsOf(pages: number): number {
  return pages < LARGE_PAGES ? ROUNDS : 2;
}

/** Fills the memory as far as one migration goes; returns the pages that are there then. */
async function fill(bench: Bench, range: AddressRange): Promise<number> {
  await bench.migrate(range, 'device');
  return resident(range, bench.context);
}

/** Fills the memory and empties it by `empty`, again and again: what fitted once fits every time. */
async function refills(bench: Bench, how: string, empty: (range: AddressRange, round: number) => Promise<void>): Promise<void> {
  const pages = bench.profile.memoryPages;
  let first = 0;
  for (let round = 0; round < roundsOf(bench.profile.memoryPages); round++) {
    const range = bench.mmap(pages);
    await bench.cpuWrite(range, 0, pages, round + 1);
    const now = await fill(bench, range);
    if (round === 0) first = now;
    bench.equal(now, first, `what the memory holds after ${round} rounds of ${how}, in pages,`);
    await empty(range, round);
    bench.equal(inUse(bench), 0, `pages of the device in use after ${how}`);
    if (bench.space.dump(range) !== '') await bench.munmap(range);
  }
}

export const MEMORY: readonly ContractCase[] = [
  {
    name: 'a memory that is too small holds everything in turn',
    group: 'memory',
    rule: 'When the memory is full, pages go home to make room, and none of their bytes is lost.',
    needs: needsFillableMemoryWithBytes,
    async run(bench) {
      const pages = bench.profile.memoryPages * 2;
      const range = bench.mmap(pages);
      await cpuStamps(bench, range, 0, pages, 1);
      await bench.migrate(part(range, 0, pages / 2), 'device');
      await bench.migrate(part(range, pages / 2, pages / 2), 'device');
      for (let page = 0; page < pages; page += PIECE_PAGES) {
        const some = Math.min(PIECE_PAGES, pages - page);
        await bench.migrate(part(range, page, some), 'device');
        await deviceStamps(bench, range, page, some, 2);
      }
      for (let page = 0; page < pages; page += PIECE_PAGES) {
        const some = Math.min(PIECE_PAGES, pages - page);
        await bench.migrate(part(range, page, some), 'device');
        await deviceChecks(bench, range, page, some);
      }
      await cpuChecks(bench, range, 0, pages);
    },
  },
  {
    name: 'faults alone make room in a memory that is full',
    group: 'memory',
    rule: 'A fault on a page that has no room evicts others and is served; what was evicted is whole.',
    needs: needsSmallMemoryWithBytes,
    async run(bench) {
      const pages = Math.min(bench.profile.memoryPages * 2, bench.profile.memoryPages + 64);
      const range = bench.mmap(pages);
      await cpuStamps(bench, range, 0, pages, 1);
      await bench.migrate(part(range, 0, bench.profile.memoryPages), 'device');
      for (let page = bench.profile.memoryPages; page < pages; page += 16)
        await deviceStamps(bench, range, page, Math.min(16, pages - page), 2);
      await cpuChecks(bench, range, 0, pages);
    },
  },
  {
    name: 'every page of the memory can be used',
    group: 'memory',
    rule: 'A memory of N pages holds N pages at once, each with its own bytes.',
    needs: needsSmallMemoryWithBytes,
    async run(bench) {
      const pages = bench.profile.memoryPages;
      const range = bench.mmap(pages);
      await cpuStamps(bench, range, 0, pages, 1);
      const there = await fill(bench, range);
      bench.equal(there, pages, `the number of pages of a memory of ${pages} that are in use when ${pages} pages were moved there`);
      await cpuChecks(bench, range, 0, pages);
    },
  },
  {
    name: 'a page is handed out once',
    group: 'memory',
    rule: 'allocPage answers with a page that is not in use: two pages of the program never share one, also when pages came back in between.',
    needs: needsMemory,
    async run(bench) {
      const pages = Math.min(bench.profile.memoryPages, 256);
      const range = bench.mmap(pages);
      await cpuStamps(bench, range, 0, pages, 1);
      for (let round = 0; round < 4; round++) {
        for (let page = 0; page < pages; page += 4) await bench.migrate(part(range, page, 4), 'device');
        const places = new Map<number, number>();
        for (let page = 0; page < pages; page++) {
          const frame = bench.context.ownFrame(range.start / PAGE + page);
          if (frame < 0) continue;
          const other = places.get(frame);
          bench.require(other === undefined, `pages ${other} and ${page} of the range are in one page of the device`);
          places.set(frame, page);
        }
        await deviceChecks(bench, range, 0, pages);
        // Every third page comes home, in an order of its own: by a touch, which may bring others along, or alone.
        for (let page = round % 3; page < pages; page += 3) {
          if (round % 2 === 0) await bench.migrate(part(range, pages - 1 - page, 1), 'host');
          else await bench.cpuSees(range, pages - 1 - page, 1);
        }
      }
    },
  },
  {
    name: 'a page comes back after munmap',
    group: 'memory',
    rule: 'What munmap frees is told by freePage and can be used again.',
    needs: needsSmallMemory,
    run: (bench) => refills(bench, 'munmap', (range) => bench.munmap(range)),
  },
  {
    name: 'a page comes back after the CPU has touched it',
    group: 'memory',
    rule: 'A page that goes home leaves its place in the memory free.',
    needs: (profile) =>
      needsSmallMemory(profile) ?? (isCoherent(profile) ? 'the CPU uses pages where they are: its memory is coherent' : undefined),
    run: (bench) => refills(bench, 'touches of the CPU', (range) => cpuChecks(bench, range, 0, bench.profile.memoryPages)),
  },
  {
    name: 'a page comes back after a migration to the host',
    group: 'memory',
    rule: 'A page that goes home leaves its place in the memory free.',
    needs: needsSmallMemory,
    run: (bench) =>
      refills(bench, 'migrations home', async (range) => {
        await bench.migrate(range, 'host');
      }),
  },
  {
    name: 'a page comes back after an eviction',
    group: 'memory',
    rule: 'A victim goes home and leaves its place in the memory free: pressure does not use the memory up.',
    needs: needsSmallMemory,
    async run(bench) {
      const pages = bench.profile.memoryPages;
      const wide = Math.min(pages, 512);
      const range = bench.mmap(pages + wide);
      await bench.cpuWrite(range, 0, pages + wide, 1);
      const first = await fill(bench, part(range, 0, pages));
      for (let round = 0; round < roundsOf(bench.profile.memoryPages); round++) {
        await bench.migrate(part(range, pages, wide), 'device');
        await bench.migrate(part(range, 0, wide), 'device');
      }
      await bench.migrate(range, 'host');
      bench.equal(inUse(bench), 0, 'pages of the device in use after all have gone home');
      bench.equal(await fill(bench, part(range, 0, pages)), first, 'what the memory holds after evictions, in pages,');
    },
  },
  {
    name: 'a page comes back after a migration that was refused',
    group: 'memory',
    rule: 'The place of a page that could not move (it is pinned) is given back.',
    needs: needsSmallMemory,
    async run(bench) {
      const pages = bench.profile.memoryPages;
      const range = bench.mmap(pages);
      await bench.cpuWrite(range, 0, pages, 1);
      const first = await fill(bench, range);
      await bench.migrate(range, 'host');
      for (let round = 0; round < roundsOf(bench.profile.memoryPages); round++) {
        const pin = await bench.wait(bench.space.pinAsync(part(range, 0, Math.ceil(pages / 2)), { write: true }));
        await bench.migrate(range, 'device');
        pin.unpin();
        await bench.migrate(range, 'host');
        bench.equal(inUse(bench), 0, 'pages of the device in use after a migration that pins have refused in part');
      }
      bench.equal(await fill(bench, range), first, 'what the memory holds after refused migrations, in pages,');
    },
  },
  {
    name: 'a page comes back after a copy that failed',
    group: 'memory',
    rule: 'When the copy to the device fails, the places that were taken for it are given back, and the pages are where they were.',
    needs: (profile) => needsSmallMemory(profile) ?? (profile.mmu.copy?.toDevice ? undefined : 'it has no copy engine that could fail'),
    async run(bench) {
      const plan = new FaultPlan();
      const device = bench.addFaulty(plan);
      const space = bench.addSpace();
      const context = bench.attach(space, device);
      const pages = Math.min(device.memory!.node.frames, 1024);
      const range = bench.mmap(pages, { space });
      await cpuStamps(bench, range, 0, pages, 1, space);
      await bench.migrate(range, 'device', context);
      const first = resident(range, context);
      await bench.migrate(range, 'host', context);
      for (let round = 0; round < roundsOf(bench.profile.memoryPages); round++) {
        plan.fail('copy.toDevice', 1 + (round % 2), round < 2 ? 'refuse' : 'partial');
        await bench.migrate(range, 'device', context);
        plan.count();
        await bench.migrate(range, 'host', context);
        bench.equal(device.memory!.node.used, 0, 'pages of the device in use after a copy that failed');
      }
      await bench.migrate(range, 'device', context);
      bench.equal(resident(range, context), first, 'what the memory holds after copies that failed, in pages,');
      await cpuChecks(bench, range, 0, pages, space);
    },
  },
  {
    name: 'a page comes back after detach',
    group: 'memory',
    rule: 'A device that leaves an address space sends the pages home; its memory is as free as before.',
    needs: needsSmallMemory,
    async run(bench) {
      const pages = bench.profile.memoryPages;
      let first = 0;
      for (let round = 0; round < roundsOf(bench.profile.memoryPages); round++) {
        const space = bench.addSpace();
        const context = bench.attach(space);
        const range = bench.mmap(pages, { space });
        await bench.cpuWrite(range, 0, pages, round + 1, space);
        await bench.migrate(range, 'device', context);
        const there = resident(range, context);
        if (round === 0) first = there;
        bench.equal(there, first, `what the memory holds after ${round} detaches, in pages,`);
        await bench.wait(context.detachAsync());
        bench.equal(inUse(bench), 0, 'pages of the device in use after it has left the address space');
        await bench.munmap(range, space);
      }
    },
  },
  {
    name: 'a memory that is full by two spaces serves both',
    group: 'memory',
    rule: 'The memory is one for all address spaces: pages of one make room for the other, and nobody reads what is not his.',
    needs: needsSmallMemoryWithBytes,
    async run(bench) {
      const pages = Math.min(bench.profile.memoryPages, 64);
      const other = bench.addSpace();
      const theirs = bench.attach(other);
      const a = bench.mmap(bench.profile.memoryPages);
      const b = bench.mmap(pages, { space: other });
      await cpuStamps(bench, a, 0, bench.profile.memoryPages, 1);
      await cpuStamps(bench, b, 0, pages, 2, other);
      await bench.migrate(a, 'device');
      for (let round = 0; round < 2; round++) {
        await bench.migrate(b, 'device', theirs);
        await deviceStamps(bench, b, 0, pages, round + 3, theirs);
        await deviceStamps(bench, a, 0, pages, round + 7);
        await deviceChecks(bench, b, 0, pages, theirs);
      }
      await cpuChecks(bench, a, 0, bench.profile.memoryPages);
      await cpuChecks(bench, b, 0, pages, other);
    },
  },
  {
    name: 'the end of one space leaves the pages of the other',
    group: 'memory',
    rule: 'Pages are given back one by one: those of another address space stay in use.',
    needs: needsBytes,
    async run(bench) {
      const pages = Math.min(Math.floor(bench.profile.memoryPages / 4), 128);
      const range = bench.mmap(pages);
      await cpuStamps(bench, range, 0, pages, 1);
      await bench.migrate(range, 'device');
      for (let round = 0; round < 3; round++) {
        const other = bench.addSpace();
        const theirs = bench.attach(other);
        const b = bench.mmap(pages, { space: other });
        await cpuStamps(bench, b, 0, pages, round + 2, other);
        await bench.migrate(b, 'device', theirs);
        await deviceChecks(bench, b, 0, pages, theirs);
        await bench.munmap(b, other);
        await bench.closeSpace(other);
        await deviceChecks(bench, range, 0, pages);
      }
      await cpuChecks(bench, range, 0, pages);
    },
  },
  {
    name: 'what a job has just been given is not evicted for it',
    group: 'memory',
    rule: 'victims answers with no page that `spared` is true for: a job whose pages evict each other would never end.',
    needs: needsSmallMemoryWithBytes,
    async run(bench) {
      if (!bench.runsAccesses) return;
      const pages = bench.profile.memoryPages;
      const range = bench.mmap(pages * 2);
      await bench.cpuWrite(range, 0, pages * 2, 3);
      await bench.migrate(part(range, 0, pages), 'device');
      // As many lanes as may be served in one batch, each on a page of its own: less than half of the memory.
      const granule = bench.profile.granulePages;
      const lanes = Math.max(1, Math.min(64, Math.floor(pages / granule / 4)));
      for (let round = 0; round < 3; round++) {
        const accesses = Array.from({ length: lanes * 4 }, (_, i) => ({
          op: i % 3 === 0 ? ('write' as const) : ('read' as const),
          addr: range.start + ((pages + (i * 5 + round) * granule) % (pages * 2)) * PAGE + (i % 500) * 8,
          bytes: 8,
          value: i + round * 1000,
        }));
        await bench.submit({ accesses, lanes });
      }
      await cpuChecks(bench, range, 0, pages * 2);
    },
  },
  {
    name: 'a memory that is full has victims',
    group: 'memory',
    rule: 'victims answers with an empty list only when nothing may go: of a full memory of which little is spared something can.',
    needs: needsVictims,
    async run(bench) {
      const { chosen } = await filledForVictims(bench);
      bench.require(chosen(() => false).length > 0, 'there are no victims in a full memory of which nothing is spared');
      const pages = bench.profile.memoryPages;
      bench.require(
        chosen((page) => page < pages / 2).length > 0,
        'there are no victims in a full memory of which the lower half is spared',
      );
      bench.require(
        chosen((page) => page >= pages / 2).length > 0,
        'there are no victims in a full memory of which the upper half is spared',
      );
    },
  },
  {
    name: 'victims are pages in use',
    group: 'memory',
    rule: 'victims answers with pages that have been handed out and have not come back.',
    needs: needsVictims,
    async run(bench) {
      const { range, chosen, used } = await filledForVictims(bench);
      const check = (when: string): void => {
        const now = used();
        for (const page of chosen(() => false)) bench.require(now.has(page), `page ${page} is a victim ${when} and not in use`);
      };
      check('of a full memory');
      await bench.migrate(part(range, 0, Math.ceil(bench.profile.memoryPages / 2)), 'host');
      check('after half of the pages have gone home');
      await bench.migrate(range, 'host');
      check('of an empty memory');
    },
  },
  {
    name: 'victims are not pages that are spared',
    group: 'memory',
    rule: 'What the operation under way needs where it is, it says by `spared`: none of those pages is a victim.',
    needs: needsVictims,
    async run(bench) {
      const { chosen } = await filledForVictims(bench);
      const pages = bench.profile.memoryPages;
      const oldest = chosen(() => false)[0];
      for (const [what, spared] of [
        ['with every second page spared', (page: number) => page % 2 === 1],
        ['with the lower half spared', (page: number) => page < pages / 2],
        ['with the first choice spared', (page: number) => page === oldest],
        ['with every page spared', () => true],
      ] as const)
        for (const page of chosen(spared)) bench.require(!spared(page), `page ${page} is a victim ${what} and spared`);
    },
  },
  {
    name: 'victims are named once',
    group: 'memory',
    rule: 'victims names each page once.',
    needs: needsVictims,
    async run(bench) {
      const { chosen } = await filledForVictims(bench);
      const victims = chosen(() => false);
      bench.equal(new Set(victims).size, victims.length, 'the number of different victims of a full memory');
    },
  },
  {
    name: 'too many pages at once is an answer and not an error',
    group: 'memory',
    rule: 'allocPage answers undefined when no page is free: what does not fit stays where it is, and nothing fails.',
    needs: needsSmallMemoryWithBytes,
    async run(bench) {
      const pages = bench.profile.memoryPages + Math.min(bench.profile.memoryPages, 512);
      const range = bench.mmap(pages);
      await cpuStamps(bench, range, 0, pages, 1);
      await bench.migrate(range, 'device');
      await bench.migrate(range, 'device');
      await cpuChecks(bench, range, 0, pages);
    },
  },
];

function needsVictims(profile: Profile): string | undefined {
  return profile.mmu.phys?.victims ? needsSmallMemory(profile) : 'it does not choose victims';
}

/** A full memory, what its driver chooses, and what is in use. */
async function filledForVictims(bench: Bench): Promise<{
  range: AddressRange;
  chosen: (spared: (page: number) => boolean) => readonly number[];
  used: () => Set<number>;
}> {
  const pages = bench.profile.memoryPages;
  const range = bench.mmap(pages);
  await bench.cpuWrite(range, 0, pages, 1);
  await bench.migrate(range, 'device');
  return {
    range,
    chosen: (spared) => bench.driverVictims(spared),
    used() {
      const places = new Set<number>();
      for (let page = 0; page < pages; page++) {
        const place = bench.context.residency(range.start / PAGE + page);
        if (place !== undefined) places.add(place);
      }
      return places;
    },
  };
}

function isCoherent({ driver }: Profile): boolean {
  return driver.memory?.[0]?.kind === 'coherent';
}

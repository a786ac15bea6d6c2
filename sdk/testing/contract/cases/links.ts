/** Copies between two devices that are linked: the bytes arrive, in the right direction, or the page stays where it was. */
import type { Context, Driver } from '../../../gmem/index.ts';
import { FaultPlan, wrapDriver } from '../../middleware/index.ts';
import type { Bench } from '../bench.ts';
import type { ContractCase, Profile } from '../case.ts';
import { cpuChecks, cpuStamps, deviceChecks, deviceStamps, needsBytes, part, resident } from './common.ts';

const PAGES = 24;
const ROUNDS = 3;

function needsPeerCopies(profile: Profile): string | undefined {
  const { mmu, mode, driver } = profile;
  if (!mmu.copy?.peer) return 'it does not copy between devices by itself (copy.peer)';
  if (mode !== 'exclusive') return `no page is its own alone (mode ${mode})`;
  if (driver.memory?.[0]?.allocator === 'peer') return 'no page goes to it over a link: it hands its memory out itself';
  return needsBytes(profile);
}

/** The driver without its engine for other devices' memories. */
function withoutPeerCopies(driver: Driver): Driver {
  return wrapDriver(driver, {
    copy: ({ toDevice, toHost, zero }) => ({
      ...(toDevice && { toDevice: (copies) => toDevice(copies) }),
      ...(toHost && { toHost: (copies) => toHost(copies) }),
      ...(zero && { zero: (copies) => zero(copies) }),
    }),
  });
}

/** A second device in the space of the first, over a link; `wrap`: what is around it. */
function linked(bench: Bench, wrap?: (driver: Driver) => Driver): Context {
  const device = bench.addDevice(wrap);
  bench.machine.link(bench.device, device);
  return bench.attach(bench.space, device);
}

export const LINKS: readonly ContractCase[] = [
  {
    name: 'a copy between two devices copies every page',
    group: 'links',
    rule: 'copy.peer moves the bytes of every piece of its list, all pages of each, from the one memory to the other.',
    needs: needsPeerCopies,
    async run(bench) {
      const other = linked(bench);
      const pages = Math.min(PAGES, bench.profile.memoryPages);
      const range = bench.mmap(pages);
      for (let round = 0; round < ROUNDS; round++) {
        await deviceStamps(bench, range, 0, pages, 2 * round + 1);
        bench.equal(resident(range, bench.context), pages, 'the number of pages on the first device');
        await bench.migrate(range, 'device', other);
        bench.equal(resident(range, other), pages, 'the number of pages that went over the link');
        await deviceChecks(bench, range, 0, pages, other);
        // Every second page goes back: pieces of one page each.
        for (let page = 0; page < pages; page += 2) await deviceStamps(bench, range, page, 1, 2 * round + 2);
        await bench.migrate(part(range, 0, pages), 'device', other);
        await deviceChecks(bench, range, 0, pages, other);
        await cpuChecks(bench, range, 0, pages);
      }
    },
  },
  {
    name: 'a copy between two devices goes where it is to',
    group: 'links',
    rule: 'Its own memory is on either side of copy.peer: it pulls when it needs the page, and pushes when the other one has no engine.',
    needs: needsPeerCopies,
    async run(bench) {
      const other = linked(bench, withoutPeerCopies);
      const pages = Math.min(8, bench.profile.memoryPages);
      const range = bench.mmap(pages);
      await cpuStamps(bench, range, 0, pages, 1);
      for (let round = 0; round < ROUNDS; round++) {
        await bench.migrate(range, 'device');
        await deviceStamps(bench, range, 0, pages, 2 * round + 2);
        await bench.migrate(range, 'device', other);
        await deviceChecks(bench, range, 0, pages, other);
        await deviceStamps(bench, range, 0, pages, 2 * round + 3, other);
        await bench.migrate(range, 'device');
        await deviceChecks(bench, range, 0, pages);
      }
      await cpuChecks(bench, range, 0, pages);
    },
  },
  {
    name: 'a copy between two devices that fails leaves the page where it was',
    group: 'links',
    rule: 'A ticket of copy.peer that fails, at once or later: the page stays with the first device, with its bytes, and can be asked for again.',
    needs: needsPeerCopies,
    async run(bench) {
      const plan = new FaultPlan();
      const device = bench.addFaulty(plan);
      bench.machine.link(bench.device, device);
      const other = bench.attach(bench.space, device);
      const pages = Math.min(8, bench.profile.memoryPages);
      const range = bench.mmap(pages);
      for (const [round, fault] of (['refuse', 'partial', 'late failure', 'late'] as const).entries()) {
        await deviceStamps(bench, range, 0, pages, round + 1);
        plan.fail('copy.peer', 1, fault);
        bench.mark();
        const moved = await bench.waitLate(other.migrateAsync(range, { to: 'device' }), plan);
        bench.require(plan.happened, 'pages went over the link without a call of copy.peer');
        bench.equal(moved, fault === 'late' ? pages : 0, `the number of pages that go over the link when the copy ends so (${fault})`);
        bench.equal(
          resident(range, bench.context),
          fault === 'late' ? 0 : pages,
          `the number of pages that the first device has (${fault})`,
        );
        plan.count();
        await deviceChecks(bench, range, 0, pages);
        await bench.migrate(range, 'device', other);
        await deviceChecks(bench, range, 0, pages, other);
        await cpuChecks(bench, range, 0, pages);
      }
    },
  },
];

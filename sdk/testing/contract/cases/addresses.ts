/** Addresses that a device hands out itself: what is peer-shared is reserved with it, at its place, and nothing else. */
import { isTicket } from '../../../step/ticket.ts';
import { isFarfaultError } from '../../../errors.ts';
import type { AddressRange } from '../../../mm/address-space.ts';
import type { Context } from '../../../gmem/context.ts';
import { FaultPlan } from '../../middleware/index.ts';
import { type Bench, PAGE } from '../bench.ts';
import type { ContractCase, Profile } from '../case.ts';
import { cpuChecks, cpuStamps, deviceChecks, deviceStamps, part } from './common.ts';

/** Pages of the pieces that peer-shared memory is handed out in. */
const PIECE = 512;
/** Pages of them that are touched. */
const SOME = 8;
const ROUNDS = 3;

function needsOwnAddresses({ mmu }: Profile): string | undefined {
  return mmu.peerVa ? undefined : 'it does not hand out addresses itself';
}

/** Peer-shared memory: anywhere, or where a range is. */
async function shared(bench: Bench, pages: number, at?: AddressRange): Promise<AddressRange> {
  const options = { bytes: pages * PAGE, peerShared: true, ...(at && { at: at.start, fixed: true }) };
  const range = await bench.wait(bench.space.mmapAsync(options));
  return bench.adoptRange(range);
}

/** What the driver says to a request that the framework would not make; what it gives is given back at once. */
async function asked(bench: Bench, { start, end }: AddressRange, context: Context = bench.context): Promise<string> {
  bench.excuse('violation');
  const { peerVa } = context.mmu;
  const answer = await settled(bench, peerVa!.allocFixed(start, end - start, 'rw'));
  if (answer === 'success') await settled(bench, peerVa!.free(start, end - start));
  return answer;
}

async function settled(bench: Bench, answer: unknown): Promise<string> {
  if (!isTicket(answer)) return String(answer);
  for (let turns = 0; answer.state === 'pending' && turns < 400; turns++) await bench.turns(1);
  return answer.state === 'done' ? 'success' : answer.reason;
}

export const ADDRESSES: readonly ContractCase[] = [
  {
    name: 'memory at an address that the device has reserved works like any other',
    group: 'addresses',
    rule: 'allocFixed only promises the addresses; pages come and go there as everywhere.',
    needs: needsOwnAddresses,
    async run(bench) {
      const range = await shared(bench, 2 * PIECE);
      await cpuStamps(bench, range, 0, SOME, 1);
      await deviceStamps(bench, range, SOME / 2, SOME, 2);
      await cpuChecks(bench, range, 0, SOME * 2);
      await deviceChecks(bench, range, 0, SOME);
      await bench.munmap(part(range, 0, PIECE));
      await deviceStamps(bench, range, PIECE, SOME, 3);
      await cpuChecks(bench, range, PIECE, SOME);
    },
  },
  {
    name: 'addresses that are reserved are given to nobody else',
    group: 'addresses',
    rule: 'allocFixed of a range of which anything is reserved says nomem, and changes nothing.',
    needs: needsOwnAddresses,
    async run(bench) {
      const range = await shared(bench, 3 * PIECE);
      await bench.munmap(part(range, PIECE, PIECE));
      bench.equal(await asked(bench, part(range, 0, PIECE)), 'nomem', 'the answer for a range that is reserved');
      bench.equal(await asked(bench, part(range, PIECE - 1, 2)), 'nomem', 'the answer for a range whose first page is reserved');
      bench.equal(await asked(bench, part(range, 2 * PIECE - 1, 2)), 'nomem', 'the answer for a range whose last page is reserved');
      bench.equal(await asked(bench, part(range, PIECE, PIECE)), 'success', 'the answer for a range that was freed');
    },
  },
  {
    name: 'addresses come back',
    group: 'addresses',
    rule: 'free gives back exactly what it is told to: a part of a range, a range, or several that touch; it can be reserved again.',
    needs: needsOwnAddresses,
    async run(bench) {
      const range = await shared(bench, 3 * PIECE);
      for (let round = 0; round < ROUNDS; round++) {
        const middle = part(range, PIECE, PIECE);
        await bench.munmap(middle);
        for (const page of [PIECE - 1, 2 * PIECE])
          bench.equal(await asked(bench, part(range, page, 1)), 'nomem', 'the answer for a page beside those that were freed');
        bench.equal((await shared(bench, PIECE, middle)).start, middle.start, `the place of a piece that was unmapped ${round + 1} times`);
        await deviceStamps(bench, range, PIECE - 1, 2, round + 1);
        await cpuChecks(bench, range, PIECE - 1, 2);
        await bench.munmap(range);
        await shared(bench, PIECE, range);
        await shared(bench, 2 * PIECE, part(range, PIECE, 2 * PIECE));
      }
      bench.equal(await asked(bench, part(range, 0, 1)), 'nomem', 'the answer for a page that is reserved');
    },
  },
  {
    name: 'a place that another device refuses is free again',
    group: 'addresses',
    rule: 'What was reserved for a mapping that came to nothing is given back, and can be reserved again.',
    needs: needsOwnAddresses,
    async run(bench) {
      const place = await shared(bench, 2 * PIECE);
      await bench.munmap(place);
      const plan = new FaultPlan();
      const device = bench.addFaulty(plan);
      const other = await bench.wait(bench.space.attachAsync(device));
      for (let round = 0; round < ROUNDS; round++) {
        plan.fail('peerVa.allocFixed', 1, 'refuse');
        let refused: unknown;
        await bench.wait(bench.space.mmapAsync({ bytes: 2 * PIECE * PAGE, peerShared: true, at: place.start, fixed: true })).then(
          () => undefined,
          (error: unknown) => (refused = error),
        );
        bench.require(isFarfaultError(refused) && refused.code === 'ENOMEM', 'a fixed place that a device refuses is mapped');
      }
      plan.count();
      await shared(bench, 2 * PIECE, place);
      await bench.wait(other.detachAsync());
      await deviceStamps(bench, place, 0, SOME, 4);
      await cpuChecks(bench, place, 0, SOME);
    },
  },
  {
    name: 'a device that comes later reserves what is there, and gives it back when it leaves',
    group: 'addresses',
    rule: 'When it is attached it is asked for all that is peer-shared; when it leaves, all of it is freed.',
    needs: needsOwnAddresses,
    async run(bench) {
      const range = await shared(bench, PIECE);
      await cpuStamps(bench, range, 0, SOME, 1);
      const device = bench.addDevice();
      for (let round = 0; round < ROUNDS; round++) {
        const context = await bench.wait(bench.space.attachAsync(device));
        bench.equal(await asked(bench, range, context), 'nomem', 'the answer of a newcomer for a range that was there');
        await deviceStamps(bench, range, 0, SOME, round + 2, context);
        await cpuChecks(bench, range, 0, SOME);
        await bench.wait(context.detachAsync());
      }
      await deviceChecks(bench, range, 0, SOME);
    },
  },
];

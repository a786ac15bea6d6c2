/** Devices that bring and take pages by themselves (`peer`): what they say they have done, they have; what they refuse is as before; and in steps it comes to the same. */
import type { Context } from '../../../gmem/index.ts';
import type { AddressRange } from '../../../mm/address-space.ts';
import { PEER_CODES, type PeerCode } from '../../../mm/peer-batch.ts';
import { decoupled, FaultPlan } from '../../middleware/index.ts';
import { type Bench, PAGE } from '../bench.ts';
import type { ContractCase, Profile } from '../case.ts';
import {
  cpuChecks,
  cpuStamps,
  deviceChecks,
  deviceStamps,
  inUse,
  needsBytes,
  needsSmallMemoryWithBytes,
  part,
  resident,
} from './common.ts';

/** Pages of a case's mapping. */
const PAGES = 24;
/** Lengths of batches: one item, an odd number, all that there is room for. */
const LENGTHS = [1, 2, 3, 7, 16];
/** Operations of the program that both forms run. */
const OPERATIONS = 48;
const ROUNDS = 3;

const REFUSALS = PEER_CODES.filter((code): code is Exclude<PeerCode, 'success'> => code !== 'success');

function needsPeer(profile: Profile): string | undefined {
  const { mmu, mode } = profile;
  if (!mmu.peer) return 'it does not bring and take pages by itself (peer)';
  if (mode === 'share') return 'it shares the table of the CPU: nothing is brought or taken';
  return needsBytes(profile);
}

function needsSmallPeer(profile: Profile): string | undefined {
  return needsPeer(profile) ?? needsSmallMemoryWithBytes(profile);
}

/** For the case that hides the family: what is left must be a device. */
function needsBothForms(profile: Profile): string | undefined {
  const { mmu } = profile;
  if (mmu.peer && mmu.walk && !mmu.pmap) return 'it has no other way to be told of a translation (pmap)';
  return needsPeer(profile);
}

/** As many pages of a mapping as the memory has room for. */
function fitting(bench: Bench, pages: number): number {
  return Math.min(pages, bench.profile.memoryPages);
}

/** Runs `look` in the very moment in which an operation ends, before the device comes to anything else. */
async function atOnce<T>(bench: Bench, operation: Promise<unknown>, look: () => T | Promise<T>): Promise<T> {
  bench.mark();
  return bench.wait(operation.then(look));
}

/** Pages go to the device, all of them, and each has its translation. */
async function brought(bench: Bench, range: AddressRange, context: Context = bench.context): Promise<void> {
  const pages = (range.end - range.start) / PAGE;
  await atOnce(bench, context.migrateAsync(range, { to: 'device' }), () => {
    bench.equal(resident(range, context), pages, 'the number of pages that are on the device after peer.map has brought them');
    for (let page = 0; page < pages; page++)
      bench.require(bench.reaches(range, page, 'read', context), `page ${page} of a batch was brought, and has no translation`);
  });
}

/** Pages come home, all of them; nothing of the device reaches them any more. */
async function taken(bench: Bench, range: AddressRange, context: Context = bench.context): Promise<void> {
  const pages = (range.end - range.start) / PAGE;
  await atOnce(bench, context.migrateAsync(range, { to: 'host' }), () => bench.gone(range, 0, pages, 'read', context));
  bench.equal(resident(range, context), 0, 'the number of pages that are on the device after peer.unmap has taken them');
}

/** A device in a space of its own, of which one call goes wrong. */
async function faultyWorld(bench: Bench, pages: number): Promise<{ plan: FaultPlan; context: Context; range: AddressRange }> {
  const plan = new FaultPlan();
  const space = bench.addSpace();
  const context = bench.attach(space, bench.addFaulty(plan));
  const range = bench.mmap(pages, { space });
  await cpuStamps(bench, range, 0, pages, 1, space);
  return { plan, context, range };
}

/** What must be as it was when nothing has been done: where each page is, and what is in use. */
function standing(bench: Bench, context: Context, range: AddressRange): string {
  const places: string[] = [];
  for (let addr = range.start; addr < range.end; addr += PAGE) places.push(String(context.residency(addr / PAGE) ?? '-'));
  const nodes = bench.machine.nodes.map(({ name, used }) => `${name} ${used}`);
  return `${context.space.dump(range)} ${places.join(' ')}; ${nodes.join(', ')}`;
}

/** Runs the program of the case's seed; returns what it read. */
async function program(bench: Bench, random: (below: number) => number): Promise<string[]> {
  const range = bench.mmap(PAGES);
  const seen: string[] = [];
  for (let i = 0; i < OPERATIONS; i++) {
    const from = random(PAGES);
    const pages = 1 + random(Math.min(8, PAGES - from));
    const piece = part(range, from, pages);
    switch (random(9)) {
      case 0:
      case 1:
        await cpuStamps(bench, range, from, pages, i);
        break;
      case 2:
      case 3:
        await deviceStamps(bench, range, from, pages, i + 1000);
        break;
      case 4:
        await bench.migrate(piece, 'device');
        break;
      case 5:
        await bench.migrate(piece, 'host');
        break;
      case 6:
        await bench.madvise(piece, 'dontneed');
        break;
      case 7:
        await bench.mprotect(piece, 'r');
        await deviceChecks(bench, range, from, pages);
        await bench.mprotect(piece, 'rw');
        break;
      default:
        await deviceChecks(bench, range, from, pages);
    }
    bench.inspect();
    seen.push(sum(await bench.wait(bench.space.readAsync(range.start + from * PAGE, PAGE))));
  }
  seen.push(sum(await bench.wait(bench.space.readAsync(range.start, PAGES * PAGE))));
  return seen;
}

function sum(bytes: Uint8Array): string {
  let hash = 2166136261;
  for (const byte of bytes) hash = Math.imul(hash ^ byte, 16777619);
  return (hash >>> 0).toString(16);
}

export const COUPLED: readonly ContractCase[] = [
  {
    name: 'every page of a batch is brought',
    group: 'coupled',
    rule: 'peer.map says success for an item whose page is on the device, with its bytes and its translation, and for no other.',
    needs: needsPeer,
    async run(bench) {
      const calls = bench.context.peerCounts!;
      for (const length of LENGTHS) {
        const pages = fitting(bench, length);
        const range = bench.mmap(pages + 2);
        await cpuStamps(bench, range, 0, pages + 2, length);
        const before = calls.maps;
        await brought(bench, part(range, 1, pages));
        bench.require(calls.maps > before, 'pages have gone to the device without a call of peer.map');
        await deviceChecks(bench, range, 1, pages);
        await cpuChecks(bench, range, 0, pages + 2);
        await bench.munmap(range);
      }
    },
  },
  {
    name: 'pages that are brought have their bytes at once',
    group: 'coupled',
    rule: 'When peer.map has answered, or its ticket has ended, the bytes are in the page: the device may use it in that moment.',
    needs: needsPeer,
    async run(bench) {
      const pages = fitting(bench, PAGES);
      const range = bench.mmap(pages);
      for (let round = 0; round < ROUNDS; round++) {
        await cpuStamps(bench, range, 0, pages, round + 1);
        const wanted = bench.snapshot(range);
        if (bench.runsAccesses) {
          const read = (): Promise<Uint8Array> => bench.context.readAsync(range.start, pages * PAGE);
          const bytes = await atOnce(bench, bench.context.migrateAsync(range, { to: 'device' }), read);
          const at = bytes.findIndex((byte, i) => byte !== wanted[i]);
          bench.require(
            at < 0,
            `the device reads ${bytes[at]} at byte ${at % PAGE} of page ${Math.floor(at / PAGE)} when peer.map has ended, and not ${wanted[at]}`,
          );
        } else await brought(bench, range);
        await deviceStamps(bench, range, 0, pages, round + 100);
        await taken(bench, range);
        await cpuChecks(bench, range, 0, pages);
      }
    },
  },
  {
    name: 'a page that is brought empty is zeros',
    group: 'coupled',
    rule: 'An item with the bytes `zero` is a page of zeros, whatever the page of the device held before.',
    needs: needsSmallPeer,
    async run(bench) {
      const pages = bench.profile.memoryPages;
      for (let round = 0; round < 2; round++) {
        const range = bench.mmap(pages);
        await bench.deviceWrite(range, 0, pages, 0xab);
        await bench.munmap(range);
        const fresh = bench.mmap(pages);
        await bench.migrate(fresh, 'device');
        await deviceChecks(bench, fresh, 0, pages);
        await cpuChecks(bench, fresh, 0, pages);
        await bench.munmap(fresh);
      }
    },
  },
  {
    name: 'a page that may only be read is brought so',
    group: 'coupled',
    rule: 'The translation of an item has the right to write when `write` says so, and not otherwise.',
    needs: needsPeer,
    async run(bench) {
      const pages = fitting(bench, 8);
      const range = bench.mmap(pages);
      await cpuStamps(bench, range, 0, pages, 1);
      await bench.mprotect(range, 'r');
      await atOnce(bench, bench.context.migrateAsync(range, { to: 'device' }), () => bench.gone(range, 0, pages, 'write'));
      await deviceChecks(bench, range, 0, pages);
      await bench.deviceRefused(range, pages - 1, 'write');
      await bench.mprotect(range, 'rw');
      await deviceStamps(bench, range, 0, pages, 2);
      await bench.mprotect(range, 'r');
      bench.gone(range, 0, pages, 'write');
      await deviceChecks(bench, range, 0, pages);
      await cpuChecks(bench, range, 0, pages);
    },
  },
  {
    name: 'the bytes of every page that is taken come home',
    group: 'coupled',
    rule: 'peer.unmap copies each item that has bytes to its page of the host, the last one too, before it says success.',
    needs: needsPeer,
    async run(bench) {
      for (const length of LENGTHS) {
        const pages = fitting(bench, length);
        const range = bench.mmap(pages);
        await cpuStamps(bench, range, 0, pages, 1);
        await bench.migrate(range, 'device');
        await deviceStamps(bench, range, 0, pages, length + 2);
        const wanted = bench.snapshot(range);
        const read = (): Promise<Uint8Array> => bench.space.readAsync(range.start, pages * PAGE);
        const bytes = await atOnce(bench, bench.context.migrateAsync(range, { to: 'host' }), read);
        const at = bytes.findIndex((byte, i) => byte !== wanted[i]);
        bench.require(
          at < 0 || !bench.runsAccesses,
          `the CPU reads ${bytes[at]} at byte ${at % PAGE} of page ${Math.floor(at / PAGE)} when peer.unmap has ended, and not ${wanted[at]}`,
        );
        await deviceStamps(bench, range, 0, pages, length + 3);
        await cpuChecks(bench, range, 0, pages);
      }
    },
  },
  {
    name: 'what was taken is used no more',
    group: 'coupled',
    rule: 'When peer.unmap has said success, or its ticket has ended, the device has no translation of the page: not in its table, not in its caches.',
    needs: needsPeer,
    async run(bench) {
      const pages = fitting(bench, 8);
      const range = bench.mmap(pages);
      for (let round = 0; round < ROUNDS; round++) {
        await deviceStamps(bench, range, 0, pages, round + 1);
        await deviceChecks(bench, range, 0, pages);
        await taken(bench, range);
        await cpuStamps(bench, range, 0, pages, round + 10);
        await deviceChecks(bench, range, 0, pages);
        await taken(bench, part(range, 0, 1));
      }
      await deviceStamps(bench, range, 0, pages, 20);
      await atOnce(bench, bench.space.mprotectAsync(range, 'none'), () => bench.gone(range, 0, pages));
      await bench.mprotect(range, 'rw');
      await deviceChecks(bench, range, 0, pages);
    },
  },
  {
    name: 'pages that only go are let go of',
    group: 'coupled',
    rule: 'An item without bytes loses its translations and nothing else; it must succeed, and the page of the device can be used again.',
    needs: needsSmallPeer,
    async run(bench) {
      const pages = bench.profile.memoryPages;
      for (let round = 0; round < ROUNDS; round++) {
        const range = bench.mmap(pages);
        await bench.deviceWrite(range, 0, pages, round + 1);
        const half = part(range, 0, Math.ceil(pages / 2));
        await bench.madvise(half, 'dontneed');
        bench.gone(range, 0, Math.ceil(pages / 2));
        await deviceChecks(bench, range, 0, pages);
        const { start, end } = range;
        const operation = bench.space.munmapAsync({ start, end });
        await atOnce(bench, operation, () => bench.gone(range, 0, pages));
        bench.forget(bench.space, range);
        bench.equal(inUse(bench), 0, 'the number of pages of the device in use after their mapping has gone');
      }
    },
  },
  {
    name: 'what the device has no room for leaves nothing behind',
    group: 'coupled',
    rule: 'An item that ends in nomem has no translation and no page: it can be asked for again when there is room.',
    needs: needsSmallPeer,
    async run(bench) {
      const pages = bench.profile.memoryPages;
      for (let round = 0; round < 2; round++) {
        const range = bench.mmap(pages * 2);
        await cpuStamps(bench, range, 0, pages * 2, round);
        await bench.migrate(range, 'device');
        // Nothing has been accessed: what is not on the device has no translation at all.
        for (let page = 0; page < pages * 2; page++)
          if (bench.context.residency(range.start / PAGE + page) === undefined) bench.gone(range, page, 1);
        await deviceStamps(bench, range, pages, pages, round + 2);
        await deviceChecks(bench, range, 0, pages);
        await cpuChecks(bench, range, 0, pages * 2);
        await bench.munmap(range);
      }
    },
  },
  {
    name: 'a batch that is done in part moves that part',
    group: 'coupled',
    rule: 'Each item has its own answer: those that succeed move, the others stay where they are with their bytes, and can be asked for again.',
    needs: needsPeer,
    async run(bench) {
      const pages = Math.max(2, fitting(bench, 8));
      const { plan, context, range } = await faultyWorld(bench, pages);
      for (let round = 0; round < 2; round++) {
        plan.fail('peer.map', 1, 'partial');
        const moved = await bench.migrate(range, 'device', context);
        bench.require(moved > 0 && moved < pages, `${moved} of ${pages} pages move when half of a batch is refused`);
        bench.equal(resident(range, context), moved, 'the number of pages on the device after half of a batch was refused');
        for (let page = 0; page < pages; page++)
          if (context.residency(range.start / PAGE + page) === undefined) bench.gone(range, page, 1, 'read', context);
        await deviceChecks(bench, range, 0, moved, context);
        await bench.migrate(range, 'device', context);
        await deviceStamps(bench, range, 0, pages, round + 2, context);
        plan.fail('peer.unmap', 1, 'partial');
        const home = await bench.migrate(range, 'host', context);
        bench.require(home > 0 && home < pages, `${home} of ${pages} pages come home when half of a batch is refused`);
        bench.equal(resident(range, context), pages - home, 'the number of pages on the device after half of a batch was not taken');
        await deviceChecks(bench, range, home, pages - home, context);
        await cpuChecks(bench, range, 0, pages, context.space);
        await bench.migrate(range, 'host', context);
      }
    },
  },
  {
    name: 'a page that is refused stays as it was, whatever the reason',
    group: 'coupled',
    rule: 'Whatever an item ends in, but for success: the page stays where it is, with its bytes and its rights, and nothing else is in use than before. One that is being sent away is asked for again.',
    needs: needsPeer,
    async run(bench) {
      const pages = fitting(bench, 6);
      const { plan, context, range } = await faultyWorld(bench, pages);
      const { space } = context;
      for (const code of REFUSALS) {
        plan.count();
        const before = standing(bench, context, range);
        plan.fail('peer.map', 1, code);
        const moved = await bench.migrate(range, 'device', context);
        bench.equal(plan.happened, true, `whether peer.map was called (${code})`);
        if (code === 'migrating') bench.equal(moved, pages, 'the number of pages that move when the device was asked again');
        else {
          bench.equal(moved, 0, `the number of pages that move when peer.map ends in ${code}`);
          bench.equal(standing(bench, context, range), before, `what is where after peer.map has ended in ${code}`);
          bench.gone(range, 0, pages, 'read', context);
        }
        await cpuChecks(bench, range, 0, pages, space);
        await bench.migrate(range, 'host', context);
        // A fault of the device comes to an end, too.
        plan.fail('peer.map', 1, code);
        await deviceStamps(bench, range, 0, 2, 30 + REFUSALS.indexOf(code), context);
        plan.count();
        await bench.migrate(range, 'device', context);
        await deviceChecks(bench, range, 0, pages, context);
        await deviceStamps(bench, range, 0, pages, 40 + REFUSALS.indexOf(code), context);
        const there = standing(bench, context, range);
        plan.fail('peer.unmap', 1, code);
        const home = await bench.migrate(range, 'host', context);
        bench.equal(plan.happened, true, `whether peer.unmap was called (${code})`);
        if (code === 'migrating') bench.equal(home, pages, 'the number of pages that come home when the device was asked again');
        else {
          bench.equal(home, 0, `the number of pages that come home when peer.unmap ends in ${code}`);
          bench.equal(standing(bench, context, range), there, `what is where after peer.unmap has ended in ${code}`);
        }
        await deviceChecks(bench, range, 0, pages, context);
        await cpuChecks(bench, range, 0, pages, space);
        await bench.migrate(range, 'host', context);
      }
      bench.require(context.failure === undefined, 'the context has failed after a refusal');
    },
  },
  {
    name: 'in one go and in steps the same program leaves the same bytes',
    group: 'coupled',
    rule: 'The family peer is a shorter way and no other one: without it (`decoupled`) every access reads the same.',
    needs: needsBothForms,
    async run(bench) {
      const seeds = Array.from({ length: OPERATIONS * 4 }, () => bench.random(2 ** 20));
      const run = async (world: Bench): Promise<string[]> => {
        let at = 0;
        return program(world, (below) => seeds[at++ % seeds.length]! % below);
      };
      const first = await run(bench);
      bench.require(bench.context.peerCounts!.items > 0, 'the program has asked the device for nothing');
      const steps = await bench.anotherOf(decoupled);
      try {
        const second = await run(steps);
        bench.require(steps.context.peerCounts === undefined, 'a device whose family is hidden brings pages by itself');
        const at = first.findIndex((each, i) => each !== second[i]);
        bench.require(at < 0, `what operation ${at} of the program reads depends on whether pages come in one go or in steps`);
        await steps.end();
      } finally {
        steps.close();
      }
    },
  },
];

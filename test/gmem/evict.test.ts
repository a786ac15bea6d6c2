/** Which pages go when a memory needs room, what became of them, and that nothing is lost by it. */
import { expect, test } from 'vitest';
import { type EventOf, MiB } from 'farfault';
import { type VictimCandidate, type VictimPolicy, victimPolicy } from 'farfault/gmem';
import nouveau from 'farfault/drivers/nouveau';
import * as L from '../../assembly/layout.ts';
import { expectClean, PAGE, Probe, smallMachine, used } from '../machine/probe.ts';
import { randomOf, resident, vram, type World, type WorldOptions, worldOf } from './evict-device.ts';

const POLICIES = ['fifo', 'lru', 'clock', 'random', 'lfu'] as const;

/** `pinned`: frames that are still to be let go. */
function end({ machine, space }: World, ...pinned: readonly (number | undefined)[]): void {
  for (const frame of pinned) machine.platform.core.exports.frameUnpin(frame!);
  space.close();
  for (const node of machine.nodes) expect(`${node.name} ${node.used}`).toBe(`${node.name} 0`);
  expectClean(machine);
  machine.close();
}

function evictionsOf({ machine }: World): EventOf<'frames.evicted'>[] {
  const events: EventOf<'frames.evicted'>[] = [];
  machine.onEvent((event) => void (event.type === 'frames.evicted' && events.push(event)));
  return events;
}

/** Brings pages 0 to 3 to a memory of four, uses page 0 again and again, then brings page 4. Which are there then. */
function afterFive(options: WorldOptions): number[] {
  const world = worldOf(options);
  const { context, at } = world;
  for (let i = 0; i < 4; i++) context.write(at(i), Uint8Array.of(i));
  // All have been used once: the marks of that are taken.
  context.harvest(world.range);
  for (let i = 0; i < 3; i++) context.read(at(0), 1);
  context.read(at(4), 1);
  const there = resident(world);
  end(world);
  return there;
}

test('the oldest page goes, unless the policy looks at what was used', () => {
  expect(afterFive({})).toEqual([1, 2, 3, 4]);
  expect(afterFive({ policy: { victims: 'fifo' } })).toEqual([1, 2, 3, 4]);
  expect(afterFive({ policy: { victims: 'lru' } })).toEqual([0, 2, 3, 4]);
  expect(afterFive({ policy: { victims: 'clock' } })).toEqual([0, 2, 3, 4]);
  expect(afterFive({ policy: { victims: 'lfu' } })).toEqual([0, 2, 3, 4]);
});

test('lru takes what has been unused for longest, fifo what has been there for longest', () => {
  const order = (victims: 'lru' | 'fifo'): number[] => {
    const world = worldOf({ policy: { victims } });
    const { context, at } = world;
    for (let i = 0; i < 4; i++) context.write(at(i), Uint8Array.of(i));
    context.harvest(world.range);
    const gone: number[] = [];
    for (let i = 4; i < 8; i++) {
      const before = resident(world);
      context.read(at(0), 1);
      context.read(at(i), 1);
      gone.push(...before.filter((page) => !resident(world).includes(page)));
    }
    end(world);
    return gone;
  };
  expect(order('fifo').slice(0, 4)).toEqual([0, 1, 2, 3]);
  expect(order('lru')).not.toContain(0);
});

test('what is used least often goes, even when it was used last', () => {
  const world = worldOf({ policy: { victims: 'lfu' } });
  const { context, at } = world;
  // Three rounds in which 0 to 2 are used and others pass through.
  for (let round = 0; round < 3; round++) {
    for (let i = 0; i < 3; i++) context.read(at(i), 1);
    context.read(at(8 + round), 1);
  }
  context.read(at(15), 1);
  expect(resident(world)).toEqual([0, 1, 2, 15]);
  end(world);
});

test('what was used in a space that has ended counts for nobody: its number comes again', () => {
  const world = worldOf({ policy: { victims: 'lfu' } });
  for (let round = 0; round < 3; round++) for (const i of [1, 2, 3, 8 + round]) world.context.read(world.at(i), 1);
  world.space.close();
  const space = world.machine.createAddressSpace();
  expect(space.id).toBe(world.space.id);
  const next = { ...world, space, context: space.attach(world.context.device), range: space.mmap({ bytes: 16 * PAGE }) };
  expect(next.range.start).toBe(world.range.start);
  for (const i of [1, 2, 3, 0, 4]) next.context.read(next.at(i), 1);
  // All have been used once: the oldest has gone.
  expect(resident(next)).toEqual([0, 2, 3, 4]);
  end(next);
});

test("a policy of one's own hears of spaces that have ended, and keeps none from ending", () => {
  const heard: number[] = [];
  const forget = (space: number): void => {
    heard.push(space);
    throw new Error('forgetful');
  };
  const victims: VictimPolicy = { name: 'mine', marks: false, looksAt: () => 1, choose: () => ({ victims: [0], renewed: [] }), forget };
  const world = worldOf({ policy: { victims } });
  const other = world.machine.createAddressSpace();
  world.space.close();
  other.close();
  expect(heard).toEqual([world.space.id, other.id]);
  expect(world.machine.strayErrors.map(String)).toEqual(['Error: forgetful', 'Error: forgetful']);
  world.machine.close();
});

test('random victims are the same with the same seed, and others with another', () => {
  const gone = (seed: number): string => {
    const world = worldOf({ policy: { victims: victimPolicy('random', seed) }, driver: vram({ pages: 8 }), pages: 32 });
    const events = evictionsOf(world);
    for (let i = 0; i < 32; i++) world.context.read(world.at(i), 1);
    const frames = events.map((event) => event.frames.join(' ')).join(', ');
    end(world);
    return frames;
  };
  expect(gone(7)).toBe(gone(7));
  expect(gone(7)).not.toBe(gone(8));
});

test.each(POLICIES)('%s: a memory of 8 pages holds a working set of 64, every byte of it', (victims) => {
  const world = worldOf({ policy: { victims }, driver: vram({ pages: 8, granulePages: 2 }), pages: 64 });
  const { context, space, at } = world;
  const bytes = new Uint8Array(64);
  const random = randomOf(5);
  for (let i = 0; i < 600; i++) {
    const page = random(8) < 6 ? random(8) : random(64);
    const who = random(5) === 0 ? space : context;
    if (random(2) === 0) who.write(at(page) + page, Uint8Array.of((bytes[page] = random(256))));
    else expect(who.read(at(page) + page, 1)[0]).toBe(bytes[page]);
  }
  expectClean(world.machine);
  expect(world.machine.counters.evictions).toBeGreaterThan(50);
  for (let page = 0; page < 64; page++) expect(space.read(at(page) + page, 1)[0]).toBe(bytes[page]);
  end(world);
});

test('the clock looks at the oldest pages only, however many there are', () => {
  const pages = 128;
  const world = worldOf({ policy: { victims: 'clock' }, driver: vram({ pages }), pages: 2 * pages });
  const { context, at } = world;
  const memory = context.device.memory!;
  const { candidates } = memory;
  let listed = 0;
  memory.candidates = (...its) => {
    const frames = candidates.apply(memory, its);
    listed += frames.length;
    return frames;
  };
  for (let i = 0; i < 2 * pages; i++) context.write(at(i), Uint8Array.of(i));
  expect(world.machine.counters.evictions).toBeGreaterThanOrEqual(pages);
  expect(listed / pages).toBeLessThan(pages / 2);
  for (let i = 0; i < 2 * pages; i++) expect(world.space.read(at(i), 1)).toEqual(Uint8Array.of(i));
  end(world);
});

/** The newest goes. Keeps what it was shown. */
class Newest implements VictimPolicy {
  readonly name = 'newest';
  readonly marks = true;
  readonly shown: VictimCandidate[][] = [];

  looksAt(): number {
    return Infinity;
  }

  choose(candidates: readonly VictimCandidate[]): { victims: number[]; renewed: number[] } {
    this.shown.push([...candidates]);
    return { victims: [candidates.length - 1], renewed: [] };
  }
}

test('an own policy is shown what may go, oldest first, with the marks of the device', () => {
  const victims = new Newest();
  const world = worldOf({ policy: { victims } });
  const { context, space, at } = world;
  for (let i = 0; i < 4; i++) context.write(at(i), Uint8Array.of(i));
  context.harvest(world.range);
  context.read(at(1), 1);
  context.write(at(2), Uint8Array.of(9));
  context.read(at(4), 1);
  expect(resident(world)).toEqual([0, 1, 2, 4]);
  expect(victims.shown[0]!.map(({ vpn, accessed, dirty }) => [vpn - at(0) / PAGE, accessed, dirty])).toEqual([
    [0, false, false],
    [1, true, false],
    [2, true, true],
    [3, false, false],
  ]);
  expect(victims.shown[0]!.every((each) => each.space === space.id && each.pages === 1)).toBe(true);
  // The marks that it saw are still told to whoever asks.
  expect(context.harvest(world.range).map(({ vpn, dirty }) => [vpn - at(0) / PAGE, dirty])).toEqual([
    [1, false],
    [2, true],
    [4, false],
  ]);
  end(world);
});

test('a policy that never chooses is asked ten times, then the memory is full', () => {
  let asked = 0;
  const never: VictimPolicy = {
    name: 'never',
    marks: false,
    looksAt: () => Infinity,
    choose: (_candidates, _pages, last) => {
      asked++;
      expect(last).toBe(asked === 10);
      return { victims: [], renewed: [0] };
    },
  };
  const world = worldOf({ policy: { victims: never } });
  for (let i = 0; i < 4; i++) world.context.write(world.at(i), Uint8Array.of(i));
  world.context.write(world.at(4), Uint8Array.of(4));
  expect([asked, resident(world), world.space.dump(world.range)]).toEqual([10, [0, 1, 2, 3], 'DDDDH...........']);
  end(world);
});

test('an answer that is no choice is an error, and nothing has moved', () => {
  const wrong: VictimPolicy = { name: 'wrong', marks: false, looksAt: () => 2, choose: () => ({ victims: [2], renewed: [] }) };
  const world = worldOf({ policy: { victims: wrong } });
  for (let i = 0; i < 4; i++) world.context.write(world.at(i), Uint8Array.of(i));
  expect(() => world.context.write(world.at(4), Uint8Array.of(4))).toThrow('wrong.choose victims 2 is not one of 2 candidates');
  expect(resident(world)).toEqual([0, 1, 2, 3]);
  end(world);
});

test('a choice that does not exist is refused by name', () => {
  const machine = smallMachine();
  const add = (policy: unknown) => (): unknown => machine.addDevice(vram(), policy as never);
  expect(add({ victims: 'mru' })).toThrow("gpu policy.victims \"mru\" is not one of: 'fifo', 'lru', 'clock', 'lfu', 'random'");
  expect(add({ victims: {} })).toThrow('is neither the name of a victim policy nor an object');
  expect(add({ victimes: 'lru' })).toThrow('addDevice option "victimes" is not one of: placement, slice,');
  const own = nouveau({ vram: 16 * PAGE });
  expect(() => machine.addDevice(own, { victims: 'lru' })).toThrow(
    'nouveau policy.victims "lru" have no say: its driver hands its memory out',
  );
  expect(() => victimPolicy('mru' as never)).toThrow('is not one of');
  expect(() => victimPolicy('random', -1)).toThrow('is not an integer below 2^32');
  machine.close();
});

// ---------------------------------------------------------------------------------------------------------------- results

test('each victim has a result: what went, what nobody copied, what found no host frame, what was gone', async () => {
  const probe = new Probe({ pages: 2 });
  const machine = smallMachine({ dram: 8 * PAGE });
  const space = machine.createAddressSpace();
  const context = space.attach(machine.addDevice(probe.driver));
  const range = space.mmap({ bytes: 16 * PAGE });
  const at = (i: number): number => range.start + i * PAGE;
  const world: World = { machine, context, space, range, at };
  const events = evictionsOf(world);
  const last = (): string => `${events.at(-1)!.pages}: ${events.at(-1)!.results.join(', ')}`;

  context.write(at(0), Uint8Array.of(10));
  context.write(at(1), Uint8Array.of(11));
  context.write(at(2), Uint8Array.of(12));
  expect(last()).toBe('1: success');

  // The engine gives the copy up: the victim stays, with its bytes, and so does every other one.
  probe.slow.add('toHost');
  const write = context.writeAsync(at(3), Uint8Array.of(13));
  while (probe.unfinished > 0) probe.giveUp();
  await write;
  probe.slow.clear();
  expect(last()).toBe('0: device error');
  expect([machine.counters.evicted, space.dump({ start: at(0), end: at(4) })]).toEqual([{ success: 1, 'device error': 2 }, 'HDDH']);

  // No host frame is left.
  for (let i = 4; machine.nodes[0]!.used < 8; i++) space.write(at(i), Uint8Array.of(i));
  expect(() => context.write(at(15), Uint8Array.of(1))).toThrow('host memory is exhausted');
  expect(last()).toBe('0: fallback');

  // While the device flushes, the victim is unmapped.
  space.munmap({ start: at(4), end: at(8) });
  expect([0, 1, 2, 3].map((i) => context.read(at(i), 1)[0])).toEqual([10, 11, 12, 13]);
  probe.slow.add('invalidate');
  const late = context.writeAsync(at(15), Uint8Array.of(15));
  expect(probe.unfinished).toBe(1);
  probe.slow.clear();
  const gone = space.munmapAsync({ start: at(1), end: at(2) });
  probe.finish();
  await Promise.all([late, gone]);
  expect(context.read(at(15), 1)).toEqual(Uint8Array.of(15));
  expectClean(machine);
  end(world);
});

test('counters of evictions are the events, folded', () => {
  const world = worldOf({ dram: 1 * MiB });
  const events = evictionsOf(world);
  for (let i = 0; i < 12; i++) world.context.write(world.at(i), Uint8Array.of(i));
  const { evictions, evicted, reclaimed } = world.machine.counters;
  expect([events.length, evictions, evicted, reclaimed]).toEqual([8, 8, { success: 8 }, { direct: 8, background: 0 }]);
  expect(events[0]).toMatchObject({ pages: 1, results: ['success'], by: 'direct', cause: 'fault', vpn: world.at(4) / PAGE });
  expect(used(world.machine)).toBe('dram 8, gpu.vram 4');
  end(world);
});

// ---------------------------------------------------------------------------------------------------------------- sizes

test('a working set of 1, 2, 4, 8 and 16 times the memory of the device: every byte is right, by every policy', () => {
  for (const [victims, times] of POLICIES.flatMap((name) => [1, 2, 4, 8, 16].map((n) => [name, n] as const))) {
    const pages = 8 * times;
    const world = worldOf({ policy: { victims }, driver: vram({ pages: 8, granulePages: 2 }), pages });
    const { context, machine, at } = world;
    const bytes = new Uint8Array(pages);
    const random = randomOf(times);
    for (let i = 0; i < 3 * pages; i++) {
      const page = i < pages ? i : random(pages);
      expect(context.read(at(page) + page, 1)[0]).toBe(bytes[page]);
      context.write(at(page) + page, Uint8Array.of((bytes[page] = random(256))));
    }
    for (let page = 0; page < pages; page++) expect(world.space.read(at(page) + page, 1)[0]).toBe(bytes[page]);
    expect([machine.verify(), machine.counters.evictions > 0]).toEqual([undefined, times > 1]);
    end(world);
  }
});

/**
 * Two blocks of a device that brings 2 MiB at a time, full of small pages, every other one of which has just been used; and advised memory for a huge one. `isCopy`: which of them are copies of pages of the host.
 */
function twoBlocks(
  victims: (typeof POLICIES)[number],
  isCopy = (_page: number): boolean => false,
): { readonly world: World; readonly huge: number; order(): number } {
  const world = worldOf({ dram: 16 * MiB, deviceMemory: 4 * MiB, policy: { victims }, driver: vram({ pages: 1024, granulePages: 512 }) });
  const { space, context, machine } = world;
  const base = 0x4000_0000;
  for (const at of [base, base + 2 * MiB]) {
    // A page short of a block: nothing huge there.
    space.mmap({ at, bytes: 511 * PAGE, fixed: true });
    for (let i = 0; i < 511; i++) {
      const page = { start: at + i * PAGE, end: at + (i + 1) * PAGE };
      if (isCopy(i)) space.hmadvise(page, 'readmostly');
      (isCopy(i) ? space : context).write(page.start, Uint8Array.of(i));
      if (isCopy(i)) context.read(page.start, 1);
    }
  }
  const small = { start: base, end: base + 4 * MiB };
  for (const at of [base, base + 2 * MiB]) context.harvest({ start: at, end: at + 511 * PAGE });
  for (let at = small.start; at < small.end; at += 2 * PAGE) if ((at - base) % (2 * MiB) < 511 * PAGE) context.read(at, 1);
  const huge = base + 4 * MiB;
  space.mmap({ at: huge, bytes: 2 * MiB, fixed: true });
  space.madvise({ start: huge, end: huge + 2 * MiB }, 'hugepage');
  const order = (): number => machine.platform.core.entry(space.table, huge / PAGE) & L.ENTRY_ORDER;
  return { world, huge, order };
}

test('where a huge frame is needed a whole block goes, not as many pages here and there, by every policy', () => {
  for (const victims of POLICIES) wholeBlock(victims);
});

function wholeBlock(victims: (typeof POLICIES)[number]): void {
  const { world, huge, order } = twoBlocks(victims);
  world.context.write(huge, Uint8Array.of(9));
  expect(order()).not.toBe(0);
  expect(world.machine.counters.evictions).toBe(1);
  expect(world.machine.verify()).toBeUndefined();
  for (let i = 0; i < 511; i++) expect(world.space.read(0x4000_0000 + i * PAGE, 1)[0]).toBe(i % 256);
  end(world);
}

test('of two blocks that goes to which nothing has come for longest', () => {
  const { world, huge } = twoBlocks('fifo');
  const gone = evictionsOf(world);
  world.context.write(huge, Uint8Array.of(9));
  expect([gone.length, gone[0]!.pages, new Set(gone[0]!.results)]).toEqual([1, 512, new Set(['success'])]);
  expect(gone[0]!.runs[0]!.vpn).toBe(0x4000_0000 / PAGE);
  end(world);
});

test('of a block with copies and pages each has its own result, and each goes once', () => {
  const { world, huge, order } = twoBlocks('fifo', (page) => page % 3 === 0);
  const gone = evictionsOf(world);
  world.context.write(huge, Uint8Array.of(9));
  expect(order()).not.toBe(0);
  expect(gone.length).toBe(1);
  const { frames, results, pages } = gone[0]!;
  const base = Math.floor(frames[0]! / 512) * 512;
  expect([...frames].sort((a, b) => a - b)).toEqual(Array.from({ length: 512 }, (_, i) => base + i));
  expect([pages, new Set(results)]).toEqual([512, new Set(['success'])]);
  for (let i = 0; i < 511; i++) expect(world.space.read(0x4000_0000 + i * PAGE, 1)[0]).toBe(i % 256);
  end(world);
});

test('a block with a page that somebody holds stays, and where all have one the page comes in small ones; the next one is huge again', () => {
  const { world, huge, order } = twoBlocks('fifo');
  const { exports } = world.machine.platform.core;
  const pinned = [3, 600].map((page) => world.context.ownFrame(0x4000_0000 / PAGE + page));
  exports.framePin(pinned[0]!, 0);
  world.context.write(huge, Uint8Array.of(9));
  expect(order()).not.toBe(0);
  expect(world.context.ownFrame(0x4000_0000 / PAGE + 4)).toBe(pinned[0]! + 1);
  end(world, pinned[0]);
  const second = twoBlocks('fifo');
  const frames = [3, 600].map((page) => second.world.context.ownFrame(0x4000_0000 / PAGE + page));
  for (const frame of frames) second.world.machine.platform.core.exports.framePin(frame, 0);
  second.world.context.write(second.huge, Uint8Array.of(9));
  expect([second.order(), second.world.context.read(second.huge, 1)[0]]).toEqual([0, 9]);
  const { space, context, machine } = second.world;
  for (const frame of frames) machine.platform.core.exports.frameUnpin(frame!);
  const next = second.huge + 2 * MiB;
  space.mmap({ at: next, bytes: 2 * MiB, fixed: true });
  space.madvise({ start: next, end: next + 2 * MiB }, 'hugepage');
  context.write(next, Uint8Array.of(9));
  expect(machine.platform.core.entry(space.table, next / PAGE) & L.ENTRY_ORDER).not.toBe(0);
  end(second.world);
});

test('a memory whose pages have come back one by one has its huge frames again', () => {
  const world = worldOf({ dram: 16 * MiB, deviceMemory: 4 * MiB, driver: vram({ pages: 1024, granulePages: 512 }) });
  const { space, context } = world;
  const base = 0x4000_0000;
  for (let round = 0; round < 3; round++) {
    const small = space.mmap({ at: base, bytes: 2 * MiB, fixed: true });
    for (let i = 0; i < 512; i += 1 + round) context.write(base + i * PAGE, Uint8Array.of(i));
    space.munmap(small);
    const huge = space.mmap({ at: base, bytes: 4 * MiB, fixed: true });
    space.madvise(huge, 'hugepage');
    for (const at of [base, base + 2 * MiB]) context.write(at, Uint8Array.of(1));
    expect([0, 512].map((page) => (world.machine.platform.core.entry(space.table, base / PAGE + page) & L.ENTRY_ORDER) !== 0)).toEqual([
      true,
      true,
    ]);
    expect(world.machine.verify()).toBeUndefined();
    space.munmap(huge);
  }
  expect(world.machine.counters.evictions).toBe(0);
  end(world);
});

test('keeping track of a page costs half of what struct page does, and a record for each further mapping', () => {
  const world = worldOf();
  const { machine, space, at } = world;
  const { frames, ...rest } = machine.cost();
  expect(rest).toMatchObject({ bytesPerPage: 32, structPageBytes: 64, secondTier: 0, reverseMap: { records: 0 } });
  space.write(at(0), Uint8Array.of(1));
  const child = space.fork();
  expect(machine.cost().bytesPerPage).toBe(32 + (2 * 16) / frames.frames);
  child.close();
  expect(machine.cost().bytesPerPage).toBe(32);
  end(world);
  const tiered = smallMachine({ swap: 16 * PAGE });
  expect(tiered.cost().bytesPerPage).toBe(36);
  expect(tiered.cost().secondTier).toBe(4 * tiered.cost().frames.frames);
  tiered.close();
});

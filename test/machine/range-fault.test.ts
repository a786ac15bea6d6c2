import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type AddressRange, type AddressSpace, isFarfaultError, type Machine, MiB } from 'farfault';
import { HMM_ERROR, HMM_VALID, HMM_WRITE, type IntervalNotifier, MakeExclusive, MirrorRange, RangeFault, TakeDown } from 'farfault/mm';
import * as L from '../../assembly/layout.ts';
import { VMA_IO, VMA_PFNMAP } from '../../sdk/mm/vma.ts';
import { Lock } from '../../sdk/step/lock.ts';
import type { Run, Step } from '../../sdk/step/step.ts';
import { DONE } from '../../sdk/step/step.ts';
import { random } from '../model/random.ts';
import { expectClean, PAGE, Probe, smallMachine } from './probe.ts';

let machine: Machine;
let space: AddressSpace;
let range: AddressRange;
let notifier: IntervalNotifier;

const RW = HMM_VALID + HMM_WRITE;
const vpn = (): number => range.start / PAGE;

/** One letter a page: `w` writable, `r` readable, `x` never, `.` nothing there. */
function printed(words: Uint32Array, pages: number): string {
  return Array.from({ length: pages }, (_, i) => {
    const high = words[i * 2 + 1]!;
    if (high & HMM_ERROR) return 'x';
    if (high < HMM_VALID) return '.';
    return high & HMM_WRITE ? 'w' : 'r';
  }).join('');
}

/** Holds the mmap lock around a step that requires it. */
class Locked implements Step {
  readonly name = 'locked';
  readonly #inner: Step;
  readonly #space: AddressSpace;
  #called = false;

  constructor(inner: Step, of = space) {
    this.#inner = inner;
    this.#space = of;
  }

  next(run: Run): ReturnType<Step['next']> {
    if (this.#called) {
      this.#space.mmapLock.release(run);
      return DONE;
    }
    if (!this.#space.mmapLock.tryAcquireShared(run)) return run.waitFor(this.#space.mmapLock);
    this.#called = true;
    return run.call(this.#inner);
  }

  abort(run: Run): void {
    if (run.holds(this.#space.mmapLock)) this.#space.mmapLock.release(run);
  }
}

function look(request: (i: number) => number, { pages = 6, owner = 0 } = {}): { outcome: string; words: string; at: number } {
  const sequence = notifier.readBegin() as number;
  const fault = new RangeFault(machine.platform).of(space, { notifier, vpn: vpn(), pages, request, owner }, sequence);
  machine.platform.scheduler.runSync(new Locked(fault));
  return { outcome: fault.outcome, words: printed(fault.words, pages), at: fault.at };
}

/** A look at, or for, stretches of pages of any sort, made by a seed, on a machine of their own: how it ended, what it says, what is there then. */
function patched(seed: number, request: number | ((i: number) => number)): unknown[] {
  const next = random(seed);
  const own = smallMachine({ dram: 8 * MiB });
  const there = own.createAddressSpace();
  const device = there.attach(own.addDevice(new Probe({ pages: 256, granulePages: 1 }).driver));
  const pages = 300 + next(500);
  const all = there.mmap({ bytes: pages * PAGE });
  for (let i = 0; i < pages;) {
    const stretch = Math.min(1 + next(next(2) === 0 ? 4 : 120), pages - i);
    const part = { start: all.start + i * PAGE, end: all.start + (i + stretch) * PAGE };
    const sort = next(12);
    if (sort < 6) for (let at = part.start; at < part.end; at += PAGE) there.write(at, Uint8Array.of(sort));
    else if (sort < 8) for (let at = part.start; at < part.end; at += PAGE) there.read(at, 1);
    if (sort === 4 && stretch < 20) device.migrate(part, { to: 'device' });
    if (sort === 5 || sort === 7) there.mprotect(part, 'r');
    if (sort === 3 && seed % 3 === 0) there.mprotect(part, 'none');
    if (sort === 2 && seed % 4 === 0) there.vmas.flag(part.start / PAGE, part.end / PAGE, { set: VMA_IO, clear: 0 });
    if (sort === 8 && seed % 2 === 0) there.munmap(part);
    i += stretch;
  }
  const heard = there.subscribe(all, { invalidate: (event, self) => (self.setSequence(event.sequence), true) });
  const asked = { notifier: heard, vpn: all.start / PAGE, pages, request, owner: next(2) === 0 ? 0 : device.device.owner };
  const step = new RangeFault(own.platform);
  const said: unknown[] = [];
  do {
    own.platform.scheduler.runSync(new Locked(step.of(there, asked, heard.readBegin() as number), there));
    said.push(step.outcome, step.at, printed(step.words, pages), step.words.slice(0, pages * 2));
  } while (step.outcome === 'busy' && said.length < 300);
  expectClean(own);
  said.push(there.dump(all));
  own.close();
  return said;
}

/** Six pages: written, read, untouched, read-only and read, PROT_NONE, no mapping. */
beforeEach(() => {
  machine = smallMachine();
  space = machine.createAddressSpace();
  range = space.mmap({ bytes: 5 * PAGE });
  space.mprotect({ start: range.start + 3 * PAGE, end: range.start + 4 * PAGE }, 'r');
  space.mprotect({ start: range.start + 4 * PAGE, end: range.start + 5 * PAGE }, 'none');
  space.write(range.start, Uint8Array.of(1));
  space.read(range.start + PAGE, 1);
  space.read(range.start + 3 * PAGE, 1);
  notifier = space.subscribe(
    { start: range.start, end: range.start + 6 * PAGE },
    {
      invalidate: (event, self) => {
        self.setSequence(event.sequence);
        return true;
      },
    },
  );
});

afterEach(() => {
  expectClean(machine);
  machine.close();
});

describe('a range fault', () => {
  test('without a request says what is there and changes nothing', () => {
    expect(look(() => 0)).toEqual({ outcome: 'done', words: 'wr.rxx', at: 0 });
    expect(look(() => HMM_WRITE)).toEqual({ outcome: 'done', words: 'wr.rxx', at: 0 });
    expect(space.dump({ start: range.start, end: range.start + 6 * PAGE })).toBe('Hz.z.-');
  });

  test('faults in the pages that ask, and no others', () => {
    expect(look((i) => (i === 2 ? HMM_VALID : 0))).toMatchObject({ outcome: 'done', words: 'wrrrxx' });
    expect(space.dump(range)).toBe('Hzzz.');
    expect(look((i) => (i === 1 ? RW : 0))).toMatchObject({ outcome: 'busy' });
    expect(look((i) => (i === 1 ? RW : 0))).toMatchObject({ outcome: 'done', words: 'wwrrxx' });
    expect(space.dump(range)).toBe('HHzz.');
    expect(machine.counters.cpuFaults).toMatchObject({ zero: 2, demand: 1, cow: 0 });
  });

  test('for a write is EPERM on a mapping that may only be read, EFAULT on one that may not even be', () => {
    expect(look((i) => (i === 3 ? RW : 0))).toMatchObject({ outcome: 'permission', at: 3 });
    expect(look((i) => (i === 4 ? RW : 0))).toMatchObject({ outcome: 'fault', at: 4 });
    expect(look((i) => (i === 4 ? HMM_VALID : 0))).toMatchObject({ outcome: 'fault', at: 4 });
    expect(look((i) => (i === 5 ? HMM_VALID : 0))).toMatchObject({ outcome: 'fault', at: 5 });
    expect(space.dump({ start: range.start, end: range.start + 6 * PAGE })).toBe('Hz.z.-');
  });

  test('keeps what it faulted in before the page that fails', () => {
    expect(look(() => HMM_VALID)).toMatchObject({ outcome: 'fault', at: 4 });
    expect(space.dump(range)).toBe('Hzzz.');
  });

  test('is busy when the range was invalidated since it began', () => {
    const sequence = notifier.readBegin() as number;
    space.madvise({ start: range.start, end: range.start + PAGE }, 'dontneed');
    const fault = new RangeFault(machine.platform).of(
      space,
      { notifier, vpn: vpn(), pages: 2, request: () => HMM_VALID, owner: 0 },
      sequence,
    );
    machine.platform.scheduler.runSync(new Locked(fault));
    expect(fault.outcome).toBe('busy');
    expect(space.dump(range)).toBe('.z.z.');
  });

  test('sees its owner’s device pages, and brings those of others home when asked', () => {
    const device = machine.addDevice(new Probe().driver);
    const context = space.attach(device);
    context.migrate({ start: range.start, end: range.start + PAGE }, { to: 'device' });
    expect(look(() => 0, { pages: 2, owner: device.owner })).toMatchObject({ words: 'wr' });
    expect(look(() => 0, { pages: 2 })).toMatchObject({ words: '.r' });
    expect(look((i) => (i === 0 ? RW : 0), { pages: 2, owner: device.owner })).toMatchObject({ outcome: 'done', words: 'wr' });
    expect(space.dump(range)).toBe('Dz.z.');
    expect(look((i) => (i === 0 ? HMM_VALID : 0), { pages: 2 })).toMatchObject({ outcome: 'busy' });
    expect(look((i) => (i === 0 ? HMM_VALID : 0), { pages: 2 })).toMatchObject({ outcome: 'done', words: 'wr' });
    expect(space.dump(range)).toBe('Hz.z.');
  });

  test('goes on to the end of the 2 MiB of a page that came home, by what the others ask for, and no further', () => {
    const context = space.attach(machine.addDevice(new Probe({ granulePages: 1 }).driver));
    // Three pages, and behind a boundary of 2 MiB two more; the last one may only be read, and behind it is nothing.
    const boundary = Math.ceil(range.end / (2 * MiB)) * 2 * MiB + 2 * MiB;
    const pages = space.mmap({ at: boundary - 3 * PAGE, bytes: 5 * PAGE, fixed: true });
    for (let at = pages.start; at < pages.end; at += PAGE) space.write(at, Uint8Array.of(1));
    context.migrate(pages, { to: 'device' });
    space.mprotect({ start: pages.end - PAGE, end: pages.end }, 'r');
    const own = space.subscribe(
      { start: pages.start, end: pages.end + PAGE },
      { invalidate: (event, self) => (self.setSequence(event.sequence), true) },
    );
    const steps: string[] = [];
    const ask = (request: readonly number[]): void => {
      const asked = { notifier: own, vpn: pages.start / PAGE, pages: request.length, request: (i: number) => request[i]!, owner: 0 };
      const fault = new RangeFault(machine.platform).of(space, asked, own.readBegin() as number);
      machine.platform.scheduler.runSync(new Locked(fault));
      steps.push(`${fault.outcome} ${space.dump(pages)}`);
    };
    ask([RW, 0, RW, RW, 0]);
    ask([RW, 0, RW, RW, RW]);
    // What can never be had is said by a look that nothing has invalidated.
    ask([RW, 0, RW, RW, RW]);
    ask([RW, 0, RW, RW, HMM_VALID, HMM_VALID]);
    ask([RW, 0, RW, RW, HMM_VALID, HMM_VALID]);
    ask([RW, RW, RW, RW, HMM_VALID]);
    ask([RW, RW, RW, RW, HMM_VALID]);
    expect(steps).toEqual(['busy HDHDd', 'busy HDHHd', 'permission HDHHd', 'busy HDHHh', 'fault HDHHh', 'busy HHHHh', 'done HHHHh']);
    space.unsubscribe(own);
  });

  test('comes to the same whether every page is asked for by itself or all at once', () => {
    for (let seed = 1; seed <= 12; seed++) {
      for (const request of [0, HMM_WRITE, HMM_VALID, RW, L.HMM_DMA_MAPPED, RW + L.HMM_DMA_MAPPED]) {
        const [one, all] = [patched(seed, () => request), patched(seed, request)];
        expect(all, `seed ${seed}, request ${request}`).toEqual(one);
      }
    }
  });

  test('is refused for a range that its notifier does not cover, or one too long', () => {
    const fault = new RangeFault(machine.platform);
    const ask = (from: number, pages: number) => (): unknown =>
      fault.of(space, { notifier, vpn: from, pages, request: () => 0, owner: 0 }, 0);
    for (const [from, pages] of [
      [vpn() - 1, 1],
      [vpn(), 7],
      [vpn(), 0],
      [vpn(), 1e6],
      [vpn(), 1.5],
      [0.5, 1],
    ] as const) {
      expect(ask(from, pages)).toThrow(expect.objectContaining({ code: 'EINVAL' }) as Error);
    }
    const other = machine.createAddressSpace();
    expect(() => fault.of(other, { notifier, vpn: vpn(), pages: 1, request: () => 0, owner: 0 }, 0)).toThrow(
      'is one of another address space',
    );
  });
});

describe('a range fault of what is not plain memory', () => {
  const set = (page: number, kind: number): void => {
    machine.platform.core.exports.rangeMap(space.table, vpn() + page, 1, 0x1234, kind);
  };

  test('finds no page in a mapping of registers or of page numbers, whatever is there', () => {
    for (const flag of [VMA_IO, VMA_PFNMAP]) {
      space.vmas.flag(vpn(), vpn() + 2, { set: flag, clear: VMA_IO | VMA_PFNMAP });
      expect(look(() => 0)).toMatchObject({ outcome: 'done', words: 'xx.rxx' });
      expect(look((i) => (i === 1 ? HMM_VALID : 0))).toMatchObject({ outcome: 'fault', at: 1 });
    }
    space.vmas.flag(vpn(), vpn() + 2, { clear: VMA_IO | VMA_PFNMAP });
  });

  test('says never of a special entry, and nothing of a lost page; asked for, both fail', () => {
    const [special, lost] = [L.KIND_SPECIAL, L.KIND_POISON];
    for (const [kind, letter] of [
      [special, 'x'],
      [lost, '.'],
    ] as const) {
      set(2, kind);
      expect(look(() => 0, { pages: 3 })).toEqual({ outcome: 'done', words: `wr${letter}`, at: 0 });
      expect(look((i) => (i === 2 ? HMM_VALID : 0), { pages: 3 })).toMatchObject({ outcome: 'fault', at: 2 });
      space.madvise({ start: range.start + 2 * PAGE, end: range.start + 3 * PAGE }, 'dontneed');
    }
  });

  test('brings back a page that was only made unreachable to be noticed', () => {
    machine.platform.core.exports.reprotect(space.table, vpn(), 1, 0);
    expect(look(() => 0, { pages: 1 })).toMatchObject({ words: '.' });
    expect(look(() => RW, { pages: 1 })).toMatchObject({ outcome: 'done', words: 'w' });
    expect(space.read(range.start, 1)[0]).toBe(1);
  });

  test('ends exclusivity when it asks', () => {
    const make = new MakeExclusive(machine.platform).of(space, vpn(), 0, {}, () => {});
    machine.platform.scheduler.runSync(make);
    expect(look(() => 0, { pages: 1 })).toMatchObject({ words: '.' });
    expect(look(() => HMM_VALID, { pages: 1 })).toMatchObject({ outcome: 'busy' });
    expect(look(() => HMM_VALID, { pages: 1 })).toMatchObject({ outcome: 'done', words: 'w' });
  });

  test('waits for a page that moves', async () => {
    const probe = new Probe({ granulePages: 1 });
    const context = space.attach(machine.addDevice(probe.driver));
    probe.slow.add('toDevice');
    const page = { start: range.start, end: range.start + PAGE };
    const moves = machine.platform.scheduler.runAsync(context.migrateStep(page, 'device'));
    expect(look(() => 0, { pages: 1 })).toMatchObject({ words: '.' });
    const fault = new RangeFault(machine.platform).of(
      space,
      { notifier, vpn: vpn(), pages: 1, request: () => HMM_VALID, owner: context.device.owner },
      notifier.readBegin() as number,
    );
    const done = machine.platform.scheduler.runAsync(new Locked(fault));
    expect(machine.pending.map(({ waitsFor }) => waitsFor)[1]).toMatch(/^page lock/);
    probe.finish();
    await Promise.all([moves, done]);
    expect([fault.outcome, printed(fault.words, 1), space.dump(page)]).toEqual(['done', 'w', 'D']);
  });

  test('for a write to its owner’s read-only page brings it home and makes it writable, once', () => {
    const context = space.attach(machine.addDevice(new Probe({ granulePages: 1 }).driver));
    const page = { start: range.start, end: range.start + PAGE };
    context.migrate(page, { to: 'device' });
    space.mprotect(page, 'r');
    space.mprotect(page, 'rw');
    const owner = context.device.owner;
    expect(look(() => HMM_VALID, { pages: 1, owner })).toMatchObject({ outcome: 'done', words: 'r' });
    expect(space.dump(page)).toBe('d');
    let asked = look(() => RW, { pages: 1, owner });
    if (asked.outcome === 'busy') asked = look(() => RW, { pages: 1, owner });
    expect(asked).toMatchObject({ outcome: 'done', words: 'w' });
    expect(space.dump(page)).toBe('H');
  });

  test('answers for all pages when neighbours of the page that it wants come home with it', () => {
    const context = space.attach(machine.addDevice(new Probe({ granulePages: 2 }).driver));
    const pages = { start: range.start, end: range.start + 2 * PAGE };
    space.write(range.start + PAGE, Uint8Array.of(2));
    context.migrate(pages, { to: 'device' });
    const half = { start: range.start + PAGE, end: range.start + 2 * PAGE };
    space.mprotect(half, 'r');
    space.mprotect(half, 'rw');
    const fault = new RangeFault(machine.platform);
    // A notifier that ignores the migrations of its device, as drivers do.
    const own = space.subscribe(pages, {
      invalidate: (event, self) => (event.reason !== 'MIGRATE' && self.setSequence(event.sequence), true),
    });
    const asked = { notifier: own, vpn: vpn(), pages: 2, request: (i: number) => (i === 1 ? RW : HMM_VALID), owner: context.device.owner };
    machine.platform.scheduler.runSync(new Locked(fault.of(space, asked, own.readBegin() as number)));
    expect(fault.outcome).toBe('done');
    expect([printed(fault.words, 2), space.dump(pages)]).toEqual(['ww', 'HH']);
    const entries = space.snapshot(pages);
    expect([fault.words[0], fault.words[2]]).toEqual([entries[0], entries[2]]);
    space.unsubscribe(own);
  });
});

describe('MirrorRange', () => {
  test('does not install a page of its own device that a CPU touch has brought home since', async () => {
    const context = space.attach(machine.addDevice(new Probe({ granulePages: 1 }).driver));
    const page = { start: range.start, end: range.start + PAGE };
    context.migrate(page, { to: 'device' });
    const own = space.subscribe(page, {
      invalidate: (event, self) => (event.reason !== 'MIGRATE' && self.setSequence(event.sequence), true),
    });
    const lock = new Lock('driver', 1);
    const frames: number[] = [];
    const asked = { notifier: own, vpn: vpn(), pages: 1, request: () => HMM_VALID, owner: context.device.owner };
    const mirror = new MirrorRange(machine.platform).of(space, asked, lock, (words) => frames.push(words[0]!));
    const gate = machine.platform.tickets.open('gate');
    let taken = false;
    const holder: Step = {
      name: 'holder',
      next(run) {
        if (taken) {
          lock.release(run);
          return DONE;
        }
        taken = lock.tryAcquire(run);
        return run.waitFor(gate);
      },
    };
    const held = machine.platform.scheduler.runAsync(holder);
    const done = machine.platform.scheduler.runAsync(mirror);
    space.read(range.start, 1);
    gate.complete();
    await Promise.all([held, done]);
    expect([mirror.outcome, mirror.retries]).toEqual(['done', 1]);
    expect(frames).toEqual([space.snapshot(page)[0]]);
    space.unsubscribe(own);
  });

  test('brings home the pages of another device, and begins anew once for each of their 2 MiB', () => {
    const pages = 1100;
    const large = smallMachine({ dram: 16 * MiB, deviceMemory: 8 * MiB });
    const there = large.createAddressSpace();
    const all = there.mmap({ bytes: pages * PAGE });
    for (let at = all.start; at < all.end; at += PAGE) there.write(at, Uint8Array.of(1));
    const context = there.attach(large.addDevice(new Probe({ pages, granulePages: 1 }).driver));
    expect(context.migrate(all, { to: 'device' })).toBe(pages);
    const own = there.subscribe(all, { invalidate: (event, self) => (self.setSequence(event.sequence), true) });
    let installed = 0;
    const asked = { notifier: own, vpn: all.start / PAGE, pages, request: HMM_VALID, owner: 0 };
    const mirror = new MirrorRange(large.platform).of(there, asked, new Lock('driver', 1), (_, __, count) => (installed = count));
    large.platform.scheduler.runSync(mirror);
    const chunk = (page: number): number => Math.floor((all.start / PAGE + page) / 512);
    expect([mirror.outcome, installed, mirror.retries]).toEqual(['done', pages, chunk(pages - 1) - chunk(0) + 1]);
    // Used again, it counts anew.
    large.platform.scheduler.runSync(mirror.of(there, asked, new Lock('driver', 1), () => {}));
    expect([mirror.outcome, mirror.retries]).toEqual(['done', 0]);
    expect(large.counters.migratedByCause).toMatchObject({ home: { pages } });
    expectClean(large);
    large.close();
  });

  test('begins again when the range is invalidated between the look and the install', async () => {
    const lock = new Lock('driver', 1);
    const installed: string[] = [];
    const mirror = new MirrorRange(machine.platform).of(
      space,
      { notifier, vpn: vpn(), pages: 3, request: () => HMM_VALID, owner: 0 },
      lock,
      (words, from, pages) => installed.push(`${from - vpn()} ${printed(words, pages)}`),
    );
    // Somebody has the driver lock while the answer comes, and the range changes meanwhile.
    let release: (() => void) | undefined;
    const holder: Step & { taken: boolean } = {
      name: 'holder',
      taken: false,
      next(run) {
        if (!this.taken) {
          this.taken = true;
          if (!lock.tryAcquire(run)) throw new Error('the lock is free');
          const ticket = machine.platform.tickets.open('holder');
          release = () => ticket.complete();
          return run.waitFor(ticket);
        }
        lock.release(run);
        return DONE;
      },
    };
    const held = machine.platform.scheduler.runAsync(holder);
    const done = machine.platform.scheduler.runAsync(mirror);
    expect(machine.pending.map(({ waitsFor }) => waitsFor)).toEqual(['ticket 1 (holder)', 'driver lock 1']);
    space.write(range.start + PAGE, Uint8Array.of(2));
    release!();
    await Promise.all([held, done]);
    expect(mirror.outcome).toBe('done');
    expect(mirror.retries).toBe(1);
    expect(installed).toEqual(['0 wwr']);
  });

  test('waits for the end of an invalidation that is running, and then says that the range is gone', async () => {
    const slow = new Probe({ pages: 0, cached: true });
    const context = space.attach(machine.addDevice(slow.driver));
    context.read(range.start, 1);
    slow.slow.add('invalidate');
    const gone = machine.platform.scheduler.runAsync(new TakeDown(machine.platform, space, vpn(), vpn() + 1, { verb: 'unmap' }));
    const installed: string[] = [];
    const mirror = new MirrorRange(machine.platform).of(
      space,
      { notifier, vpn: vpn(), pages: 1, request: () => HMM_VALID, owner: 0 },
      new Lock('driver', 1),
      (words) => installed.push(printed(words, 1)),
    );
    const done = machine.platform.scheduler.runAsync(mirror);
    expect(machine.pending.map(({ waitsFor }) => waitsFor)).toEqual([
      'ticket 1 (probe: invalidate)',
      `the end of the invalidations of space ${space.id}`,
    ]);
    slow.finish();
    await Promise.all([gone, done]);
    expect(mirror.outcome).toBe('fault');
    expect(installed).toEqual([]);
  });

  test('releases the driver lock when the install throws', () => {
    const lock = new Lock('driver', 1);
    const mirror = new MirrorRange(machine.platform).of(space, { notifier, vpn: vpn(), pages: 1, request: () => 0, owner: 0 }, lock, () => {
      throw new Error('no room in the device table');
    });
    expect(() => machine.platform.scheduler.runSync(mirror)).toThrow('no room in the device table');
    expect(lock.holder).toBe(undefined);
    expect(space.mmapLock.readers).toBe(0);
  });
});

describe('a subscriber', () => {
  test('that throws does not stop what is announced, and is heard of', () => {
    const bad = space.subscribe(range, {
      invalidate: () => {
        throw new Error('subscriber is broken');
      },
    });
    space.munmap(range);
    expect(space.dump()).toBe('');
    expect(machine.strayErrors.map((error) => (error as Error).message)).toEqual(['subscriber is broken']);
    machine.reset();
    expect(bad.state).toBe('subscribed');
  });

  test('hears of every change of its range with the reason, until it is taken away', () => {
    const heard: string[] = [];
    const mine = space.subscribe(
      { start: range.start, end: range.start + PAGE },
      {
        invalidate: (event, self) => {
          self.setSequence(event.sequence);
          heard.push(`${event.reason} ${event.start - vpn()}+${event.end - event.start}`);
          return true;
        },
      },
    );
    const device = machine.addDevice(new Probe({ granulePages: 2 }).driver);
    const context = space.attach(device);
    space.madvise({ start: range.start + PAGE, end: range.end }, 'dontneed');
    context.read(range.start, 1);
    space.read(range.start, 1);
    space.mprotect({ start: range.start, end: range.start + 2 * PAGE }, 'r');
    space.munmap({ start: range.start, end: range.start + 2 * PAGE });
    // Two for a migration in which a hole got its page; the second from the first hole on, which does not touch this range.
    expect(heard).toEqual(['MIGRATE 0+2', 'MIGRATE 0+2', 'PROTECTION_VMA 0+2', 'UNMAP 0+2']);
    space.unsubscribe(mine);
    space.mmap({ bytes: PAGE, at: range.start, fixed: true });
    space.munmap({ start: range.start, end: range.start + PAGE });
    expect(heard.length).toBe(4);
    expect(() => space.unsubscribe(mine)).not.toThrow();
    expect(isFarfaultError(undefined)).toBe(false);
  });
});

/**
 * Every interleaving, of those that the locks allow, of one migration with one other operation. Whatever the order of their turns: nothing is broken, no frame is lost, and
 * what was read and what is there in the end is what one of the two would have left after the other.
 */
import { afterAll, describe, expect, test } from 'vitest';
import { type AddressRange, type AddressSpace, type Context, isFarfaultError, type Machine, MiB } from 'farfault';
import { Fork, MakeExclusive, PinRange } from 'farfault/mm';
import { exploreAll, exploreSeeded, printFinding, type Race } from 'farfault/testing';
import { Evict } from '../../sdk/gmem/evict.ts';
import { DONE, type Step } from '../../sdk/step/step.ts';
import { PAGE, Probe, smallMachine, used } from '../machine/probe.ts';

const HUGE = 2 * MiB;

const machines: Record<'small' | 'huge', Machine | undefined> = { small: undefined, huge: undefined };
const machineFor = (pages: 'small' | 'huge'): Machine =>
  pages === 'small'
    ? (machines.small ??= smallMachine({ tablePages: 128 }))
    : (machines.huge ??= smallMachine({ dram: 16 * MiB, deviceMemory: 6 * MiB, tablePages: 256 }));
afterAll(() => Object.values(machines).forEach((machine) => machine?.close()));

/** Two places: small pages next to each other, or two pages of one huge page. */
interface World {
  readonly machine: Machine;
  readonly pages: 'small' | 'huge';
  readonly space: AddressSpace;
  /** All of it; the parts with one of the two places each. */
  readonly range: AddressRange;
  readonly halves: readonly [AddressRange, AddressRange];
  readonly context: Context;
  readonly probe: Probe;
  /** Frames of the range, one each: of a huge page the first. */
  readonly frames: number[];
  /** Addresses of the two places. They hold 1 and 2. */
  readonly at: readonly [number, number];
  /** Spaces and pins that operations have made; read in the end. */
  readonly children: AddressSpace[];
}

function world(pages: 'small' | 'huge', { onDevice, shared }: { onDevice: boolean; shared: boolean }): World {
  const machine = machineFor(pages);
  machine.reset();
  const space = machine.createAddressSpace();
  const bytes = pages === 'small' ? 2 * PAGE : HUGE;
  const range = space.mmap({ bytes, align: pages === 'small' ? PAGE : HUGE });
  if (pages === 'huge') space.madvise(range, 'hugepage');
  const middle = range.start + bytes / 2;
  const at = [range.start, middle + (pages === 'small' ? 0 : 44 * PAGE)] as const;
  at.forEach((addr, i) => space.write(addr, Uint8Array.of(i + 1)));
  const probe = new Probe({ name: 'gpu', pages: bytes / PAGE, granulePages: bytes / PAGE });
  const context = space.attach(machine.addDevice(probe.driver));
  if (onDevice) requireSame(context.migrate(range, { to: 'device' }), bytes / PAGE);
  const children = shared ? [space.fork()] : [];
  const words = space.snapshot(range);
  const frames = pages === 'small' ? [words[0]!, words[2]!] : [words[0]!];
  return {
    machine,
    pages,
    space,
    range,
    halves: [
      { start: range.start, end: middle },
      { start: middle, end: range.end },
    ],
    context,
    probe,
    frames,
    at,
    children,
  };
}

/** What somebody reads at both places. */
function readBoth(space: AddressSpace, at: readonly number[]): string {
  return at
    .map((addr) => {
      try {
        return space.read(addr, 1)[0];
      } catch (error) {
        if (isFarfaultError(error)) return error.code;
        throw error;
      }
    })
    .join(' ');
}

interface Migrating {
  readonly onDevice: boolean;
  readonly step: (it: World) => Step;
}

const MIGRATIONS: Readonly<Record<string, Migrating>> = {
  'to the device': { onDevice: false, step: ({ context, range }) => context.migrateStep(range, 'device') },
  'to the host': { onDevice: true, step: ({ context, range }) => context.migrateStep(range, 'host') },
  'to the host by frame': {
    onDevice: true,
    step: ({ machine, context, frames }) => new Evict(machine.platform).from(context.device.memory!).frames(frames),
  },
  'to the host with its memory': { onDevice: true, step: ({ context }) => context.device.removeMemoryStep(context.device.memory!) },
};

/** The other operation: its step, what it says of itself, and what is left to do before the end is looked at. */
interface Other {
  readonly step: Step;
  says?(): unknown;
  /** Requires: all have ended. Checks what only this operation knows. */
  settle?(): void;
  end?(): void;
}

const OTHERS: Readonly<Record<string, (it: World) => Other>> = {
  'a CPU read': ({ space, at }) => {
    const step = space.readStep(at[1], 1);
    return { step, says: () => `${step.outcome} ${step.bytes.join()}` };
  },
  'a CPU write': ({ space, at }) => {
    const step = space.writeStep(at[1], Uint8Array.of(9));
    return { step, says: () => step.outcome };
  },
  'a device read': ({ context, at }) => {
    const step = context.readStep(at[0], 1);
    return { step, says: () => `${step.outcome} ${step.bytes.join()}` };
  },
  'a device write': ({ context, at }) => {
    const step = context.writeStep(at[1], Uint8Array.of(9));
    return { step, says: () => step.outcome };
  },
  'an munmap': ({ space, range }) => ({ step: space.unmapStep(range) }),
  'an munmap of a half': ({ space, halves }) => ({ step: space.unmapStep(halves[0]) }),
  'an mprotect of a half': ({ space, halves, at }) => ({
    step: space.protectStep(halves[1], 'r'),
    settle: () => requireSame(space.tryWrite(at[1], Uint8Array.of(5)).status, 'permission'),
  }),
  'an mprotect to nothing': ({ space, range, at }) => ({
    step: space.protectStep(range, 'none'),
    settle() {
      requireSame(space.tryRead(at[0], new Uint8Array(1)).status, 'permission');
      space.mprotect(range, 'rw');
    },
  }),
  'a madvise dontneed of a half': ({ space, halves }) => ({ step: space.adviseStep(halves[1], 'dontneed') }),
  'an mremap': ({ space, range, at }) => {
    const to = 0x4000_0000_0000;
    return {
      step: space.mremapStep(range, { mayMove: true, to }),
      says: () =>
        readBoth(
          space,
          at.map((addr) => addr - range.start + to),
        ),
    };
  },
  ...Object.fromEntries(
    (['share', 'home', 'omit'] as const).map((device) => [
      `a fork, ${device}`,
      ({ machine, space, at, children }: World): Other => {
        const step = new Fork(machine.platform, space, { device });
        return {
          step,
          // Where the pages were when the fork came decides what `omit` leaves out.
          says: () => `${step.outcome}${device === 'omit' ? '' : ` ${readBoth(step.result!, at)}`}`,
          settle() {
            children.push(step.result!);
            if (device !== 'omit') return;
            expect(readBoth(step.result!, at)).toMatch(/^[01] [02]$/);
          },
        };
      },
    ]),
  ),
  ...Object.fromEntries(
    [{}, { write: true }, { longTerm: true }].map((options) => [
      `a pin ${JSON.stringify(options)}`,
      ({ machine, space, halves, at, pages }: World): Other => {
        const { start } = halves[1];
        const first = pages === 'small' ? start : start + 40 * PAGE;
        const end = pages === 'small' ? halves[1].end : first + 8 * PAGE;
        const step = new PinRange(machine.platform, space, first / PAGE, end / PAGE, options);
        return {
          step,
          says: () => step.outcome,
          settle() {
            // What the pin holds is what is mapped.
            const { pin } = step;
            requireSame(pin!.read(at[1] - first, 1)[0], 2);
            if (!pin!.isWritable) return;
            pin!.write(at[1] - first, Uint8Array.of(7));
            requireSame(space.read(at[1], 1)[0], 7);
            pin!.write(at[1] - first, Uint8Array.of(2));
          },
          end: () => step.pin!.unpin(),
        };
      },
    ]),
  ),
  'making a page exclusive': ({ machine, space, context, at }) => {
    let seen = -1;
    const step = new MakeExclusive(machine.platform).of(space, Math.floor(at[1] / PAGE), context.device.owner, {}, (frame) => {
      context.installAlone(Math.floor(at[1] / PAGE), frame);
      const { core } = machine.platform;
      seen = core.u8[core.frameBytes(frame)]!;
      // The device's atomic.
      core.u8[core.frameBytes(frame)] = 8;
    });
    return { step, says: () => `${step.outcome} ${seen}` };
  },
  'an atomic': ({ context, at }) => {
    const step = context.atomicStep(at[1], { op: 'add', bytes: 4, operand: 6 });
    return { step, says: () => Number(step.result) };
  },
  'a migration to the device': ({ context, range }) => ({ step: context.migrateStep(range, 'device') }),
  'a migration to the host': ({ context, range }) => ({ step: context.migrateStep(range, 'host') }),
  'an eviction': ({ machine, context, frames }) => ({
    step: new Evict(machine.platform).from(context.device.memory!).frames(context.device.memory!.node.holds(frames[0]!) ? frames : []),
  }),
  'a detach': ({ context }) => ({ step: context.detachStep() }),
};

/** What operations may fail with when the device, or its memory, goes away in front of them. */
const GONE = ['EBADF', 'EOPNOTSUPP', 'ENODEV', 'EBUSY', 'EAGAIN'];

interface Raced {
  readonly it: World;
  readonly steps: readonly Step[];
  readonly other: Other;
}

/** `expect` where nothing is wrong: some hundred thousand ends are looked at, and its bookkeeping takes as long as the races. */
function requireSame(actual: unknown, wanted: unknown): void {
  if (actual !== wanted) expect(actual).toBe(wanted);
}

/** Looks at the end of a race, and takes everything down. Returns what is compared with the serial orders. */
function settled({ it, other }: Raced, failed: ReadonlySet<number>): string {
  const { machine, space, at, children } = it;
  requireSame(machine.verify(), undefined);
  if (machine.strayErrors.length > 0) expect(machine.strayErrors).toEqual([]);
  const says = failed.has(1) ? 'refused' : other.says?.();
  if (!failed.has(1)) other.settle?.();
  const end = JSON.stringify({
    says,
    bytes: readBoth(space, at),
    children: children.filter((_, i) => i === 0).map((child) => readBoth(child, at)),
  });
  if (!failed.has(1)) other.end?.();
  requireSame(machine.verify(), undefined);
  for (const each of [...machine.platform.spaces.values()]) each.close();
  if (!/^(\S+ 0(, )?)+$/.test(used(machine))) expect(used(machine)).toMatch(/^(\S+ 0(, )?)+$/);
  requireSame(machine.verify(), undefined);
  return end;
}

/** Both one after the other, in both directions. */
function serial(begin: () => Raced): Set<string> {
  const ends = new Set<string>();
  for (const order of [
    [0, 1],
    [1, 0],
  ]) {
    const raced = begin();
    const failed = new Set<number>();
    for (const number of order) {
      try {
        raced.it.machine.platform.scheduler.runSync(raced.steps[number]!);
      } catch (error) {
        if (!isFarfaultError(error) || !GONE.includes(error.code)) throw error;
        failed.add(number);
      }
    }
    ends.add(settled(raced, failed));
  }
  return ends;
}

function raceOf(begin: () => Raced, legal: ReadonlySet<string>): () => Race {
  return () => {
    const raced = begin();
    const failed = new Set<number>();
    return {
      steps: raced.steps,
      mayFail(error, step) {
        if (!isFarfaultError(error) || !GONE.includes(error.code)) return false;
        failed.add(step);
        return true;
      },
      check() {
        const end = settled(raced, failed);
        if (!legal.has(end)) throw new Error(`${end} is none of ${[...legal].join(' or ')}`);
      },
    };
  };
}

/** A device that ends its unfinished work, one piece a turn: one more that races. */
function finisher(probe: Probe, over: () => boolean): Step {
  return {
    name: 'the device',
    next() {
      if (probe.unfinished > 0) probe.finishOne();
      return over() ? DONE : 1;
    },
  };
}

function counted(step: Step, ended: () => void): Step {
  return {
    name: step.name,
    next(run) {
      const progress = step.next(run);
      if (progress === DONE) ended();
      return progress;
    },
    abort(run, error) {
      ended();
      step.abort?.(run, error);
    },
  };
}

const CASES = Object.entries(MIGRATIONS).flatMap(([where, migration]) =>
  Object.entries(OTHERS).flatMap(([what, other]) =>
    [false, true].map((shared) => ({
      name: `a migration ${where} and ${what}${shared ? ', of pages that a child shares' : ''}`,
      migration,
      other,
      shared,
    })),
  ),
);

describe.each(['small', 'huge'] as const)('%s pages', (pages) => {
  test.each(CASES)('$name', ({ migration, other, shared }) => {
    const begin = (slow: boolean): Raced => {
      const it = world(pages, { onDevice: migration.onDevice, shared });
      const second = other(it);
      const steps = [migration.step(it), second.step];
      if (!slow) return { it, steps, other: second };
      for (const operation of ['toDevice', 'toHost', 'invalidate'] as const) it.probe.slow.add(operation);
      let left = steps.length;
      const racing = [
        ...steps.map((step) => counted(step, () => left--)),
        finisher(it.probe, () => {
          if (left === 0) it.probe.slow.clear();
          return left === 0 && it.probe.unfinished === 0;
        }),
      ];
      return { it, steps: racing, other: second };
    };
    const legal = serial(() => begin(false));
    const race = raceOf(() => begin(false), legal);
    const limit = pages === 'small' ? 3000 : 60;
    const all = exploreAll(race, { limit });
    if (all.finding) throw new Error(printFinding(all.finding));
    if (!all.complete) {
      const more = exploreSeeded(race, 1, pages === 'small' ? 300 : 40);
      if (more.finding) throw new Error(printFinding(more.finding));
    }
    // The same with engines and flushes that take their time: too many to have all.
    const late = exploreSeeded(
      raceOf(() => begin(true), legal),
      1,
      pages === 'small' ? 60 : 12,
    );
    if (late.finding) throw new Error(printFinding(late.finding));
  });
});

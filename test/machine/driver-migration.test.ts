import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type AddressRange, type AddressSpace, type Context, isFarfaultError, type Machine } from 'farfault';
import {
  type CommandStep,
  defineDriver,
  DONE,
  type Driver,
  HMM_VALID,
  HMM_WRITE,
  type HmmPlan,
  type Migration,
  MIGRATE_MOVE,
  MIGRATE_VALID,
  MIGRATE_WRITE,
  type OwnMemory,
  type Progress,
  type Run,
  SELECT_PRIVATE,
  SELECT_SYSTEM,
  type Step,
} from 'farfault/gmem';
import { Fork } from 'farfault/mm';
import { expectClean, PAGE, Probe, smallMachine, used } from './probe.ts';

let machine: Machine;
let space: AddressSpace;
let context: Context;
let memory: OwnMemory;
let range: AddressRange;
let vpn: number;

/** A command that runs one step of the driver's under the mmap lock. */
class Locked implements CommandStep {
  readonly name = 'locked';
  result: unknown = undefined;
  readonly #make: () => Step;
  #step: Step | undefined;

  constructor(make: () => Step) {
    this.#make = make;
  }

  next(run: Run): Progress {
    const { mmapLock } = context.hmm;
    if (!this.#step) {
      if (!mmapLock.tryAcquireShared(run)) return run.waitFor(mmapLock);
      this.#step = this.#make();
      return run.call(this.#step);
    }
    mmapLock.release(run);
    this.result = this.#step;
    return DONE;
  }

  abort(run: Run): void {
    if (run.holds(context.hmm.mmapLock)) context.hmm.mmapLock.release(run);
  }
}

const bench = defineDriver((): Driver => ({
  name: 'bench',
  memory: [{ name: 'ram', kind: 'private', bytes: 16 * PAGE }],
  attach: () => ({ command: (make) => new Locked(make as () => Step) }),
}));

const run = <S extends Step>(make: () => S): S => context.command(make) as S;
const migrate = (plan: HmmPlan, at = vpn, pages = 4): Migration => run(() => context.hmm.migrate(at, pages, plan));

/** Gives every page that is to move a frame of the device. */
function toDevice(migration: Migration): void {
  for (let i = 0; i < migration.pages; i++) {
    if (migration.source[i * 2 + 1]! & MIGRATE_MOVE) migration.aim(i, context.hmm.takeFrame(memory));
  }
}

const bits = (migration: Migration): number[] => Array.from({ length: migration.pages }, (_, i) => migration.source[i * 2 + 1]!);
const first = (from: { read(addr: number, bytes: number): Uint8Array }): number[] =>
  Array.from({ length: 4 }, (_, i) => from.read(range.start + i * PAGE, 1)[0]!);

function refused(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    if (isFarfaultError(error)) return `${error.code}: ${error.message}`;
    throw error;
  }
  return 'done';
}

beforeEach(() => {
  machine = smallMachine();
  space = machine.createAddressSpace();
  context = space.attach(machine.addDevice(bench()));
  memory = context.device.memories[0]!;
  range = space.mmap({ bytes: 4 * PAGE });
  vpn = range.start / PAGE;
});

afterEach(() => {
  expectClean(machine);
  machine.close();
});

describe('a migration that a driver plans', () => {
  test('moves what it gives a target, and says so page by page', () => {
    space.write(range.start, Uint8Array.of(1));
    space.read(range.start + PAGE, 1);
    space.write(range.start + 2 * PAGE, Uint8Array.of(3));
    // Written, page of zeros, written, hole.
    let seen: number[] = [];
    const migration = migrate({
      select: SELECT_SYSTEM,
      allocate(each) {
        seen = bits(each);
        for (const i of [0, 1, 3]) each.aim(i, context.hmm.takeFrame(memory));
      },
    });
    expect(seen).toEqual([
      MIGRATE_VALID | MIGRATE_MOVE | MIGRATE_WRITE,
      MIGRATE_MOVE,
      MIGRATE_VALID | MIGRATE_MOVE | MIGRATE_WRITE,
      MIGRATE_MOVE,
    ]);
    expect([migration.moved, migration.copied, migration.cleared, migration.refused]).toEqual([3, 1, 2, 1]);
    expect([0, 1, 2, 3].map((i) => migration.verdict(vpn + i))).toEqual(['moved', 'moved', 'refused', 'moved']);
    expect(space.dump(range)).toBe('DDHD');
    expect(first(context)).toEqual([1, 0, 3, 0]);
    expect(first(space)).toEqual([1, 0, 3, 0]);
    expect(machine.counters.cleared).toBe(2);
  });

  test('offers holes whatever is selected, and the page of zeros with system pages only', () => {
    space.read(range.start, 1);
    space.write(range.start + PAGE, Uint8Array.of(2));
    let seen: number[] = [];
    const look = (each: Migration): void => void (seen = bits(each));
    migrate({ select: SELECT_PRIVATE, allocate: look });
    expect(seen).toEqual([0, 0, MIGRATE_MOVE, MIGRATE_MOVE]);
    migrate({ select: 0, allocate: look });
    expect(seen).toEqual([0, 0, MIGRATE_MOVE, MIGRATE_MOVE]);
    expect(space.dump(range)).toBe('zH..');
  });

  test('brings its pages home, and only its own', () => {
    for (let i = 0; i < 4; i++) space.write(range.start + i * PAGE, Uint8Array.of(i + 1));
    migrate({ select: SELECT_SYSTEM, allocate: toDevice });
    expect(space.dump(range)).toBe('DDDD');
    const allocate = (each: Migration): void => {
      for (let i = 0; i < 2; i++) if (each.source[i * 2 + 1]!) each.aim(i, context.hmm.hostFrame());
    };
    expect(migrate({ select: SELECT_PRIVATE, owner: context.device.owner + 1, allocate }).moved).toBe(0);
    const home = migrate({ select: SELECT_PRIVATE, allocate });
    expect(home.moved).toBe(2);
    expect(space.dump(range)).toBe('HHDD');
    expect(machine.counters.migrated['bench.ram']!['dram']!.pages).toBe(2);
    expect(first(space)).toEqual([1, 2, 3, 4]);
  });

  test('by frame reaches pages of every space', () => {
    for (let i = 0; i < 4; i++) space.write(range.start + i * PAGE, Uint8Array.of(i + 1));
    migrate({ select: SELECT_SYSTEM, allocate: toDevice });
    const frames = [0, 1, 2].map((i) => memory.node.base + context.residency(vpn + i)!);
    const moved = run(() =>
      context.hmm.migrateFrames([...frames, memory.node.base + 15], {
        allocate(each) {
          expect(bits(each)).toEqual([3, 3, 3, 0]);
          for (let i = 0; i < 3; i++) each.aim(i, context.hmm.hostFrame());
        },
      }),
    );
    expect(moved.moved).toBe(3);
    expect(space.dump(range)).toBe('HHHD');
    expect(machine.counters.migratedByCause.evict.pages).toBe(3);
    expect(first(space)).toEqual([1, 2, 3, 4]);
  });

  test('tells the driver between commit and finalize, in place of the framework', () => {
    space.write(range.start, Uint8Array.of(7));
    const told: unknown[] = [];
    migrate({
      select: SELECT_SYSTEM,
      allocate: toDevice,
      install: (_space, at, frames, writable) => told.push([at - vpn, frames.map((frame) => frame >= 0), writable(0), space.dump(range)]),
    });
    expect(told).toEqual([[0, [true, true, true, true], true, 'mDDD']]);
    // The device's table was left to the driver, who has done nothing: its access faults, and finds the page.
    expect(first(context)).toEqual([7, 0, 0, 0]);
    expect(space.dump(range)).toBe('DDDD');
  });

  test('that throws in its own hook leaves every page and every frame where it was', () => {
    for (let i = 0; i < 4; i++) space.write(range.start + i * PAGE, Uint8Array.of(i + 1));
    const before = used(machine);
    const allocate = (each: Migration): void => {
      each.aim(0, context.hmm.takeFrame(memory));
      throw new Error('out of luck');
    };
    expect(() => migrate({ select: SELECT_SYSTEM, allocate })).toThrow('out of luck');
    expect(space.dump(range)).toBe('HHHH');
    expect(used(machine)).toBe(before);
    expect(first(space)).toEqual([1, 2, 3, 4]);
  });

  test('both ways, of which the engine takes the one and throws at the other, keeps its targets until the one has ended', async () => {
    const probe = new Probe({ name: 'both' });
    const driver: Driver = {
      ...probe.driver,
      attach: (each) => ({ ...probe.driver.attach(each), command: (make) => new Locked(make as () => Step) }),
    };
    context.detach();
    context = space.attach(machine.addDevice(driver));
    [memory] = context.device.memories as [OwnMemory];
    for (let i = 0; i < 4; i++) space.write(range.start + i * PAGE, Uint8Array.of(i + 1));
    context.migrate({ start: range.start, end: range.start + PAGE }, { to: 'device' });
    probe.slow.add('toDevice');
    probe.broken.add('toHost');
    const allocate = (each: Migration): void => {
      each.aim(0, context.hmm.hostFrame());
      each.aim(1, context.hmm.takeFrame(memory));
    };
    const make = (): Step => context.hmm.migrate(vpn, 4, { select: SELECT_SYSTEM | SELECT_PRIVATE, allocate });
    const failed = context.commandAsync(make).catch((error: unknown) => String(error));
    expect(probe.unfinished).toBe(1);
    expect(used(machine)).toContain('both.ram 2');
    probe.slow.clear();
    probe.finish();
    expect(await failed).toContain('toHost is broken');
    expect([space.dump(range), used(machine)]).toEqual(['EHHH', 'dram 3, bench.ram 0, both.ram 1']);
    probe.broken.clear();
    context.device.reset();
    expect(first(space)).toEqual([1, 2, 3, 4]);
  });

  test('is refused where Linux refuses it', () => {
    const plan = { select: SELECT_SYSTEM, allocate: toDevice };
    expect(refused(() => migrate(plan, vpn + 4))).toMatch(/^EINVAL: migration start 0x\w+ is not mapped$/);
    expect(refused(() => migrate(plan, vpn, 5))).toMatch(/^EINVAL: migration end 0x\w+ is outside the mapping of its start$/);
    expect(refused(() => migrate(plan, vpn, 0))).toContain('is not a count between 1 and 8192');
  });

  test('does not look at rights, and gives none: what it brings to memory without any stays closed to the CPU', () => {
    space.write(range.start, Uint8Array.of(1));
    space.mprotect(range, 'none');
    expect(migrate({ select: SELECT_SYSTEM, allocate: toDevice }).moved).toBe(3);
    const home = migrate({
      select: SELECT_PRIVATE,
      allocate(each) {
        for (let i = 1; i < 4; i++) if (each.source[i * 2 + 1]! & MIGRATE_VALID) each.aim(i, context.hmm.hostFrame());
      },
    });
    expect(home.moved).toBe(3);
    for (let i = 0; i < 4; i++) expect(space.tryRead(range.start + i * PAGE, new Uint8Array(1)).status).toBe('permission');
    space.mprotect(range, 'rw');
    expect(first(space)).toEqual([1, 0, 0, 0]);
  });
});

describe('the HMM dialect', () => {
  test('looks, faults and installs in one step', () => {
    space.write(range.start, Uint8Array.of(1));
    const words: number[][] = [];
    const look = (bitsOf: (page: number) => number): string => {
      words.length = 0;
      const step = context.hmm.rangeFault({ vpn, pages: 4, request: bitsOf }, (answer, _vpn, pages) => {
        for (let i = 0; i < pages; i++) words.push([answer[i * 2]!, answer[i * 2 + 1]!]);
      });
      machine.platform.scheduler.runSync(step);
      return step.outcome;
    };
    expect(look(() => 0)).toBe('done');
    expect(words.map(([, high]) => high! >>> 30)).toEqual([3, 0, 0, 0]);
    expect(look((page) => (page === 1 ? HMM_VALID : page === 2 ? HMM_VALID + HMM_WRITE : 0))).toBe('done');
    expect(words.map(([, high]) => high! >>> 30)).toEqual([3, 2, 3, 0]);
    expect(context.hmm.describe(words[1]![0]!)).toMatchObject({ owner: 'host', zero: true });
    expect(context.hmm.describe(words[0]![0]!)).toMatchObject({ owner: 'host', kind: 'host', zero: false, memory: undefined });
    space.mprotect(range, 'r');
    expect(look(() => HMM_VALID + HMM_WRITE)).toBe('permission');
  });

  test('says of a frame whose it is', () => {
    const other = space.attach(machine.addDevice({ ...bench(), name: 'other' }));
    context.migrate(range, { to: 'device' });
    const [frame] = context.hmm.snapshot(vpn, 1);
    expect(context.hmm.describe(frame!)).toEqual({ owner: 'own', kind: 'private', zero: false, memory });
    expect(other.hmm.describe(frame!)).toEqual({ owner: 'foreign', kind: 'private', zero: false, memory: undefined });
    // A foreign private page is as good as none.
    expect([...other.hmm.snapshot(vpn, 1)]).toEqual([0, 0]);
  });

  test('hands frames and their bytes out', () => {
    const { hmm } = context;
    const frame = hmm.takeFrame(memory);
    hmm.writeFrame(frame, 4092, Uint8Array.of(1, 2, 3, 4));
    const into = new Uint8Array(2);
    hmm.readFrame(frame, 4093, into);
    expect([...into]).toEqual([2, 3]);
    expect(refused(() => hmm.readFrame(frame, 4095, into))).toContain('that are not of one page');
    expect(refused(() => hmm.takeFrame(memory, 3))).toBe('EINVAL: takeFrame.order 3 is not 0 or 9');
    expect(hmm.takeFrame(memory, 9)).toBe(-1);
    hmm.putFrame(frame);
    expect(used(machine)).toBe('dram 0, bench.ram 0');
  });

  test('subscribes a driver to what others do, its own migrations marked as such', () => {
    const heard: string[] = [];
    const notifier = context.hmm.subscribe(vpn, 4, {
      invalidate(event) {
        heard.push(`${event.reason} ${event.start - vpn}+${event.end - event.start} ${String(event.owner === context.device.owner)}`);
        return true;
      },
    });
    context.migrate({ start: range.start, end: range.start + PAGE }, { to: 'device' });
    space.read(range.start, 1);
    space.mprotect(range, 'r');
    machine.platform.scheduler.runSync(context.hmm.unsubscribe(notifier));
    space.mprotect(range, 'rw');
    expect(heard).toEqual(['MIGRATE 0+1 true', 'MIGRATE 0+1 true', 'MIGRATE 0+1 true', 'PROTECTION_VMA 0+4 false']);
  });
});

describe('pages that a child has, too', () => {
  /** A child with a context of the same device, whose table has the parent's pages. */
  function child(): { space: AddressSpace; context: Context } {
    const fork = new Fork(machine.platform, space, { device: 'share' });
    machine.platform.scheduler.runSync(fork);
    return { space: fork.result!, context: fork.result!.attach(context.device) };
  }

  beforeEach(() => {
    for (let i = 0; i < 4; i++) space.write(range.start + i * PAGE, Uint8Array.of(i + 1));
  });

  test('go to the device for both, and no device keeps a translation of where they were', () => {
    const other = child();
    const mirror = other.space.attach(machine.addDevice({ name: 'mirror', attach: () => ({}) }));
    expect(first(mirror)).toEqual([1, 2, 3, 4]);
    expect(context.migrate(range, { to: 'device' })).toBe(4);
    expect([space.dump(range), other.space.dump(range)]).toEqual(['dddd', 'dddd']);
    expect(mirror.reaches(vpn, false)).toBe(false);
    // The mirror’s fault brings them home, for both again.
    expect(first(mirror)).toEqual([1, 2, 3, 4]);
    expect([space.dump(range), other.space.dump(range)]).toEqual(['hhhh', 'hhhh']);
    expect(used(machine)).toBe('dram 4, bench.ram 0');
  });

  test('come home for both when one of them touches them, and the other’s context of the same device is told', () => {
    context.migrate(range, { to: 'device' });
    const other = child();
    expect(first(other.context)).toEqual([1, 2, 3, 4]);
    expect(used(machine)).toBe('dram 0, bench.ram 4');
    space.write(range.start, Uint8Array.of(9));
    expect(other.context.reaches(vpn, false)).toBe(false);
    expect(other.context.reaches(vpn + 1, false)).toBe(true);
    expect([first(space), first(other.context), first(other.space)]).toEqual([
      [9, 2, 3, 4],
      [1, 2, 3, 4],
      [1, 2, 3, 4],
    ]);
  });

  test('are brought home by the last detach, also where the device has no context', () => {
    context.migrate(range, { to: 'device' });
    const fork = new Fork(machine.platform, space, { device: 'share' });
    machine.platform.scheduler.runSync(fork);
    space.munmap(range);
    expect(used(machine)).toBe('dram 0, bench.ram 4');
    context.detach();
    expect(used(machine)).toBe('dram 4, bench.ram 0');
    expect(first(fork.result!)).toEqual([1, 2, 3, 4]);
  });

  test('are not entered again by a device that has been told that they go, before they have gone', async () => {
    const probe = new Probe();
    const parent = space.attach(machine.addDevice(probe.driver));
    parent.migrate(range, { to: 'device' });
    const fork = new Fork(machine.platform, space, { device: 'share' });
    machine.platform.scheduler.runSync(fork);
    const other = fork.result!.attach(parent.device);
    expect(first(other)).toEqual([1, 2, 3, 4]);
    probe.slow.add('invalidate');
    // The parent's page comes home, for its child too, whose device flushes; meanwhile it faults.
    const writing = space.writeAsync(range.start, Uint8Array.of(9));
    const faulting = other.faultAsync(range.start, 'read');
    expect(probe.unfinished).toBe(1);
    expect(other.reaches(vpn, false)).toBe(false);
    while (probe.unfinished > 0) {
      probe.finish();
      await Promise.resolve();
    }
    await writing;
    expect(await faulting).toBe('served');
    probe.slow.clear();
    expect([first(space), first(other), first(fork.result!)]).toEqual([
      [9, 2, 3, 4],
      [1, 2, 3, 4],
      [1, 2, 3, 4],
    ]);
  });
});

describe('a frame that is not the driver’s to give', () => {
  beforeEach(() => {
    for (let i = 0; i < 4; i++) space.write(range.start + i * PAGE, Uint8Array.of(i + 1));
  });

  test('is no target of a migration: mapped, free, or aimed already; nothing has moved', () => {
    const [mapped] = space.snapshot(range) as unknown as [number];
    const free = memory.node.base + 9;
    for (const give of [
      (it: Migration) => it.aim(1, mapped),
      (it: Migration) => it.aim(1, free),
      (it: Migration) => {
        const frame = context.hmm.takeFrame(memory);
        it.aim(1, frame);
        it.aim(2, frame);
      },
    ]) {
      expect(refused(() => migrate({ select: SELECT_SYSTEM, allocate: give }))).toMatch(
        /^EINVAL: aim.frame .* is (not a frame with one reference|the target of word 1)/,
      );
      expect([space.dump(range), memory.node.used]).toEqual(['HHHH', 0]);
      expectClean(machine);
    }
    // A frame that was refused, and given back, may be aimed anew.
    expect(migrate({ select: SELECT_SYSTEM, allocate: toDevice }).moved).toBe(4);
  });

  test('is not given back either: its only reference is a mapping', () => {
    const [mapped] = space.snapshot(range) as unknown as [number];
    expect(refused(() => context.hmm.putFrame(mapped))).toContain('is not a frame to which there is a reference');
    expect(first(space)).toEqual([1, 2, 3, 4]);
    expectClean(machine);
  });
});

import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type AddressRange, type AddressSpace, type Context, type Machine, type MachineEvent } from 'farfault';
import { type ExclusiveOptions, Fork, MakeExclusive, PinRange } from 'farfault/mm';
import { exploreAll, printFinding } from 'farfault/testing';
import { DONE, type Step } from '../../sdk/step/step.ts';
import { expectClean, PAGE, Probe, smallMachine, used } from './probe.ts';

let machine: Machine;
let space: AddressSpace;
let range: AddressRange;
const PAGES = 4;

const run = (step: Step): void => machine.platform.scheduler.runSync(step);
const at = (page: number): number => range.start + page * PAGE;
const KIND_EXCLUSIVE = 3;
const WRITE = 1 << 4;

/** Kind and write bit of a page's entry. */
function entry(page: number): string {
  const high = space.snapshot({ start: at(page), end: at(page + 1) })[1]!;
  return `${(high & 15) === KIND_EXCLUSIVE ? 'exclusive' : (high & 15) === 1 ? 'present' : 'other'}${high & WRITE ? ' writable' : ''}`;
}

function exclusive(page: number, options: ExclusiveOptions = {}, owner = 0): { outcome: string; frames: number[] } {
  const frames: number[] = [];
  const step = new MakeExclusive(machine.platform).of(space, at(page) / PAGE, owner, options, (frame) => frames.push(frame));
  run(step);
  return { outcome: step.outcome, frames };
}

beforeEach(() => {
  machine = smallMachine();
  space = machine.createAddressSpace();
  range = space.mmap({ bytes: PAGES * PAGE });
  for (let page = 0; page < 3; page++) space.write(at(page), Uint8Array.of(page + 1));
});

afterEach(() => {
  for (const each of [...machine.platform.spaces.values()]) each.close();
  expect(used(machine)).toMatch(/^(\S+ 0(, )?)+$/);
  expectClean(machine);
  machine.close();
});

describe('a page made exclusive', () => {
  test('is installed once, under its page lock, and is nobody else’s until the CPU reads it', () => {
    const frame = space.snapshot(range)[0]!;
    let locked = false;
    const step = new MakeExclusive(machine.platform).of(space, at(0) / PAGE, 0, {}, (got) => {
      expect(got).toBe(frame);
      locked = machine.platform.pageLocks.locked(got);
    });
    run(step);
    expect([step.outcome, locked, machine.platform.pageLocks.locked(frame)]).toEqual(['done', true, false]);
    expect(entry(0)).toBe('exclusive writable');
    expectClean(machine);
    expect(space.read(at(0), 1)[0]).toBe(1);
    expect(entry(0)).toBe('present writable');
    expect(machine.counters.cpuFaults).toMatchObject({ exclusive: 1 });
    expect(used(machine)).toBe('dram 3');
  });

  test('is written by the CPU in one fault', () => {
    exclusive(0);
    space.write(at(0), Uint8Array.of(9));
    expect(space.read(at(0), 1)[0]).toBe(9);
    expect(machine.counters.cpuFaults).toMatchObject({ exclusive: 1, reuse: 0 });
  });

  test('may be a hole, the page of zeros, or a page that is shared: it becomes a page of its own', () => {
    const fork = new Fork(machine.platform, space, {});
    run(fork);
    expect(exclusive(0).outcome).toBe('done');
    expect(exclusive(3).outcome).toBe('done');
    space.madvise({ start: at(1), end: at(2) }, 'dontneed');
    space.read(at(1), 1);
    expect(exclusive(1).outcome).toBe('done');
    expect([0, 1, 3].map(entry)).toEqual(['exclusive writable', 'exclusive writable', 'exclusive writable']);
    expect(fork.result!.read(at(0), 1)[0]).toBe(1);
    expectClean(machine);
  });

  test('comes home first from the device that has it', () => {
    const context = space.attach(machine.addDevice(new Probe({ granulePages: 1 }).driver));
    context.migrate(range, { to: 'device' });
    expect(exclusive(0, {}, 1).outcome).toBe('done');
    expect(entry(0)).toBe('exclusive writable');
    expect(used(machine)).toBe('dram 1, probe.ram 3');
    expect(space.read(at(0), 1)[0]).toBe(1);
  });

  test('again is revoked and made once more', () => {
    exclusive(0);
    expect(exclusive(0).outcome).toBe('done');
    expect(entry(0)).toBe('exclusive writable');
  });

  test('has after mprotect the rights of the VMA when the CPU touches it', () => {
    exclusive(0);
    space.mprotect(range, 'r');
    expect(entry(0)).toMatch(/^exclusive/);
    expect(space.tryWrite(at(0), Uint8Array.of(1)).status).toBe('permission');
    expect(space.read(at(0), 1)[0]).toBe(1);
    expect(entry(0)).toBe('present');
    expect(exclusive(1).outcome).toBe('permission');
    space.mprotect(range, 'none');
    expect(space.tryRead(at(0), new Uint8Array(1)).status).toBe('permission');
    space.mprotect(range, 'rw');
    space.write(at(0), Uint8Array.of(7));
  });

  test('goes with its mapping', () => {
    exclusive(0);
    space.munmap(range);
    expect(used(machine)).toBe('dram 0');
  });

  test('does not move to a device', () => {
    const context = space.attach(machine.addDevice(new Probe({ granulePages: 1 }).driver));
    exclusive(0);
    context.migrate(range, { to: 'device' });
    expect(entry(0)).toBe('exclusive writable');
    expect(space.dump({ start: at(1), end: at(4) })).toBe('DDD');
  });
});

describe('a page that the CPU still reads', () => {
  test('is read without a fault, and its first write tells the device', () => {
    const heard: string[] = [];
    const notifier = space.subscribe(range, {
      invalidate: (event, self) => {
        self.setSequence(event.sequence);
        heard.push(`${event.reason} ${event.start - at(0) / PAGE} ${String(event.owner)}`);
        return true;
      },
    });
    expect(exclusive(0, { cpuReads: true }, 3).outcome).toBe('done');
    expect(entry(0)).toBe('present');
    expect(space.read(at(0), 1)[0]).toBe(1);
    expect(heard).toEqual(['EXCLUSIVE 0 3']);
    space.write(at(0), Uint8Array.of(9));
    expect(heard).toEqual(['EXCLUSIVE 0 3', 'CLEAR 0 undefined']);
    space.write(at(0), Uint8Array.of(8));
    expect(heard.length).toBe(2);
    expect(entry(0)).toBe('present writable');
    expect(machine.counters.cpuFaults).toMatchObject({ exclusive: 1, reuse: 0 });
    space.unsubscribe(notifier);
  });

  test('is pinned for reading as it is, for writing only after the device was told', () => {
    exclusive(0, { cpuReads: true });
    const pin = (write: boolean): PinRange => {
      const step = new PinRange(machine.platform, space, at(0) / PAGE, at(1) / PAGE, { write });
      run(step);
      return step;
    };
    pin(false).pin!.unpin();
    expect(entry(0)).toBe('present');
    pin(true).pin!.unpin();
    expect(entry(0)).toBe('present writable');
  });

  test('is ordinary again after a fork', () => {
    exclusive(0, { cpuReads: true });
    const fork = new Fork(machine.platform, space, {});
    run(fork);
    space.write(at(0), Uint8Array.of(9));
    expect(fork.result!.read(at(0), 1)[0]).toBe(1);
    expect(machine.counters.cpuFaults.exclusive).toBe(undefined);
  });
});

describe('what cannot be made exclusive', () => {
  test('is said by the outcome, and nothing is installed', () => {
    expect(exclusive(4)).toEqual({ outcome: 'no mapping', frames: [] });
    space.mprotect({ start: at(1), end: at(2) }, 'r');
    expect(exclusive(1)).toEqual({ outcome: 'permission', frames: [] });
    const hog = machine.createAddressSpace();
    const all = hog.mmap({ bytes: machine.nodes[0]!.frames * PAGE });
    for (let addr = all.start; hog.tryWrite(addr, Uint8Array.of(1)).status === 'done';) addr += PAGE;
    expect(exclusive(3)).toEqual({ outcome: 'no memory', frames: [] });
    expectClean(machine);
  });

  test('an installation that throws leaves the page unlocked, to be revoked like any other', () => {
    const step = new MakeExclusive(machine.platform).of(space, at(0) / PAGE, 0, {}, () => {
      throw new Error('no room in the device table');
    });
    expect(() => run(step)).toThrow('no room in the device table');
    expect(machine.platform.pageLocks.moving).toBe(0);
    expect(space.read(at(0), 1)[0]).toBe(1);
  });
});

test('an exclusive page is told of, by page and owner', () => {
  const events: MachineEvent[] = [];
  const off = machine.onEvent((event) => void events.push(event));
  exclusive(2, {}, 5);
  off();
  expect(events.filter(({ type }) => type === 'page.exclusive')).toMatchObject([{ space: space.id, vpn: at(2) / PAGE, owner: 5 }]);
});

describe('races', () => {
  /** Sets up a fresh world and a race in it. */
  function race(make: () => { steps: Step[]; check: () => void }): void {
    const found = exploreAll(
      () => {
        for (const each of [...machine.platform.spaces.values()]) each.close();
        machine.reset();
        space = machine.createAddressSpace();
        range = space.mmap({ bytes: PAGE });
        space.write(at(0), Uint8Array.of(1));
        return make();
      },
      { limit: 3000 },
    );
    if (found.finding) throw new Error(printFinding(found.finding));
    expect(found.complete).toBe(true);
  }

  test('a page that the CPU may read is never the device’s and writable for the CPU at once, however often it is made so', () => {
    race(() => {
      // What a device would know: it has the page from each install until it is told that the page changes.
      let has = false;
      space.subscribe(range, {
        invalidate(event, notifier) {
          if (event.reason === 'EXCLUSIVE' && event.owner === 3) return true;
          notifier.setSequence(event.sequence);
          has = false;
          return true;
        },
      });
      const make = (): MakeExclusive =>
        new MakeExclusive(machine.platform).of(space, at(0) / PAGE, 3, { cpuReads: true }, () => {
          has = true;
        });
      run(make());
      return {
        steps: [space.writeStep(at(0), Uint8Array.of(5)), make()],
        check() {
          expect(has && entry(0) === 'present writable').toBe(false);
          expect(space.read(at(0), 1)[0]).toBe(5);
          expect(machine.platform.pageLocks.moving).toBe(0);
        },
      };
    });
  });

  test('a device’s atomic and CPU increments: none is lost, whoever comes first', () => {
    race(() => {
      // Each increments what it finds. The device does it while the page is locked and nobody else has it.
      const device = new MakeExclusive(machine.platform).of(space, at(0) / PAGE, 0, {}, (frame) => {
        const { core } = machine.platform;
        core.u8[core.frameBytes(frame)]! += 10;
      });
      const cpu: Step & { value: number; reader: Step | undefined; phase: number } = {
        name: 'cpu',
        value: 0,
        reader: undefined,
        phase: 0,
        next(of) {
          if (this.phase++ === 0) return of.call(space.writeStep(at(0) + 1, Uint8Array.of(5)));
          return DONE;
        },
      };
      return {
        steps: [device, cpu],
        check() {
          expect(device.outcome).toBe('done');
          expect([...space.read(at(0), 2)]).toEqual([11, 5]);
          expect(machine.verify()).toBe(undefined);
          expect(machine.platform.pageLocks.moving).toBe(0);
        },
      };
    });
  });

  test('two devices and a read: the page ends with one of them, or with the CPU', () => {
    race(() => {
      const installed: number[] = [];
      const make = (owner: number): MakeExclusive =>
        new MakeExclusive(machine.platform).of(space, at(0) / PAGE, owner, {}, () => installed.push(owner));
      const read = space.readStep(at(0), 1);
      return {
        steps: [make(1), make(2), read],
        check() {
          expect(read.bytes[0]).toBe(1);
          expect([...installed].sort()).toEqual([1, 2]);
          expect(machine.verify()).toBe(undefined);
          expect(entry(0)).toMatch(/writable/);
        },
      };
    });
  });

  test('against munmap, fork and migration: it is done or there is nothing to do it with', () => {
    const others: ((context: Context) => Step)[] = [
      () => space.unmapStep(range),
      () => new Fork(machine.platform, space, {}),
      (context) => context.migrateStep(range, 'device'),
    ];
    for (const other of others) {
      race(() => {
        const context = space.attach(machine.addDevice(new Probe({ pages: 4, granulePages: 1 }).driver));
        const step = new MakeExclusive(machine.platform).of(space, at(0) / PAGE, 0, {}, () => {});
        return {
          steps: [step, other(context)],
          check() {
            expect(['done', 'no mapping']).toContain(step.outcome);
            expect(machine.verify()).toBe(undefined);
            expect(machine.strayErrors).toEqual([]);
          },
        };
      });
    }
  });
});

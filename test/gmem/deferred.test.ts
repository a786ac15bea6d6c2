/** Flushes that are put off: in machines that are saved meanwhile, and in every order that a simulator can find. */
import { type AddressSpace, type Context, type Machine, restoreMachine } from 'farfault';
import { type Driver, defineDriver, deviceTlb, type GmMmu } from 'farfault/gmem';
import { exploreAll, exploreSeeded, printFinding, type Race } from 'farfault/testing';
import { afterEach, expect, test } from 'vitest';
import { expectClean, PAGE, smallMachine, used } from '../machine/probe.ts';

let machine: Machine;
afterEach(() => machine.close());

const card = (name: string): Driver =>
  defineDriver(() => ({
    name,
    memory: [{ name: 'ram', kind: 'private' as const, bytes: 8 * PAGE }],
    attach: (context: Context): GmMmu => ({ tlb: deviceTlb(context) }),
  }))();

interface Deferring {
  readonly space: AddressSpace;
  readonly contexts: readonly Context[];
  readonly at: (page: number) => number;
  readonly byte: (page: number) => number;
  /** Flushes of each device since. */
  readonly flushed: () => string;
}

/** Four pages, the first two on one device, the others on another; both put their flushes off. */
function deferring(): Deferring {
  const space = machine.createAddressSpace();
  const contexts = ['one', 'two'].map((name) => space.attach(machine.addDevice(card(name), { flush: 'deferred' })));
  const { start } = space.mmap({ bytes: 4 * PAGE });
  const at = (page: number): number => start + page * PAGE;
  for (let page = 0; page < 4; page++) contexts[page >> 1]!.write(at(page), Uint8Array.of(page + 1));
  const before = contexts.map(({ flushCounts }) => flushCounts.flushes);
  return {
    space,
    contexts,
    at,
    byte: (page) => space.read(at(page), 1)[0]!,
    flushed: () => contexts.map(({ flushCounts }, i) => flushCounts.flushes - before[i]!).join(),
  };
}

test('a flush that is put off in a machine that is saved is made by the restored one, by itself', async () => {
  machine = smallMachine();
  const { space, contexts, at, flushed } = deferring();
  const reads = [0, 1, 2].map((page) => space.readAsync(at(page), 1));
  const gone = space.munmapAsync({ start: at(3), end: at(3) + PAGE });
  expect(flushed()).toBe('0,0');
  expect(machine.pending).toHaveLength(4);
  const image = machine.save({ space, contexts });
  await Promise.all([...reads, gone]);
  expect(flushed()).not.toBe('0,0');

  const { machine: restored, handles } = await restoreMachine<{ space: AddressSpace; contexts: Context[] }>(image, {
    drivers: [card('one'), card('two')],
  });
  expect(restored.pending).toHaveLength(4);
  for (let turns = 0; turns < 10 && restored.pending.length > 0; turns++) await Promise.resolve();
  expect(restored.pending).toEqual([]);
  expect(handles.contexts.map(({ flushCounts }) => flushCounts.flushes)).toEqual(contexts.map(({ flushCounts }) => flushCounts.flushes));
  expect(handles.space.dump()).toMatch(/HHH$/);
  expect([0, 1, 2].map((page) => handles.space.read(at(page), 1)[0])).toEqual([1, 2, 3]);
  expect(used(restored)).toBe('dram 3, one.ram 0, two.ram 0');
  expectClean(restored);
  restored.close();
  expectClean(machine);
});

test('a verb of the restored machine that has to wait for such a flush makes it', async () => {
  machine = smallMachine();
  const { space, at } = deferring();
  const read = space.readAsync(at(0), 1);
  const image = machine.save({ space });
  expect((await read)[0]).toBe(1);
  const { machine: restored, handles } = await restoreMachine<{ space: AddressSpace }>(image, { drivers: [card('one'), card('two')] });
  expect(handles.space.read(at(0), 1)[0]).toBe(1);
  expect(restored.pending).toEqual([]);
  restored.close();
});

test('in whatever order operations take their turns, each ends, and every byte is right', () => {
  machine = smallMachine({ tablePages: 128 });
  const flushes = new Set<string>();
  const setup = (): Race => {
    machine.reset();
    const { space, at, byte, flushed } = deferring();
    return {
      steps: [space.readStep(at(0), 1), space.writeStep(at(1), Uint8Array.of(9))],
      idle: () => machine.flushDeferred(),
      check() {
        flushes.add(flushed());
        expect([byte(0), byte(1), byte(2), byte(3)]).toEqual([1, 9, 3, 4]);
        expectClean(machine);
      },
    };
  };
  const { finding } = exploreSeeded(setup, 1, 300);
  expect(finding && printFinding(finding)).toBe(undefined);
  // Nothing else can go on when both wait: one flush of each device is for both.
  expect([...flushes]).toEqual(['1,1']);
});

test('a simulator without the flushes of its machine finds operations that wait for nobody', () => {
  machine = smallMachine({ tablePages: 128 });
  const { finding } = exploreAll(() => {
    machine.reset();
    const { space, at } = deferring();
    return { steps: [space.readStep(at(0), 1)], check: () => {} };
  });
  expect(finding?.kind).toBe('deadlock');
  expect(machine.flushDeferred()).toBe(true);
  expect(machine.flushDeferred()).toBe(false);
});

test('a range on its way home comes there whatever tables are looked at meanwhile', async () => {
  const PAGES = 40;
  machine = smallMachine();
  const space = machine.createAddressSpace();
  const driver = defineDriver(() => ({
    name: 'card',
    memory: [{ name: 'ram', kind: 'private' as const, bytes: PAGES * PAGE }],
    attach: (context: Context): GmMmu => ({ tlb: deviceTlb(context) }),
  }));
  const context = space.attach(machine.addDevice(driver(), { flush: 'deferred' }));
  const [range, other] = [space.mmap({ bytes: PAGES * PAGE }), space.mmap({ bytes: PAGES * PAGE })];
  const bytes = Uint8Array.from({ length: PAGES * PAGE }, (_, i) => (i / PAGE) | 0);
  space.write(range.start, bytes);
  space.write(
    other.start,
    Uint8Array.from(bytes, (each) => each + 100),
  );
  const looks = [
    (): unknown => space.snapshot(other),
    (): unknown => space.snapshotHmm(other),
    (): unknown => context.hmm.snapshot(other.start / PAGE, PAGES),
  ];
  for (const look of looks) {
    expect(context.migrate(range, { to: 'device' })).toBe(PAGES);
    let isOver = false;
    const home = context.migrateAsync(range, { to: 'host' }).finally(() => (isOver = true));
    let turns = 0;
    for (; !isOver; turns++) {
      look();
      await Promise.resolve();
    }
    expect([await home, turns > 0]).toEqual([PAGES, true]);
    expect(space.read(range.start, PAGES * PAGE)).toEqual(bytes);
    expectClean(machine);
  }
});

/** What is over says so: every verb of a closed machine, and of what was closed before its machine, answers EBADF; and what is of another machine is refused with EINVAL. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type IntervalNotifier, Invalidation } from 'farfault/mm';
import { faultOf, NOTHING, rejectedBy, thrownBy } from './refusal.ts';
import { BARE, ROWS, type Row } from './table.ts';
import { makeWorld, PAGE, stateHash, type World } from './world.ts';

const ANY = [''];
const verbs = [...ROWS, ...BARE].filter(({ closed }) => closed === 'EBADF');

async function answerOf(row: Row, world: World, values: unknown[]): Promise<string> {
  const call = (): unknown => row.call(world, values);
  const error = row.rejects ? await rejectedBy(call) : thrownBy(call);
  return error === NOTHING ? 'it is done' : (faultOf(error, ANY, 'EBADF') ?? 'EBADF');
}

describe('a machine that is closed', () => {
  let world: World;
  let arguments_: Map<string, unknown[]>;

  beforeAll(() => {
    world = makeWorld();
    arguments_ = new Map(verbs.map((row) => [row.name, row.good(world)]));
    world.machine.close();
  });

  test.each(verbs.map((row) => [row.name, row] as const))('%s answers EBADF', async (name, row) => {
    expect(await answerOf(row, world, arguments_.get(name)!)).toBe('EBADF');
  });

  test('is closed twice without harm, and has nothing that is unfinished', () => {
    world.machine.close();
    expect(world.machine.pending).toEqual([]);
  });

  test.each<[string, (world: World) => unknown]>([
    ['nodes', ({ machine }) => machine.nodes],
    ['spaces', ({ machine }) => machine.spaces],
    ['tlbCounts of a space', ({ space }) => space.tlbCounts],
    ['tlbCounts of a context', ({ context }) => context.tlbCounts],
  ])('%s answers EBADF', (_name, look) => {
    const error = thrownBy(() => look(world));
    expect(faultOf(error, ANY, 'EBADF')).toBe(undefined);
  });

  test('keeps what it has counted, its devices, and what a file is long', () => {
    expect(world.machine.counters.invalidations).toBeGreaterThan(0);
    expect(world.machine.devices).toEqual([world.device, ...world.peers]);
    expect(world.machine.tickets).toEqual([world.ticket]);
    expect(world.file.bytes).toBe(PAGE + 5);
    expect(world.pin.held).toBe(true);
  });
});

/** Objects of a closed part of a machine that goes on. */
// A device that has left may have work that ends later: it has tickets yet.
const parts: Record<string, { close: (world: World) => void; kind: RegExp; but?: readonly string[]; kept?: readonly string[] }> = {
  'a space': {
    close: ({ pin, space }) => (pin.unpin(), space.close()),
    kind: /^(AddressSpace|MemoryMap)\./,
    but: ['AddressSpace.close', 'AddressSpace.closeAsync'],
  },
  'a context': {
    close: ({ context }) => context.detach(),
    kind: /^(Context|DeviceMirror)\./,
    but: ['Context.detach', 'Context.detachAsync'],
    kept: ['Context.ticket'],
  },
  'a file': { close: ({ space, mapped, file }) => (space.munmap(mapped), file.close()), kind: /^MemoryFile\./, but: ['MemoryFile.close'] },
  'a pin': { close: ({ pin }) => pin.unpin(), kind: /^Pin\./ },
};

describe.each(Object.entries(parts))('%s that is closed, in a machine that is not', (_what, { close, kind, but = [], kept = [] }) => {
  let world: World;
  let arguments_: Map<string, unknown[]>;
  let before: number;
  const own = verbs.filter(({ name }) => kind.test(name) && !kept.includes(name));

  beforeAll(() => {
    world = makeWorld();
    arguments_ = new Map(own.map((row) => [row.name, row.good(world)]));
    close(world);
    before = stateHash(world.machine);
  });
  afterAll(() => {
    expect(world.machine.verify()).toBe(undefined);
    expect(stateHash(world.machine)).toBe(before);
    world.machine.close();
  });

  test.each(own.filter(({ name }) => !but.includes(name)).map((row) => [row.name, row] as const))('%s answers EBADF', async (name, row) => {
    expect(await answerOf(row, world, arguments_.get(name)!)).toBe('EBADF');
  });

  test.each(own.filter(({ name }) => but.includes(name)).map((row) => [row.name, row] as const))(
    '%s, again, does nothing',
    async (_name, row) => {
      await row.call(world, []);
    },
  );
});

/** One that is running in the other machine, where nobody hears of it. */
function begun({ other }: World): Invalidation {
  const event = new Invalidation().set(0, 1, 'CLEAR');
  event.running = other.notifiers;
  return event;
}

describe('of another machine', () => {
  let world: World;
  let other: World;
  let states: readonly number[];

  beforeAll(() => {
    world = makeWorld();
    other = makeWorld();
    states = [stateHash(world.machine), stateHash(other.machine)];
  });
  afterAll(() => {
    world.machine.close();
    other.machine.close();
  });

  const migrate = ({ hmm, range }: World, notifier: IntervalNotifier): unknown =>
    hmm.rangeFault({ vpn: range.start / PAGE, pages: 1, notifier }, () => {});

  test.each<[string, readonly string[], (mine: World, theirs: World) => unknown]>([
    ['a file is not mapped', ['file'], ({ space }, { file }) => space.mmap({ bytes: PAGE, file, shared: true })],
    ['a device is not attached', ['device'], ({ other }, { device }) => other.attach(device)],
    ['a space is not attached to', ['attach'], ({ device }, { space }) => device.attachTo(space)],
    ['a notifier is not unsubscribed', ['notifier'], ({ space }, { notifier }) => space.unsubscribe(notifier)],
    ['a notifier is not removed from the set', ['notifier'], ({ space }, { notifier }) => space.notifiers.remove(notifier)],
    ['a notifier is not unsubscribed by a driver', ['notifier'], ({ hmm }, { notifier }) => hmm.unsubscribe(notifier)],
    ['a notifier does not guard a range fault', ['notifier'], (mine, { notifier }) => migrate(mine, notifier)],
    ['a memory is not unplugged', ['memory'], ({ device }, { memory }) => device.removeMemory(memory)],
    ['a memory has no frame to take', ['memory'], ({ hmm }, { memory }) => hmm.takeFrame(memory)],
    ['an invalidation is not ended', ['invalidation'], ({ space }, theirs) => space.notifiers.invalidateEnd(begun(theirs))],
  ])('%s', (_what, names, call) => {
    expect(
      faultOf(
        thrownBy(() => call(world, other)),
        names,
        'EINVAL',
      ),
    ).toBe(undefined);
    expect([stateHash(world.machine), stateHash(other.machine)]).toEqual(states);
    expect([world.machine.verify(), other.machine.verify()]).toEqual([undefined, undefined]);
  });

  test.each<[string, (mine: World, theirs: World) => Promise<unknown>]>([
    ['a memory is not unplugged, later', ({ device }, { memory }) => device.removeMemoryAsync(memory)],
  ])('%s', async (_what, call) => {
    expect(faultOf(await rejectedBy(() => call(world, other)), ['memory'], 'EINVAL')).toBe(undefined);
    expect([stateHash(world.machine), stateHash(other.machine)]).toEqual(states);
  });

  test('a space of the same machine is another one: its notifier is not taken', () => {
    const notifier = world.other.subscribe({ start: 0, end: PAGE }, { invalidate: () => true });
    expect(
      faultOf(
        thrownBy(() => world.space.unsubscribe(notifier)),
        ['notifier'],
        'EINVAL',
      ),
    ).toBe(undefined);
    expect(
      faultOf(
        thrownBy(() => world.hmm.unsubscribe(notifier)),
        ['notifier'],
        'EINVAL',
      ),
    ).toBe(undefined);
    world.other.unsubscribe(notifier);
    world.other.unsubscribe(notifier);
    expect(
      faultOf(
        thrownBy(() => world.other.notifiers.remove(notifier)),
        ['notifier'],
        'EINVAL',
      ),
    ).toBe(undefined);
  });

  test('a range is numbers, which are of no machine: it is taken', () => {
    expect(world.space.dump(other.range)).toBe(world.space.dump(world.range));
  });
});

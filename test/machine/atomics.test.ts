import { afterEach, describe, expect, test } from 'vitest';
import { type AddressRange, type AddressSpace, type Context, isFarfaultError, type Machine } from 'farfault';
import { type AtomicMeans, type AtomicRequest, defineDriver, deviceTable, type Driver, permits, type Translation } from 'farfault/gmem';
import { EXCLUSIVE_ATTEMPTS_MAX } from '../../sdk/mm/exclusive.ts';
import { expectClean, PAGE, smallMachine, used } from './probe.ts';

interface Options {
  readonly atomics?: readonly AtomicMeans[];
  readonly pages?: number;
  readonly kind?: 'private' | 'coherent';
  readonly name?: string;
  readonly walks?: boolean;
}

const gpu = defineDriver(({ atomics, pages = 0, kind = 'private', name = 'gpu', walks = false }: Options): Driver => ({
  name,
  ...(atomics ? { atomics } : {}),
  memory: pages > 0 ? [{ name: 'hbm', kind, bytes: pages * PAGE }] : [],
  attach(context) {
    if (!walks) return {};
    const table = deviceTable(context);
    return {
      pmap: table,
      walk: {
        translate: (vpn, access): Translation | undefined => {
          const found = table.walk(vpn, access);
          return permits(found, access) ? found : undefined;
        },
      },
    };
  },
}));

let machine: Machine;
let space: AddressSpace;
let context: Context;
let range: AddressRange;

function begin(options: Options): void {
  machine = smallMachine();
  space = machine.createAddressSpace();
  context = space.attach(machine.addDevice(gpu(options)));
  range = space.mmap({ bytes: 2 * PAGE });
}

/** A little-endian word as the CPU reads it. */
function word(addr: number, bytes: 4 | 8): bigint {
  const view = new DataView(space.read(addr, bytes).buffer);
  return bytes === 4 ? BigInt(view.getUint32(0, true)) : view.getBigUint64(0, true);
}

function refused(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    if (isFarfaultError(error)) return `${error.code}: ${error.message}`;
    throw error;
  }
  return 'done';
}

afterEach(() => {
  expectClean(machine);
  machine.close();
});

for (const [what, options, place] of [
  ['native', { atomics: ['native'] }, 'H'],
  ['native, translated by the driver', { atomics: ['native'], walks: true }, 'H'],
  ['exclusive', { atomics: ['exclusive'] }, 'x'],
  ['exclusive, translated by the driver', { atomics: ['exclusive'], walks: true }, 'x'],
  ['migrate', { atomics: ['migrate'], pages: 4 }, 'D'],
] as [string, Options, string][]) {
  describe(`atomics by these means: ${what}`, () => {
    test('add, exchange and compare, wrap at their width, and return the old value', () => {
      begin(options);
      const at = range.start + 8;
      expect(context.atomic(at, { op: 'add', bytes: 4, operand: 5 })).toBe(0);
      expect(context.atomic(at, { op: 'add', bytes: 4, operand: -6 })).toBe(5);
      expect(context.atomic(at, { op: 'exchange', bytes: 4, operand: 7 })).toBe(0xffffffff);
      expect(context.atomic(at, { op: 'compare-and-swap', bytes: 4, operand: 9, expected: 8 })).toBe(7);
      expect(context.atomic(at, { op: 'compare-and-swap', bytes: 4, operand: 9, expected: 7 })).toBe(7);
      expect(context.atomic(at, { op: 'add', bytes: 8, operand: 2n ** 63n })).toBe(9n);
      expect(context.atomic(at, { op: 'add', bytes: 8, operand: 2n ** 63n + 1n })).toBe(2n ** 63n + 9n);
      expect(space.dump({ start: range.start, end: range.start + PAGE })).toBe(place);
      expect(word(at, 8)).toBe(10n);
      // The page was home, or everybody's again; the device takes it once more.
      expect(context.atomic(at, { op: 'add', bytes: 8, operand: 1 })).toBe(10n);
      space.write(at, Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0));
      expect(context.atomic(at, { op: 'add', bytes: 8, operand: 1 })).toBe(1n);
      expect(word(at, 8)).toBe(2n);
    });

    test('lose nothing between two devices and the CPU', () => {
      begin(options);
      const other = space.attach(machine.addDevice(gpu({ ...options, name: 'other' })));
      for (let i = 0; i < 12; i++) {
        (i % 2 === 0 ? context : other).atomic(range.start, { op: 'add', bytes: 8, operand: 1 });
        if (i % 3 === 0) space.write(range.start, Uint8Array.of(space.read(range.start, 1)[0]! + 100));
      }
      expect(word(range.start, 8)).toBe(12n + 144n);
    });

    test('need the right to write', () => {
      begin(options);
      space.mprotect(range, 'r');
      const add = { op: 'add', bytes: 4, operand: 1 } as const;
      expect(refused(() => context.atomic(range.start, add))).toContain('is mapped without the right to write');
      expect(refused(() => context.atomic(range.end, add))).toContain('is not mapped');
    });
  });
}

describe('a device that has several means', () => {
  test('falls through to the next one', () => {
    // No frame of its memory is free, nor may one become so: what is there is pinned by nobody, but the memory has no page at all.
    begin({ atomics: ['migrate', 'exclusive'] });
    expect(context.atomic(range.start, { op: 'add', bytes: 4, operand: 3 })).toBe(0);
    expect(space.dump(range)).toBe('x.');
    expect(word(range.start, 4)).toBe(3n);
  });

  test('does them where the page is already, whatever comes first', () => {
    begin({ atomics: ['exclusive'], pages: 4 });
    context.migrate(range, { to: 'device' });
    expect(context.atomic(range.start, { op: 'add', bytes: 4, operand: 3 })).toBe(0);
    expect(space.dump(range)).toBe('DD');
    expect(used(machine)).toBe('dram 0, gpu.hbm 2');
  });
});

describe('atomics on shared memory', () => {
  for (const [what, atomics, works] of [
    ['native ones reach it', ['native'], true],
    ['are not had by making pages exclusive or moving them', ['exclusive', 'migrate'], false],
    ['fall through to native ones', ['exclusive', 'migrate', 'native'], true],
  ] as [string, AtomicMeans[], boolean][]) {
    test(what, () => {
      begin({ atomics, pages: 4 });
      const shared = space.mmap({ bytes: PAGE, shared: true });
      space.write(shared.start, Uint8Array.of(5));
      const add = { op: 'add', bytes: 4, operand: 1 } as const;
      if (works) expect(context.atomic(shared.start, add)).toBe(5);
      else expect(refused(() => context.atomic(shared.start, add))).toContain('EOPNOTSUPP');
      expect(word(shared.start, 4)).toBe(works ? 6n : 5n);
      expect(used(machine)).toBe('dram 1, gpu.hbm 0');
    });
  }
});

describe('a page that is exclusive to a device', () => {
  test('is the CPU’s again after a read, and the device’s translation is gone', () => {
    begin({ atomics: ['exclusive'] });
    context.atomic(range.start, { op: 'add', bytes: 4, operand: 3 });
    const before = machine.counters.invalidations;
    expect([...space.read(range.start, 1)]).toEqual([3]);
    expect(machine.counters.invalidations).toBe(before + 1);
    expect(context.reaches(range.start / PAGE, true)).toBe(false);
    expect(space.dump(range)).toBe('H.');
  });

  test('is taken back from the memory that a detach empties, with everybody told, and so is the next one', () => {
    begin({ pages: 4, kind: 'coherent' });
    context.migrate(range, { to: 'device' });
    const vpn = range.start / PAGE;
    for (const page of [vpn, vpn + 1]) machine.platform.scheduler.runSync(context.hmm.makeExclusive(page, {}, () => undefined));
    const heard: string[] = [];
    space.subscribe(range, { invalidate: (event) => (heard.push(`${event.start - vpn} ${event.cause}`), true) });
    context.detach();
    expect(heard.filter((line) => line.endsWith('revoke'))).toEqual(['0 revoke', '1 revoke']);
    expect(space.dump(range)).toBe('HH');
  });

  test('becomes so again, however often the CPU has had it back', () => {
    begin({ atomics: ['exclusive'] });
    const step = context.hmm.makeExclusive(range.start / PAGE, {}, () => undefined);
    for (let turn = 0; turn <= EXCLUSIVE_ATTEMPTS_MAX; turn++) {
      const again = context.hmm.makeExclusive(range.start / PAGE, {}, () => undefined, step);
      machine.platform.scheduler.runSync(again);
      expect([again, again.outcome, space.dump(range)]).toEqual([step, 'done', 'x.']);
      space.read(range.start, 1);
    }
  });

  test('goes with munmap and survives a detach', () => {
    begin({ atomics: ['exclusive'] });
    for (const at of [range.start, range.start + PAGE]) context.atomic(at, { op: 'exchange', bytes: 4, operand: 3 });
    space.munmap({ start: range.start, end: range.start + PAGE });
    context.detach();
    expect(word(range.start + PAGE, 4)).toBe(3n);
    expect(used(machine)).toBe('dram 1');
  });
});

describe('an atomic', () => {
  test('is not offered by a device without means', () => {
    begin({});
    expect(refused(() => context.atomic(range.start, { op: 'add', bytes: 4, operand: 1 }))).toMatch(
      /^EOPNOTSUPP: atomic.addr 0x\w+ is on a page on which gpu has no atomics$/,
    );
    machine.reset();
    begin({ atomics: ['migrate'] });
    expect(refused(() => context.atomic(range.start, { op: 'add', bytes: 4, operand: 1 }))).toContain('EOPNOTSUPP');
  });

  test('is refused when it is malformed', () => {
    begin({ atomics: ['native'] });
    const atomic = (addr: number, request: unknown) => refused(() => context.atomic(addr, request as AtomicRequest & { bytes: 4 }));
    const add = { op: 'add', bytes: 4, operand: 1 };
    expect(atomic(range.start + 2, add)).toContain('is not a multiple of 4');
    expect(atomic(range.start + 4, { ...add, bytes: 8 })).toContain('is not a multiple of 8');
    expect(atomic(range.start, { ...add, bytes: 2 })).toContain('is not 4 or 8');
    expect(atomic(range.start, { ...add, op: 'sub' })).toContain("is not one of: 'add', 'exchange', 'compare-and-swap'");
    expect(atomic(range.start, { ...add, operand: 1.5 })).toContain('is not an integer');
    expect(atomic(range.start, { ...add, op: 'compare-and-swap' })).toContain('is not an integer');
    expect(atomic(range.start, { ...add, expected: 1 })).toContain('is not for add');
    expect(atomic(-8, add)).toContain('is not a byte address');
    expect(space.dump(range)).toBe('..');
  });

  test('must be declared by known words', () => {
    machine = smallMachine();
    expect(refused(() => machine.addDevice(gpu({ atomics: ['magic' as AtomicMeans] })))).toContain(
      "is not one of: 'native', 'exclusive', 'migrate'",
    );
  });
});

/** What middleware knows of devices that bring and take pages by themselves, and of copies between devices. */
import { expect, test } from 'vitest';
import type { AddressRange, AddressSpace, Machine } from 'farfault';
import type { Context, Driver, PeerBatch, PeerCode } from 'farfault/gmem';
import { Checks, checked, decoupled, DriverTrace, faulty, FaultPlan, faultsOf, traced, type Violation } from 'farfault/testing';
import { coupled, Coupling, importing, placing, Stock } from '../contract/zoo/coupled.ts';
import { expectClean, PAGE, smallMachine } from '../machine/probe.ts';

interface World {
  readonly machine: Machine;
  readonly space: AddressSpace;
  readonly context: Context;
  readonly range: AddressRange;
}

function world(driver: Driver, pages = 8): World {
  const machine = smallMachine();
  const space = machine.createAddressSpace();
  const context = space.attach(machine.addDevice(driver));
  return { machine, space, context, range: space.mmap({ bytes: pages * PAGE }) };
}

/** To and fro, read-only, and gone. */
function program({ space, context, range }: World): number[] {
  const seen: number[] = [];
  for (let page = 0; page < 8; page++) space.write(range.start + page * PAGE, Uint8Array.of(page + 1));
  context.migrate(range, { to: 'device' });
  context.write(range.start + PAGE, Uint8Array.of(99));
  seen.push(...space.read(range.start, 1), ...context.read(range.start + PAGE, 1));
  space.mprotect(range, 'r');
  seen.push(...context.read(range.start + 2 * PAGE, 1), ...context.read(range.start + 3 * PAGE, 1));
  space.mprotect(range, 'rw');
  context.migrate(range, { to: 'host' });
  for (let page = 0; page < 8; page++) seen.push(...space.read(range.start + page * PAGE, 1));
  return seen;
}

const EXPECTED = [1, 99, 3, 4, 1, 99, 3, 4, 5, 6, 7, 8];

test.each([
  ['coupled', coupled()],
  ['importing', importing()],
  ['placing', placing()],
])('a good driver breaks no rule, and neither does the framework: %s', (_name, { factory }) => {
  const checks = new Checks();
  const it = world(traced(checked(factory(), checks), new DriverTrace()));
  expect(program(it)).toEqual(EXPECTED);
  it.space.close();
  checks.finish();
  expect(checks.text()).toBe('');
  expectClean(it.machine);
  it.machine.close();
});

/** What is found of a driver whose coupling, or stock, is broken. */
function found(changed: Parameters<typeof coupled>[0], make = coupled): readonly Violation[] {
  const checks = new Checks();
  const it = world(checked(make(changed).factory(), checks));
  try {
    program(it);
    it.space.close();
  } catch {
    // What comes of it is the machine's affair.
  }
  it.machine.close();
  return checks.finish();
}

test.each<[string, Parameters<typeof coupled>[0], Pick<Violation, 'rule' | 'operation'>, string, typeof coupled?]>([
  [
    'an item that is changed',
    {
      Coupling: class extends Coupling {
        override map(batch: PeerBatch): void {
          super.map(batch);
          batch.item(0).pages = 2;
        }
      },
    },
    { rule: 'results', operation: 'peer.map' },
    'has been changed: it is borrowed',
  ],
  [
    'a translation that stays',
    {
      Coupling: class extends Coupling {
        override unmap(batch: PeerBatch): void {
          batch.each((item) => batch.answer(item, 'success'));
        }
      },
    },
    { rule: 'translations', operation: 'walk.translate' },
    'after its release',
  ],
  [
    'what will not go',
    {
      Coupling: class extends Coupling {
        override unmap(batch: PeerBatch): void {
          batch.each((item) => (item.bytes === 'none' ? batch.answer(item, 'nomem') : this.take(batch, item)));
        }
      },
    },
    { rule: 'results', operation: 'peer.unmap' },
    'are to go, and the answer is: nomem',
  ],
  [
    'a right that was not given',
    {
      Coupling: class extends Coupling {
        override enter({ vpn, pages, page, memory }: { vpn: number; pages: number; page: number; memory: number }): void {
          this.table.enterRun(vpn, pages, page, memory, true);
        }
      },
    },
    { rule: 'translations', operation: 'walk.translate' },
    'was entered without that right',
  ],
  [
    'a page that is handed out twice',
    {
      Stock: class extends Stock {
        override importPages(): readonly number[] {
          return [3, 3];
        }
      },
    },
    { rule: 'allocator', operation: 'peer.importPages' },
    'page 3 has been handed out already',
    importing,
  ],
  [
    'more pages than were asked for',
    {
      Stock: class extends Stock {
        override importPages(count: number): readonly number[] {
          return super.importPages(count + 1);
        }
      },
    },
    { rule: 'answers', operation: 'peer.importPages' },
    '17 pages are given, and 16 were asked for',
    importing,
  ],
])('the driver is told of %s', (_what, changed, { rule, operation }, detail, make) => {
  const [first] = found(changed, make);
  expect(first).toMatchObject({ rule, operation, by: 'driver' });
  expect(first!.detail).toContain(detail);
});

test('each result code is one of the ways in which a call goes wrong, and what must go goes even so', () => {
  for (const code of [
    'nomem',
    'page exists',
    'migrating',
    'dma error',
    'unimplemented',
    'failure',
  ] as const satisfies readonly PeerCode[]) {
    expect(faultsOf('peer.map')).toContain(code);
    const plan = new FaultPlan();
    const it = world(faulty(coupled().factory(), plan));
    const { space, context, range } = it;
    space.write(range.start, Uint8Array.of(7));
    plan.fail('peer.map', 1, code);
    context.migrate(range, { to: 'device' });
    expect(plan.log).toBe(`fail('peer.map', 1, '${code}')`);
    expect(context.peerCounts!.codes[code]).toBe(8);
    expect(space.dump(range)).toBe(code === 'migrating' ? 'DDDDDDDD' : 'H.......');
    plan.count();
    context.migrate(range, { to: 'device' });
    plan.fail('peer.unmap', 1, code);
    // No bytes: it is not refused.
    space.madvise({ start: range.start, end: range.start + PAGE }, 'dontneed');
    expect([plan.happened, context.failure]).toEqual([true, undefined]);
    expect(space.read(range.start, 1)[0]).toBe(0);
    space.close();
    expectClean(it.machine);
    it.machine.close();
  }
});

test('a trace tells each item, and how it ended once that is known', () => {
  const trace = new DriverTrace();
  const plan = new FaultPlan();
  const it = world(traced(faulty(coupled().factory(), plan), trace), 2);
  const { context, space, range } = it;
  space.write(range.start, Uint8Array.of(7));
  plan.fail('peer.map', 1, 'late');
  void context.migrateAsync(range, { to: 'device' });
  const line = (): string =>
    trace
      .text()
      .split('\n')
      .find((each) => each.includes('peer.map'))!;
  expect(line()).toContain('peer.map 0x10000+1 copy rw, 0x10001+1 zero rw -> ');
  plan.finish();
  expect(line()).toContain('peer.map 0x10000+1 copy rw: success, 0x10001+1 zero rw: success');
  it.machine.close();
});

test('without its family a device has the steps, and the core hands its pages out', () => {
  for (const { factory } of [coupled(), importing(), placing()]) {
    const driver = decoupled(factory());
    const it = world(driver);
    expect([driver.memory![0]!.allocator, it.context.mmu.peer, it.context.peerCounts]).toEqual(['core', undefined, undefined]);
    expect(program(it)).toEqual(EXPECTED);
    it.space.close();
    expectClean(it.machine);
    it.machine.close();
  }
});

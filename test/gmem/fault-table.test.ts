/** The tables of both faults, held to what the faults do: each row is set up, asked, and looked at. */
import { type AddressSpace, type Context, type Machine, type MachineEvent } from 'farfault';
import { afterEach, describe, expect, it } from 'vitest';
import { CPU_TABLE, type CpuState, type PageState, WITH_MEMORY, WITHOUT_MEMORY } from '../../sdk/gmem/fault-table.ts';
import { expectClean, PAGE, Probe, smallMachine } from '../machine/probe.ts';
import { thrownBy } from '../errors/refusal.ts';

let machine: Machine;
afterEach(end);

/** The machine of one row, or of one test. */
function end(): void {
  if (!machine.platform.open) return;
  expectClean(machine);
  machine.close();
}

interface World {
  readonly space: AddressSpace;
  readonly addr: number;
  readonly own: Context;
  readonly other: Context;
  readonly plain: Context;
  readonly slow: Probe;
  readonly events: MachineEvent[];
}

/** A space with one page of private anonymous memory, two devices with memory and one without. */
function world(): World {
  machine = smallMachine();
  const slow = new Probe({ name: 'other' });
  const [own, other, plain] = [new Probe({ name: 'own' }), slow, new Probe({ name: 'plain', pages: 0 })].map((probe) =>
    machine.addDevice(probe.driver),
  );
  const space = machine.createAddressSpace();
  const contexts = [own!, other!, plain!].map((device) => space.attach(device));
  const events: MachineEvent[] = [];
  const { start } = space.mmap({ bytes: PAGE });
  machine.onEvent((event) => events.push(event));
  return { space, addr: start, own: contexts[0]!, other: contexts[1]!, plain: contexts[2]!, slow, events };
}

const ONE = Uint8Array.of(1);

/** The page becomes a device's for its atomics. */
function takeAlone({ own, addr }: World, cpuReads: boolean): void {
  const vpn = addr / PAGE;
  machine.platform.scheduler.runSync(own.hmm.makeExclusive(vpn, { cpuReads }, (frame) => own.installAlone(vpn, frame)));
}

function codeOf(call: () => unknown): unknown {
  return (thrownBy(call) as { code?: unknown }).code;
}

/** What a CPU fault of the page came to, by what it was counted as. */
function causeOf(events: readonly MachineEvent[]): string {
  return events.flatMap((event) => (event.type === 'fault.cpu' ? [event.cause] : [])).join(' ');
}

describe('table (a): a CPU fault', () => {
  const CAUSES: Readonly<Record<string, string>> = {
    'zero page': 'zero',
    'zeroed frame': 'demand',
    nothing: '',
    reuse: 'reuse',
    upgrade: 'exclusive',
    copy: 'copy',
    home: 'home',
    revoke: 'exclusive',
  };
  const STATES: Readonly<Partial<Record<CpuState, (world: World) => void>>> = {
    nothing: () => undefined,
    zeros: ({ space, addr }) => void space.read(addr, 1),
    present: ({ space, addr }) => space.write(addr, ONE),
    'read-only': ({ space, addr }) => {
      space.write(addr, ONE);
      space.fork().close();
    },
    shared: ({ space, addr }) => {
      space.write(addr, ONE);
      space.fork();
    },
    device: ({ own, addr }) => own.write(addr, ONE),
    exclusive: (all) => takeAlone(all, false),
    replicated: (all) => takeAlone(all, true),
  };
  const cases = (Object.keys(STATES) as CpuState[]).flatMap((state) => (['read', 'write'] as const).map((access) => ({ state, access })));

  it('does what the table says, for each state and access', () => {
    for (const each of cases) rowA(each);
  });

  function rowA({ state, access }: (typeof cases)[number]): void {
    const all = world();
    const { space, addr, events } = all;
    STATES[state]!(all);
    events.length = 0;
    const before = space.dump();
    if (access === 'read') space.read(addr, 1);
    else space.write(addr, ONE);
    const action = CPU_TABLE[state][access];
    const wanted = state === 'zeros' && access === 'write' ? 'cow' : CAUSES[action]!;
    // What comes home, or is given up, may still lack the right to write.
    expect(causeOf(events).split(' ')[0]).toBe(wanted);
    if (action === 'nothing') expect(space.dump()).toBe(before);
    if (access === 'write') expect(space.dump()).toContain(' H');
    for (const each of machine.spaces) each.close();
    end();
  }

  it('waits for a page that is moving, and fails on one that is lost', async () => {
    const { space, addr, other, slow, events } = world();
    other.write(addr, ONE);
    slow.slow.add('toHost');
    const moving = space.readAsync(addr, 1);
    expect(CPU_TABLE.moving).toEqual({ read: 'wait', write: 'wait' });
    expect(codeOf(() => space.write(addr, ONE))).toBe('EBUSY');
    expect(machine.pending.map(({ waitsFor }) => waitsFor).join()).toContain('page lock');
    slow.slow.clear();
    slow.finish();
    await moving;
    events.length = 0;
    const { start } = space.mmap({ bytes: PAGE, special: 'pfn' });
    space.insertPfn(start, 5);
    expect(CPU_TABLE.lost).toEqual({ read: 'fail', write: 'fail' });
    expect(codeOf(() => space.read(start, 1))).toBe('EIO');
  });
});

describe('table (b): a device fault', () => {
  /** How each state is made, and the letter that the page has then. */
  const STATES: Readonly<Record<Exclude<PageState, 'moving'>, (world: World) => number>> = {
    nothing: ({ addr }) => addr,
    elsewhere: ({ space }) => space.mmap({ bytes: PAGE, shared: true }).start,
    host: ({ space, addr }) => {
      space.write(addr, ONE);
      return addr;
    },
    fixed: ({ space }) => {
      const { start } = space.mmap({ bytes: PAGE, shared: true });
      space.write(start, ONE);
      return start;
    },
    own: ({ own, addr }) => {
      own.write(addr, ONE);
      return addr;
    },
    other: ({ other, addr }) => {
      other.write(addr, ONE);
      return addr;
    },
    withheld: (all) => {
      takeAlone({ ...all, own: all.other }, false);
      return all.addr;
    },
    lost: ({ space }) => {
      const { start } = space.mmap({ bytes: PAGE, special: 'pfn' });
      space.insertPfn(start, 5);
      return start;
    },
  };
  const states = Object.keys(STATES) as (keyof typeof STATES)[];
  const cases = states.flatMap((state) =>
    (['read', 'write', 'denied'] as const).flatMap((question) => [true, false].map((hasMemory) => ({ state, question, hasMemory }))),
  );

  /** What the first thing that was done about a page can have been. */
  function actionsOf(events: readonly MachineEvent[], outcome: string): readonly string[] {
    if (outcome === 'bus error') return ['fail'];
    for (const event of events) {
      if (event.type === 'fault.cpu' && event.forDevice) return ['fault', 'map'];
      if (event.type === 'pages.migrated') return ['place'];
      if (event.type === 'pages.mapped') return ['map'];
    }
    return ['enter', 'map'];
  }

  it('does what the table says, for each state and question, with memory and without', () => {
    for (const each of cases) rowB(each);
  });

  function rowB(row: (typeof cases)[number]): void {
    const { state, question, hasMemory } = row;
    if (question === 'denied' && !['host', 'fixed', 'own', 'other'].includes(state)) return;
    if (state === 'own' && !hasMemory) return;
    const all = world();
    const addr = STATES[state](all);
    const { space, own, plain, events } = all;
    const range = { start: addr, end: addr + PAGE };
    if (question === 'denied') {
      // The right goes, and does not come back by itself to what is not the CPU's to write.
      space.mprotect(range, 'r');
      space.mprotect(range, 'rw');
      if (state === 'host') space.fork().close();
    }
    events.length = 0;
    const context = hasMemory ? own : plain;
    const outcome = context.fault(addr, question === 'read' ? 'read' : 'write');
    const action = (hasMemory ? WITH_MEMORY : WITHOUT_MEMORY)[state][question];
    expect(outcome).toBe(action === 'fail' ? 'bus error' : state === 'own' && question !== 'denied' ? 'present' : 'served');
    // Of a page on another device the choice begins with bringing it home.
    expect(actionsOf(events, outcome)).toContain(state === 'other' && action === 'place' ? 'fault' : action);
    if (action !== 'fail') {
      expect(context.reaches(addr / PAGE, question !== 'read')).toBe(true);
      expect(space.dump(range)).toMatch(hasMemory && state !== 'fixed' && state !== 'elsewhere' ? /d/i : /[hfz]/i);
    }
    space.close();
    end();
  }

  it('waits for a page that is moving', async () => {
    const { space, addr, own, other, slow } = world();
    other.write(addr, ONE);
    slow.slow.add('toHost');
    const moving = space.readAsync(addr, 1);
    expect([WITH_MEMORY.moving.read, WITHOUT_MEMORY.moving.write]).toEqual(['wait', 'wait']);
    expect(codeOf(() => own.fault(addr, 'read'))).toBe('EBUSY');
    expect(machine.pending.map(({ waitsFor }) => waitsFor).join()).toContain('page lock');
    slow.slow.clear();
    slow.finish();
    await moving;
    expect(own.read(addr, 1)).toEqual(ONE);
  });
});

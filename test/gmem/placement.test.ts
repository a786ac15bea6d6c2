/** Where a page is used: the pure choice, what is advised, and what a device's policy says. */
import {
  type AddressSpace,
  type Context,
  type DevicePolicy,
  type Machine,
  type MachineEvent,
  type Placement,
  type PlacementQuestion,
} from 'farfault';
import { afterEach, describe, expect, it } from 'vitest';
import { placementOf } from '../../sdk/policy/placement.ts';
import { expectClean, PAGE, probeDriver, smallMachine } from '../machine/probe.ts';
import { thrownBy } from '../errors/refusal.ts';

let machine: Machine;

const ONE = Uint8Array.of(1);

function world(
  policy: DevicePolicy = {},
  granulePages = 1,
): { space: AddressSpace; context: Context; other: Context; events: MachineEvent[] } {
  machine = smallMachine();
  const device = machine.addDevice(probeDriver({ name: 'one', granulePages }), policy);
  const second = machine.addDevice(probeDriver({ name: 'two' }));
  const space = machine.createAddressSpace();
  const events: MachineEvent[] = [];
  machine.onEvent((event) => events.push(event));
  return { space, context: space.attach(device), other: space.attach(second), events };
}

describe('the choice', () => {
  const nobody = { preferred: -1, accessedBy: [], readMostly: false };
  const asked: PlacementQuestion = { device: 2, vpn: 5, write: false, at: 0, isReachable: true, mayDuplicate: true, advice: undefined };

  it('is to migrate where nothing is advised and nothing chosen', () => {
    for (const at of [-1, 0, 1])
      for (const write of [false, true])
        for (const advice of [undefined, nobody])
          for (const isReachable of [false, true])
            expect(placementOf({ ...asked, at, write, advice, isReachable, mayDuplicate: !write && at >= 0 }, undefined)).toBe('migrate');
  });

  it('duplicates what is mostly read, or all that is read, if it can be', () => {
    const advice = { ...nobody, readMostly: true };
    expect(placementOf({ ...asked, advice }, undefined)).toBe('duplicate');
    expect(placementOf({ ...asked, advice, at: 1 }, undefined)).toBe('duplicate');
    expect(placementOf({ ...asked, advice }, { duplicate: 'never' })).toBe('migrate');
    expect(placementOf(asked, { duplicate: 'reads' })).toBe('duplicate');
    expect(placementOf({ ...asked, advice, mayDuplicate: false }, { duplicate: 'reads' })).toBe('migrate');
  });

  it('uses a page where it is to be, or by whom it is to be used there, unless it is to be here', () => {
    expect(placementOf({ ...asked, advice: { ...nobody, preferred: 0 } }, undefined)).toBe('remote');
    expect(placementOf({ ...asked, advice: { ...nobody, accessedBy: [2] } }, undefined)).toBe('remote');
    expect(placementOf({ ...asked, advice: { ...nobody, accessedBy: [1] } }, undefined)).toBe('migrate');
    expect(placementOf({ ...asked, advice: { ...nobody, preferred: 2, accessedBy: [2] } }, undefined)).toBe('migrate');
    expect(placementOf({ ...asked, at: -1, advice: { ...nobody, preferred: 0 } }, undefined)).toBe('remote');
    expect(placementOf({ ...asked, at: 1, advice: { ...nobody, preferred: 1 } }, undefined)).toBe('remote');
    expect(placementOf({ ...asked, at: 1, isReachable: false, advice: { ...nobody, preferred: 1 } }, undefined)).toBe('migrate');
  });

  it("is the policy's own, where it has one, as far as it can be had", () => {
    const saying = (answer: Placement): { choose(): Placement } => ({ choose: () => answer });
    for (const answer of ['migrate', 'duplicate', 'remote', 'stay'] as const) expect(placementOf(asked, saying(answer))).toBe(answer);
    expect(placementOf({ ...asked, mayDuplicate: false }, saying('duplicate'))).toBe('migrate');
    expect(placementOf({ ...asked, isReachable: false }, saying('remote'))).toBe('migrate');
    expect(() => placementOf(asked, saying('here' as Placement))).toThrow('is not one of');
  });
});

describe('a device', () => {
  afterEach(() => {
    expectClean(machine);
    machine.close();
  });

  it('uses pages on the host where that is their place, whoever touches them first', () => {
    const { space, context, events } = world();
    const range = space.mmap({ bytes: 3 * PAGE });
    space.attributes.set(range, { preferred: 'host' });
    space.write(range.start, ONE);
    context.write(range.start + 1, ONE);
    context.write(range.start + PAGE, ONE);
    context.read(range.start + 2 * PAGE, 1);
    expect(space.dump(range)).toBe('HHz');
    expect(events.flatMap((event) => (event.type === 'pages.mapped' ? [event.cause] : []))).toEqual(['advice', 'advice', 'advice']);
    expect(space.read(range.start, 2)).toEqual(Uint8Array.of(1, 1));
    space.close();
  });

  it('takes pages that other places are not advised for, and neighbours only with the same advice', () => {
    const { space, context, other } = world({}, 4);
    const range = space.mmap({ bytes: 8 * PAGE, at: 0x4000_0000, fixed: true });
    space.write(range.start, new Uint8Array(8 * PAGE).fill(3));
    space.attributes.set({ start: range.start + 2 * PAGE, end: range.end }, { preferred: 'host' });
    space.attributes.set({ start: range.start + 6 * PAGE, end: range.end }, { preferred: other.device });
    context.read(range.start, 1);
    expect(space.dump(range)).toBe('DDHHHHHH');
    context.read(range.start + 7 * PAGE, 1);
    expect(space.dump(range)).toBe('DDHHHHDD');
    space.close();
  });

  it('asks a policy of its own, which must not call the machine', () => {
    const questions: number[] = [];
    const { space, context } = world({
      placement: {
        choose(question) {
          questions.push(question.at);
          expect(thrownBy(() => space.read(0x1000, 1))).toMatchObject({ code: 'EINVAL' });
          return question.write ? 'migrate' : 'remote';
        },
      },
    });
    const { start } = space.mmap({ bytes: PAGE });
    context.read(start, 1);
    expect(space.dump()).toMatch(/z$/);
    context.write(start, ONE);
    expect(space.dump()).toMatch(/D$/);
    expect(questions).toEqual([-1, -1]);
    space.close();
  });

  it('lets a page stay where its policy says so: it uses it there, or is told that it cannot', () => {
    const { space, context, other, events } = world({ placement: { choose: () => 'stay' } });
    const range = space.mmap({ bytes: 3 * PAGE });
    space.write(range.start, ONE);
    // On the host, and what is nowhere yet: by a single access, and by a job.
    expect(context.read(range.start, 1)[0]).toBe(1);
    context.submit({ accesses: [{ op: 'write', addr: range.start + PAGE, bytes: 1, value: 7 }] });
    expect(space.dump(range)).toBe('HH.');
    expect(events.flatMap((event) => (event.type === 'pages.mapped' ? [event.cause] : []))).toEqual(['advice', 'advice']);
    // On another device, out of reach.
    const there = range.start + 2 * PAGE;
    other.write(there, Uint8Array.of(3));
    const job = (): unknown => context.submit({ accesses: [{ op: 'read', addr: there, bytes: 1 }] });
    for (const refused of [() => context.read(there, 1), () => context.write(there, ONE), job]) {
      const error = thrownBy(refused);
      expect(error).toMatchObject({ code: 'EOPNOTSUPP' });
      expect(String(error)).toContain('lets stay where it cannot be reached');
    }
    expect(context.fault(there, 'read')).toBe('out of reach');
    expect(events.flatMap((event) => (event.type === 'fault.fatal' ? [event.reason] : []))).toEqual(Array(3).fill('out of reach'));
    expect(thrownBy(() => context.atomic(there, { op: 'add', bytes: 4, operand: 1 }))).toMatchObject({ code: 'EOPNOTSUPP' });
    expect(machine.pending).toEqual([]);
    // Over a coherent link.
    machine.link(context.device, other.device, { coherent: true });
    expect(context.read(there, 1)[0]).toBe(3);
    context.submit({ accesses: [{ op: 'write', addr: there, bytes: 1, value: 4 }] });
    expect(other.read(there, 1)[0]).toBe(4);
    expect(space.holders(there).owner).toBe('two');
    expect(machine.counters.migratedByCause.home).toEqual({ pages: 0, bytes: 0 });
    space.close();
  });

  it('is refused with a policy that is none', () => {
    world().space.close();
    const refused = (policy: unknown): unknown => thrownBy(() => machine.addDevice(probeDriver({ name: 'three' }), policy as DevicePolicy));
    for (const policy of [
      { place: {} },
      { placement: 1 },
      { placement: { duplicate: 'all' } },
      { placement: { choose: 1 } },
      { placement: { x: 1 } },
    ])
      expect(refused(policy)).toMatchObject({ code: 'EINVAL' });
  });
});

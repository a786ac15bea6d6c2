/** What is advised for ranges: `space.attributes` against a list with one entry a page, and what each verb of the space does to it. */
import fc from 'fast-check';
import { type AddressSpace, type AttributeChange, type Device, type Machine, restoreMachine } from 'farfault';
import { PREFERS_HOST, PREFERS_NOTHING } from 'farfault/mm';
import { afterEach, describe, expect, it } from 'vitest';
import { expectClean, PAGE, probeDriver, smallMachine } from '../machine/probe.ts';
import { faultOf, thrownBy } from '../errors/refusal.ts';

const PAGES = 24;
const BASE = 0x1000_0000;

const at = (from: number, to: number): { start: number; end: number } => ({ start: BASE + from * PAGE, end: BASE + to * PAGE });
const vpn = (page: number): number => BASE / PAGE + page;

/** One letter a page: what is preferred (h, devices 1 2, '.'), then the others as they are. */
function shown(space: AddressSpace, pages = PAGES): string {
  return Array.from({ length: pages }, (_, page) => text(space.attributes.at(vpn(page)))).join(' ');
}

type Value = { preferred: number; accessedBy: readonly number[]; readMostly: boolean; atomics: readonly string[] | undefined };

function text(value: Value | undefined): string {
  if (!value) return '.';
  const { preferred, accessedBy, readMostly, atomics } = value;
  return `${preferred === PREFERS_NOTHING ? '-' : preferred}${accessedBy.join('')}${readMostly ? 'r' : ''}${atomics ? `(${atomics.join()})` : ''}`;
}

let machine: Machine;
afterEach(() => {
  expectClean(machine);
  machine.close();
});

function world(): { space: AddressSpace; devices: Device[] } {
  machine = smallMachine({ tables: 8 });
  const devices = ['one', 'two'].map((name) => machine.addDevice(probeDriver({ name })));
  const space = machine.createAddressSpace();
  return { space, devices };
}

describe('attributes of ranges', () => {
  it('say what a list with one entry a page says, whatever is mapped, unmapped, protected and moved, and are as few as they can be', () => {
    const place = fc.record({ from: fc.nat(PAGES - 1), pages: fc.integer({ min: 1, max: 8 }) });
    const command = fc.oneof(
      fc.record({ verb: fc.constant('set'), place, what: fc.nat(8), which: fc.nat(1) }),
      fc.record({ verb: fc.constantFrom('clear', 'munmap', 'mprotect', 'mmap'), place, what: fc.nat(8), which: fc.nat(1) }),
      fc.record({ verb: fc.constant('mremap'), place, what: fc.nat(PAGES - 1), which: fc.nat(1) }),
    );
    fc.assert(
      fc.property(fc.array(command, { maxLength: 40 }), (commands) => {
        const { space, devices } = world();
        const mapped = new Array<boolean>(PAGES).fill(true);
        const model = new Array<Value | undefined>(PAGES).fill(undefined);
        space.mmap({ bytes: PAGES * PAGE, at: BASE, fixed: true });
        for (const { verb, place, what, which } of commands) {
          const from = place.from;
          const to = Math.min(PAGES, from + place.pages);
          const range = at(from, to);
          const isMapped = mapped.slice(from, to).every(Boolean);
          if (verb === 'set') {
            const change = changes(devices[which]!)[what]!;
            if (!isMapped) {
              expect(() => space.attributes.set(range, change)).toThrow('has no mapping');
              continue;
            }
            space.attributes.set(range, change);
            for (let i = from; i < to; i++) model[i] = changed(model[i], what, which + 1);
          } else if (verb === 'clear') {
            space.attributes.clear(range);
            model.fill(undefined, from, to);
          } else if (verb === 'munmap') {
            space.munmap(range);
            model.fill(undefined, from, to);
            mapped.fill(false, from, to);
          } else if (verb === 'mprotect') {
            if (isMapped) space.mprotect(range, which ? 'r' : 'rw');
          } else if (verb === 'mmap') {
            if (mapped.slice(from, to).some(Boolean)) continue;
            space.mmap({ bytes: (to - from) * PAGE, at: range.start, fixed: true });
            mapped.fill(true, from, to);
          } else {
            const target = Math.min(what, PAGES - (to - from));
            if (target < to && from < target + (to - from)) continue;
            if (space.vmas.find(vpn(from)) !== space.vmas.find(vpn(to - 1)) || !isMapped) continue;
            space.mremap(range, { mayMove: true, to: BASE + target * PAGE, dontUnmap: which === 1 });
            for (let i = 0; i < to - from; i++) {
              model[target + i] = model[from + i];
              model[from + i] = undefined;
              mapped[target + i] = true;
              mapped[from + i] = which === 1;
            }
          }
          expect(shown(space)).toBe(model.map(text).join(' '));
          const runs = model.filter((value, i) => value !== undefined && (i === 0 || text(model[i - 1]) !== text(value))).length;
          expect(space.attributes.size).toBe(runs);
          for (let i = 0; i < PAGES; i++) {
            const end = model.findIndex((value, j) => j > i && text(value) !== text(model[i]));
            expect(space.attributes.sameUntil(vpn(i), vpn(PAGES))).toBe(vpn(end < 0 ? PAGES : end));
          }
        }
        expect(space.attributes.list().flatMap((one) => Array.from({ length: (one.end - one.start) / PAGE }, () => text(one)))).toEqual(
          model.filter((value) => value !== undefined).map(text),
        );
        space.close();
        machine.close();
      }),
      { seed: 7, numRuns: 120 },
    );
    world();
  });

  it('do not split a mapping, and do not grow with it', () => {
    const { space } = world();
    const range = space.mmap({ bytes: 4 * PAGE, at: BASE, fixed: true });
    space.attributes.set(at(1, 3), { preferred: 'host' });
    expect(space.vmas.size).toBe(1);
    space.attributes.set(at(0, 4), { readMostly: true });
    expect(shown(space, 6)).toBe('-r 0r 0r -r . .');
    space.mremap(range, { bytes: 6 * PAGE });
    expect(shown(space, 6)).toBe('-r 0r 0r -r . .');
    space.mprotect(at(2, 5), 'r');
    expect(space.vmas.size).toBe(3);
    space.mprotect(at(2, 5), 'rw');
    expect(space.vmas.size).toBe(1);
    expect(shown(space, 6)).toBe('-r 0r 0r -r . .');
  });

  it('begin anew where memory is unmapped and mapped again', () => {
    const { space, devices } = world();
    space.mmap({ bytes: 4 * PAGE, at: BASE, fixed: true });
    space.attributes.set(at(0, 4), { accessedBy: devices[1]! });
    space.munmap(at(1, 2));
    space.mmap({ bytes: PAGE, at: BASE + PAGE, fixed: true });
    expect(shown(space, 4)).toBe('-2 . -2 -2');
  });

  it('are the child’s too, of the mappings that it inherits, and its own from then on', () => {
    const { space, devices } = world();
    space.mmap({ bytes: 4 * PAGE, at: BASE, fixed: true });
    space.attributes.set(at(0, 4), { preferred: devices[0]!, readMostly: true });
    space.madvise(at(2, 3), 'dontfork');
    const child = space.fork();
    expect(shown(child, 4)).toBe('1r 1r . 1r');
    child.attributes.set(at(0, 1), { preferred: 'none', readMostly: false });
    expect(shown(child, 4)).toBe('. 1r . 1r');
    expect(shown(space, 4)).toBe('1r 1r 1r 1r');
  });

  it('outlive the attachment of a device, and forget one that leaves the machine: the next one with its number begins anew', () => {
    const { space, devices } = world();
    const [one, two] = devices as [Device, Device];
    space.mmap({ bytes: 4 * PAGE, at: BASE, fixed: true });
    const context = space.attach(one);
    space.attributes.set(at(0, 2), { preferred: one, accessedBy: one });
    space.attributes.set(at(1, 3), { accessedBy: two });
    context.detach();
    expect(shown(space, 4)).toBe('11 112 -2 .');
    const again = space.attach(one);
    again.setAttributes(at(0, 1), 7);
    expect(space.attributes.bitsAt(vpn(0), one.owner)).toBe(7);
    machine.removeDevice(one);
    expect(shown(space, 4)).toBe('. -2 -2 .');
    expect(space.attributes.size).toBe(1);
    const next = machine.addDevice(probeDriver({ name: 'next' }));
    expect(next.owner).toBe(one.owner);
    expect(space.attributes.bitsAt(vpn(0), next.owner)).toBe(0);
    expect(
      faultOf(
        thrownBy(() => space.attributes.set(at(0, 1), { preferred: one })),
        ['attributes.set.preferred'],
        'EINVAL',
      ),
    ).toBe(undefined);
  });

  it('say which atomics a device may do', () => {
    machine = smallMachine();
    const device = machine.addDevice({ ...probeDriver(), atomics: ['native', 'migrate'] });
    const space = machine.createAddressSpace();
    const context = space.attach(device);
    const { start } = space.mmap({ bytes: 2 * PAGE, at: BASE, fixed: true });
    const add = (): unknown => context.atomic(start, { op: 'add', bytes: 4, operand: 1 });
    space.write(start, Uint8Array.of(5));
    space.attributes.set(at(0, 1), { atomics: [] });
    expect(faultOf(thrownBy(add), ['atomic.addr'], 'EOPNOTSUPP')).toBe(undefined);
    space.attributes.set(at(0, 1), { atomics: ['migrate'] });
    expect(add()).toBe(5);
    expect(space.dump(at(0, 1))).toContain('D');
    space.attributes.set(at(0, 1), { atomics: [] });
    expect(faultOf(thrownBy(add), ['atomic.addr'], 'EOPNOTSUPP')).toBe(undefined);
    space.attributes.set(at(0, 1), { atomics: 'any' });
    expect(add()).toBe(6);
    expect(space.attributes.size).toBe(0);
  });

  it('are saved with the machine', async () => {
    const { space, devices } = world();
    space.mmap({ bytes: 4 * PAGE, at: BASE, fixed: true });
    space.attributes.set(at(0, 3), { preferred: devices[1]!, atomics: ['exclusive', 'native', 'native'] });
    space.attributes.set(at(1, 2), { accessedBy: devices[0]! });
    const before = shown(space, 4);
    expect(before).toBe('2(native,exclusive) 21(native,exclusive) 2(native,exclusive) .');
    const drivers = ['one', 'two'].map((name) => probeDriver({ name }));
    const restored = await restoreMachine<{ space: AddressSpace }>(machine.save({ space }), { drivers });
    expect(shown(restored.handles.space, 4)).toBe(before);
    restored.machine.close();
  });

  it('refuse what cannot be: holes, other machines, a device that is both', () => {
    const { space, devices } = world();
    const other = smallMachine();
    const stranger = other.addDevice(probeDriver());
    space.mmap({ bytes: 2 * PAGE, at: BASE, fixed: true });
    const refused = (change: AttributeChange, range = at(0, 2)): string | undefined =>
      faultOf(
        thrownBy(() => space.attributes.set(range, change)),
        ['attributes.set'],
        'EINVAL',
      );
    expect(refused({ readMostly: true }, at(0, 3))).toBe(undefined);
    expect(refused({ preferred: stranger })).toBe(undefined);
    expect(refused({ accessedBy: devices[0]!, notAccessedBy: devices[0]! })).toBe(undefined);
    expect(refused({ atomics: ['native', 'sometimes' as 'native'] })).toBe(undefined);
    expect(space.attributes.size).toBe(0);
    other.close();
  });
});

/** Changes about one device, by number. */
function changes(device: Device): AttributeChange[] {
  return [
    { preferred: device },
    { preferred: 'host' },
    { preferred: 'none' },
    { accessedBy: device },
    { notAccessedBy: device },
    { readMostly: true },
    { readMostly: false },
    { atomics: ['native'] },
    { atomics: 'any' },
  ];
}

/** The same in the list. */
function changed(old: Value | undefined, what: number, owner: number): Value | undefined {
  const value: Value = { preferred: PREFERS_NOTHING, accessedBy: [], readMostly: false, atomics: undefined, ...old };
  if (what === 0) value.preferred = owner;
  else if (what === 1) value.preferred = PREFERS_HOST;
  else if (what === 2) value.preferred = PREFERS_NOTHING;
  else if (what === 3) value.accessedBy = [...new Set([...value.accessedBy, owner])].sort();
  else if (what === 4) value.accessedBy = value.accessedBy.filter((each) => each !== owner);
  else if (what === 5) value.readMostly = true;
  else if (what === 6) value.readMostly = false;
  else value.atomics = what === 7 ? ['native'] : undefined;
  const isNothing = value.preferred === PREFERS_NOTHING && value.accessedBy.length === 0 && !value.readMostly && !value.atomics;
  return isNothing ? undefined : value;
}

/** The checker of page states: it says nothing of what is done by the rules, and names what is not. */
import { type AddressSpace, type Context, createMachineSync, type Machine, restoreMachine } from 'farfault';
import mirror from 'farfault/drivers/mirror';
import nouveau from 'farfault/drivers/nouveau';
import { afterEach, describe, expect, it } from 'vitest';
import * as L from '../../assembly/layout.ts';
import { LEGAL, type LogicalState } from '../../sdk/mm/transitions.ts';
import { PAGE, smallMachine } from '../machine/probe.ts';

let machine: Machine;
afterEach(() => machine.close());

function world(): { space: AddressSpace; contexts: Context[]; start: number } {
  machine = smallMachine({ checked: 'states' });
  const space = machine.createAddressSpace();
  const contexts = [nouveau({ vram: 16 * PAGE }), mirror()].map((driver) => space.attach(machine.addDevice(driver)));
  const { start } = space.mmap({ bytes: 8 * PAGE });
  return { space, contexts, start };
}

const reported = (): string[] => machine.strayErrors.map((error) => (error as Error).message.replace(/^.* 0x[0-9a-f]+ /, ''));

describe('the checker of states', () => {
  it('has nothing to say of faults, migrations, copies, forks and unmaps, and goes on in a restored machine', async () => {
    const { space, contexts, start } = world();
    space.write(start, Uint8Array.of(1));
    contexts[0]!.write(start, Uint8Array.of(2));
    contexts[1]!.write(start, Uint8Array.of(3));
    space.attributes.set({ start, end: start + 8 * PAGE }, { readMostly: true });
    for (const context of contexts) context.read(start, 1);
    const child = space.fork();
    child.write(start, Uint8Array.of(4));
    space.mremap({ start, end: start + 8 * PAGE }, { mayMove: true, to: 0x5000_0000 });
    contexts[0]!.write(0x5000_0000, Uint8Array.of(5));
    const restored = await restoreMachine<{ space: AddressSpace }>(machine.save({ space }), {
      drivers: [nouveau({ vram: 16 * PAGE }), mirror()],
    });
    restored.handles.space.read(0x5000_0000, 1);
    expect(restored.machine.strayErrors).toEqual([]);
    restored.machine.close();
    child.close();
    space.close();
    expect(machine.strayErrors).toEqual([]);
    expect(machine.verify()).toBe(undefined);
  });

  it('reports a page that is on a device without having migrated', () => {
    const { space, start } = world();
    space.write(start, Uint8Array.of(1));
    machine.platform.core.exports.rangeProtect(space.table, start / PAGE, 1, L.ENTRY_KIND, L.KIND_PROTNONE);
    space.read(start + PAGE, 1);
    expect(reported()).toEqual([]);
    space.write(start + PAGE, Uint8Array.of(1));
    machine.platform.core.exports.rangeProtect(space.table, start / PAGE + 1, 1, L.ENTRY_KIND, L.KIND_DEVICE_PRIVATE);
    space.read(start + 2 * PAGE, 1);
    expect(reported()).toEqual(['goes from host to device, which is not legal']);
  });

  it('reports a page that may be written while a device has a copy of it', () => {
    const { space, contexts, start } = world();
    space.attributes.set({ start, end: start + PAGE }, { readMostly: true });
    space.write(start, Uint8Array.of(1));
    contexts[0]!.read(start, 1);
    machine.platform.core.exports.rangeProtect(space.table, start / PAGE, 1, 0, L.ENTRY_WRITE);
    space.read(start, 1);
    expect(new Set(reported())).toEqual(new Set(['may change, and nouveau has a copy of it']));
    machine.platform.core.exports.rangeProtect(space.table, start / PAGE, 1, L.ENTRY_WRITE, 0);
  });

  it('knows every state, and no way between host and device but by migration', () => {
    const states = Object.keys(LEGAL) as LogicalState[];
    for (const to of Object.values(LEGAL)) expect(to.every((state) => states.includes(state))).toBe(true);
    for (const from of states) expect(LEGAL[from]).toContain('nothing');
    expect([LEGAL.host.includes('device'), LEGAL.device.includes('host'), LEGAL.lost.length]).toEqual([false, false, 2]);
    machine = createMachineSync({ checked: false });
  });
});

/** Address spaces that are no process's, several of them, ranges that are one device's alone; devices, their nodes and what these may hold. */
import { afterEach, describe, expect, test } from 'vitest';
import { createMachineSync, MiB, type Machine, restoreMachine, type AddressSpace, type Context } from 'farfault';
import mirror from 'farfault/drivers/mirror';
import { faultOf, rejectedBy, thrownBy } from '../errors/refusal.ts';
import { expectClean, PAGE, Probe, probeDriver, smallMachine, used } from '../machine/probe.ts';

let machine: Machine;
afterEach(() => machine?.close());

const at = (where: { read(addr: number, bytes: number): Uint8Array }, addr: number): number => where.read(addr, 1)[0]!;

describe('an address space without a CPU', () => {
  test('is what devices have in common: what one writes, the other reads', () => {
    machine = smallMachine();
    const space = machine.createAddressSpace({ cpu: false });
    const one = space.attach(machine.addDevice(probeDriver({ name: 'one' })));
    const two = space.attach(machine.addDevice(mirror()));
    const range = space.mmap({ bytes: 4 * PAGE });
    one.write(range.start, new Uint8Array(4 * PAGE).fill(3));
    expect(space.dump(range)).toBe('DDDD');
    expect(at(two, range.start + PAGE)).toBe(3);
    one.migrate(range, { to: 'host' });
    two.write(range.start, Uint8Array.of(4));
    expect(at(one, range.start)).toBe(4);
    expect(space.tlbCounts).toEqual({ hit: 0, miss: 0 });
    expectClean(machine);
    space.mprotect(range, 'r');
    expect(() => one.write(range.start, Uint8Array.of(1))).toThrow('without the right');
    space.close();
    expect(used(machine)).toBe('dram 0, one.ram 0');
    expectClean(machine);
  });

  test('is not read or written by a program, and neither is its child', () => {
    machine = smallMachine();
    const space = machine.createAddressSpace({ cpu: false });
    const { start } = space.mmap({ bytes: PAGE });
    const child = space.fork();
    for (const each of [space, child]) {
      expect(() => each.read(start, 1)).toThrow('has no CPU');
      expect(() => each.write(start, Uint8Array.of(1))).toThrow('has no CPU');
      expect(() => each.tryRead(start, new Uint8Array(1))).toThrow('has no CPU');
      expect(each.hasCpu).toBe(false);
      each.close();
    }
    expectClean(machine);
  });

  test('is restored as it was', async () => {
    machine = smallMachine();
    const space = machine.createAddressSpace({ cpu: false });
    const context = space.attach(machine.addDevice(mirror()));
    const { start } = space.mmap({ bytes: PAGE });
    context.write(start, Uint8Array.of(7));
    const { machine: again, handles } = await restoreMachine<{ space: AddressSpace; context: Context }>(machine.save({ space, context }), {
      drivers: [mirror()],
    });
    expect([at(handles.context, start), handles.space.hasCpu]).toEqual([7, false]);
    expectClean(again);
    again.close();
  });
});

test('an address space with a range maps nothing outside of it, and lets all go when it ends', () => {
  machine = smallMachine();
  const space = machine.createAddressSpace({ range: { start: 16 * PAGE, end: 32 * PAGE } });
  const first = space.mmap({ bytes: 8 * PAGE });
  expect(first.start).toBe(16 * PAGE);
  space.write(first.start, new Uint8Array(8 * PAGE).fill(1));
  expect(() => space.mmap({ bytes: PAGE, at: 15 * PAGE, fixed: true })).toThrow('is not in the range of the address space');
  expect(() => space.mmap({ bytes: 2 * PAGE, at: 31 * PAGE, fixed: true })).toThrow('is not in the range of the address space');
  expect(space.mmap({ bytes: PAGE, at: 2 * PAGE }).start).toBe(24 * PAGE);
  expect(() => space.mmap({ bytes: 8 * PAGE })).toThrow('has no gap');
  expect(() => space.mremap(first, { bytes: 9 * PAGE, mayMove: true })).toThrow('has no gap');
  expect(() => space.mremap(first, { bytes: 8 * PAGE, mayMove: true, to: 28 * PAGE })).toThrow('is not in the range');
  expect(() => space.fork().mmap({ bytes: 8 * PAGE })).toThrow('has no gap');
  for (const each of machine.spaces) each.close();
  expect([used(machine), machine.spaces]).toEqual(['dram 0', []]);
  expectClean(machine);
});

test('several devices in several address spaces of one program keep all of them apart', () => {
  machine = smallMachine();
  const devices = ['one', 'two'].map((name) => machine.addDevice(probeDriver({ name })));
  const spaces = [machine.createAddressSpace(), machine.createAddressSpace(), machine.createAddressSpace({ cpu: false })];
  const all = spaces.map((space) => ({
    space,
    contexts: devices.map((device) => space.attach(device)),
    range: space.mmap({ bytes: 2 * PAGE }),
  }));
  expect(new Set(all.map(({ range }) => range.start)).size).toBe(1);
  all.forEach(({ contexts, range }, i) =>
    contexts.forEach((context, k) => context.write(range.start + k * PAGE, Uint8Array.of(10 * i + k))),
  );
  all.forEach(({ contexts, range }, i) => {
    expect([at(contexts[1]!, range.start), at(contexts[0]!, range.start + PAGE)]).toEqual([10 * i, 10 * i + 1]);
  });
  expect(at(spaces[1]!, all[1]!.range.start)).toBe(10);
  expectClean(machine);
  spaces[0]!.close();
  expect(at(all[2]!.contexts[0]!, all[2]!.range.start + PAGE)).toBe(21);
  for (const space of spaces) space.close();
  expect(used(machine)).toBe('dram 0, one.ram 0, two.ram 0');
  expectClean(machine);
});

describe('a private range of a device', () => {
  function world(): { space: AddressSpace; context: Context; other: Context } {
    machine = smallMachine();
    const space = machine.createAddressSpace();
    const context = space.attach(machine.addDevice(probeDriver({ name: 'owner', pages: 8 })));
    return { space, context, other: space.attach(machine.addDevice(probeDriver({ name: 'other' }))) };
  }

  test('is in its memory from the beginning, and nobody else’s: not the CPU’s, not another device’s', () => {
    const { space, context, other } = world();
    const range = context.reserve({ bytes: 4 * PAGE });
    expect(space.dump(range)).toBe('DDDD');
    context.write(range.start + PAGE, Uint8Array.of(5));
    expect([at(context, range.start), at(context, range.start + PAGE)]).toEqual([0, 5]);
    expect(machine.counters.deviceFaults['owner'] ?? 0).toBeLessThanOrEqual(2);
    for (const each of [space, other]) {
      expect(() => each.read(range.start, 1)).toThrow('without the right');
      expect(() => each.write(range.start, Uint8Array.of(1))).toThrow('without the right');
    }
    expect(() => space.pin(range)).toThrow('without the right');
    expect(at(context, range.start + PAGE)).toBe(5);
    context.free(range);
    expect(used(machine)).toBe('dram 0, owner.ram 0, other.ram 0');
    expectClean(machine);
  });

  test('is not given away by mmap, not changed by the program, and not inherited', () => {
    const { space, context } = world();
    const range = context.reserve({ bytes: PAGE });
    const next = space.mmap({ bytes: PAGE });
    expect(next.start).toBe(range.end);
    expect(() => space.mmap({ bytes: PAGE, at: range.start, fixed: true })).toThrow('is mapped already');
    for (const change of [
      () => space.munmap(range),
      () => space.munmap({ start: range.start, end: next.end }),
      () => space.mprotect(range, 'r'),
      () => space.madvise(range, 'dontneed'),
      () => space.hmadvise(range, 'dontneed'),
      () => space.hmadvise({ start: 0, end: 2 ** 40 }, 'dontneed'),
      () => space.mremap(range, { bytes: 2 * PAGE, mayMove: true }),
      () => space.mremap(next, { bytes: PAGE, mayMove: true, to: range.start }),
    ])
      expect(change).toThrow('is a private range of a device');
    const child = space.fork();
    expect(child.dump(range)).toBe('-');
    child.close();
    context.detach();
    expect(space.dump(range)).toBe('-');
    expectClean(machine);
  });

  test('is not copied from or to by the program, and goes nowhere', () => {
    const { space, context, other } = world();
    const range = context.reserve({ bytes: 2 * PAGE });
    const beside = other.reserve({ bytes: PAGE, at: range.end });
    context.write(range.start, Uint8Array.of(99));
    const own = space.mmap({ bytes: PAGE });
    space.write(own.start, Uint8Array.of(7));
    for (const [dest, src] of [
      [own.start, range.start],
      [range.start, own.start],
    ] as const)
      expect(space.hmemcpy(dest, src, 1)).toMatchObject({ status: 'failed', errors: [{ bytes: 1, reason: 'permission' }] });
    expect([at(space, own.start), at(context, range.start)]).toEqual([7, 99]);
    const both = { start: range.start, end: beside.end };
    expect([other.migrate(both, { to: 'device' }), context.migrate(both, { to: 'host' })]).toEqual([0, 0]);
    for (const device of [other.device, 'host'] as const)
      expect(space.hmadvise(range, 'prefetch', { device })).toMatchObject({ status: 'failed', failed: 2, reason: 'not movable' });
    expect(space.hmadvise(range, 'prefetch', { device: context.device })).toMatchObject({ status: 'done', pages: 2 });
    expect(at(context, range.start)).toBe(99);
    space.close();
    expectClean(machine);
  });

  test('is no other device’s while it gets its pages', async () => {
    const space = (machine = smallMachine()).createAddressSpace();
    const probe = new Probe({ name: 'owner', pages: 8 });
    const context = space.attach(machine.addDevice(probe.driver));
    const other = space.attach(machine.addDevice(probeDriver({ name: 'other' })));
    probe.slow.add('zero');
    const reserved = context.reserveAsync({ bytes: 2 * PAGE, at: 64 * PAGE });
    expect(probe.unfinished).toBe(1);
    expect(other.migrate({ start: 64 * PAGE, end: 66 * PAGE }, { to: 'device' })).toBe(0);
    probe.finish();
    expect(space.dump(await reserved)).toBe('DD');
    expect(used(machine)).toBe('dram 0, owner.ram 2, other.ram 0');
    expectClean(machine);
  });

  test('stays in a memory that is full: its pages are no victims', () => {
    const { space, context } = world();
    const range = context.reserve({ bytes: 6 * PAGE });
    context.write(range.start, new Uint8Array(6 * PAGE).fill(9));
    const big = space.mmap({ bytes: 16 * PAGE });
    for (let i = 0; i < 16; i++) context.write(big.start + i * PAGE, Uint8Array.of(i));
    expect(space.dump(range)).toBe('DDDDDD');
    for (let i = 0; i < 16; i++) expect(at(space, big.start + i * PAGE)).toBe(i);
    expect(at(context, range.start + 5 * PAGE)).toBe(9);
    expectClean(machine);
    space.close();
    expect(used(machine)).toBe('dram 0, owner.ram 0, other.ram 0');
    expectClean(machine);
  });

  test('ends with an exec, its pages too: what is mapped there afterwards is an ordinary mapping', () => {
    const { space, context } = world();
    const range = context.reserve({ bytes: 4 * PAGE });
    context.write(range.start, Uint8Array.of(99));
    space.exec();
    expect([used(machine), context.reserved]).toEqual(['dram 0, owner.ram 0, other.ram 0', []]);
    expect(space.mmap({ bytes: 4 * PAGE })).toEqual(range);
    space.write(range.start, Uint8Array.of(7));
    expect(() => context.free(range)).toThrow('has reserved');
    expect([at(context, range.start), at(space, range.start)]).toEqual([7, 7]);
    expectClean(machine);
  });

  test.each(['core', 'driver'] as const)('stays, with its bytes, when a detach fails (pages from the %s)', (allocator) => {
    machine = smallMachine({ dram: 4 * PAGE });
    const device = machine.addDevice(probeDriver({ name: 'owner', pages: 8, allocator }));
    const space = machine.createAddressSpace();
    const context = space.attach(device);
    const range = context.reserve({ bytes: 2 * PAGE });
    context.write(range.start, Uint8Array.of(99));
    const pinned = space.mmap({ bytes: 4 * PAGE });
    space.write(pinned.start, new Uint8Array(4 * PAGE).fill(5));
    space.hmadvise(pinned, 'pinned', { device });
    const full = space.mmap({ bytes: 4 * PAGE });
    space.write(full.start, new Uint8Array(4 * PAGE).fill(6));
    const before = [used(machine), space.dump(pinned)];
    expect(
      faultOf(
        thrownBy(() => context.detach()),
        ['detach'],
        'EAGAIN',
      ),
    ).toBe(undefined);
    expect([used(machine), space.dump(pinned)]).toEqual(before);
    expect([context.reserved.length, space.devicePins.size, context.isAttached]).toEqual([1, 4, true]);
    expect([at(context, range.start), at(context, pinned.start)]).toEqual([99, 5]);
    space.munmap({ start: full.start, end: full.end - PAGE });
    expect(
      faultOf(
        thrownBy(() => context.detach()),
        ['detach'],
        'EAGAIN',
      ),
    ).toBe(undefined);
    // What has come home is not pinned any more.
    expect([space.dump(pinned), space.devicePins.size, at(context, range.start)]).toEqual(['HHHD', 1, 99]);
    space.munmap(full);
    context.detach();
    expect([space.dump(pinned), space.dump(range), used(machine)]).toEqual(['HHHH', '--', 'dram 4, owner.ram 0']);
    expect(at(space, pinned.end - 1)).toBe(5);
    space.close();
    expectClean(machine);
  });

  test('stays when the last detach of a device fails for a page that only a child has', () => {
    machine = smallMachine({ dram: PAGE, tables: 16 });
    const context = machine.createAddressSpace().attach(machine.addDevice(probeDriver({ name: 'owner', allocator: 'driver' })));
    const { space } = context;
    const own = context.reserve({ bytes: 2 * PAGE });
    context.write(own.start, Uint8Array.of(99));
    const range = space.mmap({ bytes: PAGE });
    context.write(range.start, Uint8Array.of(5));
    const child = space.fork();
    space.munmap(range);
    space.write(space.mmap({ bytes: PAGE, at: range.start, fixed: true }).start, Uint8Array.of(1));
    expect(() => context.detach()).toThrow('another address space has it');
    expect([used(machine), at(context, own.start)]).toEqual(['dram 1, owner.ram 3', 99]);
    space.munmap(range);
    context.detach();
    expect([used(machine), space.dump(), at(child, range.start)]).toEqual(['dram 1, owner.ram 0', '', 5]);
    expectClean(machine);
  });

  test('that an exec overtakes comes to nothing, and takes nothing of what is mapped there since', async () => {
    machine = smallMachine();
    const probe = new Probe({ name: 'owner' });
    const device = machine.addDevice(probe.driver);
    const [space, busy] = [machine.createAddressSpace(), machine.createAddressSpace()];
    const [context, theirs] = [space.attach(device), busy.attach(device)];
    const range = busy.mmap({ bytes: PAGE });
    busy.write(range.start, Uint8Array.of(1));
    probe.slow.add('toDevice');
    const first = theirs.migrateAsync(range, { to: 'device' });
    const reserved = rejectedBy(() => context.reserveAsync({ bytes: 2 * PAGE }));
    expect(machine.pending.map(({ steps }) => steps)).toEqual([
      ['move range', 'migrate'],
      ['reserve', 'move range'],
    ]);
    space.exec();
    expect(context.reserved).toEqual([]);
    const { start } = space.mmap({ bytes: 2 * PAGE });
    space.write(start, new Uint8Array(2 * PAGE).fill(7));
    probe.slow.clear();
    probe.finish();
    await first;
    expect(faultOf(await reserved, ['reserve'], 'EFAULT')).toBe(undefined);
    expect([at(space, start), at(context, start + PAGE)]).toEqual([7, 7]);
    for (const each of [space, busy]) each.close();
    expect(used(machine)).toBe('dram 0, owner.ram 0');
    expectClean(machine);
  });

  test.each(['allocPage', 'zero'] as const)('is not there when the driver throws (%s) while its pages are on their way', (operation) => {
    machine = smallMachine();
    const probe = new Probe({ name: 'owner', allocator: 'driver' });
    const device = machine.addDevice(probe.driver);
    const space = machine.createAddressSpace();
    const context = space.attach(device);
    const ordinary = space.mmap({ bytes: PAGE });
    probe.broken.add(operation);
    expect(thrownBy(() => context.reserve({ bytes: 4 * PAGE }))).toMatchObject({ code: 'ENODEV' });
    expect([context.reserved, space.vmas.size, used(machine)]).toEqual([[], 1, 'dram 0, owner.ram 0']);
    probe.broken.clear();
    device.reset();
    expect(context.reserve({ bytes: 4 * PAGE }).start).toBe(ordinary.end);
    space.close();
    expect(used(machine)).toBe('dram 0, owner.ram 0');
    expectClean(machine);
  });

  test('goes when its space is reaped', () => {
    const { space, context } = world();
    context.reserve({ bytes: 4 * PAGE });
    expect(machine.oomReap(space)).toBe(4);
    expect([used(machine), context.reserved]).toEqual(['dram 0, owner.ram 0, other.ram 0', []]);
    space.close();
    expectClean(machine);
  });

  test('is all or nothing, and for a device with private memory', () => {
    const { space, context } = world();
    expect(() => context.reserve({ bytes: 9 * PAGE })).toThrow('do not fit the memory of owner');
    expect([space.dump(), used(machine)]).toEqual(['', 'dram 0, owner.ram 0, other.ram 0']);
    expect(() => space.attach(machine.addDevice(mirror())).reserve({ bytes: PAGE })).toThrow('has no private memory');
    const range = context.reserve({ bytes: PAGE, at: 64 * PAGE });
    expect(range.start).toBe(64 * PAGE);
    expect(() => context.reserve({ bytes: PAGE, at: 64 * PAGE })).toThrow('is mapped already');
    expect(() => context.free({ start: range.start, end: range.end + PAGE })).toThrow('has reserved');
    expect(() => machine.removeDevice(context.device)).toThrow('could not be brought home');
    context.free(range);
    machine.removeDevice(context.device);
    expectClean(machine);
  });
});

describe('nodes', () => {
  test('of devices have numbers above the host’s, the lowest that is free; a space may use those of its devices', () => {
    machine = smallMachine();
    const one = machine.addDevice(probeDriver({ name: 'one' }));
    machine.addDevice(probeDriver({ name: 'two' }));
    const space = machine.createAddressSpace();
    const shown = (): string[] => machine.nodes.map(({ id, name, device }) => `${id} ${name} ${device}`);
    expect(shown()).toEqual(['1 dram undefined', '2 one.ram one', '3 two.ram two']);
    space.attach(one);
    expect([0, 1, 2, 3, 9].map((id) => space.allows(id))).toEqual([true, true, true, false, false]);
    machine.removeDevice(one);
    expect(space.allows(2)).toBe(false);
    machine.addDevice(probeDriver({ name: 'three' }));
    expect(shown()).toEqual(['1 dram undefined', '2 three.ram three', '3 two.ram two']);
    expectClean(machine);
  });

  test('have a limit, in whole granules, not below what is in use; what does not fit is evicted', () => {
    machine = smallMachine();
    const space = machine.createAddressSpace();
    const device = machine.addDevice(probeDriver({ granulePages: 2 }));
    const context = space.attach(device);
    const [memory] = device.memories;
    const range = space.mmap({ bytes: 16 * PAGE });
    memory!.limit(5 * PAGE);
    expect(memory!.maxBytes).toBe(4 * PAGE);
    for (let i = 0; i < 16; i++) context.write(range.start + i * PAGE, Uint8Array.of(i));
    expect(machine.nodes[1]).toMatchObject({ used: 4, peak: 4, frames: 16 });
    expect(() => memory!.limit(2 * PAGE)).toThrow('bytes in use');
    expect(() => memory!.limit(PAGE)).toThrow();
    for (let i = 0; i < 16; i++) expect(at(space, range.start + i * PAGE)).toBe(i);
    memory!.limit(0);
    context.migrate(range, { to: 'device' });
    expect(machine.nodes[1]!.used).toBe(16);
    expectClean(machine);
  });
});

describe('devices', () => {
  test('have numbers, the lowest that is free, and names that are free when they have gone', () => {
    machine = smallMachine();
    const add = (name: string): number => machine.addDevice(probeDriver({ name, pages: 1 })).owner;
    expect([add('one'), add('two'), add('three')]).toEqual([1, 2, 3]);
    machine.removeDevice(machine.devices[1]!);
    expect([add('four'), add('five')]).toEqual([2, 4]);
    expect(() => add('one')).toThrow('is the name of a device of this machine already');
    machine.removeDevice(machine.devices[0]!);
    expect(add('one')).toBe(1);
    expectClean(machine);
  });

  test('cannot be added to a machine that was made without', () => {
    machine = createMachineSync({ dram: MiB, gmem: false });
    expect(() => machine.addDevice(mirror())).toThrow('made without devices');
    const space = machine.createAddressSpace();
    space.write(space.mmap({ bytes: PAGE }).start, Uint8Array.of(1));
    expect(machine.devices).toEqual([]);
    expectClean(machine);
  });
});

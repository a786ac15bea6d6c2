import { afterEach, describe, expect, test } from 'vitest';
import { type AddressRange, type AddressSpace, type Context, createMachineSync, isFarfaultError, type Machine, MiB } from 'farfault';
import { defineDriver, type Driver, type MemoryDescription } from 'farfault/gmem';
import { expectClean, PAGE, Probe, smallMachine, used } from './probe.ts';

let machine: Machine;

afterEach(() => machine.close());

const memory = (name: string, pages: number, more: Partial<MemoryDescription> = {}): MemoryDescription => ({
  name,
  kind: 'private',
  bytes: pages * PAGE,
  ...more,
});

/** A device with these memories and nothing of its own besides. */
const gpu = defineDriver(({ name = 'gpu', memories = [memory('hbm', 16)] }: { name?: string; memories?: MemoryDescription[] }): Driver => ({
  name,
  memory: memories,
  attach: () => ({}),
}));

function fill(space: AddressSpace, { start, end }: AddressRange): void {
  for (let addr = start, i = 1; addr < end; addr += PAGE, i++) space.write(addr, Uint8Array.of(i));
}

const first = (from: { read(addr: number, bytes: number): Uint8Array }, { start, end }: AddressRange): number[] =>
  Array.from({ length: (end - start) / PAGE }, (_, i) => from.read(start + i * PAGE, 1)[0]!);

const upTo = (n: number): number[] => Array.from({ length: n }, (_, i) => i + 1);

function refused(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    if (isFarfaultError(error)) return `${error.code}: ${error.message}`;
    throw error;
  }
  return 'done';
}

describe('a memory that is plugged in', () => {
  test('takes pages, by its index, and the first one by default', () => {
    machine = smallMachine();
    const device = machine.addDevice(gpu({ memories: [memory('hbm', 4)] }));
    const space = machine.createAddressSpace();
    const context = space.attach(device);
    const added = device.addMemory(memory('gddr', 8));
    expect(device.memories.map(({ index, node }) => `${index} ${node.name} ${node.frames}`)).toEqual(['0 gpu.hbm 4', '1 gpu.gddr 8']);
    const range = space.mmap({ bytes: 8 * PAGE });
    fill(space, range);
    const low = { start: range.start, end: range.start + 2 * PAGE };
    const high = { start: low.end, end: range.end };
    expect(context.migrate(low, { to: 'device' })).toBe(2);
    expect(context.migrate(high, { to: 'device', memory: added.index })).toBe(6);
    expect(used(machine)).toBe('dram 0, gpu.hbm 2, gpu.gddr 6');
    expect(first(context, range)).toEqual(upTo(8));
    expect(first(space, range)).toEqual(upTo(8));
    expectClean(machine);
  });

  test('begins without a limit, though a space had one of the memory with its index before', () => {
    machine = smallMachine();
    const device = machine.addDevice(gpu());
    const space = machine.createAddressSpace();
    const context = space.attach(device);
    const before = device.addMemory(memory('before', 4));
    context.limit(PAGE, before.index);
    device.removeMemory(before);
    const added = device.addMemory(memory('added', 4));
    expect(added.index).toBe(before.index);
    const range = space.mmap({ bytes: 4 * PAGE });
    fill(space, range);
    expect(context.migrate(range, { to: 'device', memory: added.index })).toBe(4);
    expectClean(machine);
  });

  test('serves a device that had none', () => {
    machine = smallMachine();
    const device = machine.addDevice(gpu({ memories: [] }));
    const space = machine.createAddressSpace();
    const context = space.attach(device);
    const range = space.mmap({ bytes: 2 * PAGE });
    fill(space, range);
    expect(first(context, range)).toEqual([1, 2]);
    expect(space.dump(range)).toBe('HH');
    device.addMemory(memory('hbm', 4));
    expect(context.migrate(range, { to: 'device' })).toBe(2);
    expect(first(context, range)).toEqual([1, 2]);
    expect(space.dump(range)).toBe('DD');
    expectClean(machine);
  });

  test('must not have a name that is taken, nor break the rules of a description', () => {
    machine = smallMachine();
    const device = machine.addDevice(gpu());
    const before = used(machine);
    expect(refused(() => device.addMemory(memory('hbm', 4)))).toBe('EINVAL: node name "gpu.hbm" is taken');
    expect(refused(() => device.addMemory(memory('more', 4, { allocator: 'driver' })))).toContain(
      'is not for a memory that is added later',
    );
    expect(refused(() => device.addMemory(memory('more', 4, { kind: 'coherent', bytesIn: 'metadata' })))).toContain("is not 'backed'");
    expect(refused(() => device.addMemory(memory('more', 0)))).toContain('is not a positive multiple of 4096');
    expect(used(machine)).toBe(before);
    expectClean(machine);
  });

  test('finds no room: ENOMEM says what there is, and nothing has changed', () => {
    machine = smallMachine({ dram: 1 * MiB, deviceMemory: 64 * PAGE });
    const device = machine.addDevice(gpu());
    const answer = refused(() => device.addMemory(memory('more', 64)));
    expect(answer).toBe(
      'ENOMEM: gpu.more bytes 262144 do not fit the machine: 196608 bytes are left in one piece; give createMachine more deviceMemory',
    );
    expect(device.memories.length).toBe(1);
    device.addMemory(memory('more', 48));
    expectClean(machine);
  });

  test('finds no physical addresses: the limit is the machine’s, not the bytes’', () => {
    // 16 MiB of addresses: frame numbers below 4096.
    machine = smallMachine({ dram: 1 * MiB, deviceMemory: 32 * MiB, physicalBits: 24 });
    const device = machine.addDevice(gpu());
    expect(refused(() => device.addMemory(memory('more', 4096)))).toMatch(
      /^ENOMEM: gpu.more pages 4096 do not fit .* give createMachine more physicalBits$/,
    );
    const added = device.addMemory(memory('more', 2048));
    expect(added.node.base + added.node.frames).toBeLessThanOrEqual(4096);
    expectClean(machine);
  });

  test('cannot have a machine whose own memory is beyond its addresses', () => {
    expect(refused(() => createMachineSync({ dram: 16 * MiB, physicalBits: 24 }))).toContain(
      'createMachine.physicalBits 24 cannot address',
    );
    expect(refused(() => createMachineSync({ physicalBits: 8 }))).toContain('is not a count between 24 and 52');
    machine = smallMachine();
  });
});

describe('a memory that is unplugged', () => {
  test('gives everything back, to every space that mapped it, and its place is free for another', () => {
    machine = smallMachine({ deviceMemory: 40 * PAGE });
    const device = machine.addDevice(gpu({ memories: [memory('hbm', 16), memory('gddr', 16)] }));
    const ranges: [AddressSpace, AddressRange, Context][] = [];
    for (let i = 0; i < 2; i++) {
      const space = machine.createAddressSpace();
      const context = space.attach(device);
      const range = space.mmap({ bytes: 6 * PAGE });
      fill(space, range);
      expect(context.migrate(range, { to: 'device', memory: 1 })).toBe(6);
      ranges.push([space, range, context]);
    }
    expect(used(machine)).toBe('dram 0, gpu.hbm 0, gpu.gddr 12');
    const { base } = device.memories[1]!.node;
    device.removeMemory(device.memories[1]!);
    expect(used(machine)).toBe('dram 12, gpu.hbm 0');
    expect(machine.counters.migratedByCause.unplug?.pages).toBe(12);
    for (const [space, range] of ranges) expect(first(space, range)).toEqual(upTo(6));
    // Another one, as large, fits only where the old one was.
    const again = device.addMemory(memory('other', 16));
    expect([again.index, again.node.base]).toEqual([1, base]);
    for (const [space, range, context] of ranges) {
      expect(context.migrate(range, { to: 'device', memory: 1 })).toBe(6);
      expect(first(context, range)).toEqual(upTo(6));
      expect(first(space, range)).toEqual(upTo(6));
    }
    expectClean(machine);
  });

  test('keeps the indices of the others', () => {
    machine = smallMachine();
    const device = machine.addDevice(gpu({ memories: [memory('a', 4), memory('b', 4), memory('c', 4)] }));
    const space = machine.createAddressSpace();
    const context = space.attach(device);
    device.removeMemory(device.memories[0]!);
    expect(device.memories.map(({ index, node }) => `${index} ${node.name}`)).toEqual(['1 gpu.b', '2 gpu.c']);
    const range = space.mmap({ bytes: PAGE });
    fill(space, range);
    expect(refused(() => context.migrate(range, { to: 'device', memory: 0 }))).toBe(
      'EINVAL: migrate.memory 0 is not the index of a memory of gpu',
    );
    expect(context.migrate(range, { to: 'device', memory: 2 })).toBe(1);
    expect(used(machine)).toBe('dram 0, gpu.b 0, gpu.c 1');
    expect(device.addMemory(memory('a', 4)).index).toBe(0);
    expectClean(machine);
  });

  test('stays, and stays usable, as long as a page cannot leave it', () => {
    // Six pages of host memory, all of them in use.
    machine = smallMachine({ dram: 6 * PAGE });
    const device = machine.addDevice(gpu());
    const space = machine.createAddressSpace();
    const context = space.attach(device);
    const range = space.mmap({ bytes: 4 * PAGE });
    fill(space, range);
    context.migrate(range, { to: 'device' });
    const rest = space.mmap({ bytes: 5 * PAGE });
    fill(space, rest);
    expect(refused(() => device.removeMemory(device.memories[0]!))).toBe(
      'EBUSY: removeMemory "gpu.hbm" keeps 3 pages that could not be brought home: they are pinned, or host memory is exhausted',
    );
    expect(used(machine)).toBe('dram 6, gpu.hbm 3');
    expect(first(context, range)).toEqual(upTo(4));
    expectClean(machine);
    space.munmap(rest);
    device.removeMemory(device.memories[0]!);
    expect(used(machine)).toBe('dram 4');
    expect(first(space, range)).toEqual(upTo(4));
    expectClean(machine);
  });

  test('waits for a migration that is under way', async () => {
    machine = smallMachine();
    const probe = new Probe({ pages: 8 });
    const device = machine.addDevice(probe.driver);
    const space = machine.createAddressSpace();
    const context = space.attach(device);
    const range = space.mmap({ bytes: 3 * PAGE });
    fill(space, range);
    probe.slow.add('toDevice');
    const moving = context.migrateAsync(range, { to: 'device' });
    const removal = device.removeMemoryAsync(device.memories[0]!);
    expect(machine.pending.length).toBe(2);
    probe.finish();
    expect(await moving).toBe(3);
    await removal;
    expect(used(machine)).toBe('dram 3');
    expect(first(space, range)).toEqual([1, 2, 3]);
    expect(first(context, range)).toEqual([1, 2, 3]);
    expectClean(machine);
  });

  test('waits for the page that a CPU access is bringing home', async () => {
    machine = smallMachine();
    const probe = new Probe({ pages: 8 });
    const device = machine.addDevice(probe.driver);
    const space = machine.createAddressSpace();
    const context = space.attach(device);
    const range = space.mmap({ bytes: 2 * PAGE });
    fill(space, range);
    context.migrate(range, { to: 'device' });
    probe.slow.add('toHost');
    const reading = space.readAsync(range.start, 1);
    const removal = device.removeMemoryAsync(device.memories[0]!);
    while (probe.unfinished > 0) probe.finish();
    expect([...(await reading)]).toEqual([1]);
    await removal;
    expect(used(machine)).toBe('dram 2');
    expect(first(space, range)).toEqual([1, 2]);
    expectClean(machine);
  });

  test('cannot be unplugged twice, nor by another device', () => {
    machine = smallMachine();
    const device = machine.addDevice(gpu());
    const other = machine.addDevice(gpu({ name: 'other' }));
    const [hbm] = device.memories;
    expect(refused(() => other.removeMemory(hbm!))).toContain('is not a memory of other');
    device.removeMemory(hbm!);
    expect(refused(() => device.removeMemory(hbm!))).toContain('is not a memory of gpu');
    expect(used(machine)).toBe('dram 0, other.hbm 0');
    expectClean(machine);
  });
});

describe('several memories of one device', () => {
  test('exchange pages by way of the host, and only those of the one that is named come home', () => {
    machine = smallMachine();
    const device = machine.addDevice(gpu({ memories: [memory('a', 8), memory('b', 8)] }));
    const space = machine.createAddressSpace();
    const context = space.attach(device);
    const range = space.mmap({ bytes: 6 * PAGE });
    fill(space, range);
    expect(context.migrate(range, { to: 'device' })).toBe(6);
    expect(context.migrate({ start: range.start, end: range.start + 2 * PAGE }, { to: 'device', memory: 1 })).toBe(2);
    expect(used(machine)).toBe('dram 0, gpu.a 4, gpu.b 2');
    expect(first(context, range)).toEqual(upTo(6));
    expect(context.migrate(range, { to: 'host', memory: 0 })).toBe(4);
    expect(space.dump(range)).toBe('DDHHHH');
    expect(context.migrate(range, { to: 'host' })).toBe(2);
    expect(used(machine)).toBe('dram 6, gpu.a 0, gpu.b 0');
    expect(machine.counters.migrated['gpu.b']!['dram']!.pages).toBe(2);
    expect(first(space, range)).toEqual(upTo(6));
    expectClean(machine);
  });

  test('are all left by a detach', () => {
    machine = smallMachine();
    const device = machine.addDevice(gpu({ memories: [memory('a', 8), memory('b', 8, { kind: 'coherent' })] }));
    const space = machine.createAddressSpace();
    const context = space.attach(device);
    const range = space.mmap({ bytes: 6 * PAGE });
    fill(space, range);
    for (let i = 0; i < 6; i++) {
      const page = { start: range.start + i * PAGE, end: range.start + (i + 1) * PAGE };
      context.migrate(page, { to: 'device', memory: i % 2 });
    }
    expect(used(machine)).toBe('dram 0, gpu.a 3, gpu.b 3');
    context.detach();
    expect(used(machine)).toBe('dram 6, gpu.a 0, gpu.b 0');
    expect(first(space, range)).toEqual(upTo(6));
    expectClean(machine);
  });
});

/** What becomes of pages on devices when a process is replaced, ends, or is killed for its memory. */
import { type AddressSpace, type Context, MiB } from 'farfault';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { faultOf, rejectedBy, thrownBy } from '../errors/refusal.ts';
import { PAGE } from '../machine/probe.ts';
import { at, BASE, type Gpu, World } from './gpus.ts';

let world: World;
let gpu: Gpu;
let space: AddressSpace;
let context: Context;

beforeEach(() => {
  world = new World({ tables: 8 });
  gpu = world.gpu({ name: 'one' });
  ({ space } = world);
  ({ context } = gpu);
  world.fill(0, 4);
  space.hmadvise(at(0, 2), 'pinned', { device: gpu.device });
  space.hmadvise(at(2, 3), 'prefetch', { device: gpu.device });
});
afterEach(() => world.end());

describe('exec', () => {
  it('unmaps everything, tells devices before, and the addresses are free again', () => {
    const file = world.machine.createFile({ content: Uint8Array.of(9) });
    space.mmap({ bytes: PAGE, at: at(8, 9).start, fixed: true, file, shared: true });
    space.attributes.set(at(0, 4), { readMostly: true });
    world.events.length = 0;
    space.exec();
    expect(gpu.device.memory!.node.used).toBe(0);
    expect(world.events.filter(({ type }) => type === 'range.invalidated')).toMatchObject([
      { device: 'one', reason: 'UNMAP', cause: 'exec' },
    ]);
    expect(world.events.at(-1)).toMatchObject({ type: 'space.unmapped', cause: 'exec' });
    expect([space.vmas.size, space.attributes.size, space.devicePins.size]).toEqual([0, 0, 0]);
    expect(
      faultOf(
        thrownBy(() => context.read(BASE, 1)),
        ['read.addr'],
        'EFAULT',
      ),
    ).toBe(undefined);
    expect(space.mmap({ bytes: 4 * PAGE })).toEqual(at(0, 4));
    space.write(BASE, Uint8Array.of(5));
    expect(context.read(BASE, 1)[0]).toBe(5);
    file.close();
  });

  it('frees nothing before devices have flushed', async () => {
    gpu.probe.slow.add('invalidate');
    const { used } = gpu.device.memory!.node;
    const done = space.execAsync();
    expect(gpu.device.memory!.node.used).toBe(used);
    gpu.probe.slow.clear();
    gpu.probe.finish();
    await done;
    expect(gpu.device.memory!.node.used).toBe(0);
  });
});

describe('a fork', () => {
  it('ends the pins of pages that the child shares, and both can write; what it leaves out stays pinned', () => {
    space.fork({ device: 'omit' }).close();
    expect(space.devicePins.size).toBe(2);
    const child = space.fork();
    expect(space.devicePins.size).toBe(0);
    context.write(BASE, Uint8Array.of(77));
    child.write(BASE + 1, Uint8Array.of(88));
    expect([...space.read(BASE, 2)]).toEqual([77, 1]);
    expect([...child.read(BASE, 2)]).toEqual([1, 88]);
  });
});

describe('a fork that fails', () => {
  it('for want of memory gives the pins back that it has ended', () => {
    const small = new World({ tables: 16, dram: 4 * PAGE });
    const { device, context: pinner } = small.gpu({ name: 'one' });
    small.fill(0, 2);
    small.space.hmadvise(at(0, 2), 'pinned', { device });
    small.fill(4, 8);
    const pin = small.space.pin(at(4, 8), { write: true });
    expect(
      faultOf(
        thrownBy(() => small.space.fork()),
        ['fork'],
        'ENOMEM',
      ),
    ).toBe(undefined);
    expect([small.space.devicePins.size, small.machine.spaces]).toEqual([2, [small.space]]);
    pinner.write(BASE, Uint8Array.of(9));
    expect([small.dump(0, 2), pinner.read(BASE, 1)[0], small.space.holders(BASE).flags]).toEqual(['DD', 9, ['dirty', 'pinned']]);
    pin.unpin();
    small.end();
  });
});

describe('exit', () => {
  it('with a device at work waits for it, and the job gives up what it has not done', async () => {
    gpu.probe.slow.add('toDevice');
    const accesses = [3, 0].map((page) => ({ op: 'read' as const, addr: BASE + page * PAGE, bytes: 1 }));
    const job = context.submitAsync({ accesses, lanes: 1 });
    const failed = rejectedBy(() => job);
    expect(world.machine.pending).toHaveLength(1);
    const closed = space.closeAsync();
    expect(
      faultOf(
        thrownBy(() => space.read(BASE, 1)),
        [''],
        'EBADF',
      ),
    ).toBe(undefined);
    gpu.probe.slow.clear();
    gpu.probe.finish();
    await failed;
    await closed;
    expect(gpu.device.memory!.node.used).toBe(0);
    expect(world.machine.spaces).toEqual([]);
  });
});

describe('a space that is reaped', () => {
  it('gives its own pages back at once, those on devices and pinned ones too, while its operations wait', async () => {
    gpu.probe.slow.add('toDevice');
    const write = space.hmadviseAsync(at(3, 4), 'prefetch', { device: gpu.device });
    const failed = rejectedBy(() => write);
    const unmapped = space.munmapAsync(at(0, 1));
    const ended = rejectedBy(() => unmapped);
    expect(world.machine.pending).toHaveLength(2);
    expect(world.machine.oomReap(space)).toBe(3);
    expect(
      faultOf(
        thrownBy(() => space.read(BASE, 1)),
        [''],
        'EBADF',
      ),
    ).toBe(undefined);
    expect(world.machine.pending).toHaveLength(2);
    gpu.probe.slow.clear();
    gpu.probe.finish();
    await failed;
    await ended;
    space.close();
    expect(world.machine.spaces).toEqual([]);
  });

  it('ends a fault that was under way in an error, and nothing comes back', async () => {
    gpu.probe.slow.add('toHost');
    space.hmadvise(at(0, 2), 'unpinned');
    const read = space.readAsync(BASE + 2 * PAGE, 2 * PAGE);
    const failed = rejectedBy(() => read);
    const job = context.readAsync(BASE + 3 * PAGE, 1);
    const lost = rejectedBy(() => job);
    expect(world.machine.oomReap(space)).toBeGreaterThan(0);
    gpu.probe.slow.clear();
    gpu.probe.finish();
    expect(faultOf(await failed, [''], 'EIO')).toBe(undefined);
    await lost;
    expect(space.vmas.size).toBe(1);
    space.close();
  });

  it('gets nothing more of a range that is on its way to a device, nor the holes of the part under way', async () => {
    space.hmadvise(at(0, 4), 'unpinned');
    space.munmap(at(0, 4));
    world.fill(10, 12);
    space.mmap({ bytes: 2 * PAGE, at: at(12, 14).start, fixed: true });
    space.mmap({ bytes: 2 * PAGE, at: at(14, 16).start, fixed: true, prot: 'rwx' });
    gpu.probe.slow.add('toDevice');
    const moved = context.migrateAsync(at(10, 16), { to: 'device' });
    const { node } = gpu.device.memory!;
    expect(node.used).toBe(4);
    world.machine.oomReap(space);
    gpu.probe.slow.clear();
    gpu.probe.finish();
    await moved;
    expect(node.used).toBe(0);
    space.close();
  });

  it('frees nothing before its devices have flushed', async () => {
    gpu.probe.slow.add('invalidate');
    const reaped = world.machine.oomReapAsync(space);
    expect(gpu.device.memory!.node.used).toBe(3);
    gpu.probe.slow.clear();
    gpu.probe.finish();
    expect(await reaped).toBe(4);
    expect(gpu.device.memory!.node.used).toBe(0);
  });

  it.each(['share', 'home', 'omit'] as const)('while it forks (%s) has no child: what has gone would be zeros there', async (device) => {
    space.hmadvise(at(0, 2), 'unpinned');
    gpu.probe.slow.add('invalidate');
    const child = space.forkAsync({ device });
    const refused = rejectedBy(() => child);
    expect(world.machine.pending.map(({ steps }) => steps[0])).toEqual(['fork']);
    gpu.probe.slow.clear();
    world.machine.oomReap(space);
    gpu.probe.finish();
    expect(faultOf(await refused, ['fork'], 'EBADF')).toBe(undefined);
    expect(world.machine.spaces).toEqual([space]);
  });

  it('leaves what others have: files, shared memory, and the pages of its child', () => {
    const child = space.fork();
    const file = world.machine.createFile({ bytes: PAGE });
    space.mmap({ bytes: PAGE, at: at(8, 9).start, fixed: true, file, shared: true });
    space.write(at(8, 9).start, Uint8Array.of(7));
    world.machine.oomReap(space);
    expect(file.read(0, 1)[0]).toBe(7);
    expect([0, 1, 2, 3].map((page) => child.read(BASE + page * PAGE, 1)[0])).toEqual([1, 2, 3, 4]);
    space.close();
    file.close();
  });

  it('is one of this machine', () => {
    const other = new World({ dram: 1 * MiB });
    expect(
      faultOf(
        thrownBy(() => world.machine.oomReap(other.space)),
        ['oomReap.space'],
        'EINVAL',
      ),
    ).toBe(undefined);
    other.end();
  });
});

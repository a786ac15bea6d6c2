/** `space.hmemcpy`: bytes go from anywhere to anywhere within a space, and what cannot is told. */
import { type AddressSpace, MiB, restoreMachine } from 'farfault';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { faultOf, thrownBy } from '../errors/refusal.ts';
import { plainDriver } from '../errors/world.ts';
import { PAGE, used } from '../machine/probe.ts';
import { at, BASE, type Gpu, SlowEngine, World } from './gpus.ts';

let world: World;
let gpu: Gpu;
let space: AddressSpace;

beforeEach(() => {
  world = new World();
  gpu = world.gpu({ name: 'one' });
  ({ space } = world);
});
afterEach(() => world.end());

const copied = (dest: number, src: number, bytes: number, to?: Gpu | 'host') =>
  space.hmemcpy(BASE + dest, BASE + src, bytes, to === undefined ? {} : { to: to === 'host' ? 'host' : to.device });

describe('a copy', () => {
  it('goes from host to host, to a device, on it, and back, by its copy engine', () => {
    world.fill(0, 8);
    expect(copied(4 * PAGE, 0, PAGE)).toEqual({
      status: 'done',
      bytes: PAGE,
      ways: { H2H: PAGE, H2D: 0, D2H: 0, D2D: 0 },
      linked: 0,
      errors: [],
      misplaced: 0,
    });
    expect(copied(5 * PAGE, PAGE, PAGE, gpu).ways).toMatchObject({ H2D: PAGE });
    expect(world.dump(0, 8)).toBe('WWWWWDWW');
    const before = gpu.probe.log.filter((line) => line.startsWith('toDevice')).length;
    expect(copied(6 * PAGE, 5 * PAGE, PAGE, gpu).ways).toMatchObject({ D2D: PAGE });
    expect(copied(7 * PAGE, 5 * PAGE, PAGE, 'host').ways).toMatchObject({ D2H: PAGE });
    expect(gpu.probe.log.filter((line) => line.startsWith('toDevice')).length).toBeGreaterThan(before);
    expect(world.dump(0, 8)).toBe('WWWWWDDW');
    expect([4, 5, 6, 7].map((page) => space.read(BASE + page * PAGE, 1)[0])).toEqual([1, 2, 2, 2]);
    expect(world.events.filter(({ type }) => type === 'bytes.copied')).toHaveLength(4);
  });

  it('is what a list of bytes says, for any lengths, offsets, overlaps and places, with engines and without', () => {
    const plain = { device: world.machine.addDevice(plainDriver('plain')) };
    space.attach(plain.device);
    const two = world.gpu({ name: 'two', granulePages: 2 });
    const PAGES = 8;
    space.mmap({ bytes: PAGES * PAGE, at: BASE, fixed: true });
    const model = new Uint8Array(PAGES * PAGE);
    let seed = 12345;
    const random = (below: number): number => (seed = (Math.imul(seed, 1103515245) + 12345) >>> 0) % below;
    const targets = [undefined, 'host', gpu.device, two.device, plain.device] as const;
    for (let turn = 0; turn < 120; turn++) {
      const bytes = 1 + random(turn % 3 === 0 ? 3 * PAGE : 700);
      const [dest, src] = [random(PAGES * PAGE - bytes), random(PAGES * PAGE - bytes)];
      const to = targets[random(targets.length)];
      if (turn % 4 === 0) {
        const value = Uint8Array.from({ length: bytes }, (_, i) => (turn + i) % 251);
        space.write(BASE + src, value);
        model.set(value, src);
      }
      if (turn % 5 === 0) space.hmadvise(at(random(4), 4 + random(4)), 'prefetch', { device: targets[1 + random(4)]! });
      const result = space.hmemcpy(BASE + dest, BASE + src, bytes, to === undefined ? {} : { to });
      model.copyWithin(dest, src, src + bytes);
      expect(result).toMatchObject({ status: 'done', bytes, errors: [] });
      if (turn % 10 === 0) expect(firstDifference(space.read(BASE, PAGES * PAGE), model)).toBe(-1);
      expect(gpu.context.read(BASE + dest, 1)[0]).toBe(model[dest]);
    }
    expect(firstDifference(space.read(BASE, PAGES * PAGE), model)).toBe(-1);
  });

  it('cuts a page of the destination in at most three, and keeps what is beside it', () => {
    world.fill(0, 4);
    space.hmadvise(at(0, 4), 'prefetch', { device: gpu.device });
    expect(copied(2 * PAGE + 100, 50, PAGE, gpu)).toMatchObject({ status: 'done', ways: { D2D: PAGE } });
    expect(space.read(BASE + 2 * PAGE + 98, 4)).toEqual(Uint8Array.of(3, 3, 1, 1));
    expect(space.read(BASE + 3 * PAGE + 98, 4)).toEqual(Uint8Array.of(2, 2, 4, 4));
    expect(space.read(BASE + 3 * PAGE + 48, 4)).toEqual(Uint8Array.of(1, 1, 2, 2));
  });

  it('takes zeros from pages that nobody has touched, and writes to such', () => {
    world.fill(0, 1);
    space.mmap({ bytes: 3 * PAGE, at: at(1, 4).start, fixed: true });
    expect(copied(0, PAGE, 100)).toMatchObject({ status: 'done', bytes: 100 });
    expect(copied(2 * PAGE, 50, 100, gpu)).toMatchObject({ status: 'done', bytes: 100 });
    expect(space.read(BASE + 2 * PAGE + 48, 4)).toEqual(Uint8Array.of(0, 0, 1, 1));
    expect(world.dump(1, 2)).toBe('.');
  });

  it('does not stop at what cannot be copied, and loses no error', () => {
    world.fill(0, 4);
    world.fill(8, 12);
    space.munmap(at(1, 2));
    space.mprotect(at(10, 11), 'r');
    expect(copied(8 * PAGE, 0, 4 * PAGE)).toEqual({
      status: 'partial',
      bytes: 2 * PAGE,
      ways: { H2H: 2 * PAGE, H2D: 0, D2H: 0, D2D: 0 },
      linked: 0,
      errors: [
        { dest: BASE + 9 * PAGE, src: BASE + PAGE, bytes: PAGE, reason: 'no mapping' },
        { dest: BASE + 10 * PAGE, src: BASE + 2 * PAGE, bytes: PAGE, reason: 'permission' },
      ],
      misplaced: 0,
    });
    expect([8, 9, 10, 11].map((page) => space.read(BASE + page * PAGE, 1)[0])).toEqual([1, 10, 11, 4]);
    expect(copied(4 * PAGE, 0, 10)).toMatchObject({ status: 'failed', bytes: 0 });
  });

  it('names what it could not copy in ascending order, also where it copies from the end', () => {
    world.fill(0, 5);
    space.munmap(at(2, 3));
    space.mprotect(at(4, 5), 'r');
    expect(copied(PAGE, 0, 4 * PAGE)).toMatchObject({
      status: 'partial',
      bytes: PAGE,
      errors: [
        { dest: BASE + 2 * PAGE, src: BASE + PAGE, bytes: 2 * PAGE, reason: 'no mapping' },
        { dest: BASE + 4 * PAGE, src: BASE + 3 * PAGE, bytes: PAGE, reason: 'permission' },
      ],
    });
    expect([1, 3, 4].map((page) => space.read(BASE + page * PAGE, 1)[0])).toEqual([1, 4, 5]);
  });

  it('passes what is not mapped, or may not be touched, in one go, from either end', () => {
    world.fill(0, 4);
    space.mprotect(at(2, 3), 'none');
    const bytes = 2 ** 46;
    const forward = space.hmemcpy(BASE, BASE + 2 ** 46, bytes);
    expect(forward.errors).toEqual([
      { dest: BASE, src: BASE + bytes, bytes: 2 * PAGE, reason: 'no mapping' },
      { dest: BASE + 2 * PAGE, src: BASE + bytes + 2 * PAGE, bytes: PAGE, reason: 'permission' },
      { dest: BASE + 3 * PAGE, src: BASE + bytes + 3 * PAGE, bytes: bytes - 3 * PAGE, reason: 'no mapping' },
    ]);
    const small = space.hmemcpy(BASE + PAGE + 7, BASE + 7, 2 ** 20, { to: gpu.device });
    const large = space.hmemcpy(BASE + PAGE + 7, BASE + 7, bytes, { to: gpu.device });
    expect(large.errors.slice(0, -1)).toEqual(small.errors.slice(0, -1));
    const more = bytes - 2 ** 20;
    expect(large.errors.at(-1)).toEqual({ ...small.errors.at(-1)!, bytes: small.errors.at(-1)!.bytes + more });
    expect([large.bytes, large.misplaced]).toEqual([small.bytes, small.misplaced + more / PAGE]);
  });

  it('needs no frame between pages of the host, and says when there is none to go through', () => {
    world.fill(0, 3);
    space.hmadvise(at(2, 3), 'prefetch', { device: gpu.device });
    const { free } = world.machine.platform.host;
    const rest = space.mmap({ bytes: free * PAGE });
    for (let page = 0; page < free; page++) space.write(rest.start + page * PAGE, Uint8Array.of(1));
    expect(copied(PAGE, 0, 100)).toMatchObject({ status: 'done', ways: { H2H: 100 } });
    expect(space.read(BASE + PAGE + 99, 2)).toEqual(Uint8Array.of(1, 2));
    expect(copied(2 * PAGE, 0, PAGE)).toMatchObject({ status: 'failed', errors: [{ bytes: PAGE, reason: 'no memory' }] });
    expect(gpu.context.read(BASE + 2 * PAGE, 1)[0]).toBe(3);
    space.munmap(rest);
    expect(copied(2 * PAGE, 0, PAGE, gpu)).toMatchObject({ status: 'done' });
    expect(gpu.context.read(BASE + 2 * PAGE, 1)[0]).toBe(1);
  });

  it('of nothing is zeros, whatever has been in the frame that it goes through', () => {
    world.fill(0, 2);
    space.hmadvise(at(1, 2), 'prefetch', { device: gpu.device });
    space.mmap({ bytes: PAGE, at: at(2, 3).start, fixed: true });
    // Every free frame has been somebody's.
    const rest = space.mmap({ bytes: 64 * PAGE });
    for (let page = 0; page < 64; page++) space.write(rest.start + page * PAGE, new Uint8Array(PAGE).fill(0xee));
    space.munmap(rest);
    expect(copied(PAGE, 2 * PAGE, PAGE, gpu)).toMatchObject({ status: 'done', bytes: PAGE });
    expect(gpu.context.read(BASE + PAGE, PAGE).every((byte) => byte === 0)).toBe(true);
    expect(world.dump(1, 2)).toBe('D');
  });

  it('writes to what a device has, in a space that the device is not in', () => {
    const driver = { ...gpu.probe.driver, name: 'apu', memory: [{ name: 'window', kind: 'coherent' as const, bytes: 4 * PAGE }] };
    const context = space.attach(world.machine.addDevice(driver));
    space.mmap({ bytes: 2 * PAGE, at: BASE, fixed: true });
    space.write(BASE, Uint8Array.of(5));
    expect(context.migrate(at(0, 2), { to: 'device' })).toBe(2);
    space.write(BASE + PAGE, Uint8Array.of(6));
    const child = space.fork({ device: 'share' });
    space.munmap(at(0, 2));
    expect(child.hmemcpy(BASE + PAGE, BASE, 1)).toMatchObject({ status: 'done', bytes: 1 });
    expect([child.read(BASE + PAGE, 1)[0], child.snapshotHmm(at(1, 2)).length]).toEqual([5, 2]);
  });

  it('waits for a page that is on its way', async () => {
    world.fill(0, 4);
    gpu.probe.slow.add('toDevice');
    const moved = gpu.context.migrateAsync(at(0, 1), { to: 'device' });
    expect(world.dump(0, 1)).toBe('m');
    const from = space.hmemcpyAsync(BASE + PAGE, BASE, 10);
    const into = space.hmemcpyAsync(BASE, BASE + 2 * PAGE, 10);
    expect(world.machine.pending).toHaveLength(3);
    gpu.probe.slow.clear();
    gpu.probe.finish();
    await moved;
    expect([(await from).status, (await into).status]).toEqual(['done', 'done']);
    expect([space.read(BASE, 1)[0], space.read(BASE + PAGE + 10, 1)[0]]).toEqual([3, 2]);
  });

  it('says when the engine fails, and the page is as it was', async () => {
    world.fill(0, 2);
    space.hmadvise(at(0, 2), 'prefetch', { device: gpu.device });
    gpu.probe.slow.add('toHost');
    const result = space.hmemcpyAsync(BASE, BASE + PAGE, PAGE);
    gpu.probe.slow.clear();
    gpu.probe.giveUp();
    expect(await result).toMatchObject({ status: 'failed', errors: [{ bytes: PAGE, reason: 'copy failed' }] });
    expect(gpu.context.read(BASE, 1)[0]).toBe(1);
  });

  it('keeps others from what it works on while the engine is at it, also in a machine that is saved meanwhile', async () => {
    const engine = new SlowEngine();
    const device = world.machine.addDevice(engine.driver('slow'));
    gpu.context.detach();
    world.machine.removeDevice(gpu.device);
    space.attach(device);
    world.fill(0, 2);
    space.hmadvise(at(0, 2), 'prefetch', { device });
    engine.slow = true;
    const copy = space.hmemcpyAsync(BASE, BASE + PAGE, PAGE);
    const read = space.readAsync(BASE, 1);
    expect(world.machine.pending).toHaveLength(2);
    const image = world.machine.save({ space });
    engine.finish();
    expect((await read)[0]).toBe(2);
    expect(await copy).toMatchObject({ status: 'done', ways: { D2D: PAGE } });
    const { machine, handles } = await restoreMachine<{ space: AddressSpace }>(image, { drivers: [new SlowEngine().driver('slow')] });
    expect(machine.pending).toHaveLength(2);
    machine.tickets[0]!.fail('lost');
    expect(machine.pending).toEqual([]);
    expect(handles.space.read(BASE, 1)[0]).toBe(1);
    machine.close();
  });

  it('to a page of the host that is reaped meanwhile is none, and writes to nobody else’s memory', async () => {
    const { machine } = world;
    const dying = machine.createAddressSpace();
    dying.attach(gpu.device);
    const { start } = dying.mmap({ bytes: 2 * PAGE });
    dying.write(start, new Uint8Array(2 * PAGE).fill(0x77));
    dying.hmadvise({ start, end: start + PAGE }, 'prefetch', { device: gpu.device });
    gpu.probe.slow.add('toHost');
    const result = dying.hmemcpyAsync(start + PAGE, start, PAGE);
    machine.oomReap(dying);
    // All that is left of the host is somebody else's now.
    const { free } = machine.platform.host;
    world.fill(0, free);
    gpu.probe.slow.clear();
    gpu.probe.finish();
    expect(await result).toMatchObject({ status: 'failed', bytes: 0, errors: [{ bytes: PAGE, reason: 'bus error' }] });
    for (let page = 0; page < free; page++) expect(space.read(BASE + page * PAGE, 1)[0]).toBe((page + 1) % 256);
    dying.close();
    expect(used(machine)).toContain(`dram ${free}`);
    space.munmap(at(0, free));
  });

  it('to a page of a file that is stored meanwhile is stored by the next write-back', async () => {
    const file = world.machine.createFile({ bytes: 2 * PAGE });
    world.fill(0, 1);
    space.hmadvise(at(0, 1), 'prefetch', { device: gpu.device });
    space.mmap({ bytes: 2 * PAGE, at: at(1, 3).start, fixed: true, file, shared: true });
    space.write(BASE + PAGE, Uint8Array.of(9));
    gpu.probe.slow.add('toHost');
    const copy = space.hmemcpyAsync(BASE + PAGE, BASE, PAGE);
    file.sync();
    expect([file.dirty, file.stored(0, 1)[0]]).toEqual([0, 9]);
    gpu.probe.finishOne();
    // What was fetched was for a page that may not be written any more: once again.
    expect(gpu.probe.unfinished).toBe(1);
    gpu.probe.finishOne();
    expect(await copy).toMatchObject({ status: 'done', bytes: PAGE });
    expect(file.dirty).toBe(1);
    file.sync();
    expect(file.stored(0, 1)[0]).toBe(1);
    space.munmap(at(1, 3));
    file.close();
  });

  it('says how much of the destination is not where it should be, and copies it all the same', () => {
    world.fill(0, 1);
    space.mmap({ bytes: 2 * PAGE, at: at(4, 6).start, fixed: true, shared: true });
    expect(copied(4 * PAGE, 0, PAGE, gpu)).toMatchObject({ status: 'done', bytes: PAGE, misplaced: 1, ways: { H2H: PAGE } });
    expect(space.read(BASE + 4 * PAGE, 1)[0]).toBe(1);
  });

  it('goes from one device to another over their link, by the engine of one of them: whole pages, without the host', () => {
    const two = world.gpu({ name: 'two', peer: true });
    const link = world.machine.link(gpu.device, two.device);
    world.fill(0, 6);
    space.hmadvise(at(0, 2), 'prefetch', { device: gpu.device });
    space.hmadvise(at(2, 4), 'prefetch', { device: two.device });
    const logs = [gpu.probe.log, two.probe.log];
    const copies = (): string[] => logs.flatMap((log) => log.splice(0).filter((line) => /^(to|peer)/.test(line)));
    copies();
    expect(copied(2 * PAGE, 0, 2 * PAGE)).toMatchObject({ status: 'done', ways: { D2D: 2 * PAGE }, linked: 2 * PAGE });
    expect(copies()).toEqual(['peer 1', 'peer 1']);
    expect(two.context.read(BASE + 3 * PAGE, 1)[0]).toBe(2);
    // It pushes as well; what is not a whole page the core moves.
    expect(copied(0, 2 * PAGE, PAGE)).toMatchObject({ linked: PAGE });
    expect(copies()).toEqual(['peer 1']);
    expect(copied(100, 3 * PAGE, 50)).toMatchObject({ ways: { D2D: 50 }, linked: 0 });
    expect(copies()).toEqual([]);
    expect([...gpu.context.read(BASE + 98, 4)]).toEqual([1, 1, 2, 2]);
    expect(world.events.flatMap((event) => (event.type === 'bytes.copied' ? [event.linked] : []))).toEqual([2 * PAGE, PAGE, 0]);
    world.machine.unlink(link);
    expect(copied(2 * PAGE, 0, PAGE)).toMatchObject({ ways: { D2D: PAGE }, linked: 0 });
  });

  it('over a link whose devices have no engine for it is the core’s; one that is cut, or fails, on the way', async () => {
    const two = world.gpu({ name: 'two' });
    const three = world.gpu({ name: 'three', peer: true });
    world.machine.link(gpu.device, two.device);
    const link = world.machine.link(gpu.device, three.device);
    world.fill(0, 3);
    for (const [page, { device }] of [gpu, two, three].entries()) space.hmadvise(at(page, page + 1), 'prefetch', { device });
    gpu.probe.log.length = 0;
    expect(copied(PAGE + 10, 0, 100)).toMatchObject({ ways: { D2D: 100 }, linked: 100 });
    expect(gpu.probe.log.filter((line) => line.startsWith('to'))).toEqual([]);
    three.probe.slow.add('peer');
    const failed = space.hmemcpyAsync(BASE + 2 * PAGE, BASE, PAGE);
    three.probe.giveUp();
    expect(await failed).toMatchObject({ status: 'failed', linked: 0, errors: [{ bytes: PAGE, reason: 'copy failed' }] });
    const slow = space.hmemcpyAsync(BASE + 2 * PAGE, BASE, PAGE);
    expect(three.probe.unfinished).toBe(1);
    const cut = world.machine.unlinkAsync(link);
    three.probe.slow.clear();
    three.probe.finish();
    await cut;
    expect(await slow).toMatchObject({ status: 'done', linked: PAGE });
    expect(three.context.read(BASE + 2 * PAGE, 1)[0]).toBe(1);
  });

  it('goes from one device to another', () => {
    const two = world.gpu({ name: 'two' });
    world.fill(0, 2);
    space.hmadvise(at(0, 1), 'prefetch', { device: gpu.device });
    expect(copied(PAGE, 0, PAGE, two).ways).toMatchObject({ D2D: PAGE });
    expect(two.context.read(BASE + PAGE, 1)[0]).toBe(1);
    expect(gpu.context.residency(BASE / PAGE)).toBeDefined();
  });

  it('is refused for what lies outside the address space, and devices that are not in it', () => {
    world.fill(0, 1);
    const refused = (call: () => unknown, code = 'EINVAL'): string | undefined => faultOf(thrownBy(call), ['hmemcpy'], code);
    expect(refused(() => space.hmemcpy(BASE, 2 ** 48 - 4, 8), 'EOVERFLOW')).toBe(undefined);
    expect(refused(() => space.hmemcpy(-1, BASE, 8))).toBe(undefined);
    expect(refused(() => space.hmemcpy(BASE, BASE, 0))).toBe(undefined);
    expect(refused(() => space.hmemcpy(BASE, BASE, 1, { to: world.machine.addDevice(plainDriver('late')) }))).toBe(undefined);
  });
});

it('a copy of a megabyte between mappings is one operation', () => {
  const large = new World({ dram: 8 * MiB });
  large.fill(0, 64);
  large.fill(100, 164);
  expect(large.space.hmemcpy(BASE + 100 * PAGE + 1, BASE, 63 * PAGE)).toMatchObject({ status: 'done', bytes: 63 * PAGE });
  expect(large.space.read(BASE + 150 * PAGE, 3)).toEqual(Uint8Array.of(50, 51, 51));
  large.end();
});

/** Comparing arrays of this length by value takes seconds. */
function firstDifference(one: Uint8Array, other: Uint8Array): number {
  return one.findIndex((byte, i) => byte !== other[i]);
}

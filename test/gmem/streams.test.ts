/** Streams: operations of a context in order, events between streams, and the names of libgmem. */
import { type AddressSpace, type Context, restoreMachine } from 'farfault';
import { gmemFreeEager, gmemGetNumaId, gmemPrefetch } from 'farfault/gmem';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { faultOf, rejectedBy, thrownBy } from '../errors/refusal.ts';
import { PAGE } from '../machine/probe.ts';
import { at, BASE, type Gpu, SlowEngine, World } from './gpus.ts';

let world: World;
let gpu: Gpu;
let space: AddressSpace;
let context: Context;

beforeEach(() => {
  world = new World();
  gpu = world.gpu({ name: 'one' });
  ({ space } = world);
  ({ context } = gpu);
  world.fill(0, 6);
});
afterEach(() => world.end());

describe('a stream', () => {
  it('does one thing after the other, while the program goes on', async () => {
    const stream = context.stream();
    const ended: string[] = [];
    const note = (what: string) => () => void ended.push(what);
    gpu.probe.slow.add('toDevice');
    const all = [
      stream.prefetchAsync(at(0, 2)).then(note('prefetch')),
      stream.memcpyAsync(BASE + 4 * PAGE, BASE, 10).then(note('memcpy')),
      stream.submitAsync({ accesses: [{ op: 'write', addr: BASE, bytes: 1, value: 77 }] }).then(note('job')),
      stream.dontneedAsync(at(1, 2)).then(note('dontneed')),
    ];
    expect(stream.isIdle).toBe(false);
    expect(space.read(BASE + 5 * PAGE, 1)[0]).toBe(6);
    expect(ended).toEqual([]);
    gpu.probe.slow.clear();
    gpu.probe.finish();
    await stream.synchronizeAsync();
    await Promise.all(all);
    expect(ended).toEqual(['prefetch', 'memcpy', 'job', 'dontneed']);
    expect(stream.isIdle).toBe(true);
    expect(space.read(BASE + 4 * PAGE, 1)[0]).toBe(1);
    expect(space.read(BASE, 1)[0]).toBe(77);
    expect(space.read(BASE + PAGE, 1)[0]).toBe(0);
  });

  it('goes on behind an operation that fails', async () => {
    const stream = context.stream();
    gpu.probe.slow.add('toDevice');
    const first = stream.prefetchAsync(at(0, 1));
    gpu.probe.slow.clear();
    gpu.probe.broken.add('toDevice');
    const second = stream.prefetchAsync(at(1, 2));
    const third = stream.dontneedAsync(at(2, 3));
    const failed = rejectedBy(() => second);
    gpu.probe.finish();
    await first;
    await failed;
    expect(await third).toMatchObject({ status: 'done', pages: 1 });
    expect(stream.isIdle).toBe(true);
    gpu.probe.broken.clear();
    expect(faultOf(await rejectedBy(() => stream.prefetchAsync(at(0, 1))), [''], 'ENODEV')).toBe(undefined);
    context.detach();
  });

  it('waits for what another one had before it recorded an event, and for nothing later', async () => {
    const two = world.gpu({ name: 'two' });
    const [a, b] = [context.stream(), two.context.stream()];
    gpu.probe.slow.add('toDevice');
    const first = a.prefetchAsync(at(0, 1));
    const event = a.record();
    const later = a.prefetchAsync(at(1, 2));
    b.wait(event);
    const behind = b.prefetchAsync(at(2, 3));
    expect(event.isDone).toBe(false);
    expect(world.dump(2, 3)).toBe('W');
    gpu.probe.finishOne();
    await first;
    await behind;
    expect(event.isDone).toBe(true);
    expect(world.dump(0, 3)).toBe('DmD');
    gpu.probe.finish();
    await later;
    b.wait(event);
    expect(b.isIdle).toBe(true);
  });

  it('is saved with what is under way, and with what has not begun', async () => {
    const engine = new SlowEngine();
    const other = new World();
    const slow = other.machine.addDevice(engine.driver('slow'));
    const stream = other.space.attach(slow).stream();
    other.fill(0, 6);
    engine.slow = true;
    const mine = [stream.prefetchAsync(at(0, 2)), stream.memcpyAsync(BASE + 5 * PAGE, BASE + PAGE, 8)];
    const image = other.machine.save({ space: other.space, stream });
    engine.finish();
    await Promise.all(mine);
    other.end();
    // The copy engine of the saved machine has lost its work: whoever restores it says that the copy failed.
    const drivers = [new SlowEngine().driver('slow')];
    const { machine, handles } = await restoreMachine<{ space: AddressSpace; stream: typeof stream }>(image, { drivers });
    expect(handles.stream.isIdle).toBe(false);
    for (const ticket of machine.tickets) ticket.fail('lost');
    expect(handles.stream.isIdle).toBe(true);
    expect([...handles.space.read(BASE + 5 * PAGE, 9)]).toEqual([2, 2, 2, 2, 2, 2, 2, 2, 6]);
    expect(handles.space.read(BASE, 1)[0]).toBe(1);
    machine.close();
  });

  it('gives the same events every time', async () => {
    const told: string[] = [];
    for (let turn = 0; turn < 2; turn++) {
      const other = new World();
      const { context: mine, probe } = other.gpu({ name: 'one' });
      other.fill(0, 6);
      const [a, b] = [mine.stream(), mine.stream()];
      probe.slow.add('toDevice');
      const all = [a.prefetchAsync(at(0, 2)), b.prefetchAsync(at(1, 4)), a.memcpyAsync(BASE, BASE + PAGE, 5), b.dontneedAsync(at(3, 4))];
      probe.slow.clear();
      probe.finish();
      await Promise.all(all);
      told.push(JSON.stringify(other.events));
      other.end();
    }
    expect(told[0]).toBe(told[1]);
  });

  it('refuses an event that is none, or of another machine', () => {
    const other = new World();
    const event = other.gpu().context.stream().record();
    const stream = context.stream();
    expect(
      faultOf(
        thrownBy(() => stream.wait(event)),
        ['wait.event'],
        'EINVAL',
      ),
    ).toBe(undefined);
    expect(
      faultOf(
        thrownBy(() => stream.wait({} as never)),
        ['wait.event'],
        'EINVAL',
      ),
    ).toBe(undefined);
    other.end();
  });
});

describe('the names of libgmem', () => {
  it('prefetch to a node by its number, at once or on a stream, and free eagerly', async () => {
    const hnid = gmemGetNumaId(gpu.device);
    expect(hnid).toBeGreaterThan(world.machine.platform.host.index);
    expect(gmemPrefetch(space, BASE, 2 * PAGE, hnid)).toMatchObject({ status: 'done', pages: 2 });
    expect(world.dump(0, 3)).toBe('DDW');
    const stream = context.stream();
    const there = gmemPrefetch(space, BASE + 2 * PAGE, PAGE, hnid, stream);
    const gone = gmemFreeEager(space, BASE, PAGE, stream);
    expect(await there).toMatchObject({ pages: 1 });
    expect(await gone).toMatchObject({ pages: 1 });
    expect(world.dump(0, 3)).toBe('.DD');
    expect(gmemPrefetch(space, BASE, 3 * PAGE, world.machine.platform.host.index)).toMatchObject({ status: 'done' });
    expect(gmemFreeEager(space, BASE + PAGE, 2)).toMatchObject({ status: 'done', pages: 0 });
    expect(world.dump(0, 3)).toBe('.WW');
    expect(
      faultOf(
        thrownBy(() => gmemPrefetch(space, BASE, 1, 999)),
        ['hnid'],
        'EINVAL',
      ),
    ).toBe(undefined);
  });
});

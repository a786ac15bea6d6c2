/** Promises that nobody was given: what is unfinished when a machine is closed must not end the process. */
import { afterEach, beforeEach, expect, test } from 'vitest';
import { rejectedBy } from '../errors/refusal.ts';
import { PAGE } from '../machine/probe.ts';
import { at, World } from './gpus.ts';

const found: unknown[] = [];
const keep = (error: unknown): void => void found.push(error);
let others: NodeJS.UnhandledRejectionListener[];
let world: World;

const soon = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 0));

beforeEach(() => {
  found.length = 0;
  others = process.listeners('unhandledRejection');
  process.removeAllListeners('unhandledRejection');
  process.on('unhandledRejection', keep);
  world = new World();
});

afterEach(() => {
  process.off('unhandledRejection', keep);
  for (const each of others) process.on('unhandledRejection', each);
  world.machine.close();
});

test('a stream that waits for an event ends with its machine, and it is nobody’s error', async () => {
  const { probe, context } = world.gpu();
  world.fill(0, 2);
  const [a, b] = [context.stream(), context.stream()];
  probe.slow.add('toDevice');
  const prefetched = rejectedBy(() => a.prefetchAsync(at(0, 2)));
  b.wait(a.record());
  expect(b.isIdle).toBe(false);
  world.machine.close();
  expect(await prefetched).toMatchObject({ code: 'EBADF' });
  await soon();
  expect(found).toEqual([]);
});

test('a flush that is put off and unfinished when its machine is closed is nobody’s error', async () => {
  const { probe, context } = world.gpu({}, { flush: 'deferred' });
  const range = world.space.mmap({ bytes: PAGE });
  context.write(range.start, Uint8Array.of(1));
  probe.slow.add('invalidate');
  const gone = rejectedBy(() => world.space.munmapAsync(range));
  await soon();
  expect(world.machine.pending.map(({ steps }) => steps)).toEqual([['unmap'], ['deferred flush']]);
  world.machine.close();
  expect(await gone).toMatchObject({ code: 'EBADF' });
  await soon();
  expect(found).toEqual([]);
});

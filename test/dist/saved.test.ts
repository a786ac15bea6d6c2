/** A machine that another process has saved goes on here, in Node and in a browser. */
import { expect, test } from 'vitest';
import { type AddressRange, type AddressSpace, type Context, KiB, restoreMachine } from 'farfault';
import nouveau from 'farfault/drivers/nouveau';
import { buildBytes } from '../host.ts';

interface Handles {
  readonly space: AddressSpace;
  readonly context: Context;
  readonly buffer: AddressRange;
}

test('it is where it was, and comes to what the one that was not saved came to', async () => {
  const expected = JSON.parse(new TextDecoder().decode(await buildBytes('saved.json'))) as {
    dump: string;
    counters: object;
    bytes: number[];
  };
  const { machine, handles } = await restoreMachine<Handles & Record<string, unknown>>(await buildBytes('saved.bin'), {
    drivers: [nouveau({ vram: 256 * KiB })],
  });
  const { space, context, buffer } = handles;
  expect(machine.verify()).toBeUndefined();
  for (let page = 0; page < 96; page += 5) context.write(buffer.start + page * 4096 + 2, Uint8Array.of(7));
  const { counters } = machine;
  expect(JSON.parse(JSON.stringify(counters))).toEqual(expected.counters);
  expect(space.dump(buffer)).toBe(expected.dump);
  expect([...space.read(buffer.start, 12288)]).toEqual(expected.bytes);
  machine.close();
});

import { afterEach, describe, expect, test } from 'vitest';
import { createMachine, type AddressSpace, type Context, type Machine, MiB, restoreMachine } from 'farfault';
import dmirror from 'farfault/drivers/dmirror';
import mirror from 'farfault/drivers/mirror';
import nouveau from 'farfault/drivers/nouveau';
import { defineDriver, type Driver } from 'farfault/gmem';
import { packImage, unpackImage } from '../../sdk/image/bytes.ts';

const PAGE = 4096;
const machines: Machine[] = [];
afterEach(() => {
  for (const machine of machines.splice(0)) machine.close();
});
const same = (a: Uint8Array, b: Uint8Array): boolean => a.length === b.length && a.every((byte, i) => byte === b[i]);
const keep = (machine: Machine): Machine => {
  machines.push(machine);
  return machine;
};

describe('a machine that was saved', () => {
  test('is there again, with every byte, and goes on', async () => {
    const machine = keep(await createMachine({ dram: 4 * MiB }));
    const space = machine.createAddressSpace();
    const context = space.attach(machine.addDevice(nouveau({ vram: 1 * MiB })));
    const other = space.attach(machine.addDevice(mirror({ ownTable: true })));
    const test_ = space.attach(machine.addDevice(dmirror({ chunkBytes: 2 * MiB })));
    const buffer = space.mmap({ bytes: 8 * PAGE });
    space.write(buffer.start, new Uint8Array(8 * PAGE).fill(3));
    context.write(buffer.start + 2 * PAGE, Uint8Array.of(4, 5));
    other.write(buffer.start + 5 * PAGE, Uint8Array.of(6));
    test_.command({ op: 'MIGRATE_TO_DEV', addr: buffer.start + 6 * PAGE, pages: 1, buffer: new Uint8Array(PAGE) });
    const dump = space.dump(buffer);
    const image = machine.save({ space, context, other, buffer });

    const restored = await restoreMachine<{ space: AddressSpace; context: Context; other: Context; buffer: typeof buffer }>(image, {
      drivers: [mirror({ ownTable: true }), nouveau({ vram: 1 * MiB }), dmirror({ chunkBytes: 2 * MiB })],
    });
    keep(restored.machine);
    const { handles } = restored;
    expect(handles.buffer).toEqual(buffer);
    expect(handles.space.dump(buffer)).toBe(dump);
    expect(restored.machine.verify()).toBeUndefined();
    expect(restored.machine.counters).toEqual(machine.counters);
    // Saved again, it is the same, byte for byte.
    expect(same(restored.machine.save(handles), image)).toBe(true);
    for (const [m, s, c, o] of [
      [machine, space, context, other],
      [restored.machine, handles.space, handles.context, handles.other],
    ] as const) {
      expect(c.read(buffer.start + 2 * PAGE, 3)).toEqual(Uint8Array.of(4, 5, 3));
      expect(o.read(buffer.start + 5 * PAGE, 2)).toEqual(Uint8Array.of(6, 3));
      o.write(buffer.start + 2 * PAGE, Uint8Array.of(9));
      expect(s.read(buffer.start + 2 * PAGE, 2)).toEqual(Uint8Array.of(9, 5));
      expect(s.read(buffer.start + 6 * PAGE, 1)).toEqual(Uint8Array.of(3));
      s.munmap(buffer);
      expect(m.verify()).toBeUndefined();
    }
    expect(restored.machine.nodes).toEqual(machine.nodes);
    expect(same(restored.machine.save(handles), machine.save({ space, context, other, buffer }))).toBe(true);
  });
});

describe('an image', () => {
  const image = async (): Promise<Uint8Array> => {
    const machine = keep(await createMachine({ dram: 1 * MiB, tablePages: 64 }));
    const space = machine.createAddressSpace();
    const buffer = space.mmap({ bytes: 4 * PAGE });
    space.write(buffer.start, Uint8Array.of(1));
    return machine.save({ space, buffer });
  };

  test('that is damaged anywhere is refused', async () => {
    const good = await image();
    for (let i = 0; i < 200; i++) {
      const bad = good.slice();
      const at = i < 40 ? i : Math.floor((bad.length * i) / 200);
      bad[at]! ^= 1 << (i % 8);
      await expect(restoreMachine(bad), `byte ${at}`).rejects.toThrow(
        /^image a Uint8Array is (not a saved machine|damaged: its checksum is wrong)$/,
      );
    }
    for (const length of [0, 7, 15, 16, 100, good.length - 1]) {
      await expect(restoreMachine(good.subarray(0, length)), `${length} bytes`).rejects.toThrow(/is (not a saved machine|damaged)/);
    }
    const { machine } = await restoreMachine(good);
    machine.close();
  });

  test('of another build, or another format, is refused by name', async () => {
    const parts = unpackImage<{ format: number; build: string }>(await image(), () => {});
    const other = packImage({ ...parts, heading: { ...parts.heading, build: '0123-4567' } });
    await expect(restoreMachine(other)).rejects.toThrow(
      /^image build "0123-4567" is another than this one, "[0-9a-f]{16}-[0-9a-f]{16}": a machine is restored by the build that saved it$/,
    );
    await expect(restoreMachine(packImage({ ...parts, heading: { ...parts.heading, format: 7 } }))).rejects.toThrow(
      'image format 7 is not 2, which this build reads',
    );
  });

  test('needs the drivers that the machine had', async () => {
    const machine = keep(await createMachine({ dram: 1 * MiB, tablePages: 64 }));
    machine.addDevice(mirror());
    const saved = machine.save();
    await expect(restoreMachine(saved)).rejects.toThrow(
      'restoreMachine.drivers an array of 0 lacks the driver "mirror" of the saved machine',
    );
    keep((await restoreMachine(saved, { drivers: [mirror()] })).machine);
  });

  test('needs drivers that say of themselves what those of the machine said', async () => {
    const vram = { name: 'vram', kind: 'private', bytes: 1 * MiB } as const;
    const gpu = (fields: Partial<Driver> = {}): Driver => ({
      name: 'gpu',
      granuleBytes: 16384,
      memory: [vram],
      attach: () => ({}),
      ...fields,
    });
    const machine = keep(await createMachine({ dram: 4 * MiB, tablePages: 64 }));
    machine.createAddressSpace().attach(machine.addDevice(gpu()));
    const saved = machine.save();
    const others: readonly (readonly [Partial<Driver>, string])[] = [
      [{ granuleBytes: 8192 }, 'gpu.granuleBytes 8192 is not 16384, as it was in the saved machine'],
      [{ granuleBytes: undefined as never }, 'gpu.granuleBytes undefined is not 16384, as it was in the saved machine'],
      [{ memory: [{ ...vram, bytes: 2 * MiB }] }, 'gpu.memory.vram.bytes 2097152 is not 1048576, as it was in the saved machine'],
      [{ memory: [] }, 'gpu.memory "" is not "vram", as it was in the saved machine'],
      [{ faultEntries: 4 }, 'gpu.faultEntries 4 is not undefined, as it was in the saved machine'],
      [{ pageBytes: [4096, 65536] }, 'gpu.pageBytes "4096,65536" is not undefined, as it was in the saved machine'],
      [{ geometry: { bits: [9, 9, 9, 9] } }, 'gpu.geometry.bits "9,9,9,9" is not undefined, as it was in the saved machine'],
      [{ dma: { iovaBits: 40 } }, 'gpu.dma.iovaBits 40 is not undefined, as it was in the saved machine'],
    ];
    for (const [fields, message] of others)
      await expect(restoreMachine(saved, { drivers: [gpu(fields)] })).rejects.toThrow(`restoreMachine.drivers ${message}`);
    await expect(restoreMachine(saved, { drivers: [gpu({ granuleBytes: 3 })] })).rejects.toThrow(
      'gpu.granuleBytes 3 is not a power of two between 4096 and 2 MiB',
    );
    keep((await restoreMachine(saved, { drivers: [gpu()] })).machine);
  });

  test('of bytes that are none at all is refused', async () => {
    await expect(restoreMachine('image' as never)).rejects.toThrow('image "image" is not a Uint8Array');
    await expect(restoreMachine(new Uint8Array(4000))).rejects.toThrow('image a Uint8Array is not a saved machine');
    await expect(restoreMachine(await image(), 3 as never)).rejects.toThrow('restoreMachine options 3 are not an object');
  });
});

describe('state that cannot be saved is refused with the path to it', () => {
  test('a driver with a table of its own that does not say what its state is', async () => {
    const machine = keep(await createMachine({ dram: 1 * MiB, tablePages: 64 }));
    const silent = defineDriver(() => ({ name: 'silent', attach: () => ({ walk: { translate: () => undefined } }) }));
    machine.createAddressSpace().attach(machine.addDevice(silent()));
    expect(() => machine.save()).toThrow(
      'save "silent" has a table or an allocator of its own, and does not say what its state is: give `attach` a `save`',
    );
  });

  test('functions and instances of classes that nobody named', async () => {
    const machine = keep(await createMachine({ dram: 1 * MiB, tablePages: 64 }));
    class Mine {
      readonly inner = [1];
    }
    class Hidden {
      readonly #secret = 1;
      get secret(): number {
        return this.#secret;
      }
    }
    expect(() => machine.save({ a: [{ later: () => 1 }] })).toThrow(
      'save "handles.a[0].later" is a function, which is no state: give `method(object, name)`',
    );
    expect(() => machine.save({ deep: new Map([['x', new Mine()]]) })).toThrow(
      'save "handles.deep[x]" is of class Mine, which the driver does not name in its `classes`',
    );
    expect(() => machine.save({ hidden: new Hidden() }, { classes: [Hidden] })).toThrow(
      'classes function Hidden has #private fields, which cannot be saved',
    );
    const { handles, machine: restored } = await restoreMachine<{ mine: Mine }>(machine.save({ mine: new Mine() }, { classes: [Mine] }), {
      classes: [Mine],
    });
    keep(restored);
    expect(handles.mine).toBeInstanceOf(Mine);
    expect(handles.mine.inner).toEqual([1]);
  });

  test('from inside an operation', async () => {
    const machine = keep(await createMachine({ dram: 1 * MiB, tablePages: 64 }));
    const space = machine.createAddressSpace();
    let error: unknown;
    const nosy = defineDriver(() => ({
      name: 'nosy',
      attach: () => ({
        save: () => undefined,
        walk: {
          translate() {
            try {
              machine.save();
            } catch (thrown) {
              error ??= thrown;
            }
            return undefined;
          },
        },
      }),
    }));
    const context = space.attach(machine.addDevice(nosy()));
    expect(() => context.read(space.mmap({ bytes: PAGE }).start, 1)).toThrow();
    expect(error).toMatchObject({ code: 'EBUSY' });
  });

  test('values of every kind come back as they were', async () => {
    const machine = keep(await createMachine({ dram: 1 * MiB, tablePages: 64 }));
    const shared = new Uint8Array([1, 2, 3, 4, 5, 6, 7, 8]);
    const loop: { self?: unknown } = {};
    loop.self = loop;
    const values = {
      numbers: [0, -0, 1.5, NaN, Infinity, -Infinity, 2 ** 53],
      others: [undefined, null, true, 'text', 12345678901234567890n],
      map: new Map<unknown, unknown>([[{ key: 1 }, new Set([1, 'a'])]]),
      views: [shared.subarray(2, 6), new Uint32Array(shared.buffer, 4, 1), new Float64Array([1 / 3])],
      loop,
      error: new RangeError('far'),
      ['__proto__x']: 1,
    };
    const { machine: restored, handles } = await restoreMachine<typeof values>(machine.save(values));
    keep(restored);
    expect(handles).toEqual(values);
    expect(Object.is(handles.numbers[1], -0)).toBe(true);
    expect(handles.loop.self).toBe(handles.loop);
    (handles.views[0] as Uint8Array)[2] = 77;
    expect((handles.views[1] as Uint32Array)[0]! & 255).toBe(77);
  });
});

/** The example of the README on the built package: a driver of 20 lines, a host of 10. */
import { expect, test } from 'vitest';
import { createMachine, createMachineSync, FarfaultError, isFarfaultError, MiB } from 'farfault';
import { defineDriver, deviceTable, fail, permits, type Translation } from 'farfault/gmem';

const tinygpu = defineDriver(({ vram = 64 * MiB }: { vram?: number } = {}) => ({
  name: 'tinygpu',
  pageBytes: [4096, 2 * MiB],
  memory: [{ name: 'vram', kind: 'private', bytes: vram }],
  attach(context) {
    const table = deviceTable(context);
    const tlb = new Map<number, Translation>();
    return {
      pmap: table,
      tlb: {
        invalidate: (ranges) =>
          ranges.each((vpn, pages) => {
            for (let i = 0; i < pages; i++) tlb.delete(vpn + i);
          }),
      },
      walk: {
        translate(vpn, access) {
          let entry = tlb.get(vpn);
          if (!permits(entry, access)) entry = table.walk(vpn, access);
          if (entry) tlb.set(vpn, entry);
          return entry;
        },
      },
      detach: () => tlb.clear(),
    };
  },
}));

test('a device write brings the page to the device, a CPU read brings it home with both bytes', async () => {
  const machine = await createMachine({ dram: 256 * MiB });
  const gpu = machine.addDevice(tinygpu({ vram: 64 * MiB }));
  const space = machine.createAddressSpace();
  const context = space.attach(gpu);
  const buffer = space.mmap({ bytes: 1 * MiB, prot: 'rw' });
  space.write(buffer.start, Uint8Array.of(1, 2, 3));
  context.write(buffer.start + 1, Uint8Array.of(9));
  expect(space.dump(buffer)).toBe('D' + '.'.repeat(255));
  expect([...space.read(buffer.start, 3)]).toEqual([1, 9, 3]);
  expect(space.dump(buffer)).toBe('H' + '.'.repeat(255));
  expect(machine.verify()).toBe(undefined);
  machine.close();
});

test('an error of one entry point is recognised by another', () => {
  const error = fail('EINVAL', 'range.start', 0x1001, 'is not page-aligned');
  expect(isFarfaultError(error)).toBe(true);
  expect(error.message).toBe('range.start 0x1001 is not page-aligned');
  const machine = createMachineSync({ dram: 1 * MiB });
  machine.close();
  expect(() => machine.createAddressSpace()).toThrow(FarfaultError);
});

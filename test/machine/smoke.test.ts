import { expect, test } from 'vitest';
import { createMachine, MiB } from 'farfault';
import { type Translation, defineDriver, deviceTable, permits } from 'farfault/gmem';

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

test('the example', async () => {
  const machine = await createMachine({ dram: 256 * MiB });
  const gpu = machine.addDevice(tinygpu({ vram: 64 * MiB }));
  const space = machine.createAddressSpace();
  const context = space.attach(gpu);
  const buffer = space.mmap({ bytes: 1 * MiB, prot: 'rw' });
  space.write(buffer.start, Uint8Array.of(1, 2, 3));
  context.write(buffer.start + 1, Uint8Array.of(9));
  expect(space.dump(buffer)).toBe('D' + '.'.repeat(255));
  expect([...space.read(buffer.start, 3)]).toEqual([1, 9, 3]);
  expect(machine.verify()).toBe(undefined);
  machine.close();
});

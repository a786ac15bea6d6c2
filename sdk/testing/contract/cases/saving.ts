/** Saving: a machine can be put away at any moment, its driver with it. */
import type { ContractCase, Profile } from '../case.ts';

/** Why a driver cannot be saved at all. */
function silent({ driver, mmu, ownTable }: Profile): string | undefined {
  if (driver.save || mmu.save) return undefined;
  return ownTable || mmu.walk || mmu.phys ? 'it does not say what its state is (`save`)' : undefined;
}

export const SAVING: readonly ContractCase[] = [
  {
    name: 'a saved device knows its translations and its pages again',
    group: 'saving',
    rule: 'What `save` says, `attach(context, saved)` and `restore(saved)` take back: a restored device goes on as if nothing had been.',
    needs: silent,
    async run(bench) {
      const range = bench.mmap(12);
      for (let page = 0; page < 12; page++) await bench.cpuWrite(range, page, 1, page + 1);
      await bench.deviceWrite(range, 0, 4, 77);
      await bench.deviceSees(range, 4, 4);
      const again = await bench.restored();
      for (const each of [bench, again]) {
        // What the device has cached must go when the page does, in the restored one as well.
        await each.cpuWrite(range, 2, 1, 9);
        await each.cpuWrite(range, 5, 1, 10);
        await each.deviceSees(range, 0, 12);
        await each.deviceWrite(range, 6, 4, 11);
        await each.cpuSees(range, 0, 12);
        await each.munmap(range);
        const other = each.mmap(12);
        await each.deviceSees(other, 0, 12);
        await each.deviceWrite(other, 0, 12, 12);
        await each.cpuSees(other, 0, 12);
      }
      await again.end();
    },
  },
  {
    name: 'a saved device knows which of its pages are in use',
    group: 'saving',
    rule: 'The allocator of a restored device hands out what is free and nothing else.',
    needs: (profile) =>
      silent(profile) ??
      (profile.memoryPages === 0
        ? 'it has no memory of its own'
        : profile.memoryBytes > 2 ** 26
          ? 'its memory is larger than 64 MiB: give options that make it small'
          : undefined),
    async run(bench) {
      const half = Math.max(1, Math.floor(bench.profile.memoryPages / 2));
      const range = bench.mmap(half);
      await bench.deviceWrite(range, 0, half, 1);
      const again = await bench.restored();
      for (const each of [bench, again]) {
        const more = each.mmap(bench.profile.memoryPages);
        await each.deviceWrite(more, 0, bench.profile.memoryPages, 2);
        await each.deviceSees(range, 0, half);
        await each.cpuSees(more, 0, bench.profile.memoryPages);
      }
      await again.end();
    },
  },
  {
    name: 'a device that was saved at work ends its work',
    group: 'saving',
    rule: 'Tickets that are open when the machine is saved are part of what `save` says; the restored device completes them.',
    needs: silent,
    async run(bench) {
      const range = bench.mmap(4);
      for (let page = 0; page < 4; page++) await bench.cpuWrite(range, page, 1, page + 1);
      const context = bench.context;
      const began = [context.faultAsync(range.start, 'write'), context.faultAsync(range.start + 2 * 4096, 'read')];
      const again = await bench.restored();
      await bench.wait(Promise.all(began));
      await bench.cpuSees(range, 0, 4);
      await again.idle();
      await again.cpuSees(range, 0, 4);
      await again.deviceSees(range, 0, 4);
      await again.end();
    },
  },
];

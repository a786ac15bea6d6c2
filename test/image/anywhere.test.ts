/** Running to the end equals saving at any step, restoring, and running to the end: the same outcomes, the same counters, the same image, byte for byte. */
import { expect, test } from 'vitest';
import { finish, restore, save, worldOf } from './world.ts';

const SEED = Number((import.meta as { env?: Record<string, string> }).env?.['FARFAULT_SEED'] ?? 1);

function same(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}

for (let seed = SEED; seed < SEED + 8; seed++) {
  test(`a world of three actors, saved at every step that its seed (${seed}) chooses, ends as if it had not been`, async () => {
    const original = await worldOf(seed, 14);
    const images: { readonly turn: number; readonly image: Uint8Array }[] = [];
    for (let turn = 0; ; turn++) {
      if (turn % 23 === seed % 23) images.push({ turn, image: save(original) });
      if (!original.world.turn()) break;
    }
    const end = finish(original);
    const last = save(original);
    const counters = structuredClone(original.machine.counters);
    original.machine.close();
    expect(end.stuck).toBe(false);
    expect(images.length).toBeGreaterThan(3);
    for (const { turn, image } of images) {
      const restored = await restore(image);
      const again = finish(restored);
      expect(again, `saved before turn ${turn} of seed ${seed}`).toEqual(end);
      expect(restored.machine.counters).toEqual(counters);
      expect(same(save(restored), last), `the image at the end, saved before turn ${turn} of seed ${seed}`).toBe(true);
      restored.machine.close();
    }
  });
}

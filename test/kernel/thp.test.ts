/** Cases 30 to 36 of the kernel's suite: huge pages move as one. */
import { expect } from 'vitest';
import { expectAll, expectWords, FAIL_ALLOC, H, hmm, index, ok, PAGE, PROT, suite, zero } from './harness.ts';

suite();

/** Kind of a home entry: the low bits of its high word. */
const KIND = 0xf;
const KIND_DEVICE_PRIVATE = 2;

const filled = (): Uint8Array => new Uint8Array(H * PAGE).fill(0xff);

hmm('migrate_anon_huge_empty', (self) => {
  const window = self.mapWindow('r');
  self.space.madvise(window, 'hugepage');
  const mirror = filled();
  expect(self.fd.cmd('MIGRATE_TO_DEV', window, H, mirror)).toMatchObject(ok(H));
  expectWords(mirror, zero);
});

hmm('migrate_anon_huge_zero', (self) => {
  const window = self.mapWindow('r');
  self.space.madvise(window, 'hugepage');
  expectWords(self.space.read(window.start, 4), zero);
  const mirror = filled();
  expect(self.fd.cmd('MIGRATE_TO_DEV', window, H, mirror)).toMatchObject(ok(H));
  expectWords(mirror, zero);
  window.expectWords(zero);
});

hmm('migrate_anon_huge_free', (self) => {
  const window = self.mapWindow();
  self.space.madvise(window, 'hugepage');
  window.fill(index);
  const mirror = filled();
  expect(self.fd.cmd('MIGRATE_TO_DEV', window, H, mirror)).toMatchObject(ok(H));
  expectWords(mirror, index);
  self.space.madvise(window, 'free');
});

hmm('migrate_anon_huge_fault', (self) => {
  const window = self.mapWindow().fill(index);
  self.space.madvise(window, 'collapse');
  const mirror = filled();
  expect(self.fd.cmd('MIGRATE_TO_DEV', window, H, mirror)).toMatchObject(ok(H));
  expectWords(mirror, index);
  if (!self.variant.coherent) {
    expectAll(self.fd.snapshot(window, H), PROT.DEV_PRIVATE_LOCAL | PROT.WRITE | PROT.PMD);
    // What the process's page map calls swapped and not present.
    const kinds = self.space.snapshot(window).filter((_, i) => i % 2 === 1);
    expect([...new Set(kinds.map((high) => high & KIND))]).toEqual([KIND_DEVICE_PRIVATE]);
  }
  window.expectWords(index);
});

hmm('migrate_anon_huge_err', (self) => {
  // A huge page of the device is refused once: 512 small ones.
  const first = self.mapWindow();
  self.space.madvise(first, 'hugepage');
  first.fill(index);
  self.fd.flags(FAIL_ALLOC);
  const mirror = filled();
  expect(self.fd.cmd('MIGRATE_TO_DEV', first, H, mirror)).toMatchObject(ok(H));
  expectWords(mirror, index);
  const word = (window: { start: number }): number => new Uint32Array(self.space.read(window.start + 2048 * 4, 4).slice().buffer)[0]!;
  expect(word(first)).toBe(2048);
  first.unmap();

  // A huge page of the host is refused once, on the way home.
  const second = self.mapWindow();
  self.space.madvise(second, 'hugepage');
  second.fill(index);
  expect(self.fd.cmd('MIGRATE_TO_DEV', second, H, mirror)).toMatchObject(ok(H));
  self.fd.flags(FAIL_ALLOC);
  expect(self.fd.cmd('MIGRATE_TO_SYS', second, H).ret).toBe(0);
  expect(word(second)).toBe(2048);
  second.expectWords(index);
});

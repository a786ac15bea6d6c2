/** Cases 25 and 26 of the kernel's suite: pages that are the device's alone. */
import { expect } from 'vitest';
import { EPERM, expectWords, hmm, index, N, ok, PAGE, suite, words } from './harness.ts';

suite();

hmm('exclusive', (self) => {
  const buffer = self.map(N).fill(index);
  const mirror = new Uint8Array(N * PAGE);
  expect(self.fd.cmd('EXCLUSIVE', buffer, N, mirror)).toMatchObject(ok(N));
  expectWords(mirror, index);
  // The CPU takes every page back: reads its words, writes them.
  buffer.expectWords(index);
  buffer.fill((i) => i + 1);
  buffer.expectWords((i) => i + 1);
  expect(self.fd.cmd('CHECK_EXCLUSIVE', buffer, N).ret).toBe(0);
  buffer.unmap();
});

hmm('exclusive_mprotect', (self) => {
  const buffer = self.map(N).fill(index);
  const mirror = new Uint8Array(N * PAGE);
  expect(self.fd.cmd('EXCLUSIVE', buffer, N, mirror)).toMatchObject(ok(N));
  expectWords(mirror, index);
  buffer.protect('r');
  expect(self.fd.cmd('WRITE', buffer, N, words(N, index)).ret).toBe(EPERM);
  buffer.unmap();
});

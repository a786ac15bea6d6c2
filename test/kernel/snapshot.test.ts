/** Cases 21 and 23 of the kernel's suite: what the CPU's table says, as a device sees it. */
import { expect } from 'vitest';
import { MiB } from 'farfault';
import { expectAll, H, hmm, index, PROT, suite } from './harness.ts';

suite();

hmm('mixedmap', (self) => {
  // The device file's mmap: a mapping of frame numbers and pages mixed, with a zeroed page inserted.
  const buffer = self.map(1, { special: 'mixed' });
  self.space.insertPage(buffer.start);
  expectAll(self.fd.snapshot(buffer, 1), PROT.READ);
  buffer.unmap();
});

// The same with pages of 1 GiB: giant.node.test.ts.
hmm('compound', (self) => {
  const buffer = self.map(H, { hugetlb: 2 * MiB }).fill(index);
  expectAll(self.fd.snapshot(buffer, H), PROT.WRITE | PROT.PMD);
  buffer.protect('r');
  expectAll(self.fd.snapshot(buffer, H), PROT.READ | PROT.PMD);
  expect(self.space.read(buffer.start, 4)).toEqual(Uint8Array.of(0, 0, 0, 0));
  buffer.unmap();
});

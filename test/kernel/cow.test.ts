/** Case 29 of the kernel's suite: copy on write of pages that are on a device. */
import { expect } from 'vitest';
import { expectAll, hmm, index, ok, PAGE, PROT, suite } from './harness.ts';

suite();

hmm('hmm_cow_in_device', (self) => {
  const buffer = self.map(4).fill(index);
  expect(self.fd.cmd('MIGRATE_TO_DEV', buffer, 4, new Uint8Array(4 * PAGE))).toMatchObject(ok(4));
  const child = self.fork();
  buffer.fill(index);
  // Killed.
  child.exit();
  expectAll(self.fd.snapshot(buffer, 4), PROT.WRITE);
  buffer.expectWords(index);
  buffer.unmap();
});

/** Cases 12 to 18 of the kernel's suite: pages move to device memory and back. */
import { expect } from 'vitest';
import { ENOENT, expectWords, hmm, index, N, ok, PAGE, suite, words } from './harness.ts';

suite();

const ROUNDS = 10;

hmm('migrate', (self) => {
  const buffer = self.map(N).fill(index);
  const mirror = new Uint8Array(N * PAGE);
  expect(self.fd.cmd('MIGRATE_TO_DEV', buffer, N, mirror)).toMatchObject(ok(N));
  expectWords(mirror, index);
  // Freed while they are on the device; the fixture looks for what is left.
  buffer.unmap();
});

hmm('migrate_file_private', (self) => {
  const file = self.machine.createFile({ bytes: N * PAGE });
  // All pages become anonymous copies.
  const buffer = self.map(N, { file }).fill(index);
  const mirror = new Uint8Array(N * PAGE);
  expect(self.fd.cmd('MIGRATE_TO_DEV', buffer, N, mirror)).toMatchObject(ok(N));
  expectWords(mirror, index);
  expect(file.read(0, PAGE).every((byte) => byte === 0)).toBe(true);
  buffer.unmap();
  file.close();
});

hmm('migrate_release', (self) => {
  const buffer = self.map(N).fill(index);
  const mirror = new Uint8Array(N * PAGE);
  expect(self.fd.cmd('MIGRATE_TO_DEV', buffer, N, mirror)).toMatchObject(ok(N));
  expectWords(mirror, index);
  expect(self.fd.cmd('RELEASE', buffer, N).ret).toBe(0);
  buffer.expectWords(index, N / 2);
  buffer.unmap();
});

hmm('migrate_shared', (self) => {
  const buffer = self.map(N, { shared: true });
  const mirror = words(N, index);
  expect(self.fd.cmd('MIGRATE_TO_DEV', buffer, N, mirror).ret).toBe(ENOENT);
  expectWords(mirror, index);
  buffer.unmap();
});

hmm('migrate_multiple', (self) => {
  for (let round = 0; round < ROUNDS; round++) {
    const buffer = self.map(N).fill(index);
    const mirror = new Uint8Array(N * PAGE);
    expect(self.fd.cmd('MIGRATE_TO_DEV', buffer, N, mirror)).toMatchObject(ok(N));
    expectWords(mirror, index);
    // Coherent pages come home by command only, private ones by the CPU's reads.
    if (self.variant.coherent) expect(self.fd.cmd('MIGRATE_TO_SYS', buffer, N)).toMatchObject(ok(N));
    buffer.expectWords(index);
    buffer.unmap();
  }
});

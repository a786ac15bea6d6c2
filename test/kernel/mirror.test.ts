/** Cases 1 to 11, 19 and 20 of the kernel's suite: a device reads and writes the program's memory where it is. */
import { expect, test } from 'vitest';
import { MiB } from 'farfault';
import { COHERENT, EFAULT, EPERM, expectWords, H, hmm, index, minus, N, ok, PAGE, PRIVATE, suite, words, zero } from './harness.ts';

suite();

const ROUNDS = 10;

// Setup and teardown only: the fixture's assertions.
hmm('open_close', () => {});

hmm('anon_read', (self) => {
  const buffer = self.map(N);
  buffer.part(2, N).fill((i) => i + (2 * PAGE) / 4);
  buffer.protect('r');
  // The page of zeros behind page 1; page 0 stays a hole.
  expectWords(self.space.read(buffer.at(1), 4), zero);
  const mirror = new Uint8Array(N * PAGE).fill(0xff);
  expect(self.fd.cmd('READ', buffer, N, mirror)).toEqual(ok(N, 1));
  expectWords(mirror, (i) => (i < (2 * PAGE) / 4 ? 0 : i));
  buffer.unmap();
});

hmm('anon_read_prot', (self) => {
  const buffer = self.map(N).fill(index);
  const mirror = words(N, minus);
  buffer.protect('none');
  expect(self.fd.cmd('READ', buffer, N, mirror).ret).toBe(EFAULT);
  buffer.protect('r');
  buffer.expectWords(index);
  expectWords(mirror, minus);
  buffer.unmap();
});

hmm('anon_write', (self) => {
  const buffer = self.map(N);
  expect(self.fd.cmd('WRITE', buffer, N, words(N, index))).toEqual(ok(N, 1));
  buffer.expectWords(index);
  buffer.unmap();
});

hmm('anon_write_prot', (self) => {
  const buffer = self.map(N, { prot: 'r' });
  const mirror = new Uint8Array(PAGE).fill(0xff);
  expect(self.fd.cmd('READ', buffer, 1, mirror)).toEqual(ok(1, 1));
  expectWords(mirror, zero);
  expect(self.fd.cmd('WRITE', buffer, N, words(N, index)).ret).toBe(EPERM);
  buffer.expectWords(zero);
  buffer.protect('rw');
  expect(self.fd.cmd('WRITE', buffer, N, words(N, index))).toEqual(ok(N, 1));
  buffer.expectWords(index);
  buffer.unmap();
});

hmm('anon_write_child_shared', (self) => {
  const buffer = self.map(N, { shared: true }).fill(index);
  const mirror = words(N, minus);
  const child = self.fork();
  buffer.in(child).expectWords(index);
  const fd = child.open(0);
  expect(fd.cmd('WRITE', buffer, N, mirror)).toEqual(ok(N, 1));
  buffer.in(child).expectWords(minus);
  fd.close();
  child.exit();
  // No copy was made: the parent sees what the child's device wrote.
  buffer.expectWords(minus);
  buffer.unmap();
});

hmm('anon_write_huge', (self) => {
  const window = self.mapWindow();
  self.space.madvise(window, 'hugepage');
  expect(self.fd.cmd('WRITE', window, H, words(H, index))).toEqual(ok(H, 1));
  window.expectWords(index);
});

hmm('anon_write_hugetlbfs', (self) => {
  const buffer = self.map(H, { hugetlb: 2 * MiB });
  expect(self.fd.cmd('WRITE', buffer, H, words(H, index))).toEqual(ok(H, 1));
  buffer.expectWords(index);
  buffer.unmap();
});

hmm('file_read', (self) => {
  const file = self.machine.createFile({ bytes: N * PAGE });
  file.write(0, words(N, index));
  const buffer = self.map(N, { file, shared: true, prot: 'r' });
  const mirror = new Uint8Array(N * PAGE);
  expect(self.fd.cmd('READ', buffer, N, mirror)).toEqual(ok(N, 1));
  expectWords(mirror, index);
  buffer.unmap();
  file.close();
});

hmm('file_write', (self) => {
  const file = self.machine.createFile({ bytes: N * PAGE });
  const buffer = self.map(N, { file, shared: true });
  expect(self.fd.cmd('WRITE', buffer, N, words(N, index))).toEqual(ok(N, 1));
  buffer.expectWords(index);
  expectWords(file.read(0, N * PAGE), index);
  buffer.unmap();
  file.close();
});

hmm('anon_read_multiple', (self) => {
  for (let round = 0; round < ROUNDS; round++) {
    const buffer = self.map(N).fill((i) => i + round);
    const mirror = new Uint8Array(N * PAGE);
    expect(self.fd.cmd('READ', buffer, N, mirror)).toEqual(ok(N, 1));
    expectWords(mirror, (i) => i + round);
    buffer.unmap();
  }
});

test('the two variants are of different kinds', () => {
  expect([PRIVATE.coherent, COHERENT.coherent]).toEqual([false, true]);
});

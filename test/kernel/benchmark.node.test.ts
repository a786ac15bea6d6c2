/**
 * Case 38 of the kernel's suite: migration there and back, huge pages against small ones. Return codes are asserted; times are printed, in milliseconds and GB/s, by
 * `FARFAULT_PRINT=1 npx vitest run --project node test/kernel/benchmark`.
 */
import { expect, test } from 'vitest';
import { createMachineSync, MiB } from 'farfault';
import { addDevices, Buffer, COHERENT, expectClean, PAGE, PRIVATE, Process } from './harness.ts';

const HUGE = 2 * MiB;
const SIZES = [HUGE / 4, HUGE / 2, HUGE, 2 * HUGE, 4 * HUGE, 8 * HUGE, 128 * HUGE];
const ROUNDS = 5;
/** Bytes of a chunk: there are not nodes enough for the largest size in small ones. */
const CHUNK = 16 * MiB;

interface Figures {
  readonly toDevice: number;
  readonly toSystem: number;
}

/** Mean milliseconds of a migration there, and of one back. */
function measure(self: Process, node: number, bytes: number, advice: 'hugepage' | 'nohugepage'): Figures {
  const pages = bytes / PAGE;
  const all = self.map(pages + HUGE / PAGE);
  const start = Math.ceil(all.start / HUGE) * HUGE;
  const buffer = new Buffer(self.space, { start, end: start + bytes });
  self.space.madvise(buffer, advice);
  const mirror = new Uint8Array(bytes);
  for (let i = 0; i < bytes; i++) mirror[i] = i & 0xff;
  self.space.write(buffer.start, mirror);
  mirror.fill(0);
  const fd = self.open(node);
  let [toDevice, toSystem] = [0, 0];
  // The first round warms up.
  for (let round = 0; round <= ROUNDS; round++) {
    const began = performance.now();
    expect(fd.cmd('MIGRATE_TO_DEV', buffer, pages, mirror).ret).toBe(0);
    const there = performance.now();
    expect(fd.cmd('MIGRATE_TO_SYS', buffer, pages).ret).toBe(0);
    const back = performance.now();
    if (round === 0) continue;
    toDevice += there - began;
    toSystem += back - there;
  }
  expect(mirror[bytes - 1]).toBe((bytes - 1) & 0xff);
  all.unmap();
  expect(fd.cmd('RELEASE', buffer, pages).ret).toBe(0);
  fd.close();
  return { toDevice: toDevice / ROUNDS, toSystem: toSystem / ROUNDS };
}

const show = (bytes: number, ms: number): string => `${ms.toFixed(2)} ms ${(bytes / ms / 1e6).toFixed(2)} GB/s`;

for (const { name, nodes } of [PRIVATE, COHERENT]) {
  test(`hmm.benchmark_thp_migration hmm_${name}`, { timeout: 120_000 }, () => {
    const lines: string[] = [];
    for (const bytes of SIZES) {
      const machine = createMachineSync({ dram: bytes + 16 * MiB, deviceMemory: bytes + 5 * CHUNK });
      const self = new Process(machine, addDevices(machine, CHUNK), machine.createAddressSpace());
      const huge = measure(self, nodes[0], bytes, 'hugepage');
      const small = measure(self, nodes[0], bytes, 'nohugepage');
      expectClean(machine);
      machine.close();
      const times = (one: 'toDevice' | 'toSystem'): string =>
        `${show(bytes, huge[one])} huge, ${show(bytes, small[one])} small, ${(small[one] / huge[one]).toFixed(1)}x`;
      lines.push(`${(bytes / MiB).toFixed(1)} MiB  to device ${times('toDevice')};  to system ${times('toSystem')}`);
    }
    if (process.env['FARFAULT_PRINT']) console.log(lines.join('\n'));
  });
}

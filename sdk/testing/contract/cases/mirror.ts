/** Mirroring: the device sees the program's memory as the program does. */
import type { ContractCase } from '../case.ts';

export const MIRRORING: readonly ContractCase[] = [
  {
    name: 'the device reads what the CPU wrote',
    group: 'mirroring',
    rule: 'A translation names the page that the address has now: what the CPU wrote last is what the device reads.',
    async run(bench) {
      const range = bench.mmap(8);
      for (let page = 0; page < 8; page++) await bench.cpuWrite(range, page, 1, page + 1);
      await bench.deviceSees(range, 0, 8);
      await bench.cpuWrite(range, 3, 2, 77);
      await bench.deviceSees(range, 0, 8);
    },
  },
  {
    name: 'the CPU reads what the device wrote',
    group: 'mirroring',
    rule: 'What the device writes through its translations is what the CPU reads.',
    async run(bench) {
      const range = bench.mmap(8);
      await bench.deviceWrite(range, 0, 8, 5);
      await bench.cpuSees(range, 0, 4);
      await bench.deviceWrite(range, 2, 4, 6);
      await bench.cpuSees(range, 0, 8);
    },
  },
  {
    name: 'a page that nobody wrote reads as zeros',
    group: 'mirroring',
    rule: 'A read of memory that was never written finds zeros, and does not make it writable.',
    async run(bench) {
      const range = bench.mmap(4);
      await bench.deviceSees(range, 0, 4);
      await bench.deviceWrite(range, 1, 1, 9);
      await bench.deviceSees(range, 0, 4);
      await bench.cpuSees(range, 0, 4);
    },
  },
];
